/*
 * Roles, and what a leader does with its replicas. The follower's side is in partition_follow.c, who waits in partition_wait.c, the arithmetic in partition_isr.c.
 */
#include "cluster/partition_role.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "cluster/model.h"
#include "cluster/partition_fetch.h"
#include "store/diag.h"

void partition_role_init(struct partition *p)
{
	struct broker *b = p->topic->broker;
	pthread_mutex_init(&p->isr_lock, NULL);
	p->role = b->roles ? ROLE_NONE : ROLE_LEADER;
	p->leader = b->roles ? -1 : b->id;
	p->leader_epoch = b->roles ? -1 : 0;
	p->partition_epoch = p->controller_epoch = -1;
}

void partition_role_release(struct partition *p)
{
	isr_release(&p->isr);
	free(p->told);
	pthread_mutex_destroy(&p->isr_lock);
}

bool partition_is_shared(const struct partition *p)
{
	return p->shared;
}

bool partition_has_lease(const struct partition *p)
{
	const struct role_calls *c = p->topic->broker->roles;
	return !c || c->lease(c->arg);
}

static struct isr_rule rule_of(const struct partition *p)
{
	const struct role_calls *c = p->topic->broker->roles;
	return (struct isr_rule){.min_insync = p->topic->min_insync, .lag_ms = p->topic->broker->replica_lag_ms, .alive = c ? c->alive : NULL, .arg = c ? c->arg : NULL};
}

static int64_t mono_ms(void)
{
	return mono_now().ns / 1000000;
}

/* ---- transitions ---- */

/* The one place where role, leader and epochs change. From any role to any other; within an epoch the leader stays who it is, and what is known of its replicas is kept. p->isr has the
 * replicas by now. Returns who waited for a leadership that is over, to be failed. locks: log_lock, isr_lock. */
static struct waiter *transition(struct partition *p, enum role role, int32_t leader, int32_t leader_epoch)
{
	bool led = p->role == ROLE_LEADER;
	if (role == ROLE_LEADER && !(led && p->leader_epoch == leader_epoch)) {
		if (!led)
			p->led_since = leader_epoch;
		isr_begin_epoch(&p->isr, p->log ? (int64_t)p->log->leo : (int64_t)p->log_end_offset, mono_ms());
	}
	if ((int)role != p->role || leader_epoch != p->leader_epoch)
		p->sealed = false;
	p->leader = leader;
	p->leader_epoch = leader_epoch;
	p->shared = p->isr.count > 1;
	p->role = role; /* last: who sees that it leads sees what it leads */
	return led && role != ROLE_LEADER ? partition_take_waiters(p) : NULL;
}

void partition_lead_alone(struct partition *p, int32_t leader_epoch)
{
	pthread_mutex_lock(&p->isr_lock);
	transition(p, ROLE_LEADER, p->topic->broker->id, leader_epoch);
	pthread_mutex_unlock(&p->isr_lock);
	p->high_watermark = (int64_t)p->log->leo;
}

static bool has(const int32_t *ids, int count, int32_t id)
{
	for (int i = 0; i < count; i++)
		if (ids[i] == id)
			return true;
	return false;
}

static int refuse_role(const struct partition *p, struct err *e, const char *why)
{
	return err_set(e, ERR_INVALID, "%s-%" PRId32 ": what it is to be cannot be: %s", p->topic->name, p->index, why);
}

static int check_role(const struct partition *p, const struct partition_role *r, struct err *e)
{
	if (r->leader < -1 || r->leader_epoch < 0 || r->partition_epoch < 0)
		return refuse_role(p, e, "a leader or an epoch is negative");
	if (r->replica_count < 1 || r->replica_count > ISR_REPLICAS)
		return refuse_role(p, e, "it has no replica, or more than 32");
	if (!has(r->replicas, r->replica_count, p->topic->broker->id))
		return refuse_role(p, e, "this broker is not among its replicas");
	if (r->leader >= 0 && !has(r->replicas, r->replica_count, r->leader))
		return refuse_role(p, e, "its leader is not among its replicas");
	if (r->leader == p->topic->broker->id && !has(r->isr, r->isr_count, r->leader))
		return refuse_role(p, e, "this broker is to lead it, and is not in sync");
	return 0;
}

