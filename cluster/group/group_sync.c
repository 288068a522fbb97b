/*
 * Members of a generation: SyncGroup, Heartbeat, LeaveGroup.
 *
 * 1. Members send SyncGroup; each is parked. The leader's carries an assignment for each member.
 * 2. The group with those assignments is written. When that is done, and the generation is still the same, the group is Stable and all that is parked is answered.
 * 3. Where it cannot be written all get the error, and the group rebalances again. Where a rebalance came in between, they were told so already.
 */
#include "cluster/group/group.h"

#include <stdlib.h>

#include "cluster/group/group_records.h"
#include "store/diag.h"

int16_t group_check_member(struct group *g, struct gstr member_id, struct gstr instance_id)
{
	if (g->state == GROUP_DEAD)
		return KAFKA_COORDINATOR_NOT_AVAILABLE;
	if (instance_id.p) {
		struct member *m = group_static_member(g, instance_id);
		if (!m)
			return KAFKA_UNKNOWN_MEMBER_ID;
		if (!blob_is(m->id, member_id))
			return KAFKA_FENCED_INSTANCE_ID;
	}
	return group_find_member(g, member_id) ? KAFKA_NONE : KAFKA_UNKNOWN_MEMBER_ID;
}

/* ---- the leader's assignment ---- */

void group_write_metadata(struct turn *t, struct write *w, bool next)
{
	struct records records;
	if (!w) {
		diag_warning("group %.*s: no memory to write it", (int)t->g->id->n, (const char *)t->g->id->data);
		return;
	}
	records_init(&records);
	records_group(&records, t->g, next);
	w->ends_newer = true;
	write_start(t, w, &records);
	records_release(&records);
}

static void assigned(struct turn *t, struct write *w, int16_t error, int64_t base_offset)
{
	struct group *g = t->g;
	(void)base_offset;
	if (g->state != GROUP_COMPLETING || g->generation != w->generation || g->assignment_write != w->number)
		return;
	if (!error)
		group_set_state(g, GROUP_STABLE);
	mirror_changed(g, true);
	for (struct member *m = g->members; m; m = m->hh.next) {
		struct reply *r = m->sync;
		blob_unref(m->assignment);
		m->assignment = error ? NULL : m->next_assignment;
		if (!error)
			m->next_assignment = NULL;
		m->sync = NULL;
		if (!r)
			continue;
		if (error)
			reply_sync_error(t, r, error);
		else
			reply_sync(t, r, m);
		group_hear(t, m);
	}
	if (error)
		group_rebalance(t);
}

/* false: no memory. */
static bool take_assignments(struct group *g, const struct group_sync_request *q)
{
	for (struct member *m = g->members; m; m = m->hh.next) {
		blob_unref(m->next_assignment);
		m->next_assignment = NULL;
	}
	for (size_t i = 0; i < q->assignment_count; i++) {
		struct member *m = group_find_member(g, q->assignments[i].member_id);
		if (!m)
			continue; /* it has left meanwhile */
		blob_unref(m->next_assignment);
		if (!(m->next_assignment = blob_new(q->assignments[i].assignment)))
			return false;
	}
	return true;
}

/* ---- SyncGroup ---- */

static bool differs(struct gstr given, struct blob *is)
{
	return given.p && is && !blob_is(is, given);
}

static int16_t check_sync(struct group *g, const struct group_sync_request *q)
{
	if (!g || g->state == GROUP_EMPTY)
		return KAFKA_UNKNOWN_MEMBER_ID;
	int16_t error = group_check_member(g, q->member_id, q->instance_id);
	if (error)
		return error;
	if (q->generation_id != g->generation)
		return KAFKA_ILLEGAL_GENERATION;
	if (differs(q->protocol_type, g->protocol_type) || differs(q->protocol_name, g->protocol))
		return KAFKA_INCONSISTENT_GROUP_PROTOCOL;
	return g->state == GROUP_PREPARING ? KAFKA_REBALANCE_IN_PROGRESS : KAFKA_NONE;
}

static void heard_sync(struct group *g, struct member *m)
{
	g->pending_syncs -= m->pending_sync;
	m->pending_sync = false;
	if (!g->pending_syncs)
		g->sync_due_ns = NEVER;
}

static void park_sync(struct turn *t, struct member *m, const struct group_sync_request *q, struct reply *r)
{
	struct group *g = t->g;
	group_fail_sync(t, m, KAFKA_REBALANCE_IN_PROGRESS); /* the same member once more: who asked before has gone */
	m->sync = r;
	if (m != g->leader)
		return;
	struct write *w = take_assignments(g, q) ? write_new(assigned) : NULL;
	if (!w) {
		group_fail_sync(t, m, KAFKA_COORDINATOR_NOT_AVAILABLE);
		return;
	}
	w->generation = g->generation;
	g->assignment_write = g->next_write; /* the number that it gets */
	group_write_metadata(t, w, true);
}

