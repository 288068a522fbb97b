#include "tests/unit/group_fixture.h"

/* The state machine of a group: who joins, who leads, who gets what, and what everybody else is told. */

/*  joining  */

static void test_member_id_is_given_first(void **state)
{
	(void)state;
	struct joined j;
	ASK(&j, "g", .protocols = "range=x");
	assert_int_equal(j.calls, 1);
	assert_int_equal(j.error, KAFKA_MEMBER_ID_REQUIRED);
	assert_memory_equal(j.member, "client-", 7);
	assert_int_equal(strlen(j.member), 7 + 36);
	assert_int_equal(j.generation, -1);
	assert_false(j.has_type || j.has_name);
	assert_string_equal(j.leader, "");
	expect_state("g", "Empty");
	assert_int_equal(describe_group("g").members, 0);
	assert_int_equal(beat("g", j.member, NULL, 0), KAFKA_UNKNOWN_MEMBER_ID);

	char id[128];
	strcpy(id, j.member);
	ASK(&j, "g", .member = id, .protocols = "range=x");
	assert_int_equal(j.calls, 0);
	expect_state("g", "PreparingRebalance");
	pass(2950);
	assert_int_equal(j.calls, 0);
	pass(50);
	assert_int_equal(j.calls, 1);
	assert_int_equal(j.error, 0);
	assert_int_equal(j.generation, 1);
	assert_string_equal(j.leader, id);
	assert_string_equal(j.member, id);
	assert_string_equal(j.type, "test");
	assert_string_equal(j.name, "range");
	assert_int_equal(j.members, 1);
	assert_string_equal(j.id[0], id);
	assert_string_equal(j.metadata[0], "x");
	expect_state("g", "CompletingRebalance");
}

static void test_a_member_that_never_comes_back(void **state)
{
	(void)state;
	struct joined j, k;
	ASK(&j, "g", .session_ms = 6000);
	ASK(&k, "g", .old = true); /* is let in at once, and waits for the one that is expected */
	pass(5950);
	assert_int_equal(k.calls, 1); /* the initial rebalance waits for nobody */
	pass(100);
	char id[128];
	strcpy(id, j.member);
	ASK(&j, "g", .member = id);
	assert_int_equal(j.error, KAFKA_UNKNOWN_MEMBER_ID);
	assert_string_equal(j.member, id);
}

static void test_rebalance_waits_for_who_was_given_an_id(void **state)
{
	(void)state;
	char one[128];
	struct joined j, k;
	int32_t g = group_of_one("g", one, (struct asks){0});
	ASK(&k, "g", .session_ms = 6000); /* an id, no more */
	ASK(&j, "g", .member = one);      /* the leader: a rebalance */
	assert_int_equal(j.calls, 0);
	expect_state("g", "PreparingRebalance");
	pass(5950);
	assert_int_equal(j.calls, 0);
	pass(50);
	assert_int_equal(j.calls, 1);
	assert_int_equal(j.generation, g + 1);
	/* and where it leaves instead */
	struct synced s;
	ask_sync(&s, "g", one, NULL, g + 1, TO(one), "x");
	ASK(&k, "g", .session_ms = 6000);
	ASK(&j, "g", .member = one);
	assert_int_equal(j.calls, 0);
	assert_int_equal(leave_group("g", k.member, NULL), 0);
	assert_int_equal(j.calls, 1);
	assert_int_equal(j.generation, g + 2);
}

static void test_initial_delay_grows_with_members(void **state)
{
	(void)state;
	struct joined j[4];
	ASK(&j[0], "g", .old = true, .rebalance_ms = 8000);
	pass(2000);
	ASK(&j[1], "g", .old = true, .rebalance_ms = 8000);
	pass(1000); /* 3 s: another had come, 3 more */
	assert_int_equal(j[0].calls, 0);
	ASK(&j[2], "g", .old = true, .rebalance_ms = 8000);
	pass(3000); /* 6 s: another again, but only 2 are left of 8 */
	assert_int_equal(j[0].calls, 0);
	ASK(&j[3], "g", .old = true, .rebalance_ms = 8000);
	pass(1950);
	assert_int_equal(j[0].calls, 0);
	pass(50);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(j[i].calls, 1);
		assert_int_equal(j[i].error, 0);
		assert_int_equal(j[i].generation, 1);
		assert_string_equal(j[i].leader, j[0].member);
		assert_int_equal(j[i].members, i == 0 ? 4 : 0);
	}
}

static void test_join_is_refused(void **state)
{
	(void)state;
	char one[128];
	struct joined j;
	ASK(&j, "");
	assert_int_equal(j.error, KAFKA_INVALID_GROUP_ID);
	ASK(&j, "g", .session_ms = 5999, .member = "m");
	assert_int_equal(j.error, KAFKA_INVALID_SESSION_TIMEOUT);
	assert_string_equal(j.member, "m");
	ASK(&j, "g", .session_ms = 1800001);
	assert_int_equal(j.error, KAFKA_INVALID_SESSION_TIMEOUT);
	ASK(&j, "nobody", .member = "m");
	assert_int_equal(j.error, KAFKA_UNKNOWN_MEMBER_ID);
	assert_string_equal(describe_group("nobody").state, "Dead");
	ASK(&j, "e", .type = "");
	assert_int_equal(j.error, KAFKA_INCONSISTENT_GROUP_PROTOCOL);
	group_of_one("g", one, (struct asks){.protocols = "range=m"});
	ASK(&j, "g", .type = "connect");
	assert_int_equal(j.error, KAFKA_INCONSISTENT_GROUP_PROTOCOL);
	assert_string_equal(j.member, "");
	ASK(&j, "g", .protocols = "sticky=m");
	assert_int_equal(j.error, KAFKA_INCONSISTENT_GROUP_PROTOCOL);
	ASK(&j, "g", .member = "stranger");
	assert_int_equal(j.error, KAFKA_UNKNOWN_MEMBER_ID);
	ASK(&j, "g", .member = one, .instance = "i");
	assert_int_equal(j.error, KAFKA_UNKNOWN_MEMBER_ID);
	ASK(&j, "g"); /* an id for a dynamic member, which a static one brings */
	char id[128];
	strcpy(id, j.member);
	ASK(&j, "g", .member = id, .instance = "i");
	assert_int_equal(j.error, KAFKA_UNKNOWN_SERVER_ERROR);
}

