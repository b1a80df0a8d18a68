package http

import (
	"embed"
	"io/fs"
	"slices"
	"strings"
	"sync"
)

//go:embed presets/*.yaml
var presets embed.FS

// presetNames reads the names once: a config asks for them with every token.
var presetNames = sync.OnceValue(func() (out []string) {
	entries, _ := fs.ReadDir(presets, "presets")
	for _, e := range entries {
		out = append(out, strings.TrimSuffix(e.Name(), ".yaml"))
	}
	return out
})

// Presets names the embedded presets, in order.
func Presets() []string { return slices.Clone(presetNames()) }

// Preset gives the YAML of an embedded preset.
func Preset(name string) (data []byte, ok bool) {
	data, err := presets.ReadFile("presets/" + name + ".yaml")
	return data, err == nil
}
