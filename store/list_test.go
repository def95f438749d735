package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

// No list reads a whole table or sorts: neither the first page nor a later one, with
// no filter or with any one.
func TestListsUseIndexes(t *testing.T) {
	s := open(t, newFile(t))
	check := func(what, text string, args []any) {
		t.Helper()
		var plan []string
		must(t, each(t.Context(), s.reader, "EXPLAIN QUERY PLAN "+text, args, func(rows *sql.Rows) error {
			var id, parent, unused int
			var detail string
			err := rows.Scan(&id, &parent, &unused, &detail)
			plan = append(plan, detail)
			return err
		}))
		if len(plan) != 1 || !strings.Contains(plan[0], "USING INDEX") {
			t.Errorf("%s: %q", what, plan)
		}
	}
	planned(t, s.Sites, check)
	planned(t, s.Machines, check)
	planned(t, s.Nodes, check)
	planned(t, s.Enrolments, check)
	planned(t, s.Tokens, check)
	planned(t, s.Policies, check)
	planned(t, s.Items, check)
	planned(t, s.Jobs, check)
	planned(t, s.Artefacts, check)
	planned(t, s.Alerts, check)
}

func planned[T any](t *testing.T, table *Table[T], check func(string, string, []any)) {
	t.Helper()
	queries := []vault.Query{{}}
	for _, c := range table.columns {
		switch c.name {
		case "site":
			queries = append(queries, vault.Query{Site: "x"})
		case "item":
			queries = append(queries, vault.Query{Item: "x"})
		case "state":
			queries = append(queries, vault.Query{State: "x"})
		case "role":
			queries = append(queries, vault.Query{Role: "x"})
		}
	}
	for _, q := range queries {
		for _, after := range []string{"", table.placeOf(&row[T]{key: "k", created: 1})} {
			q.After = after
			text, args, err := table.listing(&q)
			must(t, err)
			check(fmt.Sprintf("%s %+v", table.name, q), text, args)
		}
	}
}

func FuzzPlace(f *testing.F) {
	f.Add(seal("12 key"))
	f.Add(seal("key"))
	f.Add("%")
	s := &Store{}
	s.defineTables()
	f.Fuzz(func(t *testing.T, after string) {
		if created, key, err := s.Jobs.parsePlace(after); err == nil {
			if again := s.Jobs.placeOf(&row[vault.Job]{created: created, key: key}); again != after {
				c, k, err := s.Jobs.parsePlace(again) // "+1 x" and "1 x" are one place
				if err != nil || c != created || k != key {
					t.Fatalf("%q became %q", after, again)
				}
			}
		}
		if _, key, err := s.Sites.parsePlace(after); err == nil && s.Sites.placeOf(&row[vault.Site]{key: key}) != after {
			if _, k, err := s.Sites.parsePlace(s.Sites.placeOf(&row[vault.Site]{key: key})); err != nil || k != key {
				t.Fatalf("%q", after)
			}
		}
	})
}

// BenchmarkList tells how long a page of 100 out of 100,000 jobs takes: the first,
// one in the middle, and one of a filter.
func BenchmarkList(b *testing.B) {
	for _, k := range kinds {
		s := open(b, k.url(b))
		fillJobs(b, s, 100_000)
		var created int64
		must(b, s.reader.QueryRow("SELECT MIN(created) + (MAX(created) - MIN(created)) / 2 FROM jobs").Scan(&created))
		middle := s.Jobs.placeOf(&row[vault.Job]{created: created})
		for name, q := range map[string]vault.Query{"first": {}, "middle": {After: middle}, "item": {Item: "item7"}, "state": {State: "failed", After: middle}} {
			b.Run(k.name+"/"+name, func(b *testing.B) {
				for b.Loop() {
					page, err := s.Jobs.List(b.Context(), q)
					if err != nil || len(page.Entries) != 100 {
						b.Fatal(len(page.Entries), err)
					}
				}
			})
		}
	}
}

func fillJobs(b *testing.B, s *Store, n int) {
	b.Helper()
	for i := 0; i < n; i += 2000 {
		must(b, s.Tx(b.Context(), func(ctx context.Context) error {
			for k := i; k < i+2000; k++ {
				j := vault.Job{ID: homeward.NewID().String(), Item: homeward.ItemID(fmt.Sprint("item", k%100)), State: []vault.JobState{vault.JobSucceeded, vault.JobFailed}[k%2], Title: "Reprotect"}
				for range 10 {
					j.Tasks = append(j.Tasks, vault.Task{Name: "SwitchReplicationGroupProtectionPreflightTask", Title: "Prerequisite check", State: vault.TaskSucceeded})
				}
				if err := s.Jobs.Insert(ctx, &j); err != nil {
					return err
				}
			}
			return nil
		}))
	}
}

// Lists begin with the newest, also after the clock was set back.
func TestList_NewestWhateverTheClock(t *testing.T) {
	bothURLs(t, func(t *testing.T, url string) {
		at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
		c := config(url)
		c.Now = func() time.Time { return at }
		s, err := Open(t.Context(), c)
		must(t, err)
		t.Cleanup(func() { must(t, s.Close()) })
		for _, id := range []string{"b", "a", "c"} {
			must(t, s.Jobs.Insert(t.Context(), &vault.Job{ID: id, Key: "k"}))
			at = at.Add(-time.Hour)
		}
		page, err := s.Jobs.List(t.Context(), vault.Query{})
		must(t, err)
		var got []string
		for _, j := range page.Entries {
			got = append(got, j.ID)
		}
		if want := []string{"c", "a", "b"}; !slices.Equal(got, want) {
			t.Errorf("%v, expected %v", got, want)
		}
		if j, err := s.JobByKey(t.Context(), "k"); err != nil || j.ID != "c" {
			t.Errorf("%v, %v", j.ID, err)
		}
	})
}
