#include "tests/unit/log_fixture.h"

#include "tests/unit/clean_fixture.h"

/* Compaction: random logs, cleaned at random moments, against a model; a crash at every system call, and a failure of each; readers and appenders meanwhile; single rules by example. */

static struct fx f;
static struct cx c;
static char copy[100], after[100];

static int setup(void **state)
{
	(void)state;
	fx_init(&f, NULL);
	cx_init(&c);
	f.sequential = f.compacted = true;
	f.limits.segment_bytes = 1 << 14;
	f.limits.interval_bytes = 1000;
	snprintf(copy, sizeof copy, "%s/copy", f.root);
	snprintf(after, sizeof after, "%s/after", f.root);
	diag_set_level(DIAG_ERROR - 1);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	cx_release(&c);
	fx_release(&f);
	return 0;
}

static void roll(void)
{
	assert_int_equal(log_roll(f.log, &f.err), 0);
}

static bool any_file(const char *dir, const char *suffix)
{
	DIR *d = opendir(dir);
	bool any = false;
	size_t k = strlen(suffix);
	for (struct dirent *e; (e = readdir(d));) {
		size_t n = strlen(e->d_name);
		any |= n > k && !strcmp(e->d_name + n - k, suffix);
	}
	closedir(d);
	return any;
}

/* ---- against the model ---- */

static void reopen(int how)
{
	if (how == 0) {
		fx_reopen(&f);
	} else {
		f.recovery_point = how == 1 ? (int64_t)f.log->flushed_offset : below(2) ? 0 : c.start_offset;
		f.pair_offset = f.log->start_offset;
		f.pair_position = f.log->start_position;
		fx_crash(&f);
		fx_open(&f);
	}
}

static void random_life(uint64_t rounds, bool transactions, size_t map_bytes)
{
	size_t cleaned = 0;
	c.map_bytes = map_bytes;
	fx_open(&f);
	for (uint64_t i = 0; i < rounds; i++) {
		cx_something(&f, &c, transactions);
		if (below(25) == 0)
			roll();
		if (below(20))
			continue;
		f.now_ms += below(3) ? 10 : 6000;
		cleaned += cx_round(&f, &c);
		if (below(3) == 0)
			cx_check(&f, &c);
		if (below(3) == 0) {
			reopen((int)below(3));
			cx_check(&f, &c);
			cx_check_producers(&f, &c);
		}
	}
	assert_true(cleaned > rounds / 100);
	while (cx_round(&f, &c))
		;
	cx_check(&f, &c);
	assert_false(any_file(f.dir, ".view"));
}

static void test_plain(void **state)
{
	(void)state;
	random_life(1500, false, 1 << 20);
}

static void test_transactions(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) {
		random_life(900, true, 1 << 20);
		teardown(state);
		setup(state);
	}
}

/* The map holds a few keys: a round ends where it is full, in the middle of a batch even, and the next goes on from there. */
static void test_small_map(void **state)
{
	(void)state;
	random_life(900, true, 7 * CLEAN_MAP_ENTRY_BYTES);
}

/* A round over what is clean leaves it as it is. (The second may note a day in markers whose transactions went in the first; the third has nothing to do.) */
static void test_again(void **state)
{
	(void)state;
	fx_open(&f);
	for (int i = 0; i < 300; i++)
		cx_something(&f, &c, true);
	roll();
	while (cx_round(&f, &c))
		;
	cx_check(&f, &c);
	int64_t bytes[3];
	for (int i = 0; i < 3; i++) {
		c.clean_offset = -1;
		assert_true(cx_round(&f, &c));
		cx_check(&f, &c);
		bytes[i] = f.log->bytes;
	}
	assert_int_equal(bytes[1], bytes[2]);
	reopen(0);
	cx_check(&f, &c);
	log_remove_deleted(f.log, &f.err);
	assert_false(any_file(f.dir, ".deleted"));
}

/* ---- crashes ---- */

static struct { size_t seen, at; bool whole; } crash;

static ssize_t at_call(void *arg, enum io_call call, const char *name, int fd, size_t bytes)
{
	(void)arg;
	(void)name;
	(void)fd;
	(void)bytes;
	if (call == IO_READ || call == IO_STAT || call == IO_MMAP || call == IO_LIST || crash.seen++ != crash.at)
		return 0;
	io_set_hook(NULL, NULL);
	copy_tree(f.dir, after);
	io_set_hook(at_call, NULL);
	return 0;
}

