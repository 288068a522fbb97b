/*
 * log_fixture: a log in a directory of its own, and a naive model of it to hold against: all records in a list, the view recomputed from
 * it whenever it is asked for. Included by the test programs of the log; everything is static.
 */
#ifndef TESTS_UNIT_LOG_FIXTURE_H
#define TESTS_UNIT_LOG_FIXTURE_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/consent.h"
#include "store/cursor.h"
#include "store/diag.h"
#include "store/io.h"
#include "store/log.h"
#include "store/pool.h"

#define UNUSED __attribute__((unused))

/* ---- chance ---- */

static uint64_t chance_state = 88172645463325252u;

/* xorshift64: the same run each time, or another with SPOOLFS_SEED. */
static inline uint64_t chance(void)
{
	static bool seeded;
	if (!seeded && getenv("SPOOLFS_SEED"))
		chance_state += (uint64_t)atoll(getenv("SPOOLFS_SEED")) * 0x9e3779b97f4a7c15u;
	seeded = true;
	chance_state ^= chance_state << 13;
	chance_state ^= chance_state >> 7;
	chance_state ^= chance_state << 17;
	return chance_state;
}

static inline size_t below(size_t n)
{
	return n ? (size_t)(chance() >> 11) % n : 0;
}

/* ---- the model ---- */

enum outcome { OPEN, COMMITTED, ABORTED };

struct item { /* a record, or a marker */
	int64_t offset;
	char *value;      /* owned; NULL: null */
	uint32_t len;
	int txn;          /* index into txns; -1 */
	bool control;
	int64_t timestamp_ms;
};

struct txn { int64_t producer_id, first_offset; enum outcome outcome; };

struct model {
	struct item *item;
	size_t count, cap;
	struct txn *txn;
	size_t txn_count;
	int64_t leo;
	int64_t start_offset;
	/* recomputed by model_build: */
	char *view;        /* view bytes [0, end_position) */
	int64_t *position; /* of each item; the last + 1: the end */
	size_t visible;    /* items below the last stable offset */
	int64_t stable, end_position, start_position;
};

static void model_release(struct model *m)
{
	for (size_t i = 0; i < m->count; i++)
		free(m->item[i].value);
	free(m->item);
	free(m->txn);
	free(m->view);
	free(m->position);
	*m = (struct model){0};
}

static void model_add(struct model *m, const void *value, uint32_t len, int txn, bool control, int64_t timestamp_ms)
{
	if (m->count == m->cap) {
		m->cap = m->cap ? 2 * m->cap : 256;
		m->item = realloc(m->item, m->cap * sizeof *m->item);
		assert_non_null(m->item);
	}
	struct item *i = &m->item[m->count++];
	*i = (struct item){.offset = m->leo++, .len = len, .txn = txn, .control = control, .timestamp_ms = timestamp_ms};
	if (value) {
		i->value = malloc(len + 1);
		assert_non_null(i->value);
		memcpy(i->value, value, len);
	}
}

/* Forgets everything from `offset` on. Transactions that ended behind it are open again. */
static UNUSED void model_cut(struct model *m, int64_t offset)
{
	while (m->count && m->item[m->count - 1].offset >= offset) {
		struct item *i = &m->item[--m->count];
		if (i->control && i->txn >= 0)
			m->txn[i->txn].outcome = OPEN;
		free(i->value);
	}
	for (size_t i = 0; i < m->txn_count; i++)
		if (m->txn[i].first_offset >= offset)
			m->txn[i].outcome = COMMITTED; /* it is not there at all */
	m->leo = offset;
}

static int64_t model_stable(const struct model *m)
{
	int64_t stable = m->leo;
	for (size_t i = 0; i < m->txn_count; i++)
		if (m->txn[i].outcome == OPEN && m->txn[i].first_offset < stable)
			stable = m->txn[i].first_offset;
	return stable;
}

static void model_build(struct model *m)
{
	size_t total = 0;
	m->stable = model_stable(m);
	for (size_t i = 0; i < m->count; i++)
		total += m->item[i].len + 1;
	free(m->view);
	free(m->position);
	m->view = malloc(total + 1);
	m->position = malloc((m->count + 1) * sizeof *m->position);
	assert_non_null(m->view);
	assert_non_null(m->position);
	int64_t at = 0;
	m->start_position = -1;
	for (m->visible = 0; m->visible < m->count && m->item[m->visible].offset < m->stable; m->visible++) {
		const struct item *i = &m->item[m->visible];
		if (m->start_position < 0 && i->offset >= m->start_offset)
			m->start_position = at;
		m->position[m->visible] = at;
		if (i->value && !i->control && (i->txn < 0 || m->txn[i->txn].outcome == COMMITTED)) {
			memcpy(m->view + at, i->value, i->len);
			at += i->len;
			m->view[at++] = '\n';
		}
	}
	m->position[m->visible] = m->end_position = at;
	if (m->start_position < 0)
		m->start_position = at;
}

