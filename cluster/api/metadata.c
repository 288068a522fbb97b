/* Metadata, DescribeCluster, DescribeTopicPartitions: who is there, which topics, who leads what. */
#include <stdlib.h>
#include <string.h>

#include "cluster/api/call.h"
#include "cluster/group/coordinator.h"
#include "cluster/join.h"
#include "store/diag.h"
#include "store/dirs.h"

/* What may be done to it, as a bit for each operation of Kafka's AclOperation: everything, where there are no ACLs. */
enum { TOPIC_OPERATIONS = 3576, CLUSTER_OPERATIONS = 8096 };

static struct wire_string text_copy(struct call *c, const char *s)
{
	char *text = call_text(c, wire_string(s));
	return text ? wire_string(text) : (struct wire_string){"", 0};
}

/* ---- brokers ---- */

struct broker_place { int32_t id, port; struct wire_string host, rack; };

/* Of all brokers, in the call's memory. This one is where the client has come to. NULL: no memory. */
static struct broker_place *brokers(struct call *c, int32_t *count, int32_t *controller)
{
	size_t n = 0;
	struct join *j = call_join(c);
	struct join_broker *all = j ? join_brokers(j, &n) : NULL;
	struct broker_place *v = j && !all ? NULL : call_get(c, (n + 1) * sizeof *v), here = {.id = broker_id(call_broker(c)), .rack = WIRE_NULL_STRING};
	bool good = v && call_place(c, &here.host, &here.port);
	*controller = j ? join_controller(j) : here.id;
	for (size_t i = 0; good && i < n; i++)
		v[i] = (struct broker_place){all[i].id, all[i].port, text_copy(c, all[i].host), all[i].rack ? text_copy(c, all[i].rack) : WIRE_NULL_STRING};
	for (size_t i = 0; good && i < n; i++)
		if (v[i].id == here.id) {
			v[i].host = here.host;
			v[i].port = here.port;
		}
	if (good && !j)
		v[n++] = here;
	free(all);
	*count = (int32_t)n;
	return good ? v : NULL;
}

/* ---- partitions ---- */

struct standing { int32_t leader, leader_epoch; int16_t error; int32_t *replicas, *isr, *offline; int32_t replica_count, isr_count, offline_count; };

/* What clients are told of one, in the call's memory. false: no memory. */
static bool take_standing(struct call *c, struct topic *t, int32_t index, struct standing *s)
{
	struct partition_metadata m = {.leader = -1, .leader_epoch = -1};
	struct partition *p = topic_partition(t, index);
	if (p)
		partition_metadata(p, &m);
	partition_unref(p);
	*s = (struct standing){.leader = m.leader < 0 ? -1 : m.leader, .leader_epoch = m.leader_epoch, .error = m.leader < 0 ? KAFKA_LEADER_NOT_AVAILABLE : KAFKA_NONE,
		.replica_count = m.replica_count, .isr_count = m.isr_count, .offline_count = m.offline_count};
	int32_t *v = call_get(c, (size_t)(m.replica_count + m.isr_count + m.offline_count + 1) * sizeof *v);
	if (!v)
		return false;
	s->replicas = memcpy(v, m.replicas, (size_t)m.replica_count * sizeof *v);
	s->isr = memcpy(v += m.replica_count, m.isr, (size_t)m.isr_count * sizeof *v);
	s->offline = memcpy(v + m.isr_count, m.offline, (size_t)m.offline_count * sizeof *v);
	return true;
}

/* ---- Metadata ---- */

/* false: no memory. */
static bool describe_topic(struct call *c, struct topic *t, struct metadata_response_topic *a)
{
	const struct metadata_request *r = c->request;
	int32_t n = topic_partition_count(t);
	a->name = text_copy(c, topic_name(t));
	a->topic_id = topic_wire_id(t);
	a->is_internal = topic_is_internal(t);
	if (r->include_topic_authorized_operations)
		a->topic_authorized_operations = TOPIC_OPERATIONS;
	a->partitions.v = call_array(c, &wire_metadata_response_partition, n);
	if (!a->partitions.v)
		return false;
	a->partitions.n = n;
	for (int32_t i = 0; i < n; i++) {
		struct metadata_response_partition *p = &a->partitions.v[i];
		struct standing s;
		if (!take_standing(c, t, i, &s))
			return false;
		p->partition_index = i;
		p->leader_id = s.leader;
		p->leader_epoch = s.leader_epoch;
		p->error_code = s.error;
		p->replica_nodes.v = s.replicas;
		p->replica_nodes.n = s.replica_count;
		p->isr_nodes.v = s.isr;
		p->isr_nodes.n = s.isr_count;
		p->offline_replicas.v = s.offline;
		p->offline_replicas.n = s.offline_count;
	}
	return true;
}

