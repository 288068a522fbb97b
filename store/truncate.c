/*
 * Cutting a log's end: what a follower does with what its leader does not have, and with all of it where it has to begin anew.
 *
 * Who reads meanwhile has segments pinned. What is above the cut in their files must not turn into other bytes under them, so a .log is cut in place only where nobody was given
 * anything of that part (segment.lent_to, the view's end) or nobody is in it any more; else what stays of it is copied, and they keep the old file. Indexes are hints that are checked
 * when they are used: they are cut in place, and what a map shows no file of is hidden.
 *
 * The order, so that a crash after any step leaves the log as it was, or cut somewhere above the wanted end; a start recovers it, and the same call then finishes the work:
 *
 *  0. The recovery point on disk is no longer above the new end (the caller; log_hold_flushed): a log that ends below it is taken for damaged.
 *  1. Everything that has to be read is read, and everything is made that takes memory or descriptors: a failure up to here changes nothing.
 *  2. Readers get the shorter log: a new struct for the segment that is cut, and for those whose positions are not certain any more. The old ones take no pins from now on.
 *  3. Who is in what is cut is waited for, a moment. Who stays costs a copy of the rest of that .log, not under its name yet. A failure takes 2 back.
 *  4. leader-epoch-checkpoint is written, in any case: its directory's time tells a start that a row of the state checkpoint is not true any more. A failure takes 2 back.
 *  5. Producer snapshots past the end go. The segments behind become .deleted, the last one first and each on disk before the next: so there is never one missing in the middle.
 *  6. Only then the indexes, .txnindex and .log of the last one are cut, and that is on disk, names too, before anything is appended: what was cut does not come back between
 *     what comes later, nor entries that point there. A failure in 5 or 6 is ERR_IO: nobody may go on with it; a start and the same call do.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "store/clock.h"
#include "store/cursor.h"
#include "store/io.h"
#include "store/log_view.h"
#include "store/scan.h"
#include "store/txnindex.h"

enum { SHORT_SCAN_BYTES = 4096, COPY_BYTES = 1 << 20, READER_WAITS = 100, READER_WAIT_NS = 1000000 };

struct snapshots { int64_t *offset; size_t count, cap; bool failed; };

struct cut {
	struct log *log;
	bool taking_back;           /* of what this very call has written: a full disk must not keep the epochs from it */
	size_t index;               /* of the segment that is the last one then */
	uint32_t position;          /* of the first byte of its .log that goes */
	int64_t end;                /* the LEO then */
	struct snapshots snapshots; /* owned; of producers */
	int64_t snapshot_offset;    /* the newest that stays; -1 */
	struct producers *producers; /* owned; as of `end` */
	struct epochs epochs;       /* owned; as of `end` */
	int64_t view_offset, view_position; /* what is projected then */
	size_t view_index;          /* the segment where that ends, at most `index` */
	uint32_t view_at;           /* how much of the last one's .log is projected then */
	struct segment *last;       /* the new struct of the last one; pinned, and in both shapes */
	struct log_shape *shape;    /* owned, until it is the log's */
	struct log_shape *back;     /* owned: all segments, should it be taken back */
	struct log_shape *was;      /* owned, once it is the log's no more */
	int64_t old_leo, old_view_offset, old_view_position;
	char copy[PATH_MAX];        /* of what stays of the last one's .log; "": it is cut in place */
};

/* ---- what there is ---- */

static int note_snapshot(void *arg, const char *name, unsigned char type)
{
	struct snapshots *x = arg;
	if (type != DT_REG || strspn(name, "0123456789") != 20 || strcmp(name + 20, ".snapshot"))
		return 0;
	if (x->count == x->cap) {
		size_t cap = x->cap ? 2 * x->cap : 16;
		int64_t *more = realloc(x->offset, cap * sizeof *more);
		if (!more) {
			x->failed = true;
			return 0;
		}
		x->offset = more;
		x->cap = cap;
	}
	x->offset[x->count++] = strtoll(name, NULL, 10);
	return 0;
}

