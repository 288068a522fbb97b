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
 * A struct delayed_watch stays on a list until it is taken off: it is for who watches thousands of partitions from one request to the next, and would not enter and leave all their lists
 * each time. It is told that something has happened, by a call under the list's lock that only notes which; the bell that this returns is rung when the lock is let go of.
 *
 * Growth is counted on three channels, as readers of a partition see different ends: the log end, the high watermark, the last stable offset.
 *
 * thread: any. locks: a list's own mutex; nothing is called under it but `raise` of watches, which may take a leaf of its own.
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

struct delayed_bell { /* of who has watches: rung once for whatever was raised before that */
	void (*ring)(struct delayed_bell *b);
	struct delayed_bell *next;               /* private; of one chain at a time: see raise */
};

struct delayed_watch {
	/* NULL, or a bell to be rung: it is not given to anybody else before it has rung, and stays until then. locks: the list's. */
	struct delayed_bell *(*raise)(struct delayed_watch *w);
	struct delayed_list *list;               /* private, as */
	struct delayed_watch *next, **link;
};

struct delayed_list { /* embedded in what is waited for */
	pthread_mutex_t lock;
	struct delayed_key *first;               /* lock */
	struct delayed_watch *watches;           /* lock */
	_Atomic bool watched;                    /* there are any */
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
/* Has everybody on that channel asked again (DELAYED_CHANNELS: on all, and watches are told): something else has changed. */
void delayed_wake(struct delayed_list *l, enum delayed_channel channel);

/* From here on w is told of what delayed_raise and delayed_wake (of all channels) are called for. w->raise is set. */
void delayed_watch(struct delayed_list *l, struct delayed_watch *w);
/* Its raise is not called any more, nor running, when this returns. */
void delayed_unwatch(struct delayed_watch *w);
/* Something was published that watches may want to know of. locks: none held. */
void delayed_raise(struct delayed_list *l);

#endif
