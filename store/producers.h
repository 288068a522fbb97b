/*
 * producers: what a partition knows of its idempotent and transactional producers, and its .snapshot files.
 *
 * For each producer id: epoch, the last five batches (sequences and offsets), the first offset of its open transaction, when it was last
 * seen. The state is a function of the log up to `map_end_offset`; `<offset>.snapshot` holds it as of that offset, so that
 * only the log behind the newest snapshot has to be read at a start (KIP-98).
 *
 * Snapshot, as Kafka writes it (its ProducerSnapshot schema, big-endian): version i16 (1 up to Kafka 4.2) | crc u32 (CRC32C of
 * what follows) | count i32 | entries: producer id i64 | producer epoch i16 | last sequence i32 | last offset i64 | offset delta i32 | timestamp i64 |
 * coordinator epoch i32 | current transaction's first offset i64 (-1: none). Without a batch of the producer's epoch last sequence and last offset are -1, the delta
 * is 0. Entries are in Kafka's hash order; a snapshot that was loaded is written in the same order, producers that came since behind.
 *
 * The first unstable offset is the least first offset of all open transactions: the log's last stable offset (LSO) where there is one.
 *
 * thread: one at a time (the log's appender, or who opens it).
 */
#ifndef STORE_PRODUCERS_H
#define STORE_PRODUCERS_H

#include <stdbool.h>
#include <stdint.h>

#include "store/batch.h"
#include "store/err.h"
#include "store/txnindex.h"

struct producers;

struct producers *producers_new(void); /* NULL: no memory */
void producers_free(struct producers *p);
void producers_clear(struct producers *p);
struct producers *producers_copy(const struct producers *p); /* NULL: no memory */
bool producers_is_empty(const struct producers *p);

/* What is taken into account from now on is noted at this time: that of appending or, where the log is read again after a crash, of that. A snapshot keeps it as the producer's. */
void producers_set_now(struct producers *p, int64_t now_ms);

int64_t producers_map_end(const struct producers *p);
void producers_set_map_end(struct producers *p, int64_t offset);

/* Replaces the state by a snapshot's; after a failure it is empty. ERR_CORRUPT (the caller tries an older one), ERR_NOT_FOUND. */
int producers_load(struct producers *p, const char *path, int64_t snapshot_offset, struct err *e);
/* Written beside and renamed; durable if asked. */
int producers_write(const struct producers *p, const char *path, bool durable, struct err *e);

/* Takes one batch of the log into account (with its base offset given). bytes: the whole batch, needed for control batches only. Where it is a marker
 * that ends a transaction by abort, *aborted is filled and 1 returned; else 0. ERR_CORRUPT, ERR_NO_MEMORY: nothing has changed. Batches without producer id only
 * move the map end. Nothing is refused for its epoch or sequence: what is in the log was accepted once (as Kafka replays it). */
int producers_update(struct producers *p, const struct batch *b, const void *bytes, struct aborted_txn *aborted, struct err *e);

/* Room for what producers_update of a data batch of that producer will note, so that it cannot fail; false: no memory. Given back where there is no such batch after all. */
bool producers_reserve(struct producers *p, int64_t producer_id);
void producers_unreserve(struct producers *p, int64_t producer_id);

/* ---- what a producer sends ---- */

struct producer_batch { /* one that is in the log */
	int32_t first_sequence, last_sequence;
	int64_t first_offset, last_offset;
	int64_t timestamp_ms; /* the greatest of its records */
};

enum { PRODUCER_NEXT, PRODUCER_DUPLICATE, PRODUCER_UNSURE };

/* Whether b, of a client and not in the log yet, may be appended (Kafka's ProducerAppendInfo and UnifiedLog.analyzeAndValidateProducerState):
 *
 *   PRODUCER_NEXT       it follows, or nothing is known of the producer (it has expired, or its records were deleted): then any sequence will do
 *   PRODUCER_DUPLICATE  it is one of the last five of its producer and epoch: *known is what was appended then
 *   PRODUCER_UNSURE     it is none of those that are known, but a snapshot knows the last one alone: producers_recall, then ask again
 *   ERR_SEQUENCE        it does not follow; with a new epoch, it does not begin at 0
 *   ERR_PRODUCER_FENCED          its epoch is older than the producer's
 *   ERR_TXN_STATE       a transactional one outside of a transaction that is open here (in_transaction tells that the coordinator knows it to be in one), or the other way round
 *
 * Batches without producer id, and control batches, are not to be asked about. Nothing changes. */
int producers_check(const struct producers *p, const struct batch *b, bool in_transaction, struct producer_batch *known, struct err *e);

/* What was found in the log behind PRODUCER_UNSURE: the producer's last batches of its epoch, oldest first, those that are known already among them or not. Afterwards
 * there is no more to be found out. */
void producers_recall(struct producers *p, int64_t producer_id, const struct producer_batch *b, uint32_t n);
/* The oldest batch that is known of the producer. false: none is. */
bool producers_oldest(const struct producers *p, int64_t producer_id, int16_t *epoch, struct producer_batch *oldest);

/* Forgets producers without an open transaction that were noted last `expiration_ms` ago. That is not the time of their records, as in Kafka: those may be as old as they like, and
 * a batch that is sent again would be appended again. But records from the future count until then. Returns how many. */
size_t producers_expire(struct producers *p, int64_t now_ms, int64_t expiration_ms);

struct producer_state {
	int64_t id, last_timestamp_ms, txn_first_offset; /* txn_first_offset: -1 where none is open */
	int32_t last_sequence, coordinator_epoch;        /* -1: none yet */
	int16_t epoch;
};
size_t producers_count(const struct producers *p);
void producers_list(const struct producers *p, void (*fn)(void *arg, const struct producer_state *s), void *arg);

/* ---- transactions ---- */

/* The least first offset of an open transaction, -1 where none is open. */
int64_t producers_first_unstable(const struct producers *p);

struct open_txn { int64_t producer_id, first_offset; int16_t producer_epoch; int32_t coordinator_epoch; };
/* Calls fn, which leaves p alone, for each open transaction, by first offset. */
void producers_open_txns(const struct producers *p, void (*fn)(void *arg, const struct open_txn *t), void *arg);
/* What stands for the producer in the log: the last offset of its newest batch of data, -1 where none of its epoch is known. false: it is not known. */
struct producer_last { int64_t offset; int16_t epoch; };
bool producers_last(const struct producers *p, int64_t id, struct producer_last *last);
/* Takes an open transaction for ended, as one whose batches are cleaned away is. Nothing happens where none is open. */
void producers_end_txn(struct producers *p, int64_t id);
/* The greatest producer id seen; -1: none. */
int64_t producers_greatest_id(const struct producers *p);

/* One line of text a producer, for `spoolfs dump`. */
struct wr;
void producers_print(const struct producers *p, struct wr *text);

#endif
