#include "store/counters.h"

/* Newest first; only ever pushed to, so a walk needs no lock. */
static struct counter *_Atomic registry;

void counter_register(struct counter *c)
{
	if (atomic_exchange_explicit(&c->registered, 1, memory_order_relaxed))
		return;
	struct counter *head = atomic_load_explicit(&registry, memory_order_relaxed);
	do
		c->next = head;
	while (!atomic_compare_exchange_weak_explicit(&registry, &head, c, memory_order_release, memory_order_relaxed));
}

void counters_walk(void (*fn)(void *arg, const struct counter *c), void *arg)
{
	for (struct counter *c = atomic_load_explicit(&registry, memory_order_acquire); c; c = c->next)
		fn(arg, c);
}
