/*
 * conn: a connection as its network thread sees it: bytes become requests, and it comes to an end.
 *
 * The socket is edge-triggered and its events are never changed: a request costs no call but the read and the write. `readable` says
 * that there may be more to read: since the last edge no read came back with less than it asked for. A connection that stops for another
 * reason (its share is used up, it has to wait for answers, memory is short) is on a list or marked `paused`, and gets another turn.
 */
#include <errno.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cluster/net/reactor.h"
#include "store/buf.h"
#include "store/diag.h"

/* ---- memory of requests ---- */

static size_t head_bytes(const struct thread *t)
{
	return sizeof(struct request) + t->net->room_bytes;
}

void *net_room(struct net_request *r)
{
	return (struct request *)r + 1;
}

static void place(struct request *r, const struct thread *t, size_t block_bytes)
{
	r->block_bytes = block_bytes;
	r->pub.data = (uint8_t *)r + head_bytes(t);
	r->room = (uint32_t)(block_bytes - head_bytes(t));
}

/* Memory for a frame of which `have` bytes are there: all of it where that is little, or was used before; else in proportion. */
static struct request *request_new(struct net_conn *c, uint32_t size, size_t have)
{
	struct thread *t = c->thread;
	size_t head = head_bytes(t), start = have * 4 > FRAME_START_BYTES ? have * 4 : FRAME_START_BYTES;
	size_t bytes = head + (size > REQUEST_LEAST_BYTES ? size : REQUEST_LEAST_BYTES);
	struct request *r = block_take(&t->pool, &bytes, size > start);
	if (!r && size > start) {
		bytes = head + start;
		r = block_take(&t->pool, &bytes, false);
	}
	if (!r)
		return NULL;
	memset(r, 0, head);
	place(r, t, bytes);
	r->pub.conn = c;
	r->pub.size = size;
	queued_add(t, (int64_t)bytes);
	return r;
}

static void report_memory(const struct net_conn *c, uint32_t size)
{
	static struct diag_limit limit;
	char peer[NET_PEER_TEXT];
	diag_limited(&limit, LOG_MS, DIAG_ERROR, "connection of %s closed: no memory for a request of %u bytes", net_conn_peer_text(c, peer), size);
}

/* Moves the frame under way to more memory: for `more` bytes at least, four times what it had if it is that large. */
static bool grow(struct net_conn *c, size_t more)
{
	struct thread *t = c->thread;
	struct request *old = c->partial;
	size_t room = (size_t)old->got + more > 4 * (size_t)old->room ? old->got + more : 4 * (size_t)old->room;
	size_t bytes = head_bytes(t) + (room < old->pub.size ? room : old->pub.size);
	struct request *r = block_take(&t->pool, &bytes, false);
	if (!r) {
		report_memory(c, old->pub.size);
		return false;
	}
	memcpy(r, old, head_bytes(t) + old->got);
	queued_add(t, (int64_t)bytes - (int64_t)old->block_bytes);
	block_give(&t->pool, old, old->block_bytes);
	place(r, t, bytes);
	c->partial = r;
	return true;
}

static void request_free(struct thread *t, struct request *r)
{
	if (!r)
		return;
	queued_add(t, -(int64_t)r->block_bytes);
	block_give(&t->pool, r, r->block_bytes);
}

static void bury_later(struct net_conn *c)
{
	if (!c->closed || c->lingers || c->held)
		return;
	c->next_dead = c->thread->dead;
	c->thread->dead = c;
}

void request_done(struct thread *t, struct request *r)
{
	struct net_conn *c = r->pub.conn;
	if (t->net->o.done)
		t->net->o.done(t->net->o.arg, &r->pub);
	count_own(&t->count.held_bytes, -(int64_t)r->block_bytes);
	request_free(t, r);
	count_own(&t->count.held, -1);
	c->held--;
	bury_later(c);
}

static bool stash(struct net_conn *c, const uint8_t *data, size_t n)
{
	size_t bytes = n;
	uint8_t *block = block_take(&c->thread->pool, &bytes, false);
	if (!block)
		return false;
	memcpy(block, data, n);
	queued_add(c->thread, (int64_t)bytes);
	c->stash = block;
	c->stash_at = 0;
	c->stash_end = n;
	c->stash_bytes = bytes;
	return true;
}

static void drop_stash(struct net_conn *c)
{
	if (!c->stash)
		return;
	queued_add(c->thread, -(int64_t)c->stash_bytes);
	block_give(&c->thread->pool, c->stash, c->stash_bytes);
	c->stash = NULL;
}

