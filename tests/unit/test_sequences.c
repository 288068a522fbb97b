#include "store/producers.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* Which batches of a producer may be appended: case by case, and against a model that knows all that was ever appended. */

static struct producers *p;
static struct err e;
static struct producer_batch known;
static int64_t end_offset;

static int setup(void **state)
{
	(void)state;
	p = producers_new();
	end_offset = 0;
	return p ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	producers_free(p);
	return 0;
}

static struct batch batch_of(int64_t id, int16_t epoch, int32_t sequence, int count)
{
	return (struct batch){.base_offset = end_offset, .last_offset_delta = count - 1, .record_count = count, .producer_id = id, .producer_epoch = epoch, .base_sequence = sequence,
			      .max_timestamp_ms = 1000 + end_offset, .size_bytes = 100};
}

static int ask(int64_t id, int16_t epoch, int32_t sequence, int count)
{
	struct batch b = batch_of(id, epoch, sequence, count);
	e = (struct err)ERR_INIT;
	int rc = producers_check(p, &b, false, &known, &e);
	assert_int_equal(rc < 0 ? rc : 0, e.code);
	return rc;
}

static void put(int64_t id, int16_t epoch, int32_t sequence, int count)
{
	struct batch b = batch_of(id, epoch, sequence, count);
	struct aborted_txn aborted;
	assert_int_equal(producers_update(p, &b, NULL, &aborted, &e), 0);
	end_offset += count;
}

static void next(int64_t id, int16_t epoch, int32_t sequence, int count)
{
	assert_int_equal(ask(id, epoch, sequence, count), PRODUCER_NEXT);
	put(id, epoch, sequence, count);
}

static void expect_duplicate(int64_t id, int16_t epoch, int32_t sequence, int count, int64_t offset)
{
	assert_int_equal(ask(id, epoch, sequence, count), PRODUCER_DUPLICATE);
	assert_int_equal(known.first_offset, offset);
	assert_int_equal(known.last_offset, offset + count - 1);
	assert_int_equal(known.first_sequence, sequence);
	assert_int_equal(known.timestamp_ms, 1000 + offset);
}

static void test_in_order(void **state)
{
	(void)state;
	next(7, 0, 0, 3);
	next(7, 0, 3, 1);
	next(8, 5, 0, 10); /* others do not matter */
	next(7, 0, 4, 2);
	assert_int_equal(ask(7, 0, 7, 1), ERR_SEQUENCE);
	assert_int_equal(ask(7, 0, 5, 1), ERR_SEQUENCE);
	assert_int_equal(ask(7, 0, 6, 1), PRODUCER_NEXT);
	assert_int_equal(ask(8, 5, 10, INT32_MAX), PRODUCER_NEXT);
}

static void test_duplicates(void **state)
{
	(void)state;
	for (int i = 0; i < 7; i++)
		next(7, 0, 10 * i, 10);
	for (int i = 2; i < 7; i++)
		expect_duplicate(7, 0, 10 * i, 10, 10 * i);
	assert_int_equal(ask(7, 0, 10, 10), ERR_SEQUENCE); /* the sixth is forgotten */
	assert_int_equal(ask(7, 0, 60, 9), ERR_SEQUENCE);  /* a part is no duplicate */
	assert_int_equal(ask(7, 0, 59, 11), ERR_SEQUENCE);
	assert_int_equal(ask(7, 0, 70, 10), PRODUCER_NEXT);
}

static void test_epochs(void **state)
{
	(void)state;
	next(7, 3, 0, 5);
	assert_int_equal(ask(7, 2, 5, 1), ERR_PRODUCER_FENCED);
	assert_int_equal(ask(7, 2, 0, 5), ERR_PRODUCER_FENCED);
	assert_int_equal(ask(7, 4, 5, 1), ERR_SEQUENCE);
	assert_int_equal(ask(7, INT16_MAX, 0, 1), PRODUCER_NEXT);
	next(7, 4, 0, 5);
	assert_int_equal(ask(7, 3, 0, 5), ERR_PRODUCER_FENCED); /* though it was a duplicate once */
	expect_duplicate(7, 4, 0, 5, 5);
}

static void test_unknown(void **state)
{
	(void)state;
	assert_int_equal(ask(7, 0, 0, 1), PRODUCER_NEXT);
	assert_int_equal(ask(7, 9, 12345, 1), PRODUCER_NEXT); /* it may have expired, or its records were deleted */
	next(7, 9, 12345, 2);
	next(7, 9, 12347, 2);
	assert_int_equal(ask(7, 9, 12344, 1), ERR_SEQUENCE);
}

