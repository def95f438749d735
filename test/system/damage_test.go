package system

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/lab"
	"github.com/homeward-dr/homeward/test/stage"
)

// Files of roles are flipped or torn while the role is down. When it is started
// again it heals, or it refuses and names the file; with the file restored it goes
// on. It is never silent: both sides are equal in the end.
func TestRandomDamageToFilesOfRoles(t *testing.T) {
	t.Parallel()
	rng := random(t)
	for n := range rounds(t) {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			r := protected(t, stage.Options{Churn: 2})
			r.write(50)
			r.replicated()
			healed, refused := 0, 0
			for range 3 {
				for _, p := range []*lab.Program{r.Home.Agent, r.Home.Process, r.Away.Target} {
					if r.damage(rng, p) {
						healed++
					} else {
						refused++
					}
					r.prove()
				}
			}
			t.Logf("%d healed, %d refused", healed, refused)
		})
	}
}

// damage harms one file of a role that is down. It reports whether the role healed
// by itself; else the file was restored.
func (r *rig) damage(rng *rand.Rand, p *lab.Program) (healed bool) {
	r.t.Helper()
	p.Kill()
	kept := r.keep(p.Dir())
	files := r.durable(p.Dir())
	victim := files[rng.IntN(len(files))]
	what := r.harm(rng, victim)
	if r.goesOn(p, victim) {
		r.t.Logf("%s: %s: healed", p.Name, what)
		return true
	}
	r.t.Logf("%s: %s: refused", p.Name, what)
	p.Kill()
	r.putBack(kept, p.Dir())
	if !r.goesOn(p, "") {
		r.t.Fatalf("%s: %s: does not go on with the file restored: %q", p.Name, what, r.said())
	}
	return false
}

// The state of one role is restored from an older copy: it refuses, or everything
// is compared by digest; never does it silently go on from the wrong state.
func TestStateRestoredFromOlderCopy(t *testing.T) {
	for name, pick := range map[string]func(*rig) *lab.Program{
		"agent":          func(r *rig) *lab.Program { return r.Home.Agent },
		"process server": func(r *rig) *lab.Program { return r.Home.Process },
		"master target":  func(r *rig) *lab.Program { return r.Away.Target },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := protected(t, stage.Options{Churn: 2})
			r.write(50)
			r.replicated()
			p := pick(r)
			p.Kill()
			old := r.keep(p.Dir())
			r.must(r.Restart(r.ctx, p))
			r.write(50)
			r.replicated()
			p.Kill()
			r.putBack(old, p.Dir())
			if !r.goesOn(p, "") {
				t.Fatalf("it neither goes on nor says what to do: %q", r.said())
			}
			r.prove()
			r.must(r.Lose(r.ctx, r.Home))
			r.failOver(r.newestPoint)
		})
	}
}

// goesOn starts a role and waits until a new point is replicated, doing what the
// controller would: routing again, comparing what is suspect. False: somebody
// names the damaged file.
func (r *rig) goesOn(p *lab.Program, victim string) bool {
	r.t.Helper()
	before, err := p.Log()
	r.must(err)
	began := time.Now()
	if err := r.Restart(r.ctx, p); err != nil {
		r.names(err.Error()+r.since(p, before), p, victim)
		return false
	}
	ctx, cancel := context.WithTimeout(r.ctx, 30*time.Second)
	defer cancel()
	for complained := 0; ; {
		if rep, err := r.Away.Side.Target.Report(ctx, r.id()); err == nil && rep.NewestPoint.Mark.At.After(began) {
			return true
		}
		if _, err := r.Home.Side.Process.Report(ctx, r.id()); homeward.KindOf(err) == homeward.NotFound {
			r.must(r.Item.Reroute(ctx))
		}
		if rep, err := r.Home.Side.Agent.Report(ctx, r.id()); err == nil && !rep.Complete {
			_, err := r.Item.Resync(ctx)
			switch {
			case homeward.KindOf(err) == homeward.Conflict:
				r.newLeg()
			case err != nil && !homeward.Retryable(err):
				r.t.Fatalf("resync: %v", err)
			}
		}
		if victim != "" && strings.Contains(fmt.Sprint(r.said())+r.since(p, before), filepath.Base(victim)) {
			if complained++; complained > 20 {
				return false
			}
		}
		pause := time.NewTimer(100 * time.Millisecond)
		select {
		case <-pause.C:
		case <-ctx.Done():
			rep, err := r.Home.Side.Agent.Report(r.ctx, r.id())
			route, rerr := r.Home.Side.Process.Report(r.ctx, r.id())
			r.t.Logf("agent: %+v %v\nroute: %+v %v", rep, err, route, rerr)
			r.names(fmt.Sprint(r.said())+r.since(p, before), p, victim)
			return false
		}
	}
}

// newLeg does what an agent says that does not know the replica's state: its map is
// handed over, and replication begins anew with it.
func (r *rig) newLeg() {
	r.t.Helper()
	r.powerOff(r.Home)
	over := homeward.GenerationRequest{Item: r.Item.ID(), Generation: r.Item.Generation.Next()}
	changed, err := r.Home.Side.Agent.Handover(r.ctx, over)
	r.must(err)
	_, err = r.Home.Side.Agent.Release(r.ctx, over)
	r.must(err)
	r.Item.Next = over.Generation
	said := r.Said(r.ctx, r.Home)
	least := r.console.Last()
	r.must(r.Item.Resume(r.ctx, changed))
	if found := r.hear(r.Home, said); found.Last < least {
		r.t.Errorf("record %d was announced, %d found", least, found.Last)
	}
}

// since is what a role wrote into its log after a first part.
func (r *rig) since(p *lab.Program, before string) string {
	r.t.Helper()
	log, err := p.Log()
	r.must(err)
	return log[len(before):]
}

func (r *rig) names(said string, p *lab.Program, victim string) {
	r.t.Helper()
	if victim == "" || !strings.Contains(said, filepath.Base(victim)) {
		r.t.Errorf("%s does not go on, and does not name %s: %s", p.Name, victim, said)
	}
}

// durable lists the files that a role keeps, but for those that mean nothing to
// the next one: sockets, locks, saved copies.
func (r *rig) durable(dir string) (files []string) {
	r.t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if d.Type().IsRegular() && info.Size() > 0 && !strings.HasSuffix(path, "lock") && !strings.Contains(path, "/spill") {
			files = append(files, path)
		}
		return nil
	})
	r.must(err)
	return files
}

// harm flips a byte of a file or tears its end off.
func (r *rig) harm(rng *rand.Rand, path string) string {
	r.t.Helper()
	st, err := os.Stat(path)
	r.must(err)
	at := rng.Float64()
	if rng.IntN(3) == 0 {
		r.must(os.Truncate(path, int64(float64(st.Size())*at)))
		return fmt.Sprintf("%s torn at %.0f %% of %d bytes", path, at*100, st.Size())
	}
	r.flip(path, at)
	return fmt.Sprintf("%s flipped at %.0f %% of %d bytes", path, at*100, st.Size())
}

// keep copies a role's directory.
func (r *rig) keep(dir string) string {
	r.t.Helper()
	to := filepath.Join(r.t.TempDir(), "kept")
	r.tool("cp", "-a", "--sparse=always", dir, to)
	return to
}

// putBack makes a role's directory what it was.
func (r *rig) putBack(kept, dir string) {
	r.t.Helper()
	r.must(os.RemoveAll(dir))
	r.tool("cp", "-a", "--sparse=always", kept, dir)
}
