/* What brokers are told: made of the newest state when it is taken. README.md, "Telling brokers". */
#include "cluster/control/state.h"

enum { FULL = 2, INCREMENTAL = 1, DEBUG_REPLICA = -2, LATEST = -1 };

/* ---- stops ---- */

static void add(struct brain *b, struct broker *r, const struct part *p, const struct stop *s)
{
	size_t cap = (size_t)r->stops_cap;
	if (!brain_grow(b, &r->stop, sizeof *r->stop, (size_t)r->stops + 1, &cap))
		return;
	r->stops_cap = (int32_t)cap;
	r->stop[r->stops] = *s;
	r->stop[r->stops].topic = p->topic;
	r->stop[r->stops++].number = p->number;
	b->topic[p->topic].stops++;
}

void stop_add(struct brain *b, struct broker *r, const struct part *p, bool deletes)
{
	/* What goes with its topic goes in whatever epoch. A replica that is moved away may be wanted again, in a later one, when a stop that was lost comes after all. */
	int32_t epoch = deletes && b->topic[p->topic].phase >= TOPIC_DELETING ? EPOCH_DURING_DELETE : p->leader_epoch;
	for (int32_t i = 0; i < r->stops; i++) {
		struct stop *s = &r->stop[i];
		if (s->topic != p->topic || s->number != p->number || s->sent || s->seal)
			continue;
		s->deletes = s->deletes || deletes;
		s->leader_epoch = epoch;
		return;
	}
	add(b, r, p, &(struct stop){.leader_epoch = epoch, .deletes = deletes});
}

void seal_add(struct brain *b, struct broker *r, const struct part *p, enum stop_seal what)
{
	add(b, r, p, &(struct stop){.leader_epoch = p->leader_epoch, .seal = what});
}

/* What the broker has answered of that partition. */
static int16_t stop_error(const struct brain *b, const struct stop *s, const struct stop_replica_response *a)
{
	for (int32_t i = 0; i < a->partition_errors.n; i++) {
		const struct stop_replica_response_partition *p = &a->partition_errors.v[i];
		if (p->partition_index == s->number && wire_string_is(p->topic_name, b->topic[s->topic].name))
			return p->error_code;
	}
	return KAFKA_OPERATION_NOT_ATTEMPTED;
}

/* a NULL: there is no answer, and there will be none to any of them. */
static void stops_done(struct brain *b, struct broker *r, const struct stop_replica_response *a)
{
	int32_t kept = 0;
	for (int32_t i = 0; i < r->stops; i++) {
		const struct stop *s = &r->stop[i];
		if (a && !s->sent) {
			r->stop[kept++] = *s;
			continue;
		}
		if (s->seal == STOP_SEALS)
			topic_sealed(b, s->topic, s->number, a ? stop_error(b, s, a) : KAFKA_LEADER_NOT_AVAILABLE);
		topic_stopped(b, s->topic);
	}
	r->stops = kept;
	seals_look(b);
}

void requests_forget(struct brain *b, struct broker *r)
{
	struct bits *all[] = {&r->states, &r->states_sent, &r->metadata, &r->metadata_sent, &r->ends, &r->ends_sent, &r->fresh};
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		bits_none(b, all[i]);
	stops_done(b, r, NULL);
	r->states_full = r->metadata_full = r->brokers_changed = r->full_sent = r->brokers_sent = false;
	r->under_way = NOTHING;
	topics_look(b);
}

/* ---- rows by topic ---- */

/* Topics that are gone first: their names may be others' by now. */
static int by_topic(const void *x, const void *y, void *arg)
{
	const struct brain *b = arg;
	const struct part *p = &b->part[*(const int32_t *)x], *q = &b->part[*(const int32_t *)y];
	bool p_gone = b->topic[p->topic].phase == TOPIC_GONE, q_gone = b->topic[q->topic].phase == TOPIC_GONE;
	if (p_gone != q_gone)
		return q_gone - p_gone;
	return p->topic != q->topic ? (p->topic > q->topic) - (p->topic < q->topic) : (p->number > q->number) - (p->number < q->number);
}

/* A request being made: rows of partitions, sorted, and how many topics they are of. */
struct rows {
	int32_t *v;
	int32_t n, topics;
};

static void sort_rows(struct brain *b, struct rows *rows)
{
	qsort_r(rows->v, (size_t)rows->n, sizeof *rows->v, by_topic, b);
	for (int32_t i = 0; i < rows->n; i++)
		rows->topics += !i || b->part[rows->v[i]].topic != b->part[rows->v[i - 1]].topic;
}