/* ---- the log ---- */

struct fx {
	char root[64], dir[100];
	struct segment_cache *cache;
	struct pool *pool;
	struct log *log;
	struct log_limits limits;
	struct partition_row row;
	bool has_row;
	int64_t recovery_point, pair_offset, pair_position;
	bool gaps, foreign, clean, compacted, sequential;
	struct consent accepted;
	int32_t epoch;
	int64_t now_ms;
	bool behind;      /* the last append is in the log, but could not be projected */
	int64_t sequence; /* for producer ids that make many batches */
	struct model m;
	struct err err;
};

static const struct log_limits usual_limits = {.segment_bytes = 1 << 20, .index_bytes = 1 << 20, .interval_bytes = 4096, .segment_ms = INT64_MAX};

static UNUSED void fx_init(struct fx *f, const struct log_limits *limits)
{
	memset(f, 0, sizeof *f);
	strcpy(f->root, access("/dev/shm", W_OK) == 0 ? "/dev/shm/spoolfs-log-XXXXXX" : "/tmp/spoolfs-log-XXXXXX");
	assert_non_null(mkdtemp(f->root));
	snprintf(f->dir, sizeof f->dir, "%s/t-0", f->root);
	assert_int_equal(mkdir(f->dir, 0755), 0);
	f->cache = segment_cache_new(64);
	f->pool = pool_new("worker", 4);
	f->limits = limits ? *limits : usual_limits;
	f->pair_offset = f->pair_position = -1;
	f->now_ms = 1700000000000;
	diag_set_level(DIAG_ERROR);
}

static struct log_open fx_options(struct fx *f)
{
	return (struct log_open){
		.dir = f->dir, .name = "t-0", .cache = f->cache, .pool = f->pool, .limits = f->limits, .row = f->has_row ? &f->row : NULL,
		.recovery_point = f->recovery_point, .pair_offset = f->pair_offset, .pair_position = f->pair_position, .gaps = f->gaps, .foreign = f->foreign,
		.clean = f->clean, .accepted = &f->accepted, .compacted = f->compacted, .sequential = f->sequential,
	};
}

static UNUSED int fx_try_open(struct fx *f)
{
	struct log_open o = fx_options(f);
	f->err = (struct err)ERR_INIT;
	f->log = NULL;
	consent_release(&f->accepted);
	int rc = consent_load(&f->accepted, f->dir, &f->err);
	return rc == 0 ? log_open(&f->log, &o, &f->err) : rc;
}

static UNUSED void fx_open(struct fx *f)
{
	if (fx_try_open(f) < 0)
		fail_msg("log_open: %s", f->err.text);
}

/* As after kill -9: nothing is written. */
static UNUSED void fx_crash(struct fx *f)
{
	log_free(f->log);
	f->log = NULL;
	f->has_row = false;
}

/* The pair is on disk before the log start moves: as the caller of log_set_start does. */
static UNUSED void fx_keep_pair(struct fx *f)
{
	f->pair_offset = f->log->start_offset;
	f->pair_position = f->log->start_position;
}

static UNUSED void fx_close(struct fx *f)
{
	if (log_settle(f->log, &f->err) < 0)
		fail_msg("log_settle: %s", f->err.text);
	memset(&f->row, 0, sizeof f->row);
	log_describe(f->log, &f->row);
	f->has_row = true;
	f->recovery_point = f->row.recovery_point;
	log_free(f->log);
	f->log = NULL;
}

static UNUSED void fx_reopen(struct fx *f)
{
	fx_close(f);
	fx_open(f);
}

static void fx_remove_tree(const char *root)
{
	char command[200];
	snprintf(command, sizeof command, "rm -rf %s", root);
	assert_int_equal(system(command), 0);
}

static UNUSED void fx_release(struct fx *f)
{
	io_set_hook(NULL, NULL);
	log_free(f->log);
	consent_release(&f->accepted);
	pool_free(f->pool);
	segment_cache_free(f->cache);
	model_release(&f->m);
	fx_remove_tree(f->root);
}

/* ---- appending ---- */

