#include "tests/unit/group_fixture.h"

/* Many members at random, against a model that knows what must hold; and many threads at once. */

/* ---- random ---- */

enum { MEMBERS = 24, GROUPS = 3, STEPS = 6000, PARTITIONS = 5 };

struct generation { char leader[128]; char given[8][2][160]; size_t count; bool assigned; };

struct actor { /* a client that does as a consumer does, and now and then does not */
	int index, group;
	bool is_static, in, joining, syncing, waits_sync;
	char id[128], instance[16];
	int32_t generation;
	bool leads;
	size_t members;
	char ids[MEMBERS][128];
	int requests, answers;
};

static struct actor actor[MEMBERS];
static int assigned, fenced, commits; /* that there was something to look at */
static int64_t committed_offset[GROUPS][PARTITIONS];
static int32_t newest_generation[GROUPS];
static char leader_of[GROUPS][20000][40]; /* of each generation: the one that was told so */
static const char *const group_name[GROUPS] = {"alpha", "beta", "gamma"};

static unsigned rnd(unsigned n)
{
	return (unsigned)below(n);
}

static void forget(struct actor *a)
{
	a->in = a->joining = a->syncing = false;
	if (!a->is_static)
		a->id[0] = '\0';
	a->generation = -1;
}

static void random_joined(void *arg, const struct group_join_answer *j)
{
	struct actor *a = arg;
	a->answers++;
	a->joining = false;
	if (j->error == KAFKA_MEMBER_ID_REQUIRED) {
		copy(a->id, sizeof a->id, j->member_id);
		return;
	}
	if (j->error) {
		assert_true(j->error == KAFKA_UNKNOWN_MEMBER_ID || j->error == KAFKA_REBALANCE_IN_PROGRESS || j->error == KAFKA_FENCED_INSTANCE_ID || j->error == KAFKA_NOT_COORDINATOR ||
			    j->error == KAFKA_COORDINATOR_NOT_AVAILABLE);
		a->in = false;
		if (j->error != KAFKA_REBALANCE_IN_PROGRESS)
			a->id[0] = '\0';
		return;
	}
	copy(a->id, sizeof a->id, j->member_id);
	a->in = true;
	a->generation = j->generation_id;
	a->leads = j->member_count > 0;
	a->syncing = true;
	if (a->generation > newest_generation[a->group])
		newest_generation[a->group] = a->generation;
	else /* generations rise: what is told now is the newest, or the same again */
		assert_int_equal(a->generation, newest_generation[a->group]);
	a->members = j->member_count;
	bool found = !a->leads;
	for (size_t i = 0; i < j->member_count; i++) {
		copy(a->ids[i], sizeof a->ids[i], j->members[i].member_id);
		found |= !strcmp(a->ids[i], a->id);
	}
	assert_true(found);
	if (a->leads) { /* one leader a generation; a static one may have a new id by now */
		char who[40], *was = leader_of[a->group][a->generation];
		snprintf(who, sizeof who, "%s", a->is_static ? a->instance : a->id + strlen(a->id) - 36);
		assert_true(!*was || !strcmp(was, who));
		strcpy(was, who);
	}
}

static void random_synced(void *arg, const struct group_sync_answer *s)
{
	struct actor *a = arg;
	char expected[64], got[160];
	a->answers++;
	a->waits_sync = false;
	if (s->error) {
		if (s->error == KAFKA_UNKNOWN_MEMBER_ID || s->error == KAFKA_FENCED_INSTANCE_ID || s->error == KAFKA_NOT_COORDINATOR)
			forget(a);
		else
			a->in = false; /* joins again */
		a->syncing = false;
		return;
	}
	copy(got, sizeof got, s->assignment);
	assigned += got[0] != '\0';
	if (got[0]) { /* exactly what the leader of this generation gave to it; nothing where it came in under a new id since */
		snprintf(expected, sizeof expected, "%s/%d/", group_name[a->group], (int)a->generation);
		assert_memory_equal(got, expected, strlen(expected));
		if (!a->is_static)
			assert_string_equal(got + strlen(expected), a->id);
		else
			assert_memory_equal(got + strlen(expected), a->instance, strlen(a->instance));
	}
}

