package main

import (
	"regexp"
	"strings"
)

// redacted stands for what was taken out.
const redacted = "[redacted]"

// redactor takes out of documents what could let somebody in: fields whose names
// say so, commands and machine firmware (which people put passwords into), keys,
// tokens and passwords in texts, and one secret that is known literally.
type redactor struct {
	literal string
}

// secretNames are parts of the names of fields that are taken out whole.
var secretNames = []string{"secret", "token", "password", "passwd", "passphrase", "credential", "private", "authorization", "api_key", "apikey", "nvram", "command"}

var secretTexts = []struct {
	find    *regexp.Regexp
	replace string
}{
	{regexp.MustCompile(`(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(-----END [A-Z0-9 ]*PRIVATE KEY-----|$)`), redacted},
	{regexp.MustCompile(`(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}`), "$1 " + redacted},
	{regexp.MustCompile(`(?i)([a-z0-9_-]*(?:password|passwd|passphrase|secret|token|api[_-]?key|pwd)["']?\s*[=:]\s*)("[^"]*"|'[^']*'|[^\s,;&"']+)`), "${1}" + redacted},
	{regexp.MustCompile(`://[^/\s:@]+:[^/\s@]+@`), "://" + redacted + "@"},
	{regexp.MustCompile(`\bhw1?\.[A-Za-z0-9_-]{1,64}\.[A-Za-z0-9_-]{40,}(\.[A-Za-z0-9_-]+)?`), redacted}, // Homeward's own tokens
	{regexp.MustCompile(`(?i)(--?(?:password|passwd|passphrase|secret|token)\s+)\S+`), "${1}" + redacted},
}

func (c redactor) value(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, inner := range v {
			if secretName(name) {
				v[name] = redacted
			} else {
				v[name] = c.value(inner)
			}
		}
	case []any:
		for i := range v {
			v[i] = c.value(v[i])
		}
	case string:
		return c.text(v)
	}
	return v
}

func secretName(name string) bool {
	name = strings.ToLower(name)
	for _, s := range secretNames {
		if strings.Contains(name, s) {
			return true
		}
	}
	return false
}

func (c redactor) text(s string) string {
	if c.literal != "" {
		s = strings.ReplaceAll(s, c.literal, redacted)
	}
	for _, t := range secretTexts {
		s = t.find.ReplaceAllString(s, t.replace)
	}
	return s
}
