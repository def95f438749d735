package service

import (
	"context"
	"strings"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

// sites is vault.Sites.
type sites struct {
	*core
	discovery *discovery
}

func (s *sites) Sites(ctx context.Context, q vault.Query) (vault.Page[vault.Site], error) {
	if err := s.see(ctx); err != nil {
		return vault.Page[vault.Site]{}, err
	}
	return s.store.Sites.List(ctx, q)
}

func (s *sites) Site(ctx context.Context, name string) (vault.Site, error) {
	if err := s.see(ctx); err != nil {
		return vault.Site{}, err
	}
	return s.store.Sites.Get(ctx, name)
}

func (s *sites) PutSite(ctx context.Context, req vault.SiteRequest) (vault.Site, error) {
	var site vault.Site
	err := s.change(ctx, asked{need: vault.Contributor, action: "site.put", subject: "site " + req.Name, detail: req}, func(ctx context.Context) error {
		if err := validName("put site", "name", req.Name); err != nil {
			return err
		}
		if len(req.Label) > 200 {
			return homeward.Errorf("put site", homeward.Invalid, "label", "give at most 200 bytes", "%d bytes", len(req.Label))
		}
		stored, err := s.store.Sites.Get(ctx, req.Name)
		if homeward.KindOf(err) == homeward.NotFound && req.Revision == 0 {
			site = vault.Site{Name: req.Name, Label: req.Label, Why: "no configuration server has enrolled"}
			return s.store.Sites.Insert(ctx, &site)
		}
		if err != nil {
			return err
		}
		if err := stale("put site", "site "+req.Name, req.Revision, stored.Revision); err != nil {
			return err
		}
		site = stored
		site.Label = req.Label
		return s.store.Sites.Update(ctx, &site)
	})
	return site, err
}

func (s *sites) DeleteSite(ctx context.Context, name string) error {
	return s.change(ctx, asked{need: vault.Contributor, action: "site.delete", subject: "site " + name}, func(ctx context.Context) error {
		if _, err := s.store.Sites.Get(ctx, name); err != nil {
			return err
		}
		used := func(what string, names []string, remedy string) error {
			if len(names) == 0 {
				return nil
			}
			return homeward.Errorf("delete site", homeward.InUse, "site "+name, remedy, "%s are there: %s", what, strings.Join(names, ", "))
		}
		items, err := s.itemsWith(ctx, func(it vault.Item) bool { return it.Original.Site == name || it.Recovery.Site == name })
		if err == nil {
			err = used("items", items, "disable these items first")
		}
		if err != nil {
			return err
		}
		var nodes []string
		for n, err := range s.store.Nodes.All(ctx, vault.Query{Site: name}) {
			if err != nil {
				return err
			}
			if n.State != vault.NodeRevoked {
				nodes = append(nodes, n.Name)
			}
		}
		if err := used("nodes", nodes, "revoke these nodes first"); err != nil {
			return err
		}
		if err := s.forgetMachines(ctx, name); err != nil {
			return err
		}
		return s.store.Sites.Delete(ctx, name)
	})
}

func (s *sites) forgetMachines(ctx context.Context, site string) error {
	var ids []string
	for m, err := range s.store.Machines.All(ctx, vault.Query{Site: site}) {
		if err != nil {
			return err
		}
		ids = append(ids, m.ID)
	}
	for _, id := range ids {
		if err := s.store.Machines.Delete(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

func (s *sites) RefreshSite(ctx context.Context, name string) (vault.Site, error) {
	var site vault.Site
	err := s.order(ctx, asked{need: vault.Operator, action: "site.refresh", subject: "site " + name, always: true}, func(ctx context.Context, _ vault.Caller) (err error) {
		if _, err := s.store.Sites.Get(ctx, name); err != nil {
			return err
		}
		if err := s.discovery.refreshNodes(ctx, name); err != nil {
			return err
		}
		site, err = s.discovery.refresh(ctx, name)
		return err
	})
	return site, err
}

func (s *sites) Machines(ctx context.Context, q vault.Query) (vault.Page[vault.Machine], error) {
	if err := s.see(ctx); err != nil {
		return vault.Page[vault.Machine]{}, err
	}
	return s.store.Machines.List(ctx, q)
}

func (s *sites) Machine(ctx context.Context, id string) (vault.Machine, error) {
	if err := s.see(ctx); err != nil {
		return vault.Machine{}, err
	}
	return s.store.Machines.Get(ctx, id)
}
