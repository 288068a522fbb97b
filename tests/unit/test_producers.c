#include "store/producers.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/io.h"
#include "store/scan.h"

static char dir[64], path[100];
static struct producers *p;
static struct err e;

static int make_dir(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/spoolfs-test-producers-XXXXXX");
	e = (struct err)ERR_INIT;
	p = producers_new();
	if (!mkdtemp(dir) || !p)
		return -1;
	snprintf(path, sizeof path, "%s/00000000000000000042.snapshot", dir);
	return 0;
}

static int remove_all(void **state)
{
	(void)state;
	io_set_hook(NULL, NULL);
	producers_free(p);
	producers_free(NULL);
	char command[100];
	snprintf(command, sizeof command, "rm -rf %s", dir);
	return system(command);
}

/* ---- helpers ---- */

static uint64_t seed;

static uint32_t random_next(void)
{
	seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
	return (uint32_t)(seed >> 32);
}

static void ok(int rc)
{
	if (rc < 0)
		fail_msg("%d: %s", rc, e.text);
}

static void assert_fails(int rc, int code)
{
	assert_int_equal(rc, code);
	assert_int_equal(e.code, code);
	assert_non_null(strstr(e.text, path));
	e = (struct err)ERR_INIT;
}

static void put_file(const void *bytes, size_t n)
{
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(bytes, 1, n, f), n);
	assert_int_equal(fclose(f), 0);
}

static size_t get_file(const char *file, uint8_t *bytes, size_t room)
{
	FILE *f = fopen(file, "r");
	assert_non_null(f);
	size_t n = fread(bytes, 1, room, f);
	assert_true(n < room);
	fclose(f);
	return n;
}

static void assert_file(const char *file, const void *bytes, size_t n)
{
	static uint8_t have[20000];
	assert_int_equal(get_file(file, have, sizeof have), n);
	assert_memory_equal(have, bytes, n);
}

static struct wr empty_text(void)
{
	struct wr w;
	wr_init(&w, 0);
	wr_printf(&w, "%s", "");
	return w;
}

/* What is known, a line a producer. */
static void assert_text(const char *want)
{
	struct wr text = empty_text();
	producers_print(p, &text);
	assert_false(text.failed);
	assert_string_equal((char *)text.data, want);
	wr_release(&text);
}

/* ---- batches ---- */

static struct aborted_txn aborted;

static int data(int64_t offset, int count, int64_t id, int16_t epoch, int32_t sequence, bool transactional, int64_t timestamp)
{
	struct batch b = {.base_offset = offset, .last_offset_delta = count - 1, .record_count = count, .producer_id = id, .producer_epoch = epoch,
			  .base_sequence = sequence, .base_timestamp_ms = timestamp - 5, .max_timestamp_ms = timestamp,
			  .attributes = transactional ? BATCH_TRANSACTIONAL : 0, .size_bytes = 1000};
	int rc = producers_update(p, &b, NULL, &aborted, &e);
	ok(rc);
	return rc;
}

static int update_with(struct record_set *s, int64_t offset)
{
	struct batch b;
	be64_put(s->bytes.data, (uint64_t)offset);
	ok(batch_decode(&b, s->bytes.data, s->bytes.len, UINT32_MAX, &e));
	int rc = producers_update(p, &b, s->bytes.data, &aborted, &e);
	record_set_release(s);
	return rc;
}

static int marker(int64_t offset, int64_t id, int16_t epoch, bool commit, int32_t coordinator_epoch, int64_t timestamp)
{
	struct record_set s;
	record_set_init(&s);
	ok(record_set_add_marker(&s, id, epoch, commit, coordinator_epoch, timestamp, &e));
	return update_with(&s, offset);
}

/* A control batch with that key and value. */
static int control(int64_t offset, int64_t id, const void *key, int32_t key_len, const void *value, int32_t value_len)
{
	struct batch_style style = {.max_batch_bytes = 1 << 20, .producer_id = id, .base_sequence = -1};
	struct record_in r = {.key = key, .key_len = key_len, .value = value, .value_len = value_len, .timestamp_ms = 77};
	struct record_set s;
	record_set_init(&s);
	ok(record_set_add_records(&s, &style, BATCH_CONTROL | BATCH_TRANSACTIONAL, &r, 1, &e));
	return update_with(&s, offset);
}

/* A marker of which compaction left the header. */
static int emptied_marker(int64_t offset, int64_t id, int16_t epoch)
{
	uint8_t bytes[BATCH_HEADER_BYTES];
	struct batch b = {.base_offset = offset, .producer_id = id, .producer_epoch = epoch, .base_sequence = -1, .max_timestamp_ms = 88,
			  .attributes = BATCH_TRANSACTIONAL | BATCH_CONTROL, .size_bytes = sizeof bytes};
	batch_encode(&b, bytes);
	int rc = producers_update(p, &b, bytes, &aborted, &e);
	ok(rc);
	return rc;
}

