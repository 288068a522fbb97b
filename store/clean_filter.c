#include "store/clean_filter.h"

#include <inttypes.h>
#include <stdlib.h>
#include <uthash.h>

struct seen_txn { int64_t producer_id; UT_hash_handle hh; };

void clean_filter_init(struct clean_filter *f)
{
	*f = (struct clean_filter){0};
	wr_init(&f->area, 0);
	wr_init(&f->kept, INT32_MAX);
}

void clean_filter_release(struct clean_filter *f)
{
	struct seen_txn *x, *next;
	HASH_ITER(hh, f->seen, x, next) {
		HASH_DEL(f->seen, x);
		free(x);
	}
	wr_release(&f->area);
	wr_release(&f->kept);
}

/* ---- transactions ---- */

static int note_batch(struct clean_filter *f, int64_t producer_id, struct err *e)
{
	struct seen_txn *x;
	HASH_FIND(hh, f->seen, &producer_id, sizeof producer_id, x);
	if (x)
		return 0;
	x = malloc(sizeof *x);
	if (x) {
		x->producer_id = producer_id;
		HASH_ADD(hh, f->seen, producer_id, sizeof x->producer_id, x);
		if (x->hh.tbl)
			return 0;
		free(x);
	}
	return err_set(e, ERR_NO_MEMORY, "no memory for the transaction of producer %" PRId64, producer_id);
}

/* The producer's transaction ends; whether batches of it were met. */
static bool end_transaction(struct clean_filter *f, int64_t producer_id)
{
	struct seen_txn *x;
	HASH_FIND(hh, f->seen, &producer_id, sizeof producer_id, x);
	if (!x)
		return false;
	HASH_DEL(f->seen, x);
	free(x);
	return true;
}

/* ---- what may go ---- */

enum keep { KEEP_HEADER, KEEP_RECORDS, KEEP_NOTHING }; /* a batch without records: its header stays; it goes; it goes unread */

struct verdict {
	enum keep keep;
	bool discard;   /* none of its records stays */
	bool empty_txn; /* a marker of a transaction without batches: from now on it has a day on which it goes */
};

static bool has_horizon(const struct batch *b)
{
	return b->attributes & BATCH_DELETE_HORIZON;
}

static bool is_past_horizon(const struct clean_filter *f, const struct batch *b)
{
	return has_horizon(b) && b->base_timestamp_ms <= f->now_ms;
}

/* Whether what is known of its producer stands in this batch. */
static bool is_producers_last(const struct clean_filter *f, const struct batch *b)
{
	struct producer_last last;
	if (b->producer_id < 0 || !producers_last(f->producers, b->producer_id, &last))
		return false;
	return last.offset >= 0 ? batch_last_offset(b) == last.offset : batch_is_control(b) && b->producer_epoch == last.epoch;
}

static int judge(struct clean_filter *f, const struct batch *b, const uint8_t *bytes, bool aborted, bool *keep_aborted, struct verdict *v, struct err *e)
{
	bool discardable = aborted;
	*v = (struct verdict){.keep = KEEP_RECORDS};
	*keep_aborted = false;
	if (batch_is_control(b)) {
		struct err why = ERR_INIT;
		int type = batch_control_type(b, bytes, NULL, &why);
		if (type < 0 && type != ERR_NOT_FOUND)
			return err_set(e, type, "%s", why.text);
		discardable = type == ERR_NOT_FOUND || (type <= 1 && !end_transaction(f, b->producer_id)); /* others than markers stay */
		*keep_aborted = type == 0 && !discardable;
		v->discard = discardable && is_past_horizon(f, b);
		v->empty_txn = discardable;
	} else {
		int rc = batch_is_transactional(b) ? note_batch(f, b->producer_id, e) : 0;
		if (rc < 0)
			return rc;
		v->discard = discardable;
	}
	if (is_producers_last(f, b) || batch_last_offset(b) + 1 == f->end_offset)
		v->keep = KEEP_HEADER;
	else if (v->discard)
		v->keep = KEEP_NOTHING;
	return 0;
}

static bool record_stays(struct clean_filter *f, const struct batch *b, const struct record *r)
{
	if (batch_is_control(b) || r->offset > f->map->latest)
		return true;
	if (!r->key) {
		f->keyless++;
		return false;
	}
	return r->offset >= clean_map_get(f->map, r->key, (size_t)r->key_len) && (r->value || !is_past_horizon(f, b));
}

/* ---- writing what is left ---- */

/* The record with the batch's new base timestamp. */
static void put_record(struct wr *w, const struct batch *b, const struct batch *to, const struct record *r)
{
	int64_t time_delta = (int64_t)((uint64_t)r->timestamp_ms - (uint64_t)to->base_timestamp_ms), offset_delta = r->offset - b->base_offset;
	size_t key = r->key ? varint_size(r->key_len) + (size_t)r->key_len : 1, value = r->value ? varint_size(r->value_len) + (size_t)r->value_len : 1;
	uint64_t body = 1 + varint_size(time_delta) + varint_size(offset_delta) + key + value + varint_size(r->header_count) + r->headers_len;
	wr_varint(w, (int64_t)body);
	wr_i8(w, 0);
	wr_varint(w, time_delta);
	wr_varint(w, offset_delta);
	wr_varint(w, r->key ? r->key_len : -1);
	if (r->key)
		wr_bytes(w, r->key, (size_t)r->key_len);
	wr_varint(w, r->value ? r->value_len : -1);
	if (r->value)
		wr_bytes(w, r->value, (size_t)r->value_len);
	wr_varint(w, r->header_count);
	wr_bytes(w, r->headers, r->headers_len);
}

