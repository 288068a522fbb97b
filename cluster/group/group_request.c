/*
 * JoinGroup, request by request: who it is, and what that means for the group. What follows for all is in group_join.c.
 */
#include "cluster/group/group.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "cluster/group/group_records.h"
#include "store/diag.h"

/* How long a new member may be parked, as it cannot send heartbeats yet (Kafka's NewMemberJoinTimeoutMs). */
enum { NEW_MEMBER_JOIN_MS = 5 * 60 * 1000, UUID_TEXT = 36 };

/* "<client id or instance id>-<uuid>". NULL: no memory. */
static struct blob *new_member_id(const struct group_join_request *q)
{
	struct gstr prefix = q->instance_id.p ? q->instance_id : q->client_id.p ? q->client_id : GSTR("");
	uint8_t r[16];
	struct blob *b = malloc(sizeof *b + (size_t)prefix.n + 1 + UUID_TEXT + 1);
	if (!b || getrandom(r, sizeof r, 0) != sizeof r) {
		free(b);
		return NULL;
	}
	b->refs = 1;
	b->n = prefix.n + 1 + UUID_TEXT;
	memcpy(b->data, prefix.p, (size_t)prefix.n);
	r[6] = (r[6] & 0x0f) | 0x40;
	r[8] = (r[8] & 0x3f) | 0x80;
	snprintf((char *)b->data + prefix.n, 1 + UUID_TEXT + 1, "-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", r[0], r[1], r[2], r[3], r[4],
		 r[5], r[6], r[7], r[8], r[9], r[10], r[11], r[12], r[13], r[14], r[15]);
	return b;
}

/* Existing members come back; new ones up to group.max.size. While joining, who is parked counts, so that of a group that has become too large the last go. */
static bool has_room(struct turn *t, struct gstr member_id)
{
	struct group *g = t->g;
	struct member *m = group_find_member(g, member_id);
	switch (g->state) {
	case GROUP_PREPARING:
		return (m && m->join) || g->joining < (uint32_t)t->c->max_size;
	case GROUP_COMPLETING:
	case GROUP_STABLE:
		return m || g->member_count < (uint32_t)t->c->max_size;
	case GROUP_EMPTY:
	case GROUP_DEAD:
		break;
	}
	return true;
}

static void set_timeouts(struct member *m, const struct group_join_request *q)
{
	m->session_timeout_ms = q->session_timeout_ms;
	m->rebalance_timeout_ms = q->rebalance_timeout_ms;
}

/* Parks the request with the member, as it joins now. */
static int update_member(struct turn *t, struct member *m, const struct group_join_request *q, struct reply *r)
{
	struct protocol *p = protocols_new(q->protocols, q->protocol_count);
	if (!p || group_set_protocols(t->g, m, p, q->protocol_count) < 0)
		return ERR_NO_MEMORY;
	set_timeouts(m, q);
	group_park_join(t, m, r);
	return 0;
}

static void no_memory(struct turn *t, struct reply *r, const struct group_join_request *q)
{
	reply_join_error(t, r, KAFKA_COORDINATOR_NOT_AVAILABLE, q->member_id);
}

static void rejoin(struct turn *t, struct member *m, const struct group_join_request *q, struct reply *r)
{
	if (update_member(t, m, q, r) < 0)
		no_memory(t, r, q);
	else
		group_rebalance(t);
}

static void add_member(struct turn *t, struct gstr id, const struct group_join_request *q, struct reply *r)
{
	struct group *g = t->g;
	struct member *m = member_new(id, q->instance_id, q->client_id, q->client_host);
	if (m && (m->protocols = protocols_new(q->protocols, q->protocol_count)))
		m->protocol_count = q->protocol_count;
	if (!m || !m->protocols || (!g->member_count && group_set_protocol_type(g, q->protocol_type) < 0)) {
		if (m)
			member_unref(m);
		no_memory(t, r, q);
		return;
	}
	m->is_new = true;
	m->join = r;
	set_timeouts(m, q);
	if (group_add_member(g, m) < 0) {
		m->join = NULL;
		member_unref(m);
		no_memory(t, r, q);
		return;
	}
	if (g->state == GROUP_PREPARING && g->previous == GROUP_EMPTY)
		g->new_member_added = true;
	m->session_due_ns = due_in(t, NEW_MEMBER_JOIN_MS);
	group_arm(t, m->session_due_ns);
	group_rebalance(t);
}

/* ---- a static member that comes back under a new id ---- */

/* The log knows the old one: so it is to be. */
static void put_back(struct turn *t, struct member *m, struct write *w)
{
	struct member *old = w->old;
	struct protocol *p = old->protocols;
	size_t count = old->protocol_count;
	old->protocols = NULL;
	old->protocol_count = 0;
	if (m->sync)
		reply_sync_error(t, m->sync, KAFKA_FENCED_INSTANCE_ID);
	m->sync = NULL;
	if (!p || group_set_protocols(t->g, m, p, count) < 0 || group_swap_member(t->g, m, old) < 0) {
		group_remove_member(t->g, m);
		group_rebalance(t);
		return;
	}
	member_ref(old); /* the group's */
	old->session_timeout_ms = w->session_timeout_ms;
	old->rebalance_timeout_ms = w->rebalance_timeout_ms;
	group_hear(t, old);
}

