package cli

import (
	"context"
	"io"
)

// interruptible reads what r holds until ctx is done, and then fails with its
// error, also while a Read of r is stuck. That Read is left behind: nothing else
// may read from r.
func interruptible(ctx context.Context, r io.Reader) io.Reader {
	pr, pw := io.Pipe()
	context.AfterFunc(ctx, func() { pw.CloseWithError(ctx.Err()) })
	go func() {
		_, err := io.Copy(pw, r)
		pw.CloseWithError(err) // nil reads as io.EOF
	}()
	return pr
}
