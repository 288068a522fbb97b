/*
 * log: the log of one partition: its segments in order, where it starts and ends, what it knows of epochs and producers, and how far
 * its view is projected.
 *
 * The list of segments (with the list of aborted transactions) is an immutable, reference-counted `struct log_shape`; a change makes a new one. Readers take a
 * reference and need no lock after that. Offsets and sizes that readers look at are atomics.
 *
 * A log that is compacted is `sequential`: its records have no positions, its segments no .view; sequence.c reads it in order of offsets. In it offsets may be missing anywhere.
 *
 * What is in which file: log.c append, roll, flush, log start, close; follow.c append what a leader sent; truncate.c cut the end, begin anew; log_recall.c what a snapshot has not kept;
 * log_replay.c what it has, and the batches since; log_open.c open; recover.c after an unclean stop; project.c advances and rebuilds the view;
 * cursor.c reads it; fetch.c finds what is sent as it is, offsets by time, and records; retention.c decides what is too old; clean.c compacts it;
 * log_mode.c makes it sequential, or gives it positions again.
 *
 * thread: functions marked "appender" are called by one thread at a time, which the owner (cluster/partition) sees to; the others by any.
 * locks: view_lock (only who must rebuild a .view), then segment locks, then list_lock (a leaf: only for swapping and taking the shape).
 */
#ifndef STORE_LOG_H
#define STORE_LOG_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "store/batch.h"
#include "store/checkpoint.h"
#include "store/conf.h"
#include "store/epochs.h"
#include "store/err.h"
#include "store/places.h"
#include "store/producers.h"
#include "store/segment.h"

struct pool;

extern const struct conf_property store_properties[];

struct log_shape {
	_Atomic uint32_t refs;
	size_t segment_count, aborted_count;
	struct segment **segment;      /* by base offset; the last is the active one. Each holds a reference */
	struct aborted_txn *aborted;   /* by last offset */
};

struct log_limits { /* topic properties in force; may change at any time */
	uint32_t segment_bytes;        /* segment.bytes */
	uint32_t index_bytes;          /* segment.index.bytes */
	uint32_t interval_bytes;       /* index.interval.bytes */
	int64_t segment_ms;            /* segment.ms */
};

struct log {
	char *dir, *name;              /* owned: the directory, and "topic-partition" for messages */
	struct segment_cache *cache;   /* borrowed */
	struct pool *pool;             /* borrowed */
	struct log_limits limits;      /* the appender's; log_set_limits */

	pthread_mutex_t list_lock;
	struct log_shape *shape;
	pthread_mutex_t view_lock;     /* one rebuilds a view at a time; held over that I/O, taken by nobody who need not */

	_Atomic int64_t start_offset, start_position; /* where the log starts; changed by the appender, durable before */
	_Atomic int64_t leo;
	_Atomic int64_t bytes;         /* of all .log files */
	_Atomic int64_t flushed_offset; /* everything below is on disk: the recovery point */
	_Atomic int64_t written_bytes; /* since it was opened; never less */
	struct places places;          /* where the last appends lie */
	_Atomic uint32_t cuts;         /* how often its end was cut; under list_lock, counted when the LEO is lower already */
	int64_t flush_limit;           /* flushed_offset does not pass it; under list_lock */
	bool gaps;                     /* offsets may be missing: it is, or was, compacted */
	_Atomic bool sequential;       /* compacted: view_position stays at start_position, which is where positions begin if it gets them again. The appender's to change */

	/* the appender's */
	struct epochs epochs;          /* changed under list_lock too, so that others may look at them under that */
	struct producers *producers;
	_Atomic int64_t view_offset, view_position; /* projected up to here: view_offset is the offset of a batch or the LEO */
	int64_t since_index_bytes;     /* log bytes since the last index entry */
	int64_t since_view_bytes;      /* log bytes since the last view entry */
	int64_t snapshot_offset;       /* of the newest .snapshot; -1 */
	bool deleted_pending;          /* .deleted files wait to be removed */
	_Atomic bool keep_head;        /* segments are being replaced: none goes meanwhile */
	bool views_gone;               /* of a sequential log: it is on disk that no segment has a .view */
	bool changed;                  /* since it was opened */
	bool recovered;                /* was opened without a trusted row: single nodes bump the leader epoch then */
	struct wr scratch;             /* for decompressing while projecting */
	struct segment **left;         /* owned array, with references: those that were cut while somebody had them pinned */
	size_t left_count;
};

struct consent;

