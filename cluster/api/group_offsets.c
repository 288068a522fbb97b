/*
 * OffsetCommit, OffsetFetch, OffsetDelete: how far groups have read. That a partition exists is looked up here; all else is the coordinator's (cluster/group).
 *
 * Commits and deletions are answered when they are in the log, and the connection waits for that (barrier): what it asks next sees them.
 */
#include <stdatomic.h>

#include "cluster/api/call_group.h"

static const char no_memory[] = "no memory for offsets of a group";

static bool has_partition(const struct topic *t, int32_t index)
{
	return t && index >= 0 && index < topic_partition_count(t);
}

/* ---- OffsetCommit ---- */

struct commit { struct call *call; struct group_commit_request q; struct offset_commit_response a; int16_t **answer; };

static int16_t commit_error(const struct call *c, int16_t error)
{
	return error == KAFKA_GROUP_ID_NOT_FOUND && c->version < 9 ? KAFKA_ILLEGAL_GENERATION : error; /* which older clients know */
}

static void committed(void *arg, int16_t error)
{
	struct commit *m = arg;
	size_t k = 0;
	(void)error; /* each partition has it */
	for (size_t t = 0; t < m->q.topic_count; t++)
		for (size_t i = 0; i < m->q.topics[t].partition_count; i++)
			*m->answer[k++] = commit_error(m->call, m->q.topics[t].partitions[i].error);
	call_answer(m->call, &m->a);
}

/* The partitions of one topic that are there go to the coordinator, the others are refused. */
static bool lay_out_commit(struct commit *m, const struct offset_commit_request_topic *asked, struct offset_commit_response_topic *a, size_t *count)
{
	struct call *c = m->call;
	int16_t error = KAFKA_NONE;
	int32_t n = asked->partitions.n;
	struct group_commit_topic *to = &m->q.topics[m->q.topic_count];
	a->name = asked->name;
	a->partitions.v = call_array(c, &wire_offset_commit_response_partition, n);
	to->partitions = call_get(c, ((size_t)n + 1) * sizeof *to->partitions);
	if (!a->partitions.v || !to->partitions)
		return false;
	struct topic *t = call_topic(c, asked->name, NULL, &error);
	for (int32_t i = 0; i < n; i++) {
		const struct offset_commit_request_partition *p = &asked->partitions.v[i];
		a->partitions.v[i].partition_index = p->partition_index;
		if (!has_partition(t, p->partition_index)) {
			a->partitions.v[i].error_code = KAFKA_UNKNOWN_TOPIC_OR_PARTITION;
			continue;
		}
		to->partitions[to->partition_count++] = (struct group_commit_partition){
			.partition = p->partition_index, .offset = p->committed_offset, .leader_epoch = p->committed_leader_epoch, .metadata = gstr_of(p->committed_metadata)};
		m->answer[(*count)++] = &a->partitions.v[i].error_code;
	}
	topic_unref(t);
	a->partitions.n = n;
	to->name = gstr_of(asked->name);
	m->q.topic_count += to->partition_count > 0;
	return true;
}

static struct commit *new_commit(struct call *c)
{
	const struct offset_commit_request *r = c->request;
	struct commit *m = call_get(c, sizeof *m);
	size_t partitions = 0, count = 0;
	if (!m)
		return NULL;
	for (int32_t t = 0; t < r->topics.n; t++)
		partitions += (size_t)r->topics.v[t].partitions.n;
	wire_init(&wire_offset_commit_response, &m->a);
	m->call = c;
	m->answer = call_get(c, (partitions + 1) * sizeof *m->answer);
	m->a.topics.v = call_array(c, &wire_offset_commit_response_topic, r->topics.n);
	m->q = (struct group_commit_request){.group_id = gstr_of(r->group_id), .member_id = gstr_of(r->member_id), .instance_id = gstr_of(r->group_instance_id),
					     .generation_id = r->generation_id_or_member_epoch, .retention_ms = r->retention_time_ms,
					     .topics = call_get(c, ((size_t)r->topics.n + 1) * sizeof *m->q.topics)};
	if (!m->answer || !m->a.topics.v || !m->q.topics)
		return NULL;
	for (; m->a.topics.n < r->topics.n; m->a.topics.n++)
		if (!lay_out_commit(m, &r->topics.v[m->a.topics.n], &m->a.topics.v[m->a.topics.n], &count))
			return NULL;
	return m;
}

