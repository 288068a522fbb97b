#include "tests/unit/broker_fixture.h"

/* Partitions as the mount uses them: many threads at once. */

/* ---- the plain way ---- */

static void test_append_read_reopen(void **state)
{
	(void)state;
	open_broker();
	topic_unref(create("t", 2));
	struct partition *p = use("t", 0);
	struct visible v;
	assert_int_equal(partition_visible(p, &v, &err), 0);
	assert_int_equal(v.end_position, 0);
	say(p, "one\ntwo\n");
	assert_int_equal(try_say(p, "three\n", ACKS_ALL), 0);
	assert_int_equal(partition_visible(p, &v, &err), 0);
	assert_int_equal(v.end_offset, 3);
	assert_int_equal(v.end_position, 14);
	int64_t offset, position;
	assert_int_equal(partition_locate(p, 5, &offset, &position, &err), 0);
	assert_int_equal(offset, 1);
	assert_int_equal(position, 4);
	assert_int_equal(partition_locate(p, 14, &offset, &position, &err), 0);
	assert_int_equal(offset, 3);
	assert_int_equal(partition_locate(p, 15, &offset, &position, &err), ERR_OUT_OF_RANGE);
	assert_int_equal(partition_delete_before(p, 4, &err), ERR_OUT_OF_RANGE);
	assert_int_equal(partition_delete_before(p, 1, &err), 0);
	struct partition_state s;
	assert_int_equal(partition_describe(p, &s, &err), 0);
	assert_int_equal(s.high_watermark, 3);
	assert_true(s.online && s.isr_count == 1 && s.isr[0] == s.leader);
	done_with(p);
	expect("t", 0, "two\nthree\n");
	close_broker();
	for (int i = 0; i < 3; i++) {
		open_broker();
		expect("t", 0, "two\nthree\n");
		expect("t", 1, "");
		p = use("t", 0);
		assert_int_equal(partition_visible(p, &v, &err), 0);
		assert_int_equal(v.start_position, 4);
		done_with(p);
		close_broker();
	}
}

/* ---- many threads ---- */

enum { WRITERS = 6, LINES = 5000 };

struct crowd {
	struct partition *p;
	struct topic *t;
	_Atomic bool stop;
	_Atomic int writers;
	_Atomic size_t errors, read_bytes, woken, acked;
	int lines;
	bool deleting;
};

static void complain(struct crowd *c, const char *what, const struct err *e)
{
	if (c->errors++ < 5)
		print_error("%s: %s\n", what, e ? e->text : "");
}

struct writer { struct crowd *c; int number; };

/* Sends lines "<writer> <number> ...", several appends under way at a time, each its batch; in order. */
static void *write_lines(void *arg)
{
	enum { AHEAD = 4 };
	struct writer *w = arg;
	struct crowd *c = w->c;
	struct wait slot[AHEAD];
	int next = 0;
	for (int i = 0; i < AHEAD; i++)
		wait_init(&slot[i]);
	for (int i = 0; next < c->lines || i < AHEAD; i++) {
		struct wait *s = &slot[i % AHEAD];
		if (s->a.done) {
			if (finish_append(s) < 0)
				complain(c, "append", &s->a.err);
			else
				c->acked++;
			if (s->calls != 1)
				complain(c, "done was called twice", NULL);
			s->a.done = NULL;
		}
		if (next >= c->lines)
			continue;
		char text[4000];
		int n = 0, count = 1 + (next * 7 + w->number) % 9;
		for (int k = 0; k < count && next < c->lines; k++, next++)
			n += sprintf(text + n, "%d %d %.*s\n", w->number, next, (next * 13) % 200, "some payload that is repeated some payload that is repeated some payload that is repeated some "
				     "payload that is repeated some payload that is repeated some payload that is repeated some payload");
		start_append(c->p, s, text, (size_t)n, (w->number + next) % 5 == 0 ? ACKS_ALL : ACKS_LEADER);
	}
	for (int i = 0; i < AHEAD; i++) {
		if (slot[i].a.done && finish_append(&slot[i]) < 0)
			complain(c, "append", &slot[i].a.err);
		wait_release(&slot[i]);
	}
	c->writers--;
	return NULL;
}

