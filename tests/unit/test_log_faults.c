#include "tests/unit/log_fixture.h"

/* Every system call that an operation makes on files fails in turn: with ENOSPC, with EIO, a write short; once, or from then on for as long as the operation lasts. After each
 * failure: the error was reported or cost nothing, what was there before reads back, nothing torn is visible, the log goes on when the fault is gone, and opening it
 * again finds exactly the records that were acknowledged. */

static struct fx f;
static char copy[100], after[100];
static struct partition_row row_of_copy;

static int setup(void **state)
{
	(void)state;
	fx_init(&f, NULL);
	snprintf(copy, sizeof copy, "%s/copy", f.root);
	snprintf(after, sizeof after, "%s/after", f.root);
	diag_set_level(DIAG_ERROR - 1);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fx_release(&f);
	return 0;
}

/* ---- the fault ---- */

enum mode { ENOSPC_ONCE, EIO_ONCE, SHORT_ONCE, ENOSPC_ON, EIO_ON, EMFILE_ONCE, MODES };

static struct { _Atomic size_t seen; size_t at; enum mode mode; _Atomic size_t fired; enum io_call call; char name[200]; } fault;

static ssize_t hook(void *arg, enum io_call call, const char *name, int fd, size_t bytes)
{
	(void)arg;
	(void)fd;
	size_t n = fault.seen++;
	bool on = fault.mode == ENOSPC_ON || fault.mode == EIO_ON;
	if (n < fault.at || (n > fault.at && !on))
		return 0;
	bool takes_space = call == IO_WRITE || call == IO_OPEN || call == IO_RENAME || call == IO_MKDIR;
	ssize_t r = 0;
	switch (fault.mode) {
	case ENOSPC_ONCE:
	case ENOSPC_ON:
		r = takes_space ? -ENOSPC : 0;
		break;
	case EIO_ONCE:
	case EIO_ON:
		r = -EIO;
		break;
	case SHORT_ONCE:
		r = call == IO_WRITE && bytes > 1 ? (ssize_t)(1 + below(bytes - 1)) : 0;
		break;
	case EMFILE_ONCE:
		r = call == IO_OPEN ? -EMFILE : call == IO_MMAP ? -ENOMEM : 0;
		break;
	default:
		break;
	}
	if (r && fault.fired++ == 0) {
		fault.call = call;
		snprintf(fault.name, sizeof fault.name, "%s", name ? name : "");
	}
	return r;
}

static void arm(size_t at, enum mode mode)
{
	fault.seen = fault.fired = 0;
	fault.at = at;
	fault.mode = mode;
	io_set_hook(hook, NULL);
}

/* Whether the operation got as far as the fault. */
static bool disarm(void)
{
	io_set_hook(NULL, NULL);
	return fault.seen > fault.at;
}

#define WHERE() print_error("with call %zu (%s %s), mode %d: ", fault.at, io_call_name(fault.call), fault.name, fault.mode)

/* ---- a log to begin with ---- */

static void keep(void)
{
	copy_tree(f.dir, copy);
	row_of_copy = f.row;
}

static void template(bool transactions)
{
	f.limits.segment_bytes = 1 << 14;
	f.limits.interval_bytes = 1000;
	fx_open(&f);
	fx_mixture(&f, 40, transactions);
	for (int i = 0; i < 40; i++)
		fx_lines(&f, CODEC_NONE, 10, 200);
	assert_true(f.log->shape->segment_count > 3);
	fx_close(&f);
	model_build(&f.m);
	keep();
}

static int open_txn = -1;

static void from_template(void)
{
	log_free(f.log);
	f.log = NULL;
	copy_tree(copy, f.dir);
	f.has_row = true;
	f.row = row_of_copy;
	f.recovery_point = f.row.recovery_point;
	f.pair_offset = f.pair_position = -1;
}

static void check_quick(void)
{
	check_ends(&f);
	check_sequential(&f, 50000);
	check_random(&f, 5, 500);
	check_places(&f, 1 + f.m.count / 4);
}

