package nbd

import (
	"context"
	"slices"
	"time"

	"github.com/homeward-dr/homeward"
)

// keep receives, and connects again after a break, until Close or a final fault.
// It alone ends links, so that between two links nobody but it touches the
// outstanding calls.
func (c *Client) keep(l *link) {
	for {
		err := l.run(c.ctx)
		c.mu.Lock()
		c.link = nil
		c.mu.Unlock()
		l.end(err)
		if c.ctx.Err() != nil {
			c.giveUp(c.closedError(), true)
			return
		}
		c.o.Log.Warn("NBD connection broke", "uri", c.uri.String(), "err", err)
		c.broke(err)
		if !l.answered {
			// It may be our request that ends it each time: no hot loop.
			c.pause(firstPause)
		}
		if l, err = c.reconnect(err); err != nil {
			c.giveUp(err, true)
			return
		}
		c.o.Log.Info("NBD connection is back", "uri", c.uri.String())
		c.resume(l)
	}
}

func (c *Client) closedError() error {
	return homeward.Errorf("use disk", homeward.Canceled, c.uri.String(), "open it again", "the client is closed")
}

// broke notes what a break may have lost, and fails calls that have had their
// time: they would otherwise be sent for ever to a server that never answers.
func (c *Client) broke(cause error) {
	c.mu.Lock()
	if c.lost == nil && c.acked > c.flushed && c.uri.Network != "unix" {
		c.lost = homeward.Errorf("flush disk", homeward.IO, c.uri.String(), "open the disk again and write again what was not flushed",
			"the connection broke, and writes answered before may not be durable: %w", cause)
	}
	var old []*call
	for cookie, k := range c.calls {
		if time.Since(k.begun) >= c.o.RequestTimeout+c.o.ReconnectDeadline {
			old = append(old, k)
			delete(c.calls, cookie)
		}
	}
	c.mu.Unlock()
	for _, k := range old {
		k.err = homeward.Errorf("use disk", homeward.Timeout, c.uri.String(), "look at the NBD server", "no answer in time: %w", cause)
		k.finish()
	}
}

// giveUp fails all outstanding calls with err, and new ones until it is cleared.
func (c *Client) giveUp(err error, final bool) {
	c.mu.Lock()
	c.fault, c.final = err, final
	left := c.calls
	c.calls = map[uint64]*call{}
	c.mu.Unlock()
	for _, k := range left {
		k.err = err
		k.finish()
	}
}

// resume makes l the connection and sends what is outstanding, oldest first.
func (c *Client) resume(l *link) {
	c.mu.Lock()
	c.link, c.fault = l, nil
	again := make([]*attempt, 0, len(c.calls))
	for _, k := range c.calls {
		a := &attempt{}
		k.prepare(a)
		again = append(again, a)
	}
	c.mu.Unlock()
	slices.SortFunc(again, func(a, b *attempt) int { return int(a.call.cookie - b.call.cookie) })
	l.resend(again)
}

// Pauses between attempts to connect.
const (
	firstPause = 20 * time.Millisecond
	lastPause  = 2 * time.Second
)

// reconnect tries until there is a connection; the error is final. At the
// deadline it fails what is outstanding and goes on trying for later calls.
func (c *Client) reconnect(cause error) (*link, error) {
	if c.o.ReconnectDeadline <= 0 {
		return nil, cause
	}
	deadline := time.Now().Add(c.o.ReconnectDeadline)
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		l, err := c.relink(deadline)
		if err == nil {
			return l, nil
		}
		if c.ctx.Err() != nil {
			return nil, c.closedError()
		}
		if k := homeward.KindOf(err); k == homeward.NotFound || k == homeward.Fenced {
			return nil, err
		}
		left := time.Until(deadline)
		if left <= 0 {
			c.giveUp(homeward.Errorf("use disk", homeward.Unavailable, c.uri.String(), "start the NBD server again",
				"the connection did not come back in time: %w", err), false)
			left = lastPause
		}
		c.pause(min(pause, left))
	}
}

// pause waits for d, or until Close.
func (c *Client) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.ctx.Done():
	}
}

// relink connects again, to the same disk. An attempt does not outlast deadline,
// unless that is over already.
func (c *Client) relink(deadline time.Time) (*link, error) {
	ctx := c.ctx
	if time.Now().Before(deadline) {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline)
		defer cancel()
	}
	conn, in, export, err := dial(ctx, &c.o, c.uri)
	if err != nil {
		return nil, err
	}
	fenced := func(format string, args ...any) (*link, error) {
		_ = conn.Close()
		return nil, homeward.Errorf("reconnect", homeward.Fenced, c.uri.String(), "open the disk again, if it is still meant to be this one", format, args...)
	}
	was := c.export
	switch {
	case export.size != was.size:
		return fenced("the export has %d bytes now, it had %d", export.size, was.size)
	case was.flags&^export.flags&^(canReadOnly|canMultiConn) != 0 || export.flags&^was.flags&canReadOnly != 0:
		return fenced("the export can do less than before (flags %#x, were %#x)", export.flags, was.flags)
	case export.minBlock > was.minBlock || export.maxRequest < was.maxRequest:
		return fenced("the export takes other block sizes than before")
	}
	for name, id := range was.contexts {
		if export.contexts[name] != id {
			return fenced("the meta context %q is gone", name)
		}
	}
	return newLink(c, conn, in, export), nil
}

// watch breaks the connection when an answer is overdue.
func (c *Client) watch() {
	tick := time.NewTicker(max(c.o.RequestTimeout/4, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-tick.C:
		}
		c.mu.Lock()
		l, overdue, ended := c.link, false, c.final
		for _, k := range c.calls {
			overdue = overdue || time.Since(k.try.at) > c.o.RequestTimeout
		}
		c.mu.Unlock()
		if ended {
			return
		}
		if overdue && l != nil {
			l.breakOff(homeward.Errorf("use disk", homeward.Timeout, c.uri.String(), "look at the NBD server", "no answer in %v", c.o.RequestTimeout))
		}
	}
}
