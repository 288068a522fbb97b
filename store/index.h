/*
 * index: a segment's offset index and time index, as Kafka writes them.
 *
 * .index, 8 bytes an entry: relative offset u32 of the LAST record of a batch, position u32 of that batch in the .log; both rise strictly. One about each
 * log.index.interval.bytes. .timeindex, 12 bytes an entry: the greatest timestamp so far i64 (ms), relative offset u32 of the last record of the batch that
 * has it; timestamps rise strictly. Both big-endian, no header, no checksum: an entry is believed only after the batch at its
 * position was seen to have that last offset (the caller checks; a mismatch means rebuild).
 *
 * thread: as store/entries.h.
 */
#ifndef STORE_INDEX_H
#define STORE_INDEX_H

#include "store/entries.h"

struct offset_index { struct entries e; int64_t base_offset; };
struct time_index { struct entries e; int64_t base_offset; };

/* Opens and checks what can be checked without the log, of the last entries only: they rise, offsets are not below the base, timestamps not below 0, positions
 * are above 0 and below log_bytes. ERR_CORRUPT (a partial entry and a preallocated tail of zeros too): to be rebuilt. max_bytes: segment.index.bytes.
 * After a failure x is closed. */
int offset_index_open(struct offset_index *x, const char *path, int64_t base_offset, bool writable, bool create, size_t max_bytes, uint32_t log_bytes, struct err *e);
int time_index_open(struct time_index *x, const char *path, int64_t base_offset, bool writable, bool create, size_t max_bytes, struct err *e);
void offset_index_close(struct offset_index *x);
void time_index_close(struct time_index *x);

bool offset_index_is_full(const struct offset_index *x);
bool time_index_is_full(const struct time_index *x);
/* How many entries each still takes before it is full. */
uint32_t offset_index_room(const struct offset_index *x);
uint32_t time_index_room(const struct time_index *x);

/* Offsets must rise; the caller sees to it. */
int offset_index_append(struct offset_index *x, int64_t last_offset, uint32_t position, struct err *e);
/* Does nothing where timestamp is not above the last entry's, or negative. */
int time_index_append(struct time_index *x, int64_t timestamp_ms, int64_t offset, struct err *e);

/* Position of the last entry whose offset is at or below `offset`: scan from there. Without one: position 0, offset the base. */
void offset_index_find(const struct offset_index *x, int64_t offset, int64_t *entry_offset, uint32_t *position);
/* The last entry whose batch begins at or below `position`; false: none. */
bool offset_index_find_position(const struct offset_index *x, uint32_t position, int64_t *entry_offset, uint32_t *entry_position);
/* The last entry with a timestamp below `timestamp_ms`; false: none (scan from the segment's start). */
bool time_index_find(const struct time_index *x, int64_t timestamp_ms, int64_t *entry_timestamp_ms, int64_t *entry_offset);
bool time_index_last(const struct time_index *x, int64_t *timestamp_ms, int64_t *offset);
void offset_index_entry(const struct offset_index *x, uint32_t i, int64_t *offset, uint32_t *position);
void time_index_entry(const struct time_index *x, uint32_t i, int64_t *timestamp_ms, int64_t *offset);

/* Cuts the entries whose offset is at or past `offset`. */
int offset_index_truncate(struct offset_index *x, int64_t offset, struct err *e);
int time_index_truncate(struct time_index *x, int64_t offset, struct err *e);
/* As entries_hide. */
int offset_index_hide(struct offset_index *x, int64_t offset, struct err *e);
int time_index_hide(struct time_index *x, int64_t offset, struct err *e);

#endif