/* How many topics one request makes; none, if it must not block. The others are not there: who wants them asks again. */
static int64_t may_make(struct call *c, bool make)
{
	int64_t partitions = conf_int(call_conf(c), "num.partitions");
	return !make ? 0 : partitions < PARTITIONS_A_REQUEST ? PARTITIONS_A_REQUEST / partitions : 1;
}

/* In a cluster: the controller is asked for it, and nobody waits. */
static void want_topic(struct call *c, const char *name)
{
	struct err unused = ERR_INIT;
	if (!strcmp(name, OFFSETS_TOPIC))
		coordinator_need_topic(call_coordinator(c), &unused);
	else if (!topic_name_is_internal(name))
		topics_make_soon(call_broker(c), &(struct topic_plan){.name = name});
}

/* The topic that was asked for; made, where that is wanted, which may block: as long as *left, which counts those it made, is not 0. Kafka's code. */
static int16_t find_or_make(struct call *c, const struct metadata_request_topic *asked, int64_t *left, struct topic **t)
{
	const struct metadata_request *r = c->request;
	struct err e = ERR_INIT;
	int16_t error = KAFKA_NONE;
	*t = call_topic(c, asked->name, &asked->topic_id, &error);
	if (*t || error != KAFKA_UNKNOWN_TOPIC_OR_PARTITION || !wire_uuid_is_zero(&asked->topic_id))
		return error;
	char *name = call_text(c, asked->name);
	if (!name || strlen(name) != (size_t)(asked->name.n > 0 ? asked->name.n : 0) || topic_name_check(name, &e) < 0)
		return KAFKA_INVALID_TOPIC_EXCEPTION;
	if (!*left || !r->allow_auto_topic_creation || call_stopping(c))
		return KAFKA_UNKNOWN_TOPIC_OR_PARTITION;
	if (call_join(c)) {
		--*left;
		want_topic(c, name);
		return KAFKA_UNKNOWN_TOPIC_OR_PARTITION; /* who asks again finds it */
	}
	int rc = topics_create(call_broker(c), name, 0, NULL, t, &e);
	if (rc == ERR_EXISTS && (*t = topics_find(call_broker(c), name)))
		return KAFKA_NONE;
	if (rc == 0) {
		--*left;
		diag_info("topic %s was made for a client that asked for it", name);
	}
	return rc < 0 ? (int16_t)(rc == ERR_NAME ? KAFKA_INVALID_TOPIC_EXCEPTION : kafka_error_of(rc)) : KAFKA_NONE;
}

static bool describe_brokers(struct call *c, struct metadata_response *a)
{
	int32_t n;
	struct broker_place *v = brokers(c, &n, &a->controller_id);
	a->brokers.v = v ? call_array(c, &wire_metadata_response_broker, n) : NULL;
	for (int32_t i = 0; a->brokers.v && i < n; i++) {
		struct metadata_response_broker *b = &a->brokers.v[a->brokers.n++];
		b->node_id = v[i].id;
		b->host = v[i].host;
		b->port = v[i].port;
		b->rack = v[i].rack;
	}
	a->cluster_id = wire_string(broker_cluster_id(call_broker(c)));
	return a->brokers.v;
}

static bool describe_all(struct call *c, struct metadata_response *a)
{
	size_t n;
	struct topic **all = topics_take(call_broker(c), &n);
	bool good = all && (a->topics.v = call_array(c, &wire_metadata_response_topic, (int32_t)n));
	for (size_t i = 0; good && i < n; i++)
		good = describe_topic(c, all[i], &a->topics.v[i]);
	a->topics.n = (int32_t)n;
	topics_drop(all, n);
	return good;
}

