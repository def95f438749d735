package api

import (
	"context"
	"iter"
	"sync"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

// spy is a vault that only notes which calls arrive.
type spy struct {
	mu   sync.Mutex
	seen map[string]int
}

var _ vault.Vault = (*spy)(nil)

func (s *spy) note(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen[name]++
	return homeward.Errorf("spy", homeward.Unsupported, name, "nothing", "noted")
}

// arrived are the calls since it was asked last.
func (s *spy) arrived() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := s.seen
	s.seen = map[string]int{}
	return seen
}

func noted[T any](s *spy, name string) (none T, err error) { return none, s.note(name) }

func (s *spy) Sites(context.Context, vault.Query) (vault.Page[vault.Site], error) {
	return noted[vault.Page[vault.Site]](s, "Sites")
}

func (s *spy) Site(context.Context, string) (vault.Site, error) { return noted[vault.Site](s, "Site") }

func (s *spy) PutSite(context.Context, vault.SiteRequest) (vault.Site, error) {
	return noted[vault.Site](s, "PutSite")
}

func (s *spy) DeleteSite(context.Context, string) error { return s.note("DeleteSite") }

func (s *spy) RefreshSite(context.Context, string) (vault.Site, error) {
	return noted[vault.Site](s, "RefreshSite")
}

func (s *spy) Machines(context.Context, vault.Query) (vault.Page[vault.Machine], error) {
	return noted[vault.Page[vault.Machine]](s, "Machines")
}

func (s *spy) Machine(context.Context, string) (vault.Machine, error) {
	return noted[vault.Machine](s, "Machine")
}

func (s *spy) Nodes(context.Context, vault.Query) (vault.Page[vault.Node], error) {
	return noted[vault.Page[vault.Node]](s, "Nodes")
}

func (s *spy) Node(context.Context, string) (vault.Node, error) { return noted[vault.Node](s, "Node") }

func (s *spy) CreateEnrolment(context.Context, vault.EnrolmentRequest) (vault.EnrolmentToken, error) {
	return noted[vault.EnrolmentToken](s, "CreateEnrolment")
}

func (s *spy) Enrolments(context.Context, vault.Query) (vault.Page[vault.EnrolmentToken], error) {
	return noted[vault.Page[vault.EnrolmentToken]](s, "Enrolments")
}

func (s *spy) RevokeNode(context.Context, string) (vault.Node, error) {
	return noted[vault.Node](s, "RevokeNode")
}

func (s *spy) SetAddresses(context.Context, string, []vault.Address) (vault.Node, error) {
	return noted[vault.Node](s, "SetAddresses")
}

func (s *spy) Items(context.Context, vault.Query) (vault.Page[vault.Item], error) {
	return noted[vault.Page[vault.Item]](s, "Items")
}

func (s *spy) Item(context.Context, homeward.ItemID) (vault.Item, error) {
	return noted[vault.Item](s, "Item")
}

func (s *spy) Points(context.Context, homeward.ItemID) (homeward.PointList, error) {
	return noted[homeward.PointList](s, "Points")
}

func (s *spy) Pin(context.Context, homeward.PinRequest) error { return s.note("Pin") }

func (s *spy) Unpin(context.Context, homeward.PinRequest) error { return s.note("Unpin") }

func (s *spy) Readiness(context.Context, homeward.ItemID) (vault.Readiness, error) {
	return noted[vault.Readiness](s, "Readiness")
}

func (s *spy) Prove(context.Context, homeward.ItemID) (vault.Job, error) {
	return noted[vault.Job](s, "Prove")
}

func (s *spy) Proof(context.Context, homeward.ItemID) ([]byte, error) {
	return noted[[]byte](s, "Proof")
}

func (s *spy) Placement(context.Context, vault.PlacementRequest) (vault.PlacementFields, error) {
	return noted[vault.PlacementFields](s, "Placement")
}

func (s *spy) Plan(context.Context, vault.ActionRequest) (vault.Plan, error) {
	return noted[vault.Plan](s, "Plan")
}

func (s *spy) Act(context.Context, vault.ActionRequest) (vault.Job, error) {
	return noted[vault.Job](s, "Act")
}

func (s *spy) Tune(context.Context, homeward.ItemID, vault.TuneRequest) (vault.Item, error) {
	return noted[vault.Item](s, "Tune")
}

func (s *spy) Limit(context.Context, string, homeward.LimitRequest) error { return s.note("Limit") }

func (s *spy) PlanReassociate(context.Context, vault.ReassociateRequest) (vault.Page[vault.Plan], error) {
	return noted[vault.Page[vault.Plan]](s, "PlanReassociate")
}

func (s *spy) Reassociate(context.Context, vault.ReassociateRequest) (vault.Job, error) {
	return noted[vault.Job](s, "Reassociate")
}

func (s *spy) Policies(context.Context, vault.Query) (vault.Page[vault.Policy], error) {
	return noted[vault.Page[vault.Policy]](s, "Policies")
}

func (s *spy) Policy(context.Context, string) (vault.Policy, error) {
	return noted[vault.Policy](s, "Policy")
}

func (s *spy) PutPolicy(context.Context, vault.PolicyRequest) (vault.Policy, error) {
	return noted[vault.Policy](s, "PutPolicy")
}

func (s *spy) DeletePolicy(context.Context, string) error { return s.note("DeletePolicy") }

func (s *spy) Jobs(context.Context, vault.Query) (vault.Page[vault.Job], error) {
	return noted[vault.Page[vault.Job]](s, "Jobs")
}

func (s *spy) Job(context.Context, string) (vault.Job, error) { return noted[vault.Job](s, "Job") }

func (s *spy) TellJob(context.Context, vault.JobRequest) (vault.Job, error) {
	return noted[vault.Job](s, "TellJob")
}

func (s *spy) Artefacts(context.Context, vault.Query) (vault.Page[vault.Artefact], error) {
	return noted[vault.Page[vault.Artefact]](s, "Artefacts")
}

func (s *spy) Alerts(context.Context, vault.Query) (vault.Page[vault.Alert], error) {
	return noted[vault.Page[vault.Alert]](s, "Alerts")
}

func (s *spy) AcknowledgeAlert(context.Context, string) (vault.Alert, error) {
	return noted[vault.Alert](s, "AcknowledgeAlert")
}

func (s *spy) Audit(context.Context, vault.Query) (vault.Page[vault.AuditEntry], error) {
	return noted[vault.Page[vault.AuditEntry]](s, "Audit")
}

func (s *spy) Watch(ctx context.Context, req vault.WatchRequest) iter.Seq2[vault.Event, error] {
	return func(yield func(vault.Event, error) bool) {
		if len(req.Kinds) > 0 { // the server's own metrics
			<-ctx.Done()
			return
		}
		yield(vault.Event{}, s.note("Watch"))
	}
}

func (s *spy) Status(context.Context) (vault.Status, error) { return noted[vault.Status](s, "Status") }

func (s *spy) CreateToken(context.Context, vault.TokenRequest) (vault.APIToken, error) {
	return noted[vault.APIToken](s, "CreateToken")
}

func (s *spy) Tokens(context.Context, vault.Query) (vault.Page[vault.APIToken], error) {
	return noted[vault.Page[vault.APIToken]](s, "Tokens")
}

func (s *spy) DeleteToken(context.Context, string) error { return s.note("DeleteToken") }

func (s *spy) Reconcile(context.Context, bool) (vault.Status, error) {
	return noted[vault.Status](s, "Reconcile")
}
