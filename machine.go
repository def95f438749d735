package homeward

import "fmt"

// BlockSize is the unit of tracking in bytes.
const BlockSize = 4096

// Machine is the machine manifest: what a site must know to boot a copy. It
// travels in every delta, so that each recovery point carries the machine as it
// was. Unknown values are zero, never guessed.
type Machine struct {
	Item      ItemID `json:"item"`
	Name      string `json:"name"`
	CPUs      int    `json:"cpus,omitempty"`
	MemoryMiB int    `json:"memory_mib,omitempty"`
	Firmware  string `json:"firmware,omitempty"` // "bios", "efi"
	NVRAM     []byte `json:"nvram,omitempty"`
	OSFamily  string `json:"os_family,omitempty"` // "linux", "windows"
	OSVersion string `json:"os_version,omitempty"`
	NICs      []NIC  `json:"nics,omitempty"`
	Disks     []Disk `json:"disks"` // in order; the index is the disk's number inside deltas
}

// NIC is a network card.
type NIC struct {
	MAC     string `json:"mac"`
	Network string `json:"network,omitempty"`
	Address string `json:"address,omitempty"`
}

// Disk is one disk of a machine.
type Disk struct {
	ID         DiskID `json:"id"`
	Size       int64  `json:"size"` // bytes; a multiple of 512
	Controller string `json:"controller,omitempty"`
	Slot       int    `json:"slot,omitempty"`
	BootOrder  int    `json:"boot_order,omitempty"` // 0: not booted from
}

// Blocks is the number of tracked blocks; the last one may be partial.
func (d Disk) Blocks() int64 { return (d.Size + BlockSize - 1) / BlockSize }

// MaxDisks is the most disks a machine may have (R77: 60 at failback).
const MaxDisks = 60

// Validate names the first field that is wrong.
func (m Machine) Validate() error {
	bad := func(field, fix, format string, args ...any) error {
		return Errorf("validate machine", Invalid, field, fix, format, args...)
	}
	if err := m.Item.Validate(); err != nil {
		return err
	}
	if len(m.Disks) == 0 || len(m.Disks) > MaxDisks {
		return bad("disks", fmt.Sprintf("give 1 to %d disks", MaxDisks), "%d disks", len(m.Disks))
	}
	seen := map[DiskID]bool{}
	for i, d := range m.Disks {
		field := fmt.Sprintf("disks[%d]", i)
		if err := d.ID.Validate(); err != nil {
			return err
		}
		if seen[d.ID] {
			return bad(field+".id", "give every disk its own UUID", "disk %q appears twice", d.ID)
		}
		seen[d.ID] = true
		if d.Size <= 0 || d.Size%512 != 0 {
			return bad(field+".size", "give the size in bytes, a multiple of 512", "size %d", d.Size)
		}
	}
	return nil
}
