/* net: the network threads' loop; start, stop, and what is counted. */
#include "cluster/net/net.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "cluster/net/reactor.h"
#include "store/clock.h"

__thread struct thread *net_this_thread;
__thread struct net_conn *net_handing_out;

int64_t net_now_ms(void)
{
	return mono_now().ns / 1000000;
}

/* ---- between threads ---- */

/* After something was put where it looks before it sleeps: it sees that, or we see it asleep. */
static void thread_wake(struct thread *t)
{
	if (atomic_exchange(&t->awake, true))
		return;
	uint64_t one = 1;
	count_any(&t->count.wakes, 1);
	while (write(t->wake_fd, &one, sizeof one) < 0 && errno == EINTR)
		;
}

void thread_poke(struct thread *t)
{
	atomic_store(&t->poked, true);
	thread_wake(t);
}

void inbox_put(struct net_conn *c)
{
	struct thread *t = c->thread;
	if (atomic_exchange(&c->in_inbox, true))
		return;
	struct net_conn *first = atomic_load(&t->inbox);
	do
		c->inbox_next = first;
	while (!atomic_compare_exchange_weak(&t->inbox, &first, c));
	if (net_this_thread != t)
		thread_wake(t);
}

static void poke_all(struct net *n)
{
	for (unsigned i = 0; i < n->s.threads; i++)
		thread_poke(&n->thread[i]);
}

void queued_relieve(struct net *n)
{
	if (atomic_load(&n->starving) && atomic_exchange(&n->starving, false))
		poke_all(n);
}

void queued_add(struct thread *t, int64_t bytes)
{
	struct net *n = t->net;
	count_own(&t->count.queued_bytes, bytes);
	int64_t now = atomic_fetch_add(&n->queued_bytes, bytes) + bytes;
	if (bytes < 0 && (now < n->s.queued_max_bytes || !atomic_load(&n->overdrawn)))
		queued_relieve(n);
}

bool net_holds_much(const struct net *n)
{
	uint64_t bytes = 0;
	for (unsigned i = 0; i < n->s.threads; i++)
		bytes += atomic_load_explicit(&n->thread[i].count.held_bytes, memory_order_relaxed);
	return bytes >= (uint64_t)n->s.queued_max_bytes / 2;
}

/* ---- a thread's loop ---- */

static void finish(struct thread *t, struct request *list)
{
	for (struct request *next; list; list = next) {
		next = list->next;
		request_done(t, list);
	}
}

/* After each turn: what a round holds does not grow with the connections that have one in it. */
static void finish_own(struct thread *t)
{
	struct request *list = t->done;
	t->done = NULL;
	finish(t, list);
}

static void finish_done(struct thread *t)
{
	finish_own(t);
	finish(t, atomic_exchange_explicit(&t->returned, NULL, memory_order_acquire));
}

static void take_inbox(struct thread *t)
{
	struct net_conn *c = atomic_exchange(&t->inbox, NULL);
	while (c) {
		struct net_conn *next = c->inbox_next;
		atomic_store(&c->in_inbox, false); /* from here on it may be put there again */
		if (!c->registered)
			conn_register(c);
		else
			conn_turn(c);
		finish_own(t);
		c = next;
	}
}

static void take_ready(struct thread *t)
{
	/* Those there are now; who gets ready meanwhile is for the next round. */
	struct net_conn *last = TAILQ_LAST(&t->ready, conns), *c = NULL;
	while (c != last && (c = TAILQ_FIRST(&t->ready))) {
		conn_turn(c);
		finish_own(t);
	}
}

static void trim(struct thread *t)
{
	if (t->now_ms - t->trimmed_ms >= TICK_MS) {
		block_trim(&t->pool);
		t->wants_tick = t->net->o.tick && t->net->o.tick(t->net->o.arg, t->index);
		t->trimmed_ms = t->now_ms;
	}
	atomic_store_explicit(&t->count.pooled_bytes, t->pool.bytes, memory_order_relaxed);
}

static void sooner(int64_t *wait_ms, int64_t ms)
{
	if (ms < 0)
		ms = 0;
	if (*wait_ms < 0 || ms < *wait_ms)
		*wait_ms = ms;
}

/* How long it may sleep: until the next deadline, a second where done requests may come back or memory may be given back; else for ever. */
static int sleep_ms(struct thread *t)
{
	struct net *n = t->net;
	struct net_conn *c;
	int64_t wait_ms = -1;
	if (!TAILQ_EMPTY(&t->ready) || t->done || t->dead)
		return 0;
	if (n->s.max_idle_ms >= 0 && (c = TAILQ_FIRST(&t->open)))
		sooner(&wait_ms, c->active_ms + n->s.max_idle_ms - t->now_ms);
	if ((c = TAILQ_FIRST(&t->lingering)))
		sooner(&wait_ms, c->active_ms + LINGER_MS - t->now_ms);
	if (t->overdraws)
		sooner(&wait_ms, t->overdraws_since_ms + n->s.starved_ms - t->now_ms);
	if (!TAILQ_EMPTY(&t->starved))
		sooner(&wait_ms, TICK_MS);
	if (t->pool.bytes || t->wants_tick || atomic_load_explicit(&t->count.held, memory_order_relaxed))
		sooner(&wait_ms, TICK_MS);
	if (t->index == 0 && n->accept_again_ms)
		sooner(&wait_ms, n->accept_again_ms - t->now_ms);
	return wait_ms > INT_MAX ? INT_MAX : (int)wait_ms;
}

