#include "store/view.h"

#include <errno.h>
#include <fcntl.h>
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
	strcpy(dir, "/tmp/spoolfs-test-view-XXXXXX");
	e = (struct err)ERR_INIT;
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof path, "%s/00000000000000000042.view", dir);
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

enum { BASE = 42, RESERVE = 1 << 20, MANY = 2000 };

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

/* The whole file; *bytes has room for it. */
static size_t get_file(uint8_t *bytes, size_t room)
{
	FILE *f = fopen(path, "r");
	assert_non_null(f);
	size_t n = fread(bytes, 1, room, f);
	assert_true(n < room);
	fclose(f);
	return n;
}

static size_t file_bytes(void)
{
	struct stat st;
	assert_int_equal(stat(path, &st), 0);
	return (size_t)st.st_size;
}

/* Overwrites bytes of the file while it may be open. */
static void poke(size_t at, const void *bytes, size_t n)
{
	int fd = open(path, O_WRONLY);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, bytes, n, (off_t)at), n);
	close(fd);
}

static uint32_t naive_crc32c(const uint8_t *p, size_t n)
{
	uint32_t crc = ~0u;
	for (size_t i = 0; i < n; i++) {
		crc ^= p[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
	}
	return ~crc;
}

static struct view_entry model[MANY];

/* Entries as a log has them: control batches without a view, large batches with entries inside, positions that may be negative. */
static void make_model(size_t n, int64_t position)
{
	int64_t offset = BASE;
	uint32_t batch = 0, byte = 0;
	for (size_t i = 0; i < n; i++) {
		model[i] = (struct view_entry){position, offset, batch, byte};
		position += random_next() % 3 ? random_next() % 10000 : 0;
		offset += 1 + random_next() % 50;
		if (random_next() % 3) {
			batch += 61 + byte + random_next() % 20000;
			byte = 0;
		} else {
			byte += 61 + random_next() % 8000;
		}
	}
}

static int64_t first_position;

static void create(struct view *v, size_t n, int64_t position)
{
	first_position = position;
	make_model(n, position);
	ok(view_create(v, path, BASE, position, RESERVE, &e));
	for (size_t i = 0; i < n;) {
		uint32_t k = 1 + random_next() % 200;
		if (k > n - i)
			k = (uint32_t)(n - i);
		ok(k == 1 ? view_append(v, &model[i], &e) : view_append_many(v, &model[i], k, &e));
		i += k;
	}
}

static int reopen(struct view *v)
{
	return view_open(v, path, BASE, true, RESERVE, &e);
}

/* The index of the last entry at or before `wanted`, or -1. */
static int naive_find(size_t n, bool by_offset, int64_t wanted)
{
	int found = -1;
	for (size_t i = 0; i < n; i++)
		if ((by_offset ? model[i].offset : model[i].position) <= wanted)
			found = (int)i;
	return found;
}

static void assert_same(const struct view_entry *a, const struct view_entry *b)
{
	assert_int_equal(a->position, b->position);
	assert_int_equal(a->offset, b->offset);
	assert_int_equal(a->batch_position, b->batch_position);
	assert_int_equal(a->byte_in_batch, b->byte_in_batch);
}

/* The right answer, or (damaged) ERR_CORRUPT. Returns whether it was right. */
static bool check_find(const struct view *v, size_t n, bool by_offset, int64_t wanted, bool damaged)
{
	struct view_entry found;
	uint32_t number;
	int at = naive_find(n, by_offset, wanted), rc = by_offset ? view_find_offset(v, wanted, &found) : view_find_position(v, wanted, &found, &number);
	if (rc == ERR_CORRUPT && damaged)
		return false;
	assert_int_equal(rc, at >= 0);
	if (rc == 1) {
		assert_same(&found, &model[at]);
		assert_true(by_offset || number == (uint32_t)at);
	}
	return true;
}

/* Asks around every entry; returns how many answers were right. */
static size_t check_all(const struct view *v, size_t n, bool damaged)
{
	struct view_entry found;
	size_t right = 0;
	assert_int_equal(entries_count(&v->e), n);
	assert_int_equal(v->first_position, first_position);
	for (size_t i = 0; i < n; i++) {
		for (int d = -1; d <= 1; d++) {
			right += check_find(v, n, false, model[i].position + d, damaged);
			right += check_find(v, n, true, model[i].offset + d, damaged);
		}
		int rc = view_entry_at(v, (uint32_t)i, &found);
		assert_true(rc == 1 || (damaged && rc == ERR_CORRUPT));
		if (rc == 1)
			assert_same(&found, &model[i]);
	}
	static const int64_t far[] = {INT64_MIN, -1, 0, BASE, INT64_MAX};
	for (size_t i = 0; i < sizeof far / sizeof *far; i++) {
		right += check_find(v, n, false, far[i], damaged);
		right += check_find(v, n, true, far[i], damaged);
	}
	int rc = view_last(v, &found);
	assert_true(rc == (n > 0) || (damaged && rc == ERR_CORRUPT));
	if (rc == 1)
		assert_same(&found, &model[n - 1]);
	return right;
}

/* ---- the format ---- */

static void test_bytes(void **state)
{
	(void)state;
	static const struct view_entry entries[] = {{-7, 42, 0, 0}, {INT64_C(1) << 40, 42 + INT64_C(0x12345678), 0x01020304, 61}};
	uint8_t want[80] = {'S', 'P', 'V', 'W', 0, 1, 0, 24}, have[100], salted[32];
	struct view v;
	ok(view_create(&v, path, BASE, -7, RESERVE, &e));
	ok(view_append_many(&v, entries, 2, &e));
	view_close(&v);
	be64_put(want + 8, BASE);
	be64_put(want + 16, (uint64_t)INT64_C(-7));
	be32_put(want + 24, naive_crc32c(want, 24));
	for (uint32_t i = 0; i < 2; i++) {
		uint8_t *p = want + 32 + 24 * i;
		be64_put(p, (uint64_t)entries[i].position);
		be32_put(p + 8, (uint32_t)(entries[i].offset - BASE));
		be32_put(p + 12, entries[i].batch_position);
		be32_put(p + 16, entries[i].byte_in_batch);
		be64_put(salted, BASE);
		be32_put(salted + 8, i);
		memcpy(salted + 12, p, 20);
		be32_put(p + 20, naive_crc32c(salted, 32));
	}
	assert_int_equal(get_file(have, sizeof have), 80);
	assert_memory_equal(have, want, 80);
}

static void test_create_replaces(void **state)
{
	(void)state;
	struct view v, old;
	create(&old, 20, 5);
	ok(view_create(&v, path, BASE, INT64_MIN + 1, RESERVE, &e));
	assert_int_equal(entries_count(&v.e), 0);
	assert_int_equal(v.first_position, INT64_MIN + 1);
	assert_int_equal(file_bytes(), VIEW_HEADER_BYTES);
	check_all(&old, 20, false); /* who has the old one open goes on with it */
	view_close(&v);
	view_close(&old);
	view_close(&old);
}

static void test_opening(void **state)
{
	(void)state;
	struct view v;
	assert_fails(reopen(&v), ERR_NOT_FOUND);
	view_close(&v);
	seed = 1;
	create(&v, 9, 0);
	view_close(&v);
	assert_fails(view_open(&v, path, BASE + 1, true, RESERVE, &e), ERR_CORRUPT);
	view_close(&v);
	ok(view_open(&v, path, BASE, false, 0, &e));
	check_all(&v, 9, false);
	assert_fails(view_append(&v, &model[0], &e), ERR_TOO_LARGE);
	view_close(&v);
}

/* With a matching crc: what only another spoolfs, or a hand, can have written. */
static void test_headers_of_others(void **state)
{
	(void)state;
	static const struct { size_t at; uint16_t value; int code; } cases[] = {
		{4, 2, ERR_VERSION}, {4, UINT16_MAX, ERR_VERSION}, {4, 0, ERR_CORRUPT}, {6, 32, ERR_CORRUPT}, {0, 'S' << 8 | 'Q', ERR_CORRUPT}, {14, BASE + 1, ERR_CORRUPT},
	};
	struct view v;
	uint8_t bytes[200];
	create(&v, 0, 0);
	view_close(&v);
	assert_int_equal(get_file(bytes, sizeof bytes), VIEW_HEADER_BYTES);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		uint8_t other[VIEW_HEADER_BYTES];
		memcpy(other, bytes, sizeof other);
		be16_put(other + cases[i].at, cases[i].value);
		be32_put(other + 24, naive_crc32c(other, 24));
		put_file(other, sizeof other);
		assert_fails(reopen(&v), cases[i].code);
	}
}

