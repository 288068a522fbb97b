#include "cluster/join_topics.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "cluster/replicas.h"
#include "cluster/wire/client.h"
#include "cluster/wire/errors.h"
#include "store/clock.h"
#include "store/diag.h"
#include "store/dirs.h"

/* How long one controller is waited for before it is looked up again, and how long one that is none, or cannot be reached. */
enum { ATTEMPT_MS = 5000, AGAIN_MS = 50, ADDRESS_BYTES = 320 };

/* What is wanted beyond that is wanted again by whoever asks again. */
enum { WANTED_MOST = 1000 };

struct wanted { /* by create_soon */
	struct wanted *next;
	struct topic_plan plan; /* with what follows */
	struct conf_change *set;
	char name[TOPIC_NAME_MAX + 1];
};

struct join_topics {
	struct join *join;
	struct broker *broker;
	const struct conf *conf;
	int64_t timeout_ms;
	struct topic_calls calls;
	int stop_fd;             /* readable from join_topics_stop on */
	_Atomic bool stopping;
	pthread_mutex_t lock;    /* below */
	pthread_cond_t changed;
	struct wanted *wanted, *making; /* making: what the thread is at */
	bool running;
	pthread_t thread;
};

/* ---- the controller is asked ---- */

/* One question, until it is answered or its time is over. */
struct question {
	struct join_topics *t;
	int api_key;
	void *request, *response;
	int32_t *timeout_ms;      /* of the request */
	/* Its answer about the one topic in it. */
	int16_t (*error)(const void *response, struct wire_string *message);
	mono_t deadline;
	bool unsure;              /* an attempt before this one may have done it */
	struct client *client;    /* of the last attempt: the answer's memory */
};

static int64_t left_ms(const struct question *q)
{
	int64_t ns = mono_diff_ns(q->deadline, mono_now());
	return ns > 0 ? ns / 1000000 + 1 : 0;
}

static void pause_before_next(const struct question *q)
{
	int64_t ms = left_ms(q);
	nanosleep(&(struct timespec){.tv_nsec = (ms < AGAIN_MS ? ms : AGAIN_MS) * 1000000}, NULL);
}

/* Whether somebody else, or the same one later, will say more. */
static bool is_no_answer(int16_t error)
{
	return error == KAFKA_NOT_CONTROLLER || error == KAFKA_REQUEST_TIMED_OUT || error == KAFKA_OPERATION_NOT_ATTEMPTED || error == KAFKA_LEADER_NOT_AVAILABLE || error == KAFKA_REASSIGNMENT_IN_PROGRESS;
}

static int attempt(struct question *q, struct err *e)
{
	char address[ADDRESS_BYTES], name[40];
	int32_t controller = join_controller(q->t->join);
	int64_t ms = left_ms(q);
	ms = ms < ATTEMPT_MS ? ms : ATTEMPT_MS;
	client_close(q->client);
	q->client = NULL;
	if (controller < 0 || !join_address(q->t->join, controller, address, sizeof address))
		return err_set(e, ERR_OFFLINE, "nobody knows who is the controller");
	snprintf(name, sizeof name, "broker-%" PRId32 "-for-topics", broker_id(q->t->broker));
	int rc = client_open_cancellable(&q->client, address, name, (int)ms, q->t->stop_fd, e);
	if (rc < 0)
		return rc;
	*q->timeout_ms = (int32_t)ms;
	client_set_timeout(q->client, (int)ms + AGAIN_MS); /* it answers in time, though it be that it is not done */
	rc = client_call(q->client, q->api_key, q->request, q->response, e);
	q->unsure |= rc < 0;
	return rc;
}

