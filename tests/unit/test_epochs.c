#include "store/epochs.h"

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
static struct epochs x;
static struct err e;

static int make_dir(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/spoolfs-test-epochs-XXXXXX");
	e = (struct err)ERR_INIT;
	epochs_init(&x);
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof path, "%s/leader-epoch-checkpoint", dir);
	return 0;
}

static int remove_all(void **state)
{
	(void)state;
	io_set_hook(NULL, NULL);
	epochs_release(&x);
	epochs_release(&x);
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

static void put_bytes(const void *bytes, size_t n)
{
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(bytes, 1, n, f), n);
	assert_int_equal(fclose(f), 0);
}

static void assert_file(const char *text)
{
	char have[5000];
	FILE *f = fopen(path, "r");
	assert_non_null(f);
	size_t n = fread(have, 1, sizeof have - 1, f);
	fclose(f);
	have[n] = '\0';
	assert_string_equal(have, text);
}

/* "0 0, 2 60" and the like. */
static void assert_list(const char *text)
{
	char have[5000] = "";
	size_t n = 0;
	for (size_t i = 0; i < x.count; i++)
		n += (size_t)snprintf(have + n, sizeof have - n, "%s%" PRId32 " %" PRId64, i ? ", " : "", x.list[i].epoch, x.list[i].start_offset);
	assert_string_equal(have, text);
}

static void set(const char *text)
{
	x.count = 0;
	for (int n; *text; text += n + (text[n] == ',')) {
		int32_t epoch;
		int64_t start;
		assert_int_equal(sscanf(text, "%" SCNd32 " %" SCNd64 "%n", &epoch, &start, &n), 2);
		assert_int_equal(epochs_assign(&x, epoch, start), 1);
	}
}

/* ---- the file ---- */

static void test_loading_and_writing_gives_the_same_bytes(void **state)
{
	(void)state;
	static const char *const files[] = {
		"0\n0\n", "0\n1\n0 0\n", "0\n2\n0 0\n2 60\n", "0\n1\n0 151\n", "0\n2\n1 0\n2 25\n", "0\n3\n0 0\n7 1\n2147483647 9223372036854775807\n",
	};
	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		put_bytes(files[i], strlen(files[i]));
		ok(epochs_load(&x, path, &e));
		unlink(path);
		ok(epochs_write(&x, path, &e));
		assert_file(files[i]);
	}
	assert_list("0 0, 7 1, 2147483647 9223372036854775807");
	assert_int_equal(epochs_last(&x), INT32_MAX);
}

static void test_no_file_and_an_empty_one(void **state)
{
	(void)state;
	set("0 0,1 5");
	assert_fails(epochs_load(&x, path, &e), ERR_NOT_FOUND);
	assert_list("");
	set("0 0,1 5");
	put_bytes("", 0);
	assert_fails(epochs_load(&x, path, &e), ERR_NOT_FOUND);
	assert_list("");
	assert_int_equal(epochs_last(&x), -1);
}

static void test_malformed_files(void **state)
{
	(void)state;
	static const char *const files[] = {
		"\n", "0", "1\n1\n0 0\n", "-0\n1\n0 0\n", "00x\n1\n0 0\n", "0 0\n1\n0 0\n", "0\n", "0\n\n", "0\n-1\n", "0\n1", "0\n1\n", "0\n1x\n0 0\n",
		"0\n99999999999999999999\n0 0\n",
		"0\n1\n0\n", "0\n1\n0 \n", "0\n1\n0 0", "0\n1\n0 0 0\n", "0\n1\n0 x\n", "0\n1\nx 0\n", "0\n1\n-1 0\n", "0\n1\n0 -1\n", "0\n1\n 0 0\n", "0\n1\n\n0 0\n",
		"0\n1\n2147483648 0\n", "0\n1\n0 9223372036854775808\n", "0\n1\n0 0x10\n", "0\n2\n0 0\n", "0\n1\n0 0\n1 5\n", "0\n1\n0 0\n\n", "0\n0\n0 0\n",
		"0\n2\n5 0\n5 9\n", "0\n2\n5 0\n4 9\n", "0\n2\n5 10\n6 9\n", "nonsense",
	};
	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		set("3 3");
		put_bytes(files[i], strlen(files[i]));
		int rc = epochs_load(&x, path, &e);
		if (rc != ERR_CORRUPT)
			fail_msg("file %zu gave %d: %s", i, rc, files[i]);
		assert_fails(rc, ERR_CORRUPT);
		assert_list("");
	}
	put_bytes("0\n1\n0 0\n\0", 9);
	assert_fails(epochs_load(&x, path, &e), ERR_CORRUPT);
	put_bytes("0\n1\n0 0\0\n", 9);
	assert_fails(epochs_load(&x, path, &e), ERR_CORRUPT);
}

