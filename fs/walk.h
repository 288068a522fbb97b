/*
 * walk: goes through a .log file from end to end, past damage: what `dump` and `verify` have in common.
 *
 * Each step gives either a whole batch with a matching crc, or a damaged stretch: from where no such batch begins to where the next one does.
 * The next one is looked for first where the damaged batch says that it ends, then at every byte, and counts only if its
 * offset is above those seen: a batch that is someone's message, inside a batch, is not taken for one of the log's.
 *
 * thread: one. Memory: one window of 1 MiB, or the largest batch.
 */
#ifndef FS_WALK_H
#define FS_WALK_H

#include "store/batch.h"
#include "store/err.h"
#include "store/scan.h"

struct walk {
	struct scan scan;
	int fd; /* owned */
	int64_t next_offset; /* the least that the next batch may begin with to be believed behind damage */
};

struct walk_step {
	uint32_t position, size_bytes;
	bool damaged;
	bool has_header;      /* batch is filled; always where it is not damaged */
	struct batch batch;
	const uint8_t *bytes; /* the whole batch, borrowed until the next step; NULL where damaged */
	struct err why;       /* where damaged */
};

/* size_bytes: NULL, or told how long the file is. ERR_TOO_LARGE: no segment can be as long as this file. */
int walk_open(struct walk *w, const char *path, uint32_t *size_bytes, struct err *e);
void walk_close(struct walk *w);

/* 1: a step; 0: the end; ERR_IO, ERR_NO_MEMORY. */
int walk_next(struct walk *w, struct walk_step *s, struct err *e);

#endif
