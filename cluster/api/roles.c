/*
 * What the controller of a cluster tells its brokers: LeaderAndIsr, StopReplica, UpdateMetadata. In the pool: logs are made, opened and deleted. Requests of a controller that is one no longer, and those
 * meant for an earlier registration of this broker, change nothing.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/api/admin.h"
#include "cluster/api/call.h"
#include "cluster/group/coordinator.h"
#include "cluster/join.h"
#include "cluster/join_config.h"
#include "cluster/replicas.h"
#include "store/diag.h"

enum { FULL = 2, DELETED = -2 }; /* the type of a request that names all there is; the leader of a topic that is being deleted */

/* ---- groups: who leads a partition of __consumer_offsets answers for the groups in it ---- */

static void tell_coordinator(struct call *c, struct partition *p)
{
	struct partition_standing now;
	if (strcmp(partition_topic_name(p), OFFSETS_TOPIC) != 0)
		return;
	partition_standing(p, &now);
	if (now.leader == broker_id(call_broker(c)))
		coordinator_load(call_coordinator(c), partition_index(p), now.leader_epoch);
	else
		coordinator_unload(call_coordinator(c), partition_index(p), now.leader_epoch);
}

/* How many partitions it has: those that the controller has told of. */
static void count_offsets_topic(struct call *c)
{
	struct topic *t = topics_find(call_broker(c), OFFSETS_TOPIC);
	struct partition_metadata m;
	int32_t n = t ? topic_partition_count(t) : 0;
	for (bool told = false; n > 0 && !told; n -= !told) {
		struct partition *p = topic_partition(t, n - 1);
		told = p && partition_metadata(p, &m);
		partition_unref(p);
	}
	topic_unref(t);
	if (n > 0)
		coordinator_told(call_coordinator(c), n);
}

/* ---- properties of the topics that are named ---- */

struct expected { struct configs_topic *v; size_t n; };

/* Room for n; false: no memory. */
static bool expected_init(struct call *c, struct expected *x, int32_t n)
{
	x->n = 0;
	return (x->v = call_get(c, ((size_t)n + 1) * sizeof *x->v));
}

static void expected_add(struct call *c, struct expected *x, struct wire_string name, const struct wire_uuid *id)
{
	const char *text = admin_is_text(name) ? call_text(c, name) : NULL;
	if (text)
		x->v[x->n++] = (struct configs_topic){text, id->b};
}

/* ---- LeaderAndIsr ---- */

static int give_role(struct call *c, const char *name, const struct leader_and_isr_request_topic *t, const struct leader_and_isr_request_partition *s, struct err *e)
{
	struct join *j = call_join(c);
	struct partition *p;
	struct partition_role role = {
		.leader = s->leader, .leader_epoch = s->leader_epoch, .partition_epoch = s->partition_epoch, .controller_epoch = s->controller_epoch, .isr = s->isr.v, .isr_count = s->isr.n,
		.replicas = s->replicas.v, .replica_count = s->replicas.n, .recovering = s->leader_recovery_state == 1,
	};
	int rc = replicas_make(call_broker(c), name, t->topic_id.b, s->partition_index, s->is_new, &p, e);
	if (rc < 0)
		return rc;
	rc = partition_become(p, &role, e);
	if (rc == 0)
		tell_coordinator(c, p);
	if (rc == 0)
		rc = join_follow(j, p, s->leader, s->leader_epoch, e);
	partition_unref(p);
	return rc;
}

static bool give_roles(struct call *c, const struct leader_and_isr_request_topic *t, struct leader_and_isr_response_topic *a)
{
	const char *name = call_text(c, t->topic_name);
	a->topic_id = t->topic_id;
	a->partition_errors.v = call_array(c, &wire_leader_and_isr_response_partition, t->partition_states.n);
	for (int32_t i = 0; name && a->partition_errors.v && i < t->partition_states.n; i++) {
		struct err e = ERR_INIT;
		int rc = admin_is_text(t->topic_name) ? give_role(c, name, t, &t->partition_states.v[i], &e) : err_set(&e, ERR_NAME, "a topic whose name has a NUL in it");
		struct leader_and_isr_response_partition *to = &a->partition_errors.v[a->partition_errors.n++];
		to->partition_index = t->partition_states.v[i].partition_index;
		to->error_code = (int16_t)kafka_error_of(rc);
		if (rc < 0 && rc != ERR_FENCED_EPOCH)
			diag_error("%s", e.text);
	}
	return name && a->partition_errors.v;
}

struct named { struct wire_uuid id; int32_t index; };

static int by_id(const void *x, const void *y)
{
	const struct named *p = x, *q = y;
	int order = memcmp(p->id.b, q->id.b, sizeof p->id.b);
	return order ? order : (p->index > q->index) - (p->index < q->index);
}

