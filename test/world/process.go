package world

import (
	"io"
	"sync"
	"sync/atomic"

	"github.com/homeward-dr/homeward"
)

// Process is the life of one role. Everything it does to storage goes through do,
// so that its death falls between two operations. Safe for concurrent use.
type Process struct {
	name  string
	fuse  atomic.Int64 // operations left before it dies by itself; 0: no fuse
	steps atomic.Int64

	mu     sync.RWMutex // held for reading during an operation
	dead   bool
	dying  []func()    // run at death, before anything else can be done
	open   []io.Closer // connections that death cuts
	died   chan struct{}
	hangup sync.WaitGroup
}

func newProcess(name string) *Process { return &Process{name: name, died: make(chan struct{})} }

// errDead is what a ghost gets, and who calls one.
func (p *Process) errDead() error {
	return homeward.Errorf("reach", homeward.Unavailable, p.name, "start it again", "it was killed")
}

// do runs one operation of a live process.
func (p *Process) do(operation func() error) error {
	p.step()
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.dead {
		return p.errDead()
	}
	return operation()
}

// step counts an operation, and burns the fuse.
func (p *Process) step() {
	p.steps.Add(1)
	if p.fuse.Load() > 0 && p.fuse.Add(-1) == 0 {
		p.Kill()
	}
}

// KillAfter lets the process die before its nth operation on storage from now.
func (p *Process) KillAfter(operations int64) { p.fuse.Store(operations) }

// Defuse takes KillAfter back.
func (p *Process) Defuse() { p.fuse.Store(0) }

// Steps counts the operations so far.
func (p *Process) Steps() int64 { return p.steps.Load() }

// Alive reports whether the process was not killed.
func (p *Process) Alive() bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return !p.dead
}

// Kill ends the process between two operations, as SIGKILL would.
func (p *Process) Kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead {
		return
	}
	p.dead = true
	for _, f := range p.dying {
		f()
	}
	for _, c := range p.open {
		p.hangup.Go(func() { _ = c.Close() })
	}
	close(p.died)
}

// connected notes a connection that ends with the process.
func (p *Process) connected(c io.Closer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead {
		p.hangup.Go(func() { _ = c.Close() })
		return
	}
	p.open = append(p.open, c)
}

// atDeath runs f when the process is killed, with all its operations stopped.
func (p *Process) atDeath(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dying = append(p.dying, f)
}
