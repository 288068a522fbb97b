/*
 * clean_fixture: a log of keyed records, and a model of what a cleaning leaves of it. Included by the test programs of compaction, behind log_fixture.h; everything is static.
 *
 * The model follows the rules as they are written down in store/clean_filter.h, record by record, and knows nothing of files: which records are there, when a batch's tombstones
 * may go, and which transactions count.
 */
#ifndef TESTS_UNIT_CLEAN_FIXTURE_H
#define TESTS_UNIT_CLEAN_FIXTURE_H

#include "store/clean.h"
#include "store/clean_map.h"
#include "store/scan.h"
#include "store/sequence.h"

enum { KEYS = 14, PRODUCERS = 3, KEYLESS = -1 };

struct rec { int64_t offset, timestamp_ms; int key; char *value; uint32_t len; size_t batch; bool there; };
struct bat { int64_t base, last, horizon_ms; int txn; bool control; };
struct tx { int64_t producer_id; enum outcome outcome; };

struct cx {
	struct rec *rec;
	struct bat *bat;
	struct tx *tx;
	size_t recs, bats, txs;
	int open[PRODUCERS];      /* index into tx, or -1 */
	int32_t sequence[2 * PRODUCERS];
	int64_t leo, clean_offset, start_offset;
	int64_t delete_retention_ms;
	size_t map_bytes;
};

static UNUSED void cx_init(struct cx *c)
{
	*c = (struct cx){.open = {-1, -1, -1}, .clean_offset = -1, .delete_retention_ms = 5000, .map_bytes = 1 << 20};
}

static UNUSED void cx_release(struct cx *c)
{
	for (size_t i = 0; i < c->recs; i++)
		free(c->rec[i].value);
	free(c->rec);
	free(c->bat);
	free(c->tx);
	cx_init(c);
}

/* ---- appending ---- */

/* A key's bytes: short, long, empty. */
static UNUSED size_t key_bytes(int key, char *out)
{
	static const char *const some[] = {"", "a", "key", "k\n2"};
	if (key < 4)
		return (size_t)sprintf(out, "%s", some[key]);
	size_t n = (size_t)key * 7;
	memset(out, 'k', n);
	out[0] = (char)key;
	return n;
}

static UNUSED size_t cx_batch(struct cx *c, int64_t last, int txn, bool control)
{
	c->bat = realloc(c->bat, (c->bats + 1) * sizeof *c->bat);
	assert_non_null(c->bat);
	c->bat[c->bats] = (struct bat){c->leo, last, -1, txn, control};
	c->leo = last + 1;
	return c->bats++;
}

static UNUSED void cx_append(struct fx *f, struct cx *c, struct record_set *s)
{
	int64_t base;
	if (fx_try_set(f, s, &base) < 0)
		fail_msg("log_append: %s", f->err.text);
	assert_int_equal(base, c->leo);
}