static int list_snapshots(struct log *l, struct snapshots *x, struct err *e)
{
	int sys = io_list(l->dir, note_snapshot, x);
	if (sys < 0)
		return err_sys(e, sys, "cannot list %s", l->dir);
	return x->failed ? err_set(e, ERR_NO_MEMORY, "no memory to list %s", l->dir) : 0;
}

/* The offset behind the last batch before `position`, which is where one begins, or the end. pinned. */
static int end_before(struct segment *s, uint32_t position, int64_t *end, struct err *e)
{
	struct scan scan;
	struct batch b;
	int64_t entry_offset;
	uint32_t from = 0, at;
	if (!offset_index_find_position(&s->index, position - 1, &entry_offset, &from) || !segment_entry_fits(s, entry_offset, from))
		from = 0;
	scan_init(&scan, s->fd, from, position, SHORT_SCAN_BYTES);
	int rc;
	while ((rc = scan_next_header(&scan, &b, &at, e)) == 1)
		*end = batch_last_offset(&b) + 1;
	scan_release(&scan);
	if (rc < 0)
		err_context(e, "%s/%020" PRId64 ".log", s->dir, s->base_offset);
	return rc;
}

/* The last segment that keeps something below `offset`, and how much. false in *left: none does. */
static int find_place(struct cut *c, int64_t offset, bool *left, struct err *e)
{
	const struct log_shape *shape = c->log->shape;
	*left = false;
	for (size_t i = shape->segment_count ? log_shape_index(shape, offset) + 1 : 0; i-- > 0;) {
		struct segment *s = shape->segment[i];
		struct batch b;
		int rc = segment_pin(s, e);
		if (rc < 0)
			return rc;
		rc = segment_find_offset(s, offset, &b, &c->position, e);
		if (rc == 0)
			c->position = s->size_bytes;
		if (rc >= 0 && c->position)
			rc = end_before(s, c->position, &c->end, e);
		segment_unpin(s);
		if (rc < 0)
			return rc;
		if (c->position) {
			c->index = i;
			*left = true;
			return 0;
		}
	}
	return 0;
}

/* ---- step 1 ---- */

/* Of the log as it is when it ends there. */
static int epochs_below(const struct log *l, int64_t end, struct epochs *x, struct err *e)
{
	int rc = epochs_copy(x, &l->epochs);
	if (rc < 0)
		return err_set(e, rc, "no memory for leader epochs");
	epochs_truncate_end(x, end);
	return 0;
}

/* Who is not known now was not known then, or has expired since. */
static int prepare_producers(struct cut *c, struct err *e)
{
	struct log *l = c->log;
	int rc = list_snapshots(l, &c->snapshots, e);
	if (rc < 0)
		return rc;
	if (!(c->producers = producers_new()))
		return err_set(e, ERR_NO_MEMORY, "no memory for producers");
	producers_set_now(c->producers, wall_now_ms());
	rc = log_load_snapshot(l, c->producers, c->snapshots.offset, c->snapshots.count, c->end, &c->snapshot_offset, e);
	if (rc == 0 && producers_is_empty(l->producers))
		producers_clear(c->producers);
	else if (rc == 0)
		rc = log_end_cleaned_txns(l, c->producers, e);
	const struct log_replay replay = {c->producers, producers_map_end(c->producers), c->end, NULL, NULL, NULL};
	for (size_t i = 0; i <= c->index && rc == 0 && !producers_is_empty(l->producers); i++)
		if (i == c->index || l->shape->segment[i + 1]->base_offset > replay.from)
			rc = log_replay_segment(&replay, l->shape->segment[i], e);
	producers_set_map_end(c->producers, c->end);
	return rc;
}

