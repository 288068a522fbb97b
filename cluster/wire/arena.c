#include "cluster/wire/arena.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

enum { FIRST_BLOCK = 4096 - 64, KEPT_BLOCK = 64 << 10, LARGEST_STEP = 1 << 20, ALIGN = 16 };

struct arena_block {
	struct arena_block *older;
	size_t size; /* of what follows */
	uint8_t bytes[] __attribute__((aligned(ALIGN)));
};

/* false: there is not so much left. */
static bool charge(struct arena *a, size_t size)
{
	if (!a->budget || size <= KEPT_BLOCK)
		return true;
	if (atomic_fetch_sub(&a->budget->left, (int64_t)size) >= (int64_t)size)
		return true;
	atomic_fetch_add(&a->budget->left, (int64_t)size);
	return false;
}

static void credit(struct arena *a, size_t size)
{
	if (a->budget && size > KEPT_BLOCK)
		atomic_fetch_add(&a->budget->left, (int64_t)size);
}

void arena_init(struct arena *a, size_t limit)
{
	*a = (struct arena){.limit = limit ? limit : SIZE_MAX / 2};
}

static void free_blocks(struct arena *a, struct arena_block *b)
{
	while (b) {
		struct arena_block *older = b->older;
		credit(a, b->size);
		free(b);
		b = older;
	}
}

void arena_release(struct arena *a)
{
	struct arena_budget *budget = a->budget;
	free_blocks(a, a->block);
	arena_init(a, a->limit);
	a->budget = budget;
}

void arena_reset(struct arena *a)
{
	struct arena_block *b = a->block;
	a->taken = 0;
	if (!b)
		return;
	free_blocks(a, b->older);
	b->older = NULL;
	if (b->size > KEPT_BLOCK) {
		free_blocks(a, b);
		a->block = NULL;
		a->p = a->end = NULL;
		return;
	}
	a->p = b->bytes;
	a->end = b->bytes + b->size;
}

/* Blocks double, so that few are needed, but only to a step that wastes little. */
static int more(struct arena *a, size_t n, struct err *e)
{
	size_t size = a->block ? a->block->size * 2 : FIRST_BLOCK;
	if (size > LARGEST_STEP)
		size = LARGEST_STEP;
	if (size < n)
		size = n;
	if (!charge(a, size))
		return err_set(e, ERR_NO_MEMORY, "what large messages may take together is used up");
	struct arena_block *b = malloc(sizeof *b + size);
	if (!b) {
		credit(a, size);
		return err_set(e, ERR_NO_MEMORY, "no memory for %zu bytes of a message", n);
	}
	b->older = a->block;
	b->size = size;
	a->block = b;
	a->p = b->bytes;
	a->end = b->bytes + size;
	return 0;
}

void *arena_get(struct arena *a, size_t n, struct err *e)
{
	if (n > a->limit || a->limit - n < a->taken) {
		err_set(e, ERR_TOO_LARGE, "a message that needs more than %zu bytes of memory once decoded", a->limit);
		return NULL;
	}
	n = n ? (n + ALIGN - 1) & ~(size_t)(ALIGN - 1) : ALIGN;
	if ((size_t)(a->end - a->p) < n && more(a, n, e) < 0)
		return NULL;
	void *got = a->p;
	a->p += n;
	a->taken += n;
	return got;
}