/* The directory as a crash right now would leave it, opened without a row. extra: a set that was not acknowledged may be there, whole. */
static void check_crash(const char *extra, size_t extra_bytes)
{
	struct log *l = f.log;
	char dir[sizeof f.dir];
	bool row = f.has_row;
	copy_tree(f.dir, after);
	strcpy(dir, f.dir);
	snprintf(f.dir, sizeof f.dir, "%s", after);
	f.has_row = false;
	fx_open(&f);
	struct model whole = f.m;
	if (f.log->leo > f.m.leo && extra) {
		f.m.item = malloc((whole.count + 10000) * sizeof *f.m.item);
		memcpy(f.m.item, whole.item, whole.count * sizeof *f.m.item);
		f.m.cap = whole.count + 10000;
		f.m.view = NULL;
		f.m.position = NULL;
		model_lines(&f, extra, extra_bytes);
		check_quick();
		for (size_t i = whole.count; i < f.m.count; i++)
			free(f.m.item[i].value);
		free(f.m.item);
		free(f.m.view);
		free(f.m.position);
		f.m = whole;
		model_build(&f.m);
	} else {
		check_quick();
	}
	log_free(f.log);
	f.log = l;
	strcpy(f.dir, dir);
	f.has_row = row;
}

static void forget_items(size_t count, int64_t leo)
{
	while (f.m.count > count)
		free(f.m.item[--f.m.count].value);
	f.m.leo = leo;
}

/* ---- appending ---- */

/* Appends text under the fault, then without. big: enough for index and view entries, or a roll. */
static void append_under_fault(const char *text, size_t bytes, enum codec codec, enum mode mode)
{
	const size_t count = f.m.count;
	const int64_t leo = f.m.leo;
	for (size_t at = 0;; at++) {
		struct record_set s;
		struct batch_style style = fx_style(codec);
		size_t taken;
		int64_t base;
		from_template();
		fx_open(&f);
		record_set_init(&s);
		assert_int_equal(record_set_add_lines(&s, &style, text, bytes, f.now_ms, &taken, &f.err), 0);
		arm(at, mode);
		int rc = fx_try_set(&f, &s, &base);
		bool hit = disarm();
		if (rc == 0)
			model_lines(&f, text, bytes);
		else if (!fault.fired || !strlen(f.err.text)) {
			WHERE();
			fail_msg("%d, %s", rc, f.err.text);
		}
		if (f.log->leo != f.m.leo)
			WHERE();
		check_quick();
		bool cut_failed = rc == ERR_IO && (mode == EIO_ON || fault.call == IO_TRUNCATE);
		if (!cut_failed)
			check_crash(text, bytes);
		/* the fault is gone: it goes on */
		if (!cut_failed) {
			fx_lines(&f, CODEC_NONE, 3, 50);
			check_quick();
			if (at & 1)
				fx_reopen(&f);
			else {
				fx_crash(&f);
				fx_open(&f);
			}
			check_quick();
		}
		fx_crash(&f);
		record_set_release(&s);
		forget_items(count, leo);
		if (!hit)
			break;
	}
}

static void test_append_small(void **state)
{
	(void)state;
	template(false);
	for (int mode = 0; mode < MODES; mode++)
		append_under_fault("one\ntwo\n", 8, CODEC_NONE, (enum mode)mode);
}

static void test_append_with_entries(void **state)
{
	(void)state;
	template(false);
	size_t bytes;
	char *text = make_lines(120, 100, &bytes);
	for (int mode = 0; mode < MODES; mode++)
		append_under_fault(text, bytes, CODEC_NONE, (enum mode)mode);
	free(text);
}

static void test_append_that_rolls(void **state)
{
	(void)state;
	template(true);
	size_t bytes;
	char *text = make_lines(300, 100, &bytes);
	assert_true(bytes > 10000);
	for (int mode = 0; mode < MODES; mode++)
		append_under_fault(text, bytes, CODEC_NONE, (enum mode)mode);
	free(text);
}

/* The very first append to a log: segment, epochs, everything is made. */
static void test_first_append(void **state)
{
	(void)state;
	fx_open(&f);
	fx_close(&f);
	keep();
	for (int mode = 0; mode < MODES; mode++)
		append_under_fault("one\ntwo\n", 8, CODEC_ZSTD, (enum mode)mode);
}

