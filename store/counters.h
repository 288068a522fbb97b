/*
 * counters: a registry of counters, cheap enough for every request.
 *
 * Each is a static object of the module that counts; it enters the registry the first time it is touched. Counting is one
 * relaxed atomic add. What prints them walks the registry.
 *
 * thread: any.
 */
#ifndef STORE_COUNTERS_H
#define STORE_COUNTERS_H

#include <stdatomic.h>
#include <stdint.h>

struct counter {
	const char *name; /* Prometheus style: spoolfs_appends_total */
	const char *help;
	_Atomic uint64_t value;
	_Atomic int registered;
	struct counter *next;
};

#define COUNTER(var, metric, text) struct counter var = {.name = metric, .help = text}

void counter_register(struct counter *c);

static inline void counter_add(struct counter *c, uint64_t n)
{
	if (__builtin_expect(!atomic_load_explicit(&c->registered, memory_order_relaxed), 0))
		counter_register(c);
	atomic_fetch_add_explicit(&c->value, n, memory_order_relaxed);
}

/* Calls fn for each registered counter, oldest last. */
void counters_walk(void (*fn)(void *arg, const struct counter *c), void *arg);

#endif
