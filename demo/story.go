package demo

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/lab"
	"github.com/homeward-dr/homeward/site/local/records"
	"github.com/homeward-dr/homeward/vault"
)

// story is one round trip of two machines, told by the commands that an operator
// types.
type story struct {
	*lab.Installation
	o          Options
	home, away *lab.Place
	out        io.Writer // nil: quiet
	report     *Report
	guests     []*guest
	lost       time.Time // when the home site was lost
}

// guest is a machine and what it says where it runs now.
type guest struct {
	item    homeward.ItemID
	console *lab.Console
	before  uint64 // newest record announced before its site was lost or left
	said    int64  // length of its console at home before that
}

// policy is the demo's: a recovery point every half second.
const policy = "gold"

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
	s := &story{o: o, report: &report, guests: []*guest{{item: "web01"}, {item: "db01"}}}
	if !quiet {
		s.out = out
	}
	s.say("A vault and two sites, home and away: nine processes, mutual TLS between them, two %s guests.", o.Guest.Kind)
	plan := lab.Plan{Executable: o.Executable, Dir: o.Dir, Guest: o.Guest, LinkMbit: o.LinkMbit, LinkDelay: o.LinkDelay}
	if !quiet {
		plan.Out = out
	}
	in, err := lab.Install(ctx, plan)
	if err != nil {
		return report, err
	}
	s.Installation = in
	defer func() {
		s.deafen()
		if e := in.Close(); err == nil {
			err = e
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
			s.say("\nThe logs of all roles:\n%s", in.Logs())
		}
		return report, err
	}
	s.sum()
	if o.Keep {
		s.howToLook()
		<-ctx.Done()
	}
	return report, nil
}

// say prints a line of the story; a screen that cannot be written stops nothing.
func (s *story) say(format string, args ...any) {
	if s.out != nil {
		_, _ = fmt.Fprintf(s.out, format+"\n", args...)
	}
}

