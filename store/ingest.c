#include "store/ingest.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
	MAGIC_AT = 16, ATTRIBUTES_AT = 21, MAX_TIMESTAMP_AT = 35, LEGACY_MIN_LENGTH = 14,
	KEEP_BYTES = 4 << 20,  /* of memory to decompress into: batches of a megabyte compress well enough that more than that is asked for them at first */
	SLACK_BYTES = 1 << 20, /* of a set's, which is kept until its answer is sent */
};

void ingest_init(struct ingest *g)
{
	wr_init(&g->area, 0);
	wr_init(&g->rewritten, 0);
}

void ingest_release(struct ingest *g)
{
	wr_release(&g->area);
	wr_release(&g->rewritten);
	ingest_init(g);
}

void ingest_refusal_release(struct ingest_refusal *r)
{
	free(r->errors);
	r->errors = NULL;
	r->error_count = r->error_total = 0;
}

/* A batch on its way. */
struct passage {
	struct ingest *g;
	struct record_set *set;
	const struct ingest_rule *rule;
	struct ingest_refusal *why;
	uint8_t *bytes;         /* the request's */
	struct batch b;         /* its header */
	const uint8_t *area;    /* its records, decompressed */
	size_t area_bytes;
	struct batch_sums sums;
	int64_t now_ms;
	bool no_memory;         /* for a mark */
};

/* Says why, and is the code. */
#define REFUSE(x, code, ...) (err_set(&(x)->why->why, ERR_INVALID, __VA_ARGS__), (code))

/* ---- the frame ---- */

enum frame { FRAME_WHOLE, FRAME_NONE, FRAME_BAD };

/* What stands at p: a whole batch (or message of magic 0 or 1) of *size bytes; what may be the beginning of one; or neither. */
static enum frame look(const uint8_t *p, size_t n, size_t *size)
{
	int32_t length = n >= BATCH_OVERHEAD_BYTES ? (int32_t)be32_get(p + BATCH_LENGTH_AT) : 0;
	if (n < BATCH_OVERHEAD_BYTES)
		return FRAME_NONE;
	if (length < LEGACY_MIN_LENGTH)
		return FRAME_BAD;
	if (n <= MAGIC_AT)
		return FRAME_NONE;
	if (p[MAGIC_AT] > 2)
		return FRAME_BAD;
	*size = (size_t)length + BATCH_OVERHEAD_BYTES;
	return n < *size ? FRAME_NONE : FRAME_WHOLE;
}

static enum ingest_code check_frame(struct passage *x, size_t n)
{
	const uint8_t *p = x->bytes;
	size_t size = 0, more;
	enum frame f = look(p, n, &size);
	if (f == FRAME_BAD)
		return REFUSE(x, INGEST_CORRUPT, "%zu bytes begin with no record batch: its length or magic is impossible", n);
	if (f == FRAME_NONE)
		return REFUSE(x, INGEST_INVALID, "there is no whole record batch in the %zu bytes", n);
	if (p[MAGIC_AT] != 2)
		return REFUSE(x, INGEST_INVALID, "messages of format %d (magic) are from before Kafka 0.11: only batches of magic 2 are taken", p[MAGIC_AT]);
	if (x->rule->no_zstd && size >= BATCH_HEADER_BYTES && (p[ATTRIBUTES_AT + 1] & BATCH_CODEC_MASK) == CODEC_ZSTD)
		return REFUSE(x, INGEST_CODEC, "zstd needs version 7 of Produce at least");
	f = look(p + size, n - size, &more);
	if (f == FRAME_BAD)
		return REFUSE(x, INGEST_CORRUPT, "the %zu bytes behind the record batch are none", n - size);
	if (f == FRAME_WHOLE)
		return REFUSE(x, INGEST_INVALID, "there is more than one record batch for the partition");
	x->b.size_bytes = (uint32_t)size;
	return INGEST_OK;
}