/* n records of random keys in one batch. producer: 0 to 2 idempotent, 3 to 5 in a transaction, -1 none. */
static UNUSED void cx_records(struct fx *f, struct cx *c, enum codec codec, size_t n, int producer, size_t most)
{
	struct record_set s;
	struct batch_style style = fx_style(codec);
	struct record_header header = {(const uint8_t *)"h", (const uint8_t *)"v", 1, 1};
	struct record_in *in = calloc(n, sizeof *in);
	char (*keys)[200] = calloc(n, sizeof *keys);
	int txn = -1;
	assert_true(in && keys);
	style.log_append_time = below(6) == 0;
	if (producer >= 0) {
		style.producer_id = 500 + producer;
		style.producer_epoch = 0;
		style.base_sequence = c->sequence[producer];
		c->sequence[producer] += (int32_t)n;
	}
	if (producer >= PRODUCERS) {
		int *open = &c->open[producer - PRODUCERS];
		if (*open < 0) {
			c->tx = realloc(c->tx, (c->txs + 1) * sizeof *c->tx);
			c->tx[c->txs] = (struct tx){style.producer_id, OPEN};
			*open = (int)c->txs++;
		}
		txn = *open;
	}
	c->rec = realloc(c->rec, (c->recs + n) * sizeof *c->rec);
	assert_non_null(c->rec);
	for (size_t i = 0; i < n; i++) {
		struct rec *r = &c->rec[c->recs + i];
		int64_t time = f->now_ms + (style.log_append_time ? 0 : (int64_t)below(50) - 25);
		*r = (struct rec){.offset = c->leo + (int64_t)i, .key = below(20) ? (int)below(KEYS) : KEYLESS, .batch = c->bats, .there = true, .timestamp_ms = time};
		if (below(4)) {
			r->len = (uint32_t)below(most);
			r->value = malloc(r->len + 1);
			for (uint32_t k = 0; k < r->len; k++)
				r->value[k] = (char)('a' + (below(3) ? r->offset % 26 : (int64_t)below(26)));
		}
		in[i] = (struct record_in){.key = r->key >= 0 ? keys[i] : NULL, .key_len = r->key >= 0 ? (int32_t)key_bytes(r->key, keys[i]) : -1, .value = r->value,
					   .value_len = r->value ? (int32_t)r->len : -1, .timestamp_ms = time, .headers = &header, .header_count = (uint32_t)below(2)};
	}
	record_set_init(&s);
	if (record_set_add_records(&s, &style, txn >= 0 ? BATCH_TRANSACTIONAL : 0, in, (uint32_t)n, &f->err) < 0)
		fail_msg("%s", f->err.text);
	cx_append(f, c, &s);
	c->recs += n;
	cx_batch(c, c->leo + (int64_t)n - 1, txn, false);
	record_set_release(&s);
	free(in);
	free(keys);
}

static UNUSED void cx_end(struct fx *f, struct cx *c, int which, bool commit)
{
	struct record_set s;
	int txn = c->open[which];
	record_set_init(&s);
	assert_int_equal(record_set_add_marker(&s, c->tx[txn].producer_id, 0, commit, 0, f->now_ms, &f->err), 0);
	cx_append(f, c, &s);
	record_set_release(&s);
	c->tx[txn].outcome = commit ? COMMITTED : ABORTED;
	c->open[which] = -1;
	cx_batch(c, c->leo, txn, true);
}

static UNUSED void cx_something(struct fx *f, struct cx *c, bool transactions)
{
	int which = (int)below(PRODUCERS);
	size_t n = 1 + below(below(3) ? 4 : 25);
	f->now_ms += (int64_t)below(300);
	if (transactions && below(3) == 0 && c->open[which] >= 0)
		cx_end(f, c, which, below(2));
	else
		cx_records(f, c, (enum codec)below(CODEC_COUNT), n, transactions && below(2) ? PRODUCERS + which : below(2) ? which : -1, below(8) ? 60 : 900);
}

/* ---- the model of a cleaning ---- */

static UNUSED bool cx_visible(const struct cx *c, const struct rec *r)
{
	int txn = c->bat[r->batch].txn;
	return txn < 0 || c->tx[txn].outcome == COMMITTED;
}

/* latest: what the map knew; end: of what was read. */
static UNUSED void cx_clean(struct cx *c, int64_t latest, int64_t end, int64_t now_ms)
{
	int64_t newest[KEYS];
	memset(newest, -1, sizeof newest);
	for (size_t i = 0; i < c->recs; i++) {
		struct rec *r = &c->rec[i];
		if (r->there && r->offset <= latest && r->key >= 0 && cx_visible(c, r) && r->offset >= (c->clean_offset > c->start_offset ? c->clean_offset : c->start_offset))
			newest[r->key] = r->offset;
	}
	for (size_t i = 0, k = 0; i < c->bats; i++) {
		struct bat *b = &c->bat[i];
		bool tombstones = false, past = b->horizon_ms >= 0 && b->horizon_ms <= now_ms;
		for (; k < c->recs && c->rec[k].batch == i; k++) {
			struct rec *r = &c->rec[k];
			if (b->base >= end || !r->there)
				continue;
			if (!cx_visible(c, r))
				r->there = false;
			else if (r->offset <= latest)
				r->there = r->key >= 0 && r->offset >= newest[r->key] && (r->value || !past);
			tombstones |= r->there && !r->value;
		}
		if (tombstones && b->horizon_ms < 0)
			b->horizon_ms = now_ms + c->delete_retention_ms;
	}
	c->clean_offset = latest + 1;
}

