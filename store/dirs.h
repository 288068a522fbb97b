/*
 * dirs: a log directory: its lock, its meta.properties, the names of what lies in it.
 *
 *   .lock                        held by an fcntl(2) write lock (as Kafka does), so that two processes never share the directory. Its text is
 *                                for people and for who waits: "PID\nSTATE\nLABEL\n", state "serving" or "stopping"
 *   spoolfs.reserve             a little space held back, so that messages can be deleted on a full disk
 *   spoolfs.data-id              of a cluster: what these log directories are known by there, for ever; in the first of them
 *   spoolfs.intact               of a cluster: the boot of the kernel in which everything that was acknowledged was known to be in this directory
 *   spoolfs.session              of a cluster: the session with ZooKeeper, for the process after this one; in the first of them
 *   meta.properties              Kafka's; written as version 0 where there is none; a foreign one stays as it is
 *   <topic>-<n>/                 a partition; with ".<32 hex digits>-delete" behind: one being deleted; anything else, Kafka's "-stray" and "-future" too, is left
 *                                alone
 *
 * thread: one at a time.
 */
#ifndef STORE_DIRS_H
#define STORE_DIRS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "store/checkpoint.h"
#include "store/err.h"

#define DATA_ID_FILE "spoolfs.data-id"
#define INTACT_FILE "spoolfs.intact"
#define SESSION_FILE "spoolfs.session"

struct dir_lock { int fd; };

struct dir_holder {
	pid_t pid;        /* 0: not visible from here (another pid namespace, or a lock over a network) */
	bool stopping;
	char label[4096]; /* the mount point, or in a word what it is that has none; "" where unknown */
};

/* Takes the lock without waiting. ERR_BUSY fills *holder. The lock belongs to the process: it does not survive fork(2), and closing any other
 * descriptor of the file in this process would drop it. */
int dir_lock_take(struct dir_lock *l, const char *dir, const char *label, struct dir_holder *holder, struct err *e);
/* The same where the directory may not be written: others may read it too, but nobody may have it for writing. Without a .lock nobody can. */
int dir_lock_share(struct dir_lock *l, const char *dir, struct dir_holder *holder, struct err *e);
/* From now on others are told to wait for us rather than refused. */
void dir_lock_stopping(struct dir_lock *l, const char *label);
void dir_lock_release(struct dir_lock *l);
/* Who holds it, without trying to take it. 1: *holder is filled; 0: nobody; or an error. */
int dir_lock_holder(const char *dir, struct dir_holder *holder, struct err *e);

struct dir_meta {
	int version;          /* 0 or 1 */
	int32_t broker_id;    /* broker.id or node.id; -1 where there is none */
	char cluster_id[64];  /* "": it belongs to none yet */
};

/* ERR_NOT_FOUND, ERR_CORRUPT, ERR_VERSION (above 1). */
int dir_meta_load(const char *dir, struct dir_meta *m, struct err *e);
int dir_meta_write(const char *dir, const struct dir_meta *m, struct err *e);

enum dir_entry_kind { DIR_PARTITION, DIR_DELETED, DIR_OTHER };

struct dir_entry {
	enum dir_entry_kind kind;
	char topic[TOPIC_NAME_MAX + 1]; /* of a partition */
	int32_t partition;
};

/* Whether a file's name has that end, and something before it. */
bool name_ends(const char *name, const char *end);

/* What a directory's name says. */
void dir_entry_parse(const char *name, struct dir_entry *d);

/* Whether Kafka would take the name for a topic; else a sentence that says why not (ERR_NAME; ERR_TOO_LARGE over 249 bytes). */
int topic_name_check(const char *name, struct err *e);
/* They are not the same, but differ only by '.' against '_': Kafka's metrics cannot tell them apart, so it refuses the second. */
bool topic_names_collide(const char *a, const char *b);

/* A random version 4 uuid as Kafka writes it: 22 characters of base64url. */
void uuid_text_new(char text[TOPIC_ID_CHARS + 1]);
/* The 16 bytes that such a text stands for; anything but base64url counts as 0. And back. */
void uuid_bytes(const char *text, uint8_t bytes[16]);
void uuid_text(const uint8_t bytes[16], char text[TOPIC_ID_CHARS + 1]);

/* partition.metadata ("version: 0", "topic_id: ..."). load: ERR_NOT_FOUND, ERR_CORRUPT. */
int partition_metadata_load(const char *partition_dir, char topic_id[TOPIC_ID_CHARS + 1], struct err *e);
int partition_metadata_write(const char *partition_dir, const char *topic_id, struct err *e);

#endif
