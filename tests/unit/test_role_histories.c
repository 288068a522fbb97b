#include "tests/unit/role_fixture.h"

#include <sys/stat.h>

/*
 * The histories by which replicated logs were lost or came to differ, each with the rule that prevents it and with the naive one: which must lose, or this would show nothing.
 */

enum { BY_THE_RULE, NAIVELY };

/* What both have at the same offsets has to be the same. */
static bool logs_part(int first, int second)
{
	const char *one = log_of(first), *two = log_of(second);
	size_t n = strlen(one) < strlen(two) ? strlen(one) : strlen(two);
	return strncmp(one, two, n) != 0;
}

static bool has_value(int id, const char *value)
{
	return strstr(log_of(id), value) != NULL;
}

/* KIP-101, the first: a follower that starts anew cuts its log at the high watermark that it knows, which is behind; then its leader is gone. */
static bool restart_then_election(int how)
{
	open_nodes(2);
	become(1, 1, 1, "12", "12");
	become(2, 1, 1, "12", "12");
	say_at(1, "one\n");
	fetch(2, 1, 1);
	fetch(2, 1, 1);
	struct wait w;
	wait_init(&w);
	start_append(node[1].p, &w, "two\n", 4, ACKS_ALL);
	fetch(2, 1, 1);
	assert_int_equal(try_fetch(2, 1, 1, 1), 0); /* tells of it; the answer, with the high watermark, is lost: */
	assert_int_equal(finish_append(&w), 0);     /* it is acknowledged */
	wait_release(&w);
	node[2].p->high_watermark = 1;
	node_close(&node[2]);
	node_open(&node[2]);
	node[2].p->high_watermark = 1;
	become(2, 1, 1, "12", "12");
	if (how == NAIVELY)
		assert_int_equal(partition_follower_truncate(node[2].p, 1, 1, &err), 0);
	else
		align(2, 1, 1);
	become(2, 2, 2, "2", "12");
	become(1, 2, 2, "2", "12");
	align(1, 2, 2);
	fetch(1, 2, 2);
	return !has_value(2, "two ") || !has_value(1, "two ");
}

/* KIP-101, the second: both lose power, the one that has lost more comes first and goes on. */
static bool power_lost_by_both(int how)
{
	open_nodes(2);
	become(1, 1, 1, "12", "12");
	become(2, 1, 1, "12", "12");
	say_at(1, "one\n");
	say_at(1, "lost\n");
	fetch(2, 1, 1);
	fetch(2, 1, 1);
	assert_int_equal(high_of(1), 2);
	assert_int_equal(partition_follower_truncate(node[2].p, 1, 1, &err), 0); /* what was not on disk */
	become(2, 2, 2, "2", "12");
	say_at(2, "two\n");
	become(1, 2, 2, "2", "12");
	if (how == NAIVELY)
		assert_int_equal(partition_follower_truncate(node[1].p, high_of(1), 2, &err), 0);
	else
		align(1, 2, 2);
	say_at(2, "three\n");
	try_fetch(1, 2, 2, 1 << 20);
	return logs_part(1, 2);
}

/* KIP-279: elections in quick succession; who asks by its own last epoch, and heeds only where that ended, keeps what nobody else has. */
static bool quick_elections(int how)
{
	open_nodes(2);
	become(1, 1, 1, "12", "12");
	become(2, 1, 1, "12", "12");
	say_at(1, "one\n");
	fetch(2, 1, 1);
	fetch(2, 1, 1);
	say_at(1, "mine\n");
	become(2, 2, 2, "12", "12"); /* 1 does not learn of it */
	say_at(2, "yours\n");
	become(1, 1, 3, "12", "12");
	say_at(1, "three\n");
	become(2, 1, 3, "12", "12");
	if (how == NAIVELY) {
		int32_t epoch;
		int64_t end;
		assert_int_equal(partition_epoch_end(node[1].p, 3, 2, true, &epoch, &end, &err), 0);
		assert_int_equal(partition_follower_truncate(node[2].p, end, 3, &err), 0);
	} else
		align(2, 1, 3);
	fetch(2, 1, 3);
	fetch(2, 1, 3);
	return logs_part(1, 2);
}

