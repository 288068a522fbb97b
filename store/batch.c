#include "store/batch.h"

#include <endian.h>
#include <inttypes.h>
#include <limits.h>

enum { LEGACY_MIN_LENGTH = 14 }; /* of a message of magic 0: crc, magic, attributes, two lengths */

/* ---- headers ---- */

static int check_header(const struct batch *b, struct err *e)
{
	if (batch_codec(b) >= CODEC_COUNT)
		return err_set(e, ERR_CORRUPT, "record batch: codec %d is unknown", (int)batch_codec(b));
	if (b->base_offset < 0 || b->last_offset_delta < 0 || b->base_offset > INT64_MAX - b->last_offset_delta)
		return err_set(e, ERR_CORRUPT, "record batch: base offset %" PRId64 " and last offset delta %d are impossible",
			       b->base_offset, b->last_offset_delta);
	/* Compaction leaves fewer records than offsets, and may leave none. */
	if (b->record_count < 0 || b->record_count - 1 > b->last_offset_delta)
		return err_set(e, ERR_CORRUPT, "record batch at offset %" PRId64 ": %d records do not go with a last offset delta of %d",
			       b->base_offset, b->record_count, b->last_offset_delta);
	return 0;
}

int batch_decode(struct batch *b, const void *p, size_t have, uint32_t max_bytes, struct err *e)
{
	const uint8_t *h = p;
	int32_t length = have > 16 ? (int32_t)be32_get(h + BATCH_LENGTH_AT) : 0;
	if (have > 16 && (h[16] == 0 || h[16] == 1) && length >= LEGACY_MIN_LENGTH) /* a length, lest zeros pass for one */
		return err_set(e, ERR_UNSUPPORTED, "messages of format %d (magic) are from before Kafka 0.11: let Kafka rewrite them as 2", h[16]);
	if (have < BATCH_HEADER_BYTES)
		return err_set(e, ERR_CORRUPT, "record batch: %zu bytes are no header", have);
	if (h[16] != 2)
		return err_set(e, ERR_CORRUPT, "record batch: magic is %d, not 2", (int8_t)h[16]);
	if (length < BATCH_HEADER_BYTES - BATCH_OVERHEAD_BYTES || (int64_t)length + BATCH_OVERHEAD_BYTES > (int64_t)max_bytes)
		return err_set(e, ERR_CORRUPT, "record batch: its length of %d + %d bytes is not within %d and %u", length,
			       BATCH_OVERHEAD_BYTES, BATCH_HEADER_BYTES, max_bytes);
	*b = (struct batch){
		.base_offset = (int64_t)be64_get(h),
		.size_bytes = (uint32_t)length + BATCH_OVERHEAD_BYTES,
		.leader_epoch = (int32_t)be32_get(h + BATCH_EPOCH_AT),
		.crc = be32_get(h + BATCH_CRC_AT),
		.attributes = (int16_t)be16_get(h + 21),
		.last_offset_delta = (int32_t)be32_get(h + 23),
		.base_timestamp_ms = (int64_t)be64_get(h + 27),
		.max_timestamp_ms = (int64_t)be64_get(h + 35),
		.producer_id = (int64_t)be64_get(h + 43),
		.producer_epoch = (int16_t)be16_get(h + 51),
		.base_sequence = (int32_t)be32_get(h + 53),
		.record_count = (int32_t)be32_get(h + 57),
	};
	return check_header(b, e);
}

bool batch_crc_matches(const struct batch *b, const void *p)
{
	return crc32c(0, (const uint8_t *)p + BATCH_CRC_FROM, b->size_bytes - BATCH_CRC_FROM) == b->crc;
}

