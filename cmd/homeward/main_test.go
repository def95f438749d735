package main

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// asCommand in the environment makes this test binary the homeward command: the
// tests run it as a shell would.
const asCommand = "HOMEWARD_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}