/* ---- a round ---- */

static int enter_nothing(void *arg, struct err *e)
{
	(void)arg;
	(void)e;
	return 0;
}

static void leave_nothing(void *arg)
{
	(void)arg;
}

static const struct clean_guard no_guard = {enter_nothing, leave_nothing, NULL};

static UNUSED struct clean_conf cx_conf(struct fx *f, struct cx *c)
{
	return (struct clean_conf){.map_bytes = c->map_bytes, .load_factor = 0.9, .io_bytes = below(2) ? 1 << 18 : 0, .segment_bytes = f->limits.segment_bytes,
				   .index_bytes = f->limits.index_bytes, .interval_bytes = f->limits.interval_bytes, .max_lag_ms = INT64_MAX,
				   .delete_retention_ms = c->delete_retention_ms};
}

/* 1: there was nothing to do. *latest, *end: for cx_clean. */
static UNUSED int cx_try_round(struct fx *f, struct cx *c, int64_t *latest, int64_t *end, struct err *e)
{
	struct clean_conf conf = cx_conf(f, c);
	struct clean_plan plan;
	struct log_clean *round;
	int rc = log_clean_plan(f->log, c->clean_offset, log_last_stable(f->log), &conf, f->now_ms, &plan, e);
	if (rc < 0 || plan.end == plan.first_dirty)
		return rc < 0 ? rc : 1;
	struct log_shape *before = log_shape_take(f->log);
	rc = log_clean_begin(&round, f->log, &plan, &conf, &no_guard, f->now_ms, e);
	while (rc == 0 && (rc = log_clean_step(round, 1 + below(4000), e)) == 1)
		rc = 0;
	/* the loop above ends with 0 only when the round is over */
	if (rc == 0) {
		*latest = log_clean_end(round) - 1;
		*end = plan.end;
		for (size_t i = before->segment_count; i-- > 0 && before->segment[i]->base_offset > *latest;)
			if (before->segment[i]->base_offset < *end)
				*end = before->segment[i]->base_offset;
	}
	log_clean_free(round);
	log_shape_drop(f->log, before);
	return rc;
}

static UNUSED bool cx_round(struct fx *f, struct cx *c)
{
	int64_t latest, end;
	struct err e = ERR_INIT;
	int rc = cx_try_round(f, c, &latest, &end, &e);
	if (rc < 0)
		fail_msg("a round: %s", e.text);
	if (rc == 0)
		cx_clean(c, latest, end, f->now_ms);
	return rc == 0;
}

/* ---- what is in the log ---- */

/* All data records that are there, against the model; those below the log start may be there or not. least, most: NULL, or rather that the records are between the two: `there` of each
 * record as it was before and after. */
static UNUSED void cx_check_records(struct fx *f, struct cx *c, const bool *least, const bool *most)
{
	struct log_shape *shape = log_shape_take(f->log);
	struct wr scratch;
	size_t k = 0;
	int64_t end = -1;
	wr_init(&scratch, 0);
	for (size_t i = 0; i < shape->segment_count; i++) {
		struct scan scan;
		struct batch b;
		const uint8_t *bytes, *area;
		uint32_t position;
		size_t n;
		int rc;
		if (segment_pin(shape->segment[i], &f->err) < 0)
			fail_msg("%s", f->err.text);
		scan_init(&scan, shape->segment[i]->fd, 0, shape->segment[i]->size_bytes, 0);
		while ((rc = scan_next(&scan, &b, &bytes, &position, &f->err)) == 1) {
			struct record_iter it;
			struct record r;
			assert_true(batch_crc_matches(&b, bytes));
			assert_true(b.base_offset > end && b.base_offset >= shape->segment[i]->base_offset);
			end = batch_last_offset(&b);
			if (batch_is_control(&b))
				continue;
			assert_int_equal(batch_records(&b, bytes, &scratch, &area, &n, &f->err), 0);
			record_iter_init(&it, &b, area, n);
			int64_t newest = -1;
			while (record_next(&it, &r, &f->err) == 1) {
				while (k < c->recs && c->rec[k].offset < r.offset) {
					if (c->rec[k].offset >= c->start_offset && (least ? least[k] : c->rec[k].there))
						fail_msg("the record at offset %" PRId64 " is not there", c->rec[k].offset);
					k++;
				}
				char key[200];
				const struct rec *m = &c->rec[k];
				assert_true(k < c->recs);
				assert_int_equal(m->offset, r.offset);
				if (r.offset >= c->start_offset && !(most ? most[k] : m->there))
					fail_msg("the record at offset %" PRId64 " is still there", r.offset);
				assert_int_equal(r.key_len, m->key < 0 ? -1 : (int)key_bytes(m->key, key));
				if (r.key)
					assert_memory_equal(r.key, key, (size_t)r.key_len);
				assert_int_equal(r.value != NULL, m->value != NULL);
				if (r.value) {
					assert_int_equal(r.value_len, m->len);
					assert_memory_equal(r.value, m->value, m->len);
				}
				assert_int_equal(r.timestamp_ms, m->timestamp_ms);
				newest = r.timestamp_ms > newest ? r.timestamp_ms : newest;
				k++;
			}
			assert_int_equal(f->err.code, 0);
			if (b.record_count)
				assert_int_equal(b.max_timestamp_ms, newest);
		}
		assert_int_equal(rc, 0);
		scan_release(&scan);
		segment_unpin(shape->segment[i]);
	}
	for (; k < c->recs; k++)
		assert_false(c->rec[k].offset >= c->start_offset && (least ? least[k] : c->rec[k].there));
	wr_release(&scratch);
	log_shape_drop(f->log, shape);
}

