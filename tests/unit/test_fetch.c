/* From offsets and times to what lies in the segments, held against a naive look at the files. */
#include "tests/unit/log_fixture.h"

#include "store/clock.h"
#include "store/fetch.h"
#include "store/scan.h"

/* ---- the naive look: every batch of every segment, in a list ---- */

struct seen { int64_t base, last; uint32_t position, size; int64_t segment; uint8_t *bytes; struct batch batch; };
struct naive { struct seen *b; size_t count; uint32_t biggest; };

static void naive_release(struct naive *n)
{
	for (size_t i = 0; i < n->count; i++)
		free(n->b[i].bytes);
	free(n->b);
	*n = (struct naive){0};
}

static void naive_read(struct naive *n, struct log *l)
{
	struct err e = ERR_INIT;
	naive_release(n);
	struct log_shape *s = log_shape_take(l);
	for (size_t i = 0; i < s->segment_count; i++) {
		struct segment *g = s->segment[i];
		struct scan scan;
		struct batch b;
		const uint8_t *bytes;
		uint32_t position;
		int rc;
		assert_int_equal(segment_pin(g, &e), 0);
		scan_init(&scan, g->fd, 0, g->size_bytes, 0);
		while ((rc = scan_next(&scan, &b, &bytes, &position, &e)) == 1) {
			n->b = realloc(n->b, (n->count + 1) * sizeof *n->b);
			n->b[n->count] = (struct seen){b.base_offset, batch_last_offset(&b), position, b.size_bytes, g->base_offset, malloc(b.size_bytes), b};
			memcpy(n->b[n->count++].bytes, bytes, b.size_bytes);
			n->biggest = b.size_bytes > n->biggest ? b.size_bytes : n->biggest;
		}
		assert_int_equal(rc, 0);
		scan_release(&scan);
		segment_unpin(g);
	}
	log_shape_drop(l, s);
}

/* What the ranges hold; to be freed. */
static uint8_t *bytes_of(const struct log_fetch *f)
{
	uint8_t *all = malloc(f->bytes + 1), *p = all;
	for (uint32_t i = 0; i < f->range_count; i++) {
		const struct log_range *r = &f->range[i];
		assert_int_equal(pread(r->segment->fd, p, r->bytes, r->position), r->bytes);
		p += r->bytes;
	}
	assert_int_equal(p - all, f->bytes);
	return all;
}

static bool is_control_abort(const struct seen *x)
{
	int32_t epoch;
	return batch_is_control(&x->batch) && batch_control_type(&x->batch, x->bytes, &epoch, NULL) == 0;
}

/* As clients do with read_committed: a batch of a producer in the list, between the first offset and the abort marker, is not shown. first, end: what was fetched. */
static void check_aborts(struct fx *f, const struct naive *n, size_t first, size_t end, const struct log_fetch *x)
{
	int64_t pid[64];
	size_t out = 0;
	bool *used = calloc(x->abort_count + 1, sizeof *used);
	for (size_t i = first; i < end; i++) {
		const struct seen *b = &n->b[i];
		for (uint32_t k = 0; k < x->abort_count; k++)
			if (!used[k] && x->abort[k].first_offset <= b->last) {
				used[k] = true;
				pid[out++] = x->abort[k].producer_id;
				assert_true(out < 64);
			}
		size_t at = 0;
		while (at < out && pid[at] != b->batch.producer_id)
			at++;
		bool hidden = at < out && batch_is_transactional(&b->batch);
		if (hidden && is_control_abort(b))
			pid[at] = pid[--out];
		if (batch_is_control(&b->batch))
			continue;
		const struct item *it = &f->m.item[b->base]; /* without gaps an offset is an index */
		assert_int_equal(it->offset, b->base);
		if (hidden != (it->txn >= 0 && f->m.txn[it->txn].outcome == ABORTED))
			fail_msg("the batch at %" PRId64 " is %s by the aborted transactions", b->base, hidden ? "hidden" : "shown");
	}
	free(used);
}

