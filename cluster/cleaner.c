/*
 * cleaner: compacts logs in the background, log.cleaner.threads of them at a time. Each has a slot with a timer and a job of the pool: a step of a round (store/clean.h), then it makes
 * way for others; the next comes at once, or when log.cleaner.io.max.bytes.per.second, which all slots share, allows it.
 *
 * The dirtiest log comes first. A partition is opened for that only when something came since it was last looked at, or time alone may have made it due; a closed one that was
 * compacted up to its active segment is not.
 *
 * A log that cannot be cleaned (a damaged batch) is reported once and left alone from then on. Without space or memory a round is given up, and tried again later.
 *
 * locks: the cleaner's is taken first of all, held while a log is chosen, by slots alone.
 */
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>

#include "cluster/model.h"
#include "store/clean.h"
#include "store/counters.h"
#include "store/diag.h"

enum { STEP_BYTES = 1 << 20, FIRST_MS = 1000, SHORT_STEPS = 8 };

static COUNTER(rounds_total, "spoolfs_cleaner_rounds_total", "rounds of compaction");
static COUNTER(read_bytes_total, "spoolfs_cleaner_read_bytes_total", "bytes that compaction has read");
static COUNTER(written_bytes_total, "spoolfs_cleaner_written_bytes_total", "bytes that compaction has written");

struct slot {
	struct cleaner *cleaner;
	struct timer timer;
	struct pool_job job;
	struct partition *p;        /* referenced and acquired; NULL: looking for one */
	struct log_clean *round;
	struct clean_guard guard;
	uint64_t counted_read, counted_written; /* bytes of the round that are accounted for */
};

struct cleaner {
	struct broker *broker;
	pthread_mutex_t lock;
	double bytes_per_second;
	_Atomic int64_t free_ns;    /* when the rate allows more */
	int slots;
	struct slot slot[];
};

/* ---- the guard ---- */

static int enter(void *arg, struct err *e)
{
	struct partition *p = arg;
	pthread_mutex_lock(&p->log_lock);
	int rc = 0;
	if (partition_is_gone(p))
		rc = err_set(e, ERR_DELETED, "topic %s was deleted", p->topic->name);
	else if (p->dir->offline)
		rc = err_set(e, ERR_OFFLINE, "log directory %s is out of service after an I/O error", p->dir->path);
	if (rc < 0)
		pthread_mutex_unlock(&p->log_lock);
	return rc;
}

static void leave(void *arg)
{
	pthread_mutex_unlock(&((struct partition *)arg)->log_lock);
}

/* ---- choosing ---- */

static struct clean_conf conf_of(struct cleaner *c, struct partition *p)
{
	struct limits l = topic_limits(p->topic);
	const struct conf *conf = c->broker->conf;
	size_t slots = (size_t)c->slots;
	return (struct clean_conf){
		.map_bytes = (size_t)conf_int(conf, "log.cleaner.dedupe.buffer.size") / slots, .load_factor = conf_double(conf, "log.cleaner.io.buffer.load.factor"),
		.io_bytes = (size_t)conf_int(conf, "log.cleaner.io.buffer.size") / slots / 2, .segment_bytes = l.log.segment_bytes, .index_bytes = l.log.index_bytes,
		.interval_bytes = l.log.interval_bytes, .min_lag_ms = l.clean.min_lag_ms, .max_lag_ms = l.clean.max_lag_ms, .delete_retention_ms = l.clean.delete_retention_ms,
	};
}

/* When a log that could not be compacted is tried again. */
static int64_t retry_ms(const struct cleaner *c)
{
	return conf_int(c->broker->conf, "log.cleaner.backoff.ms");
}

struct choice { struct cleaner *cleaner; struct partition *p; struct clean_plan plan; int64_t now_ms; };

/* Whether it is worth a look. locks: the cleaner's. */
static bool is_candidate(struct partition *p, int64_t now_ms)
{
	if (!p->topic->compact || partition_is_gone(p) || !p->dir || p->dir->offline || p->clean.busy || p->clean.hopeless || now_ms < p->clean.not_before_ms)
		return false;
	if (p->clean.looked_offset == p->end_offset && p->clean.generation == p->topic->generation && now_ms < p->clean.look_again_ms)
		return false;
	return !partition_is_clean(p);
}

/* Looks at one that is acquired; whether it is to be compacted. */
static bool look(struct cleaner *c, struct partition *p, int64_t now_ms, struct clean_plan *plan, struct err *e)
{
	struct clean_conf conf = conf_of(c, p);
	double least = topic_limits(p->topic).clean.dirty_ratio;
	p->clean.generation = p->topic->generation;
	pthread_mutex_lock(&p->log_lock);
	int64_t stable = log_last_stable(p->log), looked = p->end_offset;
	if (p->high_watermark < stable)
		stable = p->high_watermark;
	pthread_mutex_unlock(&p->log_lock);
	if (log_clean_plan(p->log, p->clean_offset, stable, &conf, now_ms, plan, e) < 0)
		return false;
	p->clean.looked_offset = looked;
	p->clean.look_again_ms = plan->look_again_ms;
	return plan->dirty_bytes > 0 && (plan->overdue || clean_plan_ratio(plan) > least);
}

