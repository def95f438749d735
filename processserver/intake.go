package processserver

// intake is where the bytes of a delta go as they are read: first, until its
// header is known, into memory (bounded by the decoder's limit for headers and its
// buffer), then into the spool, within the budget.
type intake struct {
	route *route
	head  []byte
	entry *entry
}

func (in *intake) Write(p []byte) (int, error) {
	if in.entry == nil {
		in.head = append(in.head, p...)
		return len(p), nil
	}
	r, e, n := in.route, in.entry, int64(len(p))
	if err := r.server.budget.take(r, n); err != nil {
		return 0, err
	}
	r.mu.Lock()
	if e.gone {
		err := e.err
		r.mu.Unlock()
		r.server.budget.give(r, n)
		return 0, err
	}
	e.size += n
	r.mu.Unlock()
	return e.body.Write(p)
}

// into sends what was gathered, and all that follows, into e.
func (in *intake) into(e *entry) error {
	head := in.head
	in.entry, in.head = e, nil
	_, err := in.Write(head)
	return err
}
