/*
 * listen: listening sockets, and connections as they come. All but listen_forget: on the first network thread, once it runs.
 *
 * Over max.connections nothing is accepted: clients wait in the system's queue, as with Kafka, until a connection is closed. Over
 * max.connections.per.ip a connection is accepted and closed. Without a descriptor to accept with, a reserve is given up to turn
 * the client away at once rather than let it wait; where even that fails accepting pauses, as the listening sockets are level-triggered.
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <uthash.h>

#include "cluster/net/reactor.h"
#include "store/diag.h"

enum { ACCEPT_ROUND = 64, PORT_ATTEMPTS = 16 };

struct ip_count {
	struct in6_addr ip;
	int32_t connections;
	UT_hash_handle hh;
};

/* ---- opening ---- */

static uint16_t bound_port(int fd)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof sa;
	if (getsockname(fd, (struct sockaddr *)&sa, &len))
		return 0;
	return ntohs(sa.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&sa)->sin6_port : ((struct sockaddr_in *)&sa)->sin_port);
}

static void set_port(struct sockaddr *sa, uint16_t port)
{
	if (sa->sa_family == AF_INET6)
		((struct sockaddr_in6 *)sa)->sin6_port = htons(port);
	else
		((struct sockaddr_in *)sa)->sin_port = htons(port);
}

/* A listening socket, or a negative errno. */
static int listen_at(const struct net_settings *s, const struct addrinfo *at, bool all)
{
	int fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	sock_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (at->ai_family == AF_INET6)
		sock_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, !all);
	/* Before listen: the window's scale is agreed on when a connection begins. */
	if (s->receive_buffer_bytes > 0)
		sock_option(fd, SOL_SOCKET, SO_RCVBUF, s->receive_buffer_bytes);
	if (bind(fd, at->ai_addr, at->ai_addrlen) || listen(fd, s->backlog)) {
		int r = -errno;
		close(fd);
		return r;
	}
	return fd;
}

static int add_socket(struct net *n, int fd, unsigned index)
{
	struct listener *more = realloc(n->socket, (n->sockets + 1) * sizeof *more);
	if (!more) {
		close(fd);
		return -ENOMEM;
	}
	n->socket = more;
	more[n->sockets++] = (struct listener){.source = SOURCE_LISTENER, .fd = fd, .index = index};
	return 0;
}

/* Listens at every address of the list that this machine has, at one port. Returns the sockets, or a negative errno if there are none. */
static int listen_at_all(struct net *n, unsigned index, const struct addrinfo *list, bool all)
{
	uint16_t port = n->s.listener[index].port;
	int opened = 0, r = -EADDRNOTAVAIL;
	for (const struct addrinfo *at = list; at; at = at->ai_next) {
		set_port(at->ai_addr, port);
		int fd = listen_at(&n->s, at, all);
		if (fd < 0) {
			if (fd == -EADDRNOTAVAIL || fd == -EAFNOSUPPORT)
				continue;
			return fd;
		}
		port = bound_port(fd);
		r = add_socket(n, fd, index);
		if (r)
			return r;
		opened++;
		if (all) /* the dual-stack socket is enough */
			break;
	}
	n->port[index] = port;
	return opened ? opened : r;
}

static void close_from(struct net *n, unsigned from)
{
	while (n->sockets > from)
		close(n->socket[--n->sockets].fd);
}

static int resolve(const struct net_address *a, bool all, struct addrinfo **list, struct err *e)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
	int r = getaddrinfo(all ? "::" : a->host, "0", &hints, list);
	if (r && all)
		r = getaddrinfo("0.0.0.0", "0", &hints, list);
	if (r)
		return err_set(e, ERR_INVALID, "listener %s: the host cannot be found: %s", a->host, gai_strerror(r));
	return 0;
}

static int open_error(const struct net_address *a, int r, struct err *e)
{
	char text[NET_MAX_HOST + 10];
	net_address_text(a, text);
	if (r == -EADDRINUSE)
		return err_set(e, ERR_BUSY, "listener %s: the address is in use, by another program or another listener", text);
	if (r == -EADDRNOTAVAIL || r == -EAFNOSUPPORT)
		return err_set(e, ERR_INVALID, "listener %s: this machine has no such address", text);
	return err_sys(e, r, "listener %s", text);
}

