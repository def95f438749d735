// Package recovery measures what is lost and how long it takes on the worst day: how
// old the newest recovery point is while a machine writes, and how long it takes until
// a machine runs at another site, or until a point of the past can be read.
//
// Every role is a process of its own; the machine is the built-in guest, which checks
// what it finds on its disks and says so.
package recovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/bench/measure"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/test/stage"
)

// Chapter is all of it.
func Chapter() measure.Chapter {
	return measure.Chapter{Name: "recovery", Quick: true, What: "RPO under load, RTO, time to read a point",
		Needs:   []measure.Requirement{{Program: "fio", Package: "fio"}},
		Measure: chapter}
}

const ours = "Homeward"

func chapter(ctx context.Context, b *measure.Bench) (measure.Figure, error) {
	f := measure.Figure{Title: "Recovery: what is lost, and how long it takes", What: what}
	age, err := ages(ctx, b)
	f.Series = age
	if err == nil {
		var times []measure.Series
		times, err = recoveries(ctx, b)
		f.Series = append(f.Series, times...)
	}
	present(&f)
	return f, err
}

const what = `Roles are processes of their own on one machine; both sites' disks are on the same
file system. *RPO* is the age of the newest applied point, asked for every 10 ms while fio
writes 4 KiB at random places through the agent's NBD export at the rate named, in blocks
that do not compress: what would be lost if the site burned at that instant. After each
run the disks of both sites are compared by digest (` + "`Prove`" + `). *RTO* runs from the call
that fails over, after all processes of the site were killed, to the call's answer (*own
work*: the view is served and the machine is being booted) and to the first record that
the guest wrote after it had checked its disks (*machine runs*). *History* is made of one cut
each 50 ms, none thinned; "1 h" is 3,600 points, as many as an hour has at one a second.`

// theatre is a protected machine at two sites.
type theatre struct{ *stage.Stage }

// raise builds both sites and protects the machine.
func raise(ctx context.Context, b *measure.Bench, o stage.Options, p homeward.Policy) (*theatre, error) {
	var err error
	if o.Dir, err = os.MkdirTemp(b.Dir, "r-"); err != nil {
		return nil, err
	}
	o.Executable, o.Guest = b.Binary, "builtin"
	st, err := stage.Build(ctx, o)
	if err != nil {
		return nil, err
	}
	t := &theatre{Stage: st}
	if err = st.Install(ctx); err == nil {
		st.Item = recovery.New(st.Machine(), p, st.Home.Side, st.Away.Side, slog.New(slog.DiscardHandler))
		err = st.Item.Protect(ctx)
	}
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, st.Logs())
		return nil, errors.Join(err, t.strike())
	}
	return t, nil
}

// strike ends everything and removes what was made.
func (t *theatre) strike() error {
	t.Close()
	return os.RemoveAll(t.Dir)
}

func (t *theatre) item() homeward.ItemRequest { return homeward.ItemRequest{Item: t.Item.ID()} }

// vacate powers the machine off, so that a measuring client may have its disk.
func (t *theatre) vacate(ctx context.Context, p *stage.Place) error {
	key := fmt.Sprintf("bench-%s-%d", p.Name, t.Item.Generation.Number)
	if _, err := p.Site.PowerOff(ctx, key, t.Item.Refs[p.Name], homeward.Stop{Graceful: true, Timeout: 10 * time.Second}); err != nil {
		return err
	}
	for {
		rep, err := p.Side.Agent.Report(ctx, t.item())
		if err != nil || rep.Clients == 0 {
			return err
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
}

// pause is the pace of asking.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// running waits until the machine at a place has checked its disks and written a
// record, and tells the newest one that it found. Its console is read from an
// offset on.
func (t *theatre) running(ctx context.Context, p *stage.Place, from int64) (last uint64, err error) {
	c, err := t.Hear(ctx, p, from)
	if err != nil {
		return 0, err
	}
	defer c.Stop()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	found, err := c.Running(ctx)
	if err == nil && found.Bad > 0 {
		err = fmt.Errorf("the guest found its disks damaged: %d bad records below record %d", found.Bad, found.Last)
	}
	return found.Last, err
}

// proved compares both sites' disks.
func (t *theatre) proved(ctx context.Context) error {
	proof, err := t.Item.Prove(ctx)
	if err == nil && !proof.Equal {
		err = fmt.Errorf("the disks of the two sites differ")
	}
	return err
}

func label(name, format string, args ...any) measure.Label {
	return measure.Label{Name: name, Value: fmt.Sprintf(format, args...)}
}

// uri is where the machine's first disk is exported at a place.
func (t *theatre) uri(ctx context.Context, p *stage.Place) (string, error) {
	rep, err := p.Side.Agent.Report(ctx, t.item())
	if err != nil {
		return "", err
	}
	return rep.Disks[0].URI, nil
}
