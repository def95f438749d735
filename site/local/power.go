package local

import (
	"context"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
)

// Create defines a machine; its native id is its item's.
func (s *Site) Create(_ context.Context, key string, m homeward.Machine, disks []homeward.Attachment) (homeward.Operation, error) {
	if err := m.Validate(); err != nil {
		return homeward.Operation{}, err
	}
	return s.begin(key, func(context.Context) (homeward.Ref, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		native := string(m.Item)
		if old, ok := s.machines[native]; ok && old.Process.alive() {
			return homeward.Ref{}, homeward.Errorf("create machine", homeward.Exists, native, "power it off and delete it first", "it exists and runs")
		}
		def := &machine{Native: native, Machine: m, Disks: disks}
		if err := s.save(def); err != nil {
			return homeward.Ref{}, err
		}
		s.machines[native] = def
		return homeward.Ref{Native: native, UUID: native}, nil
	})
}

// PowerOn starts a machine; one that runs already is left running.
func (s *Site) PowerOn(_ context.Context, key string, ref homeward.Ref) (homeward.Operation, error) {
	return s.begin(key, func(context.Context) (homeward.Ref, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		m, err := s.find("power on", ref)
		if err != nil {
			return ref, err
		}
		if m.Process.alive() {
			return ref, nil
		}
		for _, g := range m.Guards {
			if g.Kind == homeward.GuardNoPowerOn {
				return ref, homeward.Errorf("power on", homeward.InUse, "machine "+ref.Native,
					"release the guard of "+g.Owner+" first", "guarded: %s", g.Reason)
			}
		}
		p, err := s.launch(m)
		if err != nil {
			return ref, err
		}
		m.Process = p
		return ref, s.save(m)
	})
}

// PowerOff stops a machine: gracefully first where asked, then by pulling the plug.
func (s *Site) PowerOff(_ context.Context, key string, ref homeward.Ref, how homeward.Stop) (homeward.Operation, error) {
	return s.begin(key, func(ctx context.Context) (homeward.Ref, error) {
		s.mu.Lock()
		m, err := s.find("power off", ref)
		var p process
		if err == nil {
			p = m.Process
		}
		s.mu.Unlock()
		if err != nil || !p.alive() {
			return ref, err
		}
		if how.Graceful {
			giveUp := s.askToStop(m.Native, p)
			defer giveUp()
			waitCtx, cancel := context.WithTimeout(ctx, max(how.Timeout, time.Second))
			defer cancel()
			if p.wait(waitCtx) == nil {
				return ref, nil
			}
		}
		if err := p.kill(); err != nil {
			return ref, homeward.Errorf("power off", homeward.IO, "machine "+ref.Native, "end the process by hand", "%w", err)
		}
		killCtx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		return ref, homeward.Wrap(p.wait(killCtx), "power off", "machine "+ref.Native)
	})
}

// Delete forgets a machine that is off; its disks stay.
func (s *Site) Delete(_ context.Context, key string, ref homeward.Ref) (homeward.Operation, error) {
	return s.begin(key, func(context.Context) (homeward.Ref, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		m, ok := s.machines[ref.Native]
		if !ok {
			return ref, nil
		}
		if m.Process.alive() {
			return ref, homeward.Errorf("delete machine", homeward.InUse, ref.Native, "power it off first", "it runs")
		}
		if err := durable.Remove(s.fsys, s.dir("machines", m.Native+".json")); err != nil {
			return ref, err
		}
		delete(s.machines, ref.Native)
		return ref, nil
	})
}