/* How far positions hold: to the new end, or where a transaction begins whose end is cut. */
static int prepare_view(struct cut *c, struct err *e)
{
	struct log *l = c->log;
	struct segment *s = l->shape->segment[c->index];
	struct batch b;
	int64_t unstable = producers_first_unstable(c->producers), stable = unstable >= 0 && unstable < c->end ? unstable : c->end;
	if (stable < l->start_offset) /* it was open when messages were deleted */
		stable = l->start_offset;
	c->view_offset = stable < l->view_offset ? stable : (int64_t)l->view_offset;
	c->view_position = l->view_position;
	int rc = c->view_offset < l->view_offset ? log_position_of(l, c->view_offset, &c->view_position, e) : 0;
	c->view_index = log_shape_index(l->shape, c->view_offset);
	if (c->view_index > c->index)
		c->view_index = c->index;
	c->view_at = c->position;
	if (rc < 0 || c->view_offset >= c->end)
		return rc;
	c->view_at = 0;
	if (c->view_index < c->index || c->view_offset <= s->base_offset)
		return 0;
	rc = segment_find_offset(s, c->view_offset, &b, &c->view_at, e);
	if (rc == 0)
		c->view_at = c->position;
	return rc < 0 ? rc : 0;
}

static bool view_goes_back(const struct cut *c)
{
	return !c->log->sequential && c->view_offset < c->old_view_offset;
}

/* The new struct of segment i. Without a .view, where positions went back to before its end; `last` has its files open. */
static struct segment *renew(const struct cut *c, size_t i)
{
	struct log *l = c->log;
	struct segment *old = l->shape->segment[i], *s = segment_again(old, i < c->index, l->limits.index_bytes);
	if (s && !(view_goes_back(c) && i > c->view_index))
		s->first_position = (int64_t)old->first_position;
	if (s && i == c->index)
		s->view_until = c->view_at;
	return s;
}

/* The first segment that gets a new struct. */
static size_t first_renewed(const struct cut *c)
{
	return view_goes_back(c) ? c->view_index : c->index;
}

static int prepare_shapes(struct cut *c, struct err *e)
{
	struct log *l = c->log;
	c->shape = log_shape_head(l->shape, c->index + 1, c->end);
	c->back = log_shape_head(l->shape, l->shape->segment_count, INT64_MAX);
	if (!c->shape || !c->back || !log_left_room(l, c->index + 1 - first_renewed(c)))
		return err_set(e, ERR_NO_MEMORY, "no memory to cut %s", l->name);
	for (size_t i = first_renewed(c); i <= c->index; i++) {
		struct segment *s = renew(c, i);
		if (!s)
			return err_set(e, ERR_NO_MEMORY, "no memory to cut %s", l->name);
		segment_unref(c->shape->segment[i]);
		segment_unref(c->back->segment[i]);
		c->shape->segment[i] = c->back->segment[i] = s;
		segment_ref(s);
	}
	struct segment *last = c->shape->segment[c->index];
	int rc = segment_pin(last, e);
	if (rc == 0)
		c->last = last;
	return rc;
}

static int prepare(struct cut *c, struct err *e)
{
	struct log *l = c->log;
	c->old_leo = l->leo;
	c->old_view_offset = l->view_offset;
	c->old_view_position = l->view_position;
	struct segment *s = l->shape->segment[c->index];
	int rc = segment_pin(s, e);
	if (rc < 0)
		return rc;
	rc = epochs_below(c->log, c->end, &c->epochs, e);
	if (rc == 0)
		rc = prepare_producers(c, e);
	if (rc == 0)
		rc = prepare_view(c, e);
	if (rc == 0)
		rc = prepare_shapes(c, e);
	segment_unpin(s);
	return rc;
}

/* ---- step 2 ---- */

/* In one moment for who takes list_lock; the others find an end that is there, one or the other. Positions go back before the offset that they belong to: who looks behind the
 * visible end finds that end. */
static struct log_shape *set_end(struct log *l, struct log_shape *shape, int64_t leo, int64_t view_offset, int64_t view_position)
{
	pthread_mutex_lock(&l->list_lock);
	struct log_shape *was = l->shape;
	l->shape = shape;
	l->view_position = view_position;
	l->view_offset = view_offset;
	atomic_store_explicit(&l->leo, leo, memory_order_release);
	l->cuts++;
	if (l->flushed_offset > leo)
		l->flushed_offset = leo;
	pthread_mutex_unlock(&l->list_lock);
	return was;
}

