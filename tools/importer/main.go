// Command importer is the mapfile tool with import --from, which reads the stores of others: bbolt, badger and
// pogreb. It is a module of its own, so that nobody else pulls in their modules.
//
//	go run ./tools/importer import --from bbolt --bucket users old.db new.map
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/mapfile-db/mapfile/tools/cli"
	"github.com/mapfile-db/mapfile/tools/importer/stores"
)

func main() { os.Exit(run()) }

// run hands the first interrupt to the verb, which cleans up; a second one ends the process at once.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	return cli.Main(ctx, cli.New(&cli.Options{Importers: stores.All()}))
}
