/* The part of ops that opens, reads, writes and locks files. */
#include "fs/ops_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "cluster/deliver/deliver.h"
#include "fs/stream.h"

/* ---- open and release ---- */

static void partition_gone(void *arg)
{
	struct partition *p = arg;
	partition_release(p);
	partition_unref(p);
}

/* A reader or a writer uses the partition as long as it lives, which may be longer than the handle. */
static int use_partition(struct partition *p, bool reads, struct err *e)
{
	int rc = reads ? partition_acquire_reader(p, e) : partition_acquire(p, e);
	if (rc == 0)
		partition_ref(p);
	return rc;
}

static int make_stream(struct ops *o, struct handle *h, struct err *e)
{
	struct node *n = h->node;
	h->stream = stream_new(n->partition);
	if (h->stream) {
		nodes_set_stream(&o->nodes, n, h->stream, true);
		return 0;
	}
	partition_gone(n->partition);
	return err_set(e, ERR_NO_MEMORY, "no memory for a reader");
}

static int make_reader(struct ops *o, struct handle *h, struct err *e)
{
	const struct node *n = h->node;
	struct visible v;
	int rc = use_partition(n->partition, true, e);
	if (rc < 0)
		return rc;
	if ((rc = partition_visible(n->partition, &v, e)) < 0) {
		partition_gone(n->partition);
		return rc;
	}
	if (v.sequential)
		return make_stream(o, h, e);
	h->reader = reader_new(&o->readers, n->partition, n->kind == NODE_EARLIEST ? n->base_position : -1);
	if (h->reader)
		return 0;
	partition_gone(n->partition);
	return err_set(e, ERR_NO_MEMORY, "no memory for a reader");
}

static void partition_left(void *arg)
{
	partition_unref(arg);
}

/* Where another broker has it, or leads it, there is nothing here that would have to be open. *gone: what ends its use. */
static int make_writer(struct ops *o, struct partition *p, bool sync, struct writer **w, gone_fn **gone, struct err *e)
{
	*gone = deliver_is_elsewhere(o->deliver, p) ? partition_left : partition_gone;
	int rc = *gone == partition_gone ? use_partition(p, false, e) : 0;
	if (rc < 0)
		return rc;
	if (*gone == partition_left)
		partition_ref(p);
	*w = writer_new(&o->writers, p, sync);
	if (*w)
		return 0;
	(*gone)(p);
	return err_set(e, ERR_NO_MEMORY, "no memory for a writer");
}

/* What the handle reads and writes with ends; what it has unfinished is appended. */
static void end_handle(struct ops *o, struct handle *h)
{
	if (h->stream) {
		nodes_set_stream(&o->nodes, h->node, h->stream, false);
		stream_free(h->stream, partition_gone, h->node->partition);
	}
	if (h->reader)
		reader_free(h->reader, partition_gone, h->node->partition);
	if (h->writer)
		writer_end(h->writer, h->writer_gone, h->node->partition);
	if (h->control)
		controlfile_free(h->control);
	wr_release(&h->shown);
}

static int equip(struct ops *o, struct handle *h, int flags, struct err *e)
{
	struct node *n = h->node;
	int rc = 0;
	if (n->kind == NODE_CONFIG)
		return controlfile_open(&o->controls, n->topic, &h->control, e);
	wr_init(&h->shown, 0);
	if (n->kind == NODE_CLUSTER_FILE) {
		rc = clusterfile_print(&o->cluster, (enum cluster_file)n->index, &h->shown, e);
		if (rc < 0)
			wr_release(&h->shown);
		return rc;
	}
	if ((flags & O_ACCMODE) != O_WRONLY)
		rc = make_reader(o, h, e);
	if (rc == 0 && h->writes)
		rc = make_writer(o, n->partition, flags & (O_SYNC | O_DSYNC), &h->writer, &h->writer_gone, e);
	if (rc < 0)
		end_handle(o, h);
	return rc;
}

