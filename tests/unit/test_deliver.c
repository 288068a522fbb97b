#include "cluster/api/server.h"
#include "cluster/deliver/model.h"
#include "cluster/net/settings.h"
#include "cluster/replica/fetcher.h"

#include "tests/unit/role_fixture.h"

/* Deliveries against real servers: three brokers in one process, each with a listener on loopback; the test is their controller. */

enum { PATIENCE = 20000, WRITERS = 6, LINES = 150 };

static struct server *server[NODES + 1];
static struct fetcher *fetcher[NODES + 1];
static struct deliver *deliver[NODES + 1];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char address[NODES + 1][NET_MAX_HOST + 8]; /* lock; "": not known */
static int64_t next_id;                           /* lock */
static _Atomic int64_t delivery_ms = 30000;

static int give_ids(void *arg, int64_t least, int64_t *first, int64_t *last, struct err *e)
{
	(void)arg;
	(void)e;
	pthread_mutex_lock(&lock);
	*first = next_id > least ? next_id : least;
	next_id = *first + 10;
	*last = next_id - 1;
	pthread_mutex_unlock(&lock);
	return 0;
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
		node[i].calls.producer_ids = give_ids;
		node_set(&node[i], line);
		node_set(&node[i], "listeners=127.0.0.1:0");
		node_set(&node[i], "replica.fetch.wait.max.ms=20");
		node_set(&node[i], "replica.fetch.backoff.ms=10");
	}
	delivery_ms = 30000;
	return 0;
}

static bool address_of(void *arg, int32_t id, char *text, size_t n)
{
	(void)arg;
	pthread_mutex_lock(&lock);
	bool known = address[id][0];
	snprintf(text, n, "%s", address[id]);
	pthread_mutex_unlock(&lock);
	return known;
}

static int64_t epoch_of(void *arg)
{
	(void)arg;
	return 1;
}

static void same_id(int id, int as)
{
	struct topic *t = topics_find(node[id].b, "t"), *other_topic = topics_find(node[as].b, "t");
	snprintf(t->id, sizeof t->id, "%s", other_topic->id);
	topic_id_changed(t);
	topic_unref(t);
	topic_unref(other_topic);
}

static void serve(int id)
{
	struct net_address at;
	if (server_open(&server[id], node[id].b, NULL, &err) < 0 || server_run(server[id], &err) < 0)
		fail_msg("server: %s", err.text);
	assert_true(server_address(server[id], 0, &at));
	pthread_mutex_lock(&lock);
	snprintf(address[id], sizeof address[id], "%s:%u", at.host, at.port);
	pthread_mutex_unlock(&lock);
}

static void stop_serving(int id)
{
	pthread_mutex_lock(&lock);
	address[id][0] = '\0';
	pthread_mutex_unlock(&lock);
	server_close(server[id], 5000);
	server[id] = NULL;
}

static void start(int id)
{
	node_open(&node[id]);
	if (id > 1)
		same_id(id, 1);
	serve(id);
	struct fetcher_calls calls = {.address = address_of, .broker_epoch = epoch_of};
	struct deliver_calls how = {.address = address_of};
	if (fetcher_new(&fetcher[id], node[id].b, &calls, &err) < 0 || deliver_new(&deliver[id], node[id].b, &how, delivery_ms, &err) < 0)
		fail_msg("%s", err.text);
}

static int teardown_cluster(void **state)
{
	for (int i = 1; i <= NODES; i++) {
		deliver_free(deliver[i]);
		deliver[i] = NULL;
	}
	for (int i = 1; i <= NODES; i++) {
		fetcher_free(fetcher[i]);
		fetcher[i] = NULL;
	}
	for (int i = 1; i <= NODES; i++)
		stop_serving(i);
	return teardown_nodes(state);
}

/* Replicas and in sync are 1 and 2; 3 is told who leads, and has nothing. */
static void lead(int leader, int32_t epoch)
{
	int follower = 3 - leader;
	become(leader, leader, epoch, "12", "12");
	fetcher_unfollow(fetcher[leader], node[leader].p);
	become(follower, leader, epoch, "12", "12");
	if (fetcher_follow(fetcher[follower], node[follower].p, leader, epoch, &err) < 0)
		fail_msg("fetcher_follow: %s", err.text);
	if (!node[3].b)
		return;
	struct partition_metadata *m = calloc(1, sizeof *m), *old;
	m->leader = leader;
	m->leader_epoch = epoch;
	pthread_mutex_lock(&node[3].p->isr_lock);
	old = node[3].p->told;
	node[3].p->told = m;
	pthread_mutex_unlock(&node[3].p->isr_lock);
	free(old);
}

