package recovery

import (
	"context"
	"sync"
	"time"

	"github.com/homeward-dr/homeward"
)

// FailOverRequest is for FailOverWith.
type FailOverRequest struct {
	Point homeward.Position `json:"point,omitzero"` // zero: the newest
	// Shutdown asks for the source to be shut down first.
	Shutdown bool `json:"shutdown,omitempty"`
	// Within bounds what is asked of the source; 0: 60 s. The shutdown has half of it: a
	// site that does not answer must not keep the agent beside it from shipping.
	Within time.Duration `json:"within,omitempty"`
}

// DefaultParting is FailOverRequest.Within where none is given.
const DefaultParting = time.Minute

// Parting tells what a failover got out of the side it left.
type Parting struct {
	Off      bool              `json:"off"`                // its machine is off, as its site says
	Shipped  homeward.Position `json:"shipped,omitzero"`   // the newest state it shipped when it was asked; zero: it was not, or could not
	Why      []string          `json:"why,omitempty"`      // what it could not do, one sentence each
	Within   time.Duration     `json:"within,omitempty"`   // how long it had; 0: it was not asked for anything
	Lossless bool              `json:"lossless,omitempty"` // off, and everything it ever wrote is shipped
}

const partStep = "take leave of the source"

// FailOverWith is FailOver that asks the source first, for as long as Within: for
// the newest point it ships what is on its way; with Shutdown its machine is shut
// down before that, and nothing is lost. The failover goes on without what the source
// does not do in time; the answer and the steps (Optional) say what that is. A
// standby side that cannot be asked stops it before the source is touched.
func (it *Item) FailOverWith(ctx context.Context, req FailOverRequest) (Parting, error) {
	if req.Within < 0 {
		return Parting{}, homeward.Errorf(opFailOver, homeward.Invalid, "within", "give a time, or 0 for a minute", "%v", req.Within)
	}
	if req.Within == 0 {
		req.Within = DefaultParting
	}
	err := it.failOver(ctx, req.Point, func() error { return it.part(ctx, req) })
	return it.Parting, err
}

// part asks the source for what the request says.
func (it *Item) part(ctx context.Context, req FailOverRequest) error {
	if !req.Shutdown && !req.Point.IsZero() {
		return nil
	}
	if _, err := it.lookAtStandby(ctx); err != nil {
		return err
	}
	p := Parting{Within: req.Within}
	bound, cancel := context.WithTimeout(ctx, req.Within)
	defer cancel()
	try := func(name string, do func(tell func(homeward.Progress)) error) bool {
		err := it.optional(bound, name, do)
		if err != nil {
			p.Why = append(p.Why, err.Error())
		}
		return err == nil
	}
	if req.Shutdown {
		p.Off = try("shut down source", func(func(homeward.Progress)) error {
			half, cancel := context.WithTimeout(bound, req.Within/2)
			defer cancel()
			return it.shutdown(half, it.Running)
		})
	}
	ship := func(tell func(homeward.Progress)) error {
		// Asked once: who waits here waits for the machine to run again.
		if _, err := it.Running.Agent.Report(bound, homeward.ItemRequest{Item: it.ID()}); err != nil {
			return err
		}
		if it.Paused {
			if err := it.ship(bound, it.Running.SinkURL); err != nil {
				return err
			}
		}
		var last homeward.CutReport
		err := it.shipping(bound, tell, func(ctx context.Context) (err error) {
			last, err = it.Running.Agent.Cut(ctx, homeward.CutRequest{Item: it.ID(), Kind: homeward.MarkCrash})
			return err
		})
		if err != nil {
			return err
		}
		p.Shipped = last.Position
		if p.Off {
			if last, err = it.drain(bound, tell); err == nil {
				p.Shipped, p.Lossless = last.Position, true
			}
		}
		return err
	}
	switch {
	case it.Strayed:
		p.Why = append(p.Why, "its replica was on its way to another master target: what has been shipped since is not here")
	case it.State != Synchronizing: // else it goes to an older point, and nothing newer could boot
		try(shipLastStep, ship)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	it.Parting = p
	return it.once(ctx, partStep, func(func(homeward.Progress)) error { return nil })
}

// shipping tells what the running side's agent still has to ship while something
// waits for that.
func (it *Item) shipping(ctx context.Context, tell func(homeward.Progress), wait func(context.Context) error) error {
	asking, stop := context.WithCancel(ctx)
	var asked sync.WaitGroup
	asked.Go(func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for asking.Err() == nil {
			select {
			case <-asking.Done():
			case <-tick.C:
				if r, err := it.Running.Agent.Report(asking, homeward.ItemRequest{Item: it.ID()}); err == nil {
					tell(r.Progress)
				}
			}
		}
	})
	err := wait(ctx)
	stop()
	asked.Wait()
	return err
}

// mayPart refuses a planned move of an item that cannot ship its last writes, or
// whose test is open.
func (it *Item) mayPart(op string) error {
	switch {
	case it.Paused:
		return homeward.Errorf(op, homeward.Conflict, "item "+string(it.ID()), "resume its replication first", "it is paused: its last writes would stay behind")
	case it.Leaving != nil:
		return homeward.Errorf(op, homeward.Conflict, "item "+string(it.ID()), "let it come there, or reassociate it back to where it was", "its replica is on its way to master target %s: its last writes would go there", it.Leaving.To)
	case it.Test != nil:
		return homeward.Errorf(op, homeward.Conflict, "item "+string(it.ID()), "clean up the test failover first", "a test failover is open")
	}
	return nil
}
