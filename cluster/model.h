/*
 * model: the structs that broker, topics, partition and agent share. Included by cluster/ alone.
 *
 * Who owns what: the broker owns its directories and the topic table; the table holds one reference of each topic; a topic owns its partitions (a partition's
 * reference is its topic's); a partition owns its log while that is open.
 *
 * Lock order: broker.create_lock, broker.topics_lock, topic.conf_lock, partition.open_lock, partition.log_lock, partition.queue_lock,
 * dir.checkpoint_lock, then store's. What is written under which lock stands at the field.
 */
#ifndef CLUSTER_MODEL_H
#define CLUSTER_MODEL_H

#include <pthread.h>
#include <stdatomic.h>
#include <uthash.h>

#include "cluster/broker.h"
#include "cluster/partition.h"
#include "cluster/topics.h"
#include "store/checkpoint.h"
#include "store/consent.h"
#include "store/cursor.h"
#include "store/dirs.h"
#include "store/log.h"
#include "store/pool.h"
#include "store/timer.h"

struct log_dir {
	char *path;
	struct dir_lock lock;
	_Atomic bool offline;           /* a write or fsync failed: nothing of it is used any more */
	_Atomic int32_t partition_count;
	pthread_mutex_t checkpoint_lock; /* one writes its checkpoint files at a time; held over that, by nobody who appends */
	bool starts_lost;               /* view-start-checkpoint is missing or damaged: to be written */
	bool foreign;                   /* there are partitions in it, and no file of ours: Kafka made them */
	bool clean;                     /* the last stop was clean */
	bool known;                     /* it was in use before, as another directory says */
	bool read_only;                 /* it may not be written; only where the broker is read_only */
};

struct agent;

struct broker {
	const struct conf *conf;
	struct conf *topic_conf;        /* what topics without properties of their own have */
	char *label;
	bool read_only;                 /* retention and removals rest */
	struct wr known_dirs;           /* paths of log directories that were ever used with these, a line each */
	int32_t id;
	struct log_dir *dir;
	int dir_count;
	struct segment_cache *cache;
	struct pool *pool;
	struct agent *agent;
	_Atomic bool stopping;

	pthread_rwlock_t topics_lock;
	struct topic *topics;           /* uthash by name; topics_lock */
	_Atomic size_t generation;
	_Atomic int next_serial;
	pthread_mutex_t create_lock;    /* creating, deleting, adding partitions: one at a time */
};

struct limits { /* a topic's properties as the hot path wants them; swapped as a whole, see topic_limits */
	struct log_limits log;
	struct retention retention;     /* ms -1 and bytes -1 where retention is held back */
	int64_t flush_messages, flush_ms;
	int64_t file_delete_delay_ms;
	enum acks acks;
	struct batch_style style;
	bool fsync_acks_all;
};

struct topic {
	struct broker *broker;
	char *name;
	char id[TOPIC_ID_CHARS + 1];
	int serial;
	bool id_found;                  /* its id was lost in a partition.metadata, and found elsewhere */
	bool internal;
	bool adopted;                   /* Kafka made it: nothing is deleted until retention is configured here */
	bool lost;                      /* its properties were lost: nothing is deleted but by a retention that is set for the topic itself */
	_Atomic bool deleted;
	int64_t created_ms;
	_Atomic uint32_t refs;
	_Atomic uint32_t generation;    /* of its properties */
	UT_hash_handle hh;

	pthread_mutex_t conf_lock;      /* conf, limits, owner, partitions' growth */
	struct conf *conf;              /* NULL: the broker's topic_conf */
	bool damaged;                   /* topic.properties is damaged or missing, and not replaced yet */
	struct limits limits;
	struct topic_owner owner;
	struct partition **partition;   /* never shrinks; grown under conf_lock, read through partition_count */
	_Atomic int32_t partition_count;
	int32_t partition_cap;
};

struct known { /* what a start or a close leaves to know of a log that is not open */
	bool trusted;                   /* log_open may rely on it */
	bool clean;                     /* without it: the last stop was clean */
	bool foreign;
	int32_t leader_epoch;
	int64_t active_base, active_bytes, leo, last_stable, recovery_point, log_start;
	int64_t pair_offset, pair_position;
	int64_t dir_mtime_ns;
};

struct partition {
	struct topic *topic;
	int32_t index;
	struct log_dir *dir;            /* NULL: it is in none of ours */

	pthread_mutex_t open_lock;      /* opening and closing the log */
	struct log *log;                /* NULL: not open. Set under open_lock and log_lock */
	struct known known;             /* open_lock */
	struct consent *consent;        /* open_lock: to losses, by which its log was recovered; until that is on disk. NULL: usually */
	bool consent_noted;             /* open_lock: the checkpoint being written knows the log as it was accepted */
	uint32_t users;                 /* open_lock */
	int64_t idle_since_ms;          /* open_lock: when users became 0 */
	char *why_offline;              /* open_lock; not NULL: it is offline */
	bool needs_markers;             /* open_lock, then log_lock: open transactions that nobody will end */

