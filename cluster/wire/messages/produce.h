/* produce: the sets of records that producers send, and what became of each.
 * One of the tables of messages: messages.h includes it, twice. */

#define FIELDS_produce_request_partition(F, S) \
	F(S, int32,   index,   ALWAYS) \
	F(S, records, records, ALWAYS, .nullable = ALWAYS)
#define FIELDS_produce_request_topic(F, S) \
	F(S, string,                           name,           UNTIL(12), IGNORABLE) \
	F(S, uuid,                             topic_id,       SINCE(13), IGNORABLE) \
	F(S, array(produce_request_partition), partition_data, ALWAYS)
#define FIELDS_produce_request(F, S) \
	F(S, string,                       transactional_id, ALWAYS, .nullable = ALWAYS, .def = NULL_DEFAULT) \
	F(S, int16,                        acks,             ALWAYS) \
	F(S, int32,                        timeout_ms,       ALWAYS) \
	F(S, array(produce_request_topic), topic_data,       ALWAYS)
WIRE_STRUCT(produce_request_partition)
WIRE_STRUCT(produce_request_topic)
WIRE_MESSAGE(produce_request, 3, 13, 9)

#define FIELDS_produce_response_record_error(F, S) \
	F(S, int32,  batch_index,               SINCE(8)) \
	F(S, string, batch_index_error_message, SINCE(8), .nullable = SINCE(8), .def = NULL_DEFAULT)
#define FIELDS_produce_response_current_leader(F, S) \
	F(S, int32, leader_id,    SINCE(10), .def = -1) \
	F(S, int32, leader_epoch, SINCE(10), .def = -1)
#define FIELDS_produce_response_partition(F, S) \
	F(S, int32,                                   index,              ALWAYS) \
	F(S, int16,                                   error_code,         ALWAYS) \
	F(S, int64,                                   base_offset,        ALWAYS) \
	F(S, int64,                                   log_append_time_ms, ALWAYS, .def = -1, IGNORABLE) \
	F(S, int64,                                   log_start_offset,   SINCE(5), .def = -1, IGNORABLE) \
	F(S, array(produce_response_record_error),    record_errors,      SINCE(8), IGNORABLE) \
	F(S, string,                                  error_message,      SINCE(8), .nullable = SINCE(8), .def = NULL_DEFAULT, IGNORABLE) \
	F(S, nested(produce_response_current_leader), current_leader,     SINCE(10), .tagged = SINCE(10), .tag = 0)
#define FIELDS_produce_response_topic(F, S) \
	F(S, string,                            name,                UNTIL(12), IGNORABLE) \
	F(S, uuid,                              topic_id,            SINCE(13), IGNORABLE) \
	F(S, array(produce_response_partition), partition_responses, ALWAYS)
#define FIELDS_produce_response_endpoint(F, S) \
	F(S, int32,  node_id, SINCE(10)) \
	F(S, string, host,    SINCE(10)) \
	F(S, int32,  port,    SINCE(10)) \
	F(S, string, rack,    SINCE(10), .nullable = SINCE(10), .def = NULL_DEFAULT)
#define FIELDS_produce_response(F, S) \
	F(S, array(produce_response_topic),    responses,        ALWAYS) \
	F(S, int32,                            throttle_time_ms, ALWAYS, IGNORABLE) \
	F(S, array(produce_response_endpoint), node_endpoints,   SINCE(10), .tagged = SINCE(10), .tag = 0)
WIRE_STRUCT(produce_response_record_error)
WIRE_STRUCT(produce_response_current_leader)
WIRE_STRUCT(produce_response_partition)
WIRE_STRUCT(produce_response_topic)
WIRE_STRUCT(produce_response_endpoint)
WIRE_MESSAGE(produce_response, 3, 13, 9)
