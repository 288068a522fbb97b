/* Lanes: what waits, what is on its way, and what becomes of it. README.md has the steps. */
#include <inttypes.h>
#include <stdlib.h>

#include "cluster/deliver/model.h"
#include "store/diag.h"

static const char deleted[] = "the topic was deleted";

struct over { struct delivery *first, **last; }; /* those that are done, to be told when no lock is held */

static void on_timer(struct timer *t, void *arg);
static void run_job(struct pool_job *job);

struct lane *lane_new(struct deliver *dl, struct topic *t, const struct lane_key *key)
{
	struct lane *l = calloc(1, sizeof *l);
	if (!l)
		return NULL;
	topic_ref(t);
	*l = (struct lane){.dl = dl, .topic = t, .key = *key, .last = &l->first, .must_bump = true, .pause_ms = FIRST_PAUSE_MS, .producer_id = -1, .other_id = -1, .leader = -1, .leader_epoch = -1,
			   .timer = {.fire = on_timer, .arg = l}, .job.run = run_job};
	pthread_mutex_init(&l->lock, NULL);
	return l;
}

void lane_free(struct lane *l)
{
	timer_cancel(broker_timers(l->dl->broker), &l->timer);
	if (l->spare)
		record_set_release(&l->spare->merged);
	free(l->spare);
	pthread_mutex_destroy(&l->lock);
	topic_unref(l->topic);
	free(l);
}

bool lane_is_idle(struct lane *l)
{
	pthread_mutex_lock(&l->lock);
	bool idle = !l->first && !l->sent && !l->armed && !l->job_given && !l->driving;
	pthread_mutex_unlock(&l->lock);
	return idle;
}

/* ---- deliveries ---- */

static void tell(struct over *o)
{
	for (struct delivery *d = o->first, *next; d; d = next) {
		next = d->next;
		d->done(d);
	}
}

static void is_over(struct over *o, struct delivery *d)
{
	d->next = NULL;
	*o->last = d;
	o->last = &d->next;
}

/* locks: the lane's. false: it is not there. */
static bool unqueue(struct lane *l, struct delivery *d)
{
	struct delivery **at = &l->first;
	while (*at && *at != d)
		at = &(*at)->next;
	if (!*at)
		return false;
	*at = d->next;
	if (!d->next)
		l->last = at;
	d->queued = false;
	return true;
}

static void note_error(struct delivery *d, int code, const char *why)
{
	if (d->code)
		return;
	bool some = d->taken > 1 && deliver_is_certain(code);
	d->code = some ? ERR_IO : code;
	err_set(&d->err, d->code, "%s%s", some ? "maybe in part: " : "", why);
}

/* One of its batches is. locks: the lane's. */
static void batch_is_over(struct lane *l, struct delivery *d, int code, const char *why, struct over *o)
{
	d->under_way--;
	if (code)
		note_error(d, code, why);
	if (code && d->queued)
		unqueue(l, d);
	if (!d->under_way && !d->queued)
		is_over(o, d);
}

/* locks: the lane's. */
static void parcel_is_over(struct lane *l, struct parcel *x, int code, const char *why, struct over *o)
{
	for (struct delivery *d = x->first, *next; d; d = next) {
		next = x->part ? NULL : d->next;
		batch_is_over(l, d, code, why, o);
	}
	parcel_free(l, x);
}

void lane_add(struct lane *l, struct delivery *d)
{
	d->code = 0;
	d->err.code = 0;
	d->next = NULL;
	d->taken = d->under_way = 0;
	d->queued = true;
	d->due = mono_after_ms(mono_now(), l->dl->patience_ms);
	pthread_mutex_lock(&l->lock);
	*l->last = d;
	l->last = &d->next;
	pthread_mutex_unlock(&l->lock);
}

bool lane_cancel(struct lane *l, struct delivery *d)
{
	pthread_mutex_lock(&l->lock);
	bool back = d->queued && !d->taken && unqueue(l, d);
	pthread_mutex_unlock(&l->lock);
	if (!back)
		return false;
	d->code = err_set(&d->err, ERR_INTERRUPTED, "taken back before it was sent");
	d->done(d);
	return true;
}

