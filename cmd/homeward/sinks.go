package main

import (
	"crypto/tls"
	"errors"
	"sync"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/ship"
)

// sinks are the next hops of this process, one client for each URL, so that all
// items that go the same way share its connections.
type sinks struct {
	tls *tls.Config

	mu    sync.Mutex
	byURL map[string]*ship.Client
}

func newSinks(config *tls.Config) *sinks {
	return &sinks{tls: config, byURL: map[string]*ship.Client{}}
}

// dial never blocks: a client connects when it is used.
func (s *sinks) dial(url string) homeward.Sink {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.byURL[url]
	if c == nil {
		c = ship.NewClient(url, ship.ClientOptions{TLS: s.tls})
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
