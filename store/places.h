/*
 * places: where some offsets lie in the .log files, remembered so that they need not be looked up: the ends of the last appends, and the last bound that had
 * to be searched for.
 *
 * Who follows a log asks for what begins at the end of an append and ends at the newest one: both are known here, so such a fetch reads nothing. A place belongs to
 * one struct segment (its serial), whatever later has the same base offset, and stays true as that is only added to.
 *
 * thread: any. Each cell is a seqlock: a reader that meets a writer finds nothing there and looks the offset up; a writer that meets another leaves it.
 */
#ifndef STORE_PLACES_H
#define STORE_PLACES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct place_cell {
	_Atomic uint32_t seq; /* odd while it is being written */
	_Atomic uint32_t position;
	_Atomic int64_t offset;
	_Atomic uint64_t serial; /* 0: nothing */
};

enum { PLACES = 32 };

struct places {
	struct place_cell append[PLACES]; /* a ring */
	_Atomic uint32_t newest;          /* appends noted so far */
	struct place_cell bound;
};

/* The batch with `offset`, which is there already or will be the next, begins at `position` of the segment. */
void places_note_append(struct places *x, int64_t offset, uint64_t serial, uint32_t position); /* one at a time: the log's appender */
void places_note_bound(struct places *x, int64_t offset, uint64_t serial, uint32_t position);
/* true: known for that very segment. */
bool places_find(struct places *x, int64_t offset, uint64_t serial, uint32_t *position);

#endif
