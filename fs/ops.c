#include "fs/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>

#include "cluster/broker.h"
#include "cluster/topics.h"
#include "fs/controlfile.h"
#include "fs/locks.h"
#include "fs/node.h"
#include "fs/reader.h"
#include "fs/writer.h"
#include "fs/xattr.h"
#include "store/conf.h"
#include "store/diag.h"
#include "store/pool.h"

enum {
	MAX_WRITE_BYTES = 1 << 20,
	MAX_NAME_BYTES = 249,  /* of a topic */
	SPACE_UNIT = 4096,
	LOG_MS = 5000,
};

/* How long the kernel may keep names and attributes. Topics and their modes change through the mount alone, which tells the kernel; a partition's size must be
 * right at every look. */
static const double directory_valid_s = 1.0, file_valid_s = 0.0;

struct handle { /* an open file */
	struct handle *next, *prev; /* of all that are open */
	struct node *node;
	bool writes;
	struct reader *reader;      /* NULL: it may not read, or is no partition */
	struct writer *writer;
	struct controlfile *control;
};

struct ops {
	struct broker *broker;      /* borrowed */
	const char *data;           /* borrowed */
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
	struct handle open;         /* the head of the ring */
	unsigned jobs;              /* given to the pool */
};

/* ---- errors ---- */

static const int errno_of[] = {
	[-ERR_IO] = EIO,
	[-ERR_NO_SPACE] = ENOSPC,
	[-ERR_NO_MEMORY] = ENOMEM,
	[-ERR_CORRUPT] = EIO,
	[-ERR_INVALID] = EINVAL,
	[-ERR_TOO_LARGE] = EMSGSIZE,
	[-ERR_NOT_FOUND] = ENOENT,
	[-ERR_EXISTS] = EEXIST,
	[-ERR_OUT_OF_RANGE] = ESTALE,
	[-ERR_OFFLINE] = EIO,
	[-ERR_BUSY] = EBUSY,
	[-ERR_DENIED] = EACCES,
	[-ERR_READ_ONLY] = EROFS,
	[-ERR_VERSION] = EIO,
	[-ERR_NOT_EMPTY] = ENOTEMPTY,
	[-ERR_NAME] = EINVAL,
	[-ERR_UNSUPPORTED] = EOPNOTSUPP,
	[-ERR_TIMED_OUT] = EIO,
	[-ERR_INTERRUPTED] = EINTR,
	[-ERR_STOPPING] = EIO,
	[-ERR_NOT_LEADER] = EIO,
	[-ERR_NOT_ENOUGH_REPLICAS] = EROFS,
	[-ERR_DELETED] = ESTALE,
	[-ERR_LIMIT] = ENFILE,
};
enum { CODES = sizeof errno_of / sizeof *errno_of };

int ops_errno(int code)
{
	return code <= 0 && -code < CODES ? errno_of[-code] : EIO;
}

int ops_explain(const char *what, const struct partition *p, const struct err *e)
{
	static struct diag_limit limits[CODES];
	int code = e->code < 0 && -e->code < CODES ? e->code : ERR_IO;
	enum diag_level level = DIAG_NOTICE;
	switch (code) {
	case ERR_NOT_FOUND:
	case ERR_EXISTS:
	case ERR_NOT_EMPTY:
	case ERR_INTERRUPTED:
	case ERR_DELETED:
		return ops_errno(code);
	case ERR_IO:
	case ERR_CORRUPT:
	case ERR_OFFLINE:
		level = DIAG_ERROR;
		break;
	case ERR_NO_SPACE:
	case ERR_NO_MEMORY:
	case ERR_READ_ONLY:
	case ERR_LIMIT:
		level = DIAG_WARNING;
		break;
	}
	if (p)
		diag_limited(&limits[-code], LOG_MS, level, "%s %s/%d: %s", what, partition_topic_name(p), (int)partition_index(p), e->text);
	else
		diag_limited(&limits[-code], LOG_MS, level, "%s: %s", what, e->text);
	return ops_errno(code);
}

static void fail(fuse_req_t req, const char *what, const struct partition *p, const struct err *e)
{
	fuse_reply_err(req, ops_explain(what, p, e));
}

static struct ops *ops_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

/* ---- names and attributes ---- */

