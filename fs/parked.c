#include "fs/parked.h"

#include <errno.h>
#include <stdatomic.h>

static void on_timer(struct timer *t, void *arg);

void parking_init(struct parking *l, struct timer_heap *timers, int64_t patience_ms)
{
	*l = (struct parking){.timers = timers, .patience_ms = patience_ms, .timer.fire = on_timer, .timer.arg = l};
	l->head.next = l->head.prev = &l->head;
	pthread_mutex_init(&l->lock, NULL);
}

void parking_release(struct parking *l)
{
	timer_cancel(l->timers, &l->timer);
	pthread_mutex_destroy(&l->lock);
}

void parked_init(struct parked *p, fuse_req_t req)
{
	p->req = req;
	p->listed = false;
	atomic_store_explicit(&p->refs, 1, memory_order_relaxed);
}

void parked_unref(struct parked *p)
{
	if (atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) == 1)
		p->gone(p);
}

/* locks: the lot's. */
static void unlist(struct parked *p)
{
	p->prev->next = p->next;
	p->next->prev = p->prev;
	p->listed = false;
}

bool parked_take(struct parking *l, struct parked *p)
{
	pthread_mutex_lock(&l->lock);
	bool listed = p->listed;
	if (listed)
		unlist(p);
	pthread_mutex_unlock(&l->lock);
	return listed;
}

/* libfuse may call this for a request that has just been answered, so what it belongs to is looked up, not passed. */
static void on_interrupt(fuse_req_t req, void *arg)
{
	struct parking *l = arg;
	struct parked *p;
	pthread_mutex_lock(&l->lock);
	for (p = l->head.next; p != &l->head && p->req != req; p = p->next)
		;
	if (p != &l->head)
		atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
	pthread_mutex_unlock(&l->lock);
	if (p == &l->head)
		return;
	p->interrupted(p);
	parked_unref(p);
}

void parked_park(struct parking *l, struct parked *p)
{
	/* While on_interrupt runs from inside this call the request must not be answered: so it is listed later. */
	fuse_req_interrupt_func(p->req, on_interrupt, l);
	pthread_mutex_lock(&l->lock);
	p->due = mono_after_ms(mono_now(), l->patience_ms);
	p->next = &l->head;
	p->prev = l->head.prev;
	p->prev->next = p->next->prev = p;
	p->listed = true;
	bool interrupted = fuse_req_interrupted(p->req);
	if (interrupted)
		atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
	/* The timer stays armed when nothing is parked any more: waking its thread for each request would cost more than the request. */
	bool arm = !l->armed;
	l->armed = true;
	mono_t due = p->due;
	pthread_mutex_unlock(&l->lock);
	if (arm)
		timer_arm(l->timers, &l->timer, due);
	if (interrupted) {
		p->interrupted(p);
		parked_unref(p);
	}
}

/* The first of the ring if its time is over, referenced and unlisted; else NULL, and *next is when to look again, 0: nothing is parked. */
static struct parked *take_expired(struct parking *l, mono_t *next)
{
	mono_t now = mono_now();
	pthread_mutex_lock(&l->lock);
	struct parked *p = l->head.next;
	*next = (mono_t){0};
	if (p == &l->head) {
		l->armed = false;
		p = NULL;
	} else if (mono_diff_ns(p->due, now) > 0) {
		*next = p->due;
		p = NULL;
	} else {
		atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
		unlist(p);
	}
	pthread_mutex_unlock(&l->lock);
	return p;
}

static void on_timer(struct timer *t, void *arg)
{
	struct parking *l = arg;
	struct parked *p;
	mono_t next;
	while ((p = take_expired(l, &next))) {
		fuse_reply_err(p->req, EIO);
		p->expired(p);
		parked_unref(p);
	}
	if (next.ns)
		timer_arm(l->timers, t, next);
}
