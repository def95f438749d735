package agent

import (
	"slices"
	"sync"
	"time"

	"github.com/homeward-dr/homeward"
)

const (
	holdsKept  = 1000             // CaptureReport.HoldP99 is over these
	rateWindow = 10 * time.Second // Progress.Rate is over this
	rateSlots  = 64               // samples kept for it
)

// meter counts what an item does. Safe for concurrent use.
type meter struct {
	mu    sync.Mutex
	now   func() time.Time
	sent  homeward.Traffic
	holds []time.Duration // a ring once full
	next  int

	samples  []sample // of plain bytes acknowledged
	acked    int64
	goal     int64 // acked + what is still to go when the present phase began
	goalFrom int64 // acked when it began
}

type sample struct {
	at    time.Time
	acked int64
}

func newMeter(now func() time.Time, sent homeward.Traffic) *meter {
	return &meter{now: now, sent: sent}
}

// restart counts for another leg.
func (m *meter) restart() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sent = homeward.Traffic{}
	m.samples, m.acked, m.goal, m.goalFrom = nil, 0, 0, 0
}

// cut counts a cut of so many bytes.
func (m *meter) cut(bytes int64, hold time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sent.DirtyBytes += bytes
	if len(m.holds) < holdsKept {
		m.holds = append(m.holds, hold)
		return
	}
	m.holds[m.next] = hold
	m.next = (m.next + 1) % holdsKept
}

// packed counts disk content put into a delta.
func (m *meter) packed(plain int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sent.PlainBytes += plain
}

// wire counts bytes handed to the sink.
func (m *meter) wire(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sent.WireBytes += n
}

// fullReads counts bytes read only to find differences.
func (m *meter) fullReads(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sent.FullReads += n
}

// ack counts content that is acknowledged.
func (m *meter) ack(plain int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.acked += plain
	now := m.now()
	if n := len(m.samples); n > 1 && now.Sub(m.samples[n-2].at) < rateWindow/rateSlots {
		m.samples = m.samples[:n-1] // two so close together need only one
	}
	m.samples = append(m.samples, sample{at: now, acked: m.acked})
	m.forget(now)
}

// forget drops samples older than the window, except the youngest of those.
func (m *meter) forget(now time.Time) {
	i := 0
	for i+1 < len(m.samples) && now.Sub(m.samples[i+1].at) > rateWindow {
		i++
	}
	m.samples = slices.Delete(m.samples, 0, i)
}

// aim begins a phase in which toGo bytes shall be acknowledged.
func (m *meter) aim(toGo int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.goalFrom, m.goal = m.acked, m.acked+toGo
}

// progress of the present phase; left is what is still to go.
func (m *meter) progress(left int64) homeward.Progress {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := homeward.Progress{Done: m.acked - m.goalFrom}
	p.Total = max(p.Done+left, m.goal-m.goalFrom)
	p.Done = max(p.Total-left, 0)
	now := m.now()
	m.forget(now)
	if len(m.samples) == 0 {
		return p
	}
	first := m.samples[0]
	if d := now.Sub(first.at); d > 0 {
		p.Rate = float64(m.acked-first.acked) / d.Seconds()
	}
	if p.Rate > 0 {
		p.Left = float64(left) / p.Rate
	}
	return p
}

// traffic is all that was counted.
func (m *meter) traffic() homeward.Traffic {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sent
}

// holdP99 is the 99th percentile of the last holds.
func (m *meter) holdP99() time.Duration {
	m.mu.Lock()
	sorted := slices.Clone(m.holds)
	m.mu.Unlock()
	if len(sorted) == 0 {
		return 0
	}
	slices.Sort(sorted)
	return sorted[(len(sorted)*99+99)/100-1]
}