/* 1: it is news; 0: it is known; ERR_FENCED_EPOCH: it is over; ERR_INVALID. locks: isr_lock. */
static int check_news(const struct partition *p, const struct partition_role *r, struct err *e)
{
	if (r->controller_epoch < p->controller_epoch || r->leader_epoch < p->leader_epoch || (r->leader_epoch == p->leader_epoch && r->partition_epoch < p->partition_epoch))
		return err_set(e, ERR_FENCED_EPOCH, "%s-%" PRId32 ": epochs %" PRId32 ", %" PRId32 " of controller %" PRId32 " are over: %" PRId32 ", %" PRId32 " of %" PRId32 " are known", p->topic->name,
			       p->index, r->leader_epoch, r->partition_epoch, r->controller_epoch, (int32_t)p->leader_epoch, p->partition_epoch, p->controller_epoch);
	if (p->role == ROLE_NONE || r->leader_epoch > p->leader_epoch)
		return 1;
	if (r->leader != p->leader)
		return refuse_role(p, e, "its leader changes within an epoch");
	return r->partition_epoch > p->partition_epoch;
}

/* locks: log_lock, isr_lock. */
static int take_role(struct partition *p, const struct partition_role *r, struct waiter **lost, struct err *e)
{
	int32_t self = p->topic->broker->id;
	int rc = check_news(p, r, e);
	if (rc < 0)
		return rc;
	p->controller_epoch = r->controller_epoch;
	if (rc == 0)
		return 0;
	rc = isr_set(&p->isr, self, r->replicas, r->replica_count, r->isr, r->isr_count);
	if (rc < 0)
		return rc == ERR_INVALID ? refuse_role(p, e, "a replica stands there twice, or one in sync is none") : err_set(e, rc, "no memory for %d replicas", r->replica_count);
	p->partition_epoch = r->partition_epoch;
	*lost = transition(p, r->leader == self ? ROLE_LEADER : ROLE_FOLLOWER, r->leader, r->leader_epoch);
	return 0;
}

/* What cannot be answered well any more: with fewer in sync than acks=all asks for, whoever waits is told now, and not when its patience ends. locks: isr_lock. */
static struct waiter *take_unsafe(struct partition *p)
{
	return p->role == ROLE_LEADER && !partition_has_enough(p) ? partition_take_waiters(p) : NULL;
}

/* Whether all that is committed is on this broker's disk. What is closed was flushed. */
static bool has_committed_on_disk(struct partition *p)
{
	if (p->topic->broker->flush_acks == FLUSH_ACKS_NEVER || !partition_try_acquire(p))
		return true;
	bool has = p->log->flushed_offset >= p->high_watermark;
	partition_release(p);
	return has;
}

/* Alone, it is the only one to have what was committed while others were in sync: that must be on its disk, too. */
static bool must_flush(struct partition *p)
{
	if (!p->shared)
		return false;
	pthread_mutex_lock(&p->isr_lock);
	bool alone = isr_is_alone(&p->isr);
	pthread_mutex_unlock(&p->isr_lock);
	return alone && !has_committed_on_disk(p);
}

/* The high watermark may go on without anything being appended or fetched, and what is behind it want to be on disk: it is looked at, where the log can be had. locks: none held. */
static void look_again(struct partition *p)
{
	if (p->role != ROLE_LEADER || (p->high_offset >= p->log_end_offset && !must_flush(p)) || partition_acquire(p, NULL) < 0)
		return;
	partition_kick(p);
	partition_release(p);
}

static void ask(struct partition *p, const struct isr_change *c)
{
	const struct role_calls *calls = p->topic->broker->roles;
	calls->alter(calls->arg, p, c);
}

/* locks: isr_lock. */
static void address(const struct partition *p, struct isr_change *c)
{
	c->leader_epoch = p->leader_epoch;
	c->partition_epoch = p->partition_epoch;
}

/* What an unclean leader has is what there is: its log was recovered when it was opened. It says so. locks: isr_lock. */
static bool say_recovered(struct partition *p, const struct partition_role *r, struct isr_change *c)
{
	if (!r->recovering || p->role != ROLE_LEADER || p->partition_epoch != r->partition_epoch || !isr_restate(&p->isr, c))
		return false;
	address(p, c);
	return true;
}

