#include "textflag.h"

// AES-GCM on 512-bit registers (VAES, VPCLMULQDQ): 16 blocks a turn. GHASH works
// on blocks with their octets reversed and on powers of the hash key that were
// multiplied by x, so that a product is reduced by two multiplications by the
// upper half of the polynomial (Gueron and Kounavis, "Intel Carry-Less
// Multiplication Instruction", algorithm 5 and its later form without shifts).
// The four 128-bit products of a register are summed before they are reduced.

DATA reversed<>+0(SB)/8, $0x08090a0b0c0d0e0f
DATA reversed<>+8(SB)/8, $0x0001020304050607
GLOBL reversed<>(SB), RODATA|NOPTR, $16

DATA polynomial<>+0(SB)/8, $0x0000000000000001
DATA polynomial<>+8(SB)/8, $0xc200000000000000
GLOBL polynomial<>(SB), RODATA|NOPTR, $16

DATA four<>+0(SB)/8, $4
DATA four<>+8(SB)/8, $0
GLOBL four<>(SB), RODATA|NOPTR, $16

DATA lanes<>+0(SB)/8, $0
DATA lanes<>+8(SB)/8, $0
DATA lanes<>+16(SB)/8, $1
DATA lanes<>+24(SB)/8, $0
DATA lanes<>+32(SB)/8, $2
DATA lanes<>+40(SB)/8, $0
DATA lanes<>+48(SB)/8, $3
DATA lanes<>+56(SB)/8, $0
GLOBL lanes<>(SB), RODATA|NOPTR, $64

// Offsets in type wide.
#define ROUNDS 240
#define POWERS 256

// KEYS loads the round keys, each into the four lanes of a register: Z14 to Z23
// the first ten, Z24 to Z27 those that only AES-256 has, Z28 the last.
#define KEYS(k) \
	VBROADCASTI32X4 0(k), Z14   \
	VBROADCASTI32X4 16(k), Z15  \
	VBROADCASTI32X4 32(k), Z16  \
	VBROADCASTI32X4 48(k), Z17  \
	VBROADCASTI32X4 64(k), Z18  \
	VBROADCASTI32X4 80(k), Z19  \
	VBROADCASTI32X4 96(k), Z20  \
	VBROADCASTI32X4 112(k), Z21 \
	VBROADCASTI32X4 128(k), Z22 \
	VBROADCASTI32X4 144(k), Z23 \
	VBROADCASTI32X4 160(k), Z24 \
	VBROADCASTI32X4 176(k), Z25 \
	VBROADCASTI32X4 192(k), Z26 \
	VBROADCASTI32X4 208(k), Z27 \
	MOVQ ROUNDS(k), R9          \
	MOVQ R9, R10                \
	SHLQ $4, R10                \
	VBROADCASTI32X4 (k)(R10*1), Z28

#define ROUND(key) \
	VAESENC key, Z0, Z0 \
	VAESENC key, Z1, Z1 \
	VAESENC key, Z2, Z2 \
	VAESENC key, Z3, Z3

#define NINE \
	ROUND(Z15) \
	ROUND(Z16) \
	ROUND(Z17) \
	ROUND(Z18) \
	ROUND(Z19) \
	ROUND(Z20) \
	ROUND(Z21) \
	ROUND(Z22) \
	ROUND(Z23)

#define FOURMORE \
	ROUND(Z24) \
	ROUND(Z25) \
	ROUND(Z26) \
	ROUND(Z27)

#define LASTROUND \
	VAESENCLAST Z28, Z0, Z0 \
	VAESENCLAST Z28, Z1, Z1 \
	VAESENCLAST Z28, Z2, Z2 \
	VAESENCLAST Z28, Z3, Z3

// COUNTERS makes the next 16 counter blocks, with the first round key added.
// Z29 holds the counters in reversed octets.
#define COUNTER(z) \
	VPSHUFB Z31, Z29, z  \
	VPADDD  Z30, Z29, Z29 \
	VPXORQ  Z14, z, z
