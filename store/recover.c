/*
 * Recovery: opening a log of which no trusted checkpoint says what it holds.
 *
 *  1. Segments past the recovery point are scanned, in parallel (recover_scan.c): every batch's header, crc, order and records. On the way index entries are compared
 *     with the log, and the view's entries are made anew.
 *  2. Where a segment stops being valid: if a valid batch follows, there or in a later segment, or if durable offsets are missing, the log is damaged and offline, with
 *     a report. Else it is a torn tail. Damage below the recovery point that the old .view bridges is a hole: reported, and an error to who reads there; all else
 *     is kept. What is gone for good is done without only where the user asks for it (consent.h).
 *  3. Offsets and positions from segment to segment leave no room for a missing one. Up to here nothing was changed.
 *  4. A torn tail is kept as <base>.cut, and cut.
 *  5. Producer state is replayed from the newest snapshot; epochs are read from the batches; transactions decide what is visible.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/consent.h"
#include "store/diag.h"
#include "store/io.h"
#include "store/log_view.h"
#include "store/pool.h"
#include "store/recover_scan.h"
#include "store/scan.h"
#include "store/txnindex.h"

struct recovery {
	struct log *l;
	const struct log_open *o;
	size_t first, count;       /* segments [first, first + count) of the shape are scanned */
	size_t scanned;            /* parts there are; count gets less when empty segments behind a torn one go */
	size_t keep;               /* segments [0, keep) of the shape stay; behind them is nothing but empty ones */
	struct part *part;
	struct part *torn;         /* its tail is to be cut; NULL: none is */
	bool transactional;        /* there are transactions in what was scanned */
	int64_t scanned_from;      /* offset; INT64_MAX where none is scanned */
	struct segment **below;    /* owned, with references: segments wholly below the log start */
	size_t below_count;
};

/* thread: the pool's. */
static void scan_one(void *arg, size_t i)
{
	part_scan(&((struct recovery *)arg)->part[i]);
}

/* ---- verdicts: nothing is changed ---- */

static int offline(struct log *l, struct err *e, const char *what)
{
	return err_set(e, ERR_OFFLINE, "%s: %s. Nothing was changed. `spoolfs verify` lists all damage, `spoolfs dump --records %s` gives what can be read; a replica or a backup "
		       "of the directory makes it whole", l->name, what, l->dir);
}

/* The same where the log can do without what is gone, if that is what the user wants. */
static int offline_unless(struct log *l, struct err *e, const char *what)
{
	return err_set(e, ERR_OFFLINE, "%s: %s. Nothing was changed. `spoolfs dump --records %s` gives what can be read; a replica or a backup of the directory makes it whole; "
		       "to go on without what is lost, make an empty file " CONSENT_FILE " in it and mount again", l->name, what, l->dir);
}

static void go_on(struct log *l, const char *what)
{
	diag_warning("%s: %s. It goes on with what is left, as " CONSENT_FILE " asks for", l->name, what);
}

/* A scan that stopped early: torn tail or damage? */
static int judge(struct recovery *r, struct part *p, struct err *e)
{
	char what[700];
	struct log_shape *s = r->l->shape;
	int rc = part_has_more(p, e);
	if (rc < 0)
		return rc;
	bool more = rc == 1;
	for (size_t i = 0; i < s->segment_count; i++)
		more |= s->segment[i]->base_offset > p->segment->base_offset && s->segment[i]->size_bytes > 0;
	if (!more && (p->end_offset >= r->o->recovery_point || r->o->accepted->all))
		return 0;
	snprintf(what, sizeof what, "%020" PRId64 ".log is damaged at %s (%s)", p->segment->base_offset, p->err.text,
		 more ? "valid batches follow" : "in a part that was safely on disk before");
	return (more ? offline : offline_unless)(r->l, e, what);
}

