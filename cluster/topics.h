/*
 * topics: the table of topics: create, find, list, configure, add partitions, delete.
 *
 * A topic is reference-counted: a handle that outlives its deletion still holds a struct topic, whose partitions then answer ERR_DELETED. Its
 * properties are kept in `topic.properties` (topic_file.h) in the directory of its partition 0 (in a cluster of the first that is here); the mount's owner and modes are among them. A name is
 * refused as Kafka would: empty, "." or "..", over 249 bytes, anything but [a-zA-Z0-9._-]; also names that differ from an existing one
 * only by '.' against '_'.
 *
 * thread: any. locks: the table's rwlock, held for the table alone, never over I/O but for create and delete, which have a mutex of their own.
 */
#ifndef CLUSTER_TOPICS_H
#define CLUSTER_TOPICS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "cluster/partition.h"
#include "store/conf.h"
#include "store/err.h"

struct topic_owner { uid_t uid; gid_t gid; mode_t dir_mode, file_mode; };

void topic_ref(struct topic *t);
void topic_unref(struct topic *t);
const char *topic_name(const struct topic *t);
int topic_serial(const struct topic *t);        /* a small number, unique in this process: for inode numbers */
int32_t topic_partition_count(const struct topic *t);
bool topic_is_internal(const struct topic *t);
/* Kafka's own, which the mount does not list. Any other name may begin with underscores. */
bool topic_name_is_internal(const char *name);
bool topic_is_deleted(const struct topic *t);   /* or it is a stray, and nobody is to find it */
bool topic_is_compacted(const struct topic *t); /* cleanup.policy has compact */
int64_t topic_created_ms(const struct topic *t);
void topic_id_text(const struct topic *t, char text[23]); /* base64url, 22 characters and NUL */
const uint8_t *topic_id_bytes(const struct topic *t);     /* 16 */

/* A referenced partition, or NULL past the last. */
struct partition *topic_partition(struct topic *t, int32_t index);

/* A referenced topic, or NULL. What follows knows of no strays, which are here and of which the cluster knows nothing, but for topics_list. */
struct topic *topics_find(struct broker *b, const char *name);
struct topic *topics_find_n(struct broker *b, const char *name, size_t n);
/* One of another name that differs from this only by '.' against '_'. */
struct topic *topics_find_alike(struct broker *b, const char *name);
struct topic *topics_find_id(struct broker *b, const uint8_t id[16]);
/* All topics in name order, each referenced, for topics_drop. NULL: no memory. */
struct topic **topics_take(struct broker *b, size_t *count);
void topics_drop(struct topic **list, size_t count); /* NULL with 0 is fine */
/* Calls fn for each of them, without the table's lock held; fn returns false to stop. */
void topics_list(struct broker *b, bool (*fn)(void *arg, struct topic *t), void *arg);
size_t topics_count(struct broker *b);
size_t topics_generation(struct broker *b); /* changes whenever a topic comes or goes */

/* partitions: 0 takes num.partitions. owner NULL: the daemon's user, 0755/0644. ERR_EXISTS, ERR_NAME, ERR_NO_SPACE, ... On success a referenced topic in *out (out NULL: none). */
int topics_create(struct broker *b, const char *name, int32_t partitions, const struct topic_owner *owner, struct topic **out, struct err *e);

struct topic_plan { /* zeros: the defaults, as above */
	const char *name;
	int32_t partitions;
	int16_t replication_factor;    /* of a cluster; 0 takes default.replication.factor */
	const struct topic_owner *owner;
	const struct conf_change *set; /* properties that it has from the beginning */
	size_t set_count;
	bool check_only;               /* nothing is made, and *out is NULL */
};
/* The same, with more to say. ERR_INVALID for the number of partitions, or a property. */
int topics_make(struct broker *b, const struct topic_plan *plan, struct topic **out, struct err *e);
/* Whether a topic could have those properties: ERR_INVALID. */
int topics_check_properties(struct broker *b, const struct conf_change *v, size_t n, struct err *e);
/* Whether topics are made elsewhere, in a cluster. */
bool topics_are_elsewhere(const struct broker *b);
/* There: it is asked for in the background, once at a time for each name, and does not block. The plan's name, partitions, replication_factor and set are copied; what goes wrong is logged, and asked for by whoever
 * wants it again. */
void topics_make_soon(struct broker *b, const struct topic_plan *plan);

/* ERR_NOT_EMPTY where any partition holds a message and only_if_empty. The directories are renamed to <name>-<n>.<uuid>-delete at once and removed by the agent; open
 * handles get ERR_DELETED. */
int topics_delete(struct broker *b, struct topic *t, bool only_if_empty, struct err *e);

/* One may be told of each deletion once it is done, on the thread that did it, with no lock held that appending needs. fn NULL: no longer; when this returns no call is under way. */
void topics_on_deleted(struct broker *b, void (*fn)(void *arg, const char *name), void *arg);

