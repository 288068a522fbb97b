#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fs/cmd_dump.h"
#include "fs/walk.h"
#include "store/batch.h"

const char *dump_time(int64_t ms, char text[TIME_TEXT_BYTES])
{
	time_t s = ms / 1000;
	struct tm tm;
	/* four digits of a year are what readers of such a time expect */
	if (ms < 0 || s > INT64_C(253402300799) || !gmtime_r(&s, &tm)) {
		snprintf(text, TIME_TEXT_BYTES, "%" PRId64, ms);
		return text;
	}
	size_t n = strftime(text, TIME_TEXT_BYTES, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(text + n, TIME_TEXT_BYTES - n, ".%03dZ", (int)(ms % 1000));
	return text;
}

/* ---- batches ---- */

static void print_flags(const struct batch *b)
{
	static const struct { int bit; const char *name; } flags[] = {
		{BATCH_TRANSACTIONAL, "transactional"},
		{BATCH_CONTROL, "control"},
		{BATCH_LOG_APPEND_TIME, "log-append-time"},
		{BATCH_DELETE_HORIZON, "delete-horizon"},
	};
	const char *comma = "";
	for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
		if (b->attributes & flags[i].bit) {
			printf("%s%s", comma, flags[i].name);
			comma = ",";
		}
	if (!*comma)
		printf("-");
}

static void print_batch(const struct walk_step *s)
{
	const struct batch *b = &s->batch;
	char first[TIME_TEXT_BYTES], last[TIME_TEXT_BYTES];
	printf("base=%" PRId64 " last=%" PRId64 " count=%" PRId32 " position=%" PRIu32 " size=%" PRIu32 " codec=%s epoch=%" PRId32 " producer=%" PRId64
	       " producer_epoch=%d sequence=%" PRId32 " time=%s..%s flags=",
	       b->base_offset, batch_last_offset(b), b->record_count, s->position, b->size_bytes, codec_name(batch_codec(b)), b->leader_epoch, b->producer_id,
	       b->producer_epoch, b->base_sequence, dump_time(b->base_timestamp_ms, first), dump_time(b->max_timestamp_ms, last));
	print_flags(b);
	printf(" crc=%s\n", s->damaged ? "BAD" : "ok");
}

static void print_damage(const struct walk_step *s)
{
	if (s->has_header)
		print_batch(s);
	printf("damaged position=%" PRIu32 " size=%" PRIu32 ": %s\n", s->position, s->size_bytes, s->why.text);
}

/* ---- records ---- */

static json_t *base64(const uint8_t *p, size_t n)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	char *text = malloc((n + 2) / 3 * 4 + 1), *to = text;
	if (!text)
		return NULL;
	for (size_t i = 0; i < n; i += 3) {
		size_t have = n - i < 3 ? n - i : 3;
		uint32_t v = (uint32_t)p[i] << 16 | (have > 1 ? (uint32_t)p[i + 1] << 8 : 0) | (have > 2 ? p[i + 2] : 0);
		*to++ = digits[v >> 18];
		*to++ = digits[v >> 12 & 63];
		*to++ = have > 1 ? digits[v >> 6 & 63] : '=';
		*to++ = have > 2 ? digits[v & 63] : '=';
	}
	json_t *o = json_pack("{s:s#}", "base64", text, (int)(to - text));
	free(text);
	return o;
}

/* A string where the bytes are UTF-8, else {"base64": ...}. NULL: no memory. */
static json_t *json_bytes(const uint8_t *p, int32_t n)
{
	if (!p || n < 0)
		return json_null();
	json_t *s = json_stringn((const char *)p, (size_t)n);
	return s ? s : base64(p, (size_t)n);
}

static json_t *json_headers(const struct record *r)
{
	json_t *list = json_array();
	const uint8_t *p = r->headers, *end = r->headers + r->headers_len;
	struct record_header h;
	for (uint32_t i = 0; list && i < r->header_count && record_header_next(&p, end, &h); i++)
		json_array_append_new(list, json_pack("{s:o, s:o}", "key", json_bytes(h.key, h.key_len), "value", json_bytes(h.value, h.value_len)));
	return list;
}