void batch_encode(const struct batch *b, void *p)
{
	uint8_t *h = p;
	be64_put(h, (uint64_t)b->base_offset);
	be32_put(h + BATCH_LENGTH_AT, b->size_bytes - BATCH_OVERHEAD_BYTES);
	be32_put(h + BATCH_EPOCH_AT, (uint32_t)b->leader_epoch);
	h[16] = 2;
	be16_put(h + 21, (uint16_t)b->attributes);
	be32_put(h + 23, (uint32_t)b->last_offset_delta);
	be64_put(h + 27, (uint64_t)b->base_timestamp_ms);
	be64_put(h + 35, (uint64_t)b->max_timestamp_ms);
	be64_put(h + 43, (uint64_t)b->producer_id);
	be16_put(h + 51, (uint16_t)b->producer_epoch);
	be32_put(h + 53, (uint32_t)b->base_sequence);
	be32_put(h + 57, (uint32_t)b->record_count);
	be32_put(h + BATCH_CRC_AT, crc32c(0, h + BATCH_CRC_FROM, b->size_bytes - BATCH_CRC_FROM));
}

/* ---- records ---- */

/* A 32 bit varint; lengths are of one or two bytes as a rule. */
static inline bool get_i32(const uint8_t **p, const uint8_t *end, int32_t *v)
{
	const uint8_t *c = *p;
	int64_t wide;
	if (__builtin_expect(end - c >= 2, 1)) {
		if (c[0] < 0x80) {
			*v = (int32_t)unzigzag(c[0]);
			*p = c + 1;
			return true;
		}
		if (c[1] < 0x80) {
			*v = (int32_t)unzigzag((c[0] & 0x7fu) | (uint32_t)c[1] << 7);
			*p = c + 2;
			return true;
		}
	}
	if (!varint_get(p, end, 5, &wide) || wide != (int32_t)wide) /* five bytes hold 35 bits */
		return false;
	*v = (int32_t)wide;
	return true;
}

/* Length and bytes. Any negative length is null, as in Kafka's own reader. */
static inline bool get_bytes(const uint8_t **p, const uint8_t *end, const uint8_t **bytes, int32_t *n)
{
	if (!get_i32(p, end, n))
		return false;
	if (*n < 0) {
		*n = -1;
		*bytes = NULL;
		return true;
	}
	if (*n > end - *p)
		return false;
	*bytes = *p;
	*p += *n;
	return true;
}

bool record_header_next(const uint8_t **p, const uint8_t *end, struct record_header *h)
{
	return get_bytes(p, end, &h->key, &h->key_len) && h->key && get_bytes(p, end, &h->value, &h->value_len);
}

bool record_decode(const uint8_t **p, const uint8_t *end, struct record *r)
{
	const uint8_t *c = *p;
	int32_t length, offset_delta, header_count;
	if (!get_i32(&c, end, &length) || length < 1 || length > end - c)
		return false;
	const uint8_t *stop = c + length;
	c++; /* attributes: none is in use */
	if (!varint_get(&c, stop, 10, &r->timestamp_ms) || !get_i32(&c, stop, &offset_delta) || !get_bytes(&c, stop, &r->key, &r->key_len) ||
	    !get_bytes(&c, stop, &r->value, &r->value_len) || !get_i32(&c, stop, &header_count) || header_count < 0)
		return false;
	r->offset = offset_delta;
	r->headers = c;
	r->headers_len = (uint32_t)(stop - c);
	r->header_count = (uint32_t)header_count;
	for (int32_t i = 0; i < header_count; i++) {
		struct record_header h;
		if (!record_header_next(&c, stop, &h))
			return false;
	}
	if (c != stop)
		return false;
	r->at = 0;
	r->size = (uint32_t)(stop - *p);
	*p = stop;
	return true;
}

void record_iter_init(struct record_iter *it, const struct batch *b, const void *area, size_t n)
{
	*it = (struct record_iter){.begin = area, .p = area, .end = (const uint8_t *)area + n, .batch = b, .left = b->record_count, .last_delta = -1};
}

