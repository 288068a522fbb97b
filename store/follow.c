/*
 * What a follower appends: batches as the leader has them, with their offsets and epochs. All of them are checked first, one look at each and none at its records but for markers; then
 * they are written as log.c writes what a leader appends, each segment's part with one call.
 */
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>

#include "store/log_view.h"

struct batches {
	struct log *log;
	const uint8_t *bytes;      /* borrowed */
	struct record_set set;     /* what there is of each; lends the bytes */
	int64_t next;              /* the least offset that the next one may have */
	int32_t epoch;             /* that is in force there; -1: none yet */
	bool new_epochs;
};

/* ---- checking ---- */

/* The size of the batch at `at`; 0: it does not end within n. */
static uint32_t whole(const uint8_t *bytes, size_t at, size_t n)
{
	if (n - at < BATCH_OVERHEAD_BYTES)
		return 0;
	int32_t length = (int32_t)be32_get(bytes + at + BATCH_LENGTH_AT);
	if (length < 0)
		return BATCH_OVERHEAD_BYTES; /* no length at all: batch_decode says so */
	return (uint64_t)length + BATCH_OVERHEAD_BYTES <= n - at ? (uint32_t)length + BATCH_OVERHEAD_BYTES : 0;
}

static int check_order(struct batches *x, const struct batch *b, struct err *e)
{
	const struct log *l = x->log;
	int code = x->set.batch_count ? ERR_CORRUPT : ERR_OUT_OF_RANGE;
	if (b->base_offset < x->next || (b->base_offset > x->next && !l->gaps))
		return err_set(e, code, "a batch at offset %" PRId64 " cannot follow where offset %" PRId64 " is next", b->base_offset, x->next);
	if (batch_last_offset(b) == INT64_MAX)
		return err_set(e, ERR_CORRUPT, "no log goes on behind offset %" PRId64, batch_last_offset(b));
	if (b->leader_epoch < -1 || (b->leader_epoch >= 0 && b->leader_epoch < x->epoch))
		return err_set(e, ERR_CORRUPT, "the batch at offset %" PRId64 " is of leader epoch %" PRId32 ", after %" PRId32, b->base_offset, b->leader_epoch, x->epoch);
	return 0;
}

static int check_batch(struct batches *x, const struct batch *b, const uint8_t *bytes, struct err *e)
{
	int rc = check_order(x, b, e);
	if (rc < 0)
		return rc;
	if (!batch_crc_matches(b, bytes))
		return err_set(e, ERR_CORRUPT, "the batch at offset %" PRId64 " does not match its crc", b->base_offset);
	if (!batch_is_control(b) || b->producer_id < 0)
		return 0;
	rc = batch_control_type(b, bytes, NULL, e);
	return rc < 0 && rc != ERR_NOT_FOUND ? rc : 0;
}

static int add(struct batches *x, const struct batch *b, size_t at, struct err *e)
{
	struct record_set *s = &x->set;
	if (!record_set_room(s))
		return err_set(e, ERR_NO_MEMORY, "no memory for the batches of a fetch");
	s->batch[s->batch_count++] = (struct batch_meta){.at = (uint32_t)at, .size_bytes = b->size_bytes, .last_offset_delta = b->last_offset_delta, .attributes = b->attributes,
							 .max_timestamp_ms = b->max_timestamp_ms};
	x->next = batch_last_offset(b) + 1;
	if (b->leader_epoch > x->epoch) {
		x->epoch = b->leader_epoch;
		x->new_epochs = true;
	}
	return 0;
}

static int check_all(struct batches *x, size_t n, struct err *e)
{
	struct batch b;
	uint32_t size;
	for (size_t at = 0; at < n && (size = whole(x->bytes, at, n)); at += size) {
		int rc = batch_decode(&b, x->bytes + at, size, size, e);
		if (rc == 0)
			rc = check_batch(x, &b, x->bytes + at, e);
		if (rc == 0)
			rc = add(x, &b, at, e);
		if (rc < 0) {
			err_context(e, "%s: byte %zu of what the leader sent", x->log->name, at);
			return rc;
		}
	}
	return 0;
}

/* ---- writing ---- */

static int64_t base_of(const struct batches *x, uint32_t i)
{
	return (int64_t)be64_get(x->bytes + x->set.batch[i].at);
}

static int64_t end_of(const struct batches *x, uint32_t i)
{
	return base_of(x, i) + x->set.batch[i].last_offset_delta + 1;
}

/* On disk before the first batch of each (KIP-101). *was: what there was. */
static int note_epochs(struct batches *x, struct epochs *was, struct err *e)
{
	int rc = epochs_copy(was, &x->log->epochs);
	for (uint32_t i = 0; i < x->set.batch_count && rc >= 0; i++)
		rc = epochs_assign(was, (int32_t)be32_get(x->bytes + x->set.batch[i].at + BATCH_EPOCH_AT), base_of(x, i));
	if (rc < 0)
		return err_set(e, rc, "no memory for leader epochs");
	rc = log_write_epochs(x->log, was, e);
	if (rc == 0)
		log_swap_epochs(x->log, was);
	return rc;
}

