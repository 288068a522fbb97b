#include "tests/unit/broker_fixture.h"

#include "cluster/producer_ids.h"

/* Producer ids: given once, whatever crashes, and above all that logs hold. */

struct asked { struct init_producer_id r; pthread_mutex_t lock; pthread_cond_t cond; bool answered; };

static void answered(struct init_producer_id *r)
{
	struct asked *a = (struct asked *)r;
	pthread_mutex_lock(&a->lock);
	a->answered = true;
	pthread_cond_signal(&a->cond);
	pthread_mutex_unlock(&a->lock);
}

static int ask_for(struct init_producer_id *r)
{
	struct asked a = {.r = *r, .lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
	a.r.done = answered;
	producer_ids_init(b, &a.r);
	pthread_mutex_lock(&a.lock);
	while (!a.answered)
		pthread_cond_wait(&a.cond, &a.lock);
	pthread_mutex_unlock(&a.lock);
	*r = a.r;
	return r->code;
}

/* A new id, or the error. */
static int64_t new_id(void)
{
	struct init_producer_id r = {.producer_id = -1, .producer_epoch = -1};
	int code = ask_for(&r);
	err = r.err;
	assert_int_equal(r.producer_epoch, code ? -1 : 0);
	return code ? code : r.producer_id;
}

static int append_as(struct partition *p, int64_t id, int32_t sequence, int64_t timestamp_ms)
{
	struct wait w;
	struct batch_style style = {.max_batch_bytes = 1 << 20, .producer_id = id, .base_sequence = sequence};
	static char value[1000];
	struct record_in r = {.value = value, .value_len = sizeof value, .timestamp_ms = timestamp_ms};
	wait_init(&w);
	memset(value, 'x', sizeof value);
	assert_int_equal(record_set_add_records(&w.set, &style, 0, &r, 1, &err), 0);
	w.a.acks = ACKS_LEADER;
	w.a.done = appended;
	partition_append(p, &w.a);
	int code = finish_append(&w);
	wait_release(&w);
	return code;
}

static void ids_path(char path[200])
{
	snprintf(path, 200, "%s/producer-id-checkpoint", data);
}

static void remove_file(const char *dir, const char *name)
{
	char path[200];
	snprintf(path, sizeof path, "%s/%s", dir, name);
	unlink(path);
}

/* ---- requests ---- */

static void test_requests(void **state)
{
	(void)state;
	static const struct { const char *transactional_id; int64_t id; int16_t epoch; int code; } cases[] = {
		{NULL, -1, -1, 0}, {NULL, 4, 7, 0}, {NULL, 4, -1, ERR_INVALID}, {NULL, -1, 0, ERR_INVALID}, {"", -1, -1, ERR_INVALID},
		{"t", -1, -1, ERR_UNSUPPORTED}, {"t", 4, 7, ERR_UNSUPPORTED}, {"t", 4, -1, ERR_INVALID}, {NULL, 0, INT16_MAX, 0},
	};
	open_broker();
	int64_t next = 0;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct init_producer_id r = {.transactional_id = cases[i].transactional_id, .producer_id = cases[i].id, .producer_epoch = cases[i].epoch};
		assert_int_equal(ask_for(&r), cases[i].code);
		assert_int_equal(r.producer_id, cases[i].code ? -1 : next++);
		assert_int_equal(r.producer_epoch, cases[i].code ? -1 : 0);
		assert_true(!r.code || r.err.text[0]);
	}
	for (int i = 0; i < 3500; i++) /* over blocks */
		assert_int_equal(new_id(), next++);
	close_broker();
	open_broker();
	assert_int_equal(new_id(), 4000); /* the rest of a block is gone */
	close_broker();
}

static void test_a_mount_writes_no_file(void **state)
{
	(void)state;
	char path[200];
	open_broker();
	topic_unref(create("t", 1));
	struct partition *p = use("t", 0);
	say(p, "a line\n");
	done_with(p);
	close_broker();
	ids_path(path);
	assert_int_equal(access(path, F_OK), -1);
}

