/*
 * clean_map: the greatest offset of each key in the dirty part of a log, in bounded memory.
 *
 * A key is kept as a hash of 128 bits (SipHash-2-4, keyed at random for each process: nobody can make two keys that meet), so an entry has 24 bytes whatever
 * the key's length. Open addressing; it is full when load_factor of its slots are taken, and the cleaner then goes on with what it has.
 *
 * thread: one.
 */
#ifndef STORE_CLEAN_MAP_H
#define STORE_CLEAN_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/err.h"

enum { CLEAN_MAP_ENTRY_BYTES = 24 };

struct clean_map {
	struct clean_entry *slot; /* owned, mapped */
	size_t slots, used, most;
	int64_t latest;           /* every record up to this offset is in it; -1: none is */
};

/* Memory for `keys` keys, at most `bytes`. ERR_NO_MEMORY; ERR_INVALID where that would not hold one key. */
int clean_map_init(struct clean_map *m, size_t bytes, double load_factor, uint64_t keys, struct err *e);
void clean_map_release(struct clean_map *m);

/* false: it is full, and has not changed. */
bool clean_map_put(struct clean_map *m, const void *key, size_t n, int64_t offset);
int64_t clean_map_get(const struct clean_map *m, const void *key, size_t n); /* -1: not in it */

#endif
