/*
 * Appending and flushing: group commit. The steps stand in cluster/partition.h.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "cluster/adopt.h"
#include "cluster/model.h"
#include "cluster/producer_ids.h"
#include "store/counters.h"
#include "store/diag.h"

enum { GROUP = 64 };
enum { APPEND_QUEUED, APPEND_TAKEN, APPEND_CANCELLED };

static COUNTER(appends_total, "spoolfs_appends_total", "record sets appended");
static COUNTER(append_bytes_total, "spoolfs_append_bytes_total", "bytes appended to logs");
static COUNTER(append_groups_total, "spoolfs_append_groups_total", "gathered writes that appended them");
static COUNTER(fsyncs_total, "spoolfs_fsyncs_total", "group flushes");

/* ---- the end of an append ---- */

static void finish(struct append *a, int code, const char *why)
{
	a->code = code;
	if (code < 0)
		err_set(&a->err, code, "%s", why);
	a->done(a);
}

/* locks: queue_lock. Whether the caller must call start_flush, once it has let go of it. */
static bool must_start(struct partition *p)
{
	bool start = !p->flushing;
	p->flushing = true;
	return start;
}

/* The job has a reference and a use of its own: who waits for it may let go as soon as it is answered. p is acquired by the caller. */
static void start_flush(struct partition *p)
{
	partition_ref(p);
	pthread_mutex_lock(&p->open_lock);
	p->users++;
	pthread_mutex_unlock(&p->open_lock);
	pool_run(p->topic->broker->pool, &p->flush_job);
}

/* Puts an append that is in the log among those that wait for the disk. */
static void wait_for_disk(struct partition *p, struct append *a)
{
	pthread_mutex_lock(&p->queue_lock);
	a->next = p->unsynced;
	p->unsynced = a;
	bool start = must_start(p);
	pthread_mutex_unlock(&p->queue_lock);
	if (start)
		start_flush(p);
}

/* The high watermark waits for the disk: see partition_advance. */
static void flush_for_high(struct partition *p)
{
	if (partition_acquire(p, NULL) < 0)
		return;
	pthread_mutex_lock(&p->queue_lock);
	p->want_disk = true;
	bool start = must_start(p);
	pthread_mutex_unlock(&p->queue_lock);
	if (start)
		start_flush(p);
	partition_release(p);
}

/* ---- transactions that nobody will end ---- */

int partition_txn_decision(struct partition *p, int64_t producer_id, int16_t producer_epoch, int32_t *coordinator_epoch, struct err *e)
{
	struct broker *b = p->topic->broker;
	const char *dirs[64] = {0};
	int32_t unasked;
	for (int i = 0; i < b->dir_count && i < 63; i++)
		dirs[i] = b->dir[i].path;
	return adopt_txn_decision(dirs, producer_id, producer_epoch, coordinator_epoch ? coordinator_epoch : &unasked, e);
}

struct orphans { struct record_set set; struct partition *p; int rc; struct err err; };

static void end_orphan(void *arg, const struct open_txn *t)
{
	struct orphans *o = arg;
	int32_t coordinator_epoch = 0;
	if (o->rc < 0)
		return;
	int commit = partition_txn_decision(o->p, t->producer_id, t->producer_epoch, &coordinator_epoch, &o->err);
	if (commit < 0) {
		o->rc = commit;
		return;
	}
	diag_notice("%s-%" PRId32 ": the transaction of producer %" PRId64 " from offset %" PRId64 " was left open; it is %s", o->p->topic->name, o->p->index,
		    t->producer_id, t->first_offset, commit ? "committed, as was decided" : "aborted");
	if (coordinator_epoch < t->coordinator_epoch)
		coordinator_epoch = t->coordinator_epoch; /* markers of a producer never go back in it */
	o->rc = record_set_add_marker(&o->set, t->producer_id, t->producer_epoch, commit, coordinator_epoch, wall_now_ms(), &o->err);
}

