/* The half of batch.h that makes batches. */
#include "store/batch.h"

#include <limits.h>
#include <stdlib.h>

enum { LINES_AREA_BYTES = 128 << 10 }; /* of lines one batch has that much: a reader holds, checks and unpacks it as a whole */

void record_set_init(struct record_set *s)
{
	*s = (struct record_set){0};
	wr_init(&s->bytes, INT32_MAX); /* what batch_meta and Kafka's sizes can count */
	wr_init(&s->scratch, 0);
}

void record_set_release(struct record_set *s)
{
	wr_release(&s->bytes);
	wr_release(&s->scratch);
	free(s->batch);
	free(s->mark);
	record_set_init(s);
}

void record_set_clear(struct record_set *s)
{
	wr_clear(&s->bytes);
	s->lent = NULL;
	s->lent_bytes = 0;
	s->batch_count = s->mark_count = 0;
}

/* Makes *array (of *cap elements) hold more than count. */
static bool array_room(void **array, uint32_t *cap, uint32_t count, size_t element_bytes)
{
	if (count < *cap)
		return true;
	uint32_t n = *cap ? *cap * 2 : 8;
	void *p = n > *cap ? realloc(*array, n * element_bytes) : NULL;
	if (!p)
		return false;
	*array = p;
	*cap = n;
	return true;
}

bool record_set_room(struct record_set *s)
{
	return array_room((void **)&s->batch, &s->batch_cap, s->batch_count, sizeof *s->batch);
}

bool record_set_mark(struct record_set *s, const struct batch_mark *m)
{
	if (!array_room((void **)&s->mark, &s->mark_cap, s->mark_count, sizeof *m))
		return false;
	s->mark[s->mark_count++] = *m;
	return true;
}

/* A batch that is being made at the end of a set. */
struct draft {
	struct record_set *set;
	const struct batch_style *style;
	struct wr *to;       /* where its record area grows: the set's bytes, or its scratch if it is to be compressed */
	size_t batch_at;     /* of its header in the set's bytes */
	size_t area_at;      /* in `to` */
	size_t max_area;     /* bytes the area may have, so that the batch, compressed at its worst, keeps within the style's maximum */
	uint32_t first_mark;
	size_t next_mark;    /* bytes of the area from which on a record is marked */
	uint64_t view_bytes;
	struct batch head;   /* records, timestamps and more attributes are added by who makes the records */
};

/* Takes back what the draft has put into the set: bytes and marks. */
static void draft_drop(struct draft *d)
{
	d->set->bytes.len = d->batch_at;
	d->set->bytes.failed = d->set->scratch.failed = false;
	d->set->mark_count = d->first_mark;
}

static int draft_no_memory(struct draft *d, struct err *e)
{
	draft_drop(d);
	return err_set(e, ERR_NO_MEMORY, "no memory for a record batch behind %zu bytes", d->batch_at);
}

/* Marks a record that begins `in_area` bytes into the area. false: no memory. */
static bool draft_mark(struct draft *d, size_t in_area, uint32_t record, uint64_t view_bytes)
{
	d->next_mark = in_area + BATCH_MARK_BYTES;
	return record_set_mark(d->set, &(struct batch_mark){.byte = (uint32_t)(BATCH_HEADER_BYTES + in_area), .record = record, .view_bytes = view_bytes});
}

