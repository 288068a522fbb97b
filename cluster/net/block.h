/*
 * block: the memory of requests, kept for the next ones.
 *
 * Blocks come in sizes a quarter of a power of two apart. What is given back is kept, up to a bound; what was not needed during a whole
 * interval goes back to the system, so that a burst is paid for once and an idle thread holds next to nothing.
 *
 * thread: a pool belongs to one thread.
 */
#ifndef CLUSTER_NET_BLOCK_H
#define CLUSTER_NET_BLOCK_H

#include <stdbool.h>
#include <stddef.h>

enum {
	BLOCK_STEP = 256,          /* below BLOCK_LINEAR sizes are multiples of it */
	BLOCK_LINEAR = 4096,
	BLOCK_LARGEST = 8 << 20,   /* larger ones are not kept */
	BLOCK_CLASSES = BLOCK_LINEAR / BLOCK_STEP + 4 * 11 + 1,
	BLOCK_KEPT = 8 << 20,      /* bytes */
};

struct block_pool {
	void *free[BLOCK_CLASSES]; /* each begins with the pointer to the next */
	size_t bytes;              /* in them */
	size_t least;              /* the least of bytes since the last trim */
};

/* *size: bytes wanted, then bytes got. kept_only: only if there is one. NULL: there is none, or no memory. */
void *block_take(struct block_pool *p, size_t *size, bool kept_only);
void block_give(struct block_pool *p, void *block, size_t size); /* size as block_take said; NULL is fine */

/* Frees what was not needed since the last call. */
void block_trim(struct block_pool *p);
void block_release(struct block_pool *p);

#endif
