/*
 * layout: Kafka's nodes in ZooKeeper: their paths, and their JSON as structs and back, as Kafka 3.9 in ZooKeeper mode writes them.
 *
 * Decoding trusts nothing: what is not JSON, has the wrong type or range, or a version above Kafka 3.9's, is refused with a sentence that names the path (ERR_CORRUPT, ERR_VERSION). Members that
 * are not known are kept in the struct, and written again behind the known ones when it is encoded. Encoding writes Kafka's members in Kafka's order, without spaces.
 *
 * A decoded struct owns what it points to until its release, which a struct of zeros survives too; strings of one that is to be encoded are the caller's. `kept` is the JSON it came from;
 * NULL in a new one. Encoding appends to `out`; it gives ERR_INVALID for text that is not UTF-8, and where there is no memory.
 *
 * thread: any; a struct belongs to one thread at a time.
 */
#ifndef CLUSTER_ZK_LAYOUT_H
#define CLUSTER_ZK_LAYOUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cluster/zk/zk.h"
#include "store/checkpoint.h"
#include "store/err.h"

struct json_t;
struct wr;

/* ---- paths ---- */

#define LAYOUT_BROKERS "/brokers"
#define LAYOUT_BROKER_IDS "/brokers/ids"
#define LAYOUT_TOPICS "/brokers/topics"
#define LAYOUT_CONTROLLER "/controller"
#define LAYOUT_CONTROLLER_EPOCH "/controller_epoch"
#define LAYOUT_CONFIG "/config"
#define LAYOUT_CONFIG_CHANGES "/config/changes"
#define LAYOUT_DELETE_TOPICS "/admin/delete_topics"
#define LAYOUT_REASSIGN "/admin/reassign_partitions"
#define LAYOUT_PREFERRED_ELECTION "/admin/preferred_replica_election"
#define LAYOUT_CLUSTER_ID "/cluster/id"
#define LAYOUT_PRODUCER_IDS "/latest_producer_id_block"
#define LAYOUT_ISR_CHANGES "/isr_change_notification"
#define LAYOUT_LOG_DIR_EVENTS "/log_dir_event_notification"
#define LAYOUT_CONSUMERS "/consumers"

/* Names of sequential nodes, to which ZooKeeper adds ten digits. */
#define LAYOUT_CONFIG_CHANGE LAYOUT_CONFIG_CHANGES "/config_change_"
#define LAYOUT_ISR_CHANGE LAYOUT_ISR_CHANGES "/isr_change_"
#define LAYOUT_LOG_DIR_EVENT LAYOUT_LOG_DIR_EVENTS "/log_dir_event_"

/* What must be there before anything else: NULL behind the last. */
extern const char *const layout_persistent_paths[];
/* With zookeeper.set.acl: what Kafka protects as a secret, and what it leaves open. An `acl` for zk_options. */
enum zk_acl layout_acl(const char *path);

struct layout_path { char text[ZK_PATH_MAX]; };

/* All return p->text. */
const char *layout_broker_path(struct layout_path *p, int32_t id);
const char *layout_topic_path(struct layout_path *p, const char *topic);
const char *layout_partitions_path(struct layout_path *p, const char *topic);
const char *layout_partition_path(struct layout_path *p, const char *topic, int32_t partition);
const char *layout_state_path(struct layout_path *p, const char *topic, int32_t partition);
const char *layout_delete_topic_path(struct layout_path *p, const char *topic);

/* The number that a name consists of, or ends with behind `prefix` (a sequential node's): false where it does not. "" is a prefix. */
bool layout_number(const char *name, const char *prefix, int32_t *number);
/* The last name of a path. */
const char *layout_name(const char *path);

/* ---- brokers ---- */

struct layout_endpoint { const char *listener, *protocol, *host; int32_t port; }; /* "PLAINTEXT", "PLAINTEXT", without brackets */

struct layout_broker { /* version 5 is written, 1 to 5 are read */
	struct layout_endpoint *endpoint;
	size_t endpoints;
	const char *host;    /* of the first PLAINTEXT endpoint, as Kafka has it for old clients; NULL and -1: none */
	int32_t port;
	const char *rack;    /* NULL: none */
	int32_t jmx_port;    /* -1: none */
	int64_t timestamp_ms;
	/* Our own member, "spoolfs", which no Kafka has: */
	bool ours;
	bool clean;          /* whether what it had acknowledged before it stopped is on its disks: a clean stop, or the same boot */
	const char *boot_id; /* of the kernel it runs on; "" where that is not known */
	const char *data_id; /* of its log directories: two that register the same id are told apart by that */
	int32_t session_timeout_ms; /* for how long it may stay here after it has died; 0: not known */
	struct json_t *kept;
	char *text;          /* private: what the endpoints' strings are in */
};
int layout_broker_decode(struct layout_broker *b, const char *path, const void *data, size_t bytes, struct err *e);
int layout_broker_encode(const struct layout_broker *b, struct wr *out);
void layout_broker_release(struct layout_broker *b);

/* ---- topics ---- */

struct layout_assignment { /* of one partition */
	int32_t *replica, *adding, *removing; /* broker ids; replica has all of them */
	size_t replicas, addings, removings;
};
struct layout_topic { /* version 3 is written, 1 to 3 are read */
	char topic_id[TOPIC_ID_CHARS + 1];    /* "": none, of a version below 3 */
	struct layout_assignment *partition;  /* by number, from 0, none left out */
	size_t partitions;
	struct json_t *kept;
};
int layout_topic_decode(struct layout_topic *t, const char *path, const void *data, size_t bytes, struct err *e);
int layout_topic_encode(const struct layout_topic *t, struct wr *out);
void layout_topic_release(struct layout_topic *t);