void handle_offset_commit(struct call *c)
{
	struct commit *m = new_commit(c);
	if (!m) {
		call_close(c, no_memory);
		return;
	}
	c->r->barrier = true;
	if (m->q.topic_count)
		group_commit(call_coordinator(c), &m->q, committed, m);
	else
		call_answer(c, &m->a); /* nothing that could be committed: Kafka does not ask the coordinator */
}

/* ---- OffsetFetch: one group after the other ---- */

enum { FETCH_ASKED, FETCH_LEFT, FETCH_ANSWERED }; /* whether the coordinator answers before group_fetch returns */

struct fetch {
	struct call *call;
	struct group_fetch_request q;   /* of the group that is asked for */
	struct offset_fetch_response_group *group;
	int32_t count, at;
	_Atomic int state;
	bool good;
};

/* Before version 2 an error can stand nowhere but with the partitions. */
static bool fill_old_error(struct fetch *f, int16_t error)
{
	struct offset_fetch_response_group *a = &f->group[f->at];
	a->topics.v = call_array(f->call, &wire_offset_fetch_response_group_topic, (int32_t)f->q.topic_count);
	for (size_t t = 0; a->topics.v && t < f->q.topic_count; t++) {
		struct offset_fetch_response_group_topic *topic = &a->topics.v[a->topics.n++];
		topic->name = wire_of(f->q.topics[t].name);
		topic->partitions.n = (int32_t)f->q.topics[t].partition_count;
		topic->partitions.v = call_array(f->call, &wire_offset_fetch_response_topic_partition, topic->partitions.n);
		for (int32_t i = 0; topic->partitions.v && i < topic->partitions.n; i++) {
			topic->partitions.v[i].partition_index = f->q.topics[t].partitions[i].partition;
			topic->partitions.v[i].committed_offset = -1;
			topic->partitions.v[i].error_code = error;
		}
		if (!topic->partitions.v)
			return false;
	}
	return a->topics.v;
}

static bool fill_fetched(struct fetch *f, const struct group_fetch_answer *x)
{
	struct call *c = f->call;
	struct offset_fetch_response_group *a = &f->group[f->at];
	a->error_code = x->error;
	if (x->error)
		return c->version >= 2 || fill_old_error(f, x->error);
	a->topics.v = call_array(c, &wire_offset_fetch_response_group_topic, (int32_t)x->topic_count);
	for (size_t t = 0; a->topics.v && t < x->topic_count; t++) {
		const struct group_fetch_topic *from = &x->topics[t];
		struct offset_fetch_response_group_topic *to = &a->topics.v[a->topics.n++];
		to->name = wire_copy(c, from->name);
		to->partitions.v = call_array(c, &wire_offset_fetch_response_topic_partition, (int32_t)from->partition_count);
		if (!to->partitions.v)
			return false;
		to->partitions.n = (int32_t)from->partition_count;
		for (int32_t i = 0; i < to->partitions.n; i++) {
			struct offset_fetch_response_topic_partition *p = &to->partitions.v[i];
			p->partition_index = from->partitions[i].partition;
			p->committed_offset = from->partitions[i].offset;
			p->committed_leader_epoch = from->partitions[i].leader_epoch;
			p->metadata = wire_copy(c, from->partitions[i].metadata.p ? from->partitions[i].metadata : GSTR(""));
			p->error_code = from->partitions[i].error;
		}
	}
	return a->topics.v;
}