/* Their .view is made again when it is known how the transactions end. locks: view_lock. */
static int forget_views(struct cut *c, struct err *e)
{
	char path[PATH_MAX];
	for (size_t i = first_renewed(c); i < c->index; i++) {
		segment_path(c->log->dir, c->shape->segment[i]->base_offset, ".view", path, sizeof path);
		int sys = io_unlink(path);
		if (sys < 0 && sys != -ENOENT)
			return err_sys(e, sys, "cannot remove %s", path);
	}
	if (view_goes_back(c) && c->view_index < c->index) {
		segment_forget_view(c->last);
		c->last->first_position = POSITION_UNKNOWN;
	}
	return 0;
}

static int publish(struct cut *c, struct err *e)
{
	struct log *l = c->log;
	pthread_mutex_lock(&l->view_lock); /* nobody makes a .view behind our back, and then nobody can of the old structs */
	int rc = forget_views(c, e);
	if (rc == 0) {
		c->last->size_bytes = c->position;
		c->was = set_end(l, c->shape, c->end, c->view_offset, c->view_position);
		c->shape = NULL;
		for (size_t i = first_renewed(c); i < c->index; i++)
			segment_shut(c->was->segment[i], UINT32_MAX, INT64_MAX, NULL); /* there is nothing to hide */
		rc = segment_shut(c->was->segment[c->index], c->view_at, c->end, e);
	}
	pthread_mutex_unlock(&l->view_lock);
	return rc;
}

static void take_back(struct cut *c)
{
	struct log *l = c->log;
	struct segment *old = c->was->segment[c->index];
	c->last->size_bytes = (uint32_t)old->size_bytes;
	c->last->sealed = c->index + 1 < c->back->segment_count;
	log_shape_drop(l, set_end(l, c->back, c->old_leo, c->old_view_offset, c->old_view_position));
	c->back = NULL;
	l->since_view_bytes = INT32_MAX;
	c->last->times_learned = false;
	if (*c->copy)
		io_unlink(c->copy);
}

/* ---- step 3 ---- */

bool log_left_room(struct log *l, size_t more)
{
	struct segment **left = realloc(l->left, (l->left_count + more) * sizeof *left);
	if (left)
		l->left = left;
	return left != NULL;
}

void log_note_left(struct log *l, struct segment *s)
{
	if (!s->pins)
		return;
	segment_ref(s);
	l->left[l->left_count++] = s;
}

void log_forget_readers(struct log *l)
{
	for (size_t i = 0; i < l->left_count; i++)
		segment_unref(l->left[i]);
	free(l->left);
	l->left = NULL;
	l->left_count = 0;
}

/* Forgets those that nobody has pinned any more. base: also those that begin there, whose .log is another file by now; -1. */
static void prune_left(struct log *l, int64_t base)
{
	size_t n = 0;
	for (size_t i = 0; i < l->left_count; i++)
		if (l->left[i]->pins && l->left[i]->base_offset != base)
			l->left[n++] = l->left[i];
		else
			segment_unref(l->left[i]);
	l->left_count = n;
}

/* Whether somebody may be reading, through that struct, what is cut of its .log. */
static bool has_readers(const struct cut *c, const struct segment *s)
{
	return s->pins && (s->lent_to > c->end || c->old_view_offset > c->end);
}

static bool anybody_in(const struct cut *c)
{
	const struct log *l = c->log;
	bool in = has_readers(c, c->was->segment[c->index]);
	for (size_t i = 0; i < l->left_count; i++)
		in |= l->left[i]->base_offset == c->last->base_offset && has_readers(c, l->left[i]);
	return in;
}

/* A copy of what stays of the .log, on disk, under a name that goes if it is left over. */
static int copy_log(struct cut *c, struct err *e)
{
	uint8_t *buf = malloc(COPY_BYTES);
	uint32_t done = 0;
	segment_path(c->log->dir, c->last->base_offset, ".log.cut.deleted", c->copy, sizeof c->copy);
	int fd = buf ? io_open(c->copy, O_RDWR | O_CREAT | O_TRUNC, 0644) : -ENOMEM, sys = fd < 0 ? fd : 0;
	while (sys == 0 && done < c->position) {
		size_t n = c->position - done < COPY_BYTES ? c->position - done : COPY_BYTES;
		ssize_t got = io_pread(c->last->fd, buf, n, done);
		sys = got < 0 ? (int)got : got < (ssize_t)n ? -EIO : io_pwrite(fd, buf, n, done);
		done += (uint32_t)n;
	}
	if (sys == 0)
		sys = io_fdatasync(fd);
	io_close(fd < 0 ? -1 : fd);
	free(buf);
	return sys < 0 ? err_sys(e, sys, "cannot copy %s/%020" PRId64 ".log, of which somebody reads what is to be cut", c->log->dir, c->last->base_offset) : 0;
}

