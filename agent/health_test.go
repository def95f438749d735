package agent

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
)

func TestHealth(t *testing.T) {
	r := newRig(t)
	r.start()
	r.cut()
	if g := r.agent.Generations(); len(g) != 1 || g["web01"] != r.request.Generation {
		t.Errorf("generations %v", g)
	}
	r.agent.items["web01"].alarms.raise(alarmFreeze, "it does not freeze", "look at it")
	a := r.agent.Alarms()
	if len(a) != 1 || a[0].Code != alarmFreeze || a[0].Text != "item web01: it does not freeze" || a[0].Remedy != "look at it" || a[0].Since.IsZero() {
		t.Errorf("alarms %+v", a)
	}
	next := r.request.Generation.Next()
	if _, err := r.agent.Handover(t.Context(), homeward.GenerationRequest{Item: "web01", Generation: next}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.agent.Release(t.Context(), homeward.GenerationRequest{Item: "web01", Generation: next}); err != nil {
		t.Fatal(err)
	}
	if g, a := r.agent.Generations(), r.agent.Alarms(); g["web01"] != next || len(a) != 0 {
		t.Errorf("released: generations %v, alarms %+v", g, a)
	}

	// What cannot be read is told as such.
	r.close()
	if err := durable.WriteFile(durable.OS(), filepath.Join(r.cfg.Dir, "items", "web01", recordName), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.open()
	a = r.agent.Alarms()
	if len(a) != 1 || a[0].Code != "record-unreadable" || !strings.HasPrefix(a[0].Text, "item web01: ") {
		t.Errorf("alarms %+v", a)
	}
	if g := r.agent.Generations(); len(g) != 0 {
		t.Errorf("generations %v", g)
	}
}
