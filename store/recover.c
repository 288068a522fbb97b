/*
 * Recovery: opening a log of which no trusted checkpoint says what it holds.
 *
 *  1. Segments past the recovery point are scanned, in parallel: every batch's header, crc, order and records. On the way index entries are compared with
 *     the log, and the view's entries are made anew.
 *  2. Where a segment stops being valid: if a valid batch follows, there or in a later segment, or if durable offsets are missing, the log is damaged: nothing is
 *     touched and it is offline, with a report. Else it is a torn tail: kept as <base>.cut, and cut.
 *  3. Offsets and positions from segment to segment leave no room for a missing one.
 *  4. Producer state is replayed from the newest snapshot; epochs are read from the batches; transactions decide what is visible.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/diag.h"
#include "store/io.h"
#include "store/log.h"
#include "store/log_view.h"
#include "store/pool.h"
#include "store/scan.h"
#include "store/txnindex.h"

struct part { /* one segment's scan */
	struct log *log;
	struct segment *segment;
	int rc;                    /* 0: valid to the end; ERR_CORRUPT: up to valid_bytes */
	struct err err;
	uint32_t valid_bytes;
	int64_t end_offset;        /* behind the last valid batch */
	int64_t view_bytes;
	int64_t max_timestamp_ms, max_timestamp_offset;
	bool index_fits, producers, transactional;
	uint32_t index_at, times_at; /* entries compared so far */
	struct view_entry *entry;  /* owned; positions from 0 */
	size_t entry_count, entry_cap;
	struct epoch_start *epoch; /* owned; where the epoch changes */
	size_t epoch_count, epoch_cap;
	struct wr scratch;
	/* of the batch being scanned */
	int64_t base_offset;
	uint32_t position;
};

struct scan_job { struct part *part; };

static bool part_push(void **list, size_t *count, size_t *cap, size_t size)
{
	if (*count == *cap) {
		size_t more = *cap ? 2 * *cap : 64;
		void *bigger = realloc(*list, more * size);
		if (!bigger)
			return false;
		*list = bigger;
		*cap = more;
	}
	++*count;
	return true;
}

static void add_entry(struct part *p, int64_t position, int64_t offset, uint32_t byte)
{
	if (part_push((void **)&p->entry, &p->entry_count, &p->entry_cap, sizeof *p->entry))
		p->entry[p->entry_count - 1] = (struct view_entry){position, offset, p->position, byte};
	else
		p->rc = err_set(&p->err, ERR_NO_MEMORY, "no memory for view entries");
}

static void add_mark(void *arg, const struct batch_mark *m)
{
	struct part *p = arg;
	add_entry(p, p->view_bytes + (int64_t)m->view_bytes, p->base_offset + m->record, m->byte);
}

/* Entries of .index and .timeindex up to this batch say what the log says. */
static void compare_indexes(struct part *p, const struct batch *b, uint32_t position)
{
	struct segment *s = p->segment;
	int64_t offset, timestamp;
	uint32_t at;
	while (p->index_at < entries_count(&s->index.e)) {
		offset_index_entry(&s->index, p->index_at, &offset, &at);
		if (at > position)
			break;
		p->index_fits &= at == position && offset >= b->base_offset;
		p->index_at++;
	}
	while (p->times_at < entries_count(&s->times.e)) {
		time_index_entry(&s->times, p->times_at, &timestamp, &offset);
		if (offset > batch_last_offset(b))
			break;
		p->index_fits &= timestamp == p->max_timestamp_ms;
		p->times_at++;
	}
}

