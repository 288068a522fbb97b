/* offsets: what groups have committed.
 * One of the tables of messages: messages.h includes it, twice. */

#define FIELDS_offset_commit_request_partition(F, S) \
	F(S, int32,  partition_index,        ALWAYS) \
	F(S, int64,  committed_offset,       ALWAYS) \
	F(S, int32,  committed_leader_epoch, SINCE(6), .def = -1, IGNORABLE) \
	F(S, string, committed_metadata,     ALWAYS, .nullable = ALWAYS)
#define FIELDS_offset_commit_request_topic(F, S) \
	F(S, string,                                 name,       UNTIL(9), IGNORABLE) \
	F(S, uuid,                                   topic_id,   SINCE(10), IGNORABLE) \
	F(S, array(offset_commit_request_partition), partitions, ALWAYS)
#define FIELDS_offset_commit_request(F, S) \
	F(S, string,                             group_id,                      ALWAYS) \
	F(S, int32,                              generation_id_or_member_epoch, ALWAYS, .def = -1, IGNORABLE) \
	F(S, string,                             member_id,                     ALWAYS, IGNORABLE) \
	F(S, string,                             group_instance_id,             SINCE(7), .nullable = SINCE(7), .def = NULL_DEFAULT) \
	F(S, int64,                              retention_time_ms,             UNTIL(4), .def = -1, IGNORABLE) \
	F(S, array(offset_commit_request_topic), topics,                        ALWAYS)
WIRE_STRUCT(offset_commit_request_partition)
WIRE_STRUCT(offset_commit_request_topic)
WIRE_MESSAGE(offset_commit_request, 2, 10, 8)

#define FIELDS_offset_commit_response_partition(F, S) \
	F(S, int32, partition_index, ALWAYS) \
	F(S, int16, error_code,      ALWAYS)
#define FIELDS_offset_commit_response_topic(F, S) \
	F(S, string,                                  name,       UNTIL(9), IGNORABLE) \
	F(S, uuid,                                    topic_id,   SINCE(10), IGNORABLE) \
	F(S, array(offset_commit_response_partition), partitions, ALWAYS)
#define FIELDS_offset_commit_response(F, S) \
	F(S, int32,                               throttle_time_ms, SINCE(3), IGNORABLE) \
	F(S, array(offset_commit_response_topic), topics,           ALWAYS)
WIRE_STRUCT(offset_commit_response_partition)
WIRE_STRUCT(offset_commit_response_topic)
WIRE_MESSAGE(offset_commit_response, 2, 10, 8)

#define FIELDS_offset_fetch_request_topic(F, S) \
	F(S, string,      name,              UNTIL(7)) \
	F(S, list(int32), partition_indexes, UNTIL(7))
#define FIELDS_offset_fetch_request_group_topic(F, S) \
	F(S, string,      name,              BETWEEN(8, 9), IGNORABLE) \
	F(S, uuid,        topic_id,          SINCE(10), IGNORABLE) \
	F(S, list(int32), partition_indexes, SINCE(8))
#define FIELDS_offset_fetch_request_group(F, S) \
	F(S, string,                                  group_id,     SINCE(8)) \
	F(S, string,                                  member_id,    SINCE(9), .nullable = SINCE(9), .def = NULL_DEFAULT, IGNORABLE) \
	F(S, int32,                                   member_epoch, SINCE(9), .def = -1, IGNORABLE) \
	F(S, array(offset_fetch_request_group_topic), topics,       SINCE(8), .nullable = SINCE(8))
#define FIELDS_offset_fetch_request(F, S) \
	F(S, string,                            group_id,       UNTIL(7)) \
	F(S, array(offset_fetch_request_topic), topics,         UNTIL(7), .nullable = BETWEEN(2, 7)) \
	F(S, array(offset_fetch_request_group), groups,         SINCE(8)) \
	F(S, bool,                              require_stable, SINCE(7))
WIRE_STRUCT(offset_fetch_request_topic)
WIRE_STRUCT(offset_fetch_request_group_topic)
WIRE_STRUCT(offset_fetch_request_group)
WIRE_MESSAGE(offset_fetch_request, 1, 10, 6)

