package main

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/homeward-dr/homeward/role"
)

type versionReport struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Protocol int    `json:"protocol"` // of role control
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func buildVersion() versionReport {
	v := versionReport{Version: "unknown", Protocol: role.Protocol, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	v.Version = info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			v.Revision = s.Value
		}
	}
	return v
}

func (c *command) version() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Print the version", Args: arguments(0),
		RunE: func(*cobra.Command, []string) error { return c.printVersion() }}
}

func (c *command) printVersion() error {
	v := buildVersion()
	return c.print(v, "homeward %s %s (role protocol %d, %s, %s)", v.Version, v.Revision, v.Protocol, v.Go, v.Platform)
}
