#include "tests/unit/log_fixture.h"

/* The log against a naive model: appending, rolling, reading in any way, where it starts, retention, and files beside the .log that are not what they should be. */

static struct fx f;

static int setup(void **state)
{
	(void)state;
	fx_init(&f, NULL);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fx_release(&f);
	return 0;
}

static void test_empty(void **state)
{
	(void)state;
	fx_open(&f);
	check_log(&f);
	fx_reopen(&f);
	check_log(&f);
	fx_crash(&f);
	fx_open(&f);
	check_log(&f);
	int64_t position, offset;
	assert_int_equal(log_position_of(f.log, 0, &position, &f.err), 0);
	assert_int_equal(position, 0);
	assert_int_equal(log_locate(f.log, 0, &offset, &position, &f.err), ERR_OUT_OF_RANGE);
}

/* Every kind of batch, without transactions: each is read at once and at the end, through rolls by size. */
static void test_model(void **state)
{
	(void)state;
	f.limits.segment_bytes = 40000;
	fx_open(&f);
	for (int i = 0; i < 20; i++) {
		fx_mixture(&f, 10, false);
		check_log(&f);
	}
	assert_true(f.log->shape->segment_count > 2);
	for (size_t n = 1; n < 40; n += 1 + below(4))
		check_sequential(&f, n);
	check_places(&f, 1);
	fx_reopen(&f);
	check_log(&f);
	check_places(&f, 1);
	fx_crash(&f);
	fx_open(&f);
	check_log(&f);
}

/* From every position with every small size. */
static void test_every_position(void **state)
{
	(void)state;
	f.limits.segment_bytes = 1 << 14;
	fx_open(&f);
	for (int codec = 0; codec < CODEC_COUNT; codec++) {
		fx_lines(&f, (enum codec)codec, 12, 40);
		fx_records(&f, (enum codec)codec, 12, 30, -1);
	}
	check_ends(&f);
	struct log_cursor *c = log_cursor_new(f.log);
	for (int64_t at = 0; at <= f.m.end_position; at++)
		for (size_t n = 1; n < 12; n++)
			check_read(&f, c, at, n);
	log_cursor_free(c);
}

/* Values over 1 MiB in one batch with empty ones beside; read in small pieces from places inside them, before and after their crc was seen. */
static void test_large_values(void **state)
{
	(void)state;
	f.limits.segment_bytes = 8 << 20;
	fx_open(&f);
	for (int codec = 0; codec < 2; codec++) {
		size_t bytes = 3 << 20;
		char *text = malloc(bytes);
		memset(text, 'x', bytes);
		for (size_t i = 0; i < bytes; i += 997)
			text[i] = (char)('a' + below(20));
		text[0] = text[1] = text[100] = text[bytes - 1] = text[bytes - 2] = '\n';
		text[bytes / 2] = '\n';
		fx_text(&f, codec ? CODEC_LZ4 : CODEC_NONE, text, bytes);
		free(text);
		fx_lines(&f, CODEC_NONE, 20, 100);
	}
	fx_lines(&f, CODEC_NONE, 3000, 1000); /* one batch with marks inside */
	check_log(&f);
	check_random(&f, 150, 300000);
	fx_reopen(&f);
	check_random(&f, 150, 300);
	check_sequential(&f, 65536);
	check_places(&f, 50);
}

/* Batches of exactly one record each, so that entries stand between batches. */
static void test_small_batches(void **state)
{
	(void)state;
	f.limits.segment_bytes = 1 << 16;
	f.limits.interval_bytes = 512;
	fx_open(&f);
	for (int i = 0; i < 3000; i++)
		fx_lines(&f, CODEC_NONE, 1, 50);
	check_log(&f);
	check_places(&f, 7);
}

static void test_transactions(void **state)
{
	(void)state;
	f.limits.segment_bytes = 30000;
	fx_open(&f);
	for (int i = 0; i < 12; i++) {
		fx_mixture(&f, 15, true);
		check_log(&f);
		if (i % 4 == 1)
			fx_reopen(&f);
		if (i % 4 == 3) {
			fx_crash(&f);
			fx_open(&f);
		}
		check_log(&f);
	}
}

