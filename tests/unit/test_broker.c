#include "tests/unit/broker_fixture.h"

/* The broker: stops of every kind, many partitions, several directories, damaged checkpoints, failing system calls. */

/* ---- killed ---- */

static _Noreturn void append_and_tell(int to, int round)
{
	char line[200];
	int64_t told = 0, start = 0;
	set_conf("log.segment.bytes=30000");
	set_conf("log.flush.offset.checkpoint.interval.ms=100");
	open_broker();
	struct topic *t = topics_find(b, "t");
	struct partition *p = topic_partition(t, 0);
	if (partition_acquire(p, &err) < 0)
		_exit(1);
	struct wait w;
	wait_init(&w);
	for (int i = 0;; i++) {
		int n = 0, count = 1 + i % 5;
		char text[1000];
		for (int k = 0; k < count; k++)
			n += sprintf(text + n, "%d.%d.%d %.*s\n", round, i, k, (i * 31) % 100, "payload payload payload payload payload payload payload payload payload payload payload payload payload");
		start_append(p, &w, text, (size_t)n, i % 9 ? ACKS_LEADER : ACKS_ALL);
		if (finish_append(&w) < 0)
			_exit(2);
		told = w.a.base_offset + count;
		if (i % 50 == 49 && round % 2) {
			struct visible v;
			if (partition_visible(p, &v, &err) < 0 || partition_delete_before(p, v.start_offset + (v.end_offset - v.start_offset) / 2, &err) < 0)
				_exit(3);
			start = v.start_offset + (v.end_offset - v.start_offset) / 2;
		}
		n = sprintf(line, "%" PRId64 " %d %" PRId64 "\n", told, i, start);
		if (write(to, line, (size_t)n) != n)
			_exit(4);
	}
}

/* This program again, as a process of its own: a fork of one with threads could not start any. */
static pid_t run_child(const char *what, int to, int round)
{
	char fd[20], number[20];
	snprintf(fd, sizeof fd, "%d", to);
	snprintf(number, sizeof number, "%d", round);
	pid_t pid = fork();
	if (pid == 0) {
		execl("/proc/self/exe", "test_broker", what, root, fd, number, (char *)NULL);
		_exit(127);
	}
	return pid;
}

/* Killed under load again and again: every acknowledged record is there, in order, none is torn or doubled, and appends go on. */
static void test_kill(void **state)
{
	(void)state;
	set_conf("log.segment.bytes=30000");
	set_conf("log.flush.offset.checkpoint.interval.ms=100");
	open_broker();
	topic_unref(create("t", 1));
	close_broker();
	int64_t least = 0;
	for (int round = 0; round < 8; round++) {
		int fds[2];
		assert_int_equal(pipe(fds), 0);
		pid_t pid = run_child("append", fds[1], round);
		close(fds[1]);
		FILE *in = fdopen(fds[0], "r");
		char line[100];
		int64_t acked = 0, start = 0;
		int number = -1;
		for (int i = 0; i < 40 + round * 60 && fgets(line, sizeof line, in); i++)
			sscanf(line, "%" SCNd64 " %d %" SCNd64, &acked, &number, &start);
		kill(pid, SIGKILL);
		while (fgets(line, sizeof line, in))
			if (strchr(line, '\n'))
				sscanf(line, "%" SCNd64 " %d %" SCNd64, &acked, &number, &start);
		fclose(in);
		int status;
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		open_broker();
		struct partition *p = use("t", 0);
		struct visible v;
		int64_t n;
		assert_int_equal(partition_visible(p, &v, &err), 0);
		assert_true(v.end_offset >= acked && acked > least);
		assert_true(v.end_offset <= acked + 10); /* one append may have been under way */
		assert_true(v.start_offset >= start && (v.start_offset > 0) == (v.start_position > 0));
		char *text = all_of(p, &n), *save;
		int last[3] = {-1, -1, -1};
		int64_t lines = 0;
		for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save), lines++) {
			int r, i, k;
			if (!strncmp(l, "between ", 8)) {
				last[0] = atoi(l + 8);
				last[1] = last[2] = -1;
				continue;
			}
			assert_int_equal(sscanf(l, "%d.%d.%d ", &r, &i, &k), 3);
			if (lines && r == last[0] && last[1] >= 0)
				assert_true((i == last[1] && k == last[2] + 1) || (i == last[1] + 1 && k == 0));
			assert_int_equal(strlen(strchr(l, ' ')), 1 + (size_t)((i * 31) % 100));
			last[0] = r;
			last[1] = i;
			last[2] = k;
		}
		assert_int_equal(lines, v.end_offset - v.start_offset);
		assert_int_equal(last[0], round);
		assert_true(last[1] >= number);
		free(text);
		char between[30];
		sprintf(between, "between %d\n", round + 1);
		say(p, between);
		least = v.end_offset + 1;
		done_with(p);
		close_broker();
	}
}

