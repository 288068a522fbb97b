#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cluster/api/fetch_sessions.h"
#include "cluster/wire/errors.h"

/* Incremental Fetch, as a client sees it: what is wanted, what is told again and what is not. */

static struct sessions *all;
static struct arena arena;
static int64_t now;

static int setup(void **state)
{
	(void)state;
	all = sessions_new(3);
	assert_non_null(all);
	arena_init(&arena, 0);
	now = 1000;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	sessions_free(all);
	arena_release(&arena);
	return 0;
}

static void *get(void *arg, size_t n)
{
	(void)arg;
	void *p = arena_get(&arena, n, NULL);
	return p ? memset(p, 0, n) : NULL;
}

static struct partition *find(void *arg, struct wire_string topic, const struct wire_uuid *id, int32_t partition, int16_t *error)
{
	(void)arg, (void)topic, (void)id, (void)partition;
	*error = KAFKA_UNKNOWN_TOPIC_ID;
	return NULL;
}

/* A request for partitions of one topic. */
struct ask { struct fetch_request r; struct fetch_request_topic topic; struct fetch_request_partition p[8]; struct fetch_request_forgotten_topic forgotten; int32_t gone[8]; };

static struct fetch_request *ask(struct ask *a, int32_t id, int32_t epoch, const char *topic, int n, const int32_t *partitions, int64_t offset)
{
	wire_init(&wire_fetch_request, &a->r);
	wire_init(&wire_fetch_request_topic, &a->topic);
	a->r.session_id = id;
	a->r.session_epoch = epoch;
	a->topic.topic = wire_string(topic);
	for (int i = 0; i < n; i++) {
		wire_init(&wire_fetch_request_partition, &a->p[i]);
		a->p[i].partition = partitions[i];
		a->p[i].fetch_offset = offset;
		a->p[i].partition_max_bytes = 1000;
	}
	a->topic.partitions.v = a->p;
	a->topic.partitions.n = n;
	a->r.topics.v = &a->topic;
	a->r.topics.n = n ? 1 : 0;
	return &a->r;
}

static void forget(struct ask *a, const char *topic, int32_t partition)
{
	wire_init(&wire_fetch_request_forgotten_topic, &a->forgotten);
	a->forgotten.topic = wire_string(topic);
	a->gone[0] = partition;
	a->forgotten.partitions.v = a->gone;
	a->forgotten.partitions.n = 1;
	a->r.forgotten_topics_data.v = &a->forgotten;
	a->r.forgotten_topics_data.n = 1;
}

static void begin(struct session_fetch *f, const struct fetch_request *r, int16_t version, int16_t expected)
{
	assert_int_equal(session_begin(all, f, r, version, now, &(struct session_user){.get = get, .find = find}), expected);
}

static struct fetch_response_partition told(int64_t high_watermark, int32_t bytes)
{
	struct fetch_response_partition a;
	wire_init(&wire_fetch_response_partition, &a);
	a.high_watermark = high_watermark;
	a.log_start_offset = 0;
	a.records.n = bytes;
	return a;
}

/* Answers every partition alike; returns how many the answer names. */
static int answer(struct session_fetch *f, int64_t high_watermark, int32_t bytes)
{
	int named = 0;
	for (int32_t i = 0; i < f->count; i++) {
		struct fetch_response_partition a = told(high_watermark, bytes);
		named += session_has_news(f, &f->wanted[i], &a);
	}
	session_note(all, f);
	session_end(all, f->session);
	return named;
}

static const int32_t three[] = {0, 1, 2};

static void test_only_news_is_told(void **state)
{
	(void)state;
	struct ask a;
	struct session_fetch f;
	begin(&f, ask(&a, 0, 0, "t", 3, three, 5), 12, KAFKA_NONE);
	assert_true(f.id > 0 && !f.incremental);
	int32_t id = f.id;
	assert_int_equal(answer(&f, 5, 0), 3); /* a full one names all */
	begin(&f, ask(&a, id, 1, "t", 0, NULL, 0), 12, KAFKA_NONE);
	assert_int_equal(f.count, 3);
	assert_int_equal(f.wanted[2].offset, 5);
	assert_int_equal(answer(&f, 5, 0), 0);
	begin(&f, ask(&a, id, 2, "t", 0, NULL, 0), 12, KAFKA_NONE);
	assert_int_equal(answer(&f, 6, 0), 3); /* the high watermark has moved */
	begin(&f, ask(&a, id, 3, "t", 1, three + 1, 9), 12, KAFKA_NONE); /* one has moved on */
	assert_int_equal(f.count, 3);
	for (int32_t i = 0; i < 3; i++)
		assert_int_equal(f.wanted[i].offset, f.wanted[i].partition == 1 ? 9 : 5);
	struct fetch_response_partition bad = told(6, 0);
	bad.error_code = KAFKA_NOT_LEADER_OR_FOLLOWER;
	bad.high_watermark = -1;
	assert_true(session_has_news(&f, &f.wanted[0], &bad));
	struct fetch_response_partition good = told(6, 0);
	assert_false(session_has_news(&f, &f.wanted[1], &good));
	session_note(all, &f);
	session_end(all, f.session);
	begin(&f, ask(&a, id, 4, "t", 0, NULL, 0), 12, KAFKA_NONE);
	assert_int_equal(answer(&f, 6, 0), 1); /* after an error it is told again */
}

