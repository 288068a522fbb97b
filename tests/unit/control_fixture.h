/*
 * control_fixture: a cluster without any machine: ZooKeeper as a table of nodes that refuses what ZooKeeper would refuse, brokers that remember what they were told, and one brain between them.
 * What must hold at any time is checked wherever something is written or told. Included by the tests of cluster/control; everything is static.
 */
#ifndef TESTS_UNIT_CONTROL_FIXTURE_H
#define TESTS_UNIT_CONTROL_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wunused-variable"

#include "cluster/control/ids.h"
#include "cluster/wire/errors.h"

enum { W_BROKERS = 8, W_TOPICS = 8, W_PARTS = 64, W_REPLICAS = 8, W_ANSWERS = 64 };

struct w_list { int32_t n, v[W_REPLICAS]; };

struct w_state { bool exists, dir, recovering; int32_t version, leader, leader_epoch; struct w_list isr; };

struct w_topic { /* nodes of a topic */
	char name[32];
	bool exists, partitions, config, marked;
	uint8_t id[16];
	int32_t version, parts;
	struct w_list replicas[W_PARTS], adding[W_PARTS], removing[W_PARTS];
	struct w_state state[W_PARTS];
};

struct w_told { bool any; uint8_t id[16]; int32_t leader, leader_epoch, partition_epoch, knows; struct w_list isr; }; /* knows: the partition epoch that a leader has heard of by its own requests */

struct w_broker {
	bool up, hangs;             /* registered; answers nothing */
	int64_t epoch;
	bool clean;
	char rack[16];
	bool full;                  /* has had its first LeaderAndIsr, which must be whole */
	bool before[W_TOPICS][W_PARTS]; /* a member since before its unclean stop, for all that has been written */
	struct w_told told[W_TOPICS][W_PARTS];
	int deleted[W_TOPICS], stopped[W_TOPICS], told_of_gone[W_TOPICS];
	int32_t delete_epoch; /* of the stop that deleted last */
	int sealed[W_TOPICS];       /* partitions that it has sealed, less those it has unsealed */
	int16_t seal_error;         /* what it says when it is to seal one */
	int32_t end_epoch[W_PARTS]; /* of topic 0: what it says it has */
	int64_t end[W_PARTS];
	int live_brokers;           /* of the newest UpdateMetadata */
	/* A request that it has and not answered yet: */
	bool has;
	struct brain_request request;
	struct arena arena;
};

struct w_answer { void *ticket; int16_t error; int32_t items; int16_t item_error[16]; int32_t remaining; };

struct world {
	struct brain *b;
	struct brain_options o;
	struct w_topic topic[W_TOPICS];
	struct w_broker broker[W_BROKERS];
	struct { bool exists; int32_t version; struct brain_ledger l; } ledger[W_BROKERS];
	struct w_answer answer[W_ANSWERS];
	int answers, batches, multis, requests;
	int64_t now, zxid;
	struct brain_batch batch;   /* taken and not done yet */
	bool writing;
	bool allows_unclean;        /* elections outside the ISR are no error */
};

/* ---- answers ---- */

/* The ticket of an AlterPartition; all others are their kind alone. */
struct w_asked { int kind; bool pending; struct w_list isr; };