/* ---- many partitions ---- */

static int count_one(void *arg, const char *name, unsigned char type)
{
	(void)name;
	(void)type;
	++*(int *)arg;
	return 0;
}

static int open_files(void)
{
	int n = 0;
	io_list("/proc/self/fd", count_one, &n);
	return n;
}

/* What exists costs no descriptor, what is used a bounded number. */
static void test_many_partitions(void **state)
{
	(void)state;
	enum { N = 2000 };
	set_conf("log.open.segments.max=32");
	int before = open_files();
	open_broker();
	topic_unref(create("many", N));
	assert_true(open_files() - before < 20);
	struct partition *held[200];
	for (int i = 0; i < 200; i++) {
		held[i] = use("many", i * 10);
		say(held[i], "x\n");
	}
	assert_true(open_files() - before < 4 * 40 + 20);
	for (int i = 0; i < 200; i++) {
		say(held[i], "y\n");
		done_with(held[i]);
	}
	assert_true(open_files() - before < 4 * 40 + 20);
	close_broker();
	assert_int_equal(open_files(), before);
	open_broker();
	assert_true(open_files() - before < 20); /* nothing was opened */
	struct topic *t = topics_find(b, "many");
	for (int i = 0; i < N; i++) { /* and a look at them opens nothing */
		struct visible v;
		struct partition *p = topic_partition(t, i);
		assert_int_equal(partition_visible(p, &v, &err), 0);
		assert_int_equal(v.end_position, i % 10 ? 0 : 4);
		assert_false(partition_has_open_log(p));
		partition_unref(p);
	}
	topic_unref(t);
	assert_true(open_files() - before < 20);
	expect("many", 1990, "x\ny\n");
	expect("many", 1991, "");
}

/* ---- what is not ours ---- */

/* Directories that only look as if are left alone, whatever they hold; those of deleted topics go, also when the broker was stopped before it came to that. */
static void test_foreign_names(void **state)
{
	(void)state;
	static const char *const dirs[] = {"do-not-delete", "backup-2024", "t-0.x-delete", "photos", "t-0-stray"};
	char path[300], deleted[300];
	set_conf("log.segment.delete.delay.ms=0");
	assert_int_equal(mkdir(data, 0755), 0);
	for (size_t i = 0; i < sizeof dirs / sizeof *dirs; i++) {
		snprintf(path, sizeof path, "%s/%s", data, dirs[i]);
		assert_int_equal(mkdir(path, 0755), 0);
		strcat(path, "/file");
		spit(path, "text", 4);
	}
	snprintf(deleted, sizeof deleted, "%s/t-0.0123456789abcdef0123456789abcdef-delete", data);
	assert_int_equal(mkdir(deleted, 0755), 0);
	snprintf(path, sizeof path, "%s/notes.txt", data);
	spit(path, "text", 4);
	for (int round = 0; round < 2; round++) {
		open_broker();
		assert_int_equal(topics_count(b), (size_t)round);
		if (round == 0)
			topic_unref(create("t", 1));
		for (int i = 0; i < 500 && access(deleted, F_OK) == 0; i++)
			usleep(10000);
		assert_true(access(deleted, F_OK) < 0);
		close_broker();
	}
	for (size_t i = 0; i < sizeof dirs / sizeof *dirs; i++) {
		snprintf(path, sizeof path, "%s/%s/file", data, dirs[i]);
		assert_int_equal(file_size(path), 4);
	}
}