static int32_t same_topic(const struct brain *b, const struct rows *rows, int32_t from)
{
	int32_t end = from + 1;
	while (end < rows->n && b->part[rows->v[end]].topic == b->part[rows->v[from]].topic)
		end++;
	return end - from;
}

static void *take(struct brain *b, struct arena *a, int32_t n, size_t size)
{
	void *p = brain_need(b, arena_get(a, (size_t)n * size, NULL));
	if (p)
		memset(p, 0, (size_t)n * size);
	return p;
}

#define IDS_OF(list_, to_) ((to_)->v = (list_) ? (int32_t *)(uintptr_t)(list_)->v : NULL, (to_)->n = ids_n(list_))

static struct wire_uuid uuid_of(const struct topic *t)
{
	struct wire_uuid u;
	memcpy(u.b, t->id, sizeof u.b);
	return u;
}

/* ---- StopReplica ---- */

static bool make_stop(struct brain *b, struct broker *r, struct arena *a, struct stop_replica_request *q)
{
	if (!r->stops || r->held)
		return false;
	q->controller_id = b->o.self;
	q->controller_epoch = b->o.controller_epoch;
	q->broker_epoch = r->epoch;
	q->topic_states.v = take(b, a, r->stops, sizeof *q->topic_states.v);
	struct stop_replica_request_partition_state *p = take(b, a, r->stops, sizeof *p);
	if (!brain_ok(b))
		return false;
	for (int32_t i = 0; i < r->stops; i++) {
		struct stop *s = &r->stop[i];
		struct stop_replica_request_topic_state *t = &q->topic_states.v[q->topic_states.n - 1];
		if (!i || s->topic != r->stop[i - 1].topic) {
			t = &q->topic_states.v[q->topic_states.n++];
			t->topic_name = wire_string(b->topic[s->topic].name);
			t->partition_states.v = p + i;
		}
		t->partition_states.v[t->partition_states.n++] =
			(struct stop_replica_request_partition_state){.partition_index = s->number, .leader_epoch = s->leader_epoch, .delete_partition = s->deletes, .seal = (int8_t)s->seal};
		s->sent = true;
	}
	return true;
}

/* ---- LeaderAndIsr ---- */

static bool has_replica(const struct brain *b, const struct part *p, int32_t id)
{
	return p->topic >= 0 && b->topic[p->topic].phase == TOPIC_LIVE && p->exists && ids_has(p->replicas, id);
}

static void put_leader(struct brain *b, struct leader_and_isr_request *q, int32_t id)
{
	const struct broker *leader = broker_find(b, id);
	if (!broker_alive(leader) || !leader->endpoints)
		return;
	for (int32_t i = 0; i < q->live_leaders.n; i++) {
		if (q->live_leaders.v[i].broker_id == id)
			return;
	}
	q->live_leaders.v[q->live_leaders.n++] =
		(struct leader_and_isr_request_live_leader){.broker_id = id, .host_name = wire_string(leader->endpoint[0].host), .port = leader->endpoint[0].port};
}

static void put_state(struct brain *b, const struct broker *r, int32_t row, struct leader_and_isr_request_partition *to)
{
	const struct part *p = &b->part[row];
	to->partition_index = p->number;
	to->controller_epoch = p->controller_epoch;
	to->leader = p->leader;
	to->leader_epoch = p->leader_epoch;
	to->partition_epoch = p->version;
	to->is_new = bits_has(&r->fresh, row);
	to->leader_recovery_state = p->recovering;
	IDS_OF(p->isr, &to->isr);
	IDS_OF(p->replicas, &to->replicas);
	IDS_OF(p->adding, &to->adding_replicas);
	IDS_OF(p->removing, &to->removing_replicas);
}

/* Its partitions of which there is something to say. */
static void rows_of_states(struct brain *b, struct broker *r, struct rows *rows)
{
	for (int32_t row = 0; row < b->parts; row++) {
		if (!r->states_full && !bits_has(&r->states, row))
			continue;
		bits_clear(&r->states, row);
		if (!has_replica(b, &b->part[row], r->id))
			continue;
		bits_set(&r->states_sent, row);
		rows->v[rows->n++] = row;
	}
}

