#include "tests/unit/follow_fixture.h"
#include "tests/unit/role_fixture.h"

#include <arpa/inet.h>
#include <glob.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "cluster/api/server.h"
#include "cluster/net/settings.h"
#include "cluster/replica/fetcher.h"
#include "store/counters.h"

/* Fetchers against real servers: three brokers in one process, each with a listener on loopback; the test is their controller. */

enum { PATIENCE = 20000, MANY = 300, FEW = 30 };

static struct server *server[NODES + 1];
static struct fetcher *fetcher[NODES + 1];
static pthread_mutex_t address_lock = PTHREAD_MUTEX_INITIALIZER;
static char address[NODES + 1][NET_MAX_HOST + 8]; /* address_lock; "": not known */

static void set_all(const char *property)
{
	for (int i = 1; i <= NODES; i++)
		node_set(&node[i], property);
}

static int setup_cluster(void **state)
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
	}
	set_all("listeners=127.0.0.1:0");
	set_all("replica.fetch.wait.max.ms=50");
	set_all("replica.fetch.backoff.ms=20");
	set_all("log.segment.bytes=1048576");
	return 0;
}

/* ---- brokers ---- */

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

static int64_t epoch_of(void *arg)
{
	(void)arg;
	return 1;
}

/* A topic has one id in all brokers, as a controller gives it. */
static void same_id(int id, int as, const char *name)
{
	struct topic *t = topics_find(node[id].b, name), *other_topic = topics_find(node[as].b, name);
	assert_true(t && other_topic);
	snprintf(t->id, sizeof t->id, "%s", other_topic->id);
	topic_id_changed(t);
	for (int32_t i = 0; i < t->partition_count; i++) {
		char *path = partition_path(t->partition[i]);
		assert_int_equal(partition_metadata_write(path, t->id, &err), 0);
		free(path);
	}
	topic_unref(t);
	topic_unref(other_topic);
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

static void start_fetcher(int id)
{
	struct fetcher_calls calls = {.address = address_of, .broker_epoch = epoch_of};
	if (fetcher_new(&fetcher[id], node[id].b, &calls, &err) < 0)
		fail_msg("fetcher: %s", err.text);
}

static void start(int id)
{
	bool known = node[id].b || access(node[id].data, F_OK) == 0;
	node_open(&node[id]);
	if (id > 1 && !known)
		same_id(id, 1, "t");
	serve(id);
	start_fetcher(id);
}

static void stop(int id)
{
	fetcher_free(fetcher[id]);
	fetcher[id] = NULL;
	stop_serving(id);
	set_address(id, "");
	node_close(&node[id]);
}

static int teardown_cluster(void **state)
{
	for (int i = 1; i <= NODES; i++) {
		fetcher_free(fetcher[i]);
		fetcher[i] = NULL;
	}
	for (int i = 1; i <= NODES; i++) {
		stop_serving(i);
		set_address(i, "");
	}
	return teardown_nodes(state);
}

/* ---- roles ---- */

static void follow_now(int id, int leader, int32_t epoch)
{
	if (fetcher_follow(fetcher[id], node[id].p, leader, epoch, &err) < 0)
		fail_msg("fetcher_follow: %s", err.text);
}

/* All three of `brokers` (digits) are replicas and in sync; the leader first, so that it knows when it is asked. */
static void lead(int leader, int32_t epoch, const char *brokers)
{
	become(leader, leader, epoch, brokers, brokers);
	fetcher_unfollow(fetcher[leader], node[leader].p);
	for (const char *c = brokers; *c; c++)
		if (*c - '0' != leader) {
			become(*c - '0', leader, epoch, brokers, brokers);
			follow_now(*c - '0', leader, epoch);
		}
}

/* ---- waiting ---- */

static bool same_ends(struct partition *f, struct partition *l)
{
	struct partition_ends a, z;
	partition_take_ends(f, &a);
	partition_take_ends(l, &z);
	return a.log_end == z.log_end && a.high_watermark == z.high_watermark && a.log_start == z.log_start && a.high_watermark == a.log_end;
}

#define wait_until(is_so)                                     \
	do {                                                  \
		int left_ms = PATIENCE;                       \
		while (!(is_so) && left_ms-- > 0)             \
			usleep(1000);                         \
		if (left_ms < 0)                              \
			fail_msg("never came: %s", #is_so);   \
	} while (0)

static void wait_in_step(int follower, int leader)
{
	wait_until(same_ends(node[follower].p, node[leader].p));
}

static size_t given_up(int id)
{
	struct fetcher_counts c;
	fetcher_count(fetcher[id], &c);
	return c.given_up;
}

static size_t threads(int id)
{
	struct fetcher_counts c;
	fetcher_count(fetcher[id], &c);
	return c.threads;
}

/* ---- what is written ---- */

/* n records of `size` bytes, of which about half compresses; of a transaction where the producer is not -1. */
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
		in[i] = (struct record_in){.key = i % 3 ? "key" : NULL, .key_len = i % 3 ? 3 : -1, .value = value, .value_len = (int32_t)(size - i % 7), .timestamp_ms = wall_now_ms()};
	assert_int_equal(record_set_add_records(&w.set, &style, producer_id < 0 ? 0 : BATCH_TRANSACTIONAL, in, n, &err), 0);
	w.a.acks = ACKS_LEADER;
	w.a.in_transaction = producer_id >= 0;
	w.a.done = appended;
	partition_append(p, &w.a);
	if (finish_append(&w) < 0)
		fail_msg("append: %s", w.a.err.text);
	wait_release(&w);
	free(value);
	free(in);
}

static void write_marker(struct partition *p, int64_t producer_id, bool commit)
{
	struct wait w;
	wait_init(&w);
	assert_int_equal(record_set_add_marker(&w.set, producer_id, 0, commit, 0, wall_now_ms(), &err), 0);
	w.a.acks = ACKS_LEADER;
	w.a.in_transaction = true;
	w.a.done = appended;
	partition_append(p, &w.a);
	if (finish_append(&w) < 0)
		fail_msg("marker: %s", w.a.err.text);
	wait_release(&w);
}

static void write_much(struct partition *p, int rounds)
{
	static int32_t sequence;
	for (int i = 0; i < rounds; i++)
		write_batch(p, (enum codec)(i % CODEC_COUNT), 1 + below(60), 10 + below(4000), -1, 0);
	write_batch(p, CODEC_LZ4, 3, 100, 77, sequence);
	write_batch(p, CODEC_NONE, 2, 50, -1, 0);
	write_marker(p, 77, false);
	write_batch(p, CODEC_ZSTD, 3, 100, 77, sequence + 3);
	write_marker(p, 77, true);
	sequence += 6;
}

/* ---- both have the same ---- */

enum history { SMOOTH, BROKEN };

static void remove_all(const char *dir, const char *pattern)
{
	char path[160];
	glob_t found;
	snprintf(path, sizeof path, "%s/%s", dir, pattern);
	if (glob(path, 0, NULL, &found) == 0)
		for (size_t i = 0; i < found.gl_pathc; i++)
			unlink(found.gl_pathv[i]);
	globfree(&found);
}

/* Stops both and compares their files. Where a log was closed or cut in between, its .timeindex has an entry for that, which the other's has not. */
static void check_same(int first, int second, enum history history)
{
	char a[120], z[120];
	int64_t n, m;
	char *one = all_of(node[first].p, &n), *two = all_of(node[second].p, &m);
	struct visible v, w;
	assert_true(n == m && !memcmp(one, two, (size_t)n));
	assert_int_equal(partition_visible(node[first].p, &v, &err), 0);
	assert_int_equal(partition_visible(node[second].p, &w, &err), 0);
	assert_true(v.start_offset == w.start_offset && v.start_position == w.start_position && v.end_offset == w.end_offset && v.end_position == w.end_position);
	free(one);
	free(two);
	stop(first);
	stop(second);
	snprintf(a, sizeof a, "%s/t-0", node[first].data);
	snprintf(z, sizeof z, "%s/t-0", node[second].data);
	remove_all(a, "topic.properties"); /* when it was made here */
	remove_all(z, "topic.properties");
	if (history == BROKEN) {
		remove_all(a, "*.timeindex");
		remove_all(z, "*.timeindex");
	}
	check_same_files(a, z, false);
}

/* ---- the tests ---- */

static void test_follows_from_the_beginning(void **state)
{
	(void)state;
	start(1);
	start(2);
	become(1, 1, 1, "1", "12");
	write_much(node[1].p, 120);
	assert_true(node[1].p->log->shape->segment_count > 2);
	become(2, 1, 1, "1", "12");
	follow_now(2, 1, 1);
	wait_until(end_of(2) == end_of(1));
	wait_until(!strcmp(asked_of(1), "12"));
	grant(1);
	wait_in_step(2, 1);
	write_much(node[1].p, 40); /* while it follows */
	wait_in_step(2, 1);
	assert_int_equal(try_say_at(1, "acknowledged by both\n", ACKS_ALL), 0);
	wait_in_step(2, 1);
	check_same(1, 2, SMOOTH);
}

static void test_an_empty_partition(void **state)
{
	(void)state;
	start(1);
	start(2);
	lead(1, 1, "12");
	say_at(1, "one\n");
	wait_in_step(2, 1);
	check_same(1, 2, SMOOTH);
}

/* Answers that have room for a part of what there is, and batches that are larger. */
static void test_small_answers(void **state)
{
	(void)state;
	set_all("replica.fetch.max.bytes=3000");
	set_all("replica.fetch.response.max.bytes=5000");
	start(1);
	start(2);
	become(1, 1, 1, "1", "12");
	write_much(node[1].p, 30);
	lead(1, 2, "12");
	wait_in_step(2, 1);
	check_same(1, 2, SMOOTH);
}

/* Each of the two has led and has written what the other does not have, more than once (KIP-279). */
static void test_epochs_part(void **state)
{
	(void)state;
	start(1);
	start(2);
	lead(1, 1, "12");
	say_at(1, "both\n");
	wait_in_step(2, 1);
	fetcher_unfollow(fetcher[2], node[2].p);
	for (int32_t epoch = 2; epoch < 10; epoch += 2) { /* neither hears of the other */
		become(1, 1, epoch, "1", "12");
		write_batch(node[1].p, CODEC_NONE, 1 + below(3), 20, -1, 0);
		become(2, 2, epoch + 1, "2", "12");
		write_batch(node[2].p, CODEC_NONE, 1 + below(5), 20, -1, 0);
	}
	lead(1, 20, "12");
	wait_until(end_of(2) == end_of(1));
	say_at(1, "agreed\n");
	wait_in_step(2, 1);
	assert_string_equal(log_of(1), log_of(2));
	check_same(1, 2, BROKEN);
}

/* The answer to a Fetch is what cuts: the logs part once they were aligned. */
static void test_a_diverging_answer_cuts(void **state)
{
	(void)state;
	start(1);
	start(2);
	lead(1, 1, "12");
	say_at(1, "both\n");
	wait_in_step(2, 1);
	stop_serving(1); /* it is down, and its log is cut and goes on otherwise, in the same epoch: as by an unclean stop */
	say_at(1, "lost\n");
	become(2, 1, 1, "12", "12");
	struct carried c;
	assert_int_equal(ask_leader(2, 1, 1, 1, 1 << 20, &c), 0);
	int64_t end;
	assert_int_equal(partition_follower_append(node[2].p, c.bytes, c.n, 1, 0, 1, &end, &err), 0);
	free(c.bytes);
	assert_string_equal(log_of(2), "both lost ");
	become(1, 2, 2, "12", "12");
	assert_int_equal(partition_follower_truncate(node[1].p, 1, 2, &err), 0);
	become(1, 1, 3, "12", "12");
	say_at(1, "other\n");
	say_at(1, "and more\n");
	serve(1);
	become(2, 1, 3, "12", "12");
	follow_now(2, 1, 3);
	wait_in_step(2, 1);
	assert_string_equal(log_of(2), "both other and more ");
	check_same(1, 2, BROKEN);
}

static void test_the_leader_changes(void **state)
{
	(void)state;
	for (int i = 1; i <= 3; i++)
		start(i);
	for (int32_t epoch = 1; epoch < 12; epoch++) {
		int leader = 1 + epoch % 3;
		lead(leader, epoch, "123");
		write_batch(node[leader].p, (enum codec)(epoch % CODEC_COUNT), 20, 500, -1, 0);
		if (epoch % 3 == 0)
			for (int i = 1; i <= 3; i++)
				wait_in_step(i, leader);
		say_at(leader, "in the air\n");
	}
	lead(1, 12, "123");
	say_at(1, "last\n");
	wait_in_step(2, 1);
	wait_in_step(3, 1);
	assert_string_equal(seen_at(1), seen_at(2));
	check_same(2, 3, BROKEN);
}

static void test_the_leader_is_started_again(void **state)
{
	(void)state;
	start(1);
	start(2);
	lead(1, 1, "12");
	write_much(node[1].p, 5);
	wait_in_step(2, 1);
	stop(1);
	fetcher_unfollow(fetcher[2], node[2].p);
	follow_now(2, 1, 1); /* nobody is there */
	usleep(100000);
	start(1);
	become(1, 1, 1, "12", "12");
	write_much(node[1].p, 5);
	wait_in_step(2, 1);
	stop_serving(1); /* the connection alone */
	say_at(1, "meanwhile\n");
	serve(1);
	wait_in_step(2, 1);
	check_same(1, 2, BROKEN);
}

static int64_t log_start_of(int id)
{
	struct visible v;
	assert_int_equal(partition_visible(node[id].p, &v, &err), 0);
	return v.start_offset;
}

static void test_starts_behind_the_leaders_log(void **state)
{
	(void)state;
	start(1);
	start(2);
	become(1, 1, 1, "1", "12");
	for (int i = 0; i < 50; i++)
		say_at(1, "0123456789\n");
	wait_until(high_of(1) == 50);
	assert_int_equal(partition_delete_before(node[1].p, 40, &err), 0);
	lead(1, 2, "12"); /* an empty follower */
	wait_in_step(2, 1);
	struct visible v;
	assert_int_equal(partition_visible(node[2].p, &v, &err), 0);
	assert_true(v.start_offset == 40 && v.start_position == 40 * 11 && v.end_position == 50 * 11);
	fetcher_unfollow(fetcher[2], node[2].p); /* one that has something, which is all deleted there by now */
	become(1, 1, 3, "1", "12");
	for (int i = 0; i < 50; i++)
		say_at(1, "abcdefghi\n");
	wait_until(high_of(1) == 100);
	assert_int_equal(partition_delete_before(node[1].p, 90, &err), 0);
	lead(1, 4, "12");
	wait_in_step(2, 1);
	assert_int_equal(partition_visible(node[2].p, &v, &err), 0);
	assert_true(v.start_offset == 90 && v.start_position == 50 * 11 + 40 * 10 && v.end_position == 50 * 11 + 50 * 10);
	assert_int_equal(partition_delete_before(node[1].p, 95, &err), 0); /* its log start is the leader's from then on */
	say_at(1, "one more\n");
	wait_until(log_start_of(2) == 95);
	wait_in_step(2, 1);
	assert_string_equal(seen_at(1), seen_at(2));
}

/* It begins past the end of a leader that never had so much: no epoch tells of that. */
static void test_begins_past_the_leaders_end(void **state)
{
	(void)state;
	start(1);
	start(2);
	become(1, 1, 1, "1", "12");
	for (int i = 0; i < 5; i++)
		say_at(1, "line\n");
	become(2, 1, 1, "1", "12");
	assert_int_equal(partition_follower_restart(node[2].p, 40, 4000, 1, &err), 0);
	lead(1, 2, "12");
	wait_in_step(2, 1);
	struct visible v;
	assert_int_equal(partition_visible(node[2].p, &v, &err), 0);
	assert_true(v.start_offset == 0 && v.start_position == 0 && v.end_position == 25);
	check_same(1, 2, SMOOTH);
}

/* ---- many partitions ---- */

static struct topic *many[NODES + 1];
static int32_t many_count;

static void make_many(int id, int32_t count)
{
	many_count = count;
	assert_int_equal(topics_create(node[id].b, "many", count, NULL, &many[id], &err), 0);
	if (id > 1)
		same_id(id, 1, "many");
}

/* Gives roles in all of them, the leader's first. */
static void lead_many(int leader, int follower, int32_t epoch)
{
	int32_t both[2] = {1, 2};
	struct partition_role r = {.leader = leader, .leader_epoch = epoch, .partition_epoch = epoch, .controller_epoch = 1, .isr = both, .isr_count = 2, .replicas = both, .replica_count = 2};
	for (int turn = 0; turn < 2; turn++)
		for (int32_t i = 0; i < many_count; i++) {
			int id = turn ? follower : leader;
			struct partition *p = topic_partition(many[id], i);
			assert_int_equal(partition_become(p, &r, &err), 0);
			if (turn)
				assert_int_equal(fetcher_follow(fetcher[id], p, leader, epoch, &err), 0);
			else
				fetcher_unfollow(fetcher[id], p);
			partition_unref(p);
		}
}

static void say_many(int id, int32_t step)
{
	for (int32_t i = 0; i < many_count; i += step) {
		struct partition *p = topic_partition(many[id], i);
		assert_int_equal(partition_acquire(p, &err), 0);
		say(p, "to one of many\n");
		done_with(p);
	}
}

static void wait_many(int follower, int leader)
{
	for (int32_t i = 0; i < many_count; i++) {
		struct partition *f = topic_partition(many[follower], i), *l = topic_partition(many[leader], i);
		wait_until(same_ends(f, l));
		partition_unref(f);
		partition_unref(l);
	}
}

static void many_partitions(size_t expected_threads)
{
	start(1);
	start(2);
	make_many(1, MANY);
	make_many(2, MANY);
	lead_many(1, 2, 1);
	assert_int_equal(threads(2), expected_threads);
	say_many(1, 1);
	wait_many(2, 1);
	say_many(1, 7);
	wait_many(2, 1);
	lead_many(2, 1, 2); /* the other way round */
	assert_int_equal(threads(1), expected_threads);
	say_many(2, 3);
	wait_many(1, 2);
	topic_unref(many[1]);
	topic_unref(many[2]);
}

static void test_many_partitions(void **state)
{
	(void)state;
	many_partitions(1);
}

static void test_many_partitions_and_threads(void **state)
{
	(void)state;
	set_all("num.replica.fetchers=3");
	many_partitions(3);
}

static void test_no_sessions(void **state)
{
	(void)state;
	set_all("max.incremental.fetch.session.cache.slots=0");
	many_partitions(1);
}

static void note_counter(void *arg, const struct counter *c)
{
	if (!strcmp(c->name, "spoolfs_fetches_total"))
		*(uint64_t *)arg = c->value;
}

static uint64_t lookups(void)
{
	uint64_t n = 0;
	counters_walk(note_counter, &n);
	return n;
}

/* A follower of many partitions where nothing happens: rounds go on in one of them, and the others are not looked at. */
static void test_idle_partitions_are_not_looked_at(void **state)
{
	enum { ROUNDS = 50 };
	(void)state;
	start(1);
	start(2);
	make_many(1, MANY);
	make_many(2, MANY);
	lead(1, 1, "12");
	lead_many(1, 2, 1);
	say_many(1, 1);
	wait_many(2, 1);
	say_at(1, "first\n");
	wait_in_step(2, 1);
	uint64_t before = lookups();
	for (int i = 0; i < ROUNDS; i++) {
		say_at(1, "again\n");
		wait_in_step(2, 1);
	}
	assert_true(lookups() - before < ROUNDS * 20);
	struct partition *p = topic_partition(many[1], 3);
	for (int i = 1; i < 10; i++) /* who has all there was stays in sync, however long ago it was that its fetches spoke of the partition */
		partition_check_isr(p, now_ms() + i * 100000);
	assert_string_equal(asked_of(1), "");
	partition_unref(p);
	topic_unref(many[1]);
	topic_unref(many[2]);
}

/* ---- waiting, and giving up ---- */

/* Fetches are held back for longer than this test takes: followers hear at once how far all are. */
static void test_what_is_committed_is_seen_at_once(void **state)
{
	(void)state;
	set_all("replica.socket.timeout.ms=3600000");
	set_all("replica.lag.time.max.ms=3600000");
	set_all("replica.fetch.wait.max.ms=3600000");
	for (int i = 1; i <= 3; i++)
		start(i);
	lead(1, 1, "123");
	for (int i = 0; i < 20; i++) {
		assert_int_equal(try_say_at(1, "one more\n", i % 2 ? ACKS_ALL : ACKS_LEADER), 0);
		wait_in_step(2, 1);
		wait_in_step(3, 1);
	}
	assert_string_equal(seen_at(3), seen_at(1));
	assert_int_equal(partition_delete_before(node[1].p, 15, &err), 0);
	wait_until(log_start_of(2) == 15 && log_start_of(3) == 15);
}

/* Fetches are held back for longer than this test takes: what is new does not wait for them, nor does the end. */
static void test_nothing_waits_for_a_parked_fetch(void **state)
{
	(void)state;
	set_all("replica.lag.time.max.ms=3600000");
	set_all("replica.socket.timeout.ms=3600000");
	set_all("replica.fetch.wait.max.ms=3600000");
	start(1);
	start(2);
	make_many(1, MANY);
	make_many(2, MANY);
	lead(1, 1, "12");
	say_at(1, "one\n");
	wait_until(end_of(2) == 1);
	usleep(50000);
	lead_many(1, 2, 1);
	say_many(1, 1);
	for (int32_t i = 0; i < many_count; i++) {
		struct partition *p = topic_partition(many[2], i);
		struct partition_ends x;
		wait_until((partition_take_ends(p, &x), x.log_end == 1));
		partition_unref(p);
	}
	say_at(1, "two\n"); /* what was followed before still is */
	wait_until(end_of(2) == 2);
	topic_unref(many[1]);
	topic_unref(many[2]);
	usleep(50000);
	stop(2);
}

/* Nor does the end wait for a leader that takes connections and is silent. */
static void test_ends_though_the_leader_is_silent(void **state)
{
	(void)state;
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof at;
	char text[40];
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0 && bind(fd, (struct sockaddr *)&at, n) == 0 && listen(fd, 5) == 0 && getsockname(fd, (struct sockaddr *)&at, &n) == 0);
	set_all("replica.socket.timeout.ms=3600000");
	start(1);
	start(2);
	snprintf(text, sizeof text, "127.0.0.1:%d", ntohs(at.sin_port));
	set_address(3, text);
	become(2, 3, 1, "3", "23");
	follow_now(2, 3, 1);
	usleep(50000);
	stop(2);
	close(fd);
}

