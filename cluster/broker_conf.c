#include "cluster/broker_conf.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "cluster/model.h"
#include "store/diag.h"
#include "store/io.h"

/* ---- what there is ---- */

/* What a topic may take from the broker, in the finest unit: the others only say what it is where that is not set, as in Kafka. */
bool broker_conf_is_dynamic(const struct conf_schema *s, const struct conf_property *row)
{
	size_t n;
	const struct conf_property *const *rows = conf_rows(s, &n);
	if (row->hidden || !(row->scope & CONF_BROKER) || row->finer)
		return false;
	if (row->scope & CONF_TOPIC || !strcmp(row->name, "producer.id.expiration.ms") || strstr(row->name, ".replication.throttled.rate"))
		return true;
	for (size_t i = 0; i < n; i++)
		if (rows[i]->scope & CONF_TOPIC && rows[i]->broker_name && !strcmp(rows[i]->broker_name, row->name))
			return true;
	return false;
}

/* ---- defaults ---- */

void defaults_unref(struct defaults *d)
{
	if (!d || atomic_fetch_sub(&d->refs, 1) != 1)
		return;
	conf_free(d->topic);
	conf_free(d->own);
	conf_free(d->fallback);
	free(d);
}

static struct conf *copy_or_new(struct broker *b, const struct conf *c, const struct conf *parent)
{
	return c ? conf_copy_onto(c, parent) : conf_new(conf_schema_of(b->conf), parent, CONF_BROKER);
}

struct defaults *defaults_new(struct broker *b, const struct conf *fallback, const struct conf *own)
{
	struct defaults *d = calloc(1, sizeof *d);
	if (!d)
		return NULL;
	d->refs = 1;
	d->fallback = copy_or_new(b, fallback, b->conf);
	d->own = d->fallback ? copy_or_new(b, own, d->fallback) : NULL;
	d->topic = d->own ? conf_new(conf_schema_of(b->conf), d->own, CONF_TOPIC) : NULL;
	if (d->topic)
		return d;
	defaults_unref(d);
	return NULL;
}

struct defaults *broker_defaults(struct broker *b)
{
	pthread_mutex_lock(&b->defaults_lock);
	struct defaults *d = b->defaults;
	atomic_fetch_add(&d->refs, 1);
	pthread_mutex_unlock(&b->defaults_lock);
	return d;
}

int64_t broker_conf_int(struct broker *b, const char *name)
{
	struct defaults *d = broker_defaults(b);
	int64_t v = conf_int(d->own, name);
	defaults_unref(d);
	return v;
}

/* ---- the files ---- */

static void file_path(struct broker *b, bool fallback, char path[PATH_MAX])
{
	snprintf(path, PATH_MAX, "%s/%s", b->dir[0].path, fallback ? DYNAMIC_FALLBACK_FILE : DYNAMIC_FILE);
}

static int load_file(struct broker *b, bool fallback, struct conf *c, struct err *e)
{
	char path[PATH_MAX];
	struct stat st;
	file_path(b, fallback, path);
	int sys = io_stat(path, &st);
	if (sys == -ENOENT)
		return 0;
	if (sys < 0)
		return err_sys(e, sys, "cannot look at %s", path);
	return conf_load(c, path, e);
}

static int save_file(struct broker *b, bool fallback, const struct conf *c, struct err *e)
{
	char path[PATH_MAX];
	struct wr text;
	file_path(b, fallback, path);
	wr_init(&text, 0);
	conf_print_set(c, &text, true);
	int sys = text.failed ? -ENOMEM : io_replace_file(path, text.data, text.len, true);
	wr_release(&text);
	return sys < 0 ? err_sys(e, sys, "cannot write %s", path) : 0;
}

/* No topic is there yet. */
int broker_conf_open(struct broker *b, struct err *e)
{
	struct defaults *d = b->defaults;
	int rc = load_file(b, true, d->fallback, e);
	return rc == 0 ? load_file(b, false, d->own, e) : rc;
}

/* ---- changing ---- */

static int check_names(const struct conf_schema *s, const struct conf_change *v, size_t n, struct err *e)
{
	for (size_t i = 0; i < n; i++) {
		const struct conf_property *row = conf_find(s, v[i].name);
		if (!row || !broker_conf_is_dynamic(s, row))
			return err_set(e, ERR_INVALID, "%.200s: no property of the broker that can be changed while it runs", v[i].name);
	}
	return 0;
}

