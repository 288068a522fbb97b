#include <limits.h>
#include <lz4frame.h>
#include <pthread.h>
#include <setjmp.h>
#include <snappy-c.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include <cmocka.h>

#include "store/codec.h"

/* ---- data ---- */

static uint64_t seed;

static uint32_t random_next(void)
{
	seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
	return (uint32_t)(seed >> 32);
}

enum kind { ZEROS, TEXT, NOISE, KINDS };

static uint8_t *make(enum kind kind, size_t n)
{
	static const char words[] = "a spool is a reel on which a message log is wound, in the order in which it came. ";
	uint8_t *p = malloc(n + 1);
	assert_non_null(p);
	for (size_t i = 0; i < n; i++)
		p[i] = kind == ZEROS ? 0 : kind == NOISE ? (uint8_t)random_next() : (uint8_t)words[(i + (i >> 7) * 13) % (sizeof words - 1)];
	return p;
}

static void expect_plain(enum codec c, const void *packed, size_t packed_bytes, const void *plain, size_t n)
{
	struct wr out;
	struct err e = ERR_INIT;
	wr_init(&out, 0);
	wr_bytes(&out, "before", 6);
	if (codec_decompress(c, packed, packed_bytes, &out, &e))
		fail_msg("%s: %s", codec_name(c), e.text);
	assert_int_equal(out.len, 6 + n);
	assert_memory_equal(out.data, "before", 6);
	assert_int_equal(memcmp(out.data + 6, plain, n), 0);
	wr_release(&out);
}

/* An exact copy on the heap, so that a sanitizer build sees a byte read too far. */
static int decompress_copy(enum codec c, const void *packed, size_t n, size_t limit, struct err *e)
{
	struct wr out;
	uint8_t *copy = malloc(n ? n : 1);
	assert_non_null(copy);
	if (n)
		memcpy(copy, packed, n);
	wr_init(&out, limit);
	wr_bytes(&out, "before", 6);
	int r = codec_decompress(c, copy, n, &out, e);
	if (r)
		assert_int_equal(out.len, 6);
	assert_true(out.len <= out.limit && out.cap <= out.limit);
	wr_release(&out);
	free(copy);
	return r;
}

/* ---- what we write ---- */

static void test_names(void **state)
{
	(void)state;
	for (int c = 0; c < CODEC_COUNT; c++)
		assert_int_equal(codec_by_name(codec_name((enum codec)c)), c);
	assert_string_equal(codec_name(CODEC_ZSTD), "zstd");
	assert_null(codec_name(CODEC_COUNT));
	assert_int_equal(codec_by_name("brotli"), -1);
	assert_int_equal(codec_by_name(""), -1);
}

static void test_round_trips(void **state)
{
	(void)state;
	static const size_t sizes[] = {0, 1, 2, 59, 60, 61, 62, 255, 256, 257, 1000, 32767, 32768, 32769, 65535, 65536, 65537, 131072, 131073, 300001, 1 << 20};
	seed = 1;
	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0] + 40; i++) {
		size_t n = i < sizeof sizes / sizeof sizes[0] ? sizes[i] : random_next() % 200000;
		for (int k = 0; k < KINDS; k++) {
			uint8_t *plain = make((enum kind)k, n);
			for (int c = 0; c < CODEC_COUNT; c++) {
				struct wr out;
				wr_init(&out, 0);
				wr_bytes(&out, "x", 1);
				assert_int_equal(codec_compress((enum codec)c, 0, plain, n, &out, NULL), 0);
				assert_true(out.len - 1 <= codec_bound((enum codec)c, n));
				expect_plain((enum codec)c, out.data + 1, out.len - 1, plain, n);
				wr_release(&out);
			}
			free(plain);
		}
	}
}

static void test_levels(void **state)
{
	(void)state;
	static const int levels[] = {INT_MIN, -5, -1, 0, 1, 3, 9, 12, 19, 22, INT_MAX};
	size_t n = 50000;
	uint8_t *plain = make(TEXT, n);
	for (int c = CODEC_GZIP; c < CODEC_COUNT; c++) {
		for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
			struct wr out;
			wr_init(&out, 0);
			assert_int_equal(codec_compress((enum codec)c, levels[i], plain, n, &out, NULL), 0);
			expect_plain((enum codec)c, out.data, out.len, plain, n);
			wr_release(&out);
		}
	}
	free(plain);
}

