/*
 * The mirror's work, on the queue of the session with ZooKeeper: one group after the other.
 *
 * 1. Once a second the list of groups that have changed is taken. 2. Of each in turn it is found out, under its lock, what differs from what was written last: at most OPS writes, the rest when these are done.
 * 3. They are made in three stages: what an earlier coordinator, or an earlier session of ours, has left under ids and owners goes; then what is no longer; then what is new. 4. Each stage has WINDOW requests under
 * way at most: the controller's requests stand in the same line.
 *
 * What fails is said, and not tried again before it changes; but for a session that has ended, after which everything is written in the next.
 */
#include "cluster/group/mirror.h"

#include <stdio.h>
#include <stdlib.h>

#include "cluster/group/group.h"
#include "cluster/zk/layout.h"
#include "cluster/zk/queue.h"
#include "store/buf.h"
#include "store/diag.h"

enum { TICK_MS = 1000, OPS = 1024, WINDOW = 32, ATTEMPTS = 4 };

struct node { char *path, *value; }; /* what is there, or is to be: the value without a time */

struct gone { struct gone *next; struct blob *topic; int32_t partition; };

struct mirrored { /* of a group; group.lock */
	int64_t session;        /* that its nodes were made in */
	struct node *node;      /* under ids and owners, by path */
	size_t nodes;
	struct gone *gone;      /* offsets to be removed */
};

struct mirror {
	struct coordinator *coordinator;
	struct zk *zk;
	struct queue *queue;
	pthread_mutex_t lock;   /* the list, and the next two */
	pthread_cond_t quiet;
	struct group *dirty, **dirty_tail;
	_Atomic bool stopping;
	bool at_work;           /* written by the queue's thread */
	/* The queue's thread: */
	struct queue_timer tick;
	int64_t session;        /* for which all groups were put on the list */
	struct group *batch;    /* what is left of the list that was taken */
	struct pool_job all_job;
	bool all_queued;        /* lock */
};

enum stage { STAGE_CLEAR, STAGE_DELETE, STAGE_PUT, STAGES };

struct round;
struct op { struct round *flush; enum stage stage; char *path, *value; bool ephemeral, known, subtree, made_path; int attempts; };

struct round { /* what is written of one group at a time */
	struct mirror *mirror;
	struct group *group;    /* referenced */
	struct op op[OPS];
	int count, next, flying;
	enum stage stage;
	bool more;
};

/* ---- the list ---- */

void mirror_changed(struct group *g, bool members)
{
	struct mirror *m = g->live ? g->coordinator->mirror : NULL;
	if (!m)
		return;
	g->members_changed |= members;
	pthread_mutex_lock(&m->lock);
	bool add = !g->on_mirror_list && !m->stopping;
	if (add) {
		group_ref(g);
		g->on_mirror_list = true;
		g->next_dirty = NULL;
		*m->dirty_tail = g;
		m->dirty_tail = &g->next_dirty;
	}
	pthread_mutex_unlock(&m->lock);
}

static struct mirrored *need_mirrored(struct group *g)
{
	if (!g->mirrored)
		g->mirrored = calloc(1, sizeof *g->mirrored);
	return g->mirrored;
}

void mirror_offset_gone(struct group *g, struct blob *topic, int32_t partition)
{
	struct mirrored *x = need_mirrored(g);
	struct gone *gone = x ? malloc(sizeof *gone) : NULL;
	if (!gone)
		return; /* the node stays */
	*gone = (struct gone){x->gone, blob_ref(topic), partition};
	x->gone = gone;
}

static void free_nodes(struct node *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(v[i].path);
		free(v[i].value);
	}
	free(v);
}

static void free_gone(struct gone *list)
{
	while (list) {
		struct gone *next = list->next;
		blob_unref(list->topic);
		free(list);
		list = next;
	}
}

void mirrored_free(struct mirrored *x)
{
	if (!x)
		return;
	free_nodes(x->node, x->nodes);
	free_gone(x->gone);
	free(x);
}

/* ---- what is to be there ---- */

struct wanted { struct node *v; size_t n, cap; bool failed; };

