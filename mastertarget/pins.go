package mastertarget

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
)

const (
	maxPinName  = 80
	maxPins     = 1024
	branchPin   = "branch:" // made by Prepare
	viewPin     = "view:"   // made by an open view, in memory
	digestPin   = "digest"  // made by a cached digest tree, in memory
	failOverPin = viewPin + failOverView
)

// pin holds a boundary against thinning.
type pin struct {
	Boundary uint64            `json:"boundary"`
	Position homeward.Position `json:"position"`
	Name     string            `json:"name"`
}

// pins are the holds on points of an item. Those that people and Prepare make are
// durable; those of views and digests live as long as the process.
type pins struct {
	fsys durable.FS
	path string

	mu    sync.Mutex
	named []pin
	brief []pin
}

type pinsRecord struct {
	Pins []pin `json:"pins"`
}

func openPins(fsys durable.FS, path string) (*pins, error) {
	p := &pins{fsys: fsys, path: path}
	var rec pinsRecord
	if err := durable.ReadJSON(fsys, path, &rec); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return p, err
	}
	p.named = rec.Pins
	return p, nil
}

// add makes a durable pin; that it is there already is no error.
func (p *pins) add(n pin) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if slices.Contains(p.named, n) {
		return nil
	}
	if len(p.named) >= maxPins {
		return homeward.Errorf("pin point", homeward.Busy, n.Name, "unpin some points first", "%d pins on this item already", len(p.named))
	}
	return p.save(append(slices.Clone(p.named), n))
}

// remove takes durable pins away.
func (p *pins) remove(which func(pin) bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	left := slices.DeleteFunc(slices.Clone(p.named), which)
	if len(left) == len(p.named) {
		return nil
	}
	return p.save(left)
}

func (p *pins) save(next []pin) error {
	if err := durable.WriteJSON(p.fsys, p.path, pinsRecord{next}); err != nil {
		return err
	}
	p.named = next
	return nil
}

// hold and release make and end a pin that dies with the process.
func (p *pins) hold(n pin) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.brief = append(p.brief, n)
}

func (p *pins) release(n pin) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.brief, n); i >= 0 {
		p.brief = slices.Delete(p.brief, i, i+1)
	}
}

// on lists the names that hold a boundary.
func (p *pins) on(boundary uint64) (names []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, list := range [][]pin{p.named, p.brief} {
		for _, n := range list {
			if n.Boundary == boundary && !slices.Contains(names, n.Name) {
				names = append(names, n.Name)
			}
		}
	}
	return names
}

// after lists the pins on boundaries newer than one.
func (p *pins) after(boundary uint64) (names []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, list := range [][]pin{p.named, p.brief} {
		for _, n := range list {
			if n.Boundary > boundary && n.Name != digestPin {
				names = append(names, n.Name)
			}
		}
	}
	return names
}

// held reports whether a person or a leg holds any boundary up to one.
func (p *pins) held(boundary uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.named, func(n pin) bool { return n.Boundary <= boundary })
}

// heldByPeople is held without the pins that Prepare makes.
func (p *pins) heldByPeople(boundary uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.named, func(n pin) bool {
		return n.Boundary <= boundary && !strings.HasPrefix(n.Name, branchPin)
	})
}

// holder pins points of an item for people.
type holder struct{ *item }

// pin holds a point under a durable name.
func (it holder) pin(req homeward.PinRequest) error {
	const op = "pin point"
	if len(req.Name) == 0 || len(req.Name) > maxPinName {
		return homeward.Errorf(op, homeward.Invalid, "name", "give 1 to 80 bytes", "%d bytes", len(req.Name))
	}
	if _, err := it.open(op); err != nil {
		return err
	}
	p, n, err := it.hold(op, req.Point, "pinning")
	if err != nil {
		return err
	}
	defer it.pins.release(n)
	return homeward.Wrap(it.pins.add(pin{Boundary: p.boundary, Position: p.Position, Name: req.Name}), op, it.subject())
}

func (it holder) unpin(req homeward.PinRequest) error {
	if len(req.Name) == 0 {
		return homeward.Errorf("unpin point", homeward.Invalid, "name", "give the name it is held under", "missing")
	}
	return it.pins.remove(func(n pin) bool { return n.Name == req.Name && (req.Point.IsZero() || n.Position == req.Point) })
}
