/*
 * remote: reads partitions that other brokers have, for a mount on a host that has nothing of them (or less than it has shown). README.md has the steps.
 *
 * What is asked: ViewLookup, for where a file begins and ends and where a record stands in it; and ordinary Fetch, for its batches. Who is asked: the leader, as the controller has told of it; for bytes, any replica
 * if the leader cannot be had.
 *
 * A partition's struct remote_view is made with the first question, and is its own (partition.elsewhere). What it shows never goes back, but where the leader's log ends before it: that is counted in partition.cuts.
 *
 * Calls block, on the network: they are for the threads of remote_pool. thread: any, one at a time for a cursor. locks: its own, leaves, none held over the network.
 */
#ifndef CLUSTER_REMOTE_REMOTE_H
#define CLUSTER_REMOTE_REMOTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "cluster/partition.h"
#include "store/conf.h"

struct broker;
struct pool;
struct remote;
struct remote_view;
struct remote_cursor;

extern const struct conf_property remote_properties[];

struct remote_calls {
	/* "HOST:PORT" of a broker, as client_open takes it. false: it is not known just now. Must not block. */
	bool (*address)(void *arg, int32_t broker_id, char *text, size_t n);
	void *arg;
};

/* b, calls->arg: borrowed until remote_free. ERR_NO_MEMORY, ERR_LIMIT. broker_set_remote puts it in its place. */
int remote_new(struct remote **out, struct broker *b, const struct remote_calls *calls, struct err *e);
/* Whatever waits ends at once with ERR_STOPPING, and nothing is asked any more. NULL is fine, for the next two too. */
void remote_stop(struct remote *r);
bool remote_is_stopping(const struct remote *r);
/* Once no call is under way and no cursor is left. Waits for what was given to its pool. */
void remote_free(struct remote *r);
/* Threads for what may wait for other brokers. */
struct pool *remote_pool(struct remote *r);

/* Of the calling thread, until it is set to NULL: whether who waits has given up. It is asked before all brokers are asked once more; if so, the call ends with ERR_INTERRUPTED. */
void remote_set_given_up(bool (*given_up)(void *arg), void *arg);
bool remote_given_up(void);

/* ---- for cluster/partition_read.c; p has no replica here that would do ---- */

void remote_view_free(struct remote_view *x); /* NULL is fine */
/* What was known last; false: nothing. x: NULL is fine. */
bool remote_known(struct remote_view *x, struct visible *v);
/* The greatest end position that was shown. Takes no lock. */
int64_t remote_shown(const struct remote_view *x);
/* As partition_expect. */
void remote_expect(struct partition *p, int64_t end_offset);
/* As partition_look. */
int remote_look(struct remote *r, struct partition *p, struct visible *v, struct err *e);

/* As partition_locate. Waits for who has it, for remote.read.timeout.ms. */
int remote_locate(struct remote *r, struct partition *p, int64_t position, int64_t *offset, int64_t *record_position, struct err *e);

struct remote_cursor *remote_cursor_new(struct remote *r, struct partition *p); /* NULL: no memory. p: borrowed */
void remote_cursor_rest(struct remote_cursor *c);
void remote_cursor_free(struct remote_cursor *c); /* NULL is fine */
/* As partition_read. */
ssize_t remote_cursor_read(struct remote_cursor *c, int64_t position, void *buf, size_t n, struct err *e);
/* Of a compacted partition: what comes next, from its start on, whatever its position. */
ssize_t remote_cursor_read_on(struct remote_cursor *c, void *buf, size_t n, struct err *e);
/* The next record to be given by that is at this offset or behind it. */
int64_t remote_cursor_offset(const struct remote_cursor *c);

#endif
