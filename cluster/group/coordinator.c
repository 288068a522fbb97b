/*
 * The coordinator: its topic, which partitions of it are answered for here, and its life. What becomes of one of them is in group_shard.c.
 */
#include "cluster/group/group.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "cluster/broker.h"
#include "cluster/topics.h"
#include "store/diag.h"

/* What is on its way at a stop, and waits for replicas that do not answer, is given up after so long. */
enum { STOP_WAIT_MS = 200 };

/* ---- what is on the way ---- */

void coordinator_count(struct coordinator *c, int busy, int loading)
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
	coordinator_count(c, by, 0);
}

void coordinator_wait_loaded(struct coordinator *c)
{
	pthread_mutex_lock(&c->lock);
	while (c->loading)
		pthread_cond_wait(&c->quiet, &c->lock);
	pthread_mutex_unlock(&c->lock);
}

/* ---- roles ---- */

int32_t coordinator_shards(struct coordinator *c)
{
	struct shard_table *t = c->shards;
	return t ? t->count : 0;
}

struct shard *coordinator_shard(struct coordinator *c, int32_t partition)
{
	struct shard_table *t = c->shards;
	return t && partition >= 0 && partition < t->count ? t->shard[partition] : NULL;
}

static struct shard *shard_new(struct coordinator *c, int32_t index)
{
	struct shard *s = calloc(1, sizeof *s);
	if (!s)
		return NULL;
	s->coordinator = c;
	s->index = index;
	pthread_mutex_init(&s->lock, NULL);
	return s;
}

/* locks: lock. */
static struct shard_table *longer_table(struct coordinator *c, int32_t count)
{
	struct shard_table *old = c->shards, *t = calloc(1, sizeof *t + (size_t)count * sizeof *t->shard);
	if (!t)
		return NULL;
	t->older = old;
	while (t->count < count) {
		struct shard *s = old && t->count < old->count ? old->shard[t->count] : shard_new(c, t->count);
		if (!s) {
			for (int32_t i = old ? old->count : 0; i < t->count; i++) {
				shard_release(t->shard[i]);
				free(t->shard[i]);
			}
			free(t);
			return NULL;
		}
		t->shard[t->count++] = s;
	}
	return t;
}

/* There are at least so many. */
static int need_shards(struct coordinator *c, int32_t count, struct err *e)
{
	int rc = 0;
	pthread_mutex_lock(&c->lock);
	struct shard_table *t = count > coordinator_shards(c) ? longer_table(c, count) : c->shards;
	if (t)
		c->shards = t;
	else if (count)
		rc = err_set(e, ERR_NO_MEMORY, "no memory for %" PRId32 " partitions of groups", count);
	pthread_mutex_unlock(&c->lock);
	return rc;
}

/* Of a broker by itself, if the topic is there. The number of its partitions stays what it was found to be at first. */
static int count_partitions(struct coordinator *c, struct err *e)
{
	struct topic *t = topics_find(c->broker, OFFSETS_TOPIC);
	if (!t)
		return err_set(e, ERR_NOT_FOUND, "there is no " OFFSETS_TOPIC " yet");
	int32_t count = c->partitions ? c->partitions : topic_partition_count(t);
	topic_unref(t);
	int rc = need_shards(c, count, e);
	if (rc == 0)
		c->partitions = count;
	return rc;
}

/* In a cluster roles may come before it is known how many partitions there are. They come one by one: room is made for more. */
static int make_room(struct coordinator *c, int32_t partition, struct err *e)
{
	enum { STEP = 64 };
	if (partition < coordinator_shards(c))
		return 0;
	return c->in_cluster ? need_shards(c, (partition / STEP + 1) * STEP, e) : count_partitions(c, e);
}

void coordinator_load(struct coordinator *c, int32_t partition, int32_t epoch)
{
	struct err why = ERR_INIT;
	if (partition >= 0 && make_room(c, partition, &why) < 0)
		diag_error(OFFSETS_TOPIC "-%" PRId32 ": %s", partition, why.text);
	struct shard *s = coordinator_shard(c, partition);
	if (s && !c->stopping)
		shard_load(s, epoch);
}

void coordinator_unload(struct coordinator *c, int32_t partition, int32_t epoch)
{
	struct shard *s = coordinator_shard(c, partition);
	if (s)
		shard_unload(s, epoch);
}

void coordinator_told(struct coordinator *c, int32_t partitions)
{
	c->partitions = partitions;
	c->gone = false;
}

/* ---- the topic ---- */

/* Of a broker by itself, which leads them all. */
static void load_all(struct coordinator *c)
{
	for (int32_t i = 0; !c->in_cluster && i < coordinator_shards(c); i++)
		coordinator_load(c, i, 0);
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
	if (rc == 0 && have < c->partitions) /* made anew by somebody who did not know how many it had */
		rc = topic_grow(t, have, c->partitions, e);
	topic_unref(t);
	return rc < 0 ? rc : count_partitions(c, e);
}

static bool has_topic(struct coordinator *c)
{
	return c->partitions && !c->gone;
}

static bool is_running(struct coordinator *c)
{
	return c->started && !c->stopping;
}

