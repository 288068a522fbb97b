#include "tests/unit/log_fixture.h"

#include "store/checkpoint.h"

/* The small files: what is written is read; what is damaged is an error, and then no row of it is used. */

static char dir[64], path[100];

static int setup(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/spoolfs-checkpoint-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/file", dir);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	io_set_hook(NULL, NULL);
	fx_remove_tree(dir);
	return 0;
}

static void put(const char *text)
{
	spit(path, text, strlen(text));
}

/* ---- Kafka's ---- */

struct rows { size_t n; int64_t sum; char last[TOPIC_NAME_MAX + 1]; int32_t partition; };

static void offset_row(void *arg, const char *topic, int32_t partition, int64_t offset)
{
	struct rows *r = arg;
	r->n++;
	r->sum += offset & 0xffffff;
	r->partition = partition;
	snprintf(r->last, sizeof r->last, "%s", topic);
}

static int load(struct rows *r)
{
	struct err e = ERR_INIT;
	*r = (struct rows){0};
	int rc = offset_checkpoint_load(path, offset_row, r, &e);
	assert_int_equal(e.code, rc);
	return rc;
}

static void test_offsets(void **state)
{
	(void)state;
	struct checkpoint_rows rows;
	struct rows r;
	struct err e = ERR_INIT;
	char name[TOPIC_NAME_MAX + 1];
	memset(name, 'x', TOPIC_NAME_MAX);
	name[TOPIC_NAME_MAX] = 0;
	checkpoint_rows_init(&rows);
	assert_int_equal(offset_checkpoint_write(path, &rows, &e), 0);
	assert_int_equal(load(&r), 0);
	assert_int_equal(r.n, 0);
	offset_checkpoint_add(&rows, "a", 0, 10);
	offset_checkpoint_add(&rows, "b.c_d-e", 1048575, INT64_MAX);
	offset_checkpoint_add(&rows, name, 7, 5);
	assert_int_equal(offset_checkpoint_write(path, &rows, &e), 0);
	assert_int_equal(load(&r), 0);
	assert_int_equal(r.n, 3);
	assert_string_equal(r.last, name);
	assert_int_equal(r.partition, 7);
	checkpoint_rows_release(&rows);
}

/* As found in Kafka's directories. */
static void test_offsets_of_kafka(void **state)
{
	(void)state;
	struct rows r;
	unlink(path);
	assert_int_equal(load(&r), 0); /* missing: no rows */
	put(""); /* empty: Kafka leaves those, and reads them as none */
	assert_int_equal(load(&r), 0);
	assert_int_equal(r.n, 0);
	put("0\n0\n");
	assert_int_equal(load(&r), 0);
	put("0\n2\n__consumer_offsets 49 0\nt 0 151\n");
	assert_int_equal(load(&r), 0);
	assert_int_equal(r.n, 2);
	assert_int_equal(r.sum, 151);
}

/* A damaged file gives no rows at all. */
static void test_damaged_offsets(void **state)
{
	(void)state;
	static const char *const bad[] = {
		"\n", "1\n0\n", "0", "0\n", "0\nx\n", "0\n-1\n", "0\n1\n", "0\n2\nt 0 1\n", "0\n1\nt 0 1", "0\n1\nt 0\n", "0\n1\nt 0 1 2\n", "0\n1\nt 0 -1\n", "0\n1\nt -1 1\n",
		"0\n1\nt 0 1\nt 1 1\n", "0\n1 \nt 0 1\n", "0\n1\nt 0 1x\n", "garbage", "0\n99999999999999999999\nt 0 1\n",
	};
	struct rows r;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		put(bad[i]);
		if (load(&r) != ERR_CORRUPT)
			fail_msg("\"%s\" was taken", bad[i]);
		assert_int_equal(r.n, 0);
	}
	spit(path, "0\n1\nt\0 0 1\n", 12);
	assert_int_equal(load(&r), ERR_CORRUPT);
	const char *good = "0\n3\nt 0 1234\nt 1 5678\nu 0 9999\n";
	for (size_t cut = 1; cut < strlen(good); cut++) {
		spit(path, good, cut);
		assert_int_equal(load(&r), ERR_CORRUPT);
		assert_int_equal(r.n, 0);
	}
	unlink(path);
	assert_int_equal(mkdir(path, 0755), 0);
	assert_true(load(&r) < 0);
}

/* ---- ours ---- */

static struct start_row start_rows[10];
static struct partition_row state_rows[10];
static size_t seen;

static void take_start(void *arg, const struct start_row *row)
{
	(void)arg;
	assert_true(seen < 10);
	start_rows[seen++] = *row;
}