/* Before version 8: one group, whose topics stand in the message itself. */
static bool flatten(struct fetch *f, struct offset_fetch_response *a)
{
	const struct offset_fetch_response_group *g = &f->group[0];
	a->error_code = g->error_code;
	a->topics.v = call_array(f->call, &wire_offset_fetch_response_topic, g->topics.n);
	for (int32_t t = 0; a->topics.v && t < g->topics.n; t++) {
		const struct offset_fetch_response_group_topic *from = &g->topics.v[t];
		struct offset_fetch_response_topic *to = &a->topics.v[a->topics.n++];
		to->name = from->name;
		to->partitions.v = call_array(f->call, &wire_offset_fetch_response_partition, from->partitions.n);
		if (!to->partitions.v)
			return false;
		to->partitions.n = from->partitions.n;
		for (int32_t i = 0; i < to->partitions.n; i++) {
			const struct offset_fetch_response_topic_partition *p = &from->partitions.v[i];
			to->partitions.v[i] = (struct offset_fetch_response_partition){.partition_index = p->partition_index, .committed_offset = p->committed_offset,
				.committed_leader_epoch = p->committed_leader_epoch, .metadata = p->metadata, .error_code = p->error_code};
		}
	}
	return a->topics.v;
}

static void answer_fetch(struct fetch *f)
{
	struct offset_fetch_response a;
	wire_init(&wire_offset_fetch_response, &a);
	if (f->good && f->call->version < 8)
		f->good = flatten(f, &a);
	a.groups.v = f->group;
	a.groups.n = f->call->version < 8 ? 0 : f->count;
	if (f->good)
		call_answer(f->call, &a);
	else
		call_close(f->call, no_memory);
}

/* What a topic is asked for, to the coordinator's form. */
static bool ask_topic(struct call *c, struct group_fetch_topic *to, struct wire_string name, const int32_t *index, int32_t n)
{
	to->name = gstr_of(name);
	to->partitions = call_get(c, ((size_t)n + 1) * sizeof *to->partitions);
	to->partition_count = (size_t)n;
	for (int32_t i = 0; to->partitions && i < n; i++)
		to->partitions[i].partition = index[i];
	return to->partitions;
}

/* The request for group `at`. */
static bool ask_group(struct fetch *f)
{
	struct call *c = f->call;
	const struct offset_fetch_request *r = c->request;
	const struct offset_fetch_request_group *g = c->version < 8 ? NULL : &r->groups.v[f->at];
	int32_t n = g ? g->topics.n : r->topics.n;
	struct group_fetch_topic *topic = n < 0 ? NULL : call_get(c, ((size_t)n + 1) * sizeof *topic);
	bool good = n < 0 || topic;
	for (int32_t i = 0; good && i < n; i++)
		good = g ? ask_topic(c, &topic[i], g->topics.v[i].name, g->topics.v[i].partition_indexes.v, g->topics.v[i].partition_indexes.n)
			 : ask_topic(c, &topic[i], r->topics.v[i].name, r->topics.v[i].partition_indexes.v, r->topics.v[i].partition_indexes.n);
	f->group[f->at].group_id = g ? g->group_id : r->group_id;
	f->q = (struct group_fetch_request){.group_id = gstr_of(f->group[f->at].group_id), .all = n < 0, .require_stable = r->require_stable, .topics = topic,
					    .topic_count = n < 0 ? 0 : (size_t)n};
	return good;
}

static void fetch_groups(struct fetch *f);

static void fetched(void *arg, const struct group_fetch_answer *x)
{
	struct fetch *f = arg;
	f->good = fill_fetched(f, x);
	f->at++;
	if (atomic_exchange(&f->state, FETCH_ANSWERED) == FETCH_LEFT)
		fetch_groups(f);
}

/* Goes on where an answer comes at once; where it comes later `fetched` does. */
static void fetch_groups(struct fetch *f)
{
	while (f->good && f->at < f->count) {
		f->good = ask_group(f);
		if (!f->good)
			break;
		atomic_store(&f->state, FETCH_ASKED);
		group_fetch(call_coordinator(f->call), &f->q, fetched, f);
		if (atomic_exchange(&f->state, FETCH_LEFT) != FETCH_ANSWERED)
			return;
	}
	answer_fetch(f);
}

