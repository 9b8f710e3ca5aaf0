// Command realdisk attacks maps on real file systems: ext4, xfs and btrfs on
// loop devices. It fills them, cuts their power, and puts a disk under them
// that records every write, so that any crash of it can be looked at.
//
// It needs Linux and root. Everything it makes lies in a mount namespace of its
// own: however the process ends, the kernel unmounts and detaches all of it.
package main