static void test_protocol_is_voted_on(void **state)
{
	(void)state;
	struct joined a, c, d;
	ASK(&a, "g", .old = true, .protocols = "range=a1,sticky=a2,own=a3");
	ASK(&c, "g", .old = true, .protocols = "sticky=c1,range=c2");
	ASK(&d, "g", .old = true, .protocols = "sticky=d1,range=d2,own=d3");
	pass(6000);
	assert_string_equal(a.name, "sticky"); /* two against one; own has not all */
	assert_int_equal(a.members, 3);
	assert_string_equal(a.metadata[0], "a2");
	assert_string_equal(a.metadata[1], "c1");
	assert_string_equal(a.metadata[2], "d1");
	assert_string_equal(d.name, "sticky");
}

static void test_group_is_full(void **state)
{
	setup(state);
	set_conf("group.max.size=2");
	begin();
	struct joined a, c, d;
	char one[128], two[128];
	int32_t g = group_of_two("g", one, two, (struct asks){0});
	ASK(&d, "g", .old = true);
	assert_int_equal(d.error, KAFKA_GROUP_MAX_SIZE_REACHED);
	assert_string_equal(d.member, "");
	expect_state("g", "Stable");
	/* while it rebalances those who have joined count, and the last to come is out */
	ASK(&a, "g", .member = one);
	ASK(&c, "g", .old = true);
	ASK(&d, "g", .member = two);
	assert_int_equal(d.error, KAFKA_GROUP_MAX_SIZE_REACHED);
	ASK(&d, "g", .member = one); /* who waits already may ask again */
	assert_int_equal(a.error, KAFKA_REBALANCE_IN_PROGRESS);
	assert_int_equal(d.calls, 1);
	assert_int_equal(d.error, 0);
	assert_int_equal(d.generation, g + 1);
	assert_int_equal(c.generation, g + 1);
	assert_int_equal(d.members, 2);
}

/*  a generation  */

static void test_assignments(void **state)
{
	(void)state;
	char one[128], two[128];
	struct synced s;
	int32_t g = group_of_two("g", one, two, (struct asks){0});
	struct described d = describe_group("g");
	assert_string_equal(d.state, "Stable");
	assert_string_equal(d.type, "test");
	assert_string_equal(d.protocol, "range");
	assert_int_equal(d.members, 2);
	assert_string_equal(d.id[1], two);
	assert_string_equal(d.metadata[1], "m");
	assert_string_equal(d.assignment[1], "part1");
	ask_sync(&s, "g", two, NULL, g, NULL, NULL); /* once more: as it is */
	assert_int_equal(s.error, 0);
	assert_string_equal(s.assignment, "part1");
	assert_string_equal(s.type, "test");
	assert_string_equal(s.name, "range");
	assert_int_equal(beat("g", one, NULL, g), 0);
	assert_int_equal(beat("g", two, NULL, g), 0);
}

static void test_who_is_forgotten_gets_nothing(void **state)
{
	(void)state;
	struct joined j, k;
	struct synced s, f;
	ASK(&j, "g", .old = true);
	ASK(&k, "g", .old = true);
	pass(6000);
	ask_sync(&f, "g", k.member, NULL, 1, NULL, NULL);
	ask_sync(&s, "g", j.member, NULL, 1, TO("a stranger"), "x");
	assert_int_equal(s.error, 0);
	assert_int_equal(f.error, 0);
	assert_string_equal(s.assignment, "");
	assert_string_equal(f.assignment, "");
	expect_state("g", "Stable");
}