static void w_answered(void *arg, void *ticket, const void *response)
{
	struct world *w = arg;
	struct w_answer *a = &w->answer[w->answers++ % W_ANSWERS];
	*a = (struct w_answer){.ticket = ticket};
	int kind = *(int *)ticket;
	if (kind == -1) {
		a->error = ((const struct brain_answer *)response)->error;
	} else if (kind == API_ALTER_PARTITION) {
		const struct alter_partition_response *r = response;
		((struct w_asked *)ticket)->pending = false;
		a->error = r->error_code;
		for (int32_t t = 0; t < r->topics.n; t++) {
			for (int32_t i = 0; i < r->topics.v[t].partitions.n && a->items < 16; i++)
				a->item_error[a->items++] = r->topics.v[t].partitions.v[i].error_code;
		}
	} else if (kind == API_CONTROLLED_SHUTDOWN) {
		const struct controlled_shutdown_response *r = response;
		a->error = r->error_code;
		a->remaining = r->remaining_partitions.n;
	} else if (kind == API_ELECT_LEADERS) {
		const struct elect_leaders_response *r = response;
		a->error = r->error_code;
		for (int32_t t = 0; t < r->replica_election_results.n; t++) {
			for (int32_t i = 0; i < r->replica_election_results.v[t].partition_result.n && a->items < 16; i++)
				a->item_error[a->items++] = r->replica_election_results.v[t].partition_result.v[i].error_code;
		}
	} else if (kind == API_ALTER_PARTITION_REASSIGNMENTS) {
		const struct alter_partition_reassignments_response *r = response;
		a->error = r->error_code;
		for (int32_t t = 0; t < r->responses.n; t++) {
			for (int32_t i = 0; i < r->responses.v[t].partitions.n && a->items < 16; i++)
				a->item_error[a->items++] = r->responses.v[t].partitions.v[i].error_code;
		}
	} else {
		const struct list_partition_reassignments_response *r = response;
		a->error = r->error_code;
		for (int32_t t = 0; t < r->topics.n; t++)
			a->items += r->topics.v[t].partitions.n;
	}
}

static struct w_asked t_alter = {.kind = API_ALTER_PARTITION};
static int t_topic = -1, t_shutdown = API_CONTROLLED_SHUTDOWN, t_elect = API_ELECT_LEADERS, t_reassign = API_ALTER_PARTITION_REASSIGNMENTS,
	t_list = API_LIST_PARTITION_REASSIGNMENTS;

static struct w_answer *last_answer(struct world *w)
{
	assert_true(w->answers > 0);
	return &w->answer[(w->answers - 1) % W_ANSWERS];
}

/* ---- ZooKeeper ---- */

static struct w_list w_list(const struct ids *l)
{
	struct w_list out = {.n = ids_n(l)};
	assert_true(out.n <= W_REPLICAS);
	for (int32_t i = 0; i < out.n; i++)
		out.v[i] = l->v[i];
	return out;
}

static struct ids *w_ids(const struct w_list *l)
{
	return ids_make(l->v, l->n);
}

static bool w_has(const struct w_list *l, int32_t id)
{
	return ids_has_n(l->v, l->n, id);
}

static struct w_topic *w_topic(struct world *w, const char *name)
{
	struct w_topic *spare = NULL;
	for (int i = 0; i < W_TOPICS; i++) {
		struct w_topic *t = &w->topic[i];
		if (strcmp(t->name, name) == 0)
			return t;
		if (!t->name[0] && !spare)
			spare = t;
	}
	assert_non_null(spare);
	snprintf(spare->name, sizeof spare->name, "%s", name);
	return spare;
}

/* What any state that is written must obey. */
static void w_check_state(struct world *w, struct w_topic *t, int32_t p, const struct brain_state *s)
{
	struct w_state *was = &t->state[p];
	struct w_list isr = w_list(s->isr);
	assert_true(isr.n > 0);
	for (int32_t i = 0; i < isr.n; i++) {
		assert_true(w_has(&t->replicas[p], isr.v[i]));
		for (int32_t k = 0; k < i; k++)
			assert_true(isr.v[k] != isr.v[i]);
	}
	assert_true(s->leader == -1 || w_has(&isr, s->leader));
	assert_int_equal(s->controller_epoch, w->o.controller_epoch);
	if (!was->exists) {
		assert_int_equal(s->leader_epoch, 0);
		return;
	}
	assert_true(s->leader_epoch == was->leader_epoch || s->leader_epoch == was->leader_epoch + 1);
	if (s->leader_epoch == was->leader_epoch)
		assert_int_equal(s->leader, was->leader); /* one leader an epoch */
	if (s->leader >= 0 && s->leader_epoch > was->leader_epoch && !w_has(&was->isr, s->leader)) {
		assert_true(w->allows_unclean);
		assert_true(s->recovering);
	}
}

