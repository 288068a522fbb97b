#include "tests/unit/follow_fixture.h"

#include <pthread.h>

#include "store/fetch.h"
#include "store/sequence.h"

/* The end of a log is cut: what is left is what a log would be that never had the rest, whoever reads meanwhile, and whatever goes wrong on the way. */

static struct fx f, other;
static struct source source;

static int setup(void **state)
{
	(void)state;
	fx_init(&f, NULL);
	fx_init(&other, NULL);
	f.limits.segment_bytes = other.limits.segment_bytes = 1 << 14;
	f.limits.interval_bytes = other.limits.interval_bytes = 700;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	io_set_hook(NULL, NULL);
	source_release(&source);
	fx_release(&f);
	fx_release(&other);
	return 0;
}

/* A log like f, with nothing in it. */
static void begin_again(struct fx *x)
{
	log_free(x->log);
	x->log = NULL;
	char command[300];
	snprintf(command, sizeof command, "rm -rf %s && mkdir %s", x->dir, x->dir);
	assert_int_equal(system(command), 0);
	x->has_row = false;
	x->recovery_point = 0;
	fx_open(x);
}

static void make_source(size_t rounds, bool transactions)
{
	f.epoch = 1;
	fx_open(&f);
	for (int i = 0; i < 4; i++, f.epoch++)
		for (size_t n = f.log->shape->segment_count; n == f.log->shape->segment_count;)
			fx_mixture(&f, rounds / 4, transactions);
	source_of(&source, f.log);
	assert_true(f.log->shape->segment_count > 3);
}

/* Of f's model what is below the offset. */
static void model_to(int64_t offset)
{
	model_cut(&f.m, offset);
	model_build(&f.m);
}

/* ---- every place ---- */

enum lag { PROJECTED, BEHIND, NEVER };

static void fill(struct fx *x, size_t n, enum lag lag)
{
	begin_again(x);
	for (size_t i = 0; i < n; i++) {
		follow(x, &source, i, i + 1);
		if (lag == PROJECTED)
			project_all(x);
		else if (lag == BEHIND && i % 7 == 0 && i + 20 < n) {
			int64_t stable = log_last_stable(x->log);
			assert_int_equal(log_project(x->log, stable, &x->err), 0);
		}
	}
}

/* All of source, cut so that `keep` batches stay: as if there had been no others. */
static void cut_and_compare(size_t keep, int64_t offset, enum lag lag)
{
	fill(&f, source.count, lag);
	int64_t end = keep ? source.batch[keep - 1].end : 0, bytes = keep ? (int64_t)(source.batch[keep - 1].at + source.batch[keep - 1].size) : 0;
	cut_log(&f, offset);
	assert_int_equal(f.log->leo, end);
	assert_int_equal(f.log->bytes, bytes);
	fill(&other, keep, lag == NEVER ? NEVER : PROJECTED);
	assert_int_equal(log_last_stable(f.log), log_last_stable(other.log));
	project_all(&f);
	project_all(&other);
	assert_int_equal(f.log->view_offset, other.log->view_offset);
	assert_int_equal(f.log->view_position, other.log->view_position);
	check_same_files(f.dir, other.dir, false);
	assert_int_equal(f.log->epochs.count, other.log->epochs.count);
	assert_int_equal(f.log->shape->aborted_count, other.log->shape->aborted_count);
	for (size_t i = 0; i < f.log->shape->aborted_count; i++)
		assert_memory_equal(&f.log->shape->aborted[i], &other.log->shape->aborted[i], sizeof(struct aborted_txn));
	/* both go on alike */
	follow(&f, &source, keep, source.count);
	follow(&other, &source, keep, source.count);
	project_all(&f);
	project_all(&other);
	check_ends(&f);
	check_sequential(&f, 30000);
	check_random(&f, 5, 900);
	check_places(&f, 1 + f.m.count / 8);
	check_same_files(f.dir, other.dir, false);
}

static void every_place(bool transactions, enum lag lag, size_t step)
{
	make_source(80, transactions);
	for (size_t keep = below(step); keep < source.count; keep += step) {
		const struct source_batch *b = &source.batch[keep];
		cut_and_compare(keep, b->base, lag);
		if (b->end - b->base > 1)
			cut_and_compare(keep, b->base + 1 + (int64_t)below((size_t)(b->end - b->base - 1)), lag);
	}
}

