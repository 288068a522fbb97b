/*
 * group_fixture: a coordinator on a broker of its own, with a clock that only the test moves, and every request as one line. Included by the tests of groups; everything is
 * static. log.flush.acks.all=never, so that what is written is answered at once.
 */
#ifndef TESTS_UNIT_GROUP_FIXTURE_H
#define TESTS_UNIT_GROUP_FIXTURE_H

#include "cluster/group/group_records.h"

#include "tests/unit/broker_fixture.h"

static struct coordinator *co;
static struct timer_heap *heap;
static int64_t clock_ns, wall_ahead_ms;
static bool over; /* the test has returned: answers to what it left parked have no place to go */

static mono_t test_now(void *arg)
{
	(void)arg;
	return (mono_t){clock_ns};
}

static UNUSED void wall_forward(int64_t ms)
{
	clock_shift_wall(wall_ahead_ms += ms);
}

/* Time passes, in steps that no deadline of the tests is finer than. */
static UNUSED void pass(int64_t ms)
{
	for (; ms > 0; ms -= 50) {
		clock_ns += 50 * 1000000;
		wall_forward(50);
		timer_run_due(heap, (mono_t){clock_ns});
	}
}

static struct gstr str(const char *s)
{
	return s ? (struct gstr){s, (int32_t)strlen(s)} : (struct gstr){NULL, 0};
}

static void copy(char *to, size_t n, struct gstr s)
{
	assert_true(s.n < (int32_t)n);
	if (s.n)
		memcpy(to, s.p, (size_t)s.n);
	to[s.n] = '\0';
}

/* ---- life ---- */

static void start(void)
{
	struct coordinator_options o = {.broker = b, .timers = heap, .now = test_now};
	assert_int_equal(coordinator_new(&co, &o, &err), 0);
	coordinator_start(co);
	coordinator_wait_loaded(co);
}

static UNUSED void stop(void)
{
	coordinator_stop(co);
	coordinator_free(co);
	co = NULL;
}

static void begin(void)
{
	heap = timer_heap_new();
	clock_ns = INT64_C(1000000000000);
	set_conf("log.flush.acks.all=never");
	set_conf("offsets.topic.num.partitions=3");
	open_broker();
	start();
	if (coordinator_need_topic(co, &err) < 0)
		fail_msg("%s", err.text);
}

static UNUSED int group_setup(void **state)
{
	setup(state);
	begin();
	return 0;
}

static UNUSED int group_teardown(void **state)
{
	over = true;
	if (co)
		stop();
	over = false;
	if (b) /* before the hook changes, which nobody may do while there is I/O */
		broker_close(b, NULL);
	b = NULL;
	teardown(state);
	timer_heap_free(heap);
	heap = NULL;
	return 0;
}

/* The broker and all that is in memory goes and comes again. */
static UNUSED void restart(void)
{
	stop();
	close_broker();
	open_broker();
	start();
}

/* ---- JoinGroup ---- */

struct joined {
	int calls;
	int16_t error;
	int32_t generation;
	bool skip, has_type, has_name;
	char type[64], name[64], leader[128], member[128];
	size_t members;
	char id[8][128], instance[8][64], metadata[8][64];
};

static void on_joined(void *arg, const struct group_join_answer *a)
{
	struct joined *j = arg;
	if (over)
		return;
	j->calls++;
	j->error = a->error;
	j->generation = a->generation_id;
	j->skip = a->skip_assignment;
	j->has_type = a->protocol_type.p;
	j->has_name = a->protocol_name.p;
	copy(j->type, sizeof j->type, a->protocol_type);
	copy(j->name, sizeof j->name, a->protocol_name);
	copy(j->leader, sizeof j->leader, a->leader);
	copy(j->member, sizeof j->member, a->member_id);
	j->members = a->member_count;
	for (size_t i = 0; i < a->member_count && i < 8; i++) {
		copy(j->id[i], sizeof j->id[i], a->members[i].member_id);
		copy(j->instance[i], sizeof j->instance[i], a->members[i].instance_id);
		copy(j->metadata[i], sizeof j->metadata[i], a->members[i].metadata);
	}
}

struct asks { /* how a JoinGroup is; zeros: as a consumer of today */
	const char *member, *instance, *type, *protocols; /* protocols: "range=meta,sticky=meta" */
	int32_t session_ms, rebalance_ms;
	bool old, cannot_skip; /* before version 4, before version 9 */
};