/* ---- lists ---- */

static void unlist(struct net_conn *c)
{
	if (c->list != LIST_NONE)
		TAILQ_REMOVE(c->list == LIST_READY ? &c->thread->ready : &c->thread->starved, c, link);
	c->list = LIST_NONE;
}

void conn_ready(struct net_conn *c)
{
	unlist(c);
	TAILQ_INSERT_TAIL(&c->thread->ready, c, link);
	c->list = LIST_READY;
}

static bool memory_is_short(struct net *n)
{
	return atomic_load(&n->queued_bytes) >= n->s.queued_max_bytes;
}

/*
 * Where all memory is held by frames that are not complete, no answer will give any back: one of them at a time may go on regardless, until it
 * is complete, or its time is up.
 */
static bool overdraw(struct net_conn *c)
{
	struct thread *t = c->thread;
	if (!c->partial || t->overdraws == c)
		return t->overdraws == c;
	if (net_holds_much(t->net) || atomic_exchange(&t->net->overdrawn, true))
		return false;
	t->overdraws = c;
	t->overdraws_since_ms = t->now_ms;
	return true;
}

static void overdraw_over(struct net_conn *c)
{
	struct thread *t = c->thread;
	if (t->overdraws != c)
		return;
	t->overdraws = NULL;
	atomic_store(&t->net->overdrawn, false);
	queued_relieve(t->net);
}

/* Whoever gives memory back sees `starving`, or we see the memory: one of the two. */
static bool starve(struct net_conn *c)
{
	struct thread *t = c->thread;
	atomic_store(&t->net->starving, true);
	if (atomic_load(&t->net->queued_bytes) < t->net->s.queued_max_bytes || overdraw(c))
		return false;
	unlist(c);
	TAILQ_INSERT_TAIL(&t->starved, c, link);
	c->list = LIST_STARVED;
	return true;
}

/* ---- from bytes to requests ---- */

static bool is_stopping(const struct net *n)
{
	return atomic_load_explicit(&n->stopping, memory_order_relaxed) != STOP_NO;
}

/* Whether the next frame may be taken. If not, another turn will come when it may. */
static bool may_go_on(struct net_conn *c)
{
	struct net *n = c->thread->net;
	if (is_stopping(n) || (memory_is_short(n) && starve(c)))
		return false;
	/* Those that are done keep their memory until the turn is over: many small ones are a turn before their bytes are. */
	if (c->held >= 2 * n->s.max_in_flight) {
		conn_ready(c);
		return false;
	}
	/* Nothing handed out: no bound can be met. Else what can be sent is sent before a pause. */
	for (int i = 0; c->held && i < 2; i++) {
		pthread_mutex_lock(&c->lock);
		bool may = c->verdict == VERDICT_NONE && conn_may_take(c);
		c->paused = !may && i;
		pthread_mutex_unlock(&c->lock);
		if (may)
			return true;
		if (i)
			return false;
		conn_send(c);
	}
	return true;
}

static void hand_out(struct net_conn *c)
{
	struct net *n = c->thread->net;
	struct request *r = c->partial;
	c->partial = NULL;
	c->prefix_got = 0;
	overdraw_over(c);
	c->held++;
	count_own(&c->thread->count.held_bytes, (int64_t)r->block_bytes);
	count_own(&c->thread->count.held, 1);
	count_own(&c->thread->count.requests, 1);
	pthread_mutex_lock(&c->lock);
	*c->tail = r;
	c->tail = &r->next;
	c->in_flight++;
	c->taken++;
	c->queued_bytes += (int64_t)r->block_bytes;
	pthread_mutex_unlock(&c->lock);
	net_handing_out = c;
	n->o.request(n->o.arg, &r->pub);
	net_handing_out = NULL;
	/* It may be answered by now, but not gone: done requests wait for the end of the round. */
	if (!r->pub.barrier)
		return;
	pthread_mutex_lock(&c->lock);
	if (r->state == REQUEST_TAKEN)
		c->barrier = r;
	pthread_mutex_unlock(&c->lock);
}

/* Begins the frame whose length is there. have: bytes of it that follow. */
static bool begin_frame(struct net_conn *c, size_t have)
{
	static struct diag_limit wrong;
	char peer[NET_PEER_TEXT];
	int32_t size = (int32_t)be32_get(c->prefix), most = c->thread->net->s.request_max_bytes;
	if (size <= 0 || size > most) {
		diag_limited(&wrong, LOG_MS, DIAG_WARNING, "connection of %s closed: it announced a request of %d bytes, and 1 to %d are allowed (socket.request.max.bytes)",
			     net_conn_peer_text(c, peer), size, most);
		return false;
	}
	c->partial = request_new(c, (uint32_t)size, have < (size_t)size ? have : (size_t)size);
	if (!c->partial)
		report_memory(c, (uint32_t)size);
	return c->partial != NULL;
}