struct order { int next[WRITERS]; char part[400]; size_t part_bytes; };

/* Lines come whole, and each writer's in its order. */
static void check_order(struct crowd *c, struct order *o, const char *text, size_t n, bool gaps)
{
	while (n) {
		const char *nl = memchr(text, '\n', n);
		size_t k = nl ? (size_t)(nl + 1 - text) : n;
		if (o->part_bytes + k >= sizeof o->part) {
			complain(c, "a line is too long", NULL);
			return;
		}
		memcpy(o->part + o->part_bytes, text, k);
		o->part_bytes += k;
		text += k;
		n -= k;
		if (!nl)
			return;
		o->part[o->part_bytes] = 0;
		o->part_bytes = 0;
		int writer, number;
		if (sscanf(o->part, "%d %d ", &writer, &number) != 2 || writer < 0 || writer >= WRITERS || (gaps || o->next[writer] < 0 ? number < o->next[writer] : number != o->next[writer]))
			complain(c, "a line is torn, lost, doubled or out of order", NULL);
		else
			o->next[writer] = number + 1;
	}
}

/* Follows the end: waits when there is nothing, and gives up waiting now and then. */
static void *follow(void *arg)
{
	struct crowd *c = arg;
	struct order o = {0};
	struct err e = ERR_INIT;
	struct sleeper s;
	struct partition_cursor *cursor = partition_cursor_new(c->p);
	char *buf = malloc(1 << 16);
	int64_t at = 0;
	sleeper_init(&s, c->p);
	for (size_t round = 0;; round++) {
		bool last = c->stop; /* before the look: then nothing comes behind it */
		ssize_t got = partition_read(c->p, cursor, at, buf, 1 + (round * 7919) % 65535, &e);
		if (got > 0) {
			check_order(c, &o, buf, (size_t)got, false);
			at += got;
			c->read_bytes += (size_t)got;
			continue;
		}
		if (got == ERR_OUT_OF_RANGE && c->deleting) { /* it fell behind; from the start that there is now, which is a line's */
			struct visible v;
			if (partition_visible(c->p, &v, &e) < 0)
				break;
			at = v.start_position;
			memset(&o, 0, sizeof o);
			for (int i = 0; i < WRITERS; i++)
				o.next[i] = -1;
			free(buf);
			buf = malloc(1 << 16);
			partition_cursor_rest(cursor);
			/* what follows is in order, only the beginning is unknown */
			while ((got = partition_read(c->p, cursor, at, buf, 1 << 16, &e)) > 0) {
				check_order(c, &o, buf, (size_t)got, true);
				at += got;
			}
			if (got < 0 && got != ERR_OUT_OF_RANGE) {
				complain(c, "read", &e);
				break;
			}
			if (last)
				break;
			continue;
		}
		if (got < 0) {
			complain(c, "read", &e);
			break;
		}
		if (last)
			break;
		if (c->deleting)
			continue;
		sleeper_park(&s, at, 50);
		if (round % 3 == 0 && delayed_cancel(&s.d)) /* changes its mind */
			continue;
		c->woken += sleeper_wait(&s) == DELAYED_SATISFIED;
	}
	sleeper_release(&s);
	partition_cursor_free(cursor);
	free(buf);
	return NULL;
}

struct flushing { struct flush f; _Atomic bool done; };

static void flushed(struct flush *f)
{
	((struct flushing *)f)->done = true;
}

