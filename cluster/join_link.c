#include "cluster/join_link.h"

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <uthash.h>

#include "cluster/topics.h"
#include "cluster/wire/client.h"
#include "cluster/wire/errors.h"
#include "store/clock.h"
#include "store/diag.h"

enum { LINK_CHANGES = 1000, CONNECT_MS = 2000, AGAIN_MS = 50, LEASE_POLL_MS = 50, ADDRESS_BYTES = 320 };

struct wanted { /* of a partition; under link.lock */
	UT_hash_handle hh;
	struct partition *p;   /* referenced */
	struct isr_change change;
};

struct asked { struct partition *p; struct isr_change change; }; /* in the request under way; p referenced */

enum shutdown { SHUTDOWN_NONE, SHUTDOWN_WANTED, SHUTDOWN_ANSWERED };

struct link {
	struct link_options o;
	int32_t id;                 /* this broker's */
	pthread_t thread;
	pthread_mutex_t lock;       /* all of this */
	pthread_cond_t changed;
	bool ending;
	struct wanted *wanted;
	bool lease_missed;
	enum shutdown shutdown;
	int shutdown_result;
	char address[ADDRESS_BYTES]; /* of the controller; "": not known */
	mono_t not_before;          /* of the next attempt */
	int fd;                     /* the connection's, while it is open; -1 */

	/* The thread's own: */
	struct client *client;
	char client_address[ADDRESS_BYTES];
	struct arena arena;
	struct asked asked[LINK_CHANGES];
	int asked_count;
};

/* ---- from outside ---- */

void link_controller(struct link *l, const char *address)
{
	pthread_mutex_lock(&l->lock);
	snprintf(l->address, sizeof l->address, "%s", address ? address : "");
	pthread_cond_broadcast(&l->changed);
	pthread_mutex_unlock(&l->lock);
}

void link_registered(struct link *l)
{
	pthread_mutex_lock(&l->lock);
	l->lease_missed = true; /* what has waited for it may go on now */
	pthread_cond_broadcast(&l->changed);
	pthread_mutex_unlock(&l->lock);
}

void link_lease_missed(struct link *l)
{
	pthread_mutex_lock(&l->lock);
	if (!l->lease_missed) {
		l->lease_missed = true;
		pthread_cond_broadcast(&l->changed);
	}
	pthread_mutex_unlock(&l->lock);
}

void link_alter(struct link *l, struct partition *p, const struct isr_change *c)
{
	struct wanted *w = NULL;
	pthread_mutex_lock(&l->lock);
	if (l->ending) {
		pthread_mutex_unlock(&l->lock);
		return;
	}
	HASH_FIND_PTR(l->wanted, &p, w);
	if (!w && (w = calloc(1, sizeof *w))) {
		partition_ref(p);
		w->p = p;
		HASH_ADD_PTR(l->wanted, p, w);
	}
	if (w)
		w->change = *c;
	pthread_cond_broadcast(&l->changed);
	pthread_mutex_unlock(&l->lock);
	if (!w) /* no memory: it is not asked for, and may be again */
		partition_altered(p, c, ISR_REFUSED, NULL, 0, -1);
}

int link_shutdown(struct link *l, struct err *e)
{
	pthread_mutex_lock(&l->lock);
	l->shutdown = SHUTDOWN_WANTED;
	pthread_cond_broadcast(&l->changed);
	while (l->shutdown == SHUTDOWN_WANTED)
		pthread_cond_wait(&l->changed, &l->lock);
	l->shutdown = SHUTDOWN_NONE;
	int rc = l->shutdown_result;
	pthread_mutex_unlock(&l->lock);
	return rc < 0 ? err_set(e, rc, "no controller could be asked") : rc;
}

/* ---- the connection ---- */

static void set_fd(struct link *l, int fd)
{
	pthread_mutex_lock(&l->lock);
	l->fd = fd;
	pthread_mutex_unlock(&l->lock);
}

