//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// kind is a file system.
type kind struct {
	name    string
	size    int64 // bytes of its disk
	mkfs    []string
	options string // of mount
	debian  string // package that has its mkfs
	cuttable,
	reflinks bool
	// moves says that the file system writes a page elsewhere each time: on a full disk a
	// page that was stored before may have no room to be stored again.
	moves bool
}

// kinds are the file systems. The sizes are about the least that their mkfs accepts.
var kinds = []kind{
	{name: "ext4", size: 96 << 20, mkfs: []string{"mkfs.ext4", "-q", "-F", "-E", "nodiscard"}, debian: "e2fsprogs", cuttable: true},
	{name: "xfs", size: 320 << 20, mkfs: []string{"mkfs.xfs", "-q", "-f", "-K"}, options: "nouuid", debian: "xfsprogs", cuttable: true, reflinks: true},
	{name: "btrfs", size: 256 << 20, mkfs: []string{"mkfs.btrfs", "-q", "-f", "-K"}, options: "nodiscard", debian: "btrfs-progs", reflinks: true, moves: true},
}

// kindsOf finds file systems by their names.
func kindsOf(names []string) (found []kind, err error) {
next:
	for _, name := range names {
		for _, k := range kinds {
			if k.name == name {
				found = append(found, k)
				continue next
			}
		}
		return nil, fmt.Errorf("file system %q: ext4, xfs and btrfs are known", name)
	}
	if len(found) == 0 {
		return nil, errors.New("no file system")
	}
	return found, nil
}

// ready answers what this machine lacks.
func ready(kinds []kind) error {
	if os.Geteuid() != 0 {
		return skipError{"needs root, to mount file systems"}
	}
	for _, device := range []string{"/dev/loop-control", "/dev/fuse"} {
		if _, err := os.Stat(device); err != nil {
			return skipError{"needs " + device + ": " + err.Error()}
		}
	}
	known, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		return err
	}
	for _, k := range kinds {
		if _, err := exec.LookPath(k.mkfs[0]); err != nil {
			return skipError{fmt.Sprintf("needs %s: apt-get install %s, or leave %s out with --fs", k.mkfs[0], k.debian, k.name)}
		}
		if !strings.Contains(string(known), "\t"+k.name+"\n") && exec.Command("modprobe", k.name).Run() != nil {
			return skipError{fmt.Sprintf("this kernel has no %s: leave it out with --fs", k.name)}
		}
	}
	return nil
}
