/*
 * Offsets: OffsetCommit, OffsetFetch, OffsetDelete.
 *
 * A commit is checked against the generation and queued for the log under one lock, so that no commit of an older generation can come behind one of a newer. It is
 * seen by OffsetFetch once it is in the log.
 */
#include "cluster/group/group.h"

#include <stdlib.h>

#include "cluster/group/group_records.h"

/* ---- OffsetCommit ---- */

static int16_t check_commit(struct turn *t, const struct group_commit_request *q)
{
	struct group *g = t->g;
	if (!g)
		return KAFKA_GROUP_ID_NOT_FOUND;
	if (q->generation_id < 0 && g->state == GROUP_EMPTY)
		return KAFKA_NONE; /* a consumer that is in no group, or an administrator */
	if (q->generation_id < 0 && !q->member_id.n && !q->instance_id.p)
		return KAFKA_UNKNOWN_MEMBER_ID; /* the group has members: only they may */
	int16_t error = group_check_member(g, q->member_id, q->instance_id);
	if (error)
		return error;
	if (q->generation_id != g->generation)
		return KAFKA_ILLEGAL_GENERATION;
	if (g->state == GROUP_COMPLETING)
		return KAFKA_REBALANCE_IN_PROGRESS;
	group_hear(t, group_find_member(g, q->member_id)); /* who commits is alive */
	return KAFKA_NONE;
}

static size_t commit_count(const struct group_commit_request *q)
{
	size_t n = 0;
	for (size_t i = 0; i < q->topic_count; i++)
		n += q->topics[i].partition_count;
	return n;
}

static bool add_change(struct write *w, struct blob *topic, const uint8_t topic_id[16], const struct group_commit_partition *p, int64_t now_ms, int64_t retention_ms)
{
	struct blob *metadata = blob_new(p->metadata);
	if (!metadata)
		return false;
	w->changes[w->change_count] = (struct change){
		.topic = blob_ref(topic), .record = (uint32_t)w->change_count,
		.entry = {.partition = p->partition, .leader_epoch = p->leader_epoch, .offset = p->offset, .commit_ms = now_ms,
			  .expire_ms = retention_ms < 0 ? -1 : now_ms + retention_ms, .metadata = metadata},
	};
	memcpy(w->changes[w->change_count++].entry.topic_id, topic_id, 16);
	return true;
}

/* Those that can be: the others have their error. false: no memory. */
static bool add_commits(struct turn *t, struct write *w, struct records *records, const struct group_commit_request *q)
{
	int64_t now_ms = wall_now_ms();
	size_t n = commit_count(q);
	if (!(w->changes = calloc(n ? n : 1, sizeof *w->changes)))
		return false;
	for (size_t i = 0; i < q->topic_count; i++) {
		const struct group_commit_topic *topic = &q->topics[i];
		struct blob *name = blob_new(topic->name);
		bool ok = name != NULL;
		for (size_t k = 0; k < topic->partition_count && ok; k++) {
			struct group_commit_partition *p = &topic->partitions[k];
			p->error = p->metadata.p && java_length(p->metadata) > t->c->metadata_max ? KAFKA_OFFSET_METADATA_TOO_LARGE : KAFKA_NONE;
			if (p->error)
				continue;
			ok = add_change(w, name, topic->topic_id, p, now_ms, q->retention_ms);
			if (ok)
				records_offset(records, blob_str(t->g->id), topic->name, &w->changes[w->change_count - 1].entry);
		}
		blob_unref(name);
		if (!ok)
			return false;
	}
	return true;
}

static void set_commit_errors(struct group_commit_request *q, int16_t error)
{
	for (size_t i = 0; i < q->topic_count; i++)
		for (size_t k = 0; k < q->topics[i].partition_count; k++)
			q->topics[i].partitions[k].error = error;
}

static void committed(struct turn *t, struct write *w, int16_t error, int64_t base_offset)
{
	struct group *g = t->g;
	for (size_t i = 0; i < w->change_count && !error && g->state != GROUP_DEAD; i++) {
		struct change *c = &w->changes[i];
		c->entry.log_offset = base_offset + c->record;
		if (group_put_offset(g, blob_str(c->topic), &c->entry) < 0)
			error = KAFKA_COORDINATOR_NOT_AVAILABLE; /* it is in the log, and the client will commit again */
		c->entry.metadata = NULL;
	}
	if (!w->commit)
		return;
	if (error)
		set_commit_errors(w->commit, error);
	reply_error(t, w->reply, error);
}

void group_end_commits(struct turn *t)
{
	for (struct write *w = t->g->writes; w; w = w->next) {
		if (!w->commit || !w->commit_due_ns || w->commit_due_ns > t->now.ns)
			continue;
		set_commit_errors(w->commit, KAFKA_COORDINATOR_NOT_AVAILABLE);
		reply_error(t, w->reply, KAFKA_COORDINATOR_NOT_AVAILABLE);
		w->commit = NULL;
		w->reply = NULL;
	}
}

