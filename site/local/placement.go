package local

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/homeward-dr/homeward"
)

// Options describes what an operator chooses to put a machine here: the datastore
// (R40: a value is demanded, and ignored where the disks exist), and the network of
// a test failover, for which only isolated ones are eligible.
func (s *Site) Options(_ context.Context, _ homeward.Direction, m homeward.Machine) ([]homeward.Field, error) {
	need := int64(0)
	for _, d := range m.Disks {
		need += d.Size
	}
	field := homeward.Field{Name: "datastore", Label: "Datastore", Demand: true}
	for _, dir := range s.cfg.Datastores {
		o := homeward.Option{Value: dir, Label: dir, Eligible: true}
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil {
			o.Eligible, o.Why = false, "its free space is not known: "+err.Error()
		} else if free := int64(st.Bavail) * st.Bsize; free < need {
			o.Eligible, o.Why = false, fmt.Sprintf("%d bytes are free, the disks may need %d", free, need)
		}
		field.Options = append(field.Options, o)
	}
	return []homeward.Field{field, s.networks()}, nil
}

func (s *Site) networks() homeward.Field {
	field := homeward.Field{Name: "network", Label: "Network of a test failover"}
	for _, n := range s.cfg.Networks {
		o := homeward.Option{Value: n.Name, Label: n.Name, Eligible: n.Isolated}
		if !n.Isolated {
			o.Why = "it is production's: a test machine would answer under the machine's name"
		}
		field.Options = append(field.Options, o)
	}
	return field
}
