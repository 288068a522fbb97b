#include "store/view.h"

#include <stdlib.h>

#include "store/buf.h"
#include "store/io.h"

enum { VIEW_MAGIC = 0x53505657, CRC_AT = 20, HEADER_CRC_AT = 24 };

/* ---- entries ---- */

static uint32_t entry_crc(int64_t base_offset, uint32_t number, const uint8_t *entry)
{
	uint8_t salt[12];
	be64_put(salt, (uint64_t)base_offset);
	be32_put(salt + 8, number);
	return crc32c(crc32c(0, salt, sizeof salt), entry, CRC_AT);
}

static void put_entry(uint8_t *p, const struct view *v, uint32_t number, const struct view_entry *entry)
{
	be64_put(p, (uint64_t)entry->position);
	be32_put(p + 8, (uint32_t)(entry->offset - v->base_offset));
	be32_put(p + 12, entry->batch_position);
	be32_put(p + 16, entry->byte_in_batch);
	be32_put(p + CRC_AT, entry_crc(v->base_offset, number, p));
}

/* 1, or ERR_CORRUPT. */
int view_entry_at(const struct view *v, uint32_t i, struct view_entry *found)
{
	const uint8_t *p = entries_at(&v->e, i);
	if (be32_get(p + CRC_AT) != entry_crc(v->base_offset, i, p))
		return ERR_CORRUPT;
	*found = (struct view_entry){
		.position = (int64_t)be64_get(p), .offset = v->base_offset + be32_get(p + 8), .batch_position = be32_get(p + 12), .byte_in_batch = be32_get(p + 16)};
	return 1;
}

int view_last(const struct view *v, struct view_entry *found)
{
	uint32_t n = entries_count(&v->e);
	return n ? view_entry_at(v, n - 1, found) : 0;
}

/* ---- opening ---- */

static int check_header(const struct view *v, const char *path, struct err *e)
{
	const uint8_t *h = v->e.map;
	if (be32_get(h) != VIEW_MAGIC || be32_get(h + HEADER_CRC_AT) != crc32c(0, h, HEADER_CRC_AT) || be32_get(h + 28) != 0)
		return err_set(e, ERR_CORRUPT, "%s: its header is damaged", path);
	if (be16_get(h + 4) > VIEW_VERSION)
		return err_set(e, ERR_VERSION, "%s has version %u, this spoolfs knows %d", path, be16_get(h + 4), VIEW_VERSION);
	if (be16_get(h + 4) != VIEW_VERSION || be16_get(h + 6) != VIEW_ENTRY_BYTES || (int64_t)be64_get(h + 8) != v->base_offset)
		return err_set(e, ERR_CORRUPT, "%s: its header is not that of this segment", path);
	return 0;
}

int view_open(struct view *v, const char *path, int64_t base_offset, bool writable, size_t reserve_bytes, struct err *e)
{
	struct view_entry last;
	*v = (struct view){.base_offset = base_offset};
	int rc = entries_open(&v->e, path, writable, false, VIEW_HEADER_BYTES, VIEW_ENTRY_BYTES, reserve_bytes, e);
	if (rc < 0)
		return rc;
	rc = check_header(v, path, e);
	if (rc == 0 && view_last(v, &last) < 0)
		rc = err_set(e, ERR_CORRUPT, "%s: its last entry is damaged", path);
	if (rc < 0) {
		view_close(v);
		return rc;
	}
	v->first_position = (int64_t)be64_get(v->e.map + 16);
	return 0;
}

int view_create(struct view *v, const char *path, int64_t base_offset, int64_t first_position, size_t reserve_bytes, struct err *e)
{
	uint8_t h[VIEW_HEADER_BYTES] = {0};
	be32_put(h, VIEW_MAGIC);
	be16_put(h + 4, VIEW_VERSION);
	be16_put(h + 6, VIEW_ENTRY_BYTES);
	be64_put(h + 8, (uint64_t)base_offset);
	be64_put(h + 16, (uint64_t)first_position);
	be32_put(h + HEADER_CRC_AT, crc32c(0, h, HEADER_CRC_AT));
	*v = (struct view){.e.fd = -1};
	int sys = io_replace_file(path, h, sizeof h, false);
	if (sys < 0)
		return err_sys(e, sys, "cannot make %s", path);
	return view_open(v, path, base_offset, true, reserve_bytes, e);
}

