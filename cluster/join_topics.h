/*
 * join_topics: what is done to topics of a cluster by its brokers themselves: mkdir, touch, rmdir in a mount, topics that are made by themselves. Anybody may; the controller is asked, over a connection of its
 * own, also where it is this broker. Not to be told from what a client asks for, but by fields of our own.
 *
 *  1. Whoever wants it waits, on its own thread. The controller's place is looked up, and it is asked; if there is none, it cannot be reached or is none any more, that is done again, until request.timeout.ms are over.
 *  2. What an attempt without an answer has done is known by the topic's id, which is chosen here: a topic that exists already, with that id, was made by it.
 *  3. This broker hears of it (replicas.h): what it does next finds what was made, or nothing of what was deleted.
 *
 * What nobody waits for (create_soon) is done by one thread, in turn.
 *
 * thread: new, start, stop, free by one; the calls any. locks: its own, a leaf.
 */
#ifndef CLUSTER_JOIN_TOPICS_H
#define CLUSTER_JOIN_TOPICS_H

#include "cluster/join.h"
#include "cluster/topics.h"

struct join_topics;

int join_topics_new(struct join_topics **out, struct join *j, const struct conf *c, struct err *e); /* c: borrowed */
const struct topic_calls *join_topics_calls(struct join_topics *t);
int join_topics_start(struct join_topics *t, struct broker *b, struct err *e); /* the thread; ERR_LIMIT */
/* Nobody waits any longer: ERR_STOPPING. */
void join_topics_stop(struct join_topics *t); /* NULL is fine, for join_topics_free too */
void join_topics_free(struct join_topics *t);

#endif
