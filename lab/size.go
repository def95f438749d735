package lab

import (
	"fmt"

	"github.com/homeward-dr/homeward"
)

// ParseSize reads "256MiB", "1GiB" or a number of bytes.
func ParseSize(s string) (int64, error) {
	var n int64
	var unit string
	// Without a unit Sscanf fails at the end of s, having read the number.
	if read, _ := fmt.Sscanf(s, "%d%s", &n, &unit); read == 0 {
		return 0, homeward.Errorf("read size", homeward.Invalid, s, "give a number with KiB, MiB or GiB", "not a size")
	}
	shift, known := map[string]uint{"": 0, "B": 0, "KiB": 10, "K": 10, "MiB": 20, "M": 20, "GiB": 30, "G": 30, "TiB": 40, "T": 40}[unit]
	if !known || n < 0 || n > 1<<62>>shift {
		return 0, homeward.Errorf("read size", homeward.Invalid, s, "give a number with KiB, MiB or GiB", "not a size")
	}
	return n << shift, nil
}

// Size is a number of bytes for people.
func Size(n int64) string {
	if n < 0 {
		return "-" + Size(-n)
	}
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.0f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}