/* ---- snapshots ---- */

/* As a Kafka wrote it. */
static const uint8_t real[] = {
	0x00, 0x01, 0xd1, 0x98, 0x34, 0x01, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x4f, 0x00, 0x00,
	0x00, 0x00, 0x00, 0x00, 0x00, 0x4f, 0x00, 0x00, 0x00, 0x07, 0x00, 0x00, 0x01, 0xa1, 0xfe, 0x0f, 0x90, 0xa6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
	0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x1d, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x6e,
	0x00, 0x00, 0x00, 0x1b, 0x00, 0x00, 0x01, 0xa1, 0xfe, 0x0f, 0x94, 0xfc, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
};
static const uint8_t none[] = {0x00, 0x01, 0x48, 0x67, 0x4b, 0xc7, 0x00, 0x00, 0x00, 0x00};
#define REAL_TEXT \
	"producer 0 epoch 0 last sequence 79 last offset 79 offset delta 7 timestamp 1795263795366 coordinator epoch -1\n" \
	"producer 1 epoch 0 last sequence 29 last offset 110 offset delta 27 timestamp 1795263796476 coordinator epoch 0\n"

static void assert_empty(void)
{
	assert_true(producers_is_empty(p));
	assert_int_equal(producers_first_unstable(p), -1);
	assert_int_equal(producers_greatest_id(p), -1);
	assert_int_equal(producers_map_end(p), 0);
	assert_text("");
}

static void test_a_new_one_is_empty(void **state)
{
	(void)state;
	assert_empty();
	data(10, 3, 7, 0, 0, true, 100);
	producers_clear(p);
	assert_empty();
	producers_set_map_end(p, 55);
	assert_int_equal(producers_map_end(p), 55);
	ok(producers_write(p, path, false, &e));
	assert_file(path, none, sizeof none);
}

static void test_bytes_are_those_of_kafka(void **state)
{
	(void)state;
	put_file(real, sizeof real);
	ok(producers_load(p, path, 111, &e));
	assert_text(REAL_TEXT);
	assert_int_equal(producers_map_end(p), 111);
	assert_int_equal(producers_first_unstable(p), -1);
	assert_int_equal(producers_greatest_id(p), 1);
	assert_false(producers_is_empty(p));
	unlink(path);
	ok(producers_write(p, path, true, &e));
	assert_file(path, real, sizeof real);
	put_file(none, sizeof none);
	ok(producers_load(p, path, 5, &e));
	assert_text("");
	assert_int_equal(producers_map_end(p), 5);
}

/* Writes entries as given: eight numbers each. */
static void put_entries(int32_t count, const int64_t (*entry)[8], size_t n)
{
	struct wr w;
	wr_init(&w, 0);
	wr_i16(&w, 1);
	wr_i32(&w, 0);
	wr_i32(&w, count);
	for (size_t i = 0; i < n; i++) {
		wr_i64(&w, entry[i][0]);
		wr_i16(&w, (int16_t)entry[i][1]);
		wr_i32(&w, (int32_t)entry[i][2]);
		wr_i64(&w, entry[i][3]);
		wr_i32(&w, (int32_t)entry[i][4]);
		wr_i64(&w, entry[i][5]);
		wr_i32(&w, (int32_t)entry[i][6]);
		wr_i64(&w, entry[i][7]);
	}
	be32_put(w.data + 2, crc32c(0, w.data + 6, w.len - 6));
	put_file(w.data, w.len);
	wr_release(&w);
}

static void gather_txn(void *arg, const struct open_txn *t)
{
	struct wr *text = arg;
	wr_printf(text, "%" PRId64 " from %" PRId64 " epoch %d coordinator %" PRId32 "\n", t->producer_id, t->first_offset, t->producer_epoch, t->coordinator_epoch);
}

static void assert_open(const char *want)
{
	struct wr text = empty_text();
	producers_open_txns(p, gather_txn, &text);
	assert_string_equal((char *)text.data, want);
	wr_release(&text);
}

static void test_open_transactions_of_a_snapshot(void **state)
{
	(void)state;
	static const int64_t entries[][8] = {
		{5, 1, 10, 100, 3, 1000, 2, 90}, {6, 0, -1, -1, 0, 1001, 0, 30}, {7, 0, 3, 101, 0, 1002, -1, -1}, {8, 2, 4, 102, 0, 1003, 1, 60}, {9, 0, 5, 103, 0, 1004, 0, 0},
	};
	put_entries(5, entries, 5);
	ok(producers_load(p, path, 200, &e));
	assert_open("9 from 0 epoch 0 coordinator 0\n6 from 30 epoch 0 coordinator 0\n8 from 60 epoch 2 coordinator 1\n5 from 90 epoch 1 coordinator 2\n");
	assert_int_equal(producers_first_unstable(p), 0);
	assert_int_equal(producers_greatest_id(p), 9);
	assert_int_equal(marker(200, 9, 0, true, 0, 2000), 0);
	assert_int_equal(marker(201, 8, 2, false, 1, 2001), 1);
	assert_int_equal(aborted.first_offset, 60);
	assert_int_equal(aborted.last_stable_offset, 30);
	assert_open("6 from 30 epoch 0 coordinator 0\n5 from 90 epoch 1 coordinator 2\n");
}

