package role

import (
	"context"

	"github.com/homeward-dr/homeward"
)

type fakeMember struct{ *recorder }

func (f fakeMember) Health(ctx context.Context, r homeward.HealthRequest) (homeward.HealthReport, error) {
	return record[homeward.HealthReport](ctx, f.recorder, "Health", r)
}

func (f fakeMember) Probe(ctx context.Context, r homeward.ProbeRequest) (homeward.ProbeReport, error) {
	return record[homeward.ProbeReport](ctx, f.recorder, "Probe", r)
}

type fakeSite struct{ *recorder }

func (f fakeSite) Try(ctx context.Context, r homeward.TryRequest) (homeward.TryReport, error) {
	return record[homeward.TryReport](ctx, f.recorder, "Try", r)
}

func (f fakeSite) Capabilities(ctx context.Context) (homeward.Capabilities, error) {
	return record[homeward.Capabilities](ctx, f.recorder, "Capabilities")
}

func (f fakeSite) Machines(ctx context.Context) ([]homeward.SiteMachine, error) {
	return record[[]homeward.SiteMachine](ctx, f.recorder, "Machines")
}

func (f fakeSite) Machine(ctx context.Context, ref homeward.Ref) (homeward.SiteMachine, error) {
	return record[homeward.SiteMachine](ctx, f.recorder, "Machine", ref)
}

func (f fakeSite) Facts(ctx context.Context) ([]homeward.Fact, error) {
	return record[[]homeward.Fact](ctx, f.recorder, "Facts")
}

func (f fakeSite) Create(ctx context.Context, key string, m homeward.Machine, disks []homeward.Attachment) (homeward.Operation, error) {
	return record[homeward.Operation](ctx, f.recorder, "Create", key, m, disks)
}

func (f fakeSite) PowerOn(ctx context.Context, key string, ref homeward.Ref) (homeward.Operation, error) {
	return record[homeward.Operation](ctx, f.recorder, "PowerOn", key, ref)
}

func (f fakeSite) PowerOff(ctx context.Context, key string, ref homeward.Ref, how homeward.Stop) (homeward.Operation, error) {
	return record[homeward.Operation](ctx, f.recorder, "PowerOff", key, ref, how)
}

func (f fakeSite) Delete(ctx context.Context, key string, ref homeward.Ref) (homeward.Operation, error) {
	return record[homeward.Operation](ctx, f.recorder, "Delete", key, ref)
}

func (f fakeSite) Operation(ctx context.Context, id string) (homeward.Operation, error) {
	return record[homeward.Operation](ctx, f.recorder, "Operation", id)
}

func (f fakeSite) CreateDisk(ctx context.Context, key string, d homeward.Disk, where string) (homeward.Operation, error) {
	return record[homeward.Operation](ctx, f.recorder, "CreateDisk", key, d, where)
}

func (f fakeSite) DeleteDisk(ctx context.Context, key string, ref homeward.Ref) (homeward.Operation, error) {
	return record[homeward.Operation](ctx, f.recorder, "DeleteDisk", key, ref)
}

func (f fakeSite) Snapshot(ctx context.Context, key string, ref homeward.Ref, name string) (homeward.Operation, error) {
	return record[homeward.Operation](ctx, f.recorder, "Snapshot", key, ref, name)
}

func (f fakeSite) Attach(ctx context.Context, key string, machine homeward.Ref, a homeward.Attachment) (homeward.Operation, error) {
	return record[homeward.Operation](ctx, f.recorder, "Attach", key, machine, a)
}

func (f fakeSite) Detach(ctx context.Context, key string, machine homeward.Ref, disk homeward.DiskID) (homeward.Operation, error) {
	return record[homeward.Operation](ctx, f.recorder, "Detach", key, machine, disk)
}

func (f fakeSite) Options(ctx context.Context, d homeward.Direction, m homeward.Machine) ([]homeward.Field, error) {
	return record[[]homeward.Field](ctx, f.recorder, "Options", d, m)
}

func (f fakeSite) GuardsOf(ctx context.Context, ref homeward.Ref) ([]homeward.Guard, error) {
	return record[[]homeward.Guard](ctx, f.recorder, "GuardsOf", ref)
}

func (f fakeSite) Guard(ctx context.Context, g homeward.Guard) error {
	_, err := record[homeward.Done](ctx, f.recorder, "Guard", g)
	return err
}

func (f fakeSite) Unguard(ctx context.Context, g homeward.Guard) error {
	_, err := record[homeward.Done](ctx, f.recorder, "Unguard", g)
	return err
}
