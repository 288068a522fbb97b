/*
 * mirror: consumer groups in ZooKeeper, for who looks there as at those of Kafka's old consumers. Nobody reads it here, and nothing waits for it.
 *
 *   /consumers/<group>/ids/<member>               what it has subscribed to; ephemeral
 *   /consumers/<group>/owners/<topic>/<partition> the member that it is assigned to; ephemeral
 *   /consumers/<group>/offsets/<topic>/<partition> what is committed
 *
 * The old consumers' own sessions held the first two; here it is that of the group's coordinator, so they go when it goes, and the next one makes them anew. Of the group's contents nothing is copied when
 * something changes: the group is put on a list, once, and what differs by then is written when its turn comes, at most once a second. So the last value wins, and a ZooKeeper that is slow or away costs no memory.
 *
 * thread: mirror_new, mirror_stop, mirror_free by one; the queue's does the work. locks: mirror.lock, a leaf, below group.lock.
 */
#ifndef CLUSTER_GROUP_MIRROR_H
#define CLUSTER_GROUP_MIRROR_H

#include <stdbool.h>
#include <stdint.h>

#include "store/err.h"

struct blob;
struct coordinator;
struct group;
struct mirror;
struct mirrored;
struct queue;
struct zk;

/* z, q (its queue): borrowed until mirror_stop has returned. */
int mirror_new(struct mirror **out, struct coordinator *c, struct zk *z, struct queue *q, struct err *e);
void mirror_start(struct mirror *m); /* all groups that are here are written; coordinator.mirror is set */
/* After zk_close; the queue still runs. Lets go of all groups. NULL is fine. */
void mirror_stop(struct mirror *m);
void mirror_free(struct mirror *m); /* NULL is fine */

/* Something that is mirrored has changed. members: not only offsets. locks: group.lock. */
void mirror_changed(struct group *g, bool members);
/* An offset that is mirrored was removed. locks: group.lock. */
void mirror_offset_gone(struct group *g, struct blob *topic, int32_t partition);
void mirrored_free(struct mirrored *x); /* NULL is fine */

#endif
