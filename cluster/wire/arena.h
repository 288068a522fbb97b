/*
 * arena: memory that is taken piece by piece and given back all at once.
 *
 * What a message becomes when it is decoded (arrays, repaired strings) lives as long as the request it came in, so nothing of it is freed by
 * itself. A reset keeps the newest block, so that a connection in its steady state asks malloc for nothing.
 *
 * thread: an arena belongs to one thread at a time.
 */
#ifndef CLUSTER_WIRE_ARENA_H
#define CLUSTER_WIRE_ARENA_H

#include <stddef.h>
#include <stdint.h>

#include "store/err.h"

struct arena_block;

/* What the arenas that name it may take together; only large blocks count, so that what is usual is never refused. thread: any. */
struct arena_budget {
	_Atomic int64_t left;
};

struct arena {
	uint8_t *p, *end;          /* what is free in the newest block */
	struct arena_block *block; /* owned: the newest block, which links to the older ones */
	size_t taken;              /* bytes handed out since the last reset, padding included */
	size_t limit;              /* bytes it may hand out between two resets */
	struct arena_budget *budget; /* borrowed; NULL: none. Set by the owner after arena_init */
};

/* limit: 0 is none. Takes no memory before the first arena_get. */
void arena_init(struct arena *a, size_t limit);
void arena_release(struct arena *a);

/* Everything handed out is invalid; one block is kept unless it is larger than 64 KiB. */
void arena_reset(struct arena *a);

/* n bytes, aligned for any type, their content undefined; borrowed until the reset. n may be 0. NULL with e set to ERR_TOO_LARGE (over the limit) or ERR_NO_MEMORY (or over the budget). */
void *arena_get(struct arena *a, size_t n, struct err *e);

#endif
