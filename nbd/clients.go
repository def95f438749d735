package nbd

// Clients is how many clients are connected to an export now; 0 where there is none.
func (s *Server) Clients(name string) int {
	s.mu.Lock()
	e := s.exports[name]
	s.mu.Unlock()
	if e == nil {
		return 0
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.sessions)
}