struct log_open {
	const char *dir, *name;
	struct segment_cache *cache;
	struct pool *pool;
	struct log_limits limits;
	const struct partition_row *row; /* what a checkpoint says of it and the caller trusts; NULL: recover */
	int64_t recovery_point;        /* without a row: below it nothing is ever cut */
	int64_t start_offset;          /* Kafka's log-start-offset-checkpoint; 0 */
	int64_t pair_offset, pair_position; /* view-start-checkpoint; -1, -1: no row there */
	bool gaps;                     /* offsets may be missing between batches: Kafka made it, and may have compacted it */
	bool foreign;                  /* nothing of it was ever projected: its view starts at (log start, 0) */
	bool compacted;                /* it is, or was once: offsets may be missing between segments too, and only a row's word is good for its .view files */
	bool sequential;               /* it is to be: cleanup.policy has compact */
	bool clean;                    /* the last stop was clean: without a row the log is whole all the same */
	struct consent *accepted;      /* borrowed; what may be lost (consent.h), and then what was */
	bool keep;                     /* segments below the log start stay where they are */
	bool read_only;                /* it may not be written: files are opened for reading alone */
	const int64_t *visible_limit;  /* recovered, the log is projected up to here at most; NULL: as far as it goes */
};

/* Opens, and recovers where there is no trusted row. ERR_OFFLINE, with a sentence for people, where the log must not be used as it is
 * (damage in the middle, something missing below the recovery point); ERR_IO, ERR_NO_MEMORY. */
int log_open(struct log **out, const struct log_open *o, struct err *e);
/* appender. Before it is freed in good order: everything is on disk, and the producer snapshot where the log changed. */
int log_settle(struct log *l, struct err *e);
/* Frees without writing anything. NULL is fine. */
void log_free(struct log *l);

struct log_shape *log_shape_take(struct log *l);
void log_shape_drop(struct log *l, struct log_shape *s);
void log_set_limits(struct log *l, const struct log_limits *limits); /* appender */

/* ---- writing: appender ---- */

/* Appends whole sets in order, all or nothing of each: *done_sets tells how many are in the log, also on error; base_offset[i] is where set i
 * begins. committed: the records are visible as soon as they are written, so the view is projected along. */
int log_append(struct log *l, struct record_set *const *sets, size_t n, int32_t leader_epoch, bool committed, int64_t *base_offset, size_t *done_sets, struct err *e);

/* Begins a new segment if the active one is not empty. */
int log_roll(struct log *l, struct err *e);

/* ---- following: appender ---- */

/* Appends what a leader sent, as it is: whole v2 batches with their offsets and epochs. A last one that is cut off is left out (a Fetch may end so), and so is all behind a length that
 * goes past the end. *appended_end: the LEO, afterwards. All or nothing: lengths, CRCs, codecs, counts, order and epochs of all are checked before anything is written.
 *   ERR_CORRUPT        bytes that are no batch, a CRC that does not match, offsets or epochs that go back within them, an offset that is missing where the log may have no gaps
 *   ERR_UNSUPPORTED    batches from before Kafka 0.11
 *   ERR_OUT_OF_RANGE   the first one does not begin where the log ends: before it, or (in a log that may have no gaps) behind it. To be cut, or fetched from elsewhere
 *   ERR_NO_SPACE, ERR_NO_MEMORY, ERR_LIMIT: nothing has changed. ERR_IO: nobody may append any more
 * An epoch is on disk before its first batch. Nothing becomes visible: that is log_project's, up to the high watermark and the last stable offset. */
int log_append_exact(struct log *l, const void *bytes, size_t n, int64_t *appended_end, struct err *e);

/* The two below write over what may be on disk below the recovery point, and recovery takes a log that ends below that for damaged. So the caller, in this order: holds it with
 * log_hold_flushed (at the same offset, for log_restart at the least of that and the log start as it was); has a recovery-point checkpoint written, where the last one said more; then makes
 * the call, which lifts the hold when it has succeeded. Many logs can be held before one checkpoint. What else is noted above the cut is the caller's to lower as well: the high
 * watermark, the visible end, the cleaner's checkpoint. */

/* From now on flushed_offset, whatever is flushed, is at most where a log_truncate at `offset` would end; below the log start, `offset` itself. INT64_MAX: no more. ERR_IO, ERR_CORRUPT:
 * that cannot be found out; nothing has changed. */
int log_hold_flushed(struct log *l, int64_t offset, struct err *e);

/* Cuts the end: every batch whose last offset is at or past `offset` goes. The LEO is where the last batch that stays ends, so at most `offset`; below it where a batch has it in its
 * middle, or where compaction has taken what was before: what is fetched from there on makes that good. Where nothing stays, the log begins anew at its start. What is visible, and its
 * position, goes back with it, and to the beginning of a transaction whose end is cut; whether that may be is the caller's to know. On disk when it returns (truncate.c).
 *   ERR_OUT_OF_RANGE   `offset` is below the log start: log_restart is what is wanted
 *   ERR_BUSY           a cleaner is about to put segments in their places: once more, in a moment
 *   ERR_IO             it is cut in part; nobody may go on with the log until it was opened again. The same call cuts the rest then
 *   others             nothing has changed */
