#include "tests/unit/log_fixture.h"

/* Which segments retention lets go: by age, by size, never past the visible end; Kafka's rules. */

static struct fx f;

static int setup(void **state)
{
	(void)state;
	fx_init(&f, NULL);
	f.limits.segment_bytes = 1 << 13;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fx_release(&f);
	return 0;
}

/* A log of several segments, a second from record to record. */
static void fill(size_t segments)
{
	fx_open(&f);
	while (!f.log->shape || f.log->shape->segment_count < segments) {
		f.now_ms += 1000;
		fx_lines(&f, CODEC_NONE, 1, 1000);
	}
	model_build(&f.m);
}

static int64_t ask(int64_t ms, int64_t bytes, int64_t now_ms, int64_t limit)
{
	int64_t start = -1;
	struct retention r = {ms, bytes};
	if (log_retention(f.log, &r, now_ms, limit, &start, &f.err) < 0)
		fail_msg("log_retention: %s", f.err.text);
	return start;
}

static struct segment *segment(size_t i)
{
	return f.log->shape->segment[i];
}

static int64_t newest_of(size_t i)
{
	int64_t end = segment(i + 1)->base_offset;
	return f.m.item[end - 1].timestamp_ms;
}

static void test_unbounded(void **state)
{
	(void)state;
	fill(4);
	assert_int_equal(ask(-1, -1, INT64_MAX, f.m.leo), 0);
	assert_int_equal(ask(INT64_MAX, INT64_MAX, INT64_MAX, f.m.leo), 0);
}

static void test_by_time(void **state)
{
	(void)state;
	fill(5);
	for (size_t i = 0; i < 4; i++) {
		/* exactly as old as it may be; then older */
		assert_int_equal(ask(10000, -1, newest_of(i) + 10000, f.m.leo), segment(i)->base_offset);
		assert_int_equal(ask(10000, -1, newest_of(i) + 10001, f.m.leo), segment(i + 1)->base_offset);
	}
	assert_int_equal(ask(10000, -1, 0, f.m.leo), 0); /* records from the future stay */
	assert_int_equal(ask(0, -1, INT64_MIN / 2, f.m.leo), 0);
	/* after reopening times come from the time index */
	fx_reopen(&f);
	assert_int_equal(ask(10000, -1, newest_of(2) + 10001, f.m.leo), segment(3)->base_offset);
	fx_crash(&f);
	fx_open(&f);
	assert_int_equal(ask(10000, -1, newest_of(2) + 10001, f.m.leo), segment(3)->base_offset);
}

/* A time index that lost entries, or has wrong ones, does not make a segment older than it is. */
static void test_damaged_time_index(void **state)
{
	(void)state;
	f.limits.interval_bytes = 512;
	fill(4);
	int64_t newest = newest_of(0), second = segment(1)->base_offset;
	fx_close(&f);
	char path[PATH_MAX];
	snprintf(path, sizeof path, "%s", fx_file(&f, 0, ".timeindex"));
	size_t n;
	char *bytes = slurp(path, &n);
	assert_true(n >= 36);
	for (size_t cut = 0; cut < n; cut += 12) {
		spit(path, bytes, cut);
		fx_open(&f);
		assert_int_equal(ask(10000, -1, newest + 10000, f.m.leo), 0);
		assert_int_equal(ask(10000, -1, newest + 10001, f.m.leo), second);
		log_free(f.log);
		f.log = NULL;
	}
	for (size_t at = 0; at < n; at++) {
		bytes[at] ^= 4;
		spit(path, bytes, n);
		bytes[at] ^= 4;
		fx_open(&f);
		assert_int_equal(ask(10000, -1, newest + 10000, f.m.leo), 0);
		assert_int_equal(ask(10000, -1, newest + 10001, f.m.leo), second);
		log_free(f.log);
		f.log = NULL;
	}
	free(bytes);
	fx_open(&f);
}

/* A segment that was opened with records in it, and then got older ones, is as old as its newest. */
static void test_times_go_back(void **state)
{
	(void)state;
	fx_open(&f);
	fx_lines(&f, CODEC_NONE, 3, 50);
	int64_t newest = f.now_ms;
	fx_reopen(&f);
	f.now_ms -= 1000000;
	fx_lines(&f, CODEC_NONE, 3, 50);
	assert_int_equal(ask(1000, -1, newest + 1000, f.m.leo), 0);
	fx_reopen(&f);
	assert_int_equal(ask(1000, -1, newest + 1000, f.m.leo), 0);
	assert_int_equal(ask(1000, -1, newest + 1001, f.m.leo), f.m.leo);
}

