#include "tests/unit/log_fixture.h"

/* Readers of a log: several at once, while it grows, rolls and loses its head; what they hold open, and what damage costs them. */

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

/* Many cursors on one log, each its own way, as it grows. */
static void test_many_cursors(void **state)
{
	(void)state;
	enum { N = 6 };
	struct log_cursor *c[N];
	int64_t at[N] = {0};
	f.limits.segment_bytes = 20000;
	fx_open(&f);
	for (int i = 0; i < N; i++)
		c[i] = log_cursor_new(f.log);
	for (int round = 0; round < 60; round++) {
		fx_mixture(&f, 3, false);
		model_build(&f.m);
		for (int i = 0; i < N; i++) {
			if (below(20) == 0)
				at[i] = (int64_t)below((size_t)f.m.end_position + 1);
			if (below(30) == 0)
				log_cursor_rest(c[i]);
			size_t n = 1 + below(i < 3 ? 200 : 20000);
			check_read(&f, c[i], at[i], n);
			at[i] += (int64_t)n < f.m.end_position - at[i] ? (int64_t)n : f.m.end_position - at[i];
		}
	}
	for (int i = 0; i < N; i++)
		log_cursor_free(c[i]);
}

/* The end that is given bounds what is read, wherever it is. */
static void test_end(void **state)
{
	(void)state;
	fx_open(&f);
	fx_mixture(&f, 30, false);
	model_build(&f.m);
	char *buf = malloc((size_t)f.m.end_position + 10);
	struct log_cursor *c = log_cursor_new(f.log);
	for (int i = 0; i < 300; i++) {
		int64_t end = (int64_t)below((size_t)f.m.end_position + 1), at = (int64_t)below((size_t)end + 10);
		ssize_t got = log_cursor_read(c, at, end, buf, (size_t)f.m.end_position, &f.err);
		assert_int_equal(got, at < end ? end - at : 0);
		if (got)
			assert_memory_equal(buf, f.m.view + at, (size_t)got);
	}
	assert_int_equal(log_cursor_read(c, 0, f.m.end_position, buf, 0, &f.err), 0);
	log_cursor_free(c);
	log_cursor_free(NULL);
	free(buf);
}

/* A cursor at rest, or one that waits at the end, holds no file open: segments can be closed under it. */
static void test_idle_cursor_holds_nothing(void **state)
{
	(void)state;
	segment_cache_free(f.cache);
	f.cache = segment_cache_new(1);
	f.limits.segment_bytes = 1 << 14;
	fx_open(&f);
	fx_mixture(&f, 80, false);
	model_build(&f.m);
	struct log_cursor *c[10];
	for (int i = 0; i < 10; i++) {
		c[i] = log_cursor_new(f.log);
		check_read(&f, c[i], f.m.end_position * i / 10, 100);
	}
	assert_true(segment_cache_open_count(f.cache) <= 2);
	for (int i = 0; i < 10; i++) {
		check_read(&f, c[i], f.m.end_position * i / 10 + 100, 1000);
		log_cursor_free(c[i]);
	}
}

/* A cursor outlives the deletion of its segment while its files are open, and is told when they are not. */
static void test_deleted_under_it(void **state)
{
	(void)state;
	f.limits.segment_bytes = 1 << 14;
	fx_open(&f);
	fx_mixture(&f, 120, false);
	model_build(&f.m);
	struct log_cursor *c = log_cursor_new(f.log);
	char buf[64];
	check_read(&f, c, 0, 64);
	int64_t start = f.log->shape->segment[2]->base_offset, position;
	assert_int_equal(log_position_of(f.log, start, &position, &f.err), 0);
	assert_int_equal(log_set_start(f.log, start, position, &f.err), 0);
	assert_int_equal(log_remove_deleted(f.log, &f.err), 0);
	assert_int_equal(log_cursor_read(c, 64, f.m.end_position, buf, 64, &f.err), ERR_OUT_OF_RANGE);
	check_read(&f, c, position, 64);
	log_cursor_free(c);
}

