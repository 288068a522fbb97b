/* What waits: it is asked when it can be worth it, and completed once, whoever brings that about. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cluster/delayed.h"

/* ---- one by one, on a heap that nobody runs ---- */

enum { KEYS = 4 };

struct op {
	struct delayed d;
	struct delayed_key key[KEYS];
	_Atomic int64_t missing;
	int asked, done;
	enum delayed_verdict how;
};

static int64_t op_missing(struct delayed *d)
{
	struct op *o = (struct op *)d;
	o->asked++;
	return o->missing;
}

static void op_done(struct delayed *d, enum delayed_verdict how)
{
	struct op *o = (struct op *)d;
	o->done++;
	o->how = how;
}

static struct timer_heap *heap;
static struct delayed_list list[KEYS];

static int setup(void **state)
{
	(void)state;
	heap = timer_heap_new();
	for (int i = 0; i < KEYS; i++)
		delayed_list_init(&list[i]);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	for (int i = 0; i < KEYS; i++) {
		assert_null(list[i].first);
		for (int c = 0; c < DELAYED_CHANNELS; c++)
			assert_true(list[i].least[c] == INT64_MAX);
		delayed_list_release(&list[i]);
	}
	assert_int_equal(timer_run_due(heap, (mono_t){INT64_MAX}), 0);
	timer_heap_free(heap);
	return 0;
}

static void park(struct op *o, uint32_t keys, int64_t missing, int64_t patience_ms)
{
	*o = (struct op){.missing = missing, .d = {.key_count = keys, .missing = op_missing, .complete = op_done}};
	o->d.key = o->key;
	for (uint32_t i = 0; i < keys; i++)
		o->key[i] = (struct delayed_key){.list = &list[i], .channel = DELAYED_HIGH};
	delayed_init(&o->d);
	delayed_park(&o->d, heap, mono_after_ms(mono_now(), patience_ms));
}

static void check_done(struct op *o, enum delayed_verdict how)
{
	assert_int_equal(o->done, 1);
	assert_int_equal(o->how, how);
}

static void test_satisfied_at_once(void **state)
{
	(void)state;
	struct op o;
	park(&o, 2, 0, 1000);
	check_done(&o, DELAYED_SATISFIED);
	assert_int_equal(o.asked, 1);
	assert_false(delayed_cancel(&o.d));
	assert_int_equal(o.done, 1);
}

static void test_expires(void **state)
{
	(void)state;
	struct op o;
	park(&o, KEYS, 10, 1000);
	assert_int_equal(timer_run_due(heap, mono_now()), 0);
	assert_int_equal(o.done, 0);
	assert_int_equal(timer_run_due(heap, mono_after_ms(mono_now(), 1000)), 1);
	check_done(&o, DELAYED_EXPIRED);
	assert_int_equal(o.asked, 1);
	park(&o, 0, 1, 0); /* on no list: a mere timer */
	assert_int_equal(timer_run_due(heap, mono_after_ms(mono_now(), 1)), 1);
	check_done(&o, DELAYED_EXPIRED);
}

static void test_cancel(void **state)
{
	(void)state;
	struct op o;
	park(&o, 3, 10, 1000);
	assert_true(delayed_cancel(&o.d));
	assert_int_equal(o.done, 0);
	assert_false(delayed_cancel(&o.d));
	for (int i = 0; i < 3; i++)
		delayed_wake(&list[i], DELAYED_CHANNELS);
	assert_int_equal(o.asked, 1);
}

/* Bytes are counted off: it is not asked before they are all there. */
static void test_counts(void **state)
{
	(void)state;
	struct op o, p;
	delayed_grow(&list[0], DELAYED_HIGH, 5000);
	park(&o, 1, 1000, 1000);
	park(&p, 1, 10, 1000);
	for (int64_t at = 5001; at < 6000; at += 7) {
		o.missing = 6000 - at;
		p.missing = 5010 - at;
		delayed_grow(&list[0], DELAYED_HIGH, at);
		delayed_grow(&list[0], DELAYED_HIGH, at - 3); /* goes back: nothing */
		delayed_grow(&list[0], DELAYED_STABLE, at);   /* another channel */
		assert_int_equal(o.asked, 1);
		assert_int_equal(p.done, at >= 5010);
	}
	assert_int_equal(p.asked, 2);
	o.missing = 0;
	delayed_grow(&list[0], DELAYED_HIGH, 6000);
	check_done(&o, DELAYED_SATISFIED);
	assert_int_equal(o.asked, 2);
	/* what was counted off was not what it was waiting for: it goes on, with what it says now */
	park(&o, 1, 100, 1000);
	o.missing = 50;
	delayed_grow(&list[0], DELAYED_HIGH, 6100);
	assert_int_equal(o.asked, 2);
	delayed_grow(&list[0], DELAYED_HIGH, 6149);
	assert_int_equal(o.asked, 2);
	o.missing = 0;
	delayed_grow(&list[0], DELAYED_HIGH, 6150);
	check_done(&o, DELAYED_SATISFIED);
}

