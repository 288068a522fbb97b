/*
 * remote: a cluster as the commands of groups and topics see it, over Kafka's protocol: spoolfs or Apache Kafka, one broker or many.
 *
 * Connections are opened as they are needed, and kept: to whom the user named, to a group's coordinator, to the leaders of partitions. What may be answered by "not yet"
 * or "not me" (a coordinator that is loading, a leader that moved) is asked again until the timeout.
 *
 * thread: one.
 */
#ifndef FS_REMOTE_H
#define FS_REMOTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cluster/wire/client.h"
#include "cluster/wire/errors.h"

struct remote_broker { int32_t id, port; const char *host; struct client *client; };

struct remote {
	struct arena arena;        /* for what lives until remote_release */
	struct client *first;      /* to whom the user named */
	struct remote_broker *broker;
	size_t broker_count;
	int timeout_ms;
};

enum { REMOTE_ANY = -1 }; /* as a broker's id: the one that the user named */

/* addresses: HOST[:PORT] as of client_open, more of them after commas: the first that answers is taken. Errors as of client_open. */
int remote_open(struct remote *r, const char *addresses, int timeout_ms, struct err *e);
void remote_release(struct remote *r);

/* Zeroed, until remote_release. NULL with e set. */
void *remote_get(struct remote *r, size_t n, struct err *e);
char *remote_text(struct remote *r, struct wire_string s, struct err *e); /* a copy with NUL; null is "" */

/* One request to one broker. What response points to is borrowed until the next to the same broker. */
int remote_call(struct remote *r, int32_t broker, int api_key, const void *request, void *response, struct err *e);

/* The broker that answers for the group. */
int remote_coordinator(struct remote *r, const char *group, int32_t *broker, struct err *e);
/* A request to the group's coordinator, again while the code that error_of finds in the response says that it is not ready, or is another. */
int remote_group_call(struct remote *r, const char *group, int api_key, const void *request, void *response, int16_t (*error_of)(const void *response), struct err *e);

/* ---- partitions ---- */

struct remote_place { /* a partition, and an offset in it that was asked for */
	const char *topic;
	int32_t partition;
	int32_t leader;        /* -1: none */
	int16_t error;         /* Kafka's code: of the leader, then of the offset */
	int64_t offset;        /* -1: there is none */
};

/* In the order in which the functions below want them. */
int remote_place_order(const void *a, const void *b);

/* ERR_NOT_FOUND: there is no such topic. */
int remote_partition_count(struct remote *r, const char *topic, int32_t *count, struct err *e);
/* Sets leader and error of each. v: sorted. */
int remote_find_leaders(struct remote *r, struct remote_place *v, size_t n, struct err *e);
/* Sets offset and error of each that has a leader. timestamp: ms, or one of these. v: sorted. */
enum { REMOTE_LATEST = -1, REMOTE_EARLIEST = -2 };
int remote_list_offsets(struct remote *r, struct remote_place *v, size_t n, int64_t timestamp, struct err *e);

#endif
