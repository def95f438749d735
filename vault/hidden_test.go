package vault

import (
	"strings"
	"testing"

	"github.com/homeward-dr/homeward"
)

func TestWithoutSecrets(t *testing.T) {
	for doc, want := range map[string]string{
		``:                                      ``,
		`{"b":1,"a":{"command":["/bin/true"]}}`: `{"b":1,"a":{"command":["/bin/true"]}}`, // as it was
		`{"probe":{"command":["/bin/mysql","-phunter2"]}}`:                     `{"probe":{"command":["/bin/mysql","[hidden]"]}}`,
		`{"settings":{"freeze":{"freeze_command":["/f","hunter2","x"]}}}`:      `{"settings":{"freeze":{"freeze_command":["/f","[hidden]"]}}}`,
		`[{"input":{"probe":{"http":"https://u:hunter2@h:1/x?key=hunter2"}}}]`: `[{"input":{"probe":{"http":"https://hidden@h:1/x?hidden"}}}]`,
		`{"probe":{"http":"https://h:1/x"}}`:                                   `{"probe":{"http":"https://h:1/x"}}`,
		`{"probe":{"http":"https://h:1/%zz?hunter2"}}`:                         `{"probe":{"http":"[hidden]"}}`,
		`hunter2`: `"[hidden]"`,
	} {
		if got := string(WithoutSecrets([]byte(doc))); got != want {
			t.Errorf("%s: %s, want %s", doc, got, want)
		}
	}
	p := Policy{Settings: homeward.Policy{Freeze: homeward.Hook{FreezeCommand: []string{"/f", "hunter2"}, ThawCommand: []string{"/t"}}}}
	if seen := p.WithoutSecrets().Settings.Freeze; strings.Join(seen.FreezeCommand, " ") != "/f [hidden]" || strings.Join(seen.ThawCommand, " ") != "/t" || p.Settings.Freeze.FreezeCommand[1] != "hunter2" {
		t.Errorf("seen %+v, is %+v", seen, p.Settings.Freeze)
	}
}
