package store

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/zeebo/blake3"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/vault"
)

func backupOf(t testing.TB, s *Store) []byte {
	t.Helper()
	var out bytes.Buffer
	must(t, s.Backup(t.Context(), &out))
	return out.Bytes()
}

// fill puts something into every table.
func fill(t testing.TB, s *Store) {
	t.Helper()
	ctx := t.Context()
	at := time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)
	must(t,
		s.Sites.Insert(ctx, &vault.Site{Name: "home", Label: "Ü <&> \x00 \u2028"}),
		s.Machines.Insert(ctx, &vault.Machine{ID: "home/1", Site: "home"}),
		s.Nodes.Insert(ctx, &vault.Node{Name: "mt", Site: "home", Skew: math.MaxInt64}),
		s.Enrolments.Insert(ctx, &Enrolment{EnrolmentToken: vault.EnrolmentToken{ID: "e"}, Hash: "1"}),
		s.Tokens.Insert(ctx, &Token{APIToken: vault.APIToken{Name: "ci"}, Hash: "2"}),
		s.Policies.Insert(ctx, &vault.Policy{Name: "gold"}),
		s.Items.Insert(ctx, &vault.Item{ID: "web01", Record: &recovery.Record{RunsAt: "home"}}),
		s.Jobs.Insert(ctx, &vault.Job{ID: "j", Item: "web01", Input: json.RawMessage(`{"n":9007199254740993}`)}),
		s.Artefacts.Insert(ctx, &vault.Artefact{ID: "x", Made: at}),
		s.Alerts.Insert(ctx, &vault.Alert{ID: "a", Raised: at}),
		s.AddProof(ctx, "p", []byte("proof")),
		s.AddScore(ctx, "web01", vault.Score{Ready: true}),
		s.Audit(ctx, vault.AuditEntry{Action: "x", At: at}),
		s.SetSetting(ctx, "x", "y"),
	)
}

// rows is everything that a backup keeps.
func rows(t *testing.T, s *Store) map[string][][]any {
	t.Helper()
	all := map[string][][]any{}
	for _, table := range backedUp {
		r, err := s.reader.Query("SELECT * FROM " + table + " ORDER BY 1, 2")
		must(t, err)
		columns, err := r.Columns()
		must(t, err)
		for r.Next() {
			row, into := make([]any, len(columns)), make([]any, len(columns))
			for i := range row {
				into[i] = &row[i]
			}
			must(t, r.Scan(into...))
			all[table] = append(all[table], row)
		}
		must(t, r.Err(), r.Close())
	}
	return all
}

// What either store backed up, either takes, with a new epoch and read-only.
func TestBackupIntoEitherStore(t *testing.T) {
	for _, from := range kinds {
		for _, to := range kinds {
			t.Run(from.name+" to "+to.name, func(t *testing.T) {
				ctx := t.Context()
				source := open(t, from.url(t))
				fill(t, source)
				last := got(source.LastEvent(ctx))(t)
				backup := backupOf(t, source)
				url := to.url(t)
				must(t, Restore(ctx, config(url), bytes.NewReader(backup)))
				s := open(t, url)
				if got(s.Epoch(ctx))(t) <= 1 || !strings.HasPrefix(got(s.Setting(ctx, SettingReadOnly))(t), "restored from a backup of ") {
					t.Fatal("no new epoch, or not read-only")
				}
				if e := got(s.LastEvent(ctx))(t); e <= last {
					t.Fatalf("events go on at %d, the old ones went to %d", e, last)
				}
				_, err := s.Events(ctx, last, 10)
				refused(t, err, homeward.NotFound, "events")
				want, have := rows(t, source), rows(t, s)
				for table, rows := range want {
					if len(rows) == 0 {
						t.Fatalf("nothing in %s", table)
					}
				}
				delete(want, "settings")
				delete(have, "settings")
				if len(have["enrolments"]) != 0 { // it may have been used after the backup
					t.Fatal("a token that admits a node once came back")
				}
				delete(want, "enrolments")
				delete(have, "enrolments")
				if !reflect.DeepEqual(want, have) {
					t.Fatalf("backed up\n%v\nrestored\n%v", want, have)
				}
				if i := got(s.Items.Get(ctx, "web01"))(t); i.Record == nil || i.Record.RunsAt != "home" {
					t.Fatalf("%+v", i)
				}
				must(t, s.Sites.Insert(ctx, &vault.Site{Name: "more"}))
				refusedWhole(t, url, s, backup)
			})
		}
	}
}

