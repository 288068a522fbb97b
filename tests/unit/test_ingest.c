#include "tests/unit/batch_fixture.h"

#include <inttypes.h>

#include "store/ingest.h"

/* Batches as clients send them, good and bad, against the rules of a topic. */

static const int64_t now_ms = 1800000000000;

static struct ingest_rule plain_rule(void)
{
	return (struct ingest_rule){.max_batch_bytes = 1 << 20, .segment_bytes = 1 << 30, .timestamp_before_max_ms = INT64_MAX, .timestamp_after_max_ms = 3600000, .keep_codec = true};
}

static struct ingest_rule codec_rule(enum codec c)
{
	struct ingest_rule r = plain_rule();
	r.keep_codec = false;
	r.codec = c;
	return r;
}

static struct ingest g;
static struct record_set set;
static struct ingest_refusal why;

static int setup(void **state)
{
	(void)state;
	ingest_init(&g);
	record_set_init(&set);
	memset(&why, 0, sizeof why);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	ingest_refusal_release(&why);
	record_set_release(&set);
	ingest_release(&g);
	return 0;
}

/* A batch that Kafka made, as a producer sends it: base offset 0, no leader epoch. */
static struct wr from_producer(const char *hex)
{
	struct wr w = from_hex(hex);
	be64_put(w.data, 0);
	be32_put(w.data + BATCH_EPOCH_AT, UINT32_MAX);
	return w;
}

static struct wr made_of(const struct record_in *r, uint32_t count, enum codec codec, int16_t attributes)
{
	struct record_set s;
	struct err e;
	struct wr w;
	struct batch_style style = plain_style(codec, INT32_MAX);
	record_set_init(&s);
	ok(record_set_add_records(&s, &style, attributes, r, count, &e), &e);
	wr_init(&w, 0);
	wr_bytes(&w, s.bytes.data, s.bytes.len);
	record_set_release(&s);
	return w;
}

/* The bytes stand where a byte read too far is seen; they are given back changed or not. */
static enum ingest_code take_in(struct wr *w, const struct ingest_rule *rule)
{
	ingest_refusal_release(&why);
	enum ingest_code code = ingest_batch(&g, &set, w->data, w->len, rule, now_ms, &why);
	if (code != INGEST_OK) {
		assert_int_equal(set.batch_count, 0);
		assert_int_equal(record_set_size(&set), 0);
		assert_true(why.why.text[0]);
	} else {
		assert_int_equal(set.batch_count, 1);
		assert_int_equal(set.batch[0].size_bytes, record_set_size(&set));
		assert_null(why.errors);
	}
	return code;
}

static enum ingest_code take_in_copy(const uint8_t *p, size_t n, const struct ingest_rule *rule)
{
	struct wr w = {.data = exact(p, n), .len = n, .cap = n};
	enum ingest_code code = take_in(&w, rule);
	if (code != INGEST_OK && n)
		assert_memory_equal(w.data, p, n);
	record_set_clear(&set);
	free(w.data);
	return code;
}

/* The set's batch is whole, and the meta says what is in it. */
static struct batch expect_good(void)
{
	const uint8_t *p = record_set_bytes(&set);
	struct batch b = decoded(p, record_set_size(&set));
	struct wr view;
	assert_true(batch_crc_matches(&b, p));
	assert_int_equal(b.size_bytes, record_set_size(&set));
	assert_int_equal(set.batch[0].at, 0);
	assert_int_equal(set.batch[0].attributes, b.attributes);
	assert_int_equal(set.batch[0].max_timestamp_ms, b.max_timestamp_ms);
	assert_int_equal(set.batch[0].last_offset_delta, b.last_offset_delta);
	wr_init(&view, 0);
	naive_view(p, &view);
	assert_int_equal(set.batch[0].view_bytes, view.len);
	wr_release(&view);
	return b;
}

/* ---- as they come ---- */

