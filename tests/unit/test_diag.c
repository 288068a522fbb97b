#include "store/diag.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

/* --- a syslog of the test's own, in place of libc's --- */

static bool syslog_is_there;
static char syslog_ident[40], syslog_text[5000];
static int syslog_priority;

int connect(int fd, __CONST_SOCKADDR_ARG addr, socklen_t len)
{
	const struct sockaddr_un *un = addr.__sockaddr_un__;
	if (un->sun_family != AF_UNIX || strcmp(un->sun_path, "/dev/log"))
		return (int)syscall(SYS_connect, fd, un, len);
	errno = ENOENT;
	return syslog_is_there ? 0 : -1;
}

void openlog(const char *ident, int option, int facility)
{
	(void)option;
	(void)facility;
	snprintf(syslog_ident, sizeof syslog_ident, "%s", ident);
}

void syslog(int priority, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(syslog_text, sizeof syslog_text, fmt, ap);
	va_end(ap);
	syslog_priority = priority;
}

/* --- stderr, caught in a pipe or a file --- */

static char text[200000];
static int caught[2], real_stderr;

static void catch_stderr(void)
{
	assert_int_equal(pipe2(caught, O_NONBLOCK), 0);
	real_stderr = dup(STDERR_FILENO);
	dup2(caught[1], STDERR_FILENO);
}

/* What came since catch_stderr, in `text`. */
static const char *release_stderr(void)
{
	dup2(real_stderr, STDERR_FILENO);
	close(real_stderr);
	close(caught[1]);
	size_t n = 0;
	for (ssize_t got; (got = read(caught[0], text + n, sizeof text - 1 - n)) > 0;)
		n += (size_t)got;
	text[n] = '\0';
	close(caught[0]);
	return text;
}

static void test_line_on_stderr(void **state)
{
	(void)state;
	catch_stderr();
	diag(DIAG_ERROR, "cannot open %s", "a.log");
	diag_warning("w%d", 1);
	diag_notice("final newline\n");
	diag_notice("%s", "");
	assert_string_equal(release_stderr(), "spoolfs: error: cannot open a.log\nspoolfs: warning: w1\n"
			"spoolfs: notice: final newline\nspoolfs: notice: \n");
}

static void test_levels(void **state)
{
	(void)state;
	catch_stderr();
	diag_info("not by default");
	diag_set_level(DIAG_DEBUG);
	diag_debug("d");
	diag_set_level(DIAG_ERROR);
	diag_warning("w");
	diag_error("e");
	diag_set_level(DIAG_NOTICE);
	assert_string_equal(release_stderr(), "spoolfs: debug: d\nspoolfs: error: e\n");
}

static void test_text_stays_one_line_and_harmless(void **state)
{
	(void)state;
	catch_stderr();
	diag_notice("%s", "a\nb\tc\rd\x1b[31m\x7f");
	diag_notice("%s", "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80");   /* UTF-8 passes */
	diag_notice("%s", "\xc2\x9b" "1m \xff \xc3 \xe2\x82 \x80"); /* a C1 control, and what is no UTF-8 */
	diag_notice("100%% of \"%s\"", "%s%n");
	assert_string_equal(release_stderr(),
			"spoolfs: notice: a\\nb\\tc\\x0dd\\x1b[31m\\x7f\n"
			"spoolfs: notice: caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80\n"
			"spoolfs: notice: \\xc2\\x9b1m \\xff \\xc3 \\xe2\\x82 \\x80\n"
			"spoolfs: notice: 100% of \"%s%n\"\n");
}

static void test_long_text_is_cut(void **state)
{
	(void)state;
	static char big[10000];
	for (int controls = 0; controls < 2; controls++) {
		memset(big, controls ? 1 : 'x', sizeof big - 1);
		catch_stderr();
		diag_notice("%s", big);
		const char *line = release_stderr();
		size_t n = strlen(line);
		assert_true(n > 1900 && n < 9000);
		assert_string_equal(line + n - 4, "...\n");
		assert_ptr_equal(strchr(line, '\n'), line + n - 1);
	}
}

