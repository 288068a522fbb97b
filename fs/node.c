#include "fs/node.h"

#include <errno.h>
#include <stdio.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/broker.h"
#include "fs/stream.h"
#include "store/clock.h"

enum {
	ROOT_ID = 1,             /* FUSE's */
	CLUSTER_INO = 2,
	BLOCK_BYTES = 1 << 20,   /* what cat, cp and others read at once */
};

enum { RETRY_NS = 1000000000 }; /* a thread that was told to look a name up again does so at once, or not at all */

struct retry {
	struct retry *next;
	uint64_t ino;
	pid_t thread_id;
	int64_t since_ns;
};

static const char earliest_suffix[] = "@earliest";

void nodes_init(struct nodes *ns, struct broker *b, const struct stat *mount_point)
{
	*ns = (struct nodes){
		.broker = b,
		.root = {.kind = NODE_ROOT, .index = -1},
		.root_mode = mount_point->st_mode & 01777,
		.root_uid = mount_point->st_uid,
		.root_gid = mount_point->st_gid,
		.generation = topics_generation(b),
		.root_mtime_ms = wall_now_ms(),
	};
	ns->root.next = ns->root.prev = &ns->root;
	pthread_mutex_init(&ns->lock, NULL);
}

static void free_node(struct node *n)
{
	partition_unref(n->partition);
	if (n->topic)
		topic_unref(n->topic);
	free(n->child);
	free(n);
}

void nodes_release(struct nodes *ns)
{
	for (struct node *n = ns->root.next, *next; n != &ns->root; n = next) {
		next = n->next;
		free_node(n);
	}
	for (struct retry *r = ns->retries, *next; r; r = next) {
		next = r->next;
		free(r);
	}
	free(ns->topic);
	pthread_mutex_destroy(&ns->lock);
}

struct node *nodes_of(struct nodes *ns, uint64_t nodeid)
{
	return nodeid == ROOT_ID ? &ns->root : (struct node *)(uintptr_t)nodeid;
}

uint64_t nodes_id(const struct nodes *ns, const struct node *n)
{
	return n == &ns->root ? ROOT_ID : (uint64_t)(uintptr_t)n;
}

/* ---- names ---- */

bool node_name_is_reserved(const char *name)
{
	return !strcmp(name, ".groups") || !strcmp(name, CLUSTER_DIR) || !strcmp(name, ".metrics");
}

bool node_topic_is_listed(const struct topic *t)
{
	return !topic_is_internal(t) && !topic_is_deleted(t) && !node_name_is_reserved(topic_name(t));
}

/* The digits at *text as a partition's number, without leading zeros; *text moves behind them. -1: there is none. */
static int32_t take_number(const char **text)
{
	const char *p = *text;
	int64_t v = 0;
	if (*p < '0' || *p > '9' || (*p == '0' && p[1] >= '0' && p[1] <= '9'))
		return -1;
	for (; *p >= '0' && *p <= '9'; p++) {
		v = v * 10 + (*p - '0');
		if (v > INT32_MAX)
			return -1;
	}
	*text = p;
	return (int32_t)v;
}

int32_t node_partition_number(const char *name)
{
	int32_t n = take_number(&name);
	return *name ? -1 : n;
}

/* ---- the table ---- */

/* The place in its parent, or in the table, where the current node of this kind and index stands; NULL where there is no room yet. locks: the table's. */
static struct node **place(struct nodes *ns, struct node *parent, enum node_kind kind, int32_t index)
{
	switch (kind) {
	case NODE_TOPIC:
		return (size_t)index < ns->topic_cap ? &ns->topic[index] : NULL;
	case NODE_PARTITION:
		return index < parent->child_cap ? &parent->child[index] : NULL;
	case NODE_EARLIEST:
		return index < parent->child_cap ? &parent->child[parent->child_cap + index] : NULL;
	case NODE_CLUSTER:
		return &ns->cluster;
	case NODE_CLUSTER_FILE:
		return &ns->cluster_file[index];
	default:
		return &parent->config;
	}
}

/* Room for children up to that index. locks: the table's. */
static bool grow_children(struct node *parent, int32_t index)
{
	int32_t cap = topic_partition_count(parent->topic);
	cap = cap > index ? cap : index + 1;
	struct node **v = calloc((size_t)cap * 2, sizeof(struct node *));
	if (!v)
		return false;
	for (int32_t i = 0; i < parent->child_cap; i++) {
		v[i] = parent->child[i];
		v[cap + i] = parent->child[parent->child_cap + i];
	}
	free(parent->child);
	parent->child = v;
	parent->child_cap = cap;
	return true;
}

