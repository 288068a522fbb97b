#include "tests/unit/group_fixture.h"

#include "cluster/partition_fetch.h"

#include <dirent.h>

/* Offsets and records: what is committed is found again, after a restart, a crash, and in what a real Kafka wrote. */

/* What a consumer sends: version 0, one topic, no user data; and what its leader gives it: nothing. */
static const char subscription_t[] = "\0\0\0\0\0\1\0\1t\377\377\377\377", nothing_assigned[] = "\0\0\0\0\0\0\377\377\377\377";

static int32_t consumer_of_t(const char *group, char id[128])
{
	struct joined j = {0};
	struct synced s = {0};
	struct group_protocol p = {str("range"), {subscription_t, sizeof subscription_t - 1}};
	struct group_join_request q = {
		.group_id = str(group), .member_id = str(""), .protocol_type = str("consumer"), .client_id = str("c"), .client_host = str("/h"), .protocols = &p, .protocol_count = 1,
		.session_timeout_ms = 1800000, .rebalance_timeout_ms = 10000,
	};
	group_join(co, &q, on_joined, &j);
	pass(3000);
	assert_int_equal(j.calls, 1);
	assert_int_equal(j.error, 0);
	struct group_assignment a = {str(j.member), {nothing_assigned, sizeof nothing_assigned - 1}};
	struct group_sync_request sync = {.group_id = str(group), .member_id = str(j.member), .generation_id = j.generation, .assignments = &a, .assignment_count = 1};
	s.error = -99;
	group_sync(co, &sync, on_synced, &s);
	assert_int_equal(s.error, 0);
	strcpy(id, j.member);
	return j.generation;
}

/* ---- commit and fetch ---- */

static void test_simple_consumer(void **state)
{
	(void)state;
	assert_int_equal(offset_of("g", "t", 0), -1);
	assert_int_equal(fetch_all_of("g").topics, 0);
	assert_int_equal(commit("g", "t", 0, 5), 0);
	assert_int_equal(commit("g", "t", 1, 6), 0);
	assert_int_equal(commit("g", "u", 0, 7), 0);
	assert_int_equal(commit("g", "t", 0, 4), 0); /* back */
	struct fetched_one f = fetch_one("g", "t", 0);
	assert_int_equal(f.offset, 4);
	assert_int_equal(f.epoch, 3);
	assert_string_equal(f.metadata, "noted");
	f = fetch_one("g", "t", 2);
	assert_int_equal(f.error, 0);
	assert_int_equal(f.offset, -1);
	assert_int_equal(f.epoch, -1);
	assert_string_equal(f.metadata, "");
	f = fetch_all_of("g");
	assert_int_equal(f.topics, 2);
	assert_int_equal(f.partitions, 3);
	struct described d = describe_group("g");
	assert_string_equal(d.state, "Empty");
	assert_string_equal(d.type, "");
	restart();
	assert_int_equal(offset_of("g", "t", 0), 4);
	assert_int_equal(offset_of("g", "u", 0), 7);
	assert_int_equal(fetch_all_of("g").partitions, 3);
	/* the empty id is a group, for who commits */
	assert_int_equal(commit("", "t", 0, 9), 0);
	assert_int_equal(offset_of("", "t", 0), 9);
	struct group_fetch_request q = {.all = true};
	f = (struct fetched_one){0};
	group_fetch(co, &q, on_fetched, &f);
	assert_int_equal(f.error, KAFKA_INVALID_GROUP_ID);
	struct told o = {0};
	group_commit(co, &(struct group_commit_request){.generation_id = -1}, on_told, &o);
	assert_int_equal(o.error, KAFKA_INVALID_GROUP_ID);
}

static void test_commits_are_fenced(void **state)
{
	(void)state;
	char one[128], two[128];
	struct joined j, k;
	assert_int_equal(commit_as("nobody", "m", NULL, 1, "t", 0, 1, "", -1), KAFKA_GROUP_ID_NOT_FOUND);
	int32_t g = group_of_two("g", one, two, (struct asks){0});
	assert_int_equal(commit_as("g", one, NULL, g, "t", 0, 10, "", -1), 0);
	assert_int_equal(commit_as("g", one, NULL, g - 1, "t", 0, 11, "", -1), KAFKA_ILLEGAL_GENERATION);
	assert_int_equal(commit_as("g", "m", NULL, g, "t", 0, 11, "", -1), KAFKA_UNKNOWN_MEMBER_ID);
	assert_int_equal(commit_as("g", "", NULL, -1, "t", 0, 11, "", -1), KAFKA_UNKNOWN_MEMBER_ID); /* there are members */
	assert_int_equal(commit_as("g", one, NULL, -1, "t", 0, 11, "", -1), KAFKA_ILLEGAL_GENERATION);
	assert_int_equal(commit_as("g", one, "i", g, "t", 0, 11, "", -1), KAFKA_UNKNOWN_MEMBER_ID);
	/* PreparingRebalance: members of the generation that ends may still */
	ASK(&j, "g", .member = one);
	assert_int_equal(commit_as("g", two, NULL, g, "t", 0, 12, "", -1), 0);
	ASK(&k, "g", .member = two);
	assert_int_equal(j.generation, g + 1);
	assert_int_equal(commit_as("g", two, NULL, g, "t", 0, 13, "", -1), KAFKA_ILLEGAL_GENERATION);
	assert_int_equal(commit_as("g", two, NULL, g + 1, "t", 0, 13, "", -1), KAFKA_REBALANCE_IN_PROGRESS);
	assert_int_equal(offset_of("g", "t", 0), 12);
	/* Empty: whoever says he is in no group */
	leave_group("g", one, NULL);
	leave_group("g", two, NULL);
	expect_state("g", "Empty");
	assert_int_equal(commit("g", "t", 0, 2), 0);
	assert_int_equal(commit_as("g", two, NULL, g + 1, "t", 0, 13, "", -1), KAFKA_UNKNOWN_MEMBER_ID);
	assert_int_equal(offset_of("g", "t", 0), 2);
}