static int open_one(struct net *n, unsigned index, struct err *e)
{
	const struct net_address *a = &n->s.listener[index];
	bool all = !*a->host || !strcmp(a->host, "::");
	unsigned before = n->sockets;
	struct addrinfo *list;
	int r = resolve(a, all, &list, e);
	if (r)
		return r;
	/* A port that the system chose for the first address may be taken at the next. */
	for (int i = 0; i < PORT_ATTEMPTS; i++) {
		close_from(n, before);
		r = listen_at_all(n, index, list, all);
		if (r != -EADDRINUSE || a->port)
			break;
	}
	freeaddrinfo(list);
	if (r == -EAFNOSUPPORT || (r == -EADDRNOTAVAIL && all)) { /* a machine without IPv6 */
		struct sockaddr_in v4 = {.sin_family = AF_INET};
		struct addrinfo at = {.ai_family = AF_INET, .ai_addr = (struct sockaddr *)&v4, .ai_addrlen = sizeof v4};
		close_from(n, before);
		r = listen_at_all(n, index, &at, all);
	}
	return r < 0 ? open_error(a, r, e) : 0;
}

int listen_open(struct net *n, struct err *e)
{
	for (unsigned i = 0; i < n->s.listeners; i++) {
		int r = open_one(n, i, e);
		if (r) {
			listen_close(n);
			return r;
		}
	}
	n->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	return 0;
}

void listen_close(struct net *n)
{
	close_from(n, 0);
	if (n->reserve_fd >= 0)
		close(n->reserve_fd);
	n->reserve_fd = -1;
	n->accepting = false;
	n->accept_again_ms = 0;
}

/* ---- accepting, or not ---- */

static void set_interest(struct net *n, uint32_t events)
{
	for (unsigned i = 0; i < n->sockets; i++) {
		struct epoll_event ev = {.events = events, .data.ptr = &n->socket[i]};
		epoll_ctl(n->thread[0].epoll, EPOLL_CTL_MOD, n->socket[i].fd, &ev);
	}
	n->accepting = events != 0;
}

int listen_start(struct net *n, struct err *e)
{
	for (unsigned i = 0; i < n->sockets; i++) {
		struct epoll_event ev = {.events = EPOLLIN, .data.ptr = &n->socket[i]};
		if (epoll_ctl(n->thread[0].epoll, EPOLL_CTL_ADD, n->socket[i].fd, &ev))
			return err_sys(e, errno, "epoll_ctl");
	}
	n->accepting = true;
	return 0;
}

/* for_ms: 0: until a connection is closed. */
static void pause_accepting(struct net *n, int for_ms)
{
	set_interest(n, 0);
	n->accept_again_ms = for_ms ? net_now_ms() + for_ms : 0;
}

static bool is_full(const struct net *n)
{
	return atomic_load(&n->connections) >= n->s.max_connections;
}

void listen_resume(struct net *n)
{
	if (n->accepting || !n->sockets)
		return;
	if (n->accept_again_ms ? n->thread[0].now_ms < n->accept_again_ms : is_full(n))
		return;
	n->accept_again_ms = 0;
	atomic_store(&n->accept_full, false);
	set_interest(n, EPOLLIN);
}

static bool counts_ips(const struct net *n)
{
	return n->s.max_connections_per_ip < INT32_MAX;
}

/* IPv4 as mapped: one key for both kinds. */
static struct in6_addr ip_of(const struct net_conn *c)
{
	struct in6_addr ip = {0};
	if (c->peer.any.sa_family == AF_INET6)
		return c->peer.v6.sin6_addr;
	ip.s6_addr[10] = ip.s6_addr[11] = 0xff;
	memcpy(&ip.s6_addr[12], &c->peer.v4.sin_addr, 4);
	return ip;
}

/* false: its address has all it may have, or there is no memory to count it. */
static bool count_ip(struct net *n, const struct net_conn *c)
{
	struct in6_addr ip = ip_of(c);
	struct ip_count *k;
	if (!counts_ips(n))
		return true;
	pthread_mutex_lock(&n->ip_lock);
	HASH_FIND(hh, n->ips, &ip, sizeof ip, k);
	if (!k && n->s.max_connections_per_ip > 0 && (k = calloc(1, sizeof *k))) {
		k->ip = ip;
		HASH_ADD(hh, n->ips, ip, sizeof k->ip, k);
	}
	bool may = k && k->connections < n->s.max_connections_per_ip;
	if (may)
		k->connections++;
	pthread_mutex_unlock(&n->ip_lock);
	return may;
}

void listen_forget(struct net *n, const struct net_conn *c)
{
	struct in6_addr ip = ip_of(c);
	struct ip_count *k;
	if (counts_ips(n)) {
		pthread_mutex_lock(&n->ip_lock);
		HASH_FIND(hh, n->ips, &ip, sizeof ip, k);
		if (k && !--k->connections) {
			HASH_DEL(n->ips, k);
			free(k);
		}
		pthread_mutex_unlock(&n->ip_lock);
	}
	atomic_fetch_sub(&n->connections, 1);
	if (atomic_load(&n->accept_full))
		thread_poke(&n->thread[0]);
}

