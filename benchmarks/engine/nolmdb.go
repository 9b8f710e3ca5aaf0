//go:build !(lmdb && cgo)

package engine

// cgoEngines: none without -tags lmdb.
var cgoEngines []Engine
