/* log_dirs: log directories and how much they hold.
 * One of the tables of messages: messages.h includes it, twice. */

#define FIELDS_describe_log_dirs_request_topic(F, S) \
	F(S, string,      topic,      ALWAYS) \
	F(S, list(int32), partitions, ALWAYS)
#define FIELDS_describe_log_dirs_request(F, S) \
	F(S, array(describe_log_dirs_request_topic), topics, ALWAYS, .nullable = ALWAYS)
WIRE_STRUCT(describe_log_dirs_request_topic)
WIRE_MESSAGE(describe_log_dirs_request, 1, 4, 2)

#define FIELDS_describe_log_dirs_response_partition(F, S) \
	F(S, int32, partition_index, ALWAYS) \
	F(S, int64, partition_size,  ALWAYS) \
	F(S, int64, offset_lag,      ALWAYS) \
	F(S, bool,  is_future_key,   ALWAYS)
#define FIELDS_describe_log_dirs_response_topic(F, S) \
	F(S, string,                                      name,       ALWAYS) \
	F(S, array(describe_log_dirs_response_partition), partitions, ALWAYS)
#define FIELDS_describe_log_dirs_response_dir(F, S) \
	F(S, int16,                                   error_code,   ALWAYS) \
	F(S, string,                                  log_dir,      ALWAYS) \
	F(S, array(describe_log_dirs_response_topic), topics,       ALWAYS) \
	F(S, int64,                                   total_bytes,  SINCE(4), .def = -1, IGNORABLE) \
	F(S, int64,                                   usable_bytes, SINCE(4), .def = -1, IGNORABLE)
#define FIELDS_describe_log_dirs_response(F, S) \
	F(S, int32,                                 throttle_time_ms, ALWAYS) \
	F(S, int16,                                 error_code,       SINCE(3), IGNORABLE) \
	F(S, array(describe_log_dirs_response_dir), results,          ALWAYS)
WIRE_STRUCT(describe_log_dirs_response_partition)
WIRE_STRUCT(describe_log_dirs_response_topic)
WIRE_STRUCT(describe_log_dirs_response_dir)
WIRE_MESSAGE(describe_log_dirs_response, 1, 4, 2)
