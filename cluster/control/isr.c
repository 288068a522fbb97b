/* AlterPartition (KIP-497, KIP-704, KIP-841, KIP-903): a leader asks for another ISR. */
#include "cluster/control/state.h"

static bool is_what_is(const struct part *p, const struct item *i)
{
	return p->leader == i->broker && p->recovering == i->recovering && ids_same(p->isr, i->wanted);
}

static bool is_eligible(const struct brain *b, const struct part *p, int32_t id)
{
	return replica_standing(b, p, id) == GOOD;
}

bool alter_is_fine(struct brain *b, struct part *p, const struct item *i, int16_t *error)
{
	*error = KAFKA_NONE;
	/* It knows more than this controller: there is a newer one. */
	if (i->partition_epoch > p->version || i->leader_epoch > p->leader_epoch)
		*error = KAFKA_NOT_CONTROLLER;
	else if (i->leader_epoch < p->leader_epoch)
		*error = KAFKA_FENCED_LEADER_EPOCH;
	else if (is_what_is(p, i))
		return false; /* done already: an answer was lost */
	else if (i->partition_epoch < p->version)
		*error = KAFKA_INVALID_UPDATE_VERSION;
	else if (i->broker != p->leader || !ids_has(i->wanted, p->leader) || i->wanted->n > BRAIN_MAX_REPLICAS)
		*error = KAFKA_INVALID_REQUEST;
	else if (i->recovering && (i->wanted->n > 1 || !p->recovering))
		*error = KAFKA_INVALID_REQUEST;
	struct ids_room once = {0};
	for (int32_t k = 0; !*error && k < i->wanted->n; k++) {
		ids_add(&once, i->wanted->v[k]);
		if (once.n != k + 1 || !ids_has(p->replicas, i->wanted->v[k]))
			*error = KAFKA_INVALID_REQUEST;
		else if (!is_eligible(b, p, i->wanted->v[k]))
			*error = KAFKA_INELIGIBLE_REPLICA;
	}
	return !*error;
}

void alter_answer(struct brain *b, struct part *p, int16_t error)
{
	struct item *i = p->item[ITEM_ALTER];
	struct alter_partition_response_partition *r = i->result;
	if (!error) {
		r->leader_id = p->leader;
		r->leader_epoch = p->leader_epoch;
		r->partition_epoch = p->version;
		r->leader_recovery_state = p->recovering;
		r->isr.n = ids_n(p->isr);
		r->isr.v = brain_need(b, arena_get(&i->call->arena, (size_t)r->isr.n * sizeof *r->isr.v, NULL));
		if (r->isr.v)
			memcpy(r->isr.v, p->isr->v, (size_t)r->isr.n * sizeof *r->isr.v);
	}
	item_done(b, p, ITEM_ALTER, error, NULL);
}

/* A member whose registration is not the one that the leader has seen fetching. */
static bool epochs_match(const struct brain *b, const struct alter_partition_request_partition *r)
{
	for (int32_t i = 0; i < r->new_isr_with_epochs.n; i++) {
		const struct broker *member = broker_find(b, r->new_isr_with_epochs.v[i].broker_id);
		int64_t epoch = r->new_isr_with_epochs.v[i].broker_epoch;
		if (!broker_alive(member) || (epoch != -1 && epoch != member->epoch))
			return false;
	}
	return true;
}

static void alter_one(struct brain *b, struct call *c, int32_t broker, int32_t row, const struct alter_partition_request_partition *r, struct alter_partition_response_partition *result)
{
	*result = (struct alter_partition_response_partition){.partition_index = r->partition_index};
	struct part *p = part_find(b, row, r->partition_index);
	if (row < 0)
		result->error_code = KAFKA_UNKNOWN_TOPIC_ID;
	else if (!p || !p->exists || b->topic[row].phase != TOPIC_LIVE)
		result->error_code = KAFKA_UNKNOWN_TOPIC_OR_PARTITION;
	else if (r->leader_epoch == p->leader_epoch && r->partition_epoch == p->version && !epochs_match(b, r))
		result->error_code = KAFKA_INELIGIBLE_REPLICA;
	if (result->error_code)
		return;
	struct item *i = item_new(b, c, result);
	if (!i)
		return;
	i->wanted = brain_need(b, ids_make(NULL, r->new_isr_with_epochs.n));
	for (int32_t k = 0; k < ids_n(i->wanted); k++)
		i->wanted->v[k] = r->new_isr_with_epochs.v[k].broker_id;
	i->leader_epoch = r->leader_epoch;
	i->partition_epoch = r->partition_epoch;
	i->broker = broker;
	i->recovering = r->leader_recovery_state == 1;
	item_put(b, p, ITEM_ALTER, i);
}

void brain_alter_partition(struct brain *b, const struct alter_partition_request *r, void *ticket)
{
	struct call *c = call_new(b, ticket, API_ALTER_PARTITION);
	if (!c)
		return;
	struct alter_partition_response *answer = c->response;
	struct broker *from = broker_find(b, r->broker_id);
	if (!broker_alive(from) || from->epoch != r->broker_epoch) {
		answer->error_code = KAFKA_STALE_BROKER_EPOCH;
		call_done(b, c);
		return;
	}
	broker_has_proved(b, from, b->stamp);
	answer->topics.v = brain_need(b, arena_get(&c->arena, (size_t)r->topics.n * sizeof *answer->topics.v, NULL));
	for (int32_t t = 0; t < r->topics.n && brain_ok(b); t++) {
		const struct alter_partition_request_topic *topic = &r->topics.v[t];
		struct alter_partition_response_topic *to = &answer->topics.v[answer->topics.n++];
		*to = (struct alter_partition_response_topic){.topic_id = topic->topic_id};
		to->partitions.v = brain_need(b, arena_get(&c->arena, (size_t)topic->partitions.n * sizeof *to->partitions.v, NULL));
		int32_t row = topic_by_id(b, topic->topic_id.b);
		for (int32_t i = 0; i < topic->partitions.n && brain_ok(b); i++)
			alter_one(b, c, r->broker_id, row, &topic->partitions.v[i], &to->partitions.v[to->partitions.n++]);
	}
	if (brain_ok(b))
		call_done(b, c);
}
