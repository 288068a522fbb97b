/*
 * group: the structs of the coordinator and what its files share. Included by cluster/group/ alone.
 *
 * Who owns what: the coordinator owns a shard for each partition of __consumer_offsets; a shard's table holds one reference of each group, and one of the partition's
 * journal; a group owns its members and offsets. What is being written holds a reference of its group and of the journal.
 *
 * States and transitions (group_set_state checks them; Kafka's ClassicGroupState):
 *
 *    from \ to             Preparing  Completing  Stable  Empty  Dead
 *    Empty                 yes        -           -       -      yes     no members; its offsets may be there
 *    PreparingRebalance    -          yes         -       yes    yes     members are asked to join again; JoinGroup is parked
 *    CompletingRebalance   yes        -           yes     -      yes     a generation is agreed on; SyncGroup is parked until the leader's assignment is in the log
 *    Stable                yes        -           -       -      yes     every member can have its assignment
 *    Dead                  -          -           -       -      yes     no longer in the table
 *
 * Lock order: coordinator.topic_lock, group.lock, shard.lock, journal.lock, coordinator.lock, then those of the partition and of the timer heap. Whoever holds a group's
 * lock takes no other group's. Answers are gathered while it is held (replies), and given when it is not; appends are queued in the journal while it is held, so that their
 * order is the order of decisions, and handed to the partition when it is not.
 */
#ifndef CLUSTER_GROUP_GROUP_H
#define CLUSTER_GROUP_GROUP_H

#include <pthread.h>
#include <stdatomic.h>
#define HASH_NONFATAL_OOM 1 /* an element that could not be added has no hh.tbl; included before anything else that includes it */
#include <uthash.h>

#include "cluster/group/coordinator.h"
#include "cluster/group/mirror.h"
#include "cluster/partition.h"
#include "store/batch.h"
#include "store/pool.h"
#include "store/timer.h"

struct group;
struct turn;

/* ---- blob: shared bytes that do not change ---- */

struct blob {
	_Atomic uint32_t refs;
	int32_t n;
	uint8_t data[];
};
struct blob *blob_new(struct gstr s); /* of null: an empty one. NULL: no memory */
struct blob *blob_ref(struct blob *b); /* NULL is fine */
void blob_unref(struct blob *b);       /* NULL is fine */
static inline struct gstr blob_str(const struct blob *b) { return b ? (struct gstr){b->data, b->n} : (struct gstr){NULL, 0}; }
static inline bool gstr_same(struct gstr a, struct gstr b) { return a.n == b.n && !a.p == !b.p && (!a.n || !memcmp(a.p, b.p, (size_t)a.n)); }
static inline bool blob_is(const struct blob *b, struct gstr s) { return gstr_same(blob_str(b), s); }

/* As Java sees a string: its hash and its length in UTF-16 units. */
int32_t java_hash(struct gstr s);
int32_t java_length(struct gstr s);

/* ---- replies ---- */

struct reply { /* an answer that is to be given, or a request that waits for it; made when the request comes, so that answering needs no memory */
	struct reply *next;
	void (*send)(struct reply *r);
	void *arg;
	union {
		struct { group_join_done done; struct group_join_answer answer; } join;
		struct { group_sync_done done; struct group_sync_answer answer; } sync;
		struct { group_error_done done; int16_t error; } error;
	};
	struct blob *held[4];               /* what the answer points to */
	struct blob **held_members;         /* three for each of join.answer.members */
};
struct reply *reply_new_join(group_join_done done, void *arg);
struct reply *reply_new_sync(group_sync_done done, void *arg);
struct reply *reply_new_error(group_error_done done, void *arg);
void reply_free(struct reply *r);

/* ---- group ---- */

enum group_state { GROUP_EMPTY, GROUP_PREPARING, GROUP_COMPLETING, GROUP_STABLE, GROUP_DEAD };
enum { NEVER = 0 }; /* of a deadline: there is none */

struct protocol { struct blob *name, *metadata; };

