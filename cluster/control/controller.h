/*
 * controller: the shell around the brain: who of the brokers is the controller, and what that one does. README.md has the steps.
 *
 * Each broker has one. It takes part in the election as long as it runs; elected, it reads what there is, and from then on does what the brain decides: writes to ZooKeeper, requests to brokers.
 * All of that happens on the queue's thread, which never blocks; brokers are talked to by threads of their own (sender.h).
 *
 * thread: controller_open, controller_stop, controller_free by one; controller_start too, or on the queue's thread; controller_ask any; callbacks on the queue's thread. locks: its own, a leaf.
 */
#ifndef CLUSTER_CONTROL_CONTROLLER_H
#define CLUSTER_CONTROL_CONTROLLER_H

#include "cluster/control/settings.h"
#include "cluster/zk/queue.h"
#include "cluster/zk/zk.h"

struct controller;

struct controller_options {
	struct zk *zk;        /* borrowed; closed after controller_stop */
	struct queue *queue;  /* zk's */
	int32_t broker_id;
	struct control_settings settings;
	void (*changed)(void *arg, int32_t controller_id); /* who is the controller; -1: nobody, or nobody knows */
	void *arg;
};

/* Before zk_start. ERR_NO_MEMORY. */
int controller_open(struct controller **out, const struct controller_options *o, struct err *e);
/* Takes part from now on. The broker answers requests of a controller already. */
void controller_start(struct controller *c);
/* Ends what it does; whoever still waits is answered, who asks from here on too: NOT_CONTROLLER. It makes no further request to ZooKeeper. Waits for connections to be given up, 2 s at most. Not on the
 * queue's thread. NULL is fine. */
void controller_stop(struct controller *c);
/* Between zk_close and queue_free. NULL is fine. */
void controller_free(struct controller *c);

/* Who it is, as far as is known here; -1: nobody. thread: any. */
int32_t controller_id(const struct controller *c);

/* ---- requests ---- */

struct controller_partitions { /* CreatePartitions of one topic */
	const char *topic;
	int32_t from;   /* that it must have; -1: any */
	int32_t count;
	const struct create_partitions_request_assignment *assignment; /* NULL: placed by the controller */
	int32_t assignments;
	bool validate_only;
};

struct controller_deletion {
	const char *topic; /* NULL: the one with that id */
	uint8_t id[16];    /* all zeros: whatever it has */
	bool only_if_empty;
};

enum controller_kind { /* request and answer */
	CONTROLLER_ALTER_PARTITION,     /* struct alter_partition_request, alter_partition_response */
	CONTROLLER_SHUTDOWN,            /* controlled_shutdown_... */
	CONTROLLER_ELECT,               /* elect_leaders_... */
	CONTROLLER_REASSIGN,            /* alter_partition_reassignments_... */
	CONTROLLER_LIST_REASSIGNMENTS,  /* list_partition_reassignments_... */
	CONTROLLER_CREATE_TOPIC,        /* struct brain_new_topic; struct brain_answer */
	CONTROLLER_CREATE_PARTITIONS,   /* struct controller_partitions; struct brain_answer */
	CONTROLLER_DELETE_TOPIC,        /* struct controller_deletion; struct brain_answer */
};

/* The caller's, with its request, until it is answered. */
struct controller_call {
	struct queue_event event; /* private */
	struct controller *controller;
	enum controller_kind kind;
	const void *request;
	void (*answer)(struct controller_call *call, const void *response); /* once; on the queue's thread; response borrowed during the call. NOT_CONTROLLER: ask who is */
};
void controller_ask(struct controller *c, struct controller_call *call);
void controller_refuse(struct controller_call *call); /* answers it as one that is not the controller. thread: the queue's */

#endif