/* Flushes, looks, changes limits, describes, all the time. */
static void *meddle(void *arg)
{
	struct crowd *c = arg;
	struct err e = ERR_INIT;
	for (int i = 0; !c->stop; i++) {
		struct visible v;
		struct partition_state s;
		char line[200];
		struct flushing f = {.f.done = flushed};
		if (i % 4 == 0) {
			partition_flush(c->p, &f.f);
			while (!f.done)
				usleep(200);
			if (f.f.code < 0)
				complain(c, "flush", &f.f.err);
		}
		if (partition_visible(c->p, &v, &e) < 0 || v.start_offset > v.end_offset || v.start_position > v.end_position)
			complain(c, "visible", &e);
		if (partition_describe(c->p, &s, &e) < 0 || s.high_watermark > s.leo)
			complain(c, "describe", &e);
		int n = snprintf(line, sizeof line, "segment.bytes=%d\nsegment.index.bytes=%d\nindex.interval.bytes=%d\nflush.messages=%d\ncompression.type=%s\n", 16384 + i % 7 * 9000,
				 256 + i % 3 * 2000, i % 4 * 1500, 10 + i % 5 * 100, (const char *const[]){"uncompressed", "lz4", "zstd", "gzip", "snappy"}[i % 5]);
		if (topic_configure(c->t, line, (size_t)n, &e) < 0)
			complain(c, "configure", &e);
		if (c->deleting && v.end_offset > v.start_offset + 50) {
			int rc = i % 2 ? partition_delete_before(c->p, v.start_offset + (v.end_offset - v.start_offset) / 3, &e)
				       : partition_apply_retention(c->p, wall_now_ms(), &e);
			if (rc < 0)
				complain(c, "delete", &e);
			if (i % 5 == 0 && partition_remove_deleted(c->p, &e) < 0)
				complain(c, "remove", &e);
		}
		usleep(1000);
	}
	return NULL;
}

static void run_crowd(bool deleting, int lines)
{
	struct crowd c = {.writers = WRITERS, .lines = lines, .deleting = deleting};
	struct writer w[WRITERS];
	pthread_t writer[WRITERS], reader[3], meddler;
	set_conf("log.open.segments.max=16");
	set_conf("log.segment.delete.delay.ms=0");
	open_broker();
	c.t = create("t", 1);
	if (deleting)
		assert_int_equal(topic_configure(c.t, "retention.bytes=50000\nfile.delete.delay.ms=0\n", 43, &err), 0);
	c.p = use("t", 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&reader[i], NULL, follow, &c), 0);
	assert_int_equal(pthread_create(&meddler, NULL, meddle, &c), 0);
	for (int i = 0; i < WRITERS; i++) {
		w[i] = (struct writer){&c, i};
		assert_int_equal(pthread_create(&writer[i], NULL, write_lines, &w[i]), 0);
	}
	for (int i = 0; i < WRITERS; i++)
		pthread_join(writer[i], NULL);
	c.stop = true;
	pthread_join(meddler, NULL);
	for (int i = 0; i < 3; i++)
		pthread_join(reader[i], NULL);
	assert_int_equal(c.errors, 0);
	for (int round = 0; round < 3; round++) { /* now, after a clean stop, and again */
		struct visible v;
		int64_t n;
		assert_int_equal(partition_visible(c.p, &v, &err), 0);
		assert_int_equal(v.end_offset, WRITERS * lines);
		if (!deleting)
			assert_int_equal(c.read_bytes, 3 * v.end_position);
		char *text = all_of(c.p, &n);
		struct order o = {0};
		check_order(&c, &o, text, (size_t)n, deleting);
		for (int i = 0; i < WRITERS && !deleting; i++)
			assert_int_equal(o.next[i], lines);
		free(text);
		assert_int_equal(c.errors, 0);
		done_with(c.p);
		if (round == 0)
			topic_unref(c.t);
		if (round == 2)
			break;
		close_broker();
		open_broker();
		c.p = use("t", 0);
	}
}

static void test_crowd(void **state)
{
	(void)state;
	run_crowd(false, LINES);
}

static void test_crowd_and_retention(void **state)
{
	(void)state;
	run_crowd(true, LINES);
}

/* ---- taking back ---- */

static void *append_slot(void *arg)
{
	struct wait *w = arg;
	start_append(use("t", 0), w, "line 0\n", 7, ACKS_LEADER);
	return NULL;
}

static bool is_taken(struct partition *p)
{
	pthread_mutex_lock(&p->queue_lock);
	bool taken = p->appending && !p->append_head;
	pthread_mutex_unlock(&p->queue_lock);
	return taken;
}

