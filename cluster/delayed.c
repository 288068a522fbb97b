#include "cluster/delayed.h"

#include <stddef.h>

/* 0: idle: parked, and nobody is about to do anything with it. Only who takes it from there to CLAIMED may. */
enum {
	CLAIMED = 1,
	AGAIN = 2,     /* notes for the claimer: something happened since missing() was asked, */
	EXPIRED = 4,   /* the deadline came, */
	CANCELLED = 8, /* the owner wants no more of it */
	OVER = 16,     /* complete is being called, or never will be */
};

/* ---- one that waits ---- */

/* Leaves the note. true: it was idle, and is the caller's now. */
static bool claim(struct delayed *d, uint32_t note)
{
	uint32_t s = d->state;
	while (!atomic_compare_exchange_weak(&d->state, &s, s | note | CLAIMED))
		;
	return s == 0;
}

static void leave_lists(struct delayed *d)
{
	for (uint32_t i = 0; i < d->key_count; i++) {
		struct delayed_key *k = &d->key[i];
		struct delayed_list *l = k->list;
		pthread_mutex_lock(&l->lock);
		*k->link = k->next;
		if (k->next)
			k->next->link = k->link;
		if (!l->first)
			for (int c = 0; c < DELAYED_CHANNELS; c++)
				l->least[c] = INT64_MAX;
		pthread_mutex_unlock(&l->lock);
	}
	timer_cancel(d->timers, &d->timer);
}

/* The claimer's: asks until nothing has happened meanwhile, then either completes it or lets go of it. */
static void attend(struct delayed *d)
{
	for (;;) {
		uint32_t s = atomic_fetch_and(&d->state, ~(uint32_t)AGAIN);
		enum delayed_verdict how = s & CANCELLED ? DELAYED_CANCELLED : s & EXPIRED ? DELAYED_EXPIRED : DELAYED_SATISFIED;
		int64_t missing = how == DELAYED_SATISFIED ? d->missing(d) : 0;
		if (missing <= 0) {
			d->state |= OVER;
			leave_lists(d);
			d->complete(d, how);
			return;
		}
		d->left = missing;
		uint32_t quiet = CLAIMED;
		if (atomic_compare_exchange_strong(&d->state, &quiet, 0))
			return; /* others may have completed and freed it by now */
	}
}

static void deadline_came(struct timer *t, void *arg)
{
	struct delayed *d = arg;
	(void)t;
	if (claim(d, EXPIRED))
		attend(d);
}

static void enter_list(struct delayed_key *k)
{
	struct delayed_list *l = k->list;
	pthread_mutex_lock(&l->lock);
	k->seen = l->grown[k->channel];
	k->look_at = k->seen + 1;
	if (k->look_at < l->least[k->channel])
		l->least[k->channel] = k->look_at;
	k->next = l->first;
	k->link = &l->first;
	if (k->next)
		k->next->link = &k->next;
	l->first = k;
	pthread_mutex_unlock(&l->lock);
}

void delayed_init(struct delayed *d)
{
	d->state = CLAIMED; /* by whoever parks it */
}

void delayed_park(struct delayed *d, struct timer_heap *timers, mono_t deadline)
{
	d->left = 0;
	d->timers = timers;
	d->timer = (struct timer){.fire = deadline_came, .arg = d};
	for (uint32_t i = 0; i < d->key_count; i++) {
		d->key[i].waits = d;
		enter_list(&d->key[i]);
	}
	if (timer_arm(timers, &d->timer, deadline) < 0)
		d->state |= EXPIRED;
	attend(d);
}

bool delayed_cancel(struct delayed *d)
{
	if (!claim(d, CANCELLED))
		return false;
	d->state |= OVER;
	leave_lists(d);
	return true;
}

/* ---- what they wait for ---- */

void delayed_list_init(struct delayed_list *l)
{
	pthread_mutex_init(&l->lock, NULL);
	l->first = NULL;
	l->watches = NULL;
	l->watched = false;
	for (int c = 0; c < DELAYED_CHANNELS; c++) {
		l->grown[c] = 0;
		l->least[c] = INT64_MAX;
	}
}

