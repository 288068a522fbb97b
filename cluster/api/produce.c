/*
 * Produce. Each partition's batch is checked and appended by itself, in the order of the request; the request is answered when the last is done.
 *
 * On the network thread, as a rule: a write to the page cache. Where a partition's log is not open the whole request goes to the pool, and the connection's next waits.
 * The records are appended from the frame's own memory, which is there until the answer.
 *
 * acks=all waits for other replicas no longer than the request's timeout: what they do not have by then is answered with REQUEST_TIMED_OUT, and stays in the log. The timer is armed only where
 * there are other replicas, and cancelled before anything is let go: so while it fires all partitions, and the items, are there.
 *
 * If the broker has no lease by then, another leads, as a rule, and this one is cut off from whoever could tell it so. The connection is closed in that case: to a client that is the same, but it looks for the leader elsewhere.
 * With the answer it would go on asking this broker who leads.
 */
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#include "cluster/api/call.h"
#include "cluster/api/leaders.h"
#include "cluster/partition_role.h"
#include "cluster/producer_ids.h"
#include "store/clock.h"
#include "store/diag.h"
#include "store/ingest.h"
#include "store/producers.h"
#include "store/timer.h"

struct produce;

struct item { /* one partition of the request */
	struct append append;
	struct record_set set;
	struct ingest_refusal refusal;
	struct partition *partition;              /* referenced, and acquired until the request is answered; NULL: it was refused */
	struct produce_response_partition *answer;
	struct produce *produce;
};

struct produce {
	struct call *call;
	struct produce_response response;
	struct item *item;
	int32_t count;
	enum acks acks;
	mono_t come;
	_Atomic int32_t left;                     /* items that are not done, and 1 while they are being begun, or found to take too long */
	_Atomic bool begun, cancelled;            /* every item has been begun; nobody waits for the answer any more */
	_Atomic bool cut_off;                     /* other replicas did not have it in time, and there is no lease */
	bool timed;
	struct timer timer;                       /* armed while acks=all waits, for the disk or for other replicas */
};

static int16_t code_of_refusal(enum ingest_code code)
{
	switch (code) {
	case INGEST_CORRUPT:
		return KAFKA_CORRUPT_MESSAGE;
	case INGEST_INVALID:
		return KAFKA_INVALID_RECORD;
	case INGEST_TOO_LARGE:
		return KAFKA_MESSAGE_TOO_LARGE;
	case INGEST_LIST_TOO_LARGE:
		return KAFKA_RECORD_LIST_TOO_LARGE;
	case INGEST_TIMESTAMP:
		return KAFKA_INVALID_TIMESTAMP;
	case INGEST_CODEC:
		return KAFKA_UNSUPPORTED_COMPRESSION_TYPE;
	default:
		return KAFKA_UNKNOWN_SERVER_ERROR;
	}
}

static void refuse(struct item *i, int16_t error)
{
	i->answer->error_code = error;
	i->answer->base_offset = -1;
}

/* ---- the end ---- */

static void release(struct produce *p)
{
	for (int32_t k = 0; k < p->count; k++) {
		struct item *i = &p->item[k];
		record_set_release(&i->set);
		ingest_refusal_release(&i->refusal);
	}
}

static void sent(struct call *c)
{
	release(c->op);
}

/* Kafka has no answer for acks=0 in which an error could stand: the connection is closed instead, so that the producer asks for metadata anew. */
static void end_without_answer(struct produce *p)
{
	bool failed = false;
	for (int32_t k = 0; k < p->count; k++)
		failed |= p->item[k].answer->error_code != KAFKA_NONE;
	if (failed)
		call_close(p->call, NULL);
	else
		call_drop(p->call);
}

static void let_go(struct produce *p)
{
	for (int32_t k = 0; k < p->count; k++) {
		struct partition *partition = p->item[k].partition;
		if (!partition)
			continue;
		partition_release(partition);
		partition_unref(partition);
	}
}

