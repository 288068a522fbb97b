/*
 * The arithmetic of a partition's leader: by itself, rule by rule; and in a small world of brokers that lead, follow, cut their logs, are slow and are thought dead, with a controller whose
 * answers come late, twice or never. In that world every rule that is made simpler must be found out: else the world proves nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cluster/partition_isr.h"
#include "store/err.h"

static const struct isr_rule usual = {.min_insync = 1, .lag_ms = 100};

/* ---- one leader: broker 1 of 1, 2, 3 ---- */

static struct isr x;
static struct isr_change change;
static bool trimmed;

static void lead(int isr_count, int64_t end)
{
	static const int32_t ids[] = {1, 2, 3};
	assert_int_equal(isr_set(&x, 1, ids, 3, ids, isr_count), 0);
	isr_begin_epoch(&x, end, 1000);
}

static int release(void **state)
{
	(void)state;
	isr_release(&x);
	return 0;
}

static void fetched(int32_t id, int64_t end, int64_t leader_end, int64_t now_ms)
{
	struct isr_fetch f = {.id = id, .broker_epoch = -1, .end = end, .leader_end = leader_end, .now_ms = now_ms};
	assert_int_equal(isr_fetched(&x, &f, &trimmed), 0);
}

static int64_t high(int64_t before, int64_t end, int64_t now_ms)
{
	return isr_high_watermark(&x, &usual, before, end, end, now_ms);
}

static void test_least_of_isr(void **state)
{
	(void)state;
	lead(3, 10);
	assert_int_equal(high(4, 10, 1000), 4); /* nobody has fetched in this epoch */
	fetched(2, 10, 10, 1001);
	assert_int_equal(high(4, 10, 1001), 4);
	fetched(3, 7, 10, 1002);
	assert_int_equal(high(4, 10, 1002), 7);
	assert_int_equal(high(9, 10, 1002), 9); /* it never goes back */
	fetched(3, 10, 12, 1003);
	assert_int_equal(high(7, 12, 1003), 10);
	isr_begin_epoch(&x, 12, 1004); /* what was fetched before counts no more */
	assert_int_equal(high(10, 12, 1004), 10);
	assert_int_equal(isr_size(&x), 3);
	assert_false(isr_is_alone(&x));
}

static void test_change_counts_until_it_is_answered(void **state)
{
	(void)state;
	lead(2, 0);
	fetched(2, 10, 10, 1001);
	fetched(3, 5, 10, 1001);
	assert_int_equal(high(0, 10, 2000), 10);
	assert_false(isr_grow(&x, 3, 10, &change)); /* it has not come to the high watermark */
	fetched(3, 10, 14, 2001);
	fetched(2, 14, 14, 2001);
	assert_true(isr_grow(&x, 3, 10, &change));
	assert_int_equal(change.count, 3);
	assert_int_equal(high(10, 14, 5000), 10); /* it counts at once, however slow it is */
	assert_int_equal(isr_size(&x), 2);        /* but not for min.insync.replicas */
	assert_false(isr_grow(&x, 3, 10, &change));
	assert_false(isr_shrink(&x, &usual, 14, 9000, &change)); /* one change at a time */
	isr_withdraw(&x);
	assert_int_equal(high(10, 14, 5000), 14);

	lead(3, 20);
	fetched(2, 20, 20, 3000);
	assert_true(isr_shrink(&x, &usual, 20, 3001, &change)); /* 3 has not fetched at all */
	assert_int_equal(change.count, 2);
	assert_int_equal(high(14, 20, 3001), 14); /* until it is out */
	uint32_t serial = change.serial;
	assert_true(isr_is_asked(&x, serial));
	assert_false(isr_is_asked(&x, serial - 1));
	isr_commit(&x, (int32_t[]){2, 1}, 2);
	assert_int_equal(high(14, 20, 3001), 20);
	assert_false(isr_is_asked(&x, serial));
	isr_commit(&x, (int32_t[]){1}, 1);
	assert_true(isr_is_alone(&x));
}

static void test_joins_behind_the_start_of_the_epoch(void **state)
{
	(void)state;
	lead(1, 50); /* its own high watermark is at 30: what was acknowledged before it led may be up to 50 */
	fetched(2, 30, 50, 1001);
	assert_false(isr_grow(&x, 2, 30, &change));
	fetched(2, 50, 50, 1002);
	assert_true(isr_grow(&x, 2, 30, &change));
}