/* One fetch, against the batches there are. */
static void check_fetch(struct fx *f, const struct naive *n, int64_t offset, int64_t bound, uint32_t max_bytes, bool min_one, bool aborted)
{
	struct log_fetch x = {.offset = offset, .bound = bound, .max_bytes = max_bytes, .min_one = min_one, .aborted = aborted, .wait = true};
	f->err = (struct err)ERR_INIT;
	if (log_fetch(f->log, &x, &f->err) != 0)
		fail_msg("log_fetch at %" PRId64 ": %s", offset, f->err.text);
	size_t first = 0, end;
	while (first < n->count && n->b[first].last < offset)
		first++;
	if (offset >= bound || first == n->count || n->b[first].last >= bound) {
		assert_int_equal(x.bytes, 0);
		assert_int_equal(x.range_count, 0);
		return;
	}
	uint8_t *all = bytes_of(&x), *p = all;
	for (end = first; end < n->count && p < all + x.bytes; end++) {
		const struct seen *b = &n->b[end];
		if (p + b->size > all + x.bytes || memcmp(p, b->bytes, b->size))
			fail_msg("fetch at %" PRId64 ": not the batch at %" PRId64, offset, b->base);
		assert_true(b->last < bound);
		p += b->size;
	}
	assert_ptr_equal(p, all + x.bytes);
	bool more = end < n->count && n->b[end].last < bound;
	assert_true(x.cut == more || (x.cut && x.range_count == FETCH_RANGES));
	assert_true(x.bytes <= max_bytes || (min_one && end == first + 1));
	if (min_one)
		assert_true(x.bytes > 0);
	/* not much less than what was asked for: where it is cut by size, the next batch would not fit, or no index entry is nearer */
	if (more && x.range_count < FETCH_RANGES)
		assert_true((uint64_t)x.bytes + n->b[end].size > max_bytes || max_bytes - x.bytes <= (uint64_t)f->limits.interval_bytes + 2 * n->biggest);
	for (uint32_t i = 0; i < x.abort_count; i++)
		assert_true(aborted && x.abort[i].first_offset < bound);
	if (aborted)
		check_aborts(f, n, first, end, &x);
	free(all);
	log_fetch_release(&x);
	log_fetch_release(&x);
}

static uint32_t some_size(void)
{
	switch (below(5)) {
	case 0:
		return (uint32_t)below(200);
	case 1:
		return (uint32_t)below(5000);
	case 2:
		return (uint32_t)below(40000);
	case 3:
		return 1 << 20;
	default:
		return INT32_MAX;
	}
}

/* Every offset, with bounds and sizes of all kinds. */
static void check_every_offset(struct fx *f, bool transactions, size_t step)
{
	struct naive n = {0};
	naive_read(&n, f->log);
	int64_t leo = f->log->leo, stable = log_last_stable(f->log);
	for (int64_t offset = f->log->start_offset; offset <= leo; offset += 1 + (int64_t)below(step)) {
		check_fetch(f, &n, offset, leo, INT32_MAX, true, false);
		check_fetch(f, &n, offset, leo, some_size(), below(2), false);
		check_fetch(f, &n, offset, offset + (int64_t)below((size_t)(leo - offset) + 1), some_size(), below(2), false); /* maybe within a batch */
		if (transactions && offset <= stable)
			check_fetch(f, &n, offset, stable, some_size(), below(2), true);
	}
	naive_release(&n);
}

static const struct log_limits small = {.segment_bytes = 40000, .index_bytes = 1 << 20, .interval_bytes = 4096, .segment_ms = INT64_MAX};

