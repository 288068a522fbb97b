/*
 * broker: puts the parts together: the log directories and their lock, the topic table, the agent, the worker pool.
 *
 * One broker a process is usual, but nothing here is global. Open order: lock DATA, read checkpoints, load topics, open and recover what was
 * written since the last checkpoint, start the agent. Close order: refuse new appends, wait for those queued, flush, checkpoints,
 * clean-shutdown marker, release the lock.
 *
 * thread: open and close by one thread; the rest any.
 */
#ifndef CLUSTER_BROKER_H
#define CLUSTER_BROKER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "store/conf.h"
#include "store/err.h"

struct broker;
struct pool;
struct role_calls;
struct topic_calls;
struct property_calls;

extern const struct conf_property cluster_properties[];

struct broker_options {
	const char *data;          /* the first log directory; borrowed during open */
	const struct conf *conf;   /* broker-level values; borrowed for the broker's life */
	bool read_only;            /* nothing is deleted, and a log directory that may not be written, of a clean stop, is used as it is */
	const char *label;         /* what the lock file tells others who holds it: the mount point, or what else it is; NULL */
	bool (*holder_is_gone)(void *arg, const char *label); /* NULL, or: whether the holder with that label no longer serves (its mount is gone), so that it is
	                              worth waiting for it to stop */
	void *arg;
	int wait_ms;               /* how long to wait for a holder that is stopping */
	const struct role_calls *roles; /* NULL: it is by itself, and leads all that it has. Else it is of a cluster, leads and follows as partition_become says, and asks these
	                              (cluster/partition_role.h); borrowed for the broker's life */
	const struct topic_calls *topic_calls; /* with roles, and only then; borrowed likewise (cluster/topics.h) */
	const struct property_calls *property_calls; /* the same */
	void (*progress)(void *arg, const char *what, uint64_t done, uint64_t total); /* NULL, or told of long work during open */
};

/* ERR_BUSY with the holder's pid and label in the sentence; ERR_VERSION; ERR_READ_ONLY; ERR_DENIED; ERR_CORRUPT where the whole of DATA cannot be used. A single bad
 * partition is no error here: it is offline, reported by diag and by partition_describe. */
int broker_open(struct broker **out, const struct broker_options *o, struct err *e);

/* The clean stop. Everything that uses partitions must be released before. Returns 0 or the first error met (data may then not be on disk; the marker is not written). */
int broker_close(struct broker *b, struct err *e);

int32_t broker_id(const struct broker *b);
const char *broker_cluster_id(const struct broker *b); /* of the first log directory's meta.properties; "": of none yet */
const char *broker_data(const struct broker *b);
const struct conf *broker_conf(const struct broker *b);
struct pool *broker_pool(struct broker *b);     /* for work that may block */
struct timer_heap *broker_timers(struct broker *b); /* fired by the agent's scheduler thread; callbacks must not block */

/* From now on what is not here is read by it (cluster/remote/remote.h), until NULL is set; nothing of the kind may be under way then. */
struct remote;
void broker_set_remote(struct broker *b, struct remote *r);
struct remote *broker_remote(const struct broker *b); /* NULL: there is none */

/* ---- of a cluster: what its log directories know of that (broker_cluster.c) ---- */

/* Whether everything that was acknowledged before the last stop is in them: this is still the same boot of the kernel, or the stop was clean; and it was so before. */
bool broker_is_intact(const struct broker *b);
/* It is from now on, durably: what is missing here counts nowhere any more. */
int broker_set_intact(struct broker *b, struct err *e);
/* They belong to that cluster, durably, where they did to none. */
int broker_enter_cluster(struct broker *b, const char *cluster_id, struct err *e);

/* Of the filesystem that new messages would go to, in bytes and inodes (statvfs). */
struct broker_space { uint64_t total_bytes, free_bytes, available_bytes, total_files, free_files; };
int broker_space(struct broker *b, struct broker_space *s, struct err *e);

/* One log directory: index from 0. false: there are no more. */
struct broker_dir { const char *path; bool offline; uint64_t total_bytes, available_bytes; }; /* path: borrowed; bytes 0: not known */
bool broker_dir(struct broker *b, int index, struct broker_dir *d);

/* Log directories that are out of service after an I/O error; 0: none. */
int broker_offline_dirs(struct broker *b);

#endif