static void test_gives_up_until_another_role(void **state)
{
	(void)state;
	start(1);
	start(2);
	become(1, 1, 5, "1", "12");
	become(2, 1, 4, "1", "12");
	follow_now(2, 1, 4); /* which is over */
	wait_until(given_up(2) == 1);
	become(2, 1, 6, "1", "12");
	follow_now(2, 1, 6); /* which the leader does not know yet */
	usleep(100000);
	assert_int_equal(given_up(2), 0);
	become(1, 1, 6, "12", "12");
	say_at(1, "now\n");
	wait_in_step(2, 1);
	become(2, 2, 7, "2", "12"); /* it leads, and its fetcher was not told */
	say_at(1, "refused\n");
	wait_until(given_up(2) == 1);
	assert_int_equal(end_of(2), 1);
	lead(1, 8, "12");
	wait_in_step(2, 1);
	assert_int_equal(given_up(2), 0);
	assert_string_equal(seen_at(2), "now refused ");
}

static void test_a_log_directory_goes_out_of_service(void **state)
{
	(void)state;
	start(1);
	start(2);
	lead(1, 1, "12");
	say_at(1, "one\n");
	wait_in_step(2, 1);
	node[2].p->dir->offline = true;
	say_at(1, "two\n");
	wait_until(given_up(2) == 1);
	assert_int_equal(end_of(2), 1);
	node[2].p->dir->offline = false;
	lead(1, 2, "12");
	wait_in_step(2, 1);
}