static void test_limit(void **state)
{
	(void)state;
	struct diag_limit limit = {0}, other = {0};
	catch_stderr();
	for (int i = 0; i < 10; i++)
		diag_limited(&limit, 60000, DIAG_NOTICE, "flood %d", i);
	diag_limited(&other, 60000, DIAG_NOTICE, "other");
	limit.next_ns = 1; /* the interval is over */
	diag_limited(&limit, 60000, DIAG_NOTICE, "flood again");
	limit.next_ns = 1;
	diag_limited(&limit, 60000, DIAG_NOTICE, "flood at last");
	assert_string_equal(release_stderr(), "spoolfs: notice: flood 0\nspoolfs: notice: other\n"
			"spoolfs: notice: flood again (9 more like it left out)\nspoolfs: notice: flood at last\n");
}

static void test_limit_does_not_count_what_the_level_drops(void **state)
{
	(void)state;
	struct diag_limit limit = {0};
	catch_stderr();
	for (int i = 0; i < 10; i++)
		diag_limited(&limit, 60000, DIAG_DEBUG, "dropped");
	diag_limited(&limit, 0, DIAG_NOTICE, "kept");
	diag_limited(&limit, 0, DIAG_NOTICE, "no interval");
	assert_string_equal(release_stderr(), "spoolfs: notice: kept\nspoolfs: notice: no interval\n");
}

enum { THREADS = 6, LINES = 400 };

static struct diag_limit shared_limit;

static void *flood(void *arg)
{
	(void)arg;
	for (int i = 0; i < LINES; i++)
		diag_limited(&shared_limit, 60000, DIAG_NOTICE, "flood");
	return NULL;
}

static void run_threads(void *(*fn)(void *))
{
	pthread_t threads[THREADS];
	for (uintptr_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, fn, (void *)i), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
}

static void test_limit_over_threads(void **state)
{
	(void)state;
	catch_stderr();
	run_threads(flood);
	shared_limit.next_ns = 1;
	diag_limited(&shared_limit, 60000, DIAG_NOTICE, "end");
	char expect[200];
	snprintf(expect, sizeof expect, "spoolfs: notice: flood\nspoolfs: notice: end (%d more like it left out)\n", THREADS * LINES - 1);
	assert_string_equal(release_stderr(), expect);
}

/* --- files --- */

static char dir[64], path[100], old_path[100];

static int make_dir(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/spoolfs-test-diag-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof path, "%s/spoolfs.log", dir);
	snprintf(old_path, sizeof old_path, "%s/spoolfs.log.1", dir);
	return 0;
}

static int remove_all(void **state)
{
	(void)state;
	char command[100];
	snprintf(command, sizeof command, "rm -rf %s", dir);
	return system(command);
}

/* Checks that each line of the file has a time, and takes it off; returns the number of lines, their text in `text`. */
static int read_log(const char *from)
{
	static char line[9000];
	FILE *f = fopen(from, "r");
	assert_non_null(f);
	int lines = 0;
	size_t n = 0;
	for (; fgets(line, sizeof line, f); lines++) {
		struct tm tm;
		char *end = strptime(line, "%Y-%m-%dT%H:%M:%S", &tm);
		assert_non_null(end);
		assert_int_equal(*end, '.');
		assert_memory_equal(end + 4, "Z ", 2);
		assert_true(llabs(timegm(&tm) - time(NULL)) < 600);
		if (n < sizeof text - 9000)
			n += (size_t)sprintf(text + n, "%s", end + 6);
	}
	text[n] = '\0';
	fclose(f);
	return lines;
}

