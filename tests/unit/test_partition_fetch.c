/* What Fetch, ListOffsets and OffsetForLeaderEpoch get of a partition, while others append to it, delete from it and wait for it. */
#include "tests/unit/broker_fixture.h"

#include "cluster/partition_fetch.h"
#include "store/scan.h"

static struct partition_fetch wanted(int64_t offset, uint32_t max_bytes, enum isolation isolation)
{
	return (struct partition_fetch){.offset = offset, .max_bytes = max_bytes, .min_one = true, .isolation = isolation, .current_epoch = -1, .last_fetched_epoch = -1, .wait = true};
}

static struct partition *reach(const char *name, int32_t index)
{
	struct topic *t = topics_find(b, name);
	assert_non_null(t);
	struct partition *p = topic_partition(t, index);
	topic_unref(t);
	return p;
}

/* Transactional or not; a marker where r is NULL. */
static void add(struct partition *p, int64_t producer_id, int32_t sequence, const char *value, bool commit)
{
	struct wait w;
	struct err e = ERR_INIT;
	struct batch_style style;
	struct record_in in = {.value = value, .key_len = -1, .value_len = value ? (int32_t)strlen(value) : -1, .timestamp_ms = wall_now_ms()};
	wait_init(&w);
	topic_batch_style(partition_topic(p), &style);
	style.producer_id = producer_id;
	style.producer_epoch = 0;
	style.base_sequence = sequence;
	if (value)
		assert_int_equal(record_set_add_records(&w.set, &style, BATCH_TRANSACTIONAL, &in, 1, &e), 0);
	else
		assert_int_equal(record_set_add_marker(&w.set, producer_id, 0, commit, 0, wall_now_ms(), &e), 0);
	w.a.acks = ACKS_LEADER;
	w.a.in_transaction = true;
	w.a.done = appended;
	partition_append(p, &w.a);
	if (finish_append(&w) < 0)
		fail_msg("append: %s", w.a.err.text);
	wait_release(&w);
}

static void expect_ends(const struct partition_ends *x, int64_t start, int64_t stable, int64_t high, int64_t end)
{
	assert_int_equal(x->log_start, start);
	assert_int_equal(x->last_stable, stable);
	assert_int_equal(x->high_watermark, high);
	assert_int_equal(x->log_end, end);
}

static int try_fetch(struct partition *p, struct partition_fetch *f)
{
	err = (struct err)ERR_INIT;
	return partition_fetch(p, f, &err);
}

