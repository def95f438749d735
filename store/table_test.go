package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/vault"
)

// One of each resource is stored, read, changed, removed; what it carries comes back.
func TestEveryTable(t *testing.T) {
	at := time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)
	both(t, func(t *testing.T, s *Store) {
		circle(t, s.Sites, vault.Site{Name: "home", Label: "Ünï\x00\"<", Seen: at}, func(v *vault.Site) { v.Connected = true })
		circle(t, s.Machines, vault.Machine{ID: "home/7", Site: "home", Presence: vault.Present, Seen: at}, func(v *vault.Machine) { v.Presence = vault.Gone })
		circle(t, s.Nodes, vault.Node{Name: "mt", Role: pki.MasterTarget, Site: "home", State: vault.NodeRegistering}, func(v *vault.Node) { v.State = vault.NodeReady })
		circle(t, s.Enrolments, Enrolment{EnrolmentToken: vault.EnrolmentToken{ID: "e1", Site: "home"}, Hash: "abc"}, func(v *Enrolment) { v.UsedBy = "mt" })
		circle(t, s.Tokens, Token{APIToken: vault.APIToken{Name: "ci", Access: vault.Reader}, Hash: "abc"}, func(v *Token) { v.Used = at })
		circle(t, s.Policies, vault.Policy{Name: "gold", Settings: vault.FailbackSettings()}, func(v *vault.Policy) { v.Of = "x" })
		circle(t, s.Items, vault.Item{ID: "web01", State: vault.Protected, Record: &recovery.Record{RunsAt: "home", StandsAt: "away"}}, func(v *vault.Item) { v.Record.RunsAt, v.State = "away", vault.FailedOver })
		circle(t, s.Jobs, vault.Job{ID: "j1", Input: json.RawMessage(`{"a":1}`), Tasks: []vault.Task{{Name: "n", Children: []vault.Task{{Name: "c"}}}}}, func(v *vault.Job) { v.State = vault.JobPaused })
		circle(t, s.Alerts, vault.Alert{ID: "a1", Code: "c", Raised: at}, func(v *vault.Alert) { v.Cleared = at })
		circle(t, s.Artefacts, vault.Artefact{ID: "x1", Job: "j1", Where: "home", Made: at}, func(v *vault.Artefact) { v.Gone = at })
	})
}

func circle[T any](t *testing.T, table *Table[T], v T, change func(*T)) {
	t.Helper()
	ctx, key := t.Context(), table.key(&v)
	_, err := table.Get(ctx, key)
	refused(t, err, homeward.NotFound, key)
	refused(t, table.Delete(ctx, key), homeward.NotFound, key)
	twin := v
	must(t, table.Insert(ctx, &v))
	refused(t, table.Insert(ctx, &twin), homeward.Exists, key)
	same := func(v T) {
		t.Helper()
		if stored := got(table.Get(ctx, key))(t); !reflect.DeepEqual(stored, v) {
			t.Fatalf("stored\n%+v\nread\n%+v", v, stored)
		}
		if page := got(table.List(ctx, vault.Query{}))(t); len(page.Entries) != 1 || page.Next != "" || !reflect.DeepEqual(page.Entries[0], v) {
			t.Fatalf("listed\n%+v", page)
		}
	}
	same(v)
	changed := got(table.Change(ctx, key, func(v *T) error { change(v); return nil }))(t)
	same(changed)
	if table.meta != nil {
		if m := table.meta(&changed); m.Revision != 2 || m.Created != table.meta(&v).Created || m.Changed.Before(m.Created) {
			t.Fatalf("%+v", m)
		}
		refused(t, table.Update(ctx, &v), homeward.Conflict, "revision 2 is stored, not 1")
	}
	must(t, table.Update(ctx, &changed))
	same(changed)
	must(t, table.Delete(ctx, key))
	refused(t, table.Update(ctx, &changed), homeward.NotFound, key)
	_, err = table.Change(ctx, key, func(*T) error { t.Error("called"); return nil })
	refused(t, err, homeward.NotFound, key)
}