static void test_every_offset(void **state)
{
	(void)state;
	for (int round = 0; round < 4; round++) {
		struct fx f;
		struct log_limits limits = small;
		limits.interval_bytes = round == 1 ? 100 : round == 2 ? INT32_MAX : 4096; /* many index entries; none */
		limits.segment_bytes = round == 3 ? 1 << 20 : 40000;
		fx_init(&f, &limits);
		fx_open(&f);
		check_every_offset(&f, true, 1); /* empty */
		fx_mixture(&f, 250, true);
		check_every_offset(&f, true, 3);
		fx_close(&f);
		fx_open(&f);
		check_every_offset(&f, true, 40);
		int t = fx_begin(&f, 99); /* one that is open: the stable end is inside */
		fx_records(&f, CODEC_NONE, 5, 100, t);
		fx_mixture(&f, 60, true);
		check_every_offset(&f, true, 9);
		fx_end(&f, t, false);
		check_every_offset(&f, true, 9);
		/* the start within a batch and within a segment */
		model_build(&f.m);
		int64_t start = f.m.leo / 2 + 1, position;
		assert_int_equal(log_position_of(f.log, start, &position, &f.err), 0);
		assert_int_equal(log_set_start(f.log, start, position, &f.err), 0);
		check_every_offset(&f, true, 9);
		struct log_fetch x = {.offset = start - 1, .bound = f.log->leo, .max_bytes = 100, .wait = true};
		assert_int_equal(log_fetch(f.log, &x, &f.err), ERR_OUT_OF_RANGE);
		fx_release(&f);
	}
}

/* Compaction takes batches, records at a batch's end, whole middles and ends of segments. */
static void punch(struct fx *f, int64_t base)
{
	char *path = fx_file(f, base, ".log");
	size_t n, kept = 0;
	char *bytes = slurp(path, &n);
	struct batch b;
	for (size_t at = 0; at < n; at += b.size_bytes) {
		assert_int_equal(batch_decode(&b, bytes + at, n - at, (uint32_t)(n - at), &f->err), 0);
		bool last = at + b.size_bytes == n;
		if (below(3) == 0 && !(last && kept == 0)) /* a segment keeps one at least */
			continue;
		memmove(bytes + kept, bytes + at, b.size_bytes);
		kept += b.size_bytes;
	}
	spit(path, bytes, kept);
	free(bytes);
	static const char *const derived[] = {".index", ".timeindex", ".view"};
	for (size_t i = 0; i < 3; i++)
		unlink(fx_file(f, base, derived[i]));
}

static void test_gaps(void **state)
{
	(void)state;
	for (int round = 0; round < 4; round++) {
		struct fx f;
		int64_t base[256];
		struct log_limits limits = small;
		limits.segment_bytes = 16384;
		fx_init(&f, &limits);
		fx_open(&f);
		fx_mixture(&f, 200, false);
		size_t count = f.log->shape->segment_count - 1;
		assert_true(count > 3 && count < 256);
		for (size_t i = 0; i < count; i++)
			base[i] = f.log->shape->segment[i]->base_offset;
		fx_close(&f);
		for (size_t i = 0; i < count; i++)
			punch(&f, base[i]);
		f.has_row = false;
		f.gaps = f.clean = f.foreign = true; /* as another Kafka leaves it */
		fx_open(&f);
		assert_true(f.log->shape->segment_count > 3);
		check_every_offset(&f, false, 2);
		fx_release(&f);
	}
}

/* An index that points to other places than batches costs time, nothing else. */
static void test_wrong_index(void **state)
{
	(void)state;
	struct fx f;
	struct log_limits limits = small;
	limits.interval_bytes = 500;
	fx_init(&f, &limits);
	fx_open(&f);
	fx_mixture(&f, 150, false);
	int64_t base = f.log->shape->segment[1]->base_offset;
	fx_close(&f);
	size_t n;
	char *path = fx_file(&f, base, ".index"), *bytes = slurp(path, &n);
	assert_true(n > 64);
	for (size_t at = 0; at + 24 < n; at += 8)
		be32_put(bytes + at + 4, be32_get(bytes + at + 4) + 1 + (uint32_t)below(3));
	spit(path, bytes, n);
	free(bytes);
	fx_open(&f);
	diag_set_level(DIAG_ERROR);
	check_every_offset(&f, false, 3);
	fx_release(&f);
}

