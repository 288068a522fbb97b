/*
 * log_view: what the files of log.h share among themselves. Not for use outside store.
 */
#ifndef STORE_LOG_VIEW_H
#define STORE_LOG_VIEW_H

#include "store/log.h"

/* The segment that is appended to; NULL: there is none yet. appender. */
struct segment *log_active(struct log *l);
/* Takes out of the log what lies wholly below its start. rename: the files become .deleted; else they stay as they are. appender, or while it is opened. */
int log_drop_head(struct log *l, bool rename, struct err *e);

enum { VIEW_STEP_BYTES = 4096 };

/* Where entries go while batches are passed in order: the rule of which batches get one, in one place. A batch gets an entry where it would otherwise
 * end more than VIEW_STEP_BYTES behind the last entry; so behind the last entry's batch start there is never more than that, or that one batch. */
struct view_builder {
	struct view *view;      /* NULL: count only */
	int64_t since_bytes;    /* of log since the last entry's batch began; INT64_MAX / 2 before the first */
	struct view_entry *pending; /* owned: entries of one batch, added at once */
	size_t pending_cap;
};

/* Adds what the batch at `position` of the .log (offset base, first view byte at view_position) deserves. marks: inside it, may be none. ERR_NO_SPACE and
 * the like cost the entries only: they are reported by diag. */
void view_builder_batch(struct view_builder *b, int64_t base_offset, uint32_t position, uint32_t size_bytes, int64_t view_position, const struct batch_mark *marks,
			size_t mark_count);
void view_builder_release(struct view_builder *b);

#endif
