/* The rules by which the controller decides, each by its name. */
#include "control_fixture.h"

static const int32_t on123[] = {1, 2, 3};

/* ---- elections ---- */

static void test_a_new_partition_is_led_by_its_first_live_replica(void **state)
{
	(void)state;
	struct world *w = w_new(3);
	w_create_on(w, "t", 3, on123);
	w_expect(w, "t", 0, 1, ISR(1, 2, 3));
	for (int id = 1; id <= 3; id++) {
		assert_true(w->broker[id].told[0][0].any);
		assert_int_equal(w->broker[id].live_brokers, 3);
	}
	w_free(w);
}

static void test_the_first_live_replica_in_sync_leads_when_the_leader_is_lost(void **state)
{
	(void)state;
	struct world *w = w_new(3);
	w_create_on(w, "t", 3, on123);
	w_down(w, 1);
	w_run(w);
	w_expect(w, "t", 0, 2, ISR(2, 3));
	assert_int_equal(w_view(w, "t", 0).leader_epoch, 1);
	assert_int_equal(w->broker[3].told[0][0].leader, 2);
	w_free(w);
}

static void test_the_last_member_stays_a_member_and_leads_when_it_is_back(void **state)
{
	(void)state;
	struct world *w = w_new(2);
	w_create_on(w, "t", 2, (int32_t[]){1, 2});
	w_down(w, 1);
	w_run(w);
	w_down(w, 2);
	w_run(w);
	w_expect(w, "t", 0, -1, ISR(2));
	w_up(w, 1);
	w_run(w);
	w_expect(w, "t", 0, -1, ISR(2));
	w_up(w, 2);
	w_run(w);
	w_expect(w, "t", 0, 2, ISR(2));
	w_free(w);
}

static void test_members_that_are_lost_together_all_stay_members(void **state)
{
	(void)state;
	struct world *w = w_new(3);
	w_create_on(w, "t", 2, (int32_t[]){1, 2});
	w_down(w, 1);
	w_down(w, 2);
	w_run(w);
	w_expect(w, "t", 0, -1, ISR(1, 2));
	w_up(w, 2);
	w_run(w);
	w_expect(w, "t", 0, 2, ISR(2));
	w_free(w);
}

static void test_who_does_not_answer_is_not_elected(void **state)
{
	(void)state;
	struct world *w = w_new(3);
	w_create_on(w, "t", 3, on123);
	w->broker[2].hangs = true;
	w_down(w, 1);
	w_run(w);
	w_expect(w, "t", 0, 3, ISR(2, 3)); /* it may only be slow: the leader will say */
	w_free(w);
}

static void test_nobody_is_taken_out_for_a_leader_that_does_not_answer(void **state)
{
	(void)state;
	struct world *w = w_new(2);
	w_create_on(w, "t", 2, (int32_t[]){1, 2});
	w->broker[1].hangs = true;
	w_down(w, 2);
	w_run(w);
	w_expect(w, "t", 0, 1, ISR(1, 2));
	w_down(w, 1); /* it was dead as well */
	w_run(w);
	w_expect(w, "t", 0, -1, ISR(1, 2));
	w_free(w);
}

static void test_a_quick_restart_is_a_death_and_then_a_birth(void **state)
{
	(void)state;
	struct world *w = w_new(3);
	w_create_on(w, "t", 3, on123);
	w_up(w, 1);
	w_run(w);
	w_expect(w, "t", 0, 2, ISR(2, 3));
	assert_int_equal(w_view(w, "t", 0).leader_epoch, 1);
	assert_true(w->broker[1].full);
	assert_int_equal(w->broker[1].told[0][0].leader, 2);
	w_free(w);
}

static void test_all_members_restarting_quickly_and_cleanly_stay_members_in_a_new_epoch(void **state)
{
	(void)state;
	struct world *w = w_new(3);
	w_create_on(w, "t", 3, on123);
	w_take_batch(w);
	for (int id = 1; id <= 3; id++)
		w_up(w, id);
	w_run(w);
	w_expect(w, "t", 0, 1, ISR(1, 2, 3));
	assert_int_equal(w_view(w, "t", 0).leader_epoch, 1);
	w_free(w);
}

static void test_unclean_elections_only_where_the_topic_allows_them(void **state)
{
	(void)state;
	struct world *w = w_new(2);
	w_create_on(w, "t", 2, (int32_t[]){1, 2});
	w_alter(w, 1, 0, 0, ISR(1));
	w_run(w);
	w_down(w, 1);
	w_run(w);
	w_expect(w, "t", 0, -1, ISR(1));
	w->allows_unclean = true;
	brain_topic_unclean(w->b, "t", 1);
	w_run(w);
	w_expect(w, "t", 0, 2, ISR(2));
	assert_true(w_view(w, "t", 0).recovering);
	/* The leader says when it has recovered. */
	w_alter_as(w, 2, 0, 0, w->topic[0].state[0].leader_epoch, w->topic[0].state[0].version, false, ISR(2));
	w_run(w);
	assert_false(w_view(w, "t", 0).recovering);
	w_free(w);
}

static void test_an_unclean_election_that_a_client_asks_for(void **state)
{
	(void)state;
	struct world *w = w_new(3);
	w_create_on(w, "t", 2, (int32_t[]){1, 2});
	w_elect(w, "t", 0, true);
	w_run(w);
	assert_int_equal(last_answer(w)->item_error[0], KAFKA_ELECTION_NOT_NEEDED);
	w_alter(w, 1, 0, 0, ISR(1));
	w_run(w);
	w_down(w, 1);
	w_run(w);
	w->allows_unclean = true;
	w_elect(w, "t", 0, true);
	w_run(w);
	assert_int_equal(last_answer(w)->item_error[0], KAFKA_NONE);
	w_expect(w, "t", 0, 2, ISR(2));
	w_down(w, 2);
	w_run(w);
	w_elect(w, "t", 0, true);
	w_run(w);
	assert_int_equal(last_answer(w)->item_error[0], KAFKA_ELIGIBLE_LEADERS_NOT_AVAILABLE);
	w_free(w);
}

