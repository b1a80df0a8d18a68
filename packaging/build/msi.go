package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// msi makes the Windows package with wixl, and with msibuild what wixl does not
// know. It is for amd64 alone: wixl knows no arm64.
func (b *builder) msi() (string, error) {
	for _, name := range []string{"renewd.exe", "copyright"} {
		if err := os.Chtimes(filepath.Join(b.stage, name), b.when, b.when); err != nil {
			return "", err
		}
	}
	text, err := os.ReadFile(filepath.Join(b.root, "packaging/windows/renewd.wxs"))
	if err != nil {
		return "", err
	}
	version, err := msiVersion(b.version)
	if err != nil {
		return "", err
	}
	product := guid([]byte("renewd " + b.version)) // each version is a product that replaces the others
	text = []byte(strings.NewReplacer("${VERSION}", b.version, "${MSIVERSION}", version, "${PRODUCT}", product).Replace(string(text)))
	if err := b.write("renewd.wxs", text); err != nil {
		return "", err
	}
	made := filepath.Join(b.stage, "renewd.msi")
	// In the stage: wixl does not find sources by absolute paths.
	if _, err := output(b.ctx, b.stage, "wixl", "-a", "x64", "-o", made, "renewd.wxs"); err != nil {
		return "", fmt.Errorf("%w (Debian's packages wixl and msitools have what is needed)", err)
	}
	if _, err := output(b.ctx, b.stage, append([]string{"msibuild", made, "-q"}, msiQueries()...)...); err != nil {
		return "", err
	}
	data, err := os.ReadFile(made)
	if err == nil {
		err = settle(data, b.when)
	}
	if err == nil {
		err = os.WriteFile(made, data, 0o644)
	}
	if err != nil {
		return "", fmt.Errorf("make the package reproducible: %w", err)
	}
	to := filepath.Join(b.out, fmt.Sprintf("renewd_%s_windows_amd64.msi", b.version))
	if err := b.sign(made); err != nil {
		return "", err
	}
	if data, err = os.ReadFile(made); err != nil {
		return "", err
	}
	return to, os.WriteFile(to, data, 0o644)
}

// msiQueries are the tables that wixl has no words for, which Windows it takes and
// the program in everybody's PATH, and what it gets wrong: an action for the
// rollback is msidbCustomActionTypeInScript and Rollback, 0x500.
func msiQueries() []string {
	return []string{
		"UPDATE `CustomAction` SET `Type` = 3410 WHERE `Action` = 'UnmakeService'",
		"INSERT INTO `LaunchCondition` (`Condition`, `Description`) VALUES ('Installed OR VersionNT64 >= 603', 'renewd needs a 64-bit Windows 10 or Windows Server 2016, or a later one.')",
		"CREATE TABLE `Environment` (`Environment` CHAR(72) NOT NULL, `Name` CHAR(255) NOT NULL LOCALIZABLE, `Value` CHAR(255) LOCALIZABLE, `Component_` CHAR(72) NOT NULL PRIMARY KEY `Environment`)",
		"INSERT INTO `Environment` (`Environment`, `Name`, `Value`, `Component_`) VALUES ('Path', '=-*PATH', '[~];[INSTALLFOLDER]', 'Program')",
		"INSERT INTO `InstallExecuteSequence` (`Action`, `Sequence`) VALUES ('RemoveEnvironmentStrings', 3300)",
		"INSERT INTO `InstallExecuteSequence` (`Action`, `Sequence`) VALUES ('WriteEnvironmentStrings', 5200)",
	}
}

// msiVersion is what Windows compares: three numbers. Before the first release it
// is the number of commits, 0.0.0-dev.57; a version before another release is that
// release to Windows.
func msiVersion(version string) (string, error) {
	core, pre, _ := strings.Cut(version, "-")
	core, _, _ = strings.Cut(core, "+")
	parts := strings.Split(core, ".")
	if len(parts) != 3 {
		return "", fmt.Errorf("%q is no version of three numbers", version)
	}
	if n, ok := strings.CutPrefix(pre, "dev."); ok && core == "0.0.0" {
		parts[2] = n
	}
	for i, most := range []uint64{255, 255, 65535} {
		if n, err := strconv.ParseUint(parts[i], 10, 32); err != nil || n > most {
			return "", fmt.Errorf("%q: %q is no number up to %d, as Windows wants it", version, parts[i], most)
		}
	}
	return strings.Join(parts, "."), nil
}

// guid is a name for some content (RFC 9562, version 8).
func guid(content []byte) string {
	h := sha256.Sum256(content)
	h[6], h[8] = h[6]&0x0f|0x80, h[8]&0x3f|0x80
	return strings.ToUpper(fmt.Sprintf("%x-%x-%x-%x-%x", h[0:4], h[4:6], h[6:8], h[8:10], h[10:16]))
}

// settle puts the time and a package code made from the content in place of
// wixl's clock and its random number. Both stand in the summary information, a
// property set ([MS-OLEPS] section 2.21) in one piece of the file.
func settle(msi []byte, when time.Time) error {
	format := []byte{0xe0, 0x85, 0x9f, 0xf2, 0xf9, 0x4f, 0x68, 0x10, 0xab, 0x91, 0x08, 0x00, 0x2b, 0x27, 0xb3, 0xd9}
	const header = 28 // before the format's id: byte order, version, class, number of sets
	at := bytes.Index(msi, format)
	if at < header || bytes.Count(msi, format) != 1 || !bytes.HasPrefix(msi[at-header:], []byte{0xfe, 0xff}) {
		return errors.New("it has no summary information where wixl puts it")
	}
	u32 := func(i int) int {
		if i < 0 || i+4 > len(msi) {
			return -1
		}
		return int(binary.LittleEndian.Uint32(msi[i:]))
	}
	set := at - header + u32(at+len(format))
	var code []byte
	for i := range max(0, min(u32(set+4), 64)) {
		id, value := u32(set+8+8*i), set+u32(set+12+8*i)
		const text, filetime = 30, 64
		switch {
		case id == 9 && u32(value) == text && u32(value+4) >= 38 && value+46 <= len(msi):
			code = msi[value+8 : value+46] // {GUID}
		case (id == 12 || id == 13) && u32(value) == filetime && value+12 <= len(msi):
			binary.LittleEndian.PutUint64(msi[value+4:], uint64(when.Unix()+11_644_473_600)*10_000_000)
		}
	}
	if code == nil || code[0] != '{' || code[37] != '}' {
		return errors.New("it has no package code where wixl puts it")
	}
	clear(code)
	copy(code, "{"+guid(msi)+"}")
	return nil
}

// sign signs a program or package in place, where there is a certificate.
func (b *builder) sign(path string) error {
	if b.cert == "" {
		return nil
	}
	_, err := output(b.ctx, "", "osslsigncode", "sign", "-certs", b.cert, "-key", b.key, "-h", "sha256", "-n", "renewd",
		"-time", strconv.FormatInt(b.when.Unix(), 10), "-in", path, "-out", path+".signed")
	if err != nil {
		return err
	}
	return os.Rename(path+".signed", path)
}
