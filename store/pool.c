#include "store/pool.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum {
	IDLE_S = 5,       /* a thread without work ends after this long */
	MAX_HELPERS = 64, /* threads that one pool_for_each asks for */
};

struct pool {
	pthread_mutex_t lock;
	pthread_cond_t work; /* a job was queued, or the pool ends */
	pthread_cond_t gone; /* the last thread has ended */
	struct pool_job *head, **tail;
	size_t queued;
	unsigned threads, idle, max_threads; /* idle: of the threads, those that wait for work */
	bool ending;
	char name[16]; /* what the kernel keeps of a thread's name */
};

struct pool *pool_new(const char *thread_name, unsigned max_threads)
{
	struct pool *p = calloc(1, sizeof *p);
	if (!p)
		return NULL;
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&p->work, &attr);
	pthread_condattr_destroy(&attr);
	pthread_cond_init(&p->gone, NULL);
	pthread_mutex_init(&p->lock, NULL);
	p->tail = &p->head;
	p->max_threads = max_threads;
	snprintf(p->name, sizeof p->name, "%.15s", thread_name);
	return p;
}

static struct pool_job *take_job(struct pool *p)
{
	struct pool_job *job = p->head;
	p->head = job->next;
	if (!p->head)
		p->tail = &p->head;
	p->queued--;
	return job;
}

/* locks: the pool's, held. false: the thread has nothing to do any more. */
static bool wait_for_work(struct pool *p)
{
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += IDLE_S;
	int r = 0;
	p->idle++;
	while (!p->head && !p->ending && r != ETIMEDOUT)
		r = pthread_cond_timedwait(&p->work, &p->lock, &until);
	p->idle--;
	return p->head != NULL;
}

static void *worker(void *arg)
{
	struct pool *p = arg;
	pthread_setname_np(pthread_self(), p->name);
	pthread_mutex_lock(&p->lock);
	while (p->head || wait_for_work(p)) {
		struct pool_job *job = take_job(p);
		pthread_mutex_unlock(&p->lock);
		job->run(job);
		pthread_mutex_lock(&p->lock);
	}
	if (!--p->threads)
		pthread_cond_broadcast(&p->gone);
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

/* Signals are for the main thread: workers block all but those a fault of their own raises. */
static void block_signals(sigset_t *before)
{
	sigset_t all;
	sigfillset(&all);
	static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS};
	for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
		sigdelset(&all, faults[i]);
	pthread_sigmask(SIG_SETMASK, &all, before);
}

/* locks: the pool's, held. Detached: an idle thread ends when it likes, and pool_free goes by the count. */
static void start_thread(struct pool *p)
{
	pthread_attr_t attr;
	pthread_t thread;
	sigset_t before;
	if (pthread_attr_init(&attr))
		return;
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	block_signals(&before);
	if (!pthread_create(&thread, &attr, worker, p))
		p->threads++;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
}

void pool_run(struct pool *p, struct pool_job *job)
{
	bool here = false;
	pthread_mutex_lock(&p->lock);
	job->next = NULL;
	*p->tail = job;
	p->tail = &job->next;
	p->queued++;
	/* A woken thread counts as idle until it has taken its job, and that job as queued: so they cancel out. */
	if (p->queued > p->idle && p->threads < p->max_threads)
		start_thread(p);
	if (p->threads)
		pthread_cond_signal(&p->work);
	else { /* a thread ends only when nothing is queued: this job is the only one */
		take_job(p);
		here = true;
	}
	pthread_mutex_unlock(&p->lock);
	if (here)
		job->run(job);
}

void pool_free(struct pool *p)
{
	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	p->ending = true;
	pthread_cond_broadcast(&p->work);
	while (p->threads)
		pthread_cond_wait(&p->gone, &p->lock);
	pthread_mutex_unlock(&p->lock);
	pthread_cond_destroy(&p->work);
	pthread_cond_destroy(&p->gone);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

struct each; /* one pool_for_each, on the stack of its caller */

struct helper {
	struct pool_job job;
	struct each *each;
};

struct each {
	struct pool *pool;
	void (*fn)(void *arg, size_t i);
	void *arg;
	size_t n;
	_Atomic size_t next;
	unsigned helpers; /* queued or running; under the pool's lock */
	pthread_cond_t done;
};

static void work_on(struct each *e)
{
	size_t i;
	while ((i = atomic_fetch_add_explicit(&e->next, 1, memory_order_relaxed)) < e->n)
		e->fn(e->arg, i);
}

static void help(struct pool_job *job)
{
	struct each *e = ((struct helper *)job)->each;
	struct pool *p = e->pool;
	work_on(e);
	pthread_mutex_lock(&p->lock);
	if (!--e->helpers)
		pthread_cond_signal(&e->done);
	pthread_mutex_unlock(&p->lock);
}

/* Takes helpers that no thread has begun back out of the queue. Waiting for them instead could be a deadlock: the
 * threads that would run them may all be callers of pool_for_each themselves. locks: the pool's, held. */
static void recall_helpers(struct each *e)
{
	struct pool *p = e->pool;
	struct pool_job **at = &p->head;
	while (*at) {
		if ((*at)->run == help && ((struct helper *)*at)->each == e) {
			*at = (*at)->next;
			p->queued--;
			e->helpers--;
		} else
			at = &(*at)->next;
	}
	p->tail = at;
}

void pool_for_each(struct pool *p, size_t n, void (*fn)(void *arg, size_t i), void *arg)
{
	struct each e = {.pool = p, .fn = fn, .arg = arg, .n = n, .done = PTHREAD_COND_INITIALIZER};
	struct helper helpers[MAX_HELPERS];
	size_t want = n ? n - 1 : 0;
	if (want > p->max_threads)
		want = p->max_threads;
	if (want > MAX_HELPERS)
		want = MAX_HELPERS;
	e.helpers = (unsigned)want;
	for (size_t i = 0; i < want; i++) {
		helpers[i] = (struct helper){.job.run = help, .each = &e};
		pool_run(p, &helpers[i].job);
	}
	work_on(&e);
	pthread_mutex_lock(&p->lock);
	recall_helpers(&e);
	while (e.helpers)
		pthread_cond_wait(&e.done, &p->lock);
	pthread_mutex_unlock(&p->lock);
	pthread_cond_destroy(&e.done);
}
