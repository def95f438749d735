// Package recovery measures what is lost and how long it takes on the worst day: how
// old the newest recovery point is while a machine writes, and how long it takes until
// a machine runs at another site, or until a point of the past can be read.
//
// Every role is a process of its own; the machine is the built-in guest, which checks
// what it finds on its disks and says so.
package recovery

import (
	"context"
	"fmt"

	"github.com/homeward-dr/homeward/bench/measure"
)

// Chapter is all of it.
func Chapter() measure.Chapter {
	return measure.Chapter{Name: "recovery", Quick: true, What: "RPO under load, RTO, time to read a point",
		Needs:   []measure.Requirement{{Program: "fio", Package: "fio"}},
		Measure: chapter}
}

const ours = "Homeward"

func chapter(ctx context.Context, b *measure.Bench) (measure.Figure, error) {
	f := measure.Figure{Title: "Recovery: what is lost, and how long it takes", What: what}
	age, err := ages(ctx, b)
	f.Series = age
	if err == nil {
		var times []measure.Series
		times, err = recoveries(ctx, b)
		f.Series = append(f.Series, times...)
	}
	present(&f)
	return f, err
}

const what = `Roles are processes of their own on one machine; both sites' disks are on the same
file system. *RPO* is the age of the newest applied point, asked for every 10 ms while fio
writes 4 KiB at random places through the agent's NBD export at the rate named, in blocks
that do not compress: what would be lost if the site burned at that instant. After each
run the disks of both sites are compared by digest (` + "`Prove`" + `). *RTO* runs from the call
that fails over, after all processes of the site were killed, to the call's answer (*own
work*: the view is served and the machine is being booted) and to the first record that
the guest wrote after it had checked its disks (*machine runs*). *History* is made of one cut
each 50 ms, none thinned; "1 h" is 3,600 points, as many as an hour has at one a second.`

func label(name, format string, args ...any) measure.Label {
	return measure.Label{Name: name, Value: fmt.Sprintf(format, args...)}
}