static void handle(struct thread *t, const struct epoll_event *ev)
{
	switch (*(enum source *)ev->data.ptr) {
	case SOURCE_CONN:
		conn_event(ev->data.ptr, ev->events);
		finish_own(t);
		break;
	case SOURCE_LISTENER:
		listen_accept(t->net, ev->data.ptr);
		break;
	case SOURCE_WAKE: /* edge-triggered and never read: what it is about is in the inbox */
		break;
	}
}

/* Sleeps, unless there is something in the inbox, and handles what happened. */
static void wait_for_events(struct thread *t)
{
	struct epoll_event ev[EVENTS];
	int wait_ms = sleep_ms(t);
	atomic_store(&t->awake, false);
	if (atomic_exchange(&t->poked, false) || atomic_load(&t->inbox))
		wait_ms = 0;
	int n = epoll_wait(t->epoll, ev, EVENTS, wait_ms);
	atomic_store(&t->awake, true);
	t->now_ms = net_now_ms();
	for (int i = 0; i < n; i++)
		handle(t, &ev[i]);
}

/* A stop that was asked for, as far as this thread is concerned. */
static void follow_stop(struct thread *t, enum stopping stop)
{
	struct net *n = t->net;
	struct net_conn *c, *next;
	if (!t->stop_told) {
		t->stop_told = true;
		if (t->index == 0) {
			listen_close(n);
			atomic_store(&n->deaf, true);
		}
		TAILQ_FOREACH(c, &t->open, age)
			conn_tell(c, NET_STOPPING);
		TAILQ_FOREACH(c, &t->open, age)
			conn_ready(c);
	}
	while (stop >= STOP_NOW && (c = TAILQ_FIRST(&t->open)))
		conn_end(c, false);
	for (c = TAILQ_FIRST(&t->lingering); stop >= STOP_NOW && c; c = next) {
		next = TAILQ_NEXT(c, age);
		conn_linger_over(c);
	}
	pthread_mutex_lock(&n->stop_lock);
	pthread_cond_broadcast(&n->stop_changed);
	pthread_mutex_unlock(&n->stop_lock);
}

static void *run_thread(void *arg)
{
	struct thread *t = arg;
	enum stopping stop;
	char name[16];
	net_this_thread = t;
	snprintf(name, sizeof name, "network-%u", t->index);
	pthread_setname_np(pthread_self(), name);
	t->now_ms = t->trimmed_ms = net_now_ms();
	do {
		wait_for_events(t);
		take_ready(t);
		take_inbox(t);
		conn_expire(t);
		stop = (enum stopping)atomic_load(&t->net->stopping);
		finish_done(t);
		conn_relieve(t);
		conn_bury(t);
		if (t->index == 0)
			listen_resume(t->net);
		trim(t);
		if (stop != STOP_NO)
			follow_stop(t, stop);
	} while (stop != STOP_THREADS || t->dead || t->done || atomic_load(&t->inbox) || atomic_load(&t->returned));
	return NULL;
}

/* ---- start and stop ---- */

static void release_thread(struct thread *t)
{
	if (t->epoll >= 0)
		close(t->epoll);
	if (t->wake_fd >= 0)
		close(t->wake_fd);
	block_release(&t->pool);
	free(t->scratch);
}

static void net_release(struct net *n)
{
	listen_close(n);
	for (unsigned i = 0; n->thread && i < n->s.threads; i++)
		release_thread(&n->thread[i]);
	free(n->thread);
	free(n->socket);
	pthread_mutex_destroy(&n->ip_lock);
	pthread_mutex_destroy(&n->stop_lock);
	pthread_cond_destroy(&n->stop_changed);
	free(n);
}

static int init_thread(struct net *n, unsigned index, struct err *e)
{
	struct thread *t = &n->thread[index];
	struct epoll_event ev = {.events = EPOLLIN | EPOLLET, .data.ptr = &t->wake_source};
	t->wake_source = SOURCE_WAKE;
	t->net = n;
	t->index = index;
	atomic_store(&t->awake, true);
	TAILQ_INIT(&t->open);
	TAILQ_INIT(&t->ready);
	TAILQ_INIT(&t->starved);
	TAILQ_INIT(&t->lingering);
	t->scratch = malloc(SCRATCH_BYTES);
	t->epoll = epoll_create1(EPOLL_CLOEXEC);
	t->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!t->scratch)
		return err_set(e, ERR_NO_MEMORY, "no memory for a network thread");
	if (t->epoll < 0 || t->wake_fd < 0 || epoll_ctl(t->epoll, EPOLL_CTL_ADD, t->wake_fd, &ev))
		return err_sys(e, errno, "epoll set of a network thread");
	return 0;
}