static void test_a_failed_disk_is_a_lost_replica(void **state)
{
	(void)state;
	struct world *w = w_new(3);
	w_create_on(w, "t", 3, on123);
	brain_broker_lost_dir(w->b, 1);
	assert_true(w_take_request(w, 1));
	const struct leader_and_isr_request *q = w->broker[1].request.message;
	struct leader_and_isr_response_partition part = {.partition_index = 0, .error_code = KAFKA_KAFKA_STORAGE_ERROR};
	struct leader_and_isr_response_topic topic = {.topic_id = q->topic_states.v[0].topic_id, .partition_errors = {&part, 1}};
	struct leader_and_isr_response a = {.topics = {&topic, 1}};
	w->broker[1].has = false;
	brain_answered(w->b, 1, w->broker[1].epoch, &a);
	w->broker[1].hangs = true;
	w_run(w);
	w_expect(w, "t", 0, 2, ISR(2, 3));
	w_free(w);
}

/* ---- unclean brokers ---- */

static void test_a_broker_from_an_unclean_stop_leaves_every_isr_with_another_member_before_it_is_told_anything(void **state)
{
	(void)state;
	struct world *w = w_new(3);
	w_create(w, "t", 12, 3);
	w_register(w, 2, false);
	w_run(w); /* the fixture fails where it is told too early */
	for (int p = 0; p < 12; p++) {
		assert_false(ids_has(w_view(w, "t", p).isr, 2));
		assert_int_equal(ids_n(w_view(w, "t", p).isr), 2);
	}
	assert_int_equal(w->ledger[2].l.settled_epoch, w->broker[2].epoch);
	assert_false(w->ledger[2].l.unclean);
	w_free(w);
}

static void test_an_only_member_leads_again_after_an_unclean_stop(void **state)
{
	(void)state;
	struct world *w = w_new(2);
	w_create_on(w, "t", 2, (int32_t[]){1, 2});
	w_alter(w, 1, 0, 0, ISR(1));
	w_run(w);
	w_down(w, 1);
	w_run(w);
	w_register(w, 1, false);
	w_run(w);
	w_expect(w, "t", 0, 1, ISR(1));
	w_free(w);
}

static void test_when_all_members_are_unclean_the_fullest_leads(void **state)
{
	(void)state;
	struct world *w = w_new(3);
	w_create_on(w, "t", 3, on123);
	for (int id = 1; id <= 3; id++)
		w_down(w, id);
	w_run(w);
	w->broker[1].end_epoch[0] = 0, w->broker[1].end[0] = 900;
	w->broker[2].end_epoch[0] = 1, w->broker[2].end[0] = 100;
	w->broker[3].end_epoch[0] = 1, w->broker[3].end[0] = 120;
	w_register(w, 1, false);
	w_run(w);
	w_expect(w, "t", 0, -1, ISR(1, 2, 3));
	w_register(w, 2, false);
	w_run(w);
	w_expect(w, "t", 0, -1, ISR(1, 2, 3));
	w_register(w, 3, false);
	w_run(w);
	w_expect(w, "t", 0, 3, ISR(3));
	assert_false(w_view(w, "t", 0).recovering);
	w_free(w);
}

/* The power fails everywhere; hosts are back before ZooKeeper has noticed that the others are gone. */
static void test_a_power_cut_everywhere_does_not_take_the_fullest_out_for_one_that_only_seems_alive(void **state)
{
	(void)state;
	struct world *w = w_new(3);
	w_create_on(w, "t", 3, on123);
	w->broker[1].end[0] = 500;
	w->broker[2].end[0] = 100;
	w->broker[3].end[0] = 200;
	for (int id = 1; id <= 3; id++)
		w->broker[id].hangs = true;
	w_begin(w);
	w_register(w, 1, false);
	w_run(w);
	w_expect(w, "t", 0, w_view(w, "t", 0).leader, ISR(1, 2, 3));
	w_register(w, 2, false);
	w_run(w);
	w_expect(w, "t", 0, w_view(w, "t", 0).leader, ISR(1, 2, 3));
	w_register(w, 3, false);
	w_run(w);
	w_expect(w, "t", 0, 1, ISR(1));
	w_free(w);
}

static void test_a_member_that_may_be_clean_is_waited_for_and_not_for_ever(void **state)
{
	(void)state;
	struct world *w = w_new(3);
	w_create_on(w, "t", 3, on123);
	for (int id = 1; id <= 3; id++)
		w_down(w, id);
	w_run(w);
	w->broker[2].end[0] = 7;
	w_register(w, 1, false);
	w_register(w, 2, false);
	w_run(w);
	w_expect(w, "t", 0, -1, ISR(1, 2, 3));
	assert_true(brain_deadline(w->b) == w->now + w->o.unclean_wait_ms);
	w->now += w->o.unclean_wait_ms;
	brain_tick(w->b, w->now);
	w_run(w);
	w_expect(w, "t", 0, 2, ISR(2));
	w_free(w);
}

static void test_a_clean_member_that_comes_back_leads_before_all_unclean_ones(void **state)
{
	(void)state;
	struct world *w = w_new(3);
	w_create_on(w, "t", 3, on123);
	for (int id = 1; id <= 3; id++)
		w_down(w, id);
	w_run(w);
	w_register(w, 1, false);
	w_register(w, 2, false);
	w_run(w);
	w_up(w, 3);
	w_run(w);
	w_expect(w, "t", 0, 3, ISR(3));
	w_free(w);
}

static void test_what_is_unclean_stays_so_over_a_clean_restart_and_a_new_controller(void **state)
{
	(void)state;
	struct world *w = w_new(3);
	w_create_on(w, "t", 2, (int32_t[]){1, 2});
	w_down(w, 1);
	w_down(w, 2);
	w_run(w);
	w_register(w, 1, false);
	w_run(w);
	assert_true(w->ledger[1].l.unclean);
	w_down(w, 1);
	w_run(w);
	w_begin(w);
	w_up(w, 1); /* a restart within the same boot: the disk still lacks what it lacked */
	w_run(w);
	w_expect(w, "t", 0, -1, ISR(1, 2));
	w_up(w, 2);
	w_run(w);
	w_expect(w, "t", 0, 2, ISR(2));
	w_free(w);
}

static void test_a_member_that_joined_again_after_its_unclean_stop_is_one_for_a_new_controller(void **state)
{
	(void)state;
	struct world *w = w_new(2);
	w_create_on(w, "t", 2, (int32_t[]){1, 2});
	w_register(w, 2, false);
	w_run(w);
	w_alter(w, 1, 0, 0, ISR(1, 2));
	w_run(w);
	w_begin(w);
	w_run(w);
	w_expect(w, "t", 0, 1, ISR(1, 2));
	w_free(w);
}

