#include "store/index.h"

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

#include "store/buf.h"
#include "store/io.h"
#include "store/scan.h"

static char dir[64], path[100];
static struct err e;

static int make_dir(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/spoolfs-test-index-XXXXXX");
	e = (struct err)ERR_INIT;
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof path, "%s/00000000000000000042.index", dir);
	return 0;
}

static int remove_all(void **state)
{
	(void)state;
	io_set_hook(NULL, NULL);
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

static void assert_file(const void *bytes, size_t n)
{
	uint8_t *have = malloc(n + 1);
	FILE *f = fopen(path, "r");
	assert_non_null(f);
	assert_non_null(have);
	assert_int_equal(fread(have, 1, n + 1, f), n);
	fclose(f);
	assert_memory_equal(have, bytes, n);
	free(have);
}

static ssize_t answer_writes(void *arg, enum io_call call, const char *name, int fd, size_t bytes)
{
	(void)name;
	(void)fd;
	(void)bytes;
	return call == IO_WRITE ? *(ssize_t *)arg : 0;
}

enum { BASE = 42, LOG_BYTES = 1 << 30, INDEX_BYTES = 1 << 20, MANY = 3000 };

static int open_offsets(struct offset_index *x, uint32_t log_bytes)
{
	return offset_index_open(x, path, BASE, true, false, INDEX_BYTES, log_bytes, &e);
}

static int open_times(struct time_index *x)
{
	return time_index_open(x, path, BASE, true, false, INDEX_BYTES, &e);
}

static void create_offsets(struct offset_index *x)
{
	unlink(path);
	ok(offset_index_open(x, path, BASE, true, true, INDEX_BYTES, 0, &e));
}

static void create_times(struct time_index *x)
{
	unlink(path);
	ok(time_index_open(x, path, BASE, true, true, INDEX_BYTES, &e));
}

/* ---- what is in the files ---- */

static void test_bytes_are_those_of_kafka(void **state)
{
	(void)state;
	static const uint8_t offsets[] = {0, 0, 0, 0x17, 0, 0, 5, 0x15, 0, 0, 0, 0x27, 0, 0, 0xa, 0x27};
	static const uint8_t times[] = {0, 0, 1, 0xa1, 0xfe, 0xf, 0x90, 0xa3, 0, 0, 0, 0x17};
	struct offset_index x;
	struct time_index t;
	ok(offset_index_open(&x, path, 0, true, true, INDEX_BYTES, 0, &e));
	ok(offset_index_append(&x, 23, 1301, &e));
	ok(offset_index_append(&x, 39, 2599, &e));
	offset_index_close(&x);
	assert_file(offsets, sizeof offsets);
	unlink(path);
	ok(time_index_open(&t, path, 0, true, true, INDEX_BYTES, &e));
	ok(time_index_append(&t, INT64_C(1795263795363), 23, &e));
	time_index_close(&t);
	assert_file(times, sizeof times);
}

static void test_offsets_are_relative_to_the_base(void **state)
{
	(void)state;
	struct offset_index x;
	struct time_index t;
	int64_t offset, timestamp;
	uint32_t position;
	ok(offset_index_open(&x, path, INT64_C(1) << 60, true, true, INDEX_BYTES, 0, &e));
	ok(offset_index_append(&x, (INT64_C(1) << 60) + INT32_MAX, INT32_MAX, &e));
	offset_index_entry(&x, 0, &offset, &position);
	assert_int_equal(offset, (INT64_C(1) << 60) + INT32_MAX);
	assert_int_equal(position, INT32_MAX);
	offset_index_close(&x);
	unlink(path);
	ok(time_index_open(&t, path, INT64_C(1) << 60, true, true, INDEX_BYTES, &e));
	ok(time_index_append(&t, INT64_MAX, (INT64_C(1) << 60) + INT32_MAX, &e));
	time_index_entry(&t, 0, &timestamp, &offset);
	assert_int_equal(timestamp, INT64_MAX);
	assert_int_equal(offset, (INT64_C(1) << 60) + INT32_MAX);
	time_index_close(&t);
}

static void test_only_greater_timestamps_are_noted(void **state)
{
	(void)state;
	struct time_index t;
	int64_t timestamp, offset;
	create_times(&t);
	assert_false(time_index_last(&t, &timestamp, &offset));
	ok(time_index_append(&t, -1, -1, &e)); /* no batch had one: once, this became an entry */
	ok(time_index_append(&t, INT64_MIN, 50, &e));
	assert_false(time_index_last(&t, &timestamp, &offset));
	ok(time_index_append(&t, 0, 50, &e));
	ok(time_index_append(&t, 0, 51, &e));
	ok(time_index_append(&t, 1000, 52, &e));
	ok(time_index_append(&t, 999, 53, &e));
	ok(time_index_append(&t, 1000, 54, &e));
	ok(time_index_append(&t, -5, 55, &e));
	assert_int_equal(entries_count(&t.e), 2);
	assert_true(time_index_last(&t, &timestamp, &offset));
	assert_int_equal(timestamp, 1000);
	assert_int_equal(offset, 52);
	time_index_close(&t);
}

/* ---- what opens ---- */

static void test_missing_and_empty(void **state)
{
	(void)state;
	struct offset_index x;
	struct time_index t;
	int64_t offset = 0, timestamp;
	uint32_t position = 1;
	assert_fails(open_offsets(&x, LOG_BYTES), ERR_NOT_FOUND);
	assert_fails(open_times(&t), ERR_NOT_FOUND);
	for (int writable = 0; writable < 2; writable++) {
		put_file("", 0);
		ok(offset_index_open(&x, path, BASE, writable, false, INDEX_BYTES, 0, &e));
		offset_index_find(&x, 1000, &offset, &position);
		assert_int_equal(offset, BASE);
		assert_int_equal(position, 0);
		offset_index_close(&x);
		ok(time_index_open(&t, path, BASE, writable, false, INDEX_BYTES, &e));
		assert_false(time_index_find(&t, INT64_MAX, &timestamp, &offset));
		time_index_close(&t);
	}
}

struct offset_case { uint32_t entry[8]; size_t n; bool opens; };

static void test_offset_index_sanity(void **state)
{
	(void)state;
	static const struct offset_case cases[] = { /* of a log of 1000 bytes */
		{{5, 100}, 1, true},
		{{0, 100}, 1, true},
		{{INT32_MAX, 999}, 1, true},
		{{5, 1000}, 1, false},
		{{(uint32_t)INT32_MAX + 1, 100}, 1, false},
		{{0, 0}, 1, false}, /* preallocated: no entry stands at position 0 */
		{{5, 0}, 1, false},
		{{0, 0, 0, 0}, 2, false},
		{{5, 100, 9, 200}, 2, true},
		{{5, 100, 5, 200}, 2, false},
		{{5, 100, 4, 200}, 2, false},
		{{5, 100, 9, 100}, 2, false},
		{{5, 100, 9, 99}, 2, false},
		{{5, 100, 0, 0}, 2, false},
		{{5, 100, 9, 200, 0, 0}, 3, false},
		{{5, 100, 9, 200, 0, 0, 0, 0}, 4, false},
		{{7, 100, 3, 50, 9, 200, 10, 201}, 4, true}, /* what is further up is checked when it is used */
	};
	struct offset_index x;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		uint8_t bytes[32];
		for (size_t k = 0; k < 2 * cases[i].n; k++)
			be32_put(bytes + 4 * k, cases[i].entry[k]);
		put_file(bytes, 8 * cases[i].n);
		int rc = open_offsets(&x, 1000);
		if (cases[i].opens)
			ok(rc);
		else
			assert_fails(rc, ERR_CORRUPT);
		offset_index_close(&x); /* after a failure too */
		for (size_t cut = 1; cut < 8; cut++) {
			put_file(bytes, 8 * cases[i].n - cut);
			assert_fails(open_offsets(&x, 1000), ERR_CORRUPT);
		}
	}
}