/* A marker that could not be accounted for was not written: the transaction is open still, and its records are hidden; when it is ended at last they stay so. */
static void test_abort(void **state)
{
	(void)state;
	f.limits.segment_bytes = 1 << 14;
	fx_open(&f);
	int first = fx_begin(&f, 3);
	fx_records(&f, CODEC_NONE, 5, 50, first);
	fx_end(&f, first, false);
	open_txn = fx_begin(&f, 4);
	fx_records(&f, CODEC_NONE, 5, 50, open_txn);
	fx_lines(&f, CODEC_NONE, 5, 50);
	fx_close(&f);
	keep();
	const size_t count = f.m.count;
	const int64_t leo = f.m.leo;
	for (int mode = 0; mode < MODES; mode++)
		for (size_t at = 0;; at++) {
			from_template();
			f.m.txn[open_txn].outcome = OPEN;
			fx_open(&f);
			arm(at, (enum mode)mode);
			int rc = fx_try_end(&f, open_txn, false);
			bool hit = disarm();
			if (rc < 0 && !fault.fired)
				fail_msg("%s", f.err.text);
			if (f.behind) /* done again with the next append, or asked for */
				assert_int_equal(log_project(f.log, log_last_stable(f.log), &f.err), 0);
			bool cut_failed = rc == ERR_IO && (mode == EIO_ON || fault.call == IO_TRUNCATE);
			if (!cut_failed) {
				check_quick();
				check_crash(NULL, 0);
				if (rc < 0)
					fx_end(&f, open_txn, false);
				check_quick();
				check_crash(NULL, 0);
				fx_lines(&f, CODEC_NONE, 3, 50);
				fx_reopen(&f);
				check_quick();
				fx_crash(&f);
				fx_open(&f);
				check_quick();
			}
			fx_crash(&f);
			forget_items(count, leo);
			if (!hit)
				break;
		}
	f.m.txn[open_txn].outcome = OPEN;
}

/* Two markers in one set: the second cannot be accounted for, so the first was not written either, in no file. */
static void test_two_aborts(void **state)
{
	(void)state;
	fx_open(&f);
	int t[2];
	for (int i = 0; i < 2; i++) {
		t[i] = fx_begin(&f, 3 + i);
		fx_records(&f, CODEC_NONE, 5, 50, t[i]);
	}
	fx_close(&f);
	keep();
	const size_t count = f.m.count;
	const int64_t leo = f.m.leo;
	size_t undone = 0;
	for (int mode = 0; mode < MODES; mode++)
		for (size_t at = 0;; at++) {
			struct record_set s;
			int64_t base;
			from_template();
			f.m.txn[t[0]].outcome = f.m.txn[t[1]].outcome = OPEN;
			fx_open(&f);
			record_set_init(&s);
			for (int i = 0; i < 2; i++)
				assert_int_equal(record_set_add_marker(&s, 3 + i, 0, false, 0, f.now_ms, &f.err), 0);
			arm(at, (enum mode)mode);
			int rc = fx_try_set(&f, &s, &base);
			bool hit = disarm();
			record_set_release(&s);
			if (rc == ERR_IO && (mode == EIO_ON || fault.call == IO_TRUNCATE || fault.call == IO_UNLINK || fault.call == IO_RENAME)) {
				fx_crash(&f); /* it could not be undone: nobody may go on */
				continue;
			}
			if (rc == 0) {
				for (int i = 0; i < 2; i++) {
					model_add(&f.m, NULL, 0, t[i], true, f.now_ms);
					f.m.txn[t[i]].outcome = ABORTED;
				}
				if (f.behind)
					assert_int_equal(log_project(f.log, log_last_stable(f.log), &f.err), 0);
				assert_int_equal(file_size(fx_file(&f, 0, ".txnindex")), 68);
			} else {
				undone++;
				assert_int_equal(f.log->shape->aborted_count, 0);
				assert_true(file_size(fx_file(&f, 0, ".txnindex")) <= 0); /* an empty one is as good as none */
			}
			check_quick();
			fx_lines(&f, CODEC_NONE, 3, 50);
			for (int i = 0; i < 2 && rc < 0; i++)
				fx_end(&f, t[i], i);
			check_quick();
			fx_reopen(&f);
			check_quick();
			fx_crash(&f);
			forget_items(count, leo);
			if (!hit)
				break;
		}
	assert_true(undone > 3);
	f.m.txn[t[0]].outcome = f.m.txn[t[1]].outcome = OPEN;
}

/* ---- flushing and closing ---- */

static void test_flush_and_settle(void **state)
{
	(void)state;
	template(true);
	const size_t count = f.m.count;
	const int64_t leo = f.m.leo;
	for (int settle = 0; settle < 2; settle++)
		for (int mode = 0; mode < MODES; mode++)
			for (size_t at = 0;; at++) {
				from_template();
				fx_open(&f);
				for (int i = 0; i < 12; i++)
					fx_lines(&f, CODEC_NONE, 20, 100); /* rolls too */
				int64_t flushed = f.log->flushed_offset;
				arm(at, (enum mode)mode);
				int rc = settle ? log_settle(f.log, &f.err) : log_flush(f.log, f.log->leo, &f.err);
				bool hit = disarm();
				if (rc < 0) {
					assert_true(fault.fired);
					assert_true(settle || f.log->flushed_offset == flushed);
				} else {
					assert_int_equal(f.log->flushed_offset, f.log->leo);
				}
				check_quick();
				fx_lines(&f, CODEC_NONE, 3, 50);
				assert_int_equal(log_flush(f.log, f.log->leo, &f.err), 0);
				check_crash(NULL, 0);
				fx_reopen(&f);
				check_quick();
				fx_crash(&f);
				forget_items(count, leo);
				if (!hit)
					break;
			}
}

