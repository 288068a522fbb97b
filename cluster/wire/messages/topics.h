/* topics: creating and deleting topics, partitions, records.
 * One of the tables of messages: messages.h includes it, twice. */

#define FIELDS_create_topics_request_assignment(F, S) \
	F(S, int32,       partition_index, ALWAYS) \
	F(S, list(int32), broker_ids,      ALWAYS)
#define FIELDS_create_topics_request_config(F, S) \
	F(S, string, name,  ALWAYS) \
	F(S, string, value, ALWAYS, .nullable = ALWAYS)
#define FIELDS_create_topics_request_topic(F, S) \
	F(S, string,                                  name,               ALWAYS) \
	F(S, int32,                                   num_partitions,     ALWAYS) \
	F(S, int16,                                   replication_factor, ALWAYS) \
	F(S, array(create_topics_request_assignment), assignments,        ALWAYS) \
	F(S, array(create_topics_request_config),     configs,            ALWAYS) \
	F(S, uuid,                                    topic_id,           SINCE(5), .tagged = SINCE(5), .tag = WIRE_OWN_TAGS, IGNORABLE) /* that it is to have: who asks again knows by it what it has made */
#define FIELDS_create_topics_request(F, S) \
	F(S, array(create_topics_request_topic), topics,        ALWAYS) \
	F(S, int32,                              timeout_ms,    ALWAYS, .def = 60000) \
	F(S, bool,                               validate_only, ALWAYS)
WIRE_STRUCT(create_topics_request_assignment)
WIRE_STRUCT(create_topics_request_config)
WIRE_STRUCT(create_topics_request_topic)
WIRE_MESSAGE(create_topics_request, 2, 7, 5)

#define FIELDS_create_topics_response_config(F, S) \
	F(S, string, name,          SINCE(5)) \
	F(S, string, value,         SINCE(5), .nullable = SINCE(5)) \
	F(S, bool,   read_only,     SINCE(5)) \
	F(S, int8,   config_source, SINCE(5), .def = -1, IGNORABLE) \
	F(S, bool,   is_sensitive,  SINCE(5))
#define FIELDS_create_topics_response_topic(F, S) \
	F(S, string,                               name,                    ALWAYS) \
	F(S, uuid,                                 topic_id,                SINCE(7), IGNORABLE) \
	F(S, int16,                                error_code,              ALWAYS) \
	F(S, string,                               error_message,           ALWAYS, .nullable = ALWAYS, IGNORABLE) \
	F(S, int16,                                topic_config_error_code, SINCE(5), .tagged = SINCE(5), .tag = 0, IGNORABLE) \
	F(S, int32,                                num_partitions,          SINCE(5), .def = -1, IGNORABLE) \
	F(S, int16,                                replication_factor,      SINCE(5), .def = -1, IGNORABLE) \
	F(S, array(create_topics_response_config), configs,                 SINCE(5), .nullable = SINCE(5), IGNORABLE)
#define FIELDS_create_topics_response(F, S) \
	F(S, int32,                               throttle_time_ms, ALWAYS, IGNORABLE) \
	F(S, array(create_topics_response_topic), topics,           ALWAYS)
WIRE_STRUCT(create_topics_response_config)
WIRE_STRUCT(create_topics_response_topic)
WIRE_MESSAGE(create_topics_response, 2, 7, 5)

#define FIELDS_delete_topics_request_topic(F, S) \
	F(S, string, name,     SINCE(6), .nullable = SINCE(6), .def = NULL_DEFAULT) \
	F(S, uuid,   topic_id, SINCE(6)) \
	F(S, bool,   only_if_empty, SINCE(6), .tagged = SINCE(6), .tag = WIRE_OWN_TAGS, IGNORABLE) /* else INVALID_REQUEST */
#define FIELDS_delete_topics_request(F, S) \
	F(S, array(delete_topics_request_topic), topics,      SINCE(6)) \
	F(S, list(string),                       topic_names, UNTIL(5), IGNORABLE) \
	F(S, int32,                              timeout_ms,  ALWAYS)
