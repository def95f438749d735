package fleet

import (
	"cmp"
	"context"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

const (
	// probeBytes is what a probe sends: 1 MiB for each way in five minutes.
	probeBytes   = 1 << 20
	probeTimeout = 10 * time.Second
)

// Pair is a way that is needed: From sends to the data face of To, at its address
// of that purpose. Both are names of nodes.
type Pair struct {
	From    string
	To      string
	Purpose vault.Purpose
}

// PairsOf are the ways that items need: from an agent to its process server, and
// from there to the master target of the other site, both ways. Each is told once.
func PairsOf(items iter.Seq2[vault.Item, error]) ([]Pair, error) {
	seen := map[Pair]bool{}
	var all []Pair
	add := func(from, to string, p vault.Purpose) {
		pair := Pair{from, to, p}
		if from != "" && to != "" && !seen[pair] {
			seen[pair] = true
			all = append(all, pair)
		}
	}
	for it, err := range items {
		if err != nil {
			return nil, err
		}
		add(it.Original.Agent, it.Original.ProcessServer, vault.Production)
		add(it.Original.ProcessServer, it.Recovery.MasterTarget, vault.Production)
		add(it.Recovery.Agent, it.Recovery.ProcessServer, vault.Failback)
		add(it.Recovery.ProcessServer, it.Original.MasterTarget, vault.Failback)
	}
	return all, nil
}

// probe begins the probes that are due, unless they are being looked for. At most four
// run at a time; a way has at most one that waits for its turn, and none holds up the
// search for others.
func (f *Fleet) probe(ctx context.Context) {
	if f.o.Pairs == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.o.Now()
	if f.listing || now.Before(f.nextRound) {
		return
	}
	f.listing, f.nextRound = true, now.Add(f.o.Probes/20)
	f.work.Go(func() {
		f.round(ctx)
		f.mu.Lock()
		defer f.mu.Unlock()
		f.listing = false
		if f.o.Now().After(f.nextRound) { // asked for meanwhile
			f.nudge()
		}
	})
}

func (f *Fleet) round(ctx context.Context) {
	pairs, err := f.o.Pairs(ctx)
	if err != nil {
		if ctx.Err() == nil {
			f.o.Log.Warn("the ways between nodes could not be listed; it is tried again", "error", err)
		}
		return
	}
	f.forget(pairs)
	for _, p := range pairs {
		if !f.claim(p) {
			continue
		}
		f.work.Go(func() {
			select {
			case f.lanes <- struct{}{}:
				defer func() { <-f.lanes }()
				f.probeWay(ctx, p)
			case <-ctx.Done():
			}
		})
	}
}

// lookAgain makes the ways from and to a node due: it has just come, and what was
// found out about them before says nothing of now. f.mu is held.
func (f *Fleet) lookAgain(name string) {
	for p := range f.ways {
		if p.From == name || p.To == name {
			delete(f.ways, p)
		}
	}
	f.nextRound = time.Time{}
	f.nudge()
}

// forget drops ways that are no longer needed, and what was found out about them.
func (f *Fleet) forget(pairs []Pair) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for way := range f.ways {
		if !slices.Contains(pairs, way) {
			delete(f.ways, way)
		}
	}
	for name, l := range f.nodes {
		kept := slices.DeleteFunc(slices.Clone(l.node.Reachables), func(r homeward.ProbeReport) bool {
			return !slices.ContainsFunc(pairs, func(p Pair) bool { return p.From == name && p.To == r.Peer })
		})
		if len(kept) != len(l.node.Reachables) {
			l.node.Reachables, l.dirty = kept, true
		}
	}
}

// claim reports whether a way is due, and makes it due again later.
func (f *Fleet) claim(p Pair) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.o.Now()
	if now.Before(f.ways[p]) || f.nodes[p.From] == nil || f.nodes[p.From].node.State != vault.NodeReady {
		return false
	}
	f.ways[p] = now.Add(f.o.Probes*9/10 + rand.N(f.o.Probes/5+1))
	return true
}

// probeWay asks one node to reach another. That it cannot be asked says nothing
// about the way: what was found before stays, with its time.
func (f *Fleet) probeWay(ctx context.Context, p Pair) {
	url, err := f.URLFor(p.To, p.Purpose)
	if err != nil {
		return // an address is missing: the readiness rules say so
	}
	ctx, cancel := context.WithTimeout(ctx, 2*probeTimeout)
	defer cancel()
	f.mu.Lock()
	l := f.nodes[p.From]
	f.mu.Unlock()
	if l == nil {
		return
	}
	began := f.o.Now().UTC()
	report, err := l.member.Probe(ctx, homeward.ProbeRequest{Peer: p.To, URL: url, Bytes: probeBytes, Timeout: probeTimeout})
	if err != nil {
		return
	}
	report.Peer, report.URL, report.At = p.To, url, began
	f.mu.Lock()
	if !report.Reachable { // perhaps it is only starting
		f.ways[p] = began.Add(f.o.Probes / 20)
	}
	after, noted := l.enter(report)
	f.mu.Unlock()
	if noted {
		f.nudge()
		f.o.Noted(after)
	}
}

// enter takes in a probe, unless a newer one was faster. It reports whether that is of
// note.
func (l *live) enter(report homeward.ProbeReport) (vault.Node, bool) {
	same := func(r homeward.ProbeReport) bool { return r.Peer == report.Peer && r.URL == report.URL }
	if at := slices.IndexFunc(l.node.Reachables, same); at >= 0 && l.node.Reachables[at].At.After(report.At) {
		return l.node, false
	}
	before := l.node
	l.node.Reachables = append(slices.DeleteFunc(slices.Clone(l.node.Reachables), same), report)
	slices.SortFunc(l.node.Reachables, func(a, b homeward.ProbeReport) int {
		return cmp.Or(strings.Compare(a.Peer, b.Peer), strings.Compare(a.URL, b.URL))
	})
	noted := noteworthy(before, l.node)
	l.stale, l.dirty = true, l.dirty || noted
	return l.node, noted
}