static void test_slow_ones_leave(void **state)
{
	(void)state;
	lead(3, 0);
	fetched(2, 0, 10, 1010); /* behind, */
	fetched(2, 10, 20, 1090); /* but now it has what there was at its last Fetch */
	fetched(3, 0, 10, 1010);
	fetched(3, 5, 20, 1090);
	assert_false(isr_shrink(&x, &usual, 20, 1100, &change));
	assert_true(isr_shrink(&x, &usual, 20, 1105, &change));
	assert_int_equal(change.count, 2);
	assert_int_equal(change.member[0].id, 1);
	assert_int_equal(change.member[1].id, 2);
	isr_withdraw(&x);
	fetched(3, 20, 20, 1106);
	assert_false(isr_shrink(&x, &usual, 20, 1110, &change));
	assert_true(isr_shrink(&x, &usual, 30, 100000, &change)); /* both */
	assert_int_equal(change.count, 1);
	isr_withdraw(&x);
	fetched(2, 30, 30, 1120);
	fetched(3, 30, 30, 1120);
	assert_false(isr_shrink(&x, &usual, 30, 100000, &change)); /* there is nothing that they do not have */
}

static void test_fetches_that_do_not_name_the_partition(void **state)
{
	(void)state;
	struct isr_pulse *pulse = isr_pulse_new();
	struct isr_fetch f = {.broker_epoch = -1, .end = 10, .leader_end = 10, .now_ms = 1000, .pulse = pulse};
	lead(3, 10);
	for (f.id = 2; f.id <= 3; f.id++)
		assert_int_equal(isr_fetched(&x, &f, &trimmed), 0);
	pulse->at_ms = 5000; /* the session of both goes on */
	assert_int_equal(high(10, 12, 5050), 10); /* something is appended: up to then they had all there was */
	pulse->at_ms = 5090; /* from here on it says nothing of who has not that */
	assert_false(isr_shrink(&x, &usual, 12, 5100, &change));
	assert_int_equal(pulse->refs, 1);
	f = (struct isr_fetch){.id = 2, .broker_epoch = -1, .end = 12, .leader_end = 12, .now_ms = 5095, .pulse = pulse};
	assert_int_equal(isr_fetched(&x, &f, &trimmed), 0);
	assert_true(isr_shrink(&x, &usual, 12, 5101, &change));
	assert_int_equal(change.count, 2);
	isr_withdraw(&x);

	pulse->at_ms = 9000;
	isr_rest(&x, pulse); /* it goes on without the partition */
	pulse->at_ms = 9900;
	assert_int_equal(pulse->refs, 1);
	isr_commit(&x, (int32_t[]){1, 2}, 2);
	assert_false(isr_shrink(&x, &usual, 13, 9100, &change));
	assert_true(isr_shrink(&x, &usual, 13, 9101, &change));

	assert_int_equal(isr_fetched(&x, &f, &trimmed), 0); /* who has a session's pulse, and is none of the replicas any more, lets go of it */
	assert_int_equal(pulse->refs, 2);
	assert_int_equal(isr_set(&x, 1, (int32_t[]){1, 3}, 2, (int32_t[]){1}, 1), 0);
	assert_int_equal(pulse->refs, 1);
	isr_pulse_unref(pulse);
}

static void test_waits_for_who_is_about_to_join(void **state)
{
	(void)state;
	lead(1, 0);
	fetched(2, 10, 10, 1001);
	assert_int_equal(high(0, 15, 1050), 10); /* it had all a moment ago */
	assert_int_equal(high(0, 15, 1102), 15);
	struct isr_rule strict = {.min_insync = 2, .lag_ms = 100};
	assert_int_equal(isr_high_watermark(&x, &strict, 3, 15, 15, 1102), 3); /* too few in sync */
	strict.min_insync = 9;
	isr_commit(&x, (int32_t[]){1, 2, 3}, 3);
	fetched(2, 15, 15, 1103);
	fetched(3, 15, 15, 1103);
	assert_int_equal(isr_high_watermark(&x, &strict, 3, 15, 15, 1103), 15); /* never more than there are */
}

static bool is_not(void *arg, int32_t id)
{
	return id != *(int32_t *)arg;
}

