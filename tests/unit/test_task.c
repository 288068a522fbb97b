#include "cluster/task.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

static void pause_ms(int ms)
{
	nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000L}, NULL);
}

#define WAIT_FOR(condition) do { \
	for (int i_ = 0; i_ < 20000 && !(condition); i_++) \
		pause_ms(1); \
	assert_true(condition); \
} while (0)

/* Work that tells how often it was done; it asks, and waits, as it is told. */
struct work {
	struct task task;
	struct timer_heap *heap;
	struct pool *pool;
	_Atomic int begun, done;
	int64_t next_ms;      /* what it returns, the first time */
	int64_t asks_ms;      /* what it asks for, the first time; -1: it does not */
	_Atomic bool gate;    /* it waits until this is true */
	_Atomic bool wanted;  /* what it is about: it clears that */
};

static int64_t run_work(void *arg)
{
	struct work *w = arg;
	bool first = w->begun++ == 0;
	w->wanted = false;
	while (!w->gate)
		pause_ms(1);
	if (first && w->asks_ms >= 0)
		task_ask(&w->task, w->asks_ms);
	w->done++;
	return first ? w->next_ms : -1;
}

/* threads 0: it is done by whoever lets the time pass. */
static void work_init(struct work *w, unsigned threads)
{
	*w = (struct work){.heap = timer_heap_new(), .pool = pool_new("task", threads), .next_ms = -1, .asks_ms = -1, .gate = true};
	assert_non_null(w->heap);
	assert_non_null(w->pool);
	task_init(&w->task, w->heap, w->pool, run_work, w);
}

static void work_release(struct work *w)
{
	task_stop(&w->task);
	pool_free(w->pool);
	task_release(&w->task);
	timer_heap_free(w->heap);
}

/* As if so much time had passed. */
static void pass_ms(struct work *w, int64_t ms)
{
	timer_run_due(w->heap, mono_after_ms(mono_now(), ms));
}

/* --- when --- */

static void test_done_once_when_its_time_comes(void **state)
{
	struct work w;
	(void)state;
	work_init(&w, 0);
	pass_ms(&w, 1000000);
	assert_int_equal(w.done, 0);
	task_ask(&w.task, 60000);
	pass_ms(&w, 30000);
	assert_int_equal(w.done, 0);
	pass_ms(&w, 90000);
	assert_int_equal(w.done, 1);
	pass_ms(&w, 1000000);
	assert_int_equal(w.done, 1);
	work_release(&w);
}

static void test_asked_for_again_and_again_it_is_not_put_off(void **state)
{
	struct work w;
	(void)state;
	work_init(&w, 0);
	task_ask(&w.task, 3600000);
	task_ask(&w.task, 60000);
	task_ask(&w.task, 7200000);
	pass_ms(&w, 90000);
	assert_int_equal(w.done, 1);
	pass_ms(&w, 10000000);
	assert_int_equal(w.done, 1);
	work_release(&w);
}

static void test_says_itself_when_it_is_due_next(void **state)
{
	struct work w;
	(void)state;
	work_init(&w, 0);
	w.next_ms = 3600000;
	task_ask(&w.task, 0);
	pass_ms(&w, 30000);
	assert_int_equal(w.done, 1);
	pass_ms(&w, 1800000);
	assert_int_equal(w.done, 1);
	pass_ms(&w, 5400000);
	assert_int_equal(w.done, 2);
	work_release(&w);
}

static void test_what_is_asked_for_meanwhile_is_not_put_off_by_what_it_says(void **state)
{
	struct work w;
	(void)state;
	work_init(&w, 0);
	w.next_ms = 3600000;
	w.asks_ms = 60000;
	task_ask(&w.task, 0);
	pass_ms(&w, 30000);
	assert_int_equal(w.done, 1);
	pass_ms(&w, 90000);
	assert_int_equal(w.done, 2);
	work_release(&w);
}

static void test_never_is_not_at_once(void **state)
{
	struct work w;
	(void)state;
	work_init(&w, 0);
	task_ask(&w.task, INT64_MAX);
	pass_ms(&w, 1000000000);
	assert_int_equal(w.done, 0);
	work_release(&w);
}

/* --- while it is being done --- */

static void test_due_while_it_is_being_done_it_is_done_once_more(void **state)
{
	struct work w;
	(void)state;
	work_init(&w, 2);
	w.gate = false;
	task_ask(&w.task, 0);
	pass_ms(&w, 1000);
	WAIT_FOR(w.begun == 1);
	task_ask(&w.task, 0);
	pass_ms(&w, 1000);
	task_ask(&w.task, 0);
	pass_ms(&w, 1000);
	assert_int_equal(w.begun, 1);
	w.gate = true;
	WAIT_FOR(w.done == 2);
	pass_ms(&w, 1000000);
	work_release(&w);
	assert_int_equal(w.begun, 2);
}

static void test_stopped_it_is_not_begun_again(void **state)
{
	struct work w;
	(void)state;
	work_init(&w, 2);
	w.gate = false;
	w.next_ms = 0;
	task_ask(&w.task, 0);
	pass_ms(&w, 1000);
	WAIT_FOR(w.begun == 1);
	task_ask(&w.task, 0);
	pass_ms(&w, 1000);
	task_ask(&w.task, 0);
	task_stop(&w.task);
	task_ask(&w.task, 0);
	w.gate = true;
	WAIT_FOR(w.done == 1);
	pass_ms(&w, 1000000);
	work_release(&w);
	assert_int_equal(w.begun, 1);
}

/* --- many ask --- */

static void *run_heap(void *heap)
{
	timer_run(heap);
	return NULL;
}

static void *ask_often(void *arg)
{
	struct work *w = arg;
	unsigned seed = (unsigned)(uintptr_t)&seed;
	for (int i = 0; i < 3000; i++) {
		w->wanted = true;
		task_ask(&w->task, rand_r(&seed) % 3);
		if (rand_r(&seed) % 16 == 0)
			pause_ms(1);
	}
	return NULL;
}

static void test_whoever_asks_is_served(void **state)
{
	struct work w;
	pthread_t heap, asker[3];
	(void)state;
	work_init(&w, 2);
	pthread_create(&heap, NULL, run_heap, w.heap);
	for (int round = 0; round < 5; round++) {
		for (int i = 0; i < 3; i++)
			pthread_create(&asker[i], NULL, ask_often, &w);
		for (int i = 0; i < 3; i++)
			pthread_join(asker[i], NULL);
		WAIT_FOR(!w.wanted);
	}
	task_stop(&w.task);
	timer_stop(w.heap);
	pthread_join(heap, NULL);
	work_release(&w);
	assert_int_equal(w.begun, w.done);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_done_once_when_its_time_comes),
		cmocka_unit_test(test_asked_for_again_and_again_it_is_not_put_off),
		cmocka_unit_test(test_says_itself_when_it_is_due_next),
		cmocka_unit_test(test_what_is_asked_for_meanwhile_is_not_put_off_by_what_it_says),
		cmocka_unit_test(test_never_is_not_at_once),
		cmocka_unit_test(test_due_while_it_is_being_done_it_is_done_once_more),
		cmocka_unit_test(test_stopped_it_is_not_begun_again),
		cmocka_unit_test(test_whoever_asks_is_served),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
