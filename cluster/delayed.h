/*
 * delayed: requests that wait for something to happen to a partition without holding a thread: a Fetch for bytes.
 *
 * A `struct delayed` is embedded in what waits and is owned by it. It stands on one or more lists (one a partition) through a
 * struct delayed_key each, and on the timer heap with its deadline. What happens to a partition wakes those on its list, and nobody else.
 *
 *   1. delayed_park puts it on its lists, arms the timer, and only then asks missing(): what happens meanwhile is not missed.
 *   2. missing() says how much is missing: 0 or less, it is satisfied; else so many bytes (anything positive, where it is no matter of bytes).
 *   3. As a list grows, the bytes are counted off, which costs an atomic operation for each that waits there; missing() is asked again when none is left, and for what is
 *      no matter of bytes (delayed_wake).
 *   4. complete() is called exactly once: satisfied, expired or cancelled. By then it is on no list and its timer is not armed, and delayed does not touch it any
 *      more: complete may free it. Only where delayed_cancel has returned true is it not called.
 *
 * Who may do something with a parked struct is one atomic word: whoever takes it from idle to claimed asks missing() and completes, and everybody else leaves a note
 * in it, which the claimer looks at before letting go. So missing() is never called twice at once, and no lock is held over it or over complete().
 *
 * missing() and complete() run on whichever thread brought it about: an appender, the timer heap's, the caller of delayed_park. They must not block; long work goes to whom it
 * belongs. What the keys' lists are in (a partition) is kept alive by the owner until complete.
 *
 * Growth is counted on three channels, as readers of a partition see different ends: the log end, the high watermark, the last stable offset.
 *
 * thread: any. locks: a list's own mutex, a leaf: nothing is called under it.
 */
#ifndef CLUSTER_DELAYED_H
#define CLUSTER_DELAYED_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "store/timer.h"

enum delayed_channel { DELAYED_END, DELAYED_HIGH, DELAYED_STABLE, DELAYED_CHANNELS };
enum delayed_verdict { DELAYED_SATISFIED, DELAYED_EXPIRED, DELAYED_CANCELLED };

struct delayed_list { /* embedded in what is waited for */
	pthread_mutex_t lock;
	struct delayed_key *first;               /* lock */
	_Atomic int64_t grown[DELAYED_CHANNELS]; /* totals of bytes, which only rise */
	_Atomic int64_t least[DELAYED_CHANNELS]; /* below that total nobody need be looked at; INT64_MAX: nobody is there */
};

struct delayed;

struct delayed_key { /* the owner sets list and channel; the rest is private */
	struct delayed_list *list;
	enum delayed_channel channel;
	struct delayed *waits;
	struct delayed_key *next, **link; /* the list's lock */
	int64_t seen, look_at;            /* the list's lock: totals: up to where it was counted off, and from where on to look again */
};

struct delayed {
	struct delayed_key *key; /* the owner's, key_count of them, in place until complete */
	uint32_t key_count;
	int64_t (*missing)(struct delayed *d);
	void (*complete)(struct delayed *d, enum delayed_verdict how);
	/* private: */
	_Atomic uint32_t state;
	_Atomic int64_t left;
	struct timer_heap *timers;
	struct timer timer;
	struct delayed *next_ready;
};

void delayed_list_init(struct delayed_list *l);
void delayed_list_release(struct delayed_list *l); /* nobody is on it */

/* From here on delayed_cancel may be called; where it comes before delayed_park, that completes d at once. */
void delayed_init(struct delayed *d);
/* d is initialized; key, key_count, missing and complete are set. complete may have been called when it returns. deadline: of mono_now's clock. Without the memory to arm the timer
 * it expires at once. */
void delayed_park(struct delayed *d, struct timer_heap *timers, mono_t deadline);

/* d is initialized, and its memory is still there (the owner sees to that: complete may run at the same time). true: it is off all lists, complete will not be called, d is the
 * caller's. false: complete was called, is being called, or will be in a moment (with DELAYED_CANCELLED, if nothing else came first). */
bool delayed_cancel(struct delayed *d);

/* The list's total on that channel is `total` now; a smaller one than before changes nothing. What became visible was published before. */
void delayed_grow(struct delayed_list *l, enum delayed_channel channel, int64_t total);
/* Has everybody on that channel asked again (DELAYED_CHANNELS: on all): something else has changed. */
void delayed_wake(struct delayed_list *l, enum delayed_channel channel);

#endif
