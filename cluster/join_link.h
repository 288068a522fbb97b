/*
 * join_link: what a broker asks the controller for, wherever that is: other ISRs (AlterPartition), and its own controlled shutdown. By a thread of its own, over one connection, until there is an answer.
 *
 *  1. A change that a partition wants is kept, by partition: a later one takes its place, as the earlier is over then.
 *  2. What is kept goes out in one request, at most LINK_CHANGES in one, as soon as the controller is known and this broker is registered.
 *  3. Each answer goes to its partition, unless a later change has taken the place of what was asked for. What could not be sent, and what another controller should answer, stays, and is tried again.
 *  4. Whenever the connection fails, or who is there is not the controller, `look` is called: link_controller is to be told anew.
 *
 * The thread also sees to it that partitions that were refused the lease go on when it is back.
 *
 * thread: link_new, link_stop and link_free by one; the rest any, and none blocks but link_shutdown. locks: its own, a leaf.
 */
#ifndef CLUSTER_JOIN_LINK_H
#define CLUSTER_JOIN_LINK_H

#include "cluster/broker.h"
#include "cluster/partition_role.h"

struct link;

struct link_options {
	struct broker *broker;
	int timeout_ms;                /* for an answer */
	int64_t (*epoch)(void *arg);   /* of this broker's registration; -1: there is none just now */
	bool (*lease)(void *arg);
	void (*look)(void *arg);
	void *arg;
};

int link_new(struct link **out, const struct link_options *o, struct err *e); /* ERR_NO_MEMORY, ERR_LIMIT */
/* Ends the thread, lets go of all partitions, and takes no more. NULL is fine, for link_free too. */
void link_stop(struct link *l);
void link_free(struct link *l); /* once nobody calls it any more */

void link_controller(struct link *l, const char *address); /* where the controller is; NULL: nobody knows */
void link_registered(struct link *l);                      /* the epoch is another one */
void link_lease_missed(struct link *l);                    /* a partition asked for the lease, in vain */
void link_alter(struct link *l, struct partition *p, const struct isr_change *c);

/* One attempt to have this broker's leaderships given to others; waits for it, at most for the request's timeout. How many partitions it still leads that have other replicas; ERR_OFFLINE: no controller
 * could be asked. */
int link_shutdown(struct link *l, struct err *e);

#endif