static void test_sync_and_heartbeat_are_refused(void **state)
{
	(void)state;
	struct synced s;
	struct joined j;
	char one[128];
	ask_sync(&s, "", "m", NULL, 1, NULL, NULL);
	assert_int_equal(s.error, KAFKA_INVALID_GROUP_ID);
	ask_sync(&s, "nobody", "m", NULL, 1, NULL, NULL);
	assert_int_equal(s.error, KAFKA_UNKNOWN_MEMBER_ID);
	assert_int_equal(beat("", "m", NULL, 1), KAFKA_INVALID_GROUP_ID);
	assert_int_equal(beat("nobody", "m", NULL, 1), KAFKA_UNKNOWN_MEMBER_ID);
	int32_t g = group_of_one("g", one, (struct asks){0});
	ask_sync(&s, "g", "m", NULL, g, NULL, NULL);
	assert_int_equal(s.error, KAFKA_UNKNOWN_MEMBER_ID);
	ask_sync(&s, "g", one, NULL, g + 1, NULL, NULL);
	assert_int_equal(s.error, KAFKA_ILLEGAL_GENERATION);
	assert_int_equal(beat("g", "m", NULL, g), KAFKA_UNKNOWN_MEMBER_ID);
	assert_int_equal(beat("g", one, NULL, g - 1), KAFKA_ILLEGAL_GENERATION);
	assert_int_equal(beat("g", one, "i", g), KAFKA_UNKNOWN_MEMBER_ID);
	struct group_sync_request q = {.group_id = str("g"), .member_id = str(one), .generation_id = g, .protocol_type = str("connect")};
	s = (struct synced){0};
	group_sync(co, &q, on_synced, &s);
	assert_int_equal(s.error, KAFKA_INCONSISTENT_GROUP_PROTOCOL);
	q.protocol_type = str("test");
	q.protocol_name = str("sticky");
	group_sync(co, &q, on_synced, &s);
	assert_int_equal(s.error, KAFKA_INCONSISTENT_GROUP_PROTOCOL);
	q.protocol_name = str("range");
	group_sync(co, &q, on_synced, &s);
	assert_int_equal(s.error, 0);
	/* in between */
	ASK(&j, "g", .old = true);
	ask_sync(&s, "g", one, NULL, g, NULL, NULL);
	assert_int_equal(s.error, KAFKA_REBALANCE_IN_PROGRESS);
	assert_int_equal(beat("g", one, NULL, g), KAFKA_REBALANCE_IN_PROGRESS);
	assert_int_equal(j.calls, 0);
}

static void test_a_newcomer_makes_all_join(void **state)
{
	(void)state;
	char one[128], two[128];
	struct joined a, c, n;
	int32_t g = group_of_two("g", one, two, (struct asks){.rebalance_ms = 20000, .session_ms = 30000});
	ASK(&n, "g", .old = true, .rebalance_ms = 20000);
	expect_state("g", "PreparingRebalance");
	ASK(&c, "g", .member = two, .rebalance_ms = 20000, .session_ms = 30000);
	assert_int_equal(n.calls + c.calls, 0);
	ASK(&a, "g", .member = one, .rebalance_ms = 20000, .session_ms = 30000);
	assert_int_equal(n.calls + c.calls + a.calls, 3);
	assert_int_equal(a.generation, g + 1);
	assert_int_equal(n.generation, g + 1);
	assert_int_equal(a.members, 3);
	assert_string_equal(n.leader, one);
	/* CompletingRebalance: another comes, those who wait for the assignment are to join again */
	struct synced s;
	ask_sync(&s, "g", two, NULL, g + 1, NULL, NULL);
	assert_int_equal(s.calls, 0);
	struct joined o;
	ASK(&o, "g", .old = true, .rebalance_ms = 20000);
	assert_int_equal(s.calls, 1);
	assert_int_equal(s.error, KAFKA_REBALANCE_IN_PROGRESS);
	/* who does not come in time is out; the leader too */
	ASK(&c, "g", .member = two, .rebalance_ms = 20000, .session_ms = 30000);
	pass(19950);
	assert_int_equal(c.calls, 0);
	pass(100);
	assert_int_equal(c.calls, 1);
	assert_int_equal(c.generation, g + 2);
	assert_int_equal(c.members + o.members, 2);
	assert_string_equal(c.leader, o.leader);
	assert_int_equal(beat("g", one, NULL, g + 2), KAFKA_UNKNOWN_MEMBER_ID);
}

static void test_join_again_as_before(void **state)
{
	(void)state;
	char one[128], two[128];
	struct joined j;
	int32_t g = group_of_two("g", one, two, (struct asks){0});
	ASK(&j, "g", .member = two); /* a follower with nothing new: the same generation */
	assert_int_equal(j.calls, 1);
	assert_int_equal(j.error, 0);
	assert_int_equal(j.generation, g);
	assert_int_equal(j.members, 0);
	assert_string_equal(j.leader, one);
	expect_state("g", "Stable");
	ASK(&j, "g", .member = two, .protocols = "range=new"); /* something new */
	assert_int_equal(j.calls, 0);
	expect_state("g", "PreparingRebalance");
	struct joined k;
	ASK(&k, "g", .member = one);
	assert_int_equal(j.generation, g + 1);
	assert_string_equal(k.metadata[1], "new");
	/* CompletingRebalance: its answer was lost */
	ASK(&j, "g", .member = one);
	assert_int_equal(j.calls, 1);
	assert_int_equal(j.generation, g + 1);
	assert_int_equal(j.members, 2);
	ASK(&j, "g", .member = two, .protocols = "range=new");
	assert_int_equal(j.calls, 1);
	assert_int_equal(j.members, 0);
	ASK(&j, "g", .member = two, .protocols = "range=newer");
	assert_int_equal(j.calls, 0);
	expect_state("g", "PreparingRebalance");
}

static void test_the_same_request_twice(void **state)
{
	(void)state;
	char one[128], two[128];
	struct joined j, again, k;
	group_of_two("g", one, two, (struct asks){0});
	ASK(&j, "g", .member = one);
	ASK(&again, "g", .member = one);
	assert_int_equal(j.calls, 1); /* every request is answered once, this one as its sender has gone */
	assert_int_equal(j.error, KAFKA_REBALANCE_IN_PROGRESS);
	assert_int_equal(again.calls, 0);
	ASK(&k, "g", .member = two);
	assert_int_equal(again.calls, 1);
	assert_int_equal(again.error, 0);
	struct synced s, t;
	ask_sync(&s, "g", two, NULL, again.generation, NULL, NULL);
	ask_sync(&t, "g", two, NULL, again.generation, NULL, NULL);
	assert_int_equal(s.error, KAFKA_REBALANCE_IN_PROGRESS);
	assert_int_equal(t.calls, 0);
	ask_sync(&s, "g", one, NULL, again.generation, TO(one, two), "p");
	assert_int_equal(t.calls, 1);
	assert_string_equal(t.assignment, "p1");
}

