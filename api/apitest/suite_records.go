package apitest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/vault"
)

func testLists(s *suite) {
	ctx, v := s.As(vault.Contributor)
	for i := range 7 {
		_, err := v.PutSite(ctx, vault.SiteRequest{Name: fmt.Sprintf("list-%d", i)})
		s.must(err)
	}
	name := func(v vault.Site) string { return v.Name }
	whole := names(all(s, v.Sites, ctx, vault.Query{}), name)
	for _, limit := range []int{1, 2, 3, vault.MaxPage} {
		if paged := names(all(s, v.Sites, ctx, vault.Query{Limit: limit}), name); !slices.Equal(paged, whole) {
			s.Errorf("pages of %d: %v, at once: %v", limit, paged, whole)
		}
	}
	if unique := slices.Compact(slices.Sorted(slices.Values(whole))); len(unique) != len(whole) || len(whole) < 7 {
		s.Errorf("sites: %v", whole)
	}
	// What goes while somebody pages does not make others go missing.
	first, err := v.Sites(ctx, vault.Query{Limit: 3})
	s.must(err)
	last := first.Entries[len(first.Entries)-1].Name
	if strings.HasPrefix(last, "list-") {
		s.must(v.DeleteSite(ctx, last))
	}
	rest := names(all(s, v.Sites, ctx, vault.Query{Limit: 3, After: first.Next}), name)
	if got := append(names(first.Entries, name), rest...); !slices.Equal(got, whole) {
		s.Errorf("with one gone meanwhile: %v, want %v", got, whole)
	}
	for _, limit := range []int{-1, vault.MaxPage + 1} {
		_, err := v.Sites(ctx, vault.Query{Limit: limit})
		s.refused(homeward.Invalid, err)
	}
	_, err = v.Sites(ctx, vault.Query{After: "no end of any page"})
	s.refused(homeward.Invalid, err)
}

func names[T any](entries []T, name func(T) string) []string {
	out := make([]string, len(entries))
	for i, e := range entries {
		out[i] = name(e)
	}
	return out
}

func testFilters(s *suite) {
	ctx, v := s.As(vault.Reader)
	nodes := all(s, v.Nodes, ctx, vault.Query{Site: s.Site, Role: string(pki.ProcessServer)})
	if !contains(names(nodes, func(n vault.Node) string { return n.Name }), s.Node) {
		s.Errorf("process servers at %s: %v", s.Site, nodes)
	}
	for _, n := range nodes {
		if n.Site != s.Site || n.Role != pki.ProcessServer {
			s.Errorf("the filter let %+v through", n)
		}
	}
	if none := all(s, v.Nodes, ctx, vault.Query{Site: "nowhere"}); len(none) != 0 {
		s.Errorf("nodes nowhere: %v", none)
	}
	_, err := v.Policies(ctx, vault.Query{Site: s.Site})
	s.refused(homeward.Invalid, err, "site")
}

func testSites(s *suite) {
	ctx, v := s.As(vault.Contributor)
	made, err := v.PutSite(ctx, vault.SiteRequest{Name: "branch", Label: "Zweigstelle – 支店"})
	s.must(err)
	read, err := v.Site(ctx, "branch")
	s.must(err)
	if made.Revision < 1 || read.Revision != made.Revision || read.Label != "Zweigstelle – 支店" || read.Connected || read.Created.IsZero() {
		s.Errorf("made %+v, read %+v", made, read)
	}
	changed, err := v.PutSite(ctx, vault.SiteRequest{Name: "branch", Label: "other", Revision: made.Revision})
	s.must(err)
	if changed.Revision <= made.Revision || changed.Label != "other" || !changed.Created.Equal(made.Created) {
		s.Errorf("changed to %+v", changed)
	}
	_, err = v.PutSite(ctx, vault.SiteRequest{Name: "branch", Label: "lost update", Revision: made.Revision})
	s.refused(homeward.Conflict, err)
	_, err = v.PutSite(ctx, vault.SiteRequest{Name: "branch", Label: "any"})
	s.must(err)
	_, err = v.PutSite(ctx, vault.SiteRequest{Name: "was-never-there", Revision: 3})
	s.refused(homeward.NotFound, err)
	s.refused(homeward.InUse, v.DeleteSite(ctx, s.Site))
	s.must(v.DeleteSite(ctx, "branch"))
	s.refused(homeward.NotFound, v.DeleteSite(ctx, "branch"))
	_, err = v.Site(ctx, "branch")
	s.refused(homeward.NotFound, err)
}

