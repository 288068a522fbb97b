/*
 * fetcher: the threads that make followers' logs what their leaders' are.
 *
 * For each leader broker there are up to num.replica.fetchers threads, each with one connection there and its share of the partitions. A thread starts with its first partition, and ends some
 * seconds after its last has gone. What becomes of a partition is done by cluster/partition_role.h (the functions of followers), which refuses whatever came of another role; so nobody has to wait for
 * a fetcher before a partition gets another role. cluster/replica/README.md has the steps.
 *
 * Owned by the cluster's shell, which tells it what partition_become was told. A partition that is followed is referenced, and acquired only while something of it is written: one where nothing happens
 * may be closed.
 *
 * thread: any, but for fetcher_new and fetcher_free. locks: one mutex, a leaf, held for moments.
 */
#ifndef CLUSTER_REPLICA_FETCHER_H
#define CLUSTER_REPLICA_FETCHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/err.h"

struct broker;
struct partition;
struct fetcher;

struct fetcher_calls { /* what it has to be told; called on its threads, with no lock held; must not block */
	/* "HOST:PORT" of a broker, as client_open takes it. false: it is not known just now, and asked for again later. */
	bool (*address)(void *arg, int32_t broker_id, char *text, size_t n);
	/* Of this broker's present registration; -1: it has none. */
	int64_t (*broker_epoch)(void *arg);
	void *arg;
};

/* b, calls->arg: borrowed until fetcher_free. ERR_NO_MEMORY, ERR_LIMIT; ERR_INVALID: the properties do not go together. */
int fetcher_new(struct fetcher **out, struct broker *b, const struct fetcher_calls *calls, struct err *e);
/* All threads end, whatever they wait for. Before broker_close. NULL is fine. */
void fetcher_free(struct fetcher *f);

/* p follows `leader` in `leader_epoch`, as partition_become has made it: from another leader, and in another epoch, from the beginning. What is known already changes nothing, unless it had given up.
 * ERR_NO_MEMORY, ERR_LIMIT (threads): it is not followed then. */
int fetcher_follow(struct fetcher *f, struct partition *p, int32_t leader, int32_t leader_epoch, struct err *e);
/* It does not follow any more. What of it is under way is refused by its new role. */
void fetcher_unfollow(struct fetcher *f, struct partition *p);

/* Partitions that are followed, and those of them that wait: for another role, after an error that time does not mend. */
struct fetcher_counts { size_t followed, given_up, threads; };
void fetcher_count(struct fetcher *f, struct fetcher_counts *c);

#endif
