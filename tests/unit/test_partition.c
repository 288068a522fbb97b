#include "tests/unit/log_fixture.h"

#include <pthread.h>
#include <sys/wait.h>

#include "cluster/broker.h"
#include "cluster/model.h"
#include "cluster/topics.h"
#include "store/clock.h"

/* Partitions under a broker, as the mount uses them: many threads at once, stops of every kind, several directories, damaged checkpoints. */

static char root[64], data[100], other[100];
static struct conf_schema *schema;
static struct conf *conf;
static struct broker *b;
static struct err err;

static void prepare(void)
{
	const struct conf_property *tables[] = {store_properties, cluster_properties};
	snprintf(data, sizeof data, "%s/data", root);
	snprintf(other, sizeof other, "%s/other", root);
	schema = conf_schema_new(tables, 2);
	conf = conf_new(schema, NULL, CONF_BROKER);
	b = NULL;
	diag_set_level(DIAG_ERROR);
}

static int setup(void **state)
{
	(void)state;
	strcpy(root, access("/dev/shm", W_OK) == 0 ? "/dev/shm/spoolfs-part-XXXXXX" : "/tmp/spoolfs-part-XXXXXX");
	assert_non_null(mkdtemp(root));
	prepare();
	return 0;
}

static void set_conf(const char *line)
{
	if (conf_set_line(conf, line, &err) < 0)
		fail_msg("%s", err.text);
}

static int try_open(void)
{
	struct broker_options o = {.data = data, .conf = conf};
	err = (struct err)ERR_INIT;
	b = NULL;
	return broker_open(&b, &o, &err);
}

static void open_broker(void)
{
	if (try_open() < 0)
		fail_msg("broker_open: %s", err.text);
}

static void close_broker(void)
{
	if (b && broker_close(b, &err) < 0)
		fail_msg("broker_close: %s", err.text);
	b = NULL;
}

static int teardown(void **state)
{
	(void)state;
	io_set_hook(NULL, NULL);
	if (b)
		broker_close(b, NULL);
	b = NULL;
	conf_free(conf);
	conf_schema_free(schema);
	fx_remove_tree(root);
	return 0;
}

static struct topic *create(const char *name, int32_t partitions)
{
	struct topic *t;
	if (topics_create(b, name, partitions, NULL, &t, &err) < 0)
		fail_msg("topics_create: %s", err.text);
	return t;
}

/* Acquired and referenced; the topic's reference is let go. */
static struct partition *use(const char *name, int32_t index)
{
	struct topic *t = topics_find(b, name);
	assert_non_null(t);
	struct partition *p = topic_partition(t, index);
	assert_non_null(p);
	topic_unref(t);
	if (partition_acquire(p, &err) < 0)
		fail_msg("partition_acquire: %s", err.text);
	return p;
}

static void done_with(struct partition *p)
{
	partition_release(p);
	partition_unref(p);
}

/* ---- one append, waited for ---- */

struct wait { struct append a; struct record_set set; pthread_mutex_t lock; pthread_cond_t cond; int calls; };

static void wait_init(struct wait *w)
{
	memset(w, 0, sizeof *w);
	record_set_init(&w->set);
	w->a.set = &w->set;
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->cond, NULL);
}

static void wait_release(struct wait *w)
{
	record_set_release(&w->set);
	pthread_mutex_destroy(&w->lock);
	pthread_cond_destroy(&w->cond);
}

static void appended(struct append *a)
{
	struct wait *w = (struct wait *)a;
	pthread_mutex_lock(&w->lock);
	w->calls++;
	pthread_cond_signal(&w->cond);
	pthread_mutex_unlock(&w->lock);
}

static void start_append(struct partition *p, struct wait *w, const char *text, size_t n, enum acks acks)
{
	struct batch_style style;
	struct err e = ERR_INIT;
	size_t taken;
	topic_batch_style(partition_topic(p), &style);
	record_set_clear(&w->set);
	assert_int_equal(record_set_add_lines(&w->set, &style, text, n, wall_now_ms(), &taken, &e), 0);
	w->calls = 0;
	w->a.acks = acks;
	w->a.done = appended;
	w->a.err = (struct err)ERR_INIT;
	partition_append(p, &w->a);
}

static int finish_append(struct wait *w)
{
	pthread_mutex_lock(&w->lock);
	while (!w->calls)
		pthread_cond_wait(&w->cond, &w->lock);
	pthread_mutex_unlock(&w->lock);
	return w->a.code;
}

static int try_say(struct partition *p, const char *text, enum acks acks)
{
	struct wait w;
	wait_init(&w);
	start_append(p, &w, text, strlen(text), acks);
	int code = finish_append(&w);
	err = w.a.err;
	wait_release(&w);
	return code;
}

static void say(struct partition *p, const char *text)
{
	if (try_say(p, text, ACKS_LEADER) < 0)
		fail_msg("append: %s", err.text);
}

/* All that can be seen, NUL-terminated; to be freed. */
static char *all_of(struct partition *p, int64_t *n)
{
	struct visible v;
	struct err e = ERR_INIT;
	assert_int_equal(partition_visible(p, &v, &e), 0);
	*n = v.end_position - v.start_position;
	char *buf = malloc((size_t)*n + 1);
	struct log_cursor *c = partition_cursor_new(p);
	for (int64_t at = 0; at < *n;) {
		ssize_t got = partition_read(p, c, v.start_position + at, buf + at, (size_t)(*n - at), &e);
		if (got <= 0)
			fail_msg("partition_read: %zd, %s", got, e.text);
		at += got;
	}
	partition_cursor_free(c);
	buf[*n] = 0;
	return buf;
}

