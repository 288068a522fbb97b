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

/* The least first offset of an open transaction, -1 where none is open. */
int64_t producers_first_unstable(const struct producers *p);

struct open_txn { int64_t producer_id, first_offset; int16_t producer_epoch; int32_t coordinator_epoch; };
/* Calls fn, which leaves p alone, for each open transaction, by first offset. */
void producers_open_txns(const struct producers *p, void (*fn)(void *arg, const struct open_txn *t), void *arg);
/* The greatest producer id seen; -1: none. */
int64_t producers_greatest_id(const struct producers *p);

/* One line of text a producer, for `spoolfs dump`. */
struct wr;
void producers_print(const struct producers *p, struct wr *text);

#endif
