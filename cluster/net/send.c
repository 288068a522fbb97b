/*
 * send: answers, from any thread to the socket.
 *
 * An answer that is the next to leave is sent by the thread that gives it, at once, under the connection's lock: no other thread is
 * woken for it. What the socket does not take stays queued; the socket is in its thread's epoll set, edge-triggered, for writing too, so
 * that thread hears when there is room. Inside the connection's own callbacks answers are gathered, and leave together when the
 * callbacks of what was read are through.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cluster/net/reactor.h"
#include "store/diag.h"
#include "store/io.h"
#include "store/pool.h"

enum { IOVS = 64, WARM_UP_BYTES = 64 << 10 };

enum outcome { SENT_ALL, SENT_FULL, SENT_SHARE, SENT_BROKEN }; /* FULL: the socket takes no more. SHARE: it is another's turn */

/* What one system call sends. */
struct gather {
	struct iovec iov[IOVS];
	int n;
	size_t bytes;
	bool file_follows;
	size_t read_bytes;
	uint8_t read[SMALL_RANGE_BYTES]; /* of small ranges */
};

static const struct net_chunk *chunk_at(const struct net_response *p, unsigned at, struct net_chunk *length)
{
	if (at)
		return &p->chunk[at - 1];
	*length = (struct net_chunk){.data = p->length, .bytes = sizeof p->length};
	return length;
}

static void report_short(const struct net_conn *c, const struct net_chunk *k, const char *why)
{
	static struct diag_limit limit;
	char peer[NET_PEER_TEXT];
	diag_limited(&limit, LOG_MS, DIAG_ERROR, "connection of %s closed: bytes %llu to %llu of a file could not be read: %s", net_conn_peer_text(c, peer),
		     (unsigned long long)k->offset, (unsigned long long)(k->offset + k->bytes), why);
}

static bool may_wait_for_disk(const struct net_conn *c, const struct net_chunk *k, uint64_t from, size_t bytes)
{
	return c->thread->net->o.pool && sock_file_is_cold(k->fd, k->offset + from, bytes);
}

/* Adds what is left of a chunk. false: nothing more goes into this call; *failed: the file is not what it should be. */
static bool gather_chunk(struct net_conn *c, struct gather *g, const struct net_chunk *k, uint64_t from, bool *failed)
{
	size_t left = (size_t)(k->bytes - from);
	const void *data = k->data ? (const uint8_t *)k->data + from : g->read + g->read_bytes;
	if (!left)
		return true;
	if (g->n == IOVS)
		return false;
	if (!k->data) {
		if (left > sizeof g->read - g->read_bytes || may_wait_for_disk(c, k, from, left)) {
			g->file_follows = true;
			return false;
		}
		ssize_t got = io_pread(k->fd, g->read + g->read_bytes, left, (off_t)(k->offset + from));
		if (got != (ssize_t)left) {
			report_short(c, k, got < 0 ? strerror((int)-got) : "it is shorter");
			*failed = true;
			return false;
		}
		g->read_bytes += left;
	}
	g->iov[g->n++] = (struct iovec){.iov_base = (void *)(uintptr_t)data, .iov_len = left};
	g->bytes += left;
	return true;
}

/* Everything that is ready, in order, up to a range that is for sendfile. false: a file is not what it should be, and nothing stands before it. */
static bool gather(struct net_conn *c, struct gather *g)
{
	struct net_chunk length;
	bool failed = false, more = true;
	unsigned at = c->at_chunk;
	uint64_t from = c->at_byte;
	g->n = 0;
	g->bytes = g->read_bytes = 0;
	g->file_follows = false;
	for (struct request *r = c->head; r && more && g->bytes < SEND_TURN_BYTES; r = r->next, at = 0, from = 0) {
		if (r->state == REQUEST_DROPPED)
			continue;
		if (r->state != REQUEST_ANSWERED)
			break;
		for (; more && at <= r->response->count; at++, from = 0)
			more = gather_chunk(c, g, chunk_at(r->response, at, &length), from, &failed);
	}
	return !failed || g->n;
}

