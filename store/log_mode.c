/*
 * Whether records have positions: a log that is compacted has none, for they would move. Made sequential, a log loses its .view files; given positions again, all of them are made
 * anew, from start_position on.
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>

#include "store/diag.h"
#include "store/io.h"
#include "store/log_view.h"

int log_remove_views(struct log *l, struct err *e)
{
	char path[PATH_MAX];
	for (size_t i = 0; i < l->shape->segment_count; i++) {
		segment_path(l->dir, l->shape->segment[i]->base_offset, ".view", path, sizeof path);
		int sys = io_unlink(path);
		if (sys < 0 && sys != -ENOENT)
			return err_sys(e, sys, "cannot remove %s", path);
	}
	return 0;
}

/* All segments anew, so that no reader's .view is changed under it. */
static int renew_segments(struct log *l, struct err *e)
{
	struct log_shape *shape = log_shape_take(l);
	int rc = log_left_room(l, shape->segment_count + 1) ? 0 : err_set(e, ERR_NO_MEMORY, "no memory for segments");
	for (size_t i = 0; i < shape->segment_count && rc == 0; i++) {
		struct segment *old = shape->segment[i], *fresh = segment_again(old, old->sealed, l->limits.index_bytes);
		struct aborted_txn *aborted = NULL;
		size_t first = 0, end;
		int64_t next = i + 1 < shape->segment_count ? shape->segment[i + 1]->base_offset : INT64_MAX;
		while (first < shape->aborted_count && shape->aborted[first].last_offset < old->base_offset)
			first++;
		for (end = first; end < shape->aborted_count && shape->aborted[end].last_offset < next;)
			end++;
		if (end > first)
			aborted = shape->aborted + first;
		rc = fresh ? log_replace_segments(l, &old, 1, fresh, aborted, end - first, e) : err_set(e, ERR_NO_MEMORY, "no memory for a segment");
		if (rc < 0) {
			segment_unref(fresh);
			break;
		}
		segment_shut(old, UINT32_MAX, INT64_MAX, NULL);
		log_note_left(l, old);
	}
	log_shape_drop(l, shape);
	return rc;
}

static int give_positions(struct log *l, struct err *e)
{
	int64_t stable = log_last_stable(l);
	int rc = renew_segments(l, e);
	if (rc == 0)
		rc = log_remove_views(l, e);
	if (rc < 0)
		return rc;
	if (l->view_offset < stable)
		l->view_offset = stable;
	l->sequential = l->views_gone = false;
	rc = log_rebuild_views(l, e);
	if (rc < 0) {
		l->sequential = true;
		l->view_position = (int64_t)l->start_position;
	}
	return rc;
}

int log_set_sequential(struct log *l, bool sequential, struct err *e)
{
	struct err why = ERR_INIT;
	if (l->sequential == sequential)
		return 0;
	l->changed = true;
	l->since_view_bytes = INT32_MAX;
	if (!sequential)
		return give_positions(l, e);
	pthread_mutex_lock(&l->view_lock); /* nobody makes one behind our back */
	l->sequential = l->gaps = true;
	l->view_position = (int64_t)l->start_position;
	if (log_remove_views(l, &why) < 0)
		diag_notice("%s: %s", l->name, why.text);
	pthread_mutex_unlock(&l->view_lock);
	return 0;
}
