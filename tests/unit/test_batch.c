#include "tests/unit/batch_fixture.h"

/* Not by all their bytes: the structs have padding. */
static void same_header(const struct batch *a, const struct batch *b)
{
	assert_memory_equal(a, b, offsetof(struct batch, producer_epoch) + sizeof a->producer_epoch);
}

static void test_reads_kafka(void **state)
{
	(void)state;
	for (int c = 0; c < CODEC_COUNT; c++) {
		struct wr w = from_hex(kafka_hex[c]);
		struct batch b = decoded(w.data, w.len);
		assert_int_equal(b.size_bytes, w.len);
		assert_int_equal(b.base_offset, 4711);
		assert_int_equal(batch_last_offset(&b), 4714);
		assert_int_equal(b.leader_epoch, 9);
		assert_int_equal(b.attributes, c);
		assert_int_equal(batch_codec(&b), c);
		assert_int_equal(b.base_timestamp_ms, kafka_time);
		assert_int_equal(b.max_timestamp_ms, kafka_time + 200);
		assert_int_equal(b.producer_id, 77);
		assert_int_equal(b.producer_epoch, 3);
		assert_int_equal(b.base_sequence, 12);
		assert_int_equal(b.record_count, 4);
		assert_int_equal(b.crc, naive_crc32c(w.data + BATCH_CRC_FROM, w.len - BATCH_CRC_FROM));
		assert_true(batch_crc_matches(&b, w.data));
		expect_kafka_records(&b, w.data);

		struct wr view;
		wr_init(&view, 0);
		naive_view(w.data, &view);
		assert_int_equal(view.len, 8 + 1 + 101);
		assert_memory_equal(view.data, "book 12\n\nxxxx", 13);
		wr_release(&view);
		wr_release(&w);
	}
}

/* Equal but for base offset and leader epoch, which are the leader's to give. */
static void expect_kafka_bytes(const struct record_set *s, const char *hex)
{
	struct wr w = from_hex(hex);
	assert_int_equal(s->bytes.len, w.len);
	assert_memory_equal(s->bytes.data + BATCH_LENGTH_AT, w.data + BATCH_LENGTH_AT, 4);
	assert_memory_equal(s->bytes.data + 16, w.data + 16, w.len - 16);
	assert_int_equal(be64_get(s->bytes.data), 0);
	assert_int_equal(be32_get(s->bytes.data + BATCH_EPOCH_AT), UINT32_MAX);
	wr_release(&w);
}

static void test_writes_what_kafka_writes(void **state)
{
	(void)state;
	struct record_set s;
	struct err e;
	size_t taken;
	struct batch_style style = plain_style(CODEC_NONE, 1 << 20);
	record_set_init(&s);
	ok(record_set_add_lines(&s, &style, "a\n\nbc\n", 6, kafka_time, &taken, &e), &e);
	assert_int_equal(taken, 6);
	assert_int_equal(s.batch[0].view_bytes, 6);
	expect_kafka_bytes(&s, kafka_lines_hex);

	style.producer_id = 77, style.producer_epoch = 3, style.base_sequence = 12;
	for (int c = 0; c < CODEC_COUNT; c++) {
		style.codec = (enum codec)c;
		record_set_clear(&s);
		ok(record_set_add_records(&s, &style, 0, kafka_records(), 4, &e), &e);
		if (c == CODEC_NONE)
			expect_kafka_bytes(&s, kafka_hex[c]);
		struct batch b = decoded(s.bytes.data, s.bytes.len);
		assert_true(batch_crc_matches(&b, s.bytes.data));
		assert_int_equal(b.size_bytes, s.bytes.len);
		assert_int_equal(batch_codec(&b), c);
		expect_kafka_records(&b, s.bytes.data);
		assert_int_equal(s.batch_count, 1);
		assert_int_equal(s.batch[0].view_bytes, 110);
		assert_int_equal(s.batch[0].max_timestamp_ms, kafka_time + 200);
		assert_int_equal(s.batch[0].last_offset_delta, 3);
	}
	record_set_clear(&s);
	ok(record_set_add_marker(&s, 77, 3, true, 5, kafka_time, &e), &e);
	expect_kafka_bytes(&s, kafka_commit_hex);
	assert_int_equal(s.batch[0].view_bytes, 0);
	assert_int_equal(s.batch[0].attributes, BATCH_CONTROL | BATCH_TRANSACTIONAL);
	record_set_release(&s);
}

/* ---- headers ---- */