static void test_ends_and_errors(void **state)
{
	(void)state;
	open_broker();
	struct topic *t = create("t", 2);
	struct partition *p = use("t", 0), *q;
	say(p, "a\nb\n");
	say(p, "c\n");
	struct partition_fetch f = wanted(0, 1 << 20, ISOLATION_UNCOMMITTED);
	assert_int_equal(try_fetch(p, &f), 0);
	expect_ends(&f.ends, 0, 3, 3, 3);
	assert_true(f.data.bytes > 0);
	assert_int_equal(p->users & ~LOG_OPEN, 2); /* kept open while it is sent */
	partition_fetch_release(p, &f);
	partition_fetch_release(p, &f);
	assert_int_equal(p->users & ~LOG_OPEN, 1);
	f = wanted(3, 1 << 20, ISOLATION_COMMITTED); /* the tail */
	assert_int_equal(try_fetch(p, &f), 0);
	assert_int_equal(f.data.bytes, 0);
	f = wanted(4, 1 << 20, ISOLATION_UNCOMMITTED);
	assert_int_equal(try_fetch(p, &f), ERR_OUT_OF_RANGE);
	expect_ends(&f.ends, 0, 3, 3, 3);
	assert_int_equal(partition_delete_before(p, 1, &err), 0);
	f = wanted(0, 1 << 20, ISOLATION_UNCOMMITTED);
	assert_int_equal(try_fetch(p, &f), ERR_OUT_OF_RANGE);
	expect_ends(&f.ends, 1, 3, 3, 3);
	/* epochs */
	assert_int_equal(p->leader_epoch, 0);
	f = wanted(1, 1 << 20, ISOLATION_UNCOMMITTED);
	f.current_epoch = 1;
	assert_int_equal(try_fetch(p, &f), ERR_UNKNOWN_EPOCH);
	p->leader_epoch = 2; /* as a new role will do */
	assert_int_equal(try_fetch(p, &f), ERR_FENCED_EPOCH);
	f.current_epoch = 2;
	f.last_fetched_epoch = 0;
	assert_int_equal(try_fetch(p, &f), 0);
	assert_false(f.diverged);
	partition_fetch_release(p, &f);
	f.last_fetched_epoch = 3;
	assert_int_equal(try_fetch(p, &f), ERR_OUT_OF_RANGE);
	f.last_fetched_epoch = 1; /* none of it is here: what there was before ended at 3 */
	assert_int_equal(try_fetch(p, &f), 0);
	assert_true(f.diverged);
	assert_int_equal(f.diverging_epoch, 0);
	assert_int_equal(f.diverging_end, 3);
	assert_int_equal(f.data.bytes, 0);
	f = wanted(9, 100, ISOLATION_NONE);
	f.last_fetched_epoch = 0;
	assert_int_equal(try_fetch(p, &f), 0);
	assert_true(f.diverged);
	f.offset = 0; /* below the start, but that is inside this batch: a replica that begins anew has it whole */
	assert_int_equal(try_fetch(p, &f), 0);
	assert_true(f.data.bytes > 0);
	partition_fetch_release(p, &f);
	assert_int_equal(partition_delete_before(p, 2, &err), 0);
	assert_int_equal(try_fetch(p, &f), ERR_OUT_OF_RANGE); /* below the start, whatever the epoch */
	assert_true(f.begin_offset == 2 && f.begin_position == 4);
	int32_t epoch;
	int64_t end;
	assert_int_equal(partition_epoch_end(p, 2, 2, false, &epoch, &end, &err), 0);
	assert_int_equal(epoch, 2);
	assert_int_equal(end, 3);
	assert_int_equal(partition_epoch_end(p, 0, 2, false, &epoch, &end, &err), ERR_FENCED_EPOCH);
	done_with(p);
	/* nothing is opened by who must not wait */
	topic_unref(t);
	close_broker();
	open_broker();
	p = reach("t", 0);
	f = wanted(2, 1 << 20, ISOLATION_UNCOMMITTED);
	f.wait = false;
	assert_int_equal(try_fetch(p, &f), PARTITION_WOULD_BLOCK);
	assert_int_equal(partition_epoch_end(p, -1, 0, false, &epoch, &end, &err), PARTITION_WOULD_BLOCK);
	f.wait = true;
	assert_int_equal(try_fetch(p, &f), 0);
	f.wait = false;
	partition_fetch_release(p, &f);
	assert_int_equal(try_fetch(p, &f), 0);
	partition_fetch_release(p, &f);
	assert_true(partition_close_idle(p, INT64_MAX, &err));
	assert_int_equal(try_fetch(p, &f), PARTITION_WOULD_BLOCK);
	q = reach("t", 1);
	p->dir->offline = true;
	assert_int_equal(try_fetch(q, &f), ERR_OFFLINE);
	p->dir->offline = false;
	t = topics_find(b, "t");
	assert_int_equal(topics_delete(b, t, false, &err), 0);
	assert_int_equal(try_fetch(p, &f), ERR_DELETED);
	topic_unref(t);
	partition_unref(p);
	partition_unref(q);
	close_broker();
}

/* ---- offsets ---- */

static void check_offset(struct partition *p, int64_t timestamp_ms, enum isolation isolation, int64_t offset, int64_t at_ms, int32_t epoch)
{
	struct log_offset found;
	assert_int_equal(partition_list_offset(p, timestamp_ms, isolation, -1, true, &found, &err), 0);
	assert_int_equal(found.offset, offset);
	assert_int_equal(found.timestamp_ms, at_ms);
	assert_int_equal(found.leader_epoch, epoch);
}