#define wait_until(is_so)                                     \
	do {                                                  \
		int left_ms = PATIENCE;                       \
		while (!(is_so) && left_ms-- > 0)             \
			usleep(1000);                         \
		if (left_ms < 0)                              \
			fail_msg("never came: %s", #is_so);   \
	} while (0)

/* ---- deliveries ---- */

struct sent { struct delivery d; struct record_set set; pthread_mutex_t lock; pthread_cond_t done; bool is_done; };

static void is_done(struct delivery *d)
{
	struct sent *s = (struct sent *)d;
	pthread_mutex_lock(&s->lock);
	assert_false(s->is_done);
	s->is_done = true;
	pthread_cond_signal(&s->done);
	pthread_mutex_unlock(&s->lock);
}

static void begin(int id, struct sent *s, const char *text, size_t n, enum acks acks)
{
	struct batch_style style;
	size_t taken;
	memset(s, 0, sizeof *s);
	record_set_init(&s->set);
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->done, NULL);
	topic_batch_style(partition_topic(node[id].p), &style);
	assert_int_equal(record_set_add_lines(&s->set, &style, text, n, wall_now_ms(), &taken, NULL), 0);
	s->d = (struct delivery){.set = &s->set, .acks = acks, .done = is_done};
	deliver_append(deliver[id], node[id].p, &s->d);
}

static bool has_ended(struct sent *s)
{
	pthread_mutex_lock(&s->lock);
	bool ended = s->is_done;
	pthread_mutex_unlock(&s->lock);
	return ended;
}

static int finish(struct sent *s)
{
	pthread_mutex_lock(&s->lock);
	while (!s->is_done)
		pthread_cond_wait(&s->done, &s->lock);
	pthread_mutex_unlock(&s->lock);
	record_set_release(&s->set);
	pthread_mutex_destroy(&s->lock);
	pthread_cond_destroy(&s->done);
	return s->d.code;
}

static int send_line(int id, const char *text, enum acks acks)
{
	struct sent s;
	begin(id, &s, text, strlen(text), acks);
	return finish(&s);
}

