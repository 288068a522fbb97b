#include "cluster/join_ids.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "cluster/zk/layout.h"
#include "cluster/zk/zk.h"
#include "store/buf.h"

enum { BLOCK = 1000, ID_BLOCK_MS = 20000, PAUSE_MS = 50 };

struct ask { /* one request; whoever of asker and answer comes last frees it */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	int refs;                /* lock */
	bool answered;           /* lock */
	enum zk_code code;
	int32_t version;
	bool empty;              /* there is no block yet */
	struct layout_producer_ids block;
	struct err err;          /* code 0: what was read is a block, or empty */
};

static void unref(struct ask *a)
{
	pthread_mutex_lock(&a->lock);
	bool last = --a->refs == 0;
	pthread_mutex_unlock(&a->lock);
	if (!last)
		return;
	pthread_cond_destroy(&a->changed);
	pthread_mutex_destroy(&a->lock);
	free(a);
}

static struct ask *ask_new(void)
{
	struct ask *a = calloc(1, sizeof *a);
	pthread_condattr_t monotonic;
	if (!a)
		return NULL;
	a->refs = 2;
	pthread_mutex_init(&a->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&a->changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
	return a;
}

/* thread: the queue's. */
static void on_answer(void *arg, const struct zk_result *r, bool read)
{
	struct ask *a = arg;
	pthread_mutex_lock(&a->lock);
	a->code = r->code;
	a->version = r->stat.version;
	a->empty = !r->bytes;
	if (r->code != ZK_OK && r->code != ZK_NO_NODE && r->code != ZK_EXISTS && r->code != ZK_BAD_VERSION)
		zk_error(r, read ? "read" : "write", &a->err);
	else if (r->code == ZK_OK && read && !a->empty)
		layout_producer_ids_decode(&a->block, r->path, r->data, r->bytes, &a->err);
	a->answered = true;
	pthread_cond_signal(&a->changed);
	pthread_mutex_unlock(&a->lock);
	unref(a);
}

static void on_read(void *arg, const struct zk_result *r)
{
	on_answer(arg, r, true);
}

static void on_written(void *arg, const struct zk_result *r)
{
	on_answer(arg, r, false);
}

/* The deadline is of CLOCK_MONOTONIC. false: it has passed. */
static bool wait_for(struct ask *a, const struct timespec *until)
{
	int rc = 0;
	pthread_mutex_lock(&a->lock);
	while (!a->answered && rc == 0)
		rc = pthread_cond_timedwait(&a->changed, &a->lock, until);
	bool answered = a->answered;
	pthread_mutex_unlock(&a->lock);
	return answered;
}

static int64_t left_ms(const struct timespec *until)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (until->tv_sec - now.tv_sec) * 1000 + (until->tv_nsec - now.tv_nsec) / 1000000;
}

/* Asks, and waits for the answer. NULL: no memory; or it did not come in time (*late). */
static struct ask *ask(struct zk *z, const struct wr *data, const struct ask *before, const struct timespec *until, bool *late)
{
	struct ask *a = ask_new();
	if (!a)
		return NULL;
	if (!data)
		zk_get(z, LAYOUT_PRODUCER_IDS, false, on_read, a);
	else if (before->code == ZK_NO_NODE)
		zk_create(z, LAYOUT_PRODUCER_IDS, data->data, data->len, 0, on_written, a);
	else
		zk_set(z, LAYOUT_PRODUCER_IDS, data->data, data->len, before->version, on_written, a);
	*late = !wait_for(a, until);
	if (!*late)
		return a;
	unref(a);
	return NULL;
}

/* 1: the block is ours; 0: somebody else was first, or the session is just beginning anew. */
static int try_once(struct zk *z, struct layout_producer_ids *b, int64_t least, const struct timespec *until, struct err *e)
{
	struct wr data;
	bool late = false;
	int rc = 0;
	wr_init(&data, 0);
	struct ask *read = ask(z, NULL, NULL, until, &late), *written = NULL;
	if (read && read->err.code)
		rc = read->code == ZK_EXPIRED ? 0 : err_set(e, read->err.code, "%s", read->err.text);
	if (read && !read->err.code) {
		b->first = read->code == ZK_NO_NODE || read->empty ? 0 : read->block.last + 1;
		b->first = b->first < least ? least : b->first;
		if (b->first < 0 || b->first > INT64_MAX - BLOCK)
			rc = err_set(e, ERR_LIMIT, "all producer ids have been given");
		b->last = b->first + BLOCK - 1;
		if (rc == 0 && layout_producer_ids_encode(b, &data) == 0)
			written = ask(z, &data, read, until, &late);
		if (written && written->err.code && written->code != ZK_EXPIRED)
			rc = err_set(e, written->err.code, "%s", written->err.text);
		else if (written)
			rc = written->code == ZK_OK;
	}
	if (late)
		rc = err_set(e, ERR_TIMED_OUT, "ZooKeeper gives no producer ids: it has not answered within %d ms", ID_BLOCK_MS);
	else if (!read || (!written && rc == 0 && !read->err.code))
		rc = err_set(e, ERR_NO_MEMORY, "no memory for a block of producer ids");
	if (read)
		unref(read);
	if (written)
		unref(written);
	wr_release(&data);
	return rc;
}

int join_ids_reserve(struct zk *z, int32_t broker_id, int64_t least, int64_t *first, int64_t *last, struct err *e)
{
	struct layout_producer_ids b = {.broker_id = broker_id};
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += ID_BLOCK_MS / 1000;
	for (;;) {
		int rc = try_once(z, &b, least, &until, e);
		if (rc < 0)
			return rc;
		if (rc > 0)
			break;
		if (left_ms(&until) <= 0)
			return err_set(e, ERR_TIMED_OUT, "ZooKeeper gives no producer ids: others are always first, or there is no session");
		nanosleep(&(struct timespec){.tv_nsec = PAUSE_MS * 1000000}, NULL);
	}
	*first = b.first;
	*last = b.last;
	return 0;
}