/* Both are taken; path NULL: no memory. */
static void want(struct wanted *w, char *path, char *value)
{
	if (w->n == w->cap && !w->failed) {
		size_t cap = w->cap ? 2 * w->cap : 32;
		struct node *v = realloc(w->v, cap * sizeof *v);
		w->failed = !v;
		w->v = v ? v : w->v;
		w->cap = v ? cap : w->cap;
	}
	w->failed |= !path || !value;
	if (w->failed) {
		free(path);
		free(value);
		return;
	}
	w->v[w->n++] = (struct node){path, value};
}

/* A name as text. false: no path can have it. */
static bool name_of(char text[ZK_PATH_MAX], struct gstr s)
{
	if (s.n <= 0 || s.n >= ZK_PATH_MAX || memchr(s.p, 0, (size_t)s.n))
		return false;
	memcpy(text, s.p, (size_t)s.n);
	text[s.n] = '\0';
	return true;
}

/* What follows a version in what consumers say, in every version of it: topics, each a string. thread: the queue's */
static bool next_topic(struct rd *r, char topic[ZK_PATH_MAX])
{
	int16_t n = rd_i16(r);
	const uint8_t *p = n < 0 ? NULL : rd_bytes(r, (size_t)n);
	return p && name_of(topic, (struct gstr){p, n});
}

static void want_owners(struct wanted *w, const char *group, const char *member, struct blob *assignment)
{
	char topic[ZK_PATH_MAX];
	struct layout_path path;
	struct rd r;
	rd_init(&r, assignment->data, (size_t)assignment->n);
	if (rd_i16(&r) < 0)
		return;
	for (int32_t topics = rd_i32(&r); topics > 0 && !r.failed; topics--) {
		bool good = next_topic(&r, topic);
		for (int32_t n = rd_i32(&r); n > 0 && !r.failed; n--) {
			int32_t partition = rd_i32(&r);
			if (good && !r.failed && partition >= 0 && layout_consumer_owner_path(&path, group, topic, partition, NULL) == 0)
				want(w, strdup(path.text), strdup(member));
		}
	}
}

/* The JSON of a registration. NULL: no memory, or it says nothing. */
static char *registration(const struct blob *metadata, int64_t timestamp_ms)
{
	enum { TOPICS = 1000 }; /* of more nothing is said */
	char topic[ZK_PATH_MAX], **names = calloc(TOPICS, sizeof *names), *text = NULL;
	int32_t *streams = calloc(TOPICS, sizeof *streams);
	struct layout_consumer c = {.topic = (const char *const *)names, .streams = streams, .timestamp_ms = timestamp_ms};
	struct rd r;
	struct wr out;
	wr_init(&out, ZK_MAX_REQUEST / 2);
	if (names && streams && metadata) {
		rd_init(&r, metadata->data, (size_t)metadata->n);
		int16_t version = rd_i16(&r);
		for (int32_t n = version < 0 ? 0 : rd_i32(&r); n > 0 && !r.failed && c.topics < TOPICS && next_topic(&r, topic); n--) {
			if (!(names[c.topics] = strdup(topic)))
				break;
			streams[c.topics++] = 1;
		}
	}
	if (names && streams && layout_consumer_encode(&c, &out) == 0 && (text = malloc(out.len + 1))) {
		memcpy(text, out.data, out.len);
		text[out.len] = '\0';
	}
	for (size_t i = 0; names && i < c.topics; i++)
		free(names[i]);
	free(names);
	free(streams);
	wr_release(&out);
	return text;
}

static int by_path(const void *a, const void *b)
{
	return strcmp(((const struct node *)a)->path, ((const struct node *)b)->path);
}

/* locks: group.lock. false: no memory. */
static bool want_members(struct group *g, const char *group, struct wanted *w)
{
	char member[ZK_PATH_MAX];
	struct layout_path path;
	for (struct member *m = g->members; m; m = m->hh.next) {
		if (!name_of(member, blob_str(m->id)) || layout_consumer_path(&path, group, member, NULL) < 0)
			continue;
		struct blob *metadata = g->protocol ? member_metadata(m, g->protocol) : m->protocol_count ? m->protocols[0].metadata : NULL;
		want(w, strdup(path.text), registration(group_is_consumer(g) ? metadata : NULL, 0));
		if (group_is_consumer(g) && m->assignment)
			want_owners(w, group, member, m->assignment);
	}
	if (w->n)
		qsort(w->v, w->n, sizeof *w->v, by_path);
	return !w->failed;
}

