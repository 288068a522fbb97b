/* Groups whose coordinator moves: three brokers in one process, whose roles the test gives; the coordinator is that of one of them at a time. */
#define ROLE_TOPIC OFFSETS_TOPIC
#include "cluster/group/group.h"

#include "tests/unit/role_fixture.h"

#include "cluster/wire/errors.h"

static struct coordinator *co;

/* ---- a cluster's way of making topics, which makes none ---- */

static int make_none(void *arg, const struct topic_plan *plan, struct err *e)
{
	(void)arg, (void)plan;
	return err_set(e, ERR_OFFLINE, "no controller");
}

static _Atomic int asked_soon;

static void make_soon(void *arg, const struct topic_plan *plan)
{
	(void)arg;
	assert_string_equal(plan->name, OFFSETS_TOPIC);
	asked_soon++;
}

static const struct topic_calls elsewhere = {.create = make_none, .create_soon = make_soon};

/* ---- life ---- */

static int group_setup_nodes(void **state)
{
	setup_nodes(state);
	open_nodes(NODES);
	for (int i = 1; i <= NODES; i++) {
		node_close(&node[i]);
		node[i].topics = &elsewhere;
		node_open(&node[i]);
	}
	return 0;
}

static void start_at(int id)
{
	struct coordinator_options o = {.broker = node[id].b};
	assert_int_equal(coordinator_new(&co, &o, &err), 0);
	coordinator_start(co);
	coordinator_told(co, 1);
}

static void stop_it(void)
{
	coordinator_stop(co);
	coordinator_free(co);
	co = NULL;
}

/* ---- requests ---- */

struct told { _Atomic int calls; _Atomic int16_t error; struct group_commit_partition p; struct group_commit_topic t; struct group_commit_request q; };

static void on_told(void *arg, int16_t error)
{
	struct told *x = arg;
	x->error = error;
	x->calls++;
}

static struct gstr str(const char *s)
{
	return (struct gstr){s, (int32_t)strlen(s)};
}

static void commit(struct told *x, int64_t offset)
{
	memset(x, 0, sizeof *x);
	x->p = (struct group_commit_partition){.leader_epoch = -1, .offset = offset, .metadata = str("")};
	x->t = (struct group_commit_topic){.name = str("t"), .partitions = &x->p, .partition_count = 1};
	x->q = (struct group_commit_request){.group_id = str("g"), .member_id = str(""), .generation_id = -1, .retention_ms = -1, .topics = &x->t, .topic_count = 1};
	group_commit(co, &x->q, on_told, x);
}

struct fetched { _Atomic int calls; _Atomic int16_t error; _Atomic int64_t offset; };

static void on_fetched(void *arg, const struct group_fetch_answer *a)
{
	struct fetched *f = arg;
	f->error = a->error;
	f->offset = a->topic_count && a->topics[0].partition_count ? a->topics[0].partitions[0].offset : -1;
	f->calls++;
}

static struct fetched ask_offset(void)
{
	struct fetched f = {0};
	struct group_fetch_partition p = {0};
	struct group_fetch_topic t = {.name = str("t"), .partitions = &p, .partition_count = 1};
	group_fetch(co, &(struct group_fetch_request){.group_id = str("g"), .topics = &t, .topic_count = 1}, on_fetched, &f);
	assert_int_equal(f.calls, 1);
	return f;
}

static void wait_for_error(int16_t error)
{
	for (int i = 0; i < 5000 && ask_offset().error != error; i++)
		usleep(2000);
	assert_int_equal(ask_offset().error, error);
}

static void wait_told(struct told *x)
{
	for (int i = 0; i < 5000 && !x->calls; i++)
		usleep(2000);
	assert_int_equal(x->calls, 1);
}

static void count_group(void *arg, const struct group_listed *g)
{
	(void)g;
	++*(size_t *)arg;
}

/* ---- tests ---- */

/* What the last coordinator has acknowledged is there with the next, which tells of nothing that could still be lost. */
static void test_loading_waits_until_the_log_is_committed(void **state)
{
	(void)state;
	struct told x;
	start_at(1);
	assert_int_equal(ask_offset().error, KAFKA_NOT_COORDINATOR);
	become(1, 1, 1, "12", "12");
	become(2, 1, 1, "12", "12");
	coordinator_load(co, 0, 1);
	wait_for_error(KAFKA_NONE); /* there is nothing to wait for */
	commit(&x, 5);
	assert_int_equal(x.calls, 0);
	assert_int_equal(ask_offset().offset, -1);
	fetch(2, 1, 1);
	fetch(2, 1, 1); /* tells that it has it */
	wait_told(&x);
	assert_int_equal(x.error, KAFKA_NONE);
	assert_int_equal(ask_offset().offset, 5);
	commit(&x, 6);
	fetch(2, 1, 1); /* has it, and 1 does not know */
	become(2, 2, 2, "12", "12");
	become(1, 2, 2, "12", "12");
	coordinator_unload(co, 0, 2);
	wait_told(&x);
	assert_int_equal(x.error, KAFKA_NOT_COORDINATOR);
	assert_int_equal(ask_offset().error, KAFKA_NOT_COORDINATOR);
	stop_it();
	/* the next one */
	start_at(2);
	coordinator_load(co, 0, 2);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(ask_offset().error, KAFKA_COORDINATOR_LOAD_IN_PROGRESS);
		usleep(2000);
	}
	align(1, 2, 2);
	fetch(1, 2, 2);
	wait_for_error(KAFKA_NONE);
	assert_int_equal(ask_offset().offset, 6);
	stop_it();
}

