#include "store/clean.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/clean_filter.h"
#include "store/io.h"
#include "store/log_view.h"
#include "store/scan.h"

enum {
	GROUP_SEGMENTS = 64,       /* what is replaced at once is pinned meanwhile */
	LEAST_IO_BYTES = 16 << 10,
	INDEX_ENTRY_BYTES = 8, TIME_ENTRY_BYTES = 12,
};

/* ---- what there is to do ---- */

/* The place of the segment that holds the offset, or of the first. */
static size_t floor_of(const struct log_shape *s, int64_t offset)
{
	size_t i = 0;
	while (i + 1 < s->segment_count && s->segment[i + 1]->base_offset <= offset)
		i++;
	return i;
}

static int first_batch_time(struct segment *s, int64_t *time_ms, struct err *e)
{
	uint8_t header[BATCH_HEADER_BYTES];
	struct batch b;
	*time_ms = -1;
	int rc = segment_pin(s, e);
	if (rc < 0)
		return rc;
	if (s->size_bytes && io_pread(s->fd, header, sizeof header, 0) == sizeof header && batch_decode(&b, header, sizeof header, s->size_bytes, NULL) == 0)
		*time_ms = b.max_timestamp_ms;
	segment_unpin(s);
	return 0;
}

static int64_t add_ms(int64_t time_ms, int64_t ms)
{
	return time_ms > 0 && ms > INT64_MAX - time_ms ? INT64_MAX : time_ms + ms;
}

/* The first segment from `i` on that is younger than min.compaction.lag.ms. */
static int skip_young(const struct log_shape *s, size_t i, const struct clean_conf *conf, int64_t now_ms, struct clean_plan *plan, struct err *e)
{
	for (; conf->min_lag_ms > 0 && i + 1 < s->segment_count && s->segment[i]->base_offset < plan->end; i++) {
		int64_t newest;
		int rc = segment_max_timestamp(s->segment[i], &newest, e);
		if (rc < 0)
			return rc;
		if (newest > now_ms - conf->min_lag_ms) {
			plan->end = s->segment[i]->base_offset;
			plan->look_again_ms = add_ms(newest, conf->min_lag_ms);
		}
	}
	return 0;
}

/* max.compaction.lag.ms counts from the first batch of each dirty segment. */
static int look_for_overdue(const struct log_shape *s, size_t i, const struct clean_conf *conf, int64_t now_ms, struct clean_plan *plan, struct err *e)
{
	for (; conf->max_lag_ms < INT64_MAX && i + 1 < s->segment_count; i++) {
		int64_t first, due;
		int rc = first_batch_time(s->segment[i], &first, e);
		if (rc < 0)
			return rc;
		if (first <= 0)
			continue;
		due = add_ms(first, conf->max_lag_ms);
		plan->overdue |= due < now_ms;
		if (due >= now_ms && due < plan->look_again_ms)
			plan->look_again_ms = due;
	}
	return 0;
}

int log_clean_plan(struct log *l, int64_t clean_offset, int64_t stable, const struct clean_conf *conf, int64_t now_ms, struct clean_plan *plan, struct err *e)
{
	struct log_shape *s = log_shape_take(l);
	int rc = 0;
	*plan = (struct clean_plan){.first_dirty = clean_offset, .look_again_ms = INT64_MAX};
	if (clean_offset < l->start_offset || clean_offset > l->leo)
		plan->first_dirty = l->start_offset;
	plan->end = plan->first_dirty;
	if (s->segment_count > 1) {
		int64_t active = s->segment[s->segment_count - 1]->base_offset;
		size_t dirty = floor_of(s, plan->first_dirty);
		plan->end = stable < active ? stable : active;
		rc = skip_young(s, dirty, conf, now_ms, plan, e);
		if (rc == 0)
			rc = look_for_overdue(s, dirty, conf, now_ms, plan, e);
		plan->end = s->segment[floor_of(s, plan->end)]->base_offset;
		for (size_t i = 0; i < s->segment_count && s->segment[i]->base_offset < plan->first_dirty; i++)
			plan->clean_bytes += s->segment[i]->size_bytes;
		for (size_t i = dirty; i < s->segment_count && s->segment[i]->base_offset < plan->end; i++)
			plan->dirty_bytes += s->segment[i]->size_bytes;
		if (plan->end < plan->first_dirty)
			plan->end = plan->first_dirty;
		if (plan->end == plan->first_dirty)
			plan->dirty_bytes = 0;
	}
	log_shape_drop(l, s);
	return rc;
}

