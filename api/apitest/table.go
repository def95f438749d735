package apitest

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

// table is one kind of resource. The lock of its Memory guards it.
type table[T any] struct {
	memory  *Memory
	noun    string // "site"
	kind    string // of its events; empty: none
	rows    map[string]T
	meta    func(*T) *vault.Meta
	filters map[string]func(T) string
	newest  bool // comes first
}

func (t *table[T]) get(key string) (T, error) {
	v, there := t.rows[key]
	if !there {
		return v, homeward.Errorf("read", homeward.NotFound, t.noun+" "+key, "list what is there", "there is none of that name")
	}
	return v, nil
}

// put adds or changes a resource, its Meta included.
func (t *table[T]) put(key string, v *T) {
	now := t.memory.now()
	m := t.meta(v)
	what := "changed"
	if old, there := t.rows[key]; there {
		*m = vault.Meta{Revision: t.meta(&old).Revision + 1, Created: t.meta(&old).Created, Changed: now}
	} else {
		*m = vault.Meta{Revision: 1, Created: now, Changed: now}
		what = "created"
	}
	t.rows[key] = *v
	t.memory.tell(t.kind, key, what)
}

func (t *table[T]) remove(key string) error {
	if _, err := t.get(key); err != nil {
		return err
	}
	delete(t.rows, key)
	t.memory.tell(t.kind, key, "removed")
	return nil
}

// endOfPage marks what Query.After may be, so that anything else is refused.
const endOfPage = "after:"

func (t *table[T]) list(q vault.Query) (vault.Page[T], error) {
	var page vault.Page[T]
	if err := q.Validate(); err != nil {
		return page, err
	}
	for name, value := range map[string]string{"site": q.Site, "item": q.Item, "state": q.State, "role": q.Role} {
		if value != "" && t.filters[name] == nil {
			return page, homeward.Errorf("list", homeward.Invalid, name, "leave it out", "a list of %ss cannot be filtered by it", t.noun)
		}
	}
	after, marked := strings.CutPrefix(q.After, endOfPage)
	if q.After != "" && !marked {
		return page, homeward.Errorf("list", homeward.Invalid, "after", "take it from the page before, or leave it out", "%q is not the end of a page", q.After)
	}
	order := cmp.Compare[string]
	if t.newest {
		order = func(a, b string) int { return cmp.Compare(b, a) }
	}
	for _, key := range slices.SortedFunc(maps.Keys(t.rows), order) {
		v := t.rows[key]
		if marked && order(key, after) <= 0 || !t.selected(v, q) {
			continue
		}
		if len(page.Entries) == q.Limit {
			return page, nil
		}
		page.Entries = append(page.Entries, v)
		page.Next = endOfPage + key
	}
	page.Next = ""
	return page, nil
}

func (t *table[T]) selected(v T, q vault.Query) bool {
	for name, value := range map[string]string{"site": q.Site, "item": q.Item, "state": q.State, "role": q.Role} {
		if value != "" && t.filters[name](v) != value {
			return false
		}
	}
	return true
}

// stale refuses a change of something that has changed since it was looked at.
func stale(subject string, asked, stored int64) error {
	if asked == 0 || asked == stored {
		return nil
	}
	return homeward.Errorf("change", homeward.Conflict, subject, "look at it again, then repeat the change with its revision",
		"it has changed: revision %d was looked at, it is at %d", asked, stored)
}

func validName(field, name string) error {
	if homeward.ItemID(name).Validate() != nil {
		return homeward.Errorf("read request", homeward.Invalid, field, "use 1 to 64 letters, digits, '-' or '_'", "not a valid name: %q", name)
	}
	return nil
}

func unlessZero(t time.Time, zero, set string) string {
	if t.IsZero() {
		return zero
	}
	return set
}