static bool follow(void *arg, struct topic *t)
{
	(void)arg;
	topic_follow_defaults(t);
	return true;
}

static bool follow_policy(void *arg, struct topic *t)
{
	int32_t n = topic_partition_count(t);
	(void)arg;
	for (int32_t i = 0; i < n; i++) {
		struct partition *p = topic_partition(t, i);
		partition_follow_policy(p);
		partition_unref(p);
	}
	return true;
}

/* d: a reference, which the broker takes over. locks: configure_lock. */
static void put_defaults(struct broker *b, struct defaults *d)
{
	pthread_mutex_lock(&b->create_lock); /* no topic is on its way into the table with those before */
	pthread_mutex_lock(&b->defaults_lock);
	struct defaults *before = b->defaults;
	b->defaults = d;
	pthread_mutex_unlock(&b->defaults_lock);
	topics_list(b, follow, NULL);
	pthread_mutex_unlock(&b->create_lock);
	topics_list(b, follow_policy, NULL); /* may read all of a log */
	defaults_unref(before);
}

int broker_configure(struct broker *b, bool fallback, const struct conf_change *v, size_t n, bool replace, bool check_only, struct err *e)
{
	const struct property_calls *calls = b->property_calls;
	int rc = check_names(conf_schema_of(b->conf), v, n, e);
	if (rc < 0)
		return rc;
	if (calls)
		return calls->configure(calls->arg, fallback, v, n, replace, check_only, e);
	pthread_mutex_lock(&b->configure_lock);
	struct defaults *d = defaults_new(b, b->defaults->fallback, b->defaults->own);
	struct conf *c = d ? (fallback ? d->fallback : d->own) : NULL;
	if (!d)
		rc = err_set(e, ERR_NO_MEMORY, "no memory for properties");
	if (rc == 0 && replace)
		conf_clear(c, true);
	if (rc == 0)
		rc = conf_apply(c, v, n, e);
	if (rc == 0 && !check_only)
		rc = save_file(b, fallback, c, e);
	if (rc == 0 && !check_only)
		put_defaults(b, d);
	else
		defaults_unref(d);
	pthread_mutex_unlock(&b->configure_lock);
	return rc;
}

int broker_take_properties(struct broker *b, bool fallback, const struct conf_change *v, size_t n, struct err *e)
{
	const struct conf_schema *s = conf_schema_of(b->conf);
	int rc = 0;
	pthread_mutex_lock(&b->configure_lock);
	struct defaults *d = defaults_new(b, b->defaults->fallback, b->defaults->own);
	struct conf *c = d ? (fallback ? d->fallback : d->own) : NULL;
	if (!d)
		rc = err_set(e, ERR_NO_MEMORY, "no memory for properties");
	else
		conf_clear(c, true);
	for (size_t i = 0; d && i < n; i++) {
		struct err why = ERR_INIT;
		const struct conf_property *row = conf_find(s, v[i].name);
		if (!row || !broker_conf_is_dynamic(s, row))
			diag_info("%s: a property of brokers that the cluster keeps, and that is nothing here", v[i].name);
		else if (conf_set(c, v[i].name, v[i].value, &why) < 0)
			diag_warning("a property of brokers that the cluster keeps is without effect here: %s", why.text);
	}
	if (d && conf_same(c, fallback ? b->defaults->fallback : b->defaults->own)) {
		defaults_unref(d);
	} else if (d) {
		diag_info("the properties of %s are others now", fallback ? "all brokers" : "this broker");
		rc = save_file(b, fallback, c, e);
		put_defaults(b, d);
	}
	pthread_mutex_unlock(&b->configure_lock);
	return rc;
}

/* ---- looking ---- */

int conf_levels_take(struct broker *b, struct topic *t, struct conf_levels *l, struct err *e)
{
	struct conf *c = NULL;
	struct defaults *d = t ? topic_conf_copy(t, &c) : broker_defaults(b);
	*l = (struct conf_levels){.fixed = b->conf, .fallback = d->fallback, .own = d->own, .topic = c, .defaults = d};
	if (!t || c)
		return 0;
	conf_levels_release(l);
	return err_set(e, ERR_NO_MEMORY, "no memory for properties");
}

void conf_levels_release(struct conf_levels *l)
{
	conf_free(l->topic);
	defaults_unref(l->defaults);
	*l = (struct conf_levels){0};
}