static void test_turns(void **state)
{
	(void)state;
	struct ask a;
	struct session_fetch f;
	begin(&f, ask(&a, 0, 0, "t", 3, three, 0), 12, KAFKA_NONE);
	int32_t id = f.id, first = f.wanted[0].partition;
	struct fetch_response_partition full = told(9, 100), none = told(9, 0);
	session_has_news(&f, &f.wanted[0], &full);
	session_has_news(&f, &f.wanted[1], &none);
	session_has_news(&f, &f.wanted[2], &none);
	session_note(all, &f);
	session_end(all, f.session);
	begin(&f, ask(&a, id, 1, "t", 0, NULL, 0), 12, KAFKA_NONE);
	assert_int_equal(f.wanted[2].partition, first); /* it had its turn */
	answer(&f, 9, 0);
}

static void test_forgotten_and_added(void **state)
{
	(void)state;
	struct ask a;
	struct session_fetch f, other;
	static const int32_t seven = 7;
	begin(&f, ask(&a, 0, 0, "t", 3, three, 0), 12, KAFKA_NONE);
	int32_t id = f.id;
	answer(&f, 1, 0);
	begin(&f, ask(&a, id, 1, "t", 1, &seven, 3), 12, KAFKA_NONE);
	assert_int_equal(f.count, 4);
	/* while that is under way, against all rules, the next one takes some away: the names stay good until the end */
	forget(&a, "t", 1);
	ask(&a, id, 2, "t", 0, NULL, 0);
	forget(&a, "t", 1);
	begin(&other, &a.r, 12, KAFKA_NONE);
	assert_int_equal(other.count, 3);
	for (int32_t i = 0; i < f.count; i++)
		assert_true(wire_string_is(f.wanted[i].topic, "t"));
	answer(&f, 1, 0);
	answer(&other, 1, 0);
	begin(&f, ask(&a, id, 3, "t", 0, NULL, 0), 12, KAFKA_NONE);
	assert_int_equal(f.count, 3);
	answer(&f, 1, 0);
}

static void test_errors(void **state)
{
	(void)state;
	struct ask a;
	struct session_fetch f;
	begin(&f, ask(&a, 77, 1, "t", 0, NULL, 0), 12, KAFKA_FETCH_SESSION_ID_NOT_FOUND);
	begin(&f, ask(&a, 0, 0, "t", 1, three, 0), 12, KAFKA_NONE);
	int32_t id = f.id;
	answer(&f, 1, 0);
	begin(&f, ask(&a, id, 2, "t", 0, NULL, 0), 12, KAFKA_INVALID_FETCH_SESSION_EPOCH);
	begin(&f, ask(&a, id, 1, "t", 0, NULL, 0), 13, KAFKA_FETCH_SESSION_TOPIC_ID_ERROR);
	begin(&f, ask(&a, id, 1, "t", 0, NULL, 0), 12, KAFKA_NONE);
	answer(&f, 1, 0);
	begin(&f, ask(&a, id, -1, "t", 1, three, 0), 12, KAFKA_NONE); /* the last one */
	assert_int_equal(f.id, 0);
	assert_int_equal(f.count, 1);
	assert_int_equal(answer(&f, 1, 0), 1);
	begin(&f, ask(&a, id, 2, "t", 0, NULL, 0), 12, KAFKA_FETCH_SESSION_ID_NOT_FOUND);
	begin(&f, ask(&a, 0, -1, "t", 2, three, 0), 4, KAFKA_NONE); /* one that knows of no sessions */
	assert_int_equal(f.id, 0);
	answer(&f, 1, 0);
}

static void test_slots(void **state)
{
	(void)state;
	struct ask a;
	struct session_fetch f;
	int32_t id[3];
	for (int i = 0; i < 3; i++) {
		begin(&f, ask(&a, 0, 0, "t", 1, three, 0), 12, KAFKA_NONE);
		id[i] = f.id;
		answer(&f, 1, 0);
		now++;
	}
	begin(&f, ask(&a, 0, 0, "t", 1, three, 0), 12, KAFKA_NONE);
	assert_int_equal(f.id, 0); /* none is old enough to go */
	answer(&f, 1, 0);
	now += 119999;
	begin(&f, ask(&a, id[0], 1, "t", 0, NULL, 0), 12, KAFKA_NONE);
	answer(&f, 1, 0);
	now += 2;
	begin(&f, ask(&a, 0, 0, "t", 1, three, 0), 12, KAFKA_NONE);
	assert_true(f.id > 0);
	answer(&f, 1, 0);
	begin(&f, ask(&a, id[1], 1, "t", 0, NULL, 0), 12, KAFKA_FETCH_SESSION_ID_NOT_FOUND);
	begin(&f, ask(&a, id[0], 2, "t", 0, NULL, 0), 12, KAFKA_NONE);
	answer(&f, 1, 0);
}

