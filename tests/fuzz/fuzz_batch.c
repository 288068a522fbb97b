/*
 * fuzz_batch: any bytes as the records of a Produce request. Whatever is refused leaves nothing behind; whatever is taken in can be read back by all that read logs.
 *
 * Input: 8 bytes that choose the rule and how the rest is dressed, then the rest:
 *
 *    0  bits 0-2: the topic's codec (5 and more: as the producer's), 3: log append time, 4: keys needed, 5: no zstd, 6: small limits, 7: timestamps are bounded
 *    1  bits 0-1: 0 the rest as it is; 1 with length, magic, base offset and CRC set right; 2, 3 it is a record area, which gets a header, and is compressed with the
 *       codec of bits 2-4 (5 and more: not)
 *    2  records, by the header of such an area
 *    3  attributes of it, beside the codec
 *    4  32 bits, added to its base timestamp
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/ingest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CHOICES = 8 };
static const int64_t now_ms = 1700000000000;

static void must(int good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "fuzz_batch: %s\n", what);
	abort();
}

static void set_crc(uint8_t *p, size_t n)
{
	be32_put(p + BATCH_CRC_AT, crc32c(0, p + BATCH_CRC_FROM, n - BATCH_CRC_FROM));
}

/* The batch, in memory of just its size. */
static uint8_t *dress(const uint8_t *choice, const uint8_t *rest, size_t n, size_t *size)
{
	struct wr w;
	enum codec codec = (choice[1] >> 2 & 7) < CODEC_COUNT ? (enum codec)(choice[1] >> 2 & 7) : CODEC_NONE;
	wr_init(&w, 0);
	if ((choice[1] & 3) >= 2) {
		struct batch b = {.leader_epoch = -1, .producer_id = choice[3] & 1 ? 5 : -1, .producer_epoch = 0, .base_sequence = 7, .record_count = choice[2], .last_offset_delta = choice[2] - 1,
				  .attributes = (int16_t)(codec | (choice[3] & ~BATCH_CODEC_MASK)), .base_timestamp_ms = now_ms + (int32_t)be32_get(choice + 4),
				  .max_timestamp_ms = now_ms};
		must(wr_room(&w, BATCH_HEADER_BYTES) != NULL, "memory");
		w.len = BATCH_HEADER_BYTES;
		must(codec_compress(codec, 0, rest, n, &w, NULL) == 0, "compressing failed");
		b.size_bytes = (uint32_t)w.len;
		batch_encode(&b, w.data);
	} else {
		wr_bytes(&w, rest, n);
		if ((choice[1] & 3) == 1 && n >= BATCH_HEADER_BYTES) {
			be64_put(w.data, 0);
			be32_put(w.data + BATCH_LENGTH_AT, (uint32_t)n - BATCH_OVERHEAD_BYTES);
			w.data[16] = 2;
			set_crc(w.data, n);
		}
	}
	uint8_t *exact = malloc(w.len ? w.len : 1);
	must(exact != NULL, "memory");
	if (w.len)
		memcpy(exact, w.data, w.len);
	*size = w.len;
	wr_release(&w);
	return exact;
}

static struct ingest_rule rule_of(const uint8_t *choice)
{
	int codec = choice[0] & 7;
	return (struct ingest_rule){
		.max_batch_bytes = choice[0] & 64 ? 200 : 1 << 20, .segment_bytes = choice[0] & 64 ? 180 : 1 << 30, .timestamp_before_max_ms = choice[0] & 128 ? 100000 : INT64_MAX,
		.timestamp_after_max_ms = 3600000, .log_append_time = choice[0] & 8, .needs_keys = choice[0] & 16, .no_zstd = choice[0] & 32,
		.keep_codec = codec >= CODEC_COUNT, .codec = codec < CODEC_COUNT ? (enum codec)codec : CODEC_NONE,
	};
}

/* What recovery, the view and a consumer make of it. */
static void read_back(const struct record_set *s, const struct ingest_rule *rule)
{
	const uint8_t *p = record_set_bytes(s), *area;
	size_t n = record_set_size(s);
	struct batch b;
	struct wr scratch;
	struct record_iter it;
	struct record r;
	uint64_t scanned, view = 0;
	int32_t records = 0;
	int rc;
	must(s->batch_count == 1 && s->batch[0].at == 0 && s->batch[0].size_bytes == n, "the meta does not fit");
	must(n <= rule->max_batch_bytes && n <= rule->segment_bytes, "too large");
	must(batch_decode(&b, p, n, (uint32_t)n, NULL) == 0 && b.size_bytes == n && batch_crc_matches(&b, p), "the header is none");
	must(b.attributes == s->batch[0].attributes && b.max_timestamp_ms == s->batch[0].max_timestamp_ms && b.last_offset_delta == s->batch[0].last_offset_delta, "the meta says other things");
	must(rule->keep_codec || batch_codec(&b) == rule->codec, "another codec");
	must(!rule->log_append_time || ((b.attributes & BATCH_LOG_APPEND_TIME) && b.max_timestamp_ms == now_ms), "another time");
	wr_init(&scratch, 0);
	must(batch_scan(&b, p, &scratch, BATCH_MARK_BYTES, &scanned, NULL, NULL, NULL) == 0 && scanned == s->batch[0].view_bytes, "a scan finds other records");
	must(batch_records(&b, p, &scratch, &area, &n, NULL) == 0, "no records");
	record_iter_init(&it, &b, area, n);
	for (; (rc = record_next(&it, &r, NULL)) == 1; records++) {
		must(r.offset == records, "a gap");
		must(!rule->needs_keys || r.key, "no key");
		view += r.value ? (uint64_t)r.value_len + 1 : 0;
	}
	must(rc == 0 && records == b.record_count && view == scanned, "records are missing");
	wr_release(&scratch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ingest g;
	struct record_set s;
	struct ingest_refusal why;
	if (size < CHOICES)
		return 0;
	struct ingest_rule rule = rule_of(data);
	uint8_t *bytes = dress(data, data + CHOICES, size - CHOICES, &size);
	ingest_init(&g);
	record_set_init(&s);
	for (int twice = 0; twice < 2; twice++) { /* the second time with memory that was used, and maybe a header that was changed */
		enum ingest_code code = ingest_batch(&g, &s, bytes, size, &rule, now_ms, &why);
		if (code == INGEST_OK)
			read_back(&s, &rule);
		else
			must(s.batch_count == 0 && record_set_size(&s) == 0 && why.error_count <= INGEST_ERRORS_MAX && why.why.text[0], "refused, but something is left");
		must(g.area.cap <= 1 << 20 && g.rewritten.cap <= 1 << 20, "memory is kept");
		ingest_refusal_release(&why);
	}
	record_set_release(&s);
	ingest_release(&g);
	free(bytes);
	return 0;
}
