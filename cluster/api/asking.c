#include "cluster/api/asking.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/replicas.h"
#include "store/timer.h"

struct asked {
	struct controller_call call;
	struct asking *a;
	int32_t index;
	bool answered;
	uint8_t made[16];     /* the id of a topic that was made, to be heard of */
	int32_t partitions;   /* that it has; 0: nothing is made */
	union {
		struct brain_new_topic create;
		struct controller_partitions grow;
		struct controller_deletion deletion;
	};
};

struct asking {
	struct call *c;
	void *response;
	asking_answered *answered;
	struct broker *broker;
	struct join *join;
	pthread_mutex_t lock;   /* below */
	struct timer timer;     /* fires at the deadline, or when there may be nothing left to wait for; alone it answers the call */
	mono_t deadline;
	struct replicas_listener listener;
	struct arena arena;     /* of what is asked: a late answer finds it, though the call is answered */
	struct asked *item;
	int32_t items, left;    /* left: not answered */
	int32_t refs;           /* one for each of these, one until the call is answered */
	bool over;              /* the call is answered */
};

static void unref(struct asking *a)
{
	pthread_mutex_lock(&a->lock);
	bool last = --a->refs == 0;
	pthread_mutex_unlock(&a->lock);
	if (!last)
		return;
	pthread_mutex_destroy(&a->lock);
	arena_release(&a->arena);
	free(a);
}

/* locks: lock */
static bool is_heard(const struct asking *a)
{
	bool heard = true;
	for (int32_t i = 0; i < a->items && heard; i++)
		heard = !a->item[i].partitions || replicas_have_heard(a->broker, a->item[i].made, a->item[i].partitions);
	return heard;
}

static void look(struct timer *t, void *arg)
{
	struct asking *a = arg;
	(void)t;
	pthread_mutex_lock(&a->lock);
	bool in_time = mono_diff_ns(a->deadline, mono_now()) > 0;
	if (in_time && (a->left || !is_heard(a)) && timer_arm(broker_timers(a->broker), &a->timer, a->deadline) == 0) {
		pthread_mutex_unlock(&a->lock);
		return;
	}
	a->over = true;
	for (int32_t i = 0; i < a->items; i++)
		if (!a->item[i].answered)
			a->answered(a->c, a->response, a->item[i].index, KAFKA_REQUEST_TIMED_OUT, NULL);
	pthread_mutex_unlock(&a->lock);
	timer_cancel(broker_timers(a->broker), &a->timer);
	replicas_unlisten(a->broker, &a->listener);
	call_answer(a->c, a->response);
	unref(a);
}

/* locks: lock */
static void look_soon(struct asking *a)
{
	if (!a->over && !a->left)
		timer_arm(broker_timers(a->broker), &a->timer, mono_now());
}

static void on_heard(struct replicas_listener *l)
{
	struct asking *a = (struct asking *)((char *)l - offsetof(struct asking, listener));
	pthread_mutex_lock(&a->lock);
	look_soon(a);
	pthread_mutex_unlock(&a->lock);
}

/* thread: the controller's queue */
static void on_answer(struct controller_call *call, const void *response)
{
	struct asked *q = (struct asked *)call;
	struct asking *a = q->a;
	const struct brain_answer *r = response;
	pthread_mutex_lock(&a->lock);
	q->answered = true;
	if (r->error)
		q->partitions = 0;
	if (!a->over)
		a->answered(a->c, a->response, q->index, r->error, r->message);
	a->left--;
	look_soon(a);
	pthread_mutex_unlock(&a->lock);
	unref(a);
}

/* ---- what is asked ---- */

struct asking *asking_new(struct call *c, int32_t n, int32_t timeout_ms, void *response, asking_answered *answered)
{
	struct asking *a = calloc(1, sizeof *a);
	if (!a)
		return NULL;
	*a = (struct asking){.c = c, .response = response, .answered = answered, .broker = call_broker(c), .join = call_join(c), .deadline = mono_after_ms(mono_now(), timeout_ms), .refs = 1};
	a->timer = (struct timer){.fire = look, .arg = a};
	a->listener.heard = on_heard;
	pthread_mutex_init(&a->lock, NULL);
	arena_init(&a->arena, 0);
	a->item = arena_get(&a->arena, ((size_t)n + 1) * sizeof *a->item, NULL);
	if (!a->item) {
		unref(a);
		return NULL;
	}
	memset(a->item, 0, ((size_t)n + 1) * sizeof *a->item);
	return a;
}