struct layout_state { /* of a partition; version 1 */
	int32_t leader;        /* -1: none */
	int32_t leader_epoch, controller_epoch;
	int32_t *isr;
	size_t isrs;
	bool recovering;       /* leader_recovery_state: elected uncleanly and not recovered yet (KIP-704) */
	struct json_t *kept;
};
int layout_state_decode(struct layout_state *s, const char *path, const void *data, size_t bytes, struct err *e);
int layout_state_encode(const struct layout_state *s, struct wr *out);
void layout_state_release(struct layout_state *s);

/* ---- the controller ---- */

struct layout_controller { int32_t broker_id, kraft_epoch; int64_t timestamp_ms; }; /* version 2; kraft_epoch -1: no migration */
int layout_controller_decode(struct layout_controller *c, const char *path, const void *data, size_t bytes, struct err *e);
int layout_controller_encode(const struct layout_controller *c, struct wr *out);

/* /controller_epoch: a plain number. */
int layout_epoch_decode(int32_t *epoch, const char *path, const void *data, size_t bytes, struct err *e);
int layout_epoch_encode(int32_t epoch, struct wr *out);

/* Partitions by name: /admin/reassign_partitions (with replicas), /admin/preferred_replica_election and /isr_change_notification (without). */
struct layout_named { const char *topic; int32_t partition; int32_t *replica; size_t replicas; };
struct layout_list { struct layout_named *item; size_t items; struct json_t *kept; };
int layout_reassign_decode(struct layout_list *l, const char *path, const void *data, size_t bytes, struct err *e);
int layout_reassign_encode(const struct layout_list *l, struct wr *out);
int layout_preferred_decode(struct layout_list *l, const char *path, const void *data, size_t bytes, struct err *e);
int layout_preferred_encode(const struct layout_list *l, struct wr *out);
int layout_isr_change_decode(struct layout_list *l, const char *path, const void *data, size_t bytes, struct err *e);
int layout_isr_change_encode(const struct layout_list *l, struct wr *out);
void layout_list_release(struct layout_list *l);

/* /log_dir_event_notification: that broker has lost a log directory. */
int layout_log_dir_event_decode(int32_t *broker, const char *path, const void *data, size_t bytes, struct err *e);
int layout_log_dir_event_encode(int32_t broker, struct wr *out);

/* ---- configuration ---- */

enum layout_entity { LAYOUT_TOPIC, LAYOUT_BROKER, LAYOUT_CLIENT, LAYOUT_USER, LAYOUT_USER_CLIENT, LAYOUT_IP };
#define LAYOUT_DEFAULT "<default>" /* the entity that stands for all */

/* Where an entity's configuration is. name: as people write it, LAYOUT_DEFAULT for all; client: of a user's client, else NULL. Users and clients get Kafka's escapes. ERR_NAME where no path can be made of it. */
int layout_config_path(struct layout_path *p, enum layout_entity type, const char *name, const char *client, struct err *e);

struct layout_property { const char *name, *value; };
struct layout_config { struct layout_property *property; size_t properties; struct json_t *kept; }; /* version 1 */
int layout_config_decode(struct layout_config *c, const char *path, const void *data, size_t bytes, struct err *e);
int layout_config_encode(const struct layout_config *c, struct wr *out);
void layout_config_release(struct layout_config *c);

/* /config/changes: whose configuration has changed, version 2: its path without /config/. path: room for a whole one. */
int layout_config_change_decode(struct layout_path *entity, const char *path, const void *data, size_t bytes, struct err *e);
int layout_config_change_encode(const char *entity_path, struct wr *out); /* of layout_config_path, with /config/ in front */
/* What such a path, without /config/, means: name and client as people write them. false: nothing that is known. */
bool layout_config_entity(const char *entity_path, enum layout_entity *type, char name[ZK_PATH_MAX], char client[ZK_PATH_MAX]);

/* ---- the cluster ---- */

int layout_cluster_id_decode(char id[64], const char *path, const void *data, size_t bytes, struct err *e);
int layout_cluster_id_encode(const char *id, struct wr *out);

struct layout_producer_ids { int32_t broker_id; int64_t first, last; }; /* a block, both in it */
int layout_producer_ids_decode(struct layout_producer_ids *b, const char *path, const void *data, size_t bytes, struct err *e);
int layout_producer_ids_encode(const struct layout_producer_ids *b, struct wr *out);

/* ---- consumers, for who looks there ---- */

/* ERR_NAME where the group, topic or member cannot stand in a path. */
int layout_consumer_path(struct layout_path *p, const char *group, const char *member, struct err *e);                  /* /consumers/G/ids/M; M NULL: the directory */
int layout_consumer_owner_path(struct layout_path *p, const char *group, const char *topic, int32_t partition, struct err *e);  /* /consumers/G/owners/T/N; N -1: the topic's, T NULL: the directory */
int layout_consumer_offset_path(struct layout_path *p, const char *group, const char *topic, int32_t partition, struct err *e); /* /consumers/G/offsets/T/N */

struct layout_consumer { const char *const *topic; const int32_t *streams; size_t topics; int64_t timestamp_ms; }; /* what a member has subscribed to, version 1, pattern "static" */
int layout_consumer_encode(const struct layout_consumer *c, struct wr *out);
/* An owner's node has the member's name as its text, an offset's the offset. */
int layout_offset_decode(int64_t *offset, const char *path, const void *data, size_t bytes, struct err *e);
int layout_offset_encode(int64_t offset, struct wr *out);

#endif