/* Whether an open with these flags has to be refused; an errno, 0. */
static int check_open(const struct node *n, int flags)
{
	struct err e = ERR_INIT;
	struct visible v;
	bool writes = (flags & O_ACCMODE) != O_RDONLY;
	if ((n->kind == NODE_EARLIEST || n->kind == NODE_CLUSTER_FILE) && writes)
		return EPERM;
	if (!(flags & O_TRUNC))
		return 0;
	if (n->kind != NODE_PARTITION)
		return EPERM;
	if (partition_visible(n->partition, &v, &e) < 0)
		return ops_explain("cannot open", n->partition, &e);
	return v.end_position > 0 || (v.sequential && v.start_offset < v.end_offset) ? EPERM : 0;
}

/* A reader in order is told a size of his own. */
static bool wants_own_node(const struct node *n)
{
	struct visible v;
	return n->kind == NODE_PARTITION && partition_visible(n->partition, &v, NULL) == 0 && v.sequential;
}

/* Returns an errno; 0: fi is filled. */
static int open_node(struct ops *o, struct node *n, pid_t thread_id, struct fuse_file_info *fi)
{
	struct err e = ERR_INIT;
	int error = check_open(n, fi->flags);
	struct handle *h = error ? NULL : malloc(sizeof *h);
	if (!h)
		return error ? error : ENOMEM;
	*h = (struct handle){.node = n, .writes = (fi->flags & O_ACCMODE) != O_RDONLY};
	h->alone = h->writes || wants_own_node(n);
	if (!nodes_open(&o->nodes, n, h->alone, thread_id)) {
		free(h);
		return ESTALE;
	}
	if (equip(o, h, fi->flags, &e) < 0) {
		nodes_close(&o->nodes, n, h->alone);
		free(h);
		return ops_explain("cannot open", n->partition, &e);
	}
	pthread_mutex_lock(&o->lock);
	h->next = &o->open;
	h->prev = o->open.prev;
	h->prev->next = h->next->prev = h;
	pthread_mutex_unlock(&o->lock);
	fi->fh = (uint64_t)(uintptr_t)h;
	fi->direct_io = 1;
	fi->noflush = !h->writes;
	fi->nonseekable = h->stream != NULL;
	return 0;
}

static struct handle *handle_of(const struct fuse_file_info *fi)
{
	return (struct handle *)(uintptr_t)fi->fh;
}

void ops_close_handle(struct ops *o, struct handle *h)
{
	struct node *n = h->node;
	pthread_mutex_lock(&o->lock);
	h->prev->next = h->next;
	h->next->prev = h->prev;
	pthread_mutex_unlock(&o->lock);
	locks_drop(&o->locks, node_ino(n), LOCK_POSIX, 0, (uint64_t)(uintptr_t)h);
	end_handle(o, h);
	nodes_close(&o->nodes, n, h->alone);
	free(h);
}

static void open_and_reply(struct ops *o, fuse_req_t req, struct node *n, struct fuse_file_info *fi)
{
	int error = open_node(o, n, fuse_req_ctx(req)->pid, fi);
	if (error)
		fuse_reply_err(req, error);
	else if (fuse_reply_open(req, fi) < 0)
		ops_close_handle(o, handle_of(fi));
}

static void open_later(struct later *l)
{
	struct err e = ERR_INIT;
	struct visible v;
	struct node *n = l->node;
	if (nodes_look(&l->ops->nodes, n, &e) < 0)
		ops_fail(l->req, "cannot open", n->partition, &e);
	else if (n->kind == NODE_EARLIEST && partition_visible(n->partition, &v, NULL) == 0 && v.start_position > n->base_position)
		fuse_reply_err(l->req, ESTALE); /* its name was answered by what was known then: it is looked up once more */
	else
		open_and_reply(l->ops, l->req, l->node, &l->fi);
}

void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct ops *o = ops_of(req);
	struct node *n = nodes_of(&o->nodes, ino);
	bool looks = (fi->flags & O_ACCMODE) != O_WRONLY || (fi->flags & O_TRUNC); /* who only appends does not care what is there */
	if (looks && ops_may_wait(n))
		ops_later(o, &(struct later){.req = req, .node = n, .fi = *fi, .run = open_later});
	else
		open_and_reply(o, req, n, fi);
}

