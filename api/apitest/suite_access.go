package apitest

import (
	"context"
	"maps"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/vault"
)

// Call is one call of the contract, and what it takes. What it names does not
// exist: access is checked before anything is looked for.
type Call struct {
	Needs vault.Access
	Do    func(ctx context.Context, v vault.Vault) error
}

func first[T any](_ T, err error) error { return err }

// Calls are all calls of the contract, by the names of its methods; actions by
// theirs, too.
func Calls() map[string]Call {
	calls := placeCalls()
	maps.Copy(calls, itemCalls())
	maps.Copy(calls, otherCalls())
	for _, action := range vault.Actions() {
		name := "Act " + string(action)
		if action == vault.Commit {
			name = "Act"
		}
		calls[name] = Call{action.Access(), func(ctx context.Context, v vault.Vault) error {
			req := vault.ActionRequest{Item: "none", Action: action}
			switch action {
			case vault.Enable:
				req.Machine, req.Input = "none/none", vault.Input{Target: "none", Policy: "none"}
			case vault.TestFailover:
				req.Input.Network = "none"
			}
			return first(v.Act(ctx, req))
		}}
	}
	return calls
}

// placeCalls are those about sites and nodes.
func placeCalls() map[string]Call {
	return map[string]Call{
		"Sites": {vault.Reader, func(ctx context.Context, v vault.Vault) error { return first(v.Sites(ctx, vault.Query{})) }},
		"Site":  {vault.Reader, func(ctx context.Context, v vault.Vault) error { return first(v.Site(ctx, "none")) }},
		"PutSite": {vault.Contributor, func(ctx context.Context, v vault.Vault) error {
			return first(v.PutSite(ctx, vault.SiteRequest{Name: "none"}))
		}},
		"DeleteSite":  {vault.Contributor, func(ctx context.Context, v vault.Vault) error { return v.DeleteSite(ctx, "none") }},
		"RefreshSite": {vault.Operator, func(ctx context.Context, v vault.Vault) error { return first(v.RefreshSite(ctx, "none")) }},
		"Machines":    {vault.Reader, func(ctx context.Context, v vault.Vault) error { return first(v.Machines(ctx, vault.Query{})) }},
		"Machine":     {vault.Reader, func(ctx context.Context, v vault.Vault) error { return first(v.Machine(ctx, "none/none")) }},
		"Nodes":       {vault.Reader, func(ctx context.Context, v vault.Vault) error { return first(v.Nodes(ctx, vault.Query{})) }},
		"Node":        {vault.Reader, func(ctx context.Context, v vault.Vault) error { return first(v.Node(ctx, "none")) }},
		"CreateEnrolment": {vault.Contributor, func(ctx context.Context, v vault.Vault) error {
			return first(v.CreateEnrolment(ctx, vault.EnrolmentRequest{Role: pki.Agent, Site: "none"}))
		}},
		"Enrolments": {vault.Reader, func(ctx context.Context, v vault.Vault) error { return first(v.Enrolments(ctx, vault.Query{})) }},
		"RevokeNode": {vault.Contributor, func(ctx context.Context, v vault.Vault) error { return first(v.RevokeNode(ctx, "none")) }},
		"SetAddresses": {vault.Contributor, func(ctx context.Context, v vault.Vault) error {
			return first(v.SetAddresses(ctx, "none", []vault.Address{}))
		}},
		"Limit": {vault.Operator, func(ctx context.Context, v vault.Vault) error {
			return v.Limit(ctx, "none", homeward.LimitRequest{Schedule: []homeward.Window{}})
		}},
	}
}

// itemCalls are those about items, but for Act.
func itemCalls() map[string]Call {
	return map[string]Call{
		"Items":  {vault.Reader, func(ctx context.Context, v vault.Vault) error { return first(v.Items(ctx, vault.Query{})) }},
		"Item":   {vault.Reader, func(ctx context.Context, v vault.Vault) error { return first(v.Item(ctx, "none")) }},
		"Points": {vault.Reader, func(ctx context.Context, v vault.Vault) error { return first(v.Points(ctx, "none")) }},
		"Pin": {vault.Operator, func(ctx context.Context, v vault.Vault) error {
			return v.Pin(ctx, homeward.PinRequest{Item: "none", Name: "hold:x"})
		}},
		"Unpin": {vault.Operator, func(ctx context.Context, v vault.Vault) error {
			return v.Unpin(ctx, homeward.PinRequest{Item: "none", Name: "hold:x"})
		}},
		"Readiness": {vault.Reader, func(ctx context.Context, v vault.Vault) error { return first(v.Readiness(ctx, "none")) }},
		"Prove":     {vault.Operator, func(ctx context.Context, v vault.Vault) error { return first(v.Prove(ctx, "none")) }},
		"Proof":     {vault.Reader, func(ctx context.Context, v vault.Vault) error { return first(v.Proof(ctx, "none")) }},
		"Placement": {vault.Reader, func(ctx context.Context, v vault.Vault) error {
			return first(v.Placement(ctx, vault.PlacementRequest{Item: "none"}))
		}},
		"Plan": {vault.Reader, func(ctx context.Context, v vault.Vault) error {
			return first(v.Plan(ctx, vault.ActionRequest{Item: "none", Action: vault.Commit}))
		}},
		"Tune": {vault.Operator, func(ctx context.Context, v vault.Vault) error { return first(v.Tune(ctx, "none", vault.TuneRequest{})) }},
		"PlanReassociate": {vault.Reader, func(ctx context.Context, v vault.Vault) error {
			return first(v.PlanReassociate(ctx, vault.ReassociateRequest{From: "none", To: "other"}))
		}},
		"Reassociate": {vault.Operator, func(ctx context.Context, v vault.Vault) error {
			return first(v.Reassociate(ctx, vault.ReassociateRequest{From: "none", To: "other"}))
		}},
	}
}