static int attributes(struct ops *o, const struct node *n, struct stat *st, struct err *e)
{
	int rc = node_attributes(&o->nodes, n, st, e);
	if (rc == 0 && n->kind == NODE_CONFIG) {
		struct wr text;
		wr_init(&text, 0);
		rc = controlfile_print(&o->controls, n->topic, &text, e);
		st->st_size = (off_t)text.len;
		wr_release(&text);
	}
	return rc;
}

static double valid_s(const struct node *n)
{
	return n->kind == NODE_ROOT || n->kind == NODE_TOPIC ? directory_valid_s : file_valid_s;
}

static int entry(struct ops *o, const struct node *n, struct fuse_entry_param *entry, struct err *e)
{
	*entry = (struct fuse_entry_param){.ino = nodes_id(&o->nodes, n), .attr_timeout = valid_s(n), .entry_timeout = valid_s(n)};
	return attributes(o, n, &entry->attr, e);
}

/* Answers with a node that was looked up; where that does not reach the kernel the lookup is taken back. */
static void reply_entry(struct ops *o, fuse_req_t req, struct node *n)
{
	struct err e = ERR_INIT;
	struct fuse_entry_param param;
	int rc = entry(o, n, &param, &e);
	if (rc == 0)
		rc = fuse_reply_entry(req, &param);
	else
		fail(req, "cannot stat", n->partition, &e);
	if (rc < 0)
		nodes_forget(&o->nodes, n, 1);
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct ops *o = ops_of(req);
	struct err e = ERR_INIT;
	struct node *n;
	if (nodes_lookup(&o->nodes, nodes_of(&o->nodes, parent), name, fuse_req_ctx(req)->pid, &n, &e) < 0)
		fail(req, "cannot look up a name", NULL, &e);
	else
		reply_entry(o, req, n);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t lookups)
{
	struct ops *o = ops_of(req);
	nodes_forget(&o->nodes, nodes_of(&o->nodes, ino), lookups);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	struct ops *o = ops_of(req);
	for (size_t i = 0; i < count; i++)
		nodes_forget(&o->nodes, nodes_of(&o->nodes, forgets[i].ino), forgets[i].nlookup);
	fuse_reply_none(req);
}

static void reply_attributes(struct ops *o, fuse_req_t req, const struct node *n)
{
	struct err e = ERR_INIT;
	struct stat st;
	if (attributes(o, n, &st, &e) < 0)
		fail(req, "cannot stat", n->partition, &e);
	else
		fuse_reply_attr(req, &st, valid_s(n));
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct ops *o = ops_of(req);
	(void)fi;
	reply_attributes(o, req, nodes_of(&o->nodes, ino));
}

/* Owner and modes are the topic's: the directory's mode is set through the directory, that of all its files through any of them. */
static int set_owner(const struct node *n, const struct stat *want, int set, struct err *e)
{
	struct topic_owner owner = topic_owner(n->topic);
	if (set & FUSE_SET_ATTR_UID)
		owner.uid = want->st_uid;
	if (set & FUSE_SET_ATTR_GID)
		owner.gid = want->st_gid;
	if (set & FUSE_SET_ATTR_MODE && n->kind == NODE_TOPIC)
		owner.dir_mode = want->st_mode & 07777;
	else if (set & FUSE_SET_ATTR_MODE)
		owner.file_mode = want->st_mode & 07777;
	return topic_set_owner(n->topic, &owner, e);
}

struct owner_changed { /* through a file: the kernel may still have the directory's attributes */
	struct pool_job job;
	struct ops *ops;
	fuse_req_t req;
	const struct node *node; /* the request keeps it */
};

/* thread: the pool's, for a request's own thread must not wait for the kernel. */
static void tell_kernel(struct pool_job *job)
{
	struct owner_changed *c = (struct owner_changed *)job;
	struct ops *o = c->ops;
	fuse_lowlevel_notify_inval_inode(o->session, nodes_id(&o->nodes, c->node->parent), -1, 0);
	reply_attributes(o, c->req, c->node);
	free(c);
	pthread_mutex_lock(&o->lock);
	if (!--o->jobs)
		pthread_cond_broadcast(&o->no_jobs);
	pthread_mutex_unlock(&o->lock);
}

