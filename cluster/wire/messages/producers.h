/* producers: producer ids and epochs, and the producers of a partition.
 * One of the tables of messages: messages.h includes it, twice. */

#define FIELDS_init_producer_id_request(F, S) \
	F(S, string, transactional_id,       ALWAYS, .nullable = ALWAYS) \
	F(S, int32,  transaction_timeout_ms, ALWAYS) \
	F(S, int64,  producer_id,            SINCE(3), .def = -1) \
	F(S, int16,  producer_epoch,         SINCE(3), .def = -1) \
	F(S, bool,   enable2_pc,             SINCE(6)) \
	F(S, bool,   keep_prepared_txn,      SINCE(6))
WIRE_MESSAGE(init_producer_id_request, 0, 6, 2)

#define FIELDS_init_producer_id_response(F, S) \
	F(S, int32, throttle_time_ms,           ALWAYS, IGNORABLE) \
	F(S, int16, error_code,                 ALWAYS) \
	F(S, int64, producer_id,                ALWAYS, .def = -1) \
	F(S, int16, producer_epoch,             ALWAYS) \
	F(S, int64, ongoing_txn_producer_id,    SINCE(6), .def = -1) \
	F(S, int16, ongoing_txn_producer_epoch, SINCE(6), .def = -1)
WIRE_MESSAGE(init_producer_id_response, 0, 6, 2)

#define FIELDS_describe_producers_request_topic(F, S) \
	F(S, string,      name,              ALWAYS) \
	F(S, list(int32), partition_indexes, ALWAYS)
#define FIELDS_describe_producers_request(F, S) \
	F(S, array(describe_producers_request_topic), topics, ALWAYS)
WIRE_STRUCT(describe_producers_request_topic)
WIRE_MESSAGE(describe_producers_request, 0, 0, 0)

#define FIELDS_describe_producers_response_active_producer(F, S) \
	F(S, int64, producer_id,              ALWAYS) \
	F(S, int32, producer_epoch,           ALWAYS) \
	F(S, int32, last_sequence,            ALWAYS, .def = -1) \
	F(S, int64, last_timestamp,           ALWAYS, .def = -1) \
	F(S, int32, coordinator_epoch,        ALWAYS) \
	F(S, int64, current_txn_start_offset, ALWAYS, .def = -1)
#define FIELDS_describe_producers_response_partition(F, S) \
	F(S, int32,                                              partition_index,  ALWAYS) \
	F(S, int16,                                              error_code,       ALWAYS) \
	F(S, string,                                             error_message,    ALWAYS, .nullable = ALWAYS, .def = NULL_DEFAULT) \
	F(S, array(describe_producers_response_active_producer), active_producers, ALWAYS)
#define FIELDS_describe_producers_response_topic(F, S) \
	F(S, string,                                       name,       ALWAYS) \
	F(S, array(describe_producers_response_partition), partitions, ALWAYS)
#define FIELDS_describe_producers_response(F, S) \
	F(S, int32,                                    throttle_time_ms, ALWAYS) \
	F(S, array(describe_producers_response_topic), topics,           ALWAYS)
WIRE_STRUCT(describe_producers_response_active_producer)
WIRE_STRUCT(describe_producers_response_partition)
WIRE_STRUCT(describe_producers_response_topic)
WIRE_MESSAGE(describe_producers_response, 0, 0, 0)