WIRE_STRUCT(delete_topics_request_topic)
WIRE_MESSAGE(delete_topics_request, 1, 6, 4)

#define FIELDS_delete_topics_response_topic(F, S) \
	F(S, string, name,          ALWAYS, .nullable = SINCE(6)) \
	F(S, uuid,   topic_id,      SINCE(6), IGNORABLE) \
	F(S, int16,  error_code,    ALWAYS) \
	F(S, string, error_message, SINCE(5), .nullable = SINCE(5), .def = NULL_DEFAULT, IGNORABLE)
#define FIELDS_delete_topics_response(F, S) \
	F(S, int32,                               throttle_time_ms, ALWAYS, IGNORABLE) \
	F(S, array(delete_topics_response_topic), responses,        ALWAYS)
WIRE_STRUCT(delete_topics_response_topic)
WIRE_MESSAGE(delete_topics_response, 1, 6, 4)

#define FIELDS_create_partitions_request_assignment(F, S) \
	F(S, list(int32), broker_ids, ALWAYS)
#define FIELDS_create_partitions_request_topic(F, S) \
	F(S, string,                                      name,        ALWAYS) \
	F(S, int32,                                       count,       ALWAYS) \
	F(S, array(create_partitions_request_assignment), assignments, ALWAYS, .nullable = ALWAYS) \
	F(S, int32,                                       from,        SINCE(2), .tagged = SINCE(2), .tag = WIRE_OWN_TAGS, .def = -1, IGNORABLE) /* only where it has so many; -1: it may have any */
#define FIELDS_create_partitions_request(F, S) \
	F(S, array(create_partitions_request_topic), topics,        ALWAYS) \
	F(S, int32,                                  timeout_ms,    ALWAYS) \
	F(S, bool,                                   validate_only, ALWAYS)
WIRE_STRUCT(create_partitions_request_assignment)
WIRE_STRUCT(create_partitions_request_topic)
WIRE_MESSAGE(create_partitions_request, 0, 3, 2)

#define FIELDS_create_partitions_response_topic(F, S) \
	F(S, string, name,          ALWAYS) \
	F(S, int16,  error_code,    ALWAYS) \
	F(S, string, error_message, ALWAYS, .nullable = ALWAYS, .def = NULL_DEFAULT)
#define FIELDS_create_partitions_response(F, S) \
	F(S, int32,                                   throttle_time_ms, ALWAYS) \
	F(S, array(create_partitions_response_topic), results,          ALWAYS)
WIRE_STRUCT(create_partitions_response_topic)
WIRE_MESSAGE(create_partitions_response, 0, 3, 2)

#define FIELDS_delete_records_request_partition(F, S) \
	F(S, int32, partition_index, ALWAYS) \
	F(S, int64, offset,          ALWAYS)
#define FIELDS_delete_records_request_topic(F, S) \
	F(S, string,                                  name,       ALWAYS) \
	F(S, array(delete_records_request_partition), partitions, ALWAYS)
#define FIELDS_delete_records_request(F, S) \
	F(S, array(delete_records_request_topic), topics,     ALWAYS) \
	F(S, int32,                               timeout_ms, ALWAYS)
WIRE_STRUCT(delete_records_request_partition)
WIRE_STRUCT(delete_records_request_topic)
WIRE_MESSAGE(delete_records_request, 0, 2, 2)

#define FIELDS_delete_records_response_partition(F, S) \
	F(S, int32, partition_index, ALWAYS) \
	F(S, int64, low_watermark,   ALWAYS) \
	F(S, int16, error_code,      ALWAYS)
#define FIELDS_delete_records_response_topic(F, S) \
	F(S, string,                                   name,       ALWAYS) \
	F(S, array(delete_records_response_partition), partitions, ALWAYS)
#define FIELDS_delete_records_response(F, S) \
	F(S, int32,                                throttle_time_ms, ALWAYS) \
	F(S, array(delete_records_response_topic), topics,           ALWAYS)
WIRE_STRUCT(delete_records_response_partition)
WIRE_STRUCT(delete_records_response_topic)
WIRE_MESSAGE(delete_records_response, 0, 2, 2)