static void reply_owner_changed(struct ops *o, fuse_req_t req, const struct node *n)
{
	struct owner_changed *c = n->kind == NODE_PARTITION ? malloc(sizeof *c) : NULL;
	if (!c) {
		reply_attributes(o, req, n);
		return;
	}
	*c = (struct owner_changed){.job.run = tell_kernel, .ops = o, .req = req, .node = n};
	pthread_mutex_lock(&o->lock);
	o->jobs++;
	pthread_mutex_unlock(&o->lock);
	pool_run(broker_pool(o->broker), &c->job);
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *want, int set, struct fuse_file_info *fi)
{
	struct ops *o = ops_of(req);
	struct node *n = nodes_of(&o->nodes, ino);
	struct err e = ERR_INIT;
	struct stat now;
	const int owner = FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID | FUSE_SET_ATTR_MODE;
	(void)fi;
	if ((set & owner) && n->kind != NODE_TOPIC && n->kind != NODE_PARTITION) {
		fuse_reply_err(req, EPERM);
		return;
	}
	if (set & FUSE_SET_ATTR_SIZE) {
		if (attributes(o, n, &now, &e) < 0) {
			fail(req, "cannot stat", n->partition, &e);
			return;
		}
		if (now.st_size != want->st_size) {
			fuse_reply_err(req, EPERM);
			return;
		}
	}
	if ((set & owner) && set_owner(n, want, set, &e) < 0)
		fail(req, "cannot change owner or mode", n->partition, &e);
	else if (set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID))
		reply_owner_changed(o, req, n);
	else
		reply_attributes(o, req, n);
}

/* ---- topics and partitions come and go ---- */

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct ops *o = ops_of(req);
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	struct topic_owner owner = {.uid = ctx->uid, .gid = ctx->gid, .dir_mode = mode & 07777, .file_mode = mode & 0666};
	struct err e = ERR_INIT;
	struct topic *t;
	struct node *n;
	if (nodes_of(&o->nodes, parent)->kind != NODE_ROOT || node_name_is_reserved(name)) {
		fuse_reply_err(req, EPERM);
		return;
	}
	if (strlen(name) > MAX_NAME_BYTES) {
		fuse_reply_err(req, ENAMETOOLONG);
		return;
	}
	if (topics_create(o->broker, name, 0, &owner, &t, &e) < 0) {
		fail(req, "cannot make a topic", NULL, &e);
		return;
	}
	if (nodes_lookup_topic(&o->nodes, t, &n, &e) < 0)
		fail(req, "cannot make a topic", NULL, &e);
	else
		reply_entry(o, req, n);
	topic_unref(t);
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct ops *o = ops_of(req);
	struct err e = ERR_INIT;
	struct topic *t = nodes_of(&o->nodes, parent)->kind == NODE_ROOT ? topics_find(o->broker, name) : NULL;
	if (!t)
		fuse_reply_err(req, ENOENT);
	else if (topics_delete(o->broker, t, true, &e) < 0)
		fail(req, "cannot delete a topic", NULL, &e);
	else
		fuse_reply_err(req, 0);
	if (t)
		topic_unref(t);
}

/* Adds the partition of that name, which must be the next one; one that is there by now is fine unless `exclusive`. Returns an errno. */
static int add_partition(struct node *parent, const char *name, bool exclusive)
{
	struct err e = ERR_INIT;
	int32_t index = node_partition_number(name);
	if (parent->kind != NODE_TOPIC)
		return EPERM;
	if (index < 0)
		return EINVAL;
	int rc = topic_add_partition(parent->topic, index, &e);
	if (rc == 0 || (rc == ERR_EXISTS && !exclusive))
		return 0;
	return rc == ERR_INVALID ? EINVAL : ops_explain("cannot make a partition", NULL, &e);
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t device)
{
	struct ops *o = ops_of(req);
	struct node *dir = nodes_of(&o->nodes, parent), *n;
	struct err e = ERR_INIT;
	(void)device;
	int error = S_ISREG(mode) ? add_partition(dir, name, true) : EPERM;
	if (error)
		fuse_reply_err(req, error);
	else if (nodes_lookup(&o->nodes, dir, name, fuse_req_ctx(req)->pid, &n, &e) < 0)
		fail(req, "cannot make a partition", NULL, &e);
	else
		reply_entry(o, req, n);
}