func TestWhatIsNotStored(t *testing.T) {
	both(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		token := Token{APIToken: vault.APIToken{Name: "ci", Secret: "hw-secret-1"}, Hash: "h"}
		enrolment := Enrolment{EnrolmentToken: vault.EnrolmentToken{ID: "e", Secret: "hw-secret-2"}, Hash: "h"}
		item := vault.Item{ID: "web01", Allowed: []vault.Action{vault.Commit}, Legs: []vault.Leg{{}}, Refused: []vault.Refusal{{}}}
		must(t, s.Tokens.Insert(ctx, &token), s.Enrolments.Insert(ctx, &enrolment), s.Items.Insert(ctx, &item))
		if token.Secret == "" || enrolment.Secret == "" || item.Allowed == nil {
			t.Fatal("the caller's own was changed")
		}
		if got(s.Tokens.Get(ctx, "ci"))(t).Secret+got(s.Enrolments.Get(ctx, "e"))(t).Secret != "" {
			t.Fatal("a secret came back")
		}
		for _, table := range []string{"tokens", "enrolments"} {
			var n int
			must(t, s.reader.QueryRow("SELECT COUNT(*) FROM "+table+" WHERE doc LIKE '%hw-secret%'").Scan(&n))
			if n != 0 {
				t.Fatal("a secret is in the store")
			}
		}
		if i := got(s.Items.Get(ctx, "web01"))(t); i.Allowed != nil || i.Legs != nil || i.Refused != nil {
			t.Fatalf("%+v", i)
		}
	})
}

func TestBadKeysAndFilters(t *testing.T) {
	both(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		for _, key := range []string{"", "a\x00b", "a\nb", "\xff", string(make([]byte, MaxKey+1))} {
			refused(t, s.Sites.Insert(ctx, &vault.Site{Name: key}), homeward.Invalid, "site")
			_, err := s.Sites.Get(ctx, key)
			refused(t, err, homeward.NotFound, "site")
			refused(t, s.Sites.Delete(ctx, key), homeward.NotFound, "site")
		}
		refused(t, s.Nodes.Insert(ctx, &vault.Node{Name: "n", Site: "\xff"}), homeward.Invalid, "site")
		for field, q := range map[string]vault.Query{
			"site": {Site: "x"}, "role": {Role: "x"}, "limit": {Limit: vault.MaxPage + 1}, "after": {After: "%"}, "state": {State: "\xff"},
		} {
			_, err := s.Jobs.List(ctx, q)
			refused(t, err, homeward.Invalid, field)
		}
		_, err := s.Jobs.List(ctx, vault.Query{After: seal("no number")})
		refused(t, err, homeward.Invalid, "after")
		_, err = s.AuditLog(ctx, vault.Query{After: seal("no number")})
		refused(t, err, homeward.Invalid, "after")
		_, err = s.AuditLog(ctx, vault.Query{Item: "x"})
		refused(t, err, homeward.Invalid, "item")
	})
}

func TestSixteenRacersOneWinner(t *testing.T) {
	both(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		must(t, s.Sites.Insert(ctx, &vault.Site{Name: "home"}))
		seen := got(s.Sites.Get(ctx, "home"))(t)
		var wait sync.WaitGroup
		results := make([]error, 16)
		for i := range results {
			wait.Go(func() {
				mine := seen
				mine.Label = fmt.Sprint(i)
				results[i] = s.Sites.Update(ctx, &mine)
			})
		}
		wait.Wait()
		winner := -1
		for i, err := range results {
			switch {
			case err != nil:
				refused(t, err, homeward.Conflict, "home")
			case winner >= 0:
				t.Fatal("two won")
			default:
				winner = i
			}
		}
		if v := got(s.Sites.Get(ctx, "home"))(t); v.Label != fmt.Sprint(winner) || v.Revision != 2 {
			t.Fatalf("%d won, stored is %+v", winner, v)
		}
		// Change never conflicts: each comes after the other.
		for i := range results {
			wait.Go(func() {
				_, results[i] = s.Sites.Change(ctx, "home", func(v *vault.Site) error { v.Label += "x"; return nil })
			})
		}
		wait.Wait()
		must(t, results...)
		if v := got(s.Sites.Get(ctx, "home"))(t); v.Revision != 18 || len(v.Label) < 17 {
			t.Fatalf("%+v", v)
		}
	})
}

