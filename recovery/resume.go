package recovery

import (
	"context"

	"github.com/homeward-dr/homeward"
)

// unfinished is a list that was cut short: the same call again goes on with it.
// Most steps are simply done again, for roles and sites answer a repeated call
// with what they did. A step whose second run would find another world, because
// the first changed it, is done once.
type unfinished struct {
	op    string
	point homeward.Position // asked for
	next  homeward.Generation
	done  map[string]bool
	// drained is the newest state of the running side; known once it was drained.
	drained homeward.Position
	// differ is what a reprotect found before the old side forgot its part of it.
	differ *differences
	before homeward.CaptureReport
	// fullReads are bytes read to compare suspect ranges.
	fullReads int64
}

// begin starts or resumes the list of an operation, and tells the generation it
// raises to. What another operation left unfinished is given up with it.
func (it *Item) begin(op string, point homeward.Position) homeward.Generation {
	if it.resumes(op, point) {
		return it.list.next
	}
	if it.list.op == op { // with another point, which the generation of the first attempt may serve
		it.Next = it.Next.Next()
	}
	// A generation that a call whose answer was lost may have raised is used again:
	// another one of the same number would be fenced.
	if it.Next.Number <= it.Generation.Number {
		it.Next = it.Generation.Next()
	}
	it.list = unfinished{op: op, point: point, next: it.Next, done: map[string]bool{}}
	return it.list.next
}

// end closes the list.
func (it *Item) end() { it.list = unfinished{} }

// resumes tells whether the same operation was begun and not ended.
func (it *Item) resumes(op string, point homeward.Position) bool {
	return it.list.op == op && it.list.point == point
}

// once runs a step of the list unless it has ended well already.
func (it *Item) once(ctx context.Context, name string, do func(tell func(homeward.Progress)) error) error {
	if it.list.done[name] {
		return nil
	}
	err := it.step(ctx, name, do)
	if err == nil {
		it.list.done[name] = true
	}
	return err
}