static void start_commit(struct turn *t, struct group_commit_request *q, struct reply *r)
{
	struct records records;
	struct write *w = write_new(committed);
	records_init(&records);
	if (!w || !add_commits(t, w, &records, q)) {
		if (w)
			write_free(w);
		set_commit_errors(q, KAFKA_COORDINATOR_NOT_AVAILABLE);
		reply_error(t, r, KAFKA_COORDINATOR_NOT_AVAILABLE);
	} else if (!w->change_count) {
		write_free(w);
		reply_error(t, r, KAFKA_NONE);
	} else {
		w->reply = r;
		w->commit = q;
		if (t->c->in_cluster) { /* by itself it waits for its own disk */
			w->commit_due_ns = due_in(t, t->c->commit_timeout_ms);
			group_arm(t, w->commit_due_ns);
		}
		write_start(t, w, &records);
	}
	records_release(&records);
}

void group_commit(struct coordinator *c, struct group_commit_request *q, group_error_done done, void *arg)
{
	struct turn t;
	struct reply *r = reply_new_error(done, arg);
	if (!r) {
		set_commit_errors(q, KAFKA_COORDINATOR_NOT_AVAILABLE);
		done(arg, KAFKA_COORDINATOR_NOT_AVAILABLE);
		return;
	}
	turn_init(&t, c);
	int16_t error = !q->group_id.p ? KAFKA_INVALID_GROUP_ID : turn_begin(&t, q->group_id, q->generation_id < 0 ? TURN_CREATE : 0);
	if (!error)
		error = check_commit(&t, q);
	if (error) {
		set_commit_errors(q, error);
		reply_error(&t, r, error);
	} else {
		start_commit(&t, q, r);
	}
	if (t.g)
		group_drop_unborn(&t);
	turn_end(&t);
}

/* ---- OffsetFetch ---- */

struct parked_fetch { /* waits for the writes that were on the way when it came */
	struct reply reply; /* first */
	struct parked_fetch *next;
	uint64_t before;    /* numbers of writes below this */
	const struct group_fetch_request *request;
	group_fetch_done done;
	struct group_fetch_answer answer;
	struct blob **held;
	size_t held_count;
};

static void send_fetch(struct reply *r)
{
	struct parked_fetch *f = (struct parked_fetch *)r;
	f->done(r->arg, &f->answer);
	for (size_t i = 0; i < f->answer.topic_count; i++)
		free(f->answer.topics[i].partitions);
	free((void *)f->answer.topics);
	for (size_t i = 0; i < f->held_count; i++)
		blob_unref(f->held[i]);
	free(f->held);
}

static struct gstr hold(struct parked_fetch *f, struct blob *b)
{
	f->held[f->held_count++] = blob_ref(b);
	return blob_str(b);
}

/* Both are known, and differ: the topic was deleted and made anew. */
static bool other_topic(const uint8_t a[16], const uint8_t b[16])
{
	static const uint8_t none[16];
	return memcmp(a, none, 16) && memcmp(b, none, 16) && memcmp(a, b, 16);
}

static struct group_fetch_partition fetched(struct parked_fetch *f, const struct offset_entry *o, int32_t partition)
{
	if (!o || o->removed)
		return (struct group_fetch_partition){.partition = partition, .leader_epoch = -1, .offset = -1, .metadata = GSTR("")};
	return (struct group_fetch_partition){.partition = partition, .leader_epoch = o->leader_epoch, .offset = o->offset, .metadata = hold(f, o->metadata)};
}

/* Room for an answer of so many topics, each of whose partitions is set next, and for what it holds. */
static struct group_fetch_topic *fetch_room(struct parked_fetch *f, size_t topics, size_t blobs)
{
	struct group_fetch_topic *list = calloc(topics ? topics : 1, sizeof *list);
	f->held = calloc(blobs ? blobs : 1, sizeof *f->held);
	f->answer.topics = list;
	return f->held ? list : NULL;
}

static bool fetch_all(struct parked_fetch *f, struct group *g)
{
	size_t topics = HASH_COUNT(g->topics);
	struct group_fetch_topic *list = fetch_room(f, topics, topics + g->offset_count);
	for (struct offset_topic *t = list ? g->topics : NULL; t; t = t->hh.next) {
		size_t n = HASH_COUNT(t->entries);
		struct group_fetch_topic *topic = &list[f->answer.topic_count];
		if (!(topic->partitions = calloc(n ? n : 1, sizeof *topic->partitions)))
			return false;
		f->answer.topic_count++;
		topic->name = hold(f, t->name);
		for (struct offset_entry *o = t->entries; o; o = o->hh.next)
			if (!o->removed)
				topic->partitions[topic->partition_count++] = fetched(f, o, o->partition);
	}
	return list != NULL;
}

