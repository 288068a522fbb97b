/*
 * What becomes of a partition: from the state that is committed, and who is alive, the state that is to be written. The rules are README.md's, "Electing a leader".
 */
#include "cluster/control/state.h"

enum standing replica_standing(const struct brain *b, const struct part *p, int32_t id)
{
	const struct broker *r = broker_find(b, id);
	int32_t row = part_row(b, p);
	if (!broker_alive(r) || bits_has(&r->offline, row))
		return AWAY;
	if (bits_has(&r->lost, row))
		return r->leaving ? AWAY : r->unclean ? UNCLEAN : BACK;
	return r->leaving ? LEAVING : GOOD;
}

bool topic_is_unclean(const struct brain *b, const struct topic *t)
{
	return t->unclean < 0 ? b->o.unclean_elections : t->unclean;
}

/* What decide() asks of the members of an ISR again and again. */
struct look {
	struct brain *b;
	struct part *p;
	const int32_t *order; /* who may lead, the first choice first */
	int32_t orders;
	struct ids_room isr;  /* the committed one, without replicas that are none any more */
	bool unproved;        /* somebody who would do has not shown yet that it is alive */
};

/* The first choice among members of that standing that has proved to be alive; NO_LEADER. */
static int32_t first_member(struct look *l, enum standing wanted)
{
	for (int32_t i = 0; i < l->orders; i++) {
		int32_t id = l->order[i];
		if (!ids_has_n(l->isr.v, l->isr.n, id) || replica_standing(l->b, l->p, id) != wanted)
			continue;
		if (broker_proved(l->b, broker_find(l->b, id)))
			return id;
		l->unproved = true;
	}
	return NO_LEADER;
}

static void keep(const struct look *l, enum standing least, struct ids_room *isr)
{
	isr->n = 0;
	for (int32_t i = 0; i < l->isr.n; i++) {
		if (ids_has_n(l->order, l->orders, l->isr.v[i]) && replica_standing(l->b, l->p, l->isr.v[i]) >= least)
			ids_add(isr, l->isr.v[i]);
	}
}

static void lead(struct verdict *v, int32_t leader)
{
	v->leader = leader;
	v->write = true;
	v->settles = true;
}

/* There is a member that was there all the time. It leads, or goes on leading; all others that were not leave. false: none. */
static bool with_good_ones(struct look *l, bool moves, struct verdict *v)
{
	struct part *p = l->p;
	struct broker *leader = broker_find(l->b, p->leader);
	const struct item *elect = p->item[ITEM_ELECT];
	bool stays = ids_has_n(l->order, l->orders, p->leader) && ids_has_n(l->isr.v, l->isr.n, p->leader) && replica_standing(l->b, p, p->leader) == GOOD;
	int32_t chosen = stays ? p->leader : first_member(l, GOOD);
	if (stays && elect && !elect->unclean) {
		int32_t preferred = l->order[0];
		if (ids_has_n(l->isr.v, l->isr.n, preferred) && replica_standing(l->b, p, preferred) == GOOD) {
			if (broker_proved(l->b, broker_find(l->b, preferred)))
				chosen = preferred;
			else
				l->unproved = true;
		}
	}
	if (chosen == NO_LEADER)
		return false;
	keep(l, GOOD, &v->isr);
	bool drops = v->isr.n < ids_n(p->isr);
	v->settles = true;
	v->leader = chosen;
	if (chosen == p->leader && !drops && !moves && !v->completes) {
		v->waits = l->unproved;
		return true;
	}
	/* Who is taken out is taken out for a leader that is there. */
	if (chosen == p->leader && drops && !broker_proved(l->b, leader)) {
		v->waits = true;
		v->settles = false;
		return true;
	}
	v->write = true;
	return true;
}

static struct log_end *end_of(struct part *p, int32_t broker)
{
	for (int32_t i = 0; p->end && i < ids_n(p->isr); i++) {
		if (p->end[i].broker == broker)
			return &p->end[i];
	}
	return NULL;
}

/* The member that has most, of those that have come back without what was not on their disks: the greatest (last epoch, log end). Their log ends are asked for first. */
static int32_t fullest(struct look *l, struct verdict *v)
{
	struct part *p = l->p;
	const struct log_end *best = NULL;
	if (!p->end) {
		p->end = brain_need(l->b, calloc((size_t)ids_n(p->isr), sizeof *p->end));
		for (int32_t i = 0; p->end && i < ids_n(p->isr); i++)
			p->end[i].broker = p->isr->v[i];
	}
	bool all = p->end != NULL;
	for (int32_t i = 0; p->end && i < l->orders; i++) {
		if (!ids_has_n(l->isr.v, l->isr.n, l->order[i]) || replica_standing(l->b, p, l->order[i]) != UNCLEAN)
			continue;
		const struct log_end *end = end_of(p, l->order[i]);
		if (!end || !end->known)
			all = false;
		else if (!best || end->epoch > best->epoch || (end->epoch == best->epoch && end->offset > best->offset))
			best = end;
	}
	if (!all) {
		v->asks = true;
		return NO_LEADER;
	}
	return best ? best->broker : NO_LEADER;
}

