/*
 * ingest: a record batch as a client sent it becomes a record set that can be appended, or an answer that says why not.
 *
 * The rules are Kafka's (ProduceRequest.validateRecords, UnifiedLog.analyzeAndValidateRecords, LogValidator of 4.1), in its order, so that the same request gets the
 * same code:
 *
 *   exactly one batch, of magic 2, whole; bytes behind it that could be no batch are cut off · zstd from Produce version 7 on · base offset 0 · size · CRC · codec ·
 *   counts and offsets that agree, no control batch, a sequence where there is a producer id · every record well formed, with a key where the topic is compacted, with
 *   a timestamp within bounds
 *
 * Then the batch is brought into the topic's form. Most need nothing, or a change of the header alone (the greatest timestamp, log append time): those are not
 * copied. The set is lent the request's memory, and headers are written in place. What must be made anew is copied into the set: another codec; offsets that do
 * not go from 0 one by one, as some old clients sent them, which are set right. (Kafka sets them right only in compressed batches, and stores others as they come.)
 *
 * Where Kafka's own code falls over what it has not foreseen, and answers UNKNOWN_SERVER_ERROR, the code here is the one that says what is wrong: an unknown
 * codec is INGEST_CODEC, a record area that does not decompress INGEST_INVALID, one that unfolds into more than batch_area_limit INGEST_TOO_LARGE.
 *
 * Sequences are checked when the set is appended (store/producers.h), and so is whether a transactional batch belongs to an open transaction.
 *
 * thread: a struct ingest belongs to one thread at a time. No memory is taken for a record, and none for a batch once the buffers have grown.
 */
#ifndef STORE_INGEST_H
#define STORE_INGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/batch.h"
#include "store/err.h"

struct ingest_rule { /* a topic's, see topic_ingest_rule; `no_zstd` is the request's */
	uint32_t max_batch_bytes;           /* max.message.bytes */
	uint32_t segment_bytes;             /* segment.bytes: no batch is larger */
	int64_t timestamp_before_max_ms, timestamp_after_max_ms; /* message.timestamp.{before,after}.max.ms */
	bool log_append_time;               /* message.timestamp.type */
	bool needs_keys;                    /* cleanup.policy has compact */
	bool keep_codec;                    /* compression.type=producer; else: */
	enum codec codec;
	int level;
	bool no_zstd;                       /* the request's version is below 7 */
};

enum ingest_code {        /* Kafka's error */
	INGEST_OK,
	INGEST_CORRUPT,       /* CORRUPT_MESSAGE: damaged on the way, to be sent again */
	INGEST_INVALID,       /* INVALID_RECORD */
	INGEST_TOO_LARGE,     /* MESSAGE_TOO_LARGE: over max.message.bytes */
	INGEST_LIST_TOO_LARGE, /* RECORD_LIST_TOO_LARGE: over segment.bytes */
	INGEST_TIMESTAMP,     /* INVALID_TIMESTAMP */
	INGEST_CODEC,         /* UNSUPPORTED_COMPRESSION_TYPE */
	INGEST_NO_MEMORY,     /* UNKNOWN_SERVER_ERROR */
	INGEST_CODES
};

enum { INGEST_ERRORS_MAX = 32 };

struct record_error { int32_t index; char text[172]; }; /* index: of the record in the batch */

/* What a Produce response says of a batch that is refused. Kafka tells `why` to the client (as the partition's error message) where there are record errors, and in
 * no other case. */
struct ingest_refusal {
	struct err why;
	struct record_error *errors; /* owned; the first INGEST_ERRORS_MAX */
	uint32_t error_count;        /* that are in errors */
	uint32_t error_total;        /* that there are */
};
void ingest_refusal_release(struct ingest_refusal *r); /* one of zeros is fine */

struct ingest { struct wr area, rewritten; }; /* owned: a record area decompressed; one made anew */
void ingest_init(struct ingest *g);
void ingest_release(struct ingest *g);

/* bytes: the `records` of one partition of a Produce request (NULL with n 0 for null). They stay the caller's; where INGEST_OK is returned s may point into them, until
 * record_set_clear or _release, and the caller of partition_append keeps them so long. Else *why is filled (it need not be initialized), s is empty and the bytes are
 * as they were. */
enum ingest_code ingest_batch(struct ingest *g, struct record_set *s, void *bytes, size_t n, const struct ingest_rule *rule, int64_t now_ms, struct ingest_refusal *why);

#endif
