/*
 * topics: the table of topics: create, find, list, configure, add partitions, delete.
 *
 * A topic is reference-counted: a handle that outlives its deletion still holds a struct topic, whose partitions then answer ERR_DELETED. Its
 * properties are kept in `topic.properties` (topic_file.h) in the directory of its partition 0; the mount's owner and modes are among them. A name is
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
bool topic_is_deleted(const struct topic *t);
int64_t topic_created_ms(const struct topic *t);
void topic_id_text(const struct topic *t, char text[23]); /* base64url, 22 characters and NUL */

/* A referenced partition, or NULL past the last. */
struct partition *topic_partition(struct topic *t, int32_t index);

/* A referenced topic, or NULL. */
struct topic *topics_find(struct broker *b, const char *name);
/* Calls fn for every topic in name order, without the table's lock held; fn returns false to stop. after: NULL, or only names behind this one. */
void topics_list(struct broker *b, const char *after, bool (*fn)(void *arg, struct topic *t), void *arg);
size_t topics_count(struct broker *b);
size_t topics_generation(struct broker *b); /* changes whenever a topic comes or goes */

/* partitions: 0 takes num.partitions. owner NULL: the daemon's user, 0755/0644. ERR_EXISTS, ERR_NAME, ERR_NO_SPACE, ... On success a referenced topic in *out (out NULL: none). */
int topics_create(struct broker *b, const char *name, int32_t partitions, const struct topic_owner *owner, struct topic **out, struct err *e);

/* ERR_NOT_EMPTY where any partition holds a message and only_if_empty. The directories are renamed to <name>-<n>.<uuid>-delete at once and removed by the agent; open
 * handles get ERR_DELETED. */
int topics_delete(struct broker *b, struct topic *t, bool only_if_empty, struct err *e);

/* Adds partition `index`, which must be the next (else ERR_INVALID; ERR_EXISTS below). */
int topic_add_partition(struct topic *t, int32_t index, struct err *e);

struct topic_owner topic_owner(struct topic *t);
int topic_set_owner(struct topic *t, const struct topic_owner *o, struct err *e);

/* One or more lines "name=value" ("name=" takes the property back): all checked, then all set and durable, or none. In force when it returns. */
int topic_configure(struct topic *t, const char *text, size_t n, struct err *e);
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

#endif