int record_next(struct record_iter *it, struct record *r, struct err *e)
{
	const struct batch *b = it->batch;
	const uint8_t *at = it->p;
	if (!it->left) {
		if (at == it->end)
			return 0;
		return err_set(e, ERR_CORRUPT, "record batch at offset %" PRId64 ": %td bytes are left after its %d records", b->base_offset,
			       it->end - at, b->record_count);
	}
	if (!record_decode(&it->p, it->end, r))
		return err_set(e, ERR_CORRUPT, "record batch at offset %" PRId64 ": record %d of %d is malformed", b->base_offset,
			       b->record_count - it->left, b->record_count);
	if (r->offset <= it->last_delta || r->offset > b->last_offset_delta) {
		it->p = at;
		return err_set(e, ERR_CORRUPT, "record batch at offset %" PRId64 ": offset delta %" PRId64 " after %" PRId64 ", the last being %d",
			       b->base_offset, r->offset, it->last_delta, b->last_offset_delta);
	}
	it->last_delta = r->offset;
	it->left--;
	r->at = (uint32_t)(at - it->begin);
	r->offset += b->base_offset;
	/* A hostile delta may be anything: it wraps, as in Kafka. */
	r->timestamp_ms = b->attributes & BATCH_LOG_APPEND_TIME ? b->max_timestamp_ms
								: (int64_t)((uint64_t)b->base_timestamp_ms + (uint64_t)r->timestamp_ms);
	return 1;
}

size_t batch_area_limit(const struct batch *b)
{
	uint64_t limit = (64u << 20) + 16 * (uint64_t)b->size_bytes;
	return limit < INT32_MAX ? (size_t)limit : INT32_MAX;
}

int batch_records(const struct batch *b, const void *bytes, struct wr *scratch, const uint8_t **area, size_t *n, struct err *e)
{
	const uint8_t *in = (const uint8_t *)bytes + BATCH_HEADER_BYTES;
	size_t in_bytes = b->size_bytes - BATCH_HEADER_BYTES;
	if (batch_codec(b) == CODEC_NONE || !in_bytes) { /* an empty area holds no frame of its codec either */
		*area = in;
		*n = in_bytes;
		return 0;
	}
	size_t limit = scratch->limit;
	wr_clear(scratch);
	if (scratch->limit > batch_area_limit(b))
		scratch->limit = batch_area_limit(b);
	int r = codec_decompress(batch_codec(b), in, in_bytes, scratch, e);
	scratch->limit = limit;
	if (r) {
		err_context(e, "record batch at offset %" PRId64, b->base_offset);
		return r;
	}
	*area = scratch->len ? scratch->data : in; /* never NULL */
	*n = scratch->len;
	return 0;
}

/* ---- the view ---- */

/* Where the value of the record between p and stop begins, p being past its length; NULL: malformed. len: -1 for null. */
static inline const uint8_t *find_value(const uint8_t *p, const uint8_t *stop, int32_t *len)
{
	const uint8_t *key;
	int32_t offset_delta, key_len;
	int64_t timestamp_delta;
	if (__builtin_expect(stop - p >= 16, 1)) {
		/* Both deltas at once: the last byte of each is one without its top bit. */
		uint64_t word, last;
		memcpy(&word, p + 1, 8);
		last = ~le64toh(word) & 0x8080808080808080;
		last &= last - 1;
		if (__builtin_expect(last != 0, 1)) {
			p += 2 + ((unsigned)__builtin_ctzll(last) >> 3);
			return get_bytes(&p, stop, &key, &key_len) && get_i32(&p, stop, len) && *len <= stop - p ? p : NULL;
		}
	}
	if (p == stop)
		return NULL;
	p++;
	return varint_get(&p, stop, 10, &timestamp_delta) && get_i32(&p, stop, &offset_delta) && get_bytes(&p, stop, &key, &key_len) &&
	       get_i32(&p, stop, len) && *len <= stop - p ? p : NULL;
}