func testNames(s *suite) {
	ctx, v := s.As(vault.Administrator)
	for _, name := range []string{"", ".", "..", "../up", "a/b", "a b", "é", "a%2fb", "a?b#c", strings.Repeat("x", 65)} {
		_, err := v.PutSite(ctx, vault.SiteRequest{Name: name})
		s.refused(homeward.Invalid, err)
		_, err = v.CreateToken(ctx, vault.TokenRequest{Name: name, Access: vault.Reader})
		s.refused(homeward.Invalid, err)
		if _, err := v.Site(ctx, name); err == nil {
			s.Errorf("there is a site %q", name)
		}
		if err := v.DeleteSite(ctx, name); err == nil {
			s.Errorf("site %q was deleted", name)
		}
	}
}

// testRacing lets many change one thing that they all looked at: one of them wins.
func testRacing(s *suite) {
	ctx, v := s.As(vault.Contributor)
	site, err := v.PutSite(ctx, vault.SiteRequest{Name: "contested"})
	s.must(err)
	const many = 8
	errs := make([]error, many)
	var wg sync.WaitGroup
	for i := range many {
		wg.Go(func() {
			_, errs[i] = v.PutSite(ctx, vault.SiteRequest{Name: "contested", Label: fmt.Sprint(i), Revision: site.Revision})
		})
	}
	wg.Wait()
	winner := -1
	for i, err := range errs {
		if err == nil && winner >= 0 {
			s.Errorf("%d and %d both changed revision %d", winner, i, site.Revision)
		}
		if err == nil {
			winner = i
			continue
		}
		s.refused(homeward.Conflict, err)
	}
	after, err := v.Site(ctx, "contested")
	s.must(err)
	if winner < 0 || after.Label != fmt.Sprint(winner) {
		s.Errorf("%d won, and it is %q now", winner, after.Label)
	}
}

func testPolicies(s *suite) {
	ctx, v := s.As(vault.Contributor)
	made, err := v.PutPolicy(ctx, vault.PolicyRequest{Name: "silver", Settings: homeward.Policy{RPOThreshold: time.Minute}})
	s.must(err)
	if made.Failback || made.Pair != vault.FailbackName("silver") || made.Settings.MinInterval != time.Second || made.Settings.RPOThreshold != time.Minute || len(made.Settings.Retention) == 0 {
		s.Errorf("made %+v", made)
	}
	tiers := []homeward.Tier{{For: time.Hour}, {For: 48 * time.Hour, Every: time.Hour}}
	changed, err := v.PutPolicy(ctx, vault.PolicyRequest{Name: "silver", Settings: homeward.Policy{Retention: tiers, AppEvery: time.Hour}, Revision: made.Revision})
	s.must(err)
	read, err := v.Policy(ctx, "silver")
	s.must(err)
	if !slices.Equal(read.Settings.Retention, tiers) || read.Settings.AppEvery != time.Hour || read.Revision != changed.Revision {
		s.Errorf("read %+v", read)
	}
	_, err = v.PutPolicy(ctx, vault.PolicyRequest{Name: "silver", Revision: made.Revision})
	s.refused(homeward.Conflict, err)
	_, err = v.PutPolicy(ctx, vault.PolicyRequest{Name: "bronze", Settings: homeward.Policy{MinInterval: time.Nanosecond}})
	s.refused(homeward.Invalid, err, "min_interval")
	_, err = v.Policy(ctx, "bronze")
	s.refused(homeward.NotFound, err)
	secret := homeward.Hook{FreezeCommand: []string{"/bin/freeze", "hunter2"}, ThawCommand: []string{"/bin/thaw", "hunter2"}}
	_, err = v.PutPolicy(ctx, vault.PolicyRequest{Name: "silver", Settings: homeward.Policy{Freeze: secret}})
	s.must(err)
	for access, want := range map[vault.Access]string{vault.Contributor: "hunter2", vault.Operator: vault.Hidden, vault.Reader: vault.Hidden} {
		ctx, v := s.As(access)
		one, err := v.Policy(ctx, "silver")
		s.must(err)
		page, err := v.Policies(ctx, vault.Query{})
		s.must(err)
		for _, p := range append(page.Entries, one) {
			if p.Name == "silver" && (!slices.Equal(p.Settings.Freeze.FreezeCommand, []string{"/bin/freeze", want}) || !slices.Equal(p.Settings.Freeze.ThawCommand, []string{"/bin/thaw", want})) {
				s.Errorf("%s sees %+v", access, p.Settings.Freeze)
			}
		}
	}
	entries, err := v.Audit(ctx, vault.Query{})
	s.must(err)
	for _, e := range entries.Entries {
		if strings.Contains(e.Detail, "hunter2") {
			s.Errorf("the audit log tells a secret: %+v", e)
		}
	}
	s.must(v.DeletePolicy(ctx, "silver"))
	for _, gone := range []string{"silver", vault.FailbackName("silver")} {
		_, err := v.Policy(ctx, gone)
		s.refused(homeward.NotFound, err)
	}
}