/* Deletes what ends at or before that position of the file; INT64_MAX: everything. */
static int delete_head(struct partition *p, int64_t length, struct err *e)
{
	struct visible v;
	int64_t offset, position;
	int rc = partition_acquire(p, e);
	if (rc < 0)
		return rc;
	rc = partition_visible(p, &v, e);
	offset = v.end_offset;
	if (rc == 0 && length < v.end_position)
		rc = length <= v.start_position ? 1 : partition_locate(p, length, &offset, &position, e);
	if (rc == 0)
		rc = partition_delete_before(p, offset, e);
	partition_release(p);
	return rc < 0 ? rc : 0;
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct ops *o = ops_of(req);
	struct node *dir = nodes_of(&o->nodes, parent);
	struct err e = ERR_INIT;
	int32_t index = node_partition_number(name);
	struct partition *p = dir->kind == NODE_TOPIC && index >= 0 ? topic_partition(dir->topic, index) : NULL;
	if (!p) {
		fuse_reply_err(req, EPERM);
		return;
	}
	if (delete_head(p, INT64_MAX, &e) < 0)
		fail(req, "cannot delete the messages of", p, &e);
	else {
		nodes_retire(&o->nodes, dir, index);
		fuse_reply_err(req, 0);
	}
	partition_unref(p);
}

static void op_symlink(fuse_req_t req, const char *link, fuse_ino_t parent, const char *name)
{
	(void)link;
	(void)parent;
	(void)name;
	fuse_reply_err(req, EPERM);
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t to_parent, const char *to_name, unsigned flags)
{
	(void)parent;
	(void)name;
	(void)to_parent;
	(void)to_name;
	(void)flags;
	fuse_reply_err(req, EPERM);
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t to_parent, const char *to_name)
{
	(void)ino;
	(void)to_parent;
	(void)to_name;
	fuse_reply_err(req, EPERM);
}

/* ---- open and release ---- */

static void partition_gone(void *arg)
{
	struct partition *p = arg;
	partition_release(p);
	partition_unref(p);
}

/* A reader or a writer uses the partition as long as it lives, which may be longer than the handle. */
static int use_partition(struct partition *p, struct err *e)
{
	int rc = partition_acquire(p, e);
	if (rc == 0)
		partition_ref(p);
	return rc;
}

static int make_reader(struct ops *o, struct handle *h, struct err *e)
{
	const struct node *n = h->node;
	int rc = use_partition(n->partition, e);
	if (rc < 0)
		return rc;
	h->reader = reader_new(&o->readers, n->partition, n->kind == NODE_EARLIEST ? n->base_position : -1);
	if (h->reader)
		return 0;
	partition_gone(n->partition);
	return err_set(e, ERR_NO_MEMORY, "no memory for a reader");
}

static int make_writer(struct ops *o, struct partition *p, bool sync, struct writer **w, struct err *e)
{
	int rc = use_partition(p, e);
	if (rc < 0)
		return rc;
	*w = writer_new(&o->writers, p, sync);
	if (*w)
		return 0;
	partition_gone(p);
	return err_set(e, ERR_NO_MEMORY, "no memory for a writer");
}

/* What the handle reads and writes with ends; what it has unfinished is appended. */
static void end_handle(struct handle *h)
{
	if (h->reader)
		reader_free(h->reader, partition_gone, h->node->partition);
	if (h->writer)
		writer_end(h->writer, partition_gone, h->node->partition);
	if (h->control)
		controlfile_free(h->control);
}

static int equip(struct ops *o, struct handle *h, int flags, struct err *e)
{
	struct node *n = h->node;
	int rc = 0;
	if (n->kind == NODE_CONFIG)
		return controlfile_open(&o->controls, n->topic, &h->control, e);
	if ((flags & O_ACCMODE) != O_WRONLY)
		rc = make_reader(o, h, e);
	if (rc == 0 && h->writes)
		rc = make_writer(o, n->partition, flags & (O_SYNC | O_DSYNC), &h->writer, e);
	if (rc < 0)
		end_handle(h);
	return rc;
}

/* Whether an open with these flags has to be refused; an errno, 0. */
static int check_open(const struct node *n, int flags)
{
	struct err e = ERR_INIT;
	struct visible v;
	bool writes = (flags & O_ACCMODE) != O_RDONLY;
	if (n->kind == NODE_EARLIEST && writes)
		return EPERM;
	if (!(flags & O_TRUNC))
		return 0;
	if (n->kind != NODE_PARTITION)
		return EPERM;
	if (partition_visible(n->partition, &v, &e) < 0)
		return ops_explain("cannot open", n->partition, &e);
	return v.end_position > 0 ? EPERM : 0;
}