/* Who reads from memory to memory is out in a moment; who sends to a slow client is not. */
static int part_from_readers(struct cut *c, struct err *e)
{
	const struct segment *old = c->was->segment[c->index];
	const struct timespec moment = {.tv_nsec = READER_WAIT_NS};
	if (c->position == old->size_bytes)
		return 0;
	for (int i = 0; i < READER_WAITS && anybody_in(c); i++)
		nanosleep(&moment, NULL);
	return anybody_in(c) ? copy_log(c, e) : 0;
}

/* ---- steps 4 to 6 ---- */

int log_write_epochs(const struct log *l, const struct epochs *x, struct err *e)
{
	char path[PATH_MAX];
	snprintf(path, sizeof path, "%s/leader-epoch-checkpoint", l->dir);
	return epochs_write(x, path, e);
}

static int sync_dir(const struct log *l, struct err *e)
{
	int sys = io_fsync_dir(l->dir);
	return sys < 0 ? err_sys(e, sys, "cannot sync %s", l->dir) : 0;
}

static int remove_snapshots(const struct log *l, const struct snapshots *x, int64_t past, struct err *e)
{
	char path[PATH_MAX];
	for (size_t i = 0; i < x->count; i++) {
		if (x->offset[i] <= past)
			continue;
		segment_path(l->dir, x->offset[i], ".snapshot", path, sizeof path);
		int sys = io_unlink(path);
		if (sys < 0 && sys != -ENOENT)
			return err_sys(e, sys, "cannot remove %s", path);
	}
	return 0;
}

/* Segments from `first` on, the last one first. ordered: each is gone on disk before the next. */
static int remove_segments(struct log *l, struct log_shape *was, size_t first, bool ordered, struct err *e)
{
	int rc = 0;
	for (size_t i = was->segment_count; i-- > first && rc == 0;) {
		segment_shut(was->segment[i], UINT32_MAX, INT64_MAX, NULL);
		l->deleted_pending = true;
		rc = segment_mark_deleted(was->segment[i], e);
		if (rc == 0 && ordered)
			rc = sync_dir(l, e);
	}
	return rc;
}

/* Its .txnindex, where transactions ended in what is cut. */
static int cut_txnindex(struct cut *c, struct err *e)
{
	struct log *l = c->log;
	char path[PATH_MAX];
	size_t first = log_first_abort(l->shape, c->last->base_offset), old = log_first_abort(c->was, c->end);
	if (old == c->was->aborted_count)
		return 0;
	segment_path(l->dir, c->last->base_offset, ".txnindex", path, sizeof path);
	return txnindex_write(path, l->shape->aborted + first, l->shape->aborted_count - first, e);
}

/* The copy gets the name, and the descriptor: what is read through that are the same bytes. */
static int take_copy(struct cut *c, struct err *e)
{
	char path[PATH_MAX];
	segment_path(c->log->dir, c->last->base_offset, ".log", path, sizeof path);
	int fd = io_open(c->copy, O_RDWR, 0), sys = fd < 0 ? fd : io_rename(c->copy, path);
	if (sys == 0)
		sys = io_replace_fd(c->last->fd, fd);
	io_close(fd < 0 ? -1 : fd);
	if (sys == 0)
		prune_left(c->log, c->last->base_offset);
	return sys < 0 ? err_sys(e, sys, "cannot put %s in its place", c->copy) : 0;
}