/* ---- what is to be done for that ---- */

static struct op *add_op(struct round *f, enum stage stage, const char *path, const char *value)
{
	struct op *o = f->count < OPS ? &f->op[f->count] : NULL;
	if (!o) {
		f->more = true;
		return NULL;
	}
	*o = (struct op){.flush = f, .stage = stage, .path = strdup(path), .value = value ? strdup(value) : NULL};
	if (!o->path || (value && !o->value)) {
		free(o->path);
		free(o->value);
		f->more = true;
		return NULL;
	}
	f->count++;
	return o;
}

static bool is_registration(const struct group *g, const char *path)
{
	return !strncmp(path + strlen(LAYOUT_CONSUMERS) + 1 + g->id->n, "/ids/", 5);
}

static struct op *put_node(struct round *f, const struct node *n, bool known)
{
	struct op *o = add_op(f, STAGE_PUT, n->path, n->value);
	if (!o)
		return NULL;
	o->ephemeral = true;
	o->known = known;
	if (is_registration(f->group, n->path)) { /* with the time, which is not compared */
		char *at = strstr(o->value, "\"timestamp\":\"0\""), *text = NULL;
		if (at && asprintf(&text, "%.*s\"timestamp\":\"%lld\"%s", (int)(at - o->value), o->value, (long long)wall_now_ms(), at + strlen("\"timestamp\":\"0\"")) > 0) {
			free(o->value);
			o->value = text;
		}
	}
	return o;
}

/* Both lists are in the order of paths. What is put or removed is in x from then on; what there was no room for is left as it was. locks: group.lock. */
static void differ(struct round *f, struct mirrored *x, struct wanted *w)
{
	struct wanted now = {0};
	size_t i = 0, k = 0;
	while (i < x->nodes || k < w->n) {
		int order = i == x->nodes ? 1 : k == w->n ? -1 : by_path(&x->node[i], &w->v[k]);
		struct node *had = order <= 0 ? &x->node[i++] : NULL, *wants = order >= 0 ? &w->v[k++] : NULL, *is = had;
		if (had && !wants)
			is = add_op(f, STAGE_DELETE, had->path, NULL) ? NULL : had;
		else if (wants && (!had || strcmp(had->value, wants->value)))
			is = put_node(f, wants, had != NULL) ? wants : had;
		if (is) {
			want(&now, is->path, is->value);
			*is = (struct node){0};
		}
	}
	free_nodes(x->node, x->nodes);
	x->node = now.v;
	x->nodes = now.n;
}

static void remove_gone(struct round *f, const char *group, struct mirrored *x)
{
	char topic[ZK_PATH_MAX];
	struct layout_path path;
	while (x->gone) {
		struct gone *gone = x->gone;
		if (name_of(topic, blob_str(gone->topic)) && layout_consumer_offset_path(&path, group, topic, gone->partition, NULL) == 0 && !add_op(f, STAGE_DELETE, path.text, NULL))
			return;
		x->gone = gone->next;
		gone->next = NULL;
		free_gone(gone);
	}
}

/* locks: group.lock. */
static void put_offsets(struct round *f, const char *group)
{
	char topic[ZK_PATH_MAX], number[24];
	struct layout_path path;
	for (struct offset_topic *t = f->group->topics; t && !f->more; t = t->hh.next) {
		if (!name_of(topic, blob_str(t->name)))
			continue;
		for (struct offset_entry *o = t->entries; o && !f->more; o = o->hh.next) {
			if (o->removed || o->mirrored == o->offset + 1 || layout_consumer_offset_path(&path, group, topic, o->partition, NULL) < 0)
				continue;
			snprintf(number, sizeof number, "%lld", (long long)o->offset);
			if (add_op(f, STAGE_PUT, path.text, number))
				o->mirrored = o->offset + 1;
		}
	}
}

