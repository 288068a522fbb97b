/*
 * adopt: what a log directory that Apache Kafka wrote says beside its partitions.
 *
 * Topic configurations are in the KRaft metadata log, `__cluster_metadata-0` (records and, where the log was compacted into them, `.checkpoint` snapshots).
 * Decisions on transactions are in `__transaction_state-*`. Both are read, never written. Where they are missing, or cannot be understood, nothing is adopted from them and
 * a message says so: the partitions themselves do not depend on them.
 *
 * thread: any; used while the broker opens, and before the first append to a partition with undecided transactions.
 */
#ifndef CLUSTER_ADOPT_H
#define CLUSTER_ADOPT_H

#include <stdbool.h>
#include <stdint.h>

#include "store/err.h"

/* Calls fn for each topic-level configuration in force. dir: the log directory. Returns 0 (also when there is no metadata log), ERR_CORRUPT, ERR_IO,
 * ERR_NO_MEMORY. */
int adopt_topic_configs(const char *dir, void (*fn)(void *arg, const char *topic, const char *name, const char *value), void *arg, struct err *e);

/* What `__transaction_state` says of the transaction that producer `producer_id` has open at that epoch (the record may carry the next one: KIP-890 bumps it at each end): 1: decided to commit (PrepareCommit or CompleteCommit of the transaction that it has open); 0: anything else, which
 * means abort. *coordinator_epoch: the leader epoch of the record that said so, 0 without one. dirs: the log directories, NULL-terminated. */
int adopt_txn_decision(const char *const *dirs, int64_t producer_id, int16_t producer_epoch, int32_t *coordinator_epoch, struct err *e);

/* The greatest producer id that `__transaction_state` in that log directory gives to a transactional id; *id stays as it is where there is none above it. Damaged logs
 * are passed over with a message. ERR_IO, ERR_NO_MEMORY. */
int adopt_txn_greatest_id(const char *dir, int64_t *id, struct err *e);

#endif
