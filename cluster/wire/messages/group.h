/* group: consumer groups of the classic protocol.
 * One of the tables of messages: messages.h includes it, twice. */

#define FIELDS_find_coordinator_request(F, S) \
	F(S, string,       key,              UNTIL(3)) \
	F(S, int8,         key_type,         SINCE(1)) \
	F(S, list(string), coordinator_keys, SINCE(4))
WIRE_MESSAGE(find_coordinator_request, 0, 6, 3)

#define FIELDS_find_coordinator_response_coordinator(F, S) \
	F(S, string, key,           SINCE(4)) \
	F(S, int32,  node_id,       SINCE(4)) \
	F(S, string, host,          SINCE(4)) \
	F(S, int32,  port,          SINCE(4)) \
	F(S, int16,  error_code,    SINCE(4)) \
	F(S, string, error_message, SINCE(4), .nullable = SINCE(4), IGNORABLE)
#define FIELDS_find_coordinator_response(F, S) \
	F(S, int32,                                        throttle_time_ms, SINCE(1), IGNORABLE) \
	F(S, int16,                                        error_code,       UNTIL(3)) \
	F(S, string,                                       error_message,    BETWEEN(1, 3), .nullable = BETWEEN(1, 3), IGNORABLE) \
	F(S, int32,                                        node_id,          UNTIL(3)) \
	F(S, string,                                       host,             UNTIL(3)) \
	F(S, int32,                                        port,             UNTIL(3)) \
	F(S, array(find_coordinator_response_coordinator), coordinators,     SINCE(4))
WIRE_STRUCT(find_coordinator_response_coordinator)
WIRE_MESSAGE(find_coordinator_response, 0, 6, 3)

#define FIELDS_join_group_request_protocol(F, S) \
	F(S, string, name,     ALWAYS) \
	F(S, bytes,  metadata, ALWAYS)
#define FIELDS_join_group_request(F, S) \
	F(S, string,                             group_id,             ALWAYS) \
	F(S, int32,                              session_timeout_ms,   ALWAYS) \
	F(S, int32,                              rebalance_timeout_ms, SINCE(1), .def = -1, IGNORABLE) \
	F(S, string,                             member_id,            ALWAYS) \
	F(S, string,                             group_instance_id,    SINCE(5), .nullable = SINCE(5), .def = NULL_DEFAULT) \
	F(S, string,                             protocol_type,        ALWAYS) \
	F(S, array(join_group_request_protocol), protocols,            ALWAYS) \
	F(S, string,                             reason,               SINCE(8), .nullable = SINCE(8), .def = NULL_DEFAULT, IGNORABLE)
WIRE_STRUCT(join_group_request_protocol)
WIRE_MESSAGE(join_group_request, 0, 9, 6)

#define FIELDS_join_group_response_member(F, S) \
	F(S, string, member_id,         ALWAYS) \
	F(S, string, group_instance_id, SINCE(5), .nullable = SINCE(5), .def = NULL_DEFAULT, IGNORABLE) \
	F(S, bytes,  metadata,          ALWAYS)
#define FIELDS_join_group_response(F, S) \
	F(S, int32,                             throttle_time_ms, SINCE(2), IGNORABLE) \
	F(S, int16,                             error_code,       ALWAYS) \
	F(S, int32,                             generation_id,    ALWAYS, .def = -1) \
	F(S, string,                            protocol_type,    SINCE(7), .nullable = SINCE(7), .def = NULL_DEFAULT, IGNORABLE) \
	F(S, string,                            protocol_name,    ALWAYS, .nullable = SINCE(7)) \
	F(S, string,                            leader,           ALWAYS) \
	F(S, bool,                              skip_assignment,  SINCE(9)) \
	F(S, string,                            member_id,        ALWAYS) \
	F(S, array(join_group_response_member), members,          ALWAYS)
WIRE_STRUCT(join_group_response_member)
WIRE_MESSAGE(join_group_response, 0, 9, 6)

#define FIELDS_sync_group_request_assignment(F, S) \
	F(S, string, member_id,  ALWAYS) \
	F(S, bytes,  assignment, ALWAYS)
#define FIELDS_sync_group_request(F, S) \
	F(S, string,                               group_id,          ALWAYS) \
	F(S, int32,                                generation_id,     ALWAYS) \
	F(S, string,                               member_id,         ALWAYS) \
	F(S, string,                               group_instance_id, SINCE(3), .nullable = SINCE(3), .def = NULL_DEFAULT) \
	F(S, string,                               protocol_type,     SINCE(5), .nullable = SINCE(5), .def = NULL_DEFAULT, IGNORABLE) \
	F(S, string,                               protocol_name,     SINCE(5), .nullable = SINCE(5), .def = NULL_DEFAULT, IGNORABLE) \
	F(S, array(sync_group_request_assignment), assignments,       ALWAYS)
WIRE_STRUCT(sync_group_request_assignment)
WIRE_MESSAGE(sync_group_request, 0, 5, 4)

#define FIELDS_sync_group_response(F, S) \
	F(S, int32,  throttle_time_ms, SINCE(1), IGNORABLE) \
	F(S, int16,  error_code,       ALWAYS) \
	F(S, string, protocol_type,    SINCE(5), .nullable = SINCE(5), .def = NULL_DEFAULT, IGNORABLE) \
	F(S, string, protocol_name,    SINCE(5), .nullable = SINCE(5), .def = NULL_DEFAULT, IGNORABLE) \
	F(S, bytes,  assignment,       ALWAYS)
WIRE_MESSAGE(sync_group_response, 0, 5, 4)

