/* Topics are made, grow, and are deleted. README.md, "A topic is created", "A topic is deleted". */
#include "cluster/control/placement.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/control/state.h"
#include "store/dirs.h"

/* ---- assignments ---- */

/* Sentences are those of Apache Kafka 4.1, where it has any: clients print them. */
struct refusal { int16_t error; const char *message; };

static bool refuse(struct refusal *r, int16_t error, const char *message)
{
	*r = (struct refusal){error, message};
	return false;
}

/* message: until the next one. */
__attribute__((format(printf, 4, 5))) static bool refuse_with(struct brain *b, struct refusal *r, int16_t error, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	vsnprintf(b->said, sizeof b->said, fmt, args);
	va_end(args);
	return refuse(r, error, b->said);
}

static bool give_replicas(struct brain *b, struct topic *t, int32_t number, const int32_t *v, int32_t n)
{
	struct part *p = &b->part[t->part[number]];
	p->replicas = brain_need(b, ids_make(v, n));
	return p->replicas;
}

static bool place_replicas(struct brain *b, int32_t leader, int32_t first, int32_t n, int32_t factor, int32_t *out, struct refusal *why)
{
	struct placement_broker *brokers = brain_need(b, malloc(((size_t)b->brokers + 1) * sizeof *brokers));
	struct err e = ERR_INIT;
	int32_t count = 0, registered = 0;
	for (int32_t i = 0; brokers && i < b->brokers; i++) {
		const struct broker *r = &b->broker[i];
		registered += broker_alive(r);
		if (broker_alive(r) && !r->leaving)
			brokers[count++] = (struct placement_broker){r->id, r->rack};
	}
	int rc = brokers ? placement_make(brokers, count, first, n, factor, leader, &b->o.seed, out, &e) : ERR_NO_MEMORY;
	free(brokers);
	if (rc == ERR_OUT_OF_RANGE && factor > registered)
		return refuse_with(b, why, KAFKA_INVALID_REPLICATION_FACTOR, "Unable to replicate the partition %" PRId32 " time(s): The target replication factor of %" PRId32 " cannot be reached because "
				   "only %" PRId32 " broker(s) are registered.", factor, factor, registered);
	if (rc == ERR_OUT_OF_RANGE)
		return refuse_with(b, why, KAFKA_INVALID_REPLICATION_FACTOR, "Unable to replicate the partition %" PRId32 " time(s): The target replication factor of %" PRId32 " cannot be reached because "
				   "only %" PRId32 " of %" PRId32 " broker(s) are not shutting down.", factor, factor, count, registered);
	return rc == 0 || brain_need(b, NULL);
}

/* What a user has chosen: partitions from `first` on, each once, replicas alive and once each, as many for each. assignment: of numbers (CreateTopics). */
static bool is_fine(struct brain *b, const int32_t *v, int32_t n, int32_t factor, struct refusal *why)
{
	struct ids_room once = {0};
	if (n <= 0)
		return refuse(why, KAFKA_INVALID_REPLICA_ASSIGNMENT, "The manual partition assignment includes an empty replica list.");
	if (n > BRAIN_MAX_REPLICAS)
		return refuse(why, KAFKA_INVALID_REPLICA_ASSIGNMENT, "a partition with too many replicas");
	for (int32_t i = 0; i < n; i++) {
		int32_t before = once.n;
		if (!broker_alive(broker_find(b, v[i])))
			return refuse_with(b, why, KAFKA_INVALID_REPLICA_ASSIGNMENT, "The manual partition assignment includes broker %" PRId32 ", but no such broker is registered.", v[i]);
		ids_add(&once, v[i]);
		if (once.n == before)
			return refuse_with(b, why, KAFKA_INVALID_REPLICA_ASSIGNMENT, "The manual partition assignment includes the broker %" PRId32 " more than once.", v[i]);
	}
	return n == factor || refuse_with(b, why, KAFKA_INVALID_REPLICA_ASSIGNMENT, "The manual partition assignment includes a partition with %" PRId32 " replica(s), but this is not consistent with "
					  "previous partitions, which have %" PRId32 " replica(s).", n, factor);
}

static int assignment_bytes(int32_t partitions, int32_t factor)
{
	int64_t n = (int64_t)partitions * (24 + (int64_t)factor * 12) + 1024;
	return n > INT32_MAX ? INT32_MAX : (int)n;
}

/* ---- creation ---- */

/* Not strndup: there is no NUL behind it, which a strict sanitizer wants to see. */
static char *copy_text(struct brain *b, struct wire_string s)
{
	char *text = brain_need(b, malloc((size_t)s.n + 1));
	if (text) {
		memcpy(text, s.s, (size_t)s.n);
		text[s.n] = '\0';
	}
	return text;
}

