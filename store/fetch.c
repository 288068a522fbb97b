#include "store/fetch.h"

#include <inttypes.h>
#include <stdlib.h>

#include "store/scan.h"

enum {
	SHORT_SCAN_BYTES = 4096,
	CUT_SCAN_BYTES = 64 << 10, /* without an index entry to cut at, no more than this is looked through */
};

/* ---- where things are ---- */

/* A log at one moment. */
struct moment { struct log_shape *shape; int64_t start; };

static void take_moment(struct log *l, struct moment *m)
{
	m->shape = log_shape_take(l);
	m->start = l->start_offset; /* it is moved before segments go: what the shape does not have any more is below it */
}

/* true: what failed may have done so because segments have gone from the log since; to be tried anew. */
static bool drop_moment(struct log *l, struct moment *m, int rc)
{
	bool gone = false;
	if (rc < 0) {
		pthread_mutex_lock(&l->list_lock);
		gone = l->shape != m->shape || l->start_offset != m->start;
		pthread_mutex_unlock(&l->list_lock);
	}
	log_shape_drop(l, m->shape);
	return gone;
}

static int below_start(const struct log *l, int64_t offset, const struct moment *m, struct err *e)
{
	return offset < m->start ? err_set(e, ERR_OUT_OF_RANGE, "%s: offset %" PRId64 " is below the log start, %" PRId64, l->name, offset, m->start) : 0;
}

/* 1: its files are not open, and it may not wait. */
static int lend(struct segment *g, const struct log_fetch *f, struct err *e)
{
	return !f->wait && !g->open ? 1 : segment_lend(g, f->bound, e);
}

/* Where the batch that holds `offset`, or the first behind it, begins; UINT32_MAX: past this segment. */
static int find_begin(struct log *l, struct segment *g, int64_t offset, uint32_t *begin, struct err *e)
{
	struct batch b;
	*begin = 0;
	if (offset <= g->base_offset || places_find(&l->places, offset, g->serial, begin))
		return 0;
	int rc = segment_find_offset(g, offset, &b, begin, e);
	if (rc == 0)
		*begin = UINT32_MAX;
	return rc < 0 ? rc : 0;
}

/* Where the batches that end below `bound` end in segment i. */
static int find_end(struct log *l, const struct log_shape *s, size_t i, int64_t bound, uint32_t *end, struct err *e)
{
	struct batch b;
	struct segment *g = s->segment[i];
	bool there = bound <= l->leo; /* else the log was cut since the bound was asked for: its place is yet to come */
	uint32_t size = g->size_bytes; /* before it is searched: what comes meanwhile is not below bound */
	if (i + 1 < s->segment_count && s->segment[i + 1]->base_offset <= bound) {
		*end = size;
		return 0;
	}
	if (places_find(&l->places, bound, g->serial, end))
		return 0;
	int rc = segment_find_offset(g, bound, &b, end, e);
	if (rc < 0)
		return rc;
	if (rc == 0)
		*end = size;
	if (there)
		places_note_bound(&l->places, bound, g->serial, *end);
	return 0;
}

/* ---- ranges ---- */

/* Goes over headers from begin on for the last batch that ends within `room`; that is found soon, as there is no index entry in between. */
static int clip_by_scan(struct segment *g, uint32_t begin, uint32_t room, bool first_whole, uint32_t *end, int64_t *upper, struct err *e)
{
	struct scan scan;
	struct batch b;
	uint32_t position, to = begin;
	int rc;
	scan_init(&scan, g->fd, begin, *end, SHORT_SCAN_BYTES);
	while ((rc = scan_next_header(&scan, &b, &position, e)) == 1) {
		if (scan.at - begin > room && !(first_whole && to == begin))
			break;
		to = scan.at;
		*upper = batch_last_offset(&b) + 1;
		if (to - begin > room || to - begin >= CUT_SCAN_BYTES)
			break;
	}
	scan_release(&scan);
	*end = to;
	if (rc < 0)
		err_context(e, "%s/%020" PRId64 ".log", g->dir, g->base_offset);
	return rc < 0 ? rc : 0;
}

/* Takes whole batches off the end until the rest fits into what is left of max_bytes. upper: an offset that none of those left reaches. */
static int clip(struct segment *g, struct log_fetch *f, uint32_t begin, uint32_t *end, int64_t *upper, struct err *e)
{
	uint32_t room = f->max_bytes > f->bytes ? f->max_bytes - f->bytes : 0, at;
	int64_t last;
	const uint32_t all = *end;
	int rc = 0;
	if (all - begin <= room)
		return 0;
	if (offset_index_find_position(&g->index, begin + room, &last, &at) && at > begin && segment_entry_fits(g, last, at)) {
		*end = at;
		*upper = last;
	} else {
		rc = clip_by_scan(g, begin, room, f->min_one && !f->bytes, end, upper, e);
	}
	f->cut = *end < all;
	return rc;
}

