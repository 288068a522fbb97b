#include "tests/unit/follow_fixture.h"

#include "tests/unit/batch_fixture.h"

/* A follower's log: the leader's bytes, all of a call or none, and nothing that is not a batch. */

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

/* The leader is f. */
static void lead(size_t rounds, bool transactions)
{
	fx_open(&f);
	for (f.epoch = 3; f.epoch < 9; f.epoch += 2)
		fx_mixture(&f, rounds / 3, transactions);
	source_of(&source, f.log);
}

static void empty_follower(void)
{
	log_free(other.log);
	other.log = NULL;
	char command[300];
	snprintf(command, sizeof command, "rm -rf %s && mkdir %s", other.dir, other.dir);
	assert_int_equal(system(command), 0);
	other.has_row = false;
	other.recovery_point = 0;
	fx_open(&other);
}

static int try(const void *bytes, size_t n, int64_t *end)
{
	other.err = (struct err)ERR_INIT;
	return log_append_exact(other.log, bytes, n, end, &other.err);
}

static void check_follower(bool views)
{
	project_all(&other);
	assert_int_equal(other.log->leo, f.log->leo);
	assert_int_equal(other.log->bytes, f.log->bytes);
	assert_int_equal(log_last_stable(other.log), log_last_stable(f.log));
	assert_int_equal(other.log->view_position, f.log->view_position);
	assert_int_equal(other.log->epochs.count, f.log->epochs.count);
	check_same_files(other.dir, f.dir, views);
}

/* A follower that takes batch by batch has the leader's files, all of them. */
static void test_batch_by_batch(void **state)
{
	(void)state;
	lead(120, true);
	empty_follower();
	for (size_t i = 0; i < source.count; i++) {
		follow(&other, &source, i, i + 1);
		project_all(&other);
	}
	check_follower(true);
	fx_close(&f);
	fx_close(&other);
	check_same_files(other.dir, f.dir, true);
}

/* What a fetch gives ends anywhere; what is cut off comes with the next. */
static void test_any_sizes(void **state)
{
	(void)state;
	lead(150, true);
	for (int round = 0; round < 20; round++) {
		size_t most = round % 3 == 0 ? 200 : round % 3 == 1 ? 5000 : 60000, at = 0;
		empty_follower();
		while (at < source.n) {
			size_t n = 1 + below(most);
			int64_t end;
			if (n > source.n - at)
				n = source.n - at;
			uint8_t *exact = malloc(n); /* the sanitizer sees who looks past it */
			memcpy(exact, source.bytes + at, n);
			if (try(exact, n, &end) < 0)
				fail_msg("%s", other.err.text);
			free(exact);
			size_t done = source_below(&source, end);
			size_t now = done ? source.batch[done - 1].at + source.batch[done - 1].size : 0;
			assert_true(now <= at + n);
			if (now == at)
				most *= 2;
			at = now;
			if (below(3) == 0)
				project_all(&other);
			if (round % 4 == 3 && below(20) == 0) { /* that adds to a .timeindex */
				fx_close(&other);
				fx_open(&other);
			}
		}
		if (round % 4 != 3)
			check_follower(false);
		project_all(&other);
		assert_int_equal(other.log->leo, f.log->leo);
		assert_int_equal(other.log->view_position, f.log->view_position);
	}
	/* it reads as the leader does */
	other.m = f.m;
	f.m = (struct model){0};
	check_log(&other);
	fx_crash(&other);
	fx_open(&other);
	check_log(&other);
}

/* All with one call: several segments at once. */
static void test_all_at_once(void **state)
{
	(void)state;
	lead(150, true);
	empty_follower();
	follow(&other, &source, 0, source.count);
	assert_true(other.log->shape->segment_count > 4);
	check_follower(false);
}

/* ---- garbage ---- */

static void check_unchanged(uint64_t before, int64_t leo)
{
	assert_int_equal(other.log->leo, leo);
	assert_int_equal(digest(other.dir), before);
}

