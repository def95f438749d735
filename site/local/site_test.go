package local

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/member"
	"github.com/homeward-dr/homeward/site/local/records"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// guestFiles are made by hack/guest.sh, which `make test` runs.
func guestFiles(t *testing.T) (kernel, initrd string) {
	t.Helper()
	kernel, initrd = "../../cache/guest/vmlinuz", "../../cache/guest/initrd.gz"
	if _, err := os.Stat(initrd); err != nil {
		t.Fatalf("no test guest: run hack/guest.sh (%v)", err)
	}
	return kernel, initrd
}

func openSite(t *testing.T, cfg Config) *Site {
	t.Helper()
	dir := t.TempDir()
	cfg.Name, cfg.Dir, cfg.Datastores, cfg.Log, cfg.Tied = "here", dir, []string{filepath.Join(dir, "ds")}, slog.Default(), true
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func finish(t *testing.T, s *Site) func(homeward.Operation, error) homeward.Operation {
	return func(op homeward.Operation, err error) homeward.Operation {
		t.Helper()
		for err == nil && op.State == homeward.OperationRunning {
			time.Sleep(5 * time.Millisecond)
			op, err = s.Operation(context.Background(), op.ID)
		}
		if err != nil {
			t.Fatal(err)
		}
		return op
	}
}

func must(t *testing.T, op homeward.Operation) homeward.Operation {
	t.Helper()
	if op.State != homeward.OperationSucceeded {
		t.Fatalf("%s: %s (%s)", op.Key, op.Error, op.Remedy)
	}
	return op
}

func TestSite_QEMUGuestKeepsRecords(t *testing.T) {
	kernel, initrd := guestFiles(t)
	s := openSite(t, Config{Guest: GuestQEMU, Kernel: kernel, Initrd: initrd, Append: "gap_ms=2 churn=2"})
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	m := homeward.Machine{Item: "web01", Name: "web01", Disks: []homeward.Disk{{ID: "root", Size: 64 << 20}}}
	disk := must(t, finish(t, s)(s.CreateDisk(ctx, "disk", m.Disks[0], ""))).Result
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", trimFile(disk.Native)).CombinedOutput(); err != nil {
		t.Fatalf("mkfs: %v %s", err, out)
	}
	ref := must(t, finish(t, s)(s.Create(ctx, "create", m, []homeward.Attachment{{Disk: "root", Ref: disk.Native}}))).Result

	acked, from := uint64(0), int64(0)
	run := func(key string, graceful bool, want uint64) {
		must(t, finish(t, s)(s.PowerOn(ctx, "on-"+key, ref)))
		found := false
		var err error
		from, err = Follow(ctx, s.console(ref.Native), from, func(line string) bool {
			if f, ok := records.ParseVerify(line); ok {
				found = true
				if f.Bad != 0 || f.Last < acked {
					t.Errorf("found %+v, acknowledged %d", f, acked)
				}
			}
			if n, ok := records.ParseAck(line); ok {
				acked = n
			}
			return found && acked >= want
		})
		if err != nil || !found {
			console, _ := os.ReadFile(s.console(ref.Native))
			console = console[:min(len(console), 2000)]
			t.Fatalf("%v found=%v\n%s", err, found, console)
		}
		must(t, finish(t, s)(s.PowerOff(ctx, "off-"+key, ref, homeward.Stop{Graceful: graceful, Timeout: 20 * time.Second})))
		if sm, err := s.Machine(ctx, ref); err != nil || sm.Power != homeward.PowerOff {
			t.Fatalf("%+v %v", sm, err)
		}
	}
	run("1", true, 20)
	run("2", false, acked+20)
	run("3", true, acked+5)
}

func TestSite_GuardRefusesPowerOn(t *testing.T) {
	s := openSite(t, Config{Guest: GuestBuiltin, Workload: []string{"/bin/sleep", "60"}})
	ctx := context.Background()
	m := homeward.Machine{Item: "db01", Name: "db01", Disks: []homeward.Disk{{ID: "d0", Size: 1 << 20}}}
	ref := must(t, finish(t, s)(s.Create(ctx, "create", m, nil))).Result
	g := homeward.Guard{Ref: ref, Kind: homeward.GuardNoPowerOn, Owner: "job 1", Reason: "reprotect"}
	if err := s.Guard(ctx, g); err != nil {
		t.Fatal(err)
	}
	op := finish(t, s)(s.PowerOn(ctx, "on", ref))
	if op.State != homeward.OperationFailed || op.Class != homeward.ClassLocked {
		t.Fatalf("%+v", op)
	}
	if err := s.Unguard(ctx, g); err != nil {
		t.Fatal(err)
	}
	must(t, finish(t, s)(s.PowerOn(ctx, "on", ref))) // the same key again: it failed, so it runs again
	if again, err := Open(s.cfg); err != nil {
		t.Fatal(err)
	} else {
		defer again.Close()
		if sm, err := again.Machine(ctx, ref); err != nil || sm.Power != homeward.PowerOn {
			t.Fatalf("a restarted site sees %+v %v", sm, err)
		}
	}
	op = finish(t, s)(s.Delete(ctx, "delete", ref))
	if op.Class != homeward.ClassLocked {
		t.Fatalf("deleted while running: %+v", op)
	}
	must(t, finish(t, s)(s.PowerOff(ctx, "off", ref, homeward.Stop{})))
	must(t, finish(t, s)(s.Delete(ctx, "delete", ref)))
	if _, err := s.Machine(ctx, ref); homeward.KindOf(err) != homeward.NotFound {
		t.Fatal(err)
	}
}

// A site tells what it knows of a machine's system and snapshots, and no more: the
// built-in guest runs on its host's system, of a QEMU guest only its definition tells.
func TestSite_TellsSystemAndSnapshots(t *testing.T) {
	family, version := member.System()
	if family == "" || version == "" {
		t.Fatalf("this host tells no system: %q %q", family, version)
	}
	for _, c := range []struct {
		guest                   Guest
		family, version         string // as defined
		wantFamily, wantVersion string
	}{
		{GuestBuiltin, "", "", family, version},
		{GuestBuiltin, "linux", "debian 9", "linux", "debian 9"},
		{GuestBuiltin, "windows", "", "windows", ""},
		{GuestQEMU, "linux", "", "linux", ""},
	} {
		s := openSite(t, Config{Guest: c.guest, Workload: []string{"/bin/true"}})
		m := homeward.Machine{Item: "m", Name: "m", OSFamily: c.family, OSVersion: c.version, Disks: []homeward.Disk{{ID: "root", Size: 4096}}}
		must(t, finish(t, s)(s.Create(t.Context(), "create", m, nil)))
		all, err := s.Machines(t.Context())
		if err != nil || len(all) != 1 {
			t.Fatal(all, err)
		}
		got := all[0]
		if got.Machine.OSFamily != c.wantFamily || got.Machine.OSVersion != c.wantVersion || got.Snapshots == nil || *got.Snapshots != 0 {
			t.Errorf("%+v: told %+v", c, got)
		}
	}
}