static _Atomic bool disk_full;

static ssize_t sometimes_full(void *arg, enum io_call call, const char *name, int fd, size_t bytes)
{
	(void)arg, (void)name, (void)fd, (void)bytes;
	return call == IO_WRITE && disk_full ? -ENOSPC : 0;
}

static int random_setup(void **state)
{
	setup(state);
	disk_full = false;
	io_set_hook(sometimes_full, NULL);
	begin();
	return 0;
}

static void do_join(struct actor *a)
{
	struct group_protocol p[2] = {{str("range"), str(rnd(4) ? "m" : "other")}, {str("sticky"), str("s")}};
	struct group_join_request q = {
		.group_id = str(group_name[a->group]), .member_id = str(a->is_static && rnd(2) ? "" : a->id), .instance_id = str(a->is_static ? a->instance : NULL),
		.protocol_type = str("test"), .client_id = str("c"), .client_host = str("/h"), .protocols = p, .protocol_count = 1 + rnd(2),
		.session_timeout_ms = 6000 + (int32_t)rnd(8000), .rebalance_timeout_ms = 5000 + (int32_t)rnd(10000), .member_id_required = rnd(2), .skip_assignment = rnd(2),
	};
	a->joining = true;
	a->requests++;
	group_join(co, &q, random_joined, a);
}

static void do_sync(struct actor *a)
{
	struct group_assignment as[MEMBERS];
	char text[MEMBERS][200];
	size_t n = a->leads ? a->members : 0;
	for (size_t i = 0; i < n; i++) {
		snprintf(text[i], sizeof text[i], "%s/%d/%s", group_name[a->group], (int)a->generation, a->ids[i]);
		as[i] = (struct group_assignment){str(a->ids[i]), str(text[i])};
	}
	struct group_sync_request q = {.group_id = str(group_name[a->group]), .member_id = str(a->id), .instance_id = str(a->is_static ? a->instance : NULL),
				       .generation_id = a->generation, .assignments = as, .assignment_count = n};
	a->syncing = false;
	a->waits_sync = true;
	a->requests++;
	group_sync(co, &q, random_synced, a);
}

static void do_beat(struct actor *a)
{
	int16_t error = beat(group_name[a->group], a->id, a->is_static ? a->instance : NULL, a->generation);
	if (error == KAFKA_REBALANCE_IN_PROGRESS || error == KAFKA_ILLEGAL_GENERATION)
		a->in = false;
	else if (error)
		forget(a);
}

static void do_commit(struct actor *a)
{
	int32_t partition = (int32_t)rnd(PARTITIONS);
	int64_t offset = (int64_t)rnd(1000000);
	int16_t error = commit_as(group_name[a->group], a->id, a->is_static ? a->instance : NULL, a->generation, "t", partition, offset, "", -1);
	fenced += error != 0;
	commits += error == 0;
	if (!error) {
		if (!newest_generation[a->group])
			newest_generation[a->group] = a->generation; /* after a restart */
		assert_int_equal(a->generation, newest_generation[a->group]); /* an older one is fenced */
		committed_offset[a->group][partition] = offset;
	}
}

static void do_leave(struct actor *a)
{
	int16_t error = leave_group(group_name[a->group], a->id, a->is_static ? a->instance : NULL);
	assert_true(!error || error == KAFKA_UNKNOWN_MEMBER_ID || error == KAFKA_FENCED_INSTANCE_ID);
	if (!a->joining && !a->waits_sync)
		forget(a);
}

static void check_offsets(void)
{
	for (int g = 0; g < GROUPS; g++)
		for (int p = 0; p < PARTITIONS; p++)
			assert_int_equal(offset_of(group_name[g], "t", p), committed_offset[g][p]);
}

