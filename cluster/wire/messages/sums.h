/* sums: checksums of what a replica holds, for who compares replicas (spoolfs verify --cluster). Ours, and never offered: numbered from 10000 (api.h). One of the tables of messages: messages.h includes it, twice. */

/* Whole batches, from the one that holds from_offset on, that end below to_offset and the high watermark: up to about max_bytes, at least one, and never more than the broker reads for one request.
 * each: one range for each batch; else one for all. */
#define FIELDS_replica_sums_request(F, S) \
	F(S, uuid,  topic_id,    ALWAYS) \
	F(S, int32, partition,   ALWAYS) \
	F(S, int64, from_offset, ALWAYS) \
	F(S, int64, to_offset,   ALWAYS) \
	F(S, int32, max_bytes,   ALWAYS) \
	F(S, bool,  each,        ALWAYS)
WIRE_MESSAGE(replica_sums_request, 0, 0, 0)

/* A range: the offset of its first batch, the one behind its last, how much that is, and its CRC32C. position: where the partition's file has next_offset; -1: that is not known, or it has no positions. */
#define FIELDS_replica_sums_response_range(F, S) \
	F(S, int64,  first_offset, ALWAYS) \
	F(S, int64,  next_offset,  ALWAYS) \
	F(S, int64,  bytes,        ALWAYS) \
	F(S, int32,  batches,      ALWAYS) \
	F(S, uint32, crc,          ALWAYS) \
	F(S, int64,  position,     ALWAYS, .def = -1)
/* The ends also with OFFSET_OUT_OF_RANGE. */
#define FIELDS_replica_sums_response(F, S) \
	F(S, int16,  error_code,     ALWAYS) \
	F(S, string, error_message,  ALWAYS, .nullable = ALWAYS) \
	F(S, int32,  leader_epoch,   ALWAYS, .def = -1) \
	F(S, bool,   leads,          ALWAYS) \
	F(S, bool,   compacted,      ALWAYS) \
	F(S, int64,  log_start,      ALWAYS, .def = -1) \
	F(S, int64,  log_start_position, ALWAYS, .def = -1) \
	F(S, int64,  high_watermark, ALWAYS, .def = -1) \
	F(S, array(replica_sums_response_range), ranges, ALWAYS)
WIRE_STRUCT(replica_sums_response_range)
WIRE_MESSAGE(replica_sums_response, 0, 0, 0)