/* What is taken back while it is queued is not in the log; what was taken along by the appender already is; and done is called once, for either. */
static void test_cancel(void **state)
{
	(void)state;
	enum { N = 100 };
	struct wait *slot = calloc(N, sizeof *slot);
	pthread_t thread;
	char text[30], want[2000] = "first\nline 0\n";
	open_broker();
	topic_unref(create("t", 1));
	struct partition *p = use("t", 0);
	say(p, "first\n");
	for (int i = 0; i < N; i++)
		wait_init(&slot[i]);
	pthread_mutex_lock(&p->log_lock); /* the appender gets no further than this */
	assert_int_equal(pthread_create(&thread, NULL, append_slot, &slot[0]), 0);
	while (!is_taken(p))
		usleep(100);
	for (int i = 1; i < N; i++) {
		sprintf(text, "line %d\n", i);
		start_append(p, &slot[i], text, strlen(text), i % 3 ? ACKS_LEADER : ACKS_ALL);
	}
	assert_false(partition_append_cancel(p, &slot[0].a));
	for (int i = 1; i < N; i++)
		if (i % 2 || i == N - 1 || i == 2) {
			assert_true(partition_append_cancel(p, &slot[i].a));
			assert_false(partition_append_cancel(p, &slot[i].a));
			assert_int_equal(slot[i].calls, 1);
			assert_int_equal(slot[i].a.code, ERR_INTERRUPTED);
		} else {
			sprintf(want + strlen(want), "line %d\n", i);
		}
	start_append(p, &slot[2], "line 2 again\n", 13, ACKS_LEADER); /* the queue's end was taken away: it goes on */
	strcat(want, "line 2 again\n");
	pthread_mutex_unlock(&p->log_lock);
	pthread_join(thread, NULL);
	for (int i = 0; i < N; i++) {
		finish_append(&slot[i]);
		assert_int_equal(slot[i].calls, 1);
		assert_false(partition_append_cancel(p, &slot[i].a));
		wait_release(&slot[i]);
	}
	free(slot);
	done_with(p);
	expect("t", 0, want);
	done_with(p); /* append_slot's */
}

/* ---- deleting a topic that is in use ---- */

static void *write_until_deleted(void *arg)
{
	struct crowd *c = arg;
	struct wait w;
	wait_init(&w);
	for (;;) {
		start_append(c->p, &w, "a line of some length\n", 22, c->writers++ % 2 ? ACKS_ALL : ACKS_LEADER);
		int code = finish_append(&w);
		if (code == ERR_DELETED)
			break;
		if (code < 0) {
			complain(c, "append", &w.a.err);
			break;
		}
	}
	wait_release(&w);
	return NULL;
}

static void *read_until_deleted(void *arg)
{
	struct crowd *c = arg;
	struct err e = ERR_INIT;
	struct partition_cursor *cursor = partition_cursor_new(c->p);
	char buf[5000];
	int64_t at = 0;
	for (;;) {
		ssize_t got = partition_read(c->p, cursor, at, buf, sizeof buf, &e);
		if (got == ERR_DELETED)
			break;
		if (got < 0) {
			complain(c, "read", &e);
			break;
		}
		for (ssize_t i = 0; i < got; i++)
			if (buf[i] != "a line of some length\n"[(at + i) % 22])
				complain(c, "wrong bytes", NULL);
		at += got;
	}
	partition_cursor_free(cursor);
	return NULL;
}

