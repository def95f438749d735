package vault

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/homeward-dr/homeward"
)

var inputs = map[Action][]string{
	Enable:            {"target_site", "policy", "agent", "master_target", "process_server", "datastore", "retention_volume", "overrides"},
	TestFailover:      {"point", "network", "lifetime", "probe", "overrides"},
	CleanUpTest:       {},
	Failover:          {"point", "shutdown", "probe", "agent", "overrides"},
	ChangePoint:       {"point", "probe", "overrides"},
	Commit:            {"overrides"},
	Reprotect:         {"direction", "location", "master_target", "process_server", "datastore", "retention_volume", "overrides"},
	Resync:            {"overrides"},
	FailbackAction:    {"point", "force", "probe", "agent", "overrides"},
	CancelFailover:    {"probe", "overrides"},
	Disable:           {"force", "discard_branch", "overrides"},
	CompleteMigration: {"force", "overrides"},
	Pause:             {},
	Resume:            {},
	Adopt:             {"force"},
}

// Inputs are the fields of Input that belong to an action, by their JSON names.
func (a Action) Inputs() []string { return slices.Clone(inputs[a]) }

// Access is what an action takes.
func (a Action) Access() Access {
	if a == Enable || a == Disable {
		return Contributor
	}
	return Operator
}

// Validate refuses an action that does not exist, and names the first field of the
// input that does not belong to the action.
func (r ActionRequest) Validate() error {
	const op = "check request"
	if err := r.Item.Validate(); err != nil {
		return err
	}
	belong, known := inputs[r.Action]
	if !known {
		return homeward.Errorf(op, homeward.Invalid, "action", fmt.Sprintf("give one of %v", Actions()), "no such action: %q", string(r.Action))
	}
	data, err := json.Marshal(r.Input)
	if err != nil {
		return homeward.Errorf(op, homeward.Invalid, "input", "give plain values", "%w", err)
	}
	var given map[string]json.RawMessage
	if err := json.Unmarshal(data, &given); err != nil {
		return homeward.Errorf(op, homeward.Invalid, "input", "give plain values", "%w", err)
	}
	var foreign []string
	for name := range given {
		if !slices.Contains(belong, name) {
			foreign = append(foreign, name)
		}
	}
	if r.Machine != "" && r.Action != Enable {
		foreign = append(foreign, "machine")
	}
	if len(foreign) == 0 {
		return nil
	}
	slices.Sort(foreign)
	takes := "it takes no input"
	if len(belong) > 0 {
		takes = "it takes " + strings.Join(belong, ", ")
	}
	return homeward.Errorf(op, homeward.Invalid, foreign[0], "leave it out: "+takes, "does not belong to %s", r.Action)
}
