/*
 * Random histories: brokers stop cleanly, lose their power, hang and come back; leaders shrink and grow their ISRs; topics come, grow, move and go; controllers are replaced in the midst of it; writes and requests are done one at a time in
 * any order. The fixture holds every write and every request against what must always hold; here stands what must hold once all is quiet.
 *
 * Beside that, a model of the data. Every partition of the first topic has a log of numbers. A leader that knows itself to be one appends; who is in the ISR, as the leader knows it, gets it; what all of them have is committed. A broker that loses its
 * power keeps what was on its disk. Nothing that was committed may be missing at a leader, unless the power failed at all members.
 */
#include "control_fixture.h"

enum { PARTS = 4, BROKERS = 5 };

struct log { int64_t end, on_disk; int32_t epoch; };

struct history {
	struct world *w;
	uint64_t seed;
	struct log log[BROKERS + 1][PARTS];
	int64_t committed[PARTS];
	struct w_asked asked[BROKERS + 1][PARTS]; /* the ISR that a leader has asked for */
	bool running[BROKERS + 1];  /* the process, whatever is registered */
	bool lost[BROKERS + 1][PARTS]; /* has lost its power since it became a member of that ISR */
	int sealed;                 /* no further topics */
};

static uint64_t roll(struct history *h, uint64_t n)
{
	h->seed ^= h->seed << 13;
	h->seed ^= h->seed >> 7;
	h->seed ^= h->seed << 17;
	return h->seed % n;
}

static struct w_told *told(struct history *h, int32_t id, int p)
{
	struct w_told *t = &h->w->broker[id].told[0][p];
	return t->any && memcmp(t->id, h->w->topic[0].id, 16) == 0 ? t : NULL;
}

static bool fetches(struct history *h, int32_t follower, int32_t leader, int p)
{
	struct w_told *f = told(h, follower, p), *l = told(h, leader, p);
	return h->running[follower] && !h->w->broker[follower].hangs && f && l && f->leader == leader && f->leader_epoch == l->leader_epoch;
}

/* A leader that runs: appends, followers fetch, what the ISR has is committed. An ISR of one commits what is on its disk. */
static void replicate(struct history *h, int32_t id, int p)
{
	struct w_told *l = told(h, id, p);
	if (!h->running[id] || h->w->broker[id].hangs || !l || l->leader != id)
		return;
	struct log *mine = &h->log[id][p];
	/* In an epoch of its own it has everything that was committed, or its log is no use. */
	mine->end += (int64_t)roll(h, 3);
	mine->epoch = l->leader_epoch;
	int64_t least = mine->end;
	for (int32_t f = 1; f <= BROKERS; f++) {
		if (f == id)
			continue;
		struct log *theirs = &h->log[f][p];
		if (fetches(h, f, id, p)) {
			if (theirs->epoch < mine->epoch && theirs->end > mine->end)
				theirs->end = mine->end;
			if (theirs->on_disk > theirs->end)
				theirs->on_disk = theirs->end;
			if (roll(h, 3))
				theirs->end = mine->end, theirs->epoch = mine->epoch;
		}
		bool counts = fetches(h, f, id, p) && theirs->epoch == mine->epoch;
		/* Of the ISR that it has, and of the one that it may have without knowing (KIP-497). */
		bool member = w_has(&l->isr, f) || (h->asked[id][p].pending && w_has(&h->asked[id][p].isr, f));
		if (member && (!counts || theirs->end < least))
			least = counts ? theirs->end : 0;
	}
	if (l->isr.n == 1)
		mine->on_disk = mine->end;
	/* What it thinks counts only if nobody else leads: else the followers would not be there. */
	if (least > h->committed[p])
		h->committed[p] = least;
}

/* As its lags tell it, the leader asks for another ISR. */
static void alter(struct history *h, int32_t id, int p)
{
	struct w_told *l = told(h, id, p);
	struct w_state *s = &h->w->topic[0].state[p];
	if (!h->running[id] || h->w->broker[id].hangs || !h->w->broker[id].up || !l || l->leader != id || !s->exists)
		return;
	struct w_asked *asked = &h->asked[id][p];
	if (l->leader_epoch != s->leader_epoch || asked->pending)
		return;
	l->isr = s->isr; /* the answers to its earlier ones */
	l->knows = s->version;
	struct w_list isr = {1, {id}};
	for (int32_t f = 1; f <= BROKERS; f++) {
		if (f == id || !w_has(&h->w->topic[0].replicas[p], f))
			continue;
		bool caught_up = fetches(h, f, id, p) && h->log[f][p].end == h->log[id][p].end && h->log[f][p].epoch == h->log[id][p].epoch;
		if (caught_up || (w_has(&s->isr, f) && roll(h, 2)))
			isr.v[isr.n++] = f;
	}
	*asked = (struct w_asked){API_ALTER_PARTITION, true, isr};
	w_alter_by(h->w, id, 0, p, l->leader_epoch, s->version, false, isr.n, isr.v, asked);
}

