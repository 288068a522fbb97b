#include "tests/unit/role_fixture.h"

/* Leaders and followers: what each does and refuses, what waits and what it is told, and how roles follow on one another. */

/* ---- appends that wait ---- */

struct many { struct wait w[8]; int order[8]; _Atomic int done; };

static struct many many;

static void note_order(struct append *a)
{
	struct wait *w = (struct wait *)a;
	many.order[many.done++] = (int)(w - many.w);
	appended(a);
}

static void start_many(int id, int count)
{
	many.done = 0;
	for (int i = 0; i < count; i++) {
		char text[20];
		struct batch_style style;
		size_t taken;
		int n = sprintf(text, "m%d\n", i);
		struct wait *w = &many.w[i];
		wait_init(w);
		topic_batch_style(partition_topic(node[id].p), &style);
		assert_int_equal(record_set_add_lines(&w->set, &style, text, (size_t)n, wall_now_ms(), &taken, &err), 0);
		w->a.acks = ACKS_ALL;
		w->a.done = note_order;
		partition_append(node[id].p, &w->a);
	}
}

static void end_many(int count)
{
	assert_int_equal(many.done, count);
	for (int i = 0; i < count; i++)
		wait_release(&many.w[i]);
}

static void test_high_watermark_and_acks_all(void **state)
{
	(void)state;
	open_nodes(3);
	become(1, 1, 5, "123", "123");
	become(2, 1, 5, "123", "123");
	become(3, 1, 5, "123", "123");
	say_at(1, "a\nb\n"); /* acks=1: it has been written */
	assert_int_equal(high_of(1), 0);
	assert_string_equal(seen_at(1), "");
	start_many(1, 4);
	assert_int_equal(many.done, 0);
	fetch(2, 1, 5);
	fetch(2, 1, 5); /* tells of it */
	assert_int_equal(high_of(1), 0);
	fetch(3, 1, 5);
	assert_int_equal(many.done, 0);
	fetch(3, 1, 5);
	assert_int_equal(high_of(1), 6);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(many.order[i], i);
		assert_int_equal(many.w[i].a.code, 0);
		assert_int_equal(many.w[i].a.base_offset, 2 + i);
	}
	end_many(4);
	assert_string_equal(seen_at(1), "a b m0 m1 m2 m3 ");
	assert_int_equal(high_of(3), 6); /* the Fetch that brought the high watermark there was told of it */
	assert_int_equal(high_of(2), 0);
	assert_string_equal(seen_at(2), ""); /* and a follower shows no more than it knows to be committed */
	fetch(2, 1, 5);
	assert_string_equal(seen_at(2), seen_at(1));
	/* a part of it */
	say_at(1, "c\n");
	say_at(1, "d\n");
	assert_int_equal(try_fetch(2, 1, 5, 1), 0);
	fetch(3, 1, 5);
	fetch(2, 1, 5);
	fetch(3, 1, 5);
	assert_int_equal(high_of(1), 7);
	struct partition_ends x;
	partition_take_ends(node[1].p, &x);
	assert_true(x.last_stable == 7 && x.log_end == 8); /* what is not committed is not stable */
	struct partition_state s;
	assert_int_equal(partition_describe(node[1].p, &s, &err), 0);
	assert_true(s.leader == 1 && s.leader_epoch == 5 && s.isr_count == 3 && s.replica_count == 3 && s.replicas[2] == 3 && s.high_watermark == 7 && s.leo == 8);
	assert_int_equal(partition_describe(node[2].p, &s, &err), 0);
	assert_true(s.leader == 1 && s.isr_count == 3 && s.high_watermark == 6 && s.leo == 8); /* it has not been told yet */
}

static void test_min_insync_replicas(void **state)
{
	(void)state;
	node_set(&node[1], "min.insync.replicas=2");
	open_nodes(2);
	become(1, 1, 1, "1", "12");
	become(2, 1, 1, "1", "12");
	assert_int_equal(try_say_at(1, "refused\n", ACKS_ALL), ERR_NOT_ENOUGH_REPLICAS);
	assert_int_equal(end_of(1), 0); /* nothing was written */
	say_at(1, "one\n");
	assert_int_equal(high_of(1), 0); /* with too few in sync nothing is committed */
	fetch(2, 1, 1);
	assert_string_equal(asked_of(1), "12");
	fetch(2, 1, 1);
	assert_int_equal(try_say_at(1, "refused\n", ACKS_ALL), ERR_NOT_ENOUGH_REPLICAS); /* not before it is committed */
	grant(1);
	assert_int_equal(high_of(1), 1);
	start_many(1, 2);
	assert_int_equal(many.done, 0);
	/* 2 is not heard of any more. They are told so at once, and the records stay */
	become(1, 1, 2, "1", "12");
	assert_int_equal(many.w[0].a.code, ERR_NOT_ENOUGH_AFTER);
	assert_int_equal(many.w[1].a.code, ERR_NOT_ENOUGH_AFTER);
	end_many(2);
	assert_int_equal(end_of(1), 3);
	assert_int_equal(high_of(1), 1);
	/* never more than there are replicas: one is enough where there is one */
	become(1, 1, 3, "1", "1");
	assert_int_equal(high_of(1), 3);
	assert_int_equal(try_say_at(1, "alone\n", ACKS_ALL), 0);
	assert_string_equal(seen_at(1), "one m0 m1 alone ");
}

