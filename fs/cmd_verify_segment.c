#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>

#include "fs/cmd_verify.h"
#include "fs/walk.h"
#include "store/index.h"
#include "store/view.h"

enum { PROGRESS_BYTES = 4 << 20, FILE_FAULTS = 5 };

/* A file of entries, read along with the batches. */
struct along {
	char path[PATH_MAX];
	uint32_t at, count; /* the next entry that is to be met, and how many are looked at; 0: none, or no more after so many faults */
	uint32_t faults;
};

struct pass {
	struct segment_check *s;
	char log[PATH_MAX];
	struct along along_index, along_times, along_view;
	struct offset_index index;
	struct time_index times;
	struct view view;
	bool has_index, has_times, has_view; /* they are open */
	int64_t expected;        /* the offset that should come next; -1: unknown behind damage */
	bool epoch_fault;        /* one is enough */
	struct wr scratch;       /* decompressed records */
};

/* ---- opening ---- */

/* An entry is wrong. A file with many such is not worth a line for each. */
static void wrong(struct pass *p, struct along *a, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void wrong(struct pass *p, struct along *a, const char *fmt, ...)
{
	char text[400];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	fault(&p->s->faults, a->path, "entry %" PRIu32 ": %s", a->at, text);
	if (++a->faults < FILE_FAULTS)
		return;
	fault(&p->s->faults, a->path, "its other %" PRIu32 " entries are not checked", a->count - a->at - 1);
	a->count = 0;
}

/* Kafka allocates indexes in advance and cuts them when it stops. An entry of zeros behind another cannot be one. */
static uint32_t entries_before_zeros(const struct entries *x)
{
	static const uint8_t zeros[16];
	uint32_t n = entries_count(x);
	while (n > 1 && !memcmp(entries_at(x, n - 1), zeros, x->entry_bytes))
		n--;
	return n == 1 && entries_count(x) > 1 && !memcmp(entries_at(x, 0), zeros, x->entry_bytes) ? 0 : n;
}

static bool open_entries(struct pass *p, struct entries *x, struct along *a, uint32_t entry_bytes)
{
	struct err why = ERR_INIT;
	int rc = entries_open(x, a->path, false, false, 0, entry_bytes, 0, &why);
	if (rc == ERR_NOT_FOUND && p->s->size_bytes)
		fault(&p->s->faults, a->path, "is missing");
	else if (rc < 0 && rc != ERR_NOT_FOUND)
		fault(&p->s->faults, a->path, "%s", why.text);
	if (rc < 0)
		return false;
	a->count = entries_before_zeros(x);
	if (a->count < entries_count(x))
		fault(&p->s->faults, a->path, "entry %" PRIu32 ": zeros from there on, as a killed Kafka leaves them", a->count);
	return true;
}

static void open_view(struct pass *p)
{
	struct err why = ERR_INIT;
	int rc = view_open(&p->view, p->along_view.path, p->s->base_offset, false, 0, &why);
	p->has_view = rc == 0;
	if (rc == 0) {
		p->s->has_first_position = true;
		p->s->first_position = p->view.first_position;
		p->along_view.count = entries_count(&p->view.e);
	} else if (rc != ERR_NOT_FOUND) /* one that is missing is made when it is wanted */
		fault(&p->s->faults, p->along_view.path, "%s", why.text);
}

static void open_files(struct pass *p)
{
	const char *dir = p->s->partition->dir;
	int64_t base = p->s->base_offset;
	segment_path(dir, base, ".log", p->log, sizeof p->log);
	segment_path(dir, base, ".index", p->along_index.path, sizeof p->along_index.path);
	segment_path(dir, base, ".timeindex", p->along_times.path, sizeof p->along_times.path);
	segment_path(dir, base, ".view", p->along_view.path, sizeof p->along_view.path);
	p->index.base_offset = p->times.base_offset = base;
	p->has_index = open_entries(p, &p->index.e, &p->along_index, 8);
	p->has_times = open_entries(p, &p->times.e, &p->along_times, 12);
	open_view(p);
}

static void close_files(struct pass *p)
{
	if (p->has_index)
		entries_close(&p->index.e);
	if (p->has_times)
		entries_close(&p->times.e);
	if (p->has_view)
		view_close(&p->view);
}

/* ---- entries against batches ---- */

/* Each entry names the last offset of the batch at its position. */
static void check_index(struct pass *p, const struct walk_step *w)
{
	struct along *a = &p->along_index;
	for (; a->at < a->count; a->at++) {
		int64_t offset;
		uint32_t position;
		offset_index_entry(&p->index, a->at, &offset, &position);
		if (position > w->position && !(w->damaged && position < w->position + w->size_bytes))
			return;
		if (position < w->position)
			wrong(p, a, "no batch begins at position %" PRIu32, position);
		else if (!w->damaged && offset != batch_last_offset(&w->batch))
			wrong(p, a, "offset %" PRId64 ", but the batch at position %" PRIu32 " ends with %" PRId64, offset, position, batch_last_offset(&w->batch));
	}
}

/* Each entry has the greatest timestamp of the batch that holds its offset, and both rise. */
static void check_times(struct pass *p, const struct batch *b)
{
	struct along *a = &p->along_times;
	for (; a->at < a->count; a->at++) {
		int64_t offset, time, offset_before = -1, time_before = -1;
		time_index_entry(&p->times, a->at, &time, &offset);
		if (a->at)
			time_index_entry(&p->times, a->at - 1, &time_before, &offset_before);
		if (offset > batch_last_offset(b))
			return;
		if (time <= time_before || offset < offset_before)
			wrong(p, a, "timestamp %" PRId64 " and offset %" PRId64 " do not rise", time, offset);
		else if (offset < b->base_offset && p->expected >= 0)
			wrong(p, a, "no batch holds offset %" PRId64, offset);
		else if (offset >= b->base_offset && time != b->max_timestamp_ms)
			wrong(p, a, "timestamp %" PRId64 ", but the batch with offset %" PRId64 " has %" PRId64, time, offset, b->max_timestamp_ms);
	}
}

/* The entry that is to be met next; false where none is left. Entries that do not check out are reported and passed. */
static bool view_entry_next(struct pass *p, struct view_entry *entry)
{
	struct along *a = &p->along_view;
	for (; a->at < a->count; a->at++) {
		if (view_entry_at(&p->view, a->at, entry) == 1)
			return true;
		wrong(p, a, "its crc does not match");
	}
	return false;
}

/* A record (or batch: byte 0) begins here: entries that point at it must say so, and those that point before it, at nothing. Behind damage
 * nobody knows. */
static void check_view(struct pass *p, uint32_t batch_position, uint32_t byte, int64_t offset)
{
	struct along *a = &p->along_view;
	struct view_entry v;
	for (; view_entry_next(p, &v); a->at++) {
		int64_t position = p->view.first_position + p->s->view_bytes;
		if (v.batch_position > batch_position || (v.batch_position == batch_position && v.byte_in_batch > byte))
			return;
		p->s->last_view_offset = v.offset;
		if (p->s->damaged)
			continue;
		if (v.batch_position != batch_position || v.byte_in_batch != byte)
			wrong(p, a, "no record begins at byte %" PRIu32 " of position %" PRIu32, v.byte_in_batch, v.batch_position);
		else if (v.offset != offset || v.position != position)
			wrong(p, a, "offset %" PRId64 " at view position %" PRId64 ", but by the log it is offset %" PRId64 " at %" PRId64, v.offset, v.position, offset, position);
	}
}

static void check_left_over(struct pass *p)
{
	struct view_entry v;
	if (p->along_index.at < p->along_index.count)
		wrong(p, &p->along_index, "it and those behind it point at no batch of the log");
	if (p->along_times.at < p->along_times.count)
		wrong(p, &p->along_times, "it and those behind it belong to no batch of the log");
	if (view_entry_next(p, &v))
		wrong(p, &p->along_view, "it and those behind it point at no record of the log");
}

/* ---- batches ---- */

static void check_epoch(struct pass *p, const struct walk_step *w)
{
	const struct partition_check *part = p->s->partition;
	const struct batch *b = &w->batch;
	size_t lo = 0, hi = part->epochs.count; /* the first epoch that begins behind the batch */
	if (!part->epochs_known || p->epoch_fault || b->leader_epoch < 0 || b->base_offset < part->log_start)
		return;
	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		if (part->epochs.list[mid].start_offset <= b->base_offset)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo && part->epochs.list[lo - 1].epoch == b->leader_epoch)
		return;
	p->epoch_fault = true;
	if (lo)
		fault(&p->s->faults, p->log, "position %" PRIu32 ": offset %" PRId64 " has leader epoch %" PRId32 ", leader-epoch-checkpoint says %" PRId32, w->position, b->base_offset,
		      b->leader_epoch, part->epochs.list[lo - 1].epoch);
	else
		fault(&p->s->faults, p->log, "position %" PRIu32 ": offset %" PRId64 " has leader epoch %" PRId32 ", leader-epoch-checkpoint has none for it", w->position, b->base_offset,
		      b->leader_epoch);
}

