/*
 * server: the broker's face to Kafka's clients: joins the reactor (cluster/net), the messages (cluster/wire), the partitions and the groups.
 *
 * thread: open, run, stop and close by one thread.
 */
#ifndef CLUSTER_API_SERVER_H
#define CLUSTER_API_SERVER_H

#include "cluster/broker.h"
#include "cluster/net/settings.h"

struct join;
struct server;

/* All properties of a broker, from the store's up, and those of whoever runs it (own; NULL: it has none). NULL: no memory. */
struct conf_schema *server_schema(const struct conf_property *own);

/* Whether the properties ask for one: listeners is set. */
bool server_is_wanted(const struct conf *c);

/* Binds the listeners of the broker's conf, whose schema is server_schema; clients can connect from now on, and wait.
 * j: how the broker takes part in a cluster (cluster/join.h), borrowed; NULL: in none. ERR_INVALID, ERR_BUSY (address in use), ERR_DENIED, ERR_LIMIT, ERR_NO_MEMORY, ERR_IO. */
int server_open(struct server **out, struct broker *b, struct join *j, struct err *e);

/* Serves from now on. */
int server_run(struct server *s, struct err *e);

/* The broker is one of its cluster by now (join_start): what of it is kept in ZooKeeper is from here on. ERR_NO_MEMORY. */
int server_joined(struct server *s, struct err *e);

/* Where listener `i` is bound, the port as given by the system if 0 was asked for. false: there is no such listener. */
bool server_address(const struct server *s, unsigned i, struct net_address *out);

/* Where others of the cluster are told to connect: the first of advertised.listeners, else the first listener, by this host's name if it is on all interfaces. */
void server_advertised(const struct server *s, struct net_address *out);

/* Accepts no more, answers what was taken, for wait_ms at most, and frees all. Before broker_close. NULL is fine. */
void server_close(struct server *s, int wait_ms);

#endif