/*  time  */

static void test_sessions_end(void **state)
{
	(void)state;
	char one[128], two[128];
	int32_t g = group_of_two("g", one, two, (struct asks){.session_ms = 10000});
	for (int i = 0; i < 5; i++) {
		pass(3000);
		if (i < 3)
			assert_int_equal(beat("g", two, NULL, g), 0);
		else
			beat("g", two, NULL, g);
		if (i < 2)
			expect_state("g", "Stable");
	}
	/* one was silent: the other is told */
	assert_int_equal(beat("g", two, NULL, g), KAFKA_REBALANCE_IN_PROGRESS);
	assert_int_equal(beat("g", one, NULL, g), KAFKA_UNKNOWN_MEMBER_ID);
	struct joined j;
	ASK(&j, "g", .member = two);
	assert_int_equal(j.calls, 1);
	assert_int_equal(j.generation, g + 1);
	assert_string_equal(j.leader, two);
	/* nobody left */
	pass(10000);
	expect_state("g", "Empty");
	assert_int_equal(beat("g", two, NULL, g + 1), KAFKA_UNKNOWN_MEMBER_ID);
	struct described d = describe_group("g");
	assert_string_equal(d.type, "test");
	assert_int_equal(d.members, 0);
	/* the generation goes on */
	char three[128];
	assert_int_equal(group_of_one("g", three, (struct asks){0}), g + 3);
}

static void test_parked_members_are_heard(void **state)
{
	(void)state;
	char one[128], two[128];
	struct joined j, k;
	group_of_two("g", one, two, (struct asks){.session_ms = 10000, .rebalance_ms = 60000});
	ASK(&j, "g", .member = one, .session_ms = 10000, .rebalance_ms = 60000);
	for (int i = 0; i < 10; i++) {
		pass(3000);
		assert_int_equal(beat("g", two, NULL, 1), KAFKA_REBALANCE_IN_PROGRESS);
	}
	assert_int_equal(j.calls, 0); /* 30 s: its session would be over three times */
	ASK(&k, "g", .member = two, .session_ms = 10000, .rebalance_ms = 60000);
	assert_int_equal(j.error, 0);
	/* waiting for the assignment, too */
	struct synced s, t;
	ask_sync(&s, "g", two, NULL, 2, NULL, NULL);
	for (int i = 0; i < 10; i++) {
		pass(3000);
		assert_int_equal(beat("g", one, NULL, 2), 0);
	}
	ask_sync(&t, "g", one, NULL, 2, TO(one, two), "q");
	assert_string_equal(s.assignment, "q1");
	pass(9950);
	assert_int_equal(beat("g", two, NULL, 2), 0);
}

static void test_new_members_do_not_wait_for_ever(void **state)
{
	(void)state;
	char one[128];
	struct joined j;
	int32_t g = group_of_one("g", one, (struct asks){.session_ms = 10000, .rebalance_ms = 600000});
	ASK(&j, "g", .old = true, .rebalance_ms = 600000);
	for (int i = 0; i < 99; i++) {
		pass(3000);
		assert_int_equal(beat("g", one, NULL, g), KAFKA_REBALANCE_IN_PROGRESS);
		assert_int_equal(j.calls, 0);
	}
	pass(3000);
	assert_int_equal(j.calls, 1);
	assert_int_equal(j.error, KAFKA_UNKNOWN_MEMBER_ID);
	assert_string_equal(j.member, "");
}

static void test_who_does_not_sync_is_out(void **state)
{
	(void)state;
	struct joined a, c, d;
	struct synced s;
	ASK(&a, "g", .old = true, .rebalance_ms = 12000, .session_ms = 60000);
	ASK(&c, "g", .old = true, .rebalance_ms = 12000, .session_ms = 60000);
	ASK(&d, "g", .old = true, .rebalance_ms = 12000, .session_ms = 60000);
	pass(6000);
	assert_int_equal(a.generation, 1);
	ask_sync(&s, "g", c.member, NULL, 1, NULL, NULL);
	pass(11950);
	assert_int_equal(s.calls, 0);
	pass(50);
	assert_int_equal(s.error, KAFKA_REBALANCE_IN_PROGRESS);
	assert_int_equal(describe_group("g").members, 1);
	char two[128];
	strcpy(two, c.member);
	ASK(&c, "g", .member = two);
	assert_int_equal(c.generation, 2);
	assert_string_equal(c.leader, two);
	/* also where the group has become stable meanwhile */
	ASK(&d, "h", .old = true, .rebalance_ms = 12000, .session_ms = 60000);
	ASK(&a, "h", .old = true, .rebalance_ms = 12000, .session_ms = 60000);
	pass(6000);
	ask_sync(&s, "h", d.member, NULL, 1, TO(d.member, a.member), "x");
	assert_int_equal(s.error, 0);
	expect_state("h", "Stable");
	pass(12000);
	expect_state("h", "PreparingRebalance");
	assert_int_equal(describe_group("h").members, 1);
}