/* A damaged batch is an error each time it is met, at whatever place inside it the reading begins, and never the bytes of another. */
static void test_damaged_batch(void **state)
{
	(void)state;
	fx_open(&f);
	for (int i = 0; i < 30; i++)
		fx_lines(&f, (enum codec)(i % CODEC_COUNT), 20, 100);
	model_build(&f.m);
	fx_close(&f);
	/* in the middle of the log, from batch to batch */
	char path[PATH_MAX];
	snprintf(path, sizeof path, "%s", fx_file(&f, 0, ".log"));
	size_t n;
	char *bytes = slurp(path, &n);
	int64_t offset = 0;
	char *buf = malloc((size_t)f.m.end_position + 1);
	for (size_t at = 0; at < n;) {
		size_t size = be32_get(bytes + at + 8) + 12;
		int64_t begin = f.m.position[offset], end;
		offset += (int64_t)be32_get(bytes + at + 23) + 1;
		end = f.m.position[offset];
		bytes[at + size - 2] ^= 0x10;
		spit(path, bytes, n);
		bytes[at + size - 2] ^= 0x10;
		f.has_row = true;
		fx_open(&f);
		struct log_cursor *c = log_cursor_new(f.log);
		for (int i = 0; i < 20; i++) {
			int64_t from = begin + (int64_t)below((size_t)(end - begin));
			for (int again = 0; again < 3; again++)
				assert_int_equal(log_cursor_read(c, from, f.m.end_position, buf, 100, &f.err), ERR_CORRUPT);
		}
		ssize_t got = log_cursor_read(c, 0, f.m.end_position, buf, (size_t)f.m.end_position, &f.err);
		assert_int_equal(got, begin ? begin : ERR_CORRUPT);
		if (got > 0)
			assert_memory_equal(buf, f.m.view, (size_t)got);
		assert_int_equal(log_cursor_read(c, begin, f.m.end_position, buf, 10, &f.err), ERR_CORRUPT);
		for (int i = 0; i < 40; i++) {
			int64_t from = (int64_t)below((size_t)f.m.end_position);
			got = log_cursor_read(c, from, f.m.end_position, buf, 1 + below(3000), &f.err);
			if (got > 0)
				assert_memory_equal(buf, f.m.view + from, (size_t)got);
			else
				assert_int_equal(got, ERR_CORRUPT);
		}
		log_cursor_free(c);
		log_free(f.log);
		f.log = NULL;
		at += size;
	}
	spit(path, bytes, n);
	free(bytes);
	free(buf);
	fx_open(&f);
	check_log(&f);
}

struct extent { int64_t begin, end; }; /* view positions */

/* The view positions of batch number `which` of a segment's file, and where it is. */
static struct extent batch_extent(const char *bytes, size_t n, size_t which, size_t *at)
{
	*at = 0;
	while (which-- && *at + be32_get(bytes + *at + 8) + 12 < n)
		*at += be32_get(bytes + *at + 8) + 12;
	int64_t offset = (int64_t)be64_get(bytes + *at);
	return (struct extent){f.m.position[offset], f.m.position[offset + (int64_t)be32_get(bytes + *at + 23) + 1]};
}

/* Everything can be read but what is in [lost.begin, lost.end); what may be read there is right. Records are found too. */
static void check_all_but(struct extent lost)
{
	char buf[200];
	struct log_cursor *c = log_cursor_new(f.log);
	log_cursor_visible(c, f.m.stable, f.m.end_position);
	for (size_t i = 0; i < f.m.visible; i++) {
		int64_t from = f.m.position[i], offset, position;
		if (from >= f.m.end_position)
			break;
		bool good = from < lost.begin || from >= lost.end;
		ssize_t got = log_cursor_read(c, from, f.m.end_position, buf, sizeof buf, &f.err);
		if (got < 0 && good)
			fail_msg("position %" PRId64 ", with %" PRId64 " to %" PRId64 " damaged: %s", from, lost.begin, lost.end, f.err.text);
		if (got > 0)
			assert_memory_equal(buf, f.m.view + from, (size_t)got);
		int rc = log_locate(f.log, from, &offset, &position, &f.err);
		assert_true(rc == 0 ? position == from && f.m.position[offset] == from : rc == ERR_CORRUPT);
		if (rc == 0) {
			assert_int_equal(log_position_of(f.log, offset, &position, &f.err), 0);
			assert_int_equal(position, from);
		}
	}
	log_cursor_free(c);
}