/* An ISR with the member's last life in it is written while the member comes back without what it had. */
static void test_a_birth_while_a_write_is_under_way_is_not_overlooked(void **state)
{
	(void)state;
	struct world *w = w_new(2);
	w_create_on(w, "t", 2, (int32_t[]){1, 2});
	w_alter(w, 1, 0, 0, ISR(1));
	w_run(w);
	w_alter(w, 1, 0, 0, ISR(1, 2));
	assert_true(w_take_batch(w));
	w_register(w, 2, false);
	assert_true(w_take_request(w, 2)); /* nothing but who is there */
	assert_int_equal(w->broker[2].request.api_key, API_UPDATE_METADATA);
	w_answer_request(w, 2);
	assert_false(w_take_request(w, 2));
	w_do_batch(w);
	w_run(w);
	w_expect(w, "t", 0, 1, ISR(1));
	w_free(w);
}

/* It was in the ISR as that was known when it came back; what was being written has taken it out. There is nothing left that it must be kept from. */
static void test_a_birth_while_it_is_taken_out_of_the_isr_holds_nothing_back(void **state)
{
	(void)state;
	struct world *w = w_new(3);
	w_create_on(w, "t", 3, on123);
	w_down(w, 3);
	for (int32_t id = 1; id <= 2; id++) { /* who leads shows that it is alive */
		while (w_take_request(w, id))
			w_answer_request(w, id);
	}
	assert_true(w_take_batch(w));
	w_register(w, 3, true);
	w_do_batch(w);
	w_run(w);
	w_expect(w, "t", 0, 1, ISR(1, 2));
	assert_true(w->broker[3].told[0][0].any);
	assert_int_equal(w->broker[3].told[0][0].leader_epoch, w_view(w, "t", 0).leader_epoch);
	w_alter(w, 1, 0, 0, ISR(1, 2, 3));
	w_run(w);
	w_expect(w, "t", 0, 1, ISR(1, 2, 3));
	w_free(w);
}

/* ---- AlterPartition ---- */

static void test_alter_partition_is_refused_by_the_rules(void **state)
{
	(void)state;
	struct world *w = w_new(4);
	w_create_on(w, "t", 3, on123);
	struct w_state *s = &w->topic[0].state[0];
	const struct { int32_t from, leader_epoch, partition_epoch; bool recovering; struct w_list isr; int16_t error; } tries[] = {
		{1, 0, 0, false, {2, {1, 2}}, KAFKA_NONE},
		{1, 0, 0, false, {2, {1, 2}}, KAFKA_NONE}, /* the answer was lost: it is as it was asked for */
		{1, 0, 0, false, {1, {1}}, KAFKA_INVALID_UPDATE_VERSION},
		{1, 1, 1, false, {1, {1}}, KAFKA_NOT_CONTROLLER},
		{1, 0, 2, false, {1, {1}}, KAFKA_NOT_CONTROLLER},
		{2, 0, 1, false, {1, {2}}, KAFKA_INVALID_REQUEST},
		{1, 0, 1, false, {1, {2}}, KAFKA_INVALID_REQUEST},
		{1, 0, 1, false, {2, {1, 4}}, KAFKA_INVALID_REQUEST},
		{1, 0, 1, false, {2, {1, 1}}, KAFKA_INVALID_REQUEST},
		{1, 0, 1, true, {1, {1}}, KAFKA_INVALID_REQUEST},
		{1, 0, 1, false, {3, {1, 2, 3}}, KAFKA_NONE},
	};
	for (size_t i = 0; i < sizeof tries / sizeof *tries; i++) {
		w_alter_as(w, tries[i].from, 0, 0, tries[i].leader_epoch, tries[i].partition_epoch, tries[i].recovering, tries[i].isr.n, tries[i].isr.v);
		w_run(w);
		if (last_answer(w)->item_error[0] != tries[i].error)
			fail_msg("try %zu: %s", i, kafka_error_name(last_answer(w)->item_error[0]));
	}
	assert_int_equal(s->leader_epoch, 0);
	w_down(w, 3);
	w_run(w);
	w_alter_as(w, 1, 0, 0, 0, s->version, false, ISR(1));
	w_run(w);
	assert_int_equal(last_answer(w)->item_error[0], KAFKA_FENCED_LEADER_EPOCH);
	w_alter(w, 1, 0, 0, ISR(1, 2, 3));
	w_run(w);
	assert_int_equal(last_answer(w)->item_error[0], KAFKA_INELIGIBLE_REPLICA);
	w_free(w);
}

static void test_alter_partition_of_an_older_life_is_refused(void **state)
{
	(void)state;
	struct world *w = w_new(2);
	w_create_on(w, "t", 2, (int32_t[]){1, 2});
	w_alter(w, 1, 0, 0, ISR(1));
	w_run(w);
	int64_t newer = w->broker[1].epoch;
	w->broker[1].epoch--;
	w_alter(w, 1, 0, 0, ISR(1, 2));
	w->broker[1].epoch = newer;
	w_run(w);
	assert_int_equal(last_answer(w)->error, KAFKA_STALE_BROKER_EPOCH);
	/* A member that the leader has seen in a life before this one. */
	w->broker[2].epoch--;
	w_alter(w, 1, 0, 0, ISR(1, 2));
	w->broker[2].epoch++;
	w_run(w);
	assert_int_equal(last_answer(w)->item_error[0], KAFKA_INELIGIBLE_REPLICA);
	w_free(w);
}

static void test_a_change_of_the_isr_keeps_the_leaders_epoch(void **state)
{
	(void)state;
	struct world *w = w_new(2);
	w_create_on(w, "t", 2, (int32_t[]){1, 2});
	w_alter(w, 1, 0, 0, ISR(1));
	w_run(w);
	w_expect(w, "t", 0, 1, ISR(1));
	assert_int_equal(w_view(w, "t", 0).leader_epoch, 0);
	assert_int_equal(w_view(w, "t", 0).partition_epoch, 1);
	w_free(w);
}

/* ---- controlled shutdown ---- */

static void test_a_controlled_shutdown_moves_leaders_and_leaves_isrs(void **state)
{
	(void)state;
	struct world *w = w_new(3);
	w_create(w, "t", 9, 3);
	w_shutdown(w, 2, w->broker[2].epoch);
	w_run(w);
	assert_int_equal(last_answer(w)->error, KAFKA_NONE);
	assert_int_equal(last_answer(w)->remaining, 0);
	for (int p = 0; p < 9; p++) {
		assert_int_not_equal(w_view(w, "t", p).leader, 2);
		assert_false(ids_has(w_view(w, "t", p).isr, 2));
	}
	assert_int_equal(w->broker[2].stopped[0], 6); /* those that it followed */
	struct w_state *s = &w->topic[0].state[0];
	w_alter(w, s->leader, 0, 0, ISR(1, 2, 3));
	w_run(w);
	assert_int_equal(last_answer(w)->item_error[0], KAFKA_INELIGIBLE_REPLICA);
	w_free(w);
}