/* In a cluster: by the controller, which takes as long as it takes. */
static int ask_for_topic(struct coordinator *c, struct err *e)
{
	const struct conf *conf = broker_conf(c->broker);
	char segment_bytes[24];
	snprintf(segment_bytes, sizeof segment_bytes, "%" PRId64, conf_int(conf, "offsets.topic.segment.bytes"));
	const struct conf_change set[] = {{"cleanup.policy", "compact"}, {"compression.type", "producer"}, {"segment.bytes", segment_bytes}};
	topics_make_soon(c->broker, &(struct topic_plan){.name = OFFSETS_TOPIC, .partitions = c->default_partitions, .replication_factor = (int16_t)conf_int(conf, "offsets.topic.replication.factor"),
							 .set = set, .set_count = sizeof set / sizeof *set});
	return err_set(e, ERR_NOT_FOUND, OFFSETS_TOPIC " is being made");
}

int coordinator_need_topic(struct coordinator *c, struct err *e)
{
	int rc = 0;
	if (is_running(c) && has_topic(c))
		return 0;
	if (is_running(c) && c->in_cluster)
		return ask_for_topic(c, e);
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
	for (int32_t i = 0; i < coordinator_shards(c); i++)
		shard_unload(coordinator_shard(c, i), SHARD_WHATEVER_EPOCH);
}

void coordinator_forget_all(struct coordinator *c)
{
	pthread_mutex_lock(&c->topic_lock);
	c->gone = true;
	if (c->in_cluster)
		c->partitions = 0; /* the next one may have another number of them */
	unload_all(c);
	pthread_mutex_unlock(&c->topic_lock);
}

int32_t coordinator_partitions(struct coordinator *c)
{
	int32_t n = c->partitions;
	return n ? n : c->default_partitions;
}

int32_t coordinator_partition_of(struct coordinator *c, struct gstr group_id)
{
	int32_t hash = java_hash(group_id);
	return (hash == INT32_MIN ? 0 : abs(hash)) % coordinator_partitions(c); /* Kafka's Utils.abs */
}

/* ---- expiry ---- */

void coordinator_expire(struct coordinator *c)
{
	for (int32_t i = 0; i < coordinator_shards(c) && !c->stopping; i++)
		shard_each(coordinator_shard(c, i), group_expire, NULL);
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
	c->in_cluster = topics_are_elsewhere(o->broker);
	c->pool = o->timers ? NULL : broker_pool(o->broker);
	c->timers = o->timers ? o->timers : broker_timers(o->broker);
	c->now = o->now ? o->now : real_now;
	c->arg = o->arg;
	c->min_session_ms = (int32_t)conf_int(conf, "group.min.session.timeout.ms");
	c->max_session_ms = (int32_t)conf_int(conf, "group.max.session.timeout.ms");
	c->initial_delay_ms = (int32_t)conf_int(conf, "group.initial.rebalance.delay.ms");
	c->max_size = (int32_t)conf_int(conf, "group.max.size");
	c->metadata_max = (int32_t)conf_int(conf, "offset.metadata.max.bytes");
	c->commit_timeout_ms = (int32_t)conf_int(conf, "offsets.commit.timeout.ms");
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
	int rc = c->in_cluster ? 0 : open_topic(c, false, &why);
	if (rc < 0 && rc != ERR_NOT_FOUND)
		diag_error(OFFSETS_TOPIC ": %s", why.text);
	load_all(c);
	arm_expiry(c);
}

int coordinator_mirror(struct coordinator *c, struct zk *z, struct queue *q, struct err *e)
{
	struct mirror *m = NULL;
	if (!conf_bool(broker_conf(c->broker), "zookeeper.consumers.mirror"))
		return 0;
	int rc = mirror_new(&m, c, z, q, e);
	c->mirror = m;
	if (m)
		mirror_start(m);
	return rc;
}

/* Until nothing is under way; in a cluster what waits for replicas is given up. */
static void wait_until_quiet(struct coordinator *c)
{
	pthread_mutex_lock(&c->lock);
	while (c->busy) {
		struct timespec until;
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += STOP_WAIT_MS * 1000000;
		until.tv_sec += until.tv_nsec / 1000000000;
		until.tv_nsec %= 1000000000;
		if (!c->in_cluster) {
			pthread_cond_wait(&c->quiet, &c->lock);
		} else if (pthread_cond_timedwait(&c->quiet, &c->lock, &until) == ETIMEDOUT) {
			pthread_mutex_unlock(&c->lock);
			for (int32_t i = 0; i < coordinator_shards(c); i++)
				shard_give_up_writes(coordinator_shard(c, i));
			pthread_mutex_lock(&c->lock);
		}
	}
	pthread_mutex_unlock(&c->lock);
}

void coordinator_stop(struct coordinator *c)
{
	c->stopping = true;
	pthread_mutex_lock(&c->topic_lock);
	unload_all(c);
	pthread_mutex_unlock(&c->topic_lock);
	mirror_stop(c->mirror);
	for (int i = 0; i < 2; i++) { /* its job may have armed the timer once more */
		timer_cancel(c->timers, &c->expire_timer);
		wait_until_quiet(c);
	}
}

void coordinator_free(struct coordinator *c)
{
	if (!c)
		return;
	for (int32_t i = 0; i < coordinator_shards(c); i++) {
		shard_release(coordinator_shard(c, i));
		free(coordinator_shard(c, i));
	}
	for (struct shard_table *t = c->shards, *older; t; t = older) {
		older = t->older;
		free(t);
	}
	mirror_free(c->mirror);
	pthread_mutex_destroy(&c->topic_lock);
	pthread_mutex_destroy(&c->lock);
	pthread_cond_destroy(&c->quiet);
	free(c);
}