/* Returns an errno; 0: fi is filled. */
static int open_node(struct ops *o, struct node *n, struct fuse_file_info *fi)
{
	struct err e = ERR_INIT;
	int error = check_open(n, fi->flags);
	struct handle *h = error ? NULL : malloc(sizeof *h);
	if (!h)
		return error ? error : ENOMEM;
	*h = (struct handle){.node = n, .writes = (fi->flags & O_ACCMODE) != O_RDONLY};
	if (equip(o, h, fi->flags, &e) < 0) {
		free(h);
		return ops_explain("cannot open", n->partition, &e);
	}
	nodes_open(&o->nodes, n, h->writes);
	pthread_mutex_lock(&o->lock);
	h->next = &o->open;
	h->prev = o->open.prev;
	h->prev->next = h->next->prev = h;
	pthread_mutex_unlock(&o->lock);
	fi->fh = (uint64_t)(uintptr_t)h;
	fi->direct_io = 1;
	fi->noflush = !h->writes;
	return 0;
}

static struct handle *handle_of(const struct fuse_file_info *fi)
{
	return (struct handle *)(uintptr_t)fi->fh;
}

static void close_handle(struct ops *o, struct handle *h)
{
	struct node *n = h->node;
	pthread_mutex_lock(&o->lock);
	h->prev->next = h->next;
	h->next->prev = h->prev;
	pthread_mutex_unlock(&o->lock);
	locks_drop(&o->locks, node_ino(n), LOCK_POSIX, 0, (uint64_t)(uintptr_t)h);
	end_handle(h);
	nodes_close(&o->nodes, n, h->writes);
	free(h);
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct ops *o = ops_of(req);
	int error = open_node(o, nodes_of(&o->nodes, ino), fi);
	if (error)
		fuse_reply_err(req, error);
	else if (fuse_reply_open(req, fi) < 0)
		close_handle(o, handle_of(fi));
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	struct ops *o = ops_of(req);
	struct node *dir = nodes_of(&o->nodes, parent), *n;
	struct fuse_entry_param param;
	struct err e = ERR_INIT;
	bool overwrites = (fi->flags & (O_TRUNC | O_EXCL)) && !(fi->flags & O_APPEND); /* as > and cp do */
	(void)mode; /* the topic's files have one mode */
	int error = overwrites ? EPERM : add_partition(dir, name, fi->flags & O_EXCL);
	if (error) {
		fuse_reply_err(req, error);
		return;
	}
	if (nodes_lookup(&o->nodes, dir, name, fuse_req_ctx(req)->pid, &n, &e) < 0) {
		fail(req, "cannot make a partition", NULL, &e);
		return;
	}
	error = entry(o, n, &param, &e) < 0 ? ops_explain("cannot open", n->partition, &e) : open_node(o, n, fi);
	if (error)
		fuse_reply_err(req, error);
	else if (fuse_reply_create(req, &param, fi) < 0) {
		close_handle(o, handle_of(fi));
		error = EINTR;
	}
	if (error)
		nodes_forget(&o->nodes, n, 1);
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct ops *o = ops_of(req);
	struct handle *h = handle_of(fi);
	(void)ino;
	if (fi->flock_release)
		locks_drop(&o->locks, node_ino(h->node), LOCK_FLOCK, fi->lock_owner, 0);
	close_handle(o, h);
	fuse_reply_err(req, 0);
}

/* ---- data ---- */

static void read_control(fuse_req_t req, struct controlfile *c, size_t size, off_t at)
{
	char *buf = malloc(size);
	if (buf)
		fuse_reply_buf(req, buf, controlfile_read(c, at, buf, size));
	else
		fuse_reply_err(req, ENOMEM);
	free(buf);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t at, struct fuse_file_info *fi)
{
	struct handle *h = handle_of(fi);
	(void)ino;
	if (h->reader)
		reader_read(h->reader, req, at, size);
	else if (h->control)
		read_control(req, h->control, size, at);
	else
		fuse_reply_err(req, EBADF);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t at, struct fuse_file_info *fi)
{
	struct handle *h = handle_of(fi);
	struct err e = ERR_INIT;
	(void)ino;
	(void)at; /* the kernel's guess of the end */
	if (!(fi->flags & O_APPEND))
		fuse_reply_err(req, EPERM);
	else if (h->writer)
		writer_write(h->writer, req, fi->lock_owner, buf, size);
	else if (!h->control)
		fuse_reply_err(req, EBADF);
	else if (controlfile_write(h->control, buf, size, &e) < 0)
		fail(req, "cannot configure", NULL, &e);
	else
		fuse_reply_write(req, size);
}