void view_close(struct view *v)
{
	entries_close(&v->e);
}

/* One write, so that none of them is seen before all are there. */
int view_append_many(struct view *v, const struct view_entry *entry, uint32_t n, struct err *e)
{
	uint32_t count = entries_count(&v->e);
	uint8_t *bytes = malloc((size_t)n * VIEW_ENTRY_BYTES);
	if (n && !bytes)
		return err_set(e, ERR_NO_MEMORY, "no memory for %u entries of %s", n, v->e.path);
	for (uint32_t i = 0; i < n; i++)
		put_entry(bytes + (size_t)i * VIEW_ENTRY_BYTES, v, count + i, &entry[i]);
	int rc = entries_append_many(&v->e, bytes, n, e);
	free(bytes);
	return rc;
}

int view_append(struct view *v, const struct view_entry *entry, struct err *e)
{
	return view_append_many(v, entry, 1, e);
}

/* ---- finding ---- */

static int64_t key_at(const struct view *v, uint32_t i, bool by_offset)
{
	const uint8_t *p = entries_at(&v->e, i);
	return by_offset ? v->base_offset + be32_get(p + 8) : (int64_t)be64_get(p);
}

/* Keys grow so evenly with their numbers that a guess is mostly a page or two off, where halving would touch a page each step. Whatever damaged keys make of the
 * guess, it only costs steps. */
static uint32_t guess(const struct view *v, int64_t key, bool by_offset, uint32_t n)
{
	double first = (double)key_at(v, 0, by_offset), last = (double)key_at(v, n - 1, by_offset);
	double part = ((double)key - first) / (last - first);
	return part > 0 && part < 1 ? (uint32_t)(part * (n - 1)) : n / 2;
}

/* The number of the first entry behind `key`. */
static uint32_t behind(const struct view *v, int64_t key, bool by_offset, uint32_t n)
{
	enum { EVEN = 64 };
	uint32_t lo = 0, hi = n, stride = 8;
	if (n > EVEN) {
		uint32_t at = guess(v, key, by_offset, n);
		/* strides that double away from the guess, until they enclose what is looked for */
		if (key_at(v, at, by_offset) <= key) {
			for (lo = at + 1; hi - lo > stride && key_at(v, lo + stride - 1, by_offset) <= key; stride *= 2)
				lo += stride;
			if (hi - lo > stride)
				hi = lo + stride - 1;
		} else {
			for (hi = at; hi - lo > stride && key_at(v, hi - stride, by_offset) > key; stride *= 2)
				hi -= stride;
			if (hi - lo > stride)
				lo = hi - stride + 1;
		}
	}
	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		if (key_at(v, mid, by_offset) <= key)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* Damage may lead the search astray, but not past the check: the entry found and its right neighbour must be valid, in their places, and enclose
 * what is looked for. */
static int find(const struct view *v, int64_t key, bool by_offset, struct view_entry *found, uint32_t *number)
{
	uint32_t n = entries_count(&v->e), lo = behind(v, key, by_offset, n);
	struct view_entry next;
	if (lo < n && (view_entry_at(v, lo, &next) < 0 || (by_offset ? next.offset : next.position) <= key))
		return ERR_CORRUPT;
	if (lo == 0)
		return 0;
	if (view_entry_at(v, lo - 1, found) < 0 || (by_offset ? found->offset : found->position) > key)
		return ERR_CORRUPT;
	*number = lo - 1;
	return 1;
}

int view_find_position(const struct view *v, int64_t position, struct view_entry *found, uint32_t *number)
{
	return find(v, position, false, found, number);
}

int view_find_offset(const struct view *v, int64_t offset, struct view_entry *found)
{
	uint32_t number;
	return find(v, offset, true, found, &number);
}

/* A damaged entry does not say whether it is to go, and those before it may have to: it goes too. */
static uint32_t entries_before(const struct view *v, uint32_t batch_position)
{
	uint32_t n = entries_count(&v->e);
	struct view_entry last;
	while (n > 0 && (view_entry_at(v, n - 1, &last) < 0 || last.batch_position >= batch_position))
		n--;
	return n;
}

int view_truncate(struct view *v, uint32_t batch_position, struct err *e)
{
	return entries_truncate(&v->e, entries_before(v, batch_position), e);
}

int view_hide(struct view *v, uint32_t batch_position, struct err *e)
{
	return entries_hide(&v->e, entries_before(v, batch_position), e);
}