/* A new session, or a new coordinator: nothing of what is there is known to be ours. locks: group.lock. */
static bool begin_anew(struct round *f, const char *group, struct mirrored *x)
{
	static const char *const below[] = {"/ids", "/owners"};
	char path[ZK_PATH_MAX + 32];
	for (size_t i = 0; i < sizeof below / sizeof *below; i++) {
		snprintf(path, sizeof path, LAYOUT_CONSUMERS "/%s%s", group, below[i]);
		struct op *o = add_op(f, STAGE_CLEAR, path, NULL);
		if (!o)
			return false;
		o->subtree = true;
	}
	free_nodes(x->node, x->nodes);
	x->node = NULL;
	x->nodes = 0;
	for (struct offset_topic *t = f->group->topics; t; t = t->hh.next)
		for (struct offset_entry *o = t->entries; o; o = o->hh.next)
			o->mirrored = 0;
	x->session = f->mirror->session;
	f->group->members_changed = true;
	return true;
}

/* locks: group.lock. */
static void plan(struct round *f)
{
	struct group *g = f->group;
	char group[ZK_PATH_MAX], path[ZK_PATH_MAX + 32];
	struct wanted w = {0};
	struct mirrored *x = need_mirrored(g);
	f->more = false;
	if ((g->removed && !g->ended) || !x || !name_of(group, blob_str(g->id)))
		return;
	if (layout_consumer_path(&(struct layout_path){0}, group, NULL, NULL) < 0)
		return; /* a group whose name no path can have */
	if (g->ended && !x->session)
		return; /* nothing of it was written */
	if (g->ended) {
		snprintf(path, sizeof path, LAYOUT_CONSUMERS "/%s", group);
		struct op *o = add_op(f, STAGE_CLEAR, path, NULL);
		if (o)
			o->subtree = true;
		return;
	}
	if (x->session != f->mirror->session && !begin_anew(f, group, x))
		return;
	if (g->members_changed && want_members(g, group, &w)) {
		differ(f, x, &w);
		g->members_changed = f->more;
	}
	f->more |= w.failed;
	free_nodes(w.v, w.n);
	remove_gone(f, group, x);
	put_offsets(f, group);
}

/* ---- doing it ---- */

static void go_on(struct round *f);

static void op_done(struct op *o, enum zk_code code)
{
	static struct diag_limit limit;
	struct round *f = o->flush;
	if (code != ZK_OK && code != ZK_NO_NODE && code != ZK_NOT_EMPTY && code != ZK_EXPIRED && code != ZK_CLOSED)
		diag_limited(&limit, 60000, DIAG_WARNING, "%s: it cannot be written for who looks there: %s", o->path, zk_code_text(code));
	free(o->path);
	free(o->value);
	o->path = o->value = NULL;
	f->flying--;
	go_on(f);
}

/* Whether this broker still coordinates the group: else another one writes these nodes. */
static bool is_ours(struct round *f)
{
	pthread_mutex_lock(&f->group->lock);
	bool ours = !f->group->removed || f->group->ended;
	pthread_mutex_unlock(&f->group->lock);
	return ours;
}

struct clear { struct clear *above; struct op *op; size_t left; char path[]; };

static bool clear_start(struct op *o, struct clear *above, const char *path, const char *name);

static void on_cleared(void *arg, const struct zk_result *r)
{
	struct clear *c = arg, *above = c->above;
	struct op *o = c->op;
	struct mirror *m = o->flush->mirror;
	enum zk_code code = r->code;
	free(c);
	if (!above)
		op_done(o, code);
	else if (--above->left == 0)
		zk_delete(m->zk, above->path, ZK_ANY_VERSION, on_cleared, above);
}

static void on_children(void *arg, const struct zk_result *r)
{
	struct clear *c = arg;
	struct mirror *m = c->op->flush->mirror;
	if (r->code != ZK_OK) {
		on_cleared(c, r);
		return;
	}
	c->left = 1;
	for (size_t i = 0; i < r->children_count; i++)
		c->left += clear_start(c->op, c, c->path, r->children[i]);
	if (--c->left == 0)
		zk_delete(m->zk, c->path, ZK_ANY_VERSION, on_cleared, c);
}

/* false: no memory. */
static bool clear_start(struct op *o, struct clear *above, const char *path, const char *name)
{
	size_t n = strlen(path) + (name ? strlen(name) + 1 : 0) + 1;
	struct clear *c = malloc(sizeof *c + n);
	if (!c)
		return false;
	*c = (struct clear){above, o, 0};
	snprintf(c->path, n, "%s%s%s", path, name ? "/" : "", name ? name : "");
	zk_children(o->flush->mirror->zk, c->path, false, on_children, c);
	return true;
}

