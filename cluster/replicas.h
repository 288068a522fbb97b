/*
 * replicas: which partitions a broker of a cluster has: made, deleted and left alone as its controller says. Their roles are in partition_role.h.
 *
 * A topic is in the table while any partition of it is here, or the controller says that it is there. One that has the name and another id was deleted while this broker was away: its directories become strays (`<t>-<n>.<digits>-stray`), which
 * nobody serves and nobody deletes.
 *
 * thread: any, one at a time. Blocks. locks: takes create_lock.
 */
#ifndef CLUSTER_REPLICAS_H
#define CLUSTER_REPLICAS_H

#include "cluster/topics.h"

/* The partition of that topic, referenced, made if it is not here. is_new: it was nowhere before; else it is not made while a log directory that may have it is out of service (ERR_OFFLINE). Its
 * name is durable after replicas_sync. ERR_NAME, ERR_INVALID (the index), ERR_NO_SPACE, ERR_IO, ERR_NO_MEMORY. */
int replicas_make(struct broker *b, const char *name, const uint8_t id[16], int32_t index, bool is_new, struct partition **out, struct err *e);
int replicas_sync(struct broker *b, struct err *e);

/* Deletes what is here of these partitions; the topic stays in the table while the controller says that there is one. Nothing of it is here: 0. */
int replicas_delete(struct broker *b, const char *name, const int32_t *index, size_t n, struct err *e);

/* What is here of a partition that leads and follows nothing becomes a stray: its topic is there, but has its replicas elsewhere. */
int replicas_set_aside(struct broker *b, const char *name, const uint8_t id[16], int32_t index, struct err *e);

/* ---- what there is in the cluster ---- */

struct replicas_told { int32_t index; bool deleted; const struct partition_metadata *metadata; }; /* deleted: its topic is being deleted, and it is there no longer */
/* What the controller says of a topic's partitions: it is in the table from then on, also where nothing of it is here. ERR_NAME, ERR_INVALID, ERR_NO_MEMORY. */
int replicas_tell(struct broker *b, const char *name, const uint8_t id[16], const struct replicas_told *v, size_t n, struct err *e);
/* Whether the controller says that there is such a topic: else what is here of it are strays. */
bool replicas_are_told(struct topic *t);
/* Of all topics but those that `keep` wants there is nothing any more, as far as the controller knows: what is here of them are strays. */
void replicas_forget(struct broker *b, bool (*keep)(void *arg, const uint8_t id[16]), void *arg);

/* Whether the controller has told of that many partitions of the topic with this id. What leads here has been given its role before that. */
bool replicas_have_heard(struct broker *b, const uint8_t id[16], int32_t partitions);
/* Who wants to know when there may be something new to be heard. */
struct replicas_listener {
	void (*heard)(struct replicas_listener *l); /* on the thread that was told; may not block, nor listen or unlisten */
	struct replicas_listener *next, **back;     /* private */
};
void replicas_listen(struct broker *b, struct replicas_listener *l);
void replicas_unlisten(struct broker *b, struct replicas_listener *l); /* when this returns no call is under way. One that does not listen is fine */
/* Those look again, though nothing was told: what they wait for may be over. */
void replicas_wake(struct broker *b);

/* Calls fn for each partition that is here; without a lock. */
void replicas_each(struct broker *b, void (*fn)(void *arg, struct partition *p), void *arg);

#endif