static void test_what_else_kafka_reads(void **state)
{
	(void)state;
	static const char blanks[] = "0\r\n2 \r\n0 \t 0\r\n3   17 \n", equal[] = "0\n4\n0 0\n1 5\n2 5\n3 5\n";
	put_bytes(blanks, strlen(blanks));
	ok(epochs_load(&x, path, &e));
	assert_list("0 0, 3 17");
	put_bytes(equal, strlen(equal)); /* an epoch that wrote nothing: the last one counts */
	ok(epochs_load(&x, path, &e));
	assert_list("0 0, 3 5");
}

/* Half a number must not pass for a whole one. */
static void test_every_truncation_and_flip(void **state)
{
	(void)state;
	static const char text[] = "0\n3\n0 0\n12 345\n13 6789\n";
	for (size_t n = 0; n < strlen(text); n++) {
		put_bytes(text, n);
		assert_fails(epochs_load(&x, path, &e), n ? ERR_CORRUPT : ERR_NOT_FOUND);
		assert_list("");
	}
	for (size_t i = 0; i < strlen(text); i++)
		for (unsigned flip = 1; flip < 256; flip++) {
			char bytes[sizeof text];
			strcpy(bytes, text);
			bytes[i] = (char)(bytes[i] ^ (int)flip);
			put_bytes(bytes, strlen(text));
			int rc = epochs_load(&x, path, &e);
			assert_true(rc == ERR_CORRUPT || rc == 0); /* another digit, or another blank */
			for (size_t k = 1; rc == 0 && k < x.count; k++)
				assert_true(x.list[k].epoch > x.list[k - 1].epoch && x.list[k].start_offset > x.list[k - 1].start_offset);
		}
}

static enum io_call failing;

static ssize_t fail_call(void *arg, enum io_call call, const char *name, int fd, size_t bytes)
{
	(void)arg;
	(void)name;
	(void)fd;
	(void)bytes;
	return call == failing ? -EIO : 0;
}

static void test_faults(void **state)
{
	(void)state;
	static const enum io_call reads[] = {IO_OPEN, IO_READ, IO_STAT}, writes[] = {IO_OPEN, IO_WRITE, IO_SYNC, IO_RENAME};
	set("0 0,1 5");
	ok(epochs_write(&x, path, &e));
	for (size_t i = 0; i < sizeof reads / sizeof *reads; i++) {
		failing = reads[i];
		io_set_hook(fail_call, NULL);
		assert_fails(epochs_load(&x, path, &e), ERR_IO);
		io_set_hook(NULL, NULL);
		assert_list("");
	}
	set("7 70");
	for (size_t i = 0; i < sizeof writes / sizeof *writes; i++) {
		failing = writes[i];
		io_set_hook(fail_call, NULL);
		assert_fails(epochs_write(&x, path, &e), ERR_IO);
		io_set_hook(NULL, NULL);
		assert_file("0\n2\n0 0\n1 5\n");
		assert_list("7 70");
	}
	ok(epochs_write(&x, path, &e));
	assert_file("0\n1\n7 70\n");
}

/* ---- KIP-101, KIP-279 ---- */

