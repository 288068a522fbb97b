#include "store/txnindex.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
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

static char dir[64], path[100];
static struct err e;

static int make_dir(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/spoolfs-test-txnindex-XXXXXX");
	e = (struct err)ERR_INIT;
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof path, "%s/00000000000000000000.txnindex", dir);
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

enum { ENTRY_BYTES = 34 };

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

static void assert_file(const void *bytes, size_t n)
{
	uint8_t have[5000];
	assert_int_equal(get_file(path, have, sizeof have), n);
	assert_memory_equal(have, bytes, n);
}

static bool exists(void)
{
	return access(path, F_OK) == 0;
}

static void assert_same(const struct aborted_txn *a, const struct aborted_txn *b)
{
	assert_int_equal(a->producer_id, b->producer_id);
	assert_int_equal(a->first_offset, b->first_offset);
	assert_int_equal(a->last_offset, b->last_offset);
	assert_int_equal(a->last_stable_offset, b->last_stable_offset);
}

static void assert_loads(int64_t base, const struct aborted_txn *want, size_t count)
{
	struct aborted_txn *list;
	size_t n;
	ok(txnindex_load(path, base, &list, &n, &e));
	assert_int_equal(n, count);
	assert_int_equal(list == NULL, n == 0);
	for (size_t i = 0; i < n; i++)
		assert_same(&list[i], &want[i]);
	free(list);
}

static void assert_refused(int64_t base)
{
	struct aborted_txn *list = (struct aborted_txn *)&seed;
	size_t n = 7;
	assert_fails(txnindex_load(path, base, &list, &n, &e), ERR_CORRUPT);
	assert_null(list);
	assert_int_equal(n, 0);
}

/* As a Kafka wrote it, while two transactions were open. */
static const uint8_t two_bytes[] = {
	0, 0, 0, 0, 0, 0, 0, 0, 4, 0x12, 0, 0, 0, 0, 0, 0, 0, 0x16, 0, 0, 0, 0, 0, 0, 0, 0x1c, 0, 0, 0, 0, 0, 0, 0, 0x14,
	0, 0, 0, 0, 0, 0, 0, 0, 4, 0x12, 0, 0, 0, 0, 0, 0, 0, 0x36, 0, 0, 0, 0, 0, 0, 0, 0x3c, 0, 0, 0, 0, 0, 0, 0, 0x1e,
};
static const struct aborted_txn two[] = {{1042, 22, 28, 20}, {1042, 54, 60, 30}};

/* ---- the format ---- */

static void test_bytes(void **state)
{
	(void)state;
	put_file(two_bytes, sizeof two_bytes);
	assert_loads(0, two, 2);
	assert_loads(28, two, 2); /* a transaction may have begun in an older segment */
	unlink(path);
	ok(txnindex_write(path, two, 2, &e));
	assert_file(two_bytes, sizeof two_bytes);
	unlink(path);
	for (int i = 0; i < 2; i++)
		ok(txnindex_append(path, &two[i], &e));
	assert_file(two_bytes, sizeof two_bytes);
}

static void test_none(void **state)
{
	(void)state;
	assert_loads(0, NULL, 0);
	put_file("", 0);
	assert_loads(0, NULL, 0);
	ok(txnindex_write(path, NULL, 0, &e));
	assert_false(exists());
	ok(txnindex_write(path, NULL, 0, &e));
	ok(txnindex_write(path, two, 2, &e));
	ok(txnindex_write(path, two, 1, &e));
	assert_loads(0, two, 1);
	ok(txnindex_write(path, two, 0, &e));
	assert_false(exists());
}

static void test_what_is_refused(void **state)
{
	(void)state;
	static const struct { size_t at; uint64_t value; bool loads; } cases[] = { /* in the second entry */
		{2, 0, true}, {2, UINT64_MAX, false}, {2, INT64_MAX, true},
		{10, 0, true}, {10, UINT64_MAX, false}, {10, 60, true}, {10, 61, false},
		{18, 59, true}, {18, 28, false}, {18, INT64_MAX, true}, {18, UINT64_MAX, false},
		{26, 0, true}, {26, UINT64_MAX, false}, {26, 1000, true}, /* a follower notes one behind the marker */
	};
	uint8_t bytes[sizeof two_bytes];
	struct aborted_txn *list;
	size_t n;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		memcpy(bytes, two_bytes, sizeof bytes);
		be64_put(bytes + ENTRY_BYTES + cases[i].at, cases[i].value);
		put_file(bytes, sizeof bytes);
		if (!cases[i].loads) {
			assert_refused(0);
			continue;
		}
		ok(txnindex_load(path, 0, &list, &n, &e));
		assert_int_equal(n, 2);
		free(list);
	}
	for (size_t at = 0; at < 2; at++) { /* version */
		memcpy(bytes, two_bytes, sizeof bytes);
		bytes[ENTRY_BYTES + at] = 1;
		put_file(bytes, sizeof bytes);
		assert_refused(0);
	}
	put_file(two_bytes, sizeof two_bytes);
	assert_refused(29); /* the first ends below the segment */
	memcpy(bytes, two_bytes, ENTRY_BYTES);
	memcpy(bytes + ENTRY_BYTES, two_bytes, ENTRY_BYTES); /* twice the same does not rise */
	put_file(bytes, sizeof bytes);
	assert_refused(0);
	memcpy(bytes, two_bytes + ENTRY_BYTES, ENTRY_BYTES);
	put_file(bytes, sizeof bytes);
	assert_refused(0);
}