static int draft_begin(struct draft *d, struct record_set *s, const struct batch_style *style, int32_t base_sequence, struct err *e)
{
	bool packed = style->codec != CODEC_NONE;
	size_t max = style->max_batch_bytes < INT32_MAX ? style->max_batch_bytes : INT32_MAX;
	size_t overhead = BATCH_HEADER_BYTES + codec_bound(style->codec, max) - max;
	bool idempotent = style->producer_id >= 0;
	*d = (struct draft){
		.set = s, .style = style, .to = packed ? &s->scratch : &s->bytes, .batch_at = s->bytes.len,
		.max_area = max > overhead ? max - overhead : 0, .first_mark = s->mark_count,
		.next_mark = packed ? SIZE_MAX : BATCH_MARK_BYTES, /* the view cannot point into what is compressed */
		.head = {.leader_epoch = -1, .producer_id = idempotent ? style->producer_id : -1, .producer_epoch = idempotent ? style->producer_epoch : -1,
			 .base_sequence = idempotent ? base_sequence : -1,
			 .attributes = (int16_t)(style->codec | (style->log_append_time ? BATCH_LOG_APPEND_TIME : 0))},
	};
	wr_clear(&s->scratch);
	if (!wr_room(&s->bytes, BATCH_HEADER_BYTES) || !record_set_room(s))
		return draft_no_memory(d, e);
	s->bytes.len += BATCH_HEADER_BYTES;
	d->area_at = d->to->len;
	return 0;
}

/* Compresses, gives the batch its header and CRC, and adds it to the set. */
static int draft_end(struct draft *d, struct err *e)
{
	struct record_set *s = d->set;
	if (d->to == &s->scratch) {
		int r = codec_compress(d->style->codec, d->style->level, s->scratch.data, s->scratch.len, &s->bytes, e);
		if (r) {
			draft_drop(d);
			return r;
		}
	}
	d->head.size_bytes = (uint32_t)(s->bytes.len - d->batch_at);
	d->head.last_offset_delta = d->head.record_count - 1;
	batch_encode(&d->head, s->bytes.data + d->batch_at);
	s->batch[s->batch_count++] = (struct batch_meta){
		.at = (uint32_t)d->batch_at, .size_bytes = d->head.size_bytes, .first_mark = d->first_mark, .mark_count = s->mark_count - d->first_mark,
		.last_offset_delta = d->head.last_offset_delta, .attributes = d->head.attributes, .max_timestamp_ms = d->head.max_timestamp_ms,
		.view_bytes = d->view_bytes,
	};
	return 0;
}

/* ---- lines ---- */

/* An unsigned varint below 0x4000, in one or two bytes without a branch; two bytes of room. */
static inline uint8_t *put_short(uint8_t *o, uint32_t v)
{
	uint32_t two = v > 0x7f;
	o[0] = (uint8_t)((v & 0x7f) | two << 7);
	o[1] = (uint8_t)(v >> 7);
	return o + 1 + two;
}

static inline uint8_t *put_varint(uint8_t *o, uint64_t v)
{
	return __builtin_expect(v < 0x4000, 1) ? put_short(o, (uint32_t)v) : o + uvarint_put(o, v);
}

static inline size_t size_varint(uint64_t v)
{
	return __builtin_expect(v < 0x4000, 1) ? 1 + (size_t)(v > 0x7f) : uvarint_size(v);
}

/* Room for `need` bytes of records at least, as a rule for all of the text that is left; *stop: its end, or where the area would be
 * too large. NULL: no memory. */
static uint8_t *lines_room(struct draft *d, size_t text_left, size_t need, uint8_t **stop)
{
	size_t most = d->max_area - (d->to->len - d->area_at);
	size_t room = text_left + text_left / 8 + 256; /* enough for lines of 80 bytes and more */
	room = room > need ? room : need;
	uint8_t *o = wr_room(d->to, room < most ? room : most);
	if (!o)
		return NULL;
	room = d->to->cap - d->to->len;
	*stop = o + (room < most ? room : most);
	return o;
}

