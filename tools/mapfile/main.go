// Command mapfile looks into maps, changes them, and shows that they survive
// the death of their process. Run "mapfile help" for its verbs.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/mapfile-db/mapfile/tools/cli"
)

func main() { os.Exit(run()) }

// run hands the first interrupt to the verb, which cleans up; a second one
// ends the process at once.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	return cli.Main(ctx, cli.New(nil))
}