/* One bit flipped: an error, or what is whole and true before it; but for an epoch, which no checksum covers. */
static void test_flipped(void **state)
{
	(void)state;
	fx_open(&f);
	f.epoch = 1;
	fx_lines(&f, CODEC_NONE, 2, 20);
	fx_end(&f, 0 * fx_begin(&f, 77), false);
	fx_lines(&f, CODEC_ZSTD, 5, 30);
	source_of(&source, f.log);
	uint8_t *bytes = malloc(source.n);
	size_t refused = 0;
	for (size_t bit = 0; bit < source.n * 8; bit++) {
		int64_t end;
		size_t byte = bit / 8, i = 0;
		while (byte >= source.batch[i].at + source.batch[i].size)
			i++;
		size_t inside = byte - source.batch[i].at;
		empty_follower();
		uint64_t before = digest(other.dir);
		memcpy(bytes, source.bytes, source.n);
		bytes[byte] ^= (uint8_t)(1 << bit % 8);
		int rc = try(bytes, source.n, &end);
		if (rc < 0) {
			refused++;
			check_unchanged(before, 0);
			assert_true(rc == ERR_CORRUPT || rc == ERR_OUT_OF_RANGE || rc == ERR_UNSUPPORTED);
			assert_true(strlen(other.err.text) > 0);
			continue;
		}
		if (inside >= BATCH_EPOCH_AT && inside < BATCH_EPOCH_AT + 4)
			continue;
		assert_true(inside >= BATCH_LENGTH_AT && inside < BATCH_LENGTH_AT + 4); /* it goes past the end now */
		size_t done = source_below(&source, end);
		assert_int_equal(done, i);
	}
	assert_true(refused > source.n * 7);
	free(bytes);
}

static void test_cut_off(void **state)
{
	(void)state;
	lead(12, true);
	for (size_t n = 0; n < source.n; n += 1 + below(60)) {
		int64_t end;
		empty_follower();
		uint8_t *exact = malloc(n + 1);
		memcpy(exact, source.bytes, n);
		assert_int_equal(try(exact, n, &end), 0);
		size_t done = source_below(&source, end);
		assert_true(done == source.count || source.batch[done].at + source.batch[done].size > n);
		assert_true(!done || source.batch[done - 1].at + source.batch[done - 1].size <= n);
		free(exact);
	}
}

static void test_noise(void **state)
{
	(void)state;
	uint8_t bytes[700];
	empty_follower();
	uint64_t before = digest(other.dir);
	for (int i = 0; i < 20000; i++) {
		int64_t end;
		size_t n = below(sizeof bytes);
		for (size_t k = 0; k < n; k++)
			bytes[k] = below(3) ? (uint8_t)chance() : 0;
		if (n > 17 && below(2)) {
			bytes[16] = 2;
			be32_put(bytes + BATCH_LENGTH_AT, (uint32_t)below(n));
		}
		try(bytes, n, &end);
		assert_int_equal(end, 0);
	}
	check_unchanged(before, 0);
}

/* Wrong order, doubled, missing. */
static void test_order(void **state)
{
	(void)state;
	lead(30, false);
	int64_t end;
	empty_follower();
	const struct source_batch *b = source.batch;
	uint64_t before = digest(other.dir);
	/* the first is not there */
	assert_int_equal(try(source.bytes + b[1].at, b[1].size, &end), ERR_OUT_OF_RANGE);
	check_unchanged(before, 0);
	/* one in the middle is not there, or there twice, or two are in the wrong order */
	struct wr w;
	wr_init(&w, 0);
	for (int what = 0; what < 3; what++) {
		wr_clear(&w);
		for (size_t i = 0; i < 6; i++) {
			size_t k = what == 2 && i == 3 ? 4 : what == 2 && i == 4 ? 3 : i;
			for (int times = what == 0 && i == 3 ? 0 : what == 1 && i == 3 ? 2 : 1; times > 0; times--)
				wr_bytes(&w, source.bytes + b[k].at, b[k].size);
		}
		assert_int_equal(try(w.data, w.len, &end), ERR_CORRUPT);
		check_unchanged(before, 0);
	}
	wr_release(&w);
	/* what is there already */
	follow(&other, &source, 0, 4);
	before = digest(other.dir);
	assert_int_equal(try(source.bytes, b[1].at, &end), ERR_OUT_OF_RANGE);
	assert_int_equal(end, b[3].end);
	check_unchanged(before, b[3].end);
	follow(&other, &source, 4, source.count);
	check_follower(false);
}

