#include "fs/remote.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "store/clock.h"

enum { AGAIN_MS = 100 };

static const char client_id[] = "spoolfs";

/* ---- memory ---- */

void *remote_get(struct remote *r, size_t n, struct err *e)
{
	void *p = arena_get(&r->arena, n, e);
	return p ? memset(p, 0, n) : NULL;
}

char *remote_text(struct remote *r, struct wire_string s, struct err *e)
{
	size_t n = s.n > 0 ? (size_t)s.n : 0;
	char *text = arena_get(&r->arena, n + 1, e);
	if (!text)
		return NULL;
	memcpy(text, n ? s.s : "", n);
	text[n] = 0;
	return text;
}

/* ---- connections ---- */

/* Who is there. What was known of a broker that has not moved is kept, with its connection. */
static int learn_brokers(struct remote *r, struct err *e)
{
	struct metadata_request q;
	struct metadata_response a;
	struct metadata_request_topic none;
	wire_init(&wire_metadata_request, &q);
	q.allow_auto_topic_creation = false;
	q.topics.v = &none; /* of no topic */
	q.topics.n = 0;
	int rc = client_call(r->first, API_METADATA, &q, &a, e);
	if (rc < 0)
		return rc;
	struct remote_broker *v = remote_get(r, (size_t)(a.brokers.n + 1) * sizeof *v, e);
	if (!v)
		return ERR_NO_MEMORY;
	for (int32_t i = 0; i < a.brokers.n; i++) {
		v[i] = (struct remote_broker){.id = a.brokers.v[i].node_id, .port = a.brokers.v[i].port, .host = remote_text(r, a.brokers.v[i].host, e)};
		if (!v[i].host)
			return ERR_NO_MEMORY;
		for (size_t k = 0; k < r->broker_count; k++) {
			struct remote_broker *old = &r->broker[k];
			if (old->id == v[i].id && old->port == v[i].port && !strcmp(old->host, v[i].host)) {
				v[i].client = old->client;
				old->client = NULL;
			}
		}
	}
	for (size_t k = 0; k < r->broker_count; k++)
		client_close(r->broker[k].client);
	r->broker = v;
	r->broker_count = (size_t)a.brokers.n;
	return 0;
}

int remote_open(struct remote *r, const char *addresses, int timeout_ms, struct err *e)
{
	*r = (struct remote){.timeout_ms = timeout_ms};
	arena_init(&r->arena, 0);
	char *copy = remote_text(r, wire_string(addresses), e), *rest = copy;
	int rc = ERR_NO_MEMORY;
	for (const char *one = copy ? strtok_r(copy, ",", &rest) : NULL; one && rc < 0; one = strtok_r(NULL, ",", &rest))
		rc = client_open(&r->first, one, client_id, timeout_ms, e);
	if (copy && !*addresses)
		rc = err_set(e, ERR_INVALID, "no address is given");
	if (rc == 0)
		rc = learn_brokers(r, e);
	if (rc < 0)
		remote_release(r);
	return rc;
}

void remote_release(struct remote *r)
{
	for (size_t i = 0; i < r->broker_count; i++)
		client_close(r->broker[i].client);
	client_close(r->first);
	arena_release(&r->arena);
	*r = (struct remote){0};
}

static int connection(struct remote *r, int32_t id, struct client **c, struct err *e)
{
	*c = r->first;
	if (id == REMOTE_ANY)
		return 0;
	for (size_t i = 0; i < r->broker_count; i++) {
		struct remote_broker *b = &r->broker[i];
		char address[400];
		if (b->id != id)
			continue;
		snprintf(address, sizeof address, strchr(b->host, ':') ? "[%s]:%d" : "%s:%d", b->host, (int)b->port);
		int rc = b->client ? 0 : client_open(&b->client, address, client_id, r->timeout_ms, e);
		*c = b->client;
		return rc < 0 ? (err_context(e, "broker %d, which calls itself %s: ", (int)id, address), rc) : 0;
	}
	return err_set(e, ERR_OFFLINE, "broker %d is not there", (int)id);
}

int remote_call(struct remote *r, int32_t broker, int api_key, const void *request, void *response, struct err *e)
{
	struct client *c;
	int rc = connection(r, broker, &c, e);
	return rc < 0 ? rc : client_call(c, api_key, request, response, e);
}

/* ---- coordinators ---- */

static bool is_later(int16_t code)
{
	return code == KAFKA_COORDINATOR_LOAD_IN_PROGRESS || code == KAFKA_COORDINATOR_NOT_AVAILABLE || code == KAFKA_NOT_COORDINATOR;
}