/* The thread with the fewest. */
static struct thread *choose_thread(struct net *n)
{
	struct thread *least = &n->thread[0];
	for (unsigned i = 1; i < n->s.threads; i++)
		if (atomic_load_explicit(&n->thread[i].count.connections, memory_order_relaxed) < atomic_load_explicit(&least->count.connections, memory_order_relaxed))
			least = &n->thread[i];
	return least;
}

static struct net_conn *conn_new(struct net *n, const struct listener *l, int fd, const struct sockaddr_storage *peer)
{
	struct net_conn *c = calloc(1, sizeof *c);
	if (!c)
		return NULL;
	c->source = SOURCE_CONN;
	c->id = ++n->next_id;
	c->fd = fd;
	c->listener = l->index;
	pthread_mutex_init(&c->lock, NULL);
	c->tail = &c->head;
	memcpy(&c->peer, peer, sizeof c->peer);
	if (c->peer.any.sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&c->peer.v6.sin6_addr)) {
		struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = c->peer.v6.sin6_port};
		memcpy(&v4.sin_addr, &c->peer.v6.sin6_addr.s6_addr[12], 4);
		c->peer.v4 = v4;
	}
	return c;
}

static void conn_refuse(struct net_conn *c)
{
	close(c->fd);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

static void set_up(struct net *n, int fd)
{
	sock_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	sock_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	if (n->s.send_buffer_bytes > 0)
		sock_option(fd, SOL_SOCKET, SO_SNDBUF, n->s.send_buffer_bytes);
}

static void take_connection(struct net *n, const struct listener *l, int fd, const struct sockaddr_storage *peer)
{
	static struct diag_limit limit;
	char text[NET_PEER_TEXT];
	struct net_conn *c = conn_new(n, l, fd, peer);
	if (!c) {
		close(fd);
		return;
	}
	if (!count_ip(n, c)) {
		diag_limited(&limit, LOG_MS, DIAG_NOTICE, "connection of %s closed: %d connections of that address are open already (max.connections.per.ip)", net_conn_peer_text(c, text),
			     n->s.max_connections_per_ip);
		conn_refuse(c);
		return;
	}
	set_up(n, fd);
	c->thread = choose_thread(n);
	atomic_fetch_add(&n->connections, 1);
	count_any(&c->thread->count.connections, 1);
	count_any(&c->thread->count.accepted, 1);
	if (c->thread == &n->thread[0])
		conn_register(c);
	else
		inbox_put(c);
}

/* There is no descriptor left: the client is told so by a closed connection. The system says so even if no client is there. false: none is. */
static bool turn_away(struct net *n, const struct listener *l, int error)
{
	static struct diag_limit limit;
	struct sockaddr_storage peer;
	int fd = error;
	if (n->reserve_fd >= 0) {
		close(n->reserve_fd);
		fd = sock_accept(l->fd, &peer);
		if (fd >= 0)
			close(fd);
		n->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	}
	if (fd == -EAGAIN)
		return false;
	diag_limited(&limit, LOG_MS, DIAG_ERROR, "a connection was turned away: %s (ulimit -n)", strerror(-error));
	if (fd < 0)
		pause_accepting(n, ACCEPT_PAUSE_MS);
	return true;
}

void listen_accept(struct net *n, struct listener *l)
{
	for (int i = 0; i < ACCEPT_ROUND && n->accepting; i++) {
		struct sockaddr_storage peer = {0};
		if (is_full(n)) {
			static struct diag_limit limit;
			diag_limited(&limit, LOG_MS, DIAG_WARNING, "%d connections are open (max.connections): further ones wait", n->s.max_connections);
			atomic_store(&n->accept_full, true);
			pause_accepting(n, 0);
			listen_resume(n); /* one may have been closed before the flag could be seen */
			return;
		}
		int fd = sock_accept(l->fd, &peer);
		if (fd >= 0)
			take_connection(n, l, fd, &peer);
		else if (fd == -EMFILE || fd == -ENFILE)
			fd = turn_away(n, l, fd) ? 0 : -EAGAIN;
		else if (fd != -EAGAIN && fd != -ECONNABORTED && fd != -EPROTO) /* the latter are the fate of that one connection */
			pause_accepting(n, ACCEPT_PAUSE_MS);
		if (fd == -EAGAIN)
			return;
	}
}