static int judge_all(struct recovery *r, struct err *e)
{
	int rc = 0;
	bool transactional = false, holes = false;
	for (size_t i = 0; i < r->count && rc == 0; i++) {
		struct part *p = &r->part[i];
		transactional |= p->transactional;
		holes |= p->hole_count > 0;
		if (p->rc == 0)
			continue;
		if (p->rc != ERR_CORRUPT)
			return err_set(e, p->rc, "%s: %s", r->l->name, p->err.text);
		if ((rc = judge(r, p, e)) == 0) {
			r->torn = p;
			r->count = i + 1;
			r->keep = r->first + r->count;
		}
	}
	r->transactional = transactional;
	/* which transactions count decides positions, and a hole may have held markers */
	if (rc == 0 && holes && transactional)
		rc = offline(r->l, e, "a part that was safely on disk before is damaged, and there are transactions");
	return rc;
}

/* Where a segment ends, whether it was scanned or not. *known: not where an old one is damaged; who reads there is told. */
static int end_of(struct recovery *r, size_t i, int64_t *end, bool *known, struct err *e)
{
	struct segment *s = r->l->shape->segment[i];
	struct err why = ERR_INIT;
	*known = true;
	if (i >= r->first) {
		*end = r->part[i - r->first].end_offset;
		return 0;
	}
	int rc = segment_pin(s, e);
	if (rc < 0)
		return rc;
	rc = segment_end_offset(s, end, &why);
	segment_unpin(s);
	if (rc == ERR_CORRUPT && i + 1 < r->l->shape->segment_count) {
		diag_error("%s: %s", r->l->name, why.text);
		*known = false;
		return 0;
	}
	return rc < 0 ? err_set(e, rc, "%s", why.text) : 0;
}

/* Where the view of a segment begins, by its own .view; POSITION_UNKNOWN. Without opening the segment, which would mend its indexes. */
static int64_t own_first_position(const struct segment *s)
{
	char path[PATH_MAX];
	struct view v;
	segment_path(s->dir, s->base_offset, ".view", path, sizeof path);
	if (view_open(&v, path, s->base_offset, false, 0, NULL) < 0)
		return POSITION_UNKNOWN;
	int64_t position = v.first_position;
	view_close(&v);
	return position;
}

/* Whether the view goes on without a step from segment i to the next. */
static int view_goes_on(struct log *l, size_t i, bool *on, struct err *e)
{
	int64_t position, known = own_first_position(l->shape->segment[i + 1]);
	*on = false;
	if (known == POSITION_UNKNOWN)
		return 0;
	int rc = log_need_view(l, l->shape, i, e);
	if (rc == 0)
		rc = log_end_position(l, i, &position, e);
	*on = rc == 0 && position == known;
	return rc;
}

/* Segments are missing before segment i. What is left has its positions where its own .view tells them, and no transaction decides them. */
static int accept_gap(struct recovery *r, size_t i, const char *what, struct err *e)
{
	struct log *l = r->l;
	int64_t position = own_first_position(l->shape->segment[i]);
	if (position == POSITION_UNKNOWN || r->transactional)
		return offline(l, e, what);
	int rc = consent_to_gap(r->o->accepted, l->shape->segment[i]->base_offset, e);
	if (rc == 0)
		return offline_unless(l, e, what);
	if (rc < 0)
		return rc;
	if (i >= r->first && i < r->first + r->count)
		r->part[i - r->first].first_position = position;
	go_on(l, what);
	return 0;
}

/* Offsets that are missing between two segments were compacted away if the view goes on without a step; else a segment is missing. */
static int check_gap(struct recovery *r, size_t i, int64_t end, struct err *e)
{
	struct log *l = r->l;
	struct segment *next = l->shape->segment[i + 1];
	char what[200];
	bool on = false;
	if (end == next->base_offset || (end < next->base_offset && (r->o->foreign || r->o->compacted)))
		return 0;
	if (end < next->base_offset && r->o->gaps) {
		int rc = view_goes_on(l, i, &on, e);
		if (rc < 0 || on)
			return rc;
	}
	if (end > next->base_offset) {
		snprintf(what, sizeof what, "segments %020" PRId64 " and %020" PRId64 " overlap", l->shape->segment[i]->base_offset, next->base_offset);
		return offline(l, e, what);
	}
	snprintf(what, sizeof what, "offsets %" PRId64 " to %" PRId64 " are missing between two segments", end, next->base_offset - 1);
	return accept_gap(r, i + 1, what, e);
}