/*  leaving  */

static void test_leaving(void **state)
{
	(void)state;
	char one[128], two[128];
	struct joined j, k;
	assert_int_equal(leave_group("", "m", NULL), KAFKA_INVALID_GROUP_ID);
	assert_int_equal(leave_group("nobody", "m", NULL), KAFKA_UNKNOWN_MEMBER_ID);
	int32_t g = group_of_two("g", one, two, (struct asks){0});
	assert_int_equal(leave_group("g", "m", NULL), KAFKA_UNKNOWN_MEMBER_ID);
	assert_int_equal(leave_group("g", "", NULL), KAFKA_UNKNOWN_MEMBER_ID);
	expect_state("g", "Stable");
	assert_int_equal(leave_group("g", one, NULL), 0);
	assert_int_equal(beat("g", two, NULL, g), KAFKA_REBALANCE_IN_PROGRESS);
	ASK(&j, "g", .member = two);
	assert_int_equal(j.generation, g + 1);
	assert_string_equal(j.leader, two);
	/* who has joined and leaves is told */
	ASK(&k, "g", .old = true);
	assert_int_equal(k.calls, 0);
	struct group_leaving both[3] = {{.member_id = str(two)}, {.member_id = str("m")}, {.member_id = str("n"), .instance_id = str("i")}};
	assert_int_equal(group_leave(co, str("g"), both, 3), 0);
	assert_int_equal(both[0].error, 0);
	assert_int_equal(both[1].error, KAFKA_UNKNOWN_MEMBER_ID);
	assert_int_equal(both[2].error, KAFKA_UNKNOWN_MEMBER_ID);
	assert_int_equal(k.calls, 1); /* all that are left have joined */
	assert_int_equal(k.error, 0);
	assert_int_equal(leave_group("g", k.member, NULL), 0);
	expect_state("g", "Empty");
	ASK(&k, "h", .old = true);
	assert_int_equal(k.calls, 0);
	struct joined l;
	ASK(&l, "h", .old = true);
	pass(6000);
	ASK(&j, "h", .member = k.member);
	assert_int_equal(j.calls, 1); /* CompletingRebalance, as it was */
}

/*  static members (KIP-345)  */

static int32_t static_pair(char leader[128], char second[128])
{
	struct joined j, k;
	struct synced s, f;
	ASK(&j, "g", .instance = "first", .protocols = "range=a");
	ASK(&k, "g", .instance = "second", .protocols = "range=b");
	pass(6000);
	assert_int_equal(j.error, 0);
	assert_memory_equal(j.member, "first-", 6);
	assert_string_equal(j.instance[1], "second");
	ask_sync(&f, "g", k.member, "second", 1, NULL, NULL);
	ask_sync(&s, "g", j.member, "first", 1, TO(j.member, k.member), "part");
	assert_string_equal(f.assignment, "part1");
	strcpy(leader, j.member);
	strcpy(second, k.member);
	return j.generation;
}

static void test_static_member_comes_back(void **state)
{
	(void)state;
	char one[128], two[128];
	struct joined j;
	struct synced s;
	int32_t g = static_pair(one, two);
	ASK(&j, "g", .instance = "second", .protocols = "range=b");
	assert_int_equal(j.calls, 1);
	assert_int_equal(j.error, 0);
	assert_int_equal(j.generation, g);
	assert_string_not_equal(j.member, two);
	assert_string_equal(j.leader, one);
	assert_false(j.skip);
	assert_int_equal(j.members, 0);
	expect_state("g", "Stable");
	assert_int_equal(beat("g", two, "second", g), KAFKA_FENCED_INSTANCE_ID);
	assert_int_equal(beat("g", two, NULL, g), KAFKA_UNKNOWN_MEMBER_ID);
	assert_int_equal(beat("g", j.member, "second", g), 0);
	ask_sync(&s, "g", j.member, "second", g, NULL, NULL);
	assert_string_equal(s.assignment, "part1");
	ask_sync(&s, "g", two, "second", g, NULL, NULL);
	assert_int_equal(s.error, KAFKA_FENCED_INSTANCE_ID);
	struct joined k;
	ASK(&k, "g", .instance = "second", .member = two);
	assert_int_equal(k.error, KAFKA_FENCED_INSTANCE_ID);
	assert_int_equal(leave_group("g", two, "second"), KAFKA_FENCED_INSTANCE_ID);
	assert_int_equal(commit_as("g", two, "second", g, "t", 0, 1, "", -1), KAFKA_FENCED_INSTANCE_ID);
	assert_int_equal(commit_as("g", j.member, "second", g, "t", 0, 1, "", -1), 0);
	restart(); /* the new id is in the log */
	assert_int_equal(beat("g", j.member, "second", g), 0);
	assert_int_equal(beat("g", two, "second", g), KAFKA_FENCED_INSTANCE_ID);
	assert_string_equal(describe_group("g").assignment[1], "part1");
}