/* ---- two directories ---- */

static const char *broken;

static ssize_t break_dir(void *arg, enum io_call call, const char *name, int fd, size_t bytes)
{
	(void)arg;
	(void)bytes;
	char path[PATH_MAX], link[64];
	if (!broken)
		return 0;
	if (!name) {
		snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
		ssize_t n = readlink(link, path, sizeof path - 1);
		if (n < 0)
			return 0;
		path[n] = 0;
		name = path;
	}
	return strncmp(name, broken, strlen(broken)) == 0 && call != IO_READ && call != IO_STAT ? -EIO : 0;
}

/* A directory that fails goes out of service; its partitions answer errors, whoever waits is told, and the other directory goes on. */
static void test_two_dirs(void **state)
{
	(void)state;
	char line[200];
	assert_int_equal(mkdir(data, 0755), 0);
	snprintf(line, sizeof line, "log.dirs=%s", other);
	set_conf(line);
	open_broker();
	assert_int_equal(b->dir_count, 2);
	struct topic *t = create("t", 6);
	struct partition *p[6];
	for (int i = 0; i < 6; i++) {
		p[i] = use("t", i);
		say(p[i], "before\n");
		assert_int_equal(try_say(p[i], "kept\n", ACKS_ALL), 0);
	}
	assert_int_equal(b->dir[0].partition_count, 3);
	assert_int_equal(b->dir[1].partition_count, 3);
	struct partition *waited = NULL;
	pthread_t waiting;
	for (int i = 0; i < 6; i++)
		if (p[i]->dir == &b->dir[1])
			waited = p[i];
	assert_int_equal(pthread_create(&waiting, NULL, sleep_for_ever, waited), 0);
	usleep(10000);
	broken = other;
	io_set_hook(break_dir, NULL);
	diag_set_level(DIAG_ERROR - 1);
	size_t failed = 0;
	for (int round = 0; round < 2; round++)
		for (int i = 0; i < 6; i++) {
			int rc = try_say(p[i], "after\n", i % 2 ? ACKS_ALL : ACKS_LEADER);
			if (p[i]->dir == &b->dir[1]) {
				assert_true(rc == ERR_IO || rc == ERR_OFFLINE);
				assert_true(strlen(err.text) > 10);
				failed++;
			} else {
				assert_int_equal(rc, 0);
			}
		}
	assert_int_equal(failed, 6);
	pthread_join(waiting, NULL); /* it was woken */
	assert_int_equal(broker_offline_dirs(b), 1);
	char buf[10];
	for (int i = 0; i < 6; i++) {
		struct partition_cursor *cursor = partition_cursor_new(p[i]);
		ssize_t got = partition_read(p[i], cursor, 0, buf, 7, &err);
		assert_int_equal(got, p[i]->dir == &b->dir[1] ? ERR_OFFLINE : 7);
		partition_cursor_free(cursor);
	}
	/* new partitions go to the one that is left */
	assert_int_equal(topic_add_partition(t, 6, &err), 0);
	struct partition *q = use("t", 6);
	assert_ptr_equal(q->dir, &b->dir[0]);
	say(q, "new\n");
	done_with(q);
	for (int i = 0; i < 6; i++)
		done_with(p[i]);
	topic_unref(t);
	broken = NULL;
	io_set_hook(NULL, NULL);
	assert_int_equal(broker_close(b, &err), ERR_IO); /* it tells that not all is well */
	b = NULL;
	/* mended: what was acknowledged is there */
	open_broker();
	for (int i = 0; i < 6; i++) {
		int64_t n;
		q = use("t", i);
		char *text = all_of(q, &n);
		assert_int_equal(strncmp(text, "before\nkept\n", 12), 0);
		assert_true(q->dir == &b->dir[1] || !strcmp(text, "before\nkept\nafter\nafter\n"));
		free(text);
		say(q, "again\n");
		done_with(q);
	}
	diag_set_level(DIAG_ERROR);
}