struct pick { uint32_t kept, read; bool tombstones; int64_t first_timestamp_ms; };

/* Goes through the records: which stay, or (to not NULL) writes those that do. */
static int pick_records(struct clean_filter *f, const struct batch *b, const struct verdict *v, const uint8_t *area, size_t n, struct pick *p, struct batch *to, struct err *e)
{
	struct record_iter it;
	struct record r;
	int rc;
	*p = (struct pick){0};
	record_iter_init(&it, b, area, n);
	while ((rc = record_next(&it, &r, e)) == 1) {
		p->read++;
		if (v->discard || !record_stays(f, b, &r))
			continue;
		if (!p->kept++)
			p->first_timestamp_ms = r.timestamp_ms;
		p->tombstones |= !r.value;
		if (!to)
			continue;
		put_record(&f->kept, b, to, &r);
		if (r.timestamp_ms > to->max_timestamp_ms)
			to->max_timestamp_ms = r.timestamp_ms;
	}
	return rc;
}

static int no_memory(const struct batch *b, struct err *e)
{
	return err_set(e, ERR_NO_MEMORY, "no memory to clean the batch at offset %" PRId64, b->base_offset);
}

/* The batch with the records in f->kept. */
static int put_batch(struct clean_filter *f, struct batch *to, struct wr *out, struct err *e)
{
	size_t at = out->len;
	int rc = 0;
	if (!wr_room(out, BATCH_HEADER_BYTES))
		return no_memory(to, e);
	out->len += BATCH_HEADER_BYTES;
	if (batch_codec(to) == CODEC_NONE)
		wr_bytes(out, f->kept.data, f->kept.len);
	else
		rc = codec_compress(batch_codec(to), 0, f->kept.data, f->kept.len, out, e);
	if (rc == 0 && (out->failed || f->kept.failed))
		rc = no_memory(to, e);
	if (rc < 0) {
		out->len = at;
		return rc;
	}
	to->size_bytes = (uint32_t)(out->len - at);
	batch_encode(to, out->data + at);
	to->crc = be32_get(out->data + at + BATCH_CRC_AT);
	return 0;
}

static int put_rewritten(struct clean_filter *f, const struct batch *b, const struct verdict *v, const uint8_t *area, size_t n, const struct pick *first, bool new_horizon,
			 struct wr *out, struct batch *to, struct err *e)
{
	struct pick again;
	*to = *b;
	to->record_count = (int32_t)first->kept;
	to->max_timestamp_ms = -1;
	if (new_horizon) {
		to->attributes |= BATCH_DELETE_HORIZON;
		to->base_timestamp_ms = f->delete_retention_ms < INT64_MAX - f->now_ms ? f->now_ms + f->delete_retention_ms : INT64_MAX;
	} else if (!has_horizon(b)) {
		to->base_timestamp_ms = first->first_timestamp_ms;
	}
	wr_clear(&f->kept);
	uint64_t keyless = f->keyless;
	int rc = pick_records(f, b, v, area, n, &again, to, e);
	f->keyless = keyless;
	return rc < 0 ? rc : put_batch(f, to, out, e);
}

/* A header without records, as Kafka writes it: no codec, no horizon. */
static int put_header(const struct batch *b, struct wr *out, struct batch *to, struct err *e)
{
	*to = *b;
	to->size_bytes = BATCH_HEADER_BYTES;
	to->record_count = 0;
	to->base_timestamp_ms = -1;
	to->attributes = (int16_t)(b->attributes & (BATCH_LOG_APPEND_TIME | BATCH_TRANSACTIONAL | BATCH_CONTROL));
	uint8_t *p = wr_room(out, BATCH_HEADER_BYTES);
	if (!p)
		return no_memory(b, e);
	out->len += BATCH_HEADER_BYTES;
	batch_encode(to, p);
	to->crc = be32_get(p + BATCH_CRC_AT);
	return 0;
}

int clean_filter_batch(struct clean_filter *f, const struct batch *b, const uint8_t *bytes, bool aborted, struct wr *out, struct batch *left, bool *is_left,
		       bool *keep_aborted, struct err *e)
{
	struct verdict v;
	struct pick p;
	const uint8_t *area;
	size_t n;
	*is_left = false;
	int rc = judge(f, b, bytes, aborted, keep_aborted, &v, e);
	if (rc < 0 || v.keep == KEEP_NOTHING)
		return rc;
	if ((rc = batch_records(b, bytes, &f->area, &area, &n, e)) < 0 || (rc = pick_records(f, b, &v, area, n, &p, NULL, e)) < 0)
		return rc;
	f->records_read += p.read;
	f->records_kept += p.kept;
	bool new_horizon = (p.tombstones || v.empty_txn) && !has_horizon(b);
	*is_left = p.kept || v.keep == KEEP_HEADER;
	if (p.kept && p.kept == p.read && !new_horizon) {
		*left = *b;
		wr_bytes(out, bytes, b->size_bytes);
		return out->failed ? no_memory(b, e) : 0;
	}
	if (p.kept)
		return put_rewritten(f, b, &v, area, n, &p, new_horizon, out, left, e);
	return v.keep == KEEP_HEADER ? put_header(b, out, left, e) : 0;
}
