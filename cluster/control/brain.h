/*
 * brain: what the controller decides, without any input or output: events go in, writes for ZooKeeper and requests for brokers come out. README.md has the rules.
 *
 * A brain is one term of one controller: made for its controller epoch, told what ZooKeeper holds (brain_load_*), started, then told what happens, one event at a time. After any event its owner
 *
 *   1. takes the next batch of writes, if none is under way (brain_writes), has all of its multis done in their order, and says so (brain_written);
 *   2. asks for each broker to which no request is under way whether there is one (brain_request), sends it, and says what became of it (brain_answered, brain_unanswered);
 *   3. comes again at brain_deadline (brain_tick).
 *
 * What is decided counts only once it is written: a batch changes nothing here before brain_written. Every multi is conditional on /controller_epoch, every set and delete in it on the version that was
 * read or written last. A multi that is refused, or whose outcome is unknown, is not mended: the brain is freed (what waits for an answer gets NOT_CONTROLLER), all is read again, and a new one made.
 *
 * A request for a broker is made when it is taken, of the newest state: for a broker that is slow, what changed several times in between is told once. Nothing that is older than what a broker has been
 * told is ever told to it. At most one request to a broker is under way.
 *
 * Answers to callers go through options.answer, with the caller's ticket, during any call of this header but while the brain is made; exactly one for each ticket.
 *
 * Time is an argument, in milliseconds of any clock that does not go back; chance comes from options.seed.
 *
 * Memory that runs out makes the brain useless (brain_failed): it takes no more events and is to be freed.
 *
 * thread: one at a time. locks: none.
 */
#ifndef CLUSTER_CONTROL_BRAIN_H
#define CLUSTER_CONTROL_BRAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cluster/wire/api.h"
#include "store/err.h"

struct brain;

/* Broker ids in an order that means something. */
struct ids {
	int32_t n;
	int32_t v[];
};

enum { BRAIN_MAX_REPLICAS = 1024 }; /* of a partition */

/* What StopReplica can ask for besides (README.md, "A topic is deleted if it is empty"). */
enum stop_seal { STOP_SEALS_NOTHING, STOP_SEALS, STOP_UNSEALS };

/* ---- the outside ---- */

struct brain_options {
	int32_t self;                    /* the broker that this controller runs in: it need not prove that it is alive */
	int32_t controller_epoch;
	size_t max_multi_bytes;          /* of a multi's paths and data, with OP_OVERHEAD for each op */
	bool auto_balance;               /* auto.leader.rebalance.enable */
	int64_t balance_interval_ms;     /* leader.imbalance.check.interval.seconds */
	int imbalance_percent;           /* leader.imbalance.per.broker.percentage */
	bool unclean_elections;          /* unclean.leader.election.enable, for topics without their own */
	int64_t unclean_wait_ms;         /* unclean.recovery.timeout.ms: how long a partition whose members are all unclean waits for those that are away */
	uint64_t seed;
	void (*answer)(void *arg, void *ticket, const void *response);
	void *arg;
};

struct brain_endpoint { const char *listener, *host; int32_t port; int16_t protocol; }; /* protocol: Kafka's id of PLAINTEXT, ... */

struct brain_broker { /* a registration; all borrowed during the call */
	int32_t id;
	int64_t epoch;
	bool clean;
	const char *rack; /* NULL: none */
	const struct brain_endpoint *endpoint;
	size_t endpoints; /* the first one is what other brokers connect to */
};

/* What the controllers know of a broker beyond its registration, durable (ledger.h). */
struct brain_ledger {
	int64_t settled_epoch; /* the registration whose memberships from before have been decided; -1: none */
	int64_t fenced_epoch;  /* the registration that counts as dead; -1: none */
	bool unclean;          /* has memberships left of before an unclean stop, though a later registration is clean */
};

struct brain_assignment { const struct ids *replicas, *adding, *removing; }; /* NULL: empty */

struct brain_state {
	int32_t leader, leader_epoch, controller_epoch;
	const struct ids *isr;
	bool recovering;
};

/* The writes */