static UNUSED struct batch_style fx_style(enum codec codec)
{
	return (struct batch_style){.codec = codec, .max_batch_bytes = 16 << 20, .producer_id = -1, .producer_epoch = -1, .base_sequence = -1};
}

/* Appends one set; on success *base is where it begins. */
static UNUSED int fx_try_set(struct fx *f, struct record_set *s, int64_t *base)
{
	size_t done = 0;
	f->err = (struct err)ERR_INIT;
	int rc = log_append(f->log, &s, 1, f->epoch, true, base, &done, &f->err);
	assert_int_equal(done, rc == 0);
	f->behind = rc == 0 && f->log->view_offset < log_last_stable(f->log) && log_project(f->log, log_last_stable(f->log), &f->err) < 0;
	return rc;
}

static UNUSED void fx_set(struct fx *f, struct record_set *s)
{
	int64_t base = -1;
	if (fx_try_set(f, s, &base) < 0)
		fail_msg("log_append: %s", f->err.text);
	assert_int_equal(base, f->m.leo);
	if (f->behind)
		fail_msg("log_project: %s", f->err.text);
}

/* A text of n lines, of bytes that compress somewhat; no newline in a line. */
static UNUSED char *make_lines(size_t n, size_t most, size_t *bytes)
{
	char *text = malloc(n * (most + 1) + 1), *p = text;
	assert_non_null(text);
	for (size_t i = 0; i < n; i++) {
		size_t len = below(8) ? below(most + 1) : 0;
		char c = (char)('a' + below(26));
		for (size_t k = 0; k < len; k++)
			*p++ = below(4) ? c : (char)(32 + below(90));
		*p++ = '\n';
	}
	*bytes = (size_t)(p - text);
	return text;
}

static UNUSED void model_lines(struct fx *f, const char *text, size_t bytes)
{
	for (const char *p = text, *end = text + bytes; p < end;) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));
		model_add(&f->m, p, (uint32_t)(nl - p), -1, false, f->now_ms);
		p = nl + 1;
	}
}

static UNUSED void fx_text(struct fx *f, enum codec codec, const char *text, size_t bytes)
{
	struct record_set s;
	struct batch_style style = fx_style(codec);
	size_t taken;
	record_set_init(&s);
	assert_int_equal(record_set_add_lines(&s, &style, text, bytes, f->now_ms, &taken, &f->err), 0);
	assert_int_equal(taken, bytes);
	fx_set(f, &s);
	model_lines(f, text, bytes);
	record_set_release(&s);
}

static UNUSED void fx_lines(struct fx *f, enum codec codec, size_t n, size_t most)
{
	size_t bytes;
	char *text = make_lines(n, most, &bytes);
	fx_text(f, codec, text, bytes);
	free(text);
}

/* n records with keys, headers and null values; txn: -1 or one begun. */
static UNUSED void fx_records(struct fx *f, enum codec codec, size_t n, size_t most, int txn)
{
	struct record_set s;
	struct batch_style style = fx_style(codec);
	struct record_in *in = calloc(n, sizeof *in);
	struct record_header headers[2] = {{(const uint8_t *)"h", (const uint8_t *)"v", 1, 1}, {(const uint8_t *)"other", NULL, 5, -1}};
	char *value = malloc(most + 1);
	if (txn >= 0) {
		style.producer_id = f->m.txn[txn].producer_id;
		style.producer_epoch = 0;
		style.base_sequence = (int32_t)f->sequence;
		f->sequence += (int64_t)n;
	}
	assert_non_null(in);
	memset(value, 'v', most + 1);
	for (size_t i = 0; i < n; i++) {
		bool null = below(5) == 0;
		in[i] = (struct record_in){.key = below(3) ? "key" : NULL, .key_len = 3, .value = null ? NULL : value, .value_len = null ? -1 : (int32_t)below(most + 1),
					   .timestamp_ms = f->now_ms + (int64_t)i, .headers = headers, .header_count = (uint32_t)below(3)};
		if (!in[i].key)
			in[i].key_len = -1;
	}
	record_set_init(&s);
	assert_int_equal(record_set_add_records(&s, &style, txn >= 0 ? BATCH_TRANSACTIONAL : 0, in, (uint32_t)n, &f->err), 0);
	if (txn >= 0 && f->m.txn[txn].first_offset < 0) {
		f->m.txn[txn].first_offset = f->m.leo;
		f->m.txn[txn].outcome = OPEN;
	}
	fx_set(f, &s);
	for (size_t i = 0; i < n; i++)
		model_add(&f->m, in[i].value, in[i].value ? (uint32_t)in[i].value_len : 0, txn, false, in[i].timestamp_ms);
	record_set_release(&s);
	free(value);
	free(in);
}