/* What segment i has to give. 1: its files are not open. */
static int add_range(struct log *l, struct log_shape *s, size_t i, struct log_fetch *f, int64_t *upper, struct err *e)
{
	struct segment *g = s->segment[i];
	uint32_t begin, end = 0;
	int rc = lend(g, f, e);
	if (rc)
		return rc;
	rc = find_begin(l, g, f->offset, &begin, e);
	if (rc == 0)
		rc = find_end(l, s, i, f->bound, &end, e);
	if (rc == 0 && begin < end)
		rc = clip(g, f, begin, &end, upper, e);
	if (rc < 0 || begin >= end) {
		segment_unpin(g);
		return rc;
	}
	segment_ref(g);
	f->range[f->range_count++] = (struct log_range){g, begin, end - begin};
	f->bytes += end - begin;
	return 0;
}

/* Those that end at or behind the fetched offset and began before `upper`. */
static int add_aborts(const struct log_shape *s, struct log_fetch *f, int64_t upper, struct err *e)
{
	size_t from = log_first_abort(s, f->offset), to = from;
	/* who ends behind an entry's last stable offset began at or behind that */
	while (to < s->aborted_count && s->aborted[to++].last_stable_offset < upper)
		;
	if (from == to)
		return 0;
	if (!(f->abort = malloc((to - from) * sizeof *f->abort)))
		return err_set(e, ERR_NO_MEMORY, "no memory for %zu aborted transactions", to - from);
	for (; from < to; from++)
		if (s->aborted[from].first_offset < upper)
			f->abort[f->abort_count++] = (struct fetched_abort){s->aborted[from].producer_id, s->aborted[from].first_offset};
	return 0;
}

static int add_ranges(struct log *l, struct log_shape *s, struct log_fetch *f, struct err *e)
{
	int64_t upper = f->bound;
	size_t i = log_shape_index(s, f->offset);
	int rc = 0;
	f->cut = false;
	for (; i < s->segment_count && s->segment[i]->base_offset < f->bound && !f->cut && rc == 0; i++) {
		if (f->range_count == FETCH_RANGES) {
			f->cut = true;
			upper = s->segment[i]->base_offset;
			break;
		}
		rc = add_range(l, s, i, f, &upper, e);
		if (rc == 1 && f->bytes) { /* what can be had without it is enough for now */
			f->cut = true;
			upper = s->segment[i]->base_offset;
			rc = 0;
		}
	}
	if (rc == 0 && f->aborted && f->bytes)
		rc = add_aborts(s, f, upper, e);
	return rc;
}

int log_fetch(struct log *l, struct log_fetch *f, struct err *e)
{
	int rc = 0;
	f->range_count = f->bytes = f->abort_count = 0;
	f->abort = NULL;
	if (f->offset >= f->bound)
		return 0;
	struct moment m;
	do {
		take_moment(l, &m);
		rc = below_start(l, f->offset, &m, e);
		if (rc == 0 && (rc = add_ranges(l, m.shape, f, e)) != 0)
			log_fetch_release(f);
	} while (drop_moment(l, &m, rc) && rc != ERR_OUT_OF_RANGE);
	return rc;
}

void log_fetch_release(struct log_fetch *f)
{
	for (uint32_t i = 0; i < f->range_count; i++) {
		segment_unpin(f->range[i].segment);
		segment_unref(f->range[i].segment);
	}
	free(f->abort);
	f->abort = NULL;
	f->abort_count = f->range_count = f->bytes = 0;
}

/* ---- going through records ---- */

struct walk {
	struct scan scan;
	struct wr scratch;
};

/* Calls fn for the records in [from, to) of the batch at `bytes`, whose crc is checked. */
static int each_record(struct walk *w, const struct batch *b, const uint8_t *bytes, int64_t from, int64_t to, log_record_fn fn, void *arg, struct err *e)
{
	const uint8_t *area;
	struct record_iter it;
	struct record r;
	size_t n;
	if (!batch_crc_matches(b, bytes))
		return err_set(e, ERR_CORRUPT, "the batch at offset %" PRId64 " does not match its crc", b->base_offset);
	int rc = batch_records(b, bytes, &w->scratch, &area, &n, e);
	if (rc < 0)
		return rc;
	record_iter_init(&it, b, area, n);
	while ((rc = record_next(&it, &r, e)) == 1) {
		if (r.offset >= to)
			return 0;
		if (r.offset >= from && (rc = fn(arg, b, &r)) != 0)
			return rc;
	}
	return rc;
}