static void w_set_topic(struct w_topic *t, const struct op *op)
{
	memcpy(t->id, op->assignment.id, 16);
	t->parts = op->assignment.partitions;
	assert_true(t->parts <= W_PARTS);
	for (int32_t i = 0; i < t->parts; i++) {
		t->replicas[i] = w_list(op->assignment.partition[i].replicas);
		t->adding[i] = w_list(op->assignment.partition[i].adding);
		t->removing[i] = w_list(op->assignment.partition[i].removing);
	}
}

static void w_op(struct world *w, const struct op *op)
{
	struct w_topic *t = op->topic ? w_topic(w, op->topic) : NULL;
	struct w_state *s = t && op->partition >= 0 ? &t->state[op->partition] : NULL;
	switch (op->kind) {
	case OP_CREATE_CONFIG:
		assert_false(t->config);
		t->config = true;
		break;
	case OP_SET_CONFIG:
		assert_true(t->config);
		break;
	case OP_NOTE_CONFIG:
		break;
	case OP_CREATE_TOPIC:
		assert_false(t->exists);
		t->exists = true;
		t->version = 0;
		w_set_topic(t, op);
		break;
	case OP_SET_TOPIC:
		assert_true(t->exists && op->version == t->version++);
		w_set_topic(t, op);
		break;
	case OP_CREATE_PARTITIONS:
		assert_true(t->exists && !t->partitions);
		t->partitions = true;
		break;
	case OP_CREATE_PARTITION:
		assert_true(t->partitions && !s->dir);
		s->dir = true;
		break;
	case OP_CREATE_STATE:
	case OP_SET_STATE:
		assert_true(op->kind == OP_CREATE_STATE ? s->dir && !s->exists : s->exists && op->version == s->version);
		/* The assignment may be written behind it in the same multi: that is looked at when the multi is through. */
		s->version = s->exists ? s->version + 1 : 0;
		break;
	case OP_CREATE_MARK:
		assert_false(t->marked);
		t->marked = true;
		break;
	case OP_DELETE_STATE:
		assert_true(s->exists && op->version == s->version);
		s->exists = false;
		for (int32_t id = 0; id < W_BROKERS; id++)
			w->broker[id].before[t - w->topic][op->partition] = false;
		break;
	case OP_DELETE_PARTITION:
		assert_true(s->dir && !s->exists);
		s->dir = false;
		break;
	case OP_DELETE_PARTITIONS:
		for (int i = 0; i < W_PARTS; i++)
			assert_false(t->state[i].dir);
		assert_true(t->partitions);
		t->partitions = false;
		break;
	case OP_DELETE_TOPIC:
		assert_true(t->exists && !t->partitions && t->marked && op->version == t->version);
		t->exists = false;
		break;
	case OP_DELETE_CONFIG:
		assert_true(t->config);
		t->config = false;
		break;
	case OP_DELETE_MARK:
		assert_true(t->marked && !t->exists);
		t->marked = false;
		break;
	case OP_CREATE_LEDGER:
	case OP_SET_LEDGER: {
		int32_t id = op->ledger.broker;
		assert_true(op->kind == OP_CREATE_LEDGER ? !w->ledger[id].exists : w->ledger[id].exists && w->ledger[id].version == op->version);
		w->ledger[id].version = w->ledger[id].exists ? w->ledger[id].version + 1 : 0;
		w->ledger[id].exists = true;
		w->ledger[id].l = op->ledger.ledger;
		break;
	}
	}
}

static void w_multi(struct world *w, const struct brain_multi *m)
{
	assert_true(m->ops > 0);
	/* One group may be larger than the bound only if it is one topic's node by itself. */
	assert_true(m->bytes <= w->o.max_multi_bytes);
	w->multis++;
	for (size_t i = 0; i < m->ops; i++)
		w_op(w, &m->op[i]);
	for (size_t i = 0; i < m->ops; i++) {
		const struct op *op = &m->op[i];
		if (op->kind != OP_CREATE_STATE && op->kind != OP_SET_STATE)
			continue;
		struct w_topic *t = w_topic(w, op->topic);
		struct w_state *s = &t->state[op->partition];
		w_check_state(w, t, op->partition, &op->state);
		s->exists = true;
		s->leader = op->state.leader;
		s->leader_epoch = op->state.leader_epoch;
		s->recovering = op->state.recovering;
		s->isr = w_list(op->state.isr);
		for (int32_t id = 0; id < W_BROKERS; id++) {
			if (!w_has(&s->isr, id) || (s->isr.n == 1 && s->leader == id))
				w->broker[id].before[t - w->topic][op->partition] = false;
		}
	}
}