static void check_offsets(struct pass *p, const struct walk_step *w)
{
	const struct batch *b = &w->batch;
	struct segment_check *s = p->s;
	if (b->base_offset < s->end_offset)
		fault(&s->faults, p->log, "position %" PRIu32 ": the batch begins with offset %" PRId64 ", but %" PRId64 " was to come next", w->position, b->base_offset, s->end_offset);
	else if (p->expected >= 0 && b->base_offset > p->expected && !s->partition->compacted)
		fault(&s->faults, p->log, "position %" PRIu32 ": offsets %" PRId64 " to %" PRId64 " are missing", w->position, p->expected, b->base_offset - 1);
	if (batch_last_offset(b) - s->base_offset > INT32_MAX)
		fault(&s->faults, p->log, "position %" PRIu32 ": offset %" PRId64 " is too far from the segment's base", w->position, batch_last_offset(b));
	p->expected = batch_last_offset(b) + 1;
	if (p->expected > s->end_offset)
		s->end_offset = p->expected;
}

/* Counts the view of the records, each entry on the way compared. */
static int pass_records(struct pass *p, const struct walk_step *w, struct err *why)
{
	const uint8_t *area;
	size_t n;
	struct record_iter it;
	struct record r;
	const struct partition_check *part = p->s->partition;
	bool plain = batch_codec(&w->batch) == CODEC_NONE;
	bool shown = !batch_is_control(&w->batch) && !log_is_aborted(&part->shape, &w->batch);
	int rc = batch_records(&w->batch, w->bytes, &p->scratch, &area, &n, why);
	if (rc < 0)
		return rc;
	record_iter_init(&it, &w->batch, area, n);
	while ((rc = record_next(&it, &r, why)) == 1) {
		if (plain)
			check_view(p, w->position, BATCH_HEADER_BYTES + r.at, r.offset);
		int64_t bytes = shown && r.value ? (int64_t)r.value_len + 1 : 0;
		p->s->view_bytes += bytes;
		if (r.offset < part->log_start)
			p->s->view_bytes_to_start += bytes;
	}
	return rc;
}

