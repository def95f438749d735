package system

import (
	"bufio"
	"encoding/json"
	"errors"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/homeward-dr/homeward/site/local/records"
)

// outcome is how a command ended.
type outcome struct {
	out, err string
	code     int
}

// homewardCLI runs the command line to its end.
func homewardCLI(t *testing.T, args ...string) outcome {
	t.Helper()
	var out, errs strings.Builder
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return outcome{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// answer runs a command that must succeed and reads the JSON it prints.
func answer[T any](t *testing.T, args ...string) (v T) {
	t.Helper()
	o := homewardCLI(t, append(args, "--json")...)
	if o.code != 0 {
		t.Fatalf("homeward %s: exit code %d\n%s", strings.Join(args, " "), o.code, o.err)
	}
	if err := json.Unmarshal([]byte(o.out), &v); err != nil {
		t.Fatalf("homeward %s: %v\n%s", strings.Join(args, " "), err, o.out)
	}
	return v
}

// serving starts a command that serves until the test's end, and reads the JSON it
// prints first. stop ends it in order.
func serving[T any](t *testing.T, args ...string) (v T, stop func()) {
	t.Helper()
	cmd := exec.Command(binary, append(args, "--json", "--with-parent")...)
	var errs strings.Builder
	cmd.Stderr = &errs
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
	ended := false
	stop = func() {
		if ended {
			return
		}
		ended = true
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("homeward %s: %v\n%s", strings.Join(args, " "), err, errs.String())
		}
	}
	t.Cleanup(stop)
	if err := json.NewDecoder(out).Decode(&v); err != nil {
		stop()
		t.Fatalf("homeward %s: %v\n%s", strings.Join(args, " "), err, errs.String())
	}
	return v, stop
}

// tells demands that an error's text names what is wrong and what to do.
func tells(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("the error does not say %q:\n%s", w, text)
		}
	}
}

// announces runs the built-in guest until it has announced n records, and ends it.
func (r *rig) announces(n int, args ...string) {
	r.t.Helper()
	cmd := exec.CommandContext(r.ctx, binary, append([]string{"workload"}, args...)...)
	out, err := cmd.StdoutPipe()
	r.must(err)
	r.must(cmd.Start())
	lines := bufio.NewScanner(out)
	for n > 0 && lines.Scan() {
		if _, ok := records.ParseAck(lines.Text()); ok {
			n--
		}
	}
	r.must(cmd.Process.Signal(syscall.SIGTERM))
	for lines.Scan() { // until it has said that it stopped
		continue
	}
	if err := cmd.Wait(); err != nil || n > 0 {
		r.t.Errorf("the machine ended with %d records to go: %v", n, err)
	}
}