ssize_t batch_project(const uint8_t **p, const uint8_t *end, uint8_t *out, size_t room)
{
	const uint8_t *at = *p;
	uint8_t *o = out, *out_end = out + room;
	while (at < end) {
		const uint8_t *c = at;
		int32_t length, len;
		if (!get_i32(&c, end, &length) || length < 1 || length > end - c)
			goto malformed;
		const uint8_t *stop = c + length, *value = find_value(c, stop, &len);
		if (!value)
			goto malformed;
		if (len >= 0) {
			if (len >= out_end - o)
				break;
			memcpy(o, value, (size_t)len);
			o += len;
			*o++ = '\n';
		}
		at = stop;
	}
	*p = at;
	return o - out;
malformed:
	*p = at;
	return o > out ? o - out : ERR_CORRUPT; /* what is whole before it is given first */
}

ssize_t batch_project_piece(const uint8_t **p, const uint8_t *end, size_t *given, uint8_t *out, size_t room)
{
	const uint8_t *next = *p;
	struct record r;
	if (!record_decode(&next, end, &r))
		return ERR_CORRUPT;
	size_t total = r.value ? (size_t)r.value_len + 1 : 0, n = total - *given;
	if (n > room)
		n = room;
	size_t of_value = *given < (size_t)total - (total > 0) ? total - 1 - *given : 0;
	if (of_value > n)
		of_value = n;
	if (of_value)
		memcpy(out, r.value + *given, of_value);
	if (n > of_value)
		out[of_value] = '\n';
	*given += n;
	if (*given == total) {
		*given = 0;
		*p = next;
	}
	return (ssize_t)n;
}

/* ---- whole batches ---- */

/* A 64 bit varint, mostly of one or two bytes. */
static inline bool get_i64(const uint8_t **p, const uint8_t *end, int64_t *v)
{
	const uint8_t *c = *p;
	if (__builtin_expect(end - c >= 2, 1)) {
		if (c[0] < 0x80) {
			*v = unzigzag(c[0]);
			*p = c + 1;
			return true;
		}
		if (c[1] < 0x80) {
			*v = unzigzag((c[0] & 0x7fu) | (uint32_t)c[1] << 7);
			*p = c + 2;
			return true;
		}
	}
	return varint_get(p, end, 10, v);
}

/* Headers, from their count on. */
static bool skip_headers(const uint8_t *c, const uint8_t *stop)
{
	struct record_header h;
	int32_t count;
	if (!get_i32(&c, stop, &count) || count < 0)
		return false;
	for (; count > 0; count--)
		if (!record_header_next(&c, stop, &h))
			return false;
	return c == stop;
}

struct record_sum { int64_t timestamp_delta; int32_t offset_delta, value_len; bool has_key; };

/* record_decode for who wants no more than that. */
static inline bool sum_record(const uint8_t **p, const uint8_t *end, struct record_sum *r)
{
	const uint8_t *c = *p, *bytes;
	int32_t length, key_len;
	if (!get_i32(&c, end, &length) || length < 1 || length > end - c)
		return false;
	const uint8_t *stop = c + length;
	c++;
	if (!get_i64(&c, stop, &r->timestamp_delta) || !get_i32(&c, stop, &r->offset_delta) || !get_bytes(&c, stop, &bytes, &key_len) ||
	    !get_bytes(&c, stop, &bytes, &r->value_len))
		return false;
	r->has_key = key_len >= 0;
	*p = stop;
	return __builtin_expect(stop - c == 1 && !*c, 1) || skip_headers(c, stop);
}

static int sum_error(const struct batch *b, int32_t at, ptrdiff_t left, struct err *e)
{
	if (at < b->record_count)
		return err_set(e, ERR_CORRUPT, "record batch at offset %" PRId64 ": record %d of %d is malformed", b->base_offset, at, b->record_count);
	return err_set(e, ERR_CORRUPT, "record batch at offset %" PRId64 ": %td bytes are left after its %d records", b->base_offset, left, b->record_count);
}

