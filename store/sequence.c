#include "store/sequence.h"

#include <inttypes.h>
#include <stdlib.h>

#include "store/scan.h"

enum { SMALL_READ_BYTES = 16 << 10, LARGE_READ_BYTES = 1 << 20 };

struct log_sequence {
	struct log *log;
	int64_t offset;          /* of the next record */
	bool begun;              /* something was given: from then on nothing may be missing but what was cleaned */
	struct segment *segment; /* referenced; NULL: stands nowhere. Pinned only during a call */
	struct log_shape *shape; /* referenced: the one it was found in, which knows of aborted transactions that a cleaning has taken since */
	struct scan scan;        /* its next batch is the one behind the current; its window, which holds the current one, outlasts the descriptor */
	struct wr area;
	bool inside;             /* a batch: */
	struct batch batch;
	struct record_iter it;
	struct record record;    /* the one that is being given, where `given` or `have` says so */
	bool have;
	size_t given;
};

struct log_sequence *log_sequence_new(struct log *l, int64_t offset)
{
	struct log_sequence *q = calloc(1, sizeof *q);
	if (!q)
		return NULL;
	q->log = l;
	q->offset = offset;
	wr_init(&q->area, 0);
	return q;
}

/* Stands nowhere; but the batch it is in, if it is in one, is in memory. */
static void leave(struct log_sequence *q)
{
	segment_unref(q->segment);
	if (q->shape)
		log_shape_drop(q->log, q->shape);
	q->segment = NULL;
	q->shape = NULL;
}

static void rest(struct log_sequence *q)
{
	leave(q);
	q->inside = q->have = false;
	scan_release(&q->scan);
	wr_release(&q->area);
}

void log_sequence_free(struct log_sequence *q)
{
	if (!q)
		return;
	rest(q);
	free(q);
}

int64_t log_sequence_offset(const struct log_sequence *q)
{
	return q->offset;
}

/* ---- finding the next batch ---- */

/* Stands in s, pinned, at the batch that holds the offset or the first behind it. 0: it has none. */
static int enter_segment(struct log_sequence *q, struct log_shape *shape, struct segment *s, struct err *e)
{
	struct batch b;
	uint32_t at = 0, read_bytes = (uint32_t)(q->scan.read_bytes ? q->scan.read_bytes : SMALL_READ_BYTES);
	int rc = 1;
	if (q->offset > s->base_offset)
		rc = segment_find_offset(s, q->offset, &b, &at, e);
	if (rc < 0)
		return rc;
	uint8_t *window = q->scan.window; /* its memory is kept, its contents are not */
	size_t cap = q->scan.cap;
	scan_init(&q->scan, s->fd, rc ? at : s->size_bytes, s->size_bytes, read_bytes);
	q->scan.window = window;
	q->scan.cap = cap;
	segment_ref(s);
	atomic_fetch_add(&shape->refs, 1);
	leave(q);
	q->segment = s;
	q->shape = shape;
	return q->scan.at < q->scan.end;
}

/* Stands, pinned, where the next batch is: 1; 0: there is none. */
static int find_place(struct log_sequence *q, struct err *e)
{
	int rc = 0;
	struct log_shape *shape = log_shape_take(q->log);
	size_t i = shape->segment_count;
	while (i > 1 && shape->segment[i - 1]->base_offset > q->offset)
		i--;
	for (i = i ? i - 1 : 0; i < shape->segment_count && rc == 0; i++) {
		struct segment *s = shape->segment[i];
		if ((rc = segment_pin(s, e)) == 0 && (rc = enter_segment(q, shape, s, e)) != 1) {
			segment_unpin(s);
			if (rc == 0)
				leave(q);
		}
	}
	log_shape_drop(q->log, shape);
	return rc;
}

/* Its segment is open again, and it stands in it, or in another: 1. 0: there is no more. */
static int pin_place(struct log_sequence *q, struct err *e)
{
	if (q->segment) {
		if (q->scan.at >= q->scan.end)
			q->scan.end = q->segment->size_bytes; /* it may have grown */
		if (q->scan.at < q->scan.end && segment_pin(q->segment, NULL) == 0) {
			q->scan.fd = q->segment->fd;
			return 1;
		}
		leave(q); /* at its end, or its files are closed and gone: the log has something else there */
	}
	for (int tries = 0;; tries++) {
		struct err why = ERR_INIT;
		int rc = find_place(q, &why);
		if (rc != ERR_NOT_FOUND || tries == 3) /* replaced between the look and the pin */
			return rc < 0 ? err_set(e, rc, "%s", why.text) : rc;
	}
}

static bool is_aborted(struct log_sequence *q)
{
	if (!batch_is_transactional(&q->batch))
		return false;
	if (log_is_aborted(q->shape, &q->batch))
		return true;
	struct log_shape *now = log_shape_take(q->log);
	bool aborted = log_is_aborted(now, &q->batch);
	log_shape_drop(q->log, now);
	return aborted;
}