/* KAFKA-7128: a new leader's high watermark is behind what was acknowledged; a replica that has no more than that joins, and is elected. */
static bool joins_too_early(int how)
{
	open_nodes(3);
	for (int i = 1; i <= 3; i++)
		become(i, 1, 1, "12", "123");
	say_at(1, "one\n");
	fetch(3, 1, 1);
	struct isr_change c3 = node[1].asked;
	partition_altered(node[1].p, &c3, ISR_REFUSED, NULL, 0, 0);
	fetch(2, 1, 1);
	fetch(2, 1, 1);
	struct wait w;
	wait_init(&w);
	start_append(node[1].p, &w, "two\n", 4, ACKS_ALL);
	fetch(2, 1, 1);
	struct follower_fetch who = {.id = 2, .broker_epoch = 1, .current_epoch = 1, .offset = 2, .now_ms = now_ms()};
	usleep(1000);
	assert_int_equal(partition_follower_fetched(node[1].p, &who, &err), 0); /* and the answer is lost */
	partition_check_isr(node[1].p, now_ms());
	/* 3 has kept up until now, and is waited for: until it has not */
	for (int i = 0; i < 2000 && !w.calls; i++) {
		usleep(2000);
		partition_check_isr(node[1].p, now_ms());
	}
	assert_int_equal(finish_append(&w), 0);
	wait_release(&w);
	assert_int_equal(high_of(2), 1);
	become(2, 2, 2, "12", "123");
	if (how == NAIVELY)
		node[2].p->isr.epoch_start = 0;
	become(3, 2, 2, "12", "123");
	align(3, 2, 2);
	assert_int_equal(end_of(3), 1);
	int before = node[2].asked_count;
	struct carried c;
	assert_int_equal(ask_leader(3, 2, 2, 1, 1 << 20, &c), 0); /* and this answer is lost, too */
	free(c.bytes);
	if (node[2].asked_count > before) {
		grant(2);
		become(3, 3, 3, "3", "123"); /* 1 and 2 are gone */
		return !has_value(3, "two ");
	}
	fetch(3, 2, 2);
	fetch(3, 2, 2);
	assert_int_equal(node[2].asked_count, before + 1);
	grant(2);
	become(3, 3, 3, "3", "123");
	return !has_value(3, "two ");
}

static off_t size_of_log(int id)
{
	char path[200];
	struct stat st;
	snprintf(path, sizeof path, "%s/t-0/00000000000000000000.log", node[id].data);
	assert_int_equal(stat(path, &st), 0);
	return st.st_size;
}

/* KIP-966: the last one in sync acknowledges by itself, and loses power. It is the only one that may lead; what it does not have then the others cut as well. */
static bool last_one_loses_power(int how)
{
	char path[200];
	if (how == NAIVELY)
		node_set(&node[1], "log.flush.acks.all=never");
	open_nodes(2);
	become(1, 1, 1, "12", "12");
	become(2, 1, 1, "12", "12");
	say_at(1, "one\n");
	assert_int_equal(log_flush(node[1].p->log, 1, &err), 0);
	off_t durable = size_of_log(1);
	fetch(2, 1, 1);
	fetch(2, 1, 1);
	become(1, 1, 2, "1", "12");
	assert_int_equal(try_say_at(1, "two\n", ACKS_ALL), 0);
	if (node[1].p->log->flushed_offset == 2)
		durable = size_of_log(1);
	node_close(&node[1]);
	snprintf(path, sizeof path, "%s/t-0/00000000000000000000.log", node[1].data);
	assert_int_equal(truncate(path, durable), 0);
	static const char *const gone[] = {".kafka_cleanshutdown", PARTITION_STATE_FILE, RECOVERY_POINT_FILE};
	for (int i = 0; i < 3; i++) {
		snprintf(path, sizeof path, "%s/%s", node[1].data, gone[i]);
		assert_int_equal(unlink(path), 0);
	}
	node_open(&node[1]);
	become(1, 1, 3, "1", "12");
	become(2, 1, 3, "1", "12");
	align(2, 1, 3);
	fetch(2, 1, 3);
	return !has_value(1, "two ") || !has_value(2, "two ");
}

static struct history { const char *name; bool (*is_lost)(int how); } histories[] = {
	{"KIP-101: a restart, then an election", restart_then_election},
	{"KIP-101: power lost by both", power_lost_by_both},
	{"KIP-279: quick elections", quick_elections},
	{"KAFKA-7128: a replica joins too early", joins_too_early},
	{"KIP-966: the last one in sync loses power", last_one_loses_power},
};

static void test_histories(void **state)
{
	for (size_t i = 0; i < sizeof histories / sizeof *histories; i++)
		for (int how = BY_THE_RULE; how <= NAIVELY; how++) {
			setup_nodes(state);
			node_set(&node[1], "replica.lag.time.max.ms=20");
			bool lost = histories[i].is_lost(how);
			teardown_nodes(state);
			if (lost && how == BY_THE_RULE)
				fail_msg("%s: it is lost", histories[i].name);
			if (!lost && how == NAIVELY)
				fail_msg("%s: the naive rule loses nothing, so this shows nothing", histories[i].name);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_histories),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