struct time_case { int64_t entry[6]; size_t n; bool opens; };

static void test_time_index_sanity(void **state)
{
	(void)state;
	static const struct time_case cases[] = {
		{{1000, 5}, 1, true},
		{{0, 0}, 1, true}, /* one record, of 1970 */
		{{-1, 5}, 1, false},
		{{1000, INT32_MAX}, 1, true},
		{{1000, INT64_C(1) + INT32_MAX}, 1, false},
		{{1000, 5, 1001, 6}, 2, true},
		{{1000, 5, 1001, 5}, 2, true},
		{{1000, 5, 1000, 6}, 2, false},
		{{1000, 5, 999, 6}, 2, false},
		{{1000, 5, 1001, 4}, 2, false},
		{{0, 0, 0, 0}, 2, false},
		{{1000, 5, 0, 0}, 2, false},
		{{1000, 5, 0, 0, 0, 0}, 3, false},
		{{1000, 5, 10, 6, 11, 7}, 3, true},
	};
	struct time_index t;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		uint8_t bytes[36];
		for (size_t k = 0; k < cases[i].n; k++) {
			be64_put(bytes + 12 * k, (uint64_t)cases[i].entry[2 * k]);
			be32_put(bytes + 12 * k + 8, (uint32_t)cases[i].entry[2 * k + 1]);
		}
		put_file(bytes, 12 * cases[i].n);
		int rc = open_times(&t);
		if (cases[i].opens)
			ok(rc);
		else
			assert_fails(rc, ERR_CORRUPT);
		time_index_close(&t);
		for (size_t cut = 1; cut < 12; cut++) {
			put_file(bytes, 12 * cases[i].n - cut);
			assert_fails(open_times(&t), ERR_CORRUPT);
		}
	}
}