/* Each line is there once, and each writer's are in order. */
static void check_lines(int id, int writers, int lines)
{
	int64_t n;
	int next[16] = {0}, count = 0;
	char *all = all_of(node[id].p, &n), *save;
	for (char *line = strtok_r(all, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		int writer, number;
		if (line[0] == '.')
			continue;
		assert_int_equal(sscanf(line, "%d %d", &writer, &number), 2);
		assert_int_equal(number, next[writer]++);
		count++;
	}
	assert_int_equal(count, writers * lines);
	free(all);
}

struct writer { pthread_t id; int at, number, lines; bool large; };

static void *write_lines(void *arg)
{
	struct writer *w = arg;
	char *text = malloc(400000);
	for (int i = 0; i < w->lines; i++) {
		struct sent s;
		size_t n = (size_t)sprintf(text, "%d %d", w->number, i);
		while (w->large && i % 20 == 0 && n < 300000) {
			memcpy(text + n, "\n.", 2);
			memset(text + n + 2, 'x', 998);
			n += 1000;
		}
		text[n++] = '\n';
		begin(w->at, &s, text, n, ACKS_ALL);
		if (finish(&s) != 0)
			fail_msg("writer %d, line %d: %s", w->number, i, s.d.err.text);
	}
	free(text);
	return NULL;
}

static void start_writers(struct writer *w, int first, int count, int at)
{
	for (int i = first; i < first + count; i++) {
		w[i] = (struct writer){.at = at, .number = i, .lines = LINES, .large = i % 3 == 2};
		assert_int_equal(pthread_create(&w[i].id, NULL, write_lines, &w[i]), 0);
	}
}

static void join_writers(struct writer *w, int count)
{
	for (int i = 0; i < count; i++)
		pthread_join(w[i].id, NULL);
}

/* ---- the tests ---- */

static void test_many_write_where_the_leader_is_and_elsewhere(void **state)
{
	struct writer w[WRITERS];
	(void)state;
	for (int i = 1; i <= 3; i++)
		start(i);
	lead(1, 1);
	start_writers(w, 0, 2, 1);
	start_writers(w, 2, 2, 2);
	start_writers(w, 4, 2, 3);
	join_writers(w, WRITERS);
	check_lines(1, WRITERS, LINES);
	wait_until(high_of(2) == high_of(1));
	check_lines(2, WRITERS, LINES);
}

static void test_leaders_change_under_many_writers(void **state)
{
	struct writer w[WRITERS];
	(void)state;
	for (int i = 1; i <= 3; i++)
		start(i);
	lead(1, 1);
	start_writers(w, 0, 2, 1);
	start_writers(w, 2, 2, 2);
	start_writers(w, 4, 2, 3);
	for (int32_t epoch = 2; epoch < 20; epoch++) {
		usleep(60000);
		lead(1 + epoch % 2, epoch);
	}
	join_writers(w, WRITERS);
	wait_until(end_of(1) == end_of(2) && high_of(2) == end_of(2) && high_of(1) == high_of(2));
	check_lines(1, WRITERS, LINES);
	check_lines(2, WRITERS, LINES);
}

static void test_a_leader_that_goes_away_in_between(void **state)
{
	struct writer w[WRITERS];
	(void)state;
	for (int i = 1; i <= 3; i++)
		start(i);
	lead(1, 1);
	start_writers(w, 0, WRITERS, 3);
	for (int i = 0; i < 6; i++) {
		usleep(50000);
		stop_serving(1); /* answers are lost; it is at another address then */
		usleep(20000);
		serve(1);
	}
	join_writers(w, WRITERS);
	check_lines(1, WRITERS, LINES);
}

static void test_what_was_not_sent_is_taken_back(void **state)
{
	struct sent s;
	(void)state;
	for (int i = 1; i <= 3; i++)
		start(i);
	lead(1, 1);
	assert_int_equal(send_line(3, ".first\n", ACKS_ALL), 0);
	stop_serving(1);
	begin(3, &s, ".never\n", 7, ACKS_ALL);
	usleep(50000);
	assert_false(has_ended(&s));
	if (deliver_cancel(deliver[3], node[3].p, &s.d)) /* else the connection was taken to be there yet */
		assert_int_equal(finish(&s), ERR_INTERRUPTED);
	else {
		serve(1);
		assert_int_equal(finish(&s), 0);
		stop_serving(1);
	}
	begin(3, &s, ".second\n", 8, ACKS_ALL);
	usleep(20000);
	serve(1);
	assert_int_equal(finish(&s), 0);
}

static int count_batch(void *arg, const struct batch *batch, const struct record *r)
{
	int64_t *last = arg; /* its base offset; how many there are */
	(void)r;
	if (batch->base_offset != last[0] || !last[1])
		last[1]++;
	last[0] = batch->base_offset;
	return 0;
}

/* Group commit: what waits together becomes few batches, in its order. */
static void test_what_waits_goes_together(void **state)
{
	enum { MANY = 200 };
	static struct sent s[MANY];
	int64_t last[2] = {-1, 0};
	char line[40];
	(void)state;
	for (int i = 1; i <= 3; i++)
		start(i);
	for (int i = 0; i < MANY; i++) {
		int n = sprintf(line, "0 %d\n", i);
		begin(3, &s[i], line, (size_t)n, i < MANY / 2 ? ACKS_ALL : ACKS_LEADER);
	}
	lead(1, 1);
	for (int i = 0; i < MANY; i++)
		assert_int_equal(finish(&s[i]), 0);
	wait_until(high_of(1) == end_of(1));
	check_lines(1, 1, MANY);
	struct log *l = node[1].p->log;
	assert_int_equal(log_scan_records(l, l->start_offset, l->leo, count_batch, last, &err), 0);
	assert_in_range(last[1], 2, 4);
}

static void test_patience_ends(void **state)
{
	(void)state;
	delivery_ms = 400;
	for (int i = 1; i <= 3; i++)
		start(i);
	assert_int_equal(send_line(3, ".nobody leads\n", ACKS_ALL), ERR_NOT_ENOUGH_REPLICAS);
	assert_int_equal(send_line(1, ".nobody leads\n", ACKS_ALL), ERR_NOT_ENOUGH_REPLICAS);
	lead(1, 1);
	assert_int_equal(send_line(3, ".now\n", ACKS_ALL), 0);
	stop_serving(1);
	assert_false(deliver_is_certain(ERR_TIMED_OUT));
	int code = send_line(3, ".unreachable\n", ACKS_ALL);
	assert_true(code == ERR_NOT_ENOUGH_REPLICAS || code == ERR_TIMED_OUT);
	serve(1);
	assert_int_equal(send_line(3, ".again\n", ACKS_ALL), 0);
	assert_string_equal(seen_at(1), ".now .again ");
}

/* acks=1: what a leader alone had is lost with it, and what comes next does not follow. */
static void test_sequences_begin_anew_where_some_are_lost(void **state)
{
	(void)state;
	for (int i = 1; i <= 3; i++)
		start(i);
	lead(1, 1);
	assert_int_equal(send_line(3, ".first\n", ACKS_ALL), 0);
	assert_int_equal(send_line(2, ".second\n", ACKS_ALL), 0);
	fetcher_unfollow(fetcher[2], node[2].p);
	assert_int_equal(send_line(3, ".lost\n", ACKS_LEADER), 0);
	assert_int_equal(send_line(3, ".lost too\n", ACKS_LEADER), 0);
	lead(2, 2);
	assert_int_equal(send_line(3, ".kept\n", ACKS_ALL), 0);
	assert_int_equal(send_line(3, ".and this\n", ACKS_ALL), 0);
	assert_string_equal(seen_at(2), ".first .second .kept .and this ");
	struct lane *l = lane_find(deliver[3], node[3].p, false);
	assert_int_equal(l->epoch, 1);
	l->epoch = INT16_MAX;      /* the last one of this id */
	l->must_bump = true;
	int64_t id = l->producer_id;
	lane_put(l);
	assert_int_equal(send_line(3, ".of another id\n", ACKS_ALL), 0);
	assert_true(l->producer_id != id && l->epoch == 0);
	assert_string_equal(seen_at(2), ".first .second .kept .and this .of another id ");
}

static void test_what_a_leader_refuses_is_not_there(void **state)
{
	(void)state;
	for (int i = 1; i <= 3; i++) {
		node_set(&node[i], "min.insync.replicas=2");
		start(i);
	}
	lead(1, 1);
	assert_int_equal(send_line(3, ".both\n", ACKS_ALL), 0);
	become(1, 1, 1, "1", "12");
	assert_int_equal(send_line(3, ".refused\n", ACKS_ALL), ERR_NOT_ENOUGH_REPLICAS);
	assert_int_equal(send_line(1, ".refused\n", ACKS_ALL), ERR_NOT_ENOUGH_REPLICAS);
	become(1, 1, 1, "12", "12");
	assert_int_equal(send_line(3, ".again\n", ACKS_ALL), 0);
	assert_string_equal(seen_at(1), ".both .again ");
}

static void test_messages_are_deleted_and_settled_elsewhere(void **state)
{
	struct visible v;
	(void)state;
	for (int i = 1; i <= 3; i++)
		start(i);
	lead(1, 1);
	assert_int_equal(send_line(3, ".one\n", ACKS_LEADER), 0);
	assert_int_equal(send_line(3, ".two\n", ACKS_LEADER), 0);
	assert_true(deliver_is_elsewhere(deliver[3], node[3].p));
	assert_int_equal(deliver_settle(deliver[3], node[3].p, &err), 0);
	assert_int_equal(high_of(1), 2);
	assert_int_equal(deliver_delete_before(deliver[3], node[3].p, 1, &err), 0);
	assert_int_equal(partition_visible(node[1].p, &v, &err), 0);
	assert_int_equal(v.start_offset, 1);
	assert_int_equal(deliver_delete_before(deliver[2], node[2].p, -1, &err), 0);
	assert_int_equal(partition_visible(node[1].p, &v, &err), 0);
	assert_int_equal(v.start_offset, 2);
	assert_int_equal(send_line(3, ".three\n", ACKS_LEADER), 0);
	lead(2, 2);
	assert_int_equal(deliver_settle(deliver[3], node[3].p, &err), ERR_NOT_LEADER); /* whether it is there is not known */
	assert_int_equal(deliver_settle(deliver[3], node[3].p, &err), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_many_write_where_the_leader_is_and_elsewhere, setup_cluster, teardown_cluster),
		cmocka_unit_test_setup_teardown(test_leaders_change_under_many_writers, setup_cluster, teardown_cluster),
		cmocka_unit_test_setup_teardown(test_a_leader_that_goes_away_in_between, setup_cluster, teardown_cluster),
		cmocka_unit_test_setup_teardown(test_what_was_not_sent_is_taken_back, setup_cluster, teardown_cluster),
		cmocka_unit_test_setup_teardown(test_what_waits_goes_together, setup_cluster, teardown_cluster),
		cmocka_unit_test_setup_teardown(test_patience_ends, setup_cluster, teardown_cluster),
		cmocka_unit_test_setup_teardown(test_sequences_begin_anew_where_some_are_lost, setup_cluster, teardown_cluster),
		cmocka_unit_test_setup_teardown(test_what_a_leader_refuses_is_not_there, setup_cluster, teardown_cluster),
		cmocka_unit_test_setup_teardown(test_messages_are_deleted_and_settled_elsewhere, setup_cluster, teardown_cluster),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
