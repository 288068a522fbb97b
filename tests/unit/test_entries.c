#include "store/entries.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/buf.h"
#include "store/io.h"

static char dir[64], path[100];
static struct err e;

static int make_dir(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/spoolfs-test-entries-XXXXXX");
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

static size_t file_bytes(void)
{
	struct stat st;
	assert_int_equal(stat(path, &st), 0);
	return (size_t)st.st_size;
}

static int open_fds(void)
{
	int n = 0;
	DIR *fds = opendir("/proc/self/fd");
	assert_non_null(fds);
	while (readdir(fds))
		n++;
	closedir(fds);
	return n;
}

/* A hook that answers the calls of one kind from the nth on, and counts what it saw. */
struct script {
	enum io_call call, also; /* also: of this kind all fail with EIO; IO_CALLS for none */
	int skip;
	ssize_t answer;
	int seen;
};

static ssize_t play(void *arg, enum io_call call, const char *name, int fd, size_t bytes)
{
	struct script *s = arg;
	(void)name;
	(void)fd;
	(void)bytes;
	s->seen++;
	if (call == s->also)
		return -EIO;
	return call == s->call && s->skip-- <= 0 ? s->answer : 0;
}

/* Entries of 8 bytes that tell their number and a generation. */
enum { BYTES = 8, RESERVE = 1 << 20 };

static const void *entry(uint32_t number, uint32_t generation)
{
	static uint8_t bytes[BYTES];
	be32_put(bytes, number);
	be32_put(bytes + 4, generation);
	return bytes;
}

static void append(struct entries *x, uint32_t n, uint32_t generation)
{
	uint8_t *bytes = malloc((size_t)n * BYTES + 1);
	uint32_t count = entries_count(x);
	assert_non_null(bytes);
	for (uint32_t i = 0; i < n; i++)
		memcpy(bytes + (size_t)i * BYTES, entry(count + i, generation), BYTES);
	ok(entries_append_many(x, bytes, n, &e));
	free(bytes);
}

static void assert_entry(const struct entries *x, uint32_t number, uint32_t generation)
{
	assert_memory_equal(entries_at(x, number), entry(number, generation), BYTES);
}

/* What is in memory is in the file, and nothing more. */
static void assert_file_is(const struct entries *x, uint32_t count)
{
	size_t n = x->header_bytes + (size_t)count * x->entry_bytes;
	assert_int_equal(entries_count(x), count);
	assert_int_equal(file_bytes(), n);
	FILE *f = fopen(path, "r");
	uint8_t *have = malloc(n + 1);
	assert_non_null(f);
	assert_non_null(have);
	assert_int_equal(fread(have, 1, n + 1, f), n);
	fclose(f);
	if (n > x->header_bytes)
		assert_memory_equal(have + x->header_bytes, entries_at(x, 0), n - x->header_bytes);
	free(have);
}

/* ---- opening and closing ---- */

static void test_open_missing(void **state)
{
	(void)state;
	struct entries x;
	assert_fails(entries_open(&x, path, true, false, 0, BYTES, RESERVE, &e), ERR_NOT_FOUND);
	assert_int_equal(access(path, F_OK), -1);
	assert_fails(entries_open(&x, path, false, false, 0, BYTES, 0, &e), ERR_NOT_FOUND);
	entries_close(&x);
	assert_int_equal(entries_open(&x, path, false, false, 0, BYTES, 0, NULL), ERR_NOT_FOUND);
}

static void test_create_makes_an_empty_file_once(void **state)
{
	(void)state;
	struct entries x;
	for (int writable = 0; writable < 2; writable++) {
		unlink(path);
		ok(entries_open(&x, path, writable, true, 0, BYTES, writable ? RESERVE : 0, &e));
		assert_file_is(&x, 0);
		entries_close(&x);
		entries_close(&x);
	}
	ok(entries_open(&x, path, true, true, 0, BYTES, RESERVE, &e));
	append(&x, 3, 1);
	entries_close(&x);
	ok(entries_open(&x, path, true, true, 0, BYTES, RESERVE, &e));
	assert_file_is(&x, 3);
	assert_entry(&x, 2, 1);
	entries_close(&x);
}

static void test_only_whole_entries_behind_a_whole_header_open(void **state)
{
	(void)state;
	static const uint8_t zeros[100];
	struct entries x;
	int fds = open_fds();
	for (uint32_t header = 0; header <= 32; header += 16)
		for (uint32_t size = 1; size < 40; size += 3)
			for (size_t n = 0; n <= sizeof zeros; n++) {
				put_file(zeros, n);
				int rc = entries_open(&x, path, n % 2, false, header, size, 0, &e);
				if (n < header || (n - header) % size) {
					assert_fails(rc, ERR_CORRUPT);
				} else {
					ok(rc);
					assert_int_equal(entries_count(&x), (n - header) / size);
				}
				entries_close(&x);
			}
	assert_int_equal(open_fds(), fds);
}

static void test_what_was_written_is_there_after_opening_again(void **state)
{
	(void)state;
	struct entries x;
	char header[16] = "header, 16 bytes";
	put_file(header, sizeof header);
	ok(entries_open(&x, path, true, false, sizeof header, BYTES, RESERVE, &e));
	append(&x, 1000, 7);
	entries_close(&x);
	for (int writable = 0; writable < 2; writable++) {
		ok(entries_open(&x, path, writable, false, sizeof header, BYTES, writable ? RESERVE : 0, &e));
		assert_file_is(&x, 1000);
		assert_memory_equal(x.map, header, sizeof header);
		for (uint32_t i = 0; i < 1000; i++)
			assert_entry(&x, i, 7);
		entries_close(&x);
	}
}

static void test_a_file_for_reading_cannot_be_changed(void **state)
{
	(void)state;
	struct entries x;
	ok(entries_open(&x, path, true, true, 0, BYTES, RESERVE, &e));
	append(&x, 1000, 1);
	entries_close(&x);
	ok(entries_open(&x, path, false, false, 0, BYTES, 0, &e));
	assert_fails(entries_append(&x, entry(1000, 1), &e), ERR_TOO_LARGE);
	assert_true(entries_truncate(&x, 5, &e) < 0);
	assert_non_null(strstr(e.text, path));
	assert_file_is(&x, 1000);
	for (uint32_t i = 0; i < 1000; i++)
		assert_entry(&x, i, 1);
	entries_close(&x);
}

static void test_opening_fails_with_the_path_and_nothing_left_open(void **state)
{
	(void)state;
	static const struct { enum io_call call; int answer, code; } cases[] = {
		{IO_OPEN, -EMFILE, ERR_LIMIT}, {IO_OPEN, -EACCES, ERR_DENIED}, {IO_STAT, -EIO, ERR_IO}, {IO_MMAP, -ENOMEM, ERR_NO_MEMORY},
	};
	struct entries x;
	put_file("12345678", 8);
	int fds = open_fds();
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct script s = {.call = cases[i].call, .also = IO_CALLS, .answer = cases[i].answer};
		io_set_hook(play, &s);
		assert_fails(entries_open(&x, path, true, true, 0, BYTES, RESERVE, &e), cases[i].code);
		assert_fails(entries_open(&x, path, false, true, 0, BYTES, 0, &e), cases[i].code);
		io_set_hook(NULL, NULL);
		entries_close(&x);
		assert_int_equal(open_fds(), fds);
	}
}