static void on_deleted(void *arg, const struct zk_result *r)
{
	op_done(arg, r->code);
}

static void on_created(void *arg, const struct zk_result *r);
static void on_set(void *arg, const struct zk_result *r);

static void create(struct op *o)
{
	zk_create(o->flush->mirror->zk, o->path, o->value, strlen(o->value), o->ephemeral ? ZK_EPHEMERAL : 0, on_created, o);
}

static void set(struct op *o)
{
	zk_set(o->flush->mirror->zk, o->path, o->value, strlen(o->value), ZK_ANY_VERSION, on_set, o);
}

static void on_set(void *arg, const struct zk_result *r)
{
	struct op *o = arg;
	if (r->code == ZK_NO_NODE && o->attempts++ < ATTEMPTS && is_ours(o->flush))
		create(o);
	else
		op_done(o, r->code);
}

static void on_path(void *arg, const struct zk_result *r)
{
	struct op *o = arg;
	if (r->code == ZK_OK)
		create(o);
	else
		op_done(o, r->code);
}

/* It was of an earlier session, and would go with it. */
static void on_replaced(void *arg, const struct zk_result *r)
{
	struct op *o = arg;
	if (r->code == ZK_OK || r->code == ZK_NO_NODE)
		create(o);
	else
		op_done(o, r->code);
}

static void make_parent(struct op *o)
{
	char parent[ZK_PATH_MAX];
	snprintf(parent, sizeof parent, "%.*s", (int)(strrchr(o->path, '/') - o->path), o->path);
	o->made_path = true;
	zk_make_path(o->flush->mirror->zk, parent, on_path, o);
}

static void on_created(void *arg, const struct zk_result *r)
{
	struct op *o = arg;
	bool again = (r->code == ZK_NO_NODE || r->code == ZK_EXISTS) && o->attempts++ < ATTEMPTS && is_ours(o->flush);
	if (again && r->code == ZK_NO_NODE)
		make_parent(o);
	else if (again && o->ephemeral)
		zk_delete(o->flush->mirror->zk, o->path, ZK_ANY_VERSION, on_replaced, o);
	else if (again)
		set(o);
	else
		op_done(o, r->code);
}

/* false: no memory. Else op_done is called later, never in here. */
static bool start(struct op *o)
{
	if (o->subtree)
		return clear_start(o, NULL, o->path, NULL);
	if (o->stage == STAGE_DELETE)
		zk_delete(o->flush->mirror->zk, o->path, ZK_ANY_VERSION, on_deleted, o);
	else if (o->ephemeral && !o->known)
		create(o);
	else
		set(o);
	return true;
}

static void next_group(struct mirror *m);

/* What there was no room for comes with the next list. */
static void end_turn(struct round *f)
{
	if (f->more) {
		pthread_mutex_lock(&f->group->lock);
		mirror_changed(f->group, false);
		pthread_mutex_unlock(&f->group->lock);
	}
	for (int i = 0; i < f->count; i++) {
		free(f->op[i].path);
		free(f->op[i].value);
	}
	group_unref(f->group);
	free(f);
}

/* Begins what may be begun. */
static void go_on(struct round *f)
{
	for (;;) {
		while (f->flying < WINDOW && f->next < f->count) {
			struct op *o = &f->op[f->next++];
			if (o->stage != f->stage || !o->path)
				continue;
			f->flying += start(o);
		}
		if (f->flying)
			return;
		if (f->stage + 1 >= STAGES || !is_ours(f))
			break;
		f->stage++;
		f->next = 0;
	}
	struct mirror *m = f->mirror;
	end_turn(f);
	next_group(m);
}

/* ---- turns ---- */

static void at_rest(struct mirror *m)
{
	pthread_mutex_lock(&m->lock);
	m->at_work = false;
	pthread_cond_broadcast(&m->quiet);
	pthread_mutex_unlock(&m->lock);
}

static struct group *take_batch(struct mirror *m)
{
	pthread_mutex_lock(&m->lock);
	struct group *list = m->stopping ? NULL : m->dirty;
	if (list) {
		m->dirty = NULL;
		m->dirty_tail = &m->dirty;
		m->at_work = true;
	}
	pthread_mutex_unlock(&m->lock);
	return list;
}