static void test_header_fields(void **state)
{
	(void)state;
	seed = 1;
	for (int round = 0; round < 1000; round++) {
		uint8_t bytes[300];
		for (size_t i = 0; i < sizeof bytes; i++)
			bytes[i] = (uint8_t)random_next();
		struct batch in = {
			.base_offset = (int64_t)random_next() << 30, .size_bytes = 61 + random_next() % 200, .leader_epoch = (int32_t)random_next(),
			.last_offset_delta = (int32_t)(random_next() >> 1), .base_timestamp_ms = (int64_t)random_next() - (1 << 30),
			.max_timestamp_ms = (int64_t)random_next() << 20, .producer_id = (int64_t)random_next() - 1, .base_sequence = (int32_t)random_next(),
			.attributes = (int16_t)(random_next() & ~7u) | (int16_t)(random_next() % CODEC_COUNT), .producer_epoch = (int16_t)random_next(),
		};
		in.record_count = (int32_t)(random_next() % ((uint32_t)in.last_offset_delta + 1));
		batch_encode(&in, bytes);
		struct batch out = decoded(bytes, sizeof bytes);
		assert_true(batch_crc_matches(&out, bytes));
		assert_int_equal(out.crc, naive_crc32c(bytes + BATCH_CRC_FROM, in.size_bytes - BATCH_CRC_FROM));
		in.crc = out.crc;
		same_header(&in, &out);
		bytes[BATCH_CRC_FROM + random_next() % (in.size_bytes - BATCH_CRC_FROM)] ^= 0x10;
		assert_false(batch_crc_matches(&out, bytes));
	}
}

static void test_header_refused(void **state)
{
	(void)state;
	static const struct { int at, width; int64_t value; int code; } bad[] = {
		{8, 4, 48, ERR_CORRUPT}, {8, 4, -1, ERR_CORRUPT}, {8, 4, INT32_MIN, ERR_CORRUPT}, {8, 4, INT32_MAX, ERR_CORRUPT}, {8, 4, 0x49 + 1, ERR_CORRUPT},
		{16, 1, 0, ERR_UNSUPPORTED}, {16, 1, 1, ERR_UNSUPPORTED}, {16, 1, 3, ERR_CORRUPT}, {16, 1, -1, ERR_CORRUPT},
		{21, 2, 5, ERR_CORRUPT}, {21, 2, 7, ERR_CORRUPT},
		{0, 8, -1, ERR_CORRUPT}, {0, 8, INT64_MAX, ERR_CORRUPT}, {0, 8, INT64_MAX - 1, ERR_CORRUPT}, {0, 8, INT64_MAX - 2, 0},
		{23, 4, -1, ERR_CORRUPT}, {23, 4, 1, ERR_CORRUPT}, {23, 4, 3, 0}, {57, 4, 4, ERR_CORRUPT}, {57, 4, -1, ERR_CORRUPT}, {57, 4, 2, 0}, {57, 4, 0, 0},
		{57, 4, INT32_MIN, ERR_CORRUPT},
	};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct wr w = from_hex(kafka_lines_hex);
		for (int k = 0; k < bad[i].width; k++)
			w.data[bad[i].at + k] = (uint8_t)((uint64_t)bad[i].value >> (8 * (bad[i].width - 1 - k)));
		struct batch b;
		struct err e = ERR_INIT;
		int r = batch_decode(&b, w.data, w.len, (uint32_t)w.len, &e);
		if (r != bad[i].code)
			fail_msg("case %zu: %d %s", i, r, e.text);
		assert_true(!r || strlen(e.text) > 0);
		wr_release(&w);
	}
	uint8_t zeros[200] = {0};
	struct batch b;
	assert_int_equal(batch_decode(&b, zeros, sizeof zeros, sizeof zeros, NULL), ERR_CORRUPT); /* a torn tail, not an old message */
	struct wr w = from_hex(kafka_lines_hex);
	for (size_t have = 0; have < BATCH_HEADER_BYTES; have++) {
		uint8_t *copy = exact(w.data, have);
		assert_int_equal(batch_decode(&b, copy, have, (uint32_t)w.len, NULL), ERR_CORRUPT);
		free(copy);
	}
	assert_int_equal(batch_decode(&b, w.data, w.len, (uint32_t)w.len - 1, NULL), ERR_CORRUPT);
	/* A message of magic 1, shorter than our header. */
	uint8_t old[34] = {[11] = 22, [16] = 1};
	assert_int_equal(batch_decode(&b, old, sizeof old, sizeof old, NULL), ERR_UNSUPPORTED);
	wr_release(&w);
}

/* ---- records ---- */


static int iterate(const struct wr *w, int64_t *last)
{
	struct batch b = decoded(w->data, w->len);
	struct record_iter it;
	struct record r;
	int more;
	record_iter_init(&it, &b, w->data + BATCH_HEADER_BYTES, w->len - BATCH_HEADER_BYTES);
	while ((more = record_next(&it, &r, NULL)) > 0)
		*last = r.offset;
	assert_int_equal(record_next(&it, &r, NULL), more); /* the end and a failure stay */
	return more;
}