/* ---- damaged checkpoints ---- */

static char text_of[3][20000]; /* what the partitions hold */
static int64_t start_of[3];

static void fill(void)
{
	set_conf("log.segment.bytes=16384");
	open_broker();
	struct topic *t = create("t", 3);
	assert_int_equal(topic_configure(t, "retention.ms=-1\nsegment.ms=100000000\n", 37, &err), 0);
	topic_unref(t);
	for (int i = 0; i < 3; i++) {
		struct partition *p = use("t", i);
		char line[500];
		char *to = text_of[i];
		*to = 0;
		int64_t n = 0;
		for (int k = 0; k < 150; k++) {
			sprintf(line, "%d-%d %.*s\n", i, k, 200 + k, "................................................................................................................................................................................"
				"................................................................................................................................................................................................");
			say(p, line);
		}
		if (i)
			assert_int_equal(partition_delete_before(p, i == 1 ? 77 : 130, &err), 0);
		char *all = all_of(p, &n);
		assert_true((size_t)n < sizeof text_of[i] * 3);
		snprintf(text_of[i], sizeof text_of[i], "%.*s", (int)(n < 19000 ? n : 19000), all);
		struct visible v;
		assert_int_equal(partition_visible(p, &v, &err), 0);
		start_of[i] = v.start_position;
		free(all);
		done_with(p);
	}
}

/* Each partition: what it held, from where it began, or not there with a sentence. started: whether what was deleted may be back. */
static size_t check_filled(bool lost_start)
{
	size_t offline = 0;
	for (int i = 0; i < 3; i++) {
		struct topic *t = topics_find(b, "t");
		struct partition *p = t ? topic_partition(t, i) : NULL;
		topic_unref(t);
		assert_non_null(p);
		struct err e = ERR_INIT;
		if (partition_acquire(p, &e) < 0) {
			if (e.code != ERR_OFFLINE || strlen(e.text) < 20)
				fail_msg("partition %d: %s", i, e.text);
			partition_unref(p);
			offline++;
			continue;
		}
		struct visible v;
		int64_t n;
		assert_int_equal(partition_visible(p, &v, &e), 0);
		assert_int_equal(v.end_offset, 150);
		if (!lost_start || v.start_position >= start_of[i]) {
			assert_int_equal(v.start_position, start_of[i]);
			char *all = all_of(p, &n);
			assert_int_equal(strncmp(all, text_of[i], strlen(text_of[i])), 0);
			free(all);
		} else { /* messages that were deleted are back, at their old places */
			char buf[20000];
			struct partition_cursor *c = partition_cursor_new(p);
			ssize_t got = partition_read(p, c, start_of[i], buf, 19000, &e);
			assert_true(got > 0);
			assert_int_equal(strncmp(buf, text_of[i], (size_t)got), 0);
			partition_cursor_free(c);
		}
		partition_release(p);
		partition_unref(p);
	}
	return offline;
}

static char saved[100];

struct copying_tree { const char *from, *to; };

static int copy_entry(void *arg, const char *name, unsigned char type)
{
	struct copying_tree *c = arg;
	char from[PATH_MAX], to[PATH_MAX];
	snprintf(from, sizeof from, "%s/%s", c->from, name);
	snprintf(to, sizeof to, "%s/%s", c->to, name);
	if (type == DT_DIR) {
		copy_tree(from, to);
	} else {
		size_t n;
		char *bytes = slurp(from, &n);
		spit(to, bytes, n);
		free(bytes);
	}
	return 0;
}

