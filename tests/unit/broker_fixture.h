/*
 * broker_fixture: a broker on a directory of its own, and what most tests do with it. Included by the test programs of cluster; everything is static.
 */
#ifndef TESTS_UNIT_BROKER_FIXTURE_H
#define TESTS_UNIT_BROKER_FIXTURE_H

#include "tests/unit/log_fixture.h"

#include <pthread.h>
#include <sys/wait.h>

#include "cluster/broker.h"
#include "cluster/group/coordinator.h"
#include "cluster/model.h"
#include "cluster/topics.h"
#include "store/clock.h"

static char root[64], data[100], other[100];
static struct conf_schema *schema;
static struct conf *conf;
static struct broker *b;
static _Thread_local struct err err;

static void prepare(void)
{
	const struct conf_property *tables[] = {store_properties, cluster_properties, group_properties};
	snprintf(data, sizeof data, "%s/data", root);
	snprintf(other, sizeof other, "%s/other", root);
	schema = conf_schema_new(tables, 3);
	conf = conf_new(schema, NULL, CONF_BROKER);
	b = NULL;
	diag_set_level(DIAG_ERROR);
}

static int setup(void **state)
{
	(void)state;
	strcpy(root, access("/dev/shm", W_OK) == 0 ? "/dev/shm/spoolfs-part-XXXXXX" : "/tmp/spoolfs-part-XXXXXX");
	assert_non_null(mkdtemp(root));
	prepare();
	return 0;
}

static UNUSED void set_conf(const char *line)
{
	if (conf_set_line(conf, line, &err) < 0)
		fail_msg("%s", err.text);
}

static int try_open(void)
{
	struct broker_options o = {.data = data, .conf = conf};
	err = (struct err)ERR_INIT;
	b = NULL;
	return broker_open(&b, &o, &err);
}

static UNUSED void open_broker(void)
{
	if (try_open() < 0)
		fail_msg("broker_open: %s", err.text);
}

static UNUSED void close_broker(void)
{
	if (b && broker_close(b, &err) < 0)
		fail_msg("broker_close: %s", err.text);
	b = NULL;
}

static int teardown(void **state)
{
	(void)state;
	io_set_hook(NULL, NULL);
	if (b)
		broker_close(b, NULL);
	b = NULL;
	conf_free(conf);
	conf_schema_free(schema);
	fx_remove_tree(root);
	return 0;
}

static UNUSED struct topic *create(const char *name, int32_t partitions)
{
	struct topic *t;
	if (topics_create(b, name, partitions, NULL, &t, &err) < 0)
		fail_msg("topics_create: %s", err.text);
	return t;
}

/* Acquired and referenced; the topic's reference is let go. */
static UNUSED struct partition *use(const char *name, int32_t index)
{
	struct topic *t = topics_find(b, name);
	assert_non_null(t);
	struct partition *p = topic_partition(t, index);
	assert_non_null(p);
	topic_unref(t);
	if (partition_acquire(p, &err) < 0)
		fail_msg("partition_acquire: %s", err.text);
	return p;
}

static void done_with(struct partition *p)
{
	partition_release(p);
	partition_unref(p);
}

/* ---- one append, waited for ---- */

struct wait { struct append a; struct record_set set; pthread_mutex_t lock; pthread_cond_t cond; int calls; };

static void wait_init(struct wait *w)
{
	memset(w, 0, sizeof *w);
	record_set_init(&w->set);
	w->a.set = &w->set;
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->cond, NULL);
}

static void wait_release(struct wait *w)
{
	record_set_release(&w->set);
	pthread_mutex_destroy(&w->lock);
	pthread_cond_destroy(&w->cond);
}

static void appended(struct append *a)
{
	struct wait *w = (struct wait *)a;
	pthread_mutex_lock(&w->lock);
	w->calls++;
	pthread_cond_signal(&w->cond);
	pthread_mutex_unlock(&w->lock);
}

static void start_append(struct partition *p, struct wait *w, const char *text, size_t n, enum acks acks)
{
	struct batch_style style;
	struct err e = ERR_INIT;
	size_t taken;
	topic_batch_style(partition_topic(p), &style);
	record_set_clear(&w->set);
	assert_int_equal(record_set_add_lines(&w->set, &style, text, n, wall_now_ms(), &taken, &e), 0);
	w->calls = 0;
	w->a.acks = acks;
	w->a.done = appended;
	w->a.err = (struct err)ERR_INIT;
	partition_append(p, &w->a);
}