static void test_wraparound(void **state)
{
	(void)state;
	next(7, 0, INT32_MAX - 1, 1);
	next(7, 0, INT32_MAX, 1);
	assert_int_equal(ask(7, 0, 1, 1), ERR_SEQUENCE);
	next(7, 0, 0, 4);
	expect_duplicate(7, 0, INT32_MAX, 1, 1);
	next(8, 0, INT32_MAX - 2, 10); /* ends at 6 */
	expect_duplicate(8, 0, INT32_MAX - 2, 10, 6);
	assert_int_equal(ask(8, 0, 0, 1), ERR_SEQUENCE);
	next(8, 0, 7, 1);
}

static struct batch transactional(int64_t id, int16_t epoch, int32_t sequence)
{
	struct batch b = batch_of(id, epoch, sequence, 1);
	b.attributes = BATCH_TRANSACTIONAL;
	return b;
}

static void test_transactions(void **state)
{
	(void)state;
	struct batch b = transactional(7, 0, 0);
	struct aborted_txn aborted;
	assert_int_equal(producers_check(p, &b, false, &known, &e), ERR_TXN_STATE);
	assert_int_equal(producers_check(p, &b, true, &known, &e), PRODUCER_NEXT);
	assert_int_equal(producers_update(p, &b, NULL, &aborted, &e), 0);
	end_offset++;
	b = transactional(7, 0, 1);
	assert_int_equal(producers_check(p, &b, false, &known, &e), PRODUCER_NEXT); /* of the one that is open */
	b = transactional(7, 1, 0);
	assert_int_equal(producers_check(p, &b, false, &known, &e), ERR_TXN_STATE);
	b = transactional(7, 0, 2);
	assert_int_equal(producers_check(p, &b, false, &known, &e), ERR_SEQUENCE);
	assert_int_equal(ask(7, 0, 1, 1), ERR_TXN_STATE); /* one that is not, in between */
	assert_int_equal(producers_expire(p, INT64_MAX, 1), 0); /* not while it is open */
}

static void count_one(void *arg, const struct producer_state *s)
{
	(void)s;
	++*(int *)arg;
}

static void test_expiration(void **state)
{
	(void)state;
	int n = 0;
	next(7, 0, 0, 1);  /* at 1000 */
	next(8, 0, 0, 1);  /* at 1001 */
	next(8, 0, 1, 1);  /* at 1002 */
	assert_int_equal(producers_expire(p, 1099, 100), 0);
	assert_int_equal(producers_expire(p, 1100, 100), 1);
	assert_int_equal(producers_expire(p, 1101, 100), 0);
	producers_list(p, count_one, &n);
	assert_int_equal(n, 1);
	assert_int_equal(producers_count(p), 1);
	assert_int_equal(ask(7, 0, 55, 1), PRODUCER_NEXT);
	assert_int_equal(ask(8, 0, 55, 1), ERR_SEQUENCE);
	assert_int_equal(producers_expire(p, INT64_MIN, 100), 1); /* clocks may be anything */
}

/* A snapshot has the last batch alone; the others are found in the log, once. */
static void test_recall(void **state)
{
	(void)state;
	char path[] = "/tmp/spoolfs-sequences-XXXXXX";
	struct producer_batch oldest, found[6];
	int16_t epoch;
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	close(fd);
	for (int i = 0; i < 6; i++) {
		found[i] = (struct producer_batch){10 * i, 10 * i + 9, end_offset, end_offset + 9, 1000 + end_offset};
		next(7, 2, 10 * i, 10);
	}
	assert_int_equal(producers_write(p, path, false, &e), 0);
	assert_int_equal(producers_load(p, path, end_offset, &e), 0);
	expect_duplicate(7, 2, 50, 10, 50);
	assert_int_equal(ask(7, 2, 40, 10), PRODUCER_UNSURE);
	assert_int_equal(ask(7, 1, 40, 10), ERR_PRODUCER_FENCED);
	next(7, 2, 60, 10);
	assert_int_equal(ask(7, 2, 40, 10), PRODUCER_UNSURE);
	assert_true(producers_oldest(p, 7, &epoch, &oldest));
	assert_int_equal(oldest.first_offset, 50);
	assert_int_equal(epoch, 2);
	producers_recall(p, 7, found, 6); /* the newest of them it knows */
	for (int i = 2; i < 7; i++)
		expect_duplicate(7, 2, 10 * i, 10, 10 * i);
	assert_int_equal(ask(7, 2, 10, 10), ERR_SEQUENCE);
	next(7, 2, 70, 1);
	expect_duplicate(7, 2, 30, 10, 30);
	assert_int_equal(ask(7, 2, 20, 10), ERR_SEQUENCE);
	/* where nothing was found there is no more to be found */
	assert_int_equal(producers_load(p, path, end_offset, &e), 0);
	producers_recall(p, 7, NULL, 0);
	assert_int_equal(ask(7, 2, 40, 10), ERR_SEQUENCE);
	/* a new epoch has nothing of the old one */
	assert_int_equal(producers_load(p, path, end_offset, &e), 0);
	next(7, 3, 0, 1);
	assert_int_equal(ask(7, 3, 5, 1), ERR_SEQUENCE);
	assert_false(producers_oldest(p, 99, &epoch, &oldest));
	unlink(path);
}

