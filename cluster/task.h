/*
 * task: background work of one kind, done by the pool when its time comes, one at a time.
 *
 *   1. task_ask says by when it is to be done. Of several times that are asked for the nearest counts: asking again and again does not put it off.
 *   2. It is begun after it was asked for. Where its time comes while it is being done it is done once more, so that who asks meanwhile is not missed.
 *   3. What it returns is the next time, unless an earlier one was asked for.
 *
 * Embedded in what it is for, and owned by it. thread: any. locks: the task's own mutex; the timer heap's is taken under it.
 */
#ifndef CLUSTER_TASK_H
#define CLUSTER_TASK_H

#include <pthread.h>
#include <stdbool.h>

#include "store/pool.h"
#include "store/timer.h"

struct task {
	struct timer_heap *timers;
	struct pool *pool;
	int64_t (*run)(void *arg);
	void *arg;
	struct timer timer;
	struct pool_job job;
	pthread_mutex_t lock;  /* all below */
	mono_t due;            /* while it is armed */
	bool armed, running, again, stopped;
};

/* run returns the milliseconds until the next time; -1: when it is asked for. thread: the pool's, which may block. */
void task_init(struct task *k, struct timer_heap *timers, struct pool *pool, int64_t (*run)(void *arg), void *arg);
void task_release(struct task *k); /* it was stopped, and the pool has run out */

void task_ask(struct task *k, int64_t in_ms); /* after task_stop: nothing */
void task_stop(struct task *k);               /* it is not begun any more; one that is under way goes on */

#endif