// otherCalls are the rest.
func otherCalls() map[string]Call {
	return map[string]Call{
		"Policies": {vault.Reader, func(ctx context.Context, v vault.Vault) error { return first(v.Policies(ctx, vault.Query{})) }},
		"Policy":   {vault.Reader, func(ctx context.Context, v vault.Vault) error { return first(v.Policy(ctx, "none")) }},
		"PutPolicy": {vault.Contributor, func(ctx context.Context, v vault.Vault) error {
			return first(v.PutPolicy(ctx, vault.PolicyRequest{Name: "none"}))
		}},
		"DeletePolicy": {vault.Contributor, func(ctx context.Context, v vault.Vault) error { return v.DeletePolicy(ctx, "none") }},
		"Jobs":         {vault.Reader, func(ctx context.Context, v vault.Vault) error { return first(v.Jobs(ctx, vault.Query{})) }},
		"Job":          {vault.Reader, func(ctx context.Context, v vault.Vault) error { return first(v.Job(ctx, "none")) }},
		"TellJob": {vault.Operator, func(ctx context.Context, v vault.Vault) error {
			return first(v.TellJob(ctx, vault.JobRequest{ID: "none", Action: vault.JobCancel}))
		}},
		"Artefacts":        {vault.Reader, func(ctx context.Context, v vault.Vault) error { return first(v.Artefacts(ctx, vault.Query{})) }},
		"Alerts":           {vault.Reader, func(ctx context.Context, v vault.Vault) error { return first(v.Alerts(ctx, vault.Query{})) }},
		"AcknowledgeAlert": {vault.Operator, func(ctx context.Context, v vault.Vault) error { return first(v.AcknowledgeAlert(ctx, "none")) }},
		"Audit":            {vault.Reader, func(ctx context.Context, v vault.Vault) error { return first(v.Audit(ctx, vault.Query{})) }},
		"Watch":            {vault.Reader, watchBriefly},
		"Status":           {vault.Reader, func(ctx context.Context, v vault.Vault) error { return first(v.Status(ctx)) }},
		"CreateToken": {vault.Administrator, func(ctx context.Context, v vault.Vault) error {
			return first(v.CreateToken(ctx, vault.TokenRequest{Name: "none", Access: vault.Reader}))
		}},
		"Tokens":      {vault.Administrator, func(ctx context.Context, v vault.Vault) error { return first(v.Tokens(ctx, vault.Query{})) }},
		"DeleteToken": {vault.Administrator, func(ctx context.Context, v vault.Vault) error { return v.DeleteToken(ctx, "gone") }},
		"Reconcile":   {vault.Administrator, func(ctx context.Context, v vault.Vault) error { return first(v.Reconcile(ctx, false)) }},
	}
}

// watchBriefly is refused at once, or told of nothing until it is given up.
func watchBriefly(ctx context.Context, v vault.Vault) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// An id that no event has yet: what has happened before is not waited for.
	for _, err := range v.Watch(ctx, vault.WatchRequest{After: 1}) {
		return err
	}
	return nil
}

// testAccess walks the matrix: each call by each access, and by nobody.
func testAccess(s *suite) {
	for name, call := range Calls() {
		ctx, v := s.As("")
		if err := call.Do(ctx, v); homeward.KindOf(err) != homeward.Unauthentic || homeward.RemedyOf(err) == "" {
			s.Errorf("%s by nobody: %v", name, err)
		}
		for _, access := range []vault.Access{vault.Reader, vault.Operator, vault.Contributor, vault.Administrator} {
			ctx, v := s.As(access)
			err := call.Do(ctx, v)
			kind := homeward.KindOf(err)
			if access.Includes(call.Needs) {
				if kind == homeward.Forbidden || kind == homeward.Unauthentic || kind == homeward.Internal {
					s.Errorf("%s by %s, which it takes: %v", name, access, err)
				}
			} else if kind != homeward.Forbidden || homeward.RemedyOf(err) == "" {
				s.Errorf("%s by %s, and it takes %s: %v", name, access, call.Needs, err)
			}
		}
	}
}
