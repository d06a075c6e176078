// The little of libc that a rule and the generated bindings need.
//
// An instance lives for one call, so blocks are handed out one after the other and never come back. The first ones lie
// in the memory that the component starts with: growing it costs more than most rules.
#include <stdlib.h>
#include <string.h>

#include "pingward.h"

#define PAGE ((size_t)64 << 10)
#define ALIGN ((size_t)16)

extern unsigned char __heap_base;
// Where the next block begins; 0 before the first one.
static size_t next;

// A block has its size before it, so that it can be copied when it grows.
void *malloc(size_t size) {
    if (next == 0) next = ((size_t)&__heap_base + ALIGN - 1) & ~(ALIGN - 1);
    size_t have = __builtin_wasm_memory_size(0) * PAGE;
    size_t room = size <= SIZE_MAX - 2 * ALIGN ? ((size + ALIGN - 1) & ~(ALIGN - 1)) + ALIGN : SIZE_MAX;
    if (room > have - next) {
        size_t missing = (room - (have - next) - 1) / PAGE + 1;
        if (__builtin_wasm_memory_grow(0, missing) == SIZE_MAX) pw_fail("out of memory: %u bytes more", (unsigned)size);
    }
    unsigned char *block = (unsigned char *)next + ALIGN;
    *(size_t *)(block - sizeof(size_t)) = size;
    next += room;
    return block;
}

void free(void *block) { (void)block; }

void *calloc(size_t count, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) pw_fail("out of memory: %u blocks", (unsigned)count);
    // Memory that was never handed out is zero.
    return malloc(bytes);
}

void *realloc(void *block, size_t size) {
    if (!block) return malloc(size);
    size_t old = *(size_t *)((unsigned char *)block - sizeof(size_t));
    if (size <= old) return block;
    return memcpy(malloc(size), block, old);
}

void abort(void) { __builtin_trap(); }

// With -mbulk-memory these calls are the instructions themselves.
void *memcpy(void *to, const void *from, size_t count) { return __builtin_memmove(to, from, count); }
void *memmove(void *to, const void *from, size_t count) { return __builtin_memmove(to, from, count); }
void *memset(void *to, int byte, size_t count) { return __builtin_memset(to, byte, count); }

int memcmp(const void *a, const void *b, size_t count) {
    const unsigned char *x = a, *y = b;
    for (; count; count--, x++, y++) {
        if (*x != *y) return *x - *y;
    }
    return 0;
}

size_t strlen(const char *text) {
    size_t length = 0;
    while (text[length]) length++;
    return length;
}

int strncmp(const char *a, const char *b, size_t count) {
    const unsigned char *x = (const unsigned char *)a, *y = (const unsigned char *)b;
    for (; count; count--, x++, y++) {
        if (*x != *y) return *x - *y;
        if (!*x) return 0;
    }
    return 0;
}

int strcmp(const char *a, const char *b) { return strncmp(a, b, SIZE_MAX); }
