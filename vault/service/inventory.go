package service

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/vault"
)

// What the inventory finds about protected machines: codes of findings and alerts.
const (
	machineGone  = "machine-gone"
	machineMoved = "machine-moved"
	diskAdded    = "disk-added"
	diskRemoved  = "disk-removed"
	diskGrown    = "disk-grown"
	diskShrunk   = "disk-shrunk"
	diskMoved    = "disk-moved"
)

// protectedMachine is what the vault knows of a machine that an item protects.
type protectedMachine struct {
	item  homeward.ItemID
	disks []homeward.Disk // that are replicated
	refs  []string        // what backs them at this site, in the same order
}

// survey is a site's inventory held against what was known of it.
type survey struct {
	put       []vault.Machine   // new ones and changed ones
	moved     map[string]string // ids that machines were known by → theirs now
	forgotten []string          // not protected, and gone for long
}

// rememberGone is how long a machine that is not protected is listed as gone.
const rememberGone = 24 * time.Hour

// reconcile holds the whole inventory of a site against the machines known there.
// It is pure. It is asked only when the site has answered: a site that cannot be
// asked changes nothing (see unseen).
func reconcile(site string, known []vault.Machine, seen []homeward.SiteMachine, items map[string]protectedMachine, at time.Time) survey {
	s := survey{moved: map[string]string{}}
	old := map[string]vault.Machine{}
	for _, m := range known {
		old[m.ID] = m
	}
	there := map[string]bool{}
	for _, m := range seen {
		there[machineID(site, m.Ref)] = true
	}
	for _, m := range seen {
		id := machineID(site, m.Ref)
		before, was := old[id]
		var findings []vault.Finding
		if !was {
			if before, was = movedFrom(known, there, m.Ref); was {
				s.moved[before.ID] = id
				findings = append(findings, finding(machineMoved, id, vault.Warning, at,
					fmt.Sprintf("the machine was %s and is %s now, under the same UUID", before.ID, id),
					"nothing has to be done: its item follows it"))
			}
		}
		next := vault.Machine{Meta: before.Meta, ID: id, Site: site, Found: m, Presence: vault.Present, Seen: at}
		key := id
		if was && before.ID != id {
			key = before.ID
			next.Meta = vault.Meta{}
		}
		if p, protected := items[key]; protected {
			next.Item = p.item
			next.Findings = append(findings, compareDisks(id, m, p, at)...)
		}
		if !was || before.ID != id || changed(before, next) {
			s.put = append(s.put, next)
		}
	}
	for _, m := range known {
		_, protected := items[m.ID]
		switch {
		case there[m.ID] || s.moved[m.ID] != "":
			continue
		case m.Presence == vault.Gone:
			if !protected && at.Sub(m.Seen) > rememberGone {
				s.forgotten = append(s.forgotten, m.ID)
			}
			continue
		}
		m.Presence = vault.Gone
		if p, protected := items[m.ID]; protected {
			m.Item = p.item
			m.Findings = []vault.Finding{finding(machineGone, m.ID, vault.Warning, at,
				fmt.Sprintf("site %s does not list the machine any more; it was last seen %s", site, m.Seen.UTC().Format(time.RFC3339)),
				"if it was deleted, its item can still be failed over, and reprotected to an alternate location (R36)")}
		}
		s.put = append(s.put, m)
	}
	return s
}

func machineID(site string, ref homeward.Ref) string { return site + "/" + ref.Native }

// movedFrom finds the machine of the same UUID that is not listed any more.
func movedFrom(known []vault.Machine, there map[string]bool, ref homeward.Ref) (vault.Machine, bool) {
	if ref.UUID == "" {
		return vault.Machine{}, false
	}
	for _, m := range known {
		if m.Found.Ref.UUID == ref.UUID && !there[m.ID] {
			return m, true
		}
	}
	return vault.Machine{}, false
}