static void ignore_sigpipe(void)
{
	/* sendfile has no flag against it. */
	struct sigaction old;
	if (!sigaction(SIGPIPE, NULL, &old) && old.sa_handler == SIG_DFL)
		signal(SIGPIPE, SIG_IGN);
}

int net_open(struct net **out, const struct net_options *o, struct err *e)
{
	struct net *n = calloc(1, sizeof *n);
	if (!n)
		return err_set(e, ERR_NO_MEMORY, "no memory for the network side");
	n->o = *o;
	n->s = *o->settings;
	n->o.settings = NULL;
	n->room_bytes = (o->room_bytes + 15) & ~(size_t)15;
	n->reserve_fd = -1;
	pthread_mutex_init(&n->ip_lock, NULL);
	pthread_mutex_init(&n->stop_lock, NULL);
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&n->stop_changed, &attr);
	pthread_condattr_destroy(&attr);
	ignore_sigpipe();
	n->thread = aligned_alloc(64, n->s.threads * sizeof *n->thread);
	int r = n->thread ? 0 : err_set(e, ERR_NO_MEMORY, "no memory for network threads");
	if (n->thread)
		memset(n->thread, 0, n->s.threads * sizeof *n->thread);
	for (unsigned i = 0; n->thread && i < n->s.threads; i++)
		n->thread[i].epoll = n->thread[i].wake_fd = -1;
	for (unsigned i = 0; !r && i < n->s.threads; i++)
		r = init_thread(n, i, e);
	if (!r)
		r = listen_open(n, e);
	if (r) {
		net_release(n);
		return r;
	}
	*out = n;
	return 0;
}

int net_run(struct net *n, struct err *e)
{
	sigset_t all, before;
	int r = listen_start(n, e);
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before); /* signals are for the threads that know what to do with them */
	/* The first one last: it hands connections to the others. */
	for (unsigned i = n->s.threads; !r && i--;) {
		int failed = pthread_create(&n->thread[i].id, NULL, run_thread, &n->thread[i]);
		if (failed)
			r = err_sys(e, failed, "network thread");
		else
			n->running++;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return r;
}

/* With none left none can come. */
static bool has_connections(const struct net *n)
{
	return !atomic_load(&n->deaf) || atomic_load(&n->connections) > 0;
}

static bool has_requests(const struct net *n)
{
	struct net_stats s;
	net_stats(n, -1, &s);
	return s.requests_held > 0;
}

/* Waits until there is none, or the time is up. */
static void wait_while(struct net *n, bool (*has_some)(const struct net *n), int wait_ms)
{
	struct timespec until;
	int r = 0;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += wait_ms / 1000;
	until.tv_nsec += wait_ms % 1000 * 1000000L;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	pthread_mutex_lock(&n->stop_lock);
	while (r != ETIMEDOUT && has_some(n))
		r = pthread_cond_timedwait(&n->stop_changed, &n->stop_lock, &until);
	pthread_mutex_unlock(&n->stop_lock);
}

static void set_stopping(struct net *n, enum stopping stop)
{
	if ((int)stop > atomic_load(&n->stopping))
		atomic_store(&n->stopping, (int)stop);
	poke_all(n);
}

unsigned net_stop(struct net *n, int wait_ms)
{
	if (n->running < n->s.threads) { /* net_run was not called, or failed */
		listen_close(n);
		return 0;
	}
	if (wait_ms > 0) {
		set_stopping(n, STOP_GRACEFUL);
		wait_while(n, has_connections, wait_ms);
	}
	set_stopping(n, STOP_NOW);
	while (has_connections(n))
		wait_while(n, has_connections, TICK_MS);
	return atomic_load(&n->orphans);
}

void net_free(struct net *n)
{
	if (!n)
		return;
	net_stop(n, 0);
	while (n->running == n->s.threads && has_requests(n))
		wait_while(n, has_requests, TICK_MS);
	set_stopping(n, STOP_THREADS);
	for (unsigned i = n->s.threads - n->running; i < n->s.threads; i++)
		pthread_join(n->thread[i].id, NULL);
	net_release(n);
}

/* ---- what is counted ---- */

unsigned net_threads(const struct net *n)
{
	return n->s.threads;
}

static void add_counts(const struct counts *c, struct net_stats *s)
{
#define ADD(field, from) s->field += atomic_load_explicit(&c->from, memory_order_relaxed)
	ADD(connections, connections);
	ADD(accepted, accepted);
	ADD(requests, requests);
	ADD(responses, responses);
	ADD(bytes_in, bytes_in);
	ADD(bytes_out, bytes_out);
	ADD(requests_held, held);
	ADD(queued_bytes, queued_bytes);
	ADD(pooled_bytes, pooled_bytes);
	ADD(wakes, wakes);
	ADD(foreign_writes, foreign_writes);
#undef ADD
}

void net_stats(const struct net *n, int thread, struct net_stats *out)
{
	memset(out, 0, sizeof *out);
	for (unsigned i = 0; i < n->s.threads; i++)
		if (thread < 0 || (unsigned)thread == i)
			add_counts(&n->thread[i].count, out);
}