static void test_who_commits_is_alive(void **state)
{
	(void)state;
	char one[128];
	int32_t g = group_of_one("g", one, (struct asks){.session_ms = 10000});
	for (int i = 0; i < 10; i++) {
		pass(5000);
		assert_int_equal(commit_as("g", one, NULL, g, "t", 0, i, "", -1), 0);
	}
	expect_state("g", "Stable");
	pass(10000);
	expect_state("g", "Empty");
}

static void test_many_at_once(void **state)
{
	(void)state;
	enum { N = 3000 };
	static char large[4097], fits[4097];
	memset(large, 'x', 4096);
	strcpy(fits, large);
	for (int i = 0; i < 4096; i += 2)
		memcpy(fits + i, "\303\274", 2); /* 2048 characters to Java */
	strcat(large, "");
	struct group_commit_partition *p = calloc(N, sizeof *p);
	for (int i = 0; i < N; i++)
		p[i] = (struct group_commit_partition){.partition = i, .leader_epoch = -1, .offset = i * 10, .metadata = i % 3 ? str(fits) : str(NULL)};
	char too_long[4098];
	memset(too_long, 'y', 4097);
	too_long[4097] = '\0';
	p[7].metadata = str(too_long);
	struct group_commit_topic t = {.name = str("t"), .partitions = p, .partition_count = N};
	struct group_commit_request q = {.group_id = str("g"), .member_id = str(""), .generation_id = -1, .retention_ms = -1, .topics = &t, .topic_count = 1};
	struct told o = {0};
	group_commit(co, &q, on_told, &o); /* several batches of max.message.bytes, one append */
	assert_int_equal(o.calls, 1);
	assert_int_equal(o.error, 0);
	for (int i = 0; i < N; i++)
		assert_int_equal(p[i].error, i == 7 ? KAFKA_OFFSET_METADATA_TOO_LARGE : 0);
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < N; i += 111)
			assert_int_equal(offset_of("g", "t", i), i * 10);
		assert_int_equal(offset_of("g", "t", 7), -1);
		assert_int_equal(fetch_all_of("g").partitions, N - 1);
		restart();
	}
	free(p);
}

static void test_topic_ids(void **state)
{
	(void)state;
	struct told o = {0};
	struct fetched_one f = {0};
	struct group_commit_partition p = {.partition = 0, .leader_epoch = 1, .offset = 8, .metadata = str("")};
	struct group_commit_topic t = {.name = str("t"), .topic_id = {1, 2, 3}, .partitions = &p, .partition_count = 1};
	struct group_commit_request q = {.group_id = str("g"), .member_id = str(""), .generation_id = -1, .retention_ms = -1, .topics = &t, .topic_count = 1};
	group_commit(co, &q, on_told, &o);
	assert_int_equal(o.error, 0);
	for (int round = 0; round < 2; round++) {
		struct group_fetch_partition fp = {.partition = 0};
		struct group_fetch_topic ft = {.name = str("t"), .partitions = &fp, .partition_count = 1};
		struct group_fetch_request fq = {.group_id = str("g"), .topics = &ft, .topic_count = 1};
		group_fetch(co, &fq, on_fetched, &f);
		assert_int_equal(f.offset, 8);
		ft.topic_id[0] = 1, ft.topic_id[1] = 2, ft.topic_id[2] = 3;
		group_fetch(co, &fq, on_fetched, &f);
		assert_int_equal(f.offset, 8);
		ft.topic_id[2] = 4; /* the topic was made anew */
		group_fetch(co, &fq, on_fetched, &f);
		assert_int_equal(f.offset, -1);
		restart();
	}
}

static void test_full_disk(void **state)
{
	(void)state;
	assert_int_equal(commit("g", "t", 0, 5), 0);
	io_set_hook(no_space, NULL);
	assert_int_equal(commit("g", "t", 0, 6), KAFKA_COORDINATOR_NOT_AVAILABLE);
	assert_int_equal(delete_group("g"), KAFKA_COORDINATOR_NOT_AVAILABLE);
	assert_int_equal(offset_of("g", "t", 0), 5);
	io_set_hook(NULL, NULL);
	expect_state("g", "Empty");
	assert_int_equal(commit("g", "t", 0, 7), 0);
	assert_int_equal(offset_of("g", "t", 0), 7);
	char *long_id = malloc(40001);
	memset(long_id, 'g', 40000);
	long_id[40000] = '\0';
	assert_int_equal(commit(long_id, "t", 0, 7), KAFKA_UNKNOWN_SERVER_ERROR); /* the format has no room for it */
	assert_int_equal(describe_group(long_id).error, KAFKA_GROUP_ID_NOT_FOUND);
	free(long_id);
}

