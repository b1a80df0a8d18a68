package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"renewd/agent/config"
	"renewd/agent/source/http"
	"renewd/agent/source/spec"
)

func newPresets() *cobra.Command {
	var example bool
	c := &cobra.Command{
		Use:       "presets [NAME]",
		Short:     "List the vendors it knows; with NAME its inputs and its YAML",
		Args:      cobra.MaximumNArgs(1),
		ValidArgs: http.Presets(),
		RunE: func(c *cobra.Command, args []string) error {
			w := c.OutOrStdout()
			if len(args) == 0 {
				return listPresets(w)
			}
			if slices.Contains(config.Types(), args[0]) {
				return fail(exitUsage, "its keys: man renewd.yaml, or renewd check --schema", "%s is no preset but a type of its own, for any server", args[0])
			}
			if !slices.Contains(http.Presets(), args[0]) {
				return fail(exitUsage, cmp.Or(spec.Meant(args[0], http.Presets()), "renewd presets lists them"), "there is no preset %q", args[0])
			}
			if example {
				return printExample(w, args[0])
			}
			return printPreset(w, args[0])
		},
	}
	c.Flags().BoolVar(&example, "example", false, "print a tokens: block to paste")
	return c
}

func listPresets(w io.Writer) error {
	for _, name := range http.Presets() {
		p, _ := embedded(name)
		required := needed(p.Spec.Inputs)
		for _, group := range p.Spec.OneOf {
			required = append(required, "("+strings.Join(group, "+")+")")
		}
		if _, err := fmt.Fprintf(w, "%-22s %s\n", name, strings.Join(required, ", ")); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(w, "\nrenewd presets NAME shows inputs and YAML; --example a block to paste.")
	return err
}

// needed are the inputs that must be given: the required ones, and what their
// defaults are made of.
func needed(inputs map[string]http.Input) (out []string) {
	var defaults string
	for _, d := range inputs {
		if text, ok := d.Default.V.(string); ok && d.Required {
			defaults += text
		}
	}
	for _, in := range sortedKeys(inputs) {
		if d := inputs[in]; d.Default.IsZero() && (d.Required || strings.Contains(defaults, "${"+in+"}")) {
			out = append(out, in)
		}
	}
	return out
}

func printPreset(w io.Writer, name string) error {
	p, _ := embedded(name)
	fmt.Fprintf(w, "# inputs of %s, beside `type: %s`\n", name, name)
	for _, in := range sortedKeys(p.Spec.Inputs) {
		d := p.Spec.Inputs[in]
		fmt.Fprintf(w, "#   %-18s %s\n", in, describe(d))
	}
	for _, group := range p.Spec.OneOf {
		fmt.Fprintf(w, "#   one of: %s\n", strings.Join(group, " with "))
	}
	fmt.Fprintf(w, "# beside them: %s\n\n", "lifetime, session, present, tls, proxy, rejected, limits")
	data, _ := http.Preset(name) // the caller has looked
	_, err := w.Write(data)
	return err
}

func describe(d http.Input) string {
	var words []string
	if d.IsSecret() {
		words = append(words, "secret")
	} else if len(d.Type) > 0 {
		words = append(words, strings.Join(d.Type, " or "))
	}
	switch {
	case d.Required && d.Default.IsZero():
		words = append(words, "required")
	case !d.Default.IsZero():
		words = append(words, fmt.Sprintf("default %v", d.Default.V))
	}
	if len(d.Choices) > 0 {
		words = append(words, "one of "+strings.Join(sortedKeys(d.Choices), ", "))
	}
	if d.Help != "" {
		words = append(words, d.Help)
	}
	return strings.Join(words, "; ")
}

// printExample prints a token to paste. Of alternatives the first is written
// out.
func printExample(w io.Writer, name string) error {
	p, _ := embedded(name)
	fmt.Fprintf(w, "tokens:\n  %s:\n    source:\n      type: %s\n", name, name)
	wanted := map[string]bool{}
	for _, in := range needed(p.Spec.Inputs) {
		wanted[in] = true
	}
	if len(p.Spec.OneOf) > 0 {
		for _, in := range p.Spec.OneOf[0] {
			wanted[in] = true
		}
	}
	for _, in := range sortedKeys(p.Spec.Inputs) {
		d := p.Spec.Inputs[in]
		if !wanted[in] {
			continue
		}
		value := "…"
		switch {
		case d.IsSecret():
			value = "{file: " + name + "." + in + "}"
		case slices.Contains(d.Type, "url"):
			value = "https://" + name + ".example.com"
		case len(d.Choices) > 0:
			value = sortedKeys(d.Choices)[0]
		case len(d.Type) > 0 && d.Type[0] == "list":
			value = "[…]"
		}
		line := fmt.Sprintf("      %s: %s", in, value)
		if d.Help != "" {
			line += "   # " + d.Help // has no line end: a test sees to it
		}
		fmt.Fprintln(w, line)
	}
	_, err := fmt.Fprintf(w, "    sinks:\n      - {type: file}   # <runtime>/tokens/%s\n", name)
	return err
}
