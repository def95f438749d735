package api

import (
	"context"
	"errors"
	"iter"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/api/apitest"
	"github.com/homeward-dr/homeward/vault"
)

func wrongToken() error {
	return homeward.Errorf("authenticate", homeward.Unauthentic, "token", "ask an administrator for a new one", "the token is not known here")
}

// TestConformance_HTTPS runs the suite through client, HTTPS and server.
func TestConformance_HTTPS(t *testing.T) {
	apitest.Run(t, func(t *testing.T) apitest.World {
		f, m := memory(t)
		return m.World(func(access vault.Access) (context.Context, vault.Vault) { return t.Context(), f.client(access) })
	})
}

// TestEveryCallHasARoute makes each call of the contract through the client, and
// sees that the same one arrives at the vault, and one only.
func TestEveryCallHasARoute(t *testing.T) {
	calls := apitest.Calls()
	contract := reflect.TypeFor[vault.Vault]()
	s := &spy{seen: map[string]int{}}
	c := serve(t, s).client(vault.Administrator)
	for i := range contract.NumMethod() {
		name := contract.Method(i).Name
		call, there := calls[name]
		if !there {
			t.Errorf("%s is not in apitest.Calls", name)
			continue
		}
		err := call.Do(t.Context(), c)
		if seen := s.arrived(); len(seen) != 1 || seen[name] != 1 {
			t.Errorf("%s: at the vault arrived %v (%v)", name, seen, err)
		}
	}
	for name, call := range calls { // and every action
		if !strings.HasPrefix(name, "Act ") {
			continue
		}
		err := call.Do(t.Context(), c)
		if seen := s.arrived(); len(seen) != 1 || seen["Act"] != 1 {
			t.Errorf("%s: at the vault arrived %v (%v)", name, seen, err)
		}
	}
}

// TestErrors_EveryKind sends each kind of error through the API.
func TestErrors_EveryKind(t *testing.T) {
	v := &failing{}
	f := serve(t, v)
	c := atOnce(f.client(vault.Reader))
	for kind := range homeward.Table {
		v.set(homeward.Errorf("do it", kind, "item web01", "do that", "because of %d", 7))
		_, err := c.Site(t.Context(), "home")
		if homeward.KindOf(err) != kind || homeward.RemedyOf(err) != "do that" || err.Error() != v.get().Error() {
			t.Errorf("%s arrives as %v (%s, %q)", kind, err, homeward.KindOf(err), homeward.RemedyOf(err))
		}
	}
	v.set(homeward.Errorf("act", homeward.Conflict, "item web01", "wait", "not now: %w", &vault.ConflictError{Job: "j7", Allowed: []string{"commit"}}))
	_, err := c.Site(t.Context(), "home")
	var conflict *vault.ConflictError
	if !errors.As(err, &conflict) || conflict.Job != "j7" || len(conflict.Allowed) != 1 || conflict.Allowed[0] != "commit" || err.Error() != v.get().Error() {
		t.Errorf("conflict arrives as %v %+v", err, conflict)
	}
	at := homeward.Position{Generation: homeward.Generation{Number: 2, ID: homeward.NewID()}, Sequence: 9, Cut: homeward.NewID()}
	v.set(homeward.Errorf("act", homeward.Conflict, "item web01", "wait", "no: %w", &homeward.PositionError{True: at}))
	_, err = c.Site(t.Context(), "home")
	var position *homeward.PositionError
	if !errors.As(err, &position) || position.True != at {
		t.Errorf("position arrives as %v", err)
	}
}

// failing is a vault whose Site fails as it is told.
type failing struct {
	vault.Vault
	mu    sync.Mutex
	err   error
	calls int
}

func (f *failing) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *failing) get() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

func (f *failing) Site(context.Context, string) (vault.Site, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	return vault.Site{}, f.err
}

func (f *failing) PutSite(context.Context, vault.SiteRequest) (vault.Site, error) {
	return f.Site(nil, "") //nolint:staticcheck // no context is looked at
}

// Watch is what the server's own metrics follow.
func (f *failing) Watch(ctx context.Context, _ vault.WatchRequest) iter.Seq2[vault.Event, error] {
	return func(func(vault.Event, error) bool) { <-ctx.Done() }
}
