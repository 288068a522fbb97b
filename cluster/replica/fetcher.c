#include "cluster/replica/fetcher.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "cluster/broker.h"
#include "cluster/replica/model.h"
#include "cluster/topics.h"
#include "store/diag.h"

void followed_free(struct followed *x)
{
	partition_unref(x->p);
	free(x);
}

static void wake(int fd)
{
	if (write(fd, &(uint64_t){1}, sizeof(uint64_t)) < 0 && errno != EAGAIN)
		diag_error("fetcher: an eventfd cannot be written: %s", strerror(errno));
}

/* ---- threads ---- */

static void thread_free(struct fetch_thread *t)
{
	for (struct followed *x = t->news, *next; x; x = next) {
		next = x->next_new;
		followed_free(x);
	}
	if (t->wake >= 0)
		close(t->wake);
	free(t->asked);
	free(t->topics);
	free(t->partitions);
	free(t->epoch_topics);
	free(t->epoch_partitions);
	free(t->forgotten);
	free(t->forgotten_index);
	free(t);
}

static void join(struct fetch_thread *t)
{
	while (t) {
		struct fetch_thread *next = t->next;
		pthread_join(t->id, NULL);
		thread_free(t);
		t = next;
	}
}

void thread_news(struct fetch_thread *t, struct followed **news, struct followed **gone)
{
	pthread_mutex_lock(&t->f->lock);
	*news = t->news;
	*gone = t->gone;
	t->news = t->gone = NULL;
	t->news_end = &t->news;
	pthread_mutex_unlock(&t->f->lock);
}

bool thread_has_news(struct fetch_thread *t)
{
	pthread_mutex_lock(&t->f->lock);
	bool any = t->news;
	pthread_mutex_unlock(&t->f->lock);
	return any;
}

bool thread_may_end(struct fetch_thread *t)
{
	struct fetcher *f = t->f;
	pthread_mutex_lock(&f->lock);
	bool may = !t->news && !t->count && !f->stopping;
	if (may) {
		struct fetch_thread **at = &f->threads;
		while (*at != t)
			at = &(*at)->next;
		*at = t->next;
		t->next = f->ended;
		f->ended = t;
	}
	pthread_mutex_unlock(&f->lock);
	return may;
}

/* locks: f->lock. */
static int thread_for(struct fetcher *f, int32_t leader, int index, struct fetch_thread **out, struct err *e)
{
	struct fetch_thread *t = f->threads;
	while (t && !(t->leader == leader && t->index == index))
		t = t->next;
	*out = t;
	if (t)
		return 0;
	t = calloc(1, sizeof *t);
	if (!t)
		return err_set(e, ERR_NO_MEMORY, "no memory for a fetcher of broker %" PRId32, leader);
	t->f = f;
	t->leader = leader;
	t->index = index;
	t->news_end = &t->news;
	t->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int why = t->wake < 0 ? errno : pthread_create(&t->id, NULL, thread_run, t);
	if (why) {
		thread_free(t);
		return err_sys(e, why == EAGAIN ? EMFILE : why, "cannot start a fetcher of broker %" PRId32, leader);
	}
	t->next = f->threads;
	f->threads = *out = t;
	return 0;
}

/* ---- partitions ---- */

/* As Kafka divides them: the partitions of a topic go to threads in turn. */
static int index_of(const struct fetcher *f, const struct partition *p)
{
	uint32_t h = 0;
	for (const char *c = partition_topic_name(p); *c; c++)
		h = 31 * h + (uint8_t)*c;
	return (int)((31 * h + (uint32_t)partition_index(p)) % (uint32_t)f->threads_a_leader);
}

/* locks: f->lock. */
static void let_go(struct fetcher *f, struct followed *x)
{
	struct fetch_thread *t = x->thread;
	HASH_DEL(f->table, x);
	t->count--;
	x->gone = true;
	x->next_gone = t->gone;
	t->gone = x; /* from here on it is its thread's alone */
}

/* locks: f->lock. */
static void hand_over(struct fetcher *f, struct fetch_thread *t, struct followed *x)
{
	x->thread = t;
	HASH_ADD_PTR(f->table, p, x);
	t->count++;
	*t->news_end = x;
	t->news_end = &x->next_new;
	wake(t->wake);
}

static struct followed *followed_new(struct partition *p, int32_t leader, int32_t epoch)
{
	struct followed *x = calloc(1, sizeof *x);
	if (!x)
		return NULL;
	partition_ref(p);
	x->p = p;
	x->leader = leader;
	x->epoch = epoch;
	memcpy(&x->key.topic_id, topic_id_bytes(partition_topic(p)), sizeof x->key.topic_id);
	x->key.partition = partition_index(p);
	x->topic = wire_string(partition_topic_name(p));
	return x;
}

