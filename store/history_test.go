package store

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

func TestEvents(t *testing.T) {
	both(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		if len(got(s.Events(ctx, 0, 10))(t)) != 0 {
			t.Fatal("events of nothing")
		}
		changed := s.Changed()
		must(t, s.Tokens.Insert(ctx, &Token{APIToken: vault.APIToken{Name: "silent"}}))
		select {
		case <-changed:
			t.Fatal("tokens have no events")
		default:
		}
		must(t, s.Items.Insert(ctx, &vault.Item{ID: "web01"}))
		<-changed
		_, err := s.Items.Change(ctx, "web01", func(i *vault.Item) error { i.Name = "x"; return nil })
		must(t, err, s.Items.Delete(ctx, "web01"), s.Policies.Insert(ctx, &vault.Policy{Name: "gold"}))
		var told []string
		for _, e := range got(s.Events(ctx, 0, 10))(t) {
			told = append(told, fmt.Sprint(e.ID, " ", e.Kind, " ", e.Subject, " ", e.What))
			if e.At.IsZero() {
				t.Error("no time")
			}
		}
		want := []string{"1 item web01 created", "2 item web01 changed", "3 item web01 removed", "4 policy gold created"}
		if !slices.Equal(told, want) {
			t.Fatalf("%q", told)
		}
		if e := got(s.Events(ctx, 1, 2))(t); len(e) != 2 || e[0].ID != 2 {
			t.Fatalf("%+v", e)
		}
		if len(got(s.Events(ctx, 4, 10))(t)) != 0 {
			t.Fatal("events after the last")
		}
		_, err = s.Events(ctx, 5, 10)
		refused(t, err, homeward.NotFound, "events 1 to 4")
		_, err = s.Events(ctx, 0, 0)
		refused(t, err, homeward.Invalid, "limit")
	})
}

// Old events go; whoever stood there is told to list anew.
func TestOldEventsArePruned(t *testing.T) {
	both(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		must(t, s.Sites.Insert(ctx, &vault.Site{Name: "home"}))
		_, err := s.writer.Exec("INSERT INTO events (id, happened, kind, subject, what) SELECT 200998, happened, kind, subject, what FROM events")
		must(t, err)
		for range 3 {
			_, err := s.Sites.Change(ctx, "home", func(*vault.Site) error { return nil })
			must(t, err)
		}
		_, err = s.Events(ctx, 0, 10)
		refused(t, err, homeward.NotFound, "events 200998 to 201001")
		if e := got(s.Events(ctx, 200998, 10))(t); len(e) != 3 || e[2].ID != 201001 {
			t.Fatalf("%+v", e)
		}
	})
}

// A watcher that takes Changed before it asks for Events misses none.
func TestWatcherMissesNothing(t *testing.T) {
	both(t, func(t *testing.T, s *Store) {
		const all = 200
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		failed := make(chan error, 1)
		go func() {
			defer close(failed)
			for i := range all {
				if err := s.Sites.Insert(ctx, &vault.Site{Name: fmt.Sprint(i)}); err != nil {
					failed <- err
					return
				}
			}
		}()
		for seen := int64(0); seen < all; {
			changed := s.Changed()
			events := got(s.Events(ctx, seen, 7))(t)
			for _, e := range events {
				if seen++; e.ID != seen {
					t.Fatalf("event %d after %d", e.ID, seen-1)
				}
			}
			if len(events) == 0 {
				select {
				case <-changed:
				case err := <-failed:
					must(t, err)
				}
			}
		}
		must(t, <-failed)
	})
}

func TestScores(t *testing.T) {
	both(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		must(t, s.AddScore(ctx, "other", vault.Score{Blockers: 1}), s.Tx(ctx, func(ctx context.Context) error {
			for i := range keptScores + 10 {
				must(t, s.AddScore(ctx, "web01", vault.Score{Warnings: i}))
			}
			return nil
		}))
		scores := got(s.Scores(ctx, "web01"))(t)
		if len(scores) != keptScores || scores[0].Warnings != keptScores+9 || scores[keptScores-1].Warnings != 10 {
			t.Fatalf("%d: %+v", len(scores), scores[0])
		}
		must(t, s.DropScores(ctx, "web01"))
		if len(got(s.Scores(ctx, "web01"))(t)) != 0 || len(got(s.Scores(ctx, "other"))(t)) != 1 {
			t.Fatal("not that item's alone")
		}
		refused(t, s.AddScore(ctx, "a/b", vault.Score{}), homeward.Invalid, "a/b")
	})
}

func TestProofs(t *testing.T) {
	both(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		data := []byte("\x00\xff proof")
		must(t, s.AddProof(ctx, "p1", data))
		if string(got(s.Proof(ctx, "p1"))(t)) != string(data) {
			t.Fatal("another proof")
		}
		refused(t, s.AddProof(ctx, "p1", data), homeward.Exists, "p1")
		refused(t, s.AddProof(ctx, "", data), homeward.Invalid, "id")
		for _, id := range []string{"p2", "\xff"} {
			_, err := s.Proof(ctx, id)
			refused(t, err, homeward.NotFound, "proof")
		}
	})
}

func TestSettingsAndAudit(t *testing.T) {
	both(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		if got(s.Setting(ctx, "x"))(t) != "" || got(s.Epoch(ctx))(t) != 1 {
			t.Fatal("set before it was set")
		}
		must(t, s.SetSetting(ctx, "x", "1"), s.SetSetting(ctx, "x", "ü\n2"))
		if got(s.Setting(ctx, "x"))(t) != "ü\n2" {
			t.Fatal("not what was set")
		}
		refused(t, s.SetSetting(ctx, "", "1"), homeward.Invalid, "name")
		refused(t, s.SetSetting(ctx, "x", "\x00"), homeward.Invalid, "x")
		must(t, s.SetSetting(ctx, SettingEpoch, "no number"))
		_, err := s.Epoch(ctx)
		refused(t, err, homeward.Corrupt, "")

		must(t, s.Audit(ctx, vault.AuditEntry{Caller: "ci", Action: "item.commit", Detail: "\x00", Outcome: "accepted"}))
		page := got(s.AuditLog(ctx, vault.Query{}))(t)
		if len(page.Entries) != 1 || page.Entries[0].ID != 1 || page.Entries[0].At.IsZero() || page.Entries[0].Caller != "ci" {
			t.Fatalf("%+v", page)
		}
	})
}
