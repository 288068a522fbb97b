#include "tests/unit/broker_fixture.h"

#include <fcntl.h>
#include <sys/mman.h>

#include "store/ingest.h"

/* Idempotent producers against a broker: each record once and in order, whatever is sent again, fails, or is killed. */

/* ---- a client ---- */

enum { WINDOW = 5, CLIENTS = 6, MOST_BATCHES = 20000 };

struct batch_sent { int32_t sequence, count; int64_t first_value; };

struct client { /* what a producer remembers; in shared memory where the broker is killed */
	int64_t id;
	int16_t epoch;
	int32_t next_sequence;
	int64_t next_value;
	struct batch_sent flying[WINDOW]; /* sent, not acknowledged; oldest first */
	int flying_count;
	struct { int64_t value, offset; } acked[MOST_BATCHES];
	int acked_count;
};

struct request {
	struct wait w;
	struct wr bytes; /* of the request: lent to the set */
	struct batch_sent sent;
};

static void request_init(struct request *r)
{
	wait_init(&r->w);
	wr_init(&r->bytes, 0);
}

static void request_release(struct request *r)
{
	wait_release(&r->w);
	wr_release(&r->bytes);
}

static int64_t record_age_ms;

/* The batch as it goes over the wire: lines "id value", codec by the value. */
static void make_batch(struct wr *bytes, int64_t id, int16_t epoch, const struct batch_sent *s)
{
	struct record_set made;
	struct record_in r[20];
	char text[20][80];
	struct batch_style style = {.codec = s->first_value % 3 == 0 ? CODEC_LZ4 : CODEC_NONE, .max_batch_bytes = 1 << 20, .producer_id = id, .producer_epoch = epoch, .base_sequence = s->sequence};
	assert_true(s->count <= 20);
	for (int i = 0; i < s->count; i++) {
		int n = snprintf(text[i], sizeof text[i], "%" PRId64 " %" PRId64 " %.*s", id, s->first_value + i, (int)(s->first_value % 40), "........................................");
		r[i] = (struct record_in){.value = text[i], .value_len = n, .timestamp_ms = wall_now_ms() - record_age_ms};
	}
	record_set_init(&made);
	assert_int_equal(record_set_add_records(&made, &style, 0, r, (uint32_t)s->count, &err), 0);
	wr_clear(bytes);
	wr_bytes(bytes, made.bytes.data, made.bytes.len);
	record_set_release(&made);
}

static void submit(struct partition *p, struct ingest *g, struct request *r, enum acks acks)
{
	struct ingest_rule rule;
	struct ingest_refusal why;
	topic_ingest_rule(partition_topic(p), &rule);
	enum ingest_code code = ingest_batch(g, &r->w.set, r->bytes.data, r->bytes.len, &rule, wall_now_ms(), &why);
	if (code != INGEST_OK)
		fail_msg("ingest: %s", why.why.text);
	r->w.calls = 0;
	r->w.a.acks = acks;
	r->w.a.done = appended;
	r->w.a.err = (struct err)ERR_INIT;
	partition_append(p, &r->w.a);
}

/* One batch, waited for. */
static int produce(struct partition *p, int64_t id, int16_t epoch, int32_t sequence, int count, int64_t value, enum acks acks, struct append *result)
{
	struct ingest g;
	struct request r;
	ingest_init(&g);
	request_init(&r);
	r.sent = (struct batch_sent){sequence, count, value};
	make_batch(&r.bytes, id, epoch, &r.sent);
	submit(p, &g, &r, acks);
	int code = finish_append(&r.w);
	err = r.w.a.err;
	if (result)
		*result = r.w.a;
	request_release(&r);
	ingest_release(&g);
	return code;
}

/* ---- the rules ---- */

