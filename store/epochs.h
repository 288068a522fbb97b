/*
 * epochs: which leader epoch began at which offset (leader-epoch-checkpoint; KIP-101, KIP-279).
 *
 * Text, as Kafka writes it: "0\n" (version), the count, then "epoch start-offset" a line; both columns rise strictly.
 *
 * thread: one writer (the log's appender), who changes it under the log's list lock; others look at it under that.
 */
#ifndef STORE_EPOCHS_H
#define STORE_EPOCHS_H

#include <stddef.h>
#include <stdint.h>

#include "store/err.h"

struct epoch_start { int32_t epoch; int64_t start_offset; };

struct epochs {
	struct epoch_start *list; /* owned */
	size_t count, cap;
};

void epochs_init(struct epochs *x);
void epochs_release(struct epochs *x);
int epochs_copy(struct epochs *x, const struct epochs *from); /* ERR_NO_MEMORY; then x is empty */

/* ERR_NOT_FOUND (no file, or the empty one that Kafka makes before the first epoch), ERR_CORRUPT (rebuilt from the batches' own epochs): x is empty then. */
int epochs_load(struct epochs *x, const char *path, struct err *e);
int epochs_write(const struct epochs *x, const char *path, struct err *e);

int32_t epochs_last(const struct epochs *x); /* -1: none */
/* Notes that `epoch` began at `start_offset`; entries it contradicts are dropped, as Kafka does: later epochs, and those that began at or past it. Nothing changes
 * if it is the last epoch already and began there or before, or if one of the two is negative. 1: changed, 0, ERR_NO_MEMORY (nothing has changed). */
int epochs_assign(struct epochs *x, int32_t epoch, int64_t start_offset);
/* OffsetForLeaderEpoch: the greatest epoch at or below the asked one and where it ends (log_end for the last). Below the first one known: the asked epoch, and
 * where the first one begins. -1/-1 where unknown: no entries, or an epoch above the last. */
void epochs_end_of(const struct epochs *x, int32_t epoch, int64_t log_end, int32_t *found_epoch, int64_t *end_offset);
/* Drops what begins at or past end_offset (of -1, unknown: nothing). 1: changed. */
int epochs_truncate_end(struct epochs *x, int64_t end_offset);
/* Drops what ends at or before start_offset; the entry in force there then begins at it. 1: changed. */
int epochs_truncate_start(struct epochs *x, int64_t start_offset);

#endif