static void test_offsets(void **state)
{
	(void)state;
	struct log_offset found;
	open_broker();
	topic_unref(create("t", 1));
	struct partition *p = use("t", 0);
	check_offset(p, OFFSET_EARLIEST, ISOLATION_UNCOMMITTED, 0, -1, 0);
	check_offset(p, OFFSET_LATEST, ISOLATION_UNCOMMITTED, 0, -1, 0);
	check_offset(p, OFFSET_MAX_TIMESTAMP, ISOLATION_UNCOMMITTED, -1, -1, -1);
	check_offset(p, 0, ISOLATION_UNCOMMITTED, -1, -1, -1);
	int64_t now = wall_now_ms() + 3600000;
	clock_shift_wall(3600000);
	say(p, "a\nb\n");
	clock_shift_wall(7200000);
	add(p, 7, 0, "in doubt", false);
	clock_shift_wall(0);
	assert_int_equal(partition_list_offset(p, now, ISOLATION_UNCOMMITTED, -1, false, &found, &err), PARTITION_WOULD_BLOCK);
	assert_int_equal(partition_list_offset(p, OFFSET_LATEST, ISOLATION_UNCOMMITTED, -1, false, &found, &err), 0);
	assert_int_equal(partition_list_offset(p, OFFSET_LATEST, ISOLATION_UNCOMMITTED, 1, true, &found, &err), ERR_UNKNOWN_EPOCH);
	assert_int_equal(partition_list_offset(p, -6, ISOLATION_UNCOMMITTED, -1, true, &found, &err), ERR_UNSUPPORTED);
	check_offset(p, OFFSET_LATEST, ISOLATION_UNCOMMITTED, 3, -1, 0);
	check_offset(p, OFFSET_LATEST, ISOLATION_NONE, 3, -1, 0);
	check_offset(p, OFFSET_LATEST, ISOLATION_COMMITTED, 2, -1, 0);
	check_offset(p, OFFSET_LATEST_TIERED, ISOLATION_UNCOMMITTED, -1, -1, -1);
	assert_int_equal(partition_list_offset(p, now, ISOLATION_COMMITTED, -1, true, &found, &err), 0);
	assert_int_equal(found.offset, 0);
	assert_true(found.timestamp_ms >= now && found.timestamp_ms < now + 60000);
	assert_int_equal(partition_list_offset(p, OFFSET_MAX_TIMESTAMP, ISOLATION_UNCOMMITTED, -1, true, &found, &err), 0);
	assert_int_equal(found.offset, 2);
	/* what is not stable yet is no answer to who reads committed records */
	check_offset(p, OFFSET_MAX_TIMESTAMP, ISOLATION_COMMITTED, -1, -1, -1);
	check_offset(p, found.timestamp_ms, ISOLATION_COMMITTED, -1, -1, -1);
	assert_int_equal(partition_delete_before(p, 1, &err), 0);
	check_offset(p, OFFSET_EARLIEST, ISOLATION_UNCOMMITTED, 1, -1, 0);
	check_offset(p, OFFSET_EARLIEST_LOCAL, ISOLATION_UNCOMMITTED, 1, -1, 0);
	done_with(p);
	/* where it ends is known without opening it, if it is the same end by every isolation */
	topic_unref(create("u", 1));
	p = use("u", 0);
	say(p, "a\n");
	done_with(p);
	close_broker();
	open_broker();
	p = reach("u", 0);
	assert_int_equal(partition_list_offset(p, OFFSET_LATEST, ISOLATION_COMMITTED, 0, false, &found, &err), 0);
	assert_int_equal(found.offset, 1);
	assert_int_equal(found.leader_epoch, 0);
	assert_int_equal(partition_list_offset(p, OFFSET_LATEST, ISOLATION_COMMITTED, 1, false, &found, &err), ERR_UNKNOWN_EPOCH);
	assert_int_equal(partition_list_offset(p, OFFSET_EARLIEST, ISOLATION_COMMITTED, 0, false, &found, &err), PARTITION_WOULD_BLOCK);
	p->dir->offline = true;
	assert_int_equal(partition_list_offset(p, OFFSET_LATEST, ISOLATION_COMMITTED, 0, false, &found, &err), ERR_OFFLINE);
	p->dir->offline = false;
	assert_false(partition_has_open_log(p));
	partition_unref(p);
	p = reach("t", 0);
	assert_int_equal(partition_list_offset(p, OFFSET_LATEST, ISOLATION_COMMITTED, 0, false, &found, &err), PARTITION_WOULD_BLOCK);
	partition_unref(p);
	close_broker();
}

static int count_record(void *arg, const struct batch *batch, const struct record *r)
{
	(void)batch;
	int64_t *next = arg;
	assert_int_equal(r->offset, *next);
	++*next;
	return 0;
}

static void test_records(void **state)
{
	(void)state;
	int64_t next = 1, end;
	open_broker();
	topic_unref(create("t", 1));
	struct partition *p = use("t", 0);
	say(p, "a\nb\nc\n");
	add(p, 7, 0, "d", false);
	add(p, 7, 1, NULL, true);
	done_with(p);
	assert_true(partition_close_idle(p, INT64_MAX, &err));
	p = reach("t", 0);
	assert_int_equal(partition_scan_records(p, 1, -1, count_record, &next, &end, &err), 0);
	assert_int_equal(next, 5);
	assert_int_equal(end, 5);
	partition_unref(p);
	close_broker();
}

/* ---- waiting ---- */

/* A Fetch of one or two partitions, as its handler will do it. */
struct fetcher {
	struct delayed d;
	struct delayed_key key[2];
	struct partition *p[2];
	struct partition_fetch f[2];
	int code[2];
	int64_t min_bytes;
	int asked, done;
	enum delayed_verdict how;
};