static int clear_entry(void *arg, const char *name, unsigned char type)
{
	char path[PATH_MAX];
	snprintf(path, sizeof path, "%s/%s", (const char *)arg, name);
	return type == DT_DIR ? io_remove_dir(path) : -unlink(path);
}

/* A directory of files, and of directories of files. */
static void copy_data(const char *from, const char *to)
{
	struct copying_tree c = {from, to};
	if (mkdir(to, 0755) < 0)
		assert_int_equal(io_list(to, clear_entry, (void *)(uintptr_t)to), 0);
	assert_int_equal(io_list(from, copy_entry, &c), 0);
}

static void save_data(void)
{
	snprintf(saved, sizeof saved, "%s/saved", root);
	copy_data(data, saved);
}

static void restore_data(void)
{
	copy_data(saved, data);
}

static void damage_one(const char *name, bool lost_start, size_t most_offline, bool may_refuse)
{
	char path[300];
	size_t n = 0;
	snprintf(path, sizeof path, "%s/%s", saved, name);
	bool there = access(path, F_OK) == 0;
	char *good = there ? slurp(path, &n) : NULL;
	for (int how = 0; how < 24; how++) {
		restore_data();
		snprintf(path, sizeof path, "%s/%s", data, name);
		char *bytes = malloc(n + 100);
		if (n)
			memcpy(bytes, good, n);
		if (how == 0) {
			unlink(path);
		} else if (how == 1) {
			spit(path, "", 0);
		} else if (how == 2) {
			spit(path, "garbage \001\002\n more\n", 18);
		} else if (how == 3) {
			memset(bytes, 0, n + 50);
			spit(path, bytes, n + 50);
		} else if (how < 12) {
			spit(path, bytes, below(n + 1));
		} else if (n) {
			bytes[below(n)] ^= (char)(1 << below(7));
			spit(path, bytes, n);
		}
		free(bytes);
		int rc = try_open();
		if (rc < 0) {
			if (!may_refuse || strlen(err.text) < 20 || !(rc == ERR_CORRUPT || rc == ERR_VERSION || rc == ERR_OFFLINE || rc == ERR_INVALID))
				fail_msg("%s, damaged way %d: %s", name, how, err.text);
			continue;
		}
		size_t offline = check_filled(lost_start);
		if (offline > most_offline)
			fail_msg("%s, damaged way %d: %zu partitions are offline", name, how, offline);
		if (!offline) {
			struct partition *p = use("t", 0);
			say(p, "more\n");
			done_with(p);
		}
		close_broker();
	}
	free(good);
}

static void damage_each(void)
{
	diag_set_level(DIAG_ERROR - 1);
	damage_one(RECOVERY_POINT_FILE, false, 0, false);
	damage_one(LOG_START_FILE, false, 0, false);
	damage_one(HIGH_WATERMARK_FILE, false, 0, false);
	damage_one(PARTITION_STATE_FILE, false, 0, true);
	damage_one(VIEW_START_FILE, true, 0, true);
	damage_one(CLEAN_SHUTDOWN_FILE, false, 0, false);
	damage_one("meta.properties", false, 0, true);
	damage_one("t-1/partition.metadata", false, 0, false);
	damage_one("t-0/partition.metadata", false, 0, false);
	damage_one("t-1/leader-epoch-checkpoint", false, 0, false);
	damage_one("t-0/topic.properties", false, 0, false);
	diag_set_level(DIAG_ERROR);
}

static void test_damaged_checkpoints_clean(void **state)
{
	(void)state;
	fill();
	close_broker();
	save_data();
	damage_each();
}