/* The distance between size and bound may not shrink with the size: batch building counts on it. */
static void test_bound(void **state)
{
	(void)state;
	for (int c = 0; c < CODEC_COUNT; c++) {
		size_t before = codec_bound((enum codec)c, 4096) - 4096;
		for (size_t n = 4097; n < 300000; n += 7) {
			size_t more = codec_bound((enum codec)c, n) - n;
			assert_true(more >= before);
			assert_true(c != CODEC_ZSTD || n + more >= ZSTD_compressBound(n));
			before = more;
		}
	}
}

static void test_gzip_form(void **state)
{
	(void)state;
	struct wr out;
	wr_init(&out, 0);
	assert_int_equal(codec_compress(CODEC_GZIP, 0, "hello", 5, &out, NULL), 0);
	assert_memory_equal(out.data, "\x1f\x8b\x08\x00", 4); /* deflate; no name, no comment */
	assert_memory_equal(out.data + out.len - 4, "\5\0\0\0", 4);
	wr_release(&out);
}

static void test_snappy_form(void **state)
{
	(void)state;
	static const uint8_t header[] = {0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1};
	size_t n = 100000, blocks = 0, plain_bytes = 0;
	seed = 2;
	for (int k = TEXT; k < KINDS; k++, blocks = plain_bytes = 0) {
		uint8_t *plain = make((enum kind)k, n);
		struct wr out;
		wr_init(&out, 0);
		assert_int_equal(codec_compress(CODEC_SNAPPY, 0, plain, n, &out, NULL), 0);
		assert_memory_equal(out.data, header, sizeof header);
		size_t at = sizeof header;
		while (at < out.len) {
			size_t block = be32_get(out.data + at), size;
			assert_int_equal(snappy_uncompressed_length((char *)out.data + at + 4, block, &size), SNAPPY_OK);
			assert_true(size <= 32 << 10);
			plain_bytes += size;
			blocks++;
			at += 4 + block;
		}
		assert_int_equal(at, out.len);
		assert_int_equal(plain_bytes, n);
		assert_int_equal(blocks, 4);
		wr_release(&out);
		free(plain);
	}
}

static void test_lz4_form(void **state)
{
	(void)state;
	size_t n = 200000;
	seed = 3;
	for (int k = 0; k < KINDS; k++) {
		uint8_t *plain = make((enum kind)k, n);
		struct wr out;
		wr_init(&out, 0);
		assert_int_equal(codec_compress(CODEC_LZ4, 0, plain, n, &out, NULL), 0);
		/* Magic; version 1, independent blocks, no size, no checksums; 64 KiB; the header's checksum, as Kafka writes it. */
		assert_memory_equal(out.data, "\x04\x22\x4d\x18\x60\x40\x82", 7);
		size_t at = 7, blocks = 0;
		for (;;) {
			assert_true(at + 4 <= out.len);
			uint32_t size = __builtin_bswap32(be32_get(out.data + at));
			at += 4;
			if (!size)
				break;
			assert_true((size & 0x7fffffff) <= 64 << 10);
			at += size & 0x7fffffff;
			blocks++;
		}
		assert_int_equal(at, out.len);
		assert_int_equal(blocks, 4);
		wr_release(&out);
		free(plain);
	}
}

static void test_zstd_form(void **state)
{
	(void)state;
	struct wr out;
	uint8_t *plain = make(TEXT, 300000);
	wr_init(&out, 0);
	assert_int_equal(codec_compress(CODEC_ZSTD, 0, plain, 300000, &out, NULL), 0);
	assert_int_equal(ZSTD_findFrameCompressedSize(out.data, out.len), out.len);
	wr_release(&out);
	free(plain);
}

/* ---- what others write ---- */

