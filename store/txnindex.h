/*
 * txnindex: the aborted transactions that end in a segment (.txnindex), as Kafka writes them.
 *
 * 34 bytes an entry, big-endian: version i16 (0) | producer id i64 | first offset i64 | last offset i64 (its abort marker) | last stable
 * offset i64. The file exists only where there is an entry. Entries rise strictly by last offset. The last stable offset is the first offset of the oldest
 * transaction still open then, else the offset behind the marker.
 *
 * thread: one writer (the log's appender); any readers. Entries are few: each segment keeps them in memory once loaded.
 */
#ifndef STORE_TXNINDEX_H
#define STORE_TXNINDEX_H

#include <stddef.h>
#include <stdint.h>

#include "store/err.h"

struct aborted_txn { int64_t producer_id, first_offset, last_offset, last_stable_offset; };

/* Reads all entries into an array that the caller frees (*n may be 0, *list NULL; a missing or empty file is that, and a failure). ERR_CORRUPT: bad version
 * or size, an entry that ends below base_offset or before it begins, a negative field, or not rising. */
int txnindex_load(const char *path, int64_t base_offset, struct aborted_txn **list, size_t *n, struct err *e);
/* Appends one, making the file if need be; on failure it is cut back, or gone where it would be empty. Not durable. */
int txnindex_append(const char *path, const struct aborted_txn *a, struct err *e);
/* Replaces the file (durable: fsync); n 0 removes it. */
int txnindex_write(const char *path, const struct aborted_txn *list, size_t n, struct err *e);

#endif