int partition_become(struct partition *p, const struct partition_role *r, struct err *e)
{
	struct partition_standing now;
	struct visible unused;
	struct waiter *lost = NULL, *unsafe = NULL;
	struct isr_change recovered;
	bool asked = false;
	int rc = check_role(p, r, e);
	partition_standing(p, &now);
	if (rc == 0 && !now.online)
		rc = err_set(e, ERR_OFFLINE, "%s-%" PRId32 " is offline", p->topic->name, p->index);
	if (rc == 0)
		rc = partition_offsets(p, &unused, e); /* its end is known then */
	if (rc < 0)
		return rc;
	pthread_mutex_lock(&p->log_lock);
	pthread_mutex_lock(&p->isr_lock);
	rc = take_role(p, r, &lost, e);
	if (rc == 0) {
		unsafe = take_unsafe(p);
		asked = say_recovered(p, r, &recovered);
	}
	pthread_mutex_unlock(&p->isr_lock);
	pthread_mutex_unlock(&p->log_lock);
	if (rc < 0)
		return rc;
	if (asked)
		ask(p, &recovered);
	partition_fail_waiters(p, lost, ERR_NOT_LEADER, NULL);
	partition_fail_waiters(p, unsafe, ERR_NOT_ENOUGH_AFTER, NULL);
	delayed_wake(&p->delayed, DELAYED_CHANNELS); /* what is parked with another role, or epoch, is to learn of it */
	look_again(p);
	return 0;
}

void partition_stop(struct partition *p)
{
	pthread_mutex_lock(&p->log_lock);
	pthread_mutex_lock(&p->isr_lock);
	struct waiter *lost = transition(p, ROLE_NONE, -1, p->leader_epoch);
	pthread_mutex_unlock(&p->isr_lock);
	pthread_mutex_unlock(&p->log_lock);
	partition_fail_waiters(p, lost, ERR_NOT_LEADER, NULL);
	delayed_wake(&p->delayed, DELAYED_CHANNELS);
}

int partition_seal(struct partition *p, int32_t leader_epoch, struct err *e)
{
	struct visible unused;
	int rc = partition_offsets(p, &unused, e); /* its end is known then */
	if (rc < 0)
		return rc;
	pthread_mutex_lock(&p->log_lock);
	int64_t end = p->log ? (int64_t)p->log->leo : (int64_t)p->log_end_offset;
	if (partition_is_gone(p))
		rc = err_set(e, ERR_DELETED, "topic %s was deleted", p->topic->name);
	else if (p->role != ROLE_LEADER || p->leader_epoch != leader_epoch)
		rc = err_set(e, ERR_NOT_LEADER, "%s-%" PRId32 ": this broker does not lead it in epoch %" PRId32, p->topic->name, p->index, leader_epoch);
	else if (p->start_offset < end)
		rc = err_set(e, ERR_NOT_EMPTY, "%s-%" PRId32 " holds messages", p->topic->name, p->index);
	else
		p->sealed = true;
	pthread_mutex_unlock(&p->log_lock);
	return rc;
}

void partition_unseal(struct partition *p)
{
	pthread_mutex_lock(&p->log_lock);
	p->sealed = false;
	pthread_mutex_unlock(&p->log_lock);
}

/* ---- what it is ---- */

void partition_standing(const struct partition *p, struct partition_standing *s)
{
	s->leader = p->leader;
	s->leader_epoch = p->leader_epoch;
	s->online = p->dir && !p->dir->offline && !p->why_offline;
}

bool partition_metadata(struct partition *p, struct partition_metadata *m)
{
	if (p->topic->broker->roles) {
		pthread_mutex_lock(&p->isr_lock);
		bool told = p->told;
		if (told)
			*m = *p->told;
		pthread_mutex_unlock(&p->isr_lock);
		return told;
	}
	struct partition_standing s;
	partition_standing(p, &s);
	*m = (struct partition_metadata){.leader = s.online ? s.leader : -1, .leader_epoch = s.leader_epoch, .isr_count = 1, .replica_count = 1, .offline_count = !s.online};
	m->isr[0] = m->replicas[0] = m->offline[0] = s.leader;
	return true;
}

/* locks: isr_lock. */
static void describe_replicas(const struct partition *p, struct partition_state *s)
{
	if (!p->isr.count && p->role == ROLE_LEADER) { /* and is the only one */
		s->isr[0] = s->replicas[0] = p->leader;
		s->isr_count = s->replica_count = 1;
	}
	for (int i = 0; i < p->isr.count; i++) {
		int32_t id = p->isr.member[i].id;
		s->replicas[s->replica_count++] = id;
		if (isr_has(&p->isr, id))
			s->isr[s->isr_count++] = id;
	}
}