static void test_every_boundary(void **state)
{
	(void)state;
	every_place(false, PROJECTED, 1);
}

static void test_transactions(void **state)
{
	(void)state;
	every_place(true, PROJECTED, 1);
}

static void test_view_behind(void **state)
{
	(void)state;
	every_place(true, BEHIND, 3);
}

static void test_never_projected(void **state)
{
	(void)state;
	every_place(true, NEVER, 5);
}

/* Of one plain log the .view files too are those of a log that never had more. */
static void test_views_are_equal(void **state)
{
	(void)state;
	f.limits.segment_bytes = other.limits.segment_bytes = 1 << 20;
	fx_open(&f);
	fx_mixture(&f, 80, false);
	source_of(&source, f.log);
	for (size_t keep = 0; keep < source.count; keep += 3) {
		fill(&f, source.count, PROJECTED);
		cut_log(&f, source.batch[keep].base);
		fill(&other, keep, PROJECTED);
		check_same_files(f.dir, other.dir, true);
		for (size_t i = keep; i < source.count; i++) {
			follow(&f, &source, i, i + 1);
			project_all(&f);
			follow(&other, &source, i, i + 1);
			project_all(&other);
		}
		check_same_files(f.dir, other.dir, true);
	}
}

/* Nothing to cut: nothing changes, but that epochs without a batch go. */
static void test_nothing_to_cut(void **state)
{
	(void)state;
	make_source(40, true);
	uint64_t before = digest(f.dir);
	assert_int_equal(log_truncate(f.log, f.log->leo, &f.err), 0);
	assert_int_equal(log_truncate(f.log, INT64_MAX, &f.err), 0);
	assert_int_equal(digest(f.dir), before);
	pthread_mutex_lock(&f.log->list_lock);
	assert_int_equal(epochs_assign(&f.log->epochs, 50, f.log->leo), 1);
	pthread_mutex_unlock(&f.log->list_lock);
	assert_int_equal(log_truncate(f.log, f.log->leo, &f.err), 0);
	assert_int_equal(epochs_last(&f.log->epochs), 4);
	assert_int_equal(digest(f.dir), before);
}

/* A stop and a start behind a cut, clean or not. */
static void test_reopened(void **state)
{
	(void)state;
	make_source(80, true);
	for (size_t keep = 1; keep < source.count; keep += 2) {
		fill(&f, source.count, PROJECTED);
		assert_int_equal(log_flush(f.log, f.log->leo, &f.err), 0);
		f.recovery_point = f.log->flushed_offset;
		cut_log(&f, source.batch[keep].base);
		if (keep & 2)
			follow(&f, &source, keep, keep + 1);
		size_t count = keep + (keep & 2 ? 1 : 0);
		if (keep & 4) {
			fx_close(&f);
		} else {
			fx_crash(&f);
		}
		fx_open(&f);
		project_all(&f);
		assert_int_equal(f.log->leo, source.batch[count - 1].end);
		fill(&other, count, PROJECTED);
		assert_int_equal(log_last_stable(f.log), log_last_stable(other.log));
		assert_int_equal(f.log->view_position, other.log->view_position);
		follow(&f, &source, count, source.count);
		project_all(&f);
		check_ends(&f);
		check_sequential(&f, 30000);
	}
}

/* The recovery point that a checkpoint may say is never above the cut from the hold on, whatever is flushed. */
static void test_hold(void **state)
{
	(void)state;
	make_source(40, false);
	assert_int_equal(log_flush(f.log, f.log->leo, &f.err), 0);
	assert_int_equal(f.log->flushed_offset, f.log->leo);
	int64_t at = source.batch[source.count / 2].base;
	assert_int_equal(log_hold_flushed(f.log, at, &f.err), 0);
	assert_int_equal(f.log->flushed_offset, at);
	assert_int_equal(log_flush(f.log, f.log->leo, &f.err), 0);
	assert_int_equal(f.log->flushed_offset, at);
	assert_int_equal(log_truncate(f.log, at, &f.err), 0);
	assert_int_equal(f.log->flushed_offset, at);
	follow(&f, &source, source_below(&source, at), source.count);
	assert_int_equal(log_flush(f.log, f.log->leo, &f.err), 0);
	assert_int_equal(f.log->flushed_offset, f.log->leo);
}

/* A flush that was under way when the end was cut says nothing of what is behind that. */
static int64_t cut_while_flushing;