/* Before the first append to a log that Kafka left with open transactions each is ended by a marker. locks: log_lock. */
static int end_open_transactions(struct partition *p, bool committed, struct err *e)
{
	struct orphans o = {.p = p};
	struct record_set *set = &o.set;
	int64_t base;
	size_t done;
	record_set_init(set);
	producers_open_txns(p->log->producers, end_orphan, &o);
	int rc = o.rc < 0 ? err_set(e, o.rc, "%s", o.err.text) : 0;
	if (rc == 0 && set->batch_count)
		rc = log_append(p->log, &set, 1, p->leader_epoch, committed, &base, &done, e);
	record_set_release(set);
	if (rc == 0)
		p->needs_markers = false;
	return rc;
}

/* ---- appending ---- */

/* What holds while a group is written. */
struct terms {
	int32_t epoch;
	bool shared, alone; /* there are other replicas; none of them is in sync */
	bool lease, enough; /* what this broker acknowledges by itself may be; the ISR is as large as acks=all asks for */
};

/* locks: log_lock. */
static void take_terms(struct partition *p, struct terms *t)
{
	*t = (struct terms){.epoch = p->leader_epoch, .shared = p->shared, .alone = true, .lease = partition_has_lease(p), .enough = true};
	if (!t->shared)
		return;
	pthread_mutex_lock(&p->isr_lock);
	t->alone = isr_is_alone(&p->isr);
	t->enough = partition_has_enough(p);
	pthread_mutex_unlock(&p->isr_lock);
}

/* Whether anything may be appended at all. locks: log_lock. */
static int may_append(struct partition *p, const struct terms *t, struct err *e)
{
	if (partition_is_gone(p))
		return err_set(e, ERR_DELETED, "topic %s was deleted", p->topic->name);
	if (p->dir->offline)
		return err_set(e, ERR_OFFLINE, "log directory %s is out of service after an I/O error", p->dir->path);
	if (p->role != ROLE_LEADER)
		return err_set(e, ERR_NOT_LEADER, "%s-%" PRId32 ": this broker does not lead it", p->topic->name, p->index);
	if (p->sealed) /* to be sent again, like what comes while a leader is elected */
		return err_set(e, ERR_NOT_LEADER, "%s-%" PRId32 " is about to be deleted", p->topic->name, p->index);
	return p->needs_markers ? end_open_transactions(p, !t->shared, e) : 0;
}

enum verdict { VERDICT_APPEND, VERDICT_DUPLICATE, VERDICT_REFUSED };

struct queued { struct append *a[GROUP]; size_t count; bool advance; };

struct group { /* of what is queued, the next that go together; big, so that only what is used is set */
	struct append **a;
	size_t count;
	enum verdict verdict[GROUP]; /* of the first `judged` */
	size_t judged;
	struct record_set *set[GROUP]; /* those to be appended, in order */
	int64_t base[GROUP];
	size_t sets, done; /* there are so many; the first so many are in the log */
	bool to_disk, flush;
	bool disk;        /* the high watermark waits for the disk */
	bool unreadable;  /* the disk failed while the view followed: view_err */
	struct terms terms;
	int rc;
	struct err err, view_err;
};

/* Takes what is queued, oldest first. false: there is nothing to be done; the caller is no longer the appender. */
static bool take_queued(struct partition *p, struct queued *g)
{
	g->count = 0;
	pthread_mutex_lock(&p->queue_lock);
	while (p->append_head && g->count < GROUP) {
		struct append *a = p->append_head;
		p->append_head = a->next;
		a->state = APPEND_TAKEN;
		g->a[g->count++] = a;
	}
	if (!p->append_head)
		p->append_tail = &p->append_head;
	g->advance = p->want_advance;
	p->want_advance = false;
	bool any = g->count || g->advance;
	if (!any)
		p->appending = false;
	pthread_mutex_unlock(&p->queue_lock);
	return any;
}

/* What is known of the batch's producer says whether it may be appended. locks: log_lock. */
static int check_producer(struct partition *p, const struct append *a, const struct batch *b, struct producer_batch *known, struct err *e)
{
	int rc = producers_check(p->log->producers, b, a->in_transaction, known, e);
	if (rc == PRODUCER_UNSURE && (rc = log_recall_producer(p->log, b->producer_id, e)) == 0)
		rc = producers_check(p->log->producers, b, a->in_transaction, known, e);
	return rc;
}

