package pager

import "sync"

// How many pieces of lent memory stay inaccessible when their loans have ended. Their addresses are given to nobody
// else, so that a late read meets a fault and not another loan.
const lentKept = 4096

// lentMemory is the memory of loans that have ended.
var lentMemory struct {
	mu    sync.Mutex // protects ended; a leaf
	ended []lentPiece
}

// lentPiece is memory that nobody may touch any more.
type lentPiece struct{ release func() }

// endLoan keeps a piece, and gives the oldest back.
func endLoan(p lentPiece) {
	lentMemory.mu.Lock()
	defer lentMemory.mu.Unlock()
	lentMemory.ended = append(lentMemory.ended, p)
	if len(lentMemory.ended) > lentKept {
		lentMemory.ended[0].release()
		lentMemory.ended = lentMemory.ended[1:]
	}
}
