/*
 * fetch: from offsets and times to what lies in the segments: file ranges for those who send batches as they are, offsets by timestamp, records for those
 * who load a log into memory.
 *
 * A range's segment is referenced and pinned: its descriptor stays open and its bytes stay what they are until log_fetch_release, though retention, compaction or the cutting of
 * the log's end may have taken it out of the log meanwhile. A .log is never cut in a range that somebody has (store/truncate.c): so sendfile sends whole batches.
 *
 * What is below `bound` is settled by the caller (high watermark, last stable offset, log end); everything here is bounded by it, not by what is in the
 * file at the moment, so it may run while the log is appended to.
 *
 * thread: any. The log outlives the ranges. locks: only those that a pin or the shape take.
 */
#ifndef STORE_FETCH_H
#define STORE_FETCH_H

#include <stdbool.h>
#include <stdint.h>

#include "store/log.h"

/* ---- ranges ---- */

enum { FETCH_RANGES = 4 };

struct log_range {
	struct segment *segment; /* its fd is what to read from */
	uint32_t position, bytes;
};

struct fetched_abort { int64_t producer_id, first_offset; };

struct log_fetch {
	/* what is wanted: */
	int64_t offset;     /* within [log start, bound] */
	int64_t bound;      /* only batches that end below it */
	uint32_t max_bytes;
	bool min_one;       /* the first batch whole, though it is larger than that */
	bool aborted;       /* with the aborted transactions of what is read */
	bool wait;          /* may open a segment's files; else 1 is returned where that is needed */
	/* what there is: */
	struct log_range range[FETCH_RANGES];
	uint32_t range_count;
	uint32_t bytes;     /* of all ranges; 0: nothing, or a first batch larger than max_bytes */
	bool cut;           /* there may be more below bound */
	uint32_t abort_count;
	struct fetched_abort *abort; /* owned; by their markers' offsets */
};

/*
 * Fills the lower half: whole batches, in order, from the one that holds `offset` (or, where compaction took it, the next) on. 0; 1: it would have to open
 * files, and wait is not set; ERR_OUT_OF_RANGE: the log starts behind `offset` by now; ERR_CORRUPT, ERR_IO, ERR_NO_MEMORY, ERR_LIMIT. After anything but 0 there is nothing to release.
 *
 * Costs: from the end of one of the last appends to the end of another, no system call. Else one index lookup and the headers of at most an index interval for each end
 * that is not known, and one header where max_bytes cuts.
 */
int log_fetch(struct log *l, struct log_fetch *f, struct err *e);
void log_fetch_release(struct log_fetch *f); /* again is fine, and after a failure */

/* ---- offsets ---- */

struct log_offset {
	int64_t offset, timestamp_ms; /* -1, -1: there is none */
	int32_t leader_epoch;         /* -1: not known */
};

/* The first record at or past the log start with a timestamp of at least timestamp_ms. */
int log_offset_of_time(struct log *l, int64_t timestamp_ms, struct log_offset *found, struct err *e);
/* The first record that has the greatest timestamp in the log. */
int log_offset_of_max_time(struct log *l, struct log_offset *found, struct err *e);
/* The log start, with the epoch in force there. leader_epoch, here and below: the leader's, which has begun at the log end if it has no batch yet. */
void log_offset_of_start(struct log *l, int32_t leader_epoch, struct log_offset *found);
/* As epochs_end_of, at this moment. */
void log_epoch_end(struct log *l, int32_t leader_epoch, int32_t epoch, int32_t *found_epoch, int64_t *end_offset);

/* ---- records ---- */

/* Calls fn for each record with an offset in [from, to), in order, control records too; both are borrowed for the call. fn returns 0 to go on, anything else
 * ends the scan and is returned. Each batch's crc is checked: ERR_CORRUPT. ERR_OUT_OF_RANGE: the log starts behind `from`, or came to do so before it was read. */
typedef int (*log_record_fn)(void *arg, const struct batch *b, const struct record *r);
int log_scan_records(struct log *l, int64_t from, int64_t to, log_record_fn fn, void *arg, struct err *e);

#endif
