package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/homeward-dr/homeward"
)

// terminals says which streams a person sits at.
type terminals struct{ in, out bool }

func terminalsOf(s streams) terminals {
	is := func(v any) bool {
		f, file := v.(*os.File)
		return file && f != nil && term.IsTerminal(int(f.Fd()))
	}
	return terminals{in: is(s.in), out: is(s.out)}
}

// width is how many characters a line of the terminal has; 0: not known.
func (c *command) width() int {
	f, file := c.out.(*os.File)
	if !file {
		return 0
	}
	w, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return w
}

// note says something beside the result.
func (c *command) note(format string, args ...any) {
	fmt.Fprintf(c.err, format, args...) //nolint:errcheck // there is nowhere else to say it
}

// line writes a line of the result, unless it is JSON.
func (c *command) line(format string, args ...any) error {
	if c.json {
		return nil
	}
	_, err := fmt.Fprintf(c.out, format+"\n", args...)
	return err
}

// confirm asks a person at a terminal before something is destroyed or moved.
// Scripts are not asked: who writes one knows what it does.
func (r *remote) confirm(what string, losses []string) error {
	if r.yes || !r.tty.in {
		return nil
	}
	for _, l := range losses {
		r.note("  - %s\n", l)
	}
	r.note("%s Type yes to go on: ", what)
	answer, err := readLine(r.in)
	if err != nil {
		return err
	}
	if !strings.EqualFold(answer, "yes") {
		return homeward.Errorf("confirm", homeward.Canceled, "answer", "answer yes, or give --yes", "nothing was done")
	}
	return nil
}

// readLine reads to the end of a line and no further.
func readLine(r io.Reader) (string, error) {
	var b strings.Builder
	one := make([]byte, 1)
	for b.Len() < 4096 {
		n, err := r.Read(one)
		if n == 1 && one[0] == '\n' || errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", homeward.Errorf("read answer", homeward.IO, "standard input", "", "%w", err)
		}
		b.Write(one[:n])
	}
	return strings.TrimSpace(b.String()), nil
}
