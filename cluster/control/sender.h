/*
 * sender: what one registration of a broker is told, one request after the other, by a thread of its own: a broker that is slow or hangs keeps nobody else waiting.
 *
 * It keeps its connection open also while there is nothing to say: where it breaks and the host then refuses connections, the broker's process has ended, long before its session.
 *
 * A sender is made and ended on the queue's thread, and calls back there. Its thread waits for the queue after each request, so what a response points to stays. An ended sender breaks off what
 * it does and frees itself.
 */
#ifndef CLUSTER_CONTROL_SENDER_H
#define CLUSTER_CONTROL_SENDER_H

#include <stdbool.h>
#include <stdint.h>

#include "cluster/wire/api.h"
#include "cluster/zk/queue.h"

struct sender;

struct sender_options {
	struct queue *queue;
	int32_t broker;
	int64_t epoch;
	const char *host; /* copied */
	int32_t port;
	int timeout_ms;
	/* On the queue's thread, never once it is ended: */
	void (*answered)(void *arg, struct sender *s, const void *response); /* NULL: it did not arrive, or no answer came */
	void (*refused)(void *arg, struct sender *s);                        /* at most once: nobody listens there */
	void (*gone)(void *arg);                                             /* of an ended one: the last that is heard of it */
	void *arg;
};

/* ERR_NO_MEMORY, ERR_LIMIT. */
int sender_new(struct sender **out, const struct sender_options *o, struct err *e);
void sender_end(struct sender *s);

int32_t sender_broker(const struct sender *s);
int64_t sender_epoch(const struct sender *s);
bool sender_goes_to(const struct sender *s, const char *host, int32_t port);
bool sender_is_idle(const struct sender *s);
/* Sends it; the message is copied. s is idle. ERR_NO_MEMORY, ERR_INVALID: it stays idle. */
int sender_send(struct sender *s, int api_key, const void *message, struct err *e);

#endif