/* ---- a round ---- */

struct target { /* the .cleaned files that a group is written to */
	bool made;
	int64_t base;
	int fd;
	struct offset_index index;
	struct time_index times;
	uint32_t size_bytes;      /* written; `out` comes behind */
	struct wr out;
	int64_t since_index_bytes;
	int64_t max_timestamp_ms, max_timestamp_offset;
	struct aborted_txn *aborted;
	size_t aborted_count, aborted_cap;
};

struct log_clean {
	struct log *log;
	const struct clean_guard *guard;
	struct clean_conf conf;
	struct clean_plan plan;
	struct log_shape *shape;  /* as it was when the round began */
	struct producers *producers;
	struct clean_map map;
	struct clean_filter filter;
	struct clean_stats stats;
	bool mapped;              /* step 1 is done */
	size_t at;                /* the segment that is read, in the shape */
	size_t group, group_end;  /* those of the group, in the shape */
	struct segment *pinned;   /* the one at `at` */
	struct scan scan;
	struct target to;
	bool committed;
};

/* The guard, and the log is one to be compacted still: it may have got positions meanwhile. */
static int enter(struct log_clean *c, struct err *e)
{
	int rc = c->guard->enter(c->guard->arg, e);
	if (rc == 0 && !c->log->sequential) {
		c->guard->leave(c->guard->arg);
		rc = err_set(e, ERR_INTERRUPTED, "%s is not compacted any more", c->log->name);
	}
	return rc;
}

/* A segment of the log as it was when the round began, if it is in it still. */
static int pin(struct log_clean *c, struct segment *s, struct err *e)
{
	int rc = enter(c, e);
	if (rc < 0)
		return rc;
	rc = s->gone ? err_set(e, ERR_INTERRUPTED, "%s: segments went while they were cleaned", c->log->name) : segment_pin(s, e);
	c->guard->leave(c->guard->arg);
	return rc;
}

static void stop_reading(struct log_clean *c)
{
	if (c->pinned)
		segment_unpin(c->pinned);
	c->pinned = NULL;
	scan_release(&c->scan);
}

/* Opens the segment `at` for reading from `from` on. */
static int start_reading(struct log_clean *c, int64_t offset, struct err *e)
{
	struct segment *s = c->shape->segment[c->at];
	uint32_t from = 0;
	int rc = pin(c, s, e);
	if (rc < 0)
		return rc;
	c->pinned = s;
	if (offset > s->base_offset) {
		struct batch b;
		if ((rc = segment_find_offset(s, offset, &b, &from, e)) < 0)
			return rc;
		if (rc == 0)
			from = s->size_bytes;
	}
	scan_init(&c->scan, s->fd, from, s->size_bytes, c->conf.io_bytes);
	return 0;
}

/* The next batch of the segment, checked: 1; 0: its end. */
static int next_batch(struct log_clean *c, struct batch *b, const uint8_t **bytes, struct err *e)
{
	uint32_t position;
	struct segment *s = c->pinned;
	int rc = scan_next(&c->scan, b, bytes, &position, e);
	if (rc == 1 && !segment_is_verified(s, position, b->size_bytes) && !batch_crc_matches(b, *bytes))
		rc = err_set(e, ERR_CORRUPT, "the batch at position %" PRIu32 " (offset %" PRId64 ") does not match its crc", position, b->base_offset);
	if (rc == 1)
		c->stats.bytes_read += b->size_bytes;
	if (rc < 0)
		err_context(e, "%s/%020" PRId64 ".log", s->dir, s->base_offset);
	return rc;
}

/* Past the segment: the offset where the next one begins. */
static int64_t next_base(const struct log_clean *c)
{
	int64_t next = c->at + 1 < c->shape->segment_count ? c->shape->segment[c->at + 1]->base_offset : INT64_MAX;
	return next < c->plan.end ? next : c->plan.end;
}

/* ---- step 1: the map ---- */

