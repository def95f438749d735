package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/api"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/vault"
)

// connection says which vault, and who asks.
type connection struct {
	URL         string `json:"vault"`
	Token       string `json:"token,omitempty"`
	CA          string `json:"ca,omitempty"` // path
	Fingerprint string `json:"fingerprint,omitempty"`
}

// connector makes a vault of a connection; the second answer closes it.
type connector func(connection) (vault.Vault, func(), error)

func overHTTPS(to connection) (vault.Vault, func(), error) {
	c, err := api.NewClient(api.ClientOptions{URL: to.URL, Token: to.Token, CA: to.CA, Fingerprint: to.Fingerprint})
	if err != nil {
		return nil, nil, err
	}
	return c, c.Close, nil
}

// remote is what the commands share that speak to a vault.
type remote struct {
	*command
	given connection // by flags
	yes   bool
}

// operatorCommands are those that speak to a vault, and to nothing else.
func (c *command) operatorCommands() []*cobra.Command {
	r := &remote{command: c}
	all := []*cobra.Command{
		siteCommands(r), nodeCommands(r), machineCommands(r), itemCommands(r), pointCommands(r), policyCommands(r),
		jobCommands(r), alertCommands(r), readinessCommand(r), tokenCommands(r), auditCommands(r),
		statusCommand(r), reconcileCommand(r), bundleCommand(r), loginCommand(r),
	}
	for _, cmd := range all {
		f := cmd.PersistentFlags()
		f.StringVar(&r.given.URL, "vault", "", "`URL` of the vault: https://host:port or unix:///path (HOMEWARD_VAULT)")
		f.StringVar(&r.given.Token, "token", "", "API `token`; better in HOMEWARD_TOKEN or 'homeward login': others see flags")
		f.StringVar(&r.given.CA, "ca", "", "`path` of the vault's authority, ca.pem (HOMEWARD_CA)")
		f.StringVar(&r.given.Fingerprint, "fingerprint", "", "SHA-256 of the vault's certificate or authority, instead (HOMEWARD_FINGERPRINT)")
		f.BoolVarP(&r.yes, "yes", "y", false, "do not ask before something is destroyed or moved")
	}
	return append(all, c.logout())
}

// connection is what flags say, else the environment, else the profile. A token of
// the profile is only ever given to the profile's vault.
func (r *remote) connection() (connection, error) {
	to := connection{
		URL:         cmp.Or(r.given.URL, os.Getenv("HOMEWARD_VAULT")),
		Token:       cmp.Or(r.given.Token, os.Getenv("HOMEWARD_TOKEN")),
		CA:          cmp.Or(r.given.CA, os.Getenv("HOMEWARD_CA")),
		Fingerprint: cmp.Or(r.given.Fingerprint, os.Getenv("HOMEWARD_FINGERPRINT")),
	}
	p, err := readProfile()
	if err != nil {
		return to, err
	}
	if to.URL == "" || to.URL == p.URL {
		to = connection{URL: p.URL, Token: cmp.Or(to.Token, p.Token), CA: cmp.Or(to.CA, p.CA), Fingerprint: cmp.Or(to.Fingerprint, p.Fingerprint)}
	}
	if to.URL == "" {
		return to, homeward.Errorf("find vault", homeward.Invalid, "--vault", "give --vault, set HOMEWARD_VAULT, or keep both URL and token with 'homeward login'", "no vault is named")
	}
	return to, nil
}

// ask connects to the vault and does something with it.
func (r *remote) ask(ctx context.Context, do func(context.Context, vault.Vault) error) error {
	to, err := r.connection()
	if err != nil {
		return err
	}
	v, end, err := r.connect(to)
	if err != nil {
		return err
	}
	defer end()
	return do(ctx, v)
}

// verb is a command of n arguments that asks the vault.
func (r *remote) verb(use, short string, n int, do func(ctx context.Context, v vault.Vault, args []string) error) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: arguments(n), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			return r.ask(cmd.Context(), func(ctx context.Context, v vault.Vault) error { return do(ctx, v, args) })
		}}
}

