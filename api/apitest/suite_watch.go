package apitest

import (
	"context"
	"fmt"

	"github.com/homeward-dr/homeward/vault"
)

// testWatch sees changes as they come. From now on begins at some time after the
// call: changes are made until the first is seen.
func testWatch(s *suite) {
	ctx, v := s.As(vault.Contributor)
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	seen := make(chan vault.Event)
	ended := make(chan error, 1)
	watching, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		defer close(ended)
		for e, err := range v.Watch(watching, vault.WatchRequest{Kinds: []string{"site"}}) {
			if err != nil {
				ended <- err
				return
			}
			select {
			case seen <- e:
			case <-watching.Done():
				return
			}
		}
	}()
	var event vault.Event
	n := 0
	s.until(ctx, "the first event", func() bool {
		n++
		_, err := v.PutSite(ctx, vault.SiteRequest{Name: "watched", Label: fmt.Sprint(n)})
		s.must(err)
		_, err = v.PutPolicy(ctx, vault.PolicyRequest{Name: "unwatched"})
		s.must(err)
		select {
		case event = <-seen:
			return true
		default:
			return false
		}
	})
	s.must(v.DeleteSite(ctx, "watched"))
	for event.What != "removed" {
		if event.Kind != "site" || event.Subject != "watched" || event.ID == 0 || event.At.IsZero() {
			s.Fatalf("event %+v", event)
		}
		before := event.ID
		select {
		case event = <-seen:
		case err := <-ended:
			s.Fatalf("it ended: %v", err)
		case <-ctx.Done():
			s.Fatal("the removal is not told")
		}
		if event.ID <= before {
			s.Fatalf("event %d comes after %d", event.ID, before)
		}
	}
	stop()
	if err := <-ended; err != nil {
		s.Errorf("it ended with %v though its context did", err)
	}
}

// testWatchAfter goes on where it stopped, and misses nothing.
func testWatchAfter(s *suite) {
	ctx, v := s.As(vault.Contributor)
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for i := range 5 {
		_, err := v.PutSite(ctx, vault.SiteRequest{Name: fmt.Sprintf("after-%d", i)})
		s.must(err)
	}
	take := func(after int64, n int) (events []vault.Event) {
		for e, err := range v.Watch(ctx, vault.WatchRequest{After: after, Kinds: []string{"site"}}) {
			s.must(err)
			if events = append(events, e); len(events) == n {
				return events
			}
		}
		s.Fatalf("it ended after %d events", len(events))
		return nil
	}
	var mine []vault.Event
	at := int64(1)
	for len(mine) < 5 {
		e := take(at, 1)[0]
		if at = e.ID; len(e.Subject) > 6 && e.Subject[:6] == "after-" {
			mine = append(mine, e)
		}
	}
	for i, e := range mine {
		if e.Subject != fmt.Sprintf("after-%d", i) || e.What != "created" {
			s.Errorf("event %d: %+v", i, e)
		}
	}
	if again := take(mine[0].ID, 4); again[3] != mine[4] {
		s.Errorf("after %d comes %+v, want %+v", mine[0].ID, again[3], mine[4])
	}
}