/* An epoch that goes back is refused; one that begins is on disk before its first batch. */
static void test_epochs(void **state)
{
	(void)state;
	lead(30, false);
	int64_t end;
	empty_follower();
	size_t last = source.count - 1;
	uint8_t *p = source.bytes + source.batch[last].at + BATCH_EPOCH_AT;
	uint32_t epoch = be32_get(p);
	be32_put(p, epoch - 3);
	assert_int_equal(try(source.bytes, source.n, &end), ERR_CORRUPT);
	assert_int_equal(end, 0);
	assert_int_equal(other.log->epochs.count, 0);
	be32_put(p, epoch);
	follow(&other, &source, 0, last);
	be32_put(p, 2);
	assert_int_equal(try(source.bytes + source.batch[last].at, source.batch[last].size, &end), ERR_CORRUPT);
	be32_put(p, epoch);
	follow(&other, &source, last, last + 1);
	check_follower(false);
	fx_crash(&other);
	fx_open(&other);
	assert_int_equal(other.log->epochs.count, 3);
}

/* ---- gaps ---- */

/* Moves the batches from `i` on by that many offsets. */
static void shift(size_t i, int64_t by)
{
	for (; i < source.count; i++)
		be64_put(source.bytes + source.batch[i].at, (uint64_t)(source.batch[i].base + by));
	source_index(&source);
}

static void test_gaps(void **state)
{
	(void)state;
	int64_t end;
	lead(90, false);
	shift(3, 7);
	shift(9, 1);
	empty_follower();
	uint64_t before = digest(other.dir);
	assert_int_equal(try(source.bytes, source.n, &end), ERR_CORRUPT);
	check_unchanged(before, 0);
	other.sequential = other.compacted = true;
	empty_follower();
	follow(&other, &source, 0, source.count);
	fx_crash(&other);
	fx_open(&other);
	assert_int_equal(other.log->leo, source.end);
	struct source now;
	source_of(&now, other.log);
	assert_int_equal(now.n, source.n);
	assert_memory_equal(now.bytes, source.bytes, now.n);
	source_release(&now);
	/* cut in a gap: the end is behind what is left */
	cut_log(&other, source.batch[9].base);
	assert_int_equal(other.log->leo, source.batch[8].end);
	fx_crash(&other);
	fx_open(&other);
	assert_int_equal(other.log->leo, source.batch[8].end);
	follow(&other, &source, 9, source.count);
}

/* Gaps wider than a segment can hold: at the start, where an empty segment waits, behind one that is full. */
static void test_wide_gaps(void **state)
{
	(void)state;
	const int64_t wide = INT64_C(3000000000);
	lead(90, false);
	shift(0, wide);
	shift(5, wide);
	shift(source.count / 2, wide);
	other.sequential = other.compacted = true;
	for (int round = 0; round < 3; round++) {
		int64_t end;
		empty_follower();
		if (round == 0) {
			follow(&other, &source, 0, source.count);
		} else {
			for (size_t i = 0; i < source.count; i += 5) {
				follow(&other, &source, i, i + 5 < source.count ? i + 5 : source.count);
				if (round == 2 && i == 0)
					assert_int_equal(log_roll(other.log, &other.err), 0);
			}
		}
		assert_int_equal(other.log->leo, source.end);
		for (size_t i = 0; i < other.log->shape->segment_count; i++)
			assert_true(other.log->shape->segment[i]->size_bytes > 0);
		fx_crash(&other);
		fx_open(&other);
		assert_int_equal(other.log->leo, source.end);
		assert_int_equal(try(source.bytes, source.n, &end), ERR_OUT_OF_RANGE);
		struct source now;
		source_of(&now, other.log);
		assert_int_equal(now.n, source.n);
		assert_memory_equal(now.bytes, source.bytes, now.n);
		source_release(&now);
	}
}

