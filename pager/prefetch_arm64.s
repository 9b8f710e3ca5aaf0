#include "textflag.h"

// func prefetch(base unsafe.Pointer, offsets *uint64, n, lines int)
TEXT ·prefetch(SB), NOSPLIT, $0-32
	MOVD base+0(FP), R0
	MOVD offsets+8(FP), R1
	MOVD n+16(FP), R2

offset:
	MOVD.P 8(R1), R3
	ADD    R0, R3
	MOVD   lines+24(FP), R4

line:
	PRFM (R3), PLDL1KEEP
	ADD  $64, R3
	SUBS $1, R4
	BNE  line
	SUBS $1, R2
	BNE  offset
	RET
