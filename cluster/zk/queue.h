/*
 * queue: one thread, one FIFO of events, and timers on the same thread. The controller and the membership of a broker run on one: what ZooKeeper, connections
 * and requests have to say to them is posted, and handled one event after the other, so that their state needs no lock.
 *
 * An event is a struct embedded in what it carries. It belongs to the queue from queue_post until `run` is called, then to `run`, which usually frees it. Posting
 * takes no memory and waits for nothing: it cannot fail. Events run in the order posted. A timer that is due runs before the next event, so a flood of events delays none; timers run
 * in the order of their deadlines, on CLOCK_BOOTTIME.
 *
 * thread: any for queue_post, queue_call and queue_timer_arm; the queue's for queue_timer_cancel. locks: the queue's own mutex, a leaf; none is held while events and timers run.
 */
#ifndef CLUSTER_ZK_QUEUE_H
#define CLUSTER_ZK_QUEUE_H

#include <stdbool.h>

#include "store/clock.h"
#include "store/err.h"

struct queue;

struct queue_event {
	struct queue_event *next;            /* private */
	void (*run)(struct queue_event *ev); /* on the queue's thread */
};

struct queue_timer {
	struct queue_timer *prev, *next; /* private; both NULL: not armed */
	mono_t due;
	void (*fire)(struct queue_timer *t, void *arg); /* on the queue's thread; may arm it again */
	void *arg;
};

/* Starts the thread. name: up to 15 bytes are what `top -H` shows. ERR_NO_MEMORY, ERR_LIMIT. */
int queue_new(struct queue **out, const char *name, struct err *e);
/* Runs what was posted before, forgets armed timers, ends the thread. Not from the queue's thread. Nobody posts any more. NULL is fine. */
void queue_free(struct queue *q);

void queue_post(struct queue *q, struct queue_event *ev);
bool queue_is_here(const struct queue *q); /* whether the caller is the queue's thread */
/* Runs fn(arg) on the queue's thread, behind what was posted before, and returns when it is done; at once when called on that thread. */
void queue_call(struct queue *q, void (*fn)(void *arg), void *arg);

/* Arms t, or moves it if it is armed. */
void queue_timer_arm(struct queue *q, struct queue_timer *t, mono_t due);
void queue_timer_cancel(struct queue *q, struct queue_timer *t); /* it does not fire after this */

#endif