/* Values that only an odd writer has: read as Kafka reads them. */
static void test_odd_entries(void **state)
{
	(void)state;
	static const int64_t entries[][8] = {
		{5, 1, 10, 100, 3, 1000, 2, 90},
		{6, 0, 7, -3, 9, 1001, 0, -5}, /* no batch, no transaction */
		{5, 2, 11, 120, 0, 1002, 3, -1}, /* again: the last one counts */
		{INT64_MAX, INT16_MAX, INT32_MAX, INT64_MAX, INT32_MAX, INT64_MAX, INT32_MAX, INT64_MAX},
	};
	put_entries(4, entries, 4);
	ok(producers_load(p, path, 200, &e));
	assert_text("producer 5 epoch 2 last sequence 11 last offset 120 offset delta 0 timestamp 1002 coordinator epoch 3\n"
		       "producer 6 epoch 0 timestamp 1001 coordinator epoch 0\n"
		       "producer 9223372036854775807 epoch 32767 last sequence 2147483647 last offset 9223372036854775807 offset delta 2147483647"
		       " timestamp 9223372036854775807 coordinator epoch 2147483647 open transaction from offset 9223372036854775807\n");
	assert_open("9223372036854775807 from 9223372036854775807 epoch 32767 coordinator 2147483647\n");
	ok(producers_write(p, path, false, &e));
	static const int64_t normal[][8] = {
		{5, 2, 11, 120, 0, 1002, 3, -1}, {6, 0, -1, -1, 0, 1001, 0, -1}, {INT64_MAX, INT16_MAX, INT32_MAX, INT64_MAX, INT32_MAX, INT64_MAX, INT32_MAX, INT64_MAX},
	};
	uint8_t bytes[1000];
	size_t n = get_file(path, bytes, sizeof bytes);
	put_entries(3, normal, 3);
	assert_file(path, bytes, n);
}

static void test_damaged_snapshots(void **state)
{
	(void)state;
	static const int64_t entries[][8] = {{5, 1, 10, 100, 3, 1000, 2, 90}};
	uint8_t bytes[sizeof real + 1] = {0};
	for (size_t n = 0; n < sizeof real; n++) {
		data(10, 3, 7, 0, 0, true, 100);
		put_file(real, n);
		assert_fails(producers_load(p, path, 42, &e), ERR_CORRUPT);
		assert_empty();
	}
	memcpy(bytes, real, sizeof real);
	put_file(bytes, sizeof bytes);
	assert_fails(producers_load(p, path, 42, &e), ERR_CORRUPT);
	for (size_t i = 0; i < sizeof real; i++)
		for (int bit = 0; bit < 8; bit++) {
			memcpy(bytes, real, sizeof real);
			bytes[i] ^= (uint8_t)(1 << bit);
			put_file(bytes, sizeof real);
			assert_fails(producers_load(p, path, 42, &e), ERR_CORRUPT);
		}
	static const int32_t counts[] = {0, 2, -1, INT32_MAX, INT32_MIN};
	for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) { /* with a matching crc */
		put_entries(counts[i], entries, 1);
		assert_fails(producers_load(p, path, 42, &e), ERR_CORRUPT);
		assert_empty();
	}
	put_entries(1, entries, 1);
	ok(producers_load(p, path, 42, &e));
}

static enum io_call failing;

static ssize_t fail_call(void *arg, enum io_call call, const char *name, int fd, size_t bytes)
{
	(void)name;
	(void)fd;
	(void)bytes;
	return call == failing ? *(ssize_t *)arg : 0;
}