/* ---- deleting ---- */

static int16_t delete_offset(const char *group, const char *topic, int32_t partition)
{
	struct told o = {0};
	struct group_delete_partition p = {.partition = partition, .error = -99};
	struct group_delete_topic t = {.name = str(topic), .partitions = &p, .partition_count = 1};
	group_delete_offsets(co, str(group), &t, 1, on_told, &o);
	assert_int_equal(o.calls, 1);
	return o.error ? o.error : p.error;
}

static void test_offset_delete(void **state)
{
	(void)state;
	char one[128];
	assert_int_equal(delete_offset("", "t", 0), KAFKA_INVALID_GROUP_ID);
	assert_int_equal(delete_offset("nobody", "t", 0), KAFKA_GROUP_ID_NOT_FOUND);
	commit("g", "t", 0, 1);
	commit("g", "t", 1, 2);
	assert_int_equal(delete_offset("g", "t", 0), 0);
	assert_int_equal(delete_offset("g", "t", 5), 0);
	assert_int_equal(offset_of("g", "t", 0), -1);
	assert_int_equal(offset_of("g", "t", 1), 2);
	restart();
	assert_int_equal(fetch_all_of("g").partitions, 1);
	/* a group that is no consumer's must be empty */
	group_of_one("other", one, (struct asks){0});
	assert_int_equal(delete_offset("other", "t", 0), KAFKA_NON_EMPTY_GROUP);
	/* a consumer's must not be subscribed */
	consumer_of_t("c", one);
	assert_int_equal(commit_as("c", one, NULL, 1, "t", 0, 1, "", -1), 0);
	assert_int_equal(commit_as("c", one, NULL, 1, "u", 0, 2, "", -1), 0);
	assert_int_equal(delete_offset("c", "t", 0), KAFKA_GROUP_SUBSCRIBED_TO_TOPIC);
	assert_int_equal(delete_offset("c", "u", 0), 0);
	assert_int_equal(offset_of("c", "t", 0), 1);
	assert_int_equal(offset_of("c", "u", 0), -1);
	restart();
	assert_int_equal(delete_offset("c", "t", 0), KAFKA_GROUP_SUBSCRIBED_TO_TOPIC);
	leave_group("c", one, NULL);
	assert_int_equal(delete_offset("c", "t", 0), 0);
}

static void test_delete_group(void **state)
{
	(void)state;
	char one[128];
	assert_int_equal(delete_group("nobody"), KAFKA_GROUP_ID_NOT_FOUND);
	int32_t g = group_of_one("g", one, (struct asks){0});
	commit_as("g", one, NULL, g, "t", 0, 1, "", -1);
	assert_int_equal(delete_group("g"), KAFKA_NON_EMPTY_GROUP);
	leave_group("g", one, NULL);
	assert_int_equal(delete_group("g"), 0);
	assert_string_equal(describe_group("g").state, "Dead");
	assert_int_equal(describe_group("g").error, KAFKA_GROUP_ID_NOT_FOUND);
	assert_int_equal(offset_of("g", "t", 0), -1);
	assert_int_equal(delete_group("g"), KAFKA_GROUP_ID_NOT_FOUND);
	restart();
	assert_int_equal(describe_group("g").error, KAFKA_GROUP_ID_NOT_FOUND);
	assert_int_equal(group_of_one("g", one, (struct asks){0}), 1); /* from the beginning */
	commit("h", "t", 0, 1);
	assert_int_equal(delete_group("h"), 0);
	assert_int_equal(commit("h", "u", 0, 1), 0);
	restart();
	assert_int_equal(offset_of("h", "t", 0), -1);
	assert_int_equal(offset_of("h", "u", 0), 1);
}

static void test_topic_is_deleted(void **state)
{
	(void)state;
	commit("g", "t", 0, 1);
	commit("g", "u", 0, 2);
	commit("h", "t", 3, 3);
	coordinator_topic_deleted(co, str("t"));
	for (int round = 0; round < 2; round++) {
		assert_int_equal(offset_of("g", "t", 0), -1);
		assert_int_equal(offset_of("h", "t", 3), -1);
		assert_int_equal(offset_of("g", "u", 0), 2);
		restart();
	}
}

/* ---- what is too old ---- */

enum { MINUTE = 60000, DAY = 24 * 60 * MINUTE };

static void days(int n)
{
	wall_forward((int64_t)n * DAY);
	coordinator_expire(co);
}