void group_sync(struct coordinator *c, const struct group_sync_request *q, group_sync_done done, void *arg)
{
	struct turn t;
	struct reply *r = reply_new_sync(done, arg);
	if (!r) {
		struct group_sync_answer a = {.error = KAFKA_COORDINATOR_NOT_AVAILABLE, .assignment = GSTR("")};
		done(arg, &a);
		return;
	}
	turn_init(&t, c);
	int16_t error = !q->group_id.n ? KAFKA_INVALID_GROUP_ID : turn_begin(&t, q->group_id, 0);
	if (!error)
		error = check_sync(t.g, q);
	if (error) {
		reply_sync_error(&t, r, error);
	} else {
		struct member *m = group_find_member(t.g, q->member_id);
		heard_sync(t.g, m);
		if (t.g->state == GROUP_COMPLETING)
			park_sync(&t, m, q, r);
		else
			reply_sync(&t, r, m);
	}
	turn_end(&t);
}

/* ---- Heartbeat ---- */

static int16_t heartbeat(struct turn *t, const struct group_heartbeat_request *q)
{
	struct group *g = t->g;
	int16_t error = g ? group_check_member(g, q->member_id, q->instance_id) : KAFKA_UNKNOWN_MEMBER_ID;
	if (!error && q->generation_id != g->generation)
		error = KAFKA_ILLEGAL_GENERATION;
	if (!error && g->state == GROUP_EMPTY)
		error = KAFKA_UNKNOWN_MEMBER_ID;
	if (error)
		return error;
	group_hear(t, group_find_member(g, q->member_id));
	return g->state == GROUP_PREPARING ? KAFKA_REBALANCE_IN_PROGRESS : KAFKA_NONE;
}

int16_t group_heartbeat(struct coordinator *c, const struct group_heartbeat_request *q)
{
	struct turn t;
	turn_init(&t, c);
	int16_t error = !q->group_id.n ? KAFKA_INVALID_GROUP_ID : turn_begin(&t, q->group_id, TURN_READ);
	if (!error)
		error = heartbeat(&t, q);
	turn_end(&t);
	return error == KAFKA_COORDINATOR_LOAD_IN_PROGRESS ? KAFKA_NONE : error; /* it may well be a member */
}

/* ---- LeaveGroup ---- */

static int16_t leave(struct turn *t, const struct group_leaving *l)
{
	struct group *g = t->g;
	struct member *m = NULL;
	struct pending_member *p = group_pending_member(g, l->member_id);
	if (!l->member_id.n) { /* an administrator removes a static member */
		m = l->instance_id.p ? group_static_member(g, l->instance_id) : NULL;
		if (!m)
			return KAFKA_UNKNOWN_MEMBER_ID;
	} else if (p) {
		group_remove_pending(g, p);
		return KAFKA_NONE;
	} else {
		int16_t error = group_check_member(g, l->member_id, l->instance_id);
		if (error)
			return error;
		m = group_find_member(g, l->member_id);
	}
	diag_info("group %.*s: member %.*s left: %.*s", (int)g->id->n, (const char *)g->id->data, (int)m->id->n, (const char *)m->id->data,
		  l->reason.p ? (int)l->reason.n : 12, l->reason.p ? (const char *)l->reason.p : "not provided");
	group_fail_join(t, m, KAFKA_UNKNOWN_MEMBER_ID, GSTR(""));
	group_fail_sync(t, m, KAFKA_UNKNOWN_MEMBER_ID);
	group_remove_member(g, m);
	return KAFKA_NONE;
}

int16_t group_leave(struct coordinator *c, struct gstr group_id, struct group_leaving *l, size_t count)
{
	struct turn t;
	bool any = false;
	turn_init(&t, c);
	int16_t error = !group_id.n ? KAFKA_INVALID_GROUP_ID : turn_begin(&t, group_id, 0);
	for (size_t i = 0; i < count && !error; i++) {
		l[i].error = t.g ? leave(&t, &l[i]) : KAFKA_UNKNOWN_MEMBER_ID;
		any |= !l[i].error;
	}
	if (any && (t.g->state == GROUP_STABLE || t.g->state == GROUP_COMPLETING))
		group_prepare_rebalance(&t);
	else if (any)
		group_maybe_complete_join(&t);
	turn_end(&t);
	return error;
}