static void tell_leader(struct produce *p, const struct produce_response_topic *t, struct produce_response_partition *a)
{
	struct produce_response *to = &p->response;
	struct leader_node node;
	int16_t unused;
	struct partition *partition = call_partition(p->call, t->name, p->call->version >= 13 ? &t->topic_id : NULL, a->index, &unused);
	partition_leader_now(partition, &a->current_leader.leader_id, &a->current_leader.leader_epoch);
	partition_unref(partition);
	for (int32_t k = 0; k < to->node_endpoints.n; k++)
		if (to->node_endpoints.v[k].node_id == a->current_leader.leader_id)
			return;
	if (!to->node_endpoints.v)
		to->node_endpoints.v = call_array(p->call, &wire_produce_response_endpoint, p->count);
	if (to->node_endpoints.v && call_node(p->call, a->current_leader.leader_id, &node))
		to->node_endpoints.v[to->node_endpoints.n++] = (struct produce_response_endpoint){.node_id = node.id, .host = node.host, .port = node.port, .rack = node.rack};
}

/* KIP-951: who is in the wrong place is told the right one, and where that is. */
static void tell_leaders(struct produce *p)
{
	if (p->call->version < 10)
		return;
	for (int32_t t = 0; t < p->response.responses.n; t++) {
		const struct produce_response_topic *topic = &p->response.responses.v[t];
		for (int32_t k = 0; k < topic->partition_responses.n; k++)
			if (topic->partition_responses.v[k].error_code == KAFKA_NOT_LEADER_OR_FOLLOWER)
				tell_leader(p, topic, &topic->partition_responses.v[k]);
	}
}

static void one_done(struct produce *p)
{
	if (atomic_fetch_sub(&p->left, 1) != 1)
		return;
	if (p->timed)
		timer_cancel(broker_timers(call_broker(p->call)), &p->timer);
	let_go(p);
	tell_leaders(p);
	const struct produce_request *r = p->call->request;
	p->call->sent = sent;
	if (r->acks == 0)
		end_without_answer(p);
	else if (p->cut_off)
		call_close(p->call, NULL);
	else
		call_answer(p->call, &p->response);
}

static void appended(struct append *a)
{
	struct item *i = (struct item *)((char *)a - offsetof(struct item, append));
	struct produce_response_partition *answer = i->answer;
	answer->log_start_offset = a->log_start_offset;
	if (a->code < 0 && a->code != ERR_TIMED_OUT) {
		refuse(i, kafka_error_of(a->code));
	} else {
		answer->error_code = (int16_t)kafka_error_of(a->code);
		answer->base_offset = a->base_offset;
		answer->log_append_time_ms = a->log_append_time_ms;
	}
	if (a->code == ERR_TIMED_OUT && !partition_has_lease(i->partition))
		i->produce->cut_off = true;
	one_done(i->produce);
}

/* ---- patience ---- */

/* Those that wait for the disk, or for other replicas, wait no longer. The last of them would end the request: it is held until all were looked at. */
static void give_up(struct produce *p)
{
	int32_t left = p->left;
	while (left > 0 && !atomic_compare_exchange_weak(&p->left, &left, left + 1))
		;
	if (!left)
		return; /* it is just being answered */
	for (int32_t k = 0; k < p->count; k++)
		if (p->item[k].partition)
			partition_append_give_up(p->item[k].partition, &p->item[k].append);
	one_done(p);
}

static void timed_out(struct timer *t, void *arg)
{
	(void)t;
	give_up(arg);
}

static void cancelled(struct net_request *r, enum net_why why)
{
	struct call *c = net_room(r);
	struct produce *p = c->op;
	if (why == NET_PEER_DONE || !p)
		return;
	p->cancelled = true;
	if (p->begun)
		give_up(p);
}