/* An empty last segment that does not begin where the one before it ends goes: the records before it were lost (that is no damage, unless they were durable), or
 * a roll failed and the log went on in the old one. */
static bool is_leftover(struct recovery *r, size_t i, int64_t end)
{
	struct segment *next = r->l->shape->segment[i + 1];
	if (i + 2 != r->keep || next->size_bytes || next->base_offset == end)
		return false;
	r->keep = i + 1;
	if (r->count && r->first + r->count > r->keep)
		r->count = r->keep - r->first;
	return true;
}

static int check_ends(struct recovery *r, struct err *e)
{
	struct log *l = r->l;
	char what[200];
	bool known = true;
	int64_t end = l->start_offset;
	int rc = 0;
	for (size_t i = 0; i < r->keep && rc == 0; i++) {
		rc = end_of(r, i, &end, &known, e);
		if (rc == 0 && known && i + 1 < r->keep && !is_leftover(r, i, end))
			rc = check_gap(r, i, end, e);
	}
	if (rc < 0)
		return rc;
	l->leo = end;
	if (end < r->o->recovery_point) {
		snprintf(what, sizeof what, "it ends at offset %" PRId64 ", but everything below %" PRId64 " was safely on disk before", end, r->o->recovery_point);
		if (!r->o->accepted->all)
			return offline_unless(l, e, what);
		go_on(l, what);
	}
	return 0;
}

/* ---- where it starts ---- */

/* The copy of the pair that the first .view has. */
static int start_from_view(struct log *l, struct segment *s, struct err *e)
{
	struct err why = ERR_INIT;
	char path[PATH_MAX];
	struct view v;
	l->start_offset = s->base_offset;
	l->start_position = 0;
	if (s->base_offset == 0)
		return 0;
	segment_path(l->dir, s->base_offset, ".view", path, sizeof path);
	int rc = view_open(&v, path, s->base_offset, false, 0, &why);
	if (rc != 0 && l->sequential)
		return 0;
	if (rc == ERR_NOT_FOUND || rc == ERR_CORRUPT)
		return err_set(e, ERR_OFFLINE, "%s: " VIEW_START_FILE " has no row of it and %020" PRId64 ".view is lost: nobody knows at which position in the file the log starts. "
			       "Add the row \"TOPIC PARTITION TOPIC-ID OFFSET POSITION\" from a backup, or remove " VIEW_START_FILE " to have all positions begin at 0 again",
			       l->name, s->base_offset);
	if (rc < 0)
		return err_set(e, rc, "%s", why.text);
	l->start_position = v.first_position;
	view_close(&v);
	return 0;
}

static int place_start(struct log *l, const struct log_open *o, struct err *e)
{
	struct log_shape *s = l->shape;
	int64_t base = s->segment_count ? s->segment[0]->base_offset : 0;
	char what[300];
	int rc = 0;
	if (o->pair_offset >= 0) {
		l->start_offset = o->pair_offset;
		l->start_position = o->pair_position;
	} else if (o->foreign) {
		l->start_offset = o->start_offset > base ? o->start_offset : base;
		l->start_position = 0;
	} else if (s->segment_count) {
		rc = start_from_view(l, s->segment[0], e);
	}
	if (rc == 0 && s->segment_count && base > l->start_offset && !o->compacted) {
		snprintf(what, sizeof what, "the log starts at offset %" PRId64 ", but its first segment begins at %" PRId64 ": one is missing", (int64_t)l->start_offset, base);
		if (!o->accepted->all)
			return offline_unless(l, e, what);
		go_on(l, what);
		rc = start_from_view(l, s->segment[0], e);
	}
	return rc;
}

/* What lies wholly below the start was about to go when the last one stopped. It leaves the shape, and goes once the verdict is good. */
static int set_aside_below(struct recovery *r, struct err *e)
{
	struct log_shape *old = log_shape_take(r->l);
	size_t before = old->segment_count;
	int rc = log_drop_head(r->l, false, e);
	size_t gone = before - r->l->shape->segment_count;
	if (rc == 0 && gone && !r->o->foreign) {
		r->below = calloc(gone, sizeof(struct segment *));
		if (!r->below)
			rc = err_set(e, ERR_NO_MEMORY, "no memory to recover %s", r->l->name);
		for (; r->below && r->below_count < gone; r->below_count++) {
			segment_ref(old->segment[r->below_count]);
			r->below[r->below_count] = old->segment[r->below_count];
		}
	}
	log_shape_drop(r->l, old);
	return rc;
}

