/*
 * recover_scan: one segment gone through at recovery: what of it is valid, and what it holds. For recover.c alone.
 *
 * thread: several segments at once, each by one thread of the pool.
 */
#ifndef STORE_RECOVER_SCAN_H
#define STORE_RECOVER_SCAN_H

#include "store/log.h"

struct hole { /* a damaged part that was safely on disk before, and what is known of it */
	uint32_t from, to;         /* in the .log; `to` is where a valid batch begins again */
	int64_t from_offset, to_offset;
};

struct part { /* one segment's scan */
	struct segment *segment;   /* borrowed */
	int64_t first_position;    /* where its view begins, behind a gap; POSITION_UNKNOWN: where the one before ends */
	int64_t recovery_point;    /* damage below it may be a hole */
	bool gaps;                 /* offsets may be missing: Kafka has compacted here */
	int rc;                    /* 0: valid to the end; ERR_CORRUPT: up to valid_bytes */
	struct err err;
	uint32_t valid_bytes;
	int64_t end_offset;        /* behind the last valid batch */
	int64_t view_bytes;        /* of all its records, as if every transaction was committed */
	int64_t max_timestamp_ms, max_timestamp_offset;
	bool index_fits, producers, transactional;
	struct view_entry *entry;  /* owned; positions from 0 */
	size_t entry_count, entry_cap;
	struct epoch_start *epoch; /* owned; where the epoch changes */
	size_t epoch_count, epoch_cap;
	struct hole *hole;         /* owned */
	size_t hole_count, hole_cap;
	/* while it is scanned, through files opened for it alone: opening the segment would mend its indexes, and nothing is to change yet */
	int fd;
	struct offset_index index;
	struct time_index times;
	uint32_t interval_bytes;   /* that the index should keep */
	uint32_t index_at, times_at; /* entries compared so far */
	int64_t since_index_bytes, last_index_timestamp_ms;
	struct wr scratch;
	int64_t base_offset;       /* of the batch at hand */
	uint32_t position;
	bool behind_hole;          /* the batch at hand is the first behind one */
};

/* segment, first_position, recovery_point, gaps and interval_bytes are set, all else is 0. */
void part_scan(struct part *p);
/* A scan that stopped early: 1: a valid batch stands behind the damage; 0: none does. */
int part_has_more(struct part *p, struct err *e);
void part_release(struct part *p);

#endif
