//go:build unix && !linux

package pager

const mapNoReserve = 0