static ssize_t cut_in_sync(void *arg, enum io_call call, const char *name, int fd, size_t bytes)
{
	(void)arg;
	(void)name;
	(void)fd;
	(void)bytes;
	if (call == IO_SYNC) {
		io_set_hook(NULL, NULL);
		assert_int_equal(log_truncate(f.log, cut_while_flushing, &f.err), 0);
	}
	return 0;
}

static void test_cut_while_flushing(void **state)
{
	(void)state;
	make_source(40, false);
	cut_while_flushing = source.batch[source.count - 3].base;
	io_set_hook(cut_in_sync, NULL);
	assert_int_equal(log_flush(f.log, f.log->leo, &f.err), 0);
	assert_int_equal(f.log->leo, cut_while_flushing);
	assert_int_equal(f.log->flushed_offset, cut_while_flushing);
}

/* ---- where it starts ---- */

static void start_at(int64_t offset)
{
	int64_t position;
	assert_int_equal(log_position_of(f.log, offset, &position, &f.err), 0);
	f.pair_offset = f.m.start_offset = offset;
	f.pair_position = position;
	assert_int_equal(log_set_start(f.log, offset, position, &f.err), 0);
}

static void test_at_the_start(void **state)
{
	(void)state;
	for (int crash = 0; crash < 2; crash++) {
		make_source(80, false);
		size_t at = source.count / 2;
		while (source.batch[at].end - source.batch[at].base < 2)
			at++;
		int64_t start = source.batch[at].end - 1; /* inside a batch */
		start_at(start);
		int64_t position = f.log->start_position;
		assert_int_equal(log_truncate(f.log, start - 1, &f.err), ERR_OUT_OF_RANGE);
		hold(&f, start);
		assert_int_equal(log_truncate(f.log, start, &f.err), 0);
		assert_int_equal(f.log->leo, start);
		assert_int_equal(f.log->view_position, position);
		assert_int_equal(f.log->shape->segment_count, 0);
		assert_int_equal(f.log->epochs.count, 0);
		model_to(start);
		if (crash) {
			fx_crash(&f);
			fx_open(&f);
		} else {
			fx_reopen(&f);
		}
		assert_int_equal(f.log->leo, start);
		fx_lines(&f, CODEC_NONE, 20, 90);
		check_ends(&f);
		fx_reopen(&f);
		check_log(&f);
		teardown(state);
		setup(state);
	}
}

/* Begins at another place, in front or behind, with positions that it is told. */
static void restart_at(int64_t offset, int64_t position, bool crash)
{
	if (offset < f.log->start_offset) {
		cut_log(&f, f.log->start_offset);
	} else {
		hold(&f, f.log->start_offset);
	}
	f.pair_offset = offset;
	f.pair_position = position;
	if (f.recovery_point > offset)
		f.recovery_point = offset;
	assert_int_equal(log_restart(f.log, offset, position, &f.err), 0);
	assert_int_equal(f.log->leo, offset);
	assert_int_equal(f.log->start_offset, offset);
	assert_int_equal(f.log->flushed_offset, offset);
	assert_int_equal(f.log->bytes, 0);
	if (crash) {
		fx_crash(&f);
		fx_open(&f);
	}
	model_release(&f.m);
	f.m.leo = offset - 1;
	char *filler = calloc(1, (size_t)position);
	model_add(&f.m, filler, (uint32_t)position - 1, -1, false, 0);
	free(filler);
	f.m.start_offset = offset;
	model_build(&f.m);
	check_ends(&f);
	fx_mixture(&f, 30, true);
	check_log(&f);
	assert_int_equal(log_remove_deleted(f.log, &f.err), 0);
	fx_reopen(&f);
	check_log(&f);
}

static void test_restart(void **state)
{
	(void)state;
	for (int crash = 0; crash < 2; crash++) {
		make_source(60, true);
		assert_int_equal(log_flush(f.log, f.log->leo, &f.err), 0);
		f.recovery_point = f.log->flushed_offset;
		restart_at(f.log->leo + 100000, 7000000, crash);
		restart_at(f.log->leo - 5, 6000, crash);
		restart_at(50, 6000, crash);
		restart_at(3, 10, crash);
		teardown(state);
		setup(state);
	}
}