static void test_kafka_batches_pass_untouched(void **state)
{
	(void)state;
	struct ingest_rule rule = plain_rule();
	for (int c = 0; c < CODEC_COUNT; c++) {
		struct wr w = from_producer(kafka_hex[c]);
		uint8_t *was = exact(w.data, w.len);
		assert_int_equal(take_in(&w, &rule), INGEST_OK);
		assert_ptr_equal(record_set_bytes(&set), w.data); /* no copy */
		assert_memory_equal(w.data, was, w.len);
		struct batch b = expect_good();
		expect_kafka_records(&b, w.data);
		rule.max_batch_bytes = (uint32_t)w.len;
		assert_int_equal(take_in(&w, &rule), INGEST_OK);
		rule.max_batch_bytes--;
		assert_int_equal(take_in(&w, &rule), INGEST_TOO_LARGE);
		rule = plain_rule();
		rule.segment_bytes = (uint32_t)w.len - 1;
		assert_int_equal(take_in(&w, &rule), INGEST_LIST_TOO_LARGE);
		rule = plain_rule();
		record_set_clear(&set);
		free(was);
		wr_release(&w);
	}
}

/* What a batch of a megabyte was decompressed into is there for the next: no memory is taken for it, and its pages need not be cleared again. */
static void test_large_batches_share_their_memory(void **state)
{
	(void)state;
	enum { RECORDS = 10000 };
	static uint8_t value[100];
	struct record_in *r = calloc(RECORDS, sizeof *r);
	for (int i = 0; i < RECORDS; i++)
		r[i] = (struct record_in){.value = value, .value_len = sizeof value, .timestamp_ms = now_ms};
	struct wr w = made_of(r, RECORDS, CODEC_ZSTD, 0);
	struct ingest_rule rule = plain_rule();
	assert_int_equal(take_in(&w, &rule), INGEST_OK);
	const uint8_t *memory = g.area.data;
	size_t cap = g.area.cap;
	assert_non_null(memory);
	assert_true(cap > 1 << 20);
	record_set_clear(&set);
	assert_int_equal(take_in(&w, &rule), INGEST_OK);
	assert_ptr_equal(g.area.data, memory);
	assert_int_equal(g.area.cap, cap);
	record_set_clear(&set);
	wr_release(&w);
	free(r);
}

/* Marks for the view are those that a builder makes. */
static void test_marks(void **state)
{
	(void)state;
	struct record_set built;
	struct err e;
	struct ingest_rule rule = plain_rule();
	struct batch_style style = plain_style(CODEC_NONE, 1 << 20);
	static char text[110000];
	size_t taken;
	for (size_t i = 0; i < sizeof text; i++)
		text[i] = i % 97 == 96 || i + 1 == sizeof text ? '\n' : 'a';
	record_set_init(&built);
	ok(record_set_add_lines(&built, &style, text, sizeof text, now_ms, &taken, &e), &e);
	assert_int_equal(built.batch_count, 1);
	struct wr w = {.data = built.bytes.data, .len = built.bytes.len};
	assert_int_equal(take_in(&w, &rule), INGEST_OK);
	assert_true(built.mark_count > 20);
	assert_int_equal(set.mark_count, built.mark_count);
	assert_int_equal(set.batch[0].mark_count, built.mark_count);
	assert_memory_equal(set.mark, built.mark, built.mark_count * sizeof *built.mark);
	/* Compressed, and to be kept uncompressed: the same marks. */
	struct record_in line = {.value = text, .value_len = sizeof text, .timestamp_ms = now_ms};
	struct record_in many[300];
	for (int i = 0; i < 300; i++)
		many[i] = line, many[i].value_len = 100 + i;
	struct wr packed = made_of(many, 300, CODEC_LZ4, 0), plain = made_of(many, 300, CODEC_NONE, 0);
	rule = codec_rule(CODEC_NONE);
	assert_int_equal(take_in(&plain, &rule), INGEST_OK);
	uint32_t marks = set.mark_count;
	struct batch_mark *want = malloc(marks * sizeof *want);
	memcpy(want, set.mark, marks * sizeof *want);
	assert_true(marks > 10);
	assert_int_equal(take_in(&packed, &rule), INGEST_OK);
	assert_int_equal(set.mark_count, marks);
	assert_memory_equal(set.mark, want, marks * sizeof *want);
	assert_int_equal(record_set_size(&set), plain.len);
	assert_memory_equal(record_set_bytes(&set), plain.data, plain.len);
	rule = codec_rule(CODEC_ZSTD);
	assert_int_equal(take_in(&plain, &rule), INGEST_OK);
	assert_int_equal(set.mark_count, 0);
	free(want);
	wr_release(&packed);
	wr_release(&plain);
	record_set_release(&built);
}

/* ---- frames ---- */

