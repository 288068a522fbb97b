/*
 * placement: which brokers get the replicas of new partitions.
 *
 * What is guaranteed, as by Apache Kafka: each broker leads as many partitions as any other, or one more; replicas of a partition are on different brokers; the followers of one leader's partitions are
 * spread over all others. If every broker has a rack: no two replicas of a partition are in one rack while another rack has none of them, and each rack gets as many replicas as
 * any other where they have as many brokers. If only some have one, racks are not looked at.
 *
 * thread: any.
 */
#ifndef CLUSTER_CONTROL_PLACEMENT_H
#define CLUSTER_CONTROL_PLACEMENT_H

#include <stddef.h>
#include <stdint.h>

#include "store/err.h"

struct placement_broker { int32_t id; const char *rack; };

/*
 * Replicas of the partitions `first` up to first + partitions, into out[partitions * replication_factor], the preferred leader first. brokers: by id. leader: of partition 0, so that
 * new partitions go on where the old ones ended; -1 for a new topic. seed: moves on. ERR_OUT_OF_RANGE: fewer brokers than replicas; ERR_NO_MEMORY.
 */
int placement_make(const struct placement_broker *broker, int32_t brokers, int32_t first, int32_t partitions, int32_t replication_factor, int32_t leader, uint64_t *seed, int32_t *out, struct err *e);

#endif
