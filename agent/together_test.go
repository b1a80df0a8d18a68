package agent

import (
	"fmt"
	"strings"
	"testing"
	"unsafe"
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

// Each piece fills one of package runtime's sizes, above 512 bytes with a header of
// 8 bytes that it puts before: a word more in Publication would cost every token the
// next size.
func TestTogetherFillsItsSize(t *testing.T) {
	if unsafe.Sizeof(uintptr(0)) != 8 {
		t.Skip("the sizes are those of 64 bits")
	}
	for want, size := range map[uintptr]uintptr{
		512:  unsafe.Sizeof(together[[320]byte]{}),
		768:  unsafe.Sizeof(together[[568]byte]{}) + 8,
		1024: unsafe.Sizeof(together[[824]byte]{}) + 8,
		1280: unsafe.Sizeof(together[[1080]byte]{}) + 8,
		1536: unsafe.Sizeof(together[[1336]byte]{}) + 8,
		1792: unsafe.Sizeof(together[[1592]byte]{}) + 8,
		2048: unsafe.Sizeof(together[[1848]byte]{}) + 8,
		2688: unsafe.Sizeof(together[[2488]byte]{}) + 8,
		3456: unsafe.Sizeof(together[[3256]byte]{}) + 8,
	} {
		if size != want {
			t.Errorf("%d bytes where %d are given", size, want)
		}
	}
}
