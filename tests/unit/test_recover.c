#include "tests/unit/log_fixture.h"

/* Opening after an unclean stop: what is whole stays, a torn tail is kept aside and cut, damage in the middle changes nothing, and what is derived comes back as it was. */

static struct fx f;
static char copy[120];

static int setup(void **state)
{
	(void)state;
	fx_init(&f, NULL);
	snprintf(copy, sizeof copy, "%s/copy", f.root);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fx_release(&f);
	return 0;
}

static void run(const char *script, const char *x)
{
	char command[600];
	snprintf(command, sizeof command, "X=%s; %s", x, script);
	assert_int_equal(system(command), 0);
}

/* The log as it is now, to be gone back to; closed without a write. */
static void keep(void)
{
	fx_crash(&f);
	copy_tree(f.dir, copy);
}

static void restore(void)
{
	copy_tree(copy, f.dir);
}

/* What of the model is whole when the active segment's .log ends at `bytes`: batch ends, noted while appending. */
struct end { int64_t offset; uint32_t size; int64_t base; };
static struct end ends[5000];
static size_t end_count;

static void note_end(void)
{
	struct segment *s = f.log->shape->segment[f.log->shape->segment_count - 1];
	assert_true(end_count < sizeof ends / sizeof *ends);
	ends[end_count++] = (struct end){f.log->leo, s->size_bytes, s->base_offset};
}

static int64_t whole_upto(int64_t base, int64_t bytes)
{
	int64_t offset = base;
	for (size_t i = 0; i < end_count; i++)
		if (ends[i].base == base && ends[i].size <= bytes)
			offset = ends[i].offset;
	return offset;
}

/* A copy of the model: restored after each cut. */
static void model_copy(struct model *to, const struct model *from)
{
	*to = (struct model){.leo = from->leo, .start_offset = from->start_offset, .txn_count = from->txn_count};
	to->txn = malloc((from->txn_count + 1) * sizeof *to->txn);
	if (from->txn_count)
		memcpy(to->txn, from->txn, from->txn_count * sizeof *to->txn);
	to->item = malloc((from->count + 1) * sizeof *to->item);
	to->count = to->cap = from->count;
	memcpy(to->item, from->item, from->count * sizeof *to->item);
	for (size_t i = 0; i < to->count; i++)
		if (to->item[i].value) {
			to->item[i].value = malloc(to->item[i].len + 1);
			memcpy(to->item[i].value, from->item[i].value, to->item[i].len);
		}
}

static void check_quick(void)
{
	check_ends(&f);
	check_sequential(&f, 100000);
	check_random(&f, 4, 400);
	check_places(&f, 1 + f.m.count / 5);
}

/* The .log cut at every byte of its last batches, with transactions or without, for several recovery points. */
static void cut_everywhere(bool transactions, int64_t first_byte, int64_t most_step)
{
	end_count = 0;
	f.limits.segment_bytes = 6000;
	f.limits.interval_bytes = 500;
	fx_open(&f);
	int t = -1, aborted = -1;
	for (int i = 0; i < 60; i++) {
		if (transactions && i % 6 == 0) {
			t = fx_begin(&f, 50 + i % 4);
			fx_records(&f, CODEC_NONE, 2, 40, t);
		} else if (transactions && i % 6 == 3) {
			fx_end(&f, t, i % 4);
		} else {
			fx_lines(&f, (enum codec)(i % CODEC_COUNT), 1 + below(6), 90);
		}
		note_end();
		if (f.log->shape->segment_count == 4 && f.log->shape->segment[3]->size_bytes > 3000)
			break;
	}
	if (transactions) { /* at the very end: an abort, and one that stays open */
		aborted = fx_begin(&f, 77);
		fx_records(&f, CODEC_NONE, 3, 30, aborted);
		note_end();
		t = fx_begin(&f, 78);
		fx_records(&f, CODEC_NONE, 3, 30, t);
		note_end();
		fx_end(&f, aborted, false);
		note_end();
		fx_lines(&f, CODEC_NONE, 2, 50);
		note_end();
		fx_end(&f, t, true);
		note_end();
	}
	struct log_shape *s = f.log->shape;
	int64_t base = s->segment[s->segment_count - 1]->base_offset, size = s->segment[s->segment_count - 1]->size_bytes;
	int64_t points[3] = {0, s->segment[1]->base_offset, base};
	keep();
	struct model whole = f.m;
	if (first_byte < 0)
		first_byte = size > 1500 ? size - 1500 : 0;
	for (int64_t cut = first_byte; cut <= size; cut += 1 + (int64_t)below((size_t)most_step)) {
		restore();
		assert_int_equal(truncate(fx_file(&f, base, ".log"), cut), 0);
		model_copy(&f.m, &whole);
		int64_t left = whole_upto(base, cut);
		model_cut(&f.m, left);
		f.recovery_point = points[below(3)];
		fx_open(&f);
		check_quick();
		int64_t torn = cut;
		for (size_t i = 0; i < end_count; i++)
			if (ends[i].base == base && ends[i].size <= cut)
				torn = cut - ends[i].size;
		if (torn)
			assert_int_equal(file_size(fx_file(&f, base, ".cut")), torn);
		else
			assert_int_equal(file_size(fx_file(&f, base, ".cut")), -1);
		f.epoch = 1;
		fx_lines(&f, CODEC_NONE, 3, 50);
		check_quick();
		if (below(2))
			fx_reopen(&f);
		else {
			fx_crash(&f);
			fx_open(&f);
		}
		check_quick();
		f.epoch = 0;
		fx_crash(&f);
		model_release(&f.m);
	}
	f.m = whole;
	restore();
	f.recovery_point = 0;
	fx_open(&f);
	check_log(&f);
}

static void test_cut_at_every_byte(void **state)
{
	(void)state;
	cut_everywhere(false, -1, 1);
}