enum { ASKERS = 6, EACH = 1500 };

static int by_value(const void *x, const void *y)
{
	int64_t a = *(const int64_t *)x, c = *(const int64_t *)y;
	return a < c ? -1 : a > c;
}

/* ids: n of them. */
static void expect_all_different(int64_t *id, size_t n)
{
	qsort(id, n, sizeof *id, by_value);
	assert_true(n == 0 || id[0] >= 0);
	for (size_t i = 1; i < n; i++)
		if (id[i] == id[i - 1])
			fail_msg("%" PRId64 " was given twice", id[i]);
}

static void *ask_many(void *arg)
{
	int64_t *id = arg;
	for (int i = 0; i < EACH; i++) {
		struct init_producer_id r = {.producer_id = -1, .producer_epoch = -1};
		id[i] = ask_for(&r) ? -1 : r.producer_id;
	}
	return NULL;
}

static void test_many_ask(void **state)
{
	(void)state;
	static int64_t id[ASKERS * EACH];
	pthread_t thread[ASKERS];
	open_broker();
	for (int i = 0; i < ASKERS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, ask_many, id + i * EACH), 0);
	for (int i = 0; i < ASKERS; i++)
		pthread_join(thread[i], NULL);
	expect_all_different(id, ASKERS * EACH);
	assert_int_equal(id[ASKERS * EACH - 1], ASKERS * EACH - 1); /* and none left out */
	close_broker();
}

/* ---- ids of others ---- */

static void test_above_those_of_requests(void **state)
{
	(void)state;
	open_broker();
	topic_unref(create("t", 1));
	struct partition *p = use("t", 0);
	assert_int_equal(new_id(), 0);
	assert_int_equal(append_as(p, 500, 0, wall_now_ms()), 0);
	assert_int_equal(new_id(), 501);
	assert_int_equal(append_as(p, 1000000, 0, wall_now_ms()), 0);
	assert_int_equal(new_id(), 1000001);
	assert_int_equal(append_as(p, 5000000, 0, wall_now_ms()), 0);
	done_with(p);
	close_broker();
	open_broker(); /* nothing of it is opened, and yet */
	assert_int_equal(new_id(), 5000001);
	p = use("t", 0);
	assert_int_equal(append_as(p, INT64_MAX, 0, wall_now_ms()), 0); /* nobody got that one by counting */
	assert_int_equal(append_as(p, INT64_C(1) << 62, 0, wall_now_ms()), 0);
	assert_int_equal(new_id(), 5000002);
	assert_int_equal(append_as(p, (INT64_C(1) << 62) - 1, 0, wall_now_ms()), 0);
	assert_int_equal(new_id(), INT64_C(1) << 62);
	done_with(p);
	close_broker();
	open_broker();
	assert_int_equal(new_id(), (INT64_C(1) << 62) + 1000);
	close_broker();
}

/* Ids that no snapshot has any more are in the log all the same. */
static void make_old_log(void)
{
	set_conf("log.segment.bytes=16384");
	open_broker();
	topic_unref(create("t", 2));
	struct partition *p = use("t", 1);
	for (int i = 0; i < 100; i++)
		assert_int_equal(append_as(p, i == 30 ? 7777 : 10 + i, 0, i == 30 ? 1000 : wall_now_ms()), 0);
	done_with(p);
	close_broker();
	open_broker(); /* 7777 expires */
	p = use("t", 1);
	for (int i = 0; i < 60; i++)
		assert_int_equal(append_as(p, 200 + i, 0, wall_now_ms()), 0);
	done_with(p);
	close_broker();
}

static void remove_ours(void)
{
	remove_file(data, VIEW_START_FILE);
	remove_file(data, PARTITION_STATE_FILE);
	remove_file(data, RESERVE_FILE);
}