/* What a reader in order is to see. */
static UNUSED char *cx_text(struct fx *f, struct cx *c, size_t *n)
{
	int64_t stable = log_last_stable(f->log);
	size_t total = 1;
	for (size_t i = 0; i < c->recs; i++)
		total += c->rec[i].len + 1;
	char *text = malloc(total), *p = text;
	assert_non_null(text);
	for (size_t i = 0; i < c->recs; i++) {
		const struct rec *r = &c->rec[i];
		if (!r->there || !r->value || r->offset >= stable || r->offset < c->start_offset || !cx_visible(c, r))
			continue;
		memcpy(p, r->value, r->len);
		p += r->len;
		*p++ = '\n';
	}
	*n = (size_t)(p - text);
	return text;
}

static UNUSED void cx_check_sequence(struct fx *f, struct cx *c, size_t most)
{
	size_t n, at = 0;
	char *text = cx_text(f, c, &n), *buf = malloc(most + 1);
	struct log_sequence *q = log_sequence_new(f->log, f->log->start_offset);
	assert_non_null(q);
	for (;;) {
		ssize_t got = log_sequence_read(q, f->log->view_offset, buf, 1 + below(most), &f->err);
		if (got < 0)
			fail_msg("log_sequence_read: %s", f->err.text);
		if (got == 0)
			break;
		assert_true((size_t)got <= n - at);
		assert_memory_equal(buf, text + at, (size_t)got);
		at += (size_t)got;
	}
	assert_int_equal(at, n);
	assert_int_equal(log_sequence_offset(q), f->log->view_offset);
	log_sequence_free(q);
	free(text);
	free(buf);
}

static UNUSED void cx_check(struct fx *f, struct cx *c)
{
	assert_int_equal(f->log->leo, c->leo);
	int64_t stable = c->leo;
	for (size_t i = c->bats; i-- > 0;)
		if (c->bat[i].txn >= 0 && c->tx[c->bat[i].txn].outcome == OPEN)
			stable = c->bat[i].base;
	assert_int_equal(log_last_stable(f->log), stable);
	assert_int_equal(f->log->view_offset, stable > c->start_offset ? stable : c->start_offset);
	cx_check_records(f, c, NULL, NULL);
	cx_check_sequence(f, c, 3000);
	cx_check_sequence(f, c, 40);
}

/* What producers were told last is known, also to who has nothing but the log. */
static UNUSED void cx_check_producers(struct fx *f, struct cx *c)
{
	for (int i = 0; i < 2 * PRODUCERS; i++) {
		struct producer_last last;
		if (!c->sequence[i])
			continue;
		assert_true(producers_last(f->log->producers, 500 + i, &last));
		assert_true(last.offset >= 0);
		assert_int_equal(last.epoch, 0);
	}
}

#endif
