package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

// Token is an API token as it is stored: a hash instead of its secret.
type Token struct {
	vault.APIToken
	Hash string `json:"hash"`
}

// Enrolment is an enrolment token as it is stored: a hash instead of its secret.
type Enrolment struct {
	vault.EnrolmentToken
	Hash string `json:"hash"`
}

// The states that lists of alerts and artefacts are filtered by.
const (
	AlertRaised   = "raised"
	AlertCleared  = "cleared"
	ArtefactThere = "there"
	ArtefactGone  = "gone"
)

// defineTables says of each resource what its key is, what its lists are filtered
// by, and what of it is not stored.
func (s *Store) defineTables() {
	s.defineInventory()
	s.Policies = define(s, definition[vault.Policy]{
		name: "policies", noun: "policy", kind: "policy",
		key:  func(p *vault.Policy) string { return p.Name },
		meta: func(p *vault.Policy) *vault.Meta { return &p.Meta },
	})
	s.Items = define(s, definition[vault.Item]{
		name: "items", noun: "item", kind: "item",
		key:  func(i *vault.Item) string { return string(i.ID) },
		meta: func(i *vault.Item) *vault.Meta { return &i.Meta },
		columns: []column[vault.Item]{
			{"site", func(i *vault.Item) string { return i.ActiveSite }}, // where it runs
			{"state", func(i *vault.Item) string { return string(i.State) }},
		},
		hide:  func(i *vault.Item) { i.Legs, i.Allowed, i.Refused = nil, nil, nil }, // computed when asked for
		apart: func(i *vault.Item) any { return &i.Record },
	})
	s.Jobs = define(s, definition[vault.Job]{
		name: "jobs", noun: "job", kind: "job", newest: true,
		key:  func(j *vault.Job) string { return j.ID },
		meta: func(j *vault.Job) *vault.Meta { return &j.Meta },
		columns: []column[vault.Job]{
			{"item", func(j *vault.Job) string { return string(j.Item) }},
			{"state", func(j *vault.Job) string { return string(j.State) }},
			{"request", func(j *vault.Job) string { return j.Key }}, // see JobByKey
		},
	})
	s.Artefacts = define(s, definition[vault.Artefact]{
		name: "artefacts", noun: "artefact", lister: "job artefact list",
		key: func(a *vault.Artefact) string { return a.ID },
		columns: []column[vault.Artefact]{
			{"site", func(a *vault.Artefact) string { return a.Where }}, // or node
			{"state", func(a *vault.Artefact) string { return unlessZero(a.Gone, ArtefactThere, ArtefactGone) }},
		},
	})
	s.Alerts = define(s, definition[vault.Alert]{
		name: "alerts", noun: "alert", kind: "alert", newest: true,
		key:  func(a *vault.Alert) string { return a.ID },
		meta: func(a *vault.Alert) *vault.Meta { return &a.Meta },
		columns: []column[vault.Alert]{
			{"state", func(a *vault.Alert) string { return unlessZero(a.Cleared, AlertRaised, AlertCleared) }},
		},
	})
}

// defineInventory is defineTables for what is there and who may come in.
func (s *Store) defineInventory() {
	s.Sites = define(s, definition[vault.Site]{
		name: "sites", noun: "site", kind: "site",
		key:  func(v *vault.Site) string { return v.Name },
		meta: func(v *vault.Site) *vault.Meta { return &v.Meta },
	})
	s.Machines = define(s, definition[vault.Machine]{
		name: "machines", noun: "machine", kind: "machine",
		key:  func(m *vault.Machine) string { return m.ID },
		meta: func(m *vault.Machine) *vault.Meta { return &m.Meta },
		columns: []column[vault.Machine]{
			{"site", func(m *vault.Machine) string { return m.Site }},
			{"item", func(m *vault.Machine) string { return string(m.Item) }},
			{"state", func(m *vault.Machine) string { return string(m.Presence) }},
		},
	})
	s.Nodes = define(s, definition[vault.Node]{
		name: "nodes", noun: "node", kind: "node",
		key:  func(n *vault.Node) string { return n.Name },
		meta: func(n *vault.Node) *vault.Meta { return &n.Meta },
		columns: []column[vault.Node]{
			{"site", func(n *vault.Node) string { return n.Site }},
			{"role", func(n *vault.Node) string { return string(n.Role) }},
			{"state", func(n *vault.Node) string { return string(n.State) }},
		},
	})
	s.Enrolments = define(s, definition[Enrolment]{
		name: "enrolments", noun: "enrolment token", lister: "node enrolment list",
		key:  func(e *Enrolment) string { return e.ID },
		meta: func(e *Enrolment) *vault.Meta { return &e.Meta },
		columns: []column[Enrolment]{
			{"site", func(e *Enrolment) string { return e.Site }},
			{"role", func(e *Enrolment) string { return string(e.Role) }},
		},
		hide: func(e *Enrolment) { e.Secret = "" },
	})
	s.Tokens = define(s, definition[Token]{
		name: "tokens", noun: "API token", lister: "token list",
		key:  func(t *Token) string { return t.Name },
		meta: func(t *Token) *vault.Meta { return &t.Meta },
		hide: func(t *Token) { t.Secret = "" },
	})
}

func unlessZero(t time.Time, zero, set string) string {
	if t.IsZero() {
		return zero
	}
	return set
}

// JobByKey is the newest job that was asked for with that idempotency key; NotFound.
func (s *Store) JobByKey(ctx context.Context, key string) (vault.Job, error) {
	var found row[vault.Job]
	err := s.look(ctx, "read job", func(ctx context.Context, db querier) error {
		none := homeward.Errorf("read", homeward.NotFound, "job", "", "none was asked for with key %q", key)
		if key == "" || !clean(key) {
			return none
		}
		err := s.Jobs.scan(db.QueryRowContext(ctx, s.Jobs.pick+" WHERE request = $1 ORDER BY created DESC, key DESC LIMIT 1", key), &found)
		if errors.Is(err, sql.ErrNoRows) {
			return none
		}
		return err
	})
	return found.value, err
}
