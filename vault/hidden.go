package vault

import (
	"encoding/json"
	"net/url"
	"strings"
)

// Hidden stands for what whoever only reads must not see: the arguments of commands,
// and what a URL says besides where it leads, which are where people put passwords.
const Hidden = "[hidden]"

// WithoutSecrets is a policy as whoever may not change it sees it.
func (p Policy) WithoutSecrets() Policy {
	p.Settings.Freeze.FreezeCommand = hideArguments(p.Settings.Freeze.FreezeCommand)
	p.Settings.Freeze.ThawCommand = hideArguments(p.Settings.Freeze.ThawCommand)
	return p
}

func hideArguments(command []string) []string {
	if len(command) < 2 {
		return command
	}
	return []string{command[0], Hidden}
}

// WithoutSecrets is a request or an input (JSON) as everybody may see it; one that says
// nothing secret stays as it is, byte by byte.
func WithoutSecrets(doc []byte) []byte {
	var v any
	if len(doc) == 0 {
		return doc
	}
	if json.Unmarshal(doc, &v) != nil {
		return []byte(`"` + Hidden + `"`)
	}
	if !hide(v) {
		return doc
	}
	out, err := json.Marshal(v)
	if err != nil { // what was just read can be written
		return []byte(`"` + Hidden + `"`)
	}
	return out
}

// hide takes secrets out of a document; it reports whether there were any.
func hide(v any) (found bool) {
	switch v := v.(type) {
	case map[string]any:
		for name, inner := range v {
			switch inner := inner.(type) {
			case []any:
				if (name == "command" || strings.HasSuffix(name, "_command")) && len(inner) > 1 {
					v[name], found = []any{inner[0], Hidden}, true
					continue
				}
			case string:
				if u := hideURL(inner); name == "http" && u != inner {
					v[name], found = u, true
				}
			}
			found = hide(inner) || found
		}
	case []any:
		for _, inner := range v {
			found = hide(inner) || found
		}
	}
	return found
}

// hideURL is a URL without user and query.
func hideURL(text string) string {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return Hidden
	case u.User == nil && u.RawQuery == "":
		return text
	}
	if u.User != nil {
		u.User = url.User("hidden")
	}
	if u.RawQuery != "" {
		u.RawQuery = "hidden"
	}
	return u.String()
}