/* One that has kept up, and left with its broker, would hold up everybody until it has not been seen for lag_ms. */
static void test_waits_for_nobody_who_is_not_there(void **state)
{
	int32_t gone = 3;
	struct isr_rule knows = {.min_insync = 1, .lag_ms = 100, .alive = is_not, .arg = &gone};
	(void)state;
	lead(2, 10);
	fetched(3, 10, 10, 1001);
	fetched(2, 14, 14, 1002);
	assert_int_equal(isr_high_watermark(&x, &usual, 10, 14, 14, 1003), 10);
	assert_int_equal(isr_high_watermark(&x, &knows, 10, 14, 14, 1003), 14);
	gone = 2; /* who is in the ISR counts, there or not */
	fetched(3, 12, 14, 1004);
	fetched(2, 11, 14, 1004);
	assert_int_equal(isr_high_watermark(&x, &knows, 10, 14, 14, 1005), 11);
}

static void test_who_may_fetch(void **state)
{
	(void)state;
	lead(3, 0);
	struct isr_fetch f = {.id = 4, .broker_epoch = 7, .end = 3, .leader_end = 10, .now_ms = 1001};
	assert_int_equal(isr_fetched(&x, &f, &trimmed), ERR_NOT_FOUND);
	f.id = 1;
	assert_int_equal(isr_fetched(&x, &f, &trimmed), ERR_NOT_FOUND); /* the leader itself */
	f.id = 2;
	assert_int_equal(isr_fetched(&x, &f, &trimmed), 0);
	f.broker_epoch = 9;
	f.end = 2;
	assert_int_equal(isr_fetched(&x, &f, &trimmed), 0); /* started anew, and has lost something */
	assert_int_equal(x.member[1].end, 2);
	f.broker_epoch = 8;
	f.end = 10;
	assert_int_equal(isr_fetched(&x, &f, &trimmed), ERR_FENCED_EPOCH); /* what was sent before that */
	assert_int_equal(x.member[1].end, 2);
	fetched(3, 10, 10, 1002);
	isr_commit(&x, (int32_t[]){1, 3}, 2);
	f.broker_epoch = 9;
	assert_int_equal(isr_fetched(&x, &f, &trimmed), 0);
	assert_true(isr_grow(&x, 2, 0, &change));
	assert_int_equal(change.member[1].broker_epoch, 9);
	assert_int_equal(change.member[0].broker_epoch, -1);
}

static void test_replicas_change(void **state)
{
	(void)state;
	static const int32_t twice[] = {1, 2, 2}, five[] = {5, 1, 3, 4, 2}, all[ISR_REPLICAS + 1];
	struct isr alone = {0};
	assert_true(isr_is_alone(&alone));
	assert_int_equal(isr_size(&alone), 1);
	assert_int_equal(isr_high_watermark(&alone, &usual, 3, 8, 8, 0), 8);
	lead(3, 0);
	fetched(2, 10, 10, 1001);
	fetched(3, 10, 10, 1001);
	assert_int_equal(isr_set(&x, 1, twice, 3, five, 1), ERR_INVALID);
	assert_int_equal(isr_set(&x, 1, five, 4, five, 5), ERR_INVALID); /* 2 is in sync, and no replica */
	assert_int_equal(isr_set(&x, 1, all, ISR_REPLICAS + 1, five, 0), ERR_INVALID);
	assert_int_equal(isr_set(&x, 1, five, 0, five, 0), ERR_INVALID);
	assert_int_equal(high(0, 10, 1001), 10); /* as it was */
	assert_int_equal(isr_set(&x, 1, five, 5, five + 1, 2), 0);
	assert_int_equal(isr_size(&x), 2);
	assert_true(isr_has(&x, 3) && !isr_has(&x, 2) && !isr_has(&x, 6));
	assert_int_equal(high(0, 10, 1001), 10); /* what is known of 3 is kept */
}

/* ---- the world ---- */

enum { BROKERS = 4, LENGTH = 400, ASKED = 16, LAG_MS = 60 };

enum rule { /* how it is made simpler */
	AS_IT_IS,
	JOINS_AT_HIGH_WATERMARK, /* KAFKA-7128 */
	NEW_MEMBER_COUNTS_LATE,  /* once it is committed: KIP-497 */
	OLD_MEMBER_LEAVES_EARLY, /* once it is asked for */
	CUTS_AT_HIGH_WATERMARK,  /* KIP-101 */
	CUTS_BY_LAST_EPOCH_ONLY, /* KIP-279 */
	ANY_EPOCH_COUNTS,        /* Fetches of other epochs move the end */
	ENDS_OUTLIVE_EPOCHS,     /* what is known of a follower is kept when a leader begins another epoch */
	RULES,
};