enum op_kind {
	OP_CREATE_CONFIG, OP_SET_CONFIG, /* of a topic; set: whatever version is there */
	OP_NOTE_CONFIG,                  /* a change notification */
	OP_CREATE_TOPIC, OP_SET_TOPIC,   /* id and assignment */
	OP_CREATE_PARTITIONS,            /* the directory of a topic's partitions */
	OP_CREATE_PARTITION,             /* the directory of one */
	OP_CREATE_STATE, OP_SET_STATE,
	OP_CREATE_MARK,                  /* /admin/delete_topics: the topic is to be deleted */
	OP_DELETE_STATE, OP_DELETE_PARTITION, OP_DELETE_PARTITIONS, OP_DELETE_TOPIC, OP_DELETE_CONFIG, OP_DELETE_MARK,
	OP_CREATE_LEDGER, OP_SET_LEDGER,
};

enum { OP_OVERHEAD = 192 };

struct op_config { struct wire_string name, value; };

struct op {
	enum op_kind kind;
	int32_t version;            /* that the node must have, for OP_SET_* and OP_DELETE_*; -1: any */
	const char *topic;          /* of all but ledgers */
	int32_t partition;
	union {
		struct brain_state state;
		struct { const uint8_t *id; const struct brain_assignment *partition; int32_t partitions; } assignment;
		struct { const struct op_config *v; int32_t n; } config;
		struct { int32_t broker; struct brain_ledger ledger; } ledger;
	};
};

struct brain_multi { const struct op *op; size_t ops, bytes; };
struct brain_batch { const struct brain_multi *multi; size_t multis; }; /* borrowed until brain_written or brain_free */

/* ---- life ---- */

/* NULL: no memory. */
struct brain *brain_new(const struct brain_options *o);
/* What waits is answered with NOT_CONTROLLER. NULL is fine. */
void brain_free(struct brain *b);
/* 0, or why the brain is of no use any more: ERR_NO_MEMORY, ERR_NOT_LEADER (a broker has been told of a newer controller). */
int brain_failed(const struct brain *b, struct err *e);

/* Loading, before brain_start; what is refused (ERR_CORRUPT: contradicts itself) leaves that one out. brokers and ledgers first. */
void brain_load_broker(struct brain *b, const struct brain_broker *r);
void brain_load_ledger(struct brain *b, int32_t broker, const struct brain_ledger *l, int32_t version);
int brain_load_topic(struct brain *b, const char *name, const uint8_t id[16], int32_t version, const struct brain_assignment *partition, int32_t partitions, struct err *e);
void brain_load_partitions_node(struct brain *b, const char *topic);
void brain_load_partition_node(struct brain *b, const char *topic, int32_t partition);
int brain_load_state(struct brain *b, const char *topic, int32_t partition, const struct brain_state *s, int32_t version, struct err *e);
void brain_load_config_node(struct brain *b, const char *topic);  /* there is a config node, of a topic or left behind by one */
bool brain_load_deletion(struct brain *b, const char *topic);     /* it is marked. false: there is no such topic, the mark is left over */
/* Whether the topic allows unclean elections: as its config says, -1: does not say. At any time. */
void brain_topic_unclean(struct brain *b, const char *topic, int allowed);
void brain_start(struct brain *b, int64_t now_ms);

/* ---- what happens ---- */

/* A registration has appeared. Of an id that is known with another epoch: the old one has died. */
void brain_broker_up(struct brain *b, const struct brain_broker *r, int64_t now_ms);
void brain_broker_down(struct brain *b, int32_t id, int64_t now_ms);
/* The same registration, perhaps with other endpoints. */
void brain_broker_changed(struct brain *b, const struct brain_broker *r);
/* Its host refuses connections: it is dead, whatever its session says. */
void brain_broker_refuses(struct brain *b, int32_t id, int64_t epoch);
/* It has lost a log directory: it is asked which partitions are gone with it. */
void brain_broker_lost_dir(struct brain *b, int32_t id);
void brain_unclean_default(struct brain *b, bool allowed);
void brain_tick(struct brain *b, int64_t now_ms);
int64_t brain_deadline(const struct brain *b); /* INT64_MAX: none */

