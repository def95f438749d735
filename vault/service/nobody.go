package service

import (
	"context"

	"github.com/homeward-dr/homeward"
)

// A role that was never chosen knows nothing of an item: that it is asked to forget
// one is done, and what it has of one is nothing. Everything else it cannot do.

type noAgent struct{ homeward.Agent }

func (noAgent) nothing() error {
	return homeward.Errorf("ask agent", homeward.NotFound, "agent", "enrol one at the site, then repeat the action", "none was chosen for this site")
}

// Report implements homeward.MobilityAgent.
func (a noAgent) Report(context.Context, homeward.ItemRequest) (homeward.CaptureReport, error) {
	return homeward.CaptureReport{}, a.nothing()
}

// Handover implements homeward.MobilityAgent.
func (a noAgent) Handover(context.Context, homeward.GenerationRequest) (homeward.Changes, error) {
	return homeward.Changes{}, a.nothing()
}

// Release implements homeward.ChangeKeeper.
func (a noAgent) Release(context.Context, homeward.GenerationRequest) (homeward.Done, error) {
	return homeward.Done{}, a.nothing()
}

type noProcessServer struct{ homeward.ProcessServer }

// Forget implements homeward.ProcessServer.
func (noProcessServer) Forget(context.Context, homeward.GenerationRequest) (homeward.Done, error) {
	return homeward.Done{}, nil
}

type noMasterTarget struct{ homeward.MasterTarget }

// Forget implements homeward.Keeper.
func (noMasterTarget) Forget(context.Context, homeward.GenerationRequest) (homeward.Done, error) {
	return homeward.Done{}, nil
}

func (c *core) agent(name string) homeward.Agent {
	if name == "" {
		return noAgent{c.roles.Agent(name)}
	}
	return c.roles.Agent(name)
}

func (c *core) processServer(name string) homeward.ProcessServer {
	if name == "" {
		return noProcessServer{c.roles.ProcessServer(name)}
	}
	return c.roles.ProcessServer(name)
}

func (c *core) masterTarget(name string) homeward.MasterTarget {
	if name == "" {
		return noMasterTarget{c.roles.MasterTarget(name)}
	}
	return c.roles.MasterTarget(name)
}
