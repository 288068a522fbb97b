#include "cluster/net/block.h"

#include <stdlib.h>
#include <string.h>

/* Rounds up to a size that blocks have; *class: its number, BLOCK_CLASSES for those that are not kept. */
static size_t round_size(size_t size, size_t *class)
{
	if (size <= BLOCK_LINEAR) {
		size_t steps = size ? (size + BLOCK_STEP - 1) / BLOCK_STEP : 1;
		*class = steps - 1;
		return steps * BLOCK_STEP;
	}
	unsigned log = 63 - (unsigned)__builtin_clzl(size - 1); /* 2^log < size <= 2^(log + 1) */
	size_t quarter = (size_t)1 << (log - 2);
	size_t quarters = (size + quarter - 1) / quarter; /* 5 to 8 */
	*class = BLOCK_LINEAR / BLOCK_STEP + 4 * (log - 12) + (quarters - 5);
	size_t rounded = quarters * quarter;
	if (rounded > BLOCK_LARGEST)
		*class = BLOCK_CLASSES;
	return rounded;
}

void *block_take(struct block_pool *p, size_t *size, bool kept_only)
{
	size_t class;
	*size = round_size(*size, &class);
	void *block = class < BLOCK_CLASSES ? p->free[class] : NULL;
	if (!block)
		return kept_only ? NULL : malloc(*size);
	memcpy(&p->free[class], block, sizeof block);
	p->bytes -= *size;
	if (p->bytes < p->least)
		p->least = p->bytes;
	return block;
}

void block_give(struct block_pool *p, void *block, size_t size)
{
	size_t class;
	if (!block)
		return;
	round_size(size, &class);
	if (class >= BLOCK_CLASSES || p->bytes + size > BLOCK_KEPT) {
		free(block);
		return;
	}
	memcpy(block, &p->free[class], sizeof block);
	p->free[class] = block;
	p->bytes += size;
}

static size_t class_size(size_t class)
{
	if (class < BLOCK_LINEAR / BLOCK_STEP)
		return (class + 1) * BLOCK_STEP;
	size_t over = class - BLOCK_LINEAR / BLOCK_STEP;
	return (over % 4 + 5) << (over / 4 + 12 - 2);
}

static void free_bytes(struct block_pool *p, size_t bytes)
{
	for (size_t class = BLOCK_CLASSES; class-- && bytes;)
		while (p->free[class] && class_size(class) <= bytes) {
			void *block = p->free[class];
			memcpy(&p->free[class], block, sizeof block);
			free(block);
			p->bytes -= class_size(class);
			bytes -= class_size(class);
		}
}

void block_trim(struct block_pool *p)
{
	free_bytes(p, p->least);
	p->least = p->bytes;
}

void block_release(struct block_pool *p)
{
	free_bytes(p, p->bytes);
}