static void test_above_those_of_another_directory(void **state)
{
	(void)state;
	make_old_log();
	remove_ours();
	remove_file(data, "producer-id-checkpoint");
	for (int i = 0; i < 3; i++) { /* opened several times before anybody asks */
		open_broker();
		close_broker();
	}
	open_broker();
	assert_int_equal(new_id(), 7778);
	close_broker();
	/* with the file, and the directory as Kafka left it: a file of ours that knows nothing of what Kafka gave meanwhile */
	char path[200];
	ids_path(path);
	const char text[] = "1\nnext 5\n";
	struct wr w;
	wr_init(&w, 0);
	wr_printf(&w, "%sdir %s\n", text, data);
	wr_printf(&w, "crc %08x\n", crc32c(0, w.data, w.len));
	spit(path, w.data, w.len);
	wr_release(&w);
	open_broker();
	assert_int_equal(new_id(), 5); /* it is believed */
	close_broker();
	for (int how = 0; how < 2; how++) {
		wr_init(&w, 0);
		wr_printf(&w, "%sdir %s\n", text, data);
		wr_printf(&w, "crc %08x\n", crc32c(0, w.data, w.len));
		spit(path, w.data, w.len);
		wr_release(&w);
		if (how) {
			remove_ours();
		} else {
			char marker[200];
			snprintf(marker, sizeof marker, "%s/" CLEAN_SHUTDOWN_FILE, data);
			spit(marker, "{\"version\":0,\"brokerEpoch\":3}", 29);
		}
		open_broker();
		close_broker();
		open_broker();
		assert_int_equal(new_id(), 7778);
		close_broker();
	}
	/* a log directory that comes along */
	char line[200];
	snprintf(line, sizeof line, "log.dirs=%s", other);
	assert_int_equal(rename(data, other), 0);
	remove_file(other, "producer-id-checkpoint");
	set_conf(line);
	open_broker();
	assert_int_equal(new_id(), 7778);
	close_broker();
}

static void test_damaged_file(void **state)
{
	(void)state;
	char path[200], *text;
	size_t n;
	ids_path(path);
	open_broker();
	assert_int_equal(new_id(), 0);
	close_broker();
	text = slurp(path, &n);
	for (size_t i = 0; i <= n; i++) {
		char *copy = malloc(n);
		memcpy(copy, text, n);
		if (i < n)
			copy[i] ^= 0x11;
		spit(path, copy, i < n ? n : n / 2);
		free(copy);
		diag_set_level(DIAG_ERROR);
		int rc = try_open();
		if (i == 0 && rc == ERR_VERSION) /* a first digit that is a greater one */
			continue;
		assert_int_equal(rc, 0);
		int64_t id = new_id();
		if (id < 1000000)
			fail_msg("byte %zu: %" PRId64, i, id);
		close_broker();
	}
	spit(path, "2\nnext 5\ncrc 00000000\n", 22);
	assert_int_equal(try_open(), ERR_VERSION);
	free(text);
}

/* ---- crashes ---- */

static int crash_at;
static _Atomic int calls_made; /* threads of the pool and this one */
static bool cut_short;
static _Atomic bool crash_next;

static ssize_t crash(void *arg, enum io_call call, const char *name, int fd, size_t bytes)
{
	(void)arg, (void)name, (void)fd;
	if (crash_next)
		_exit(42);
	if (++calls_made != crash_at)
		return 0;
	if (!cut_short || call != IO_WRITE || bytes < 2)
		_exit(42);
	crash_next = true;
	return (ssize_t)(bytes / 2);
}