static bool grow_topics(struct nodes *ns, size_t index)
{
	size_t cap = ns->topic_cap ? ns->topic_cap : 16;
	while (cap <= index)
		cap *= 2;
	struct node **v = realloc(ns->topic, cap * sizeof(struct node *));
	if (!v)
		return false;
	memset(v + ns->topic_cap, 0, (cap - ns->topic_cap) * sizeof(struct node *));
	ns->topic = v;
	ns->topic_cap = cap;
	return true;
}

/* The same, with room made. NULL: no memory. */
static struct node **need_place(struct nodes *ns, struct node *parent, enum node_kind kind, int32_t index)
{
	struct node **at = place(ns, parent, kind, index);
	if (!at && (kind == NODE_TOPIC ? grow_topics(ns, (size_t)index) : grow_children(parent, index)))
		at = place(ns, parent, kind, index);
	return at;
}

static int32_t place_index(const struct node *n)
{
	return n->kind == NODE_TOPIC ? topic_serial(n->topic) : n->index;
}

/* Whether a lookup may be answered with it. start_position: of the log, for @earliest. */
static bool is_current(const struct node *n, int64_t start_position)
{
	if (n->partition && !partition_is_there(n->partition)) /* another replica, or none, is in its place */
		return false;
	if (n->kind == NODE_EARLIEST)
		return n->base_position == start_position;
	return n->kind != NODE_PARTITION || (!n->writers && n->kept_for == ANY_THREAD);
}

/* The current node of that kind and index, a lookup counted; NULL where there is none to be used. */
static struct node *find_current(struct nodes *ns, struct node *parent, enum node_kind kind, int32_t index, int64_t start_position)
{
	pthread_mutex_lock(&ns->lock);
	struct node **at = place(ns, parent, kind, index);
	struct node *n = at ? *at : NULL;
	if (n && !is_current(n, start_position))
		n = NULL;
	if (n)
		n->lookups++;
	pthread_mutex_unlock(&ns->lock);
	return n;
}

/* Makes a node the current one, with one lookup. Owns the references to t and p from now on, also when it fails. */
static int add_node(struct nodes *ns, struct node *parent, const struct node *like, struct node **out, struct err *e)
{
	struct node *n = malloc(sizeof *n), **at = NULL;
	if (n) {
		*n = *like;
		n->parent = like->kind == NODE_TOPIC || like->kind == NODE_CLUSTER ? NULL : parent;
		n->lookups = 1;
		pthread_mutex_lock(&ns->lock);
		at = need_place(ns, parent, n->kind, place_index(n));
		if (at) {
			if (n->parent)
				parent->holds++;
			*at = n; /* one that stood there is still known to the kernel, and freed when that forgets it */
			n->next = &ns->root;
			n->prev = ns->root.prev;
			n->prev->next = n->next->prev = n;
		}
		pthread_mutex_unlock(&ns->lock);
	}
	if (at) {
		*out = n;
		return 0;
	}
	free(n);
	partition_unref(like->partition);
	topic_unref(like->topic);
	return err_set(e, ERR_NO_MEMORY, "no memory for a file of the mount");
}

int nodes_lookup_topic(struct nodes *ns, struct topic *t, struct node **out, struct err *e)
{
	*out = find_current(ns, &ns->root, NODE_TOPIC, topic_serial(t), 0);
	if (*out)
		return 0;
	topic_ref(t);
	struct node like = {.kind = NODE_TOPIC, .topic = t, .index = -1};
	return add_node(ns, &ns->root, &like, out, e);
}

/* Of the root or, with a file's index, of .cluster. */
static int lookup_cluster(struct nodes *ns, struct node *parent, enum node_kind kind, int32_t index, struct node **out, struct err *e)
{
	*out = find_current(ns, parent, kind, index, 0);
	struct node like = {.kind = kind, .index = index};
	return *out ? 0 : add_node(ns, parent, &like, out, e);
}

int nodes_lookup_cluster_file(struct nodes *ns, struct node *dir, enum cluster_file f, struct node **out, struct err *e)
{
	return lookup_cluster(ns, dir, NODE_CLUSTER_FILE, (int32_t)f, out, e);
}