static void test_cut_transactions_at_every_byte(void **state)
{
	(void)state;
	cut_everywhere(true, -1, 1);
}

/* ---- damage ---- */

/* A log of four segments and more, each batch one line; ends[] is filled. */
static void plain_log(size_t segments)
{
	end_count = 0;
	f.limits.segment_bytes = 5000;
	f.limits.interval_bytes = 500;
	fx_open(&f);
	while (!f.log->shape || f.log->shape->segment_count < segments || f.log->shape->segment[segments - 1]->size_bytes < 3000) {
		fx_lines(&f, (enum codec)below(CODEC_COUNT), 1 + below(4), 120);
		note_end();
		f.now_ms += 7;
	}
	model_build(&f.m);
}

static int64_t base_of(size_t i)
{
	static int64_t seen[20];
	if (f.log) {
		for (size_t k = 0; k < f.log->shape->segment_count && k < 20; k++)
			seen[k] = f.log->shape->segment[k]->base_offset;
	}
	return seen[i];
}

static void flip(const char *path, int64_t at, char bits)
{
	char c;
	int fd = open(path, O_RDWR);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &c, 1, at), 1);
	c ^= bits;
	assert_int_equal(pwrite(fd, &c, 1, at), 1);
	close(fd);
}

/* Nothing may differ after a refusal; and the sentence says where. */
static void expect_offline(const char *word)
{
	uint64_t before = digest(f.dir);
	assert_int_equal(fx_try_open(&f), ERR_OFFLINE);
	if (!strstr(f.err.text, word))
		fail_msg("\"%s\" does not say \"%s\"", f.err.text, word);
	assert_true(digest(f.dir) == before);
}

/* A bit flipped at any place of the unrecovered part, with valid batches behind: offline, and nothing is changed. The epoch and the base offset are outside of the
 * crc: an epoch that differs is not noticed. */
static void test_flip_in_the_middle(void **state)
{
	(void)state;
	plain_log(4);
	base_of(0);
	keep();
	for (size_t k = 0; k < 4; k++) {
		int64_t base = base_of(k), last = 0, begin = 0;
		for (size_t i = 0; i < end_count; i++)
			if (ends[i].base == base) {
				begin = last; /* of its last batch */
				last = ends[i].size;
			}
		int64_t stop = k < 3 ? last : begin;
		for (int64_t at = 0; at < stop; at += at < 61 ? 1 : 1 + (int64_t)below(150)) {
			int64_t batch = 0;
			for (size_t i = 0; i < end_count; i++)
				if (ends[i].base == base && ends[i].size <= at)
					batch = ends[i].size;
			if (at - batch >= 12 && at - batch < 16)
				continue;
			restore();
			flip(fx_file(&f, base, ".log"), at, (char)(1 << below(8)));
			f.recovery_point = below(2) ? 0 : base;
			expect_offline("damaged");
		}
	}
	restore();
	f.recovery_point = 0;
	fx_open(&f);
	check_log(&f);
}

/* A flipped epoch is no reason to refuse, and gives right bytes. */
static void test_flip_in_an_epoch(void **state)
{
	(void)state;
	plain_log(2);
	keep();
	for (int bit = 0; bit < 32; bit++) {
		restore();
		flip(fx_file(&f, 0, ".log"), 12 + bit / 8, (char)(1 << bit % 8));
		fx_open(&f);
		check_quick();
		fx_crash(&f);
	}
	fx_open(&f);
}

/* In the last batch it is a torn tail. */
static void test_flip_in_the_last_batch(void **state)
{
	(void)state;
	plain_log(3);
	base_of(0);
	keep();
	struct model whole = f.m;
	int64_t base = base_of(2);
	int64_t begin = ends[end_count - 2].size, end = ends[end_count - 1].size;
	for (int64_t at = begin; at < end; at++) {
		if (at - begin >= 12 && at - begin < 16)
			continue;
		restore();
		flip(fx_file(&f, base, ".log"), at, (char)(1 << below(8)));
		model_copy(&f.m, &whole);
		model_cut(&f.m, ends[end_count - 2].offset);
		f.recovery_point = below(2) ? 0 : ends[end_count - 2].offset;
		fx_open(&f);
		check_quick();
		assert_int_equal(file_size(fx_file(&f, base, ".cut")), end - begin);
		fx_lines(&f, CODEC_NONE, 3, 50);
		check_quick();
		fx_crash(&f);
		model_release(&f.m);
		/* below the recovery point nothing is cut */
		restore();
		flip(fx_file(&f, base, ".log"), at, (char)(1 << below(8)));
		f.recovery_point = ends[end_count - 1].offset;
		expect_offline("safely on disk");
	}
	f.m = whole;
	restore();
	f.recovery_point = ends[end_count - 1].offset;
	fx_open(&f);
	check_log(&f);
}

