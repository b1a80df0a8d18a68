package config

import (
	"encoding"
	"maps"
	"reflect"
	"slices"
	"strings"

	"renewd/agent/secret"
	"renewd/agent/source/exec"
	"renewd/agent/source/file"
	"renewd/agent/source/http"
	"renewd/agent/source/jwt"
	"renewd/agent/source/oauth2"
)

// Schema is the JSON Schema (2020-12) of renewd.yaml, made from the types that
// the config is decoded into. presets are the inputs of each preset.
func Schema(presets map[string]map[string]http.Input) map[string]any {
	g := &generator{defs: map[string]any{}, presets: presets}
	root := g.object(reflect.TypeFor[Config]())
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "renewd.yaml"
	root["$defs"] = g.defs
	return root
}

type generator struct {
	defs    map[string]any
	presets map[string]map[string]http.Input
}

func (g *generator) schema(t reflect.Type) map[string]any {
	if t.Kind() == reflect.Pointer {
		return g.schema(t.Elem())
	}
	if t == reflect.TypeFor[Source]() {
		return g.source()
	}
	if s, ok := reflect.Zero(t).Interface().(interface{ JSONSchema() map[string]any }); ok {
		return s.JSONSchema()
	}
	if t == reflect.TypeFor[secret.Path]() {
		return map[string]any{"type": "string", "minLength": 1}
	}
	if t.Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) || reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		return map[string]any{"type": []any{"string", "number"}}
	}
	switch t.Kind() {
	case reflect.Struct:
		return g.ref(t)
	case reflect.Map:
		return map[string]any{"type": []any{"object", "null"}, "additionalProperties": g.schema(t.Elem())}
	case reflect.Slice:
		return map[string]any{"type": "array", "items": g.schema(t.Elem())}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int, reflect.Int64:
		return map[string]any{"type": "integer"}
	case reflect.Float64:
		return map[string]any{"type": "number"}
	case reflect.String:
		return map[string]any{"type": []any{"string", "number"}}
	}
	return map[string]any{}
}

// ref puts a struct's schema among the definitions, once.
func (g *generator) ref(t reflect.Type) map[string]any {
	name := t.PkgPath()[len("renewd/"):] + "." + t.Name()
	if _, ok := g.defs[name]; !ok {
		g.defs[name] = nil // recursion ends here
		g.defs[name] = g.object(t)
	}
	return map[string]any{"$ref": "#/$defs/" + escape(name)}
}

// escape is that of a JSON Pointer in a URI fragment (RFC 6901 §3 and §6).
func escape(s string) string {
	var b []byte
	for i := range len(s) {
		switch s[i] {
		case '~':
			b = append(b, "~0"...)
		case '/':
			b = append(b, "~1"...)
		default:
			b = append(b, s[i])
		}
	}
	return string(b)
}

func (g *generator) object(t reflect.Type) map[string]any {
	own := fields(t)
	props := map[string]any{}
	for key, f := range own.byKey {
		s := g.schema(t.FieldByIndex(f.index).Type)
		if f.one {
			s = map[string]any{"anyOf": []any{s, s["items"]}}
		}
		props[key] = s
	}
	out := map[string]any{"type": "object", "properties": props, "additionalProperties": false}
	if own.rest != nil {
		out["additionalProperties"] = g.schema(t.FieldByIndex(own.rest).Type.Elem())
	}
	if own.otherwise != nil {
		return map[string]any{"anyOf": []any{out, g.schema(t.FieldByIndex(own.otherwise).Type)}}
	}
	return out
}

// source is one schema a type: what may stand beside it differs.
func (g *generator) source() map[string]any {
	const name = "source"
	if _, ok := g.defs[name]; !ok {
		g.defs[name] = nil
		var all []any
		for typ, t := range map[string]reflect.Type{"http": reflect.TypeFor[http.Spec](), "exec": reflect.TypeFor[exec.Spec](),
			"file": reflect.TypeFor[file.Spec](), "jwt": reflect.TypeFor[jwt.Spec](), "oauth2": reflect.TypeFor[oauth2.Spec]()} {
			all = append(all, typed(g.object(t), typ))
		}
		for preset, inputs := range g.presets {
			o := g.object(reflect.TypeFor[http.Use]())
			props := o["properties"].(map[string]any)
			required := []any{"type"}
			for _, in := range slices.Sorted(maps.Keys(inputs)) {
				decl := inputs[in]
				s := map[string]any{"description": decl.Help}
				if decl.IsSecret() {
					s = secret.Ref{}.JSONSchema()
					s["description"] = decl.Help
				}
				props[in] = s
				if decl.Required && decl.Default.IsZero() {
					required = append(required, in)
				}
			}
			o["additionalProperties"] = false
			o = typed(o, preset)
			o["required"] = required
			all = append(all, o)
		}
		sortSchemas(all)
		g.defs[name] = map[string]any{"type": "object", "required": []any{"type"}, "oneOf": all}
	}
	return map[string]any{"$ref": "#/$defs/" + name}
}

func typed(o map[string]any, typ string) map[string]any {
	o["properties"].(map[string]any)["type"] = map[string]any{"const": typ}
	o["required"] = []any{"type"}
	return o
}

// sortSchemas orders alternatives by their type, so that the output is the same
// each time.
func sortSchemas(all []any) {
	name := func(s any) string {
		return s.(map[string]any)["properties"].(map[string]any)["type"].(map[string]any)["const"].(string)
	}
	slices.SortFunc(all, func(a, b any) int { return strings.Compare(name(a), name(b)) })
}