static bool fetch_some(struct parked_fetch *f, struct group *g)
{
	const struct group_fetch_request *q = f->request;
	size_t n = 0;
	for (size_t i = 0; i < q->topic_count; i++)
		n += q->topics[i].partition_count;
	struct group_fetch_topic *list = fetch_room(f, q->topic_count, n);
	for (size_t i = 0; list && i < q->topic_count; i++) {
		const struct group_fetch_topic *from = &q->topics[i];
		struct offset_topic *t = g ? group_topic(g, from->name, false) : NULL;
		list[i].partitions = calloc(from->partition_count ? from->partition_count : 1, sizeof *list[i].partitions);
		if (!list[i].partitions)
			return false;
		f->answer.topic_count++;
		list[i].name = from->name;
		list[i].partition_count = from->partition_count;
		memcpy(list[i].topic_id, from->topic_id, sizeof list[i].topic_id);
		for (size_t k = 0; k < from->partition_count; k++) {
			const struct offset_entry *o = topic_offset(t, from->partitions[k].partition);
			list[i].partitions[k] = fetched(f, o && other_topic(o->topic_id, from->topic_id) ? NULL : o, from->partitions[k].partition);
		}
	}
	return list != NULL;
}

static void drop_fetched(struct parked_fetch *f)
{
	for (size_t i = 0; i < f->answer.topic_count; i++)
		free(f->answer.topics[i].partitions);
	free((void *)f->answer.topics);
	f->answer = (struct group_fetch_answer){0};
}

static void answer_fetch(struct turn *t, struct parked_fetch *f, int16_t error)
{
	if (!error && !(f->request->all ? !t->g || fetch_all(f, t->g) : fetch_some(f, t->g)))
		error = KAFKA_COORDINATOR_NOT_AVAILABLE;
	if (error) {
		drop_fetched(f);
		f->answer.error = error;
	}
	turn_reply(t, &f->reply);
}

void group_answer_fetches(struct turn *t, int16_t error)
{
	struct group *g = t->g;
	uint64_t oldest = g->writes ? g->writes->number : UINT64_MAX;
	for (struct parked_fetch *f, **at = &g->fetches; (f = *at) != NULL;) {
		if (!error && f->before > oldest) {
			at = &f->next;
			continue;
		}
		*at = f->next;
		answer_fetch(t, f, error);
	}
}

static void confirmed(struct turn *t, struct write *w, int16_t error, int64_t base_offset)
{
	(void)base_offset;
	answer_fetch(t, w->fetch, error);
}

/*
 * Another broker may coordinate the group by now, and have commits that are not known here: this one has been stopped for long, or has lost ZooKeeper. Something is written then that changes nothing, the tombstone of
 * an offset that cannot be. When the other replicas have it, nobody else led when it was asked.
 */
static void confirm_fetch(struct turn *t, struct parked_fetch *f)
{
	struct records records;
	struct write *w = write_new(confirmed);
	if (!w) {
		answer_fetch(t, f, KAFKA_COORDINATOR_NOT_AVAILABLE);
		return;
	}
	w->fetch = f;
	records_init(&records);
	records_offset_gone(&records, blob_str(t->g->id), GSTR(""), -1);
	write_start(t, w, &records);
	records_release(&records);
}

/* A group that is not there is made where something must be written to know that it is not. */
static int16_t begin_fetch(struct turn *t, const struct group_fetch_request *q)
{
	int16_t error = turn_begin(t, q->group_id, TURN_READ);
	if (error || t->g || shard_is_certain(coordinator_shard(t->c, coordinator_partition_of(t->c, q->group_id))))
		return error;
	return turn_begin(t, q->group_id, TURN_READ | TURN_CREATE);
}

void group_fetch(struct coordinator *c, const struct group_fetch_request *q, group_fetch_done done, void *arg)
{
	struct turn t;
	struct parked_fetch *f = calloc(1, sizeof *f);
	if (!f) {
		done(arg, &(struct group_fetch_answer){.error = KAFKA_COORDINATOR_NOT_AVAILABLE});
		return;
	}
	f->reply.send = send_fetch;
	f->reply.arg = arg;
	f->request = q;
	f->done = done;
	turn_init(&t, c);
	int16_t error = !q->group_id.p ? KAFKA_INVALID_GROUP_ID : begin_fetch(&t, q);
	if (!error && t.g && t.g->writes && q->require_stable) {
		f->before = t.g->next_write;
		f->next = t.g->fetches;
		t.g->fetches = f;
	} else if (!error && t.g && !journal_is_certain(t.g->journal)) {
		confirm_fetch(&t, f);
	} else {
		answer_fetch(&t, f, error);
	}
	if (t.g)
		group_drop_unborn(&t);
	turn_end(&t);
}

