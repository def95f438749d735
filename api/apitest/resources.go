package apitest

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/vault"
)

// Sites is part of vault.Vault, as are all methods of this file but Authenticate.
func (m *Memory) Sites(ctx context.Context, q vault.Query) (vault.Page[vault.Site], error) {
	return listOf(ctx, m, vault.Reader, &m.sites, q)
}

func (m *Memory) Site(ctx context.Context, name string) (vault.Site, error) {
	return oneOf(ctx, m, &m.sites, name)
}

func (m *Memory) PutSite(ctx context.Context, req vault.SiteRequest) (site vault.Site, err error) {
	err = m.change(ctx, vault.Contributor, "site.put", "site "+req.Name, func(vault.Caller) error {
		if err := validName("name", req.Name); err != nil {
			return err
		}
		stored, err := m.sites.get(req.Name)
		switch {
		case err != nil && req.Revision != 0:
			return err
		case err != nil:
			stored = vault.Site{Name: req.Name, Why: "no configuration server has enrolled"}
		}
		if err := stale("site "+req.Name, req.Revision, stored.Revision); err != nil {
			return err
		}
		stored.Label = req.Label
		m.sites.put(req.Name, &stored)
		site = stored
		return nil
	})
	return site, err
}

func (m *Memory) DeleteSite(ctx context.Context, name string) error {
	return m.change(ctx, vault.Contributor, "site.delete", "site "+name, func(vault.Caller) error {
		if _, err := m.sites.get(name); err != nil {
			return err
		}
		for _, i := range m.items.rows {
			if i.Original.Site == name || i.Recovery.Site == name {
				return homeward.Errorf("delete site", homeward.InUse, "site "+name, "disable these items first", "item %s is there", i.ID)
			}
		}
		for _, n := range m.nodes.rows {
			if n.Site == name && n.State != vault.NodeRevoked {
				return homeward.Errorf("delete site", homeward.InUse, "site "+name, "revoke these nodes first", "node %s is there", n.Name)
			}
		}
		return m.sites.remove(name)
	})
}

func (m *Memory) RefreshSite(ctx context.Context, name string) (site vault.Site, err error) {
	err = m.change(ctx, vault.Operator, "!site.refresh", "site "+name, func(vault.Caller) error {
		if site, err = m.sites.get(name); err != nil {
			return err
		}
		if !site.Connected {
			return homeward.Errorf("refresh site", homeward.Unavailable, "site "+name, "start its configuration server", "%s", site.Why)
		}
		site.Seen = m.now()
		m.sites.put(name, &site)
		return nil
	})
	return site, err
}

func (m *Memory) Machines(ctx context.Context, q vault.Query) (vault.Page[vault.Machine], error) {
	return listOf(ctx, m, vault.Reader, &m.machines, q)
}

func (m *Memory) Machine(ctx context.Context, id string) (vault.Machine, error) {
	return oneOf(ctx, m, &m.machines, id)
}

func (m *Memory) Nodes(ctx context.Context, q vault.Query) (vault.Page[vault.Node], error) {
	return listOf(ctx, m, vault.Reader, &m.nodes, q)
}

func (m *Memory) Node(ctx context.Context, name string) (vault.Node, error) {
	return oneOf(ctx, m, &m.nodes, name)
}

func (m *Memory) CreateEnrolment(ctx context.Context, req vault.EnrolmentRequest) (token vault.EnrolmentToken, err error) {
	err = m.change(ctx, vault.Contributor, "enrolment.create", "site "+req.Site, func(vault.Caller) error {
		bad := func(field, fix string, value any) error {
			return homeward.Errorf("create enrolment", homeward.Invalid, field, fix, "%v", value)
		}
		switch {
		case !slices.Contains(pki.Roles(), req.Role) || req.Role == pki.Vault:
			return bad("role", "give agent, process-server, master-target or configuration-server", req.Role)
		case req.Lifetime < 0 || req.Lifetime > 7*24*time.Hour:
			return bad("lifetime", "give up to seven days", req.Lifetime)
		case req.Node != "" && validName("node", req.Node) != nil:
			return validName("node", req.Node)
		}
		if _, err := m.sites.get(req.Site); err != nil {
			return err
		}
		if req.Lifetime == 0 {
			req.Lifetime = time.Hour
		}
		token = vault.EnrolmentToken{ID: m.newID("enrolment"), Role: req.Role, Site: req.Site, Node: req.Node, Expires: m.now().Add(req.Lifetime)}
		m.enrolments.put(token.ID, &token)
		token.Secret = "hwe." + homeward.NewID().String()
		return nil
	})
	return token, err
}

func (m *Memory) Enrolments(ctx context.Context, q vault.Query) (vault.Page[vault.EnrolmentToken], error) {
	return listOf(ctx, m, vault.Reader, &m.enrolments, q)
}

