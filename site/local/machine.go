package local

import (
	"context"
	"path/filepath"
	"sort"
	"strings"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
)

// machine is what is stored of one; Site.mu guards it.
type machine struct {
	Native  string                `json:"native"`
	Machine homeward.Machine      `json:"machine"`
	Disks   []homeward.Attachment `json:"disks"`
	Process process               `json:"process"` // zero: not started
	Guards  []homeward.Guard      `json:"guards,omitempty"`
}

func (s *Site) load() error {
	files, err := s.fsys.ReadDir(s.dir("machines"))
	if err != nil {
		return homeward.Errorf("open site", homeward.IO, s.dir("machines"), "make the directory readable", "%w", err)
	}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".json") {
			continue
		}
		var m machine
		if err := durable.ReadJSON(s.fsys, s.dir("machines", f.Name()), &m); err != nil {
			return err
		}
		s.machines[m.Native] = &m
	}
	return nil
}

// save makes a machine durable; the caller holds mu.
func (s *Site) save(m *machine) error {
	return durable.WriteJSON(s.fsys, s.dir("machines", m.Native+".json"), m)
}

// find resolves a reference; the caller holds mu.
func (s *Site) find(op string, ref homeward.Ref) (*machine, error) {
	if m, ok := s.machines[ref.Native]; ok {
		return m, nil
	}
	return nil, homeward.Errorf(op, homeward.NotFound, "machine "+ref.Native,
		"list the site's machines", "site %s has no such machine", s.cfg.Name)
}

func (s *Site) describe(m *machine) homeward.SiteMachine {
	power := homeward.PowerOff
	if m.Process.alive() {
		power = homeward.PowerOn
	}
	none := 0 // its disks are raw files, or what an agent exports: neither has snapshots here
	return homeward.SiteMachine{
		Ref: homeward.Ref{Native: m.Native, UUID: string(m.Machine.Item)}, Machine: s.withSystem(m.Machine), Snapshots: &none,
		Disks: append([]homeward.Attachment(nil), m.Disks...), Power: power,
		Guards: append([]homeward.Guard(nil), m.Guards...), Console: s.console(m.Native),
	}
}

// withSystem adds the operating system that a definition leaves out, where this site
// knows it: the built-in guest is a process, so it runs on its host's.
func (s *Site) withSystem(m homeward.Machine) homeward.Machine {
	if s.cfg.Guest != GuestBuiltin {
		return m
	}
	if m.OSFamily == "" {
		m.OSFamily = s.family
	}
	if m.OSVersion == "" && m.OSFamily == s.family {
		m.OSVersion = s.version
	}
	return m
}

func (s *Site) console(native string) string { return filepath.Join(s.dir("run"), native+".console") }

// Machines lists all, by name.
func (s *Site) Machines(context.Context) ([]homeward.SiteMachine, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []homeward.SiteMachine
	for _, m := range s.machines {
		out = append(out, s.describe(m))
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Ref.Native < out[j].Ref.Native })
	return out, nil
}

// Machine describes one.
func (s *Site) Machine(_ context.Context, ref homeward.Ref) (homeward.SiteMachine, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, err := s.find("describe machine", ref)
	if err != nil {
		return homeward.SiteMachine{}, err
	}
	return s.describe(m), nil
}
