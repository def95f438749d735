package readiness

import (
	"strconv"
	"strings"
	"time"
)

// versionFit is how a node's version goes with the vault's.
type versionFit int

const (
	versionUnlike versionFit = iota // cannot be compared
	versionSame
	versionBefore // one minor version behind: works
	versionOld
	versionNew
)

// compareVersions compares major and minor: patches always go together.
func compareVersions(node, vault string) versionFit {
	if node == vault {
		return versionSame
	}
	n, okN := numbers(node)
	v, okV := numbers(vault)
	switch {
	case !okN || !okV || len(n) < 2 || len(v) < 2:
		return versionUnlike
	case n[0] == v[0] && n[1] == v[1]:
		return versionSame
	case n[0] > v[0] || n[0] == v[0] && n[1] > v[1]:
		return versionNew
	case n[0] == v[0] && n[1]+1 == v[1]:
		return versionBefore
	}
	return versionOld
}

// numbers reads "v1.2.3-rc1" as 1, 2, 3.
func numbers(version string) ([]int, bool) {
	version, _, _ = strings.Cut(strings.TrimPrefix(version, "v"), "-")
	var out []int
	for _, part := range strings.Split(version, ".") {
		n, err := strconv.Atoi(part)
		if err != nil || n < 0 {
			return nil, false
		}
		out = append(out, n)
	}
	return out, true
}

// system splits "Debian GNU/Linux 12 (bookworm)" into its name and its numbers: "debian"
// and 12. What follows the number, and the word Linux, are said by some and not by others.
func system(version string) (name string, number []int, ok bool) {
	var words []string
	for _, word := range strings.Fields(strings.ToLower(version)) {
		if number, ok = numbers(word); ok {
			return strings.Join(words, " "), number, true
		}
		if word != "linux" && word != "gnu/linux" {
			words = append(words, word)
		}
	}
	return "", nil, false
}

// short prints a duration without needless digits.
func short(d time.Duration) string {
	switch {
	case d.Abs() >= time.Minute:
		s := d.Round(time.Second).String()
		s = strings.TrimSuffix(s, "m0s")
		if s != d.Round(time.Second).String() {
			s += "m"
		}
		return strings.Replace(s, "h0m", "h", 1)
	case d.Abs() >= time.Second:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(10 * time.Microsecond).String()
}