static void test_answers(void **state)
{
	(void)state;
	struct append a;
	struct visible v;
	open_broker();
	topic_unref(create("t", 1));
	struct partition *p = use("t", 0);
	say(p, "before\n");
	assert_int_equal(produce(p, 7, 0, 0, 3, 1, ACKS_LEADER, &a), 0);
	assert_false(a.duplicate);
	assert_int_equal(a.base_offset, 1);
	assert_int_equal(a.log_append_time_ms, -1);
	assert_int_equal(a.log_start_offset, 0);
	assert_int_equal(produce(p, 7, 0, 3, 2, 4, ACKS_ALL, &a), 0);
	assert_int_equal(a.base_offset, 4);
	for (int acks = 0; acks < 2; acks++) {
		assert_int_equal(produce(p, 7, 0, 0, 3, 1, acks ? ACKS_ALL : ACKS_LEADER, &a), 0);
		assert_true(a.duplicate);
		assert_int_equal(a.base_offset, 1);
		assert_true(a.log_append_time_ms > 1700000000000); /* the records' own, as in Kafka */
	}
	assert_int_equal(produce(p, 7, 0, 6, 1, 7, ACKS_LEADER, &a), ERR_SEQUENCE);
	assert_non_null(strstr(err.text, "t-0"));
	assert_int_equal(a.base_offset, -1);
	assert_int_equal(a.log_start_offset, 0);
	assert_int_equal(produce(p, 7, -1, 5, 1, 7, ACKS_LEADER, &a), ERR_PRODUCER_FENCED);
	assert_int_equal(produce(p, 7, 1, 5, 1, 7, ACKS_ALL, &a), ERR_SEQUENCE);
	assert_int_equal(produce(p, 7, 1, 0, 1, 7, ACKS_LEADER, &a), 0);
	assert_int_equal(produce(p, 7, 0, 5, 1, 7, ACKS_LEADER, &a), ERR_PRODUCER_FENCED);
	assert_int_equal(partition_delete_before(p, 4, &err), 0);
	assert_int_equal(produce(p, 7, 1, 1, 1, 8, ACKS_LEADER, &a), 0);
	assert_int_equal(a.log_start_offset, 4);
	assert_int_equal(partition_visible(p, &v, &err), 0);
	assert_int_equal(v.end_offset, 8);
	done_with(p);
	close_broker();
}

struct seen { int count; struct producer_state s[10]; };

static void note_producer(void *arg, const struct producer_state *s)
{
	struct seen *x = arg;
	x->s[x->count++] = *s;
}

static ssize_t full(void *arg, enum io_call call, const char *name, int fd, size_t bytes)
{
	(void)arg, (void)name, (void)fd, (void)bytes;
	return call == IO_WRITE ? -ENOSPC : 0;
}

/* An append that fails leaves nothing known of its producer. */
static void test_failed_appends_are_forgotten(void **state)
{
	(void)state;
	struct seen seen = {0};
	open_broker();
	topic_unref(create("t", 1));
	struct partition *p = use("t", 0);
	assert_int_equal(produce(p, 7, 0, 0, 3, 1, ACKS_LEADER, NULL), 0);
	for (int i = 0; i < 3; i++) {
		io_set_hook(full, NULL);
		assert_int_equal(produce(p, 8, 5, 40, 3, 1, ACKS_LEADER, NULL), ERR_NO_SPACE);
		assert_int_equal(produce(p, 7, 1, 0, 3, 1, ACKS_LEADER, NULL), ERR_NO_SPACE);
		io_set_hook(NULL, NULL);
		seen.count = 0;
		assert_int_equal(partition_producers(p, note_producer, &seen, &err), 0);
		assert_int_equal(seen.count, 1);
		assert_int_equal(seen.s[0].id, 7);
		assert_int_equal(seen.s[0].epoch, 0);
		assert_int_equal(seen.s[0].last_sequence, 2);
	}
	assert_int_equal(produce(p, 8, 5, 40, 3, 1, ACKS_LEADER, NULL), 0);
	assert_int_equal(produce(p, 7, 0, 3, 3, 1, ACKS_LEADER, NULL), 0);
	done_with(p);
	close_broker();
}

static _Atomic int syncs;

