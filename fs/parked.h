/*
 * parked: requests of the mount that wait without a thread.
 *
 * Each is answered exactly once, by whoever takes it: the one it waits for (parked_take), or the lot's timer, which answers EIO when its
 * time is over. A FUSE_INTERRUPT calls `interrupted`, which may bring about the former.
 *
 * A struct parked is embedded in what waits. It is reference-counted, because an interrupt or the timer may look at it while its owner is done with it: from
 * parked_init until the last parked_unref it stays as it is; then `gone` is called.
 *
 *   1. parked_park lists it.
 *   2. parked_take unlists it: true: the caller answers now. false: it was answered.
 *   3. parked_unref.
 *
 * thread: any. locks: the lot's own mutex, a leaf; no callback runs under it.
 */
#ifndef FS_PARKED_H
#define FS_PARKED_H

#include <fuse3/fuse_lowlevel.h>
#include <pthread.h>
#include <stdbool.h>

#include "store/timer.h"

struct parked {
	struct parked *next, *prev;
	fuse_req_t req;
	mono_t due;
	_Atomic int refs;
	bool listed;
	void (*interrupted)(struct parked *p); /* may be called by parked_park, and after parked_take */
	void (*expired)(struct parked *p);     /* told after EIO was answered; must not block */
	void (*gone)(struct parked *p);
};

struct parking {
	pthread_mutex_t lock;
	struct parked head; /* of the ring, by time: all have the same patience */
	struct timer_heap *timers; /* borrowed */
	struct timer timer;
	bool armed;
	int64_t patience_ms;
};

void parking_init(struct parking *l, struct timer_heap *timers, int64_t patience_ms);
void parking_release(struct parking *l); /* nothing is parked any more */

void parked_init(struct parked *p, fuse_req_t req);
void parked_park(struct parking *l, struct parked *p);
bool parked_take(struct parking *l, struct parked *p);
void parked_unref(struct parked *p);

#endif
