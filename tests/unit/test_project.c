#include "tests/unit/log_fixture.h"

#include "store/log_view.h"

/* From the log to positions: which batches get an entry in the .view, that each entry tells the truth, and that it does not matter in which steps, or how often, a
 * log is projected. */

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

static const struct item *item_of(int64_t offset)
{
	return offset < (int64_t)f.m.count ? &f.m.item[offset] : NULL;
}

/* Every entry of every segment against the model and the .log; and none too few. */
static void check_entries(void)
{
	model_build(&f.m);
	struct log_shape *shape = f.log->shape;
	for (size_t i = 0; i < shape->segment_count && shape->segment[i]->base_offset < f.m.stable; i++) {
		struct segment *s = shape->segment[i];
		assert_int_equal(segment_pin(s, &f.err), 0);
		if (!s->view_ok) {
			assert_int_equal(log_need_view(f.log, shape, i, &f.err), 0);
			assert_true(s->view_ok);
		}
		assert_int_equal(s->first_position, f.m.position[s->base_offset]);
		struct view_entry before = {.offset = -1};
		uint32_t n = entries_count(&s->view.e);
		for (uint32_t k = 0; k < n; k++) {
			struct view_entry entry;
			struct batch b;
			uint8_t header[BATCH_HEADER_BYTES];
			assert_int_equal(view_entry_at(&s->view, k, &entry), 1);
			assert_non_null(item_of(entry.offset));
			assert_int_equal(entry.position, f.m.position[entry.offset]);
			assert_true(entry.offset > before.offset);
			assert_true(k == 0 || entry.batch_position >= before.batch_position);
			assert_int_equal(io_pread(s->fd, header, sizeof header, entry.batch_position), sizeof header);
			assert_int_equal(batch_decode(&b, header, sizeof header, INT32_MAX, NULL), 0);
			assert_true(b.base_offset <= entry.offset && entry.offset <= batch_last_offset(&b));
			assert_int_equal(entry.byte_in_batch == 0, b.base_offset == entry.offset);
			if (entry.byte_in_batch)
				assert_int_equal(batch_codec(&b), CODEC_NONE);
			if (entry.batch_position != before.batch_position || k == 0) {
				/* the batches between two entries are not more than a step, or one */
				uint32_t from = k ? before.batch_position : 0, gap = entry.batch_position - from;
				if (k && gap > VIEW_STEP_BYTES) {
					assert_int_equal(io_pread(s->fd, header, sizeof header, from), sizeof header);
					assert_int_equal(batch_decode(&b, header, sizeof header, INT32_MAX, NULL), 0);
					assert_int_equal(b.size_bytes, gap);
				}
				if (k == 0)
					assert_int_equal(entry.batch_position, 0);
			}
			before = entry;
		}
		if (f.m.stable == f.m.leo && s->size_bytes)
			assert_true(n > 0);
		segment_unpin(s);
	}
}

static void test_entries(void **state)
{
	(void)state;
	f.limits.segment_bytes = 40000;
	fx_open(&f);
	for (int i = 0; i < 40; i++) {
		fx_mixture(&f, 8, i % 2);
		check_entries();
		if (i % 10 == 5)
			fx_reopen(&f);
	}
	fx_lines(&f, CODEC_NONE, 2000, 300); /* one large batch: marks inside */
	check_entries();
	assert_true(f.log->shape->segment_count > 3);
	fx_crash(&f);
	fx_open(&f);
	check_entries();
}

/* Appends without projecting, then projects in steps of any size, at batch boundaries: entries and position as if at once. */
static void test_in_steps(void **state)
{
	(void)state;
	struct record_set set;
	int64_t ends[300], base;
	size_t done;
	f.limits.segment_bytes = 30000;
	fx_open(&f);
	for (int i = 0; i < 300; i++) {
		size_t bytes, taken;
		char *text = make_lines(1 + below(20), 60, &bytes);
		struct batch_style style = fx_style((enum codec)below(CODEC_COUNT));
		struct record_set *list = &set;
		record_set_init(&set);
		assert_int_equal(record_set_add_lines(&set, &style, text, bytes, f.now_ms, &taken, &f.err), 0);
		assert_int_equal(log_append(f.log, &list, 1, 0, false, &base, &done, &f.err), 0);
		model_lines(&f, text, bytes);
		record_set_release(&set);
		free(text);
		ends[i] = f.log->leo;
	}
	assert_int_equal(f.log->view_offset, 0);
	assert_true(f.log->shape->segment_count > 3);
	model_build(&f.m);
	struct log_cursor *c = log_cursor_new(f.log);
	for (size_t i = below(5); i < 300; i += 1 + below(30)) {
		assert_int_equal(log_project(f.log, ends[i], &f.err), 0);
		assert_int_equal(f.log->view_offset, ends[i]);
		assert_int_equal(f.log->view_position, f.m.position[ends[i]]);
		int64_t end = f.m.end_position;
		f.m.end_position = f.log->view_position;
		for (int k = 0; k < 5; k++)
			check_read(&f, c, (int64_t)below((size_t)f.m.end_position), 1 + below(5000));
		f.m.end_position = end;
		assert_int_equal(log_project(f.log, ends[i], &f.err), 0); /* again: nothing */
	}
	log_cursor_free(c);
	assert_int_equal(log_project(f.log, f.log->leo, &f.err), 0);
	check_log(&f);
	fx_reopen(&f);
	check_entries();
	check_log(&f);
}

/* Views made again are those that grew, byte for byte. */
static void test_again(void **state)
{
	(void)state;
	f.limits.segment_bytes = 30000;
	fx_open(&f);
	fx_mixture(&f, 300, false);
	fx_close(&f);
	char command[400];
	snprintf(command, sizeof command, "mkdir %s/views && mv %s/*.view %s/views", f.root, f.dir, f.root);
	assert_int_equal(system(command), 0);
	fx_open(&f);
	check_entries();
	snprintf(command, sizeof command, "for x in %s/views/*; do cmp $x %s/$(basename $x) || exit 1; done", f.root, f.dir);
	assert_int_equal(system(command), 0);
}

/* A damaged batch ends a view that is made again, with an error for who reads there and not for who reads before it. */
static void test_damage(void **state)
{
	(void)state;
	f.limits.segment_bytes = 30000;
	fx_open(&f);
	for (int i = 0; i < 100; i++)
		fx_lines(&f, CODEC_NONE, 20, 60);
	assert_true(f.log->shape->segment_count > 2);
	fx_close(&f);
	model_build(&f.m);
	int fd = open(fx_file(&f, 0, ".log"), O_RDWR);
	assert_int_equal(pwrite(fd, "damage", 6, 15000), 6);
	close(fd);
	unlink(fx_file(&f, 0, ".view"));
	diag_set_level(DIAG_ERROR - 1);
	fx_open(&f);
	struct log_cursor *c = log_cursor_new(f.log);
	check_read(&f, c, 0, 8000);
	char buf[100];
	int64_t behind = -1;
	for (int64_t at = 8000; at < f.m.end_position; at += 500) {
		ssize_t got = log_cursor_read(c, at, f.m.end_position, buf, sizeof buf, &f.err);
		if (got < 0) {
			assert_int_equal(got, ERR_CORRUPT);
			behind = at;
		} else {
			assert_memory_equal(buf, f.m.view + at, (size_t)got);
		}
	}
	assert_true(behind > 8000);
	/* the segments behind have views of their own */
	check_read(&f, c, f.m.end_position - 3000, 3000);
	log_cursor_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(test_entries),
		T(test_in_steps),
		T(test_again),
		T(test_damage),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