struct entry { int epoch, value; };

struct replica {
	struct entry log[LENGTH];
	int end, high;
	int leader, epoch, partition_epoch; /* as it was told last */
	bool leads, aligned;                /* a follower: its log has not parted from its leader's in this epoch */
	struct isr isr;
};

struct asked { int from; struct isr_change c; };

struct world {
	enum rule rule;
	unsigned seed;
	struct replica r[BROKERS];
	int leader, epoch, partition_epoch; /* the controller's */
	unsigned isr;                       /* its mask */
	struct asked asked[ASKED];
	int asked_count;
	int64_t now_ms;
	int next_value, committed;          /* of committed_value: what some high watermark has passed, which was acknowledged then */
	struct entry committed_log[LENGTH];
	const char *broken;
};

static unsigned chance(struct world *w, unsigned n)
{
	w->seed = w->seed * 1103515245 + 12345;
	return (w->seed >> 16) % n;
}

static void is_broken(struct world *w, const char *what)
{
	if (!w->broken)
		w->broken = what;
}

/* ---- its checks ---- */

static bool same(const struct entry *a, const struct entry *b)
{
	return a->epoch == b->epoch && a->value == b->value;
}

/* What was acknowledged is, at every moment, on each replica that the controller could let lead next; and what a replica shows is that, too. */
static void check(struct world *w)
{
	for (int i = 0; i < BROKERS; i++) {
		struct replica *r = &w->r[i];
		int upto = w->isr & 1u << i ? w->committed : r->high < w->committed ? r->high : w->committed;
		if (r->high > r->end)
			is_broken(w, "a high watermark is past the end");
		for (int k = 0; k < upto; k++)
			if (k >= r->end)
				is_broken(w, "what was acknowledged is missing");
			else if (!same(&r->log[k], &w->committed_log[k]))
				is_broken(w, "what was acknowledged is something else");
	}
}

/* The leader's high watermark has moved: all below it is acknowledged. */
static void acknowledge(struct world *w, struct replica *r)
{
	for (int k = 0; k < r->high; k++)
		if (k < w->committed) {
			if (!same(&r->log[k], &w->committed_log[k]))
				is_broken(w, "two things were acknowledged at one offset");
		} else {
			w->committed_log[k] = r->log[k];
			w->committed = k + 1;
		}
}

/* ---- its brokers ---- */

static void advance(struct world *w, struct replica *r)
{
	struct isr view = r->isr;
	struct isr_rule rule = {.min_insync = 1, .lag_ms = LAG_MS};
	if (w->rule == NEW_MEMBER_COUNTS_LATE)
		view.proposed &= view.committed;
	if (w->rule == OLD_MEMBER_LEAVES_EARLY)
		view.committed &= view.proposed;
	int64_t to = isr_high_watermark(&view, &rule, r->high, r->end, r->end, w->now_ms);
	if (to < r->high || to > r->end)
		is_broken(w, "the high watermark went back, or past the end");
	for (int i = 0; to > r->high && i < r->isr.count; i++) /* the naive way to the same */
		if (i != r->isr.self && view.member[i].end < to && (view.committed | view.proposed) & 1u << i)
			is_broken(w, "the high watermark is past the end of one in sync");
	r->high = (int)to;
	acknowledge(w, r);
}

static void ask(struct world *w, int from, const struct isr_change *c)
{
	if (w->asked_count < ASKED)
		w->asked[w->asked_count] = (struct asked){from, *c};
	else
		isr_withdraw(&w->r[from].isr); /* it could not be sent */
	if (w->asked_count < ASKED) {
		w->asked[w->asked_count].c.leader_epoch = w->r[from].epoch;
		w->asked[w->asked_count++].c.partition_epoch = w->r[from].partition_epoch;
	}
}

static void append(struct world *w, int i)
{
	struct replica *r = &w->r[i];
	if (!r->leads || r->end == LENGTH)
		return;
	r->log[r->end++] = (struct entry){r->epoch, w->next_value++};
	advance(w, r);
}

/* Where the greatest epoch at or below `epoch` ends. */
static int epoch_end(const struct replica *r, int epoch, int *found)
{
	int end = 0;
	*found = -1;
	for (; end < r->end && r->log[end].epoch <= epoch; end++)
		*found = r->log[end].epoch;
	if (*found < 0)
		*found = epoch;
	return end;
}

