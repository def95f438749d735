package fleet

import (
	"context"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/pki"
	"github.com/homeward-dr/homeward/store"
	"github.com/homeward-dr/homeward/vault"
)

// Bounds of what is taken from one node: it may be in the wrong hands, and what it
// tells is kept, listed and shown.
const (
	maxVolumes = 256
	maxAlarms  = 32
	maxCodes   = 64 // of its alarms that are told apart, since the vault began
	maxWords   = 16 // of a list of words
	maxLists   = 64 // revocation lists
	maxText    = 1024
	maxName    = 256
	// maxItems bounds the generations that are kept of all nodes.
	maxItems = 100_000
	// maxOwn is how many items an agent is taken to have.
	maxOwn = 1000
	// maxGeneration leaves room above it: what the vault issues is higher.
	maxGeneration = 1 << 62
)

// otherAlarm stands for alarms whose code is none, or one too many.
const otherAlarm = "node-alarm"

// believe cuts a heartbeat to what the vault can bear; f.mu is held.
func (l *live) believe(r *homeward.HealthReport) {
	r.OSFamily, r.OSVersion, r.Disks = cut(r.OSFamily, maxName), cut(r.OSVersion, maxName), max(r.Disks, 0)
	r.Machine = cut(r.Machine, maxName)
	r.Volumes = slices.Clone(r.Volumes[:min(len(r.Volumes), maxVolumes)])
	for i := range r.Volumes {
		v := &r.Volumes[i]
		// A path that is cut is another path: it is not for use.
		v.Path, v.Device, v.FSType = cut(v.Path, maxText), cut(v.Device, maxText), cut(v.FSType, maxName)
		v.Uses, v.Unknown = words(v.Uses), words(v.Unknown)
	}
	r.Alarms = slices.Clone(r.Alarms[:min(len(r.Alarms), maxAlarms)])
	for i := range r.Alarms {
		a := &r.Alarms[i]
		a.Code, a.Text, a.Remedy = l.code(a.Code), cut(a.Text, maxText), cut(a.Remedy, maxText)
	}
}

// code is that of an alarm, which becomes part of the id of an alert.
func (l *live) code(code string) string {
	if homeward.ItemID(code).Validate() != nil {
		return otherAlarm
	}
	if !l.codes[code] && len(l.codes) >= maxCodes {
		return otherAlarm
	}
	if l.codes == nil {
		l.codes = map[string]bool{}
	}
	l.codes[code] = true
	return code
}

func words(all []string) []string {
	all = slices.Clone(all[:min(len(all), maxWords)])
	for i := range all {
		all[i] = cut(all[i], maxName)
	}
	return all
}

// cut is a text of at most n bytes.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return strings.Clone(s[:n])
}

// heed are the generations that a node may tell of: those of items that are associated
// with it. Else who broke into one could move anybody's item out of the vault's hands.
// Errors: those of the store.
func (f *Fleet) heed(ctx context.Context, n vault.Node, told map[homeward.ItemID]homeward.Generation) (map[homeward.ItemID]homeward.Generation, error) {
	heard := map[homeward.ItemID]homeward.Generation{}
	if len(told) == 0 {
		return heard, nil
	}
	restored, err := f.o.Store.Setting(ctx, store.SettingReadOnly)
	if err != nil {
		return nil, err
	}
	most := maxItems
	if n.Role == pki.Agent {
		most = maxOwn
	}
	asked := 0
	for item, g := range told {
		if asked == most {
			break
		}
		if item.Validate() != nil || g.Number > maxGeneration || g.Number <= f.MaxGeneration(item).Number {
			continue
		}
		asked++
		it, err := f.o.Store.Items.Get(ctx, string(item))
		if homeward.KindOf(err) == homeward.NotFound {
			continue // who makes one of this name asks the roles what they remember of it
		}
		if err != nil {
			return nil, err
		}
		if concerns(it, n, restored != "") {
			heard[item] = g
		}
	}
	return heard, nil
}

// concerns tells that an item is associated with a node. A vault that was restored, and
// has not been reconciled, may not know with which process server or master target: then
// those of the item's two sites are believed.
func concerns(it vault.Item, n vault.Node, restored bool) bool {
	for _, end := range []vault.End{it.Original, it.Recovery} {
		switch n.Role {
		case pki.Agent:
			if end.Agent == n.Name {
				return true
			}
		case pki.ProcessServer:
			if end.ProcessServer == n.Name || restored && end.Site == n.Site {
				return true
			}
		case pki.MasterTarget:
			if end.MasterTarget == n.Name || restored && end.Site == n.Site {
				return true
			}
		}
	}
	return false
}