/* ---- finding ---- */

static void test_an_empty_one_finds_nothing(void **state)
{
	(void)state;
	struct view v;
	create(&v, 0, 17);
	check_all(&v, 0, false);
	view_close(&v);
}

static void test_the_last_of_equal_positions_is_found(void **state)
{
	(void)state;
	static const struct view_entry entries[] = {{0, 42, 0, 0}, {100, 50, 1000, 0}, {100, 51, 2000, 0}, {100, 52, 3000, 0}, {200, 60, 4000, 0}};
	struct view v;
	struct view_entry found;
	uint32_t number;
	create(&v, 0, 0);
	ok(view_append_many(&v, entries, 5, &e));
	assert_int_equal(view_find_position(&v, 100, &found, &number), 1);
	assert_int_equal(found.offset, 52);
	assert_int_equal(view_find_position(&v, 99, &found, &number), 1);
	assert_int_equal(found.offset, 42);
	assert_int_equal(view_find_position(&v, -1, &found, &number), 0);
	assert_int_equal(view_find_offset(&v, 51, &found), 1);
	assert_int_equal(found.batch_position, 2000);
	assert_int_equal(view_find_offset(&v, 41, &found), 0);
	view_close(&v);
}

static void test_against_a_model(void **state)
{
	(void)state;
	struct view v;
	for (uint32_t round = 1; round <= 40; round++) {
		seed = round * UINT64_C(0x9e3779b97f4a7c15);
		size_t n = random_next() % (round < 20 ? 8 : 300);
		int64_t first = (int64_t)(random_next() % 1000000) - 500000;
		create(&v, n, round % 7 ? first : INT64_MIN + 1);
		check_all(&v, n, false);
		view_close(&v);
		assert_int_equal(file_bytes(), VIEW_HEADER_BYTES + n * VIEW_ENTRY_BYTES);
		ok(reopen(&v));
		check_all(&v, n, false);
		view_close(&v);
	}
}