int batch_sum(const struct batch *b, const void *area, size_t n, uint32_t step, void (*mark)(void *arg, const struct batch_mark *m), void *arg,
	      struct batch_sums *sums, struct err *e)
{
	const uint8_t *begin = area, *p = begin, *end = begin + n;
	size_t next_mark = mark ? (step ? step : 1) : SIZE_MAX;
	uint64_t view = 0;
	int64_t min = INT64_MAX, max = INT64_MIN, last_delta = -1;
	uint32_t null_keys = 0;
	bool rising = true, gapless = true;
	for (int32_t i = 0; i < b->record_count; i++) {
		struct record_sum r;
		size_t at = (size_t)(p - begin);
		if (!sum_record(&p, end, &r))
			return sum_error(b, i, end - p, e);
		int64_t timestamp = (int64_t)((uint64_t)b->base_timestamp_ms + (uint64_t)r.timestamp_delta); /* a hostile delta wraps, as in Kafka */
		max = timestamp > max ? timestamp : max;
		if (timestamp < min && timestamp != -1)
			min = timestamp;
		null_keys += !r.has_key;
		rising &= r.offset_delta > last_delta;
		gapless &= r.offset_delta == i;
		last_delta = r.offset_delta;
		if (__builtin_expect(at >= next_mark, 0)) {
			mark(arg, &(struct batch_mark){.byte = (uint32_t)(BATCH_HEADER_BYTES + at), .record = (uint32_t)r.offset_delta, .view_bytes = view});
			next_mark = at + step;
		}
		if (r.value_len >= 0)
			view += (uint64_t)r.value_len + 1;
	}
	if (p != end)
		return sum_error(b, b->record_count, end - p, e);
	*sums = (struct batch_sums){view, min, max, null_keys, rising && last_delta <= b->last_offset_delta, gapless};
	return 0;
}

int batch_scan(const struct batch *b, const void *bytes, struct wr *scratch, uint32_t step, uint64_t *view_bytes,
	       void (*mark)(void *arg, const struct batch_mark *m), void *arg, struct err *e)
{
	const uint8_t *area;
	size_t n;
	struct batch_sums sums;
	bool marks = batch_codec(b) == CODEC_NONE && !batch_is_control(b);
	int r = batch_records(b, bytes, scratch, &area, &n, e);
	if (r == 0)
		r = batch_sum(b, area, n, step, marks ? mark : NULL, arg, &sums, e);
	if (r)
		return r;
	if (!sums.rising)
		return err_set(e, ERR_CORRUPT, "record batch at offset %" PRId64 ": the offset deltas of its records do not rise within %d", b->base_offset, b->last_offset_delta);
	*view_bytes = batch_is_control(b) ? 0 : sums.view_bytes;
	return 0;
}

int batch_control_type(const struct batch *b, const void *bytes, int32_t *coordinator_epoch, struct err *e)
{
	const uint8_t *area;
	size_t n;
	struct record_iter it;
	struct record rec;
	struct wr scratch;
	wr_init(&scratch, 0);
	int r = batch_records(b, bytes, &scratch, &area, &n, e);
	if (r)
		goto done;
	record_iter_init(&it, b, area, n);
	r = record_next(&it, &rec, e);
	if (r < 0)
		goto done;
	if (!r) {
		r = err_set(e, ERR_NOT_FOUND, "control batch at offset %" PRId64 " was emptied by compaction", b->base_offset);
		goto done;
	}
	/* Key: version i16, type i16. Value of a transaction's end: version i16, coordinator epoch i32. */
	int type = rec.key_len >= 4 ? be16_get(rec.key + 2) : -1;
	bool ends_transaction = type == 0 || type == 1;
	if (type < 0 || type > INT16_MAX || (ends_transaction && rec.value_len < 6)) {
		r = err_set(e, ERR_CORRUPT, "control batch at offset %" PRId64 ": its record is malformed", b->base_offset);
		goto done;
	}
	if (coordinator_epoch)
		*coordinator_epoch = ends_transaction ? (int32_t)be32_get(rec.value + 2) : -1;
	r = type;
done:
	wr_release(&scratch);
	return r;
}