static void test_stderr_that_is_a_file_has_times(void **state)
{
	(void)state;
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	int saved = dup(STDERR_FILENO);
	dup2(fd, STDERR_FILENO);
	diag_notice("hello");
	dup2(saved, STDERR_FILENO);
	close(saved);
	close(fd);
	assert_int_equal(read_log(path), 1);
	assert_string_equal(text, "spoolfs: notice: hello\n");
	unlink(path);
}

static void test_background_without_a_place_stays_on_stderr(void **state)
{
	(void)state;
	catch_stderr();
	diag_to_background("spoolfs", NULL);
	diag_notice("one");
	diag_to_background("spoolfs", "/nonexistent/spoolfs.log");
	diag_notice("two");
	assert_string_equal(release_stderr(), "spoolfs: notice: one\nspoolfs: notice: two\n");
}

static void test_background_file(void **state)
{
	(void)state;
	catch_stderr();
	diag_to_background("spoolfs", path); /* no syslog answers */
	diag_notice("one");
	diag_error("t\nwo");
	assert_string_equal(release_stderr(), "");
	assert_int_equal(read_log(path), 2);
	assert_string_equal(text, "spoolfs: notice: one\nspoolfs: error: t\\nwo\n");
	struct stat st;
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07, 0);
}

static void test_background_file_is_appended_to(void **state)
{
	(void)state;
	syslog_is_there = true;
	diag_to_background(NULL, path); /* and syslog not asked for */
	syslog_is_there = false;
	diag_notice("three");
	assert_int_equal(read_log(path), 3);
}

static void *write_lines(void *arg)
{
	static const char filler[200] = {[0 ... 198] = 'f'};
	for (int i = 0; i < LINES; i++)
		diag_notice("thread %d line %d %s end", (int)(uintptr_t)arg, i, filler);
	return NULL;
}

static void test_threads_do_not_mix_lines_and_files_turn(void **state)
{
	(void)state;
	struct stat st;
	int lines = read_log(path), turned = 0;
	for (int round = 0; round < 5; round++) {
		run_threads(write_lines);
		lines += THREADS * LINES;
		assert_int_equal(stat(path, &st), 0);
		assert_true(st.st_size <= 1 << 20);
		if (stat(old_path, &st))
			continue;
		turned++;
		assert_true(st.st_size <= 1 << 20);
		assert_true(st.st_size > (1 << 20) - 1000);
		assert_true(read_log(path) + read_log(old_path) <= lines);
		/* each line whole: read_log checked how it begins */
		for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
			if (strstr(line, "thread"))
				assert_string_equal(line + strlen(line) - 4, " end");
	}
	assert_true(turned > 2);
}

static void test_syslog_where_it_answers(void **state)
{
	(void)state;
	int lines = read_log(path);
	syslog_is_there = true;
	diag_to_background("spoolfs-mount", path);
	diag_warning("to\nsyslog 100%%");
	assert_string_equal(syslog_ident, "spoolfs-mount");
	assert_string_equal(syslog_text, "to\\nsyslog 100%");
	assert_int_equal(syslog_priority, LOG_WARNING);
	diag_error("e");
	assert_int_equal(syslog_priority, LOG_ERR);
	assert_int_equal(read_log(path), lines);
}

int main(void)
{
	/* In this order: there is no way back from the background. */
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_line_on_stderr),
		cmocka_unit_test(test_levels),
		cmocka_unit_test(test_text_stays_one_line_and_harmless),
		cmocka_unit_test(test_long_text_is_cut),
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_limit_does_not_count_what_the_level_drops),
		cmocka_unit_test(test_limit_over_threads),
		cmocka_unit_test(test_stderr_that_is_a_file_has_times),
		cmocka_unit_test(test_background_without_a_place_stays_on_stderr),
		cmocka_unit_test(test_background_file),
		cmocka_unit_test(test_background_file_is_appended_to),
		cmocka_unit_test(test_threads_do_not_mix_lines_and_files_turn),
		cmocka_unit_test(test_syslog_where_it_answers),
	};
	return cmocka_run_group_tests(tests, make_dir, remove_all);
}
