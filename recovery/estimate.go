package recovery

import (
	"context"
	"fmt"
	"strings"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

// Causes of bytes in an estimate.
const (
	CauseOldSide = "old side wrote after the newest state it shipped"
	CauseUndone  = "replicated after the chosen point, then given up"
	CauseSince   = "running side wrote since the point"
	CauseSuspect = "not known exactly: compared by digest first"
	CauseShared  = "counted above more than once, sent once"
	CauseCopy    = "full copy to new disks"
)

// Estimate tells what Reprotect would send, without changing anything; before the
// commit too, as if it were committed now. Where a source cannot be asked the
// certainty is Unknown, the bytes are the most that it can be, and Stops names it.
func (it *Item) Estimate(ctx context.Context) (homeward.Estimate, error) {
	if err := it.require("estimate reprotect", Committed, FailedOver); err != nil {
		return homeward.Estimate{}, err
	}
	set, err := it.outlook(ctx)
	if err != nil {
		return homeward.Estimate{}, err
	}
	return set.estimate(it), nil
}

// EstimateCopy tells what Relocate would send at most: blocks that hold nothing
// but zeroes travel as a few bytes each, and nobody has counted them.
func (it *Item) EstimateCopy() (homeward.Estimate, error) {
	if err := it.require("estimate relocation", Committed, FailedOver); err != nil {
		return homeward.Estimate{}, err
	}
	return it.wholeCopy().estimate(it), nil
}

// wholeCopy is every block of every disk.
func (it *Item) wholeCopy() *differences {
	set := it.noDifferences()
	set.copied = true
	for i := range set.disks {
		set.disks[i].since.Set(0, set.disks[i].since.Blocks())
	}
	return set
}

func (s *differences) estimate(it *Item) homeward.Estimate {
	e := homeward.Estimate{Item: it.ID(), Certainty: homeward.Exact}
	for i := range s.disks {
		s.disks[i].estimate(&e, it.Base)
	}
	if s.copied {
		e.Certainty = homeward.Bound
		for i := range e.Figures {
			e.Figures[i].Cause, e.Figures[i].Certainty, e.Figures[i].Why = CauseCopy, homeward.Bound, "blocks of zeroes are not counted out"
		}
	}
	if e.FullReads > 0 {
		e.Certainty = homeward.Bound
		e.Dearer = append(e.Dearer, fmt.Sprintf("%d bytes are suspect on each side and are read to compare them", e.FullReads/2))
	}
	// Framing costs at most 1.5 % and a fixed part for each delta's header and index.
	e.WireBytes = e.Bytes + e.Bytes*15/1000 + 4096
	if old := s.total(func(d *diskDifferences) *block.Map { return d.old }); old > 0 {
		e.Losses = append(e.Losses, fmt.Sprintf("%d bytes the old side wrote and never shipped are overwritten; they stay as branch %q", old, BranchName))
	}
	if undone := s.total(func(d *diskDifferences) *block.Map { return d.undone }); undone > 0 {
		e.Losses = append(e.Losses, fmt.Sprintf("%d bytes replicated after the chosen point are given up; the old side's branch %q holds them", undone, BranchName))
	}
	if s.oldSide == homeward.Unknown && len(s.away) == 0 {
		e.Dearer = append(e.Dearer, "the old side's map cannot be had: "+s.why)
	}
	for _, away := range s.away {
		e.Stops = append(e.Stops, away+" (bring it back: reprotect asks it)")
	}
	if len(s.away) > 0 {
		e.Certainty = homeward.Unknown
		for i := range e.Figures {
			if e.Figures[i].Cause == CauseSuspect {
				e.Figures[i].Certainty = homeward.Unknown
			}
		}
	}
	return e
}

func (d *diskDifferences) estimate(e *homeward.Estimate, asOf homeward.Position) {
	sum := int64(0)
	line := func(cause string, m *block.Map, c homeward.Certainty) {
		if n := m.Count(); n > 0 {
			sum += n * homeward.BlockSize
			e.Figures = append(e.Figures, homeward.Figure{Disk: d.disk.ID, Cause: cause, Bytes: n * homeward.BlockSize,
				Certainty: c, AsOf: asOf, Why: why(c, d.reasons)})
		}
	}
	line(CauseOldSide, d.old, homeward.Exact)
	line(CauseUndone, d.undone, homeward.Exact)
	line(CauseSince, d.since, homeward.Exact)
	suspect := d.suspect.Clone()
	suspect.AndNot(d.union())
	line(CauseSuspect, suspect, homeward.Bound)
	total := (d.union().Count() + suspect.Count()) * homeward.BlockSize
	if sum > total {
		e.Figures = append(e.Figures, homeward.Figure{Disk: d.disk.ID, Cause: CauseShared, Bytes: total - sum, Certainty: homeward.Exact, AsOf: asOf})
	}
	e.Bytes += total
	e.FullReads += 2 * suspect.Count() * homeward.BlockSize
}

func why(c homeward.Certainty, reasons []string) string {
	if c == homeward.Exact {
		return ""
	}
	return strings.Join(reasons, "; ")
}

func (s *differences) total(of func(*diskDifferences) *block.Map) (bytes int64) {
	for i := range s.disks {
		bytes += of(&s.disks[i]).Count() * homeward.BlockSize
	}
	return bytes
}
