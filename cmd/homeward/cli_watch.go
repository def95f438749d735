package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

// lookEvery is how often what is watched is looked at without an event: ages and
// rates change by themselves, and an event can be missed while the vault is away.
// The first looks come sooner, as what happens before the stream stands is missed.
const (
	firstLook = 100 * time.Millisecond
	lookEvery = 2 * time.Second
)

// patience is how many looks in a row may fail because the vault is away.
const patience = 150

// follow looks at once, with every event of the kinds, and now and then, until look
// is done or fails, or ctx ends (no error). A vault that is away for a while is
// waited for.
func (r *remote) follow(ctx context.Context, v vault.Vault, kinds []string, look func(context.Context) (done bool, err error)) error {
	ctx, cancel := context.WithCancel(ctx)
	events := make(chan struct{}, 1)
	var listening sync.WaitGroup
	defer listening.Wait()
	defer cancel()
	listening.Go(func() { wake(ctx, v, kinds, events) })
	next := firstLook
	timer := time.NewTimer(next)
	defer timer.Stop()
	for away := 0; ; {
		done, err := look(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil && done:
			return nil
		case err == nil:
			away = 0
		case !homeward.Retryable(err) || away == patience:
			return err
		default:
			if away++; away == 1 {
				r.note("the vault does not answer; trying again: %v\n", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-events:
		case <-timer.C:
			next = min(2*next, lookEvery)
		}
		timer.Reset(next)
	}
}

// wake wakes whoever reads events, at most once ahead. A stream that breaks is
// opened again.
func wake(ctx context.Context, v vault.Vault, kinds []string, events chan<- struct{}) {
	for ctx.Err() == nil {
		for _, err := range v.Watch(ctx, vault.WatchRequest{Kinds: kinds}) {
			if err != nil {
				break
			}
			select {
			case events <- struct{}{}:
			default:
			}
		}
		pause := time.NewTimer(lookEvery)
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
		pause.Stop()
	}
}

// watched remembers what was shown of each thing, so that a pipe gets one line per
// change, below the heading.
type watched struct {
	said  map[string]string
	shape columns
}

// print writes the rows that are new or not as they were; the heading comes first,
// once. Keys are those of the rows after the heading.
func (w *watched) print(c *command, rows [][]any, keys []string) error {
	var out [][]any
	if w.said == nil {
		w.said = map[string]string{}
		out = append(out, rows[0])
	}
	for i, row := range rows[1:] {
		if w.isNew(keys[i], fmt.Sprint(row...)) {
			out = append(out, row)
		}
	}
	return c.plainTable(out, &w.shape)
}

// isNew says whether that was not what was said last of the key.
func (w *watched) isNew(key, now string) bool {
	if w.said == nil {
		w.said = map[string]string{}
	}
	if w.said[key] == now {
		return false
	}
	w.said[key] = now
	return true
}

// clear empties a terminal.
func (r *remote) clear() error {
	_, err := fmt.Fprint(r.out, "\x1b[H\x1b[2J")
	return err
}