/* Adds partition `index`, which must be the next (else ERR_INVALID; ERR_EXISTS below). */
int topic_add_partition(struct topic *t, int32_t index, struct err *e);
/* Adds partitions until there are `count`, of which there were `from` when that was decided: ERR_BUSY where it has another number by now. Those made before a failure stay. */
int topic_grow(struct topic *t, int32_t from, int32_t count, struct err *e);

/* Of a cluster (broker_options.topic_calls): what is done to topics is done where the controller is. topics_make, topic_grow and topics_delete ask these; each blocks until it is done and this broker has heard of it, or for
 * request.timeout.ms (ERR_TIMED_OUT: it may be done yet). ERR_OFFLINE: no controller could be asked. Called with no lock held. */
struct topic_calls {
	int (*create)(void *arg, const struct topic_plan *plan, struct err *e);
	void (*create_soon)(void *arg, const struct topic_plan *plan); /* as topics_make_soon */
	int (*grow)(void *arg, struct topic *t, int32_t from, int32_t count, struct err *e); /* only where it has `from`: ERR_EXISTS where there are more already, ERR_BUSY where there are fewer */
	int (*destroy)(void *arg, struct topic *t, bool only_if_empty, struct err *e);
	void *arg;
};

/* Of a cluster (broker_options.property_calls): properties are changed where the cluster keeps them. topic_change and topic_set_owner ask `change`, broker_configure asks `configure`; each blocks until it is done and in force here, or for
 * request.timeout.ms. Called with no lock held. */
struct property_calls {
	int (*change)(void *arg, struct topic *t, const struct conf_change *v, size_t n, bool replace, bool check_only, struct err *e);
	int (*configure)(void *arg, bool fallback, const struct conf_change *v, size_t n, bool replace, bool check_only, struct err *e);
	/* t is new here, and on its way into the table: topic_take_properties or topic_await_properties is called for it. Does not block. locks: create_lock. */
	void (*born)(void *arg, struct topic *t);
	void *arg;
};

struct topic_owner topic_owner(struct topic *t);
int topic_set_owner(struct topic *t, const struct topic_owner *o, struct err *e);

/* One or more lines "name=value" ("name=" takes the property back): all checked, then all set and durable, or none. In force when it returns. */
int topic_configure(struct topic *t, const char *text, size_t n, struct err *e);
/* The same for a list of them. replace: what is not named is taken back. check_only: nothing is changed. */
int topic_change(struct topic *t, const struct conf_change *v, size_t n, bool replace, bool check_only, struct err *e);
/* What v may be, in sight of each other: one value that contradicts another is ERR_INVALID. */
int topic_check_together(const struct conf *c, struct err *e);

/* Of a cluster: its properties are these, as the cluster keeps them (/config/topics), in place of all before; what is not known here, or cannot be, is left out with a warning. What is kept of them in a log directory is for the next
 * start. ERR_NO_MEMORY, or the error of keeping them: they are in force all the same. */
int topic_take_properties(struct topic *t, const struct conf_change *v, size_t n, struct err *e);
/* They are not known yet: nothing of it is deleted, and it is the daemon's user's, until they are. */
void topic_await_properties(struct topic *t);
/* Whether either was called: the cluster has this topic. */
bool topic_has_cluster_properties(const struct topic *t);
/* What sets this owner and these modes, for `create`, and for what topic_take_properties gets. text: what the changes borrow from. */
enum { TOPIC_OWNER_CHANGES = 4 };
struct topic_owner_text { char uid[24], gid[24], dir[24], file[24]; };
void topic_owner_changes(const struct topic_owner *o, struct topic_owner_text *text, struct conf_change v[TOPIC_OWNER_CHANGES]);

/* Whether nothing of it is deleted whatever its properties say: Kafka made it, and retention was not asked for here; or it is internal. */
bool topic_keeps_all(struct topic *t);
/* Whether its cleanup.policy lets messages be deleted for their age, or by a client. */
bool topic_may_delete(struct topic *t);
/* What `cat t/.config` shows: the properties set, then, as comments, every other with its value in force. Appended. */
struct wr;
int topic_print_config(struct topic *t, struct wr *text);

/* One value in force for this topic (see conf.h). */
int64_t topic_conf_int(struct topic *t, const char *name);
bool topic_conf_bool(struct topic *t, const char *name);
enum acks topic_acks(struct topic *t);
/* Bumped by every change of the properties: who caches values compares. */
uint32_t topic_conf_generation(const struct topic *t);
/* How batches for this topic are to be made now (codec, level, timestamp type, limits); producer fields -1. */
void topic_batch_style(struct topic *t, struct batch_style *style);
/* What batches of clients must be like now, and become (store/ingest.h). */
struct ingest_rule;
void topic_ingest_rule(struct topic *t, struct ingest_rule *rule);

#endif
