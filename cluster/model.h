/*
 * model: the structs that broker, topics, partition and agent share. Included by cluster/ alone.
 *
 * Who owns what: the broker owns its directories and the topic table; the table holds one reference of each topic; a topic owns its partitions (a partition's
 * reference is its topic's); a partition owns its log while that is open.
 *
 * Lock order: dir.rows_lock, broker.configure_lock, broker.create_lock, broker.listen_lock, broker.topics_lock, topic.conf_lock, broker.defaults_lock, partition.open_lock, partition.log_lock, partition.isr_lock,
 * partition.queue_lock, dir.checkpoint_lock, producer_ids.write_lock, producer_ids.lock, then store's. What is written under which lock stands at the field.
 */
#ifndef CLUSTER_MODEL_H
#define CLUSTER_MODEL_H

#include <pthread.h>
#include <stdatomic.h>
#include <uthash.h>

#include "cluster/broker.h"
#include "cluster/broker_conf.h"
#include "cluster/delayed.h"
#include "cluster/partition.h"
#include "cluster/partition_role.h"
#include "cluster/throttle.h"
#include "cluster/topics.h"
#include "store/checkpoint.h"
#include "store/consent.h"
#include "store/cursor.h"
#include "store/dirs.h"
#include "store/ingest.h"
#include "store/log.h"
#include "store/pool.h"
#include "store/timer.h"

struct log_dir {
	char *path;
	struct dir_lock lock;
	_Atomic bool offline;           /* a write or fsync failed: nothing of it is used any more */
	_Atomic int32_t partition_count;
	pthread_mutex_t rows_lock;      /* what is gathered for a checkpoint is written before anything else is; before all of a partition's locks */
	pthread_mutex_t checkpoint_lock; /* one writes its checkpoint files at a time; held over that, by nobody who appends */
	uint32_t high_written;          /* checkpoint_lock: crc of the high watermarks that were written last; 0: not by broker_write_high_watermarks */
	bool starts_lost;               /* view-start-checkpoint is missing or damaged: to be written */
	bool foreign;                   /* there are partitions in it, and no file of ours: Kafka made them */
	bool clean;                     /* the last stop was clean */
	bool others;                    /* Kafka wrote it, or has had it since we did: it may hold producer ids that were not given here */
	bool known;                     /* it was in use before, as another directory says */
	bool read_only;                 /* it may not be written; only where the broker is read_only */
};

struct agent;
struct producer_ids;
struct cleaner;

/* What topics take that do not set it themselves, and what else can be changed while the broker runs: broker_conf.c. Never changed, but replaced as a whole: each topic
 * holds a reference to those that are its properties' parents. */
struct defaults {
	_Atomic uint32_t refs;
	struct conf *fallback;          /* over broker.conf: what was set at run time for all brokers, */
	struct conf *own;               /* and over that what was set for this one */
	struct conf *topic;             /* what topics without properties of their own have; nothing is set in it */
};

enum flush_acks { FLUSH_ACKS_AUTO, FLUSH_ACKS_ALWAYS, FLUSH_ACKS_NEVER }; /* log.flush.acks.all */

struct broker {
	const struct conf *conf;        /* as the broker was started with */
	const struct role_calls *roles; /* NULL: it is of no cluster, and leads what it has */
	const struct topic_calls *topic_calls; /* NULL: topics are made and deleted here */
	const struct property_calls *property_calls; /* NULL: properties are kept here alone */
	struct remote *_Atomic remote;  /* who reads what others have; NULL: nobody */
	enum flush_acks flush_acks;
	int64_t replica_lag_ms;         /* replica.lag.time.max.ms */
	struct throttle throttle[THROTTLE_SIDES];
	pthread_mutex_t defaults_lock;  /* a leaf: only for taking a reference to them, and for putting others in their place */
	struct defaults *defaults;
	pthread_mutex_t configure_lock; /* one changes them at a time; held over writing their files */
	char *label;
	bool read_only;                 /* retention and removals rest */
	struct wr known_dirs;           /* paths of log directories that were ever used with these, a line each */
	int32_t id;
	char cluster_id[64];            /* never changes once has_cluster */
	_Atomic bool has_cluster;
	_Atomic bool intact;            /* of a cluster: broker_is_intact */
	struct log_dir *dir;
	int dir_count;
	struct segment_cache *cache;
	struct pool *pool;
	struct agent *agent;
	struct producer_ids *producer_ids;
	struct cleaner *cleaner;
	_Atomic bool stopping;