static int cut_last(struct cut *c, struct err *e)
{
	bool shorter = c->position < c->was->segment[c->index]->size_bytes;
	int rc = cut_txnindex(c, e);
	if (rc == 0)
		rc = segment_truncate_indexes(c->last, c->view_at, c->end, e);
	if (rc == 0 && *c->copy)
		rc = take_copy(c, e);
	if (rc == 0)
		rc = segment_truncate(c->last, c->position, c->end, e);
	c->last->needs_index_sync = true;
	return rc == 0 && (shorter || view_goes_back(c)) ? segment_flush(c->last, true, e) : rc;
}

/* How much was projected since the last entry of the .view. */
static int64_t since_view(const struct cut *c)
{
	struct view_entry last;
	bool here = c->view_index == c->index && c->last->view_ok && view_last(&c->last->view, &last) == 1;
	return here && last.batch_position <= c->view_at ? c->view_at - last.batch_position : INT32_MAX;
}

static int cut_files(struct cut *c, struct err *e)
{
	struct log *l = c->log;
	struct err why = ERR_INIT;
	int rc = remove_snapshots(l, &c->snapshots, c->end, &why);
	if (rc == 0)
		rc = remove_segments(l, c->was, c->index + 1, true, &why);
	if (rc == 0)
		rc = cut_last(c, &why);
	if (rc == 0)
		rc = sync_dir(l, &why);
	if (rc < 0)
		return err_set(e, ERR_IO, "%s is cut in part alone: %s", l->name, why.text);
	l->since_view_bytes = since_view(c);
	return 0;
}

/* x has what there was then. */
void log_swap_epochs(struct log *l, struct epochs *x)
{
	struct epochs was = l->epochs;
	pthread_mutex_lock(&l->list_lock);
	l->epochs = *x;
	pthread_mutex_unlock(&l->list_lock);
	*x = was;
}

/* What the log knows of itself, as of its new end. */
static void adopt(struct cut *c)
{
	struct log *l = c->log;
	log_swap_epochs(l, &c->epochs);
	producers_free(l->producers);
	l->producers = c->producers;
	c->producers = NULL;
	l->snapshot_offset = c->snapshot_offset;
	l->changed = true;
	for (size_t i = c->index; i < c->was->segment_count; i++)
		l->bytes -= c->was->segment[i]->size_bytes;
	l->bytes += c->position;
	places_note_append(&l->places, c->end, c->last->serial, c->position);
	prune_left(l, -1);
	for (size_t i = first_renewed(c); i <= c->index; i++)
		log_note_left(l, c->was->segment[i]);
}

static void lift_hold(struct log *l)
{
	pthread_mutex_lock(&l->list_lock);
	l->flush_limit = INT64_MAX;
	pthread_mutex_unlock(&l->list_lock);
}

static int run(struct cut *c, struct err *e)
{
	struct log *l = c->log;
	int rc = prepare(c, e);
	if (rc < 0 || (rc = publish(c, e)) < 0) {
		if (c->was)
			take_back(c);
		return rc;
	}
	rc = part_from_readers(c, e);
	if (rc == 0 && (rc = log_write_epochs(l, &c->epochs, e)) < 0 && c->taking_back)
		rc = 0;
	if (rc < 0) {
		take_back(c);
		return rc;
	}
	adopt(c);
	rc = cut_files(c, e);
	if (rc == 0)
		lift_hold(l);
	return rc;
}

static void release(struct cut *c)
{
	if (c->last)
		segment_unpin(c->last);
	log_shape_drop(c->log, c->shape);
	log_shape_drop(c->log, c->back);
	log_shape_drop(c->log, c->was);
	producers_free(c->producers);
	epochs_release(&c->epochs);
	free(c->snapshots.offset);
}

/* ---- all of it goes ---- */

