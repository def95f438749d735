// Package service is the vault: it implements vault.Vault over the store, the fleet
// of nodes, the job engine, the lifecycle's table, the rules, and package recovery.
//
// One type per part of the contract, joined in service.go:
//
//	access.go               who may do what, and the audit log
//	sites.go, discovery.go  sites; their inventories, read and held against what is
//	inventory.go            protected (a pure function)
//	nodes.go, ways.go       nodes; the ways between them that are probed
//	policies.go, tokens.go  policies with their failback pair; who may call
//	items.go, standing.go   items, and the facts that the lifecycle decides by
//	placement.go            where an item can be put: nodes and fields
//	act.go, plan.go         an action as a job, and what it would do; point.go, input.go;
//	conceive.go             the item that an enable makes
//	workshop.go, tasks*.go  what the tasks of jobs do, each a list of package recovery
//	jobs.go, jobstore.go    jobs, and what they make of their items
//	monitor.go, alerts.go   how replication stands, and what somebody should know
//	facts.go, assessor.go   facts for the rules; the standing failback score
//	keeper.go, restored.go  what no job does: expiry, fencing, foreign generations
//	reassociate.go          items move to another process server or master target
package service
