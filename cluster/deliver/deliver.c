#include "cluster/deliver/deliver.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "cluster/deliver/model.h"
#include "cluster/wire/errors.h"
#include "store/diag.h"

enum { MARGIN_MS = 200, POLL_MS = 20, CONNECT_MS = 2000, ANSWER_MS = 3000, ADDRESS_BYTES = 300 };

bool deliver_is_certain(int code)
{
	switch (code) {
	case ERR_IO:
	case ERR_DELETED:
	case ERR_OFFLINE:
	case ERR_TIMED_OUT:
	case ERR_STOPPING:
	case ERR_NOT_LEADER:
	case ERR_NOT_ENOUGH_AFTER:
	case ERR_SEQUENCE:
	case ERR_PRODUCER_FENCED:
		return false;
	default:
		return true;
	}
}

/* ---- the producer id ---- */

static void id_given(struct init_producer_id *r)
{
	struct deliver *dl = (struct deliver *)((char *)r - offsetof(struct deliver, init));
	if (r->code)
		diag_info("there is no producer id for the mount yet, it is asked for again: %s", r->err.text);
	pthread_mutex_lock(&dl->lock);
	if (r->code == 0)
		dl->producer_id = r->producer_id;
	dl->asking = false;
	pthread_cond_broadcast(&dl->idle);
	pthread_mutex_unlock(&dl->lock);
}

void deliver_ask_id(struct deliver *dl)
{
	pthread_mutex_lock(&dl->lock);
	bool ask = !dl->asking && !dl->stopping;
	dl->asking |= ask;
	pthread_mutex_unlock(&dl->lock);
	if (!ask)
		return;
	dl->init = (struct init_producer_id){.producer_id = -1, .producer_epoch = -1, .done = id_given};
	producer_ids_init(dl->broker, &dl->init);
}

/* ---- lanes ---- */

/* Those of deleted topics go when there are twice as many lanes as then. locks: lock. Returns them, by ready_next. */
static struct lane *sweep(struct deliver *dl)
{
	struct lane *gone = NULL, *l, *next;
	if (HASH_COUNT(dl->lanes) < 2 * dl->swept_at + 16)
		return NULL;
	HASH_ITER(hh, dl->lanes, l, next) {
		if (l->users || l->sender || !topic_is_deleted(l->topic) || !lane_is_idle(l))
			continue;
		HASH_DEL(dl->lanes, l);
		l->ready_next = gone;
		gone = l;
	}
	dl->swept_at = HASH_COUNT(dl->lanes);
	return gone;
}

struct lane *lane_find(struct deliver *dl, struct partition *p, bool make)
{
	struct lane_key key;
	struct lane *l, *gone = NULL;
	memset(&key, 0, sizeof key);
	memcpy(key.topic_id, topic_id_bytes(partition_topic(p)), sizeof key.topic_id);
	key.partition = partition_index(p);
	pthread_mutex_lock(&dl->lock);
	HASH_FIND(hh, dl->lanes, &key, sizeof key, l);
	if (!l && make) {
		gone = sweep(dl);
		l = lane_new(dl, partition_topic(p), &key);
		if (l)
			HASH_ADD(hh, dl->lanes, key, sizeof key, l);
	}
	if (l) {
		l->users++;
		dl->users++;
	}
	pthread_mutex_unlock(&dl->lock);
	while (gone) {
		struct lane *next = gone->ready_next;
		lane_free(gone);
		gone = next;
	}
	return l;
}

void lane_hold(struct lane *l)
{
	pthread_mutex_lock(&l->dl->lock);
	l->users++;
	l->dl->users++;
	pthread_mutex_unlock(&l->dl->lock);
}

void lane_put(struct lane *l)
{
	struct deliver *dl = l->dl;
	pthread_mutex_lock(&dl->lock);
	l->users--;
	if (!--dl->users)
		pthread_cond_broadcast(&dl->idle);
	pthread_mutex_unlock(&dl->lock);
}

/* ---- outside ---- */

