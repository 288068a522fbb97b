/*
 * batch: the record batch v2 (magic 2), the unit of the log on disk and on the wire.
 *
 * Layout, all big-endian (Kafka's message format, KIP-98):
 *
 *    0  base offset              i64
 *    8  batch length             i32   bytes after this field: size - 12
 *   12  partition leader epoch   i32
 *   16  magic                    i8    2
 *   17  crc                      u32   CRC32C of everything from byte 21 on
 *   21  attributes               i16   0-2 codec, 3 timestamp type (1: log append time), 4 transactional, 5 control, 6 delete horizon set
 *   23  last offset delta        i32
 *   27  base timestamp           i64   ms (the delete horizon where bit 6 is set)
 *   35  max timestamp            i64   ms
 *   43  producer id              i64   -1: none
 *   51  producer epoch           i16
 *   53  base sequence            i32
 *   57  record count             i32
 *   61  records                        compressed as a whole where the attributes say so
 *
 * A record: length varint (of what follows), attributes i8, timestamp delta varlong, offset delta varint, key length
 * varint (-1: null) and key, value length varint (-1: null) and value, header count varint, headers (key length
 * varint and key, value length varint and value).
 *
 * The base offset and the leader epoch are outside the CRC, so a leader gives both without touching the rest.
 *
 * The view of a record (see store/view.h) is its value and a newline; null values and control records have none.
 * `view bytes` of a batch counts that for all its records, whether they belong to an aborted transaction or not.
 *
 * thread: no state is shared; every struct belongs to one thread at a time.
 */
#ifndef STORE_BATCH_H
#define STORE_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "store/buf.h"
#include "store/codec.h"
#include "store/err.h"

enum {
	BATCH_HEADER_BYTES = 61,
	BATCH_LENGTH_AT = 8,
	BATCH_OVERHEAD_BYTES = 12, /* base offset and length: not counted by the length field */
	BATCH_EPOCH_AT = 12,
	BATCH_CRC_AT = 17,
	BATCH_CRC_FROM = 21,
	BATCH_PRODUCER_ID_AT = 43,
};

enum {
	BATCH_CODEC_MASK = 7,
	BATCH_LOG_APPEND_TIME = 1 << 3,
	BATCH_TRANSACTIONAL = 1 << 4,
	BATCH_CONTROL = 1 << 5,
	BATCH_DELETE_HORIZON = 1 << 6,
};

enum { BATCH_MARK_BYTES = 4096 }; /* between two marks of an uncompressed batch, for the view */

struct batch { /* a header, decoded */
	int64_t base_offset;
	int64_t base_timestamp_ms, max_timestamp_ms;
	int64_t producer_id;
	uint32_t size_bytes; /* the whole batch, its first 12 bytes too */
	uint32_t crc;
	int32_t leader_epoch;
	int32_t last_offset_delta;
	int32_t base_sequence;
	int32_t record_count;
	int16_t attributes;
	int16_t producer_epoch;
};

static inline int64_t batch_last_offset(const struct batch *b) { return b->base_offset + b->last_offset_delta; }
/* Sequences are not negative, after INT32_MAX comes 0; -1: a batch without. */
static inline int32_t batch_last_sequence(const struct batch *b)
{
	return b->base_sequence < 0 ? -1 : (int32_t)(((uint32_t)b->base_sequence + (uint32_t)b->last_offset_delta) & INT32_MAX);
}
static inline enum codec batch_codec(const struct batch *b) { return (enum codec)(b->attributes & BATCH_CODEC_MASK); }
static inline bool batch_is_control(const struct batch *b) { return b->attributes & BATCH_CONTROL; }
static inline bool batch_is_transactional(const struct batch *b) { return b->attributes & BATCH_TRANSACTIONAL; }

/* Decodes and checks the header at p (have: bytes there, at least BATCH_HEADER_BYTES or it is ERR_CORRUPT). Checks magic, size (header at least,
 * max_bytes at most), codec, counts and deltas that agree (compaction leaves fewer records than offsets, or none); not the CRC, and not that the whole
 * batch is there. Magic 0 and 1 are ERR_UNSUPPORTED, all else that is wrong ERR_CORRUPT. */
int batch_decode(struct batch *b, const void *p, size_t have, uint32_t max_bytes, struct err *e);

/* p: the whole batch, b->size_bytes long. */
bool batch_crc_matches(const struct batch *b, const void *p);