#define FIELDS_offset_fetch_response_partition(F, S) \
	F(S, int32,  partition_index,        UNTIL(7)) \
	F(S, int64,  committed_offset,       UNTIL(7)) \
	F(S, int32,  committed_leader_epoch, BETWEEN(5, 7), .def = -1, IGNORABLE) \
	F(S, string, metadata,               UNTIL(7), .nullable = UNTIL(7)) \
	F(S, int16,  error_code,             UNTIL(7))
#define FIELDS_offset_fetch_response_topic(F, S) \
	F(S, string,                                 name,       UNTIL(7)) \
	F(S, array(offset_fetch_response_partition), partitions, UNTIL(7))
#define FIELDS_offset_fetch_response_topic_partition(F, S) \
	F(S, int32,  partition_index,        SINCE(8)) \
	F(S, int64,  committed_offset,       SINCE(8)) \
	F(S, int32,  committed_leader_epoch, SINCE(8), .def = -1, IGNORABLE) \
	F(S, string, metadata,               SINCE(8), .nullable = SINCE(8)) \
	F(S, int16,  error_code,             SINCE(8))
#define FIELDS_offset_fetch_response_group_topic(F, S) \
	F(S, string,                                       name,       BETWEEN(8, 9), IGNORABLE) \
	F(S, uuid,                                         topic_id,   SINCE(10), IGNORABLE) \
	F(S, array(offset_fetch_response_topic_partition), partitions, SINCE(8))
#define FIELDS_offset_fetch_response_group(F, S) \
	F(S, string,                                   group_id,   SINCE(8)) \
	F(S, array(offset_fetch_response_group_topic), topics,     SINCE(8)) \
	F(S, int16,                                    error_code, SINCE(8))
#define FIELDS_offset_fetch_response(F, S) \
	F(S, int32,                              throttle_time_ms, SINCE(3), IGNORABLE) \
	F(S, array(offset_fetch_response_topic), topics,           UNTIL(7)) \
	F(S, int16,                              error_code,       BETWEEN(2, 7), IGNORABLE) \
	F(S, array(offset_fetch_response_group), groups,           SINCE(8))
WIRE_STRUCT(offset_fetch_response_partition)
WIRE_STRUCT(offset_fetch_response_topic)
WIRE_STRUCT(offset_fetch_response_topic_partition)
WIRE_STRUCT(offset_fetch_response_group_topic)
WIRE_STRUCT(offset_fetch_response_group)
WIRE_MESSAGE(offset_fetch_response, 1, 10, 6)

#define FIELDS_offset_delete_request_partition(F, S) \
	F(S, int32, partition_index, ALWAYS)
#define FIELDS_offset_delete_request_topic(F, S) \
	F(S, string,                                 name,       ALWAYS) \
	F(S, array(offset_delete_request_partition), partitions, ALWAYS)
#define FIELDS_offset_delete_request(F, S) \
	F(S, string,                             group_id, ALWAYS) \
	F(S, array(offset_delete_request_topic), topics,   ALWAYS)
WIRE_STRUCT(offset_delete_request_partition)
WIRE_STRUCT(offset_delete_request_topic)
WIRE_MESSAGE(offset_delete_request, 0, 0, NEVER)

#define FIELDS_offset_delete_response_partition(F, S) \
	F(S, int32, partition_index, ALWAYS) \
	F(S, int16, error_code,      ALWAYS)
#define FIELDS_offset_delete_response_topic(F, S) \
	F(S, string,                                  name,       ALWAYS) \
	F(S, array(offset_delete_response_partition), partitions, ALWAYS)
#define FIELDS_offset_delete_response(F, S) \
	F(S, int16,                               error_code,       ALWAYS) \
	F(S, int32,                               throttle_time_ms, ALWAYS, IGNORABLE) \
	F(S, array(offset_delete_response_topic), topics,           ALWAYS)
WIRE_STRUCT(offset_delete_response_partition)
WIRE_STRUCT(offset_delete_response_topic)
WIRE_MESSAGE(offset_delete_response, 0, 0, NEVER)