static void test_compacted_batches(void **state)
{
	(void)state;
	static const struct { int32_t first, second, last, claimed; const char *behind; int result; } cases[] = {
		{0, 1, 1, 2, "", 0}, {3, 70, 100, 2, "", 0}, {0, 5, 5, 2, "", 0}, {0, 5, 4, 2, "", ERR_CORRUPT}, {5, 5, 9, 2, "", ERR_CORRUPT},
		{5, 4, 9, 2, "", ERR_CORRUPT}, {-1, 4, 9, 2, "", ERR_CORRUPT}, {0, 1, 9, 1, "", ERR_CORRUPT}, {0, 1, 9, 3, "", ERR_CORRUPT},
		{0, 1, 9, 0, "", ERR_CORRUPT}, {0, 1, 9, 2, "x", ERR_CORRUPT}, {0, INT32_MAX, INT32_MAX, 2, "", 0},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct wr w = two_records(cases[i].first, cases[i].second, cases[i].last, cases[i].claimed, cases[i].behind), scratch;
		struct batch b = decoded(w.data, w.len);
		int64_t last = 0;
		uint64_t view = 0;
		int r = iterate(&w, &last);
		if (r != cases[i].result)
			fail_msg("case %zu: %d", i, r);
		wr_init(&scratch, 0);
		assert_int_equal(batch_scan(&b, w.data, &scratch, 4096, &view, NULL, NULL, NULL), r);
		if (!r) {
			assert_int_equal(last, 1000 + (int64_t)cases[i].second);
			assert_int_equal(view, 4);
		}
		wr_release(&w);
	}
	/* All gone: the header stays, for the producer's sequence. */
	struct wr w = from_hex(kafka_empty_hex), scratch;
	struct batch b = decoded(w.data, w.len);
	uint64_t view;
	int64_t last = -1;
	wr_init(&scratch, 0);
	assert_int_equal(b.record_count, 0);
	assert_int_equal(batch_last_offset(&b), 104);
	assert_true(batch_crc_matches(&b, w.data));
	assert_int_equal(iterate(&w, &last), 0);
	assert_int_equal(last, -1);
	assert_int_equal(batch_scan(&b, w.data, &scratch, 4096, &view, NULL, NULL, NULL), 0);
	assert_int_equal(view, 0);
	wr_release(&w);
}

static void test_timestamps(void **state)
{
	(void)state;
	struct wr w = from_hex(kafka_hex[CODEC_NONE]);
	struct batch b = decoded(w.data, w.len);
	struct record_iter it;
	struct record r;
	b.attributes |= BATCH_LOG_APPEND_TIME;
	record_iter_init(&it, &b, w.data + BATCH_HEADER_BYTES, w.len - BATCH_HEADER_BYTES);
	assert_int_equal(record_next(&it, &r, NULL), 1);
	assert_int_equal(r.timestamp_ms, kafka_time + 200); /* the batch's, for each of its records */
	b.attributes = 0;
	b.base_timestamp_ms = INT64_MAX;
	record_iter_init(&it, &b, w.data + BATCH_HEADER_BYTES, w.len - BATCH_HEADER_BYTES);
	for (int i = 0; i < 4; i++)
		assert_int_equal(record_next(&it, &r, NULL), 1);
	wr_release(&w);
}

/* ---- building from lines, against a slow and simple encoder ---- */

struct reference { /* one batch's area, and what is known about it */
	struct wr area;
	struct batch_mark mark[4096];
	uint32_t mark_count, count;
	size_t text_bytes;
};

/* Takes lines until the next would make the area larger than max. */
static void reference_take(struct reference *f, const char *text, size_t n, size_t max)
{
	size_t last_mark = 0;
	wr_clear(&f->area);
	f->mark_count = f->count = 0;
	f->text_bytes = 0;
	while (f->text_bytes < n) {
		const char *line = text + f->text_bytes;
		size_t len = 0, before = f->area.len;
		struct wr body;
		while (line[len] != '\n')
			len++;
		wr_init(&body, 0);
		wr_i8(&body, 0);
		wr_varint(&body, 0);
		wr_varint(&body, f->count);
		wr_varint(&body, -1);
		wr_varint(&body, (int64_t)len);
		wr_bytes(&body, line, len);
		wr_varint(&body, 0);
		wr_varint(&f->area, (int64_t)body.len);
		wr_bytes(&f->area, body.data, body.len);
		wr_release(&body);
		if (f->area.len > max) {
			f->area.len = before;
			return;
		}
		if (before >= last_mark + 4096) {
			f->mark[f->mark_count++] = (struct batch_mark){.byte = (uint32_t)before + 61, .record = f->count, .view_bytes = f->text_bytes};
			last_mark = before;
		}
		f->count++;
		f->text_bytes += len + 1;
	}
}

enum shape { EMPTY_LINES, SHORT_LINES, LINES, EDGE_LINES, MIXED_LINES, SHAPES };

static size_t make_lines(char *text, size_t n, enum shape shape)
{
	static const unsigned edges[] = {0, 1, 57, 58, 59, 60, 61, 62, 63, 64, 65, 127, 128, 8179, 8180,
					 8181, 8182, 8183, 8184, 8185, 8186, 8191, 8192, 8193, 16383, 16384};
	size_t at = 0;
	for (;;) {
		size_t len = shape == EMPTY_LINES   ? 0
			     : shape == SHORT_LINES ? random_next() % 10
			     : shape == LINES	    ? 70 + random_next() % 60
			     : shape == EDGE_LINES  ? edges[random_next() % (sizeof edges / sizeof edges[0])]
						    : random_next() % 8 ? random_next() % 200 : random_next() % 30000;
		if (at + len + 1 > n)
			return at;
		for (size_t i = 0; i < len; i++)
			text[at + i] = (char)(random_next() % 97 + 11); /* all but \n, compressible */
		text[at + len] = '\n';
		at += len + 1;
	}
}