static ssize_t count_syncs(void *arg, enum io_call call, const char *name, int fd, size_t bytes)
{
	(void)arg, (void)name, (void)fd, (void)bytes;
	syncs += call == IO_SYNC;
	return 0;
}

/* acks=all is on disk before it is answered, a duplicate too whose first request did not ask for that; unless that is turned off. */
static void test_acks_all(void **state)
{
	(void)state;
	static const char *const settings[] = {"log.flush.acks.all=auto", "log.flush.acks.all=always", "log.flush.acks.all=never"};
	struct append a;
	for (int i = 0; i < 3; i++) {
		char name[20];
		sprintf(name, "t%d", i);
		set_conf(settings[i]);
		open_broker();
		topic_unref(create(name, 1));
		struct partition *p = use(name, 0);
		say(p, "the first makes files\n");
		io_set_hook(count_syncs, NULL);
		syncs = 0;
		assert_int_equal(produce(p, 7, 0, 0, 3, 1, ACKS_LEADER, NULL), 0);
		assert_int_equal(syncs, 0);
		assert_int_equal(produce(p, 7, 0, 0, 3, 1, ACKS_ALL, &a), 0);
		assert_true(a.duplicate);
		assert_int_equal(syncs > 0, i < 2);
		syncs = 0;
		assert_int_equal(produce(p, 7, 0, 0, 3, 1, ACKS_ALL, &a), 0); /* it is there by now */
		assert_int_equal(syncs, 0);
		assert_int_equal(produce(p, 7, 0, 3, 3, 1, ACKS_ALL, &a), 0);
		assert_int_equal(syncs > 0, i < 2);
		io_set_hook(NULL, NULL);
		done_with(p);
		close_broker();
	}
}

static void test_log_append_time(void **state)
{
	(void)state;
	struct append a, again;
	open_broker();
	struct topic *t = create("t", 1);
	const char line[] = "message.timestamp.type=LogAppendTime\n";
	assert_int_equal(topic_configure(t, line, strlen(line), &err), 0);
	topic_unref(t);
	struct partition *p = use("t", 0);
	int64_t before = wall_now_ms();
	assert_int_equal(produce(p, 7, 0, 0, 3, 1, ACKS_LEADER, &a), 0);
	assert_true(a.log_append_time_ms >= before && a.log_append_time_ms <= wall_now_ms());
	nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
	assert_int_equal(produce(p, 7, 0, 0, 3, 1, ACKS_LEADER, &again), 0);
	assert_true(again.duplicate);
	assert_int_equal(again.log_append_time_ms, a.log_append_time_ms);
	done_with(p);
	close_broker();
}

/* What is known of producers is known after any stop, as far back as a client can have batches on their way. */
static void test_known_after_a_stop(void **state)
{
	(void)state;
	struct append a;
	struct seen seen = {0};
	set_conf("log.segment.bytes=16384");
	open_broker();
	topic_unref(create("t", 1));
	struct partition *p = use("t", 0);
	int64_t offset[200];
	for (int i = 0; i < 200; i++) {
		assert_int_equal(produce(p, 7, 2, 10 * i, 10, 10 * i + 1, ACKS_LEADER, &a), 0);
		offset[i] = a.base_offset;
		assert_int_equal(produce(p, 1000 + i, 0, 0, 10, 1, ACKS_LEADER, &a), 0); /* others in between */
	}
	for (int round = 0; round < 3; round++) {
		done_with(p);
		close_broker();
		open_broker();
		p = use("t", 0);
		for (int i = 195; i < 200; i++) {
			assert_int_equal(produce(p, 7, 2, 10 * i, 10, 10 * i + 1, ACKS_LEADER, &a), 0);
			assert_true(a.duplicate);
			assert_int_equal(a.base_offset, offset[i]);
		}
		assert_int_equal(produce(p, 7, 2, 1940, 10, 1, ACKS_LEADER, &a), ERR_SEQUENCE);
		assert_int_equal(produce(p, 7, 1, 2000, 10, 1, ACKS_LEADER, &a), ERR_PRODUCER_FENCED);
	}
	assert_int_equal(produce(p, 7, 2, 2000, 1, 1, ACKS_LEADER, &a), 0);
	assert_int_equal(produce(p, 7, 2, 1960, 10, 1, ACKS_LEADER, &a), 0);
	assert_true(a.duplicate);
	done_with(p);
	close_broker();
	set_conf("producer.id.expiration.ms=1");
	nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
	open_broker();
	p = use("t", 0);
	assert_int_equal(partition_producers(p, note_producer, &seen, &err), 0);
	assert_int_equal(seen.count, 0);
	assert_int_equal(produce(p, 7, 2, 4711, 1, 1, ACKS_LEADER, &a), 0); /* forgotten: anything goes */
	done_with(p);
	close_broker();
}