static void disconnect(struct link *l)
{
	set_fd(l, -1);
	client_close(l->client);
	l->client = NULL;
}

/* One question to the controller. It may be another one by then, or none: < 0. */
static int call(struct link *l, int api_key, const void *request, void *response, struct err *e)
{
	char address[ADDRESS_BYTES], name[40];
	pthread_mutex_lock(&l->lock);
	memcpy(address, l->address, sizeof address);
	pthread_mutex_unlock(&l->lock);
	if (l->client && strcmp(address, l->client_address))
		disconnect(l);
	if (!*address)
		return err_set(e, ERR_OFFLINE, "nobody knows who is the controller");
	int rc = 0;
	if (!l->client) {
		snprintf(name, sizeof name, "broker-%" PRId32 "-to-controller", l->id);
		rc = client_open(&l->client, address, name, CONNECT_MS, e);
		memcpy(l->client_address, address, sizeof address);
	}
	if (rc == 0) {
		client_set_timeout(l->client, l->o.timeout_ms);
		set_fd(l, client_fd(l->client));
		rc = client_call(l->client, api_key, request, response, e);
	}
	if (rc < 0)
		disconnect(l);
	return rc;
}

/* After an attempt that was in vain. */
static void again_later(struct link *l)
{
	pthread_mutex_lock(&l->lock);
	l->not_before = mono_after_ms(mono_now(), AGAIN_MS);
	pthread_mutex_unlock(&l->lock);
	l->o.look(l->o.arg);
}

/* ---- AlterPartition ---- */

static void take_changes(struct link *l)
{
	struct wanted *w, *next;
	l->asked_count = 0;
	pthread_mutex_lock(&l->lock);
	HASH_ITER(hh, l->wanted, w, next) {
		if (l->asked_count == LINK_CHANGES)
			break;
		partition_ref(w->p);
		l->asked[l->asked_count++] = (struct asked){w->p, w->change};
	}
	pthread_mutex_unlock(&l->lock);
}

static bool make_request(struct link *l, struct alter_partition_request *r)
{
	wire_init(&wire_alter_partition_request, r);
	r->broker_id = l->id;
	r->broker_epoch = l->o.epoch(l->o.arg);
	r->topics.v = arena_get(&l->arena, (size_t)l->asked_count * sizeof *r->topics.v, NULL);
	struct alter_partition_request_partition *part = arena_get(&l->arena, (size_t)l->asked_count * sizeof *part, NULL);
	for (int i = 0; r->topics.v && part && i < l->asked_count; i++) {
		const struct isr_change *c = &l->asked[i].change;
		struct alter_partition_request_topic *t = &r->topics.v[r->topics.n++];
		struct alter_partition_request_broker *member = arena_get(&l->arena, (size_t)c->count * sizeof *member, NULL);
		if (!member)
			return false;
		for (int k = 0; k < c->count; k++)
			member[k] = (struct alter_partition_request_broker){c->member[k].id, c->member[k].broker_epoch};
		wire_init(&wire_alter_partition_request_topic, t);
		memcpy(t->topic_id.b, topic_id_bytes(partition_topic(l->asked[i].p)), sizeof t->topic_id.b);
		t->partitions.v = &part[i];
		t->partitions.n = 1;
		wire_init(&wire_alter_partition_request_partition, &part[i]);
		part[i].partition_index = partition_index(l->asked[i].p);
		part[i].leader_epoch = c->leader_epoch;
		part[i].partition_epoch = c->partition_epoch;
		part[i].new_isr_with_epochs.v = member;
		part[i].new_isr_with_epochs.n = c->count;
	}
	return r->topics.n == l->asked_count;
}