static void drop(struct fetcher *x)
{
	for (uint32_t i = 0; i < x->d.key_count; i++)
		partition_fetch_release(x->p[i], &x->f[i]);
}

static int64_t bytes_missing(struct delayed *d)
{
	struct fetcher *x = (struct fetcher *)d;
	int64_t missing = x->min_bytes;
	x->asked++;
	for (uint32_t i = 0; i < d->key_count; i++) {
		x->code[i] = partition_fetch(x->p[i], &x->f[i], NULL);
		missing = x->code[i] == 0 ? missing - x->f[i].data.bytes : INT64_MIN / 2;
	}
	if (missing > 0)
		drop(x);
	return missing;
}

static void fetch_done(struct delayed *d, enum delayed_verdict how)
{
	struct fetcher *x = (struct fetcher *)d;
	x->how = how;
	x->done++;
}

static void park(struct fetcher *x, uint32_t count, struct partition *p0, struct partition *p1, enum isolation isolation, int64_t min_bytes, int64_t patience_ms)
{
	*x = (struct fetcher){.d = {.key_count = count, .missing = bytes_missing, .complete = fetch_done}, .p = {p0, p1}, .min_bytes = min_bytes};
	x->d.key = x->key;
	for (uint32_t i = 0; i < count; i++) {
		struct partition_ends ends;
		partition_take_ends(x->p[i], &ends);
		x->f[i] = wanted(isolation == ISOLATION_COMMITTED ? ends.last_stable : ends.high_watermark, 1 << 20, isolation);
		x->key[i] = (struct delayed_key){.list = partition_delayed(x->p[i]), .channel = isolation == ISOLATION_COMMITTED ? DELAYED_STABLE : DELAYED_HIGH};
	}
	delayed_init(&x->d);
	delayed_park(&x->d, broker_timers(b), mono_after_ms(mono_now(), patience_ms));
}

static void test_waiting(void **state)
{
	(void)state;
	struct fetcher x, y;
	open_broker();
	struct topic *t = create("t", 2);
	struct partition *p = use("t", 0), *q = use("t", 1);
	say(p, "before\n");
	/* the least: one byte */
	park(&x, 2, p, q, ISOLATION_UNCOMMITTED, 1, 60000);
	assert_int_equal(x.done, 0);
	say(q, "first\n");
	assert_int_equal(x.done, 1);
	assert_int_equal(x.asked, 2);
	assert_int_equal(x.f[0].data.bytes, 0);
	assert_true(x.f[1].data.bytes > 0);
	drop(&x);
	/* many: it is not asked again for every append, and what comes to both adds up */
	park(&x, 2, p, q, ISOLATION_UNCOMMITTED, 100 * (61 + 13), 60000);
	park(&y, 1, q, NULL, ISOLATION_UNCOMMITTED, 50 * (61 + 13), 60000);
	for (int i = 0; i < 50; i++) {
		assert_int_equal(x.done, 0);
		assert_int_equal(y.done, 0);
		say(p, "123456\n"); /* one batch of 61 bytes, and 7 of a record and its 6 */
		say(q, "123456\n");
	}
	assert_int_equal(x.done, 1);
	assert_int_equal(x.how, DELAYED_SATISFIED);
	assert_int_equal(x.asked, 2);
	assert_int_equal(x.f[0].data.bytes + x.f[1].data.bytes, x.min_bytes);
	assert_int_equal(y.done, 1);
	assert_int_equal(y.asked, 2);
	drop(&x);
	drop(&y);
	/* an open transaction: who reads committed records waits for its end, the other does not */
	park(&x, 1, p, NULL, ISOLATION_COMMITTED, 1, 60000);
	park(&y, 1, p, NULL, ISOLATION_UNCOMMITTED, 1, 60000);
	add(p, 7, 0, "d", false);
	add(p, 8, 0, "e", false);
	assert_int_equal(y.done, 1);
	drop(&y);
	say(p, "f\n");
	assert_int_equal(x.done, 0);
	add(p, 7, 1, NULL, false);
	assert_int_equal(x.done, 1); /* up to where the other one begins */
	assert_int_equal(x.f[0].ends.last_stable, x.f[0].offset + 1);
	assert_int_equal(x.f[0].data.abort_count, 1);
	assert_int_equal(x.f[0].data.abort[0].producer_id, 7);
	drop(&x);
	park(&x, 1, p, NULL, ISOLATION_COMMITTED, 200, 60000);
	assert_int_equal(x.done, 0);
	add(p, 8, 1, NULL, true);
	assert_int_equal(x.done, 1);
	assert_true(x.f[0].data.bytes >= 200);
	assert_int_equal(x.f[0].data.abort_count, 1); /* its marker is among what is fetched */
	drop(&x);
	/* time, change of mind, deletion */
	park(&x, 1, p, NULL, ISOLATION_UNCOMMITTED, 1, 60000);
	assert_true(delayed_cancel(&x.d));
	park(&x, 2, p, q, ISOLATION_UNCOMMITTED, 1 << 20, 60000);
	assert_int_equal(topics_delete(b, t, false, &err), 0);
	assert_int_equal(x.done, 1);
	assert_int_equal(x.code[0], ERR_DELETED);
	assert_int_equal(x.code[1], ERR_DELETED);
	drop(&x);
	done_with(p);
	done_with(q);
	topic_unref(t);
	close_broker();
}

