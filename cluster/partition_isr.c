#include "cluster/partition_isr.h"

#include <stdlib.h>

#include "store/err.h"

#define LONG_AGO (INT64_MIN / 2)

static uint32_t bit(int i)
{
	return UINT32_C(1) << i;
}

static int place_of(const struct isr_member *m, int count, int32_t id)
{
	int i = 0;
	while (i < count && m[i].id != id)
		i++;
	return i < count ? i : -1;
}

static uint32_t maximal(const struct isr *x)
{
	return x->committed | x->proposed;
}

/* ---- pulses ---- */

struct isr_pulse *isr_pulse_new(void)
{
	struct isr_pulse *u = calloc(1, sizeof *u);
	if (u)
		u->refs = 1;
	return u;
}

void isr_pulse_ref(struct isr_pulse *u)
{
	atomic_fetch_add(&u->refs, 1);
}

void isr_pulse_unref(struct isr_pulse *u)
{
	if (u && atomic_fetch_sub(&u->refs, 1) == 1)
		free(u);
}

/* What its fetches have said without naming the partition is known by itself from here on. */
static void settle_pulse(struct isr_member *m)
{
	if (!m->pulse)
		return;
	if (m->pulse->at_ms > m->caught_up_ms)
		m->caught_up_ms = m->pulse->at_ms;
	isr_pulse_unref(m->pulse);
	m->pulse = NULL;
}

/* The leader's end is there: of who has not reached it, fetches that do not name the partition say nothing more. */
static void settle_behind(struct isr *x, int64_t leader_end)
{
	for (int i = 0; i < x->count; i++)
		if (x->member[i].pulse && x->member[i].end < leader_end)
			settle_pulse(&x->member[i]);
}

void isr_rest(struct isr *x, const struct isr_pulse *pulse)
{
	for (int i = 0; i < x->count; i++)
		if (x->member[i].pulse == pulse)
			settle_pulse(&x->member[i]);
}

/* ---- who is who ---- */

static uint32_t places_of(const struct isr_member *m, int count, const int32_t *ids, int id_count, bool *strange)
{
	uint32_t places = 0;
	for (int i = 0; i < id_count; i++) {
		int at = place_of(m, count, ids[i]);
		if (at >= 0)
			places |= bit(at);
		else
			*strange = true;
	}
	return places;
}

int isr_set(struct isr *x, int32_t self, const int32_t *replicas, int replica_count, const int32_t *isr, int isr_count)
{
	if (replica_count < 1 || replica_count > ISR_REPLICAS || isr_count < 0)
		return ERR_INVALID;
	struct isr_member *m = calloc((size_t)replica_count, sizeof *m);
	if (!m)
		return ERR_NO_MEMORY;
	bool strange = false;
	for (int i = 0; i < replica_count; i++) {
		int known = place_of(x->member, x->count, replicas[i]);
		strange |= place_of(m, i, replicas[i]) >= 0;
		m[i] = known >= 0 ? x->member[known]
				  : (struct isr_member){.id = replicas[i], .end = -1, .broker_epoch = -1, .fetched_ms = LONG_AGO, .fetched_end = -1, .caught_up_ms = LONG_AGO, .log_start = -1};
	}
	uint32_t committed = places_of(m, replica_count, isr, isr_count, &strange);
	if (strange) {
		free(m);
		return ERR_INVALID;
	}
	for (int i = 0; i < x->count; i++)
		if (place_of(m, replica_count, x->member[i].id) < 0)
			isr_pulse_unref(x->member[i].pulse);
	free(x->member);
	x->member = m;
	x->count = replica_count;
	x->self = place_of(m, replica_count, self);
	x->committed = x->proposed = committed;
	x->asking = false;
	return 0;
}

void isr_release(struct isr *x)
{
	for (int i = 0; i < x->count; i++)
		isr_pulse_unref(x->member[i].pulse);
	free(x->member);
	*x = (struct isr){0};
}

void isr_begin_epoch(struct isr *x, int64_t end, int64_t now_ms)
{
	x->epoch_start = end;
	x->proposed = x->committed;
	x->asking = false;
	for (int i = 0; i < x->count; i++) {
		struct isr_member *m = &x->member[i];
		settle_pulse(m);
		m->end = m->fetched_end = m->log_start = -1;
		m->fetched_ms = LONG_AGO;
		m->caught_up_ms = x->committed & bit(i) ? now_ms : LONG_AGO; /* who is out does not hold up the high watermark */
	}
}

int isr_size(const struct isr *x)
{
	return x->count ? __builtin_popcount(x->committed) : 1;
}

bool isr_is_alone(const struct isr *x)
{
	return !x->count || (maximal(x) & ~bit(x->self)) == 0;
}

bool isr_has(const struct isr *x, int32_t id)
{
	int at = place_of(x->member, x->count, id);
	return at >= 0 && x->committed & bit(at);
}

/* ---- how far they are ---- */

static int64_t caught_up_ms(const struct isr_member *m)
{
	int64_t pulse_ms = m->pulse ? m->pulse->at_ms : m->caught_up_ms;
	return pulse_ms > m->caught_up_ms ? pulse_ms : m->caught_up_ms;
}

