/*
 * entries: a file of fixed-size entries after an optional header, appended by pwrite and read through a mapping.
 *
 * What .index, .timeindex, .view and .txnindex have in common. The file is always exactly as long as its entries, never preallocated
 * (Kafka's dump tool calls zeros corrupt). A writable file maps `reserve_bytes` of address space in advance, so that
 * entries are readable without remapping as they are added; only pages below the file's end are touched. The
 * count is an atomic: readers see an entry after its bytes.
 *
 * A failed append leaves the count as it was and cuts the file back.
 *
 * thread: one writer (the log's appender); any readers. locks: none.
 */
#ifndef STORE_ENTRIES_H
#define STORE_ENTRIES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/err.h"

struct entries {
	int fd;
	uint32_t header_bytes, entry_bytes;
	const uint8_t *map;
	size_t map_bytes;
	_Atomic uint32_t count;
};

/* Opens or creates (create). A trailing partial entry, or a file shorter than its header, is ERR_CORRUPT. reserve_bytes: 0 for a read-only file
 * (then its size is mapped). e's sentence names the path. */
int entries_open(struct entries *x, const char *path, bool writable, bool create, uint32_t header_bytes, uint32_t entry_bytes,
		 size_t reserve_bytes, struct err *e);
void entries_close(struct entries *x);

static inline uint32_t entries_count(const struct entries *x) { return atomic_load_explicit(&((struct entries *)x)->count, memory_order_acquire); }
static inline const uint8_t *entries_at(const struct entries *x, uint32_t i) { return x->map + x->header_bytes + (size_t)i * x->entry_bytes; }

/* ERR_NO_SPACE, ERR_IO; ERR_TOO_LARGE when the reserve is full. */
int entries_append(struct entries *x, const void *entry, struct err *e);
/* n entries back to back, all or none. */
int entries_append_many(struct entries *x, const void *entry, uint32_t n, struct err *e);
int entries_truncate(struct entries *x, uint32_t count, struct err *e);

#endif