static void test_frames(void **state)
{
	(void)state;
	struct ingest_rule rule = plain_rule();
	struct wr w = from_producer(kafka_hex[0]);
	size_t n = w.len;
	assert_int_equal(ingest_batch(&g, &set, NULL, 0, &rule, now_ms, &why), INGEST_INVALID);
	for (size_t cut = 0; cut < n; cut++)
		assert_int_equal(take_in_copy(w.data, cut, &rule), INGEST_INVALID);
	/* What begins behind it and is not whole is cut off, as in Kafka; what could be nothing is damage; a second one is one too many. */
	wr_room(&w, n);
	memcpy(w.data + n, w.data, n);
	for (w.len = n; w.len < 2 * n; w.len++) {
		assert_int_equal(take_in(&w, &rule), INGEST_OK);
		assert_int_equal(record_set_size(&set), n);
	}
	assert_int_equal(take_in(&w, &rule), INGEST_INVALID);
	be32_put(w.data + n + BATCH_LENGTH_AT, 13);
	assert_int_equal(take_in(&w, &rule), INGEST_CORRUPT);
	w.len = n + BATCH_OVERHEAD_BYTES;
	assert_int_equal(take_in(&w, &rule), INGEST_CORRUPT);
	w.len = n + BATCH_OVERHEAD_BYTES - 1;
	assert_int_equal(take_in(&w, &rule), INGEST_OK);
	be32_put(w.data + n + BATCH_LENGTH_AT, 100);
	w.data[n + 16] = 3;
	w.len = n + 17;
	assert_int_equal(take_in(&w, &rule), INGEST_CORRUPT);
	w.len = n;
	/* old formats, impossible ones */
	static const struct { uint8_t magic; enum ingest_code code; } magics[] = {{0, INGEST_INVALID}, {1, INGEST_INVALID}, {3, INGEST_CORRUPT}, {0x80, INGEST_CORRUPT}, {0xff, INGEST_CORRUPT}};
	for (size_t i = 0; i < sizeof magics / sizeof *magics; i++) {
		w.data[16] = magics[i].magic;
		assert_int_equal(take_in_copy(w.data, n, &rule), magics[i].code);
	}
	w.data[16] = 2;
	static const int32_t lengths[] = {-1, 0, 13, INT32_MIN};
	for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
		be32_put(w.data + BATCH_LENGTH_AT, (uint32_t)lengths[i]);
		assert_int_equal(take_in_copy(w.data, n, &rule), INGEST_CORRUPT);
	}
	for (uint32_t length = 14; length < BATCH_HEADER_BYTES - BATCH_OVERHEAD_BYTES; length++) { /* no room for a header */
		be32_put(w.data + BATCH_LENGTH_AT, length);
		enum ingest_code code = take_in_copy(w.data, length + BATCH_OVERHEAD_BYTES, &rule);
		assert_int_equal(code, INGEST_CORRUPT);
	}
	be32_put(w.data + BATCH_LENGTH_AT, INT32_MAX);
	assert_int_equal(take_in_copy(w.data, n, &rule), INGEST_INVALID);
	wr_release(&w);
}

static void test_zstd_needs_its_version(void **state)
{
	(void)state;
	struct ingest_rule rule = plain_rule();
	rule.no_zstd = true;
	for (int c = 0; c < CODEC_COUNT; c++) {
		struct wr w = from_producer(kafka_hex[c]);
		assert_int_equal(take_in(&w, &rule), c == CODEC_ZSTD ? INGEST_CODEC : INGEST_OK);
		record_set_clear(&set);
		wr_release(&w);
	}
	/* the topic may have it all the same */
	rule = codec_rule(CODEC_ZSTD);
	rule.no_zstd = true;
	struct wr w = from_producer(kafka_hex[CODEC_GZIP]);
	assert_int_equal(take_in(&w, &rule), INGEST_OK);
	assert_int_equal(batch_codec(&(struct batch){.attributes = expect_good().attributes}), CODEC_ZSTD);
	wr_release(&w);
}

/* ---- headers ---- */