static void test_truncate_against_a_model(void **state)
{
	(void)state;
	struct view v;
	for (uint32_t round = 1; round <= 60; round++) {
		seed = round * UINT64_C(0x9e3779b97f4a7c15);
		size_t n = 1 + random_next() % 400;
		create(&v, n, -1000);
		while (n) {
			uint32_t cut = random_next() % 4 ? model[random_next() % n].batch_position + random_next() % 3 - 1 : random_next() % 100;
			ok(view_truncate(&v, cut, &e));
			while (n && model[n - 1].batch_position >= cut)
				n--;
			assert_int_equal(entries_count(&v.e), n);
			assert_int_equal(file_bytes(), VIEW_HEADER_BYTES + n * VIEW_ENTRY_BYTES);
			check_all(&v, n, false);
		}
		view_close(&v);
	}
}

/* ---- damage ---- */

enum { SMALL = 6 };

static void test_every_byte_flipped(void **state)
{
	(void)state;
	struct view v;
	uint8_t bytes[500];
	size_t opened = 0, right = 0;
	seed = 4;
	create(&v, SMALL, -20000);
	size_t all = check_all(&v, SMALL, false);
	view_close(&v);
	size_t n = get_file(bytes, sizeof bytes);
	assert_int_equal(n, VIEW_HEADER_BYTES + SMALL * VIEW_ENTRY_BYTES);
	for (size_t i = 0; i < n; i++)
		for (unsigned flip = 1; flip < 256; flip++) {
			uint8_t was = bytes[i];
			bytes[i] ^= (uint8_t)flip;
			poke(i, &bytes[i], 1);
			bytes[i] = was;
			int rc = reopen(&v);
			if (rc == 0) {
				opened++;
				right += check_all(&v, SMALL, true);
			} else {
				assert_fails(rc, ERR_CORRUPT);
			}
			view_close(&v);
			poke(i, &was, 1);
		}
	/* all but the header and the last entry are only looked at when they are met, and most answers need not meet the damaged one */
	assert_int_equal(opened, (SMALL - 1) * VIEW_ENTRY_BYTES * 255);
	assert_true(right > opened * all / 3 && right < opened * all);
	ok(reopen(&v));
	assert_int_equal(check_all(&v, SMALL, false), all);
	view_close(&v);
}