/* An fsync that failed leaves the recovery point where it was, and a segment's files are asked for again. */
static size_t synced;

static ssize_t count_syncs(void *arg, enum io_call call, const char *name, int fd, size_t bytes)
{
	(void)arg;
	(void)name;
	(void)fd;
	(void)bytes;
	synced += call == IO_SYNC;
	return 0;
}

/* .index, .timeindex and .view of a sealed segment are synced once, though it was active when its records were. */
static void test_sealed_indexes_are_synced(void **state)
{
	(void)state;
	f.limits.segment_bytes = 1 << 20;
	fx_open(&f);
	fx_lines(&f, CODEC_NONE, 100, 100);
	io_set_hook(count_syncs, NULL);
	assert_int_equal(log_flush(f.log, f.log->leo, &f.err), 0);
	assert_int_equal(synced, 2); /* .log and directory */
	assert_int_equal(log_roll(f.log, &f.err), 0);
	fx_lines(&f, CODEC_NONE, 100, 100);
	synced = 0;
	assert_int_equal(log_flush(f.log, f.log->leo, &f.err), 0);
	assert_int_equal(synced, 2 + 4);
	fx_lines(&f, CODEC_NONE, 100, 100);
	synced = 0;
	assert_int_equal(log_flush(f.log, f.log->leo, &f.err), 0);
	assert_int_equal(synced, 1);
	int t = fx_begin(&f, 1);
	fx_records(&f, CODEC_NONE, 1, 10, t);
	fx_end(&f, t, false);
	synced = 0;
	assert_int_equal(log_flush(f.log, f.log->leo, &f.err), 0);
	assert_int_equal(synced, 3); /* the .txnindex and its directory entry */
	synced = 0;
	assert_int_equal(log_flush(f.log, f.log->leo, &f.err), 0);
	assert_int_equal(synced, 0);
	io_set_hook(NULL, NULL);
}

/* ---- opening ---- */

enum opening { WITH_ROW, UNCLEAN, TORN, NO_VIEWS, NO_INDEXES, NO_TXNINDEX, NO_ACTIVE_VIEW, OPENINGS };

static void prepare(enum opening how, int64_t active)
{
	char command[400];
	from_template();
	if (how != WITH_ROW && how != NO_ACTIVE_VIEW) {
		f.has_row = false;
		f.recovery_point = how == UNCLEAN ? 0 : active;
	}
	snprintf(command, sizeof command, how == TORN ? "truncate -s +77 '%s/%020" PRId64 ".log'" : how == NO_VIEWS ? "rm '%s/'*.view # %" PRId64 :
		 how == NO_INDEXES ? "rm '%s/'*index # %" PRId64 : how == NO_TXNINDEX ? "for x in '%s/'*.txnindex; do truncate -s -1 $x; done # %" PRId64 :
		 how == NO_ACTIVE_VIEW ? "rm '%s/%020" PRId64 ".view'" : "true '%s/%" PRId64 "'", f.dir, active);
	assert_int_equal(system(command), 0);
	if (how == NO_INDEXES) /* .txnindex files are needed */
		f.recovery_point = 0;
}

static void test_open(void **state)
{
	(void)state;
	template(true);
	fx_open(&f);
	int64_t active = f.log->shape->segment[f.log->shape->segment_count - 1]->base_offset;
	const size_t count = f.m.count;
	const int64_t leo = f.m.leo;
	for (int how = 0; how < OPENINGS; how++)
		for (int mode = 0; mode < MODES; mode++)
			for (size_t at = 0;; at += 1 + below(how == WITH_ROW ? 1 : 3)) {
				prepare((enum opening)how, active);
				arm(at, (enum mode)mode);
				int rc = fx_try_open(&f);
				bool hit = disarm();
				if (rc < 0 && (!fault.fired || f.err.code != rc || !strlen(f.err.text))) {
					WHERE();
					fail_msg("opening %d: %d, %s", how, rc, f.err.text);
				}
				if (rc < 0)
					assert_true(rc == ERR_IO || rc == ERR_NO_SPACE || rc == ERR_LIMIT || rc == ERR_NO_MEMORY);
				if (rc < 0)
					fx_open(&f); /* again, without the fault */
				check_quick();
				fx_lines(&f, CODEC_NONE, 3, 50);
				check_quick();
				if (at % 4 == 0)
					check_crash(NULL, 0);
				fx_reopen(&f);
				check_quick();
				fx_crash(&f);
				forget_items(count, leo);
				if (!hit)
					break;
			}
}