// changed reports whether anything but the time of seeing differs.
func changed(a, b vault.Machine) bool {
	return a.Presence != b.Presence || a.Item != b.Item || a.Found.Power != b.Found.Power ||
		!sameMachine(a.Found, b.Found) || !slices.EqualFunc(a.Findings, b.Findings, func(x, y vault.Finding) bool {
		return x.Rule == y.Rule && x.Text == y.Text
	})
}

func sameMachine(a, b homeward.SiteMachine) bool {
	return a.Ref == b.Ref && a.Console == b.Console && slices.Equal(a.Disks, b.Disks) && len(a.Guards) == len(b.Guards) &&
		a.Machine.Name == b.Machine.Name && a.Machine.CPUs == b.Machine.CPUs && a.Machine.MemoryMiB == b.Machine.MemoryMiB &&
		sameCount(a.Snapshots, b.Snapshots) && a.Machine.OSFamily == b.Machine.OSFamily && a.Machine.OSVersion == b.Machine.OSVersion &&
		slices.Equal(a.Machine.Disks, b.Machine.Disks) && slices.Equal(a.Machine.NICs, b.Machine.NICs)
}

// sameCount reports whether both are unknown, or both the same number.
func sameCount(a, b *int) bool { return a == b || a != nil && b != nil && *a == *b }

// compareDisks tells in what a machine is not what was protected.
func compareDisks(id string, m homeward.SiteMachine, p protectedMachine, at time.Time) (findings []vault.Finding) {
	add := func(code, text, remedy string) {
		findings = append(findings, finding(code, id, vault.Warning, at, text, remedy))
	}
	now := map[homeward.DiskID]homeward.Disk{}
	for _, d := range m.Machine.Disks {
		now[d.ID] = d
	}
	backed := map[homeward.DiskID]string{}
	for _, a := range m.Disks {
		backed[a.Disk] = a.Ref
		if !a.Temporary && !slices.ContainsFunc(p.disks, func(d homeward.Disk) bool { return d.ID == a.Disk }) {
			add(diskAdded, fmt.Sprintf("disk %s was added and is not replicated", a.Disk), "disable the item and enable it again to take the disk along, or mark it temporary")
		}
	}
	for i, d := range p.disks {
		ref, attached := backed[d.ID]
		is, listed := now[d.ID]
		switch {
		case !attached:
			add(diskRemoved, fmt.Sprintf("disk %s is replicated and is not attached any more", d.ID), "attach it again, or disable the item and enable it again")
			continue
		case listed && is.Size > d.Size:
			add(diskGrown, fmt.Sprintf("disk %s has grown from %d to %d bytes; what lies beyond is not replicated", d.ID, d.Size, is.Size), "disable the item and enable it again")
		case listed && is.Size < d.Size:
			add(diskShrunk, fmt.Sprintf("disk %s has shrunk from %d to %d bytes", d.ID, d.Size, is.Size), "disable the item and enable it again")
		}
		if i < len(p.refs) && ownRef(ref) && ownRef(p.refs[i]) && ref != p.refs[i] {
			add(diskMoved, fmt.Sprintf("disk %s lay at %s and lies at %s now", d.ID, p.refs[i], ref), "move it back before a failback, or reprotect to an alternate location (R81)")
		}
	}
	return findings
}

// ownRef reports whether a reference is the disk's own place, and not an export
// that an agent captures it at.
func ownRef(ref string) bool { return ref != "" && !strings.HasPrefix(ref, "nbd") }

func finding(rule, subject string, v vault.Verdict, at time.Time, text, remedy string) vault.Finding {
	return vault.Finding{Rule: rule, Title: strings.ReplaceAll(rule, "-", " "), Verdict: v, Subject: subject, Text: text, Remedy: remedy, At: at}
}

// unseen is what becomes of a site's machines while it cannot be asked: nothing but
// that they are not seen.
func unseen(known []vault.Machine) (put []vault.Machine) {
	for _, m := range known {
		if m.Presence == vault.Present {
			m.Presence = vault.Unseen
			put = append(put, m)
		}
	}
	return put
}
