/*
 * Projecting: from the log to byte positions in the mounted file (store/view.h has the rule), forwards as records become visible, and again for
 * segments whose .view is missing, damaged or incomplete.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "store/diag.h"
#include "store/log.h"
#include "store/log_view.h"
#include "store/scan.h"

/* ---- which batches get an entry ---- */

static bool push(struct view_builder *b, size_t n, const struct view_entry *entry)
{
	if (n == b->pending_cap) {
		size_t cap = b->pending_cap ? 2 * b->pending_cap : 16;
		struct view_entry *more = realloc(b->pending, cap * sizeof *more);
		if (!more)
			return false;
		b->pending = more;
		b->pending_cap = cap;
	}
	b->pending[n] = *entry;
	return true;
}

void view_builder_batch(struct view_builder *b, int64_t base_offset, uint32_t position, uint32_t size_bytes, int64_t view_position, const struct batch_mark *marks,
			size_t mark_count)
{
	static struct diag_limit limit;
	if (b->since_bytes + size_bytes <= VIEW_STEP_BYTES) {
		b->since_bytes += size_bytes;
		return;
	}
	b->since_bytes = size_bytes;
	if (!b->view)
		return;
	struct err why = ERR_INIT;
	struct view_entry first = {view_position, base_offset, position, 0};
	int rc;
	if (mark_count == 0) {
		rc = view_append(b->view, &first, &why);
	} else {
		size_t n = 0;
		bool ok = push(b, n++, &first);
		for (size_t i = 0; i < mark_count && ok; i++) {
			struct view_entry inside = {view_position + (int64_t)marks[i].view_bytes, base_offset + marks[i].record, position, marks[i].byte};
			ok = push(b, n++, &inside);
		}
		rc = ok ? view_append_many(b->view, b->pending, (uint32_t)n, &why) : err_set(&why, ERR_NO_MEMORY, "no memory");
	}
	if (rc < 0)
		diag_limited(&limit, 60000, DIAG_WARNING, "a view entry was left out: %s", why.text);
}

void view_builder_release(struct view_builder *b)
{
	free(b->pending);
	b->pending = NULL;
	b->pending_cap = 0;
}

/* ---- walking ---- */

struct marks { struct batch_mark *list; size_t n, cap; bool failed; };

static void gather_mark(void *arg, const struct batch_mark *m)
{
	struct marks *g = arg;
	if (g->n == g->cap) {
		size_t cap = g->cap ? 2 * g->cap : 64;
		struct batch_mark *list = realloc(g->list, cap * sizeof *list);
		if (!list) {
			g->failed = true;
			return;
		}
		g->list = list;
		g->cap = cap;
	}
	g->list[g->n++] = *m;
}

struct walk {
	struct log_shape *shape;
	struct segment *segment; /* pinned */
	uint32_t at;             /* from this position of the .log on; advanced */
	uint32_t last_at;        /* where the last batch passed begins */
	int64_t position;        /* of the view there; advanced */
	int64_t offset;          /* behind the last batch passed */
	int64_t stop;            /* the first offset not to be passed */
	struct view_builder builder;
};

/* Passes batches below w->stop. Each one's crc is checked: its record lengths are about to become positions. */
static int walk_segment(struct walk *w, struct wr *scratch, struct err *e)
{
	struct scan scan;
	struct batch b;
	const uint8_t *bytes;
	uint32_t position;
	struct marks marks = {0};
	int rc;
	scan_init(&scan, w->segment->fd, w->at, w->segment->size_bytes, 0);
	while ((rc = scan_next(&scan, &b, &bytes, &position, e)) == 1 && b.base_offset < w->stop) {
		uint64_t view_bytes = 0;
		if (!batch_crc_matches(&b, bytes)) {
			rc = err_set(e, ERR_CORRUPT, "the batch at position %u (offset %" PRId64 ") does not match its crc", position, b.base_offset);
			break;
		}
		marks.n = 0;
		if (!batch_is_control(&b) && !log_is_aborted(w->shape, &b) &&
		    (rc = batch_scan(&b, bytes, scratch, VIEW_STEP_BYTES, &view_bytes, gather_mark, &marks, e)) < 0)
			break;
		if (marks.failed) {
			rc = err_set(e, ERR_NO_MEMORY, "no memory for view entries");
			break;
		}
		view_builder_batch(&w->builder, b.base_offset, position, b.size_bytes, w->position, marks.list, marks.n);
		w->position += (int64_t)view_bytes;
		w->offset = batch_last_offset(&b) + 1;
		w->last_at = position;
		w->at = scan.at;
	}
	scan_release(&scan);
	free(marks.list);
	if (rc < 0)
		err_context(e, "%s/%020" PRId64 ".log", w->segment->dir, w->segment->base_offset);
	return rc < 0 ? rc : 0;
}

