/*
 * What is written to a partition of __consumer_offsets: in the order in which it was decided, and applied to the group when it is in the log.
 *
 * 1. With the group's lock held a write is put at the end of the group's list of writes and of the journal's queue.
 * 2. When the lock has been let go of, whoever finds nobody handing over the journal's queue does that: partition_append of one after the other.
 * 3. The partition calls appended; that takes the group's lock, applies what was written, and gives the answers.
 *
 * Appends that wait for one fsync are answered in any order; what they say of an offset carries its place in the log, and the newest counts (group_put_offset).
 */
#include "cluster/group/group.h"

#include <stdlib.h>
#include <utlist.h>

#include "cluster/group/group_records.h"
#include "cluster/partition_role.h"
#include "cluster/topics.h"
#include "store/diag.h"

struct journal {
	_Atomic uint32_t refs;
	struct coordinator *coordinator;
	struct partition *partition; /* referenced */
	pthread_mutex_t lock;        /* all below */
	struct write *head, **tail;
	struct write *flying;        /* with the partition, oldest first */
	bool handing;                /* a thread is handing the queue over */
	bool closed;                 /* nothing goes to the partition any more */
	pthread_cond_t idle;         /* nobody hands over */
	bool acquired;               /* the handing thread's */
};

struct journal *journal_new(struct coordinator *c, struct partition *p)
{
	struct journal *j = calloc(1, sizeof *j);
	if (!j)
		return NULL;
	j->refs = 1;
	j->coordinator = c;
	j->partition = p;
	j->tail = &j->head;
	pthread_mutex_init(&j->lock, NULL);
	pthread_cond_init(&j->idle, NULL);
	return j;
}

void journal_ref(struct journal *j)
{
	atomic_fetch_add_explicit(&j->refs, 1, memory_order_relaxed);
}

void journal_unref(struct journal *j)
{
	if (!j || atomic_fetch_sub_explicit(&j->refs, 1, memory_order_acq_rel) > 1)
		return;
	if (j->acquired)
		partition_release(j->partition);
	partition_unref(j->partition);
	pthread_mutex_destroy(&j->lock);
	pthread_cond_destroy(&j->idle);
	free(j);
}

void journal_close(struct journal *j)
{
	pthread_mutex_lock(&j->lock);
	j->closed = true;
	pthread_mutex_unlock(&j->lock);
}

void journal_wait_closed(struct journal *j)
{
	pthread_mutex_lock(&j->lock);
	while (j->handing)
		pthread_cond_wait(&j->idle, &j->lock);
	pthread_mutex_unlock(&j->lock);
}

/* What a client is told when something could not be written: whether to ask again, or to look for the coordinator again. */
static int16_t error_of(int code)
{
	switch (code) {
	case 0:
		return KAFKA_NONE;
	case ERR_IO:
	case ERR_CORRUPT:
	case ERR_OFFLINE:
	case ERR_READ_ONLY:
	case ERR_NOT_LEADER:
		return KAFKA_NOT_COORDINATOR; /* as Kafka for KAFKA_STORAGE_ERROR and NOT_LEADER_OR_FOLLOWER */
	case ERR_NO_SPACE:
	case ERR_NO_MEMORY:
	case ERR_LIMIT:
	case ERR_STOPPING:
	case ERR_DELETED:
	case ERR_NOT_FOUND:
	case ERR_TIMED_OUT:
	case ERR_INTERRUPTED:
	case ERR_NOT_ENOUGH_REPLICAS:
	case ERR_NOT_ENOUGH_AFTER:
		return KAFKA_COORDINATOR_NOT_AVAILABLE; /* asking again may help */
	default:
		return KAFKA_UNKNOWN_SERVER_ERROR;
	}
}

/* ---- writes ---- */

struct write *write_new(void (*apply)(struct turn *, struct write *, int16_t, int64_t))
{
	struct write *w = calloc(1, sizeof *w);
	if (!w)
		return NULL;
	record_set_init(&w->set);
	w->apply = apply;
	w->refs = 1;
	return w;
}

static void write_unref(struct write *w)
{
	if (atomic_fetch_sub_explicit(&w->refs, 1, memory_order_acq_rel) == 1)
		free(w);
}

/* locks: group.lock, or nobody knows of it yet. */
void write_free(struct write *w)
{
	for (size_t i = 0; i < w->change_count; i++) {
		blob_unref(w->changes[i].topic);
		blob_unref(w->changes[i].entry.metadata);
	}
	free(w->changes);
	if (w->member)
		member_unref(w->member);
	if (w->old)
		member_unref(w->old);
	blob_unref(w->leader);
	record_set_release(&w->set);
	write_unref(w);
}

/* Off the group's list, and applied. locks: group.lock. */
static void settle(struct turn *t, struct write *w, int code, int64_t base_offset)
{
	struct group *g = t->g;
	int16_t error = error_of(code);
	DL_DELETE(g->writes, w);
	bool changes = !error && !w->fetch;
	if (changes)
		g->unborn = false;
	if (!error && w->ends_newer)
		group_forget_foreign(g);
	w->apply(t, w, error, base_offset);
	write_free(w);
	if (changes)
		mirror_changed(g, false);
	group_writes_done(t);
}

