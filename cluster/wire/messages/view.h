/* view: where the records of a partition stand in its file, for brokers that have nothing of it. Ours, and never offered: numbered from 10000 (api.h).
 * One of the tables of messages: messages.h includes it, twice. */

/* At most one of offset and position is not -1. current_leader_epoch -1: whatever it is. */
#define FIELDS_view_lookup_request_partition(F, S) \
	F(S, int32, partition,            ALWAYS) \
	F(S, int32, current_leader_epoch, ALWAYS, .def = -1) \
	F(S, int64, offset,               ALWAYS, .def = -1) \
	F(S, int64, position,             ALWAYS, .def = -1)
#define FIELDS_view_lookup_request_topic(F, S) \
	F(S, uuid,                                 topic_id,   ALWAYS) \
	F(S, array(view_lookup_request_partition), partitions, ALWAYS)
#define FIELDS_view_lookup_request(F, S) \
	F(S, array(view_lookup_request_topic), topics, ALWAYS)
WIRE_STRUCT(view_lookup_request_partition)
WIRE_STRUCT(view_lookup_request_topic)
WIRE_MESSAGE(view_lookup_request, 0, 0, 0)

/* offset, position: the record that holds the position, or the first at or behind the offset, and where it starts; at the visible end: that. settled: who answers knows how far the partition is committed; a leader that was
 * elected a moment ago does not. */
#define FIELDS_view_lookup_response_partition(F, S) \
	F(S, int32, partition,      ALWAYS) \
	F(S, int16, error_code,     ALWAYS) \
	F(S, int32, leader_epoch,   ALWAYS, .def = -1) \
	F(S, bool,  leads,          ALWAYS) \
	F(S, bool,  settled,        ALWAYS) \
	F(S, bool,  sequential,     ALWAYS) \
	F(S, int64, offset,         ALWAYS, .def = -1) \
	F(S, int64, position,       ALWAYS, .def = -1) \
	F(S, int64, start_offset,   ALWAYS, .def = -1) \
	F(S, int64, start_position, ALWAYS, .def = -1) \
	F(S, int64, end_offset,     ALWAYS, .def = -1) \
	F(S, int64, end_position,   ALWAYS, .def = -1) \
	F(S, int64, log_end_offset, ALWAYS, .def = -1) \
	F(S, int64, mtime_ms,       ALWAYS, .def = -1) \
	F(S, int64, bytes,          ALWAYS, .def = -1)
#define FIELDS_view_lookup_response_topic(F, S) \
	F(S, uuid,                                  topic_id,   ALWAYS) \
	F(S, array(view_lookup_response_partition), partitions, ALWAYS)
#define FIELDS_view_lookup_response(F, S) \
	F(S, array(view_lookup_response_topic), topics, ALWAYS)
WIRE_STRUCT(view_lookup_response_partition)
WIRE_STRUCT(view_lookup_response_topic)
WIRE_MESSAGE(view_lookup_response, 0, 0, 0)
