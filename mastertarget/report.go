package mastertarget

import (
	"context"
	"fmt"
	"time"

	"github.com/homeward-dr/homeward"
)

// reporter tells how an item stands.
type reporter struct{ *item }

// report tells how the item stands.
func (it reporter) report() (homeward.ReplicaReport, error) {
	st := it.state()
	if st.State == "" && st.fault == nil {
		return homeward.ReplicaReport{}, it.unknown("report")
	}
	r := homeward.ReplicaReport{
		Item: it.id, Generation: it.fence.generation(), State: st.State, Retention: it.on,
		Base: st.Leg.Base, Disks: st.Leg.Disks, Applied: st.tip.Position, AppliedBytes: st.tip.AppliedBytes,
	}
	r.Fault, r.Remedy = fault(st)
	if it.isAway() {
		return r, nil
	}
	points := it.points()
	if r.Points = len(points); r.Points > 0 {
		r.NewestPoint = points[r.Points-1].Point
	}
	var err error
	if r.VolumeFree, err = it.free(); err != nil {
		r.Alarms = append(r.Alarms, it.alarm("volume-unknown", err.Error(), homeward.RemedyOf(err)))
	}
	if err == nil && st.State != "" && r.VolumeFree < 2*st.reserve() {
		r.Alarms = append(r.Alarms, it.alarm("volume-low", fmt.Sprintf("%d bytes are free on the retention volume, of which %d are its reserve", r.VolumeFree, st.reserve()),
			"enlarge the retention volume, unpin points, or shorten retention, before points are given up"))
	}
	if st.replica != nil {
		r.RetentionBytes = st.replica.chain.Bytes()
		for _, why := range st.replica.lost {
			r.Alarms = append(r.Alarms, it.alarm("history-damaged", why, "verify the item, and restore the file from a copy if there is one"))
		}
	}
	if st.PastLost != "" {
		r.Alarms = append(r.Alarms, it.alarm("points-given-up", st.PastLost, "enlarge the retention volume before the next failover"))
	}
	it.reportWork(&r, st)
	return r, nil
}

// reportWork adds views and progress.
func (it reporter) reportWork(r *homeward.ReplicaReport, st state) {
	it.mu.Lock()
	defer it.mu.Unlock()
	for _, v := range it.views {
		view := it.told(v)
		r.RetentionBytes += view.OverlayBytes
		r.Views = append(r.Views, view)
	}
	switch {
	case it.promo != nil:
		r.Progress = it.promo.report(it.now())
		if err := it.promo.failed(); err != nil && r.Fault == "" {
			r.Fault, r.Remedy = "the promotion stopped: "+err.Error(), "mend what it names, then promote again"
		}
	case st.RollBack != nil:
		r.Progress = it.moved.report(it.now())
	}
}

// alarm is one that holds; it began, as far as this process knows, when it was
// told of first.
func (it reporter) alarm(code, text, remedy string) homeward.Alarm {
	it.mu.Lock()
	defer it.mu.Unlock()
	if _, told := it.alarms[code]; !told {
		it.alarms[code] = it.now()
	}
	return homeward.Alarm{Code: code, Text: text, Remedy: remedy, Since: it.alarms[code]}
}

// fault is why deltas are not applied now, though they should be.
func fault(st state) (why, remedy string) {
	err := st.fault
	if err == nil {
		err = st.paused
	}
	if err == nil {
		return "", ""
	}
	return err.Error(), homeward.RemedyOf(err)
}

// maxStandingWait bounds how long Standing waits.
const maxStandingWait = time.Minute

// standing answers Sink.Standing.
func (it reporter) standing(ctx context.Context, req homeward.StandingRequest) (homeward.Standing, error) {
	var timeout <-chan time.Time
	if !req.Applied.IsZero() && req.Wait > 0 {
		timer := time.NewTimer(min(req.Wait, maxStandingWait))
		defer timer.Stop()
		timeout = timer.C
	}
	for {
		st := it.state()
		reached := req.Applied.IsZero() || req.Wait <= 0 || passed(st.tip.Position, req.Applied)
		if !reached {
			select {
			case <-st.changed:
				continue
			case <-ctx.Done():
			case <-timeout:
			}
			st = it.state()
		}
		if st.State == "" && st.fault == nil {
			return homeward.Standing{}, it.unknown("standing")
		}
		s := homeward.Standing{
			Item: it.id, Generation: it.fence.generation(),
			Applied: st.tip.Position, Known: st.replica != nil, Spooled: st.tip.Position, AppliedAt: it.appliedAt(),
		}
		s.Fault, s.Remedy = fault(st)
		return s, nil
	}
}

// passed reports whether a replica at p has come to q or beyond.
func passed(p, q homeward.Position) bool {
	if p.Generation != q.Generation {
		return p.Generation.Number > q.Generation.Number
	}
	return p.Sequence >= q.Sequence
}

// appliedAt is the mark time of the newest bootable mark.
func (it reporter) appliedAt() time.Time {
	points := it.points()
	for i := len(points) - 1; i >= 0; i-- {
		if points[i].Mark.Kind.Bootable() {
			return points[i].Mark.At
		}
	}
	return time.Time{}
}