static bool make_states(struct brain *b, struct broker *r, struct arena *a, struct leader_and_isr_request *q)
{
	struct rows rows = {.v = NULL};
	if (r->held || (!r->states_full && !bits_any(b, &r->states)))
		return false;
	rows.v = take(b, a, b->parts, sizeof *rows.v);
	if (!rows.v)
		return false;
	rows_of_states(b, r, &rows);
	if (!rows.n && !r->states_full)
		return false;
	sort_rows(b, &rows);
	q->controller_id = b->o.self;
	q->controller_epoch = b->o.controller_epoch;
	q->broker_epoch = r->epoch;
	q->type = r->states_full ? FULL : INCREMENTAL;
	q->topic_states.v = take(b, a, rows.topics, sizeof *q->topic_states.v);
	q->live_leaders.v = take(b, a, b->brokers, sizeof *q->live_leaders.v);
	struct leader_and_isr_request_partition *p = take(b, a, rows.n, sizeof *p);
	if (!brain_ok(b))
		return false;
	for (int32_t i = 0, n; i < rows.n; i += n) {
		n = same_topic(b, &rows, i);
		const struct topic *t = part_topic(b, &b->part[rows.v[i]]);
		struct leader_and_isr_request_topic *to = &q->topic_states.v[q->topic_states.n++];
		to->topic_name = wire_string(t->name);
		to->topic_id = uuid_of(t);
		to->partition_states.v = p + i;
		to->partition_states.n = n;
		for (int32_t k = i; k < i + n; k++) {
			put_state(b, r, rows.v[k], &p[k]);
			put_leader(b, q, p[k].leader);
		}
	}
	r->full_sent = r->states_full;
	r->states_full = false;
	return true;
}

static void states_answered(struct brain *b, struct broker *r, const struct leader_and_isr_response *a)
{
	for (int32_t t = 0; t < a->topics.n; t++) {
		int32_t topic = topic_by_id(b, a->topics.v[t].topic_id.b);
		for (int32_t i = 0; i < a->topics.v[t].partition_errors.n; i++) {
			const struct leader_and_isr_response_partition *e = &a->topics.v[t].partition_errors.v[i];
			struct part *p = part_find(b, topic, e->partition_index);
			int32_t row = p ? part_row(b, p) : -1;
			if (!p || !ids_has(p->replicas, r->id))
				continue;
			if (!e->error_code)
				bits_clear(&r->fresh, row);
			bool offline = e->error_code == KAFKA_KAFKA_STORAGE_ERROR;
			if (offline == bits_has(&r->offline, row) || (e->error_code && !offline))
				continue;
			offline ? bits_set(&r->offline, row) : bits_clear(&r->offline, row);
			part_dirty(b, row);
		}
	}
}

/* ---- UpdateMetadata ---- */

static bool put_broker(struct brain *b, struct arena *a, const struct broker *r, struct update_metadata_request_broker *to)
{
	to->id = r->id;
	to->rack = r->rack ? wire_string(r->rack) : WIRE_NULL_STRING;
	to->endpoints.v = take(b, a, (int32_t)r->endpoints, sizeof *to->endpoints.v);
	for (size_t i = 0; to->endpoints.v && i < r->endpoints; i++) {
		const struct brain_endpoint *e = &r->endpoint[i];
		to->endpoints.v[to->endpoints.n++] = (struct update_metadata_request_endpoint){e->port, wire_string(e->host), wire_string(e->listener), e->protocol};
	}
	return to->endpoints.v;
}

static bool put_metadata(struct brain *b, struct arena *a, int32_t row, struct update_metadata_request_partition *to)
{
	const struct part *p = &b->part[row];
	to->partition_index = p->number;
	to->controller_epoch = p->controller_epoch;
	to->leader = b->topic[p->topic].phase >= TOPIC_DELETING ? LEADER_DURING_DELETE : p->leader;
	to->leader_epoch = p->leader_epoch;
	to->zk_version = p->version;
	IDS_OF(p->isr, &to->isr);
	IDS_OF(p->replicas, &to->replicas);
	to->offline_replicas.v = take(b, a, ids_n(p->replicas), sizeof *to->offline_replicas.v);
	for (int32_t i = 0; to->offline_replicas.v && i < ids_n(p->replicas); i++) {
		const struct broker *r = broker_find(b, p->replicas->v[i]);
		if (!broker_alive(r) || bits_has(&r->offline, row))
			to->offline_replicas.v[to->offline_replicas.n++] = p->replicas->v[i];
	}
	return to->offline_replicas.v;
}