/* Damage below the recovery point, in the segment that is scanned: the old .view tells where the view goes on, and only the damaged batch is lost. */
static void test_hole(void **state)
{
	(void)state;
	f.limits.segment_bytes = 1 << 20;
	f.limits.interval_bytes = 500;
	end_count = 0;
	fx_open(&f);
	for (int i = 0; i < 120; i++) {
		fx_lines(&f, (enum codec)below(CODEC_COUNT), 1 + below(12), 120);
		note_end();
	}
	model_build(&f.m);
	keep();
	diag_set_level(DIAG_ERROR - 1);
	char *buf = malloc((size_t)f.m.end_position + 1);
	for (size_t i = 0; i < 70; i += 1 + below(4)) {
		uint32_t begin = i ? ends[i - 1].size : 0;
		int64_t from = i ? ends[i - 1].offset : 0, to = ends[i].offset;
		bool header = below(2); /* one that leads nowhere, or one that can be hopped over */
		restore();
		if (header)
			flip(fx_file(&f, 0, ".log"), begin + 8 + (int64_t)below(4), 1);
		else
			flip(fx_file(&f, 0, ".log"), begin + 61 + (int64_t)below(ends[i].size - begin - 61), 1);
		f.recovery_point = ends[100].offset;
		fx_open(&f);
		check_ends(&f);
		struct log_cursor *c = log_cursor_new(f.log);
		int64_t hole = f.m.position[from], behind = f.m.position[to];
		if (hole)
			check_read(&f, c, 0, (size_t)hole);
		size_t unread = 0;
		if (behind > hole)
			assert_int_equal(log_cursor_read(c, hole, f.m.end_position, buf, 10, &f.err), ERR_CORRUPT);
		for (int64_t at = hole; at < f.m.end_position; at += 11) {
			ssize_t got = log_cursor_read(c, at, f.m.end_position, buf, 50, &f.err);
			if (got < 0) {
				assert_int_equal(got, ERR_CORRUPT);
				unread += 11;
				if (!header)
					assert_true(at < behind);
			} else {
				assert_memory_equal(buf, f.m.view + at, (size_t)got);
			}
		}
		assert_true(unread < (size_t)(behind - hole) + 16000);
		check_read(&f, c, f.m.position[ends[i + 40].offset], 5000);
		log_cursor_free(c);
		/* it goes on, and stays so */
		struct model before;
		model_copy(&before, &f.m);
		fx_lines(&f, CODEC_NONE, 20, 300);
		check_ends(&f);
		fx_close(&f);
		if (below(2)) {
			f.has_row = false;
			f.recovery_point = f.m.leo;
		}
		fx_open(&f);
		check_ends(&f);
		c = log_cursor_new(f.log);
		check_read(&f, c, f.m.position[ends[i + 40].offset], (size_t)(f.m.end_position - f.m.position[ends[i + 40].offset]));
		log_cursor_free(c);
		fx_crash(&f);
		model_release(&f.m);
		f.m = before;
		f.m.view = NULL;
		f.m.position = NULL;
		model_build(&f.m);
	}
	/* without the .view there is no bridge; nor where the hole may reach past the recovery point */
	restore();
	flip(fx_file(&f, 0, ".log"), ends[20].size + 70, 1);
	unlink(fx_file(&f, 0, ".view"));
	f.recovery_point = ends[100].offset;
	expect_offline("damaged");
	restore();
	flip(fx_file(&f, 0, ".log"), ends[100].size + 70, 1);
	expect_offline("damaged");
	diag_set_level(DIAG_ERROR);
	free(buf);
	restore();
	f.recovery_point = 0;
	fx_open(&f);
	check_log(&f);
}

static void test_missing_segments(void **state)
{
	(void)state;
	plain_log(5);
	base_of(0);
	keep();
	for (int k = 0; k < 4; k++) {
		restore();
		for (const char *const *s = (const char *const[]){".log", ".index", ".timeindex", ".view", NULL}; *s; s++) {
			unlink(fx_file(&f, base_of((size_t)k), *s));
			if (k & 1)
				break; /* the others stay */
		}
		f.recovery_point = k == 2 ? base_of(4) : 0;
		f.pair_offset = f.pair_position = 0;
		expect_offline(k ? "missing" : "one is missing");
	}
	/* the active one, with what was durable in it */
	restore();
	unlink(fx_file(&f, base_of(4), ".log"));
	f.recovery_point = base_of(4) + 1;
	expect_offline("safely on disk");
	/* all of them */
	restore();
	run("rm $X/0*", f.dir);
	expect_offline("safely on disk");
	restore();
	f.recovery_point = 0;
	fx_open(&f);
	check_log(&f);
}

static void accept_loss(void)
{
	char path[PATH_MAX];
	snprintf(path, sizeof path, "%s/" CONSENT_FILE, f.dir);
	spit(path, "", 0);
}

/* What stands in the file now; "" where it is gone. */
static const char *consent(void)
{
	static char text[100];
	char path[PATH_MAX];
	snprintf(path, sizeof path, "%s/" CONSENT_FILE, f.dir);
	if (access(path, F_OK))
		return "";
	size_t n;
	char *bytes = slurp(path, &n);
	snprintf(text, sizeof text, "%.*s", (int)n, bytes);
	free(bytes);
	return text;
}

static void unlink_segment(int64_t base, bool view_too)
{
	for (const char *const *s = (const char *const[]){".log", ".index", ".timeindex", view_too ? ".view" : NULL, NULL}; *s; s++)
		unlink(fx_file(&f, base, *s));
}

/* With the user's consent a log goes on without a segment: everything else keeps its offset and position, and what is missing is an error. The consent is to that gap
 * alone, and lasts. */
static void test_accepted_gap(void **state)
{
	(void)state;
	char want[40];
	plain_log(5);
	int64_t base[5];
	for (size_t i = 0; i < 5; i++)
		base[i] = base_of(i);
	keep();
	for (int k = 0; k < 8; k++) {
		restore();
		f.recovery_point = k & 1 ? base[4] : 0;
		unlink_segment(base[2], k & 2);
		if (k & 4)
			unlink_segment(base[1], true);
		int64_t from = f.m.position[base[k & 4 ? 1 : 2]], to = f.m.position[base[3]];
		f.pair_offset = f.pair_position = 0;
		expect_offline(CONSENT_FILE);
		accept_loss();
		diag_set_level(DIAG_ERROR);
		for (int again = 0; again < 3; again++) {
			fx_open(&f);
			assert_int_equal(consent_spend(&f.accepted, f.dir, &f.err), 0);
			snprintf(want, sizeof want, "%" PRId64 "\n", base[3]);
			assert_string_equal(consent(), want);
			check_ends(&f);
			struct log_cursor *c = log_cursor_new(f.log);
			char byte;
			for (int i = 0; i < 200; i++) {
				int64_t at = (int64_t)below((size_t)f.m.end_position);
				if (at < from || at >= to)
					check_read(&f, c, at, at < from ? (size_t)(from - at) : 500);
				else
					assert_int_equal(log_cursor_read(c, at, f.m.end_position, &byte, 1, &f.err), ERR_CORRUPT);
			}
			log_cursor_free(c);
			if (again == 0)
				fx_crash(&f);
			else
				fx_close(&f);
		}
		f.has_row = false;
		unlink_segment(base[3], true);
		expect_offline(CONSENT_FILE);
	}
	restore();
	unlink_segment(base[2], true);
	unlink(fx_file(&f, base[3], ".view")); /* nobody knows the positions */
	accept_loss();
	expect_offline("missing between");
	restore();
	fx_open(&f);
}