/* ---- appending ---- */

static void test_the_reserve_is_the_limit(void **state)
{
	(void)state;
	struct entries x;
	uint8_t many[5 * BYTES] = {0};
	ok(entries_open(&x, path, true, true, 0, BYTES, 10 * BYTES + 7, &e));
	append(&x, 9, 1);
	assert_fails(entries_append_many(&x, many, 2, &e), ERR_TOO_LARGE);
	assert_file_is(&x, 9);
	append(&x, 1, 1);
	assert_fails(entries_append(&x, many, &e), ERR_TOO_LARGE);
	append(&x, 0, 1);
	assert_file_is(&x, 10);
	ok(entries_truncate(&x, 6, &e));
	assert_fails(entries_append_many(&x, many, 5, &e), ERR_TOO_LARGE);
	append(&x, 4, 2);
	assert_file_is(&x, 10);
	entries_close(&x);
	/* what is larger than its reserve is mapped whole, and full */
	ok(entries_open(&x, path, true, true, 0, BYTES, 5 * BYTES, &e));
	assert_entry(&x, 9, 2);
	assert_fails(entries_append(&x, many, &e), ERR_TOO_LARGE);
	entries_close(&x);
}

static void test_a_failed_append_changes_nothing(void **state)
{
	(void)state;
	struct entries x;
	uint8_t many[3 * BYTES];
	for (uint32_t i = 0; i < 3; i++)
		memcpy(many + (size_t)i * BYTES, entry(5 + i, 2), BYTES);
	ok(entries_open(&x, path, true, true, 0, BYTES, RESERVE, &e));
	append(&x, 5, 1);
	for (ssize_t answer = -1; answer < 3 * BYTES; answer++) {
		struct script s = {.call = IO_WRITE, .also = IO_CALLS, .answer = answer < 0 ? -EIO : answer ? answer : -ENOSPC};
		io_set_hook(play, &s);
		assert_fails(entries_append_many(&x, many, 3, &e), answer < 0 ? ERR_IO : ERR_NO_SPACE);
		io_set_hook(NULL, NULL);
		assert_file_is(&x, 5);
		assert_entry(&x, 4, 1);
	}
	ok(entries_append_many(&x, many, 3, &e));
	assert_file_is(&x, 8);
	assert_entry(&x, 7, 2);
	entries_close(&x);
}