static void ask_join(struct joined *j, const char *group, struct asks a)
{
	struct group_protocol p[8];
	size_t n = 0;
	char text[256], *at;
	snprintf(text, sizeof text, "%s", a.protocols ? a.protocols : "range=m");
	for (char *one = strtok_r(text, ",", &at); one; one = strtok_r(NULL, ",", &at)) {
		char *eq = strchr(one, '=');
		*eq = '\0';
		p[n++] = (struct group_protocol){str(one), str(eq + 1)};
	}
	struct group_join_request q = {
		.group_id = str(group), .member_id = str(a.member ? a.member : ""), .instance_id = str(a.instance), .protocol_type = str(a.type ? a.type : "test"),
		.client_id = str("client"), .client_host = str("/127.0.0.1"), .protocols = p, .protocol_count = n, .session_timeout_ms = a.session_ms ? a.session_ms : 10000,
		.rebalance_timeout_ms = a.rebalance_ms ? a.rebalance_ms : 60000, .member_id_required = !a.old && !a.instance && !a.member, .skip_assignment = !a.cannot_skip,
	};
	*j = (struct joined){.error = -99};
	group_join(co, &q, on_joined, j);
}
#define ASK(j, group, ...) ask_join((j), (group), (struct asks){__VA_ARGS__})

/* ---- SyncGroup ---- */

struct synced { int calls; int16_t error; char type[64], name[64], assignment[64]; };

static void on_synced(void *arg, const struct group_sync_answer *a)
{
	struct synced *s = arg;
	if (over)
		return;
	s->calls++;
	s->error = a->error;
	assert_non_null(a->assignment.p);
	copy(s->type, sizeof s->type, a->protocol_type);
	copy(s->name, sizeof s->name, a->protocol_name);
	copy(s->assignment, sizeof s->assignment, a->assignment);
}

/* to: members that get "<prefix><n>", n from 0; ended by NULL. */
static void ask_sync(struct synced *s, const char *group, const char *member, const char *instance, int32_t generation, const char *const *to, const char *prefix)
{
	struct group_assignment a[8];
	char text[8][32];
	size_t n = 0;
	for (; to && to[n]; n++) {
		snprintf(text[n], sizeof text[n], "%s%zu", prefix, n);
		a[n] = (struct group_assignment){str(to[n]), str(text[n])};
	}
	struct group_sync_request q = {.group_id = str(group), .member_id = str(member), .instance_id = str(instance), .generation_id = generation, .assignments = a, .assignment_count = n};
	*s = (struct synced){.error = -99};
	group_sync(co, &q, on_synced, s);
}
#define TO(...) ((const char *const[]){__VA_ARGS__, NULL})

static UNUSED int16_t beat(const char *group, const char *member, const char *instance, int32_t generation)
{
	return group_heartbeat(co, &(struct group_heartbeat_request){str(group), str(member), str(instance), generation});
}

static UNUSED int16_t leave_group(const char *group, const char *member, const char *instance)
{
	struct group_leaving l = {.member_id = str(member), .instance_id = str(instance)};
	int16_t whole = group_leave(co, str(group), &l, 1);
	return whole ? whole : l.error;
}

/* ---- what is usual ---- */

/* A dynamic member is given its id, and asks with it. */
static UNUSED void join_with_id(struct joined *j, const char *group, struct asks a)
{
	ask_join(j, group, a);
	assert_int_equal(j->calls, 1);
	assert_int_equal(j->error, KAFKA_MEMBER_ID_REQUIRED);
	char id[128];
	strcpy(id, j->member);
	a.member = id;
	ask_join(j, group, a);
}

/* A stable group of one. Its id is left in *id, the generation is returned. */
static UNUSED int32_t group_of_one(const char *group, char id[128], struct asks a)
{
	struct joined j;
	struct synced s;
	join_with_id(&j, group, a);
	pass(3000);
	assert_int_equal(j.calls, 1);
	assert_int_equal(j.error, 0);
	ask_sync(&s, group, j.member, NULL, j.generation, TO(j.member), "mine");
	assert_int_equal(s.calls, 1);
	assert_int_equal(s.error, 0);
	strcpy(id, j.member);
	return j.generation;
}

/* A stable group of two; the first leads. */
static UNUSED int32_t group_of_two(const char *group, char one[128], char two[128], struct asks a)
{
	struct joined j, k;
	struct synced s, f;
	join_with_id(&j, group, a);
	join_with_id(&k, group, a);
	pass(6000);
	assert_int_equal(j.calls + k.calls, 2);
	assert_int_equal(j.error, 0);
	assert_int_equal(k.error, 0);
	ask_sync(&f, group, k.member, NULL, k.generation, NULL, NULL);
	assert_int_equal(f.calls, 0);
	ask_sync(&s, group, j.member, NULL, j.generation, TO(j.member, k.member), "part");
	assert_string_equal(s.assignment, "part0");
	assert_string_equal(f.assignment, "part1");
	strcpy(one, j.member);
	strcpy(two, k.member);
	return j.generation;
}