static void take_state(void *arg, const struct partition_row *row)
{
	(void)arg;
	assert_true(seen < 10);
	state_rows[seen++] = *row;
}

static const char *const id = "evDNwL6eSeaAHm_UbSuwyw";

static void write_starts(void)
{
	struct err e = ERR_INIT;
	struct checkpoint_rows rows;
	struct start_row a = {.partition = 0, .offset = 100, .position = 12345}, b = {.partition = 65535, .offset = INT64_MAX, .position = INT64_MAX};
	strcpy(a.topic, "t");
	memset(b.topic, 'y', TOPIC_NAME_MAX);
	strcpy(a.topic_id, id);
	strcpy(b.topic_id, id);
	checkpoint_rows_init(&rows);
	view_start_add(&rows, &a);
	view_start_add(&rows, &b);
	assert_int_equal(view_start_write(path, &rows, &e), 0);
	checkpoint_rows_release(&rows);
}

static int load_starts(void)
{
	struct err e = ERR_INIT;
	seen = 0;
	int rc = view_start_load(path, take_start, NULL, &e);
	assert_int_equal(e.code, rc);
	return rc;
}

static struct partition_row a_state(void)
{
	struct partition_row r = {.partition = 3, .leader_epoch = -1, .active_base = -1, .active_bytes = 5, .dir_mtime_ns = 1, .start_offset = 2, .start_position = 3, .leo = 4,
				  .last_stable_offset = 5, .recovery_point = 6, .visible_offset = 7, .visible_position = 8, .mtime_ms = -9, .bytes = INT64_MAX};
	strcpy(r.topic, "some.topic_name-1");
	strcpy(r.topic_id, id);
	return r;
}

static void write_states(void)
{
	struct err e = ERR_INIT;
	struct checkpoint_rows rows;
	struct partition_row a = a_state(), b = a_state();
	b.partition = 4;
	checkpoint_rows_init(&rows);
	partition_state_add(&rows, &a);
	partition_state_add(&rows, &b);
	assert_int_equal(partition_state_write(path, &rows, &e), 0);
	checkpoint_rows_release(&rows);
}

static int load_states(bool *same_boot)
{
	struct err e = ERR_INIT;
	seen = 0;
	int rc = partition_state_load(path, same_boot, take_state, NULL, &e);
	assert_int_equal(e.code, rc);
	return rc;
}

static void test_starts(void **state)
{
	(void)state;
	assert_int_equal(load_starts(), ERR_NOT_FOUND);
	write_starts();
	assert_int_equal(load_starts(), 0);
	assert_int_equal(seen, 2);
	assert_string_equal(start_rows[0].topic, "t");
	assert_string_equal(start_rows[0].topic_id, id);
	assert_int_equal(start_rows[0].offset, 100);
	assert_int_equal(start_rows[0].position, 12345);
	assert_int_equal(start_rows[1].partition, 65535);
	assert_int_equal(start_rows[1].position, INT64_MAX);
	assert_int_equal(strlen(start_rows[1].topic), TOPIC_NAME_MAX);
}

static void test_states(void **state)
{
	(void)state;
	bool same;
	assert_int_equal(load_states(&same), ERR_NOT_FOUND);
	write_states();
	assert_int_equal(load_states(&same), 0);
	assert_true(same);
	assert_int_equal(seen, 2);
	struct partition_row want = a_state();
	assert_string_equal(state_rows[0].topic, want.topic);
	assert_string_equal(state_rows[0].topic_id, want.topic_id);
	assert_memory_equal(&state_rows[0].leader_epoch, &want.leader_epoch, sizeof want.leader_epoch);
	assert_memory_equal(&state_rows[0].active_base, &want.active_base, sizeof want - offsetof(struct partition_row, active_base));
	assert_int_equal(state_rows[1].partition, 4);
}

/* Cut anywhere, or any bit flipped: an error, and not a row. (But a version's digit may become a greater one: that is refused by name.) */
static void damage(void (*make)(void), bool states)
{
	bool same;
	size_t n;
	make();
	char *good = slurp(path, &n);
	for (size_t cut = 0; cut < n; cut++) {
		spit(path, good, cut);
		assert_int_equal(states ? load_states(&same) : load_starts(), ERR_CORRUPT);
		assert_int_equal(seen, 0);
	}
	for (size_t at = 0; at < n; at++)
		for (int bit = 0; bit < 8; bit++) {
			good[at] ^= (char)(1 << bit);
			spit(path, good, n);
			int rc = states ? load_states(&same) : load_starts();
			if (rc == 0) /* hex digits of either case, a blank for the last newline */
				assert_true(at >= n - 9);
			else
				assert_true((rc == ERR_CORRUPT || (rc == ERR_VERSION && at == 8)) && seen == 0);
			good[at] ^= (char)(1 << bit);
		}
	free(good);
}