struct strays { struct call *call; struct named *named; size_t count, found; };

static void look_for_stray(void *arg, struct partition *p)
{
	struct strays *x = arg;
	struct named it = {.id = topic_wire_id(partition_topic(p)), .index = partition_index(p)};
	if (x->count && bsearch(&it, x->named, x->count, sizeof it, by_id))
		return;
	partition_stop(p);
	tell_coordinator(x->call, p);
	join_follow(call_join(x->call), p, -1, -1, NULL);
	x->found++;
	diag_warning("%s-%" PRId32 " is here, but the cluster knows of no such replica: it is neither served nor deleted", partition_topic_name(p), partition_index(p));
}

/* false: no memory. */
static bool tell_strays(struct call *c)
{
	const struct leader_and_isr_request *q = c->request;
	size_t n = 0;
	for (int32_t t = 0; t < q->topic_states.n; t++)
		n += (size_t)q->topic_states.v[t].partition_states.n;
	struct strays x = {.call = c, .named = call_get(c, (n + 1) * sizeof *x.named)};
	if (!x.named)
		return false;
	for (int32_t t = 0; t < q->topic_states.n; t++)
		for (int32_t i = 0; i < q->topic_states.v[t].partition_states.n; i++)
			x.named[x.count++] = (struct named){q->topic_states.v[t].topic_id, q->topic_states.v[t].partition_states.v[i].partition_index};
	qsort(x.named, x.count, sizeof *x.named, by_id);
	replicas_each(call_broker(c), look_for_stray, &x);
	return true;
}

static void unseal_one(void *arg, struct partition *p)
{
	(void)arg;
	partition_unseal(p);
}

static bool note_leaders(struct call *c, const struct leader_and_isr_request *q, struct err *e)
{
	struct join_place *v = call_get(c, ((size_t)q->live_leaders.n + 1) * sizeof *v);
	for (int32_t i = 0; v && i < q->live_leaders.n; i++) {
		const struct leader_and_isr_request_live_leader *l = &q->live_leaders.v[i];
		v[i] = (struct join_place){.id = l->broker_id, .host = l->host_name.s, .host_bytes = (size_t)l->host_name.n, .port = l->port};
	}
	return v && join_places(call_join(c), v, (size_t)q->live_leaders.n, false, e) == 0;
}

void handle_leader_and_isr(struct call *c)
{
	const struct leader_and_isr_request *q = c->request;
	struct leader_and_isr_response a;
	struct err e = ERR_INIT;
	struct expected topics;
	wire_init(&wire_leader_and_isr_response, &a);
	if (!expected_init(c, &topics, q->topic_states.n)) {
		call_close(c, "no memory");
		return;
	}
	for (int32_t i = 0; i < q->topic_states.n; i++)
		expected_add(c, &topics, q->topic_states.v[i].topic_name, &q->topic_states.v[i].topic_id);
	size_t brokers, before;
	join_expect(call_join(c), topics.v, topics.n);
	free(join_brokers(call_join(c), &before));
	a.error_code = join_begin(call_join(c), q->controller_epoch, q->broker_epoch);
	if (a.error_code) {
		join_arrived(call_join(c), topics.v, topics.n);
		call_answer(c, &a);
		return;
	}
	if (q->type == FULL) /* of a controller that knows of no seal */
		replicas_each(call_broker(c), unseal_one, NULL);
	a.topics.v = call_array(c, &wire_leader_and_isr_response_topic, q->topic_states.n);
	bool good = a.topics.v && note_leaders(c, q, &e);
	for (int32_t t = 0; good && t < q->topic_states.n; t++)
		good = give_roles(c, &q->topic_states.v[t], &a.topics.v[a.topics.n++]);
	if (good && q->type == FULL)
		good = tell_strays(c);
	if (good && replicas_sync(call_broker(c), &e) < 0) {
		diag_error("%s", e.text);
		good = false;
	}
	if (good)
		join_settled(call_join(c), q->broker_epoch);
	join_end(call_join(c));
	join_arrived(call_join(c), topics.v, topics.n);
	free(join_brokers(call_join(c), &brokers));
	if (brokers < before)
		broker_look_again(call_broker(c)); /* leaders do not wait for who is gone */
	if (good)
		call_answer(c, &a);
	else
		call_close(c, "it could not be done"); /* and is sent again */
}

/* ---- StopReplica ---- */