static void test_static_leader_comes_back(void **state)
{
	(void)state;
	char one[128], two[128];
	struct joined j;
	int32_t g = static_pair(one, two);
	ASK(&j, "g", .instance = "first", .protocols = "range=a"); /* KIP-814: it leads, and need not assign */
	assert_int_equal(j.error, 0);
	assert_true(j.skip);
	assert_string_equal(j.leader, j.member);
	assert_int_equal(j.members, 2);
	assert_int_equal(j.generation, g);
	char now[128];
	strcpy(now, j.member);
	ASK(&j, "g", .instance = "first", .protocols = "range=a", .cannot_skip = true); /* is told another leads */
	assert_int_equal(j.error, 0);
	assert_false(j.skip);
	assert_string_equal(j.leader, now);
	assert_string_not_equal(j.member, now);
	assert_int_equal(j.members, 0);
	/* known to lead: joining by id is a rebalance */
	strcpy(now, j.member);
	ASK(&j, "g", .instance = "first", .member = now, .protocols = "range=a");
	assert_int_equal(j.calls, 0);
	expect_state("g", "PreparingRebalance");
}

static void test_static_member_with_another_protocol(void **state)
{
	(void)state;
	struct joined j, k;
	struct synced s;
	ASK(&j, "g", .instance = "only", .protocols = "range=a");
	pass(3000);
	ask_sync(&s, "g", j.member, "only", 1, TO(j.member), "x");
	ASK(&k, "g", .instance = "only", .protocols = "sticky=b,range=a"); /* what it prefers would be selected */
	assert_int_equal(k.calls, 1);
	assert_int_equal(k.generation, 2);
	assert_string_equal(k.name, "sticky");
	assert_string_equal(k.leader, k.member);
}

static void test_static_member_comes_back_while_others_wait(void **state)
{
	(void)state;
	char one[128], two[128];
	struct joined j, k;
	struct synced s;
	static_pair(one, two);
	/* PreparingRebalance: the parked one is fenced */
	ASK(&j, "g", .instance = "first", .member = one, .protocols = "range=a");
	ASK(&k, "g", .instance = "first", .protocols = "range=a");
	assert_int_equal(j.calls, 1);
	assert_int_equal(j.error, KAFKA_FENCED_INSTANCE_ID);
	assert_string_equal(j.member, one);
	assert_int_equal(k.calls, 0);
	ASK(&j, "g", .instance = "second", .member = two, .protocols = "range=b");
	assert_int_equal(k.calls, 1);
	assert_int_equal(k.generation, 2);
	assert_string_equal(j.leader, k.member);
	/* CompletingRebalance: a rebalance, and its parked SyncGroup is fenced */
	ask_sync(&s, "g", two, "second", 2, NULL, NULL);
	ASK(&j, "g", .instance = "second", .protocols = "range=b");
	assert_int_equal(s.error, KAFKA_FENCED_INSTANCE_ID);
	assert_int_equal(j.calls, 0);
	expect_state("g", "PreparingRebalance");
}

static void test_static_members_stay_when_they_are_late(void **state)
{
	(void)state;
	char one[128], two[128];
	struct joined n;
	struct synced s;
	(void)s;
	int32_t g = static_pair(one, two);
	ASK(&n, "g", .old = true, .rebalance_ms = 5000, .protocols = "range=n");
	for (int i = 0; i < 20 && !n.calls; i++) {
		pass(3000);
		beat("g", one, "first", g);
		beat("g", two, "second", g);
	}
	assert_int_equal(n.calls, 1); /* 60 s, the longest of all */
	assert_int_equal(n.error, 0);
	assert_int_equal(n.generation, g + 1);
	assert_string_equal(n.leader, n.member); /* who is there leads */
	assert_int_equal(n.members, 3);
}

static void test_an_administrator_removes_a_static_member(void **state)
{
	(void)state;
	char one[128], two[128];
	int32_t g = static_pair(one, two);
	assert_int_equal(leave_group("g", "", "third"), KAFKA_UNKNOWN_MEMBER_ID);
	assert_int_equal(leave_group("g", "", "second"), 0);
	assert_int_equal(beat("g", two, "second", g), KAFKA_UNKNOWN_MEMBER_ID);
	assert_int_equal(beat("g", one, "first", g), KAFKA_REBALANCE_IN_PROGRESS);
}

/*  what cannot be written  */

static void test_assignment_cannot_be_written(void **state)
{
	(void)state;
	struct joined j, k;
	struct synced s, f;
	diag_set_level(DIAG_ERROR);
	ASK(&j, "g", .old = true);
	ASK(&k, "g", .old = true);
	pass(6000);
	ask_sync(&f, "g", k.member, NULL, 1, NULL, NULL);
	io_set_hook(no_space, NULL);
	ask_sync(&s, "g", j.member, NULL, 1, TO(j.member, k.member), "x");
	io_set_hook(NULL, NULL);
	assert_int_equal(s.error, KAFKA_COORDINATOR_NOT_AVAILABLE);
	assert_int_equal(f.error, KAFKA_COORDINATOR_NOT_AVAILABLE);
	expect_state("g", "PreparingRebalance");
	char one[128], two[128];
	strcpy(one, j.member);
	strcpy(two, k.member);
	ASK(&j, "g", .member = one);
	ASK(&k, "g", .member = two);
	assert_int_equal(j.generation, 2);
}

static void test_static_id_cannot_be_written(void **state)
{
	(void)state;
	char one[128], two[128];
	struct joined j;
	int32_t g = static_pair(one, two);
	io_set_hook(no_space, NULL);
	ASK(&j, "g", .instance = "first", .protocols = "range=other");
	io_set_hook(NULL, NULL);
	assert_int_equal(j.calls, 1);
	assert_int_equal(j.error, KAFKA_COORDINATOR_NOT_AVAILABLE);
	assert_string_equal(j.member, "");
	expect_state("g", "Stable");
	assert_int_equal(beat("g", one, "first", g), 0); /* the old one goes on */
	struct described d = describe_group("g");
	assert_int_equal(d.members, 2);
	for (size_t i = 0; i < 2; i++)
		if (!strcmp(d.instance[i], "first")) {
			assert_string_equal(d.metadata[i], "a");
			assert_string_equal(d.assignment[i], "part0");
		}
}