static void test_patience(void **state)
{
	(void)state;
	open_nodes(2);
	become(1, 1, 1, "12", "12");
	become(2, 1, 1, "12", "12");
	start_many(1, 4);
	assert_true(partition_append_give_up(node[1].p, &many.w[1].a));
	assert_true(partition_append_give_up(node[1].p, &many.w[3].a));
	assert_false(partition_append_give_up(node[1].p, &many.w[3].a));
	assert_int_equal(many.w[1].a.code, ERR_TIMED_OUT);
	assert_int_equal(many.done, 2);
	assert_int_equal(end_of(1), 4); /* the records stay */
	fetch(2, 1, 1);
	fetch(2, 1, 1);
	assert_int_equal(many.w[0].a.code, 0);
	assert_int_equal(many.w[2].a.code, 0);
	assert_false(partition_append_give_up(node[1].p, &many.w[0].a));
	end_many(4);
	assert_string_equal(seen_at(1), "m0 m1 m2 m3 ");
}

/* A duplicate of an idempotent producer waits for the one that it is a duplicate of, which may be ahead of who waits already. */
static void test_duplicates_wait_too(void **state)
{
	(void)state;
	open_nodes(2);
	become(1, 1, 1, "12", "12");
	become(2, 1, 1, "12", "12");
	struct wait w[3];
	for (int i = 0; i < 3; i++) {
		struct batch_style style;
		size_t taken;
		wait_init(&w[i]);
		topic_batch_style(partition_topic(node[1].p), &style);
		style.producer_id = 7;
		style.producer_epoch = 0;
		style.base_sequence = i == 2 ? 0 : i;
		assert_int_equal(record_set_add_lines(&w[i].set, &style, i == 1 ? "b\n" : "a\n", 2, wall_now_ms(), &taken, &err), 0);
		w[i].a.acks = ACKS_ALL;
		w[i].a.done = appended;
		partition_append(node[1].p, &w[i].a);
	}
	assert_int_equal(try_fetch(2, 1, 1, 1), 0); /* one batch */
	assert_int_equal(w[0].calls + w[1].calls + w[2].calls, 0);
	assert_int_equal(try_fetch(2, 1, 1, 1), 0);
	assert_true(w[0].calls == 1 && w[1].calls == 0 && w[2].calls == 1);
	assert_true(w[2].a.duplicate && w[2].a.code == 0 && w[2].a.base_offset == 0);
	fetch(2, 1, 1);
	assert_true(w[1].calls == 1 && w[1].a.code == 0);
	for (int i = 0; i < 3; i++)
		wait_release(&w[i]);
	assert_string_equal(log_of(1), "a b ");
}

/* ---- who may do what ---- */

enum { NOT_YET = 99 };

static _Atomic int flush_code;

static void flush_is_over(struct flush *f)
{
	flush_code = f->code;
}

