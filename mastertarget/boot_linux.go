package mastertarget

import (
	"os"
	"strings"
)

// bootID is the kernel's name of its present boot; empty if it tells none.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