static void test_assign(void **state)
{
	(void)state;
	static const struct { const char *before; int32_t epoch; int64_t start; int changed; const char *after; } cases[] = {
		{"", 0, 0, 1, "0 0"},
		{"", 5, 100, 1, "5 100"},
		{"", -1, 0, 0, ""},
		{"", 0, -1, 0, ""},
		{"2 6", 2, 6, 0, "2 6"},
		{"2 6", 2, 7, 0, "2 6"}, /* once assigned is not reassigned */
		{"2 6", 2, 5, 1, "2 5"}, /* but to an earlier start */
		{"1 3,2 6", 2, 3, 1, "2 3"},
		{"2 6", 3, 7, 1, "2 6, 3 7"},
		{"2 6", 3, 6, 1, "3 6"}, /* epoch 2 wrote nothing */
		{"2 6", 3, 5, 1, "3 5"},
		{"2 6", 1, 7, 1, "1 7"}, /* epochs do not go back: what was there is contradicted */
		{"2 6", 1, 5, 1, "1 5"},
		{"1 4,2 5,3 6", 2, 10, 1, "1 4, 2 10"},
		{"1 4,2 5,3 6", 4, 5, 1, "1 4, 4 5"},
		{"1 4,2 5,3 6", 4, 0, 1, "4 0"},
		{"1 4,2 5,3 6", 0, 0, 1, "0 0"},
		{"1 4,2 5,3 6", -1, 0, 0, "1 4, 2 5, 3 6"},
		{"1 4,2 5,3 6", 7, -1, 0, "1 4, 2 5, 3 6"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		set(cases[i].before);
		assert_int_equal(epochs_assign(&x, cases[i].epoch, cases[i].start), cases[i].changed);
		assert_list(cases[i].after);
	}
}

static void test_end_of(void **state)
{
	(void)state;
	static const struct { const char *list; int32_t epoch, found; int64_t end; } cases[] = { /* the log ends at 100 */
		{"", 0, -1, -1},
		{"", -1, -1, -1},
		{"0 0", -1, -1, -1},
		{"0 0", 0, 0, 100},
		{"0 0", 1, -1, -1}, /* above the last */
		{"5 20,6 30,9 60", 9, 9, 100},
		{"5 20,6 30,9 60", 10, -1, -1},
		{"5 20,6 30,9 60", 5, 5, 30},
		{"5 20,6 30,9 60", 6, 6, 60},
		{"5 20,6 30,9 60", 7, 6, 60}, /* between two: the greatest below */
		{"5 20,6 30,9 60", 8, 6, 60},
		{"5 20,6 30,9 60", 4, 4, 20}, /* below the first: it was before the log's start */
		{"5 20,6 30,9 60", 0, 0, 20},
		{"5 20,6 30,9 60", -1, -1, -1},
		{"5 20", 3, 3, 20},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		int32_t found = 77;
		int64_t end = 77;
		set(cases[i].list);
		epochs_end_of(&x, cases[i].epoch, 100, &found, &end);
		assert_int_equal(found, cases[i].found);
		assert_int_equal(end, cases[i].end);
	}
}

static void test_truncate_from_both_ends(void **state)
{
	(void)state;
	static const struct { int64_t offset; const char *end, *start; } cases[] = { /* of 2 6, 3 8, 4 11 */
		{-1, "2 6, 3 8, 4 11", "2 6, 3 8, 4 11"},
		{0, "", "2 6, 3 8, 4 11"},
		{5, "", "2 6, 3 8, 4 11"},
		{6, "", "2 6, 3 8, 4 11"},
		{7, "2 6", "2 7, 3 8, 4 11"},
		{8, "2 6", "3 8, 4 11"},
		{9, "2 6, 3 8", "3 9, 4 11"},
		{10, "2 6, 3 8", "3 10, 4 11"},
		{11, "2 6, 3 8", "4 11"},
		{12, "2 6, 3 8, 4 11", "4 12"},
		{INT64_MAX, "2 6, 3 8, 4 11", "4 9223372036854775807"},
	};
	static const char all[] = "2 6, 3 8, 4 11";
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		set("2 6,3 8,4 11");
		assert_int_equal(epochs_truncate_end(&x, cases[i].offset), strcmp(cases[i].end, all) != 0);
		assert_list(cases[i].end);
		set("2 6,3 8,4 11");
		assert_int_equal(epochs_truncate_start(&x, cases[i].offset), strcmp(cases[i].start, all) != 0);
		assert_list(cases[i].start);
	}
	x.count = 0;
	assert_int_equal(epochs_truncate_end(&x, 0), 0);
	assert_int_equal(epochs_truncate_start(&x, 0), 0);
	assert_list("");
}