static void cut(struct replica *r, int end)
{
	if (end < r->end)
		r->end = end;
	if (r->high > r->end)
		r->high = r->end;
}

/* OffsetForLeaderEpoch, until the logs do not part any more. */
static void align(struct world *w, struct replica *f, const struct replica *l)
{
	if (w->rule == CUTS_AT_HIGH_WATERMARK)
		cut(f, f->high);
	for (int last; w->rule != CUTS_AT_HIGH_WATERMARK && f->end; ) {
		int mine = f->log[f->end - 1].epoch, theirs = epoch_end(l, mine, &last), own, unused;
		if (w->rule == CUTS_BY_LAST_EPOCH_ONLY || last == mine) {
			cut(f, theirs);
			break;
		}
		own = epoch_end(f, last, &unused);
		cut(f, own < theirs ? own : theirs);
	}
	f->aligned = true;
}

static void fetch(struct world *w, int i)
{
	struct replica *f = &w->r[i];
	struct isr_change c;
	if (f->leads || f->leader < 0)
		return;
	struct replica *l = &w->r[f->leader];
	bool same_epoch = l->epoch == f->epoch || w->rule == ANY_EPOCH_COUNTS;
	if (!l->leads || !same_epoch)
		return;
	if (!f->aligned) {
		align(w, f, l);
		return; /* much may happen until it fetches */
	}
	if (f->end > l->end)
		return; /* out of range */
	struct isr_fetch at = {.id = i, .broker_epoch = -1, .end = f->end, .leader_end = l->end, .now_ms = w->now_ms};
	assert_int_equal(isr_fetched(&l->isr, &at, &trimmed), 0);
	if (isr_grow(&l->isr, i, l->high, &c))
		ask(w, f->leader, &c);
	advance(w, l);
	for (unsigned n = chance(w, 4); n && f->end < l->end; n--, f->end++)
		f->log[f->end] = l->log[f->end];
	int high = l->high < f->end ? l->high : f->end;
	if (high > f->high)
		f->high = high;
}

static int ids_of(unsigned mask, int32_t *ids)
{
	int n = 0;
	for (int i = 0; i < BROKERS; i++)
		if (mask & 1u << i)
			ids[n++] = i;
	return n;
}

/* LeaderAndIsr reaches a broker. */
static void tell(struct world *w, int i)
{
	struct replica *r = &w->r[i];
	int32_t all[BROKERS], isr[BROKERS];
	if (w->partition_epoch == r->partition_epoch)
		return;
	bool news = w->epoch != r->epoch;
	r->leads = w->leader == i;
	assert_int_equal(isr_set(&r->isr, i, all, ids_of(15, all), isr, ids_of(w->isr, isr)), 0);
	if (r->leads && news) {
		struct isr_member kept[BROKERS];
		memcpy(kept, r->isr.member, sizeof kept);
		isr_begin_epoch(&r->isr, r->end, w->now_ms);
		if (w->rule == ENDS_OUTLIVE_EPOCHS)
			for (int k = 0; k < BROKERS; k++)
				r->isr.member[k].end = kept[k].end;
		if (w->rule == JOINS_AT_HIGH_WATERMARK)
			r->isr.epoch_start = 0;
	}
	r->leader = w->leader;
	r->epoch = w->epoch;
	r->partition_epoch = w->partition_epoch;
	if (news)
		r->aligned = false;
	if (r->leads)
		advance(w, r);
}

/* Thinks those of the mask dead, or wants another to lead: any of those in sync. The last one in sync is the one to lead, dead or not. */
static void elect(struct world *w, unsigned gone)
{
	unsigned left = w->isr & ~gone ? w->isr & ~gone : w->isr;
	int32_t ids[BROKERS];
	int n = ids_of(left, ids);
	if (!gone || gone == 1u << w->leader)
		w->leader = ids[chance(w, (unsigned)n)];
	w->isr = left;
	w->epoch++;
	w->partition_epoch++;
}

/* A process that was killed comes back with its log, and an old high watermark. To the controller that is a death, then a birth. */
static void restart(struct world *w, int i)
{
	struct replica *r = &w->r[i];
	elect(w, 1u << i);
	r->high = (int)chance(w, (unsigned)r->high + 1);
	r->leads = r->aligned = false;
	r->leader = -1;
	r->epoch = r->partition_epoch = -1;
}

