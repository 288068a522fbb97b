/*
 * node: what the kernel knows by a nodeid: the root, topics, partitions and what stands beside them; names and attributes.
 *
 *   DIR                   root: the topics
 *   DIR/orders            a topic: its partitions 0, 1, ... are listed
 *   DIR/orders/0          a partition
 *   DIR/orders/0@earliest the same from where its log starts, position 0 there: for tools that trust sizes. Not listed.
 *   DIR/orders/.config    its properties. Not listed.
 *   DIR/.cluster          the cluster (fs/clusterfiles.h): its files are listed, it is not
 *
 * A nodeid is the address of a struct node. It lives while the kernel has it (each name answered with it counts, FORGET takes
 * back) or while it is open. The kernel lets one append through per nodeid, and who seeks to the end waits for it, so a node with a writer is opened by nobody else:
 *   1. The kernel keeps the name for a while, and comes with an OPEN.
 *   2. Where the node has a writer the OPEN is refused with ESTALE. That makes the kernel look the name up again, once, and then open what it is told.
 *   3. This LOOKUP is answered with a new node, the current one from now on, and kept for that thread's OPEN.
 *   4. That OPEN is not refused, whatever it finds: an open by another way than the name (/proc/self/fd) comes back with the node it had.
 * The inode number that stat shows is the partition's, whatever the nodeid.
 *
 * A file of a compacted topic has no positions and no size (fs/stream.h); who reads it has a node of his own, as writers do.
 *
 * An @earliest node keeps the position it starts at; where the log start has moved since, a lookup makes a new one.
 *
 * thread: any. locks: the table's mutex, a leaf.
 */
#ifndef FS_NODE_H
#define FS_NODE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "cluster/topics.h"
#include "fs/clusterfiles.h"
#include "store/err.h"

enum { ANY_THREAD = -1 };

struct stream;

enum node_kind { NODE_ROOT, NODE_TOPIC, NODE_PARTITION, NODE_EARLIEST, NODE_CONFIG, NODE_CLUSTER, NODE_CLUSTER_FILE };

struct node { /* what is constant may be read without a lock while the node lives */
	enum node_kind kind;
	struct topic *topic;          /* referenced; NULL for the root and .cluster */
	struct partition *partition;  /* referenced; NULL for root, topic, .config and .cluster */
	int32_t index;                /* of the partition; of a file of .cluster: which */
	_Atomic int64_t base_position; /* of an @earliest node: the view's position that is its 0; -1: not known yet, until nodes_look */

	/* under the table's lock */
	struct node *next, *prev;     /* of all nodes */
	struct node *parent;          /* holds a reference to it; NULL for the root and for topics */
	struct node **child;          /* of a topic: the current node of each partition, NULL where there is none; then those of @earliest */
	int32_t child_cap;            /* of each kind */
	struct node *config;          /* of a topic */
	uint64_t lookups;             /* the kernel's references */
	uint32_t holds;               /* children and opens */
	uint32_t writers;             /* and who else wants a nodeid of his own: readers of a compacted topic's file */
	struct stream *stream;        /* borrowed from the handle; NULL: there is none */
	pid_t kept_for;               /* the thread that alone may open it at first; ANY_THREAD */
};

struct retry; /* an OPEN that was refused and is expected to come back */

struct nodes {
	struct broker *broker;        /* borrowed */
	pthread_mutex_t lock;
	struct node root;             /* also the head of the ring of all nodes */
	struct node **topic;          /* by serial; NULL where the kernel knows none */
	size_t topic_cap;
	struct node *cluster, *cluster_file[CLUSTER_FILES]; /* NULL where the kernel knows none */
	struct retry *retries;
	mode_t root_mode;             /* of the mount point, as it was before the mount */
	uid_t root_uid;
	gid_t root_gid;
	size_t generation;            /* of the table of topics when root_mtime was taken */
	int64_t root_mtime_ms;
};

/* mount_point: mode and owner are taken from it. */
void nodes_init(struct nodes *ns, struct broker *b, const struct stat *mount_point);
void nodes_release(struct nodes *ns); /* forgets all, as the kernel has: it sends no FORGET when it unmounts */

struct node *nodes_of(struct nodes *ns, uint64_t nodeid);
uint64_t nodes_id(const struct nodes *ns, const struct node *n);

/* Finds a name and counts a lookup. thread_id: who asks. ERR_NOT_FOUND, ERR_NO_MEMORY, ERR_DELETED; those of partition_visible for @earliest. */
int nodes_lookup(struct nodes *ns, struct node *parent, const char *name, pid_t thread_id, struct node **out, struct err *e);
/* The same for a topic that is at hand, and for a partition by its number. */
int nodes_lookup_topic(struct nodes *ns, struct topic *t, struct node **out, struct err *e);
int nodes_lookup_partition(struct nodes *ns, struct node *topic, int32_t index, pid_t thread_id, struct node **out, struct err *e);
int nodes_lookup_cluster_file(struct nodes *ns, struct node *dir, enum cluster_file f, struct node **out, struct err *e);
void nodes_forget(struct nodes *ns, struct node *n, uint64_t lookups);

/* An open of it, with write access or not; counted until nodes_close. false: the thread is to look the name up again; never for ANY_THREAD, nor for
 * those of another pid namespace, which all have the id 0. */
bool nodes_open(struct nodes *ns, struct node *n, bool writes, pid_t thread_id);
void nodes_close(struct nodes *ns, struct node *n, bool writes);
/* The handle's stream tells the size from now on, until it is taken back (`on` false), before it goes. One a node: others are passed over. */
void nodes_set_stream(struct nodes *ns, struct node *n, struct stream *s, bool on);

/* The partition's name was unlinked: the next lookup makes a new node. */
void nodes_retire(struct nodes *ns, struct node *topic, int32_t index);

/* What is known of the node's partition is as it is now: that may have to wait for other brokers (partition_look). After it an @earliest node begins somewhere. ERR_DELETED, ERR_OFFLINE, ... */
int nodes_look(struct nodes *ns, struct node *n, struct err *e);

/* Whether the root lists it (its partitions are reached by name all the same). */
bool node_topic_is_listed(const struct topic *t);
/* Whether a topic of that name could not be reached, because the mount has, or will have, something else there. */
bool node_name_is_reserved(const char *name);
/* "0", "17": the number, or -1. */
int32_t node_partition_number(const char *name);

/* st_ino of a partition or, index -1, of a topic. */
uint64_t node_stable_ino(const struct topic *t, int32_t index);
uint64_t node_ino(const struct node *n);

/* All but the size of .config and of the files of .cluster, which is the length of their text. */
int node_attributes(struct nodes *ns, const struct node *n, struct stat *st, struct err *e);

#endif