static size_t area_max(const struct batch_style *style)
{
	return style->max_batch_bytes - 61 - (codec_bound(style->codec, style->max_batch_bytes) - style->max_batch_bytes);
}

/* The set's batches are those that the reference makes of the text, taken up to *taken. */
static void expect_reference(const struct record_set *s, const struct batch_style *style, const char *text, size_t n, int64_t now_ms)
{
	static struct reference f;
	size_t at = 0, byte = 0;
	int32_t sequence = style->base_sequence;
	struct wr scratch;
	struct err e;
	wr_init(&f.area, 0);
	wr_init(&scratch, 0);
	for (uint32_t i = 0; i < s->batch_count; i++) {
		const struct batch_meta *m = &s->batch[i];
		const uint8_t *bytes = s->bytes.data + m->at, *area;
		size_t area_bytes;
		size_t limit = area_max(style), first = n - at < 65536 ? n - at : 65536;
		if (limit > 131072 && memchr(text + at, '\n', first))
			limit = 131072;
		reference_take(&f, text + at, n - at, limit);
		struct batch b = decoded(bytes, s->bytes.len - m->at);
		struct batch want = {
			.size_bytes = m->size_bytes, .crc = b.crc, .leader_epoch = -1, .last_offset_delta = (int32_t)f.count - 1, .record_count = (int32_t)f.count,
			.base_timestamp_ms = now_ms, .max_timestamp_ms = now_ms, .producer_id = style->producer_id,
			.producer_epoch = style->producer_id < 0 ? -1 : style->producer_epoch, .base_sequence = style->producer_id < 0 ? -1 : sequence,
			.attributes = (int16_t)((int)style->codec | (style->log_append_time ? 8 : 0)),
		};
		same_header(&b, &want);
		assert_int_equal(m->at, byte);
		assert_true(m->size_bytes <= style->max_batch_bytes);
		assert_true(batch_crc_matches(&b, bytes));
		ok(batch_records(&b, bytes, &scratch, &area, &area_bytes, &e), &e);
		assert_int_equal(area_bytes, f.area.len);
		assert_int_equal(memcmp(area, f.area.data, area_bytes), 0);
		assert_int_equal(m->view_bytes, f.text_bytes);
		assert_int_equal(m->last_offset_delta, b.last_offset_delta);
		assert_int_equal(m->attributes, b.attributes);
		assert_int_equal(m->max_timestamp_ms, now_ms);
		assert_int_equal(m->mark_count, style->codec == CODEC_NONE ? f.mark_count : 0);
		if (m->mark_count)
			assert_memory_equal(s->mark + m->first_mark, f.mark, m->mark_count * sizeof f.mark[0]);
		byte += m->size_bytes;
		at += f.text_bytes;
		sequence = (int32_t)(((int64_t)sequence + f.count) % ((int64_t)INT32_MAX + 1));
	}
	assert_int_equal(byte, s->bytes.len);
	assert_int_equal(at, n);
	wr_release(&f.area);
	wr_release(&scratch);
}

struct marks_seen { const struct batch_mark *want; uint32_t count; };

static void mark_seen(void *arg, const struct batch_mark *m)
{
	struct marks_seen *seen = arg;
	assert_int_equal(m->byte, seen->want[seen->count].byte);
	assert_int_equal(m->record, seen->want[seen->count].record);
	assert_int_equal(m->view_bytes, seen->want[seen->count].view_bytes);
	seen->count++;
}

/* What the builder knew, the scan finds out. */
static void expect_scan_agrees(struct record_set *s)
{
	struct wr scratch;
	struct err e;
	wr_init(&scratch, 0);
	for (uint32_t i = 0; i < s->batch_count; i++) {
		const struct batch_meta *m = &s->batch[i];
		const uint8_t *p = s->bytes.data + m->at;
		struct batch b = decoded(p, m->size_bytes);
		struct marks_seen seen = {.want = s->mark + m->first_mark};
		uint64_t view_bytes;
		assert_true(batch_crc_matches(&b, p));
		ok(batch_scan(&b, p, &scratch, BATCH_MARK_BYTES, &view_bytes, mark_seen, &seen, &e), &e);
		assert_int_equal(seen.count, m->mark_count);
		assert_int_equal(view_bytes, m->view_bytes);
		assert_int_equal(b.last_offset_delta, m->last_offset_delta);
		assert_int_equal(b.max_timestamp_ms, m->max_timestamp_ms);
	}
	wr_release(&scratch);
}