/* Kafka's code, with its sentence in e. < -1: ours, it was not answered. */
enum { NO_ANSWER = INT16_MIN };
static int16_t ask(struct question *q, struct err *e)
{
	for (;;) {
		struct wire_string said = WIRE_NULL_STRING;
		int16_t error = KAFKA_NONE;
		int rc = q->t->stopping ? ERR_STOPPING : attempt(q, e);
		if (rc == 0 && !is_no_answer(error = q->error(q->response, &said))) {
			if (error && said.n > 0)
				err_set(e, ERR_INVALID, "%.*s", said.n, said.s);
			else if (error)
				err_set(e, ERR_INVALID, "the controller says %s", kafka_error_name(error));
			return error;
		}
		if (rc == 0) {
			q->unsure |= error == KAFKA_REQUEST_TIMED_OUT;
			err_set(e, ERR_OFFLINE, "the controller says %s", kafka_error_name(error));
		}
		if (q->t->stopping) {
			err_set(e, ERR_STOPPING, "the broker stops");
			return NO_ANSWER;
		}
		if (left_ms(q) == 0) {
			err_context(e, "no controller has answered within request.timeout.ms");
			e->code = q->unsure ? ERR_TIMED_OUT : ERR_OFFLINE;
			return NO_ANSWER;
		}
		pause_before_next(q);
	}
}

static int code_of(int16_t error)
{
	switch (error) {
	case NO_ANSWER:
		return ERR_TIMED_OUT; /* e has it */
	case KAFKA_INVALID_REPLICATION_FACTOR:
		return ERR_NOT_ENOUGH_REPLICAS;
	case KAFKA_UNKNOWN_TOPIC_ID:
	case KAFKA_UNKNOWN_TOPIC_OR_PARTITION:
		return ERR_DELETED;
	case KAFKA_TOPIC_ALREADY_EXISTS:
		return ERR_EXISTS;
	case KAFKA_INVALID_TOPIC_EXCEPTION:
		return ERR_NAME;
	default:
		return ERR_INVALID;
	}
}

static int failed(int16_t error, struct err *e)
{
	if (error != NO_ANSWER)
		e->code = code_of(error);
	return e->code;
}

/* ---- this broker hears of it ---- */

struct hearer {
	struct replicas_listener listener;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool again;
};

static void on_heard(struct replicas_listener *l)
{
	struct hearer *w = (struct hearer *)l;
	pthread_mutex_lock(&w->lock);
	w->again = true;
	pthread_cond_signal(&w->changed);
	pthread_mutex_unlock(&w->lock);
}

/* Until there may be something new. false: the time is over. */
static bool wait_for_news(struct hearer *w, const struct question *q)
{
	int64_t ms = left_ms(q);
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += ms / 1000;
	until.tv_nsec += ms % 1000 * 1000000;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	pthread_mutex_lock(&w->lock);
	while (!w->again && pthread_cond_timedwait(&w->changed, &w->lock, &until) != ETIMEDOUT)
		;
	bool again = w->again;
	w->again = false;
	pthread_mutex_unlock(&w->lock);
	return again;
}

struct news { const char *name; const uint8_t *id; int32_t partitions; bool or_another; }; /* partitions 0: that it is gone. or_another: there is one of that name, perhaps with another id */

static bool is_known(struct join_topics *t, const struct news *n, bool *another)
{
	if (n->partitions && replicas_have_heard(t->broker, n->id, n->partitions))
		return true;
	struct topic *there = n->partitions && n->or_another ? topics_find(t->broker, n->name) : NULL;
	*another = there && memcmp(topic_id_bytes(there), n->id, 16) != 0;
	topic_unref(there);
	if (n->partitions)
		return *another;
	there = topics_find_id(t->broker, n->id);
	topic_unref(there);
	return !there;
}

static int hear(const struct question *q, const struct news *n, struct err *e)
{
	struct hearer w = {.listener = {.heard = on_heard}};
	pthread_condattr_t monotonic;
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_mutex_init(&w.lock, NULL);
	pthread_cond_init(&w.changed, &monotonic);
	replicas_listen(q->t->broker, &w.listener);
	bool another = false, known = is_known(q->t, n, &another);
	while (!known && !q->t->stopping && wait_for_news(&w, q))
		known = is_known(q->t, n, &another);
	replicas_unlisten(q->t->broker, &w.listener);
	pthread_cond_destroy(&w.changed);
	pthread_mutex_destroy(&w.lock);
	pthread_condattr_destroy(&monotonic);
	if (known)
		return another ? err_set(e, ERR_EXISTS, "there is a topic %s already", n->name) : 0;
	return q->t->stopping ? err_set(e, ERR_STOPPING, "the broker stops")
			      : err_set(e, ERR_TIMED_OUT, "the controller has done it, but has not told this broker of topic %s within request.timeout.ms", n->name);
}

static mono_t deadline_of(const struct join_topics *t)
{
	return mono_after_ms(mono_now(), t->timeout_ms);
}

