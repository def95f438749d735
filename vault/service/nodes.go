package service

import (
	"context"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/enrol"
	"github.com/homeward-dr/homeward/vault"
)

// Registry admits nodes and turns them away (packages enrol and fleet).
type Registry interface {
	// CreateToken makes an enrolment token; its secret is in this answer alone.
	CreateToken(ctx context.Context, req vault.EnrolmentRequest) (vault.EnrolmentToken, error)
	// Revoke puts the node's certificate on the list, hangs up on it, and marks it.
	Revoke(ctx context.Context, name string) (vault.Node, error)
	// Learn takes up a node's row that was changed.
	Learn(ctx context.Context, name string) error
	// Refresh asks a node for a heartbeat now.
	Refresh(ctx context.Context, name string) (vault.Node, error)
	// Live is a node's row with what its newest heartbeats told.
	Live(row vault.Node) vault.Node
	// MaxGeneration is the newest generation of an item that any node has reported;
	// zero: none has.
	MaxGeneration(item homeward.ItemID) homeward.Generation
}

// nodes is vault.Nodes.
type nodes struct {
	*core
}

// node is an enrolled node as it is now.
func (c *core) node(ctx context.Context, name string) (vault.Node, error) {
	n, err := c.store.Nodes.Get(ctx, name)
	if err != nil {
		return n, err
	}
	return c.registry.Live(n), nil
}

func (n *nodes) Nodes(ctx context.Context, q vault.Query) (vault.Page[vault.Node], error) {
	if err := n.see(ctx); err != nil {
		return vault.Page[vault.Node]{}, err
	}
	page, err := n.store.Nodes.List(ctx, q)
	for i := range page.Entries {
		page.Entries[i] = n.registry.Live(page.Entries[i])
	}
	return page, err
}

func (n *nodes) Node(ctx context.Context, name string) (vault.Node, error) {
	if err := n.see(ctx); err != nil {
		return vault.Node{}, err
	}
	return n.node(ctx, name)
}

func (n *nodes) CreateEnrolment(ctx context.Context, req vault.EnrolmentRequest) (vault.EnrolmentToken, error) {
	var token vault.EnrolmentToken
	err := n.order(ctx, asked{need: vault.Contributor, action: "enrolment.create", subject: "site " + req.Site, detail: req}, func(ctx context.Context, _ vault.Caller) error {
		if _, err := n.store.Sites.Get(ctx, req.Site); err != nil {
			return err
		}
		var err error
		token, err = n.registry.CreateToken(ctx, req)
		return err
	})
	return token, err
}

func (n *nodes) Enrolments(ctx context.Context, q vault.Query) (vault.Page[vault.EnrolmentToken], error) {
	var page vault.Page[vault.EnrolmentToken]
	if err := n.see(ctx); err != nil {
		return page, err
	}
	stored, err := n.store.Enrolments.List(ctx, q)
	for _, e := range stored.Entries {
		page.Entries = append(page.Entries, e.EnrolmentToken)
	}
	page.Next = stored.Next
	return page, err
}

func (n *nodes) RevokeNode(ctx context.Context, name string) (vault.Node, error) {
	var node vault.Node
	err := n.order(ctx, asked{need: vault.Contributor, action: "node.revoke", subject: "node " + name}, func(ctx context.Context, _ vault.Caller) error {
		if _, err := n.store.Nodes.Get(ctx, name); err != nil {
			return err
		}
		var err error
		node, err = n.registry.Revoke(ctx, name)
		return err
	})
	return node, err
}

// SetAddresses replaces what peers use to reach a node. Legs that run keep the old
// ones until their next task: Reassociate to the same node tells them now.
func (n *nodes) SetAddresses(ctx context.Context, name string, all []vault.Address) (vault.Node, error) {
	var node vault.Node
	err := n.change(ctx, asked{need: vault.Contributor, action: "node.addresses", subject: "node " + name, detail: all}, func(ctx context.Context) error {
		if err := enrol.ValidateAddresses(all); err != nil {
			return err
		}
		var err error
		node, err = n.store.Nodes.Change(ctx, name, func(n *vault.Node) error {
			n.Addresses = all
			return nil
		})
		return err
	})
	if err != nil {
		return node, err
	}
	return n.registry.Live(node), n.registry.Learn(ctx, name)
}