/* Without its first segment it starts at the next. */
static void test_accepted_head(void **state)
{
	(void)state;
	plain_log(4);
	int64_t second = base_of(1);
	keep();
	unlink_segment(0, true);
	f.pair_offset = f.pair_position = 0;
	expect_offline(CONSENT_FILE);
	accept_loss();
	fx_open(&f);
	assert_int_equal(consent_spend(&f.accepted, f.dir, &f.err), 0);
	assert_string_equal(consent(), "");
	f.m.start_offset = second;
	check_log(&f);
	fx_keep_pair(&f);
	fx_crash(&f);
	fx_open(&f);
	check_log(&f);
}

/* What is lost of its end is cut and kept aside, although it was on disk before; the log goes on there. */
static void test_accepted_end(void **state)
{
	(void)state;
	plain_log(3);
	int64_t active = base_of(2);
	f.recovery_point = f.m.leo;
	keep();
	struct end last = ends[end_count - 1], before = ends[end_count - 2];
	assert_true(last.base == active && before.base == active);
	for (int how = 0; how < 3; how++) {
		struct model whole;
		restore();
		if (how == 2)
			flip(fx_file(&f, active, ".log"), last.size - 2, 1);
		else
			assert_int_equal(truncate(fx_file(&f, active, ".log"), how ? before.size : last.size - 7), 0);
		expect_offline(CONSENT_FILE);
		accept_loss();
		diag_set_level(DIAG_ERROR);
		model_copy(&whole, &f.m);
		model_cut(&f.m, before.offset);
		fx_open(&f);
		fx_crash(&f); /* it holds until it is spent */
		fx_open(&f);
		assert_int_equal(consent_spend(&f.accepted, f.dir, &f.err), 0);
		assert_string_equal(consent(), "");
		assert_true(f.log->flushed_offset <= f.log->leo);
		check_quick();
		f.epoch = 1;
		fx_lines(&f, CODEC_NONE, 3, 50);
		check_quick();
		fx_reopen(&f);
		check_quick();
		f.epoch = 0;
		fx_crash(&f);
		model_release(&f.m);
		f.m = whole;
		model_build(&f.m);
		f.recovery_point = f.m.leo;
	}
	restore();
	fx_open(&f);
}

/* A head that is not there, where the start says that it should be; and where the start lies behind it. */
static void test_missing_head(void **state)
{
	(void)state;
	plain_log(4);
	base_of(0);
	keep();
	unlink(fx_file(&f, 0, ".log"));
	f.pair_offset = f.pair_position = 0;
	expect_offline("one is missing");
	f.pair_offset = base_of(1);
	f.pair_position = f.m.position[base_of(1)];
	f.m.start_offset = base_of(1);
	fx_open(&f);
	check_log(&f);
	fx_crash(&f);
	/* without the pair the .view's copy of it serves; without both nobody knows */
	f.pair_offset = f.pair_position = -1;
	fx_open(&f);
	check_log(&f);
	fx_crash(&f);
	unlink(fx_file(&f, base_of(1), ".view"));
	expect_offline("nobody knows");
	f.pair_offset = base_of(1);
	f.pair_position = f.m.position[base_of(1)];
	fx_open(&f);
	check_log(&f);
}

/* What a power cut leaves behind the last batch: zeros, garbage, half of a batch of before. */
static void test_appended_garbage(void **state)
{
	(void)state;
	plain_log(2);
	base_of(0);
	keep();
	int64_t size = file_size(fx_file(&f, base_of(1), ".log"));
	for (int kind = 0; kind < 60; kind++) {
		restore();
		size_t n = 1 + below(9000), m;
		char *garbage = calloc(1, n);
		for (size_t i = 0; kind > 5 && i < n; i++)
			garbage[i] = (char)chance();
		if (kind > 50) { /* what stands at the beginning of the log, cut short */
			char *log = slurp(fx_file(&f, 0, ".log"), &m);
			n = ends[0].size - 1 - below(ends[0].size - 1);
			memcpy(garbage = realloc(garbage, n), log, n);
			free(log);
		} else if (kind > 40 && n > 30) { /* what looks like a message of the formats of before */
			garbage[8] = garbage[9] = 0;
			garbage[16] = kind & 1;
		}
		int fd = open(fx_file(&f, base_of(1), ".log"), O_WRONLY | O_APPEND);
		assert_int_equal(write(fd, garbage, n), n);
		close(fd);
		free(garbage);
		f.recovery_point = kind & 1 ? f.m.leo : 0;
		fx_open(&f);
		check_quick();
		assert_int_equal(file_size(fx_file(&f, base_of(1), ".log")), size);
		assert_int_equal(file_size(fx_file(&f, base_of(1), ".cut")), n);
		fx_crash(&f);
	}
	/* indexes too: of zeros, as a killed Kafka leaves them, or longer than the log */
	for (int kind = 0; kind < 4; kind++) {
		restore();
		run(kind & 1 ? "truncate -s 10485760 $X" : "truncate -s +96 $X", fx_file(&f, base_of(1), ".index"));
		run(kind & 2 ? "truncate -s 10485756 $X" : "truncate -s +96 $X", fx_file(&f, base_of(1), ".timeindex"));
		fx_open(&f);
		check_quick();
		assert_true(file_size(fx_file(&f, base_of(1), ".index")) < 1000);
		fx_crash(&f);
	}
	fx_open(&f);
}

