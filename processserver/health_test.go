package processserver

import (
	"context"
	"strings"
	"testing"

	"github.com/homeward-dr/homeward"
)

// awaySink is a target that cannot be reached.
type awaySink struct{ homeward.Sink }

func (awaySink) Standing(context.Context, homeward.StandingRequest) (homeward.Standing, error) {
	return homeward.Standing{}, homeward.Errorf("ask standing", homeward.Unavailable, targetURL, "start it", "nobody is there")
}

func TestHealth(t *testing.T) {
	r := newRig(t)
	r.start()
	r.mustPut(r.source.Next(t))
	if g := r.server.Generations(); len(g) != 1 || g["web01"] != r.gen {
		t.Errorf("generations %v", g)
	}
	if a := r.server.Alarms(); len(a) != 0 {
		t.Errorf("alarms %+v", a)
	}
	r.stop()
	r.config.Dial = func(string) homeward.Sink { return awaySink{r.twin} }
	r.open()
	route := r.server.known()[0]
	for r.server.Alarms() == nil {
		route.mu.Lock()
		changed, done := route.changed, route.fault != nil
		route.mu.Unlock()
		if done {
			continue
		}
		select {
		case <-changed:
		case <-t.Context().Done():
			t.Fatal("no alarm")
		}
	}
	a := r.server.Alarms()
	if len(a) != 1 || !strings.HasPrefix(a[0].Text, "item web01: ") || a[0].Remedy != "start it" || a[0].Since.IsZero() {
		t.Errorf("alarms %+v", a)
	}
	next := r.gen.Next()
	if _, err := r.server.Forget(t.Context(), homeward.GenerationRequest{Item: "web01", Generation: next}); err != nil {
		t.Fatal(err)
	}
	if g, a := r.server.Generations(), r.server.Alarms(); g["web01"] != next || len(a) != 0 {
		t.Errorf("forgotten: generations %v, alarms %+v", g, a)
	}
}