static bool *there(void)
{
	bool *v = malloc(c.recs * sizeof *v);
	for (size_t i = 0; i < c.recs; i++)
		v[i] = c.rec[i].there;
	return v;
}

/* Opens the directory as a crash left it, from what was on disk before the round. */
static void check_crash(const bool *least, const bool *most, int64_t recovery_point)
{
	char dir[sizeof f.dir];
	struct log *l = f.log;
	strcpy(dir, f.dir);
	snprintf(f.dir, sizeof f.dir, "%s", after);
	f.has_row = false;
	f.recovery_point = recovery_point;
	f.pair_offset = f.pair_position = 0;
	fx_open(&f);
	assert_int_equal(f.log->leo, c.leo);
	assert_int_equal(log_last_stable(f.log), log_last_stable(l));
	cx_check_records(&f, &c, least, most);
	cx_check_producers(&f, &c);
	assert_false(any_file(after, ".cleaned"));
	assert_false(any_file(after, ".swap"));
	/* and it can be cleaned again */
	struct err e = ERR_INIT;
	int64_t latest, end, clean_offset = c.clean_offset;
	c.clean_offset = -1;
	if (cx_try_round(&f, &c, &latest, &end, &e) < 0)
		fail_msg("a round after the crash: %s", e.text);
	c.clean_offset = clean_offset;
	cx_check_records(&f, &c, least, most);
	log_free(f.log);
	f.log = l;
	strcpy(f.dir, dir);
}

static void template(int batches)
{
	fx_open(&f);
	for (int i = 0; i < batches; i++)
		cx_something(&f, &c, true);
	for (int i = 0; i < PRODUCERS; i++)
		if (c.open[i] >= 0)
			cx_end(&f, &c, i, i);
	roll();
	fx_close(&f);
	copy_tree(f.dir, copy);
}

static void from_template(const struct partition_row *row)
{
	log_free(f.log);
	f.log = NULL;
	copy_tree(copy, f.dir);
	f.row = *row;
	f.has_row = true;
	fx_open(&f);
}

static void test_crash_at_every_call(void **state)
{
	(void)state;
	template(220);
	struct partition_row row = f.row;
	bool *most = there();
	size_t calls = SIZE_MAX;
	fx_open(&f);
	assert_true(f.log->shape->segment_count > 4);
	assert_true(cx_round(&f, &c)); /* for the model */
	bool *least = there();
	int64_t clean_offset = c.clean_offset;
	for (size_t at = 0; at < calls; at++) {
		int64_t latest, end;
		struct err e = ERR_INIT;
		from_template(&row);
		c.clean_offset = -1;
		crash.seen = 0;
		crash.at = at;
		io_set_hook(at_call, NULL);
		int rc = cx_try_round(&f, &c, &latest, &end, &e);
		io_set_hook(NULL, NULL);
		assert_int_equal(rc, 0);
		c.clean_offset = clean_offset;
		calls = crash.seen;
		if (at < calls)
			check_crash(least, most, at % 2 ? 0 : f.log->leo);
		log_remove_deleted(f.log, &f.err);
	}
	print_message("%zu calls\n", calls);
	assert_true(calls > 60);
	free(least);
	free(most);
}

/* ---- failures ---- */

static struct { size_t seen, at; int error; bool on, fired; } fault;

static ssize_t failing(void *arg, enum io_call call, const char *name, int fd, size_t bytes)
{
	(void)arg;
	(void)name;
	(void)fd;
	(void)bytes;
	size_t n = fault.seen++;
	bool space = call == IO_WRITE || call == IO_OPEN || call == IO_RENAME;
	if (n < fault.at || (n > fault.at && !fault.on) || (fault.error == ENOSPC && !space))
		return 0;
	fault.fired = true;
	return -fault.error;
}