static void test_names_and_ids(void **state)
{
	(void)state;
	struct ask a;
	struct session_fetch f;
	begin(&f, ask(&a, 0, 0, "a", 2, three, 1), 12, KAFKA_NONE);
	int32_t id = f.id;
	answer(&f, 1, 0);
	begin(&f, ask(&a, id, 1, "b", 2, three, 2), 12, KAFKA_NONE);
	assert_int_equal(f.count, 4);
	answer(&f, 1, 0);
	ask(&a, 0, 0, "", 2, three, 1);
	memset(a.topic.topic_id.b, 3, 16);
	begin(&f, &a.r, 13, KAFKA_NONE);
	id = f.id;
	assert_int_equal(f.wanted[1].topic_id.b[15], 3);
	answer(&f, 1, 0);
	ask(&a, id, 1, "", 1, three, 8);
	memset(a.topic.topic_id.b, 3, 16);
	begin(&f, &a.r, 13, KAFKA_NONE);
	assert_int_equal(f.count, 2);
	assert_int_equal(f.wanted[0].offset, 8);
	answer(&f, 1, 0);
}

/* ---- replicas ---- */

static void begin_replica(struct session_fetch *f, struct ask *a, int32_t id, int32_t epoch, int n)
{
	ask(a, id, epoch, "", n, three, 4);
	memset(a->topic.topic_id.b, 3, 16);
	a->r.replica_state.replica_id = 2;
	begin(f, &a->r, 17, KAFKA_NONE);
}

static void test_replicas_come_first(void **state)
{
	(void)state;
	struct ask a;
	struct session_fetch f;
	int32_t client[3], replica[3];
	for (int i = 0; i < 3; i++, now++) {
		begin(&f, ask(&a, 0, 0, "t", 1, three, 0), 12, KAFKA_NONE);
		client[i] = f.id;
		answer(&f, 1, 0);
	}
	for (int i = 0; i < 3; i++, now++) { /* the one that was not used for longest makes room, though that is not long ago */
		begin_replica(&f, &a, 0, 0, 3);
		replica[i] = f.id;
		assert_true(f.id > 0 && f.due_only);
		assert_int_equal(answer(&f, 1, 0), 3);
		begin(&f, ask(&a, client[i], 1, "t", 0, NULL, 0), 12, KAFKA_FETCH_SESSION_ID_NOT_FOUND);
	}
	begin_replica(&f, &a, 0, 0, 3); /* another replica's does not */
	assert_int_equal(f.id, 0);
	answer(&f, 1, 0);
	now += 100000;
	begin(&f, ask(&a, 0, 0, "t", 1, three, 0), 12, KAFKA_NONE); /* and a client's never */
	assert_int_equal(f.id, 0);
	answer(&f, 1, 0);
	begin(&f, ask(&a, replica[0], 1, "t", 0, NULL, 0), 13, KAFKA_FETCH_SESSION_ID_NOT_FOUND); /* nor is a replica's for a client */
	for (int i = 0; i < 3; i++) {
		begin_replica(&f, &a, replica[i], 1, 0);
		answer(&f, 1, 0);
	}
}

static void test_replicas_are_due(void **state)
{
	(void)state;
	struct ask a;
	struct session_fetch f;
	begin_replica(&f, &a, 0, 0, 3);
	int32_t id = f.id;
	assert_int_equal(f.count, 3);
	assert_int_equal(f.wanted[2].error, KAFKA_UNKNOWN_TOPIC_ID);
	f.wanted[1].stays_due = true;
	answer(&f, 1, 0);
	begin_replica(&f, &a, id, 1, 0);
	assert_int_equal(f.count, 1);
	assert_int_equal(f.wanted[0].partition, 1);
	answer(&f, 1, 0);
	begin_replica(&f, &a, id, 2, 0);
	assert_int_equal(f.count, 0);
	assert_int_equal(session_more(all, &f), 0);
	assert_int_equal(f.count, 0);
	answer(&f, 1, 0);
	begin_replica(&f, &a, id, 3, 2); /* what is named is due */
	assert_int_equal(f.count, 2);
	assert_int_equal(answer(&f, 1, 0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(test_only_news_is_told),
		T(test_turns),
		T(test_forgotten_and_added),
		T(test_errors),
		T(test_slots),
		T(test_names_and_ids),
		T(test_replicas_come_first),
		T(test_replicas_are_due),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