/* The tail of a segment is lost while the one behind it is there already, and empty. */
static void test_torn_before_empty_segments(void **state)
{
	(void)state;
	plain_log(3);
	assert_int_equal(log_roll(f.log, &f.err), 0);
	size_t n = f.log->shape->segment_count;
	base_of(0);
	keep();
	struct model whole = f.m;
	int64_t base = base_of(n - 2), size = file_size(fx_file(&f, base, ".log"));
	for (int64_t cut = size - 1; cut > size - 400; cut -= 1 + (int64_t)below(20)) {
		if (below(4) == 0) /* without a trace: at the end of a batch */
			cut = ends[end_count - 2].size;
		restore();
		assert_int_equal(truncate(fx_file(&f, base, ".log"), cut), 0);
		model_copy(&f.m, &whole);
		model_cut(&f.m, whole_upto(base, cut));
		f.recovery_point = below(2) ? 0 : base;
		fx_open(&f);
		check_quick();
		assert_int_equal(f.log->shape->segment_count, n - 1);
		for (int i = 0; i < 40; i++)
			fx_lines(&f, CODEC_NONE, 3, 100);
		check_quick();
		fx_reopen(&f);
		check_quick();
		fx_crash(&f);
		model_release(&f.m);
	}
	f.m = whole;
	restore();
	f.recovery_point = 0;
	fx_open(&f);
}

/* A roll failed, and so did the removal of what it had made; the log went on, in the old segment and in new ones. */
static void test_empty_leftovers(void **state)
{
	(void)state;
	plain_log(3);
	base_of(0);
	fx_crash(&f);
	int64_t wrong[3] = {f.m.leo - 1, f.m.leo + 5, base_of(1) + 1};
	for (int clean = 0; clean < 2; clean++)
		for (int i = 0; i < 3; i++) {
			fx_open(&f);
			if (clean)
				fx_close(&f);
			else
				fx_crash(&f);
			spit(fx_file(&f, wrong[i], ".log"), "", 0);
			spit(fx_file(&f, wrong[i], ".index"), "", 0);
			fx_open(&f);
			check_quick();
			assert_int_equal(file_size(fx_file(&f, wrong[i], ".log")), -1);
			fx_lines(&f, CODEC_NONE, 3, 50);
			check_quick();
			wrong[0] = f.m.leo - 1;
			wrong[1] = f.m.leo + 5;
			fx_crash(&f);
		}
	fx_open(&f);
}

/* ---- what is derived ---- */

static void compare_files(const char *suffix)
{
	char command[800];
	snprintf(command, sizeof command, "for x in %s/*%s; do cmp $x %s/$(basename $x) || exit 1; done", copy, suffix, f.dir);
	assert_int_equal(system(command), 0);
}

/* Indexes and views of a log that was recovered are those of one that never crashed, whatever was left of them. */
static void test_indexes_come_back(void **state)
{
	(void)state;
	plain_log(4);
	keep();
	fx_open(&f);
	compare_files("");
	fx_crash(&f);
	for (int i = 0; i < 5; i++) {
		restore();
		run(i == 0 ? "rm $X/*.index" : i == 1 ? "rm $X/*.timeindex" : i == 2 ? "rm $X/*.view" : i == 3 ? "truncate -s 0 $X/*index" : "truncate -s -24 $X/*.index", f.dir);
		fx_open(&f);
		check_quick();
		compare_files(".view");
		if (i != 2)
			compare_files(".index");
		fx_crash(&f);
	}
	/* entries that are missing at the end fit what is there, and yet the index is not whole */
	restore();
	run("truncate -s 24 $X/00000000000000000000.timeindex", f.dir);
	fx_open(&f);
	compare_files(".index");
	char *then = fx_file(&f, 0, ".timeindex");
	char before[300];
	snprintf(before, sizeof before, "%s/00000000000000000000.timeindex", copy);
	assert_int_equal(file_size(then), file_size(before));
	fx_crash(&f);
	fx_open(&f);
}

static void test_epochs_come_back(void **state)
{
	(void)state;
	f.limits.segment_bytes = 3000;
	fx_open(&f);
	for (int i = 0; i < 60; i++) {
		f.epoch = i / 7 * 2;
		fx_lines(&f, CODEC_NONE, 3, 80);
	}
	size_t n, m;
	char *before = slurp(fx_path(&f, "leader-epoch-checkpoint"), &n);
	int64_t points[3] = {0, f.log->shape->segment[2]->base_offset + 1, f.log->shape->segment[f.log->shape->segment_count - 1]->base_offset};
	keep();
	for (int i = 0; i < 12; i++) {
		char *path = fx_path(&f, "leader-epoch-checkpoint");
		restore();
		if (i % 4 == 0)
			unlink(path);
		else if (i % 4 == 1)
			spit(path, "garbage", 7);
		else if (i % 4 == 2)
			assert_int_equal(truncate(path, (off_t)below(n)), 0);
		f.recovery_point = points[i % 3];
		fx_open(&f);
		char *after = slurp(path, &m);
		assert_int_equal(n, m);
		assert_memory_equal(before, after, n);
		free(after);
		check_quick();
		fx_crash(&f);
	}
	/* an epoch that began in what was cut is gone; the next one may begin there */
	int64_t base = f.m.leo;
	restore();
	fx_open(&f);
	f.epoch += 5;
	fx_lines(&f, CODEC_NONE, 1, 80);
	int64_t active = f.log->shape->segment[f.log->shape->segment_count - 1]->base_offset;
	fx_crash(&f);
	run("truncate -s -1 $X", fx_file(&f, active, ".log"));
	model_cut(&f.m, base);
	fx_open(&f);
	char *after = slurp(fx_path(&f, "leader-epoch-checkpoint"), &m);
	if (active != base) {
		assert_int_equal(n, m);
		assert_memory_equal(before, after, n);
	}
	free(after);
	free(before);
	check_quick();
}

