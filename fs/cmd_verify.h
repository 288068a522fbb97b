/*
 * cmd_verify: the parts of `spoolfs verify`.
 *
 *  1. cmd_verify.c lists the log directories and reads their checkpoints.
 *  2. cmd_verify_partition.c: verify_partition_load lists each partition's directory and reads its small files.
 *  3. cmd_verify_segment.c: verify_segment goes through one segment, alone: batches, records, and what its indexes say of them. All segments of all
 *     partitions at once, on a pool.
 *  4. cmd_verify_partition.c: verify_partition_join checks what holds from one segment to the next, with cmd_verify_txn.c for the transactions.
 *  5. The faults are printed, partition by partition.
 *
 * thread: a partition_check is written by one thread in steps 2 and 4, and read by many in step 3, each of which writes one segment_check.
 */
#ifndef FS_CMD_VERIFY_H
#define FS_CMD_VERIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/batch.h"
#include "store/buf.h"
#include "store/checkpoint.h"
#include "store/conf.h"
#include "store/epochs.h"
#include "store/log.h"

/* ---- replicas of a cluster: cmd_verify_cluster.c ---- */

/* Compares the replicas of these topics (count 0: of all), and prints what differs. The exit status: 1 with a difference, 2 where something could not be compared. */
int verify_cluster(const char *bootstrap, int timeout_ms, char **names, int count);

/* ---- what was found ---- */

struct faults { /* lines of text; beyond the first ones they are only counted */
	struct wr text;
	size_t count;
};

void faults_init(struct faults *f);
void faults_release(struct faults *f);
void fault(struct faults *f, const char *path, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void faults_print(const struct faults *f, const char *path); /* path: of what all of them are about */

/* ---- transactions ---- */

struct txn_mark { int64_t producer_id, first_offset, marker_offset; bool abort; }; /* first_offset -1: began in an earlier segment, or has no messages */
struct txn_begun { int64_t producer_id, first_offset; };

struct txn_trace { /* what one segment says of transactions */
	struct txn_mark *mark;   /* by marker offset */
	struct txn_begun *begun; /* still open at the segment's end */
	size_t mark_count, mark_cap, begun_count, begun_cap;
	bool failed;             /* no memory */
};

void txn_trace_release(struct txn_trace *t);
void txn_trace_add(struct txn_trace *t, const struct batch *b, const uint8_t *bytes);

/* ---- segments and partitions ---- */

struct partition_check;

struct segment_check {
	const struct partition_check *partition;
	int64_t base_offset;
	uint32_t size_bytes;
	/* results: */
	int64_t end_offset;          /* behind its last batch */
	bool damaged;                /* so that what depends on all of its records is not known */
	bool has_first_position;
	int64_t first_position;      /* by its .view */
	int64_t last_view_offset;    /* the greatest offset with a view entry; -1 */
	int64_t view_bytes;          /* of its committed records */
	int64_t view_bytes_to_start; /* of those below the log start */
	struct txn_trace txns;
	struct faults faults;
};

struct partition_check {
	char *dir;                   /* owned */
	char topic[TOPIC_NAME_MAX + 1];
	int32_t partition;
	char topic_id[TOPIC_ID_CHARS + 1]; /* "": unknown */
	struct segment_check *segment; /* owned; by base offset */
	size_t segment_count;
	struct log_shape shape;      /* its aborted transactions, for log_is_aborted; no segments */
	struct epochs epochs;
	bool epochs_known;
	bool compacted;              /* gaps between offsets are no fault */
	bool any;                    /* there is something in the directory */
	int64_t log_start;
	/* of the log directory: */
	const struct conf_schema *schema; /* of topic.properties; borrowed */
	bool ours;                   /* spoolfs has written in it */
	bool starts_at_zero;         /* a partition without a row starts at (0, 0) */
	/* from the log directory's checkpoints; -1: no row there */
	int64_t recovery_point, high_watermark;
	int64_t pair_offset, pair_position;
	struct partition_row *state; /* borrowed; NULL: none, or not to be trusted after an unclean stop */
	struct faults faults, notes;
};

/* p: zeroed, with dir, names and checkpoint values filled. ERR_NO_MEMORY; ERR_IO, ERR_DENIED and such where the directory cannot be read at all. */
int verify_partition_load(struct partition_check *p, struct err *e);
void verify_partition_release(struct partition_check *p);

/* progress: called with the bytes passed now and then. */
void verify_segment(struct segment_check *s, void (*progress)(void *arg, uint64_t bytes), void *arg);

void verify_partition_join(struct partition_check *p);

/* Checks the .txnindex entries against the markers of all segments. Returns the last stable offset: the first offset of an open transaction, else INT64_MAX. */
int64_t verify_transactions(struct partition_check *p);

#endif