static void test_what_cannot_be_cut_back_is_told_and_overwritten(void **state)
{
	(void)state;
	struct entries x;
	uint8_t many[3 * BYTES] = {0};
	ok(entries_open(&x, path, true, true, 0, BYTES, RESERVE, &e));
	append(&x, 5, 1);
	struct script s = {.call = IO_WRITE, .also = IO_TRUNCATE, .answer = 11};
	io_set_hook(play, &s);
	assert_fails(entries_append_many(&x, many, 3, &e), ERR_IO);
	io_set_hook(NULL, NULL);
	assert_int_equal(entries_count(&x), 5);
	assert_int_equal(file_bytes(), 5 * BYTES + 11);
	append(&x, 2, 2);
	assert_file_is(&x, 7);
	entries_close(&x);
}

/* ---- cutting ---- */

static void test_truncate(void **state)
{
	(void)state;
	struct entries x;
	ok(entries_open(&x, path, true, true, 0, BYTES, RESERVE, &e));
	append(&x, 3000, 1);
	static const uint32_t to[] = {UINT32_MAX, 3001, 3000, 2999, 1024, 1023, 512, 511, 1, 0, 0};
	for (size_t i = 0; i < sizeof to / sizeof *to; i++) {
		ok(entries_truncate(&x, to[i], &e));
		assert_file_is(&x, to[i] < 3000 ? to[i] : 3000);
		if (entries_count(&x))
			assert_entry(&x, entries_count(&x) - 1, 1);
	}
	append(&x, 3000, 2);
	assert_file_is(&x, 3000);
	for (uint32_t i = 0; i < 3000; i++)
		assert_entry(&x, i, 2);
	entries_close(&x);
}

static void test_a_failed_truncation_changes_nothing(void **state)
{
	(void)state;
	struct entries x;
	ok(entries_open(&x, path, true, true, 0, BYTES, RESERVE, &e));
	append(&x, 3000, 1);
	for (uint32_t to = 0; to < 3000; to += 749) {
		struct script s = {.call = IO_TRUNCATE, .also = IO_CALLS, .answer = -EIO};
		io_set_hook(play, &s);
		assert_fails(entries_truncate(&x, to, &e), ERR_IO);
		io_set_hook(NULL, NULL);
		assert_file_is(&x, 3000);
		for (uint32_t i = 0; i < 3000; i++)
			assert_entry(&x, i, 1);
	}
	append(&x, 1000, 2);
	assert_entry(&x, 3999, 2);
	entries_close(&x);
}

/* A reader that has taken the count keeps on looking at entries that are cut meanwhile: once, pages behind the file's end were SIGBUS for it. */
static void test_entries_below_an_old_count_can_be_looked_at(void **state)
{
	(void)state;
	struct entries x;
	ok(entries_open(&x, path, true, true, 0, BYTES, RESERVE, &e));
	seed = 5;
	uint32_t most = 0;
	for (uint32_t generation = 1; generation < 200; generation++) {
		append(&x, random_next() % 3000, generation);
		if (entries_count(&x) > most)
			most = entries_count(&x);
		ok(entries_truncate(&x, random_next() % 3000, &e));
		append(&x, random_next() % 300, generation);
		uint32_t count = entries_count(&x);
		assert_file_is(&x, count);
		for (uint32_t i = 0; i < count; i++)
			assert_int_equal(be32_get(entries_at(&x, i)), i);
		for (uint32_t i = count; i < most; i++) {
			uint32_t number = be32_get(entries_at(&x, i));
			if (number != i && number != 0)
				fail_msg("entry %u of %u, behind the cut, says %u", i, count, number);
		}
	}
	entries_close(&x);
}

