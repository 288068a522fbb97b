#include "store/index.h"

#include <inttypes.h>

#include "store/buf.h"

enum { OFFSET_ENTRY_BYTES = 8, TIME_ENTRY_BYTES = 12 };

/* ---- offsets ---- */

static uint32_t rel_at(const struct offset_index *x, uint32_t i)
{
	return be32_get(entries_at(&x->e, i));
}

static uint32_t position_at(const struct offset_index *x, uint32_t i)
{
	return be32_get(entries_at(&x->e, i) + 4);
}

/* The last entries only: a whole scan is not for every open, and an entry is checked again when it is used. A segment's first batch never has
 * an entry, so one at position 0 is what is left of a preallocated file. */
static bool offsets_sane(const struct offset_index *x, uint32_t log_bytes)
{
	uint32_t n = entries_count(&x->e);
	if (n == 0)
		return true;
	if (rel_at(x, n - 1) > INT32_MAX || position_at(x, n - 1) == 0 || position_at(x, n - 1) >= log_bytes)
		return false;
	return n < 2 || (rel_at(x, n - 2) < rel_at(x, n - 1) && position_at(x, n - 2) < position_at(x, n - 1));
}

static size_t reserve(size_t max_bytes, size_t entry_bytes)
{
	return max_bytes / entry_bytes * entry_bytes;
}

int offset_index_open(struct offset_index *x, const char *path, int64_t base_offset, bool writable, bool create, size_t max_bytes, uint32_t log_bytes, struct err *e)
{
	x->base_offset = base_offset;
	int rc = entries_open(&x->e, path, writable, create, 0, OFFSET_ENTRY_BYTES, writable ? reserve(max_bytes, OFFSET_ENTRY_BYTES) : 0, e);
	if (rc == 0 && !offsets_sane(x, log_bytes)) {
		entries_close(&x->e);
		rc = err_set(e, ERR_CORRUPT, "%s: its last entries do not fit a log of %u bytes", path, log_bytes);
	}
	return rc;
}

void offset_index_close(struct offset_index *x)
{
	entries_close(&x->e);
}

uint32_t offset_index_room(const struct offset_index *x)
{
	size_t most = x->e.map_bytes / OFFSET_ENTRY_BYTES, n = entries_count(&x->e);
	return most > n ? (uint32_t)(most - n) : 0;
}

bool offset_index_is_full(const struct offset_index *x)
{
	return offset_index_room(x) == 0;
}

int offset_index_append(struct offset_index *x, int64_t last_offset, uint32_t position, struct err *e)
{
	uint8_t entry[OFFSET_ENTRY_BYTES];
	be32_put(entry, (uint32_t)(last_offset - x->base_offset));
	be32_put(entry + 4, position);
	return entries_append(&x->e, entry, e);
}

/* The number of entries at or below `offset`. */
static uint32_t offsets_upto(const struct offset_index *x, int64_t offset)
{
	uint32_t lo = 0, hi = entries_count(&x->e);
	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		if (x->base_offset + rel_at(x, mid) <= offset)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

void offset_index_entry(const struct offset_index *x, uint32_t i, int64_t *offset, uint32_t *position)
{
	*offset = x->base_offset + rel_at(x, i);
	*position = position_at(x, i);
}

void offset_index_find(const struct offset_index *x, int64_t offset, int64_t *entry_offset, uint32_t *position)
{
	uint32_t n = offsets_upto(x, offset);
	*entry_offset = x->base_offset;
	*position = 0;
	if (n)
		offset_index_entry(x, n - 1, entry_offset, position);
}

bool offset_index_find_position(const struct offset_index *x, uint32_t position, int64_t *entry_offset, uint32_t *entry_position)
{
	uint32_t lo = 0, hi = entries_count(&x->e);
	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		if (position_at(x, mid) <= position)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo)
		offset_index_entry(x, lo - 1, entry_offset, entry_position);
	return lo > 0;
}

int offset_index_truncate(struct offset_index *x, int64_t offset, struct err *e)
{
	return entries_truncate(&x->e, offsets_upto(x, offset - 1), e);
}