static void replaced(struct turn *t, struct write *w, int16_t error, int64_t base_offset)
{
	struct group *g = t->g;
	struct member *m = w->member;
	(void)base_offset;
	if (!m->in_group || g->state == GROUP_DEAD)
		return; /* whoever took it out has answered */
	if (error) {
		struct reply *r = group_take_join(t, m);
		diag(error == KAFKA_NOT_COORDINATOR ? DIAG_INFO : DIAG_WARNING, "group %.*s: the new id of a static member could not be written (error %d); the old one stays", (int)g->id->n, (const char *)g->id->data, error);
		put_back(t, m, w);
		if (r)
			reply_join_error(t, r, error, GSTR(""));
	} else if (m->join && g->state == GROUP_STABLE && g->generation == w->generation) {
		bool leads = m == g->leader, skip = w->skip_assignment;
		/* Where it cannot be told to skip the assignment it is told that another leads: else it would assign, and nobody asks for that. */
		reply_join(t, group_take_join(t, m), m, skip ? NULL : w->leader, skip && leads, skip && leads);
		group_hear(t, m);
	} /* else a rebalance has begun meanwhile, and answers it */
}

static struct write *replace_write(struct turn *t, struct member *m, struct member *old, struct blob *leader, const struct group_join_request *q)
{
	struct write *w = write_new(replaced);
	if (!w)
		return NULL;
	member_ref(m);
	w->member = m;
	w->old = old; /* its reference, too */
	w->leader = blob_ref(leader);
	w->generation = t->g->generation;
	w->skip_assignment = q->skip_assignment;
	w->session_timeout_ms = old->session_timeout_ms;
	w->rebalance_timeout_ms = old->rebalance_timeout_ms;
	return w;
}

static void replace_member(struct turn *t, struct member *old, struct gstr id, const struct group_join_request *q, struct reply *r)
{
	struct group *g = t->g;
	struct blob *leader = blob_ref(g->leader ? g->leader->id : NULL);
	struct member *m = member_new(id, q->instance_id, blob_str(old->client_id), blob_str(old->client_host));
	struct protocol *p = protocols_new(q->protocols, q->protocol_count);
	if (!m || !p) {
		protocols_free(p, q->protocol_count);
		if (m)
			member_unref(m);
		blob_unref(leader);
		no_memory(t, r, q);
		return;
	}
	/* whoever still waits under the old id is fenced */
	if (old->join)
		reply_join_error(t, group_take_join(t, old), KAFKA_FENCED_INSTANCE_ID, blob_str(old->id));
	if (old->sync)
		reply_sync_error(t, old->sync, KAFKA_FENCED_INSTANCE_ID);
	old->sync = NULL;
	member_ref(old);
	if (group_swap_member(g, old, m) < 0) {
		protocols_free(p, q->protocol_count);
		member_unref(m);
		member_unref(old);
		blob_unref(leader);
		no_memory(t, r, q);
		return;
	}
	old->protocols = protocols_share(m->protocols, m->protocol_count); /* should it come back */
	old->protocol_count = old->protocols ? m->protocol_count : 0;
	if (group_set_protocols(g, m, p, q->protocol_count) < 0) {
		no_memory(t, r, q);
	} else {
		group_hear(t, m); /* by the timeout it had, as Kafka does */
		set_timeouts(m, q);
		group_park_join(t, m, r);
		struct blob *selected = g->state == GROUP_STABLE ? group_select_protocol(g) : NULL;
		struct write *w = selected && g->protocol && blob_is(g->protocol, blob_str(selected)) ? replace_write(t, m, old, leader, q) : NULL;
		if (w) {
			old = NULL;
			group_write_metadata(t, w, false);
		} else if (g->state == GROUP_COMPLETING) {
			group_prepare_rebalance(t); /* the leader may assign to the old id by now, which would leave the new one without */
		} else {
			group_rebalance(t);
		}
	}
	if (old)
		member_unref(old);
	blob_unref(leader);
}

/* ---- who joins ---- */

static void join_anew(struct turn *t, const struct group_join_request *q, struct reply *r)
{
	struct group *g = t->g;
	struct blob *id = new_member_id(q);
	if (!id) {
		no_memory(t, r, q);
		return;
	}
	struct member *old = q->instance_id.p ? group_static_member(g, q->instance_id) : NULL;
	if (old) {
		replace_member(t, old, blob_str(id), q, r);
	} else if (q->instance_id.p || !q->member_id_required) {
		add_member(t, blob_str(id), q, r);
	} else {
		struct pending_member *p = group_add_pending(g, blob_str(id));
		if (p) {
			p->due_ns = due_in(t, q->session_timeout_ms);
			group_arm(t, p->due_ns);
			reply_join_error(t, r, KAFKA_MEMBER_ID_REQUIRED, blob_str(id));
		} else {
			no_memory(t, r, q);
		}
	}
	blob_unref(id);
}