/* Somebody else cuts the file: what was there reads as zeros, as does what the disk cannot give. A mapping of others is no business of ours. */
static void test_a_file_that_cannot_be_read_shows_zeros(void **state)
{
	(void)state;
	struct entries x, other;
	char other_path[120];
	snprintf(other_path, sizeof other_path, "%s/other", dir);
	ok(entries_open(&x, path, true, true, 0, BYTES, RESERVE, &e));
	ok(entries_open(&other, other_path, true, true, 0, BYTES, RESERVE, &e));
	append(&x, 3000, 1);
	append(&other, 3000, 1);
	entries_guard_reads();
	assert_int_equal(truncate(path, 0), 0);
	for (uint32_t i = 0; i < 3000; i += 7) {
		errno = 77;
		assert_int_equal(be32_get(entries_at(&x, i)), 0);
		assert_int_equal(errno, 77);
		assert_entry(&other, i, 1);
	}
	entries_close(&x);
	int status;
	pid_t child = fork();
	if (child == 0) {
		int fd = open(other_path, O_RDONLY);
		const volatile uint8_t *theirs = mmap(NULL, 1 << 20, PROT_READ, MAP_SHARED, fd, 0);
		signal(SIGBUS, SIG_DFL); /* not cmocka's, which would go on with the next test */
		entries_guard_reads();
		_exit(theirs[1 << 19]);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_false(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	assert_entry(&other, 2999, 1);
	entries_close(&other);
}

static void *open_and_close(void *arg)
{
	static const uint8_t zeros[BYTES];
	char mine[120];
	snprintf(mine, sizeof mine, "%s/of-%d", dir, *(int *)arg);
	for (int i = 0; i < 300; i++) {
		struct entries x;
		struct err why = ERR_INIT;
		if (entries_open(&x, mine, true, true, 0, BYTES, RESERVE, &why) < 0 || entries_append(&x, zeros, &why) < 0)
			print_error("%s\n", why.text);
		entries_close(&x);
	}
	return NULL;
}

/* What is open is listed, for the handler of the above. */
static void test_many_open_and_close(void **state)
{
	(void)state;
	pthread_t thread[4];
	int number[4] = {0, 1, 2, 3};
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, open_and_close, &number[i]), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	for (int i = 0; i < 4; i++) {
		struct entries x;
		snprintf(path, sizeof path, "%s/of-%d", dir, i);
		ok(entries_open(&x, path, false, false, 0, BYTES, 0, &e));
		assert_int_equal(entries_count(&x), 300);
		entries_close(&x);
	}
}

/* ---- against a model, with faults ---- */

struct model { uint32_t generation[20000], count; };

static void random_faults(struct script *s)
{
	*s = (struct script){.call = IO_CALLS, .also = IO_CALLS};
	if (random_next() % 3)
		return;
	s->call = random_next() % 2 ? IO_WRITE : IO_TRUNCATE;
	s->answer = s->call == IO_TRUNCATE ? -EIO : random_next() % 2 ? -ENOSPC : (ssize_t)(1 + random_next() % 5000);
}

static void step(struct entries *x, struct model *m, uint32_t generation)
{
	static uint8_t many[700 * BYTES];
	struct script s;
	random_faults(&s);
	uint32_t n = random_next() % 700, to = random_next() % (m->count + 100);
	bool fails;
	io_set_hook(play, &s);
	if (random_next() % 4) {
		for (uint32_t i = 0; i < n; i++)
			memcpy(many + (size_t)i * BYTES, entry(m->count + i, generation), BYTES);
		fails = s.call == IO_WRITE && (s.answer < 0 || (size_t)s.answer < (size_t)n * BYTES);
		assert_int_equal(entries_append_many(x, many, n, &e) < 0, fails);
		for (uint32_t i = 0; i < n && !fails; i++)
			m->generation[m->count + i] = generation;
		m->count += fails ? 0 : n;
	} else {
		fails = s.call == IO_TRUNCATE && to < m->count;
		assert_int_equal(entries_truncate(x, to, &e) < 0, fails);
		m->count = fails || to > m->count ? m->count : to;
	}
	io_set_hook(NULL, NULL);
}

static void test_random_steps_with_faults(void **state)
{
	(void)state;
	static struct model m;
	struct entries x;
	for (uint32_t round = 1; round <= 20; round++) {
		seed = round * UINT64_C(0x9e3779b97f4a7c15);
		m.count = 0;
		unlink(path);
		ok(entries_open(&x, path, true, true, 0, BYTES, RESERVE, &e));
		for (uint32_t i = 0; i < 60 && m.count < 19000; i++) {
			step(&x, &m, i);
			assert_file_is(&x, m.count);
			for (uint32_t k = 0; k < m.count; k++)
				assert_entry(&x, k, m.generation[k]);
			if (random_next() % 8 == 0) {
				entries_close(&x);
				ok(entries_open(&x, path, true, false, 0, BYTES, RESERVE, &e));
			}
		}
		entries_close(&x);
	}
}

/* ---- one writer, two readers ---- */

struct readers {
	struct entries x;
	_Atomic bool done;
	_Atomic uint32_t looked;
	bool cut; /* entries may be cut, so one that is looked at may be gone */
};

/* NULL, or the readers where something was wrong. */
static void *read_along(void *arg)
{
	struct readers *r = arg;
	uint32_t before = 0, at = 1;
	while (!r->done) {
		uint32_t count = entries_count(&r->x);
		if (count < before && !r->cut)
			return r;
		before = count;
		for (int i = 0; i < 50 && count; i++) {
			at = at * 1664525 + 1013904223;
			uint32_t k = i ? at % count : count - 1, number = be32_get(entries_at(&r->x, k));
			if (number != k && !(r->cut && number == 0))
				return r;
			r->looked++;
		}
	}
	return NULL;
}

static void run_threads(bool cut)
{
	static struct readers r;
	pthread_t thread[2];
	r = (struct readers){.cut = cut};
	ok(entries_open(&r.x, path, true, true, 0, BYTES, 64 << 20, &e));
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, read_along, &r), 0);
	seed = 3;
	for (uint32_t i = 0; i < 20000 || r.looked < 1000; i++) {
		append(&r.x, random_next() % 20, 1);
		if (cut && i % 50 == 0)
			ok(entries_truncate(&r.x, random_next() % 3000, &e));
	}
	r.done = true;
	for (int i = 0; i < 2; i++) {
		void *wrong;
		pthread_join(thread[i], &wrong);
		assert_null(wrong);
	}
	assert_file_is(&r.x, entries_count(&r.x));
	entries_close(&r.x);
}