/* An open transaction hides what is behind it, over rolls, reopening and recovery; then it is decided either way. */
static void open_over_segments(bool commit, bool clean, bool drop_views)
{
	fx_init(&f, NULL);
	f.limits.segment_bytes = 1 << 14;
	fx_open(&f);
	fx_mixture(&f, 10, false);
	int t = fx_begin(&f, 7);
	fx_records(&f, CODEC_NONE, 10, 100, t);
	for (int i = 0; i < 16; i++) {
		fx_lines(&f, CODEC_NONE, 60, 200);
		if (i == 4)
			fx_records(&f, CODEC_LZ4, 10, 100, t);
	}
	assert_true(f.log->shape->segment_count > 3);
	check_log(&f);
	assert_true(f.m.stable < f.m.leo);
	fx_close(&f);
	if (!clean)
		f.has_row = false;
	if (drop_views) {
		char command[300];
		snprintf(command, sizeof command, "rm -f %s/*.view", f.dir);
		assert_int_equal(system(command), 0);
	}
	fx_open(&f);
	check_log(&f);
	fx_lines(&f, CODEC_NONE, 40, 200);
	check_log(&f);
	fx_end(&f, t, commit);
	check_log(&f);
	fx_lines(&f, CODEC_NONE, 40, 200);
	check_log(&f);
	fx_reopen(&f);
	check_log(&f);
	check_places(&f, 1);
	fx_crash(&f);
	fx_open(&f);
	check_log(&f);
	fx_release(&f);
}

static void test_open_transactions(void **state)
{
	(void)state;
	for (int k = 0; k < 8; k++)
		open_over_segments(k & 1, k & 2, k & 4);
}

static void test_roll_by_time(void **state)
{
	(void)state;
	f.limits.segment_ms = 1000;
	fx_open(&f);
	fx_lines(&f, CODEC_NONE, 3, 20);
	f.now_ms += 1000;
	fx_lines(&f, CODEC_NONE, 3, 20);
	assert_int_equal(f.log->shape->segment_count, 1);
	fx_reopen(&f); /* the time of its first batch is read again */
	f.now_ms += 1;
	fx_lines(&f, CODEC_NONE, 3, 20);
	assert_int_equal(f.log->shape->segment_count, 2);
	f.now_ms -= 5000; /* backwards: no roll */
	fx_lines(&f, CODEC_NONE, 3, 20);
	assert_int_equal(f.log->shape->segment_count, 2);
	check_log(&f);
}

static void test_roll_by_index(void **state)
{
	(void)state;
	f.limits.index_bytes = 10 * 12;
	f.limits.interval_bytes = 100;
	fx_open(&f);
	for (int i = 0; i < 200; i++)
		fx_lines(&f, CODEC_NONE, 1, 100);
	assert_true(f.log->shape->segment_count > 5);
	check_log(&f);
	/* an index that is lost is made again, however small segment.index.bytes is by now */
	fx_close(&f);
	f.limits.index_bytes = 2 * 12;
	f.limits.interval_bytes = 4096;
	char command[300];
	snprintf(command, sizeof command, "rm -f %s/*index", f.dir);
	assert_int_equal(system(command), 0);
	fx_open(&f);
	check_log(&f);
	check_places(&f, 1);
	fx_lines(&f, CODEC_NONE, 30, 100);
	check_log(&f);
}

