/*
 * log_view: what the files of log.h share among themselves. Not for use outside store.
 */
#ifndef STORE_LOG_VIEW_H
#define STORE_LOG_VIEW_H

#include "store/log.h"

/* The segment that is appended to; NULL: there is none yet. appender. */
struct segment *log_active(struct log *l);
/* Takes out of the log what lies wholly below its start. rename: the files become .deleted; else they stay as they are. appender, or while it is opened. */
int log_drop_head(struct log *l, bool rename, struct err *e);

/* A new shape from parts of another: its segments from index `first` on, then `more` (its reference is taken over); its aborted transactions that end at or
 * past min_abort, then `aborted`. NULL: no memory. */
struct log_shape *log_shape_make(const struct log_shape *old, size_t first, struct segment *more, int64_t min_abort, const struct aborted_txn *aborted);
/* Its first `count` segments, without what ends a transaction by abort at or past `end`. NULL: no memory. */
struct log_shape *log_shape_head(const struct log_shape *old, size_t count, int64_t end);
void log_shape_swap(struct log *l, struct log_shape *s); /* appender; takes s over */

/* ---- appending (log.c): appender ---- */

/* The active segment, pinned, able to take that many bytes and offsets; it is rolled before where it must be. */
int log_segment_for(struct log *l, uint64_t bytes, int64_t records, int64_t timestamp_ms, struct segment **out, struct err *e);
/* Writes sets, whose batches have their offsets, into the pinned segment with one call: all or none. The LEO is `end` then. */
int log_write_sets(struct log *l, struct segment *s, struct record_set *const *sets, size_t n, int64_t end, bool committed, struct err *e);

/* ---- cutting (truncate.c): appender ---- */

/* Back to `end`, where a call has begun to append, with what it has written: nobody was told of that. Epochs from there on may stay in the file. */
int log_take_back(struct log *l, int64_t end, struct err *e);
/* Segments that another struct has taken the place of, while they were pinned: of their files nothing is cut that somebody reads. Room is made before. */
bool log_left_room(struct log *l, size_t more);
void log_note_left(struct log *l, struct segment *s);
void log_forget_readers(struct log *l);
/* The log has x, and x what the log had. */
void log_swap_epochs(struct log *l, struct epochs *x);
int log_write_epochs(const struct log *l, const struct epochs *x, struct err *e);

/* ---- what the batches say of producers (log_replay.c): appender, or while it is opened ---- */

/* Loads the newest of n snapshots that can be loaded and is not past `limit`; *found: its offset. Without one it is -1, and the state is empty, as of the log's first segment. Those that
 * cannot be loaded are -1 in the list then. */
int log_load_snapshot(struct log *l, struct producers *p, int64_t *snapshot, size_t n, int64_t limit, int64_t *found, struct err *e);

struct scan;
struct log_replay {
	struct producers *producers;
	int64_t from, to;                                      /* offsets; batches that end before `from` are passed over */
	bool (*skip)(void *arg, struct scan *scan);            /* NULL, or moves the scan past damage that is known to be where it stands */
	int (*aborted)(void *arg, const struct aborted_txn *a, struct err *e); /* NULL, or told of transactions that end by abort */
	void *arg;
};
/* Takes the batches of one segment into account. */
int log_replay_segment(const struct log_replay *r, struct segment *s, struct err *e);
/* The cleaner takes nothing of a transaction that is undecided, and a marker only after the batches. So a transaction of a snapshot whose first batch is gone was decided, though its marker
 * may be gone as well: it is ended. For logs with `gaps`. */
int log_end_cleaned_txns(struct log *l, struct producers *p, struct err *e);

enum { VIEW_STEP_BYTES = 4096 };

/* Where entries go while batches are passed in order: the rule of which batches get one, in one place. A batch gets an entry where it would otherwise
 * end more than VIEW_STEP_BYTES behind the last entry; so behind the last entry's batch start there is never more than that, or that one batch. */
struct view_builder {
	struct view *view;      /* NULL: count only */
	int64_t since_bytes;    /* of log since the last entry's batch began; INT64_MAX / 2 before the first */
	struct view_entry *pending; /* owned: entries of one batch, added at once */
	size_t pending_cap;
};

/* Adds what the batch at `position` of the .log (offset base, first view byte at view_position) deserves. marks: inside it, may be none. ERR_NO_SPACE and
 * the like cost the entries only: they are reported by diag. */
void view_builder_batch(struct view_builder *b, int64_t base_offset, uint32_t position, uint32_t size_bytes, int64_t view_position, const struct batch_mark *marks,
			size_t mark_count);
void view_builder_release(struct view_builder *b);

#endif