/* locks: log_lock. */
static enum verdict judge(struct partition *p, struct append *a, const struct batch *b)
{
	struct producer_batch known;
	int rc = check_producer(p, a, b, &known, &a->err);
	if (rc < 0) {
		err_context(&a->err, "%s-%" PRId32, p->topic->name, p->index);
		a->code = rc;
		return VERDICT_REFUSED;
	}
	if (rc != PRODUCER_DUPLICATE)
		return VERDICT_APPEND;
	a->duplicate = true;
	a->base_offset = known.first_offset;
	a->end_offset = known.last_offset + 1;
	a->log_append_time_ms = known.timestamp_ms;
	return VERDICT_DUPLICATE;
}

/* What the state of the ISR, or of the lease, has against it. */
static enum verdict judge_terms(struct partition *p, struct append *a, const struct terms *t)
{
	if (a->acks == ACKS_ALL && !t->enough)
		a->code = err_set(&a->err, ERR_NOT_ENOUGH_REPLICAS, "%s-%" PRId32 ": fewer replicas are in sync than min.insync.replicas asks for", p->topic->name, p->index);
	else if (!t->lease && (a->acks != ACKS_ALL || t->alone))
		a->code = err_set(&a->err, ERR_NOT_LEADER, "%s-%" PRId32 ": this broker cannot reach ZooKeeper; another may lead by now", p->topic->name, p->index);
	else
		return VERDICT_APPEND;
	return VERDICT_REFUSED;
}

/* The header of a batch whose producer has to be asked about: a client's, with a producer id. */
static bool has_producer(const struct record_set *set, struct batch *b)
{
	const uint8_t *p = record_set_bytes(set);
	if (!set->batch_count || (int64_t)be64_get(p + BATCH_PRODUCER_ID_AT) < 0 || (set->batch[0].attributes & BATCH_CONTROL))
		return false;
	return batch_decode(b, p, set->batch[0].size_bytes, set->batch[0].size_bytes, NULL) == 0;
}

static bool has_seen(const int64_t *ids, size_t n, int64_t id)
{
	for (size_t i = 0; i < n; i++)
		if (ids[i] == id)
			return true;
	return false;
}

/* Gives a verdict on as many as can go together. locks: log_lock. */
static void judge_group(struct partition *p, struct group *g)
{
	int64_t ids[GROUP];
	size_t id_count = 0;
	bool strict = !g->terms.enough || !g->terms.lease;
	for (g->judged = g->sets = 0; g->judged < g->count; g->judged++) {
		struct append *a = g->a[g->judged];
		struct batch b;
		enum verdict v = strict ? judge_terms(p, a, &g->terms) : VERDICT_APPEND;
		if (v == VERDICT_APPEND && has_producer(a->set, &b)) {
			if (has_seen(ids, id_count, b.producer_id))
				return;
			ids[id_count++] = b.producer_id;
			producer_ids_seen(p->topic->broker, b.producer_id);
			v = judge(p, a, &b);
		}
		g->verdict[g->judged] = v;
		if (v == VERDICT_APPEND)
			g->set[g->sets++] = a->set;
	}
}

/* High watermark and view follow what was appended, here or at the replicas. locks: log_lock. */
static void follow(struct partition *p, struct group *g, int64_t appended_ms)
{
	g->disk = partition_advance(p, appended_ms, &g->view_err);
	if (g->view_err.code == 0)
		return;
	diag_error("%s-%" PRId32 ": %s", p->topic->name, p->index, g->view_err.text);
	g->unreadable = g->view_err.code == ERR_IO;
}

/* locks: log_lock. */
static void append_group(struct partition *p, struct group *g, const struct limits *limits)
{
	struct log *l = p->log;
	struct segment *before = l->shape->segment_count ? l->shape->segment[l->shape->segment_count - 1] : NULL;
	int64_t active_base = before ? before->base_offset : -1;
	log_set_limits(l, &limits->log);
	g->rc = log_append(l, g->set, g->sets, g->terms.epoch, !g->terms.shared, g->base, &g->done, &g->err);
	if (g->done) {
		if (!p->dirty_since_ms)
			p->dirty_since_ms = wall_now_ms();
		g->view_err.code = 0;
		g->view_err.text[0] = 0;
		follow(p, g, wall_now_ms());
	}
	g->flush = active_base >= 0 && l->shape->segment[l->shape->segment_count - 1]->base_offset != active_base;
	if (g->flush && l->deleted_pending)
		agent_delete_later(p->topic->broker->agent, limits->file_delete_delay_ms);
	g->flush |= l->leo - l->flushed_offset >= limits->flush_messages;
}