static void print_producers(struct wr *text)
{
	wr_init(text, 0);
	producers_print(f.log->producers, text);
	assert_false(text->failed);
}

/* Lines in any order, and of each producer's batches the last one only: more a snapshot does not keep. */
static uint64_t producers_digest(void)
{
	struct wr text;
	uint64_t sum = 0;
	print_producers(&text);
	for (char *p = (char *)text.data, *end = p + text.len; p < end;) {
		char *nl = memchr(p, '\n', (size_t)(end - p));
		*nl = 0;
		char *more = strstr(p, ", before it"), *timestamp = strstr(p, " timestamp"), *coordinator = strstr(p, " coordinator"); /* the time may be that of reading them */
		uint32_t crc = crc32c(0, p, (size_t)((more ? more : timestamp) - p));
		sum += (uint64_t)crc32c(crc, coordinator, strlen(coordinator)) << 8;
		p = nl + 1;
	}
	wr_release(&text);
	return sum;
}

/* Producer state and aborted transactions after a crash are what they were, whichever snapshots and .txnindex files are left. */
static void test_producers_come_back(void **state)
{
	(void)state;
	f.limits.segment_bytes = 5000;
	fx_open(&f);
	fx_mixture(&f, 150, true);
	int open = fx_begin(&f, 5000);
	fx_records(&f, CODEC_NONE, 3, 30, open);
	fx_lines(&f, CODEC_NONE, 3, 100);
	check_quick();
	uint64_t before = producers_digest();
	size_t aborted = f.log->shape->aborted_count, n = f.log->shape->segment_count;
	assert_true(aborted > 3 && n > 5);
	int64_t points[4] = {0, f.log->shape->segment[1]->base_offset, f.log->shape->segment[n / 2]->base_offset + 1, f.log->shape->segment[n - 1]->base_offset};
	keep();
	for (int i = 0; i < 40; i++) {
		restore();
		switch (i % 8) {
		case 0:
			break;
		case 1:
			run("rm $X/*.snapshot", f.dir);
			break;
		case 2:
			run("rm -f $X/*.txnindex", f.dir);
			break;
		case 3:
			run("for x in $X/*.txnindex; do truncate -s -5 $x; done", f.dir);
			break;
		case 4:
			run("for x in $X/*.snapshot; do truncate -s -5 $x; done", f.dir);
			break;
		case 5:
			run("for x in $X/*.snapshot; do printf '\\377' | dd of=$x bs=1 seek=9 conv=notrunc status=none; done", f.dir);
			break;
		case 6: /* entries of a marker that was never written */
			run("for x in $X/*.txnindex; do tail -c 34 $x > /dev/null; done", f.dir);
			break;
		default:
			run("rm -f $X/*.txnindex $X/*.snapshot", f.dir);
		}
		/* a .txnindex that is not there cannot be told from one that never was: those below the recovery point are needed */
		f.recovery_point = i % 8 == 2 || i % 8 == 7 ? 0 : points[below(4)];
		if (i % 8 == 7)
			run("rm -f $X/*.snapshot", f.dir);
		fx_open(&f);
		if (producers_digest() != before) {
			struct wr text;
			print_producers(&text);
			fail_msg("round %d, recovery point %" PRId64 ": the producers are now\n%.*s", i, f.recovery_point, (int)text.len, (char *)text.data);
		}
		assert_int_equal(f.log->shape->aborted_count, aborted);
		check_quick();
		compare_files(".txnindex");
		fx_crash(&f);
	}
	fx_open(&f);
	fx_end(&f, open, false);
	check_log(&f);
}

/* Snapshots past the end know of what was lost; the log gets there again with other batches. */
static void test_snapshot_past_the_end(void **state)
{
	(void)state;
	fx_open(&f);
	fx_lines(&f, CODEC_NONE, 10, 50);
	int lost = fx_begin(&f, 9);
	int64_t leo = f.m.leo;
	int64_t size = f.log->shape->segment[0]->size_bytes;
	fx_records(&f, CODEC_NONE, 5, 50, lost);
	int64_t snapshot = f.m.leo;
	fx_close(&f); /* writes one */
	assert_true(file_size(fx_file(&f, snapshot, ".snapshot")) > 0);
	assert_int_equal(truncate(fx_file(&f, 0, ".log"), size), 0);
	model_cut(&f.m, leo);
	f.has_row = false;
	f.recovery_point = leo;
	fx_open(&f);
	check_quick();
	assert_int_equal(file_size(fx_file(&f, snapshot, ".snapshot")), -1);
	fx_lines(&f, CODEC_NONE, 30, 50);
	assert_int_equal(log_flush(f.log, f.m.leo, &f.err), 0);
	fx_crash(&f);
	f.recovery_point = f.m.leo;
	fx_open(&f);
	check_quick();
}

