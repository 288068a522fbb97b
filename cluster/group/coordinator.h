/*
 * coordinator: Kafka's group coordinator, classic protocol: who is in a group, who leads it, what each member was assigned, and how far it has read.
 *
 * It speaks C structs and knows neither sockets nor versions. A group belongs to the partition of __consumer_offsets that its id hashes to; all that must outlive a
 * restart is in the records of that partition (records.h), in Kafka's format. A partition is loaded before its groups are answered for, and may be unloaded
 * (another broker leads it): what is parked then gets NOT_COORDINATOR.
 *
 * A request is answered exactly once, through its callback: at once, when what it changes is in the log (acks=all), or, for joining and syncing, when the group has
 * got that far. The callback may run before the call returns, on the caller's thread, or later on another; no lock is held, and it must not block.
 * The request and all it points to is borrowed until then; what the answer points to is borrowed for the callback alone. Error codes are Kafka's (wire/errors.h).
 *
 * Strings come with a length and need no NUL; p NULL is null.
 *
 * thread: any. locks: see README.md.
 */
#ifndef CLUSTER_GROUP_COORDINATOR_H
#define CLUSTER_GROUP_COORDINATOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cluster/wire/errors.h"
#include "store/clock.h"
#include "store/conf.h"
#include "store/err.h"

#define OFFSETS_TOPIC "__consumer_offsets"

struct broker;
struct coordinator;
struct queue;
struct timer_heap;
struct zk;

extern const struct conf_property group_properties[];

struct gstr { const void *p; int32_t n; }; /* string or bytes; p NULL: null */
#define GSTR(literal) ((struct gstr){(literal), sizeof(literal) - 1})

/* ---- life ---- */

/* Of a broker by itself it answers for all groups. In a cluster it makes no topic itself, and answers for the partitions that coordinator_load names. */
struct coordinator_options {
	struct broker *broker;      /* borrowed for the coordinator's life; its conf has group_properties in its schema */
	/* For tests: their own heap, whose timers do their work on the thread that runs it, and their own clock. NULL: the broker's, and the pool does the work. */
	struct timer_heap *timers;
	mono_t (*now)(void *arg);
	void *arg;
};

/* Nothing is loaded yet. */
int coordinator_new(struct coordinator **out, const struct coordinator_options *o, struct err *e);

/* Begins to answer; without a cluster, to load every partition of __consumer_offsets there is, in the background. */
void coordinator_start(struct coordinator *c);

/* In a cluster: groups are written to ZooKeeper from now on, unless zookeeper.consumers.mirror says no (mirror.h). z, q (its queue): borrowed until coordinator_stop has returned. ERR_NO_MEMORY. */
int coordinator_mirror(struct coordinator *c, struct zk *z, struct queue *q, struct err *e);

/* Answers all that is parked with NOT_COORDINATOR, refuses what comes (COORDINATOR_NOT_AVAILABLE), waits for what is being written. Before broker_close; with a mirror after zk_close. */
void coordinator_stop(struct coordinator *c);
void coordinator_free(struct coordinator *c); /* stopped, and every call has returned; NULL is fine */

/* ---- roles: which partitions of __consumer_offsets are answered for here ---- */

/* Makes __consumer_offsets if it is not there yet; what FindCoordinator for a group does first. Blocks on the disk; in a cluster not at all: it is made in the background, one asks again (ERR_NOT_FOUND). */
int coordinator_need_topic(struct coordinator *c, struct err *e);
int32_t coordinator_partitions(struct coordinator *c);                          /* of the topic, or what it will have */
int32_t coordinator_partition_of(struct coordinator *c, struct gstr group_id);  /* Java's hash of the id, as every Kafka client counts on */
/* In a cluster: the topic is there, with so many partitions, as the controller says. */
void coordinator_told(struct coordinator *c, int32_t partitions);

/* This broker leads the partition in that leader epoch, and answers for it: it is read in the background, COORDINATOR_LOAD_IN_PROGRESS until then. Where it does already it goes on. An epoch
 * that is over changes nothing, here and below. */
void coordinator_load(struct coordinator *c, int32_t partition, int32_t epoch);
/* No longer: parked requests get NOT_COORDINATOR, and so does what comes. Returns at once; what is being written ends in its own time. */
void coordinator_unload(struct coordinator *c, int32_t partition, int32_t epoch);
/* __consumer_offsets was deleted, and all groups with it. The next coordinator_need_topic makes it anew. */
void coordinator_forget_all(struct coordinator *c);
/* Waits until nothing is being loaded. For tests and tools. */
void coordinator_wait_loaded(struct coordinator *c);

/* ---- JoinGroup ---- */

struct group_protocol { struct gstr name, metadata; };

struct group_join_request {
	struct gstr group_id, member_id; /* member_id "": not known yet */
	struct gstr instance_id;         /* null: a dynamic member */
	struct gstr protocol_type, reason;
	struct gstr client_id, client_host;
	const struct group_protocol *protocols;
	size_t protocol_count;
	int32_t session_timeout_ms, rebalance_timeout_ms; /* version 0 has no rebalance timeout: the session's */
	bool member_id_required; /* version 4 and later: a new dynamic member comes back with the id it is given (KIP-394) */
	bool skip_assignment;    /* version 9 and later: can be told to (KIP-814) */
};
struct group_join_member { struct gstr member_id, instance_id, metadata; };
struct group_join_answer {
	int16_t error;
	int32_t generation_id;          /* -1 with an error */
	struct gstr protocol_type, protocol_name, leader, member_id; /* the first two null where there is none; leader "" */
	bool skip_assignment;
	const struct group_join_member *members; /* for the leader */
	size_t member_count;
};
typedef void (*group_join_done)(void *arg, const struct group_join_answer *a);
void group_join(struct coordinator *c, const struct group_join_request *r, group_join_done done, void *arg);

