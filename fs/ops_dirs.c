/* The part of ops that makes, lists and deletes topics and partitions. */
#include "fs/ops_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/broker.h"
#include "cluster/deliver/deliver.h"

/* ---- topics and partitions come and go ---- */

void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct ops *o = ops_of(req);
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	struct topic_owner owner = {.uid = ctx->uid, .gid = ctx->gid, .dir_mode = mode & 07777, .file_mode = mode & 0666};
	struct err e = ERR_INIT;
	struct topic *t;
	struct node *n;
	if (nodes_of(&o->nodes, parent)->kind != NODE_ROOT || node_name_is_reserved(name) || topic_name_is_internal(name)) {
		fuse_reply_err(req, EPERM);
		return;
	}
	if (strlen(name) > TOPIC_NAME_BYTES) {
		fuse_reply_err(req, ENAMETOOLONG);
		return;
	}
	if (topics_create(o->broker, name, 0, &owner, &t, &e) < 0) {
		ops_fail(req, "cannot make a topic", NULL, &e);
		return;
	}
	if (nodes_lookup_topic(&o->nodes, t, &n, &e) < 0)
		ops_fail(req, "cannot make a topic", NULL, &e);
	else
		ops_reply_entry(o, req, n);
	topic_unref(t);
}

void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct ops *o = ops_of(req);
	struct err e = ERR_INIT;
	bool reserved = node_name_is_reserved(name);
	struct topic *t = nodes_of(&o->nodes, parent)->kind == NODE_ROOT && !reserved ? topics_find(o->broker, name) : NULL;
	if (reserved)
		fuse_reply_err(req, EPERM);
	else if (!t)
		fuse_reply_err(req, ENOENT);
	else if (topics_delete(o->broker, t, true, &e) < 0)
		ops_fail(req, "cannot delete a topic", NULL, &e);
	else
		fuse_reply_err(req, 0);
	if (t)
		topic_unref(t);
}

int ops_add_partition(struct node *parent, const char *name, bool exclusive)
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

void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t device)
{
	struct ops *o = ops_of(req);
	struct node *dir = nodes_of(&o->nodes, parent), *n;
	struct err e = ERR_INIT;
	(void)device;
	int error = S_ISREG(mode) ? ops_add_partition(dir, name, true) : EPERM;
	if (error)
		fuse_reply_err(req, error);
	else if (nodes_lookup(&o->nodes, dir, name, fuse_req_ctx(req)->pid, &n, &e) < 0)
		ops_fail(req, "cannot make a partition", NULL, &e);
	else
		ops_reply_entry(o, req, n);
}

/* The offset of the record in which that position of the file is; -1: all that is there. 1: nothing is before it. */
static int offset_at(struct partition *p, int64_t length, int64_t *offset, struct err *e)
{
	struct visible v;
	int64_t position;
	*offset = -1;
	if (length == INT64_MAX)
		return 0;
	int rc = partition_look(p, &v, e);
	if (rc == 0 && v.sequential)
		rc = err_set(e, ERR_UNSUPPORTED, "topic %s is compacted: its files have no positions", partition_topic_name(p));
	else if (rc == 0 && length >= v.end_position)
		*offset = v.end_offset;
	else if (rc == 0)
		rc = length <= v.start_position ? 1 : partition_find(p, length, offset, &position, e);
	return rc;
}

int ops_delete_head(struct ops *o, struct partition *p, int64_t length, struct err *e)
{
	int64_t offset;
	int rc = offset_at(p, length, &offset, e);
	if (rc == 0)
		rc = deliver_delete_before(o->deliver, p, offset, e);
	return rc < 0 ? rc : 0;
}

void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
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
	if (ops_delete_head(o, p, INT64_MAX, &e) < 0)
		ops_fail(req, "cannot delete the messages of", p, &e);
	else {
		nodes_retire(&o->nodes, dir, index);
		fuse_reply_err(req, 0);
	}
	partition_unref(p);
}

void op_symlink(fuse_req_t req, const char *link, fuse_ino_t parent, const char *name)
{
	(void)link;
	(void)parent;
	(void)name;
	fuse_reply_err(req, EPERM);
}

void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t to_parent, const char *to_name, unsigned flags)
{
	(void)parent;
	(void)name;
	(void)to_parent;
	(void)to_name;
	(void)flags;
	fuse_reply_err(req, EPERM);
}

void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t to_parent, const char *to_name)
{
	(void)ino;
	(void)to_parent;
	(void)to_name;
	fuse_reply_err(req, EPERM);
}

/* ---- directories ---- */

enum { DOTS = 2 }; /* the first two entries are . and .. */

static void forget_names(struct directory *d)
{
	topics_drop(d->topic, d->count);
	d->topic = NULL;
	d->count = 0;
}

/* false: no memory. */
static bool take_names(struct ops *o, struct directory *d)
{
	size_t n;
	forget_names(d);
	d->topic = topics_take(o->broker, &n);
	for (size_t i = 0; i < n; i++) {
		if (node_topic_is_listed(d->topic[i]))
			d->topic[d->count++] = d->topic[i];
		else
			topic_unref(d->topic[i]);
	}
	return d->topic;
}

