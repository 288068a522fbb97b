/*
 * partition: one partition of a topic: its role, epoch, high watermark and in-sync replicas, and the one way to append to
 * it and to read it, for the mount and for the wire.
 *
 * A partition is opened (its log with it) on first use and closed again by the agent when nobody has used it for a while;
 * what a stat needs is known without that. Who uses it takes a reference through topics (topic_partition).
 *
 * Append, step by step:
 *  1. The request is queued on the partition. If another thread is appending there already, that thread will take it along,
 *     and this one returns: a caller never waits.
 *  2. Else this thread takes everything that is queued, checks the sequences of idempotent producers, gives offsets and the leader epoch, writes all of it with one
 *     gathered write, adds index entries, moves the LEO; again, until the queue is empty. A producer has one batch in such a write at most: its next is checked
 *     against what is in the log by then, and a write that fails leaves nothing to be taken back.
 *  3. The high watermark follows as the ISR allows, the view is projected up to the visible end, and (visible offset, position) is published as one value.
 *  4. `done` is called for each request whose acks are met. For acks=all with one replica those wait for the disk: one
 *     fsync, run by the pool, serves all that wait (group commit). With more they wait until the high watermark has reached them.
 *
 * The visible end is min(high watermark, last stable offset). It never goes back but where the log is cut below it, which elections within the ISR do not bring about.
 *
 * What a Fetch or ListOffsets wants is in cluster/partition_fetch.h; roles and replicas are in cluster/partition_role.h.
 *
 * thread: any, unless said otherwise. locks: see cluster/model.h. No lock is held when `done` is called, or one that waits.
 */
#ifndef CLUSTER_PARTITION_H
#define CLUSTER_PARTITION_H

#include <stdbool.h>
#include <stdint.h>

#include "store/batch.h"
#include "store/err.h"

struct broker;
struct topic;
struct partition;
struct delayed_list;
struct partition_cursor;

void partition_ref(struct partition *p);
void partition_unref(struct partition *p); /* NULL is fine */
const char *partition_topic_name(const struct partition *p); /* borrowed while p is referenced */
int32_t partition_index(const struct partition *p);
struct topic *partition_topic(const struct partition *p);    /* borrowed while p is referenced */

/* false: it was deleted, or the replica that was here: everything about it is ERR_DELETED. */
bool partition_is_there(const struct partition *p);

/* Of the log directory that it is in, for broker_dir; -1: in none of ours. */
int partition_dir(const struct partition *p);

/* ---- use: while it is held, the log stays open ---- */

/* Opens the log if need be (that may read a disk, and after an unclean stop recover). ERR_OFFLINE with the reason, ERR_DELETED, ERR_LIMIT, ERR_IO. Each
 * success is paired with one partition_release. */
int partition_acquire(struct partition *p, struct err *e);
/* The same where the log is open already: takes no lock and reads nothing. false: it is not. */
bool partition_try_acquire(struct partition *p);
void partition_release(struct partition *p);

/* ---- what can be seen ---- */

struct visible { /* one moment: both ends of what a reader may see */
	int64_t start_offset, start_position; /* the log start */
	int64_t end_offset, end_position;     /* the visible end */
	int64_t mtime_ms;                     /* append time of the newest record */
	int64_t bytes;                        /* on disk: .log files */
	bool sequential;                      /* it is compacted: records have no positions; both are where they would begin */
};

/* Needs no acquire: from memory where the state is known, else it opens the log. The error is that of partition_acquire. Of what is elsewhere: as was known last, without asking; ERR_NOT_YET: nothing is. */
int partition_visible(struct partition *p, struct visible *v, struct err *e);

/* Whether partition_look or partition_read may have to wait for other brokers: nothing of it is here, or less than this broker has shown of it; or it has not heard since its start how far it is
 * committed. Takes no lock. Such calls are for threads that may wait: remote_pool (cluster/remote/remote.h). */
bool partition_may_wait(struct partition *p);
/* The same as it is now, by asking who knows; it never goes back but where the log was cut. Waits, bounded: after a start until it is known how far the partition is committed; then only for an answer, without which what was known
 * last counts. ERR_OFFLINE: nobody could be asked, and nothing is known. */
