#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "cluster/zk/queue.h"

struct note { struct queue_event event; int from, number; };

static struct { int from[4096], number[4096]; size_t n; } seen; /* by the queue's thread */

static void note(struct queue_event *ev)
{
	struct note *x = (struct note *)ev;
	seen.from[seen.n] = x->from;
	seen.number[seen.n++] = x->number;
	free(x);
}

static void post(struct queue *q, int from, int number)
{
	struct note *x = calloc(1, sizeof *x);
	*x = (struct note){.event.run = note, .from = from, .number = number};
	queue_post(q, &x->event);
}

static struct queue *new_queue(void)
{
	struct err e = ERR_INIT;
	struct queue *q;
	assert_int_equal(queue_new(&q, "test", &e), 0);
	seen.n = 0;
	return q;
}

struct poster { struct queue *q; int from; pthread_t thread; };

static void *poster(void *arg)
{
	struct poster *p = arg;
	for (int i = 0; i < 1000; i++)
		post(p->q, p->from, i);
	return NULL;
}

static void test_events_run_in_the_order_in_which_each_thread_posted_them(void **state)
{
	struct poster p[4];
	int next[4] = {0};
	(void)state;
	struct queue *q = new_queue();
	for (int i = 0; i < 4; i++) {
		p[i] = (struct poster){.q = q, .from = i};
		pthread_create(&p[i].thread, NULL, poster, &p[i]);
	}
	for (int i = 0; i < 4; i++)
		pthread_join(p[i].thread, NULL);
	queue_free(q); /* runs what is left */
	assert_int_equal(seen.n, 4000);
	for (size_t i = 0; i < seen.n; i++)
		assert_int_equal(seen.number[i], next[seen.from[i]]++);
}

static void is_here(void *arg)
{
	struct { struct queue *q; bool here; } *x = arg;
	x->here = queue_is_here(x->q);
}

static void test_a_call_runs_on_the_queue_behind_what_was_posted(void **state)
{
	(void)state;
	struct { struct queue *q; bool here; } x = {new_queue(), false};
	for (int i = 0; i < 100; i++)
		post(x.q, 0, i);
	queue_call(x.q, is_here, &x);
	assert_int_equal(seen.n, 100);
	assert_true(x.here);
	assert_false(queue_is_here(x.q));
	queue_free(x.q);
}

struct ticks { struct queue *q; struct queue_timer t[4]; char order[16]; size_t n; int again; };

static void fire(struct queue_timer *t, void *arg)
{
	struct ticks *x = arg;
	x->order[x->n++] = (char)('a' + (t - x->t));
	if (t == &x->t[3] && x->again-- > 0)
		queue_timer_arm(x->q, t, mono_now());
}

static void arm_all(void *arg)
{
	struct ticks *x = arg;
	mono_t now = mono_now();
	queue_timer_arm(x->q, &x->t[0], mono_after_ms(now, 3));
	queue_timer_arm(x->q, &x->t[1], mono_after_ms(now, 1));
	queue_timer_arm(x->q, &x->t[2], mono_after_ms(now, 2));
	queue_timer_arm(x->q, &x->t[1], mono_after_ms(now, 4)); /* moved */
	queue_timer_arm(x->q, &x->t[3], mono_after_ms(now, 5));
	queue_timer_cancel(x->q, &x->t[2]);
	queue_timer_cancel(x->q, &x->t[2]);
}

static void look(void *arg)
{
	struct { struct ticks *x; size_t n; } *l = arg;
	l->n = l->x->n;
}

static void test_timers_fire_by_deadline_unless_cancelled_and_may_arm_themselves(void **state)
{
	(void)state;
	struct ticks x = {.q = new_queue(), .again = 2};
	struct { struct ticks *x; size_t n; } l = {&x, 0};
	for (int i = 0; i < 4; i++)
		x.t[i] = (struct queue_timer){.fire = fire, .arg = &x};
	queue_call(x.q, arm_all, &x);
	while (l.n < 5) {
		usleep(1000);
		queue_call(x.q, look, &l);
	}
	queue_free(x.q);
	assert_string_equal(x.order, "abddd");
}

static void post_more(void *arg)
{
	struct queue *q = arg;
	for (int i = 0; i < 3; i++)
		post(q, 1, i);
}

static void test_what_is_posted_from_the_queue_itself_runs_before_it_ends(void **state)
{
	(void)state;
	struct queue *q = new_queue();
	struct queue_timer never = {.fire = fire};
	queue_timer_arm(q, &never, mono_after_ms(mono_now(), 3600000)); /* forgotten */
	queue_call(q, post_more, q);
	queue_free(q);
	assert_int_equal(seen.n, 3);
	queue_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_events_run_in_the_order_in_which_each_thread_posted_them),
		cmocka_unit_test(test_a_call_runs_on_the_queue_behind_what_was_posted),
		cmocka_unit_test(test_timers_fire_by_deadline_unless_cancelled_and_may_arm_themselves),
		cmocka_unit_test(test_what_is_posted_from_the_queue_itself_runs_before_it_ends),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