static void test_roles_refuse(void **state)
{
	(void)state;
	struct carried c;
	int64_t end;
	int32_t epoch;
	open_nodes(2);
	for (int i = 0; i < 2; i++) { /* none yet; and none any more */
		assert_int_equal(try_say_at(1, "x\n", ACKS_LEADER), ERR_NOT_LEADER);
		assert_int_equal(ask_leader(2, 1, -1, 0, 100, &c), ERR_NOT_LEADER);
		assert_int_equal(partition_epoch_end(node[1].p, -1, 0, true, &epoch, &end, &err), ERR_NOT_LEADER);
		assert_int_equal(partition_delete_before(node[1].p, 0, &err), ERR_NOT_LEADER);
		struct partition_fetch f = {.current_epoch = -1, .last_fetched_epoch = -1, .max_bytes = 100, .isolation = ISOLATION_UNCOMMITTED, .wait = true};
		assert_int_equal(partition_fetch(node[1].p, &f, &err), ERR_NOT_LEADER);
		assert_string_equal(seen_at(1), i ? "x " : ""); /* the mount reads all the same */
		if (i)
			break;
		become(1, 1, 4, "1", "1");
		say_at(1, "x\n");
		partition_stop(node[1].p);
		struct partition_standing s;
		partition_standing(node[1].p, &s);
		assert_int_equal(s.leader, -1);
	}
	/* what cannot be */
	assert_int_equal(try_become(1, 1, 4, "2", "12"), ERR_INVALID);
	assert_int_equal(try_become(1, 2, 4, "2", "23"), ERR_INVALID);
	assert_int_equal(try_become(1, 3, 4, "12", "12"), ERR_INVALID);
	assert_int_equal(try_become(1, 1, 4, "13", "12"), ERR_INVALID);
	assert_int_equal(try_become(1, 1, 4, "1", "11"), ERR_INVALID);
	assert_int_equal(try_become(1, 1, -1, "1", "1"), ERR_INVALID);
	/* what is over */
	assert_int_equal(try_become(1, 1, 3, "12", "12"), ERR_FENCED_EPOCH);
	become(1, 1, 4, "12", "12");
	become(2, 1, 4, "12", "12");
	assert_int_equal(try_become(1, 2, 4, "12", "12"), ERR_INVALID); /* two leaders in one epoch */
	partition_epoch -= 4; /* of a while ago */
	assert_int_equal(try_become(1, 1, 4, "1", "12"), ERR_FENCED_EPOCH);
	partition_epoch += 3;
	/* a leader does not follow, a follower does not lead */
	assert_int_equal(partition_follower_append(node[1].p, "", 0, 0, 0, 4, &end, &err), ERR_NOT_LEADER);
	assert_int_equal(partition_follower_truncate(node[1].p, 0, 4, &err), ERR_NOT_LEADER);
	assert_int_equal(try_say_at(2, "y\n", ACKS_ALL), ERR_NOT_LEADER);
	assert_int_equal(ask_leader(1, 2, 4, 0, 100, &c), ERR_NOT_LEADER);
	assert_int_equal(partition_delete_before(node[2].p, 0, &err), ERR_NOT_LEADER);
	struct log_offset found;
	assert_int_equal(partition_list_offset(node[2].p, OFFSET_LATEST, ISOLATION_UNCOMMITTED, -1, true, &found, &err), ERR_NOT_LEADER);
	assert_int_equal(partition_replica_end(node[2].p, &found, &err), 0); /* a controller asks that of any replica */
	assert_int_equal(found.offset, node[2].p->log->leo);
	assert_int_equal(found.leader_epoch, epochs_last(&node[2].p->log->epochs));
	/* epochs */
	assert_int_equal(ask_leader(2, 1, 3, 0, 100, &c), ERR_FENCED_EPOCH);
	assert_int_equal(ask_leader(2, 1, 5, 0, 100, &c), ERR_UNKNOWN_EPOCH);
	assert_int_equal(ask_leader(2, 1, 4, 2, 100, &c), ERR_OUT_OF_RANGE);
	assert_int_equal(ask_leader(3, 1, 4, 0, 100, &c), ERR_UNKNOWN_EPOCH); /* no replica, as far as is known */
	assert_int_equal(partition_follower_append(node[2].p, "", 0, 0, 0, 3, &end, &err), ERR_FENCED_EPOCH);
	assert_int_equal(partition_follower_append(node[2].p, "", 0, 0, 0, 5, &end, &err), ERR_UNKNOWN_EPOCH);
	assert_int_equal(partition_follower_restart(node[2].p, 5, 10, 3, &err), ERR_FENCED_EPOCH);
	assert_int_equal(partition_follower_append(node[2].p, "", 0, 0, 0, -1, &end, &err), ERR_NOT_LEADER);
	/* from a process that has been started anew since */
	struct follower_fetch who = {.id = 2, .broker_epoch = 1, .current_epoch = 4, .now_ms = now_ms()};
	assert_int_equal(partition_follower_fetched(node[1].p, &who, &err), 0);
	who.broker_epoch = 0;
	assert_int_equal(partition_follower_fetched(node[1].p, &who, &err), ERR_NOT_LEADER);
	/* consumers may read from a follower, unless they know of none */
	say_at(1, "z\n");
	fetch(2, 1, 4);
	struct partition_fetch f = {.offset = 1, .current_epoch = 4, .last_fetched_epoch = -1, .max_bytes = 100, .isolation = ISOLATION_UNCOMMITTED, .wait = true};
	assert_int_equal(partition_fetch(node[2].p, &f, &err), 0);
	assert_true(f.data.bytes == 0 && f.ends.log_end == 2); /* not committed as far as it knows */
	partition_fetch_release(node[2].p, &f);
	f.leader_only = true;
	assert_int_equal(partition_fetch(node[2].p, &f, &err), ERR_NOT_LEADER);
}