static int scan_batch(struct part *p, const struct batch *b, const uint8_t *bytes, uint32_t position, struct view_builder *rule)
{
	struct segment *s = p->segment;
	uint64_t view_bytes = 0;
	if (b->base_offset < p->end_offset || batch_last_offset(b) - s->base_offset > INT32_MAX)
		return err_set(&p->err, ERR_CORRUPT, "position %u: offsets %" PRId64 " to %" PRId64 " cannot stand behind offset %" PRId64, position, b->base_offset,
			       batch_last_offset(b), p->end_offset - 1);
	if (!batch_crc_matches(b, bytes))
		return err_set(&p->err, ERR_CORRUPT, "position %u: the batch does not match its crc", position);
	if (b->max_timestamp_ms > p->max_timestamp_ms) {
		p->max_timestamp_ms = b->max_timestamp_ms;
		p->max_timestamp_offset = batch_last_offset(b);
	}
	compare_indexes(p, b, position);
	p->base_offset = b->base_offset;
	p->position = position;
	int64_t since = rule->since_bytes;
	view_builder_batch(rule, b->base_offset, position, b->size_bytes, 0, NULL, 0);
	bool entry = rule->since_bytes < since + b->size_bytes;
	if (entry)
		add_entry(p, p->view_bytes, b->base_offset, 0);
	if (!batch_is_control(b)) {
		int rc = batch_scan(b, bytes, &p->scratch, VIEW_STEP_BYTES, &view_bytes, entry ? add_mark : NULL, p, &p->err);
		if (rc < 0)
			return rc;
	}
	p->view_bytes += (int64_t)view_bytes;
	p->producers |= b->producer_id >= 0;
	p->transactional |= batch_is_transactional(b);
	if (!p->epoch_count || p->epoch[p->epoch_count - 1].epoch != b->leader_epoch) {
		if (!part_push((void **)&p->epoch, &p->epoch_count, &p->epoch_cap, sizeof *p->epoch))
			return err_set(&p->err, ERR_NO_MEMORY, "no memory for epochs");
		p->epoch[p->epoch_count - 1] = (struct epoch_start){b->leader_epoch, b->base_offset};
	}
	p->end_offset = batch_last_offset(b) + 1;
	return p->rc;
}

/* thread: the pool's. */
static void scan_part(void *arg, size_t i)
{
	struct part *p = &((struct scan_job *)arg)->part[i];
	struct segment *s = p->segment;
	struct scan scan;
	struct batch b;
	const uint8_t *bytes;
	uint32_t position;
	struct view_builder rule = {.since_bytes = INT32_MAX};
	p->end_offset = s->base_offset;
	p->max_timestamp_ms = p->max_timestamp_offset = -1;
	p->index_fits = true;
	wr_init(&p->scratch, 0);
	if ((p->rc = segment_pin(s, &p->err)) < 0)
		return;
	scan_init(&scan, s->fd, 0, s->size_bytes, 0);
	while ((p->rc = scan_next(&scan, &b, &bytes, &position, &p->err)) == 1) {
		p->rc = 0;
		int rc = scan_batch(p, &b, bytes, position, &rule);
		if (rc < 0) {
			p->rc = rc;
			break;
		}
		p->valid_bytes = scan.at;
	}
	p->index_fits &= p->index_at == entries_count(&s->index.e) && p->times_at == entries_count(&s->times.e);
	scan_release(&scan);
	wr_release(&p->scratch);
	segment_unpin(s);
}

static void parts_free(struct part *part, size_t n)
{
	for (size_t i = 0; part && i < n; i++) {
		free(part[i].entry);
		free(part[i].epoch);
	}
	free(part);
}

/* ---- damage ---- */

static int offline(struct log *l, struct err *e, const char *what)
{
	return err_set(e, ERR_OFFLINE, "%s: %s. Nothing was changed. `spoolfs verify` lists all damage, `spoolfs dump --records %s` gives what can be read; a replica or a backup "
		       "of the directory makes it whole", l->name, what, l->dir);
}

/* Keeps the torn bytes for who wants to look at them, then cuts. */
static int cut_tail(struct part *p, struct err *e)
{
	struct segment *s = p->segment;
	char path[PATH_MAX];
	uint32_t torn = s->size_bytes - p->valid_bytes;
	uint8_t *bytes = malloc(torn ? torn : 1);
	if (!bytes)
		return err_set(e, ERR_NO_MEMORY, "no memory to keep %u torn bytes", torn);
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
	if (rc == 0)
		p->log->bytes -= torn;
	if (rc == 0)
		diag_warning("%s: %s; the last %u bytes of %020" PRId64 ".log were torn and are cut, kept in %s", p->log->name, p->err.text, torn, s->base_offset, path);
	segment_unpin(s);
done:
	free(bytes);
	return rc;
}

