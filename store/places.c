#include "store/places.h"

/* false: another one is writing it. Release stores keep the fields behind the odd number. */
static bool cell_write(struct place_cell *c, int64_t offset, uint64_t serial, uint32_t position)
{
	uint32_t seq = atomic_load_explicit(&c->seq, memory_order_relaxed);
	if ((seq & 1) || !atomic_compare_exchange_strong(&c->seq, &seq, seq + 1))
		return false;
	atomic_store_explicit(&c->offset, offset, memory_order_release);
	atomic_store_explicit(&c->serial, serial, memory_order_release);
	atomic_store_explicit(&c->position, position, memory_order_release);
	atomic_store_explicit(&c->seq, seq + 2, memory_order_release);
	return true;
}

static bool cell_read(struct place_cell *c, int64_t offset, uint64_t serial, uint32_t *position)
{
	uint32_t seq = atomic_load_explicit(&c->seq, memory_order_acquire);
	if (atomic_load_explicit(&c->offset, memory_order_acquire) != offset || (seq & 1))
		return false;
	uint64_t found = atomic_load_explicit(&c->serial, memory_order_acquire);
	*position = atomic_load_explicit(&c->position, memory_order_acquire);
	return found == serial && atomic_load_explicit(&c->seq, memory_order_relaxed) == seq;
}

void places_note_append(struct places *x, int64_t offset, uint64_t serial, uint32_t position)
{
	uint32_t n = atomic_load_explicit(&x->newest, memory_order_relaxed);
	cell_write(&x->append[n % PLACES], offset, serial, position);
	atomic_store_explicit(&x->newest, n + 1, memory_order_release);
}

void places_note_bound(struct places *x, int64_t offset, uint64_t serial, uint32_t position)
{
	cell_write(&x->bound, offset, serial, position);
}

/* The newest first: that is what is asked for as a rule. */
bool places_find(struct places *x, int64_t offset, uint64_t serial, uint32_t *position)
{
	uint32_t newest = atomic_load_explicit(&x->newest, memory_order_acquire);
	uint32_t count = newest < PLACES ? newest : PLACES;
	for (uint32_t i = 1; i <= count; i++)
		if (cell_read(&x->append[(newest - i) % PLACES], offset, serial, position))
			return true;
	return cell_read(&x->bound, offset, serial, position);
}
