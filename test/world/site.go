package world

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/agent"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/durable/powerloss"
	"github.com/homeward-dr/homeward/mastertarget"
	"github.com/homeward-dr/homeward/nbd"
	"github.com/homeward-dr/homeward/processserver"
	"github.com/homeward-dr/homeward/recovery"
)

// Site is one site: storage, an agent, a process server, a master target, and
// where machines run.
type Site struct {
	Name  string
	Hyper *Hypervisor

	Agent   *life[homeward.Agent]
	Process *life[homeward.ProcessServer]
	Target  *life[homeward.MasterTarget]
	// Spare is a second master target, which sees the same disks; from AddTarget on.
	Spare *life[homeward.MasterTarget]

	power sync.Mutex // held while it is off
	world *World
	dir   string // on tmpfs: sockets and live maps

	mu    sync.Mutex               // guards what follows
	files map[string]*powerloss.FS // by role
	media map[string]*Medium       // by reference
	lives int                      // directories of live maps so far
	boots int                      // power losses so far
}

const (
	agentRole   = "agent"
	processRole = "ps"
	targetRole  = "mt"
	spareRole   = "mt2"
)

func newSite(w *World, name, dir string) (*Site, error) {
	s := &Site{Name: name, world: w, dir: filepath.Join(dir, name), media: map[string]*Medium{},
		files: map[string]*powerloss.FS{agentRole: powerloss.New(), processRole: powerloss.New(), targetRole: powerloss.New(), spareRole: powerloss.New()}}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, err
	}
	s.Hyper = newHypervisor(s)
	s.Agent = startLife(name+"/"+agentRole, w.fail, s.openAgent)
	s.Process = startLife(name+"/"+processRole, w.fail, s.openProcess)
	s.Target = startLife(name+"/"+targetRole, w.fail, s.openTarget(targetRole))
	return s, nil
}

// Side is the site as package recovery sees it, for a machine.
func (s *Site) Side(m homeward.Machine) *recovery.Side {
	side := &recovery.Side{Name: s.Name, Site: s.Hyper, SinkURL: URL(s.Name, processRole), TargetURL: URL(s.Name, targetRole), TargetName: s.Name + "/" + targetRole,
		Agent: agentProxy{slot[homeward.Agent]{s.Agent.current}}, Process: processProxy{slot[homeward.ProcessServer]{s.Process.current}},
		Target: targetProxy{slot[homeward.MasterTarget]{s.Target.current}}}
	for _, d := range m.Disks {
		side.Disks = append(side.Disks, mediumRef(m.Item, d.ID))
	}
	return side
}

// AddTarget starts a second master target at the site.
func (s *Site) AddTarget(ctx context.Context) error {
	s.Spare = startLife(s.Name+"/"+spareRole, s.world.fail, s.openTarget(spareRole))
	_, err := s.Spare.Await(ctx)
	return err
}

// LoseTarget kills the first master target, and none is started in its place before
// FindTarget.
func (s *Site) LoseTarget() { s.Target.cutPower() }

// FindTarget starts the first master target again, with the files that it left.
func (s *Site) FindTarget(ctx context.Context) error {
	s.Target.restorePower()
	_, err := s.Target.Await(ctx)
	return err
}

// SpareSide is Side with the second master target.
func (s *Site) SpareSide(m homeward.Machine) *recovery.Side {
	side := s.Side(m)
	side.TargetURL, side.TargetName = URL(s.Name, spareRole), s.Name+"/"+spareRole
	side.Target = targetProxy{slot[homeward.MasterTarget]{s.Spare.current}}
	return side
}

func mediumRef(item homeward.ItemID, d homeward.DiskID) string {
	return "medium:/" + string(item) + "/" + string(d)
}

// Medium is a disk of the site, made by need.
func (s *Site) Medium(item homeward.ItemID, d homeward.Disk) *Medium {
	s.mu.Lock()
	defer s.mu.Unlock()
	ref := mediumRef(item, d.ID)
	if s.media[ref] == nil {
		s.media[ref] = &Medium{ref: ref, disk: powerloss.NewDisk(d.Size)}
	}
	return s.media[ref]
}

// processFS is the files of a role for a new process; they end with it.
func (s *Site) processFS(role string, p *Process) durable.FS {
	s.mu.Lock()
	defer s.mu.Unlock()
	files := s.files[role]
	p.atDeath(files.Kill)
	return processFS{p, files}
}

