package service

import (
	"cmp"
	"context"
	"strings"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

// policies is vault.Policies.
type policies struct {
	*core
}

func (p *policies) Policies(ctx context.Context, q vault.Query) (vault.Page[vault.Policy], error) {
	caller, err := permit(ctx, "read", vault.Reader)
	if err != nil {
		return vault.Page[vault.Policy]{}, err
	}
	page, err := p.store.Policies.List(ctx, q)
	for i := range page.Entries {
		page.Entries[i] = seenBy(caller, page.Entries[i])
	}
	return page, err
}

func (p *policies) Policy(ctx context.Context, name string) (vault.Policy, error) {
	caller, err := permit(ctx, "read", vault.Reader)
	if err != nil {
		return vault.Policy{}, err
	}
	stored, err := p.store.Policies.Get(ctx, name)
	return seenBy(caller, stored), err
}

// seenBy hides the arguments of commands from whoever may not change them.
func seenBy(caller vault.Caller, p vault.Policy) vault.Policy {
	if caller.Access.Includes(vault.Contributor) {
		return p
	}
	return p.WithoutSecrets()
}

// PutPolicy makes a forward policy together with its failback policy (R130), or
// changes a forward one. Items that replicate by it follow within seconds, those that
// synchronize when they are in sync, those that are failed over with their next leg; an
// alert names each that cannot be told. The RPO threshold counts at once.
func (p *policies) PutPolicy(ctx context.Context, req vault.PolicyRequest) (vault.Policy, error) {
	var made vault.Policy
	err := p.change(ctx, asked{need: vault.Contributor, action: "policy.put", subject: "policy " + req.Name, detail: req}, func(ctx context.Context) error {
		if err := validName("put policy", "name", req.Name); err != nil {
			return err
		}
		req.Settings = req.Settings.WithDefaults()
		if err := req.Settings.Validate(); err != nil {
			return err
		}
		if err := req.Resync.Validate(); err != nil {
			return err
		}
		req.Resync = cmp.Or(req.Resync, vault.ResyncAutomatic)
		if req.Settings.RPOThreshold < 0 || req.Settings.AppEvery < 0 {
			return homeward.Errorf("put policy", homeward.Invalid, "rpo_threshold, app_every", "give 0 for none, or a positive time", "negative")
		}
		stored, err := p.store.Policies.Get(ctx, req.Name)
		switch {
		case homeward.KindOf(err) == homeward.NotFound:
			made, err = p.makePair(ctx, req)
		case err == nil:
			made, err = p.edit(ctx, stored, req)
		}
		return err
	})
	return made, err
}

func (p *policies) makePair(ctx context.Context, req vault.PolicyRequest) (vault.Policy, error) {
	forward := vault.Policy{Name: req.Name, Pair: vault.FailbackName(req.Name), Settings: req.Settings, Resync: req.Resync}
	if err := validName("put policy", "name", forward.Pair); err != nil {
		return forward, homeward.Errorf("put policy", homeward.Invalid, "name", "choose a shorter name",
			"the name of its failback policy, %s, would be too long", forward.Pair)
	}
	if req.Revision != 0 {
		return forward, homeward.Errorf("put policy", homeward.NotFound, "policy "+req.Name, "leave the revision out to make it", "there is no such policy to change")
	}
	back := vault.Policy{Name: forward.Pair, Failback: true, Of: req.Name, Settings: vault.FailbackSettings().WithDefaults(), Resync: vault.ResyncAutomatic}
	if err := p.store.Policies.Insert(ctx, &forward); err != nil {
		return forward, err
	}
	return forward, p.store.Policies.Insert(ctx, &back)
}

func (p *policies) edit(ctx context.Context, stored vault.Policy, req vault.PolicyRequest) (vault.Policy, error) {
	if stored.Failback {
		return stored, homeward.Errorf("put policy", homeward.Forbidden, "policy "+stored.Name,
			"change forward policy "+stored.Of+" instead; its failback policy stays as it is", "a failback policy cannot be edited (R132)")
	}
	if err := stale("put policy", "policy "+stored.Name, req.Revision, stored.Revision); err != nil {
		return stored, err
	}
	stored.Settings, stored.Resync = req.Settings, req.Resync
	return stored, p.store.Policies.Update(ctx, &stored)
}

// DeletePolicy removes a forward policy and its failback policy.
func (p *policies) DeletePolicy(ctx context.Context, name string) error {
	return p.change(ctx, asked{need: vault.Contributor, action: "policy.delete", subject: "policy " + name}, func(ctx context.Context) error {
		stored, err := p.store.Policies.Get(ctx, name)
		if err != nil {
			return err
		}
		if stored.Failback {
			return homeward.Errorf("delete policy", homeward.Forbidden, "policy "+name, "delete forward policy "+stored.Of+": this one goes with it", "a failback policy cannot be deleted by itself")
		}
		users, err := p.itemsWith(ctx, func(it vault.Item) bool { return it.Policy == name })
		if err != nil {
			return err
		}
		if len(users) > 0 {
			return homeward.Errorf("delete policy", homeward.InUse, "policy "+name, "disable these items first", "items use it: %s", strings.Join(users, ", "))
		}
		if err := p.store.Policies.Delete(ctx, stored.Pair); err != nil {
			return err
		}
		return p.store.Policies.Delete(ctx, name)
	})
}

// itemsWith names items, at most ten.
func (c *core) itemsWith(ctx context.Context, has func(vault.Item) bool) (names []string, err error) {
	for it, err := range c.store.Items.All(ctx, vault.Query{}) {
		if err != nil {
			return names, err
		}
		if has(it) {
			names = append(names, string(it.ID))
		}
		if len(names) == 10 {
			break
		}
	}
	return names, nil
}

// settingsOf are what a leg in a direction replicates by.
func (c *core) settingsOf(ctx context.Context, it vault.Item, to string) (homeward.Policy, error) {
	p, err := c.policyOf(ctx, it, to)
	return p.Settings, err
}

// policyOf is the forward policy, or the failback policy, of a leg in a direction.
func (c *core) policyOf(ctx context.Context, it vault.Item, to string) (vault.Policy, error) {
	name := it.Policy
	if to == it.Original.Site {
		name = vault.FailbackName(name)
	}
	return c.store.Policies.Get(ctx, name)
}