/* No two generations are active, and all that is assigned is of the newest. */
static void check_groups(void)
{
	for (int g = 0; g < GROUPS; g++) {
		char prefix[64];
		struct described d = describe_group(group_name[g]);
		if (strcmp(d.state, "Stable") || !newest_generation[g])
			continue;
		snprintf(prefix, sizeof prefix, "%s/%d/", group_name[g], (int)newest_generation[g]);
		for (size_t i = 0; i < d.members && i < 8; i++)
			if (d.assignment[i][0])
				assert_memory_equal(d.assignment[i], prefix, strlen(prefix));
	}
}

static void random_step(struct actor *a)
{
	unsigned what = rnd(100);
	if (a->joining || a->waits_sync)
		return; /* its connection waits for the answer */
	if (what < 3)
		return; /* slow */
	if (!a->in && a->id[0] && what < 20)
		do_commit(a); /* has not heard yet that there is a rebalance, or that it is out */
	else if (a->in && a->syncing)
		do_sync(a);
	else if (!a->in)
		do_join(a);
	else if (what < 60)
		do_beat(a);
	else if (what < 90)
		do_commit(a);
	else if (what < 93)
		do_leave(a);
	else if (what < 96)
		a->in = false; /* joins again for no reason */
	else if (what < 98)
		forget(a); /* killed, and started anew */
}

static void test_random(void **state)
{
	(void)state;
	diag_set_level(DIAG_ERROR - 1); /* the agent complains of the disk, too */
	memset(actor, 0, sizeof actor);
	memset(committed_offset, 0xff, sizeof committed_offset);
	memset(leader_of, 0, sizeof leader_of);
	memset(newest_generation, 0, sizeof newest_generation);
	for (int i = 0; i < MEMBERS; i++) {
		actor[i] = (struct actor){.index = i, .group = i % GROUPS, .is_static = i % 4 == 0, .generation = -1};
		snprintf(actor[i].instance, sizeof actor[i].instance, "inst-%02d", i);
	}
	for (int step = 0; step < STEPS; step++) {
		disk_full = rnd(40) == 0;
		random_step(&actor[rnd(MEMBERS)]);
		if (rnd(3) == 0)
			pass(50 * (1 + rnd(6)));
		disk_full = false;
		if (rnd(200) == 0)
			check_groups();
		if (rnd(1500) == 0) {
			check_offsets();
			restart();
			for (int g = 0; g < GROUPS; g++) /* the log knows the last generation that was assigned */
				newest_generation[g] = 0;
			memset(leader_of, 0, sizeof leader_of);
		}
	}
	check_offsets();
	check_groups();
	assert_true(assigned > 100 && fenced > 20 && commits > 200);
	pass(10 * 60000);
	for (int i = 0; i < MEMBERS; i++)
		assert_int_equal(actor[i].requests, actor[i].answers);
	restart();
	check_offsets();
	diag_set_level(DIAG_ERROR);
}

/* ---- while it is being written: the disk takes its time ---- */

static _Atomic bool sync_held;

static ssize_t hold_sync(void *arg, enum io_call call, const char *name, int fd, size_t bytes)
{
	(void)arg, (void)name, (void)fd, (void)bytes;
	while (call == IO_SYNC && sync_held)
		usleep(1000);
	return 0;
}

struct later { _Atomic int calls; _Atomic int16_t error; _Atomic int64_t offset; struct group_commit_partition p; struct group_commit_topic t; struct group_commit_request q; };

static void told_later(void *arg, int16_t error)
{
	struct later *l = arg;
	l->error = error;
	l->calls++;
}

static void fetched_later(void *arg, const struct group_fetch_answer *a)
{
	struct later *l = arg;
	l->offset = a->topic_count ? a->topics[0].partitions[0].offset : -2;
	l->error = a->error;
	l->calls++;
}

static void commit_later(struct later *l, int64_t offset)
{
	*l = (struct later){.p = {.partition = 0, .leader_epoch = -1, .offset = offset, .metadata = str("")}};
	l->t = (struct group_commit_topic){.name = str("t"), .partitions = &l->p, .partition_count = 1};
	l->q = (struct group_commit_request){.group_id = str("g"), .member_id = str(""), .generation_id = -1, .retention_ms = -1, .topics = &l->t, .topic_count = 1};
	group_commit(co, &l->q, told_later, l);
}