/* Writes the fields of a header into the first 61 bytes at p, then the CRC over the size_bytes of the batch. */
void batch_encode(const struct batch *b, void *p);

/* ---- reading records ---- */

struct record_header { const uint8_t *key, *value; int32_t key_len, value_len; }; /* value NULL: null */

struct record {
	const uint8_t *key, *value; /* borrowed; NULL: null */
	int32_t key_len, value_len; /* -1: null */
	int64_t offset, timestamp_ms;
	const uint8_t *headers;     /* the header area, for record_header_next */
	uint32_t headers_len, header_count;
	uint32_t at, size;          /* of the record in the record area, length varint included */
};

struct record_iter {
	const uint8_t *begin, *p, *end; /* borrowed: the record area, decompressed */
	const struct batch *batch;      /* borrowed */
	int32_t left;                   /* records still to come by the header's count */
	int64_t last_delta;             /* offset delta of the record before; -1 at first */
};

/* area: the decompressed record area of b, borrowed for the iteration. */
void record_iter_init(struct record_iter *it, const struct batch *b, const void *area, size_t n);
/* 1 and the next record; 0 at the end (all records of the count, no bytes left over); ERR_CORRUPT. Offsets rise, with gaps where compaction
 * took records, and stay within the batch. */
int record_next(struct record_iter *it, struct record *r, struct err *e);
/* Reads one header at *p, moves *p. false: malformed. */
bool record_header_next(const uint8_t **p, const uint8_t *end, struct record_header *h);
/* The record at *p without its batch: offset and timestamp_ms are its deltas, `at` is 0. Moves *p past it. false: malformed, *p unmoved. For
 * one who starts in the middle of an area, or has to take a large value in pieces. */
bool record_decode(const uint8_t **p, const uint8_t *end, struct record *r);

/* The most a batch may decompress to, here and wherever one is accepted: 64 MiB and 16 times its size, INT32_MAX at most. Clients bound their batches before
 * compression, mostly near 1 MiB, so the first part is far above what they make, however well it compresses; where larger messages are
 * allowed the bound grows with them; and a hostile batch takes no more than that of memory. It depends on the batch alone, so that what was accepted once
 * can always be read. */
size_t batch_area_limit(const struct batch *b);

/* The record area of a batch (all its bytes at `bytes`): points into the batch where it is not compressed, else decompresses into
 * scratch (cleared first; bounded by its limit and batch_area_limit). The CRC is the caller's to check. ERR_CORRUPT, ERR_TOO_LARGE, ERR_NO_MEMORY. */
int batch_records(const struct batch *b, const void *bytes, struct wr *scratch, const uint8_t **area, size_t *n, struct err *e);

/* The fast way through an uncompressed or decompressed area for the view: appends value and newline of records from *p on to out until `room` would
 * be passed or the area ends. Moves *p to the first record not taken. Returns the bytes written.
 * 0 with *p before end: the record there is larger than room, and the caller splits it (record_decode). ERR_CORRUPT: the record at *p is malformed; what is
 * whole before it was given by the calls before. */
ssize_t batch_project(const uint8_t **p, const uint8_t *end, uint8_t *out, size_t room);
/* A piece of the view of the one record at *p, of which *given bytes were given before: at most room bytes. With its last byte *p moves past it and *given is 0 again. ERR_CORRUPT: no whole record is there. */
ssize_t batch_project_piece(const uint8_t **p, const uint8_t *end, size_t *given, uint8_t *out, size_t room);

/* ---- whole batches that are to be appended ---- */

struct batch_mark { /* a record's start inside an uncompressed batch; about one each 4 KiB, so that the view can point there */
	uint32_t byte;   /* from the batch's first byte */
	uint32_t record; /* its offset delta */
	uint64_t view_bytes; /* of the records before it in the batch */
};

struct batch_meta {
	uint32_t at, size_bytes;     /* in the set's bytes */
	uint32_t first_mark, mark_count;
	int32_t last_offset_delta;
	int16_t attributes;
	int64_t max_timestamp_ms;
	uint64_t view_bytes;
};

struct record_set { /* one or more batches, back to back, complete but for base offsets and leader epoch */
	struct wr bytes;            /* owned; at most INT32_MAX; empty where the bytes are lent */
	uint8_t *lent;              /* NULL, or where they are instead: somebody else's memory (a request's), whose headers may be written */
	size_t lent_bytes;
	struct batch_meta *batch;   /* owned array */
	struct batch_mark *mark;    /* owned array */
	struct wr scratch;          /* owned: a record area before compression */
	uint32_t batch_count, batch_cap, mark_count, mark_cap;
};