/* ---- a crowd ---- */

enum { WRITERS = 2, READERS = 3 };

struct crowd {
	struct partition *p;
	_Atomic bool stop;
	_Atomic int wrong;
	_Atomic int64_t read, jumps, waits;
};

static void complain(struct crowd *c, const char *what, const struct err *e)
{
	fprintf(stderr, "%s: %s\n", what, e ? e->text : "");
	c->wrong++;
}

struct writer { struct crowd *c; int number; };

static void *write_lines(void *arg)
{
	struct writer *w = arg;
	struct wait say;
	char text[2000];
	wait_init(&say);
	for (int n = 0; !w->c->stop;) {
		int lines = 1 + n % 17, len = 0;
		for (int i = 0; i < lines; i++, n++)
			len += snprintf(text + len, sizeof text - (size_t)len, "%d %d %.*s\n", w->number, n, n % 60, "............................................................");
		start_append(w->c->p, &say, text, (size_t)len, ACKS_LEADER);
		if (finish_append(&say) < 0)
			complain(w->c, "append", &say.a.err);
		if (n % 5 == 0)
			usleep(50);
	}
	wait_release(&say);
	return NULL;
}

/* Batches follow each other without a gap, are whole, and the lines of each writer in order. next: INT64_MAX where it begins anew. */
static bool check_bytes(struct crowd *c, const struct partition_fetch *f, int64_t *next, int *line)
{
	struct wr scratch;
	struct err e = ERR_INIT;
	wr_init(&scratch, 0);
	for (uint32_t i = 0; i < f->data.range_count; i++) {
		const struct log_range *r = &f->data.range[i];
		struct scan scan;
		struct batch batch;
		const uint8_t *bytes;
		uint32_t position;
		int rc;
		scan_init(&scan, r->segment->fd, r->position, r->position + r->bytes, 0);
		while ((rc = scan_next(&scan, &batch, &bytes, &position, &e)) == 1) {
			const uint8_t *area;
			size_t n;
			struct record_iter it;
			struct record rec;
			if (!batch_crc_matches(&batch, bytes) || (*next != batch.base_offset && (i || position != r->position || batch.base_offset > *next)))
				complain(c, "a batch is torn, or not the next one", NULL);
			if (batch_last_offset(&batch) >= f->ends.high_watermark)
				complain(c, "a batch is past the high watermark", NULL);
			*next = batch_last_offset(&batch) + 1;
			if (batch_records(&batch, bytes, &scratch, &area, &n, &e) < 0)
				complain(c, "records", &e);
			for (record_iter_init(&it, &batch, area, n); record_next(&it, &rec, &e) == 1;) {
				int writer = rec.value[0] - '0', number = atoi((const char *)rec.value + 2);
				if (line[writer] >= 0 && number != line[writer] && rec.offset >= f->offset)
					complain(c, "a line is missing", NULL);
				line[writer] = number + 1;
			}
		}
		if (rc < 0)
			complain(c, "what was fetched is not whole", &e);
		scan_release(&scan);
	}
	wr_release(&scratch);
	return !c->wrong;
}

