//go:build linux

package main

import (
	"context"
	"fmt"
	"path/filepath"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// diskFile shows a disk as a file, for a loop device to lie on.
type diskFile struct {
	fs.Inode
	disk *disk
}

var (
	_ fs.NodeGetattrer = (*diskFile)(nil)
	_ fs.NodeOpener    = (*diskFile)(nil)
	_ fs.NodeReader    = (*diskFile)(nil)
	_ fs.NodeWriter    = (*diskFile)(nil)
	_ fs.NodeFsyncer   = (*diskFile)(nil)
)

// Getattr tells the size.
func (f *diskFile) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode, out.Size = fuse.S_IFREG|0o600, uint64(f.disk.size)
	return 0
}

// Open lets nothing be cached above the disk.
func (f *diskFile) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_DIRECT_IO, 0
}

// Read reads.
func (f *diskFile) Read(_ context.Context, _ fs.FileHandle, to []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	to = to[:max(0, min(int64(len(to)), f.disk.size-off))]
	f.disk.read(to, off)
	return fuse.ReadResultData(to), 0
}

// Write writes, or fails.
func (f *diskFile) Write(_ context.Context, _ fs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	if off+int64(len(data)) > f.disk.size {
		return 0, syscall.ENOSPC
	}
	if !f.disk.write(data, off) {
		return 0, syscall.EIO
	}
	return uint32(len(data)), 0
}

// Fsync is the flush of the loop device, and the second half of its writes that must be on the medium.
func (f *diskFile) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	if !f.disk.flush() {
		return syscall.EIO
	}
	return 0
}

// serve shows a disk as a file, and gives its path.
func (s *scratch) serve(d *disk) (string, error) {
	dir, err := s.folder("fuse")
	if err != nil {
		return "", err
	}
	root := &fs.Inode{}
	server, err := fs.Mount(dir, root, &fs.Options{
		MountOptions: fuse.MountOptions{DirectMountStrict: true, MaxWrite: 512 << 10, FsName: "realdisk", Name: "realdisk"},
		OnAdd: func(ctx context.Context) {
			root.AddChild("disk", root.NewPersistentInode(ctx, &diskFile{disk: d}, fs.StableAttr{Mode: fuse.S_IFREG}), false)
		},
	})
	if err != nil {
		return "", fmt.Errorf("FUSE: %w", err)
	}
	s.later(server.Unmount)
	return filepath.Join(dir, "disk"), nil
}
