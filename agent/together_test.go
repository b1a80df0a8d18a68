package agent

import (
	"fmt"
	"strings"
	"testing"
)

// Of whatever length they are, token and name are what they were, and the token is
// not shown by how the publication prints.
func TestTogether(t *testing.T) {
	for _, name := range []string{"a", strings.Repeat("n", 64)} {
		for length := 0; length < 4000; length++ {
			value := strings.Repeat("tok-", length/4+1)[:length]
			p := newPublication(name, NewSecret(value))
			if p.Token.Reveal() != value || p.Token.IsZero() != (value == "") || p.Name != name {
				t.Fatalf("of %d bytes: a token of %d and the name %q", length, len(p.Token.Reveal()), p.Name)
			}
			if text, plain := p.Text(); text != value || plain != (value != "") {
				t.Fatalf("of %d bytes: a text of %d, plain %v", length, len(text), plain)
			}
		}
	}
	p := newPublication("name", NewSecret("tok-tok-tok"))
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if out := fmt.Sprintf(verb, p); strings.Contains(out, "tok-") {
			t.Errorf("%s prints %s", verb, out)
		}
	}
}
