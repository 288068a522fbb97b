#include "cluster/task.h"

#include <stddef.h>

static const int64_t furthest_ms = INT64_C(1) << 40; /* more is as good as never, and could not be counted in nanoseconds */

/* locks: the task's. */
static void arm(struct task *k, int64_t in_ms)
{
	mono_t due = mono_after_ms(mono_now(), in_ms < furthest_ms ? in_ms : furthest_ms);
	if (k->stopped || (k->armed && k->due.ns <= due.ns))
		return;
	k->due = due;
	k->armed = timer_arm(k->timers, &k->timer, due) == 0;
}

static void run_job(struct pool_job *job)
{
	struct task *k = (struct task *)((char *)job - offsetof(struct task, job));
	int64_t next = k->run(k->arg);
	pthread_mutex_lock(&k->lock);
	bool again = k->running = k->again && !k->stopped;
	k->again = false;
	if (!again && next >= 0)
		arm(k, next);
	pthread_mutex_unlock(&k->lock);
	if (again)
		pool_run(k->pool, &k->job);
}

static void fired(struct timer *t, void *arg)
{
	struct task *k = arg;
	(void)t;
	pthread_mutex_lock(&k->lock);
	bool start = !k->running && !k->stopped;
	k->armed = false;
	k->again = k->running;
	k->running |= start;
	pthread_mutex_unlock(&k->lock);
	if (start)
		pool_run(k->pool, &k->job);
}

void task_init(struct task *k, struct timer_heap *timers, struct pool *pool, int64_t (*run)(void *arg), void *arg)
{
	*k = (struct task){.timers = timers, .pool = pool, .run = run, .arg = arg, .timer = {.fire = fired, .arg = k}, .job.run = run_job};
	pthread_mutex_init(&k->lock, NULL);
}

void task_release(struct task *k)
{
	pthread_mutex_destroy(&k->lock);
}

void task_ask(struct task *k, int64_t in_ms)
{
	pthread_mutex_lock(&k->lock);
	arm(k, in_ms);
	pthread_mutex_unlock(&k->lock);
}

void task_stop(struct task *k)
{
	pthread_mutex_lock(&k->lock);
	k->stopped = true;
	pthread_mutex_unlock(&k->lock);
	timer_cancel(k->timers, &k->timer);
}
