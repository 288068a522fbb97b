/*
 * cursor: reads the view of a log at byte positions, and finds records by position or offset.
 *
 * A cursor makes a sequence of reads cheap: it remembers the batch it stands in (decompressed, where it was compressed), and reads ahead
 * in the .log the more the longer it is used in order. A read at another place starts anew from the .view's entry before it.
 * Behind a damaged batch reading goes on as store/bridge.h says: only its own positions are an error.
 * Each batch's crc is checked before a byte of it is given; for a large batch once as long as its segment is known here, so that small reads at random
 * places need not read all of it.
 *
 * thread: one at a time. The log outlives it.
 */
#ifndef STORE_CURSOR_H
#define STORE_CURSOR_H

#include "store/log.h"

struct log_cursor;

struct log_cursor *log_cursor_new(struct log *l); /* NULL: no memory */
void log_cursor_free(struct log_cursor *c);       /* NULL is fine */
/* Gives back its memory; the next read starts anew. */
void log_cursor_rest(struct log_cursor *c);

/* Copies view bytes [position, position + n) into buf, at most up to end_position, which is visible. Returns the count: less than n only at end_position, or before
 * something that cannot be read, which the next call then reports. ERR_OUT_OF_RANGE: position is below the log start. ERR_CORRUPT, ERR_IO, ERR_NO_MEMORY. */
ssize_t log_cursor_read(struct log_cursor *c, int64_t position, int64_t end_position, void *buf, size_t n, struct err *e);

/* What is visible ends at that offset (a batch's, or the LEO) and that position. Not needed for reading, but for what stands between damage and the log's end. */
void log_cursor_visible(struct log_cursor *c, int64_t end_offset, int64_t end_position);

/* Where the view of the record with that offset starts, or of the next one behind it. offset: within [log start, projected end]. Of a sequential log: where positions
 * would begin. */
int log_position_of(struct log *l, int64_t offset, int64_t *position, struct err *e);

/* The record whose view holds `position`, which is below the visible end: its offset and where its view starts. */
int log_locate(struct log *l, int64_t position, int64_t *offset, int64_t *record_position, struct err *e);

#endif
