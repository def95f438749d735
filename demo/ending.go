package demo

import (
	"os"
	"path/filepath"

	"github.com/homeward-dr/homeward/lab"
)

// sum tells the round trip in a few lines.
func (s *story) sum() {
	r := s.report
	s.say("\nThere and back in %.1f s. %d recovery points; RPO %d records (%.2f s), RTO %.2f s; on the way home nothing was lost.",
		r.Seconds, r.Points, r.RPORecords, r.RPOSeconds, r.RTOSeconds)
	for _, e := range r.Steps {
		if e.Reverse != nil {
			s.say("  %-44s predicted %9s, changed %9s, on the wire %9s, %6.2f s, digests equal: %t",
				e.Step, lab.Size(e.PredictedBytes), lab.Size(e.DirtyBytes), lab.Size(e.WireBytes), e.ResyncSeconds, e.DigestEqual)
		}
	}
}

// leftovers says what an interrupted demo leaves.
func (s *story) leftovers() string {
	if s.Made {
		return "nothing is left of it"
	}
	return "what it made is in " + s.Dir
}

// howToLook says how to look at what is left running.
func (s *story) howToLook() {
	s.say("\nEverything is still running in %s; press Ctrl-C to end it. In another terminal:\n", s.Dir)
	s.say("  export PATH=%s:$PATH", filepath.Dir(s.o.Executable))
	for _, e := range s.Operator.Env {
		s.say("  export %s", e)
	}
	s.say("  homeward item list --watch")
	s.say("  homeward item show web01")
	s.say("  curl --cacert $HOMEWARD_CA -H \"Authorization: Bearer $HOMEWARD_TOKEN\" $HOMEWARD_VAULT/v1/items")
	sockets, err := filepath.Glob(filepath.Join(s.Dir, "*", "sockets", "*.sock"))
	if err != nil || len(sockets) == 0 {
		return
	}
	s.say("\nThe disks as the guests have them, and views (one writer each, so look at what they are, not inside):")
	for _, path := range sockets {
		s.say("  nbdinfo --list '%s'", "nbd+unix:///?socket="+path)
	}
}

func fileSize(path string) int64 {
	st, err := os.Stat(path)
	if err != nil {
		return 0 // not there yet: from its beginning
	}
	return st.Size()
}
