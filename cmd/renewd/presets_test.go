package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"renewd/agent/source/http"
)

// What `renewd presets NAME --example` prints is a config that check accepts, and
// says how to fill it in.
func TestPresetExamplesAreAccepted(t *testing.T) {
	for _, name := range http.Presets() {
		t.Run(name, func(t *testing.T) {
			var out, errs bytes.Buffer
			if code := run([]string{"presets", name, "--example"}, strings.NewReader(""), &out, &errs); code != exitOK {
				t.Fatalf("exit code %d: %s", code, &errs)
			}
			p, _ := embedded(name)
			wanted := needed(p.Spec.Inputs)
			secrets := map[string]string{}
			for in, d := range p.Spec.Inputs {
				if d.IsSecret() {
					secrets[name+"."+in] = "x"
				}
				if slices.Contains(wanted, in) && !strings.Contains(out.String(), "      "+in+": ") {
					t.Errorf("%s is required and not in the example", in)
				}
				if strings.ContainsAny(d.Help, "\n\r") {
					t.Errorf("the help of %s has a line end", in)
				}
				if d.Help == "" && !slices.Contains([]string{"realm", "client_id"}, in) {
					t.Errorf("%s has no help", in)
				}
			}
			got, errText, code := checkFile(t, out.Bytes(), secrets)
			if code != exitOK || strings.Contains(errText, "warning") {
				t.Errorf("exit code %d\n%s\n%s%s", code, &out, got, errText)
			}
		})
	}
}

// Every preset begins with what it rests on, and how sure that is.
func TestPresetsSayWhatTheyRestOn(t *testing.T) {
	for _, name := range http.Presets() {
		data, _ := http.Preset(name)
		head, _, _ := strings.Cut(string(data), "language: 1")
		for _, want := range []string{"# How sure:", "# Sources:"} {
			if !strings.Contains(head, want) {
				t.Errorf("%s does not begin with %q", name, want)
			}
		}
		if older := []string{"commander", "cylance", "emnify"}; !slices.Contains(older, name) && !strings.Contains(head, "# Create first:") {
			t.Errorf("%s does not say what to create at the vendor", name)
		}
		for line := range strings.Lines(head) {
			if n := len([]rune(strings.TrimSpace(line))); n > 125 {
				t.Errorf("%s has a line of %d characters", name, n)
			}
		}
	}
}