static void test_leadership_is_lost(void **state)
{
	(void)state;
	struct sleeper s;
	struct flush f = {.done = flush_is_over};
	open_nodes(2);
	b = node[1].b; /* whose timers a sleeper waits on */
	become(1, 1, 1, "12", "12");
	become(2, 1, 1, "12", "12");
	start_many(1, 3);
	/* known already, and another ISR in the same epoch: nothing is lost by that */
	become(1, 1, 1, "12", "12");
	assert_int_equal(many.done, 0);
	become(1, 1, 2, "12", "12"); /* nor by leading on */
	assert_int_equal(many.done, 0);
	sleeper_init(&s, node[1].p);
	sleeper_park(&s, 0, 60000);
	flush_code = NOT_YET;
	assert_int_equal(log_flush(node[1].p->log, 3, &err), 0);
	partition_flush(node[1].p, &f); /* on disk, and not on the other */
	assert_int_equal(flush_code, NOT_YET);
	become(1, 2, 3, "12", "12");
	become(2, 2, 3, "12", "12");
	for (int i = 0; i < 3; i++)
		assert_int_equal(many.w[i].a.code, ERR_NOT_LEADER);
	end_many(3);
	assert_int_equal(flush_code, ERR_NOT_LEADER);
	assert_false(s.woken); /* a reader of the mount goes on waiting */
	align(1, 2, 3);
	assert_int_equal(end_of(1), 0);
	say_at(2, "other\n");
	fetch(1, 2, 3);
	fetch(1, 2, 3);
	assert_int_equal(sleeper_wait(&s), DELAYED_SATISFIED);
	sleeper_release(&s);
	assert_string_equal(seen_at(1), "other ");
	assert_string_equal(seen_at(2), "other ");
	flush_code = NOT_YET;
	partition_flush(node[1].p, &f); /* a follower's own disk is all there is to wait for */
	for (int i = 0; i < 2000 && flush_code == NOT_YET; i++)
		usleep(5000);
	assert_int_equal(flush_code, 0);
	b = NULL;
}

static void test_topic_deleted(void **state)
{
	(void)state;
	open_nodes(1);
	become(1, 1, 1, "12", "12");
	start_many(1, 2);
	struct topic *t = topics_find(node[1].b, "t");
	assert_int_equal(topics_delete(node[1].b, t, false, &err), 0);
	topic_unref(t);
	assert_int_equal(many.w[0].a.code, ERR_DELETED);
	end_many(2);
	assert_int_equal(try_become(1, 1, 2, "1", "12"), ERR_DELETED);
}

/* ---- alone ---- */

static void test_alone_it_waits_for_the_disk(void **state)
{
	(void)state;
	open_nodes(2);
	become(1, 1, 1, "12", "12");
	become(2, 1, 1, "12", "12");
	say_at(1, "one\n");
	fetch(2, 1, 1);
	fetch(2, 1, 1);
	assert_int_equal(high_of(1), 1);
	assert_int_equal(node[1].p->log->flushed_offset, 0); /* two have it: the disk does not matter */
	become(1, 1, 2, "1", "12");
	assert_int_equal(try_say_at(1, "two\n", ACKS_ALL), 0);
	assert_int_equal(high_of(1), 2);
	assert_true(node[1].p->log->flushed_offset >= 2);
	say_at(1, "three\n"); /* and without anybody who waits, too */
	for (int i = 0; i < 2000 && high_of(1) < 3; i++)
		usleep(5000);
	assert_int_equal(high_of(1), 3);
	assert_true(node[1].p->log->flushed_offset >= 3);
}

/* What two have acknowledged in memory is not to be had by one alone, in memory. */
static void test_left_alone_it_has_what_is_committed_on_disk(void **state)
{
	(void)state;
	node_set(&node[1], "replica.lag.time.max.ms=3600000");
	open_nodes(2);
	become(1, 1, 1, "12", "12");
	become(2, 1, 1, "12", "12");
	say_at(1, "one\n");
	fetch(2, 1, 1);
	fetch(2, 1, 1);
	assert_int_equal(high_of(1), 1);
	assert_int_equal(node[1].p->log->flushed_offset, 0);
	start_many(1, 1); /* 2 does not come for it */
	for (int i = 0; i < 2000 && end_of(1) < 2; i++)
		usleep(5000);
	int64_t later = now_ms() + 4000000;
	partition_check_isr(node[1].p, later);
	assert_int_equal(node[1].asked_count, 0);
	for (int i = 0; i < 2000 && node[1].p->log->flushed_offset < 1; i++)
		usleep(5000);
	partition_check_isr(node[1].p, later);
	assert_int_equal(node[1].asked_count, 1);
	assert_string_equal(asked_of(1), "1");
	grant(1);
	for (int i = 0; i < 2000 && !many.done; i++, usleep(5000))
		fetch(2, 1, 1); /* it has kept up until now, and is waited for */
	end_many(1);
	/* the controller takes it out, and does not ask */
	become(1, 1, 2, "12", "12");
	become(2, 1, 2, "12", "12");
	for (int i = 0; i < 3; i++)
		fetch(2, 1, 2);
	say_at(1, "three\n");
	fetch(2, 1, 2);
	fetch(2, 1, 2);
	assert_int_equal(high_of(1), 3);
	assert_true(node[1].p->log->flushed_offset < 3);
	become(1, 1, 3, "1", "12");
	for (int i = 0; i < 2000 && node[1].p->log->flushed_offset < 3; i++)
		usleep(5000);
	assert_int_equal(node[1].p->log->flushed_offset, 3);
}