/* Those whose time is over, all having the same patience; or all, with their topic. locks: the lane's. */
static void expire_queued(struct lane *l, mono_t now, struct over *o)
{
	struct delivery *d;
	bool gone = topic_is_deleted(l->topic);
	while ((d = l->first) && (gone || mono_diff_ns(d->due, now) <= 0)) {
		unqueue(l, d);
		if (gone)
			note_error(d, ERR_DELETED, deleted);
		else if (d->taken)
			note_error(d, ERR_TIMED_OUT, "not all of it was sent within delivery.timeout.ms");
		else
			note_error(d, ERR_NOT_ENOUGH_REPLICAS, "nothing was written: nobody who leads it could be reached within delivery.timeout.ms");
		if (!d->under_way)
			is_over(o, d);
	}
}

/* ---- sequences ---- */

/* locks: the lane's. */
static void unlink_sent(struct lane *l, struct parcel *x)
{
	struct parcel **at = &l->sent;
	while (*at != x)
		at = &(*at)->next;
	*at = x->next;
	if (l->resend == x)
		l->resend = x->next;
	l->sent_count--;
}

/* Something did not go: what is out comes back first, and a pause is made. locks: the lane's. */
static void stall(struct lane *l)
{
	if (!l->stalled)
		l->not_before = mono_after_ms(mono_now(), l->pause_ms);
	l->stalled = true;
	l->resend = NULL;
	l->pause_ms = l->pause_ms * 2 < LONGEST_PAUSE_MS ? l->pause_ms * 2 : LONGEST_PAUSE_MS;
}

/* The next epoch, from sequence 0 on, for what has been sent and is in no log, and what comes. Nothing of the epoch before can be appended once the first of this one is. false: there is no producer id yet.
 * locks: the lane's. */
static bool begin_epoch(struct lane *l)
{
	struct deliver *dl = l->dl;
	if (l->producer_id < 0 || l->epoch == INT16_MAX) {
		pthread_mutex_lock(&dl->lock);
		int64_t id = dl->producer_id;
		pthread_mutex_unlock(&dl->lock);
		if (id < 0 || id == l->producer_id || id == l->other_id) {
			deliver_ask_id(dl);
			return false;
		}
		l->producer_id = id;
		l->epoch = 0;
	} else {
		l->epoch++;
	}
	l->next_sequence = 0;
	l->must_bump = false;
	for (struct parcel *x = l->sent; x; x = x->next) {
		x->maybe = x->no_sequence = false;
		parcel_number(l, x);
	}
	return true;
}

/* Nothing is out: what was sent in vain, and whose time is over. locks: the lane's. */
static void expire_sent(struct lane *l, mono_t now, struct over *o)
{
	bool gone = topic_is_deleted(l->topic);
	for (struct parcel *x = l->sent, *next; x; x = next) {
		next = x->next;
		if (!gone && mono_diff_ns(x->due, now) > 0)
			continue;
		unlink_sent(l, x);
		l->must_bump = true; /* its sequence is missing, or it is in the log and was told to be unknown */
		if (gone)
			parcel_is_over(l, x, ERR_DELETED, deleted, o);
		else if (x->maybe)
			parcel_is_over(l, x, ERR_TIMED_OUT, "it was sent, and no leader has said within delivery.timeout.ms whether it is there", o);
		else
			parcel_is_over(l, x, ERR_NOT_ENOUGH_REPLICAS, "nothing was written: no leader took it within delivery.timeout.ms", o);
		lane_put(l); /* whoever drives has one of its own */
	}
}

/* Nothing is out: what was sent in vain is to go again, with the next epoch if need be. false: it has to wait. locks: the lane's. */
static bool settle(struct lane *l, mono_t now, struct over *o)
{
	if (l->stalled)
		expire_sent(l, now, o);
	if (l->stalled && mono_diff_ns(l->not_before, now) > 0)
		return false;
	bool again = l->stalled;
	l->stalled = false;
	if ((l->sent ? l->sent->no_sequence : l->must_bump && l->first) && !begin_epoch(l)) {
		stall(l);
		return false;
	}
	if (again)
		l->resend = l->sent;
	return true;
}