static void test_every_truncation(void **state)
{
	(void)state;
	for (size_t n = 0; n <= sizeof two_bytes; n++) {
		put_file(two_bytes, n);
		if (n % ENTRY_BYTES)
			assert_refused(0);
		else
			assert_loads(0, two, n / ENTRY_BYTES);
	}
}

static void test_garbage(void **state)
{
	(void)state;
	seed = 21;
	for (int round = 0; round < 3000; round++) {
		uint8_t bytes[10 * ENTRY_BYTES];
		struct aborted_txn *list;
		size_t size = random_next() % sizeof bytes, n;
		for (size_t i = 0; i < size; i++)
			bytes[i] = random_next() % 8 ? 0 : (uint8_t)random_next();
		put_file(bytes, size);
		int rc = txnindex_load(path, 0, &list, &n, &e);
		assert_true(rc == 0 || rc == ERR_CORRUPT);
		for (size_t i = 0; i < n; i++) {
			assert_true(list[i].first_offset >= 0 && list[i].first_offset <= list[i].last_offset);
			assert_true(i == 0 || list[i - 1].last_offset < list[i].last_offset);
		}
		free(list);
	}
}

static void make_random(struct aborted_txn *list, size_t n)
{
	int64_t last = random_next();
	for (size_t i = 0; i < n; i++) {
		last += 1 + random_next() % 1000;
		int64_t first = last - random_next() % (uint64_t)(last + 1);
		list[i] = (struct aborted_txn){random_next(), first, last, random_next() % 2 ? last + 1 : first};
	}
}

static void test_round_trips(void **state)
{
	(void)state;
	for (uint32_t round = 1; round <= 100; round++) {
		struct aborted_txn list[60];
		seed = round * UINT64_C(0x9e3779b97f4a7c15);
		size_t n = 1 + random_next() % 60, written = random_next() % n;
		make_random(list, n);
		ok(txnindex_write(path, list, written, &e));
		for (size_t i = written; i < n; i++)
			ok(txnindex_append(path, &list[i], &e));
		assert_loads(list[0].last_offset, list, n);
		if (n > 1)
			assert_refused(list[0].last_offset + 1);
	}
}

/* ---- faults ---- */

struct script { enum io_call call, also; ssize_t answer; };

static ssize_t play(void *arg, enum io_call call, const char *name, int fd, size_t bytes)
{
	struct script *s = arg;
	(void)name;
	(void)fd;
	(void)bytes;
	return call == s->call ? s->answer : call == s->also ? -EIO : 0;
}

static int append_with(enum io_call call, ssize_t answer, enum io_call also, const struct aborted_txn *a)
{
	struct script s = {.call = call, .also = also, .answer = answer};
	io_set_hook(play, &s);
	int rc = txnindex_append(path, a, &e);
	io_set_hook(NULL, NULL);
	return rc;
}

static void test_a_failed_append_leaves_the_file_as_it_was(void **state)
{
	(void)state;
	for (int there = 0; there < 2; there++) {
		if (there)
			put_file(two_bytes, ENTRY_BYTES);
		for (ssize_t written = 0; written < ENTRY_BYTES; written++) {
			assert_fails(append_with(IO_WRITE, written ? written : -ENOSPC, IO_CALLS, &two[1]), ERR_NO_SPACE);
			assert_int_equal(exists(), there);
			assert_loads(0, two, (size_t)there);
		}
		assert_fails(append_with(IO_OPEN, -EMFILE, IO_CALLS, &two[1]), ERR_LIMIT);
		assert_fails(append_with(IO_STAT, -EIO, IO_CALLS, &two[1]), ERR_IO);
		assert_loads(0, two, (size_t)there);
		unlink(path);
	}
}

