/* consumer_offsets: the records of __consumer_offsets. Key and value each begin with their version in 2 bytes; wire_decode_versioned reads
 * that too. A key's version says what it is the key of: 0 and 1 an offset (0 is from before Kafka 0.8.2), 2 a group.
 * One of the tables of messages: messages.h includes it, twice. */

#define FIELDS_offset_commit_key(F, S) \
	F(S, string, group,     ALWAYS) \
	F(S, string, topic,     ALWAYS) \
	F(S, int32,  partition, ALWAYS)
WIRE_MESSAGE(offset_commit_key, 0, 1, NEVER)

#define FIELDS_offset_commit_value(F, S) \
	F(S, int64,  offset,           ALWAYS) \
	F(S, int32,  leader_epoch,     SINCE(3), .def = -1, IGNORABLE) \
	F(S, string, metadata,         ALWAYS) \
	F(S, int64,  commit_timestamp, ALWAYS) \
	F(S, int64,  expire_timestamp, BETWEEN(1, 1), .def = -1, IGNORABLE) \
	F(S, uuid,   topic_id,         SINCE(4), .tagged = SINCE(4), .tag = 0, IGNORABLE)
WIRE_MESSAGE(offset_commit_value, 0, 4, 4)

#define FIELDS_group_metadata_key(F, S) \
	F(S, string, group, ALWAYS)
WIRE_MESSAGE(group_metadata_key, 2, 2, NEVER)

#define FIELDS_group_metadata_value_member(F, S) \
	F(S, string, member_id,         ALWAYS) \
	F(S, string, group_instance_id, SINCE(3), .nullable = SINCE(3), .def = NULL_DEFAULT, IGNORABLE) \
	F(S, string, client_id,         ALWAYS) \
	F(S, string, client_host,       ALWAYS) \
	F(S, int32,  rebalance_timeout, SINCE(1), .def = -1, IGNORABLE) \
	F(S, int32,  session_timeout,   ALWAYS) \
	F(S, bytes,  subscription,      ALWAYS) \
	F(S, bytes,  assignment,        ALWAYS)
#define FIELDS_group_metadata_value(F, S) \
	F(S, string,                             protocol_type,           ALWAYS) \
	F(S, int32,                              generation,              ALWAYS) \
	F(S, string,                             protocol,                ALWAYS, .nullable = ALWAYS) \
	F(S, string,                             leader,                  ALWAYS, .nullable = ALWAYS) \
	F(S, int64,                              current_state_timestamp, SINCE(2), .def = -1, IGNORABLE) \
	F(S, array(group_metadata_value_member), members,                 ALWAYS)
WIRE_STRUCT(group_metadata_value_member)
WIRE_MESSAGE(group_metadata_value, 0, 4, 4)
