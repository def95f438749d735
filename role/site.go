package role

import (
	"context"
	"net/http"

	"github.com/homeward-dr/homeward"
)

// The requests of a site's calls: the arguments of its contract by name. Answers
// that are lists are wrapped, for a document is an object.
type (
	noArguments struct{}
	refRequest  struct {
		Ref homeward.Ref `json:"ref"`
	}
	createRequest struct {
		Key     string                `json:"key"`
		Machine homeward.Machine      `json:"machine"`
		Disks   []homeward.Attachment `json:"disks"`
	}
	powerOffRequest struct {
		Key string        `json:"key"`
		Ref homeward.Ref  `json:"ref"`
		How homeward.Stop `json:"how"`
	}
	keyedRequest struct {
		Key string       `json:"key"`
		Ref homeward.Ref `json:"ref"`
	}
	operationRequest struct {
		ID string `json:"id"`
	}
	createDiskRequest struct {
		Key   string        `json:"key"`
		Disk  homeward.Disk `json:"disk"`
		Where string        `json:"where"`
	}
	snapshotRequest struct {
		Key  string       `json:"key"`
		Ref  homeward.Ref `json:"ref"`
		Name string       `json:"name"`
	}
	attachRequest struct {
		Key        string              `json:"key"`
		Machine    homeward.Ref        `json:"machine"`
		Attachment homeward.Attachment `json:"attachment"`
	}
	detachRequest struct {
		Key     string          `json:"key"`
		Machine homeward.Ref    `json:"machine"`
		Disk    homeward.DiskID `json:"disk"`
	}
	optionsRequest struct {
		Direction homeward.Direction `json:"direction"`
		Machine   homeward.Machine   `json:"machine"`
	}
	guardRequest struct {
		Guard homeward.Guard `json:"guard"`
	}
)

type (
	machineList struct {
		Machines []homeward.SiteMachine `json:"machines"`
	}
	factList struct {
		Facts []homeward.Fact `json:"facts"`
	}
	fieldList struct {
		Fields []homeward.Field `json:"fields"`
	}
	guardList struct {
		Guards []homeward.Guard `json:"guards"`
	}
)

// SiteHandler serves a site: what a configuration server does. Operations are
// begun by one call and polled by another: they outlive a connection. One that is a
// homeward.Prober too is served as such.
func SiteHandler(s homeward.Site) http.Handler {
	h := siteHandler{s}
	methods := map[string]endpoint{
		"capabilities": method(h.capabilities),
		"machines":     method(h.machines),
		"machine":      method(h.machine),
		"facts":        method(h.facts),
		"create":       method(h.create),
		"power-on":     method(h.powerOn),
		"power-off":    method(h.powerOff),
		"delete":       method(h.delete),
		"operation":    method(h.operation),
		"create-disk":  method(h.createDisk),
		"delete-disk":  method(h.deleteDisk),
		"snapshot":     method(h.snapshot),
		"attach":       method(h.attach),
		"detach":       method(h.detach),
		"options":      method(h.options),
		"guard":        method(h.guard),
		"guards-of":    method(h.guardsOf),
		"unguard":      method(h.unguard),
	}
	if p, tries := s.(homeward.Prober); tries {
		methods["try"] = method(p.Try)
	}
	return contract("site", methods)
}

type siteHandler struct{ homeward.Site }

func (h siteHandler) capabilities(ctx context.Context, _ noArguments) (homeward.Capabilities, error) {
	return h.Capabilities(ctx)
}

func (h siteHandler) machines(ctx context.Context, _ noArguments) (machineList, error) {
	list, err := h.Machines(ctx)
	return machineList{list}, err
}

func (h siteHandler) machine(ctx context.Context, r refRequest) (homeward.SiteMachine, error) {
	return h.Machine(ctx, r.Ref)
}

func (h siteHandler) facts(ctx context.Context, _ noArguments) (factList, error) {
	list, err := h.Facts(ctx)
	return factList{list}, err
}

func (h siteHandler) create(ctx context.Context, r createRequest) (homeward.Operation, error) {
	return h.Create(ctx, r.Key, r.Machine, r.Disks)
}

func (h siteHandler) powerOn(ctx context.Context, r keyedRequest) (homeward.Operation, error) {
	return h.PowerOn(ctx, r.Key, r.Ref)
}

func (h siteHandler) powerOff(ctx context.Context, r powerOffRequest) (homeward.Operation, error) {
	return h.PowerOff(ctx, r.Key, r.Ref, r.How)
}

func (h siteHandler) delete(ctx context.Context, r keyedRequest) (homeward.Operation, error) {
	return h.Delete(ctx, r.Key, r.Ref)
}

func (h siteHandler) operation(ctx context.Context, r operationRequest) (homeward.Operation, error) {
	return h.Operation(ctx, r.ID)
}

func (h siteHandler) createDisk(ctx context.Context, r createDiskRequest) (homeward.Operation, error) {
	return h.CreateDisk(ctx, r.Key, r.Disk, r.Where)
}

func (h siteHandler) deleteDisk(ctx context.Context, r keyedRequest) (homeward.Operation, error) {
	return h.DeleteDisk(ctx, r.Key, r.Ref)
}

func (h siteHandler) snapshot(ctx context.Context, r snapshotRequest) (homeward.Operation, error) {
	return h.Snapshot(ctx, r.Key, r.Ref, r.Name)
}