/* What several lists have grown by adds up. */
static void test_several_keys(void **state)
{
	(void)state;
	struct op o;
	int64_t total[KEYS] = {0}, sum = 0;
	park(&o, KEYS, 1000, 1000);
	for (int i = 0; sum + 13 < 1000; i++) {
		sum += 13;
		o.missing = 1000 - sum;
		delayed_grow(&list[i % 3], DELAYED_HIGH, total[i % 3] += 13);
		assert_int_equal(o.asked, 1);
	}
	o.missing = 0;
	delayed_grow(&list[3], DELAYED_HIGH, 13);
	check_done(&o, DELAYED_SATISFIED);
}

static void test_wake(void **state)
{
	(void)state;
	struct op o;
	park(&o, 2, INT64_MAX, 1000);
	delayed_wake(&list[2], DELAYED_CHANNELS);
	delayed_wake(&list[0], DELAYED_STABLE);
	assert_int_equal(o.asked, 1);
	delayed_wake(&list[0], DELAYED_HIGH);
	assert_int_equal(o.asked, 2);
	o.missing = 0;
	delayed_wake(&list[1], DELAYED_CHANNELS);
	check_done(&o, DELAYED_SATISFIED);
}

/* What happens while it is asked is not missed, and nobody else gets in between. */
struct busy { struct op o; int turn; };

/* ---- watches ---- */

struct watcher { struct delayed_watch watch; struct delayed_bell bell; int raised, rung; bool rings; };

static struct delayed_bell *raise_watcher(struct delayed_watch *w)
{
	struct watcher *x = (struct watcher *)w;
	bool ring = !x->rings;
	x->raised++;
	x->rings = true;
	return ring ? &x->bell : NULL;
}

static void ring_watcher(struct delayed_bell *bell)
{
	struct watcher *x = (struct watcher *)((char *)bell - offsetof(struct watcher, bell));
	x->rings = false;
	x->rung++;
	delayed_raise(&list[1]); /* no lock is held */
}

static void test_watches_stay(void **state)
{
	(void)state;
	struct watcher a = {.watch.raise = raise_watcher, .bell.ring = ring_watcher}, z = a;
	delayed_raise(&list[0]);
	delayed_watch(&list[0], &a.watch);
	delayed_watch(&list[0], &z.watch);
	for (int i = 1; i <= 3; i++) {
		delayed_raise(&list[0]);
		assert_true(a.raised == i && a.rung == i && z.raised == i && z.rung == i);
	}
	delayed_wake(&list[0], DELAYED_HIGH); /* of one channel: none of theirs */
	delayed_grow(&list[0], DELAYED_END, 100);
	assert_int_equal(a.raised, 3);
	delayed_wake(&list[0], DELAYED_CHANNELS);
	assert_true(a.raised == 4 && z.rung == 4);
	a.rings = true; /* its bell is with somebody else */
	delayed_unwatch(&z.watch);
	delayed_raise(&list[0]);
	assert_true(a.raised == 5 && a.rung == 4 && z.raised == 4);
	delayed_unwatch(&a.watch);
	delayed_raise(&list[0]);
	assert_true(a.raised == 5 && !list[0].watched);
}

static int64_t busy_missing(struct delayed *d)
{
	struct busy *x = (struct busy *)d;
	switch (x->turn++) {
	case 0: /* by delayed_park */
		delayed_grow(&list[0], DELAYED_HIGH, list[0].grown[DELAYED_HIGH] + 1);
		return 100;
	case 1:
		delayed_wake(&list[1], DELAYED_CHANNELS);
		return 100;
	case 2:
		return 100;
	default:
		assert_false(delayed_cancel(d));
		return 100;
	}
}