/* Requests of brokers and clients. The request is borrowed during the call; the answer is the API's response struct, borrowed during options.answer. */
void brain_alter_partition(struct brain *b, const struct alter_partition_request *r, void *ticket);
void brain_controlled_shutdown(struct brain *b, const struct controlled_shutdown_request *r, void *ticket);
void brain_elect_leaders(struct brain *b, const struct elect_leaders_request *r, void *ticket);
void brain_reassign(struct brain *b, const struct alter_partition_reassignments_request *r, void *ticket);
void brain_list_reassignments(struct brain *b, const struct list_partition_reassignments_request *r, void *ticket);

/* Topics. The answer is a struct brain_answer, when it is written. What is valid as a name or a property is the caller's to know. */
struct brain_answer {
	int16_t error;       /* Kafka's */
	const char *message; /* NULL: none */
};
struct brain_new_topic {
	const char *name;
	uint8_t id[16];
	int32_t partitions;
	int16_t replication_factor;                      /* ignored with an assignment */
	const struct create_topics_request_assignment *assignment; /* NULL: placed here */
	int32_t assignments;
	const struct op_config *config;
	int32_t configs;
	int8_t unclean;                                  /* whether its config allows unclean elections; -1: does not say */
	bool validate_only;
};
void brain_create_topic(struct brain *b, const struct brain_new_topic *t, void *ticket);
/* count: partitions afterwards. from: that it must have before; -1: any. assignment: of the new ones, or NULL. */
void brain_create_partitions(struct brain *b, const char *topic, int32_t from, int32_t count, const struct create_partitions_request_assignment *assignment, int32_t assignments, bool validate_only, void *ticket);
/* Answered when the name is free. topic NULL: the one with that id. id: all zeros, or the topic must have it. */
/* only_if_empty: INVALID_REQUEST where a partition holds messages. LEADER_NOT_AVAILABLE, OPERATION_NOT_ATTEMPTED: that cannot be known just now. */
void brain_delete_topic(struct brain *b, const char *topic, const uint8_t id[16], bool only_if_empty, void *ticket);
/* Somebody else has written these nodes: a topic, more partitions, a mark. As loaded; what is known already is nothing new. */
int brain_topic_appeared(struct brain *b, const char *name, const uint8_t id[16], int32_t version, const struct brain_assignment *partition, int32_t partitions, struct err *e);
bool brain_deletion_appeared(struct brain *b, const char *topic); /* false: as of brain_load_deletion */

/* What somebody answers who is not the controller. api_key: of the request, BRAIN_TOPIC for those about topics. response: room for that API's struct. */
enum { BRAIN_TOPIC = -1 };
void brain_not_controller(int api_key, void *response);

/* ---- writes ---- */

/* Whether there is something to write; if so *batch is under way until brain_written. false while one is. */
bool brain_writes(struct brain *b, int64_t now_ms, struct brain_batch *batch);
void brain_written(struct brain *b, int64_t now_ms);

/* ---- requests ---- */

struct brain_request {
	int api_key;         /* LeaderAndIsr, StopReplica, UpdateMetadata, ListOffsets */
	const void *message; /* of the arena; strings are borrowed from the brain until its next event */
	int64_t broker_epoch;
};
/* The next request for that broker: under way until one of the two below, or until that registration has died. false: nothing to tell, or one is under way. */
bool brain_request(struct brain *b, int32_t broker, struct arena *arena, struct brain_request *r);
void brain_answered(struct brain *b, int32_t broker, int64_t broker_epoch, const void *response);
/* It did not arrive, or no answer came: it will be made anew. */
void brain_unanswered(struct brain *b, int32_t broker, int64_t broker_epoch);

/* ---- looking ---- */

struct brain_view {
	int32_t leader, leader_epoch, partition_epoch;
	const struct ids *replicas, *adding, *removing, *isr;
	bool exists, recovering;
};
bool brain_view(const struct brain *b, const char *topic, int32_t partition, struct brain_view *v); /* borrowed until the next call */
int32_t brain_partitions(const struct brain *b, const char *topic); /* -1: there is no such topic */
bool brain_alive(const struct brain *b, int32_t broker);

#endif