static int finish_append(struct wait *w)
{
	pthread_mutex_lock(&w->lock);
	while (!w->calls)
		pthread_cond_wait(&w->cond, &w->lock);
	pthread_mutex_unlock(&w->lock);
	return w->a.code;
}

static int try_say(struct partition *p, const char *text, enum acks acks)
{
	struct wait w;
	wait_init(&w);
	start_append(p, &w, text, strlen(text), acks);
	int code = finish_append(&w);
	err = w.a.err;
	wait_release(&w);
	return code;
}

static UNUSED void say(struct partition *p, const char *text)
{
	if (try_say(p, text, ACKS_LEADER) < 0)
		fail_msg("append: %s", err.text);
}

/* ---- waiting for the visible end to pass a position, as a read of the mount does ---- */

struct sleeper {
	struct delayed d;
	struct delayed_key key;
	struct partition *p;
	int64_t position;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool woken;
	enum delayed_verdict how;
};

static int64_t sleeper_missing(struct delayed *d)
{
	struct sleeper *s = (struct sleeper *)d;
	struct visible v;
	return partition_visible(s->p, &v, NULL) < 0 || s->p->dir->offline || v.end_position > s->position ? 0 : 1;
}

static void sleeper_woken(struct delayed *d, enum delayed_verdict how)
{
	struct sleeper *s = (struct sleeper *)d;
	pthread_mutex_lock(&s->lock);
	s->woken = true;
	s->how = how;
	pthread_cond_signal(&s->cond);
	pthread_mutex_unlock(&s->lock);
}

static UNUSED void sleeper_init(struct sleeper *s, struct partition *p)
{
	*s = (struct sleeper){.p = p, .d = {.key_count = 1, .missing = sleeper_missing, .complete = sleeper_woken}};
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->cond, NULL);
}

static UNUSED void sleeper_release(struct sleeper *s)
{
	pthread_mutex_destroy(&s->lock);
	pthread_cond_destroy(&s->cond);
}

static UNUSED void sleeper_park(struct sleeper *s, int64_t position, int64_t patience_ms)
{
	s->woken = false;
	s->position = position;
	s->key = (struct delayed_key){.list = partition_delayed(s->p), .channel = DELAYED_STABLE};
	s->d.key = &s->key;
	delayed_init(&s->d);
	delayed_park(&s->d, broker_timers(b), mono_after_ms(mono_now(), patience_ms));
}

static UNUSED enum delayed_verdict sleeper_wait(struct sleeper *s)
{
	pthread_mutex_lock(&s->lock);
	while (!s->woken)
		pthread_cond_wait(&s->cond, &s->lock);
	pthread_mutex_unlock(&s->lock);
	return s->how;
}

/* A thread's: until it is woken, as the end does not get so far. */
static UNUSED void *sleep_for_ever(void *arg)
{
	struct sleeper s;
	sleeper_init(&s, arg);
	sleeper_park(&s, INT64_MAX - 1, 3600000);
	enum delayed_verdict how = sleeper_wait(&s);
	sleeper_release(&s);
	return how == DELAYED_SATISFIED ? NULL : arg;
}

/* All that can be seen, NUL-terminated; to be freed. */
static UNUSED char *all_of(struct partition *p, int64_t *n)
{
	struct visible v;
	struct err e = ERR_INIT;
	assert_int_equal(partition_visible(p, &v, &e), 0);
	*n = v.end_position - v.start_position;
	char *buf = malloc((size_t)*n + 1);
	struct partition_cursor *c = partition_cursor_new(p);
	for (int64_t at = 0; at < *n;) {
		ssize_t got = partition_read(p, c, v.start_position + at, buf + at, (size_t)(*n - at), &e);
		if (got <= 0)
			fail_msg("partition_read: %zd, %s", got, e.text);
		at += got;
	}
	partition_cursor_free(c);
	buf[*n] = 0;
	return buf;
}

static UNUSED void expect(const char *topic, int32_t index, const char *text)
{
	struct partition *p = use(topic, index);
	int64_t n;
	char *have = all_of(p, &n);
	assert_string_equal(have, text);
	free(have);
	done_with(p);
}

#endif
