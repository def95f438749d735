package enrol

import (
	"context"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
)

// Member is a node's member that also takes the revocation lists which heartbeats
// bring, and gives back what they have forgotten: a vault may have been restored.
func Member(id *pki.Identity, of homeward.Member) homeward.Member { return member{of, id} }

type member struct {
	homeward.Member
	id *pki.Identity
}

func (m member) Health(ctx context.Context, r homeward.HealthRequest) (homeward.HealthReport, error) {
	if len(r.Revocations) > 0 {
		if err := m.id.TakeRevocations(r.Revocations); err != nil {
			return homeward.HealthReport{}, err
		}
		forgotten, err := m.id.OtherRevocations(r.Revocations)
		if err != nil {
			return homeward.HealthReport{}, err
		}
		r.Revocations = nil
		report, err := m.Member.Health(ctx, r)
		report.Revocations = forgotten
		return report, err
	}
	return m.Member.Health(ctx, r)
}