/* 1: the map is full. */
static int map_batch(struct log_clean *c, const struct batch *b, const uint8_t *bytes, struct err *e)
{
	const uint8_t *area;
	size_t n;
	struct record_iter it;
	struct record r;
	int rc;
	if (!batch_is_control(b) && !log_is_aborted(c->shape, b)) {
		if ((rc = batch_records(b, bytes, &c->filter.area, &area, &n, e)) < 0)
			return rc;
		record_iter_init(&it, b, area, n);
		while ((rc = record_next(&it, &r, e)) == 1)
			if (r.key && r.offset >= c->plan.first_dirty && !clean_map_put(&c->map, r.key, (size_t)r.key_len, r.offset))
				return 1;
		if (rc < 0)
			return rc;
	}
	if (batch_last_offset(b) >= c->plan.first_dirty && batch_last_offset(b) > c->map.latest)
		c->map.latest = batch_last_offset(b);
	return 0;
}

static int map_step(struct log_clean *c, struct err *e)
{
	struct batch b;
	const uint8_t *bytes;
	int rc = 0;
	if (!c->pinned && (rc = start_reading(c, c->plan.first_dirty, e)) < 0)
		return rc;
	rc = next_batch(c, &b, &bytes, e);
	if (rc == 1 && (rc = map_batch(c, &b, bytes, e)) == 0)
		return 0;
	if (rc < 0)
		return rc;
	bool full = rc == 1;
	if (!full && next_base(c) - 1 > c->map.latest) /* offsets that are missing behind the last batch */
		c->map.latest = next_base(c) - 1;
	stop_reading(c);
	c->at++;
	if (full || c->at == c->shape->segment_count || c->shape->segment[c->at]->base_offset >= c->plan.end) {
		c->mapped = true;
		c->stats.keys = c->map.used;
		c->at = c->group = c->group_end = 0;
	}
	return 0;
}

/* ---- step 2: a group ---- */

static int index_sizes(struct log_clean *c, size_t i, uint64_t *index_bytes, uint64_t *time_bytes, struct err *e)
{
	struct segment *s = c->shape->segment[i];
	int rc = pin(c, s, e);
	if (rc < 0)
		return rc;
	*index_bytes += (uint64_t)entries_count(&s->index.e) * INDEX_ENTRY_BYTES;
	*time_bytes += (uint64_t)entries_count(&s->times.e) * TIME_ENTRY_BYTES;
	segment_unpin(s);
	return 0;
}

/* Segments from `group` on that fit one, by the sizes that they have now. */
static int gather_group(struct log_clean *c, struct err *e)
{
	const struct log_shape *s = c->shape;
	uint64_t bytes = 0, index_bytes = 0, time_bytes = 0;
	int64_t base = s->segment[c->group]->base_offset;
	size_t i = c->group;
	for (; i < s->segment_count && i - c->group < GROUP_SEGMENTS && s->segment[i]->base_offset <= c->map.latest; i++) {
		int64_t next = i + 1 < s->segment_count ? s->segment[i + 1]->base_offset : c->plan.end;
		bytes += s->segment[i]->size_bytes;
		int rc = index_sizes(c, i, &index_bytes, &time_bytes, e);
		if (rc < 0)
			return rc;
		bool fits = bytes <= c->conf.segment_bytes && index_bytes <= c->conf.index_bytes && time_bytes <= c->conf.index_bytes && next - 1 - base <= INT32_MAX;
		if (i > c->group && !fits)
			break;
	}
	c->group_end = i;
	return 0;
}

static void close_target(struct target *t)
{
	io_close(t->fd);
	t->fd = -1;
	offset_index_close(&t->index);
	time_index_close(&t->times);
	wr_clear(&t->out);
}

static void target_path(const struct log_clean *c, const char *suffix, char path[PATH_MAX])
{
	char name[SEGMENT_SUFFIX_BYTES];
	snprintf(name, sizeof name, "%s.cleaned", suffix);
	segment_path(c->log->dir, c->to.base, name, path, PATH_MAX);
}