func (s *story) play(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		s.install, s.protect, s.work, s.test, s.loseHome, s.failOver, s.workAway, s.commit, s.homeReturns,
		s.reprotect, s.failBack, s.workHome, s.commit, s.protectAgain,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// chapter runs one step of the round trip and enters it in the report.
func (s *story) chapter(ctx context.Context, title string, limit time.Duration, do func(context.Context) error) (*Entry, error) {
	s.say("\n%s", title)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	began := time.Now()
	err := do(ctx)
	return s.report.entry(title, began), err
}

func (s *story) install(ctx context.Context) error {
	_, err := s.chapter(ctx, "Install: two sites, each with its configuration server, agent, process server and master target", 2*time.Minute, func(ctx context.Context) (err error) {
		for _, name := range []string{"away", "home"} {
			if err := s.Operator.Do(ctx, "site", "add", name); err != nil {
				return err
			}
			if name == "home" {
				s.home, err = s.AddSite(ctx, name, machines(s.o.DiskSize)...)
			} else {
				s.away, err = s.AddSite(ctx, name)
			}
			if err != nil {
				return err
			}
		}
		if err := s.Operator.Do(ctx, "node", "list"); err != nil {
			return err
		}
		for _, g := range s.guests {
			if err := s.o.Guest.Format(ctx, filepath.Join(s.Datastore("home"), string(g.item)+"-root.raw")); err != nil {
				return err
			}
		}
		if err := s.Operator.Do(ctx, "site", "refresh", "home"); err != nil {
			return err
		}
		return s.Operator.Do(ctx, "machine", "list", "--site", "home")
	})
	return err
}

// machines are what runs at home: a web server with two disks, the records on the
// second depending on those on the first, and a database server with one.
func machines(size int64) []homeward.Machine {
	return []homeward.Machine{
		{Item: "web01", Name: "web01", CPUs: 1, MemoryMiB: 128, Firmware: "bios", OSFamily: "linux",
			Disks: []homeward.Disk{{ID: "root", Size: size, BootOrder: 1}, {ID: "data", Size: 64 << 20, Slot: 1}}},
		{Item: "db01", Name: "db01", CPUs: 1, MemoryMiB: 128, Firmware: "bios", OSFamily: "linux",
			Disks: []homeward.Disk{{ID: "root", Size: 64 << 20, BootOrder: 1}}},
	}
}

func (s *story) protect(ctx context.Context) error {
	_, err := s.chapter(ctx, "Protect: home -> away", 5*time.Minute, func(ctx context.Context) error {
		if err := s.Operator.Do(ctx, "policy", "create", policy, "--min-interval", "500ms"); err != nil {
			return err
		}
		for _, g := range s.guests {
			if err := s.Operator.Do(ctx, "item", "protect", "home/"+string(g.item), "--to", "away", "--policy", policy, "--wait"); err != nil {
				return err
			}
		}
		for _, g := range s.guests { // they start side by side
			if _, err := s.hear(ctx, g, "home", 0); err != nil {
				return err
			}
		}
		return s.Operator.Do(ctx, "item", "list")
	})
	return err
}

// hear follows a guest's console at a site, from an offset on, and answers what it
// found on its disks when it started.
func (s *story) hear(ctx context.Context, g *guest, site string, from int64) (records.Found, error) {
	if g.console != nil {
		g.console.Stop()
	}
	path, err := s.consoleOf(ctx, g, site)
	if err != nil {
		return records.Found{}, err
	}
	g.console = lab.Listen(ctx, path, from)
	return g.console.Running(ctx)
}

func (s *story) consoleOf(ctx context.Context, g *guest, site string) (path string, err error) {
	err = s.Operator.Until(ctx, func() (bool, error) {
		if err := s.Operator.Ask(ctx, &vault.Site{}, "site", "refresh", site); err != nil {
			return false, err
		}
		var m vault.Machine
		err := s.Operator.Ask(ctx, &m, "machine", "show", site+"/"+string(g.item))
		if homeward.KindOf(err) == homeward.NotFound {
			return false, nil // its inventory is not read yet
		}
		path = m.Found.Console
		return path != "", err
	})
	return path, err
}

func (s *story) deafen() {
	for _, g := range s.guests {
		if g.console != nil {
			g.console.Stop()
		}
	}
}

// write lets the guests write until each made n more records durable.
func (s *story) write(ctx context.Context, n uint64) error {
	for _, g := range s.guests {
		if err := g.console.Until(ctx, g.console.Last()+n); err != nil {
			return err
		}
	}
	return nil
}

func (s *story) work(ctx context.Context) error {
	_, err := s.chapter(ctx, "The machines work at home", 15*time.Minute, func(ctx context.Context) error {
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
		return s.write(ctx, 200)
	})
	return err
}

// test runs a test failover, which touches nothing.
func (s *story) test(ctx context.Context) error {
	_, err := s.chapter(ctx, "Rehearse: a test failover in an isolated network, while replication goes on", 3*time.Minute, func(ctx context.Context) error {
		if err := s.Operator.Do(ctx, "item", "test-failover", "web01", "--network", "isolated", "--wait"); err != nil {
			return err
		}
		return s.Operator.Do(ctx, "item", "cleanup-test", "web01", "--wait")
	})
	return err
}

func (s *story) loseHome(ctx context.Context) error {
	_, err := s.chapter(ctx, "Home is lost: machines, configuration server, agent, process server, master target killed at once", time.Minute, func(context.Context) error {
		s.Lose(s.home)
		s.lost = time.Now()
		return nil
	})
	// What the dead guests still had on their way to the consoles has arrived by the
	// time their processes are gone; nothing is announced after that.
	for _, g := range s.guests {
		g.before = g.console.Last()
	}
	return err
}

func (s *story) failOver(ctx context.Context) error {
	_, err := s.chapter(ctx, "Fail over to away", 5*time.Minute, func(ctx context.Context) error {
		if err := s.Operator.Do(ctx, "item", "list"); err != nil {
			return err
		}
		var points []homeward.Point
		if err := s.Operator.Ask(ctx, &points, "point", "list", string(s.guests[0].item)); err != nil {
			return err
		}
		s.report.Points = len(points)
		point := s.o.Point
		if point == "" {
			point = vault.Latest
		}
		began := time.Now()
		if err := s.together(ctx, "failover", "--point="+point, "--yes"); err != nil {
			return err
		}
		for _, g := range s.guests {
			if err := s.judgeFailover(ctx, g, began); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

// together starts an action of every item and waits for all.
func (s *story) together(ctx context.Context, action string, args ...string) error {
	for _, g := range s.guests {
		if err := s.Operator.Do(ctx, append([]string{"item", action, string(g.item)}, args...)...); err != nil {
			return err
		}
	}
	for _, g := range s.guests {
		job, err := s.newest(ctx, g, "")
		if err != nil {
			return err
		}
		if err := s.Operator.Do(ctx, "job", "wait", job.ID); err != nil {
			return err
		}
	}
	return nil
}

// newest is the newest job of an item, of a scenario if one is named.
func (s *story) newest(ctx context.Context, g *guest, scenario string) (vault.Job, error) {
	var jobs []vault.Job
	if err := s.Operator.Ask(ctx, &jobs, "job", "list", "--item", string(g.item)); err != nil {
		return vault.Job{}, err
	}
	for _, j := range jobs { // newest first
		if scenario == "" || j.Scenario == scenario {
			return j, nil
		}
	}
	return vault.Job{}, homeward.Errorf("find job", homeward.NotFound, string(g.item), "report this", "no job %s", scenario)
}

// judgeFailover says what was lost, and refuses what must not happen.
func (s *story) judgeFailover(ctx context.Context, g *guest, began time.Time) error {
	old := g.console
	g.console = nil
	defer old.Stop()
	found, err := s.hear(ctx, g, "away", 0)
	s.report.RTOSeconds = max(s.report.RTOSeconds, time.Since(began).Seconds())
	if err != nil {
		return err
	}
	if found.Bad != 0 {
		return homeward.Errorf("judge failover", homeward.Corrupt, string(g.item), "keep the demo's directory and report this", "%d records are damaged or out of order", found.Bad)
	}
	var lost uint64
	var age time.Duration
	if found.Last < g.before {
		lost, age = g.before-found.Last, old.Since(found.Last, s.lost)
	}
	s.report.RPORecords += lost
	s.report.RPOSeconds = max(s.report.RPOSeconds, age.Seconds())
	s.say("    %s is up again after %.2f s; of %d durable records %d were lost (%.2f s)", g.item, time.Since(began).Seconds(), g.before, lost, age.Seconds())
	return nil
}

func (s *story) workAway(ctx context.Context) error {
	_, err := s.chapter(ctx, "The machines work at away", 5*time.Minute, func(ctx context.Context) error { return s.write(ctx, 200) })
	return err
}

func (s *story) workHome(ctx context.Context) error {
	_, err := s.chapter(ctx, "The machines work at home again", 5*time.Minute, func(ctx context.Context) error { return s.write(ctx, 100) })
	return err
}

func (s *story) commit(ctx context.Context) error {
	_, err := s.chapter(ctx, "Commit", 5*time.Minute, func(ctx context.Context) error { return s.together(ctx, "commit", "--yes") })
	return err
}

func (s *story) homeReturns(ctx context.Context) error {
	_, err := s.chapter(ctx, "Home returns: its disks as they were when it was lost", time.Minute, func(ctx context.Context) error {
		if err := s.Restore(ctx, s.home); err != nil {
			return err
		}
		if err := s.Operator.Do(ctx, "site", "refresh", "home"); err != nil {
			return err
		}
		// What stands in the way goes as the vault hears and probes the nodes again.
		err := s.Operator.Until(ctx, func() (bool, error) {
			for _, g := range s.guests {
				var it vault.Item
				err := s.Operator.Ask(ctx, &it, "item", "show", string(g.item))
				if err != nil || !it.Score.Ready {
					return false, err
				}
			}
			return true, nil
		})
		if err != nil {
			return err
		}
		return s.Operator.Do(ctx, "readiness", string(s.guests[0].item))
	})
	return err
}

func (s *story) reprotect(ctx context.Context) error {
	return s.reverse(ctx, "Reprotect: away -> home", "home")
}

func (s *story) protectAgain(ctx context.Context) error {
	return s.reverse(ctx, "Reprotect: home -> away, by delta", "away")
}

func (s *story) failBack(ctx context.Context) error {
	_, err := s.chapter(ctx, "Fail back to home", 5*time.Minute, func(ctx context.Context) error {
		for _, g := range s.guests {
			path, err := s.consoleOf(ctx, g, "home")
			if err != nil {
				return err
			}
			g.said = fileSize(path) // before its site was lost
		}
		began := time.Now()
		if err := s.together(ctx, "failback", "--yes"); err != nil {
			return err
		}
		for _, g := range s.guests {
			if err := s.judgeFailback(ctx, g, began); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

func (s *story) judgeFailback(ctx context.Context, g *guest, began time.Time) error {
	old := g.console
	g.console = nil
	defer old.Stop()
	found, err := s.hear(ctx, g, "home", g.said)
	if err != nil {
		return err
	}
	s.report.FailbackSeconds = max(s.report.FailbackSeconds, time.Since(began).Seconds())
	said := old.Last()
	if found.Bad != 0 || found.Last < said {
		s.report.FailbackRPORecords += said - found.Last
		return homeward.Errorf("judge failback", homeward.Corrupt, string(g.item), "keep the demo's directory and report this",
			"of %d durable records %d came home, %d damaged", said, found.Last, found.Bad)
	}
	s.say("    %s is home again after %.2f s; all %d durable records are there", g.item, time.Since(began).Seconds(), said)
	return nil
}
