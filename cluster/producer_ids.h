/*
 * producer_ids: the ids that InitProducerId gives to idempotent producers: each once, whatever crashes.
 *
 * Ids are reserved in blocks of 1000: a block is on disk as reserved before the first id of it is given; what is left of it at a stop is never given. The ids are
 * above every id that a log here has, wherever it came from: a directory that Kafka wrote, or that was with another spoolfs, is searched once, batch header by batch
 * header and snapshot by snapshot, when an id is asked for for the first time (nothing is, for a mount that is on no network). They are also above the ids that come
 * in Produce requests, up to 2^62: nobody counts that far, and one who makes up a greater id is not to exhaust them.
 *
 * In a cluster blocks come from ZooKeeper (role_calls.producer_ids): each is one broker's alone, and above all that is known here when it is reserved; but the ids of other brokers' blocks, which come
 * here all the time, do not end it.
 *
 * producer-id-checkpoint, in the first log directory, text: "1" (version) | "next N": every id given is below N | "dir PATH" for each log directory whose ids
 * are all below N | "crc XXXXXXXX", CRC32C of everything before. Replaced as a whole. Where it is missing all directories are searched; damaged, too, and ids go on a
 * million above the greatest found, as some that were given may not be in any log yet.
 *
 * thread: any. locks: write_lock (one writes the file), then lock (a leaf); `done` is called with none.
 */
#ifndef CLUSTER_PRODUCER_IDS_H
#define CLUSTER_PRODUCER_IDS_H

#include <stdbool.h>
#include <stdint.h>

#include "store/err.h"

struct broker;

struct init_producer_id { /* owned by the caller, in place until done was called */
	const char *transactional_id; /* borrowed until done; NULL: none */
	int64_t producer_id;          /* the one that the client has, as the request says; -1 */
	int16_t producer_epoch;       /* -1 */
	void (*done)(struct init_producer_id *r);
	/* results: */
	int code;                     /* 0: producer_id and producer_epoch are the client's from now on, else they are -1. For Kafka's codes see producer_ids_init */
	struct err err;
	struct init_producer_id *next; /* private */
};

/* InitProducerId. Without a transactional id the answer is a new id with epoch 0, whatever the client had (Kafka's TransactionCoordinator: such a client raises its epoch
 * by itself, and asks when that is exhausted). `done` runs exactly once, maybe before this returns, else on a thread of the pool.
 *
 *    ERR_INVALID      INVALID_REQUEST: an id without an epoch, or the other way round; an empty transactional id
 *    ERR_UNSUPPORTED  UNSUPPORTED_VERSION: a transactional id; what Kafka answers where it has not got something
 *    all others       COORDINATOR_LOAD_IN_PROGRESS, which clients take as "again": ERR_STOPPING, ERR_NO_SPACE, ERR_IO, ERR_NO_MEMORY, ERR_LIMIT */
void producer_ids_init(struct broker *b, struct init_producer_id *r);

/* A log here has, or is to get, batches of that producer: ids given later are above it. */
void producer_ids_seen(struct broker *b, int64_t producer_id);

/* ---- broker.c's ---- */
struct producer_ids;
struct producer_ids *producer_ids_new(struct broker *b); /* NULL: no memory */
void producer_ids_free(struct producer_ids *p);          /* nobody waits any more; NULL is fine */
/* Once the directories are known, and before they are marked as in use here: those that others have written are to be searched, and that is on disk. */
int producer_ids_load(struct producer_ids *p, struct err *e);
/* The ids seen are on disk as well: before a checkpoint says that logs need not be opened to know them. */
int producer_ids_settle(struct producer_ids *p, struct err *e);

#endif