static bool w_take_batch(struct world *w)
{
	if (w->writing || !brain_writes(w->b, w->now, &w->batch))
		return false;
	w->writing = true;
	return true;
}

static void w_do_batch(struct world *w)
{
	for (size_t i = 0; i < w->batch.multis; i++)
		w_multi(w, &w->batch.multi[i]);
	w->batches++;
	w->writing = false;
	brain_written(w->b, w->now);
}

/* ---- brokers ---- */

static int w_topic_index(struct world *w, const char *name, int32_t n)
{
	char text[32];
	snprintf(text, sizeof text, "%.*s", n, name);
	return (int)(w_topic(w, text) - w->topic);
}

/* A broker has been told of a partition. */
static void w_hear_state(struct world *w, int32_t id, const struct leader_and_isr_request_topic *t, const struct leader_and_isr_request_partition *p)
{
	struct w_broker *r = &w->broker[id];
	int topic = w_topic_index(w, t->topic_name.s, t->topic_name.n);
	struct w_told *told = &r->told[topic][p->partition_index];
	if (told->any && memcmp(told->id, t->topic_id.b, 16) == 0) {
		assert_true(p->leader_epoch >= told->leader_epoch);
		assert_true(p->partition_epoch >= told->partition_epoch);
		if (p->leader_epoch == told->leader_epoch)
			assert_int_equal(p->leader, told->leader);
	}
	if (told->any && memcmp(told->id, t->topic_id.b, 16) == 0 && p->leader_epoch == told->leader_epoch && p->partition_epoch < told->knows)
		return; /* it was on its way while the leader was told of a newer ISR: as a broker has to, it is left alone */
	*told = (struct w_told){.any = true, .leader = p->leader, .leader_epoch = p->leader_epoch, .partition_epoch = p->partition_epoch};
	memcpy(told->id, t->topic_id.b, 16);
	for (int32_t i = 0; i < p->isr.n; i++)
		told->isr.v[told->isr.n++] = p->isr.v[i];
	assert_true(ids_has_n(p->replicas.v, p->replicas.n, id));
	/* Back from an unclean stop, it is a member only where it has been decided so since, or where nobody leads. */
	if (r->before[topic][p->partition_index] && ids_has_n(p->isr.v, p->isr.n, id) && p->leader >= 0)
		fail_msg("broker %d is told of %s-%d (leader %d, ISR of %d, epoch %d; ledger: settled %lld, unclean %d; registered %lld), whose ISR it was in before its unclean stop", id, w->topic[topic].name,
			p->partition_index, p->leader, p->isr.n, p->leader_epoch, (long long)w->ledger[id].l.settled_epoch, w->ledger[id].l.unclean, (long long)r->epoch);
}

static void w_answer_states(struct world *w, int32_t id, const struct leader_and_isr_request *q)
{
	struct w_broker *r = &w->broker[id];
	struct leader_and_isr_response a;
	struct leader_and_isr_response_topic topics[W_TOPICS];
	struct leader_and_isr_response_partition parts[W_TOPICS * W_PARTS];
	int32_t n = 0;
	wire_init(&wire_leader_and_isr_response, &a);
	a.topics.v = topics;
	assert_int_equal(q->type, r->full ? 1 : 2);
	r->full = true;
	for (int32_t t = 0; t < q->topic_states.n; t++) {
		topics[t] = (struct leader_and_isr_response_topic){.topic_id = q->topic_states.v[t].topic_id};
		topics[t].partition_errors.v = &parts[n];
		a.topics.n++;
		for (int32_t i = 0; i < q->topic_states.v[t].partition_states.n; i++) {
			w_hear_state(w, id, &q->topic_states.v[t], &q->topic_states.v[t].partition_states.v[i]);
			parts[n++] = (struct leader_and_isr_response_partition){.partition_index = q->topic_states.v[t].partition_states.v[i].partition_index};
			topics[t].partition_errors.n++;
		}
	}
	brain_answered(w->b, id, r->request.broker_epoch, &a);
}