/* A crash between the pair and the end of the call: the log opens, and the call is made again. */
static ssize_t stop_io(void *arg, enum io_call call, const char *name, int fd, size_t bytes)
{
	size_t *left = arg;
	(void)name;
	(void)fd;
	(void)bytes;
	if (call == IO_READ || call == IO_STAT || call == IO_MMAP || call == IO_LIST)
		return 0;
	if (*left) {
		--*left;
		return 0;
	}
	return -EIO;
}

static void test_restart_stopped_anywhere(void **state)
{
	(void)state;
	make_source(60, true);
	fx_close(&f);
	char copy[100];
	snprintf(copy, sizeof copy, "%s/copy", f.root);
	copy_tree(f.dir, copy);
	for (int ahead = 0; ahead < 2; ahead++)
		for (size_t stop = 0;; stop++) {
			size_t left = stop;
			f.pair_offset = f.pair_position = -1;
			f.recovery_point = 0;
			copy_tree(copy, f.dir);
			f.has_row = false;
			fx_open(&f);
			int64_t offset = ahead ? f.log->leo + 1000 : f.log->leo / 2, position = 50000;
			hold(&f, 0);
			f.pair_offset = offset;
			f.pair_position = position;
			io_set_hook(stop_io, &left);
			int rc = log_restart(f.log, offset, position, &f.err);
			io_set_hook(NULL, NULL);
			fx_crash(&f);
			fx_open(&f);
			assert_true(f.log->leo >= offset);
			if (log_restart(f.log, offset, position, &f.err) < 0)
				fail_msg("%s", f.err.text);
			assert_int_equal(f.log->leo, offset);
			assert_int_equal(f.log->view_position, position);
			fx_crash(&f);
			fx_open(&f);
			assert_int_equal(f.log->leo, offset);
			assert_int_equal(f.log->view_position, position);
			fx_crash(&f);
			if (rc == 0)
				break;
		}
}

/* ---- faults ---- */

static struct { size_t seen, at; int error; bool on, fired; enum io_call call; char name[300]; char copy_to[100]; } fault;

static ssize_t fail_at(void *arg, enum io_call call, const char *name, int fd, size_t bytes)
{
	(void)arg;
	(void)fd;
	(void)bytes;
	size_t n = fault.seen++;
	if (n < fault.at || (n > fault.at && !fault.on))
		return 0;
	if (*fault.copy_to) { /* a crash: the directory as it is before this call */
		io_set_hook(NULL, NULL);
		copy_tree(f.dir, fault.copy_to);
		io_set_hook(fail_at, NULL);
		fault.fired = true;
		return 0;
	}
	bool takes_space = call == IO_WRITE || (call == IO_OPEN && name) || call == IO_RENAME;
	if (fault.error == ENOSPC && !takes_space)
		return 0;
	if (!fault.fired) {
		fault.call = call;
		snprintf(fault.name, sizeof fault.name, "%s", name ? name : "");
	}
	fault.fired = true;
	return -fault.error;
}

static void check_prefix(struct fx *x)
{
	struct source now;
	source_of(&now, x->log);
	assert_true(now.n <= source.n);
	assert_memory_equal(now.bytes, source.bytes, now.n);
	assert_int_equal(x->log->leo, now.end);
	source_release(&now);
}

