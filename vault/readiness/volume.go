package readiness

import (
	"fmt"
	"slices"
	"strings"

	"github.com/homeward-dr/homeward"
)

// criterion is one of those for a retention volume (R104 to R108).
type criterion struct {
	rule, title, source string
	fields              []string                     // of homeward.Volume that must be known
	why                 func(homeward.Volume) string // it is not eligible; "" if it is
}

func criteria() []criterion {
	return []criterion{
		{"R104", "The retention volume serves nothing else", "001 L78; 002 L27; 003 L179", []string{"uses"}, func(v homeward.Volume) string {
			return usedAs(v, "replica", "system")
		}},
		{"R105", "The retention volume is not locked", "001 L80; 002 L27; 003 L180", []string{"read_only"}, func(v homeward.Volume) string {
			if v.ReadOnly {
				return "it is mounted, or locked, read-only"
			}
			return ""
		}},
		{"R106", "The retention volume is no cache or installation volume", "001 L82; 002 L28; 003 L181", []string{"uses"}, func(v homeward.Volume) string {
			return usedAs(v, "installation", "cache")
		}},
		{"R107", "The retention volume is not FAT", "001 L84; 002 L29; 003 L182", []string{"fs_type"}, func(v homeward.Volume) string {
			if t := strings.ToLower(v.FSType); t == "msdos" || strings.HasPrefix(t, "fat") || strings.HasPrefix(t, "vfat") {
				return "its file system is " + v.FSType
			}
			return ""
		}},
		{"R108", "The retention volume has capacity", "001 L86; 002 L30; 003 L183", []string{"size"}, func(v homeward.Volume) string {
			if v.Size <= 0 {
				return "its capacity is zero"
			}
			return ""
		}},
	}
}

func usedAs(v homeward.Volume, uses ...string) string {
	for _, u := range uses {
		if slices.Contains(v.Uses, u) {
			return "it is used as " + u
		}
	}
	return ""
}

// hidden is a field that the criterion needs and the volume does not tell.
func (c criterion) hidden(v homeward.Volume) string {
	for _, f := range c.fields {
		if slices.Contains(v.Unknown, f) {
			return f
		}
	}
	if slices.Contains(c.fields, "fs_type") && v.FSType == "" {
		return "fs_type"
	}
	return ""
}

// VolumeEligibility tells whether points can be kept on a volume; if not, the first
// rule that it breaks and why. What is not known of a volume makes it not eligible.
func VolumeEligibility(v homeward.Volume) (ok bool, rule, why string) {
	for _, c := range criteria() {
		if f := c.hidden(v); f != "" {
			return false, c.rule, fmt.Sprintf("%s: its %s is not known", c.rule, f)
		}
		if why := c.why(v); why != "" {
			return false, c.rule, c.rule + ": " + why
		}
	}
	return true, "", ""
}