static void test_headers(void **state)
{
	(void)state;
	struct ingest_rule rule = plain_rule();
	static const struct { int at, width; int64_t value; enum ingest_code code; } cases[] = {
		{0, 8, 1, INGEST_INVALID}, {0, 8, -1, INGEST_INVALID},	      /* base offset */
		{21, 2, 5, INGEST_CODEC}, {21, 2, 7, INGEST_CODEC},
		{21, 2, BATCH_CONTROL, INGEST_INVALID}, {21, 2, BATCH_CONTROL | BATCH_TRANSACTIONAL, INGEST_INVALID},
		{21, 2, BATCH_TRANSACTIONAL, INGEST_OK},		      /* whether it may is seen when it is appended */
		{23, 4, 2, INGEST_INVALID}, {23, 4, 4, INGEST_INVALID}, {23, 4, -1, INGEST_INVALID}, {23, 4, INT32_MAX, INGEST_INVALID},
		{57, 4, 0, INGEST_INVALID}, {57, 4, 3, INGEST_INVALID}, {57, 4, 5, INGEST_INVALID}, {57, 4, -4, INGEST_INVALID}, {57, 4, INT32_MIN, INGEST_INVALID},
		{53, 4, -1, INGEST_INVALID}, {53, 4, INT32_MIN, INGEST_INVALID}, {53, 4, INT32_MAX, INGEST_OK},
		{43, 8, -1, INGEST_OK}, {51, 2, -1, INGEST_OK}, {51, 2, INT16_MAX, INGEST_OK},
		{12, 4, 77, INGEST_OK},					      /* the leader epoch is not the client's to say */
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct wr w = from_producer(kafka_hex[0]);
		uint8_t *at = w.data + cases[i].at;
		cases[i].width == 8 ? be64_put(at, (uint64_t)cases[i].value) : cases[i].width == 4 ? be32_put(at, (uint32_t)cases[i].value) : be16_put(at, (uint16_t)cases[i].value);
		seal(w.data, w.len);
		enum ingest_code code = take_in(&w, &rule);
		if (code != cases[i].code)
			fail_msg("case %zu: %d, %s", i, (int)code, why.why.text);
		record_set_clear(&set);
		wr_release(&w);
	}
	/* without a producer id a sequence means nothing */
	struct wr w = from_producer(kafka_hex[0]);
	be64_put(w.data + 43, UINT64_MAX);
	be32_put(w.data + 53, (uint32_t)-7);
	seal(w.data, w.len);
	assert_int_equal(take_in(&w, &rule), INGEST_OK);
	wr_release(&w);
}

/* Every bit and every cut: what the CRC covers is damage, and told as such. */
static void test_flips(void **state)
{
	(void)state;
	struct ingest_rule rule = plain_rule();
	for (int c = 0; c < CODEC_COUNT; c++) {
		struct wr w = from_producer(kafka_hex[c]);
		for (size_t i = 0; i < w.len; i++) {
			for (int bit = 0; bit < 8; bit++) {
				w.data[i] ^= (uint8_t)(1 << bit);
				enum ingest_code code = take_in_copy(w.data, w.len, &rule);
				if (i >= BATCH_CRC_AT)
					assert_int_equal(code, INGEST_CORRUPT);
				else if (i < BATCH_LENGTH_AT)
					assert_int_equal(code, INGEST_INVALID);
				else if (i < BATCH_EPOCH_AT || i == 16)
					assert_true(code == INGEST_CORRUPT || code == INGEST_INVALID);
				else
					assert_int_equal(code, INGEST_OK);
				w.data[i] ^= (uint8_t)(1 << bit);
			}
		}
		wr_release(&w);
	}
}

/* ---- records ---- */

/* A sender can compute a CRC over anything: every byte from the attributes on is changed in every bit, and to some values more, with a CRC that fits. Whatever is
 * accepted can be read; the rest fails without a byte read or written out of bounds. */
