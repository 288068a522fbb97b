/*
 * session: what zk.c (the session), request.c (what is asked in it) and multi.c share. Nobody else includes it.
 *
 * Three threads meet here besides the callers': the keeper, which opens and closes handles of libzookeeper (that may block: names are resolved there), and libzookeeper's two, of
 * which only the completion thread calls us (and the I/O thread for authentication, with locks of its own held: that only posts to the keeper).
 *
 * locks: zk.lock; below it libzookeeper's, and those of queues. libzookeeper calls nothing of ours that takes zk.lock while it holds one of its own.
 */
#ifndef CLUSTER_ZK_SESSION_H
#define CLUSTER_ZK_SESSION_H

#include <pthread.h>
#include <stdatomic.h>
#include <uthash.h>
#include <zookeeper/zookeeper.h>

#include "cluster/zk/queue.h"
#include "cluster/zk/zk.h"
#include "store/clock.h"

/* What is watched, as far as the server and libzookeeper know: at a reconnection all of it goes to the server in one request. */
enum { WATCH_NODE = 1, WATCH_CHILDREN = 2 };
struct watch {
	UT_hash_handle hh;
	unsigned kinds;
	char path[];
};

enum request_op { OP_GET, OP_EXISTS, OP_CHILDREN, OP_SYNC, OP_CREATE, OP_SET, OP_DELETE, OP_MAKE_PATH, OP_MULTI };

struct part { /* of a multi */
	enum request_op op;     /* OP_CREATE, OP_SET, OP_DELETE; OP_EXISTS: a check */
	char *path, *full;      /* as the caller has it; with the chroot, once sent */
	char *data;
	size_t bytes;
	int32_t version;
	unsigned flags;
};

struct zk_multi {
	struct part *part;
	size_t parts, room;
	bool failed;            /* no memory */
	/* Once sent: */
	zoo_op_t *ops;
	zoo_op_result_t *results;
	struct Stat *stats;
	char **names;           /* where the names of created nodes go */
	struct zk_result *said; /* what the caller gets */
};

/* A request is in one place at a time: waiting, in flight, or an event on its way to who made it. */
struct request {
	struct queue_event event;
	struct request *prev, *next;
	struct zk *z;           /* not valid any more once it is an event */
	struct queue *to;
	enum request_op op;
	bool early;             /* of the session's own making, before it is announced */
	bool watch;
	size_t watch_bytes;     /* counted for it in zk's */
	char *path;             /* with the chroot */
	size_t hidden;          /* bytes of it that are the chroot's */
	char *data;
	size_t bytes;
	int32_t version;
	unsigned flags;
	struct zk_multi *multi;
	zk_done_fn done;
	void *arg;

	uint64_t serial;        /* the order in which they were made */
	int64_t sent_ns;
	bool lost;              /* it was sent, and the connection lost, at least once */
	size_t length;          /* OP_MAKE_PATH: of the path that is tried now; 0: whether all of it is there */
	bool reading;           /* whether what it wrote is there is being read, part by part */
	size_t at, ours, others;

	enum zk_code code;
	size_t refused;
	char *name;             /* of the created node, with the chroot */
	char *answer;
	size_t answer_bytes;
	char **children;
	size_t children_count;
	struct zk_stat stat;
};

enum phase { PHASE_OLD, PHASE_OPENING, PHASE_SESSION }; /* the session before us is closed; ours is not announced; it is */

struct zk {
	/* Never changed once open: */
	struct queue *queue;
	struct queue *keeper;      /* NULL once closed */
	char *connect, *hosts, *chroot, *credentials, *session_file;
	size_t chroot_length;
	int asked_timeout_ms, max_in_flight;
	bool set_acl;
	enum zk_acl (*acl)(const char *path);

	pthread_mutex_t lock;
	pthread_cond_t heard_first;
	struct zk_listener *listeners, **listeners_end; /* locks: lock, but the queue's thread reads without */
	zhandle_t *handle;
	enum phase phase;
	bool closing;
	bool ready;                /* connected, authenticated, the chroot there: requests may go out */
	bool told_suspended;
	uint64_t connection;       /* counts what is connected and lost, so that what was begun on one is not ended on another */
	int64_t session;           /* announced, or to be; 0: none */
	int64_t heard_session;     /* that of the last `connected` or `expired` that ran */
	bool heard;
	uint64_t serial;
	struct request *waiting, *waiting_last; /* in the order of their serials */
	struct request *flying, *flying_last;
	int in_flight;
	bool beat_flies;           /* the request that is made for the lease alone */
	int64_t beat_sent_ns;
	zoo_op_t beat_op;
	zoo_op_result_t beat_result;
	struct watch *watches;
	size_t watch_bytes;

	_Atomic int64_t lease_until_ns; /* INT64_MIN: none */
	_Atomic int timeout_ms;

	/* The keeper's own: */
	struct queue_timer beat, again;
	bool authenticated, chroot_made;
	clientid_t old;
};

/* ---- request.c ---- */

/* locks: z's, held */
void requests_pump(struct zk *z);
void requests_fail(struct zk *z, enum zk_code code); /* those that wait */
void requests_forgotten(struct zk *z, enum zk_code code); /* those in flight, which nobody answers any more */
/* A request of the session's own: makes the chroot. done: on the keeper. */
void request_make_chroot(struct zk *z, zk_done_fn done);
/* An answer to a write that was sent at `sent_ns` has come. */
void session_answered(struct zk *z, int64_t sent_ns);
void session_retry_soon(struct zk *z);
void watches_forget(struct zk *z);
void watch_fired(struct zk *z, const char *path, enum zk_change what);

/* ---- multi.c ---- */

/* The memory that sending m takes, and full paths. ERR_NO_MEMORY, ERR_INVALID. */
enum zk_code multi_prepare(struct zk *z, struct zk_multi *m);
const struct ACL_vector *acl_of(const struct zk *z, const char *path); /* path: without the chroot */
int mode_of(unsigned flags);
bool path_is_valid(const char *path);
struct zk_stat stat_of(const struct Stat *s);

#endif