static int lookup_in_root(struct nodes *ns, const char *name, struct node **out, struct err *e)
{
	if (!strcmp(name, CLUSTER_DIR))
		return lookup_cluster(ns, &ns->root, NODE_CLUSTER, -1, out, e);
	struct topic *t = node_name_is_reserved(name) ? NULL : topics_find(ns->broker, name);
	if (!t)
		return err_set(e, ERR_NOT_FOUND, "there is no topic %s", name);
	int rc = nodes_lookup_topic(ns, t, out, e);
	topic_unref(t);
	return rc;
}

static int lookup_config(struct nodes *ns, struct node *parent, struct node **out, struct err *e)
{
	*out = find_current(ns, parent, NODE_CONFIG, -1, 0);
	if (*out)
		return 0;
	topic_ref(parent->topic);
	struct node like = {.kind = NODE_CONFIG, .topic = parent->topic, .index = -1};
	return add_node(ns, parent, &like, out, e);
}

static int no_partition(struct node *topic, int32_t index, struct err *e)
{
	return err_set(e, ERR_NOT_FOUND, "topic %s has no partition %d", topic_name(topic->topic), (int)index);
}

/* ---- an OPEN that is refused, and comes back ---- */

/* The thread's entry, or the end of the list. Entries that came to nothing are dropped on the way. locks: the table's. */
static struct retry **find_retry(struct nodes *ns, uint64_t ino, pid_t thread_id)
{
	struct retry **at = &ns->retries, *r;
	int64_t now_ns = *at ? mono_now().ns : 0;
	while ((r = *at) && !(r->ino == ino && r->thread_id == thread_id)) {
		if (now_ns - r->since_ns < RETRY_NS)
			at = &r->next;
		else {
			*at = r->next;
			free(r);
		}
	}
	return at;
}

static bool is_retrying(struct nodes *ns, uint64_t ino, pid_t thread_id)
{
	pthread_mutex_lock(&ns->lock);
	bool found = *find_retry(ns, ino, thread_id);
	pthread_mutex_unlock(&ns->lock);
	return found;
}

static bool add_retry(struct nodes *ns, uint64_t ino, pid_t thread_id)
{
	struct retry *r = malloc(sizeof *r);
	if (!r)
		return false;
	*r = (struct retry){.next = ns->retries, .ino = ino, .thread_id = thread_id, .since_ns = mono_now().ns};
	ns->retries = r;
	return true;
}

static bool take_retry(struct nodes *ns, uint64_t ino, pid_t thread_id)
{
	struct retry **at = find_retry(ns, ino, thread_id), *r = *at;
	if (!r)
		return false;
	*at = r->next;
	free(r);
	return true;
}

int nodes_lookup_partition(struct nodes *ns, struct node *topic, int32_t index, pid_t thread_id, struct node **out, struct err *e)
{
	bool retrying = is_retrying(ns, node_stable_ino(topic->topic, index), thread_id);
	*out = retrying ? NULL : find_current(ns, topic, NODE_PARTITION, index, 0);
	if (*out)
		return 0;
	struct partition *p = topic_partition(topic->topic, index);
	if (!p)
		return no_partition(topic, index, e);
	topic_ref(topic->topic);
	struct node like = {.kind = NODE_PARTITION, .topic = topic->topic, .partition = p, .index = index, .kept_for = retrying ? thread_id : ANY_THREAD};
	return add_node(ns, topic, &like, out, e);
}

static int lookup_earliest(struct nodes *ns, struct node *topic, int32_t index, struct node **out, struct err *e)
{
	struct visible v;
	struct partition *p = topic_partition(topic->topic, index);
	if (!p)
		return no_partition(topic, index, e);
	int rc = partition_visible(p, &v, e);
	if (rc == ERR_NOT_YET) {
		v.start_position = -1;
		rc = 0;
	}
	*out = rc == 0 ? find_current(ns, topic, NODE_EARLIEST, index, v.start_position) : NULL;
	if (rc < 0 || *out) {
		partition_unref(p);
		return rc;
	}
	topic_ref(topic->topic);
	struct node like = {.kind = NODE_EARLIEST, .topic = topic->topic, .partition = p, .index = index, .base_position = v.start_position};
	return add_node(ns, topic, &like, out, e);
}