/* Adds bytes to the frame under way. Returns how many were its. */
static size_t add_to_frame(struct net_conn *c, const uint8_t *data, size_t n)
{
	size_t left = c->partial->pub.size - c->partial->got;
	if (n > left)
		n = left;
	if (c->partial->got + n > c->partial->room && !grow(c, n))
		return 0;
	memcpy(c->partial->pub.data + c->partial->got, data, n);
	c->partial->got += (uint32_t)n;
	if (n == left)
		hand_out(c);
	return n;
}

/* Takes frames out of n bytes, until a pause. *used: how many were taken. false: the connection is not to go on. */
static bool take_frames(struct net_conn *c, const uint8_t *data, size_t n, size_t *used)
{
	size_t at = 0;
	bool good = true;
	while (good && at < n) {
		if (!c->partial && !c->prefix_got && at && !may_go_on(c))
			break;
		if (!c->partial) {
			size_t want = sizeof c->prefix - c->prefix_got, k = want < n - at ? want : n - at;
			memcpy(c->prefix + c->prefix_got, data + at, k);
			c->prefix_got += (uint8_t)k;
			at += k;
			good = c->prefix_got < sizeof c->prefix || begin_frame(c, n - at);
		} else {
			size_t k = add_to_frame(c, data + at, n - at);
			at += k;
			good = k > 0;
		}
	}
	*used = at;
	return good;
}

static bool take_stash(struct net_conn *c)
{
	size_t used;
	if (!may_go_on(c))
		return true;
	if (!take_frames(c, c->stash + c->stash_at, c->stash_end - c->stash_at, &used))
		return false;
	c->stash_at += used;
	if (c->stash_at == c->stash_end)
		drop_stash(c);
	return true;
}

static void touch(struct net_conn *c)
{
	struct thread *t = c->thread;
	c->active_ms = t->now_ms;
	if (TAILQ_NEXT(c, age)) {
		TAILQ_REMOVE(&t->open, c, age);
		TAILQ_INSERT_TAIL(&t->open, c, age);
	}
}

/* One read, into the frame under way and, where that is the end of it, beyond. *n: bytes read. */
static bool read_once(struct net_conn *c, size_t *n)
{
	struct thread *t = c->thread;
	struct iovec iov[2];
	int count = 0;
	size_t direct = 0, asked;
	*n = 0;
	if (c->partial) {
		struct request *r = c->partial;
		if (r->got == r->room && !grow(c, 1))
			return false;
		r = c->partial;
		direct = (r->room < r->pub.size ? r->room : r->pub.size) - r->got;
		if (direct > READ_ONCE_BYTES)
			direct = READ_ONCE_BYTES;
		iov[count++] = (struct iovec){.iov_base = r->pub.data + r->got, .iov_len = direct};
	}
	if (!c->partial || c->partial->got + direct == c->partial->pub.size)
		iov[count++] = (struct iovec){.iov_base = t->scratch, .iov_len = SCRATCH_BYTES};
	ssize_t got = sock_receive(c->fd, iov, count, &asked);
	if (got <= 0) {
		c->readable = false;
		c->ended_in = !got;
		c->hung_up |= !got;
		return got == 0 || got == -EAGAIN;
	}
	/* Less than there was room for: what comes from now on is an edge of its own. But the end of the peer was one already. */
	c->readable = (size_t)got == asked || c->hung_up;
	touch(c);
	*n = (size_t)got;
	count_own(&t->count.bytes_in, got);
	size_t beyond = (size_t)got > direct ? (size_t)got - direct : 0, used = 0;
	if (c->partial) {
		c->partial->got += (uint32_t)((size_t)got - beyond);
		if (c->partial->got == c->partial->pub.size)
			hand_out(c);
	}
	if (!beyond)
		return true;
	bool first = !direct || may_go_on(c);
	if (first && !take_frames(c, t->scratch, beyond, &used))
		return false;
	return used == beyond || stash(c, t->scratch + used, beyond - used);
}

/* Reads and hands out until there is no more, or it has to wait, or its share is used up. false: the connection is not to go on. */
static bool receive(struct net_conn *c)
{
	size_t total = 0, n;
	for (;;) {
		if (c->stash && !take_stash(c))
			return false;
		if (c->stash || !c->readable || c->ended_in)
			return true;
		if (total >= READ_TURN_BYTES) {
			conn_ready(c);
			return true;
		}
		if (!may_go_on(c))
			return true;
		if (!read_once(c, &n))
			return false;
		total += n;
	}
}