/* ---- OffsetDelete, and what is gone with a topic ---- */

static void offsets_deleted(struct turn *t, struct write *w, int16_t error, int64_t base_offset)
{
	struct group *g = t->g;
	for (size_t i = 0; i < w->change_count && !error; i++)
		group_remove_offset(g, blob_str(w->changes[i].topic), w->changes[i].entry.partition, base_offset + w->changes[i].record, g->writes != NULL);
	if (w->reply)
		reply_error(t, w->reply, error);
}

/* Notes that the offset is to be removed. false: no memory. */
bool write_add_removal(struct write *w, struct records *records, struct group *g, struct gstr topic, int32_t partition)
{
	if (!(w->change_count & (w->change_count - 1))) { /* full, as room is taken in powers of two */
		size_t cap = w->change_count ? 2 * w->change_count : 1;
		struct change *bigger = realloc(w->changes, cap * sizeof *bigger);
		if (!bigger)
			return false;
		w->changes = bigger;
	}
	struct blob *name = blob_new(topic);
	if (!name)
		return false;
	w->changes[w->change_count] = (struct change){.topic = name, .record = (uint32_t)w->change_count, .entry = {.partition = partition}};
	w->change_count++;
	records_offset_gone(records, blob_str(g->id), topic, partition);
	return true;
}

/* A tombstone where there is an offset; while commits are on the way there may be one soon. */
static bool remove_asked(struct turn *t, struct write *w, struct records *records, struct group_delete_topic *topics, size_t count)
{
	struct group *g = t->g;
	for (size_t i = 0; i < count; i++) {
		bool subscribed = group_is_subscribed(g, topics[i].name);
		struct offset_topic *known = group_topic(g, topics[i].name, false);
		for (size_t k = 0; k < topics[i].partition_count; k++) {
			struct group_delete_partition *p = &topics[i].partitions[k];
			struct offset_entry *o = topic_offset(known, p->partition);
			p->error = subscribed ? KAFKA_GROUP_SUBSCRIBED_TO_TOPIC : KAFKA_NONE;
			if (!subscribed && ((o && !o->removed) || g->writes) && !write_add_removal(w, records, g, topics[i].name, p->partition))
				return false;
		}
	}
	return true;
}

static int16_t check_delete(struct group *g)
{
	if (!g || g->state == GROUP_DEAD)
		return KAFKA_GROUP_ID_NOT_FOUND;
	return g->state != GROUP_EMPTY && !group_is_consumer(g) ? KAFKA_NON_EMPTY_GROUP : KAFKA_NONE;
}

void group_delete_offsets(struct coordinator *c, struct gstr group_id, struct group_delete_topic *topics, size_t topic_count, group_error_done done, void *arg)
{
	struct turn t;
	struct records records;
	struct reply *r = reply_new_error(done, arg);
	struct write *w = write_new(offsets_deleted);
	if (!r || !w) {
		reply_free(r);
		if (w)
			write_free(w);
		done(arg, KAFKA_COORDINATOR_NOT_AVAILABLE);
		return;
	}
	turn_init(&t, c);
	records_init(&records);
	int16_t error = !group_id.n ? KAFKA_INVALID_GROUP_ID : turn_begin(&t, group_id, 0);
	if (!error)
		error = check_delete(t.g);
	if (!error && !remove_asked(&t, w, &records, topics, topic_count))
		error = KAFKA_COORDINATOR_NOT_AVAILABLE;
	if (error || !w->change_count) {
		write_free(w);
		reply_error(&t, r, error);
	} else {
		w->reply = r;
		write_start(&t, w, &records);
	}
	records_release(&records);
	turn_end(&t);
}

static void remove_topic(struct turn *t, void *arg)
{
	struct records records;
	struct offset_topic *topic = group_topic(t->g, *(const struct gstr *)arg, false);
	struct write *w = topic && !t->g->deleting ? write_new(offsets_deleted) : NULL;
	if (!w)
		return;
	records_init(&records);
	bool ok = true;
	for (struct offset_entry *o = topic->entries; o && ok; o = o->hh.next)
		if (!o->removed)
			ok = write_add_removal(w, &records, t->g, blob_str(topic->name), o->partition);
	if (w->change_count)
		write_start(t, w, &records);
	else
		write_free(w);
	records_release(&records);
}

void coordinator_topic_deleted(struct coordinator *c, struct gstr topic)
{
	for (int32_t i = 0; i < coordinator_shards(c); i++)
		shard_each(coordinator_shard(c, i), remove_topic, &topic);
}