/* What a failure costs is the round; the log goes on, unless it is told (ERR_IO) that it cannot. */
static void test_every_call_fails(void **state)
{
	(void)state;
	template(160);
	struct partition_row row = f.row;
	bool *most = there();
	fx_open(&f);
	assert_true(cx_round(&f, &c));
	bool *least = there();
	size_t given_up = 0;
	for (int mode = 0; mode < 4; mode++) {
		size_t calls = SIZE_MAX;
		for (size_t at = 0; at < calls; at += mode < 2 ? 1 : 3) {
			int64_t latest, end;
			struct err e = ERR_INIT;
			from_template(&row);
			c.clean_offset = -1;
			fault.seen = 0;
			fault.fired = false;
			fault.at = at;
			fault.error = mode % 2 ? EIO : ENOSPC;
			fault.on = mode >= 2;
			io_set_hook(failing, NULL);
			int rc = cx_try_round(&f, &c, &latest, &end, &e);
			io_set_hook(NULL, NULL);
			calls = fault.seen > at ? SIZE_MAX : 0;
			if (calls && rc < 0) {
				assert_true(e.text[0]);
				given_up++;
			}
			if (rc == ERR_NO_SPACE && !fault.on && any_file(f.dir, ".cleaned"))
				fail_msg("call %zu, mode %d: %s: files are left", at, mode, e.text);
			if (rc != ERR_IO)
				cx_check_records(&f, &c, least, most);
			copy_tree(f.dir, after);
			check_crash(least, most, 0);
		}
	}
	print_message("%zu rounds given up\n", given_up);
	assert_true(given_up > 50);
	free(least);
	free(most);
}

static void test_damage(void **state)
{
	(void)state;
	template(150);
	struct partition_row row = f.row;
	from_template(&row);
	int64_t base = f.log->shape->segment[1]->base_offset;
	FILE *file = fopen(fx_file(&f, base, ".log"), "r+");
	assert_non_null(file);
	fseek(file, 100, SEEK_SET);
	int was = fgetc(file);
	fseek(file, 100, SEEK_SET);
	fputc(was ^ 1, file);
	fclose(file);
	struct err e = ERR_INIT;
	int64_t latest, end;
	assert_int_equal(cx_try_round(&f, &c, &latest, &end, &e), ERR_CORRUPT);
	assert_non_null(strstr(e.text, "does not match its crc"));
	assert_false(any_file(f.dir, ".cleaned"));
}

/* ---- what Kafka leaves ---- */

/* The files of a .cleaned or .swap, made of a segment as it is. */
static void leave(int64_t base, const char *suffix, bool log)
{
	static const char *const parts[] = {".index", ".timeindex", ".log"};
	for (int i = 0; i < (log ? 3 : 2); i++) {
		char name[40];
		size_t n;
		char *bytes = slurp(fx_file(&f, base, parts[i]), &n);
		snprintf(name, sizeof name, "%s%s", parts[i], suffix);
		spit(fx_file(&f, base, name), bytes, n);
		free(bytes);
	}
}

static void test_leftovers(void **state)
{
	(void)state;
	template(200);
	struct partition_row row = f.row;
	from_template(&row);
	int64_t base[4];
	for (int i = 0; i < 4; i++)
		base[i] = f.log->shape->segment[i]->base_offset;
	assert_true(cx_round(&f, &c));
	size_t merged = f.log->shape->segment_count;
	fx_crash(&f);
	/* a .cleaned goes, and every .swap that is not before it */
	for (int with_swap = 0; with_swap < 2; with_swap++) {
		copy_tree(copy, f.dir);
		leave(base[1], ".cleaned", true);
		if (with_swap)
			leave(base[2], ".swap", true);
		f.has_row = false;
		f.pair_offset = f.pair_position = 0;
		f.foreign = with_swap;
		fx_open(&f);
		for (size_t i = 0; i < c.recs; i++)
			c.rec[i].there = true;
		cx_check_records(&f, &c, NULL, NULL);
		assert_false(any_file(f.dir, ".cleaned"));
		assert_false(any_file(f.dir, ".swap"));
		fx_crash(&f);
	}
	/* a .swap takes the place of all that it covers, whether that is still there or not */
	for (int gone = 0; gone < 3; gone++) {
		copy_tree(copy, f.dir);
		leave(base[1], ".swap", true);
		if (gone)
			unlink(fx_file(&f, base[1], ".log"));
		if (gone == 2)
			unlink(fx_file(&f, base[1], ".index"));
		fx_open(&f);
		cx_check_records(&f, &c, NULL, NULL);
		assert_false(any_file(f.dir, ".swap"));
		fx_crash(&f);
	}
	/* only an index is left to be renamed */
	copy_tree(copy, f.dir);
	leave(base[1], ".swap", false);
	unlink(fx_file(&f, base[1], ".index"));
	fx_open(&f);
	cx_check_records(&f, &c, NULL, NULL);
	assert_false(any_file(f.dir, ".swap"));
	fx_crash(&f);
	/* one that is damaged is not put in the place of anything */
	copy_tree(copy, f.dir);
	leave(base[1], ".swap", true);
	assert_int_equal(truncate(fx_file(&f, base[1], ".log.swap"), 100), 0);
	assert_int_equal(fx_try_open(&f), ERR_OFFLINE);
	assert_non_null(strstr(f.err.text, ".log.swap"));
	assert_true(access(fx_file(&f, base[1], ".log"), F_OK) == 0);
	assert_true(merged < 60);
}

