package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

const (
	writeEvery = time.Minute // a row whose node is well and does not change
	batch      = 100         // rows of one transaction
)

// flush writes what is worth it: first the generations that were reported, then the
// rows, so that a row that says "heard" never stands without what was heard (a
// restored vault relies on it); then alerts.
func (f *Fleet) flush(ctx context.Context) error {
	f.flushing.Lock()
	defer f.flushing.Unlock()
	f.mu.Lock()
	reread := f.o.Now().Sub(f.listRead) > listEvery
	f.mu.Unlock()
	if reread {
		if err := f.readList(); err != nil {
			return err
		}
	}
	if err := f.saveGenerations(ctx); err != nil {
		return err
	}
	now := f.o.Now().UTC()
	if err := f.saveRows(ctx, f.due(now), now); err != nil {
		return err
	}
	return f.settleAll(ctx, now)
}

func (f *Fleet) saveGenerations(ctx context.Context) error {
	f.mu.Lock()
	if !f.unsaved {
		f.mu.Unlock()
		return nil
	}
	text, err := json.Marshal(f.generations)
	f.unsaved = false
	f.mu.Unlock()
	if err == nil {
		err = f.o.Store.SetSetting(ctx, settingGenerations, string(text))
	}
	if err != nil {
		f.mu.Lock()
		f.unsaved = true
		f.mu.Unlock()
	}
	return err
}

// due are the nodes whose rows are to be written now.
func (f *Fleet) due(now time.Time) []*live {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []*live
	for _, l := range f.nodes {
		if l.dirty || l.stale && now.Sub(l.written) >= writeEvery {
			list = append(list, l)
		}
	}
	return list
}

func (f *Fleet) saveRows(ctx context.Context, due []*live, now time.Time) error {
	for len(due) > 0 {
		part := due[:min(batch, len(due))]
		due = due[len(part):]
		rows := make([]vault.Node, len(part))
		f.mu.Lock()
		for i, l := range part {
			rows[i] = l.node
			l.dirty, l.stale, l.written = false, false, now
		}
		f.mu.Unlock()
		err := f.o.Store.Tx(ctx, func(ctx context.Context) error {
			for i := range rows {
				if err := f.saveRow(ctx, &rows[i]); err != nil {
					return err
				}
			}
			return nil
		})
		f.mu.Lock()
		for i, l := range part {
			if err != nil {
				l.dirty = true
			} else {
				l.adopt(rows[i])
			}
		}
		f.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// saveRow changes what is told by heartbeats and probes, and reads the rest.
func (f *Fleet) saveRow(ctx context.Context, row *vault.Node) error {
	now, err := f.o.Store.Nodes.Change(ctx, row.Name, func(n *vault.Node) error {
		overlay(n, *row)
		return nil
	})
	if homeward.KindOf(err) == homeward.NotFound { // somebody removed it: it is refused when it next connects
		return nil
	}
	*row = now
	return err
}

// adopt takes from a row what others write.
func (l *live) adopt(row vault.Node) {
	if !row.Enrolled.Equal(l.node.Enrolled) {
		return // Learn is on its way
	}
	overlay(&row, l.node)
	l.node = row
}

// settleAll judges every node. Alerts that stand cost nothing.
func (f *Fleet) settleAll(ctx context.Context, now time.Time) error {
	type judged struct {
		l      *live
		name   string
		raised map[string]vault.Alert
		found  []vault.Alert
	}
	var all []judged
	f.mu.Lock()
	for name, l := range f.nodes {
		found := judge(l.node, l.doubt, now)
		if len(found) > 0 || len(l.raised) > 0 {
			all = append(all, judged{l, name, maps.Clone(l.raised), found})
		}
	}
	f.mu.Unlock()
	var failed error
	for _, j := range all {
		if err := f.settle(ctx, j.name, j.raised, j.found, now); err != nil {
			failed = errors.Join(failed, err)
		}
		f.mu.Lock()
		j.l.raised = j.raised
		f.mu.Unlock()
		if failed != nil {
			return failed // the store is in trouble: the rest can wait
		}
	}
	return nil
}