static void test_gzip_members(void **state)
{
	(void)state;
	/* `printf hello | gzip -n`, then the same with a file name and a comment in the header, as RFC 1952 allows. */
	static const uint8_t members[] = {
		0x1f, 0x8b, 0x08, 0x00, 0, 0, 0, 0, 0x00, 0x03, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x86, 0xa6, 0x10, 0x36, 5, 0, 0, 0,
		0x1f, 0x8b, 0x08, 0x18, 1, 2, 3, 4, 0x00, 0x03, 'n', 0, 'c', 0,
		0xcb, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x86, 0xa6, 0x10, 0x36, 5, 0, 0, 0,
	};
	expect_plain(CODEC_GZIP, members, sizeof members, "hellohello", 10);
	expect_plain(CODEC_GZIP, members, 25, "hello", 5);
}

static void test_snappy_raw_and_joined(void **state)
{
	(void)state;
	uint8_t *plain = make(TEXT, 100000);
	size_t n = snappy_max_compressed_length(100000);
	uint8_t *packed = malloc(n);
	assert_int_equal(snappy_compress((char *)plain, 100000, (char *)packed, &n), SNAPPY_OK);
	expect_plain(CODEC_SNAPPY, packed, n, plain, 100000);
	free(packed);

	struct wr out;
	wr_init(&out, 0);
	assert_int_equal(codec_compress(CODEC_SNAPPY, 0, plain, 40000, &out, NULL), 0);
	assert_int_equal(codec_compress(CODEC_SNAPPY, 0, plain + 40000, 60000, &out, NULL), 0);
	expect_plain(CODEC_SNAPPY, out.data, out.len, plain, 100000);
	wr_release(&out);
	expect_plain(CODEC_SNAPPY, "\0", 1, "", 0);
	free(plain);
}

static void test_lz4_frames(void **state)
{
	(void)state;
	size_t n = 500000, cap = LZ4F_compressFrameBound(n, NULL) + 1000, len = 0;
	uint8_t *plain = make(TEXT, n), *packed = malloc(2 * cap);
	LZ4F_preferences_t linked = {.frameInfo = {.blockMode = LZ4F_blockLinked, .blockSizeID = LZ4F_max256KB, .contentSize = n, .contentChecksumFlag = 1}};
	LZ4F_preferences_t checked = {.frameInfo = {.blockMode = LZ4F_blockLinked, .blockSizeID = LZ4F_max64KB, .blockChecksumFlag = 1}, .compressionLevel = 9};
	static const uint8_t skippable[] = {0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 'a', 'b', 'c'};
	uint8_t *twice = malloc(2 * n);
	memcpy(twice, plain, n);
	memcpy(twice + n, plain, n);

	len = LZ4F_compressFrame(packed, cap, plain, n, &linked);
	assert_false(LZ4F_isError(len));
	expect_plain(CODEC_LZ4, packed, len, plain, n);
	memcpy(packed + len, skippable, sizeof skippable);
	len += sizeof skippable;
	size_t more = LZ4F_compressFrame(packed + len, cap, plain, n, &checked);
	assert_false(LZ4F_isError(more));
	expect_plain(CODEC_LZ4, packed, len + more, twice, 2 * n);
	free(twice);
	free(packed);
	free(plain);
}

static void test_zstd_frames(void **state)
{
	(void)state;
	size_t n = 500000, cap = ZSTD_compressBound(n) + 1000;
	uint8_t *plain = make(TEXT, n), *packed = malloc(2 * cap), *twice = malloc(2 * n);
	static const uint8_t skippable[] = {0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 'a', 'b', 'c'};
	memcpy(twice, plain, n);
	memcpy(twice + n, plain, n);

	/* Streamed, as Kafka's Java client does: no content size; here with a checksum too. */
	ZSTD_CCtx *c = ZSTD_createCCtx();
	ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, 1);
	ZSTD_outBuffer o = {.dst = packed, .size = cap};
	for (size_t at = 0; at < n; at += 100000) {
		ZSTD_inBuffer in = {.src = plain + at, .size = 100000};
		assert_int_equal(ZSTD_compressStream2(c, &o, &in, at + 100000 < n ? ZSTD_e_flush : ZSTD_e_end), 0);
	}
	assert_true(ZSTD_getFrameContentSize(packed, o.pos) == ZSTD_CONTENTSIZE_UNKNOWN);
	expect_plain(CODEC_ZSTD, packed, o.pos, plain, n);
	memcpy(packed + o.pos, skippable, sizeof skippable);
	o.pos += sizeof skippable;
	size_t more = ZSTD_compressCCtx(c, packed + o.pos, cap, plain, n, 19);
	assert_false(ZSTD_isError(more));
	expect_plain(CODEC_ZSTD, packed, o.pos + more, twice, 2 * n);
	ZSTD_freeCCtx(c);
	free(packed);
	free(plain);
	free(twice);
}