func (s *Site) openers(p *Process) block.Openers {
	remote := openRemote(p, nbd.Opener(nbd.ClientOptions{ReconnectDeadline: 10 * time.Second}))
	return block.Openers{"nbd+unix": remote, "medium": func(_ context.Context, ref string, mode block.Mode) (block.Disk, error) {
		s.mu.Lock()
		m := s.media[ref]
		if m == nil && mode.Create {
			m = &Medium{ref: ref, disk: powerloss.NewDisk(mode.Size)}
			s.media[ref] = m
		}
		s.mu.Unlock()
		if m == nil {
			return nil, homeward.Errorf("open disk", homeward.NotFound, ref, "create it", "no such disk")
		}
		return m.open(p, mode)
	}}
}

func (s *Site) openAgent(p *Process) (instance[homeward.Agent], error) {
	s.mu.Lock()
	live := s.liveDir()
	s.mu.Unlock()
	p.atDeath(func() {
		if err := s.passOnLive(live); err != nil {
			s.world.fail(err)
		}
	})
	a, err := agent.Open(context.Background(), agent.Config{
		Dir: "/agent", LiveDir: live, SocketDir: s.dir, FS: s.processFS(agentRole, p), Openers: s.openers(p),
		Dial: s.world.Net.dial(p), Log: s.world.log(p.name),
		Tuning: agent.Tuning{AskTimeout: 2 * time.Second, PutTimeout: 15 * time.Second, RetryInterval: 20 * time.Millisecond,
			RestartWait: 100 * time.Millisecond, RebootWait: 200 * time.Millisecond, PrecopyBytes: s.world.precopy},
	})
	if err != nil {
		return instance[homeward.Agent]{}, err
	}
	return instance[homeward.Agent]{a, a.Close}, nil
}

func (s *Site) openProcess(p *Process) (instance[homeward.ProcessServer], error) {
	ps, err := processserver.Open(context.Background(), processserver.Config{
		Dir: "/spool", SpoolBytes: 64 << 20, FS: s.processFS(processRole, p), Dial: s.world.Net.dial(p), Log: s.world.log(p.name),
		Patience: time.Second, Grace: 20 * time.Millisecond, Retry: 20 * time.Millisecond,
	})
	if err != nil {
		return instance[homeward.ProcessServer]{}, err
	}
	s.world.Net.register(p.name, ps, p)
	return instance[homeward.ProcessServer]{ps, func(context.Context) error { return ps.Close() }}, nil
}

func (s *Site) openTarget(role string) func(*Process) (instance[homeward.MasterTarget], error) {
	return func(p *Process) (instance[homeward.MasterTarget], error) { return s.openTargetAs(role, p) }
}

func (s *Site) openTargetAs(role string, p *Process) (instance[homeward.MasterTarget], error) {
	none := instance[homeward.MasterTarget]{}
	socket := filepath.Join(s.dir, role+".sock")
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return none, err
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return none, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	server := nbd.NewServer(nbd.ServerOptions{Log: s.world.log(p.name)})
	var serving sync.WaitGroup
	s.mu.Lock()
	boot := fmt.Sprintf("boot %d", s.boots)
	s.mu.Unlock()
	t, err := mastertarget.Open(ctx, mastertarget.Config{
		Dir: "/retention", FS: s.processFS(role, p), Openers: s.openers(p), NBD: server,
		URI:  func(export string) string { return nbd.URI{Network: "unix", Address: socket, Export: export}.String() },
		Free: func(string) (int64, error) { return 1 << 40, nil }, ThinEvery: 100 * time.Millisecond, Boot: boot, Patience: time.Second, Log: s.world.log(p.name),
	})
	if err != nil {
		cancel()
		return none, errors.Join(err, l.Close(), server.Close(ctx))
	}
	// Views are back before anybody who waits for them is answered.
	serving.Go(func() { _ = server.Serve(ctx, l) })
	s.world.Net.register(p.name, t, p)
	return instance[homeward.MasterTarget]{t, func(end context.Context) error {
		cancel()
		defer serving.Wait() // it takes the socket away: not that of the next process
		if !p.Alive() {
			err := server.Close(end) // connections of a dead process break first
			return errors.Join(err, t.Close(end))
		}
		return errors.Join(t.Close(end), server.Close(end))
	}}, nil
}