int partition_describe(struct partition *p, struct partition_state *s, struct err *e)
{
	memset(s, 0, sizeof *s);
	int rc = partition_acquire(p, e);
	if (rc < 0) {
		pthread_mutex_lock(&p->open_lock);
		if (p->why_offline)
			snprintf(s->why_offline, sizeof s->why_offline, "%s", p->why_offline);
		pthread_mutex_unlock(&p->open_lock);
		return rc;
	}
	pthread_mutex_lock(&p->log_lock);
	pthread_mutex_lock(&p->isr_lock);
	s->leader = p->leader;
	s->leader_epoch = p->leader_epoch;
	describe_replicas(p, s);
	pthread_mutex_unlock(&p->isr_lock);
	s->high_watermark = p->high_watermark;
	s->leo = p->log->leo;
	s->last_stable_offset = log_last_stable(p->log);
	s->online = true;
	pthread_mutex_unlock(&p->log_lock);
	partition_release(p);
	return 0;
}

/* ---- the leader ---- */

int partition_leads_committed(struct partition *p)
{
	pthread_mutex_lock(&p->isr_lock);
	int rc = p->role != ROLE_LEADER ? ERR_NOT_LEADER : p->shared && p->high_offset < p->isr.epoch_start ? 0 : 1;
	pthread_mutex_unlock(&p->isr_lock);
	return rc;
}

bool partition_leads_surely(const struct partition *p)
{
	return !p->shared || partition_has_lease(p);
}

/* Where the high watermark may go. *disk: it waits for the disk. locks: log_lock. */
static int64_t next_high(struct partition *p, bool *disk)
{
	struct log *l = p->log;
	int64_t high = p->high_watermark, end = l->leo, own = end;
	*disk = false;
	if (p->role != ROLE_LEADER)
		return high;
	if (!p->shared) /* nothing was appended without the lease */
		return end > high ? end : high;
	struct isr_rule rule = rule_of(p);
	pthread_mutex_lock(&p->isr_lock);
	bool alone = isr_is_alone(&p->isr);
	if (alone && p->topic->broker->flush_acks != FLUSH_ACKS_NEVER && l->flushed_offset < end) {
		own = l->flushed_offset; /* what it has acknowledged while it was alone it has after a power cut as well, so that it may lead again */
		*disk = true;
	}
	if (!alone || partition_has_lease(p))
		high = isr_high_watermark(&p->isr, &rule, high, own, end, mono_ms());
	pthread_mutex_unlock(&p->isr_lock);
	return high;
}

bool partition_advance(struct partition *p, int64_t appended_ms, struct err *e)
{
	struct log *l = p->log;
	bool disk;
	p->high_watermark = next_high(p, &disk);
	int64_t stable = log_last_stable(l), visible = stable < p->high_watermark ? stable : (int64_t)p->high_watermark;
	if (l->view_offset < visible)
		log_project(l, visible, e);
	partition_publish_log(p, appended_ms);
	return disk;
}

/* locks: isr_lock. */
static int check_fetch(struct partition *p, const struct follower_fetch *f, struct err *e)
{
	int rc = partition_check_epoch(p, f->current_epoch, e);
	if (rc < 0)
		return rc;
	if (p->role != ROLE_LEADER)
		return err_set(e, ERR_NOT_LEADER, "%s-%" PRId32 ": this broker does not lead it", p->topic->name, p->index);
	if (f->offset > p->log_end_offset)
		return err_set(e, ERR_OUT_OF_RANGE, "%s-%" PRId32 ": broker %" PRId32 " is at offset %" PRId64 ", the log ends at %" PRId64, p->topic->name, p->index, f->id, f->offset,
			       (int64_t)p->log_end_offset);
	return 0;
}

/* What a good Fetch changes. *asked: c is to be asked for; returns whether the high watermark goes on. locks: isr_lock. */
static bool note_fetch(struct partition *p, const struct follower_fetch *f, struct isr_change *c, bool *asked)
{
	struct isr_rule rule = rule_of(p);
	int64_t high = p->high_watermark, end = p->log_end_offset;
	*asked = isr_grow(&p->isr, f->id, high, c);
	address(p, c);
	/* alone it goes by the disk, and by the lease: whoever finds it so sees to that */
	return !isr_is_alone(&p->isr) && isr_high_watermark(&p->isr, &rule, high, end, end, f->now_ms) > high;
}