/* Fills, and is killed: what it should hold is written down for the parent. */
static _Noreturn void fill_and_die(void)
{
	char path[200];
	fill();
	if (broker_checkpoint(b, &b->dir[0], false, &err) < 0)
		_exit(1);
	snprintf(path, sizeof path, "%s/texts", root);
	FILE *out = fopen(path, "w");
	if (fwrite(text_of, sizeof text_of, 1, out) != 1 || fwrite(start_of, sizeof start_of, 1, out) != 1 || fclose(out))
		_exit(2);
	kill(getpid(), SIGKILL);
	_exit(3);
}

/* The same after a kill: there is no marker, and the files are those of the last checkpoint. */
static void test_damaged_checkpoints_killed(void **state)
{
	(void)state;
	pid_t pid = run_child("fill", 1, 0);
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	set_conf("log.segment.bytes=16384");
	char path[200];
	size_t n;
	snprintf(path, sizeof path, "%s/texts", root);
	char *bytes = slurp(path, &n);
	assert_int_equal(n, sizeof text_of + sizeof start_of);
	memcpy(text_of, bytes, sizeof text_of);
	memcpy(start_of, bytes + sizeof text_of, sizeof start_of);
	free(bytes);
	save_data();
	damage_each();
}

/* ---- faults while the broker starts and stops ---- */

static _Atomic size_t seen;
static size_t fault_at;
static int fault_errno;

static ssize_t fail_one(void *arg, enum io_call call, const char *name, int fd, size_t bytes)
{
	(void)arg;
	(void)fd;
	(void)bytes;
	(void)name;
	if (seen++ != fault_at)
		return 0;
	if (fault_errno == ENOSPC && call != IO_WRITE && call != IO_OPEN && call != IO_MKDIR && call != IO_RENAME)
		return 0;
	return -fault_errno;
}

static void test_faults_at_start_and_stop(void **state)
{
	(void)state;
	static const int errnos[] = {ENOSPC, EIO, EMFILE};
	fill();
	close_broker();
	save_data();
	diag_set_level(DIAG_ERROR - 1);
	for (size_t k = 0; k < 3; k++)
		for (int stop = 0; stop < 2; stop++)
			for (fault_at = 0;; fault_at += 1 + below(2)) {
				restore_data();
				fault_errno = errnos[k];
				if (stop) {
					open_broker();
					struct partition *p = use("t", 0);
					say(p, "more\n");
					done_with(p);
				}
				seen = 0;
				io_set_hook(fail_one, NULL);
				int rc = stop ? broker_close(b, &err) : try_open();
				io_set_hook(NULL, NULL);
				bool hit = seen > fault_at;
				if (rc < 0)
					assert_true(strlen(err.text) > 10);
				if (!stop && rc == 0 && broker_close(b, &err) < 0)
					assert_true(strlen(err.text) > 10);
				open_broker();
				for (int i = 1; i < 3; i++) {
					struct partition *p = use("t", i);
					struct visible v;
					int64_t n;
					assert_int_equal(partition_visible(p, &v, &err), 0);
					assert_int_equal(v.end_offset, 150);
					assert_int_equal(v.start_position, start_of[i]);
					char *all = all_of(p, &n);
					assert_int_equal(strncmp(all, text_of[i], strlen(text_of[i])), 0);
					free(all);
					done_with(p);
				}
				struct partition *p = use("t", 0);
				struct visible v;
				assert_int_equal(partition_visible(p, &v, &err), 0);
				assert_int_equal(v.end_offset, 150 + stop);
				done_with(p);
				close_broker();
				if (!hit)
					break;
			}
	diag_set_level(DIAG_ERROR);
}

int main(int argc, char **argv)
{
	if (argc == 5) { /* see run_child */
		snprintf(root, sizeof root, "%s", argv[2]);
		prepare();
		if (!strcmp(argv[1], "append"))
			append_and_tell(atoi(argv[3]), atoi(argv[4]));
		fill_and_die();
	}
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(test_kill),
		T(test_many_partitions),
		T(test_foreign_names),
		T(test_two_dirs),
		T(test_damaged_checkpoints_clean),
		T(test_damaged_checkpoints_killed),
		T(test_faults_at_start_and_stop),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
