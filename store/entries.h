/*
 * entries: a file of fixed-size entries after an optional header, appended by pwrite and read through a mapping.
 *
 * What .index, .timeindex and .view have in common. The file is always exactly as long as its entries, never preallocated
 * (Kafka's dump tool calls zeros corrupt). A writable file maps `reserve_bytes` of address space in advance, so that
 * entries are readable without remapping as they are added; only pages below the file's end are touched. The
 * count is an atomic: readers see an entry after its bytes.
 *
 * A failed append or truncation leaves the count as it was and cuts the file back. If even that fails the error is ERR_IO, and what stands behind
 * the entries is overwritten by the next append.
 *
 * A reader may still look at an entry below the count it has read when that entry is cut off meanwhile: it finds the old bytes, newer ones or zeros, so it
 * has to check what it reads. The pages that the file no longer reaches, where there would be SIGBUS, show zeros ("hidden") until it grows over them again.
 *
 * Where the file cannot be read behind its mapping (the disk fails, or somebody else has cut it), there would be SIGBUS too: the handler of
 * entries_guard_reads puts zeros there instead, so that such a file costs its own use and not the process.
 *
 * thread: one writer (the log's appender); any readers. locks: the list of what is open, a leaf, taken at opening and closing, and by that handler.
 */
#ifndef STORE_ENTRIES_H
#define STORE_ENTRIES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/err.h"

/* Installs that handler; SIGBUS from anywhere else is what it was. At the program's start; again is fine. */
void entries_guard_reads(void);

struct entries {
	int fd;
	uint32_t header_bytes, entry_bytes;
	char *path; /* owned; for the sentences */
	const uint8_t *map;
	size_t map_bytes;
	size_t hidden_from, hidden_to; /* whole pages of the map; the writer's */
	_Atomic uint32_t count;
	struct entries *next, **link; /* all that are open; the list's lock */
};

/* Opens or creates (create; only a file without a header is made from nothing). A trailing partial entry, or a file shorter than its header, is ERR_CORRUPT.
 * reserve_bytes: 0 for a read-only file (then its size is mapped). e's sentence names the path. After a failure x is closed. x stays where it is until it is closed. */
int entries_open(struct entries *x, const char *path, bool writable, bool create, uint32_t header_bytes, uint32_t entry_bytes,
		 size_t reserve_bytes, struct err *e);
void entries_close(struct entries *x); /* again is fine */

static inline uint32_t entries_count(const struct entries *x) { return atomic_load_explicit(&((struct entries *)x)->count, memory_order_acquire); }
static inline const uint8_t *entries_at(const struct entries *x, uint32_t i) { return x->map + x->header_bytes + (size_t)i * x->entry_bytes; }

/* ERR_NO_SPACE, ERR_IO; ERR_TOO_LARGE when the reserve is full. */
int entries_append(struct entries *x, const void *entry, struct err *e);
/* n entries back to back, all or none. */
int entries_append_many(struct entries *x, const void *entry, uint32_t n, struct err *e);
/* Down to `count` entries; nothing to do where there are no more than that. */
int entries_truncate(struct entries *x, uint32_t count, struct err *e);
/* The same for one who only looks on while the file is cut through another `struct entries`: to be called before that is done. */
int entries_hide(struct entries *x, uint32_t count, struct err *e);

#endif