/* A segment holds offsets up to INT32_MAX behind its base. Where compaction has taken so many that the next batch is farther away, a segment is begun there; an empty one that waited at the
 * old end goes. */
static int leap(struct log *l, int64_t base, int64_t end, struct err *e)
{
	struct segment *s = log_active(l);
	if (end - (s ? s->base_offset : l->leo) <= INT32_MAX || base == l->leo)
		return 0;
	if (s && !s->size_bytes) {
		struct log_shape *shape = log_shape_head(l->shape, l->shape->segment_count - 1, INT64_MAX);
		if (!shape)
			return err_set(e, ERR_NO_MEMORY, "no memory to drop a segment");
		int rc = segment_mark_deleted(s, e);
		l->deleted_pending = true;
		if (rc < 0) {
			log_shape_drop(l, shape);
			return rc;
		}
		log_shape_swap(l, shape);
	}
	l->leo = base;
	return 0;
}

/* The number of batches from `i` on that go into the pinned segment, one at least: by the rules of log_append, for each batch. */
static uint32_t fitting(const struct batches *x, const struct segment *s, uint32_t i)
{
	const struct log *l = x->log;
	const struct batch_meta *m = x->set.batch + i;
	uint64_t bytes = s->size_bytes;
	int64_t since = l->since_index_bytes, first_ms = s->first_timestamp_ms;
	uint32_t n = 0, room = offset_index_room(&s->index), times_room = time_index_room(&s->times);
	room = room < times_room ? room : times_room;
	for (; i + n < x->set.batch_count; n++, m++) {
		bool old = first_ms >= 0 && m->max_timestamp_ms >= 0 && m->max_timestamp_ms - first_ms > l->limits.segment_ms;
		if (n && (old || !room || bytes + m->size_bytes > l->limits.segment_bytes || end_of(x, i + n) - s->base_offset > INT32_MAX))
			break;
		if (first_ms < 0)
			first_ms = m->max_timestamp_ms;
		if (since > l->limits.interval_bytes) {
			room -= room > 0;
			since = 0;
		}
		since += m->size_bytes;
		bytes += m->size_bytes;
	}
	return n;
}

/* Writes batches from `i` on into one segment; *n: how many. */
static int write_some(struct batches *x, uint32_t i, uint32_t *n, struct err *e)
{
	struct log *l = x->log;
	struct batch_meta *m = x->set.batch + i;
	struct segment *s;
	int rc = leap(l, base_of(x, i), end_of(x, i), e);
	if (rc == 0)
		rc = log_segment_for(l, m->size_bytes, end_of(x, i) - l->leo, m->max_timestamp_ms, &s, e);
	if (rc < 0)
		return rc;
	*n = fitting(x, s, i);
	const uint32_t from = m->at;
	const struct batch_meta *last = m + *n - 1;
	int64_t end = end_of(x, i + *n - 1);
	struct record_set part = {.lent = (uint8_t *)(uintptr_t)x->bytes + from, .lent_bytes = last->at + last->size_bytes - from, .batch = m, .batch_count = *n};
	struct record_set *parts = &part;
	for (uint32_t k = 0; k < *n; k++)
		m[k].at -= from;
	rc = log_write_sets(l, s, &parts, 1, end, false, e);
	for (uint32_t k = 0; k < *n; k++)
		m[k].at += from;
	segment_unpin(s);
	return rc;
}

int log_append_exact(struct log *l, const void *bytes, size_t n, int64_t *appended_end, struct err *e)
{
	struct batches x = {.log = l, .bytes = bytes, .next = l->leo, .epoch = epochs_last(&l->epochs)};
	struct epochs was;
	const int64_t before = l->leo;
	uint32_t done = 0;
	*appended_end = before;
	if (n > INT32_MAX)
		return err_set(e, ERR_TOO_LARGE, "%zu bytes are more than a fetch may give", n);
	record_set_init(&x.set);
	epochs_init(&was);
	int rc = check_all(&x, n, e);
	if (rc == 0 && x.new_epochs)
		rc = note_epochs(&x, &was, e);
	bool noted = rc == 0 && x.new_epochs;
	for (uint32_t wrote; rc == 0 && done < x.set.batch_count; done += wrote)
		rc = write_some(&x, done, &wrote, e);
	if (rc < 0 && noted) /* those that no batch is of are only in the file: the next append writes that anew */
		log_swap_epochs(l, &was);
	struct err why = ERR_INIT;
	if (rc < 0 && rc != ERR_IO && l->leo > before && log_take_back(l, before, &why) < 0)
		rc = err_set(e, ERR_IO, "%s", why.text);
	*appended_end = l->leo;
	epochs_release(&was);
	record_set_release(&x.set);
	return rc;
}