/* A set of (epoch, start), in no order. */
static struct { int32_t epoch; int64_t start; bool there; } naive[100];

static void naive_assign(int32_t epoch, int64_t start)
{
	int last = -1, free_at = 0;
	for (int i = 0; i < 100; i++)
		if (naive[i].there && (last < 0 || naive[i].epoch > naive[last].epoch))
			last = i;
	if (last >= 0 && naive[last].epoch == epoch && naive[last].start <= start)
		return;
	for (int i = 0; i < 100; i++)
		naive[i].there &= naive[i].epoch < epoch && naive[i].start < start;
	while (naive[free_at].there)
		free_at++;
	naive[free_at].epoch = epoch;
	naive[free_at].start = start;
	naive[free_at].there = true;
}

static void naive_truncate_start(int64_t offset)
{
	int in_force = -1;
	for (int i = 0; i < 100; i++)
		if (naive[i].there && naive[i].start <= offset && (in_force < 0 || naive[i].epoch > naive[in_force].epoch))
			in_force = i;
	for (int i = 0; i < 100; i++)
		naive[i].there &= i == in_force || naive[i].start > offset;
	if (in_force >= 0)
		naive[in_force].start = offset;
}

static void assert_like_naive(void)
{
	size_t n = 0;
	for (int i = 0; i < 100; i++) {
		if (!naive[i].there)
			continue;
		size_t k = 0;
		n++;
		while (k < x.count && x.list[k].epoch != naive[i].epoch)
			k++;
		assert_true(k < x.count);
		assert_int_equal(x.list[k].start_offset, naive[i].start);
	}
	assert_int_equal(x.count, n);
	for (size_t k = 1; k < x.count; k++)
		assert_true(x.list[k].epoch > x.list[k - 1].epoch && x.list[k].start_offset > x.list[k - 1].start_offset);
}

static void assert_end_like_naive(int32_t asked, int64_t log_end)
{
	int32_t greatest = -1, below = -1, found;
	int64_t above = -1, end;
	for (int i = 0; i < 100; i++) {
		if (!naive[i].there)
			continue;
		if (naive[i].epoch > greatest)
			greatest = naive[i].epoch;
		if (naive[i].epoch <= asked && naive[i].epoch > below)
			below = naive[i].epoch;
		if (naive[i].epoch > asked && (above < 0 || naive[i].start < above))
			above = naive[i].start;
	}
	epochs_end_of(&x, asked, log_end, &found, &end);
	if (asked == greatest) {
		assert_int_equal(found, asked);
		assert_int_equal(end, asked < 0 ? -1 : log_end);
	} else {
		assert_int_equal(found, above < 0 ? -1 : below < 0 ? asked : below);
		assert_int_equal(end, above);
	}
}

static void test_against_a_model(void **state)
{
	(void)state;
	for (uint32_t round = 1; round <= 300; round++) {
		seed = round * UINT64_C(0x9e3779b97f4a7c15);
		epochs_release(&x);
		memset(naive, 0, sizeof naive);
		int32_t epoch = 0;
		int64_t start = 0;
		for (int step = 0; step < 80; step++) {
			int64_t offset = (int64_t)(random_next() % (uint64_t)(start + 10));
			switch (random_next() % 12) {
			case 0:
				epochs_truncate_end(&x, offset);
				for (int i = 0; i < 100; i++)
					naive[i].there &= naive[i].start < offset;
				break;
			case 1:
				epochs_truncate_start(&x, offset);
				naive_truncate_start(offset);
				break;
			case 2: { /* anything */
				int32_t any = (int32_t)(random_next() % (uint32_t)(epoch + 3));
				epochs_assign(&x, any, offset);
				naive_assign(any, offset);
				break;
			}
			default:
				epoch += (int32_t)(random_next() % 3);
				start += random_next() % 10;
				epochs_assign(&x, epoch, start);
				naive_assign(epoch, start);
			}
			assert_like_naive();
			for (int32_t asked = 0; asked <= epoch + 2; asked += 1 + epoch / 8)
				assert_end_like_naive(asked, start + 100);
		}
	}
}

