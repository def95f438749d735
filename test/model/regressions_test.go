package model

import (
	"testing"

	"github.com/homeward-dr/homeward/durable/powerloss"
	"github.com/homeward-dr/homeward/test/world"
)

// TestReverseFirstPoint: the first point of a reverse leg holds nothing of what
// the old side wrote after the point that was failed over to.
func TestReverseFirstPoint(t *testing.T) {
	for range 8 {
		t.Run("", func(t *testing.T) {
			k := newWalker(t, powerloss.Rand(t), world.Options{Precopy: 64 << 10})
			k.write()
			k.failOver()
			k.write()
			k.commit()
			k.weather()
			k.reprotect()
			k.check()
		})
	}
}