static void test_faults(void **state)
{
	(void)state;
	static const enum io_call reads[] = {IO_OPEN, IO_READ, IO_STAT}, writes[] = {IO_OPEN, IO_WRITE, IO_RENAME, IO_SYNC};
	ssize_t answer = -EIO;
	assert_fails(producers_load(p, path, 42, &e), ERR_NOT_FOUND);
	put_file(real, sizeof real);
	for (size_t i = 0; i < sizeof reads / sizeof *reads; i++) {
		data(10, 3, 7, 0, 0, true, 100);
		failing = reads[i];
		io_set_hook(fail_call, &answer);
		assert_fails(producers_load(p, path, 42, &e), ERR_IO);
		io_set_hook(NULL, NULL);
		assert_empty();
	}
	data(10, 3, 7, 0, 0, true, 100);
	for (size_t i = 0; i < sizeof writes / sizeof *writes; i++) {
		failing = writes[i];
		io_set_hook(fail_call, &answer);
		assert_fails(producers_write(p, path, true, &e), ERR_IO);
		io_set_hook(NULL, NULL);
		assert_file(path, real, sizeof real);
	}
	failing = IO_WRITE;
	for (answer = 1; answer < 56; answer++) {
		io_set_hook(fail_call, &answer);
		assert_fails(producers_write(p, path, false, &e), ERR_NO_SPACE);
		io_set_hook(NULL, NULL);
		assert_file(path, real, sizeof real);
	}
	ok(producers_write(p, path, true, &e));
	ok(producers_load(p, path, 13, &e));
	assert_text("producer 7 epoch 0 last sequence 2 last offset 12 offset delta 2 timestamp 100 coordinator epoch -1 open transaction from offset 10\n");
}

/* ---- the log's batches ---- */

static void test_sequences_wrap(void **state)
{
	(void)state;
	data(0, 10, 1, 0, INT32_MAX - 9, false, 100);
	data(10, 1, 2, 0, INT32_MAX, false, 101);
	data(11, 10, 3, 0, INT32_MAX - 5, false, 102);
	data(21, 4, 4, 0, -1, true, 103); /* the group coordinator's batches may have no sequence: once, this became 2 */
	assert_text("producer 1 epoch 0 last sequence 2147483647 last offset 9 offset delta 9 timestamp 100 coordinator epoch -1\n"
		       "producer 2 epoch 0 last sequence 2147483647 last offset 10 offset delta 0 timestamp 101 coordinator epoch -1\n"
		       "producer 3 epoch 0 last sequence 3 last offset 20 offset delta 9 timestamp 102 coordinator epoch -1\n"
		       "producer 4 epoch 0 last sequence -1 last offset 24 offset delta 3 timestamp 103 coordinator epoch -1 open transaction from offset 21\n");
}

static void test_the_last_five_batches_of_an_epoch_are_kept(void **state)
{
	(void)state;
	for (int i = 0; i < 7; i++)
		data(10 * i, 2, 1, 0, 2 * i, false, 100 + i);
	assert_text("producer 1 epoch 0 last sequence 13 last offset 61 offset delta 1, before it 11 51 1, before it 9 41 1, before it 7 31 1, before it 5 21 1,"
		       " timestamp 106 coordinator epoch -1\n");
	data(70, 2, 1, 1, 0, false, 50); /* an older timestamp is the last one all the same */
	assert_text("producer 1 epoch 1 last sequence 1 last offset 71 offset delta 1 timestamp 50 coordinator epoch -1\n");
	data(80, 2, 1, 0, 14, false, 51); /* nothing in the log is refused for its epoch */
	assert_text("producer 1 epoch 0 last sequence 15 last offset 81 offset delta 1 timestamp 51 coordinator epoch -1\n");
}

static void test_a_marker_of_the_same_epoch_keeps_the_batches(void **state)
{
	(void)state;
	data(0, 2, 1, 3, 0, true, 100);
	assert_open("1 from 0 epoch 3 coordinator -1\n");
	assert_int_equal(marker(2, 1, 3, true, 9, 101), 0);
	assert_text("producer 1 epoch 3 last sequence 1 last offset 1 offset delta 1 timestamp 101 coordinator epoch 9\n");
	assert_open("");
	assert_int_equal(producers_map_end(p), 3);
	assert_int_equal(marker(3, 1, 3, false, 10, 102), 0); /* nothing was open: nothing is aborted */
	assert_text("producer 1 epoch 3 last sequence 1 last offset 1 offset delta 1 timestamp 102 coordinator epoch 10\n");
}

/* KIP-890: each end of a transaction has the next epoch. */
static void test_a_marker_of_a_newer_epoch_clears_the_batches(void **state)
{
	(void)state;
	data(0, 2, 1, 0, 0, true, 100);
	assert_int_equal(marker(2, 1, 1, false, 0, 101), 1);
	assert_int_equal(aborted.producer_id, 1);
	assert_int_equal(aborted.first_offset, 0);
	assert_int_equal(aborted.last_offset, 2);
	assert_int_equal(aborted.last_stable_offset, 3);
	assert_text("producer 1 epoch 1 timestamp 101 coordinator epoch 0\n");
	data(3, 2, 1, 1, 0, true, 102);
	assert_int_equal(marker(5, 1, 2, true, 0, 103), 0);
	assert_int_equal(marker(6, 2, 5, true, 4, 104), 0); /* of one never seen before */
	assert_text("producer 1 epoch 2 timestamp 103 coordinator epoch 0\nproducer 2 epoch 5 timestamp 104 coordinator epoch 4\n");
}