static int put_json(json_t *o, struct err *e)
{
	if (!o)
		return err_set(e, ERR_NO_MEMORY, "no memory for a record as JSON");
	/* memory once for the whole line: dumping piece by piece costs more than making it */
	char *line = json_dumps(o, JSON_COMPACT);
	json_decref(o);
	if (!line)
		return err_set(e, ERR_NO_MEMORY, "no memory for a record as JSON");
	puts(line);
	free(line);
	return 0;
}

static int put_record(const struct record *r, struct err *e)
{
	return put_json(json_pack("{s:I, s:I, s:o, s:o, s:o}", "offset", (json_int_t)r->offset, "timestamp", (json_int_t)r->timestamp_ms, "key",
				  json_bytes(r->key, r->key_len), "value", json_bytes(r->value, r->value_len), "headers", json_headers(r)),
			e);
}

/* A control record's key says what it marks: abort and commit are a transaction's, the others are Kafka's controllers'. */
static int put_control(const struct batch *b, const struct record *r, struct err *e)
{
	static const char *const types[] = {"abort", "commit", "leader-change", "snapshot-header", "snapshot-footer", "kraft-version", "kraft-voters"};
	int type = r->key && r->key_len >= 4 ? be16_get(r->key + 2) : -1;
	char number[16];
	snprintf(number, sizeof number, "%d", type);
	bool known = type >= 0 && type < (int)(sizeof types / sizeof *types);
	json_t *o = json_pack("{s:I, s:I, s:s, s:I, s:i}", "offset", (json_int_t)r->offset, "timestamp", (json_int_t)r->timestamp_ms, "control",
			      known ? types[type] : number, "producer", (json_int_t)b->producer_id, "producer_epoch", b->producer_epoch);
	if (o && type >= 0 && type <= 1 && r->value && r->value_len >= 6)
		json_object_set_new(o, "coordinator_epoch", json_integer((int32_t)be32_get(r->value + 2)));
	return put_json(o, e);
}

static int put_damage(uint32_t position, uint32_t size_bytes, const char *why, struct err *e)
{
	/* the sentence may quote bytes of the log, which need not be UTF-8 */
	json_t *text = json_bytes((const uint8_t *)why, (int32_t)strlen(why));
	return put_json(json_pack("{s:{s:I, s:I, s:o}}", "damaged", "position", (json_int_t)position, "size", (json_int_t)size_bytes, "error", text), e);
}

/* 1: the batch, although its crc matches, cannot be read to its end. */
static int put_records(const struct walk_step *s, struct wr *scratch, struct err *e)
{
	const uint8_t *area;
	size_t n;
	struct record_iter it;
	struct record r;
	struct err why = ERR_INIT;
	int rc = batch_records(&s->batch, s->bytes, scratch, &area, &n, &why);
	if (rc == 0) {
		record_iter_init(&it, &s->batch, area, n);
		while ((rc = record_next(&it, &r, &why)) == 1) {
			rc = batch_is_control(&s->batch) ? put_control(&s->batch, &r, e) : put_record(&r, e);
			if (rc < 0)
				return rc;
		}
	}
	if (rc == ERR_NO_MEMORY)
		return err_set(e, rc, "%s", why.text);
	if (rc < 0)
		return put_damage(s->position, s->size_bytes, why.text, e) < 0 ? ERR_NO_MEMORY : 1;
	return 0;
}

int dump_log(const struct dump *d, struct err *e)
{
	struct walk w;
	struct walk_step s;
	struct wr scratch;
	int damaged = 0, rc = walk_open(&w, d->path, NULL, e);
	if (rc < 0)
		return rc;
	wr_init(&scratch, 0);
	while ((rc = walk_next(&w, &s, e)) == 1) {
		damaged |= s.damaged;
		if (!d->records)
			s.damaged ? print_damage(&s) : print_batch(&s);
		else if (s.damaged)
			rc = put_damage(s.position, s.size_bytes, s.why.text, e);
		else if ((rc = put_records(&s, &scratch, e)) > 0)
			damaged = 1;
		if (rc < 0)
			break;
	}
	wr_release(&scratch);
	walk_close(&w);
	return rc < 0 ? err_context(e, "%s", d->path) : damaged;
}
