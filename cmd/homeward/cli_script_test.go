package main

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/homeward-dr/homeward/api"
	"github.com/homeward-dr/homeward/api/apitest"
	"github.com/homeward-dr/homeward/vault"
)

// nobody knows no tokens: the tests come through the unix socket.
type nobody struct{}

func (nobody) Authenticate(context.Context, string) (vault.Caller, error) {
	return vault.Caller{}, errors.New("there are no tokens here")
}

// serveVault serves v at a unix socket in dir and answers its URL; end waits.
func serveVault(v vault.Vault, dir string) (url string, end func() error, err error) {
	server, err := api.NewServer(api.ServerOptions{Vault: v, Authenticator: nobody{}})
	if err != nil {
		return "", nil, err
	}
	socket := filepath.Join(dir, "vault.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		return "", nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, nil, l) }()
	return "unix://" + socket, func() error { cancel(); return <-served }, nil
}

type memoryKey struct{}

// TestScripts runs testdata/cli as a shell would, against a vault in this process.
func TestScripts(t *testing.T) {
	bin := t.TempDir()
	self, err := filepath.Abs(os.Args[0])
	if err == nil {
		err = os.Symlink(self, filepath.Join(bin, "homeward"))
	}
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/cli",
		Setup: func(e *testscript.Env) error {
			m := apitest.NewMemory()
			url, end, err := serveVault(m, t.TempDir())
			if err != nil {
				return err
			}
			e.Defer(func() {
				if err := end(); err != nil {
					t.Error(err)
				}
				m.Close()
			})
			e.Values[memoryKey{}] = m
			e.Setenv("PATH", bin+string(filepath.ListSeparator)+e.Getenv("PATH"))
			e.Setenv(asCommand, "1")
			e.Setenv("GORACE", "atexit_sleep_ms=0")
			e.Setenv("HOMEWARD_VAULT", url)
			e.Setenv("HOMEWARD_PROFILE", filepath.Join(e.WorkDir, "profile.json"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":    exits,
			"remember": remember,
			"suspend": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Value(memoryKey{}).(*apitest.Memory).Suspend(args[0])
			},
			"alert": func(ts *testscript.TestScript, _ bool, args []string) {
				id := ts.Value(memoryKey{}).(*apitest.Memory).RaiseAlert(vault.Alert{Code: "rpo", Severity: vault.SeverityWarning, Subject: "item web01", Text: args[0], Remedy: "look"})
				ts.Setenv("ALERT", id)
			},
			"restored": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Value(memoryKey{}).(*apitest.Memory).Restored(args...)
			},
		},
	})
}

// exits runs a command that must end with the code: exits 20 homeward …
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		ts.Fatalf("%v", err)
	}
	got := 0
	if exit != nil {
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("ended with %d, want %d", got, want)
	}
}

// remember keeps what a pattern's group matched in the last output: remember NAME 'job (.*):'
func remember(ts *testscript.TestScript, _ bool, args []string) {
	match := regexp.MustCompile(args[1]).FindStringSubmatch(ts.ReadFile("stdout"))
	if match == nil {
		ts.Fatalf("no %s in the output", args[1])
	}
	ts.Setenv(args[0], match[1])
}
