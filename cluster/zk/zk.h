/*
 * zk: a session with ZooKeeper: asynchronous requests, watches, the lease.
 *
 * A `struct zk` is one client of an ensemble. It connects, connects again when the connection is lost, and begins a new session when the old one has expired, by itself and for ever,
 * until zk_close. Everything it has to say comes as events of the queue it was given, in the order in which ZooKeeper said it: so `done` and a listener's callbacks run on the
 * queue's thread, with no lock held, and never inside the call that made the request.
 *
 * A session's life, as listeners hear of it:
 *
 *   connected(id) ( suspended connected(id) )* [ suspended ] expired, and again with another id
 *
 * `expired` means: its ephemeral nodes are gone, its watches will not fire, every request made in it is done (most with ZK_EXPIRED). A request belongs to the session whose
 * `connected` ran last: made before the first, or between `expired` and the next `connected`, it is done with ZK_EXPIRED.
 *
 * When the connection is lost, requests that were not answered are made again, in their order, when it is back. What was perhaps done the first time is found out so:
 *
 *   reads                     made again.
 *   create                    made again; if the node exists then, it is read: with our bytes (an ephemeral one: and of our session) it is ours, and the request is ZK_OK. A node of ours that somebody
 *                             deleted meanwhile is made once more.
 *   create, sequential        made again: there may be two. Only for notifications, which may come twice.
 *   set with a version v      made again; on ZK_BAD_VERSION the node is read: with our bytes and version v + 1 it was ours, ZK_OK.
 *   set without               made again: the last writer wins. Only where nobody else writes, or all write the same.
 *   delete                    made again; ZK_NO_NODE is then ZK_OK.
 *   multi                     made again; if it is refused, its nodes are read: all of its creates, sets and deletes are as the multi would leave them by the rules above: ZK_OK. None is:
 *                             the refusal stands. Some are: ZK_UNKNOWN, the caller reads what it needs to know. A multi of nothing but checks, and sets without version, is only made again.
 *
 * So two writes of the same node are never under way at once from one client: the caller waits for the first.
 *
 * A request, with its path and data, must fit what a server reads (jute.maxbuffer, 1 MiB - 1 by default): else it is ZK_TOO_LARGE and not sent. The paths of all watches together must, too.
 * zk_multi_bytes lets a caller divide what need not be one.
 *
 * Paths begin with / and stand below the chroot, which nobody above sees.
 *
 * thread: zk_open, zk_start, zk_close and zk_free by one, the rest any; listeners are added on the queue's thread or before zk_start. locks: zk's own, a leaf for callers; never held over a callback.
 */
#ifndef CLUSTER_ZK_ZK_H
#define CLUSTER_ZK_ZK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/err.h"

struct queue;
struct zk;

enum { ZK_PATH_MAX = 1024, ZK_MAX_REQUEST = 0xfffff }; /* of a path with its chroot; Kafka's and ZooKeeper's jute.maxbuffer */

enum zk_code {
	ZK_OK,
	ZK_NO_NODE,      /* of a create: its parent is missing */
	ZK_EXISTS,
	ZK_BAD_VERSION,
	ZK_NOT_EMPTY,
	ZK_NO_AUTH,      /* the node's ACL does not allow it */
	ZK_ROLLED_BACK,  /* of one part of a multi: it would have been done, or was not looked at, but another was refused */
	ZK_TOO_LARGE,    /* over jute.maxbuffer; not sent */
	ZK_INVALID,      /* ZooKeeper does not take it: a path, an ACL without credentials, a child of an ephemeral node */
	ZK_EXPIRED,      /* the session is over, or there is none yet. A write may have been done before it ended */
	ZK_CLOSED,       /* zk_close was called. A write may have been done */
	ZK_UNKNOWN,      /* whether it was done cannot be told */
	ZK_FAILED,       /* the server says it failed, in no way that is listed here */
	ZK_NO_MEMORY,    /* not sent */
};
const char *zk_code_text(enum zk_code c); /* "the node exists" */

struct zk_stat {
	int64_t czxid, mzxid, pzxid; /* transactions that created it, set it, changed its children */
	int64_t ctime_ms, mtime_ms;
	int32_t version, children_version, children;
	int64_t ephemeral_owner; /* the session, 0: persistent */
};

/* All borrowed until `done` returns. */
struct zk_result {
	enum zk_code code;
	const char *path;           /* as asked for; of a created node its name, with the sequence number */
	const char *data;           /* get: a byte 0 stands behind; NULL where the node has none. Nothing in it is to be trusted */
	size_t bytes;
	char *const *children;      /* children: names, in no order */
	size_t children_count;
	struct zk_stat stat;        /* get, exists, children, set, create; not where zk_error says that there is none */
	const struct zk_result *part; /* multi: one for each part, in order: code, path, stat of a set */
	size_t parts;
	size_t refused;             /* multi that was refused: the part that was at fault, else == parts */
};

typedef void (*zk_done_fn)(void *arg, const struct zk_result *r);

/* The sentence for what is not ZK_OK, with an ERR_ code: "cannot create /brokers/ids/1: the node exists". Returns that code. what: "create". */
int zk_error(const struct zk_result *r, const char *what, struct err *e);

/* ---- the session ---- */

enum zk_acl { ZK_ACL_OPEN, ZK_ACL_READABLE, ZK_ACL_PRIVATE }; /* everybody everything; creator everything and everybody may read; the creator alone */

