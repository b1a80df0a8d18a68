package e2e

import (
	"bytes"
	"errors"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"
	"golang.org/x/sys/unix"

	"renewd/agent/source/standin"
)

// sidecar is what the example uses of Kubernetes' API (core/v1); a key that is not
// here is misspelt, or wants to be looked up.
type sidecar struct {
	APIVersion string            `yaml:"apiVersion"`
	Kind       string            `yaml:"kind"`
	Metadata   map[string]string `yaml:"metadata"`
	Data       map[string]string `yaml:"data"`
	Spec       struct {
		SecurityContext security    `yaml:"securityContext"`
		InitContainers  []container `yaml:"initContainers"`
		Containers      []container `yaml:"containers"`
		Volumes         []struct {
			Name     string `yaml:"name"`
			EmptyDir *struct {
				Medium    string `yaml:"medium"`
				SizeLimit string `yaml:"sizeLimit"`
			} `yaml:"emptyDir"`
			ConfigMap *struct{ Name string } `yaml:"configMap"`
			Secret    *struct {
				SecretName  string `yaml:"secretName"`
				DefaultMode int    `yaml:"defaultMode"`
			} `yaml:"secret"`
		} `yaml:"volumes"`
	} `yaml:"spec"`
}

type security struct {
	RunAsUser                *int                   `yaml:"runAsUser"`
	RunAsGroup               *int                   `yaml:"runAsGroup"`
	FSGroup                  *int                   `yaml:"fsGroup"`
	RunAsNonRoot             *bool                  `yaml:"runAsNonRoot"`
	AllowPrivilegeEscalation *bool                  `yaml:"allowPrivilegeEscalation"`
	ReadOnlyRootFilesystem   *bool                  `yaml:"readOnlyRootFilesystem"`
	SeccompProfile           *struct{ Type string } `yaml:"seccompProfile"`
	Capabilities             struct {
		Drop []string `yaml:"drop"`
	} `yaml:"capabilities"`
}

type container struct {
	Name            string   `yaml:"name"`
	Image           string   `yaml:"image"`
	Command         []string `yaml:"command"`
	RestartPolicy   string   `yaml:"restartPolicy"`
	StartupProbe    *probe   `yaml:"startupProbe"`
	ReadinessProbe  *probe   `yaml:"readinessProbe"`
	SecurityContext security `yaml:"securityContext"`
	VolumeMounts    []struct {
		Name      string `yaml:"name"`
		MountPath string `yaml:"mountPath"`
		SubPath   string `yaml:"subPath"`
		ReadOnly  bool   `yaml:"readOnly"`
	} `yaml:"volumeMounts"`
}

type probe struct {
	Exec struct {
		Command []string `yaml:"command"`
	} `yaml:"exec"`
	PeriodSeconds    int `yaml:"periodSeconds"`
	FailureThreshold int `yaml:"failureThreshold"`
}

// readSidecar decodes the example as strictly as `kubectl apply` does.
func readSidecar(t *testing.T) (config string, pod sidecar) {
	t.Helper()
	d := yaml.NewDecoder(strings.NewReader(read(t, "../container/sidecar.yaml")))
	d.KnownFields(true)
	for {
		var o sidecar
		err := d.Decode(&o)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || o.APIVersion != "v1" || o.Metadata["name"] == "" {
			t.Fatalf("%s %s: %v", o.Kind, o.Metadata["name"], err)
		}
		switch o.Kind {
		case "ConfigMap":
			config = o.Data["renewd.yaml"]
		case "Pod":
			pod = o
		}
	}
	return config, pod
}

// The example keeps the token in memory, shares the directory and never one file of
// it, and nothing in it has a privilege.
func TestSidecarKeepsItsPromises(t *testing.T) {
	config, pod := readSidecar(t)
	if config == "" || len(pod.Spec.Containers) != 1 || len(pod.Spec.InitContainers) != 2 {
		t.Fatalf("it holds %d bytes of config and containers %v %v", len(config), pod.Spec.InitContainers, pod.Spec.Containers)
	}
	volumes := map[string]bool{}
	for _, v := range pod.Spec.Volumes {
		volumes[v.Name] = true
		if v.Name == "run" && (v.EmptyDir == nil || v.EmptyDir.Medium != "Memory") {
			t.Error("the token is not in memory")
		}
	}
	if s := pod.Spec.SecurityContext; s.RunAsNonRoot == nil || !*s.RunAsNonRoot || s.SeccompProfile == nil || s.SeccompProfile.Type != "RuntimeDefault" {
		t.Error("the pod is not restricted")
	}
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		s := c.SecurityContext
		if s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation || s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem || !slices.Equal(s.Capabilities.Drop, []string{"ALL"}) {
			t.Errorf("%s is not restricted", c.Name)
		}
		for _, m := range c.VolumeMounts {
			if !volumes[m.Name] {
				t.Errorf("%s mounts %s, which is no volume", c.Name, m.Name)
			}
			if m.Name == "run" && (m.SubPath != "" || m.MountPath != "/run/renewd") {
				t.Errorf("%s does not mount the directory of tokens", c.Name)
			}
		}
	}
}