int partition_look(struct partition *p, struct visible *v, struct err *e);
/* What was appended from here, to a leader elsewhere, ends at that offset: where nothing of it is here, the looks that come wait until it is visible, a second at most. Must not block. */
void partition_expect(struct partition *p, int64_t end_offset);
/* As partition_locate, wherever it is; needs no acquire. Waits as partition_look does. */
int partition_find(struct partition *p, int64_t position, int64_t *offset, int64_t *record_position, struct err *e);
/* How often what was visible was taken back by an election of who did not have it: who has read before does not know what it has read. */
uint32_t partition_cuts(const struct partition *p);
/* Of one who reads: as partition_acquire, where it is here; nothing has to be open where it is read elsewhere. Paired with partition_release. */
int partition_acquire_reader(struct partition *p, struct err *e);

struct partition_standing { int32_t leader, leader_epoch; bool online; };
/* What Metadata tells. Takes no lock and opens nothing. */
void partition_standing(const struct partition *p, struct partition_standing *s);

enum { PARTITION_REPLICAS = 32 }; /* most that one may have */

struct partition_metadata { /* as clients are told: of a broker by itself what it is, in a cluster what the controller says */
	int32_t leader, leader_epoch; /* -1: nobody just now */
	int32_t isr[PARTITION_REPLICAS], replicas[PARTITION_REPLICAS], offline[PARTITION_REPLICAS];
	int isr_count, replica_count, offline_count;
};
/* false: nobody has told of it. Opens nothing. */
bool partition_metadata(struct partition *p, struct partition_metadata *m);

struct partition_state { /* for xattrs and control files */
	int32_t leader, leader_epoch;
	int32_t isr[32], replicas[32];
	int isr_count, replica_count;
	int64_t high_watermark, leo, last_stable_offset;
	bool online;
	char why_offline[200];
};
int partition_describe(struct partition *p, struct partition_state *s, struct err *e);

/* ---- append ---- */

enum acks { ACKS_LEADER = 1, ACKS_ALL = -1 };

struct waiter { /* private: one that waits for the high watermark, embedded in what it is for */
	struct waiter *next, *previous;
	int64_t offset;
	bool waits;
	void (*ready)(struct partition *p, struct waiter *w, int code, const char *why);
};

struct append { /* owned by the caller, in place until done was called; the queue link and state are partition's */
	struct record_set *set; /* borrowed until done; its base offsets and leader epoch are written into it. One with a producer id is a single batch (ingest_batch makes such) */
	enum acks acks;
	bool in_transaction;   /* whoever gives transactions knows its batch to be of one that is open */
	void (*done)(struct append *a);
	/* results, for done: */
	int code;              /* 0, or ERR_...: NO_SPACE and the like where nothing was written; ERR_IO where the outcome is unknown; ERR_SEQUENCE, ERR_PRODUCER_FENCED, ERR_TXN_STATE: Kafka's
				* OUT_OF_ORDER_SEQUENCE_NUMBER, INVALID_PRODUCER_EPOCH, INVALID_TXN_STATE; ERR_NOT_ENOUGH_REPLICAS, nothing was written; ERR_NOT_ENOUGH_AFTER, ERR_TIMED_OUT, it
				* is in the log, but not known to be on the others; ERR_NOT_LEADER, this broker does not lead, or no longer: the outcome is unknown */
	struct err err;        /* the sentence, where code is not 0 */
	bool duplicate;        /* it is in the log since an earlier request: the results are of that one */
	int64_t base_offset;   /* of the set's first record */
	int64_t log_append_time_ms; /* of a duplicate the greatest timestamp, as in Kafka; else the time that the set was stamped with (message.timestamp.type); -1: CreateTime */
	int64_t log_start_offset;   /* also where code is not 0; -1: not known */
	int64_t end_position;  /* of the view just behind the set, where that is where it ends; else -1 */
	/* private: */
	struct append *next;
	int64_t end_offset;
	_Atomic int state;
	struct waiter waiter;
};

/* p must be acquired and stay so until done. `done` runs exactly once, maybe before this returns, maybe on another thread; it must not block. */
void partition_append(struct partition *p, struct append *a);

/* Takes back an append that is still queued. true: it was taken back, done has been called with ERR_INTERRUPTED. false: it is in the log (or just done): done will be or was
 * called with its outcome. */