/* locks: a pin. */
static int scan_segment(struct log *l, const struct log_shape *s, size_t i, struct walk *w, int64_t from, int64_t to, log_record_fn fn, void *arg, struct err *e)
{
	struct segment *g = s->segment[i];
	struct batch b;
	const uint8_t *bytes;
	uint32_t begin, end, position;
	int rc = find_begin(l, g, from, &begin, e);
	if (rc == 0)
		rc = find_end(l, s, i, l->leo, &end, e);
	if (rc < 0 || begin >= end)
		return rc;
	scan_init(&w->scan, g->fd, begin, end, 0);
	while ((rc = scan_next(&w->scan, &b, &bytes, &position, e)) == 1 && b.base_offset < to)
		if ((rc = each_record(w, &b, bytes, from, to, fn, arg, e)) != 0)
			break;
	scan_release(&w->scan);
	return rc == 1 && b.base_offset >= to ? 0 : rc;
}

/* *next: where it has come to; with an error of a segment that could not be opened that is where it begins, so that one can go on. Else it is -1 after an error. */
static int scan_shape(struct log *l, const struct log_shape *s, int64_t *next, int64_t to, log_record_fn fn, void *arg, struct err *e)
{
	struct walk w;
	int rc = 0;
	wr_init(&w.scratch, 0);
	for (size_t i = log_shape_index(s, *next); rc == 0 && i < s->segment_count && s->segment[i]->base_offset < to; i++) {
		if ((rc = segment_pin(s->segment[i], e)) < 0)
			break;
		rc = scan_segment(l, s, i, &w, *next, to, fn, arg, e);
		segment_unpin(s->segment[i]);
		*next = rc == 0 && i + 1 < s->segment_count ? s->segment[i + 1]->base_offset : -1;
		if (rc < 0)
			err_context(e, "%s/%020" PRId64 ".log", s->segment[i]->dir, s->segment[i]->base_offset);
	}
	wr_release(&w.scratch);
	return rc;
}

int log_scan_records(struct log *l, int64_t from, int64_t to, log_record_fn fn, void *arg, struct err *e)
{
	int rc = 0;
	struct moment m;
	do {
		take_moment(l, &m);
		rc = below_start(l, from, &m, e);
		if (rc == 0)
			rc = scan_shape(l, m.shape, &from, to, fn, arg, e);
	} while (drop_moment(l, &m, rc) && rc != ERR_OUT_OF_RANGE && from >= 0);
	return rc;
}

/* ---- times ---- */

struct wanted_time { int64_t timestamp_ms; struct log_offset *found; };

static int is_late_enough(void *arg, const struct batch *b, const struct record *r)
{
	struct wanted_time *x = arg;
	if (r->timestamp_ms < x->timestamp_ms)
		return 0;
	*x->found = (struct log_offset){r->offset, r->timestamp_ms, b->leader_epoch >= 0 ? b->leader_epoch : -1};
	return 1;
}

/* Where a scan for times has to begin: at the last batch before which, by the time index, nothing is late enough; never before `start`. */
static uint32_t find_times(struct segment *g, int64_t timestamp_ms, int64_t start)
{
	int64_t ignored, offset = g->base_offset, entry;
	uint32_t begin;
	time_index_find(&g->times, timestamp_ms, &ignored, &offset);
	offset_index_find(&g->index, offset > start ? offset : start, &entry, &begin);
	return segment_entry_fits(g, entry, begin) ? begin : 0;
}

/* Hops over headers; only batches that claim such a record are read. 1: found; 0: none in this segment. */
static int scan_times(struct segment *g, uint32_t begin, uint32_t end, int64_t start, struct wanted_time *x, struct err *e)
{
	struct walk w;
	struct batch b;
	const uint8_t *bytes;
	uint32_t position;
	int rc;
	wr_init(&w.scratch, 0);
	scan_init(&w.scan, g->fd, begin, end, SHORT_SCAN_BYTES);
	while ((rc = scan_next_header(&w.scan, &b, &position, e)) == 1) {
		if (b.max_timestamp_ms < x->timestamp_ms || batch_last_offset(&b) < start)
			continue;
		w.scan.at = position;
		if ((rc = scan_next(&w.scan, &b, &bytes, &position, e)) != 1 || (rc = each_record(&w, &b, bytes, start, INT64_MAX, is_late_enough, x, e)) != 0)
			break;
	}
	scan_release(&w.scan);
	wr_release(&w.scratch);
	return rc;
}

/* The first record of segment i, at or past start, that is late enough: 1, 0: there is none. */
static int time_in_segment(struct log *l, const struct log_shape *s, size_t i, int64_t start, struct wanted_time *x, struct err *e)
{
	struct segment *g = s->segment[i];
	uint32_t end;
	int64_t leo = l->leo;
	if (leo <= g->base_offset)
		return 0;
	int rc = segment_pin(g, e);
	if (rc < 0)
		return rc;
	rc = find_end(l, s, i, leo, &end, e);
	if (rc == 0)
		rc = scan_times(g, find_times(g, x->timestamp_ms, start), end, start, x, e);
	segment_unpin(g);
	return rc;
}