static void test_full(void **state)
{
	(void)state;
	struct offset_index x;
	struct time_index t;
	/* segment.index.bytes is rounded down to whole entries; of the time index one is kept for the end */
	ok(offset_index_open(&x, path, BASE, true, true, 3 * 8 + 7, 0, &e));
	for (uint32_t i = 1; i <= 3; i++) {
		assert_false(offset_index_is_full(&x));
		ok(offset_index_append(&x, BASE + i, i, &e));
	}
	assert_true(offset_index_is_full(&x));
	assert_fails(offset_index_append(&x, BASE + 4, 4, &e), ERR_TOO_LARGE);
	offset_index_close(&x);
	ok(offset_index_open(&x, path, BASE, true, true, 8, LOG_BYTES, &e)); /* made smaller since */
	assert_true(offset_index_is_full(&x));
	assert_int_equal(entries_count(&x.e), 3);
	offset_index_close(&x);
	unlink(path);
	ok(time_index_open(&t, path, BASE, true, true, 3 * 12 + 11, &e));
	for (uint32_t i = 1; i <= 2; i++) {
		assert_false(time_index_is_full(&t));
		ok(time_index_append(&t, i, BASE + i, &e));
	}
	assert_true(time_index_is_full(&t));
	ok(time_index_append(&t, 3, BASE + 3, &e));
	ok(time_index_append(&t, 3, BASE + 4, &e));
	assert_fails(time_index_append(&t, 4, BASE + 4, &e), ERR_TOO_LARGE);
	time_index_close(&t);
	assert_int_equal(e.code, 0);
}

/* ---- against naive models ---- */

static struct { int64_t offset, timestamp; uint32_t position; } model[MANY];

