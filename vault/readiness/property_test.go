package readiness

import (
	"math/rand/v2"
	"os"
	"reflect"
	"strconv"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

// fact is any Value, for the test to hide or change.
type fact interface {
	hide()
	change(*rand.Rand)
}

func (v *Value[T]) hide() { *v = Value[T]{Why: "hidden"} }

// change makes the fact absent, or gives it some other value.
func (v *Value[T]) change(r *rand.Rand) {
	if r.IntN(4) == 0 {
		*v = Value[T]{Standing: Absent}
		return
	}
	v.Standing = Known
	jumble(reflect.ValueOf(&v.V).Elem(), r)
}

// words are those that mean something to some rule.
var words = []string{"", "linux", "windows", "debian 11", "debian 13", "v1.2.0", "v0.9.1", "/mnt/retention", "ds1", "ds2", "datastore", "ready",
	"registering", "present", "gone", "unseen", "on", "off", "unknown", "no-power-on", "failback", "production", "gold-failback", "gold", "replica", "size", "uses", "vfat", "mt1", "https://mt1:1", "PowerOn"}

// jumble changes some of what is in v.
func jumble(v reflect.Value, r *rand.Rand) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(words[r.IntN(len(words))])
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Int, reflect.Int64:
		v.SetInt([]int64{0, 1, 30, 59, 100, 1 << 20, 1 << 30, int64(time.Second), int64(10 * time.Minute), -int64(time.Minute)}[r.IntN(10)])
	case reflect.Float64:
		v.SetFloat([]float64{0, 100, 1 << 20, 1 << 30}[r.IntN(4)])
	case reflect.Slice:
		n := r.IntN(3)
		s := reflect.MakeSlice(v.Type(), n, n)
		reflect.Copy(s, v)
		for i := range n {
			jumble(s.Index(i), r)
		}
		v.Set(s)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(noon.Add(time.Duration(r.IntN(120)-60) * time.Minute)))
			return
		}
		for i := range v.NumField() {
			if r.IntN(3) == 0 {
				jumble(v.Field(i), r)
			}
		}
	}
}

// facts are all Values below v.
func facts(v reflect.Value) []fact {
	if f, is := v.Addr().Interface().(fact); is {
		return []fact{f}
	}
	var all []fact
	if v.Kind() == reflect.Struct && v.Type() != reflect.TypeFor[vault.Item]() && v.Type() != reflect.TypeFor[time.Time]() {
		for i := range v.NumField() {
			all = append(all, facts(v.Field(i))...)
		}
	}
	return all
}

func seed(t *testing.T) uint64 {
	if s := os.Getenv("HOMEWARD_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return rand.Uint64()
}

// Whatever is hidden: what is ok, or does not apply, is so too when it is told.
func TestProperty_UnknownNeverPasses(t *testing.T) {
	s := seed(t)
	t.Logf("HOMEWARD_SEED=%d", s)
	r := rand.New(rand.NewPCG(s, 0))
	passed := 0
	for range 500 {
		told := ready([]Stage{Forward, Away, Returning, Home, Over}[r.IntN(5)])
		if r.IntN(4) == 0 {
			told.Chosen.Location = vault.AlternateLocation
		}
		for _, f := range facts(reflect.ValueOf(&told).Elem()) {
			if r.IntN(8) == 0 {
				f.change(r)
			}
		}
		hidden := told
		for _, f := range facts(reflect.ValueOf(&hidden).Elem()) {
			if r.IntN(5) == 0 {
				f.hide()
			}
		}
		for _, rule := range Rules() {
			was, now := verdict(rule, hidden), verdict(rule, told)
			if was == vault.OK {
				passed++
			}
			if was == vault.OK && now != vault.OK || was == vault.NotApplicable && now != vault.NotApplicable {
				t.Fatalf("%s: %s while facts are hidden, %s when they are told\n%+v\n%+v", rule.ID, was, now, rule.on(hidden), rule.on(told))
			}
		}
	}
	if passed < 2000 {
		t.Errorf("only %d verdicts passed: the test looks at nothing", passed)
	}
}

// With each single fact hidden, no rule that reads it may still say ok.
func TestProperty_NothingKnown(t *testing.T) {
	for _, stage := range []Stage{Forward, Away, Returning, Home} {
		f := ready(stage)
		for _, v := range facts(reflect.ValueOf(&f).Elem()) {
			v.hide()
		}
		if s := ScoreOf(Check(f), noon); s.Ready || s.Unknown < 15 {
			t.Errorf("%s: %+v", stage, s)
		}
	}
}

func TestVolumeEligibility(t *testing.T) {
	fit := homeward.Volume{Path: "/mnt/retention", FSType: "xfs", Size: 1, Uses: []string{"retention"}}
	if ok, rule, why := VolumeEligibility(fit); !ok || rule != "" || why != "" {
		t.Errorf("%v %s %s", ok, rule, why)
	}
	for rule, change := range map[string]func(*homeward.Volume){
		"R104": func(v *homeward.Volume) { v.Uses = []string{"retention", "replica"} },
		"R105": func(v *homeward.Volume) { v.ReadOnly = true },
		"R106": func(v *homeward.Volume) { v.Uses = []string{"installation"} },
		"R107": func(v *homeward.Volume) { v.FSType = "FAT32" },
		"R108": func(v *homeward.Volume) { v.Size = 0 },
	} {
		v := fit
		change(&v)
		if ok, got, why := VolumeEligibility(v); ok || got != rule || why == "" {
			t.Errorf("%s: %v %s %q", rule, ok, got, why)
		}
	}
	for field, rule := range map[string]string{"uses": "R104", "read_only": "R105", "fs_type": "R107", "size": "R108"} {
		v := fit
		v.Unknown = []string{field}
		if ok, got, why := VolumeEligibility(v); ok || got != rule || why == "" {
			t.Errorf("%s not known: %v %s %q", field, ok, got, why)
		}
	}
}

// The worked example of the seeds (R167): "at least three hours".
func TestSeedsEstimate(t *testing.T) {
	e := SeedsEstimate(is(72*time.Minute), is(int64(45<<30)), is(60.0*(1<<20)))
	if minutes := e.Transfer / 60; !e.Known || minutes < 54.9 || minutes > 55.8 {
		t.Errorf("transfer takes %.1f min: %+v", minutes, e)
	}
	if minutes := e.Total / 60; minutes < 181 || minutes > 184 {
		t.Errorf("all takes %.1f min", minutes)
	}
	for _, e := range []vault.SeedsEstimate{
		SeedsEstimate(NotKnown[time.Duration]("job", "it was before our time"), is(int64(1)), is(1.0)),
		SeedsEstimate(is(time.Hour), Value[int64]{}, is(1.0)),
		SeedsEstimate(is(time.Hour), is(int64(1)), is(0.0)),
	} {
		if e.Known || e.Total != 0 || e.Why == "" {
			t.Errorf("not known: %+v", e)
		}
	}
}