/* ---- without system calls ---- */

static size_t calls;

static ssize_t count_calls(void *arg, enum io_call call, const char *name, int fd, size_t bytes)
{
	(void)arg, (void)call, (void)name, (void)fd, (void)bytes;
	calls++;
	return 0;
}

static size_t calls_of(struct fx *f, int64_t offset, int64_t bound, uint32_t max_bytes, uint32_t *got)
{
	struct log_fetch x = {.offset = offset, .bound = bound, .max_bytes = max_bytes, .min_one = true, .wait = true};
	calls = 0;
	io_set_hook(count_calls, NULL);
	assert_int_equal(log_fetch(f->log, &x, &f->err), 0);
	io_set_hook(NULL, NULL);
	*got = x.bytes;
	log_fetch_release(&x);
	return calls;
}

static double ns_of(struct fx *f, int64_t offset, int64_t bound, uint32_t max_bytes)
{
	enum { TIMES = 20000 };
	mono_t begin = mono_now();
	for (int i = 0; i < TIMES; i++) {
		struct log_fetch x = {.offset = offset, .bound = bound, .max_bytes = max_bytes, .min_one = true};
		assert_int_equal(log_fetch(f->log, &x, &f->err), 0);
		log_fetch_release(&x);
	}
	return (double)mono_diff_ns(mono_now(), begin) / TIMES;
}

static void test_calls(void **state)
{
	(void)state;
	struct fx f;
	uint32_t got;
	int64_t end[20];
	fx_init(&f, NULL);
	fx_open(&f);
	for (int i = 0; i < 200; i++)
		fx_lines(&f, CODEC_NONE, 50, 100);
	fx_lines(&f, CODEC_LZ4, 10, 30);
	for (int i = 0; i < 20; i++) {
		end[i] = f.log->leo;
		fx_lines(&f, CODEC_LZ4, 10, 30);
		assert_int_equal(calls_of(&f, f.log->leo, f.log->leo, 1 << 20, &got), 0); /* the tail */
		assert_int_equal(got, 0);
		for (int k = 0; k <= i; k++) /* from the end of an append on, to the end of any later one */
			for (int j = k; j <= i; j++) {
				assert_int_equal(calls_of(&f, end[k], j == i ? (int64_t)f.log->leo : end[j + 1], 1 << 20, &got), 0);
				assert_true(got > 0);
			}
	}
	int64_t leo = f.log->leo;
	fx_reopen(&f); /* where nothing was appended yet the end is known all the same */
	calls_of(&f, 77, leo, 1 << 20, &got); /* opens the segment's files */
	assert_int_equal(calls_of(&f, leo, leo, 1 << 20, &got), 0);
	size_t from_index = calls_of(&f, leo / 2 + 7, leo, 1 << 30, &got), cut = calls_of(&f, leo / 2 + 7, leo, 100000, &got);
	assert_true(from_index <= 2);
	assert_true(cut <= 4);
	calls_of(&f, 100, leo / 3, 1 << 30, &got);
	assert_true(calls_of(&f, 100, leo / 3, 1 << 30, &got) <= 2); /* the bound is remembered */
	fx_text(&f, CODEC_NONE, "new\n", 4);
	print_message("fetch at the tail: %.0f ns; of what was appended last: %.0f ns, no call; through the index: %.0f ns, %zu calls; and cut: %.0f ns, %zu calls\n",
		      ns_of(&f, f.log->leo, f.log->leo, 1 << 20), ns_of(&f, leo, f.log->leo, 1 << 20), ns_of(&f, leo / 2 + 7, f.log->leo, 1 << 30), from_index,
		      ns_of(&f, leo / 2 + 7, f.log->leo, 100000), cut);
	fx_release(&f);
}

