package recovery

import (
	"context"
	"slices"
	"time"

	"github.com/homeward-dr/homeward"
)

// Unfinished is a list that was cut short: the same call again goes on with it.
// Most steps are simply done again, for roles and sites answer a repeated call
// with what they did. A step whose second run would find another world, because
// the first changed it, is done once.
type Unfinished struct {
	Op    string              `json:"op,omitempty"`   // empty: none
	Point homeward.Position   `json:"point,omitzero"` // asked for
	Next  homeward.Generation `json:"next,omitzero"`
	Done  map[string]bool     `json:"done,omitempty"` // steps
	// Drained is the newest state of the running side; known once it was drained.
	Drained homeward.Position `json:"drained,omitzero"`
	// Bootable says that the replica that Reassociate brought to rest stands at a point.
	Bootable bool `json:"bootable,omitempty"`
	// Differ is what a reprotect found before the old side forgot its part of it.
	Differ *differences           `json:"differ,omitempty"`
	Before homeward.CaptureReport `json:"before,omitzero"`
	// Predicted is what Reverse or Relocate found would travel.
	Predicted homeward.Estimate `json:"predicted,omitzero"`
	// FullReads are bytes read to compare suspect ranges.
	FullReads int64     `json:"full_reads,omitempty"`
	Began     time.Time `json:"began,omitzero"`
	// Disks are those that Relocate has had made, in the machine's order.
	Disks []string `json:"disks,omitempty"`
	// WasOn says that the machine ran when Enable shut it down.
	WasOn bool `json:"was_on,omitempty"`
}

// begin starts or resumes the list of an operation, and tells the generation it
// raises to. What another operation left unfinished is given up with it. The
// generation is written down before any role hears of it.
func (it *Item) begin(op string, point homeward.Position) (homeward.Generation, error) {
	if it.resumes(op, point) {
		return it.List.Next, it.save()
	}
	if it.List.Op != "" { // another list or point, which the generation of that attempt may serve
		it.Next = it.Next.Next()
	}
	// A generation that a call whose answer was lost may have raised is used again:
	// another one of the same number would be fenced.
	if it.Next.Number <= it.Generation.Number {
		it.Next = it.Generation.Next()
	}
	it.List = Unfinished{Op: op, Point: point, Next: it.Next, Done: map[string]bool{}, Began: time.Now().UTC()}
	return it.List.Next, it.save()
}

// half ends the first half of a list: the second goes on with what it found, in
// this process or in a later one.
func (it *Item) half() error {
	it.State = Synchronizing
	return it.save()
}

// mayAwait allows the second half of a list whose first has ended.
func (it *Item) mayAwait(op string, halves ...string) error {
	if err := it.require(op, Synchronizing); err != nil {
		return err
	}
	if !slices.Contains(halves, it.List.Op) {
		return homeward.Errorf(op, homeward.Conflict, "item "+string(it.ID()), "wait for that instead", "it synchronizes after %s", it.List.Op)
	}
	return nil
}

// end closes the list, with the item in a state.
func (it *Item) end(s State) error {
	it.State, it.List = s, Unfinished{}
	if s == Protected {
		it.Strayed = false // the map is of the leg that is in force
		it.Unseen = false
		it.Interrupted = nil // whatever it had to compare, this leg has
	}
	return it.save()
}

// resumes tells whether the same operation was begun and not ended.
func (it *Item) resumes(op string, point homeward.Position) bool {
	return it.List.Op == op && it.List.Point == point
}

// once runs a step of the list unless it has ended well already.
func (it *Item) once(ctx context.Context, name string, do func(tell func(homeward.Progress)) error) error {
	if it.List.Done[name] {
		return nil
	}
	err := it.step(ctx, name, do)
	if err != nil {
		return err
	}
	if it.List.Done == nil { // of a record that says so by leaving it out
		it.List.Done = map[string]bool{}
	}
	it.List.Done[name] = true
	return it.save()
}
