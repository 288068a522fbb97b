/*
 * partition_role: who leads a partition, and what follows from that: replicas, ISR, high watermark, epochs. The steps stand in cluster/README.md.
 *
 * A broker that is not of a cluster leads all that it has, each partition with itself as the only replica, by the same code. In a cluster (broker_options.roles) a partition has no
 * role until partition_become gives it one:
 *
 *            appends    replicas' Fetch   consumers    high watermark
 *   none     refused    refused           refused      stays
 *   leader   taken      answered          up to it     the least end over the maximal ISR (partition_isr.h); never back within a leadership
 *   follower refused    refused           up to it     the leader's, as far as its own log goes; back only where its log is cut below
 *
 * The mount reads in all three: up to the visible end, which never goes back unless the log is cut below it.
 *
 * thread: any, none of it blocks but where it says so. locks: see model.h; `alter` is called with none held.
 */
#ifndef CLUSTER_PARTITION_ROLE_H
#define CLUSTER_PARTITION_ROLE_H

#include "cluster/partition.h"
#include "cluster/partition_isr.h"

struct role_calls { /* what a partition wants of the cluster */
	/* Asks the controller for another ISR (AlterPartition), and goes on doing so until there is an answer, which goes to partition_altered with a copy of *c. Must not block. p is
	 * referenced for the call only. */
	void (*alter)(void *arg, struct partition *p, const struct isr_change *c);
	/* Whether this broker is certain that the cluster has not given it up. Asked before each acknowledgement that is its alone; must not block. When it holds again, broker_look_again. */
	bool (*lease)(void *arg);
	/* Whether that broker is there, as far as the controller has told; under isr_lock, must not block. NULL: all are. When one is gone: broker_look_again. */
	bool (*alive)(void *arg, int32_t broker_id);
	/* A block of producer ids, both ends in it, that nobody else in the cluster gets, from `least` on or above. Blocks; on a thread of the pool. NULL: this broker's own file has them. */
	int (*producer_ids)(void *arg, int64_t least, int64_t *first, int64_t *last, struct err *e);
	void *arg;
};

struct partition_role { /* as LeaderAndIsr has it */
	int32_t leader;          /* -1: none just now */
	int32_t leader_epoch, partition_epoch, controller_epoch;
	const int32_t *isr;      /* borrowed for the call */
	int isr_count;
	const int32_t *replicas; /* in their order; this broker among them */
	int replica_count;
	bool recovering;         /* its leader was elected without being in sync, and has not said yet that it has recovered (KIP-704) */
};

/* Leader or follower, by r->leader: the one way that a role changes. ERR_FENCED_EPOCH: r is older than what is known here; ERR_INVALID: it cannot be; ERR_OFFLINE, ERR_DELETED, ERR_NO_MEMORY; nothing
 * has changed then. What is known already is no error. Who waits for replicas of a leader that follows now gets ERR_NOT_LEADER. May open the log, where its end is not known. */
int partition_become(struct partition *p, const struct partition_role *r, struct err *e);
/* Neither, until partition_become. What is as old as the last role, or older, is still refused. */
void partition_stop(struct partition *p);

/* ---- leader ---- */

/* Nothing is appended any more while it leads in this epoch, or until partition_unseal: a topic that is empty is to be deleted. ERR_NOT_EMPTY: there is something in the log, whether anybody can read it yet or
 * not; ERR_NOT_LEADER: in that epoch. May open the log. */
int partition_seal(struct partition *p, int32_t leader_epoch, struct err *e);
void partition_unseal(struct partition *p);
/* 1: this broker leads, and all that the log had when it began to lead in this epoch is below the high watermark; 0: it leads, and that is to come (then DELAYED_HIGH of partition_delayed is woken, as it
 * is when the role changes); ERR_NOT_LEADER. */
int partition_leads_committed(struct partition *p);

/* Whether nobody else can lead it just now: there is nobody else, or this broker has the lease. Else an append with acks=all that succeeds shows that nobody did. */
bool partition_leads_surely(const struct partition *p);

