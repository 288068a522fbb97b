/*
 * Turns and answers: a turn holds the group's lock, gathers answers, and gives them when it has let go of it.
 */
#include "cluster/group/group.h"

#include <stdlib.h>

static const struct gstr nothing = {"", 0};

/* ---- replies ---- */

void reply_free(struct reply *r)
{
	if (!r)
		return;
	for (size_t i = 0; i < sizeof r->held / sizeof *r->held; i++)
		blob_unref(r->held[i]);
	if (r->held_members) {
		for (size_t i = 0; i < 3 * r->join.answer.member_count; i++)
			blob_unref(r->held_members[i]);
		free(r->held_members);
		free((void *)r->join.answer.members);
	}
	free(r);
}

static void send_join(struct reply *r)
{
	r->join.done(r->arg, &r->join.answer);
}

static void send_sync(struct reply *r)
{
	r->sync.done(r->arg, &r->sync.answer);
}

static void send_error(struct reply *r)
{
	r->error.done(r->arg, r->error.error);
}

static struct reply *reply_new(void (*send)(struct reply *), void *arg)
{
	struct reply *r = calloc(1, sizeof *r);
	if (r) {
		r->send = send;
		r->arg = arg;
	}
	return r;
}

struct reply *reply_new_join(group_join_done done, void *arg)
{
	struct reply *r = reply_new(send_join, arg);
	if (r)
		r->join.done = done;
	return r;
}

struct reply *reply_new_sync(group_sync_done done, void *arg)
{
	struct reply *r = reply_new(send_sync, arg);
	if (r)
		r->sync.done = done;
	return r;
}

struct reply *reply_new_error(group_error_done done, void *arg)
{
	struct reply *r = reply_new(send_error, arg);
	if (r)
		r->error.done = done;
	return r;
}

/* ---- filling them ---- */

/* Holds b for the answer. */
static struct gstr hold(struct reply *r, int place, struct blob *b)
{
	r->held[place] = blob_ref(b);
	return blob_str(b);
}

/* Holds a copy; without memory for one it is told as empty. */
static struct gstr hold_copy(struct reply *r, int place, struct gstr s)
{
	r->held[place] = s.n ? blob_new(s) : NULL;
	return r->held[place] ? blob_str(r->held[place]) : nothing;
}

void reply_join_error(struct turn *t, struct reply *r, int16_t error, struct gstr member_id)
{
	r->join.answer = (struct group_join_answer){.error = error, .generation_id = -1, .leader = nothing};
	r->join.answer.member_id = hold_copy(r, 0, member_id);
	turn_reply(t, r);
}

static bool hold_members(struct reply *r, struct group *g)
{
	size_t n = g->member_count, i = 0;
	struct group_join_member *list = calloc(n ? n : 1, sizeof *list);
	struct blob **held = calloc(n ? 3 * n : 1, sizeof *held);
	if (!list || !held) {
		free(list);
		free(held);
		return false;
	}
	for (struct member *m = g->members; m; m = m->hh.next, i++) {
		struct blob *metadata = member_metadata(m, g->protocol);
		held[3 * i] = blob_ref(m->id);
		held[3 * i + 1] = blob_ref(m->instance_id);
		held[3 * i + 2] = blob_ref(metadata);
		list[i] = (struct group_join_member){blob_str(m->id), blob_str(m->instance_id), metadata ? blob_str(metadata) : nothing};
	}
	r->held_members = held;
	r->join.answer.members = list;
	r->join.answer.member_count = n;
	return true;
}

void reply_join(struct turn *t, struct reply *r, struct member *m, struct blob *leader, bool with_members, bool skip_assignment)
{
	struct group *g = t->g;
	r->join.answer = (struct group_join_answer){.generation_id = g->generation, .skip_assignment = skip_assignment};
	if (with_members && !hold_members(r, g)) {
		reply_join_error(t, r, KAFKA_COORDINATOR_NOT_AVAILABLE, blob_str(m->id));
		return;
	}
	if (!leader && g->leader)
		leader = g->leader->id;
	r->join.answer.member_id = hold(r, 0, m->id);
	r->join.answer.protocol_type = hold(r, 1, g->protocol_type);
	r->join.answer.protocol_name = hold(r, 2, g->protocol);
	r->join.answer.leader = leader ? hold(r, 3, leader) : nothing;
	turn_reply(t, r);
}

