/*
 * call: one request on its way through a handler. Included by cluster/api/ alone.
 *
 *  1. server.c takes a request from the reactor, finds its API, decodes it, and calls the API's handler: on the connection's network thread, or (row.blocks) on
 *     one of the pool's.
 *  2. The handler makes the response of memory from the call's arena, and answers exactly once: call_answer, call_drop or call_close, then or later, on any thread. It does
 *     not touch the call after that.
 *  3. What the answer's file ranges hold is given back by `sent`, on any thread, once they are sent or given up.
 *  4. The call's memory goes back to its network thread when the reactor has done with the request.
 *
 * A call is one thread's at a time. Requests of one connection are handed out in their order; a handler that leaves the network thread, and whose
 * order matters to the requests behind it, has the connection wait for its answer (call_to_pool).
 */
#ifndef CLUSTER_API_CALL_H
#define CLUSTER_API_CALL_H

#include "cluster/broker.h"
#include "cluster/net/net.h"
#include "cluster/topics.h"
#include "cluster/wire/api.h"
#include "cluster/wire/errors.h"
#include "store/pool.h"

struct coordinator;
struct ingest;
struct join;
struct server;
struct sessions;

struct call_memory { /* kept and given to one call after the other */
	struct call_memory *next;
	struct arena arena;
	struct wire_out out;
	struct net_chunk *chunk;
	unsigned chunk_cap;
};

struct call { /* in net_room of its request */
	struct server *server;
	struct net_request *r;
	const struct api *api;
	struct call_memory *m;
	const void *request;              /* decoded; borrows from the frame and the arena */
	void *op;                         /* the handler's own, in the arena */
	void (*sent)(struct call *c);     /* NULL, or see above */
	void (*work)(struct call *c);
	struct wire_string client_id;
	int32_t correlation_id;
	int16_t version;
	uint16_t thread;                  /* the network thread whose memory it has */
	struct pool_job job;
	struct net_response response;
};

/* Zeroed memory that lives as long as the call. NULL: there is none; the handler calls call_close then. */
void *call_get(struct call *c, size_t n);
/* The same for n elements of a response's array, with their defaults set. */
void *call_array(struct call *c, const struct wire_struct *desc, int32_t n);

/* response: of the call's API, its strings borrowed until `sent`; encoded before this returns. */
void call_answer(struct call *c, const void *response);
void call_drop(struct call *c);  /* no answer, as to acks=0 */
void call_close(struct call *c, const char *why); /* why: for the log, NULL for none */

/* The connection's network thread's, to pass batches through. thread: that one */
struct ingest *call_ingest(struct call *c);

/* Goes on with `work` in the pool. in_order: no further request of the connection is handed out before this one is answered; only from the network thread. */
void call_to_pool(struct call *c, void (*work)(struct call *c), bool in_order);

/* ---- what handlers need of the server ---- */

/* Whether requests of this API are answered here. */
bool call_handles(const struct call *c, int api_key);

struct broker *call_broker(const struct call *c);
struct join *call_join(const struct call *c); /* NULL: the broker is of no cluster */
struct coordinator *call_coordinator(const struct call *c);
struct sessions *call_sessions(const struct call *c);
const struct conf *call_conf(const struct call *c);

/* Whether the server is being closed: what has not been begun is to be refused, so that nobody waits for it. */
bool call_stopping(const struct call *c);

enum { PARTITIONS_A_REQUEST = 10000 }; /* that are made or deleted, as in Kafka */

/* A referenced topic, by name where `id` is zero, else by id; NULL with Kafka's code. */
struct topic *call_topic(struct call *c, struct wire_string name, const struct wire_uuid *id, int16_t *error);
/* The same for a partition of it. */
struct partition *call_partition(struct call *c, struct wire_string name, const struct wire_uuid *id, int32_t index, int16_t *error);
struct wire_uuid topic_wire_id(const struct topic *t);
/* Where this client reaches the broker, in the call's memory. false: there is none. */
bool call_place(struct call *c, struct wire_string *host, int32_t *port);
/* NUL-terminated, in the call's memory; NULL: no memory. */
char *call_text(struct call *c, struct wire_string s);

/* ---- handlers: one for each API ---- */

void handle_api_versions(struct call *c);
void handle_metadata(struct call *c);
void handle_describe_cluster(struct call *c);
void handle_describe_topic_partitions(struct call *c);
void handle_produce(struct call *c);
void handle_init_producer_id(struct call *c);
void handle_describe_producers(struct call *c);
void handle_fetch(struct call *c);
void handle_list_offsets(struct call *c);
void handle_offset_for_leader_epoch(struct call *c);
void handle_create_topics(struct call *c);
void handle_delete_topics(struct call *c);
void handle_create_partitions(struct call *c);
void handle_delete_records(struct call *c);
void handle_describe_configs(struct call *c);
void handle_alter_configs(struct call *c);
void handle_incremental_alter_configs(struct call *c);
void handle_describe_log_dirs(struct call *c);
void handle_find_coordinator(struct call *c);
void handle_join_group(struct call *c);
void handle_sync_group(struct call *c);
void handle_heartbeat(struct call *c);
void handle_leave_group(struct call *c);
void handle_describe_groups(struct call *c);
void handle_list_groups(struct call *c);
void handle_delete_groups(struct call *c);
void handle_offset_commit(struct call *c);
void handle_offset_fetch(struct call *c);
void handle_offset_delete(struct call *c);
void handle_leader_and_isr(struct call *c);
void handle_stop_replica(struct call *c);
void handle_update_metadata(struct call *c);
void handle_controlled_shutdown(struct call *c);
void handle_alter_partition(struct call *c);
void handle_view_lookup(struct call *c);
void handle_replica_sums(struct call *c);
void handle_elect_leaders(struct call *c);
void handle_alter_partition_reassignments(struct call *c);
void handle_list_partition_reassignments(struct call *c);

/* What the answer to ApiVersions of a version that is not known looks like: versions.c. */
void refuse_api_versions(struct call *c);

#endif