/* ---- create ---- */

static int16_t create_error(const void *response, struct wire_string *message)
{
	const struct create_topics_response *a = response;
	*message = a->topics.n == 1 ? a->topics.v[0].error_message : WIRE_NULL_STRING;
	return a->topics.n == 1 ? a->topics.v[0].error_code : KAFKA_UNKNOWN_SERVER_ERROR;
}

struct owner_text { char uid[24], gid[24], dir_mode[8], file_mode[8]; };

static int32_t put_owner(const struct topic_owner *o, struct owner_text *text, struct create_topics_request_config v[4])
{
	snprintf(text->uid, sizeof text->uid, "%" PRIu32, (uint32_t)o->uid);
	snprintf(text->gid, sizeof text->gid, "%" PRIu32, (uint32_t)o->gid);
	snprintf(text->dir_mode, sizeof text->dir_mode, "%04o", (unsigned)(o->dir_mode & 07777));
	snprintf(text->file_mode, sizeof text->file_mode, "%04o", (unsigned)(o->file_mode & 07777));
	v[0] = (struct create_topics_request_config){wire_string("spoolfs.uid"), wire_string(text->uid)};
	v[1] = (struct create_topics_request_config){wire_string("spoolfs.gid"), wire_string(text->gid)};
	v[2] = (struct create_topics_request_config){wire_string("spoolfs.dir.mode"), wire_string(text->dir_mode)};
	v[3] = (struct create_topics_request_config){wire_string("spoolfs.file.mode"), wire_string(text->file_mode)};
	return 4;
}

/* That the topic is there does not say that it is another: an attempt may have made it whose answer was lost. */
static bool is_ours(const struct question *q, int16_t error)
{
	return error == KAFKA_NONE || (error == KAFKA_TOPIC_ALREADY_EXISTS && q->unsure);
}

static int on_create(void *arg, const struct topic_plan *plan, struct err *e)
{
	struct join_topics *t = arg;
	struct create_topics_request request;
	struct create_topics_response response;
	struct create_topics_request_topic topic;
	struct owner_text text;
	char id[TOPIC_ID_CHARS + 1];
	struct err own = ERR_INIT;
	struct question q = {.t = t, .api_key = API_CREATE_TOPICS, .request = &request, .response = &response, .timeout_ms = &request.timeout_ms, .error = create_error, .deadline = deadline_of(t)};
	wire_init(&wire_create_topics_request, &request);
	wire_init(&wire_create_topics_request_topic, &topic);
	request.topics.v = &topic;
	request.topics.n = 1;
	request.validate_only = plan->check_only;
	topic.name = wire_string(plan->name);
	topic.num_partitions = plan->partitions ? plan->partitions : (int32_t)conf_int(t->conf, "num.partitions"); /* of this host, as in Kafka */
	topic.replication_factor = (int16_t)(plan->replication_factor ? plan->replication_factor : conf_int(t->conf, "default.replication.factor"));
	uuid_text_new(id);
	uuid_bytes(id, topic.topic_id.b);
	topic.configs.v = calloc(plan->set_count + 4, sizeof *topic.configs.v);
	if (!topic.configs.v)
		return err_set(e, ERR_NO_MEMORY, "no memory for a topic");
	if (plan->owner)
		topic.configs.n = put_owner(plan->owner, &text, topic.configs.v);
	for (size_t i = 0; i < plan->set_count; i++)
		topic.configs.v[topic.configs.n++] = (struct create_topics_request_config){wire_string(plan->set[i].name), wire_string(plan->set[i].value)};
	e = e ? e : &own;
	int16_t error = ask(&q, e);
	int rc = is_ours(&q, error) ? 0 : failed(error, e);
	int32_t partitions = error ? 1 : response.topics.v[0].num_partitions;
	if (rc == 0 && !plan->check_only)
		rc = hear(&q, &(struct news){plan->name, topic.topic_id.b, partitions > 0 ? partitions : 1, error != KAFKA_NONE}, e);
	client_close(q.client);
	free(topic.configs.v);
	return rc;
}

/* ---- grow ---- */

