/*
 * The end of offsets and groups: DeleteGroups, and what is too old.
 *
 * An offset is too old offsets.retention.minutes after the group has lost its last member; where there never were any, after it was committed; where the group has
 * members, and says which topics it is subscribed to, offsets of others after they were committed. One that was given a time of its own (OffsetCommit 2 to 4) ends then.
 * A group without members and offsets goes, too.
 *
 * 1. While a group is being deleted nothing about it changes: what would gets COORDINATOR_LOAD_IN_PROGRESS, and is asked again. 2. When what was being written is
 * written, tombstones of all offsets and of the group are, in one append. 3. Then it is out of the table; if they could not be written it stays.
 */
#include "cluster/group/group.h"

#include <stdlib.h>

#include "cluster/group/group_records.h"
#include "store/diag.h"

/* ---- deleting a group ---- */

static void deleted(struct turn *t, struct write *w, int16_t error, int64_t base_offset)
{
	struct group *g = t->g;
	(void)base_offset;
	g->deleting = false;
	if (!error && g->state != GROUP_DEAD) {
		group_set_state(g, GROUP_DEAD);
		shard_remove(g);
	}
	if (w->reply)
		reply_error(t, w->reply, error);
}

static void add_offsets(struct records *records, struct group *g)
{
	for (struct offset_topic *topic = g->topics; topic; topic = topic->hh.next)
		for (struct offset_entry *o = topic->entries; o; o = o->hh.next)
			if (!o->removed)
				records_offset_gone(records, blob_str(g->id), blob_str(topic->name), o->partition);
}

/* Nothing is being written any more. */
static void write_deletion(struct turn *t)
{
	struct group *g = t->g;
	struct records records;
	struct write *w = write_new(deleted);
	struct reply *r = g->delete_reply;
	g->delete_reply = NULL;
	if (!w) {
		g->deleting = false;
		if (r)
			reply_error(t, r, KAFKA_COORDINATOR_NOT_AVAILABLE);
		return;
	}
	w->reply = r;
	records_init(&records);
	add_offsets(&records, g);
	records_newer_gone(&records, g);
	records_group_gone(&records, blob_str(g->id));
	write_start(t, w, &records);
	records_release(&records);
}

/* r: NULL, or who asked for it. */
static void start_delete(struct turn *t, struct reply *r)
{
	t->g->deleting = true;
	t->g->delete_reply = r;
	if (!t->g->writes)
		write_deletion(t);
}

void group_delete(struct coordinator *c, struct gstr group_id, group_error_done done, void *arg)
{
	struct turn t;
	struct reply *r = reply_new_error(done, arg);
	if (!r) {
		done(arg, KAFKA_COORDINATOR_NOT_AVAILABLE);
		return;
	}
	turn_init(&t, c);
	int16_t error = !group_id.p ? KAFKA_INVALID_GROUP_ID : turn_begin(&t, group_id, 0);
	if (!error && !t.g)
		error = KAFKA_GROUP_ID_NOT_FOUND;
	if (!error && t.g->state != GROUP_EMPTY)
		error = t.g->state == GROUP_DEAD ? KAFKA_GROUP_ID_NOT_FOUND : KAFKA_NON_EMPTY_GROUP;
	if (error)
		reply_error(&t, r, error);
	else
		start_delete(&t, r);
	turn_end(&t);
}

/* ---- after a write ---- */

/* A group that never got into the log, and holds nothing, is forgotten. */
void group_drop_unborn(struct turn *t)
{
	struct group *g = t->g;
	if (g->unborn && !g->removed && g->state == GROUP_EMPTY && group_is_idle(g)) {
		group_set_state(g, GROUP_DEAD);
		shard_remove(g);
	}
}

void group_writes_done(struct turn *t)
{
	struct group *g = t->g;
	group_answer_fetches(t, KAFKA_NONE);
	if (g->writes)
		return;
	group_drop_marks(g);
	if (g->deleting && g->state != GROUP_DEAD)
		write_deletion(t);
	else
		group_drop_unborn(t);
}

/* ---- what is too old ---- */

/* The time from which an offset's age counts. false: none of this group's gets old. */
static bool age_counts(const struct group *g, const struct offset_entry *o, int64_t *from_ms)
{
	*from_ms = o->commit_ms;
	if (!g->protocol_type)
		return true;
	if (g->state == GROUP_EMPTY) {
		if (g->state_ms >= 0)
			*from_ms = g->state_ms;
		return true;
	}
	return g->state == GROUP_STABLE && group_is_consumer(g) && g->subscribed_known;
}

static bool is_expired(struct turn *t, const struct offset_entry *o, int64_t now_ms)
{
	int64_t from_ms;
	if (!age_counts(t->g, o, &from_ms))
		return false;
	return o->expire_ms >= 0 ? now_ms >= o->expire_ms : now_ms - from_ms >= t->c->retention_ms;
}

static void expired(struct turn *t, struct write *w, int16_t error, int64_t base_offset)
{
	for (size_t i = 0; i < w->change_count && !error; i++)
		group_remove_offset(t->g, blob_str(w->changes[i].topic), w->changes[i].entry.partition, base_offset + w->changes[i].record, t->g->writes != NULL);
}

void group_expire(struct turn *t, void *arg)
{
	struct group *g = t->g;
	struct records records;
	int64_t now_ms = wall_now_ms();
	size_t left = 0;
	(void)arg;
	if (g->writes || g->deleting || g->state == GROUP_DEAD)
		return; /* the next time */
	struct write *w = write_new(expired);
	if (!w)
		return;
	records_init(&records);
	for (struct offset_topic *topic = g->topics; topic; topic = topic->hh.next) {
		bool subscribed = group_is_subscribed(g, blob_str(topic->name));
		for (struct offset_entry *o = topic->entries; o; o = o->hh.next)
			if (subscribed || !is_expired(t, o, now_ms) || !write_add_removal(w, &records, g, blob_str(topic->name), o->partition))
				left++;
	}
	if (!left && g->state == GROUP_EMPTY) {
		write_free(w);
		start_delete(t, NULL);
	} else if (w->change_count) {
		write_start(t, w, &records);
	} else {
		write_free(w);
	}
	records_release(&records);
}
