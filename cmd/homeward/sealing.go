package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/homeward-dr/homeward"
	"github.com/homeward-dr/homeward/durable"
	"github.com/homeward-dr/homeward/pki"
)

// sealingHelp says where the key that seals an authority is looked for.
const sealingHelp = "`file` with the key that the authority's private key is encrypted with; the systemd credential " +
	pki.SealingCredential + " and " + pki.SealingVariable + " count more"

// openAuthority opens the vault's authority, whose private key is kept encrypted. One
// that lies open is sealed. A key is made only then: for one that is sealed already
// a new key would be of no use, and would look like the one that is missing.
func (f *vaultFlags) openAuthority() (*pki.Authority, error) {
	fsys, dir := durable.OS(), f.path(vaultCA)
	key, found, err := pki.FindSealingKey(fsys, f.sealing, os.Getenv)
	if err != nil {
		return nil, err
	}
	if !found {
		if _, err := pki.OpenAuthority(fsys, dir); err != nil {
			return nil, err
		}
		if key, err = pki.LoadSealingKey(fsys, f.sealing, os.Getenv); err != nil {
			return nil, err
		}
	}
	return pki.OpenAuthority(fsys, dir, pki.SealedWith(key))
}

// keyBeside tells that the key which seals the authority is a file in the vault's own
// directory: whoever has a copy of that has both.
func (f *vaultFlags) keyBeside() (bool, error) {
	_, given, err := pki.FindSealingKey(durable.OS(), "", os.Getenv)
	if given || err != nil {
		return false, err
	}
	key, err := filepath.EvalSymlinks(f.sealing)
	if err != nil {
		return false, durable.SystemError("find sealing key", f.sealing, err)
	}
	dir, err := filepath.EvalSymlinks(f.dir)
	if err != nil {
		return false, durable.SystemError("find sealing key", f.dir, err)
	}
	if key, err = filepath.Abs(key); err != nil {
		return false, durable.SystemError("find sealing key", f.sealing, err)
	}
	return strings.HasPrefix(key, dir+string(filepath.Separator)), nil
}

// warnOfKey logs it, with the way out.
func (f *vaultFlags) warnOfKey(log *slog.Logger) error {
	beside, err := f.keyBeside()
	if beside {
		log.Warn("the key that the authority is sealed with lies beside it: whoever copies the vault's directory can make nodes",
			"key", f.sealing, "remedy", "move it out of "+f.dir+" and name it with --sealing-key, or give it as the systemd credential "+pki.SealingCredential)
	}
	return err
}

// makeAuthority makes the vault's authority, sealed from the first byte.
func (f *vaultFlags) makeAuthority() (*pki.Authority, error) {
	key, err := pki.LoadSealingKey(durable.OS(), f.sealing, os.Getenv)
	if err != nil {
		return nil, err
	}
	return pki.CreateAuthority(durable.OS(), f.path(vaultCA), "Homeward", pki.SealedWith(key))
}

// authorityFlags name an authority that is used by hand, sealed or not.
type authorityFlags struct {
	dir, sealing string
}

func (f *authorityFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.dir, "ca", "", "`directory` of the authority")
	cmd.Flags().StringVar(&f.sealing, "sealing-key", "", sealingHelp)
}

func (f *authorityFlags) open() (*pki.Authority, error) {
	if err := required("--ca", f.dir, "the directory of the authority"); err != nil {
		return nil, err
	}
	key, found, err := pki.FindSealingKey(durable.OS(), f.sealing, os.Getenv)
	switch {
	case err != nil:
		return nil, err
	case found:
		return pki.OpenAuthority(durable.OS(), f.dir, pki.SealedWith(key))
	case f.sealing != "":
		return nil, homeward.Errorf("read flags", homeward.NotFound, "--sealing-key", "name the file with the authority's sealing key", "%s is not there", f.sealing)
	}
	return pki.OpenAuthority(durable.OS(), f.dir)
}