/* Old handles get ERR_DELETED, and never what a new topic of the same name holds; that has nothing of the old one. */
static void test_delete_in_use(void **state)
{
	(void)state;
	set_conf("log.open.segments.max=16");
	set_conf("log.segment.bytes=16384");
	set_conf("log.segment.delete.delay.ms=0");
	open_broker();
	for (int round = 0; round < 12; round++) {
		struct crowd c = {.writers = 0};
		pthread_t thread[5];
		struct topic *t = create("t", 2);
		assert_int_equal(topic_configure(t, "retention.bytes=100000\n", 23, &err), 0);
		c.p = use("t", 0);
		assert_int_equal(pthread_create(&thread[0], NULL, write_until_deleted, &c), 0);
		assert_int_equal(pthread_create(&thread[1], NULL, write_until_deleted, &c), 0);
		assert_int_equal(pthread_create(&thread[2], NULL, read_until_deleted, &c), 0);
		assert_int_equal(pthread_create(&thread[3], NULL, read_until_deleted, &c), 0);
		assert_int_equal(pthread_create(&thread[4], NULL, sleep_for_ever, c.p), 0);
		usleep(3000 * (unsigned)round);
		struct partition *q = use("t", 1);
		say(q, "x\n");
		done_with(q);
		assert_int_equal(topics_delete(b, t, true, &err), ERR_NOT_EMPTY);
		assert_int_equal(topics_delete(b, t, false, &err), 0);
		assert_int_equal(topics_delete(b, t, false, &err), ERR_DELETED);
		topic_unref(create("t", 1)); /* the name is free at once */
		q = use("t", 0);
		say(q, "new\n");
		for (int i = 0; i < 5; i++)
			pthread_join(thread[i], NULL);
		assert_int_equal(c.errors, 0);
		assert_int_equal(partition_acquire(c.p, &err), ERR_DELETED);
		struct visible v;
		assert_int_equal(partition_visible(c.p, &v, &err), ERR_DELETED);
		done_with(c.p);
		topic_unref(t);
		expect("t", 0, "new\n");
		t = topics_find(b, "t");
		assert_int_equal(topics_delete(b, t, false, &err), 0);
		done_with(q);
		topic_unref(t);
	}
	close_broker();
	open_broker();
	assert_int_equal(topics_count(b), 0);
}

/* A topic may go while it is flushed: its files are not found then, which is no fault of the disk's. */
static struct topic *_Atomic doomed;

static ssize_t delete_while_flushed(void *arg, enum io_call call, const char *name, int fd, size_t bytes)
{
	(void)arg;
	(void)fd;
	(void)bytes;
	struct err why = ERR_INIT;
	struct topic *t = call == IO_OPEN && !strcmp(name + strlen(name) - 4, "/t-0") ? atomic_exchange(&doomed, NULL) : NULL;
	if (t && topics_delete(b, t, false, &why) < 0)
		print_error("%s\n", why.text);
	return 0;
}

static void test_delete_while_flushed(void **state)
{
	(void)state;
	open_broker();
	struct topic *t = create("t", 1);
	struct partition *p = use("t", 0);
	say(p, "x\n"); /* its segment's name is not on disk yet */
	doomed = t;
	io_set_hook(delete_while_flushed, NULL);
	assert_int_equal(try_say(p, "x\n", ACKS_ALL), ERR_DELETED);
	assert_null(doomed);
	done_with(p);
	topic_unref(t);
	assert_int_equal(broker_offline_dirs(b), 0);
	topic_unref(create("t", 1));
	p = use("t", 0);
	say(p, "new\n");
	done_with(p);
	close_broker();
	io_set_hook(NULL, NULL);
}

/* ---- opened and closed all the time ---- */

static void *close_idle(void *arg)
{
	struct crowd *c = arg;
	struct err e = ERR_INIT;
	for (int i = 0; !c->stop; i++) {
		struct partition *p = topic_partition(c->t, i % 4);
		if (!partition_close_idle(p, INT64_MAX, &e) && e.code)
			complain(c, "close", &e);
		if (i % 16 == 0 && broker_checkpoint(b, &b->dir[0], false, &e) < 0)
			complain(c, "checkpoint", &e);
		partition_unref(p);
		usleep(300);
	}
	return NULL;
}