/* ---- turns ---- */

/* What was asked to be read for no other end than that the peer takes our last answers. */
static void linger(struct net_conn *c)
{
	size_t asked;
	for (int i = 0; i < 16; i++) {
		struct iovec iov = {.iov_base = c->thread->scratch, .iov_len = SCRATCH_BYTES};
		ssize_t n = sock_receive(c->fd, &iov, 1, &asked);
		if (n == -EAGAIN)
			return;
		if (n <= 0)
			break;
	}
	conn_linger_over(c);
}

/* Whether it comes to an end now, and if so ends it. */
static bool settle(struct net_conn *c)
{
	bool through = is_stopping(c->thread->net) || (c->ended_in && !c->stash);
	pthread_mutex_lock(&c->lock);
	enum verdict v = c->verdict;
	if (v == VERDICT_NONE && through) {
		c->ends_when_idle = true;
		if (!c->head)
			v = VERDICT_END;
	}
	pthread_mutex_unlock(&c->lock);
	if (v == VERDICT_NONE && c->reset && c->list != LIST_READY)
		v = VERDICT_BROKEN;
	if (v != VERDICT_NONE)
		conn_end(c, v == VERDICT_END);
	return v != VERDICT_NONE;
}

void conn_turn(struct net_conn *c)
{
	if (c->lingers)
		linger(c);
	if (c->closed)
		return;
	unlist(c);
	if (!receive(c)) {
		if (c->held)
			conn_send(c);
		conn_end(c, false);
		return;
	}
	bool look = c->held && conn_send(c);
	if (!look && !c->hung_up && !is_stopping(c->thread->net))
		return;
	if (settle(c))
		return;
	if (look)
		conn_ready(c);
	if (c->hung_up && c->held)
		conn_tell(c, NET_PEER_DONE);
}

void conn_event(struct net_conn *c, uint32_t events)
{
	if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		c->hung_up = true;
	if (events & (EPOLLHUP | EPOLLERR))
		c->reset = true;
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		c->readable = true;
	if (c->readable || atomic_load(&c->unsent))
		conn_turn(c);
}

void conn_register(struct net_conn *c)
{
	struct thread *t = c->thread;
	struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};
	static struct diag_limit limit;
	char peer[NET_PEER_TEXT];
	c->registered = true;
	c->active_ms = t->now_ms;
	TAILQ_INSERT_TAIL(&t->open, c, age);
	if (t->net->o.opened)
		t->net->o.opened(t->net->o.arg, c);
	if (is_stopping(t->net)) {
		conn_end(c, false);
	} else if (epoll_ctl(t->epoll, EPOLL_CTL_ADD, c->fd, &ev)) {
		diag_limited(&limit, LOG_MS, DIAG_ERROR, "connection of %s closed: epoll_ctl: %s", net_conn_peer_text(c, peer), strerror(errno));
		conn_end(c, false);
	}
}

/* ---- the end ---- */

/* locks: c's. Those not answered, to be told, as a list. */
static struct request *untold(struct net_conn *c, enum net_why why)
{
	struct request *list = NULL, **tail = &list;
	for (struct request *r = c->head; r; r = r->next) {
		if (r->state != REQUEST_TAKEN || !r->pub.cancel || r->told & 1u << why)
			continue;
		r->told |= 1u << why;
		r->next_told = NULL;
		*tail = r;
		tail = &r->next_told;
	}
	return list;
}

/* They may be answered meanwhile, here or elsewhere, but are not gone before the end of the round. */
static void tell(struct request *list, enum net_why why)
{
	for (struct request *next; list; list = next) {
		next = list->next_told;
		list->pub.cancel(&list->pub, why);
	}
}

void conn_tell(struct net_conn *c, enum net_why why)
{
	pthread_mutex_lock(&c->lock);
	struct request *list = untold(c, why);
	pthread_mutex_unlock(&c->lock);
	tell(list, why);
}

static bool has_unacked(int fd)
{
	int n = 0;
	return !ioctl(fd, SIOCOUTQ, &n) && n > 0;
}

/* Lets go of the socket. */
static void close_socket(struct net_conn *c)
{
	struct thread *t = c->thread;
	pthread_mutex_lock(&c->lock);
	close(c->fd);
	c->fd = -1;
	pthread_mutex_unlock(&c->lock);
	atomic_fetch_sub_explicit(&t->count.connections, 1, memory_order_relaxed);
	listen_forget(t->net, c);
	bury_later(c);
}