static _Noreturn void give_and_crash(int to, int at)
{
	crash_at = at > 0 ? at : -at;
	cut_short = at < 0;
	set_conf("num.recovery.threads.per.data.dir=1");
	io_set_hook(crash, NULL);
	if (try_open() < 0)
		_exit(1);
	for (int i = 0; i < 1300; i++) {
		int64_t id = new_id();
		if (id < 0)
			_exit(2);
		if (i % 650 && i % 649)
			continue;
		if (write(to, &id, sizeof id) != sizeof id)
			_exit(3);
	}
	if (broker_close(b, &err) < 0)
		_exit(4);
	_exit(0);
}

static int run_child(int to, int at)
{
	char fd[20], number[20];
	int status;
	snprintf(fd, sizeof fd, "%d", to);
	snprintf(number, sizeof number, "%d", at);
	pid_t pid = fork();
	if (pid == 0) {
		execl("/proc/self/exe", "test_producer_ids", "crash", root, fd, number, (char *)NULL);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* At every system call, with a write whole or half done: what was given is never given again. */
static void test_crash_at_every_call(void **state)
{
	(void)state;
	static int64_t id[100000];
	size_t n = 0;
	int fds[2], rounds = 0;
	open_broker();
	topic_unref(create("t", 1));
	struct partition *p = use("t", 0);
	assert_int_equal(append_as(p, 70, 0, wall_now_ms()), 0);
	done_with(p);
	close_broker();
	assert_int_equal(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
	int to = dup(fds[1]);
	for (int sign = 1; sign >= -1; sign -= 2) {
		for (int at = 1;; at++, rounds++) {
			int status = run_child(to, sign * at);
			for (ssize_t got; n < 100000 && (got = read(fds[0], id + n, (100000 - n) * sizeof *id)) > 0;)
				n += (size_t)got / sizeof *id;
			if (status == 0)
				break;
			assert_int_equal(status, 42);
		}
	}
	assert_true(rounds > 50 && n > 50);
	close(to), close(fds[0]), close(fds[1]);
	expect_all_different(id, n);
	assert_true(id[0] > 70);
}

/* ---- failing calls ---- */

static ssize_t fail_once(void *arg, enum io_call call, const char *name, int fd, size_t bytes)
{
	(void)fd, (void)bytes;
	if (call == IO_STAT || (name && !strstr(name, "producer-id") && call != IO_SYNC && call != IO_WRITE))
		return 0;
	return ++calls_made == crash_at ? *(int *)arg : 0;
}

static void test_faults(void **state)
{
	(void)state;
	static int64_t id[10000];
	static int errnums[] = {-EIO, -ENOSPC};
	size_t n = 0;
	open_broker();
	int failed = 0;
	for (int k = 0; k < 2; k++) {
		for (int at = 1; at < 12; at++) {
			/* to the end of a block */
			while (n < 9000 && (id[n] = new_id()) % 1000 != 999)
				n++;
			n++;
			calls_made = 0;
			crash_at = at;
			io_set_hook(fail_once, &errnums[k]);
			int64_t got = new_id();
			io_set_hook(NULL, NULL);
			if (got < 0) {
				failed++;
				assert_true(got == ERR_IO || got == ERR_NO_SPACE);
				assert_non_null(strstr(err.text, "producer-id"));
			} else {
				id[n++] = got;
			}
			if (n > 8000)
				n = 0; /* only the room for them */
			id[n++] = new_id();
		}
	}
	assert_true(failed > 4);
	expect_all_different(id, n);
	close_broker();
}

int main(int argc, char **argv)
{
	if (argc == 5 && !strcmp(argv[1], "crash")) {
		snprintf(root, sizeof root, "%s", argv[2]);
		prepare();
		give_and_crash(atoi(argv[3]), atoi(argv[4]));
	}
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_requests, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_mount_writes_no_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many_ask, setup, teardown),
		cmocka_unit_test_setup_teardown(test_above_those_of_requests, setup, teardown),
		cmocka_unit_test_setup_teardown(test_above_those_of_another_directory, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damaged_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_crash_at_every_call, setup, teardown),
		cmocka_unit_test_setup_teardown(test_faults, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
