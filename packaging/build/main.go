// Command build makes all packages of renewd, from packaging/nfpm.yaml and, for
// Windows, packaging/windows/renewd.wxs:
//
//	go run ./packaging/build
//
// The same commit gives the same bytes, wherever and whenever it is built: times
// are the commit's, paths are trimmed, nothing is asked of the machine.
package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// nfpm is run by its version: as a requirement it would bring a hundred modules.
const nfpm = "github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.0"

type options struct {
	version string
	out     string
	formats []string
	archs   []string
	nfpm    string // program; "": go run
	root    string // of the source; "": of this module
	cert    string // signs what is for Windows; "": nothing is signed
	key     string // of cert
	when    time.Time
}

func main() {
	var o options
	formats := flag.String("formats", "deb,rpm,apk,archlinux,msi", "formats, separated by commas")
	archs := flag.String("archs", "amd64,arm64", "architectures, separated by commas")
	flag.StringVar(&o.version, "version", "", "version (default: the tag of this commit, else 0.0.0-dev.N of N commits)")
	flag.StringVar(&o.out, "out", "dist", "directory for the packages")
	flag.StringVar(&o.nfpm, "nfpm", "", "nfpm's program (default: go run "+nfpm+")")
	flag.StringVar(&o.cert, "cert", "", "certificate (PEM) that signs what is for Windows")
	flag.StringVar(&o.key, "key", "", "its key (PEM)")
	flag.Parse()
	o.formats, o.archs = strings.Split(*formats, ","), strings.Split(*archs, ",")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	made, err := build(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
	for _, path := range made {
		sum, err := sha256Of(path)
		if err != nil {
			fmt.Fprintln(os.Stderr, "build:", err)
			os.Exit(1)
		}
		fmt.Printf("%s  %s\n", sum, path)
	}
}

// build makes every package and returns their paths.
func build(ctx context.Context, o options) ([]string, error) {
	var err error
	if o.root == "" {
		if o.root, err = output(ctx, "", "go", "list", "-m", "-f", "{{.Dir}}"); err != nil {
			return nil, err
		}
	}
	if o.when.IsZero() {
		if o.when, err = commitTime(ctx, o.root); err != nil {
			return nil, err
		}
	}
	if o.version == "" {
		o.version = versionOf(ctx, o.root)
	}
	if o.out, err = filepath.Abs(o.out); err != nil {
		return nil, err
	}
	stage, err := os.MkdirTemp("", "renewd-build-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(stage)
	b := &builder{options: o, ctx: ctx, stage: stage}
	if err := errors.Join(os.MkdirAll(o.out, 0o755), b.common()); err != nil {
		return nil, err
	}
	var made []string
	for _, arch := range o.archs {
		for _, goos := range []string{"linux", "windows"} {
			paths, err := b.system(goos, arch)
			if err != nil {
				return nil, err
			}
			made = append(made, paths...)
		}
	}
	slices.Sort(made)
	return made, nil
}

// system makes the packages of one system and architecture that were asked for,
// and beside each the bill of what is in it.
func (b *builder) system(goos, arch string) ([]string, error) {
	formats := slices.DeleteFunc(slices.Clone(b.formats), func(f string) bool {
		return (f == "msi") != (goos == "windows") || goos == "windows" && arch != "amd64"
	})
	if len(formats) == 0 {
		return nil, nil
	}
	program := filepath.Join(b.stage, "renewd")
	if goos == "windows" {
		program += ".exe"
	}
	if err := errors.Join(b.copyright(goos), b.compileFor(goos, arch, program)); err != nil {
		return nil, err
	}
	bom, err := b.bill(program)
	if err != nil {
		return nil, err
	}
	var made []string
	if goos == "windows" {
		if err := b.sign(program); err != nil {
			return nil, err
		}
	}
	for _, format := range formats {
		var path string
		if format == "msi" {
			path, err = b.msi()
		} else {
			path, err = b.pack(format, arch)
		}
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(path+".cdx.json", bom, 0o644); err != nil {
			return nil, err
		}
		made = append(made, path, path+".cdx.json")
	}
	return made, nil
}

// commitTime is SOURCE_DATE_EPOCH, else that of the last commit.
func commitTime(ctx context.Context, root string) (time.Time, error) {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		var err error
		if text, err = output(ctx, root, "git", "log", "-1", "--format=%ct"); err != nil {
			return time.Time{}, fmt.Errorf("set SOURCE_DATE_EPOCH, or build in a checkout: %w", err)
		}
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return time.Unix(n, 0).UTC(), err
}

func versionOf(ctx context.Context, root string) string {
	if tag, err := output(ctx, root, "git", "describe", "--tags", "--exact-match", "--match", "v[0-9]*"); err == nil {
		return strings.TrimPrefix(tag, "v")
	}
	n, err := output(ctx, root, "git", "rev-list", "--count", "HEAD")
	if err != nil {
		n = "0"
	}
	return "0.0.0-dev." + n
}

type builder struct {
	options
	ctx   context.Context
	stage string
}

// common makes what is the same for every architecture.
func (b *builder) common() error {
	if err := b.source(); err != nil {
		return err
	}
	here := filepath.Join(b.stage, "here")
	if err := b.compileFor("", "", here); err != nil {
		return err
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		text, err := output(b.ctx, b.root, here, "completion", shell)
		if err != nil {
			return err
		}
		if err := b.write("completion."+shell, []byte(text+"\n")); err != nil {
			return err
		}
	}
	for _, page := range []string{"renewd.1", "renewd.yaml.5"} {
		text, err := os.ReadFile(filepath.Join(b.root, "packaging/man", page))
		if err != nil {
			return err
		}
		if err := b.write(page+".gz", zipped(text)); err != nil {
			return err
		}
	}
	return b.write("changelog.yaml", fmt.Appendf(nil, "- semver: %s\n  date: %s\n  packager: %s\n  deb: {urgency: medium, distributions: [stable]}\n  changes:\n    - note: see CHANGELOG.md of the source for what is new\n",
		b.version, b.when.Format(time.RFC3339), maintainer))
}

// source copies what is packaged as it is: nfpm takes modes, and the times of some
// files, from the disk.
func (b *builder) source() error {
	to := filepath.Join(b.stage, "packaging")
	if err := os.CopyFS(to, os.DirFS(filepath.Join(b.root, "packaging"))); err != nil {
		return err
	}
	return filepath.WalkDir(to, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o644)
		if d.IsDir() {
			mode = 0o755
		}
		return errors.Join(os.Chmod(path, mode), os.Chtimes(path, b.when, b.when))
	})
}

