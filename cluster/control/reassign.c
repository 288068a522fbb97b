/* Reassignment: replicas on other brokers, without a moment with fewer of them. README.md, "Reassignment". */
#include "cluster/control/state.h"

void target_of(const struct brain_assignment *a, struct ids_room *target)
{
	target->n = 0;
	for (int32_t i = 0; i < ids_n(a->replicas); i++) {
		if (!ids_has(a->removing, a->replicas->v[i]))
			ids_add(target, a->replicas->v[i]);
	}
}

/* Where a reassignment that is under way began. */
static void origin_of(const struct part *p, struct ids_room *origin)
{
	origin->n = 0;
	for (int32_t i = 0; i < ids_n(p->replicas); i++) {
		if (!ids_has(p->adding, p->replicas->v[i]))
			ids_add(origin, p->replicas->v[i]);
	}
}

static bool refuse(int16_t *error, const char **message, int16_t code, const char *text)
{
	*error = code;
	*message = text;
	return false;
}

static bool is_valid(const struct brain *b, const struct item *i, const struct ids_room *origin, const struct ids_room *adding, int16_t *error, const char **message)
{
	struct ids_room once = {0};
	if (!ids_n(i->wanted))
		return refuse(error, message, KAFKA_INVALID_REPLICA_ASSIGNMENT, "the list of replicas is empty");
	if (i->wanted->n > BRAIN_MAX_REPLICAS)
		return refuse(error, message, KAFKA_INVALID_REPLICA_ASSIGNMENT, "the list of replicas is too long");
	for (int32_t k = 0; k < i->wanted->n; k++) {
		if (i->wanted->v[k] < 0)
			return refuse(error, message, KAFKA_INVALID_REPLICA_ASSIGNMENT, "a broker id in the list of replicas is negative");
		ids_add(&once, i->wanted->v[k]);
	}
	if (once.n != i->wanted->n)
		return refuse(error, message, KAFKA_INVALID_REPLICA_ASSIGNMENT, "a broker stands twice in the list of replicas");
	for (int32_t k = 0; k < adding->n; k++) {
		const struct broker *r = broker_find(b, adding->v[k]);
		if (!broker_alive(r) || r->leaving)
			return refuse(error, message, KAFKA_INVALID_REPLICA_ASSIGNMENT, "a broker that would get a replica is not alive");
	}
	if (i->keeps_factor && once.n != origin->n)
		return refuse(error, message, KAFKA_INVALID_REPLICATION_FACTOR, "the replication factor would change");
	return true;
}

bool reassign_to(struct brain *b, const struct part *p, const struct item *i, struct ids_room *replicas, struct ids_room *adding, struct ids_room *removing, int16_t *error, const char **message)
{
	struct ids_room origin;
	const int32_t *wanted = i->wanted ? i->wanted->v : origin.v;
	origin_of(p, &origin);
	if (!i->wanted && !part_moves(p))
		return refuse(error, message, KAFKA_NO_REASSIGNMENT_IN_PROGRESS, "no reassignment of this partition is under way");
	int32_t n = i->wanted ? i->wanted->n : origin.n;
	replicas->n = adding->n = removing->n = 0;
	for (int32_t k = 0; k < n; k++)
		ids_add(replicas, wanted[k]);
	for (int32_t k = 0; k < origin.n; k++) {
		ids_add(replicas, origin.v[k]);
		if (!ids_has_n(wanted, n, origin.v[k]))
			ids_add(removing, origin.v[k]);
	}
	for (int32_t k = 0; k < n; k++) {
		if (!ids_has_n(origin.v, origin.n, wanted[k]))
			ids_add(adding, wanted[k]);
	}
	struct ids_room unheard = {0}; /* of brokers that have no replica yet */
	for (int32_t k = 0; k < adding->n; k++) {
		if (!ids_has(p->replicas, adding->v[k]))
			ids_add(&unheard, adding->v[k]);
	}
	if (i->wanted && !is_valid(b, i, &origin, &unheard, error, message))
		return false;
	for (int32_t k = 0; k < ids_n(p->isr); k++) {
		if (ids_has_n(replicas->v, replicas->n, p->isr->v[k]))
			return true;
	}
	return refuse(error, message, KAFKA_INVALID_REPLICA_ASSIGNMENT, "no replica that would be left is in sync: it would take an unclean election");
}