/* ---- DescribeGroups ---- */

struct described { int16_t error; char state[32], type[64], protocol[64]; size_t members; char id[8][128], instance[8][64], metadata[8][64], assignment[8][64]; };

static void on_described(void *arg, const struct group_description *d)
{
	struct described *x = arg;
	x->error = d->error;
	strcpy(x->state, d->state);
	copy(x->type, sizeof x->type, d->protocol_type);
	copy(x->protocol, sizeof x->protocol, d->protocol);
	x->members = d->member_count;
	for (size_t i = 0; i < d->member_count && i < 8; i++) {
		copy(x->id[i], sizeof x->id[i], d->members[i].member_id);
		copy(x->instance[i], sizeof x->instance[i], d->members[i].instance_id);
		copy(x->metadata[i], sizeof x->metadata[i], d->members[i].metadata);
		copy(x->assignment[i], sizeof x->assignment[i], d->members[i].assignment);
	}
}

static UNUSED struct described describe_group(const char *group)
{
	struct described x = {0};
	group_describe(co, str(group), on_described, &x);
	return x;
}

static UNUSED void expect_state(const char *group, const char *state)
{
	struct described d = describe_group(group);
	assert_string_equal(d.state, state);
}

/* ---- offsets ---- */

struct told { int calls; int16_t error; };

static UNUSED void on_told(void *arg, int16_t error)
{
	struct told *o = arg;
	o->calls++;
	o->error = error;
}

static UNUSED int16_t commit_as(const char *group, const char *member, const char *instance, int32_t generation, const char *topic, int32_t partition, int64_t offset,
				const char *metadata, int64_t retention_ms)
{
	struct told o = {0};
	struct group_commit_partition p = {.partition = partition, .leader_epoch = 3, .offset = offset, .metadata = str(metadata), .error = -99};
	struct group_commit_topic t = {.name = str(topic), .partitions = &p, .partition_count = 1};
	struct group_commit_request q = {.group_id = str(group), .member_id = str(member), .instance_id = str(instance), .generation_id = generation, .retention_ms = retention_ms,
					 .topics = &t, .topic_count = 1};
	group_commit(co, &q, on_told, &o);
	assert_int_equal(o.calls, 1);
	if (o.error)
		assert_int_equal(p.error, o.error);
	return p.error;
}

static UNUSED int16_t commit(const char *group, const char *topic, int32_t partition, int64_t offset)
{
	return commit_as(group, "", NULL, -1, topic, partition, offset, "noted", -1);
}

struct fetched_one { int calls; int16_t error; int64_t offset; int32_t epoch; char metadata[64]; size_t topics, partitions; };

static UNUSED void on_fetched(void *arg, const struct group_fetch_answer *a)
{
	struct fetched_one *f = arg;
	f->calls++;
	f->error = a->error;
	f->topics = a->topic_count;
	for (size_t i = 0; i < a->topic_count; i++)
		f->partitions += a->topics[i].partition_count;
	if (f->partitions == 0)
		return;
	const struct group_fetch_partition *p = a->topics[0].partitions;
	f->offset = p->offset;
	f->epoch = p->leader_epoch;
	copy(f->metadata, sizeof f->metadata, p->metadata);
}

static UNUSED struct fetched_one fetch_one(const char *group, const char *topic, int32_t partition)
{
	struct fetched_one f = {0};
	struct group_fetch_partition p = {.partition = partition};
	struct group_fetch_topic t = {.name = str(topic), .partitions = &p, .partition_count = 1};
	struct group_fetch_request q = {.group_id = str(group), .topics = &t, .topic_count = 1};
	group_fetch(co, &q, on_fetched, &f);
	assert_int_equal(f.calls, 1);
	return f;
}

static UNUSED int64_t offset_of(const char *group, const char *topic, int32_t partition)
{
	struct fetched_one f = fetch_one(group, topic, partition);
	assert_int_equal(f.error, 0);
	return f.offset;
}

static UNUSED struct fetched_one fetch_all_of(const char *group)
{
	struct fetched_one f = {0};
	struct group_fetch_request q = {.group_id = str(group), .all = true};
	group_fetch(co, &q, on_fetched, &f);
	assert_int_equal(f.calls, 1);
	return f;
}

static UNUSED int16_t delete_group(const char *group)
{
	struct told o = {0};
	group_delete(co, str(group), on_told, &o);
	assert_int_equal(o.calls, 1);
	return o.error;
}

/* ---- a disk that is full ---- */

static UNUSED ssize_t no_space(void *arg, enum io_call call, const char *name, int fd, size_t bytes)
{
	(void)arg, (void)name, (void)fd, (void)bytes;
	return call == IO_WRITE ? -ENOSPC : 0;
}

#endif
