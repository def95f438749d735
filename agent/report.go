package agent

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/homeward-dr/homeward"
)

// report tells how an item stands.
func (it *item) report() homeward.CaptureReport {
	it.mu.Lock()
	r, l := it.rec, it.leg
	rep := homeward.CaptureReport{Item: it.id, Generation: r.InForce, State: r.State, Complete: r.Complete,
		Base: r.Request.Base, Sink: r.Request.Sink}
	if r.State == homeward.CaptureRunning && !it.exported {
		rep.State = homeward.CaptureHeld
	}
	it.mu.Unlock()
	for i, d := range r.Request.Machine.Disks {
		rep.Disks = append(rep.Disks, homeward.DiskReport{Disk: d.ID, Ref: r.Request.Disks[i],
			URI: it.host.uri(exportName(it.id, d.ID, r.capture()))})
	}
	rep.Clients = it.clients()
	done := it.using()
	if done != nil {
		it.figures(&rep)
		done()
	}
	rep.Phase = it.phase(rep, l, done != nil)
	if l != nil {
		l.report(&rep)
		if limit := r.Request.Policy.RPOThreshold; limit > 0 {
			it.watchRPO(rep, limit)
		}
	}
	rep.Alarms = it.alarms.list()
	return rep
}

// figures are those that an open capture has whether it replicates or not.
func (it *item) figures(rep *homeward.CaptureReport) {
	left := int64(0)
	for i := range rep.Disks {
		d := &rep.Disks[i]
		d.DirtyBytes = it.changedBytes(i)
		d.SuspectBytes = it.machine.SuspectBytes(i)
		left += d.DirtyBytes
	}
	rep.Sent = it.meter.traffic()
	rep.HoldP99 = it.meter.holdP99()
	rep.Applied, _ = it.chain.stands()
	rep.Progress = it.meter.progress(left)
	s := it.machine.Stats()
	faults := append(append(append([]string{}, s.Unprotected...), s.FlushFailed...), s.Resized...)
	if s.SpillFailed != "" {
		faults = append(faults, s.SpillFailed)
	}
	if len(faults) == 0 {
		it.alarms.clear(alarmCapture)
	} else {
		it.alarms.raise(alarmCapture, strings.Join(faults, "; "), "replace or repair the medium; the machine runs on meanwhile")
	}
}

// phase says what the item does, or waits for.
func (it *item) phase(rep homeward.CaptureReport, l *leg, opened bool) string {
	switch {
	case !opened:
		return "waiting: disks cannot be opened"
	case rep.State == homeward.CaptureHandedOff:
		return "handed over"
	case it.snapshot().fenced():
		return fmt.Sprintf("stopped: generation %d is in force", rep.Generation.Number)
	case rep.State == homeward.CaptureHeld:
		return "waiting: nobody can tell the generation in force"
	case l == nil:
		return "waiting: no process server is set"
	}
	if it.proof.standing.Load() {
		return "frozen for a proof"
	}
	return l.phase(rep.Complete, it.snapshot().Request.InitialAll)
}

func (l *leg) phase(complete, initial bool) string {
	l.mu.Lock()
	stopped, session, bootable := l.stopped, l.session, !l.appliedAt.IsZero()
	l.mu.Unlock()
	switch {
	case stopped != nil:
		return "stopped: " + stopped.Error()
	case session == nil:
		return "waiting: next hop"
	case complete && bootable && l.backlog.bytes() == 0:
		return "replicating"
	case initial && !bootable:
		return "initial sync"
	}
	return "resync"
}

// report adds what the leg knows.
func (l *leg) report(rep *homeward.CaptureReport) {
	l.mu.Lock()
	defer l.mu.Unlock()
	rep.Newest, rep.Spooled, rep.AppliedAt, rep.Demotions = l.newest, l.spooled, l.appliedAt, l.demotions
	if s := l.session; s != nil {
		rep.Spooled = s.spooledAt()
	}
	if rep.Spooled.Sequence < rep.Applied.Sequence {
		rep.Spooled = rep.Applied
	}
}

func (s *session) spooledAt() homeward.Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acked
}

// equalJSON compares two requests by what is stored of them.
func equalJSON(a, b homeward.CaptureRequest) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}