static void w_answer_ends(struct world *w, int32_t id, const struct list_offsets_request *q)
{
	struct list_offsets_response a;
	struct list_offsets_response_topic topics[W_TOPICS];
	struct list_offsets_response_partition parts[W_TOPICS * W_PARTS];
	int32_t n = 0;
	wire_init(&wire_list_offsets_response, &a);
	a.topics.v = topics;
	assert_int_equal(q->replica_id, -2);
	for (int32_t t = 0; t < q->topics.n; t++) {
		topics[t] = (struct list_offsets_response_topic){.name = q->topics.v[t].name};
		topics[t].partitions.v = &parts[n];
		a.topics.n++;
		for (int32_t i = 0; i < q->topics.v[t].partitions.n; i++) {
			int32_t p = q->topics.v[t].partitions.v[i].partition_index;
			parts[n++] = (struct list_offsets_response_partition){.partition_index = p, .offset = w->broker[id].end[p], .leader_epoch = w->broker[id].end_epoch[p]};
			topics[t].partitions.n++;
		}
	}
	brain_answered(w->b, id, w->broker[id].request.broker_epoch, &a);
}

static bool w_take_request(struct world *w, int32_t id)
{
	struct w_broker *r = &w->broker[id];
	if (r->has)
		return false;
	arena_reset(&r->arena);
	r->has = brain_request(w->b, id, &r->arena, &r->request);
	if (!r->has)
		return false;
	w->requests++;
	assert_int_equal(r->request.broker_epoch, r->epoch);
	/* It is sent as it is now: strings are the brain's only until its next event. */
	const struct api *api = api_find(r->request.api_key);
	struct wire_out out;
	wire_out_init(&out, 0);
	assert_int_equal(wire_encode(api->request, api->max, r->request.message, &out, NULL), 0);
	arena_reset(&r->arena);
	uint8_t *bytes = arena_get(&r->arena, out.bytes.len, NULL), *message = arena_get(&r->arena, api->request->size, NULL);
	memcpy(bytes, out.bytes.data, out.bytes.len);
	assert_int_equal(wire_decode(api->request, api->max, bytes, out.bytes.len, &r->arena, message, NULL), out.bytes.len);
	r->request.message = message;
	wire_out_release(&out);
	return true;
}

static void w_answer_request(struct world *w, int32_t id)
{
	struct w_broker *r = &w->broker[id];
	r->has = false;
	if (r->request.api_key == API_LEADER_AND_ISR) {
		w_answer_states(w, id, r->request.message);
	} else if (r->request.api_key == API_LIST_OFFSETS) {
		w_answer_ends(w, id, r->request.message);
	} else if (r->request.api_key == API_UPDATE_METADATA) {
		const struct update_metadata_request *q = r->request.message;
		r->live_brokers = q->live_brokers.n;
		for (int32_t t = 0; t < q->topic_states.n; t++) {
			if (q->topic_states.v[t].partition_states.v[0].leader == -2)
				r->told_of_gone[w_topic_index(w, q->topic_states.v[t].topic_name.s, q->topic_states.v[t].topic_name.n)]++;
		}
		struct update_metadata_response a = {0};
		brain_answered(w->b, id, r->request.broker_epoch, &a);
	} else {
		const struct stop_replica_request *q = r->request.message;
		struct stop_replica_response_partition answer[W_PARTS * W_TOPICS * 2];
		int32_t answers = 0;
		for (int32_t t = 0; t < q->topic_states.n; t++) {
			int topic = w_topic_index(w, q->topic_states.v[t].topic_name.s, q->topic_states.v[t].topic_name.n);
			for (int32_t i = 0; i < q->topic_states.v[t].partition_states.n; i++) {
				const struct stop_replica_request_partition_state *s = &q->topic_states.v[t].partition_states.v[i];
				bool deletes = s->delete_partition;
				answer[answers++] = (struct stop_replica_response_partition){q->topic_states.v[t].topic_name, s->partition_index, s->seal == STOP_SEALS ? r->seal_error : KAFKA_NONE};
				if (s->seal) {
					r->sealed[topic] += s->seal == STOP_UNSEALS ? -1 : !r->seal_error;
					continue;
				}
				r->deleted[topic] += deletes;
				r->delete_epoch = deletes ? s->leader_epoch : r->delete_epoch;
				r->stopped[topic] += !deletes;
				if (deletes)
					r->told[topic][q->topic_states.v[t].partition_states.v[i].partition_index].any = false;
			}
		}
		struct stop_replica_response a = {.partition_errors = {answer, answers}};
		brain_answered(w->b, id, r->request.broker_epoch, &a);
	}
}

