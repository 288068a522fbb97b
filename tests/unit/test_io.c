#include "store/io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[64];
static char where[8][200];

/* The path of a name in the test's directory; the last eight stay valid. */
static const char *in(const char *name)
{
	static int next;
	char *p = where[next++ % 8];
	snprintf(p, sizeof where[0], "%s/%s", dir, name);
	return p;
}

static int make_dir(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/spoolfs-test-io-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int remove_all(void **state)
{
	(void)state;
	io_set_hook(NULL, NULL);
	char command[100];
	snprintf(command, sizeof command, "rm -rf %s", dir);
	return system(command);
}

static void put(const char *name, const char *text)
{
	FILE *f = fopen(in(name), "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void assert_file(const char *name, const char *text)
{
	char have[5000];
	FILE *f = fopen(in(name), "r");
	assert_non_null(f);
	size_t n = fread(have, 1, sizeof have - 1, f);
	fclose(f);
	have[n] = '\0';
	assert_string_equal(have, text);
}

static bool exists(const char *name)
{
	return !access(in(name), F_OK);
}

/* A hook that answers one kind of call, from the nth on, and writes down what it saw. */
struct script {
	enum io_call call;
	int skip; /* calls of that kind that pass first */
	ssize_t answer;
	char seen[500];
};

static ssize_t play(void *arg, enum io_call call, const char *name, int fd, size_t bytes)
{
	struct script *s = arg;
	(void)bytes;
	assert_true(name || fd >= 0);
	size_t n = strlen(s->seen);
	snprintf(s->seen + n, sizeof s->seen - n, "%s ", io_call_name(call));
	return call == s->call && s->skip-- <= 0 ? s->answer : 0;
}

static void test_open_close(void **state)
{
	(void)state;
	assert_int_equal(io_open(in("none"), O_RDONLY, 0), -ENOENT);
	int fd = io_open(in("a"), O_RDWR | O_CREAT, 0600);
	assert_true(fd >= 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(io_close(fd), 0);
	assert_int_equal(io_close(fd), -EBADF);
	assert_int_equal(io_close(-1), 0);
}

static void test_pread_counts_to_the_end_of_file(void **state)
{
	(void)state;
	char b[10];
	put("a", "hello");
	int fd = io_open(in("a"), O_RDONLY, 0);
	assert_int_equal(io_pread(fd, b, 5, 0), 5);
	assert_int_equal(io_pread(fd, b, 10, 2), 3);
	assert_memory_equal(b, "llo", 3);
	assert_int_equal(io_pread(fd, b, 10, 5), 0);
	assert_int_equal(io_pread(fd, b, 10, 500), 0);
	assert_int_equal(io_pread(fd, b, 0, 0), 0);
	assert_int_equal(io_pread(fd, b, 1, -1), -EINVAL);
	io_close(fd);
	assert_int_equal(io_pread(fd, b, 1, 0), -EBADF);
}

static void test_pwrite_places(void **state)
{
	(void)state;
	int fd = io_open(in("a"), O_RDWR | O_CREAT, 0600);
	assert_int_equal(io_pwrite(fd, "hello", 5, 0), 0);
	assert_int_equal(io_pwrite(fd, "J", 1, 0), 0);
	assert_int_equal(io_pwrite(fd, NULL, 0, 77), 0);
	assert_file("a", "Jello");
	assert_int_equal(io_truncate(fd, 2), 0);
	assert_file("a", "Je");
	io_close(fd);
	fd = io_open(in("a"), O_RDONLY, 0);
	assert_int_equal(io_pwrite(fd, "x", 1, 0), -EBADF);
	assert_int_equal(io_truncate(fd, 0), -EINVAL);
	io_close(fd);
}

enum { PIECES = 3000 };

/* Vectors longer than IOV_MAX, with empty pieces in them. */
static size_t make_pieces(struct iovec *iov, char *bytes)
{
	size_t n = 0;
	for (int i = 0; i < PIECES; i++) {
		iov[i] = (struct iovec){bytes + n, (size_t)(i % 4)};
		for (int j = 0; j < i % 4; j++)
			bytes[n++] = (char)('a' + i % 26);
	}
	bytes[n] = '\0';
	return n;
}

static void test_pwritev_takes_any_number(void **state)
{
	(void)state;
	static struct iovec iov[PIECES];
	static char bytes[4 * PIECES];
	assert_true(make_pieces(iov, bytes) < 5000);
	int fd = io_open(in("a"), O_RDWR | O_CREAT, 0600);
	assert_int_equal(io_pwritev(fd, iov, PIECES, 0), 0);
	assert_int_equal(io_pwritev(fd, iov, 0, 0), 0);
	io_close(fd);
	assert_file("a", bytes);
}

static void test_hook_lets_the_first_bytes_through(void **state)
{
	(void)state;
	static struct iovec iov[PIECES];
	static char bytes[4 * PIECES];
	size_t n = make_pieces(iov, bytes);
	for (size_t allowed = 1; allowed <= n + 1; allowed += allowed < 20 ? 1 : 997) {
		struct script s = {.call = IO_WRITE, .answer = (ssize_t)allowed};
		make_pieces(iov, bytes);
		int fd = io_open(in("a"), O_RDWR | O_CREAT | O_TRUNC, 0600);
		io_set_hook(play, &s);
		assert_int_equal(io_pwritev(fd, iov, PIECES, 0), allowed < n ? -ENOSPC : 0);
		io_set_hook(NULL, NULL);
		io_close(fd);
		if (allowed < n)
			bytes[allowed] = '\0';
		assert_file("a", bytes);
		assert_string_equal(s.seen, "write "); /* one call, however many the system needs */
	}
}

static void test_hook_partial_pwrite(void **state)
{
	(void)state;
	struct script s = {.call = IO_WRITE, .answer = 3};
	int fd = io_open(in("a"), O_RDWR | O_CREAT, 0600);
	io_set_hook(play, &s);
	assert_int_equal(io_pwrite(fd, "hello", 5, 0), -ENOSPC);
	assert_file("a", "hel");
	assert_int_equal(io_pwrite(fd, "HEL", 3, 0), 0);
	assert_file("a", "HEL");
	io_close(fd);
}

static int ignore(void *arg, const char *name, unsigned char d_type)
{
	(void)name;
	(void)d_type;
	if (arg)
		++*(int *)arg;
	return 0;
}

/* Makes the calls of one kind; each returns what the hook said, and has no effect. */
static void call_all_of(enum io_call call, int fd, int expect)
{
	struct stat st;
	char c = 'x';
	struct iovec iov = {&c, 1};
	void *map;
	switch (call) {
	case IO_OPEN:
		assert_int_equal(io_open(in("new"), O_RDWR | O_CREAT, 0600), expect);
		assert_int_equal(io_fsync_dir(dir), expect);
		break;
	case IO_READ:
		assert_int_equal(io_pread(fd, &c, 1, 0), expect);
		break;
	case IO_WRITE:
		assert_int_equal(io_pwrite(fd, "x", 1, 0), expect);
		assert_int_equal(io_pwritev(fd, &iov, 1, 0), expect);
		break;
	case IO_SYNC:
		assert_int_equal(io_fsync(fd), expect);
		assert_int_equal(io_fdatasync(fd), expect);
		assert_int_equal(io_fsync_dir(dir), expect);
		break;
	case IO_TRUNCATE:
		assert_int_equal(io_truncate(fd, 0), expect);
		break;
	case IO_RENAME:
		assert_int_equal(io_rename(in("a"), in("new")), expect);
		break;
	case IO_UNLINK:
		assert_int_equal(io_unlink(in("a")), expect);
		break;
	case IO_MKDIR:
		assert_int_equal(io_mkdir(in("new"), 0700), expect);
		break;
	case IO_RMDIR:
		assert_int_equal(io_rmdir(in("d")), expect);
		break;
	case IO_STAT:
		assert_int_equal(io_stat(in("a"), &st), expect);
		assert_int_equal(io_fstat(fd, &st), expect);
		break;
	case IO_MMAP:
		assert_int_equal(io_mmap(fd, 1, &map), expect);
		assert_null(map);
		break;
	case IO_LIST:
		assert_int_equal(io_list(dir, ignore, NULL), expect);
		break;
	case IO_CALLS:
		fail();
	}
}

static void test_hook_can_fail_every_call(void **state)
{
	(void)state;
	put("a", "old");
	assert_int_equal(io_mkdir(in("d"), 0700), 0);
	int fd = io_open(in("a"), O_RDWR, 0);
	for (int call = 0; call < IO_CALLS; call++) {
		struct script s = {.call = (enum io_call)call, .answer = -EXDEV};
		io_set_hook(play, &s);
		call_all_of((enum io_call)call, fd, -EXDEV);
		io_set_hook(NULL, NULL);
		assert_file("a", "old");
		assert_true(exists("d"));
		assert_false(exists("new"));
	}
	io_close(fd);
}

static void test_call_names(void **state)
{
	(void)state;
	for (int a = 0; a < IO_CALLS; a++)
		for (int b = 0; b < a; b++)
			assert_string_not_equal(io_call_name((enum io_call)a), io_call_name((enum io_call)b));
	assert_string_equal(io_call_name(IO_CALLS), "unknown");
}

static void test_names_and_stat(void **state)
{
	(void)state;
	struct stat st;
	put("a", "12345");
	assert_int_equal(io_stat(in("a"), &st), 0);
	assert_int_equal(st.st_size, 5);
	assert_int_equal(io_rename(in("a"), in("b")), 0);
	assert_int_equal(io_stat(in("a"), &st), -ENOENT);
	assert_int_equal(io_rename(in("a"), in("b")), -ENOENT);
	assert_int_equal(io_mkdir(in("b"), 0700), -EEXIST);
	assert_int_equal(io_mkdir(in("d"), 0700), 0);
	assert_int_equal(io_fsync_dir(in("d")), 0);
	assert_int_equal(io_fsync_dir(in("b")), -ENOTDIR);
	assert_int_equal(io_rmdir(in("d")), 0);
	assert_int_equal(io_rmdir(in("d")), -ENOENT);
	assert_int_equal(io_unlink(in("b")), 0);
	assert_int_equal(io_unlink(in("b")), -ENOENT);
}

static void test_mmap(void **state)
{
	(void)state;
	void *map;
	put("a", "mapped");
	int fd = io_open(in("a"), O_RDONLY, 0);
	assert_int_equal(io_mmap(fd, 6, &map), 0);
	assert_memory_equal(map, "mapped", 6);
	io_munmap(map, 6);
	assert_int_equal(io_mmap(fd, 0, &map), 0);
	assert_null(map);
	io_munmap(NULL, 0);
	io_close(fd);
	assert_int_equal(io_mmap(fd, 6, &map), -EBADF);
	assert_null(map);
}

static int check_type(void *arg, const char *name, unsigned char d_type)
{
	int *seen = arg;
	switch (*name) {
	case 'f':
		assert_int_equal(d_type, DT_REG);
		break;
	case 'd':
		assert_int_equal(d_type, DT_DIR);
		break;
	case 'l':
		assert_int_equal(d_type, DT_LNK);
		break;
	default:
		fail_msg("unexpected name %s", name);
	}
	++*seen;
	return 0;
}

static int stop_at_second(void *arg, const char *name, unsigned char d_type)
{
	ignore(arg, name, d_type);
	return *(int *)arg == 2 ? 42 : 0;
}

static void test_list(void **state)
{
	(void)state;
	int seen = 0;
	assert_int_equal(io_list(dir, check_type, &seen), 0);
	assert_int_equal(seen, 0);
	put("f", "");
	assert_int_equal(io_mkdir(in("d"), 0700), 0);
	assert_int_equal(symlink("nowhere", in("l")), 0);
	assert_int_equal(io_list(dir, check_type, &seen), 0);
	assert_int_equal(seen, 3);
	seen = 0;
	assert_int_equal(io_list(dir, stop_at_second, &seen), 42);
	assert_int_equal(seen, 2);
	assert_int_equal(io_list(in("none"), ignore, NULL), -ENOENT);
	assert_int_equal(io_list(in("f"), ignore, NULL), -ENOTDIR);
}

static void test_read_file(void **state)
{
	(void)state;
	char *text;
	size_t n;
	put("a", "12345");
	assert_int_equal(io_read_file(in("a"), 5, &text, &n), 0);
	assert_int_equal(n, 5);
	assert_string_equal(text, "12345");
	free(text);
	assert_int_equal(io_read_file(in("a"), 4, &text, &n), -EFBIG);
	assert_int_equal(io_read_file(in("none"), 4, &text, &n), -ENOENT);
	assert_int_equal(io_read_file(dir, 5000, &text, &n), -EISDIR);
	put("e", "");
	assert_int_equal(io_read_file(in("e"), 0, &text, &n), 0);
	assert_int_equal(n, 0);
	assert_string_equal(text, "");
	free(text);
	assert_int_equal(io_read_file(in("a"), SIZE_MAX, &text, &n), 0);
	free(text);
	/* says it has no bytes, and has some */
	assert_int_equal(io_read_file("/proc/self/status", 1 << 20, &text, &n), 0);
	assert_true(n > 100);
	assert_int_equal(strlen(text), n);
	free(text);
	assert_int_equal(io_read_file("/proc/self/status", 10, &text, &n), -EFBIG);
}

/* Grows the file before each of its first reads, after its size was asked. */
static ssize_t grow(void *arg, enum io_call call, const char *name, int fd, size_t bytes)
{
	int *left = arg;
	(void)name;
	(void)fd;
	(void)bytes;
	if (call == IO_READ && *left > 0) {
		--*left;
		FILE *f = fopen(in("a"), "a");
		for (int i = 0; i < 3000; i++)
			fputc('x', f);
		fclose(f);
	}
	return 0;
}

static void test_read_file_that_grows(void **state)
{
	(void)state;
	char *text;
	size_t n;
	put("a", "start");
	int left = 5;
	io_set_hook(grow, &left);
	assert_int_equal(io_read_file(in("a"), 1 << 20, &text, &n), 0);
	assert_true(n > 5 && (n - 5) % 3000 == 0);
	assert_int_equal(strlen(text), n);
	free(text);
	put("a", "start");
	left = 5;
	assert_int_equal(io_read_file(in("a"), 3004, &text, &n), -EFBIG);
	put("a", "start");
	left = 1;
	assert_int_equal(io_read_file(in("a"), 3005, &text, &n), 0);
	assert_int_equal(n, 3005);
	free(text);
}

static void test_replace_file(void **state)
{
	(void)state;
	struct script s = {.call = IO_CALLS};
	assert_int_equal(io_replace_file(in("a"), "one", 3, false), 0);
	assert_file("a", "one");
	io_set_hook(play, &s);
	assert_int_equal(io_replace_file(in("a"), "second", 6, true), 0);
	assert_file("a", "second");
	assert_string_equal(s.seen, "open write sync rename open sync ");
	s.seen[0] = '\0';
	assert_int_equal(io_replace_file(in("a"), "", 0, false), 0);
	assert_file("a", "");
	assert_string_equal(s.seen, "open write rename ");
	assert_false(exists("a.tmp"));
	put("a.tmp", "left over, and longer");
	assert_int_equal(io_replace_file(in("a"), "3", 1, true), 0);
	assert_file("a", "3");
	assert_false(exists("a.tmp"));
}

static void test_replace_file_failing_leaves_the_old_one(void **state)
{
	(void)state;
	static const struct {
		enum io_call call;
		ssize_t answer;
		int expect;
	} cases[] = {
		{IO_OPEN, -EMFILE, -EMFILE}, {IO_WRITE, -EIO, -EIO}, {IO_WRITE, 2, -ENOSPC}, {IO_SYNC, -EIO, -EIO}, {IO_RENAME, -EIO, -EIO},
	};
	put("a", "old");
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct script s = {.call = cases[i].call, .answer = cases[i].answer};
		io_set_hook(play, &s);
		assert_int_equal(io_replace_file(in("a"), "newer", 5, true), cases[i].expect);
		io_set_hook(NULL, NULL);
		assert_file("a", "old");
		assert_false(exists("a.tmp"));
	}
	/* Too late to go back, but not known to be durable: told, with the new content there. */
	struct script s = {.call = IO_SYNC, .skip = 1, .answer = -EIO};
	io_set_hook(play, &s);
	assert_int_equal(io_replace_file(in("a"), "newer", 5, true), -EIO);
	assert_file("a", "newer");
	assert_false(exists("a.tmp"));
}

static void test_replace_file_paths(void **state)
{
	(void)state;
	char before[500], longest[6000];
	assert_non_null(getcwd(before, sizeof before));
	assert_int_equal(chdir(dir), 0);
	assert_int_equal(io_replace_file("plain", "x", 1, true), 0);
	assert_int_equal(chdir(before), 0);
	assert_file("plain", "x");
	memset(longest, 'x', sizeof longest);
	longest[sizeof longest - 1] = '\0';
	assert_int_equal(io_replace_file(longest, "x", 1, true), -ENAMETOOLONG);
	assert_int_equal(io_replace_file(in("none/a"), "x", 1, true), -ENOENT);
}

static void test_a_secret_is_for_its_owner_alone(void **state)
{
	struct stat st;
	char path[512];
	(void)state;
	snprintf(path, sizeof path, "%s", in("secret.tmp"));
	int fd = io_open(path, O_WRONLY | O_CREAT, 0666); /* left there, open to everybody, and held */
	assert_int_equal(io_replace_secret(in("secret"), "word", 4), 0);
	assert_int_equal(io_stat(in("secret"), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(st.st_size, 4);
	assert_int_equal(io_fstat(fd, &st), 0);
	assert_int_equal(st.st_size, 0);
	assert_int_equal(io_close(fd), 0);
	assert_int_equal(io_replace_secret(in("secret"), "other", 5), 0);
	assert_int_equal(io_stat(in("secret"), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(io_stat(in("secret.tmp"), &st), -ENOENT);
}

static void test_remove_dir(void **state)
{
	(void)state;
	char name[40];
	assert_int_equal(io_mkdir(in("d"), 0700), 0);
	for (int i = 0; i < 300; i++) {
		snprintf(name, sizeof name, "d/%020d.log", i);
		put(name, "x");
	}
	assert_int_equal(io_remove_dir(in("d")), 0);
	assert_false(exists("d"));
	assert_int_equal(io_remove_dir(in("d")), -ENOENT);
	put("f", "");
	assert_int_equal(io_remove_dir(in("f")), -ENOTDIR);
	assert_true(exists("f"));
}

static void test_remove_dir_with_a_subdirectory_keeps_all(void **state)
{
	(void)state;
	assert_int_equal(io_mkdir(in("d"), 0700), 0);
	assert_int_equal(io_mkdir(in("d/sub"), 0700), 0);
	put("d/a", "1");
	put("d/z", "2");
	assert_int_equal(io_remove_dir(in("d")), -EISDIR);
	assert_file("d/a", "1");
	assert_file("d/z", "2");
}

static void test_remove_dir_failing(void **state)
{
	(void)state;
	assert_int_equal(io_mkdir(in("d"), 0700), 0);
	put("d/a", "1");
	struct script s = {.call = IO_UNLINK, .answer = -EACCES};
	io_set_hook(play, &s);
	assert_int_equal(io_remove_dir(in("d")), -EACCES);
	assert_true(exists("d/a"));
	s.answer = -ENOENT; /* someone else was quicker: not a failure, though here it leaves the file */
	assert_int_equal(io_remove_dir(in("d")), -ENOTEMPTY);
}

int main(void)
{
#define IN_DIR(test) cmocka_unit_test_setup_teardown(test, make_dir, remove_all)
	const struct CMUnitTest tests[] = {
		IN_DIR(test_open_close),
		IN_DIR(test_pread_counts_to_the_end_of_file),
		IN_DIR(test_pwrite_places),
		IN_DIR(test_pwritev_takes_any_number),
		IN_DIR(test_hook_lets_the_first_bytes_through),
		IN_DIR(test_hook_partial_pwrite),
		IN_DIR(test_hook_can_fail_every_call),
		IN_DIR(test_call_names),
		IN_DIR(test_names_and_stat),
		IN_DIR(test_mmap),
		IN_DIR(test_list),
		IN_DIR(test_read_file),
		IN_DIR(test_read_file_that_grows),
		IN_DIR(test_replace_file),
		IN_DIR(test_replace_file_failing_leaves_the_old_one),
		IN_DIR(test_replace_file_paths),
		IN_DIR(test_a_secret_is_for_its_owner_alone),
		IN_DIR(test_remove_dir),
		IN_DIR(test_remove_dir_with_a_subdirectory_keeps_all),
		IN_DIR(test_remove_dir_failing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
