package nbd

import (
	"sync/atomic"
	"time"
)

// call is one request of a client, from its submission until its answer; it
// outlives connections. Its fields belong to the goroutine that receives, while
// it is outstanding, and to its submitter before and after.
type call struct {
	request
	client  *Client
	payload []byte // of a write
	into    []byte // of a read
	got     int    // bytes of into that have arrived
	found   map[uint32][]Extent
	err     error // the server's answer, or why there is none

	begun time.Time // of its submission
	try   *attempt  // guarded by Client.mu
	first attempt
	done  chan struct{} // gets one value
}

// attempt is one sending of a call over one connection. The call is over when its
// bytes are needed no longer and the answer is complete, whichever comes last.
type attempt struct {
	call  *call
	at    time.Time
	parts atomic.Int32
	head  [requestSize]byte
}

func (c *Client) newCall(cmd, flags uint16, off int64, n int) *call {
	return &call{
		request: request{cmd: cmd, flags: flags, off: uint64(off), n: uint32(n)},
		client:  c, begun: time.Now(), done: make(chan struct{}, 1),
	}
}

// prepare makes a the current attempt of k; with Client.mu held.
func (k *call) prepare(a *attempt) {
	k.got, k.found, k.err = 0, nil, nil
	a.call, a.at = k, time.Now()
	a.parts.Store(2)
	k.request.put(a.head[:])
	k.try = a
}

func (a *attempt) parcel() parcel { return parcel{head: a.head[:], body: a.call.payload, owner: a} }

// sent is one of the two parts.
func (a *attempt) sent() { a.part() }

func (a *attempt) part() {
	if a.parts.Add(-1) == 0 {
		a.call.finish()
	}
}

// finish hands the call back to its submitter.
func (k *call) finish() {
	k.client.settle(k)
	<-k.client.slots
	k.done <- struct{}{}
}

// pieces splits [off, off+n) into calls made by cut, sends them together and
// waits for all; the error is the first by offset.
func (c *Client) pieces(off, n, size int64, cut func(off, at, n int64) *call) error {
	if n == 0 {
		return nil
	}
	if n <= size {
		return c.do(cut(off, 0, n))
	}
	var sent []*call
	var failed error
	for at := int64(0); at < n && failed == nil; at += size {
		k := cut(off+at, at, min(size, n-at))
		if failed = c.submit(k); failed == nil {
			sent = append(sent, k)
		}
	}
	for i := len(sent) - 1; i >= 0; i-- {
		<-sent[i].done
		if sent[i].err != nil {
			failed = sent[i].err
		}
	}
	return failed
}

// do submits k and waits for its answer.
func (c *Client) do(k *call) error {
	if err := c.submit(k); err != nil {
		return err
	}
	<-k.done
	return k.err
}

// submit sends k, or leaves it to the keeper while there is no connection.
func (c *Client) submit(k *call) error {
	c.slots <- struct{}{} // given back by finish; every outstanding call ends some time
	c.mu.Lock()
	if c.fault != nil {
		err := c.fault
		c.mu.Unlock()
		<-c.slots
		return err
	}
	k.cookie = c.cookie.Add(1)
	c.calls[k.cookie] = k
	k.prepare(&k.first)
	l := c.link
	c.mu.Unlock()
	if l != nil {
		l.out.post(k.first.parcel(), false)
	}
	return nil
}

// settle counts a finished call.
func (c *Client) settle(k *call) {
	if k.err != nil || k.cmd != cmdWrite && k.cmd != cmdWriteZeroes || k.flags&reqFUA != 0 {
		return
	}
	c.mu.Lock()
	c.acked++
	c.mu.Unlock()
}
