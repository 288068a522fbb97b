/*
 * agent: what happens in the background. One scheduler thread fires timers; their work goes to the pool, one job of a kind at a time, and looks at each
 * partition in turn without holding up any other.
 *
 *   checkpoint   every log.flush.offset.checkpoint.interval.ms, and a second after partitions came or went: the files that let a start skip what it knows
 *   retention    every log.retention.check.interval.ms; a partition is opened only when something of it can be too old
 *   flush        once flush.ms is set for any topic, at half the least of them
 *   producers    every producer.id.expiration.check.interval.ms: those not seen for long are forgotten, in logs that are open; others do so when they are opened
 *   replicas     in a cluster, at half replica.lag.time.max.ms: who has not kept up with a leader here is to leave its ISR
 *   watermarks   in a cluster, every replica.high.watermark.checkpoint.interval.ms: how far replicas are committed
 *   delete       .deleted segments and -delete directories whose delay has passed
 *   idle         logs that nobody has used for a minute are closed; so are those of readers and writers that went
 */
#include <dirent.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "cluster/model.h"
#include "cluster/task.h"
#include "store/diag.h"
#include "store/io.h"

enum { SOON_MS = 1000, IDLE_MS = 60000, FLUSH_LEAST_MS = 10, FLUSH_MOST_MS = 1000 };

struct agent {
	struct broker *broker;
	struct timer_heap *timers;
	pthread_t thread;
	struct task checkpoint, retention, flush, producers, replicas, watermarks, delete, idle;
};

struct timer_heap *agent_timers(struct agent *a)
{
	return a->timers;
}

/* ---- over all partitions ---- */

struct each { void (*fn)(struct partition *p, void *arg); void *arg; };

static bool each_topic(void *arg, struct topic *t)
{
	struct each *x = arg;
	for (int32_t i = 0; i < topic_partition_count(t) && !t->broker->stopping && !t->deleted; i++) {
		struct partition *p = topic_partition(t, i);
		if (p && p->dir && !p->dir->offline)
			x->fn(p, x->arg);
		partition_unref(p);
	}
	return !t->broker->stopping;
}

static void each_partition(struct agent *a, void (*fn)(struct partition *p, void *arg), void *arg)
{
	topics_list(a->broker, each_topic, &(struct each){fn, arg});
}

static void report(const struct err *why)
{
	static struct diag_limit limit;
	diag_limited(&limit, 10000, DIAG_ERROR, "%s", why->text);
}

/* ---- the tasks ---- */

static int64_t do_checkpoint(void *arg)
{
	struct agent *a = arg;
	for (int i = 0; i < a->broker->dir_count; i++) {
		struct err why = ERR_INIT;
		if (!a->broker->dir[i].offline && broker_checkpoint(a->broker, &a->broker->dir[i], false, &why) < 0)
			report(&why);
	}
	return conf_int(a->broker->conf, "log.flush.offset.checkpoint.interval.ms");
}

static void retain_one(struct partition *p, void *arg)
{
	struct err why = ERR_INIT;
	(void)arg;
	int rc = partition_apply_retention(p, wall_now_ms(), &why);
	if (rc < 0)
		rc = partition_failed(p, rc, &why);
	if (rc < 0 && rc != ERR_DELETED && rc != ERR_IO)
		report(&why);
}

static int64_t do_retention(void *arg)
{
	struct agent *a = arg;
	each_partition(a, retain_one, NULL);
	return conf_int(a->broker->conf, "log.retention.check.interval.ms");
}

static void flush_one(struct partition *p, void *arg)
{
	int64_t *least = arg, flush_ms = topic_limits(p->topic).flush_ms;
	if (flush_ms == INT64_MAX)
		return;
	if (flush_ms < *least)
		*least = flush_ms;
	if (partition_is_dirty_since(p, wall_now_ms() - flush_ms))
		partition_flush_soon(p);
}

static int64_t do_flush(void *arg)
{
	struct agent *a = arg;
	int64_t least = INT64_MAX;
	each_partition(a, flush_one, &least);
	if (least == INT64_MAX)
		return -1;
	return least / 2 < FLUSH_LEAST_MS ? FLUSH_LEAST_MS : least / 2 < FLUSH_MOST_MS ? least / 2 : FLUSH_MOST_MS;
}

void agent_flush_changed(struct agent *a)
{
	if (a)
		task_ask(&a->flush, FLUSH_LEAST_MS);
}

static void expire_one(struct partition *p, void *arg)
{
	partition_expire_producers(p, wall_now_ms(), *(int64_t *)arg);
}

static int64_t do_producers(void *arg)
{
	struct agent *a = arg;
	int64_t expiration_ms = broker_conf_int(a->broker, "producer.id.expiration.ms");
	each_partition(a, expire_one, &expiration_ms);
	return conf_int(a->broker->conf, "producer.id.expiration.check.interval.ms");
}

static void check_one(struct partition *p, void *arg)
{
	partition_check_isr(p, *(int64_t *)arg);
}

static int64_t do_replicas(void *arg)
{
	struct agent *a = arg;
	int64_t now_ms = mono_now().ns / 1000000;
	each_partition(a, check_one, &now_ms);
	return (a->broker->replica_lag_ms + 1) / 2;
}