static void *consume(void *arg)
{
	struct crowd *c = arg;
	int line[WRITERS] = {-1, -1};
	int64_t next = 0;
	struct partition_fetch held = {0};
	struct sleeper s;
	sleeper_init(&s, c->p);
	while (!c->wrong) {
		struct err e = ERR_INIT;
		bool last = c->stop;
		struct partition_fetch f = wanted(next, 1 + (uint32_t)(next * 7919 % 60000), ISOLATION_UNCOMMITTED);
		f.wait = next % 3;
		int rc = partition_fetch(c->p, &f, &e);
		if (rc == PARTITION_WOULD_BLOCK) {
			f.wait = true;
			rc = partition_fetch(c->p, &f, &e);
		}
		if (rc == ERR_OUT_OF_RANGE) { /* overtaken */
			if (f.ends.log_start <= next)
				complain(c, "out of range, and it is not", &e);
			next = f.ends.log_start;
			line[0] = line[1] = -1;
			c->jumps++;
			continue;
		}
		if (rc < 0) {
			complain(c, "fetch", &e);
			break;
		}
		if (!f.data.bytes && last)
			break;
		if (next % 311 == 0) /* slow now and then: it is overtaken by deletions, with files open and without */
			usleep(60000);
		if (!f.data.bytes) {
			struct visible v;
			c->waits++;
			partition_visible(c->p, &v, NULL);
			sleeper_park(&s, v.end_position, 20);
			sleeper_wait(&s);
			continue;
		}
		/* it is looked at when much else has happened */
		struct partition_fetch before = held;
		held = f;
		c->read += f.data.bytes;
		int64_t begin = before.offset;
		if (before.data.bytes)
			check_bytes(c, &before, &begin, (int[WRITERS]){-1, -1});
		partition_fetch_release(c->p, &before);
		check_bytes(c, &f, &next, line);
	}
	partition_fetch_release(c->p, &held);
	sleeper_release(&s);
	return NULL;
}

static void *ask_for_times(void *arg)
{
	struct crowd *c = arg;
	while (!c->stop) {
		struct err e = ERR_INIT;
		struct log_offset found;
		int64_t now = wall_now_ms();
		for (int64_t back = 0; back < 200; back += 37)
			if (partition_list_offset(c->p, now - back, ISOLATION_UNCOMMITTED, -1, true, &found, &e) < 0)
				complain(c, "a time", &e);
		if (partition_list_offset(c->p, OFFSET_MAX_TIMESTAMP, ISOLATION_COMMITTED, -1, true, &found, &e) < 0)
			complain(c, "the newest time", &e);
		usleep(500);
	}
	return NULL;
}

/* Appends, deletions, rolls and closing of files all at once. */
static void test_crowd(void **state)
{
	(void)state;
	set_conf("log.open.segments.max=16");
	set_conf("log.segment.bytes=16384");
	set_conf("log.segment.delete.delay.ms=0");
	open_broker();
	struct topic *t = create("t", 1);
	struct crowd c = {.p = use("t", 0)};
	struct writer w[WRITERS];
	pthread_t writer[WRITERS], reader[READERS], times;
	for (int i = 0; i < WRITERS; i++) {
		w[i] = (struct writer){&c, i};
		assert_int_equal(pthread_create(&writer[i], NULL, write_lines, &w[i]), 0);
	}
	for (int i = 0; i < READERS; i++)
		assert_int_equal(pthread_create(&reader[i], NULL, consume, &c), 0);
	assert_int_equal(pthread_create(&times, NULL, ask_for_times, &c), 0);
	for (int i = 0; i < 60; i++) {
		struct visible v;
		usleep(20000);
		assert_int_equal(partition_visible(c.p, &v, &err), 0);
		if (i % 4 == 3) /* sometimes all of it */
			assert_int_equal(partition_delete_before(c.p, i % 16 == 15 ? v.end_offset : v.start_offset + (v.end_offset - v.start_offset) * 3 / 4, &err), 0);
	}
	c.stop = true;
	for (int i = 0; i < WRITERS; i++)
		pthread_join(writer[i], NULL);
	for (int i = 0; i < READERS; i++)
		pthread_join(reader[i], NULL);
	pthread_join(times, NULL);
	assert_int_equal(c.wrong, 0);
	assert_true(c.read > 0 && c.waits > 0);
	print_message("%" PRId64 " bytes read, %" PRId64 " times overtaken, %" PRId64 " times waited\n", (int64_t)c.read, (int64_t)c.jumps, (int64_t)c.waits);
	done_with(c.p);
	topic_unref(t);
	close_broker();
}

/* ---- while it is compacted ---- */

enum { KEYS = 50 };

struct keys {
	struct partition *p;
	_Atomic bool stop;
	_Atomic int wrong;
	_Atomic int latest[KEYS]; /* the value that is in the log for sure */
	_Atomic int64_t passes, smallest;
};

