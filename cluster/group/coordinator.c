/*
 * The coordinator: its shards, their roles, and its life.
 */
#include "cluster/group/group.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "cluster/broker.h"
#include "cluster/topics.h"
#include "store/diag.h"

#define OFFSETS_TOPIC "__consumer_offsets"

enum { RETRY_MS = 10000 };

/* ---- what is on the way ---- */

static void count(struct coordinator *c, int busy, int loading)
{
	pthread_mutex_lock(&c->lock);
	c->busy += (uint32_t)busy;
	c->loading += (uint32_t)loading;
	if (!c->busy || !c->loading)
		pthread_cond_broadcast(&c->quiet);
	pthread_mutex_unlock(&c->lock);
}

void coordinator_busy(struct coordinator *c, int by)
{
	count(c, by, 0);
}

void coordinator_wait_loaded(struct coordinator *c)
{
	pthread_mutex_lock(&c->lock);
	while (c->loading)
		pthread_cond_wait(&c->quiet, &c->lock);
	pthread_mutex_unlock(&c->lock);
}

/* ---- a shard's table ---- */

bool shard_table_add(struct group **table, struct group *g)
{
	HASH_ADD_KEYPTR(hh, *table, g->id->data, (size_t)g->id->n, g);
	g->in_table = g->hh.tbl != NULL;
	return g->in_table;
}

void shard_remove(struct group *g)
{
	struct shard *s = g->shard;
	pthread_mutex_lock(&s->lock);
	bool there = g->in_table;
	if (there)
		HASH_DELETE(hh, s->groups, g);
	g->in_table = false;
	pthread_mutex_unlock(&s->lock);
	g->removed = true;
	if (there)
		group_unref(g);
}

void shard_each(struct shard *s, void (*fn)(struct turn *t, void *arg), void *arg)
{
	size_t n = 0;
	struct group *g;
	pthread_mutex_lock(&s->lock);
	size_t all = HASH_COUNT(s->groups);
	struct group **list = all ? malloc(all * sizeof *list) : NULL;
	for (g = list ? s->groups : NULL; g; g = g->hh.next) {
		group_ref(g);
		list[n++] = g;
	}
	pthread_mutex_unlock(&s->lock);
	for (size_t i = 0; i < n; i++) {
		struct turn t;
		turn_begin_on(&t, list[i]);
		if (!t.g->removed)
			fn(&t, arg);
		turn_end(&t);
		group_unref(list[i]);
	}
	free(list);
}

static void unload(struct turn *t)
{
	struct group *g = t->g;
	group_set_state(g, GROUP_DEAD);
	g->removed = true;
	for (struct member *m = g->members; m; m = m->hh.next) {
		group_fail_join(t, m, KAFKA_NOT_COORDINATOR, blob_str(m->id));
		group_fail_sync(t, m, KAFKA_NOT_COORDINATOR);
	}
	group_answer_fetches(t, KAFKA_NOT_COORDINATOR);
	g->deleting = false;
	if (g->delete_reply)
		reply_error(t, g->delete_reply, KAFKA_NOT_COORDINATOR);
	g->delete_reply = NULL;
}

static void unload_table(struct group *list)
{
	while (list) {
		struct group *g = list;
		struct turn t;
		list = g->next_unloaded;
		turn_begin_on(&t, g);
		unload(&t);
		turn_end(&t);
		group_unref(g); /* the table's */
	}
}

/* Empties the table into a list. locks: shard.lock, or it is nobody else's. */
static struct group *take_table(struct group **table)
{
	struct group *g, *next, *list = NULL;
	HASH_ITER(hh, *table, g, next) {
		HASH_DELETE(hh, *table, g);
		g->in_table = false;
		g->next_unloaded = list;
		list = g;
	}
	return list;
}

/* ---- loading ---- */

static struct partition *find_partition(struct coordinator *c, int32_t index, struct err *e)
{
	struct topic *t = topics_find(c->broker, OFFSETS_TOPIC);
	struct partition *p = t ? topic_partition(t, index) : NULL;
	if (!p)
		err_set(e, ERR_NOT_FOUND, OFFSETS_TOPIC " has no partition %" PRId32, index);
	topic_unref(t);
	return p;
}

/* Sessions begin when the group is loaded; one that has become too large, as a property has changed, is to rebalance. */
static void begin_group(struct group *g)
{
	struct turn t;
	turn_begin_on(&t, g);
	for (struct member *m = g->members; m; m = m->hh.next)
		group_hear(&t, m);
	if (g->member_count > (uint32_t)t.c->max_size)
		group_prepare_rebalance(&t);
	turn_end(&t);
}