/* ---- who leads ---- */

int32_t lane_leader(struct lane *l, int32_t *epoch)
{
	struct partition *p = topic_partition(l->topic, l->key.partition);
	struct partition_standing s = {.leader = -1, .leader_epoch = -1};
	struct partition_metadata m = {.leader = -1, .leader_epoch = -1};
	if (p)
		partition_standing(p, &s);
	bool here = s.leader == broker_id(l->dl->broker) && s.online;
	if (p && !here)
		partition_metadata(p, &m);
	partition_unref(p);
	bool told = m.leader_epoch > s.leader_epoch || (m.leader_epoch == s.leader_epoch && s.leader < 0);
	*epoch = told ? m.leader_epoch : s.leader_epoch;
	return told ? m.leader : s.leader;
}

bool lane_has_moved(struct lane *l, int32_t broker)
{
	int32_t epoch, leader = lane_leader(l, &epoch);
	pthread_mutex_lock(&l->lock);
	bool moved = leader >= 0 && leader != broker && epoch > l->leader_epoch;
	pthread_mutex_unlock(&l->lock);
	return moved;
}

/* ---- sending ---- */

/* locks: the lane's. */
static bool may_take(const struct lane *l)
{
	return !l->stalled && (l->resend || (l->first && l->sent_count < WINDOW && !l->must_bump));
}

/* locks: the lane's. */
static struct parcel *take(struct lane *l)
{
	struct parcel *x = l->resend, **end = &l->sent;
	if (x) {
		l->resend = x->next;
		x->no_sequence = false;
	} else if ((x = parcel_make(l))) {
		while (*end)
			end = &(*end)->next;
		*end = x;
		l->sent_count++;
		lane_hold(l);
		parcel_number(l, x);
	} else {
		stall(l);
		return NULL;
	}
	parcel_reset(x);
	x->out = true;
	l->out++;
	return x;
}

struct parcel *lane_take(struct lane *l, int32_t leader, int *acks, bool *more)
{
	struct parcel *x = NULL;
	pthread_mutex_lock(&l->lock);
	bool mine = l->leader == leader;
	if (mine && may_take(l)) {
		enum acks next = l->resend ? l->resend->acks : l->first->acks;
		if (!*acks || *acks == (int)next)
			x = take(l);
		if (x)
			*acks = (int)next;
	}
	*more = mine && may_take(l);
	pthread_mutex_unlock(&l->lock);
	return x;
}

static void appended(struct append *a)
{
	struct parcel *x = (struct parcel *)((char *)a - offsetof(struct parcel, append));
	partition_release(x->p);
	lane_result(x, a->code, a->code ? -1 : a->base_offset + x->records, a->err.text);
}

/* x->p keeps its reference until the parcel is over, or goes again. */
static void append_here(struct parcel *x)
{
	struct lane *l = x->lane;
	struct err e = ERR_INIT;
	x->p = topic_partition(l->topic, l->key.partition);
	if (!partition_try_acquire(x->p) && partition_acquire(x->p, &e) < 0) {
		lane_result(x, e.code == ERR_OFFLINE ? ERR_NOT_FOUND : e.code, -1, e.text);
		return;
	}
	x->append = (struct append){.set = &x->view, .acks = x->acks, .done = appended};
	partition_append(x->p, &x->append);
}