static void test_producers_are_listed_and_expire(void **state)
{
	(void)state;
	struct seen seen = {0};
	set_conf("producer.id.expiration.ms=200");
	set_conf("producer.id.expiration.check.interval.ms=20");
	open_broker();
	topic_unref(create("t", 1));
	struct partition *p = use("t", 0);
	int64_t before = wall_now_ms();
	assert_int_equal(produce(p, 7, 3, 0, 5, 1, ACKS_LEADER, NULL), 0);
	assert_int_equal(produce(p, 8, 0, 40, 2, 1, ACKS_LEADER, NULL), 0);
	assert_int_equal(partition_producers(p, note_producer, &seen, &err), 0);
	assert_int_equal(seen.count, 2);
	assert_int_equal(seen.s[0].id, 7);
	assert_int_equal(seen.s[0].epoch, 3);
	assert_int_equal(seen.s[0].last_sequence, 4);
	assert_int_equal(seen.s[0].coordinator_epoch, -1);
	assert_int_equal(seen.s[0].txn_first_offset, -1);
	assert_true(seen.s[0].last_timestamp_ms >= before);
	assert_int_equal(seen.s[1].last_sequence, 41);
	for (int i = 0; seen.count && i < 500; i++) {
		nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
		seen.count = 0;
		assert_int_equal(partition_producers(p, note_producer, &seen, &err), 0);
	}
	assert_int_equal(seen.count, 0);
	done_with(p);
	close_broker();
}

/* The times of records are the client's, and may be as old as they like: what is sent again after a stop, a kill or a look of the agent's is known all the same. */
static void test_old_records_do_not_make_a_producer_expire(void **state)
{
	(void)state;
	struct append a;
	record_age_ms = INT64_C(400) * 86400000;
	set_conf("producer.id.expiration.check.interval.ms=5");
	pid_t child = fork();
	if (child == 0) {
		open_broker();
		topic_unref(create("t", 1));
		struct partition *p = use("t", 0);
		bool good = produce(p, 7, 0, 0, 5, 1, ACKS_LEADER, NULL) == 0 && produce(p, 7, 0, 5, 5, 6, ACKS_LEADER, NULL) == 0;
		_exit(good ? 77 : 1);
	}
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(WEXITSTATUS(status), 77);
	for (int round = 0; round < 3; round++) { /* after a kill, and after clean stops */
		open_broker();
		struct partition *p = use("t", 0);
		nanosleep(&(struct timespec){.tv_nsec = 30000000}, NULL);
		assert_int_equal(produce(p, 7, 0, 5, 5, 6, ACKS_LEADER, &a), 0);
		assert_true(a.duplicate);
		assert_int_equal(a.base_offset, 5);
		assert_int_equal(produce(p, 7, 0, 9, 5, 6, ACKS_LEADER, &a), ERR_SEQUENCE);
		done_with(p);
		close_broker();
	}
	record_age_ms = 0;
}

/* ---- many at once, with faults ---- */

struct crowd { struct partition *p; _Atomic int errors, refused, failed, duplicates; _Atomic bool faults; int batches; };
struct driver { struct crowd *c; struct client *client; uint64_t seed; };

