package agent

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
)

// fakeGuest answers as the QEMU guest agent does.
type fakeGuest struct {
	mu     sync.Mutex
	status string
	calls  []string
	// before runs before an answer; false: there is none.
	before func(command string) bool
	stale  string // sent first on every connection: an answer to somebody else
}

func (f *fakeGuest) serve(t *testing.T, path string) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	f.status = "thawed"
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				f.talk(conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
}

func (f *fakeGuest) talk(conn net.Conn) {
	fmt.Fprint(conn, f.stale)
	in := bufio.NewScanner(conn)
	for in.Scan() {
		var q struct {
			Execute   string
			Arguments struct{ ID int64 }
		}
		if json.Unmarshal(in.Bytes(), &q) != nil {
			return
		}
		f.mu.Lock()
		f.calls = append(f.calls, q.Execute)
		answer := f.before == nil || f.before(q.Execute)
		var value any = 2
		switch q.Execute {
		case "guest-sync":
			value = q.Arguments.ID
		case "guest-fsfreeze-freeze":
			f.status = "frozen"
		case "guest-fsfreeze-thaw":
			f.status = "thawed"
		case "guest-fsfreeze-status":
			value = f.status
		}
		f.mu.Unlock()
		if !answer {
			continue
		}
		line, _ := json.Marshal(map[string]any{"return": value})
		fmt.Fprintf(conn, "%s\n", line)
	}
}

func (f *fakeGuest) state() (status, calls string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.status, strings.Join(f.calls, " ")
}

func (r *rig) appCut() homeward.CutReport {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	rep, err := r.agent.Cut(ctx, homeward.CutRequest{Item: "web01", Kind: homeward.MarkApp, Label: "before upgrade"})
	if err != nil {
		r.t.Fatal(err)
	}
	return rep
}

func TestCut_guestAgent(t *testing.T) {
	for _, c := range []struct {
		name  string
		guest *fakeGuest
		kind  homeward.MarkKind
	}{
		{"frozen", &fakeGuest{stale: "{\"return\": 17}\n{\"error\": {\"class\": \"x\", \"desc\": \"y\"}}\n"}, homeward.MarkApp},
		{"hangs at freeze", &fakeGuest{before: func(c string) bool { return c != "guest-fsfreeze-freeze" }}, homeward.MarkCrash},
		{"hangs at status", &fakeGuest{before: func(c string) bool { return c != "guest-fsfreeze-status" }}, homeward.MarkCrash},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			socket := filepath.Join(r.cfg.SocketDir, "ga")
			c.guest.serve(t, socket)
			r.request.Policy.Freeze = homeward.Hook{GuestAgent: socket, Timeout: 200 * time.Millisecond}
			r.start()
			rep := r.appCut()
			if rep.Mark.Kind != c.kind || rep.Mark.Label != "before upgrade" {
				t.Errorf("mark %+v", rep.Mark)
			}
			if status, calls := c.guest.state(); status != "thawed" || !strings.Contains(calls, "guest-fsfreeze-freeze") {
				t.Errorf("the guest is %s after %s", status, calls)
			}
			if hasAlarm(r.report(), alarmFreeze) != (c.kind == homeward.MarkCrash) {
				t.Errorf("%+v", r.report().Alarms)
			}
		})
	}
}

// A guest that thawed by itself before the cut has no application-consistent point.
func TestCut_guestThawsItself(t *testing.T) {
	r := newRig(t)
	socket := filepath.Join(r.cfg.SocketDir, "ga")
	g := &fakeGuest{}
	g.before = func(command string) bool {
		if command == "guest-fsfreeze-status" {
			g.status = "thawed"
		}
		return true
	}
	g.serve(t, socket)
	r.request.Policy.Freeze = homeward.Hook{GuestAgent: socket}
	r.request.Policy.AppEvery = 100 * time.Millisecond // also on schedule
	r.start()
	r.await("alarm", func(rep homeward.CaptureReport) bool { return hasAlarm(rep, alarmFreeze) })
	if rep := r.appCut(); rep.Mark.Kind != homeward.MarkCrash {
		t.Errorf("mark %+v", rep.Mark)
	}
}

func TestCut_commands(t *testing.T) {
	for _, c := range []struct {
		name, freeze string
		kind         homeward.MarkKind
	}{
		{"frozen", `echo frozen > "$0"`, homeward.MarkApp},
		{"fails", `echo no such database >&2; exit 3`, homeward.MarkCrash},
		{"hangs", `echo frozen > "$0"; sleep 60`, homeward.MarkCrash},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			state := filepath.Join(r.cfg.SocketDir, "state")
			r.request.Policy.Freeze = homeward.Hook{Timeout: 300 * time.Millisecond,
				FreezeCommand: []string{"/bin/sh", "-c", c.freeze, state}, ThawCommand: []string{"/bin/sh", "-c", `echo thawed > "$0"`, state}}
			r.start()
			if rep := r.appCut(); rep.Mark.Kind != c.kind {
				t.Errorf("mark %+v", rep.Mark)
			}
			if got, _ := os.ReadFile(state); string(got) != "thawed\n" {
				t.Errorf("left %q", got)
			}
			if rep := r.report(); hasAlarm(rep, alarmFreeze) != (c.kind == homeward.MarkCrash) {
				t.Errorf("%+v", rep.Alarms)
			}
		})
	}
}

// A restart thaws what was frozen when the agent died.
func TestResume_thaws(t *testing.T) {
	r := newRig(t)
	state := filepath.Join(r.cfg.SocketDir, "state")
	r.request.Policy.Freeze = homeward.Hook{FreezeCommand: []string{"/bin/true"}, ThawCommand: []string{"/bin/sh", "-c", `echo thawed > "$0"`, state}}
	r.start()
	r.close()
	note := filepath.Join(r.cfg.Dir, "items", "web01", legName(r.request.Generation), noteName)
	if err := durable.WriteFile(durable.OS(), note, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.open()
	if got, _ := os.ReadFile(state); string(got) != "thawed\n" {
		t.Errorf("left %q", got)
	}
	if _, err := os.Stat(note); err == nil {
		t.Error("the note stays")
	}
}

// A policy is written far from here: its commands run only where that was allowed.
func TestFreeze_CommandsMustBeAllowed(t *testing.T) {
	ran := filepath.Join(t.TempDir(), "ran")
	touch := []string{"/bin/sh", "-c", `echo x > "$0"`, ran}
	note := filepath.Join(t.TempDir(), "note")
	for range 2 { // the second time as after a crash between freeze and thaw
		f, err := openFreezer(durable.OS(), note, homeward.Hook{FreezeCommand: touch, ThawCommand: touch}, false)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.freeze(t.Context()); homeward.KindOf(err) != homeward.Forbidden || !strings.Contains(homeward.RemedyOf(err), "--allow-commands") {
			t.Errorf("freeze: %v", err)
		}
		if err := f.thaw(t.Context()); f.frozen && homeward.KindOf(err) != homeward.Forbidden {
			t.Errorf("thaw: %v", err)
		}
		if _, err := os.Stat(ran); err == nil {
			t.Fatal("a command ran")
		}
		if err := durable.WriteFile(durable.OS(), note, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
