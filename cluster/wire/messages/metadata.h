/* metadata: brokers, topics, partitions and who leads them.
 * One of the tables of messages: messages.h includes it, twice. */

#define FIELDS_metadata_request_topic(F, S) \
	F(S, uuid,   topic_id, SINCE(10), IGNORABLE) \
	F(S, string, name,     ALWAYS, .nullable = SINCE(10))
#define FIELDS_metadata_request(F, S) \
	F(S, array(metadata_request_topic), topics,                                ALWAYS, .nullable = SINCE(1)) \
	F(S, bool,                          allow_auto_topic_creation,             SINCE(4), .def = true) \
	F(S, bool,                          include_cluster_authorized_operations, BETWEEN(8, 10)) \
	F(S, bool,                          include_topic_authorized_operations,   SINCE(8))
WIRE_STRUCT(metadata_request_topic)
WIRE_MESSAGE(metadata_request, 0, 13, 9)

#define FIELDS_metadata_response_broker(F, S) \
	F(S, int32,  node_id, ALWAYS) \
	F(S, string, host,    ALWAYS) \
	F(S, int32,  port,    ALWAYS) \
	F(S, string, rack,    SINCE(1), .nullable = SINCE(1), .def = NULL_DEFAULT, IGNORABLE)
#define FIELDS_metadata_response_partition(F, S) \
	F(S, int16,       error_code,       ALWAYS) \
	F(S, int32,       partition_index,  ALWAYS) \
	F(S, int32,       leader_id,        ALWAYS) \
	F(S, int32,       leader_epoch,     SINCE(7), .def = -1, IGNORABLE) \
	F(S, list(int32), replica_nodes,    ALWAYS) \
	F(S, list(int32), isr_nodes,        ALWAYS) \
	F(S, list(int32), offline_replicas, SINCE(5), IGNORABLE)
#define FIELDS_metadata_response_topic(F, S) \
	F(S, int16,                              error_code,                  ALWAYS) \
	F(S, string,                             name,                        ALWAYS, .nullable = SINCE(12)) \
	F(S, uuid,                               topic_id,                    SINCE(10), IGNORABLE) \
	F(S, bool,                               is_internal,                 SINCE(1), IGNORABLE) \
	F(S, array(metadata_response_partition), partitions,                  ALWAYS) \
	F(S, int32,                              topic_authorized_operations, SINCE(8), .def = INT32_MIN)
#define FIELDS_metadata_response(F, S) \
	F(S, int32,                           throttle_time_ms,              SINCE(3), IGNORABLE) \
	F(S, array(metadata_response_broker), brokers,                       ALWAYS) \
	F(S, string,                          cluster_id,                    SINCE(2), .nullable = SINCE(2), .def = NULL_DEFAULT, IGNORABLE) \
	F(S, int32,                           controller_id,                 SINCE(1), .def = -1, IGNORABLE) \
	F(S, array(metadata_response_topic),  topics,                        ALWAYS) \
	F(S, int32,                           cluster_authorized_operations, BETWEEN(8, 10), .def = INT32_MIN) \
	F(S, int16,                           error_code,                    SINCE(13), IGNORABLE)
WIRE_STRUCT(metadata_response_broker)
WIRE_STRUCT(metadata_response_partition)
WIRE_STRUCT(metadata_response_topic)
WIRE_MESSAGE(metadata_response, 0, 13, 9)

#define FIELDS_describe_topic_partitions_request_topic(F, S) \
	F(S, string, name, ALWAYS)
#define FIELDS_describe_topic_partitions_request_cursor(F, S) \
	F(S, string, topic_name,      ALWAYS) \
	F(S, int32,  partition_index, ALWAYS)
#define FIELDS_describe_topic_partitions_request(F, S) \
	F(S, array(describe_topic_partitions_request_topic),     topics,                   ALWAYS) \
	F(S, int32,                                              response_partition_limit, ALWAYS, .def = 2000) \
	F(S, optional(describe_topic_partitions_request_cursor), cursor,                   ALWAYS, .nullable = ALWAYS)