static void test_leaderships_are_not_moved_to_a_broker_that_hangs(void **state)
{
	(void)state;
	struct world *w = w_new(3);
	w_create_on(w, "t", 3, on123);
	w_create_on(w, "u", 2, (int32_t[]){1, 3});
	w->broker[2].hangs = true;
	int answers = w->answers;
	w_shutdown(w, 1, w->broker[1].epoch);
	w_run(w);
	w_expect(w, "t", 0, 3, ISR(2, 3));
	w_up(w, 1);
	w_run(w);
	assert_int_equal(w->answers, answers + 1);
	/* The end of a reassignment: what the others have must not go for one that may be dead. */
	w_reassign(w, "u", 0, true, ISR(2));
	w_run(w);
	w_alter(w, 3, 1, 0, ISR(3, 2));
	w_run(w);
	w_expect(w, "u", 0, 3, ISR(3, 2));
	w->broker[2].hangs = false;
	w_run(w);
	w_expect(w, "u", 0, 2, ISR(2));
	w_free(w);
}

static void test_a_controlled_shutdown_tells_what_it_cannot_move(void **state)
{
	(void)state;
	struct world *w = w_new(2);
	w_create_on(w, "one", 1, (int32_t[]){1});
	w_create_on(w, "two", 2, (int32_t[]){1, 2});
	w_alter(w, 1, 1, 0, ISR(1));
	w_run(w);
	w_shutdown(w, 1, w->broker[1].epoch);
	w_run(w);
	assert_int_equal(last_answer(w)->remaining, 1); /* of a single replica nothing can be moved, and Kafka does not count it */
	w_expect(w, "two", 0, 1, ISR(1));
	w_shutdown(w, 1, w->broker[1].epoch - 1);
	assert_int_equal(last_answer(w)->error, KAFKA_STALE_BROKER_EPOCH);
	w_shutdown(w, 7, 1);
	assert_int_equal(last_answer(w)->error, KAFKA_BROKER_NOT_AVAILABLE);
	w_free(w);
}

/* ---- preferred leaders ---- */

static void test_the_preferred_leader_gets_it_back_when_asked_for(void **state)
{
	(void)state;
	struct world *w = w_new(3);
	w_create_on(w, "t", 3, on123);
	w_elect(w, "t", 0, false);
	w_run(w);
	assert_int_equal(last_answer(w)->item_error[0], KAFKA_ELECTION_NOT_NEEDED);
	w_up(w, 1);
	w_run(w);
	w_elect(w, "t", 0, false);
	w_run(w);
	assert_int_equal(last_answer(w)->item_error[0], KAFKA_PREFERRED_LEADER_NOT_AVAILABLE);
	w_alter(w, 2, 0, 0, ISR(1, 2, 3));
	w_run(w);
	w_elect(w, NULL, 0, false);
	w_run(w);
	assert_int_equal(last_answer(w)->items, 1);
	assert_int_equal(last_answer(w)->item_error[0], KAFKA_NONE);
	w_expect(w, "t", 0, 1, ISR(1, 2, 3));
	w_elect(w, NULL, 0, false);
	w_run(w);
	assert_int_equal(last_answer(w)->items, 0); /* of all: only what needed an election */
	w_elect(w, "nothing", 0, false);
	assert_int_equal(last_answer(w)->item_error[0], KAFKA_UNKNOWN_TOPIC_OR_PARTITION);
	w_free(w);
}

static void test_leaders_are_balanced_by_themselves_beyond_the_allowed_imbalance(void **state)
{
	(void)state;
	struct world *w = w_new(3);
	w->o.auto_balance = true;
	w_begin(w);
	w_run(w);
	w_create(w, "t", 30, 3);
	w_up(w, 1);
	w_run(w);
	for (int p = 0; p < 30; p++)
		w_alter(w, w->topic[0].state[p].leader, 0, p, ISR(1, 2, 3));
	w_run(w);
	w->now = brain_deadline(w->b);
	brain_tick(w->b, w->now);
	w_run(w);
	for (int p = 0; p < 30; p++)
		assert_int_equal(w_view(w, "t", p).leader, ids_first(w_view(w, "t", p).replicas));
	w_free(w);
}

/* ---- topics ---- */

static void test_a_topic_is_refused_by_the_rules(void **state)
{
	(void)state;
	struct world *w = w_new(3);
	w_create(w, "t", 1, 1);
	struct create_topics_request_assignment a[2] = {{0, {(int32_t[]){1, 2}, 2}}, {1, {(int32_t[]){2, 3}, 2}}};
	struct brain_new_topic n = {.name = "t", .id = {1}, .partitions = 1, .replication_factor = 1};
	brain_create_topic(w->b, &n, &t_topic);
	assert_int_equal(last_answer(w)->error, KAFKA_TOPIC_ALREADY_EXISTS);
	n.name = "u";
	n.replication_factor = 4;
	brain_create_topic(w->b, &n, &t_topic);
	assert_int_equal(last_answer(w)->error, KAFKA_INVALID_REPLICATION_FACTOR);
	n.replication_factor = 1;
	n.partitions = 0;
	brain_create_topic(w->b, &n, &t_topic);
	assert_int_equal(last_answer(w)->error, KAFKA_INVALID_PARTITIONS);
	n.partitions = 1000000;
	brain_create_topic(w->b, &n, &t_topic);
	assert_int_equal(last_answer(w)->error, KAFKA_INVALID_PARTITIONS);
	n.assignment = a;
	n.assignments = 2;
	a[1].partition_index = 0;
	brain_create_topic(w->b, &n, &t_topic);
	assert_int_equal(last_answer(w)->error, KAFKA_INVALID_REPLICA_ASSIGNMENT);
	a[1].partition_index = 1;
	a[1].broker_ids.n = 1;
	brain_create_topic(w->b, &n, &t_topic);
	assert_int_equal(last_answer(w)->error, KAFKA_INVALID_REPLICA_ASSIGNMENT);
	a[1].broker_ids.n = 2;
	n.validate_only = true;
	brain_create_topic(w->b, &n, &t_topic);
	assert_int_equal(last_answer(w)->error, KAFKA_NONE);
	assert_int_equal(brain_partitions(w->b, "u"), -1);
	w_free(w);
}

