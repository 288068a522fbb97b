/*
 * model: what the files of cluster/remote share. Included by them alone.
 */
#ifndef CLUSTER_REMOTE_MODEL_H
#define CLUSTER_REMOTE_MODEL_H

#include <pthread.h>
#include <stdatomic.h>

#include "cluster/model.h"
#include "cluster/remote/remote.h"
#include "cluster/wire/client.h"
#include "cluster/wire/errors.h"
#include "store/clock.h"

enum {
	LOOK_MS = 2000,      /* for an answer to a ViewLookup, and for a connection */
	FETCH_MS = 10000,    /* for one to a Fetch */
	AGAIN_MS = 20,       /* when nobody could answer: before all are asked again */
	BACKOFF_MS = 200,    /* a broker that cannot be reached is left alone for so long, where there is another one */
	IDLE_CLIENTS = 4,    /* connections that are kept for whoever comes next, to one broker */
	IDLE_MS = 30000,     /* and for how long */
};

struct idle_client { struct client *client; mono_t since; };

struct peer { /* a broker; never freed before the end */
	struct peer *next;
	int32_t id;
	struct idle_client idle[IDLE_CLIENTS]; /* used last, last */
	int idle_count;
	mono_t not_before;
	int told;            /* the error of connecting that was told last */
};

struct remote {
	struct broker *broker;
	struct remote_calls calls;
	struct pool *pool;
	int64_t read_ms;     /* remote.read.timeout.ms */
	uint32_t fetch_bytes;
	int stop;            /* an eventfd that is never read: readable from remote_stop on */
	_Atomic bool stopping;
	pthread_mutex_t lock;
	struct peer *peers;  /* lock, and all of them */
};

struct remote_view {
	pthread_mutex_t lock;
	bool known;                  /* lock; of what follows */
	struct visible visible;      /* lock */
	int32_t epoch;               /* lock: the greatest leader epoch that an answer came with */
	_Atomic int64_t shown;       /* visible.end_position */
	int64_t expected;            /* lock: appended from here up to that offset; it is waited for */
	mono_t expected_by;          /* lock: until then */
};

/* ---- peers: remote.c ---- */

/* A connection to a broker. hurry: not where it could not be reached a moment ago. Paired with remote_give. ERR_OFFLINE: it is left alone just now; others as of client_open. */
int remote_take(struct remote *r, int32_t id, bool hurry, struct client **c, struct err *e);
/* good: it may be used again; no response is due. */
void remote_give(struct remote *r, int32_t id, struct client *c, bool good);
/* It did not answer. */
void remote_missed(struct remote *r, int32_t id, int code, const struct err *e);
/* ERR_STOPPING, ERR_INTERRUPTED. */
int remote_pause(struct remote *r, int ms, struct err *e);

/* ---- who is asked ---- */

struct turn { /* who is asked next for a partition: the leader, then other replicas, those in sync first; then all of them again, after a pause */
	struct remote *r;
	struct partition *p;
	mono_t until;
	struct partition_metadata m;
	int next;            /* -1: from the beginning */
	int32_t id, epoch;   /* who is asked; epoch -1: it does not lead, as far as is known */
	int64_t shown;       /* the end offset that had been shown when it was asked */
	struct err why;      /* the last failure */
};
void remote_turn(struct turn *t, struct remote *r, struct partition *p, int64_t patience_ms);
/* 0; ERR_DELETED, ERR_STOPPING, ERR_INTERRUPTED; ERR_TIMED_OUT: the time is over, with the last failure in the sentence. once: ERR_OFFLINE instead of asking all of them again. */
int remote_next(struct turn *t, bool once, struct err *e);

/* ---- look.c ---- */

struct remote_view *remote_view_of(struct partition *p); /* made if there is none; NULL: no memory */
struct wire_uuid remote_topic_id(const struct partition *p);
/* One ViewLookup to one broker. a: a copy. */
int remote_ask(struct turn *t, int64_t offset, int64_t position, struct view_lookup_response_partition *a, struct err *e);
/* What an answer says counts from now on, as far as it says more. shown: what had been before it was asked for (turn.shown). */
void remote_note(struct partition *p, const struct view_lookup_response_partition *a, int64_t shown);
/* It is visible up to there. */
void remote_saw(struct partition *p, int64_t end_offset, int64_t end_position);

#endif