/* ---- ranges outlive their segments ---- */

static void test_held(void **state)
{
	(void)state;
	struct fx f;
	struct naive n = {0};
	fx_init(&f, &small);
	segment_cache_free(f.cache);
	f.cache = segment_cache_new(2); /* the files of few segments stay open */
	fx_open(&f);
	fx_mixture(&f, 150, false);
	naive_read(&n, f.log);
	struct log_fetch x[40];
	size_t count = 0;
	for (; count < 40; count++) {
		x[count] = (struct log_fetch){.offset = (int64_t)below((size_t)f.log->leo), .bound = f.log->leo, .max_bytes = 30000, .min_one = true, .wait = true};
		assert_int_equal(log_fetch(f.log, &x[count], &f.err), 0);
	}
	struct log_fetch closed = {.bound = f.log->leo, .max_bytes = 1};
	int64_t position;
	assert_int_equal(log_position_of(f.log, f.log->leo, &position, &f.err), 0);
	assert_int_equal(log_roll(f.log, &f.err), 0);
	assert_int_equal(log_set_start(f.log, f.log->leo, position, &f.err), 0);
	assert_int_equal(log_remove_deleted(f.log, &f.err), 0);
	assert_int_equal(f.log->shape->segment_count, 1);
	for (size_t i = 0; i < count; i++) {
		uint8_t *all = bytes_of(&x[i]);
		size_t first = 0;
		while (n.b[first].last < x[i].offset)
			first++;
		assert_memory_equal(all, n.b[first].bytes, n.b[first].size);
		free(all);
		log_fetch_release(&x[i]);
	}
	assert_int_equal(segment_cache_open_count(f.cache), 1);
	assert_int_equal(log_fetch(f.log, &closed, &f.err), ERR_OUT_OF_RANGE);
	naive_release(&n);
	fx_release(&f);
}

/* Without wait a segment whose files are closed is left to others; what is open is given. */
static void test_would_block(void **state)
{
	(void)state;
	struct fx f;
	struct log_limits limits = small;
	limits.segment_bytes = 16384;
	fx_init(&f, &limits);
	fx_open(&f);
	fx_mixture(&f, 200, false);
	fx_reopen(&f);
	struct log_fetch x = {.bound = f.log->leo, .max_bytes = 1 << 20};
	assert_int_equal(log_fetch(f.log, &x, &f.err), 1);
	x.wait = true;
	x.max_bytes = 1;
	x.min_one = true;
	assert_int_equal(log_fetch(f.log, &x, &f.err), 0);
	log_fetch_release(&x);
	x.wait = false;
	x.max_bytes = 1 << 20;
	assert_int_equal(log_fetch(f.log, &x, &f.err), 0);
	assert_true(x.bytes > 0 && x.cut && x.range_count == 1);
	log_fetch_release(&x);
	fx_release(&f);
}

/* ---- times ---- */

static void check_time(struct fx *f, int64_t timestamp_ms)
{
	struct log_offset found;
	int64_t offset = -1, at = -1;
	for (size_t i = 0; i < f->m.count && offset < 0; i++)
		if (f->m.item[i].offset >= f->m.start_offset && f->m.item[i].timestamp_ms >= timestamp_ms) {
			offset = f->m.item[i].offset;
			at = f->m.item[i].timestamp_ms;
		}
	if (log_offset_of_time(f->log, timestamp_ms, &found, &f->err) < 0)
		fail_msg("log_offset_of_time: %s", f->err.text);
	if (found.offset != offset || found.timestamp_ms != at)
		fail_msg("time %" PRId64 " gave %" PRId64 " at %" PRId64 ", not %" PRId64 " at %" PRId64, timestamp_ms, found.offset, found.timestamp_ms, offset, at);
	assert_int_equal(found.leader_epoch, offset < 0 ? -1 : f->epoch);
}

