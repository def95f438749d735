package capture

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// notes are the sentences an operator may want to read. The zero value is empty.
type notes struct {
	mu          sync.Mutex
	start       StartKind
	reasons     map[int][]string // by disk: why blocks are suspect
	unprotected map[int][]string // by disk: why its map would not survive
}

// found notes what recovery found of a disk.
func (n *notes) found(disk int, f *found) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if startRank[f.kind] > startRank[n.start] || n.start == "" {
		n.start = f.kind
	}
	n.because(disk, f.reasons...)
}

// because adds reasons; the caller holds mu.
func (n *notes) because(disk int, reasons ...string) {
	if n.reasons == nil {
		n.reasons = map[int][]string{}
	}
	for _, r := range reasons {
		if !slices.Contains(n.reasons[disk], r) {
			n.reasons[disk] = append(n.reasons[disk], r)
		}
	}
}

func (n *notes) addSuspect(disk int, reason string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.because(disk, reason)
}

// clearSuspect forgets the reasons of a disk that has no suspect block any more.
func (n *notes) clearSuspect(disk int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.reasons, disk)
}

func (n *notes) suspect(disk int) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.reasons[disk])
}

// add notes why the map of a disk would not survive.
func (n *notes) add(disk int, why string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.unprotected == nil {
		n.unprotected = map[int][]string{}
	}
	n.unprotected[disk] = append(n.unprotected[disk], why)
}

// list is every sentence of a kind, "disk 0: …".
func (n *notes) list(pick func() map[int][]string) (out []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for disk, all := range pick() {
		for _, why := range all {
			out = append(out, fmt.Sprintf("disk %d: %s", disk, why))
		}
	}
	slices.Sort(out)
	return out
}

// holds are how long the last cuts held writes. The zero value is empty.
type holds struct {
	mu   sync.Mutex
	last []time.Duration
	next int
}

const holdsKept = 1000

func (h *holds) add(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.last) < holdsKept {
		h.last = append(h.last, d)
		return
	}
	h.last[h.next] = d
	h.next = (h.next + 1) % holdsKept
}

// p99 is the time that 99 of 100 holds did not exceed.
func (h *holds) p99() time.Duration {
	h.mu.Lock()
	sorted := slices.Clone(h.last)
	h.mu.Unlock()
	if len(sorted) == 0 {
		return 0
	}
	slices.Sort(sorted)
	return sorted[(len(sorted)*99+99)/100-1]
}