static int16_t grow_error(const void *response, struct wire_string *message)
{
	const struct create_partitions_response *a = response;
	*message = a->results.n == 1 ? a->results.v[0].error_message : WIRE_NULL_STRING;
	return a->results.n == 1 ? a->results.v[0].error_code : KAFKA_UNKNOWN_SERVER_ERROR;
}

static int on_grow(void *arg, struct topic *topic, int32_t from, int32_t count, struct err *e)
{
	struct join_topics *t = arg;
	struct create_partitions_request request;
	struct create_partitions_response response;
	struct create_partitions_request_topic one;
	struct err own = ERR_INIT;
	struct question q = {.t = t, .api_key = API_CREATE_PARTITIONS, .request = &request, .response = &response, .timeout_ms = &request.timeout_ms, .error = grow_error, .deadline = deadline_of(t)};
	wire_init(&wire_create_partitions_request, &request);
	wire_init(&wire_create_partitions_request_topic, &one);
	request.topics.v = &one;
	request.topics.n = 1;
	one.name = wire_string(topic_name(topic));
	one.count = count;
	one.from = from;
	one.assignments.n = -1;
	e = e ? e : &own;
	int16_t error = ask(&q, e);
	int rc = 0;
	if (error == KAFKA_INVALID_PARTITIONS && !q.unsure)
		rc = err_set(e, ERR_EXISTS, "topic %s has so many partitions already", topic_name(topic));
	else if (error == KAFKA_INVALID_REQUEST)
		rc = err_set(e, ERR_BUSY, "topic %s has another number of partitions", topic_name(topic));
	else if (error && error != KAFKA_INVALID_PARTITIONS)
		rc = failed(error, e);
	int heard = rc == 0 || rc == ERR_EXISTS ? hear(&q, &(struct news){topic_name(topic), topic_id_bytes(topic), count, false}, rc == 0 ? e : NULL) : 0;
	client_close(q.client);
	return rc == 0 ? heard : rc;
}

/* ---- delete ---- */

static int16_t delete_error(const void *response, struct wire_string *message)
{
	const struct delete_topics_response *a = response;
	*message = a->responses.n == 1 ? a->responses.v[0].error_message : WIRE_NULL_STRING;
	return a->responses.n == 1 ? a->responses.v[0].error_code : KAFKA_UNKNOWN_SERVER_ERROR;
}

static int on_destroy(void *arg, struct topic *topic, bool only_if_empty, struct err *e)
{
	struct join_topics *t = arg;
	struct delete_topics_request request;
	struct delete_topics_response response;
	struct delete_topics_request_topic one;
	struct err own = ERR_INIT;
	struct question q = {.t = t, .api_key = API_DELETE_TOPICS, .request = &request, .response = &response, .timeout_ms = &request.timeout_ms, .error = delete_error, .deadline = deadline_of(t)};
	wire_init(&wire_delete_topics_request, &request);
	wire_init(&wire_delete_topics_request_topic, &one);
	request.topics.v = &one;
	request.topics.n = 1;
	memcpy(one.topic_id.b, topic_id_bytes(topic), sizeof one.topic_id.b);
	one.only_if_empty = only_if_empty;
	e = e ? e : &own;
	int16_t error = ask(&q, e);
	bool gone = error == KAFKA_NONE || (error == KAFKA_UNKNOWN_TOPIC_ID && q.unsure);
	int rc = gone ? hear(&q, &(struct news){topic_name(topic), topic_id_bytes(topic), 0, false}, e) : failed(error, e);
	if (error == KAFKA_INVALID_REQUEST && only_if_empty)
		rc = e->code = ERR_NOT_EMPTY;
	client_close(q.client);
	return rc;
}

/* ---- what nobody waits for ---- */

static void wanted_free(struct wanted *w)
{
	for (size_t i = 0; w->set && i < w->plan.set_count; i++) {
		free((char *)w->set[i].name);
		free((char *)w->set[i].value);
	}
	free(w->set);
	free(w);
}

static struct wanted *wanted_new(const struct topic_plan *plan)
{
	struct wanted *w = calloc(1, sizeof *w);
	if (!w)
		return NULL;
	w->plan = (struct topic_plan){.partitions = plan->partitions, .replication_factor = plan->replication_factor};
	snprintf(w->name, sizeof w->name, "%s", plan->name);
	w->plan.name = w->name;
	w->plan.set = w->set = calloc(plan->set_count + 1, sizeof *w->set);
	bool good = w->set;
	for (size_t i = 0; good && i < plan->set_count; i++) {
		w->set[i] = (struct conf_change){strdup(plan->set[i].name), strdup(plan->set[i].value)};
		w->plan.set_count++;
		good = w->set[i].name && w->set[i].value;
	}
	if (!good) {
		wanted_free(w);
		return NULL;
	}
	return w;
}