func testFailbackPolicy(s *suite) {
	ctx, v := s.As(vault.Contributor)
	_, err := v.PutPolicy(ctx, vault.PolicyRequest{Name: "silver"})
	s.must(err)
	back, err := v.Policy(ctx, vault.FailbackName("silver"))
	s.must(err)
	want := vault.FailbackSettings()
	if !back.Failback || back.Of != "silver" || back.Settings.RPOThreshold != want.RPOThreshold || back.Settings.AppEvery != want.AppEvery || !slices.Equal(back.Settings.Retention, want.Retention) {
		s.Errorf("failback policy %+v", back)
	}
	_, err = v.PutPolicy(ctx, vault.PolicyRequest{Name: back.Name, Settings: back.Settings})
	s.refused(homeward.Forbidden, err)
	s.refused(homeward.Forbidden, v.DeletePolicy(ctx, back.Name))
}

func testNodes(s *suite) {
	ctx, v := s.As(vault.Contributor)
	n, err := v.Node(ctx, s.Node)
	s.must(err)
	if n.Role != pki.ProcessServer || n.Site != s.Site {
		s.Fatalf("the world's process server is %+v", n)
	}
	addresses := []vault.Address{{Host: "10.0.0.1:8443", Purpose: vault.Production}, {Host: "[fd00::1]:8443", Purpose: vault.Failback}}
	n, err = v.SetAddresses(ctx, s.Node, addresses)
	s.must(err)
	if !slices.Equal(n.Addresses, addresses) {
		s.Errorf("addresses %v", n.Addresses)
	}
	_, err = v.SetAddresses(ctx, s.Node, []vault.Address{{Host: "10.0.0.1:8443", Purpose: "fun"}})
	s.refused(homeward.Invalid, err)
	n, err = v.RevokeNode(ctx, s.Node)
	s.must(err)
	read, err := v.Node(ctx, s.Node)
	s.must(err)
	if n.State != vault.NodeRevoked || read.State != vault.NodeRevoked {
		s.Errorf("it is %s, read as %s", n.State, read.State)
	}
}

func testEnrolments(s *suite) {
	ctx, v := s.As(vault.Contributor)
	token, err := v.CreateEnrolment(ctx, vault.EnrolmentRequest{Role: pki.Agent, Site: s.Site, Node: "agent-7"})
	s.must(err)
	if token.Secret == "" || token.ID == "" || token.Node != "agent-7" || time.Until(token.Expires) > time.Hour+time.Minute {
		s.Errorf("token %+v", token)
	}
	found := false
	for _, e := range all(s, v.Enrolments, ctx, vault.Query{Role: string(pki.Agent)}) {
		found = found || e.ID == token.ID
		if e.Secret != "" {
			s.Errorf("a list tells the secret of %s", e.ID)
		}
	}
	if !found {
		s.Error("the token is not listed")
	}
	for _, bad := range []vault.EnrolmentRequest{
		{Role: "cook", Site: s.Site}, {Role: pki.Agent, Site: s.Site, Lifetime: 8 * 24 * time.Hour},
		{Role: pki.Agent, Site: s.Site, Lifetime: -1}, {Role: pki.Agent, Site: s.Site, Node: "a/b"},
	} {
		_, err := v.CreateEnrolment(ctx, bad)
		s.refused(homeward.Invalid, err)
	}
	_, err = v.CreateEnrolment(ctx, vault.EnrolmentRequest{Role: pki.Agent, Site: "nowhere"})
	s.refused(homeward.NotFound, err)
}

func testTokens(s *suite) {
	ctx, v := s.As(vault.Administrator)
	token, err := v.CreateToken(ctx, vault.TokenRequest{Name: "robot", Access: vault.Operator, Lifetime: time.Hour})
	s.must(err)
	if token.Secret == "" || token.Access != vault.Operator || token.Expires.IsZero() {
		s.Errorf("token %+v", token)
	}
	for _, listed := range all(s, v.Tokens, ctx, vault.Query{}) {
		if listed.Secret != "" {
			s.Errorf("a list tells the secret of %s", listed.Name)
		}
	}
	_, err = v.CreateToken(ctx, vault.TokenRequest{Name: "robot", Access: vault.Reader})
	s.refused(homeward.Exists, err)
	for _, bad := range []vault.TokenRequest{{Name: "x", Access: "god"}, {Name: "x"}, {Name: "x", Access: vault.Reader, Lifetime: -1}} {
		_, err := v.CreateToken(ctx, bad)
		s.refused(homeward.Invalid, err)
	}
	s.must(v.DeleteToken(ctx, "robot"))
	s.refused(homeward.NotFound, v.DeleteToken(ctx, "robot"))
}

