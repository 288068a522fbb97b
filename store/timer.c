#include "store/timer.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "store/err.h"

/* The longest single sleep. mono_t goes on during suspend and CLOCK_MONOTONIC, which a condition can wait on, does not:
 * after a resume what came due meanwhile fires this much late at the most. */
static const int64_t max_sleep_ns = INT64_C(10000000000);

struct timer_heap {
	pthread_mutex_t lock;
	pthread_cond_t wake;  /* a new first deadline, or stop: for the thread in timer_run */
	pthread_cond_t fired; /* a callback has returned: for those who cancel it */
	struct timer **v;     /* v[i] is due no later than v[2i+1] and v[2i+2]; v[i]->slot is i+1 */
	size_t n, cap;
	const struct timer *running; /* only compared: its callback may have freed it */
	pthread_t runner;            /* the thread that runs it */
	bool unwanted;               /* someone waits to cancel it: its callback cannot arm it again */
	bool stopped;
	mono_t asleep_until;         /* of the thread in timer_run; long past while it is not asleep. A timer that is cancelled does not wake it, so that arming
				      * and cancelling the same deadline again and again costs no wake-up each time */
};

struct timer_heap *timer_heap_new(void)
{
	struct timer_heap *h = calloc(1, sizeof *h);
	if (!h)
		return NULL;
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&h->wake, &attr);
	pthread_condattr_destroy(&attr);
	pthread_cond_init(&h->fired, NULL);
	pthread_mutex_init(&h->lock, NULL);
	return h;
}

void timer_heap_free(struct timer_heap *h)
{
	if (!h)
		return;
	pthread_cond_destroy(&h->wake);
	pthread_cond_destroy(&h->fired);
	pthread_mutex_destroy(&h->lock);
	free(h->v);
	free(h);
}

static void put_at(struct timer_heap *h, size_t i, struct timer *t)
{
	h->v[i] = t;
	t->slot = i + 1;
}

/* Finds t's place from i upwards or downwards and puts it there. */
static void sift(struct timer_heap *h, size_t i, struct timer *t)
{
	while (i && t->due.ns < h->v[(i - 1) / 2]->due.ns) {
		put_at(h, i, h->v[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	for (;;) {
		size_t child = 2 * i + 1;
		if (child + 1 < h->n && h->v[child + 1]->due.ns < h->v[child]->due.ns)
			child++;
		if (child >= h->n || t->due.ns <= h->v[child]->due.ns)
			break;
		put_at(h, i, h->v[child]);
		i = child;
	}
	put_at(h, i, t);
}

static void take_out(struct timer_heap *h, struct timer *t)
{
	size_t i = t->slot - 1;
	t->slot = 0;
	struct timer *last = h->v[--h->n];
	if (last != t)
		sift(h, i, last);
}

/* A place at the end for one more. locks: the heap's, held. */
static bool make_room(struct timer_heap *h)
{
	if (h->n < h->cap)
		return true;
	size_t cap = h->cap ? 2 * h->cap : 16;
	struct timer **v = realloc(h->v, cap * sizeof *v);
	if (!v)
		return false;
	h->v = v;
	h->cap = cap;
	return true;
}

int timer_arm(struct timer_heap *h, struct timer *t, mono_t due)
{
	int r = 0;
	pthread_mutex_lock(&h->lock);
	if (t == h->running && h->unwanted) {
		/* Else a timer that is always due again at once could be fired for ever before its canceller gets the lock. */
	} else if (t->slot) {
		t->due = due;
		sift(h, t->slot - 1, t);
	} else if (make_room(h)) {
		t->due = due;
		h->n++;
		sift(h, h->n - 1, t);
	} else
		r = ERR_NO_MEMORY;
	if (t->slot == 1 && due.ns < h->asleep_until.ns) {
		h->asleep_until = due; /* one signal is enough */
		pthread_cond_signal(&h->wake);
	}
	pthread_mutex_unlock(&h->lock);
	return r;
}

void timer_cancel(struct timer_heap *h, struct timer *t)
{
	pthread_mutex_lock(&h->lock);
	for (;;) {
		if (t->slot)
			take_out(h, t);
		if (h->running != t || pthread_equal(h->runner, pthread_self()))
			break;
		h->unwanted = true;
		pthread_cond_wait(&h->fired, &h->lock);
	}
	pthread_mutex_unlock(&h->lock);
}

/* Fires the first timer if it is due. locks: the heap's, held, and left meanwhile. */
static bool fire_first(struct timer_heap *h, mono_t now)
{
	if (!h->n || h->v[0]->due.ns > now.ns)
		return false;
	struct timer *t = h->v[0];
	take_out(h, t);
	h->running = t;
	h->runner = pthread_self();
	pthread_mutex_unlock(&h->lock);
	t->fire(t, t->arg); /* t may be gone when this returns */
	pthread_mutex_lock(&h->lock);
	h->running = NULL;
	h->unwanted = false;
	pthread_cond_broadcast(&h->fired);
	return true;
}

size_t timer_run_due(struct timer_heap *h, mono_t now)
{
	size_t count = 0;
	pthread_mutex_lock(&h->lock);
	while (fire_first(h, now))
		count++;
	pthread_mutex_unlock(&h->lock);
	return count;
}

/* Sleeps until the first deadline, a new first one, or stop; may come back early. locks: the heap's, held. */
static void sleep_until_first(struct timer_heap *h, mono_t now)
{
	int64_t ns = max_sleep_ns;
	if (h->n && mono_diff_ns(h->v[0]->due, now) < ns)
		ns = mono_diff_ns(h->v[0]->due, now);
	h->asleep_until = (mono_t){now.ns + ns};
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	ns += until.tv_nsec;
	until.tv_sec += ns / 1000000000;
	until.tv_nsec = ns % 1000000000;
	pthread_cond_timedwait(&h->wake, &h->lock, &until);
	h->asleep_until = (mono_t){INT64_MIN};
}

void timer_run(struct timer_heap *h)
{
	pthread_mutex_lock(&h->lock);
	while (!h->stopped) {
		mono_t now = mono_now();
		if (!fire_first(h, now))
			sleep_until_first(h, now);
	}
	pthread_mutex_unlock(&h->lock);
}

void timer_stop(struct timer_heap *h)
{
	pthread_mutex_lock(&h->lock);
	h->stopped = true;
	pthread_cond_broadcast(&h->wake);
	pthread_mutex_unlock(&h->lock);
}