static bool choose_one(void *arg, struct topic *t)
{
	struct choice *x = arg;
	for (int32_t i = 0; t->compact && i < topic_partition_count(t) && !t->broker->stopping; i++) {
		struct partition *p = topic_partition(t, i);
		struct clean_plan plan;
		struct err why = ERR_INIT;
		if (!p || !is_candidate(p, x->now_ms) || partition_acquire(p, NULL) < 0) {
			partition_unref(p);
			continue;
		}
		bool dirty = look(x->cleaner, p, x->now_ms, &plan, &why), better = dirty && (!x->p || clean_plan_ratio(&plan) > clean_plan_ratio(&x->plan));
		if (why.code < 0) {
			diag_error("%s-%" PRId32 " is not compacted for now: %s", t->name, i, why.text);
			p->clean.not_before_ms = x->now_ms + retry_ms(x->cleaner);
		}
		struct partition *other = better ? x->p : p;
		if (better) {
			x->p = p;
			x->plan = plan;
		}
		if (other) {
			if (dirty) /* its turn comes when the better one is done */
				other->clean.looked_offset = -1;
			partition_release(other);
			partition_unref(other);
		}
	}
	return !t->broker->stopping;
}

/* The dirtiest log, taken for this slot; NULL: there is nothing to do. */
static struct partition *choose(struct cleaner *c, struct clean_plan *plan)
{
	struct choice x = {.cleaner = c, .now_ms = wall_now_ms()};
	pthread_mutex_lock(&c->lock);
	topics_list(c->broker, choose_one, &x);
	if (x.p)
		x.p->clean.busy = true;
	pthread_mutex_unlock(&c->lock);
	*plan = x.plan;
	return x.p;
}

/* ---- a round ---- */

/* The slot is free again. */
static void let_go(struct slot *s, bool hopeless, int64_t retry_in_ms)
{
	struct partition *p = s->p;
	log_clean_free(s->round);
	s->round = NULL;
	s->p = NULL;
	pthread_mutex_lock(&s->cleaner->lock);
	p->clean.busy = false;
	p->clean.hopeless |= hopeless;
	p->clean.looked_offset = -1;
	p->clean.not_before_ms = retry_in_ms ? wall_now_ms() + retry_in_ms : 0;
	pthread_mutex_unlock(&s->cleaner->lock);
	partition_release(p);
	partition_unref(p);
}

static void failed(struct slot *s, struct err *why)
{
	static struct diag_limit limit;
	struct partition *p = s->p;
	partition_failed(p, why->code, why);
	bool hopeless = why->code == ERR_CORRUPT || why->code == ERR_TOO_LARGE || why->code == ERR_UNSUPPORTED || why->code == ERR_INVALID;
	bool passing = why->code == ERR_DELETED || why->code == ERR_OFFLINE || why->code == ERR_INTERRUPTED;
	if (hopeless)
		diag_error("%s-%" PRId32 " is not compacted any more, until the next start: %s. The others are", p->topic->name, p->index, why->text);
	else if (!passing)
		diag_limited(&limit, 60000, DIAG_WARNING, "%s-%" PRId32 " is compacted later: %s", p->topic->name, p->index, why->text);
	let_go(s, hopeless, retry_ms(s->cleaner));
}

static void finished(struct slot *s)
{
	struct partition *p = s->p;
	struct broker *b = p->topic->broker;
	struct clean_stats stats;
	struct err why = ERR_INIT;
	log_clean_stats(s->round, &stats);
	p->clean_offset = log_clean_end(s->round);
	diag_info("%s-%" PRId32 ": compacted up to offset %" PRId64 ": %" PRIu64 " of %" PRIu64 " records are left, %" PRIu64 " bytes of %" PRIu64, p->topic->name, p->index,
		  (int64_t)p->clean_offset, stats.records_kept, stats.records_read, stats.bytes_written, stats.bytes_read);
	if (stats.keyless)
		diag_notice("%s-%" PRId32 ": %" PRIu64 " records without a key were removed: in a compacted topic each record has one", p->topic->name, p->index, stats.keyless);
	counter_add(&rounds_total, 1);
	if (broker_write_clean_offsets(b, p->dir, &why) < 0) {
		diag_warning("%s", why.text);
		partition_failed(p, why.code, &why);
	}
	pthread_mutex_lock(&p->log_lock);
	partition_publish_log(p, 0);
	bool pending = p->log->deleted_pending;
	pthread_mutex_unlock(&p->log_lock);
	if (pending)
		agent_delete_later(b->agent, topic_limits(p->topic).file_delete_delay_ms);
	agent_checkpoint_soon(b->agent);
	let_go(s, false, 0);
}