/* Every item was begun: from here on patience counts. locks: none; the request is held. */
static void be_patient(struct produce *p)
{
	const struct produce_request *r = p->call->request;
	if (p->acks != ACKS_ALL || p->left == 1)
		return;
	p->timer = (struct timer){.fire = timed_out, .arg = p};
	p->timed = timer_arm(broker_timers(call_broker(p->call)), &p->timer, mono_after_ms(p->come, r->timeout_ms > 0 ? r->timeout_ms : 0)) == 0;
	p->begun = true;
	if (!p->timed || p->cancelled)
		give_up(p);
}

/* ---- the beginning ---- */

static void tell_refusal(struct item *i, enum ingest_code code)
{
	struct call *c = i->produce->call;
	const struct ingest_refusal *why = &i->refusal;
	refuse(i, code_of_refusal(code));
	if (!why->error_count)
		return;
	i->answer->record_errors.v = call_array(c, &wire_produce_response_record_error, (int32_t)why->error_count);
	if (!i->answer->record_errors.v)
		return;
	i->answer->record_errors.n = (int32_t)why->error_count;
	for (uint32_t k = 0; k < why->error_count; k++) {
		i->answer->record_errors.v[k].batch_index = why->errors[k].index;
		i->answer->record_errors.v[k].batch_index_error_message = wire_string(why->errors[k].text);
	}
	i->answer->error_message = wire_string(why->why.text);
}

/* The partition is acquired. */
static void begin_item(struct item *i, const struct produce_request_partition *asked, struct ingest *g)
{
	struct ingest_rule rule;
	topic_ingest_rule(partition_topic(i->partition), &rule);
	rule.no_zstd = i->produce->call->version < 7;
	enum ingest_code code = ingest_batch(g, &i->set, (void *)asked->records.p, asked->records.n > 0 ? (size_t)asked->records.n : 0, &rule, wall_now_ms(), &i->refusal);
	if (code != INGEST_OK) {
		tell_refusal(i, code);
		one_done(i->produce);
		return;
	}
	i->append.set = &i->set;
	i->append.acks = i->produce->acks;
	i->append.done = appended;
	partition_append(i->partition, &i->append);
}

/* Fills item and answer for every partition; those that are not there are refused. false: no memory. */
static bool lay_out(struct call *c, struct produce *p)
{
	const struct produce_request *r = c->request;
	struct produce_response *a = &p->response;
	wire_init(&wire_produce_response, a);
	for (int32_t t = 0; t < r->topic_data.n; t++)
		p->count += r->topic_data.v[t].partition_data.n;
	a->responses.v = call_array(c, &wire_produce_response_topic, r->topic_data.n);
	p->item = call_get(c, (size_t)p->count * sizeof *p->item);
	if (!a->responses.v || !p->item)
		return false;
	a->responses.n = r->topic_data.n;
	struct item *i = p->item;
	for (int32_t t = 0; t < r->topic_data.n; t++) {
		const struct produce_request_topic *asked = &r->topic_data.v[t];
		struct produce_response_topic *topic = &a->responses.v[t];
		topic->name = asked->name;
		topic->topic_id = asked->topic_id;
		topic->partition_responses.v = call_array(c, &wire_produce_response_partition, asked->partition_data.n);
		if (!topic->partition_responses.v)
			return false;
		topic->partition_responses.n = asked->partition_data.n;
		for (int32_t k = 0; k < asked->partition_data.n; k++, i++) {
			i->produce = p;
			i->answer = &topic->partition_responses.v[k];
			i->answer->index = asked->partition_data.v[k].index;
			record_set_init(&i->set);
		}
	}
	return true;
}