/* ---- forwards ---- */

/* Where in the segment's .log the batch with that base offset begins. */
static int position_in_log(struct segment *s, int64_t offset, uint32_t *at, struct err *e)
{
	struct batch b;
	*at = 0;
	if (offset <= s->base_offset)
		return 0;
	int rc = segment_find_offset(s, offset, &b, at, e);
	if (rc == 0)
		*at = s->size_bytes;
	return rc < 0 ? rc : 0;
}

int log_project(struct log *l, int64_t offset, struct err *e)
{
	int rc = 0;
	if (l->sequential) {
		if (l->view_offset < offset)
			l->view_offset = offset;
		return 0;
	}
	struct log_shape *shape = log_shape_take(l);
	for (size_t i = 0; i < shape->segment_count && l->view_offset < offset && rc == 0; i++) {
		struct segment *s = shape->segment[i];
		bool last = i + 1 == shape->segment_count;
		if (!last && shape->segment[i + 1]->base_offset <= l->view_offset)
			continue;
		if ((rc = segment_pin(s, e)) < 0)
			break;
		if (!s->view_ok && l->view_offset <= s->base_offset)
			rc = segment_make_view(s, l->view_position, e);
		struct walk w = {.shape = shape, .segment = s, .position = l->view_position, .offset = l->view_offset, .stop = offset};
		w.builder.since_bytes = l->since_view_bytes;
		/* entries go to the active segment only: a sealed one is open for reading, and gets its own when it is complete */
		w.builder.view = last && s->view_ok ? &s->view : NULL;
		if (w.builder.view)
			s->needs_index_sync = true;
		if (rc == 0 && (rc = position_in_log(s, l->view_offset, &w.at, e)) == 0)
			rc = walk_segment(&w, &l->scratch, e);
		l->view_offset = w.offset;
		l->view_position = w.position;
		l->since_view_bytes = last ? w.builder.since_bytes : INT32_MAX;
		s->view_until = w.at;
		if (rc == 0 && !last && shape->segment[i + 1]->base_offset <= offset && l->view_offset < shape->segment[i + 1]->base_offset)
			l->view_offset = shape->segment[i + 1]->base_offset; /* offsets between the two were compacted away */
		view_builder_release(&w.builder);
		segment_unpin(s);
	}
	if (rc == 0 && l->view_offset < offset)
		l->view_offset = offset; /* nothing is left there */
	log_shape_drop(l, shape);
	return rc;
}

/* ---- again ---- */

/* The position behind the last record of the segment that is below `stop`; its first position is known. */
static int end_position(struct log_shape *shape, struct segment *s, int64_t stop, int64_t *position, struct err *e)
{
	struct view_entry last = {s->first_position, s->base_offset, 0, 0};
	struct wr scratch;
	int rc = segment_pin(s, e);
	if (rc < 0)
		return rc;
	if (s->view_ok) {
		/* an entry inside a batch does not do: batches are passed whole */
		for (uint32_t i = entries_count(&s->view.e); i-- > 0;) {
			struct view_entry entry;
			if (view_entry_at(&s->view, i, &entry) == 1 && entry.byte_in_batch == 0 && entry.offset <= stop) {
				last = entry;
				break;
			}
		}
	}
	wr_init(&scratch, 0);
	struct walk w = {.shape = shape, .segment = s, .at = last.batch_position, .position = last.position, .stop = stop};
	rc = walk_segment(&w, &scratch, e);
	*position = w.position;
	view_builder_release(&w.builder);
	wr_release(&scratch);
	segment_unpin(s);
	return rc;
}

