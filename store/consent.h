/*
 * consent: `accept-loss`, an empty file that a user makes in a partition's directory, to go on with what is left of a log that is offline because a part of it
 * is gone: segments, or what was on disk of the end. Nothing is given up without it.
 *
 * It holds until the log was opened and checkpoints say what it is now; then it is removed. Where segments are missing between others that gap stays; then the file
 * is kept and names, a number a line, the base offsets of the segments behind accepted gaps: a consent to these alone.
 *
 * thread: one.
 */
#ifndef STORE_CONSENT_H
#define STORE_CONSENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/err.h"

#define CONSENT_FILE "accept-loss"

struct consent {
	bool there;
	bool judged;    /* a recovery has gone by it: what is accepted is known */
	bool all;       /* to whatever is lost now */
	int64_t *base;  /* owned; segments that may stand behind a gap */
	size_t count;
	int64_t *found; /* owned; those that do */
	size_t found_count;
};

int consent_load(struct consent *c, const char *dir, struct err *e);
void consent_release(struct consent *c);
/* Whether the gap before the segment with that base is accepted; if so it is noted. ERR_NO_MEMORY. 1: it is. */
int consent_to_gap(struct consent *c, int64_t base, struct err *e);
/* After a recovery: what is left of the consent is on disk. Nothing to do without one. */
int consent_spend(const struct consent *c, const char *dir, struct err *e);

#endif