static uint32_t roll(uint64_t *s)
{
	*s ^= *s << 13, *s ^= *s >> 7, *s ^= *s << 17;
	return (uint32_t)(*s >> 32);
}

static void took_it(struct client *c, const struct batch_sent *s, int64_t offset)
{
	if (c->acked_count < MOST_BATCHES) {
		c->acked[c->acked_count].value = s->first_value;
		c->acked[c->acked_count].offset = offset;
		c->acked_count++;
	}
}

/* Sends what is flying, oldest first, all before any answer is awaited, now and then one twice; what was not taken flies again. */
static void fly(struct driver *d, struct ingest *g, struct request r[2 * WINDOW])
{
	struct client *c = d->client;
	int n = 0, of[2 * WINDOW];
	bool taken[WINDOW] = {false};
	for (int i = 0; i < c->flying_count; i++) {
		for (int times = roll(&d->seed) % 5 == 0 ? 2 : 1; times > 0; times--, n++) {
			r[n].sent = c->flying[i];
			of[n] = i;
			make_batch(&r[n].bytes, c->id, c->epoch, &r[n].sent);
			submit(d->c->p, g, &r[n], roll(&d->seed) % 6 == 0 ? ACKS_ALL : ACKS_LEADER);
		}
	}
	for (int i = 0; i < n; i++) {
		int code = finish_append(&r[i].w);
		if (r[i].w.calls != 1)
			d->c->errors++;
		if (code == 0 && !taken[of[i]]) {
			taken[of[i]] = true;
			took_it(c, &r[i].sent, r[i].w.a.base_offset);
		}
		d->c->duplicates += code == 0 && r[i].w.a.duplicate;
		d->c->refused += code == ERR_SEQUENCE;
		d->c->failed += code == ERR_NO_SPACE;
		if (code && code != ERR_SEQUENCE && code != ERR_NO_SPACE && d->c->errors++ < 5)
			print_error("append: %s\n", r[i].w.a.err.text);
	}
	int left = 0;
	for (int i = 0; i < c->flying_count; i++)
		if (!taken[i])
			c->flying[left++] = c->flying[i];
	c->flying_count = left;
}

/* What comes behind the last that flies: also where it was stopped before it could note that. */
static void go_on(struct client *c)
{
	if (!c->flying_count)
		return;
	const struct batch_sent *last = &c->flying[c->flying_count - 1];
	c->next_sequence = (int32_t)(((uint32_t)last->sequence + (uint32_t)last->count) & INT32_MAX);
	c->next_value = last->first_value + last->count;
}

/* The first batch goes alone: of a producer that nothing is known of any sequence is taken, so its second could be, with the first one failed. That is Kafka's rule. */
static void fill_window(struct driver *d)
{
	struct client *c = d->client;
	while (c->flying_count < (c->acked_count ? WINDOW : 1) && roll(&d->seed) % 4) {
		struct batch_sent s = {c->next_sequence, 1 + (int)(roll(&d->seed) % 12), c->next_value};
		c->flying[c->flying_count] = s;
		c->flying_count++;
		go_on(c);
	}
}

static void *drive(void *arg)
{
	struct driver *d = arg;
	struct ingest g;
	struct request r[2 * WINDOW];
	ingest_init(&g);
	go_on(d->client);
	for (int i = 0; i < 2 * WINDOW; i++)
		request_init(&r[i]);
	while (d->client->acked_count < d->c->batches || d->client->flying_count) {
		if (d->client->acked_count < d->c->batches)
			fill_window(d);
		fly(d, &g, r);
	}
	for (int i = 0; i < 2 * WINDOW; i++)
		request_release(&r[i]);
	ingest_release(&g);
	return NULL;
}