static void test_new_group_cannot_be_written(void **state)
{
	(void)state;
	struct joined j;
	io_set_hook(no_space, NULL);
	ASK(&j, "g");
	assert_int_equal(j.error, KAFKA_MEMBER_ID_REQUIRED);
	assert_int_equal(commit("h", "t", 0, 5), KAFKA_COORDINATOR_NOT_AVAILABLE);
	io_set_hook(NULL, NULL);
	assert_string_equal(describe_group("h").state, "Dead"); /* as if it had never been */
	assert_int_equal(commit("h", "t", 0, 6), 0);
	assert_int_equal(offset_of("h", "t", 0), 6);
}

/*  roles  */

static void test_unload_and_load(void **state)
{
	(void)state;
	struct joined j;
	struct synced s;
	char one[128], two[128];
	int32_t partition = coordinator_partition_of(co, str("g"));
	int32_t g = group_of_two("g", one, two, (struct asks){0});
	ASK(&j, "g", .member = one);
	coordinator_unload(co, partition, 0);
	assert_int_equal(j.calls, 1);
	assert_int_equal(j.error, KAFKA_NOT_COORDINATOR);
	assert_int_equal(beat("g", one, NULL, g), KAFKA_NOT_COORDINATOR);
	assert_int_equal(commit("g", "t", 0, 1), KAFKA_NOT_COORDINATOR);
	assert_int_equal(describe_group("g").error, KAFKA_NOT_COORDINATOR);
	assert_int_equal(leave_group("g", one, NULL), KAFKA_NOT_COORDINATOR);
	pass(100000);
	coordinator_load(co, partition, 0);
	coordinator_load(co, partition, 0);
	expect_state("g", "Stable"); /* as in the log: the last generation that had its assignment; sessions begin anew */
	assert_int_equal(beat("g", one, NULL, g), 0);
	/* a parked SyncGroup */
	ASK(&j, "g", .member = one);
	struct joined k;
	ASK(&k, "g", .member = two);
	ask_sync(&s, "g", two, NULL, g + 1, NULL, NULL);
	coordinator_unload(co, partition, 0);
	assert_int_equal(s.calls, 1);
	assert_int_equal(s.error, KAFKA_NOT_COORDINATOR);
	coordinator_unload(co, partition, 0);
	coordinator_load(co, 99, 0);
	coordinator_unload(co, -1, 0);
}

/* A group of that partition. */
static const char *group_in(int32_t partition)
{
	static char name[3][16];
	for (int i = 0;; i++) {
		snprintf(name[partition], sizeof name[partition], "g%d", i);
		if (coordinator_partition_of(co, str(name[partition])) == partition)
			return name[partition];
	}
}

struct asker { pthread_t thread; _Atomic bool answered; int rc; };

static void *need_topic(void *arg)
{
	struct asker *a = arg;
	struct err why = ERR_INIT;
	a->rc = coordinator_need_topic(co, &why);
	a->answered = true;
	return NULL;
}

