//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// loop is a loop device. It goes by itself when nobody has it open or mounted any more.
type loop struct {
	path string
	file *os.File
}

// attach puts a loop device on a file.
func attach(path string, direct bool) (*loop, error) {
	flags := os.O_RDWR
	if direct {
		flags |= unix.O_DIRECT
	}
	back, err := os.OpenFile(path, flags, 0)
	if err != nil {
		return nil, err
	}
	defer back.Close()
	for range 100 {
		l, err := attachFree(back, direct)
		if !errors.Is(err, unix.EBUSY) { // else another was quicker to take the device
			return l, err
		}
	}
	return nil, fmt.Errorf("no free loop device for %s", path)
}

func attachFree(back *os.File, direct bool) (*loop, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return nil, err
	}
	path := fmt.Sprintf("/dev/loop%d", n)
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	c := &unix.LoopConfig{Fd: uint32(back.Fd())}
	c.Info.Flags = unix.LO_FLAGS_AUTOCLEAR
	if direct {
		c.Info.Flags |= unix.LO_FLAGS_DIRECT_IO
	}
	copy(c.Info.File_name[:], filepath.Base(back.Name()))
	if err := unix.IoctlLoopConfigure(int(file.Fd()), c); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &loop{path, file}, nil
}

func (l *loop) close() error { return l.file.Close() }

// volume is a file system on a loop device, which is there while it is mounted. To hold the device open in between would
// be wrong: what the kernel has cached of it would then outlive the power cut.
type volume struct {
	kind
	image  string // file below the device
	direct bool   // not to be cached a second time
	dir    string // where it is mounted
}

// newVolume makes a file system on an image in memory, and mounts it.
func (s *scratch) newVolume(k kind) (*volume, error) {
	image := filepath.Join(s.dir, k.name+".img")
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, k.size)); err != nil {
		return nil, err
	}
	s.later(func() error { return os.Remove(image) })
	return s.volumeOn(k, image, false)
}

// volumeOn makes a file system on a file, and mounts it.
func (s *scratch) volumeOn(k kind, image string, direct bool) (*volume, error) {
	dir, err := s.folder(k.name)
	if err != nil {
		return nil, err
	}
	v := &volume{k, image, direct, dir}
	if err := v.onLoop(func(device string) error { return command(append(k.mkfs, device)...) }); err != nil {
		return nil, err
	}
	s.later(v.leave)
	return v, v.mount()
}

// onLoop calls f with a loop device, which goes when f has returned and not mounted it.
func (v *volume) onLoop(f func(device string) error) error {
	l, err := attach(v.image, v.direct)
	if err != nil {
		return fmt.Errorf("a loop device: %w", err)
	}
	return errors.Join(f(l.path), l.close())
}

func (v *volume) mount() error {
	return v.onLoop(func(device string) error {
		if err := unix.Mount(device, v.dir, v.name, unix.MS_NOATIME, v.options); err != nil {
			return fmt.Errorf("mount %s: %w", v.name, err)
		}
		return nil
	})
}

func (v *volume) unmount() error {
	if err := unmount(v.dir); err != nil {
		return err
	}
	if v.name == "btrfs" {
		return forgetDevices()
	}
	return nil
}

// forgetDevices makes btrfs forget the devices that are not mounted: the next one has the same UUID and perhaps another name.
func forgetDevices() error {
	control, err := os.OpenFile("/dev/btrfs-control", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer control.Close()
	const forget = 0x50009405 // BTRFS_IOC_FORGET_DEV
	var all [4096]byte        // struct btrfs_ioctl_vol_args without a name
	if _, _, no := unix.Syscall(unix.SYS_IOCTL, control.Fd(), forget, uintptr(unsafe.Pointer(&all))); no != 0 {
		return fmt.Errorf("BTRFS_IOC_FORGET_DEV: %w", no)
	}
	return nil
}

// leave unmounts if it is mounted.
func (v *volume) leave() error {
	if err := v.unmount(); !errors.Is(err, unix.EINVAL) {
		return err
	}
	return nil
}

// remount unmounts and mounts: what only the cache held is gone.
func (v *volume) remount() error {
	if err := v.unmount(); err != nil {
		return err
	}
	return v.mount()
}

// sync makes all of the file system durable.
func (v *volume) sync() error {
	dir, err := os.Open(v.dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	return unix.Syncfs(int(dir.Fd()))
}

// shutdown cuts the power: from now on nothing reaches the disk, not even the file system's own log.
func (v *volume) shutdown() error {
	const (
		request    = 0x8004587d // FS_IOC_SHUTDOWN
		noLogFlush = 2
	)
	dir, err := os.Open(v.dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := unix.IoctlSetPointerInt(int(dir.Fd()), request, noLogFlush); err != nil {
		return fmt.Errorf("FS_IOC_SHUTDOWN: %w", err)
	}
	return nil
}