/* ---- the header ---- */

static enum ingest_code check_header(struct passage *x)
{
	const uint8_t *p = x->bytes;
	struct batch *b = &x->b;
	uint32_t size = b->size_bytes;
	if (be64_get(p) != 0)
		return REFUSE(x, INGEST_INVALID, "the base offset of a new batch is 0, not %" PRId64, (int64_t)be64_get(p));
	if (size > x->rule->max_batch_bytes)
		return REFUSE(x, INGEST_TOO_LARGE, "a batch of %" PRIu32 " bytes is over the limit of %" PRIu32 " (max.message.bytes)", size, x->rule->max_batch_bytes);
	if (size < BATCH_HEADER_BYTES)
		return REFUSE(x, INGEST_CORRUPT, "a batch of %" PRIu32 " bytes has no room for its header", size);
	uint32_t crc = crc32c(0, p + BATCH_CRC_FROM, size - BATCH_CRC_FROM);
	if (crc != be32_get(p + BATCH_CRC_AT))
		return REFUSE(x, INGEST_CORRUPT, "the CRC of a batch of %" PRIu32 " bytes is %08" PRIx32 ", not %08" PRIx32 " as it says", size, crc, be32_get(p + BATCH_CRC_AT));
	if ((p[ATTRIBUTES_AT + 1] & BATCH_CODEC_MASK) >= CODEC_COUNT)
		return REFUSE(x, INGEST_CODEC, "codec %d is unknown", p[ATTRIBUTES_AT + 1] & BATCH_CODEC_MASK);
	if (batch_decode(b, p, size, size, &x->why->why) < 0)
		return INGEST_INVALID;
	if (b->record_count < 1 || b->record_count - 1 != b->last_offset_delta)
		return REFUSE(x, INGEST_INVALID, "%d records do not go with a last offset delta of %d in a new batch", b->record_count, b->last_offset_delta);
	if (batch_is_control(b))
		return REFUSE(x, INGEST_INVALID, "clients write no control batches");
	if (b->producer_id >= 0 && b->base_sequence < 0)
		return REFUSE(x, INGEST_INVALID, "a batch of producer %" PRId64 " has sequence %d", b->producer_id, b->base_sequence);
	return INGEST_OK;
}

/* ---- the records ---- */

static void note_mark(void *arg, const struct batch_mark *m)
{
	struct passage *x = arg;
	x->no_memory |= !record_set_mark(x->set, m);
}

static enum codec target_codec(const struct passage *x)
{
	return x->rule->keep_codec ? batch_codec(&x->b) : x->rule->codec;
}

static bool stamps(const struct passage *x) /* the client has set log append time, where records have their maker's */
{
	return x->b.attributes & BATCH_LOG_APPEND_TIME;
}

static enum ingest_code no_memory(struct passage *x)
{
	return REFUSE(x, INGEST_NO_MEMORY, "no memory for a batch of %" PRIu32 " bytes", x->b.size_bytes);
}

static enum ingest_code read_records(struct passage *x)
{
	int r = batch_records(&x->b, x->bytes, &x->g->area, &x->area, &x->area_bytes, &x->why->why);
	if (r == 0)
		r = batch_sum(&x->b, x->area, x->area_bytes, BATCH_MARK_BYTES, target_codec(x) == CODEC_NONE ? note_mark : NULL, x, &x->sums, &x->why->why);
	if (r == 0)
		return x->no_memory ? no_memory(x) : INGEST_OK;
	return r == ERR_NO_MEMORY ? INGEST_NO_MEMORY : r == ERR_TOO_LARGE ? INGEST_TOO_LARGE : INGEST_INVALID;
}

/* Kafka's arithmetic, which wraps. */
static bool is_out_of_range(const struct ingest_rule *rule, int64_t timestamp_ms, int64_t now_ms)
{
	int64_t behind = (int64_t)((uint64_t)now_ms - (uint64_t)timestamp_ms), ahead = (int64_t)(0 - (uint64_t)behind);
	return behind > rule->timestamp_before_max_ms || ahead > rule->timestamp_after_max_ms;
}