static void test_lease(void **state)
{
	(void)state;
	open_nodes(2);
	become(1, 1, 1, "12", "12");
	become(2, 1, 1, "12", "12");
	node[1].has_lease = false;
	assert_int_equal(try_say_at(1, "no\n", ACKS_LEADER), ERR_NOT_LEADER);
	assert_int_equal(end_of(1), 0);
	start_many(1, 1); /* with others, epochs are enough */
	fetch(2, 1, 1);
	fetch(2, 1, 1);
	assert_int_equal(many.w[0].a.code, 0);
	end_many(1);
	node[1].has_lease = true;
	become(1, 1, 2, "1", "12");
	assert_int_equal(try_say_at(1, "alone\n", ACKS_ALL), 0);
	node[1].has_lease = false;
	assert_int_equal(try_say_at(1, "no\n", ACKS_ALL), ERR_NOT_LEADER);
	assert_int_equal(end_of(1), 2);
	/* it ends while one waits: what comes of that is not known before it is back */
	become(1, 1, 3, "12", "12");
	start_many(1, 1);
	for (int i = 0; i < 2000 && end_of(1) < 3; i++) /* who flushed may be the appender just now */
		usleep(5000);
	become(1, 1, 4, "1", "12");
	for (int i = 0; i < 20; i++) {
		partition_kick(node[1].p);
		usleep(1000);
	}
	assert_int_equal(many.done, 0);
	assert_int_equal(high_of(1), 2);
	node[1].has_lease = true;
	broker_look_again(node[1].b);
	for (int i = 0; i < 2000 && high_of(1) < 3; i++)
		usleep(5000);
	assert_int_equal(finish_append(&many.w[0]), 0);
	end_many(1);
	/* with one replica as well */
	become(1, 1, 5, "1", "1");
	assert_int_equal(try_say_at(1, "single\n", ACKS_ALL), 0);
	node[1].has_lease = false;
	assert_int_equal(try_say_at(1, "no\n", ACKS_LEADER), ERR_NOT_LEADER);
	assert_int_equal(try_say_at(1, "no\n", ACKS_ALL), ERR_NOT_LEADER);
	assert_int_equal(high_of(1), 4);
}

/* ---- the ISR ---- */

static void test_isr_grows_and_shrinks(void **state)
{
	(void)state;
	node_set(&node[1], "replica.lag.time.max.ms=3600000"); /* the agent's own look at it comes too late for this */
	open_nodes(3);
	for (int i = 1; i <= 3; i++)
		become(i, 1, 1, "12", "123");
	say_at(1, "one\n");
	fetch(2, 1, 1);
	fetch(2, 1, 1);
	assert_int_equal(high_of(1), 1);
	fetch(3, 1, 1);
	assert_int_equal(node[1].asked_count, 0);
	fetch(3, 1, 1);
	assert_int_equal(node[1].asked_count, 1);
	assert_string_equal(asked_of(1), "123");
	assert_int_equal(node[1].asked.leader_epoch, 1);
	assert_int_equal(node[1].asked.member[2].broker_epoch, 1);
	fetch(3, 1, 1);
	assert_int_equal(node[1].asked_count, 1); /* once */
	start_many(1, 1);
	fetch(2, 1, 1);
	fetch(2, 1, 1);
	assert_int_equal(many.done, 0); /* who is to join counts already */
	struct isr_change c = node[1].asked;
	partition_altered(node[1].p, &c, ISR_REFUSED, NULL, 0, 0);
	assert_int_equal(many.done, 0); /* it has kept up until now: it is waited for, for a moment */
	fetch(3, 1, 1);
	fetch(3, 1, 1);
	assert_int_equal(many.done, 1);
	end_many(1);
	assert_int_equal(node[1].asked_count, 2);
	partition_altered(node[1].p, &c, ISR_ALTERED, (int32_t[]){1}, 1, 99); /* the answer to the one before: too late */
	grant(1);
	struct partition_state s;
	assert_int_equal(partition_describe(node[1].p, &s, &err), 0);
	assert_int_equal(s.isr_count, 3);
	/* 2 is slow */
	start_many(1, 1);
	fetch(3, 1, 1);
	fetch(3, 1, 1);
	assert_int_equal(many.done, 0);
	int64_t later = now_ms() + 4000000;
	struct follower_fetch who = {.id = 3, .broker_epoch = 1, .current_epoch = 1, .offset = end_of(1), .now_ms = later};
	assert_int_equal(partition_follower_fetched(node[1].p, &who, &err), 0);
	partition_check_isr(node[1].p, later);
	assert_int_equal(node[1].asked_count, 3);
	assert_string_equal(asked_of(1), "13");
	assert_int_equal(many.done, 0); /* it counts until that is committed */
	c = node[1].asked;
	partition_altered(node[1].p, &c, ISR_OUTDATED, NULL, 0, 0);
	assert_int_equal(many.done, 0); /* and where it is not known whether it is */
	fetch(2, 1, 1);
	assert_int_equal(many.done, 0);
	grant(1);
	assert_int_equal(many.done, 0); /* 2 was about to join a moment ago */
	become(1, 1, 2, "13", "123"); /* now it counts no more */
	become(3, 1, 2, "13", "123");
	fetch(3, 1, 2);
	assert_int_equal(many.w[0].a.code, 0);
	end_many(1);
}

