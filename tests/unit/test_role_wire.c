#include "cluster/api/server.h"
#include "cluster/net/settings.h"
#include "cluster/wire/client.h"
#include "cluster/wire/errors.h"

#include "tests/unit/role_fixture.h"

/* What clients and followers are told of a partition with other replicas: broker 1 of two serves, and 2 is a client that says it is a follower. */

enum { LONG_MS = 60000 };

static struct server *server;
static char address[NET_MAX_HOST + 8];

static int setup_server(void **state)
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
	node_set(&node[1], "listeners=127.0.0.1:0");
	return 0;
}

static void start_server(void)
{
	struct net_address at;
	node_open(&node[1]);
	if (server_open(&server, node[1].b, NULL, &err) < 0 || server_run(server, &err) < 0)
		fail_msg("server: %s", err.text);
	assert_true(server_address(server, 0, &at));
	snprintf(address, sizeof address, "%s:%u", at.host, at.port);
}

static int teardown_server(void **state)
{
	server_close(server, 5000);
	server = NULL;
	return teardown_nodes(state);
}

static struct client *connected(void)
{
	struct client *c;
	if (client_open(&c, address, "test", LONG_MS, &err) < 0)
		fail_msg("%s", err.text);
	return c;
}

/* ---- Produce ---- */

static void send_line(struct client *c, const char *line, int16_t acks, int32_t timeout_ms, int version)
{
	struct produce_request_partition p;
	struct produce_request_topic t;
	struct produce_request q;
	struct record_set set;
	struct batch_style style;
	size_t taken;
	record_set_init(&set);
	topic_batch_style(partition_topic(node[1].p), &style);
	assert_int_equal(record_set_add_lines(&set, &style, line, strlen(line), wall_now_ms(), &taken, &err), 0);
	wire_init(&wire_produce_request_partition, &p);
	wire_init(&wire_produce_request_topic, &t);
	wire_init(&wire_produce_request, &q);
	p.records.p = record_set_bytes(&set);
	p.records.n = (int32_t)record_set_size(&set);
	t.name = wire_string("t");
	t.partition_data.v = &p;
	t.partition_data.n = 1;
	q.topic_data.v = &t;
	q.topic_data.n = 1;
	q.acks = acks;
	q.timeout_ms = timeout_ms;
	if (client_send(c, API_PRODUCE, version, &q, &err) < 0)
		fail_msg("send: %s", err.text);
	record_set_release(&set);
}

/* The code of the oldest that is not answered yet. */
static int answer_of(struct client *c, int64_t *base_offset)
{
	struct produce_response r;
	if (client_receive(c, API_PRODUCE, &r, &err) < 0)
		fail_msg("receive: %s", err.text);
	assert_true(r.responses.n == 1 && r.responses.v[0].partition_responses.n == 1);
	*base_offset = r.responses.v[0].partition_responses.v[0].base_offset;
	return r.responses.v[0].partition_responses.v[0].error_code;
}

static int produce(struct client *c, const char *line, int16_t acks, int32_t timeout_ms)
{
	int64_t unused;
	send_line(c, line, acks, timeout_ms, 9);
	return answer_of(c, &unused);
}

/* ---- Fetch ---- */

struct fetched { int code; int64_t high; int32_t bytes; int64_t start_position; };

static struct fetched fetch_as(struct client *c, int32_t replica, int32_t epoch, int64_t offset, int version)
{
	struct fetch_request_partition p;
	struct fetch_request_topic t;
	struct fetch_request q;
	struct fetch_response r;
	wire_init(&wire_fetch_request_partition, &p);
	wire_init(&wire_fetch_request_topic, &t);
	wire_init(&wire_fetch_request, &q);
	p.partition_max_bytes = 1 << 20;
	p.current_leader_epoch = epoch;
	p.fetch_offset = offset;
	t.topic = wire_string("t");
	memcpy(&t.topic_id, topic_id_bytes(partition_topic(node[1].p)), 16);
	t.partitions.v = &p;
	t.partitions.n = 1;
	q.topics.v = &t;
	q.topics.n = 1;
	if (version < 15)
		q.replica_id = replica;
	else {
		q.replica_state.replica_id = replica;
		q.replica_state.replica_epoch = replica < 0 ? -1 : 7;
	}
	if (client_send(c, API_FETCH, version, &q, &err) < 0 || client_receive(c, API_FETCH, &r, &err) < 0)
		fail_msg("fetch: %s", err.text);
	assert_true(r.error_code == 0 && r.responses.n == 1 && r.responses.v[0].partitions.n == 1);
	const struct fetch_response_partition *a = &r.responses.v[0].partitions.v[0];
	return (struct fetched){a->error_code, a->high_watermark, a->records.n, a->begin_position};
}

/* ---- what they are told ---- */