static void test_expiry(void **state)
{
	(void)state;
	char one[128], two[128];
	commit("simple", "t", 0, 1);
	days(4);
	commit("simple", "t", 1, 1);
	int32_t g = group_of_one("test", one, (struct asks){.session_ms = 1800000});
	commit_as("test", one, NULL, g, "t", 0, 5, "", -1);
	consumer_of_t("consumer", two);
	commit_as("consumer", two, NULL, 1, "t", 0, 6, "", -1);
	commit_as("consumer", two, NULL, 1, "u", 0, 7, "", -1);
	commit_as("own", "", NULL, -1, "t", 0, 8, "", MINUTE);
	assert_int_equal(offset_of("own", "t", 0), 8);
	days(2);
	assert_int_equal(offset_of("own", "t", 0), -1); /* it had a minute */
	assert_string_equal(describe_group("own").state, "Dead");
	assert_int_equal(offset_of("simple", "t", 0), 1);
	days(1);
	assert_int_equal(offset_of("simple", "t", 0), -1); /* seven days */
	assert_int_equal(offset_of("simple", "t", 1), 1);
	days(4);
	assert_int_equal(offset_of("simple", "t", 1), -1);
	assert_string_equal(describe_group("simple").state, "Dead");
	days(30);
	assert_int_equal(offset_of("test", "t", 0), 5);      /* it has members */
	assert_int_equal(offset_of("consumer", "t", 0), 6);  /* it is subscribed to t */
	assert_int_equal(offset_of("consumer", "u", 0), -1); /* and not to u */
	leave_group("test", one, NULL);
	leave_group("consumer", two, NULL);
	days(6);
	assert_int_equal(offset_of("test", "t", 0), 5);      /* since it has none */
	restart();
	days(0);
	assert_int_equal(offset_of("test", "t", 0), 5);
	assert_int_equal(offset_of("consumer", "t", 0), 6);
	days(1);
	assert_string_equal(describe_group("test").state, "Dead");
	assert_string_equal(describe_group("consumer").state, "Dead");
	restart();
	assert_string_equal(describe_group("test").state, "Dead");
	assert_string_equal(describe_group("simple").state, "Dead");
}

static void test_expiry_comes_by_itself(void **state)
{
	(void)state;
	struct joined j;
	ASK(&j, "g"); /* a group that nobody came back to */
	expect_state("g", "Empty");
	pass(599950);
	expect_state("g", "Empty");
	pass(50);
	assert_string_equal(describe_group("g").state, "Dead");
	commit("h", "t", 0, 1);
	wall_forward((int64_t)8 * DAY);
	pass(600000);
	assert_string_equal(describe_group("h").state, "Dead");
}

/* ---- after a restart ---- */

static void test_members_are_there_after_a_restart(void **state)
{
	(void)state;
	char one[128], two[128];
	int32_t g = group_of_two("g", one, two, (struct asks){.session_ms = 10000, .protocols = "range=meta"});
	struct described before = describe_group("g");
	restart();
	struct described after = describe_group("g");
	assert_memory_equal(&before, &after, sizeof before);
	assert_string_equal(after.state, "Stable");
	assert_int_equal(beat("g", one, NULL, g), 0);
	assert_int_equal(commit_as("g", two, NULL, g, "t", 0, 1, "", -1), 0);
	pass(9000);
	assert_int_equal(beat("g", one, NULL, g), 0);
	pass(2000); /* the other has not said anything since */
	assert_int_equal(beat("g", one, NULL, g), KAFKA_REBALANCE_IN_PROGRESS);
	struct joined j;
	ASK(&j, "g", .member = one, .protocols = "range=meta");
	assert_int_equal(j.calls, 1);
	assert_int_equal(j.generation, g + 1);
	assert_string_equal(j.type, "test");
}

static void test_group_that_has_become_too_large(void **state)
{
	(void)state;
	char one[128], two[128];
	int32_t g = group_of_two("g", one, two, (struct asks){0});
	stop();
	close_broker();
	set_conf("group.max.size=1");
	open_broker();
	start();
	assert_int_equal(beat("g", one, NULL, g), KAFKA_REBALANCE_IN_PROGRESS);
	struct joined j, k;
	ASK(&j, "g", .member = two);
	ASK(&k, "g", .member = one);
	assert_int_equal(k.error, KAFKA_GROUP_MAX_SIZE_REACHED);
}

/* What was acknowledged is there after a crash: a copy of the files is all that is left. */
static void test_crash(void **state)
{
	(void)state;
	char text[300], one[128];
	int32_t g = group_of_one("g", one, (struct asks){0});
	for (int i = 0; i < 500; i++)
		assert_int_equal(commit_as("g", one, NULL, g, "t", i % 7, i, "", -1), 0);
	snprintf(text, sizeof text, "cp -r %s %s/crashed", data, root);
	assert_int_equal(system(text), 0);
	for (int i = 0; i < 7; i++)
		assert_int_equal(commit_as("g", one, NULL, g, "t", i, 9999, "", -1), 0);
	stop();
	close_broker();
	snprintf(text, sizeof text, "rm -r %s && mv %s/crashed %s", data, root, data);
	assert_int_equal(system(text), 0);
	open_broker();
	start();
	expect_state("g", "Stable");
	assert_int_equal(beat("g", one, NULL, g), 0);
	for (int i = 493; i < 500; i++)
		assert_int_equal(offset_of("g", "t", i % 7), i);
}