bool partition_append_cancel(struct partition *p, struct append *a);
/* For an append with acks=all that has waited long enough. true: it was in the log, and waited for the disk or for other replicas; done has been called with ERR_TIMED_OUT, the records stay. false: it
 * does not wait for those (yet, or any more). `a` must still be there: the caller sees to that. */
bool partition_append_give_up(struct partition *p, struct append *a);
/* Whether acks=all may have to wait for others than this broker. Takes no lock. */
bool partition_is_shared(const struct partition *p);

/* ---- producers ---- */

/* Calls fn for each idempotent or transactional producer that is known here, without a lock. p must be acquired. ERR_NO_MEMORY. */
struct producer_state;
int partition_producers(struct partition *p, void (*fn)(void *arg, const struct producer_state *s), void *arg, struct err *e);

/* ---- durability ---- */

struct flush { /* owned by the caller until done */
	void (*done)(struct flush *f);
	int code;
	struct err err;
	struct flush *next;
	int64_t offset;
	int32_t epoch;
	struct waiter waiter;
};

/* done when everything appended before this call is on disk here and, where this broker leads, below the high watermark. p must be acquired until then. Runs in the pool; one fsync serves all. */
void partition_flush(struct partition *p, struct flush *f);

/* ---- read ---- */

/* A cursor makes a sequence of reads cheap: it belongs to one reader at a time and holds segments open as needed, or a connection to a broker that has them. */
struct partition_cursor *partition_cursor_new(struct partition *p); /* NULL: no memory. p stays acquired (of a reader) until it is freed. */
void partition_cursor_rest(struct partition_cursor *c); /* it holds neither memory nor segments nor a connection until it is read through again */
void partition_cursor_free(struct partition_cursor *c);

/* Copies at most n bytes of the view from `position` on; ERR_OUT_OF_RANGE where there are no positions (it is compacted).
 * Returns the count (0 at the visible end), ERR_OUT_OF_RANGE where position is below the log start, ERR_CORRUPT for a damaged batch
 * (the bytes before it were returned by an earlier or this call), ERR_IO, ERR_DELETED. May block on the disk; of what is elsewhere also on the network, up to remote.read.timeout.ms: ERR_TIMED_OUT. */
ssize_t partition_read(struct partition *p, struct partition_cursor *c, int64_t position, void *buf, size_t n, struct err *e);

/* The record in whose view `position` lies: its offset and where its view starts. At the visible end: the end. ERR_OUT_OF_RANGE outside [start, end]. p acquired. */
int partition_locate(struct partition *p, int64_t position, int64_t *offset, int64_t *record_position, struct err *e);

/* ---- transactions ---- */

/* How a transaction that is open in the log, and that nobody will end, is to be ended: 1 commit, 0 abort. *coordinator_epoch (may be NULL): that of who decided so. Reads the disk. */
int partition_txn_decision(struct partition *p, int64_t producer_id, int16_t producer_epoch, int32_t *coordinator_epoch, struct err *e);

/* Of a compacted partition: the records that are left, each once, in order (store/sequence.h). p stays acquired until it is freed. NULL: no memory. */
struct partition_sequence;
struct partition_sequence *partition_sequence_new(struct partition *p);
void partition_sequence_free(struct partition_sequence *q);
/* At most n bytes; 0: there are no more just now. Goes on whether the partition is compacted still or not. Errors as partition_read. */
ssize_t partition_sequence_read(struct partition *p, struct partition_sequence *q, void *buf, size_t n, struct err *e);
/* What was read is below it, and what is not is not. */
int64_t partition_sequence_offset(const struct partition_sequence *q);

/* ---- waiting ---- */

/* Where to stand, by cluster/delayed.h, for what happens here. Its channels: the log end, the high watermark, and the visible end (which is that of read_committed too),
 * in bytes of the log. All that wait are asked again when the topic is deleted or its directory goes offline. Valid while p is referenced. */
struct delayed_list *partition_delayed(struct partition *p);

/* ---- deleting messages ---- */

/* The log starts at `offset` from now on (at most the visible end, else ERR_OUT_OF_RANGE; below the log start: nothing happens). Durable when it returns; segments that hold nothing else go. p acquired. */
int partition_delete_before(struct partition *p, int64_t offset, struct err *e);

#endif
