/* Parcels: what waits in a lane becomes a batch, with the producer's id, epoch and sequence in its header. */
#include <stdlib.h>
#include <string.h>

#include "cluster/deliver/model.h"

enum { EPOCH_AT = 51, SEQUENCE_AT = 53, BASE_OFFSET_AT = 0 };

static struct parcel *take_spare(struct lane *l)
{
	struct parcel *x = l->spare;
	l->spare = NULL;
	if (!x) {
		x = calloc(1, sizeof *x);
		if (!x)
			return NULL;
		record_set_init(&x->merged);
	}
	x->lane = l;
	x->next = NULL;
	x->first = NULL;
	x->out = x->maybe = x->no_sequence = x->part = false;
	x->p = NULL;
	x->end_offset = -1;
	x->err.code = 0;
	x->err.text[0] = '\0';
	return x;
}

void parcel_free(struct lane *l, struct parcel *x)
{
	record_set_clear(&x->merged);
	if (l->spare || x->merged.bytes.cap > MERGE_BYTES) {
		record_set_release(&x->merged);
		if (l->spare) {
			free(x);
			return;
		}
		record_set_init(&x->merged);
	}
	l->spare = x;
}

/* Batch i of a set becomes a set of its own, that owns nothing. */
static void look_at(struct parcel *x, struct record_set *set, uint32_t i)
{
	const struct batch_meta *m = &set->batch[i];
	x->meta = *m;
	x->meta.at = 0;
	x->meta.first_mark = 0;
	x->view = (struct record_set){.lent = record_set_bytes(set) + m->at, .lent_bytes = m->size_bytes, .batch = &x->meta, .mark = set->mark + m->first_mark,
				      .batch_count = 1, .batch_cap = 1, .mark_count = m->mark_count, .mark_cap = m->mark_count};
	x->records = m->last_offset_delta + 1;
}

/* A small batch that is not compressed: its records can be put into another. */
static bool may_be_merged(const struct delivery *d)
{
	return d->set->batch_count == 1 && !d->taken && !(d->set->batch[0].attributes & (BATCH_CODEC_MASK | BATCH_CONTROL | BATCH_TRANSACTIONAL));
}

/* The last of those that go with the first, and the records and bytes of all. */
static struct delivery *last_to_merge(struct delivery *first, uint32_t limit, uint32_t *records)
{
	struct delivery *last = first;
	size_t bytes = record_set_size(first->set);
	*records = (uint32_t)first->set->batch[0].last_offset_delta + 1;
	for (struct delivery *d = first->next; d && d->acks == first->acks && may_be_merged(d); d = d->next) {
		bytes += record_set_size(d->set);
		if (bytes > MERGE_BYTES || bytes > limit)
			break;
		*records += (uint32_t)d->set->batch[0].last_offset_delta + 1;
		last = d;
	}
	return last;
}

static int add_records(const struct delivery *d, struct record_in *v, uint32_t *n)
{
	struct batch b;
	struct record_iter it;
	struct record r;
	const uint8_t *bytes = record_set_bytes(d->set);
	int rc = batch_decode(&b, bytes, d->set->batch[0].size_bytes, UINT32_MAX, NULL);
	if (rc < 0)
		return rc;
	record_iter_init(&it, &b, bytes + BATCH_HEADER_BYTES, b.size_bytes - BATCH_HEADER_BYTES);
	while ((rc = record_next(&it, &r, NULL)) > 0) {
		if (r.header_count)
			return ERR_UNSUPPORTED;
		v[(*n)++] = (struct record_in){.key = r.key, .value = r.value, .key_len = r.key_len, .value_len = r.value_len, .timestamp_ms = r.timestamp_ms};
	}
	return rc;
}

/* One batch of the records of several. false: they go one by one. */
static bool merge(struct lane *l, struct parcel *x, struct delivery *first, struct delivery *last, uint32_t records)
{
	struct batch_style style;
	struct record_in *v = malloc(records * sizeof *v);
	uint32_t n = 0;
	int rc = v ? 0 : ERR_NO_MEMORY;
	for (struct delivery *d = first; rc == 0; d = d->next) {
		rc = add_records(d, v, &n);
		if (d == last)
			break;
	}
	if (rc == 0) {
		topic_batch_style(l->topic, &style);
		record_set_clear(&x->merged);
		rc = record_set_add_records(&x->merged, &style, 0, v, n, NULL);
	}
	free(v);
	if (rc == 0)
		look_at(x, &x->merged, 0);
	return rc == 0;
}

/* Those up to `last` leave the queue, and are in the parcel. */
static void move_over(struct lane *l, struct parcel *x, struct delivery *last)
{
	x->first = l->first;
	x->due = l->first->due;
	l->first = last->next;
	if (!l->first)
		l->last = &l->first;
	last->next = NULL;
	for (struct delivery *d = x->first; d; d = d->next) {
		d->queued = false;
		d->taken = d->under_way = 1;
		if (mono_diff_ns(d->due, x->due) > 0)
			x->due = d->due; /* as long as anybody waits for it */
	}
}

struct parcel *parcel_make(struct lane *l)
{
	struct delivery *d = l->first, *last = d;
	struct parcel *x = take_spare(l);
	struct batch_style style;
	uint32_t records = 0;
	if (!x)
		return NULL;
	x->acks = d->acks;
	if (d->next && may_be_merged(d)) {
		topic_batch_style(l->topic, &style);
		last = last_to_merge(d, style.max_batch_bytes, &records);
		if (last != d && !merge(l, x, d, last, records))
			last = d;
	}
	if (last != d || d->set->batch_count == 1) {
		if (last == d)
			look_at(x, d->set, 0);
		move_over(l, x, last);
		return x;
	}
	look_at(x, d->set, d->taken);
	x->first = d;
	x->part = true;
	x->due = d->due;
	d->under_way++;
	if (++d->taken == d->set->batch_count) { /* the whole of it is on its way */
		l->first = d->next;
		if (!l->first)
			l->last = &l->first;
		d->next = NULL;
		d->queued = false;
	}
	return x;
}

/* ---- its header ---- */

void parcel_number(struct lane *l, struct parcel *x)
{
	uint8_t *p = record_set_bytes(&x->view);
	x->sequence = l->next_sequence;
	l->next_sequence = (int32_t)(((uint32_t)l->next_sequence + (uint32_t)x->records) & INT32_MAX);
	be64_put(p + BATCH_PRODUCER_ID_AT, (uint64_t)l->producer_id);
	be16_put(p + EPOCH_AT, (uint16_t)l->epoch);
	be32_put(p + SEQUENCE_AT, (uint32_t)x->sequence);
	be32_put(p + BATCH_CRC_AT, crc32c(0, p + BATCH_CRC_FROM, x->view.lent_bytes - BATCH_CRC_FROM));
}

void parcel_reset(struct parcel *x)
{
	uint8_t *p = record_set_bytes(&x->view);
	be64_put(p + BASE_OFFSET_AT, 0);
	be32_put(p + BATCH_EPOCH_AT, UINT32_MAX);
}