/* false: it is to be asked again, of whoever is the controller then. */
static bool is_answer(int16_t error, enum isr_answer *answer)
{
	switch (error) {
	case KAFKA_NONE:
		*answer = ISR_ALTERED;
		return true;
	case KAFKA_INELIGIBLE_REPLICA:
	case KAFKA_OPERATION_NOT_ATTEMPTED:
		*answer = ISR_REFUSED;
		return true;
	case KAFKA_FENCED_LEADER_EPOCH:
	case KAFKA_INVALID_UPDATE_VERSION:
	case KAFKA_INVALID_REQUEST:
	case KAFKA_UNKNOWN_TOPIC_ID:
	case KAFKA_UNKNOWN_TOPIC_OR_PARTITION:
		*answer = ISR_OUTDATED;
		return true;
	default:
		return false;
	}
}

/* Whether that change is still what the partition wants; it is not kept any more then. */
static bool settle(struct link *l, const struct asked *q)
{
	struct wanted *w;
	pthread_mutex_lock(&l->lock);
	HASH_FIND_PTR(l->wanted, &q->p, w);
	bool same = w && w->change.serial == q->change.serial && w->change.leader_epoch == q->change.leader_epoch;
	if (same)
		HASH_DEL(l->wanted, w);
	pthread_mutex_unlock(&l->lock);
	if (same) {
		partition_unref(w->p);
		free(w);
	}
	return same;
}

/* All answers that there are; false: some are missing. */
static bool take_answers(struct link *l, const struct alter_partition_response *r)
{
	bool all = r->topics.n == l->asked_count;
	for (int i = 0; i < r->topics.n && i < l->asked_count; i++) {
		const struct alter_partition_response_topic *t = &r->topics.v[i];
		const struct asked *q = &l->asked[i];
		enum isr_answer answer;
		bool fits = t->partitions.n == 1 && t->partitions.v[0].partition_index == partition_index(q->p) && !memcmp(t->topic_id.b, topic_id_bytes(partition_topic(q->p)), sizeof t->topic_id.b);
		if (!fits || !is_answer(t->partitions.v[0].error_code, &answer)) {
			all = false;
			continue;
		}
		if (settle(l, q))
			partition_altered(q->p, &q->change, answer, t->partitions.v[0].isr.v, t->partitions.v[0].isr.n, t->partitions.v[0].partition_epoch);
	}
	return all;
}

static void ask_for_changes(struct link *l)
{
	static struct diag_limit limit;
	struct alter_partition_request request;
	struct alter_partition_response response;
	struct err e = ERR_INIT;
	arena_reset(&l->arena);
	take_changes(l);
	int rc = make_request(l, &request) ? call(l, API_ALTER_PARTITION, &request, &response, &e) : err_set(&e, ERR_NO_MEMORY, "no memory");
	if (rc == 0 && response.error_code)
		rc = err_set(&e, ERR_OFFLINE, "%s", kafka_error_name(response.error_code));
	if (rc < 0)
		diag_limited(&limit, 10000, DIAG_INFO, "the controller cannot be asked for other in-sync replicas, it is tried again: %s", e.text);
	if (rc < 0 || !take_answers(l, &response))
		again_later(l);
	for (int i = 0; i < l->asked_count; i++)
		partition_unref(l->asked[i].p);
}

/* ---- controlled shutdown ---- */

static void ask_for_shutdown(struct link *l)
{
	struct controlled_shutdown_request request;
	struct controlled_shutdown_response response;
	struct err e = ERR_INIT;
	wire_init(&wire_controlled_shutdown_request, &request);
	request.broker_id = l->id;
	request.broker_epoch = l->o.epoch(l->o.arg);
	int rc = call(l, API_CONTROLLED_SHUTDOWN, &request, &response, &e);
	if (rc == 0 && response.error_code)
		rc = err_set(&e, ERR_OFFLINE, "%s", kafka_error_name(response.error_code));
	if (rc < 0) {
		diag_info("controlled shutdown: %s", e.text);
		again_later(l);
	}
	pthread_mutex_lock(&l->lock);
	l->shutdown = SHUTDOWN_ANSWERED;
	l->shutdown_result = rc < 0 ? ERR_OFFLINE : response.remaining_partitions.n;
	pthread_cond_broadcast(&l->changed);
	pthread_mutex_unlock(&l->lock);
}