static void rows_of_metadata(struct brain *b, struct broker *r, struct rows *rows)
{
	for (int32_t row = 0; row < b->parts; row++) {
		const struct part *p = &b->part[row];
		bool told = bits_has(&r->metadata, row) || (r->metadata_full && p->topic >= 0 && b->topic[p->topic].phase == TOPIC_LIVE);
		bits_clear(&r->metadata, row);
		if (!told || p->topic < 0 || !p->exists)
			continue;
		bits_set(&r->metadata_sent, row);
		rows->v[rows->n++] = row;
	}
}

static bool make_metadata(struct brain *b, struct broker *r, struct arena *a, struct update_metadata_request *q)
{
	struct rows rows = {.v = NULL};
	if (!r->metadata_full && !r->brokers_changed && !bits_any(b, &r->metadata))
		return false;
	rows.v = take(b, a, b->parts, sizeof *rows.v);
	if (!rows.v)
		return false;
	rows_of_metadata(b, r, &rows);
	sort_rows(b, &rows);
	q->controller_id = b->o.self;
	q->controller_epoch = b->o.controller_epoch;
	q->broker_epoch = r->epoch;
	q->type = r->metadata_full ? FULL : INCREMENTAL;
	q->topic_states.v = take(b, a, rows.topics, sizeof *q->topic_states.v);
	q->live_brokers.v = take(b, a, b->brokers, sizeof *q->live_brokers.v);
	struct update_metadata_request_partition *p = take(b, a, rows.n, sizeof *p);
	for (int32_t i = 0, n; brain_ok(b) && i < rows.n; i += n) {
		n = same_topic(b, &rows, i);
		const struct topic *t = part_topic(b, &b->part[rows.v[i]]);
		struct update_metadata_request_topic *to = &q->topic_states.v[q->topic_states.n++];
		to->topic_name = wire_string(t->name);
		to->topic_id = uuid_of(t);
		to->partition_states.v = p + i;
		to->partition_states.n = n;
		for (int32_t k = i; k < i + n; k++)
			put_metadata(b, a, rows.v[k], &p[k]);
	}
	for (int32_t i = 0; brain_ok(b) && i < b->brokers; i++) {
		if (broker_alive(&b->broker[i]))
			put_broker(b, a, &b->broker[i], &q->live_brokers.v[q->live_brokers.n++]);
	}
	r->full_sent = r->metadata_full;
	r->brokers_sent = r->brokers_changed;
	r->metadata_full = r->brokers_changed = false;
	return brain_ok(b);
}

/* ---- log ends ---- */

static bool make_ends(struct brain *b, struct broker *r, struct arena *a, struct list_offsets_request *q)
{
	struct rows rows = {.v = NULL};
	if (!bits_any(b, &r->ends))
		return false;
	rows.v = take(b, a, b->parts, sizeof *rows.v);
	if (!rows.v)
		return false;
	rows.n = bits_list(b, &r->ends, rows.v);
	bits_none(b, &r->ends);
	sort_rows(b, &rows);
	q->replica_id = DEBUG_REPLICA;
	q->topics.v = take(b, a, rows.topics, sizeof *q->topics.v);
	struct list_offsets_request_partition *p = take(b, a, rows.n, sizeof *p);
	for (int32_t i = 0, n; brain_ok(b) && i < rows.n; i += n) {
		n = same_topic(b, &rows, i);
		struct list_offsets_request_topic *to = &q->topics.v[q->topics.n++];
		to->name = wire_string(part_topic(b, &b->part[rows.v[i]])->name);
		to->partitions.v = p + i;
		to->partitions.n = n;
		for (int32_t k = i; k < i + n; k++) {
			bits_set(&r->ends_sent, rows.v[k]);
			p[k] = (struct list_offsets_request_partition){.partition_index = b->part[rows.v[k]].number, .current_leader_epoch = -1, .timestamp = LATEST};
		}
	}
	return brain_ok(b);
}

static void ends_answered(struct brain *b, struct broker *r, const struct list_offsets_response *a)
{
	for (int32_t t = 0; t < a->topics.n; t++) {
		int32_t topic = topic_by_name(b, a->topics.v[t].name.s, (size_t)a->topics.v[t].name.n);
		for (int32_t i = 0; i < a->topics.v[t].partitions.n; i++) {
			struct part *p = part_find(b, topic, a->topics.v[t].partitions.v[i].partition_index);
			if (p && bits_has(&r->ends_sent, part_row(b, p)))
				elect_ended(b, p, &a->topics.v[t].partitions.v[i], r->id);
		}
	}
}

