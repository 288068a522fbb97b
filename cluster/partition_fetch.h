/*
 * partition_fetch: what Fetch, ListOffsets and OffsetForLeaderEpoch want of a partition, below the protocol.
 *
 * A result with data keeps the partition acquired until partition_fetch_release, so that its files stay while they are sent; the caller keeps p referenced until then.
 *
 * `wait` says whether a call may do what blocks for long: open the partition's log (and recover it), or a segment's files. Without it such a call returns
 * PARTITION_WOULD_BLOCK and has done nothing: it is for the pool then.
 *
 * thread: any.
 */
#ifndef CLUSTER_PARTITION_FETCH_H
#define CLUSTER_PARTITION_FETCH_H

#include "cluster/partition.h"
#include "store/fetch.h"

enum { PARTITION_WOULD_BLOCK = 1 };

enum isolation {
	ISOLATION_NONE,      /* followers: up to the log end; of who leads */
	ISOLATION_UNCOMMITTED, /* up to the high watermark */
	ISOLATION_COMMITTED, /* up to the last stable offset, with the aborted transactions */
};

struct partition_ends { int64_t log_start, log_start_position, last_stable, high_watermark, log_end; }; /* one moment */

struct partition_fetch {
	/* what is wanted: */
	int64_t offset;
	uint32_t max_bytes;
	bool min_one;                /* the first batch whole, though it is larger than max_bytes */
	enum isolation isolation;
	int32_t current_epoch;       /* that the client believes in; -1: it does not say */
	int32_t last_fetched_epoch;  /* KIP-595: of the record before offset; -1: it does not say */
	bool leader_only;            /* not from a follower: replicas, and clients that know of no others */
	struct follower_fetch *follower; /* NULL, or: what is noted of the follower that fetches (partition_role.h) */
	bool ends_only;              /* nothing is read, */
	bool slow, in_sync;          /* nor where it is slow, and the follower not in sync; in_sync: without `follower`, whether it was when it was noted */
	bool wait;
	/* what there is: */
	struct partition_ends ends;  /* valid with 0 and ERR_OUT_OF_RANGE (where Kafka answers -1 each) */
	bool slowed;                 /* no data: by `slow` */
	bool diverged;               /* no data: the epoch that was fetched last ends earlier here, namely: */
	int32_t diverging_epoch;
	int64_t diverging_end;
	int64_t begin_offset, begin_position; /* with ERR_OUT_OF_RANGE to a replica: the batch that holds the log start, where it may begin anew */
	struct log_fetch data;       /* bytes 0: nothing is to be released, but it may be */
	bool held;                   /* private */
};

/* 0; PARTITION_WOULD_BLOCK; ERR_OUT_OF_RANGE: offset is below the log start or past the log end, or the last fetched epoch is not known here;
 * ERR_FENCED_EPOCH, ERR_UNKNOWN_EPOCH; ERR_NOT_LEADER; ERR_OFFLINE, ERR_DELETED, ERR_CORRUPT, ERR_IO, ... An offset between the end that the isolation allows and the log end is
 * no error: there is nothing yet. */
int partition_fetch(struct partition *p, struct partition_fetch *f, struct err *e);
void partition_fetch_release(struct partition *p, struct partition_fetch *f);

/* current_epoch: what a client believes is the leader's epoch; -1: it does not say. ERR_FENCED_EPOCH: it is older than ours; ERR_UNKNOWN_EPOCH: newer. p acquired. */
int partition_check_epoch(struct partition *p, int32_t current_epoch, struct err *e);

/* OffsetForLeaderEpoch, of who leads: the greatest epoch at or below `epoch` and where it ends; -1, -1 where that is not known. Errors as of partition_fetch. */
int partition_epoch_end(struct partition *p, int32_t current_epoch, int32_t epoch, bool wait, int32_t *found_epoch, int64_t *end_offset, struct err *e);

/* ListOffsets, of who leads. timestamp_ms may be one of these (Kafka's numbers): */
enum {
	OFFSET_LATEST = -1,         /* the end that the isolation allows */
	OFFSET_EARLIEST = -2,
	OFFSET_MAX_TIMESTAMP = -3,  /* the first record with the greatest timestamp */
	OFFSET_EARLIEST_LOCAL = -4, /* without tiered storage: as earliest */
	OFFSET_LATEST_TIERED = -5,  /* without tiered storage: none */
};
/* found->offset -1 with 0: there is no such record, or it is not below the end that the isolation allows. Other negative times: ERR_UNSUPPORTED, as Kafka has it.
 * ERR_NOT_YET: the high watermark has not come to where this leader's epoch began, so where the end is cannot be told: it may have been told further ahead before. */
int partition_list_offset(struct partition *p, int64_t timestamp_ms, enum isolation isolation, int32_t current_epoch, bool wait, struct log_offset *found, struct err *e);
/* Where the log of this replica ends, and its last epoch (-1: it has no record), whatever its role: what a controller asks of those that are back without all they had. Blocks. */
int partition_replica_end(struct partition *p, struct log_offset *found, struct err *e);

/* ViewLookup, of any replica: where a record stands in the partition's file, and that file's ends. */
struct partition_place {
	int64_t offset, position; /* what is wanted: -1 each, or one of them: the record that holds the position, the first at or behind the offset, or the visible end. Then where that is */
	struct visible visible;   /* from here on also with ERR_OUT_OF_RANGE */
	int64_t log_end;
	int32_t leader_epoch;
	bool leads, settled;      /* settled: how far it is committed is known here; a leader that was elected a moment ago does not know it, a follower never */
};
/* Without `wait` only for the end: PARTITION_WOULD_BLOCK else. ERR_OUT_OF_RANGE: outside of what is visible. Others as of partition_fetch. */
int partition_place(struct partition *p, int32_t current_epoch, bool wait, struct partition_place *x, struct err *e);

/* All records in [from, to), for those who load a partition into memory: see log_scan_records. to -1, or past it: up to the high watermark as it is when it gets there. So of a
 * compacted partition nothing is missed but for something newer. *end (NULL is fine) is where it ended. ERR_OUT_OF_RANGE: the log starts behind `from`. Blocks. */
int partition_scan_records(struct partition *p, int64_t from, int64_t to, log_record_fn fn, void *arg, int64_t *end, struct err *e);

#endif