	pthread_mutex_t log_lock;       /* the appender's right: append, truncate, log start, role */
	int32_t leader, leader_epoch;   /* log_lock */
	int32_t isr[1];                 /* this broker */
	_Atomic int64_t high_watermark;
	_Atomic int64_t retention_due_ms; /* not to be looked at before */
	int64_t recorded_offset, recorded_position; /* dir.checkpoint_lock: the log start that is on disk; (0, 0) where there is no row */

	pthread_mutex_t queue_lock;
	struct append *append_head, **append_tail; /* queue_lock */
	bool appending;                 /* queue_lock: a thread is taking from the queue */
	struct append *unsynced;        /* queue_lock: in the log, waiting for the disk */
	struct flush *flushes;          /* queue_lock */
	bool flushing, want_flush;      /* queue_lock */
	struct waiter *waiters;         /* queue_lock */
	struct pool_job flush_job;
	_Atomic int64_t dirty_since_ms; /* when the oldest record that may not be on disk was appended; 0: none */

	_Atomic uint32_t visible_seq;   /* odd while the five below change; writers hold log_lock (or open_lock before it is open) */
	_Atomic int64_t start_offset, start_position, end_offset, end_position, mtime_ms, bytes;
	_Atomic bool visible_known;
};

/* ---- partition ---- */
struct partition *partition_new(struct topic *t, int32_t index, struct log_dir *dir);
void partition_free(struct partition *p); /* its log is closed */
void partition_append_init(struct partition *p);
/* Publishes what its log makes visible. appended_ms: 0 where nothing was appended. locks: log_lock. */
void partition_publish_log(struct partition *p, int64_t appended_ms);
/* The log starts there, as is durable by now. locks: log_lock. */
void partition_publish_start(struct partition *p, int64_t offset, int64_t position);
char *partition_path(const struct partition *p); /* to be freed; NULL: no memory */
/* Closes the log if nobody uses it. locks: none held. Returns whether it is closed now. */
bool partition_close_idle(struct partition *p, int64_t idle_before_ms, struct err *e);
/* At the end: no use is left. */
int partition_close(struct partition *p, struct err *e);
void partition_take_offline(struct partition *p, const char *why);
/* Fails everything that waits there: the topic was deleted, or its directory went offline. */
void partition_fail_waiting(struct partition *p, int code, const char *why);
/* What the state checkpoint says of it; false: nothing to be relied on, but for recovery point and log start as they were last known. */
bool partition_row(struct partition *p, struct partition_row *row);
/* Checkpoints with its row are on disk: a consent to losses is spent. */
int partition_spend_consent(struct partition *p, struct err *e);
void partition_publish_known(struct partition *p, const struct partition_row *row);
int partition_apply_retention(struct partition *p, int64_t now_ms, struct err *e);
bool partition_has_open_log(struct partition *p);
int partition_remove_deleted(struct partition *p, struct err *e);
void partition_flush_soon(struct partition *p);
bool partition_is_dirty_since(struct partition *p, int64_t before_ms);

/* ---- topics ---- */
struct limits topic_limits(struct topic *t);
void topic_refresh_limits(struct topic *t); /* after its properties changed; takes conf_lock */
void topic_default_owner(struct topic_owner *o);
/* During the broker's open: finds or makes the topic of a partition directory. */
struct topic *topics_load(struct broker *b, const char *name, const char *id);
int topic_load_partition(struct topic *t, int32_t index, struct log_dir *dir, struct partition **out, struct err *e);
void topic_load_properties(struct topic *t); /* once all its partitions are known */
/* Before its first partition is made: whose it is. owner NULL: the daemon's user. */
int topic_init_owner(struct topic *t, const struct topic_owner *owner, struct err *e);
/* Into the directory of partition 0 that is being made. */
int topic_write_properties(struct topic *t, const char *partition_dir, struct err *e);
int topic_adopt_property(struct topic *t, const char *name, const char *value, struct err *e);
int topic_save_properties(struct topic *t, struct err *e);
void topics_free_all(struct broker *b);

/* ---- log directories ---- */
/* Those of -d and log.dirs; a new one is made. */
int log_dirs_add(struct broker *b, const char *data, struct err *e);
/* Its lock, and what its files say of it. */
int log_dir_take(struct broker *b, struct log_dir *d, const struct broker_options *o, struct err *e);
/* Each is known to the others from now on. */
int log_dirs_record(struct broker *b, struct err *e);

/* ---- broker ---- */
void broker_dir_failed(struct broker *b, struct log_dir *d, const char *why);
/* Writes the checkpoint files of a directory. clean: and the marker of a clean stop. */
int broker_checkpoint(struct broker *b, struct log_dir *d, bool clean, struct err *e);
/* Writes view-start-checkpoint with `p` starting at (offset, position). Durable when it returns. */
int broker_record_start(struct broker *b, struct partition *p, int64_t offset, int64_t position, struct err *e);

/* ---- agent ---- */
struct agent *agent_start(struct broker *b, struct err *e);
void agent_begin(struct agent *a); /* the broker is open: the periodic tasks start */
void agent_stop(struct agent *a);
struct timer_heap *agent_timers(struct agent *a);
void agent_free(struct agent *a); /* after the pool has run out */
void agent_checkpoint_soon(struct agent *a);
void agent_flush_changed(struct agent *a); /* flush.ms was set somewhere */
void agent_delete_later(struct agent *a, int64_t delay_ms); /* .deleted files and -delete directories wait */

#endif