static int64_t record_time(const struct passage *x, const struct record *r)
{
	return stamps(x) ? x->b.max_timestamp_ms : (int64_t)((uint64_t)x->b.base_timestamp_ms + (uint64_t)r->timestamp_ms);
}

static void add_error(struct ingest_refusal *why, int32_t index, const char *text)
{
	if (!why->errors && !(why->errors = calloc(INGEST_ERRORS_MAX, sizeof *why->errors)))
		return;
	if (why->error_count < INGEST_ERRORS_MAX) {
		why->errors[why->error_count].index = index;
		snprintf(why->errors[why->error_count++].text, sizeof why->errors->text, "%s", text);
	}
}

/* What is wrong with one record; 0: nothing. */
static enum ingest_code record_fault(const struct passage *x, const struct record *r, char text[sizeof ((struct record_error *)0)->text])
{
	const size_t room = sizeof ((struct record_error *)0)->text;
	int64_t timestamp_ms = record_time(x, r);
	if (x->rule->needs_keys && !r->key) {
		snprintf(text, room, "a compacted topic takes no message without a key");
		return INGEST_INVALID;
	}
	if (!x->rule->log_append_time && timestamp_ms != -1) {
		if (!is_out_of_range(x->rule, timestamp_ms, x->now_ms))
			return INGEST_OK;
		snprintf(text, room, "timestamp %" PRId64 " is too far from %" PRId64 ", the time here: at most %" PRId64 " ms before and %" PRId64 " ms after it are allowed", timestamp_ms,
			 x->now_ms, x->rule->timestamp_before_max_ms, x->rule->timestamp_after_max_ms);
		return INGEST_TIMESTAMP;
	}
	if (stamps(x)) {
		snprintf(text, room, "its batch claims log append time, which is for the broker to give");
		return INGEST_TIMESTAMP;
	}
	return INGEST_OK;
}

/* Record by record, for batches in which something may be wrong. */
static enum ingest_code find_faults(struct passage *x)
{
	const uint8_t *p = x->area, *end = p + x->area_bytes;
	enum ingest_code all = INGEST_OK;
	for (int32_t i = 0; i < x->b.record_count; i++) {
		struct record r;
		char text[sizeof ((struct record_error *)0)->text];
		if (!record_decode(&p, end, &r))
			return REFUSE(x, INGEST_INVALID, "record %d is malformed", i);
		enum ingest_code code = record_fault(x, &r, text);
		if (code == INGEST_OK)
			continue;
		x->why->error_total++;
		add_error(x->why, i, text);
		all = all == INGEST_TIMESTAMP ? all : code;
	}
	if (all == INGEST_TIMESTAMP)
		return REFUSE(x, all, "%" PRIu32 " records were refused, for their timestamps", x->why->error_total);
	if (all != INGEST_OK)
		return REFUSE(x, all, "%" PRIu32 " records were refused", x->why->error_total);
	return INGEST_OK;
}

/* Whether any record may be at fault, by the sums. */
static bool may_have_faults(const struct passage *x)
{
	const struct ingest_rule *rule = x->rule;
	int64_t min = x->sums.min_timestamp_ms, max = x->sums.max_timestamp_ms, least, most;
	if (stamps(x) || (rule->needs_keys && x->sums.null_keys))
		return true;
	if (rule->log_append_time)
		return false;
	if (__builtin_sub_overflow(x->now_ms, rule->timestamp_before_max_ms, &least))
		least = INT64_MIN;
	if (__builtin_add_overflow(x->now_ms, rule->timestamp_after_max_ms, &most))
		most = INT64_MAX;
	return min < least || max > most;
}

/* ---- the topic's form ---- */