struct follower_fetch {
	int32_t id;              /* of the follower's broker */
	int64_t broker_epoch;    /* -1: it does not say */
	int32_t current_epoch;   /* the leader epoch that it follows; -1: it does not say, and counts for nothing */
	int64_t offset;          /* its log ends there, */
	int64_t log_start;       /* and starts here; -1: it does not say */
	int64_t now_ms;          /* of mono_now */
	struct isr_pulse *pulse; /* of its fetch session, whose later fetches may not name the partition; NULL: there is none */
	bool in_sync;            /* whether it is in the ISR by now: valid with 0 */
};
/* A follower asks for what is at f->offset, where its log and this one have not parted. p acquired. ERR_NOT_LEADER: this broker does not lead, or the follower was
 * started anew since; ERR_FENCED_EPOCH; ERR_UNKNOWN_EPOCH, also where it is not known as a replica yet; ERR_OUT_OF_RANGE: it is past the log's end. partition_fetch calls it. */
int partition_follower_fetched(struct partition *p, struct follower_fetch *f, struct err *e);
/* The session of that pulse has forgotten the partition. */
void partition_follower_rests(struct partition *p, const struct isr_pulse *pulse);

bool partition_leads(const struct partition *p);
/* Where the logs of all replicas start that are alive (NULL: none but this one is), as far as they have said in this leadership; -1: one has not. Takes isr_lock. */
int64_t partition_low_watermark(struct partition *p, bool (*alive)(void *arg, int32_t broker_id), void *arg);

/* The broker of those `ids` that a consumer had better read from, at that offset: the one in sync that is furthest, if it has it (KIP-392). -1: the leader, which is one of them, or there is no other.
 * Takes isr_lock. */
int32_t partition_preferred(struct partition *p, int64_t offset, const int32_t *ids, int count);

enum isr_answer {
	ISR_ALTERED,   /* isr and partition_epoch are what the controller has committed, by this change or before */
	ISR_REFUSED,   /* the change is not made, and never will be (OPERATION_NOT_ATTEMPTED, INELIGIBLE_REPLICA): another may be asked for */
	ISR_OUTDATED,  /* it was asked of a state that is over, or of one that the controller does not know: it counts until partition_become tells what holds */
};
/* The answer to `alter`. One to a change that is over does nothing. */
void partition_altered(struct partition *p, const struct isr_change *c, enum isr_answer answer, const int32_t *isr, int isr_count, int32_t partition_epoch);

/* From time to time: who has not kept up is to leave the ISR. */
void partition_check_isr(struct partition *p, int64_t now_ms);
/* Whether what this broker acknowledges by itself may be. Of a broker by itself: always. */
bool partition_has_lease(const struct partition *p);
/* The lease holds again, or a broker is gone: what waited for that goes on, in all partitions. May open logs. */
void broker_look_again(struct broker *b);

/* ---- follower: p acquired; ERR_NOT_LEADER where it does not follow (any more), ERR_FENCED_EPOCH and ERR_UNKNOWN_EPOCH where `epoch` is not the one that it follows ---- */

/* Where its log ends, and the epoch of its last record (-1: it has none): what the next Fetch of that epoch asks for, once the logs do not part. To be had in no other way: a broker that leads by now would
 * tell its old leader of records that are its own. */
int partition_follower_end(struct partition *p, int32_t epoch, int64_t *log_end, int32_t *last_epoch, struct err *e);
/* Whole batches as the leader sent them in that epoch, from the log's end on; one that is cut off at the end is left out, and so is what comes from a later epoch on. The high watermark follows, and the
 * log start (blocking then). *log_end, with 0: where the next Fetch begins. Errors of log_append_exact: nothing is appended. */
int partition_follower_append(struct partition *p, const void *bytes, size_t n, int64_t leader_high, int64_t leader_log_start, int32_t epoch, int64_t *log_end, struct err *e);
/* The leader has answered that the greatest epoch at or below the last one here is `their_epoch`, which ends at `their_end` there (-1, -1: it does not know): cuts what is past that (KIP-101, KIP-279).
 * *aligned: the logs do not part any more; else it is to be asked again. ERR_OUT_OF_RANGE: they part below the log start: to begin anew. */
int partition_follower_align(struct partition *p, int32_t their_epoch, int64_t their_end, int32_t epoch, bool *aligned, struct err *e);
/* Cuts the end, where its log and the leader's part. */
int partition_follower_truncate(struct partition *p, int64_t offset, int32_t epoch, struct err *e);
/* Drops everything, and begins anew where the leader's log starts: `position` is that of the leader's view there. Blocks. */
int partition_follower_restart(struct partition *p, int64_t offset, int64_t position, int32_t epoch, struct err *e);

#endif
