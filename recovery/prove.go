package recovery

import (
	"context"
	"encoding/hex"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/block"
)

// Prove digests both sides at one frozen point and compares them. The machine
// keeps running: the running side's agent freezes a cut for as long as it takes.
func (it *Item) Prove(ctx context.Context) (proof homeward.Proof, err error) {
	if err := it.require("prove", Protected); err != nil {
		return proof, err
	}
	if it.Leaving != nil {
		return proof, homeward.Errorf("prove", homeward.Conflict, "item "+string(it.ID()), "let it come there first", "its replica is on its way to master target %s", it.Leaving.To)
	}
	err = it.step(ctx, "prove both sides equal", func(tell func(homeward.Progress)) (err error) {
		id := homeward.ItemRequest{Item: it.ID()}
		frozen, err := it.Running.Agent.Freeze(ctx, id)
		if err != nil {
			return err
		}
		defer func() {
			if _, e := it.Running.Agent.Unfreeze(context.WithoutCancel(ctx), id); err == nil {
				err = e
			}
		}()
		proof, err = it.prove(ctx, frozen.Position, tell)
		proof.Frozen = "frozen cut"
		return err
	})
	return proof, err
}

func (it *Item) prove(ctx context.Context, at homeward.Position, tell func(homeward.Progress)) (homeward.Proof, error) {
	p := homeward.Proof{Item: it.ID(), Point: at, At: time.Now().UTC(), Source: it.Running.Name, Target: it.Standby.Name, Equal: true}
	read := pace{began: time.Now(), tell: tell}
	for _, d := range it.Machine.Disks {
		read.total += 2 * d.Size
	}
	for _, d := range it.Machine.Disks {
		req := homeward.DigestRequest{Item: it.ID(), Disk: d.ID, At: at}
		a := &hasher{role: it.Running.Agent, req: req, size: d.Size}
		b := &hasher{role: it.Standby.Target, req: req, size: d.Size}
		dp, err := proveDisk(ctx, d, a, b, &read)
		if err != nil {
			return p, err
		}
		p.Disks = append(p.Disks, dp)
		p.Equal = p.Equal && dp.Differ == 0 && dp.Source == dp.Target
		p.ReadBytes += a.read.Load() + b.read.Load()
	}
	return p, nil
}

func proveDisk(ctx context.Context, d homeward.Disk, a, b *hasher, read *pace) (homeward.DiskProof, error) {
	dp := homeward.DiskProof{Disk: d.ID, Size: d.Size}
	if err := readAhead(ctx, a, b, read); err != nil {
		return dp, err
	}
	differ, _, err := block.Compare(ctx, a, b, nil)
	if err != nil {
		return dp, err
	}
	dp.Differ = differ.Count()
	for _, side := range []struct {
		h    *hasher
		root *string
	}{{a, &dp.Source}, {b, &dp.Target}} {
		top, err := side.h.Hashes(ctx, block.RootLevel(d.Size), 0, 1)
		if err != nil {
			return dp, err
		}
		*side.root = hex.EncodeToString(top[0][:])
	}
	return dp, nil
}