static void test_hostile_records(void **state)
{
	(void)state;
	static const uint8_t values[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
	uint32_t accepted = 0, refused = 0;
	for (int c = 0; c < CODEC_COUNT; c++) {
		struct wr w = from_producer(kafka_hex[c]);
		for (size_t i = 21; i < w.len; i++) {
			for (int k = 0; k < 8 + (int)sizeof values; k++) {
				struct wr copy = {.data = exact(w.data, w.len), .len = w.len};
				struct ingest_rule rule = k % 3 == 0 ? codec_rule((enum codec)(k % CODEC_COUNT)) : plain_rule();
				rule.log_append_time = k % 4 == 0;
				copy.data[i] = k < 8 ? copy.data[i] ^ (uint8_t)(1 << k) : values[k - 8];
				seal(copy.data, copy.len);
				if (take_in(&copy, &rule) == INGEST_OK) {
					expect_good();
					accepted++;
				} else {
					assert_int_equal(why.error_count, why.error_total);
					refused++;
				}
				record_set_clear(&set);
				free(copy.data);
			}
		}
		wr_release(&w);
	}
	assert_true(accepted > 1000 && refused > 1000);
}

/* Offsets that do not go from 0 one by one are set right, in every codec; sizes of varints change with them. */
static void test_offsets_are_set_right(void **state)
{
	(void)state;
	static const struct { int32_t first, second; } cases[] = {{0, 2}, {1, 0}, {5, 5}, {-1, 100000}, {INT32_MAX, INT32_MIN}, {64, 65}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		for (int c = 0; c < CODEC_COUNT; c++) {
			struct wr w = two_records(cases[i].first, cases[i].second, 1, 2, "");
			struct ingest_rule rule = c ? codec_rule((enum codec)c) : plain_rule();
			be64_put(w.data, 0);
			assert_int_equal(take_in(&w, &rule), INGEST_OK);
			struct batch b = expect_good();
			struct wr scratch;
			struct record_iter it;
			struct record r;
			const uint8_t *area;
			size_t n;
			struct err e;
			wr_init(&scratch, 0);
			ok(batch_records(&b, record_set_bytes(&set), &scratch, &area, &n, &e), &e);
			record_iter_init(&it, &b, area, n);
			for (int k = 0; k < 2; k++) {
				assert_int_equal(record_next(&it, &r, &e), 1);
				assert_int_equal(r.offset, k);
				expect_bytes(r.value, r.value_len, "v", 1);
			}
			wr_release(&scratch);
			wr_release(&w);
		}
	}
	/* counts and bytes that do not agree are not */
	static const struct { int32_t last, claimed; const char *behind; } bad[] = {{1, 2, "x"}, {2, 3, ""}, {0, 1, ""}, {1, 1, ""}, {2, 2, ""}};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct wr w = two_records(0, 1, bad[i].last, bad[i].claimed, bad[i].behind);
		struct ingest_rule rule = plain_rule();
		be64_put(w.data, 0);
		assert_int_equal(take_in(&w, &rule), INGEST_INVALID);
		assert_int_equal(why.error_total, 0);
		wr_release(&w);
	}
}

static void test_keys(void **state)
{
	(void)state;
	struct ingest_rule rule = plain_rule();
	rule.needs_keys = true;
	for (int c = 0; c < CODEC_COUNT; c++) {
		struct wr w = from_producer(kafka_hex[c]);
		assert_int_equal(take_in_copy(w.data, w.len, &rule), INGEST_INVALID);
		assert_int_equal(why.error_total, 1);
		assert_int_equal(why.errors[0].index, 0);
		assert_non_null(strstr(why.errors[0].text, "key"));
		wr_release(&w);
		w = made_of(kafka_records() + 1, 3, (enum codec)c, 0); /* an empty key is one */
		assert_int_equal(take_in(&w, &rule), INGEST_OK);
		record_set_clear(&set);
		wr_release(&w);
	}
	struct record_in many[100];
	for (int i = 0; i < 100; i++)
		many[i] = (struct record_in){.value = "v", .value_len = 1, .timestamp_ms = i == 99 ? now_ms + 3600001 : now_ms};
	struct wr w = made_of(many, 100, CODEC_NONE, 0);
	assert_int_equal(take_in_copy(w.data, w.len, &rule), INGEST_INVALID);
	assert_int_equal(why.error_total, 100);
	assert_int_equal(why.error_count, INGEST_ERRORS_MAX);
	assert_int_equal(why.errors[INGEST_ERRORS_MAX - 1].index, INGEST_ERRORS_MAX - 1);
	wr_release(&w);
	/* one timestamp among keys that are missing, and it is that */
	many[98].key = many[99].key = "k", many[98].key_len = many[99].key_len = 1;
	w = made_of(many, 100, CODEC_NONE, 0);
	assert_int_equal(take_in_copy(w.data, w.len, &rule), INGEST_TIMESTAMP);
	assert_int_equal(why.error_total, 99);
	wr_release(&w);
}

/* ---- timestamps ---- */

