package demo

import (
	"context"
	"io"
	"log/slog"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/lab"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/site/local/records"
	"github.com/homeward-dr/homeward/test/stage"
)

// story is one round trip on a stage.
type story struct {
	*stage.Stage
	o      Options
	screen *screen
	report *Report
	guest  *lab.Console // of the machine where it runs now
	lost   time.Time    // when the home site was lost
	before uint64       // newest record announced before that
}

// Run plays the round trip and tells it on out; with quiet set only the report is
// of interest. The report is filled in as far as it came, also with an error.
// Whatever happens, nothing is left running or lying about, unless Options.Keep
// says so: then Run returns when ctx ends.
func Run(ctx context.Context, o Options, out io.Writer, quiet bool) (report Report, err error) {
	if err := o.complete(); err != nil {
		return report, err
	}
	began := time.Now()
	report = Report{Guest: o.Guest.Kind, DiskBytes: o.DiskSize, LinkMbit: o.LinkMbit, LinkDelay: o.LinkDelay.Seconds(), Point: o.Point}
	scr := newScreen(out, quiet)
	defer scr.close()
	scr.say("Two sites, home and away: six processes, mutual TLS between them, a %s guest.", o.Guest.Kind)
	st, err := stage.Build(ctx, o.stage())
	if err != nil {
		return report, err
	}
	defer st.Close()
	s := &story{Stage: st, o: o, screen: scr, report: &report}
	defer func() {
		if s.guest != nil {
			s.guest.Stop()
		}
	}()
	err = s.play(ctx)
	report.Seconds = time.Since(began).Seconds()
	report.Succeeded = err == nil
	if ctx.Err() != nil {
		err = homeward.Errorf("demo", homeward.Canceled, "", s.leftovers(), "interrupted")
	}
	if err != nil {
		report.Error = err.Error()
		if homeward.KindOf(err) != homeward.Canceled {
			scr.say("\nThe logs of all roles:\n%s", s.Logs())
		}
		return report, err
	}
	s.sum()
	if o.Keep {
		s.howToLook(ctx)
		<-ctx.Done()
	}
	return report, nil
}

// chapter runs one step of the round trip and enters it in the report.
func (s *story) chapter(ctx context.Context, title string, limit time.Duration, do func(context.Context) error) (*Entry, error) {
	s.screen.say("\n%s", title)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	began := time.Now()
	err := do(ctx)
	return s.report.entry(title, began), err
}