/* ---- repairs ---- */

/* Keeps the torn bytes for who wants to look at them, then cuts. */
static int cut_tail(struct log *l, struct part *p, struct err *e)
{
	struct segment *s = p->segment;
	char path[PATH_MAX];
	uint32_t torn = s->size_bytes - p->valid_bytes;
	uint8_t *bytes = malloc(torn ? torn : 1);
	if (!bytes)
		return err_set(e, ERR_NO_MEMORY, "no memory to keep %u torn bytes", torn);
	segment_unseal(s); /* it will be the last */
	int rc = segment_pin(s, e);
	if (rc < 0)
		goto done;
	segment_path(s->dir, s->base_offset, ".cut", path, sizeof path);
	ssize_t got = io_pread(s->fd, bytes, torn, p->valid_bytes);
	int sys = got < 0 ? (int)got : io_replace_file(path, bytes, (size_t)got, true);
	if (sys < 0)
		rc = err_sys(e, sys, "cannot keep the torn tail in %s", path);
	if (rc == 0)
		rc = segment_truncate(s, p->valid_bytes, p->end_offset, e);
	if (rc == 0) {
		l->bytes -= torn;
		diag_warning("%s: %s; the last %u bytes of %020" PRId64 ".log were torn and are cut, kept in %s", l->name, p->err.text, torn, s->base_offset, path);
	}
	segment_unpin(s);
done:
	free(bytes);
	return rc;
}

/* Removes segments [keep, ...) from the shape. */
static int drop_behind(struct log *l, size_t keep, struct err *e)
{
	int rc = 0;
	while (l->shape->segment_count > keep && rc == 0) {
		struct segment *s = l->shape->segment[l->shape->segment_count - 1];
		if ((rc = segment_mark_deleted(s, e)) == 0) {
			l->bytes -= s->size_bytes;
			l->shape->segment_count--;
			l->deleted_pending = true;
			segment_unref(s);
		}
	}
	if (rc == 0 && keep)
		segment_unseal(l->shape->segment[keep - 1]);
	return rc;
}

/* The log's start is on disk before what lies behind it must be: with that lost, the log goes on at its start, as in Kafka. */
static int start_anew(struct recovery *r, struct err *e)
{
	struct log *l = r->l;
	diag_warning("%s: the log ends at offset %" PRId64 ", below its start %" PRId64 ": what was left there had been deleted; it goes on at its start", l->name, (int64_t)l->leo,
		     (int64_t)l->start_offset);
	int rc = drop_behind(l, 0, e);
	if (rc < 0)
		return rc;
	r->first = r->count = r->keep = 0;
	l->leo = l->start_offset;
	l->shape->aborted_count = 0;
	producers_clear(l->producers);
	producers_set_map_end(l->producers, l->leo);
	return 0;
}

static int repair_segments(struct recovery *r, struct err *e)
{
	struct log *l = r->l;
	int rc = 0;
	for (size_t i = 0; i < r->below_count && rc == 0; i++) {
		rc = segment_mark_deleted(r->below[i], e);
		l->deleted_pending = true;
	}
	if (rc == 0 && r->keep < l->shape->segment_count)
		rc = drop_behind(l, r->keep, e);
	if (rc == 0 && r->torn)
		rc = cut_tail(l, r->torn, e);
	if (rc == 0 && l->leo < l->start_offset)
		rc = start_anew(r, e);
	for (size_t i = 0; i < r->count && rc == 0; i++) {
		struct part *p = &r->part[i];
		p->segment->max_timestamp_offset = p->max_timestamp_offset;
		p->segment->max_timestamp_ms = p->max_timestamp_ms;
		for (size_t k = 0; k < p->hole_count; k++)
			diag_error("%s: %020" PRId64 ".log is damaged at position %" PRIu32 ": offsets %" PRId64 " to %" PRId64 " cannot be read; all others can. A replica or a backup "
				   "of the directory makes it whole", l->name, p->segment->base_offset, p->hole[k].from, p->hole[k].from_offset, p->hole[k].to_offset - 1);
		if (!p->index_fits && (rc = segment_pin(p->segment, e)) == 0) {
			rc = segment_rebuild_index(p->segment, e);
			segment_unpin(p->segment);
		}
	}
	return rc;
}