/* The power has failed at all members: what the fullest of them has left is all that there is. */
static void forgive(struct history *h)
{
	for (int p = 0; p < PARTS; p++) {
		const struct w_state *s = &h->w->topic[0].state[p];
		const struct log *best = NULL;
		bool all = s->exists;
		for (int32_t id = 1; id <= BROKERS; id++) {
			if (!w_has(&s->isr, id)) {
				h->lost[id][p] = false;
				continue;
			}
			const struct log *l = &h->log[id][p];
			all = all && h->lost[id][p];
			if (!best || l->epoch > best->epoch || (l->epoch == best->epoch && l->end > best->end))
				best = l;
		}
		if (all && best->end < h->committed[p])
			h->committed[p] = best->end;
	}
}

static void note_isrs(struct history *h)
{
	forgive(h);
	for (int32_t id = 1; id <= BROKERS; id++) {
		for (int p = 0; p < PARTS; p++) {
			struct w_told *l = told(h, id, p);
			struct w_state *s = &h->w->topic[0].state[p];
			if (l && s->exists && l->leader == id && l->leader_epoch == s->leader_epoch) {
				/* The maximal ISR: who is being taken out counts until that is written. */
				l->isr = s->isr;
				l->knows = s->version;
			}
		}
	}
}

static void stop(struct history *h, int32_t id, bool power)
{
	for (int p = 0; p < PARTS; p++) {
		struct log *l = &h->log[id][p];
		if (power)
			l->end = l->on_disk + (l->end > l->on_disk ? (int64_t)roll(h, (uint64_t)(l->end - l->on_disk + 1)) : 0);
		if (power)
			l->on_disk = l->end; /* what is left is what was on it */
		h->w->broker[id].end[p] = l->end;
		h->w->broker[id].end_epoch[p] = l->epoch;
		h->lost[id][p] = h->lost[id][p] || power;
	}
	forgive(h);
}

static bool runs_unclean[BROKERS + 1];

static void start(struct history *h, int32_t id)
{
	h->running[id] = true;
	for (int p = 0; p < PARTS; p++) {
		h->w->broker[id].end[p] = h->log[id][p].end;
		h->w->broker[id].end_epoch[p] = h->log[id][p].epoch;
	}
	w_register(h->w, id, !runs_unclean[id]);
}

static void flush_some(struct history *h)
{
	struct log *l = &h->log[1 + roll(h, BROKERS)][roll(h, PARTS)];
	if (l->end > l->on_disk)
		l->on_disk += (int64_t)roll(h, (uint64_t)(l->end - l->on_disk + 1));
}

static void happen(struct history *h, bool power_cuts)
{
	struct world *w = h->w;
	int32_t id = 1 + (int32_t)roll(h, BROKERS);
	int p = (int)roll(h, PARTS);
	switch (roll(h, 24)) {
	case 0: /* it dies; ZooKeeper notices later */
		if (h->running[id]) {
			bool power = power_cuts && roll(h, 2);
			h->running[id] = false;
			w->broker[id].hangs = true;
			runs_unclean[id] = runs_unclean[id] || power;
			stop(h, id, power);
		}
		break;
	case 1:
		if (!h->running[id] && w->broker[id].up)
			w_down(w, id);
		break;
	case 2:
	case 3: /* it is back, maybe before its old session has ended */
		if (!h->running[id])
			start(h, id);
		break;
	case 4:
		if (h->running[id])
			w->broker[id].hangs = !w->broker[id].hangs;
		break;
	case 5:
		w_shutdown(w, id, -1);
		break;
	case 6:
		w_elect(w, roll(h, 3) ? "t" : NULL, p, false);
		break;
	case 7: {
		int32_t to[] = {1 + (int32_t)roll(h, BROKERS), 1 + (int32_t)roll(h, BROKERS), 1 + (int32_t)roll(h, BROKERS)};
		w_reassign(w, "t", p, roll(h, 2), roll(h, 6) ? 1 + (int32_t)roll(h, 3) : -1, to);
		break;
	}
	case 8:
		if (!roll(h, 10))
			w_begin(w);
		break;
	case 9:
		brain_broker_refuses(w->b, id, h->running[id] ? -1 : w->broker[id].epoch);
		break;
	case 10: {
		struct brain_new_topic n = {.name = "u", .partitions = 3, .replication_factor = 2, .unclean = -1};
		for (int i = 0; i < 16; i++)
			n.id[i] = (uint8_t)roll(h, 256);
		if (!h->sealed)
			brain_create_topic(w->b, &n, &t_topic);
		break;
	}
	case 11:
		brain_delete_topic(w->b, "u", any_id, roll(h, 2), &t_topic);
		break;
	case 12:
		brain_create_partitions(w->b, "u", -1, 3 + (int32_t)roll(h, 3), NULL, 0, false, &t_topic);
		break;
	case 13:
		w->now += 1000;
		brain_tick(w->b, w->now);
		break;
	case 14:
	case 15:
	case 16:
		alter(h, id, p);
		break;
	case 17:
		flush_some(h);
		break;
	default:
		for (int k = 0; k < PARTS; k++)
			replicate(h, id, k);
	}
}

