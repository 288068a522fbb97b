#include "tests/unit/log_fixture.h"
#include "tests/unit/role_fixture.h"

#include "cluster/api/server.h"
#include "cluster/net/settings.h"
#include "cluster/remote/remote.h"
#include "cluster/replicas.h"

/* Reading what others have: brokers 1 and 2 serve a partition that broker 3 has nothing of; the test is their controller, and carries bytes between them. */

enum { HERE = 3, PATIENCE = 20000 };

static struct server *server[NODES + 1];
static struct remote *remote;
static struct partition *there;   /* of broker 3 */
static pthread_mutex_t address_lock = PTHREAD_MUTEX_INITIALIZER;
static char address[NODES + 1][NET_MAX_HOST + 8]; /* address_lock; "": not known */

static bool address_of(void *arg, int32_t id, char *text, size_t n)
{
	(void)arg;
	pthread_mutex_lock(&address_lock);
	bool known = address[id][0];
	snprintf(text, n, "%s", address[id]);
	pthread_mutex_unlock(&address_lock);
	return known;
}

static void set_address(int id, const char *text)
{
	pthread_mutex_lock(&address_lock);
	snprintf(address[id], sizeof address[id], "%s", text);
	pthread_mutex_unlock(&address_lock);
}

static void serve(int id)
{
	struct net_address at;
	char text[NET_MAX_HOST + 8];
	if (server_open(&server[id], node[id].b, NULL, &err) < 0 || server_run(server[id], &err) < 0)
		fail_msg("server: %s", err.text);
	assert_true(server_address(server[id], 0, &at));
	snprintf(text, sizeof text, "%s:%u", at.host, at.port);
	set_address(id, text);
}

static void stop_serving(int id)
{
	server_close(server[id], 5000);
	server[id] = NULL;
}

/* A topic has one id in all brokers, as a controller gives it. */
static void same_id(int id, int as)
{
	struct topic *t = topics_find(node[id].b, "t"), *other_topic = topics_find(node[as].b, "t");
	snprintf(t->id, sizeof t->id, "%s", other_topic->id);
	topic_id_changed(t);
	topic_unref(t);
	topic_unref(other_topic);
}

/* What broker 3 is told: the ids as digits, the leader first; "-12": nobody leads. */
static void tell(int32_t epoch, const char *replicas)
{
	struct partition_metadata m = {.leader = *replicas == '-' ? -1 : *replicas - '0', .leader_epoch = epoch};
	struct topic *t = topics_find(node[1].b, "t");
	for (const char *c = replicas + (*replicas == '-'); *c; c++)
		m.replicas[m.replica_count++] = m.isr[m.isr_count++] = *c - '0';
	if (replicas_tell(node[HERE].b, "t", topic_id_bytes(t), &(struct replicas_told){.metadata = &m}, 1, &err) < 0)
		fail_msg("replicas_tell: %s", err.text);
	topic_unref(t);
}

static int setup_remote(void **state)
{
	setup_nodes(state);
	for (int i = 1; i <= NODES; i++)
		conf_free(node[i].conf);
	conf_free(conf);
	conf_schema_free(schema);
	schema = server_schema(NULL);
	conf = conf_new(schema, NULL, CONF_BROKER);
	for (int i = 1; i <= NODES; i++) {
		char line[40];
		snprintf(line, sizeof line, "broker.id=%d", i);
		node[i].conf = conf_new(schema, NULL, CONF_BROKER);
		node_set(&node[i], line);
		node_set(&node[i], "listeners=127.0.0.1:0");
		node_set(&node[i], "log.segment.bytes=1048576");
		node_set(&node[i], "remote.read.timeout.ms=5000");
	}
	node_open(&node[1]);
	node_open(&node[2]);
	same_id(2, 1);
	serve(1);
	serve(2);
	struct broker_options o = {.data = node[HERE].data, .conf = node[HERE].conf, .roles = &node[HERE].calls};
	if (broker_open(&node[HERE].b, &o, &err) < 0 || remote_new(&remote, node[HERE].b, &(struct remote_calls){.address = address_of}, &err) < 0)
		fail_msg("%s", err.text);
	broker_set_remote(node[HERE].b, remote);
	become(1, 1, 1, "12", "12");
	become(2, 1, 1, "12", "12");
	tell(1, "12");
	struct topic *t = topics_find(node[HERE].b, "t");
	there = topic_partition(t, 0);
	topic_unref(t);
	return 0;
}

