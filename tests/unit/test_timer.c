#include "store/timer.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#define MS INT64_C(1000000)

static void sleep_ms(int ms)
{
	nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000L}, NULL);
}

static mono_t in_ms(int64_t ms)
{
	return mono_after_ms(mono_now(), ms);
}

static void count(struct timer *t, void *arg)
{
	(void)t;
	++*(_Atomic int *)arg;
}

/* --- by hand --- */

static void test_fires_what_is_due_and_once(void **state)
{
	(void)state;
	struct timer_heap *h = timer_heap_new();
	_Atomic int n = 0;
	struct timer t = {.fire = count, .arg = &n};
	assert_int_equal(timer_arm(h, &t, (mono_t){100}), 0);
	assert_true(t.slot);
	assert_int_equal(timer_run_due(h, (mono_t){99}), 0);
	assert_int_equal(timer_run_due(h, (mono_t){100}), 1);
	assert_int_equal(n, 1);
	assert_false(t.slot);
	assert_int_equal(timer_run_due(h, (mono_t){INT64_MAX}), 0);
	timer_heap_free(h);
	timer_heap_free(NULL);
}

static void test_armed_again_is_moved(void **state)
{
	(void)state;
	struct timer_heap *h = timer_heap_new();
	_Atomic int n = 0;
	struct timer t = {.fire = count, .arg = &n};
	timer_arm(h, &t, (mono_t){100});
	timer_arm(h, &t, (mono_t){200});
	assert_int_equal(timer_run_due(h, (mono_t){150}), 0);
	timer_arm(h, &t, (mono_t){50});
	assert_int_equal(timer_run_due(h, (mono_t){150}), 1);
	assert_int_equal(timer_run_due(h, (mono_t){250}), 0);
	timer_heap_free(h);
}

static void test_cancelled_does_not_fire(void **state)
{
	(void)state;
	struct timer_heap *h = timer_heap_new();
	_Atomic int n = 0;
	struct timer t = {.fire = count, .arg = &n};
	timer_cancel(h, &t); /* never armed: fine */
	timer_arm(h, &t, (mono_t){100});
	timer_cancel(h, &t);
	timer_cancel(h, &t);
	assert_int_equal(timer_run_due(h, (mono_t){200}), 0);
	timer_arm(h, &t, (mono_t){100});
	assert_int_equal(timer_run_due(h, (mono_t){200}), 1);
	timer_heap_free(h);
}

/* A callback that does to its own timer, or another, what it is told. */
struct act {
	struct timer t;
	struct timer_heap *h;
	struct timer *victim;
	int left, fired;
};

static void rearm(struct timer *t, void *arg)
{
	struct act *a = arg;
	a->fired++;
	if (a->left-- > 0)
		timer_arm(a->h, t, (mono_t){t->due.ns + 10});
}

static void cancel_victim(struct timer *t, void *arg)
{
	struct act *a = arg;
	a->fired++;
	timer_arm(a->h, t, (mono_t){t->due.ns + 10});
	timer_cancel(a->h, t); /* its own, from inside: does not wait for itself */
	timer_cancel(a->h, a->victim);
}

static void test_callback_may_arm_its_timer(void **state)
{
	(void)state;
	struct act a = {.t.fire = rearm, .h = timer_heap_new(), .left = 4};
	a.t.arg = &a;
	timer_arm(a.h, &a.t, (mono_t){10});
	assert_int_equal(timer_run_due(a.h, (mono_t){30}), 3);
	assert_int_equal(a.fired, 3);
	assert_int_equal(timer_run_due(a.h, (mono_t){1000}), 2);
	timer_heap_free(a.h);
}

static void test_callback_may_cancel(void **state)
{
	(void)state;
	_Atomic int n = 0;
	struct timer victim = {.fire = count, .arg = &n};
	struct act a = {.t.fire = cancel_victim, .h = timer_heap_new(), .victim = &victim};
	a.t.arg = &a;
	timer_arm(a.h, &a.t, (mono_t){10});
	timer_arm(a.h, &victim, (mono_t){11});
	assert_int_equal(timer_run_due(a.h, (mono_t){1000}), 1);
	assert_int_equal(a.fired, 1);
	assert_int_equal(n, 0);
	timer_heap_free(a.h);
}

static void free_itself(struct timer *t, void *arg)
{
	++*(int *)arg;
	free(t);
}

static void test_callback_may_free_its_timer(void **state)
{
	(void)state;
	int fired = 0;
	struct timer_heap *h = timer_heap_new();
	for (int i = 0; i < 20; i++) {
		struct timer *t = calloc(1, sizeof *t);
		t->fire = free_itself;
		t->arg = &fired;
		timer_arm(h, t, (mono_t){i % 7});
	}
	assert_int_equal(timer_run_due(h, (mono_t){10}), 20);
	assert_int_equal(fired, 20);
	timer_heap_free(h);
}

