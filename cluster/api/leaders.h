/*
 * leaders: where clients are sent: to whoever leads a partition by now (KIP-951), or to a replica that is near them (KIP-392).
 *
 * thread: any. locks: those of the join, for moments.
 */
#ifndef CLUSTER_API_LEADERS_H
#define CLUSTER_API_LEADERS_H

#include "cluster/api/call.h"

/* Of a cluster, and no replica of it is here: a client that wants it has to ask another broker. */
bool call_is_elsewhere(const struct call *c, const struct partition *p);

/* Who leads it: as this broker is told of its own replica, else as the controller says of all; -1, -1: nobody knows. p NULL is fine. */
void partition_leader_now(struct partition *p, int32_t *leader, int32_t *epoch);

/* A broker that is alive, as an endpoint of an answer has it, in the call's memory. false: it is not known, or there is no memory. */
struct leader_node { int32_t id, port; struct wire_string host, rack; };
bool call_node(struct call *c, int32_t id, struct leader_node *n);

/* The ids of the brokers in that rack, in the call's memory; *count 0: there is none, or it is not known. */
int32_t *call_rack(struct call *c, struct wire_string rack, int *count);

#endif