/* Each call of a cut fails, or is the last one before a crash. */
static void cut_under_fault(size_t keep, int error, bool on, bool crash)
{
	char copy[100], dir[sizeof f.dir];
	const int64_t end = source.batch[keep].base;
	strcpy(dir, f.dir);
	snprintf(copy, sizeof copy, "%s/copy", f.root);
	fill(&f, source.count, PROJECTED);
	fx_crash(&f);
	copy_tree(f.dir, copy);
	for (size_t at = 0;; at++) {
		copy_tree(copy, f.dir);
		f.recovery_point = 0;
		f.has_row = false;
		fx_open(&f);
		assert_int_equal(log_flush(f.log, f.log->leo, &f.err), 0);
		hold(&f, end);
		f.recovery_point = f.log->flushed_offset;
		memset(&fault, 0, sizeof fault);
		fault.at = at;
		fault.error = error;
		fault.on = on;
		if (crash)
			snprintf(fault.copy_to, sizeof fault.copy_to, "%s/crashed", f.root);
		io_set_hook(fail_at, NULL);
		int rc = log_truncate(f.log, end, &f.err);
		io_set_hook(NULL, NULL);
		bool fired = fault.fired;
		if (crash) {
			assert_int_equal(rc, 0);
			if (!fired)
				break;
			fx_crash(&f);
			copy_tree(fault.copy_to, f.dir);
			fx_open(&f);
		} else if (rc < 0 && rc != ERR_IO) { /* as it was; it reads, and can be cut */
			assert_int_equal(f.log->leo, source.end);
			project_all(&f);
			check_ends(&f);
			check_sequential(&f, 30000);
		} else if (rc == ERR_IO || (at & 1)) {
			fx_crash(&f);
			if (fx_try_open(&f) < 0)
				fail_msg("after %s %s failed (%d): %s", io_call_name(fault.call), fault.name, rc, f.err.text);
		}
		if (f.log->leo < end || f.log->leo > source.end)
			fail_msg("call %zu: the log ends at %" PRId64, at, (int64_t)f.log->leo);
		check_prefix(&f);
		cut_log(&f, end);
		assert_int_equal(f.log->leo, end);
		check_prefix(&f);
		follow(&f, &source, keep, source.count);
		project_all(&f);
		check_ends(&f);
		check_sequential(&f, 30000);
		if (at & 2) {
			fx_crash(&f);
			fx_open(&f);
			check_ends(&f);
			check_sequential(&f, 30000);
		}
		fx_crash(&f);
		if (!fired && rc == 0)
			break;
	}
	strcpy(f.dir, dir);
}

static void each_fault(bool crash)
{
	make_source(80, true);
	diag_set_level(DIAG_ERROR - 1);
	for (size_t keep = 3; keep < source.count; keep += 17) {
		if (crash) {
			cut_under_fault(keep, 0, false, true);
			continue;
		}
		cut_under_fault(keep, EIO, false, false);
		cut_under_fault(keep, EIO, true, false);
		cut_under_fault(keep, ENOSPC, true, false);
		cut_under_fault(keep, EMFILE, false, false);
	}
}

static void test_faults(void **state)
{
	(void)state;
	each_fault(false);
}

static void test_crashes(void **state)
{
	(void)state;
	each_fault(true);
}

/* ---- who reads meanwhile ---- */

/* Something that the model is not told of. */
static void append_lines(size_t n)
{
	size_t bytes, taken, done;
	int64_t base;
	char *text = make_lines(n, 60, &bytes);
	struct record_set s, *one = &s;
	struct batch_style style = fx_style(CODEC_NONE);
	record_set_init(&s);
	assert_int_equal(record_set_add_lines(&s, &style, text, bytes, f.now_ms, &taken, &f.err), 0);
	assert_int_equal(log_append(f.log, &one, 1, 9, true, &base, &done, &f.err), 0);
	record_set_release(&s);
	free(text);
}

/* A range that reaches past the cut keeps its bytes, whatever is appended in its place. */
static void test_range_over_the_cut(void **state)
{
	(void)state;
	size_t copied = 0;
	make_source(80, false);
	for (size_t keep = source.count - 12; keep < source.count; keep += 5) {
		fill(&f, source.count, PROJECTED);
		struct log_fetch x = {.offset = source.batch[source.count - 14].base, .bound = source.end, .max_bytes = 1 << 20, .wait = true};
		assert_int_equal(log_fetch(f.log, &x, &f.err), 0);
		assert_true(x.bytes > 0);
		cut_log(&f, source.batch[keep].base);
		struct stat was, is; /* it is another file by now, whose rest was copied */
		for (uint32_t i = 0; i < x.range_count; i++) {
			struct segment *g = x.range[i].segment;
			assert_int_equal(fstat(g->fd, &was), 0);
			if (g->base_offset + 1 > f.log->leo || stat(fx_file(&f, g->base_offset, ".log"), &is) < 0)
				continue;
			copied += was.st_ino != is.st_ino;
			assert_true(was.st_ino != is.st_ino || is.st_size == was.st_size);
		}
		append_lines(300);
		assert_int_equal(log_flush(f.log, f.log->leo, &f.err), 0);
		uint8_t *bytes = malloc(x.bytes), *p = bytes;
		for (uint32_t i = 0; i < x.range_count; p += x.range[i++].bytes)
			assert_int_equal(pread(x.range[i].segment->fd, p, x.range[i].bytes, x.range[i].position), x.range[i].bytes);
		assert_memory_equal(bytes, source.bytes + source.batch[source.count - 14].at, x.bytes);
		free(bytes);
		/* again, below: the first range still is there */
		cut_log(&f, source.batch[keep - 1].base);
		assert_int_equal(f.log->leo, source.batch[keep - 1].base);
		log_fetch_release(&x);
		fx_crash(&f);
		fx_open(&f);
		assert_int_equal(f.log->leo, source.batch[keep - 1].base);
		check_prefix(&f);
		follow(&f, &source, keep - 1, source.count);
	}
	assert_true(copied > 0);
}