/* The same as a list searched from end to end would do, over random arming, moving, cancelling and passing of time. */
enum { TIMERS = 60 };

struct model {
	struct timer t[TIMERS];
	int64_t due[TIMERS]; /* -1: not armed */
	int64_t last_due;
	int fired;
};

static void fire_in_model(struct timer *t, void *arg)
{
	struct model *m = arg;
	size_t i = (size_t)(t - m->t);
	assert_int_equal(m->due[i], t->due.ns);
	assert_true(t->due.ns >= m->last_due);
	m->last_due = t->due.ns;
	m->due[i] = -1;
	m->fired++;
}

static void test_like_a_plain_list(void **state)
{
	(void)state;
	struct timer_heap *h = timer_heap_new();
	static struct model m;
	unsigned seed = 1;
	int64_t now = 0;
	for (int i = 0; i < TIMERS; i++) {
		m.t[i] = (struct timer){.fire = fire_in_model, .arg = &m};
		m.due[i] = -1;
	}
	for (int round = 0; round < 50000; round++) {
		int i = rand_r(&seed) % TIMERS;
		switch (rand_r(&seed) % 8) {
		case 0:
			timer_cancel(h, &m.t[i]);
			m.due[i] = -1;
			break;
		case 1: {
			now += rand_r(&seed) % 40;
			int expect = 0;
			for (int k = 0; k < TIMERS; k++)
				expect += m.due[k] >= 0 && m.due[k] <= now;
			m.fired = 0;
			m.last_due = 0;
			assert_int_equal(timer_run_due(h, (mono_t){now}), expect);
			assert_int_equal(m.fired, expect);
			break;
		}
		default:
			m.due[i] = now + rand_r(&seed) % 200;
			assert_int_equal(timer_arm(h, &m.t[i], (mono_t){m.due[i]}), 0);
		}
		for (int k = 0; k < TIMERS; k++)
			assert_int_equal(m.t[k].slot != 0, m.due[k] >= 0);
	}
	timer_heap_free(h);
}

/* --- with a thread --- */

struct served {
	struct timer_heap *h;
	pthread_t thread;
};

static void *serve(void *arg)
{
	timer_run(arg);
	return NULL;
}

static struct served start(void)
{
	struct served s = {.h = timer_heap_new()};
	assert_non_null(s.h);
	assert_int_equal(pthread_create(&s.thread, NULL, serve, s.h), 0);
	return s;
}

static void stop(struct served *s)
{
	timer_stop(s->h);
	pthread_join(s->thread, NULL);
	timer_heap_free(s->h);
}

struct stamp {
	struct timer t;
	_Atomic int64_t at_ns;
};

static void stamp(struct timer *t, void *arg)
{
	(void)arg;
	((struct stamp *)t)->at_ns = mono_now().ns;
}

static void wait_for(_Atomic int64_t *what)
{
	for (int i = 0; i < 20000 && !*what; i++)
		sleep_ms(1);
	assert_true(*what);
}

static void test_thread_fires_in_time(void **state)
{
	(void)state;
	struct served s = start();
	struct stamp late = {.t.fire = stamp}, soon = {.t.fire = stamp};
	timer_arm(s.h, &late.t, in_ms(3600000));
	sleep_ms(10);
	timer_arm(s.h, &soon.t, in_ms(40)); /* wakes a thread that sleeps for the later one */
	wait_for(&soon.at_ns);
	assert_true(soon.at_ns >= soon.t.due.ns);
	assert_false(late.at_ns);
	timer_arm(s.h, &late.t, in_ms(20));
	wait_for(&late.at_ns);
	assert_true(late.at_ns >= late.t.due.ns);
	stop(&s);
}

static void test_thread_woken_from_an_empty_heap(void **state)
{
	(void)state;
	struct served s = start();
	sleep_ms(20);
	struct stamp t = {.t.fire = stamp};
	timer_arm(s.h, &t.t, in_ms(0));
	wait_for(&t.at_ns);
	assert_true(t.at_ns - t.t.due.ns < 5000 * MS);
	stop(&s);
}

static void test_stop_ends_at_once_with_timers_armed(void **state)
{
	(void)state;
	_Atomic int n = 0;
	struct served s = start();
	struct timer t = {.fire = count, .arg = &n};
	timer_arm(s.h, &t, in_ms(3600000));
	mono_t before = mono_now();
	stop(&s);
	assert_true(mono_diff_ns(mono_now(), before) < 5000 * MS);
	assert_int_equal(n, 0);
}