	pthread_rwlock_t told_lock;     /* who is told of deletions (topics.h); held while it is */
	void (*tell_deleted)(void *arg, const char *name);
	void *told;

	pthread_mutex_t listen_lock;    /* above topics_lock: whoever listens looks at what there is */
	struct replicas_listener *listeners; /* listen_lock */

	pthread_rwlock_t topics_lock;
	struct topic *topics;           /* uthash by name; topics_lock */
	struct topic *topics_by_id;     /* the same ones */
	_Atomic size_t generation;
	_Atomic int next_serial;
	pthread_mutex_t create_lock;    /* creating, deleting, adding partitions: one at a time */
};

struct clean_limits { bool compact; double dirty_ratio; int64_t min_lag_ms, max_lag_ms, delete_retention_ms; };

struct limits { /* a topic's properties as the hot path wants them; swapped as a whole, see topic_limits */
	struct log_limits log;
	struct retention retention;     /* ms -1 and bytes -1 where retention is held back */
	struct clean_limits clean;
	int64_t flush_messages, flush_ms;
	int64_t file_delete_delay_ms;
	enum acks acks;
	struct batch_style style;
	struct ingest_rule ingest;
};

struct topic {
	struct broker *broker;
	char *name;
	char id[TOPIC_ID_CHARS + 1];
	uint8_t id_bytes[16];
	int serial;
	bool id_found;                  /* its id was lost in a partition.metadata, and found elsewhere */
	bool internal;
	_Atomic bool adopted;           /* Kafka made it: nothing is deleted until retention is configured here */
	_Atomic bool lost;              /* its properties were lost: nothing is deleted but by a retention that is set for the topic itself */
	_Atomic bool deleted;
	_Atomic bool stray;             /* of a cluster that knows of no such topic: it is only looked after, and nobody finds it */
	_Atomic bool compact;           /* cleanup.policy has compact: its logs are to have no positions */
	_Atomic bool compacted;         /* or had once */
	int64_t created_ms;
	_Atomic uint32_t refs;
	_Atomic uint32_t generation;    /* of its properties */
	_Atomic int32_t min_insync;     /* min.insync.replicas */
	_Atomic unsigned throttles;     /* by side, as a bit: some of its replicas are throttled */
	UT_hash_handle hh, by_id;

	pthread_mutex_t conf_lock;      /* defaults, conf, limits, owner, partitions' growth */
	struct defaults *defaults;      /* a reference */
	struct conf *conf;              /* NULL: that of defaults */
	bool damaged;                   /* topic.properties is damaged or missing, and not replaced yet */
	_Atomic bool clustered;         /* topic_has_cluster_properties */
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

enum role { ROLE_NONE, ROLE_LEADER, ROLE_FOLLOWER };

struct partition {
	struct topic *topic;
	int32_t index;
	struct log_dir *_Atomic dir;    /* NULL: it is in none of ours. Set once, under create_lock, or while the broker is opened */
	_Atomic bool gone;              /* of a cluster: the replica that was here is deleted; the topic has another partition in its place */
	struct partition *before;       /* create_lock: of the one in the topic's list, those that are gone */

	pthread_mutex_t open_lock;      /* opening and closing the log */
	struct log *log;                /* NULL: not open. Set under open_lock and log_lock */
	struct known known;             /* open_lock */
	struct consent *consent;        /* open_lock: to losses, by which its log was recovered; until that is on disk. NULL: usually */
	bool consent_noted;             /* open_lock: the checkpoint being written knows the log as it was accepted */
	_Atomic uint32_t users;         /* uses, and LOG_OPEN while a further one needs no open_lock; that bit changes under open_lock */
	_Atomic int64_t idle_since_ms;  /* when a use ended last */
	char *_Atomic why_offline;      /* open_lock; not NULL, from then on: it is offline */
	bool needs_markers;             /* open_lock, then log_lock: open transactions that nobody will end */

	pthread_mutex_t log_lock;       /* the appender's right: append, truncate, log start, role */
	_Atomic int role;               /* enum role; this and the next three are written under log_lock and isr_lock: see transition in partition_role.c */
	_Atomic int32_t leader;         /* a broker's id; -1: none that is known */
	_Atomic int32_t leader_epoch;   /* -1: none known */
	_Atomic bool shared;            /* there are other replicas */
	bool sealed;                    /* log_lock: nothing is appended in this leader epoch */
	_Atomic int64_t high_watermark; /* log_lock; before anything else is known of it: as a checkpoint has it */