/* What a cursor has read ahead behind the visible end is not given once it was cut. */
static void test_read_ahead(void **state)
{
	(void)state;
	char buf[100];
	int64_t base[3];
	size_t done;
	fx_open(&f);
	const char *text[] = {"first\n", "is cut\n", "in its place\n"};
	struct record_set s[3];
	struct batch_style style = fx_style(CODEC_NONE);
	for (int i = 0; i < 3; i++) {
		size_t taken;
		record_set_init(&s[i]);
		assert_int_equal(record_set_add_lines(&s[i], &style, text[i], strlen(text[i]), f.now_ms, &taken, &f.err), 0);
	}
	for (int i = 0; i < 2; i++) {
		struct record_set *one = &s[i];
		assert_int_equal(log_append(f.log, &one, 1, 0, false, &base[i], &done, &f.err), 0);
	}
	assert_int_equal(log_project(f.log, 1, &f.err), 0);
	struct log_cursor *c = log_cursor_new(f.log);
	struct log_sequence *q = log_sequence_new(f.log, 0);
	assert_int_equal(log_cursor_read(c, 0, f.log->view_position, buf, sizeof buf, &f.err), 6);
	hold(&f, 1);
	assert_int_equal(log_truncate(f.log, 1, &f.err), 0);
	struct record_set *one = &s[2];
	assert_int_equal(log_append(f.log, &one, 1, 0, true, &base[2], &done, &f.err), 0);
	assert_int_equal(log_cursor_read(c, 6, f.log->view_position, buf, sizeof buf, &f.err), 13);
	assert_memory_equal(buf, "in its place\n", 13);
	log_cursor_free(c);
	log_sequence_free(q);
	for (int i = 0; i < 3; i++)
		record_set_release(&s[i]);
}

static struct { _Atomic bool stop; _Atomic int64_t safe_offset, safe_position, visible_offset, visible_position; _Atomic size_t reads, errors, fetches; } beside;

/* A line tells of itself: "offset generation" and letters that both decide. */
static size_t make_line(char *out, int64_t offset, int generation)
{
	size_t n = (size_t)sprintf(out, "%" PRId64 " %d ", offset, generation), letters = (size_t)((offset * 31 + generation * 7) % 300);
	for (size_t i = 0; i < letters; i++)
		out[n++] = (char)('a' + (offset + generation + (int64_t)i) % 26);
	out[n++] = '\n';
	return n;
}

static void check_line(const char *line, size_t n)
{
	char want[400];
	int64_t offset;
	int generation;
	if (sscanf(line, "%" SCNd64 " %d ", &offset, &generation) != 2 || make_line(want, offset, generation) != n || memcmp(want, line, n)) {
		print_error("a torn line: %.*s", (int)n, line);
		abort();
	}
}

static void *read_beside(void *arg)
{
	struct log_cursor *c = log_cursor_new(f.log);
	char buf[20001];
	uint64_t r = (uintptr_t)arg * 77777 + 1;
	while (!beside.stop) {
		int64_t safe = beside.safe_position, end = beside.visible_position;
		r = r * 6364136223846793005u + 1442695040888963407u;
		int64_t at = end ? (int64_t)((r >> 20) % (uint64_t)end) : 0;
		if (r % 3 == 0 && end > 4000)
			at = end - (int64_t)(r >> 40) % 4000;
		struct err e = ERR_INIT;
		ssize_t got = log_cursor_read(c, at, end, buf, sizeof buf - 1, &e);
		if (got < 0) {
			if (at + (int64_t)sizeof buf < safe) {
				print_error("a read at %" PRId64 ", of what stays (%" PRId64 "), failed: %s\n", at, safe, e.text);
				abort();
			}
			beside.errors++;
			continue;
		}
		buf[got] = 0;
		char *p = memchr(buf, '\n', (size_t)got), *nl;
		for (p = p ? p + 1 : buf + got; p < buf + got && (nl = memchr(p, '\n', (size_t)(buf + got - p))); p = nl + 1)
			check_line(p, (size_t)(nl + 1 - p));
		beside.reads++;
	}
	log_cursor_free(c);
	return NULL;
}