/* One thing that is to be done. false: there is none. locks: the lane's, and let go of meanwhile. */
static bool step(struct lane *l, struct over *o)
{
	mono_t now = mono_now();
	int32_t epoch;
	expire_queued(l, now, o);
	if (l->out == 0 && !settle(l, now, o))
		return false;
	if (!may_take(l))
		return false;
	int32_t leader = lane_leader(l, &epoch);
	if (leader < 0 || epoch < l->leader_epoch) {
		stall(l);
		return false;
	}
	if (l->out && leader != l->leader)
		return false; /* what is there comes back first */
	l->leader = leader;
	l->leader_epoch = epoch;
	struct parcel *x = leader == broker_id(l->dl->broker) ? take(l) : NULL;
	pthread_mutex_unlock(&l->lock);
	if (x)
		append_here(x);
	else if (leader != broker_id(l->dl->broker))
		sender_ready(l->dl, leader, l);
	pthread_mutex_lock(&l->lock);
	return x;
}

/* What waits is looked at again, when a pause or somebody's patience is over. locks: the lane's. */
static void keep_watch(struct lane *l)
{
	if (l->armed || l->job_given || !(l->stalled || l->first))
		return;
	mono_t due = l->stalled && !l->out ? l->not_before : mono_after_ms(mono_now(), LONGEST_PAUSE_MS);
	l->armed = timer_arm(broker_timers(l->dl->broker), &l->timer, due) == 0;
}

void lane_go(struct lane *l)
{
	struct over o = {.last = &o.first};
	pthread_mutex_lock(&l->lock);
	l->again = true;
	if (l->driving) {
		pthread_mutex_unlock(&l->lock);
		return;
	}
	l->driving = true;
	while (l->again) {
		l->again = false;
		while (step(l, &o))
			;
	}
	l->driving = false;
	keep_watch(l);
	pthread_mutex_unlock(&l->lock);
	tell(&o);
}

/* thread: the timers'. */
static void on_timer(struct timer *t, void *arg)
{
	struct lane *l = arg;
	struct deliver *dl = l->dl;
	(void)t;
	pthread_mutex_lock(&l->lock);
	l->armed = false;
	bool give = !l->job_given;
	l->job_given = true;
	if (give)
		lane_hold(l);
	pthread_mutex_unlock(&l->lock);
	if (give)
		pool_run(broker_pool(dl->broker), &l->job);
}

static void run_job(struct pool_job *job)
{
	struct lane *l = (struct lane *)((char *)job - offsetof(struct lane, job));
	pthread_mutex_lock(&l->lock);
	l->job_given = false;
	pthread_mutex_unlock(&l->lock);
	lane_go(l);
	lane_put(l);
}

void lane_unreachable(struct lane *l, const struct err *why)
{
	(void)why;
	pthread_mutex_lock(&l->lock);
	stall(l);
	keep_watch(l);
	pthread_mutex_unlock(&l->lock);
}

/* ---- what it came to ---- */

static void drop_partition(struct parcel *x)
{
	partition_unref(x->p);
	x->p = NULL;
}

/* What was appended is in the log, and can be seen here, if that is to be. */
static void is_there(struct parcel *x)
{
	struct lane *l = x->lane;
	struct over o = {.last = &o.first};
	drop_partition(x);
	pthread_mutex_lock(&l->lock);
	parcel_is_over(l, x, 0, NULL, &o);
	pthread_mutex_unlock(&l->lock);
	tell(&o);
	lane_put(l);
}

static int64_t not_seen(struct delayed *d)
{
	const struct parcel *x = (struct parcel *)((char *)d - offsetof(struct parcel, seen));
	return !partition_is_gone(x->p) && !x->p->dir->offline && x->p->high_offset < x->end_offset;
}

static void seen(struct delayed *d, enum delayed_verdict how)
{
	struct parcel *x = (struct parcel *)((char *)d - offsetof(struct parcel, seen));
	struct lane *l = x->lane;
	if (how == DELAYED_EXPIRED) {
		pthread_mutex_lock(&l->lock);
		l->unseen_end = x->end_offset;
		pthread_mutex_unlock(&l->lock);
	}
	is_there(x);
}