static void test_timestamp_bounds(void **state)
{
	(void)state;
	static const struct { int64_t before, after, timestamp; bool good; } cases[] = {
		{INT64_MAX, 3600000, now_ms, true}, {INT64_MAX, 3600000, now_ms + 3600000, true}, {INT64_MAX, 3600000, now_ms + 3600001, false},
		{INT64_MAX, 3600000, 0, true}, {INT64_MAX, 3600000, -1, true}, {INT64_MAX, 3600000, -2, true}, {INT64_MAX, 3600000, INT64_MAX, false},
		{INT64_MAX, 3600000, INT64_MIN, false}, {INT64_MAX, INT64_MAX, INT64_MAX, true}, {INT64_MAX, INT64_MAX, INT64_MIN, true},
		{1000, 0, now_ms - 1000, true}, {1000, 0, now_ms - 1001, false}, {1000, 0, now_ms + 1, false}, {1000, 0, -1, true}, {1000, 0, -2, false}, {0, 0, now_ms, true},
		{1000, INT64_MAX, INT64_MAX, true}, {1000, INT64_MAX, INT64_MIN, true},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct ingest_rule rule = plain_rule();
		struct record_in r[3] = {{.value = "a", .value_len = 1, .timestamp_ms = now_ms}, {.value = "b", .value_len = 1, .timestamp_ms = cases[i].timestamp},
					 {.value = "c", .value_len = 1, .timestamp_ms = now_ms}};
		rule.timestamp_before_max_ms = cases[i].before;
		rule.timestamp_after_max_ms = cases[i].after;
		for (int c = 0; c < 2; c++) {
			struct wr w = made_of(r, 3, c ? CODEC_LZ4 : CODEC_NONE, 0);
			enum ingest_code code = take_in(&w, &rule);
			if (code != (cases[i].good ? INGEST_OK : INGEST_TIMESTAMP))
				fail_msg("case %zu: %d, %s", i, (int)code, why.why.text);
			if (!cases[i].good) {
				assert_int_equal(why.error_total, 1);
				assert_int_equal(why.errors[0].index, 1);
			}
			rule.log_append_time = true; /* then it does not matter */
			assert_int_equal(take_in(&w, &rule), INGEST_OK);
			rule.log_append_time = false;
			wr_release(&w);
		}
	}
}

/* A greatest timestamp that is not that of the records is set right in the header, where it lies. */
static void test_greatest_timestamp_is_set_right(void **state)
{
	(void)state;
	struct ingest_rule rule = plain_rule();
	for (int c = 0; c < CODEC_COUNT; c++) {
		struct wr w = from_producer(kafka_hex[c]);
		be64_put(w.data + 35, 5);
		be16_put(w.data + 21, (uint16_t)(c | BATCH_TRANSACTIONAL));
		seal(w.data, w.len);
		assert_int_equal(take_in(&w, &rule), INGEST_OK);
		assert_ptr_equal(record_set_bytes(&set), w.data);
		struct batch b = expect_good();
		assert_int_equal(b.max_timestamp_ms, kafka_time + 200);
		assert_int_equal(b.attributes, c | BATCH_TRANSACTIONAL);
		expect_kafka_records(&b, w.data);
		record_set_clear(&set);
		wr_release(&w);
	}
	struct record_in none = {.value = "x", .value_len = 1, .timestamp_ms = -1};
	struct wr w = made_of(&none, 1, CODEC_NONE, 0);
	assert_int_equal(take_in(&w, &rule), INGEST_OK);
	assert_int_equal(set.batch[0].max_timestamp_ms, -1);
	wr_release(&w);
}

static void test_log_append_time(void **state)
{
	(void)state;
	struct ingest_rule rule = plain_rule();
	rule.log_append_time = true;
	for (int c = 0; c < CODEC_COUNT; c++) {
		struct wr w = from_producer(kafka_hex[c]);
		uint8_t *area = exact(w.data + BATCH_HEADER_BYTES, w.len - BATCH_HEADER_BYTES);
		assert_int_equal(take_in(&w, &rule), INGEST_OK);
		assert_ptr_equal(record_set_bytes(&set), w.data);
		struct batch b = expect_good();
		assert_int_equal(b.attributes, c | BATCH_LOG_APPEND_TIME);
		assert_int_equal(b.max_timestamp_ms, now_ms);
		assert_int_equal(b.base_timestamp_ms, kafka_time);
		assert_memory_equal(w.data + BATCH_HEADER_BYTES, area, w.len - BATCH_HEADER_BYTES); /* not compressed again */
		record_set_clear(&set);
		free(area);
		wr_release(&w);
	}
}

