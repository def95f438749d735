package peer

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/homeward-dr/homeward/bench/measure"
)

func TestFind(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "homeward-test-peer")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	want := measure.Requirement{Program: "homeward-test-peer", Package: "no-such-package"}
	if p := Find(t.Context(), want, false); p.Path != "" || !strings.HasPrefix(p.String(), "missing: ") || !strings.Contains(p.String(), "no-such-package") {
		t.Errorf("a program that is not there: %+v", p)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	p := Find(t.Context(), want, false)
	if p.Path != program || p.Missing != "" || p.Version != "" || !strings.Contains(p.String(), program) {
		t.Errorf("a program of no package: %+v", p)
	}
	if p := Find(t.Context(), measure.Requirement{Program: "sh", Package: "dash"}, false); p.Path == "" {
		t.Errorf("the shell: %+v", p)
	}
}

// What cannot be installed is missing, and says what the package manager said.
func TestFind_NotInstallable(t *testing.T) {
	dir := t.TempDir()
	script := "#!/bin/sh\necho some\necho E: no such thing\nexit 100\n"
	if err := os.WriteFile(filepath.Join(dir, "apt-get"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	p := Find(context.Background(), measure.Requirement{Program: "homeward-test-absent", Package: "absent"}, true)
	if p.Path != "" || !(strings.Contains(p.Missing, "no such thing") || strings.Contains(p.Missing, "needs root")) {
		t.Errorf("%+v", p)
	}
}
