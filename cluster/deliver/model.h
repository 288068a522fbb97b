/*
 * model: what the files of cluster/deliver share. Included by them alone.
 *
 * A lane is one partition, as far as this mount appends to it; a parcel is one batch of it that has a sequence, and carries what several deliveries have, or a part of one. A sender is a thread with a connection to
 * one broker; it takes parcels from the lanes that are ready for it.
 */
#ifndef CLUSTER_DELIVER_MODEL_H
#define CLUSTER_DELIVER_MODEL_H

#include <pthread.h>
#include <stdatomic.h>
#include <uthash.h>

#include "cluster/deliver/deliver.h"
#include "cluster/model.h"
#include "cluster/producer_ids.h"
#include "cluster/wire/client.h"

enum {
	WINDOW = 5,             /* batches of a lane, and requests of a connection, that are under way at once: so many a leader remembers of a producer (KIP-98) */
	MERGE_BYTES = 128 << 10,/* deliveries that wait together become one batch up to this */
	FIRST_PAUSE_MS = 10, LONGEST_PAUSE_MS = 100, /* before a lane is tried again */
	SEE_MS = 1000,          /* at most so long what is appended is waited for to be visible here */
};

struct parcel {
	struct parcel *next;       /* lane->sent: in the order of sequences */
	struct lane *lane;
	struct delivery *first;    /* by next */
	bool part;                 /* of one that is larger: `first`, and no other */
	struct record_set view;    /* the batch: of a delivery's set, or of `merged`; owns nothing */
	struct batch_meta meta;
	struct record_set merged;
	int32_t sequence, records;
	enum acks acks;
	mono_t due;
	bool out;                  /* it is at the leader, or on the way there */
	bool maybe;                /* an attempt may have written it */
	bool no_sequence;          /* a leader said that it does not follow: what is before it is not there, nor is it */
	struct append append;      /* where this broker leads */
	struct partition *p;       /* referenced while it is appended here, or waited for; acquired for the former */
	int64_t end_offset;        /* -1: not known */
	struct err err;            /* what it came to, last */
	struct delayed seen;
	struct delayed_key seen_key;
};

struct lane_key { uint8_t topic_id[16]; int32_t partition; };

struct lane {
	struct deliver *dl;
	struct topic *topic;       /* referenced */
	struct lane_key key;
	UT_hash_handle hh;         /* dl->lanes; dl->lock */
	int users;                 /* dl->lock: who has found it, its parcels, its job: it stays for them */
	pthread_mutex_t lock;      /* all that follows, unless it says otherwise */
	struct delivery *first, **last; /* waiting, nothing of them sent; but for the first, of which some batches may be */
	struct parcel *sent;       /* with sequences, in their order; at most WINDOW */
	int sent_count, out;       /* out: of them */
	struct parcel *resend;     /* the next of `sent` that goes out again; NULL: none */
	bool stalled;              /* something went wrong: nothing is sent until all that is out is back, and not_before is over */
	bool must_bump;            /* before a new batch, the epoch */
	bool driving, again;       /* a thread is at it; it is to look once more */
	mono_t not_before;
	int pause_ms;
	int64_t producer_id, other_id; /* -1: none yet; not this one */
	int16_t epoch;
	int32_t next_sequence;
	int32_t leader, leader_epoch; /* to whom parcels go; the greatest epoch of a leader they went to */
	int64_t weak_end;          /* of what was acknowledged by a leader elsewhere alone (acks=1): where that ends; 0: nothing */
	int32_t weak_epoch;        /* of that leader */
	int64_t unseen_end;        /* waited for in vain: no more waiting below that */
	struct parcel *spare;
	struct timer timer;
	struct pool_job job;
	bool armed, job_given;
	struct sender *sender;     /* dl->lock: in whose list of ready lanes it is; NULL: none */
	struct lane *ready_next;   /* dl->lock */
};

struct flight { struct parcel **parcel; size_t count, room; mono_t sent; }; /* a request that is not answered */

struct sender {
	struct deliver *dl;
	struct sender *next;       /* dl->lock */
	int32_t broker;
	pthread_t id;
	int wake;
	struct lane *ready, **ready_last; /* dl->lock */
	/* its own: */
	struct lane *work, **work_last; /* by ready_next */
	struct client *client;
	mono_t not_before;         /* another connection is tried then */
	struct err refused;        /* why the last one could not be had */
	int told;
	struct flight flight[WINDOW];
	int flights, first_flight;
	size_t room;               /* of requests: */
	struct produce_request_topic *topics;
	struct produce_request_partition *partitions;
};

struct deliver {
	struct broker *broker;
	struct deliver_calls calls;
	bool alone;                /* of no cluster */
	int64_t patience_ms;
	int stop;                  /* an eventfd that is never read: readable from the beginning of the end on */
	_Atomic bool stopping;
	pthread_mutex_t lock;
	pthread_cond_t idle;       /* nobody uses a lane any more, nor is there a question for an id */
	struct lane *lanes;
	size_t swept_at;           /* lanes that there were when those of deleted topics went last */
	struct sender *senders, *ended; /* ended: to be joined */
	size_t users;              /* of all lanes */
	struct init_producer_id init;
	bool asking;
	int64_t producer_id;       /* -1: none yet */
};

/* ---- deliver.c ---- */
/* Asks for a producer id, if none is being asked for. */
void deliver_ask_id(struct deliver *dl);
struct lane *lane_find(struct deliver *dl, struct partition *p, bool make); /* NULL: no memory, or there is none; lane_put */
void lane_hold(struct lane *l); /* once more */
void lane_put(struct lane *l);
/* ---- lane.c ---- */
struct lane *lane_new(struct deliver *dl, struct topic *t, const struct lane_key *key);
void lane_free(struct lane *l);
bool lane_is_idle(struct lane *l);
/* Sends what can be sent, and sees to the rest. thread: any that may append. */
void lane_go(struct lane *l);
void lane_add(struct lane *l, struct delivery *d);
bool lane_cancel(struct lane *l, struct delivery *d);
/* Who leads: its id and epoch. -1: nobody that is known. */
int32_t lane_leader(struct lane *l, int32_t *epoch);
/* The next to be sent to that leader; NULL: nothing now. *acks: 0: any; set to its. *more: there is another one, maybe of other acks. */
struct parcel *lane_take(struct lane *l, int32_t leader, int *acks, bool *more);
/* How an attempt ended. code 0: it is in the log, and ends at end_offset (-1: not known). */
void lane_result(struct parcel *x, int code, int64_t end_offset, const char *why);
/* The leader could not be reached; nothing was sent. */
void lane_unreachable(struct lane *l, const struct err *why);
/* Another leads by now than that broker. */
bool lane_has_moved(struct lane *l, int32_t broker);
/* ---- parcel.c ---- */
/* The next batch of what waits in the lane. locks: the lane's. NULL: no memory. */
struct parcel *parcel_make(struct lane *l);
void parcel_free(struct lane *l, struct parcel *x); /* locks: the lane's */
/* Its sequence, as the lane counts. locks: the lane's. */
void parcel_number(struct lane *l, struct parcel *x);
/* Offsets and leader epoch as a producer leaves them: a log may have written its own. */
void parcel_reset(struct parcel *x);
/* ---- sender.c ---- */
void sender_ready(struct deliver *dl, int32_t broker, struct lane *l);
void senders_end(struct deliver *dl);

#endif