static void test_add_lines(void **state)
{
	(void)state;
	static char text[400000];
	static const size_t sizes[] = {100, 5000, 20000, 400000};
	static const uint32_t maxima[] = {40000, 65536, 1 << 20, INT32_MAX};
	struct record_set s;
	struct err e;
	size_t taken;
	seed = 2;
	record_set_init(&s);
	for (int shape = 0; shape < SHAPES; shape++) {
		for (int c = 0; c < CODEC_COUNT; c++) {
			for (int i = 0; i < 4; i++) {
				struct batch_style style = plain_style((enum codec)c, maxima[random_next() % 4]);
				if (random_next() % 2)
					style.producer_id = 5, style.producer_epoch = 6, style.base_sequence = INT32_MAX - (int32_t)(random_next() % 100);
				style.log_append_time = random_next() % 2;
				size_t n = make_lines(text, sizes[i], (enum shape)shape);
				record_set_clear(&s);
				ok(record_set_add_lines(&s, &style, text, n, 12345, &taken, &e), &e);
				assert_int_equal(taken, n);
				expect_reference(&s, &style, text, n, 12345);
				expect_scan_agrees(&s);
			}
		}
	}
	record_set_release(&s);
}

/* Every length of value around the places where a varint of the record grows, each alone in its batch. */
static void test_single_lines(void **state)
{
	(void)state;
	static char text[20000];
	struct record_set s;
	struct err e;
	size_t taken;
	struct batch_style style = plain_style(CODEC_NONE, 1 << 20);
	record_set_init(&s);
	memset(text, 'x', sizeof text);
	for (size_t len = 0; len < 17000; len += len < 300 || (len > 8000 && len < 8300) || len > 16200 ? 1 : 61) {
		text[len] = '\n';
		record_set_clear(&s);
		ok(record_set_add_lines(&s, &style, text, len + 1, 1, &taken, &e), &e);
		expect_reference(&s, &style, text, len + 1, 1);
		text[len] = 'x';
	}
	record_set_release(&s);
}

static void test_lines_refused(void **state)
{
	(void)state;
	struct record_set s;
	struct err e = ERR_INIT;
	size_t taken = 9;
	struct batch_style style = plain_style(CODEC_NONE, 1000);
	record_set_init(&s);
	assert_int_equal(record_set_add_lines(&s, &style, "a\nb", 3, 1, &taken, &e), ERR_INVALID);
	assert_int_equal(taken, 0);
	ok(record_set_add_lines(&s, &style, "", 0, 1, &taken, &e), &e);
	assert_int_equal(s.batch_count, 0);
	assert_int_equal(s.bytes.len, 0);
	assert_int_equal(record_set_add_records(&s, &style, 0, NULL, 0, &e), ERR_INVALID);
	record_set_release(&s);
}

static void test_too_large_line(void **state)
{
	(void)state;
	static char text[60000];
	struct err e = ERR_INIT;
	seed = 3;
	for (int c = 0; c < CODEC_COUNT; c++) {
		struct batch_style style = plain_style((enum codec)c, 10000);
		/* The largest line that fits: length 3 bytes, attributes, two deltas, key, length 2 to 3 bytes, headers. */
		size_t fits = area_max(&style) - (2 + 5 + 2), taken;
		if (fits > 8191)
			fits = area_max(&style) - (3 + 5 + 3);
		for (int before = 0; before < 200; before = before * 3 + 1) {
			for (int over = 0; over < 2; over++) {
				struct record_set s;
				size_t n = 0;
				for (int i = 0; i < before; i++)
					n += (size_t)sprintf(text + n, "line %d before the large one, and what may follow it to make it longer\n", i);
				size_t large_at = n;
				for (size_t i = 0; i < fits + (size_t)over; i++)
					text[n++] = (char)(128 | random_next());
				text[n++] = '\n';
				n += (size_t)sprintf(text + n, "behind\n");
				record_set_init(&s);
				int r = record_set_add_lines(&s, &style, text, n, 77, &taken, &e);
				assert_int_equal(r, over ? ERR_TOO_LARGE : 0);
				assert_int_equal(taken, over ? large_at : n);
				expect_reference(&s, &style, text, taken, 77);
				expect_scan_agrees(&s);
				/* The set is as good as before for what follows. */
				style.max_batch_bytes = 100000;
				size_t had = s.bytes.len;
				ok(record_set_add_lines(&s, &style, text + large_at, n - large_at, 77, &taken, &e), &e);
				assert_int_equal(taken, n - large_at);
				assert_int_equal(s.batch[s.batch_count - 1].at, had);
				style.max_batch_bytes = 10000;
				record_set_release(&s);
			}
		}
	}
	struct record_set s;
	size_t taken;
	struct batch_style tiny = plain_style(CODEC_ZSTD, 60);
	record_set_init(&s);
	assert_int_equal(record_set_add_lines(&s, &tiny, "\n", 1, 1, &taken, &e), ERR_TOO_LARGE);
	assert_int_equal(s.bytes.len, 0);
	record_set_release(&s);
}

