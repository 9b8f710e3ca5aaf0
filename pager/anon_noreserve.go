//go:build linux

package pager

import "golang.org/x/sys/unix"

const mapNoReserve = unix.MAP_NORESERVE
