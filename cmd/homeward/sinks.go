package main

import (
	"errors"
	"sync"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/ship"
)

// sinks are the next hops of this process, one client for each URL, so that all
// items that go the same way share its connections.
type sinks struct {
	options ship.ClientOptions

	mu    sync.Mutex
	byURL map[string]*ship.Client
}

func newSinks(id *pki.Identity, kind pki.Role) *sinks {
	return &sinks{options: onward(id, kind), byURL: map[string]*ship.Client{}}
}

// onward is how a node reaches the data faces of peers of a role.
func onward(id *pki.Identity, kind pki.Role) ship.ClientOptions {
	return ship.ClientOptions{TLS: id.ClientTLS(kind), Watch: id.Watch}
}

// dial never blocks: a client connects when it is used.
func (s *sinks) dial(url string) homeward.Sink {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.byURL[url]
	if c == nil {
		c = ship.NewClient(url, s.options)
		s.byURL[url] = c
	}
	return c
}

// close is called when nobody uses a client any more.
func (s *sinks) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, c := range s.byURL {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}