static int read_shard(struct shard *s, struct group **table, struct journal **journal, struct err *e)
{
	struct partition *p = find_partition(s->coordinator, s->index, e);
	int rc = p ? 0 : ERR_NOT_FOUND;
	if (rc == 0 && !(*journal = journal_new(s->coordinator, p))) {
		partition_unref(p);
		rc = err_set(e, ERR_NO_MEMORY, "no memory for groups");
	}
	return rc == 0 ? shard_read(s, p, *journal, table, e) : rc;
}

/* thread: the pool's. */
static void load(struct shard *s)
{
	struct group *table = NULL, *g, *next;
	struct journal *journal = NULL;
	struct err why = ERR_INIT;
	pthread_mutex_lock(&s->lock);
	uint32_t number = s->loads;
	bool wanted = s->role == SHARD_LOADING;
	struct journal *closed = s->closed;
	s->closed = NULL;
	pthread_mutex_unlock(&s->lock);
	if (closed)
		journal_wait_closed(closed);
	journal_unref(closed);
	if (!wanted)
		return;
	int rc = read_shard(s, &table, &journal, &why);
	if (rc < 0)
		diag_error(OFFSETS_TOPIC "-%" PRId32 ": its groups cannot be loaded: %s", s->index, why.text);
	HASH_ITER(hh, table, g, next)
		if (rc == 0)
			begin_group(g);
	pthread_mutex_lock(&s->lock);
	bool used = s->role == SHARD_LOADING && s->loads == number;
	if (used && rc == 0) {
		s->groups = table;
		s->journal = journal;
		s->role = SHARD_ACTIVE;
	} else if (used) {
		s->role = SHARD_FAILED;
		s->failed_ns = s->coordinator->now(s->coordinator->arg).ns;
	}
	pthread_mutex_unlock(&s->lock);
	if (!used || rc < 0) {
		unload_table(take_table(&table));
		journal_unref(journal);
	}
}

struct load_job { struct pool_job job; struct shard *shard; };

static void run_load(struct pool_job *job)
{
	struct shard *s = ((struct load_job *)job)->shard;
	load(s);
	free(job);
	count(s->coordinator, -1, -1);
}

/* Its role is SHARD_LOADING. locks: none. */
static void start_load(struct shard *s)
{
	struct coordinator *c = s->coordinator;
	struct load_job *j = c->pool ? calloc(1, sizeof *j) : NULL;
	count(c, 1, 1);
	if (j) {
		j->job.run = run_load;
		j->shard = s;
		pool_run(c->pool, &j->job);
	} else {
		load(s);
		count(c, -1, -1);
	}
}

void shard_retry(struct shard *s)
{
	struct coordinator *c = s->coordinator;
	pthread_mutex_lock(&s->lock);
	bool again = s->role == SHARD_FAILED && !c->stopping && c->now(c->arg).ns - s->failed_ns >= RETRY_MS * INT64_C(1000000);
	if (again) {
		s->role = SHARD_LOADING;
		s->loads++;
	}
	pthread_mutex_unlock(&s->lock);
	if (again)
		start_load(s);
}

/* ---- roles ---- */

/* Makes the shards, if the topic is there. */
static int make_shards(struct coordinator *c, struct err *e)
{
	struct topic *t = topics_find(c->broker, OFFSETS_TOPIC);
	int rc = 0;
	if (!t)
		return err_set(e, ERR_NOT_FOUND, "there is no " OFFSETS_TOPIC " yet");
	pthread_mutex_lock(&c->lock);
	int32_t n = topic_partition_count(t);
	struct shard *s = c->shards ? NULL : calloc((size_t)n, sizeof *s);
	for (int32_t i = 0; s && i < n; i++) {
		s[i].coordinator = c;
		s[i].index = i;
		pthread_mutex_init(&s[i].lock, NULL);
	}
	if (s) {
		c->shard_count = n;
		c->shards = s;
	} else if (!c->shards) {
		rc = err_set(e, ERR_NO_MEMORY, "no memory for %" PRId32 " partitions of groups", n);
	}
	pthread_mutex_unlock(&c->lock);
	topic_unref(t);
	return rc;
}