static int64_t do_watermarks(void *arg)
{
	struct agent *a = arg;
	for (int i = 0; i < a->broker->dir_count; i++) {
		struct err why = ERR_INIT;
		if (!a->broker->dir[i].offline && broker_write_high_watermarks(a->broker, &a->broker->dir[i], &why) < 0)
			report(&why);
	}
	return conf_int(a->broker->conf, "replica.high.watermark.checkpoint.interval.ms");
}

static void delete_one(struct partition *p, void *arg)
{
	struct err why = ERR_INIT;
	(void)arg;
	if (partition_remove_deleted(p, &why) < 0)
		report(&why);
}

static int remove_deleted_topic(void *arg, const char *name, unsigned char type)
{
	struct dir_entry d;
	char path[PATH_MAX];
	dir_entry_parse(name, &d);
	if (type == DT_DIR && d.kind == DIR_DELETED) {
		snprintf(path, sizeof path, "%s/%s", (const char *)arg, name);
		io_remove_dir(path);
	}
	return 0;
}

static int64_t do_delete(void *arg)
{
	struct agent *a = arg;
	each_partition(a, delete_one, NULL);
	for (int i = 0; i < a->broker->dir_count; i++)
		if (!a->broker->dir[i].offline)
			io_list(a->broker->dir[i].path, remove_deleted_topic, a->broker->dir[i].path);
	return -1;
}

void agent_delete_later(struct agent *a, int64_t delay_ms)
{
	/* one time for all, the nearest: what is deleted while something waits goes with it, sooner than it need. The other way round a busy log would put it off for ever */
	if (a && !a->broker->read_only)
		task_ask(&a->delete, delay_ms);
}

static void close_one(struct partition *p, void *arg)
{
	struct err why = ERR_INIT;
	if (partition_has_open_log(p) && !partition_close_idle(p, *(int64_t *)arg, &why) && why.code)
		report(&why);
}

static int64_t do_idle(void *arg)
{
	struct agent *a = arg;
	int64_t before = wall_now_ms() - IDLE_MS;
	each_partition(a, close_one, &before);
	return IDLE_MS / 2;
}

void agent_checkpoint_soon(struct agent *a)
{
	if (a)
		task_ask(&a->checkpoint, SOON_MS);
}

/* ---- life ---- */

static void *scheduler(void *arg)
{
	struct agent *a = arg;
	sigset_t all;
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	pthread_setname_np(pthread_self(), "agent");
	timer_run(a->timers);
	return NULL;
}

struct agent *agent_start(struct broker *b, struct err *e)
{
	struct agent *a = calloc(1, sizeof *a);
	if (!a || !(a->timers = timer_heap_new())) {
		free(a);
		err_set(e, ERR_NO_MEMORY, "no memory for the agent");
		return NULL;
	}
	a->broker = b;
	task_init(&a->checkpoint, a->timers, b->pool, do_checkpoint, a);
	task_init(&a->retention, a->timers, b->pool, do_retention, a);
	task_init(&a->flush, a->timers, b->pool, do_flush, a);
	task_init(&a->producers, a->timers, b->pool, do_producers, a);
	task_init(&a->replicas, a->timers, b->pool, do_replicas, a);
	task_init(&a->watermarks, a->timers, b->pool, do_watermarks, a);
	task_init(&a->delete, a->timers, b->pool, do_delete, a);
	task_init(&a->idle, a->timers, b->pool, do_idle, a);
	int sys = pthread_create(&a->thread, NULL, scheduler, a);
	if (sys) {
		agent_free(a);
		err_sys(e, sys, "cannot start the agent's thread");
		return NULL;
	}
	return a;
}

void agent_begin(struct agent *a)
{
	task_ask(&a->checkpoint, SOON_MS);
	if (!a->broker->read_only)
		task_ask(&a->retention, conf_int(a->broker->conf, "log.retention.check.interval.ms"));
	task_ask(&a->flush, SOON_MS);
	task_ask(&a->producers, conf_int(a->broker->conf, "producer.id.expiration.check.interval.ms"));
	task_ask(&a->idle, IDLE_MS / 2);
	if (a->broker->roles) {
		task_ask(&a->replicas, (a->broker->replica_lag_ms + 1) / 2);
		task_ask(&a->watermarks, conf_int(a->broker->conf, "replica.high.watermark.checkpoint.interval.ms"));
	}
}

static void each_task(struct agent *a, void (*fn)(struct task *k))
{
	struct task *all[] = {&a->checkpoint, &a->retention, &a->flush, &a->producers, &a->replicas, &a->watermarks, &a->delete, &a->idle};
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		fn(all[i]);
}

/* The broker is stopping: no task is begun again. Jobs that run end early and are waited for with the pool. */
void agent_stop(struct agent *a)
{
	if (!a)
		return;
	each_task(a, task_stop);
	timer_stop(a->timers);
	pthread_join(a->thread, NULL);
}

void agent_free(struct agent *a)
{
	if (!a)
		return;
	each_task(a, task_release);
	timer_heap_free(a->timers);
	free(a);
}
