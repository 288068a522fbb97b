/*
 * talk ADDRESS: asks a broker everything that cluster/wire has a message for, in every version that both know, through the client.
 *
 * Prints a line for each request: API, version, and every error code in the response that is not NONE. test_client.py says what has to come out. On a broker
 * that has no topic "talk" yet.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cluster/wire/client.h"
#include "cluster/wire/errors.h"
#include "store/batch.h"

static struct client *client;
static struct wire_uuid topic_id;
static int version; /* of the request being made */

#define CHECK(what) check(what, #what)

static void check(bool holds, const char *what)
{
	if (holds)
		return;
	printf("version %d: not so: %s\n", version, what);
	exit(1);
}

/* Calls with every field named error_code, wherever it is. */
static void each_error(const struct wire_struct *desc, const uint8_t *in, void (*call_with)(int code))
{
	for (int i = 0; i < desc->n_fields; i++) {
		const struct wire_field *f = &desc->fields[i];
		const uint8_t *at = in + f->offset;
		if (strcmp(f->name, "error_code") == 0 && *(const int16_t *)at)
			call_with(*(const int16_t *)at);
		const struct wire_array *a = (const struct wire_array *)at;
		for (int32_t k = 0; f->type == WIRE_ARRAY && f->of && k < a->n; k++)
			each_error(f->of, (const uint8_t *)a->v + (size_t)k * f->of->size, call_with);
	}
}

static void print_error(int code)
{
	printf(" %s", kafka_error_name(code));
}

static bool too_early;

/* __consumer_offsets is made by the first who asks for a coordinator, and then loaded; a block of producer ids has to be fetched. */
static void notice_too_early(int code)
{
	if (code == KAFKA_COORDINATOR_LOAD_IN_PROGRESS || code == KAFKA_COORDINATOR_NOT_AVAILABLE || code == KAFKA_NOT_COORDINATOR)
		too_early = true;
}

static void call_quietly(int key, int at_version, const void *request, void *response)
{
	struct err e = ERR_INIT;
	for (int i = 0; i < 300; i++) {
		int rc = client_send(client, key, at_version, request, &e);
		if (rc == 0)
			rc = client_receive(client, key, response, &e);
		if (rc < 0) {
			printf("%s %d: %s\n", api_find(key)->name, at_version, e.text);
			exit(1);
		}
		too_early = false;
		each_error(api_find(key)->response, response, notice_too_early);
		if (!too_early)
			return;
		usleep(100000);
	}
}

static void call(int key, const void *request, void *response)
{
	call_quietly(key, version, request, response);
	printf("%s %d", api_find(key)->name, version);
	each_error(api_find(key)->response, response, print_error);
	printf("\n");
}