static void *copy(struct asking *a, const void *from, size_t n)
{
	void *to = arena_get(&a->arena, n + 1, NULL);
	if (to)
		memcpy(to, from, n);
	return to;
}

static char *copy_text(struct asking *a, const char *s, size_t n)
{
	char *to = copy(a, s, n);
	if (to)
		to[n] = '\0';
	return to;
}

static struct asked *add(struct asking *a, int32_t index, enum controller_kind kind)
{
	struct asked *q = &a->item[a->items++];
	*q = (struct asked){.a = a, .index = index};
	q->call = (struct controller_call){.kind = kind, .answer = on_answer};
	return q;
}

/* The last one; there was no memory for all of it. */
static void give_up(struct asking *a)
{
	a->answered(a->c, a->response, a->item[--a->items].index, KAFKA_UNKNOWN_SERVER_ERROR, NULL);
}

static bool copy_config(struct asking *a, struct brain_new_topic *t)
{
	struct op_config *v = arena_get(&a->arena, ((size_t)t->configs + 1) * sizeof *v, NULL);
	for (int32_t i = 0; v && i < t->configs; i++) {
		const struct op_config *from = &t->config[i];
		v[i] = (struct op_config){{copy_text(a, from->name.s, (size_t)from->name.n), from->name.n}, {copy_text(a, from->value.s, (size_t)from->value.n), from->value.n}};
		if (!v[i].name.s || !v[i].value.s)
			return false;
	}
	t->config = v;
	return v;
}

static bool copy_brokers(struct asking *a, int32_t **v, int32_t n)
{
	return !*v || (*v = copy(a, *v, (size_t)(n > 0 ? n : 0) * sizeof **v));
}

void asking_create(struct asking *a, int32_t index, const struct brain_new_topic *t)
{
	struct asked *q = add(a, index, CONTROLLER_CREATE_TOPIC);
	q->create = *t;
	q->call.request = &q->create;
	memcpy(q->made, t->id, sizeof q->made);
	q->partitions = t->validate_only ? 0 : t->assignment ? t->assignments : t->partitions;
	struct create_topics_request_assignment *list = t->assignment ? copy(a, t->assignment, (size_t)t->assignments * sizeof *list) : NULL;
	bool good = (q->create.name = copy_text(a, t->name, strlen(t->name))) && copy_config(a, &q->create) && (list || !t->assignment);
	for (int32_t i = 0; good && list && i < t->assignments; i++)
		good = copy_brokers(a, &list[i].broker_ids.v, list[i].broker_ids.n);
	q->create.assignment = list;
	if (!good)
		give_up(a);
}

void asking_grow(struct asking *a, int32_t index, const struct controller_partitions *p)
{
	struct asked *q = add(a, index, CONTROLLER_CREATE_PARTITIONS);
	q->grow = *p;
	q->call.request = &q->grow;
	struct create_partitions_request_assignment *list = p->assignment ? copy(a, p->assignment, (size_t)p->assignments * sizeof *list) : NULL;
	bool good = (q->grow.topic = copy_text(a, p->topic, strlen(p->topic))) && (list || !p->assignment);
	for (int32_t i = 0; good && list && i < p->assignments; i++)
		good = copy_brokers(a, &list[i].broker_ids.v, list[i].broker_ids.n);
	q->grow.assignment = list;
	struct topic *t = good && !p->validate_only ? topics_find(a->broker, p->topic) : NULL;
	if (t) {
		memcpy(q->made, topic_id_bytes(t), sizeof q->made);
		q->partitions = p->count;
	}
	topic_unref(t);
	if (!good)
		give_up(a);
}

void asking_delete(struct asking *a, int32_t index, const struct controller_deletion *d)
{
	struct asked *q = add(a, index, CONTROLLER_DELETE_TOPIC);
	q->deletion = *d;
	q->call.request = &q->deletion;
	if (d->topic && !(q->deletion.topic = copy_text(a, d->topic, strlen(d->topic))))
		give_up(a);
}

void asking_go(struct asking *a)
{
	int32_t n = a->items;
	a->left = n;
	a->refs += n;
	replicas_listen(a->broker, &a->listener);
	if (timer_arm(broker_timers(a->broker), &a->timer, n ? a->deadline : mono_now()) < 0) {
		replicas_unlisten(a->broker, &a->listener);
		call_close(a->c, "no memory");
		a->refs = 1;
		unref(a);
		return;
	}
	/* It may be freed with the last of them. */
	for (int32_t i = 0; i < n; i++)
		join_ask(a->join, &a->item[i].call);
}
