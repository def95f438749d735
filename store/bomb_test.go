package store

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/homeward-dr/homeward"
)

// A few bytes of a backup can be a line without end, which is never held whole.
func TestRestore_LinesAreBounded(t *testing.T) {
	for name, begins := range map[string]string{
		"header": `{"store":"`,
		"row":    `{"schema":1}` + "\n" + `{"table":"sites","columns":["key"]}` + "\n" + `["`,
	} {
		backup := sealed(t, begins+strings.Repeat("x", 2*maxLine)+`"]`)
		err := Restore(t.Context(), config("sqlite:"+filepath.Join(t.TempDir(), "v.db")), bytes.NewReader(backup))
		if homeward.KindOf(err) != homeward.Corrupt || !strings.Contains(err.Error(), "longer than") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
