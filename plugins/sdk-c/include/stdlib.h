// All of it that a rule has; see pingward.c.
#ifndef PINGWARD_STDLIB_H
#define PINGWARD_STDLIB_H

#include <stddef.h>

void *malloc(size_t size);
void *calloc(size_t count, size_t size);
void *realloc(void *block, size_t size);
void free(void *block);
_Noreturn void abort(void);

#endif
