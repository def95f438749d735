package readiness

import (
	"time"

	"github.com/homeward-dr/homeward/vault"
)

// The figures of the seeds' formula.
const (
	transferShare = 0.23             // of a disk's throughput (R163)
	processing    = 1.0 / 5          // of checksum and transfer (R165)
	autoscale     = 30 * time.Minute // 20 to 30 (R166); the larger
)

// SeedsEstimate is the seeds' formula for the time of a reprotect: at least the
// checksum calculation (as long as the enable job took), the transfer of the bytes
// that changed at 23 % of the disk's throughput (bytes a second), a fifth of both
// for processing recovery points, and autoscale (R161 to R167).
func SeedsEstimate(enable Value[time.Duration], changed Value[int64], throughput Value[float64]) vault.SeedsEstimate {
	missing := func(what, why string) vault.SeedsEstimate {
		if why == "" {
			why = "not told"
		}
		return vault.SeedsEstimate{Why: what + " is not known: " + why}
	}
	switch {
	case enable.Standing != Known:
		return missing("how long the enable job took", enable.Why)
	case changed.Standing != Known:
		return missing("how much changed", changed.Why)
	case throughput.Standing != Known || throughput.V <= 0:
		return missing("the disk's throughput", throughput.Why)
	}
	e := vault.SeedsEstimate{Known: true, Checksum: enable.V.Seconds(), Autoscale: autoscale.Seconds()}
	e.Transfer = float64(changed.V) / (transferShare * throughput.V)
	e.Processing = processing * (e.Checksum + e.Transfer)
	e.Total = e.Checksum + e.Transfer + e.Processing + e.Autoscale
	return e
}
