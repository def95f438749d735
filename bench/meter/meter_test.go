package meter

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

const shell = `
head -c 40000000 "$1" >/dev/null
x=$(head -c 30000000 /dev/zero | tr '\0' a)
i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done
`

func file(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "data")
	if err := os.WriteFile(path, make([]byte, 40_000_000), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A program's children that ended are in its account.
func TestMeter_Program(t *testing.T) {
	m, err := New()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("bash", "-c", shell, "sh", file(t))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	m.Started(cmd)
	if err := m.Wait(cmd); err != nil {
		t.Fatal(err)
	}
	u, err := m.End()
	if err != nil {
		t.Fatal(err)
	}
	check(t, u)
}

func check(t *testing.T, u Used) {
	t.Helper()
	if u.CPU < 0.02 || u.CPU > 30 {
		t.Errorf("%v s of processor time", u.CPU)
	}
	if u.Read < 70_000_000 || u.Read > 200_000_000 {
		t.Errorf("%d bytes read", u.Read)
	}
	if u.Peak < 20_000_000 || u.Peak > 400_000_000 {
		t.Errorf("%d bytes of memory", u.Peak)
	}
}

// Of a process that runs already only what it does from then on counts.
func TestMeter_Watched(t *testing.T) {
	cmd := exec.Command("bash", "-c", `work() {`+shell+`}
y=$(head -c 60000000 /dev/zero | tr '\0' b); y=
echo ready; read go; work "$1"; unset x; echo done; read end`, "sh", file(t))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 64)
	await := func() {
		if _, err := out.Read(line); err != nil {
			t.Fatal(err)
		}
	}
	await()
	m, err := New(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(in, "go\n")
	await()
	u, err := m.End()
	if err != nil {
		t.Fatal(err)
	}
	check(t, u)
	_, _ = io.WriteString(in, "end\n")
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if _, err := New(cmd.Process.Pid); err == nil {
		t.Error("a process that is gone is metered")
	}
}

// A daemon is told to end, which is no failure; one that runs is no answer yet.
func TestMeter_Stop(t *testing.T) {
	m, err := New()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	m.Started(cmd)
	if err := m.Stop(cmd); err != nil {
		t.Error(err)
	}
	if _, err := m.End(); err != nil {
		t.Error(err)
	}

	m, err = New()
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.Command("false")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	m.Started(cmd)
	if err := m.Wait(cmd); err == nil {
		t.Error("a program that failed is none that did")
	}
	if _, err := m.End(); err != nil {
		t.Error(err)
	}
}