#define COUNTERS \
	COUNTER(Z0) \
	COUNTER(Z1) \
	COUNTER(Z2) \
	COUNTER(Z3)

// FIRST and MORE multiply the four blocks in d by the powers of the hash key at
// off: the low products into Z4, the high ones into Z5, the middle ones into Z6.
#define FIRST(d, off) \
	VMOVDQU64   POWERS+off(AX), Z8 \
	VPCLMULQDQ  $0x00, Z8, d, Z4   \
	VPCLMULQDQ  $0x11, Z8, d, Z5   \
	VPCLMULQDQ  $0x01, Z8, d, Z6   \
	VPCLMULQDQ  $0x10, Z8, d, Z7   \
	VPXORQ      Z7, Z6, Z6
#define MORE(d, off) \
	VMOVDQU64   POWERS+off(AX), Z8 \
	VPCLMULQDQ  $0x00, Z8, d, Z7   \
	VPXORQ      Z7, Z4, Z4         \
	VPCLMULQDQ  $0x11, Z8, d, Z7   \
	VPXORQ      Z7, Z5, Z5         \
	VPCLMULQDQ  $0x01, Z8, d, Z7   \
	VPCLMULQDQ  $0x10, Z8, d, Z12  \
	VPTERNLOGQ  $0x96, Z7, Z12, Z6

// REDUCE reduces and sums the products into Z10, whose upper lanes become zero.
#define REDUCE \
	VPCLMULQDQ    $0x01, Z4, Z9, Z7 \
	VPSHUFD       $0x4e, Z4, Z4     \
	VPTERNLOGQ    $0x96, Z7, Z4, Z6 \
	VPCLMULQDQ    $0x01, Z6, Z9, Z7 \
	VPSHUFD       $0x4e, Z6, Z6     \
	VPTERNLOGQ    $0x96, Z7, Z6, Z5 \
	VEXTRACTI64X4 $1, Z5, Y7        \
	VPXOR         Y7, Y5, Y5        \
	VEXTRACTI128  $1, Y5, X7        \
	VPXOR         X7, X5, X10

// PREPARE loads what sealGroups and openGroups have in common.
#define PREPARE \
	MOVQ k+0(FP), AX       \
	MOVQ dst+8(FP), DI     \
	MOVQ src+16(FP), SI    \
	MOVQ groups+24(FP), CX \
	MOVQ ctr+32(FP), DX    \
	MOVQ sum+40(FP), R8    \
	KEYS(AX)               \
	VBROADCASTI32X4 reversed<>(SB), Z31  \
	VBROADCASTI32X4 four<>(SB), Z30      \
	VBROADCASTI32X4 polynomial<>(SB), Z9 \
	VBROADCASTI32X4 (DX), Z29            \
	VPSHUFB Z31, Z29, Z29                \
	VPADDD lanes<>(SB), Z29, Z29         \
	VMOVDQU (R8), X10                    \
	VPSHUFB X31, X10, X10

// func sealGroups(k *wide, dst, src *byte, groups int, ctr, sum *[16]byte)
TEXT ·sealGroups(SB), NOSPLIT, $0-48
	PREPARE

seal:
	COUNTERS
	NINE
	CMPQ R9, $10
	JE   sealLast
	FOURMORE

sealLast:
	LASTROUND
	VPXORQ 0(SI), Z0, Z0
	VPXORQ 64(SI), Z1, Z1
	VPXORQ 128(SI), Z2, Z2
	VPXORQ 192(SI), Z3, Z3
	VMOVDQU64 Z0, 0(DI)
	VMOVDQU64 Z1, 64(DI)
	VMOVDQU64 Z2, 128(DI)
	VMOVDQU64 Z3, 192(DI)
	VPSHUFB Z31, Z0, Z0
	VPSHUFB Z31, Z1, Z1
	VPSHUFB Z31, Z2, Z2
	VPSHUFB Z31, Z3, Z3
	VPXORQ Z10, Z0, Z0
	FIRST(Z0, 0)
	MORE(Z1, 64)
	MORE(Z2, 128)
	MORE(Z3, 192)
	REDUCE
	ADDQ $256, SI
	ADDQ $256, DI
	DECQ CX
	JNZ  seal
	VPSHUFB X31, X10, X10
	VMOVDQU X10, (R8)
	VZEROUPPER
	RET

