/*
 * member: this broker as one of its cluster: its registration at /brokers/ids, for as long as it runs.
 *
 * In each session of ZooKeeper, in this order: the persistent paths; the cluster id, made or compared; no broker is registered that is not a spoolfs; /brokers/ids/<id>, ephemeral. The
 * transaction that made that node is the broker's epoch: each registration has a greater one. A new session is a new registration.
 *
 * An id that is held by other log directories is refused, and so is a cluster that is not ours: the member has failed, and makes no further attempt. What holds it with these very log directories is
 * a registration of a process before this one, whose session could not be closed: it is waited for, as long as the servers may take to let it expire.
 *
 * A broker that stopped uncleanly is registered as not clean until member_cleared says that the controller has acted upon that: not only once, as a session may end before any controller has looked.
 *
 * thread: member_open, member_start, member_wait and member_free by one; callbacks on zk's queue; the rest any. locks: its own, a leaf.
 */
#ifndef CLUSTER_ZK_MEMBER_H
#define CLUSTER_ZK_MEMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cluster/zk/layout.h"
#include "cluster/zk/zk.h"
#include "store/err.h"

struct member;
struct queue;

struct member_options {
	struct zk *zk;                     /* borrowed, outlives the member; not started yet */
	struct queue *queue;               /* zk's */
	int32_t broker_id;
	const struct layout_endpoint *endpoint; /* what is advertised; at least one */
	size_t endpoints;
	const char *rack;                  /* NULL or "": none */
	const char *cluster_id;            /* what these log directories belong to: another cluster is refused. NULL or "": to none yet; they take part in whichever is found */
	const char *new_cluster_id;        /* what a cluster that has no id gets, if these have none: uuid_text_new's */
	const char *data_id;               /* of these log directories, for ever: member_data_id's */
	bool clean;                        /* whether all that was acknowledged before the last stop is on these disks */
	void (*registered)(void *arg, int64_t epoch); /* takes part: epoch is the broker's */
	void (*lost)(void *arg);           /* the session has expired: nothing may be acknowledged, nor asked for, with that epoch */
	void (*failed)(void *arg, const struct err *e); /* registration is refused for good */
	void *arg;
};

/* All borrowed during the call but zk and queue. ERR_NO_MEMORY. */
int member_open(struct member **out, const struct member_options *o, struct err *e);
/* Starts zk, too. */
void member_start(struct member *m);
/* Waits until registered, or failed (whose sentence it returns), or ERR_TIMED_OUT: with zk's sentence if there was no connection, for which `connection_ms` of the time are enough. Not on the queue's thread. */
int member_wait(struct member *m, int connection_ms, int registration_ms, struct err *e);
/* After zk_close, and when the queue has run what was posted (queue_free). NULL is fine. */
void member_free(struct member *m);

int64_t member_epoch(const struct member *m);  /* -1: not registered */
/* As zk_lease_ms; at most 0 while not registered. */
int64_t member_lease_ms(const struct member *m);
const char *member_cluster_id(const struct member *m); /* once registered; never changes then */
/* A controller has taken notice of the registration of that epoch, as its requests to this broker show. */
void member_cleared(struct member *m, int64_t epoch);

/* The id of log directories, made on first use and kept in `path`: 22 characters of base64url. ERR_CORRUPT, ERR_IO, ... */
int member_data_id(const char *path, char id[TOPIC_ID_CHARS + 1], struct err *e);

#endif