static void *write_keys(void *arg)
{
	struct keys *k = arg;
	struct wait w;
	struct err e = ERR_INIT;
	int value[KEYS] = {0};
	wait_init(&w);
	for (unsigned n = 0; !k->stop; n++) {
		struct record_in in[20];
		struct batch_style style;
		char key[20][16], text[20][200];
		topic_batch_style(partition_topic(k->p), &style);
		style.codec = (enum codec)(n % CODEC_COUNT);
		for (int i = 0; i < 20; i++) {
			int at = (int)(n * 7 + (unsigned)i * 3) % KEYS;
			int key_len = snprintf(key[i], sizeof key[i], "%d", at), len = snprintf(text[i], sizeof text[i], "%d %0100d", ++value[at], 0);
			in[i] = (struct record_in){.key = key[i], .key_len = key_len, .value = text[i], .value_len = len, .timestamp_ms = wall_now_ms()};
		}
		record_set_clear(&w.set);
		assert_int_equal(record_set_add_records(&w.set, &style, 0, in, 20, &e), 0);
		w.calls = 0;
		w.a.acks = ACKS_LEADER;
		w.a.done = appended;
		partition_append(k->p, &w.a);
		assert_int_equal(finish_append(&w), 0);
		for (int i = 0; i < KEYS; i++)
			k->latest[i] = value[i];
		usleep(200);
	}
	wait_release(&w);
	return NULL;
}

static int note_key(void *arg, const struct batch *batch, const struct record *r)
{
	(void)batch;
	int *seen = arg, at = atoi((const char *)r->key), value = atoi((const char *)r->value);
	if (value > seen[at])
		seen[at] = value;
	return 0;
}

/* From the start to the end, by fetches; every key has at least the value that it had when that began. */
static void *read_keys(void *arg)
{
	struct keys *k = arg;
	struct wr scratch;
	wr_init(&scratch, 0);
	while (!k->stop && !k->wrong) {
		struct err e = ERR_INIT;
		int seen[KEYS] = {0}, want[KEYS];
		int64_t next = 0, bytes_read = 0;
		for (int i = 0; i < KEYS; i++)
			want[i] = k->latest[i];
		for (;;) {
			struct partition_fetch f = wanted(next, 1 + (uint32_t)(next * 31 % 50000), ISOLATION_COMMITTED);
			if (partition_fetch(k->p, &f, &e) != 0) {
				fprintf(stderr, "fetch: %s\n", e.text);
				k->wrong++;
				break;
			}
			if (!f.data.bytes && next < f.ends.last_stable)
				continue; /* all that was below the end as it was then has gone, for what came since */
			if (!f.data.bytes)
				break;
			bytes_read += f.data.bytes;
			for (uint32_t i = 0; i < f.data.range_count; i++) {
				const struct log_range *r = &f.data.range[i];
				struct scan scan;
				struct batch batch;
				struct record_iter it;
				struct record rec;
				const uint8_t *bytes, *area;
				uint32_t position;
				size_t n;
				int rc;
				scan_init(&scan, r->segment->fd, r->position, r->position + r->bytes, 0);
				while ((rc = scan_next(&scan, &batch, &bytes, &position, &e)) == 1) {
					if (!batch_crc_matches(&batch, bytes) || batch_last_offset(&batch) < next || batch_records(&batch, bytes, &scratch, &area, &n, &e) < 0)
						k->wrong++;
					next = batch_last_offset(&batch) + 1;
					for (record_iter_init(&it, &batch, area, n); record_next(&it, &rec, &e) == 1;)
						note_key(seen, &batch, &rec);
				}
				if (rc < 0) {
					fprintf(stderr, "scan: %s\n", e.text);
					k->wrong++;
				}
				scan_release(&scan);
			}
			partition_fetch_release(k->p, &f);
		}
		for (int i = 0; i < KEYS; i++)
			if (seen[i] < want[i]) {
				fprintf(stderr, "key %d: %d, it was %d already\n", i, seen[i], want[i]);
				k->wrong++;
			}
		k->passes++;
		k->smallest = bytes_read;
	}
	wr_release(&scratch);
	return NULL;
}

/* The same by records, as who loads a partition does it; and times, which are asked of segments that are just replaced. */
static void *load_keys(void *arg)
{
	struct keys *k = arg;
	while (!k->stop && !k->wrong) {
		struct err e = ERR_INIT;
		struct log_offset found;
		int seen[KEYS] = {0}, want[KEYS];
		for (int i = 0; i < KEYS; i++)
			want[i] = k->latest[i];
		if (partition_scan_records(k->p, 0, -1, note_key, seen, NULL, &e) < 0 ||
		    partition_list_offset(k->p, wall_now_ms() - 100, ISOLATION_UNCOMMITTED, -1, true, &found, &e) < 0 ||
		    partition_list_offset(k->p, OFFSET_MAX_TIMESTAMP, ISOLATION_UNCOMMITTED, -1, true, &found, &e) < 0) {
			fprintf(stderr, "load: %s\n", e.text);
			k->wrong++;
		}
		for (int i = 0; i < KEYS; i++)
			if (seen[i] < want[i])
				k->wrong++;
	}
	return NULL;
}

