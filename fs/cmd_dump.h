/*
 * cmd_dump: the parts of `spoolfs dump`: cmd_dump.c finds out what a file is, cmd_dump_log.c prints batches and records, cmd_dump_files.c the rest.
 *
 * A dump_fn prints one file to stdout. Returns 0; 1 where something in it is damaged (printed, as a line that begins with "damaged", and skipped); or an error where it
 * cannot be read at all.
 *
 * thread: one.
 */
#ifndef FS_CMD_DUMP_H
#define FS_CMD_DUMP_H

#include <stdbool.h>
#include <stdint.h>

#include "store/err.h"

struct dump {
	const char *path;
	int64_t base_offset; /* by the file's name; 0 where it has none */
	bool records;        /* JSON lines */
};

typedef int (*dump_fn)(const struct dump *d, struct err *e);

int dump_log(const struct dump *d, struct err *e);

int dump_index(const struct dump *d, struct err *e);
int dump_timeindex(const struct dump *d, struct err *e);
int dump_txnindex(const struct dump *d, struct err *e);
int dump_view(const struct dump *d, struct err *e);
int dump_snapshot(const struct dump *d, struct err *e);
int dump_epochs(const struct dump *d, struct err *e);
int dump_offsets(const struct dump *d, struct err *e);
int dump_view_start(const struct dump *d, struct err *e);
int dump_partition_state(const struct dump *d, struct err *e);
int dump_text(const struct dump *d, struct err *e);

/* "2026-11-21T10:00:00.000Z"; a time that has no such form (-1: none) as its number. */
enum { TIME_TEXT_BYTES = 40 };
const char *dump_time(int64_t ms, char text[TIME_TEXT_BYTES]);

#endif