/* ---- epochs, producers ---- */

static int restore_epochs(struct recovery *r, struct err *e)
{
	struct log *l = r->l;
	char path[PATH_MAX];
	int changed = epochs_truncate_end(&l->epochs, r->scanned_from);
	for (size_t i = 0; i < r->count; i++)
		for (size_t k = 0; k < r->part[i].epoch_count; k++) {
			int rc = epochs_assign(&l->epochs, r->part[i].epoch[k].epoch, r->part[i].epoch[k].start_offset);
			if (rc < 0)
				return err_set(e, rc, "no memory for epochs");
			changed |= rc;
		}
	if (l->start_offset > 0)
		changed |= epochs_truncate_start(&l->epochs, l->start_offset);
	if (!changed || !l->epochs.count)
		return 0;
	snprintf(path, sizeof path, "%s/leader-epoch-checkpoint", l->dir);
	return epochs_write(&l->epochs, path, e);
}

static int remove_snapshot_past(void *arg, const char *name, unsigned char type)
{
	struct log *l = arg;
	char path[PATH_MAX];
	if (type != DT_REG || strspn(name, "0123456789") != 20 || strcmp(name + 20, ".snapshot") || strtoll(name, NULL, 10) <= l->leo)
		return 0;
	snprintf(path, sizeof path, "%s/%s", l->dir, name);
	int sys = io_unlink(path);
	return sys == -ENOENT ? 0 : sys;
}

/* Snapshots past the end know of batches that are lost: one day the log would be that long again. */
static int remove_snapshots(struct log *l, struct err *e)
{
	int sys = io_list(l->dir, remove_snapshot_past, l);
	return sys < 0 ? err_sys(e, sys, "cannot remove producer snapshots from %s", l->dir) : 0;
}

static int add_aborted(struct log_shape *s, const struct aborted_txn *a, struct err *e)
{
	struct aborted_txn *more = realloc(s->aborted, (s->aborted_count + 1) * sizeof *more);
	if (!more)
		return err_set(e, ERR_NO_MEMORY, "no memory for aborted transactions");
	s->aborted = more;
	more[s->aborted_count++] = *a;
	return 0;
}

static const struct part *part_of(const struct recovery *r, size_t i)
{
	return i >= r->first && i < r->first + r->count ? &r->part[i - r->first] : NULL;
}

/* Moves the scan past a known hole that begins where it stands. */
static bool skip_hole(const struct part *p, struct scan *scan)
{
	for (size_t k = 0; p && k < p->hole_count; k++)
		if (p->hole[k].from == scan->at) {
			scan->at = p->hole[k].to;
			return true;
		}
	return false;
}

struct replaying { struct log_shape *shape; const struct part *part; };

static bool skip_known_hole(void *arg, struct scan *scan)
{
	return skip_hole(((struct replaying *)arg)->part, scan);
}

static int note_aborted(void *arg, const struct aborted_txn *a, struct err *e)
{
	return add_aborted(((struct replaying *)arg)->shape, a, e);
}

/* The .txnindex of a segment becomes what the replay found; entry `first` of the shape's is its first. */
static int write_txnindex(struct log *l, struct segment *s, size_t first, struct err *e)
{
	char path[PATH_MAX];
	struct aborted_txn *old = NULL;
	size_t old_count = 0, n = l->shape->aborted_count - first;
	segment_path(l->dir, s->base_offset, ".txnindex", path, sizeof path);
	bool same = txnindex_load(path, s->base_offset, &old, &old_count, NULL) == 0 && n && old_count == n &&
		    !memcmp(old, l->shape->aborted + first, n * sizeof *old);
	free(old);
	if (same)
		s->needs_txn_sync = true; /* it may be in memory alone */
	return same ? 0 : txnindex_write(path, l->shape->aborted + first, n, e);
}