/* Until nothing happens by itself any more. */
static void w_run(struct world *w)
{
	for (bool any = true; any;) {
		any = false;
		while (w->writing || w_take_batch(w)) {
			w_do_batch(w);
			any = true;
		}
		for (int32_t id = 0; id < W_BROKERS; id++) {
			struct w_broker *r = &w->broker[id];
			if (r->up && !r->hangs && (r->has || w_take_request(w, id))) {
				w_answer_request(w, id);
				any = true;
			}
		}
		assert_int_equal(brain_failed(w->b, NULL), 0);
	}
}

static struct brain_broker w_registration(struct world *w, int32_t id, struct brain_endpoint *endpoint)
{
	struct w_broker *r = &w->broker[id];
	*endpoint = (struct brain_endpoint){"PLAINTEXT", "host", 9092 + id, 0};
	return (struct brain_broker){.id = id, .epoch = r->epoch, .clean = r->clean, .rack = r->rack[0] ? r->rack : NULL, .endpoint = endpoint, .endpoints = 1};
}

static void w_register(struct world *w, int32_t id, bool clean)
{
	struct w_broker *r = &w->broker[id];
	struct brain_endpoint endpoint;
	r->up = true;
	r->hangs = r->has = r->full = false;
	r->epoch = ++w->zxid;
	r->clean = clean;
	memset(r->told, 0, sizeof r->told);
	for (int t = 0; t < W_TOPICS; t++) {
		for (int p = 0; p < W_PARTS; p++)
			r->before[t][p] = (!clean || r->before[t][p]) && w->topic[t].exists && w->topic[t].state[p].exists && w_has(&w->topic[t].state[p].isr, id);
	}
	if (!w->b)
		return;
	struct brain_broker registration = w_registration(w, id, &endpoint);
	brain_broker_up(w->b, &registration, w->now);
}

static void w_up(struct world *w, int32_t id)
{
	w_register(w, id, true);
}

static void w_down(struct world *w, int32_t id)
{
	w->broker[id].up = w->broker[id].has = false;
	brain_broker_down(w->b, id, w->now);
}

/* ---- a controller's term ---- */

static void w_load_topic(struct world *w, struct w_topic *t)
{
	struct ids *owned[3 * W_PARTS];
	struct brain_assignment a[W_PARTS];
	for (int32_t i = 0; i < t->parts; i++) {
		owned[3 * i] = w_ids(&t->replicas[i]);
		owned[3 * i + 1] = w_ids(&t->adding[i]);
		owned[3 * i + 2] = w_ids(&t->removing[i]);
		a[i] = (struct brain_assignment){owned[3 * i], owned[3 * i + 1], owned[3 * i + 2]};
	}
	assert_int_equal(brain_load_topic(w->b, t->name, t->id, t->version, a, t->parts, NULL), 0);
	for (int32_t i = 0; i < 3 * t->parts; i++)
		free(owned[i]);
	if (t->partitions)
		brain_load_partitions_node(w->b, t->name);
	for (int32_t i = 0; i < t->parts; i++) {
		struct w_state *s = &t->state[i];
		if (s->dir)
			brain_load_partition_node(w->b, t->name, i);
		if (!s->exists)
			continue;
		struct ids *isr = w_ids(&s->isr);
		struct brain_state state = {s->leader, s->leader_epoch, 0, isr, s->recovering};
		assert_int_equal(brain_load_state(w->b, t->name, i, &state, s->version, NULL), 0);
		free(isr);
	}
}

