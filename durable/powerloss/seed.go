package powerloss

import (
	"flag"
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

// Cases is how many rounds a randomised test makes: HOMEWARD_CASES, or usual.
func Cases(usual int) int {
	if n, err := strconv.Atoi(os.Getenv("HOMEWARD_CASES")); err == nil && n > 0 {
		return n
	}
	return usual
}

// ReplayFromEnvironment lets HOMEWARD_SEED and HOMEWARD_CASES govern the property
// tests of package rapid too, which has flags for them. For TestMain.
func ReplayFromEnvironment() {
	for variable, name := range map[string]string{"HOMEWARD_SEED": "rapid.seed", "HOMEWARD_CASES": "rapid.checks"} {
		value := os.Getenv(variable)
		if value == "" || flag.Lookup(name) == nil {
			continue
		}
		if err := flag.Set(name, value); err != nil {
			panic(variable + ": " + err.Error())
		}
	}
}