static int drop_all(struct log *l, int64_t offset, int64_t position, bool taking_back, struct err *e)
{
	const struct epochs none = {0};
	struct snapshots snapshots = {0};
	struct err why = ERR_INIT;
	bool ordered = offset < l->leo; /* else a start finds an end below the log start, and drops what is left itself */
	struct log_shape *empty = log_shape_head(l->shape, 0, INT64_MIN);
	int rc = empty ? list_snapshots(l, &snapshots, e) : err_set(e, ERR_NO_MEMORY, "no memory to drop %s", l->name);
	if (rc == 0 && (rc = log_write_epochs(l, &none, e)) < 0 && taking_back)
		rc = 0;
	if (rc < 0) {
		log_shape_drop(l, empty);
		free(snapshots.offset);
		return rc;
	}
	l->start_position = position;
	l->start_offset = offset;
	struct log_shape *was = set_end(l, empty, offset, offset, position);
	pthread_mutex_lock(&l->list_lock);
	l->epochs.count = 0;
	l->flushed_offset = offset; /* there is nothing below that is not on disk */
	pthread_mutex_unlock(&l->list_lock);
	producers_clear(l->producers);
	producers_set_map_end(l->producers, offset);
	l->snapshot_offset = -1;
	l->bytes = 0;
	l->changed = true;
	rc = remove_snapshots(l, &snapshots, -1, &why);
	if (rc == 0)
		rc = remove_segments(l, was, 0, ordered, &why);
	if (rc == 0)
		rc = sync_dir(l, &why);
	log_shape_drop(l, was);
	free(snapshots.offset);
	prune_left(l, -1);
	if (rc == 0)
		lift_hold(l);
	return rc < 0 ? err_set(e, ERR_IO, "%s is dropped in part alone: %s", l->name, why.text) : 0;
}

/* ---- the calls ---- */

static int cut_at(struct log *l, int64_t offset, bool taking_back, struct err *e)
{
	struct cut c = {.log = l, .taking_back = taking_back, .snapshot_offset = -1};
	bool left;
	int rc = find_place(&c, offset, &left, e);
	if (rc < 0)
		return rc;
	if (!left || c.end < l->start_offset)
		return drop_all(l, l->start_offset, l->start_position, taking_back, e);
	if (taking_back)
		c.end = offset;
	rc = run(&c, e);
	release(&c);
	return rc;
}

static int busy(const struct log *l, struct err *e)
{
	return l->keep_head ? err_set(e, ERR_BUSY, "%s: a cleaner is putting segments in their places; in a moment it can be cut", l->name) : 0;
}

/* Nothing is to be cut, but for epochs that have begun without a batch: Kafka does the same. */
static int trim_epochs(struct log *l, struct err *e)
{
	struct epochs x;
	int rc = epochs_below(l, l->leo, &x, e);
	if (rc == 0 && x.count != l->epochs.count && (rc = log_write_epochs(l, &x, e)) == 0)
		log_swap_epochs(l, &x);
	epochs_release(&x);
	return rc;
}

int log_hold_flushed(struct log *l, int64_t offset, struct err *e)
{
	struct cut c = {.log = l};
	bool left;
	if (offset > l->start_offset && offset < l->leo) {
		int rc = find_place(&c, offset, &left, e);
		if (rc < 0)
			return rc;
		offset = left && c.end > l->start_offset ? c.end : (int64_t)l->start_offset;
	}
	pthread_mutex_lock(&l->list_lock);
	l->flush_limit = offset;
	if (l->flushed_offset > offset)
		l->flushed_offset = offset;
	pthread_mutex_unlock(&l->list_lock);
	return 0;
}

int log_truncate(struct log *l, int64_t offset, struct err *e)
{
	if (offset < l->start_offset)
		return err_set(e, ERR_OUT_OF_RANGE, "%s cannot be cut at offset %" PRId64 ": it starts at %" PRId64, l->name, offset, (int64_t)l->start_offset);
	int rc = busy(l, e);
	if (rc == 0 && offset >= l->leo) {
		rc = trim_epochs(l, e);
		if (rc == 0)
			lift_hold(l);
		return rc;
	}
	return rc == 0 ? cut_at(l, offset, false, e) : rc;
}

int log_take_back(struct log *l, int64_t end, struct err *e)
{
	return cut_at(l, end, true, e);
}

int log_restart(struct log *l, int64_t offset, int64_t position, struct err *e)
{
	int rc = busy(l, e);
	return rc == 0 ? drop_all(l, offset, position, false, e) : rc;
}
