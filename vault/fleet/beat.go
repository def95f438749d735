package fleet

import (
	"bytes"
	"context"
	"math/rand/v2"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

// missedAfter is after how many intervals without a heartbeat a node counts as
// disconnected.
const missedAfter = 3

// dispatch begins the heartbeats that are due, as many as may run at a time; the
// others are due still, a tick later.
func (f *Fleet) dispatch(ctx context.Context) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.o.Now()
	for _, l := range f.nodes {
		if l.beating || l.node.State == vault.NodeRevoked || now.Before(l.next) {
			continue
		}
		select {
		case f.slots <- struct{}{}:
		default:
			return
		}
		l.beating = true
		f.work.Go(func() {
			defer func() { <-f.slots }()
			_ = f.beat(ctx, l) // what it is about is in the node's state
		})
	}
}

// beat asks a node for its heartbeat and takes it in.
func (f *Fleet) beat(ctx context.Context, l *live) error {
	ctx, cancel := context.WithTimeout(ctx, beatTimeout)
	defer cancel()
	f.mu.Lock()
	req := homeward.HealthRequest{Generations: l.ask}
	if !bytes.Equal(l.hasList, f.list) {
		req.Revocations = f.list
	}
	node := l.node
	f.mu.Unlock()
	sent := f.o.Now()
	report, err := l.member.Health(ctx, req)
	came := f.o.Now()
	told, unheard := f.heed(ctx, node, report.Generations)
	f.relearn(node.Name, report.Revocations)

	version := ""
	if n, lost := f.o.Hub.Node(node.Name); lost == nil {
		version = cut(n.Status().Version, maxName)
	}
	f.mu.Lock()
	l.beating = false
	// Jitter, so that nodes that connected together do not beat together.
	l.next = came.Add(f.o.Interval*9/10 + rand.N(f.o.Interval/5+1))
	before, whole := l.node, false
	switch {
	case err == nil:
		l.hear(report, sent, came, version)
		f.hearGenerations(told)
		if whole = req.Generations && unheard == nil; whole { // the first of its connection: a restored vault waits for it
			l.ask, l.dirty = false, true
			f.lookAgain(node.Name)
		}
		if req.Revocations != nil {
			l.hasList = req.Revocations
		}
	case homeward.KindOf(err) == homeward.Unsupported && l.node.State != vault.NodeRevoked:
		// It is of the version before heartbeats: it lives, and tells nothing. So it is
		// not heard, which a restored vault must know.
		l.node.State = vault.NodeReady
	default:
		f.miss(l, came)
	}
	after, noted := l.node, whole || noteworthy(before, l.node)
	l.stale, l.dirty = true, l.dirty || noted
	f.mu.Unlock()
	if noted {
		f.nudge()
		f.o.Noted(after)
	}
	if err == nil {
		err = unheard
	}
	return err
}

// hear takes in a heartbeat.
func (l *live) hear(r homeward.HealthReport, sent, came time.Time, version string) {
	if l.node.State == vault.NodeRevoked {
		return
	}
	l.node.State, l.node.Heartbeat = vault.NodeReady, came.UTC()
	l.doubt = came.Sub(sent) / 2
	l.node.Skew = r.At.Sub(sent.Add(l.doubt))
	r.Generations, r.Revocations = nil, nil // kept for the whole fleet
	l.believe(&r)
	l.node.Health = r
	if version != "" {
		l.node.Version = version
	}
}

// miss takes in that none came. A node that registers goes on registering; nothing
// that was told before is forgotten, for it is not known to be otherwise.
func (f *Fleet) miss(l *live, now time.Time) {
	last := l.node.Heartbeat
	if last.Before(f.begun) {
		last = f.begun // the vault itself was away before that
	}
	if l.node.State == vault.NodeReady && now.Sub(last) > missedAfter*f.o.Interval {
		l.node.State = vault.NodeDisconnected
	}
}

func (f *Fleet) hearGenerations(all map[homeward.ItemID]homeward.Generation) {
	for item, g := range all {
		_, known := f.generations[item]
		if g.Number > f.generations[item].Number && (known || len(f.generations) < maxItems) {
			f.generations[item] = g
			f.unsaved = true
		}
	}
}

// Refresh asks a node for a heartbeat now, with everything it can tell, and writes
// it down. Errors: NotFound, Unavailable and what else the node answers; the node
// that is told beside them is what was known before.
func (f *Fleet) Refresh(ctx context.Context, name string) (vault.Node, error) {
	f.mu.Lock()
	l := f.nodes[name]
	if l == nil {
		f.mu.Unlock()
		return vault.Node{}, unknown("refresh node", name)
	}
	l.ask = true
	f.mu.Unlock()
	err := f.beat(ctx, l)
	f.mu.Lock()
	l.dirty = true
	f.mu.Unlock()
	if flushed := f.flush(ctx); err == nil {
		err = flushed
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return l.node, homeward.Wrap(err, "refresh node", name)
}