/* Whose JoinGroup was parked asks for the coordinator at once; its answer may have to wait until all is forgotten, so that it is not waited for here. */
static void ask_again(void *arg, const struct group_join_answer *j)
{
	struct asker *a = arg;
	assert_int_equal(j->error, KAFKA_NOT_COORDINATOR);
	assert_int_equal(pthread_create(&a->thread, NULL, need_topic, a), 0);
	for (int i = 0; i < 200 && !a->answered; i++)
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static void test_the_topic_is_needed_again_while_it_is_forgotten(void **state)
{
	(void)state;
	struct asker asker = {.rc = -1};
	struct group_protocol range = {str("range"), str("m")};
	struct group_join_request q = {.group_id = str(group_in(0)), .member_id = str(""), .protocol_type = str("test"), .client_id = str("client"), .client_host = str("/127.0.0.1"),
				       .protocols = &range, .protocol_count = 1, .session_timeout_ms = 10000, .rebalance_timeout_ms = 60000};
	group_join(co, &q, ask_again, &asker);
	struct topic *t = topics_find(b, "__consumer_offsets");
	assert_int_equal(topics_delete(b, t, false, &err), 0);
	topic_unref(t);
	coordinator_forget_all(co);
	pthread_join(asker.thread, NULL);
	assert_int_equal(asker.rc, 0);
	assert_int_equal(coordinator_need_topic(co, &err), 0);
	for (int32_t i = 0; i < 3; i++)
		assert_int_equal(commit(group_in(i), "t", 0, 1), 0);
}

static void test_stopped(void **state)
{
	(void)state;
	struct joined j;
	ASK(&j, "g", .old = true);
	coordinator_stop(co);
	assert_int_equal(j.calls, 1);
	assert_int_equal(j.error, KAFKA_NOT_COORDINATOR);
	ASK(&j, "g", .old = true);
	assert_int_equal(j.error, KAFKA_COORDINATOR_NOT_AVAILABLE);
	assert_int_equal(beat("g", "m", NULL, 1), KAFKA_COORDINATOR_NOT_AVAILABLE);
	assert_int_equal(coordinator_need_topic(co, &err), ERR_STOPPING);
	coordinator_free(co);
	co = NULL;
}

static void test_before_there_is_a_topic(void **state)
{
	setup(state);
	heap = timer_heap_new();
	open_broker();
	start();
	struct joined j;
	assert_int_equal(coordinator_partitions(co), 50);
	ASK(&j, "g");
	assert_int_equal(j.error, KAFKA_NOT_COORDINATOR);
	assert_int_equal(group_list(co, &(struct group_list_filter){0}, NULL, NULL), 0);
	assert_int_equal(coordinator_need_topic(co, &err), 0);
	assert_int_equal(coordinator_need_topic(co, &err), 0);
	ASK(&j, "g");
	assert_int_equal(j.error, KAFKA_MEMBER_ID_REQUIRED);
	struct topic *t = topics_find(b, "__consumer_offsets");
	assert_int_equal(topic_partition_count(t), 50);
	assert_int_equal(topic_conf_int(t, "segment.bytes"), 104857600);
	topic_unref(t);
}

/* What Java says of these strings. */
static void test_partition_of_a_group(void **state)
{
	(void)state;
	assert_int_equal(java_hash(str("")), 0);
	assert_int_equal(java_hash(str("hello")), 99162322);
	assert_int_equal(java_hash(str("gr\303\274\303\237e")), 98768023);
	assert_int_equal(java_hash(str("\360\237\230\200")), 1772899);
	assert_int_equal(java_hash(str("polygenelubricants")), INT32_MIN);
	assert_int_equal(java_length(str("gr\303\274\303\237e")), 5);
	assert_int_equal(java_length(str("\360\237\230\200")), 2);
	assert_int_equal(java_length((struct gstr){"a\303", 2}), 2);
	assert_int_equal(coordinator_partition_of(co, str("hello")), 99162322 % 3);
	assert_int_equal(coordinator_partition_of(co, str("polygenelubricants")), 0);
	assert_int_equal(java_hash(str("readers-consumer")), -1462150893);
	assert_int_equal(coordinator_partition_of(co, str("readers-consumer")), 1462150893 % 3);
}

/*  lists  */

struct listed_text { char text[400]; };

static void on_listed(void *arg, const struct group_listed *g)
{
	struct listed_text *l = arg;
	size_t n = strlen(l->text);
	snprintf(l->text + n, sizeof l->text - n, "%.*s:%.*s:%s:%s ", g->group_id.n, (const char *)g->group_id.p, g->protocol_type.n, (const char *)g->protocol_type.p, g->state, g->type);
}

static void expect_list(const char *state_name, const char *type, const char *text)
{
	struct listed_text l = {""};
	struct gstr s = str(state_name), t = str(type);
	assert_int_equal(group_list(co, &(struct group_list_filter){&s, &t, state_name != NULL, type != NULL}, on_listed, &l), 0);
	assert_string_equal(l.text, text);
}

static void test_lists(void **state)
{
	(void)state;
	char one[128];
	group_of_one("a", one, (struct asks){0});
	expect_list(NULL, NULL, "a:test:Stable:classic ");
	assert_int_equal(leave_group("a", one, NULL), 0);
	expect_list("stable", NULL, "");
	expect_list(" eMpty ", NULL, "a:test:Empty:classic ");
	expect_list("Empty", "Classic", "a:test:Empty:classic ");
	expect_list(NULL, "consumer", "");
	expect_list("Emptyish", NULL, "");
	assert_int_equal(commit("b", "t", 0, 1), 0);
	expect_list("dead", NULL, "");
}

int main(void)
{
#define ONE(f) cmocka_unit_test_setup_teardown(f, group_setup, group_teardown)
	const struct CMUnitTest tests[] = {
		ONE(test_member_id_is_given_first),
		ONE(test_a_member_that_never_comes_back),
		ONE(test_rebalance_waits_for_who_was_given_an_id),
		ONE(test_initial_delay_grows_with_members),
		ONE(test_join_is_refused),
		ONE(test_protocol_is_voted_on),
		cmocka_unit_test_teardown(test_group_is_full, group_teardown),
		ONE(test_assignments),
		ONE(test_who_is_forgotten_gets_nothing),
		ONE(test_sync_and_heartbeat_are_refused),
		ONE(test_a_newcomer_makes_all_join),
		ONE(test_join_again_as_before),
		ONE(test_the_same_request_twice),
		ONE(test_sessions_end),
		ONE(test_parked_members_are_heard),
		ONE(test_new_members_do_not_wait_for_ever),
		ONE(test_who_does_not_sync_is_out),
		ONE(test_leaving),
		ONE(test_static_member_comes_back),
		ONE(test_static_leader_comes_back),
		ONE(test_static_member_with_another_protocol),
		ONE(test_static_member_comes_back_while_others_wait),
		ONE(test_static_members_stay_when_they_are_late),
		ONE(test_an_administrator_removes_a_static_member),
		ONE(test_assignment_cannot_be_written),
		ONE(test_static_id_cannot_be_written),
		ONE(test_new_group_cannot_be_written),
		ONE(test_unload_and_load),
		ONE(test_the_topic_is_needed_again_while_it_is_forgotten),
		ONE(test_stopped),
		cmocka_unit_test_teardown(test_before_there_is_a_topic, group_teardown),
		ONE(test_partition_of_a_group),
		ONE(test_lists),
	};
	return cmocka_run_group_tests_name("group", tests, NULL, NULL);
}