static bool copy_config(struct brain *b, struct topic *t, const struct op_config *v, int32_t n)
{
	t->config = brain_need(b, calloc((size_t)n + 1, sizeof *t->config));
	for (int32_t i = 0; t->config && i < n; i++) {
		char *name = copy_text(b, v[i].name), *value = copy_text(b, v[i].value);
		t->config[t->configs++] = (struct op_config){{name, v[i].name.n}, {value, v[i].value.n}};
	}
	return brain_ok(b);
}

/* The replicas of a new topic into out, by partition. */
static bool choose_replicas(struct brain *b, const struct brain_new_topic *n, int32_t partitions, int32_t factor, int32_t *out, struct refusal *why)
{
	if (!n->assignment)
		return place_replicas(b, -1, 0, partitions, factor, out, why);
	for (int32_t i = 0; i < partitions; i++)
		out[(size_t)i * (size_t)factor] = -1;
	for (int32_t i = 0; i < partitions; i++) {
		const struct create_topics_request_assignment *a = &n->assignment[i];
		if (a->partition_index < 0 || a->partition_index >= partitions || out[(size_t)a->partition_index * (size_t)factor] != -1)
			return refuse(why, KAFKA_INVALID_REPLICA_ASSIGNMENT, "partitions should be a consecutive 0-based integer sequence");
		if (!is_fine(b, a->broker_ids.v, a->broker_ids.n, factor, why))
			return false;
		memcpy(&out[(size_t)a->partition_index * (size_t)factor], a->broker_ids.v, (size_t)factor * sizeof *out);
	}
	return true;
}

static bool make_topic(struct brain *b, const struct brain_new_topic *n, int32_t partitions, int32_t factor, const int32_t *replicas, void *ticket)
{
	struct call *c = call_new(b, ticket, BRAIN_TOPIC);
	if (!c)
		return false;
	bool left = config_take_left(b, n->name);
	int32_t row = topic_add(b, n->name, n->id, partitions);
	if (row < 0)
		return false;
	struct topic *t = &b->topic[row];
	t->phase = TOPIC_NEW;
	t->version = -1;
	t->has_config = left;
	t->unclean = n->unclean;
	t->create = c;
	for (int32_t i = 0; i < partitions; i++) {
		if (!give_replicas(b, t, i, replicas + (size_t)i * (size_t)factor, factor))
			return false;
	}
	topic_wants_work(b, row);
	return copy_config(b, t, n->config, n->configs);
}

static const char *colliding(const struct brain *b, const char *name)
{
	for (int32_t i = 0; strpbrk(name, "._") && i < b->topics; i++) {
		if (b->topic[i].name && b->topic[i].phase != TOPIC_GONE && topic_names_collide(b->topic[i].name, name))
			return b->topic[i].name;
	}
	return NULL;
}

void brain_create_topic(struct brain *b, const struct brain_new_topic *n, void *ticket)
{
	struct refusal why = {KAFKA_NONE, NULL};
	int32_t partitions = n->assignment ? n->assignments : n->partitions;
	int32_t factor = n->assignment ? (n->assignments ? n->assignment[0].broker_ids.n : 0) : n->replication_factor;
	int32_t *replicas = NULL;
	if (topic_by_name(b, n->name, strlen(n->name)) >= 0)
		refuse_with(b, &why, KAFKA_TOPIC_ALREADY_EXISTS, "Topic '%s' already exists.", n->name);
	else if (colliding(b, n->name))
		refuse_with(b, &why, KAFKA_INVALID_TOPIC_EXCEPTION, "Topic '%s' collides with existing topic: %s", n->name, colliding(b, n->name));
	else if (topic_by_id(b, n->id) >= 0)
		refuse(&why, KAFKA_INVALID_REQUEST, "a topic with that id exists");
	else if (partitions < 1)
		refuse(&why, KAFKA_INVALID_PARTITIONS, "a topic has at least one partition");
	else if (factor < 1 && n->assignment)
		refuse(&why, KAFKA_INVALID_REPLICA_ASSIGNMENT, "The manual partition assignment includes an empty replica list.");
	else if (factor < 1)
		refuse(&why, KAFKA_INVALID_REPLICATION_FACTOR, "Replication factor must be larger than 0, or -1 to use the default value.");
	else if ((size_t)assignment_bytes(partitions, factor) > b->o.max_multi_bytes)
		refuse(&why, KAFKA_INVALID_PARTITIONS, "more partitions than one node of ZooKeeper can describe");
	if (!why.error && brain_ok(b))
		replicas = brain_need(b, malloc((size_t)partitions * (size_t)factor * sizeof *replicas));
	bool fine = replicas && choose_replicas(b, n, partitions, factor, replicas, &why) && !n->validate_only;
	if (fine)
		make_topic(b, n, partitions, factor, replicas, ticket);
	else
		call_answer_topic(b, ticket, brain_ok(b) ? why.error : KAFKA_NOT_CONTROLLER, why.message);
	free(replicas);
}

