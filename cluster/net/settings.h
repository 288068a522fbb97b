/*
 * settings: the properties of the network side, and the syntax of `listeners`.
 *
 *   listeners = [PLAINTEXT://][HOST]:PORT[,...]      HOST: a name, an IPv4 address, an IPv6 address in brackets; none: all interfaces
 *
 * There is no TLS and no SASL: their names are refused with a sentence that says so.
 *
 * thread: any.
 */
#ifndef CLUSTER_NET_SETTINGS_H
#define CLUSTER_NET_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/conf.h"
#include "store/err.h"

extern const struct conf_property net_properties[];

enum { NET_MAX_LISTENERS = 16, NET_MAX_HOST = 255 };

struct net_address {
	char host[NET_MAX_HOST + 1]; /* without brackets; "": all interfaces */
	uint16_t port;               /* 0: the system chooses */
};

struct net_settings {
	struct net_address listener[NET_MAX_LISTENERS];
	unsigned listeners;               /* 0: nothing is served */
	struct net_address advertised[NET_MAX_LISTENERS];
	unsigned advertiseds;             /* 0, 1 (of all listeners), or as many as listeners, in their order */
	unsigned threads;
	int32_t request_max_bytes;
	int32_t send_buffer_bytes, receive_buffer_bytes; /* -1: the system's */
	int backlog;
	int32_t max_connections, max_connections_per_ip;
	int64_t max_idle_ms;              /* negative: for ever */
	int64_t queued_max_bytes;         /* memory of requests in all; always positive */
	/* Not properties: */
	unsigned max_in_flight;           /* requests of one connection that are not answered, or their answers not sent */
	int64_t conn_queued_bytes;        /* bytes of those, after which no further request of the connection is read */
	int64_t conn_unsent_bytes;        /* the same for the memory of its answers */
	int starved_ms;                   /* how long a frame may take to be complete while others wait for its memory */
};

/* The values in force. ERR_INVALID where they contradict each other. */
int net_settings_read(struct net_settings *s, const struct conf *c, struct err *e);

/* list has room for NET_MAX_LISTENERS. advertised: hosts and ports must be real ones. ERR_INVALID. */
int net_parse_listeners(const char *text, bool advertised, struct net_address *list, unsigned *count, struct err *e);

/* host:port, with brackets where needed. text: room for NET_MAX_HOST + 10. */
const char *net_address_text(const struct net_address *a, char *text);

#endif