static void let_go(struct later *l)
{
	sync_held = false;
	for (int i = 0; i < 5000 && !l->calls; i++)
		usleep(1000);
	assert_int_equal(l->calls, 1);
}

static void begin_slow(void)
{
	set_conf("offsets.topic.num.partitions=1");
	heap = timer_heap_new();
	clock_ns = INT64_C(1000000000000);
	sync_held = false;
	io_set_hook(hold_sync, NULL);
	open_broker();
	start();
	assert_int_equal(coordinator_need_topic(co, &err), 0);
	struct later l;
	commit_later(&l, 1);
	let_go(&l);
	assert_int_equal(l.error, 0);
	assert_int_equal(offset_of("g", "t", 0), 1);
	sync_held = true;
}

static void test_fetch_waits_for_what_is_written(void **state)
{
	setup(state);
	begin_slow();
	struct later c[3], f = {0};
	struct group_fetch_request q = {.group_id = str("g"), .all = true, .require_stable = true};
	for (int i = 0; i < 3; i++)
		commit_later(&c[i], 10 + i);
	assert_int_equal(offset_of("g", "t", 0), 1); /* not in the log yet */
	group_fetch(co, &q, fetched_later, &f);
	usleep(20000);
	assert_int_equal(f.calls + c[0].calls + c[1].calls + c[2].calls, 0);
	let_go(&f);
	assert_int_equal(f.error, 0);
	assert_int_equal(f.offset, 12);
	for (int i = 0; i < 3; i++) {
		let_go(&c[i]);
		assert_int_equal(c[i].error, 0);
	}
	assert_int_equal(offset_of("g", "t", 0), 12); /* in whatever order they were answered */
}

static void test_deletion_waits_for_what_is_written(void **state)
{
	setup(state);
	begin_slow();
	struct later c[2], d = {0}, o = {0};
	struct joined j;
	struct group_delete_partition p = {.partition = 0};
	struct group_delete_topic t = {.name = str("t"), .partitions = &p, .partition_count = 1};
	commit_later(&c[0], 10);
	group_delete_offsets(co, str("g"), &t, 1, told_later, &o);
	assert_int_equal(offset_of("g", "t", 0), 1);
	let_go(&o);
	let_go(&c[0]);
	assert_int_equal(o.error, 0);
	assert_int_equal(offset_of("g", "t", 0), -1); /* it came behind the commit */
	sync_held = true;
	commit_later(&c[0], 20);
	group_delete(co, str("g"), told_later, &d);
	commit_later(&c[1], 30);
	assert_int_equal(c[1].calls, 1);
	assert_int_equal(c[1].error, KAFKA_COORDINATOR_LOAD_IN_PROGRESS);
	ASK(&j, "g", .old = true);
	assert_int_equal(j.error, KAFKA_COORDINATOR_LOAD_IN_PROGRESS);
	expect_state("g", "Empty");
	coordinator_expire(co);
	let_go(&d);
	assert_int_equal(d.error, 0);
	assert_int_equal(c[0].error, 0);
	assert_string_equal(describe_group("g").state, "Dead");
	restart();
	assert_string_equal(describe_group("g").state, "Dead");
	commit_later(&c[0], 40);
	let_go(&c[0]);
	assert_int_equal(offset_of("g", "t", 0), 40);
}