static void test_every_truncation(void **state)
{
	(void)state;
	struct view v;
	uint8_t bytes[500];
	seed = 9;
	create(&v, SMALL, 0);
	view_close(&v);
	size_t n = get_file(bytes, sizeof bytes);
	for (size_t have = 0; have <= n; have++) {
		put_file(bytes, have);
		int rc = reopen(&v);
		if (have < VIEW_HEADER_BYTES || (have - VIEW_HEADER_BYTES) % VIEW_ENTRY_BYTES) {
			assert_fails(rc, ERR_CORRUPT);
		} else {
			ok(rc);
			check_all(&v, (have - VIEW_HEADER_BYTES) / VIEW_ENTRY_BYTES, false);
		}
		view_close(&v);
	}
}

/* Entries are valid in their own place of their own file only. */
static void test_entries_out_of_place(void **state)
{
	(void)state;
	struct view v;
	uint8_t bytes[500], other[500];
	seed = 2;
	create(&v, SMALL, 0);
	view_close(&v);
	size_t n = get_file(bytes, sizeof bytes);
	ok(view_create(&v, path, BASE + 1, 0, RESERVE, &e));
	for (size_t i = 0; i < SMALL; i++)
		ok(view_append(&v, &model[i == 0 ? 1 : i], &e));
	view_close(&v);
	assert_int_equal(get_file(other, sizeof other), n);
	for (int round = 0; round < 3000; round++) {
		uint8_t mixed[500];
		memcpy(mixed, bytes, n);
		size_t to = random_next() % SMALL, from = random_next() % SMALL;
		uint8_t *at = mixed + VIEW_HEADER_BYTES + to * VIEW_ENTRY_BYTES;
		switch (random_next() % 4) {
		case 0: /* one from elsewhere in the file */
			memcpy(at, bytes + VIEW_HEADER_BYTES + from * VIEW_ENTRY_BYTES, VIEW_ENTRY_BYTES);
			break;
		case 1: /* one of another segment */
			memcpy(at, other + VIEW_HEADER_BYTES + to * VIEW_ENTRY_BYTES, VIEW_ENTRY_BYTES);
			break;
		case 2: /* zeros from there on */
			memset(at, 0, n - (size_t)(at - mixed));
			break;
		default: /* half of it from elsewhere */
			memcpy(at + 8, bytes + VIEW_HEADER_BYTES + from * VIEW_ENTRY_BYTES + 8, VIEW_ENTRY_BYTES - 8);
		}
		put_file(mixed, n);
		int rc = reopen(&v);
		if (rc == 0)
			check_all(&v, SMALL, true);
		else
			assert_fails(rc, ERR_CORRUPT);
		view_close(&v);
	}
	for (size_t more = 0; more < 2; more++) { /* something behind the last entry */
		memset(bytes + n, 0, VIEW_ENTRY_BYTES);
		if (more)
			memcpy(bytes + n, bytes + n - VIEW_ENTRY_BYTES, VIEW_ENTRY_BYTES);
		put_file(bytes, n + VIEW_ENTRY_BYTES);
		assert_fails(reopen(&v), ERR_CORRUPT);
	}
}