/* A controller begins: a new one, if there was one before. */
static void w_begin(struct world *w)
{
	brain_free(w->b);
	w->o.controller_epoch++;
	w->o.answer = w_answered;
	w->o.arg = w;
	w->writing = false;
	w->b = brain_new(&w->o);
	assert_non_null(w->b);
	for (int32_t id = 0; id < W_BROKERS; id++) {
		struct brain_endpoint endpoint;
		struct brain_broker r = w_registration(w, id, &endpoint);
		w->broker[id].has = w->broker[id].full = false;
		if (w->broker[id].up)
			brain_load_broker(w->b, &r);
		if (w->ledger[id].exists)
			brain_load_ledger(w->b, id, &w->ledger[id].l, w->ledger[id].version);
	}
	for (int i = 0; i < W_TOPICS; i++) {
		if (w->topic[i].exists)
			w_load_topic(w, &w->topic[i]);
		if (w->topic[i].config)
			brain_load_config_node(w->b, w->topic[i].name);
		if (w->topic[i].marked && w->topic[i].exists)
			brain_load_deletion(w->b, w->topic[i].name);
	}
	brain_start(w->b, w->now);
}

/* Brokers 1 to n, and a controller that runs in none of them. */
static struct world *w_new(int brokers)
{
	struct world *w = calloc(1, sizeof *w);
	w->o = (struct brain_options){.self = 0, .max_multi_bytes = 100000, .unclean_wait_ms = 60000, .imbalance_percent = 10, .balance_interval_ms = 300000, .seed = 7};
	w->now = 1000;
	w->zxid = 100;
	for (int32_t id = 0; id < W_BROKERS; id++)
		arena_init(&w->broker[id].arena, 0);
	for (int32_t id = 1; id <= brokers; id++)
		w_register(w, id, true);
	w_begin(w);
	w_run(w);
	return w;
}

static void w_free(struct world *w)
{
	brain_free(w->b);
	for (int32_t id = 0; id < W_BROKERS; id++)
		arena_release(&w->broker[id].arena);
	free(w);
}

/* A topic whose partition i has the replicas of row i; n of them. */
static void w_create(struct world *w, const char *name, int32_t parts, int32_t factor)
{
	struct brain_new_topic n = {.name = name, .partitions = parts, .replication_factor = (int16_t)factor, .unclean = -1};
	for (int i = 0; i < 16; i++)
		n.id[i] = (uint8_t)(++w->zxid * 31 + i);
	brain_create_topic(w->b, &n, &t_topic);
	w_run(w);
	assert_int_equal(last_answer(w)->error, 0);
}

static void w_create_on(struct world *w, const char *name, int32_t n, const int32_t *replicas)
{
	struct create_topics_request_assignment a = {.partition_index = 0};
	struct brain_new_topic t = {.name = name, .assignment = &a, .assignments = 1, .unclean = -1};
	for (int i = 0; i < 16; i++)
		t.id[i] = (uint8_t)(++w->zxid * 31 + i);
	a.broker_ids.v = (int32_t *)(uintptr_t)replicas;
	a.broker_ids.n = n;
	brain_create_topic(w->b, &t, &t_topic);
	w_run(w);
	assert_int_equal(last_answer(w)->error, 0);
}

static struct brain_view w_view(struct world *w, const char *topic, int32_t p)
{
	struct brain_view v;
	assert_true(brain_view(w->b, topic, p, &v));
	return v;
}

