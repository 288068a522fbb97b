#include "store/cursor.h"

#include <inttypes.h>
#include <stdlib.h>

#include "store/bridge.h"
#include "store/io.h"
#include "store/log_view.h"
#include "store/scan.h"

enum {
	SMALL_READ_BYTES = 16 << 10, /* of .log at a time, where nothing says that more will be wanted */
	LARGE_READ_BYTES = 1 << 20,
};

struct log_cursor {
	struct log *log;
	struct segment *segment;   /* referenced; NULL: stands nowhere. Pinned only during a call */
	struct scan scan;          /* over the segment's batches; its next batch is the one behind the current */
	int64_t position;          /* of the next byte to be given */
	const uint8_t *p, *end;    /* records of the current batch still to be given: in scan's window, area or part */
	uint32_t more_at, more_end; /* the batch's records behind `end`, in the .log (part only) */
	uint32_t inside;           /* the byte of the batch at scan.at where the next records are, this far it was gone through without its header; 0 */
	size_t given;              /* bytes of the first record's view that were given already */
	size_t aim;                /* view bytes that this call will pass, skipped ones too: how much of a batch is worth reading */
	int64_t after;             /* an offset that is before the next batch */
	int64_t end_offset, end_position; /* of what is visible, as far as known; -1 */
	struct wr area;            /* the decompressed records */
	struct wr part;            /* a part of an uncompressed batch that was checked before */
};

struct log_cursor *log_cursor_new(struct log *l)
{
	struct log_cursor *c = calloc(1, sizeof *c);
	if (!c)
		return NULL;
	c->log = l;
	c->end_offset = c->end_position = -1;
	wr_init(&c->area, 0);
	wr_init(&c->part, 0);
	return c;
}

void log_cursor_visible(struct log_cursor *c, int64_t end_offset, int64_t end_position)
{
	c->end_offset = end_offset;
	c->end_position = end_position;
}

void log_cursor_rest(struct log_cursor *c)
{
	segment_unref(c->segment);
	c->segment = NULL;
	c->p = c->end = NULL;
	scan_release(&c->scan);
	wr_release(&c->area);
	wr_release(&c->part);
}

void log_cursor_free(struct log_cursor *c)
{
	if (!c)
		return;
	log_cursor_rest(c);
	free(c);
}

/* ---- standing in a batch ---- */

/* Checks the batch's crc, once for a large one. */
static int check_crc(struct segment *s, const struct batch *b, const uint8_t *bytes, uint32_t position, struct err *e)
{
	if (segment_is_verified(s, position, b->size_bytes))
		return 0;
	if (!batch_crc_matches(b, bytes))
		return err_set(e, ERR_CORRUPT, "%s/%020" PRId64 ".log: the batch at position %u (offset %" PRId64 ") does not match its crc", s->dir,
			       s->base_offset, position, b->base_offset);
	segment_set_verified(s, position, b->size_bytes);
	return 0;
}

/* Steps into the batch that scan gave. */
static int enter(struct log_cursor *c, const struct batch *b, const uint8_t *bytes, uint32_t position, struct err *e)
{
	const uint8_t *area;
	size_t n;
	int rc = check_crc(c->segment, b, bytes, position, e);
	if (rc < 0)
		return rc;
	c->p = c->end = NULL;
	c->given = 0;
	c->more_at = c->more_end = 0;
	if (batch_is_control(b))
		return 0;
	if (batch_is_transactional(b)) {
		struct log_shape *shape = log_shape_take(c->log);
		bool aborted = log_is_aborted(shape, b);
		log_shape_drop(c->log, shape);
		if (aborted)
			return 0;
	}
	rc = batch_records(b, bytes, &c->area, &area, &n, e);
	if (rc < 0) {
		err_context(e, "%s/%020" PRId64 ".log, position %u", c->segment->dir, c->segment->base_offset, position);
		return rc;
	}
	c->p = area;
	c->end = area + n;
	return 0;
}