static mono_t deadline_of(const struct remote *r)
{
	return mono_after_ms(mono_now(), r->timeout_ms);
}

/* Waits a moment. false: it is too late. */
static bool again(mono_t deadline)
{
	if (mono_now().ns >= deadline.ns)
		return false;
	nanosleep(&(struct timespec){.tv_nsec = AGAIN_MS * 1000000L}, NULL);
	return true;
}

/* One try: Kafka's code in *error. */
static int find_coordinator(struct remote *r, const char *group, int32_t *broker, int16_t *error, struct err *e)
{
	struct find_coordinator_request q;
	struct find_coordinator_response a;
	struct wire_string key = wire_string(group);
	int version = client_version(r->first, API_FIND_COORDINATOR, e);
	if (version < 0)
		return version;
	wire_init(&wire_find_coordinator_request, &q);
	if (version < 4)
		q.key = key;
	q.coordinator_keys.v = &key;
	q.coordinator_keys.n = version >= 4;
	int rc = client_call(r->first, API_FIND_COORDINATOR, &q, &a, e);
	if (rc < 0)
		return rc;
	if (version >= 4 && a.coordinators.n != 1)
		return err_set(e, ERR_CORRUPT, "the broker was asked for one coordinator and answered with %d", (int)a.coordinators.n);
	*error = version < 4 ? a.error_code : a.coordinators.v[0].error_code;
	*broker = version < 4 ? a.node_id : a.coordinators.v[0].node_id;
	return 0;
}

static int coordinator_until(struct remote *r, const char *group, int32_t *broker, mono_t deadline, struct err *e)
{
	for (;;) {
		int16_t error = KAFKA_NONE;
		int rc = find_coordinator(r, group, broker, &error, e);
		if (rc == 0 && error == KAFKA_NONE)
			rc = learn_brokers(r, e);
		if (rc < 0 || error == KAFKA_NONE)
			return rc;
		if (!is_later(error) || !again(deadline))
			return err_set(e, ERR_OFFLINE, "the coordinator of group %s is not to be found: %s", group, kafka_error_name(error));
	}
}

int remote_coordinator(struct remote *r, const char *group, int32_t *broker, struct err *e)
{
	return coordinator_until(r, group, broker, deadline_of(r), e);
}

int remote_group_call(struct remote *r, const char *group, int api_key, const void *request, void *response, int16_t (*error_of)(const void *response), struct err *e)
{
	mono_t deadline = deadline_of(r);
	for (;;) {
		int32_t broker;
		int rc = coordinator_until(r, group, &broker, deadline, e);
		if (rc == 0)
			rc = remote_call(r, broker, api_key, request, response, e);
		if (rc < 0 || !is_later(error_of(response)))
			return rc;
		if (!again(deadline))
			return err_set(e, ERR_TIMED_OUT, "the coordinator of group %s was not ready in time: %s", group, kafka_error_name(error_of(response)));
	}
}

/* ---- partitions ---- */

int remote_place_order(const void *a, const void *b)
{
	const struct remote_place *x = a, *y = b;
	int order = strcmp(x->topic, y->topic);
	return order ? order : (x->partition > y->partition) - (x->partition < y->partition);
}

/* Metadata of `count` topics. */
static int ask_topics(struct remote *r, const char *const *topic, int32_t count, struct metadata_response *a, struct err *e)
{
	struct metadata_request q;
	wire_init(&wire_metadata_request, &q);
	q.allow_auto_topic_creation = false;
	q.topics.v = remote_get(r, (size_t)(count + 1) * sizeof *q.topics.v, e);
	if (!q.topics.v)
		return ERR_NO_MEMORY;
	q.topics.n = count;
	for (int32_t i = 0; i < count; i++)
		q.topics.v[i].name = wire_string(topic[i]);
	return client_call(r->first, API_METADATA, &q, a, e);
}

int remote_partition_count(struct remote *r, const char *topic, int32_t *count, struct err *e)
{
	struct metadata_response a;
	mono_t deadline = deadline_of(r);
	for (;;) {
		int rc = ask_topics(r, &topic, 1, &a, e);
		if (rc < 0)
			return rc;
		if (a.topics.n != 1)
			return err_set(e, ERR_CORRUPT, "the broker was asked for topic %s and answered with %d", topic, (int)a.topics.n);
		int16_t error = a.topics.v[0].error_code;
		*count = a.topics.v[0].partitions.n;
		if (error == KAFKA_NONE)
			return 0;
		if (error == KAFKA_UNKNOWN_TOPIC_OR_PARTITION)
			return err_set(e, ERR_NOT_FOUND, "there is no topic %s", topic);
		if (!kafka_error_retriable(error) || !again(deadline))
			return err_set(e, ERR_OFFLINE, "topic %s: %s", topic, kafka_error_name(error));
	}
}

