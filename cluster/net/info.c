/* info: what can be asked about a connection. */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "cluster/net/reactor.h"

bool net_request_gone(const struct net_request *r)
{
	return atomic_load_explicit(&r->conn->is_dead, memory_order_relaxed);
}

uint64_t net_conn_id(const struct net_conn *c)
{
	return c->id;
}

void net_conn_set_user(struct net_conn *c, void *user)
{
	c->user = user;
}

void *net_conn_user(const struct net_conn *c)
{
	return c->user;
}

const struct sockaddr *net_conn_peer(const struct net_conn *c)
{
	return &c->peer.any;
}

unsigned net_conn_listener(const struct net_conn *c)
{
	return c->listener;
}

unsigned net_conn_thread(const struct net_conn *c)
{
	return c->thread->index;
}

static void address_of(const struct sockaddr *sa, struct net_address *a)
{
	memset(a, 0, sizeof *a);
	if (sa->sa_family == AF_INET) {
		const struct sockaddr_in *v4 = (const void *)sa;
		inet_ntop(AF_INET, &v4->sin_addr, a->host, sizeof a->host);
		a->port = ntohs(v4->sin_port);
	} else if (sa->sa_family == AF_INET6) {
		const struct sockaddr_in6 *v6 = (const void *)sa;
		bool mapped = IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr);
		inet_ntop(mapped ? AF_INET : AF_INET6, mapped ? (const void *)&v6->sin6_addr.s6_addr[12] : (const void *)&v6->sin6_addr, a->host, sizeof a->host);
		a->port = ntohs(v6->sin6_port);
	}
}

const char *net_conn_peer_text(const struct net_conn *c, char text[NET_PEER_TEXT])
{
	struct net_address a;
	char whole[NET_MAX_HOST + 10];
	address_of(&c->peer.any, &a);
	snprintf(text, NET_PEER_TEXT, "%.*s", NET_PEER_TEXT - 1, net_address_text(&a, whole));
	return text;
}

static bool is_wildcard(const char *host)
{
	return !*host || !strcmp(host, "0.0.0.0") || !strcmp(host, "::");
}

void net_conn_advertised(const struct net_conn *c, struct net_address *out)
{
	const struct net *n = c->thread->net;
	if (n->s.advertiseds) {
		*out = n->s.advertised[n->s.advertiseds > 1 ? c->listener : 0];
		return;
	}
	net_listener_address(n, c->listener, out);
	if (!is_wildcard(out->host))
		return;
	struct sockaddr_storage local;
	socklen_t len = sizeof local;
	pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&c->lock;
	pthread_mutex_lock(lock); /* its thread may be closing the socket */
	if (c->fd < 0 || getsockname(c->fd, (struct sockaddr *)&local, &len))
		local.ss_family = AF_UNSPEC;
	pthread_mutex_unlock(lock);
	if (local.ss_family != AF_UNSPEC)
		address_of((struct sockaddr *)&local, out);
}

void net_listener_address(const struct net *n, unsigned listener, struct net_address *out)
{
	*out = n->s.listener[listener];
	out->port = n->port[listener];
}