struct member {
	UT_hash_handle hh, by_instance;
	uint32_t refs;               /* the group's, and who goes through a list of them; group.lock */
	bool in_group;
	struct blob *id, *instance_id, *client_id, *client_host;
	int32_t session_timeout_ms, rebalance_timeout_ms;
	struct protocol *protocols;  /* in order of preference */
	size_t protocol_count;
	struct blob *assignment;     /* NULL: none */
	struct blob *next_assignment; /* what the leader gave, while it is being written */
	struct reply *join, *sync;   /* parked */
	int64_t session_due_ns;      /* NEVER while it need not be heard of */
	bool is_new;                 /* has not had the answer to its first JoinGroup: expires though it is parked */
	bool pending_sync;
};

struct pending_member { UT_hash_handle hh; struct blob *id; int64_t due_ns; }; /* was given an id, and is to come back with it */

struct supported { UT_hash_handle hh; struct blob *name; uint32_t count, votes; }; /* a protocol, and how many members have it; votes while it is selected */

struct topic_name { UT_hash_handle hh; struct blob *name; };

struct offset_entry {
	UT_hash_handle hh;
	int32_t partition, leader_epoch;
	int64_t offset, commit_ms, expire_ms; /* expire_ms -1: as configured */
	int64_t log_offset;          /* of the record that says so: the newest counts, in whatever order appends are answered */
	struct blob *metadata;
	uint8_t topic_id[16];        /* zeros: not known */
	int64_t mirrored;            /* one more than the offset that was written to ZooKeeper; 0: none was */
	bool removed;                /* a tombstone, kept while older commits may still be answered */
};
struct offset_topic { UT_hash_handle hh; struct blob *name; struct offset_entry *entries; };

struct foreign_key { UT_hash_handle hh; struct blob *key; }; /* a record of a group of Kafka's newer protocol (KIP-848) */

struct group {
	UT_hash_handle hh;           /* shard.lock, as are the next two */
	bool in_table;
	struct group *next_unloaded;
	_Atomic uint32_t refs;
	struct coordinator *coordinator;
	struct shard *shard;
	struct journal *journal;
	struct blob *id;
	struct timer timer;          /* one for all deadlines of the group */
	struct pool_job timer_job;
	_Atomic bool timer_queued;

	pthread_mutex_t lock;        /* all below */
	enum group_state state, previous;
	bool removed;                /* from the table: who found it looks again */
	bool deleting;               /* its tombstones are being written: nothing changes until they are */
	bool unborn;                 /* nothing of it was ever in the log */
	bool in_log;                 /* while it is loaded: a record says that there is such a group */
	int64_t state_ms;            /* wall clock; -1: not known */
	int32_t generation;
	struct blob *protocol_type, *protocol; /* NULL: none */
	struct member *leader;

	struct member *members, *statics; /* uthash by id; by instance id */
	uint32_t member_count, joining, pending_syncs; /* joining: JoinGroup is parked */
	struct pending_member *pending;
	uint32_t pending_count;
	struct supported *supported;
	struct topic_name *subscribed;
	bool subscribed_known;

	bool new_member_added;       /* during the initial rebalance: it may wait longer */
	bool initial;                /* what join_due_ns is for */
	int32_t initial_delay_ms, initial_remaining_ms;
	int64_t join_due_ns, sync_due_ns;
	int64_t timer_due_ns;        /* what the timer is armed for; NEVER: it is not */

	struct offset_topic *topics;
	uint32_t offset_count, removed_count;
	struct foreign_key *foreign;

	struct write *writes;        /* being written, oldest first */
	uint64_t next_write;         /* counts them */
	uint64_t assignment_write;   /* the newest that carries an assignment */
	struct parked_fetch *fetches; /* wait for writes */
	struct reply *delete_reply;  /* DeleteGroups, while `deleting` */

	bool live;                   /* it is answered for: what happens to it is mirrored, and not what a load does */
	bool ended;                  /* it is no longer; else, if it is removed, another broker may coordinate it */
	bool members_changed;        /* since they were mirrored */
	struct mirrored *mirrored;   /* NULL: nothing is */
	struct group *next_dirty;    /* mirror.lock, as is the next */
	bool on_mirror_list;
};