/* ---- faults ---- */

static struct { size_t seen, at; int error; bool on, fired; enum io_call call; char name[300]; } fault;

static ssize_t fail_at(void *arg, enum io_call call, const char *name, int fd, size_t bytes)
{
	(void)arg;
	(void)fd;
	size_t n = fault.seen++;
	if (n < fault.at || (n > fault.at && !fault.on))
		return 0;
	bool takes_space = call == IO_WRITE || (call == IO_OPEN && name) || call == IO_RENAME;
	if (fault.error == ENOSPC && !takes_space)
		return 0;
	if (!fault.fired) {
		fault.call = call;
		snprintf(fault.name, sizeof fault.name, "%s", name ? name : "");
	}
	fault.fired = true;
	if (call == IO_WRITE && bytes > 1 && fault.at % 3 == 1 && fault.error == ENOSPC)
		return (ssize_t)(1 + below(bytes - 1));
	return -fault.error;
}

static void append_under_fault(size_t from, size_t to, int error, bool on)
{
	char copy[100];
	snprintf(copy, sizeof copy, "%s/copy", other.root);
	empty_follower();
	follow(&other, &source, 0, from);
	fx_crash(&other);
	copy_tree(other.dir, copy);
	const struct source_batch *b = source.batch;
	const int64_t before = b[from].base;
	for (size_t at = 0;; at++) {
		int64_t end;
		copy_tree(copy, other.dir);
		fx_open(&other);
		memset(&fault, 0, sizeof fault);
		fault.at = at;
		fault.error = error;
		fault.on = on;
		io_set_hook(fail_at, NULL);
		int rc = try(source.bytes + b[from].at, b[to - 1].at + b[to - 1].size - b[from].at, &end);
		io_set_hook(NULL, NULL);
		bool fired = fault.fired;
		if (rc < 0 && rc != ERR_IO) {
			if (other.log->leo != before)
				fail_msg("after %s %s: the end is %" PRId64 ", not %" PRId64 " (%s)", io_call_name(fault.call), fault.name, (int64_t)other.log->leo, before, other.err.text);
			assert_int_equal(end, before);
			assert_true(!other.log->epochs.count || other.log->epochs.list[other.log->epochs.count - 1].start_offset < before);
			if (at & 1) {
				fx_crash(&other);
				fx_open(&other);
				assert_true(other.log->leo == before);
			}
		} else if (rc < 0) {
			fx_crash(&other);
			fx_open(&other);
			assert_true(other.log->leo >= before && other.log->leo <= b[to - 1].end);
		}
		size_t done = source_below(&source, other.log->leo);
		follow(&other, &source, done, source.count);
		project_all(&other);
		other.m = f.m;
		check_ends(&other);
		check_sequential(&other, 30000);
		f.m = other.m;
		other.m = (struct model){0};
		fx_crash(&other);
		fx_open(&other);
		struct source now;
		source_of(&now, other.log);
		assert_int_equal(now.n, source.n);
		assert_memory_equal(now.bytes, source.bytes, now.n);
		source_release(&now);
		fx_crash(&other);
		if (!fired)
			break;
	}
}

static void test_faults(void **state)
{
	(void)state;
	lead(60, true);
	diag_set_level(DIAG_ERROR - 1);
	size_t half = source.count / 2;
	for (int i = 0; i < 3; i++) {
		size_t from = i == 0 ? 0 : half, to = i == 2 ? half + 1 : source.count;
		append_under_fault(from, to, ENOSPC, true);
		append_under_fault(from, to, ENOSPC, false);
		append_under_fault(from, to, EIO, false);
		append_under_fault(from, to, EIO, true);
		append_under_fault(from, to, EMFILE, false);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(test_batch_by_batch),
		T(test_any_sizes),
		T(test_all_at_once),
		T(test_flipped),
		T(test_cut_off),
		T(test_noise),
		T(test_order),
		T(test_epochs),
		T(test_gaps),
		T(test_wide_gaps),
		T(test_faults),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
