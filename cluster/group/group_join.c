/*
 * Joining: JoinGroup, and from the first that asks for a rebalance to the generation that comes of it.
 *
 * 1. A member joins, anew or again; its JoinGroup is parked. Where the group was stable (or waiting for assignments) it is now PreparingRebalance, and the others learn so
 *    from their heartbeats.
 * 2. When all have joined, or the longest rebalance timeout of them has passed, the joining is complete: dynamic members that have not come are out, the protocol is
 *    voted on, the generation goes up, all that is parked is answered, the leader with the list of members. A group that was empty waits group.initial.rebalance.delay.ms
 *    instead, again as long as others come meanwhile, but no longer than the rebalance timeout.
 * 3. Then each has the rebalance timeout to send SyncGroup (group_sync.c).
 */
#include "cluster/group/group.h"

#include <stdlib.h>

#include "store/diag.h"

/* ---- deadlines of sessions ---- */

int64_t due_in(const struct turn *t, int64_t ms)
{
	return mono_after_ms(t->now, ms > 0 ? ms : 0).ns;
}

static void hear_for(struct turn *t, struct member *m, int64_t ms)
{
	m->session_due_ns = due_in(t, ms);
	group_arm(t, m->session_due_ns);
}

void group_hear(struct turn *t, struct member *m)
{
	hear_for(t, m, m->session_timeout_ms);
}

/* ---- parked JoinGroups ---- */

void group_park_join(struct turn *t, struct member *m, struct reply *r)
{
	if (m->join) /* the same member once more: who asked before has gone */
		reply_join_error(t, m->join, KAFKA_REBALANCE_IN_PROGRESS, blob_str(m->id));
	else
		t->g->joining++;
	m->join = r;
}

struct reply *group_take_join(struct turn *t, struct member *m)
{
	struct reply *r = m->join;
	t->g->joining -= r != NULL;
	m->join = NULL;
	return r;
}

void group_fail_join(struct turn *t, struct member *m, int16_t error, struct gstr member_id)
{
	struct reply *r = group_take_join(t, m);
	if (r)
		reply_join_error(t, r, error, member_id);
}

void group_fail_sync(struct turn *t, struct member *m, int16_t error)
{
	struct reply *r = m->sync;
	m->sync = NULL;
	if (r)
		reply_sync_error(t, r, error);
}

/* ---- rebalance ---- */

static void not_written(struct turn *t, struct write *w, int16_t error, int64_t base_offset)
{
	(void)w;
	(void)base_offset;
	if (error) /* there are no active members in it, so the generation before may come back: no harm */
		diag(error == KAFKA_NOT_COORDINATOR ? DIAG_INFO : DIAG_WARNING, "group %.*s: that it is empty could not be written (error %d)", (int)t->g->id->n, (const char *)t->g->id->data, error);
}

/* A leader that did not come gives way to a member that did. false: nobody came. */
static bool elect_leader(struct group *g)
{
	if (!g->leader || g->leader->join)
		return g->leader != NULL;
	for (struct member *m = g->members; m; m = m->hh.next) {
		if (m->join) {
			g->leader = m;
			return true;
		}
	}
	return false;
}

static void drop_absent(struct group *g)
{
	struct member *m, *next;
	if (g->joining == g->member_count)
		return;
	HASH_ITER(hh, g->members, m, next)
		if (!m->join && !m->instance_id)
			group_remove_member(g, m);
}

static void begin_generation(struct turn *t)
{
	struct group *g = t->g;
	struct blob *protocol = blob_ref(group_select_protocol(g));
	g->generation = g->generation == INT32_MAX ? 1 : g->generation + 1;
	blob_unref(g->protocol);
	g->protocol = protocol;
	group_learn_subscriptions(g);
	group_clear_pending_syncs(g);
	group_set_state(g, g->member_count ? GROUP_COMPLETING : GROUP_EMPTY);
}

static void answer_joined(struct turn *t)
{
	struct group *g = t->g;
	for (struct member *m = g->members; m; m = m->hh.next) {
		struct reply *r = group_take_join(t, m);
		m->is_new = false;
		m->pending_sync = true;
		g->pending_syncs++;
		group_hear(t, m);
		if (r)
			reply_join(t, r, m, NULL, m == g->leader, false);
	}
	g->sync_due_ns = due_in(t, group_rebalance_timeout_ms(g));
	group_arm(t, g->sync_due_ns);
}