/* thread: any; the caller need not hold the lock for a reference. */
struct group *group_new(struct shard *s, struct gstr id);
void group_ref(struct group *g);
void group_unref(struct group *g); /* locks: group.lock not held. NULL is fine */

/* locks, from here on: group.lock, where a struct group or turn is given. */
const char *group_state_name(enum group_state s);
void group_set_state(struct group *g, enum group_state s);
bool group_can_rebalance(const struct group *g);
bool group_is_consumer(const struct group *g); /* of the protocol type "consumer" */
int group_set_protocol_type(struct group *g, struct gstr type);

struct member *member_new(struct gstr id, struct gstr instance_id, struct gstr client_id, struct gstr client_host);
void member_ref(struct member *m);
void member_unref(struct member *m); /* nothing of it is parked */
struct protocol *protocols_new(const struct group_protocol *from, size_t count); /* NULL: no memory */
struct protocol *protocols_share(const struct protocol *from, size_t count);
void protocols_free(struct protocol *p, size_t count);
bool member_has_protocols(const struct member *m, const struct group_protocol *p, size_t count);
struct blob *member_metadata(const struct member *m, const struct blob *protocol); /* borrowed; NULL: it does not have it */
bool member_is_heard(const struct member *m); /* what is parked stands for heartbeats */

struct member *group_find_member(struct group *g, struct gstr id);
struct member *group_static_member(struct group *g, struct gstr instance_id);
int group_add_member(struct group *g, struct member *m); /* takes the reference. ERR_NO_MEMORY: nothing has changed */
void group_remove_member(struct group *g, struct member *m);
/* In the place of an older one with the same instance id. */
int group_swap_member(struct group *g, struct member *old, struct member *new);
/* Takes the protocols, also on failure. */
int group_set_protocols(struct group *g, struct member *m, struct protocol *p, size_t count);
struct pending_member *group_pending_member(struct group *g, struct gstr id);
struct pending_member *group_add_pending(struct group *g, struct gstr id);
void group_remove_pending(struct group *g, struct pending_member *p);
bool group_all_joined(const struct group *g);
int32_t group_rebalance_timeout_ms(const struct group *g);
bool group_supports(struct group *g, struct gstr protocol_type, const struct group_protocol *p, size_t count);
struct blob *group_select_protocol(struct group *g); /* borrowed; NULL: no members */
void group_learn_subscriptions(struct group *g);
bool group_is_subscribed(struct group *g, struct gstr topic);
void group_clear_pending_syncs(struct group *g);

struct offset_topic *group_topic(struct group *g, struct gstr name, bool make);
struct offset_entry *topic_offset(struct offset_topic *t, int32_t partition);
/* Takes from's metadata, also where a newer record is known already. */
int group_put_offset(struct group *g, struct gstr topic, const struct offset_entry *from);
void group_remove_offset(struct group *g, struct gstr topic, int32_t partition, int64_t log_offset, bool keep_mark);
void group_drop_marks(struct group *g);
void group_forget_foreign(struct group *g);
bool group_is_idle(const struct group *g); /* no member, offset, or write: nothing that must be kept */

/* ---- turn: one thing that happens to a group, from taking its lock to giving the answers ---- */

struct turn {
	struct coordinator *c;
	struct group *g;             /* locked and referenced; NULL: there is none */
	struct reply *replies, **tail;
	mono_t now;
};

enum { TURN_CREATE = 1, TURN_READ = 2 }; /* make the group where it is not there; may run while it is being deleted */
void turn_init(struct turn *t, struct coordinator *c); /* turn_end is to be called, whatever comes */
/* Finds the group and locks it; on an error t->g is NULL. */
int16_t turn_begin(struct turn *t, struct gstr group_id, int flags);
void turn_begin_on(struct turn *t, struct group *g); /* inits it; takes a reference */
/* Lets go of the group, hands to the partition what was queued for it, gives the answers. */
void turn_end(struct turn *t);
void turn_reply(struct turn *t, struct reply *r);

