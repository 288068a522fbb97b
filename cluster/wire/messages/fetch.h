/* fetch: records for consumers and followers, offsets by time, the ends of leader epochs.
 * One of the tables of messages: messages.h includes it, twice. */

#define FIELDS_fetch_request_replica_state(F, S) \
	F(S, int32, replica_id,    SINCE(15), .def = -1) \
	F(S, int64, replica_epoch, SINCE(15), .def = -1)
#define FIELDS_fetch_request_partition(F, S) \
	F(S, int32, partition,            ALWAYS) \
	F(S, int32, current_leader_epoch, SINCE(9), .def = -1, IGNORABLE) \
	F(S, int64, fetch_offset,         ALWAYS) \
	F(S, int32, last_fetched_epoch,   SINCE(12), .def = -1) \
	F(S, int64, log_start_offset,     SINCE(5), .def = -1, IGNORABLE) \
	F(S, int32, partition_max_bytes,  ALWAYS) \
	F(S, uuid,  replica_directory_id, SINCE(17), .tagged = SINCE(17), .tag = 0, IGNORABLE) \
	F(S, int64, high_watermark,       SINCE(18), .tagged = SINCE(18), .tag = 1, .def = INT64_MAX, IGNORABLE)
#define FIELDS_fetch_request_topic(F, S) \
	F(S, string,                         topic,      UNTIL(12), IGNORABLE) \
	F(S, uuid,                           topic_id,   SINCE(13), IGNORABLE) \
	F(S, array(fetch_request_partition), partitions, ALWAYS)
#define FIELDS_fetch_request_forgotten_topic(F, S) \
	F(S, string,      topic,      BETWEEN(7, 12), IGNORABLE) \
	F(S, uuid,        topic_id,   SINCE(13), IGNORABLE) \
	F(S, list(int32), partitions, SINCE(7))
#define FIELDS_fetch_request(F, S) \
	F(S, string,                               cluster_id,            SINCE(12), .nullable = SINCE(12), .tagged = SINCE(12), .tag = 0, .def = NULL_DEFAULT, IGNORABLE) \
	F(S, int32,                                replica_id,            UNTIL(14), .def = -1) \
	F(S, nested(fetch_request_replica_state),  replica_state,         SINCE(15), .tagged = SINCE(15), .tag = 1) \
	F(S, int32,                                max_wait_ms,           ALWAYS) \
	F(S, int32,                                min_bytes,             ALWAYS) \
	F(S, int32,                                max_bytes,             ALWAYS, .def = INT32_MAX, IGNORABLE) \
	F(S, int8,                                 isolation_level,       ALWAYS, IGNORABLE) \
	F(S, int32,                                session_id,            SINCE(7), IGNORABLE) \
	F(S, int32,                                session_epoch,         SINCE(7), .def = -1, IGNORABLE) \
	F(S, array(fetch_request_topic),           topics,                ALWAYS) \
	F(S, array(fetch_request_forgotten_topic), forgotten_topics_data, SINCE(7)) \
	F(S, string,                               rack_id,               SINCE(11), IGNORABLE)
WIRE_STRUCT(fetch_request_replica_state)
WIRE_STRUCT(fetch_request_partition)
WIRE_STRUCT(fetch_request_topic)
WIRE_STRUCT(fetch_request_forgotten_topic)
WIRE_MESSAGE(fetch_request, 4, 18, 12)

#define FIELDS_fetch_response_diverging_epoch(F, S) \
	F(S, int32, epoch,      SINCE(12), .def = -1) \
	F(S, int64, end_offset, SINCE(12), .def = -1)
#define FIELDS_fetch_response_current_leader(F, S) \
	F(S, int32, leader_id,    SINCE(12), .def = -1) \
	F(S, int32, leader_epoch, SINCE(12), .def = -1)
#define FIELDS_fetch_response_snapshot_id(F, S) \
	F(S, int64, end_offset, ALWAYS, .def = -1) \
	F(S, int32, epoch,      ALWAYS, .def = -1)
#define FIELDS_fetch_response_aborted_transaction(F, S) \
	F(S, int64, producer_id,  ALWAYS) \
	F(S, int64, first_offset, ALWAYS)
#define FIELDS_fetch_response_partition(F, S) \
	F(S, int32,                                     partition_index,        ALWAYS) \
	F(S, int16,                                     error_code,             ALWAYS) \
	F(S, int64,                                     high_watermark,         ALWAYS) \
	F(S, int64,                                     last_stable_offset,     ALWAYS, .def = -1, IGNORABLE) \
	F(S, int64,                                     log_start_offset,       SINCE(5), .def = -1, IGNORABLE) \
	F(S, nested(fetch_response_diverging_epoch),    diverging_epoch,        SINCE(12), .tagged = SINCE(12), .tag = 0) \
	F(S, nested(fetch_response_current_leader),     current_leader,         SINCE(12), .tagged = SINCE(12), .tag = 1) \
	F(S, nested(fetch_response_snapshot_id),        snapshot_id,            SINCE(12), .tagged = SINCE(12), .tag = 2) \
	F(S, array(fetch_response_aborted_transaction), aborted_transactions,   ALWAYS, .nullable = ALWAYS, IGNORABLE) \
	F(S, int32,                                     preferred_read_replica, SINCE(11), .def = -1) \
	F(S, records,                                   records,                ALWAYS, .nullable = ALWAYS) \
	/* only to replicas that are out of range, see cluster/replica: where they are to begin anew, and where the view is there */ \
	F(S, int64,                                     begin_position,         SINCE(12), .tagged = SINCE(12), .tag = WIRE_OWN_TAGS, .def = -1, IGNORABLE) \
	F(S, int64,                                     begin_offset,           SINCE(12), .tagged = SINCE(12), .tag = WIRE_OWN_TAGS + 1, .def = -1, IGNORABLE)
