/*
 * fetch_sessions: incremental Fetch (KIP-227): what a consumer or a replica wants is kept here from one Fetch to the next, which then names only what has changed, and is told
 * only of partitions with something new.
 *
 *  1. session_begin finds or makes the session of a request, applies what the request changes, and lists what is wanted: one struct wanted a partition, in turns, those
 *     that were given nothing last time first.
 *  2. The handler reads, and asks session_has_news of each partition whether the answer names it.
 *  3. session_note notes what was told, and session_end lets go of the session once the answer is encoded.
 *
 * A session is one client's; a request with another epoch than the next is refused, so two are never under way. Beyond the number of slots the one that
 * was not used for longest makes room, if that is two minutes ago; else, for a replica, the client's that was not used for longest. Else there is none, and full Fetches are sent.
 *
 * Replicas follow thousands of partitions where nothing happens. Their sessions watch them (struct delayed_watch), and list only those that are due:
 *
 *  1. Due is what a request names, and a partition where something was published since (raised).
 *  2. session_more lists what was raised while the Fetch was parked on session_changed.
 *  3. What was looked at, noted (partition_follower_fetched), and has nothing for the replica, is due no longer. What it was given something of stays, until it names it: its next offset.
 *  4. That a Fetch of the session came counts for all that is not due: the session's pulse (partition_isr.h).
 *
 * thread: any. locks: the sessions' one mutex, over topics_lock, the locks of partitions' lists of who waits, and isr_lock; a session's `raised_lock`, a leaf.
 */
#ifndef CLUSTER_API_FETCH_SESSIONS_H
#define CLUSTER_API_FETCH_SESSIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cluster/delayed.h"
#include "cluster/wire/messages.h"

struct isr_pulse;
struct partition;
struct sessions;
struct session;

struct sessions *sessions_new(size_t slots); /* NULL: no memory */
void sessions_free(struct sessions *s);

struct wanted { /* a partition of a Fetch */
	struct wire_string topic;   /* borrowed: from the request or the session, until session_end */
	struct wire_uuid topic_id;
	int32_t partition, current_leader_epoch, last_fetched_epoch, max_bytes;
	int64_t offset, log_start;  /* log_start: a replica's own; -1 */
	/* what the client was told of it last, in an incremental Fetch: */
	int64_t told_high_watermark, told_log_start;
	struct partition *here;     /* of a replica's session: borrowed until session_end; NULL: there is none, */
	int16_t error;              /* for this reason */
	bool stays_due;             /* set by who has looked at it: it is to be looked at by the next Fetch too */
	bool had_turn;              /* private, as */
	void *entry;
};

struct session_user { /* whose Fetch it is */
	/* Memory that lives until session_end; NULL: there is none. */
	void *(*get)(void *arg, size_t n);
	/* For a replica's: that partition, referenced; NULL with Kafka's code. */
	struct partition *(*find)(void *arg, struct wire_string topic, const struct wire_uuid *id, int32_t partition, int16_t *error);
	void *arg;
};

struct session_fetch { /* one Fetch, until session_end */
	const struct fetch_request *request;
	int16_t version;
	struct session *session;    /* NULL: none; referenced */
	bool incremental;           /* the answer names only what is new */
	bool due_only;              /* it is a replica's session, and `wanted` is what is due */
	int32_t id;                 /* for the answer: 0 where there is none */
	struct wanted *wanted;      /* in the memory of `get` */
	int32_t count, room;
	struct session_user user;
};

/* The broker that fetches as a follower; -1: a client. */
static inline int32_t fetch_follower(const struct fetch_request *r)
{
	return r->replica_id >= 0 ? r->replica_id : r->replica_state.replica_id;
}

/* Kafka's code: FETCH_SESSION_ID_NOT_FOUND, INVALID_FETCH_SESSION_EPOCH, FETCH_SESSION_TOPIC_ID_ERROR; or UNKNOWN_SERVER_ERROR without memory. Then nothing is to be ended. */
int16_t session_begin(struct sessions *s, struct session_fetch *f, const struct fetch_request *r, int16_t version, int64_t now_ms, const struct session_user *u);

/* ---- of a replica's (due_only) ---- */

/* Puts what became due since at the end of f->wanted. 0; else there was no memory, and it is due still. */
int session_more(struct sessions *s, struct session_fetch *f);
/* Where to wait for something to become due. */
struct delayed_list *session_changed(struct session *x);
struct isr_pulse *session_pulse(struct session *x);
/* When it was told last of nothing but a high watermark or a log start; of mono_now. Changed by who completes its Fetch. */
_Atomic int64_t *session_told_ends_ns(struct session *x);
/* Has who waits on session_changed look again at `due`, or before. ERR_NO_MEMORY. */
int session_look_at(struct session *x, struct timer_heap *timers, mono_t due);

/* ---- of all ---- */

/* Notes what w is answered with; whether an incremental answer names it at all. */
bool session_has_news(struct session_fetch *f, struct wanted *w, const struct fetch_response_partition *a);
/* Once that was done for all of them. */
void session_note(struct sessions *s, struct session_fetch *f);
/* The names in f->wanted are needed no more. NULL is fine. */
void session_end(struct sessions *s, struct session *x);

#endif