static void next_group(struct mirror *m)
{
	while (m->batch) {
		struct group *g = m->batch;
		struct round *f = m->stopping ? NULL : calloc(1, sizeof *f);
		pthread_mutex_lock(&m->lock);
		m->batch = g->next_dirty;
		g->on_mirror_list = false;
		pthread_mutex_unlock(&m->lock);
		if (!f) {
			group_unref(g);
			continue;
		}
		f->mirror = m;
		f->group = g; /* with the list's reference */
		pthread_mutex_lock(&g->lock);
		plan(f);
		pthread_mutex_unlock(&g->lock);
		if (f->count) {
			go_on(f);
			return;
		}
		end_turn(f);
	}
	at_rest(m);
}

static void list_one(struct turn *t, void *arg)
{
	(void)arg;
	mirror_changed(t->g, true);
}

/* In the pool, as the groups' locks are taken. */
static void list_all(struct pool_job *job)
{
	struct mirror *m = (struct mirror *)((char *)job - offsetof(struct mirror, all_job));
	struct coordinator *c = m->coordinator;
	pthread_mutex_lock(&m->lock);
	m->all_queued = false;
	pthread_mutex_unlock(&m->lock);
	for (int32_t i = 0; i < coordinator_shards(c) && !c->stopping; i++)
		shard_each(coordinator_shard(c, i), list_one, NULL);
	coordinator_busy(c, -1);
}

/* A session has begun: nothing of the one before is there. */
static void look_at_session(struct mirror *m)
{
	int64_t session = zk_session(m->zk);
	if (!session || session == m->session)
		return;
	m->session = session;
	pthread_mutex_lock(&m->lock);
	bool queue_it = !m->all_queued && !m->stopping;
	if (queue_it) {
		m->all_queued = true;
		coordinator_busy(m->coordinator, 1);
	}
	pthread_mutex_unlock(&m->lock);
	if (queue_it)
		pool_run(m->coordinator->pool, &m->all_job);
}

static void on_tick(struct queue_timer *t, void *arg)
{
	struct mirror *m = arg;
	if (m->stopping)
		return;
	look_at_session(m);
	if (!m->at_work && m->session && zk_session(m->zk) == m->session && (m->batch = take_batch(m)))
		next_group(m);
	queue_timer_arm(m->queue, t, mono_after_ms(mono_now(), TICK_MS));
}

/* ---- life ---- */

int mirror_new(struct mirror **out, struct coordinator *c, struct zk *z, struct queue *q, struct err *e)
{
	struct mirror *m = calloc(1, sizeof *m);
	if (!m)
		return err_set(e, ERR_NO_MEMORY, "no memory for a mirror of groups");
	m->coordinator = c;
	m->zk = z;
	m->queue = q;
	m->dirty_tail = &m->dirty;
	m->all_job.run = list_all;
	m->tick = (struct queue_timer){.fire = on_tick, .arg = m};
	pthread_mutex_init(&m->lock, NULL);
	pthread_cond_init(&m->quiet, NULL);
	*out = m;
	return 0;
}

void mirror_start(struct mirror *m)
{
	queue_timer_arm(m->queue, &m->tick, mono_now());
}

static void cancel_tick(void *arg)
{
	struct mirror *m = arg;
	queue_timer_cancel(m->queue, &m->tick);
}

void mirror_stop(struct mirror *m)
{
	if (!m)
		return;
	pthread_mutex_lock(&m->lock);
	m->stopping = true;
	pthread_mutex_unlock(&m->lock);
	queue_call(m->queue, cancel_tick, m);
	pthread_mutex_lock(&m->lock);
	while (m->at_work)
		pthread_cond_wait(&m->quiet, &m->lock);
	struct group *list = m->dirty;
	m->dirty = NULL;
	m->dirty_tail = &m->dirty;
	pthread_mutex_unlock(&m->lock);
	while (list) {
		struct group *g = list;
		list = g->next_dirty;
		group_unref(g);
	}
}

void mirror_free(struct mirror *m)
{
	if (!m)
		return;
	pthread_mutex_destroy(&m->lock);
	pthread_cond_destroy(&m->quiet);
	free(m);
}