static void test_while_asked(void **state)
{
	(void)state;
	struct busy x = {.o.d = {.key_count = 2, .missing = busy_missing, .complete = op_done}};
	x.o.d.key = x.o.key;
	for (int i = 0; i < 2; i++)
		x.o.key[i] = (struct delayed_key){.list = &list[i], .channel = DELAYED_HIGH};
	delayed_init(&x.o.d);
	delayed_park(&x.o.d, heap, mono_after_ms(mono_now(), 1000));
	assert_int_equal(x.turn, 3);
	assert_int_equal(x.o.done, 0);
	delayed_wake(&list[0], DELAYED_CHANNELS);
	assert_int_equal(x.turn, 4);
	check_done(&x.o, DELAYED_CANCELLED);
}

/* ---- a crowd ---- */

enum { LISTS = 8, PARKERS = 3, GROWERS = 2, EACH = 4000 };

struct place { struct delayed_list list; _Atomic int64_t bytes[2]; };

struct crowd_op {
	struct delayed d;
	struct delayed_key key[KEYS];
	struct place *place[KEYS];
	int64_t begin[KEYS], want;
	_Atomic int in_missing;
	bool patient; /* its deadline does not come */
	bool shut;    /* waits for the end of it all, no number of bytes is enough */
	struct crowd *c;
	_Atomic int refs;
};

struct crowd {
	struct place place[LISTS];
	struct timer_heap *heap;
	_Atomic bool stop, over;
	_Atomic int64_t parked, satisfied, expired, cancelled, taken, asked, alive;
	_Atomic int wrong;
};

static int64_t crowd_missing(struct delayed *d)
{
	struct crowd_op *o = (struct crowd_op *)d;
	int64_t sum = 0;
	if (atomic_fetch_add(&o->in_missing, 1))
		o->c->wrong++;
	for (uint32_t i = 0; i < d->key_count; i++)
		sum += o->place[i]->bytes[d->key[i].channel] - o->begin[i];
	o->c->asked++;
	o->in_missing--;
	if (o->shut)
		return o->c->over ? 0 : 1;
	return o->want - sum;
}

static void crowd_unref(struct crowd_op *o)
{
	if (atomic_fetch_sub(&o->refs, 1) == 1) {
		o->c->alive--;
		memset(o, 0xa5, sizeof *o);
		free(o);
	}
}

static void crowd_done(struct delayed *d, enum delayed_verdict how)
{
	struct crowd_op *o = (struct crowd_op *)d;
	if (how == DELAYED_SATISFIED && crowd_missing(d) > 0)
		o->c->wrong++;
	if (how == DELAYED_EXPIRED && o->patient)
		o->c->wrong++;
	*(how == DELAYED_SATISFIED ? &o->c->satisfied : how == DELAYED_EXPIRED ? &o->c->expired : &o->c->cancelled) += 1;
	crowd_unref(o);
}

static void *run_heap(void *arg)
{
	timer_run(arg);
	return NULL;
}

static void *grow(void *arg)
{
	struct crowd *c = arg;
	for (unsigned seed = (unsigned)(uintptr_t)&seed; !c->stop;) {
		struct place *p = &c->place[rand_r(&seed) % LISTS];
		enum delayed_channel channel = (enum delayed_channel)(rand_r(&seed) % 2);
		int64_t total = atomic_fetch_add(&p->bytes[channel], 1 + rand_r(&seed) % 100) + 1;
		delayed_grow(&p->list, channel, p->bytes[channel]);
		if (rand_r(&seed) % 50 == 0)
			delayed_wake(&p->list, total % 2 ? DELAYED_CHANNELS : channel);
		if (rand_r(&seed) % 8 == 0)
			usleep(1);
	}
	return NULL;
}

static void *park_many(void *arg)
{
	struct crowd *c = arg;
	unsigned seed = (unsigned)(uintptr_t)&seed;
	struct crowd_op *held[16] = {0};
	for (int n = 0; n < EACH; n++) {
		struct crowd_op *o = calloc(1, sizeof *o);
		assert_non_null(o);
		int kind = rand_r(&seed) % 20;
		o->c = c;
		o->d = (struct delayed){.key = o->key, .key_count = 1 + (uint32_t)rand_r(&seed) % KEYS, .missing = crowd_missing, .complete = crowd_done};
		o->want = rand_r(&seed) % (kind < 10 ? 3 : 2000);
		o->patient = kind != 0;
		o->shut = kind == 1;
		for (uint32_t i = 0; i < o->d.key_count; i++) {
			o->place[i] = &c->place[((unsigned)rand_r(&seed) + i) % LISTS];
			o->key[i] = (struct delayed_key){.list = &o->place[i]->list, .channel = (enum delayed_channel)(rand_r(&seed) % 2)};
			o->begin[i] = o->place[i]->bytes[o->key[i].channel];
		}
		o->refs = 2;
		c->alive++;
		c->parked++;
		delayed_init(&o->d);
		delayed_park(&o->d, c->heap, mono_after_ms(mono_now(), o->patient ? 3600000 : rand_r(&seed) % 3));
		struct crowd_op **slot = &held[rand_r(&seed) % 16]; /* an older one may be given up */
		if (*slot) {
			if (rand_r(&seed) % 4 == 0 && delayed_cancel(&(*slot)->d)) {
				c->taken++;
				crowd_unref(*slot);
			}
			crowd_unref(*slot);
		}
		*slot = o;
	}
	for (int i = 0; i < 16; i++)
		if (held[i])
			crowd_unref(held[i]);
	return NULL;
}