// func openGroups(k *wide, dst, src *byte, groups int, ctr, sum *[16]byte)
TEXT ·openGroups(SB), NOSPLIT, $0-48
	PREPARE

open:
	VMOVDQU64 0(SI), Z0
	VMOVDQU64 64(SI), Z1
	VMOVDQU64 128(SI), Z2
	VMOVDQU64 192(SI), Z3
	VPSHUFB Z31, Z0, Z0
	VPSHUFB Z31, Z1, Z1
	VPSHUFB Z31, Z2, Z2
	VPSHUFB Z31, Z3, Z3
	VPXORQ Z10, Z0, Z0
	FIRST(Z0, 0)
	MORE(Z1, 64)
	MORE(Z2, 128)
	MORE(Z3, 192)
	REDUCE
	COUNTERS
	NINE
	CMPQ R9, $10
	JE   openLast
	FOURMORE

openLast:
	LASTROUND
	VPXORQ 0(SI), Z0, Z0
	VPXORQ 64(SI), Z1, Z1
	VPXORQ 128(SI), Z2, Z2
	VPXORQ 192(SI), Z3, Z3
	VMOVDQU64 Z0, 0(DI)
	VMOVDQU64 Z1, 64(DI)
	VMOVDQU64 Z2, 128(DI)
	VMOVDQU64 Z3, 192(DI)
	ADDQ $256, SI
	ADDQ $256, DI
	DECQ CX
	JNZ  open
	VPSHUFB X31, X10, X10
	VMOVDQU X10, (R8)
	VZEROUPPER
	RET

// func encryptGroup(k *wide, blocks *[256]byte)
TEXT ·encryptGroup(SB), NOSPLIT, $0-16
	MOVQ k+0(FP), AX
	MOVQ blocks+8(FP), DI
	KEYS(AX)
	VPXORQ 0(DI), Z14, Z0
	VPXORQ 64(DI), Z14, Z1
	VPXORQ 128(DI), Z14, Z2
	VPXORQ 192(DI), Z14, Z3
	NINE
	CMPQ R9, $10
	JE   encryptLast
	FOURMORE

encryptLast:
	LASTROUND
	VMOVDQU64 Z0, 0(DI)
	VMOVDQU64 Z1, 64(DI)
	VMOVDQU64 Z2, 128(DI)
	VMOVDQU64 Z3, 192(DI)
	VZEROUPPER
	RET

// func hashGroup(k *wide, blocks *[256]byte, sum *[16]byte)
TEXT ·hashGroup(SB), NOSPLIT, $0-24
	MOVQ k+0(FP), AX
	MOVQ blocks+8(FP), SI
	MOVQ sum+16(FP), R8
	VBROADCASTI32X4 reversed<>(SB), Z31
	VBROADCASTI32X4 polynomial<>(SB), Z9
	VMOVDQU64 0(SI), Z0
	VMOVDQU64 64(SI), Z1
	VMOVDQU64 128(SI), Z2
	VMOVDQU64 192(SI), Z3
	VPSHUFB Z31, Z0, Z0
	VPSHUFB Z31, Z1, Z1
	VPSHUFB Z31, Z2, Z2
	VPSHUFB Z31, Z3, Z3
	FIRST(Z0, 0)
	MORE(Z1, 64)
	MORE(Z2, 128)
	MORE(Z3, 192)
	REDUCE
	VPSHUFB X31, X10, X10
	VMOVDQU X10, (R8)
	VZEROUPPER
	RET

// func substitute(w uint32) uint32
TEXT ·substitute(SB), NOSPLIT, $0-12
	MOVL w+0(FP), AX
	VMOVD AX, X0
	VPSHUFD $0, X0, X0
	VAESKEYGENASSIST $0, X0, X1
	VMOVD X1, AX
	MOVL AX, ret+8(FP)
	RET