static void test_many_sets_at_once(void **state)
{
	(void)state;
	enum { N = 150 };
	f.limits.segment_bytes = 1 << 14;
	fx_open(&f);
	static struct record_set set[N], *list[N];
	int64_t base[N];
	size_t done;
	for (int i = 0; i < N; i++) {
		size_t bytes, taken;
		char *text = make_lines(1 + below(20), 50, &bytes);
		struct batch_style style = fx_style((enum codec)below(CODEC_COUNT));
		record_set_init(&set[i]);
		list[i] = &set[i];
		assert_int_equal(record_set_add_lines(&set[i], &style, text, bytes, f.now_ms, &taken, &f.err), 0);
		base[i] = f.m.leo;
		model_lines(&f, text, bytes);
		free(text);
	}
	int64_t given[N];
	assert_int_equal(log_append(f.log, list, N, 0, true, given, &done, &f.err), 0);
	assert_int_equal(done, N);
	assert_memory_equal(given, base, sizeof base);
	check_log(&f);
	for (int i = 0; i < N; i++)
		record_set_release(&set[i]);
}

static void move_start(int64_t offset)
{
	int64_t position;
	assert_int_equal(log_position_of(f.log, offset, &position, &f.err), 0);
	assert_int_equal(log_set_start(f.log, offset, position, &f.err), 0);
	f.m.start_offset = offset;
	fx_keep_pair(&f);
}

/* The start moves inside a batch, inside a segment and over segments; positions stay; views of the head that are lost come back from the start. */
static void test_log_start(void **state)
{
	(void)state;
	f.limits.segment_bytes = 1 << 14;
	fx_open(&f);
	fx_mixture(&f, 60, true);
	int64_t step = f.m.leo / 23 + 1;
	for (int64_t at = 1; at < f.m.leo; at += 1 + (int64_t)below((size_t)step)) {
		move_start(at);
		check_log(&f);
		char c;
		struct log_cursor *cursor = log_cursor_new(f.log);
		if (f.m.start_position > 0)
			assert_int_equal(log_cursor_read(cursor, f.m.start_position - 1, f.m.end_position, &c, 1, &f.err), ERR_OUT_OF_RANGE);
		log_cursor_free(cursor);
		switch (below(4)) {
		case 0:
			fx_reopen(&f);
			break;
		case 1:
			fx_crash(&f);
			fx_open(&f);
			break;
		case 2:
			fx_close(&f);
			unlink(fx_file(&f, f.log ? 0 : f.row.active_base, ".view"));
			char command[300];
			snprintf(command, sizeof command, "rm -f %s/*.view", f.dir);
			assert_int_equal(system(command), 0);
			f.has_row = below(2);
			fx_open(&f);
			break;
		default:
			break;
		}
		check_log(&f);
		assert_true(f.log->shape->segment[0]->base_offset <= at);
		assert_true(f.log->shape->segment_count == 1 || f.log->shape->segment[1]->base_offset > at);
	}
	move_start(f.m.leo); /* all of it */
	check_log(&f);
	fx_reopen(&f);
	check_log(&f);
	fx_lines(&f, CODEC_NONE, 5, 20);
	check_log(&f);
	fx_crash(&f);
	fx_open(&f);
	check_log(&f);
	assert_int_equal(log_remove_deleted(f.log, &f.err), 0);
	check_log(&f);
}

/* A crash came between the pair's being durable and the deletion of segments. */
static void test_start_before_crash(void **state)
{
	(void)state;
	f.limits.segment_bytes = 1 << 13;
	fx_open(&f);
	fx_mixture(&f, 100, false);
	assert_true(f.log->shape->segment_count > 6);
	check_log(&f);
	int64_t start = f.log->shape->segment[3]->base_offset + 2, position;
	assert_int_equal(log_position_of(f.log, start, &position, &f.err), 0);
	fx_crash(&f);
	f.m.start_offset = f.pair_offset = start;
	f.pair_position = position;
	/* and the views of the head are gone, as are those in the middle */
	char command[300];
	snprintf(command, sizeof command, "rm -f %s/*.view", f.dir);
	assert_int_equal(system(command), 0);
	fx_open(&f);
	check_log(&f);
	assert_true(f.log->deleted_pending);
	assert_int_equal(file_size(fx_file(&f, 0, ".log")), -1);
	assert_true(file_size(fx_file(&f, 0, ".log.deleted")) > 0);
	assert_int_equal(log_remove_deleted(f.log, &f.err), 0);
	assert_int_equal(file_size(fx_file(&f, 0, ".log.deleted")), -1);
	check_log(&f);
}

