//go:build !linux

package main

import "errors"

func largeScan(string) ([]*bound, error) {
	return []*bound{{name: "scan of a map 4 x its memory limit / plain read", skipped: "control groups are Linux's"}}, nil
}

func largeGets(string) ([]*bound, error) {
	return []*bound{{name: "pages read from disk per Get hit, map 4 x its memory limit", skipped: "control groups are Linux's"}}, nil
}

func loneCommit(string) ([]*bound, error) {
	return []*bound{{name: "a lone writer's synced commit / pwrite + fdatasync, medians", skipped: "fdatasync is Linux's"}}, nil
}

func child() error { return errors.ErrUnsupported }