/* Makes more of a partly read batch available: what this call needs, with the records' own bytes, and more where one record did not fit. */
static int refill(struct log_cursor *c, struct err *e)
{
	uint32_t left = (uint32_t)(c->end - c->p), at = c->more_at - left, take = c->more_end - at;
	size_t aim = c->aim + c->aim / 8 + SMALL_READ_BYTES / 16;
	if (aim < 2u * left)
		aim = 2u * left;
	if (take > aim)
		take = (uint32_t)aim;
	wr_clear(&c->part);
	uint8_t *room = wr_room(&c->part, take);
	if (!room)
		return err_set(e, ERR_NO_MEMORY, "no memory to read %u bytes", take);
	ssize_t got = io_pread(c->segment->fd, room, take, at);
	if (got < (ssize_t)take)
		return got < 0 ? err_sys(e, (int)got, "cannot read %s/%020" PRId64 ".log", c->segment->dir, c->segment->base_offset)
			       : err_set(e, ERR_CORRUPT, "%s/%020" PRId64 ".log ends inside a batch", c->segment->dir, c->segment->base_offset);
	c->p = room;
	c->end = room + take;
	c->more_at = at + take;
	return 0;
}

/* Gives bytes of the first record, which does not fit whole; or finds that more of it must be read. */
static ssize_t give_piece(struct log_cursor *c, uint8_t *out, size_t room, struct err *e)
{
	ssize_t n = batch_project_piece(&c->p, c->end, &c->given, out, room);
	if (n >= 0)
		return n;
	if (c->more_at < c->more_end)
		return refill(c, e);
	return err_set(e, ERR_CORRUPT, "%s/%020" PRId64 ".log: a record does not decode", c->segment->dir, c->segment->base_offset);
}

/* Gives what the current batch has, at most room. 0: nothing more just now (look again), or the batch is at its end. */
static ssize_t give(struct log_cursor *c, uint8_t *out, size_t room, struct err *e)
{
	if (c->given)
		return give_piece(c, out, room, e);
	if (c->p == c->end)
		return refill(c, e);
	const uint8_t *before = c->p;
	ssize_t n = batch_project(&c->p, c->end, out, room);
	if (n > 0 || (n == 0 && c->p != before))
		return n;
	return give_piece(c, out, room, e);
}

static bool has_records(const struct log_cursor *c)
{
	return c->p < c->end || c->more_at < c->more_end;
}

/* ---- going to a place ---- */

/* The last entry that can be believed at or before the position. *until: the byte of its batch up to which, by a later entry, the batch goes on at least and
 * holds the views of the `n` bytes behind the position; 0: nothing is known of that. */
static void find_entry(struct segment *s, int64_t position, size_t n, struct view_entry *found, uint32_t *until)
{
	uint32_t number;
	struct view_entry later;
	*found = (struct view_entry){s->first_position, s->base_offset, 0, 0};
	*until = 0;
	if (!s->view_ok)
		return;
	int rc = view_find_position(&s->view, position, found, &number);
	if (rc == 1 && found->byte_in_batch) {
		uint32_t last = entries_count(&s->view.e) - 1;
		uint32_t ahead = (uint32_t)(((uint64_t)(position - found->position) + n) / VIEW_STEP_BYTES) + 2;
		if (ahead <= last - number && view_entry_at(&s->view, number + ahead, &later) == 1 && later.batch_position == found->batch_position &&
		    later.position >= position + (int64_t)n)
			*until = later.byte_in_batch;
	}
	if (rc >= 0)
		return;
	*found = (struct view_entry){s->first_position, s->base_offset, 0, 0};
	for (uint32_t i = entries_count(&s->view.e); i-- > 0;) {
		struct view_entry entry;
		if (view_entry_at(&s->view, i, &entry) == 1 && entry.position <= position) {
			*found = entry;
			return;
		}
	}
}

/* Stands at that byte of the batch at `position`, whose crc was seen to match; nothing of it is read yet. */
static void stand_inside(struct log_cursor *c, uint32_t position, uint32_t byte, uint32_t end)
{
	c->p = c->end = c->part.data;
	c->more_at = position + byte;
	c->more_end = position + end;
	c->given = 0;
}

/* Steps into the middle of an uncompressed batch, without reading all of it where its crc was seen to match, nor its header where that is known to go on `until`
 * there. */