/* One write or request at a time, in any order. */
static void step(struct history *h)
{
	struct world *w = h->w;
	int32_t id = 1 + (int32_t)roll(h, BROKERS);
	if (w->writing) {
		if (roll(h, 2)) {
			w_do_batch(w);
			note_isrs(h);
		}
	} else if (roll(h, 2)) {
		w_take_batch(w);
	}
	struct w_broker *r = &w->broker[id];
	if (!r->up)
		return;
	if (!r->has) {
		w_take_request(w, id);
	} else if (roll(h, 4) == 0) {
		r->has = false;
		brain_unanswered(w->b, id, r->epoch);
	} else if (!r->hangs && h->running[id]) {
		bool first = !r->full && r->request.api_key == API_LEADER_AND_ISR;
		w_answer_request(w, id);
		if (first)
			runs_unclean[id] = false; /* as a broker does: from here on another start in the same boot is a clean one */
	}
	assert_int_equal(brain_failed(w->b, NULL), 0);
}

static void check_leaders(struct history *h)
{
	struct world *w = h->w;
	for (int p = 0; p < PARTS; p++) {
		struct brain_view v = w_view(w, "t", p);
		assert_true(v.leader > 0);
		assert_true(ids_has(v.isr, v.leader));
		if (h->log[v.leader][p].end < h->committed[p])
			fail_msg("partition %d: its leader %d ends at %lld, %lld was committed", p, v.leader, (long long)h->log[v.leader][p].end, (long long)h->committed[p]);
	}
}

static void settle(struct history *h)
{
	struct world *w = h->w;
	h->sealed = 1;
	for (int32_t id = 1; id <= BROKERS; id++) {
		w->broker[id].hangs = !h->running[id];
		if (w->broker[id].has && h->running[id]) {
			w->broker[id].has = false;
			brain_unanswered(w->b, id, w->broker[id].epoch);
		}
		if (!h->running[id] || !w->broker[id].up)
			start(h, id);
	}
	w_run(w);
	for (int32_t id = 1; id <= BROKERS; id++) { /* those that were shutting down or fenced have a new life */
		w_register(w, id, true);
		w_run(w);
	}
	check_leaders(h);
	for (int round = 0; round < 8; round++) {
		note_isrs(h);
		for (int32_t id = 1; id <= BROKERS; id++) {
			for (int p = 0; p < PARTS; p++) {
				for (int k = 0; k < 6; k++)
					replicate(h, id, p);
				struct w_told *l = told(h, id, p);
				if (l && l->leader == id)
					for (int32_t f = 1; f <= BROKERS; f++)
						if (fetches(h, f, id, p))
							h->log[f][p] = h->log[id][p];
				alter(h, id, p);
			}
		}
		w_run(w);
	}
	w_elect(w, NULL, 0, false);
	w_run(w);
	for (int p = 0; p < PARTS; p++) {
		struct brain_view v = w_view(w, "t", p);
		assert_int_equal(v.leader, ids_first(v.replicas));
		assert_int_equal(ids_n(v.isr), ids_n(v.replicas));
		assert_true(!ids_n(v.adding) && !ids_n(v.removing));
	}
	for (int32_t id = 1; id <= BROKERS; id++)
		assert_true(w->ledger[id].l.settled_epoch == w->broker[id].epoch && !w->ledger[id].l.unclean);
}

static void walk(uint64_t seed, int steps, bool power_cuts)
{
	struct history h = {.seed = seed * 2654435761u + 88172645463325252u};
	memset(runs_unclean, 0, sizeof runs_unclean);
	for (int id = 1; id <= BROKERS; id++)
		h.running[id] = true;
	h.w = w_new(BROKERS);
	h.w->o.max_multi_bytes = 4000;
	h.w->o.auto_balance = true;
	h.w->o.balance_interval_ms = 10000;
	h.w->o.unclean_wait_ms = 1000000000;
	w_begin(h.w);
	w_create(h.w, "t", PARTS, 3);
	for (int i = 0; i < steps; i++) {
		happen(&h, power_cuts);
		for (uint64_t k = roll(&h, 6); k; k--)
			step(&h);
	}
	settle(&h);
	w_free(h.w);
}

static void test_histories_without_power_cuts_lose_nothing(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 150; seed++)
		walk(seed, 400, false);
}

static void test_histories_with_power_cuts_keep_every_rule(void **state)
{
	(void)state;
	for (uint64_t seed = 1001; seed <= 1150; seed++)
		walk(seed, 400, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_histories_without_power_cuts_lose_nothing),
		cmocka_unit_test(test_histories_with_power_cuts_keep_every_rule),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