static void test_interleaved_transactions(void **state)
{
	(void)state;
	data(0, 1, 1, 0, 0, true, 100);
	data(1, 1, 2, 0, 0, true, 100);
	data(2, 1, 3, 0, 0, false, 100);
	data(3, 1, 1, 0, 1, true, 100);
	data(4, 1, 4, 0, 0, true, 100);
	assert_open("1 from 0 epoch 0 coordinator -1\n2 from 1 epoch 0 coordinator -1\n4 from 4 epoch 0 coordinator -1\n");
	assert_int_equal(marker(5, 2, 0, false, 0, 101), 1); /* the oldest is still open */
	assert_int_equal(aborted.first_offset, 1);
	assert_int_equal(aborted.last_offset, 5);
	assert_int_equal(aborted.last_stable_offset, 0);
	assert_int_equal(producers_first_unstable(p), 0);
	assert_int_equal(marker(6, 1, 0, false, 0, 101), 1); /* the oldest itself */
	assert_int_equal(aborted.first_offset, 0);
	assert_int_equal(aborted.last_stable_offset, 4);
	assert_int_equal(producers_first_unstable(p), 4);
	data(7, 1, 1, 0, 2, true, 100);
	assert_int_equal(marker(8, 4, 0, true, 0, 101), 0);
	assert_int_equal(producers_first_unstable(p), 7);
	assert_int_equal(marker(9, 1, 0, false, 0, 101), 1);
	assert_int_equal(aborted.last_stable_offset, 10);
	assert_int_equal(producers_first_unstable(p), -1);
	assert_int_equal(producers_greatest_id(p), 4);
}

static void test_emptied_and_other_control_batches(void **state)
{
	(void)state;
	data(0, 1, 1, 0, 0, true, 100);
	assert_int_equal(emptied_marker(1, 1, 1), 0);
	assert_int_equal(emptied_marker(2, 2, 0), 0); /* Kafka notes the id, and nothing more of it */
	assert_int_equal(control(3, 3, "\0\0\0\x2", 4, "\0\0\0\0\0\0", 6), 0);
	assert_int_equal(producers_map_end(p), 4);
	/* none of its transaction is left: it is not open any more */
	static const char text[] = "producer 1 epoch 0 last sequence 0 last offset 0 offset delta 0 timestamp 100 coordinator epoch -1\n"
				   "producer 2 epoch -1 timestamp -1 coordinator epoch -1\n";
	assert_text(text);
	assert_int_equal(e.code, 0);
	/* damaged ones change nothing */
	assert_int_equal(control(4, 1, "\0\0\0", 3, "\0\0\0\0\0\0", 6), ERR_CORRUPT);
	assert_int_equal(control(4, 4, "\0\0\0\0", 4, "\0\0\0\0\0", 5), ERR_CORRUPT);
	assert_int_equal(e.code, ERR_CORRUPT);
	assert_int_equal(control(4, 4, NULL, -1, NULL, -1), ERR_CORRUPT);
	assert_text(text);
	assert_int_equal(producers_map_end(p), 4);
	assert_int_equal(control(4, -1, NULL, -1, NULL, -1), 0); /* of the quorum: none of ours */
	assert_int_equal(producers_map_end(p), 5);
}

static void test_copy(void **state)
{
	(void)state;
	data(0, 2, 5, 0, 0, true, 100);
	data(2, 2, 3, 0, 0, true, 101);
	marker(4, 7, 0, true, 0, 102);
	struct producers *copy = producers_copy(p), *swap;
	assert_non_null(copy);
	ok(producers_write(p, path, false, &e));
	assert_int_equal(marker(5, 5, 1, false, 0, 103), 1);
	data(6, 2, 9, 0, 0, true, 104);
	/* the copy is as it was, and goes its own way */
	swap = p, p = copy, copy = swap;
	uint8_t bytes[500];
	size_t n = get_file(path, bytes, sizeof bytes);
	ok(producers_write(p, path, false, &e));
	assert_file(path, bytes, n);
	assert_int_equal(producers_map_end(p), 5);
	assert_open("5 from 0 epoch 0 coordinator -1\n3 from 2 epoch 0 coordinator -1\n");
	assert_int_equal(marker(5, 3, 0, false, 0, 103), 1);
	assert_int_equal(aborted.last_stable_offset, 0);
	producers_free(copy);
}

/* ---- against a naive replay ---- */

enum { IDS = 8, EVENTS = 400 };

/* All that a log held, looked through from the beginning for each question. */
static struct event {
	enum { DATA, MARKER, EMPTIED, OTHER } kind;
	int64_t offset, id, timestamp;
	int32_t count, sequence, coordinator;
	int16_t epoch;
	bool transactional, commit;
} event[EVENTS];