static void tell_generation(struct turn *t, struct member *m, struct reply *r, bool with_members)
{
	reply_join(t, r, m, NULL, with_members, false);
}

static void join_again(struct turn *t, const struct group_join_request *q, struct reply *r)
{
	struct group *g = t->g;
	struct pending_member *p = group_pending_member(g, q->member_id);
	if (p) {
		if (q->instance_id.p) { /* no id is given to a static member this way */
			reply_join_error(t, r, KAFKA_UNKNOWN_SERVER_ERROR, q->member_id);
			return;
		}
		group_remove_pending(g, p);
		add_member(t, q->member_id, q, r);
		return;
	}
	int16_t error = group_check_member(g, q->member_id, q->instance_id);
	if (!error && g->state == GROUP_EMPTY)
		error = KAFKA_UNKNOWN_MEMBER_ID;
	if (error) {
		reply_join_error(t, r, error, q->member_id);
		return;
	}
	struct member *m = group_find_member(g, q->member_id);
	bool same = member_has_protocols(m, q->protocols, q->protocol_count);
	if (g->state == GROUP_COMPLETING && same)
		tell_generation(t, m, r, m == g->leader); /* its answer was lost, perhaps */
	else if (g->state == GROUP_STABLE && same && m != g->leader)
		tell_generation(t, m, r, false);
	else
		rejoin(t, m, q, r); /* a leader asks for a rebalance by joining: what it knows may have changed */
}

static int16_t check_request(struct coordinator *c, const struct group_join_request *q)
{
	if (!q->group_id.p || !q->group_id.n)
		return KAFKA_INVALID_GROUP_ID;
	if (q->session_timeout_ms < c->min_session_ms || q->session_timeout_ms > c->max_session_ms)
		return KAFKA_INVALID_SESSION_TIMEOUT;
	return KAFKA_NONE;
}

/* Who does not fit in is out altogether. */
static void turn_away(struct turn *t, const struct group_join_request *q, struct reply *r)
{
	struct member *m = group_find_member(t->g, q->member_id);
	struct pending_member *p = group_pending_member(t->g, q->member_id);
	if (m)
		group_remove_member(t->g, m);
	if (p)
		group_remove_pending(t->g, p);
	reply_join_error(t, r, KAFKA_GROUP_MAX_SIZE_REACHED, GSTR(""));
}

static void join(struct turn *t, const struct group_join_request *q, struct reply *r)
{
	bool anew = !q->member_id.n;
	diag_info("group %.*s, %s: \"%.*s\" of client %.*s joins: %.*s", (int)q->group_id.n, (const char *)q->group_id.p, group_state_name(t->g->state), (int)q->member_id.n,
		  (const char *)q->member_id.p, (int)q->client_id.n, (const char *)q->client_id.p, q->reason.n ? (int)q->reason.n : 12, q->reason.n ? (const char *)q->reason.p : "not provided");
	if (!has_room(t, q->member_id))
		turn_away(t, q, r);
	else if (!group_supports(t->g, q->protocol_type, q->protocols, q->protocol_count))
		reply_join_error(t, r, KAFKA_INCONSISTENT_GROUP_PROTOCOL, q->member_id);
	else if (anew)
		join_anew(t, q, r);
	else
		join_again(t, q, r);
}

static void born(struct turn *t, struct write *w, int16_t error, int64_t base_offset)
{
	(void)w;
	(void)base_offset;
	if (error)
		diag(error == KAFKA_NOT_COORDINATOR ? DIAG_INFO : DIAG_WARNING, "group %.*s: that there is such a group could not be written (error %d)", (int)t->g->id->n, (const char *)t->g->id->data, error);
}

/* A group that has just been made is known after a restart, too. */
static void write_new_group(struct turn *t)
{
	struct records records;
	struct write *w = write_new(born);
	if (!w)
		return;
	records_init(&records);
	records_group_empty(&records, t->g);
	write_start(t, w, &records);
	records_release(&records);
}

void group_join(struct coordinator *c, const struct group_join_request *q, group_join_done done, void *arg)
{
	struct turn t;
	struct reply *r = reply_new_join(done, arg);
	if (!r) {
		struct group_join_answer a = {.error = KAFKA_COORDINATOR_NOT_AVAILABLE, .generation_id = -1, .leader = GSTR(""), .member_id = q->member_id};
		done(arg, &a);
		return;
	}
	turn_init(&t, c);
	int16_t error = check_request(c, q);
	if (!error)
		error = turn_begin(&t, q->group_id, q->member_id.n ? 0 : TURN_CREATE);
	if (error) {
		reply_join_error(&t, r, error, q->member_id);
	} else if (!t.g) {
		reply_join_error(&t, r, KAFKA_UNKNOWN_MEMBER_ID, q->member_id);
	} else {
		join(&t, q, r);
		if (t.g->unborn && !t.g->writes && !t.g->removed)
			write_new_group(&t);
	}
	turn_end(&t);
}