static void write_group(struct partition *p, struct group *g, const struct limits *limits)
{
	uint64_t bytes = 0;
	g->judged = g->sets = g->done = 0;
	g->to_disk = g->flush = g->disk = g->unreadable = false;
	g->err.code = 0;
	g->err.text[0] = 0;
	pthread_mutex_lock(&p->log_lock);
	take_terms(p, &g->terms);
	if ((g->rc = may_append(p, &g->terms, &g->err)) == 0) {
		judge_group(p, g);
		if (g->sets)
			append_group(p, g, limits);
		g->to_disk = p->log->flushed_offset < p->log->leo;
	}
	pthread_mutex_unlock(&p->log_lock);
	for (size_t i = 0; i < g->done; i++)
		bytes += record_set_size(g->set[i]);
	counter_add(&appends_total, g->done);
	counter_add(&append_bytes_total, bytes);
	counter_add(&append_groups_total, g->done > 0);
}

static void note_position(const struct partition *p, struct append *a)
{
	a->end_position = p->end_offset == a->end_offset && !p->sequential ? (int64_t)p->end_position : -1;
}

/* The replicas have it, or will not. */
static void replicated(struct partition *p, struct waiter *w, int code, const char *why)
{
	struct append *a = (struct append *)((char *)w - offsetof(struct append, waiter));
	if (code == 0) {
		note_position(p, a);
		if (p->topic->broker->flush_acks == FLUSH_ACKS_ALWAYS && p->log->flushed_offset < a->end_offset) {
			wait_for_disk(p, a);
			return;
		}
	}
	finish(a, code, why);
}

/* One that is in the log: it may have to wait for the other replicas, or for the disk. */
static void settle(struct partition *p, struct group *g, struct append *a)
{
	if (a->acks == ACKS_ALL && g->terms.shared) {
		a->waiter.offset = a->end_offset;
		a->waiter.ready = replicated;
		partition_await(p, &a->waiter, g->terms.epoch);
		return;
	}
	note_position(p, a);
	if (a->acks == ACKS_ALL && g->to_disk && p->topic->broker->flush_acks != FLUSH_ACKS_NEVER)
		wait_for_disk(p, a);
	else if (partition_has_lease(p)) /* of this moment: another may lead a moment after it has ended */
		finish(a, 0, NULL);
	else
		finish(a, ERR_NOT_LEADER, "this broker cannot reach ZooKeeper: another may lead by now, and whether the messages stay is not known");
}

/* The results of the k-th set. */
static void note_result(struct group *g, struct append *a, size_t k)
{
	int64_t offset = g->base[k];
	a->base_offset = offset;
	for (uint32_t i = 0; i < a->set->batch_count; i++)
		offset += a->set->batch[i].last_offset_delta + 1;
	a->end_offset = offset;
	a->log_append_time_ms = a->set->batch_count && (a->set->batch[0].attributes & BATCH_LOG_APPEND_TIME) ? a->set->batch[0].max_timestamp_ms : -1;
}

/* Answers what is decided, up to the first whose append failed, that too. Returns how many were answered. */
static size_t settle_group(struct partition *p, struct group *g)
{
	size_t k = 0;
	for (size_t i = 0; i < g->judged; i++) {
		struct append *a = g->a[i];
		a->log_start_offset = p->start_offset;
		if (g->verdict[i] == VERDICT_REFUSED) {
			finish(a, a->code, a->err.text);
		} else if (g->verdict[i] == VERDICT_DUPLICATE) {
			settle(p, g, a);
		} else if (k < g->done) {
			note_result(g, a, k++);
			settle(p, g, a);
		} else {
			finish(a, g->rc, g->err.text);
			return i + 1;
		}
	}
	if (g->judged)
		return g->judged;
	finish(g->a[0], g->rc, g->err.text); /* nothing may be appended */
	return 1;
}