static int enter_inside(struct log_cursor *c, const struct view_entry *entry, uint32_t until, struct err *e)
{
	struct batch b;
	const uint8_t *bytes;
	uint32_t position;
	if (until && segment_is_verified(c->segment, entry->batch_position, until)) {
		stand_inside(c, entry->batch_position, entry->byte_in_batch, until);
		c->inside = until;
		return 0;
	}
	size_t read_bytes = c->scan.read_bytes;
	c->scan.read_bytes = BATCH_HEADER_BYTES;
	int rc = scan_next_header(&c->scan, &b, &position, e);
	c->scan.read_bytes = read_bytes;
	if (rc <= 0)
		return rc < 0 ? rc : err_set(e, ERR_CORRUPT, "a view entry points behind the log");
	if (entry->byte_in_batch >= b.size_bytes)
		return err_set(e, ERR_CORRUPT, "a view entry points out of its batch");
	if (segment_is_verified(c->segment, position, b.size_bytes)) {
		stand_inside(c, position, entry->byte_in_batch, b.size_bytes);
		return 0;
	}
	c->scan.at = position;
	if ((rc = scan_next(&c->scan, &b, &bytes, &position, e)) != 1)
		return rc < 0 ? rc : ERR_CORRUPT;
	rc = enter(c, &b, bytes, position, e);
	if (rc == 0)
		c->p = bytes + entry->byte_in_batch;
	return rc;
}

/* Leaves the segment it stood in for another, and pins it. */
static int move_to(struct log_cursor *c, struct segment *s, struct err *e)
{
	int rc = segment_pin(s, e);
	if (rc < 0)
		return rc;
	segment_ref(s);
	if (c->segment)
		segment_unpin(c->segment);
	segment_unref(c->segment);
	c->segment = s;
	c->p = c->end = NULL;
	c->given = 0;
	c->more_at = c->more_end = 0;
	return 0;
}

static void scan_from(struct log_cursor *c, uint32_t at, size_t read_bytes)
{
	uint8_t *window = c->scan.window; /* its memory is kept, its contents are not */
	size_t cap = c->scan.cap;
	scan_init(&c->scan, c->segment->fd, at, c->segment->size_bytes, read_bytes);
	c->scan.window = window;
	c->scan.cap = cap;
	c->inside = 0;
}

static ssize_t copy(struct log_cursor *c, uint8_t *out, size_t n, struct err *e);

/* The first valid batch behind the damage at `from` in a pinned segment of which the position is known. after: an offset before the damage. */
static bool behind_damage(struct log_shape *shape, struct segment *s, uint32_t from, int64_t after, int64_t end_offset, int64_t end_position, struct bridge *b)
{
	struct wr scratch;
	struct segment *next = NULL;
	uint32_t size = s->size_bytes;
	for (size_t i = shape->segment_count; i-- > 0 && shape->segment[i]->base_offset > s->base_offset;)
		next = shape->segment[i];
	wr_init(&scratch, 0);
	const struct bridge_log g = {s->fd, size, shape, &scratch};
	bool known = s->view_ok && bridge_entry(&g, &s->view, from, after, b);
	if (!known && next && (known = next->first_position != POSITION_UNKNOWN))
		*b = (struct bridge){size, next->base_offset, next->first_position};
	else if (!known && !next && (known = end_offset >= 0))
		*b = (struct bridge){BRIDGE_ANYWHERE, end_offset, end_position};
	if (known)
		bridge_back(&g, from, after, b);
	wr_release(&scratch);
	return known && b->at < size;
}

/* Damage was met on the way to `position`, at the batch at scan.at: stands behind it, if that is not behind `position`. (A batch of an aborted transaction has no place
 * in the view: with nothing on the way it costs nothing.) */
static bool cross_damage(struct log_cursor *c, int64_t position)
{
	struct bridge b;
	struct log_shape *shape = log_shape_take(c->log);
	bool crossed = behind_damage(shape, c->segment, c->scan.at, c->after, c->end_offset, c->end_position, &b) && b.position <= position && b.position >= c->position;
	log_shape_drop(c->log, shape);
	if (!crossed)
		return false;
	scan_from(c, b.at, c->scan.read_bytes);
	c->p = c->end = NULL;
	c->given = 0;
	c->more_at = c->more_end = 0;
	c->position = b.position;
	return true;
}