// liveDir is where live maps are; s.mu is held.
func (s *Site) liveDir() string { return filepath.Join(s.dir, fmt.Sprintf("live-%d", s.lives)) }

// passOnLive copies the live maps of a process that is just killed for its
// successor. Storage stands still meanwhile; bits may still move from one map to
// another, so it is copied until two copies agree.
func (s *Site) passOnLive(from string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lives++
	to := s.liveDir()
	for {
		first, err := readTree(from)
		if err != nil {
			return err
		}
		second, err := readTree(from)
		if err != nil {
			return err
		}
		if !sameTree(first, second) {
			continue
		}
		for name, data := range second {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(to, name)), 0o700); err != nil {
				return err
			}
			if err := durable.WriteFile(durable.OS(), filepath.Join(to, name), data, 0o600); err != nil {
				return err
			}
		}
		return nil
	}
}

func readTree(dir string) (map[string][]byte, error) {
	files := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) { // removed just now
			return nil
		}
		name, relErr := filepath.Rel(dir, path)
		files[name] = data
		return errors.Join(err, relErr)
	})
	return files, err
}

func sameTree(a, b map[string][]byte) bool {
	if len(a) != len(b) {
		return false
	}
	for name, data := range a {
		if other, ok := b[name]; !ok || !bytes.Equal(data, other) {
			return false
		}
	}
	return true
}

// PowerLoss takes the power from the whole site and gives it back: guests and roles
// are gone, files and disks lose what was not synced, tmpfs is empty.
func (s *Site) PowerLoss(ctx context.Context) error {
	s.power.Lock()
	defer s.power.Unlock()
	s.Hyper.losePower()
	s.Agent.cutPower()
	s.Process.cutPower()
	s.Target.cutPower()
	if s.Spare != nil {
		s.Spare.cutPower()
	}
	rng := s.world.newRand()
	s.mu.Lock()
	for role, files := range s.files {
		s.files[role] = files.Crash(rng)
	}
	for _, m := range s.media {
		m.losePower(rng)
	}
	s.lives++
	s.boots++
	s.mu.Unlock()
	s.Agent.restorePower()
	s.Process.restorePower()
	s.Target.restorePower()
	if s.Spare != nil {
		s.Spare.restorePower()
	}
	return s.Await(ctx)
}

// PowerLossAfter takes the power from the site when a process of it has done so
// many operations on storage; the process dies before the next.
func (s *Site) PowerLossAfter(p *Process, operations int64) {
	p.KillAfter(operations)
	s.world.background.Go(func() {
		select {
		case <-p.died:
			if err := s.PowerLoss(context.Background()); err != nil {
				s.world.fail(err)
			}
		case <-s.world.ending:
		}
	})
}

// LoseSpool kills the process server and empties its spool, as a new machine in its
// place would find it.
func (s *Site) LoseSpool(ctx context.Context) error {
	s.power.Lock()
	defer s.power.Unlock()
	s.Process.cutPower()
	s.mu.Lock()
	s.files[processRole] = powerloss.New()
	s.mu.Unlock()
	s.Process.restorePower()
	return s.Await(ctx)
}

// Await returns when all roles run.
func (s *Site) Await(ctx context.Context) error {
	_, a := s.Agent.Await(ctx)
	_, b := s.Process.Await(ctx)
	_, c := s.Target.Await(ctx)
	return errors.Join(a, b, c)
}

// Newest is the newest generation of an item that a role here has heard of, as its
// heartbeat tells it: also of one that it has released.
func (s *Site) Newest(item homeward.ItemID) (newest homeward.Generation) {
	hear := func(role any, err error) {
		if teller, tells := role.(interface {
			Generations() map[homeward.ItemID]homeward.Generation
		}); err == nil && tells {
			if g := teller.Generations()[item]; g.Number > newest.Number {
				newest = g
			}
		}
	}
	a, err := s.Agent.current()
	hear(a.role, err)
	p, err := s.Process.current()
	hear(p.role, err)
	t, err := s.Target.current()
	hear(t.role, err)
	return newest
}

func (s *Site) stop() {
	s.Hyper.stop()
	s.Agent.stop()
	s.Process.stop()
	s.Target.stop()
	if s.Spare != nil {
		s.Spare.stop()
	}
}