static void test_unload_while_it_is_written(void **state)
{
	setup(state);
	begin_slow();
	struct later c, d = {0}, f = {0};
	struct joined j;
	struct synced s;
	ASK(&j, "h", .old = true);
	pass(3000);
	ask_sync(&s, "h", j.member, NULL, 1, TO(j.member), "x");
	commit_later(&c, 10);
	group_fetch(co, &(struct group_fetch_request){.group_id = str("g"), .all = true, .require_stable = true}, fetched_later, &f);
	group_delete(co, str("g"), told_later, &d);
	assert_int_equal(s.calls + c.calls + f.calls + d.calls, 0);
	coordinator_unload(co, 0, 0);
	assert_int_equal(s.error, KAFKA_NOT_COORDINATOR);
	assert_int_equal(f.error, KAFKA_NOT_COORDINATOR);
	assert_int_equal(d.error, KAFKA_NOT_COORDINATOR);
	assert_int_equal(c.calls, 0);
	coordinator_load(co, 0, 0); /* by another journal, what is on its way is in the log already */
	assert_int_equal(offset_of("g", "t", 0), 10);
	let_go(&c);
	assert_int_equal(c.error, 0); /* as it is */
	expect_state("h", "Stable");
	assert_int_equal(s.calls + f.calls + d.calls, 3);
}

/* A rebalance begins while the assignment is on its way: who waits for that joins again, and the assignment of the old generation is given to nobody. */
static void test_rebalance_while_it_is_written(void **state)
{
	setup(state);
	begin_slow();
	struct joined j, k, n;
	struct synced s, f;
	ASK(&j, "h", .old = true);
	ASK(&k, "h", .old = true);
	pass(6000);
	ask_sync(&f, "h", k.member, NULL, 1, NULL, NULL);
	ask_sync(&s, "h", j.member, NULL, 1, TO(j.member, k.member), "old");
	assert_int_equal(s.calls + f.calls, 0);
	ASK(&n, "h", .old = true);
	assert_int_equal(s.error, KAFKA_REBALANCE_IN_PROGRESS);
	assert_int_equal(f.error, KAFKA_REBALANCE_IN_PROGRESS);
	char one[128], two[128];
	strcpy(one, j.member);
	strcpy(two, k.member);
	ASK(&j, "h", .member = one);
	ASK(&k, "h", .member = two);
	assert_int_equal(j.generation, 2);
	ask_sync(&f, "h", two, NULL, 2, NULL, NULL);
	struct later c;
	commit_later(&c, 5); /* behind it in the log */
	let_go(&c);
	usleep(20000);
	assert_int_equal(f.calls, 0);
	expect_state("h", "CompletingRebalance");
	ask_sync(&s, "h", one, NULL, 2, TO(one, two, n.member), "new");
	for (int i = 0; i < 5000 && strcmp(describe_group("h").state, "Stable"); i++)
		usleep(1000);
	struct described d = describe_group("h");
	assert_string_equal(d.assignment[1], "new1");
	sync_held = false;
	coordinator_stop(co); /* the answers are given: their writes are waited for */
	assert_string_equal(f.assignment, "new1");
	assert_string_equal(s.assignment, "new0");
	assert_int_equal(f.calls + s.calls, 2);
	coordinator_free(co);
	co = NULL;
}

/* ---- many members ---- */

static _Atomic int crowd_answers;

static void crowd_joined(void *arg, const struct group_join_answer *a)
{
	(void)arg;
	assert_int_equal(a->error, 0);
	crowd_answers++;
}

static void test_ten_thousand_members(void **state)
{
	(void)state;
	enum { N = 10000 };
	crowd_answers = 0;
	struct group_protocol p = {str("range"), str("m")};
	struct group_join_request q = {.group_id = str("crowd"), .member_id = str(""), .protocol_type = str("test"), .client_id = str("c"), .client_host = str("/h"), .protocols = &p,
				       .protocol_count = 1, .session_timeout_ms = 6000, .rebalance_timeout_ms = 3000};
	for (int i = 0; i < N; i++)
		group_join(co, &q, crowd_joined, NULL);
	pass(3000);
	assert_int_equal(crowd_answers, N);
	expect_state("crowd", "CompletingRebalance");
	pass(6000); /* nobody says anything any more */
	expect_state("crowd", "Empty");
}

/* ---- threads ---- */

enum { THREADS = 6, ROUNDS = 60 };

struct client { pthread_mutex_t lock; pthread_cond_t cond; int index, answers; int16_t error; int32_t generation; bool leads; char id[128]; size_t members; char ids[THREADS][128]; };

