package powerloss

import (
	"path/filepath"
	"sync"
)

// Operations that faults can be set for. Op values beyond these match nothing.
const (
	OpOpen     = "open"
	OpRead     = "read"
	OpWrite    = "write" // Write and WriteAt; half of the bytes are written
	OpSync     = "sync"
	OpTruncate = "truncate"
	OpAllocate = "allocate"
	OpPunch    = "punch" // File.Punch and Disk.Zero
	OpRename   = "rename"
	OpRemove   = "remove"
	OpMkdir    = "mkdir"
	OpReadDir  = "readdir"
	OpStat     = "stat"
	OpSyncDir  = "syncdir"
)

// faults are what shall go wrong. The zero value is none.
type faults struct {
	mu   sync.Mutex
	list []*fault
}

type fault struct {
	op, glob string
	left     int // calls until it strikes; < 0: at every call
	err      error
	until    <-chan struct{} // waits for this first
}

// plan sets a fault for the nth call from now (1: the next one, 0: each).
func (f *faults) plan(op, glob string, nth int, err error, until <-chan struct{}) {
	if nth == 0 {
		nth = -1
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = append(f.list, &fault{op: op, glob: glob, left: nth, err: err, until: until})
}

func (f *faults) heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = nil
}

// strike is called by every operation before it does anything, without any lock.
func (f *faults) strike(op, path string) error {
	f.mu.Lock()
	var hit *fault
	for _, c := range f.list {
		if c.op != op || c.left == 0 || !matches(c.glob, path) {
			continue
		}
		if c.left > 0 {
			c.left--
		}
		if c.left <= 0 && hit == nil {
			hit = c
		}
	}
	f.mu.Unlock()
	if hit == nil {
		return nil
	}
	if hit.until != nil {
		<-hit.until
	}
	return hit.err
}

// matches holds a glob against the whole path and against its last element; "*"
// is everything, the root too.
func matches(glob, path string) bool {
	whole, _ := filepath.Match(glob, path)
	last, _ := filepath.Match(glob, filepath.Base(path))
	return whole || last || glob == "*"
}