void handle_offset_fetch(struct call *c)
{
	const struct offset_fetch_request *r = c->request;
	struct fetch *f = call_get(c, sizeof *f);
	int32_t n = c->version < 8 ? 1 : r->groups.n;
	struct offset_fetch_response_group *group = call_array(c, &wire_offset_fetch_response_group, n);
	if (!f || !group) {
		call_close(c, no_memory);
		return;
	}
	f->call = c;
	f->group = group;
	f->count = n;
	f->good = true;
	c->r->barrier = true;
	fetch_groups(f);
}

/* ---- OffsetDelete ---- */

struct deletion { struct call *call; struct group_delete_topic *topics; size_t count; struct offset_delete_response a; int16_t **answer; };

static void deleted(void *arg, int16_t error)
{
	struct deletion *d = arg;
	size_t k = 0;
	d->a.error_code = error;
	if (error)
		d->a.topics.n = 0;
	for (size_t t = 0; t < d->count; t++)
		for (size_t i = 0; i < d->topics[t].partition_count; i++)
			*d->answer[k++] = d->topics[t].partitions[i].error;
	call_answer(d->call, &d->a);
}

static bool lay_out_deletion(struct deletion *d, const struct offset_delete_request_topic *asked, struct offset_delete_response_topic *a, size_t *count)
{
	struct call *c = d->call;
	int16_t error = KAFKA_NONE;
	int32_t n = asked->partitions.n;
	struct group_delete_topic *to = &d->topics[d->count];
	a->name = asked->name;
	a->partitions.v = call_array(c, &wire_offset_delete_response_partition, n);
	to->partitions = call_get(c, ((size_t)n + 1) * sizeof *to->partitions);
	if (!a->partitions.v || !to->partitions)
		return false;
	struct topic *t = call_topic(c, asked->name, NULL, &error);
	for (int32_t i = 0; i < n; i++) {
		int32_t index = asked->partitions.v[i].partition_index;
		a->partitions.v[i].partition_index = index;
		if (!has_partition(t, index)) {
			a->partitions.v[i].error_code = KAFKA_UNKNOWN_TOPIC_OR_PARTITION;
			continue;
		}
		to->partitions[to->partition_count++].partition = index;
		d->answer[(*count)++] = &a->partitions.v[i].error_code;
	}
	topic_unref(t);
	a->partitions.n = n;
	to->name = gstr_of(asked->name);
	d->count += to->partition_count > 0;
	return true;
}

static struct deletion *new_deletion(struct call *c)
{
	const struct offset_delete_request *r = c->request;
	struct deletion *d = call_get(c, sizeof *d);
	size_t partitions = 0, count = 0;
	if (!d)
		return NULL;
	for (int32_t t = 0; t < r->topics.n; t++)
		partitions += (size_t)r->topics.v[t].partitions.n;
	wire_init(&wire_offset_delete_response, &d->a);
	d->call = c;
	d->answer = call_get(c, (partitions + 1) * sizeof *d->answer);
	d->topics = call_get(c, ((size_t)r->topics.n + 1) * sizeof *d->topics);
	d->a.topics.v = call_array(c, &wire_offset_delete_response_topic, r->topics.n);
	if (!d->answer || !d->topics || !d->a.topics.v)
		return NULL;
	for (; d->a.topics.n < r->topics.n; d->a.topics.n++)
		if (!lay_out_deletion(d, &r->topics.v[d->a.topics.n], &d->a.topics.v[d->a.topics.n], &count))
			return NULL;
	return d;
}

void handle_offset_delete(struct call *c)
{
	const struct offset_delete_request *r = c->request;
	struct deletion *d = new_deletion(c);
	if (!d) {
		call_close(c, no_memory);
		return;
	}
	c->r->barrier = true;
	group_delete_offsets(call_coordinator(c), gstr_of(r->group_id), d->topics, d->count, deleted, d);
}
