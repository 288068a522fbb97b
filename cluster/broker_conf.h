/*
 * broker_conf: properties that are changed while the broker runs, as Kafka's dynamic configuration (KIP-226): for this broker, and as a fallback for all.
 *
 * What can be changed so is what a topic takes that does not set it itself (log.retention.ms, message.max.bytes, compression.type, ...), and producer.id.expiration.ms. It wins over
 * what the broker was started with, is in force for every topic at once, and is kept in the first log directory, in two properties files.
 *
 * thread: any.
 */
#ifndef CLUSTER_BROKER_CONF_H
#define CLUSTER_BROKER_CONF_H

#include <stdbool.h>
#include <stdint.h>

#include "store/conf.h"
#include "store/err.h"

struct broker;
struct topic;
struct defaults;

bool broker_conf_is_dynamic(const struct conf_schema *s, const struct conf_property *row);

/* All of it checked, then in force and durable, or nothing (check_only: never). fallback: for all brokers. replace: what is not named is taken back. Every name is of a dynamic
 * property, else ERR_INVALID. */
int broker_configure(struct broker *b, bool fallback, const struct conf_change *v, size_t n, bool replace, bool check_only, struct err *e);

/* Of a cluster: those of this broker, or of all, are these, as the cluster keeps them (/config/brokers), in place of all before; what cannot be changed at run time here is left out. The file is for the next start.
 * ERR_NO_MEMORY, or the error of writing that: they are in force all the same. */
int broker_take_properties(struct broker *b, bool fallback, const struct conf_change *v, size_t n, struct err *e);

/* A dynamic property that is the broker's alone. */
int64_t broker_conf_int(struct broker *b, const char *name);

/* One moment's properties, each level the parent of the one above it: what was started with, set for all brokers, set for this one and, where a topic was asked for, set for that. */
struct conf_levels {
	const struct conf *fixed, *fallback, *own; /* borrowed until released */
	struct conf *topic;                        /* NULL for no topic */
	struct defaults *defaults;                 /* private */
};
int conf_levels_take(struct broker *b, struct topic *t, struct conf_levels *l, struct err *e); /* t NULL: none. ERR_NO_MEMORY */
void conf_levels_release(struct conf_levels *l);

#endif