static bool begin(struct slot *s, struct err *e)
{
	struct clean_plan plan;
	if (!(s->p = choose(s->cleaner, &plan)))
		return false;
	struct clean_conf conf = conf_of(s->cleaner, s->p);
	s->guard = (struct clean_guard){enter, leave, s->p};
	s->counted_read = s->counted_written = 0;
	if (topic_note_compacted(s->p->topic, e) == 0)
		log_clean_begin(&s->round, s->p->log, &plan, &conf, &s->guard, wall_now_ms(), e);
	return true;
}

/* Accounts for what the round has read and written; returns the milliseconds until more may be. */
static int64_t pause_ms(struct slot *s)
{
	struct clean_stats stats;
	struct cleaner *c = s->cleaner;
	log_clean_stats(s->round, &stats);
	uint64_t read = stats.bytes_read - s->counted_read, written = stats.bytes_written - s->counted_written;
	counter_add(&read_bytes_total, read);
	counter_add(&written_bytes_total, written);
	s->counted_read = stats.bytes_read;
	s->counted_written = stats.bytes_written;
	double ns = (double)(read + written) / c->bytes_per_second * 1e9;
	int64_t now = mono_now().ns, was = c->free_ns, from;
	do
		from = was > now ? was : now;
	while (!atomic_compare_exchange_weak(&c->free_ns, &was, from + (ns < 3.6e12 ? (int64_t)ns : INT64_C(3600000000000))));
	return (c->free_ns - now) / 1000000;
}

/* One step; returns the milliseconds until the next. */
static int64_t work(struct slot *s)
{
	struct cleaner *c = s->cleaner;
	int64_t idle_ms = conf_int(c->broker->conf, "log.cleaner.backoff.ms");
	struct err why = ERR_INIT;
	if (!s->round) {
		if (!begin(s, &why))
			return idle_ms;
		if (why.code < 0) {
			failed(s, &why);
			return idle_ms;
		}
	}
	/* a slow rate wants small steps */
	uint64_t most = c->bytes_per_second / SHORT_STEPS < STEP_BYTES ? (uint64_t)(c->bytes_per_second / SHORT_STEPS) + 1 : STEP_BYTES;
	int rc = log_clean_step(s->round, most, &why);
	int64_t pause = pause_ms(s);
	if (rc < 0)
		failed(s, &why);
	else if (rc == 0)
		finished(s);
	return rc < 0 && idle_ms > pause ? idle_ms : pause;
}

static void run_slot(struct pool_job *job)
{
	struct slot *s = (struct slot *)((char *)job - offsetof(struct slot, job));
	struct broker *b = s->cleaner->broker;
	int64_t next_ms = b->stopping ? -1 : work(s);
	if (next_ms >= 0 && !b->stopping)
		timer_arm(agent_timers(b->agent), &s->timer, mono_after_ms(mono_now(), next_ms < INT32_MAX ? next_ms : INT32_MAX));
}

static void fired(struct timer *t, void *arg)
{
	struct slot *s = arg;
	(void)t;
	pool_run(s->cleaner->broker->pool, &s->job);
}

/* ---- life ---- */

struct cleaner *cleaner_start(struct broker *b, struct err *e)
{
	int slots = conf_bool(b->conf, "log.cleaner.enable") ? (int)conf_int(b->conf, "log.cleaner.threads") : 0;
	int64_t first_ms = conf_int(b->conf, "log.cleaner.backoff.ms");
	if (!slots)
		return NULL;
	struct cleaner *c = calloc(1, sizeof *c + (size_t)slots * sizeof(struct slot));
	if (!c) {
		err_set(e, ERR_NO_MEMORY, "no memory for the cleaner: nothing is compacted");
		return NULL;
	}
	c->broker = b;
	c->slots = slots;
	c->bytes_per_second = conf_double(b->conf, "log.cleaner.io.max.bytes.per.second");
	pthread_mutex_init(&c->lock, NULL);
	for (int i = 0; i < slots; i++) {
		struct slot *s = &c->slot[i];
		s->cleaner = c;
		s->job.run = run_slot;
		s->timer.fire = fired;
		s->timer.arg = s;
		timer_arm(agent_timers(b->agent), &s->timer, mono_after_ms(mono_now(), first_ms < FIRST_MS ? first_ms : FIRST_MS));
	}
	return c;
}

void cleaner_stop(struct cleaner *c)
{
	for (int i = 0; c && i < c->slots; i++)
		timer_cancel(agent_timers(c->broker->agent), &c->slot[i].timer);
}

void cleaner_free(struct cleaner *c)
{
	if (!c)
		return;
	for (int i = 0; i < c->slots; i++)
		if (c->slot[i].p)
			let_go(&c->slot[i], false, 0);
	pthread_mutex_destroy(&c->lock);
	free(c);
}