static void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct ops *o = ops_of(req);
	struct handle *h = handle_of(fi);
	struct err e = ERR_INIT;
	(void)ino;
	locks_drop(&o->locks, node_ino(h->node), LOCK_POSIX, fi->lock_owner, 0);
	if (h->writer)
		writer_flush(h->writer, req, fi->lock_owner);
	else if (h->control && controlfile_flush(h->control, &e) < 0)
		fail(req, "cannot configure", NULL, &e);
	else
		fuse_reply_err(req, 0);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct ops *o = ops_of(req);
	struct handle *h = handle_of(fi);
	struct partition *p = h->node->partition;
	struct err e = ERR_INIT;
	struct writer *w;
	(void)ino;
	(void)datasync;
	if (h->writer)
		writer_fsync(h->writer, req);
	else if (!p)
		fuse_reply_err(req, 0); /* properties are durable when they are in force */
	else if (make_writer(o, p, false, &w, &e) < 0)
		fail(req, "cannot flush", p, &e);
	else { /* a read-only handle may ask too: what others have appended becomes durable */
		writer_fsync(w, req); /* from here on the handle may be gone */
		writer_end(w, partition_gone, p);
	}
}

static void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length, struct fuse_file_info *fi)
{
	const struct node *n = handle_of(fi)->node;
	struct err e = ERR_INIT;
	(void)ino;
	if (n->kind != NODE_PARTITION || mode != (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE) || offset != 0)
		fuse_reply_err(req, EPERM);
	else if (delete_head(n->partition, length, &e) < 0)
		fail(req, "cannot delete messages of", n->partition, &e);
	else
		fuse_reply_err(req, 0);
}

/* The deleted head is no hole: grep would call the file binary, and cp copy it as NULs. */
static void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t at, int whence, struct fuse_file_info *fi)
{
	struct ops *o = ops_of(req);
	struct node *n = nodes_of(&o->nodes, ino);
	struct err e = ERR_INIT;
	struct stat st;
	(void)fi;
	if (attributes(o, n, &st, &e) < 0)
		fail(req, "cannot stat", n->partition, &e);
	else if (whence != SEEK_DATA && whence != SEEK_HOLE)
		fuse_reply_err(req, EINVAL);
	else if (at < 0 || at >= st.st_size)
		fuse_reply_err(req, ENXIO);
	else
		fuse_reply_lseek(req, whence == SEEK_DATA ? at : st.st_size);
}

/* ---- directories ---- */

struct directory { /* an open one; of the root: the names as they were when it was read from the start */
	struct topic **topic; /* owned, each referenced */
	size_t count, cap;
	bool failed;          /* no memory for all */
};

static void forget_names(struct directory *d)
{
	for (size_t i = 0; i < d->count; i++)
		topic_unref(d->topic[i]);
	free(d->topic);
	*d = (struct directory){0};
}

static bool add_name(void *arg, struct topic *t)
{
	struct directory *d = arg;
	if (!node_topic_is_listed(t))
		return true;
	if (d->count == d->cap) {
		size_t cap = d->cap ? 2 * d->cap : 16;
		struct topic **v = realloc(d->topic, cap * sizeof(struct topic *));
		d->failed = !v;
		if (!v)
			return false;
		d->topic = v;
		d->cap = cap;
	}
	topic_ref(t);
	d->topic[d->count++] = t;
	return true;
}

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct directory *d = calloc(1, sizeof *d);
	(void)ino;
	fi->fh = (uint64_t)(uintptr_t)d;
	if (!d)
		fuse_reply_err(req, ENOMEM);
	else if (fuse_reply_open(req, fi) < 0)
		free(d);
}

static void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct directory *d = (struct directory *)(uintptr_t)fi->fh;
	(void)ino;
	forget_names(d);
	free(d);
	fuse_reply_err(req, 0);
}