/* A request and a response with their defaults. */
#define TALK(name) \
	struct name##_request q; \
	struct name##_response r; \
	wire_init(&wire_##name##_request, &q)
#define ONE(array_, element) ((array_).v = (element), (array_).n = 1)

static char *name_of(const char *what)
{
	static char text[4][64];
	static int turn;
	turn = (turn + 1) % 4;
	snprintf(text[turn], sizeof text[turn], "%s-%d", what, version);
	return text[turn];
}

/* ---- topics and records ---- */

static void create_topics(void)
{
	struct create_topics_request_topic t = {.name = wire_string(name_of("made")), .num_partitions = 1, .replication_factor = 1};
	TALK(create_topics);
	ONE(q.topics, &t);
	call(API_CREATE_TOPICS, &q, &r);
	CHECK(version < 7 || !wire_uuid_is_zero(&r.topics.v[0].topic_id));
	CHECK(r.topics.n == 1 && wire_string_eq(r.topics.v[0].name, t.name));
}

static void delete_topics(void)
{
	struct wire_string name = wire_string(name_of("gone"));
	struct create_topics_request_topic made = {.name = name, .num_partitions = 1, .replication_factor = 1};
	struct create_topics_request create;
	struct create_topics_response created;
	struct delete_topics_request_topic t;
	TALK(delete_topics);
	wire_init(&wire_create_topics_request, &create);
	ONE(create.topics, &made);
	call_quietly(API_CREATE_TOPICS, -1, &create, &created);
	CHECK(created.topics.v[0].error_code == KAFKA_NONE);
	q.timeout_ms = 10000;
	wire_init(&wire_delete_topics_request_topic, &t);
	t.name = name;
	if (version >= 6)
		ONE(q.topics, &t);
	else
		ONE(q.topic_names, &name);
	call(API_DELETE_TOPICS, &q, &r);
	CHECK(r.responses.n == 1 && wire_string_eq(r.responses.v[0].name, name));
}

static void create_partitions(void)
{
	struct create_partitions_request_topic t;
	TALK(create_partitions);
	wire_init(&wire_create_partitions_request_topic, &t);
	t.name = wire_string("talk");
	t.count = 2 + version;
	t.assignments.n = -1;
	ONE(q.topics, &t);
	q.timeout_ms = 10000;
	call(API_CREATE_PARTITIONS, &q, &r);
}

static void metadata(void)
{
	struct metadata_request_topic t;
	TALK(metadata);
	wire_init(&wire_metadata_request_topic, &t);
	t.name = wire_string("talk");
	ONE(q.topics, &t);
	call(API_METADATA, &q, &r);
	CHECK(r.topics.n == 1 && wire_string_is(r.topics.v[0].name, "talk") && r.topics.v[0].partitions.n >= 1);
	CHECK(r.brokers.n == 1 && r.topics.v[0].partitions.v[0].leader_id == r.brokers.v[0].node_id && r.topics.v[0].partitions.v[0].replica_nodes.n == 1);
	CHECK(version < 2 || r.cluster_id.n > 0);
}

static void produce(void)
{
	struct produce_request_partition p;
	struct produce_request_topic t;
	struct record_set records;
	struct batch_style style = {.producer_id = -1, .producer_epoch = -1, .base_sequence = -1, .max_batch_bytes = 100000};
	size_t taken;
	TALK(produce);
	record_set_init(&records);
	CHECK(record_set_add_lines(&records, &style, "one\ntwo\n", 8, 1750000000000, &taken, NULL) == 0);
	wire_init(&wire_produce_request_partition, &p);
	wire_init(&wire_produce_request_topic, &t);
	p.records = (struct wire_records){records.bytes.data, (int32_t)records.bytes.len, NULL};
	t.name = wire_string("talk");
	t.topic_id = topic_id;
	ONE(t.partition_data, &p);
	ONE(q.topic_data, &t);
	q.acks = -1;
	q.timeout_ms = 10000;
	call(API_PRODUCE, &q, &r);
	CHECK(r.responses.n == 1 && r.responses.v[0].partition_responses.n == 1 && r.responses.v[0].partition_responses.v[0].base_offset == (version - 3) * 2);
	record_set_release(&records);
}

static void fetch(void)
{
	struct fetch_request_partition p;
	struct fetch_request_topic t;
	TALK(fetch);
	wire_init(&wire_fetch_request_partition, &p);
	wire_init(&wire_fetch_request_topic, &t);
	p.partition_max_bytes = 1 << 20;
	t.topic = wire_string("talk");
	t.topic_id = topic_id;
	ONE(t.partitions, &p);
	ONE(q.topics, &t);
	q.max_wait_ms = 100;
	q.min_bytes = 1;
	call(API_FETCH, &q, &r);
	CHECK(r.responses.n == 1 && r.responses.v[0].partitions.n == 1 && r.responses.v[0].partitions.v[0].high_watermark == 22);
	struct batch b;
	struct wire_records got = r.responses.v[0].partitions.v[0].records;
	CHECK(batch_decode(&b, got.p, (size_t)got.n, 1 << 20, NULL) == 0 && b.base_offset == 0 && b.record_count == 2);
}

static void list_offsets(void)
{
	struct list_offsets_request_partition p;
	struct list_offsets_request_topic t;
	TALK(list_offsets);
	wire_init(&wire_list_offsets_request_partition, &p);
	wire_init(&wire_list_offsets_request_topic, &t);
	p.timestamp = -1;
	t.name = wire_string("talk");
	ONE(t.partitions, &p);
	ONE(q.topics, &t);
	q.replica_id = -1;
	call(API_LIST_OFFSETS, &q, &r);
	CHECK(r.topics.n == 1 && r.topics.v[0].partitions.v[0].offset == 22);
}

static void offset_for_leader_epoch(void)
{
	struct offset_for_leader_epoch_request_partition p;
	struct offset_for_leader_epoch_request_topic t;
	TALK(offset_for_leader_epoch);
	wire_init(&wire_offset_for_leader_epoch_request_partition, &p);
	wire_init(&wire_offset_for_leader_epoch_request_topic, &t);
	t.topic = wire_string("talk");
	ONE(t.partitions, &p);
	ONE(q.topics, &t);
	q.replica_id = -1;
	call(API_OFFSET_FOR_LEADER_EPOCH, &q, &r);
	CHECK(r.topics.n == 1 && r.topics.v[0].partitions.v[0].end_offset == 22);
}

static void delete_records(void)
{
	struct delete_records_request_partition p = {.offset = version + 1};
	struct delete_records_request_topic t = {.name = wire_string("talk"), .partitions = {&p, 1}};
	TALK(delete_records);
	ONE(q.topics, &t);
	q.timeout_ms = 10000;
	call(API_DELETE_RECORDS, &q, &r);
	CHECK(r.topics.n == 1 && r.topics.v[0].partitions.v[0].low_watermark == version + 1);
}

static void init_producer_id(void)
{
	TALK(init_producer_id);
	q.transactional_id = WIRE_NULL_STRING;
	q.transaction_timeout_ms = INT32_MAX;
	call(API_INIT_PRODUCER_ID, &q, &r);
	CHECK(r.producer_id >= 0 && r.producer_epoch == 0);
}

static void describe_producers(void)
{
	int32_t partition = 0;
	struct describe_producers_request_topic t = {.name = wire_string("talk"), .partition_indexes = {&partition, 1}};
	TALK(describe_producers);
	ONE(q.topics, &t);
	call(API_DESCRIBE_PRODUCERS, &q, &r);
	CHECK(r.topics.n == 1 && r.topics.v[0].partitions.n == 1);
}

static void describe_topic_partitions(void)
{
	struct describe_topic_partitions_request_topic t = {.name = wire_string("talk")};
	TALK(describe_topic_partitions);
	ONE(q.topics, &t);
	q.response_partition_limit = 1;
	call(API_DESCRIBE_TOPIC_PARTITIONS, &q, &r);
	CHECK(r.topics.n == 1 && r.topics.v[0].partitions.n == 1);
	CHECK(r.next_cursor && wire_string_is(r.next_cursor->topic_name, "talk") && r.next_cursor->partition_index == 1);
	struct describe_topic_partitions_request_cursor cursor = {wire_string("talk"), 1};
	q.cursor = &cursor;
	call(API_DESCRIBE_TOPIC_PARTITIONS, &q, &r);
	CHECK(r.topics.v[0].partitions.v[0].partition_index == 1);
}

/* ---- brokers and properties ---- */

static void api_versions(void)
{
	TALK(api_versions);
	q.client_software_name = wire_string("talk");
	q.client_software_version = wire_string("1.0");
	call(API_VERSIONS, &q, &r);
	CHECK(r.api_keys.n > 20 && (version < 3 || r.supported_features.n > 0));
}

static void describe_cluster(void)
{
	TALK(describe_cluster);
	call(API_DESCRIBE_CLUSTER, &q, &r);
	CHECK(r.brokers.n == 1 && r.cluster_id.n > 0);
}

static void describe_log_dirs(void)
{
	TALK(describe_log_dirs);
	q.topics.n = -1;
	call(API_DESCRIBE_LOG_DIRS, &q, &r);
	CHECK(r.results.n == 1 && r.results.v[0].topics.n > 0 && (version < 4 || r.results.v[0].total_bytes > 0));
}

enum { RESOURCE_TOPIC = 2 };

static void describe_configs(void)
{
	struct wire_string key = wire_string("retention.ms");
	struct describe_configs_request_resource one = {.resource_type = RESOURCE_TOPIC, .resource_name = wire_string("talk"), .configuration_keys = {&key, 1}};
	TALK(describe_configs);
	ONE(q.resources, &one);
	q.include_synonyms = true;
	call(API_DESCRIBE_CONFIGS, &q, &r);
	CHECK(r.results.n == 1 && r.results.v[0].configs.n == 1 && wire_string_is(r.results.v[0].configs.v[0].value, "77777") && r.results.v[0].configs.v[0].synonyms.n > 0);
}

static void alter_configs(void)
{
	struct alter_configs_request_config config = {wire_string("retention.ms"), wire_string("77777")};
	struct alter_configs_request_resource one = {.resource_type = RESOURCE_TOPIC, .resource_name = wire_string("talk"), .configs = {&config, 1}};
	TALK(alter_configs);
	ONE(q.resources, &one);
	call(API_ALTER_CONFIGS, &q, &r);
	CHECK(r.responses.n == 1);
}

static void incremental_alter_configs(void)
{
	struct incremental_alter_configs_request_config config = {.name = wire_string("retention.ms"), .value = wire_string("77777")};
	struct incremental_alter_configs_request_resource one = {.resource_type = RESOURCE_TOPIC, .resource_name = wire_string("talk"), .configs = {&config, 1}};
	TALK(incremental_alter_configs);
	ONE(q.resources, &one);
	call(API_INCREMENTAL_ALTER_CONFIGS, &q, &r);
	CHECK(r.responses.n == 1);
}

/* ---- groups ---- */

static void find_coordinator(void)
{
	struct wire_string key = wire_string("group");
	TALK(find_coordinator);
	if (version >= 4)
		ONE(q.coordinator_keys, &key);
	else
		q.key = key;
	call(API_FIND_COORDINATOR, &q, &r);
	CHECK(version >= 4 ? r.coordinators.n == 1 && r.coordinators.v[0].port > 0 : r.port > 0);
}

static char member_id[200];
static int32_t generation;

/* Joins as the only member, at join_version, and syncs at sync_version; leaves member_id and generation. */
static void become_member(const char *group, int join_version, int sync_version)
{
	struct join_group_request_protocol protocol = {.name = wire_string("range"), .metadata = {(const uint8_t *)"meta", 4}};
	struct join_group_response r;
	struct join_group_request q;
	wire_init(&wire_join_group_request, &q);
	q.group_id = wire_string(group);
	q.session_timeout_ms = q.rebalance_timeout_ms = 10000;
	q.protocol_type = wire_string("consumer");
	ONE(q.protocols, &protocol);
	for (int i = 0; i < 2; i++) {
		call_quietly(API_JOIN_GROUP, join_version, &q, &r);
		snprintf(member_id, sizeof member_id, "%.*s", (int)r.member_id.n, r.member_id.s);
		q.member_id = wire_string(member_id);
		if (r.error_code != KAFKA_MEMBER_ID_REQUIRED)
			break;
	}
	CHECK(r.error_code == KAFKA_NONE && r.members.n == 1 && r.members.v[0].metadata.n == 4 && wire_string_is(r.leader, member_id));
	CHECK(wire_string_is(r.protocol_name, "range"));
	generation = r.generation_id;

	struct sync_group_request_assignment assignment = {.member_id = wire_string(member_id), .assignment = {(const uint8_t *)"all", 3}};
	struct sync_group_response s;
	struct sync_group_request a;
	wire_init(&wire_sync_group_request, &a);
	a.group_id = wire_string(group);
	a.member_id = wire_string(member_id);
	a.generation_id = generation;
	a.protocol_type = wire_string("consumer");
	a.protocol_name = wire_string("range");
	ONE(a.assignments, &assignment);
	call_quietly(API_SYNC_GROUP, sync_version, &a, &s);
	CHECK(s.error_code == KAFKA_NONE && s.assignment.n == 3 && memcmp(s.assignment.p, "all", 3) == 0);
}

static void join_group(void)
{
	become_member(name_of("join"), version, 5);
	printf("JoinGroup %d\n", version);
}

static void sync_group(void)
{
	become_member(name_of("sync"), 9, version);
	printf("SyncGroup %d\n", version);
}

static void heartbeat(void)
{
	TALK(heartbeat);
	become_member(name_of("beat"), 9, 5);
	q.group_id = wire_string(name_of("beat"));
	q.member_id = wire_string(member_id);
	q.generation_id = generation;
	call(API_HEARTBEAT, &q, &r);
}

static void leave_group(void)
{
	struct leave_group_request_member one;
	TALK(leave_group);
	become_member(name_of("leave"), 9, 5);
	wire_init(&wire_leave_group_request_member, &one);
	one.member_id = wire_string(member_id);
	q.group_id = wire_string(name_of("leave"));
	if (version >= 3)
		ONE(q.members, &one);
	else
		q.member_id = one.member_id;
	call(API_LEAVE_GROUP, &q, &r);
	CHECK(version < 3 || r.members.n == 1);
}

static void offset_commit(void)
{
	struct offset_commit_request_partition p = {.committed_offset = 3, .committed_leader_epoch = -1, .committed_metadata = wire_string("mine")};
	struct offset_commit_request_topic t = {.name = wire_string("talk"), .partitions = {&p, 1}};
	TALK(offset_commit);
	q.group_id = wire_string("simple");
	ONE(q.topics, &t);
	call(API_OFFSET_COMMIT, &q, &r);
	CHECK(r.topics.n == 1 && r.topics.v[0].partitions.n == 1);
}

static void offset_fetch(void)
{
	int32_t partition = 0;
	struct offset_fetch_request_topic t = {.name = wire_string("talk"), .partition_indexes = {&partition, 1}};
	struct offset_fetch_request_group_topic u = {.name = wire_string("talk"), .partition_indexes = {&partition, 1}};
	struct offset_fetch_request_group g;
	TALK(offset_fetch);
	wire_init(&wire_offset_fetch_request_group, &g);
	if (version >= 8) {
		g.group_id = wire_string("simple");
		ONE(g.topics, &u);
		ONE(q.groups, &g);
	} else {
		q.group_id = wire_string("simple");
		ONE(q.topics, &t);
	}
	call(API_OFFSET_FETCH, &q, &r);
	if (version >= 8)
		CHECK(r.groups.n == 1 && r.groups.v[0].topics.v[0].partitions.v[0].committed_offset == 3 && wire_string_is(r.groups.v[0].topics.v[0].partitions.v[0].metadata, "mine"));
	else
		CHECK(r.topics.n == 1 && r.topics.v[0].partitions.v[0].committed_offset == 3 && wire_string_is(r.topics.v[0].partitions.v[0].metadata, "mine"));
}

static void describe_groups(void)
{
	struct wire_string group = wire_string("join-9");
	TALK(describe_groups);
	ONE(q.groups, &group);
	call(API_DESCRIBE_GROUPS, &q, &r);
	CHECK(r.groups.n == 1 && wire_string_is(r.groups.v[0].group_state, "Stable") && r.groups.v[0].members.n == 1 && r.groups.v[0].members.v[0].member_assignment.n == 3);
}

static void list_groups(void)
{
	TALK(list_groups);
	call(API_LIST_GROUPS, &q, &r);
	CHECK(r.groups.n > 10);
}

static void offset_delete(void)
{
	struct offset_delete_request_partition p = {.partition_index = 0};
	struct offset_delete_request_topic t = {.name = wire_string("talk"), .partitions = {&p, 1}};
	TALK(offset_delete);
	q.group_id = wire_string("simple");
	ONE(q.topics, &t);
	call(API_OFFSET_DELETE, &q, &r);
	CHECK(r.topics.n == 1);
}

static void delete_groups(void)
{
	struct wire_string group = wire_string(name_of("leave"));
	TALK(delete_groups);
	ONE(q.groups_names, &group);
	call(API_DELETE_GROUPS, &q, &r);
	CHECK(r.results.n == 1 && wire_string_eq(r.results.v[0].group_id, group));
}

/* ---- all of them, in an order in which each finds what it needs ---- */

static const struct {
	int key;
	void (*talk)(void);
} talks[] = {
	{API_VERSIONS, api_versions}, {API_CREATE_TOPICS, create_topics}, {API_METADATA, metadata}, {API_PRODUCE, produce}, {API_FETCH, fetch}, {API_LIST_OFFSETS, list_offsets},
	{API_OFFSET_FOR_LEADER_EPOCH, offset_for_leader_epoch}, {API_DELETE_RECORDS, delete_records}, {API_INIT_PRODUCER_ID, init_producer_id}, {API_DESCRIBE_PRODUCERS, describe_producers},
	{API_CREATE_PARTITIONS, create_partitions}, {API_DESCRIBE_TOPIC_PARTITIONS, describe_topic_partitions}, {API_DESCRIBE_CLUSTER, describe_cluster}, {API_DESCRIBE_LOG_DIRS, describe_log_dirs},
	{API_ALTER_CONFIGS, alter_configs}, {API_INCREMENTAL_ALTER_CONFIGS, incremental_alter_configs}, {API_DESCRIBE_CONFIGS, describe_configs},
	{API_FIND_COORDINATOR, find_coordinator}, {API_JOIN_GROUP, join_group}, {API_SYNC_GROUP, sync_group}, {API_HEARTBEAT, heartbeat}, {API_LEAVE_GROUP, leave_group},
	{API_OFFSET_COMMIT, offset_commit}, {API_OFFSET_FETCH, offset_fetch}, {API_DESCRIBE_GROUPS, describe_groups}, {API_LIST_GROUPS, list_groups},
	{API_OFFSET_DELETE, offset_delete}, {API_DELETE_GROUPS, delete_groups}, {API_DELETE_TOPICS, delete_topics},
};

/* The topic that most of them talk of; waits until it has a leader. */
static void make_topic(void)
{
	struct create_topics_request_topic t = {.name = wire_string("talk"), .num_partitions = 1, .replication_factor = 1};
	TALK(create_topics);
	ONE(q.topics, &t);
	call_quietly(API_CREATE_TOPICS, -1, &q, &r);
	CHECK(r.topics.v[0].error_code == KAFKA_NONE);
	topic_id = r.topics.v[0].topic_id;
	struct metadata_request_topic asked = {.name = wire_string("talk")};
	struct metadata_response m;
	struct metadata_request a;
	wire_init(&wire_metadata_request, &a);
	ONE(a.topics, &asked);
	for (int i = 0; i < 300; i++) {
		call_quietly(API_METADATA, -1, &a, &m);
		if (m.topics.v[0].error_code == KAFKA_NONE && m.topics.v[0].partitions.n == 1 && m.topics.v[0].partitions.v[0].leader_id >= 0)
			return;
		usleep(100000);
	}
	CHECK(false);
}

int main(int argc, char **argv)
{
	struct err e = ERR_INIT;
	if (argc != 2 || client_open(&client, argv[1], "talk", CLIENT_TIMEOUT_MS, &e) < 0) {
		fprintf(stderr, "%s\n", argc == 2 ? e.text : "talk ADDRESS");
		return 1;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	make_topic();
	for (size_t i = 0; i < sizeof talks / sizeof *talks; i++) {
		int min, max;
		const struct api *api = api_find(talks[i].key);
		if (!client_broker_versions(client, api->key, &min, &max)) {
			printf("%s is not known there\n", api->name);
			continue;
		}
		printf("%s has %d to %d\n", api->name, min, max);
		for (version = api->min; version <= api->max && version <= max; version++)
			talks[i].talk();
	}
	client_close(client);
	return 0;
}