int offset_index_hide(struct offset_index *x, int64_t offset, struct err *e)
{
	return entries_hide(&x->e, offsets_upto(x, offset - 1), e);
}

/* ---- times ---- */

void time_index_entry(const struct time_index *x, uint32_t i, int64_t *timestamp_ms, int64_t *offset)
{
	const uint8_t *p = entries_at(&x->e, i);
	*timestamp_ms = (int64_t)be64_get(p);
	*offset = x->base_offset + be32_get(p + 8);
}

static bool times_sane(const struct time_index *x)
{
	uint32_t n = entries_count(&x->e);
	int64_t last, offset, before, offset_before;
	if (n == 0)
		return true;
	time_index_entry(x, n - 1, &last, &offset);
	if (last < 0 || offset - x->base_offset > INT32_MAX)
		return false;
	if (n < 2)
		return true;
	time_index_entry(x, n - 2, &before, &offset_before);
	return before < last && offset_before <= offset;
}

int time_index_open(struct time_index *x, const char *path, int64_t base_offset, bool writable, bool create, size_t max_bytes, struct err *e)
{
	x->base_offset = base_offset;
	int rc = entries_open(&x->e, path, writable, create, 0, TIME_ENTRY_BYTES, writable ? reserve(max_bytes, TIME_ENTRY_BYTES) : 0, e);
	if (rc == 0 && !times_sane(x)) {
		entries_close(&x->e);
		rc = err_set(e, ERR_CORRUPT, "%s: its last entries do not rise", path);
	}
	return rc;
}

void time_index_close(struct time_index *x)
{
	entries_close(&x->e);
}

/* One entry is kept free: sealing a segment adds the last. */
uint32_t time_index_room(const struct time_index *x)
{
	size_t most = x->e.map_bytes / TIME_ENTRY_BYTES, n = (size_t)entries_count(&x->e) + 1;
	return most > n ? (uint32_t)(most - n) : 0;
}

bool time_index_is_full(const struct time_index *x)
{
	return time_index_room(x) == 0;
}

bool time_index_last(const struct time_index *x, int64_t *timestamp_ms, int64_t *offset)
{
	uint32_t n = entries_count(&x->e);
	if (n)
		time_index_entry(x, n - 1, timestamp_ms, offset);
	return n > 0;
}

int time_index_append(struct time_index *x, int64_t timestamp_ms, int64_t offset, struct err *e)
{
	uint8_t entry[TIME_ENTRY_BYTES];
	int64_t last, last_offset;
	if (timestamp_ms < 0 || (time_index_last(x, &last, &last_offset) && timestamp_ms <= last)) /* -1: no record had one */
		return 0;
	be64_put(entry, (uint64_t)timestamp_ms);
	be32_put(entry + 8, (uint32_t)(offset - x->base_offset));
	return entries_append(&x->e, entry, e);
}

bool time_index_find(const struct time_index *x, int64_t timestamp_ms, int64_t *entry_timestamp_ms, int64_t *entry_offset)
{
	uint32_t lo = 0, hi = entries_count(&x->e);
	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		int64_t timestamp, offset;
		time_index_entry(x, mid, &timestamp, &offset);
		if (timestamp < timestamp_ms)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo)
		time_index_entry(x, lo - 1, entry_timestamp_ms, entry_offset);
	return lo > 0;
}

/* The number of entries before the first of those at the end that are at or past `offset`. */
static uint32_t times_below(const struct time_index *x, int64_t offset)
{
	uint32_t n = entries_count(&x->e);
	int64_t timestamp, at;
	while (n > 0) {
		time_index_entry(x, n - 1, &timestamp, &at);
		if (at < offset)
			break;
		n--;
	}
	return n;
}

int time_index_truncate(struct time_index *x, int64_t offset, struct err *e)
{
	return entries_truncate(&x->e, times_below(x, offset), e);
}

int time_index_hide(struct time_index *x, int64_t offset, struct err *e)
{
	return entries_hide(&x->e, times_below(x, offset), e);
}
