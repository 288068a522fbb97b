/*
 * adopt_log: goes through a log that Kafka wrote for itself, record by record. Included by adopt_*.c alone.
 *
 * The files are streamed (store/scan.h), and every batch's crc is checked. Damage at the very end of the newest file, with nothing whole behind it, is a write that a
 * crash cut short: the log ends there, as it does for Kafka. Any other damage is ERR_CORRUPT.
 *
 * thread: one at a time for each struct.
 */
#ifndef CLUSTER_ADOPT_LOG_H
#define CLUSTER_ADOPT_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/batch.h"
#include "store/buf.h"
#include "store/err.h"

struct adopt_files { /* in the directory of a partition */
	int64_t *base;   /* owned: of the segments, ascending */
	size_t count, cap;
	int64_t snapshot_offset, snapshot_epoch; /* of the newest metadata snapshot; -1: none */
	bool swap;       /* Kafka stopped while it put compacted segments in place */
};

/* 1: *f is filled; 0: there is no such directory; or an error. The caller releases *f in every case. */
int adopt_files_list(struct adopt_files *f, const char *dir, struct err *e);
void adopt_files_release(struct adopt_files *f);

/* Called for each record of batches that are not control batches: 0, or the error that ends the walk. */
typedef int (*adopt_record_fn)(void *arg, const struct batch *b, const struct record *r, struct err *e);

struct adopt_walk {
	const char *dir;     /* borrowed */
	adopt_record_fn record;
	void *arg;
	int64_t seen_offset; /* records up to it do not count; -1: all do */
	bool gaps;           /* offsets may be missing; else that is damage */
	bool footer;         /* the last batch was the footer of a metadata snapshot (KIP-630) */
	struct wr scratch;
};

void adopt_walk_init(struct adopt_walk *w, const char *dir, bool gaps, adopt_record_fn record, void *arg);
void adopt_walk_release(struct adopt_walk *w);
/* Damage is ERR_CORRUPT; else ERR_IO, ERR_NO_MEMORY, what opening a file can give, and what `record` returned. */
int adopt_walk_file(struct adopt_walk *w, const char *name, bool newest, struct err *e);
int adopt_walk_segments(struct adopt_walk *w, const struct adopt_files *f, struct err *e);

#endif