/* A client that stamps batches as the broker would: refused where the broker does; elsewhere its time becomes that of all records. */
static void test_stamped_by_the_client(void **state)
{
	(void)state;
	for (int c = 0; c < CODEC_COUNT; c++) {
		for (int target = -1; target < CODEC_COUNT; target++) {
			struct ingest_rule rule = target < 0 ? plain_rule() : codec_rule((enum codec)target);
			struct wr w = made_of(kafka_records(), 4, (enum codec)c, BATCH_LOG_APPEND_TIME);
			assert_int_equal(take_in(&w, &rule), INGEST_OK);
			struct batch b = expect_good();
			assert_int_equal(b.attributes, target < 0 ? c : target);
			assert_int_equal(b.max_timestamp_ms, kafka_time + 200);
			if (target >= 0 && target != c)
				assert_int_equal(b.base_timestamp_ms, kafka_time + 200);
			rule.timestamp_before_max_ms = 1000;
			record_set_clear(&set);
			wr_release(&w);
			w = made_of(kafka_records(), 4, (enum codec)c, BATCH_LOG_APPEND_TIME);
			assert_int_equal(take_in_copy(w.data, w.len, &rule), INGEST_TIMESTAMP);
			assert_int_equal(why.error_total, 4);
			rule.log_append_time = true;
			assert_int_equal(take_in_copy(w.data, w.len, &rule), INGEST_TIMESTAMP);
			assert_int_equal(why.error_total, 4);
			wr_release(&w);
		}
	}
}

/* ---- another codec ---- */

static void test_recompression(void **state)
{
	(void)state;
	for (int from = 0; from < CODEC_COUNT; from++) {
		for (int to = 0; to < CODEC_COUNT; to++) {
			for (int stamp = 0; stamp < 2; stamp++) {
				struct ingest_rule rule = codec_rule((enum codec)to);
				struct wr w = from_producer(kafka_hex[from]);
				uint8_t *was = exact(w.data, w.len);
				rule.log_append_time = stamp;
				rule.level = to == CODEC_GZIP ? 9 : to == CODEC_ZSTD ? -5 : 0;
				assert_int_equal(take_in(&w, &rule), INGEST_OK);
				assert_int_equal(record_set_bytes(&set) == w.data, from == to);
				if (from != to)
					assert_memory_equal(w.data, was, w.len);
				struct batch b = expect_good();
				assert_int_equal(b.attributes, to | (stamp ? BATCH_LOG_APPEND_TIME : 0));
				assert_int_equal(b.max_timestamp_ms, stamp ? now_ms : kafka_time + 200);
				assert_int_equal(b.producer_id, 77);
				assert_int_equal(b.producer_epoch, 3);
				assert_int_equal(b.base_sequence, 12);
				if (!stamp)
					expect_kafka_records(&b, record_set_bytes(&set));
				record_set_clear(&set);
				free(was);
				wr_release(&w);
			}
		}
	}
}

/* What does not fit in the topic's form is too large, though it was not as it came. */
static void test_recompression_too_large(void **state)
{
	(void)state;
	static char zeros[100000];
	struct record_in r = {.value = zeros, .value_len = sizeof zeros};
	struct wr w = made_of(&r, 1, CODEC_ZSTD, 0);
	struct ingest_rule rule = codec_rule(CODEC_NONE);
	rule.max_batch_bytes = 50000;
	assert_true(w.len < 1000);
	assert_int_equal(take_in_copy(w.data, w.len, &rule), INGEST_TOO_LARGE);
	rule.max_batch_bytes = sizeof zeros + 100;
	rule.segment_bytes = 50000;
	assert_int_equal(take_in_copy(w.data, w.len, &rule), INGEST_LIST_TOO_LARGE);
	rule.segment_bytes = rule.max_batch_bytes;
	assert_int_equal(take_in_copy(w.data, w.len, &rule), INGEST_OK);
	wr_release(&w);
}

