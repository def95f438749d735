package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/homeward-dr/homeward"
)

// Operator works as a person would: every step is a command of the CLI, shown as it
// would be typed.
type Operator struct {
	Executable string
	Env        []string  // where the vault is, and the token
	Out        io.Writer // shown commands and what they print; nil: nobody
}

// Do runs a command and shows what it prints: on a terminal as it is, with its bars
// and colours, else indented below the command.
func (o *Operator) Do(ctx context.Context, args ...string) error {
	if o.Out == nil {
		return o.run(ctx, io.Discard, args...)
	}
	if _, err := fmt.Fprintf(o.Out, "\n  $ homeward %s\n", quoted(args)); err != nil {
		return homeward.Errorf("show command", homeward.IO, "standard output", "see where it goes", "%w", err)
	}
	if f, ok := o.Out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return o.run(ctx, f, args...)
	}
	return o.run(ctx, &indented{out: o.Out}, args...)
}

// Ask runs a command with --json and reads its answer, telling neither.
func (o *Operator) Ask(ctx context.Context, v any, args ...string) error {
	var out bytes.Buffer
	if err := o.run(ctx, &out, append(args, "--json")...); err != nil {
		return err
	}
	if err := json.Unmarshal(out.Bytes(), v); err != nil {
		return homeward.Errorf("read answer", homeward.Internal, "homeward "+quoted(args), "report this", "%w: %.200s", err, out.Bytes())
	}
	return nil
}

func (o *Operator) run(ctx context.Context, out io.Writer, args ...string) error {
	cmd := exec.CommandContext(ctx, o.Executable, args...)
	cmd.Env = append(os.Environ(), o.Env...)
	cmd.Stdout = out
	var said bytes.Buffer
	cmd.Stderr = &said
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	kind := homeward.Internal
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		for k, outcome := range homeward.Table {
			if outcome.Exit == exit.ExitCode() && k != homeward.Internal {
				kind = k
			}
		}
	}
	return homeward.Errorf("run command", kind, "homeward "+quoted(args), "see what it says", "%w: %s", err, strings.TrimSpace(said.String()))
}

// Until asks again and again until done says so.
func (o *Operator) Until(ctx context.Context, done func() (bool, error)) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return homeward.Errorf("wait", homeward.Timeout, "vault", "read the logs", "%w", ctx.Err())
		}
	}
}

// quoted is how the arguments are typed in a shell.
func quoted(args []string) string {
	words := make([]string, len(args))
	for i, a := range args {
		words[i] = a
		if a == "" || strings.ContainsAny(a, " '\"$&|;<>*?") {
			words[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}

// indented tells lines as they come.
type indented struct {
	out  io.Writer
	rest []byte
}

func (w *indented) Write(p []byte) (int, error) {
	w.rest = append(w.rest, p...)
	for {
		line, rest, found := bytes.Cut(w.rest, []byte("\n"))
		if !found {
			return len(p), nil
		}
		if _, err := fmt.Fprintf(w.out, "    %s\n", line); err != nil {
			return 0, err
		}
		w.rest = rest
	}
}
