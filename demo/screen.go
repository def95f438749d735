package demo

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"github.com/homeward-dr/homeward/lab"
	"github.com/homeward-dr/homeward/recovery"
)

// screen is what the operator sees: bars on a terminal, plain lines in a pipe.
type screen struct {
	out   io.Writer
	bars  *mpb.Progress // nil: plain lines
	bar   *mpb.Bar
	told  time.Time
	quiet bool
}

func newScreen(out io.Writer, quiet bool) *screen {
	s := &screen{out: out, quiet: quiet}
	if f, ok := out.(*os.File); ok && !quiet && term.IsTerminal(int(f.Fd())) {
		s.bars = mpb.New(mpb.WithOutput(out), mpb.WithWidth(40), mpb.WithRefreshRate(100*time.Millisecond))
	}
	return s
}

// say prints a line of the story.
func (s *screen) say(format string, args ...any) {
	if s.quiet {
		return
	}
	line := fmt.Sprintf(format, args...)
	if s.bars != nil {
		_, _ = fmt.Fprintln(s.bars, line) // a screen that cannot be written stops nothing
		return
	}
	_, _ = fmt.Fprintln(s.out, line)
}

// step shows a step of the recovery: its progress, rate and time left while it
// runs, and how long it took.
func (s *screen) step(st recovery.Step) {
	if s.quiet {
		return
	}
	switch {
	case !st.Ended.IsZero():
		if s.bar != nil {
			s.bar.Abort(true)
			s.bar.Wait()
			s.bar = nil
		}
		state := "done"
		if st.Err != nil {
			state = "FAILED: " + st.Err.Error()
		}
		s.say("    %-36s %-6s %6.2f s", st.Name, state, st.Ended.Sub(st.Began).Seconds())
	case st.Progress.Total > 0 && s.bars != nil:
		s.showBar(st)
	case st.Progress.Total > 0 && time.Since(s.told) > time.Second:
		s.told = time.Now()
		s.say("    %-36s %3.0f %%  %s of %s, %s/s, %.0f s left", st.Name, 100*float64(st.Progress.Done)/float64(st.Progress.Total),
			lab.Size(st.Progress.Done), lab.Size(st.Progress.Total), lab.Size(int64(st.Progress.Rate)), st.Progress.Left)
	}
}

func (s *screen) showBar(st recovery.Step) {
	if s.bar == nil {
		s.bar = s.bars.AddBar(st.Progress.Total, mpb.BarRemoveOnComplete(),
			mpb.PrependDecorators(decor.Name("    "+st.Name+" ")),
			mpb.AppendDecorators(decor.CountersKibiByte("% .1f of % .1f "), decor.Any(func(decor.Statistics) string {
				return fmt.Sprintf("%s/s, %.0f s left", lab.Size(int64(st.Progress.Rate)), st.Progress.Left)
			})))
	}
	s.bar.SetTotal(st.Progress.Total, false)
	s.bar.SetCurrent(st.Progress.Done)
}

func (s *screen) close() {
	if s.bars != nil {
		if s.bar != nil {
			s.bar.Abort(true)
		}
		s.bars.Wait()
	}
}
