package powerloss

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

// Rand is a source of randomness for a test. It logs its seed, which the
// environment variable HOMEWARD_SEED replays.
func Rand(t testing.TB) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if s := os.Getenv("HOMEWARD_SEED"); s != "" {
		given, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("HOMEWARD_SEED=%q is no number: %v", s, err)
		}
		seed = given
	}
	t.Logf("replay with HOMEWARD_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, seed))
}
