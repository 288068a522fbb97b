/*
 * ops_internal: what the files of ops share. ops.c has errors, names, attributes and the session; ops_dirs.c makes, lists and deletes topics and partitions;
 * ops_files.c opens, reads, writes and locks.
 */
#ifndef FS_OPS_INTERNAL_H
#define FS_OPS_INTERNAL_H

#include "fs/ops.h"

#include <pthread.h>

#include "cluster/topics.h"
#include "fs/controlfile.h"
#include "fs/locks.h"
#include "fs/node.h"
#include "fs/reader.h"
#include "fs/writer.h"

enum { TOPIC_NAME_BYTES = 249 };

typedef void gone_fn(void *partition);

struct handle { /* an open file */
	struct handle *next, *prev; /* of all that are open */
	struct node *node;
	bool writes;
	struct reader *reader;      /* NULL: it may not read, or is no partition, or there is */
	struct stream *stream;      /* because the topic is compacted */
	bool alone;                 /* the node is its own, if that can be had */
	struct writer *writer;
	gone_fn *writer_gone;
	struct controlfile *control;
	struct wr shown;            /* of a file of .cluster: what it said at the open */
};

struct directory { /* an open one; of the root: the names as they were when it was read from the start */
	struct directory *next, *prev; /* of all that are open */
	struct topic **topic;       /* owned, each referenced */
	size_t count;
};

struct ops {
	struct broker *broker;      /* borrowed */
	struct deliver *deliver;    /* borrowed */
	const char *data;           /* borrowed */
	struct cluster_source cluster;
	struct fuse_session *session;
	void (*ready)(void *arg);
	void *arg;
	struct nodes nodes;
	struct readers readers;
	struct writers writers;
	struct locks locks;
	struct controlfiles controls;
	pthread_mutex_t lock;       /* of what follows */
	pthread_cond_t no_jobs;
	struct handle open;         /* the heads of the rings */
	struct directory open_dirs;
	unsigned jobs;              /* given to the pool */
};

struct ops *ops_of(fuse_req_t req);

struct later { /* a request that may have to wait for other brokers, or for ZooKeeper, on its way to a thread that may */
	struct pool_job job;
	struct ops *ops;
	fuse_req_t req;
	struct node *node;          /* the request keeps it */
	struct fuse_file_info fi;   /* a copy; not of all requests */
	size_t size;
	off_t at;
	void *data;                 /* what else it takes, from malloc: freed behind run, and where that is not called */
	void (*run)(struct later *l); /* answers */
};
/* like: all but job and ops. Without memory it answers ENOMEM. */
void ops_later(struct ops *o, const struct later *like);
/* Whether what is asked of the node may have to wait. */
bool ops_may_wait(const struct node *n);

/* Answers with the errno, and logs the sentence as ops_explain does. */
void ops_fail(fuse_req_t req, const char *what, const struct partition *p, const struct err *e);

/* Of any node, the sizes of .config and of the files of .cluster too. */
int ops_attributes(struct ops *o, const struct node *n, struct stat *st, struct err *e);
/* What a LOOKUP is answered with. */
int ops_entry(struct ops *o, const struct node *n, struct fuse_entry_param *entry, struct err *e);
/* Answers with a node that was looked up; where that does not reach the kernel the lookup is taken back. */
void ops_reply_entry(struct ops *o, fuse_req_t req, struct node *n);

/* ---- ops_dirs.c ---- */

/* Adds the partition of that name, which must be the next one; one that is there by now is fine unless `exclusive`. Returns an errno. */
int ops_add_partition(struct node *parent, const char *name, bool exclusive);
/* Deletes the messages that end at or before that position of the file; INT64_MAX: all. */
int ops_delete_head(struct ops *o, struct partition *p, int64_t length, struct err *e);

void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t device);
void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_symlink(fuse_req_t req, const char *link, fuse_ino_t parent, const char *name);
void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t to_parent, const char *to_name, unsigned flags);
void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t to_parent, const char *to_name);
void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t at, struct fuse_file_info *fi);
void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);

void ops_close_directory(struct ops *o, struct directory *d);

/* ---- ops_files.c ---- */

void ops_close_handle(struct ops *o, struct handle *h);

void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi);
void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t at, struct fuse_file_info *fi);
void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t at, struct fuse_file_info *fi);
void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length, struct fuse_file_info *fi);
void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t at, int whence, struct fuse_file_info *fi);
void op_getlk(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *lock);
void op_setlk(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *lock, int wait);
void op_flock(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, int op);

#endif
