/*
 * join: how a broker takes part in a cluster: its session with ZooKeeper, its registration, its controller, and what its partitions ask the controller for. README.md has the order of start and stop.
 *
 *  1. join_open reads the properties. Nothing is connected yet; its role_calls go into broker_options.roles.
 *  2. broker_open, server_open with the join, server_run: from then on requests of a controller are answered.
 *  3. join_start: session, registration, election of a controller. From then on this broker is one of the cluster.
 *  4. join_leave, while the server still runs: a controlled shutdown, then the registration goes.
 *  5. server_close, broker_close, join_free.
 *
 * thread: join_open, join_start, join_leave and join_free by one; the rest any. locks: none is held over a callback.
 */
#ifndef CLUSTER_JOIN_H
#define CLUSTER_JOIN_H

#include "cluster/broker.h"
#include "cluster/control/controller.h"
#include "cluster/net/settings.h"
#include "cluster/partition_role.h"
#include "cluster/topics.h"

struct join;

extern const struct conf_property join_properties[];

/* Whether the properties ask for it: zookeeper.connect is set. */
bool join_is_wanted(const struct conf *c);

/* c: borrowed for the join's life. ERR_INVALID, ERR_NO_MEMORY; of the credentials' file ERR_DENIED, ERR_NOT_FOUND, ERR_IO. */
int join_open(struct join **out, const struct conf *c, struct err *e);
const struct role_calls *join_roles(struct join *j);
const struct topic_calls *join_topic_calls(struct join *j); /* likewise into broker_options.topic_calls */
const struct property_calls *join_property_calls(struct join *j);

/* at: where the other brokers reach this one. Returns when it is registered, or why it cannot be: ERR_TIMED_OUT (no ZooKeeper), ERR_BUSY (the id is taken), ERR_INVALID (another cluster), ... It is
 * registered anew, by itself and for ever, when its session has expired. */
int join_start(struct join *j, struct broker *b, const struct net_address *at, struct err *e);

/* Gives its leaderships to others as far as there are any, and its registration back. Takes some seconds at most, but where the controller has nobody to give them to: that is asked
 * controlled.shutdown.max.retries times. Also of a join whose start has failed. NULL is fine. */
void join_leave(struct join *j);
/* After broker_close. NULL is fine. */
void join_free(struct join *j);

/* To this broker's controller, if it is the one (controller_ask). */
void join_ask(struct join *j, struct controller_call *call);

/* ---- what a controller tells (cluster/api/roles.c) ---- */

/* Whether a request of a controller counts, by its epoch and that of the registration it is meant for: KAFKA_NONE, no older controller counts from now on, and no other request is done before
 * join_end; KAFKA_STALE_CONTROLLER_EPOCH; KAFKA_STALE_BROKER_EPOCH, it is meant for an earlier registration. May wait for the one before it. */
int16_t join_begin(struct join *j, int32_t controller_epoch, int64_t broker_epoch);
void join_end(struct join *j);
/* All of the roles that registration has were given: what is missing here counts nowhere any more. Blocks. */
void join_settled(struct join *j, int64_t broker_epoch);

/* Threads for what may wait for ZooKeeper: those of the broker's pool are wanted by what goes on without it. */
struct pool *join_pool(struct join *j);

/* Topics of which a controller is about to tell something, for join_begin's caller: their properties are known here between the two, as far as ZooKeeper answers in time. Block. */
struct configs_topic;
void join_expect(struct join *j, const struct configs_topic *v, size_t n);
void join_arrived(struct join *j, const struct configs_topic *v, size_t n);
/* What the cluster keeps of the properties of topics, and of the broker, is in force here by now (cluster/join_config.h). Blocks. */
void join_refresh(struct join *j, struct topic *const *t, size_t n, bool brokers);

/* Where a broker is. all: those that are not named are there no longer. host: n bytes. Between join_begin and join_end. ERR_NO_MEMORY: nothing has changed. */
struct join_place { int32_t id; const char *host, *rack; size_t host_bytes, rack_bytes; int32_t port; }; /* rack NULL: none */
int join_places(struct join *j, const struct join_place *v, size_t n, bool all, struct err *e);

/* ---- followers: what makes their logs what their leaders' are ---- */

struct join_followers {
	/* p follows that broker in that epoch, as partition_become has made it. May be told what is known already. */
	int (*follow)(void *arg, struct partition *p, int32_t leader, int32_t leader_epoch, struct err *e);
	/* It does not, or not any more. */
	void (*unfollow)(void *arg, struct partition *p);
	void *arg;
};
/* Between broker_open and join_start; f is copied. Without it followers stay as they are. */
void join_set_followers(struct join *j, const struct join_followers *f);
int join_follow(struct join *j, struct partition *p, int32_t leader, int32_t leader_epoch, struct err *e); /* leader -1: nobody */

/* All brokers that the controller has told of, in no order, this one among them; freed by the caller in one. Before it has told anything: this one. NULL: no memory. */
struct join_broker { int32_t id, port; char *host, *rack; };
struct join_broker *join_brokers(struct join *j, size_t *n);
int32_t join_controller(const struct join *j); /* -1: nobody, or nobody knows */

/* "HOST:PORT" of a broker, as client_open takes it. false: it is not known just now. */
bool join_address(struct join *j, int32_t broker_id, char *text, size_t n);
/* Its session with ZooKeeper, and the queue of that, for what else is kept there: from join_start on; closed by join_leave, there until join_free. */
struct zk *join_zk(const struct join *j);
struct queue *join_queue(const struct join *j);
int64_t join_epoch(struct join *j); /* of this broker's registration; -1: it has none just now */

#endif