/* Takes the first request out of the queue, into the list of those that are done. */
static void pop(struct net_conn *c, struct request ***done, bool sent)
{
	struct request *r = c->head;
	c->head = r->next;
	if (!c->head)
		c->tail = &c->head;
	c->in_flight--;
	c->queued_bytes -= (int64_t)r->block_bytes;
	if (r->state == REQUEST_ANSWERED)
		c->unsent_bytes -= r->response->memory_bytes;
	r->sent = sent;
	r->next = NULL;
	**done = r;
	*done = &r->next;
	c->at_chunk = 0;
	c->at_byte = 0;
}

/* Moves on by n sent bytes, and over everything that has none left. */
static void advance(struct net_conn *c, size_t n, struct request ***done)
{
	struct net_chunk length;
	while (c->head && (c->head->state == REQUEST_ANSWERED || c->head->state == REQUEST_DROPPED)) {
		const struct net_response *p = c->head->response;
		while (p && c->at_chunk <= p->count) {
			uint64_t left = chunk_at(p, c->at_chunk, &length)->bytes - c->at_byte;
			if (left > n) {
				c->at_byte += n;
				return;
			}
			n -= (size_t)left;
			c->at_chunk++;
			c->at_byte = 0;
			c->warmed = 0;
		}
		if (p)
			count_any(&c->thread->count.responses, 1);
		pop(c, done, p != NULL);
	}
}

static void cork(struct net_conn *c, bool on)
{
	if (c->corked != on)
		sock_option(c->fd, IPPROTO_TCP, TCP_CORK, on);
	c->corked = on;
}

static bool send_locked(struct net_conn *c, struct request ***done);

/* What is to be sent next, and may not be in the page cache, on its way into it. The request stays until it is through: its file is open so long. */
struct warm_up {
	struct pool_job job;
	struct net_conn *c;
	struct request *r;
	int fd;
	uint64_t offset;
	size_t bytes;
	bool given; /* to the pool */
};

static void read_ahead(const struct warm_up *w)
{
	uint8_t buf[WARM_UP_BYTES];
	for (size_t at = 0; at < w->bytes; at += sizeof buf) {
		size_t n = w->bytes - at < sizeof buf ? w->bytes - at : sizeof buf;
		if (io_pread(w->fd, buf, n, (off_t)(w->offset + at)) <= 0)
			break; /* sending it will tell */
	}
}

/* One that was begun under the connection's lock, to be given to the pool without it: whoever gives it may have to run it. locks: c's */
static struct warm_up *take_warm_up(struct net_conn *c)
{
	struct warm_up *w = c->warm_up;
	if (!w || w->given)
		return NULL;
	w->given = true;
	return w;
}

/* The request that it holds keeps the thread's net. */
static void run_warm_up(struct thread *t, struct warm_up *w)
{
	if (w)
		pool_run(t->net->o.pool, &w->job);
}

/* Goes on where the sending stopped, and with what comes behind. thread: the pool's */
static void warm_up(struct pool_job *job)
{
	struct warm_up *w = (struct warm_up *)job;
	struct net_conn *c = w->c;
	struct thread *t = c->thread;
	struct request *list = NULL, **done = &list;
	struct warm_up *more = NULL;
	read_ahead(w);
	pthread_mutex_lock(&c->lock);
	if (c->dead) { /* and left the request to us */
		list = w->r;
		list->next = NULL;
	} else {
		c->warm_up = NULL;
		c->warmed = w->bytes;
		if (send_locked(c, &done))
			inbox_put(c);
		more = take_warm_up(c);
	}
	pthread_mutex_unlock(&c->lock);
	free(w);
	run_warm_up(t, more);
	requests_finish(t, list);
}

/* false: it is to be sent as it is. locks: c's */
static bool start_warm_up(struct net_conn *c, const struct net_chunk *k, size_t bytes)
{
	if (c->warmed)
		return false;
	if (!may_wait_for_disk(c, k, c->at_byte, bytes)) {
		c->warmed = bytes; /* looked at once, though the socket may take it in pieces */
		return false;
	}
	struct warm_up *w = malloc(sizeof *w);
	if (!w)
		return false;
	*w = (struct warm_up){.job.run = warm_up, .c = c, .r = c->head, .fd = k->fd, .offset = k->offset + c->at_byte, .bytes = bytes};
	c->warm_up = w;
	return true;
}