// The image is built by its instructions, and runs as the pod of the example has
// it: with the volumes that Kubernetes makes, as its account, without a privilege.
func TestE2EContainer(t *testing.T) {
	wanted(t)
	top, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		t.Fatal(err)
	}
	m := buildImage(t, strings.TrimSpace(string(top)), "../container/Containerfile")
	var files []string
	_ = filepath.WalkDir(m.root, func(path string, d os.DirEntry, _ error) error {
		if !d.IsDir() {
			files = append(files, strings.TrimPrefix(path, m.root))
		}
		return nil
	})
	if want := []string{"/etc/group", "/etc/passwd", "/etc/ssl/certs/ca-certificates.crt", "/usr/bin/renewd"}; !slices.Equal(files, want) || m.uid == 0 {
		t.Errorf("the image holds %v for uid %d, want %v", files, m.uid, want)
	}

	config, pod := readSidecar(t)
	vendor := standin.NewCommander(standin.CommanderOptions{Username: "svc-inventory", Password: password, Access: 10 * time.Second})
	srv := httptest.NewServer(vendor)
	t.Cleanup(srv.Close)
	config = strings.Replace(config, "https://commander.example.com", srv.URL, 1)
	m.volumes(config)
	if uid := *pod.Spec.SecurityContext.RunAsUser; uid != int(m.uid) {
		t.Errorf("the pod runs as %d, the image as %d", uid, m.uid)
	}

	// What would be without the first of the pod's containers.
	out, _ := m.process("/usr/bin/renewd", "check").CombinedOutput()
	if !strings.Contains(string(out), "others may write to it") {
		t.Errorf("an emptyDir as it comes is not refused:\n%s", out)
	}
	sticky := pod.Spec.InitContainers[0].Command
	sticky = append([]string{"setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"}, append(sticky[:len(sticky)-1], m.root+sticky[len(sticky)-1])...)
	m.tool(sticky...)
	if out, err := m.process("/usr/bin/renewd", "check").CombinedOutput(); err != nil {
		t.Fatalf("check: %v\n%s", err, out)
	}

	var log bytes.Buffer
	agent := m.process()
	agent.Stderr = &log
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- agent.Wait() }()
	probe := pod.Spec.InitContainers[1].StartupProbe.Exec.Command
	b := &box{t: t}
	b.eventually("the startup probe", 30*time.Second, func() bool { return m.process(probe...).Run() == nil })
	header := filepath.Join(m.root, "run/renewd/tokens/commander.header")
	token, found := strings.CutPrefix(read(t, header), "Authorization: Bearer ")
	if fi, err := os.Stat(header); err != nil || !found || !vendor.Valid(strings.TrimSpace(token)) || fi.Mode().Perm() != 0o600 || fi.Sys().(*syscall.Stat_t).Uid != m.uid {
		t.Errorf("the token's file: %v %v, a valid token: %v", fi, err, vendor.Valid(strings.TrimSpace(token)))
	}
	if out, err := m.process("/usr/bin/renewd", "status").CombinedOutput(); err != nil || !strings.Contains(string(out), "process: confined by Landlock") {
		t.Errorf("status: %v\n%s", err, out)
	}
	_ = agent.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("the stop: %v\n%s", err, log.String())
		}
	case <-time.After(20 * time.Second):
		_ = agent.Process.Kill()
		t.Error("it did not stop")
	}
	if strings.Contains(log.String(), password) || strings.Contains(log.String(), strings.TrimSpace(token)) {
		t.Error("a secret is in the log")
	}
}

// volumes makes what kubelet does of the pod's: empty directories for everyone, one
// file of a ConfigMap, a secret behind links.
func (m *image) volumes(config string) {
	m.t.Helper()
	for path, data := range map[string]string{"run/renewd": "mode=777,size=1m", "var/lib/renewd": "mode=777", "proc": ""} {
		kind, at := "tmpfs", filepath.Join(m.root, path)
		if path == "proc" {
			kind = path
		}
		m.must(errors.Join(os.MkdirAll(at, 0o755), unix.Mount(kind, at, kind, 0, data)))
		m.t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
	}
	secrets := filepath.Join(m.root, "etc/renewd/secrets")
	m.must(errors.Join(os.WriteFile(filepath.Join(m.root, "etc/renewd/renewd.yaml"), []byte(config), 0o644),
		os.MkdirAll(filepath.Join(secrets, "..2026"), 0o755), os.Chmod(secrets, 0o777|os.ModeSetgid), os.Symlink("..2026", filepath.Join(secrets, "..data")),
		os.WriteFile(filepath.Join(secrets, "..2026/commander.password"), []byte(password), 0o440),
		os.Chown(filepath.Join(secrets, "..2026/commander.password"), 0, int(m.gid)),
		os.Symlink("..data/commander.password", filepath.Join(secrets, "commander.password"))))
}