/* Whether `m` is ahead of `best`: by its end, then by when it last had all there was. */
static bool is_ahead(const struct isr_member *m, const struct isr_member *best)
{
	if (!best || m->end != best->end)
		return !best || m->end > best->end;
	return caught_up_ms(m) != caught_up_ms(best) ? caught_up_ms(m) > caught_up_ms(best) : m->id > best->id;
}

int32_t isr_preferred(const struct isr *x, int64_t offset, const int32_t *ids, int count)
{
	const struct isr_member *best = NULL;
	for (int i = 0; i < count; i++) {
		int at = place_of(x->member, x->count, ids[i]);
		if (at < 0)
			continue;
		if (at == x->self)
			return -1;
		const struct isr_member *m = &x->member[at];
		if (x->committed & bit(at) && m->end >= offset && m->log_start <= offset && is_ahead(m, best))
			best = m;
	}
	return best ? best->id : -1;
}

int isr_fetched(struct isr *x, const struct isr_fetch *f, bool *trimmed)
{
	int at = place_of(x->member, x->count, f->id);
	if (at < 0 || at == x->self)
		return ERR_NOT_FOUND;
	struct isr_member *m = &x->member[at];
	if (f->broker_epoch >= 0 && f->broker_epoch < m->broker_epoch)
		return ERR_FENCED_EPOCH;
	if (f->broker_epoch > m->broker_epoch)
		m->broker_epoch = f->broker_epoch;
	/* it has all there is; or all that there was at its last Fetch, so it had that then */
	int64_t caught_up_ms = f->end >= f->leader_end ? f->now_ms : m->fetched_end >= 0 && f->end >= m->fetched_end ? m->fetched_ms : LONG_AGO;
	if (caught_up_ms > m->caught_up_ms)
		m->caught_up_ms = caught_up_ms;
	m->end = f->end;
	*trimmed = f->log_start >= 0 && f->log_start != m->log_start;
	if (*trimmed)
		m->log_start = f->log_start;
	settle_pulse(m);
	if (f->pulse && f->end >= f->leader_end) {
		isr_pulse_ref(f->pulse);
		m->pulse = f->pulse;
	}
	m->fetched_ms = f->now_ms;
	if (f->leader_end > m->fetched_end)
		m->fetched_end = f->leader_end;
	return 0;
}

static bool keeps_up(const struct isr_member *m, int64_t leader_end, int64_t lag_ms, int64_t now_ms)
{
	return m->end == leader_end || now_ms - m->caught_up_ms <= lag_ms;
}

int64_t isr_high_watermark(struct isr *x, const struct isr_rule *rule, int64_t high, int64_t own_end, int64_t leader_end, int64_t now_ms)
{
	int enough = rule->min_insync < x->count ? rule->min_insync : x->count; /* never more than there are */
	settle_behind(x, leader_end);
	if (isr_size(x) < enough)
		return high;
	int64_t least = own_end;
	for (int i = 0; i < x->count; i++) {
		const struct isr_member *m = &x->member[i];
		bool joins = keeps_up(m, leader_end, rule->lag_ms, now_ms); /* in a moment, if it is there */
		if (i != x->self && m->end < least && (maximal(x) & bit(i) || (joins && (!rule->alive || rule->alive(rule->arg, m->id)))))
			least = m->end;
	}
	return least > high ? least : high;
}

/* ---- changes ---- */

static void propose(struct isr *x, uint32_t places, struct isr_change *c)
{
	x->proposed = places;
	x->asking = true;
	*c = (struct isr_change){.serial = ++x->serial};
	for (int i = 0; i < x->count; i++)
		if (places & bit(i)) {
			c->member[c->count].id = x->member[i].id;
			c->member[c->count++].broker_epoch = i == x->self ? -1 : x->member[i].broker_epoch;
		}
}

bool isr_grow(struct isr *x, int32_t id, int64_t high, struct isr_change *c)
{
	int at = place_of(x->member, x->count, id);
	if (at < 0 || x->asking || x->committed & bit(at))
		return false;
	if (x->member[at].end < high || x->member[at].end < x->epoch_start)
		return false;
	propose(x, x->committed | bit(at), c);
	return true;
}

bool isr_shrink(struct isr *x, const struct isr_rule *rule, int64_t leader_end, int64_t now_ms, struct isr_change *c)
{
	uint32_t stay = x->committed;
	settle_behind(x, leader_end);
	if (x->asking)
		return false;
	for (int i = 0; i < x->count; i++)
		if (i != x->self && x->committed & bit(i) && !keeps_up(&x->member[i], leader_end, rule->lag_ms, now_ms))
			stay &= ~bit(i);
	x->wants_disk = stay != x->committed && stay == bit(x->self) && rule->not_alone;
	if (stay == x->committed || x->wants_disk)
		return false;
	propose(x, stay, c);
	return true;
}

bool isr_restate(struct isr *x, struct isr_change *c)
{
	if (x->asking)
		return false;
	propose(x, x->committed, c);
	return true;
}

bool isr_is_asked(const struct isr *x, uint32_t serial)
{
	return x->asking && x->serial == serial;
}

void isr_commit(struct isr *x, const int32_t *isr, int isr_count)
{
	bool strange = false;
	x->committed = x->proposed = places_of(x->member, x->count, isr, isr_count, &strange);
	x->asking = false;
}

void isr_withdraw(struct isr *x)
{
	x->proposed = x->committed;
	x->asking = false;
}
