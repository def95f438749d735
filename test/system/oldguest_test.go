package system

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/homeward-dr/homeward/test/stage"
)

// A guest of the side that was given up is stopped in the middle of its work, and
// wakes up after failover, commit, reprotect and failback. It must never change a
// disk again (I-6): not by the connection it still has, not by a new one.
func TestOldGuestNeverWritesAgain(t *testing.T) {
	t.Parallel()
	r := protected(t, stage.Options{Guest: "qemu"})
	r.write(50)
	r.replicated()
	old := r.guestProcess(r.Home)
	r.must(old.Signal(syscall.SIGSTOP))
	t.Cleanup(func() { _ = old.Kill() }) // gone already, if all is well
	// The link breaks, the roles at home live: nobody tells them for now.
	r.Home.In.Cut()
	r.Away.In.Cut()
	r.failOver(r.newestPoint)
	r.write(20)
	r.must(r.Item.Commit(r.ctx))
	r.Home.In.Restore()
	r.Away.In.Restore()
	// Its host has forgotten it: else reprotect would end it. Handed over: its
	// connection is gone, its export's name burnt.
	r.must(r.Reinstall(r.Home))
	r.reprotect()
	r.wake(old, "after reprotect")
	r.prove()
	r.write(20)
	// It sleeps through the way home too.
	r.must(old.Signal(syscall.SIGSTOP))
	r.failBack(r.planned)
	r.write(20)
	r.powerOff(r.Home) // so that every change is the old guest's
	before := r.sums(r.Home)
	r.must(old.Signal(syscall.SIGCONT))
	for range 5 { // time for it to try: each round reads the disks
		if r.sums(r.Home) != before {
			t.Fatal("after failback the old guest changed a disk")
		}
	}
	r.must(old.Kill())
	r.must(r.Item.Commit(r.ctx))
	r.reprotect()
	r.prove()
}

// wake lets the old guest run while the home disks must not change but by what is
// replicated; it is proven by a digest of a replica that stands still.
func (r *rig) wake(old *os.Process, when string) {
	r.t.Helper()
	// Nothing arrives at home while the link is cut: every change is the guest's.
	r.Home.In.Cut()
	r.replicaQuiet()
	before := r.sums(r.Home)
	r.must(old.Signal(syscall.SIGCONT))
	r.write(150) // time for the old guest to try, by the pace of the new one
	if after := r.sums(r.Home); after != before {
		r.t.Errorf("%s the old guest changed a disk", when)
	}
	r.Home.In.Restore()
	r.replicated()
}

// replicaQuiet returns when two digests of the standby disks agree.
func (r *rig) replicaQuiet() {
	r.t.Helper()
	last := r.sums(r.Home)
	r.eventually("a replica that stands still", func() (bool, error) {
		now := r.sums(r.Home)
		same := now == last
		last = now
		return same, nil
	})
}

// sums are the digests of all disk files of a place.
func (r *rig) sums(p *stage.Place) string {
	r.t.Helper()
	var all []string
	for _, ref := range p.Side.Disks {
		f, err := os.Open(strings.TrimPrefix(ref, "file:"))
		r.must(err)
		h := sha256.New()
		_, err = io.Copy(h, f)
		r.must(err)
		r.must(f.Close())
		all = append(all, hex.EncodeToString(h.Sum(nil)))
	}
	return strings.Join(all, " ")
}

// guestProcess finds the process of the machine at a place.
func (r *rig) guestProcess(p *stage.Place) *os.Process {
	r.t.Helper()
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	r.must(err)
	socket := filepath.Join(p.Agent.Dir(), "sockets")
	for _, c := range commands {
		raw, err := os.ReadFile(c)
		if err != nil || !strings.Contains(string(raw), socket) || strings.Contains(string(raw), "--identity") {
			continue // ended meanwhile, or not a guest
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(c)))
		r.must(err)
		proc, err := os.FindProcess(pid)
		r.must(err)
		return proc
	}
	r.t.Fatalf("no machine runs at %s", p.Name)
	return nil
}