/* ---- plans ---- */

static struct clean_plan plan_of(int64_t clean_offset, const struct clean_conf *conf)
{
	struct clean_plan plan;
	assert_int_equal(log_clean_plan(f.log, clean_offset, log_last_stable(f.log), conf, f.now_ms, &plan, &f.err), 0);
	return plan;
}

static void test_what_may_be_cleaned(void **state)
{
	(void)state;
	fx_open(&f);
	struct clean_conf conf = cx_conf(&f, &c);
	struct clean_plan plan = plan_of(-1, &conf);
	assert_int_equal(plan.end, plan.first_dirty);
	int64_t base[5];
	for (int i = 0; i < 5; i++) {
		base[i] = c.leo;
		f.now_ms += 1000;
		cx_records(&f, &c, CODEC_NONE, 10, -1, 50);
		roll();
	}
	plan = plan_of(-1, &conf); /* the active one is not */
	assert_int_equal(plan.first_dirty, 0);
	assert_int_equal(plan.end, c.leo);
	assert_int_equal(plan.clean_bytes, 0);
	assert_int_equal(plan.dirty_bytes, f.log->bytes);
	plan = plan_of(base[2], &conf);
	assert_int_equal(plan.first_dirty, base[2]);
	assert_int_equal(plan.clean_bytes + plan.dirty_bytes, f.log->bytes);
	assert_true(plan.dirty_bytes > 0 && plan.clean_bytes > 0);
	plan = plan_of(c.leo + 5, &conf); /* it cannot be right */
	assert_int_equal(plan.first_dirty, 0);
	conf.min_lag_ms = 2500;
	plan = plan_of(-1, &conf);
	assert_int_equal(plan.end, base[2]);
	assert_true(plan.look_again_ms > f.now_ms && plan.look_again_ms < f.now_ms + 2500);
	conf.min_lag_ms = 0;
	conf.max_lag_ms = 10000;
	assert_false(plan_of(-1, &conf).overdue);
	assert_true(plan_of(-1, &conf).look_again_ms < INT64_MAX);
	f.now_ms += 20000;
	assert_true(plan_of(-1, &conf).overdue);
	assert_false(plan_of(c.leo, &conf).overdue);
	/* nothing of an open transaction, nor what is behind it */
	cx_records(&f, &c, CODEC_NONE, 10, PRODUCERS, 50);
	roll();
	cx_records(&f, &c, CODEC_NONE, 10, -1, 50);
	roll();
	plan = plan_of(-1, &conf);
	assert_int_equal(plan.end, log_last_stable(f.log));
	cx_end(&f, &c, 0, true);
	roll();
	assert_int_equal(plan_of(-1, &conf).end, c.leo);
}

/* ---- by example ---- */

struct seen { size_t batches, empty, control, horizon; int64_t end; };

static struct seen look(void)
{
	struct seen seen = {0};
	for (size_t i = 0; i < f.log->shape->segment_count; i++) {
		struct segment *s = f.log->shape->segment[i];
		struct scan scan;
		struct batch b;
		uint32_t position;
		assert_int_equal(segment_pin(s, &f.err), 0);
		scan_init(&scan, s->fd, 0, s->size_bytes, 0);
		while (scan_next_header(&scan, &b, &position, &f.err) == 1) {
			seen.batches++;
			seen.empty += !b.record_count;
			seen.control += batch_is_control(&b);
			seen.horizon += (b.attributes & BATCH_DELETE_HORIZON) != 0;
			seen.end = batch_last_offset(&b) + 1;
		}
		scan_release(&scan);
		segment_unpin(s);
	}
	return seen;
}

