/*
 * segment: a piece of a log: <base offset, 20 digits>.log with its .index, .timeindex, .view and .txnindex beside it.
 *
 * A segment is reference-counted; the log's list holds one reference, each cursor that stands in it another. Its files are opened by the first
 * segment_pin and closed by the cache when too many segments are open and nobody has it pinned: an idle segment costs no descriptor
 * and no mapping. The last segment of a log is the active one; the others are sealed and never change.
 *
 * A damaged or missing .index or .timeindex is rebuilt from the .log when the files are opened. The .view needs to know where the segment's view
 * begins and which transactions were aborted, so store/project.c rebuilds that.
 *
 * thread: one appender (append, index, seal, truncate); any readers. locks: `lock` (opening, closing, rebuilding), then the cache's.
 */
#ifndef STORE_SEGMENT_H
#define STORE_SEGMENT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "store/batch.h"
#include "store/err.h"
#include "store/index.h"
#include "store/view.h"

enum { SEGMENT_SUFFIX_BYTES = 48, INTERVAL_DEFAULT_BYTES = 4096 };

/* Positions may be negative: where a foreign log begins in the middle of a segment, its log start is position 0. */
#define POSITION_UNKNOWN INT64_MIN

struct segment_cache; /* of all segments whose files are open */
struct segment_cache *segment_cache_new(unsigned max_open); /* NULL: no memory */
void segment_cache_free(struct segment_cache *c);           /* no segment is open any more */
unsigned segment_cache_open_count(struct segment_cache *c);

struct segment {
	_Atomic uint32_t refs;
	_Atomic uint32_t size_bytes;        /* of the .log that count */
	uint64_t serial;                    /* of this struct: no other in the process ever has it */
	int64_t base_offset;
	const char *dir;                    /* borrowed from the log, which lives longer */
	struct segment_cache *cache;
	_Atomic int64_t first_position;     /* of the view; POSITION_UNKNOWN until looked up */
	_Atomic int64_t max_timestamp_ms;   /* -1: none or not looked up yet */
	_Atomic int64_t max_timestamp_offset;
	int64_t first_timestamp_ms;         /* of its first batch, for rolling by time; -1: not known */
	uint32_t index_max_bytes;           /* segment.index.bytes when it was opened */
	uint32_t interval_bytes;            /* index.interval.bytes then, for indexes that are rebuilt */
	_Atomic bool sealed;
	_Atomic bool view_ok;               /* the open .view can be used */
	bool times_learned;                 /* the appender's: the three above are known for what the segment held when it was opened */
	_Atomic bool needs_dir_sync;        /* its directory entry may not be on disk yet */
	_Atomic bool needs_index_sync;      /* nor what was added to its .index, .timeindex and .view */
	_Atomic bool needs_txn_sync;        /* nor its .txnindex */
	_Atomic bool gone;                  /* its names are not its own any more: what has it open goes on, but nobody opens it again */
	_Atomic int64_t lent_to;            /* no range of it that reaches this offset was given to anybody; segment_lend */
	_Atomic uint32_t view_until;        /* as long as it is the active one: how much of the .log was projected, as far as known; UINT32_MAX: all of it */

	/* the open files; valid while pinned */
	pthread_mutex_t lock;
	_Atomic uint32_t pins;
	_Atomic bool open;
	bool shut;                          /* no pin succeeds any more, but some have it open; under `lock` */
	int fd;
	struct offset_index index;
	struct time_index times;
	struct view view;

	/* the cache's */
	struct segment *cache_next, *cache_prev;
	_Atomic bool used;

	_Atomic(uint64_t *) verified; /* a bit each 4 KiB: the large batch that begins there had a matching crc */
	uint32_t verified_bits;
};

/* sealed: whether it is not the active one. size_bytes: of the .log. NULL: no memory. */
struct segment *segment_new(const char *dir, int64_t base_offset, uint32_t size_bytes, bool sealed, uint32_t index_max_bytes, struct segment_cache *cache);
/* A new, empty, active one on disk. first_position: of its view; POSITION_UNKNOWN where that is not known yet (it gets its .view when it is). */
int segment_create(const char *dir, int64_t base_offset, int64_t first_position, uint32_t index_max_bytes, struct segment_cache *cache, struct segment **out, struct err *e);
void segment_ref(struct segment *s);
void segment_unref(struct segment *s); /* the last one closes its files; NULL is fine */

/* dir/00000000000000000042.log; out has room for PATH_MAX. */
void segment_path(const char *dir, int64_t base_offset, const char *suffix, char *out, size_t out_bytes);