static void test_garbage(void **state)
{
	(void)state;
	struct view v;
	uint8_t bytes[500];
	seed = 77;
	create(&v, SMALL, -5);
	view_close(&v);
	size_t n = get_file(bytes, sizeof bytes);
	for (int round = 0; round < 5000; round++) {
		uint8_t mixed[500];
		memcpy(mixed, bytes, n);
		for (uint32_t i = random_next() % 30; i > 0; i--)
			mixed[round % 2 ? VIEW_HEADER_BYTES + random_next() % (n - VIEW_HEADER_BYTES) : random_next() % n] = (uint8_t)random_next();
		put_file(mixed, n);
		if (reopen(&v) == 0)
			check_all(&v, SMALL, true);
		view_close(&v);
	}
}

/* Once, a damaged batch position stopped the cut short, and entries of batches that were gone stayed, valid. */
static void test_truncate_takes_what_damaged_entries_hide(void **state)
{
	(void)state;
	static const struct view_entry entries[] = {{0, 42, 0, 0}, {100, 50, 8192, 0}, {200, 60, 16384, 0}, {300, 70, 24576, 0}};
	for (size_t damaged = 0; damaged < 4; damaged++)
		for (uint32_t keep = 0; keep < 4; keep++) {
			struct view v;
			create(&v, 0, 0);
			ok(view_append_many(&v, entries, 4, &e));
			poke(VIEW_HEADER_BYTES + damaged * VIEW_ENTRY_BYTES + 12, "\0\0\0\x1", 4);
			ok(view_truncate(&v, entries[keep].batch_position, &e));
			assert_true(entries_count(&v.e) <= keep);
			assert_int_equal(entries_count(&v.e), keep && damaged == keep - 1 ? keep - 1 : keep);
			assert_int_equal(file_bytes(), VIEW_HEADER_BYTES + entries_count(&v.e) * VIEW_ENTRY_BYTES);
			view_close(&v);
		}
}

/* ---- faults ---- */

struct script {
	enum io_call call;
	ssize_t answer;
	int writes;
	const struct view *watched; /* with this count until its write is done */
	uint32_t count;
};

static ssize_t play(void *arg, enum io_call call, const char *name, int fd, size_t bytes)
{
	struct script *s = arg;
	(void)name;
	(void)fd;
	(void)bytes;
	if (call == IO_WRITE) {
		s->writes++;
		if (s->watched)
			assert_int_equal(entries_count(&s->watched->e), s->count);
	}
	return call == s->call ? s->answer : 0;
}

static void test_many_are_appended_as_one(void **state)
{
	(void)state;
	struct view v;
	seed = 3;
	create(&v, 0, 0);
	make_model(MANY, 0);
	ok(view_append_many(&v, model, 10, &e));
	struct script s = {.call = IO_CALLS, .watched = &v, .count = 10};
	io_set_hook(play, &s);
	ok(view_append_many(&v, model, 0, &e));
	ok(view_append_many(&v, model + 10, MANY - 10, &e));
	io_set_hook(NULL, NULL);
	assert_int_equal(s.writes, 2);
	view_close(&v);
	ok(reopen(&v));
	assert_int_equal(entries_count(&v.e), MANY);
	for (int i = 0; i < 100; i++)
		check_find(&v, MANY, i % 2, i % 2 ? model[random_next() % MANY].offset : model[random_next() % MANY].position, false);
	view_close(&v);
}

