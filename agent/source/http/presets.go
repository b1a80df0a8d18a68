package http

import (
	"embed"
	"io/fs"
	"strings"
)

//go:embed presets/*.yaml
var presets embed.FS

// Presets names the embedded presets.
func Presets() []string {
	entries, _ := fs.ReadDir(presets, "presets")
	var out []string
	for _, e := range entries {
		out = append(out, strings.TrimSuffix(e.Name(), ".yaml"))
	}
	return out
}

// Preset gives the YAML of an embedded preset.
func Preset(name string) (data []byte, ok bool) {
	data, err := presets.ReadFile("presets/" + name + ".yaml")
	return data, err == nil
}
