#include "cluster/zk/queue.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A sleep ends at the latest then, as the clock that it is measured by stands still while the machine is suspended. */
static const int64_t max_sleep_ns = INT64_C(10000000000);

struct queue {
	pthread_mutex_t lock;
	pthread_cond_t wake;      /* for the thread: something was posted or armed, or it ends */
	pthread_t thread;
	struct queue_event *head, **tail;
	struct queue_timer timers; /* the ring's head; by deadline, the next first */
	bool asleep, ending;
	char name[16];
};

/* ---- timers; locks: the queue's, held ---- */

static void unlink_timer(struct queue_timer *t)
{
	if (!t->next)
		return;
	t->prev->next = t->next;
	t->next->prev = t->prev;
	t->prev = t->next = NULL;
}

static struct queue_timer *first_timer(struct queue *q)
{
	return q->timers.next == &q->timers ? NULL : q->timers.next;
}

/* Deadlines mostly rise, so the place is looked for from the end. */
static void link_timer(struct queue *q, struct queue_timer *t)
{
	struct queue_timer *before = q->timers.prev;
	while (before != &q->timers && before->due.ns > t->due.ns)
		before = before->prev;
	t->prev = before;
	t->next = before->next;
	t->next->prev = t;
	before->next = t;
}

static void wake(struct queue *q)
{
	if (q->asleep) {
		q->asleep = false; /* one signal is enough */
		pthread_cond_signal(&q->wake);
	}
}

void queue_timer_arm(struct queue *q, struct queue_timer *t, mono_t due)
{
	pthread_mutex_lock(&q->lock);
	unlink_timer(t);
	t->due = due;
	link_timer(q, t);
	if (first_timer(q) == t)
		wake(q);
	pthread_mutex_unlock(&q->lock);
}

void queue_timer_cancel(struct queue *q, struct queue_timer *t)
{
	pthread_mutex_lock(&q->lock);
	unlink_timer(t);
	pthread_mutex_unlock(&q->lock);
}

/* ---- the thread ---- */

static void sleep_until(struct queue *q, mono_t now)
{
	struct queue_timer *t = first_timer(q);
	int64_t ns = t && mono_diff_ns(t->due, now) < max_sleep_ns ? mono_diff_ns(t->due, now) : max_sleep_ns;
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	ns += until.tv_nsec;
	until.tv_sec += ns / 1000000000;
	until.tv_nsec = ns % 1000000000;
	q->asleep = true;
	pthread_cond_timedwait(&q->wake, &q->lock, &until);
	q->asleep = false;
}

static struct queue_timer *take_due(struct queue *q, mono_t now)
{
	struct queue_timer *t = first_timer(q);
	if (!t || t->due.ns > now.ns)
		return NULL;
	unlink_timer(t);
	return t;
}

static struct queue_event *take_event(struct queue *q)
{
	struct queue_event *ev = q->head;
	if (!ev)
		return NULL;
	q->head = ev->next;
	if (!q->head)
		q->tail = &q->head;
	return ev;
}

static void *loop(void *arg)
{
	struct queue *q = arg;
	pthread_setname_np(pthread_self(), q->name);
	pthread_mutex_lock(&q->lock);
	for (;;) {
		mono_t now = mono_now();
		struct queue_timer *t = q->ending ? NULL : take_due(q, now);
		struct queue_event *ev = t ? NULL : take_event(q);
		if (!t && !ev) {
			if (q->ending)
				break;
			sleep_until(q, now);
			continue;
		}
		pthread_mutex_unlock(&q->lock);
		if (t)
			t->fire(t, t->arg);
		else
			ev->run(ev);
		pthread_mutex_lock(&q->lock);
	}
	pthread_mutex_unlock(&q->lock);
	return NULL;
}

static int start(struct queue *q, struct err *e)
{
	sigset_t all, before;
	sigfillset(&all); /* signals are for the main thread, but those that a fault of its own raises */
	static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS};
	for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
		sigdelset(&all, faults[i]);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int r = pthread_create(&q->thread, NULL, loop, q);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return r ? err_set(e, ERR_LIMIT, "cannot start the thread %s: %s", q->name, strerror(r)) : 0;
}

int queue_new(struct queue **out, const char *name, struct err *e)
{
	struct queue *q = calloc(1, sizeof *q);
	*out = NULL;
	if (!q)
		return err_set(e, ERR_NO_MEMORY, "no memory for the queue %s", name);
	pthread_condattr_t monotonic;
	pthread_mutex_init(&q->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&q->wake, &monotonic);
	pthread_condattr_destroy(&monotonic);
	q->tail = &q->head;
	q->timers.prev = q->timers.next = &q->timers;
	strncpy(q->name, name, sizeof q->name - 1);
	int rc = start(q, e);
	if (rc < 0) {
		pthread_cond_destroy(&q->wake);
		pthread_mutex_destroy(&q->lock);
		free(q);
		return rc;
	}
	*out = q;
	return 0;
}

void queue_free(struct queue *q)
{
	if (!q)
		return;
	pthread_mutex_lock(&q->lock);
	q->ending = true;
	wake(q);
	pthread_mutex_unlock(&q->lock);
	pthread_join(q->thread, NULL);
	pthread_cond_destroy(&q->wake);
	pthread_mutex_destroy(&q->lock);
	free(q);
}

void queue_post(struct queue *q, struct queue_event *ev)
{
	pthread_mutex_lock(&q->lock);
	ev->next = NULL;
	*q->tail = ev;
	q->tail = &ev->next;
	wake(q);
	pthread_mutex_unlock(&q->lock);
}

bool queue_is_here(const struct queue *q)
{
	return pthread_equal(q->thread, pthread_self());
}

struct call {
	struct queue_event event;
	void (*fn)(void *arg);
	void *arg;
	pthread_mutex_t lock;
	pthread_cond_t done_cond;
	bool done;
};

static void run_call(struct queue_event *ev)
{
	struct call *c = (struct call *)ev;
	c->fn(c->arg);
	pthread_mutex_lock(&c->lock);
	c->done = true;
	pthread_cond_signal(&c->done_cond);
	pthread_mutex_unlock(&c->lock);
}

void queue_call(struct queue *q, void (*fn)(void *arg), void *arg)
{
	if (queue_is_here(q)) {
		fn(arg);
		return;
	}
	struct call c = {.event.run = run_call, .fn = fn, .arg = arg};
	pthread_mutex_init(&c.lock, NULL);
	pthread_cond_init(&c.done_cond, NULL);
	queue_post(q, &c.event);
	pthread_mutex_lock(&c.lock);
	while (!c.done)
		pthread_cond_wait(&c.done_cond, &c.lock);
	pthread_mutex_unlock(&c.lock);
	pthread_cond_destroy(&c.done_cond);
	pthread_mutex_destroy(&c.lock);
}