/* guard entered. */
static int open_target(struct log_clean *c, size_t index_bytes, struct err *e)
{
	struct target *t = &c->to;
	char path[PATH_MAX];
	int rc = clean_remove(c->log->dir, t->base, e);
	if (rc < 0)
		return rc;
	t->made = true;
	target_path(c, ".log", path);
	t->fd = io_open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
	if (t->fd < 0)
		return err_sys(e, t->fd, "cannot make %s", path);
	target_path(c, ".index", path);
	rc = offset_index_open(&t->index, path, t->base, true, true, index_bytes, 0, e);
	if (rc < 0)
		return rc;
	target_path(c, ".timeindex", path);
	return time_index_open(&t->times, path, t->base, true, true, index_bytes, e);
}

static int begin_group(struct log_clean *c, struct err *e)
{
	uint64_t bytes = 0;
	int rc = gather_group(c, e);
	if (rc < 0)
		return rc;
	for (size_t i = c->group; i < c->group_end; i++)
		bytes += c->shape->segment[i]->size_bytes;
	/* entries as the interval asks for them, whatever it was when the segments were written */
	uint64_t most = (bytes / (c->conf.interval_bytes > BATCH_HEADER_BYTES ? c->conf.interval_bytes : BATCH_HEADER_BYTES) + 2) * TIME_ENTRY_BYTES;
	struct target *t = &c->to;
	struct wr out = t->out;
	struct aborted_txn *aborted = t->aborted;
	size_t cap = t->aborted_cap;
	*t = (struct target){.base = c->shape->segment[c->group]->base_offset, .fd = -1, .out = out, .aborted = aborted, .aborted_cap = cap, .max_timestamp_ms = -1,
			     .max_timestamp_offset = -1, .index.e.fd = -1, .times.e.fd = -1};
	if ((rc = enter(c, e)) < 0)
		return rc;
	rc = open_target(c, most > c->conf.index_bytes ? most : c->conf.index_bytes, e);
	c->guard->leave(c->guard->arg);
	return rc;
}

static int flush_out(struct log_clean *c, struct err *e)
{
	struct target *t = &c->to;
	if (!t->out.len)
		return 0;
	int sys = io_pwrite(t->fd, t->out.data, t->out.len, t->size_bytes);
	if (sys < 0)
		return err_sys(e, sys, "cannot write %zu bytes of %s/%020" PRId64 ".log.cleaned", t->out.len, c->log->dir, t->base);
	t->size_bytes += (uint32_t)t->out.len;
	c->stats.bytes_written += t->out.len;
	wr_clear(&t->out);
	return 0;
}

/* Kafka's rule of which batches get entries (LogSegment.append). */
static int index_batch(struct log_clean *c, const struct batch *b, uint32_t position, struct err *e)
{
	struct target *t = &c->to;
	int rc = 0;
	if (b->max_timestamp_ms > t->max_timestamp_ms) {
		t->max_timestamp_ms = b->max_timestamp_ms;
		t->max_timestamp_offset = batch_last_offset(b);
	}
	if (t->since_index_bytes > c->conf.interval_bytes) {
		rc = offset_index_append(&t->index, batch_last_offset(b), position, e);
		if (rc == 0)
			rc = time_index_append(&t->times, t->max_timestamp_ms, t->max_timestamp_offset, e);
		t->since_index_bytes = 0;
	}
	t->since_index_bytes += b->size_bytes;
	return rc;
}

/* The entry of the transaction that this marker aborts. */
static int keep_aborted(struct log_clean *c, const struct batch *b, struct err *e)
{
	struct target *t = &c->to;
	for (size_t i = 0; i < c->shape->aborted_count; i++) {
		const struct aborted_txn *a = &c->shape->aborted[i];
		if (a->last_offset != batch_last_offset(b) || a->producer_id != b->producer_id)
			continue;
		if (t->aborted_count == t->aborted_cap) {
			size_t cap = t->aborted_cap ? 2 * t->aborted_cap : 16;
			struct aborted_txn *more = realloc(t->aborted, cap * sizeof *more);
			if (!more)
				return err_set(e, ERR_NO_MEMORY, "no memory for aborted transactions");
			t->aborted = more;
			t->aborted_cap = cap;
		}
		t->aborted[t->aborted_count++] = *a;
		break;
	}
	return 0;
}

