/*
 * clean_filter: what of a batch is left when a log is cleaned.
 *
 * The rules are Kafka's (its Cleaner and MemoryRecords.filterTo), batch by batch, all of the log in order:
 *
 *   - A record whose key has a later one in the map goes, and one without a key; what lies past the map's end stays as it is.
 *   - A null value, a tombstone, stays until delete.retention.ms have passed since a cleaning first met it as the latest of its key. That is noted in the batch: bit 6 of
 *     the attributes, and the moment when it may go as base timestamp (KIP-534).
 *   - Records of aborted transactions go. A marker stays as long as a batch of its transaction does, then as long as a tombstone.
 *   - A batch keeps base offset, last offset, epoch, producer and sequence whatever is left of it; with nothing left it goes, but for the newest of a producer, whose
 *     sequence and epoch must stay known, and the last before the end, whose offset must. Those stay as a header.
 *   - What is left is compressed with the batch's own codec. A batch of which nothing went is copied as it is.
 *
 * thread: one.
 */
#ifndef STORE_CLEAN_FILTER_H
#define STORE_CLEAN_FILTER_H

#include "store/batch.h"
#include "store/clean_map.h"
#include "store/producers.h"
#include "store/txnindex.h"

struct seen_txn; /* producers with batches since their last marker; a uthash */

struct clean_filter {
	const struct clean_map *map;          /* borrowed */
	const struct producers *producers;    /* borrowed: as of the end of the log */
	int64_t end_offset;                   /* of this round: the first offset that is not looked at */
	int64_t now_ms, delete_retention_ms;
	struct seen_txn *seen;                /* owned */
	struct wr area, kept;                 /* owned: records decompressed, and those left */
	uint64_t records_read, records_kept, keyless;
};

void clean_filter_init(struct clean_filter *f);
void clean_filter_release(struct clean_filter *f);

/* Appends to out what is left of the batch (all its bytes at `bytes`, its crc checked); *left: whether there is anything, and its header. aborted: whether it belongs to an
 * aborted transaction. *keep_aborted: it is a marker that stays because batches of its transaction were there: so must its entry in the .txnindex.
 * ERR_CORRUPT, ERR_NO_MEMORY, ERR_TOO_LARGE. */
int clean_filter_batch(struct clean_filter *f, const struct batch *b, const uint8_t *bytes, bool aborted, struct wr *out, struct batch *left, bool *is_left,
		       bool *keep_aborted, struct err *e);

#endif
