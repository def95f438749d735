package vault

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
)

// everything is an input with every field set.
var everything = Input{
	Target: "a", Policy: "b", Agent: "c", MasterTarget: "d", ProcessServer: "e", Datastore: "f", Retention: "g",
	Point: "h", Shutdown: true, Probe: &Probe{TCP: "i:1"}, Network: "j", Lifetime: time.Hour,
	Direction: homeward.Direction{From: "k", To: "l"}, Location: "m", Force: true, DiscardBranch: true, Overrides: map[string]string{"R1": "n"},
}

func TestActionRequest_OnlyItsOwnFields(t *testing.T) {
	v := reflect.ValueOf(everything)
	used := map[string]bool{}
	for _, action := range Actions() {
		for i := range v.NumField() {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			if v.Field(i).IsZero() {
				t.Fatalf("%s is not set", name)
			}
			var one Input
			reflect.ValueOf(&one).Elem().Field(i).Set(v.Field(i))
			err := ActionRequest{Item: "web01", Action: action, Input: one}.Validate()
			if slices.Contains(action.Inputs(), name) {
				used[name] = true
				if err != nil {
					t.Errorf("%s with %s: %v", action, name, err)
				}
				continue
			}
			if homeward.KindOf(err) != homeward.Invalid || !strings.Contains(err.Error(), name) {
				t.Errorf("%s with %s: %v", action, name, err)
			}
		}
	}
	data, err := json.Marshal(everything)
	var all map[string]any
	if err != nil || json.Unmarshal(data, &all) != nil || len(used) != len(all) {
		t.Errorf("%d of %d fields belong to some action", len(used), len(all))
	}
}

func TestActionRequest_Bad(t *testing.T) {
	for field, r := range map[string]ActionRequest{
		"action":  {Item: "web01", Action: "explode"},
		"item":    {Item: "a/b", Action: Commit},
		"machine": {Item: "web01", Action: Commit, Machine: "home/1"},
	} {
		if err := r.Validate(); homeward.KindOf(err) != homeward.Invalid || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}