/* A transaction of that producer; it is open from its first record on. */
static UNUSED int fx_begin(struct fx *f, int64_t producer_id)
{
	f->m.txn = realloc(f->m.txn, (f->m.txn_count + 1) * sizeof *f->m.txn);
	assert_non_null(f->m.txn);
	f->m.txn[f->m.txn_count] = (struct txn){producer_id, -1, COMMITTED};
	return (int)f->m.txn_count++;
}

static UNUSED int fx_try_end(struct fx *f, int txn, bool commit)
{
	struct record_set s;
	int64_t base;
	record_set_init(&s);
	assert_int_equal(record_set_add_marker(&s, f->m.txn[txn].producer_id, 0, commit, 0, f->now_ms, &f->err), 0);
	int rc = fx_try_set(f, &s, &base);
	record_set_release(&s);
	if (rc == 0) {
		model_add(&f->m, NULL, 0, txn, true, f->now_ms);
		f->m.txn[txn].outcome = commit ? COMMITTED : ABORTED;
	}
	return rc;
}

static UNUSED void fx_end(struct fx *f, int txn, bool commit)
{
	if (fx_try_end(f, txn, commit) < 0)
		fail_msg("marker: %s", f->err.text);
}

/* Many kinds of batches, `rounds` of them, with rolls where the limits say so. */
static UNUSED void fx_mixture(struct fx *f, size_t rounds, bool transactions)
{
	int open[3] = {-1, -1, -1};
	for (size_t i = 0; i < rounds; i++) {
		enum codec codec = (enum codec)below(CODEC_COUNT);
		f->now_ms += (int64_t)below(2000);
		int which = transactions ? (int)below(9) : -1;
		if (which >= 0 && which < 3) {
			if (open[which] < 0)
				open[which] = fx_begin(f, 1000 + which);
			fx_records(f, codec, 1 + below(20), 200, open[which]);
		} else if (which >= 3 && which < 6 && open[which - 3] >= 0 && f->m.txn[open[which - 3]].first_offset >= 0) {
			fx_end(f, open[which - 3], below(2));
			open[which - 3] = -1;
		} else if (below(2)) {
			fx_lines(f, codec, 1 + below(30), below(4) ? 60 : 700);
		} else {
			fx_records(f, codec, 1 + below(30), below(4) ? 60 : 700, -1);
		}
	}
	for (int i = 0; i < 3; i++)
		if (open[i] >= 0 && f->m.txn[open[i]].first_offset >= 0)
			fx_end(f, open[i], i != 1);
}

/* ---- checks ---- */

static UNUSED void check_ends(struct fx *f)
{
	model_build(&f->m);
	assert_int_equal(f->log->leo, f->m.leo);
	assert_int_equal(log_last_stable(f->log), f->m.stable);
	assert_int_equal(f->log->view_offset, f->m.stable);
	assert_int_equal(f->log->view_position, f->m.end_position);
	assert_int_equal(f->log->start_offset, f->m.start_offset);
	assert_int_equal(f->log->start_position, f->m.start_position);
}

/* One read, against the model. */
static UNUSED void check_read(struct fx *f, struct log_cursor *c, int64_t position, size_t n)
{
	char *buf = malloc(n + 1);
	assert_non_null(buf);
	f->err = (struct err)ERR_INIT;
	ssize_t got = log_cursor_read(c, position, f->m.end_position, buf, n, &f->err);
	ssize_t want = (int64_t)n < f->m.end_position - position ? (ssize_t)n : (ssize_t)(f->m.end_position - position);
	if (got != want)
		fail_msg("read of %zu at %" PRId64 " gave %zd, not %zd: %s", n, position, got, want, f->err.text);
	assert_memory_equal(buf, f->m.view + position, (size_t)got);
	free(buf);
}

static UNUSED void check_sequential(struct fx *f, size_t n)
{
	struct log_cursor *c = log_cursor_new(f->log);
	for (int64_t at = f->m.start_position; at < f->m.end_position; at += (int64_t)n)
		check_read(f, c, at, n);
	check_read(f, c, f->m.end_position, n);
	log_cursor_free(c);
}

static UNUSED void check_random(struct fx *f, size_t times, size_t most)
{
	struct log_cursor *c = log_cursor_new(f->log);
	int64_t span = f->m.end_position - f->m.start_position;
	for (size_t i = 0; i < times && span > 0; i++)
		check_read(f, c, f->m.start_position + (int64_t)below((size_t)span), 1 + below(most));
	log_cursor_free(c);
}