/* Another struct for the same files, of which nothing is open: who reads through the old one keeps it. NULL: no memory. Then the old one is to be retired, or shut. */
struct segment *segment_again(const struct segment *old, bool sealed, uint32_t index_max_bytes);

/* Between the two the files are open. ERR_NOT_FOUND: they were closed, and their names are gone (`gone`): the log has something else there now. */
int segment_pin(struct segment *s, struct err *e);
void segment_unpin(struct segment *s);
/* A pin for who gives away a range of the .log, with offsets below `to`, whose bytes are read as long as the pin lasts. */
int segment_lend(struct segment *s, int64_t to, struct err *e);

/* The calls below need a pin. */

/* Writes the gathered bytes at the end. On failure the file is cut back and nothing has changed (ERR_NO_SPACE, ERR_IO...); if
 * even that fails the error is ERR_IO. */
int segment_append(struct segment *s, struct iovec *iov, int count, uint32_t bytes, struct err *e);

/* After segment_append: entries for the batch at `position`. A full disk costs the entry only, not the append. */
void segment_index_batch(struct segment *s, int64_t last_offset, uint32_t position, int64_t max_timestamp_ms, int64_t max_timestamp_offset);
/* Kafka notes the greatest timestamp when a segment is sealed or closed. */
void segment_close_times(struct segment *s);

/* Cuts the .log and its indexes so that the batch at `position` and all behind are gone; the view too. What the segment knows of its timestamps is forgotten. Nobody else has
 * been told of what is cut. */
int segment_truncate(struct segment *s, uint32_t position, int64_t offset, struct err *e);
/* The indexes alone; the view from view_position on. */
int segment_truncate_indexes(struct segment *s, uint32_t view_position, int64_t offset, struct err *e);

/* fdatasync of the .log, and of the .txnindex where it has grown; with `indexes` of the other files too. */
int segment_flush(struct segment *s, bool indexes, struct err *e);

/* Makes a sealed segment the active one again. For recovery: nobody has it pinned. */
void segment_unseal(struct segment *s);

/* appender. Looks up the greatest timestamp and the first where batches were there before it was opened, so that later ones are measured against them. */
void segment_learn_times(struct segment *s);
/* Bytes of the .log from the batch of the last .index entry on. */
uint32_t segment_unindexed_bytes(const struct segment *s);

/* The batch that holds `offset`, or the first behind it: 1 and its header and position; 0: none in this segment; ERR_CORRUPT, ERR_IO. An
 * index entry that does not fit the log has the index rebuilt. */
int segment_find_offset(struct segment *s, int64_t offset, struct batch *b, uint32_t *position, struct err *e);

/* Whether an .index entry can be believed: a batch begins at its position that does not begin past its offset. */
bool segment_entry_fits(struct segment *s, int64_t entry_offset, uint32_t position);

/* The offset behind the last record; base_offset where it is empty. */
int segment_end_offset(struct segment *s, int64_t *end, struct err *e);

/* Its greatest timestamp: from the time index, else by scanning; -1 where it is empty. Pins by itself. */
int segment_max_timestamp(struct segment *s, int64_t *timestamp_ms, struct err *e);

/* Rebuilds .index and .timeindex from the .log. */
int segment_rebuild_index(struct segment *s, struct err *e);

/* An empty .view in place of what there may be. Readers of the old one must not be there: project.c says when. */
int segment_make_view(struct segment *s, int64_t first_position, struct err *e);

/* Removes the .view, which is to be made anew. Nobody else may use the segment. */
void segment_forget_view(struct segment *s);

/* Whether the batch's crc was seen to match since the segment is known here. Small batches are not remembered: checking them costs less. */
bool segment_is_verified(const struct segment *s, uint32_t position, uint32_t size_bytes);
void segment_set_verified(struct segment *s, uint32_t position, uint32_t size_bytes);

/* Its files may get other names, or others its names, from now on. */
void segment_retire(struct segment *s);
/* The same, and no pin succeeds from now on; it writes nothing any more, also when it is closed. Who has it pinned goes on, with indexes that show nothing from `offset` on, nor the
 * view from `view_position` on, so that the files can be cut there through another struct. Once its pins are down to none they stay so. On failure it is shut all the same, but nothing
 * may be cut. */
int segment_shut(struct segment *s, uint32_t view_position, int64_t offset, struct err *e);
/* Renames all its files to .deleted (the view's too), and retires it. */
int segment_mark_deleted(struct segment *s, struct err *e);

#endif
