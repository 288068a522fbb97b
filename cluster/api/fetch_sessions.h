/*
 * fetch_sessions: incremental Fetch (KIP-227): what a consumer wants is kept here from one Fetch to the next, which then names only what has changed, and is told
 * only of partitions with something new.
 *
 *  1. session_begin finds or makes the session of a request, applies what the request changes, and lists what is wanted: one struct wanted a partition, in turns, those
 *     that were given nothing last time first.
 *  2. The handler reads, and asks session_has_news of each partition whether the answer names it.
 *  3. session_note notes what was told, and session_end lets go of the session once the answer is encoded.
 *
 * A session is one client's; a request with another epoch than the next is refused, so two are never under way. Beyond the number of slots the one that
 * was not used for longest makes room, if that is two minutes ago; else there is none, and the client sends full Fetches.
 *
 * thread: any. locks: the sessions' one mutex, a leaf.
 */
#ifndef CLUSTER_API_FETCH_SESSIONS_H
#define CLUSTER_API_FETCH_SESSIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cluster/wire/messages.h"

struct sessions;
struct session;

struct sessions *sessions_new(size_t slots); /* NULL: no memory */
void sessions_free(struct sessions *s);

struct wanted { /* a partition of a Fetch */
	struct wire_string topic;   /* borrowed: from the request or the session, until session_end */
	struct wire_uuid topic_id;
	int32_t partition, current_leader_epoch, last_fetched_epoch, max_bytes;
	int64_t offset;
	/* what the client was told of it last, in an incremental Fetch: */
	int64_t told_high_watermark, told_log_start;
	bool had_turn;              /* private, as */
	void *entry;
};

struct session_fetch { /* one Fetch, until session_end */
	const struct fetch_request *request;
	int16_t version;
	struct session *session;    /* NULL: none; referenced */
	bool incremental;           /* the answer names only what is new */
	int32_t id;                 /* for the answer: 0 where there is none */
	struct wanted *wanted;      /* in the memory of `get` */
	int32_t count;
};

/* get: memory that lives until session_end. Kafka's code: FETCH_SESSION_ID_NOT_FOUND, INVALID_FETCH_SESSION_EPOCH, FETCH_SESSION_TOPIC_ID_ERROR; or UNKNOWN_SERVER_ERROR without memory. Then
 * nothing is to be ended. */
int16_t session_begin(struct sessions *s, struct session_fetch *f, const struct fetch_request *r, int16_t version, int64_t now_ms, void *(*get)(void *arg, size_t n), void *arg);

/* Notes what w is answered with; whether an incremental answer names it at all. */
bool session_has_news(struct session_fetch *f, struct wanted *w, const struct fetch_response_partition *a);
/* Once that was done for all of them. */
void session_note(struct sessions *s, struct session_fetch *f);
/* The names in f->wanted are needed no more. NULL is fine. */
void session_end(struct sessions *s, struct session *x);

#endif