/* Takes what a sender would, in pieces with a pause between: whole batches, or an error. */
static void *fetch_beside(void *arg)
{
	uint64_t r = (uintptr_t)arg * 999 + 5;
	while (!beside.stop) {
		r = r * 6364136223846793005u + 1442695040888963407u;
		int64_t bound = f.log->leo, from = bound > 400 && r % 2 ? bound - (int64_t)((r >> 30) % 400) : bound ? (int64_t)((r >> 30) % (uint64_t)bound) : 0;
		struct log_fetch x = {.offset = from, .bound = bound, .max_bytes = 200000, .wait = true, .min_one = true};
		struct err e = ERR_INIT;
		int rc = log_fetch(f.log, &x, &e);
		if (rc < 0) {
			beside.errors++;
			continue;
		}
		for (uint32_t i = 0; i < x.range_count; i++) {
			uint8_t *bytes = malloc(x.range[i].bytes);
			uint32_t done = 0, n = x.range[i].bytes;
			while (done < n) {
				uint32_t take = n - done < 5000 ? n - done : 5000;
				if (pread(x.range[i].segment->fd, bytes + done, take, x.range[i].position + done) != take) {
					print_error("a range ends early\n");
					abort();
				}
				done += take;
				if (r % 5 == 0)
					usleep(200);
			}
			struct batch b;
			for (uint32_t at = 0; at < n; at += b.size_bytes)
				if (batch_decode(&b, bytes + at, n - at, n - at, &e) < 0 || !batch_crc_matches(&b, bytes + at)) {
					print_error("a torn batch at %u of %u\n", at, n);
					abort();
				}
			free(bytes);
		}
		log_fetch_release(&x);
		beside.fetches++;
	}
	return NULL;
}

static void *flush_beside(void *arg)
{
	(void)arg;
	while (!beside.stop) {
		struct err e;
		if (log_flush(f.log, f.log->leo, &e) < 0)
			abort();
		usleep(500);
	}
	return NULL;
}

/* A visible end as the owner of a log gives it: lowered before a cut. */
static void show(void)
{
	beside.visible_position = (int64_t)f.log->view_position;
}

static void test_readers_beside(void **state)
{
	(void)state;
	enum { READERS = 3, FETCHERS = 2, ROUNDS = 120 };
	pthread_t thread[READERS + FETCHERS + 1];
	memset(&beside, 0, sizeof beside);
	f.limits.segment_bytes = 60000;
	fx_open(&f);
	for (intptr_t i = 0; i < READERS; i++)
		pthread_create(&thread[i], NULL, read_beside, (void *)i);
	for (intptr_t i = 0; i < FETCHERS; i++)
		pthread_create(&thread[READERS + i], NULL, fetch_beside, (void *)i);
	pthread_create(&thread[READERS + FETCHERS], NULL, flush_beside, NULL);
	for (int round = 0; round < ROUNDS; round++) {
		for (int i = 0; i < 10; i++) {
			char *text = malloc(60 * 400);
			size_t n = 0, taken;
			int64_t base, offset = f.log->leo;
			for (int k = 1 + (int)below(40); k > 0; k--)
				n += make_line(text + n, offset++, round);
			struct record_set s, *one = &s;
			struct batch_style style = fx_style(below(3) ? CODEC_NONE : CODEC_ZSTD);
			record_set_init(&s);
			assert_int_equal(record_set_add_lines(&s, &style, text, n, f.now_ms, &taken, &f.err), 0);
			size_t done;
			if (log_append(f.log, &one, 1, round, below(2), &base, &done, &f.err) < 0)
				fail_msg("%s", f.err.text);
			record_set_release(&s);
			free(text);
			if (below(2))
				project_all(&f);
			show();
		}
		int64_t back = below(4) ? (int64_t)below(150) : (int64_t)below(1500), at = f.log->leo - back, position;
		if (at < beside.safe_offset)
			at = beside.safe_offset;
		if (at >= f.log->view_offset)
			at = f.log->view_offset;
		assert_int_equal(log_position_of(f.log, at, &position, &f.err), 0);
		if (round % 2) /* an election of which nobody else knows; else what is visible ends before the cut */
			beside.visible_position = position;
		hold(&f, at);
		if (log_truncate(f.log, at, &f.err) < 0)
			fail_msg("%s", f.err.text);
		project_all(&f);
		show();
		if (round % 10 == 0) {
			beside.safe_position = (int64_t)f.log->view_position;
			beside.safe_offset = (int64_t)f.log->view_offset;
		}
		if (round % 7 == 0)
			assert_int_equal(log_remove_deleted(f.log, &f.err), 0);
	}
	beside.stop = true;
	for (int i = 0; i <= READERS + FETCHERS; i++)
		pthread_join(thread[i], NULL);
	assert_true(beside.reads > 0 && beside.fetches > 0);
	int64_t end = f.log->leo, position = f.log->view_position;
	fx_crash(&f);
	f.recovery_point = 0;
	fx_open(&f);
	assert_int_equal(f.log->leo, end);
	assert_int_equal(f.log->view_position, position);
}