int nodes_lookup(struct nodes *ns, struct node *parent, const char *name, pid_t thread_id, struct node **out, struct err *e)
{
	if (parent->kind == NODE_ROOT)
		return lookup_in_root(ns, name, out, e);
	if (parent->kind == NODE_CLUSTER && clusterfile_find(name) >= 0)
		return nodes_lookup_cluster_file(ns, parent, (enum cluster_file)clusterfile_find(name), out, e);
	if (parent->kind != NODE_TOPIC || topic_is_deleted(parent->topic))
		return err_set(e, ERR_NOT_FOUND, "there is no %s", name);
	if (!strcmp(name, ".config"))
		return lookup_config(ns, parent, out, e);
	const char *rest = name;
	int32_t index = take_number(&rest);
	if (index >= 0 && !*rest)
		return nodes_lookup_partition(ns, parent, index, thread_id, out, e);
	if (index >= 0 && !strcmp(rest, earliest_suffix))
		return lookup_earliest(ns, parent, index, out, e);
	return err_set(e, ERR_NOT_FOUND, "topic %s has no file %s", topic_name(parent->topic), name);
}

/* Takes n, and then its parent, out of the table if nothing refers to it any more; returns them chained by `parent`, to be freed without the lock.
 * locks: the table's. */
static struct node *take_unused(struct nodes *ns, struct node *n)
{
	struct node *unused = NULL;
	while (n && n != &ns->root && !n->lookups && !n->holds) {
		struct node *parent = n->parent, **at = place(ns, parent, n->kind, place_index(n));
		if (at && *at == n)
			*at = NULL;
		if (parent)
			parent->holds--;
		n->prev->next = n->next;
		n->next->prev = n->prev;
		n->parent = unused;
		unused = n;
		n = parent;
	}
	return unused;
}

static void free_chain(struct node *n)
{
	while (n) {
		struct node *next = n->parent;
		free_node(n);
		n = next;
	}
}

void nodes_forget(struct nodes *ns, struct node *n, uint64_t lookups)
{
	if (n == &ns->root)
		return;
	pthread_mutex_lock(&ns->lock);
	n->lookups -= lookups < n->lookups ? lookups : n->lookups;
	struct node *unused = take_unused(ns, n);
	pthread_mutex_unlock(&ns->lock);
	free_chain(unused);
}

bool nodes_open(struct nodes *ns, struct node *n, bool writes, pid_t thread_id)
{
	pthread_mutex_lock(&ns->lock);
	bool taken = n->kind == NODE_PARTITION && (n->writers || (n->kept_for != ANY_THREAD && n->kept_for != thread_id));
	bool again = take_retry(ns, node_ino(n), thread_id);
	bool refused = taken && !again && thread_id > 0 && add_retry(ns, node_ino(n), thread_id);
	if (!refused) {
		n->holds++;
		n->writers += writes;
		n->kept_for = ANY_THREAD;
	}
	pthread_mutex_unlock(&ns->lock);
	return !refused;
}

void nodes_close(struct nodes *ns, struct node *n, bool writes)
{
	pthread_mutex_lock(&ns->lock);
	n->holds--;
	n->writers -= writes;
	struct node *unused = take_unused(ns, n);
	pthread_mutex_unlock(&ns->lock);
	free_chain(unused);
}

void nodes_set_stream(struct nodes *ns, struct node *n, struct stream *s, bool on)
{
	pthread_mutex_lock(&ns->lock);
	if (on && !n->stream)
		n->stream = s;
	else if (!on && n->stream == s)
		n->stream = NULL;
	pthread_mutex_unlock(&ns->lock);
}

void nodes_retire(struct nodes *ns, struct node *topic, int32_t index)
{
	pthread_mutex_lock(&ns->lock);
	struct node **at = place(ns, topic, NODE_PARTITION, index);
	if (at)
		*at = NULL;
	pthread_mutex_unlock(&ns->lock);
}

/* ---- attributes ---- */

uint64_t node_stable_ino(const struct topic *t, int32_t index)
{
	return ((uint64_t)topic_serial(t) + 1) << 34 | (uint64_t)(index + 1) << 2;
}