static int replay_segment(struct recovery *r, size_t i, int64_t from, struct err *e)
{
	struct log *l = r->l;
	struct segment *s = l->shape->segment[i];
	struct replaying x = {l->shape, part_of(r, i)};
	const struct log_replay replay = {l->producers, from, INT64_MAX, skip_known_hole, note_aborted, &x};
	int rc = log_replay_segment(&replay, s, e);
	size_t first = l->shape->aborted_count;
	while (first > 0 && l->shape->aborted[first - 1].last_offset >= s->base_offset)
		first--;
	return rc < 0 ? rc : write_txnindex(l, s, first, e);
}

/* From the snapshot on, unless no producer was seen since. Markers that ended from there on are found again. */
static int replay_producers(struct recovery *r, struct err *e)
{
	struct log *l = r->l;
	struct log_shape *s = l->shape;
	int64_t from = producers_map_end(l->producers);
	bool seen = from < r->scanned_from;
	int rc = log_end_cleaned_txns(l, l->producers, e);
	for (size_t i = 0; i < r->count; i++)
		seen |= r->part[i].producers;
	seen |= s->aborted_count && s->aborted[s->aborted_count - 1].last_offset >= r->scanned_from;
	if (seen) {
		while (s->aborted_count && s->aborted[s->aborted_count - 1].last_offset >= from)
			s->aborted_count--;
		for (size_t i = 0; i < s->segment_count && rc == 0; i++)
			if (i + 1 == s->segment_count || s->segment[i + 1]->base_offset > from)
				rc = replay_segment(r, i, from, e);
	}
	producers_set_map_end(l->producers, l->leo);
	return rc;
}

/* ---- views ---- */

static int write_view(struct part *p, int64_t first_position, struct err *e)
{
	struct segment *s = p->segment;
	int rc = segment_pin(s, e);
	if (rc < 0)
		return rc;
	for (size_t i = 0; i < p->entry_count; i++)
		p->entry[i].position += first_position;
	rc = segment_make_view(s, first_position, e);
	if (rc == 0 && p->entry_count)
		rc = view_append_many(&s->view, p->entry, (uint32_t)p->entry_count, e);
	segment_unpin(s);
	return rc;
}

/* The views of the scanned segments, from where the one before them ends. */
static int write_views(struct recovery *r, struct err *e)
{
	struct log *l = r->l;
	if (!r->count)
		return 0;
	int rc = log_need_view(l, l->shape, r->first, e);
	int64_t position = l->shape->segment[r->first]->first_position;
	for (size_t i = 0; i < r->count && rc == 0; i++) {
		if (r->part[i].first_position != POSITION_UNKNOWN)
			position = r->part[i].first_position;
		rc = write_view(&r->part[i], position, e);
		position += r->part[i].view_bytes;
	}
	return rc;
}

/* With transactions the views are made again once it is known which of them count. What lies behind the first open one has no positions yet; a marker that
 * was lost may have given it some. */
static void forget_views(struct recovery *r)
{
	struct log_shape *s = r->l->shape;
	for (size_t i = 0; i < s->segment_count; i++) {
		int64_t end = i + 1 < s->segment_count ? s->segment[i + 1]->base_offset : (int64_t)r->l->leo;
		if (!part_of(r, i) && end <= r->l->view_offset)
			continue;
		segment_forget_view(s->segment[i]);
		if (s->segment[i]->base_offset > r->l->view_offset)
			s->segment[i]->first_position = POSITION_UNKNOWN;
	}
}

/* Where the view ends: no further than the caller wants it, nor in the middle of a batch. */
static int bound_view(struct recovery *r, struct err *e)
{
	struct log *l = r->l;
	struct batch b;
	uint32_t at;
	l->view_offset = log_last_stable(l);
	int64_t limit = r->o->visible_limit ? *r->o->visible_limit : INT64_MAX;
	struct segment *s = limit >= l->view_offset ? NULL : log_segment_of(l->shape, limit);
	if (!s)
		return 0;
	int rc = segment_pin(s, e);
	if (rc == 0) {
		rc = segment_find_offset(s, limit, &b, &at, e);
		l->view_offset = rc == 1 && b.base_offset < limit ? b.base_offset : limit;
		segment_unpin(s);
	}
	segment_unref(s);
	return rc < 0 ? rc : 0;
}