static int64_t naive_open_since(size_t n, int64_t id)
{
	int64_t first = -1;
	for (size_t i = 0; i < n; i++) {
		if (event[i].id != id)
			continue;
		if (event[i].kind == DATA && event[i].transactional && first < 0)
			first = event[i].offset;
		if (event[i].kind == MARKER || event[i].kind == EMPTIED)
			first = -1;
	}
	return first;
}

static int64_t naive_first_unstable(size_t n)
{
	int64_t least = -1;
	for (int64_t id = 0; id < IDS; id++) {
		int64_t first = naive_open_since(n, id);
		if (first >= 0 && (least < 0 || first < least))
			least = first;
	}
	return least;
}

static bool tells(const struct event *v)
{
	return v->kind == DATA || v->kind == MARKER;
}

static void naive_line(struct wr *text, size_t n, int64_t id)
{
	int epoch = -1;
	int32_t coordinator = -1;
	int64_t timestamp = -1, open = naive_open_since(n, id);
	size_t shown = 0;
	for (size_t i = 0; i < n; i++) {
		if (event[i].id != id || !tells(&event[i]))
			continue;
		epoch = event[i].epoch;
		timestamp = event[i].timestamp;
		if (event[i].kind == MARKER)
			coordinator = event[i].coordinator;
	}
	wr_printf(text, "producer %" PRId64 " epoch %d", id, epoch);
	for (size_t i = n; i-- > 0 && shown < 5;) {
		if (event[i].id != id || !tells(&event[i]))
			continue;
		if (event[i].epoch != epoch)
			break;
		if (event[i].kind != DATA)
			continue;
		int64_t last = event[i].sequence < 0 ? -1 : ((int64_t)event[i].sequence + event[i].count - 1) % (INT64_C(1) + INT32_MAX);
		wr_printf(text, shown++ ? ", before it %" PRId64 " %" PRId64 " %d" : " last sequence %" PRId64 " last offset %" PRId64 " offset delta %d", last,
			  event[i].offset + event[i].count - 1, event[i].count - 1);
	}
	wr_printf(text, "%s timestamp %" PRId64 " coordinator epoch %d", shown > 1 ? "," : "", timestamp, coordinator);
	if (open >= 0)
		wr_printf(text, " open transaction from offset %" PRId64, open);
	wr_printf(text, "\n");
}

/* Both lists are in the order of the log: of the producers' first batches, and of the open transactions. */
static void assert_like_naive(size_t n)
{
	struct wr text = empty_text(), open = empty_text();
	bool seen[IDS] = {0};
	int64_t greatest = -1;
	for (size_t i = 0; i < n; i++) {
		int64_t id = event[i].id;
		if (id < 0 || event[i].kind == OTHER)
			continue;
		if (!seen[id])
			naive_line(&text, n, id);
		seen[id] = true;
		greatest = id > greatest ? id : greatest;
		if (naive_open_since(n, id) != event[i].offset)
			continue;
		int epoch = -1, coordinator = -1;
		for (size_t k = 0; k < n; k++)
			if (event[k].id == id && tells(&event[k])) {
				epoch = event[k].epoch;
				coordinator = event[k].kind == MARKER ? event[k].coordinator : coordinator;
			}
		wr_printf(&open, "%" PRId64 " from %" PRId64 " epoch %d coordinator %d\n", id, event[i].offset, epoch, coordinator);
	}
	assert_text((char *)text.data);
	assert_open((char *)open.data);
	assert_int_equal(producers_first_unstable(p), naive_first_unstable(n));
	assert_int_equal(producers_greatest_id(p), greatest);
	assert_int_equal(producers_map_end(p), n ? event[n - 1].offset + event[n - 1].count : 0);
	wr_release(&text);
	wr_release(&open);
}

static int16_t epoch_of(size_t n, int64_t id)
{
	int16_t epoch = 0;
	for (size_t i = 0; i < n; i++)
		if (event[i].id == id && tells(&event[i]))
			epoch = event[i].epoch;
	return epoch;
}

/* The first ids are idempotent alone, the next transactional as of 3.9, the last as of 4.x. */
static void make_event(size_t n, int64_t offset)
{
	struct event *v = &event[n];
	*v = (struct event){.kind = DATA, .offset = offset, .id = (int64_t)(random_next() % (IDS + 1)) - 1, .timestamp = random_next() % 5000,
			    .count = 1 + (int32_t)(random_next() % 20),
			    .sequence = random_next() % 4 ? (int32_t)(random_next() % 1000) : INT32_MAX - (int32_t)(random_next() % 10)};
	if (v->id < 0)
		return;
	v->epoch = epoch_of(n, v->id);
	v->transactional = v->id >= 3;
	if (v->transactional && random_next() % 3 == 0) {
		v->kind = random_next() % 10 ? MARKER : random_next() % 2 ? EMPTIED : OTHER;
		v->count = 1;
		v->commit = random_next() % 2;
		v->coordinator = (int32_t)(random_next() % 5);
		v->epoch = (int16_t)(v->epoch + (v->id >= 5));
	} else if (random_next() % 20 == 0) {
		v->epoch++;
	} else if (random_next() % 20 == 0) {
		v->sequence = -1;
	}
}

