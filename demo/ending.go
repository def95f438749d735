package demo

import (
	"context"
	"net/url"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/lab"
)

// sum tells the round trip in a few lines.
func (s *story) sum() {
	r := s.report
	s.screen.say("\nThere and back in %.1f s. %d recovery points; RPO %d records (%.2f s), RTO %.2f s; on the way home nothing was lost.",
		r.Seconds, r.Points, r.RPORecords, r.RPOSeconds, r.RTOSeconds)
	for _, e := range r.Steps {
		if e.Reverse != nil {
			s.screen.say("  %-36s predicted %9s, changed %9s, on the wire %9s, %6.2f s, digests equal: %t",
				e.Step, lab.Size(e.PredictedBytes), lab.Size(e.DirtyBytes), lab.Size(e.WireBytes), e.ResyncSeconds, e.DigestEqual)
		}
	}
}

// leftovers says what an interrupted demo leaves.
func (s *story) leftovers() string {
	if s.o.Dir == "" {
		return "nothing is left of it"
	}
	return "what it made is in " + s.Dir
}

// howToLook says how to look at what is left running.
func (s *story) howToLook(ctx context.Context) {
	s.screen.say("\nEverything is still running in %s; press Ctrl-C to end it.", s.Dir)
	capture, err := s.Item.Running.Agent.Report(ctx, homeward.ItemRequest{Item: s.Item.ID()})
	if err != nil {
		s.screen.say("  the agent does not answer: %v", err)
		return
	}
	s.screen.say("The disks as the guest has them (one writer each, so look at what they are, not inside):")
	s.screen.say("  nbdinfo --list '%s'", socketOf(capture.Disks[0].URI))
	view, err := s.Item.Standby.Target.OpenView(ctx, homeward.ViewRequest{Item: s.Item.ID(), Name: "look", Kind: homeward.ViewScratch})
	if err != nil {
		s.screen.say("  no view of the newest point: %v", err)
		return
	}
	s.screen.say("The newest recovery point, writable and thrown away afterwards, while replication goes on:")
	for _, d := range view.Disks {
		s.screen.say("  nbdinfo --map '%s'", d.URI)
		s.screen.say("  qemu-io -f raw -c 'read -v 0 512' '%s'", d.URI)
	}
}

// socketOf is a URI without its export.
func socketOf(uri string) string {
	u, err := url.Parse(uri)
	if err != nil {
		return uri
	}
	u.Path = "/"
	return u.String()
}