void ops_close_directory(struct ops *o, struct directory *d)
{
	pthread_mutex_lock(&o->lock);
	d->prev->next = d->next;
	d->next->prev = d->prev;
	pthread_mutex_unlock(&o->lock);
	forget_names(d);
	free(d);
}

static struct directory *directory_of(const struct fuse_file_info *fi)
{
	return (struct directory *)(uintptr_t)fi->fh;
}

void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct ops *o = ops_of(req);
	struct directory *d = calloc(1, sizeof *d);
	(void)ino;
	if (!d) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	pthread_mutex_lock(&o->lock);
	d->next = &o->open_dirs;
	d->prev = o->open_dirs.prev;
	d->prev->next = d->next->prev = d;
	pthread_mutex_unlock(&o->lock);
	fi->fh = (uint64_t)(uintptr_t)d;
	if (fuse_reply_open(req, fi) < 0)
		ops_close_directory(o, d);
}

void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	ops_close_directory(ops_of(req), directory_of(fi));
	fuse_reply_err(req, 0);
}

/* The i-th entry's name; false: there are no more. */
static bool entry_name(const struct node *n, const struct directory *d, off_t i, char name[TOPIC_NAME_BYTES + 1])
{
	if (i < DOTS)
		snprintf(name, TOPIC_NAME_BYTES + 1, "%s", i ? ".." : ".");
	else if (n->kind == NODE_ROOT && (size_t)i - DOTS < d->count)
		snprintf(name, TOPIC_NAME_BYTES + 1, "%s", topic_name(d->topic[i - DOTS]));
	else if (n->kind == NODE_TOPIC && !topic_is_deleted(n->topic) && i - DOTS < topic_partition_count(n->topic))
		snprintf(name, TOPIC_NAME_BYTES + 1, "%d", (int)(i - DOTS));
	else if (n->kind == NODE_CLUSTER && i - DOTS < CLUSTER_FILES)
		snprintf(name, TOPIC_NAME_BYTES + 1, "%s", clusterfile_name((enum cluster_file)(i - DOTS)));
	else
		return false;
	return true;
}

/* What the kernel is told of it, with a lookup counted. Where there is no more than the name to be told (an offline partition), *node is NULL. */
static void entry_node(struct ops *o, struct node *n, const struct directory *d, off_t i, struct node **node, struct fuse_entry_param *param)
{
	*node = NULL;
	*param = (struct fuse_entry_param){.attr = {.st_mode = S_IFDIR, .st_ino = node_ino(n)}};
	if (i < DOTS)
		return;
	i -= DOTS;
	int rc = n->kind == NODE_ROOT ? nodes_lookup_topic(&o->nodes, d->topic[i], node, NULL)
	       : n->kind == NODE_CLUSTER ? nodes_lookup_cluster_file(&o->nodes, n, (enum cluster_file)i, node, NULL)
					 : nodes_lookup_partition(&o->nodes, n, (int32_t)i, ANY_THREAD, node, NULL);
	if (rc == 0 && ops_entry(o, *node, param, NULL) == 0)
		return;
	if (rc == 0)
		nodes_forget(&o->nodes, *node, 1);
	*node = NULL;
	*param = (struct fuse_entry_param){0};
	param->attr.st_mode = n->kind == NODE_ROOT ? S_IFDIR : S_IFREG;
	param->attr.st_ino = n->kind == NODE_ROOT ? node_stable_ino(d->topic[i], -1) : n->kind == NODE_CLUSTER ? node_ino(n) : node_stable_ino(n->topic, (int32_t)i);
}

struct listing {
	char *buf;
	size_t size, used;
	struct node **node; /* whose lookups the kernel is about to get */
	size_t count;
};

/* Fills a listing from the entry `at` on. With names and nodes the kernel need not look each name up: what is asked next is a size. */
static void list_entries(struct ops *o, fuse_req_t req, struct node *n, const struct directory *d, off_t at, struct listing *l)
{
	char name[TOPIC_NAME_BYTES + 1];
	struct fuse_entry_param param;
	for (; entry_name(n, d, at, name); at++) {
		size_t room = l->size - l->used;
		if (fuse_add_direntry_plus(req, NULL, 0, name, NULL, 0) > room)
			return;
		struct node *node;
		entry_node(o, n, d, at, &node, &param);
		if (node)
			l->node[l->count++] = node;
		l->used += fuse_add_direntry_plus(req, l->buf + l->used, room, name, &param, at + 1);
	}
}

void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t at, struct fuse_file_info *fi)
{
	struct ops *o = ops_of(req);
	struct node *n = nodes_of(&o->nodes, ino);
	struct directory *d = directory_of(fi);
	size_t least = fuse_add_direntry_plus(req, NULL, 0, ".", NULL, 0);
	struct listing l = {.buf = malloc(size), .size = size, .node = malloc((size / least + 1) * sizeof(struct node *))};
	bool taken = n->kind != NODE_ROOT || at != 0 || take_names(o, d);
	if (!l.buf || !l.node || !taken)
		fuse_reply_err(req, ENOMEM);
	else {
		list_entries(o, req, n, d, at, &l);
		if (fuse_reply_buf(req, l.buf, l.used) < 0)
			for (size_t i = 0; i < l.count; i++)
				nodes_forget(&o->nodes, l.node[i], 1);
	}
	free(l.buf);
	free(l.node);
}