static struct client client[THREADS];
static _Atomic int stable_rounds;
static _Atomic bool stop_threads;
static _Atomic int64_t acked[THREADS];

static void answered(struct client *c, int16_t error)
{
	c->error = error;
	c->answers++;
	pthread_cond_signal(&c->cond);
	pthread_mutex_unlock(&c->lock);
}

static void thread_joined(void *arg, const struct group_join_answer *a)
{
	struct client *c = arg;
	pthread_mutex_lock(&c->lock);
	copy(c->id, sizeof c->id, a->member_id);
	c->generation = a->generation_id;
	c->leads = a->member_count > 0;
	c->members = a->member_count;
	for (size_t i = 0; i < a->member_count; i++)
		copy(c->ids[i], sizeof c->ids[i], a->members[i].member_id);
	answered(c, a->error);
}

static void thread_synced(void *arg, const struct group_sync_answer *a)
{
	struct client *c = arg;
	pthread_mutex_lock(&c->lock);
	if (!a->error && a->assignment.n) {
		char got[200], expected[200];
		copy(got, sizeof got, a->assignment);
		snprintf(expected, sizeof expected, "%d:%s", (int)c->generation, c->id);
		assert_string_equal(got, expected);
	}
	answered(c, a->error);
}

static void thread_told(void *arg, int16_t error)
{
	pthread_mutex_lock(&((struct client *)arg)->lock);
	answered(arg, error);
}

static int16_t wait_answer(struct client *c)
{
	pthread_mutex_lock(&c->lock);
	while (!c->answers)
		pthread_cond_wait(&c->cond, &c->lock);
	assert_int_equal(c->answers, 1);
	c->answers = 0;
	pthread_mutex_unlock(&c->lock);
	return c->error;
}

static int16_t thread_join(struct client *c)
{
	struct group_protocol p = {str("range"), str("m")};
	char id[128];
	strcpy(id, c->id);
	struct group_join_request q = {.group_id = str("g"), .member_id = str(id), .protocol_type = str("test"), .client_id = str("c"), .client_host = str("/h"), .protocols = &p,
				       .protocol_count = 1, .session_timeout_ms = 6000, .rebalance_timeout_ms = 4000, .member_id_required = c->index % 2};
	group_join(co, &q, thread_joined, c);
	return wait_answer(c);
}

static int16_t thread_sync(struct client *c)
{
	struct group_assignment a[THREADS];
	char text[THREADS][200];
	size_t n = c->leads ? c->members : 0;
	for (size_t i = 0; i < n; i++) {
		snprintf(text[i], sizeof text[i], "%d:%s", (int)c->generation, c->ids[i]);
		a[i] = (struct group_assignment){str(c->ids[i]), str(text[i])};
	}
	struct group_sync_request q = {.group_id = str("g"), .member_id = str(c->id), .generation_id = c->generation, .assignments = a, .assignment_count = n};
	group_sync(co, &q, thread_synced, c);
	return wait_answer(c);
}

static int16_t thread_commit(struct client *c, int64_t offset)
{
	struct group_commit_partition p = {.partition = c->index, .leader_epoch = -1, .offset = offset, .metadata = str("")};
	struct group_commit_topic t = {.name = str("t"), .partitions = &p, .partition_count = 1};
	struct group_commit_request q = {.group_id = str("g"), .member_id = str(c->id), .generation_id = c->generation, .retention_ms = -1, .topics = &t, .topic_count = 1};
	group_commit(co, &q, thread_told, c);
	int16_t error = wait_answer(c);
	if (!error)
		acked[c->index] = offset;
	return error;
}