/* A scan that stopped early: torn tail or damage? */
static int judge(struct log *l, const struct log_open *o, struct part *p, struct err *e)
{
	char what[400];
	uint32_t found = 0;
	int rc = segment_pin(p->segment, e);
	if (rc < 0)
		return rc;
	rc = scan_find_valid(p->segment->fd, p->valid_bytes + 1, p->segment->size_bytes, p->end_offset, &found, e);
	segment_unpin(p->segment);
	if (rc < 0)
		return rc;
	bool more = rc == 1;
	for (size_t i = 0; i < l->shape->segment_count; i++)
		more |= l->shape->segment[i]->base_offset > p->segment->base_offset && l->shape->segment[i]->size_bytes > 0;
	if (more || p->end_offset < o->recovery_point) {
		snprintf(what, sizeof what, "%020" PRId64 ".log is damaged at %s (%s)", p->segment->base_offset, p->err.text,
			 more ? "valid batches follow" : "in a part that was safely on disk before");
		return offline(l, e, what);
	}
	return cut_tail(p, e);
}

/* Segments behind a cut tail hold nothing: they go. */
static int drop_behind(struct log *l, size_t keep, struct err *e)
{
	for (size_t i = keep; i < l->shape->segment_count; i++) {
		int rc = segment_mark_deleted(l->shape->segment[i], e);
		if (rc < 0)
			return rc;
		segment_unref(l->shape->segment[i]);
		l->deleted_pending = true;
	}
	l->shape->segment_count = keep;
	if (keep)
		l->shape->segment[keep - 1]->sealed = false;
	return 0;
}

/* Where a segment ends, whether it was scanned or not. */
static int end_of(struct log *l, size_t i, struct part *part, size_t first, int64_t *end, struct err *e)
{
	if (i >= first) {
		*end = part[i - first].end_offset;
		return 0;
	}
	int rc = segment_pin(l->shape->segment[i], e);
	if (rc < 0)
		return rc;
	rc = segment_end_offset(l->shape->segment[i], end, e);
	segment_unpin(l->shape->segment[i]);
	return rc;
}

/* Offsets that are missing between two segments were compacted away if the view goes on without a step; else a segment is missing. */
static int check_gap(struct log *l, const struct log_open *o, size_t i, int64_t end, struct err *e)
{
	struct segment *next = l->shape->segment[i + 1];
	char what[200];
	int64_t known = POSITION_UNKNOWN;
	if (end == next->base_offset || o->foreign)
		return 0;
	int rc = segment_pin(next, e);
	if (rc < 0)
		return rc;
	if (next->view_ok)
		known = next->view.first_position;
	segment_unpin(next);
	snprintf(what, sizeof what, "offsets %" PRId64 " to %" PRId64 " are missing between two segments", end, next->base_offset - 1);
	if (end > next->base_offset)
		snprintf(what, sizeof what, "segments %020" PRId64 " and %020" PRId64 " overlap", l->shape->segment[i]->base_offset, next->base_offset);
	else if (known != POSITION_UNKNOWN) {
		int64_t position = POSITION_UNKNOWN;
		next->first_position = POSITION_UNKNOWN;
		rc = log_need_view(l, l->shape, i, e);
		if (rc == 0)
			rc = log_end_position(l, i, &position, e);
		next->first_position = known;
		if (rc < 0 || position == known)
			return rc;
	}
	return offline(l, e, what);
}

/* ---- what the log holds ---- */

static int place_start(struct log *l, const struct log_open *o, struct err *e)
{
	struct log_shape *s = l->shape;
	int64_t base = s->segment_count ? s->segment[0]->base_offset : 0;
	char what[300];
	if (o->pair_offset >= 0) {
		l->start_offset = o->pair_offset;
		l->start_position = o->pair_position;
	} else if (o->foreign) {
		l->start_offset = o->start_offset > base ? o->start_offset : base;
		l->start_position = 0;
	} else {
		l->start_offset = base;
		l->start_position = 0;
		if (base > 0) { /* the copy of the pair in the first .view */
			int rc = segment_pin(s->segment[0], e);
			if (rc < 0)
				return rc;
			bool known = s->segment[0]->view_ok;
			l->start_position = known ? s->segment[0]->view.first_position : 0;
			segment_unpin(s->segment[0]);
			if (!known)
				return err_set(e, ERR_OFFLINE, "%s: " VIEW_START_FILE " has no row of it and %020" PRId64 ".view is lost: nobody knows at which position in the file the log starts. "
					       "Add the row \"TOPIC PARTITION TOPIC-ID OFFSET POSITION\" from a backup, or remove " VIEW_START_FILE " to have all positions begin at 0 again", l->name, base);
		}
	}
	if (s->segment_count && base > l->start_offset) {
		snprintf(what, sizeof what, "the log starts at offset %" PRId64 ", but its first segment begins at %" PRId64 ": one is missing", (int64_t)l->start_offset, base);
		return offline(l, e, what);
	}
	if (!s->segment_count)
		l->leo = l->start_offset;
	return 0;
}