/* ---- growth ---- */

enum { PARTITIONS_A_REQUEST = 10000 };

static bool choose_more(struct brain *b, const struct topic *t, int32_t more, const struct create_partitions_request_assignment *a, int32_t assignments, int32_t *out, struct refusal *why)
{
	const struct part *first = &b->part[t->part[0]];
	int32_t factor = ids_n(first->replicas);
	if (!a)
		return place_replicas(b, ids_first(first->replicas), t->parts, more, factor, out, why);
	if (assignments != more)
		return refuse_with(b, why, KAFKA_INVALID_REPLICA_ASSIGNMENT, "Attempted to add %" PRId32 " additional partition(s), but only %" PRId32 " assignment(s) were specified.", more, assignments);
	for (int32_t i = 0; i < more; i++) {
		if (!is_fine(b, a[i].broker_ids.v, a[i].broker_ids.n, factor, why))
			return false;
		memcpy(out + (size_t)i * (size_t)factor, a[i].broker_ids.v, (size_t)factor * sizeof *out);
	}
	return true;
}

static bool is_being_moved(const struct brain *b, const struct topic *t)
{
	for (int32_t i = 0; i < t->parts; i++) {
		if (part_moves(&b->part[t->part[i]]) || b->part[t->part[i]].item[ITEM_REASSIGN])
			return true;
	}
	return false;
}

static void grow(struct brain *b, int32_t row, int32_t more, const int32_t *replicas, void *ticket)
{
	struct call *c = call_new(b, ticket, BRAIN_TOPIC);
	int32_t before = b->topic[row].parts, from = b->topic[row].grows_from, factor = ids_n(b->part[b->topic[row].part[0]].replicas);
	if (!c)
		return;
	c->with = b->topic[row].grow;
	b->topic[row].grow = c;
	if (!topic_add_parts(b, row, more))
		return;
	b->topic[row].grows_from = from;
	for (int32_t i = 0; i < more; i++) {
		if (!give_replicas(b, &b->topic[row], before + i, replicas + (size_t)i * (size_t)factor, factor))
			return;
	}
	topic_wants_work(b, row);
}

void brain_create_partitions(struct brain *b, const char *topic, int32_t from, int32_t count, const struct create_partitions_request_assignment *assignment, int32_t assignments, bool validate_only, void *ticket)
{
	struct refusal why = {KAFKA_NONE, NULL};
	int32_t row = topic_by_name(b, topic, strlen(topic));
	const struct topic *t = row >= 0 ? &b->topic[row] : NULL;
	int32_t *replicas = NULL, factor = t && t->parts ? ids_n(b->part[t->part[0]].replicas) : 0;
	if (!t || t->phase != TOPIC_LIVE || !factor)
		refuse(&why, KAFKA_UNKNOWN_TOPIC_OR_PARTITION, NULL);
	else if (count == t->parts)
		refuse_with(b, &why, KAFKA_INVALID_PARTITIONS, "Topic already has %" PRId32 " partition(s).", t->parts);
	else if (count < t->parts)
		refuse_with(b, &why, KAFKA_INVALID_PARTITIONS, "The topic %s currently has %" PRId32 " partition(s); %" PRId32 " would not be an increase.", topic, t->parts, count);
	else if (from >= 0 && from != t->parts)
		refuse_with(b, &why, KAFKA_INVALID_REQUEST, "the topic has %" PRId32 " partition(s), not %" PRId32, t->parts, from);
	else if (count - t->parts > PARTITIONS_A_REQUEST)
		refuse(&why, KAFKA_POLICY_VIOLATION, "Excessively large number of partitions per request.");
	else if (is_being_moved(b, t))
		refuse(&why, KAFKA_REASSIGNMENT_IN_PROGRESS, "a partition of the topic is being reassigned");
	else if ((size_t)assignment_bytes(count, factor) > b->o.max_multi_bytes)
		refuse(&why, KAFKA_INVALID_PARTITIONS, "more partitions than one node of ZooKeeper can describe");
	if (!why.error && brain_ok(b))
		replicas = brain_need(b, malloc((size_t)(count - t->parts) * (size_t)factor * sizeof *replicas));
	bool fine = replicas && choose_more(b, t, count - t->parts, assignment, assignments, replicas, &why) && !validate_only;
	if (fine)
		grow(b, row, count - t->parts, replicas, ticket);
	else
		call_answer_topic(b, ticket, brain_ok(b) ? why.error : KAFKA_NOT_CONTROLLER, why.message);
	free(replicas);
}