/* ---- taking and answering ---- */

static const struct { int api_key; enum under_way what; } kinds[] = {
	{API_STOP_REPLICA, STOP}, /* before anything of a topic that has taken the name */
	{API_LEADER_AND_ISR, LEADER_AND_ISR},
	{API_UPDATE_METADATA, METADATA},
	{API_LIST_OFFSETS, LOG_ENDS},
};

static bool make(struct brain *b, struct broker *r, struct arena *a, enum under_way what, void *message)
{
	switch (what) {
	case STOP:
		return make_stop(b, r, a, message);
	case LEADER_AND_ISR:
		return make_states(b, r, a, message);
	case METADATA:
		return make_metadata(b, r, a, message);
	default:
		return make_ends(b, r, a, message);
	}
}

bool brain_request(struct brain *b, int32_t broker, struct arena *arena, struct brain_request *q)
{
	struct broker *r = broker_find(b, broker);
	if (!brain_ok(b) || !b->started || !broker_alive(r) || r->deaf || r->under_way != NOTHING)
		return false;
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds && brain_ok(b); i++) {
		const struct wire_struct *desc = api_find(kinds[i].api_key)->request;
		max_align_t *message = take(b, arena, 1, desc->size);
		if (!message)
			return false;
		wire_init(desc, message);
		if (!make(b, r, arena, kinds[i].what, message))
			continue;
		*q = (struct brain_request){kinds[i].api_key, message, r->epoch};
		r->under_way = kinds[i].what;
		r->stamp_sent = b->stamp;
		return true;
	}
	return false;
}

static void sent_again(struct brain *b, struct bits *to, struct bits *from)
{
	for (int32_t i = 0; i < (b->parts + 63) / 64; i++)
		to->w[i] |= from->w[i];
	bits_none(b, from);
}

static struct broker *waiting(struct brain *b, int32_t broker, int64_t broker_epoch)
{
	struct broker *r = broker_find(b, broker);
	return brain_ok(b) && r && r->registered && r->epoch == broker_epoch && r->under_way != NOTHING ? r : NULL;
}

static void not_told(struct brain *b, struct broker *r)
{
	for (int32_t i = 0; i < r->stops; i++)
		r->stop[i].sent = false;
	sent_again(b, &r->states, &r->states_sent);
	sent_again(b, &r->metadata, &r->metadata_sent);
	sent_again(b, &r->ends, &r->ends_sent);
	r->states_full |= r->under_way == LEADER_AND_ISR && r->full_sent;
	r->metadata_full |= r->under_way == METADATA && r->full_sent;
	r->brokers_changed |= r->brokers_sent;
	r->full_sent = r->brokers_sent = false;
	r->under_way = NOTHING;
}

void brain_unanswered(struct brain *b, int32_t broker, int64_t broker_epoch)
{
	struct broker *r = waiting(b, broker, broker_epoch);
	if (r)
		not_told(b, r);
}

static int16_t error_of(enum under_way what, const void *response)
{
	switch (what) {
	case STOP:
		return ((const struct stop_replica_response *)response)->error_code;
	case LEADER_AND_ISR:
		return ((const struct leader_and_isr_response *)response)->error_code;
	case METADATA:
		return ((const struct update_metadata_response *)response)->error_code;
	default:
		return KAFKA_NONE;
	}
}

void brain_answered(struct brain *b, int32_t broker, int64_t broker_epoch, const void *response)
{
	struct broker *r = waiting(b, broker, broker_epoch);
	if (!r)
		return;
	enum under_way what = r->under_way;
	int16_t error = error_of(what, response);
	if (error == KAFKA_STALE_CONTROLLER_EPOCH) {
		brain_fail(b, ERR_NOT_LEADER, "a broker knows of a newer controller");
		return;
	}
	if (error == KAFKA_STALE_BROKER_EPOCH) {
		r->deaf = true;
		not_told(b, r);
		return;
	}
	r->under_way = NOTHING;
	r->full_sent = r->brokers_sent = false;
	if (what == STOP)
		stops_done(b, r, response);
	else if (what == LEADER_AND_ISR)
		states_answered(b, r, response);
	else if (what == LOG_ENDS)
		ends_answered(b, r, response);
	bits_none(b, &r->states_sent);
	bits_none(b, &r->metadata_sent);
	bits_none(b, &r->ends_sent);
	broker_has_proved(b, r, r->stamp_sent);
	if (what == METADATA && b->gone)
		topics_look(b);
}