static struct remote_place *find_place(struct remote_place *v, size_t n, const char *topic, int32_t partition)
{
	struct remote_place wanted = {.topic = topic, .partition = partition};
	return n ? bsearch(&wanted, v, n, sizeof wanted, remote_place_order) : NULL;
}

int remote_find_leaders(struct remote *r, struct remote_place *v, size_t n, struct err *e)
{
	struct metadata_response a;
	const char **topic = remote_get(r, (n + 1) * sizeof *topic, e);
	int32_t count = 0;
	if (!topic)
		return ERR_NO_MEMORY;
	for (size_t i = 0; i < n; i++) {
		v[i].leader = -1;
		v[i].error = KAFKA_UNKNOWN_TOPIC_OR_PARTITION;
		if (!i || strcmp(v[i].topic, v[i - 1].topic))
			topic[count++] = v[i].topic;
	}
	int rc = count ? ask_topics(r, topic, count, &a, e) : 0;
	if (rc < 0 || !count)
		return rc;
	for (int32_t t = 0; t < a.topics.n; t++) {
		char *name = remote_text(r, a.topics.v[t].name, e);
		if (!name)
			return ERR_NO_MEMORY;
		for (int32_t i = 0; i < a.topics.v[t].partitions.n; i++) {
			struct metadata_response_partition *p = &a.topics.v[t].partitions.v[i];
			struct remote_place *place = find_place(v, n, name, p->partition_index);
			if (!place)
				continue;
			place->leader = p->leader_id;
			place->error = p->leader_id < 0 ? KAFKA_LEADER_NOT_AVAILABLE : KAFKA_NONE;
		}
	}
	return 0;
}

/* What is asked of one leader. */
static int list_at(struct remote *r, struct remote_place *v, size_t n, int32_t leader, int64_t timestamp, struct err *e)
{
	struct list_offsets_request q;
	struct list_offsets_response a;
	wire_init(&wire_list_offsets_request, &q);
	q.replica_id = -1;
	q.timeout_ms = r->timeout_ms;
	q.topics.v = remote_get(r, (n + 1) * sizeof *q.topics.v, e);
	struct list_offsets_request_partition *p = remote_get(r, (n + 1) * sizeof *p, e);
	if (!q.topics.v || !p)
		return ERR_NO_MEMORY;
	const char *last = NULL;
	for (size_t i = 0; i < n; i++) {
		if (v[i].leader != leader || v[i].error)
			continue;
		if (!last || strcmp(last, v[i].topic))
			q.topics.v[q.topics.n++] = (struct list_offsets_request_topic){.name = wire_string(v[i].topic), .partitions = {.v = p}};
		last = v[i].topic;
		*p++ = (struct list_offsets_request_partition){.partition_index = v[i].partition, .current_leader_epoch = -1, .timestamp = timestamp};
		q.topics.v[q.topics.n - 1].partitions.n++;
	}
	int rc = q.topics.n ? remote_call(r, leader, API_LIST_OFFSETS, &q, &a, e) : 0;
	if (rc < 0 || !q.topics.n)
		return rc;
	for (int32_t t = 0; t < a.topics.n; t++) {
		char *name = remote_text(r, a.topics.v[t].name, e);
		if (!name)
			return ERR_NO_MEMORY;
		for (int32_t i = 0; i < a.topics.v[t].partitions.n; i++) {
			struct remote_place *place = find_place(v, n, name, a.topics.v[t].partitions.v[i].partition_index);
			if (!place)
				continue;
			place->offset = a.topics.v[t].partitions.v[i].offset;
			place->error = a.topics.v[t].partitions.v[i].error_code;
		}
	}
	return 0;
}

int remote_list_offsets(struct remote *r, struct remote_place *v, size_t n, int64_t timestamp, struct err *e)
{
	for (size_t i = 0; i < n; i++)
		v[i].offset = -1;
	for (size_t b = 0; b < r->broker_count; b++) {
		int rc = list_at(r, v, n, r->broker[b].id, timestamp, e);
		if (rc < 0)
			return rc;
	}
	return 0;
}