static void expect(const char *topic, int32_t index, const char *text)
{
	struct partition *p = use(topic, index);
	int64_t n;
	char *have = all_of(p, &n);
	assert_string_equal(have, text);
	free(have);
	done_with(p);
}

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

enum { WRITERS = 6, LINES = 1500 };

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
		if (sscanf(o->part, "%d %d ", &writer, &number) != 2 || writer < 0 || writer >= WRITERS || (gaps ? number < o->next[writer] : number != o->next[writer]))
			complain(c, "a line is torn, lost, doubled or out of order", NULL);
		else
			o->next[writer] = number + 1;
	}
}

struct sleeper { struct waiter w; pthread_mutex_t lock; pthread_cond_t cond; bool woken; };

static void wake_up(struct waiter *w)
{
	struct sleeper *s = (struct sleeper *)w;
	pthread_mutex_lock(&s->lock);
	s->woken = true;
	pthread_cond_signal(&s->cond);
	pthread_mutex_unlock(&s->lock);
}

/* Follows the end: waits when there is nothing, and gives up waiting now and then. */
static void *follow(void *arg)
{
	struct crowd *c = arg;
	struct order o = {0};
	struct err e = ERR_INIT;
	struct sleeper s = {.w.wake = wake_up};
	struct log_cursor *cursor = partition_cursor_new(c->p);
	char *buf = malloc(1 << 16);
	int64_t at = 0;
	pthread_mutex_init(&s.lock, NULL);
	pthread_cond_init(&s.cond, NULL);
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
			log_cursor_rest(cursor);
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
		s.woken = false;
		s.w.position = at;
		if (!partition_wait(c->p, &s.w))
			continue;
		if (round % 3 == 0) { /* changes its mind */
			if (partition_wait_cancel(c->p, &s.w))
				continue;
		}
		pthread_mutex_lock(&s.lock);
		struct timespec until;
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += 50000000;
		if (until.tv_nsec >= 1000000000) {
			until.tv_sec++;
			until.tv_nsec -= 1000000000;
		}
		while (!s.woken && pthread_cond_timedwait(&s.cond, &s.lock, &until) == 0)
			;
		bool woken = s.woken;
		pthread_mutex_unlock(&s.lock);
		c->woken += woken;
		if (!woken && !partition_wait_cancel(c->p, &s.w)) {
			pthread_mutex_lock(&s.lock);
			while (!s.woken)
				pthread_cond_wait(&s.cond, &s.lock);
			pthread_mutex_unlock(&s.lock);
		}
	}
	pthread_mutex_destroy(&s.lock);
	pthread_cond_destroy(&s.cond);
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
	struct log_cursor *cursor = partition_cursor_new(c->p);
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

static void *wait_until_deleted(void *arg)
{
	struct crowd *c = arg;
	struct sleeper s = {.w = {.wake = wake_up, .position = INT64_MAX - 1}};
	pthread_mutex_init(&s.lock, NULL);
	pthread_cond_init(&s.cond, NULL);
	if (partition_wait(c->p, &s.w)) {
		pthread_mutex_lock(&s.lock);
		while (!s.woken)
			pthread_cond_wait(&s.cond, &s.lock);
		pthread_mutex_unlock(&s.lock);
	}
	pthread_mutex_destroy(&s.lock);
	pthread_cond_destroy(&s.cond);
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
		assert_int_equal(pthread_create(&thread[4], NULL, wait_until_deleted, &c), 0);
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
			struct log_cursor *cursor = partition_cursor_new(p);
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

/* ---- killed ---- */

static _Noreturn void append_and_tell(int to, int round)
{
	char line[200];
	int64_t told = 0;
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
		}
		n = sprintf(line, "%" PRId64 " %d\n", told, i);
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
		execl("/proc/self/exe", "test_partition", what, root, fd, number, (char *)NULL);
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
		int64_t acked = 0;
		int number = -1;
		for (int i = 0; i < 40 + round * 60 && fgets(line, sizeof line, in); i++)
			sscanf(line, "%" SCNd64 " %d", &acked, &number);
		kill(pid, SIGKILL);
		while (fgets(line, sizeof line, in))
			if (strchr(line, '\n'))
				sscanf(line, "%" SCNd64 " %d", &acked, &number);
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
	struct crowd c = {.p = NULL};
	pthread_t waiting;
	for (int i = 0; i < 6; i++)
		if (p[i]->dir == &b->dir[1])
			c.p = p[i];
	assert_int_equal(pthread_create(&waiting, NULL, wait_until_deleted, &c), 0);
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
		struct log_cursor *cursor = partition_cursor_new(p[i]);
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
			struct log_cursor *c = partition_cursor_new(p);
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

static void save_data(void)
{
	char command[400];
	snprintf(saved, sizeof saved, "%s/saved", root);
	snprintf(command, sizeof command, "rm -rf %s && cp -a %s %s", saved, data, saved);
	assert_int_equal(system(command), 0);
}

static void restore_data(void)
{
	char command[500];
	snprintf(command, sizeof command, "rm -rf %s && cp -a %s %s", data, saved, data);
	assert_int_equal(system(command), 0);
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
	fill();
	struct partition *p = use("t", 0);
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
		T(test_append_read_reopen),
		T(test_crowd),
		T(test_crowd_and_retention),
		T(test_cancel),
		T(test_delete_in_use),
		T(test_idle_close),
		T(test_kill),
		T(test_many_partitions),
		T(test_two_dirs),
		T(test_damaged_checkpoints_clean),
		T(test_damaged_checkpoints_killed),
		T(test_faults_at_start_and_stop),
		T(test_full_disk),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