/* Incompressible text, batches as large as they may be: the bound holds whatever the codec makes of it. */
static void test_incompressible(void **state)
{
	(void)state;
	static char text[300000];
	struct err e;
	size_t taken;
	seed = 4;
	for (size_t i = 0; i < sizeof text; i++) {
		text[i] = (char)random_next();
		if (text[i] == '\n')
			text[i] = 0;
	}
	for (size_t i = 99; i < sizeof text; i += 1000)
		text[i] = '\n';
	text[sizeof text - 1] = '\n';
	for (int c = 0; c < CODEC_COUNT; c++) {
		struct record_set s;
		struct batch_style style = plain_style((enum codec)c, 50000);
		record_set_init(&s);
		ok(record_set_add_lines(&s, &style, text, sizeof text, 1, &taken, &e), &e);
		assert_true(s.batch_count > 6);
		expect_reference(&s, &style, text, sizeof text, 1);
		expect_scan_agrees(&s);
		record_set_release(&s);
	}
}

static void test_memory_is_kept(void **state)
{
	(void)state;
	static char text[100000];
	struct err e;
	size_t taken;
	seed = 5;
	size_t n = make_lines(text, sizeof text, LINES);
	for (int c = 0; c < CODEC_COUNT; c++) {
		struct record_set s;
		struct batch_style style = plain_style((enum codec)c, 1 << 20);
		record_set_init(&s);
		ok(record_set_add_lines(&s, &style, text, n, 1, &taken, &e), &e);
		struct record_set before = s;
		for (int i = 0; i < 10; i++) {
			record_set_clear(&s);
			ok(record_set_add_lines(&s, &style, text, n, 1, &taken, &e), &e);
		}
		assert_memory_equal(&before, &s, sizeof s);
		record_set_release(&s);
	}
}

static void test_records_too_large(void **state)
{
	(void)state;
	struct record_set s;
	struct err e = ERR_INIT;
	struct batch_style style = plain_style(CODEC_NONE, 1000);
	record_set_init(&s);
	ok(record_set_add_records(&s, &style, 0, kafka_records(), 4, &e), &e);
	size_t size = s.bytes.len;
	style.max_batch_bytes = (uint32_t)size - 1;
	assert_int_equal(record_set_add_records(&s, &style, 0, kafka_records(), 4, &e), ERR_TOO_LARGE);
	assert_int_equal(s.bytes.len, size);
	assert_int_equal(s.batch_count, 1);
	style.max_batch_bytes++;
	ok(record_set_add_records(&s, &style, 0, kafka_records(), 4, &e), &e);
	assert_int_equal(s.batch[1].at, size);
	record_set_release(&s);
}

/* ---- projection ---- */

/* Random records with everything that may be in one; timestamps and keys such that every varint takes every size. */
static void random_records(struct record_set *s, enum codec c, uint32_t count)
{
	static uint8_t bytes[70000];
	static const struct record_header headers[2] = {{.key = (const uint8_t *)"trace", .key_len = 5, .value = (const uint8_t *)"00ff", .value_len = 4},
							{.key = (const uint8_t *)"", .key_len = 0, .value = NULL, .value_len = -1}};
	struct record_in *in = calloc(count, sizeof *in);
	struct batch_style style = plain_style(c, INT32_MAX);
	struct err e;
	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (uint8_t)random_next();
	for (uint32_t i = 0; i < count; i++) {
		in[i].timestamp_ms = (int64_t)(random_next() >> random_next() % 32) << random_next() % 31;
		in[i].key = random_next() % 3 ? NULL : bytes;
		in[i].key_len = (int32_t)(random_next() % (random_next() % 20 ? 50 : 9000));
		in[i].value = random_next() % 5 ? bytes + random_next() % 100 : NULL;
		in[i].value_len = (int32_t)(random_next() % (random_next() % 20 ? 150 : 60000));
		in[i].headers = headers;
		in[i].header_count = random_next() % 4 ? 0 : random_next() % 3;
	}
	ok(record_set_add_records(s, &style, 0, in, count, &e), &e);
	free(in);
}

/* The area through batch_project, `room` at a time (0: a random room each time); a record that does not fit is split as a caller would. */
static void expect_projection(const uint8_t *area, size_t n, size_t room, const struct wr *want)
{
	uint8_t *copy = exact(area, n), *out = malloc(want->len + 1);
	const uint8_t *p = copy, *end = copy + n;
	size_t at = 0;
	while (p < end) {
		const uint8_t *before = p;
		size_t r = room ? room : random_next() % (random_next() % 2 ? 200 : 80000);
		uint8_t *block = exact("", 0);
		block = realloc(block, r ? r : 1);
		ssize_t got = batch_project(&p, end, block, r);
		assert_true(got >= 0 && (size_t)got <= r);
		assert_true(at + (size_t)got <= want->len);
		if (got)
			memcpy(out + at, block, (size_t)got);
		at += (size_t)got;
		if (!got && p < end) {
			struct record rec;
			const uint8_t *q = p;
			assert_true(record_decode(&q, end, &rec));
			assert_true(rec.value && (size_t)rec.value_len + 1 > r);
			memcpy(out + at, rec.value, (size_t)rec.value_len);
			at += (size_t)rec.value_len;
			out[at++] = '\n';
			p = q;
		}
		assert_true(p > before);
		free(block);
	}
	assert_ptr_equal(p, end);
	assert_int_equal(at, want->len);
	assert_int_equal(memcmp(out, want->data, at), 0);
	free(copy);
	free(out);
}