/* It is with the partition, and then no more. */
static void fly(struct journal *j, struct write *w)
{
	pthread_mutex_lock(&j->lock);
	DL_APPEND2(j->flying, w, prev_flying, next_flying);
	pthread_mutex_unlock(&j->lock);
}

static void land(struct journal *j, struct write *w)
{
	pthread_mutex_lock(&j->lock);
	if (w->prev_flying)
		DL_DELETE2(j->flying, w, prev_flying, next_flying);
	w->prev_flying = NULL;
	pthread_mutex_unlock(&j->lock);
}

static void appended(struct append *a)
{
	static struct diag_limit limit;
	struct write *w = (struct write *)a;
	struct group *g = w->group;
	struct journal *j = w->journal;
	struct coordinator *c = g->coordinator;
	struct turn t;
	land(j, w);
	if (a->code < 0 && a->code != ERR_NOT_LEADER) /* that is how a coordinator goes; who asked finds the next one */
		diag_limited(&limit, 10000, DIAG_WARNING, "group %.*s: %s", (int)g->id->n, (const char *)g->id->data, a->err.text);
	turn_begin_on(&t, g);
	settle(&t, w, a->code, a->base_offset);
	turn_end(&t);
	journal_unref(j);
	group_unref(g);
	coordinator_busy(c, -1);
}

static void enqueue(struct write *w)
{
	struct journal *j = w->journal;
	pthread_mutex_lock(&j->lock);
	*j->tail = w;
	j->tail = &w->next_queued;
	pthread_mutex_unlock(&j->lock);
}

void write_start(struct turn *t, struct write *w, struct records *r)
{
	static struct diag_limit limit;
	struct group *g = t->g;
	struct err why = ERR_INIT;
	struct batch_style style;
	w->number = g->next_write++;
	DL_APPEND(g->writes, w);
	topic_batch_style(partition_topic(g->journal->partition), &style);
	style.codec = t->c->codec;
	style.level = 0;
	int rc = records_build(r, &style, wall_now_ms(), &w->set, &why);
	if (rc < 0) {
		diag_limited(&limit, 10000, DIAG_WARNING, "group %.*s: %s", (int)g->id->n, (const char *)g->id->data, why.text);
		settle(t, w, rc, -1);
		return;
	}
	group_ref(g);
	w->group = g;
	journal_ref(g->journal);
	w->journal = g->journal;
	w->append = (struct append){.set = &w->set, .acks = ACKS_ALL, .done = appended};
	coordinator_busy(t->c, 1);
	enqueue(w);
}

/* ---- handing over ---- */

/* The next, and whether it may go to the partition. NULL: there is none; the caller no longer hands over. */
static struct write *take(struct journal *j, bool *closed)
{
	pthread_mutex_lock(&j->lock);
	struct write *w = j->head;
	if (w && !(j->head = w->next_queued))
		j->tail = &j->head;
	*closed = j->closed;
	if (!w) {
		j->handing = false;
		pthread_cond_broadcast(&j->idle);
	}
	pthread_mutex_unlock(&j->lock);
	return w;
}

/* locks: none; one thread at a time. */
static int may_append(struct journal *j, bool closed, struct err *e)
{
	int rc = closed ? err_set(e, ERR_NOT_LEADER, "another broker answers for the group") : j->acquired ? 0 : partition_acquire(j->partition, e);
	if (rc == 0)
		j->acquired = true;
	return rc;
}

void journal_pump(struct journal *j)
{
	pthread_mutex_lock(&j->lock);
	bool mine = j->head && !j->handing;
	if (mine)
		j->handing = true;
	pthread_mutex_unlock(&j->lock);
	if (!mine)
		return;
	journal_ref(j);
	bool closed;
	for (struct write *w; (w = take(j, &closed)) != NULL;) {
		int rc = may_append(j, closed, &w->append.err);
		if (rc == 0) {
			fly(j, w);
			partition_append(j->partition, &w->append);
		} else {
			w->append.code = rc;
			w->append.base_offset = -1;
			appended(&w->append);
		}
	}
	journal_unref(j);
}

bool journal_is_certain(const struct journal *j)
{
	return partition_leads_surely(j->partition);
}

void journal_give_up(struct journal *j)
{
	size_t n = 0;
	struct write *w;
	pthread_mutex_lock(&j->lock);
	DL_FOREACH2(j->flying, w, next_flying)
		n++;
	struct write **list = n ? malloc(n * sizeof *list) : NULL;
	n = 0;
	if (list) {
		DL_FOREACH2(j->flying, w, next_flying) {
			atomic_fetch_add_explicit(&w->refs, 1, memory_order_relaxed);
			list[n++] = w;
		}
	}
	pthread_mutex_unlock(&j->lock);
	for (size_t i = 0; i < n; i++) {
		partition_append_give_up(j->partition, &list[i]->append);
		write_unref(list[i]);
	}
	free(list);
}