/* A transaction leaves its marker until delete.retention.ms after its last record went; the producer's newest batch stays as a header. */
static void test_a_marker_goes_last(void **state)
{
	(void)state;
	fx_open(&f);
	cx_records(&f, &c, CODEC_LZ4, 5, PRODUCERS, 50);
	cx_end(&f, &c, 0, false);
	cx_records(&f, &c, CODEC_LZ4, 5, PRODUCERS, 50);
	cx_end(&f, &c, 0, true);
	for (int i = 0; i < 20; i++)
		cx_records(&f, &c, CODEC_NONE, KEYS, -1, 50);
	roll();
	assert_int_equal(f.log->shape->aborted_count, 1);
	assert_true(cx_round(&f, &c)); /* the aborted records go; their marker was met with a batch */
	cx_check(&f, &c);
	assert_int_equal(look().control, 2);
	assert_int_equal(f.log->shape->aborted_count, 1);
	c.clean_offset = -1;
	assert_true(cx_round(&f, &c)); /* now without: it gets its day */
	assert_int_equal(look().control, 2);
	assert_true(look().horizon >= 1);
	assert_int_equal(f.log->shape->aborted_count, 0);
	f.now_ms += c.delete_retention_ms + 1;
	c.clean_offset = -1;
	assert_true(cx_round(&f, &c));
	assert_int_equal(look().control, 1); /* of the other one a batch is left, though maybe empty */
	cx_check_sequence(&f, &c, 100);
	reopen(2);
	assert_int_equal(log_last_stable(f.log), c.leo);
	cx_check_producers(&f, &c);
}

/* A snapshot from before may have a transaction open that the cleaner has taken, marker and all. */
static void test_stale_snapshot(void **state)
{
	(void)state;
	char kept[200];
	fx_open(&f);
	cx_records(&f, &c, CODEC_NONE, 5, PRODUCERS, 50);
	roll(); /* the snapshot at this base has it open */
	int64_t at = c.leo;
	snprintf(kept, sizeof kept, "%s/kept", f.root);
	cx_end(&f, &c, 0, false);
	for (int i = 0; i < 20; i++)
		cx_records(&f, &c, CODEC_NONE, KEYS, -1, 50);
	cx_records(&f, &c, CODEC_NONE, 5, PRODUCERS, 50);
	cx_end(&f, &c, 0, true);
	roll();
	size_t n;
	char *snapshot = slurp(fx_file(&f, at, ".snapshot"), &n);
	for (int i = 0; i < 4; i++) {
		c.clean_offset = -1;
		f.now_ms += c.delete_retention_ms + 1;
		assert_true(cx_round(&f, &c));
	}
	fx_crash(&f);
	char command[200];
	snprintf(command, sizeof command, "rm -f %s/*.snapshot", f.dir);
	assert_int_equal(system(command), 0);
	spit(fx_file(&f, at, ".snapshot"), snapshot, n);
	free(snapshot);
	f.recovery_point = at;
	f.pair_offset = f.pair_position = 0;
	fx_open(&f);
	assert_int_equal(log_last_stable(f.log), c.leo);
	cx_check_sequence(&f, &c, 100);
}

/* Nothing is left of whole segments. */
static void test_emptied_segments(void **state)
{
	(void)state;
	fx_open(&f);
	for (int i = 0; i < 200; i++)
		cx_records(&f, &c, CODEC_NONE, 20, -1, 40);
	size_t before = f.log->shape->segment_count;
	roll();
	assert_true(before > 6);
	assert_true(cx_round(&f, &c));
	assert_true(f.log->shape->segment_count <= 3);
	assert_true(f.log->shape->segment[0]->base_offset > 0);
	assert_int_equal(f.log->start_offset, 0);
	cx_check(&f, &c);
	for (int how = 0; how < 3; how++) {
		reopen(how);
		assert_int_equal(f.log->start_offset, 0);
		cx_check(&f, &c);
	}
	cx_records(&f, &c, CODEC_NONE, 20, -1, 40);
	cx_check(&f, &c);
}

/* A batch larger than all buffers, and one that decompresses to much more. */
static void test_large_batches(void **state)
{
	(void)state;
	f.limits.segment_bytes = 8 << 20;
	fx_open(&f);
	for (int i = 0; i < 12; i++)
		cx_records(&f, &c, (enum codec)(i % CODEC_COUNT), 4, -1, 400000);
	roll();
	assert_true(cx_round(&f, &c));
	cx_check(&f, &c);
}

/* ---- readers and appenders meanwhile ---- */