void reply_sync_error(struct turn *t, struct reply *r, int16_t error)
{
	r->sync.answer = (struct group_sync_answer){.error = error, .assignment = nothing};
	turn_reply(t, r);
}

void reply_sync(struct turn *t, struct reply *r, struct member *m)
{
	r->sync.answer = (struct group_sync_answer){.protocol_type = hold(r, 0, t->g->protocol_type), .protocol_name = hold(r, 1, t->g->protocol)};
	r->sync.answer.assignment = m->assignment ? hold(r, 2, m->assignment) : nothing;
	turn_reply(t, r);
}

void reply_error(struct turn *t, struct reply *r, int16_t error)
{
	r->error.error = error;
	turn_reply(t, r);
}

/* ---- turns ---- */

void turn_reply(struct turn *t, struct reply *r)
{
	r->next = NULL;
	*t->tail = r;
	t->tail = &r->next;
}

void turn_init(struct turn *t, struct coordinator *c)
{
	*t = (struct turn){.c = c, .now = c->now(c->arg)};
	t->tail = &t->replies;
}

void turn_begin_on(struct turn *t, struct group *g)
{
	turn_init(t, g->coordinator);
	group_ref(g);
	pthread_mutex_lock(&g->lock);
	t->g = g;
}

/* Where the shard cannot answer. locks: shard.lock. */
static int16_t role_error(struct shard *s)
{
	if (s->coordinator->stopping || !s->coordinator->started)
		return KAFKA_COORDINATOR_NOT_AVAILABLE;
	return s->role == SHARD_ACTIVE ? KAFKA_NONE : s->role == SHARD_LOADING ? KAFKA_COORDINATOR_LOAD_IN_PROGRESS : KAFKA_NOT_COORDINATOR;
}

/* locks: shard.lock. */
static struct group *make_group(struct shard *s, struct gstr id)
{
	struct group *g = group_new(s, id);
	if (!g)
		return NULL;
	g->unborn = g->live = true;
	journal_ref(s->journal);
	g->journal = s->journal;
	if (!shard_table_add(&s->groups, g)) {
		group_unref(g);
		return NULL;
	}
	return g;
}

int16_t turn_begin(struct turn *t, struct gstr group_id, int flags)
{
	struct coordinator *c = t->c;
	struct shard *s = c->partitions ? coordinator_shard(c, coordinator_partition_of(c, group_id)) : NULL;
	if (!s)
		return c->started && !c->stopping ? KAFKA_NOT_COORDINATOR : KAFKA_COORDINATOR_NOT_AVAILABLE;
	for (;;) {
		struct group *g = NULL;
		pthread_mutex_lock(&s->lock);
		int16_t error = role_error(s);
		if (!error) {
			HASH_FIND(hh, s->groups, group_id.p, (size_t)group_id.n, g);
			if (!g && (flags & TURN_CREATE) && !(g = make_group(s, group_id)))
				error = KAFKA_COORDINATOR_NOT_AVAILABLE;
		}
		if (g)
			group_ref(g);
		pthread_mutex_unlock(&s->lock);
		if (error || !g) {
			if (error == KAFKA_NOT_COORDINATOR)
				shard_retry(s);
			return error;
		}
		pthread_mutex_lock(&g->lock);
		t->g = g;
		if (!g->removed && (!g->deleting || (flags & TURN_READ)))
			return KAFKA_NONE;
		bool gone = g->removed;
		turn_end(t);
		if (!gone)
			return KAFKA_COORDINATOR_LOAD_IN_PROGRESS;
	}
}

void turn_end(struct turn *t)
{
	struct group *g = t->g;
	if (g) {
		pthread_mutex_unlock(&g->lock);
		journal_pump(g->journal);
	}
	while (t->replies) {
		struct reply *r = t->replies;
		t->replies = r->next;
		r->send(r);
		reply_free(r);
	}
	t->tail = &t->replies;
	group_unref(g);
	t->g = NULL;
}