static void on_create_soon(void *arg, const struct topic_plan *plan)
{
	struct join_topics *t = arg;
	pthread_mutex_lock(&t->lock);
	struct wanted **at = &t->wanted;
	int n = 0;
	while (*at && strcmp((*at)->name, plan->name)) {
		at = &(*at)->next;
		n++;
	}
	bool known = *at || n >= WANTED_MOST || (t->making && !strcmp(t->making->name, plan->name)) || !t->running;
	if (!known && (*at = wanted_new(plan)))
		pthread_cond_signal(&t->changed);
	pthread_mutex_unlock(&t->lock);
}

static void make(struct join_topics *t, struct wanted *w)
{
	static struct diag_limit limit;
	struct err e = ERR_INIT;
	int rc = on_create(t, &w->plan, &e);
	if (rc == 0)
		diag_info("topic %s was made, as somebody asked for it", w->name);
	else if (rc != ERR_EXISTS && rc != ERR_STOPPING)
		diag_limited(&limit, 10000, DIAG_NOTICE, "topic %s, that somebody asked for, cannot be made: %s", w->name, e.text);
}

static void *run(void *arg)
{
	struct join_topics *t = arg;
	sigset_t all;
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	pthread_setname_np(pthread_self(), "topics");
	pthread_mutex_lock(&t->lock);
	while (t->running) {
		struct wanted *w = t->making = t->wanted;
		if (!w) {
			pthread_cond_wait(&t->changed, &t->lock);
			continue;
		}
		t->wanted = w->next;
		pthread_mutex_unlock(&t->lock);
		make(t, w);
		pthread_mutex_lock(&t->lock);
		t->making = NULL;
		wanted_free(w);
	}
	pthread_mutex_unlock(&t->lock);
	return NULL;
}

/* ---- life ---- */

int join_topics_new(struct join_topics **out, struct join *j, const struct conf *c, struct err *e)
{
	struct join_topics *t = calloc(1, sizeof *t);
	*out = NULL;
	if (!t)
		return err_set(e, ERR_NO_MEMORY, "no memory for the topics of a cluster");
	t->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (t->stop_fd < 0) {
		int sys = errno;
		free(t);
		return err_sys(e, sys, "cannot make a descriptor");
	}
	t->join = j;
	t->conf = c;
	t->timeout_ms = conf_int(c, "request.timeout.ms");
	t->calls = (struct topic_calls){.create = on_create, .create_soon = on_create_soon, .grow = on_grow, .destroy = on_destroy, .arg = t};
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->changed, NULL);
	*out = t;
	return 0;
}

const struct topic_calls *join_topics_calls(struct join_topics *t)
{
	return &t->calls;
}

int join_topics_start(struct join_topics *t, struct broker *b, struct err *e)
{
	t->broker = b;
	t->running = true;
	int sys = pthread_create(&t->thread, NULL, run, t);
	if (sys) {
		t->running = false;
		return err_sys(e, sys, "cannot start the thread that has topics made");
	}
	return 0;
}

void join_topics_stop(struct join_topics *t)
{
	uint64_t one = 1;
	if (!t)
		return;
	t->stopping = true;
	if (write(t->stop_fd, &one, sizeof one) < 0)
		diag_error("%s", strerror(errno));
	pthread_mutex_lock(&t->lock);
	bool running = t->running;
	t->running = false;
	pthread_cond_broadcast(&t->changed);
	pthread_mutex_unlock(&t->lock);
	if (t->broker)
		replicas_wake(t->broker);
	if (running)
		pthread_join(t->thread, NULL);
}

void join_topics_free(struct join_topics *t)
{
	if (!t)
		return;
	for (struct wanted *w; (w = t->wanted);) {
		t->wanted = w->next;
		wanted_free(w);
	}
	close(t->stop_fd);
	pthread_cond_destroy(&t->changed);
	pthread_mutex_destroy(&t->lock);
	free(t);
}
