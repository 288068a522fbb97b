/* CreateTopics, DeleteTopics, CreatePartitions. All of them run in the pool: they wait for the disk. In a cluster the controller does them: whoever is not the controller says so, and the
 * controller's broker asks it (asking.h) for what looks right as far as it knows; who is there, and which topics there are, it knows better. */
#include <inttypes.h>
#include <stdlib.h>

#include "cluster/api/admin.h"
#include "cluster/api/asking.h"
#include "cluster/broker_conf.h"
#include "cluster/partition_fetch.h"
#include "store/diag.h"
#include "store/dirs.h"

/* ---- what a request says of replicas ---- */

struct brokers { const int32_t *v; int32_t n; };

/* Whether somebody else is to be asked. */
static bool is_elsewhere(struct call *c)
{
	return call_join(c) && join_controller(call_join(c)) != broker_id(call_broker(c));
}

static int by_number(const void *a, const void *b)
{
	int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
	return (x > y) - (x < y);
}

/* Whether a partition can be placed so: on this broker, once. */
static bool check_assignment(struct call *c, struct brokers list, struct wire_string *why)
{
	if (call_join(c))
		return true;
	int32_t *sorted = call_get(c, ((size_t)(list.n > 0 ? list.n : 0) + 1) * sizeof *sorted);
	if (list.n <= 0 || !sorted) {
		*why = wire_string("The manual partition assignment includes an empty replica list.");
		return false;
	}
	memcpy(sorted, list.v, (size_t)list.n * sizeof *sorted);
	qsort(sorted, (size_t)list.n, sizeof *sorted, by_number);
	for (int32_t i = 0; i < list.n; i++) {
		if (sorted[i] != broker_id(call_broker(c))) {
			*why = call_say(c, "The manual partition assignment includes broker %" PRId32 ", but no such broker is registered.", sorted[i]);
			return false;
		}
		if (i > 0) {
			*why = call_say(c, "The manual partition assignment includes the broker %" PRId32 " more than once.", sorted[i]);
			return false;
		}
	}
	return true;
}

/* ---- CreateTopics ---- */

struct create { /* one topic of a request */
	struct asking *asking;
	int32_t index;
	const struct create_topics_request_topic *asked;
	struct create_topics_response_topic *answer;
	const char *name;
	struct conf_change *set;
	struct op_config *owner; /* of a cluster: whose it is */
	int32_t set_count, owner_count;
	int32_t partitions;
};

static bool refuse(struct create *t, int16_t error, struct wire_string why)
{
	t->answer->error_code = error;
	t->answer->error_message = why;
	return false;
}

static bool check_assignments(struct call *c, struct create *t)
{
	const struct create_topics_request_topic *r = t->asked;
	struct wire_string why = WIRE_NULL_STRING;
	int32_t n = r->assignments.n;
	uint8_t *seen = call_get(c, (size_t)n);
	bool gap = !seen;
	for (int32_t i = 0; i < n && seen; i++) {
		const struct create_topics_request_assignment *a = &r->assignments.v[i];
		int32_t p = a->partition_index;
		bool in_range = p >= 0 && p < n;
		if (in_range && seen[p]++)
			return refuse(t, KAFKA_INVALID_REPLICA_ASSIGNMENT, call_say(c, "Found multiple manual partition assignments for partition %" PRId32, p));
		gap |= !in_range;
		if (!check_assignment(c, (struct brokers){a->broker_ids.v, a->broker_ids.n}, &why))
			return refuse(t, KAFKA_INVALID_REPLICA_ASSIGNMENT, why);
	}
	return !gap || refuse(t, KAFKA_INVALID_REPLICA_ASSIGNMENT, wire_string("partitions should be a consecutive 0-based integer sequence"));
}

static bool check_numbers(struct call *c, struct create *t)
{
	const struct create_topics_request_topic *r = t->asked;
	if (r->assignments.n > 0) {
		if (r->replication_factor != -1)
			return refuse(t, KAFKA_INVALID_REQUEST, wire_string("A manual partition assignment was specified, but replication factor was not set to -1."));
		if (r->num_partitions != -1)
			return refuse(t, KAFKA_INVALID_REQUEST, wire_string("A manual partition assignment was specified, but numPartitions was not set to -1."));
		return check_assignments(c, t);
	}
	if (r->replication_factor < -1 || r->replication_factor == 0)
		return refuse(t, KAFKA_INVALID_REPLICATION_FACTOR, wire_string("Replication factor must be larger than 0, or -1 to use the default value."));
	if (r->num_partitions < -1 || r->num_partitions == 0)
		return refuse(t, KAFKA_INVALID_PARTITIONS, wire_string("Number of partitions was set to an invalid non-positive value."));
	if (r->replication_factor > 1 && !call_join(c))
		return refuse(t, KAFKA_INVALID_REPLICATION_FACTOR, call_say(c, "Unable to replicate the partition %d time(s): The target replication factor of %d cannot be reached because "
			      "only 1 broker(s) are registered.", r->replication_factor, r->replication_factor));
	return true;
}