static int write_view(struct log *l, struct part *p, int64_t first_position, struct err *e)
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
	(void)l;
	return rc;
}

/* The views of the scanned segments, from where the one before them ends. With transactions in them they are left to log_rebuild_views. */
static int write_views(struct log *l, struct part *part, size_t first, size_t n, struct err *e)
{
	bool plain = true;
	for (size_t i = 0; i < n; i++)
		plain &= !part[i].transactional;
	if (!plain) {
		for (size_t i = 0; i < n; i++)
			segment_forget_view(part[i].segment);
		return 0;
	}
	if (!n)
		return 0;
	int rc = log_need_view(l, l->shape, first, e);
	int64_t position = l->shape->segment[first]->first_position;
	for (size_t i = 0; i < n && rc == 0; i++) {
		rc = write_view(l, &part[i], position, e);
		position += part[i].view_bytes;
	}
	return rc;
}

static int restore_epochs(struct log *l, struct part *part, size_t n, int64_t scanned_from, struct err *e)
{
	char path[PATH_MAX];
	int changed = epochs_truncate_end(&l->epochs, scanned_from);
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < part[i].epoch_count; k++) {
			int rc = epochs_assign(&l->epochs, part[i].epoch[k].epoch, part[i].epoch[k].start_offset);
			if (rc < 0)
				return err_set(e, rc, "no memory for epochs");
			changed |= rc;
		}
	if (!changed || !l->epochs.count)
		return 0;
	snprintf(path, sizeof path, "%s/leader-epoch-checkpoint", l->dir);
	return epochs_write(&l->epochs, path, e);
}

/* Replays producers over one segment from `from` on and gives it the .txnindex that follows. */
static int replay_segment(struct log *l, struct segment *s, int64_t from, struct err *e)
{
	struct scan scan;
	struct batch b;
	const uint8_t *bytes;
	uint32_t position;
	struct aborted_txn aborted;
	char path[PATH_MAX];
	size_t kept = 0, before = l->shape->aborted_count;
	int rc = segment_pin(s, e);
	if (rc < 0)
		return rc;
	/* what ended from here on is found again */
	for (size_t i = 0; i < before; i++)
		if (l->shape->aborted[i].last_offset < from)
			l->shape->aborted[kept++] = l->shape->aborted[i];
	l->shape->aborted_count = kept;
	scan_init(&scan, s->fd, 0, s->size_bytes, 0);
	while ((rc = scan_next(&scan, &b, &bytes, &position, e)) == 1) {
		if (batch_last_offset(&b) < from)
			continue;
		if ((rc = producers_update(l->producers, &b, bytes, &aborted, e)) < 0)
			break;
		if (rc == 1) {
			struct aborted_txn *more = realloc(l->shape->aborted, (l->shape->aborted_count + 1) * sizeof *more);
			if (!more) {
				rc = err_set(e, ERR_NO_MEMORY, "no memory for aborted transactions");
				break;
			}
			l->shape->aborted = more;
			more[l->shape->aborted_count++] = aborted;
		}
	}
	scan_release(&scan);
	segment_unpin(s);
	if (rc < 0)
		return rc;
	size_t first = l->shape->aborted_count;
	while (first > 0 && l->shape->aborted[first - 1].last_offset >= s->base_offset)
		first--;
	segment_path(l->dir, s->base_offset, ".txnindex", path, sizeof path);
	return l->shape->aborted_count > first ? txnindex_write(path, l->shape->aborted + first, l->shape->aborted_count - first, e) : 0;
}

