package agent

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain also is the agent process that tests kill: see child_test.go.
func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		runChild()
		return
	}
	goleak.VerifyTestMain(m)
}