static void test_partitions_are_added(void **state)
{
	(void)state;
	struct world *w = w_new(3);
	w_create(w, "t", 2, 2);
	brain_create_partitions(w->b, "t", -1, 5, NULL, 0, false, &t_topic);
	w_run(w);
	assert_int_equal(last_answer(w)->error, KAFKA_NONE);
	assert_int_equal(w->topic[0].parts, 5);
	for (int p = 0; p < 5; p++)
		assert_true(w_view(w, "t", p).leader > 0 && ids_n(w_view(w, "t", p).isr) == 2);
	brain_create_partitions(w->b, "t", -1, 5, NULL, 0, false, &t_topic);
	assert_int_equal(last_answer(w)->error, KAFKA_INVALID_PARTITIONS);
	w_free(w);
}

static void test_a_large_topic_takes_several_multis_each_below_the_bound(void **state)
{
	(void)state;
	struct world *w = w_new(3);
	w->o.max_multi_bytes = 6000;
	w_begin(w);
	w_create(w, "t", 60, 3);
	assert_true(w->multis > 4);
	int before = w->multis;
	w_down(w, 1);
	w_run(w);
	assert_true(w->multis > before + 2);
	brain_delete_topic(w->b, "t", any_id, false, &t_topic);
	w_run(w);
	assert_int_equal(last_answer(w)->error, KAFKA_NONE);
	assert_false(w->topic[0].exists || w->topic[0].marked || w->topic[0].partitions);
	w_free(w);
}

static void test_a_topic_is_deleted_and_made_anew_with_a_broker_away(void **state)
{
	(void)state;
	struct world *w = w_new(3);
	w_create(w, "t", 3, 3);
	w_down(w, 3);
	w_run(w);
	brain_delete_topic(w->b, "t", any_id, false, &t_topic);
	w_run(w);
	assert_int_equal(last_answer(w)->error, KAFKA_NONE);
	assert_int_equal(brain_partitions(w->b, "t"), -1);
	for (int id = 1; id <= 2; id++) {
		assert_int_equal(w->broker[id].deleted[0], 3);
		assert_true(w->broker[id].told_of_gone[0] > 0);
	}
	w_create(w, "t", 2, 2);
	w_up(w, 3);
	w_run(w);
	assert_true(w->broker[3].full); /* whole: what it has and is not told of is a stray */
	for (int p = 0; p < 3; p++)
		assert_true(!w->broker[3].told[0][p].any || memcmp(w->broker[3].told[0][p].id, w->topic[0].id, 16) == 0);
	w_free(w);
}

static void test_a_deletion_waits_for_live_brokers_and_not_for_dead_ones(void **state)
{
	(void)state;
	struct world *w = w_new(3);
	w_create(w, "t", 3, 3);
	int answers = w->answers;
	w->broker[2].hangs = true;
	brain_delete_topic(w->b, "t", any_id, false, &t_topic);
	brain_delete_topic(w->b, "t", any_id, false, &t_topic);
	w_run(w);
	assert_int_equal(w->answers, answers);
	assert_true(w->topic[0].marked && w->topic[0].exists);
	w_down(w, 2);
	w_run(w);
	assert_int_equal(w->answers, answers + 2);
	assert_false(w->topic[0].exists);
	w_free(w);
}

static int sealed(const struct world *w)
{
	int n = 0;
	for (int id = 0; id < W_BROKERS; id++)
		n += w->broker[id].sealed[0];
	return n;
}

static void test_an_empty_topic_is_sealed_everywhere_before_it_is_deleted(void **state)
{
	(void)state;
	struct world *w = w_new(3);
	w_create(w, "t", 6, 2);
	w->broker[2].hangs = true;
	brain_delete_topic(w->b, "t", any_id, true, &t_topic);
	w_run(w);
	assert_int_equal(sealed(w), 4);
	assert_true(w->topic[0].exists && !w->topic[0].marked);
	w->broker[2].hangs = false;
	w_run(w);
	assert_int_equal(last_answer(w)->error, KAFKA_NONE);
	assert_int_equal(sealed(w), 6);
	assert_false(w->topic[0].exists);
	w_free(w);
}

static void test_a_topic_that_holds_messages_is_unsealed_and_stays(void **state)
{
	(void)state;
	struct world *w = w_new(3);
	w_create(w, "t", 6, 2);
	w->broker[3].seal_error = KAFKA_INVALID_REQUEST;
	brain_delete_topic(w->b, "t", any_id, true, &t_topic);
	brain_delete_topic(w->b, "t", any_id, true, &t_topic);
	int answers = w->answers;
	w_run(w);
	assert_int_equal(w->answers, answers + 2);
	assert_int_equal(last_answer(w)->error, KAFKA_INVALID_REQUEST);
	assert_int_equal(sealed(w), 0);
	assert_true(w->topic[0].exists && !w->topic[0].marked);
	w->broker[3].seal_error = KAFKA_NONE;
	brain_delete_topic(w->b, "t", any_id, true, &t_topic);
	w_run(w);
	assert_int_equal(last_answer(w)->error, KAFKA_NONE);
	w_free(w);
}

static void test_a_seal_ends_with_its_leadership(void **state)
{
	(void)state;
	struct world *w = w_new(3);
	w_create(w, "t", 6, 2);
	w->broker[2].hangs = true;
	brain_delete_topic(w->b, "t", any_id, true, &t_topic);
	w_run(w); /* 1 and 3 have sealed what they lead */
	w_down(w, 1);
	w_run(w);
	w->broker[2].hangs = false;
	w_run(w);
	assert_int_equal(last_answer(w)->error, KAFKA_OPERATION_NOT_ATTEMPTED);
	assert_true(w->topic[0].exists && !w->topic[0].marked);
	brain_delete_topic(w->b, "t", any_id, true, &t_topic);
	w_run(w);
	assert_int_equal(last_answer(w)->error, KAFKA_NONE);
	assert_false(w->topic[0].exists);
	w_free(w);
}

static void test_a_leader_that_dies_has_sealed_nothing(void **state)
{
	(void)state;
	struct world *w = w_new(3);
	w_create(w, "t", 3, 1);
	w->broker[2].hangs = true;
	brain_delete_topic(w->b, "t", any_id, true, &t_topic);
	w_run(w);
	w_down(w, 2);
	w_run(w);
	assert_int_equal(last_answer(w)->error, KAFKA_LEADER_NOT_AVAILABLE);
	assert_int_equal(w->broker[1].sealed[0] + w->broker[3].sealed[0], 0);
	brain_delete_topic(w->b, "t", any_id, true, &t_topic);
	assert_int_equal(last_answer(w)->error, KAFKA_LEADER_NOT_AVAILABLE);
	brain_delete_topic(w->b, "t", any_id, false, &t_topic);
	w_run(w);
	assert_int_equal(last_answer(w)->error, KAFKA_NONE);
	w_free(w);
}

