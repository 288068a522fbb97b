/*
 * join_config: the properties of topics and brokers of a cluster. They are kept in ZooKeeper, in /config; what a broker has of them in its log directories is what it has read there last.
 *
 * Reading, by a thread of its own, in the order in which it is asked to:
 *
 *  1. Registered, it lists /config/changes, with a watch, and keeps the newest number. Then it reads this broker's properties, those of all brokers, and those of every topic that the cluster is known to have.
 *  2. Whenever that list changes it is listed again. What is newer than the newest known says whose properties are others now: those are read, in the order of the numbers. Notices that are older than
 *     config.change.retention.ms are deleted on that occasion, as every Kafka broker does.
 *  3. What was read replaces what was in force. A property that is not known here, or cannot have that value, is left out with a warning; it stays in ZooKeeper.
 *  4. What could not be read is tried again until it is.
 *
 * A topic that the controller tells of for the first time has its properties before it is in the table: configs_expect, before what the controller says is done, waits for them; configs_born puts them in force; configs_arrived
 * has those read again that have changed meanwhile. Where ZooKeeper does not answer in time such a topic loses no message, and is the daemon's user's, until it does.
 *
 * Writing, by whoever changes something, at any broker:
 *
 *  1. The node is read, the change made and checked in a copy.
 *  2. One multi: the topic is still that topic, the node is set if it has the version that was read (or created), a notice is made. Refused for a version: from 1.
 *  3. It is waited for that the thread has read the node since.
 *
 * thread: configs_new, configs_stop and configs_free by one; configs_registered and configs_changed on the queue's; the rest any but that, and may block. locks: its own, below create_lock and above topics_lock.
 */
#ifndef CLUSTER_JOIN_CONFIG_H
#define CLUSTER_JOIN_CONFIG_H

#include "cluster/topics.h"
#include "cluster/zk/zk.h"

struct configs;

struct configs_options {
	struct broker *broker;
	struct zk *zk;
	int timeout_ms;      /* how long ZooKeeper is waited for by who changes or expects something */
	int64_t retention_ms; /* config.change.retention.ms */
};

int configs_new(struct configs **out, const struct configs_options *o, struct err *e); /* ERR_NO_MEMORY, ERR_LIMIT */
/* Ends the thread, and whoever waits (ERR_STOPPING). After zk_close. NULL is fine, for configs_free too. */
void configs_stop(struct configs *c);
void configs_free(struct configs *c); /* once nobody calls it any more */

void configs_registered(struct configs *c); /* in a session that is new: all of it is read again */
void configs_changed(struct configs *c);    /* the watch of /config/changes has fired */

/* ---- topics that the controller tells of ---- */

struct configs_topic { const char *name; const uint8_t *id; };
/* Waits for the properties of those that are not known here, or not as that cluster's; what is known costs a look at the table. Each is followed by one configs_arrived with the same. */
void configs_expect(struct configs *c, const struct configs_topic *v, size_t n);
void configs_arrived(struct configs *c, const struct configs_topic *v, size_t n);
/* t is on its way into the table. Does not block. locks: create_lock. */
void configs_born(struct configs *c, struct topic *t);

/* ---- changes ---- */

/* ERR_INVALID: a property; ERR_DELETED; ERR_TIMED_OUT: it may be done yet; ERR_OFFLINE, ERR_DENIED: ZooKeeper refuses; ERR_STOPPING. */
int configs_change_topic(struct configs *c, struct topic *t, const struct conf_change *v, size_t n, bool replace, bool check_only, struct err *e);
/* fallback: of all brokers, else of this one. */
int configs_change_broker(struct configs *c, bool fallback, const struct conf_change *v, size_t n, bool replace, bool check_only, struct err *e);

/* Reads what is in ZooKeeper by now of topics (NULL: none) and, where `brokers`, of the broker. Where ZooKeeper cannot be asked, or not in time, what is known stays in force. */
void configs_refresh(struct configs *c, struct topic *const *t, size_t n, bool brokers);

#endif
