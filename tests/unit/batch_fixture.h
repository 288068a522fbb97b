/*
 * batch_fixture: record batches for tests, among them some that Kafka wrote. Included by test programs; everything is static.
 */
#ifndef TESTS_UNIT_BATCH_FIXTURE_H
#define TESTS_UNIT_BATCH_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "store/batch.h"

#ifndef UNUSED
#define UNUSED __attribute__((unused))
#endif

static uint64_t seed;

static UNUSED uint32_t random_next(void)
{
	seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
	return (uint32_t)(seed >> 32);
}

static UNUSED void ok(int r, const struct err *e)
{
	if (r)
		fail_msg("%d: %s", r, e->text);
}

/* Bit by bit, from the polynomial. */
static UNUSED uint32_t naive_crc32c(const uint8_t *p, size_t n)
{
	uint32_t crc = ~0u;
	for (size_t i = 0; i < n; i++) {
		crc ^= p[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
	}
	return ~crc;
}

static UNUSED void seal(uint8_t *batch, size_t n)
{
	be32_put(batch + BATCH_CRC_AT, naive_crc32c(batch + BATCH_CRC_FROM, n - BATCH_CRC_FROM));
}

static UNUSED struct wr from_hex(const char *hex)
{
	struct wr w;
	wr_init(&w, 0);
	for (; *hex; hex += 2) {
		unsigned v;
		assert_int_equal(sscanf(hex, "%2x", &v), 1);
		wr_i8(&w, (int8_t)v);
	}
	return w;
}

/* A copy that ends where its allocation ends, so that a sanitizer build sees a byte read too far. */
static UNUSED uint8_t *exact(const void *p, size_t n)
{
	uint8_t *copy = malloc(n ? n : 1);
	assert_non_null(copy);
	if (n)
		memcpy(copy, p, n);
	return copy;
}

static UNUSED struct batch decoded(const void *p, size_t have)
{
	struct batch b;
	struct err e;
	ok(batch_decode(&b, p, have, UINT32_MAX, &e), &e);
	return b;
}

/* The view of one batch, by the slow way. */
static UNUSED void naive_view(const uint8_t *batch, struct wr *view)
{
	struct batch b = decoded(batch, BATCH_HEADER_BYTES);
	struct wr scratch;
	struct record_iter it;
	struct record r;
	struct err e;
	const uint8_t *area;
	size_t n;
	int more;
	wr_init(&scratch, 0);
	ok(batch_records(&b, batch, &scratch, &area, &n, &e), &e);
	record_iter_init(&it, &b, area, n);
	while ((more = record_next(&it, &r, &e)) > 0) {
		if (r.value) {
			wr_bytes(view, r.value, (size_t)r.value_len);
			wr_i8(view, '\n');
		}
	}
	ok(more, &e);
	wr_release(&scratch);
}

static UNUSED struct batch_style plain_style(enum codec c, uint32_t max)
{
	return (struct batch_style){.codec = c, .max_batch_bytes = max, .producer_id = -1};
}

/* ---- what Kafka 4.1 wrote: MemoryRecords.withRecords at base offset 4711, leader epoch 9, producer 77, epoch 3, sequence 12 ---- */

static UNUSED const char *const kafka_hex[CODEC_COUNT] = {
	"0000000000001267000000c70000000902f8ea15990000000000030000018bcfe568000000018bcfe568c8000000000000004d00030000000c000000041a00"
	"0000010e626f6f6b203132001c000602026b000402680276026e011400020408676f6e650100d8010090030600c80178787878787878787878787878787878"
	"787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878"
	"78787878787878787878787878787878787878787800",
	"00000000000012670000007a00000009024a2046690001000000030000018bcfe568000000018bcfe568c8000000000000004d00030000000c000000041f8b"
	"08000000000000ff9362606060e44bcacfcf563034629061606362ca666061ca602a63ca6314616062e148cfcf4b6564b8c1c83081998de10463051d000300"
	"0dfbd36c96000000",
	"0000000000001267000000830000000902eb161a540002000000030000018bcfe568000000018bcfe568c8000000000000004d00030000000c000000048253"
	"4e415050590000000001000000010000003e9601c81a000000010e626f6f6b203132001c000602026b000402680276026e011400020408676f6e650100d801"
	"0090030600c8017878fe02008602000000",
	"00000000000012670000007d00000009023509a2c50003000000030000018bcfe568000000018bcfe568c8000000000000004d00030000000c000000040422"
	"4d186040823d000000ff231a000000010e626f6f6b203132001c000602026b000402680276026e011400020408676f6e650100d8010090030600c801780100"
	"4c50787878780000000000",
	"0000000000001267000000780000000902f11683fa0004000000030000018bcfe568000000018bcfe568c8000000000000004d00030000000c0000000428b5"
	"2ffd0058dc010034031a000000010e626f6f6b203132001c000602026b000402680276026e011400020408676f6e650100d8010090030600c8017800010002"
	"520005010000",
};
static UNUSED const char kafka_lines_hex[] = /* "a", "", "bc" without keys, at base offset 0, by no producer */
	"000000000000000000000049ffffffff02399b712a0000000000020000018bcfe568000000018bcfe56800ffffffffffffffffffffffffffff000000030e00"
	"0000010261000c000002010000100000040104626300";
static UNUSED const char kafka_commit_hex[] = /* MemoryRecords.withEndTransactionMarker: producer 77, epoch 3, coordinator epoch 5 */
	"000000000000126700000042000000090292b4c6b90030000000000000018bcfe568000000018bcfe56800000000000000004d0003ffffffff000000012000"
	"000008000000010c00000000000500";
static UNUSED const char kafka_empty_hex[] = /* DefaultRecordBatch.writeEmptyHeader: what compaction leaves of offsets 100 to 104 */
	"00000000000000640000003100000009023579318b000000000004ffffffffffffffff0000018bcfe56800000000000000004d00030000000c00000000";
static const int64_t kafka_time = 1700000000000;

static UNUSED const struct record_in *kafka_records(void)
{
	static const uint8_t hundred[] = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
	static const struct record_header headers[] = {
		{.key = (const uint8_t *)"h", .key_len = 1, .value = (const uint8_t *)"v", .value_len = 1},
		{.key = (const uint8_t *)"n", .key_len = 1, .value = NULL, .value_len = -1},
	};
	static struct record_in r[4] = {
		{.value = "book 12", .value_len = 7},
		{.key = "k", .key_len = 1, .value = "", .value_len = 0, .headers = headers, .header_count = 2},
		{.key = "gone", .key_len = 4},
		{.key = "", .key_len = 0, .value = hundred, .value_len = 100},
	};
	r[0].timestamp_ms = kafka_time, r[1].timestamp_ms = kafka_time + 3, r[2].timestamp_ms = kafka_time + 1, r[3].timestamp_ms = kafka_time + 200;
	return r;
}

static UNUSED void expect_bytes(const uint8_t *got, int32_t got_len, const void *want, int32_t want_len)
{
	if (!want) {
		assert_null(got);
		assert_int_equal(got_len, -1);
		return;
	}
	assert_non_null(got);
	assert_int_equal(got_len, want_len);
	assert_memory_equal(got, want, (size_t)want_len);
}

static UNUSED void expect_kafka_records(const struct batch *b, const uint8_t *bytes)
{
	const struct record_in *want = kafka_records();
	struct wr scratch;
	struct record_iter it;
	struct record r;
	struct err e;
	const uint8_t *area;
	size_t n;
	wr_init(&scratch, 0);
	ok(batch_records(b, bytes, &scratch, &area, &n, &e), &e);
	record_iter_init(&it, b, area, n);
	uint32_t at = 0;
	for (int i = 0; i < 4; i++) {
		assert_int_equal(record_next(&it, &r, &e), 1);
		assert_int_equal(r.offset, b->base_offset + i);
		assert_int_equal(r.timestamp_ms, want[i].timestamp_ms);
		assert_int_equal(r.at, at);
		at += r.size;
		expect_bytes(r.key, r.key_len, want[i].key, want[i].key_len);
		expect_bytes(r.value, r.value_len, want[i].value, want[i].value_len);
		assert_int_equal(r.header_count, want[i].header_count);
		const uint8_t *h = r.headers;
		for (uint32_t j = 0; j < r.header_count; j++) {
			struct record_header got;
			assert_true(record_header_next(&h, r.headers + r.headers_len, &got));
			expect_bytes(got.key, got.key_len, want[i].headers[j].key, want[i].headers[j].key_len);
			expect_bytes(got.value, got.value_len, want[i].headers[j].value, want[i].headers[j].value_len);
		}
		assert_ptr_equal(h, r.headers + r.headers_len);
	}
	assert_int_equal(record_next(&it, &r, &e), 0);
	assert_int_equal(record_next(&it, &r, &e), 0);
	wr_release(&scratch);
}

/* An uncompressed batch of two records, the second with offset delta `second`, and n records claimed. */
static UNUSED struct wr two_records(int32_t first, int32_t second, int32_t last, int32_t claimed, const char *behind)
{
	struct wr w;
	int32_t deltas[] = {first, second};
	wr_init(&w, 0);
	wr_room(&w, BATCH_HEADER_BYTES);
	w.len = BATCH_HEADER_BYTES;
	for (int i = 0; i < 2; i++) {
		wr_varint(&w, 7 + (int64_t)varint_size(deltas[i]) - 1);
		wr_bytes(&w, "\0\0", 2);
		wr_varint(&w, deltas[i]);
		wr_bytes(&w, "\1\2v\0", 4);
	}
	wr_bytes(&w, behind, strlen(behind));
	struct batch b = {.base_offset = 1000, .size_bytes = (uint32_t)w.len, .last_offset_delta = last, .record_count = claimed};
	batch_encode(&b, w.data);
	return w;
}

#endif
