/*
 * deliver: how the mount appends, whoever leads: one way in, and `done` once.
 *
 * Of a broker by itself that is partition_append and nothing else. In a cluster every append carries the mount's producer id, an epoch and a sequence, whether the leader is here or elsewhere; the same
 * batch is sent again to whichever leader follows, until it is known to be in the log, once, or delivery.timeout.ms is over. cluster/deliver/README.md has the steps.
 *
 * What can be seen here follows: where there is a replica of the partition here, `done` waits until its high watermark covers what was appended; not for longer than a second, as that of an append with
 * acks=1 may wait for replicas which are away.
 *
 * thread: any, but for deliver_new and deliver_free. locks: a lane's, then the lot's, a leaf; none is held when `done` is called, or partition_append.
 */
#ifndef CLUSTER_DELIVER_DELIVER_H
#define CLUSTER_DELIVER_DELIVER_H

#include "cluster/partition.h"
#include "store/clock.h"

struct deliver;

struct delivery { /* owned by the caller, in place until done was called */
	struct record_set *set; /* borrowed until done, and written into; not empty. It may be more than one batch */
	enum acks acks;
	void (*done)(struct delivery *d); /* runs exactly once, maybe before deliver_append returns, on any thread; it must not block */
	/* results, for done: */
	int code;       /* 0, or ERR_...: deliver_is_certain says whether nothing was written */
	struct err err; /* the sentence, where code is not 0 */
	/* private: */
	struct append append;    /* of a broker by itself */
	struct delivery *next;
	mono_t due;
	uint32_t taken;          /* batches of the set that are on their way, or were */
	uint32_t under_way;      /* of them, those that are not done */
	bool queued;
};

struct deliver_calls { /* what it has to be told; called with no lock held; must not block */
	/* "HOST:PORT" of a broker, as client_open takes it. false: it is not known just now. */
	bool (*address)(void *arg, int32_t broker_id, char *text, size_t n);
	void *arg;
};

/* b, calls->arg: borrowed until deliver_free. calls NULL: b is of no cluster. timeout_ms: delivery.timeout.ms. ERR_NO_MEMORY, ERR_LIMIT. */
int deliver_new(struct deliver **out, struct broker *b, const struct deliver_calls *calls, int64_t timeout_ms, struct err *e);
/* Everything was done. Ends threads and connections. NULL is fine. */
void deliver_free(struct deliver *dl);

/* p: referenced until done; of a broker by itself acquired, too. */
void deliver_append(struct deliver *dl, struct partition *p, struct delivery *d);
/* Takes back what has not been sent. true: done has been called with ERR_INTERRUPTED. false: done will be or was called with its outcome. d must still be there. */
bool deliver_cancel(struct deliver *dl, struct partition *p, struct delivery *d);

/* Whether an append that ended so has left nothing in the log. */
bool deliver_is_certain(int code);

/* Whether p is led by another broker than this, as far as is known here. */
bool deliver_is_elsewhere(struct deliver *dl, struct partition *p);

/* Makes what was delivered with acks=1 to a leader elsewhere safe: its high watermark has passed what this mount has appended, in the same leadership. Blocks, for delivery.timeout.ms at most.
 * ERR_TIMED_OUT, ERR_NOT_LEADER (another leads by now: whether it stays is not known), ... */
int deliver_settle(struct deliver *dl, struct partition *p, struct err *e);

/* partition_delete_before at the leader, wherever it is. offset -1: all that is committed. Blocks, for delivery.timeout.ms at most: ERR_TIMED_OUT. ERR_OFFLINE: nobody leads it. */
int deliver_delete_before(struct deliver *dl, struct partition *p, int64_t offset, struct err *e);

#endif