int log_truncate(struct log *l, int64_t offset, struct err *e);

/* Drops everything and begins empty at (offset, position), which the caller has made durable as the log's start: for a follower whose leader starts behind its end. Where it is
 * to begin below its present start, log_truncate at that start comes first, before the pair is durable: no log may be found that has less than its pair says. Errors as above. */
int log_restart(struct log *l, int64_t offset, int64_t position, struct err *e);

/* ---- more of the appender's ---- */

/* The last stable offset as far as the log knows: the first offset of an open transaction, else the LEO. */
int64_t log_last_stable(const struct log *l);

/* Projects the view up to `offset` (a batch boundary, at most the last stable offset). */
int log_project(struct log *l, int64_t offset, struct err *e);

/* appender. Looks in the end of the log for the batches of a producer that its snapshot did not keep (PRODUCER_UNSURE). ERR_IO, ERR_NO_MEMORY. */
int log_recall_producer(struct log *l, int64_t producer_id, struct err *e);

/* The log starts at (offset, position) from now on; both were made durable by the caller. Whole segments below go to .deleted. */
int log_set_start(struct log *l, int64_t offset, int64_t position, struct err *e);
/* Removes the .deleted files there are. */
int log_remove_deleted(struct log *l, struct err *e);

/* Whether these segments stand side by side in the log. */
bool log_has_segments(const struct log *l, struct segment *const *old, size_t count);
/* Puts `fresh` (its reference is taken over; NULL: nothing) in the place of segments that log_has_segments, with the aborted transactions that end in it. */
int log_replace_segments(struct log *l, struct segment *const *old, size_t count, struct segment *fresh, const struct aborted_txn *aborted, size_t aborted_count, struct err *e);

/* Without positions from now on, or with positions again: that reads the whole log, and they begin at start_position. On failure it is as before. (log_mode.c) */
int log_set_sequential(struct log *l, bool sequential, struct err *e);
/* Removes the .view files of a sequential log; it is on disk that they are gone when the caller has synced the directory. (log_mode.c) */
int log_remove_views(struct log *l, struct err *e);

/* What the partition-state-checkpoint keeps of it; the caller adds names and visible end. visible_position -1: it is sequential. */
void log_describe(struct log *l, struct partition_row *row);

/* ---- any thread ---- */

/* Everything below `offset` is on disk when it returns, as far as the log still has it; notes it as flushed. */
int log_flush(struct log *l, int64_t offset, struct err *e);

/* The segment that holds `offset` (or the last one before it), referenced. */
struct segment *log_segment_of(struct log_shape *s, int64_t offset);
/* The index in the shape of the segment whose view holds `position`; -1 with an error. */
ssize_t log_segment_at_position(struct log *l, struct log_shape *s, int64_t position, struct err *e);

/* The index of that segment; 0 where there is none. */
size_t log_shape_index(const struct log_shape *s, int64_t offset);
/* The index of the first aborted transaction that ends at or behind `offset`. */
size_t log_first_abort(const struct log_shape *s, int64_t offset);
/* Whether the batch belongs to an aborted transaction. */
bool log_is_aborted(const struct log_shape *s, const struct batch *b);

/* Makes sure a sealed segment has a usable .view, and any segment a known first position; index: its place in the shape. The view of
 * the active segment is the appender's to rebuild: readers scan from its start meanwhile. */
int log_need_view(struct log *l, struct log_shape *s, size_t index, struct err *e);
/* appender. The same for the active segment, which is pinned. */
int log_rebuild_active_view(struct log *l, struct segment *s, struct err *e);
/* At the end of recovery: makes the view of every segment that has none and finds where the last one ends; view_offset is set. */
int log_rebuild_views(struct log *l, struct err *e);

/* The view's position behind segment `index`, whose first position is known. For recovery. */
int log_end_position(struct log *l, size_t index, int64_t *position, struct err *e);

/* ---- recover.c, for log_open ---- */
int log_recover(struct log *l, const struct log_open *o, struct err *e);

/* ---- retention.c ---- */

struct retention { int64_t ms, bytes; }; /* retention.ms, retention.bytes; -1: no bound */
/* appender. The offset that the log may start at by time and size, at most `limit_offset` (the visible end); the start as it is where nothing is to go. An
 * active segment that is too old is rolled. */
int log_retention(struct log *l, const struct retention *r, int64_t now_ms, int64_t limit_offset, int64_t *new_start, struct err *e);

#endif