	pthread_mutex_t isr_lock;       /* held for moments, by who appends only where it is shared */
	struct isr isr;                 /* isr_lock */
	struct partition_metadata *told; /* isr_lock: of a cluster, what the controller says; NULL: nothing */
	int32_t partition_epoch, controller_epoch; /* isr_lock; -1: none known */
	int32_t led_since;              /* isr_lock: the epoch in which this leadership began */
	struct waiter *wait_first, *wait_last; /* isr_lock: for the high watermark, by offset */
	_Atomic int64_t retention_due_ms; /* not to be looked at before */
	int64_t noted_recovery;         /* log_lock: the recovery point that a checkpoint has, or will have in a moment */
	int64_t recorded_offset, recorded_position; /* dir.checkpoint_lock: the log start that is on disk; (0, 0) where there is no row */

	pthread_mutex_t queue_lock;
	struct append *append_head, **append_tail; /* queue_lock */
	bool appending;                 /* queue_lock: a thread is taking from the queue */
	struct append *unsynced;        /* queue_lock: in the log, waiting for the disk, */
	struct append *syncing;         /* queue_lock: and for the fsync that is under way */
	struct flush *flushes;          /* queue_lock */
	bool flushing, want_flush;      /* queue_lock */
	bool want_advance, want_disk;   /* queue_lock: the appender is to see to the high watermark; that waits for the disk */
	struct pool_job flush_job;
	_Atomic int64_t dirty_since_ms; /* when the oldest record that may not be on disk was appended; 0: none */

	_Atomic uint32_t visible_seq;   /* odd while those below change; writers hold log_lock (or open_lock before it is open) */
	_Atomic int64_t start_offset, start_position, end_offset, end_position, mtime_ms, bytes;
	_Atomic bool sequential;        /* of the five: positions count for nothing */
	_Atomic int64_t high_offset, stable_offset, log_end_offset; /* as of then: high watermark, last stable offset up to that, LEO */
	_Atomic bool visible_known;
	_Atomic bool settled;           /* of a cluster: since the start it was known once how far it is committed, or that was waited for long enough */
	_Atomic int64_t settle_by_ns;   /* until when that is waited for, of mono_now; 0: nobody has */
	_Atomic uint32_t cuts;          /* how often what was visible was taken back */
	struct remote_view *_Atomic elsewhere; /* what other brokers have said of it (cluster/remote); NULL: nothing was asked. Set once */

	struct delayed_list delayed;    /* who waits for something to happen here */
	int64_t grown_before;           /* log_lock: bytes appended to logs that were open before this one */
	_Atomic int64_t grown;          /* bytes appended and published since the broker was opened */
	_Atomic int64_t woken_high, woken_stable; /* the ends that those who wait were told of last */

