#include "cluster/zk/blocking.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "store/clock.h"

/* What the requests of one call answer into. The last of those who use it frees it: the requests under way, and whoever waits. */
struct asking {
	pthread_mutex_t lock;    /* all of this */
	pthread_cond_t answered;
	size_t users, left;      /* of the latter: requests without an answer */
	size_t n;
	bool failed;             /* no memory for an answer */
	size_t refused;          /* of a multi */
	struct zk_question answer[];
};

struct asked { struct asking *a; size_t i; }; /* one of its requests */

static struct asking *asking_new(size_t n)
{
	struct asking *a = calloc(1, sizeof *a + n * sizeof *a->answer);
	pthread_condattr_t monotonic;
	if (!a)
		return NULL;
	a->users = n + 1;
	a->left = a->n = n;
	pthread_mutex_init(&a->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&a->answered, &monotonic);
	pthread_condattr_destroy(&monotonic);
	return a;
}

/* locks: lock, which is released. */
static void drop(struct asking *a, size_t users)
{
	bool last = !(a->users -= users);
	pthread_mutex_unlock(&a->lock);
	if (!last)
		return;
	zk_answers_release(a->answer, a->n);
	pthread_cond_destroy(&a->answered);
	pthread_mutex_destroy(&a->lock);
	free(a);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool copy(struct zk_question *q, const struct zk_result *r)
{
	q->code = r->code;
	q->stat = r->stat;
	if (r->data) {
		q->data = malloc(r->bytes + 1);
		if (!q->data)
			return false;
		memcpy(q->data, r->data, r->bytes);
		q->data[r->bytes] = '\0';
		q->bytes = r->bytes;
	}
	q->children = r->children_count ? calloc(r->children_count, sizeof *q->children) : NULL;
	for (size_t i = 0; q->children && i < r->children_count; i++) {
		if (!(q->children[i] = strdup(r->children[i])))
			return false;
		q->children_count++;
	}
	if (q->children)
		qsort(q->children, q->children_count, sizeof *q->children, by_name);
	return q->children_count == r->children_count;
}

/* thread: the queue's */
static void on_answer(void *arg, const struct zk_result *r)
{
	struct asked *x = arg;
	struct asking *a = x->a;
	pthread_mutex_lock(&a->lock);
	if (!copy(&a->answer[x->i], r))
		a->failed = true;
	a->refused = r->refused;
	if (!--a->left)
		pthread_cond_broadcast(&a->answered);
	free(x);
	drop(a, 1);
}

static bool wait_for(struct asking *a, int timeout_ms)
{
	struct timespec until;
	mono_t due = mono_after_ms(mono_now(), timeout_ms);
	bool waits = true;
	while (a->left && waits) {
		int64_t ns = mono_diff_ns(due, mono_now());
		clock_gettime(CLOCK_MONOTONIC, &until);
		ns = (ns > 0 ? ns : 0) + until.tv_nsec;
		until.tv_sec += ns / 1000000000;
		until.tv_nsec = ns % 1000000000;
		waits = mono_diff_ns(due, mono_now()) > 0;
		if (waits)
			pthread_cond_timedwait(&a->answered, &a->lock, &until);
	}
	return !a->left;
}

static void send(struct zk *z, const struct zk_question *q, struct asked *x)
{
	switch (q->kind) {
	case ZK_ASK_GET:
		zk_get(z, q->path, q->watch, on_answer, x);
		break;
	case ZK_ASK_EXISTS:
		zk_exists(z, q->path, q->watch, on_answer, x);
		break;
	case ZK_ASK_CHILDREN:
		zk_children(z, q->path, q->watch, on_answer, x);
		break;
	case ZK_ASK_DELETE:
		zk_delete(z, q->path, ZK_ANY_VERSION, on_answer, x);
		break;
	}
}

static struct asked *asked_new(struct asking *a, size_t i)
{
	struct asked *x = malloc(sizeof *x);
	if (x)
		*x = (struct asked){a, i};
	return x;
}

/* What was answered goes to v. Ends the use of a. */
static int take(struct asking *a, struct zk_question *v, size_t n, size_t not_sent, size_t *refused, int timeout_ms, struct err *e)
{
	int rc = 0;
	pthread_mutex_lock(&a->lock);
	a->left -= not_sent;
	if (not_sent || a->failed)
		rc = err_set(e, ERR_NO_MEMORY, "no memory to ask ZooKeeper");
	else if (!wait_for(a, timeout_ms))
		rc = err_set(e, ERR_TIMED_OUT, "ZooKeeper has not answered within %d ms", timeout_ms);
	else if (a->failed)
		rc = err_set(e, ERR_NO_MEMORY, "no memory for what ZooKeeper has answered");
	for (size_t i = 0; rc == 0 && i < n; i++) {
		struct zk_question *to = &v[i], *from = &a->answer[i];
		to->code = from->code;
		to->data = from->data;
		to->bytes = from->bytes;
		to->children = from->children;
		to->children_count = from->children_count;
		to->stat = from->stat;
		*from = (struct zk_question){0};
	}
	*refused = a->refused;
	drop(a, 1 + not_sent);
	return rc;
}

int zk_ask(struct zk *z, struct zk_question *v, size_t n, int timeout_ms, struct err *e)
{
	size_t sent = 0, refused;
	struct asking *a = asking_new(n);
	if (!a)
		return err_set(e, ERR_NO_MEMORY, "no memory to ask ZooKeeper");
	for (struct asked *x; sent < n && (x = asked_new(a, sent)); sent++)
		send(z, &v[sent], x);
	return take(a, v, n, n - sent, &refused, timeout_ms, e);
}

void zk_answers_release(struct zk_question *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(v[i].data);
		for (size_t k = 0; k < v[i].children_count; k++)
			free(v[i].children[k]);
		free(v[i].children);
		v[i].data = NULL;
		v[i].children = NULL;
		v[i].bytes = v[i].children_count = 0;
	}
}

int zk_ask_multi(struct zk *z, struct zk_multi *m, int timeout_ms, enum zk_code *code, size_t *refused, struct err *e)
{
	struct zk_question answer = {0};
	struct asking *a = asking_new(1);
	struct asked *x = a ? asked_new(a, 0) : NULL;
	if (x)
		zk_multi_send(z, m, on_answer, x);
	else
		zk_multi_free(m);
	if (!a)
		return err_set(e, ERR_NO_MEMORY, "no memory to ask ZooKeeper");
	int rc = take(a, &answer, 1, !x, refused, timeout_ms, e);
	*code = answer.code;
	return rc;
}