/* ---- deletion ---- */

/* From here on nothing of it is decided any more; brokers are told that it goes. */
static void begin_deletion(struct brain *b, int32_t row)
{
	struct topic *t = &b->topic[row];
	calls_refuse(b, &t->create, KAFKA_NONE, NULL);
	calls_refuse(b, &t->grow, KAFKA_UNKNOWN_TOPIC_OR_PARTITION, "the topic is being deleted");
	t->phase = TOPIC_DELETING;
	while (t->empty) { /* who would have it deleted when it is empty has that */
		struct call *c = t->empty;
		t->empty = c->with;
		c->with = t->delete;
		t->delete = c;
	}
	for (int32_t i = 0; i < t->parts; i++) {
		int32_t p = t->part[i];
		for (int k = 0; k < ITEM_KINDS; k++)
			item_done(b, &b->part[p], (enum item_kind)k, KAFKA_UNKNOWN_TOPIC_OR_PARTITION, "the topic is being deleted");
		for (int32_t k = 0; k < b->brokers; k++) {
			bits_clear(&b->broker[k].lost, p);
			bits_clear(&b->broker[k].states, p);
			bits_clear(&b->broker[k].ends, p);
			if (b->broker[k].registered)
				bits_set(&b->broker[k].metadata, p);
		}
	}
	for (int32_t k = 0; k < b->brokers; k++)
		broker_look(b, &b->broker[k]);
	topic_wants_work(b, row);
}

/* That broker deletes what it has of it. */
void topic_delete_at(struct brain *b, int32_t row, struct broker *r)
{
	if (!broker_alive(r))
		return;
	for (int32_t i = 0; i < b->topic[row].parts; i++) {
		const struct part *p = &b->part[b->topic[row].part[i]];
		if (ids_has(p->replicas, r->id))
			stop_add(b, r, p, true);
	}
}

/* One of its stops is answered, or not needed any more. */
void topic_stopped(struct brain *b, int32_t row)
{
	if (--b->topic[row].stops == 0)
		topic_wants_work(b, row);
}

/* ---- deletion of what is empty ---- */

void topic_sealed(struct brain *b, int32_t row, int32_t number, int16_t error)
{
	struct topic *t = &b->topic[row];
	struct part *p = part_find(b, row, number);
	t->seals--;
	if (error && t->seal_error != KAFKA_INVALID_REQUEST) /* that it holds messages says most */
		t->seal_error = error;
	if (p && error)
		p->sealed = 0;
}

static void unseal(struct brain *b, const struct topic *t)
{
	for (int32_t i = 0; i < t->parts; i++) {
		struct part *p = &b->part[t->part[i]];
		struct broker *leader = broker_find(b, p->leader);
		if (p->sealed && p->sealed == p->leader_epoch + 1 && broker_alive(leader))
			seal_add(b, leader, p, STOP_UNSEALS);
		p->sealed = 0;
	}
}

/* Every partition of it has been sealed by who leads it now. (Who is about to be elected hears of it only when that is written: never, once the topic is being deleted.) */
static bool is_sealed(const struct brain *b, const struct topic *t)
{
	for (int32_t i = 0; i < t->parts; i++) {
		if (b->part[t->part[i]].sealed != b->part[t->part[i]].leader_epoch + 1)
			return false;
	}
	return true;
}

void seals_look(struct brain *b)
{
	for (int32_t row = 0; row < b->topics && brain_ok(b); row++) {
		struct topic *t = &b->topic[row];
		if (!t->name || !t->empty || t->seals)
			continue;
		if (!t->seal_error && is_sealed(b, t)) {
			begin_deletion(b, row);
			continue;
		}
		unseal(b, t);
		if (t->seal_error == KAFKA_INVALID_REQUEST)
			calls_refuse(b, &t->empty, KAFKA_INVALID_REQUEST, "a partition of the topic holds messages: delete them first");
		else
			calls_refuse(b, &t->empty, t->seal_error == KAFKA_LEADER_NOT_AVAILABLE ? KAFKA_LEADER_NOT_AVAILABLE : KAFKA_OPERATION_NOT_ATTEMPTED, "who leads its partitions is changing");
	}
}