// profilePath is where login keeps a connection.
func profilePath() (string, error) {
	if p := os.Getenv("HOMEWARD_PROFILE"); p != "" {
		return p, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", homeward.Errorf("find profile", homeward.Invalid, "profile", "set HOMEWARD_PROFILE to the path of a file", "%w", err)
	}
	return filepath.Join(dir, "homeward", "profile.json"), nil
}

// readProfile is empty when there is none.
func readProfile() (connection, error) {
	var p connection
	path, err := profilePath()
	if err != nil {
		return p, nil //nolint:nilerr // without a home there is no profile
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &p)
	}
	if err != nil {
		return p, homeward.Errorf("read profile", homeward.Invalid, path, "remove it with 'homeward logout' and log in again", "%w", err)
	}
	return p, nil
}

func loginCommand(r *remote) *cobra.Command {
	return &cobra.Command{Use: "login --vault URL", Short: "Keep the vault's URL and an API token for the commands that follow", Args: arguments(0),
		Long: `Keeps the vault's URL, an API token and how to know the vault in a profile, mode
0600: HOMEWARD_PROFILE, or homeward/profile.json in the user's configuration
directory. The token is asked for, or read from standard input.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			to := r.given
			if err := required("--vault", to.URL, "the URL of the vault"); err != nil {
				return err
			}
			if !strings.Contains(to.URL, "://") { // before a token is asked for in vain
				return homeward.Errorf("log in", homeward.Invalid, "--vault", "give https://host:port of the vault, or unix:///path of its socket", "%q", to.URL)
			}
			var err error
			if to.CA != "" {
				if to.CA, err = filepath.Abs(to.CA); err != nil {
					return durable.SystemError("log in", to.CA, err)
				}
			}
			if to.Token == "" && !strings.HasPrefix(to.URL, "unix:") {
				if to.Token, err = r.askSecret("API token: "); err != nil {
					return err
				}
			}
			v, end, err := r.connect(to)
			if err != nil {
				return err
			}
			defer end()
			status, err := v.Status(cmd.Context())
			if err != nil {
				return err
			}
			if err := writeProfile(to); err != nil {
				return err
			}
			return r.print(status, "logged in to %s (version %s)", to.URL, status.Version)
		}}
}

func writeProfile(to connection) error {
	path, err := profilePath()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return durable.SystemError("log in", filepath.Dir(path), err)
	}
	data, err := json.MarshalIndent(to, "", "  ")
	if err != nil {
		return homeward.Errorf("log in", homeward.Internal, path, "", "%w", err)
	}
	return durable.WriteFile(durable.OS(), path, append(data, '\n'), 0o600)
}

func (c *command) logout() *cobra.Command {
	return &cobra.Command{Use: "logout", Short: "Forget what 'homeward login' kept", Args: arguments(0),
		RunE: func(*cobra.Command, []string) error {
			path, err := profilePath()
			if err != nil {
				return err
			}
			if err := durable.Remove(durable.OS(), path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			return c.print(map[string]string{"removed": path}, "forgot the vault; its token stays valid until 'homeward token delete'")
		}}
}

// askSecret reads one line, unseen on a terminal.
func (c *command) askSecret(prompt string) (string, error) {
	const op = "read token"
	if !c.tty.in {
		line, err := readLine(c.in)
		if err == nil && line == "" {
			err = homeward.Errorf(op, homeward.Invalid, "standard input", "give the token's secret on one line", "it is empty")
		}
		return line, err
	}
	c.note("%s", prompt)
	secret, err := term.ReadPassword(int(c.in.Fd()))
	c.note("\n")
	if err != nil {
		return "", homeward.Errorf(op, homeward.IO, "terminal", "", "%w", err)
	}
	return strings.TrimSpace(string(secret)), nil
}

// completing bounds what a shell waits for when Tab is pressed.
const completing = 3 * time.Second