static int teardown_remote(void **state)
{
	partition_unref(there);
	remote_free(remote);
	broker_set_remote(node[HERE].b, NULL);
	for (int i = 1; i <= NODES; i++) {
		stop_serving(i);
		set_address(i, "");
	}
	return teardown_nodes(state);
}

/* ---- what is written ---- */

static void append_set(struct partition *p, struct wait *w, bool in_transaction)
{
	w->a.acks = ACKS_LEADER;
	w->a.in_transaction = in_transaction;
	w->a.done = appended;
	partition_append(p, &w->a);
	if (finish_append(w) < 0)
		fail_msg("append: %s", w->a.err.text);
	wait_release(w);
}

/* n records of `size` bytes and less, some without a value; of a transaction where the producer is not -1. */
static void write_batch(struct partition *p, enum codec codec, uint32_t n, uint32_t size, int64_t producer_id, int32_t sequence)
{
	struct wait w;
	struct batch_style style;
	struct record_in *in = calloc(n, sizeof *in);
	char *value = malloc(size + 1);
	wait_init(&w);
	for (uint32_t i = 0; i < size; i++)
		value[i] = (char)(i % 2 ? 'v' : 33 + below(90));
	topic_batch_style(partition_topic(p), &style);
	style.codec = codec;
	style.producer_id = producer_id;
	style.producer_epoch = producer_id < 0 ? -1 : 0;
	style.base_sequence = producer_id < 0 ? -1 : sequence;
	for (uint32_t i = 0; i < n; i++)
		in[i] = (struct record_in){.key = "key", .key_len = 3, .value = i % 11 == 5 ? NULL : value, .value_len = i % 11 == 5 ? -1 : (int32_t)(size - below(size + 1)), .timestamp_ms = wall_now_ms()};
	assert_int_equal(record_set_add_records(&w.set, &style, producer_id < 0 ? 0 : BATCH_TRANSACTIONAL, in, n, &err), 0);
	append_set(p, &w, producer_id >= 0);
	free(value);
	free(in);
}

static void write_marker(struct partition *p, int64_t producer_id, bool commit)
{
	struct wait w;
	wait_init(&w);
	assert_int_equal(record_set_add_marker(&w.set, producer_id, 0, commit, 0, wall_now_ms(), &err), 0);
	append_set(p, &w, true);
}

/* Batches of all kinds; transactions that are committed and aborted, one within the other. */
static void write_much(struct partition *p, int rounds)
{
	static int32_t first, second;
	for (int i = 0; i < rounds; i++) {
		write_batch(p, (enum codec)(i % CODEC_COUNT), 1 + below(60), 1 + below(4000), -1, 0);
		write_batch(p, CODEC_LZ4, 3, 100, 77, first);
		write_batch(p, CODEC_NONE, 2, 50, 78, second);
		write_batch(p, CODEC_NONE, 2, 50, -1, 0);
		write_marker(p, 77, i % 2);
		write_batch(p, CODEC_ZSTD, 3, 100, 78, second + 2);
		write_marker(p, 78, i % 3);
		first += 3;
		second += 5;
	}
}

/* Broker 2 has all that 1 has, and both know. */
static void carry(void)
{
	for (int i = 0; i < 200 && (end_of(2) < end_of(1) || high_of(2) < end_of(1)); i++)
		fetch(2, 1, 1);
	assert_int_equal(high_of(2), end_of(1));
}

/* ---- what is read ---- */

static char *read_there(int64_t *n, size_t step)
{
	struct visible v;
	struct partition_cursor *c = partition_cursor_new(there);
	if (partition_look(there, &v, &err) < 0)
		fail_msg("look: %s", err.text);
	char *all = malloc((size_t)(v.end_position - v.start_position) + 1);
	int64_t at = v.start_position;
	while (at < v.end_position) {
		size_t want = (size_t)(v.end_position - at) < step ? (size_t)(v.end_position - at) : step;
		ssize_t got = partition_read(there, c, at, all + (at - v.start_position), want, &err);
		if (got <= 0)
			fail_msg("at %" PRId64 " of %" PRId64 ": %s", at, v.end_position, got ? err.text : "the end");
		at += got;
	}
	*n = v.end_position - v.start_position;
	partition_cursor_free(c);
	return all;
}

