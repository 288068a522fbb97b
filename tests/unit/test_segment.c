#include "tests/unit/log_fixture.h"

/* One segment: its files, the cache of open ones, its indexes made anew, its times. What needs a whole log is in test_log and test_recover. */

static struct fx f;
static struct segment *s;

static int setup(void **state)
{
	(void)state;
	fx_init(&f, NULL);
	s = NULL;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	segment_unref(s);
	fx_release(&f);
	return 0;
}

static void create(int64_t base)
{
	assert_int_equal(segment_create(f.dir, base, 0, 1 << 16, f.cache, &s, &f.err), 0);
	assert_int_equal(segment_pin(s, &f.err), 0);
}

/* Appends a batch of `records` one-letter lines; returns its position. */
static uint32_t append(int64_t offset, int records, int64_t timestamp_ms)
{
	struct record_set set;
	struct batch_style style = fx_style(CODEC_NONE);
	char text[2000];
	size_t taken;
	for (int i = 0; i < records; i++)
		memcpy(text + 2 * i, "x\n", 2);
	record_set_init(&set);
	assert_int_equal(record_set_add_lines(&set, &style, text, 2 * (size_t)records, timestamp_ms, &taken, &f.err), 0);
	be64_put(set.bytes.data, (uint64_t)offset);
	struct iovec iov = {set.bytes.data, set.bytes.len};
	uint32_t at = s->size_bytes;
	assert_int_equal(segment_append(s, &iov, 1, (uint32_t)set.bytes.len, &f.err), 0);
	record_set_release(&set);
	return at;
}

static void test_create(void **state)
{
	(void)state;
	create(42);
	assert_int_equal(file_size(fx_file(&f, 42, ".log")), 0);
	assert_int_equal(file_size(fx_file(&f, 42, ".index")), 0);
	assert_int_equal(file_size(fx_file(&f, 42, ".timeindex")), 0);
	assert_int_equal(file_size(fx_file(&f, 42, ".view")), 32);
	assert_true(s->view_ok);
	int64_t end, newest;
	assert_int_equal(segment_end_offset(s, &end, &f.err), 0);
	assert_int_equal(end, 42);
	assert_int_equal(segment_max_timestamp(s, &newest, &f.err), 0);
	assert_int_equal(newest, -1);
	append(42, 3, 100);
	assert_int_equal(segment_end_offset(s, &end, &f.err), 0);
	assert_int_equal(end, 45);
	/* it is there: never over one with records in it */
	struct segment *other;
	assert_int_equal(segment_create(f.dir, 42, 0, 1 << 16, f.cache, &other, &f.err), ERR_EXISTS);
	assert_true(file_size(fx_file(&f, 42, ".log")) > 0);
	segment_unpin(s);
}

/* What a segment of the same base has left behind does not become part of the new one. */
static void test_create_over_leftovers(void **state)
{
	(void)state;
	char bytes[48] = {1};
	spit(fx_file(&f, 5, ".log"), "", 0);
	spit(fx_file(&f, 5, ".index"), bytes, 48);
	spit(fx_file(&f, 5, ".timeindex"), bytes, 48);
	spit(fx_file(&f, 5, ".view"), bytes, 48);
	spit(fx_file(&f, 5, ".txnindex"), bytes, 34);
	create(5);
	assert_int_equal(entries_count(&s->index.e), 0);
	assert_int_equal(entries_count(&s->times.e), 0);
	assert_int_equal(file_size(fx_file(&f, 5, ".txnindex")), -1);
	segment_unpin(s);
}

static void test_find(void **state)
{
	(void)state;
	struct batch b;
	uint32_t position, at[100];
	create(1000);
	for (int i = 0; i < 100; i++) {
		at[i] = append(1000 + 10 * i, 10, 5000 + i);
		if (i % 7 == 3)
			segment_index_batch(s, 1000 + 10 * i + 9, at[i], 5000 + i, 1000 + 10 * i + 9);
	}
	for (int round = 0; round < 3; round++) {
		for (int64_t offset = 0; offset < 2010; offset++) {
			int rc = segment_find_offset(s, offset, &b, &position, &f.err);
			assert_int_equal(rc, offset < 2000);
			if (rc == 1)
				assert_int_equal(position, at[offset < 1000 ? 0 : (offset - 1000) / 10]);
		}
		segment_unpin(s);
		if (round == 0) { /* entries that do not fit their log are not believed */
			segment_unref(s);
			char *path = fx_file(&f, 1000, ".index");
			size_t n;
			char *bytes = slurp(path, &n);
			for (size_t i = 7; i < n; i += 8)
				bytes[i] ^= 2;
			spit(path, bytes, n);
			free(bytes);
		} else { /* and without any */
			segment_unref(s);
			unlink(fx_file(&f, 1000, ".index"));
		}
		s = segment_new(f.dir, 1000, (uint32_t)file_size(fx_file(&f, 1000, ".log")), round > 0, 1 << 16, f.cache);
		diag_set_level(DIAG_ERROR);
		assert_int_equal(segment_pin(s, &f.err), 0);
	}
	segment_unpin(s);
}