/* An abort's .txnindex entry without its marker: the marker was torn off, and what the producer writes next is not aborted. alone: in a segment that has nothing else. */
static void stale_abort(bool alone)
{
	fx_open(&f);
	int t = fx_begin(&f, 9);
	fx_records(&f, CODEC_NONE, 5, 50, t);
	if (alone) {
		assert_int_equal(log_flush(f.log, f.log->leo, &f.err), 0);
		assert_int_equal(log_roll(f.log, &f.err), 0);
	}
	struct segment *s = f.log->shape->segment[f.log->shape->segment_count - 1];
	int64_t leo = f.m.leo, size = s->size_bytes, base = s->base_offset;
	fx_end(&f, t, false);
	assert_int_equal(file_size(fx_file(&f, base, ".txnindex")), 34);
	f.recovery_point = alone ? leo : 0;
	fx_crash(&f);
	assert_int_equal(truncate(fx_file(&f, base, ".log"), size + 3), 0);
	model_cut(&f.m, leo);
	fx_open(&f);
	check_quick();
	assert_true(f.m.stable < f.m.leo);
	assert_int_equal(f.log->shape->aborted_count, 0);
	assert_int_equal(file_size(fx_file(&f, base, ".txnindex")), -1);
	fx_end(&f, t, true);
	check_quick();
	fx_reopen(&f);
	check_quick();
	fx_crash(&f);
	fx_open(&f);
	check_quick();
}

static void test_stale_abort(void **state)
{
	(void)state;
	stale_abort(false);
	teardown(NULL);
	setup(NULL);
	stale_abort(true);
}

/* A marker that was lost had given segments their positions; decided otherwise they are others. */
static void lost_marker(bool durable)
{
	f.limits.segment_bytes = 3000;
	fx_open(&f);
	fx_lines(&f, CODEC_NONE, 10, 50);
	int t = fx_begin(&f, 9);
	fx_records(&f, CODEC_NONE, 10, 100, t);
	for (int i = 0; i < 30; i++)
		fx_lines(&f, CODEC_NONE, 10, 60);
	assert_true(f.log->shape->segment_count > 2);
	assert_int_equal(log_roll(f.log, &f.err), 0);
	int64_t leo = f.m.leo;
	fx_end(&f, t, true);
	check_quick();
	fx_lines(&f, CODEC_NONE, 10, 60);
	check_quick();
	fx_crash(&f);
	f.recovery_point = durable ? leo : 0; /* then those before are not scanned */
	assert_int_equal(truncate(fx_file(&f, leo, ".log"), 5), 0);
	model_cut(&f.m, leo);
	fx_open(&f);
	check_quick();
	fx_end(&f, t, false);
	check_log(&f);
	fx_reopen(&f);
	check_log(&f);
}

static void test_lost_marker(void **state)
{
	(void)state;
	lost_marker(false);
	teardown(NULL);
	setup(NULL);
	lost_marker(true);
}

/* The pair is on disk, what lies behind it was not: the log goes on at its start. */
static void test_end_below_start(void **state)
{
	(void)state;
	plain_log(3);
	base_of(0);
	int64_t start = f.m.leo, position = f.m.end_position;
	fx_crash(&f);
	for (size_t i = 1; i < 3; i++)
		assert_int_equal(unlink(fx_file(&f, base_of(i), ".log")), 0);
	f.pair_offset = start;
	f.pair_position = position;
	f.m.start_offset = start;
	fx_open(&f);
	check_log(&f);
	assert_int_equal(f.log->leo, start);
	fx_lines(&f, CODEC_NONE, 10, 60);
	check_log(&f);
	fx_reopen(&f);
	check_log(&f);
	fx_crash(&f);
	fx_open(&f);
	check_log(&f);
}

/* One thread or many: the same files and state. */
static void test_in_parallel(void **state)
{
	(void)state;
	f.limits.segment_bytes = 20000;
	f.limits.interval_bytes = 1000;
	fx_open(&f);
	fx_mixture(&f, 500, true);
	assert_true(f.log->shape->segment_count > 6);
	fx_lines(&f, CODEC_NONE, 10, 60);
	uint64_t sum[3], producers[3];
	keep();
	for (int i = 0; i < 3; i++) {
		restore();
		run("rm -f $X/*.view $X/*.index", f.dir);
		pool_free(f.pool);
		f.pool = pool_new("worker", i ? 8 : 1);
		fx_open(&f);
		check_log(&f);
		producers[i] = producers_digest();
		fx_crash(&f);
		sum[i] = digest(f.dir);
	}
	assert_true(sum[0] == sum[1] && sum[1] == sum[2]);
	assert_true(producers[0] == producers[1] && producers[1] == producers[2]);
	fx_open(&f);
}

/* Gaps between offsets are Kafka's compaction where Kafka made the log; elsewhere something is missing. */
static void test_gaps(void **state)
{
	(void)state;
	plain_log(2);
	base_of(0);
	keep();
	/* take a batch out of the middle of the first segment */
	size_t n;
	char *bytes = slurp(fx_file(&f, 0, ".log"), &n);
	uint32_t from = ends[9].size, to = ends[10].size;
	memmove(bytes + from, bytes + to, n - to);
	spit(fx_file(&f, 0, ".log"), bytes, n - (to - from));
	free(bytes);
	run("rm $X/*.view $X/*index", f.dir);
	expect_offline("should");
	f.gaps = true;
	fx_open(&f);
	assert_int_equal(f.log->leo, f.m.leo);
	struct log_cursor *c = log_cursor_new(f.log);
	char *buf = malloc((size_t)f.m.end_position + 1);
	int64_t gone = f.m.position[ends[10].offset] - f.m.position[ends[9].offset], split = f.m.position[ends[9].offset];
	assert_int_equal(f.log->view_position, f.m.end_position - gone);
	assert_int_equal(log_cursor_read(c, 0, f.log->view_position, buf, (size_t)f.m.end_position, &f.err), f.m.end_position - gone);
	assert_memory_equal(buf, f.m.view, (size_t)split);
	assert_memory_equal(buf + split, f.m.view + split + gone, (size_t)(f.m.end_position - gone - split));
	free(buf);
	log_cursor_free(c);
}