static int copy_batch(struct log_clean *c, const struct batch *b, const uint8_t *bytes, struct err *e)
{
	struct target *t = &c->to;
	struct batch left;
	bool is_left, aborted;
	size_t at = t->out.len;
	int rc = clean_filter_batch(&c->filter, b, bytes, log_is_aborted(c->shape, b), &t->out, &left, &is_left, &aborted, e);
	if (rc == 0 && aborted)
		rc = keep_aborted(c, b, e);
	if (rc < 0 || !is_left)
		return rc;
	if (t->size_bytes + t->out.len > INT32_MAX)
		return err_set(e, ERR_TOO_LARGE, "%s: what is left of the segment at offset %" PRId64 " is larger than a segment can be", c->log->name, t->base);
	rc = index_batch(c, &left, t->size_bytes + (uint32_t)at, e);
	return rc == 0 && t->out.len >= c->conf.io_bytes ? flush_out(c, e) : rc;
}

/* What was the last change of the last of the old ones is the new one's: retention goes by it where records have no time. */
static void keep_time(struct log_clean *c)
{
	char path[PATH_MAX];
	struct stat st;
	segment_path(c->log->dir, c->shape->segment[c->group_end - 1]->base_offset, ".log", path, sizeof path);
	if (io_stat(path, &st) == 0)
		io_set_mtime(c->to.fd, &st.st_mtim);
}

/* All of it is on disk, names too. */
static int sync_target(struct log_clean *c, struct err *e)
{
	struct target *t = &c->to;
	char path[PATH_MAX];
	int sys = io_fsync(t->fd), rc;
	if (sys == 0)
		sys = io_fsync(t->index.e.fd);
	if (sys == 0)
		sys = io_fsync(t->times.e.fd);
	if (sys < 0)
		return err_sys(e, sys, "cannot flush %s/%020" PRId64 ".log.cleaned", c->log->dir, t->base);
	if ((rc = enter(c, e)) < 0)
		return rc;
	target_path(c, ".txnindex", path);
	if (t->aborted_count)
		rc = txnindex_write(path, t->aborted, t->aborted_count, e);
	c->guard->leave(c->guard->arg);
	sys = rc == 0 ? io_fsync_dir(c->log->dir) : 0;
	return sys < 0 ? err_sys(e, sys, "cannot sync %s", c->log->dir) : rc;
}

static int remove_target(struct log_clean *c, struct err *e)
{
	if (!c->to.made)
		return 0;
	close_target(&c->to);
	int rc = c->guard->enter(c->guard->arg, e);
	if (rc < 0)
		return rc;
	rc = clean_remove(c->log->dir, c->to.base, e);
	c->guard->leave(c->guard->arg);
	c->to.made = false;
	return rc;
}

static int end_group(struct log_clean *c, struct err *e)
{
	struct target *t = &c->to;
	struct clean_swap swap = {.log = c->log, .guard = c->guard, .old = c->shape->segment + c->group, .old_count = c->group_end - c->group, .aborted = t->aborted,
				  .aborted_count = t->aborted_count, .max_timestamp_ms = t->max_timestamp_ms, .max_timestamp_offset = t->max_timestamp_offset};
	int rc = flush_out(c, e);
	swap.size_bytes = t->size_bytes;
	if (rc == 0)
		rc = time_index_append(&t->times, t->max_timestamp_ms, t->max_timestamp_offset, e);
	if (rc == 0 && t->size_bytes) {
		keep_time(c);
		rc = sync_target(c, e);
		if (rc == 0)
			close_target(t);
	} else if (rc == 0) {
		rc = remove_target(c, e);
	}
	if (rc == 0)
		rc = clean_swap_run(&swap, e);
	c->committed = swap.committed;
	if (rc < 0)
		return rc;
	t->made = c->committed = false;
	c->group = c->at = c->group_end;
	return 0;
}

/* Whether what is left of the groups is past what the map knows. */
static bool is_over(const struct log_clean *c)
{
	return c->group == c->shape->segment_count || c->shape->segment[c->group]->base_offset > c->map.latest;
}