/* Rebuilt indexes are those that were written, by the same rule. */
static void test_rebuild(void **state)
{
	(void)state;
	create(7);
	s->interval_bytes = 300;
	int64_t since = 0, newest = -1, newest_offset = -1;
	for (int i = 0; i < 200; i++) {
		int64_t time = 1000 + i * 3 - (i % 5) * 7, last = 7 + i;
		uint32_t at = append(7 + i, 1, time);
		if (time > newest) {
			newest = time;
			newest_offset = last;
		}
		if (since > 300) {
			segment_index_batch(s, last, at, newest, newest_offset);
			since = 0;
		}
		since += s->size_bytes - at;
	}
	s->max_timestamp_ms = newest;
	s->max_timestamp_offset = newest_offset;
	segment_close_times(s);
	size_t n, m, n2, m2;
	char *index = slurp(fx_file(&f, 7, ".index"), &n), *times = slurp(fx_file(&f, 7, ".timeindex"), &m);
	assert_true(n > 100 && m > 100);
	assert_int_equal(segment_rebuild_index(s, &f.err), 0);
	char *index2 = slurp(fx_file(&f, 7, ".index"), &n2), *times2 = slurp(fx_file(&f, 7, ".timeindex"), &m2);
	assert_int_equal(n, n2);
	assert_int_equal(m, m2);
	assert_memory_equal(index, index2, n);
	assert_memory_equal(times, times2, m);
	free(index);
	free(index2);
	free(times);
	free(times2);
	assert_int_equal(file_size(fx_file(&f, 7, ".index.rebuilt")), -1);
	segment_unpin(s);
}

static void test_times(void **state)
{
	(void)state;
	int64_t newest;
	create(0);
	append(0, 1, 500);
	uint32_t at = append(1, 1, 900);
	segment_index_batch(s, 1, at, 900, 1);
	append(2, 1, 700);
	segment_unpin(s);
	for (int sealed = 0; sealed < 2; sealed++) {
		segment_unref(s);
		s = segment_new(f.dir, 0, (uint32_t)file_size(fx_file(&f, 0, ".log")), sealed, 1 << 16, f.cache);
		assert_int_equal(segment_max_timestamp(s, &newest, &f.err), 0);
		assert_int_equal(newest, 900);
		assert_int_equal(s->max_timestamp_offset, 1);
		assert_int_equal(segment_pin(s, &f.err), 0);
		segment_learn_times(s);
		assert_int_equal(s->first_timestamp_ms, 500);
		segment_unpin(s);
	}
}

static void test_truncate(void **state)
{
	(void)state;
	create(0);
	uint32_t at[50];
	for (int i = 0; i < 50; i++) {
		at[i] = append(i, 1, 100 + i);
		if (i % 5 == 4)
			segment_index_batch(s, i, at[i], 100 + i, i);
		struct view_entry entry = {2 * i, i, at[i], 0};
		assert_int_equal(view_append(&s->view, &entry, &f.err), 0);
	}
	for (int left = 49; left >= 0; left -= 7) {
		assert_int_equal(segment_truncate(s, at[left], left, &f.err), 0);
		int64_t end, newest;
		assert_int_equal(segment_end_offset(s, &end, &f.err), 0);
		assert_int_equal(end, left);
		assert_int_equal(s->size_bytes, at[left]);
		assert_int_equal(file_size(fx_file(&f, 0, ".log")), at[left]);
		assert_int_equal(entries_count(&s->index.e), left / 5);
		assert_int_equal(entries_count(&s->times.e), left / 5);
		assert_int_equal(entries_count(&s->view.e), left);
		assert_int_equal(segment_max_timestamp(s, &newest, &f.err), 0);
		assert_int_equal(newest, left ? 99 + left : -1);
	}
	append(0, 5, 1);
	segment_unpin(s);
}

static void test_mark_deleted(void **state)
{
	(void)state;
	create(3);
	append(3, 1, 1);
	segment_unpin(s);
	assert_int_equal(segment_mark_deleted(s, &f.err), 0);
	assert_int_equal(file_size(fx_file(&f, 3, ".log")), -1);
	assert_true(file_size(fx_file(&f, 3, ".log.deleted")) > 0);
	assert_int_equal(file_size(fx_file(&f, 3, ".view.deleted")), 32);
	assert_int_equal(segment_mark_deleted(s, &f.err), 0); /* again: nothing is left to do */
}

/* ---- the cache ---- */