func TestTransaction(t *testing.T) {
	both(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		stop := errors.New("stop")
		changed := s.Changed()
		err := s.Tx(ctx, func(ctx context.Context) error {
			must(t, s.Sites.Insert(ctx, &vault.Site{Name: "a"}), s.SetSetting(ctx, "x", "y"), s.Audit(ctx, vault.AuditEntry{Action: "a"}))
			if _, err := s.Sites.Get(ctx, "a"); err != nil {
				t.Error("not seen inside:", err)
			}
			if _, err := s.Sites.Get(t.Context(), "a"); homeward.KindOf(err) != homeward.NotFound {
				t.Error("seen outside:", err)
			}
			return stop
		})
		if !errors.Is(err, stop) || got(s.Setting(ctx, "x"))(t) != "" || len(got(s.AuditLog(ctx, vault.Query{}))(t).Entries) != 0 || got(s.LastEvent(ctx))(t) != 0 {
			t.Fatalf("not undone: %v", err)
		}
		func() {
			defer func() { _ = recover() }()
			_ = s.Tx(ctx, func(ctx context.Context) error {
				must(t, s.Sites.Insert(ctx, &vault.Site{Name: "a"}))
				panic("in a transaction")
			})
		}()
		select {
		case <-changed:
			t.Fatal("told of what did not happen")
		default:
		}
		must(t, s.Tx(ctx, func(ctx context.Context) error { // also: the panic left nothing behind
			must(t, s.Sites.Insert(ctx, &vault.Site{Name: "a"}))
			inner := s.Tx(ctx, func(ctx context.Context) error {
				must(t, s.Sites.Insert(ctx, &vault.Site{Name: "b"}))
				return stop
			})
			_, missing := s.Sites.Get(ctx, "b")
			refused(t, s.Sites.Insert(ctx, &vault.Site{Name: "a"}), homeward.Exists, "a")
			if _, err := s.Sites.Change(ctx, "a", func(*vault.Site) error { return stop }); err != stop {
				t.Error(err)
			}
			if inner != stop || homeward.KindOf(missing) != homeward.NotFound {
				t.Errorf("%v, %v", inner, missing)
			}
			return s.Tx(ctx, func(ctx context.Context) error { return s.Sites.Insert(ctx, &vault.Site{Name: "c"}) })
		}))
		<-changed
		var names []string
		for v, err := range s.Sites.All(ctx, vault.Query{}) {
			must(t, err)
			names = append(names, v.Name)
		}
		if !slices.Equal(names, []string{"a", "c"}) || got(s.LastEvent(ctx))(t) != 2 {
			t.Fatal(names)
		}
		ended, cancel := context.WithCancel(ctx)
		err = s.Tx(ended, func(ctx context.Context) error {
			must(t, s.Sites.Insert(ctx, &vault.Site{Name: "d"}))
			cancel()
			return nil
		})
		if homeward.KindOf(err) != homeward.Canceled {
			t.Fatal(err)
		}
		_, err = s.Sites.Get(ctx, "d")
		refused(t, err, homeward.NotFound, "d")
	})
}

