#include "cluster/join_config.h"

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <uthash.h>

#include "cluster/broker.h"
#include "cluster/broker_conf.h"
#include "cluster/replicas.h"
#include "cluster/zk/blocking.h"
#include "cluster/zk/layout.h"
#include "store/buf.h"
#include "store/clock.h"
#include "store/diag.h"

enum { AT_ONCE = 256, AGAIN_MS = 200, TRIES = 100, READ_MS = 30000, EXPECT_MS = 5000 };

struct wanted { /* to be read */
	UT_hash_handle hh;
	bool has_id;
	uint8_t id[16];        /* of a topic that the controller tells of: the one that is meant */
	char entity[];         /* its path without /config/ */
};

struct expected { /* a topic that the controller tells of */
	UT_hash_handle hh;
	int users;             /* who expects it */
	bool known, taken, missed; /* it was read; that has been put in force; it was read again since */
	struct layout_config config;
	char name[];
};

struct configs {
	struct configs_options o;
	char own[40];            /* this broker's entity */
	pthread_t thread;
	pthread_mutex_t lock;    /* all of this */
	pthread_cond_t changed;
	bool ending;
	bool live;               /* registered at least once */
	bool all, list;          /* everything is to be read; the list of changes is */
	struct wanted *wanted;
	uint64_t filling, done;  /* which batch takes what is wanted now; up to which all were read */
	struct expected *expected;

	int32_t newest;          /* the thread's own: of the notices that were seen */
};

static const char all_brokers[] = "brokers/" LAYOUT_DEFAULT;

/* ---- what is wanted ---- */

/* locks: lock. false: no memory. */
static bool want(struct configs *c, const char *entity, const uint8_t *id)
{
	struct wanted *w;
	size_t n = strlen(entity);
	HASH_FIND(hh, c->wanted, entity, n, w);
	if (!w && (w = calloc(1, sizeof *w + n + 1))) {
		memcpy(w->entity, entity, n + 1);
		HASH_ADD_KEYPTR(hh, c->wanted, w->entity, n, w);
	}
	if (w && id) {
		w->has_id = true;
		memcpy(w->id, id, sizeof w->id);
	}
	return w;
}

static bool want_topic(struct configs *c, const char *name, const uint8_t *id)
{
	char entity[ZK_PATH_MAX];
	return (size_t)snprintf(entity, sizeof entity, "topics/%s", name) < sizeof entity && want(c, entity, id);
}

/* Waits until all that is wanted so far was read. locks: lock. */
static int wait_read(struct configs *c, int timeout_ms, struct err *e)
{
	uint64_t ticket = c->filling;
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += timeout_ms / 1000;
	until.tv_nsec += timeout_ms % 1000 * 1000000;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	pthread_cond_broadcast(&c->changed);
	for (int sys = 0; c->done < ticket && !c->ending && !sys;)
		sys = pthread_cond_timedwait(&c->changed, &c->lock, &until);
	if (c->done >= ticket)
		return 0;
	return c->ending ? err_set(e, ERR_STOPPING, "the broker stops") : err_set(e, ERR_TIMED_OUT, "ZooKeeper has not answered within %d ms", timeout_ms);
}

void configs_registered(struct configs *c)
{
	pthread_mutex_lock(&c->lock);
	c->live = c->all = c->list = true;
	pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&c->lock);
}

void configs_changed(struct configs *c)
{
	pthread_mutex_lock(&c->lock);
	c->list = true;
	pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&c->lock);
}

/* Strays keep what they have. */
static bool is_of_cluster(struct topic *t)
{
	return topic_has_cluster_properties(t) && replicas_are_told(t);
}

/* ---- into force ---- */

static struct conf_change *changes_of(const struct layout_config *l)
{
	struct conf_change *v = calloc(l->properties + 1, sizeof *v);
	for (size_t i = 0; v && i < l->properties; i++)
		v[i] = (struct conf_change){l->property[i].name, l->property[i].value};
	return v;
}