/* ---- what a real Kafka wrote ---- */

static int32_t epoch_at(int64_t offset)
{
	int32_t epoch = x.list[0].epoch;
	for (size_t i = 0; i < x.count && x.list[i].start_offset <= offset; i++)
		epoch = x.list[i].epoch;
	return epoch;
}

static void check_segment(const char *log, struct epochs *built)
{
	struct scan s;
	struct batch b;
	struct stat st;
	uint32_t position;
	int fd = open(log, O_RDONLY), rc;
	assert_true(fd >= 0 && fstat(fd, &st) == 0);
	scan_init(&s, fd, 0, (uint32_t)st.st_size, 0);
	while ((rc = scan_next_header(&s, &b, &position, &e)) == 1) {
		assert_int_equal(b.leader_epoch, epoch_at(b.base_offset));
		assert_true(epochs_assign(built, b.leader_epoch, b.base_offset) >= 0);
	}
	ok(rc);
	scan_release(&s);
	close(fd);
}

/* The checkpoint says what the batches say. Returns whether it could be made again from them: not where compaction took an epoch's first batch. */
static bool check_log(const char *checkpoint)
{
	char pattern[300];
	glob_t logs;
	struct epochs built;
	epochs_init(&built);
	ok(epochs_load(&x, checkpoint, &e));
	snprintf(pattern, sizeof pattern, "%.*s/*.log", (int)(strrchr(checkpoint, '/') - checkpoint), checkpoint);
	assert_int_equal(glob(pattern, 0, NULL, &logs), 0);
	for (size_t i = 0; i < logs.gl_pathc; i++)
		check_segment(logs.gl_pathv[i], &built);
	globfree(&logs);
	epochs_truncate_start(&built, x.list[0].start_offset); /* the log start may be inside a batch */
	bool same = built.count == x.count;
	for (size_t i = 0; i < x.count && same; i++)
		same = built.list[i].epoch == x.list[i].epoch && built.list[i].start_offset == x.list[i].start_offset;
	epochs_release(&built);
	return same;
}

static void test_files_of_a_real_kafka(void **state)
{
	(void)state;
	static const char *const archives[] = {"kafka-3.9", "kafka-4.1", "kafka-4.1-killed"};
	for (int a = 0; a < 3; a++) {
		char text[200];
		glob_t found;
		size_t same = 0;
		snprintf(text, sizeof text, "rm -rf %s/log && tar -xJf tests/data/%s.tar.xz -C %s", dir, archives[a], dir);
		assert_int_equal(system(text), 0);
		snprintf(text, sizeof text, "%s/log/*/leader-epoch-checkpoint", dir);
		assert_int_equal(glob(text, 0, NULL, &found), 0);
		for (size_t i = 0; i < found.gl_pathc; i++) {
			ok(epochs_load(&x, found.gl_pathv[i], &e));
			ok(epochs_write(&x, path, &e));
			snprintf(text, sizeof text, "cmp %s %s", found.gl_pathv[i], path);
			assert_int_equal(system(text), 0);
			same += check_log(found.gl_pathv[i]);
		}
		assert_true(found.gl_pathc >= 2 && same > found.gl_pathc / 2);
		globfree(&found);
	}
}

int main(void)
{
#define IN_DIR(test) cmocka_unit_test_setup_teardown(test, make_dir, remove_all)
	const struct CMUnitTest tests[] = {
		IN_DIR(test_loading_and_writing_gives_the_same_bytes),
		IN_DIR(test_no_file_and_an_empty_one),
		IN_DIR(test_malformed_files),
		IN_DIR(test_what_else_kafka_reads),
		IN_DIR(test_every_truncation_and_flip),
		IN_DIR(test_faults),
		IN_DIR(test_assign),
		IN_DIR(test_end_of),
		IN_DIR(test_truncate_from_both_ends),
		IN_DIR(test_against_a_model),
		IN_DIR(test_files_of_a_real_kafka),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