static void seal(struct brain *b, int32_t row, void *ticket)
{
	struct topic *t = &b->topic[row];
	for (int32_t i = 0; i < t->parts && !t->empty; i++) {
		const struct part *p = &b->part[t->part[i]];
		if (p->exists && p->leader != NO_LEADER && broker_alive(broker_find(b, p->leader)))
			continue;
		call_answer_topic(b, ticket, KAFKA_LEADER_NOT_AVAILABLE, "nobody leads a partition of the topic: whether it holds messages is not known");
		return;
	}
	struct call *c = call_new(b, ticket, BRAIN_TOPIC);
	if (!c)
		return;
	c->with = t->empty;
	t->empty = c;
	if (c->with)
		return;
	t->seals = t->parts;
	t->seal_error = KAFKA_NONE;
	for (int32_t i = 0; i < t->parts; i++) {
		struct part *p = &b->part[t->part[i]];
		p->sealed = p->leader_epoch + 1;
		seal_add(b, broker_find(b, p->leader), p, STOP_SEALS);
	}
}

void brain_delete_topic(struct brain *b, const char *topic, const uint8_t id[16], bool only_if_empty, void *ticket)
{
	int32_t row = topic ? topic_by_name(b, topic, strlen(topic)) : topic_by_id(b, id);
	bool any_id = memcmp(id, (const uint8_t[16]){0}, 16) == 0;
	if (!brain_ok(b)) {
		call_answer_topic(b, ticket, KAFKA_NOT_CONTROLLER, NULL);
		return;
	}
	if (!any_id && (row < 0 || memcmp(id, b->topic[row].id, 16) != 0)) {
		call_answer_topic(b, ticket, KAFKA_UNKNOWN_TOPIC_ID, "This server does not host this topic ID.");
		return;
	}
	if (row < 0 || b->topic[row].phase == TOPIC_NEW || b->topic[row].phase == TOPIC_GONE) {
		call_answer_topic(b, ticket, any_id ? KAFKA_UNKNOWN_TOPIC_OR_PARTITION : KAFKA_UNKNOWN_TOPIC_ID, any_id ? "This server does not host this topic-partition." : "This server does not host this topic ID.");
		return;
	}
	if (only_if_empty && b->topic[row].phase == TOPIC_LIVE) {
		seal(b, row, ticket);
		return;
	}
	struct call *c = call_new(b, ticket, BRAIN_TOPIC);
	if (!c)
		return;
	c->with = b->topic[row].delete;
	b->topic[row].delete = c;
	if (b->topic[row].phase == TOPIC_LIVE)
		begin_deletion(b, row);
}

bool brain_deletion_appeared(struct brain *b, const char *topic)
{
	int32_t row = topic_by_name(b, topic, strlen(topic));
	if (row < 0)
		return false;
	if (brain_ok(b) && b->topic[row].phase == TOPIC_LIVE) {
		begin_deletion(b, row);
		topic_marked(b, row);
	}
	return true;
}

void topic_marked(struct brain *b, int32_t row)
{
	b->topic[row].marked = true;
	for (int32_t i = 0; i < b->brokers; i++) {
		if (b->broker[i].registered)
			topic_delete_at(b, row, &b->broker[i]);
	}
	topic_wants_work(b, row);
}

/* ---- what is done ---- */

static bool is_settled(const struct brain *b, const struct topic *t)
{
	for (int32_t i = 0; i < t->parts; i++) {
		if (bits_has(&b->dirty, t->part[i]))
			return false;
	}
	return t->grows_from == t->parts && !t->id_is_new;
}

static bool is_known_gone(const struct brain *b, const struct topic *t)
{
	for (int32_t i = 0; i < t->parts; i++) {
		for (int32_t k = 0; k < b->brokers; k++) {
			if (bits_has(&b->broker[k].metadata, t->part[i]) || bits_has(&b->broker[k].metadata_sent, t->part[i]))
				return false;
		}
	}
	return !t->stops;
}

void topics_look(struct brain *b)
{
	for (int32_t row = 0; row < b->topics; row++) {
		struct topic *t = &b->topic[row];
		if (!b->writing && t->name && bits_has(&b->topic_work, row) && t->phase == TOPIC_LIVE && is_settled(b, t)) {
			bits_clear(&b->topic_work, row);
			calls_refuse(b, &t->create, KAFKA_NONE, NULL);
			calls_refuse(b, &t->grow, KAFKA_NONE, NULL);
		}
		if (b->gone && t->name && t->phase == TOPIC_GONE && is_known_gone(b, t))
			topic_free(b, row);
	}
}