/* ---- against a model ---- */

static uint64_t seed = 12;

static uint32_t random_next(void)
{
	seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
	return (uint32_t)(seed >> 32);
}

struct sent { int16_t epoch; int32_t sequence; int count; int64_t offset; };
struct history { struct sent sent[2000]; int n; int16_t epoch; int32_t next; };

/* By Kafka's words: the last five of the epoch are duplicates; else it is in order or not. */
static int model(const struct history *h, int16_t epoch, int32_t sequence, int count, int64_t *offset)
{
	for (int i = h->n - 1, seen = 0; i >= 0 && seen < 5 && h->sent[i].epoch == h->epoch; i--, seen++) {
		if (h->sent[i].epoch == epoch && h->sent[i].sequence == sequence && h->sent[i].count == count) {
			*offset = h->sent[i].offset;
			return PRODUCER_DUPLICATE;
		}
	}
	if (h->n && epoch < h->epoch)
		return ERR_PRODUCER_FENCED;
	if (!h->n)
		return PRODUCER_NEXT;
	return sequence == (epoch == h->epoch ? h->next : 0) ? PRODUCER_NEXT : ERR_SEQUENCE;
}

static void test_against_a_model(void **state)
{
	(void)state;
	enum { PRODUCERS = 20 };
	static struct history h[PRODUCERS];
	int seen[3] = {0}, refused = 0;
	for (int round = 0; round < 20000; round++) {
		int id = (int)(random_next() % PRODUCERS);
		struct history *x = &h[id];
		int16_t epoch = (int16_t)(x->epoch + (random_next() % 20 == 0 ? (int)(random_next() % 3) - 1 : 0));
		int32_t sequence = x->n ? x->next : INT32_MAX - 40;
		int count = 1 + (int)(random_next() % 9);
		int64_t offset = -1;
		if (epoch != x->epoch && random_next() % 4)
			sequence = 0;
		if (random_next() % 3 == 0 && x->n) { /* one of before, or nearly */
			const struct sent *s = &x->sent[x->n - 1 - (int)(random_next() % (uint32_t)(x->n < 7 ? x->n : 7))];
			epoch = s->epoch;
			sequence = s->sequence;
			count = s->count + (random_next() % 10 == 0);
		} else if (random_next() % 10 == 0) {
			sequence = (int32_t)((uint32_t)(sequence + (int)(random_next() % 5)) & INT32_MAX);
		}
		if (epoch < 0)
			continue;
		int want = model(x, epoch, sequence, count, &offset), rc = ask(id, epoch, sequence, count);
		assert_int_equal(rc, want);
		if (rc == PRODUCER_DUPLICATE)
			assert_int_equal(known.first_offset, offset);
		rc < 0 ? refused++ : seen[rc]++;
		if (rc != PRODUCER_NEXT || x->n == 2000)
			continue;
		x->sent[x->n++] = (struct sent){epoch, sequence, count, end_offset};
		x->epoch = epoch;
		x->next = (int32_t)(((uint32_t)sequence + (uint32_t)count) & INT32_MAX);
		put(id, epoch, sequence, count);
	}
	assert_true(seen[PRODUCER_NEXT] > 5000 && seen[PRODUCER_DUPLICATE] > 2000 && refused > 1000);
}

int main(void)
{
#define FRESH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		FRESH(test_in_order), FRESH(test_duplicates), FRESH(test_epochs), FRESH(test_unknown), FRESH(test_wraparound), FRESH(test_transactions), FRESH(test_expiration),
		FRESH(test_recall), FRESH(test_against_a_model),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