/* A reader that stands in a deleted segment, or seeks there, is told that it is out of range. */
static void test_reader_falls_behind(void **state)
{
	(void)state;
	f.limits.segment_bytes = 1 << 13;
	fx_open(&f);
	fx_mixture(&f, 100, false);
	assert_true(f.log->shape->segment_count > 6);
	check_ends(&f);
	struct log_cursor *c = log_cursor_new(f.log), *fresh = log_cursor_new(f.log);
	check_read(&f, c, 0, 100);
	move_start(f.log->shape->segment[4]->base_offset);
	assert_int_equal(log_remove_deleted(f.log, &f.err), 0);
	char buf[100];
	assert_int_equal(log_cursor_read(c, 100, f.log->view_position, buf, 100, &f.err), ERR_OUT_OF_RANGE);
	assert_int_equal(log_cursor_read(fresh, 100, f.log->view_position, buf, 100, &f.err), ERR_OUT_OF_RANGE);
	check_log(&f);
	check_read(&f, c, f.m.start_position, 100);
	log_cursor_free(c);
	log_cursor_free(fresh);
}

static void test_limits_change(void **state)
{
	(void)state;
	fx_open(&f);
	for (int i = 0; i < 30; i++) {
		f.limits.segment_bytes = (uint32_t)(1 << 14) + (uint32_t)below(100000);
		f.limits.index_bytes = 256 + (uint32_t)below(2000);
		f.limits.interval_bytes = (uint32_t)below(6000);
		log_set_limits(f.log, &f.limits);
		fx_mixture(&f, 8, false);
		if (below(4) == 0)
			fx_reopen(&f);
	}
	check_log(&f);
	fx_crash(&f);
	fx_open(&f);
	check_log(&f);
}

/* ---- files beside the .log ---- */

struct damage { const char *suffix; char *bytes; size_t n; int64_t base; };

static void open_and_check(bool with_row)
{
	f.has_row = with_row;
	fx_open(&f);
	check_ends(&f);
	check_sequential(&f, 7001);
	check_random(&f, 8, 3000);
	check_places(&f, 1 + f.m.count / 12);
	log_free(f.log);
	f.log = NULL;
}

/* Each of .view, .index and .timeindex of the first, a middle and the active segment, deleted, cut at any length, filled with garbage, one byte flipped anywhere. */
static void test_damaged_side_files(void **state)
{
	(void)state;
	static const char *const suffixes[] = {".view", ".index", ".timeindex"};
	char copy[100];
	f.limits.segment_bytes = 17000;
	f.limits.interval_bytes = 1024;
	fx_open(&f);
	for (int i = 0; i < 60; i++) {
		f.now_ms += 10;
		fx_lines(&f, i % 5 ? CODEC_NONE : CODEC_ZSTD, 8, 150);
	}
	fx_lines(&f, CODEC_NONE, 60, 400); /* with marks inside */
	fx_lines(&f, CODEC_NONE, 8, 150);
	fx_close(&f);
	snprintf(copy, sizeof copy, "%s/copy", f.root);
	copy_tree(f.dir, copy);
	int64_t bases[3];
	fx_open(&f);
	struct log_shape *shape = f.log->shape;
	assert_true(shape->segment_count > 2);
	bases[0] = shape->segment[0]->base_offset;
	bases[1] = shape->segment[1]->base_offset;
	bases[2] = shape->segment[shape->segment_count - 1]->base_offset;
	log_free(f.log);
	f.log = NULL;
	for (size_t k = 0; k < 9; k++) {
		const char *path = fx_file(&f, bases[k / 3], suffixes[k % 3]);
		char where[PATH_MAX];
		snprintf(where, sizeof where, "%s", path);
		size_t n;
		char *bytes = slurp(where, &n);
		assert_int_equal(unlink(where), 0);
		open_and_check(k & 1);
		for (size_t cut = 0; cut < n; cut += 1 + below(n / 50 + 1)) {
			copy_tree(copy, f.dir);
			assert_int_equal(truncate(where, (off_t)cut), 0);
			open_and_check(cut & 1);
		}
		for (size_t at = 0; at < n; at += 1 + below(n / 70 + 1)) {
			copy_tree(copy, f.dir);
			bytes[at] ^= (char)(1 << below(8));
			spit(where, bytes, n);
			open_and_check(at & 1);
			free(bytes);
			copy_tree(copy, f.dir);
			bytes = slurp(where, &n);
		}
		for (int i = 0; i < 4; i++) {
			char garbage[999];
			for (size_t b = 0; b < sizeof garbage; b++)
				garbage[b] = i ? (char)chance() : 0;
			copy_tree(copy, f.dir);
			spit(where, garbage, i == 1 ? sizeof garbage : 960);
			open_and_check(i & 1);
		}
		free(bytes);
		copy_tree(copy, f.dir);
	}
}