/* One flipped bit costs its batch alone: what stands between it and the next .view entry, the next segment or the log's end can be read, whatever the bit was. Of two
 * damaged batches, at most what is between them is lost too. */
static void test_behind_damage(void **state)
{
	(void)state;
	f.limits.segment_bytes = 30000;
	fx_open(&f);
	fx_mixture(&f, 250, true);
	model_build(&f.m);
	for (size_t times = 0; times < 300; times++) {
		char path[PATH_MAX];
		size_t n, at, other, segment = below(f.log->shape->segment_count);
		snprintf(path, sizeof path, "%s", fx_file(&f, f.log->shape->segment[segment]->base_offset, ".log"));
		fx_close(&f);
		char *bytes = slurp(path, &n);
		size_t which = below(40);
		struct extent lost = batch_extent(bytes, n, which, &at);
		size_t bit = below(3) ? 8 * (at + 61) - below(8 * 40) - 1 : 8 * (at + be32_get(bytes + at + 8) + 12) - below(300) - 1;
		bytes[bit / 8] ^= (char)(1 << bit % 8);
		if (times % 3 == 0) {
			bytes[bit / 8] ^= (char)(1 << bit % 8);
			struct extent second = batch_extent(bytes, n, which + 1 + below(4), &other);
			bytes[bit / 8] ^= (char)(1 << bit % 8);
			bytes[other + 65] ^= 4;
			lost.end = second.end;
			spit(path, bytes, n);
			bytes[other + 65] ^= 4;
		} else {
			spit(path, bytes, n);
		}
		f.has_row = true;
		fx_open(&f);
		check_all_but(lost);
		bytes[bit / 8] ^= (char)(1 << bit % 8);
		spit(path, bytes, n);
		free(bytes);
		fx_reopen(&f);
	}
	check_log(&f);
}

/* ---- together with an appender ---- */

struct crowd {
	_Atomic bool stop;
	_Atomic int64_t end;   /* what is visible, as the partition would publish it */
	_Atomic size_t errors, reads;
	char *view;            /* what will be there */
};

static void complain(struct crowd *c, const char *what, int64_t at, const struct err *e)
{
	if (c->errors++ < 5)
		print_error("%s at %" PRId64 ": %s\n", what, at, e ? e->text : "");
}

static void read_along(void *arg, size_t k)
{
	struct crowd *c = arg;
	struct err e = ERR_INIT;
	struct log_cursor *cursor = log_cursor_new(f.log);
	char *buf = malloc(30000);
	uint64_t x = 88172645463325252u + k * 77;
	int64_t at = 0;
	while (!c->stop) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		int64_t end = c->end, start = f.log->start_position;
		if (k % 2 && end > start)
			at = start + (int64_t)(x % (uint64_t)(end - start));
		ssize_t got = log_cursor_read(cursor, at, end, buf, 1 + x % 29999, &e);
		if (got > 0 && memcmp(buf, c->view + at, (size_t)got))
			complain(c, "wrong bytes", at, NULL);
		if (got < 0 && got != ERR_OUT_OF_RANGE)
			complain(c, "read", at, &e);
		if (got == ERR_OUT_OF_RANGE)
			at = f.log->start_position;
		else if (got > 0)
			at += got;
		if (got > 0 && x % 50 == 0) {
			int64_t offset, position;
			int rc = log_locate(f.log, at - got, &offset, &position, &e);
			if (rc == 0 ? position > at - got : rc != ERR_OUT_OF_RANGE && at - got >= f.log->start_position)
				complain(c, "locate", at - got, &e);
		}
		c->reads++;
	}
	free(buf);
	log_cursor_free(cursor);
}