// refusedWhole restores into a store that is not empty.
func refusedWhole(t *testing.T, url string, s *Store, backup []byte) {
	t.Helper()
	before := rows(t, s)
	must(t, s.Close())
	refused(t, Restore(t.Context(), config(url), bytes.NewReader(backup)), homeward.Conflict, "not empty")
	s = open(t, url)
	if !reflect.DeepEqual(before, rows(t, s)) {
		t.Fatal("a refused restore changed the store")
	}
}

// A store in which nothing ever happened takes a backup, one with a single setting
// does not.
func TestRestoreWantsAnEmptyStore(t *testing.T) {
	bothURLs(t, func(t *testing.T, url string) {
		s, err := Open(t.Context(), config(url))
		must(t, err)
		backup := backupOf(t, s)
		must(t, s.SetSetting(t.Context(), "x", "y"), s.Close())
		refused(t, Restore(t.Context(), config(url), bytes.NewReader(backup)), homeward.Conflict, "not empty")
		s, err = Open(t.Context(), config(url))
		must(t, err)
		_, err = s.writer.Exec("DELETE FROM settings")
		must(t, err, s.Close(), Restore(t.Context(), config(url), bytes.NewReader(backup)))
	})
}

// Restoring one backup twice gives two epochs, each above all before.
func TestEpochsRise(t *testing.T) {
	ctx := t.Context()
	s := open(t, newFile(t))
	clock := time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)
	epoch := got(s.Epoch(ctx))(t)
	backup := backupOf(t, s)
	for i := range 4 {
		if i == 3 { // a clock that was set back does not matter to a chain of restores
			clock = clock.Add(-24 * time.Hour)
			backup = backupOf(t, s)
		}
		clock = clock.Add(time.Second)
		cfg := config(newFile(t))
		cfg.Now = func() time.Time { return clock }
		must(t, Restore(ctx, cfg, bytes.NewReader(backup)))
		s = open(t, cfg.URL)
		if e := got(s.Epoch(ctx))(t); e <= epoch {
			t.Fatalf("epoch %d after %d", e, epoch)
		} else {
			epoch = e
		}
	}
}

// Every prefix, every flipped bit, and anything added is refused before the store
// is even there.
func TestDamagedBackup(t *testing.T) {
	s := open(t, newFile(t))
	must(t, s.Sites.Insert(t.Context(), &vault.Site{Name: "home"}))
	backup := backupOf(t, s)
	url := newFile(t)
	try := func(what string, damaged []byte) {
		t.Helper()
		err := Restore(t.Context(), config(url), bytes.NewReader(damaged))
		if k := homeward.KindOf(err); k != homeward.Corrupt && k != homeward.Unsupported || homeward.RemedyOf(err) == "" {
			t.Fatalf("%s: %v", what, err)
		}
	}
	for i := range backup {
		try(fmt.Sprint("prefix of ", i), backup[:i])
	}
	for bit := range 8 * len(backup) {
		damaged := bytes.Clone(backup)
		damaged[bit/8] ^= 1 << (bit % 8)
		try(fmt.Sprint("bit ", bit), damaged)
	}
	try("added", append(bytes.Clone(backup), 0))
	try("twice", append(bytes.Clone(backup), backup...))
	list, err := os.ReadDir(strings.TrimSuffix(strings.TrimPrefix(url, "sqlite:"), "/vault.db"))
	if err != nil || len(list) != 0 {
		t.Fatalf("left behind: %v, %v", list, err)
	}
	must(t, Restore(t.Context(), config(url), bytes.NewReader(backup)))
}