/* Before a topic that is empty is deleted: nothing of it is stopped yet. */
static int16_t seal_one(struct call *c, struct wire_string name, const struct stop_replica_request_partition_state *s)
{
	struct err e = ERR_INIT;
	int16_t error = KAFKA_NONE;
	struct partition *p = call_partition(c, name, NULL, s->partition_index, &error);
	if (!p)
		return error;
	if (s->seal == STOP_SEALS)
		error = (int16_t)kafka_error_of(partition_seal(p, s->leader_epoch, &e));
	else
		partition_unseal(p);
	partition_unref(p);
	return error;
}

/* KAFKA_NONE: that partition is to be deleted here, or there is none. */
static int16_t stop_one(struct call *c, struct wire_string name, const struct stop_replica_request_partition_state *s)
{
	int16_t error = KAFKA_NONE;
	struct partition_standing now;
	if (s->seal)
		return seal_one(c, name, s);
	struct partition *p = call_partition(c, name, NULL, s->partition_index, &error);
	if (!p)
		return KAFKA_NONE;
	partition_standing(p, &now);
	if (s->leader_epoch >= 0 && s->leader_epoch < now.leader_epoch)
		error = KAFKA_FENCED_LEADER_EPOCH;
	if (!error) {
		join_follow(call_join(c), p, -1, -1, NULL);
		partition_stop(p);
		tell_coordinator(c, p);
	}
	partition_unref(p);
	return error;
}

static bool stop_topic(struct call *c, const struct stop_replica_request_topic_state *t, struct stop_replica_response *a)
{
	const char *name = call_text(c, t->topic_name);
	int32_t *doomed = call_get(c, ((size_t)t->partition_states.n + 1) * sizeof *doomed);
	size_t n = 0;
	struct err e = ERR_INIT;
	if (!name || !doomed)
		return false;
	int32_t first = a->partition_errors.n;
	for (int32_t i = 0; i < t->partition_states.n; i++) {
		const struct stop_replica_request_partition_state *s = &t->partition_states.v[i];
		struct stop_replica_response_partition *to = &a->partition_errors.v[a->partition_errors.n++];
		*to = (struct stop_replica_response_partition){.topic_name = t->topic_name, .partition_index = s->partition_index, .error_code = stop_one(c, t->topic_name, s)};
		if (!to->error_code && s->delete_partition)
			doomed[n++] = s->partition_index;
	}
	int rc = n ? replicas_delete(call_broker(c), name, doomed, n, &e) : 0;
	if (rc < 0)
		diag_error("%s", e.text);
	for (int32_t i = first; rc < 0 && i < a->partition_errors.n; i++)
		if (!a->partition_errors.v[i].error_code)
			a->partition_errors.v[i].error_code = (int16_t)kafka_error_of(rc);
	return true;
}

void handle_stop_replica(struct call *c)
{
	const struct stop_replica_request *q = c->request;
	struct stop_replica_response a;
	int32_t n = 0;
	wire_init(&wire_stop_replica_response, &a);
	a.error_code = join_begin(call_join(c), q->controller_epoch, q->broker_epoch);
	if (a.error_code) {
		call_answer(c, &a);
		return;
	}
	for (int32_t t = 0; t < q->topic_states.n; t++)
		n += q->topic_states.v[t].partition_states.n;
	bool good = (a.partition_errors.v = call_array(c, &wire_stop_replica_response_partition, n));
	for (int32_t t = 0; good && t < q->topic_states.n; t++)
		good = stop_topic(c, &q->topic_states.v[t], &a);
	join_end(call_join(c));
	if (good)
		call_answer(c, &a);
	else
		call_close(c, "no memory");
}

/* ---- UpdateMetadata ---- */

static bool note_brokers(struct call *c, const struct update_metadata_request *q, struct err *e)
{
	size_t n = 0;
	struct join_place *v = call_get(c, ((size_t)q->live_brokers.n + 1) * sizeof *v);
	for (int32_t i = 0; v && i < q->live_brokers.n; i++) {
		const struct update_metadata_request_broker *b = &q->live_brokers.v[i];
		if (b->endpoints.n)
			v[n++] = (struct join_place){.id = b->id, .host = b->endpoints.v[0].host.s, .host_bytes = (size_t)b->endpoints.v[0].host.n, .port = b->endpoints.v[0].port,
				.rack = b->rack.n >= 0 ? b->rack.s : NULL, .rack_bytes = b->rack.n > 0 ? (size_t)b->rack.n : 0};
	}
	return v && join_places(call_join(c), v, n, true, e) == 0;
}

static int copy_ids(int32_t *to, const int32_t *v, int32_t n)
{
	n = n < PARTITION_REPLICAS ? n : PARTITION_REPLICAS;
	if (n > 0)
		memcpy(to, v, (size_t)n * sizeof *to);
	return n > 0 ? n : 0;
}