/* log_position_of and log_locate at each `step`th record. */
static UNUSED void check_places(struct fx *f, size_t step)
{
	for (size_t i = 0; i < f->m.visible; i += step) {
		const struct item *it = &f->m.item[i];
		int64_t position = -1, offset = -1, at = -1;
		if (it->offset < f->m.start_offset)
			continue;
		if (log_position_of(f->log, it->offset, &position, &f->err) < 0)
			fail_msg("log_position_of %" PRId64 ": %s", it->offset, f->err.text);
		if (position != f->m.position[i])
			fail_msg("log_position_of %" PRId64 " gave %" PRId64 ", not %" PRId64, it->offset, position, f->m.position[i]);
		int64_t size = f->m.position[i + 1] - f->m.position[i];
		if (!size)
			continue;
		int64_t asked = f->m.position[i] + (int64_t)below((size_t)size);
		if (log_locate(f->log, asked, &offset, &at, &f->err) < 0)
			fail_msg("log_locate %" PRId64 ": %s", asked, f->err.text);
		assert_int_equal(offset, it->offset);
		assert_int_equal(at, f->m.position[i]);
	}
}

static UNUSED void check_log(struct fx *f)
{
	check_ends(f);
	check_sequential(f, 1 << 20);
	check_sequential(f, 4099);
	check_random(f, 60, 3000);
	check_places(f, 1 + f->m.count / 60);
}

/* ---- files ---- */

static UNUSED char *fx_path(struct fx *f, const char *name)
{
	static char path[8][PATH_MAX];
	static int next;
	char *p = path[next++ % 8];
	snprintf(p, PATH_MAX, "%s/%s", f->dir, name);
	return p;
}

static UNUSED char *fx_file(struct fx *f, int64_t base, const char *suffix)
{
	char name[100];
	snprintf(name, sizeof name, "%020" PRId64 "%s", base, suffix);
	return fx_path(f, name);
}

static UNUSED char *slurp(const char *path, size_t *n)
{
	char *text;
	assert_int_equal(io_read_file(path, SIZE_MAX, &text, n), 0);
	return text;
}

static UNUSED void spit(const char *path, const void *data, size_t n)
{
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	assert_int_equal(fwrite(data, 1, n, file), n);
	assert_int_equal(fclose(file), 0);
}

static UNUSED int64_t file_size(const char *path)
{
	struct stat st;
	return stat(path, &st) == 0 ? (int64_t)st.st_size : -1;
}

static int unlink_one(void *arg, const char *name, unsigned char type)
{
	char path[PATH_MAX];
	(void)type;
	snprintf(path, sizeof path, "%s/%s", (const char *)arg, name);
	return -unlink(path);
}

struct copying { const char *from, *to; };

static int copy_one(void *arg, const char *name, unsigned char type)
{
	struct copying *c = arg;
	char path[PATH_MAX];
	size_t n;
	(void)type;
	snprintf(path, sizeof path, "%s/%s", c->from, name);
	char *bytes = slurp(path, &n);
	snprintf(path, sizeof path, "%s/%s", c->to, name);
	spit(path, bytes, n);
	free(bytes);
	return 0;
}

/* Makes `to` a copy of a directory of plain files. */
static UNUSED void copy_tree(const char *from, const char *to)
{
	struct copying c = {from, to};
	if (mkdir(to, 0755) < 0)
		assert_int_equal(io_list(to, unlink_one, (void *)(uintptr_t)to), 0);
	assert_int_equal(io_list(from, copy_one, &c), 0);
}

/* Names, sizes and bytes of a directory as one number. */
struct digest { const char *dir; uint64_t sum; bool but_times; };

static int digest_one(void *arg, const char *name, unsigned char type)
{
	struct digest *d = arg;
	char path[PATH_MAX], *text;
	size_t n;
	(void)type;
	snprintf(path, sizeof path, "%s/%s", d->dir, name);
	if (io_read_file(path, SIZE_MAX, &text, &n) < 0)
		return 0;
	d->sum += ((uint64_t)crc32c(crc32c(0, name, strlen(name)), text, n) << 16) + n; /* any order */
	free(text);
	return 0;
}

static UNUSED uint64_t digest(const char *dir)
{
	struct digest d = {.dir = dir};
	assert_int_equal(io_list(dir, digest_one, &d), 0);
	return d.sum;
}

#endif