/* View bytes of the records from `offset` on in the batch that begins at `at`. */
static int view_bytes_from(struct log_shape *shape, struct segment *s, uint32_t at, int64_t offset, struct wr *scratch, int64_t *view_bytes, struct err *e)
{
	struct scan scan;
	struct batch b;
	const uint8_t *bytes, *area;
	uint32_t position;
	size_t n;
	struct record_iter it;
	struct record r;
	*view_bytes = 0;
	scan_init(&scan, s->fd, at, s->size_bytes, 1);
	int rc = scan_next(&scan, &b, &bytes, &position, e);
	if (rc == 1 && !batch_is_control(&b) && !log_is_aborted(shape, &b) && (rc = batch_records(&b, bytes, scratch, &area, &n, e)) == 0) {
		record_iter_init(&it, &b, area, n);
		while ((rc = record_next(&it, &r, e)) == 1)
			if (r.offset >= offset && r.value)
				*view_bytes += r.value_len + 1;
	}
	scan_release(&scan);
	return rc < 0 ? rc : 0;
}

/* The first segment of a log whose first position is lost: it follows from the log's start, which lies in it. */
static int first_position_of_head(struct log *l, struct log_shape *shape, struct segment *s, int64_t *position, struct err *e)
{
	struct wr scratch;
	int rc = segment_pin(s, e);
	if (rc < 0)
		return rc;
	wr_init(&scratch, 0);
	struct walk w = {.shape = shape, .segment = s, .position = 0, .stop = l->start_offset};
	rc = walk_segment(&w, &scratch, e);
	int64_t behind = 0; /* a log may start inside a batch */
	if (rc == 0 && w.offset > l->start_offset)
		rc = view_bytes_from(shape, s, w.last_at, l->start_offset, &scratch, &behind, e);
	*position = l->start_position - (w.position - behind);
	wr_release(&scratch);
	segment_unpin(s);
	return rc;
}

static int rebuild(struct log *l, struct log_shape *shape, struct segment *s, int64_t first_position, struct err *e)
{
	struct wr scratch;
	int rc = segment_make_view(s, first_position, e);
	if (rc < 0)
		return rc;
	wr_init(&scratch, 0);
	struct walk w = {.shape = shape, .segment = s, .position = first_position, .stop = l->view_offset};
	w.builder.since_bytes = INT32_MAX;
	w.builder.view = &s->view;
	struct err why = ERR_INIT;
	rc = walk_segment(&w, &scratch, &why);
	if (rc == ERR_CORRUPT) { /* usable up to the damage; who reads there is told */
		diag_error("%s: %s", l->name, why.text);
		rc = 0;
	}
	if (rc < 0)
		err_set(e, rc, "%s", why.text);
	s->view_until = w.at;
	view_builder_release(&w.builder);
	wr_release(&scratch);
	return rc;
}

/* One segment, whose predecessor's first position is known if its own is not. locks: view_lock. */
static int make_view(struct log *l, struct log_shape *shape, size_t index, struct err *e)
{
	static struct diag_limit limit;
	struct segment *s = shape->segment[index];
	struct err why = ERR_INIT;
	if (l->sequential)
		return err_set(e, ERR_OUT_OF_RANGE, "%s is compacted: it has no positions", l->name);
	int rc = segment_pin(s, e);
	if (rc < 0)
		return rc;
	int64_t first = s->first_position;
	if (first == POSITION_UNKNOWN)
		rc = index ? end_position(shape, shape->segment[index - 1], INT64_MAX, &first, e) : first_position_of_head(l, shape, s, &first, e);
	if (rc == 0 && !s->view_ok && s->sealed && (rc = rebuild(l, shape, s, first, &why)) < 0) {
		/* no view can be written: reading works without, but from the segment's start */
		if (rc == ERR_NO_SPACE || rc == ERR_READ_ONLY || rc == ERR_DENIED) {
			diag_limited(&limit, 60000, DIAG_WARNING, "%s", why.text);
			rc = 0;
		} else {
			err_set(e, rc, "%s", why.text);
		}
	}
	if (rc == 0)
		s->first_position = first;
	segment_unpin(s);
	return rc;
}

