package block_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/homeward-dr/homeward/durable/powerloss"
)

func TestMain(m *testing.M) {
	if path := os.Getenv("BLOCK_TEST_HOLD"); path != "" {
		holdLock(path)
		os.Exit(0)
	}
	powerloss.ReplayFromEnvironment()
	goleak.VerifyTestMain(m)
}
