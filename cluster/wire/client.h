/*
 * client: a blocking connection to a broker, for our command line, for brokers among themselves, and the tests. Plain TCP.
 *
 * Opening it asks the broker for its versions; afterwards each request goes out at the highest version that both know. Requests may be sent ahead; responses come
 * in their order. Every call ends within the timeout. A connection on which anything went wrong but the encoding of a request is broken: it says so
 * to every further call, and all that is left is client_close.
 *
 * thread: one at a time.
 */
#ifndef CLUSTER_WIRE_CLIENT_H
#define CLUSTER_WIRE_CLIENT_H

#include "cluster/wire/api.h"

struct client;

enum { CLIENT_PORT = 9092, CLIENT_TIMEOUT_MS = 30000, CLIENT_MAX_RESPONSE = 256 << 20 };

/* address: HOST, HOST:PORT, [IPV6]:PORT or a bare IPv6 address. Each address that the name has is tried until the timeout, which does not cover the
 * resolver's own. client_id: copied. ERR_INVALID (the address), ERR_NOT_FOUND (the name), ERR_TIMED_OUT, ERR_OFFLINE (refused, unreachable, closed),
 * ERR_UNSUPPORTED (a broker without ApiVersions), ERR_CORRUPT, ERR_NO_MEMORY. On success *c is owned by the caller. */
int client_open(struct client **c, const char *address, const char *client_id, int timeout_ms, struct err *e);
/* The same; whenever cancel_fd is readable, now or in any later call, what would have to wait is ERR_INTERRUPTED instead, and the connection broken. It is not read, and must outlive the client. */
int client_open_cancellable(struct client **c, const char *address, const char *client_id, int timeout_ms, int cancel_fd, struct err *e);
void client_close(struct client *c); /* NULL is fine */

/* Whether the host says that nobody listens there: every address of the name refuses connections. A timeout or any other failure is false. */
bool client_refuses(const char *address, int timeout_ms);

/* The connection, for poll: while no response is due it becomes readable when the broker closes it. Another thread may call shutdown(2) on it, to end a call that waits, while it is sure that the
 * client is open. */
int client_fd(const struct client *c);

/* From now on. A request that the broker holds back (a Fetch with max wait, JoinGroup) needs more than the broker waits. */
void client_set_timeout(struct client *c, int timeout_ms);

/* The highest version that both know, or ERR_UNSUPPORTED. Of requests between brokers, which no broker advertises, the one that is spoken. */
int client_version(const struct client *c, int api_key, struct err *e);

/* What the broker advertised; false: nothing of this API, which may be one that we do not know. */
bool client_broker_versions(const struct client *c, int api_key, int *min, int *max);

/* One request and its response. request, response: the structs of that API. What response points to is borrowed until the next response is received or the client closed.
 * Errors as of client_open and wire_encode. An error code within the response is not an error here.
 * Not for Produce with acks=0, nor while responses to requests sent before are due. */
int client_call(struct client *c, int api_key, const void *request, void *response, struct err *e);

/* The two halves. version: -1 for the highest common one. A Produce request with acks=0 has no response, and none is waited for. client_receive takes the
 * response of the oldest request that has none yet (ERR_INVALID if there is none), which was of api_key. */
int client_send(struct client *c, int api_key, int version, const void *request, struct err *e);
int client_receive(struct client *c, int api_key, void *response, struct err *e);

#endif