static void test_whoever_waits_for_seals_has_what_he_wants_when_the_topic_is_deleted(void **state)
{
	(void)state;
	struct world *w = w_new(3);
	w_create(w, "t", 3, 2);
	w->broker[2].hangs = true;
	int answers = w->answers;
	brain_delete_topic(w->b, "t", any_id, true, &t_topic);
	w_run(w);
	brain_delete_topic(w->b, "t", any_id, false, &t_topic);
	w->broker[2].hangs = false;
	w_run(w);
	assert_int_equal(w->answers, answers + 2);
	assert_int_equal(last_answer(w)->error, KAFKA_NONE);
	assert_false(w->topic[0].exists);
	w_free(w);
}

static void test_a_deletion_is_gone_on_with_by_the_next_controller(void **state)
{
	(void)state;
	struct world *w = w_new(3);
	w_create(w, "t", 3, 3);
	w->broker[2].hangs = true;
	brain_delete_topic(w->b, "t", any_id, false, &t_topic);
	w_run(w);
	w_begin(w);
	assert_int_equal(last_answer(w)->error, KAFKA_NOT_CONTROLLER);
	w->broker[2].hangs = false;
	w_run(w);
	assert_false(w->topic[0].exists || w->topic[0].marked);
	w_free(w);
}

static void test_a_topic_that_was_half_made_is_finished_by_the_next_controller(void **state)
{
	(void)state;
	struct world *w = w_new(3);
	struct brain_new_topic n = {.name = "t", .id = {7}, .partitions = 3, .replication_factor = 2, .unclean = -1};
	brain_create_topic(w->b, &n, &t_topic);
	assert_true(w_take_batch(w));
	w_do_batch(w);
	assert_true(w->topic[0].exists && !w->topic[0].state[0].exists);
	w_begin(w);
	w_run(w);
	for (int p = 0; p < 3; p++)
		assert_true(w_view(w, "t", p).leader > 0);
	w_free(w);
}

/* ---- reassignment ---- */

static void test_a_reassignment_adds_first_and_removes_when_all_have_caught_up(void **state)
{
	(void)state;
	struct world *w = w_new(5);
	w_create_on(w, "t", 3, on123);
	w_reassign(w, "t", 0, true, ISR(3, 4, 5));
	w_run(w);
	assert_int_equal(last_answer(w)->item_error[0], KAFKA_NONE);
	struct brain_view v = w_view(w, "t", 0);
	assert_int_equal(ids_n(v.replicas), 5);
	assert_int_equal(ids_n(v.adding), 2);
	assert_int_equal(ids_n(v.removing), 2);
	assert_int_equal(v.leader, 1);
	assert_true(w->broker[4].told[0][0].any && w->broker[5].told[0][0].any);
	struct list_partition_reassignments_request list;
	wire_init(&wire_list_partition_reassignments_request, &list);
	brain_list_reassignments(w->b, &list, &t_list);
	assert_int_equal(last_answer(w)->items, 1);
	w_alter(w, 1, 0, 0, ISR(1, 2, 3, 4));
	w_run(w);
	assert_int_equal(ids_n(w_view(w, "t", 0).replicas), 5);
	w_alter(w, 1, 0, 0, ISR(1, 2, 3, 4, 5));
	w_run(w);
	w_expect(w, "t", 0, 3, ISR(3, 4, 5));
	v = w_view(w, "t", 0);
	assert_true(ids_n(v.replicas) == 3 && v.replicas->v[0] == 3 && !ids_n(v.adding) && !ids_n(v.removing));
	assert_int_equal(w->broker[1].deleted[0], 1);
	assert_int_equal(w->broker[2].deleted[0], 1);
	brain_list_reassignments(w->b, &list, &t_list);
	assert_int_equal(last_answer(w)->items, 0);
	w_free(w);
}

static void test_a_reassignment_can_be_cancelled_and_replaced(void **state)
{
	(void)state;
	struct world *w = w_new(6);
	w_create_on(w, "t", 3, on123);
	w_reassign(w, "t", 0, true, -1, NULL);
	w_run(w);
	assert_int_equal(last_answer(w)->item_error[0], KAFKA_NO_REASSIGNMENT_IN_PROGRESS);
	w_reassign(w, "t", 0, true, ISR(1, 2, 4));
	w_run(w);
	w_reassign(w, "t", 0, true, ISR(1, 2, 5));
	w_run(w);
	assert_int_equal(w->broker[4].deleted[0], 1);
	assert_int_equal(ids_n(w_view(w, "t", 0).replicas), 4);
	int32_t epoch = w->broker[4].delete_epoch;
	w_reassign(w, "t", 0, true, ISR(1, 2, 4)); /* back again: a stop of before that comes late is of an epoch that is over */
	w_run(w);
	assert_true(epoch >= 0 && w->broker[4].told[0][0].any && w_view(w, "t", 0).leader_epoch > epoch);
	w_reassign(w, "t", 0, true, ISR(1, 2, 5));
	w_run(w);
	w_reassign(w, "t", 0, true, -1, NULL);
	w_run(w);
	assert_int_equal(last_answer(w)->item_error[0], KAFKA_NONE);
	assert_int_equal(w->broker[5].deleted[0], 2);
	w_expect(w, "t", 0, 1, ISR(1, 2, 3));
	assert_int_equal(ids_n(w_view(w, "t", 0).replicas), 3);
	w_free(w);
}