// Whatever was there when a listing began is told once and in order, although
// others come and go before, between and after.
func TestPagesUnderInserts(t *testing.T) {
	both(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		var now int64
		s.now = func() time.Time { now++; return time.UnixMicro(now / 40) } // more at one time than fit on a page
		must(t, s.Tx(ctx, func(ctx context.Context) error {
			for i := range 50 {
				id := homeward.NewID().String()
				must(t, s.Jobs.Insert(ctx, &vault.Job{ID: id, Item: "web01"}), s.Sites.Insert(ctx, &vault.Site{Name: id}), s.Audit(ctx, vault.AuditEntry{Subject: fmt.Sprint(i)}))
			}
			return nil
		}))
		disturb := func() {
			id := homeward.NewID().String()
			must(t, s.Jobs.Insert(ctx, &vault.Job{ID: id, Item: "web01", State: "late"}), s.Sites.Insert(ctx, &vault.Site{Name: id, Label: "late"}), s.Audit(ctx, vault.AuditEntry{Subject: "late"}))
		}
		jobs := walk(t, s.Jobs.List, vault.Query{Limit: 7, Item: "web01"}, disturb)
		if !slices.IsSortedFunc(jobs, func(a, b vault.Job) int { return b.Created.Compare(a.Created) }) {
			t.Error("not the newest first")
		}
		sites := walk(t, s.Sites.List, vault.Query{Limit: 7}, disturb)
		if !slices.IsSortedFunc(sites, func(a, b vault.Site) int { return strings.Compare(a.Name, b.Name) }) {
			t.Error("not in the order of keys")
		}
		audit := walk(t, s.AuditLog, vault.Query{Limit: 7}, disturb)
		told := map[string]int{}
		for _, j := range jobs {
			if j.State != "late" {
				told[j.ID]++
			}
		}
		for _, v := range sites {
			if v.Label != "late" {
				told["site "+v.Name]++
			}
		}
		for i, e := range audit {
			if e.Subject != "late" {
				told["audit "+e.Subject]++
			}
			if i > 0 && e.ID >= audit[i-1].ID {
				t.Error("not the newest first")
			}
		}
		for what, times := range told {
			if times != 1 {
				t.Errorf("%s was told %d times", what, times)
			}
		}
		if len(told) != 150 {
			t.Fatalf("%d of 150", len(told))
		}
	})
}

func walk[T any](t *testing.T, list func(context.Context, vault.Query) (vault.Page[T], error), q vault.Query, between func()) []T {
	t.Helper()
	var all []T
	for {
		page := got(list(t.Context(), q))(t)
		all = append(all, page.Entries...)
		if page.Next == "" {
			return all
		}
		if len(page.Entries) != q.Limit {
			t.Fatalf("a page of %d", len(page.Entries))
		}
		q.After = page.Next
		between()
	}
}

// Keys sort by their bytes, on a server of any locale.
func TestOrderOfBytes(t *testing.T) {
	both(t, func(t *testing.T, s *Store) {
		names := []string{"B", "Z/1", "a", "a b", "a-b", "ab", "b", "ä", "字"}
		for _, name := range slices.Backward(names) {
			must(t, s.Machines.Insert(t.Context(), &vault.Machine{ID: name, Site: "home"}))
		}
		var listed []string
		for m, err := range s.Machines.All(t.Context(), vault.Query{Site: "home"}) {
			must(t, err)
			listed = append(listed, m.ID)
		}
		if !slices.Equal(listed, names) {
			t.Fatalf("%q", listed)
		}
	})
}

func TestFilters(t *testing.T) {
	both(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		for i := range 12 {
			j := vault.Job{ID: fmt.Sprintf("j%02d", i), Item: homeward.ItemID(fmt.Sprint("item", i%2)), State: []vault.JobState{vault.JobRunning, vault.JobFailed, vault.JobPaused}[i%3], Key: fmt.Sprint("key", i%2)}
			must(t, s.Jobs.Insert(ctx, &j))
		}
		page := got(s.Jobs.List(ctx, vault.Query{Item: "item1", State: string(vault.JobFailed)}))(t)
		if len(page.Entries) != 2 || page.Entries[0].ID != "j07" || page.Entries[1].ID != "j01" {
			t.Fatalf("%+v", page)
		}
		if j := got(s.JobByKey(ctx, "key0"))(t); j.ID != "j10" {
			t.Fatalf("%+v", j)
		}
		_, err := s.JobByKey(ctx, "none")
		if homeward.KindOf(err) != homeward.NotFound {
			t.Fatal(err)
		}
		// A row follows what its resource says.
		_, err = s.Jobs.Change(ctx, "j07", func(j *vault.Job) error { j.State = vault.JobSucceeded; return nil })
		must(t, err)
		if page := got(s.Jobs.List(ctx, vault.Query{Item: "item1", State: string(vault.JobFailed)}))(t); len(page.Entries) != 1 {
			t.Fatalf("%+v", page)
		}
		// All goes past the end of a page, and the loop may change the store.
		for j, err := range s.Jobs.All(ctx, vault.Query{}) {
			must(t, err, s.Jobs.Delete(ctx, j.ID))
		}
		if n := len(got(s.Jobs.List(ctx, vault.Query{}))(t).Entries); n != 0 {
			t.Fatalf("%d are left", n)
		}
	})
}