/* The i-th entry's name and kind; false: there are no more. */
static bool directory_entry(const struct node *n, const struct directory *d, off_t i, char name[MAX_NAME_BYTES + 1], struct stat *st)
{
	enum { DOTS = 2 };
	*st = (struct stat){.st_mode = S_IFDIR, .st_ino = node_ino(n)};
	if (i < DOTS) {
		snprintf(name, MAX_NAME_BYTES + 1, "%s", i ? ".." : ".");
		return true;
	}
	i -= DOTS;
	if (n->kind == NODE_ROOT) {
		if ((size_t)i >= d->count)
			return false;
		snprintf(name, MAX_NAME_BYTES + 1, "%s", topic_name(d->topic[i]));
		st->st_ino = node_stable_ino(d->topic[i], -1);
		return true;
	}
	if (topic_is_deleted(n->topic) || i >= topic_partition_count(n->topic))
		return false;
	snprintf(name, MAX_NAME_BYTES + 1, "%d", (int)i);
	st->st_mode = S_IFREG;
	st->st_ino = node_stable_ino(n->topic, (int32_t)i);
	return true;
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t at, struct fuse_file_info *fi)
{
	struct ops *o = ops_of(req);
	const struct node *n = nodes_of(&o->nodes, ino);
	struct directory *d = (struct directory *)(uintptr_t)fi->fh;
	char name[MAX_NAME_BYTES + 1], *buf = malloc(size);
	struct stat st;
	size_t used = 0;
	if (n->kind == NODE_ROOT && at == 0) {
		forget_names(d);
		topics_list(o->broker, NULL, add_name, d);
	}
	if (!buf || d->failed) {
		free(buf);
		fuse_reply_err(req, ENOMEM);
		return;
	}
	for (; directory_entry(n, d, at, name, &st); at++) {
		size_t len = fuse_add_direntry(req, buf + used, size - used, name, &st, at + 1);
		if (len > size - used)
			break;
		used += len;
	}
	fuse_reply_buf(req, buf, used);
	free(buf);
}

/* ---- the filesystem, extended attributes ---- */

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct ops *o = ops_of(req);
	struct broker_space s;
	struct err e = ERR_INIT;
	(void)ino;
	if (broker_space(o->broker, &s, &e) < 0) {
		fail(req, "cannot tell the free space", NULL, &e);
		return;
	}
	struct statvfs v = {
		.f_bsize = SPACE_UNIT,
		.f_frsize = SPACE_UNIT,
		.f_blocks = s.total_bytes / SPACE_UNIT,
		.f_bfree = s.free_bytes / SPACE_UNIT,
		.f_bavail = s.available_bytes / SPACE_UNIT,
		.f_files = s.total_files,
		.f_ffree = s.free_files,
		.f_favail = s.free_files,
		.f_namemax = MAX_NAME_BYTES,
	};
	fuse_reply_statfs(req, &v);
}

/* Answers as getxattr(2) and listxattr(2) want it: size 0 asks how much there is. */
static void reply_sized(fuse_req_t req, const struct wr *text, size_t size)
{
	if (!size)
		fuse_reply_xattr(req, text->len);
	else if (text->len > size)
		fuse_reply_err(req, ERANGE);
	else
		fuse_reply_buf(req, (const char *)text->data, text->len);
}

static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct ops *o = ops_of(req);
	const struct node *n = nodes_of(&o->nodes, ino);
	struct err e = ERR_INIT;
	struct wr text;
	wr_init(&text, 0);
	int rc = xattr_get(n, o->data, name, &text, &e);
	if (rc == 0)
		reply_sized(req, &text, size);
	else if (rc == ERR_NOT_FOUND || rc == ERR_UNSUPPORTED)
		fuse_reply_err(req, rc == ERR_NOT_FOUND ? ENODATA : EOPNOTSUPP);
	else
		fail(req, "cannot tell the state of", n->partition, &e);
	wr_release(&text);
}

static void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct ops *o = ops_of(req);
	struct err e = ERR_INIT;
	struct wr names;
	wr_init(&names, 0);
	if (xattr_list(nodes_of(&o->nodes, ino), &names, &e) < 0)
		fail(req, "cannot list extended attributes", NULL, &e);
	else
		reply_sized(req, &names, size);
	wr_release(&names);
}

static void refuse_xattr(fuse_req_t req, const char *name)
{
	fuse_reply_err(req, strncmp(name, "user.spoolfs.", 13) ? EOPNOTSUPP : EPERM);
}

static void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags)
{
	(void)ino;
	(void)value;
	(void)size;
	(void)flags;
	refuse_xattr(req, name);
}

static void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	(void)ino;
	refuse_xattr(req, name);
}

/* ---- locks ---- */