/* ---- its controller ---- */

static void answer(struct world *w)
{
	if (!w->asked_count)
		return;
	unsigned at = chance(w, (unsigned)w->asked_count);
	struct asked a = w->asked[at];
	bool good = a.c.leader_epoch == w->epoch && a.c.partition_epoch == w->partition_epoch && a.from == w->leader;
	if (good) {
		w->isr = 0;
		for (int k = 0; k < a.c.count; k++)
			w->isr |= 1u << a.c.member[k].id;
		w->partition_epoch++;
	}
	if (chance(w, 4) == 0)
		return; /* the answer is lost: it is asked again, and refused then */
	w->asked[at] = w->asked[--w->asked_count];
	struct replica *r = &w->r[a.from];
	int32_t isr[BROKERS];
	if (!good || !r->leads || r->epoch != a.c.leader_epoch || r->partition_epoch != a.c.partition_epoch || !isr_is_asked(&r->isr, a.c.serial))
		return;
	isr_commit(&r->isr, isr, ids_of(w->isr, isr));
	r->partition_epoch = w->partition_epoch;
	advance(w, r);
}

static const char *run(enum rule rule, unsigned seed, int steps)
{
	static struct world w;
	memset(&w, 0, sizeof w);
	w.rule = rule;
	w.seed = seed * 2654435761u + 1;
	w.isr = 15;
	w.now_ms = 1000;
	for (int i = 0; i < BROKERS; i++)
		restart(&w, i);
	for (int s = 0; s < steps && !w.broken; s++) {
		int i = (int)chance(&w, BROKERS);
		unsigned what = chance(&w, 100);
		if (what < 25)
			append(&w, i);
		else if (what < 60)
			fetch(&w, i);
		else if (what < 76)
			tell(&w, i);
		else if (what < 84)
			answer(&w);
		else if (what < 90)
			w.now_ms += chance(&w, LAG_MS);
		else if (what < 95) {
			struct isr_change c;
			struct isr_rule usual_here = {.min_insync = 1, .lag_ms = LAG_MS};
			if (w.r[i].leads && isr_shrink(&w.r[i].isr, &usual_here, w.r[i].end, w.now_ms, &c))
				ask(&w, i, &c);
		} else if (what < 97)
			elect(&w, 1u << i);
		else if (what < 98)
			elect(&w, 0);
		else if (what < 99)
			restart(&w, i);
		check(&w);
	}
	if (!w.broken && w.committed < 5 && rule == AS_IT_IS && steps > 1000)
		fprintf(stderr, "seed %u: only %d committed\n", seed, w.committed);
	for (int i = 0; i < BROKERS; i++)
		isr_release(&w.r[i].isr);
	return w.broken;
}

static void test_world(void **state)
{
	(void)state;
	for (unsigned seed = 0; seed < 3000; seed++) {
		const char *broken = run(AS_IT_IS, seed, 1500);
		if (broken)
			fail_msg("seed %u: %s", seed, broken);
	}
}

static void test_world_finds_out(void **state)
{
	(void)state;
	for (int rule = AS_IT_IS + 1; rule < RULES; rule++) {
		unsigned seed = 0;
		while (seed < 3000 && !run((enum rule)rule, seed, 1500))
			seed++;
		if (seed == 3000)
			fail_msg("rule %d was made simpler, and nobody noticed", rule);
		if (getenv("VERBOSE"))
			fprintf(stderr, "rule %d: seed %u: %s\n", rule, seed, run((enum rule)rule, seed, 1500));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_least_of_isr, release),
		cmocka_unit_test_teardown(test_change_counts_until_it_is_answered, release),
		cmocka_unit_test_teardown(test_joins_behind_the_start_of_the_epoch, release),
		cmocka_unit_test_teardown(test_slow_ones_leave, release),
		cmocka_unit_test_teardown(test_fetches_that_do_not_name_the_partition, release),
		cmocka_unit_test_teardown(test_waits_for_who_is_about_to_join, release),
		cmocka_unit_test_teardown(test_waits_for_nobody_who_is_not_there, release),
		cmocka_unit_test_teardown(test_who_may_fetch, release),
		cmocka_unit_test_teardown(test_replicas_change, release),
		cmocka_unit_test(test_world),
		cmocka_unit_test(test_world_finds_out),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
