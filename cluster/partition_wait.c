/*
 * Who waits for the high watermark: appends with acks=all, and flushes. They stand in the order of their offsets, so that one pass from the front answers all whose offset is
 * reached, each once: whoever takes it off the list, under isr_lock, calls `ready`, with no lock held.
 */
#include "cluster/model.h"

/* locks: isr_lock. */
static void take_off(struct partition *p, struct waiter *w)
{
	*(w->previous ? &w->previous->next : &p->wait_first) = w->next;
	*(w->next ? &w->next->previous : &p->wait_last) = w->previous;
	w->waits = false;
}

/* Offsets come in order, but for duplicates, which are of before. locks: isr_lock. */
static void put_on(struct partition *p, struct waiter *w)
{
	struct waiter *before = p->wait_last;
	while (before && before->offset > w->offset)
		before = before->previous;
	w->previous = before;
	w->next = before ? before->next : p->wait_first;
	*(before ? &before->next : &p->wait_first) = w;
	*(w->next ? &w->next->previous : &p->wait_last) = w;
	w->waits = true;
}

bool partition_has_enough(const struct partition *p)
{
	int32_t least = p->topic->min_insync;
	return isr_size(&p->isr) >= (least < p->isr.count ? least : p->isr.count);
}

static const char *sentence(int code)
{
	return code == ERR_NOT_LEADER ? "this broker does not lead the partition any more: whether the messages stay is not known"
				      : "the messages are in the log, but fewer replicas are in sync than min.insync.replicas asks for";
}

void partition_await(struct partition *p, struct waiter *w, int32_t epoch)
{
	int code = 0;
	bool waits = false;
	pthread_mutex_lock(&p->isr_lock);
	w->waits = false;
	if (p->role != ROLE_LEADER || epoch < p->led_since)
		code = ERR_NOT_LEADER; /* since it was written */
	else if (p->high_offset >= w->offset)
		code = 0;
	else if (!partition_has_enough(p))
		code = ERR_NOT_ENOUGH_AFTER;
	else {
		put_on(p, w);
		waits = true;
	}
	pthread_mutex_unlock(&p->isr_lock);
	if (!waits)
		w->ready(p, w, code, code ? sentence(code) : NULL);
}

/* Those whose offset is at most `upto`, linked by next, first to last. locks: isr_lock. */
static struct waiter *take_reached(struct partition *p, int64_t upto)
{
	struct waiter *first = p->wait_first, *last = NULL;
	for (struct waiter *w = first; w && w->offset <= upto; w = w->next) {
		w->waits = false;
		last = w;
	}
	if (!last)
		return NULL;
	p->wait_first = last->next;
	*(last->next ? &last->next->previous : &p->wait_last) = NULL;
	last->next = NULL;
	return first;
}

static void finish_all(struct partition *p, struct waiter *w, int code, const char *why)
{
	while (w) {
		struct waiter *next = w->next; /* it may be freed at once */
		w->ready(p, w, code, why);
		w = next;
	}
}

void partition_answer(struct partition *p)
{
	pthread_mutex_lock(&p->isr_lock);
	struct waiter *w = take_reached(p, p->high_offset);
	pthread_mutex_unlock(&p->isr_lock);
	finish_all(p, w, 0, NULL);
}

struct waiter *partition_take_waiters(struct partition *p)
{
	return take_reached(p, INT64_MAX);
}

void partition_fail_waiters(struct partition *p, struct waiter *w, int code, const char *why)
{
	finish_all(p, w, code, why ? why : sentence(code));
}

bool partition_wait_no_longer(struct partition *p, struct waiter *w)
{
	pthread_mutex_lock(&p->isr_lock);
	bool waits = w->waits;
	if (waits)
		take_off(p, w);
	pthread_mutex_unlock(&p->isr_lock);
	if (waits)
		w->ready(p, w, ERR_TIMED_OUT, "the messages are in the log, but the other replicas did not have them in time");
	return waits;
}