/* ---- a new leader ---- */

static void test_new_leader_does_not_know_yet(void **state)
{
	(void)state;
	struct log_offset found;
	open_nodes(3);
	for (int i = 1; i <= 3; i++)
		become(i, 1, 1, "123", "123");
	say_at(1, "a\nb\nc\n");
	for (int i = 0; i < 2; i++)
		for (int f = 2; f <= 3; f++)
			fetch(f, 1, 1);
	assert_int_equal(high_of(1), 3); /* a consumer may have been told so */
	assert_int_equal(high_of(2), 0);
	for (int i = 2; i <= 3; i++)
		become(i, 2, 2, "23", "123");
	assert_int_equal(high_of(2), 0);
	assert_int_equal(partition_list_offset(node[2].p, OFFSET_LATEST, ISOLATION_UNCOMMITTED, 2, true, &found, &err), ERR_NOT_YET);
	assert_int_equal(partition_list_offset(node[2].p, 0, ISOLATION_UNCOMMITTED, 2, true, &found, &err), ERR_NOT_YET);
	assert_int_equal(partition_list_offset(node[2].p, OFFSET_EARLIEST, ISOLATION_UNCOMMITTED, 2, true, &found, &err), 0);
	/* a Fetch of the epoch before counts for nothing */
	struct carried c;
	assert_int_equal(ask_leader(3, 2, 1, 3, 100, &c), ERR_FENCED_EPOCH);
	align(3, 2, 2);
	fetch(3, 2, 2);
	assert_int_equal(high_of(2), 3);
	assert_int_equal(partition_list_offset(node[2].p, OFFSET_LATEST, ISOLATION_UNCOMMITTED, 2, true, &found, &err), 0);
	assert_int_equal(found.offset, 3);
	assert_string_equal(seen_at(2), "a b c ");
}

/* ---- what a start finds ---- */

static void test_restart_of_a_replica(void **state)
{
	(void)state;
	open_nodes(2);
	become(1, 1, 1, "12", "12");
	become(2, 1, 1, "12", "12");
	say_at(1, "a\nb\n");
	fetch(2, 1, 1);
	fetch(2, 1, 1);
	say_at(1, "c\n");
	fetch(2, 1, 1); /* has it, not committed */
	assert_int_equal(end_of(2), 3);
	assert_int_equal(high_of(2), 2);
	node_close(&node[2]);
	node_open(&node[2]);
	assert_int_equal(end_of(2), 3);
	assert_int_equal(high_of(2), 2);
	assert_string_equal(seen_at(2), "a b ");
	become(2, 1, 1, "12", "12");
	align(2, 1, 1);
	fetch(2, 1, 1);
	assert_string_equal(seen_at(2), "a b c ");
	/* led, its log closed and opened again */
	become(1, 1, 2, "12", "12");
	struct partition *p = node[1].p;
	partition_release(p);
	assert_true(partition_close_idle(p, INT64_MAX, &err));
	assert_int_equal(try_become(1, 1, 3, "12", "12"), 0); /* needs no log */
	assert_false(partition_has_open_log(p));
	assert_int_equal(partition_acquire(p, &err), 0);
	assert_int_equal(high_of(1), 3);
	assert_int_equal(p->leader_epoch, 3);
	say_at(1, "d\n");
	assert_int_equal(high_of(1), 3);
}

/* Recovered without a row, its view is made no further than it was committed: what is behind that may be cut. */
static void test_recovery_stops_at_the_high_watermark(void **state)
{
	(void)state;
	char path[200];
	open_nodes(2);
	become(1, 1, 1, "12", "12");
	become(2, 1, 1, "12", "12");
	say_at(1, "a\nb\n");
	fetch(2, 1, 1);
	fetch(2, 1, 1);
	say_at(1, "c\n");
	say_at(1, "d\n");
	fetch(2, 1, 1);
	node_close(&node[2]);
	static const char *const gone[] = {".kafka_cleanshutdown", PARTITION_STATE_FILE, "t-0/00000000000000000000.view"};
	for (int i = 0; i < 3; i++) {
		snprintf(path, sizeof path, "%s/%s", node[2].data, gone[i]);
		assert_int_equal(unlink(path), 0);
	}
	node_open(&node[2]);
	assert_int_equal(end_of(2), 4);
	assert_int_equal(high_of(2), 2);
	assert_string_equal(seen_at(2), "a b ");
	become(2, 2, 2, "2", "12"); /* leads, alone: the rest counts now */
	for (int i = 0; i < 2000 && high_of(2) < 4; i++)
		usleep(5000);
	assert_string_equal(seen_at(2), "a b c d ");
}

