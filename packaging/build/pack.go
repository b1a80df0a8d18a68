package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Who answers for the packages, until renewd has a public home: RFC 2606 keeps
// these names from being anybody's.
const (
	maintainer = "The renewd developers <renewd@renewd.invalid>"
	homepage   = "https://renewd.invalid/"
)

// pack makes one package.
func (b *builder) pack(format, arch string) (string, error) {
	text, err := os.ReadFile(filepath.Join(b.root, "packaging/nfpm.yaml"))
	if err != nil {
		return "", err
	}
	// Filled in here and not by nfpm: it knows ${…} in some of its fields only.
	text = []byte(b.filler(format, arch).Replace(string(text)))
	if err := b.write("nfpm.yaml", text); err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(b.stage, "out-")
	if err != nil {
		return "", err
	}
	args := []string{"go", "run", nfpm}
	if b.nfpm != "" {
		args = []string{b.nfpm}
	}
	args = append(args, "package", "--config", filepath.Join(b.stage, "nfpm.yaml"), "--packager", format, "--target", dir+"/")
	if _, err := outputEnv(b.ctx, b.root, []string{"SOURCE_DATE_EPOCH=" + strconv.FormatInt(b.when.Unix(), 10), "GOFLAGS="}, args...); err != nil {
		return "", err
	}
	found, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("nfpm made %v for %s %s", found, format, arch)
	}
	data, err := os.ReadFile(found[0])
	if err != nil {
		return "", err
	}
	to := filepath.Join(b.out, filepath.Base(found[0]))
	return to, os.WriteFile(to, data, 0o644)
}

// filler fills in the description of the packages.
func (b *builder) filler(format, arch string) *strings.Replacer {
	doc := ""
	if format == "rpm" { // it alone knows such kinds of files
		doc = "doc"
	}
	var examples []string
	found, _ := filepath.Glob(filepath.Join(b.stage, "packaging/examples/*")) // one by one: a kind is a single file's
	for _, path := range found {
		examples = append(examples, fmt.Sprintf("- {src: %q, dst: %q, type: %q}", path, "/usr/share/doc/renewd/examples/"+filepath.Base(path), doc))
	}
	return strings.NewReplacer("${MAINTAINER}", maintainer, "${HOMEPAGE}", homepage, "${ARCH}", arch, "${VERSION}", b.version, "${STAGE}", b.stage,
		"${MTIME}", b.when.Format(time.RFC3339), "${DOC}", doc, "${EXAMPLES}", strings.Join(examples, "\n  "))
}