static int replay_producers(struct log *l, bool seen, int64_t scanned_from, struct err *e)
{
	int64_t from = producers_map_end(l->producers);
	int rc = 0;
	if (seen || from < scanned_from) {
		for (size_t i = 0; i < l->shape->segment_count && rc == 0; i++)
			if (i + 1 == l->shape->segment_count || l->shape->segment[i + 1]->base_offset > from)
				rc = replay_segment(l, l->shape->segment[i], from, e);
	}
	producers_set_map_end(l->producers, l->leo);
	return rc;
}

/* ---- all of it ---- */

/* The first segment to be scanned: the one that holds the recovery point; after a clean stop, none. */
static size_t scan_from_segment(struct log *l, const struct log_open *o)
{
	size_t first = 0;
	if (o->clean && l->epochs.count)
		return l->shape->segment_count;
	if (!l->epochs.count)
		return 0; /* only the batches can tell the epochs */
	while (first + 1 < l->shape->segment_count && l->shape->segment[first + 1]->base_offset <= o->recovery_point)
		first++;
	return first;
}

static int examine(struct log *l, const struct log_open *o, struct part *part, size_t first, size_t *n, struct err *e)
{
	int rc = 0;
	for (size_t i = 0; i < *n && rc == 0; i++) {
		struct part *p = &part[i];
		if (p->rc == 0)
			continue;
		if (p->rc != ERR_CORRUPT)
			return err_set(e, p->rc, "%s: %s", l->name, p->err.text);
		rc = judge(l, o, p, e);
		if (rc == 0) {
			*n = i + 1;
			rc = drop_behind(l, first + i + 1, e);
		}
	}
	for (size_t i = 0; i + 1 < l->shape->segment_count && rc == 0; i++) {
		int64_t end;
		if ((rc = end_of(l, i, part, first, &end, e)) == 0)
			rc = check_gap(l, o, i, end, e);
	}
	if (rc == 0 && l->shape->segment_count) {
		int64_t end;
		rc = end_of(l, l->shape->segment_count - 1, part, first, &end, e);
		l->leo = end;
	}
	if (rc == 0 && l->leo < o->recovery_point) {
		char what[200];
		snprintf(what, sizeof what, "it ends at offset %" PRId64 ", but everything below %" PRId64 " was safely on disk before", (int64_t)l->leo, o->recovery_point);
		rc = offline(l, e, what);
	}
	return rc;
}

int log_recover(struct log *l, const struct log_open *o, struct err *e)
{
	size_t first = scan_from_segment(l, o), n = l->shape->segment_count - first;
	int64_t scanned_from = n ? l->shape->segment[first]->base_offset : INT64_MAX;
	struct part *part = calloc(n + 1, sizeof *part);
	const size_t scanned = n;
	bool producers = false;
	int rc = part ? place_start(l, o, e) : err_set(e, ERR_NO_MEMORY, "no memory to recover %s", l->name);
	if (rc < 0)
		goto done;
	l->view_offset = INT64_MAX; /* all there is counts as visible while views are put in order, but for open transactions below */
	for (size_t i = 0; i < n; i++) {
		part[i].log = l;
		part[i].segment = l->shape->segment[first + i];
	}
	pool_for_each(l->pool, n, scan_part, &(struct scan_job){part});
	if ((rc = examine(l, o, part, first, &n, e)) < 0)
		goto done;
	for (size_t i = 0; i < n && rc == 0; i++) {
		struct segment *s = part[i].segment;
		s->max_timestamp_offset = part[i].max_timestamp_offset;
		s->max_timestamp_ms = part[i].max_timestamp_ms;
		producers |= part[i].producers;
		if (!part[i].index_fits)
			rc = segment_rebuild_index(s, l->limits.interval_bytes, e);
	}
	if (rc == 0)
		rc = restore_epochs(l, part, n, scanned_from, e);
	if (rc == 0)
		rc = replay_producers(l, producers, n ? scanned_from : l->leo, e);
	if (rc == 0)
		rc = write_views(l, part, first, n, e);
	if (rc == 0) {
		l->view_offset = log_last_stable(l);
		rc = log_rebuild_views(l, e);
	}
	l->flushed_offset = o->recovery_point < l->leo ? o->recovery_point : (int64_t)l->leo;
	l->since_view_bytes = INT32_MAX;
	l->recovered = !o->clean;
	l->changed = true;
done:
	parts_free(part, scanned);
	return rc;
}