/* ---- a walk against the model ---- */

static void append_something(void)
{
	int open = -1;
	f.now_ms += (int64_t)below(3000);
	for (size_t i = 0; i < f.m.txn_count; i++)
		if (f.m.txn[i].outcome == OPEN && f.m.txn[i].first_offset < f.m.leo && below(3) == 0)
			open = (int)i;
	switch (below(6)) {
	case 0:
		if (open >= 0)
			fx_end(&f, open, below(2));
		break;
	case 1:
		fx_records(&f, (enum codec)below(CODEC_COUNT), 1 + below(10), 150, open >= 0 ? open : fx_begin(&f, 5000 + (int64_t)f.m.txn_count));
		break;
	case 2:
		fx_records(&f, (enum codec)below(CODEC_COUNT), 1 + below(20), 300, -1);
		break;
	default:
		fx_lines(&f, (enum codec)below(CODEC_COUNT), 1 + below(20), below(4) ? 60 : 900);
	}
}

static void test_walk(void **state)
{
	(void)state;
	int64_t floor = 0; /* what ends the transactions that began before the log start stays: the model does not know of a start in the middle of one */
	fx_open(&f);
	for (int step = 0; step < 1500; step++) {
		switch (below(12)) {
		case 0: {
			if (f.m.leo < floor)
				break;
			int64_t room = f.m.leo - floor, back = below(3) ? (int64_t)below(40) : (int64_t)below((size_t)room + 1);
			int64_t at = back > room ? floor : f.m.leo - back;
			cut_log(&f, at);
			assert_true(f.log->leo <= at);
			project_all(&f);
			assert_true(at - f.log->leo <= 30);
			model_cut(&f.m, f.log->leo);
			f.epoch++;
			break;
		}
		case 1:
			assert_int_equal(log_flush(f.log, f.log->leo, &f.err), 0);
			if (below(2))
				f.recovery_point = f.log->flushed_offset;
			break;
		case 2:
			if (below(2))
				fx_close(&f);
			else
				fx_crash(&f);
			fx_open(&f);
			break;
		case 3:
			if (below(6) == 0 && f.log->view_offset > f.log->start_offset) {
				int64_t at = f.log->start_offset + (int64_t)below((size_t)(f.log->view_offset - f.log->start_offset));
				assert_int_equal(log_flush(f.log, at, &f.err), 0);
				start_at(at);
				floor = f.m.leo + 30;
			}
			assert_int_equal(log_remove_deleted(f.log, &f.err), 0);
			break;
		default:
			append_something();
		}
		check_ends(&f);
		if (step % 20 == 0) {
			check_sequential(&f, 50000);
			check_random(&f, 10, 3000);
			check_places(&f, 1 + f.m.count / 20);
		}
	}
	check_log(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(test_every_boundary),
		T(test_transactions),
		T(test_view_behind),
		T(test_never_projected),
		T(test_views_are_equal),
		T(test_nothing_to_cut),
		T(test_reopened),
		T(test_hold),
		T(test_cut_while_flushing),
		T(test_at_the_start),
		T(test_restart),
		T(test_restart_stopped_anywhere),
		T(test_faults),
		T(test_crashes),
		T(test_range_over_the_cut),
		T(test_read_ahead),
		T(test_readers_beside),
		T(test_walk),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