static void test_project(void **state)
{
	(void)state;
	seed = 6;
	for (int round = 0; round < 60; round++) {
		struct record_set s;
		struct wr want;
		wr_init(&want, 0);
		record_set_init(&s);
		random_records(&s, CODEC_NONE, round ? 1 + random_next() % 300 : 9000);
		naive_view(s.bytes.data, &want);
		assert_int_equal(s.batch[0].view_bytes, want.len);
		const uint8_t *area = s.bytes.data + BATCH_HEADER_BYTES;
		size_t n = s.bytes.len - BATCH_HEADER_BYTES;
		expect_projection(area, n, want.len + 1, &want);
		expect_projection(area, n, 0, &want);
		expect_projection(area, n, 1 + random_next() % 500, &want);
		expect_scan_agrees(&s);
		if (round < 10)
			for (size_t room = 1; room < 140; room++)
				expect_projection(area, n, room, &want);
		wr_release(&want);
		record_set_release(&s);
	}
}

static void test_project_edges(void **state)
{
	(void)state;
	struct record_set s;
	struct batch_style style = plain_style(CODEC_NONE, 1 << 20);
	struct err e;
	size_t taken;
	uint8_t out[16];
	record_set_init(&s);
	ok(record_set_add_lines(&s, &style, "abc\nde\n", 7, 1, &taken, &e), &e);
	const uint8_t *area = s.bytes.data + BATCH_HEADER_BYTES, *end = s.bytes.data + s.bytes.len, *p = area;
	assert_int_equal(batch_project(&p, end, out, 3), 0);
	assert_ptr_equal(p, area);
	assert_int_equal(batch_project(&p, end, out, 6), 4);
	assert_memory_equal(out, "abc\n", 4);
	assert_int_equal(batch_project(&p, end, out, 3), 3);
	assert_memory_equal(out, "de\n", 3);
	assert_ptr_equal(p, end);
	assert_int_equal(batch_project(&p, end, out, 3), 0);
	/* What is whole before a malformed record is given; the record is reported when it is the first. */
	p = area;
	assert_int_equal(batch_project(&p, end - 1, out, 16), 4);
	assert_int_equal(batch_project(&p, end - 1, out, 16), ERR_CORRUPT);
	record_set_release(&s);

	/* Tombstones take no room. */
	struct record_in gone[3] = {{.key = "k", .key_len = 1}, {.key = "k", .key_len = 1}, {.key = "k", .key_len = 1}};
	record_set_init(&s);
	ok(record_set_add_records(&s, &style, 0, gone, 3, &e), &e);
	p = s.bytes.data + BATCH_HEADER_BYTES;
	assert_int_equal(batch_project(&p, s.bytes.data + s.bytes.len, out, 0), 0);
	assert_ptr_equal(p, s.bytes.data + s.bytes.len);
	assert_int_equal(s.batch[0].view_bytes, 0);
	record_set_release(&s);
}

/* A mark is where it says: the view from there on is the rest of the view. */
static void test_marks(void **state)
{
	(void)state;
	seed = 7;
	for (int round = 0; round < 20; round++) {
		struct record_set s;
		struct wr want;
		wr_init(&want, 0);
		record_set_init(&s);
		random_records(&s, CODEC_NONE, 500);
		naive_view(s.bytes.data, &want);
		assert_true(s.batch[0].mark_count > 5);
		uint32_t before = BATCH_HEADER_BYTES;
		for (uint32_t i = 0; i < s.batch[0].mark_count; i++) {
			struct batch_mark m = s.mark[i];
			struct record r;
			const uint8_t *p = s.bytes.data + m.byte;
			struct wr rest = {.data = want.data + m.view_bytes, .len = want.len - m.view_bytes};
			assert_true(m.byte >= before + 4096);
			assert_true(record_decode(&p, s.bytes.data + s.bytes.len, &r));
			assert_int_equal(r.offset, m.record);
			assert_true(m.record > 0);
			expect_projection(s.bytes.data + m.byte, s.bytes.len - m.byte, 1 << 20, &rest);
			before = m.byte;
		}
		wr_release(&want);
		record_set_release(&s);
	}
}

/* ---- damage ---- */

