/* reassign: what clients ask of the controller: elections, and replicas on other brokers.
 * One of the tables of messages: messages.h includes it, twice. */

#define FIELDS_elect_leaders_request_topic(F, S) \
	F(S, string,      topic,      ALWAYS) \
	F(S, list(int32), partitions, ALWAYS)
#define FIELDS_elect_leaders_request(F, S) \
	F(S, int8,                               election_type,    SINCE(1)) \
	F(S, array(elect_leaders_request_topic), topic_partitions, ALWAYS, .nullable = ALWAYS) \
	F(S, int32,                              timeout_ms,       ALWAYS, .def = 60000)
WIRE_STRUCT(elect_leaders_request_topic)
WIRE_MESSAGE(elect_leaders_request, 0, 2, 2)

#define FIELDS_elect_leaders_response_partition(F, S) \
	F(S, int32,  partition_id,  ALWAYS) \
	F(S, int16,  error_code,    ALWAYS) \
	F(S, string, error_message, ALWAYS, .nullable = ALWAYS)
#define FIELDS_elect_leaders_response_topic(F, S) \
	F(S, string,                                  topic,            ALWAYS) \
	F(S, array(elect_leaders_response_partition), partition_result, ALWAYS)
#define FIELDS_elect_leaders_response(F, S) \
	F(S, int32,                               throttle_time_ms,         ALWAYS) \
	F(S, int16,                               error_code,               SINCE(1)) \
	F(S, array(elect_leaders_response_topic), replica_election_results, ALWAYS)
WIRE_STRUCT(elect_leaders_response_partition)
WIRE_STRUCT(elect_leaders_response_topic)
WIRE_MESSAGE(elect_leaders_response, 0, 2, 2)

#define FIELDS_alter_partition_reassignments_request_partition(F, S) \
	F(S, int32,       partition_index, ALWAYS) \
	F(S, list(int32), replicas,        ALWAYS, .nullable = ALWAYS, .def = NULL_DEFAULT)
#define FIELDS_alter_partition_reassignments_request_topic(F, S) \
	F(S, string,                                                 name,       ALWAYS) \
	F(S, array(alter_partition_reassignments_request_partition), partitions, ALWAYS)
#define FIELDS_alter_partition_reassignments_request(F, S) \
	F(S, int32,                                              timeout_ms,                      ALWAYS, .def = 60000) \
	F(S, bool,                                               allow_replication_factor_change, SINCE(1), .def = true) \
	F(S, array(alter_partition_reassignments_request_topic), topics,                          ALWAYS)
WIRE_STRUCT(alter_partition_reassignments_request_partition)
WIRE_STRUCT(alter_partition_reassignments_request_topic)
WIRE_MESSAGE(alter_partition_reassignments_request, 0, 1, 0)

#define FIELDS_alter_partition_reassignments_response_partition(F, S) \
	F(S, int32,  partition_index, ALWAYS) \
	F(S, int16,  error_code,      ALWAYS) \
	F(S, string, error_message,   ALWAYS, .nullable = ALWAYS)
#define FIELDS_alter_partition_reassignments_response_topic(F, S) \
	F(S, string,                                                  name,       ALWAYS) \
	F(S, array(alter_partition_reassignments_response_partition), partitions, ALWAYS)
#define FIELDS_alter_partition_reassignments_response(F, S) \
	F(S, int32,                                               throttle_time_ms,                ALWAYS) \
	F(S, bool,                                                allow_replication_factor_change, SINCE(1), .def = true, IGNORABLE) \
	F(S, int16,                                               error_code,                      ALWAYS) \
	F(S, string,                                              error_message,                   ALWAYS, .nullable = ALWAYS) \
	F(S, array(alter_partition_reassignments_response_topic), responses,                       ALWAYS)
WIRE_STRUCT(alter_partition_reassignments_response_partition)
WIRE_STRUCT(alter_partition_reassignments_response_topic)
WIRE_MESSAGE(alter_partition_reassignments_response, 0, 1, 0)

#define FIELDS_list_partition_reassignments_request_topic(F, S) \
	F(S, string,      name,              ALWAYS) \
	F(S, list(int32), partition_indexes, ALWAYS)
#define FIELDS_list_partition_reassignments_request(F, S) \
	F(S, int32,                                             timeout_ms, ALWAYS, .def = 60000) \
	F(S, array(list_partition_reassignments_request_topic), topics,     ALWAYS, .nullable = ALWAYS, .def = NULL_DEFAULT)
WIRE_STRUCT(list_partition_reassignments_request_topic)
WIRE_MESSAGE(list_partition_reassignments_request, 0, 0, 0)

#define FIELDS_list_partition_reassignments_response_partition(F, S) \
	F(S, int32,       partition_index,   ALWAYS) \
	F(S, list(int32), replicas,          ALWAYS) \
	F(S, list(int32), adding_replicas,   ALWAYS) \
	F(S, list(int32), removing_replicas, ALWAYS)
#define FIELDS_list_partition_reassignments_response_topic(F, S) \
	F(S, string,                                                 name,       ALWAYS) \
	F(S, array(list_partition_reassignments_response_partition), partitions, ALWAYS)
#define FIELDS_list_partition_reassignments_response(F, S) \
	F(S, int32,                                              throttle_time_ms, ALWAYS) \
	F(S, int16,                                              error_code,       ALWAYS) \
	F(S, string,                                             error_message,    ALWAYS, .nullable = ALWAYS) \
	F(S, array(list_partition_reassignments_response_topic), topics,           ALWAYS)
WIRE_STRUCT(list_partition_reassignments_response_partition)
WIRE_STRUCT(list_partition_reassignments_response_topic)
WIRE_MESSAGE(list_partition_reassignments_response, 0, 0, 0)
