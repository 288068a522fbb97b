/*
 * join_ids: blocks of producer ids from ZooKeeper's /latest_producer_id_block: each block is one broker's alone, for ever.
 *
 * The node is read, and set with the version that was read to the block behind: whoever comes too late reads again.
 *
 * thread: any but the queue's. Blocks, for ID_BLOCK_MS at most.
 */
#ifndef CLUSTER_JOIN_IDS_H
#define CLUSTER_JOIN_IDS_H

#include <stdint.h>

#include "store/err.h"

struct zk;

/* The next block, both ends in it, from `least` on or above. ERR_TIMED_OUT: ZooKeeper does not answer; others: what it or the node says. */
int join_ids_reserve(struct zk *z, int32_t broker_id, int64_t least, int64_t *first, int64_t *last, struct err *e);

#endif
