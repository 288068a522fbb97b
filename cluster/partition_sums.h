/*
 * partition_sums: checksums of whole batches of a replica, for who compares replicas: those hold the same bytes over the offsets that they have in common, up to the high watermark of each.
 *
 * Reads what consumers may read, of a leader or a follower, in pieces. Nothing in a batch is believed but where it ends.
 *
 * thread: any. Blocks.
 */
#ifndef CLUSTER_PARTITION_SUMS_H
#define CLUSTER_PARTITION_SUMS_H

#include "cluster/partition_fetch.h"

enum { SUMS_MAX_BYTES = 32 << 20, SUMS_MAX_RANGES = 4096 }; /* of one call, but for a first batch that is larger */

struct sums_range { int64_t first_offset, next_offset, bytes, position; int32_t batches; uint32_t crc; }; /* position: of the view at next_offset; -1: not known, or there are none */

struct partition_sums {
	/* what is wanted: */
	int64_t from, to;        /* from the batch that holds `from` on, those that end below `to` and the high watermark */
	uint32_t max_bytes;      /* about as much, at least one batch */
	bool each;               /* a range for each batch; else one for all */
	/* what there is: */
	struct partition_ends ends; /* also with ERR_OUT_OF_RANGE */
	int32_t leader_epoch;
	bool leads, compacted;
	struct sums_range *range;   /* owned: free */
	int ranges;                 /* 0: nothing ends below `to` */
};
/* ERR_OUT_OF_RANGE: the log starts behind `from`, or ends before it; ERR_CORRUPT: what is there is no batch; others as of partition_fetch. */
int partition_sums(struct partition *p, struct partition_sums *s, struct err *e);

#endif