static void put_topic(struct topic *t, const struct layout_config *l)
{
	struct err e = ERR_INIT;
	struct conf_change *v = changes_of(l);
	int rc = v ? topic_take_properties(t, v, l->properties, &e) : err_set(&e, ERR_NO_MEMORY, "topic %s: no memory for its properties", topic_name(t));
	if (rc < 0)
		diag_error("%s", e.text);
	free(v);
}

static void put_broker(struct configs *c, bool fallback, const struct layout_config *l)
{
	struct err e = ERR_INIT;
	struct conf_change *v = changes_of(l);
	int rc = v ? broker_take_properties(c->o.broker, fallback, v, l->properties, &e) : err_set(&e, ERR_NO_MEMORY, "no memory for properties of the broker");
	if (rc < 0)
		diag_error("%s", e.text);
	free(v);
}

/* The topic that is meant, referenced; NULL: it is not here. Whoever expects it is told then: what comes into the table does so before it is expected no longer. Takes over *l where it is kept. */
static struct topic *topic_for(struct configs *c, const struct wanted *w, const char *name, struct layout_config *l)
{
	struct expected *x;
	pthread_mutex_lock(&c->lock);
	struct topic *t = topics_find(c->o.broker, name);
	if (t && !is_of_cluster(t) && !(w->has_id && !memcmp(w->id, topic_id_bytes(t), sizeof w->id))) {
		topic_unref(t);
		t = NULL;
	}
	HASH_FIND_STR(c->expected, name, x);
	if (x && x->taken)
		x->missed = true;
	if (x && !t && !x->taken) {
		layout_config_release(&x->config);
		x->config = *l;
		*l = (struct layout_config){0};
		x->known = true;
	}
	pthread_mutex_unlock(&c->lock);
	return t;
}

static void put_in_force(struct configs *c, const struct wanted *w, struct layout_config *l)
{
	enum layout_entity type;
	char name[ZK_PATH_MAX], client[ZK_PATH_MAX];
	if (!strcmp(w->entity, c->own) || !strcmp(w->entity, all_brokers)) {
		put_broker(c, w->entity[strlen("brokers/")] == '<', l);
	} else if (layout_config_entity(w->entity, &type, name, client) && type == LAYOUT_TOPIC) {
		struct topic *t = topic_for(c, w, name, l);
		if (t)
			put_topic(t, l);
		topic_unref(t);
	}
}

/* ---- the thread: reading ---- */

/* false: it is to be asked for again. */
static bool is_read(struct configs *c, const struct wanted *w, const struct zk_question *q)
{
	static struct diag_limit limit;
	struct layout_config l = {0};
	struct err e = ERR_INIT;
	struct zk_result r = {.code = q->code, .path = q->path};
	if (q->code != ZK_OK && q->code != ZK_NO_NODE) {
		zk_error(&r, "read", &e);
		if (q->code != ZK_EXPIRED && q->code != ZK_CLOSED)
			diag_limited(&limit, 10000, DIAG_WARNING, "%s; it is tried again", e.text);
		return q->code == ZK_NO_AUTH || q->code == ZK_INVALID;
	}
	if (q->code == ZK_OK && layout_config_decode(&l, q->path, q->data, q->bytes, &e) < 0)
		diag_error("%s: what was in force stays so", e.text);
	else
		put_in_force(c, w, &l);
	layout_config_release(&l);
	return true;
}