/* Sends from the range that is next. A range with something behind it is corked, so that the end of it does not go as a packet of its own. */
static ssize_t send_range(struct net_conn *c)
{
	const struct net_response *p = c->head->response;
	const struct net_chunk *k = &p->chunk[c->at_chunk - 1];
	uint64_t left = k->bytes - c->at_byte;
	size_t bytes = left < SEND_TURN_BYTES ? (size_t)left : SEND_TURN_BYTES;
	if (start_warm_up(c, k, bytes))
		return -EAGAIN;
	if (c->warmed && c->warmed < bytes)
		bytes = (size_t)c->warmed;
	if (c->at_chunk < p->count)
		cork(c, true);
	ssize_t n = sock_sendfile(c->fd, k->fd, k->offset + c->at_byte, bytes);
	if (n > 0)
		c->warmed -= c->warmed < (uint64_t)n ? c->warmed : (uint64_t)n;
	if (!n)
		report_short(c, k, "it is shorter");
	else if (n < 0 && n != -EAGAIN && n != -EPIPE && n != -ECONNRESET)
		report_short(c, k, strerror((int)-n));
	return n ? n : -EIO;
}

/* locks: c's. Sends what is ready, to its end, or until the socket is full or the share is used up; *done: what went out whole. */
static enum outcome send_ready(struct net_conn *c, struct request ***done)
{
	struct gather g;
	size_t total = 0;
	for (;;) {
		advance(c, 0, done);
		if (!c->head || c->head->state == REQUEST_TAKEN)
			break;
		if (c->head->state == REQUEST_CLOSES) {
			c->verdict = VERDICT_END;
			break;
		}
		if (total >= SEND_TURN_BYTES)
			return SENT_SHARE;
		if (c->warm_up)
			return SENT_FULL;
		atomic_store(&c->unsent, true);
		if (!gather(c, &g))
			return SENT_BROKEN;
		ssize_t n = g.n ? sock_send(c->fd, g.iov, g.n, g.file_follows && !c->corked) : send_range(c);
		if (n == -EAGAIN)
			return SENT_FULL;
		if (n < 0)
			return SENT_BROKEN;
		if (!total)
			atomic_store_explicit(&c->sent_ms, net_this_thread ? net_this_thread->now_ms : net_now_ms(), memory_order_relaxed);
		total += (size_t)n;
		count_any(&c->thread->count.bytes_out, (uint64_t)n);
		advance(c, (size_t)n, done);
	}
	cork(c, false);
	atomic_store(&c->unsent, false);
	return SENT_ALL;
}

/* locks: c's */
bool conn_may_take(const struct net_conn *c)
{
	const struct net_settings *s = &c->thread->net->s;
	return !c->barrier && c->in_flight < s->max_in_flight && c->queued_bytes < s->conn_queued_bytes && c->unsent_bytes < s->conn_unsent_bytes;
}

/* locks: c's, not dead. Sends. Returns whether its thread has to look after the connection. */
static bool send_locked(struct net_conn *c, struct request ***done)
{
	bool look = c->verdict != VERDICT_NONE;
	if (!look) {
		enum outcome o = send_ready(c, done);
		if (o == SENT_BROKEN)
			c->verdict = VERDICT_BROKEN;
		look = o == SENT_SHARE || c->verdict != VERDICT_NONE || (c->ends_when_idle && !c->head);
	}
	if (c->paused && conn_may_take(c)) {
		c->paused = false;
		look = true;
	}
	return look;
}

bool conn_send(struct net_conn *c)
{
	struct request *list = NULL, **done = &list;
	pthread_mutex_lock(&c->lock);
	bool look = !c->dead && send_locked(c, &done);
	struct warm_up *w = c->dead ? NULL : take_warm_up(c);
	pthread_mutex_unlock(&c->lock);
	run_warm_up(c->thread, w);
	requests_finish(c->thread, list);
	return look;
}