/* What was moved away from here while this broker was. false: its replicas are elsewhere. */
static bool is_replica(const struct call *c, const struct update_metadata_request_partition *p)
{
	for (int32_t i = 0; i < p->replicas.n; i++)
		if (p->replicas.v[i] == broker_id(call_broker(c)))
			return true;
	return false;
}

static void set_strays_aside(struct call *c, const char *name, const struct update_metadata_request_topic *t)
{
	struct err e = ERR_INIT;
	for (int32_t i = 0; i < t->partition_states.n; i++) {
		const struct update_metadata_request_partition *p = &t->partition_states.v[i];
		if (p->leader != DELETED && !is_replica(c, p) && replicas_set_aside(call_broker(c), name, t->topic_id.b, p->partition_index, &e) < 0)
			diag_error("%s", e.text);
	}
}

static bool note_topic(struct call *c, const struct update_metadata_request_topic *t, bool full)
{
	int32_t n = t->partition_states.n;
	const char *name = call_text(c, t->topic_name);
	struct replicas_told *told = call_get(c, ((size_t)n + 1) * sizeof *told);
	struct partition_metadata *m = call_get(c, ((size_t)n + 1) * sizeof *m);
	struct err e = ERR_INIT;
	if (!name || !told || !m)
		return false;
	for (int32_t i = 0; i < n; i++) {
		const struct update_metadata_request_partition *p = &t->partition_states.v[i];
		m[i].leader = p->leader;
		m[i].leader_epoch = p->leader_epoch;
		m[i].isr_count = copy_ids(m[i].isr, p->isr.v, p->isr.n);
		m[i].replica_count = copy_ids(m[i].replicas, p->replicas.v, p->replicas.n);
		m[i].offline_count = copy_ids(m[i].offline, p->offline_replicas.v, p->offline_replicas.n);
		told[i] = (struct replicas_told){p->partition_index, p->leader == DELETED, &m[i]};
	}
	bool offsets = !strcmp(name, OFFSETS_TOPIC);
	int rc = admin_is_text(t->topic_name) ? replicas_tell(call_broker(c), name, t->topic_id.b, told, (size_t)n, &e) : err_set(&e, ERR_NAME, "a topic whose name has a NUL in it");
	if (rc < 0)
		diag_error("%s", e.text);
	else if (offsets)
		count_offsets_topic(c);
	if (rc == 0 && full)
		set_strays_aside(c, name, t);
	return rc != ERR_NO_MEMORY;
}

/* Not one that is being deleted. */
static bool is_there(const struct update_metadata_request_topic *t)
{
	for (int32_t i = 0; i < t->partition_states.n; i++)
		if (t->partition_states.v[i].leader != DELETED)
			return true;
	return false;
}

struct topic_ids { struct wire_uuid *v; size_t n; };

static int by_bytes(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct wire_uuid));
}

static bool is_named(void *arg, const uint8_t id[16])
{
	const struct topic_ids *x = arg;
	return x->n && bsearch(id, x->v, x->n, sizeof *x->v, by_bytes);
}

/* What was not named is there no longer. */
static bool forget_others(struct call *c, const struct update_metadata_request *q)
{
	struct topic_ids x = {call_get(c, ((size_t)q->topic_states.n + 1) * sizeof *x.v), (size_t)q->topic_states.n};
	for (int32_t i = 0; x.v && i < q->topic_states.n; i++)
		x.v[i] = q->topic_states.v[i].topic_id;
	if (!x.v)
		return false;
	qsort(x.v, x.n, sizeof *x.v, by_bytes);
	replicas_forget(call_broker(c), is_named, &x);
	return true;
}

void handle_update_metadata(struct call *c)
{
	const struct update_metadata_request *q = c->request;
	struct update_metadata_response a;
	struct err e = ERR_INIT;
	bool good = true;
	struct expected topics;
	wire_init(&wire_update_metadata_response, &a);
	if (!expected_init(c, &topics, q->topic_states.n)) {
		call_close(c, "no memory");
		return;
	}
	for (int32_t i = 0; i < q->topic_states.n; i++)
		if (is_there(&q->topic_states.v[i]))
			expected_add(c, &topics, q->topic_states.v[i].topic_name, &q->topic_states.v[i].topic_id);
	join_expect(call_join(c), topics.v, topics.n);
	a.error_code = join_begin(call_join(c), q->controller_epoch, q->broker_epoch);
	if (!a.error_code) {
		good = note_brokers(c, q, &e) && (q->type != FULL || forget_others(c, q));
		for (int32_t t = 0; good && t < q->topic_states.n; t++)
			good = note_topic(c, &q->topic_states.v[t], q->type == FULL);
		join_end(call_join(c));
	}
	join_arrived(call_join(c), topics.v, topics.n);
	if (good)
		call_answer(c, &a);
	else
		call_close(c, "no memory");
}