/* Up to AT_ONCE of them; what was read is freed, what was not stays in the list. false: something stays. */
static bool read_some(struct configs *c, struct wanted **list)
{
	struct zk_question q[AT_ONCE] = {0};
	struct wanted *of[AT_ONCE], *w, *next;
	struct layout_path *path = calloc(AT_ONCE, sizeof *path);
	struct err e = ERR_INIT;
	size_t n = 0;
	bool all = path;
	HASH_ITER(hh, *list, w, next) {
		if (n == AT_ONCE || !path)
			break;
		snprintf(path[n].text, sizeof path[n].text, LAYOUT_CONFIG "/%s", w->entity);
		q[n] = (struct zk_question){.kind = ZK_ASK_GET, .path = path[n].text};
		of[n++] = w;
	}
	if (all)
		all = zk_ask(c->o.zk, q, n, READ_MS, &e) == 0;
	for (size_t i = 0; all && i < n; i++) {
		if (!is_read(c, of[i], &q[i])) {
			all = false;
			break;
		}
		HASH_DEL(*list, of[i]);
		free(of[i]);
	}
	zk_answers_release(q, n);
	free(path);
	return all;
}

static void read_wanted(struct configs *c)
{
	struct wanted *list, *w, *next;
	bool all = true;
	pthread_mutex_lock(&c->lock);
	list = c->wanted;
	c->wanted = NULL;
	uint64_t batch = c->filling++;
	pthread_mutex_unlock(&c->lock);
	while (list && all)
		all = read_some(c, &list);
	pthread_mutex_lock(&c->lock);
	HASH_ITER(hh, list, w, next) { /* into the next one */
		want(c, w->entity, w->has_id ? w->id : NULL);
		HASH_DEL(list, w);
		free(w);
	}
	if (all)
		c->done = batch;
	pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&c->lock);
}

static bool want_if_of_cluster(void *arg, struct topic *t)
{
	struct configs *c = arg;
	if (!is_of_cluster(t))
		return true;
	pthread_mutex_lock(&c->lock);
	want_topic(c, topic_name(t), NULL);
	pthread_mutex_unlock(&c->lock);
	return true;
}

static void want_all(struct configs *c)
{
	pthread_mutex_lock(&c->lock);
	want(c, all_brokers, NULL);
	want(c, c->own, NULL);
	pthread_mutex_unlock(&c->lock);
	topics_list(c->o.broker, want_if_of_cluster, c);
}

/* ---- the thread: notices ---- */

static bool get_one(struct configs *c, const char *name, struct layout_path *path, struct zk_question *q)
{
	struct err e = ERR_INIT;
	snprintf(path->text, sizeof path->text, LAYOUT_CONFIG_CHANGES "/%s", name);
	*q = (struct zk_question){.kind = ZK_ASK_GET, .path = path->text};
	return zk_ask(c->o.zk, q, 1, READ_MS, &e) == 0 && (q->code == ZK_OK || q->code == ZK_NO_NODE);
}

/* Whose properties have changed. false: that could not be found out. */
static bool read_notice(struct configs *c, const char *name)
{
	struct layout_path path, entity;
	struct zk_question q;
	struct err e = ERR_INIT;
	bool good = get_one(c, name, &path, &q);
	if (good && q.code == ZK_OK) {
		if (layout_config_change_decode(&entity, path.text, q.data, q.bytes, &e) < 0) {
			diag_error("%s", e.text);
		} else {
			pthread_mutex_lock(&c->lock);
			good = want(c, entity.text, NULL);
			pthread_mutex_unlock(&c->lock);
		}
	}
	zk_answers_release(&q, 1);
	return good;
}

/* The oldest go, up to the first that is not old enough. */
static void purge(struct configs *c, char *const *name, size_t n)
{
	struct layout_path path;
	struct zk_question q;
	struct err e = ERR_INIT;
	for (size_t i = 0; i < n; i++) {
		bool old = get_one(c, name[i], &path, &q) && (q.code == ZK_NO_NODE || wall_now_ms() - q.stat.ctime_ms > c->o.retention_ms), there = q.code == ZK_OK;
		zk_answers_release(&q, 1);
		if (!old)
			return;
		q = (struct zk_question){.kind = ZK_ASK_DELETE, .path = path.text};
		if (there && zk_ask(c->o.zk, &q, 1, READ_MS, &e) < 0)
			return;
	}
}