/* locks: none. */
static void wait_to_be_seen(struct parcel *x, int64_t unseen_end)
{
	struct lane *l = x->lane;
	if (!x->p)
		x->p = topic_partition(l->topic, l->key.partition);
	struct partition *p = x->p;
	if (x->end_offset >= 0 && p && !p->dir)
		partition_expect(p, x->end_offset); /* whoever looks at it next waits for it */
	if (x->end_offset < 0 || !p || !p->dir || !p->visible_known || p->high_offset >= x->end_offset || p->high_offset < unseen_end) {
		is_there(x);
		return;
	}
	x->seen_key = (struct delayed_key){.list = partition_delayed(p), .channel = DELAYED_HIGH};
	x->seen = (struct delayed){.key = &x->seen_key, .key_count = 1, .missing = not_seen, .complete = seen};
	delayed_init(&x->seen);
	delayed_park(&x->seen, broker_timers(l->dl->broker), mono_after_ms(mono_now(), SEE_MS));
}

enum verdict { IS_DONE, AGAIN, AGAIN_MAYBE, NO_SEQUENCE, HAS_FAILED };

static enum verdict judge(const struct parcel *x, int code)
{
	switch (code) {
	case 0:
		return IS_DONE;
	case ERR_NOT_LEADER:
	case ERR_TIMED_OUT:
	case ERR_STOPPING:
	case ERR_FENCED_EPOCH:
	case ERR_UNKNOWN_EPOCH:
		return AGAIN_MAYBE;
	case ERR_NOT_FOUND: /* the leader was not told yet */
	case ERR_BUSY:
		return topic_is_deleted(x->lane->topic) ? HAS_FAILED : AGAIN;
	case ERR_DELETED: /* or the replica alone */
		return topic_is_deleted(x->lane->topic) ? HAS_FAILED : AGAIN_MAYBE;
	case ERR_IO:
	case ERR_OFFLINE: /* a disk: others may lead in a moment, if there are any */
		return x->p && !partition_is_shared(x->p) ? HAS_FAILED : AGAIN_MAYBE;
	case ERR_SEQUENCE:
		return NO_SEQUENCE;
	default:
		return HAS_FAILED;
	}
}

/* locks: the lane's. */
static void note_done(struct lane *l, struct parcel *x, int64_t end_offset)
{
	unlink_sent(l, x);
	l->pause_ms = FIRST_PAUSE_MS;
	x->end_offset = end_offset;
	if (x->acks == ACKS_ALL || l->leader == broker_id(l->dl->broker) || end_offset <= l->weak_end)
		return;
	l->weak_end = end_offset;
	l->weak_epoch = l->leader_epoch;
}

/* locks: the lane's. */
static void note_failed(struct lane *l, struct parcel *x, int code, const char *why, struct over *o)
{
	unlink_sent(l, x);
	l->must_bump = true;
	if (code == ERR_PRODUCER_FENCED) {
		l->other_id = l->producer_id;
		l->producer_id = -1;
	}
	if (x->maybe && deliver_is_certain(code))
		code = code == ERR_NOT_ENOUGH_REPLICAS ? ERR_NOT_ENOUGH_AFTER : ERR_TIMED_OUT;
	parcel_is_over(l, x, code, why, o);
}

void lane_result(struct parcel *x, int code, int64_t end_offset, const char *why)
{
	struct lane *l = x->lane;
	struct over o = {.last = &o.first};
	enum verdict v = judge(x, code);
	if (v != IS_DONE)
		drop_partition(x);
	pthread_mutex_lock(&l->lock);
	x->out = false;
	l->out--;
	int64_t unseen_end = l->unseen_end;
	if (v == IS_DONE) {
		note_done(l, x, end_offset);
	} else if (v == HAS_FAILED) {
		note_failed(l, x, code, why, &o);
	} else {
		x->maybe |= v == AGAIN_MAYBE;
		x->no_sequence = v == NO_SEQUENCE;
		stall(l);
	}
	pthread_mutex_unlock(&l->lock);
	lane_hold(l);
	tell(&o);
	if (v == IS_DONE)
		wait_to_be_seen(x, unseen_end);
	else if (v == HAS_FAILED)
		lane_put(l); /* the parcel's */
	lane_go(l);
	lane_put(l);
}