int partition_follower_fetched(struct partition *p, struct follower_fetch *f, struct err *e)
{
	struct isr_change c;
	bool asked = false, further = false, trimmed = false;
	pthread_mutex_lock(&p->isr_lock);
	int rc = check_fetch(p, f, e);
	if (rc == 0 && f->current_epoch >= 0) {
		struct isr_fetch x = {.id = f->id, .broker_epoch = f->broker_epoch, .end = f->offset, .leader_end = p->log_end_offset, .log_start = f->log_start, .now_ms = f->now_ms, .pulse = f->pulse};
		rc = isr_fetched(&p->isr, &x, &trimmed);
		if (rc == 0)
			further = note_fetch(p, f, &c, &asked);
		else if (rc == ERR_NOT_FOUND)
			rc = err_set(e, ERR_UNKNOWN_EPOCH, "%s-%" PRId32 ": broker %" PRId32 " is none of its replicas", p->topic->name, p->index, f->id);
		else
			rc = err_set(e, ERR_NOT_LEADER, "%s-%" PRId32 ": broker %" PRId32 " has been started anew since", p->topic->name, p->index, f->id);
	}
	f->in_sync = isr_has(&p->isr, f->id);
	pthread_mutex_unlock(&p->isr_lock);
	if (asked)
		ask(p, &c);
	if (further)
		partition_kick(p);
	if (trimmed)
		delayed_wake(&p->delayed, DELAYED_END); /* a deletion may wait for that */
	return rc;
}

bool partition_leads(const struct partition *p)
{
	return p->role == ROLE_LEADER;
}

int64_t partition_low_watermark(struct partition *p, bool (*alive)(void *arg, int32_t broker_id), void *arg)
{
	int64_t low = p->start_offset;
	pthread_mutex_lock(&p->isr_lock);
	for (int i = 0; i < p->isr.count; i++) {
		const struct isr_member *m = &p->isr.member[i];
		if (i != p->isr.self && m->log_start < low && alive && alive(arg, m->id))
			low = m->log_start;
	}
	pthread_mutex_unlock(&p->isr_lock);
	return low;
}

int32_t partition_preferred(struct partition *p, int64_t offset, const int32_t *ids, int count)
{
	pthread_mutex_lock(&p->isr_lock);
	int32_t id = p->role == ROLE_LEADER ? isr_preferred(&p->isr, offset, ids, count) : -1;
	pthread_mutex_unlock(&p->isr_lock);
	return id;
}

void partition_follower_rests(struct partition *p, const struct isr_pulse *pulse)
{
	pthread_mutex_lock(&p->isr_lock);
	isr_rest(&p->isr, pulse);
	pthread_mutex_unlock(&p->isr_lock);
}

void partition_altered(struct partition *p, const struct isr_change *c, enum isr_answer answer, const int32_t *isr, int isr_count, int32_t partition_epoch)
{
	struct waiter *unsafe = NULL;
	pthread_mutex_lock(&p->isr_lock);
	bool mine = p->role == ROLE_LEADER && c->leader_epoch == p->leader_epoch && isr_is_asked(&p->isr, c->serial);
	if (mine && answer == ISR_ALTERED && partition_epoch >= p->partition_epoch) {
		isr_commit(&p->isr, isr, isr_count);
		p->partition_epoch = partition_epoch;
		unsafe = take_unsafe(p);
	} else if (mine && answer == ISR_REFUSED) {
		isr_withdraw(&p->isr);
	}
	pthread_mutex_unlock(&p->isr_lock);
	partition_fail_waiters(p, unsafe, ERR_NOT_ENOUGH_AFTER, NULL);
	if (mine)
		look_again(p);
}

void partition_check_isr(struct partition *p, int64_t now_ms)
{
	struct isr_change c;
	if (p->role != ROLE_LEADER || !p->shared)
		return;
	struct isr_rule rule = rule_of(p);
	rule.not_alone = !has_committed_on_disk(p);
	pthread_mutex_lock(&p->isr_lock);
	bool asked = p->role == ROLE_LEADER && isr_shrink(&p->isr, &rule, p->log_end_offset, now_ms, &c);
	bool disk = p->role == ROLE_LEADER && p->isr.wants_disk;
	if (asked)
		address(p, &c);
	pthread_mutex_unlock(&p->isr_lock);
	if (asked)
		ask(p, &c);
	if (disk) /* asked for when it is there, the next time somebody looks */
		partition_flush_soon(p);
	look_again(p); /* it may have waited for one that was about to join */
}

static bool lease_is_back(void *arg, struct topic *t)
{
	(void)arg;
	for (int32_t i = 0; i < topic_partition_count(t); i++) {
		struct partition *p = topic_partition(t, i);
		if (p)
			look_again(p);
		partition_unref(p);
	}
	return !t->broker->stopping;
}

void broker_look_again(struct broker *b)
{
	topics_list(b, lease_is_back, NULL);
}