/* Every hundredth write of a log fails, or is cut short. */
static ssize_t no_space(void *arg, enum io_call call, const char *name, int fd, size_t bytes)
{
	static _Atomic uint32_t calls;
	struct crowd *c = arg;
	(void)fd, (void)name;
	if (call != IO_WRITE || !c->faults || bytes < 100)
		return 0;
	uint32_t k = atomic_fetch_add(&calls, 1);
	return k % 40 == 7 ? -ENOSPC : k % 40 == 27 ? (ssize_t)(bytes / 2) : 0;
}

/* The log has each value of each client once, in order, and where it was acknowledged. */
static void expect_exactly_once(struct partition *p, const struct client *client, int clients)
{
	int64_t n, line = 0, *value_at[CLIENTS], next[CLIENTS];
	char *text = all_of(p, &n), *save;
	for (int i = 0; i < clients; i++) {
		value_at[i] = calloc((size_t)client[i].next_value + 1, sizeof(int64_t));
		next[i] = 0;
	}
	for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save), line++) {
		int64_t id, value;
		assert_int_equal(sscanf(l, "%" SCNd64 " %" SCNd64, &id, &value), 2);
		for (int i = 0; i < clients; i++) {
			if (client[i].id != id)
				continue;
			if (value != next[i])
				fail_msg("producer %" PRId64 ": value %" PRId64 " where %" PRId64 " should be", id, value, next[i]);
			assert_true(value < client[i].next_value);
			value_at[i][value] = line;
			next[i]++;
		}
	}
	for (int i = 0; i < clients; i++) {
		if (!client[i].flying_count)
			assert_int_equal(next[i], client[i].next_value);
		for (int k = 0; k < client[i].acked_count; k++)
			assert_int_equal(value_at[i][client[i].acked[k].value], client[i].acked[k].offset);
		free(value_at[i]);
	}
	free(text);
}

static void test_many_at_once(void **state)
{
	(void)state;
	static struct client client[CLIENTS];
	struct crowd c = {.faults = true, .batches = 1500};
	struct driver d[CLIENTS];
	pthread_t thread[CLIENTS];
	memset(client, 0, sizeof client);
	set_conf("log.segment.bytes=200000");
	open_broker();
	topic_unref(create("t", 1));
	c.p = use("t", 0);
	io_set_hook(no_space, &c);
	for (int i = 0; i < CLIENTS; i++) {
		client[i].id = 100 + i;
		client[i].next_sequence = i % 2 ? 0 : INT32_MAX - 1000;
		d[i] = (struct driver){&c, &client[i], 77 + (uint64_t)i};
		assert_int_equal(pthread_create(&thread[i], NULL, drive, &d[i]), 0);
	}
	for (int i = 0; i < CLIENTS; i++)
		pthread_join(thread[i], NULL);
	c.faults = false;
	assert_int_equal(c.errors, 0);
	assert_true(c.duplicates > 10 && c.refused > 10 && c.failed > 0);
	expect_exactly_once(c.p, client, CLIENTS);
	done_with(c.p);
	close_broker();
	io_set_hook(NULL, NULL);
	open_broker();
	c.p = use("t", 0);
	expect_exactly_once(c.p, client, CLIENTS);
	done_with(c.p);
	close_broker();
}

/* ---- killed ---- */

static struct client *shared_clients(void)
{
	char path[100];
	snprintf(path, sizeof path, "%s/clients", root);
	int fd = open(path, O_RDWR | O_CREAT, 0600);
	size_t bytes = CLIENTS * sizeof(struct client);
	if (fd < 0 || ftruncate(fd, (off_t)bytes) < 0)
		return NULL;
	struct client *c = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	return c == MAP_FAILED ? NULL : c;
}