uint64_t node_ino(const struct node *n)
{
	switch (n->kind) {
	case NODE_ROOT:
		return ROOT_ID;
	case NODE_EARLIEST:
		return node_stable_ino(n->topic, n->index) | 1;
	case NODE_CONFIG:
		return node_stable_ino(n->topic, -1) | 2;
	case NODE_CLUSTER:
	case NODE_CLUSTER_FILE:
		return CLUSTER_INO + (uint64_t)(n->index + 1); /* no topic has one so small */
	default:
		return node_stable_ino(n->topic, n->index);
	}
}

static void set_times(struct stat *st, int64_t ms)
{
	struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
	st->st_atim = st->st_mtim = st->st_ctim = t;
}

/* The root changes when topics come or go. */
static int64_t root_mtime_ms(struct nodes *ns)
{
	size_t generation = topics_generation(ns->broker);
	pthread_mutex_lock(&ns->lock);
	if (generation != ns->generation) {
		ns->generation = generation;
		ns->root_mtime_ms = wall_now_ms();
	}
	int64_t ms = ns->root_mtime_ms;
	pthread_mutex_unlock(&ns->lock);
	return ms;
}

/* Of a file without positions. */
static int64_t sequential_size(struct nodes *ns, const struct node *n, int64_t end_offset)
{
	pthread_mutex_lock(&ns->lock);
	int64_t size = n->stream ? stream_size(n->stream, end_offset) : 0;
	pthread_mutex_unlock(&ns->lock);
	return size;
}

static int file_attributes(struct nodes *ns, const struct node *n, struct stat *st, struct err *e)
{
	struct visible v;
	int rc = partition_visible(n->partition, &v, e);
	if (rc == ERR_NOT_YET) /* it is elsewhere, and was not looked at: the kernel asks once more, by GETATTR */
		v = (struct visible){0};
	else if (rc < 0)
		return rc;
	int64_t size = v.sequential ? sequential_size(ns, n, v.end_offset) : v.end_position - (n->base_position > 0 ? n->base_position : 0);
	st->st_size = size > 0 ? size : 0;
	st->st_blocks = (v.bytes + 511) / 512;
	set_times(st, v.mtime_ms > 0 ? v.mtime_ms : topic_created_ms(n->topic));
	return 0;
}

int nodes_look(struct nodes *ns, struct node *n, struct err *e)
{
	struct visible v;
	int64_t none = -1;
	(void)ns;
	int rc = partition_look(n->partition, &v, e);
	if (rc == 0 && n->kind == NODE_EARLIEST)
		atomic_compare_exchange_strong(&n->base_position, &none, v.start_position);
	return rc;
}

int node_attributes(struct nodes *ns, const struct node *n, struct stat *st, struct err *e)
{
	memset(st, 0, sizeof *st);
	st->st_ino = node_ino(n);
	st->st_nlink = 1;
	st->st_blksize = BLOCK_BYTES;
	if (n->kind == NODE_ROOT) {
		st->st_mode = S_IFDIR | ns->root_mode;
		st->st_nlink = 2 + topics_count(ns->broker);
		st->st_uid = ns->root_uid;
		st->st_gid = ns->root_gid;
		set_times(st, root_mtime_ms(ns));
		return 0;
	}
	if (n->kind == NODE_CLUSTER || n->kind == NODE_CLUSTER_FILE) { /* who may look at the root */
		st->st_mode = n->kind == NODE_CLUSTER ? S_IFDIR | (ns->root_mode & 0555) : S_IFREG | (ns->root_mode & 0444);
		st->st_nlink = n->kind == NODE_CLUSTER ? 2 : 1;
		st->st_uid = ns->root_uid;
		st->st_gid = ns->root_gid;
		set_times(st, wall_now_ms());
		return 0;
	}
	struct topic_owner o = topic_owner(n->topic);
	st->st_uid = o.uid;
	st->st_gid = o.gid;
	switch (n->kind) {
	case NODE_TOPIC:
		st->st_mode = S_IFDIR | o.dir_mode;
		st->st_nlink = 2;
		break;
	case NODE_CONFIG: /* who may change the directory may change the topic */
		st->st_mode = S_IFREG | (o.dir_mode & 0666);
		break;
	default:
		st->st_mode = S_IFREG | (n->kind == NODE_EARLIEST ? o.file_mode & ~(mode_t)0222 : o.file_mode);
		return file_attributes(ns, n, st, e);
	}
	set_times(st, topic_created_ms(n->topic));
	return 0;
}