static void make_model(size_t n)
{
	int64_t offset = BASE - 1, timestamp = random_next() % 2 ? 0 : INT64_C(1750000000000);
	uint32_t position = 0;
	for (size_t i = 0; i < n; i++) {
		model[i].offset = offset += 1 + random_next() % 30;
		model[i].timestamp = timestamp += 1 + random_next() % 1000;
		model[i].position = position += 61 + random_next() % 5000;
	}
}

static int64_t near(int64_t value)
{
	static const int64_t far[] = {-1, 0, BASE - 1, BASE, INT64_MAX, INT32_MAX, INT64_C(1) << 40};
	if (random_next() % 20 == 0)
		return far[random_next() % 7];
	return value + (int64_t)(random_next() % 5) - 2;
}

static void test_offset_index_against_a_model(void **state)
{
	(void)state;
	struct offset_index x;
	for (uint32_t round = 1; round < 60; round++) {
		seed = round * UINT64_C(0x9e3779b97f4a7c15);
		size_t n = random_next() % (round < 10 ? 4 : MANY);
		create_offsets(&x);
		make_model(n);
		for (size_t i = 0; i < n; i++)
			ok(offset_index_append(&x, model[i].offset, model[i].position, &e));
		for (int q = 0; q < 300; q++) {
			int64_t wanted = near(n ? model[random_next() % n].offset : BASE), offset = BASE, found;
			uint32_t position = 0, at;
			for (size_t i = 0; i < n && model[i].offset <= wanted; i++) {
				offset = model[i].offset;
				position = model[i].position;
			}
			offset_index_find(&x, wanted, &found, &at);
			assert_int_equal(found, offset);
			assert_int_equal(at, position);
		}
		while (n) {
			int64_t cut = near(model[random_next() % n].offset);
			ok(offset_index_truncate(&x, cut, &e));
			while (n && model[n - 1].offset >= cut)
				n--;
			assert_int_equal(entries_count(&x.e), n);
			offset_index_close(&x);
			ok(open_offsets(&x, LOG_BYTES));
			assert_int_equal(entries_count(&x.e), n);
		}
		offset_index_close(&x);
	}
}

static void test_time_index_against_a_model(void **state)
{
	(void)state;
	struct time_index t;
	for (uint32_t round = 1; round < 60; round++) {
		seed = round * UINT64_C(0x9e3779b97f4a7c15);
		size_t n = random_next() % (round < 10 ? 4 : MANY);
		create_times(&t);
		make_model(n);
		for (size_t i = 0; i < n; i++)
			ok(time_index_append(&t, model[i].timestamp, model[i].offset, &e));
		for (int q = 0; q < 300; q++) {
			int64_t wanted = near(n ? model[random_next() % n].timestamp : 0), timestamp = 77, offset = 78;
			size_t below = 0;
			while (below < n && model[below].timestamp < wanted)
				below++;
			assert_int_equal(time_index_find(&t, wanted, &timestamp, &offset), below > 0);
			assert_int_equal(timestamp, below ? model[below - 1].timestamp : 77);
			assert_int_equal(offset, below ? model[below - 1].offset : 78);
		}
		while (n) {
			int64_t cut = near(model[random_next() % n].offset), timestamp, offset;
			ok(time_index_truncate(&t, cut, &e));
			while (n && model[n - 1].offset >= cut)
				n--;
			time_index_close(&t);
			ok(open_times(&t));
			assert_int_equal(entries_count(&t.e), n);
			assert_int_equal(time_index_last(&t, &timestamp, &offset), n > 0);
			if (n)
				assert_int_equal(offset, model[n - 1].offset);
		}
		time_index_close(&t);
	}
}