static void w_expect(struct world *w, const char *topic, int32_t p, int32_t leader, int32_t n, const int32_t *isr)
{
	struct brain_view v = w_view(w, topic, p);
	assert_int_equal(v.leader, leader);
	assert_int_equal(ids_n(v.isr), n);
	for (int32_t i = 0; i < n; i++)
		assert_true(ids_has(v.isr, isr[i]));
}

#define ISR(...) (int32_t)(sizeof((int32_t[]){__VA_ARGS__}) / sizeof(int32_t)), (int32_t[]){__VA_ARGS__}

/* Broker `from` asks for an ISR, as it has been told of the partition, or with these epochs. */
static void w_alter_by(struct world *w, int32_t from, int32_t topic, int32_t p, int32_t leader_epoch, int32_t partition_epoch, bool recovering, int32_t n, const int32_t *isr, struct w_asked *ticket)
{
	struct alter_partition_request q;
	struct alter_partition_request_topic t = {.partitions = {NULL, 1}};
	struct alter_partition_request_partition part = {.partition_index = p, .leader_epoch = leader_epoch, .partition_epoch = partition_epoch, .leader_recovery_state = recovering};
	struct alter_partition_request_broker member[W_REPLICAS];
	wire_init(&wire_alter_partition_request, &q);
	q.broker_id = from;
	q.broker_epoch = w->broker[from].epoch;
	q.topics.v = &t;
	q.topics.n = 1;
	memcpy(t.topic_id.b, w->topic[topic].id, 16);
	t.partitions.v = &part;
	part.new_isr_with_epochs.v = member;
	for (int32_t i = 0; i < n; i++)
		member[part.new_isr_with_epochs.n++] = (struct alter_partition_request_broker){isr[i], w->broker[isr[i]].epoch};
	brain_alter_partition(w->b, &q, ticket);
}

static void w_alter_as(struct world *w, int32_t from, int32_t topic, int32_t p, int32_t leader_epoch, int32_t partition_epoch, bool recovering, int32_t n, const int32_t *isr)
{
	w_alter_by(w, from, topic, p, leader_epoch, partition_epoch, recovering, n, isr, &t_alter);
}

static void w_alter(struct world *w, int32_t from, int32_t topic, int32_t p, int32_t n, const int32_t *isr)
{
	struct w_state *s = &w->topic[topic].state[p];
	w_alter_as(w, from, topic, p, s->leader_epoch, s->version, false, n, isr);
}

/* n < 0: cancel. */
static void w_reassign(struct world *w, const char *topic, int32_t p, bool any_factor, int32_t n, const int32_t *replicas)
{
	struct alter_partition_reassignments_request q;
	struct alter_partition_reassignments_request_partition part = {.partition_index = p};
	struct alter_partition_reassignments_request_topic t = {.name = wire_string(topic), .partitions = {&part, 1}};
	wire_init(&wire_alter_partition_reassignments_request, &q);
	q.allow_replication_factor_change = any_factor;
	q.topics.v = &t;
	q.topics.n = 1;
	part.replicas.v = (int32_t *)(uintptr_t)replicas;
	part.replicas.n = n;
	brain_reassign(w->b, &q, &t_reassign);
}

static void w_elect(struct world *w, const char *topic, int32_t p, bool unclean)
{
	struct elect_leaders_request q;
	struct elect_leaders_request_topic t = {.topic = topic ? wire_string(topic) : WIRE_NULL_STRING, .partitions = {&p, 1}};
	wire_init(&wire_elect_leaders_request, &q);
	q.election_type = unclean;
	q.topic_partitions.v = &t;
	q.topic_partitions.n = topic ? 1 : -1;
	brain_elect_leaders(w->b, &q, &t_elect);
}

static void w_shutdown(struct world *w, int32_t id, int64_t epoch)
{
	struct controlled_shutdown_request q;
	wire_init(&wire_controlled_shutdown_request, &q);
	q.broker_id = id;
	q.broker_epoch = epoch;
	brain_controlled_shutdown(w->b, &q, &t_shutdown);
}

static const uint8_t any_id[16];

#endif