static void complete_join(struct turn *t)
{
	struct group *g = t->g;
	g->join_due_ns = NEVER;
	if (g->state != GROUP_PREPARING)
		return;
	drop_absent(g);
	if (g->member_count && !elect_leader(g)) { /* only static members are left, and none came: until their sessions end */
		g->initial = false;
		g->join_due_ns = due_in(t, group_rebalance_timeout_ms(g));
		group_arm(t, g->join_due_ns);
		return;
	}
	begin_generation(t);
	if (g->state == GROUP_EMPTY)
		group_write_metadata(t, write_new(not_written), false);
	else
		answer_joined(t);
}

void group_maybe_complete_join(struct turn *t)
{
	if (t->g->state == GROUP_PREPARING && t->g->previous != GROUP_EMPTY && group_all_joined(t->g))
		complete_join(t);
}

void group_prepare_rebalance(struct turn *t)
{
	struct group *g = t->g;
	if (g->state == GROUP_COMPLETING) {
		for (struct member *m = g->members; m; m = m->hh.next) {
			blob_unref(m->assignment);
			m->assignment = NULL;
			bool parked = m->sync;
			group_fail_sync(t, m, KAFKA_REBALANCE_IN_PROGRESS);
			if (parked)
				group_hear(t, m);
		}
	}
	group_clear_pending_syncs(g);
	g->sync_due_ns = NEVER;
	g->initial = g->state == GROUP_EMPTY;
	if (g->initial) {
		int32_t rebalance_ms = group_rebalance_timeout_ms(g);
		g->initial_delay_ms = t->c->initial_delay_ms;
		g->initial_remaining_ms = rebalance_ms > g->initial_delay_ms ? rebalance_ms - g->initial_delay_ms : 0;
		g->join_due_ns = due_in(t, g->initial_delay_ms);
		g->new_member_added = false;
	}
	group_set_state(g, GROUP_PREPARING);
	if (!g->initial && group_all_joined(g)) {
		complete_join(t);
		return;
	}
	if (!g->initial)
		g->join_due_ns = due_in(t, group_rebalance_timeout_ms(g));
	group_arm(t, g->join_due_ns);
}

void group_rebalance(struct turn *t)
{
	if (group_can_rebalance(t->g))
		group_prepare_rebalance(t);
	else
		group_maybe_complete_join(t);
}

/* The time to join is over, unless the group is new and others came: then they get more. */
static void join_due(struct turn *t)
{
	struct group *g = t->g;
	if (!g->initial || !g->new_member_added || !g->initial_remaining_ms) {
		complete_join(t);
		return;
	}
	int32_t delay_ms = t->c->initial_delay_ms < g->initial_remaining_ms ? t->c->initial_delay_ms : g->initial_remaining_ms;
	g->new_member_added = false;
	g->initial_remaining_ms = g->initial_remaining_ms > g->initial_delay_ms ? g->initial_remaining_ms - g->initial_delay_ms : 0;
	g->initial_delay_ms = delay_ms;
	g->join_due_ns = due_in(t, delay_ms);
}

/* Members that have not sent SyncGroup in time are out. */
static void sync_due(struct turn *t)
{
	struct group *g = t->g;
	struct member *m, *next;
	g->sync_due_ns = NEVER;
	if (!g->pending_syncs || (g->state != GROUP_COMPLETING && g->state != GROUP_STABLE))
		return;
	HASH_ITER(hh, g->members, m, next) {
		if (!m->pending_sync)
			continue;
		group_fail_join(t, m, KAFKA_UNKNOWN_MEMBER_ID, GSTR(""));
		group_fail_sync(t, m, KAFKA_UNKNOWN_MEMBER_ID);
		group_remove_member(g, m);
	}
	group_prepare_rebalance(t);
}

/* ---- sessions that end ---- */


static void session_ended(struct turn *t, struct member *m)
{
	struct group *g = t->g;
	m->session_due_ns = NEVER; /* where it is parked, answering it begins the session anew */
	if (member_is_heard(m))
		return;
	diag_info("group %.*s: member %.*s has failed", (int)g->id->n, (const char *)g->id->data, (int)m->id->n, (const char *)m->id->data);
	group_fail_join(t, m, KAFKA_UNKNOWN_MEMBER_ID, GSTR(""));
	group_fail_sync(t, m, KAFKA_UNKNOWN_MEMBER_ID);
	group_remove_member(g, m);
	if (g->state == GROUP_STABLE || g->state == GROUP_COMPLETING)
		group_prepare_rebalance(t);
	else if (g->state == GROUP_PREPARING && group_all_joined(g))
		complete_join(t);
}