/* A .txnindex that is damaged is made again: what was aborted stays hidden. */
static void test_damaged_txnindex(void **state)
{
	(void)state;
	f.limits.segment_bytes = 20000;
	fx_open(&f);
	fx_mixture(&f, 120, true);
	check_log(&f);
	fx_close(&f);
	struct fx_names { int64_t base[50]; size_t n; } names = {.n = 0};
	fx_open(&f);
	for (size_t i = 0; i < f.log->shape->segment_count && names.n < 50; i++)
		if (file_size(fx_file(&f, f.log->shape->segment[i]->base_offset, ".txnindex")) > 0)
			names.base[names.n++] = f.log->shape->segment[i]->base_offset;
	log_free(f.log);
	f.log = NULL;
	assert_true(names.n > 1);
	for (size_t i = 0; i < names.n; i++) {
		char path[PATH_MAX];
		snprintf(path, sizeof path, "%s", fx_file(&f, names.base[i], ".txnindex"));
		int64_t size = file_size(path);
		size_t n;
		char *before = slurp(path, &n);
		assert_int_equal(truncate(path, size - 1 - (off_t)below(30)), 0);
		f.has_row = i & 1;
		fx_open(&f);
		check_log(&f);
		size_t m;
		char *after = slurp(path, &m);
		assert_int_equal(n, m);
		assert_memory_equal(before, after, n);
		free(before);
		free(after);
		fx_close(&f);
	}
}

/* One byte flipped anywhere in the .log, read with the row of a clean stop: right bytes, or an error; never others. */
static void test_flipped_log(void **state)
{
	(void)state;
	f.limits.segment_bytes = 30000;
	fx_open(&f);
	for (int i = 0; i < 16; i++)
		fx_lines(&f, (enum codec)(i % CODEC_COUNT), 20, 120);
	fx_close(&f);
	model_build(&f.m);
	char path[PATH_MAX];
	snprintf(path, sizeof path, "%s", fx_file(&f, 0, ".log"));
	int fd = open(path, O_RDWR);
	assert_true(fd >= 0);
	int64_t size = file_size(path);
	size_t errors = 0;
	char *buf = malloc((size_t)f.m.end_position + 1);
	for (int64_t at = 0; at < size; at += at < 300 ? 1 : 1 + (int64_t)below(23)) {
		char c, d;
		assert_int_equal(pread(fd, &c, 1, at), 1);
		d = (char)(c ^ (1 << below(8)));
		assert_int_equal(pwrite(fd, &d, 1, at), 1);
		f.has_row = true;
		fx_open(&f);
		struct log_cursor *cursor = log_cursor_new(f.log);
		for (int64_t from = 0; from < f.m.end_position;) {
			size_t n = 1 + below(20000);
			ssize_t got = log_cursor_read(cursor, from, f.m.end_position, buf, n, &f.err);
			if (got < 0) {
				assert_true(f.err.code == ERR_CORRUPT || f.err.code == ERR_UNSUPPORTED);
				assert_true(strlen(f.err.text) > 10);
				errors++;
				got = 1 + (ssize_t)below(1500); /* somewhere behind it goes on */
			} else {
				assert_true(got > 0);
				if (memcmp(buf, f.m.view + from, (size_t)got))
					fail_msg("wrong bytes at %" PRId64 ", byte %" PRId64 " of the .log was %02x, now %02x", from, at, c & 255, d & 255);
				assert_memory_equal(buf, f.m.view + from, (size_t)got);
			}
			from += got;
		}
		log_cursor_free(cursor);
		log_free(f.log);
		f.log = NULL;
		assert_int_equal(pwrite(fd, &c, 1, at), 1);
	}
	assert_true(errors > 20);
	free(buf);
	close(fd);
	fx_open(&f);
	check_log(&f);
}