static void test_acks_all_over_the_wire(void **state)
{
	(void)state;
	int64_t base;
	start_server();
	struct client *c = connected(), *f = connected();
	assert_int_equal(produce(c, "no role\n", -1, LONG_MS), KAFKA_NOT_LEADER_OR_FOLLOWER);
	become(1, 1, 3, "12", "12");
	send_line(c, "one\n", -1, LONG_MS, 9);
	for (int i = 0; i < 4000 && end_of(1) < 1; i++)
		usleep(2000);
	struct fetched x = fetch_as(f, 2, 3, 0, 17);
	assert_true(x.code == 0 && x.high == 0 && x.bytes > 0);
	x = fetch_as(f, 2, 3, 1, 14); /* tells of it, and is told at once */
	assert_true(x.code == 0 && x.high == 1 && x.bytes == 0);
	assert_int_equal(answer_of(c, &base), 0);
	assert_int_equal(base, 0);
	assert_int_equal(produce(c, "two\n", 1, LONG_MS), 0);
	/* patience */
	assert_int_equal(produce(c, "three\n", -1, 30), KAFKA_REQUEST_TIMED_OUT);
	assert_int_equal(produce(c, "four\n", -1, 0), KAFKA_REQUEST_TIMED_OUT);
	assert_int_equal(produce(c, "five\n", -1, -5), KAFKA_REQUEST_TIMED_OUT);
	assert_int_equal(end_of(1), 5); /* they stay */
	x = fetch_as(f, 2, 3, 5, 17);
	assert_int_equal(x.high, 5);
	/* who it is, and when */
	assert_int_equal(fetch_as(f, 2, 2, 5, 17).code, KAFKA_FENCED_LEADER_EPOCH);
	assert_int_equal(fetch_as(f, 2, 4, 5, 17).code, KAFKA_UNKNOWN_LEADER_EPOCH);
	assert_int_equal(fetch_as(f, 3, 3, 5, 17).code, KAFKA_UNKNOWN_LEADER_EPOCH);
	/* where the view starts is told to replicas that are out of range, and to nobody else */
	x = fetch_as(f, 2, 3, 6, 17);
	assert_true(x.code == KAFKA_OFFSET_OUT_OF_RANGE && x.start_position == 0);
	x = fetch_as(f, -1, 3, 6, 17);
	assert_true(x.code == KAFKA_OFFSET_OUT_OF_RANGE && x.start_position == -1);
	x = fetch_as(f, 2, 3, 5, 17);
	assert_true(x.code == 0 && x.start_position == -1);
	assert_string_equal(seen_at(1), "one two three four five ");
	/* too few in sync */
	become(1, 1, 4, "1", "12");
	struct topic *t = partition_topic(node[1].p);
	assert_int_equal(topic_configure(t, "min.insync.replicas=2", 21, &err), 0);
	assert_int_equal(produce(c, "no\n", -1, LONG_MS), KAFKA_NOT_ENOUGH_REPLICAS);
	assert_int_equal(end_of(1), 5);
	become(1, 1, 5, "12", "12");
	send_line(c, "six\n", -1, LONG_MS, 9);
	for (int i = 0; i < 4000 && end_of(1) < 6; i++)
		usleep(2000);
	become(1, 1, 6, "1", "12");
	assert_int_equal(answer_of(c, &base), KAFKA_NOT_ENOUGH_REPLICAS_AFTER_APPEND);
	/* it follows: consumers that know of followers may read there */
	become(1, 2, 7, "12", "12");
	assert_int_equal(produce(c, "no\n", 1, LONG_MS), KAFKA_NOT_LEADER_OR_FOLLOWER);
	assert_int_equal(fetch_as(f, -1, -1, 0, 10).code, KAFKA_NOT_LEADER_OR_FOLLOWER);
	x = fetch_as(f, -1, 7, 0, 11);
	assert_true(x.code == 0 && x.high == 5 && x.bytes > 0);
	assert_int_equal(fetch_as(f, 2, 7, 0, 17).code, KAFKA_NOT_LEADER_OR_FOLLOWER);
	client_close(c);
	client_close(f);
}

static void test_role_is_lost_while_it_waits(void **state)
{
	(void)state;
	int64_t base;
	start_server();
	struct client *c = connected();
	become(1, 1, 1, "12", "12");
	send_line(c, "one\n", -1, LONG_MS, 9);
	for (int i = 0; i < 4000 && end_of(1) < 1; i++)
		usleep(2000);
	become(1, 2, 2, "12", "12");
	assert_int_equal(answer_of(c, &base), KAFKA_NOT_LEADER_OR_FOLLOWER);
	client_close(c);
}

/* Nobody waits for what a connection that is gone, or a server that stops, has asked for. */
static void test_nobody_waits_any_more(void **state)
{
	(void)state;
	int64_t base;
	start_server();
	struct client *c = connected(), *gone = connected();
	become(1, 1, 1, "12", "12");
	send_line(gone, "one\n", -1, LONG_MS * 60, 9);
	send_line(c, "two\n", -1, LONG_MS * 60, 9);
	for (int i = 0; i < 4000 && end_of(1) < 2; i++)
		usleep(2000);
	client_close(gone);
	server_close(server, 20000);
	server = NULL;
	assert_int_equal(answer_of(c, &base), KAFKA_REQUEST_TIMED_OUT);
	client_close(c);
	pthread_mutex_lock(&node[1].p->isr_lock);
	assert_null(node[1].p->wait_first);
	pthread_mutex_unlock(&node[1].p->isr_lock);
	assert_int_equal(node[1].p->users & ~LOG_OPEN, 1); /* this test's */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_acks_all_over_the_wire, setup_server, teardown_server),
		cmocka_unit_test_setup_teardown(test_role_is_lost_while_it_waits, setup_server, teardown_server),
		cmocka_unit_test_setup_teardown(test_nobody_waits_any_more, setup_server, teardown_server),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