static void test_cache(void **state)
{
	(void)state;
	enum { N = 40 };
	struct segment *list[N];
	segment_cache_free(f.cache);
	f.cache = segment_cache_new(8);
	for (int i = 0; i < N; i++) {
		assert_int_equal(segment_create(f.dir, i, 0, 1 << 12, f.cache, &list[i], &f.err), 0);
		assert_true(segment_cache_open_count(f.cache) <= 9);
	}
	/* what is pinned stays open, however many that are */
	for (int i = 0; i < 20; i++)
		assert_int_equal(segment_pin(list[i], &f.err), 0);
	assert_true(segment_cache_open_count(f.cache) >= 20);
	for (int i = 0; i < 20; i++) {
		assert_true(list[i]->open);
		segment_unpin(list[i]);
	}
	for (int i = 20; i < N; i++) {
		assert_int_equal(segment_pin(list[i], &f.err), 0);
		segment_unpin(list[i]);
	}
	assert_true(segment_cache_open_count(f.cache) <= 9);
	/* the files can be gone while it is open, and not be found when it was closed */
	for (int i = 0; i < N; i++)
		assert_int_equal(segment_mark_deleted(list[i], &f.err), 0);
	int found = 0;
	for (int i = 0; i < N; i++)
		if (segment_pin(list[i], &f.err) == 0) {
			found++;
			segment_unpin(list[i]);
		} else {
			assert_int_equal(f.err.code, ERR_NOT_FOUND);
		}
	assert_true(found <= 9);
	for (int i = 0; i < N; i++)
		segment_unref(list[i]);
	assert_int_equal(segment_cache_open_count(f.cache), 0);
}

struct crowd { struct segment **list; size_t n; _Atomic size_t errors; };

static void use_them(void *arg, size_t k)
{
	struct crowd *c = arg;
	struct err e = ERR_INIT;
	uint64_t x = 88172645463325252u + k;
	for (int i = 0; i < 3000; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		struct segment *g = c->list[x % c->n];
		uint8_t byte;
		segment_ref(g);
		if (segment_pin(g, &e) < 0 || io_pread(g->fd, &byte, 1, 0) != 1 || byte != (uint8_t)g->base_offset)
			c->errors++;
		else
			segment_unpin(g);
		segment_unref(g);
	}
}

/* Opened and closed under each other's feet by many threads; what is pinned can be read. (Not looked at: ->open, which the cache takes down for a moment while it
 * counts pins.) */
static void test_cache_by_many(void **state)
{
	(void)state;
	enum { N = 12 };
	struct segment *list[N];
	segment_cache_free(f.cache);
	f.cache = segment_cache_new(3);
	for (int i = 0; i < N; i++) {
		uint8_t byte = (uint8_t)i;
		spit(fx_file(&f, i, ".log"), &byte, 1);
		spit(fx_file(&f, i, ".index"), "", 0);
		spit(fx_file(&f, i, ".timeindex"), "", 0);
		list[i] = segment_new(f.dir, i, 1, true, 1 << 12, f.cache);
	}
	struct crowd c = {.list = list, .n = N};
	pool_for_each(f.pool, 8, use_them, &c);
	assert_int_equal(c.errors, 0);
	for (int i = 0; i < N; i++)
		segment_unref(list[i]);
	assert_int_equal(segment_cache_open_count(f.cache), 0);
}

static void use_and_let_go(void *arg, size_t k)
{
	struct crowd *c = arg;
	struct err e = ERR_INIT;
	for (int i = 0; i < 3000; i++) {
		struct segment *g = segment_new(f.dir, (int64_t)(k % c->n), 1, true, 1 << 12, f.cache);
		if (!g || segment_pin(g, &e) < 0)
			c->errors++;
		else
			segment_unpin(g);
		segment_unref(g); /* the last one, with its files open */
	}
}

/* The cache looked for a segment to close, and took one that was just let go of for good: it was freed twice. */
static void test_let_go_while_the_cache_looks(void **state)
{
	(void)state;
	enum { N = 4 };
	segment_cache_free(f.cache);
	f.cache = segment_cache_new(1);
	for (int i = 0; i < N; i++) {
		spit(fx_file(&f, i, ".log"), "x", 1);
		spit(fx_file(&f, i, ".index"), "", 0);
		spit(fx_file(&f, i, ".timeindex"), "", 0);
	}
	struct crowd c = {.n = N};
	pool_for_each(f.pool, 8, use_and_let_go, &c);
	assert_int_equal(c.errors, 0);
	assert_int_equal(segment_cache_open_count(f.cache), 0);
}

static void test_verified(void **state)
{
	(void)state;
	create(0);
	assert_false(segment_is_verified(s, 0, 5000));
	segment_set_verified(s, 0, 100); /* small ones are checked each time */
	assert_false(segment_is_verified(s, 0, 100));
	segment_set_verified(s, 4096 * 3 + 7, 5000);
	assert_true(segment_is_verified(s, 4096 * 3 + 7, 5000));
	assert_false(segment_is_verified(s, 4096 * 4, 5000));
	segment_set_verified(s, INT32_MAX - 4096, 4096); /* the last place there can be */
	assert_true(segment_is_verified(s, INT32_MAX - 4096, 4096));
	segment_unpin(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(test_create),
		T(test_create_over_leftovers),
		T(test_find),
		T(test_rebuild),
		T(test_times),
		T(test_truncate),
		T(test_mark_deleted),
		T(test_cache),
		T(test_cache_by_many),
		T(test_let_go_while_the_cache_looks),
		T(test_verified),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