static void test_by_size(void **state)
{
	(void)state;
	fill(6);
	int64_t all = f.log->bytes;
	assert_int_equal(ask(-1, all, f.now_ms, f.m.leo), 0);
	assert_int_equal(ask(-1, all - 1, f.now_ms, f.m.leo), 0);
	int64_t without = all;
	for (size_t i = 0; i < 5; i++) {
		without -= segment(i)->size_bytes;
		assert_int_equal(ask(-1, without, f.now_ms, f.m.leo), segment(i + 1)->base_offset);
		assert_int_equal(ask(-1, without + 1, f.now_ms, f.m.leo), segment(i)->base_offset);
	}
	assert_int_equal(ask(-1, 0, f.now_ms, f.m.leo), segment(5)->base_offset); /* the active one stays */
}

/* All of it: the active segment is sealed first. */
static void test_everything(void **state)
{
	(void)state;
	fill(3);
	int64_t position = f.m.end_position;
	assert_int_equal(ask(1000, -1, f.now_ms + 1001, f.m.leo), f.m.leo);
	assert_int_equal(log_set_start(f.log, f.m.leo, position, &f.err), 0);
	fx_keep_pair(&f);
	f.m.start_offset = f.m.leo;
	assert_int_equal(f.log->shape->segment_count, 1);
	assert_int_equal(f.log->bytes, 0);
	check_log(&f);
	assert_int_equal(ask(1000, -1, INT64_MAX, f.m.leo), f.m.leo); /* an empty log */
	assert_int_equal(f.log->shape->segment_count, 1);
	fx_lines(&f, CODEC_NONE, 5, 100);
	check_log(&f);
	fx_reopen(&f);
	check_log(&f);
}

/* Nothing past the limit goes: that is the visible end, and may be far behind. */
static void test_limit(void **state)
{
	(void)state;
	fill(5);
	int64_t start = ask(1000, -1, INT64_MAX, segment(2)->base_offset + 1);
	assert_int_equal(start, segment(2)->base_offset + 1);
	assert_int_equal(f.log->shape->segment_count, 5);
	assert_int_equal(ask(-1, 0, INT64_MAX, segment(2)->base_offset), segment(2)->base_offset);
	assert_int_equal(ask(1000, -1, INT64_MAX, 0), 0);
}

static void test_no_timestamps(void **state)
{
	(void)state;
	f.now_ms = -1;
	fx_open(&f);
	for (int i = 0; i < 30; i++)
		fx_lines(&f, CODEC_NONE, 2, 1000);
	assert_true(f.log->shape->segment_count > 2);
	struct stat st;
	assert_int_equal(stat(fx_file(&f, 0, ".log"), &st), 0);
	int64_t written = st.st_mtim.tv_sec * INT64_C(1000);
	assert_int_equal(ask(60000, -1, written + 10000, f.m.leo), 0);
	assert_int_equal(ask(60000, -1, written + 100000, f.m.leo), f.m.leo);
}

/* Random times and bounds against the rules written down naively. */
static void test_against_rules(void **state)
{
	(void)state;
	for (int round = 0; round < 40; round++) {
		if (round)
			setup(NULL);
		fx_open(&f);
		for (int i = 0; i < 40; i++) {
			f.now_ms += (int64_t)below(20000) - 8000;
			fx_lines(&f, CODEC_NONE, 1 + below(3), 900);
		}
		size_t n = f.log->shape->segment_count;
		int64_t ms = below(5) ? (int64_t)below(200000) : -1, bytes = below(5) ? (int64_t)below(40000) : -1, now = f.now_ms + (int64_t)below(200000) - 50000;
		int64_t all = f.log->bytes, want = 0;
		for (size_t i = 0; i < n; i++) {
			int64_t newest = -1, end = i + 1 < n ? segment(i + 1)->base_offset : f.m.leo;
			for (int64_t k = segment(i)->base_offset; k < end; k++)
				if (f.m.item[k].timestamp_ms > newest)
					newest = f.m.item[k].timestamp_ms;
			bool old = ms >= 0 && now - newest > ms;
			if (!old)
				break;
			want = end;
		}
		for (size_t i = 0; i + 1 < n && bytes >= 0 && all - segment(i)->size_bytes >= bytes; i++) {
			all -= segment(i)->size_bytes;
			if (segment(i + 1)->base_offset > want)
				want = segment(i + 1)->base_offset;
		}
		assert_int_equal(ask(ms, bytes, now, f.m.leo), want);
		teardown(NULL);
	}
	setup(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(test_unbounded),
		T(test_by_time),
		T(test_damaged_time_index),
		T(test_times_go_back),
		T(test_by_size),
		T(test_everything),
		T(test_limit),
		T(test_no_timestamps),
		T(test_against_rules),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