/* ---- where the leader starts ---- */

static void test_log_start_follows(void **state)
{
	(void)state;
	struct visible v;
	open_nodes(3);
	for (int i = 1; i <= 3; i++)
		become(i, 1, 1, "12", "123");
	say_at(1, "one\n");
	say_at(1, "two\n");
	say_at(1, "three\n");
	fetch(2, 1, 1);
	fetch(2, 1, 1);
	assert_int_equal(partition_delete_before(node[1].p, 2, &err), 0);
	fetch(2, 1, 1);
	assert_int_equal(partition_visible(node[2].p, &v, &err), 0);
	assert_true(v.start_offset == 2 && v.start_position == 8 && v.end_position == 14);
	/* a new one begins there */
	assert_int_equal(try_fetch(3, 1, 1, 100), ERR_OUT_OF_RANGE);
	assert_int_equal(partition_follower_restart(node[3].p, 2, 8, 1, &err), 0);
	fetch(3, 1, 1);
	assert_int_equal(partition_visible(node[3].p, &v, &err), 0);
	assert_true(v.start_offset == 2 && v.start_position == 8 && v.end_offset == 3 && v.end_position == 14);
	node_close(&node[3]);
	node_open(&node[3]);
	assert_int_equal(partition_visible(node[3].p, &v, &err), 0);
	assert_true(v.start_offset == 2 && v.start_position == 8 && v.end_position == 14);
	assert_string_equal(seen_at(3), "three ");
}

/* ---- cutting ---- */

static void take_recovery_point(void *arg, const char *topic, int32_t partition, int64_t offset)
{
	(void)topic;
	(void)partition;
	*(int64_t *)arg = offset;
}

static int64_t noted_recovery_point(int id)
{
	char path[200];
	int64_t offset = -1;
	snprintf(path, sizeof path, "%s/" RECOVERY_POINT_FILE, node[id].data);
	assert_int_equal(offset_checkpoint_load(path, take_recovery_point, &offset, &err), 0);
	return offset;
}

/* What a checkpoint calls durable is never more than a log has: else a start would take it for damaged. */
static void test_cut_below_a_checkpoint(void **state)
{
	(void)state;
	struct sleeper s;
	struct visible v;
	open_nodes(2);
	b = node[2].b;
	become(1, 1, 1, "12", "12");
	become(2, 1, 1, "12", "12");
	for (int i = 0; i < 5; i++)
		say_at(1, "line\n");
	fetch(2, 1, 1);
	fetch(2, 1, 1);
	assert_int_equal(high_of(2), 5);
	assert_int_equal(log_flush(node[2].p->log, 5, &err), 0);
	assert_int_equal(broker_checkpoint(node[2].b, node[2].p->dir, false, &err), 0);
	assert_int_equal(noted_recovery_point(2), 5);
	/* somebody leads who was not in sync */
	assert_int_equal(partition_follower_truncate(node[2].p, 2, 1, &err), 0);
	assert_int_equal(end_of(2), 2);
	assert_int_equal(high_of(2), 2);
	assert_int_equal(noted_recovery_point(2), 2);
	assert_int_equal(partition_visible(node[2].p, &v, &err), 0);
	assert_true(v.end_offset == 2 && v.end_position == 10);
	sleeper_init(&s, node[2].p);
	sleeper_park(&s, 10, 60000); /* for what was there a moment ago */
	assert_false(s.woken);
	assert_int_equal(partition_follower_truncate(node[2].p, 7, 1, &err), 0); /* there is nothing */
	assert_int_equal(end_of(2), 2);
	fetch(2, 1, 1);
	assert_int_equal(sleeper_wait(&s), DELAYED_SATISFIED);
	sleeper_release(&s);
	assert_string_equal(seen_at(2), seen_at(1));
	/* further back than it starts: it begins anew */
	assert_int_equal(partition_move_start(node[2].p, 3, &err), 0);
	assert_int_equal(partition_follower_truncate(node[2].p, 1, 1, &err), ERR_OUT_OF_RANGE);
	assert_int_equal(partition_follower_restart(node[2].p, 1, 5, 1, &err), 0);
	assert_int_equal(partition_visible(node[2].p, &v, &err), 0);
	assert_true(v.start_offset == 1 && v.start_position == 5 && v.end_offset == 1 && v.end_position == 5);
	fetch(2, 1, 1);
	assert_string_equal(seen_at(2), "line line line line ");
	node_close(&node[2]);
	node_open(&node[2]);
	assert_string_equal(seen_at(2), "line line line line ");
	b = NULL;
}