static void test_other_codec(void **state)
{
	(void)state;
	char one[128];
	for (int codec = 0; codec <= 4; codec++) {
		char text[64];
		snprintf(text, sizeof text, "offsets.topic.compression.codec=%d", codec);
		stop();
		close_broker();
		set_conf(text);
		open_broker();
		start();
		snprintf(text, sizeof text, "g%d", codec);
		group_of_one(text, one, (struct asks){0});
		assert_int_equal(commit_as(text, one, NULL, 1, "t", 0, 100 + codec, "", -1), 0);
	}
	restart();
	for (int codec = 0; codec <= 4; codec++) {
		char text[64];
		snprintf(text, sizeof text, "g%d", codec);
		expect_state(text, "Stable");
		assert_int_equal(offset_of(text, "t", 0), 100 + codec);
	}
}

static int64_t log_bytes(int64_t *end_offset)
{
	struct visible v;
	struct partition *p = use("__consumer_offsets", 0);
	assert_int_equal(partition_visible(p, &v, &err), 0);
	done_with(p);
	*end_offset = v.end_offset;
	return v.bytes;
}

/* The cleaner keeps it small; what is left says the same. */
static void test_compaction(void **state)
{
	setup(state);
	set_conf("log.cleaner.backoff.ms=20");
	set_conf("log.cleaner.min.cleanable.ratio=0.01");
	set_conf("offsets.topic.segment.bytes=16384");
	set_conf("log.flush.acks.all=never");
	set_conf("offsets.topic.num.partitions=1");
	heap = timer_heap_new();
	open_broker();
	start();
	assert_int_equal(coordinator_need_topic(co, &err), 0);
	struct topic *t = topics_find(b, "__consumer_offsets");
	assert_true(topic_is_compacted(t));
	topic_unref(t);
	char one[128];
	int64_t end, before;
	int32_t g = group_of_one("stable", one, (struct asks){.session_ms = 1800000});
	commit("gone", "t", 0, 1);
	assert_int_equal(delete_group("gone"), 0);
	for (int i = 0; i < 4000; i++)
		assert_int_equal(i % 2 ? commit("simple", "t", i % 10, i) : commit_as("stable", one, NULL, g, "u", i % 10, i, "", -1), 0);
	before = 4000 * 120;
	for (int i = 0; i < 400 && log_bytes(&end) > 60000; i++) {
		usleep(50000);
		if (i % 50 == 0) /* while it is read, too */
			restart();
	}
	assert_true(log_bytes(&end) < before / 4);
	assert_true(end > 4000);
	for (int round = 0; round < 2; round++) {
		restart();
		for (int i = 3990; i < 4000; i++)
			assert_int_equal(offset_of(i % 2 ? "simple" : "stable", i % 2 ? "t" : "u", i % 10), i);
		expect_state("stable", "Stable");
		assert_int_equal(beat("stable", one, NULL, g), 0);
		assert_string_equal(describe_group("gone").state, "Dead");
	}
}

/* ---- the bytes ---- */

static void test_records(void **state)
{
	(void)state;
	struct records r;
	struct offset_entry o = {.partition = 2, .leader_epoch = 4, .offset = 0x1122334455667788, .commit_ms = 0x0102030405060708, .expire_ms = -1};
	records_init(&r);
	records_offset(&r, str("gr"), str("top"), &o);
	static const char plain[] = "\0\1\0\2gr\0\3top\0\0\0\2" "\0\4\x11\x22\x33\x44\x55\x66\x77\x88\0\0\0\4\1\1\2\3\4\5\6\7\x08\0";
	assert_int_equal(r.out.bytes.len, sizeof plain - 1);
	assert_memory_equal(r.out.bytes.data, plain, sizeof plain - 1);
	records_release(&r);
	records_init(&r);
	o.expire_ms = 5;
	o.metadata = blob_new(str("me"));
	records_offset(&r, str("gr"), str("top"), &o);
	static const char expires[] = "\0\1\0\2gr\0\3top\0\0\0\2" "\0\1\x11\x22\x33\x44\x55\x66\x77\x88\0\2me\1\2\3\4\5\6\7\x08\0\0\0\0\0\0\0\5";
	assert_int_equal(r.out.bytes.len, sizeof expires - 1);
	assert_memory_equal(r.out.bytes.data, expires, sizeof expires - 1);
	blob_unref(o.metadata);
	records_release(&r);
	records_init(&r);
	records_offset_gone(&r, str("gr"), str("top"), 2);
	records_group_gone(&r, str("gr"));
	static const char gone[] = "\0\1\0\2gr\0\3top\0\0\0\2" "\0\2\0\2gr";
	assert_int_equal(r.out.bytes.len, sizeof gone - 1);
	assert_memory_equal(r.out.bytes.data, gone, sizeof gone - 1);
	assert_true(r.at[0].tombstone && r.at[1].tombstone);
	records_release(&r);
}

/* For test_group_kafka.py: what is on disk now, where the environment says. */
static void keep(const char *name)
{
	char text[400];
	if (getenv("SPOOLFS_TEST_KEEP")) {
		snprintf(text, sizeof text, "cp -r %s %s/%s", data, getenv("SPOOLFS_TEST_KEEP"), name);
		assert_int_equal(system(text), 0);
	}
}