/* Makes records of the lines from *text on, until they end or the next would make the area too large. */
static int add_lines(struct draft *d, const uint8_t **text, const uint8_t *end, struct err *e)
{
	const uint8_t *p = *text;
	uint8_t *stop, *o = lines_room(d, (size_t)(end - p), 0, &stop), *area = o;
	uint32_t count = 0;
	if (!o)
		return draft_no_memory(d, e);
	while (p < end) {
		const uint8_t *newline = memchr(p, '\n', (size_t)(end - p));
		size_t len = (size_t)(newline - p);
		uint64_t zlen = zigzag((int64_t)len), zdelta = zigzag(count);
		/* Attributes, timestamp delta, key length and header count have a byte each. */
		uint64_t body = 4 + size_varint(zdelta) + size_varint(zlen) + len, zbody = zigzag((int64_t)body);
		size_t size = size_varint(zbody) + body;
		if (__builtin_expect(size > (size_t)(stop - o), 0)) {
			if (size > d->max_area - (size_t)(o - area))
				break;
			d->to->len = d->area_at + (size_t)(o - area);
			o = lines_room(d, (size_t)(end - p), size, &stop);
			if (!o)
				return draft_no_memory(d, e);
			area = d->to->data + d->area_at;
		}
		if (__builtin_expect((size_t)(o - area) >= d->next_mark, 0) && !draft_mark(d, (size_t)(o - area), count, (uint64_t)(p - *text)))
			return draft_no_memory(d, e);
		o = put_varint(o, zbody);
		*o++ = 0;
		*o++ = 0;
		o = put_varint(o, zdelta);
		*o++ = 1; /* no key: -1 */
		o = put_varint(o, zlen);
		memcpy(o, p, len);
		o += len;
		*o++ = 0;
		count++;
		p = newline + 1;
	}
	d->to->len = d->area_at + (size_t)(o - area);
	d->head.record_count = (int32_t)count;
	d->view_bytes = (uint64_t)(p - *text); /* lines with their newlines, as they came */
	*text = p;
	return 0;
}

/* Sequences are not negative: after INT32_MAX comes 0. */
static int32_t sequence_after(int32_t sequence, int32_t count)
{
	return (int32_t)(((uint32_t)sequence + (uint32_t)count) & INT32_MAX);
}

int record_set_add_lines(struct record_set *s, const struct batch_style *style, const void *text, size_t n, int64_t now_ms,
			 size_t *taken, struct err *e)
{
	const uint8_t *p = text, *end = p + n;
	int32_t sequence = style->base_sequence;
	*taken = 0;
	if (n && end[-1] != '\n')
		return err_set(e, ERR_INVALID, "the last line has no newline");
	while (p < end) {
		struct draft d;
		int r = draft_begin(&d, s, style, sequence, e);
		if (!r && d.max_area > LINES_AREA_BYTES && memchr(p, '\n', (size_t)(end - p) < LINES_AREA_BYTES / 2 ? (size_t)(end - p) : LINES_AREA_BYTES / 2))
			d.max_area = LINES_AREA_BYTES;
		if (!r)
			r = add_lines(&d, &p, end, e);
		if (!r && !d.head.record_count) {
			draft_drop(&d);
			size_t len = (size_t)((const uint8_t *)memchr(p, '\n', (size_t)(end - p)) - p);
			r = err_set(e, ERR_TOO_LARGE, "a line of %zu bytes does not fit into a batch of %u bytes (max.message.bytes)", len,
				    style->max_batch_bytes);
		}
		if (r)
			return r;
		d.head.base_timestamp_ms = d.head.max_timestamp_ms = now_ms;
		r = draft_end(&d, e);
		if (r)
			return r;
		sequence = sequence_after(sequence, d.head.record_count);
		*taken = (size_t)(p - (const uint8_t *)text);
	}
	return 0;
}

/* ---- any records ---- */

static void put_bytes(struct wr *w, const void *p, int32_t n)
{
	wr_varint(w, p ? n : -1);
	if (p)
		wr_bytes(w, p, (size_t)n);
}

static size_t bytes_size(const void *p, int32_t n)
{
	return p ? varint_size(n) + (size_t)n : 1;
}