static void test_crowd(void **state)
{
	(void)state;
	struct crowd *c = calloc(1, sizeof *c);
	pthread_t parker[PARKERS], grower[GROWERS], timers;
	for (int i = 0; i < LISTS; i++)
		delayed_list_init(&c->place[i].list);
	c->heap = timer_heap_new();
	assert_int_equal(pthread_create(&timers, NULL, run_heap, c->heap), 0);
	for (int i = 0; i < GROWERS; i++)
		assert_int_equal(pthread_create(&grower[i], NULL, grow, c), 0);
	for (int i = 0; i < PARKERS; i++)
		assert_int_equal(pthread_create(&parker[i], NULL, park_many, c), 0);
	for (int i = 0; i < PARKERS; i++)
		pthread_join(parker[i], NULL);
	c->over = true;
	for (int i = 0; i < LISTS; i++)
		delayed_wake(&c->place[i].list, DELAYED_CHANNELS);
	/* the growers go on until all have what they want: none was forgotten */
	for (int i = 0; i < 3000 && c->alive; i++)
		usleep(10000);
	assert_int_equal(c->alive, 0);
	c->stop = true;
	for (int i = 0; i < GROWERS; i++)
		pthread_join(grower[i], NULL);
	timer_stop(c->heap);
	pthread_join(timers, NULL);
	timer_heap_free(c->heap);
	assert_int_equal(c->wrong, 0);
	assert_int_equal(c->parked, PARKERS * EACH);
	assert_int_equal(c->satisfied + c->expired + c->cancelled + c->taken, c->parked);
	assert_true(c->satisfied > c->parked / 2);
	assert_true(c->taken > 0);
	for (int i = 0; i < LISTS; i++) {
		assert_null(c->place[i].list.first);
		delayed_list_release(&c->place[i].list);
	}
	free(c);
}

/* ---- what it costs ---- */

enum { MANY = 2000 };

/* An append to a partition on which nobody waits for so little costs those that wait there next to nothing, and one elsewhere nothing at all. */
static void test_cost(void **state)
{
	(void)state;
	struct op *o = calloc(MANY, sizeof *o);
	for (int i = 0; i < MANY; i++)
		park(&o[i], 1, 1000000 + i, 3600000);
	delayed_grow(&list[0], DELAYED_HIGH, 1); /* from now on their thresholds are known */
	mono_t begin = mono_now();
	for (int64_t at = 2; at < 200000; at++)
		delayed_grow(&list[0], DELAYED_HIGH, at);
	double each = (double)mono_diff_ns(mono_now(), begin) / 200000;
	for (int i = 0; i < MANY; i++)
		assert_int_equal(o[i].asked, 1);
	for (int i = 0; i < MANY; i++)
		o[i].missing = 0;
	begin = mono_now();
	delayed_grow(&list[0], DELAYED_HIGH, 2000000);
	double all = (double)mono_diff_ns(mono_now(), begin) / MANY;
	for (int i = 0; i < MANY; i++)
		check_done(&o[i], DELAYED_SATISFIED);
	print_message("an append past %d that wait for more: %.1f ns; waking and completing one: %.0f ns; %zu bytes each, %zu a key\n", MANY, each, all, sizeof(struct delayed),
		      sizeof(struct delayed_key));
	free(o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_satisfied_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_expires, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cancel, setup, teardown),
		cmocka_unit_test_setup_teardown(test_counts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_several_keys, setup, teardown),
		cmocka_unit_test_setup_teardown(test_wake, setup, teardown),
		cmocka_unit_test_setup_teardown(test_watches_stay, setup, teardown),
		cmocka_unit_test_setup_teardown(test_while_asked, setup, teardown),
		cmocka_unit_test(test_crowd),
		cmocka_unit_test_setup_teardown(test_cost, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