func testAudit(s *suite) {
	ctx, v := s.As(vault.Contributor)
	_, err := v.PutSite(ctx, vault.SiteRequest{Name: "audited"})
	s.must(err)
	s.must(v.DeleteSite(ctx, "audited"))
	low, asReader := s.As(vault.Reader)
	_, err = asReader.PutSite(low, vault.SiteRequest{Name: "forbidden"})
	s.refused(homeward.Forbidden, err)
	var outcomes []string
	newest := int64(0)
	for i, e := range all(s, v.Audit, ctx, vault.Query{Limit: 2}) {
		if i > 0 && e.ID >= newest {
			s.Errorf("entry %d comes after %d: the newest is first", e.ID, newest)
		}
		newest = e.ID
		if strings.Contains(e.Subject, "audited") || strings.Contains(e.Subject, "forbidden") {
			outcomes = append(outcomes, e.Action+" "+e.Outcome)
			if e.Caller == "" || e.At.IsZero() {
				s.Errorf("entry %+v", e)
			}
		}
	}
	if want := []string{"site.put forbidden", "site.delete accepted", "site.put accepted"}; !slices.Equal(outcomes, want) {
		s.Errorf("audit log %v, want %v", outcomes, want)
	}
}

func testNotFound(s *suite) {
	ctx, v := s.As(vault.Administrator)
	for name, call := range map[string]func(context.Context, vault.Vault) error{
		"Site": func(ctx context.Context, v vault.Vault) error { _, err := v.Site(ctx, "none"); return err },
		"RefreshSite": func(ctx context.Context, v vault.Vault) error {
			_, err := v.RefreshSite(ctx, "none")
			return err
		},
		"Machine": func(ctx context.Context, v vault.Vault) error {
			_, err := v.Machine(ctx, s.Site+"/a/b %2F?")
			return err
		},
		"Node":        func(ctx context.Context, v vault.Vault) error { _, err := v.Node(ctx, "none"); return err },
		"RevokeNode":  func(ctx context.Context, v vault.Vault) error { _, err := v.RevokeNode(ctx, "none"); return err },
		"Item":        func(ctx context.Context, v vault.Vault) error { _, err := v.Item(ctx, "none"); return err },
		"Points":      func(ctx context.Context, v vault.Vault) error { _, err := v.Points(ctx, "none"); return err },
		"Readiness":   func(ctx context.Context, v vault.Vault) error { _, err := v.Readiness(ctx, "none"); return err },
		"Proof":       func(ctx context.Context, v vault.Vault) error { _, err := v.Proof(ctx, "none"); return err },
		"Prove":       func(ctx context.Context, v vault.Vault) error { _, err := v.Prove(ctx, "none"); return err },
		"Policy":      func(ctx context.Context, v vault.Vault) error { _, err := v.Policy(ctx, "none"); return err },
		"Job":         func(ctx context.Context, v vault.Vault) error { _, err := v.Job(ctx, "none"); return err },
		"DeleteToken": func(ctx context.Context, v vault.Vault) error { return v.DeleteToken(ctx, "none") },
		"AcknowledgeAlert": func(ctx context.Context, v vault.Vault) error {
			_, err := v.AcknowledgeAlert(ctx, "none")
			return err
		},
		"TellJob": func(ctx context.Context, v vault.Vault) error {
			_, err := v.TellJob(ctx, vault.JobRequest{ID: "none", Action: vault.JobCancel})
			return err
		},
		"Act": func(ctx context.Context, v vault.Vault) error {
			_, err := v.Act(ctx, vault.ActionRequest{Item: "none", Action: vault.Commit})
			return err
		},
		"Placement": func(ctx context.Context, v vault.Vault) error {
			_, err := v.Placement(ctx, vault.PlacementRequest{Item: "none"})
			return err
		},
	} {
		if err := call(ctx, v); homeward.KindOf(err) != homeward.NotFound || homeward.RemedyOf(err) == "" {
			s.Errorf("%s: %v", name, err)
		}
	}
}

func testStatus(s *suite) {
	ctx, v := s.As(vault.Administrator)
	status, err := v.Status(ctx)
	s.must(err)
	if status.Epoch == 0 || status.Nodes == 0 || status.Store == "" || status.ReadOnly {
		s.Errorf("status %+v", status)
	}
	again, err := v.Reconcile(ctx, false) // there is nothing to reconcile
	s.must(err)
	if again.ReadOnly {
		s.Errorf("status %+v", again)
	}
}

func testGivenUp(s *suite) {
	ctx, v := s.As(vault.Reader)
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := v.Sites(ctx, vault.Query{}); homeward.KindOf(err) != homeward.Canceled {
		s.Errorf("a call that was given up: %v", err)
	}
}
