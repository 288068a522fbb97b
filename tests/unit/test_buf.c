#include "store/buf.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <cmocka.h>

static uint64_t seed = 88172645463325252u;

static uint64_t random64(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

/* Of any size: as many small numbers as large ones. */
static uint64_t random_sized(void)
{
	uint64_t v = random64();
	return v >> random64() % 64;
}

/* The CRC by its definition, a bit at a time. */
static uint32_t slow_crc(uint32_t crc, const uint8_t *p, size_t n)
{
	crc = ~crc;
	while (n--) {
		crc ^= *p++;
		for (int i = 0; i < 8; i++)
			crc = crc & 1 ? crc >> 1 ^ 0x82f63b78 : crc >> 1;
	}
	return ~crc;
}

static void test_crc_known(void **state)
{
	(void)state;
	uint8_t bytes[32] = {0};
	assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
	assert_int_equal(crc32c(0, "", 0), 0);
	assert_int_equal(crc32c(0, bytes, 32), 0x8a9136aa); /* RFC 3720, B.4 */
	memset(bytes, 0xff, 32);
	assert_int_equal(crc32c(0, bytes, 32), 0x62a8ab43);
}

static void test_crc_is_the_slow_one_at_any_length_and_alignment(void **state)
{
	(void)state;
	uint8_t data[700];
	for (size_t i = 0; i < sizeof data; i++)
		data[i] = (uint8_t)random64();
	for (size_t from = 0; from < 20; from++)
		for (size_t n = 0; n + from <= sizeof data; n += 1 + n / 16)
			assert_int_equal(crc32c(0, data + from, n), slow_crc(0, data + from, n));
}

static void test_crc_chains(void **state)
{
	(void)state;
	uint8_t data[300];
	for (size_t i = 0; i < sizeof data; i++)
		data[i] = (uint8_t)random64();
	uint32_t whole = crc32c(0, data, sizeof data);
	for (size_t cut = 0; cut <= sizeof data; cut++)
		assert_int_equal(crc32c(crc32c(0, data, cut), data + cut, sizeof data - cut), whole);
}

static void test_crc_beyond_int(void **state)
{
	(void)state;
	size_t n = (size_t)INT_MAX + 100;
	uint8_t *zeros = mmap(NULL, n, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_ptr_not_equal(zeros, MAP_FAILED);
	uint32_t pieces = crc32c(crc32c(0, zeros, 1 << 20), zeros, n - (1 << 20));
	assert_int_equal(crc32c(0, zeros, n), pieces);
	munmap(zeros, n);
}

static void test_big_endian(void **state)
{
	(void)state;
	uint8_t b[8];
	be16_put(b, 0x0102);
	assert_memory_equal(b, "\1\2", 2);
	be32_put(b, 0x01020304);
	assert_memory_equal(b, "\1\2\3\4", 4);
	be64_put(b, 0x0102030405060708);
	assert_memory_equal(b, "\1\2\3\4\5\6\7\10", 8);
	assert_int_equal(be16_get(b), 0x0102);
	assert_int_equal(be32_get(b + 1), 0x02030405);
	assert_int_equal(be64_get(b), 0x0102030405060708);
}

static void test_cursors_round_trip(void **state)
{
	(void)state;
	for (int round = 0; round < 200; round++) {
		struct wr w;
		struct rd r;
		wr_init(&w, 0);
		uint64_t start = seed;
		for (int i = 0; i < 50; i++) {
			uint64_t v = random_sized();
			wr_i8(&w, (int8_t)v);
			wr_i16(&w, (int16_t)v);
			wr_i32(&w, (int32_t)v);
			wr_i64(&w, (int64_t)v);
			wr_varint(&w, (int32_t)v);
			wr_varint(&w, (int64_t)v);
			wr_uvarint(&w, (uint32_t)v);
			wr_bytes(&w, &v, v % 9);
		}
		assert_false(w.failed);
		rd_init(&r, w.data, w.len);
		seed = start;
		for (int i = 0; i < 50; i++) {
			uint64_t v = random_sized();
			assert_int_equal(rd_i8(&r), (int8_t)v);
			assert_int_equal(rd_i16(&r), (int16_t)v);
			assert_int_equal(rd_i32(&r), (int32_t)v);
			assert_int_equal(rd_i64(&r), (int64_t)v);
			assert_int_equal(rd_varint(&r), (int32_t)v);
			assert_int_equal(rd_varlong(&r), (int64_t)v);
			assert_int_equal(rd_uvarint(&r), (uint32_t)v);
			const uint8_t *bytes = rd_bytes(&r, v % 9);
			assert_non_null(bytes);
			assert_memory_equal(bytes, &v, v % 9);
		}
		assert_false(r.failed);
		assert_int_equal(rd_left(&r), 0);
		wr_release(&w);
	}
}

static void test_varints_as_kafka_writes_them(void **state)
{
	(void)state;
	static const struct {
		int64_t v;
		const char *bytes;
		size_t n;
	} cases[] = {
		{0, "\0", 1}, {-1, "\1", 1}, {1, "\2", 1}, {63, "\x7e", 1}, {-64, "\x7f", 1}, {64, "\x80\1", 2},
		{-65, "\x81\1", 2}, {8191, "\xfe\x7f", 2}, {-8192, "\xff\x7f", 2}, {8192, "\x80\x80\1", 3},
		{INT32_MAX, "\xfe\xff\xff\xff\xf", 5}, {INT32_MIN, "\xff\xff\xff\xff\xf", 5},
		{INT64_MAX, "\xfe\xff\xff\xff\xff\xff\xff\xff\xff\1", 10}, {INT64_MIN, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\1", 10},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		uint8_t b[10];
		assert_int_equal(varint_put(b, cases[i].v), cases[i].n);
		assert_memory_equal(b, cases[i].bytes, cases[i].n);
		assert_int_equal(varint_size(cases[i].v), cases[i].n);
		struct rd r;
		rd_init(&r, b, cases[i].n);
		assert_int_equal(rd_varlong(&r), cases[i].v);
		assert_false(r.failed);
	}
}

static void test_varint_size_is_what_put_writes(void **state)
{
	(void)state;
	uint8_t b[10];
	for (int bit = 0; bit < 64; bit++)
		for (int64_t near = -2; near <= 2; near++) {
			uint64_t v = (UINT64_C(1) << bit) + (uint64_t)near;
			assert_int_equal(uvarint_put(b, v), uvarint_size(v));
			assert_int_equal(unzigzag(zigzag((int64_t)v)), (int64_t)v);
		}
}

static void test_truncated_and_overlong_varints_fail(void **state)
{
	(void)state;
	uint8_t b[12];
	struct rd r;
	size_t n = varint_put(b, INT64_MIN);
	for (size_t cut = 0; cut < n; cut++) {
		rd_init(&r, b, cut);
		assert_int_equal(rd_varlong(&r), 0);
		assert_true(r.failed);
	}
	memset(b, 0x80, sizeof b); /* never ends */
	rd_init(&r, b, sizeof b);
	assert_int_equal(rd_varint(&r), 0);
	assert_true(r.failed);
	rd_init(&r, b, sizeof b);
	assert_int_equal(rd_varlong(&r), 0);
	assert_true(r.failed);
}

static void test_varint_wider_than_its_type_fails(void **state)
{
	(void)state;
	uint8_t b[10];
	struct rd r;
	const int64_t wide[] = {INT64_C(1) << 31, -(INT64_C(1) << 31) - 1, (INT64_C(1) << 34) - 1, INT64_MAX};
	for (size_t i = 0; i < 4; i++) {
		rd_init(&r, b, varint_put(b, wide[i]));
		assert_int_equal(rd_varint(&r), 0);
		assert_true(r.failed);
	}
	rd_init(&r, b, uvarint_put(b, UINT32_MAX));
	assert_int_equal(rd_uvarint(&r), UINT32_MAX);
	assert_false(r.failed);
	rd_init(&r, b, uvarint_put(b, UINT64_C(1) << 32));
	assert_int_equal(rd_uvarint(&r), 0);
	assert_true(r.failed);
}

static void test_reader_stays_failed(void **state)
{
	(void)state;
	struct rd r;
	rd_init(&r, "\1\2\3", 3);
	assert_int_equal(rd_i16(&r), 0x0102);
	assert_int_equal(rd_i32(&r), 0);
	assert_true(r.failed);
	assert_int_equal(rd_i8(&r), 0); /* there is a byte, but it is too late */
	assert_null(rd_bytes(&r, 0));
	assert_int_equal(rd_u32(&r), 0);
	assert_int_equal(rd_i64(&r), 0);
	assert_int_equal(rd_varint(&r), 0);
	rd_skip(&r, 1);
	assert_int_equal(rd_left(&r), 1);
}

static void test_reader_lengths_cannot_wrap(void **state)
{
	(void)state;
	struct rd r;
	rd_init(&r, "abc", 3);
	assert_null(rd_bytes(&r, SIZE_MAX));
	assert_true(r.failed);
	rd_init(&r, "abc", 3);
	rd_skip(&r, 3);
	assert_false(r.failed);
	assert_non_null(rd_bytes(&r, 0));
	rd_skip(&r, (size_t)-1);
	assert_true(r.failed);
}

static void test_writer_keeps_its_limit(void **state)
{
	(void)state;
	for (size_t limit = 1; limit < 200; limit++) {
		struct wr w;
		wr_init(&w, limit);
		for (size_t i = 0; i < limit; i++)
			wr_i8(&w, (int8_t)i);
		assert_false(w.failed);
		assert_true(w.cap <= limit);
		wr_i8(&w, 0);
		assert_true(w.failed);
		assert_int_equal(w.len, limit);
		wr_bytes(&w, "", 0); /* failed is for good: not even nothing fits */
		assert_null(wr_room(&w, 0));
		for (size_t i = 0; i < limit; i++)
			assert_int_equal(w.data[i], (uint8_t)i);
		wr_clear(&w);
		wr_i8(&w, 1);
		assert_false(w.failed);
		assert_int_equal(w.len, 1);
		wr_release(&w);
	}
}

static void test_writer_half_fitting_value_is_not_written(void **state)
{
	(void)state;
	struct wr w;
	wr_init(&w, 7);
	wr_i32(&w, 1);
	wr_i32(&w, 2);
	assert_true(w.failed);
	assert_int_equal(w.len, 4);
	wr_i8(&w, 3); /* would fit, but comes after what did not */
	assert_int_equal(w.len, 4);
	wr_release(&w);
}

static void test_writer_grows_geometrically(void **state)
{
	(void)state;
	struct wr w;
	wr_init(&w, 0);
	size_t growths = 0, cap = 0;
	for (int i = 0; i < 1000000; i++) {
		wr_i8(&w, (int8_t)i);
		growths += w.cap != cap;
		cap = w.cap;
	}
	assert_int_equal(w.len, 1000000);
	assert_true(growths < 20);
	for (int i = 0; i < 1000000; i++)
		if (w.data[i] != (uint8_t)i)
			fail();
	wr_release(&w);
	assert_null(w.data);
}

static void test_writer_too_large_is_a_failure_not_a_crash(void **state)
{
	(void)state;
	struct wr w;
	wr_init(&w, 0);
	wr_i8(&w, 1);
	assert_null(wr_room(&w, SIZE_MAX));
	assert_true(w.failed);
	assert_int_equal(w.len, 1);
	wr_release(&w);
}

static void test_writer_room(void **state)
{
	(void)state;
	struct wr w;
	wr_init(&w, 0);
	assert_non_null(wr_room(&w, 0));
	wr_bytes(&w, NULL, 0);
	assert_int_equal(w.len, 0);
	memcpy(wr_room(&w, 100), "abc", 3);
	w.len += 3;
	wr_bytes(&w, "def", 3);
	assert_int_equal(w.len, 6);
	assert_memory_equal(w.data, "abcdef", 6);
	wr_release(&w);
}

static void test_printf_fits_exactly(void **state)
{
	(void)state;
	for (size_t limit = 1; limit < 150; limit++) {
		struct wr w;
		wr_init(&w, limit);
		wr_printf(&w, "%s", "");
		wr_printf(&w, "%*d", (int)limit, 7);
		assert_false(w.failed);
		assert_int_equal(w.len, limit);
		assert_int_equal(w.data[limit - 1], '7');
		assert_int_equal(w.data[limit], '\0');
		wr_printf(&w, "x");
		assert_true(w.failed);
		assert_int_equal(w.len, limit);
		wr_release(&w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_crc_known),
		cmocka_unit_test(test_crc_is_the_slow_one_at_any_length_and_alignment),
		cmocka_unit_test(test_crc_chains),
		cmocka_unit_test(test_crc_beyond_int),
		cmocka_unit_test(test_big_endian),
		cmocka_unit_test(test_cursors_round_trip),
		cmocka_unit_test(test_varints_as_kafka_writes_them),
		cmocka_unit_test(test_varint_size_is_what_put_writes),
		cmocka_unit_test(test_truncated_and_overlong_varints_fail),
		cmocka_unit_test(test_varint_wider_than_its_type_fails),
		cmocka_unit_test(test_reader_stays_failed),
		cmocka_unit_test(test_reader_lengths_cannot_wrap),
		cmocka_unit_test(test_writer_keeps_its_limit),
		cmocka_unit_test(test_writer_half_fitting_value_is_not_written),
		cmocka_unit_test(test_writer_grows_geometrically),
		cmocka_unit_test(test_writer_too_large_is_a_failure_not_a_crash),
		cmocka_unit_test(test_writer_room),
		cmocka_unit_test(test_printf_fits_exactly),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