void coordinator_load(struct coordinator *c, int32_t partition)
{
	struct err why = ERR_INIT;
	if (!c->shards && make_shards(c, &why) < 0)
		diag_error(OFFSETS_TOPIC "-%" PRId32 ": %s", partition, why.text);
	if (!c->shards || partition < 0 || partition >= c->shard_count || c->stopping)
		return;
	struct shard *s = &c->shards[partition];
	pthread_mutex_lock(&s->lock);
	bool begin = s->role == SHARD_NOT_OURS || s->role == SHARD_FAILED;
	if (begin) {
		s->role = SHARD_LOADING;
		s->loads++;
	}
	pthread_mutex_unlock(&s->lock);
	if (begin)
		start_load(s);
}

void coordinator_unload(struct coordinator *c, int32_t partition)
{
	if (!c->shards || partition < 0 || partition >= c->shard_count)
		return;
	struct shard *s = &c->shards[partition];
	pthread_mutex_lock(&s->lock);
	struct journal *journal = s->journal;
	struct group *list = take_table(&s->groups);
	struct journal *older = journal ? s->closed : NULL;
	s->role = SHARD_NOT_OURS;
	s->journal = NULL;
	if (journal) {
		journal_close(journal);
		s->closed = journal; /* with the reference */
	}
	pthread_mutex_unlock(&s->lock);
	unload_table(list);
	journal_unref(older);
}

static void load_all(struct coordinator *c)
{
	for (int32_t i = 0; c->shards && i < c->shard_count; i++)
		coordinator_load(c, i);
}

/* What it must be, also where a crash came between making it and saying so. One that Kafka made has its properties from there. */
static int configure_topic(struct coordinator *c, struct topic *t, struct err *e)
{
	char text[200];
	if (topic_is_compacted(t) || topic_conf_bool(t, "spoolfs.adopted"))
		return 0;
	int n = snprintf(text, sizeof text, "cleanup.policy=compact\ncompression.type=producer\nsegment.bytes=%" PRId64 "\n", conf_int(broker_conf(c->broker), "offsets.topic.segment.bytes"));
	return topic_configure(t, text, (size_t)n, e);
}

/* Makes it if it is not there and that is wanted. ERR_NOT_FOUND: it is not there. */
static int open_topic(struct coordinator *c, bool create, struct err *e)
{
	int rc = 0;
	struct topic *t = topics_find(c->broker, OFFSETS_TOPIC);
	if (!t && create && (rc = topics_create(c->broker, OFFSETS_TOPIC, coordinator_partitions(c), NULL, &t, e)) == ERR_EXISTS)
		t = topics_find(c->broker, OFFSETS_TOPIC); /* somebody else was faster */
	if (!t)
		return rc < 0 ? rc : err_set(e, ERR_NOT_FOUND, "there is no " OFFSETS_TOPIC);
	rc = configure_topic(c, t, e);
	int32_t have = topic_partition_count(t);
	if (rc == 0 && c->shards && have < c->shard_count) /* made anew by somebody who did not know how many it had */
		rc = topic_grow(t, have, c->shard_count, e);
	topic_unref(t);
	return rc < 0 ? rc : make_shards(c, e);
}

static bool has_topic(struct coordinator *c)
{
	return c->shards && !c->gone;
}

static bool is_running(struct coordinator *c)
{
	return c->started && !c->stopping;
}

int coordinator_need_topic(struct coordinator *c, struct err *e)
{
	int rc = 0;
	if (is_running(c) && has_topic(c))
		return 0;
	pthread_mutex_lock(&c->topic_lock);
	if (!is_running(c))
		rc = err_set(e, ERR_STOPPING, "the group coordinator is not running");
	else if (!has_topic(c) && (rc = open_topic(c, true, e)) == 0) {
		c->gone = false;
		load_all(c);
	}
	pthread_mutex_unlock(&c->topic_lock);
	return rc;
}

/* locks: topic_lock: what is loaded meanwhile for a topic that was made anew would be unloaded here, and nobody would load it again. */
static void unload_all(struct coordinator *c)
{
	for (int32_t i = 0; c->shards && i < c->shard_count; i++)
		coordinator_unload(c, i);
}

void coordinator_forget_all(struct coordinator *c)
{
	pthread_mutex_lock(&c->topic_lock);
	c->gone = true;
	unload_all(c);
	pthread_mutex_unlock(&c->topic_lock);
}

int32_t coordinator_partitions(struct coordinator *c)
{
	return c->shards ? c->shard_count : c->default_partitions;
}

int32_t coordinator_partition_of(struct coordinator *c, struct gstr group_id)
{
	int32_t hash = java_hash(group_id);
	return (hash == INT32_MIN ? 0 : abs(hash)) % coordinator_partitions(c); /* Kafka's Utils.abs */
}