static void test_a_topic_is_deleted(void **state)
{
	(void)state;
	start(1);
	start(2);
	make_many(1, FEW);
	make_many(2, FEW);
	lead_many(1, 2, 1);
	lead(1, 1, "12");
	say_many(1, 1);
	wait_many(2, 1);
	assert_int_equal(topics_delete(node[1].b, many[1], false, &err), 0); /* there first: it asks on, and in vain */
	usleep(50000);
	assert_int_equal(topics_delete(node[2].b, many[2], false, &err), 0);
	say_at(1, "another\n");
	wait_in_step(2, 1);
	struct topic *t = many[2];
	for (int32_t i = 0; i < many_count; i++) {
		struct partition *p = topic_partition(t, i);
		fetcher_unfollow(fetcher[2], p);
		partition_unref(p);
	}
	topic_unref(many[1]);
	say_at(1, "and another\n");
	wait_in_step(2, 1);
	wait_until(t->refs == 1);
	topic_unref(t);
}

/* Roles come faster than anything can be fetched. */
static void test_roles_in_a_hurry(void **state)
{
	(void)state;
	start(1);
	start(2);
	for (int32_t epoch = 1; epoch < 200; epoch++) {
		int leader = 1 + epoch % 2;
		lead(leader, epoch, "12");
		if (epoch % 3 == 0)
			say_at(leader, "line\n");
		if (epoch % 5 == 0)
			fetcher_unfollow(fetcher[3 - leader], node[3 - leader].p);
		if (epoch % 20 == 0)
			usleep(20000);
	}
	lead(1, 200, "12");
	say_at(1, "last\n");
	wait_in_step(2, 1);
	check_same(1, 2, BROKEN);
}