static int feed(const struct event *v)
{
	switch (v->kind) {
	case DATA:
		return data(v->offset, v->count, v->id, v->epoch, v->sequence, v->transactional, v->timestamp);
	case MARKER:
		return marker(v->offset, v->id, v->epoch, v->commit, v->coordinator, v->timestamp);
	case EMPTIED:
		return emptied_marker(v->offset, v->id, v->epoch);
	default:
		return control(v->offset, v->id, "\0\0\0\x3", 4, "\0\0", 2);
	}
}

static void test_against_a_naive_replay(void **state)
{
	(void)state;
	for (uint32_t round = 1; round <= 60; round++) {
		int64_t offset = 0;
		seed = round * UINT64_C(0x9e3779b97f4a7c15);
		producers_clear(p);
		for (size_t n = 0; n < EVENTS; n++) {
			make_event(n, offset);
			int64_t first = event[n].id < 0 ? -1 : naive_open_since(n, event[n].id);
			bool aborts = event[n].kind == MARKER && !event[n].commit && first >= 0;
			assert_int_equal(feed(&event[n]), aborts);
			if (aborts) {
				int64_t unstable = naive_first_unstable(n + 1);
				assert_int_equal(aborted.producer_id, event[n].id);
				assert_int_equal(aborted.first_offset, first);
				assert_int_equal(aborted.last_offset, offset);
				assert_int_equal(aborted.last_stable_offset, unstable < 0 ? offset + 1 : unstable);
			}
			offset += event[n].count;
			if (n % 7 == 0)
				assert_like_naive(n + 1);
		}
	}
}

/* ---- what a real Kafka wrote ---- */

static void find(glob_t *found, const char *in, const char *what)
{
	char pattern[300];
	snprintf(pattern, sizeof pattern, "%s/%s", in, what);
	int rc = glob(pattern, 0, NULL, found);
	assert_true(rc == 0 || rc == GLOB_NOMATCH);
}

static int64_t offset_of(const char *file)
{
	return strtoll(strrchr(file, '/') + 1, NULL, 10);
}

/* Loaded and written, it is the same. */
static void round_trip(const char *snapshot)
{
	static uint8_t bytes[20000];
	size_t n = get_file(snapshot, bytes, sizeof bytes);
	ok(producers_load(p, snapshot, offset_of(snapshot), &e));
	assert_int_equal(producers_is_empty(p), n == sizeof none);
	ok(producers_write(p, path, false, &e));
	assert_file(path, bytes, n);
}

enum { ENTRY_BYTES = 46, MOST = 100 };

static int by_id(const void *a, const void *b)
{
	return memcmp(a, b, 8);
}

/* A snapshot's entries, by id. */
static size_t entries_of(const char *file, uint8_t (*entry)[ENTRY_BYTES])
{
	static uint8_t bytes[10 + MOST * ENTRY_BYTES + 1];
	size_t n = (get_file(file, bytes, sizeof bytes) - 10) / ENTRY_BYTES;
	memcpy(entry, bytes + 10, n * ENTRY_BYTES);
	qsort(entry, n, ENTRY_BYTES, by_id);
	return n;
}

/* At a start Kafka forgets producers that were not heard of for a day (producer.id.expiration.ms) and have nothing open. */
static bool may_be_forgotten(const uint8_t *entry)
{
	return (int64_t)be64_get(entry + 26) < INT64_C(1795000000000) && (int64_t)be64_get(entry + 38) < 0;
}

static void assert_state_is(const char *snapshot)
{
	static uint8_t want[MOST][ENTRY_BYTES], have[MOST][ENTRY_BYTES];
	ok(producers_write(p, path, false, &e));
	size_t wanted = entries_of(snapshot, want), known = entries_of(path, have), at = 0;
	for (size_t i = 0; i < known; i++) {
		if (at < wanted && !memcmp(have[i], want[at], 8)) {
			if (memcmp(have[i], want[at], ENTRY_BYTES))
				fail_msg("%s: producer %" PRIu64 " differs", snapshot, be64_get(want[at]));
			at++;
		} else if (!may_be_forgotten(have[i])) {
			fail_msg("%s does not have producer %" PRIu64, snapshot, be64_get(have[i]));
		}
	}
	if (at != wanted)
		fail_msg("%s: producer %" PRIu64 " is missing", snapshot, be64_get(want[at]));
	assert_int_equal(producers_map_end(p), offset_of(snapshot));
}