// node changes a node.
func (m *Memory) node(ctx context.Context, need vault.Access, action, name string, do func(*vault.Node) error) (node vault.Node, err error) {
	err = m.change(ctx, need, action, "node "+name, func(vault.Caller) error {
		if node, err = m.nodes.get(name); err != nil {
			return err
		}
		if err := do(&node); err != nil {
			return err
		}
		m.nodes.put(name, &node)
		return nil
	})
	return node, err
}

func (m *Memory) RevokeNode(ctx context.Context, name string) (vault.Node, error) {
	return m.node(ctx, vault.Contributor, "node.revoke", name, func(n *vault.Node) error {
		n.State = vault.NodeRevoked
		return nil
	})
}

func (m *Memory) SetAddresses(ctx context.Context, name string, a []vault.Address) (vault.Node, error) {
	return m.node(ctx, vault.Contributor, "node.set-addresses", name, func(n *vault.Node) error {
		for _, address := range a {
			if address.Purpose != vault.Production && address.Purpose != vault.Failback {
				return homeward.Errorf("set addresses", homeward.Invalid, "purpose", "give production or failback", "%q", address.Purpose)
			}
		}
		n.Addresses = slices.Clone(a)
		return nil
	})
}

func (m *Memory) Limit(ctx context.Context, name string, req homeward.LimitRequest) error {
	_, err := m.node(ctx, vault.Operator, "node.limit", name, func(n *vault.Node) error {
		for i, w := range req.Schedule {
			if w.BytesPerSecond < 0 {
				return homeward.Errorf("limit", homeward.Invalid, "schedule["+strconv.Itoa(i)+"].bytes_per_second", "give 0 for no cap, or a positive number", "%d", w.BytesPerSecond)
			}
		}
		if n.Role != pki.ProcessServer {
			return homeward.Errorf("limit", homeward.Invalid, "node", "name a process server", "%s is a %s", name, n.Role)
		}
		return nil
	})
	return err
}

func (m *Memory) Policies(ctx context.Context, q vault.Query) (vault.Page[vault.Policy], error) {
	page, err := listOf(ctx, m, vault.Reader, &m.policies, q)
	for i := range page.Entries {
		page.Entries[i] = seen(ctx, page.Entries[i])
	}
	return page, err
}

func (m *Memory) Policy(ctx context.Context, name string) (vault.Policy, error) {
	p, err := oneOf(ctx, m, &m.policies, name)
	return seen(ctx, p), err
}

// seen hides what a caller who may not change policies must not see.
func seen(ctx context.Context, p vault.Policy) vault.Policy {
	if caller, err := vault.CallerOf(ctx); err == nil && caller.Access.Includes(vault.Contributor) {
		return p
	}
	return p.WithoutSecrets()
}

func (m *Memory) PutPolicy(ctx context.Context, req vault.PolicyRequest) (policy vault.Policy, err error) {
	err = m.change(ctx, vault.Contributor, "policy.put", "policy "+req.Name, func(vault.Caller) error {
		if err := validName("name", req.Name); err != nil {
			return err
		}
		if err := req.Resync.Validate(); err != nil {
			return err
		}
		req.Resync = cmp.Or(req.Resync, vault.ResyncAutomatic)
		settings := req.Settings.WithDefaults()
		if err := settings.Validate(); err != nil {
			return err
		}
		stored, there := m.policies.rows[req.Name]
		switch {
		case !there && req.Revision != 0:
			_, err := m.policies.get(req.Name)
			return err
		case !there:
			policy = m.putPair(req, settings)
			return nil
		case stored.Failback:
			return homeward.Errorf("put policy", homeward.Forbidden, "policy "+stored.Name, "change forward policy "+stored.Of+" instead", "a failback policy cannot be edited (R132)")
		}
		if err := stale("policy "+req.Name, req.Revision, stored.Revision); err != nil {
			return err
		}
		stored.Settings, stored.Resync = settings, req.Resync
		m.policies.put(req.Name, &stored)
		policy = stored
		return nil
	})
	return policy, err
}

func (m *Memory) putPair(req vault.PolicyRequest, settings homeward.Policy) vault.Policy {
	forward := vault.Policy{Name: req.Name, Pair: vault.FailbackName(req.Name), Settings: settings, Resync: req.Resync}
	m.policies.put(req.Name, &forward)
	m.policies.put(forward.Pair, &vault.Policy{Name: forward.Pair, Failback: true, Of: req.Name, Settings: vault.FailbackSettings().WithDefaults(), Resync: vault.ResyncAutomatic})
	return forward
}

func (m *Memory) DeletePolicy(ctx context.Context, name string) error {
	return m.change(ctx, vault.Contributor, "policy.delete", "policy "+name, func(vault.Caller) error {
		stored, err := m.policies.get(name)
		if err != nil {
			return err
		}
		if stored.Failback {
			return homeward.Errorf("delete policy", homeward.Forbidden, "policy "+name, "delete forward policy "+stored.Of, "a failback policy cannot be deleted by itself")
		}
		for _, i := range m.items.rows {
			if i.Policy == name {
				return homeward.Errorf("delete policy", homeward.InUse, "policy "+name, "disable these items first", "item %s uses it", i.ID)
			}
		}
		if err := m.policies.remove(stored.Pair); err != nil {
			return err
		}
		return m.policies.remove(name)
	})
}