static struct lock_range posix_range(const struct fuse_file_info *fi, const struct flock *lock)
{
	return (struct lock_range){
		.kind = LOCK_POSIX,
		.type = lock->l_type,
		.start = lock->l_start,
		.end = lock->l_len ? lock->l_start + lock->l_len - 1 : INT64_MAX,
		.owner = fi->lock_owner,
		.handle = fi->fh,
		.pid = lock->l_pid,
	};
}

static void op_getlk(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *lock)
{
	struct ops *o = ops_of(req);
	struct lock_range want = posix_range(fi, lock);
	locks_test(&o->locks, req, node_ino(nodes_of(&o->nodes, ino)), &want);
}

static void op_setlk(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *lock, int wait)
{
	struct ops *o = ops_of(req);
	struct lock_range want = posix_range(fi, lock);
	locks_set(&o->locks, req, node_ino(nodes_of(&o->nodes, ino)), &want, wait);
}

static void op_flock(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, int op)
{
	struct ops *o = ops_of(req);
	int type = op & ~LOCK_NB;
	struct lock_range want = {
		.kind = LOCK_FLOCK,
		.type = type == LOCK_EX ? F_WRLCK : type == LOCK_SH ? F_RDLCK : F_UNLCK,
		.end = INT64_MAX,
		.owner = fi->lock_owner,
		.handle = fi->fh,
	};
	locks_set(&o->locks, req, node_ino(nodes_of(&o->nodes, ino)), &want, !(op & LOCK_NB));
}

/* ---- the session ---- */

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	struct ops *o = userdata;
	/* The kernel must not split a write(2) into requests in flight at once, nor keep pages of what grows. */
	conn->want &= ~(unsigned)(FUSE_CAP_ASYNC_DIO | FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_WRITEBACK_CACHE);
	conn->want |= conn->capable & FUSE_CAP_ATOMIC_O_TRUNC;
	conn->max_write = MAX_WRITE_BYTES;
	conn->time_gran = 1000000;
	if (o->ready)
		o->ready(o->arg);
}

const struct fuse_lowlevel_ops ops_table = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.unlink = op_unlink,
	.rmdir = op_rmdir,
	.symlink = op_symlink,
	.rename = op_rename,
	.link = op_link,
	.open = op_open,
	.create = op_create,
	.read = op_read,
	.write = op_write,
	.flush = op_flush,
	.release = op_release,
	.fsync = op_fsync,
	.fallocate = op_fallocate,
	.lseek = op_lseek,
	.opendir = op_opendir,
	.readdir = op_readdir,
	.releasedir = op_releasedir,
	.statfs = op_statfs,
	.getxattr = op_getxattr,
	.listxattr = op_listxattr,
	.setxattr = op_setxattr,
	.removexattr = op_removexattr,
	.getlk = op_getlk,
	.setlk = op_setlk,
	.flock = op_flock,
};

int ops_new(struct ops **out, const struct ops_options *options, struct err *e)
{
	struct ops *o = malloc(sizeof *o);
	if (!o)
		return err_set(e, ERR_NO_MEMORY, "no memory for a mount");
	*o = (struct ops){.broker = options->broker, .data = options->data, .ready = options->ready, .arg = options->arg};
	o->open.next = o->open.prev = &o->open;
	pthread_mutex_init(&o->lock, NULL);
	pthread_cond_init(&o->no_jobs, NULL);
	nodes_init(&o->nodes, o->broker, options->mount_point);
	readers_init(&o->readers, o->broker, options->conf);
	writers_init(&o->writers, o->broker, options->conf);
	locks_init(&o->locks);
	controlfiles_init(&o->controls);
	*out = o;
	return 0;
}

void ops_set_session(struct ops *o, struct fuse_session *se)
{
	o->session = se;
}

void ops_stop(struct ops *o)
{
	locks_stop(&o->locks);
	pthread_mutex_lock(&o->lock);
	while (o->jobs)
		pthread_cond_wait(&o->no_jobs, &o->lock);
	pthread_mutex_unlock(&o->lock);
}

void ops_free(struct ops *o)
{
	while (o->open.next != &o->open)
		close_handle(o, o->open.next);
	readers_release(&o->readers);
	writers_release(&o->writers);
	locks_release(&o->locks);
	controlfiles_release(&o->controls);
	nodes_release(&o->nodes);
	pthread_cond_destroy(&o->no_jobs);
	pthread_mutex_destroy(&o->lock);
	free(o);
}