static void test_reader_meanwhile(void **state)
{
	(void)state;
	fx_open(&f);
	for (int i = 0; i < 300; i++)
		cx_records(&f, &c, (enum codec)below(CODEC_COUNT), 1 + below(9), -1, 60);
	/* each line tells its offset, as a record's bytes do: what a reader gets rises, and what stays to the end it gets */
	struct log_sequence *q = log_sequence_new(f.log, 0);
	char *text = malloc(10 << 20);
	size_t n = 0;
	for (bool more = true; more;) {
		ssize_t got = log_sequence_read(q, f.log->view_offset, text + n, 1 + below(700), &f.err);
		assert_true(got >= 0);
		n += (size_t)got;
		more = got > 0;
		if (below(12) == 0) {
			roll();
			cx_round(&f, &c);
		}
		if (below(12) == 0 && c.recs < 6000)
			cx_records(&f, &c, CODEC_NONE, 1 + below(9), -1, 60);
	}
	log_sequence_free(q);
	/* as lines: in the order of the log, each at most once, and none missing of those that are left */
	size_t at = 0;
	for (size_t i = 0; i < c.recs; i++) {
		const struct rec *r = &c.rec[i];
		if (!r->value)
			continue;
		bool here = at + r->len < n && !memcmp(text + at, r->value, r->len) && text[at + r->len] == '\n';
		if (here)
			at += r->len + 1;
		else
			assert_false(r->there);
	}
	assert_int_equal(at, n);
	free(text);
}

struct running { struct cx *c; _Atomic bool stop; _Atomic size_t rounds; _Atomic size_t reads; pthread_mutex_t lock; int64_t end; };

static int enter_lock(void *arg, struct err *e)
{
	(void)e;
	pthread_mutex_lock(&((struct running *)arg)->lock);
	return 0;
}

static void leave_lock(void *arg)
{
	pthread_mutex_unlock(&((struct running *)arg)->lock);
}

static void *read_all_the_time(void *arg)
{
	struct running *x = arg;
	char *buf = malloc(1 << 16);
	while (!x->stop) {
		struct log_sequence *q = log_sequence_new(f.log, 0);
		struct err e = ERR_INIT;
		ssize_t got;
		do
			got = log_sequence_read(q, f.log->view_offset, buf, 1 << 16, &e);
		while (got > 0);
		if (got < 0)
			fail_msg("a reader: %s", e.text);
		log_sequence_free(q);
		x->reads++;
	}
	free(buf);
	return NULL;
}

static void *clean_all_the_time(void *arg)
{
	struct running *x = arg;
	struct clean_guard guard = {enter_lock, leave_lock, x};
	struct clean_conf conf = {.map_bytes = 1 << 20, .load_factor = 0.9, .io_bytes = 1 << 16, .segment_bytes = f.limits.segment_bytes, .index_bytes = f.limits.index_bytes,
				  .interval_bytes = 1000, .max_lag_ms = INT64_MAX};
	int64_t clean_offset = -1;
	while (!x->stop) {
		struct clean_plan plan;
		struct log_clean *round;
		struct err e = ERR_INIT;
		pthread_mutex_lock(&x->lock);
		int64_t stable = log_last_stable(f.log);
		pthread_mutex_unlock(&x->lock);
		if (log_clean_plan(f.log, clean_offset, stable, &conf, 1, &plan, &e) < 0)
			fail_msg("%s", e.text);
		if (plan.end == plan.first_dirty)
			continue;
		int rc = log_clean_begin(&round, f.log, &plan, &conf, &guard, 1, &e);
		while (rc == 0 && (rc = log_clean_step(round, 100000, &e)) == 1)
			rc = 0;
		if (rc < 0)
			fail_msg("a round: %s", e.text);
		clean_offset = log_clean_end(round);
		log_clean_free(round);
		x->rounds++;
	}
	return NULL;
}