static void test_random_areas(void **state)
{
	(void)state;
	seed = 8;
	struct wr good = from_hex(kafka_hex[CODEC_NONE]);
	for (int round = 0; round < 200000; round++) {
		uint8_t noise[64], out[128];
		size_t n = random_next() % sizeof noise;
		for (size_t i = 0; i < n; i++)
			noise[i] = random_next() % 3 ? (uint8_t)(random_next() % 32) : (uint8_t)random_next();
		uint8_t *copy = exact(noise, n);
		const uint8_t *p = copy, *end = copy + n;
		struct record r;
		struct batch b = {.record_count = 5, .last_offset_delta = 1000};
		struct record_iter it;
		ssize_t got = batch_project(&p, end, out, random_next() % sizeof out);
		assert_true(p >= copy && p <= end);
		assert_true(got == ERR_CORRUPT || (got >= 0 && got <= (ssize_t)sizeof out));
		p = copy;
		while (record_decode(&p, end, &r))
			assert_true(r.size > 0 && p <= end);
		record_iter_init(&it, &b, copy, n);
		while (record_next(&it, &r, NULL) > 0)
			assert_true(r.at + r.size <= n);
		/* The fast way sees what the slow one sees. */
		struct batch_sums sums;
		uint64_t view = 0;
		p = copy;
		b.record_count = 0;
		for (int whole = (int)(random_next() % 4); whole > 0 && record_decode(&p, end, &r); whole--, b.record_count++)
			view += r.value ? (uint64_t)r.value_len + 1 : 0;
		assert_int_equal(batch_sum(&b, copy, (size_t)(p - copy), 0, NULL, NULL, &sums, NULL), 0);
		assert_int_equal(sums.view_bytes, view);
		b.record_count++;
		assert_int_equal(batch_sum(&b, copy, n, 0, NULL, NULL, &sums, NULL) == 0, record_decode(&p, end, &r) && p == end);
		free(copy);
	}
	wr_release(&good);
}

static void test_area_limit(void **state)
{
	(void)state;
	struct batch b = {.size_bytes = 1 << 20};
	assert_int_equal(batch_area_limit(&b), 80 << 20);
	b.size_bytes = INT32_MAX;
	assert_int_equal(batch_area_limit(&b), INT32_MAX);
}

/* ---- control batches ---- */

static void test_control(void **state)
{
	(void)state;
	struct record_set s;
	struct err e = ERR_INIT;
	struct batch b;
	int32_t epoch = 0;
	for (int commit = 0; commit < 2; commit++) {
		record_set_init(&s);
		ok(record_set_add_marker(&s, 9, 2, commit, 31, 5, &e), &e);
		b = decoded(s.bytes.data, s.bytes.len);
		assert_true(batch_is_control(&b) && batch_is_transactional(&b));
		assert_int_equal(b.producer_id, 9);
		assert_int_equal(b.producer_epoch, 2);
		assert_int_equal(b.base_sequence, -1);
		assert_int_equal(batch_control_type(&b, s.bytes.data, &epoch, &e), commit);
		assert_int_equal(epoch, 31);
		assert_int_equal(batch_control_type(&b, s.bytes.data, NULL, &e), commit);
		expect_scan_agrees(&s);
		record_set_release(&s);
	}
	static const struct { const char *key; int32_t key_len; const char *value; int32_t value_len; int type; } odd[] = {
		{"\0\0\0\2", 4, NULL, -1, 2},	      {"\0\0\0\6", 4, "", 0, 6},	     {"\0\1\0\0\7", 5, "\0\1\0\0\0\4xx", 8, 0}, {"\0\0\0", 3, "", 0, ERR_CORRUPT},
		{NULL, -1, "", 0, ERR_CORRUPT},	      {"\0\0\0\1", 4, NULL, -1, ERR_CORRUPT},
		{"\0\0\0\1", 4, "\0\0\0\0\0", 5, ERR_CORRUPT}, {"\0\0\xff\xff", 4, "", 0, ERR_CORRUPT},
	};
	for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
		struct batch_style style = plain_style(CODEC_NONE, 1000);
		struct record_in r = {.key = odd[i].key, .key_len = odd[i].key_len, .value = odd[i].value, .value_len = odd[i].value_len};
		record_set_init(&s);
		ok(record_set_add_records(&s, &style, BATCH_CONTROL, &r, 1, &e), &e);
		b = decoded(s.bytes.data, s.bytes.len);
		assert_int_equal(batch_control_type(&b, s.bytes.data, &epoch, &e), odd[i].type);
		if (odd[i].type > 1)
			assert_int_equal(epoch, -1);
		record_set_release(&s);
	}
	/* Compaction may leave a control batch without its record. */
	struct wr w = from_hex(kafka_empty_hex);
	b = decoded(w.data, w.len);
	b.attributes |= BATCH_CONTROL;
	assert_int_equal(batch_control_type(&b, w.data, &epoch, &e), ERR_NOT_FOUND);
	wr_release(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reads_kafka),	  cmocka_unit_test(test_writes_what_kafka_writes), cmocka_unit_test(test_header_fields),
		cmocka_unit_test(test_header_refused),	  cmocka_unit_test(test_compacted_batches),	   cmocka_unit_test(test_timestamps),
		cmocka_unit_test(test_add_lines),	  cmocka_unit_test(test_single_lines),		   cmocka_unit_test(test_lines_refused),
		cmocka_unit_test(test_too_large_line),	  cmocka_unit_test(test_incompressible),	   cmocka_unit_test(test_memory_is_kept),
		cmocka_unit_test(test_records_too_large), cmocka_unit_test(test_project),		   cmocka_unit_test(test_project_edges),
		cmocka_unit_test(test_marks),	  cmocka_unit_test(test_random_areas),		   cmocka_unit_test(test_area_limit),
		cmocka_unit_test(test_control),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