	_Atomic int64_t clean_offset;   /* compacted up to here; -1: never */
	struct { /* the cleaner's lock */
		bool busy, hopeless;    /* it is being compacted; it cannot be */
		int64_t looked_offset, look_again_ms, not_before_ms; /* what it was when it was last looked at, and when that is to be done again though nothing came */
		uint32_t generation;    /* of the topic's properties then */
	} clean;
};

/* In partition.users. */
#define LOG_OPEN (UINT32_C(1) << 31)

/* ---- partition ---- */
/* What is left of it belongs to nobody: everything about it is ERR_DELETED. */
static inline bool partition_is_gone(const struct partition *p) { return p->topic->deleted || p->gone; }
struct partition *partition_new(struct topic *t, int32_t index, struct log_dir *dir);
void partition_free(struct partition *p); /* its log is closed */
void partition_append_init(struct partition *p);
/* The high watermark goes as far as it may, the view follows, and both are published. appended_ms: as below. true: the high watermark waits for the disk. An error is that of
 * reading the log. locks: log_lock. */
bool partition_advance(struct partition *p, int64_t appended_ms, struct err *e);
/* Has the appender do that, and answer who waits, here or where one is at work. p acquired. */
void partition_kick(struct partition *p);
/* In open_log of a broker by itself: it leads, alone. locks: log_lock. */
void partition_lead_alone(struct partition *p, int32_t leader_epoch);
void partition_role_init(struct partition *p);
void partition_role_release(struct partition *p);
/* Publishes what its log makes visible. appended_ms: 0 where nothing was appended. locks: log_lock. */
void partition_publish_log(struct partition *p, int64_t appended_ms);
/* The log starts there, as is durable by now. locks: log_lock. */
void partition_publish_start(struct partition *p, int64_t offset, int64_t position);
char *partition_path(const struct partition *p); /* to be freed; NULL: no memory */
/* Closes the log if nobody uses it. locks: none held. Returns whether it is closed now. */
bool partition_close_idle(struct partition *p, int64_t idle_before_ms, struct err *e);
/* At the end: no use is left. */
int partition_close(struct partition *p, struct err *e);
/* As partition_visible, of what is here. */
int partition_visible_here(struct partition *p, struct visible *v, struct err *e);
/* The same, but that the positions count for nothing. */
int partition_offsets(struct partition *p, struct visible *v, struct err *e);
/* Its log has positions, or none, as the topic's policy wants it, if it is open; else it will when it is. */
void partition_follow_policy(struct partition *p);
/* Whether nothing of it can be dirty, as far as is known without opening it. */
bool partition_is_clean(struct partition *p);
void partition_take_offline(struct partition *p, const char *why);
/* Tells those who wait of what was published. locks: none held. */
void partition_wake(struct partition *p);
/* As they were published at one moment. */
struct partition_ends;
void partition_take_ends(struct partition *p, struct partition_ends *ends);
void partition_take_visible(struct partition *p, struct visible *v);
/* Whether consumers may have been told of more before this broker led. */
enum isolation;
bool partition_is_behind(struct partition *p, const struct partition_ends *ends, enum isolation isolation);
/* Fails everything that waits there: the topic was deleted, or its directory went offline. */
void partition_fail_waiting(struct partition *p, int code, const char *why);
/* ---- waiting for replicas: partition_wait.c ---- */
/* Whether the committed ISR is as large as acks=all asks for. locks: isr_lock. */
bool partition_has_enough(const struct partition *p);
/* Calls w->ready with 0 once the high watermark has reached w->offset, or with an error; maybe at once. w is of what was appended in the leader epoch `epoch`. locks: none held. */
void partition_await(struct partition *p, struct waiter *w, int32_t epoch);
bool partition_wait_no_longer(struct partition *p, struct waiter *w); /* true: it waited, and its ready was called with ERR_TIMED_OUT */
/* Those whose offset is reached. locks: none held. */
void partition_answer(struct partition *p);
/* All that wait, to be failed once no lock is held. locks: isr_lock. */
struct waiter *partition_take_waiters(struct partition *p);
void partition_fail_waiters(struct partition *p, struct waiter *w, int code, const char *why);
/* What the state checkpoint says of it; false: nothing to be relied on, but for recovery point and log start as they were last known. */
bool partition_row(struct partition *p, struct partition_row *row);
/* Checkpoints with its row are on disk: a consent to losses is spent. */
int partition_spend_consent(struct partition *p, struct err *e);
void partition_publish_known(struct partition *p, const struct partition_row *row);
/* The log starts at offset, at most the visible end: partition_delete_before, whoever leads. p acquired. */
int partition_move_start(struct partition *p, int64_t offset, struct err *e);
int partition_apply_retention(struct partition *p, int64_t now_ms, struct err *e);
bool partition_has_open_log(struct partition *p);
int partition_remove_deleted(struct partition *p, struct err *e);
void partition_flush_soon(struct partition *p);
void partition_expire_producers(struct partition *p, int64_t now_ms, int64_t expiration_ms);
bool partition_is_dirty_since(struct partition *p, int64_t before_ms);

/* ---- topics ---- */
struct limits topic_limits(struct topic *t);
unsigned topic_throttles(const struct conf *c); /* throttle.c: for topic.throttles */
/* Durable: its logs may have gaps from now on. */
int topic_note_compacted(struct topic *t, struct err *e);
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
void topic_id_changed(struct topic *t); /* t->id was found out after the topic had come into the table */
void topics_free_all(struct broker *b);
/* For cluster/replicas.c. locks: create_lock, but for the first. */
struct topic *topic_new(struct broker *b, const char *name, const char *id); /* NULL: no memory */
void topics_put(struct broker *b, struct topic *t);                          /* into the table */
/* The list goes up to `index`: what was not in it is in none of our directories. */
int topic_list_partition(struct topic *t, int32_t index, struct err *e);
/* Makes the directory of partition `index`, and those of the list that are before it, in none of our directories. */
int topic_make_partition(struct topic *t, int32_t index, struct err *e);
/* Takes partition `index` out of the topic: its directory is renamed (durably by topics_sync_dirs), another that is in none of ours takes its place. */
enum rename_to { RENAME_DELETED, RENAME_STRAY }; /* to be removed by the agent; to be left alone by all */
int topic_remove_partition(struct topic *t, int32_t index, enum rename_to to, struct err *e);
void topic_set_stray(struct topic *t, bool stray);
void topics_retire(struct broker *b, struct topic *t, enum rename_to to);    /* t->deleted is set: it goes from the table, with its directories */
void topics_told(struct broker *b, struct topic *t);                         /* after that, with no lock: others hear of it, and the table's reference goes */
int topics_sync_dirs(struct broker *b, struct err *e);

/* Takes what is the broker's now for its own properties' parents. */
void topic_follow_defaults(struct topic *t);
/* A reference to those, and a copy of its own properties; NULL: no memory. */
struct defaults *topic_conf_copy(struct topic *t, struct conf **copy);
/* For a topic that is on its way into the table. locks: create_lock. */
int topic_check_properties(struct broker *b, const struct conf_change *v, size_t n, struct err *e);

/* ---- broker_conf ---- */
int broker_conf_open(struct broker *b, struct err *e); /* once its first directory is locked: reads what was set at run time */
struct defaults *defaults_new(struct broker *b, const struct conf *fallback, const struct conf *own); /* copies; NULL: no memory, or nothing to copy */
struct defaults *broker_defaults(struct broker *b);    /* a reference */
void defaults_unref(struct defaults *d);               /* NULL is fine */
/* ---- log directories ---- */
/* Those of -d and log.dirs; a new one is made. */
int log_dirs_add(struct broker *b, const char *data, struct err *e);
/* Its lock, and what its files say of it. */
int log_dir_take(struct broker *b, struct log_dir *d, const struct broker_options *o, struct err *e);
/* Each is known to the others from now on. */
int log_dirs_record(struct broker *b, struct err *e);

/* ---- broker; its checkpoints are in broker_checkpoint.c ---- */
void broker_dir_failed(struct broker *b, struct log_dir *d, const char *why);
/* What was done to a partition's files failed with rc and e. Its directory is out of service if that was ERR_IO, unless they only went with the topic. Returns rc, or
 * ERR_DELETED. */
int partition_failed(struct partition *p, int rc, struct err *e);
/* Writes the checkpoint files of a directory. clean: and the marker of a clean stop. */
int broker_checkpoint(struct broker *b, struct log_dir *d, bool clean, struct err *e);
/* Writes replication-offset-checkpoint alone, where it says something else by now. */
int broker_write_high_watermarks(struct broker *b, struct log_dir *d, struct err *e);
/* Writes view-start-checkpoint. Durable when it returns. locks: checkpoint_lock. */
int broker_write_starts(struct broker *b, struct log_dir *d, struct err *e);
/* Writes view-start-checkpoint with `p` starting at (offset, position). Durable when it returns. */
int broker_record_start(struct broker *b, struct partition *p, int64_t offset, int64_t position, struct err *e);
/* The same, also where that is further back: the log begins anew. */
int broker_record_restart(struct broker *b, struct partition *p, int64_t offset, int64_t position, struct err *e);

/* Writes cleaner-offset-checkpoint. */
int broker_write_clean_offsets(struct broker *b, struct log_dir *d, struct err *e);

/* ---- broker_cluster ---- */
/* Whether the broker is intact, from what the last stop has left; durable, before that goes. */
int broker_look_intact(struct broker *b, struct err *e);
void broker_spoil_intact(struct broker *b); /* a log directory has failed */

/* ---- cleaner ---- */
struct cleaner *cleaner_start(struct broker *b, struct err *e); /* the agent runs */
void cleaner_stop(struct cleaner *c);                           /* NULL is fine; no step begins any more */
void cleaner_free(struct cleaner *c);                           /* after the pool has run out; what is unfinished is given up */

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