static void *run_client(void *arg)
{
	struct client *c = arg;
	int64_t offset = 0;
	while (!stop_threads) {
		int16_t error = thread_join(c);
		if (error == KAFKA_MEMBER_ID_REQUIRED)
			continue;
		if (!error)
			error = thread_sync(c);
		for (int i = 0; !error && i < 20 && !stop_threads; i++) {
			error = thread_commit(c, offset++);
			if (!error)
				error = group_heartbeat(co, &(struct group_heartbeat_request){str("g"), str(c->id), str(NULL), c->generation});
		}
		if (!error)
			stable_rounds++;
		if (error == KAFKA_UNKNOWN_MEMBER_ID || (!error && c->index == 0 && offset % 3 == 0)) {
			struct group_leaving l = {.member_id = str(c->id)};
			if (!error)
				group_leave(co, str("g"), &l, 1);
			c->id[0] = '\0';
		}
		assert_true(!error || error == KAFKA_REBALANCE_IN_PROGRESS || error == KAFKA_UNKNOWN_MEMBER_ID || error == KAFKA_ILLEGAL_GENERATION || error == KAFKA_NOT_COORDINATOR ||
			    error == KAFKA_COORDINATOR_LOAD_IN_PROGRESS || error == KAFKA_COORDINATOR_NOT_AVAILABLE);
		if (error == KAFKA_COORDINATOR_NOT_AVAILABLE)
			break;
	}
	return NULL;
}

static void *run_watcher(void *arg)
{
	(void)arg;
	while (!stop_threads) {
		struct described d = describe_group("g");
		struct fetched_one f = {0};
		struct group_fetch_request q = {.group_id = str("other"), .all = true, .require_stable = true};
		(void)d;
		group_fetch(co, &q, on_fetched, &f);
		coordinator_expire(co);
		usleep(2000);
	}
	return NULL;
}

/* The real clock, timers and pool, the disk waited for; the partition is taken away and given back meanwhile, and at last the coordinator stops in the middle of it all. */
static void test_threads(void **state)
{
	setup(state);
	set_conf("group.initial.rebalance.delay.ms=0");
	set_conf("offsets.topic.num.partitions=2");
	open_broker();
	struct coordinator_options o = {.broker = b};
	assert_int_equal(coordinator_new(&co, &o, &err), 0);
	coordinator_start(co);
	assert_int_equal(coordinator_need_topic(co, &err), 0);
	coordinator_wait_loaded(co);
	pthread_t thread[THREADS], watcher;
	stop_threads = false;
	for (int i = 0; i < THREADS; i++) {
		client[i] = (struct client){.index = i};
		acked[i] = -1;
		pthread_mutex_init(&client[i].lock, NULL);
		pthread_cond_init(&client[i].cond, NULL);
		pthread_create(&thread[i], NULL, run_client, &client[i]);
	}
	pthread_create(&watcher, NULL, run_watcher, NULL);
	int32_t partition = coordinator_partition_of(co, str("g"));
	for (int i = 0; i < 10 || (stable_rounds < ROUNDS && i < 200); i++) {
		usleep(50000);
		if (i % 3 == 2) {
			coordinator_unload(co, partition, 0);
			coordinator_load(co, partition, 0);
		}
	}
	assert_true(stable_rounds > 0);
	coordinator_stop(co);
	stop_threads = true;
	for (int i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	pthread_join(watcher, NULL);
	coordinator_free(co);
	close_broker();
	open_broker();
	heap = timer_heap_new();
	start();
	for (int i = 0; i < THREADS; i++) {
		int64_t have = offset_of("g", "t", i);
		assert_true(have >= acked[i]); /* what was acknowledged, or a later one whose answer came too late to be counted */
		pthread_mutex_destroy(&client[i].lock);
		pthread_cond_destroy(&client[i].cond);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_random, random_setup, group_teardown),
		cmocka_unit_test_setup_teardown(test_ten_thousand_members, group_setup, group_teardown),
		cmocka_unit_test_teardown(test_fetch_waits_for_what_is_written, group_teardown),
		cmocka_unit_test_teardown(test_deletion_waits_for_what_is_written, group_teardown),
		cmocka_unit_test_teardown(test_unload_while_it_is_written, group_teardown),
		cmocka_unit_test_teardown(test_rebalance_while_it_is_written, group_teardown),
		cmocka_unit_test_teardown(test_threads, group_teardown),
	};
	return cmocka_run_group_tests_name("group_model", tests, NULL, NULL);
}
