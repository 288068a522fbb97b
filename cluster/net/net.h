/*
 * net: the reactor. Listening sockets, network threads, connections, frames in, responses out. Knows no message: a
 * request is the bytes behind a 4-byte length, a response is memory and ranges of files behind one.
 *
 * Every connection belongs to one network thread for life, which reads it, calls `request` for each frame in the order
 * of arrival, and closes it. Requests are answered from any thread, in any order; answers leave in the order of the requests.
 *
 * Who owns a request, and when
 *   1. `request(arg, r)` gives r to the callee. r->data stays where it is until r is answered.
 *   2. It is answered exactly once, from any thread, inside the callback or later: net_respond, net_respond_copy, net_drop or net_close.
 *      That gives r back: the caller touches neither r nor r->data nor net_room(r) any more.
 *   3. `done(arg, r)` is the last that is heard of r, always on its network thread, after the answer was sent (or given up) and
 *      after any `cancel`: what hangs on r->user is freed there. It may come up to a second after the answer left.
 *   4. `r->cancel(r, why)` is called on the network thread, while r is not answered yet, when it may no longer be worth waiting: see
 *      enum net_why. It does not answer r: whoever holds r still has to, at that moment or later, here or there. It may run while another
 *      thread is just answering r; r->user and net_room(r) are valid in it all the same, as `done` comes later. r->data belongs to the answer by then.
 *      So what a parked request needs stands in net_room(r) or behind r->user, and has one atomic flag of its own that says who
 *      answers it: the condition, the deadline, or the cancel.
 *
 * Callbacks are called with no lock of net's held. net's own locks are leaves: everything here may be called with any lock held that
 * `release`, `done`, and `cancel` do not take.
 *
 * thread: net_open, net_run, net_stop, net_free by one thread that is no network thread; the rest any, unless said otherwise.
 */
#ifndef CLUSTER_NET_NET_H
#define CLUSTER_NET_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "cluster/net/settings.h"
#include "store/err.h"

struct net;
struct net_conn;
struct pool;

/* ---- requests ---- */

enum net_why {
	NET_PEER_DONE, /* the peer will send nothing more, but may still read: an answer is sent. What a client's close() looks like at first */
	NET_STOPPING,  /* net_stop has begun: an answer is sent if it comes before the deadline */
	NET_GONE,      /* the connection is closed: any answer is thrown away */
};

struct net_request {
	/* For the callee: */
	struct net_conn *conn; /* valid until r is answered */
	uint8_t *data;         /* the frame without its length; may be written to */
	uint32_t size;         /* at least 1 */
	bool barrier;          /* set inside the callback: no further request of the connection is handed out before this one is answered */
	void *user;            /* the callee's; NULL at first */
	/* NULL, or set inside the callback and left alone afterwards. Called at most once for each reason, in any order, NET_GONE being the last. */
	void (*cancel)(struct net_request *r, enum net_why why);
};

/* Memory of net_options.room_bytes, aligned for anything, zero at first, that lives as long as r. */
void *net_room(struct net_request *r);

/* Whether the connection is closed: only worth something as a hint. The caller holds r. */
bool net_request_gone(const struct net_request *r);

/* ---- answers ---- */

struct net_chunk {
	const void *data; /* memory, unchanged until release; NULL: a range of a file */
	int fd;           /* of a range: open until release */
	uint64_t offset;  /* of a range: where in the file */
	uint64_t bytes;
};

/* Embedded in what the answer is made of; belongs to net from net_respond until `release`. The length that goes in front of the
 * chunks is net's work: they are at most INT32_MAX bytes together. Zero bytes are an answer too. */
struct net_response {
	const struct net_chunk *chunk; /* count of them, unchanged until release */
	unsigned count;
	/* Called exactly once, from any thread, maybe inside net_respond. sent: all of it is in the socket's buffer. */
	void (*release)(struct net_response *p, bool sent);
	/* net's own: */
	uint64_t bytes;
	uint32_t memory_bytes;
	uint8_t length[4];
};

/* If a file turns out to be shorter than its range the connection is closed: never are other bytes sent in its place. A range that is not in
 * the page cache makes whoever sends it wait for the disk, and with it the connection's thread: what is cold is better read ahead by a pool thread. */
