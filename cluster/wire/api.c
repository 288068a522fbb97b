#include "cluster/wire/api.h"

#define API(key_, name_, messages_, min_, max_, advertised_) \
	[key_] = {.key = key_, .name = name_, .min = min_, .max = max_, .advertised_min = advertised_, \
		.request = &wire_##messages_##_request, .response = &wire_##messages_##_response}
#define BETWEEN_BROKERS(key_, name_, messages_, version_) \
	[key_] = {.key = key_, .name = name_, .min = version_, .max = version_, .advertised_min = version_, .between_brokers = true, \
		.request = &wire_##messages_##_request, .response = &wire_##messages_##_response}
const struct api api_table[API_KEYS] = {
	API(API_PRODUCE,                   "Produce",                 produce,                   3, 13, 0),
	API(API_FETCH,                     "Fetch",                   fetch,                     4, 18, 4),
	API(API_LIST_OFFSETS,              "ListOffsets",             list_offsets,              1, 10, 1),
	API(API_METADATA,                  "Metadata",                metadata,                  0, 13, 0),
	API(API_OFFSET_COMMIT,             "OffsetCommit",            offset_commit,             2, 9, 2),
	API(API_OFFSET_FETCH,              "OffsetFetch",             offset_fetch,              1, 9, 1),
	API(API_FIND_COORDINATOR,          "FindCoordinator",         find_coordinator,          0, 6, 0),
	API(API_JOIN_GROUP,                "JoinGroup",               join_group,                0, 9, 0),
	API(API_HEARTBEAT,                 "Heartbeat",               heartbeat,                 0, 4, 0),
	API(API_LEAVE_GROUP,               "LeaveGroup",              leave_group,               0, 5, 0),
	API(API_SYNC_GROUP,                "SyncGroup",               sync_group,                0, 5, 0),
	API(API_DESCRIBE_GROUPS,           "DescribeGroups",          describe_groups,           0, 6, 0),
	API(API_LIST_GROUPS,               "ListGroups",              list_groups,               0, 5, 0),
	API(API_VERSIONS,                  "ApiVersions",             api_versions,              0, 4, 0),
	API(API_CREATE_TOPICS,             "CreateTopics",            create_topics,             2, 7, 2),
	API(API_DELETE_TOPICS,             "DeleteTopics",            delete_topics,             1, 6, 1),
	API(API_DELETE_RECORDS,            "DeleteRecords",           delete_records,            0, 2, 0),
	API(API_INIT_PRODUCER_ID,          "InitProducerId",          init_producer_id,          0, 5, 0),
	API(API_OFFSET_FOR_LEADER_EPOCH,   "OffsetForLeaderEpoch",    offset_for_leader_epoch,   2, 4, 2),
	API(API_DESCRIBE_CONFIGS,          "DescribeConfigs",         describe_configs,          1, 4, 1),
	API(API_ALTER_CONFIGS,             "AlterConfigs",            alter_configs,             0, 2, 0),
	API(API_DESCRIBE_LOG_DIRS,         "DescribeLogDirs",         describe_log_dirs,         1, 4, 1),
	API(API_CREATE_PARTITIONS,         "CreatePartitions",        create_partitions,         0, 3, 0),
	API(API_DELETE_GROUPS,             "DeleteGroups",            delete_groups,             0, 2, 0),
	API(API_INCREMENTAL_ALTER_CONFIGS, "IncrementalAlterConfigs", incremental_alter_configs, 0, 1, 0),
	API(API_OFFSET_DELETE,             "OffsetDelete",            offset_delete,             0, 0, 0),
	API(API_DESCRIBE_CLUSTER,          "DescribeCluster",         describe_cluster,          0, 2, 0),
	API(API_DESCRIBE_PRODUCERS,        "DescribeProducers",       describe_producers,        0, 0, 0),
	API(API_DESCRIBE_TOPIC_PARTITIONS, "DescribeTopicPartitions", describe_topic_partitions, 0, 0, 0),
	API(API_ELECT_LEADERS,             "ElectLeaders",            elect_leaders,             0, 2, 0),
	API(API_ALTER_PARTITION_REASSIGNMENTS, "AlterPartitionReassignments", alter_partition_reassignments, 0, 1, 0),
	API(API_LIST_PARTITION_REASSIGNMENTS,  "ListPartitionReassignments",  list_partition_reassignments,  0, 0, 0),
	BETWEEN_BROKERS(API_LEADER_AND_ISR,      "LeaderAndIsr",       leader_and_isr,      7),
	BETWEEN_BROKERS(API_STOP_REPLICA,        "StopReplica",        stop_replica,        4),
	BETWEEN_BROKERS(API_UPDATE_METADATA,     "UpdateMetadata",     update_metadata,     8),
	BETWEEN_BROKERS(API_CONTROLLED_SHUTDOWN, "ControlledShutdown", controlled_shutdown, 3),
	BETWEEN_BROKERS(API_ALTER_PARTITION,     "AlterPartition",     alter_partition,     3),
};

static const struct api own_table[API_OWN_END - API_OWN] = {
	{.key = API_VIEW_LOOKUP, .name = "ViewLookup", .between_brokers = true, .request = &wire_view_lookup_request, .response = &wire_view_lookup_response},
	{.key = API_REPLICA_SUMS, .name = "ReplicaSums", .between_brokers = true, .request = &wire_replica_sums_request, .response = &wire_replica_sums_response},
};

const struct api *api_find(int key)
{
	if (key >= API_OWN && key < API_OWN_END)
		return &own_table[key - API_OWN];
	return key >= 0 && key < API_KEYS && api_table[key].name ? &api_table[key] : NULL;
}

ssize_t api_decode_request_header(const void *frame, size_t n, struct arena *arena, struct request_header *h, const struct api **api, struct err *e)
{
	if (n < 4)
		return err_set(e, ERR_CORRUPT, "a request of %zu bytes", n);
	int key = (int16_t)be16_get(frame), version = (int16_t)be16_get((const uint8_t *)frame + 2);
	*api = api_find(key);
	if (!*api)
		return err_set(e, ERR_UNSUPPORTED, "a request with the unknown API key %d, version %d", key, version);
	ssize_t used = wire_decode(&wire_request_header, api_request_header(*api, version), frame, n, arena, h, e);
	if (used >= 0 && h->client_id.n < 0)
		h->client_id = wire_string("");
	return used;
}

ssize_t api_decode_response_header(const struct api *api, int version, const void *frame, size_t n, struct response_header *h, struct err *e)
{
	return wire_decode(&wire_response_header, api_response_header(api, version), frame, n, NULL, h, e);
}

static int encode_frame(const struct wire_struct *header_desc, int header_version, const void *header, const struct wire_struct *desc, int version, const void *message,
	struct wire_out *out, struct err *e)
{
	size_t start = out->bytes.len, inserted = out->inserted, n_inserts = out->n_inserts;
	wr_i32(&out->bytes, 0);
	int rc = out->bytes.failed ? err_set(e, ERR_TOO_LARGE, "%s: no room for its length", desc->name) : 0;
	if (rc == 0)
		rc = wire_encode(header_desc, header_version, header, out, e);
	if (rc == 0)
		rc = wire_encode(desc, version, message, out, e);
	size_t length = out->bytes.len - start - 4 + out->inserted - inserted;
	if (rc == 0 && length > INT32_MAX)
		rc = err_set(e, ERR_TOO_LARGE, "%s of %zu bytes", desc->name, length);
	if (rc == 0) {
		be32_put(out->bytes.data + start, (uint32_t)length);
		return 0;
	}
	out->bytes.len = start;
	out->bytes.failed = false;
	out->inserted = inserted;
	out->n_inserts = n_inserts;
	return rc;
}

int api_encode_request(const struct api *api, int version, int32_t correlation_id, struct wire_string client_id, const void *request, struct wire_out *out, struct err *e)
{
	struct request_header h = {.api_key = api->key, .api_version = (int16_t)version, .correlation_id = correlation_id, .client_id = client_id};
	return encode_frame(&wire_request_header, api_request_header(api, version), &h, api->request, version, request, out, e);
}

int api_encode_response(const struct api *api, int version, int32_t correlation_id, const void *response, struct wire_out *out, struct err *e)
{
	struct response_header h = {.correlation_id = correlation_id};
	return encode_frame(&wire_response_header, api_response_header(api, version), &h, api->response, version, response, out, e);
}

ssize_t wire_decode_versioned(const struct wire_struct *desc, const void *bytes, size_t n, struct arena *arena, void *message, int *version, struct err *e)
{
	if (n < 2)
		return err_set(e, ERR_CORRUPT, "%s of %zu bytes", desc->name, n);
	*version = (int16_t)be16_get(bytes);
	ssize_t used = wire_decode(desc, *version, (const uint8_t *)bytes + 2, n - 2, arena, message, e);
	return used < 0 ? used : used + 2;
}

int wire_encode_versioned(const struct wire_struct *desc, int version, const void *message, struct wire_out *out, struct err *e)
{
	size_t start = out->bytes.len;
	wr_i16(&out->bytes, (int16_t)version);
	int rc = out->bytes.failed ? err_set(e, ERR_TOO_LARGE, "%s: no room for its version", desc->name) : wire_encode(desc, version, message, out, e);
	if (rc < 0) {
		out->bytes.len = start;
		out->bytes.failed = false;
	}
	return rc;
}
