/* Elections that are asked for, and those for balance. What an election is, is in decide.c. */
#include "cluster/control/state.h"

/* ---- ElectLeaders ---- */

static void want_election(struct brain *b, struct call *c, struct part *p, bool unclean, struct elect_leaders_response_partition *result)
{
	struct item *i = item_new(b, c, result);
	if (!i)
		return;
	i->unclean = unclean;
	item_put(b, p, ITEM_ELECT, i);
}

static void elect_one(struct brain *b, struct call *c, int32_t t, int32_t number, bool unclean, struct elect_leaders_response_partition *result)
{
	*result = (struct elect_leaders_response_partition){.partition_id = number, .error_message = WIRE_NULL_STRING};
	struct part *p = part_find(b, t, number);
	if (!p || b->topic[t].phase == TOPIC_NEW || p->number >= b->topic[t].grows_from) {
		result->error_code = KAFKA_UNKNOWN_TOPIC_OR_PARTITION;
		result->error_message = wire_string("there is no such partition");
	} else if (b->topic[t].phase != TOPIC_LIVE) {
		result->error_code = KAFKA_INVALID_TOPIC_EXCEPTION;
		result->error_message = wire_string("the topic is being deleted");
	} else {
		want_election(b, c, p, unclean, result);
	}
}

static struct elect_leaders_response_topic *answer_topic(struct brain *b, struct call *c, const char *name, int32_t n, int32_t partitions)
{
	struct elect_leaders_response *answer = c->response;
	struct elect_leaders_response_topic *to = &answer->replica_election_results.v[answer->replica_election_results.n];
	char *copy = brain_need(b, arena_get(&c->arena, (size_t)n, NULL));
	to->partition_result.n = 0;
	to->partition_result.v = brain_need(b, arena_get(&c->arena, (size_t)partitions * sizeof *to->partition_result.v, NULL));
	if (!brain_ok(b))
		return NULL;
	memcpy(copy, name, (size_t)n);
	to->topic = (struct wire_string){copy, n};
	answer->replica_election_results.n++;
	return to;
}

void brain_elect_leaders(struct brain *b, const struct elect_leaders_request *r, void *ticket)
{
	struct call *c = call_new(b, ticket, API_ELECT_LEADERS);
	if (!c)
		return;
	struct elect_leaders_response *answer = c->response;
	bool unclean = r->election_type == 1;
	if (r->election_type != 0 && r->election_type != 1) {
		answer->error_code = KAFKA_INVALID_REQUEST;
		call_done(b, c);
		return;
	}
	c->all = r->topic_partitions.n < 0;
	answer->replica_election_results.v =
		brain_need(b, arena_get(&c->arena, (size_t)(c->all ? b->topics : r->topic_partitions.n) * sizeof *answer->replica_election_results.v, NULL));
	for (int32_t t = 0; brain_ok(b) && c->all && t < b->topics; t++) {
		if (!b->topic[t].name || b->topic[t].phase != TOPIC_LIVE)
			continue;
		struct elect_leaders_response_topic *to = answer_topic(b, c, b->topic[t].name, (int32_t)strlen(b->topic[t].name), b->topic[t].grows_from);
		for (int32_t i = 0; to && i < b->topic[t].grows_from; i++)
			elect_one(b, c, t, i, unclean, &to->partition_result.v[to->partition_result.n++]);
	}
	for (int32_t t = 0; brain_ok(b) && t < r->topic_partitions.n; t++) {
		const struct elect_leaders_request_topic *from = &r->topic_partitions.v[t];
		struct elect_leaders_response_topic *to = answer_topic(b, c, from->topic.s, from->topic.n, from->partitions.n);
		int32_t row = topic_by_name(b, from->topic.s, (size_t)from->topic.n);
		for (int32_t i = 0; to && i < from->partitions.n; i++)
			elect_one(b, c, row, from->partitions.v[i], unclean, &to->partition_result.v[to->partition_result.n++]);
	}
	if (c->left > 1)
		brokers_ask(b);
	if (brain_ok(b))
		call_done(b, c);
}

/* Who has asked for all is told of those that needed one. */
void elect_leave_out(struct elect_leaders_response *r)
{
	int32_t topics = 0;
	for (int32_t t = 0; t < r->replica_election_results.n; t++) {
		struct elect_leaders_response_topic *topic = &r->replica_election_results.v[t];
		int32_t n = 0;
		for (int32_t i = 0; i < topic->partition_result.n; i++) {
			if (topic->partition_result.v[i].error_code != KAFKA_ELECTION_NOT_NEEDED)
				topic->partition_result.v[n++] = topic->partition_result.v[i];
		}
		topic->partition_result.n = n;
		if (n)
			r->replica_election_results.v[topics++] = *topic;
	}
	r->replica_election_results.n = topics;
}

/* ---- balance ---- */

/* Brokers that lead too few of the partitions that they are the first replica of get those back. */
void elect_look(struct brain *b, int64_t now_ms)
{
	if (!b->o.auto_balance || now_ms < b->next_balance_ms)
		return;
	b->next_balance_ms = now_ms + b->o.balance_interval_ms;
	bool any = false;
	int32_t *of = brain_need(b, calloc((size_t)b->brokers + 1, 2 * sizeof *of));
	for (int pass = 0; of && pass < 2; pass++) {
		for (int32_t row = 0; row < b->parts; row++) {
			struct part *p = &b->part[row];
			if (!part_is_live(b, p) || !p->exists)
				continue;
			const struct broker *r = broker_find(b, ids_first(p->replicas));
			if (!r)
				continue;
			int32_t *counts = &of[2 * (r - b->broker)];
			if (pass == 0) {
				counts[0]++;
				counts[1] += p->leader != r->id;
			} else if (p->leader != r->id && (int64_t)counts[1] * 100 > (int64_t)counts[0] * b->o.imbalance_percent && !p->item[ITEM_ELECT] && ids_has(p->isr, r->id) &&
				   replica_standing(b, p, r->id) == GOOD) {
				want_election(b, NULL, p, false, NULL);
				any = true;
			}
		}
	}
	if (any)
		brokers_ask(b);
	free(of);
}

/* ---- log ends ---- */

enum { ASK_AGAIN_MS = 200 };

/* What an unclean member has. */
void elect_ended(struct brain *b, struct part *p, const struct list_offsets_response_partition *r, int32_t broker)
{
	for (int32_t i = 0; p->end && i < ids_n(p->isr); i++) {
		if (p->end[i].broker != broker)
			continue;
		if (!r->error_code || r->error_code == KAFKA_UNKNOWN_TOPIC_OR_PARTITION || r->error_code == KAFKA_UNKNOWN_TOPIC_ID)
			p->end[i] = (struct log_end){broker, r->error_code ? -1 : r->leader_epoch, r->error_code ? -1 : r->offset, true};
		else if (r->error_code == KAFKA_KAFKA_STORAGE_ERROR)
			bits_set(&broker_find(b, broker)->offline, part_row(b, p));
		else if (b->next_wait_ms > b->now_ms + ASK_AGAIN_MS) /* it cannot say yet */
			b->next_wait_ms = b->now_ms + ASK_AGAIN_MS;
		if (p->end[i].known || bits_has(&broker_find(b, broker)->offline, part_row(b, p)))
			part_dirty(b, part_row(b, p));
	}
}