/* Stands at `position`. want: how much will be read there. On success the segment is pinned. */
static int seek(struct log_cursor *c, int64_t position, size_t want, struct err *e)
{
	struct log_shape *shape = log_shape_take(c->log);
	ssize_t i = log_segment_at_position(c->log, shape, position, e);
	int rc = i < 0 ? (int)i : log_need_view(c->log, shape, (size_t)i, e);
	if (rc == 0)
		rc = move_to(c, shape->segment[i], e);
	log_shape_drop(c->log, shape);
	if (rc < 0)
		return rc;
	struct view_entry entry;
	uint32_t until;
	find_entry(c->segment, position, want, &entry, &until);
	size_t read_bytes = want + want / 4;
	scan_from(c, entry.batch_position, read_bytes < SMALL_READ_BYTES ? SMALL_READ_BYTES : read_bytes > LARGE_READ_BYTES ? LARGE_READ_BYTES : read_bytes);
	if (entry.position > position)
		return err_set(e, ERR_CORRUPT, "%s: nothing is known of position %" PRId64 ": the log's first segment begins at position %" PRId64 "; one is missing", c->log->name,
			       position, entry.position);
	c->position = entry.position;
	c->after = entry.offset;
	c->aim = want + (size_t)(position - entry.position);
	if (entry.byte_in_batch && (rc = enter_inside(c, &entry, until, e)) < 0) {
		c->scan.at = entry.batch_position;
		if (rc != ERR_CORRUPT || !cross_damage(c, position))
			return rc;
	}
	/* the rest of the way by decoding */
	uint8_t skipped[8192];
	while (c->position < position) {
		size_t n = (size_t)(position - c->position);
		ssize_t got = copy(c, skipped, n < sizeof skipped ? n : sizeof skipped, e);
		if (got < 0 && (got != ERR_CORRUPT || !cross_damage(c, position)))
			return (int)got;
	}
	return 0;
}

/* The segment behind the current one. */
static int next_segment(struct log_cursor *c, struct err *e)
{
	struct log_shape *shape = log_shape_take(c->log);
	size_t i = 0;
	while (i < shape->segment_count && shape->segment[i]->base_offset <= c->segment->base_offset)
		i++;
	int rc = i < shape->segment_count ? move_to(c, shape->segment[i], e)
					  : err_set(e, ERR_CORRUPT, "%s: the log ends at position %" PRId64 ", before what should be there", c->log->name, c->position);
	log_shape_drop(c->log, shape);
	if (rc < 0)
		return rc;
	if (c->segment->first_position != POSITION_UNKNOWN && c->segment->first_position != c->position)
		return err_set(e, ERR_CORRUPT, "%s: %020" PRId64 ".view begins at position %" PRId64 ", the segment before ends at %" PRId64 ": a segment is missing",
			       c->log->dir, c->segment->base_offset, (int64_t)c->segment->first_position, c->position);
	scan_from(c, 0, c->scan.read_bytes);
	return 0;
}

/* Steps into the next batch. */
static int next_batch(struct log_cursor *c, struct err *e)
{
	struct batch b;
	const uint8_t *bytes;
	uint32_t position;
	if (c->inside) {
		const struct view_entry entry = {.batch_position = c->scan.at, .byte_in_batch = c->inside};
		c->inside = 0;
		return enter_inside(c, &entry, 0, e);
	}
	if (c->scan.at >= c->scan.end)
		c->scan.end = c->segment->size_bytes; /* it may have grown */
	if (c->scan.at >= c->scan.end)
		return next_segment(c, e);
	int rc = scan_next(&c->scan, &b, &bytes, &position, e);
	if (rc < 0) {
		err_context(e, "%s/%020" PRId64 ".log", c->segment->dir, c->segment->base_offset);
		return rc;
	}
	rc = enter(c, &b, bytes, position, e);
	if (rc < 0)
		c->scan.at = position; /* whoever asks again meets it again, and never what is behind in its place */
	return rc;
}

/* ---- reading ---- */

/* Copies n bytes; less only before an error, which is returned where nothing was copied. */
static ssize_t copy(struct log_cursor *c, uint8_t *out, size_t n, struct err *e)
{
	size_t done = 0;
	while (done < n) {
		ssize_t got = has_records(c) ? give(c, out + done, n - done, e) : next_batch(c, e);
		if (got == ERR_CORRUPT && cross_damage(c, c->position))
			continue;
		if (got < 0)
			return done ? (ssize_t)done : got;
		done += (size_t)got;
		c->position += got;
	}
	return (ssize_t)done;
}

/* Nowhere, for the next read: where it stands is not to be trusted. */
static void leave(struct log_cursor *c)
{
	segment_unref(c->segment);
	c->segment = NULL;
}