static inline uint8_t *record_set_bytes(const struct record_set *s) { return s->lent ? s->lent : s->bytes.data; }
static inline size_t record_set_size(const struct record_set *s) { return s->lent ? s->lent_bytes : s->bytes.len; }

void record_set_init(struct record_set *s);
void record_set_release(struct record_set *s);
void record_set_clear(struct record_set *s); /* keeps the memory */

/* What a builder makes batches of. */
struct batch_style {
	enum codec codec;
	int level;
	bool log_append_time;
	uint32_t max_batch_bytes; /* a batch is ended before it passes this, incompressible as it may be; a single record over it is ERR_TOO_LARGE */
	int64_t producer_id;      /* -1: none, with epoch and sequence -1 */
	int16_t producer_epoch;
	int32_t base_sequence;
};

/* Appends to s one or more batches (of 128 KiB, where the lines are not longer) with a record a line of `text` (n bytes, each line ended by \n, which is not part of the value; the last
 * byte must be \n, else ERR_INVALID), keyless, all with timestamp now_ms. Stops before the first line that would be too large: then returns
 * ERR_TOO_LARGE. In every case *taken bytes of text are whole lines in s. Sequences rise from the style's base from batch to batch. */
int record_set_add_lines(struct record_set *s, const struct batch_style *style, const void *text, size_t n, int64_t now_ms,
			 size_t *taken, struct err *e);

/* Appends one batch of the given records (one at least), or leaves s as it was: ERR_TOO_LARGE, ERR_NO_MEMORY. A key or value of NULL is null. For tests,
 * key=value writing and control batches. */
struct record_in { const void *key, *value; int32_t key_len, value_len; int64_t timestamp_ms; const struct record_header *headers; uint32_t header_count; };
int record_set_add_records(struct record_set *s, const struct batch_style *style, int16_t extra_attributes, const struct record_in *r,
			   uint32_t count, struct err *e);

/* The transaction marker of KIP-98: one control record, key (version 0, type 0 abort / 1 commit), value (version 0, coordinator epoch). */
int record_set_add_marker(struct record_set *s, int64_t producer_id, int16_t producer_epoch, bool commit, int32_t coordinator_epoch, int64_t now_ms, struct err *e);

/* For who makes a batch by other means (store/ingest.h): room for one more, and a mark. false: no memory. */
bool record_set_room(struct record_set *s);
bool record_set_mark(struct record_set *s, const struct batch_mark *m);

/* ---- all records of a batch at once ---- */

struct batch_sums { /* of its records */
	uint64_t view_bytes;  /* as if it were no control batch */
	int64_t min_timestamp_ms, max_timestamp_ms; /* by their deltas; -1, which is none, does not count for the least. INT64_MAX, INT64_MIN: none at all */
	uint32_t null_keys;
	bool rising;          /* offset deltas rise and stay within the batch's last */
	bool gapless;         /* they go from 0 one by one */
};

/* The fast way through a whole area: its records are well formed, as many as the header says, and fill it; else ERR_CORRUPT (with a sentence). What the offsets are
 * like is told, not judged. mark: NULL, or called for a record about each `step` bytes of the area, never the first. */
int batch_sum(const struct batch *b, const void *area, size_t n, uint32_t step, void (*mark)(void *arg, const struct batch_mark *m), void *arg,
	      struct batch_sums *sums, struct err *e);

/* Walks the records of one batch of a log (decompressing into scratch) and gives its view bytes and, for an uncompressed one, calls mark() about each `step` bytes.
 * Recovery and verify share it. mark may be NULL. Control batches have no view and no marks. */
int batch_scan(const struct batch *b, const void *bytes, struct wr *scratch, uint32_t step, uint64_t *view_bytes,
	       void (*mark)(void *arg, const struct batch_mark *m), void *arg, struct err *e);

/* The control record type of a control batch: 0 abort, 1 commit (these with a coordinator epoch, if that is wanted), others as they are (-1). ERR_NOT_FOUND:
 * compaction has emptied it, so that its transaction left no records before it; ERR_CORRUPT. */
int batch_control_type(const struct batch *b, const void *bytes, int32_t *coordinator_epoch, struct err *e);

#endif
