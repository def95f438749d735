package service

import (
	"context"
	"iter"
	"slices"

	"github.com/homeward-dr/homeward/vault"
	"github.com/homeward-dr/homeward/vault/lifecycle"
)

// oversight is vault.Oversight: watching.
type oversight struct {
	*core
}

func (o *oversight) Alerts(ctx context.Context, q vault.Query) (vault.Page[vault.Alert], error) {
	if err := o.see(ctx); err != nil {
		return vault.Page[vault.Alert]{}, err
	}
	return o.store.Alerts.List(ctx, q)
}

func (o *oversight) AcknowledgeAlert(ctx context.Context, id string) (vault.Alert, error) {
	var alert vault.Alert
	err := o.change(ctx, asked{need: vault.Operator, action: "alert.acknowledge", subject: "alert " + id, always: true}, func(ctx context.Context) error {
		caller, err := vault.CallerOf(ctx)
		if err != nil {
			return err
		}
		alert, err = o.store.Alerts.Change(ctx, id, func(a *vault.Alert) error {
			a.AckedBy = caller.Name
			return nil
		})
		return err
	})
	return alert, err
}

func (o *oversight) Audit(ctx context.Context, q vault.Query) (vault.Page[vault.AuditEntry], error) {
	if _, err := permit(ctx, "read audit log", vault.Reader); err != nil {
		return vault.Page[vault.AuditEntry]{}, err
	}
	return o.store.AuditLog(ctx, q)
}

// watchBatch is how many events are read at once.
const watchBatch = 500

// Watch reads events from the store as they come; who stays so far behind that
// they are no longer kept there gets the store's NotFound.
func (o *oversight) Watch(ctx context.Context, req vault.WatchRequest) iter.Seq2[vault.Event, error] {
	return func(yield func(vault.Event, error) bool) {
		after := req.After
		err := o.see(ctx)
		if err == nil && after == 0 {
			after, err = o.store.LastEvent(ctx)
		}
		for err == nil {
			changed := o.store.Changed()
			var batch []vault.Event
			if batch, err = o.store.Events(ctx, after, watchBatch); err != nil {
				break
			}
			for _, e := range batch {
				after = e.ID
				if len(req.Kinds) > 0 && !slices.Contains(req.Kinds, e.Kind) {
					continue
				}
				if !yield(e, nil) {
					return
				}
			}
			if len(batch) == watchBatch {
				continue
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
		if ctx.Err() == nil {
			yield(vault.Event{}, err)
		}
	}
}

func (o *oversight) Status(ctx context.Context) (vault.Status, error) {
	if err := o.see(ctx); err != nil {
		return vault.Status{}, err
	}
	return o.status(ctx)
}

// maxMoved bounds Status.Moved.
const maxMoved = 100

// status is how the vault stands.
func (c *core) status(ctx context.Context) (s vault.Status, err error) {
	s = vault.Status{Version: c.version, Store: c.store.Kind(), Addresses: c.addresses}
	if s.Epoch, err = c.store.Epoch(ctx); err != nil {
		return s, err
	}
	if s.Why, err = c.readOnly(ctx); err != nil {
		return s, err
	}
	s.ReadOnly = s.Why != ""
	for n, err := range c.store.Nodes.All(ctx, vault.Query{}) {
		if err != nil {
			return s, err
		}
		s.Nodes++
		if s.ReadOnly && n.State != vault.NodeRevoked && c.registry.Live(n).Heartbeat.Before(c.opened) {
			s.Unheard = append(s.Unheard, n.Name)
		}
	}
	for it, err := range c.store.Items.All(ctx, vault.Query{}) {
		if err != nil {
			return s, err
		}
		s.Items++
		if len(s.Moved) < maxMoved && c.foreign(it, heard{}) == lifecycle.Yes {
			s.Moved = append(s.Moved, string(it.ID))
		}
	}
	for _, err := range c.store.Jobs.All(ctx, vault.Query{State: string(vault.JobRunning)}) {
		if err != nil {
			return s, err
		}
		s.Running++
	}
	return s, nil
}