static void test_stopped_before_it_runs(void **state)
{
	(void)state;
	struct timer_heap *h = timer_heap_new();
	_Atomic int n = 0;
	struct timer t = {.fire = count, .arg = &n};
	timer_arm(h, &t, (mono_t){0});
	timer_stop(h);
	timer_run(h);
	assert_int_equal(n, 0);
	timer_heap_free(h);
}

struct slow {
	struct timer t;
	struct timer_heap *h;
	_Atomic int64_t begun;
	_Atomic int ended;
	_Atomic int hold; /* it does not end before this is 0 */
	int again;
};

static void run_slowly(struct timer *t, void *arg)
{
	struct slow *s = arg;
	s->begun = 1;
	sleep_ms(30);
	for (int i = 0; i < 10000 && s->hold; i++)
		sleep_ms(1);
	if (s->again)
		timer_arm(s->h, t, in_ms(0));
	s->ended++;
}

static void test_cancel_waits_for_the_running_callback(void **state)
{
	(void)state;
	for (int again = 0; again < 2; again++) {
		struct served s = start();
		struct slow slow = {.t.fire = run_slowly, .h = s.h, .again = again};
		slow.t.arg = &slow;
		timer_arm(s.h, &slow.t, in_ms(0));
		wait_for(&slow.begun);
		timer_cancel(s.h, &slow.t);
		int ended = slow.ended;
		assert_true(ended);
		assert_false(slow.t.slot); /* what the callback armed again is cancelled too */
		sleep_ms(80);
		assert_int_equal(slow.ended, ended);
		stop(&s);
	}
}

static void test_other_timers_can_be_cancelled_meanwhile(void **state)
{
	(void)state;
	_Atomic int n = 0;
	struct served s = start();
	struct slow slow = {.t.fire = run_slowly, .h = s.h, .hold = 1};
	struct timer other = {.fire = count, .arg = &n};
	slow.t.arg = &slow;
	timer_arm(s.h, &slow.t, in_ms(0));
	timer_arm(s.h, &other, in_ms(1));
	wait_for(&slow.begun);
	timer_cancel(s.h, &other);
	assert_int_equal(slow.ended, 0);
	slow.hold = 0;
	timer_cancel(s.h, &slow.t);
	sleep_ms(20);
	assert_int_equal(n, 0);
	stop(&s);
}

/* Threads arm, move, cancel and free timers of their own: none may fire after its cancel has returned. */
struct owned {
	struct timer t;
	int alive;
};

static void touch(struct timer *t, void *arg)
{
	assert_int_equal(((struct owned *)t)->alive, 1);
	++*(_Atomic int *)arg;
}

struct churner {
	struct timer_heap *h;
	_Atomic int *fired;
	unsigned seed;
};

static void *churn(void *arg)
{
	struct churner *c = arg;
	for (int i = 0; i < 3000; i++) {
		struct owned *o = malloc(sizeof *o);
		*o = (struct owned){{.fire = touch, .arg = c->fired}, 1};
		timer_arm(c->h, &o->t, mono_after_ms(mono_now(), rand_r(&c->seed) % 2));
		if (rand_r(&c->seed) % 2)
			timer_arm(c->h, &o->t, (mono_t){mono_now().ns + rand_r(&c->seed) % 100000});
		if (rand_r(&c->seed) % 4 == 0)
			nanosleep(&(struct timespec){.tv_nsec = rand_r(&c->seed) % 200000}, NULL);
		timer_cancel(c->h, &o->t);
		o->alive = 0;
		free(o);
	}
	return NULL;
}

static void test_threads_churn(void **state)
{
	(void)state;
	_Atomic int fired = 0;
	struct served s = start();
	struct churner c[6];
	pthread_t threads[6];
	for (unsigned i = 0; i < 6; i++) {
		c[i] = (struct churner){s.h, &fired, i};
		assert_int_equal(pthread_create(&threads[i], NULL, churn, &c[i]), 0);
	}
	for (int i = 0; i < 6; i++)
		pthread_join(threads[i], NULL);
	assert_true(fired > 0);
	stop(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fires_what_is_due_and_once),
		cmocka_unit_test(test_armed_again_is_moved),
		cmocka_unit_test(test_cancelled_does_not_fire),
		cmocka_unit_test(test_callback_may_arm_its_timer),
		cmocka_unit_test(test_callback_may_cancel),
		cmocka_unit_test(test_callback_may_free_its_timer),
		cmocka_unit_test(test_like_a_plain_list),
		cmocka_unit_test(test_thread_fires_in_time),
		cmocka_unit_test(test_thread_woken_from_an_empty_heap),
		cmocka_unit_test(test_stop_ends_at_once_with_timers_armed),
		cmocka_unit_test(test_stopped_before_it_runs),
		cmocka_unit_test(test_cancel_waits_for_the_running_callback),
		cmocka_unit_test(test_other_timers_can_be_cancelled_meanwhile),
		cmocka_unit_test(test_threads_churn),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
