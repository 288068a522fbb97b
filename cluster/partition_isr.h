/*
 * partition_isr: the arithmetic of a partition's leader: how far each replica is, which of them are in sync, and what is on all of those. No locks, no clock, no I/O: it is the
 * partition's (partition_role.c), which sees to it that one thread at a time is here, and can be tested by itself.
 *
 * The rules, which are Kafka's:
 *
 *  1. The high watermark is the least end over the maximal ISR, and never goes back. The maximal ISR is the one that the controller has committed and every member of a change
 *     that is asked for: who is to join counts at once, who is to leave counts until that is committed (KIP-497). So what the high watermark has passed is on every member
 *     of whichever of the two the controller goes by, and it may elect any of them.
 *  2. Where the committed ISR has fewer members than min.insync.replicas asks for, it stays where it is. It waits as well for a replica that is about to join: one outside that has
 *     kept up until now. Else a steady stream of appends would keep it out for ever.
 *  3. A replica's end is what its last Fetch asked for, in this leader epoch; of before it counts for nothing, as it may have cut its log since.
 *  4. A replica may join when its end has reached the high watermark and where this epoch began (KAFKA-7128): a new leader's high watermark may lie behind what was
 *     acknowledged before it led, and that is on whoever has reached the start of its epoch.
 *  5. A replica is to leave when it has not had all that the leader has for replica.lag.time.max.ms.
 *     Where nothing is new its fetches do not speak of this partition (they go on in a session): while its end is the leader's, `pulse` says when the last of them came. Of what came when the leader's
 *     end had passed its own it says nothing.
 *  6. There is one change under way at a time.
 */
#ifndef CLUSTER_PARTITION_ISR_H
#define CLUSTER_PARTITION_ISR_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { ISR_REPLICAS = 32 }; /* most that a partition may have */

struct isr_pulse { /* of a replica's fetch session: shared by it and the partitions that it is about */
	_Atomic uint32_t refs;
	_Atomic int64_t at_ms;   /* when its last Fetch came */
};
struct isr_pulse *isr_pulse_new(void); /* NULL: no memory */
void isr_pulse_ref(struct isr_pulse *u);
void isr_pulse_unref(struct isr_pulse *u); /* NULL is fine */

struct isr_member {
	int32_t id;
	int64_t end;             /* of its log, by its last Fetch in this epoch; -1: there was none */
	int64_t broker_epoch;    /* the greatest it came with; -1: none */
	int64_t fetched_ms;      /* when its last Fetch came, */
	int64_t fetched_end;     /* and the leader's end then; -1: there was none */
	int64_t caught_up_ms;    /* when it was last known to have all there was, */
	struct isr_pulse *pulse; /* or this: a reference; NULL: it has not all there is, or none */
	int64_t log_start;       /* by its last Fetch; -1: it has not said */
};

struct isr { /* zeros: the leader is its only replica */
	struct isr_member *member; /* owned: the replicas in their order, the leader among them; NULL: it is the only one, and not listed */
	int count;
	int self;                  /* the leader's place; -1: this broker is none of them */
	uint32_t committed;        /* by place: the ISR as the controller knows it */
	uint32_t proposed;         /* as it was asked for; the same where no change is under way */
	bool asking;               /* a change is under way */
	uint32_t serial;           /* of the change that was asked for last */
	int64_t epoch_start;       /* the leader's end when its epoch began */
	bool wants_disk;           /* isr_shrink left somebody in who does not keep up: rule->not_alone */
};

struct isr_change { /* what a leader asks the controller for: AlterPartition */
	int32_t leader_epoch, partition_epoch; /* of the state that it is to follow on */
	uint32_t serial;
	int count;
	struct { int32_t id; int64_t broker_epoch; } member[ISR_REPLICAS]; /* all of the new ISR; broker_epoch -1: the leader itself, and where it is not known */
};

struct isr_rule {
	int32_t min_insync;
	int64_t lag_ms;
	bool not_alone; /* nobody is to leave that would leave it alone: what is committed is not on its own disk yet */
	bool (*alive)(void *arg, int32_t id); /* whether that broker is there: else it is not waited for, if it is not in the ISR. NULL: all are */
	void *arg;
};

/* The replicas are these from now on, of which those of `isr` are in sync; no change is under way. 0, ERR_NO_MEMORY (nothing has changed), ERR_INVALID: more than ISR_REPLICAS of them, one twice,
 * or one in the ISR that is none. */
int isr_set(struct isr *x, int32_t self, const int32_t *replicas, int replica_count, const int32_t *isr, int isr_count);
void isr_release(struct isr *x);
/* A leader epoch begins, at the leader's end: nothing is known of the others' ends. Who is in sync has from now on as long as any to catch up. */
void isr_begin_epoch(struct isr *x, int64_t end, int64_t now_ms);

int isr_size(const struct isr *x);      /* of the committed ISR, the leader among them */
bool isr_is_alone(const struct isr *x); /* the maximal ISR is the leader */
bool isr_has(const struct isr *x, int32_t id); /* the committed one */

struct isr_fetch { int32_t id; int64_t broker_epoch, end, leader_end, log_start, now_ms; struct isr_pulse *pulse; }; /* pulse: borrowed; NULL: each Fetch speaks of the partition */
/* A follower has fetched from `end` on. broker_epoch, log_start -1: it does not say. *trimmed: its log starts elsewhere than at its last Fetch. 0; ERR_NOT_FOUND: it is no replica; ERR_FENCED_EPOCH: it was started anew since. */
int isr_fetched(struct isr *x, const struct isr_fetch *f, bool *trimmed);

/* Of those `ids` the one in sync that has that offset, and most besides: -1 where the leader is one of them, or there is none. */
int32_t isr_preferred(const struct isr *x, int64_t offset, const int32_t *ids, int count);

/* That session does not speak for this partition any more. */
void isr_rest(struct isr *x, const struct isr_pulse *pulse);

/* Where the high watermark is now, if it was at `high`. own_end: how far the leader itself counts; leader_end: its log's. */
int64_t isr_high_watermark(struct isr *x, const struct isr_rule *rule, int64_t high, int64_t own_end, int64_t leader_end, int64_t now_ms);

/* Whether `id` is to join. true: that is asked for from now on, by *c, whose epochs are the caller's to set. */
bool isr_grow(struct isr *x, int32_t id, int64_t high, struct isr_change *c);
/* The same for all who are to leave. Where rule->not_alone keeps the last of them: x->wants_disk. */
bool isr_shrink(struct isr *x, const struct isr_rule *rule, int64_t leader_end, int64_t now_ms, struct isr_change *c);
/* The ISR as it is, to be committed once more: with it goes that the leader has recovered (KIP-704). false: there is another change under way, which says that too. */
bool isr_restate(struct isr *x, struct isr_change *c);
bool isr_is_asked(const struct isr *x, uint32_t serial); /* that change is under way */
/* The controller has committed this one. Who is no replica is left out. */
void isr_commit(struct isr *x, const int32_t *isr, int isr_count);
/* The change is not made, that is certain: it is as before. */
void isr_withdraw(struct isr *x);

#endif