struct zk_options {
	const char *connect;         /* host:port,host:port/chroot; the chroot is made if it is missing */
	int session_timeout_ms;      /* what is asked for; the servers negotiate */
	const char *credentials;     /* user:password, of the scheme digest; NULL: none */
	bool set_acl;                /* nodes are made with what `acl` says; else, open to everybody. Needs credentials */
	enum zk_acl (*acl)(const char *path);
	int max_in_flight;           /* requests that are sent and not answered; more wait here */
	const char *session_file;    /* where id and password of the session are kept (mode 0600), NULL: nowhere. A session that a process before this one left in it is closed first */
	struct queue *queue;         /* borrowed until zk_close and what it has posted: queue_free comes between zk_close and zk_free */
};

/* All borrowed during the call but the queue. Nothing is connected before zk_start. ERR_INVALID, ERR_NO_MEMORY, ERR_LIMIT. */
int zk_open(struct zk **out, const struct zk_options *o, struct err *e);
/* Whether it is one: else ERR_INVALID in *e. */
bool zk_check_connect(const char *text, struct err *e);

enum zk_change { ZK_CREATED, ZK_DELETED, ZK_CHANGED, ZK_CHILDREN };

struct zk_listener { /* zero what is not wanted; the struct is the caller's, and there until the queue is freed */
	void (*connected)(void *arg, int64_t session);
	void (*suspended)(void *arg); /* nothing is known until connected or expired; requests wait */
	void (*expired)(void *arg);
	void (*changed)(void *arg, enum zk_change what, const char *path); /* a watch fired, once: anybody's; ask again, with a watch. After a reconnection as after no loss */
	void *arg;
	struct zk_listener *next; /* private */
};
/* In the order added. Of a session that is connected already nothing is said to it: zk_session tells. */
void zk_listen(struct zk *z, struct zk_listener *l);

void zk_start(struct zk *z);
/* Waits until `connected` has run for the first time. ERR_TIMED_OUT with what was tried and how it failed. Not on the queue's thread. */
int zk_wait(struct zk *z, int timeout_ms, struct err *e);
/* Ends the session, if it is connected (its ephemeral nodes go at once), and forgets its file; else it ends when its timeout has passed, and its file stays. What is not answered is done with ZK_CLOSED:
 * on the queue's thread, so perhaps after this has returned, as is what is asked later. Listeners hear nothing any more. It waits for the network for some seconds at most. */
void zk_close(struct zk *z);
/* Ends the session, and begins another: `expired`, then `connected`. Its ephemeral nodes go at once if ZooKeeper can be reached. For a broker that the others have given up. thread: any. */
void zk_renew(struct zk *z);
/* After zk_close, and when the queue has run what was posted (queue_free): else it is closed first. NULL is fine. */
void zk_free(struct zk *z);

int64_t zk_session(const struct zk *z);     /* whose `connected` ran last; 0: none, or expired. On the queue's thread */
int zk_session_timeout_ms(const struct zk *z); /* as negotiated; 0: there was no session yet */
const char *zk_connect_text(const struct zk *z);

/* For how long it is certain that the servers do not let the session expire: 2/3 of the negotiated timeout after the last answered write was sent, on CLOCK_BOOTTIME. At most 0: not at all. A read proves nothing: a
 * server that has lost the others answers it. It is of the session whose `connected` ran last: there is none from the moment that one ends, whatever the queue has heard of it. A write that changes nothing is made
 * twelve times in a timeout, so that an idle session has it. One load and one look at the clock. */
int64_t zk_lease_ms(const struct zk *z);

/* ---- requests ---- */

void zk_get(struct zk *z, const char *path, bool watch, zk_done_fn done, void *arg);
void zk_exists(struct zk *z, const char *path, bool watch, zk_done_fn done, void *arg); /* a watch is set where there is no node, too */
void zk_children(struct zk *z, const char *path, bool watch, zk_done_fn done, void *arg);

enum zk_create_flags { ZK_EPHEMERAL = 1, ZK_SEQUENTIAL = 2 };
enum { ZK_ANY_VERSION = -1 };

/* data is copied. done NULL: nobody wants to know. */
void zk_create(struct zk *z, const char *path, const void *data, size_t bytes, unsigned flags, zk_done_fn done, void *arg);
void zk_set(struct zk *z, const char *path, const void *data, size_t bytes, int32_t version, zk_done_fn done, void *arg);
void zk_delete(struct zk *z, const char *path, int32_t version, zk_done_fn done, void *arg);
/* A persistent node without data, with those above it. ZK_OK also where it is there. */
void zk_make_path(struct zk *z, const char *path, zk_done_fn done, void *arg);
/* What the other servers have done is seen by requests made after it. */
void zk_sync(struct zk *z, zk_done_fn done, void *arg);

/* Several writes, all or none. Built by one thread. What goes wrong while building is told by `done`. */
struct zk_multi;
struct zk_multi *zk_multi_new(void); /* NULL: no memory, which the functions below take, too */
void zk_multi_free(struct zk_multi *m); /* of one that is not sent */
void zk_multi_check(struct zk_multi *m, const char *path, int32_t version);
void zk_multi_create(struct zk_multi *m, const char *path, const void *data, size_t bytes, unsigned flags);
void zk_multi_set(struct zk_multi *m, const char *path, const void *data, size_t bytes, int32_t version);
void zk_multi_delete(struct zk_multi *m, const char *path, int32_t version);
size_t zk_multi_parts(const struct zk_multi *m);
/* An upper bound of what it takes of ZK_MAX_REQUEST under z's chroot; a further part takes at most 64 bytes, the chroot's, its path's and its data's. */
size_t zk_multi_bytes(const struct zk *z, const struct zk_multi *m);
/* m is zk's from here on. */
void zk_multi_send(struct zk *z, struct zk_multi *m, zk_done_fn done, void *arg);

#endif