WIRE_STRUCT(describe_topic_partitions_request_topic)
WIRE_STRUCT(describe_topic_partitions_request_cursor)
WIRE_MESSAGE(describe_topic_partitions_request, 0, 0, 0)

#define FIELDS_describe_topic_partitions_response_partition(F, S) \
	F(S, int16,       error_code,               ALWAYS) \
	F(S, int32,       partition_index,          ALWAYS) \
	F(S, int32,       leader_id,                ALWAYS) \
	F(S, int32,       leader_epoch,             ALWAYS, .def = -1, IGNORABLE) \
	F(S, list(int32), replica_nodes,            ALWAYS) \
	F(S, list(int32), isr_nodes,                ALWAYS) \
	F(S, list(int32), eligible_leader_replicas, ALWAYS, .nullable = ALWAYS, .def = NULL_DEFAULT) \
	F(S, list(int32), last_known_elr,           ALWAYS, .nullable = ALWAYS, .def = NULL_DEFAULT) \
	F(S, list(int32), offline_replicas,         ALWAYS, IGNORABLE)
#define FIELDS_describe_topic_partitions_response_topic(F, S) \
	F(S, int16,                                               error_code,                  ALWAYS) \
	F(S, string,                                              name,                        ALWAYS, .nullable = ALWAYS) \
	F(S, uuid,                                                topic_id,                    ALWAYS, IGNORABLE) \
	F(S, bool,                                                is_internal,                 ALWAYS, IGNORABLE) \
	F(S, array(describe_topic_partitions_response_partition), partitions,                  ALWAYS) \
	F(S, int32,                                               topic_authorized_operations, ALWAYS, .def = INT32_MIN)
#define FIELDS_describe_topic_partitions_response_next_cursor(F, S) \
	F(S, string, topic_name,      ALWAYS) \
	F(S, int32,  partition_index, ALWAYS)
#define FIELDS_describe_topic_partitions_response(F, S) \
	F(S, int32,                                                    throttle_time_ms, ALWAYS, IGNORABLE) \
	F(S, array(describe_topic_partitions_response_topic),          topics,           ALWAYS) \
	F(S, optional(describe_topic_partitions_response_next_cursor), next_cursor,      ALWAYS, .nullable = ALWAYS)
WIRE_STRUCT(describe_topic_partitions_response_partition)
WIRE_STRUCT(describe_topic_partitions_response_topic)
WIRE_STRUCT(describe_topic_partitions_response_next_cursor)
WIRE_MESSAGE(describe_topic_partitions_response, 0, 0, 0)

#define FIELDS_describe_cluster_request(F, S) \
	F(S, bool, include_cluster_authorized_operations, ALWAYS) \
	F(S, int8, endpoint_type,                         SINCE(1), .def = 1) \
	F(S, bool, include_fenced_brokers,                SINCE(2))
WIRE_MESSAGE(describe_cluster_request, 0, 2, 0)

#define FIELDS_describe_cluster_response_broker(F, S) \
	F(S, int32,  broker_id, ALWAYS) \
	F(S, string, host,      ALWAYS) \
	F(S, int32,  port,      ALWAYS) \
	F(S, string, rack,      ALWAYS, .nullable = ALWAYS, .def = NULL_DEFAULT) \
	F(S, bool,   is_fenced, SINCE(2))
#define FIELDS_describe_cluster_response(F, S) \
	F(S, int32,                                   throttle_time_ms,              ALWAYS) \
	F(S, int16,                                   error_code,                    ALWAYS) \
	F(S, string,                                  error_message,                 ALWAYS, .nullable = ALWAYS, .def = NULL_DEFAULT) \
	F(S, int8,                                    endpoint_type,                 SINCE(1), .def = 1) \
	F(S, string,                                  cluster_id,                    ALWAYS) \
	F(S, int32,                                   controller_id,                 ALWAYS, .def = -1) \
	F(S, array(describe_cluster_response_broker), brokers,                       ALWAYS) \
	F(S, int32,                                   cluster_authorized_operations, ALWAYS, .def = INT32_MIN)
WIRE_STRUCT(describe_cluster_response_broker)
WIRE_MESSAGE(describe_cluster_response, 0, 2, 0)