void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	struct ops *o = ops_of(req);
	struct node *dir = nodes_of(&o->nodes, parent), *n;
	struct fuse_entry_param param;
	struct err e = ERR_INIT;
	bool overwrites = (fi->flags & (O_TRUNC | O_EXCL)) && !(fi->flags & O_APPEND); /* as > and cp do */
	(void)mode; /* the topic's files have one mode */
	int error = overwrites ? EPERM : ops_add_partition(dir, name, fi->flags & O_EXCL);
	if (error) {
		fuse_reply_err(req, error);
		return;
	}
	if (nodes_lookup(&o->nodes, dir, name, fuse_req_ctx(req)->pid, &n, &e) < 0) {
		ops_fail(req, "cannot make a partition", NULL, &e);
		return;
	}
	error = ops_entry(o, n, &param, &e) < 0 ? ops_explain("cannot open", n->partition, &e) : open_node(o, n, ANY_THREAD, fi);
	if (error)
		fuse_reply_err(req, error);
	else if (fuse_reply_create(req, &param, fi) < 0) {
		ops_close_handle(o, handle_of(fi));
		error = EINTR;
	}
	if (error)
		nodes_forget(&o->nodes, n, 1);
}

void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct ops *o = ops_of(req);
	struct handle *h = handle_of(fi);
	(void)ino;
	if (fi->flock_release)
		locks_drop(&o->locks, node_ino(h->node), LOCK_FLOCK, fi->lock_owner, 0);
	ops_close_handle(o, h);
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

static void reply_shown(fuse_req_t req, const struct wr *text, size_t size, off_t at)
{
	size_t left = at < (off_t)text->len ? text->len - (size_t)at : 0;
	fuse_reply_buf(req, left ? (const char *)text->data + at : NULL, size < left ? size : left);
}

static void read_now(fuse_req_t req, struct handle *h, size_t size, off_t at)
{
	if (h->stream)
		stream_read(h->stream, req, at, size);
	else if (h->reader)
		reader_read(h->reader, req, at, size);
	else if (h->control)
		read_control(req, h->control, size, at);
	else if (h->node->kind == NODE_CLUSTER_FILE && !h->writes)
		reply_shown(req, &h->shown, size, at);
	else
		fuse_reply_err(req, EBADF);
}

static void read_later(struct later *l)
{
	read_now(l->req, handle_of(&l->fi), l->size, l->at);
}

void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t at, struct fuse_file_info *fi)
{
	struct ops *o = ops_of(req);
	struct node *n = nodes_of(&o->nodes, ino);
	if (ops_may_wait(n))
		ops_later(o, &(struct later){.req = req, .node = n, .fi = *fi, .size = size, .at = at, .run = read_later});
	else
		read_now(req, handle_of(fi), size, at);
}

static void configure_now(fuse_req_t req, struct handle *h, const char *text, size_t size)
{
	struct err e = ERR_INIT;
	if (controlfile_write(h->control, text, size, &e) < 0)
		ops_fail(req, "cannot configure", NULL, &e);
	else
		fuse_reply_write(req, size);
}

static void configure_later(struct later *l)
{
	configure_now(l->req, handle_of(&l->fi), l->data, l->size);
}

/* In a cluster it is written to ZooKeeper. */
static void configure(fuse_req_t req, struct handle *h, const char *text, size_t size, const struct fuse_file_info *fi)
{
	struct ops *o = ops_of(req);
	char *copy = o->cluster.join && size ? malloc(size) : NULL;
	if (!copy) {
		configure_now(req, h, text, size);
		return;
	}
	memcpy(copy, text, size);
	ops_later(o, &(struct later){.req = req, .node = h->node, .fi = *fi, .size = size, .data = copy, .run = configure_later});
}

static void end_configuring(fuse_req_t req, struct handle *h)
{
	struct err e = ERR_INIT;
	if (controlfile_flush(h->control, &e) < 0)
		ops_fail(req, "cannot configure", NULL, &e);
	else
		fuse_reply_err(req, 0);
}

static void end_configuring_later(struct later *l)
{
	end_configuring(l->req, handle_of(&l->fi));
}