/* Whatever stands there: an entry that is found claims an offset that is not past the one asked for, so that the caller's check of the batch settles it. */
static void test_garbage_leads_to_no_entry_past_the_answer(void **state)
{
	(void)state;
	struct offset_index x;
	uint8_t bytes[50 * 8];
	seed = 11;
	for (int round = 0; round < 2000; round++) {
		size_t n = random_next() % 50;
		make_model(n);
		for (size_t i = 0; i < n; i++) {
			be32_put(bytes + 8 * i, (uint32_t)(model[i].offset - BASE));
			be32_put(bytes + 8 * i + 4, model[i].position);
		}
		for (uint32_t i = random_next() % 4; i > 0 && n; i--)
			bytes[random_next() % (8 * n)] = (uint8_t)random_next();
		put_file(bytes, 8 * n);
		if (open_offsets(&x, LOG_BYTES) < 0)
			continue;
		for (int q = 0; q < 20; q++) {
			int64_t wanted = BASE + random_next() % 2000, found;
			uint32_t at;
			offset_index_find(&x, wanted, &found, &at);
			assert_true(found >= BASE && found <= wanted);
		}
		offset_index_close(&x);
	}
}

/* ---- faults ---- */

static void test_failed_appends_change_nothing(void **state)
{
	(void)state;
	struct offset_index x;
	struct time_index t;
	create_offsets(&x);
	ok(offset_index_append(&x, BASE + 5, 100, &e));
	for (ssize_t answer = -ENOSPC, i = 0; i < 8; answer = ++i) {
		io_set_hook(answer_writes, &answer);
		assert_fails(offset_index_append(&x, BASE + 9, 200, &e), ERR_NO_SPACE);
		io_set_hook(NULL, NULL);
		assert_int_equal(entries_count(&x.e), 1);
		assert_file("\0\0\0\5\0\0\0\x64", 8);
	}
	offset_index_close(&x);
	create_times(&t);
	ok(time_index_append(&t, 1, BASE + 5, &e));
	for (ssize_t answer = -EIO, i = 0; i < 12; answer = ++i) {
		io_set_hook(answer_writes, &answer);
		assert_fails(time_index_append(&t, 2, BASE + 9, &e), answer < 0 ? ERR_IO : ERR_NO_SPACE);
		io_set_hook(NULL, NULL);
		assert_file("\0\0\0\0\0\0\0\1\0\0\0\5", 12);
	}
	ok(time_index_append(&t, 2, BASE + 9, &e));
	assert_file("\0\0\0\0\0\0\0\1\0\0\0\5\0\0\0\0\0\0\0\2\0\0\0\x9", 24);
	time_index_close(&t);
}

/* ---- what a real Kafka wrote ---- */

static void each_file(const char *archive, const char *suffix, void (*check)(const char *file))
{
	char text[200];
	glob_t found;
	snprintf(text, sizeof text, "tar -xJf tests/data/%s.tar.xz -C %s", archive, dir);
	assert_int_equal(system(text), 0);
	snprintf(text, sizeof text, "%s/log/*-[0-9]/*%s", dir, suffix);
	assert_int_equal(glob(text, 0, NULL, &found), 0);
	for (size_t i = 0; i < found.gl_pathc; i++)
		check(found.gl_pathv[i]);
	assert_true(found.gl_pathc >= 2);
	globfree(&found);
}

static int64_t base_of(const char *file)
{
	return strtoll(strrchr(file, '/') + 1, NULL, 10);
}

static int open_log(const char *file, uint32_t *bytes)
{
	char log[300];
	struct stat st;
	snprintf(log, sizeof log, "%.*s.log", (int)(strrchr(file, '.') - file), file);
	int fd = open(log, O_RDONLY);
	assert_true(fd >= 0 && fstat(fd, &st) == 0);
	*bytes = (uint32_t)st.st_size;
	return fd;
}

