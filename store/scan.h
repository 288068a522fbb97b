/*
 * scan: goes through a .log file batch by batch, with one window of memory.
 *
 * Used wherever whole batches are wanted one after another: recovery, rebuilding indexes and views, projecting, finding an offset. A batch
 * larger than the window makes it grow to that batch; a length is believed only when so many bytes are in the file.
 *
 * thread: one. The descriptor is borrowed.
 */
#ifndef STORE_SCAN_H
#define STORE_SCAN_H

#include "store/batch.h"
#include "store/err.h"

struct scan {
	int fd;
	uint32_t at;         /* position of the next batch */
	uint32_t end;        /* bytes of the file that count */
	uint8_t *window;     /* owned: file bytes [from, from + have) */
	size_t cap;
	uint32_t from, have;
	size_t read_bytes;   /* how much is read at once */
};

/* read_bytes: 0 for the default (1 MiB, right for going through a file); less for a short look. Memory is taken by the first scan_next. */
void scan_init(struct scan *s, int fd, uint32_t at, uint32_t end, size_t read_bytes);
void scan_release(struct scan *s);

/* 1: *b and *bytes are the batch at *position, borrowed until the next call, and s->at is behind it. 0: the end. ERR_CORRUPT: what
 * stands at s->at is no batch, or is cut short (its crc is the caller's to check); s->at stays. ERR_IO, ERR_NO_MEMORY. */
int scan_next(struct scan *s, struct batch *b, const uint8_t **bytes, uint32_t *position, struct err *e);

/* Only the header: for hopping over batches. As scan_next, but the records need not be read. */
int scan_next_header(struct scan *s, struct batch *b, uint32_t *position, struct err *e);

/* Looks for a whole batch with a matching crc that begins at or after `from`, for telling damage in the middle from a torn tail. 1: found at
 * *position; 0: none. min_offset: a batch below it does not count. */
int scan_find_valid(int fd, uint32_t from, uint32_t end, int64_t min_offset, uint32_t *position, struct err *e);

#endif