/* Offsets that compaction took between two segments, and a segment that is missing between two, are told apart by the views. */
static void test_gap_between_segments(void **state)
{
	(void)state;
	plain_log(4);
	base_of(0);
	fx_crash(&f);
	/* the last batch of the first segment goes, as by Kafka's cleaner, before the log comes here */
	uint32_t last = 0, before = 0;
	for (size_t i = 0; i < end_count && ends[i].base == 0; i++) {
		before = last;
		last = ends[i].size;
	}
	assert_int_equal(truncate(fx_file(&f, 0, ".log"), before), 0);
	run("rm $X/*.view $X/*index", f.dir);
	expect_offline("missing between");
	f.foreign = f.gaps = true;
	fx_open(&f);
	int64_t end = f.log->view_position;
	assert_true(end < f.m.end_position);
	fx_crash(&f);
	f.foreign = false;
	for (int i = 0; i < 2; i++) {
		f.recovery_point = i ? base_of(2) : 0;
		fx_open(&f);
		assert_int_equal(f.log->view_position, end);
		assert_int_equal(f.log->leo, f.m.leo);
		fx_crash(&f);
	}
	copy_tree(f.dir, copy);
	unlink(fx_file(&f, base_of(1), ".log"));
	expect_offline("missing between");
	restore();
	fx_open(&f);
}

/* Damage in a segment below the recovery point, which is not scanned, does not keep the log from being opened; who reads there is told. */
static void test_damage_not_scanned(void **state)
{
	(void)state;
	plain_log(4);
	base_of(0);
	keep();
	diag_set_level(DIAG_ERROR - 1);
	char *buf = malloc((size_t)f.m.end_position + 1);
	for (int i = 0; i < 60; i++) {
		restore();
		size_t n;
		free(slurp(fx_file(&f, base_of(1), ".log"), &n));
		int64_t at = i % 2 ? (int64_t)below(n) : (int64_t)(n - 1 - below(200));
		flip(fx_file(&f, base_of(1), ".log"), at, (char)(1 << below(8)));
		f.recovery_point = base_of(3);
		fx_open(&f);
		check_ends(&f);
		struct log_cursor *c = log_cursor_new(f.log);
		int64_t from = f.m.position[base_of(1)], to = f.m.position[base_of(2)];
		check_read(&f, c, 0, (size_t)from);
		check_read(&f, c, to, (size_t)(f.m.end_position - to));
		size_t errors = 0;
		for (int64_t k = from; k < to; k += 50) {
			ssize_t got = log_cursor_read(c, k, f.m.end_position, buf, 100, &f.err);
			if (got < 0)
				errors++;
			else
				assert_memory_equal(buf, f.m.view + k, (size_t)got);
		}
		assert_true(errors < 120);
		log_cursor_free(c);
		fx_lines(&f, CODEC_NONE, 5, 50);
		check_ends(&f);
		fx_crash(&f);
		model_cut(&f.m, ends[end_count - 1].offset);
		model_build(&f.m);
	}
	free(buf);
	restore();
	f.recovery_point = 0;
	fx_open(&f);
}

/* A clean stop, but the row is lost: nothing is scanned, and all is as it was. */
static void test_clean_without_a_row(void **state)
{
	(void)state;
	f.limits.segment_bytes = 5000;
	fx_open(&f);
	fx_mixture(&f, 100, true);
	fx_close(&f);
	f.has_row = false;
	f.clean = true;
	fx_open(&f);
	check_log(&f);
	assert_false(f.log->recovered);
	fx_close(&f);
	/* not even with the epochs gone */
	unlink(fx_path(&f, "leader-epoch-checkpoint"));
	f.has_row = false;
	fx_open(&f);
	check_log(&f);
}

/* Messages of the formats of before are refused, and said to be what they are. */
static void test_old_messages(void **state)
{
	(void)state;
	static const unsigned char message[] = {/* offset, size, crc, magic 0, attributes, null key, "ab" */
		0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 2, 'a', 'b'};
	unsigned char good[sizeof message];
	memcpy(good, message, sizeof good);
	/* CRC-32 (of zlib, not Castagnoli) over everything from the magic on */
	uint32_t crc = 0xffffffff;
	for (size_t i = 16; i < sizeof good; i++) {
		crc ^= good[i];
		for (int k = 0; k < 8; k++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
	}
	be32_put(good + 12, ~crc);
	unsigned char three[3 * sizeof good];
	for (int i = 0; i < 3; i++)
		memcpy(three + (size_t)i * sizeof good, good, sizeof good);
	spit(fx_file(&f, 0, ".log"), three, sizeof three);
	assert_int_equal(fx_try_open(&f), ERR_UNSUPPORTED);
	three[20] ^= 1; /* damaged: then it is a torn tail of whatever it was */
	spit(fx_file(&f, 0, ".log"), three, sizeof three);
	fx_open(&f);
	assert_int_equal(f.log->leo, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(test_cut_at_every_byte),
		T(test_cut_transactions_at_every_byte),
		T(test_flip_in_the_middle),
		T(test_flip_in_an_epoch),
		T(test_flip_in_the_last_batch),
		T(test_hole),
		T(test_missing_segments),
		T(test_accepted_gap),
		T(test_accepted_head),
		T(test_accepted_end),
		T(test_missing_head),
		T(test_appended_garbage),
		T(test_torn_before_empty_segments),
		T(test_empty_leftovers),
		T(test_indexes_come_back),
		T(test_epochs_come_back),
		T(test_producers_come_back),
		T(test_snapshot_past_the_end),
		T(test_stale_abort),
		T(test_lost_marker),
		T(test_end_below_start),
		T(test_in_parallel),
		T(test_gaps),
		T(test_gap_between_segments),
		T(test_damage_not_scanned),
		T(test_clean_without_a_row),
		T(test_old_messages),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
