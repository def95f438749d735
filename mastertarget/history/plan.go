package history

// Piece is a segment as far as planning looks at it.
type Piece struct {
	Bytes int64
	Keep  bool // its older boundary is a point that stays
}

// Batch is a range of adjacent pieces that shall become one.
type Batch struct{ First, Last int }

const (
	// MaxInputs is how many segments are merged at once at most.
	MaxInputs = 64
	// fan is how many segments of a like size a growing run gathers before they are
	// merged: each byte is then rewritten once per level, not once per step.
	fan = 16
)

// Plan says which of the pieces (oldest first) to merge next; tipKept says
// whether the boundary after the newest is a point that stays.
//
// A run between two boundaries that stay is merged outright. The newest run,
// while no point ends it, still grows (an initial sync, a resync): of it, fan
// adjacent pieces are merged when none outweighs the others together.
func Plan(pieces []Piece, tipKept bool) []Batch {
	var plan []Batch
	for first := 0; first < len(pieces); {
		last := first
		for last+1 < len(pieces) && !pieces[last+1].Keep {
			last++
		}
		if last+1 < len(pieces) || tipKept {
			plan = append(plan, closedRun(first, last)...)
		} else if b, found := growingRun(pieces, first, last); found {
			plan = append(plan, b)
		}
		first = last + 1
	}
	return plan
}

func closedRun(first, last int) (plan []Batch) {
	for first < last {
		end := min(first+MaxInputs-1, last)
		plan = append(plan, Batch{first, end})
		first = end + 1
	}
	return plan
}

func growingRun(pieces []Piece, first, last int) (b Batch, found bool) {
	for ; first+fan-1 <= last; first++ {
		var sum, most int64
		for _, p := range pieces[first : first+fan] {
			sum += p.Bytes
			most = max(most, p.Bytes)
		}
		if most <= sum/2 {
			return Batch{first, first + fan - 1}, true
		}
	}
	return Batch{}, false
}