static void *append_along(void *arg)
{
	struct crowd *c = arg;
	struct record_set set;
	struct err e = ERR_INIT;
	size_t from = 0;
	for (int i = 0; i < 400; i++) {
		char *text = c->view + from, *nl = text;
		for (int k = 0; k < 10 + i % 90; k++)
			nl = strchr(nl, '\n') + 1;
		struct batch_style style = fx_style(i % 3 ? CODEC_NONE : CODEC_LZ4);
		size_t taken, done;
		int64_t base;
		struct record_set *list = &set;
		record_set_init(&set);
		if (record_set_add_lines(&set, &style, text, (size_t)(nl - text), 1, &taken, &e) < 0 || log_append(f.log, &list, 1, 0, true, &base, &done, &e) < 0)
			complain(c, "append", (int64_t)from, &e);
		record_set_release(&set);
		from += taken;
		c->end = f.log->view_position;
		if (c->end != (int64_t)from)
			complain(c, "the end is not where it should be", c->end, NULL);
		if (i % 40 == 39) { /* the head goes */
			int64_t start = f.log->shape->segment[f.log->shape->segment_count / 2]->base_offset, position;
			if (log_position_of(f.log, start, &position, &e) < 0 || log_set_start(f.log, start, position, &e) < 0 || log_remove_deleted(f.log, &e) < 0)
				complain(c, "start", start, &e);
		}
		if (i % 10 == 0)
			usleep(1000);
	}
	usleep(20000);
	c->stop = true;
	return NULL;
}

static void test_while_it_grows(void **state)
{
	(void)state;
	segment_cache_free(f.cache);
	f.cache = segment_cache_new(4);
	f.limits.segment_bytes = 60000;
	fx_open(&f);
	size_t bytes;
	struct crowd c = {.view = make_lines(60000, 60, &bytes)};
	c.view[bytes] = 0;
	pthread_t appender;
	assert_int_equal(pthread_create(&appender, NULL, append_along, &c), 0);
	pool_for_each(f.pool, 4, read_along, &c);
	pthread_join(appender, NULL);
	assert_int_equal(c.errors, 0);
	assert_true(c.reads > 50);
	free(c.view);
}

/* Sealed segments without views: many readers make them at once. */
static void read_all(void *arg, size_t k)
{
	struct crowd *c = arg;
	struct err e = ERR_INIT;
	struct log_cursor *cursor = log_cursor_new(f.log);
	char buf[5000];
	for (int i = 0; i < 50; i++) {
		int64_t at = (int64_t)((uint64_t)(i * 7919 + (int)k * 104729) * 31 % (uint64_t)f.m.end_position);
		ssize_t got = log_cursor_read(cursor, at, f.m.end_position, buf, sizeof buf, &e);
		if (got <= 0 || memcmp(buf, f.m.view + at, (size_t)got))
			c->errors++;
	}
	log_cursor_free(cursor);
}

static void test_views_made_by_many(void **state)
{
	(void)state;
	f.limits.segment_bytes = 20000;
	fx_open(&f);
	fx_mixture(&f, 200, true);
	fx_close(&f);
	model_build(&f.m);
	for (int round = 0; round < 10; round++) {
		char command[200];
		struct crowd c = {0};
		snprintf(command, sizeof command, "rm -f %s/*.view", f.dir);
		assert_int_equal(system(command), 0);
		f.has_row = true;
		fx_open(&f);
		pool_for_each(f.pool, 8, read_all, &c);
		assert_int_equal(c.errors, 0);
		log_free(f.log);
		f.log = NULL;
	}
	fx_open(&f);
	check_log(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(test_many_cursors),
		T(test_end),
		T(test_idle_cursor_holds_nothing),
		T(test_deleted_under_it),
		T(test_damaged_batch),
		T(test_behind_damage),
		T(test_while_it_grows),
		T(test_views_made_by_many),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
