#include "store/counters.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static COUNTER(first, "spoolfs_first_total", "The first.");
static COUNTER(second, "spoolfs_second_total", "The second.");
static COUNTER(untouched, "spoolfs_untouched_total", "Never counted.");

enum { THREADS = 8, ROUNDS = 20000, MANY = 200 };
static struct counter many[MANY];

struct seen {
	const struct counter *of[MANY + 10];
	size_t n;
};

static void note(void *arg, const struct counter *c)
{
	struct seen *s = arg;
	assert_true(s->n < sizeof s->of / sizeof *s->of);
	s->of[s->n++] = c;
}

static void test_registered_on_first_touch_oldest_last(void **state)
{
	(void)state;
	struct seen s = {.n = 0};
	counters_walk(note, &s);
	assert_int_equal(s.n, 0);
	counter_add(&first, 2);
	counter_add(&second, 0);
	counter_add(&first, 3);
	counters_walk(note, &s);
	assert_int_equal(s.n, 2);
	assert_ptr_equal(s.of[0], &second);
	assert_ptr_equal(s.of[1], &first);
	assert_int_equal(first.value, 5);
	assert_int_equal(second.value, 0);
	assert_int_equal(untouched.registered, 0);
}

static void test_registering_twice_is_once(void **state)
{
	(void)state;
	struct seen before = {.n = 0}, after = {.n = 0};
	counters_walk(note, &before);
	counter_register(&first);
	counter_register(&second);
	counters_walk(note, &after);
	assert_int_equal(before.n, after.n);
	assert_memory_equal(before.of, after.of, sizeof before.of[0] * before.n);
}

/* All threads touch all counters for the first time together, and walk meanwhile. */
static void *count(void *arg)
{
	unsigned at = (unsigned)(uintptr_t)arg;
	for (unsigned i = 0; i < ROUNDS; i++) {
		counter_add(&many[(at * 31 + i) % MANY], 1);
		if (i % 5000 == 0) {
			struct seen s = {.n = 0};
			counters_walk(note, &s);
		}
	}
	return NULL;
}

static void test_threads_lose_no_count_and_no_counter(void **state)
{
	(void)state;
	struct seen before = {.n = 0}, after = {.n = 0};
	counters_walk(note, &before);
	pthread_t threads[THREADS];
	for (uintptr_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, count, (void *)i), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	uint64_t sum = 0;
	for (int i = 0; i < MANY; i++)
		sum += many[i].value;
	assert_int_equal(sum, (uint64_t)THREADS * ROUNDS);
	counters_walk(note, &after);
	assert_int_equal(after.n, before.n + MANY);
	for (size_t i = 0; i < after.n; i++)
		for (size_t j = 0; j < i; j++)
			assert_ptr_not_equal(after.of[i], after.of[j]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_registered_on_first_touch_oldest_last),
		cmocka_unit_test(test_registering_twice_is_once),
		cmocka_unit_test(test_threads_lose_no_count_and_no_counter),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