static void check_all(int leader, size_t step)
{
	int64_t n, m;
	char byte;
	for (int i = 0; i < PATIENCE && high_of(leader) < end_of(leader); i++)
		usleep(1000); /* alone, it waits for the disk */
	char *expected = all_of(node[leader].p, &n), *got = read_there(&m, step);
	struct partition_cursor *c = partition_cursor_new(there);
	assert_int_equal(n, m);
	assert_int_equal(partition_read(there, c, n + node[leader].p->start_position, &byte, 1, &err), 0);
	partition_cursor_free(c);
	assert_memory_equal(expected, got, (size_t)n);
	free(expected);
	free(got);
}

static void check_some(int leader, int count)
{
	int64_t n;
	struct visible v;
	char *expected = all_of(node[leader].p, &n), *buf = malloc(70000);
	struct partition_cursor *c = partition_cursor_new(there);
	assert_int_equal(partition_look(there, &v, &err), 0);
	for (int i = 0; i < count; i++) {
		int64_t at = (int64_t)(((uint64_t)below(1 << 30) << 20 | below(1 << 20)) % (uint64_t)n);
		size_t want = 1 + below(i % 10 ? 5000 : 65000);
		ssize_t got = partition_read(there, c, v.start_position + at, buf, want, &err);
		if (got < 0)
			fail_msg("at %" PRId64 ": %s", at, err.text);
		assert_true(got > 0 && at + got <= n);
		assert_memory_equal(buf, expected + at, (size_t)got);
		if (i % 5 == 0)
			partition_cursor_rest(c);
	}
	partition_cursor_free(c);
	free(expected);
	free(buf);
}

/* ---- the tests ---- */

static void test_all_of_it_at_any_place(void **state)
{
	(void)state;
	write_much(node[1].p, 60);
	carry();
	check_all(1, 1 << 20);
	check_all(1, 7919);
	check_some(1, 400);
	write_batch(node[1].p, CODEC_NONE, 1, 3000000 / 4, -1, 0); /* a record larger than the first Fetch */
	carry();
	check_all(1, 100000);
	check_some(1, 50);
}

static void test_an_open_transaction_hides_what_is_behind_it(void **state)
{
	struct visible v;
	(void)state;
	write_much(node[1].p, 2);
	carry();
	assert_int_equal(partition_look(there, &v, &err), 0);
	int64_t end = v.end_position;
	write_batch(node[1].p, CODEC_NONE, 2, 50, 99, 0);
	write_batch(node[1].p, CODEC_NONE, 2, 50, -1, 0);
	carry();
	assert_int_equal(partition_look(there, &v, &err), 0);
	assert_int_equal(v.end_position, end);
	check_all(1, 4096);
	write_marker(node[1].p, 99, false);
	carry();
	check_all(1, 4096);
	assert_int_equal(partition_look(there, &v, &err), 0);
	assert_true(v.end_position > end);
}

static void test_it_goes_on_with_another_leader_and_never_back(void **state)
{
	struct visible v, w;
	char byte[100];
	(void)state;
	write_much(node[1].p, 5);
	carry();
	assert_int_equal(partition_look(there, &v, &err), 0);
	say_at(1, "last\n");
	fetch(2, 1, 1);
	fetch(2, 1, 1); /* so 1 knows that 2 has it; */
	assert_int_equal(partition_look(there, &w, &err), 0);
	assert_int_equal(w.end_position, v.end_position + 5);
	say_at(1, "more\n");
	fetch(2, 1, 1); /* 2 has this one, and 1 does not know that, */
	struct carried told;
	assert_int_equal(ask_leader(2, 1, 1, end_of(1), 1, &told), 0); /* and now it does, and 2 was not told */
	free(told.bytes);
	assert_int_equal(partition_look(there, &w, &err), 0);
	assert_int_equal(w.end_position, v.end_position + 10);
	struct partition_cursor *c = partition_cursor_new(there);
	assert_int_equal(partition_read(there, c, w.end_position - 10, byte, 5, &err), 5);
	stop_serving(1);
	tell(1, "-12");
	assert_int_equal(partition_look(there, &v, &err), 0); /* nobody leads; what was seen is there */
	assert_int_equal(v.end_position, w.end_position);
	become(2, 2, 2, "2", "12");
	tell(2, "21");
	assert_int_equal(partition_look(there, &v, &err), 0);
	assert_int_equal(v.end_position, w.end_position);
	assert_int_equal(partition_cuts(there), 0);
	assert_int_equal(partition_read(there, c, w.end_position - 5, byte, 100, &err), 5);
	assert_memory_equal(byte, "more\n", 5);
	partition_cursor_free(c);
	say_at(2, "of the second\n");
	check_all(2, 4096);
}