static void pass_batch(struct pass *p, const struct walk_step *w)
{
	struct err why = ERR_INIT;
	check_times(p, &w->batch);
	check_offsets(p, w);
	check_epoch(p, w);
	check_view(p, w->position, 0, w->batch.base_offset);
	int rc = pass_records(p, w, &why);
	if (rc < 0) {
		fault(&p->s->faults, p->log, "position %" PRIu32 ", offset %" PRId64 ": %s", w->position, w->batch.base_offset, why.text);
		p->s->damaged = true;
	}
	txn_trace_add(&p->s->txns, &w->batch, w->bytes);
}

static void pass_damage(struct pass *p, const struct walk_step *w)
{
	bool to_end = w->position + w->size_bytes == p->s->size_bytes;
	fault(&p->s->faults, p->log, "position %" PRIu32 ": %" PRIu32 " bytes are damaged%s: %s", w->position, w->size_bytes, to_end ? ", up to the end of the file" : "", w->why.text);
	p->s->damaged = true;
	p->expected = -1;
}

void verify_segment(struct segment_check *s, void (*progress)(void *arg, uint64_t bytes), void *arg)
{
	struct pass p = {.s = s, .expected = s->base_offset};
	struct walk walk;
	struct walk_step w;
	struct err e = ERR_INIT;
	uint64_t told = 0;
	s->end_offset = s->base_offset;
	s->last_view_offset = -1;
	open_files(&p);
	int rc = walk_open(&walk, p.log, NULL, &e);
	if (rc == 0) {
		wr_init(&p.scratch, 0);
		while ((rc = walk_next(&walk, &w, &e)) == 1) {
			check_index(&p, &w);
			if (w.damaged)
				pass_damage(&p, &w);
			else
				pass_batch(&p, &w);
			if (w.position - told >= PROGRESS_BYTES) {
				progress(arg, w.position - told);
				told = w.position;
			}
		}
		wr_release(&p.scratch);
		walk_close(&walk);
	}
	if (rc < 0 || s->txns.failed) {
		fault(&s->faults, p.log, "%s", rc < 0 ? e.text : "no memory to check its transactions");
		s->damaged = true;
	}
	if (!s->damaged)
		check_left_over(&p);
	close_files(&p);
	progress(arg, s->size_bytes - told);
}
