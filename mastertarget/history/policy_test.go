package history_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable/powerloss"
	"github.com/homeward-dr/homeward/mastertarget/history"
)

var day = time.Unix(1_700_000_000, 0).Truncate(24 * time.Hour)

func everySecond(from, to time.Time) (list []history.Candidate) {
	for at := from; !at.After(to); at = at.Add(time.Second) {
		list = append(list, history.Candidate{Boundary: uint64(len(list) + 1), At: at, Kind: homeward.MarkCrash})
	}
	return list
}

func left(points []history.Candidate, drop map[uint64]bool) (list []history.Candidate) {
	for _, p := range points {
		if !drop[p.Boundary] {
			list = append(list, p)
		}
	}
	return list
}

func TestExpire_Tiers(t *testing.T) {
	now := day.Add(30 * time.Hour)
	points := everySecond(day.Add(25*time.Hour), now)
	got := left(points, history.Expire(points, homeward.DefaultRetention(), now, 0))
	// 601 of ten minutes, then one a minute for the rest of two hours, then quarters.
	young, minutes, quarters := 0, 0, 0
	for _, p := range got {
		switch age := now.Sub(p.At); {
		case age <= 10*time.Minute:
			young++
		case age <= 2*time.Hour:
			minutes++
		default:
			quarters++
		}
	}
	if young != 601 || minutes < 109 || minutes > 125 || quarters < 12 || quarters > 28 {
		t.Fatalf("kept %d young, %d by the minute, %d by the quarter", young, minutes, quarters)
	}
}

func TestExpire_Rules(t *testing.T) {
	tiers := []homeward.Tier{{For: time.Minute, Every: 10 * time.Second}}
	at := func(s int) time.Time { return day.Add(time.Duration(s) * time.Second) }
	points := []history.Candidate{
		{Boundary: 1, At: at(0), Kind: homeward.MarkCrash, Pinned: true}, // too old, held
		{Boundary: 2, At: at(1), Kind: homeward.MarkCrash},               // too old
		{Boundary: 3, At: at(65), Kind: homeward.MarkCrash},              // the oldest that is covered
		{Boundary: 4, At: at(66), Kind: homeward.MarkGroup},
		{Boundary: 5, At: at(67), Kind: homeward.MarkApp},
		{Boundary: 6, At: at(71), Kind: homeward.MarkCrash}, // first of its bucket
		{Boundary: 7, At: at(72), Kind: homeward.MarkCrash, Pinned: true},
		{Boundary: 8, At: at(73), Kind: homeward.MarkCrash},
		{Boundary: 9, At: at(100), Kind: homeward.MarkCrash}, // the newest
	}
	drop := history.Expire(points, tiers, at(110), 0)
	for b, want := range map[uint64]bool{1: false, 2: true, 3: false, 4: false, 5: true, 6: false, 7: false, 8: true, 9: false} {
		if drop[b] != want {
			t.Errorf("boundary %d: dropped %v, want %v", b, drop[b], want)
		}
	}
	if drop := history.Expire(points[8:], tiers, at(10_000), 0); len(drop) > 0 {
		t.Errorf("the newest point went: %v", drop)
	}
}

// Whatever the points: asked again the answer is the same, what is pinned stays,
// the newest stays, and the bound holds.
func TestExpire_Properties(t *testing.T) {
	rng := powerloss.Rand(t)
	kinds := []homeward.MarkKind{homeward.MarkCrash, homeward.MarkApp, homeward.MarkGroup}
	for range 300 {
		var points []history.Candidate
		at, pinned := day, 0
		for i := range rng.IntN(300) {
			at = at.Add(time.Duration(rng.Int64N(int64(5 * time.Minute))))
			p := history.Candidate{Boundary: uint64(i + 1), At: at, Kind: kinds[rng.IntN(3)], Pinned: rng.IntN(20) == 0}
			if p.Pinned {
				pinned++
			}
			points = append(points, p)
		}
		now := at.Add(time.Duration(rng.Int64N(int64(time.Hour))))
		most := rng.IntN(2) * (5 + rng.IntN(50))
		once := left(points, history.Expire(points, homeward.DefaultRetention(), now, most))
		twice := left(once, history.Expire(once, homeward.DefaultRetention(), now, most))
		if len(once) != len(twice) {
			t.Fatalf("%d points stay, then %d", len(once), len(twice))
		}
		if most > 0 && len(once) > most+pinned+3 {
			t.Fatalf("%d points stay, at most %d and %d pinned", len(once), most, pinned)
		}
		if len(points) > 0 && once[len(once)-1] != points[len(points)-1] {
			t.Fatal("the newest point went")
		}
		for _, p := range once {
			if p.Pinned {
				pinned--
			}
		}
		if pinned != 0 {
			t.Fatal("a pinned point went")
		}
	}
}

// A growing run is merged in steps that rewrite each byte a few times only, and
// the number of its segments stays bounded.
func TestPlan_GrowingRunIsCheap(t *testing.T) {
	var pieces []history.Piece
	var written, added int64
	for range 20_000 {
		pieces = append(pieces, history.Piece{Bytes: 1 + rand.Int64N(3)})
		added += pieces[len(pieces)-1].Bytes
		for plan := history.Plan(pieces, false); len(plan) > 0; plan = history.Plan(pieces, false) {
			b := plan[0]
			sum := int64(0)
			for _, p := range pieces[b.First : b.Last+1] {
				sum += p.Bytes
			}
			written += sum
			pieces = append(append(pieces[:b.First:b.First], history.Piece{Bytes: sum}), pieces[b.Last+1:]...)
		}
	}
	if len(pieces) > 120 || written > 8*added {
		t.Fatalf("%d segments left, %d bytes written for %d added", len(pieces), written, added)
	}
}

func TestPlan_ClosedRuns(t *testing.T) {
	pieces := make([]history.Piece, 10)
	for i := range pieces {
		pieces[i] = history.Piece{Bytes: 1, Keep: i == 0 || i == 3 || i == 4}
	}
	plan := history.Plan(pieces, true)
	if len(plan) != 2 || plan[0] != (history.Batch{First: 0, Last: 2}) || plan[1] != (history.Batch{First: 4, Last: 9}) {
		t.Fatalf("plan %v", plan)
	}
	if plan := history.Plan(pieces, false); len(plan) != 1 {
		t.Fatalf("with a growing run: %v", plan)
	}
}