static bool describe_asked(struct call *c, struct metadata_response *a, bool make)
{
	const struct metadata_request *r = c->request;
	int64_t left = may_make(c, make);
	a->topics.v = call_array(c, &wire_metadata_response_topic, r->topics.n);
	if (!a->topics.v)
		return false;
	for (int32_t i = 0; i < r->topics.n; i++) {
		const struct metadata_request_topic *asked = &r->topics.v[i];
		struct metadata_response_topic *t = &a->topics.v[i];
		struct topic *topic;
		t->error_code = find_or_make(c, asked, &left, &topic);
		t->topic_id = asked->topic_id;
		t->name = asked->name;
		if (asked->name.n < 0 && c->version < 12)
			t->name = (struct wire_string){"", 0};
		bool good = !topic || describe_topic(c, topic, t);
		topic_unref(topic);
		if (!good)
			return false;
	}
	a->topics.n = r->topics.n;
	return true;
}

static void answer_metadata(struct call *c, bool make)
{
	const struct metadata_request *r = c->request;
	struct metadata_response a;
	wire_init(&wire_metadata_response, &a);
	bool all = r->topics.n < 0 || (c->version == 0 && r->topics.n == 0);
	if (r->include_cluster_authorized_operations)
		a.cluster_authorized_operations = CLUSTER_OPERATIONS;
	if (!describe_brokers(c, &a) || !(all ? describe_all(c, &a) : describe_asked(c, &a, make)))
		call_close(c, "no memory for metadata");
	else
		call_answer(c, &a);
}

static void make_and_answer(struct call *c)
{
	answer_metadata(c, true);
}

static bool something_is_missing(struct call *c)
{
	const struct metadata_request *r = c->request;
	int16_t error;
	for (int32_t i = 0; i < r->topics.n; i++) {
		struct topic *t = call_topic(c, r->topics.v[i].name, &r->topics.v[i].topic_id, &error);
		topic_unref(t);
		if (!t)
			return true;
	}
	return false;
}

void handle_metadata(struct call *c)
{
	const struct metadata_request *r = c->request;
	bool make = r->allow_auto_topic_creation && conf_bool(call_conf(c), "auto.create.topics.enable");
	if (make && !call_join(c) && something_is_missing(c))
		call_to_pool(c, make_and_answer, true);
	else
		answer_metadata(c, make && call_join(c));
}

/* ---- DescribeCluster (KIP-700) ---- */

void handle_describe_cluster(struct call *c)
{
	const struct describe_cluster_request *r = c->request;
	struct describe_cluster_response a;
	enum { BROKERS = 1, CONTROLLERS = 2 };
	wire_init(&wire_describe_cluster_response, &a);
	a.cluster_id = wire_string(broker_cluster_id(call_broker(c)));
	a.endpoint_type = r->endpoint_type;
	if (r->endpoint_type != BROKERS) {
		a.error_code = r->endpoint_type == CONTROLLERS ? KAFKA_MISMATCHED_ENDPOINT_TYPE : KAFKA_UNSUPPORTED_ENDPOINT_TYPE;
		a.error_message = wire_string(r->endpoint_type == CONTROLLERS ? "The request was sent to an endpoint of the wrong type: this one serves brokers."
									      : "There is no such type of endpoint.");
		call_answer(c, &a);
		return;
	}
	int32_t n;
	struct broker_place *v = brokers(c, &n, &a.controller_id);
	a.brokers.v = v ? call_array(c, &wire_describe_cluster_response_broker, n) : NULL;
	if (!a.brokers.v) {
		call_close(c, "no memory");
		return;
	}
	for (int32_t i = 0; i < n; i++) {
		struct describe_cluster_response_broker *b = &a.brokers.v[a.brokers.n++];
		b->broker_id = v[i].id;
		b->host = v[i].host;
		b->port = v[i].port;
		b->rack = v[i].rack;
	}
	if (r->include_cluster_authorized_operations)
		a.cluster_authorized_operations = CLUSTER_OPERATIONS;
	call_answer(c, &a);
}

/* ---- DescribeTopicPartitions (KIP-966): pages of at most so many partitions, topics in the order of their names ---- */

enum { PARTITIONS_MAX = 2000 }; /* max.request.partition.size.limit */

struct page { struct describe_topic_partitions_response a; int32_t left; };