/* A broker that has lost its role, and cut its log, while an answer of its is on the way: what is of a later epoch is not taken. */
static void test_batches_of_a_later_epoch(void **state)
{
	(void)state;
	struct carried c;
	int64_t end;
	open_nodes(2);
	become(1, 1, 1, "12", "12");
	become(2, 1, 1, "12", "12");
	say_at(1, "old\n");
	become(1, 1, 2, "12", "12");
	say_at(1, "new\n");
	become(2, 1, 2, "12", "12");
	assert_int_equal(ask_leader(2, 1, 2, 0, 1 << 20, &c), 0);
	become(2, 1, 3, "12", "12");
	assert_int_equal(partition_follower_append(node[2].p, c.bytes, c.n, 0, 0, 2, &end, &err), ERR_FENCED_EPOCH);
	free(c.bytes);
	/* what was asked for in epoch 1 is answered with more by now */
	assert_int_equal(ask_leader(2, 1, 2, 0, 1 << 20, &c), 0);
	assert_int_equal(node[2].p->leader_epoch, 3);
	node[2].p->leader_epoch = 1;
	assert_int_equal(partition_follower_append(node[2].p, c.bytes, c.n, 0, 0, 1, &end, &err), 0);
	assert_int_equal(end, 1);
	free(c.bytes);
	assert_string_equal(log_of(2), "old ");
}

static void test_an_unclean_leader_says_that_it_has_recovered(void **state)
{
	int32_t isr[] = {1}, replicas[] = {1, 2};
	(void)state;
	open_nodes(1);
	struct partition_role r = {.leader = 1, .leader_epoch = 5, .partition_epoch = 100, .controller_epoch = 1, .isr = isr, .isr_count = 1, .replicas = replicas, .replica_count = 2, .recovering = true};
	assert_int_equal(partition_become(node[1].p, &r, &err), 0);
	assert_string_equal(asked_of(1), "1"); /* the ISR as it is */
	assert_true(node[1].asked.leader_epoch == 5 && node[1].asked.partition_epoch == 100);
	assert_int_equal(partition_become(node[1].p, &r, &err), 0); /* known */
	assert_int_equal(node[1].asked_count, 1);
	partition_epoch = 100;
	grant(1);
	r.partition_epoch = 102;
	r.recovering = false;
	assert_int_equal(partition_become(node[1].p, &r, &err), 0);
	assert_int_equal(node[1].asked_count, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_an_unclean_leader_says_that_it_has_recovered, setup_nodes, teardown_nodes),
		cmocka_unit_test_setup_teardown(test_high_watermark_and_acks_all, setup_nodes, teardown_nodes),
		cmocka_unit_test_setup_teardown(test_min_insync_replicas, setup_nodes, teardown_nodes),
		cmocka_unit_test_setup_teardown(test_patience, setup_nodes, teardown_nodes),
		cmocka_unit_test_setup_teardown(test_duplicates_wait_too, setup_nodes, teardown_nodes),
		cmocka_unit_test_setup_teardown(test_roles_refuse, setup_nodes, teardown_nodes),
		cmocka_unit_test_setup_teardown(test_leadership_is_lost, setup_nodes, teardown_nodes),
		cmocka_unit_test_setup_teardown(test_topic_deleted, setup_nodes, teardown_nodes),
		cmocka_unit_test_setup_teardown(test_alone_it_waits_for_the_disk, setup_nodes, teardown_nodes),
		cmocka_unit_test_setup_teardown(test_left_alone_it_has_what_is_committed_on_disk, setup_nodes, teardown_nodes),
		cmocka_unit_test_setup_teardown(test_lease, setup_nodes, teardown_nodes),
		cmocka_unit_test_setup_teardown(test_isr_grows_and_shrinks, setup_nodes, teardown_nodes),
		cmocka_unit_test_setup_teardown(test_new_leader_does_not_know_yet, setup_nodes, teardown_nodes),
		cmocka_unit_test_setup_teardown(test_restart_of_a_replica, setup_nodes, teardown_nodes),
		cmocka_unit_test_setup_teardown(test_recovery_stops_at_the_high_watermark, setup_nodes, teardown_nodes),
		cmocka_unit_test_setup_teardown(test_log_start_follows, setup_nodes, teardown_nodes),
		cmocka_unit_test_setup_teardown(test_cut_below_a_checkpoint, setup_nodes, teardown_nodes),
		cmocka_unit_test_setup_teardown(test_batches_of_a_later_epoch, setup_nodes, teardown_nodes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