static void test_properties_that_do_not_go_together(void **state)
{
	(void)state;
	struct fetcher_calls calls = {.address = address_of, .broker_epoch = epoch_of};
	set_all("replica.socket.timeout.ms=49");
	node_open(&node[1]);
	assert_int_equal(fetcher_new(&fetcher[1], node[1].b, &calls, &err), ERR_INVALID);
	assert_non_null(strstr(err.text, "replica.socket.timeout.ms"));
	assert_null(fetcher[1]);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup_cluster, teardown_cluster)
	const struct CMUnitTest tests[] = {
		TEST(test_follows_from_the_beginning),
		TEST(test_an_empty_partition),
		TEST(test_small_answers),
		TEST(test_epochs_part),
		TEST(test_a_diverging_answer_cuts),
		TEST(test_the_leader_changes),
		TEST(test_the_leader_is_started_again),
		TEST(test_starts_behind_the_leaders_log),
		TEST(test_begins_past_the_leaders_end),
		TEST(test_many_partitions),
		TEST(test_many_partitions_and_threads),
		TEST(test_no_sessions),
		TEST(test_idle_partitions_are_not_looked_at),
		TEST(test_what_is_committed_is_seen_at_once),
		TEST(test_nothing_waits_for_a_parked_fetch),
		TEST(test_ends_though_the_leader_is_silent),
		TEST(test_gives_up_until_another_role),
		TEST(test_a_log_directory_goes_out_of_service),
		TEST(test_a_topic_is_deleted),
		TEST(test_roles_in_a_hurry),
		TEST(test_properties_that_do_not_go_together),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