void reply_join_error(struct turn *t, struct reply *r, int16_t error, struct gstr member_id);
/* leader: as it is told to this member, NULL: the group's. */
void reply_join(struct turn *t, struct reply *r, struct member *m, struct blob *leader, bool with_members, bool skip_assignment);
void reply_sync_error(struct turn *t, struct reply *r, int16_t error);
void reply_sync(struct turn *t, struct reply *r, struct member *m);
void reply_error(struct turn *t, struct reply *r, int16_t error);

/* ---- journal: the writing side of a partition of __consumer_offsets ---- */

struct journal;
struct journal *journal_new(struct coordinator *c, struct partition *p); /* takes p's reference; acquired when it is first written to */
void journal_ref(struct journal *j);
void journal_unref(struct journal *j);
void journal_close(struct journal *j);       /* what has not gone to the partition by now will not: ERR_NOT_LEADER */
void journal_wait_closed(struct journal *j); /* until what had begun to go there has; the partition's end is known then. locks: none */
/* What is in the log and waits for the disk or for other replicas is answered (ERR_TIMED_OUT): a stop waits for nobody. What only gets there later waits again. locks: none */
void journal_give_up(struct journal *j);

struct change { struct blob *topic; struct offset_entry entry; uint32_t record; }; /* of an offset: record counts within the write */

struct write { /* one append, from the decision to its outcome */
	struct append append;        /* first */
	struct record_set set;
	struct write *next_queued;   /* journal's */
	struct write *prev_flying, *next_flying; /* journal's: with the partition */
	_Atomic uint32_t refs;       /* of the memory: the list's of its group, and who gives it up */
	struct write *prev, *next;   /* group.writes, as utlist wants it */
	struct group *group;         /* referenced */
	struct journal *journal;     /* referenced */
	uint64_t number;
	/* What comes of it; error 0: the records are in the log from base_offset on. locks: group.lock. */
	void (*apply)(struct turn *t, struct write *w, int16_t error, int64_t base_offset);
	struct reply *reply;         /* NULL, or for apply to give */
	struct parked_fetch *fetch;  /* likewise */
	struct group_commit_request *commit; /* borrowed until it is answered; NULL: it is none, or was answered */
	int64_t commit_due_ns;       /* when it is answered though it is not done; NEVER: then only */
	struct change *changes;      /* owned, and their blobs */
	size_t change_count;
	int32_t generation;
	struct member *member, *old; /* a static member, and the one whose place it took: referenced */
	int32_t session_timeout_ms, rebalance_timeout_ms; /* of the old one */
	struct blob *leader;         /* at that time */
	bool skip_assignment;
	bool ends_newer;             /* what there was of Kafka's newer protocol has its tombstones in it */
};

struct records; /* group_records.h */
/* Queues the records for the partition; takes nothing but w. On error apply is called at once. */
struct write *write_new(void (*apply)(struct turn *t, struct write *w, int16_t error, int64_t base_offset));
void write_start(struct turn *t, struct write *w, struct records *r);
void write_free(struct write *w);
void journal_pump(struct journal *j); /* locks: none */
bool journal_is_certain(const struct journal *j); /* no other broker can coordinate these groups just now: partition_leads_surely */

/* ---- shard and coordinator ---- */

enum shard_role { SHARD_NOT_OURS, SHARD_LOADING, SHARD_ACTIVE, SHARD_FAILED };

struct shard {
	struct coordinator *coordinator;
	int32_t index;
	pthread_mutex_t lock;
	enum shard_role role;        /* shard.lock, as are all below */
	struct group *groups;        /* uthash by id */
	struct journal *journal;     /* NULL: not loaded */
	struct journal *closed;      /* the one before, until it has been waited for */
	int32_t epoch;               /* of the leadership that it was loaded for last, or that ended that */
	uint32_t loads;              /* counts them: an older one that ends late is not used */
	int64_t failed_ns;           /* when loading failed */
};

/* Never changed but by being replaced by a longer one; it stays until the end, as readers take no lock. */
struct shard_table { struct shard_table *older; int32_t count; struct shard *shard[]; };