static void test_a_reassignment_is_refused_by_the_rules(void **state)
{
	(void)state;
	struct world *w = w_new(4);
	w_create_on(w, "t", 3, on123);
	const struct { bool any_factor; struct w_list to; int16_t error; } tries[] = {
		{true, {0, {0}}, KAFKA_INVALID_REPLICA_ASSIGNMENT}, {true, {2, {1, 1}}, KAFKA_INVALID_REPLICA_ASSIGNMENT}, {true, {2, {1, -3}}, KAFKA_INVALID_REPLICA_ASSIGNMENT},
		{true, {2, {1, 7}}, KAFKA_INVALID_REPLICA_ASSIGNMENT}, {false, {2, {1, 2}}, KAFKA_INVALID_REPLICATION_FACTOR}, {true, {2, {1, 2}}, KAFKA_NONE},
	};
	for (size_t i = 0; i < sizeof tries / sizeof *tries; i++) {
		w_reassign(w, "t", 0, tries[i].any_factor, tries[i].to.n, tries[i].to.v);
		w_run(w);
		if (last_answer(w)->item_error[0] != tries[i].error)
			fail_msg("try %zu: %s", i, kafka_error_name(last_answer(w)->item_error[0]));
	}
	w_expect(w, "t", 0, 1, ISR(1, 2)); /* fewer replicas are there at once */
	w_reassign(w, "none", 0, true, ISR(1, 2));
	assert_int_equal(last_answer(w)->item_error[0], KAFKA_UNKNOWN_TOPIC_OR_PARTITION);
	w_free(w);
}

static void test_many_partitions_of_a_topic_are_reassigned_in_few_writes_of_its_node(void **state)
{
	(void)state;
	struct world *w = w_new(4);
	w_create(w, "t", 40, 2);
	int32_t before = w->topic[0].version;
	for (int p = 0; p < 40; p++)
		w_reassign(w, "t", p, true, ISR(3, 4));
	w_run(w);
	assert_true(w->topic[0].version <= before + 2);
	w_free(w);
}

/* ---- fences ---- */

static void test_a_broker_that_refuses_connections_is_fenced_durably_before_anybody_takes_its_place(void **state)
{
	(void)state;
	struct world *w = w_new(3);
	w_create_on(w, "t", 3, on123);
	w->broker[1].hangs = true;
	brain_broker_refuses(w->b, 1, w->broker[1].epoch - 1); /* of an earlier life */
	w_run(w);
	w_expect(w, "t", 0, 1, ISR(1, 2, 3));
	brain_broker_refuses(w->b, 1, w->broker[1].epoch);
	assert_true(w_take_batch(w));
	assert_int_equal(w->batch.multi[0].op[0].kind, OP_SET_LEDGER);
	w_do_batch(w);
	assert_int_equal(w->ledger[1].l.fenced_epoch, w->broker[1].epoch);
	w_run(w);
	w_expect(w, "t", 0, 2, ISR(2, 3));
	w_begin(w); /* a later controller finds the registration, and the fence */
	w_run(w);
	assert_false(brain_alive(w->b, 1));
	w_alter(w, 1, 0, 0, ISR(1));
	assert_int_equal(last_answer(w)->error, KAFKA_STALE_BROKER_EPOCH);
	w_down(w, 1);
	w_up(w, 1);
	w_run(w);
	assert_true(brain_alive(w->b, 1));
	w_free(w);
}

static void test_a_newer_controller_ends_this_one(void **state)
{
	(void)state;
	struct world *w = w_new(2);
	w_create_on(w, "t", 2, (int32_t[]){1, 2});
	w_alter(w, 1, 0, 0, ISR(1));
	w_take_batch(w);
	w_do_batch(w);
	assert_true(w_take_request(w, 2));
	struct update_metadata_response a = {.error_code = KAFKA_STALE_CONTROLLER_EPOCH};
	brain_answered(w->b, 2, w->broker[2].epoch, &a);
	assert_int_equal(brain_failed(w->b, NULL), ERR_NOT_LEADER);
	w_alter(w, 1, 0, 0, ISR(1));
	assert_int_equal(last_answer(w)->error, KAFKA_NOT_CONTROLLER);
	w_free(w);
}

/* ---- telling brokers ---- */

static void test_a_slow_broker_is_told_once_of_what_changed_often(void **state)
{
	(void)state;
	struct world *w = w_new(3);
	w_create_on(w, "t", 3, on123);
	w->broker[3].hangs = true;
	w_alter(w, 1, 0, 0, ISR(1, 2));
	w_run(w);
	for (int i = 0; i < 6; i++) {
		w_alter(w, 1, 0, 0, ISR(1));
		w_run(w);
		w_alter(w, 1, 0, 0, ISR(1, 2));
		w_run(w);
	}
	int before = w->requests;
	w->broker[3].hangs = false;
	w_run(w);
	assert_in_range(w->requests - before, 1, 2);
	w_free(w);
}

static void test_a_registration_that_is_read_again_is_no_news(void **state)
{
	(void)state;
	struct world *w = w_new(3);
	w_create_on(w, "t", 3, on123);
	struct brain_endpoint endpoint;
	struct brain_broker r = w_registration(w, 1, &endpoint);
	int before = w->requests;
	brain_broker_up(w->b, &r, w->now);
	w_run(w);
	assert_int_equal(w->requests, before);
	endpoint.port = 4711;
	brain_broker_up(w->b, &r, w->now);
	w_run(w);
	assert_true(w->requests >= before + 3); /* everybody, and its followers the leader's address */
	w_expect(w, "t", 0, 1, ISR(1, 2, 3));
	assert_int_equal(w_view(w, "t", 0).leader_epoch, 0);
	w_free(w);
}

static void test_what_did_not_arrive_is_told_again_with_what_is_newer(void **state)
{
	(void)state;
	struct world *w = w_new(3);
	w_create_on(w, "t", 3, on123);
	w->broker[2].hangs = true;
	w_down(w, 1);
	w_run(w);
	assert_true(w->broker[2].has || w_take_request(w, 2));
	for (int i = 0; i < 3; i++) {
		w->broker[2].has = false;
		brain_unanswered(w->b, 2, w->broker[2].epoch);
		assert_true(w_take_request(w, 2));
	}
	w->broker[2].hangs = false;
	w_run(w);
	assert_int_equal(w->broker[2].told[0][0].leader, w_view(w, "t", 0).leader);
	w_free(w);
}

