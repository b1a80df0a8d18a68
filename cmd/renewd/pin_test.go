package main

import (
	"regexp"
	"strings"
	"testing"

	"renewd/agent/source/standin"
)

// An appliance with a certificate of its own: check --login prints its pin, and
// with that pasted the login works.
func TestE2EPinOfAnUnknownCertificate(t *testing.T) {
	r, _, _ := commanderRig(t, standin.CommanderOptions{})
	config := readFile(t, r.path("renewd.yaml"))
	r.write("renewd.yaml", strings.Replace(config, "      tls: {ca_file: ca.pem}\n", "", 1))
	out, errs, code := r.cli("check", "--login", "--config", r.path("renewd.yaml"))
	if code != exitFailed {
		t.Fatalf("exit code %d: %s%s", code, out, errs)
	}
	pin := regexp.MustCompile(`[A-Za-z0-9+/]{43}=`).FindString(out)
	if pin == "" {
		t.Fatalf("no pin in:\n%s", out)
	}
	r.write("renewd.yaml", strings.Replace(config, "tls: {ca_file: ca.pem}", `tls: {pin_sha256: ["`+pin+`"]}`, 1))
	out, errs, code = r.cli("check", "--login", "--config", r.path("renewd.yaml"))
	if code != exitOK || !strings.Contains(out, "login worked") {
		t.Fatalf("exit code %d: %s%s", code, out, errs)
	}
	r.write("renewd.yaml", strings.Replace(config, "tls: {ca_file: ca.pem}", `tls: {pin_sha256: ["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="]}`, 1))
	if out, errs, code := r.cli("check", "--login", "--config", r.path("renewd.yaml")); code != exitFailed {
		t.Fatalf("another key was accepted: %d %s%s", code, out, errs)
	}
}

// What the config says of a host holds for its logins too, from one to the next.
func TestE2ECheckLoginKeepsToTheWindow(t *testing.T) {
	r, _, _ := commanderRig(t, standin.CommanderOptions{})
	config := readFile(t, r.path("renewd.yaml"))
	host := regexp.MustCompile(`https://([^/\s"]+)`).FindStringSubmatch(config)[1]
	r.write("renewd.yaml", `hosts: {"`+host+`": {requests: 2/1h}}`+"\n"+config)
	for range 2 {
		if out, errs, code := r.cli("check", "--login", "--config", r.path("renewd.yaml")); code != exitOK || !strings.Contains(out, "login worked") {
			t.Fatalf("exit code %d: %s%s", code, out, errs)
		}
	}
	out, errs, code := r.cli("check", "--login", "--config", r.path("renewd.yaml"))
	if code != exitFailed || !strings.Contains(out, "the limit of requests to "+host+" is reached") {
		t.Fatalf("exit code %d: %s%s", code, out, errs)
	}
}