static void test_readers_see_entries_after_their_bytes(void **state)
{
	(void)state;
	run_threads(false);
}

static void test_readers_survive_cuts(void **state)
{
	(void)state;
	run_threads(true);
}

int main(void)
{
#define IN_DIR(test) cmocka_unit_test_setup_teardown(test, make_dir, remove_all)
	const struct CMUnitTest tests[] = {
		IN_DIR(test_open_missing),
		IN_DIR(test_create_makes_an_empty_file_once),
		IN_DIR(test_only_whole_entries_behind_a_whole_header_open),
		IN_DIR(test_what_was_written_is_there_after_opening_again),
		IN_DIR(test_a_file_for_reading_cannot_be_changed),
		IN_DIR(test_opening_fails_with_the_path_and_nothing_left_open),
		IN_DIR(test_the_reserve_is_the_limit),
		IN_DIR(test_a_failed_append_changes_nothing),
		IN_DIR(test_what_cannot_be_cut_back_is_told_and_overwritten),
		IN_DIR(test_truncate),
		IN_DIR(test_a_failed_truncation_changes_nothing),
		IN_DIR(test_entries_below_an_old_count_can_be_looked_at),
		IN_DIR(test_a_file_that_cannot_be_read_shows_zeros),
		IN_DIR(test_many_open_and_close),
		IN_DIR(test_random_steps_with_faults),
		IN_DIR(test_readers_see_entries_after_their_bytes),
		IN_DIR(test_readers_survive_cuts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