/* Every item is begun, in order. wait: logs that are not open may be opened. g: through which all batches go, one after the other; the call may be over when this returns. */
static void begin(struct call *c, bool wait, struct ingest *g)
{
	struct produce *p = c->op;
	const struct produce_request *r = c->request;
	struct item *i = p->item;
	p->left = p->count + 1;
	for (int32_t t = 0; t < r->topic_data.n; t++)
		for (int32_t k = 0; k < r->topic_data.v[t].partition_data.n; k++, i++) {
			struct err e = ERR_INIT;
			int rc = !i->partition ? 0 : wait ? partition_acquire(i->partition, &e) : 0;
			if (i->partition && rc == 0) {
				begin_item(i, &r->topic_data.v[t].partition_data.v[k], g);
				continue;
			}
			if (i->partition) {
				refuse(i, kafka_error_of(rc));
				partition_unref(i->partition);
				i->partition = NULL;
			}
			one_done(p);
		}
	be_patient(p);
	one_done(p);
}

static void begin_in_pool(struct call *c)
{
	struct ingest own;
	ingest_init(&own);
	begin(c, true, &own);
	ingest_release(&own);
}

/* Finds all partitions, and acquires them where that costs nothing. false: some log is not open; none is acquired then. */
static bool find_partitions(struct call *c, struct produce *p)
{
	const struct produce_request *r = c->request;
	struct item *i = p->item;
	bool open = true;
	for (int32_t t = 0; t < r->topic_data.n; t++) {
		const struct produce_request_topic *asked = &r->topic_data.v[t];
		int16_t error = KAFKA_NONE;
		struct topic *topic = call_topic(c, asked->name, c->version >= 13 ? &asked->topic_id : NULL, &error);
		for (int32_t k = 0; k < asked->partition_data.n; k++, i++) {
			i->partition = topic ? topic_partition(topic, asked->partition_data.v[k].index) : NULL;
			if (!i->partition)
				refuse(i, topic ? KAFKA_UNKNOWN_TOPIC_OR_PARTITION : error);
			else if (topic_is_internal(topic) || call_is_elsewhere(c, i->partition)) {
				refuse(i, topic_is_internal(topic) ? KAFKA_INVALID_TOPIC_EXCEPTION : KAFKA_NOT_LEADER_OR_FOLLOWER); /* Kafka: internal topics are written by the broker alone */
				partition_unref(i->partition);
				i->partition = NULL;
			}
		}
		topic_unref(topic);
	}
	int32_t acquired = 0;
	for (; acquired < p->count && open; acquired++)
		open = !p->item[acquired].partition || partition_try_acquire(p->item[acquired].partition);
	for (int32_t k = 0; !open && k < acquired - 1; k++)
		if (p->item[k].partition)
			partition_release(p->item[k].partition);
	return open;
}

static void refuse_all(struct call *c, struct produce *p, int16_t error)
{
	for (int32_t k = 0; k < p->count; k++)
		refuse(&p->item[k], error);
	c->sent = sent;
	call_answer(c, &p->response);
}

void handle_produce(struct call *c)
{
	const struct produce_request *r = c->request;
	struct produce *p = call_get(c, sizeof *p);
	if (!p || !lay_out(c, p)) {
		call_close(c, "no memory for a Produce");
		return;
	}
	c->op = p;
	p->call = c;
	p->come = mono_now();
	p->acks = r->acks == -1 ? ACKS_ALL : ACKS_LEADER;
	c->r->cancel = cancelled;
	if (r->acks < -1 || r->acks > 1)
		refuse_all(c, p, KAFKA_INVALID_REQUIRED_ACKS);
	else if (find_partitions(c, p))
		begin(c, false, call_ingest(c));
	else
		call_to_pool(c, begin_in_pool, true);
}

/* ---- InitProducerId ---- */

struct init_call { struct init_producer_id init; struct call *call; };