/* Whether it has a first position, which its .view may tell. */
static int look_for_first(struct segment *s, bool *known, struct err *e)
{
	int rc = segment_pin(s, e);
	if (rc < 0)
		return rc;
	*known = s->first_position != POSITION_UNKNOWN;
	segment_unpin(s);
	return 0;
}

/* From the nearest segment at or before it whose first position is known, forwards. locks: view_lock. */
static int need_view(struct log *l, struct log_shape *shape, size_t index, struct err *e)
{
	size_t from = index + 1;
	bool known = false;
	int rc = 0;
	while (from > 0 && !known && rc == 0)
		rc = look_for_first(shape->segment[--from], &known, e);
	for (; from <= index && rc == 0; from++)
		rc = make_view(l, shape, from, e);
	return rc;
}

int log_need_view(struct log *l, struct log_shape *shape, size_t index, struct err *e)
{
	struct segment *s = shape->segment[index];
	int rc = segment_pin(s, e);
	if (rc < 0)
		return rc;
	if (s->first_position == POSITION_UNKNOWN || (!s->view_ok && s->sealed)) {
		pthread_mutex_lock(&l->view_lock);
		rc = need_view(l, shape, index, e);
		pthread_mutex_unlock(&l->view_lock);
	}
	segment_unpin(s);
	return rc;
}

int log_rebuild_active_view(struct log *l, struct segment *s, struct err *e)
{
	struct log_shape *shape = log_shape_take(l);
	int rc = log_need_view(l, shape, shape->segment_count - 1, e);
	if (rc == 0 && !s->view_ok) {
		pthread_mutex_lock(&l->view_lock);
		rc = rebuild(l, shape, s, s->first_position, e);
		pthread_mutex_unlock(&l->view_lock);
	}
	l->since_view_bytes = INT32_MAX;
	log_shape_drop(l, shape);
	return rc;
}

int log_end_position(struct log *l, size_t index, int64_t *position, struct err *e)
{
	return end_position(l->shape, l->shape->segment[index], INT64_MAX, position, e);
}

int log_rebuild_views(struct log *l, struct err *e)
{
	struct log_shape *shape = log_shape_take(l);
	int rc = 0;
	l->view_position = l->start_position;
	for (size_t i = 0; i < shape->segment_count && rc == 0; i++) {
		struct segment *s = shape->segment[i];
		if (s->base_offset > l->view_offset)
			break;
		if ((rc = segment_pin(s, e)) < 0)
			break;
		rc = s->sealed ? log_need_view(l, shape, i, e) : log_rebuild_active_view(l, s, e);
		segment_unpin(s);
	}
	if (rc == 0 && shape->segment_count) {
		struct segment *last = log_segment_of(shape, l->view_offset);
		int64_t position;
		rc = end_position(shape, last, l->view_offset, &position, e);
		l->view_position = position;
		segment_unref(last);
	}
	log_shape_drop(l, shape);
	return rc;
}

/* ---- finding ---- */

/* A segment's first position, from its .view's header, else by rebuilding. */
static int first_position(struct log *l, struct log_shape *shape, size_t index, int64_t *position, struct err *e)
{
	struct segment *s = shape->segment[index];
	int rc = 0;
	if (s->first_position == POSITION_UNKNOWN)
		rc = log_need_view(l, shape, index, e);
	*position = s->first_position;
	return rc;
}

ssize_t log_segment_at_position(struct log *l, struct log_shape *shape, int64_t position, struct err *e)
{
	size_t lo = 0, hi = shape->segment_count;
	/* segments past the projected end have no position yet */
	while (hi > 1 && shape->segment[hi - 1]->first_position == POSITION_UNKNOWN && shape->segment[hi - 1]->base_offset >= l->view_offset)
		hi--;
	while (lo + 1 < hi) {
		size_t mid = (lo + hi) / 2;
		int64_t first;
		int rc = first_position(l, shape, mid, &first, e);
		if (rc < 0)
			return rc;
		if (first <= position)
			lo = mid;
		else
			hi = mid;
	}
	if (!shape->segment_count)
		return err_set(e, ERR_OUT_OF_RANGE, "%s holds no message", l->name);
	return (ssize_t)lo;
}
