/*
 * timer: one binary heap of deadlines, served by whoever owns it (the agent's scheduler thread).
 *
 * A `struct timer` is embedded in what it is for and owned by it; it must be cancelled before that is freed.
 * The callback runs on the thread that calls timer_run, with no lock of the heap held; it may arm its own timer
 * again. Cancelling waits for a callback that is running (unless called from that callback); what it arms meanwhile is
 * cancelled too.
 *
 * thread: any for arm and cancel; one thread runs the heap. locks: the heap's own mutex, a leaf.
 */
#ifndef STORE_TIMER_H
#define STORE_TIMER_H

#include <stdbool.h>
#include <stddef.h>

#include "store/clock.h"

struct timer_heap;

struct timer {
	mono_t due;
	size_t slot; /* place in the heap plus one; 0: not armed */
	void (*fire)(struct timer *t, void *arg);
	void *arg;
};

struct timer_heap *timer_heap_new(void); /* NULL: no memory */
void timer_heap_free(struct timer_heap *h); /* armed timers are forgotten, not fired */

/* Arms t, or moves it if it is armed. Returns 0 or ERR_NO_MEMORY. Wakes the thread in timer_run if needed. */
int timer_arm(struct timer_heap *h, struct timer *t, mono_t due);
void timer_cancel(struct timer_heap *h, struct timer *t);

/* Fires what is due and waits for the next, until timer_stop: then it returns, also when called again. */
void timer_run(struct timer_heap *h);
void timer_stop(struct timer_heap *h);

/* For tests and single-threaded use: fires everything due at `now`, returns how many fired. */
size_t timer_run_due(struct timer_heap *h, mono_t now);

#endif
