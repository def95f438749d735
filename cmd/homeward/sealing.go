package main

import (
	"os"

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
