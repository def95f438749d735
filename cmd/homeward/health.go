package main

import (
	"strings"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/mastertarget"
	"github.com/homeward-dr/homeward/member"
)

// itemsTeller is a role that knows items: an agent, a process server, a master target.
type itemsTeller interface {
	Generations() map[homeward.ItemID]homeward.Generation
	Alarms() []homeward.Alarm
}

// tellItems adds a role's items to a heartbeat.
func tellItems(of itemsTeller, req homeward.HealthRequest, r *homeward.HealthReport) {
	r.Alarms = append(r.Alarms, of.Alarms()...)
	if req.Generations {
		r.Generations = of.Generations()
	}
}

// tellVolumes adds what a master target could keep points on. A directory that was
// given with --retention, or that an item is on, counts as a volume of its own: who
// gave it says that nothing else is kept there. Without any it is the target's
// own, which is also its cache.
func tellVolumes(t *mastertarget.Target, dir string, retention []string, r *homeward.HealthReport) {
	disks := t.ReplicaDisks()
	r.Disks = len(disks)
	uses := []member.Use{{Path: dir, As: member.UseCache}}
	for _, ref := range disks {
		if path, is := strings.CutPrefix(ref, "file:"); is {
			uses = append(uses, member.Use{Path: strings.TrimPrefix(path, "//"), As: member.UseReplica})
		}
	}
	var declared []member.Declared
	for i, path := range retention {
		declared = append(declared, member.Declared{Path: path, Default: i == 0})
	}
	for _, path := range t.VolumesInUse() {
		if path != dir {
			declared = append(declared, member.Declared{Path: path})
		} else {
			uses = append(uses, member.Use{Path: path, As: member.UseRetention})
		}
	}
	if len(retention) == 0 {
		declared = append(declared, member.Declared{Path: dir, Default: true})
	}
	volumes, err := member.Volumes(declared, uses)
	if err != nil {
		r.Alarms = append(r.Alarms, homeward.Alarm{Code: "volumes-unknown", Text: err.Error(), Remedy: homeward.RemedyOf(err), Since: r.At})
	}
	r.Volumes = volumes
}
