#include "tests/unit/batch_fixture.h"

#include <inttypes.h>
#include <libgen.h>
#include <unistd.h>

#include "store/ingest.h"
#include "store/producers.h"

/* The same answers as a Kafka log gave to the same batches: tests/data/ingest, recorded by tests/lib/record_ingest.py. */

static const int64_t now_ms = 1700000100000; /* NOW of Ingest.java */

static FILE *open_data(const char *name)
{
	char source[] = __FILE__, path[500];
	snprintf(path, sizeof path, "%s/../data/ingest/%s", dirname(source), name);
	FILE *f = fopen(path, "r");
	if (!f)
		fail_msg("cannot open %s", path);
	return f;
}

/* RULES of Ingest.java. */
static struct ingest_rule rule_of(int number)
{
	struct ingest_rule r = {.max_batch_bytes = 1048588, .segment_bytes = 1 << 30, .timestamp_before_max_ms = INT64_MAX, .timestamp_after_max_ms = 3600000, .keep_codec = true};
	switch (number) {
	case 1: r.log_append_time = true; break;
	case 2: r.needs_keys = true; break;
	case 3: r.keep_codec = false, r.codec = CODEC_LZ4; break;
	case 4: r.keep_codec = false, r.codec = CODEC_ZSTD, r.log_append_time = true; break;
	case 5: r.keep_codec = false, r.codec = CODEC_NONE; break;
	case 6: r.max_batch_bytes = 250; break;
	case 7: r.timestamp_before_max_ms = 100000, r.timestamp_after_max_ms = 1000; break;
	case 8: r.keep_codec = false, r.codec = CODEC_GZIP; break;
	case 9: r.keep_codec = false, r.codec = CODEC_SNAPPY; break;
	}
	return r;
}

static void put(struct wr *w, const uint8_t *p, int32_t n)
{
	wr_i32(w, p ? n : -1);
	if (p)
		wr_bytes(w, p, (size_t)n);
}

/* As `stored` of Ingest.java. */
static void print_stored(const uint8_t *p, size_t size, char text[200])
{
	struct batch b = decoded(p, size);
	struct wr scratch, plain;
	struct record_iter it;
	struct record r;
	struct err e;
	const uint8_t *area;
	size_t n;
	wr_init(&scratch, 0);
	wr_init(&plain, 0);
	assert_true(batch_crc_matches(&b, p));
	ok(batch_records(&b, p, &scratch, &area, &n, &e), &e);
	record_iter_init(&it, &b, area, n);
	while (record_next(&it, &r, &e) == 1) {
		const uint8_t *h = r.headers;
		wr_i64(&plain, r.offset);
		wr_i64(&plain, r.timestamp_ms);
		put(&plain, r.key, r.key_len);
		put(&plain, r.value, r.value_len);
		wr_i32(&plain, (int32_t)r.header_count);
		for (uint32_t i = 0; i < r.header_count; i++) {
			struct record_header header;
			assert_true(record_header_next(&h, r.headers + r.headers_len, &header));
			put(&plain, header.key, header.key_len);
			put(&plain, header.value, header.value_len);
		}
	}
	snprintf(text, 200, "%d %" PRId64 " %" PRId64 " %" PRId64 " %d %d %08" PRIx32, b.attributes & 63, b.max_timestamp_ms, batch_last_offset(&b), b.producer_id, b.producer_epoch, b.base_sequence,
		 crc32c(0, plain.data, plain.len));
	wr_release(&scratch);
	wr_release(&plain);
}

static const char *const names[INGEST_CODES] = {
	[INGEST_OK] = "NONE", [INGEST_CORRUPT] = "CORRUPT_MESSAGE", [INGEST_INVALID] = "INVALID_RECORD", [INGEST_TOO_LARGE] = "MESSAGE_TOO_LARGE",
	[INGEST_LIST_TOO_LARGE] = "RECORD_LIST_TOO_LARGE", [INGEST_TIMESTAMP] = "INVALID_TIMESTAMP", [INGEST_CODEC] = "UNSUPPORTED_COMPRESSION_TYPE", [INGEST_NO_MEMORY] = "no memory",
};

struct tally { int lines, same, unforeseen, mended, stricter, different; };

/* What the log says to a batch that was taken in, of a producer that it does not know. */
static const char *appended(const struct record_set *set)
{
	const uint8_t *p = record_set_bytes(set);
	struct batch b = decoded(p, record_set_size(set));
	struct producers *none = producers_new();
	struct producer_batch known;
	int rc = b.producer_id >= 0 ? producers_check(none, &b, false, &known, NULL) : 0;
	producers_free(none);
	return rc == ERR_PRODUCER_FENCED ? "INVALID_PRODUCER_EPOCH" : rc == ERR_TXN_STATE ? "INVALID_TXN_STATE" : rc == ERR_SEQUENCE ? "OUT_OF_ORDER_SEQUENCE_NUMBER" : "NONE";
}

/* Kafka looks at compressed records in passing, and stores some that it cannot read afterwards; nor does it mind bytes behind what is compressed. Here they are refused. */
static bool is_stricter(enum ingest_code code, const struct ingest_refusal *why, const uint8_t *bytes, const char *error)
{
	return code == INGEST_INVALID && (!strcmp(error, "NONE") || !strcmp(error, "INVALID_RECORD")) && (bytes[22] & BATCH_CODEC_MASK) &&
	       (strstr(why->why.text, "damaged") || strstr(why->why.text, "malformed"));
}

static void print_errors(const struct ingest_refusal *why, char text[400])
{
	size_t n = 0;
	strcpy(text, "-");
	for (uint32_t i = 0; i < why->error_count; i++)
		n += (size_t)snprintf(text + n, 400 - n, "%s%" PRId32, i ? "," : "", why->errors[i].index);
}