static int restore_views(struct recovery *r, struct err *e)
{
	struct log *l = r->l;
	bool plain = true;
	int rc = bound_view(r, e);
	if (rc < 0)
		return rc;
	if (l->view_offset < l->start_offset) /* a transaction that was open when messages were deleted */
		l->view_offset = l->start_offset;
	if (l->sequential || r->o->compacted) { /* a power cut may have brought back one of a segment that is another now */
		rc = log_remove_views(l, e);
		if (rc < 0 || l->sequential) {
			l->view_position = l->start_position;
			return rc;
		}
	}
	for (size_t i = 0; i < r->count; i++)
		plain &= !r->part[i].transactional;
	if (plain && l->view_offset == l->leo)
		rc = write_views(r, e);
	else
		forget_views(r);
	return rc == 0 ? log_rebuild_views(l, e) : rc;
}

/* ---- all of it ---- */

/* The first segment to be scanned: the one that holds the recovery point; after a clean stop, none. */
static size_t scan_from_segment(struct log *l, const struct log_open *o)
{
	size_t first = 0;
	if (o->clean && l->epochs.count && !o->accepted->all)
		return l->shape->segment_count;
	if (!l->epochs.count)
		return 0; /* only the batches can tell the epochs */
	while (first + 1 < l->shape->segment_count && l->shape->segment[first + 1]->base_offset <= o->recovery_point)
		first++;
	return first;
}

static int scan_parts(struct recovery *r, struct err *e)
{
	struct log *l = r->l;
	r->first = scan_from_segment(l, r->o);
	r->keep = l->shape->segment_count;
	r->count = r->scanned = r->keep - r->first;
	r->scanned_from = r->count ? l->shape->segment[r->first]->base_offset : INT64_MAX;
	r->part = calloc(r->count + 1, sizeof *r->part);
	if (!r->part)
		return err_set(e, ERR_NO_MEMORY, "no memory to recover %s", l->name);
	for (size_t i = 0; i < r->count; i++)
		r->part[i] = (struct part){.segment = l->shape->segment[r->first + i], .first_position = POSITION_UNKNOWN, .recovery_point = r->o->recovery_point, .gaps = l->gaps,
					   .interval_bytes = l->limits.interval_bytes};
	pool_for_each(l->pool, r->count, scan_one, r);
	return 0;
}

static void release(struct recovery *r)
{
	for (size_t i = 0; r->part && i < r->scanned; i++)
		part_release(&r->part[i]);
	free(r->part);
	for (size_t i = 0; i < r->below_count; i++)
		segment_unref(r->below[i]);
	free(r->below);
}

int log_recover(struct log *l, const struct log_open *o, struct err *e)
{
	struct recovery r = {.l = l, .o = o};
	o->accepted->judged = true;
	o->accepted->found_count = 0;
	l->view_offset = INT64_MAX; /* whoever looks for a view on the way takes all there is for visible; see restore_views */
	int rc = place_start(l, o, e);
	if (rc == 0)
		rc = set_aside_below(&r, e);
	if (rc == 0)
		rc = scan_parts(&r, e);
	if (rc == 0)
		rc = judge_all(&r, e);
	if (rc == 0)
		rc = check_ends(&r, e);
	if (rc == 0)
		rc = repair_segments(&r, e);
	if (rc == 0)
		rc = restore_epochs(&r, e);
	if (rc == 0)
		rc = remove_snapshots(l, e);
	if (rc == 0)
		rc = replay_producers(&r, e);
	if (rc == 0)
		rc = restore_views(&r, e);
	l->flushed_offset = o->recovery_point < l->leo ? o->recovery_point : (int64_t)l->leo;
	l->since_view_bytes = INT32_MAX;
	l->recovered = !o->clean;
	l->changed = true;
	release(&r);
	return rc;
}