/* More segments than may be open at once: files are closed and opened again under the readers' and the appender's feet. */
static void test_few_open_files(void **state)
{
	(void)state;
	segment_cache_free(f.cache);
	f.cache = segment_cache_new(2);
	f.limits.segment_bytes = 1 << 14;
	fx_open(&f);
	struct log_cursor *c[4];
	for (int i = 0; i < 4; i++)
		c[i] = log_cursor_new(f.log);
	for (int i = 0; i < 40; i++) {
		fx_mixture(&f, 5, true);
		check_ends(&f);
		for (int k = 0; k < 4; k++)
			if (f.m.end_position)
				check_read(&f, c[k], (int64_t)below((size_t)f.m.end_position), 1 + below(9000));
		assert_true(segment_cache_open_count(f.cache) <= 3);
	}
	for (int i = 0; i < 4; i++)
		log_cursor_free(c[i]);
	check_log(&f);
}

/* A row whose counter of bytes since the last index entry began anew with each opening would leave a slow log without an index. */
static void test_index_grows_over_openings(void **state)
{
	(void)state;
	f.limits.interval_bytes = 1000;
	fx_open(&f);
	for (int i = 0; i < 60; i++) {
		size_t n = 200;
		char text[200];
		memset(text, 'l', n);
		text[n - 1] = '\n';
		fx_text(&f, CODEC_NONE, text, n);
		fx_reopen(&f);
	}
	assert_true(file_size(fx_file(&f, 0, ".index")) >= 8 * 10);
	check_log(&f);
}

/* Records that carry no timestamp have no place in the time index. */
static void test_no_timestamps(void **state)
{
	(void)state;
	f.now_ms = -1;
	f.limits.interval_bytes = 100;
	f.limits.segment_bytes = 1 << 14;
	fx_open(&f);
	for (int i = 0; i < 40; i++)
		fx_lines(&f, CODEC_NONE, 10, 100);
	check_log(&f);
	assert_true(f.log->shape->segment_count > 1);
	fx_close(&f);
	assert_int_equal(file_size(fx_file(&f, 0, ".timeindex")), 0);
	unlink(fx_file(&f, 0, ".index"));
	f.has_row = false;
	f.recovery_point = 0;
	fx_open(&f);
	check_log(&f);
	assert_int_equal(file_size(fx_file(&f, 0, ".timeindex")), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(test_empty),
		T(test_model),
		T(test_every_position),
		T(test_large_values),
		T(test_small_batches),
		T(test_transactions),
		cmocka_unit_test(test_open_transactions),
		T(test_roll_by_time),
		T(test_roll_by_index),
		T(test_many_sets_at_once),
		T(test_log_start),
		T(test_start_before_crash),
		T(test_reader_falls_behind),
		T(test_limits_change),
		T(test_damaged_side_files),
		T(test_damaged_txnindex),
		T(test_flipped_log),
		T(test_few_open_files),
		T(test_index_grows_over_openings),
		T(test_no_timestamps),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
