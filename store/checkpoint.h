/*
 * checkpoint: the small files at the top of a log directory that say what is known of its partitions.
 *
 * Kafka's own (recovery-point-, log-start-offset-, replication-offset-checkpoint): "0\n" (version), the number of rows, then
 * "topic partition offset" a line.
 *
 * Ours, text as well, each ended by a line "crc XXXXXXXX" (CRC32C of everything before it):
 *
 *   view-start-checkpoint       version 1; "topic partition topic-id offset position" a row: where the log starts, as offset and as position in the mounted file.
 *                               This pair cannot be derived from the log: it is durable before log start advances or a segment goes. Without a row: (0, 0).
 *                               The file also marks a directory as spoolfs'; a greater version means a newer spoolfs.
 *   partition-state-checkpoint  version 1; "boot ID"; a row each partition with what a start needs to know of it without opening it (struct partition_row).
 *
 *   spoolfs.dirs                version 1; the path of each log directory that was used together with this one (and its own).
 *
 * A file that does not check out is ERR_CORRUPT and then does without: everything in the others can be found again by reading logs; the start pairs are also
 * in the first .view file of each partition.
 *
 * thread: one at a time for each file.
 */
#ifndef STORE_CHECKPOINT_H
#define STORE_CHECKPOINT_H

#include <stdbool.h>
#include <stdint.h>

#include "store/buf.h"
#include "store/err.h"

enum { TOPIC_NAME_MAX = 249, TOPIC_ID_CHARS = 22, CHECKPOINT_VERSION = 1 };

#define RECOVERY_POINT_FILE "recovery-point-offset-checkpoint"
#define LOG_START_FILE "log-start-offset-checkpoint"
#define HIGH_WATERMARK_FILE "replication-offset-checkpoint"
#define CLEANER_FILE "cleaner-offset-checkpoint"
#define VIEW_START_FILE "view-start-checkpoint"
#define PARTITION_STATE_FILE "partition-state-checkpoint"
#define CLEAN_SHUTDOWN_FILE ".kafka_cleanshutdown"
#define PRODUCER_IDS_FILE "producer-id-checkpoint"
#define LOG_DIRS_FILE "spoolfs.dirs"
#define RESERVE_FILE "spoolfs.reserve" /* no checkpoint: space held back for one */
#define DYNAMIC_FILE "dynamic-broker.properties" /* nor these: what was configured at run time for the broker, */
#define DYNAMIC_FALLBACK_FILE "dynamic-default.properties" /* and for all brokers */

/* Rows being gathered for a file. */
struct checkpoint_rows {
	struct wr text;
	uint32_t count;
};

void checkpoint_rows_init(struct checkpoint_rows *r);
void checkpoint_rows_release(struct checkpoint_rows *r);

/* ---- Kafka's offset checkpoints ---- */

typedef void (*offset_row_fn)(void *arg, const char *topic, int32_t partition, int64_t offset);
int offset_checkpoint_load(const char *path, offset_row_fn fn, void *arg, struct err *e); /* a missing file has no rows */
void offset_checkpoint_add(struct checkpoint_rows *r, const char *topic, int32_t partition, int64_t offset);
int offset_checkpoint_write(const char *path, struct checkpoint_rows *r, struct err *e);

/* ---- where logs start ---- */

struct start_row {
	char topic[TOPIC_NAME_MAX + 1];
	char topic_id[TOPIC_ID_CHARS + 1];
	int32_t partition;
	int64_t offset, position;
};
typedef void (*start_row_fn)(void *arg, const struct start_row *row);
int view_start_load(const char *path, start_row_fn fn, void *arg, struct err *e); /* ERR_NOT_FOUND, ERR_VERSION, ERR_CORRUPT */
void view_start_add(struct checkpoint_rows *r, const struct start_row *row);
int view_start_write(const char *path, struct checkpoint_rows *r, struct err *e); /* durable when it returns */

/* ---- which log directories belong together ---- */

int log_dirs_load(const char *path, void (*fn)(void *arg, const char *dir), void *arg, struct err *e); /* ERR_NOT_FOUND, ERR_CORRUPT, ERR_VERSION */
void log_dirs_row(struct checkpoint_rows *r, const char *dir); /* once, however often it is added */
int log_dirs_write(const char *path, struct checkpoint_rows *r, struct err *e); /* where it says something else; durable then */

/* ---- what a start needs of each partition ---- */

/* The kernel's id of this boot: page cache contents survive a killed process, not a new boot. "unknown" where it does not tell. */
void boot_id(char id[64]);

struct partition_row {
	char topic[TOPIC_NAME_MAX + 1];
	char topic_id[TOPIC_ID_CHARS + 1];
	int32_t partition;
	int32_t leader_epoch;        /* of the last batch; -1: none yet */
	int64_t active_base;         /* base offset of the active segment; -1: no segment yet */
	int64_t active_bytes;        /* of its .log */
	int64_t dir_mtime_ns;        /* of the partition's directory: a segment made or removed later changes it */
	int64_t start_offset, start_position;
	int64_t leo, last_stable_offset, recovery_point;
	int64_t visible_offset, visible_position;
	int64_t mtime_ms, bytes;
};
typedef void (*partition_row_fn)(void *arg, const struct partition_row *row);
/* *same_boot: whether the machine has not been started anew since it was written. */
int partition_state_load(const char *path, bool *same_boot, partition_row_fn fn, void *arg, struct err *e);
void partition_state_add(struct checkpoint_rows *r, const struct partition_row *row);
int partition_state_write(const char *path, struct checkpoint_rows *r, struct err *e);

/* ---- the marker of a clean stop ---- */

/* Ours names the state checkpoint that was written with it; Kafka's, or one from before Kafka had the directory again, does not. */
int clean_stop_write(const char *dir, struct err *e);
bool clean_stop_is_ours(const char *dir);

#endif