/* ---- expiry ---- */

void coordinator_expire(struct coordinator *c)
{
	for (int32_t i = 0; c->shards && i < c->shard_count && !c->stopping; i++)
		shard_each(&c->shards[i], group_expire, NULL);
}

static void arm_expiry(struct coordinator *c)
{
	if (!c->stopping)
		timer_arm(c->timers, &c->expire_timer, mono_after_ms(c->now(c->arg), c->check_interval_ms));
}

static void run_expiry(struct pool_job *job)
{
	struct coordinator *c = (struct coordinator *)((char *)job - offsetof(struct coordinator, expire_job));
	coordinator_expire(c);
	arm_expiry(c);
	coordinator_busy(c, -1);
}

static void expiry_due(struct timer *timer, void *arg)
{
	struct coordinator *c = arg;
	(void)timer;
	coordinator_busy(c, 1);
	if (c->pool)
		pool_run(c->pool, &c->expire_job);
	else
		run_expiry(&c->expire_job);
}

/* ---- life ---- */

static mono_t real_now(void *arg)
{
	(void)arg;
	return mono_now();
}

int coordinator_new(struct coordinator **out, const struct coordinator_options *o, struct err *e)
{
	const struct conf *conf = broker_conf(o->broker);
	struct coordinator *c = calloc(1, sizeof *c);
	if (!c)
		return err_set(e, ERR_NO_MEMORY, "no memory for the group coordinator");
	c->broker = o->broker;
	c->pool = o->timers ? NULL : broker_pool(o->broker);
	c->timers = o->timers ? o->timers : broker_timers(o->broker);
	c->now = o->now ? o->now : real_now;
	c->arg = o->arg;
	c->min_session_ms = (int32_t)conf_int(conf, "group.min.session.timeout.ms");
	c->max_session_ms = (int32_t)conf_int(conf, "group.max.session.timeout.ms");
	c->initial_delay_ms = (int32_t)conf_int(conf, "group.initial.rebalance.delay.ms");
	c->max_size = (int32_t)conf_int(conf, "group.max.size");
	c->metadata_max = (int32_t)conf_int(conf, "offset.metadata.max.bytes");
	c->retention_ms = conf_int(conf, "offsets.retention.minutes") * 60000;
	c->check_interval_ms = conf_int(conf, "offsets.retention.check.interval.ms");
	c->default_partitions = (int32_t)conf_int(conf, "offsets.topic.num.partitions");
	c->codec = (enum codec)conf_int(conf, "offsets.topic.compression.codec");
	c->expire_timer.fire = expiry_due;
	c->expire_timer.arg = c;
	c->expire_job.run = run_expiry;
	pthread_mutex_init(&c->topic_lock, NULL);
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->quiet, NULL);
	*out = c;
	return 0;
}

void coordinator_start(struct coordinator *c)
{
	struct err why = ERR_INIT;
	c->started = true;
	int rc = open_topic(c, false, &why);
	if (rc < 0 && rc != ERR_NOT_FOUND)
		diag_error(OFFSETS_TOPIC ": %s", why.text);
	load_all(c);
	arm_expiry(c);
}

void coordinator_stop(struct coordinator *c)
{
	c->stopping = true;
	pthread_mutex_lock(&c->topic_lock);
	unload_all(c);
	pthread_mutex_unlock(&c->topic_lock);
	for (int i = 0; i < 2; i++) { /* its job may have armed the timer once more */
		timer_cancel(c->timers, &c->expire_timer);
		pthread_mutex_lock(&c->lock);
		while (c->busy)
			pthread_cond_wait(&c->quiet, &c->lock);
		pthread_mutex_unlock(&c->lock);
	}
	for (int32_t i = 0; c->shards && i < c->shard_count; i++) {
		struct shard *s = &c->shards[i];
		pthread_mutex_lock(&s->lock);
		struct journal *closed = s->closed;
		s->closed = NULL;
		pthread_mutex_unlock(&s->lock);
		journal_unref(closed);
	}
}

void coordinator_free(struct coordinator *c)
{
	if (!c)
		return;
	for (int32_t i = 0; c->shards && i < c->shard_count; i++)
		pthread_mutex_destroy(&c->shards[i].lock);
	free(c->shards);
	pthread_mutex_destroy(&c->topic_lock);
	pthread_mutex_destroy(&c->lock);
	pthread_cond_destroy(&c->quiet);
	free(c);
}
