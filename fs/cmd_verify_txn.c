#include <inttypes.h>
#include <stdlib.h>

#include "fs/cmd_verify.h"
#include "store/txnindex.h"

/* ---- one segment ---- */

void txn_trace_release(struct txn_trace *t)
{
	free(t->mark);
	free(t->begun);
	*t = (struct txn_trace){0};
}

/* Room for one more entry of an array. */
static void *grow(void *list, size_t count, size_t *cap, size_t entry_bytes, bool *failed)
{
	if (count < *cap)
		return list;
	size_t more = *cap ? 2 * *cap : 16;
	void *bigger = realloc(list, more * entry_bytes);
	if (!bigger) {
		*failed = true;
		return list;
	}
	*cap = more;
	return bigger;
}

static struct txn_begun *find_begun(struct txn_trace *t, int64_t producer_id)
{
	for (size_t i = 0; i < t->begun_count; i++)
		if (t->begun[i].producer_id == producer_id)
			return &t->begun[i];
	return NULL;
}

static void add_begun(struct txn_trace *t, int64_t producer_id, int64_t first_offset)
{
	t->begun = grow(t->begun, t->begun_count, &t->begun_cap, sizeof *t->begun, &t->failed);
	if (!t->failed)
		t->begun[t->begun_count++] = (struct txn_begun){producer_id, first_offset};
}

/* The first offset of the producer's open transaction, which ends; -1: none is known here. */
static int64_t take_begun(struct txn_trace *t, int64_t producer_id)
{
	struct txn_begun *b = find_begun(t, producer_id);
	if (!b)
		return -1;
	int64_t first = b->first_offset;
	*b = t->begun[--t->begun_count];
	return first;
}

static void add_mark(struct txn_trace *t, const struct txn_mark *m)
{
	t->mark = grow(t->mark, t->mark_count, &t->mark_cap, sizeof *t->mark, &t->failed);
	if (!t->failed)
		t->mark[t->mark_count++] = *m;
}

void txn_trace_add(struct txn_trace *t, const struct batch *b, const uint8_t *bytes)
{
	if (t->failed || !batch_is_transactional(b))
		return;
	if (!batch_is_control(b)) {
		if (!find_begun(t, b->producer_id))
			add_begun(t, b->producer_id, b->base_offset);
		return;
	}
	int type = batch_control_type(b, bytes, NULL, NULL);
	if (type != 0 && type != 1)
		return;
	add_mark(t, &(struct txn_mark){b->producer_id, take_begun(t, b->producer_id), b->base_offset, type == 0});
}

/* ---- all segments ---- */

static int by_last(const void *key, const void *element)
{
	int64_t offset = *(const int64_t *)key, last = ((const struct aborted_txn *)element)->last_offset;
	return offset < last ? -1 : offset > last;
}

/* An aborted transaction without its entry would be shown; one with a wrong beginning, in part. */
static void check_abort(struct partition_check *p, const struct txn_mark *m)
{
	if (m->first_offset < 0)
		return; /* it began before the log start, or had no messages */
	const struct log_shape *shape = &p->shape;
	const struct aborted_txn *a = shape->aborted_count ? bsearch(&m->marker_offset, shape->aborted, shape->aborted_count, sizeof *a, by_last) : NULL;
	if (!a || a->producer_id != m->producer_id)
		fault(&p->faults, p->dir, "the transaction of producer %" PRId64 " from offset %" PRId64 ", aborted at %" PRId64 ", is in no .txnindex", m->producer_id, m->first_offset,
		      m->marker_offset);
	else if (a->first_offset != m->first_offset)
		fault(&p->faults, p->dir, "the transaction of producer %" PRId64 " aborted at offset %" PRId64 " begins at %" PRId64 ", its .txnindex says %" PRId64, m->producer_id,
		      m->marker_offset, m->first_offset, a->first_offset);
}

static int by_marker(const void *key, const void *element)
{
	int64_t offset = *(const int64_t *)key, marker = ((const struct txn_mark *)element)->marker_offset;
	return offset < marker ? -1 : offset > marker;
}

/* Each entry is backed by an abort marker in the log. */
static void check_entry(struct partition_check *p, const struct aborted_txn *a)
{
	for (size_t i = p->segment_count; i-- > 0;) {
		struct segment_check *s = &p->segment[i];
		if (s->base_offset > a->last_offset)
			continue;
		const struct txn_mark *m = s->txns.mark_count ? bsearch(&a->last_offset, s->txns.mark, s->txns.mark_count, sizeof *m, by_marker) : NULL;
		if (s->damaged || (m && m->abort && m->producer_id == a->producer_id))
			return;
		break;
	}
	fault(&p->faults, p->dir, "a .txnindex says that producer %" PRId64 " aborted a transaction at offset %" PRId64 ": there is no such marker in the log", a->producer_id, a->last_offset);
}

int64_t verify_transactions(struct partition_check *p)
{
	struct txn_trace open = {0}; /* only what has begun, in all segments so far */
	int64_t last_stable = INT64_MAX;
	bool whole = !p->compacted; /* cleaning and damage take markers and beginnings away */
	for (size_t i = 0; i < p->segment_count; i++) {
		struct txn_trace *t = &p->segment[i].txns;
		whole = whole && !p->segment[i].damaged;
		for (size_t k = 0; k < t->mark_count; k++) {
			struct txn_mark *m = &t->mark[k];
			int64_t earlier = take_begun(&open, m->producer_id);
			if (earlier >= 0)
				m->first_offset = earlier;
			if (m->abort && whole)
				check_abort(p, m);
		}
		for (size_t k = 0; k < t->begun_count && !open.failed; k++)
			if (!find_begun(&open, t->begun[k].producer_id))
				add_begun(&open, t->begun[k].producer_id, t->begun[k].first_offset);
	}
	for (size_t i = 0; i < p->shape.aborted_count && !p->compacted; i++)
		check_entry(p, &p->shape.aborted[i]);
	for (size_t i = 0; i < open.begun_count; i++)
		if (open.begun[i].first_offset < last_stable)
			last_stable = open.begun[i].first_offset;
	txn_trace_release(&open);
	return last_stable;
}