void conn_end(struct net_conn *c, bool gracefully)
{
	struct thread *t = c->thread;
	unlist(c);
	overdraw_over(c);
	TAILQ_REMOVE(&t->open, c, age);
	request_free(t, c->partial);
	c->partial = NULL;
	drop_stash(c);
	pthread_mutex_lock(&c->lock);
	c->dead = true;
	atomic_store_explicit(&c->is_dead, true, memory_order_relaxed);
	struct request *told = untold(c, NET_GONE);
	struct request *unsent = conn_take_answers(c);
	atomic_fetch_add(&t->net->orphans, c->taken);
	pthread_mutex_unlock(&c->lock);
	c->closed = true;
	requests_finish(t, unsent);
	tell(told, NET_GONE);
	/* Closing a socket with unread bytes in it makes the system throw away what the peer has not taken yet. */
	if (!gracefully || !has_unacked(c->fd) || shutdown(c->fd, SHUT_WR)) {
		close_socket(c);
		return;
	}
	c->lingers = true;
	c->active_ms = t->now_ms;
	TAILQ_INSERT_TAIL(&t->lingering, c, age);
	linger(c);
}

void conn_linger_over(struct net_conn *c)
{
	TAILQ_REMOVE(&c->thread->lingering, c, age);
	c->lingers = false;
	close_socket(c);
}

void conn_bury(struct thread *t)
{
	struct net_conn *list = t->dead;
	t->dead = NULL;
	for (struct net_conn *c = list, *next; c; c = next) {
		next = c->next_dead;
		if (atomic_load(&c->in_inbox)) {
			c->next_dead = t->dead;
			t->dead = c;
			continue;
		}
		if (t->net->o.closed)
			t->net->o.closed(t->net->o.arg, c);
		pthread_mutex_destroy(&c->lock);
		free(c);
	}
}

/* ---- what time brings ---- */

/* Whether the connection at the front of the list, whose time is up, is idle; else it goes to the back. */
static bool is_idle(struct net_conn *c)
{
	int64_t sent_ms = atomic_load_explicit(&c->sent_ms, memory_order_relaxed);
	pthread_mutex_lock(&c->lock);
	bool waits = c->taken > 0;
	pthread_mutex_unlock(&c->lock);
	if (!waits && sent_ms <= c->active_ms)
		return true;
	touch(c);
	if (!waits)
		c->active_ms = sent_ms;
	return false;
}

void conn_expire(struct thread *t)
{
	struct net_conn *c;
	char peer[NET_PEER_TEXT];
	int64_t idle_ms = t->net->s.max_idle_ms;
	while ((c = TAILQ_FIRST(&t->lingering)) && t->now_ms - c->active_ms >= LINGER_MS)
		conn_linger_over(c);
	while (idle_ms >= 0 && (c = TAILQ_FIRST(&t->open)) && t->now_ms - c->active_ms >= idle_ms) {
		if (!is_idle(c))
			continue;
		diag_debug("connection of %s closed: idle for %lld ms", net_conn_peer_text(c, peer), (long long)(t->now_ms - c->active_ms));
		conn_end(c, false);
	}
}

/* Of those that wait for memory: all, if there is some again; else one that could overdraw. */
void conn_relieve(struct thread *t)
{
	static struct diag_limit limit;
	char peer[NET_PEER_TEXT];
	struct net_conn *c = t->overdraws;
	if (c && t->now_ms - t->overdraws_since_ms >= t->net->s.starved_ms) {
		diag_limited(&limit, LOG_MS, DIAG_WARNING, "connection of %s closed: memory for requests is used up (queued.max.request.bytes=%lld), and it held %zu bytes of it too long with a request that is not complete",
			     net_conn_peer_text(c, peer), (long long)t->net->s.queued_max_bytes, c->partial->block_bytes);
		conn_end(c, false);
	}
	while (!memory_is_short(t->net) && (c = TAILQ_FIRST(&t->starved)))
		conn_ready(c);
	if (TAILQ_EMPTY(&t->starved))
		return;
	atomic_store(&t->net->starving, true); /* whoever gives memory back from here on pokes us */
	if (!memory_is_short(t->net)) {
		thread_poke(t);
		return;
	}
	if (atomic_load(&t->net->overdrawn) || net_holds_much(t->net))
		return;
	TAILQ_FOREACH(c, &t->starved, link)
		if (c->partial) {
			conn_ready(c);
			return;
		}
}