static void *come_and_go(void *arg)
{
	struct writer *w = arg;
	struct crowd *c = w->c;
	struct err e = ERR_INIT;
	struct wait wt;
	wait_init(&wt);
	for (int i = 0; i < c->lines; i++) {
		struct partition *p = topic_partition(c->t, (w->number + i) % 4);
		char text[100];
		int n = sprintf(text, "%d %d x\n", w->number, i);
		if (partition_acquire(p, &e) < 0) {
			complain(c, "acquire", &e);
			partition_unref(p);
			continue;
		}
		start_append(p, &wt, text, (size_t)n, i % 7 ? ACKS_LEADER : ACKS_ALL);
		if (finish_append(&wt) < 0)
			complain(c, "append", &wt.a.err);
		if (i % 5 == 0) {
			struct visible v;
			char last[64] = "";
			struct partition_cursor *cursor = partition_cursor_new(p);
			if (partition_visible(p, &v, &e) < 0 || partition_read(p, cursor, v.end_position - 2, last, 2, &e) != 2 || strcmp(last, "x\n"))
				complain(c, "read", &e);
			partition_cursor_free(cursor);
		}
		partition_release(p);
		partition_unref(p);
	}
	wait_release(&wt);
	return NULL;
}

static void test_idle_close(void **state)
{
	(void)state;
	struct crowd c = {.lines = 500};
	struct writer w[4];
	pthread_t thread[4], closer;
	open_broker();
	c.t = create("t", 4);
	assert_int_equal(pthread_create(&closer, NULL, close_idle, &c), 0);
	for (int i = 0; i < 4; i++) {
		w[i] = (struct writer){&c, i};
		assert_int_equal(pthread_create(&thread[i], NULL, come_and_go, &w[i]), 0);
	}
	for (int i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	c.stop = true;
	pthread_join(closer, NULL);
	assert_int_equal(c.errors, 0);
	topic_unref(c.t);
	close_broker();
	open_broker();
	size_t lines = 0;
	for (int i = 0; i < 4; i++) {
		struct partition *p = use("t", i);
		int64_t n, next[4] = {0};
		char *text = all_of(p, &n), *save;
		for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save), lines++) {
			int writer, number;
			assert_int_equal(sscanf(line, "%d %d", &writer, &number), 2);
			assert_true(number >= next[writer]);
			next[writer] = number + 1;
		}
		free(text);
		done_with(p);
	}
	assert_int_equal(lines, 4 * 500);
}

/* A full disk: appends fail with that and nothing else, reading goes on, messages can be deleted, and when there is space again appends go on. */
static _Atomic bool full;

static ssize_t fill_disk(void *arg, enum io_call call, const char *name, int fd, size_t bytes)
{
	(void)arg;
	(void)name;
	(void)fd;
	return full && call == IO_WRITE ? (bytes > 1 ? (ssize_t)(bytes / 2) : -ENOSPC) : 0;
}

static void test_full_disk(void **state)
{
	(void)state;
	diag_set_level(DIAG_ERROR - 1);
	open_broker();
	topic_unref(create("t", 1));
	struct partition *p = use("t", 0);
	for (int i = 0; i < 20; i++)
		say(p, "there already\n");
	struct visible v, w;
	assert_int_equal(partition_visible(p, &v, &err), 0);
	full = true;
	io_set_hook(fill_disk, NULL);
	for (int i = 0; i < 5; i++)
		assert_int_equal(try_say(p, "no room\n", i % 2 ? ACKS_ALL : ACKS_LEADER), ERR_NO_SPACE);
	assert_int_equal(partition_visible(p, &w, &err), 0);
	assert_int_equal(v.end_offset, w.end_offset);
	assert_int_equal(v.bytes, w.bytes);
	int64_t n;
	free(all_of(p, &n));
	assert_int_equal(broker_offline_dirs(b), 0);
	full = false;
	say(p, "room\n");
	io_set_hook(NULL, NULL);
	assert_int_equal(partition_visible(p, &w, &err), 0);
	assert_int_equal(w.end_offset, v.end_offset + 1);
	done_with(p);
	close_broker();
	open_broker();
	p = use("t", 0);
	char *all = all_of(p, &n);
	assert_int_equal(strcmp(all + n - 5, "room\n"), 0);
	assert_null(strstr(all, "no room"));
	free(all);
	done_with(p);
	diag_set_level(DIAG_ERROR);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(test_append_read_reopen),
		T(test_crowd),
		T(test_crowd_and_retention),
		T(test_cancel),
		T(test_delete_in_use),
		T(test_delete_while_flushed),
		T(test_idle_close),
		T(test_full_disk),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