/* Nothing is to be written, but the replicas have got further. The log may have been closed since: it follows when it is opened. */
static void advance_alone(struct partition *p, struct group *g)
{
	g->rc = 0;
	g->done = 0;
	g->disk = g->flush = g->unreadable = false;
	g->view_err = (struct err)ERR_INIT;
	pthread_mutex_lock(&p->log_lock);
	if (p->log && !partition_is_gone(p) && !p->dir->offline)
		follow(p, g, 0);
	pthread_mutex_unlock(&p->log_lock);
	if (g->unreadable)
		partition_failed(p, ERR_IO, &g->view_err);
	partition_answer(p);
	partition_wake(p);
	if (g->disk)
		flush_for_high(p);
}

static void run_appends(struct partition *p)
{
	struct queued q;
	struct group g;
	partition_ref(p); /* who is answered may let go of it at once */
	while (take_queued(p, &q)) {
		struct limits limits = topic_limits(p->topic);
		for (size_t from = 0; from < q.count;) {
			g.a = q.a + from;
			g.count = q.count - from;
			write_group(p, &g, &limits);
			if (g.rc < 0)
				g.rc = partition_failed(p, g.rc, &g.err);
			if (g.unreadable)
				partition_failed(p, ERR_IO, &g.view_err);
			if (g.terms.shared)
				partition_answer(p);
			from += settle_group(p, &g);
			if (g.done)
				partition_wake(p);
			if (g.flush)
				partition_flush_soon(p);
			if (g.disk)
				flush_for_high(p);
		}
		if (q.advance)
			advance_alone(p, &g);
	}
	partition_unref(p);
}

void partition_kick(struct partition *p)
{
	pthread_mutex_lock(&p->queue_lock);
	p->want_advance = true;
	bool mine = !p->appending;
	p->appending = true;
	pthread_mutex_unlock(&p->queue_lock);
	if (mine)
		run_appends(p);
}

void partition_append(struct partition *p, struct append *a)
{
	a->next = NULL;
	a->code = 0;
	a->duplicate = a->waiter.waits = false;
	a->base_offset = a->end_position = a->log_append_time_ms = a->log_start_offset = -1;
	a->state = APPEND_QUEUED;
	pthread_mutex_lock(&p->queue_lock);
	*p->append_tail = a;
	p->append_tail = &a->next;
	bool mine = !p->appending;
	p->appending = true;
	pthread_mutex_unlock(&p->queue_lock);
	if (mine)
		run_appends(p);
}

bool partition_append_cancel(struct partition *p, struct append *a)
{
	bool found = false;
	pthread_mutex_lock(&p->queue_lock);
	for (struct append **at = &p->append_head; *at; at = &(*at)->next) {
		if (*at != a)
			continue;
		*at = a->next;
		if (!*at)
			p->append_tail = at;
		a->state = APPEND_CANCELLED;
		found = true;
		break;
	}
	pthread_mutex_unlock(&p->queue_lock);
	if (found)
		finish(a, ERR_INTERRUPTED, "taken back before it was written");
	return found;
}

/* locks: queue_lock. Whether it was there. */
static bool unlink_append(struct append **at, const struct append *a)
{
	while (*at && *at != a)
		at = &(*at)->next;
	if (!*at)
		return false;
	*at = a->next;
	return true;
}

bool partition_append_give_up(struct partition *p, struct append *a)
{
	pthread_mutex_lock(&p->queue_lock);
	bool waits = unlink_append(&p->unsynced, a) || unlink_append(&p->syncing, a);
	pthread_mutex_unlock(&p->queue_lock);
	if (waits)
		finish(a, ERR_TIMED_OUT, "the messages are in the log, but were not on disk in time");
	return waits || partition_wait_no_longer(p, &a->waiter);
}

/* ---- flushing ---- */

static void flush_is_done(struct partition *p, struct waiter *w, int code, const char *why)
{
	struct flush *f = (struct flush *)((char *)w - offsetof(struct flush, waiter));
	(void)p;
	f->code = code;
	if (why)
		err_set(&f->err, code, "%s", why);
	f->done(f);
}

/* It is on disk here; where this broker leads it has to be on the others too. */
static void flushed(struct partition *p, struct flush *f, int rc)
{
	if (rc < 0 || f->epoch < 0) {
		f->code = rc;
		f->done(f);
		return;
	}
	f->waiter.offset = f->offset;
	f->waiter.ready = flush_is_done;
	partition_await(p, &f->waiter, f->epoch);
}