/* One of everything; test_group_kafka.py has Kafka's dump tool read it, from where the environment says. */
static void test_one_of_everything(void **state)
{
	(void)state;
	char one[128];
	struct joined j;
	struct synced s;
	struct told o = {0};
	ASK(&j, "stable", .instance = "static", .protocols = "range=subscribed");
	pass(3000);
	ask_sync(&s, "stable", j.member, "static", 1, TO(j.member), "assigned");
	group_of_one("left", one, (struct asks){0});
	assert_int_equal(leave_group("left", one, NULL), 0);
	commit("simple", "orders", 3, 41);
	commit_as("simple", "", NULL, -1, "orders", 4, 42, "for a day", DAY);
	struct group_commit_partition p = {.partition = 5, .leader_epoch = 6, .offset = 43, .metadata = str("gr\303\274\303\237e")};
	struct group_commit_topic t = {.name = str("orders"), .topic_id = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, .partitions = &p, .partition_count = 1};
	group_commit(co, &(struct group_commit_request){.group_id = str("simple"), .member_id = str(""), .generation_id = -1, .retention_ms = -1, .topics = &t, .topic_count = 1}, on_told, &o);
	assert_int_equal(o.error, 0);
	commit("gone", "orders", 0, 1);
	assert_int_equal(delete_group("gone"), 0);
	stop();
	close_broker();
	keep("everything");
}

/* A record of each version that Kafka has written. */
static void test_older_values(void **state)
{
	(void)state;
	struct arena arena;
	arena_init(&arena, 0);
	struct { const char *bytes; size_t n; int64_t offset; int32_t epoch; int64_t commit_ms, expire_ms; const char *metadata; } v[] = {
#define V(s) s, sizeof s - 1
		{V("\0\0\0\0\0\0\0\0\0\7\0\1m\0\0\0\0\0\0\0\3"), 7, -1, 3, -1, "m"},
		{V("\0\1\0\0\0\0\0\0\0\7\0\1m\0\0\0\0\0\0\0\3\0\0\0\0\0\0\0\4"), 7, -1, 3, 4, "m"},
		{V("\0\2\0\0\0\0\0\0\0\7\0\0\0\0\0\0\0\0\0\3"), 7, -1, 3, -1, ""},
		{V("\0\3\0\0\0\0\0\0\0\7\0\0\0\5\0\1m\0\0\0\0\0\0\0\3"), 7, 5, 3, -1, "m"},
		{V("\0\4\0\0\0\0\0\0\0\7\0\0\0\5\2m\0\0\0\0\0\0\0\3\2\0\0201234567890abcdef\7\1x"), 7, 5, 3, -1, "m"},
	};
	for (size_t i = 0; i < sizeof v / sizeof *v; i++) {
		struct offset_entry o = {0};
		assert_int_equal(record_offset_decode((struct gstr){v[i].bytes, (int32_t)v[i].n}, &arena, &o), 1);
		assert_int_equal(o.offset, v[i].offset);
		assert_int_equal(o.leader_epoch, v[i].epoch);
		assert_int_equal(o.commit_ms, v[i].commit_ms);
		assert_int_equal(o.expire_ms, v[i].expire_ms);
		assert_true(blob_is(o.metadata, str(v[i].metadata)));
		if (i == 4)
			assert_memory_equal(o.topic_id, "1234567890abcdef", 16);
		blob_unref(o.metadata);
		for (size_t n = 0; n < v[i].n; n++) /* cut short anywhere */
			assert_int_equal(record_offset_decode((struct gstr){v[i].bytes, (int32_t)n}, &arena, &o), ERR_CORRUPT);
	}
	struct offset_entry o;
	assert_int_equal(record_offset_decode(GSTR("\0\5\0\0\0\0\0\0\0\7"), &arena, &o), 0);
	struct record_key k;
	assert_true(record_key_decode(GSTR("\0\0\0\1g\0\1t\0\0\0\1"), &arena, &k));
	assert_int_equal(k.kind, RECORD_OFFSET);
	assert_false(record_key_decode(GSTR("\0\1\0\1g\0\1t\0\0\0"), &arena, &k));
	assert_false(record_key_decode(GSTR("\0\2\0\5g"), &arena, &k));
	assert_false(record_key_decode(GSTR("\0\2\377\377"), &arena, &k));
	assert_false(record_key_decode(GSTR("\0"), &arena, &k));
	assert_true(record_key_decode(GSTR("\0\11whatever"), &arena, &k));
	assert_int_equal(k.kind, RECORD_UNKNOWN);
	arena_release(&arena);
}

/* ---- what Kafka wrote ---- */

static void put_recording(const char *name)
{
	char text[400];
	const char *from = getenv("SPOOLFS_TEST_DATA");
	snprintf(text, sizeof text, "tar -xJf %s/%s.tar.xz -C %s log && mv %s/log %s", from ? from : "tests/data", name, root, root, data);
	assert_int_equal(system(text), 0);
}

struct rewriting { struct shard shard; struct arena arena; size_t offsets, groups; };