int deliver_new(struct deliver **out, struct broker *b, const struct deliver_calls *calls, int64_t timeout_ms, struct err *e)
{
	struct deliver *dl = calloc(1, sizeof *dl);
	*out = NULL;
	if (!dl)
		return err_set(e, ERR_NO_MEMORY, "no memory for delivering what is written");
	dl->broker = b;
	dl->alone = !calls;
	if (calls)
		dl->calls = *calls;
	/* whoever waits is told why, before it is told that the time is over */
	dl->patience_ms = timeout_ms - (timeout_ms / 10 < MARGIN_MS ? timeout_ms / 10 : MARGIN_MS);
	dl->producer_id = -1;
	dl->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (dl->stop < 0) {
		int sys = errno;
		free(dl);
		return err_sys(e, sys, "no eventfd for delivering what is written");
	}
	pthread_mutex_init(&dl->lock, NULL);
	pthread_cond_init(&dl->idle, NULL);
	if (!dl->alone)
		deliver_ask_id(dl); /* while ZooKeeper is there: it may not be later */
	*out = dl;
	return 0;
}

void deliver_free(struct deliver *dl)
{
	struct lane *l, *next;
	if (!dl)
		return;
	dl->stopping = true;
	pthread_mutex_lock(&dl->lock);
	while (dl->users || dl->asking)
		pthread_cond_wait(&dl->idle, &dl->lock);
	pthread_mutex_unlock(&dl->lock);
	senders_end(dl);
	HASH_ITER(hh, dl->lanes, l, next) {
		HASH_DEL(dl->lanes, l);
		lane_free(l);
	}
	close(dl->stop);
	pthread_cond_destroy(&dl->idle);
	pthread_mutex_destroy(&dl->lock);
	free(dl);
}

static void appended_alone(struct append *a)
{
	struct delivery *d = (struct delivery *)((char *)a - offsetof(struct delivery, append));
	d->code = a->code;
	if (a->code)
		d->err = a->err;
	d->done(d);
}

void deliver_append(struct deliver *dl, struct partition *p, struct delivery *d)
{
	d->code = 0;
	if (dl->alone) {
		d->append.set = d->set;
		d->append.acks = d->acks;
		d->append.done = appended_alone;
		partition_append(p, &d->append);
		return;
	}
	struct lane *l = lane_find(dl, p, true);
	if (!l || topic_is_deleted(partition_topic(p))) {
		d->code = !l ? err_set(&d->err, ERR_NO_MEMORY, "no memory for an append") : err_set(&d->err, ERR_DELETED, "topic %s was deleted", partition_topic_name(p));
		d->done(d);
	} else {
		lane_add(l, d);
		lane_go(l);
	}
	if (l)
		lane_put(l);
}

bool deliver_cancel(struct deliver *dl, struct partition *p, struct delivery *d)
{
	if (dl->alone)
		return partition_append_cancel(p, &d->append);
	struct lane *l = lane_find(dl, p, false);
	bool back = l && lane_cancel(l, d);
	if (l)
		lane_put(l);
	return back;
}

/* ---- what is not an append ---- */

static int32_t leader_of(struct deliver *dl, struct partition *p, int32_t *epoch)
{
	struct lane *l = lane_find(dl, p, true);
	*epoch = -1;
	if (!l)
		return -1;
	int32_t leader = lane_leader(l, epoch);
	lane_put(l);
	return leader;
}

bool deliver_is_elsewhere(struct deliver *dl, struct partition *p)
{
	struct lane *l = dl->alone ? NULL : lane_find(dl, p, true);
	int32_t epoch;
	if (!l)
		return false;
	bool elsewhere = lane_leader(l, &epoch) != broker_id(dl->broker);
	pthread_mutex_lock(&l->lock);
	elsewhere |= l->weak_end > 0;
	pthread_mutex_unlock(&l->lock);
	lane_put(l);
	return elsewhere;
}

