package service

import (
	"strings"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

func found(native, uuid string, sizes ...int64) homeward.SiteMachine {
	m := homeward.SiteMachine{Ref: homeward.Ref{Native: native, UUID: uuid}, Power: homeward.PowerOn}
	for i, size := range sizes {
		id := homeward.DiskID("d" + string(rune('0'+i)))
		m.Machine.Disks = append(m.Machine.Disks, homeward.Disk{ID: id, Size: size})
		m.Disks = append(m.Disks, homeward.Attachment{Disk: id, Ref: "file:/ds/" + native + string(id)})
	}
	return m
}

func known(site string, m homeward.SiteMachine) vault.Machine {
	return vault.Machine{ID: machineID(site, m.Ref), Site: site, Found: m, Presence: vault.Present, Seen: time.Unix(1000, 0)}
}

func protects(m homeward.SiteMachine) protectedMachine {
	p := protectedMachine{item: "web", disks: m.Machine.Disks}
	for _, a := range m.Disks {
		p.refs = append(p.refs, a.Ref)
	}
	return p
}

// What the inventory finds, by what has changed at the site.
func TestReconcile(t *testing.T) {
	old := found("vm-1", "u1", 512, 1024)
	grown, shrunk, added, removed, moved, captured := found("vm-1", "u1", 512, 2048), found("vm-1", "u1", 512, 512), found("vm-1", "u1", 512, 1024, 512),
		found("vm-1", "u1", 512), found("vm-1", "u1", 512, 1024), found("vm-1", "u1", 512, 1024)
	moved.Disks[0].Ref = "file:/other/d0"
	captured.Disks[0].Ref, captured.Disks[1].Ref = "nbd+unix:///a", "nbd+unix:///b"
	temporary := found("vm-1", "u1", 512, 1024, 512)
	temporary.Disks[2].Temporary = true
	for name, c := range map[string]struct {
		seen []homeward.SiteMachine
		want string // codes of findings
	}{
		"as it was":               {[]homeward.SiteMachine{old}, ""},
		"disk grown":              {[]homeward.SiteMachine{grown}, diskGrown},
		"disk shrunk":             {[]homeward.SiteMachine{shrunk}, diskShrunk},
		"disk added":              {[]homeward.SiteMachine{added}, diskAdded},
		"temporary disk added":    {[]homeward.SiteMachine{temporary}, ""},
		"disk removed":            {[]homeward.SiteMachine{removed}, diskRemoved},
		"disk moved":              {[]homeward.SiteMachine{moved}, diskMoved},
		"on its agent's disks":    {[]homeward.SiteMachine{captured}, ""},
		"gone":                    {nil, machineGone},
		"another name, same UUID": {[]homeward.SiteMachine{found("vm-9", "u1", 512, 1024)}, machineMoved + " " + diskMoved + " " + diskMoved},
	} {
		before := known("home", old)
		before.Item = "web"
		s := reconcile("home", []vault.Machine{before}, c.seen, map[string]protectedMachine{before.ID: protects(old)}, time.Unix(2000, 0))
		var codes []string
		for _, m := range s.put {
			if m.Item != "web" {
				t.Errorf("%s: machine %s lost its item", name, m.ID)
			}
			for _, f := range m.Findings {
				codes = append(codes, f.Rule)
			}
		}
		if got := strings.Join(codes, " "); got != c.want {
			t.Errorf("%s: found %q, expected %q", name, got, c.want)
		}
	}
}

// A machine under another name is the same one; its item follows.
func TestReconcile_Moved(t *testing.T) {
	s := reconcile("home", []vault.Machine{known("home", found("vm-1", "u1", 512))}, []homeward.SiteMachine{found("vm-2", "u1", 512)}, nil, time.Unix(2000, 0))
	if s.moved["home/vm-1"] != "home/vm-2" || len(s.put) != 1 || s.put[0].ID != "home/vm-2" || s.put[0].Revision != 0 {
		t.Fatalf("%+v", s)
	}
}

// Gone machines that nobody protects are listed for a day.
func TestReconcile_Forgets(t *testing.T) {
	m := known("home", found("vm-1", "", 512))
	m.Presence = vault.Gone
	for at, forgotten := range map[time.Time]int{m.Seen.Add(time.Hour): 0, m.Seen.Add(25 * time.Hour): 1} {
		if s := reconcile("home", []vault.Machine{m}, nil, nil, at); len(s.forgotten) != forgotten || len(s.put) != 0 {
			t.Errorf("after %v: %+v", at.Sub(m.Seen), s)
		}
	}
	if s := reconcile("home", []vault.Machine{m}, nil, map[string]protectedMachine{m.ID: {item: "web"}}, m.Seen.Add(25*time.Hour)); len(s.forgotten) != 0 {
		t.Errorf("a protected one was forgotten: %+v", s)
	}
}

// A site that cannot be asked changes nothing but that its machines are not seen.
func TestUnseen(t *testing.T) {
	gone := known("home", found("vm-2", "", 512))
	gone.Presence = vault.Gone
	put := unseen([]vault.Machine{known("home", found("vm-1", "", 512)), gone})
	if len(put) != 1 || put[0].ID != "home/vm-1" || put[0].Presence != vault.Unseen {
		t.Fatalf("%+v", put)
	}
}