/* Reads n bytes, less only before an error; after that, or an error, it stands nowhere. */
static ssize_t read_here(struct log_cursor *c, int64_t position, void *buf, size_t n, struct err *e)
{
	ssize_t got = 0;
	c->aim = n;
	if (c->segment && c->position == position && segment_pin(c->segment, NULL) == 0) {
		c->scan.fd = c->segment->fd; /* may have been closed and opened since */
		if (c->scan.read_bytes < LARGE_READ_BYTES && n >= c->scan.read_bytes / 2)
			c->scan.read_bytes *= 2;
	} else {
		leave(c);
		got = seek(c, position, n, e);
	}
	if (got == 0)
		got = copy(c, buf, n, e);
	if (c->segment)
		segment_unpin(c->segment);
	if (got < (ssize_t)n)
		leave(c);
	return got;
}

ssize_t log_cursor_read(struct log_cursor *c, int64_t position, int64_t end_position, void *buf, size_t n, struct err *e)
{
	if (c->log->sequential)
		return err_set(e, ERR_OUT_OF_RANGE, "%s is compacted: it has no positions", c->log->name);
	if (position < c->log->start_position)
		return err_set(e, ERR_OUT_OF_RANGE, "%s: position %" PRId64 " is before the log start, position %" PRId64, c->log->name, position,
			       (int64_t)c->log->start_position);
	if (position >= end_position || n == 0)
		return 0;
	if (n > (uint64_t)(end_position - position))
		n = (size_t)(end_position - position);
	struct err why = ERR_INIT;
	ssize_t got = read_here(c, position, buf, n, &why);
	for (int tries = 3; got == ERR_NOT_FOUND && tries; tries--) /* its segment was cut, or replaced: the log has another in its place */
		got = read_here(c, position, buf, n, &why);
	if (got < 0)
		err_set(e, (int)got, "%s", why.text);
	if (got < (ssize_t)n) {
		if (got < 0 && position < c->log->start_position)
			return err_set(e, ERR_OUT_OF_RANGE, "%s: position %" PRId64 " was deleted while it was read", c->log->name, position);
	} else if (position + got == end_position && c->scan.cap > 4 * SMALL_READ_BYTES) {
		log_cursor_rest(c); /* who waits at the end holds no megabytes */
	}
	return got;
}

/* ---- finding records ---- */

struct wanted { int64_t offset, position; }; /* -1: not by that */

/* Goes through the records of a batch whose view begins at *position. 1: found. */
static int find_in_batch(const struct batch *b, const uint8_t *bytes, struct wr *scratch, const struct wanted *w, int64_t *offset, int64_t *position, struct err *e)
{
	const uint8_t *area;
	size_t n;
	struct record_iter it;
	struct record r;
	int rc = batch_records(b, bytes, scratch, &area, &n, e);
	if (rc < 0)
		return rc;
	record_iter_init(&it, b, area, n);
	while ((rc = record_next(&it, &r, e)) == 1) {
		int64_t size = r.value ? r.value_len + 1 : 0;
		if ((w->offset >= 0 && r.offset >= w->offset) || (w->position >= 0 && *position + size > w->position)) {
			*offset = r.offset;
			return 1;
		}
		*position += size;
	}
	return rc;
}

/* Goes through a pinned segment from an entry at a batch's start. 1: found. */
static int find_in_segment(struct log_shape *shape, struct segment *s, const struct view_entry *from, const struct wanted *w, int64_t *offset, int64_t *position, struct err *e)
{
	struct scan scan;
	struct batch b;
	const uint8_t *bytes;
	uint32_t at;
	struct wr scratch;
	int rc;
	wr_init(&scratch, 0);
	scan_init(&scan, s->fd, from->batch_position, s->size_bytes, SMALL_READ_BYTES);
	*position = from->position;
	for (;;) {
		struct bridge behind;
		uint32_t here = scan.at;
		if ((rc = scan_next(&scan, &b, &bytes, &at, e)) == 1 && check_crc(s, &b, bytes, at, e) < 0)
			rc = ERR_CORRUPT;
		if (rc == ERR_CORRUPT && behind_damage(shape, s, here, from->offset, -1, -1, &behind) && behind.position >= *position &&
		    (w->offset >= 0 ? behind.offset <= w->offset : behind.position <= w->position)) {
			scan.at = behind.at;
			*position = behind.position;
			continue;
		}
		if (rc != 1)
			break;
		if (batch_is_control(&b) || log_is_aborted(shape, &b)) {
			if (w->offset >= 0 && batch_last_offset(&b) >= w->offset) {
				*offset = w->offset;
				rc = 1;
				break;
			}
			continue;
		}
		if ((rc = find_in_batch(&b, bytes, &scratch, w, offset, position, e)) != 0)
			break;
	}
	scan_release(&scan);
	wr_release(&scratch);
	return rc;
}