static bool add_partition(struct call *c, struct topic *t, int32_t i, struct describe_topic_partitions_response_partition *a)
{
	struct standing s;
	if (!take_standing(c, t, i, &s))
		return false;
	a->partition_index = i;
	a->leader_id = s.leader;
	a->leader_epoch = s.leader_epoch;
	a->error_code = s.error;
	a->replica_nodes.v = s.replicas;
	a->replica_nodes.n = s.replica_count;
	a->isr_nodes.v = s.isr;
	a->isr_nodes.n = s.isr_count;
	a->offline_replicas.v = s.offline;
	a->offline_replicas.n = s.offline_count;
	a->eligible_leader_replicas.n = a->last_known_elr.n = 0; /* Java clients fail on null */
	return true;
}

/* The partitions of t from `first` on, as many as there is room for. false: no memory. */
static bool add_to_page(struct call *c, struct page *page, struct topic *t, int32_t first)
{
	struct describe_topic_partitions_response_topic *a = &page->a.topics.v[page->a.topics.n++];
	int32_t n = topic_partition_count(t) - first;
	a->name = text_copy(c, topic_name(t));
	a->topic_id = topic_wire_id(t);
	a->is_internal = topic_is_internal(t);
	a->topic_authorized_operations = TOPIC_OPERATIONS;
	bool more = n > page->left;
	n = n < 0 ? 0 : more ? page->left : n;
	a->partitions.v = call_array(c, &wire_describe_topic_partitions_response_partition, n);
	if (!a->partitions.v)
		return false;
	for (; a->partitions.n < n; a->partitions.n++)
		if (!add_partition(c, t, first + a->partitions.n, &a->partitions.v[a->partitions.n]))
			return false;
	page->left -= a->partitions.n;
	if (more) {
		struct describe_topic_partitions_response_next_cursor *next = call_get(c, sizeof *next);
		if (!next)
			return false;
		next->topic_name = a->name;
		next->partition_index = first + a->partitions.n;
		page->a.next_cursor = next;
	}
	return true;
}

static int by_bytes(const void *a, const void *b)
{
	const struct wire_string *x = a, *y = b;
	int32_t n = x->n < y->n ? x->n : y->n;
	int order = n > 0 ? memcmp(x->s, y->s, (size_t)n) : 0;
	return order ? order : (x->n > y->n) - (x->n < y->n);
}

/* The names asked for, or all; sorted, each once. */
static struct wire_string *names_in_order(struct call *c, int32_t *count)
{
	const struct describe_topic_partitions_request *r = c->request;
	size_t there = 0;
	struct topic **all = r->topics.n ? NULL : topics_take(call_broker(c), &there);
	int32_t n = r->topics.n ? r->topics.n : (int32_t)there, kept = 0;
	struct wire_string *names = all || r->topics.n ? call_get(c, ((size_t)n + 1) * sizeof *names) : NULL;
	for (int32_t i = 0; names && i < n; i++)
		names[i] = r->topics.n ? r->topics.v[i].name : text_copy(c, topic_name(all[i]));
	topics_drop(all, there);
	if (!names)
		return NULL;
	qsort(names, (size_t)n, sizeof *names, by_bytes);
	for (int32_t i = 0; i < n; i++)
		if (!kept || !wire_string_eq(names[kept - 1], names[i]))
			names[kept++] = names[i];
	*count = kept;
	return names;
}

void handle_describe_topic_partitions(struct call *c)
{
	const struct describe_topic_partitions_request *r = c->request;
	struct page page = {.left = r->response_partition_limit < PARTITIONS_MAX ? r->response_partition_limit : PARTITIONS_MAX};
	int32_t n = 0;
	wire_init(&wire_describe_topic_partitions_response, &page.a);
	struct wire_string *names = names_in_order(c, &n);
	bool good = names && (page.a.topics.v = call_array(c, &wire_describe_topic_partitions_response_topic, n));
	for (int32_t i = 0; good && i < n && !page.a.next_cursor; i++) {
		int16_t error = KAFKA_NONE;
		int order = r->cursor ? by_bytes(&names[i], &r->cursor->topic_name) : 1;
		if (order < 0)
			continue;
		struct topic *t = call_topic(c, names[i], NULL, &error);
		if (t) {
			good = add_to_page(c, &page, t, order == 0 ? r->cursor->partition_index : 0);
			topic_unref(t);
		} else if (r->topics.n) {
			struct describe_topic_partitions_response_topic *a = &page.a.topics.v[page.a.topics.n++];
			a->error_code = error;
			a->name = names[i];
		}
	}
	if (good)
		call_answer(c, &page.a);
	else
		call_close(c, "no memory for metadata");
}
