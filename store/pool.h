/*
 * pool: a bounded set of worker threads for work that may block (fsync, opening and recovering logs, reading ahead).
 *
 * Threads are started when work waits and no thread is idle, up to the bound, and end after some idle seconds: an
 * idle daemon has none. Jobs run in the order given. The job struct is embedded in what it is for; it belongs to the
 * pool from pool_run until its function is called, and may be freed or given again by that function.
 *
 * thread: any. locks: the pool's own mutex, a leaf; jobs run without it.
 */
#ifndef STORE_POOL_H
#define STORE_POOL_H

#include <stddef.h>

struct pool;

struct pool_job {
	struct pool_job *next;
	void (*run)(struct pool_job *job);
};

struct pool *pool_new(const char *thread_name, unsigned max_threads); /* NULL: no memory */

/* Waits until every job given has run, ends the threads, frees the pool. No job may be given meanwhile. NULL is fine. */
void pool_free(struct pool *p);

/* Never fails and never blocks: with no thread to be had (and none running) the job runs in the caller. */
void pool_run(struct pool *p, struct pool_job *job);

/* Runs fn(arg, i) for i in [0, n), on the pool's threads and the caller's own, and returns when all have run. */
void pool_for_each(struct pool *p, size_t n, void (*fn)(void *arg, size_t i), void *arg);

#endif
