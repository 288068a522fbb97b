/*
 * clusterfiles: what DIR/.cluster/ has: small texts about the cluster, as this broker has been told of it, made anew at every look.
 *
 *   brokers            one line for each broker: its id, HOST:PORT, rack, and what it is: controller, alive or away (it has replicas, and is not there)
 *   controller         id and HOST:PORT of the controller; empty: there is none just now
 *   offline            one line for each partition that nobody leads
 *   under-replicated   one for each whose in-sync replicas are fewer than its replicas
 *
 * A partition's line: TOPIC/PARTITION, leader, replicas, in-sync replicas, replicas that are away. Between the words is a tab; what there is none of is "-". A broker of no cluster is one of its own.
 *
 * thread: any.
 */
#ifndef FS_CLUSTERFILES_H
#define FS_CLUSTERFILES_H

#include "store/buf.h"
#include "store/err.h"

struct broker;
struct join;

#define CLUSTER_DIR ".cluster"

enum cluster_file { CLUSTER_BROKERS, CLUSTER_CONTROLLER, CLUSTER_OFFLINE, CLUSTER_UNDER_REPLICATED, CLUSTER_FILES };

struct cluster_source { /* all borrowed */
	struct broker *broker;
	struct join *join;       /* NULL: it is of no cluster */
	const char *address;     /* where clients reach it; NULL: nowhere */
};

const char *clusterfile_name(enum cluster_file f);
int clusterfile_find(const char *name); /* -1: there is no such */

/* Appended. ERR_NO_MEMORY. */
int clusterfile_print(const struct cluster_source *s, enum cluster_file f, struct wr *text, struct err *e);

#endif