/* Of what follows the record's length. */
static uint64_t body_size(const struct record_in *r, int64_t timestamp_delta, uint32_t offset_delta)
{
	uint64_t size = 1 + varint_size(timestamp_delta) + varint_size(offset_delta) + bytes_size(r->key, r->key_len) +
			bytes_size(r->value, r->value_len) + varint_size(r->header_count);
	for (uint32_t i = 0; i < r->header_count; i++)
		size += bytes_size(r->headers[i].key, r->headers[i].key_len) + bytes_size(r->headers[i].value, r->headers[i].value_len);
	return size;
}

static void put_record(struct wr *w, const struct record_in *r, uint64_t body, int64_t timestamp_delta, uint32_t offset_delta)
{
	wr_varint(w, (int64_t)body);
	wr_i8(w, 0);
	wr_varint(w, timestamp_delta);
	wr_varint(w, offset_delta);
	put_bytes(w, r->key, r->key_len);
	put_bytes(w, r->value, r->value_len);
	wr_varint(w, r->header_count);
	for (uint32_t i = 0; i < r->header_count; i++) {
		put_bytes(w, r->headers[i].key, r->headers[i].key_len);
		put_bytes(w, r->headers[i].value, r->headers[i].value_len);
	}
}

static int add_record(struct draft *d, const struct record_in *r, uint32_t offset_delta, struct err *e)
{
	size_t in_area = d->to->len - d->area_at;
	int64_t timestamp_delta = (int64_t)((uint64_t)r->timestamp_ms - (uint64_t)d->head.base_timestamp_ms);
	uint64_t body = body_size(r, timestamp_delta, offset_delta);
	if (varint_size((int64_t)body) + body > d->max_area - in_area) {
		draft_drop(d);
		return err_set(e, ERR_TOO_LARGE, "the records do not fit into a batch of %u bytes (max.message.bytes)", d->style->max_batch_bytes);
	}
	if (in_area >= d->next_mark && !draft_mark(d, in_area, offset_delta, d->view_bytes))
		return draft_no_memory(d, e);
	put_record(d->to, r, body, timestamp_delta, offset_delta);
	if (d->to->failed)
		return draft_no_memory(d, e);
	if (r->timestamp_ms > d->head.max_timestamp_ms)
		d->head.max_timestamp_ms = r->timestamp_ms;
	if (r->value && !batch_is_control(&d->head))
		d->view_bytes += (uint64_t)r->value_len + 1;
	return 0;
}

int record_set_add_records(struct record_set *s, const struct batch_style *style, int16_t extra_attributes, const struct record_in *in,
			   uint32_t count, struct err *e)
{
	struct draft d;
	if (!count || count > INT32_MAX)
		return err_set(e, ERR_INVALID, "%u records make no batch", count);
	int r = draft_begin(&d, s, style, style->base_sequence, e);
	if (r)
		return r;
	d.head.attributes |= extra_attributes;
	d.head.record_count = (int32_t)count;
	d.head.base_timestamp_ms = d.head.max_timestamp_ms = in[0].timestamp_ms;
	if (batch_is_control(&d.head))
		d.next_mark = SIZE_MAX;
	for (uint32_t i = 0; i < count && !r; i++)
		r = add_record(&d, &in[i], i, e);
	return r ? r : draft_end(&d, e);
}

int record_set_add_marker(struct record_set *s, int64_t producer_id, int16_t producer_epoch, bool commit, int32_t coordinator_epoch,
			  int64_t now_ms, struct err *e)
{
	uint8_t key[4], value[6];
	be16_put(key, 0);
	be16_put(key + 2, commit);
	be16_put(value, 0);
	be32_put(value + 2, (uint32_t)coordinator_epoch);
	struct batch_style style = {.max_batch_bytes = INT32_MAX, .producer_id = producer_id, .producer_epoch = producer_epoch, .base_sequence = -1};
	struct record_in marker = {.key = key, .key_len = sizeof key, .value = value, .value_len = sizeof value, .timestamp_ms = now_ms};
	return record_set_add_records(s, &style, BATCH_TRANSACTIONAL | BATCH_CONTROL, &marker, 1, e);
}