struct coordinator {
	struct broker *broker;
	struct pool *pool;           /* NULL: tests, work is done where it comes up */
	struct timer_heap *timers;
	mono_t (*now)(void *arg);
	void *arg;

	int32_t min_session_ms, max_session_ms, initial_delay_ms, max_size, metadata_max;
	int32_t commit_timeout_ms;
	int64_t retention_ms, check_interval_ms;
	int32_t default_partitions;
	enum codec codec;            /* of what is written */

	pthread_mutex_t topic_lock;  /* making the topic, or forgetting it: with all that comes of it, one at a time */
	pthread_mutex_t lock;        /* making shards, and the next two */
	pthread_cond_t quiet;
	uint32_t busy, loading;      /* jobs and writes on the way; of those, loads */
	struct shard_table *_Atomic shards; /* NULL: none yet */
	_Atomic int32_t partitions;  /* of the topic, by which ids are divided; 0: not known yet */
	bool in_cluster;
	_Atomic bool started, stopping;
	_Atomic bool gone;           /* the topic was deleted: it is made anew when it is needed */
	struct mirror *_Atomic mirror; /* NULL: none */
	struct timer expire_timer;
	struct pool_job expire_job;
};

void coordinator_busy(struct coordinator *c, int by); /* +1, -1. locks: none but a group's */
void coordinator_count(struct coordinator *c, int busy, int loading);
struct shard *coordinator_shard(struct coordinator *c, int32_t partition); /* NULL: there is none */
int32_t coordinator_shards(struct coordinator *c); /* one more than the greatest that there may be */
/* The group is in the table no more. The caller has a reference. locks: group.lock. */
void shard_remove(struct group *g);
bool shard_table_add(struct group **table, struct group *g); /* locks: shard.lock, or it is nobody else's yet. false: no memory */
/* Calls fn for each group, in its turn. */
void shard_each(struct shard *s, void (*fn)(struct turn *t, void *arg), void *arg);
void shard_retry(struct shard *s); /* loading failed a while ago: once more. locks: none */
enum { SHARD_WHATEVER_EPOCH = -1 };
void shard_load(struct shard *s, int32_t epoch);
void shard_unload(struct shard *s, int32_t epoch);
bool shard_is_certain(struct shard *s); /* journal_is_certain; NULL, or one that is not loaded, is */
void shard_give_up_writes(struct shard *s); /* of one that is unloaded: journal_give_up */
void shard_release(struct shard *s);        /* nothing of it is under way */
int shard_read(struct shard *s, struct partition *p, struct journal *j, struct group **table, struct err *e); /* group_load.c */

/* ---- what happens ---- */

void group_arm(struct turn *t, int64_t due_ns); /* the timer fires then, or before */
int64_t due_in(const struct turn *t, int64_t ms);
void group_hear(struct turn *t, struct member *m); /* its session begins anew */
void group_prepare_rebalance(struct turn *t);
void group_rebalance(struct turn *t);           /* where the state allows it; else completes the joining, if that can be */
void group_maybe_complete_join(struct turn *t);
void group_write_metadata(struct turn *t, struct write *w, bool next); /* w NULL: no memory for it */
void group_park_join(struct turn *t, struct member *m, struct reply *r);
struct reply *group_take_join(struct turn *t, struct member *m); /* NULL: nothing is parked */
void group_fail_join(struct turn *t, struct member *m, int16_t error, struct gstr member_id); /* if it is parked */
void group_fail_sync(struct turn *t, struct member *m, int16_t error);
void group_timer_fired(struct timer *timer, void *arg);
int16_t group_check_member(struct group *g, struct gstr member_id, struct gstr instance_id);
void group_answer_fetches(struct turn *t, int16_t error); /* those that need not wait any longer; with an error all */
void group_drop_unborn(struct turn *t);
void group_end_commits(struct turn *t); /* that have waited for replicas long enough: their clients ask again, they are applied when they are done */
void group_writes_done(struct turn *t); /* one has been applied: whoever waits for that */
bool write_add_removal(struct write *w, struct records *records, struct group *g, struct gstr topic, int32_t partition);
void group_expire(struct turn *t, void *arg);

#endif