/* A load that waits is dropped when another one leads; and what an older epoch says changes nothing. */
static void test_a_load_is_overtaken(void **state)
{
	(void)state;
	struct told x;
	start_at(1);
	become(1, 1, 1, "12", "12");
	become(2, 1, 1, "12", "12");
	coordinator_load(co, 0, 1);
	wait_for_error(KAFKA_NONE);
	commit(&x, 5);
	fetch(2, 1, 1);
	fetch(2, 1, 1);
	wait_told(&x);
	commit(&x, 6);
	become(1, 2, 2, "12", "12");
	coordinator_unload(co, 0, 2);
	wait_told(&x);
	become(1, 1, 3, "12", "12"); /* 6 is above its high watermark */
	coordinator_load(co, 0, 3);
	assert_int_equal(ask_offset().error, KAFKA_COORDINATOR_LOAD_IN_PROGRESS);
	coordinator_unload(co, 0, 2);
	assert_int_equal(ask_offset().error, KAFKA_COORDINATOR_LOAD_IN_PROGRESS);
	become(1, 2, 4, "12", "12");
	coordinator_unload(co, 0, 4);
	assert_int_equal(ask_offset().error, KAFKA_NOT_COORDINATOR);
	coordinator_load(co, 0, 3);
	assert_int_equal(ask_offset().error, KAFKA_NOT_COORDINATOR);
	coordinator_wait_loaded(co);
	assert_int_equal(ask_offset().error, KAFKA_NOT_COORDINATOR);
	become(1, 1, 5, "1", "12"); /* alone: the high watermark goes by the disk */
	coordinator_load(co, 0, 5);
	wait_for_error(KAFKA_NONE);
	assert_int_equal(ask_offset().offset, 6);
	become(1, 1, 6, "1", "12"); /* leads on: nothing is read again */
	coordinator_load(co, 0, 6);
	assert_int_equal(ask_offset().error, KAFKA_NONE);
	stop_it();
}

/* A replica that does not answer keeps no stop waiting, neither of what is written nor of a load. */
static void test_a_stop_waits_for_no_replica(void **state)
{
	(void)state;
	struct told x;
	start_at(1);
	become(1, 1, 1, "12", "12");
	coordinator_load(co, 0, 1);
	wait_for_error(KAFKA_NONE);
	commit(&x, 5);
	usleep(20000);
	assert_int_equal(x.calls, 0);
	stop_it();
	assert_int_equal(x.calls, 1);
	assert_int_equal(x.error, KAFKA_COORDINATOR_NOT_AVAILABLE);
	become(1, 1, 2, "12", "12");
	start_at(1);
	coordinator_load(co, 0, 2);
	assert_int_equal(ask_offset().error, KAFKA_COORDINATOR_LOAD_IN_PROGRESS);
	stop_it();
}

/* A commit whose replicas take long is answered meanwhile, and counts once they have it. */
static void test_a_commit_waits_only_so_long(void **state)
{
	(void)state;
	struct told x;
	node_set(&node[1], "offsets.commit.timeout.ms=50");
	start_at(1);
	become(1, 1, 1, "12", "12");
	become(2, 1, 1, "12", "12");
	coordinator_load(co, 0, 1);
	wait_for_error(KAFKA_NONE);
	commit(&x, 5);
	wait_told(&x);
	assert_int_equal(x.error, KAFKA_COORDINATOR_NOT_AVAILABLE);
	assert_int_equal(x.p.error, KAFKA_COORDINATOR_NOT_AVAILABLE);
	assert_int_equal(ask_offset().offset, -1);
	fetch(2, 1, 1);
	fetch(2, 1, 1);
	for (int i = 0; i < 5000 && ask_offset().offset != 5; i++)
		usleep(2000);
	assert_int_equal(ask_offset().offset, 5);
	assert_int_equal(x.calls, 1);
	stop_it();
}