static void test_damaged_starts(void **state)
{
	(void)state;
	damage(write_starts, false);
}

static void test_damaged_states(void **state)
{
	(void)state;
	damage(write_states, true);
}

static void gather_dir(void *arg, const char *name)
{
	strcat(strcat(arg, name), "|");
}

/* Each path once, in the order in which they came; written only where it says something else. */
static void test_log_dirs(void **state)
{
	(void)state;
	char all[200] = "";
	struct err e = ERR_INIT;
	struct checkpoint_rows r;
	struct stat before, after;
	static const char *const dirs[] = {"/a", "/a b", "/a", "/a/b", "/", "/a/b"};
	assert_int_equal(log_dirs_load(path, gather_dir, all, &e), ERR_NOT_FOUND);
	checkpoint_rows_init(&r);
	for (size_t i = 0; i < sizeof dirs / sizeof *dirs; i++)
		log_dirs_row(&r, dirs[i]);
	assert_int_equal(log_dirs_write(path, &r, &e), 0);
	assert_int_equal(log_dirs_load(path, gather_dir, all, &e), 0);
	assert_string_equal(all, "/a|/a b|/a/b|/|");
	stat(path, &before);
	assert_int_equal(log_dirs_write(path, &r, &e), 0);
	stat(path, &after);
	assert_int_equal(before.st_ino, after.st_ino);
	log_dirs_row(&r, "/c");
	assert_int_equal(log_dirs_write(path, &r, &e), 0);
	all[0] = 0;
	assert_int_equal(log_dirs_load(path, gather_dir, all, &e), 0);
	assert_string_equal(all, "/a|/a b|/a/b|/|/c|");
	size_t n;
	char *bytes = slurp(path, &n);
	bytes[n / 2] ^= 1;
	spit(path, bytes, n);
	free(bytes);
	assert_int_equal(log_dirs_load(path, gather_dir, all, &e), ERR_CORRUPT);
	assert_int_equal(log_dirs_write(path, &r, &e), 0);
	assert_int_equal(log_dirs_load(path, gather_dir, all, &e), 0);
	checkpoint_rows_release(&r);
}

static void test_newer_version(void **state)
{
	(void)state;
	bool same;
	put("version 2\nwhatever\n");
	assert_int_equal(load_starts(), ERR_VERSION);
	assert_int_equal(load_states(&same), ERR_VERSION);
}

static ssize_t fail_reading_boot(void *arg, enum io_call call, const char *name, int fd, size_t bytes)
{
	(void)arg;
	(void)fd;
	(void)bytes;
	return call == IO_OPEN && name && strstr(name, "boot_id") ? -EACCES : 0;
}

/* Where the boot has no name, no two are the same. */
static void test_unknown_boot(void **state)
{
	(void)state;
	bool same;
	io_set_hook(fail_reading_boot, NULL);
	write_states();
	assert_int_equal(load_states(&same), 0);
	assert_false(same);
	io_set_hook(NULL, NULL);
	assert_int_equal(load_states(&same), 0);
	assert_false(same);
}

static size_t countdown;

static ssize_t fail_nth(void *arg, enum io_call call, const char *name, int fd, size_t bytes)
{
	(void)call;
	(void)name;
	(void)fd;
	(void)bytes;
	return countdown-- == 0 ? *(const ssize_t *)arg : 0;
}

/* A write that fails leaves the file that was there. */
static void test_failed_writes(void **state)
{
	(void)state;
	ssize_t faults[] = {-ENOSPC, -EIO};
	for (int k = 0; k < 2; k++)
		for (size_t at = 0;; at++) {
			struct err e = ERR_INIT;
			struct rows r;
			struct checkpoint_rows rows;
			put("0\n1\nold 0 1\n");
			checkpoint_rows_init(&rows);
			offset_checkpoint_add(&rows, "new", 0, 2);
			countdown = at;
			io_set_hook(fail_nth, &faults[k]);
			int rc = offset_checkpoint_write(path, &rows, &e);
			io_set_hook(NULL, NULL);
			checkpoint_rows_release(&rows);
			bool hit = countdown == SIZE_MAX;
			assert_int_equal(load(&r), 0);
			assert_int_equal(r.n, 1);
			assert_true(rc < 0 || r.sum == 2);
			if (!hit)
				break;
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(test_offsets),
		T(test_offsets_of_kafka),
		T(test_damaged_offsets),
		T(test_starts),
		T(test_states),
		T(test_damaged_starts),
		T(test_damaged_states),
		T(test_log_dirs),
		T(test_newer_version),
		T(test_unknown_boot),
		T(test_failed_writes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
