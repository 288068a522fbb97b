/*
 * model: what the files of cluster/replica share. Included by them alone.
 *
 * A struct followed is one partition, of one leader in one epoch, for its whole life: another epoch is another struct. The fetcher's table holds those that count; a thread's `news` are those it has not taken
 * yet, its list those that it has. One that does not count any more is `gone`, and freed by its thread, or with it.
 */
#ifndef CLUSTER_REPLICA_MODEL_H
#define CLUSTER_REPLICA_MODEL_H

#include <pthread.h>
#include <stdatomic.h>
#include <uthash.h>

#include "cluster/replica/fetcher.h"
#include "cluster/wire/client.h"
#include "store/clock.h"

enum follow_state {
	FOLLOW_BEGIN,    /* its own log is to be looked at */
	FOLLOW_ALIGN,    /* OffsetForLeaderEpoch is to be asked: the logs may part */
	FOLLOW_FETCH,    /* they do not */
	FOLLOW_ANEW,     /* where the leader's log starts is to be asked: it begins there */
	FOLLOW_GIVEN_UP, /* until another role */
};

struct followed_key { struct wire_uuid topic_id; int32_t partition; };

struct followed {
	struct partition *p;     /* referenced */
	int32_t leader, epoch;
	struct fetch_thread *thread;
	_Atomic bool gone;
	_Atomic int state;       /* its thread's, which alone writes it; enum follow_state */
	UT_hash_handle hh;       /* in fetcher.table, by p */
	struct followed *next_new, *next_gone; /* fetcher.lock */
	/* its thread's: */
	struct followed *prev, *next;          /* in thread.list */
	struct followed *due_prev, *due_next;  /* in thread.due */
	bool is_due;
	bool dropped;            /* it was gone before it was taken */
	UT_hash_handle by_key;   /* in thread.table */
	struct followed_key key;
	struct wire_string topic;
	int64_t offset;          /* where it goes on: -1 asks for the leader's log start */
	int32_t last_epoch;
	int64_t log_start;       /* its own */
	bool in_step;            /* it had all that was committed */
	int64_t refused_offset;  /* the leader has refused it, though the logs were aligned by epochs; -1: none */
	mono_t not_before;       /* the leader, or the log, is to be left alone until then */
	int told;                /* the error that was told last; 0 once it goes on */
	bool in_session;         /* the leader's session has it, at: */
	int64_t session_offset;
	int32_t session_last_epoch;
	int64_t session_log_start;
};

struct fetch_thread {
	struct fetcher *f;
	struct fetch_thread *next;  /* fetcher.lock */
	int32_t leader;
	int index;
	pthread_t id;
	int wake;                   /* an eventfd: there is something new */
	struct followed *news, **news_end; /* fetcher.lock: by next_new */
	struct followed *gone;      /* fetcher.lock: by next_gone; in its list, or among the news */
	size_t count;               /* fetcher.lock: followed by it, and not gone */
	/* its own: */
	struct followed *list;      /* all that it has taken; owned */
	struct followed *table;     /* the same by topic id and number */
	struct followed *due;       /* those of them that the leader's session does not have as they are */
	size_t listed, in_session;
	struct client *client;
	mono_t opened;
	int32_t session_id, session_epoch; /* epoch 0: the next Fetch names all of them, and begins a session instead of that one */
	int told;                   /* the error of its connection that was told last */
	union {
		struct fetch_response fetch;
		struct offset_for_leader_epoch_response epochs;
	} response;
	/* requests are built here, in memory that grows with what is followed: */
	size_t room;
	struct followed **asked;
	struct fetch_request_topic *topics;
	struct fetch_request_partition *partitions;
	struct offset_for_leader_epoch_request_topic *epoch_topics;
	struct offset_for_leader_epoch_request_partition *epoch_partitions;
	size_t forgotten_count, forgotten_room; /* what the session is to forget; kept until it was told */
	struct fetch_request_forgotten_topic *forgotten;
	int32_t *forgotten_index;
};

struct fetcher {
	struct broker *broker;
	struct fetcher_calls calls;
	int stop;                   /* an eventfd that is never read: readable from the beginning of the end on */
	_Atomic bool stopping;
	int threads_a_leader, wait_ms, min_bytes, max_bytes, response_bytes, backoff_ms, timeout_ms;
	pthread_mutex_t lock;
	struct followed *table;     /* lock */
	struct fetch_thread *threads, *ended; /* lock; ended: to be joined */
};

/* ---- fetcher.c ---- */
void followed_free(struct followed *x);
/* Takes what is new, of one moment. */
void thread_news(struct fetch_thread *t, struct followed **news, struct followed **gone);
bool thread_has_news(struct fetch_thread *t);
/* Whether the thread has nothing left and may end: it is among the ended then. */
bool thread_may_end(struct fetch_thread *t);
/* ---- thread.c ---- */
void *thread_run(void *arg);
/* ---- follow.c: what becomes of one partition, by what its leader says ---- */
void follow_begin(struct followed *x);   /* by its log: what is to be asked first */
void follow_epoch_answer(struct followed *x, const struct offset_for_leader_epoch_response_partition *a);
void follow_fetch_answer(struct followed *x, const struct fetch_response_partition *a);
void follow_pause(struct followed *x);   /* for replica.fetch.backoff.ms */

#endif