static void test_compacted(void **state)
{
	(void)state;
	set_conf("log.open.segments.max=16");
	set_conf("log.segment.delete.delay.ms=0");
	set_conf("log.cleaner.backoff.ms=1");
	open_broker();
	struct topic *t = create("t", 1);
	static const char properties[] = "cleanup.policy=compact\nsegment.bytes=16384\nmin.cleanable.dirty.ratio=0.01\n";
	if (topic_configure(t, properties, sizeof properties - 1, &err) < 0)
		fail_msg("%s", err.text);
	struct keys k = {.p = use("t", 0)};
	pthread_t thread[4];
	assert_int_equal(pthread_create(&thread[0], NULL, write_keys, &k), 0);
	assert_int_equal(pthread_create(&thread[1], NULL, read_keys, &k), 0);
	assert_int_equal(pthread_create(&thread[2], NULL, read_keys, &k), 0);
	assert_int_equal(pthread_create(&thread[3], NULL, load_keys, &k), 0);
	usleep(1500000);
	k.stop = true;
	for (int i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	assert_int_equal(k.wrong, 0);
	print_message("%" PRId64 " passes, the last of %" PRId64 " bytes of %" PRId64 " appended\n", (int64_t)k.passes, (int64_t)k.smallest, (int64_t)k.p->grown);
	assert_true(k.passes > 2);
	assert_true(k.p->clean_offset > 0);
	done_with(k.p);
	topic_unref(t);
	close_broker();
}

/* ---- what it costs ---- */

static size_t calls;

static ssize_t count_calls(void *arg, enum io_call call, const char *name, int fd, size_t bytes)
{
	(void)arg, (void)call, (void)name, (void)fd, (void)bytes;
	calls++;
	return 0;
}

static void test_cost(void **state)
{
	(void)state;
	enum { TIMES = 20000, MANY = 2000 };
	open_broker();
	topic_unref(create("t", 1));
	struct partition *p = use("t", 0);
	for (int i = 0; i < 50; i++)
		say(p, "some line or other\n");
	double ns[2];
	io_set_hook(count_calls, NULL);
	for (int back = 0; back < 2; back++) {
		mono_t begin = mono_now();
		for (int i = 0; i < TIMES; i++) {
			struct partition_fetch f = wanted(50 - back, 1 << 20, ISOLATION_UNCOMMITTED);
			f.wait = false;
			assert_int_equal(partition_fetch(p, &f, NULL), 0);
			assert_true(!f.data.bytes == !back);
			partition_fetch_release(p, &f);
		}
		ns[back] = (double)mono_diff_ns(mono_now(), begin) / TIMES;
	}
	io_set_hook(NULL, NULL);
	assert_int_equal(calls, 0);
	/* an append on a partition where many wait for more than that */
	struct fetcher *x = calloc(MANY, sizeof *x);
	double append[2];
	for (int parked = 0; parked < 2; parked++) {
		for (int i = 0; i < MANY && parked; i++)
			park(&x[i], 1, p, NULL, ISOLATION_UNCOMMITTED, 1 << 19, 3600000);
		mono_t begin = mono_now();
		for (int i = 0; i < 2000; i++)
			say(p, "some line or other\n");
		append[parked] = (double)mono_diff_ns(mono_now(), begin) / 2000;
	}
	for (int i = 0; i < MANY; i++)
		assert_int_equal(x[i].asked, 1);
	char *big = malloc(1 << 19);
	memset(big, 'x', (1 << 19) - 1);
	big[(1 << 19) - 1] = '\n';
	struct wait w;
	wait_init(&w);
	mono_t begin = mono_now();
	start_append(p, &w, big, 1 << 19, ACKS_LEADER);
	assert_int_equal(finish_append(&w), 0);
	double all = (double)mono_diff_ns(mono_now(), begin) / MANY;
	wait_release(&w);
	free(big);
	for (int i = 0; i < MANY; i++) {
		assert_int_equal(x[i].done, 1);
		assert_int_equal(x[i].asked, 2);
		drop(&x[i]);
	}
	free(x);
	print_message("a fetch at the tail: %.0f ns, of what was appended last: %.0f ns, no system call; an append: %.0f ns, where %d wait for more: %.0f ns; waking each: %.0f ns\n", ns[0],
		      ns[1], append[0], MANY, append[1], all);
	done_with(p);
	close_broker();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_ends_and_errors, setup, teardown), cmocka_unit_test_setup_teardown(test_offsets, setup, teardown),
		cmocka_unit_test_setup_teardown(test_records, setup, teardown),         cmocka_unit_test_setup_teardown(test_waiting, setup, teardown),
		cmocka_unit_test_setup_teardown(test_crowd, setup, teardown),           cmocka_unit_test_setup_teardown(test_compacted, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cost, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