/* The first record at or past start in the shape that is late enough: 1, 0: there is none. */
static int find_time(struct log *l, struct log_shape *s, int64_t start, struct wanted_time *x, struct err *e)
{
	int64_t newest;
	int rc = 0;
	for (size_t i = log_shape_index(s, start); i < s->segment_count && rc == 0; i++)
		if ((rc = segment_max_timestamp(s->segment[i], &newest, e)) == 0 && newest >= x->timestamp_ms)
			rc = time_in_segment(l, s, i, start, x, e);
	return rc;
}

/* The first segment, from `first` on, with the greatest timestamp; first_ms: what counts for that one, where it is not INT64_MAX. */
static int newest_segment(struct log_shape *s, size_t first, int64_t first_ms, size_t *index, int64_t *newest_ms, struct err *e)
{
	int64_t ms;
	*newest_ms = -1;
	for (size_t i = first; i < s->segment_count; i++) {
		int rc = segment_max_timestamp(s->segment[i], &ms, e);
		if (rc < 0)
			return rc;
		if (i == first && first_ms < ms)
			ms = first_ms;
		if (ms > *newest_ms) {
			*newest_ms = ms;
			*index = i;
		}
	}
	return 0;
}

static int note_newest(void *arg, const struct batch *b, const struct record *r)
{
	int64_t *newest_ms = arg;
	(void)b;
	if (r->timestamp_ms > *newest_ms)
		*newest_ms = r->timestamp_ms;
	return 0;
}

/* The first record at or past start with the greatest timestamp there: 1, 0: there is none. */
static int find_max_time(struct log *l, struct log_shape *s, int64_t start, struct wanted_time *x, struct err *e)
{
	int64_t first_ms = INT64_MAX, next = start;
	size_t first = log_shape_index(s, start), i = first;
	int rc;
	while ((rc = newest_segment(s, first, first_ms, &i, &x->timestamp_ms, e)) == 0 && x->timestamp_ms >= 0) {
		rc = time_in_segment(l, s, i, start, x, e);
		if (rc != 0 || i != first || first_ms != INT64_MAX || start <= s->segment[i]->base_offset)
			break;
		/* the first segment's newest record is below the log start: only those behind that count */
		first_ms = -1;
		if ((rc = scan_shape(l, s, &next, i + 1 < s->segment_count ? s->segment[i + 1]->base_offset : (int64_t)l->leo, note_newest, &first_ms, e)) < 0)
			break;
	}
	return rc;
}

static int find(struct log *l, int (*fn)(struct log *l, struct log_shape *s, int64_t start, struct wanted_time *x, struct err *e), struct wanted_time *x, struct err *e)
{
	int rc = 0;
	struct moment m;
	do {
		take_moment(l, &m);
		*x->found = (struct log_offset){-1, -1, -1};
		rc = fn(l, m.shape, m.start, x, e);
	} while (drop_moment(l, &m, rc));
	return rc < 0 ? rc : 0;
}

int log_offset_of_time(struct log *l, int64_t timestamp_ms, struct log_offset *found, struct err *e)
{
	return find(l, find_time, &(struct wanted_time){timestamp_ms, found}, e);
}

int log_offset_of_max_time(struct log *l, struct log_offset *found, struct err *e)
{
	return find(l, find_max_time, &(struct wanted_time){0, found}, e);
}

/* ---- epochs ---- */

void log_offset_of_start(struct log *l, int32_t leader_epoch, struct log_offset *found)
{
	pthread_mutex_lock(&l->list_lock);
	*found = (struct log_offset){l->start_offset, -1, -1};
	if (l->epochs.count && l->epochs.list[0].start_offset <= found->offset)
		found->leader_epoch = l->epochs.list[0].epoch;
	else if (!l->epochs.count && found->offset == l->leo)
		found->leader_epoch = leader_epoch;
	pthread_mutex_unlock(&l->list_lock);
}

void log_epoch_end(struct log *l, int32_t leader_epoch, int32_t epoch, int32_t *found_epoch, int64_t *end_offset)
{
	pthread_mutex_lock(&l->list_lock);
	int64_t leo = l->leo;
	int32_t last = epochs_last(&l->epochs);
	if (last < leader_epoch && epoch >= 0 && epoch >= last && epoch <= leader_epoch) {
		/* the present epoch has begun, at the end, and has no batch yet */
		*found_epoch = epoch == leader_epoch || last < 0 ? epoch : last;
		*end_offset = leo;
	} else {
		epochs_end_of(&l->epochs, epoch, leo, found_epoch, end_offset);
	}
	pthread_mutex_unlock(&l->list_lock);
}