/* ---- limits and damage ---- */

static void test_limits(void **state)
{
	(void)state;
	seed = 4;
	for (int k = 0; k < KINDS; k++) {
		size_t n = 100000;
		uint8_t *plain = make((enum kind)k, n);
		for (int c = 0; c < CODEC_COUNT; c++) {
			struct wr out;
			struct err e = ERR_INIT;
			wr_init(&out, 0);
			assert_int_equal(codec_compress((enum codec)c, 0, plain, n, &out, NULL), 0);
			assert_int_equal(decompress_copy((enum codec)c, out.data, out.len, 6 + n, &e), 0);
			assert_int_equal(decompress_copy((enum codec)c, out.data, out.len, 6 + n - 1, &e), ERR_TOO_LARGE);
			assert_true(strlen(e.text) > 0);
			assert_int_equal(decompress_copy((enum codec)c, out.data, out.len, 6, &e), ERR_TOO_LARGE);
			wr_release(&out);

			wr_init(&out, 1000);
			assert_int_equal(codec_compress((enum codec)c, 0, plain, n, &out, &e), ERR_TOO_LARGE);
			assert_int_equal(out.len, 0);
			assert_int_equal(codec_compress((enum codec)c, 0, plain, (size_t)INT_MAX + 1, &out, &e), ERR_TOO_LARGE);
			assert_int_equal(codec_decompress((enum codec)c, plain, (size_t)INT_MAX + 1, &out, &e), ERR_TOO_LARGE);
			wr_release(&out);
		}
		free(plain);
	}
	assert_int_equal(codec_compress(CODEC_COUNT, 0, "", 0, NULL, NULL), ERR_INVALID);
	assert_int_equal(codec_decompress(CODEC_COUNT, "", 0, NULL, NULL), ERR_INVALID);
}

/* Lengths that the input claims and cannot keep take no memory. */
static void test_lies(void **state)
{
	(void)state;
	static const struct { enum codec c; size_t n; uint8_t bytes[32]; } lies[] = {
		{CODEC_SNAPPY, 8, {0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0}},
		{CODEC_SNAPPY, 21, {0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff, 0}},
		{CODEC_SNAPPY, 24, {0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 4, 0xff, 0xff, 0xff, 0x0f}},
		{CODEC_ZSTD, 16, {0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0}}, /* one segment of 2^40 bytes */
		{CODEC_ZSTD, 9, {0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x88, 1, 0, 0}},	/* a window of 128 MiB; in fact fine, and empty */
		{CODEC_LZ4, 15, {0x04, 0x22, 0x4d, 0x18, 0x68, 0x70, 0, 0, 0, 0, 0, 1, 0, 0, 0}},
		{CODEC_GZIP, 25, {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 7, 0, 0x86, 0xa6, 0x10, 0x36, 0xff, 0xff, 0xff, 0xff}},
	};
	for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
		struct wr out;
		struct err e = ERR_INIT;
		wr_init(&out, 0);
		int r = codec_decompress(lies[i].c, lies[i].bytes, lies[i].n, &out, &e);
		if (i == 4)
			assert_int_equal(r, 0);
		else
			assert_int_equal(r, ERR_CORRUPT);
		assert_true(out.cap <= 1 << 20);
		assert_int_equal(out.len, 0);
		wr_release(&out);
	}
}