/* first: of this session. Names are as long as each other, so in the order of their numbers. */
static bool look_at_changes(struct configs *c, bool first)
{
	struct zk_question q = {.kind = ZK_ASK_CHILDREN, .path = LAYOUT_CONFIG_CHANGES, .watch = true};
	struct err e = ERR_INIT;
	int32_t number;
	bool news = false, good = zk_ask(c->o.zk, &q, 1, READ_MS, &e) == 0 && q.code == ZK_OK;
	for (size_t i = 0; good && i < q.children_count; i++) {
		if (!layout_number(q.children[i], "config_change_", &number) || (number <= c->newest && !first))
			continue;
		good = first || read_notice(c, q.children[i]);
		news = true;
		if (good)
			c->newest = number;
	}
	if (good && news)
		purge(c, q.children, q.children_count);
	zk_answers_release(&q, 1);
	return good;
}

/* ---- the thread ---- */

static void pause_for(struct configs *c, int ms)
{
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += ms * 1000000;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	for (int sys = 0; !c->ending && !sys;)
		sys = pthread_cond_timedwait(&c->changed, &c->lock, &until);
}

static bool has_work(const struct configs *c)
{
	return c->live && (c->all || c->list || c->wanted);
}

/* One round. false: something could not be read. */
static bool work(struct configs *c, bool all, bool list)
{
	if (list && !look_at_changes(c, all)) {
		pthread_mutex_lock(&c->lock);
		c->list = true;
		c->all |= all;
		pthread_mutex_unlock(&c->lock);
		return false;
	}
	if (all)
		want_all(c);
	pthread_mutex_lock(&c->lock);
	uint64_t batch = c->filling;
	pthread_mutex_unlock(&c->lock);
	read_wanted(c);
	pthread_mutex_lock(&c->lock);
	bool good = c->done >= batch;
	pthread_mutex_unlock(&c->lock);
	return good;
}

