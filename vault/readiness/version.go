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

// system splits "debian 12.4" into its name and its numbers.
func system(version string) (name string, number []int, ok bool) {
	words := strings.Fields(strings.ToLower(version))
	if len(words) == 0 {
		return "", nil, false
	}
	number, ok = numbers(words[len(words)-1])
	return strings.Join(words[:len(words)-1], " "), number, ok
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