static void test_what_the_new_leader_never_had_is_an_error_for_who_has_read_it(void **state)
{
	struct visible v;
	char buf[100];
	(void)state;
	say_at(1, "one\n");
	carry();
	become(1, 1, 2, "1", "12"); /* alone, it commits */
	say_at(1, "lost\n");
	tell(2, "1");
	for (int i = 0; i < PATIENCE && (partition_look(there, &v, &err) < 0 || v.end_position < 9); i++)
		usleep(1000);
	assert_int_equal(v.end_position, 9);
	struct partition_cursor *c = partition_cursor_new(there);
	assert_int_equal(partition_read(there, c, 0, buf, 9, &err), 9);
	stop_serving(1);
	become(2, 2, 3, "2", "12");
	tell(3, "2");
	for (int i = 0; i < PATIENCE && !partition_cuts(there); i++, usleep(1000))
		assert_int_equal(partition_look(there, &v, &err), 0);
	assert_int_equal(partition_cuts(there), 1);
	assert_int_equal(partition_look(there, &v, &err), 0);
	assert_int_equal(v.end_position, 4);
	assert_int_equal(partition_read(there, c, 4, buf, 5, &err), ERR_CORRUPT);
	partition_cursor_free(c);
	say_at(2, "other\n");
	check_all(2, 10);
}

static void test_what_was_deleted_is_out_of_range(void **state)
{
	struct visible v, w;
	char byte;
	(void)state;
	write_much(node[1].p, 5);
	carry();
	struct partition_cursor *c = partition_cursor_new(there);
	assert_int_equal(partition_look(there, &v, &err), 0);
	assert_int_equal(partition_read(there, c, 0, &byte, 1, &err), 1);
	partition_cursor_rest(c);
	assert_int_equal(partition_delete_before(node[1].p, v.end_offset / 2, &err), 0);
	carry();
	assert_int_equal(partition_read(there, c, 1, &byte, 1, &err), ERR_OUT_OF_RANGE);
	assert_int_equal(partition_look(there, &w, &err), 0);
	assert_true(w.start_offset == v.end_offset / 2 && w.start_position > 0 && w.end_position == v.end_position);
	assert_int_equal(partition_read(there, c, w.start_position - 1, &byte, 1, &err), ERR_OUT_OF_RANGE);
	assert_int_equal(partition_read(there, c, w.start_position, &byte, 1, &err), 1);
	partition_cursor_free(c);
	check_all(1, 5000);
}

static void test_a_replica_that_is_made_here_is_read_when_it_has_all_that_was_shown(void **state)
{
	struct visible v, w;
	struct partition *p;
	(void)state;
	write_much(node[1].p, 3);
	carry();
	assert_int_equal(partition_look(there, &v, &err), 0);
	assert_true(partition_may_wait(there));
	assert_int_equal(replicas_make(node[HERE].b, "t", topic_id_bytes(partition_topic(there)), 0, true, &p, &err), 0);
	assert_ptr_equal(p, there);
	node[HERE].p = p;
	assert_int_equal(partition_acquire(p, &err), 0);
	become(HERE, 1, 1, "12", "123");
	assert_int_equal(partition_visible(there, &w, &err), 0);
	assert_int_equal(w.end_position, v.end_position); /* though it is empty here */
	check_all(1, 4096);
	become(1, 1, 1, "12", "123");
	for (int i = 0; i < 50; i++)
		fetch(HERE, 1, 1);
	assert_false(partition_may_wait(there));
	stop_serving(1);
	stop_serving(2);
	check_all(HERE, 4096);
}