void delayed_list_release(struct delayed_list *l)
{
	pthread_mutex_destroy(&l->lock);
}

/* Those taken off the list's hands, in the order they came: the list has the newest first. */
static void attend_all(struct delayed *ready)
{
	while (ready) {
		struct delayed *d = ready;
		ready = d->next_ready;
		attend(d);
	}
}

/* Counts off what the list has grown by. true: it is the caller's now. locks: the list's. */
static bool count_off(struct delayed_key *k, int64_t total)
{
	struct delayed *d = k->waits;
	int64_t by = total - k->seen, left;
	k->seen = total;
	k->look_at = total + 1;
	/* Who holds it asks again: what was counted off now could be lost in what it is about to write. Who takes it from here on will see what has grown. */
	if (d->state)
		return claim(d, AGAIN);
	left = atomic_fetch_sub(&d->left, by) - by;
	if (left <= 0)
		return claim(d, AGAIN);
	if (d->key_count == 1)
		k->look_at = total + left;
	return false;
}

void delayed_grow(struct delayed_list *l, enum delayed_channel channel, int64_t total)
{
	struct delayed *ready = NULL;
	int64_t before = l->grown[channel], least = INT64_MAX;
	while (before < total && !atomic_compare_exchange_weak(&l->grown[channel], &before, total))
		;
	/* who enters after this has been looked at asks missing() after that: it sees what has grown */
	if (total < l->least[channel])
		return;
	pthread_mutex_lock(&l->lock);
	total = l->grown[channel];
	for (struct delayed_key *k = l->first; k; k = k->next) {
		if (k->channel != channel)
			continue;
		if (k->look_at <= total && count_off(k, total)) {
			k->waits->next_ready = ready;
			ready = k->waits;
		}
		if (k->look_at < least)
			least = k->look_at;
	}
	l->least[channel] = least;
	pthread_mutex_unlock(&l->lock);
	attend_all(ready);
}

/* locks: the list's. */
static struct delayed_bell *raise_all(struct delayed_list *l)
{
	struct delayed_bell *bells = NULL, *b;
	for (struct delayed_watch *w = l->watches; w; w = w->next)
		if ((b = w->raise(w))) {
			b->next = bells;
			bells = b;
		}
	return bells;
}

static void ring_all(struct delayed_bell *b)
{
	while (b) {
		struct delayed_bell *next = b->next; /* it may be given to another once it rings */
		b->ring(b);
		b = next;
	}
}

void delayed_raise(struct delayed_list *l)
{
	if (!l->watched) /* who begins to watch after this looks after that */
		return;
	pthread_mutex_lock(&l->lock);
	struct delayed_bell *bells = raise_all(l);
	pthread_mutex_unlock(&l->lock);
	ring_all(bells);
}

void delayed_watch(struct delayed_list *l, struct delayed_watch *w)
{
	pthread_mutex_lock(&l->lock);
	w->list = l;
	w->next = l->watches;
	w->link = &l->watches;
	if (w->next)
		w->next->link = &w->next;
	l->watches = w;
	l->watched = true;
	pthread_mutex_unlock(&l->lock);
}

void delayed_unwatch(struct delayed_watch *w)
{
	pthread_mutex_lock(&w->list->lock);
	*w->link = w->next;
	if (w->next)
		w->next->link = w->link;
	w->list->watched = w->list->watches != NULL;
	pthread_mutex_unlock(&w->list->lock);
}

void delayed_wake(struct delayed_list *l, enum delayed_channel channel)
{
	struct delayed *ready = NULL;
	struct delayed_bell *bells = NULL;
	pthread_mutex_lock(&l->lock);
	for (struct delayed_key *k = l->first; k; k = k->next)
		if ((channel == DELAYED_CHANNELS || k->channel == channel) && claim(k->waits, AGAIN)) {
			k->waits->next_ready = ready;
			ready = k->waits;
		}
	if (channel == DELAYED_CHANNELS)
		bells = raise_all(l);
	pthread_mutex_unlock(&l->lock);
	attend_all(ready);
	ring_all(bells);
}
