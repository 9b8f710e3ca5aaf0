//go:build !linux

package engine

// rails: the bounds are measured with Linux's own calls.
var rails []Engine