func (s *story) play(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		s.protect, s.work, s.loseHome, s.failOver, s.workAway, s.commit, s.homeReturns,
		s.reprotect, s.failBack, s.workHome, s.commit, s.protectAgain,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (s *story) protect(ctx context.Context) error {
	if err := s.Install(ctx); err != nil {
		return err
	}
	policy := homeward.Policy{MinInterval: 500 * time.Millisecond}
	s.Item = recovery.New(s.Machine(), policy, s.Home.Side, s.Away.Side, slog.New(slog.DiscardHandler))
	s.Item.Watch = s.screen.step
	_, err := s.chapter(ctx, "Protect: home -> away", 5*time.Minute, s.Item.Protect)
	if err != nil {
		return err
	}
	_, err = s.hear(ctx, s.Home, 0)
	return err
}

// hear follows the machine's console where it runs now, from an offset on, and
// returns what the guest found when it started.
func (s *story) hear(ctx context.Context, p *stage.Place, from int64) (records.Found, error) {
	if s.guest != nil {
		s.guest.Stop()
	}
	var err error
	if s.guest, err = s.Hear(ctx, p, from); err != nil {
		return records.Found{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	return s.guest.Running(ctx)
}

// writeFor lets the guest write until it made n more records durable.
func (s *story) writeFor(ctx context.Context, n uint64) error {
	return s.guest.Until(ctx, s.guest.Last()+n)
}

func (s *story) work(ctx context.Context) error {
	_, err := s.chapter(ctx, "The machine works at home", 15*time.Minute, func(ctx context.Context) error {
		age, err := s.o.age()
		if err != nil {
			return err
		}
		if age > 0 { // there must be a point that old
			wait := time.NewTimer(age + 2*time.Second)
			defer wait.Stop()
			select {
			case <-wait.C:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return s.writeFor(ctx, 400)
	})
	return err
}

func (s *story) loseHome(ctx context.Context) error {
	_, err := s.chapter(ctx, "Home is lost: machine, agent, process server, master target killed at once", time.Minute, func(ctx context.Context) error {
		err := s.Lose(ctx, s.Home)
		s.lost = time.Now()
		return err
	})
	// What the dead guest still had on its way to the console has arrived by the time
	// its process is gone; nothing is announced after that.
	s.before = s.guest.Last()
	return err
}

func (s *story) failOver(ctx context.Context) error {
	points, err := s.Away.Side.Target.Points(ctx, homeward.ItemRequest{Item: s.Item.ID()})
	if err != nil {
		return err
	}
	s.report.Points = len(points.Points)
	point, err := s.choose(points.Points)
	if err != nil {
		return err
	}
	_, err = s.chapter(ctx, "Fail over to away", 5*time.Minute, func(ctx context.Context) error {
		s.screen.say("    to the point of %s", point.At.Local().Format("15:04:05.000"))
		began := time.Now()
		if err := s.Item.FailOver(ctx, point.Position); err != nil {
			return err
		}
		old := s.guest
		s.guest = nil
		found, err := s.hear(ctx, s.Away, 0)
		s.report.RTOSeconds = time.Since(began).Seconds()
		old.Stop()
		if err != nil {
			return err
		}
		return s.judgeFailover(found, old)
	})
	return err
}

// judgeFailover says what was lost, and refuses what must not happen.
func (s *story) judgeFailover(found records.Found, old *lab.Console) error {
	if found.Bad != 0 {
		return homeward.Errorf("judge failover", homeward.Corrupt, "guest", "keep the demo's directory and report this", "%d records are damaged or out of order", found.Bad)
	}
	if found.Last < s.before {
		s.report.RPORecords = s.before - found.Last
		s.report.RPOSeconds = old.Since(found.Last, s.lost).Seconds()
	}
	s.screen.say("    up again after %.2f s; of %d durable records %d were lost (%.2f s)", s.report.RTOSeconds, s.before, s.report.RPORecords, s.report.RPOSeconds)
	return nil
}

// choose finds the point asked for: the newest one, or the newest of that age.
func (s *story) choose(points []homeward.Point) (homeward.Point, error) {
	age, err := s.o.age()
	if err != nil {
		return homeward.Point{}, err
	}
	for i := len(points) - 1; i >= 0; i-- {
		if age == 0 || s.lost.Sub(points[i].At) >= age {
			return points[i], nil
		}
	}
	return homeward.Point{}, homeward.Errorf("choose point", homeward.NotFound, s.o.Point, "ask for a younger one", "no recovery point is that old")
}

func (s *story) workAway(ctx context.Context) error {
	_, err := s.chapter(ctx, "The machine works at away", 5*time.Minute, func(ctx context.Context) error { return s.writeFor(ctx, 300) })
	return err
}

func (s *story) workHome(ctx context.Context) error {
	_, err := s.chapter(ctx, "The machine works at home again", 5*time.Minute, func(ctx context.Context) error { return s.writeFor(ctx, 200) })
	return err
}

func (s *story) commit(ctx context.Context) error {
	_, err := s.chapter(ctx, "Commit", 5*time.Minute, s.Item.Commit)
	return err
}

func (s *story) homeReturns(ctx context.Context) error {
	_, err := s.chapter(ctx, "Home returns: its disks as they were when it was lost", time.Minute, func(ctx context.Context) error { return s.Restore(ctx, s.Home) })
	return err
}

func (s *story) reprotect(ctx context.Context) error {
	return s.reverse(ctx, "Reprotect: away -> home")
}

func (s *story) protectAgain(ctx context.Context) error {
	return s.reverse(ctx, "Reprotect: home -> away, by delta")
}

// reverse tells the cost, reprotects, and proves both sides equal.
func (s *story) reverse(ctx context.Context, title string) error {
	var estimate homeward.Estimate
	_, err := s.chapter(ctx, title+", dry run", time.Minute, func(ctx context.Context) (err error) {
		estimate, err = s.Item.Estimate(ctx)
		return err
	})
	if err != nil {
		return err
	}
	for _, f := range estimate.Figures {
		s.screen.say("    %-12s %-50s %10s  %s", f.Disk, f.Cause, lab.Size(f.Bytes), f.Certainty)
	}
	s.screen.say("    %s differ now (%s); at most %s on the wire, and what the machine writes meanwhile",
		lab.Size(estimate.Bytes), estimate.Certainty, lab.Size(estimate.WireBytes))
	var took recovery.Reversal
	e, err := s.chapter(ctx, title, 10*time.Minute, func(ctx context.Context) (err error) {
		took, err = s.Item.Reprotect(ctx)
		return err
	})
	if err != nil {
		return err
	}
	e.Reverse = reverse(estimate, took)
	at := len(s.report.Steps) - 1
	s.screen.say("    %s differed when the old side handed over; %s are applied and %s went over the wire by the first point,",
		lab.Size(took.Estimate.Bytes), lab.Size(took.Changed), lab.Size(took.WireBytes))
	s.screen.say("    what the machine wrote meanwhile included; %s read only to find differences", lab.Size(took.FullReads))
	proof, err := s.prove(ctx)
	s.report.Steps[at].DigestEqual = proof.Equal
	return err
}

// prove digests both sides at one instant and signs what it saw.
func (s *story) prove(ctx context.Context) (proof homeward.Proof, err error) {
	e, err := s.chapter(ctx, "Proof: digests of both sides at one point", 5*time.Minute, func(ctx context.Context) (err error) {
		proof, err = s.Item.Prove(ctx)
		return err
	})
	if err != nil {
		return proof, err
	}
	signed, err := pki.Sign(s.Me, proof)
	if err != nil {
		return proof, err
	}
	e.Proof = &signed
	for _, d := range proof.Disks {
		s.screen.say("    %-12s %s  %.16s…  %s  %.16s…", d.Disk, proof.Source, d.Source, proof.Target, d.Target)
	}
	if !proof.Equal {
		return proof, homeward.Errorf("prove", homeward.Corrupt, "item "+string(s.Item.ID()), "keep the demo's directory and report this", "the sides differ")
	}
	s.screen.say("    equal, signed by %s", s.Me.Peer())
	return proof, nil
}

func (s *story) failBack(ctx context.Context) error {
	_, err := s.chapter(ctx, "Fail back to home, planned", 5*time.Minute, func(ctx context.Context) error {
		from := s.Said(ctx, s.Home) // before its site was lost
		began := time.Now()
		if err := s.Item.FailOverPlanned(ctx, homeward.Position{}); err != nil {
			return err
		}
		old := s.guest
		s.guest = nil
		found, err := s.hear(ctx, s.Home, from)
		s.report.FailbackSeconds = time.Since(began).Seconds()
		said := old.Last()
		old.Stop()
		if err != nil {
			return err
		}
		if found.Bad != 0 || found.Last < said {
			s.report.FailbackRPORecords = said - found.Last
			return homeward.Errorf("judge failback", homeward.Corrupt, "guest", "keep the demo's directory and report this",
				"of %d durable records %d came home, %d damaged", said, found.Last, found.Bad)
		}
		s.screen.say("    home again after %.2f s; all %d durable records are there", s.report.FailbackSeconds, said)
		return nil
	})
	return err
}
