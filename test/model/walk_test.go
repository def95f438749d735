package model

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/homeward-dr/homeward/durable/powerloss"
	"github.com/homeward-dr/homeward/recovery"
	"github.com/homeward-dr/homeward/test/world"
)

// walkSteps is how many steps one walk makes.
const walkSteps = 24

// TestModelWalks takes machines through random lives. HOMEWARD_CASES says how many;
// HOMEWARD_SEED replays the choices of one walk (threads still race as they like).
func TestModelWalks(t *testing.T) {
	if s := os.Getenv("HOMEWARD_SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("HOMEWARD_SEED=%q is no number: %v", s, err)
		}
		walk(t, seed)
		return
	}
	seeds := powerloss.Rand(t)
	for n := range powerloss.Cases(6) {
		seed := seeds.Uint64()
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Logf("replay with HOMEWARD_SEED=%d", seed)
			walk(t, seed)
		})
	}
}

// walk makes one random walk.
func walk(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	k := newWalker(t, rng, worldOf(rng))
	for range walkSteps {
		if k.rng.IntN(3) == 0 {
			k.disturb()
		}
		k.step()
		k.resync()
		k.check()
	}
	k.w.Net.SetWeather(world.Weather{})
	for k.it.State != recovery.Protected { // end where both sides are equal
		k.onward()
		k.check()
	}
	k.prove()
}

// worldOf chooses what a world is like.
func worldOf(rng *rand.Rand) world.Options {
	o := world.Options{HTTP: rng.IntN(4) == 0}
	switch rng.IntN(4) {
	case 0: // two machines, to be cut together
		o.Machines = [][]int64{{512 << 10, 256<<10 + world.SectorSize}, {384 << 10}}
	case 1: // several extents of the activity log
		o.Machines = [][]int64{{17<<20 + 512}}
	}
	if rng.IntN(3) == 0 {
		o.Precopy = 64 << 10
	}
	return o
}

// step does something that is possible now.
func (k *walker) step() {
	if k.rng.IntN(3) == 0 {
		k.write()
		return
	}
	switch k.it.State {
	case recovery.Protected:
		k.choose(k.cut, k.cut, k.cutGroup, k.failOver, k.failOver, k.failBack, k.failBack, k.prove)
	case recovery.FailedOver:
		k.choose(k.changePoint, k.cancel, k.commit, k.commit)
	case recovery.Committed:
		k.choose(k.write, k.reprotect, k.reprotect, k.reverse, k.reverse)
	case recovery.Synchronizing:
		k.choose(k.giveUp, k.giveUp, k.awaitReverse)
	}
}

// onward goes towards Protected.
func (k *walker) onward() {
	switch k.it.State {
	case recovery.FailedOver:
		k.choose(k.commit, k.cancel)
	case recovery.Committed:
		k.reprotect()
	case recovery.Synchronizing:
		k.awaitReverse()
	}
}

func (k *walker) choose(actions ...func()) { actions[k.rng.IntN(len(actions))]() }