/* ---- where it starts ---- */

static void test_start(void **state)
{
	(void)state;
	template(true);
	fx_open(&f);
	check_quick();
	int64_t start = f.log->shape->segment[2]->base_offset + 3, position;
	const size_t count = f.m.count;
	const int64_t leo = f.m.leo;
	assert_int_equal(log_position_of(f.log, start, &position, &f.err), 0);
	for (int removal = 0; removal < 2; removal++)
		for (int mode = 0; mode < MODES; mode++)
			for (size_t at = 0;; at++) {
				f.m.start_offset = 0;
				from_template();
				fx_open(&f);
				f.pair_offset = start; /* durable before */
				f.pair_position = position;
				f.m.start_offset = start;
				if (removal)
					assert_int_equal(log_set_start(f.log, start, position, &f.err), 0);
				arm(at, (enum mode)mode);
				int rc = removal ? log_remove_deleted(f.log, &f.err) : log_set_start(f.log, start, position, &f.err);
				bool hit = disarm();
				if (rc < 0)
					assert_true(fault.fired);
				check_quick();
				check_crash(NULL, 0);
				fx_lines(&f, CODEC_NONE, 3, 50);
				assert_int_equal(log_remove_deleted(f.log, &f.err), 0);
				fx_reopen(&f);
				check_quick();
				fx_crash(&f);
				forget_items(count, leo);
				if (!hit)
					break;
			}
	f.m.start_offset = 0;
}

static void test_retention(void **state)
{
	(void)state;
	template(false);
	const size_t count = f.m.count;
	const int64_t leo = f.m.leo;
	for (int all = 0; all < 2; all++)
		for (int mode = 0; mode < MODES; mode++)
			for (size_t at = 0;; at++) {
				struct retention r = {all ? 1000 : -1, all ? -1 : 20000};
				int64_t start;
				from_template();
				fx_open(&f);
				arm(at, (enum mode)mode);
				int rc = log_retention(f.log, &r, f.now_ms + 1000000, f.log->leo, &start, &f.err);
				bool hit = disarm();
				if (rc < 0)
					assert_true(fault.fired);
				else
					assert_true(start > 0 && start <= leo);
				check_quick();
				check_crash(NULL, 0);
				fx_lines(&f, CODEC_NONE, 3, 50);
				fx_reopen(&f);
				check_quick();
				fx_crash(&f);
				forget_items(count, leo);
				if (!hit)
					break;
			}
}

/* ---- reading ---- */

static void test_read(void **state)
{
	(void)state;
	template(true);
	model_build(&f.m);
	char *buf = malloc((size_t)f.m.end_position + 1);
	for (int views = 0; views < 2; views++)
		for (int mode = 0; mode < MODES; mode++)
			for (size_t at = 0;; at++) {
				from_template();
				if (views) {
					char command[200];
					snprintf(command, sizeof command, "rm %s/*.view", f.dir);
					assert_int_equal(system(command), 0);
				}
				fx_open(&f);
				struct log_cursor *c = log_cursor_new(f.log);
				int64_t from = (int64_t)below((size_t)f.m.end_position);
				arm(at, (enum mode)mode);
				ssize_t got = log_cursor_read(c, from, f.m.end_position, buf, (size_t)f.m.end_position, &f.err);
				bool hit = disarm();
				if (got < 0)
					assert_true(fault.fired);
				else
					assert_memory_equal(buf, f.m.view + from, (size_t)got);
				/* what is left of it comes when the fault is gone */
				if (got < 0)
					got = 0;
				check_read(&f, c, from + got, (size_t)f.m.end_position);
				log_cursor_free(c);
				check_quick();
				fx_crash(&f);
				if (!hit)
					break;
			}
	free(buf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(test_append_small),
		T(test_append_with_entries),
		T(test_append_that_rolls),
		T(test_first_append),
		T(test_abort),
		T(test_two_aborts),
		T(test_flush_and_settle),
		T(test_sealed_indexes_are_synced),
		T(test_open),
		T(test_start),
		T(test_retention),
		T(test_read),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
