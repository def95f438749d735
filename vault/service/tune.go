package service

import (
	"context"
	"fmt"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/vault"
)

// Tune changes an item's priority: its part of bandwidth, of what is under way, too, and
// the order in which jobs that wait for one limit get their turn, also of those that wait
// already. It pauses and resumes replication. A process server that does not hear of the
// priority now is told by the keeper.
func (s *recoveries) Tune(ctx context.Context, id homeward.ItemID, req vault.TuneRequest) (vault.Item, error) {
	var it vault.Item
	err := s.order(ctx, asked{need: vault.Operator, action: "item.tune", subject: "item " + string(id), detail: req}, func(ctx context.Context, _ vault.Caller) error {
		if req.Priority != nil && (*req.Priority < 0 || *req.Priority > 9) {
			return homeward.Errorf("tune", homeward.Invalid, "priority", "give 0 (first) to 9", "%d", *req.Priority)
		}
		var err error
		if it, err = s.store.Items.Get(ctx, string(id)); err != nil {
			return err
		}
		if req.Paused != nil && *req.Paused != it.Replication.Paused {
			if err := s.tunePause(ctx, it, *req.Paused); err != nil {
				return err
			}
		}
		if req.Priority != nil {
			_, err = s.store.Items.Change(ctx, string(id), func(it *vault.Item) error {
				it.Replication.Priority = *req.Priority
				return nil
			})
			if err != nil {
				return err
			}
			if err := s.engine.Reorder(ctx, id); err != nil {
				return err
			}
			if _, err := s.reweigh(ctx, id); err != nil {
				s.log.Info("an item's priority reaches its process server later", "item", id, "error", err)
			}
		}
		if it, err = s.store.Items.Get(ctx, string(id)); err != nil {
			return err
		}
		return s.complete(ctx, &it)
	})
	return it, err
}

func (s *recoveries) tunePause(ctx context.Context, it vault.Item, paused bool) error {
	action := vault.Resume
	if paused {
		action = vault.Pause
	}
	return s.setPaused(ctx, vault.ActionRequest{Item: it.ID, Action: action})
}

// Limit sets the bandwidth schedule of a process server, now.
func (s *recoveries) Limit(ctx context.Context, node string, req homeward.LimitRequest) error {
	return s.order(ctx, asked{need: vault.Operator, action: "node.limit", subject: "node " + node, detail: req}, func(ctx context.Context, _ vault.Caller) error {
		n, err := s.node(ctx, node)
		if err != nil {
			return err
		}
		if n.Role != pki.ProcessServer {
			return homeward.Errorf("limit", homeward.Invalid, "node "+node, "name a process server", "it is a %s", n.Role)
		}
		for i, w := range req.Schedule {
			if w.BytesPerSecond < 0 {
				return homeward.Errorf("limit", homeward.Invalid, fmt.Sprintf("schedule[%d].bytes_per_second", i), "give 0 for no cap, or a positive number", "%d", w.BytesPerSecond)
			}
		}
		_, err = s.roles.ProcessServer(node).Limit(ctx, req)
		return err
	})
}
