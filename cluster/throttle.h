/*
 * throttle: replicas that are copied no faster than leader.replication.throttled.rate and follower.replication.throttled.rate say (KIP-73): those of the topics' lists, and only while they are not in
 * sync. What was taken is paid for by time, at the
 * rate as it is then: until that is over nothing more is.
 *
 * thread: any. locks: takes topic.conf_lock, where the topic has such a list at all; a throttle's is a leaf.
 */
#ifndef CLUSTER_THROTTLE_H
#define CLUSTER_THROTTLE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct broker;
struct partition;

enum throttle_side { THROTTLE_LEADER, THROTTLE_FOLLOWER, THROTTLE_SIDES };

struct throttle {
	pthread_mutex_t lock; /* a leaf */
	int64_t owed_bytes, at_ns; /* lock: what was not paid for then, of mono_now */
};

/* Whether the replica on this broker is on its topic's list. */
bool partition_is_throttled(struct partition *p, enum throttle_side side);
/* How long nothing is to be taken, in nanoseconds; 0: something may be. */
int64_t broker_throttle_wait_ns(struct broker *b, enum throttle_side side);
void broker_throttle_took(struct broker *b, enum throttle_side side, int64_t bytes);

#endif