static int64_t greatest_time(const struct passage *x)
{
	int64_t max = stamps(x) ? x->b.max_timestamp_ms : x->sums.max_timestamp_ms;
	return x->rule->log_append_time ? x->now_ms : max > -1 ? max : -1;
}

static enum ingest_code over_segment(struct passage *x, size_t size)
{
	return REFUSE(x, INGEST_LIST_TOO_LARGE, "a batch of %zu bytes is larger than a segment of %" PRIu32 " (segment.bytes)", size, x->rule->segment_bytes);
}

/* Only the header, where it lies; what is as it should be stays untouched. */
static void mend_header(struct passage *x, int16_t attributes, int64_t max_timestamp_ms)
{
	uint8_t *p = x->bytes;
	if (((x->b.attributes ^ attributes) & BATCH_LOG_APPEND_TIME) == 0 && x->b.max_timestamp_ms == max_timestamp_ms)
		return;
	x->b.attributes = attributes;
	x->b.max_timestamp_ms = max_timestamp_ms;
	be16_put(p + ATTRIBUTES_AT, (uint16_t)attributes);
	be64_put(p + MAX_TIMESTAMP_AT, (uint64_t)max_timestamp_ms);
	be32_put(p + BATCH_CRC_AT, crc32c(0, p + BATCH_CRC_FROM, x->b.size_bytes - BATCH_CRC_FROM));
}

static void put_meta(struct passage *x, size_t size)
{
	struct record_set *s = x->set;
	s->batch[s->batch_count++] = (struct batch_meta){
		.size_bytes = (uint32_t)size, .mark_count = s->mark_count, .last_offset_delta = x->b.last_offset_delta, .attributes = x->b.attributes,
		.max_timestamp_ms = x->b.max_timestamp_ms, .view_bytes = x->sums.view_bytes,
	};
}

/* The records again, with offsets that go from 0 one by one; where the client had stamped them, all with that time. */
static enum ingest_code rewrite(struct passage *x)
{
	struct wr *w = &x->g->rewritten;
	const uint8_t *p = x->area, *end = p + x->area_bytes;
	wr_clear(w);
	for (int32_t i = 0; i < x->b.record_count; i++) {
		const uint8_t *c = p;
		struct record r;
		int64_t length, delta, offset;
		if (!record_decode(&p, end, &r) || !varint_get(&c, p, 5, &length))
			return REFUSE(x, INGEST_INVALID, "record %d is malformed", i);
		uint8_t attributes = *c++;
		if (!varint_get(&c, p, 10, &delta) || !varint_get(&c, p, 5, &offset))
			return REFUSE(x, INGEST_INVALID, "record %d is malformed", i);
		if (stamps(x))
			delta = 0;
		size_t rest = (size_t)(p - c);
		wr_varint(w, (int64_t)(1 + varint_size(delta) + varint_size(i) + rest));
		wr_i8(w, (int8_t)attributes);
		wr_varint(w, delta);
		wr_varint(w, i);
		wr_bytes(w, c, rest);
	}
	if (stamps(x))
		x->b.base_timestamp_ms = x->b.max_timestamp_ms;
	if (w->failed)
		return no_memory(x);
	x->area = w->data;
	x->area_bytes = w->len;
	x->set->mark_count = 0;
	if (batch_sum(&x->b, x->area, x->area_bytes, BATCH_MARK_BYTES, target_codec(x) == CODEC_NONE ? note_mark : NULL, x, &x->sums, &x->why->why) < 0)
		return INGEST_INVALID;
	return x->no_memory ? no_memory(x) : INGEST_OK;
}