/* The entry at the start of the batch that an entry points into. */
static bool first_of_batch(struct segment *s, struct view_entry *entry)
{
	uint8_t header[BATCH_HEADER_BYTES];
	struct batch b;
	uint32_t at = entry->batch_position;
	return io_pread(s->fd, header, sizeof header, at) == sizeof header && batch_decode(&b, header, sizeof header, s->size_bytes - at, NULL) == 0 &&
	       view_find_offset(&s->view, b.base_offset, entry) == 1 && entry->batch_position == at && entry->byte_in_batch == 0;
}

/* The last entry at a batch's start that is not behind what is wanted. */
static void entry_before(struct segment *s, const struct wanted *w, struct view_entry *found)
{
	uint32_t number;
	int rc = !s->view_ok ? 0 : w->offset >= 0 ? view_find_offset(&s->view, w->offset, found) : view_find_position(&s->view, w->position, found, &number);
	if (rc == 1 && (found->byte_in_batch == 0 || first_of_batch(s, found)))
		return;
	*found = (struct view_entry){s->first_position, s->base_offset, 0, 0};
	for (uint32_t i = rc ? entries_count(&s->view.e) : 0; i-- > 0;) { /* some entry is damaged */
		struct view_entry entry;
		if (view_entry_at(&s->view, i, &entry) == 1 && entry.byte_in_batch == 0 && (w->offset >= 0 ? entry.offset <= w->offset : entry.position <= w->position)) {
			*found = entry;
			return;
		}
	}
}

/* Whether what failed may have done so because the log has another segment there by now. */
static bool moved(struct log *l, const struct log_shape *shape, int rc)
{
	if (rc != ERR_NOT_FOUND)
		return false;
	pthread_mutex_lock(&l->list_lock);
	bool other = l->shape != shape;
	pthread_mutex_unlock(&l->list_lock);
	return other;
}

static int find(struct log *l, const struct wanted *w, size_t index, struct log_shape *shape, int64_t *offset, int64_t *position, struct err *e)
{
	struct segment *s = shape->segment[index];
	struct view_entry from;
	int rc = log_need_view(l, shape, index, e);
	if (rc < 0 || (rc = segment_pin(s, e)) < 0)
		return rc;
	entry_before(s, w, &from);
	rc = find_in_segment(shape, s, &from, w, offset, position, e);
	segment_unpin(s);
	if (rc < 0)
		err_context(e, "%s", l->name);
	return rc;
}

int log_position_of(struct log *l, int64_t offset, int64_t *position, struct err *e)
{
	struct wanted w = {.offset = offset, .position = -1};
	int rc;
	bool again;
	if (l->sequential) {
		*position = l->start_position;
		return 0;
	}
	do {
		struct log_shape *shape = log_shape_take(l);
		rc = 0;
		*position = l->start_position;
		if (offset >= l->view_offset) {
			*position = l->view_position;
			log_shape_drop(l, shape);
			return 0;
		}
		for (size_t i = 0; i < shape->segment_count && rc == 0; i++) {
			int64_t found;
			if (i + 1 < shape->segment_count && shape->segment[i + 1]->base_offset <= offset)
				continue;
			rc = find(l, &w, i, shape, &found, position, e);
		}
		again = moved(l, shape, rc);
		log_shape_drop(l, shape);
	} while (again);
	return rc < 0 ? rc : 0;
}

int log_locate(struct log *l, int64_t position, int64_t *offset, int64_t *record_position, struct err *e)
{
	struct wanted w = {.offset = -1, .position = position};
	if (l->sequential)
		return err_set(e, ERR_OUT_OF_RANGE, "%s is compacted: it has no positions", l->name);
	int rc;
	bool again;
	do {
		struct log_shape *shape = log_shape_take(l);
		ssize_t i = log_segment_at_position(l, shape, position, e);
		rc = i < 0 ? (int)i : find(l, &w, (size_t)i, shape, offset, record_position, e);
		again = moved(l, shape, rc);
		log_shape_drop(l, shape);
	} while (again);
	if (rc == 0 || (rc == 1 && *record_position > position)) /* its segment was deleted meanwhile: what is left begins behind it */
		return err_set(e, ERR_OUT_OF_RANGE, "%s: nothing is at position %" PRId64, l->name, position);
	return rc < 0 ? rc : 0;
}