static void check_max_time(struct fx *f)
{
	struct log_offset found;
	int64_t offset = -1, at = -1;
	for (size_t i = 0; i < f->m.count; i++)
		if (f->m.item[i].offset >= f->m.start_offset && f->m.item[i].timestamp_ms > at) {
			offset = f->m.item[i].offset;
			at = f->m.item[i].timestamp_ms;
		}
	assert_int_equal(log_offset_of_max_time(f->log, &found, &f->err), 0);
	assert_int_equal(found.offset, offset);
	assert_int_equal(found.timestamp_ms, at);
}

static void check_times(struct fx *f)
{
	for (int i = 0; i < 150 && f->m.count; i++)
		check_time(f, f->m.item[below(f->m.count)].timestamp_ms - 1 + (int64_t)below(3));
	check_time(f, 0);
	check_time(f, INT64_MAX);
	check_max_time(f);
}

static void test_times(void **state)
{
	(void)state;
	for (int round = 0; round < 4; round++) {
		struct fx f;
		fx_init(&f, &small);
		f.epoch = 3;
		fx_open(&f);
		check_times(&f);
		for (int i = 0; i < 20; i++) {
			fx_mixture(&f, 12, true);
			if (round % 2) /* clocks go back */
				f.now_ms -= (int64_t)below(40000);
		}
		check_times(&f);
		fx_reopen(&f);
		check_times(&f);
		model_build(&f.m);
		for (int i = 0; i < 8 && f.m.start_offset < f.m.leo; i++) {
			int64_t position, to = f.m.start_offset + 1 + (int64_t)below((size_t)(f.m.leo - f.m.start_offset) / 3 + 1);
			assert_int_equal(log_position_of(f.log, to, &position, &f.err), 0);
			assert_int_equal(log_set_start(f.log, to, position, &f.err), 0);
			f.m.start_offset = to;
			check_times(&f);
		}
		fx_release(&f);
	}
}

/* The newest record is deleted, its segment is not: what is left counts. */
static void test_max_time_below_start(void **state)
{
	(void)state;
	struct fx f;
	fx_init(&f, NULL);
	fx_open(&f);
	fx_text(&f, CODEC_NONE, "a\nb\n", 4);
	f.now_ms += 1000000;
	fx_text(&f, CODEC_NONE, "newest\n", 7);
	f.now_ms -= 500000;
	fx_text(&f, CODEC_ZSTD, "c\nd\n", 4);
	f.now_ms -= 100000;
	fx_text(&f, CODEC_NONE, "e\n", 2);
	check_max_time(&f);
	for (int64_t to = 3; to <= 6; to++) {
		int64_t position;
		assert_int_equal(log_position_of(f.log, to, &position, &f.err), 0);
		assert_int_equal(log_set_start(f.log, to, position, &f.err), 0);
		f.m.start_offset = to;
		check_max_time(&f);
	}
	fx_release(&f);
}

/* ---- epochs ---- */

static void check_end(struct fx *f, int32_t leader_epoch, int32_t asked, int32_t epoch, int64_t end)
{
	int32_t found;
	int64_t at;
	log_epoch_end(f->log, leader_epoch, asked, &found, &at);
	assert_int_equal(found, epoch);
	assert_int_equal(at, end);
}

