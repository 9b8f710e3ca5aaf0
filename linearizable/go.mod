module github.com/mapfile-db/mapfile/linearizable

go 1.26.0

require (
	github.com/anishathalye/porcupine v1.3.1
	github.com/mapfile-db/mapfile v0.0.0
)

require (
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
)