#define FIELDS_heartbeat_request(F, S) \
	F(S, string, group_id,          ALWAYS) \
	F(S, int32,  generation_id,     ALWAYS) \
	F(S, string, member_id,         ALWAYS) \
	F(S, string, group_instance_id, SINCE(3), .nullable = SINCE(3), .def = NULL_DEFAULT)
WIRE_MESSAGE(heartbeat_request, 0, 4, 4)

#define FIELDS_heartbeat_response(F, S) \
	F(S, int32, throttle_time_ms, SINCE(1), IGNORABLE) \
	F(S, int16, error_code,       ALWAYS)
WIRE_MESSAGE(heartbeat_response, 0, 4, 4)

#define FIELDS_leave_group_request_member(F, S) \
	F(S, string, member_id,         SINCE(3)) \
	F(S, string, group_instance_id, SINCE(3), .nullable = SINCE(3), .def = NULL_DEFAULT) \
	F(S, string, reason,            SINCE(5), .nullable = SINCE(5), .def = NULL_DEFAULT, IGNORABLE)
#define FIELDS_leave_group_request(F, S) \
	F(S, string,                            group_id,  ALWAYS) \
	F(S, string,                            member_id, UNTIL(2)) \
	F(S, array(leave_group_request_member), members,   SINCE(3))
WIRE_STRUCT(leave_group_request_member)
WIRE_MESSAGE(leave_group_request, 0, 5, 4)

#define FIELDS_leave_group_response_member(F, S) \
	F(S, string, member_id,         SINCE(3)) \
	F(S, string, group_instance_id, SINCE(3), .nullable = SINCE(3)) \
	F(S, int16,  error_code,        SINCE(3))
#define FIELDS_leave_group_response(F, S) \
	F(S, int32,                              throttle_time_ms, SINCE(1), IGNORABLE) \
	F(S, int16,                              error_code,       ALWAYS) \
	F(S, array(leave_group_response_member), members,          SINCE(3))
WIRE_STRUCT(leave_group_response_member)
WIRE_MESSAGE(leave_group_response, 0, 5, 4)

#define FIELDS_describe_groups_request(F, S) \
	F(S, list(string), groups,                        ALWAYS) \
	F(S, bool,         include_authorized_operations, SINCE(3))
WIRE_MESSAGE(describe_groups_request, 0, 6, 5)

#define FIELDS_describe_groups_response_member(F, S) \
	F(S, string, member_id,         ALWAYS) \
	F(S, string, group_instance_id, SINCE(4), .nullable = SINCE(4), .def = NULL_DEFAULT, IGNORABLE) \
	F(S, string, client_id,         ALWAYS) \
	F(S, string, client_host,       ALWAYS) \
	F(S, bytes,  member_metadata,   ALWAYS) \
	F(S, bytes,  member_assignment, ALWAYS)
#define FIELDS_describe_groups_response_group(F, S) \
	F(S, int16,                                  error_code,            ALWAYS) \
	F(S, string,                                 error_message,         SINCE(6), .nullable = SINCE(6), .def = NULL_DEFAULT) \
	F(S, string,                                 group_id,              ALWAYS) \
	F(S, string,                                 group_state,           ALWAYS) \
	F(S, string,                                 protocol_type,         ALWAYS) \
	F(S, string,                                 protocol_data,         ALWAYS) \
	F(S, array(describe_groups_response_member), members,               ALWAYS) \
	F(S, int32,                                  authorized_operations, SINCE(3), .def = INT32_MIN)
#define FIELDS_describe_groups_response(F, S) \
	F(S, int32,                                 throttle_time_ms, SINCE(1), IGNORABLE) \
	F(S, array(describe_groups_response_group), groups,           ALWAYS)
WIRE_STRUCT(describe_groups_response_member)
WIRE_STRUCT(describe_groups_response_group)
WIRE_MESSAGE(describe_groups_response, 0, 6, 5)

#define FIELDS_list_groups_request(F, S) \
	F(S, list(string), states_filter, SINCE(4)) \
	F(S, list(string), types_filter,  SINCE(5))
WIRE_MESSAGE(list_groups_request, 0, 5, 3)

#define FIELDS_list_groups_response_group(F, S) \
	F(S, string, group_id,      ALWAYS) \
	F(S, string, protocol_type, ALWAYS) \
	F(S, string, group_state,   SINCE(4), IGNORABLE) \
	F(S, string, group_type,    SINCE(5), IGNORABLE)
#define FIELDS_list_groups_response(F, S) \
	F(S, int32,                             throttle_time_ms, SINCE(1), IGNORABLE) \
	F(S, int16,                             error_code,       ALWAYS) \
	F(S, array(list_groups_response_group), groups,           ALWAYS)
WIRE_STRUCT(list_groups_response_group)
WIRE_MESSAGE(list_groups_response, 0, 5, 3)

#define FIELDS_delete_groups_request(F, S) \
	F(S, list(string), groups_names, ALWAYS)
WIRE_MESSAGE(delete_groups_request, 0, 2, 2)

#define FIELDS_delete_groups_response_group(F, S) \
	F(S, string, group_id,   ALWAYS) \
	F(S, int16,  error_code, ALWAYS)
#define FIELDS_delete_groups_response(F, S) \
	F(S, int32,                               throttle_time_ms, ALWAYS) \
	F(S, array(delete_groups_response_group), results,          ALWAYS)
WIRE_STRUCT(delete_groups_response_group)
WIRE_MESSAGE(delete_groups_response, 0, 2, 2)