static void test_truncation(void **state)
{
	(void)state;
	seed = 5;
	for (int k = 0; k < KINDS; k++) {
		size_t n = 70000;
		uint8_t *plain = make((enum kind)k, n);
		for (int c = CODEC_GZIP; c < CODEC_COUNT; c++) {
			struct wr out;
			wr_init(&out, 0);
			assert_int_equal(codec_compress((enum codec)c, 0, plain, n, &out, NULL), 0);
			size_t first_block = 0, second_block = 0; /* xerial's framing has no end: it may be cut between its blocks */
			if (c == CODEC_SNAPPY) {
				first_block = 20 + be32_get(out.data + 16);
				second_block = first_block + 4 + be32_get(out.data + first_block);
			}
			for (size_t cut = 0; cut < out.len; cut += cut < 300 || cut + 300 > out.len ? 1 : 97) {
				struct err e = ERR_INIT;
				int r = decompress_copy((enum codec)c, out.data, cut, 0, &e);
				bool whole = c == CODEC_SNAPPY && (cut == 16 || cut == first_block || cut == second_block);
				if (r != (whole ? 0 : ERR_CORRUPT))
					fail_msg("%s cut to %zu of %zu bytes: %d %s", codec_name((enum codec)c), cut, out.len, r, e.text);
			}
			/* and with something behind its end */
			wr_bytes(&out, "garbage", 7);
			assert_int_equal(decompress_copy((enum codec)c, out.data, out.len, 0, NULL), ERR_CORRUPT);
			wr_release(&out);
		}
		free(plain);
	}
}

static void test_damage(void **state)
{
	(void)state;
	seed = 6;
	for (int c = CODEC_GZIP; c < CODEC_COUNT; c++) {
		uint8_t *plain = make(TEXT, 3000), noise[600];
		struct wr out;
		wr_init(&out, 0);
		assert_int_equal(codec_compress((enum codec)c, 0, plain, 3000, &out, NULL), 0);
		for (size_t i = 0; i < out.len; i++) {
			for (int bit = 0; bit < 8; bit++) {
				out.data[i] ^= (uint8_t)(1 << bit);
				int r = decompress_copy((enum codec)c, out.data, out.len, 1 << 20, NULL);
				assert_true(r == 0 || r == ERR_CORRUPT || r == ERR_TOO_LARGE);
				out.data[i] ^= (uint8_t)(1 << bit);
			}
		}
		for (int round = 0; round < 3000; round++) {
			size_t n = random_next() % sizeof noise, keep = random_next() % 24;
			for (size_t i = 0; i < n; i++)
				noise[i] = i < keep && i < out.len ? out.data[i] : (uint8_t)random_next();
			int r = decompress_copy((enum codec)c, noise, n, 1 << 20, NULL);
			assert_true(r == 0 || r == ERR_CORRUPT || r == ERR_TOO_LARGE);
		}
		/* The contexts are none the worse for it. */
		expect_plain((enum codec)c, out.data, out.len, plain, 3000);
		wr_release(&out);
		free(plain);
	}
}

static void *thread_main(void *arg)
{
	for (int c = 0; c < CODEC_COUNT; c++) {
		struct wr packed, plain;
		wr_init(&packed, 0);
		wr_init(&plain, 0);
		if (codec_compress((enum codec)c, 0, "abcabcabc", 9, &packed, NULL) || codec_decompress((enum codec)c, packed.data, packed.len, &plain, NULL))
			*(int *)arg = 1;
		wr_release(&packed);
		wr_release(&plain);
	}
	return NULL;
}

/* A leak checker sees contexts that a thread does not free. */
static void test_threads(void **state)
{
	(void)state;
	pthread_t t[8];
	int failed[8] = {0};
	for (int i = 0; i < 8; i++)
		assert_int_equal(pthread_create(&t[i], NULL, thread_main, &failed[i]), 0);
	for (int i = 0; i < 8; i++) {
		pthread_join(t[i], NULL);
		assert_int_equal(failed[i], 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),		 cmocka_unit_test(test_round_trips),	       cmocka_unit_test(test_levels),
		cmocka_unit_test(test_bound),		 cmocka_unit_test(test_gzip_form),	       cmocka_unit_test(test_snappy_form),
		cmocka_unit_test(test_lz4_form),	 cmocka_unit_test(test_zstd_form),	       cmocka_unit_test(test_gzip_members),
		cmocka_unit_test(test_snappy_raw_and_joined), cmocka_unit_test(test_lz4_frames),       cmocka_unit_test(test_zstd_frames),
		cmocka_unit_test(test_limits),		 cmocka_unit_test(test_lies),		       cmocka_unit_test(test_truncation),
		cmocka_unit_test(test_damage),		 cmocka_unit_test(test_threads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