void brain_reassign(struct brain *b, const struct alter_partition_reassignments_request *r, void *ticket)
{
	struct call *c = call_new(b, ticket, API_ALTER_PARTITION_REASSIGNMENTS);
	if (!c)
		return;
	struct alter_partition_reassignments_response *answer = c->response;
	answer->allow_replication_factor_change = r->allow_replication_factor_change;
	answer->error_message = WIRE_NULL_STRING;
	answer->responses.v = brain_need(b, arena_get(&c->arena, (size_t)r->topics.n * sizeof *answer->responses.v, NULL));
	for (int32_t t = 0; t < r->topics.n && brain_ok(b); t++) {
		const struct alter_partition_reassignments_request_topic *topic = &r->topics.v[t];
		struct alter_partition_reassignments_response_topic *to = &answer->responses.v[answer->responses.n++];
		char *name = brain_need(b, arena_get(&c->arena, (size_t)topic->name.n, NULL));
		to->partitions.n = 0;
		to->partitions.v = brain_need(b, arena_get(&c->arena, (size_t)topic->partitions.n * sizeof *to->partitions.v, NULL));
		if (!brain_ok(b))
			break;
		memcpy(name, topic->name.s, (size_t)topic->name.n);
		to->name = (struct wire_string){name, topic->name.n};
		int32_t row = topic_by_name(b, topic->name.s, (size_t)topic->name.n);
		for (int32_t i = 0; i < topic->partitions.n; i++) {
			struct alter_partition_reassignments_response_partition *result = &to->partitions.v[to->partitions.n++];
			*result = (struct alter_partition_reassignments_response_partition){.partition_index = topic->partitions.v[i].partition_index, .error_message = WIRE_NULL_STRING};
			struct part *p = part_find(b, row, result->partition_index);
			if (!p || b->topic[row].phase != TOPIC_LIVE || p->number >= b->topic[row].grows_from) {
				result->error_code = KAFKA_UNKNOWN_TOPIC_OR_PARTITION;
				result->error_message = wire_string("there is no such partition");
				continue;
			}
			struct item *item = item_new(b, c, result);
			if (!item)
				return;
			if (topic->partitions.v[i].replicas.n >= 0)
				item->wanted = brain_need(b, ids_make(topic->partitions.v[i].replicas.v, topic->partitions.v[i].replicas.n));
			item->keeps_factor = !r->allow_replication_factor_change;
			item_put(b, p, ITEM_REASSIGN, item);
		}
	}
	if (brain_ok(b))
		call_done(b, c);
}

/* ---- listing ---- */

static bool copy_ids(struct brain *b, struct arena *a, const struct ids *from, int32_t **v, int32_t *n)
{
	*n = ids_n(from);
	*v = brain_need(b, arena_get(a, (size_t)*n * sizeof **v, NULL));
	if (*v && *n)
		memcpy(*v, from->v, (size_t)*n * sizeof **v);
	return brain_ok(b);
}

static void list_one(struct brain *b, struct call *c, struct list_partition_reassignments_response_topic *to, const struct part *p)
{
	if (!p || !part_is_live(b, p) || !part_moves(p))
		return;
	struct list_partition_reassignments_response_partition *r = &to->partitions.v[to->partitions.n];
	r->partition_index = p->number;
	if (copy_ids(b, &c->arena, p->replicas, &r->replicas.v, &r->replicas.n) && copy_ids(b, &c->arena, p->adding, &r->adding_replicas.v, &r->adding_replicas.n) &&
	    copy_ids(b, &c->arena, p->removing, &r->removing_replicas.v, &r->removing_replicas.n))
		to->partitions.n++;
}

/* numbers NULL: all of the topic's. */
static void list_topic(struct brain *b, struct call *c, int32_t row, const int32_t *numbers, int32_t n)
{
	struct list_partition_reassignments_response *answer = c->response;
	struct list_partition_reassignments_response_topic *to = &answer->topics.v[answer->topics.n];
	const struct topic *t = &b->topic[row];
	to->name = wire_string(t->name);
	to->partitions.n = 0;
	to->partitions.v = brain_need(b, arena_get(&c->arena, (size_t)(numbers ? n : t->parts) * sizeof *to->partitions.v, NULL));
	for (int32_t i = 0; brain_ok(b) && i < (numbers ? n : t->parts); i++)
		list_one(b, c, to, part_find(b, row, numbers ? numbers[i] : i));
	if (to->partitions.n)
		answer->topics.n++;
}

void brain_list_reassignments(struct brain *b, const struct list_partition_reassignments_request *r, void *ticket)
{
	struct call *c = call_new(b, ticket, API_LIST_PARTITION_REASSIGNMENTS);
	if (!c)
		return;
	struct list_partition_reassignments_response *answer = c->response;
	answer->error_message = WIRE_NULL_STRING;
	answer->topics.v = brain_need(b, arena_get(&c->arena, (size_t)(r->topics.n < 0 ? b->topics : r->topics.n) * sizeof *answer->topics.v, NULL));
	for (int32_t t = 0; brain_ok(b) && t < r->topics.n; t++) {
		int32_t row = topic_by_name(b, r->topics.v[t].name.s, (size_t)r->topics.v[t].name.n);
		if (row >= 0 && r->topics.v[t].partition_indexes.n > 0)
			list_topic(b, c, row, r->topics.v[t].partition_indexes.v, r->topics.v[t].partition_indexes.n);
	}
	for (int32_t t = 0; brain_ok(b) && r->topics.n < 0 && t < b->topics; t++) {
		if (b->topic[t].name && b->topic[t].phase == TOPIC_LIVE)
			list_topic(b, c, t, NULL, 0);
	}
	if (brain_ok(b))
		call_done(b, c);
}