static void test_failed_appends_change_nothing(void **state)
{
	(void)state;
	struct view v;
	seed = 8;
	create(&v, 5, 0);
	make_model(200, 0);
	for (ssize_t answer = 0; answer < 195 * VIEW_ENTRY_BYTES; answer += answer < 30 ? 1 : 131) {
		struct script s = {.call = IO_WRITE, .answer = answer ? answer : -EIO};
		io_set_hook(play, &s);
		assert_fails(view_append_many(&v, model + 5, 195, &e), answer ? ERR_NO_SPACE : ERR_IO);
		io_set_hook(NULL, NULL);
		assert_int_equal(entries_count(&v.e), 5);
		assert_int_equal(file_bytes(), VIEW_HEADER_BYTES + 5 * VIEW_ENTRY_BYTES);
	}
	struct script s = {.call = IO_TRUNCATE, .answer = -EIO};
	io_set_hook(play, &s);
	assert_fails(view_truncate(&v, 0, &e), ERR_IO);
	io_set_hook(NULL, NULL);
	assert_int_equal(entries_count(&v.e), 5);
	view_close(&v);
	ok(view_open(&v, path, BASE, true, VIEW_HEADER_BYTES + 7 * VIEW_ENTRY_BYTES, &e));
	assert_fails(view_append_many(&v, model + 5, 3, &e), ERR_TOO_LARGE);
	ok(view_append_many(&v, model + 5, 2, &e));
	view_close(&v);
}

static void test_failed_creation_leaves_what_was_there(void **state)
{
	(void)state;
	static const struct { enum io_call call; ssize_t answer; int code; } cases[] = {
		{IO_OPEN, -EMFILE, ERR_LIMIT}, {IO_WRITE, -EIO, ERR_IO}, {IO_WRITE, 5, ERR_NO_SPACE}, {IO_RENAME, -EIO, ERR_IO},
		{IO_STAT, -EIO, ERR_IO}, {IO_MMAP, -ENOMEM, ERR_NO_MEMORY},
	};
	seed = 6;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct view v, fresh;
		create(&v, SMALL, 3);
		view_close(&v);
		memset(&fresh, 0xee, sizeof fresh);
		struct script s = {.call = cases[i].call, .answer = cases[i].answer};
		io_set_hook(play, &s);
		assert_fails(view_create(&fresh, path, BASE, 4, RESERVE, &e), cases[i].code);
		io_set_hook(NULL, NULL);
		view_close(&fresh);
		ok(reopen(&v));
		if (cases[i].call == IO_STAT || cases[i].call == IO_MMAP) /* the new one is in its place by then */
			assert_int_equal(entries_count(&v.e), 0);
		else
			check_all(&v, SMALL, false);
		view_close(&v);
	}
}

int main(void)
{
#define IN_DIR(test) cmocka_unit_test_setup_teardown(test, make_dir, remove_all)
	const struct CMUnitTest tests[] = {
		IN_DIR(test_bytes),
		IN_DIR(test_create_replaces),
		IN_DIR(test_opening),
		IN_DIR(test_headers_of_others),
		IN_DIR(test_an_empty_one_finds_nothing),
		IN_DIR(test_the_last_of_equal_positions_is_found),
		IN_DIR(test_against_a_model),
		IN_DIR(test_truncate_against_a_model),
		IN_DIR(test_every_byte_flipped),
		IN_DIR(test_every_truncation),
		IN_DIR(test_entries_out_of_place),
		IN_DIR(test_garbage),
		IN_DIR(test_truncate_takes_what_damaged_entries_hide),
		IN_DIR(test_many_are_appended_as_one),
		IN_DIR(test_failed_appends_change_nothing),
		IN_DIR(test_failed_creation_leaves_what_was_there),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
