#include "fs/ops.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/broker.h"
#include "cluster/remote/remote.h"
#include "fs/ops_internal.h"
#include "fs/xattr.h"
#include "store/diag.h"
#include "store/pool.h"

enum {
	MAX_WRITE_BYTES = 1 << 20,
	SPACE_UNIT = 4096,
	LOG_MS = 5000,
};

/* How long the kernel may keep what it is told: names of topics and partitions, and a directory's attributes. These change through the mount alone, and then the
 * kernel knows. What a file's attributes say, its size above all, must be right at every look. */
static const double valid_s = 1.0;

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
	[-ERR_SEQUENCE] = EIO,
	[-ERR_PRODUCER_FENCED] = EIO,
	[-ERR_TXN_STATE] = EIO,
	[-ERR_FENCED_EPOCH] = EIO,
	[-ERR_UNKNOWN_EPOCH] = EIO,
	[-ERR_NOT_ENOUGH_AFTER] = EIO,
	[-ERR_NOT_YET] = EIO,
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

void ops_fail(fuse_req_t req, const char *what, const struct partition *p, const struct err *e)
{
	fuse_reply_err(req, ops_explain(what, p, e));
}

struct ops *ops_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

/* ---- names and attributes ---- */

int ops_attributes(struct ops *o, const struct node *n, struct stat *st, struct err *e)
{
	int rc = node_attributes(&o->nodes, n, st, e);
	if (rc == 0 && (n->kind == NODE_CONFIG || n->kind == NODE_CLUSTER_FILE)) {
		struct wr text;
		wr_init(&text, 0);
		if (n->kind == NODE_CONFIG)
			rc = controlfile_print(&o->controls, n->topic, &text, e);
		else
			rc = clusterfile_print(&o->cluster, (enum cluster_file)n->index, &text, e);
		st->st_size = (off_t)text.len;
		wr_release(&text);
	}
	return rc;
}

static bool is_directory(const struct node *n)
{
	return n->kind == NODE_ROOT || n->kind == NODE_TOPIC || n->kind == NODE_CLUSTER;
}

int ops_entry(struct ops *o, const struct node *n, struct fuse_entry_param *entry, struct err *e)
{
	*entry = (struct fuse_entry_param){
		.ino = nodes_id(&o->nodes, n),
		.attr_timeout = is_directory(n) ? valid_s : 0,
		.entry_timeout = is_directory(n) || n->kind == NODE_PARTITION ? valid_s : 0,
	};
	return ops_attributes(o, n, &entry->attr, e);
}

void ops_reply_entry(struct ops *o, fuse_req_t req, struct node *n)
{
	struct err e = ERR_INIT;
	struct fuse_entry_param param;
	int rc = ops_entry(o, n, &param, &e);
	if (rc == 0)
		rc = fuse_reply_entry(req, &param);
	else
		ops_fail(req, "cannot stat", n->partition, &e);
	if (rc < 0)
		nodes_forget(&o->nodes, n, 1);
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct ops *o = ops_of(req);
	struct err e = ERR_INIT;
	struct node *n;
	if (nodes_lookup(&o->nodes, nodes_of(&o->nodes, parent), name, fuse_req_ctx(req)->pid, &n, &e) < 0)
		ops_fail(req, "cannot look up a name", NULL, &e);
	else
		ops_reply_entry(o, req, n);
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
	if (ops_attributes(o, n, &st, &e) < 0)
		ops_fail(req, "cannot stat", n->partition, &e);
	else
		fuse_reply_attr(req, &st, is_directory(n) ? valid_s : 0);
}

/* ---- requests that may have to wait for other brokers ---- */

bool ops_may_wait(const struct node *n)
{
	return n->partition && partition_may_wait(n->partition);
}

static void job_done(struct ops *o)
{
	pthread_mutex_lock(&o->lock);
	if (!--o->jobs)
		pthread_cond_broadcast(&o->no_jobs);
	pthread_mutex_unlock(&o->lock);
}

static bool is_interrupted(void *arg)
{
	return fuse_req_interrupted(arg);
}

static void run_later(struct pool_job *job)
{
	struct later *l = (struct later *)((char *)job - offsetof(struct later, job));
	struct ops *o = l->ops;
	remote_set_given_up(is_interrupted, l->req);
	l->run(l);
	remote_set_given_up(NULL, NULL);
	free(l->data);
	free(l);
	job_done(o);
}

void ops_later(struct ops *o, const struct later *like)
{
	struct later *l = malloc(sizeof *l);
	if (!l) {
		free(like->data);
		fuse_reply_err(like->req, ENOMEM);
		return;
	}
	*l = *like;
	l->ops = o;
	l->job.run = run_later;
	pthread_mutex_lock(&o->lock);
	o->jobs++;
	pthread_mutex_unlock(&o->lock);
	struct remote *r = broker_remote(o->broker);
	pool_run(r ? remote_pool(r) : broker_pool(o->broker), &l->job);
}

static void getattr_later(struct later *l)
{
	struct err e = ERR_INIT;
	if (nodes_look(&l->ops->nodes, l->node, &e) < 0)
		ops_fail(l->req, "cannot stat", l->node->partition, &e);
	else
		reply_attributes(l->ops, l->req, l->node);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct ops *o = ops_of(req);
	struct node *n = nodes_of(&o->nodes, ino);
	(void)fi;
	if (ops_may_wait(n))
		ops_later(o, &(struct later){.req = req, .node = n, .run = getattr_later});
	else
		reply_attributes(o, req, n);
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
	job_done(o);
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

struct change { struct stat want; int set; };

static void set_attributes(struct ops *o, fuse_req_t req, const struct node *n, const struct change *c)
{
	struct err e = ERR_INIT;
	if ((c->set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID | FUSE_SET_ATTR_MODE)) && set_owner(n, &c->want, c->set, &e) < 0)
		ops_fail(req, "cannot change owner or mode", n->partition, &e);
	else if (c->set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID))
		reply_owner_changed(o, req, n);
	else
		reply_attributes(o, req, n);
}