/* Without the lease others may coordinate: offsets are told once the replicas show that they do not. */
static void test_offsets_are_told_by_who_leads_for_certain(void **state)
{
	(void)state;
	struct told x;
	struct fetched f = {0}, none = {0};
	struct group_fetch_partition p = {0};
	struct group_fetch_topic t = {.name = str("t"), .partitions = &p, .partition_count = 1};
	struct group_fetch_request q = {.group_id = str("g"), .topics = &t, .topic_count = 1}, unknown = {.group_id = str("nobody's"), .topics = &t, .topic_count = 1};
	start_at(1);
	become(1, 1, 1, "12", "12");
	become(2, 1, 1, "12", "12");
	coordinator_load(co, 0, 1);
	wait_for_error(KAFKA_NONE);
	commit(&x, 5);
	fetch(2, 1, 1);
	fetch(2, 1, 1);
	wait_told(&x);
	node[1].has_lease = false;
	group_fetch(co, &q, on_fetched, &f);
	group_fetch(co, &unknown, on_fetched, &none);
	assert_int_equal(f.calls + none.calls, 0);
	fetch(2, 1, 1);
	fetch(2, 1, 1);
	for (int i = 0; i < 5000 && f.calls + none.calls < 2; i++)
		usleep(2000);
	assert_int_equal(f.error, KAFKA_NONE);
	assert_int_equal(f.offset, 5);
	assert_int_equal(none.error, KAFKA_NONE);
	assert_int_equal(none.offset, -1);
	struct group_list_filter all = {0};
	size_t groups = 0;
	assert_int_equal(group_list(co, &all, count_group, &groups), KAFKA_NONE);
	assert_int_equal(groups, 1); /* there is none for having been asked for */
	group_fetch(co, &q, on_fetched, &f);
	group_fetch(co, &unknown, on_fetched, &none);
	become(1, 2, 2, "12", "12"); /* another one did lead */
	coordinator_unload(co, 0, 2);
	for (int i = 0; i < 5000 && f.calls + none.calls < 4; i++)
		usleep(2000);
	assert_int_equal(f.error, KAFKA_NOT_COORDINATOR);
	assert_int_equal(none.error, KAFKA_NOT_COORDINATOR);
	node[1].has_lease = true;
	stop_it();
}

/* Who appends while fewer are in sync than the topic asks for. */
static void test_too_few_replicas(void **state)
{
	(void)state;
	struct told x;
	struct topic *t = topics_find(node[1].b, OFFSETS_TOPIC);
	start_at(1);
	become(1, 1, 1, "1", "12");
	coordinator_load(co, 0, 1);
	wait_for_error(KAFKA_NONE);
	node[1].p->topic->min_insync = 2;
	commit(&x, 5);
	wait_told(&x);
	assert_int_equal(x.error, KAFKA_COORDINATOR_NOT_AVAILABLE);
	assert_int_equal(ask_offset().offset, -1);
	topic_unref(t);
	stop_it();
}

/* The number of partitions is what the controller says; roles may come first. The topic is asked for, and nobody waits. */
static void test_the_topic_is_the_controllers(void **state)
{
	(void)state;
	struct coordinator_options o = {.broker = node[1].b};
	assert_int_equal(coordinator_new(&co, &o, &err), 0);
	coordinator_start(co);
	asked_soon = 0;
	assert_int_equal(coordinator_need_topic(co, &err), ERR_NOT_FOUND);
	assert_int_equal(asked_soon, 1);
	become(1, 1, 1, "1", "1");
	coordinator_load(co, 0, 1);
	coordinator_load(co, 3, 1); /* there is none here: it fails, and is said by nobody who asks */
	assert_int_equal(ask_offset().error, KAFKA_NOT_COORDINATOR); /* nobody knows of how many it is one */
	coordinator_told(co, 1);
	assert_int_equal(coordinator_need_topic(co, &err), 0);
	wait_for_error(KAFKA_NONE);
	coordinator_told(co, 200);
	assert_int_equal(coordinator_partitions(co), 200);
	coordinator_forget_all(co);
	assert_int_equal(coordinator_need_topic(co, &err), ERR_NOT_FOUND);
	assert_int_equal(asked_soon, 2);
	coordinator_told(co, 1);
	assert_int_equal(ask_offset().error, KAFKA_NOT_COORDINATOR);
	coordinator_load(co, 0, 0); /* of a topic that begins with epoch 0 */
	wait_for_error(KAFKA_NONE);
	stop_it();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_loading_waits_until_the_log_is_committed, group_setup_nodes, teardown_nodes),
		cmocka_unit_test_setup_teardown(test_a_load_is_overtaken, group_setup_nodes, teardown_nodes),
		cmocka_unit_test_setup_teardown(test_a_stop_waits_for_no_replica, group_setup_nodes, teardown_nodes),
		cmocka_unit_test_setup_teardown(test_a_commit_waits_only_so_long, group_setup_nodes, teardown_nodes),
		cmocka_unit_test_setup_teardown(test_offsets_are_told_by_who_leads_for_certain, group_setup_nodes, teardown_nodes),
		cmocka_unit_test_setup_teardown(test_too_few_replicas, group_setup_nodes, teardown_nodes),
		cmocka_unit_test_setup_teardown(test_the_topic_is_the_controllers, group_setup_nodes, teardown_nodes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