#define FIELDS_fetch_response_topic(F, S) \
	F(S, string,                          topic,      UNTIL(12), IGNORABLE) \
	F(S, uuid,                            topic_id,   SINCE(13), IGNORABLE) \
	F(S, array(fetch_response_partition), partitions, ALWAYS)
#define FIELDS_fetch_response_endpoint(F, S) \
	F(S, int32,  node_id, SINCE(16)) \
	F(S, string, host,    SINCE(16)) \
	F(S, int32,  port,    SINCE(16)) \
	F(S, string, rack,    SINCE(16), .nullable = SINCE(16), .def = NULL_DEFAULT)
#define FIELDS_fetch_response(F, S) \
	F(S, int32,                          throttle_time_ms, ALWAYS, IGNORABLE) \
	F(S, int16,                          error_code,       SINCE(7), IGNORABLE) \
	F(S, int32,                          session_id,       SINCE(7)) \
	F(S, array(fetch_response_topic),    responses,        ALWAYS) \
	F(S, array(fetch_response_endpoint), node_endpoints,   SINCE(16), .tagged = SINCE(16), .tag = 0)
WIRE_STRUCT(fetch_response_diverging_epoch)
WIRE_STRUCT(fetch_response_current_leader)
WIRE_STRUCT(fetch_response_snapshot_id)
WIRE_STRUCT(fetch_response_aborted_transaction)
WIRE_STRUCT(fetch_response_partition)
WIRE_STRUCT(fetch_response_topic)
WIRE_STRUCT(fetch_response_endpoint)
WIRE_MESSAGE(fetch_response, 4, 18, 12)

#define FIELDS_list_offsets_request_partition(F, S) \
	F(S, int32, partition_index,      ALWAYS) \
	F(S, int32, current_leader_epoch, SINCE(4), .def = -1, IGNORABLE) \
	F(S, int64, timestamp,            ALWAYS)
#define FIELDS_list_offsets_request_topic(F, S) \
	F(S, string,                                name,       ALWAYS) \
	F(S, array(list_offsets_request_partition), partitions, ALWAYS)
#define FIELDS_list_offsets_request(F, S) \
	F(S, int32,                             replica_id,      ALWAYS) \
	F(S, int8,                              isolation_level, SINCE(2)) \
	F(S, array(list_offsets_request_topic), topics,          ALWAYS) \
	F(S, int32,                             timeout_ms,      SINCE(10), IGNORABLE)
WIRE_STRUCT(list_offsets_request_partition)
WIRE_STRUCT(list_offsets_request_topic)
WIRE_MESSAGE(list_offsets_request, 1, 10, 6)

#define FIELDS_list_offsets_response_partition(F, S) \
	F(S, int32, partition_index, ALWAYS) \
	F(S, int16, error_code,      ALWAYS) \
	F(S, int64, timestamp,       ALWAYS, .def = -1) \
	F(S, int64, offset,          ALWAYS, .def = -1) \
	F(S, int32, leader_epoch,    SINCE(4), .def = -1)
#define FIELDS_list_offsets_response_topic(F, S) \
	F(S, string,                                 name,       ALWAYS) \
	F(S, array(list_offsets_response_partition), partitions, ALWAYS)
#define FIELDS_list_offsets_response(F, S) \
	F(S, int32,                              throttle_time_ms, SINCE(2), IGNORABLE) \
	F(S, array(list_offsets_response_topic), topics,           ALWAYS)
WIRE_STRUCT(list_offsets_response_partition)
WIRE_STRUCT(list_offsets_response_topic)
WIRE_MESSAGE(list_offsets_response, 1, 10, 6)

#define FIELDS_offset_for_leader_epoch_request_partition(F, S) \
	F(S, int32, partition,            ALWAYS) \
	F(S, int32, current_leader_epoch, ALWAYS, .def = -1, IGNORABLE) \
	F(S, int32, leader_epoch,         ALWAYS)
#define FIELDS_offset_for_leader_epoch_request_topic(F, S) \
	F(S, string,                                           topic,      ALWAYS) \
	F(S, array(offset_for_leader_epoch_request_partition), partitions, ALWAYS)
#define FIELDS_offset_for_leader_epoch_request(F, S) \
	F(S, int32,                                        replica_id, SINCE(3), .def = -2, IGNORABLE) \
	F(S, array(offset_for_leader_epoch_request_topic), topics,     ALWAYS)
WIRE_STRUCT(offset_for_leader_epoch_request_partition)
WIRE_STRUCT(offset_for_leader_epoch_request_topic)
WIRE_MESSAGE(offset_for_leader_epoch_request, 2, 4, 4)

#define FIELDS_offset_for_leader_epoch_response_partition(F, S) \
	F(S, int16, error_code,   ALWAYS) \
	F(S, int32, partition,    ALWAYS) \
	F(S, int32, leader_epoch, ALWAYS, .def = -1, IGNORABLE) \
	F(S, int64, end_offset,   ALWAYS, .def = -1)
#define FIELDS_offset_for_leader_epoch_response_topic(F, S) \
	F(S, string,                                            topic,      ALWAYS) \
	F(S, array(offset_for_leader_epoch_response_partition), partitions, ALWAYS)
#define FIELDS_offset_for_leader_epoch_response(F, S) \
	F(S, int32,                                         throttle_time_ms, ALWAYS, IGNORABLE) \
	F(S, array(offset_for_leader_epoch_response_topic), topics,           ALWAYS)
WIRE_STRUCT(offset_for_leader_epoch_response_partition)
WIRE_STRUCT(offset_for_leader_epoch_response_topic)
WIRE_MESSAGE(offset_for_leader_epoch_response, 2, 4, 4)