static void compare(struct tally *t, const char *line, enum ingest_code code, const struct ingest_refusal *why, const struct record_set *set, const uint8_t *bytes,
		    const char *error, const char *errors, const char *stored)
{
	char mine[200] = "-", my_errors[400];
	print_errors(why, my_errors);
	if (code == INGEST_OK)
		print_stored(record_set_bytes(set), record_set_size(set), mine);
	const char *my_error = code == INGEST_OK ? appended(set) : names[code];
	if (!strcmp(error, "UNKNOWN_SERVER_ERROR")) { /* an exception that Kafka has not foreseen: what we answer is about the batch */
		t->unforeseen++;
		assert_true(code != INGEST_NO_MEMORY);
	} else if (!strcmp(error, my_error) && !strcmp(errors, my_errors) && (!strcmp(stored, mine) || strcmp(error, "NONE"))) {
		t->same++;
	} else if (is_stricter(code, why, bytes, error)) {
		t->stricter++;
	} else if (!strcmp(error, "NONE") && code == INGEST_OK) { /* offsets that Kafka lets stand */
		t->mended++;
	} else {
		t->different++;
		print_error("Kafka: %s %s [%s], here: %s %s [%s] %s\n  %s\n", error, errors, stored, my_error, my_errors, mine, code ? why->why.text : "", line);
	}
}

static void test_batches(void **state)
{
	(void)state;
	FILE *f = open_data("batches.txt");
	struct tally t = {0};
	struct ingest g;
	struct record_set set;
	char *line = NULL;
	size_t room = 0;
	ingest_init(&g);
	record_set_init(&set);
	while (getline(&line, &room, f) > 0) {
		int rule_number, version, at = 0, hex_at = 0, hex_end = 0;
		char error[60], errors[200], stored[200];
		line[strcspn(line, "\n")] = 0;
		assert_int_equal(sscanf(line, "%d %d%n", &rule_number, &version, &hex_at), 2);
		hex_at++;
		hex_end = hex_at + (int)strspn(line + hex_at, "0123456789abcdef"); /* may be of no bytes */
		assert_int_equal(sscanf(line + hex_end, " %59s %199s %n", error, errors, &at), 2);
		snprintf(stored, sizeof stored, "%s", line + hex_end + at);
		char *hex = strndup(line + hex_at, (size_t)(hex_end - hex_at));
		struct wr w = from_hex(hex);
		struct ingest_rule rule = rule_of(rule_number);
		struct ingest_refusal why;
		rule.no_zstd = version < 7;
		enum ingest_code code = ingest_batch(&g, &set, w.data, w.len, &rule, now_ms, &why);
		compare(&t, line, code, &why, &set, w.data, error, errors, stored);
		t.lines++;
		ingest_refusal_release(&why);
		wr_release(&w);
		free(hex);
	}
	fclose(f);
	free(line);
	record_set_release(&set);
	ingest_release(&g);
	print_message("%d batches: %d the same; to %d Kafka gives an error that it has not foreseen, in %d it lets strange offsets stand, %d are refused here alone\n", t.lines, t.same,
		      t.unforeseen, t.mended, t.stricter);
	assert_int_equal(t.different, 0);
	assert_true(t.lines > 3000 && t.same > 2500);
}

/* ---- sequences ---- */

static struct producers *reopened(struct producers *p, int64_t end_offset)
{
	char path[] = "/tmp/spoolfs-ingest-XXXXXX";
	struct err e;
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(producers_write(p, path, false, &e), 0);
	assert_int_equal(producers_load(p, path, end_offset, &e), 0);
	unlink(path);
	for (int64_t id = 0; id < 6; id++)
		producers_recall(p, id, NULL, 0); /* Kafka does not look for more than the snapshot has */
	return p;
}

static void test_sequences(void **state)
{
	(void)state;
	FILE *f = open_data("sequences.txt");
	struct producers *p = producers_new();
	char line[200], said[40];
	int64_t end_offset = 0;
	int lines = 0;
	while (fgets(line, sizeof line, f)) {
		int64_t id, timestamp, first, time;
		int epoch, sequence, count;
		if (!strcmp(line, "reopen\n")) {
			p = reopened(p, end_offset);
			continue;
		}
		assert_int_equal(sscanf(line, "%" SCNd64 " %d %d %d %" SCNd64 " %39s %" SCNd64 " %" SCNd64, &id, &epoch, &sequence, &count, &timestamp, said, &first, &time), 8);
		struct batch b = {.base_offset = end_offset, .last_offset_delta = count - 1, .record_count = count, .producer_id = id, .producer_epoch = (int16_t)epoch, .base_sequence = sequence,
				  .max_timestamp_ms = timestamp, .size_bytes = 100};
		struct producer_batch known;
		struct aborted_txn aborted;
		struct err e = ERR_INIT;
		int rc = producers_check(p, &b, false, &known, &e);
		int want = !strcmp(said, "NONE") ? (first == end_offset ? PRODUCER_NEXT : PRODUCER_DUPLICATE) : !strcmp(said, "INVALID_PRODUCER_EPOCH") ? ERR_PRODUCER_FENCED : ERR_SEQUENCE;
		if (rc != want)
			fail_msg("%d, not %d: %s", rc, want, line);
		if (rc == PRODUCER_DUPLICATE) {
			assert_int_equal(known.first_offset, first);
			assert_int_equal(known.timestamp_ms, time);
		} else if (rc == PRODUCER_NEXT) {
			assert_int_equal(producers_update(p, &b, NULL, &aborted, &e), 0);
			end_offset += count;
		}
		lines++;
	}
	assert_true(lines >= 3000);
	fclose(f);
	producers_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_batches), cmocka_unit_test(test_sequences)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
