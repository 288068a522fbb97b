/*
 * clean_swap: putting cleaned segments in the place of those that they were made from, so that a crash at any moment leaves one or the other.
 *
 * As Kafka does it, file by file, with the same names:
 *   1. <base>.log.cleaned, .index.cleaned, .timeindex.cleaned, .txnindex.cleaned are written and on disk, names too.
 *   2. They are renamed to .swap, the .log last. With that on disk the new ones count: until then any .cleaned, and the .swap beside it, is thrown away.
 *   3. The old segments are renamed to .deleted; that is on disk before
 *   4. .swap is taken off the names of the new ones.
 * What is left of a segment that a cleaning empties is nothing: then the old ones are renamed to .deleted, in order, each on disk before the next, so that no marker goes before
 * its transaction.
 *
 * clean_finish, when a log is opened, completes or undoes what was interrupted, whoever did: also what a real Kafka left.
 */
#ifndef STORE_CLEAN_SWAP_H
#define STORE_CLEAN_SWAP_H

#include "store/log.h"

/* Who cleans a log must not touch its names while somebody else may: the topic may have been deleted, and another have the directory's name. Between the two calls the caller has
 * the appender's right, and the log is one to be used. enter fails where it is not: ERR_DELETED, ERR_OFFLINE. */
struct clean_guard {
	int (*enter)(void *arg, struct err *e);
	void (*leave)(void *arg);
	void *arg;
};

struct clean_swap {
	struct log *log;
	const struct clean_guard *guard;
	struct segment **old;      /* borrowed: side by side in the log, none of them the active one */
	size_t old_count;
	uint32_t size_bytes;       /* of the new .log; 0: nothing is left */
	int64_t max_timestamp_ms, max_timestamp_offset;
	const struct aborted_txn *aborted; /* borrowed: what ends in it */
	size_t aborted_count;
	bool committed;            /* out: the .swap files count, or old segments are going. No way back: a failure from here on is ERR_IO, and opening the log goes on with it */
};

/* The files .cleaned are on disk by the caller. ERR_INTERRUPTED: the log is another by now; nothing was done. */
int clean_swap_run(struct clean_swap *s, struct err *e);

/* Removes the .cleaned files of a cleaning that is given up. guard entered. ERR_IO where that fails. */
int clean_remove(const char *dir, int64_t base_offset, struct err *e);

/* Completes what a cleaner has left in the directory of a log that is not open yet. ERR_OFFLINE where a .log.swap is damaged. */
int clean_finish(const char *dir, struct err *e);

#endif