static void got_producer_id(struct init_producer_id *i)
{
	struct init_call *x = (struct init_call *)i;
	struct init_producer_id_response a;
	wire_init(&wire_init_producer_id_response, &a);
	a.error_code = i->code == 0 ? KAFKA_NONE : i->code == ERR_INVALID ? KAFKA_INVALID_REQUEST : i->code == ERR_UNSUPPORTED ? KAFKA_UNSUPPORTED_VERSION
																: KAFKA_COORDINATOR_LOAD_IN_PROGRESS;
	a.producer_id = i->code == 0 ? i->producer_id : -1;
	a.producer_epoch = i->code == 0 ? i->producer_epoch : -1;
	call_answer(x->call, &a);
}

void handle_init_producer_id(struct call *c)
{
	const struct init_producer_id_request *r = c->request;
	struct init_call *x = call_get(c, sizeof *x);
	char *id = x && r->transactional_id.n >= 0 ? call_text(c, r->transactional_id) : NULL;
	if (!x || (r->transactional_id.n >= 0 && !id)) {
		call_close(c, "no memory");
		return;
	}
	x->call = c;
	x->init = (struct init_producer_id){.transactional_id = id, .producer_id = r->producer_id, .producer_epoch = r->producer_epoch, .done = got_producer_id};
	producer_ids_init(call_broker(c), &x->init);
}

/* ---- DescribeProducers (KIP-664) ---- */

struct listing { struct call *call; struct describe_producers_response_partition *answer; int32_t cap; bool failed; };

static void add_producer(void *arg, const struct producer_state *s)
{
	struct listing *l = arg;
	struct describe_producers_response_partition *a = l->answer;
	if (a->active_producers.n == l->cap) {
		int32_t cap = l->cap ? 2 * l->cap : 16;
		void *v = call_array(l->call, &wire_describe_producers_response_active_producer, cap);
		if (!v) {
			l->failed = true;
			return;
		}
		if (l->cap)
			memcpy(v, a->active_producers.v, (size_t)l->cap * sizeof *a->active_producers.v);
		a->active_producers.v = v;
		l->cap = cap;
	}
	struct describe_producers_response_active_producer *p = &a->active_producers.v[a->active_producers.n++];
	p->producer_id = s->id;
	p->producer_epoch = s->epoch;
	p->last_sequence = s->last_sequence;
	p->last_timestamp = s->last_timestamp_ms;
	p->coordinator_epoch = s->coordinator_epoch;
	p->current_txn_start_offset = s->txn_first_offset;
}

static bool describe_partition(struct call *c, struct wire_string topic, struct describe_producers_response_partition *a)
{
	struct listing l = {.call = c, .answer = a};
	struct err e = ERR_INIT;
	struct partition *p = call_partition(c, topic, NULL, a->partition_index, &a->error_code);
	if (!p)
		return true;
	int rc = partition_acquire(p, &e);
	if (rc == 0) {
		rc = partition_producers(p, add_producer, &l, &e);
		partition_release(p);
	}
	partition_unref(p);
	if (rc < 0)
		a->error_code = kafka_error_of(rc);
	return !l.failed;
}

void handle_describe_producers(struct call *c)
{
	const struct describe_producers_request *r = c->request;
	struct describe_producers_response a;
	wire_init(&wire_describe_producers_response, &a);
	bool good = (a.topics.v = call_array(c, &wire_describe_producers_response_topic, r->topics.n));
	for (int32_t t = 0; good && t < r->topics.n; t++) {
		struct describe_producers_response_topic *topic = &a.topics.v[t];
		topic->name = r->topics.v[t].name;
		topic->partitions.n = r->topics.v[t].partition_indexes.n;
		good = (topic->partitions.v = call_array(c, &wire_describe_producers_response_partition, topic->partitions.n));
		for (int32_t k = 0; good && k < topic->partitions.n; k++) {
			topic->partitions.v[k].partition_index = r->topics.v[t].partition_indexes.v[k];
			good = describe_partition(c, topic->name, &topic->partitions.v[k]);
		}
	}
	a.topics.n = r->topics.n;
	if (good)
		call_answer(c, &a);
	else
		call_close(c, "no memory");
}
