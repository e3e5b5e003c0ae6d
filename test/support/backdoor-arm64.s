# Machine code of src/native/vmware/backdoor-code.ts for Linux on arm64. Assembled by GNU as; a test compares it byte for byte.
# X0 to X6 stand for RAX, RBX, RCX, RDX, RSI, RDI, RBP; X7 says what the trap is to do; the trap is a read of MDCCSR_EL0.
.macro trap control
    mov x7, #\control
    movk x7, #0x86, lsl #32
    mrs xzr, mdccsr_el0
.endm

.macro load
    ldp x0, x1, [x9]
    ldp x2, x3, [x9, #16]
    ldp x4, x5, [x9, #32]
    ldr x6, [x9, #48]
.endm

.macro store
    stp x0, x1, [x9]
    stp x2, x3, [x9, #16]
    stp x4, x5, [x9, #32]
    str x6, [x9, #48]
.endm

# int64 calls(u64 registers[count][7], int64 count)
calls_arm64:
    hint #34
    mov x9, x0
    mov x10, x1
1:  load
    trap 0x0e
    store
    subs x10, x10, #1
    b.eq 2f
    add x9, x9, #56
    tbnz w2, #16, 1b
2:  mov x0, x10
    ret

# int64 bulk(u64 registers[7], int64)
.macro bulk control
    hint #34
    mov x9, x0
    load
    trap \control
    store
    mov x0, #0
    ret
.endm
bulk_arm64_in:
    bulk 0x1c
bulk_arm64_out:
    bulk 0x18

# int64 probe(block) as on x86-64: 220 clone, 134 rt_sigaction, 94 exit_group.
.macro handle signal
    mov x0, #\signal
    add x1, x9, #64
    mov x2, #0
    mov x3, #8
    mov x8, #134
    svc #0
.endm
probe_arm64:
    hint #34
    mov x9, x0
    adr x1, 9f
    str x1, [x9, #64]
    mov x2, #0x44000000
    str x2, [x9, #72]
    str x1, [x9, #80]
    str xzr, [x9, #88]
    str xzr, [x9, #56]
    mov x0, #0x4100
    mov x1, #0
    mov x2, #0
    mov x3, #0
    mov x4, #0
    mov x8, #220
    svc #0
    cbnz x0, 8f
    handle 4
    handle 7
    handle 11
    load
    trap 0x0e
    store
    mov x1, #1
    str x1, [x9, #56]
    mov x0, #0
    mov x8, #94
    svc #0
8:  ret
9:  hint #34
    mov x0, #11
    mov x8, #94
    svc #0
end:
