package mastertarget_test

import (
	"testing"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
	"github.com/homeward-dr/homeward/durable/powerloss"
	"github.com/homeward-dr/homeward/mastertarget"
	"github.com/homeward-dr/homeward/ship/shiptest"
)

// The suite that every sink passes.
func TestTarget_IsASink(t *testing.T) {
	shiptest.Run(t, func(t *testing.T, leg shiptest.Leg) shiptest.Subject {
		r := newRigWith(t, powerloss.Rand(t))
		r.machine, r.gen, r.disks = leg.Machine, leg.Generation, map[string]*powerloss.Disk{}
		req := homeward.ReplicaRequest{Machine: leg.Machine, Generation: leg.Generation, Base: leg.Base}
		for _, d := range leg.Machine.Disks {
			r.disks[string(d.ID)] = powerloss.NewDisk(d.Size)
			req.Disks = append(req.Disks, "mem:"+string(d.ID))
		}
		c := r.config()
		c.NBD, c.Patience = newExporter(), time.Second
		target := must(mastertarget.Open(ctx, c))(t)
		r.target = target
		must(target.Prepare(ctx, req))(t)
		return shiptest.Subject{
			Sink: target,
			Fence: func(g homeward.Generation) error {
				_, err := target.SetGeneration(ctx, homeward.GenerationRequest{Item: leg.Machine.Item, Generation: g})
				return err
			},
			Content: func() shiptest.Content {
				c := shiptest.Content{}
				for i, d := range leg.Machine.Disks {
					p := readAll(t, r.disks[string(d.ID)])
					for b := int64(0); b*block.Size < d.Size; b++ {
						c[shiptest.Block{Disk: i, Index: b}] = p[b*block.Size : min((b+1)*block.Size, d.Size)]
					}
				}
				return c
			},
		}
	})
}
