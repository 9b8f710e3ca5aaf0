#include "textflag.h"

// func prefetch(base unsafe.Pointer, offsets *uint64, n, lines int)
TEXT ·prefetch(SB), NOSPLIT, $0-32
	MOVQ base+0(FP), AX
	MOVQ offsets+8(FP), BX
	MOVQ n+16(FP), CX

offset:
	MOVQ (BX), SI
	ADDQ AX, SI
	MOVQ lines+24(FP), DX

line:
	PREFETCHT0 (SI)
	ADDQ $64, SI
	DECQ DX
	JNZ  line
	ADDQ $8, BX
	DECQ CX
	JNZ  offset
	RET