struct request *conn_take_answers(struct net_conn *c)
{
	struct request *list = NULL, **done = &list;
	while (c->head) {
		struct request *r = c->head;
		struct request *none = NULL, **nowhere = &none;
		bool warms_up = c->warm_up && c->warm_up->r == r; /* who warms it up finishes it */
		pop(c, r->state == REQUEST_TAKEN || warms_up ? &nowhere : &done, false);
	}
	return list;
}

void requests_finish(struct thread *t, struct request *list)
{
	while (list) {
		struct request *r = list;
		list = r->next;
		if (r->response)
			r->response->release(r->response, r->sent);
		if (net_this_thread == t) {
			r->next = t->done;
			t->done = r;
			continue;
		}
		/* From here on r, and soon the connection, may be gone. */
		struct request *first = atomic_load_explicit(&t->returned, memory_order_relaxed);
		do
			r->next = first;
		while (!atomic_compare_exchange_weak_explicit(&t->returned, &first, r, memory_order_release, memory_order_relaxed));
	}
}

static void answer(struct request *r, enum request_state state, struct net_response *p)
{
	struct net_conn *c = r->pub.conn;
	struct thread *t = c->thread;
	struct request *list = NULL, **done = &list;
	struct warm_up *w = NULL;
	pthread_mutex_lock(&c->lock);
	r->state = state;
	r->response = p;
	if (c->dead) {
		r->next = NULL;
		r->sent = false;
		list = r;
		atomic_fetch_sub(&t->net->orphans, 1);
	} else {
		c->taken--;
		if (p)
			c->unsent_bytes += p->memory_bytes;
		if (c->barrier == r)
			c->barrier = NULL;
		if (net_handing_out != c) {
			if (net_this_thread != t)
				count_any(&t->count.foreign_writes, c->head == r);
			if (send_locked(c, &done))
				inbox_put(c);
			w = take_warm_up(c);
		}
	}
	pthread_mutex_unlock(&c->lock);
	run_warm_up(t, w);
	requests_finish(t, list);
}

/* Adds up the answer. false: it cannot be sent. */
static bool measure(struct net_response *p)
{
	uint64_t memory = 0;
	p->bytes = 0;
	for (unsigned i = 0; i < p->count; i++) {
		if (p->chunk[i].bytes > INT32_MAX - p->bytes)
			return false;
		p->bytes += p->chunk[i].bytes;
		memory += p->chunk[i].data ? p->chunk[i].bytes : 0;
	}
	p->memory_bytes = (uint32_t)memory;
	uint32_t n = (uint32_t)p->bytes;
	for (int i = 0; i < 4; i++)
		p->length[i] = (uint8_t)(n >> (24 - 8 * i));
	return true;
}

void net_respond(struct net_request *pub, struct net_response *p)
{
	if (measure(p)) {
		answer((struct request *)pub, REQUEST_ANSWERED, p);
		return;
	}
	diag_error("an answer of more than %d bytes cannot be sent; the connection is closed", INT32_MAX);
	p->release(p, false);
	net_close(pub);
}

static void keep_copy(struct net_response *p, bool sent)
{
	(void)p;
	(void)sent;
}

static void free_copy(struct net_response *p, bool sent)
{
	(void)sent;
	free((void *)(uintptr_t)p->chunk->data);
}

bool net_respond_copy(struct net_request *pub, const void *data, size_t n)
{
	struct request *r = (struct request *)pub;
	struct net_response *p = &r->own_response;
	bool fits = n <= r->room;
	void *copy = fits ? pub->data : malloc(n);
	if (!copy) {
		diag_error("no memory for an answer of %zu bytes; the connection is closed", n);
		net_close(pub);
		return false;
	}
	memmove(copy, data, n);
	r->own_chunk = (struct net_chunk){.data = copy, .bytes = n};
	*p = (struct net_response){.chunk = &r->own_chunk, .count = 1, .release = fits ? keep_copy : free_copy};
	net_respond(pub, p);
	return true;
}

void net_drop(struct net_request *r)
{
	answer((struct request *)r, REQUEST_DROPPED, NULL);
}

void net_close(struct net_request *r)
{
	answer((struct request *)r, REQUEST_CLOSES, NULL);
}