static int copy_step(struct log_clean *c, struct err *e)
{
	struct batch b;
	const uint8_t *bytes;
	int rc = 0;
	if (c->group == c->group_end && (rc = begin_group(c, e)) < 0)
		return rc;
	if (!c->pinned && (rc = start_reading(c, 0, e)) < 0)
		return rc;
	rc = next_batch(c, &b, &bytes, e);
	if (rc == 1)
		return copy_batch(c, &b, bytes, e);
	if (rc < 0)
		return rc;
	stop_reading(c);
	return ++c->at == c->group_end ? end_group(c, e) : 0;
}

/* ---- all of it ---- */

static int prepare(struct log_clean *c, int64_t now_ms, struct err *e)
{
	struct log *l = c->log;
	int rc = enter(c, e);
	if (rc < 0)
		return rc;
	bool sync = !l->views_gone;
	if (sync)
		rc = log_remove_views(l, e);
	c->producers = rc == 0 ? producers_copy(l->producers) : NULL;
	c->shape = log_shape_take(l);
	int64_t leo = l->leo;
	c->guard->leave(c->guard->arg);
	if (rc == 0 && !c->producers)
		rc = err_set(e, ERR_NO_MEMORY, "no memory to clean %s", l->name);
	int sys = rc == 0 && sync ? io_fsync_dir(l->dir) : 0;
	if (sys < 0)
		rc = err_sys(e, sys, "cannot sync %s", l->dir);
	if (rc == 0)
		rc = log_flush(l, leo, e);
	if (rc == 0)
		rc = clean_map_init(&c->map, c->conf.map_bytes, c->conf.load_factor, (uint64_t)(c->plan.end - c->plan.first_dirty), e);
	if (rc < 0)
		return rc;
	l->views_gone = true;
	c->at = floor_of(c->shape, c->plan.first_dirty);
	c->filter.map = &c->map;
	c->filter.producers = c->producers;
	c->filter.end_offset = c->plan.end;
	c->filter.now_ms = now_ms;
	c->filter.delete_retention_ms = c->conf.delete_retention_ms;
	return 0;
}

int log_clean_begin(struct log_clean **out, struct log *l, const struct clean_plan *plan, const struct clean_conf *conf, const struct clean_guard *guard, int64_t now_ms,
		    struct err *e)
{
	struct log_clean *c = calloc(1, sizeof *c);
	*out = NULL;
	if (!c)
		return err_set(e, ERR_NO_MEMORY, "no memory to clean %s", l->name);
	c->log = l;
	c->guard = guard;
	c->conf = *conf;
	if (c->conf.io_bytes < LEAST_IO_BYTES)
		c->conf.io_bytes = LEAST_IO_BYTES;
	c->plan = *plan;
	c->to.fd = c->to.index.e.fd = c->to.times.e.fd = -1;
	clean_filter_init(&c->filter);
	wr_init(&c->to.out, INT32_MAX);
	int rc = plan->end > plan->first_dirty ? prepare(c, now_ms, e) : err_set(e, ERR_INVALID, "nothing of %s is to be cleaned", l->name);
	if (rc < 0)
		log_clean_free(c);
	else
		*out = c;
	return rc;
}

int log_clean_step(struct log_clean *c, uint64_t bytes, struct err *e)
{
	uint64_t until = c->stats.bytes_read + c->stats.bytes_written + bytes;
	int rc = 0;
	while (rc == 0 && (!c->mapped || !is_over(c)) && c->stats.bytes_read + c->stats.bytes_written < until)
		rc = c->mapped ? copy_step(c, e) : map_step(c, e);
	if (rc < 0)
		return rc;
	return !c->mapped || !is_over(c);
}

int64_t log_clean_end(const struct log_clean *c)
{
	return c->map.latest + 1;
}

void log_clean_stats(const struct log_clean *c, struct clean_stats *s)
{
	*s = c->stats;
	s->records_read = c->filter.records_read;
	s->records_kept = c->filter.records_kept;
	s->keyless = c->filter.keyless;
}

void log_clean_free(struct log_clean *c)
{
	if (!c)
		return;
	stop_reading(c);
	if (c->to.made && !c->committed)
		remove_target(c, NULL);
	close_target(&c->to);
	wr_release(&c->to.out);
	free(c->to.aborted);
	if (c->shape)
		log_shape_drop(c->log, c->shape);
	producers_free(c->producers);
	clean_map_release(&c->map);
	clean_filter_release(&c->filter);
	free(c);
}