func (m *Memory) Alerts(ctx context.Context, q vault.Query) (vault.Page[vault.Alert], error) {
	return listOf(ctx, m, vault.Reader, &m.alerts, q)
}

func (m *Memory) AcknowledgeAlert(ctx context.Context, id string) (alert vault.Alert, err error) {
	err = m.change(ctx, vault.Operator, "!alert.acknowledge", "alert "+id, func(c vault.Caller) error {
		if alert, err = m.alerts.get(id); err != nil {
			return err
		}
		alert.AckedBy = c.Name
		m.alerts.put(id, &alert)
		return nil
	})
	return alert, err
}

func (m *Memory) Audit(ctx context.Context, q vault.Query) (page vault.Page[vault.AuditEntry], err error) {
	stored, err := listOf(ctx, m, vault.Reader, &m.audit, q)
	for _, e := range stored.Entries {
		page.Entries = append(page.Entries, e.AuditEntry)
	}
	page.Next = stored.Next
	return page, err
}

func (m *Memory) Status(ctx context.Context) (status vault.Status, err error) {
	err = m.see(ctx, vault.Reader, func() error {
		status = m.status
		status.Nodes, status.Items = len(m.nodes.rows), len(m.items.rows)
		for _, j := range m.jobs.rows {
			if j.State == vault.JobRunning {
				status.Running++
			}
		}
		return nil
	})
	return status, err
}

func (m *Memory) Reconcile(ctx context.Context, force bool) (status vault.Status, err error) {
	err = m.change(ctx, vault.Administrator, "!vault.reconcile", "vault", func(vault.Caller) error {
		if m.status.ReadOnly && len(m.status.Unheard) > 0 && !force {
			return homeward.Errorf("reconcile", homeward.Conflict, "vault", "wait for them, or force it", "nodes have not reported since the restore: %v", m.status.Unheard)
		}
		m.status.ReadOnly, m.status.Why, m.status.Unheard = false, "", nil
		return nil
	})
	if err != nil {
		return status, err
	}
	return m.Status(ctx)
}

func (m *Memory) CreateToken(ctx context.Context, req vault.TokenRequest) (token vault.APIToken, err error) {
	err = m.change(ctx, vault.Administrator, "!token.create", "token "+req.Name, func(vault.Caller) error {
		if err := validName("name", req.Name); err != nil {
			return err
		}
		if !req.Access.Includes(vault.Reader) {
			return homeward.Errorf("create token", homeward.Invalid, "access", "give reader, operator, contributor or administrator", "no such access: %q", req.Access)
		}
		if req.Lifetime < 0 {
			return homeward.Errorf("create token", homeward.Invalid, "lifetime", "give 0 for one that never expires, or a positive time", "%v", req.Lifetime)
		}
		if _, err := m.tokens.get(req.Name); err == nil {
			return homeward.Errorf("create token", homeward.Exists, "token "+req.Name, "choose another name", "it is there already")
		}
		token = vault.APIToken{Name: req.Name, Access: req.Access}
		if req.Lifetime > 0 {
			token.Expires = m.now().Add(req.Lifetime)
		}
		m.tokens.put(req.Name, &token)
		token.Secret = "hw." + req.Name + "." + homeward.NewID().String()
		m.hashes[token.Secret] = req.Name
		return nil
	})
	return token, err
}

func (m *Memory) Tokens(ctx context.Context, q vault.Query) (vault.Page[vault.APIToken], error) {
	return listOf(ctx, m, vault.Administrator, &m.tokens, q)
}

func (m *Memory) DeleteToken(ctx context.Context, name string) error {
	return m.change(ctx, vault.Administrator, "!token.delete", "token "+name, func(vault.Caller) error {
		for secret, of := range m.hashes {
			if of == name {
				delete(m.hashes, secret) // not that of the next token of this name
			}
		}
		return m.tokens.remove(name)
	})
}

// Authenticate says whose a secret is: it is api.Authenticator.
func (m *Memory) Authenticate(ctx context.Context, secret string) (vault.Caller, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	token, err := m.tokens.get(m.hashes[secret])
	if err != nil {
		return vault.Caller{}, homeward.Errorf("authenticate", homeward.Unauthentic, "token", "ask an administrator for a new one", "the token is not known here")
	}
	if !token.Expires.IsZero() && !m.now().Before(token.Expires) {
		return vault.Caller{}, homeward.Errorf("authenticate", homeward.Unauthentic, "token "+token.Name, "ask an administrator for a new one", "it expired at %s", token.Expires.Format(time.RFC3339))
	}
	return vault.Caller{Name: token.Name, Access: token.Access}, nil
}