static void setattr_later(struct later *l)
{
	set_attributes(l->ops, l->req, l->node, l->data);
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
		struct visible v = {0};
		if (ops_attributes(o, n, &now, &e) < 0 || (n->partition && partition_visible(n->partition, &v, &e) < 0)) {
			ops_fail(req, "cannot stat", n->partition, &e);
			return;
		}
		if (now.st_size != want->st_size || v.sequential) {
			fuse_reply_err(req, EPERM);
			return;
		}
	}
	struct change change = {*want, set};
	struct change *copy = (set & owner) && o->cluster.join ? malloc(sizeof *copy) : NULL;
	if (copy) { /* it is written to ZooKeeper */
		*copy = change;
		ops_later(o, &(struct later){.req = req, .node = n, .data = copy, .run = setattr_later});
	} else {
		set_attributes(o, req, n, &change);
	}
}

/* ---- the filesystem, extended attributes ---- */

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct ops *o = ops_of(req);
	struct broker_space s;
	struct err e = ERR_INIT;
	(void)ino;
	if (broker_space(o->broker, &s, &e) < 0) {
		ops_fail(req, "cannot tell the free space", NULL, &e);
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
		.f_namemax = TOPIC_NAME_BYTES,
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

static void reply_xattr(fuse_req_t req, const struct node *n, int rc, const struct wr *text, size_t size, const struct err *e)
{
	if (rc == 0)
		reply_sized(req, text, size);
	else if (rc == ERR_NOT_FOUND || rc == ERR_UNSUPPORTED)
		fuse_reply_err(req, rc == ERR_NOT_FOUND ? ENODATA : EOPNOTSUPP);
	else
		ops_fail(req, "cannot tell the state of", n->partition, e);
}

static void getxattr_later(struct later *l)
{
	struct err e = ERR_INIT;
	struct wr text;
	wr_init(&text, 0);
	int rc = xattr_get_one(l->node, l->ops->broker, (int)l->at, &text, &e);
	reply_xattr(l->req, l->node, rc, &text, l->size, &e);
	wr_release(&text);
}

static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct ops *o = ops_of(req);
	struct node *n = nodes_of(&o->nodes, ino);
	int which = xattr_find(n, name);
	struct err e = ERR_INIT;
	struct wr text;
	if (which >= 0 && xattr_may_wait(n, which)) {
		ops_later(o, &(struct later){.req = req, .node = n, .size = size, .at = which, .run = getxattr_later});
		return;
	}
	wr_init(&text, 0);
	int rc = xattr_get(n, o->broker, o->data, name, &text, &e);
	reply_xattr(req, n, rc, &text, size, &e);
	wr_release(&text);
}

static void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct ops *o = ops_of(req);
	struct err e = ERR_INIT;
	struct wr names;
	wr_init(&names, 0);
	if (xattr_list(nodes_of(&o->nodes, ino), &names, &e) < 0)
		ops_fail(req, "cannot list extended attributes", NULL, &e);
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

/* ---- the session ---- */

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	struct ops *o = userdata;
	/* The kernel must not split a write(2) into requests in flight at once, nor keep pages of what grows. */
	conn->want &= ~(unsigned)(FUSE_CAP_ASYNC_DIO | FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_WRITEBACK_CACHE);
	conn->want |= conn->capable & (FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_READDIRPLUS);
	conn->want &= ~(unsigned)FUSE_CAP_READDIRPLUS_AUTO; /* there is no plain one */
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
	.readdirplus = op_readdirplus,
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
	*o = (struct ops){.broker = options->broker, .deliver = options->deliver, .data = options->data, .cluster = {options->broker, options->join, options->address}, .ready = options->ready, .arg = options->arg};
	o->open.next = o->open.prev = &o->open;
	o->open_dirs.next = o->open_dirs.prev = &o->open_dirs;
	pthread_mutex_init(&o->lock, NULL);
	pthread_cond_init(&o->no_jobs, NULL);
	nodes_init(&o->nodes, o->broker, options->mount_point);
	readers_init(&o->readers, o->broker, options->conf);
	writers_init(&o->writers, o->broker, o->deliver, options->conf);
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
	writers_settle(&o->writers);
	remote_stop(broker_remote(o->broker));
	pthread_mutex_lock(&o->lock);
	while (o->jobs)
		pthread_cond_wait(&o->no_jobs, &o->lock);
	pthread_mutex_unlock(&o->lock);
}

void ops_free(struct ops *o)
{
	while (o->open.next != &o->open)
		ops_close_handle(o, o->open.next);
	while (o->open_dirs.next != &o->open_dirs)
		ops_close_directory(o, o->open_dirs.next);
	readers_release(&o->readers);
	writers_release(&o->writers);
	locks_release(&o->locks);
	controlfiles_release(&o->controls);
	nodes_release(&o->nodes);
	pthread_cond_destroy(&o->no_jobs);
	pthread_mutex_destroy(&o->lock);
	free(o);
}
