/*
 * asking: what a request wants of the controller of a cluster, topic by topic. All of it is asked at once, and no thread waits.
 *
 *  1. asking_new, in the handler, which notes what is wanted of which topic: asking_create and so on. What they are given is copied.
 *  2. asking_go: the call is asking's from here on.
 *  3. `answered` puts what came of a topic into the response, once for each, in no order: the controller's answer or, at the request's timeout, KAFKA_REQUEST_TIMED_OUT. What was asked may be done yet, then.
 *  4. The call is answered when all topics are, and this broker has heard of those that were made: whoever asks it next finds them.
 *
 * thread: asking_go and before: the handler's; `answered` is called on any, one at a time. locks: its own, over `answered`.
 */
#ifndef CLUSTER_API_ASKING_H
#define CLUSTER_API_ASKING_H

#include "cluster/api/call.h"
#include "cluster/join.h"

struct asking;

typedef void asking_answered(struct call *c, void *response, int32_t index, int16_t error, const char *message); /* message: NULL for none */

/* For at most n topics. response: in the call's memory. NULL: no memory. */
struct asking *asking_new(struct call *c, int32_t n, int32_t timeout_ms, void *response, asking_answered *answered);

/* index: the caller's, handed to `answered`. KAFKA_UNKNOWN_SERVER_ERROR comes of no memory. */
void asking_create(struct asking *a, int32_t index, const struct brain_new_topic *t);
void asking_grow(struct asking *a, int32_t index, const struct controller_partitions *p);
void asking_delete(struct asking *a, int32_t index, const struct controller_deletion *d);

void asking_go(struct asking *a);

#endif