static int rewrite(void *arg, const struct batch *batch, const struct record *r)
{
	struct rewriting *x = arg;
	struct record_key k;
	struct records w;
	struct gstr value = {r->value, r->value_len};
	if (batch_is_control(batch))
		return 0;
	assert_true(record_key_decode((struct gstr){r->key, r->key_len}, &x->arena, &k));
	records_init(&w);
	if (k.kind == RECORD_OFFSET && r->value) {
		struct offset_entry o = {.partition = k.partition};
		assert_int_equal(record_offset_decode(value, &x->arena, &o), 1);
		records_offset(&w, k.group, k.topic, &o);
		blob_unref(o.metadata);
		x->offsets++;
	} else if (k.kind == RECORD_GROUP && r->value) {
		struct group *g = group_new(&x->shard, k.group);
		assert_int_equal(record_group_decode(value, &x->arena, g), 1);
		records_group(&w, g, false);
		group_unref(g);
		x->groups++;
	}
	if (w.count && (k.kind == RECORD_GROUP || be16_get(r->value) == 4)) {
		assert_int_equal(w.out.bytes.len, r->key_len + r->value_len);
		assert_memory_equal(w.out.bytes.data, r->key, (size_t)r->key_len);
		assert_memory_equal(w.out.bytes.data + r->key_len, r->value, (size_t)r->value_len);
	}
	records_release(&w);
	return 0;
}

/* Every record of Kafka's, decoded and written again, has the same bytes. */
static void test_the_same_bytes_as_kafka(void **state)
{
	(void)state;
	put_recording("kafka-4.1");
	open_broker();
	struct coordinator c = {.timers = heap};
	struct rewriting x = {.shard = {.coordinator = &c}};
	arena_init(&x.arena, 0);
	for (int i = 0; i < 4; i++) {
		struct partition *p = use("__consumer_offsets", i);
		assert_int_equal(partition_scan_records(p, 0, -1, rewrite, &x, NULL, &err), 0);
		done_with(p);
	}
	arena_release(&x.arena);
	assert_true(x.offsets >= 14 && x.groups >= 3);
}

static const int64_t spread[] = {12, 0, 20, 0, 0, 32};

static void expect_readers(const char *group)
{
	for (int i = 0; i < 6; i++)
		assert_int_equal(offset_of(group, "spread", i), spread[i]);
	struct fetched_one f = fetch_one(group, "codec-none", 0);
	assert_int_equal(f.offset, 7);
	assert_string_equal(f.metadata, "by hand");
	assert_int_equal(fetch_all_of(group).partitions, 7);
}

static void test_a_directory_of_kafka(const char *name, bool newer)
{
	put_recording(name);
	open_broker();
	start();
	assert_int_equal(coordinator_partitions(co), 4);
	for (int round = 0; round < 2; round++) {
		expect_readers("readers-classic");
		struct described d = describe_group("readers-classic");
		assert_string_equal(d.state, "Empty");
		assert_string_equal(d.type, "consumer");
		assert_int_equal(offset_of("copiers", "spread", 0), 5); /* in a transaction, committed */
		if (newer) {
			expect_readers("readers-consumer");
			assert_string_equal(describe_group("readers-consumer").type, "consumer");
		}
		restart();
	}
	char one[128];
	int32_t g;
	assert_int_equal(consumer_of_t("readers-classic", one), 3);
	assert_int_equal(commit_as("readers-classic", one, NULL, 3, "spread", 1, 4, "", -1), 0);
	if (newer) { /* becomes one of ours; what Kafka knew of it otherwise is ended */
		g = consumer_of_t("readers-consumer", one);
		assert_int_equal(g, 3);
		assert_int_equal(leave_group("readers-consumer", one, NULL), 0);
		assert_int_equal(delete_group("readers-consumer"), 0);
	}
	restart();
	assert_int_equal(offset_of("readers-classic", "spread", 1), 4);
	assert_int_equal(offset_of("readers-classic", "spread", 2), 20);
	expect_state("readers-classic", "Stable");
	if (newer)
		assert_string_equal(describe_group("readers-consumer").state, "Dead");
	assert_int_equal(commit("ours", "spread", 0, 3), 0);
	char two[128], three[128];
	g = consumer_of_t("left", two);
	assert_int_equal(commit_as("left", two, NULL, g, "spread", 2, 9, "left", -1), 0);
	assert_int_equal(leave_group("left", two, NULL), 0);
	assert_int_equal(delete_group("copiers"), 0);
	consumer_of_t("waiting", three);
	stop();
	close_broker();
	keep(name);
}

static int recording_setup(void **state)
{
	setup(state);
	heap = timer_heap_new();
	clock_ns = INT64_C(1000000000000);
	set_conf("log.flush.acks.all=never");
	return 0;
}

static void test_kafka_3_9(void **state)
{
	(void)state;
	test_a_directory_of_kafka("kafka-3.9", false);
}

static void test_kafka_4_1(void **state)
{
	(void)state;
	test_a_directory_of_kafka("kafka-4.1", true);
}

/* ---- transactions, as Kafka's producers commit in them ---- */

static void append_set(struct partition *p, struct record_set *set)
{
	struct wait w;
	wait_init(&w);
	w.a.set = set;
	w.a.acks = ACKS_LEADER;
	w.a.in_transaction = true;
	w.a.done = appended;
	partition_append(p, &w.a);
	assert_int_equal(finish_append(&w), 0);
	wait_release(&w);
	record_set_clear(set);
}