static void test_all_at_once(void **state)
{
	(void)state;
	struct running x = {.c = &c, .lock = PTHREAD_MUTEX_INITIALIZER};
	pthread_t thread[3];
	segment_cache_free(f.cache);
	f.cache = segment_cache_new(2); /* so that files are closed all the time */
	fx_open(&f);
	for (int i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, i ? read_all_the_time : clean_all_the_time, &x), 0);
	for (int i = 0; i < 1500 || (x.rounds < 3 && i < 30000); i++) { /* on a busy machine the others come to it late */
		pthread_mutex_lock(&x.lock);
		cx_records(&f, &c, (enum codec)below(CODEC_COUNT), 1 + below(30), below(3) ? -1 : (int)below(PRODUCERS), 60);
		pthread_mutex_unlock(&x.lock);
	}
	x.stop = true;
	for (int i = 0; i < 3; i++)
		pthread_join(thread[i], NULL);
	print_message("%zu rounds, %zu readings\n", (size_t)x.rounds, (size_t)x.reads);
	assert_true(x.rounds > 2);
	pthread_mutex_destroy(&x.lock);
}

/* ---- positions and back ---- */

static void test_positions_come_back(void **state)
{
	(void)state;
	f.sequential = f.compacted = false;
	fx_open(&f);
	for (int i = 0; i < 100; i++)
		cx_records(&f, &c, (enum codec)below(CODEC_COUNT), 1 + below(9), -1, 90);
	assert_true(any_file(f.dir, ".view"));
	struct log_cursor *cursor = log_cursor_new(f.log);
	char buf[100];
	assert_int_equal(log_cursor_read(cursor, 0, f.log->view_position, buf, 50, &f.err), 50);
	for (int again = 0; again < 3; again++) {
		assert_int_equal(log_set_sequential(f.log, true, &f.err), 0);
		assert_false(any_file(f.dir, ".view"));
		assert_int_equal(log_cursor_read(cursor, 50, 100, buf, 50, &f.err), ERR_OUT_OF_RANGE);
		f.sequential = f.compacted = true;
		for (int i = 0; i < 60; i++)
			cx_records(&f, &c, (enum codec)below(CODEC_COUNT), 1 + below(9), -1, 90);
		cx_check(&f, &c);
		roll();
		assert_true(cx_round(&f, &c));
		cx_check(&f, &c);
		if (again == 1)
			reopen(0);
		struct log_sequence *q = log_sequence_new(f.log, 0);
		char one[10];
		assert_true(log_sequence_read(q, f.log->view_offset, one, sizeof one, &f.err) > 0);
		f.sequential = false;
		if (again == 2) { /* while it is closed */
			log_cursor_free(cursor);
			log_sequence_free(q);
			q = NULL;
			fx_reopen(&f);
			cursor = log_cursor_new(f.log);
		} else {
			assert_int_equal(log_set_sequential(f.log, false, &f.err), 0);
			if (again == 1) {
				log_cursor_free(cursor);
				cursor = log_cursor_new(f.log);
			}
		}
		/* the file is what the reader in order sees */
		size_t n;
		char *text = cx_text(&f, &c, &n), *view = malloc(n + 1);
		assert_int_equal(f.log->view_position, n);
		assert_int_equal(log_cursor_read(cursor, 0, f.log->view_position, view, n, &f.err), n);
		assert_memory_equal(view, text, n);
		for (size_t at = 0; q && at < n - sizeof one;) {
			ssize_t got = log_sequence_read(q, f.log->view_offset, view, n, &f.err);
			assert_true(got > 0);
			assert_memory_equal(view, text + sizeof one + at, (size_t)got);
			at += (size_t)got;
		}
		log_sequence_free(q);
		free(text);
		free(view);
		for (int i = 0; i < 30; i++)
			cx_records(&f, &c, (enum codec)below(CODEC_COUNT), 1 + below(9), -1, 90);
		text = cx_text(&f, &c, &n);
		assert_int_equal(f.log->view_position, n);
		free(text);
		int64_t position = f.log->view_position;
		f.pair_offset = f.pair_position = 0;
		f.recovery_point = 0;
		if (again == 0) {
			log_cursor_free(cursor);
			fx_crash(&f);
			fx_open(&f);
			assert_int_equal(f.log->view_position, position);
			cursor = log_cursor_new(f.log);
		}
	}
	log_cursor_free(cursor);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_plain),
		T(test_transactions),
		T(test_small_map),
		T(test_again),
		T(test_crash_at_every_call),
		T(test_every_call_fails),
		T(test_damage),
		T(test_leftovers),
		T(test_what_may_be_cleaned),
		T(test_a_marker_goes_last),
		T(test_stale_snapshot),
		T(test_emptied_segments),
		T(test_large_batches),
		T(test_reader_meanwhile),
		T(test_all_at_once),
		T(test_positions_come_back),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