/* ---- the thread ---- */

enum work { WORK_NONE, WORK_END, WORK_LEASE, WORK_SHUTDOWN, WORK_CHANGES };

/* What there is to do; *until: when there may be something, though nobody says so. locks: lock */
static enum work next_work(struct link *l, mono_t *until)
{
	mono_t now = mono_now();
	*until = (mono_t){INT64_MAX};
	if (l->ending)
		return WORK_END;
	if (l->shutdown == SHUTDOWN_WANTED)
		return WORK_SHUTDOWN;
	if (l->lease_missed) {
		if (l->o.lease(l->o.arg)) {
			l->lease_missed = false;
			return WORK_LEASE;
		}
		*until = mono_after_ms(now, LEASE_POLL_MS);
	}
	if (!l->wanted || !*l->address || l->o.epoch(l->o.arg) < 0)
		return WORK_NONE;
	if (mono_diff_ns(l->not_before, now) <= 0)
		return WORK_CHANGES;
	if (mono_diff_ns(*until, l->not_before) > 0)
		*until = l->not_before;
	return WORK_NONE;
}

static enum work wait_for_work(struct link *l)
{
	mono_t until;
	enum work work;
	pthread_mutex_lock(&l->lock);
	while ((work = next_work(l, &until)) == WORK_NONE) {
		int64_t ns = mono_diff_ns(until, mono_now());
		struct timespec t;
		if (until.ns == INT64_MAX) {
			pthread_cond_wait(&l->changed, &l->lock);
			continue;
		}
		clock_gettime(CLOCK_MONOTONIC, &t);
		ns = (ns > 0 ? ns : 0) + t.tv_nsec;
		t.tv_sec += ns / 1000000000;
		t.tv_nsec = ns % 1000000000;
		pthread_cond_timedwait(&l->changed, &l->lock, &t);
	}
	pthread_mutex_unlock(&l->lock);
	return work;
}

static void *run(void *arg)
{
	struct link *l = arg;
	sigset_t all;
	enum work work;
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	pthread_setname_np(pthread_self(), "to-controller");
	while ((work = wait_for_work(l)) != WORK_END) {
		if (work == WORK_LEASE)
			broker_look_again(l->o.broker);
		else if (work == WORK_SHUTDOWN)
			ask_for_shutdown(l);
		else
			ask_for_changes(l);
	}
	disconnect(l);
	return NULL;
}

int link_new(struct link **out, const struct link_options *o, struct err *e)
{
	struct link *l = calloc(1, sizeof *l);
	pthread_condattr_t monotonic;
	*out = NULL;
	if (!l)
		return err_set(e, ERR_NO_MEMORY, "no memory for a connection to the controller");
	l->o = *o;
	l->id = broker_id(o->broker);
	l->fd = -1;
	arena_init(&l->arena, 0);
	pthread_mutex_init(&l->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&l->changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
	int sys = pthread_create(&l->thread, NULL, run, l);
	if (sys) {
		pthread_cond_destroy(&l->changed);
		pthread_mutex_destroy(&l->lock);
		free(l);
		return err_sys(e, sys, "cannot start the thread that asks the controller");
	}
	*out = l;
	return 0;
}

void link_stop(struct link *l)
{
	struct wanted *w, *next;
	if (!l)
		return;
	pthread_mutex_lock(&l->lock);
	l->ending = true;
	if (l->fd >= 0)
		shutdown(l->fd, SHUT_RDWR); /* ends a call that waits */
	pthread_cond_broadcast(&l->changed);
	pthread_mutex_unlock(&l->lock);
	pthread_join(l->thread, NULL);
	HASH_ITER(hh, l->wanted, w, next) {
		HASH_DEL(l->wanted, w);
		partition_unref(w->p);
		free(w);
	}
}

void link_free(struct link *l)
{
	if (!l)
		return;
	arena_release(&l->arena);
	pthread_cond_destroy(&l->changed);
	pthread_mutex_destroy(&l->lock);
	free(l);
}