/* One segment; its aborted transactions are those of its .txnindex. Compaction may have left an entry whose records are gone. */
static void replay_segment(const char *log)
{
	bool cleaned = strstr(log, "/compacted-");
	struct aborted_txn *list;
	struct scan s;
	struct batch b;
	struct stat st;
	char txns[300];
	const uint8_t *bytes;
	uint32_t position;
	size_t n, at = 0;
	int fd = open(log, O_RDONLY), rc;
	assert_true(fd >= 0 && fstat(fd, &st) == 0);
	snprintf(txns, sizeof txns, "%.*s.txnindex", (int)strlen(log) - 4, log);
	ok(txnindex_load(txns, offset_of(log), &list, &n, &e));
	scan_init(&s, fd, 0, (uint32_t)st.st_size, 0);
	while ((rc = scan_next(&s, &b, &bytes, &position, &e)) == 1) {
		rc = producers_update(p, &b, bytes, &aborted, &e);
		ok(rc);
		if (rc == 1) {
			assert_true(at < n);
			assert_memory_equal(&list[at], &aborted, sizeof aborted);
			at++;
		}
	}
	ok(rc);
	assert_true(at == n || cleaned);
	scan_release(&s);
	free(list);
	close(fd);
}

/* From nothing, and from the snapshot of the first segment, to every later snapshot. Returns how many there were. */
static size_t replay_partition(const char *partition)
{
	glob_t logs, snapshots;
	size_t compared = 0;
	find(&logs, partition, "*.log");
	find(&snapshots, partition, "*.snapshot");
	for (size_t i = 0; i < snapshots.gl_pathc; i++)
		round_trip(snapshots.gl_pathv[i]);
	for (int from_snapshot = 0; from_snapshot < 2; from_snapshot++) {
		size_t next = 0;
		producers_clear(p);
		if (from_snapshot && snapshots.gl_pathc && offset_of(snapshots.gl_pathv[0]) == offset_of(logs.gl_pathv[0]))
			ok(producers_load(p, snapshots.gl_pathv[0], offset_of(snapshots.gl_pathv[0]), &e));
		for (size_t i = 0; i < logs.gl_pathc; i++) {
			replay_segment(logs.gl_pathv[i]);
			while (next < snapshots.gl_pathc && offset_of(snapshots.gl_pathv[next]) < producers_map_end(p))
				next++;
			if (next < snapshots.gl_pathc && offset_of(snapshots.gl_pathv[next]) == producers_map_end(p)) {
				assert_state_is(snapshots.gl_pathv[next]);
				compared++;
			}
		}
	}
	globfree(&logs);
	globfree(&snapshots);
	return compared;
}

static void test_snapshots_and_logs_of_a_real_kafka(void **state)
{
	(void)state;
	static const char *const archives[] = {"kafka-3.9", "kafka-4.1", "kafka-4.1-killed"};
	static const size_t least[] = {76, 86, 2};
	for (int a = 0; a < 3; a++) {
		glob_t partitions;
		size_t compared = 0;
		char command[200];
		snprintf(command, sizeof command, "rm -rf %s/log && tar -xJf tests/data/%s.tar.xz -C %s", dir, archives[a], dir);
		assert_int_equal(system(command), 0);
		find(&partitions, dir, "log/*-[0-9]");
		for (size_t i = 0; i < partitions.gl_pathc; i++)
			compared += replay_partition(partitions.gl_pathv[i]);
		globfree(&partitions);
		assert_true(compared >= least[a]);
	}
}

int main(void)
{
#define IN_DIR(test) cmocka_unit_test_setup_teardown(test, make_dir, remove_all)
	const struct CMUnitTest tests[] = {
		IN_DIR(test_a_new_one_is_empty),
		IN_DIR(test_bytes_are_those_of_kafka),
		IN_DIR(test_open_transactions_of_a_snapshot),
		IN_DIR(test_odd_entries),
		IN_DIR(test_damaged_snapshots),
		IN_DIR(test_faults),
		IN_DIR(test_sequences_wrap),
		IN_DIR(test_the_last_five_batches_of_an_epoch_are_kept),
		IN_DIR(test_a_marker_of_the_same_epoch_keeps_the_batches),
		IN_DIR(test_a_marker_of_a_newer_epoch_clears_the_batches),
		IN_DIR(test_interleaved_transactions),
		IN_DIR(test_emptied_and_other_control_batches),
		IN_DIR(test_copy),
		IN_DIR(test_against_a_naive_replay),
		IN_DIR(test_snapshots_and_logs_of_a_real_kafka),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