func (h siteHandler) attach(ctx context.Context, r attachRequest) (homeward.Operation, error) {
	return h.Attach(ctx, r.Key, r.Machine, r.Attachment)
}

func (h siteHandler) detach(ctx context.Context, r detachRequest) (homeward.Operation, error) {
	return h.Detach(ctx, r.Key, r.Machine, r.Disk)
}

func (h siteHandler) options(ctx context.Context, r optionsRequest) (fieldList, error) {
	list, err := h.Options(ctx, r.Direction, r.Machine)
	return fieldList{list}, err
}

func (h siteHandler) guard(ctx context.Context, r guardRequest) (homeward.Done, error) {
	return homeward.Done{}, h.Guard(ctx, r.Guard)
}

func (h siteHandler) guardsOf(ctx context.Context, r refRequest) (guardList, error) {
	list, err := h.GuardsOf(ctx, r.Ref)
	return guardList{list}, err
}

func (h siteHandler) unguard(ctx context.Context, r guardRequest) (homeward.Done, error) {
	return homeward.Done{}, h.Unguard(ctx, r.Guard)
}

// Site calls the site whose configuration server is at a node. It is a homeward.Prober
// too, which answers Unsupported where the node is none.
func Site(n *Node) homeward.Site { return site{n} }

type site struct{ at *Node }

func (s site) Try(ctx context.Context, r homeward.TryRequest) (homeward.TryReport, error) {
	return callWithin[homeward.TryReport](ctx, s.at, "site/try", r, maxProbe)
}

func (s site) Capabilities(ctx context.Context) (homeward.Capabilities, error) {
	return call[homeward.Capabilities](ctx, s.at, "site/capabilities", noArguments{})
}

func (s site) Machines(ctx context.Context) ([]homeward.SiteMachine, error) {
	l, err := call[machineList](ctx, s.at, "site/machines", noArguments{})
	return l.Machines, err
}

func (s site) Machine(ctx context.Context, ref homeward.Ref) (homeward.SiteMachine, error) {
	return call[homeward.SiteMachine](ctx, s.at, "site/machine", refRequest{ref})
}

func (s site) Facts(ctx context.Context) ([]homeward.Fact, error) {
	l, err := call[factList](ctx, s.at, "site/facts", noArguments{})
	return l.Facts, err
}

func (s site) Create(ctx context.Context, key string, m homeward.Machine, disks []homeward.Attachment) (homeward.Operation, error) {
	return call[homeward.Operation](ctx, s.at, "site/create", createRequest{key, m, disks})
}

func (s site) PowerOn(ctx context.Context, key string, ref homeward.Ref) (homeward.Operation, error) {
	return call[homeward.Operation](ctx, s.at, "site/power-on", keyedRequest{key, ref})
}

func (s site) PowerOff(ctx context.Context, key string, ref homeward.Ref, how homeward.Stop) (homeward.Operation, error) {
	return call[homeward.Operation](ctx, s.at, "site/power-off", powerOffRequest{key, ref, how})
}

func (s site) Delete(ctx context.Context, key string, ref homeward.Ref) (homeward.Operation, error) {
	return call[homeward.Operation](ctx, s.at, "site/delete", keyedRequest{key, ref})
}

func (s site) Operation(ctx context.Context, id string) (homeward.Operation, error) {
	return call[homeward.Operation](ctx, s.at, "site/operation", operationRequest{id})
}

func (s site) CreateDisk(ctx context.Context, key string, d homeward.Disk, where string) (homeward.Operation, error) {
	return call[homeward.Operation](ctx, s.at, "site/create-disk", createDiskRequest{key, d, where})
}

func (s site) DeleteDisk(ctx context.Context, key string, ref homeward.Ref) (homeward.Operation, error) {
	return call[homeward.Operation](ctx, s.at, "site/delete-disk", keyedRequest{key, ref})
}

func (s site) Snapshot(ctx context.Context, key string, ref homeward.Ref, name string) (homeward.Operation, error) {
	return call[homeward.Operation](ctx, s.at, "site/snapshot", snapshotRequest{key, ref, name})
}

func (s site) Attach(ctx context.Context, key string, machine homeward.Ref, a homeward.Attachment) (homeward.Operation, error) {
	return call[homeward.Operation](ctx, s.at, "site/attach", attachRequest{key, machine, a})
}

func (s site) Detach(ctx context.Context, key string, machine homeward.Ref, disk homeward.DiskID) (homeward.Operation, error) {
	return call[homeward.Operation](ctx, s.at, "site/detach", detachRequest{key, machine, disk})
}

func (s site) Options(ctx context.Context, direction homeward.Direction, m homeward.Machine) ([]homeward.Field, error) {
	l, err := call[fieldList](ctx, s.at, "site/options", optionsRequest{direction, m})
	return l.Fields, err
}

func (s site) Guard(ctx context.Context, g homeward.Guard) error {
	_, err := call[homeward.Done](ctx, s.at, "site/guard", guardRequest{g})
	return err
}

func (s site) GuardsOf(ctx context.Context, ref homeward.Ref) ([]homeward.Guard, error) {
	l, err := call[guardList](ctx, s.at, "site/guards-of", refRequest{ref})
	return l.Guards, err
}

func (s site) Unguard(ctx context.Context, g homeward.Guard) error {
	_, err := call[homeward.Done](ctx, s.at, "site/unguard", guardRequest{g})
	return err
}
