/*
 * clean: compaction. Of each key the newest record is left, and of deleted keys nothing, after a while.
 *
 * A log has a clean part, which a cleaning has been through, and a dirty one, from the checkpointed offset on. A round:
 *   1. The dirty part is read, from its beginning to the first segment that may not be cleaned yet or until the map is full: the greatest offset of each key (clean_map).
 *   2. All of the log up to there is read again, segments side by side in groups that fit one, and what is left is written to <base>.log.cleaned (clean_filter), with indexes.
 *   3. Each group is put in the place of its segments (clean_swap).
 *   4. The caller notes log_clean_end as the end of the clean part.
 *
 * Not cleaned are: the active segment; what is not stable (below the high watermark, and decided); what is younger than min.compaction.lag.ms. Before anything goes, all that is in the
 * log is flushed: what makes a record obsolete must not be lost after it.
 *
 * A round goes on in steps, each as long as the caller wants, so that it shares threads with others and can be held to a rate. Readers and appenders are not held up: the guard
 * is entered for the moments in which names change.
 *
 * thread: one at a time for each round; log_clean_plan by any. Only one round of a log at a time.
 */
#ifndef STORE_CLEAN_H
#define STORE_CLEAN_H

#include "store/clean_swap.h"

struct clean_conf {
	size_t map_bytes;            /* log.cleaner.dedupe.buffer.size, this round's share */
	double load_factor;          /* log.cleaner.io.buffer.load.factor */
	size_t io_bytes;             /* log.cleaner.io.buffer.size, this round's share */
	uint32_t segment_bytes, index_bytes, interval_bytes; /* of the topic */
	int64_t min_lag_ms, max_lag_ms, delete_retention_ms;
};

struct clean_plan {
	int64_t first_dirty, end;    /* offsets: the dirty part that may be cleaned; end is where a segment begins */
	int64_t clean_bytes, dirty_bytes;
	bool overdue;                /* max.compaction.lag.ms has passed: it is to be cleaned however little is dirty */
	int64_t look_again_ms;       /* when time alone may change that; INT64_MAX */
};

/* clean_offset: where the last round ended, -1: there was none. stable: the least of high watermark and last stable offset. */
int log_clean_plan(struct log *l, int64_t clean_offset, int64_t stable, const struct clean_conf *conf, int64_t now_ms, struct clean_plan *plan, struct err *e);
static inline double clean_plan_ratio(const struct clean_plan *p) { int64_t all = p->clean_bytes + p->dirty_bytes; return all ? (double)p->dirty_bytes / (double)all : 0; }

struct log_clean;

struct clean_stats { uint64_t bytes_read, bytes_written, records_read, records_kept, keyless, keys; };

/* l: borrowed, sequential, and stays open until log_clean_free. guard: borrowed. */
int log_clean_begin(struct log_clean **out, struct log *l, const struct clean_plan *plan, const struct clean_conf *conf, const struct clean_guard *guard, int64_t now_ms,
		    struct err *e);
/* Goes on for about that many bytes read and written. 1: there is more to do; 0: the round is over. ERR_CORRUPT, ERR_TOO_LARGE, ERR_UNSUPPORTED: this log cannot be cleaned.
 * ERR_NO_SPACE, ERR_NO_MEMORY: maybe later. ERR_INTERRUPTED: the log changed (segments were deleted). ERR_DELETED, ERR_OFFLINE: it is not to be used. ERR_IO: nor is its directory. After
 * an error only log_clean_free may follow; groups that were done stay so. */
int log_clean_step(struct log_clean *c, uint64_t bytes, struct err *e);
/* Once the round is over: the dirty part begins there. */
int64_t log_clean_end(const struct log_clean *c);
void log_clean_stats(const struct log_clean *c, struct clean_stats *s);
/* Removes what an unfinished group has written. NULL is fine. */
void log_clean_free(struct log_clean *c);

#endif