/* ---- SyncGroup ---- */

struct group_assignment { struct gstr member_id, assignment; };
struct group_sync_request {
	struct gstr group_id, member_id, instance_id;
	struct gstr protocol_type, protocol_name; /* null: not given (before version 5) */
	int32_t generation_id;
	const struct group_assignment *assignments;
	size_t assignment_count;
};
struct group_sync_answer {
	int16_t error;
	struct gstr protocol_type, protocol_name, assignment; /* assignment is never null */
};
typedef void (*group_sync_done)(void *arg, const struct group_sync_answer *a);
void group_sync(struct coordinator *c, const struct group_sync_request *r, group_sync_done done, void *arg);

/* ---- Heartbeat, LeaveGroup: answered at once ---- */

struct group_heartbeat_request { struct gstr group_id, member_id, instance_id; int32_t generation_id; };
int16_t group_heartbeat(struct coordinator *c, const struct group_heartbeat_request *r);

struct group_leaving { struct gstr member_id, instance_id, reason; int16_t error; /* the answer */ };
/* Sets the error of each; returns that of the whole (then those of the members say nothing). */
int16_t group_leave(struct coordinator *c, struct gstr group_id, struct group_leaving *members, size_t count);

/* ---- DescribeGroups, ListGroups, DeleteGroups ---- */

struct group_described_member { struct gstr member_id, instance_id, client_id, client_host, metadata, assignment; };
struct group_description {
	int16_t error;              /* GROUP_ID_NOT_FOUND: with state "Dead"; before version 6 a client is told no error then */
	const char *state;          /* "Stable", ...; "" with other errors */
	struct gstr protocol_type, protocol; /* "" where there is none, and the protocol where the group is not stable */
	const struct group_described_member *members;
	size_t member_count;
};
typedef void (*group_describe_done)(void *arg, const struct group_description *d);
/* Calls done once, before it returns. */
void group_describe(struct coordinator *c, struct gstr group_id, group_describe_done done, void *arg);

struct group_list_filter { const struct gstr *states, *types; size_t state_count, type_count; }; /* case does not matter; none: all */
struct group_listed { struct gstr group_id, protocol_type; const char *state, *type; };
/* Calls fn for each group (all borrowed for the call). The error is COORDINATOR_LOAD_IN_PROGRESS where some are not known yet. */
int16_t group_list(struct coordinator *c, const struct group_list_filter *f, void (*fn)(void *arg, const struct group_listed *g), void *arg);

typedef void (*group_error_done)(void *arg, int16_t error);
void group_delete(struct coordinator *c, struct gstr group_id, group_error_done done, void *arg);

/* ---- offsets ---- */

struct group_commit_partition {
	int32_t partition, leader_epoch; /* -1: not known */
	int64_t offset;
	struct gstr metadata;            /* null is "" */
	int16_t error;                   /* the answer */
};
struct group_commit_topic {
	struct gstr name;
	uint8_t topic_id[16];            /* version 10 and later; else zeros */
	struct group_commit_partition *partitions;
	size_t partition_count;
};
struct group_commit_request {
	struct gstr group_id, member_id, instance_id;
	int32_t generation_id;           /* -1: a consumer that is in no group, or an administrator */
	int64_t retention_ms;            /* -1: as configured (versions 2 to 4 may say otherwise) */
	struct group_commit_topic *topics; /* that they exist is the caller's to check */
	size_t topic_count;
};
/* GROUP_ID_NOT_FOUND is ILLEGAL_GENERATION to clients before version 9. */
/* Each partition's error is set before done; `error` is that of the whole, and of every partition then. */
void group_commit(struct coordinator *c, struct group_commit_request *r, group_error_done done, void *arg);

struct group_fetch_partition { int32_t partition, leader_epoch; int64_t offset; struct gstr metadata; int16_t error; };
struct group_fetch_topic {
	struct gstr name;
	uint8_t topic_id[16];            /* asked for, or zeros: offsets that were committed for another topic of that name are left out */
	struct group_fetch_partition *partitions;
	size_t partition_count;
};
struct group_fetch_request {
	struct gstr group_id;
	bool all;                        /* every offset the group has; topics is not looked at */
	bool require_stable;             /* wait for commits that are being written */
	const struct group_fetch_topic *topics; /* partition numbers are read, nothing is written */
	size_t topic_count;
};
struct group_fetch_answer { int16_t error; const struct group_fetch_topic *topics; size_t topic_count; };
typedef void (*group_fetch_done)(void *arg, const struct group_fetch_answer *a);
void group_fetch(struct coordinator *c, const struct group_fetch_request *r, group_fetch_done done, void *arg);

struct group_delete_partition { int32_t partition; int16_t error; /* the answer */ };
struct group_delete_topic { struct gstr name; struct group_delete_partition *partitions; size_t partition_count; };
void group_delete_offsets(struct coordinator *c, struct gstr group_id, struct group_delete_topic *topics, size_t topic_count, group_error_done done, void *arg);

/* A topic is gone: so are the offsets that groups had in it. Written in the background. */
void coordinator_topic_deleted(struct coordinator *c, struct gstr topic);

/* What runs every offsets.retention.check.interval.ms: offsets that are too old and groups that are empty get tombstones. For tests. */
void coordinator_expire(struct coordinator *c);

#endif