// copyright is our licence and that of every module that the program holds.
func (b *builder) copyright(goos string) error {
	own, err := os.ReadFile(filepath.Join(b.root, "LICENSE"))
	if err != nil {
		return err
	}
	var text bytes.Buffer
	fmt.Fprintf(&text, "renewd\n\n%s", own)
	list, err := outputEnv(b.ctx, b.root, []string{"GOOS=" + goos, "GOARCH=amd64", "CGO_ENABLED=0"},
		"go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}} {{.Dir}}{{end}}{{end}}", "./cmd/renewd")
	if err != nil {
		return err
	}
	lines := strings.Split(list, "\n")
	slices.Sort(lines)
	for _, line := range slices.Compact(lines) {
		f := strings.Fields(line)
		if len(f) != 3 {
			continue
		}
		found, _ := filepath.Glob(filepath.Join(f[2], "L[Ii][Cc][Ee][Nn][Ss][Ee]*"))
		more, _ := filepath.Glob(filepath.Join(f[2], "COPYING*"))
		notice, _ := filepath.Glob(filepath.Join(f[2], "NOTICE*"))
		found = append(append(found, more...), notice...)
		if len(found) == 0 {
			return fmt.Errorf("%s has no licence file", f[0])
		}
		for _, path := range found {
			t, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&text, "\n----------------------------------------\n%s %s: %s\n\n%s", f[0], f[1], filepath.Base(path), t)
		}
	}
	return b.write("copyright", text.Bytes())
}

func (b *builder) write(name string, data []byte) error {
	path := filepath.Join(b.stage, name)
	if err := os.WriteFile(path, data, 0o644); err != nil {
		return err
	}
	return os.Chmod(path, 0o644) // whatever the umask
}

// compileFor builds the program; no os: for this machine.
func (b *builder) compileFor(goos, arch, to string) error {
	env := []string{"CGO_ENABLED=0", "GOFLAGS=-trimpath -buildvcs=false"}
	if goos != "" {
		env = append(env, "GOOS="+goos, "GOARCH="+arch, "GOAMD64=v1", "GOARM64=v8.0")
	}
	_, err := outputEnv(b.ctx, b.root, env, "go", "build", "-ldflags=-s -w -buildid= -X main.version="+b.version, "-o", to, "./cmd/renewd")
	return err
}

// bill is the software bill of materials of a program, as CycloneDX.
func (b *builder) bill(program string) ([]byte, error) {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return nil, err
	}
	type component struct {
		Type    string `json:"type"`
		Name    string `json:"name"`
		Version string `json:"version"`
		PURL    string `json:"purl"`
	}
	std := strings.TrimPrefix(info.GoVersion, "go")
	all := []component{{"library", "std", std, "pkg:golang/std@" + std}}
	for _, m := range info.Deps {
		all = append(all, component{"library", m.Path, m.Version, "pkg:golang/" + m.Path + "@" + m.Version})
	}
	text, err := json.MarshalIndent(map[string]any{"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "components": all,
		"metadata": map[string]any{"timestamp": b.when.Format(time.RFC3339), "component": component{"application", "renewd", b.version, "pkg:golang/renewd@" + b.version}}}, "", "  ")
	return append(text, '\n'), err
}

// zipped is gzip without a name or a time.
func zipped(data []byte) []byte {
	var out bytes.Buffer
	w, _ := gzip.NewWriterLevel(&out, gzip.BestCompression)
	_, _ = w.Write(data)
	_ = w.Close()
	return out.Bytes()
}

func sha256Of(path string) (string, error) {
	data, err := os.ReadFile(path)
	return fmt.Sprintf("%x", sha256.Sum256(data)), err
}

func output(ctx context.Context, dir string, args ...string) (string, error) {
	return outputEnv(ctx, dir, nil, args...)
}

// outputEnv runs a program and gives what it printed.
func outputEnv(ctx context.Context, dir string, env []string, args ...string) (string, error) {
	c := exec.CommandContext(ctx, args[0], args[1:]...)
	c.Dir = dir
	c.Env = append(os.Environ(), env...)
	var out, said bytes.Buffer
	c.Stdout, c.Stderr = &out, &said
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s%s", strings.Join(args[:min(3, len(args))], " "), err, said.String(), out.String())
	}
	return strings.TrimSpace(out.String()), nil
}