/* Steps into the next batch that has records for the reader; they are in memory. 1; 0: there is none below end_offset. pinned. */
static int next_batch(struct log_sequence *q, int64_t end_offset, struct err *e)
{
	const uint8_t *bytes, *area;
	uint32_t position;
	size_t n;
	struct batch *b = &q->batch;
	int rc = scan_next(&q->scan, b, &bytes, &position, e);
	if (rc != 1)
		return rc;
	if (b->base_offset >= end_offset) {
		q->scan.at = position;
		return 0;
	}
	if (!segment_is_verified(q->segment, position, b->size_bytes)) {
		if (!batch_crc_matches(b, bytes)) {
			q->scan.at = position;
			return err_set(e, ERR_CORRUPT, "the batch at position %" PRIu32 " (offset %" PRId64 ") does not match its crc", position, b->base_offset);
		}
		segment_set_verified(q->segment, position, b->size_bytes);
	}
	if (batch_is_control(b) || batch_last_offset(b) < q->offset || is_aborted(q)) {
		if (batch_last_offset(b) >= q->offset)
			q->offset = batch_last_offset(b) + 1;
		return 1;
	}
	if ((rc = batch_records(b, bytes, &q->area, &area, &n, e)) < 0) {
		q->scan.at = position;
		return rc;
	}
	record_iter_init(&q->it, b, area, n);
	q->inside = true;
	return 1;
}

/* ---- giving ---- */

/* Gives of the batch it is in, until that ends or the room does. */
static ssize_t give(struct log_sequence *q, uint8_t *out, size_t room, struct err *e)
{
	size_t done = 0;
	while (q->have || done < room) {
		if (!q->have) {
			int rc = record_next(&q->it, &q->record, e);
			if (rc < 0)
				return rc;
			if (rc == 0) {
				q->inside = false;
				if (batch_last_offset(&q->batch) >= q->offset)
					q->offset = batch_last_offset(&q->batch) + 1;
				break;
			}
			if (q->record.offset < q->offset)
				continue;
			q->offset = q->record.offset + 1;
			q->have = q->record.value != NULL;
			q->given = 0;
			continue;
		}
		size_t value = (size_t)q->record.value_len - (q->given < (size_t)q->record.value_len ? q->given : (size_t)q->record.value_len);
		size_t n = value < room - done ? value : room - done;
		memcpy(out + done, q->record.value + q->given, n);
		done += n;
		q->given += n;
		if (n < value || done == room)
			break;
		out[done++] = '\n';
		q->have = false;
	}
	return (ssize_t)done;
}

/* With its place pinned, as far as there is anything. */
static ssize_t give_more(struct log_sequence *q, int64_t end_offset, uint8_t *out, size_t n, struct err *e)
{
	size_t done = 0;
	int rc = 1;
	while (rc == 1 && done < n && q->offset < end_offset) {
		if (q->inside) {
			ssize_t got = give(q, out + done, n - done, e);
			if (got < 0)
				rc = (int)got;
			else
				done += (size_t)got;
			continue;
		}
		if (q->scan.at < q->scan.end) {
			rc = next_batch(q, end_offset, e);
			continue;
		}
		segment_unpin(q->segment); /* the next segment, or what came meanwhile */
		if ((rc = pin_place(q, e)) != 1)
			return done ? (ssize_t)done : rc;
	}
	if (rc < 0)
		err_context(e, "%s/%020" PRId64 ".log", q->segment->dir, q->segment->base_offset);
	segment_unpin(q->segment);
	return done || rc >= 0 ? (ssize_t)done : rc;
}

ssize_t log_sequence_read(struct log_sequence *q, int64_t end_offset, void *buf, size_t n, struct err *e)
{
	uint8_t *out = buf;
	ssize_t done = 0;
	if (!q->begun && q->offset < q->log->start_offset)
		q->offset = q->log->start_offset;
	if (q->inside && n) { /* what is in memory needs no file */
		done = give(q, out, n, e);
		if (done < 0)
			return done;
	}
	if ((size_t)done < n && !q->inside && q->offset < end_offset) {
		if (q->offset < q->log->start_offset)
			return done ? done : err_set(e, ERR_OUT_OF_RANGE, "%s: offset %" PRId64 " was deleted", q->log->name, q->offset);
		if (n >= q->scan.read_bytes / 2 && q->scan.read_bytes && q->scan.read_bytes < LARGE_READ_BYTES)
			q->scan.read_bytes *= 2;
		ssize_t got = pin_place(q, e);
		if (got == 1)
			got = give_more(q, end_offset, out + done, n - (size_t)done, e);
		if (got < 0)
			return done ? done : got;
		done += got;
	}
	q->begun |= done > 0;
	if (!q->inside && (size_t)done < n) /* who waits at the end holds no memory */
		rest(q);
	return done;
}