/* A small batch may not unfold into any amount of memory, and what it took is given back. */
static void test_unfolding(void **state)
{
	(void)state;
	struct record_in zeros = {.value = calloc(1, 80 << 20), .value_len = 60 << 20};
	struct ingest_rule rule = plain_rule();
	struct wr w = made_of(&zeros, 1, CODEC_ZSTD, 0);
	assert_true(w.len < 100000);
	assert_int_equal(take_in(&w, &rule), INGEST_OK);
	assert_int_equal(set.batch[0].view_bytes, (60 << 20) + 1);
	rule = codec_rule(CODEC_LZ4);
	assert_int_equal(take_in(&w, &rule), INGEST_OK);
	assert_true(set.bytes.cap < 4 << 20);
	assert_true(g.area.cap <= 1 << 20 && g.rewritten.cap <= 1 << 20);
	wr_release(&w);
	zeros.value_len = 80 << 20;
	w = made_of(&zeros, 1, CODEC_ZSTD, 0);
	assert_int_equal(take_in(&w, &rule), INGEST_TOO_LARGE);
	wr_release(&w);
	free((void *)(uintptr_t)zeros.value);
	/* no frame of its codec, and a frame that is cut short */
	for (int c = CODEC_GZIP; c < CODEC_COUNT; c++) {
		w = from_producer(kafka_hex[c]);
		w.len--;
		be32_put(w.data + BATCH_LENGTH_AT, (uint32_t)w.len - BATCH_OVERHEAD_BYTES);
		seal(w.data, w.len);
		rule = plain_rule();
		assert_int_equal(take_in_copy(w.data, w.len, &rule), INGEST_INVALID);
		w.len = BATCH_HEADER_BYTES;
		be32_put(w.data + BATCH_LENGTH_AT, (uint32_t)w.len - BATCH_OVERHEAD_BYTES);
		seal(w.data, w.len);
		assert_int_equal(take_in_copy(w.data, w.len, &rule), INGEST_INVALID);
		wr_release(&w);
	}
}

/* Sets and buffers serve again and again, whatever went before. */
static void test_reuse(void **state)
{
	(void)state;
	seed = 4;
	uint8_t *batch = NULL;
	size_t cap = 0;
	for (int round = 0; round < 3000; round++) {
		struct record_in r[20];
		static char text[3000];
		uint32_t n = 1 + random_next() % 20;
		memset(text, 'a' + (int)(random_next() % 20), sizeof text);
		for (uint32_t i = 0; i < n; i++)
			r[i] = (struct record_in){.key = random_next() % 2 ? text : NULL, .key_len = 5, .value = random_next() % 5 ? text : NULL, .value_len = (int32_t)(random_next() % sizeof text),
						  .timestamp_ms = now_ms - random_next() % 10000};
		struct wr w = made_of(r, n, (enum codec)(random_next() % CODEC_COUNT), 0);
		if (w.len > cap)
			batch = realloc(batch, cap = w.len);
		memcpy(batch, w.data, w.len);
		struct ingest_rule rule = random_next() % 2 ? plain_rule() : codec_rule((enum codec)(random_next() % CODEC_COUNT));
		rule.log_append_time = random_next() % 3 == 0;
		if (random_next() % 4 == 0)
			batch[random_next() % w.len] ^= 1;
		if (ingest_batch(&g, &set, batch, w.len, &rule, now_ms, &why) == INGEST_OK)
			expect_good();
		ingest_refusal_release(&why);
		wr_release(&w);
	}
	record_set_clear(&set);
	free(batch);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_kafka_batches_pass_untouched, setup, teardown),
		cmocka_unit_test_setup_teardown(test_large_batches_share_their_memory, setup, teardown),
		cmocka_unit_test_setup_teardown(test_marks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_frames, setup, teardown),
		cmocka_unit_test_setup_teardown(test_zstd_needs_its_version, setup, teardown),
		cmocka_unit_test_setup_teardown(test_headers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_flips, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hostile_records, setup, teardown),
		cmocka_unit_test_setup_teardown(test_offsets_are_set_right, setup, teardown),
		cmocka_unit_test_setup_teardown(test_keys, setup, teardown),
		cmocka_unit_test_setup_teardown(test_timestamp_bounds, setup, teardown),
		cmocka_unit_test_setup_teardown(test_greatest_timestamp_is_set_right, setup, teardown),
		cmocka_unit_test_setup_teardown(test_log_append_time, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stamped_by_the_client, setup, teardown),
		cmocka_unit_test_setup_teardown(test_recompression, setup, teardown),
		cmocka_unit_test_setup_teardown(test_recompression_too_large, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unfolding, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reuse, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