static void pause_ms(int64_t ms)
{
	nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

/* ---- settling ---- */

/* A connection of its own: what waits there keeps no append waiting. */
static int ask(struct deliver *dl, int32_t broker, struct client **c, int api_key, const void *request, void *response, int64_t timeout_ms, struct err *e)
{
	char address[ADDRESS_BYTES], name[60];
	int rc = 0;
	if (!*c) {
		if (!dl->calls.address(dl->calls.arg, broker, address, sizeof address))
			return err_set(e, ERR_OFFLINE, "the address of broker %" PRId32 " is not known", broker);
		snprintf(name, sizeof name, "broker-%" PRId32 "-mount", broker_id(dl->broker));
		rc = client_open_cancellable(c, address, name, (int)(timeout_ms < CONNECT_MS ? timeout_ms : CONNECT_MS), dl->stop, e);
	}
	if (rc < 0)
		return rc == ERR_TIMED_OUT ? ERR_OFFLINE : rc;
	client_set_timeout(*c, (int)timeout_ms);
	rc = client_call(*c, api_key, request, response, e);
	if (rc < 0) {
		client_close(*c);
		*c = NULL;
	}
	return rc;
}

/* The leader's high watermark, in that epoch. */
static int ask_high(struct deliver *dl, struct partition *p, struct client **c, int32_t leader, int32_t epoch, int64_t *high, struct err *e)
{
	struct list_offsets_request q;
	struct list_offsets_request_topic topic;
	struct list_offsets_request_partition part;
	struct list_offsets_response r;
	wire_init(&wire_list_offsets_request, &q);
	wire_init(&wire_list_offsets_request_topic, &topic);
	wire_init(&wire_list_offsets_request_partition, &part);
	part.partition_index = partition_index(p);
	part.current_leader_epoch = epoch;
	part.timestamp = -1; /* the end that consumers see */
	topic.name = wire_string(partition_topic_name(p));
	topic.partitions.v = &part;
	topic.partitions.n = 1;
	q.replica_id = -1;
	q.topics.v = &topic;
	q.topics.n = 1;
	int rc = ask(dl, leader, c, API_LIST_OFFSETS, &q, &r, ANSWER_MS, e);
	if (rc == 0 && (r.topics.n != 1 || r.topics.v[0].partitions.n != 1))
		rc = err_set(e, ERR_CORRUPT, "broker %" PRId32 " has answered another question", leader);
	if (rc < 0)
		return rc;
	const struct list_offsets_response_partition *a = &r.topics.v[0].partitions.v[0];
	*high = a->offset;
	return a->error_code ? err_set(e, a->error_code == KAFKA_FENCED_LEADER_EPOCH ? ERR_NOT_LEADER : ERR_OFFLINE, "%s", kafka_error_name(a->error_code)) : 0;
}

/* 1: its high watermark has passed `end`; 0: not yet, or it cannot be asked now. */
static int is_settled(struct deliver *dl, struct partition *p, struct client **c, int64_t end, int32_t weak_epoch, struct err *e)
{
	int32_t epoch, leader = leader_of(dl, p, &epoch);
	int64_t high = -1;
	if (epoch != weak_epoch)
		return err_set(e, ERR_NOT_LEADER, "another leads it by now: whether what was written with acks=1 stays is not known");
	if (leader == broker_id(dl->broker))
		return p->high_offset >= end;
	int rc = leader < 0 ? ERR_OFFLINE : ask_high(dl, p, c, leader, epoch, &high, e);
	return rc == ERR_NOT_LEADER ? rc : rc == 0 && high >= end;
}

int deliver_settle(struct deliver *dl, struct partition *p, struct err *e)
{
	mono_t until = mono_after_ms(mono_now(), dl->patience_ms);
	struct lane *l = lane_find(dl, p, false);
	struct client *c = NULL;
	if (!l)
		return 0;
	pthread_mutex_lock(&l->lock);
	int64_t end = l->weak_end;
	int32_t epoch = l->weak_epoch;
	pthread_mutex_unlock(&l->lock);
	int rc = end ? 0 : 1;
	while (rc == 0 && (rc = is_settled(dl, p, &c, end, epoch, e)) == 0) {
		if (mono_diff_ns(until, mono_now()) <= 0)
			rc = err_set(e, ERR_TIMED_OUT, "what was written with acks=1 is with its leader, but not with all replicas in sync within delivery.timeout.ms");
		else
			pause_ms(POLL_MS);
	}
	if (rc == 1 || rc == ERR_NOT_LEADER) { /* it is told once */
		pthread_mutex_lock(&l->lock);
		if (l->weak_end == end)
			l->weak_end = 0;
		pthread_mutex_unlock(&l->lock);
	}
	client_close(c);
	lane_put(l);
	return rc < 0 ? rc : 0;
}

/* ---- deleting messages ---- */

static int code_of_deletion(int16_t error, struct err *e)
{
	switch (error) {
	case KAFKA_NONE:
		return 0;
	case KAFKA_NOT_LEADER_OR_FOLLOWER:
	case KAFKA_UNKNOWN_TOPIC_OR_PARTITION: /* it was not told yet */
	case KAFKA_LEADER_NOT_AVAILABLE:
		return err_set(e, ERR_NOT_LEADER, "%s", kafka_error_name(error));
	case KAFKA_OFFSET_OUT_OF_RANGE:
		return err_set(e, ERR_OUT_OF_RANGE, "it does not go so far at its leader");
	case KAFKA_POLICY_VIOLATION:
		return err_set(e, ERR_DENIED, "its cleanup.policy does not allow it");
	case KAFKA_REQUEST_TIMED_OUT:
		return err_set(e, ERR_TIMED_OUT, "its replicas have not followed in time");
	default:
		return err_set(e, ERR_IO, "its leader says %s", kafka_error_name(error));
	}
}

static int delete_there(struct deliver *dl, struct partition *p, int32_t leader, int64_t offset, int64_t timeout_ms, struct err *e)
{
	struct delete_records_request q;
	struct delete_records_request_topic topic;
	struct delete_records_request_partition part = {.partition_index = partition_index(p), .offset = offset};
	wire_init(&wire_delete_records_request, &q);
	wire_init(&wire_delete_records_request_topic, &topic);
	topic.name = wire_string(partition_topic_name(p));
	topic.partitions.v = &part;
	topic.partitions.n = 1;
	q.topics.v = &topic;
	q.topics.n = 1;
	q.timeout_ms = (int32_t)timeout_ms;
	struct client *c = NULL;
	struct delete_records_response r;
	int rc = ask(dl, leader, &c, API_DELETE_RECORDS, &q, &r, timeout_ms + 1000, e);
	if (rc == 0 && (r.topics.n != 1 || r.topics.v[0].partitions.n != 1))
		rc = err_set(e, ERR_CORRUPT, "broker %" PRId32 " has answered another question", leader);
	if (rc == 0)
		rc = code_of_deletion(r.topics.v[0].partitions.v[0].error_code, e);
	client_close(c);
	return rc;
}

static int delete_here(struct partition *p, int64_t offset, struct err *e)
{
	struct visible v;
	int rc = partition_acquire(p, e);
	if (rc < 0)
		return rc;
	if (offset < 0 && (rc = partition_offsets(p, &v, e)) == 0)
		offset = v.end_offset;
	if (rc == 0)
		rc = partition_delete_before(p, offset, e);
	partition_release(p);
	return rc;
}

int deliver_delete_before(struct deliver *dl, struct partition *p, int64_t offset, struct err *e)
{
	int64_t timeout_ms = dl->patience_ms;
	mono_t until = mono_after_ms(mono_now(), timeout_ms);
	for (;;) {
		int32_t epoch, leader = dl->alone ? broker_id(dl->broker) : leader_of(dl, p, &epoch);
		int64_t left = mono_diff_ns(until, mono_now()) / 1000000;
		int rc = leader < 0 ? err_set(e, ERR_OFFLINE, "nobody leads it")
			 : leader == broker_id(dl->broker) ? delete_here(p, offset, e) : delete_there(dl, p, leader, offset, left > 0 ? left : 1, e);
		bool again = rc == ERR_NOT_LEADER || rc == ERR_OFFLINE;
		if (dl->alone || !again || topic_is_deleted(partition_topic(p)) || left <= LONGEST_PAUSE_MS)
			return rc;
		pause_ms(LONGEST_PAUSE_MS);
	}
}
