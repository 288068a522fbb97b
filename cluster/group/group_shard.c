/*
 * A shard: the groups of one partition of __consumer_offsets, and whether this broker answers for them.
 *
 *   NOT_OURS --coordinator_load--> LOADING --> ACTIVE          another broker leads it; its log is read; its groups are answered for
 *                                     |  ^
 *                                     v  | a request, ten seconds later at the earliest
 *                                   FAILED                     it could not be read
 *
 * coordinator_unload leads from each of them to NOT_OURS. In a cluster a partition is read once all that its log had when this broker began to lead it is below the high watermark: what could still be
 * lost with this leader is told to nobody, and the log as it is then has every commit that was ever acknowledged.
 */
#include "cluster/group/group.h"

#include <inttypes.h>
#include <stdlib.h>

#include "cluster/delayed.h"
#include "cluster/partition_role.h"
#include "cluster/topics.h"
#include "store/diag.h"

enum { RETRY_MS = 10000, LOOK_AGAIN_MS = 60000 };

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
	g->removed = g->ended = true;
	if (g->mirrored)
		mirror_changed(g, true);
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
	g->live = false;
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
	g->live = true;
	mirror_changed(g, true);
	if (g->member_count > (uint32_t)t.c->max_size)
		group_prepare_rebalance(&t);
	turn_end(&t);
}


struct load { /* one attempt */
	struct pool_job job;
	struct delayed delayed;      /* while the log is not committed yet */
	struct delayed_key key;
	struct shard *shard;
	struct partition *partition; /* referenced; NULL: not looked for yet */
	uint32_t number;             /* shard.loads when it began */
};

/* locks: none. Whether it is still the one that is wanted. */
static bool is_wanted(const struct load *l)
{
	struct shard *s = l->shard;
	pthread_mutex_lock(&s->lock);
	bool wanted = s->role == SHARD_LOADING && s->loads == l->number && !s->coordinator->stopping;
	pthread_mutex_unlock(&s->lock);
	return wanted;
}

static int read_partition(struct load *l, struct group **table, struct journal **journal, struct err *e)
{
	int rc = partition_leads_committed(l->partition);
	if (rc < 0)
		return err_set(e, rc, "this broker does not lead it any more");
	if (!(*journal = journal_new(l->shard->coordinator, l->partition)))
		return err_set(e, ERR_NO_MEMORY, "no memory for groups");
	partition_ref(l->partition);
	return shard_read(l->shard, l->partition, *journal, table, e);
}

/* What was read is used if it is still wanted, else it goes. */
static void finish_load(struct load *l, int rc, struct group *table, struct journal *journal, const struct err *why)
{
	struct shard *s = l->shard;
	struct group *g, *next;
	HASH_ITER(hh, table, g, next)
		if (rc == 0)
			begin_group(g);
	pthread_mutex_lock(&s->lock);
	bool used = s->role == SHARD_LOADING && s->loads == l->number;
	if (used && rc == 0) {
		s->groups = table;
		s->journal = journal;
		s->role = SHARD_ACTIVE;
	} else if (used) {
		s->role = SHARD_FAILED;
		s->failed_ns = s->coordinator->now(s->coordinator->arg).ns;
	}
	pthread_mutex_unlock(&s->lock);
	if (used && rc < 0 && rc != ERR_NOT_LEADER && rc != ERR_DELETED && rc != ERR_STOPPING)
		diag_error(OFFSETS_TOPIC "-%" PRId32 ": its groups cannot be loaded: %s", s->index, why->text);
	if (!used || rc < 0) {
		unload_table(take_table(&table));
		journal_unref(journal);
	}
}

static void free_load(struct load *l)
{
	struct coordinator *c = l->shard->coordinator;
	partition_unref(l->partition);
	free(l);
	coordinator_count(c, -1, -1);
}

static void run_load(struct pool_job *job);

static void go_on(struct load *l)
{
	struct pool *pool = l->shard->coordinator->pool;
	l->job.run = run_load;
	if (pool)
		pool_run(pool, &l->job);
	else
		run_load(&l->job);
}

static int64_t not_committed(struct delayed *d)
{
	struct load *l = (struct load *)((char *)d - offsetof(struct load, delayed));
	return is_wanted(l) && partition_leads_committed(l->partition) == 0;
}

static void stop_waiting(struct delayed *d, enum delayed_verdict how)
{
	(void)how;
	go_on((struct load *)((char *)d - offsetof(struct load, delayed)));
}

/* Until the high watermark has got there, this broker does not lead any more, or the load is not wanted. */
static void wait_until_committed(struct load *l)
{
	struct coordinator *c = l->shard->coordinator;
	l->key = (struct delayed_key){.list = partition_delayed(l->partition), .channel = DELAYED_HIGH};
	l->delayed.key = &l->key;
	l->delayed.key_count = 1;
	l->delayed.missing = not_committed;
	l->delayed.complete = stop_waiting;
	delayed_init(&l->delayed);
	delayed_park(&l->delayed, c->timers, mono_after_ms(c->now(c->arg), LOOK_AGAIN_MS));
}