int fetcher_follow(struct fetcher *f, struct partition *p, int32_t leader, int32_t leader_epoch, struct err *e)
{
	struct followed *x = followed_new(p, leader, leader_epoch), *old;
	struct fetch_thread *t = NULL, *ended;
	int rc = 0;
	if (!x)
		return err_set(e, ERR_NO_MEMORY, "%s-%" PRId32 ": no memory to follow it", partition_topic_name(p), partition_index(p));
	pthread_mutex_lock(&f->lock);
	ended = f->ended;
	f->ended = NULL;
	HASH_FIND_PTR(f->table, &p, old);
	bool known = old && old->leader == leader && old->epoch == leader_epoch && old->state != FOLLOW_GIVEN_UP;
	if (old && !known)
		let_go(f, old);
	if (!known)
		rc = thread_for(f, leader, index_of(f, p), &t, e);
	if (t)
		hand_over(f, t, x);
	pthread_mutex_unlock(&f->lock);
	join(ended);
	if (!t)
		followed_free(x);
	return rc;
}

void fetcher_unfollow(struct fetcher *f, struct partition *p)
{
	struct followed *x;
	pthread_mutex_lock(&f->lock);
	HASH_FIND_PTR(f->table, &p, x);
	if (x) {
		let_go(f, x);
		wake(x->thread->wake);
	}
	pthread_mutex_unlock(&f->lock);
}

void fetcher_count(struct fetcher *f, struct fetcher_counts *c)
{
	*c = (struct fetcher_counts){0};
	pthread_mutex_lock(&f->lock);
	c->followed = HASH_COUNT(f->table);
	for (struct followed *x = f->table; x; x = x->hh.next)
		c->given_up += x->state == FOLLOW_GIVEN_UP;
	for (struct fetch_thread *t = f->threads; t; t = t->next)
		c->threads++;
	pthread_mutex_unlock(&f->lock);
}

/* ---- life ---- */

static int read_properties(struct fetcher *f, struct err *e)
{
	const struct conf *c = broker_conf(f->broker);
	f->threads_a_leader = (int)conf_int(c, "num.replica.fetchers");
	f->wait_ms = (int)conf_int(c, "replica.fetch.wait.max.ms");
	f->min_bytes = (int)conf_int(c, "replica.fetch.min.bytes");
	f->max_bytes = (int)conf_int(c, "replica.fetch.max.bytes");
	f->response_bytes = (int)conf_int(c, "replica.fetch.response.max.bytes");
	f->backoff_ms = (int)conf_int(c, "replica.fetch.backoff.ms");
	f->timeout_ms = (int)conf_int(c, "replica.socket.timeout.ms");
	if (f->wait_ms > f->timeout_ms)
		return err_set(e, ERR_INVALID, "replica.fetch.wait.max.ms (%d) must not be more than replica.socket.timeout.ms (%d): no answer would come in time", f->wait_ms, f->timeout_ms);
	if (f->wait_ms > conf_int(c, "replica.lag.time.max.ms"))
		return err_set(e, ERR_INVALID, "replica.fetch.wait.max.ms (%d) must not be more than replica.lag.time.max.ms: a follower would not seem to be in sync", f->wait_ms);
	return 0;
}

int fetcher_new(struct fetcher **out, struct broker *b, const struct fetcher_calls *calls, struct err *e)
{
	struct fetcher *f = calloc(1, sizeof *f);
	*out = NULL;
	if (!f)
		return err_set(e, ERR_NO_MEMORY, "no memory for fetchers");
	f->broker = b;
	f->calls = *calls;
	int rc = read_properties(f, e);
	f->stop = rc == 0 ? eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : -1;
	if (rc == 0 && f->stop < 0)
		rc = err_sys(e, errno, "no eventfd for fetchers");
	if (rc < 0) {
		free(f);
		return rc;
	}
	pthread_mutex_init(&f->lock, NULL);
	*out = f;
	return 0;
}

void fetcher_free(struct fetcher *f)
{
	if (!f)
		return;
	pthread_mutex_lock(&f->lock);
	HASH_CLEAR(hh, f->table); /* while what is in it is there: threads that end free it */
	f->stopping = true;       /* nobody goes to the ended any more */
	wake(f->stop);
	struct fetch_thread *running = f->threads, *ended = f->ended;
	pthread_mutex_unlock(&f->lock);
	join(running);
	join(ended);
	close(f->stop);
	pthread_mutex_destroy(&f->lock);
	free(f);
}
