module github.com/mapfile-db/mapfile/realdisk

go 1.26.0

require (
	github.com/mapfile-db/mapfile v0.0.0
	github.com/spf13/cobra v1.10.2
	golang.org/x/sys v0.49.0
)

require go.yaml.in/yaml/v3 v3.0.5 // indirect

require (
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/hanwen/go-fuse/v2 v2.12.1
	github.com/inconshreveable/mousetrap v1.1.0 // indirect
	github.com/spf13/pflag v1.0.9 // indirect
	github.com/stretchr/testify v1.12.1
)