void net_respond(struct net_request *r, struct net_response *p);

/* The bytes are borrowed during the call, and may lie in r->data. false: no memory, the connection is closed. Either way r is answered. */
bool net_respond_copy(struct net_request *r, const void *data, size_t n);

/* No answer, as to acks=0. */
void net_drop(struct net_request *r);

/* Closes the connection, after the answers to earlier requests were sent. */
void net_close(struct net_request *r);

/* ---- connections: for who holds a request of it, or is in a callback about it ---- */

uint64_t net_conn_id(const struct net_conn *c); /* never given twice by one net */
void net_conn_set_user(struct net_conn *c, void *user); /* thread: the connection's */
void *net_conn_user(const struct net_conn *c);
const struct sockaddr *net_conn_peer(const struct net_conn *c); /* an IPv4 peer of a dual-stack socket is AF_INET */
unsigned net_conn_listener(const struct net_conn *c);           /* index in net_settings.listener */
unsigned net_conn_thread(const struct net_conn *c);             /* index of its network thread */

enum { NET_PEER_TEXT = 64 };
const char *net_conn_peer_text(const struct net_conn *c, char text[NET_PEER_TEXT]); /* 127.0.0.1:4711, [::1]:4711 */

/* Where a client of this connection should be told that we are: advertised.listeners if set, else the listener's host and port as it
 * was bound, else, of a listener on all interfaces, the address at which the client reached us. */
void net_conn_advertised(const struct net_conn *c, struct net_address *out);

/* ---- the reactor ---- */

struct net_options {
	const struct net_settings *settings; /* copied */
	size_t room_bytes;
	struct pool *pool; /* reads ranges of files that are not in the page cache, so that no network thread waits for a disk; NULL: they do. It outlives the net */
	void *arg;
	void (*request)(void *arg, struct net_request *r);
	void (*done)(void *arg, struct net_request *r);   /* NULL */
	void (*opened)(void *arg, struct net_conn *c);    /* NULL, or before the connection's first request */
	void (*closed)(void *arg, struct net_conn *c);    /* NULL, or the last that is heard of the connection, after all its requests are done */
	bool (*tick)(void *arg, unsigned thread);         /* NULL, or called by a thread about once a second while it has anything to do, to give back memory that
							   * was not needed meanwhile; true: also if there is nothing else to do */
};

/* Binds and listens: clients can connect from now on, and wait. Sets SIGPIPE to be ignored where it would end the process.
 * ERR_INVALID, ERR_BUSY (address in use), ERR_DENIED, ERR_LIMIT, ERR_NO_MEMORY, ERR_IO. */
int net_open(struct net **out, const struct net_options *o, struct err *e);

/* Starts the network threads: requests are served. ERR_LIMIT, ERR_NO_MEMORY. */
int net_run(struct net *n, struct err *e);

/* Ends it: accepts no more, reads no more, cancels with NET_STOPPING; each connection is closed when all its requests are answered and sent, the
 * others when wait_ms have passed (0: at once). Returns the number of requests that were not answered by then; their holders still
 * have to answer them before net_free. */
unsigned net_stop(struct net *n, int wait_ms);

/* Stops at once if that has not been done, waits until every request has been answered, ends the threads. NULL is fine. */
void net_free(struct net *n);

unsigned net_threads(const struct net *n);
/* Where a listener is bound: its host as configured ("" for all interfaces), its port as given by the system if 0 was asked for. */
void net_listener_address(const struct net *n, unsigned listener, struct net_address *out);

/* Since net_open, but for connections, requests_held and queued_bytes, which are now. */
struct net_stats {
	uint64_t connections, accepted;
	uint64_t requests, responses;      /* responses: those wholly sent */
	uint64_t bytes_in, bytes_out;
	uint64_t requests_held;            /* handed out and not done */
	uint64_t queued_bytes;             /* memory of requests and of frames under way */
	uint64_t pooled_bytes;             /* kept for the next ones */
	uint64_t wakes;                    /* times another thread woke this one */
	uint64_t foreign_writes;           /* responses written by a thread that is not the connection's */
};
/* Of one thread, or of all (thread < 0). */
void net_stats(const struct net *n, int thread, struct net_stats *out);

#endif