/* As the leader's own epoch begins at its log end at once, though nothing of it is in the log. */
static void test_epochs(void **state)
{
	(void)state;
	struct fx f;
	struct log_offset found;
	fx_init(&f, NULL);
	fx_open(&f);
	check_end(&f, 0, 0, 0, 0);
	check_end(&f, 2, 1, 1, 0); /* before the first one known: where that begins */
	check_end(&f, 2, 3, -1, -1);
	check_end(&f, 2, -1, -1, -1);
	log_offset_of_start(f.log, 4, &found);
	assert_int_equal(found.offset, 0);
	assert_int_equal(found.leader_epoch, 4);
	f.epoch = 2;
	fx_text(&f, CODEC_NONE, "a\nb\n", 4);
	f.epoch = 5;
	fx_text(&f, CODEC_NONE, "c\n", 2);
	for (int32_t leader = 5; leader < 9; leader += 3) {
		check_end(&f, leader, 1, 1, 0);
		check_end(&f, leader, 2, 2, 2);
		check_end(&f, leader, 3, 2, 2);
		check_end(&f, leader, 4, 2, 2);
		check_end(&f, leader, 5, 5, 3);
		check_end(&f, leader, 9, -1, -1);
	}
	check_end(&f, 8, 6, 5, 3);
	check_end(&f, 8, 8, 8, 3);
	check_end(&f, 5, 6, -1, -1);
	log_offset_of_start(f.log, 8, &found);
	assert_int_equal(found.leader_epoch, 2);
	assert_int_equal(log_set_start(f.log, 2, 4, &f.err), 0);
	log_offset_of_start(f.log, 8, &found);
	assert_int_equal(found.offset, 2);
	assert_int_equal(found.leader_epoch, 5);
	fx_release(&f);
}

/* ---- records ---- */

struct taken { struct fx *f; size_t at; int64_t to; size_t stop; };

static int take(void *arg, const struct batch *b, const struct record *r)
{
	struct taken *t = arg;
	const struct item *i = &t->f->m.item[t->at];
	assert_int_equal(r->offset, i->offset);
	assert_true(r->offset < t->to);
	assert_int_equal(batch_is_control(b), i->control);
	assert_int_equal(r->timestamp_ms, i->timestamp_ms);
	if (!i->control) {
		assert_int_equal(r->value_len, i->value ? (int32_t)i->len : -1);
		if (i->value)
			assert_memory_equal(r->value, i->value, i->len);
	}
	t->at++;
	return t->at == t->stop ? 42 : 0;
}

static void test_records(void **state)
{
	(void)state;
	struct fx f;
	fx_init(&f, &small);
	fx_open(&f);
	fx_mixture(&f, 200, true);
	for (int i = 0; i < 60; i++) {
		int64_t from = (int64_t)below((size_t)f.m.leo), to = from + (int64_t)below((size_t)(f.m.leo - from) + 1);
		struct taken t = {.f = &f, .at = (size_t)from, .to = to, .stop = SIZE_MAX};
		assert_int_equal(log_scan_records(f.log, from, to, take, &t, &f.err), 0);
		assert_int_equal(t.at, to);
	}
	struct taken t = {.f = &f, .to = f.m.leo, .stop = 7};
	assert_int_equal(log_scan_records(f.log, 0, f.m.leo, take, &t, &f.err), 42);
	assert_int_equal(t.at, 7);
	/* damage is told */
	struct log_shape *s = f.log->shape;
	char *path = fx_file(&f, s->segment[1]->base_offset, ".log");
	int fd = open(path, O_RDWR);
	assert_int_equal(pwrite(fd, "x", 1, BATCH_HEADER_BYTES + 2), 1);
	close(fd);
	t = (struct taken){.f = &f, .to = f.m.leo, .stop = SIZE_MAX};
	assert_int_equal(log_scan_records(f.log, 0, f.m.leo, take, &t, &f.err), ERR_CORRUPT);
	assert_int_equal(t.at, s->segment[1]->base_offset);
	fx_release(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_offset), cmocka_unit_test(test_gaps), cmocka_unit_test(test_wrong_index), cmocka_unit_test(test_calls),
		cmocka_unit_test(test_held), cmocka_unit_test(test_would_block), cmocka_unit_test(test_times), cmocka_unit_test(test_max_time_below_start),
		cmocka_unit_test(test_epochs), cmocka_unit_test(test_records),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