/* One fsync for all that wait, again until nobody does. thread: the pool's. */
static void run_flush(struct pool_job *job)
{
	struct partition *p = (struct partition *)((char *)job - offsetof(struct partition, flush_job));
	struct broker *b = p->topic->broker;
	for (;;) {
		pthread_mutex_lock(&p->queue_lock);
		struct append *appends = p->syncing = p->unsynced;
		struct flush *flushes = p->flushes;
		bool wanted = p->want_flush, high = p->want_disk, any = appends || flushes || wanted || high;
		p->unsynced = NULL;
		p->flushes = NULL;
		p->want_flush = p->want_disk = false;
		if (!any)
			p->flushing = false;
		pthread_mutex_unlock(&p->queue_lock);
		if (!any)
			break;
		struct err why = ERR_INIT;
		int64_t dirty_since_ms = atomic_exchange(&p->dirty_since_ms, 0), clean = 0; /* what comes while it is flushed counts anew */
		int rc = partition_is_gone(p) ? err_set(&why, ERR_DELETED, "topic %s was deleted", p->topic->name)
			 : p->dir->offline ? err_set(&why, ERR_OFFLINE, "log directory %s is out of service after an I/O error", p->dir->path)
					   : log_flush(p->log, p->log->leo, &why);
		counter_add(&fsyncs_total, 1);
		if (rc < 0) {
			atomic_compare_exchange_strong(&p->dirty_since_ms, &clean, dirty_since_ms);
			rc = partition_failed(p, rc, &why);
		} else if (wanted)
			agent_checkpoint_soon(b->agent); /* a roll, or flush.messages: what is durable now is noted */
		pthread_mutex_lock(&p->queue_lock);
		appends = p->syncing; /* but for those that would not wait so long */
		p->syncing = NULL;
		pthread_mutex_unlock(&p->queue_lock);
		while (appends) {
			struct append *a = appends;
			appends = a->next;
			finish(a, rc == ERR_DELETED || rc == 0 ? rc : ERR_IO, why.text);
		}
		while (flushes) {
			struct flush *f = flushes;
			flushes = f->next;
			f->err = why;
			flushed(p, f, rc);
		}
		if (high && rc == 0)
			partition_kick(p);
	}
	partition_release(p);
	partition_unref(p);
}

void partition_flush(struct partition *p, struct flush *f)
{
	f->code = 0;
	f->epoch = p->shared && p->role == ROLE_LEADER ? p->leader_epoch : -1; /* first: what is in the log by then is of that epoch, or before */
	f->offset = p->log->leo;
	if (p->log->flushed_offset >= f->offset) {
		flushed(p, f, 0);
		return;
	}
	pthread_mutex_lock(&p->queue_lock);
	f->next = p->flushes;
	p->flushes = f;
	bool start = must_start(p);
	pthread_mutex_unlock(&p->queue_lock);
	if (start)
		start_flush(p);
}

void partition_flush_soon(struct partition *p)
{
	if (partition_acquire(p, NULL) < 0)
		return;
	pthread_mutex_lock(&p->queue_lock);
	p->want_flush = true;
	bool start = must_start(p);
	pthread_mutex_unlock(&p->queue_lock);
	if (start)
		start_flush(p);
	partition_release(p);
}

bool partition_is_dirty_since(struct partition *p, int64_t before_ms)
{
	int64_t since = p->dirty_since_ms;
	return since && since <= before_ms;
}

void partition_fail_waiting(struct partition *p, int code, const char *why)
{
	pthread_mutex_lock(&p->queue_lock);
	struct append *a = p->append_head;
	p->append_head = NULL;
	p->append_tail = &p->append_head;
	for (struct append *x = a; x; x = x->next)
		x->state = APPEND_TAKEN;
	pthread_mutex_unlock(&p->queue_lock);
	while (a) {
		struct append *next = a->next;
		finish(a, code, why);
		a = next;
	}
	pthread_mutex_lock(&p->isr_lock);
	struct waiter *w = partition_take_waiters(p);
	pthread_mutex_unlock(&p->isr_lock);
	partition_fail_waiters(p, w, code, why);
	delayed_wake(&p->delayed, DELAYED_CHANNELS);
}

/* For partition_new. */
void partition_append_init(struct partition *p)
{
	p->append_tail = &p->append_head;
	p->flush_job.run = run_flush;
}