void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t at, struct fuse_file_info *fi)
{
	struct handle *h = handle_of(fi);
	(void)ino;
	(void)at; /* the kernel's guess of the end */
	if (!(fi->flags & O_APPEND))
		fuse_reply_err(req, EPERM);
	else if (h->writer)
		writer_write(h->writer, req, fi->lock_owner, buf, size);
	else if (!h->control)
		fuse_reply_err(req, EBADF);
	else
		configure(req, h, buf, size, fi);
}

void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct ops *o = ops_of(req);
	struct handle *h = handle_of(fi);
	(void)ino;
	locks_drop(&o->locks, node_ino(h->node), LOCK_POSIX, fi->lock_owner, 0);
	if (h->writer)
		writer_flush(h->writer, req, fi->lock_owner);
	else if (h->control && o->cluster.join)
		ops_later(o, &(struct later){.req = req, .node = h->node, .fi = *fi, .run = end_configuring_later});
	else if (h->control)
		end_configuring(req, h);
	else
		fuse_reply_err(req, 0);
}

void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct ops *o = ops_of(req);
	struct handle *h = handle_of(fi);
	struct partition *p = h->node->partition;
	struct err e = ERR_INIT;
	struct writer *w;
	gone_fn *gone;
	(void)ino;
	(void)datasync;
	if (h->writer)
		writer_fsync(h->writer, req);
	else if (!p)
		fuse_reply_err(req, 0); /* properties are durable when they are in force */
	else if (make_writer(o, p, false, &w, &gone, &e) < 0)
		ops_fail(req, "cannot flush", p, &e);
	else { /* a read-only handle may ask too: what others have appended becomes durable */
		writer_fsync(w, req); /* from here on the handle may be gone */
		writer_end(w, gone, p);
	}
}

void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length, struct fuse_file_info *fi)
{
	const struct node *n = handle_of(fi)->node;
	struct err e = ERR_INIT;
	(void)ino;
	if (n->kind != NODE_PARTITION || mode != (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE) || offset != 0)
		fuse_reply_err(req, EPERM);
	else if (ops_delete_head(ops_of(req), n->partition, length, &e) < 0)
		ops_fail(req, "cannot delete messages of", n->partition, &e);
	else
		fuse_reply_err(req, 0);
}

/* The deleted head is no hole: grep would call the file binary, and cp copy it as NULs. */
static void seek(struct ops *o, fuse_req_t req, struct node *n, off_t at, int whence, struct fuse_file_info *fi)
{
	struct err e = ERR_INIT;
	struct stat st;
	if (ops_attributes(o, n, &st, &e) < 0) {
		ops_fail(req, "cannot stat", n->partition, &e);
		return;
	}
	const struct handle *h = handle_of(fi);
	off_t end = st.st_size - (h->reader ? reader_moved_by(h->reader) : 0); /* where this handle meets the end */
	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		fuse_reply_err(req, EINVAL);
	else if (at < 0 || at >= end)
		fuse_reply_err(req, ENXIO);
	else
		fuse_reply_lseek(req, whence == SEEK_DATA ? at : end);
}

static void seek_later(struct later *l)
{
	struct err e = ERR_INIT;
	if (nodes_look(&l->ops->nodes, l->node, &e) < 0)
		ops_fail(l->req, "cannot stat", l->node->partition, &e);
	else
		seek(l->ops, l->req, l->node, l->at, (int)l->size, &l->fi);
}

void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t at, int whence, struct fuse_file_info *fi)
{
	struct ops *o = ops_of(req);
	struct node *n = nodes_of(&o->nodes, ino);
	if (ops_may_wait(n))
		ops_later(o, &(struct later){.req = req, .node = n, .fi = *fi, .size = (size_t)whence, .at = at, .run = seek_later});
	else
		seek(o, req, n, at, whence, fi);
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

void op_getlk(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *lock)
{
	struct ops *o = ops_of(req);
	struct lock_range want = posix_range(fi, lock);
	locks_test(&o->locks, req, node_ino(nodes_of(&o->nodes, ino)), &want);
}

void op_setlk(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *lock, int wait)
{
	struct ops *o = ops_of(req);
	struct lock_range want = posix_range(fi, lock);
	locks_set(&o->locks, req, node_ino(nodes_of(&o->nodes, ino)), &want, wait);
}

void op_flock(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, int op)
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