/* No member is left that is certain to have everything; some are back from an unclean stop. true: one leads from now on. */
static bool with_unclean_ones(struct look *l, bool unclean_election, struct verdict *v)
{
	struct part *p = l->p;
	int32_t unclean = 0, chosen = NO_LEADER, only = NO_LEADER;
	for (int32_t i = 0; i < l->isr.n; i++) {
		if (replica_standing(l->b, p, l->isr.v[i]) == UNCLEAN) {
			unclean++;
			only = l->isr.v[i];
		}
	}
	if (!unclean)
		return false;
	bool all_here = unclean == l->isr.n;
	if (!all_here && !unclean_election) {
		if (p->waits_since_ms < 0)
			p->waits_since_ms = l->b->now_ms;
		if (l->b->now_ms - p->waits_since_ms < l->b->o.unclean_wait_ms) {
			v->look_again_ms = p->waits_since_ms + l->b->o.unclean_wait_ms;
			return false;
		}
	}
	if (unclean > 1)
		chosen = fullest(l, v);
	else if (broker_proved(l->b, broker_find(l->b, only)))
		chosen = only;
	else
		l->unproved = true;
	if (chosen == NO_LEADER)
		return false;
	v->isr.n = 0;
	ids_add(&v->isr, chosen);
	lead(v, chosen);
	return true;
}

/* From outside the ISR: what its members had beyond it is lost. */
static bool from_outside(struct look *l, struct verdict *v)
{
	for (int32_t i = 0; i < l->orders; i++) {
		const struct broker *r = broker_find(l->b, l->order[i]);
		if (!broker_alive(r) || r->leaving || bits_has(&r->offline, part_row(l->b, l->p)))
			continue;
		if (!broker_proved(l->b, r)) {
			l->unproved = true;
			continue;
		}
		if (ids_has_n(l->isr.v, l->isr.n, r->id))
			continue;
		v->isr.n = 0;
		ids_add(&v->isr, r->id);
		v->recovering = true;
		lead(v, r->id);
		return true;
	}
	return false;
}

static void without_good_ones(struct look *l, struct verdict *v)
{
	struct part *p = l->p;
	const struct item *elect = p->item[ITEM_ELECT];
	bool unclean_election = topic_is_unclean(l->b, part_topic(l->b, p)) || (elect && elect->unclean);
	int32_t back = first_member(l, BACK);
	if (back != NO_LEADER) {
		keep(l, BACK, &v->isr);
		lead(v, back);
		return;
	}
	if (l->unproved) {
		v->waits = true;
		return;
	}
	if (with_unclean_ones(l, unclean_election, v))
		return;
	if (v->asks || l->unproved)
		v->waits = true;
	/* A leader that is about to stop, and that nobody can take the place of, leads to its end. */
	bool leaving = replica_standing(l->b, p, p->leader) == LEAVING && ids_has_n(l->isr.v, l->isr.n, p->leader) && ids_has_n(l->order, l->orders, p->leader);
	if (leaving)
		return;
	if (unclean_election && !v->waits && from_outside(l, v))
		return;
	v->waits = v->waits || l->unproved;
	if (p->leader != NO_LEADER) {
		v->leader = NO_LEADER;
		v->write = true;
	}
}

void decide(struct brain *b, struct part *p, const struct brain_assignment *a, bool moves, struct verdict *v)
{
	struct ids_room target;
	struct look l = {.b = b, .p = p};
	target_of(a, &target);
	for (int32_t i = 0; i < ids_n(p->isr); i++) {
		if (ids_has(a->replicas, p->isr->v[i]))
			ids_add(&l.isr, p->isr->v[i]);
	}
	*v = (struct verdict){.leader = p->leader, .recovering = p->recovering, .look_again_ms = INT64_MAX, .isr = l.isr};
	l.order = a->replicas->v;
	l.orders = a->replicas->n;
	if (ids_n(a->adding) || ids_n(a->removing)) {
		v->completes = target.n > 0;
		for (int32_t i = 0; i < target.n; i++)
			v->completes = v->completes && ids_has_n(l.isr.v, l.isr.n, target.v[i]) && replica_standing(b, p, target.v[i]) == GOOD;
		if (v->completes) {
			l.order = target.v;
			l.orders = target.n;
		}
	}
	if (with_good_ones(&l, moves, v))
		return;
	/* Nobody of the target can take over yet. */
	v->completes = false;
	l.order = a->replicas->v;
	l.orders = a->replicas->n;
	v->isr = l.isr;
	if (l.unproved) {
		v->waits = true;
		return;
	}
	without_good_ones(&l, v);
}

void decide_first(struct brain *b, struct part *p, struct verdict *v)
{
	*v = (struct verdict){.leader = NO_LEADER, .look_again_ms = INT64_MAX, .settles = true};
	for (int32_t i = 0; i < ids_n(p->replicas); i++) {
		const struct broker *r = broker_find(b, p->replicas->v[i]);
		if (!broker_alive(r) || r->leaving || bits_has(&r->offline, part_row(b, p)))
			continue;
		ids_add(&v->isr, r->id);
		if (v->leader == NO_LEADER && broker_proved(b, r))
			v->leader = r->id;
	}
	v->write = v->leader != NO_LEADER;
	v->waits = !v->write && v->isr.n;
}