/* The journal of before has handed over all that it will. */
static void settle_closed(struct shard *s)
{
	pthread_mutex_lock(&s->lock);
	struct journal *closed = s->closed;
	s->closed = NULL;
	pthread_mutex_unlock(&s->lock);
	if (closed)
		journal_wait_closed(closed);
	journal_unref(closed);
}

/* thread: the pool's. */
static void run_load(struct pool_job *job)
{
	struct load *l = (struct load *)job;
	struct err why = ERR_INIT;
	struct group *table = NULL;
	struct journal *journal = NULL;
	int rc = 0;
	if (!l->partition) {
		settle_closed(l->shard);
		l->partition = find_partition(l->shard->coordinator, l->shard->index, &why);
		rc = l->partition ? 0 : ERR_NOT_FOUND;
	}
	if (rc == 0 && !is_wanted(l))
		rc = ERR_STOPPING;
	if (rc == 0 && partition_leads_committed(l->partition) == 0) {
		wait_until_committed(l);
		return;
	}
	if (rc == 0)
		rc = read_partition(l, &table, &journal, &why);
	finish_load(l, rc, table, journal, &why);
	free_load(l);
}

/* Its role is SHARD_LOADING. locks: none. */
static void start_load(struct shard *s, uint32_t number)
{
	struct coordinator *c = s->coordinator;
	struct load *l = calloc(1, sizeof *l);
	coordinator_count(c, 1, 1);
	if (l) {
		l->shard = s;
		l->number = number;
		go_on(l);
		return;
	}
	pthread_mutex_lock(&s->lock);
	if (s->role == SHARD_LOADING && s->loads == number) {
		s->role = SHARD_FAILED;
		s->failed_ns = c->now(c->arg).ns;
	}
	pthread_mutex_unlock(&s->lock);
	coordinator_count(c, -1, -1);
}

/* ---- roles ---- */

void shard_retry(struct shard *s)
{
	struct coordinator *c = s->coordinator;
	pthread_mutex_lock(&s->lock);
	bool again = s->role == SHARD_FAILED && !c->stopping && c->now(c->arg).ns - s->failed_ns >= RETRY_MS * INT64_C(1000000);
	if (again)
		s->role = SHARD_LOADING;
	uint32_t number = again ? ++s->loads : 0;
	pthread_mutex_unlock(&s->lock);
	if (again)
		start_load(s, number);
}

void shard_load(struct shard *s, int32_t epoch)
{
	pthread_mutex_lock(&s->lock);
	bool current = epoch >= s->epoch;
	bool begin = current && (s->role == SHARD_NOT_OURS || s->role == SHARD_FAILED);
	if (current)
		s->epoch = epoch; /* where it leads on, nobody else has written to it */
	if (begin)
		s->role = SHARD_LOADING;
	uint32_t number = begin ? ++s->loads : 0;
	pthread_mutex_unlock(&s->lock);
	if (begin)
		start_load(s, number);
}

void shard_unload(struct shard *s, int32_t epoch)
{
	struct journal *journal = NULL, *older = NULL;
	struct group *list = NULL;
	pthread_mutex_lock(&s->lock);
	bool loading = false;
	if (epoch == SHARD_WHATEVER_EPOCH || epoch >= s->epoch) {
		s->epoch = epoch; /* the next topic begins with 0 */
		loading = s->role == SHARD_LOADING;
		journal = s->journal;
		list = take_table(&s->groups);
		s->role = SHARD_NOT_OURS;
		s->journal = NULL;
	}
	if (journal) {
		journal_close(journal);
		older = s->closed;
		s->closed = journal; /* with the reference */
	}
	pthread_mutex_unlock(&s->lock);
	struct partition *p = loading ? find_partition(s->coordinator, s->index, NULL) : NULL;
	if (p)
		delayed_wake(partition_delayed(p), DELAYED_HIGH); /* the load may wait there */
	partition_unref(p);
	unload_table(list);
	journal_unref(older);
}

bool shard_is_certain(struct shard *s)
{
	bool certain = true;
	if (!s)
		return true;
	pthread_mutex_lock(&s->lock);
	if (s->journal)
		certain = journal_is_certain(s->journal);
	pthread_mutex_unlock(&s->lock);
	return certain;
}

void shard_give_up_writes(struct shard *s)
{
	pthread_mutex_lock(&s->lock);
	struct journal *closed = s->closed;
	if (closed)
		journal_ref(closed);
	pthread_mutex_unlock(&s->lock);
	if (closed)
		journal_give_up(closed);
	journal_unref(closed);
}

void shard_release(struct shard *s)
{
	journal_unref(s->closed);
	pthread_mutex_destroy(&s->lock);
}