struct reading { pthread_t id; int code; };

static void *read_in_vain(void *arg)
{
	struct reading *x = arg;
	struct partition_cursor *c = partition_cursor_new(there);
	char byte;
	x->code = (int)partition_read(there, c, 0, &byte, 1, NULL);
	partition_cursor_free(c);
	return NULL;
}

static void test_who_waits_ends_when_the_mount_does(void **state)
{
	struct reading x;
	(void)state;
	say_at(1, "one\n");
	stop_serving(1);
	stop_serving(2);
	tell(1, "-12");
	pthread_create(&x.id, NULL, read_in_vain, &x);
	usleep(100000);
	remote_stop(remote);
	pthread_join(x.id, NULL);
	assert_int_equal(x.code, ERR_STOPPING);
}

static void test_a_topic_that_is_deleted(void **state)
{
	struct visible v;
	char byte;
	(void)state;
	say_at(1, "one\n");
	carry();
	struct partition_cursor *c = partition_cursor_new(there);
	assert_int_equal(partition_look(there, &v, &err), 0);
	assert_int_equal(partition_read(there, c, 0, &byte, 1, &err), 1);
	replicas_tell(node[HERE].b, "t", topic_id_bytes(partition_topic(there)), &(struct replicas_told){.deleted = true}, 1, &err);
	assert_int_equal(partition_look(there, &v, &err), ERR_DELETED);
	assert_int_equal(partition_visible(there, &v, &err), ERR_DELETED);
	assert_int_equal(partition_read(there, c, 1, &byte, 1, &err), ERR_DELETED);
	partition_cursor_free(c);
}

struct load { pthread_t id; _Atomic bool stop; int wrong; };

static void *append_on(void *arg)
{
	struct load *x = arg;
	for (int i = 0; i < 500 && !x->stop; i++)
		write_batch(node[1].p, (enum codec)below(CODEC_COUNT), 1 + below(20), 1 + below(300), -1, 0);
	return NULL;
}

static void *look_on(void *arg)
{
	struct load *x = arg;
	struct visible v;
	int64_t last = 0;
	while (!x->stop) {
		x->wrong += partition_look(there, &v, NULL) < 0 || v.end_position < last;
		last = v.end_position;
	}
	return NULL;
}

static void test_while_it_grows(void **state)
{
	(void)state;
	struct load writer = {0}, looker[2] = {{0}, {0}};
	become(1, 1, 2, "1", "1");
	tell(2, "1");
	pthread_create(&writer.id, NULL, append_on, &writer);
	for (int i = 0; i < 2; i++)
		pthread_create(&looker[i].id, NULL, look_on, &looker[i]);
	for (int i = 0; i < 20; i++) {
		int64_t n, m;
		char *got = read_there(&n, 1000 + (size_t)i * 4999), *expected = all_of(node[1].p, &m);
		assert_true(n <= m);
		assert_memory_equal(got, expected, (size_t)n);
		free(got);
		free(expected);
	}
	writer.stop = looker[0].stop = looker[1].stop = true;
	pthread_join(writer.id, NULL);
	for (int i = 0; i < 2; i++) {
		pthread_join(looker[i].id, NULL);
		assert_int_equal(looker[i].wrong, 0);
	}
	check_all(1, 1 << 20);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup_remote, teardown_remote)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_all_of_it_at_any_place),
		TEST(test_an_open_transaction_hides_what_is_behind_it),
		TEST(test_it_goes_on_with_another_leader_and_never_back),
		TEST(test_what_the_new_leader_never_had_is_an_error_for_who_has_read_it),
		TEST(test_what_was_deleted_is_out_of_range),
		TEST(test_a_replica_that_is_made_here_is_read_when_it_has_all_that_was_shown),
		TEST(test_who_waits_ends_when_the_mount_does),
		TEST(test_a_topic_that_is_deleted),
		TEST(test_while_it_grows),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