static void append_txn_commit(struct partition *p, int64_t producer, int32_t sequence, const char *group, int32_t partition, int64_t offset)
{
	struct records r;
	struct record_set set;
	struct offset_entry o = {.partition = partition, .leader_epoch = -1, .offset = offset, .commit_ms = wall_now_ms(), .expire_ms = -1};
	records_init(&r);
	record_set_init(&set);
	records_offset(&r, str(group), str("t"), &o);
	struct batch_style style = {.max_batch_bytes = 1 << 20, .producer_id = producer, .producer_epoch = 0, .base_sequence = sequence};
	struct record_in in = {.key = r.out.bytes.data, .key_len = (int32_t)r.at[0].value, .value = r.out.bytes.data + r.at[0].value, .value_len = (int32_t)(r.at[0].end - r.at[0].value),
			       .timestamp_ms = wall_now_ms()};
	assert_int_equal(record_set_add_records(&set, &style, BATCH_TRANSACTIONAL, &in, 1, &err), 0);
	append_set(p, &set);
	record_set_release(&set);
	records_release(&r);
}

static void append_marker(struct partition *p, int64_t producer, bool committed)
{
	struct record_set set;
	record_set_init(&set);
	assert_int_equal(record_set_add_marker(&set, producer, 0, committed, 0, wall_now_ms(), &err), 0);
	append_set(p, &set);
	record_set_release(&set);
}

static void test_transactions(void **state)
{
	(void)state;
	commit("g", "t", 0, 1);
	commit("g", "t", 1, 1);
	commit("g", "t", 5, 1);
	stop();
	struct partition *p = use("__consumer_offsets", java_hash(str("g")) % 3);
	append_txn_commit(p, 900, 0, "g", 0, 10);
	append_txn_commit(p, 901, 0, "g", 1, 20);
	append_txn_commit(p, 900, 1, "g", 2, 30);
	append_txn_commit(p, 902, 0, "g", 3, 40); /* nobody ends it */
	append_txn_commit(p, 903, 0, "g", 5, 50);
	append_marker(p, 900, true);
	append_marker(p, 901, false);
	done_with(p);
	start();
	assert_int_equal(commit("g", "t", 5, 60), 0); /* later than what the transaction says, whose end comes later still */
	stop();
	p = use("__consumer_offsets", java_hash(str("g")) % 3);
	append_marker(p, 903, true);
	done_with(p);
	start();
	for (int round = 0; round < 2; round++) {
		assert_int_equal(offset_of("g", "t", 0), 10);
		assert_int_equal(offset_of("g", "t", 1), 1);
		assert_int_equal(offset_of("g", "t", 2), 30);
		assert_int_equal(offset_of("g", "t", 3), -1);
		assert_int_equal(offset_of("g", "t", 5), 60);
		restart();
	}
}

/* ---- damage ---- */

static void test_damage_in_the_middle(void **state)
{
	(void)state;
	diag_set_level(DIAG_ERROR - 1);
	for (int i = 0; i < 50; i++)
		commit("g", "t", 0, i);
	int32_t n = java_hash(str("g")) % 3;
	char text[300];
	stop();
	close_broker();
	snprintf(text, sizeof text, "%s/__consumer_offsets-%d/00000000000000000000.log", data, (int)n);
	int fd = open(text, O_RDWR);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, "\xff\xff", 2, 800), 2);
	close(fd);
	open_broker();
	start();
	assert_int_equal(commit("g", "t", 0, 1), KAFKA_NOT_COORDINATOR);
	pass(11000);
	assert_int_equal(commit("g", "t", 0, 1), KAFKA_NOT_COORDINATOR);
	fd = open(text, O_RDWR); /* and what else is there is answered for */
	close(fd);
	char id[16];
	for (int i = 0; i < 100; i++) {
		snprintf(id, sizeof id, "h%d", i);
		if (java_hash(str(id)) % 3 != n)
			break;
	}
	assert_int_equal(commit(id, "t", 0, 1), 0);
	diag_set_level(DIAG_ERROR);
}

int main(void)
{
#define ONE(f) cmocka_unit_test_setup_teardown(f, group_setup, group_teardown)
#define RECORDED(f) cmocka_unit_test_setup_teardown(f, recording_setup, group_teardown)
	const struct CMUnitTest tests[] = {
		ONE(test_simple_consumer),
		ONE(test_commits_are_fenced),
		ONE(test_who_commits_is_alive),
		ONE(test_many_at_once),
		ONE(test_topic_ids),
		ONE(test_full_disk),
		ONE(test_offset_delete),
		ONE(test_delete_group),
		ONE(test_topic_is_deleted),
		ONE(test_expiry),
		ONE(test_expiry_comes_by_itself),
		ONE(test_members_are_there_after_a_restart),
		ONE(test_group_that_has_become_too_large),
		ONE(test_crash),
		ONE(test_other_codec),
		cmocka_unit_test_teardown(test_compaction, group_teardown),
		ONE(test_records),
		ONE(test_one_of_everything),
		ONE(test_older_values),
		RECORDED(test_the_same_bytes_as_kafka),
		RECORDED(test_kafka_3_9),
		RECORDED(test_kafka_4_1),
		ONE(test_transactions),
		ONE(test_damage_in_the_middle),
	};
	return cmocka_run_group_tests_name("group_offsets", tests, NULL, NULL);
}
