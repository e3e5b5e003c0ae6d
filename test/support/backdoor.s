# Machine code of src/native/vmware/backdoor-code.ts. Assembled by GNU as; a test compares it byte for byte.
# OP is the instruction that traps: 0 in eax,dx; 1 vmcall; 2 vmmcall.
.intel_syntax noprefix
.macro trap op
.if \op == 0
    in eax, dx
.elseif \op == 1
    .byte 0x0f, 0x01, 0xc1
.else
    .byte 0x0f, 0x01, 0xd9
.endif
.endm

.macro load
    mov rax, [r8]
    mov rbx, [r8+8]
    mov rcx, [r8+16]
    mov rdx, [r8+24]
    mov rsi, [r8+32]
    mov rdi, [r8+40]
    mov rbp, [r8+48]
.endm

.macro store
    mov [r8], rax
    mov [r8+8], rbx
    mov [r8+16], rcx
    mov [r8+24], rdx
    mov [r8+32], rsi
    mov [r8+40], rdi
    mov [r8+48], rbp
.endm

# int64 calls(u64 registers[count][7], int64 count): executes them in order, stops behind the first that leaves bit 16 of
# ECX clear; gives how many were left out.
.macro calls_sysv op
    endbr64
    mov r8, rdi
    mov r11, rsi
    mov r9, rbx
    mov r10, rbp
1:  load
    trap \op
    store
    dec r11
    jz 2f
    test ecx, 0x10000
    lea r8, [r8+56]
    jnz 1b
2:  mov rax, r11
    mov rbx, r9
    mov rbp, r10
    ret
.endm

# The same for Win64: RSI and RDI are the caller's too; they and the count are kept in the caller's home space.
.macro calls_win64 op
    endbr64
    mov r8, rcx
    mov r9, rbx
    mov r10, rbp
    mov r11, rsi
    mov [rsp+8], rdi
    mov [rsp+16], rdx
1:  load
    trap \op
    store
    dec qword ptr [rsp+16]
    jz 2f
    test ecx, 0x10000
    lea r8, [r8+56]
    jnz 1b
2:  mov rax, [rsp+16]
    mov rbx, r9
    mov rbp, r10
    mov rsi, r11
    mov rdi, [rsp+8]
    ret
.endm

# int64 bulk(u64 registers[7], int64): one string instruction.
.macro bulk_sysv in
    endbr64
    mov r8, rdi
    mov r9, rbx
    mov r10, rbp
    load
    cld
.if \in
    rep insb
.else
    rep outsb
.endif
    store
    xor eax, eax
    mov rbx, r9
    mov rbp, r10
    ret
.endm

.macro bulk_win64 in
    endbr64
    mov r8, rcx
    mov r9, rbx
    mov r10, rbp
    mov r11, rsi
    mov [rsp+8], rdi
    load
    cld
.if \in
    rep insb
.else
    rep outsb
.endif
    store
    xor eax, eax
    mov rbx, r9
    mov rbp, r10
    mov rsi, r11
    mov rdi, [rsp+8]
    ret
.endm

# int64 probe(struct { u64 registers[7]; u64 survived; kernel_sigaction action; }) on Linux: a child that shares the memory
# tries the instruction under handlers of its own and ends; the parent goes on when it has. Gives its pid or -errno.
# 56 clone (CLONE_VM|CLONE_VFORK, no signal at its end), 13 rt_sigaction (SIGILL, SIGBUS, SIGSEGV), 231 exit_group.
.macro probe_linux op
    endbr64
    mov r8, rdi
    lea rax, [rip+9f]
    mov [r8+64], rax
    mov qword ptr [r8+72], 0x44000000
    mov [r8+80], rax
    mov qword ptr [r8+88], 0
    mov qword ptr [r8+56], 0
    mov eax, 56
    mov edi, 0x4100
    xor esi, esi
    xor edx, edx
    xor r10d, r10d
    syscall
    test eax, eax
    jnz 8f
    lea rsi, [r8+64]
    xor edx, edx
    mov r10d, 8
    mov edi, 4
    mov eax, 13
    syscall
    mov edi, 7
    mov eax, 13
    syscall
    mov edi, 11
    mov eax, 13
    syscall
    load
    trap \op
    store
    mov qword ptr [r8+56], 1
    xor edi, edi
    mov eax, 231
    syscall
8:  ret
9:  endbr64
    mov edi, 11
    mov eax, 231
    syscall
.endm

# int64 probe(struct { u64 registers[7]; u64 survived; }) on Windows, which has no children that share memory: a vectored
# exception handler, installed around the call, sends a fault of this very instruction to the end.
.macro probe_win64
    endbr64
    mov r8, rcx
    mov r9, rbx
    mov r10, rbp
    mov r11, rsi
    mov [rsp+8], rdi
    mov qword ptr [r8+56], 0
    load
7:  in eax, dx
    store
    mov qword ptr [r8+56], 1
8:  xor eax, eax
    mov rbx, r9
    mov rbp, r10
    mov rsi, r11
    mov rdi, [rsp+8]
    ret
# int32 handler(EXCEPTION_POINTERS *): the context's RIP is at 0xf8.
handler_win64:
    endbr64
    mov rdx, [rcx+8]
    lea rax, [rip+7b]
    cmp [rdx+0xf8], rax
    jne 9f
    lea rax, [rip+8b]
    mov [rdx+0xf8], rax
    mov eax, -1
    ret
9:  xor eax, eax
    ret
.endm

calls_sysv_in:        calls_sysv 0
calls_sysv_vmcall:    calls_sysv 1
calls_sysv_vmmcall:   calls_sysv 2
calls_win64_in:       calls_win64 0
bulk_sysv_in:         bulk_sysv 1
bulk_sysv_out:        bulk_sysv 0
bulk_win64_in:        bulk_win64 1
bulk_win64_out:       bulk_win64 0
probe_linux_in:       probe_linux 0
probe_linux_vmcall:   probe_linux 1
probe_linux_vmmcall:  probe_linux 2
probe_win64:          probe_win64
end:
