#include "store/log.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/clock.h"
#include "store/diag.h"
#include "store/dirs.h"
#include "store/io.h"
#include "store/log_view.h"
#include "store/txnindex.h"

enum { GATHER_SETS = 64 };

const struct conf_property store_properties[] = {
	{"segment.bytes", CONF_INT, CONF_TOPIC, "1073741824", 1 << 14, INT32_MAX, "bytes", .broker_name = "log.segment.bytes",
	 .help = "size at which a new segment is begun; retention deletes whole segments"},
	{"log.segment.bytes", CONF_INT, CONF_BROKER, "1073741824", 1 << 14, INT32_MAX, "bytes", .help = "segment.bytes of topics that do not set it"},
	{"segment.ms", CONF_INT, CONF_TOPIC, NULL, 1, INT64_MAX, "ms", .broker_name = "log.roll.ms", .help = "age of a segment's first record at which a new segment is begun"},
	{"log.roll.ms", CONF_INT, CONF_BROKER, NULL, 1, INT64_MAX, "ms", .help = "segment.ms of topics that do not set it"},
	{"log.roll.hours", CONF_INT, CONF_BROKER, "168", 1, INT32_MAX, "h", .finer = "log.roll.ms", .scale = 3600000, .help = "log.roll.ms in hours, where that is not set"},
	{"segment.index.bytes", CONF_INT, CONF_TOPIC, "10485760", 256, INT32_MAX, "bytes", .broker_name = "log.index.size.max.bytes",
	 .help = "size of an index at which a new segment is begun"},
	{"log.index.size.max.bytes", CONF_INT, CONF_BROKER, "10485760", 256, INT32_MAX, "bytes", .help = "segment.index.bytes of topics that do not set it"},
	{"index.interval.bytes", CONF_INT, CONF_TOPIC, "4096", 0, INT32_MAX, "bytes", .broker_name = "log.index.interval.bytes",
	 .help = "bytes of log between two index entries"},
	{"log.index.interval.bytes", CONF_INT, CONF_BROKER, "4096", 0, INT32_MAX, "bytes", .help = "index.interval.bytes of topics that do not set it"},
	{NULL},
};

/* ---- the shape ---- */

struct log_shape *log_shape_take(struct log *l)
{
	pthread_mutex_lock(&l->list_lock);
	struct log_shape *s = l->shape;
	atomic_fetch_add(&s->refs, 1);
	pthread_mutex_unlock(&l->list_lock);
	return s;
}

void log_shape_drop(struct log *l, struct log_shape *s)
{
	(void)l;
	if (!s || atomic_fetch_sub(&s->refs, 1) != 1)
		return;
	for (size_t i = 0; i < s->segment_count; i++)
		segment_unref(s->segment[i]);
	free(s->segment);
	free(s->aborted);
	free(s);
}

/* A new shape from parts of the present one: its segments from index `first` on, then `more` (its reference is taken over); its aborted transactions that end at or
 * past min_abort, then `aborted`. NULL: no memory. */
struct log_shape *log_shape_make(const struct log_shape *old, size_t first, struct segment *more, int64_t min_abort, const struct aborted_txn *aborted)
{
	struct log_shape *s = calloc(1, sizeof *s);
	if (!s)
		return NULL;
	s->refs = 1;
	s->segment = calloc(old->segment_count - first + 1, sizeof *s->segment);
	s->aborted = calloc(old->aborted_count + 1, sizeof *s->aborted);
	if (!s->segment || !s->aborted) {
		free(s->segment);
		free(s->aborted);
		free(s);
		return NULL;
	}
	for (size_t i = first; i < old->segment_count; i++) {
		segment_ref(old->segment[i]);
		s->segment[s->segment_count++] = old->segment[i];
	}
	if (more)
		s->segment[s->segment_count++] = more;
	for (size_t i = 0; i < old->aborted_count; i++)
		if (old->aborted[i].last_offset >= min_abort)
			s->aborted[s->aborted_count++] = old->aborted[i];
	if (aborted)
		s->aborted[s->aborted_count++] = *aborted;
	return s;
}

struct log_shape *log_shape_head(const struct log_shape *old, size_t count, int64_t end)
{
	struct log_shape *s = log_shape_make(old, old->segment_count, NULL, INT64_MAX, NULL);
	struct segment **segment = s ? realloc(s->segment, (count + 1) * sizeof *segment) : NULL;
	if (!segment) {
		log_shape_drop(NULL, s);
		return NULL;
	}
	s->segment = segment;
	for (; s->segment_count < count; s->segment_count++) {
		segment_ref(old->segment[s->segment_count]);
		segment[s->segment_count] = old->segment[s->segment_count];
	}
	for (; s->aborted_count < old->aborted_count && old->aborted[s->aborted_count].last_offset < end; s->aborted_count++)
		s->aborted[s->aborted_count] = old->aborted[s->aborted_count];
	return s;
}

void log_shape_swap(struct log *l, struct log_shape *s)
{
	pthread_mutex_lock(&l->list_lock);
	struct log_shape *old = l->shape;
	l->shape = s;
	pthread_mutex_unlock(&l->list_lock);
	log_shape_drop(l, old);
}

struct segment *log_active(struct log *l)
{
	return l->shape->segment_count ? l->shape->segment[l->shape->segment_count - 1] : NULL;
}

size_t log_shape_index(const struct log_shape *s, int64_t offset)
{
	size_t lo = 0, hi = s->segment_count;
	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		if (s->segment[mid]->base_offset <= offset)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo ? lo - 1 : 0;
}

struct segment *log_segment_of(struct log_shape *s, int64_t offset)
{
	if (!s->segment_count)
		return NULL;
	struct segment *found = s->segment[log_shape_index(s, offset)];
	segment_ref(found);
	return found;
}

size_t log_first_abort(const struct log_shape *s, int64_t offset)
{
	size_t lo = 0, hi = s->aborted_count;
	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		if (s->aborted[mid].last_offset < offset)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

bool log_is_aborted(const struct log_shape *s, const struct batch *b)
{
	if (!s->aborted_count || !batch_is_transactional(b))
		return false;
	for (size_t i = log_first_abort(s, b->base_offset); i < s->aborted_count; i++)
		if (s->aborted[i].producer_id == b->producer_id && s->aborted[i].first_offset <= b->base_offset)
			return true;
	return false;
}

/* ---- closing ---- */

void log_free(struct log *l)
{
	if (!l)
		return;
	log_shape_drop(l, l->shape);
	log_forget_readers(l);
	epochs_release(&l->epochs);
	producers_free(l->producers);
	wr_release(&l->scratch);
	pthread_mutex_destroy(&l->list_lock);
	pthread_mutex_destroy(&l->view_lock);
	free(l->dir);
	free(l->name);
	free(l);
}

static bool is_segment_base(const struct log *l, int64_t offset)
{
	for (size_t i = 0; i < l->shape->segment_count; i++)
		if (l->shape->segment[i]->base_offset == offset)
			return true;
	return false;
}

/* Kafka keeps a snapshot at each segment's base and one at the end; so do we. */
static int write_snapshot(struct log *l, struct err *e)
{
	char path[PATH_MAX];
	int64_t at = l->leo;
	if (l->snapshot_offset == at)
		return 0;
	producers_set_map_end(l->producers, at);
	segment_path(l->dir, at, ".snapshot", path, sizeof path);
	int rc = producers_write(l->producers, path, false, e);
	if (rc < 0)
		return rc;
	if (l->snapshot_offset >= 0 && !is_segment_base(l, l->snapshot_offset)) {
		segment_path(l->dir, l->snapshot_offset, ".snapshot", path, sizeof path);
		io_unlink(path);
	}
	l->snapshot_offset = at;
	return 0;
}

int log_settle(struct log *l, struct err *e)
{
	int rc = log_flush(l, l->leo, e);
	return rc == 0 && l->changed ? write_snapshot(l, e) : rc;
}

/* ---- flushing ---- */

/* The first segment that a flush from `from` on has to do with: the one that holds it, or, before that, one whose indexes were not synced when it was sealed. */
static size_t flush_from(const struct log_shape *s, int64_t from)
{
	size_t i = s->segment_count;
	while (i > 0 && s->segment[i - 1]->base_offset > from)
		i--;
	i = i ? i - 1 : 0;
	while (i > 0 && s->segment[i - 1]->needs_index_sync)
		i--;
	return i;
}

/* Flushes what there is below `offset`; *end: how far everything is on disk then. */
static int flush_segments(struct log *l, int64_t offset, int64_t *end, struct err *e)
{
	int rc = 0;
	/* first the end, then the segments: all below that end is in one of them */
	*end = l->leo;
	struct log_shape *s = log_shape_take(l);
	for (size_t i = flush_from(s, l->flushed_offset); i < s->segment_count && rc == 0; i++) {
		struct segment *g = s->segment[i];
		if (g->base_offset >= offset) { /* this one and those behind are not flushed */
			if (g->base_offset < *end)
				*end = g->base_offset;
			break;
		}
		struct err why = ERR_INIT;
		if ((rc = segment_pin(g, &why)) == 0) {
			rc = segment_flush(g, g->sealed, &why);
			segment_unpin(g);
		} else if (rc == ERR_NOT_FOUND && g->gone) { /* deleted meanwhile, or replaced by what is on disk */
			rc = 0;
		}
		if (rc < 0)
			err_set(e, rc, "%s", why.text);
	}
	log_shape_drop(l, s);
	return rc;
}

/* false: the log was cut meanwhile, so that `end` may be behind what there is now. */
static bool note_flushed(struct log *l, int64_t end, uint32_t cuts)
{
	pthread_mutex_lock(&l->list_lock);
	bool same = l->cuts == cuts;
	if (end > l->flush_limit)
		end = l->flush_limit;
	if (same && l->flushed_offset < end)
		l->flushed_offset = end;
	pthread_mutex_unlock(&l->list_lock);
	return same;
}

int log_flush(struct log *l, int64_t offset, struct err *e)
{
	int rc = 0;
	int64_t end;
	uint32_t cuts;
	do {
		if (l->flushed_offset >= offset)
			return 0;
		cuts = l->cuts; /* before the end: whoever cuts counts it behind that */
		rc = flush_segments(l, offset, &end, e);
	} while (rc == 0 && !note_flushed(l, end, cuts));
	return rc;
}

/* ---- appending ---- */

void log_set_limits(struct log *l, const struct log_limits *limits)
{
	l->limits = *limits;
}

int64_t log_last_stable(const struct log *l)
{
	int64_t unstable = producers_first_unstable(l->producers);
	return unstable >= 0 ? unstable : l->leo;
}

/* Seals the active segment and begins one at the LEO. */
int log_roll(struct log *l, struct err *e)
{
	struct segment *old = log_active(l), *fresh;
	if (old && old->base_offset == l->leo)
		return 0;
	int rc = 0;
	if (old) {
		if ((rc = write_snapshot(l, e)) < 0 || (rc = segment_pin(old, e)) < 0)
			return rc;
		segment_close_times(old);
		segment_unpin(old);
	}
	int64_t first_position = l->view_offset == l->leo && !l->sequential ? (int64_t)l->view_position : POSITION_UNKNOWN;
	rc = segment_create(l->dir, l->leo, first_position, l->limits.index_bytes, l->cache, &fresh, e);
	if (rc < 0)
		return rc;
	struct log_shape *s = log_shape_make(l->shape, 0, fresh, 0, NULL);
	if (!s) {
		struct err ignored = ERR_INIT;
		segment_mark_deleted(fresh, &ignored);
		segment_unref(fresh);
		return err_set(e, ERR_NO_MEMORY, "no memory for a segment");
	}
	if (old)
		old->sealed = true;
	fresh->interval_bytes = l->limits.interval_bytes;
	log_shape_swap(l, s);
	l->since_index_bytes = 0;
	l->since_view_bytes = INT32_MAX;
	/* what was the active segment may lie below the log start: it stayed only because it was that */
	struct err why = ERR_INIT;
	if (log_drop_head(l, true, &why) < 0)
		diag_warning("%s: a segment below the log start is still there: %s", l->name, why.text);
	return 0;
}

/* Kafka's rule (LogSegment.shouldRoll), with room for `bytes` and `records` more. */
static bool must_roll(struct log *l, struct segment *s, uint64_t bytes, int64_t records, int64_t timestamp_ms)
{
	if (s->size_bytes == 0)
		return false;
	if (s->size_bytes + bytes > l->limits.segment_bytes || l->leo + records - s->base_offset > INT32_MAX)
		return true;
	if (s->first_timestamp_ms >= 0 && timestamp_ms >= 0 && timestamp_ms - s->first_timestamp_ms > l->limits.segment_ms)
		return true;
	return offset_index_is_full(&s->index) || time_index_is_full(&s->times);
}

static int64_t record_count(const struct record_set *set)
{
	int64_t records = 0;
	for (uint32_t i = 0; i < set->batch_count; i++)
		records += set->batch[i].last_offset_delta + 1;
	return records;
}

int log_segment_for(struct log *l, uint64_t bytes, int64_t records, int64_t timestamp_ms, struct segment **out, struct err *e)
{
	struct segment *s = log_active(l);
	int rc = 0;
	if (!s && ((rc = log_roll(l, e)) < 0 || !(s = log_active(l))))
		return rc;
	if ((rc = segment_pin(s, e)) < 0)
		return rc;
	if (!s->times_learned) { /* it was opened with what is in it */
		segment_learn_times(s);
		l->since_index_bytes = segment_unindexed_bytes(s);
	}
	if (!s->view_ok && s->first_position != POSITION_UNKNOWN && !l->sequential && (rc = log_rebuild_active_view(l, s, e)) < 0) {
		segment_unpin(s);
		return rc;
	}
	if (must_roll(l, s, bytes, records, timestamp_ms)) {
		segment_unpin(s);
		if ((rc = log_roll(l, e)) < 0)
			return rc;
		s = log_active(l);
		rc = segment_pin(s, e);
	}
	*out = s;
	return rc;
}

/* Gives offsets and epoch to each batch of the set; returns the offset behind it. */
static int64_t stamp(struct record_set *set, int64_t offset, int32_t leader_epoch)
{
	for (uint32_t i = 0; i < set->batch_count; i++) {
		uint8_t *p = record_set_bytes(set) + set->batch[i].at;
		be64_put(p, (uint64_t)offset);
		be32_put(p + BATCH_EPOCH_AT, (uint32_t)leader_epoch);
		offset += set->batch[i].last_offset_delta + 1;
	}
	return offset;
}

static int note_abort(struct log *l, struct segment *s, const struct aborted_txn *a, struct err *e)
{
	char path[PATH_MAX];
	struct log_shape *shape = log_shape_make(l->shape, 0, NULL, 0, a);
	if (!shape)
		return err_set(e, ERR_NO_MEMORY, "no memory for an aborted transaction");
	segment_path(l->dir, s->base_offset, ".txnindex", path, sizeof path);
	int rc = txnindex_append(path, a, e);
	if (rc < 0) {
		log_shape_drop(l, shape);
		return rc;
	}
	s->needs_txn_sync = s->needs_dir_sync = true;
	log_shape_swap(l, shape);
	return 0;
}

static int note_producer(struct log *l, struct segment *s, const uint8_t *bytes, uint32_t size, struct err *e)
{
	struct batch b;
	struct aborted_txn aborted;
	if (be64_get(bytes + BATCH_PRODUCER_ID_AT) == UINT64_MAX)
		return 0;
	int rc = batch_decode(&b, bytes, size, size, e);
	if (rc == 0)
		rc = producers_update(l->producers, &b, bytes, &aborted, e);
	return rc == 1 ? note_abort(l, s, &aborted, e) : rc;
}

/* Indexes, timestamps, producers and, where it is visible at once, the view of one written set. `at`: its position in the .log. */
static int note_set(struct log *l, struct segment *s, struct record_set *set, uint32_t at, bool committed, struct err *e)
{
	int rc = 0;
	struct view_builder builder = {.view = s->view_ok && !l->sequential ? &s->view : NULL, .since_bytes = l->since_view_bytes};
	for (uint32_t i = 0; i < set->batch_count && rc == 0; i++) {
		const struct batch_meta *m = &set->batch[i];
		int64_t offset = (int64_t)be64_get(record_set_bytes(set) + m->at), last = offset + m->last_offset_delta;
		uint32_t position = at + m->at;
		if (s->first_timestamp_ms < 0)
			s->first_timestamp_ms = m->max_timestamp_ms;
		if (m->max_timestamp_ms > s->max_timestamp_ms) {
			s->max_timestamp_offset = last;
			s->max_timestamp_ms = m->max_timestamp_ms;
		}
		if (l->since_index_bytes > l->limits.interval_bytes) {
			segment_index_batch(s, last, position, s->max_timestamp_ms, s->max_timestamp_offset);
			l->since_index_bytes = 0;
		}
		l->since_index_bytes += m->size_bytes;
		segment_set_verified(s, position, m->size_bytes); /* its crc was computed a moment ago */
		rc = note_producer(l, s, record_set_bytes(set) + m->at, m->size_bytes, e);
		if (committed && l->view_offset == offset && !(m->attributes & BATCH_TRANSACTIONAL) && producers_first_unstable(l->producers) < 0) {
			if (!l->sequential) {
				view_builder_batch(&builder, offset, position, m->size_bytes, l->view_position, set->mark + m->first_mark, m->mark_count);
				l->view_position += (int64_t)m->view_bytes;
				atomic_store_explicit(&s->view_until, position + m->size_bytes, memory_order_relaxed);
			}
			l->view_offset = last + 1;
		}
	}
	l->since_view_bytes = builder.since_bytes;
	view_builder_release(&builder);
	if (!s->needs_index_sync)
		s->needs_index_sync = true;
	return rc;
}

/* What a written set that cannot be accounted for is taken back to. */
struct undo {
	uint32_t size_bytes;
	int64_t view_offset, view_position, since_index_bytes, first_timestamp_ms, max_timestamp_ms, max_timestamp_offset;
	struct producers *producers; /* owned copy; NULL where no set ends a transaction: then nothing that changes them can fail */
};

/* The producer of a data batch of the set; -1: none. */
static int64_t producer_of(const struct record_set *set, uint32_t k)
{
	const uint8_t *p = record_set_bytes(set) + set->batch[k].at;
	int64_t id = (int64_t)be64_get(p + BATCH_PRODUCER_ID_AT);
	return set->batch[k].attributes & BATCH_CONTROL || id < 0 ? -1 : id;
}

static void unreserve_producers(struct log *l, struct record_set *const *sets, size_t n)
{
	for (size_t i = 0; i < n; i++)
		for (uint32_t k = 0; k < sets[i]->batch_count; k++)
			producers_unreserve(l->producers, producer_of(sets[i], k));
}

static int reserve_producers(struct log *l, struct record_set *const *sets, size_t n, struct err *e)
{
	producers_set_now(l->producers, wall_now_ms());
	for (size_t i = 0; i < n; i++)
		for (uint32_t k = 0; k < sets[i]->batch_count; k++) {
			int64_t id = producer_of(sets[i], k);
			if (id >= 0 && !producers_reserve(l->producers, id)) {
				unreserve_producers(l, sets, n);
				return err_set(e, ERR_NO_MEMORY, "no memory for producer %" PRId64, id);
			}
		}
	return 0;
}

static bool ends_transactions(struct record_set *const *sets, size_t n)
{
	for (size_t i = 0; i < n; i++)
		for (uint32_t k = 0; k < sets[i]->batch_count; k++)
			if (sets[i]->batch[k].attributes & BATCH_CONTROL)
				return true;
	return false;
}

static int undo_prepare(struct undo *u, struct log *l, const struct segment *s, struct record_set *const *sets, size_t n, struct err *e)
{
	*u = (struct undo){s->size_bytes, l->view_offset, l->view_position, l->since_index_bytes, s->first_timestamp_ms, s->max_timestamp_ms, s->max_timestamp_offset, NULL};
	if (ends_transactions(sets, n) && !(u->producers = producers_copy(l->producers)))
		return err_set(e, ERR_NO_MEMORY, "no memory to end a transaction");
	return reserve_producers(l, sets, n, e);
}

/* Takes entries of markers that are not in the log after all out of the segment's .txnindex and the shape. */
static int undo_aborts(struct log *l, const struct segment *s, struct err *e)
{
	char path[PATH_MAX];
	size_t first, n = l->shape->aborted_count;
	while (n && l->shape->aborted[n - 1].last_offset >= l->leo)
		n--;
	if (n == l->shape->aborted_count)
		return 0;
	for (first = n; first > 0 && l->shape->aborted[first - 1].last_offset >= s->base_offset;)
		first--;
	struct log_shape *shape = log_shape_make(l->shape, 0, NULL, 0, NULL);
	if (!shape)
		return err_set(e, ERR_NO_MEMORY, "no memory for aborted transactions");
	shape->aborted_count = n;
	log_shape_swap(l, shape);
	segment_path(l->dir, s->base_offset, ".txnindex", path, sizeof path);
	return txnindex_write(path, l->shape->aborted + first, n - first, e);
}

/* As if nothing had been written. ERR_IO where that fails too: nobody may append behind it. */
static int undo_sets(struct undo *u, struct log *l, struct segment *s, int why, struct err *e)
{
	struct err other = ERR_INIT;
	l->view_offset = u->view_offset;
	l->view_position = u->view_position;
	l->since_index_bytes = u->since_index_bytes;
	l->since_view_bytes = INT32_MAX; /* the entry that it counted from may be gone */
	if (segment_truncate(s, u->size_bytes, l->leo, &other) < 0)
		return err_set(e, ERR_IO, "%s", other.text);
	s->first_timestamp_ms = u->first_timestamp_ms;
	s->max_timestamp_offset = u->max_timestamp_offset;
	s->max_timestamp_ms = u->max_timestamp_ms;
	s->times_learned = true;
	if (u->producers) {
		producers_free(l->producers);
		l->producers = u->producers;
		u->producers = NULL;
		if (undo_aborts(l, s, &other) < 0)
			return err_set(e, ERR_IO, "%s", other.text);
	}
	return why;
}

int log_write_sets(struct log *l, struct segment *s, struct record_set *const *sets, size_t n, int64_t end, bool committed, struct err *e)
{
	struct iovec iov[GATHER_SETS];
	struct undo undo;
	uint32_t at = s->size_bytes, bytes = 0;
	for (size_t i = 0; i < n; i++) {
		iov[i] = (struct iovec){record_set_bytes(sets[i]), record_set_size(sets[i])};
		bytes += (uint32_t)record_set_size(sets[i]);
	}
	int rc = undo_prepare(&undo, l, s, sets, n, e);
	if (rc == 0 && (rc = segment_append(s, iov, (int)n, bytes, e)) == 0) {
		for (size_t i = 0; i < n && rc == 0; i++) {
			rc = note_set(l, s, sets[i], at, committed, e);
			at += (uint32_t)record_set_size(sets[i]);
		}
		if (rc < 0)
			rc = undo_sets(&undo, l, s, rc, e);
	} else if (rc < 0) {
		unreserve_producers(l, sets, n);
	}
	producers_free(undo.producers);
	if (rc == 0) {
		l->changed = true;
		l->bytes += bytes;
		l->written_bytes += bytes;
		places_note_append(&l->places, end, s->serial, at);
		atomic_store_explicit(&l->leo, end, memory_order_release);
		if (producers_map_end(l->producers) < end)
			producers_set_map_end(l->producers, end);
	}
	return rc;
}

static int stamp_and_write(struct log *l, struct segment *s, struct record_set *const *sets, size_t n, int32_t leader_epoch, bool committed, int64_t *base_offset, struct err *e)
{
	int64_t offset = l->leo;
	for (size_t i = 0; i < n; i++) {
		base_offset[i] = offset;
		offset = stamp(sets[i], offset, leader_epoch);
	}
	return log_write_sets(l, s, sets, n, offset, committed, e);
}

/* A new leader epoch is on disk before its first batch (KIP-101). */
static int note_epoch(struct log *l, int32_t leader_epoch, struct err *e)
{
	if (epochs_last(&l->epochs) == leader_epoch)
		return 0;
	pthread_mutex_lock(&l->list_lock);
	int rc = epochs_assign(&l->epochs, leader_epoch, l->leo);
	pthread_mutex_unlock(&l->list_lock);
	if (rc <= 0)
		return rc < 0 ? err_set(e, rc, "no memory for a leader epoch") : 0;
	rc = log_write_epochs(l, &l->epochs, e);
	if (rc < 0) { /* the next append tries again */
		pthread_mutex_lock(&l->list_lock);
		epochs_truncate_end(&l->epochs, l->leo);
		pthread_mutex_unlock(&l->list_lock);
	}
	return rc;
}

int log_append(struct log *l, struct record_set *const *sets, size_t n, int32_t leader_epoch, bool committed, int64_t *base_offset, size_t *done_sets, struct err *e)
{
	int rc = note_epoch(l, leader_epoch, e);
	*done_sets = 0;
	while (rc == 0 && *done_sets < n) {
		struct segment *s = NULL;
		size_t i = *done_sets, group = 1;
		uint64_t bytes = record_set_size(sets[i]);
		if ((rc = log_segment_for(l, bytes, record_count(sets[i]), sets[i]->batch[0].max_timestamp_ms, &s, e)) < 0)
			break;
		int64_t records_room = INT32_MAX - (l->leo - s->base_offset) - record_count(sets[i]);
		for (; i + group < n && group < GATHER_SETS; group++) {
			uint64_t more = record_set_size(sets[i + group]);
			records_room -= record_count(sets[i + group]);
			if (s->size_bytes + bytes + more > l->limits.segment_bytes || records_room < 0)
				break;
			bytes += more;
		}
		if (s->size_bytes + bytes > INT32_MAX)
			rc = err_set(e, ERR_TOO_LARGE, "%" PRIu64 " bytes do not fit into one segment", bytes);
		else
			rc = stamp_and_write(l, s, sets + i, group, leader_epoch, committed, base_offset + i, e);
		if (rc == 0)
			*done_sets += group;
		segment_unpin(s);
	}
	return rc;
}

/* ---- log start ---- */

/* Takes the first `drop` segments out of the log; with `rename` their files become .deleted. */
static int drop_segments(struct log *l, size_t drop, bool rename, struct err *e)
{
	int rc = 0;
	/* a transaction that ended below the start, but in what stays, still decides positions there */
	struct log_shape *s = log_shape_make(l->shape, drop, NULL, l->shape->segment[drop]->base_offset, NULL);
	if (!s)
		return err_set(e, ERR_NO_MEMORY, "no memory to drop segments");
	for (size_t i = 0; i < drop; i++) {
		struct segment *g = l->shape->segment[i];
		struct err why = ERR_INIT;
		char path[PATH_MAX];
		l->bytes -= g->size_bytes;
		if (!rename)
			continue;
		l->deleted_pending = true;
		if (segment_mark_deleted(g, &why) < 0 && rc == 0)
			rc = err_set(e, why.code, "%s", why.text);
		segment_path(l->dir, g->base_offset, ".snapshot", path, sizeof path);
		if (g->base_offset != l->snapshot_offset)
			io_unlink(path);
	}
	log_shape_swap(l, s);
	return rc;
}

/* A segment goes when the next one begins at or below the start; the active one stays. */
int log_drop_head(struct log *l, bool rename, struct err *e)
{
	size_t drop = 0;
	while (!l->keep_head && drop + 1 < l->shape->segment_count && l->shape->segment[drop + 1]->base_offset <= l->start_offset)
		drop++;
	return drop ? drop_segments(l, drop, rename, e) : 0;
}

int log_set_start(struct log *l, int64_t offset, int64_t position, struct err *e)
{
	if (offset <= l->start_offset)
		return 0;
	l->start_position = position;
	l->start_offset = offset;
	if (l->sequential)
		l->view_position = position;
	l->changed = true;
	int rc = log_drop_head(l, true, e);
	pthread_mutex_lock(&l->list_lock);
	int cut = epochs_truncate_start(&l->epochs, offset);
	pthread_mutex_unlock(&l->list_lock);
	if (cut == 1) {
		int wrote = log_write_epochs(l, &l->epochs, rc == 0 ? e : NULL);
		rc = rc == 0 ? wrote : rc;
	}
	return rc;
}

/* ---- replacing segments ---- */

/* The place of the first of them in the shape; segment_count where they do not stand side by side there. */
static size_t place_of(const struct log_shape *s, struct segment *const *old, size_t count)
{
	size_t i = 0;
	while (i < s->segment_count && s->segment[i] != old[0])
		i++;
	bool there = i + count <= s->segment_count && !memcmp(s->segment + i, old, count * sizeof *old);
	return there ? i : s->segment_count;
}

bool log_has_segments(const struct log *l, struct segment *const *old, size_t count)
{
	return place_of(l->shape, old, count) < l->shape->segment_count;
}

int log_replace_segments(struct log *l, struct segment *const *old, size_t count, struct segment *fresh, const struct aborted_txn *aborted, size_t aborted_count, struct err *e)
{
	const struct log_shape *was = l->shape;
	size_t at = place_of(was, old, count), n = 0, k = 0;
	int64_t from = old[0]->base_offset, to = at + count < was->segment_count ? was->segment[at + count]->base_offset : INT64_MAX;
	struct log_shape *s = calloc(1, sizeof *s);
	if (!s || !(s->segment = calloc(was->segment_count + 1, sizeof *s->segment)) || !(s->aborted = calloc(was->aborted_count + aborted_count + 1, sizeof *s->aborted))) {
		if (s)
			free(s->segment);
		free(s);
		return err_set(e, ERR_NO_MEMORY, "no memory to replace segments");
	}
	s->refs = 1;
	for (size_t i = 0; i < was->segment_count; i++) {
		if (i == at && fresh)
			s->segment[n++] = fresh;
		if (i >= at && i < at + count) {
			l->bytes -= was->segment[i]->size_bytes;
			continue;
		}
		segment_ref(was->segment[i]);
		s->segment[n++] = was->segment[i];
	}
	for (size_t i = 0; i < was->aborted_count && was->aborted[i].last_offset < from; i++)
		s->aborted[k++] = was->aborted[i];
	for (size_t i = 0; i < aborted_count; i++)
		s->aborted[k++] = aborted[i];
	for (size_t i = 0; i < was->aborted_count; i++)
		if (was->aborted[i].last_offset >= to)
			s->aborted[k++] = was->aborted[i];
	s->segment_count = n;
	s->aborted_count = k;
	if (fresh)
		l->bytes += fresh->size_bytes;
	log_shape_swap(l, s);
	return 0;
}

struct leftovers { struct log *l; int64_t first_base; };

/* .deleted files, and what a crash between renames has left of a segment whose .log went. */
static int remove_leftover(void *arg, const char *name, unsigned char type)
{
	static const char *const orphans[] = {".index", ".timeindex", ".view", ".txnindex"};
	struct leftovers *x = arg;
	char path[PATH_MAX];
	struct stat st;
	bool go = name_ends(name, ".deleted");
	for (size_t i = 0; i < sizeof orphans / sizeof *orphans && !go; i++) {
		if (strspn(name, "0123456789") != 20 || strcmp(name + 20, orphans[i]) || strtoll(name, NULL, 10) >= x->first_base)
			continue;
		segment_path(x->l->dir, strtoll(name, NULL, 10), ".log", path, sizeof path);
		go = io_stat(path, &st) == -ENOENT;
	}
	if (type != DT_REG || !go)
		return 0;
	snprintf(path, sizeof path, "%s/%s", x->l->dir, name);
	int sys = io_unlink(path);
	return sys == -ENOENT ? 0 : sys;
}

int log_remove_deleted(struct log *l, struct err *e)
{
	if (!l->deleted_pending)
		return 0;
	struct leftovers x = {l, l->shape->segment_count ? l->shape->segment[0]->base_offset : 0};
	int sys = io_list(l->dir, remove_leftover, &x);
	if (sys < 0)
		return err_sys(e, sys, "cannot remove deleted segments from %s", l->dir);
	l->deleted_pending = false;
	return 0;
}

void log_describe(struct log *l, struct partition_row *row)
{
	struct segment *s = log_active(l);
	struct stat st;
	row->leader_epoch = epochs_last(&l->epochs);
	row->active_base = s ? s->base_offset : -1;
	row->active_bytes = s ? s->size_bytes : 0;
	row->dir_mtime_ns = io_stat(l->dir, &st) == 0 ? st.st_mtim.tv_sec * INT64_C(1000000000) + st.st_mtim.tv_nsec : -1;
	row->start_offset = l->start_offset;
	row->start_position = l->start_position;
	row->leo = l->leo;
	row->last_stable_offset = log_last_stable(l);
	row->recovery_point = l->flushed_offset;
	row->visible_offset = l->view_offset;
	row->visible_position = l->sequential ? -1 : (int64_t)l->view_position;
	row->bytes = l->bytes;
}