static _Noreturn void produce_until_killed(int to, int round)
{
	struct crowd c = {.batches = INT32_MAX};
	struct driver d[CLIENTS];
	pthread_t thread;
	set_conf("log.segment.bytes=16384");
	set_conf("log.flush.offset.checkpoint.interval.ms=100");
	open_broker();
	c.p = use("t", 0);
	struct client *client = shared_clients();
	for (int i = 0; i < CLIENTS; i++) {
		d[i] = (struct driver){&c, &client[i], 7 + (uint64_t)(CLIENTS * round + i)};
		if (pthread_create(&thread, NULL, drive, &d[i]))
			_exit(1);
	}
	while (!c.errors) {
		if (write(to, ".", 1) != 1)
			_exit(2);
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
	_exit(3);
}

static pid_t run_child(int to, int round)
{
	char fd[20], number[20];
	snprintf(fd, sizeof fd, "%d", to);
	snprintf(number, sizeof number, "%d", round);
	pid_t pid = fork();
	if (pid == 0) {
		execl("/proc/self/exe", "test_idempotence", "produce", root, fd, number, (char *)NULL);
		_exit(127);
	}
	return pid;
}

/* The broker is killed under load; the clients live on, and send again what was not acknowledged. A client of the process that was killed may have been stopped between the
 * answer and its noting it: then it sends again what it knows. */
static void test_killed(void **state)
{
	(void)state;
	set_conf("log.segment.bytes=16384");
	open_broker();
	topic_unref(create("t", 1));
	close_broker();
	struct client *client = shared_clients();
	assert_non_null(client);
	for (int i = 0; i < CLIENTS; i++)
		client[i].id = 100 + i;
	for (int round = 0; round < 10; round++) {
		int fds[2], status;
		char buf[1];
		assert_int_equal(pipe(fds), 0);
		pid_t pid = run_child(fds[1], round);
		close(fds[1]);
		for (int i = 0; i < 20 + 17 * round && read(fds[0], buf, 1) == 1; i++)
			;
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (!WIFSIGNALED(status))
			fail_msg("round %d: the broker ended with %d", round, WEXITSTATUS(status));
		close(fds[0]);
	}
	open_broker();
	struct crowd c = {.p = use("t", 0)};
	for (int i = 0; i < CLIENTS; i++)
		drive(&(struct driver){&c, &client[i], 5});
	assert_int_equal(c.errors, 0);
	assert_int_equal(c.refused, 0);
	assert_true(client[0].acked_count > 50);
	expect_exactly_once(c.p, client, CLIENTS);
	munmap(client, CLIENTS * sizeof *client);
	done_with(c.p);
	close_broker();
}

/* For test_producers_for_kafka.py: logs of several segments by several producers, and a clean stop. */
static int write_logs(void)
{
	static const char recompressing[] = "compression.type=zstd\nmessage.timestamp.type=LogAppendTime\n";
	set_conf("log.segment.bytes=16384");
	open_broker();
	struct topic *t = create("zstd", 1);
	assert_int_equal(topic_configure(t, recompressing, strlen(recompressing), &err), 0);
	topic_unref(t);
	topic_unref(create("plain", 1));
	for (int which = 0; which < 2; which++) {
		struct partition *p = use(which ? "zstd" : "plain", 0);
		for (int i = 0; i < 300; i++)
			assert_int_equal(produce(p, 100 + i % 7, (int16_t)(i % 7), 10 * (i / 7), 10, 10 * (i / 7), ACKS_LEADER, NULL), 0);
		done_with(p);
	}
	close_broker();
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "write")) {
		snprintf(root, sizeof root, "%s", argv[2]);
		prepare();
		return write_logs();
	}
	if (argc == 5 && !strcmp(argv[1], "produce")) {
		snprintf(root, sizeof root, "%s", argv[2]);
		prepare();
		produce_until_killed(atoi(argv[3]), atoi(argv[4]));
	}
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_answers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failed_appends_are_forgotten, setup, teardown),
		cmocka_unit_test_setup_teardown(test_acks_all, setup, teardown),
		cmocka_unit_test_setup_teardown(test_log_append_time, setup, teardown),
		cmocka_unit_test_setup_teardown(test_known_after_a_stop, setup, teardown),
		cmocka_unit_test_setup_teardown(test_producers_are_listed_and_expire, setup, teardown),
		cmocka_unit_test_setup_teardown(test_old_records_do_not_make_a_producer_expire, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_killed, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