/* Each entry is the last offset of the batch at its position. */
static void check_offsets(const char *file)
{
	struct offset_index x;
	uint32_t bytes, position, at;
	int fd = open_log(file, &bytes);
	ok(offset_index_open(&x, file, base_of(file), false, false, 0, bytes, &e));
	for (uint32_t i = 0; i < entries_count(&x.e); i++) {
		struct scan s;
		struct batch b;
		int64_t offset, found;
		offset_index_entry(&x, i, &offset, &position);
		scan_init(&s, fd, position, bytes, 4096);
		assert_int_equal(scan_next_header(&s, &b, &at, &e), 1);
		scan_release(&s);
		assert_int_equal(batch_last_offset(&b), offset);
		offset_index_find(&x, offset, &found, &at);
		assert_int_equal(at, position);
	}
	offset_index_close(&x);
	close(fd);
}

/* Each entry is the greatest timestamp of all batches up to the one that ends with its offset. */
static void check_times(const char *file)
{
	struct time_index t;
	struct scan s;
	struct batch b;
	uint32_t bytes, position, next = 0;
	int64_t greatest = -1, greatest_offset = -1, timestamp, offset;
	int fd = open_log(file, &bytes);
	ok(time_index_open(&t, file, base_of(file), false, false, 0, &e));
	scan_init(&s, fd, 0, bytes, 0);
	while (scan_next_header(&s, &b, &position, &e) == 1) {
		if (b.max_timestamp_ms > greatest) {
			greatest = b.max_timestamp_ms;
			greatest_offset = batch_last_offset(&b);
		}
		if (next < entries_count(&t.e))
			time_index_entry(&t, next, &timestamp, &offset);
		if (next < entries_count(&t.e) && offset == batch_last_offset(&b)) {
			assert_int_equal(offset, greatest_offset);
			assert_int_equal(timestamp, greatest);
			next++;
		}
	}
	assert_int_equal(next, entries_count(&t.e));
	scan_release(&s);
	time_index_close(&t);
	close(fd);
}

static void test_indexes_of_a_stopped_kafka(void **state)
{
	(void)state;
	static const char *const archives[] = {"kafka-3.9", "kafka-4.1"};
	for (int i = 0; i < 2; i++) {
		each_file(archives[i], ".index", check_offsets);
		each_file(archives[i], ".timeindex", check_times);
	}
}

/* The first segment was sealed, and cut by that; the active ones are preallocated. */
static void check_killed(const char *file)
{
	struct offset_index x;
	struct time_index t;
	struct stat st;
	bool offsets = strstr(file, ".index") != NULL;
	assert_int_equal(stat(file, &st), 0);
	snprintf(path, sizeof path, "%s", file);
	int rc = offsets ? offset_index_open(&x, file, base_of(file), true, false, INDEX_BYTES, LOG_BYTES, &e)
			 : time_index_open(&t, file, base_of(file), true, false, INDEX_BYTES, &e);
	if (st.st_size >= INDEX_BYTES)
		assert_fails(rc, ERR_CORRUPT);
	else
		ok(rc);
	if (rc == 0)
		entries_close(offsets ? &x.e : &t.e);
}

static void test_indexes_of_a_killed_kafka(void **state)
{
	(void)state;
	each_file("kafka-4.1-killed", ".index", check_killed);
	each_file("kafka-4.1-killed", ".timeindex", check_killed);
}

int main(void)
{
#define IN_DIR(test) cmocka_unit_test_setup_teardown(test, make_dir, remove_all)
	const struct CMUnitTest tests[] = {
		IN_DIR(test_bytes_are_those_of_kafka),
		IN_DIR(test_offsets_are_relative_to_the_base),
		IN_DIR(test_only_greater_timestamps_are_noted),
		IN_DIR(test_missing_and_empty),
		IN_DIR(test_offset_index_sanity),
		IN_DIR(test_time_index_sanity),
		IN_DIR(test_full),
		IN_DIR(test_offset_index_against_a_model),
		IN_DIR(test_time_index_against_a_model),
		IN_DIR(test_garbage_leads_to_no_entry_past_the_answer),
		IN_DIR(test_failed_appends_change_nothing),
		IN_DIR(test_indexes_of_a_stopped_kafka),
		IN_DIR(test_indexes_of_a_killed_kafka),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