// What a checksum cannot know, for it was written so: all or nothing still.
func TestStrangeBackup(t *testing.T) {
	bothURLs(t, func(t *testing.T, url string) {
		header := `{"schema":1}` + "\n"
		table := `{"table":"sites","columns":["key","revision","created","changed","doc"]}` + "\n"
		row := `["a",1,2,3,"{}"]` + "\n"
		for body, kind := range map[string]homeward.Kind{
			`{"schema":0}` + "\n":               homeward.Corrupt,
			`{"schema":2}` + "\n":               homeward.Unsupported,
			"":                                  homeward.Corrupt,
			header:                              homeward.Corrupt,
			header + row:                        homeward.Corrupt,
			header + table + row:                homeward.Corrupt,
			header + table + row + `{"rows":2}`: homeward.Corrupt,
			header + table + row + table + `{"rows":1}`:       homeward.Corrupt,
			header + table + row + row + `{"rows":2}`:         homeward.Internal,
			header + table + `["a",1.5,2,3,""]`:               homeward.Corrupt,
			header + table + `["a",1,2,3]`:                    homeward.Corrupt,
			header + table + `["a",1,2,null,"{}"]`:            homeward.Corrupt,
			header + `{"table":"events","columns":["id"]}`:    homeward.Corrupt,
			header + `{"table":"sites","columns":["key, x"]}`: homeward.Corrupt,
			header + `{"table":"sites","columns":[]}`:         homeward.Corrupt,
		} {
			err := Restore(t.Context(), config(url), bytes.NewReader(sealed(t, body)))
			if homeward.KindOf(err) != kind {
				t.Errorf("%q: %v", body, err)
			}
		}
		must(t, Restore(t.Context(), config(url), bytes.NewReader(sealed(t, header+table+row+`{"rows":1}`))))
		got(open(t, url).Sites.Get(t.Context(), "a"))(t)
	})
}

// A backup is one instant, while the vault goes on.
func TestBackupWhileWriting(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			s := open(t, k.url(t))
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			begun := make(chan struct{})
			go func() {
				for i := 0; ; i++ {
					err := s.Tx(ctx, func(ctx context.Context) error { // always as many machines as jobs
						return errors.Join(s.Machines.Insert(ctx, &vault.Machine{ID: fmt.Sprint(i)}), s.Jobs.Insert(ctx, &vault.Job{ID: fmt.Sprint(i)}))
					})
					if i == 50 {
						close(begun)
					}
					if err != nil {
						ended <- err
						return
					}
				}
			}()
			<-begun
			backup := backupOf(t, s)
			cancel()
			if err := <-ended; homeward.KindOf(err) != homeward.Canceled {
				t.Fatal(err)
			}
			url := newFile(t)
			must(t, Restore(t.Context(), config(url), bytes.NewReader(backup)))
			var machines, jobs int
			must(t, open(t, url).reader.QueryRow("SELECT (SELECT COUNT(*) FROM machines), (SELECT COUNT(*) FROM jobs)").Scan(&machines, &jobs))
			if machines != jobs || machines < 50 {
				t.Fatalf("%d machines, %d jobs", machines, jobs)
			}
		})
	}
}

func TestBackupToFullDisk(t *testing.T) {
	both(t, func(t *testing.T, s *Store) {
		full := homeward.Errorf("write", homeward.NoSpace, "x", "free some space", "full")
		for n := range 3 {
			err := s.Backup(t.Context(), &failing{n: n, err: full})
			refused(t, err, homeward.NoSpace, "full")
		}
	})
}

type failing struct {
	n   int // writes that work
	err error
}

func (f *failing) Write(p []byte) (int, error) {
	if f.n--; f.n < 0 {
		return 0, f.err
	}
	return len(p), nil
}

// sealed is a backup of a body, with a checksum that is right.
func sealed(t *testing.T, body string) []byte {
	t.Helper()
	out := bytes.NewBuffer(append([]byte(backupMagic), backupVersion))
	w := gzip.NewWriter(out)
	_, err := w.Write([]byte(body))
	must(t, err, w.Close())
	sum := blake3.Sum256(out.Bytes())
	return append(out.Bytes(), sum[:]...)
}

// FuzzBackup: nothing that a backup might hold makes a restore panic, and what is
// refused leaves the store empty.
func FuzzBackup(f *testing.F) {
	f.Add(`{"schema":1}` + "\n" + `{"table":"settings","columns":["name","value"]}` + "\n" + `["a","b"]` + "\n" + `{"rows":1}`)
	f.Add(`{"schema":1} [] {"rows":0}`)
	f.Add("null null")
	f.Fuzz(func(t *testing.T, body string) {
		url := newFile(t)
		if err := Restore(t.Context(), config(url), bytes.NewReader([]byte(body))); homeward.KindOf(err) != homeward.Corrupt {
			t.Fatalf("not a backup: %v", err)
		}
		backup := sealed(t, body)
		err := Restore(t.Context(), config(url), bytes.NewReader(backup))
		if err == nil {
			return
		}
		empty := open(t, url)
		must(t, empty.begin(t.Context(), func(ctx context.Context) error {
			for _, table := range append([]string{"events"}, backedUp...) {
				l := loader{tx: empty.current(ctx)}
				must(t, l.mustBeEmpty(ctx, table))
			}
			return nil
		}))
	})
}