/* Once, the next entry went behind it and the file was beyond reading. */
static void test_what_could_not_be_cut_back_is_overwritten(void **state)
{
	(void)state;
	put_file(two_bytes, ENTRY_BYTES);
	assert_fails(append_with(IO_WRITE, 11, IO_TRUNCATE, &two[1]), ERR_NO_SPACE);
	assert_refused(0);
	ok(txnindex_append(path, &two[1], &e));
	assert_file(two_bytes, sizeof two_bytes);
	unlink(path);
	assert_fails(append_with(IO_WRITE, 11, IO_UNLINK, &two[0]), ERR_NO_SPACE);
	ok(txnindex_append(path, &two[0], &e));
	assert_loads(0, two, 1);
}

static void test_a_failed_load_or_write(void **state)
{
	(void)state;
	static const enum io_call reads[] = {IO_OPEN, IO_READ, IO_STAT}, writes[] = {IO_OPEN, IO_WRITE, IO_SYNC, IO_RENAME};
	put_file(two_bytes, sizeof two_bytes);
	for (size_t i = 0; i < sizeof reads / sizeof *reads; i++) {
		struct script s = {.call = reads[i], .also = IO_CALLS, .answer = -EIO};
		struct aborted_txn *list;
		size_t n;
		io_set_hook(play, &s);
		assert_fails(txnindex_load(path, 0, &list, &n, &e), ERR_IO);
		io_set_hook(NULL, NULL);
		assert_null(list);
		assert_int_equal(n, 0);
	}
	for (size_t i = 0; i < sizeof writes / sizeof *writes; i++) {
		struct script s = {.call = writes[i], .also = IO_CALLS, .answer = -EIO};
		io_set_hook(play, &s);
		assert_fails(txnindex_write(path, two, 1, &e), ERR_IO);
		io_set_hook(NULL, NULL);
		assert_loads(0, two, 2);
	}
	struct script s = {.call = IO_UNLINK, .also = IO_CALLS, .answer = -EACCES};
	io_set_hook(play, &s);
	assert_fails(txnindex_write(path, NULL, 0, &e), ERR_DENIED);
	io_set_hook(NULL, NULL);
	assert_loads(0, two, 2);
}

static void test_a_replaced_file_is_durable(void **state)
{
	(void)state;
	struct script s = {.call = IO_SYNC, .also = IO_CALLS, .answer = -EIO};
	io_set_hook(play, &s);
	assert_fails(txnindex_write(path, two, 2, &e), ERR_IO);
	io_set_hook(NULL, NULL);
	assert_false(exists());
}

/* ---- what a real Kafka wrote ---- */

static void check_real(const char *file)
{
	uint8_t bytes[5000];
	struct aborted_txn *list;
	size_t n, size = get_file(file, bytes, sizeof bytes);
	ok(txnindex_load(file, strtoll(strrchr(file, '/') + 1, NULL, 10), &list, &n, &e));
	assert_int_equal(size, n * ENTRY_BYTES);
	ok(txnindex_write(path, list, n, &e));
	assert_int_equal(exists(), n > 0);
	if (n)
		assert_file(bytes, size);
	unlink(path);
	for (size_t i = 0; i < n; i++)
		ok(txnindex_append(path, &list[i], &e));
	if (n)
		assert_file(bytes, size);
	free(list);
}

static void test_files_of_a_real_kafka(void **state)
{
	(void)state;
	static const char *const archives[] = {"kafka-3.9", "kafka-4.1"};
	for (int a = 0; a < 2; a++) {
		char text[200];
		glob_t found;
		snprintf(text, sizeof text, "tar -xJf tests/data/%s.tar.xz -C %s", archives[a], dir);
		assert_int_equal(system(text), 0);
		snprintf(text, sizeof text, "%s/log/*/*.txnindex", dir);
		assert_int_equal(glob(text, 0, NULL, &found), 0);
		assert_true(found.gl_pathc >= 4);
		for (size_t i = 0; i < found.gl_pathc; i++)
			check_real(found.gl_pathv[i]);
		globfree(&found);
	}
}

int main(void)
{
#define IN_DIR(test) cmocka_unit_test_setup_teardown(test, make_dir, remove_all)
	const struct CMUnitTest tests[] = {
		IN_DIR(test_bytes),
		IN_DIR(test_none),
		IN_DIR(test_what_is_refused),
		IN_DIR(test_every_truncation),
		IN_DIR(test_garbage),
		IN_DIR(test_round_trips),
		IN_DIR(test_a_failed_append_leaves_the_file_as_it_was),
		IN_DIR(test_what_could_not_be_cut_back_is_overwritten),
		IN_DIR(test_a_failed_load_or_write),
		IN_DIR(test_a_replaced_file_is_durable),
		IN_DIR(test_files_of_a_real_kafka),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