static void end_sessions(struct turn *t)
{
	struct group *g = t->g;
	struct pending_member *p, *next;
	size_t n = 0;
	HASH_ITER(hh, g->pending, p, next) {
		if (p->due_ns <= t->now.ns) {
			group_remove_pending(g, p);
			n++;
		}
	}
	if (n && g->state == GROUP_PREPARING && group_all_joined(g))
		complete_join(t);
	n = 0;
	for (struct member *m = g->members; m; m = m->hh.next)
		n += m->session_due_ns && m->session_due_ns <= t->now.ns;
	struct member **late = n ? calloc(n, sizeof *late) : NULL; /* one that goes may take others with it */
	if (!late)
		return; /* without memory: the timer comes again */
	n = 0;
	for (struct member *m = g->members; m; m = m->hh.next) {
		if (m->session_due_ns && m->session_due_ns <= t->now.ns) {
			member_ref(m);
			late[n++] = m;
		}
	}
	for (size_t i = 0; i < n; i++) {
		if (late[i]->in_group && late[i]->session_due_ns && late[i]->session_due_ns <= t->now.ns)
			session_ended(t, late[i]);
		member_unref(late[i]);
	}
	free(late);
}

/* ---- the timer: one a group, armed for the nearest deadline ---- */

static void nearer(int64_t *nearest, int64_t due)
{
	if (due && (!*nearest || due < *nearest))
		*nearest = due;
}

static int64_t nearest_deadline(struct group *g)
{
	int64_t nearest = NEVER;
	nearer(&nearest, g->join_due_ns);
	nearer(&nearest, g->sync_due_ns);
	for (struct pending_member *p = g->pending; p; p = p->hh.next)
		nearer(&nearest, p->due_ns);
	for (struct member *m = g->members; m; m = m->hh.next)
		nearer(&nearest, m->session_due_ns);
	for (struct write *w = g->writes; w; w = w->next)
		if (w->commit)
			nearer(&nearest, w->commit_due_ns);
	return nearest;
}

void group_arm(struct turn *t, int64_t due)
{
	struct group *g = t->g;
	if (!due || (g->timer_due_ns && g->timer_due_ns <= due))
		return; /* heartbeats move deadlines on: the timer is left as it is, and looks again when it fires */
	g->timer_due_ns = due;
	if (timer_arm(t->c->timers, &g->timer, (mono_t){due}) < 0)
		g->timer_due_ns = NEVER;
}

static void run_deadlines(struct turn *t)
{
	struct group *g = t->g;
	g->timer_due_ns = NEVER;
	if (g->state == GROUP_DEAD)
		return;
	if (g->join_due_ns && g->join_due_ns <= t->now.ns)
		join_due(t);
	if (g->sync_due_ns && g->sync_due_ns <= t->now.ns)
		sync_due(t);
	end_sessions(t);
	group_end_commits(t);
	group_arm(t, nearest_deadline(g));
}

static void run_timer(struct group *g)
{
	struct turn t;
	turn_begin_on(&t, g);
	run_deadlines(&t);
	turn_end(&t);
	group_unref(g);
}

static void run_timer_job(struct pool_job *job)
{
	struct group *g = (struct group *)((char *)job - offsetof(struct group, timer_job));
	struct coordinator *c = g->coordinator;
	g->timer_queued = false;
	run_timer(g);
	coordinator_busy(c, -1);
}

/* The group may be on its way out: then there is no reference to be had, and who lets it go waits until this returns. thread: who runs the heap. */
void group_timer_fired(struct timer *timer, void *arg)
{
	struct group *g = arg;
	(void)timer;
	uint32_t refs = g->refs;
	while (refs && !atomic_compare_exchange_weak(&g->refs, &refs, refs + 1))
		;
	if (!refs)
		return;
	if (!g->coordinator->pool) {
		run_timer(g);
	} else if (!atomic_exchange(&g->timer_queued, true)) {
		coordinator_busy(g->coordinator, 1);
		g->timer_job.run = run_timer_job;
		pool_run(g->coordinator->pool, &g->timer_job);
	} else {
		group_unref(g); /* a job that has not begun yet will see this deadline, too */
	}
}