static void test_5000_partitions_are_elected_in_multis_below_the_bound(void **state)
{
	(void)state;
	struct brain_options o = {.self = 1, .controller_epoch = 1, .max_multi_bytes = 512 << 10, .unclean_wait_ms = 1000, .balance_interval_ms = 1000, .answer = w_answered};
	struct brain *b = brain_new(&o);
	struct brain_endpoint endpoint = {"PLAINTEXT", "host", 9092, 0};
	for (int32_t id = 1; id <= 3; id++)
		brain_load_broker(b, &(struct brain_broker){.id = id, .epoch = id, .clean = true, .endpoint = &endpoint, .endpoints = 1});
	for (int32_t id = 1; id <= 3; id++)
		brain_load_ledger(b, id, &(struct brain_ledger){id, -1, false}, 0);
	struct ids *replicas = ids_make((int32_t[]){3, 1, 2}, 3);
	struct brain_assignment *a = calloc(5000, sizeof *a);
	for (int p = 0; p < 5000; p++)
		a[p].replicas = replicas;
	assert_int_equal(brain_load_topic(b, "t", (const uint8_t[16]){1}, 0, a, 5000, NULL), 0);
	for (int p = 0; p < 5000; p++) {
		struct brain_state s = {3, 0, 1, replicas, false};
		assert_int_equal(brain_load_state(b, "t", p, &s, 0, NULL), 0);
	}
	brain_start(b, 0);
	struct brain_batch batch;
	assert_false(brain_writes(b, 0, &batch));
	brain_broker_down(b, 3, 0);
	assert_true(brain_writes(b, 0, &batch));
	size_t ops = 0;
	for (size_t i = 0; i < batch.multis; i++) {
		assert_true(batch.multi[i].bytes <= o.max_multi_bytes);
		ops += batch.multi[i].ops;
	}
	assert_int_equal(ops, 5000);
	assert_in_range(batch.multis, 2, 20);
	brain_written(b, 0);
	struct arena arena;
	struct brain_request q;
	arena_init(&arena, 0);
	assert_true(brain_request(b, 2, &arena, &q)); /* one request */
	assert_int_equal(q.api_key, API_LEADER_AND_ISR);
	assert_int_equal(((const struct leader_and_isr_request *)q.message)->topic_states.v[0].partition_states.n, 5000);
	arena_release(&arena);
	brain_free(b);
	free(a);
	free(replicas);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_new_partition_is_led_by_its_first_live_replica),
		cmocka_unit_test(test_the_first_live_replica_in_sync_leads_when_the_leader_is_lost),
		cmocka_unit_test(test_the_last_member_stays_a_member_and_leads_when_it_is_back),
		cmocka_unit_test(test_members_that_are_lost_together_all_stay_members),
		cmocka_unit_test(test_who_does_not_answer_is_not_elected),
		cmocka_unit_test(test_nobody_is_taken_out_for_a_leader_that_does_not_answer),
		cmocka_unit_test(test_a_quick_restart_is_a_death_and_then_a_birth),
		cmocka_unit_test(test_all_members_restarting_quickly_and_cleanly_stay_members_in_a_new_epoch),
		cmocka_unit_test(test_unclean_elections_only_where_the_topic_allows_them),
		cmocka_unit_test(test_an_unclean_election_that_a_client_asks_for),
		cmocka_unit_test(test_a_failed_disk_is_a_lost_replica),
		cmocka_unit_test(test_a_broker_from_an_unclean_stop_leaves_every_isr_with_another_member_before_it_is_told_anything),
		cmocka_unit_test(test_an_only_member_leads_again_after_an_unclean_stop),
		cmocka_unit_test(test_when_all_members_are_unclean_the_fullest_leads),
		cmocka_unit_test(test_a_power_cut_everywhere_does_not_take_the_fullest_out_for_one_that_only_seems_alive),
		cmocka_unit_test(test_a_member_that_may_be_clean_is_waited_for_and_not_for_ever),
		cmocka_unit_test(test_a_clean_member_that_comes_back_leads_before_all_unclean_ones),
		cmocka_unit_test(test_what_is_unclean_stays_so_over_a_clean_restart_and_a_new_controller),
		cmocka_unit_test(test_a_member_that_joined_again_after_its_unclean_stop_is_one_for_a_new_controller),
		cmocka_unit_test(test_a_birth_while_a_write_is_under_way_is_not_overlooked),
		cmocka_unit_test(test_a_birth_while_it_is_taken_out_of_the_isr_holds_nothing_back),
		cmocka_unit_test(test_alter_partition_is_refused_by_the_rules),
		cmocka_unit_test(test_alter_partition_of_an_older_life_is_refused),
		cmocka_unit_test(test_a_change_of_the_isr_keeps_the_leaders_epoch),
		cmocka_unit_test(test_a_controlled_shutdown_moves_leaders_and_leaves_isrs),
		cmocka_unit_test(test_leaderships_are_not_moved_to_a_broker_that_hangs),
		cmocka_unit_test(test_a_controlled_shutdown_tells_what_it_cannot_move),
		cmocka_unit_test(test_the_preferred_leader_gets_it_back_when_asked_for),
		cmocka_unit_test(test_leaders_are_balanced_by_themselves_beyond_the_allowed_imbalance),
		cmocka_unit_test(test_a_topic_is_refused_by_the_rules),
		cmocka_unit_test(test_partitions_are_added),
		cmocka_unit_test(test_a_large_topic_takes_several_multis_each_below_the_bound),
		cmocka_unit_test(test_a_topic_is_deleted_and_made_anew_with_a_broker_away),
		cmocka_unit_test(test_a_deletion_waits_for_live_brokers_and_not_for_dead_ones),
		cmocka_unit_test(test_an_empty_topic_is_sealed_everywhere_before_it_is_deleted),
		cmocka_unit_test(test_a_topic_that_holds_messages_is_unsealed_and_stays),
		cmocka_unit_test(test_a_seal_ends_with_its_leadership),
		cmocka_unit_test(test_a_leader_that_dies_has_sealed_nothing),
		cmocka_unit_test(test_whoever_waits_for_seals_has_what_he_wants_when_the_topic_is_deleted),
		cmocka_unit_test(test_a_deletion_is_gone_on_with_by_the_next_controller),
		cmocka_unit_test(test_a_topic_that_was_half_made_is_finished_by_the_next_controller),
		cmocka_unit_test(test_a_reassignment_adds_first_and_removes_when_all_have_caught_up),
		cmocka_unit_test(test_a_reassignment_can_be_cancelled_and_replaced),
		cmocka_unit_test(test_a_reassignment_is_refused_by_the_rules),
		cmocka_unit_test(test_many_partitions_of_a_topic_are_reassigned_in_few_writes_of_its_node),
		cmocka_unit_test(test_a_broker_that_refuses_connections_is_fenced_durably_before_anybody_takes_its_place),
		cmocka_unit_test(test_a_newer_controller_ends_this_one),
		cmocka_unit_test(test_a_slow_broker_is_told_once_of_what_changed_often),
		cmocka_unit_test(test_a_registration_that_is_read_again_is_no_news),
		cmocka_unit_test(test_what_did_not_arrive_is_told_again_with_what_is_newer),
		cmocka_unit_test(test_5000_partitions_are_elected_in_multis_below_the_bound),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