static void *run(void *arg)
{
	struct configs *c = arg;
	sigset_t signals;
	sigfillset(&signals);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	pthread_setname_np(pthread_self(), "configs");
	pthread_mutex_lock(&c->lock);
	while (!c->ending) {
		if (!has_work(c)) {
			pthread_cond_wait(&c->changed, &c->lock);
			continue;
		}
		bool all = c->all, list = c->list;
		c->all = c->list = false;
		pthread_mutex_unlock(&c->lock);
		bool good = work(c, all, list);
		pthread_mutex_lock(&c->lock);
		if (!good)
			pause_for(c, AGAIN_MS);
	}
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

/* ---- topics that the controller tells of ---- */

/* locks: lock. */
static struct expected *expect(struct configs *c, const char *name)
{
	struct expected *x;
	HASH_FIND_STR(c->expected, name, x);
	if (!x && (x = calloc(1, sizeof *x + strlen(name) + 1))) {
		strcpy(x->name, name);
		HASH_ADD_STR(c->expected, name, x);
	}
	if (x)
		x->users++;
	return x;
}

static bool is_known(struct configs *c, const struct configs_topic *v)
{
	struct topic *t = topics_find(c->o.broker, v->name);
	bool known = t && is_of_cluster(t) && !memcmp(topic_id_bytes(t), v->id, 16);
	topic_unref(t);
	return known;
}

void configs_expect(struct configs *c, const struct configs_topic *v, size_t n)
{
	struct err e = ERR_INIT;
	bool waits = false;
	for (size_t i = 0; i < n; i++) {
		bool known = is_known(c, &v[i]);
		pthread_mutex_lock(&c->lock);
		if (expect(c, v[i].name) && !known)
			waits |= want_topic(c, v[i].name, v[i].id);
		pthread_mutex_unlock(&c->lock);
	}
	pthread_mutex_lock(&c->lock);
	if (waits && wait_read(c, c->o.timeout_ms < EXPECT_MS ? c->o.timeout_ms : EXPECT_MS, &e) < 0 && e.code != ERR_STOPPING)
		diag_warning("the properties of topics that are new here could not be read: %s", e.text);
	pthread_mutex_unlock(&c->lock);
}

void configs_arrived(struct configs *c, const struct configs_topic *v, size_t n)
{
	pthread_mutex_lock(&c->lock);
	for (size_t i = 0; i < n; i++) {
		struct expected *x;
		HASH_FIND_STR(c->expected, v[i].name, x);
		if (!x || --x->users)
			continue;
		if ((x->missed || (x->known && !x->taken)) && want_topic(c, x->name, v[i].id))
			pthread_cond_broadcast(&c->changed);
		HASH_DEL(c->expected, x);
		layout_config_release(&x->config);
		free(x);
	}
	pthread_mutex_unlock(&c->lock);
}

void configs_born(struct configs *c, struct topic *t)
{
	struct expected *x;
	pthread_mutex_lock(&c->lock);
	HASH_FIND_STR(c->expected, topic_name(t), x);
	if (x && x->known) {
		x->taken = true;
		put_topic(t, &x->config);
	} else {
		topic_await_properties(t);
		if (x)
			x->taken = x->missed = true; /* to be read again once it is in the table */
		else
			want_topic(c, topic_name(t), topic_id_bytes(t));
	}
	pthread_mutex_unlock(&c->lock);
}

/* ---- changes ---- */

/* What is to be written: what was there, changed, as Kafka has it: values that are set, and those of others that are not known here. Its strings are those of `had`, c and the schema. */
static int plan(struct conf *c, const struct layout_config *had, const struct conf_change *v, size_t n, bool replace, struct layout_config *out, struct err *e)
{
	const struct conf_schema *s = conf_schema_of(c);
	size_t rows;
	const struct conf_property *const *row = conf_rows(s, &rows);
	for (size_t i = 0; i < had->properties; i++)
		conf_set(c, had->property[i].name, had->property[i].value, NULL);
	if (replace)
		conf_clear(c, false);
	int rc = conf_apply(c, v, n, e);
	if (rc < 0)
		return rc;
	*out = (struct layout_config){.property = calloc(rows + had->properties + 1, sizeof *out->property), .kept = had->kept};
	if (!out->property)
		return err_set(e, ERR_NO_MEMORY, "no memory for properties");
	for (size_t i = 0; i < rows; i++) {
		const char *value = conf_own(c, row[i]);
		if (value)
			out->property[out->properties++] = (struct layout_property){row[i]->name, value};
	}
	for (size_t i = 0; i < had->properties && !replace; i++)
		if (!conf_find(s, had->property[i].name))
			out->property[out->properties++] = had->property[i];
	return 0;
}

struct change { /* of one entity */
	const struct conf_change *v;
	size_t n;
	bool replace, check_only;
	struct topic *topic;              /* NULL: of a broker */
	bool fallback;
	char entity[ZK_PATH_MAX], path[ZK_PATH_MAX + 8];
};

/* The node as it is to be, appended to text. */
static int make_node(struct configs *c, const struct change *x, const struct layout_config *had, struct wr *text, struct err *e)
{
	struct conf_levels l;
	struct layout_config now = {0};
	int rc = conf_levels_take(c->o.broker, x->topic, &l, e);
	if (rc < 0)
		return rc;
	struct conf *conf = conf_new(conf_schema_of(l.fixed), x->topic ? l.own : x->fallback ? l.fixed : l.fallback, x->topic ? CONF_TOPIC : CONF_BROKER);
	rc = conf ? plan(conf, had, x->v, x->n, x->replace, &now, e) : err_set(e, ERR_NO_MEMORY, "no memory for properties");
	if (rc == 0 && x->topic)
		rc = topic_check_together(conf, e);
	if (rc == 0 && layout_config_encode(&now, text) < 0)
		rc = err_set(e, ERR_INVALID, "a property is not UTF-8");
	free(now.property);
	conf_free(conf);
	conf_levels_release(&l);
	return rc;
}

/* Whether the topic's node is still that topic's. */
static int check_topic(const struct change *x, const struct zk_question *node, const struct zk_question *mark, struct err *e)
{
	struct layout_topic t = {0};
	struct zk_result r = {.code = node->code, .path = node->path};
	char id[TOPIC_ID_CHARS + 1];
	if (node->code == ZK_NO_NODE || mark->code == ZK_OK)
		return err_set(e, ERR_DELETED, "topic %s was deleted", topic_name(x->topic));
	if (node->code != ZK_OK)
		return zk_error(&r, "read", e);
	int rc = layout_topic_decode(&t, node->path, node->data, node->bytes, e);
	topic_id_text(x->topic, id);
	if (rc == 0 && *t.topic_id && strcmp(t.topic_id, id))
		rc = err_set(e, ERR_DELETED, "topic %s was deleted, and another of its name is there", topic_name(x->topic));
	layout_topic_release(&t);
	return rc;
}

enum part { PART_TOPIC, PART_NODE }; /* of the multi; a broker's has no topic */

static int write_node(struct configs *c, const struct change *x, const struct zk_question *q, const struct wr *text, bool *again, struct err *e)
{
	struct zk_multi *m = zk_multi_new();
	struct wr notice;
	enum zk_code code;
	size_t refused, node = x->topic ? PART_NODE : 0;
	wr_init(&notice, 0);
	int rc = layout_config_change_encode(x->path, &notice);
	if (x->topic)
		zk_multi_check(m, q[1].path, q[1].stat.version);
	if (q[0].code == ZK_OK)
		zk_multi_set(m, x->path, text->data, text->len, q[0].stat.version);
	else
		zk_multi_create(m, x->path, text->data, text->len, 0);
	zk_multi_create(m, LAYOUT_CONFIG_CHANGE, notice.data, notice.len, ZK_SEQUENTIAL);
	if (rc < 0) {
		zk_multi_free(m);
		rc = err_set(e, ERR_NO_MEMORY, "no memory for a notice");
	} else {
		rc = zk_ask_multi(c->o.zk, m, c->o.timeout_ms, &code, &refused, e);
	}
	wr_release(&notice);
	if (rc < 0 || code == ZK_OK)
		return rc;
	struct zk_result r = {.code = code, .path = x->path};
	*again = refused <= node && (code == ZK_BAD_VERSION || code == ZK_EXISTS || code == ZK_NO_NODE || code == ZK_UNKNOWN);
	return zk_error(&r, "write", e);
}

/* Reads, changes, writes. *again: somebody else has changed it meanwhile. */
static int try_change(struct configs *c, const struct change *x, bool *again, struct err *e)
{
	struct layout_path topic, mark;
	struct zk_question q[3] = {{.path = x->path}};
	struct layout_config had = {0};
	struct wr text;
	*again = false;
	if (x->topic) {
		q[1] = (struct zk_question){.path = layout_topic_path(&topic, topic_name(x->topic))};
		q[2] = (struct zk_question){.kind = ZK_ASK_EXISTS, .path = layout_delete_topic_path(&mark, topic_name(x->topic))};
	}
	wr_init(&text, 0);
	int rc = zk_ask(c->o.zk, q, x->topic ? 3 : 1, c->o.timeout_ms, e);
	struct zk_result r = {.code = q[0].code, .path = x->path};
	if (rc == 0 && q[0].code != ZK_OK && q[0].code != ZK_NO_NODE)
		rc = zk_error(&r, "read", e);
	if (rc == 0 && x->topic)
		rc = check_topic(x, &q[1], &q[2], e);
	if (rc == 0 && q[0].code == ZK_OK)
		rc = layout_config_decode(&had, x->path, q[0].data, q[0].bytes, e);
	if (rc == 0)
		rc = make_node(c, x, &had, &text, e);
	if (rc == 0 && !x->check_only)
		rc = write_node(c, x, q, &text, again, e);
	layout_config_release(&had);
	wr_release(&text);
	zk_answers_release(q, 3);
	return rc;
}

static int change(struct configs *c, struct change *x, struct err *e)
{
	bool again;
	int rc, left = TRIES;
	snprintf(x->path, sizeof x->path, LAYOUT_CONFIG "/%s", x->entity);
	do
		rc = try_change(c, x, &again, e);
	while (rc < 0 && again && --left);
	if (rc < 0 || x->check_only)
		return rc;
	pthread_mutex_lock(&c->lock);
	rc = want(c, x->entity, NULL) ? wait_read(c, c->o.timeout_ms, e) : err_set(e, ERR_NO_MEMORY, "no memory for properties");
	pthread_mutex_unlock(&c->lock);
	return rc;
}

int configs_change_topic(struct configs *c, struct topic *t, const struct conf_change *v, size_t n, bool replace, bool check_only, struct err *e)
{
	struct change x = {.v = v, .n = n, .replace = replace, .check_only = check_only, .topic = t};
	if (!is_of_cluster(t))
		return err_set(e, ERR_NOT_FOUND, "the cluster knows of no topic %s: what is here of it is neither served nor changed", topic_name(t));
	snprintf(x.entity, sizeof x.entity, "topics/%s", topic_name(t));
	return change(c, &x, e);
}

int configs_change_broker(struct configs *c, bool fallback, const struct conf_change *v, size_t n, bool replace, bool check_only, struct err *e)
{
	struct change x = {.v = v, .n = n, .replace = replace, .check_only = check_only, .fallback = fallback};
	snprintf(x.entity, sizeof x.entity, "%s", fallback ? all_brokers : c->own);
	return change(c, &x, e);
}

void configs_refresh(struct configs *c, struct topic *const *t, size_t n, bool brokers)
{
	struct err e = ERR_INIT;
	if (zk_lease_ms(c->o.zk) <= 0)
		return;
	pthread_mutex_lock(&c->lock);
	for (size_t i = 0; i < n; i++)
		want_topic(c, topic_name(t[i]), NULL);
	if (brokers) {
		want(c, all_brokers, NULL);
		want(c, c->own, NULL);
	}
	if (c->wanted)
		wait_read(c, c->o.timeout_ms, &e);
	pthread_mutex_unlock(&c->lock);
}

/* ---- life ---- */

int configs_new(struct configs **out, const struct configs_options *o, struct err *e)
{
	struct configs *c = calloc(1, sizeof *c);
	pthread_condattr_t monotonic;
	*out = NULL;
	if (!c)
		return err_set(e, ERR_NO_MEMORY, "no memory for the properties of a cluster");
	c->o = *o;
	c->filling = 1;
	c->newest = -1;
	snprintf(c->own, sizeof c->own, "brokers/%" PRId32, broker_id(o->broker));
	pthread_mutex_init(&c->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&c->changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
	int sys = pthread_create(&c->thread, NULL, run, c);
	if (sys) {
		pthread_cond_destroy(&c->changed);
		pthread_mutex_destroy(&c->lock);
		free(c);
		return err_sys(e, sys, "cannot start the thread that reads properties");
	}
	*out = c;
	return 0;
}

void configs_stop(struct configs *c)
{
	if (!c)
		return;
	pthread_mutex_lock(&c->lock);
	c->ending = true;
	pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&c->lock);
	pthread_join(c->thread, NULL);
}

void configs_free(struct configs *c)
{
	struct wanted *w, *next;
	struct expected *x, *following;
	if (!c)
		return;
	HASH_ITER(hh, c->wanted, w, next) {
		HASH_DEL(c->wanted, w);
		free(w);
	}
	HASH_ITER(hh, c->expected, x, following) {
		HASH_DEL(c->expected, x);
		layout_config_release(&x->config);
		free(x);
	}
	pthread_cond_destroy(&c->changed);
	pthread_mutex_destroy(&c->lock);
	free(c);
}