/* "a, b" of those that are null; null where none is. */
static struct wire_string null_settings(struct call *c, const struct create_topics_request_topic *r)
{
	struct wire_string list = WIRE_NULL_STRING;
	for (int32_t i = 0; i < r->configs.n; i++) {
		struct wire_string name = r->configs.v[i].name;
		if (r->configs.v[i].value.n < 0)
			list = list.n < 0 ? call_say(c, "%.*s", name.n, name.s) : call_say(c, "%.*s,%.*s", list.n, list.s, name.n, name.s);
	}
	return list;
}

/* Another broker's mount says so whose the topic is that was made there. */
static bool is_owners(const char *name)
{
	static const char *const names[] = {"spoolfs.uid", "spoolfs.gid", "spoolfs.dir.mode", "spoolfs.file.mode"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (!strcmp(name, names[i]))
			return true;
	return false;
}

static bool check_settings(struct call *c, struct create *t)
{
	const struct create_topics_request_topic *r = t->asked;
	const struct conf_schema *schema = conf_schema_of(call_conf(c));
	struct wire_string why = null_settings(c, r);
	if (why.n >= 0)
		return refuse(t, KAFKA_INVALID_CONFIG, call_say(c, "Null value not supported for topic configs: %.*s", why.n, why.s));
	int32_t n = r->configs.n > 0 ? r->configs.n : 0;
	t->set = call_get(c, ((size_t)n + 1) * sizeof *t->set);
	t->owner = call_get(c, ((size_t)n + 1) * sizeof *t->owner);
	for (int32_t i = 0; i < r->configs.n; i++) {
		char *name = call_text(c, r->configs.v[i].name), *value = call_text(c, r->configs.v[i].value);
		if (!t->set || !t->owner || !name || !value)
			return refuse(t, KAFKA_UNKNOWN_SERVER_ERROR, WIRE_NULL_STRING);
		bool owner = call_join(c) && is_owners(name);
		const struct conf_property *row = conf_find(schema, name);
		if (row && ((row->hidden && !owner) || !(row->scope & CONF_TOPIC) || !admin_is_text(r->configs.v[i].name)))
			row = NULL;
		if (!admin_is_text(r->configs.v[i].value))
			return refuse(t, KAFKA_INVALID_CONFIG, call_say(c, "Invalid value for configuration %s: There is a NUL in it", name));
		if (!admin_check_value(c, row, name, value, &why))
			return refuse(t, KAFKA_INVALID_CONFIG, why);
		if (owner)
			t->owner[t->owner_count++] = (struct op_config){wire_string(name), wire_string(value)};
		else
			t->set[t->set_count++] = (struct conf_change){name, value};
	}
	return true;
}

static bool check_topic(struct call *c, struct create *t)
{
	struct wire_string why = WIRE_NULL_STRING;
	if (wire_string_is(t->asked->name, "__cluster_metadata"))
		return refuse(t, KAFKA_INVALID_REQUEST, wire_string("Creation of internal topic __cluster_metadata is prohibited."));
	if (!admin_check_name(c, t->asked->name, &why))
		return refuse(t, KAFKA_INVALID_TOPIC_EXCEPTION, why);
	struct topic *there = call_join(c) ? NULL : topics_find_n(call_broker(c), t->asked->name.s, (size_t)t->asked->name.n);
	topic_unref(there);
	if (there)
		return refuse(t, KAFKA_TOPIC_ALREADY_EXISTS, call_say(c, "Topic '%s' already exists.", t->name));
	there = call_join(c) ? NULL : topics_find_alike(call_broker(c), t->name);
	if (there)
		refuse(t, KAFKA_INVALID_TOPIC_EXCEPTION, call_say(c, "Topic '%s' collides with existing topic: %s", t->name, topic_name(there)));
	topic_unref(there);
	if (there)
		return false;
	return check_settings(c, t) && check_numbers(c, t);
}

/* Made, or only looked at. The answer has what came of it. */
static void create_topic(struct call *c, struct create *t)
{
	const struct create_topics_request *r = c->request;
	struct topic *made = NULL;
	struct err e = ERR_INIT;
	struct topic_plan plan = {.name = t->name, .partitions = t->partitions, .set = t->set, .set_count = (size_t)t->set_count, .check_only = r->validate_only};
	int rc = topics_make(call_broker(c), &plan, &made, &e);
	if (rc < 0) {
		int16_t code = rc == ERR_INVALID ? KAFKA_INVALID_CONFIG : rc == ERR_EXISTS ? KAFKA_TOPIC_ALREADY_EXISTS : (int16_t)kafka_error_of(rc);
		refuse(t, code, call_say(c, "%s", e.text));
		return;
	}
	if (made)
		diag_info("topic %s was made for a client", t->name);
	char id[TOPIC_ID_CHARS + 1];
	uuid_text_new(id);
	if (made)
		t->answer->topic_id = topic_wire_id(made);
	else
		uuid_bytes(id, t->answer->topic_id.b); /* Kafka shows one that nothing has */
	t->answer->error_message = WIRE_NULL_STRING;
	t->answer->num_partitions = t->partitions;
	t->answer->replication_factor = 1;
	if (!admin_created_configs(c, t->set, (size_t)t->set_count, t->answer))
		t->answer->configs.n = -1;
	topic_unref(made);
}

/* The same in a cluster: the answer is as if it went well, and mended if it does not (created). */
static void ask_to_create(struct call *c, struct create *t)
{
	const struct create_topics_request *r = c->request;
	const struct create_topics_request_topic *q = t->asked;
	int32_t configs = t->set_count + t->owner_count;
	struct err e = ERR_INIT;
	char id[TOPIC_ID_CHARS + 1];
	struct op_config *config = call_get(c, ((size_t)configs + 1) * sizeof *config);
	struct brain_new_topic n = {.name = t->name, .partitions = t->partitions, .replication_factor = q->replication_factor == -1 ? (int16_t)conf_int(call_conf(c), "default.replication.factor") : q->replication_factor,
		.assignment = q->assignments.n > 0 ? q->assignments.v : NULL, .assignments = q->assignments.n, .config = config, .configs = configs, .unclean = -1, .validate_only = r->validate_only};
	int rc = topics_check_properties(call_broker(c), t->set, (size_t)t->set_count, &e);
	if (rc < 0 || !config) {
		refuse(t, rc < 0 ? KAFKA_INVALID_CONFIG : KAFKA_UNKNOWN_SERVER_ERROR, rc < 0 ? call_say(c, "%s", e.text) : WIRE_NULL_STRING);
		return;
	}
	memcpy(config + t->set_count, t->owner, (size_t)t->owner_count * sizeof *config);
	for (int32_t i = 0; i < t->set_count; i++) {
		config[i] = (struct op_config){wire_string(t->set[i].name), wire_string(t->set[i].value)};
		if (!strcmp(t->set[i].name, "unclean.leader.election.enable"))
			n.unclean = !strcasecmp(t->set[i].value, "true");
	}
	memcpy(n.id, q->topic_id.b, sizeof n.id);
	if (wire_uuid_is_zero(&q->topic_id)) {
		uuid_text_new(id);
		uuid_bytes(id, n.id);
	}
	memcpy(t->answer->topic_id.b, n.id, sizeof n.id);
	t->answer->error_message = WIRE_NULL_STRING;
	t->answer->num_partitions = t->partitions;
	t->answer->replication_factor = (int16_t)(n.assignment ? n.assignment[0].broker_ids.n : n.replication_factor);
	if (!admin_created_configs(c, t->set, (size_t)t->set_count, t->answer))
		t->answer->configs.n = -1;
	asking_create(t->asking, t->index, &n);
}

static void created(struct call *c, void *response, int32_t index, int16_t error, const char *message)
{
	struct create_topics_response_topic *t = &((struct create_topics_response *)response)->topics.v[index];
	if (!error) {
		diag_info("topic %.*s was made for a client", t->name.n, t->name.s);
		return;
	}
	t->error_code = error;
	t->error_message = message ? call_say(c, "%s", message) : WIRE_NULL_STRING;
	t->topic_id = (struct wire_uuid){{0}};
	t->num_partitions = t->replication_factor = -1;
	t->configs.n = 0;
}

static int32_t partitions_of(struct call *c, const struct create_topics_request_topic *t)
{
	return t->assignments.n > 0 ? t->assignments.n : t->num_partitions == -1 ? (int32_t)conf_int(call_conf(c), "num.partitions") : t->num_partitions;
}

static void create_one(struct call *c, struct create *t, bool too_many)
{
	const struct create_topics_request *r = c->request;
	t->answer->configs.n = 0; /* empty, not null, where there is an error */
	t->partitions = partitions_of(c, t->asked);
	t->name = call_text(c, t->asked->name);
	if (is_elsewhere(c))
		refuse(t, KAFKA_NOT_CONTROLLER, WIRE_NULL_STRING);
	else if (r->timeout_ms <= 0)
		refuse(t, KAFKA_REQUEST_TIMED_OUT, WIRE_NULL_STRING);
	else if (too_many)
		refuse(t, KAFKA_POLICY_VIOLATION, wire_string("Excessively large number of partitions per request."));
	else if (call_stopping(c))
		refuse(t, KAFKA_NOT_CONTROLLER, wire_string("The broker is stopping."));
	else if (t->name && check_topic(c, t))
		(t->asking ? ask_to_create : create_topic)(c, t);
}

void handle_create_topics(struct call *c)
{
	const struct create_topics_request *r = c->request;
	struct create_topics_response *a = call_array(c, &wire_create_topics_response, 1);
	int64_t partitions = 0;
	int32_t n = r->topics.n > 0 ? r->topics.n : 0;
	struct admin_key *key = call_get(c, ((size_t)n + 1) * sizeof *key);
	for (int32_t i = 0; key && i < n; i++) {
		key[i].name = r->topics.v[i].name;
		int32_t more = partitions_of(c, &r->topics.v[i]);
		partitions += more > 0 ? more : 0;
	}
	uint8_t *twice = key ? admin_twice(c, key, n) : NULL;
	struct create_topics_response_topic *list = a && twice ? call_array(c, &wire_create_topics_response_topic, n) : NULL;
	struct asking *asking = list && call_join(c) ? asking_new(c, n, r->timeout_ms, a, created) : NULL;
	if (!list || (call_join(c) && !asking)) {
		call_close(c, "no memory");
		return;
	}
	a->topics.v = list;
	for (int32_t i = 0; i < n; i++) {
		struct create t = {.asking = asking, .index = a->topics.n, .asked = &r->topics.v[i], .answer = &list[a->topics.n]};
		if (twice[i] == 2)
			continue;
		a->topics.n++;
		t.answer->name = t.asked->name;
		if (twice[i]) {
			t.answer->configs.n = 0;
			refuse(&t, KAFKA_INVALID_REQUEST, wire_string("Duplicate topic name."));
		} else {
			create_one(c, &t, partitions > PARTITIONS_A_REQUEST);
		}
	}
	if (asking)
		asking_go(asking);
	else
		call_answer(c, a);
}

/* ---- DeleteTopics ---- */

struct removal {
	bool only_if_empty; /* another broker's mount wants that */
	struct wire_string name;
	struct wire_uuid id;
	struct topic *topic; /* a reference */
};

static void refuse_delete(struct delete_topics_response_topic *a, int16_t error, const char *why)
{
	a->error_code = error;
	a->error_message = wire_string(why);
}

static bool is_named_well(const struct removal *d, struct delete_topics_response_topic *a)
{
	if (wire_uuid_is_zero(&d->id) && d->name.n < 0)
		refuse_delete(a, KAFKA_INVALID_REQUEST, "Neither topic name nor id were specified.");
	else if (!wire_uuid_is_zero(&d->id) && d->name.n >= 0)
		refuse_delete(a, KAFKA_INVALID_REQUEST, "You may not specify both topic name and topic id.");
	return !a->error_code;
}

/* The topic asked for. The answer has its id where it was asked for by that, and its name too once it is found. */
static struct topic *find_topic(struct call *c, const struct removal *d, struct delete_topics_response_topic *a)
{
	int16_t error = KAFKA_NONE;
	if (!is_named_well(d, a))
		return NULL;
	struct topic *t = call_topic(c, d->name, &d->id, &error);
	if (!t)
		refuse_delete(a, error, error == KAFKA_UNKNOWN_TOPIC_ID ? "This server does not host this topic ID." : "This server does not host this topic-partition.");
	return t;
}

static bool may_delete(struct call *c, struct delete_topics_response_topic *a)
{
	const struct delete_topics_request *r = c->request;
	if (r->timeout_ms <= 0)
		a->error_code = KAFKA_REQUEST_TIMED_OUT;
	else if (!conf_bool(call_conf(c), "delete.topic.enable"))
		refuse_delete(a, c->version < 3 ? KAFKA_INVALID_REQUEST : KAFKA_TOPIC_DELETION_DISABLED, "Topic deletion is disabled.");
	else if (call_stopping(c))
		refuse_delete(a, KAFKA_NOT_CONTROLLER, "The broker is stopping.");
	return !a->error_code;
}

static void delete_topic(struct call *c, struct topic *t, struct delete_topics_response_topic *a)
{
	struct err e = ERR_INIT;
	if (!may_delete(c, a))
		return;
	char *name = call_text(c, wire_string(topic_name(t)));
	a->name = name ? wire_string(name) : a->name;
	a->topic_id = topic_wire_id(t);
	int rc = topics_delete(call_broker(c), t, false, &e);
	if (rc == 0) {
		diag_info("topic %s was deleted by a client", topic_name(t));
	} else {
		a->error_code = (int16_t)kafka_error_of(rc);
		a->error_message = call_say(c, "%s", e.text);
	}
}

/* In a cluster. The answer has the name and the id of a topic that this broker knows. */
static void ask_to_delete(struct call *c, struct asking *asking, int32_t index, const struct removal *d, struct delete_topics_response_topic *a)
{
	struct controller_deletion q = {.topic = d->name.n >= 0 ? call_text(c, d->name) : NULL, .only_if_empty = d->only_if_empty};
	memcpy(q.id, d->id.b, sizeof q.id);
	if (is_elsewhere(c)) {
		a->error_code = KAFKA_NOT_CONTROLLER;
		return;
	}
	if (!is_named_well(d, a) || !may_delete(c, a))
		return;
	if (d->topic) {
		const char *name = call_text(c, wire_string(topic_name(d->topic)));
		a->name = name ? wire_string(name) : a->name;
		a->topic_id = topic_wire_id(d->topic);
	}
	if (d->name.n >= 0 && (!q.topic || !admin_is_text(d->name)))
		refuse_delete(a, KAFKA_UNKNOWN_TOPIC_OR_PARTITION, "This server does not host this topic-partition.");
	else
		asking_delete(asking, index, &q);
}

static void deleted(struct call *c, void *response, int32_t index, int16_t error, const char *message)
{
	struct delete_topics_response_topic *t = &((struct delete_topics_response *)response)->responses.v[index];
	t->error_code = error;
	t->error_message = message ? call_say(c, "%s", message) : WIRE_NULL_STRING;
	if (!error)
		diag_info("topic %.*s was deleted by a client", t->name.n, t->name.s);
}

/* Each topic once: what is asked for twice is not deleted at all. */
static struct removal *removals(struct call *c, int32_t *count)
{
	const struct delete_topics_request *r = c->request;
	int32_t n = c->version < 6 ? r->topic_names.n : r->topics.n;
	n = n > 0 ? n : 0;
	struct removal *d = call_get(c, ((size_t)n + 1) * sizeof *d);
	for (int32_t i = 0; d && i < n; i++) {
		if (c->version < 6)
			d[i].name = r->topic_names.v[i];
		else
			d[i] = (struct removal){.name = r->topics.v[i].name, .id = r->topics.v[i].topic_id, .only_if_empty = r->topics.v[i].only_if_empty};
	}
	*count = n;
	return d;
}

static struct admin_key key_of(const struct removal *d)
{
	return (struct admin_key){.name = d->name.n >= 0 ? d->name : (struct wire_string){(const char *)d->id.b, sizeof d->id.b}, .number = d->name.n >= 0 ? 0 : wire_uuid_is_zero(&d->id) ? 2 : 1};
}

/* Marks as 3 those whose name is that of a topic that was asked for by its id too. */
static bool mark_same_topics(struct call *c, const struct removal *d, uint8_t *twice, int32_t n)
{
	struct admin_key *key = call_get(c, ((size_t)n + 1) * sizeof *key);
	for (int32_t i = 0; key && i < n; i++)
		key[i] = d[i].topic && !twice[i] ? (struct admin_key){.name = {(const char *)topic_id_bytes(d[i].topic), 16}, .number = -1} : (struct admin_key){.number = i};
	uint8_t *same = key ? admin_twice(c, key, n) : NULL;
	for (int32_t i = 0; same && i < n; i++)
		if (same[i])
			twice[i] = d[i].name.n >= 0 ? 3 : 4;
	return same;
}

static void answer_delete(struct call *c, struct asking *asking, struct removal *d, const uint8_t *twice, int32_t n, struct delete_topics_response *a)
{
	for (int32_t i = 0; i < n; i++) {
		struct delete_topics_response_topic *t = &a->responses.v[a->responses.n];
		if (twice[i] == 2 || twice[i] == 4)
			continue;
		a->responses.n++;
		t->name = d[i].name;
		t->topic_id = d[i].id;
		if (twice[i] == 1) {
			refuse_delete(t, KAFKA_INVALID_REQUEST, d[i].name.n >= 0 ? "Duplicate topic name." : wire_uuid_is_zero(&d[i].id) ? "Neither topic name nor id were specified." : "Duplicate topic id.");
		} else if (twice[i] == 3) {
			t->topic_id = topic_wire_id(d[i].topic);
			refuse_delete(t, KAFKA_INVALID_REQUEST, "The provided topic name maps to an ID that was already supplied.");
		} else if (asking) {
			ask_to_delete(c, asking, a->responses.n - 1, &d[i], t);
		} else if (d[i].topic || (d[i].topic = find_topic(c, &d[i], t))) {
			delete_topic(c, d[i].topic, t);
		}
	}
}

void handle_delete_topics(struct call *c)
{
	const struct delete_topics_request *r = c->request;
	struct delete_topics_response *a = call_array(c, &wire_delete_topics_response, 1);
	int32_t n = 0;
	struct removal *d = removals(c, &n);
	struct admin_key *key = d ? call_get(c, ((size_t)n + 1) * sizeof *key) : NULL;
	for (int32_t i = 0; key && i < n; i++)
		key[i] = key_of(&d[i]);
	uint8_t *twice = key ? admin_twice(c, key, n) : NULL;
	bool good = a && twice && (a->responses.v = call_array(c, &wire_delete_topics_response_topic, n));
	struct delete_topics_response_topic ignored;
	wire_init(&wire_delete_topics_response_topic, &ignored);
	for (int32_t i = 0; good && i < n; i++)
		d[i].topic = twice[i] ? NULL : find_topic(c, &d[i], &ignored);
	good = good && mark_same_topics(c, d, twice, n);
	struct asking *asking = good && call_join(c) ? asking_new(c, n, r->timeout_ms, a, deleted) : NULL;
	good = good && (asking || !call_join(c));
	if (good)
		answer_delete(c, asking, d, twice, n, a);
	for (int32_t i = 0; d && i < n; i++)
		topic_unref(d[i].topic);
	if (asking)
		asking_go(asking);
	else if (good)
		call_answer(c, a);
	else
		call_close(c, "no memory");
}

/* ---- CreatePartitions ---- */

static bool refuse_grow(struct create_partitions_response_topic *a, int16_t error, struct wire_string why)
{
	a->error_code = error;
	a->error_message = why;
	return false;
}

static bool check_grow(struct call *c, const struct create_partitions_request_topic *r, int32_t have, struct create_partitions_response_topic *a)
{
	struct wire_string why = WIRE_NULL_STRING;
	int32_t more = r->count - have, named = r->assignments.n;
	if (r->count == have)
		return refuse_grow(a, KAFKA_INVALID_PARTITIONS, call_say(c, "Topic already has %" PRId32 " partition(s).", have));
	if (r->count < have)
		return refuse_grow(a, KAFKA_INVALID_PARTITIONS, call_say(c, "The topic %.*s currently has %" PRId32 " partition(s); %" PRId32 " would not be an increase.", r->name.n, r->name.s,
				   have, r->count));
	if (named >= 0 && named != more)
		return refuse_grow(a, KAFKA_INVALID_REPLICA_ASSIGNMENT, call_say(c, "Attempted to add %" PRId32 " additional partition(s), but only %" PRId32 " assignment(s) were specified.",
				   more, named));
	if (more > PARTITIONS_A_REQUEST)
		return refuse_grow(a, KAFKA_POLICY_VIOLATION, wire_string("Excessively large number of partitions per request."));
	for (int32_t i = 0; i < named; i++)
		if (!check_assignment(c, (struct brokers){r->assignments.v[i].broker_ids.v, r->assignments.v[i].broker_ids.n}, &why))
			return refuse_grow(a, KAFKA_INVALID_REPLICA_ASSIGNMENT, why);
	return true;
}

static void grow_topic(struct call *c, const struct create_partitions_request_topic *asked, struct create_partitions_response_topic *a)
{
	const struct create_partitions_request *r = c->request;
	struct err e = ERR_INIT;
	if (r->timeout_ms <= 0) {
		a->error_code = KAFKA_REQUEST_TIMED_OUT;
		return;
	}
	struct topic *t = call_topic(c, asked->name, NULL, &a->error_code);
	if (!t)
		return;
	for (int rc = ERR_BUSY; rc == ERR_BUSY;) { /* somebody else may add some at the same time: then it is judged anew */
		int32_t have = topic_partition_count(t);
		if (!check_grow(c, asked, have, a) || r->validate_only)
			break;
		rc = topic_grow(t, have, asked->count, &e);
		if (rc == 0)
			diag_info("topic %s was given partitions %" PRId32 " to %" PRId32 " by a client", topic_name(t), have, asked->count - 1);
		else if (rc != ERR_BUSY)
			refuse_grow(a, rc == ERR_INVALID ? KAFKA_INVALID_PARTITIONS : (int16_t)kafka_error_of(rc), call_say(c, "%s", e.text));
	}
	topic_unref(t);
}

/* The same in a cluster. */
static void ask_to_grow(struct call *c, struct asking *asking, int32_t index, const struct create_partitions_request_topic *q, struct create_partitions_response_topic *a)
{
	static const struct create_partitions_request_assignment none;
	const struct create_partitions_request *r = c->request;
	struct controller_partitions p = {.topic = call_text(c, q->name), .from = q->from, .count = q->count, .assignment = q->assignments.n < 0 ? NULL : q->assignments.n ? q->assignments.v : &none,
		.assignments = q->assignments.n, .validate_only = r->validate_only};
	if (is_elsewhere(c))
		a->error_code = KAFKA_NOT_CONTROLLER;
	else if (r->timeout_ms <= 0)
		a->error_code = KAFKA_REQUEST_TIMED_OUT;
	else if (!p.topic || !admin_is_text(q->name))
		a->error_code = KAFKA_UNKNOWN_TOPIC_OR_PARTITION;
	else
		asking_grow(asking, index, &p);
}

static void grown(struct call *c, void *response, int32_t index, int16_t error, const char *message)
{
	struct create_partitions_response_topic *t = &((struct create_partitions_response *)response)->results.v[index];
	t->error_code = error;
	t->error_message = message ? call_say(c, "%s", message) : WIRE_NULL_STRING;
	if (!error)
		diag_info("topic %.*s was given partitions by a client", t->name.n, t->name.s);
}

void handle_create_partitions(struct call *c)
{
	const struct create_partitions_request *r = c->request;
	struct create_partitions_response *a = call_array(c, &wire_create_partitions_response, 1);
	int32_t n = r->topics.n > 0 ? r->topics.n : 0;
	struct admin_key *key = call_get(c, ((size_t)n + 1) * sizeof *key);
	for (int32_t i = 0; key && i < n; i++)
		key[i].name = r->topics.v[i].name;
	uint8_t *twice = key ? admin_twice(c, key, n) : NULL;
	struct create_partitions_response_topic *list = a && twice ? call_array(c, &wire_create_partitions_response_topic, n) : NULL;
	struct asking *asking = list && call_join(c) ? asking_new(c, n, r->timeout_ms, a, grown) : NULL;
	if (!list || (call_join(c) && !asking)) {
		call_close(c, "no memory");
		return;
	}
	a->results.v = list;
	for (int32_t i = 0; i < n; i++) {
		struct create_partitions_response_topic *t = &list[a->results.n];
		if (twice[i] == 2)
			continue;
		a->results.n++;
		t->name = r->topics.v[i].name;
		if (twice[i])
			refuse_grow(t, KAFKA_INVALID_REQUEST, wire_string("Duplicate topic name."));
		else if (asking)
			ask_to_grow(c, asking, a->results.n - 1, &r->topics.v[i], t);
		else
			grow_topic(c, &r->topics.v[i], t);
	}
	if (asking)
		asking_go(asking);
	else
		call_answer(c, a);
}