/* A batch of the area, in the set's own memory. */
static enum ingest_code build(struct passage *x, enum codec codec, int16_t attributes, int64_t max_timestamp_ms)
{
	struct wr *w = &x->set->bytes;
	uint64_t plain = BATCH_HEADER_BYTES + (uint64_t)x->area_bytes;
	int r = 0;
	if (codec != CODEC_NONE || plain <= x->rule->max_batch_bytes) {
		if (!wr_room(w, BATCH_HEADER_BYTES))
			return no_memory(x);
		w->len += BATCH_HEADER_BYTES;
		r = codec_compress(codec, x->rule->keep_codec ? 0 : x->rule->level, x->area, x->area_bytes, w, &x->why->why);
		plain = w->len;
	}
	if (r == ERR_NO_MEMORY)
		return INGEST_NO_MEMORY;
	if (r < 0 || plain > x->rule->max_batch_bytes)
		return REFUSE(x, INGEST_TOO_LARGE, "as the topic wants it (compression.type) a batch of %" PRIu32 " bytes has %" PRIu64 ", over the limit of %" PRIu32 " (max.message.bytes)",
			      x->b.size_bytes, plain, x->rule->max_batch_bytes);
	if (w->len > x->rule->segment_bytes)
		return over_segment(x, w->len);
	if (w->cap - w->len > SLACK_BYTES) { /* what compressing asked for, in case it would not help */
		uint8_t *less = realloc(w->data, w->len);
		w->data = less ? less : w->data;
		w->cap = less ? w->len : w->cap;
	}
	x->b.attributes = attributes;
	x->b.max_timestamp_ms = max_timestamp_ms;
	x->b.size_bytes = (uint32_t)w->len;
	batch_encode(&x->b, w->data);
	put_meta(x, w->len);
	return INGEST_OK;
}

static enum ingest_code transform(struct passage *x)
{
	enum codec codec = target_codec(x);
	int64_t max_timestamp_ms = greatest_time(x);
	int16_t kept = x->b.attributes & (BATCH_TRANSACTIONAL | BATCH_DELETE_HORIZON), type = x->rule->log_append_time ? BATCH_LOG_APPEND_TIME : 0;
	if (codec == batch_codec(&x->b) && x->sums.gapless) {
		if (x->b.size_bytes > x->rule->segment_bytes)
			return over_segment(x, x->b.size_bytes);
		mend_header(x, (int16_t)(codec | kept | type), max_timestamp_ms);
		x->set->lent = x->bytes;
		x->set->lent_bytes = x->b.size_bytes;
		put_meta(x, x->b.size_bytes);
		return INGEST_OK;
	}
	kept &= ~BATCH_DELETE_HORIZON;
	enum ingest_code code = x->sums.gapless && !stamps(x) ? INGEST_OK : rewrite(x);
	return code == INGEST_OK ? build(x, codec, (int16_t)(codec | kept | type), max_timestamp_ms) : code;
}

static enum ingest_code pass(struct passage *x, size_t n)
{
	enum ingest_code code = check_frame(x, n);
	if (code == INGEST_OK)
		code = check_header(x);
	if (code == INGEST_OK && !record_set_room(x->set))
		code = no_memory(x);
	if (code == INGEST_OK)
		code = read_records(x);
	if (code == INGEST_OK && __builtin_expect(may_have_faults(x), 0))
		code = find_faults(x);
	return code == INGEST_OK ? transform(x) : code;
}

enum ingest_code ingest_batch(struct ingest *g, struct record_set *s, void *bytes, size_t n, const struct ingest_rule *rule, int64_t now_ms, struct ingest_refusal *why)
{
	struct passage x = {.g = g, .set = s, .rule = rule, .why = why, .bytes = bytes, .now_ms = now_ms};
	why->why.code = 0;
	why->errors = NULL;
	why->error_count = why->error_total = 0;
	record_set_clear(s);
	enum ingest_code code = pass(&x, n);
	if (code != INGEST_OK)
		record_set_clear(s);
	if (g->area.cap > KEEP_BYTES)
		wr_release(&g->area);
	if (g->rewritten.cap > KEEP_BYTES)
		wr_release(&g->rewritten);
	return code;
}
