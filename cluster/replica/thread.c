/*
 * A thread that fetches from one leader. Its connection carries one request at a time; README.md has the round it goes.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

#include "cluster/broker.h"
#include "cluster/partition.h"
#include "cluster/replica/model.h"
#include "cluster/throttle.h"
#include "cluster/wire/errors.h"
#include "store/diag.h"

enum {
	IDLE_MS = 10000,  /* a thread that has nothing to fetch ends after that */
	SLOW_NS = 100000000, /* one that is throttled looks again after that */
	SETTLE_MS = 100,  /* a connection is given up for something new at most so often */
	ADDRESS_BYTES = 300, ROOM_AT_LEAST = 16,
};

/* ---- what is due ---- */

static bool differs(const struct followed *x)
{
	return x->state != FOLLOW_FETCH || !x->in_session || x->offset != x->session_offset || x->last_epoch != x->session_last_epoch || x->log_start != x->session_log_start || x->not_before.ns;
}

static void due(struct fetch_thread *t, struct followed *x)
{
	if (x->is_due)
		return;
	x->is_due = true;
	DL_APPEND2(t->due, x, due_prev, due_next);
}

static void not_due(struct fetch_thread *t, struct followed *x)
{
	if (!x->is_due)
		return;
	x->is_due = false;
	DL_DELETE2(t->due, x, due_prev, due_next);
}

/* Whether it may be asked for in that state now. */
static bool is_ready(const struct followed *x, enum follow_state state, mono_t now)
{
	return x->state == (int)state && mono_diff_ns(x->not_before, now) <= 0;
}

/* Until the first of those that pause goes on; at most `ms`. */
static int until_next(const struct fetch_thread *t, int ms)
{
	mono_t now = mono_now();
	for (const struct followed *x = t->due; x; x = x->due_next) {
		int64_t left = (mono_diff_ns(x->not_before, now) + 999999) / 1000000;
		if (x->not_before.ns && !x->gone && x->state != FOLLOW_GIVEN_UP && left < ms)
			ms = left > 0 ? (int)left : 0;
	}
	return ms;
}

/* ---- memory ---- */

static bool grow(void *array, size_t n, size_t size)
{
	void *more = realloc(*(void **)array, n * size);
	if (more)
		*(void **)array = more;
	return more;
}

static bool make_room(struct fetch_thread *t, size_t n)
{
	if (n <= t->room)
		return true;
	n = n < ROOM_AT_LEAST ? ROOM_AT_LEAST : n + n / 2;
	if (!grow(&t->asked, n, sizeof *t->asked) || !grow(&t->topics, n, sizeof *t->topics) || !grow(&t->partitions, n, sizeof *t->partitions) ||
	    !grow(&t->epoch_topics, n, sizeof *t->epoch_topics) || !grow(&t->epoch_partitions, n, sizeof *t->epoch_partitions))
		return false;
	t->room = n;
	return true;
}

/* ---- the session ---- */

static void begin_session_anew(struct fetch_thread *t)
{
	t->session_epoch = 0;
	t->forgotten_count = 0;
}

static void forget(struct fetch_thread *t, struct followed *x)
{
	if (!x->in_session)
		return;
	x->in_session = false;
	t->in_session--;
	if (t->forgotten_count == t->forgotten_room) {
		size_t n = t->forgotten_room ? 2 * t->forgotten_room : ROOM_AT_LEAST;
		if (!grow(&t->forgotten, n, sizeof *t->forgotten) || !grow(&t->forgotten_index, n, sizeof *t->forgotten_index)) {
			begin_session_anew(t); /* which does without it */
			return;
		}
		t->forgotten_room = n;
	}
	size_t i = t->forgotten_count++;
	t->forgotten_index[i] = x->key.partition;
	wire_init(&wire_fetch_request_forgotten_topic, &t->forgotten[i]);
	t->forgotten[i].topic_id = x->key.topic_id;
}

/* ---- partitions come and go ---- */

static void drop(struct fetch_thread *t, struct followed *x)
{
	forget(t, x);
	not_due(t, x);
	HASH_DELETE(by_key, t->table, x);
	DL_DELETE(t->list, x);
	t->listed--;
	followed_free(x);
}

/* What is gone comes first: what is new may be the same partition in another epoch. */
static void take_news(struct fetch_thread *t)
{
	struct followed *news, *gone, *next;
	thread_news(t, &news, &gone);
	for (struct followed *x = gone; x; x = next) {
		next = x->next_gone;
		if (x->prev)
			drop(t, x);
		else
			x->dropped = true;
	}
	for (struct followed *x = news; x; x = next) {
		next = x->next_new;
		if (x->dropped) {
			followed_free(x);
			continue;
		}
		x->refused_offset = -1;
		HASH_ADD(by_key, t->table, key, sizeof x->key, x);
		DL_APPEND(t->list, x);
		t->listed++;
		due(t, x);
	}
}

/* ---- waiting ---- */

static void clear_wake(struct fetch_thread *t)
{
	uint64_t count;
	if (read(t->wake, &count, sizeof count) < 0 && errno != EAGAIN)
		diag_error("fetcher: an eventfd cannot be read: %s", strerror(errno));
}

/* Until something new comes (where that is wanted), or the end. true: the time is over. */
static bool sleep_ms(struct fetch_thread *t, int ms, bool for_news)
{
	struct pollfd p[2] = {{.fd = t->f->stop, .events = POLLIN}, {.fd = for_news ? t->wake : -1, .events = POLLIN}};
	int n = poll(p, 2, ms);
	if (n > 0 && p[1].revents)
		clear_wake(t);
	return n == 0;
}

/* ---- the connection ---- */

static void disconnect(struct fetch_thread *t)
{
	client_close(t->client);
	t->client = NULL;
	begin_session_anew(t); /* what was told of it may not have come here */
}

static void broken(struct fetch_thread *t, int code, const struct err *e)
{
	disconnect(t);
	if (code == ERR_INTERRUPTED || t->f->stopping)
		return;
	if (t->told != code)
		diag_notice("fetching from broker %" PRId32 ": %s; it is tried again each %d ms", t->leader, e->text, t->f->backoff_ms);
	t->told = code;
	sleep_ms(t, t->f->backoff_ms > 0 ? t->f->backoff_ms : 1, false);
}

static int connect_it(struct fetch_thread *t, struct err *e)
{
	struct fetcher *f = t->f;
	char address[ADDRESS_BYTES], name[60];
	if (!f->calls.address(f->calls.arg, t->leader, address, sizeof address))
		return err_set(e, ERR_NOT_FOUND, "its address is not known");
	snprintf(name, sizeof name, "broker-%" PRId32 "-fetcher-%d", broker_id(f->broker), t->index); /* as Kafka names them */
	int rc = client_open_cancellable(&t->client, address, name, f->timeout_ms, f->stop, e);
	t->opened = mono_now();
	return rc;
}

/* ---- OffsetForLeaderEpoch ---- */

static size_t fill_epochs(struct fetch_thread *t, struct offset_for_leader_epoch_request *q)
{
	mono_t now = mono_now();
	size_t n = 0;
	wire_init(&wire_offset_for_leader_epoch_request, q);
	q->replica_id = broker_id(t->f->broker);
	q->topics.v = t->epoch_topics;
	for (struct followed *x = t->due; x && !t->f->stopping; x = x->due_next) {
		if (x->gone)
			continue;
		if (is_ready(x, FOLLOW_BEGIN, now))
			follow_begin(x);
		if (!is_ready(x, FOLLOW_ALIGN, now))
			continue;
		struct offset_for_leader_epoch_request_partition *p = &t->epoch_partitions[n];
		wire_init(&wire_offset_for_leader_epoch_request_partition, p);
		p->partition = x->key.partition;
		p->current_leader_epoch = x->epoch;
		p->leader_epoch = x->last_epoch;
		struct offset_for_leader_epoch_request_topic *topic = q->topics.n ? &q->topics.v[q->topics.n - 1] : NULL;
		if (!topic || !wire_string_eq(topic->topic, x->topic)) {
			topic = &q->topics.v[q->topics.n++];
			topic->topic = x->topic;
			topic->partitions.v = p;
			topic->partitions.n = 0;
		}
		topic->partitions.n++;
		t->asked[n++] = x;
	}
	return n;
}

/* Who was asked for that: in their order, as a rule. *at: where the last one was found. */
static struct followed *asked_for(struct fetch_thread *t, size_t n, size_t *at, struct wire_string topic, int32_t partition)
{
	for (size_t i = 0; i < n; i++) {
		size_t k = (*at + i) % n;
		struct followed *x = t->asked[k];
		if (x && x->key.partition == partition && wire_string_eq(x->topic, topic)) {
			t->asked[k] = NULL;
			*at = k + 1;
			return x;
		}
	}
	return NULL;
}

static void take_epochs(struct fetch_thread *t, size_t n)
{
	const struct offset_for_leader_epoch_response *r = &t->response.epochs;
	size_t at = 0;
	for (int32_t i = 0; i < r->topics.n; i++)
		for (int32_t k = 0; k < r->topics.v[i].partitions.n; k++) {
			const struct offset_for_leader_epoch_response_partition *a = &r->topics.v[i].partitions.v[k];
			struct followed *x = asked_for(t, n, &at, r->topics.v[i].topic, a->partition);
			if (x && !x->gone && !t->f->stopping)
				follow_epoch_answer(x, a);
		}
	for (size_t i = 0; i < n; i++)
		if (t->asked[i])
			follow_pause(t->asked[i]);
}

/* Until no log is to be aligned that may be. */
static int align_all(struct fetch_thread *t, struct err *e)
{
	struct offset_for_leader_epoch_request q;
	for (;;) {
		size_t n = fill_epochs(t, &q);
		if (!n || t->f->stopping)
			return 0;
		int rc = client_call(t->client, API_OFFSET_FOR_LEADER_EPOCH, &q, &t->response.epochs, e);
		if (rc < 0)
			return rc;
		take_epochs(t, n);
	}
}

/* ---- Fetch ---- */

static void add_to_fetch(struct fetch_thread *t, struct fetch_request *q, size_t *n, struct followed *x)
{
	struct fetch_request_partition *p = &t->partitions[(*n)++];
	struct fetch_request_topic *topic = q->topics.n ? &q->topics.v[q->topics.n - 1] : NULL;
	wire_init(&wire_fetch_request_partition, p);
	p->partition = x->key.partition;
	p->current_leader_epoch = x->epoch;
	p->fetch_offset = x->offset;
	p->last_fetched_epoch = x->last_epoch;
	p->log_start_offset = x->log_start;
	p->partition_max_bytes = t->f->max_bytes;
	if (!topic || memcmp(&topic->topic_id, &x->key.topic_id, sizeof topic->topic_id) != 0) {
		topic = &q->topics.v[q->topics.n++];
		wire_init(&wire_fetch_request_topic, topic);
		topic->topic_id = x->key.topic_id;
		topic->partitions.v = p;
	}
	topic->partitions.n++;
	t->in_session += !x->in_session;
	x->in_session = true;
	x->session_offset = x->offset;
	x->session_last_epoch = x->last_epoch;
	x->session_log_start = x->log_start;
	x->not_before = (mono_t){0};
}

/* Whether it has to wait for what was copied before to be paid for: it pauses so long. */
static bool is_slowed(struct fetch_thread *t, struct followed *x, mono_t now)
{
	int64_t wait_ns = x->state == FOLLOW_FETCH && !x->in_step && partition_is_throttled(x->p, THROTTLE_FOLLOWER) ? broker_throttle_wait_ns(t->f->broker, THROTTLE_FOLLOWER) : 0;
	if (wait_ns) { /* the rate may change meanwhile */
		x->not_before = (mono_t){now.ns + (wait_ns < SLOW_NS ? wait_ns : SLOW_NS)};
		due(t, x);
	}
	return wait_ns;
}

/* All that can be fetched, or what of that the session does not have as it is. What cannot be is forgotten there. */
static void fill_partitions(struct fetch_thread *t, struct fetch_request *q)
{
	mono_t now = mono_now();
	bool all = t->session_epoch == 0;
	size_t n = 0;
	struct followed *next;
	if (all)
		t->in_session = t->forgotten_count = 0;
	for (struct followed *x = all ? t->list : t->due; x; x = next) {
		next = all ? x->next : x->due_next;
		if (all)
			x->in_session = false;
		if (!x->gone && (is_ready(x, FOLLOW_FETCH, now) || is_ready(x, FOLLOW_ANEW, now)) && !is_slowed(t, x, now)) {
			add_to_fetch(t, q, &n, x);
			not_due(t, x);
		} else {
			forget(t, x);
			if (x->state == FOLLOW_GIVEN_UP)
				not_due(t, x);
		}
	}
	if (!all && t->session_epoch == 0) { /* there was no memory for what is to be forgotten */
		q->topics.n = 0;
		fill_partitions(t, q);
	}
}

/* What is to be forgotten comes last: filling adds to it. */
static void fill_fetch(struct fetch_thread *t, struct fetch_request *q)
{
	struct fetcher *f = t->f;
	wire_init(&wire_fetch_request, q);
	q->replica_state.replica_id = broker_id(f->broker);
	q->replica_state.replica_epoch = f->calls.broker_epoch(f->calls.arg);
	q->min_bytes = f->min_bytes;
	q->max_bytes = f->response_bytes;
	q->topics.v = t->topics;
	fill_partitions(t, q);
	q->max_wait_ms = until_next(t, f->wait_ms);
	q->session_id = t->session_id;
	q->session_epoch = t->session_epoch;
	for (size_t i = 0; i < t->forgotten_count; i++) {
		t->forgotten[i].partitions.v = &t->forgotten_index[i];
		t->forgotten[i].partitions.n = 1;
	}
	q->forgotten_topics_data.v = t->forgotten;
	q->forgotten_topics_data.n = (int32_t)t->forgotten_count;
}

enum waited { WAITED_ANSWER, WAITED_NEWS, WAITED_END, WAITED_LONG };

/* The leader may hold its answer back. */
static enum waited wait_for_answer(struct fetch_thread *t, int ms)
{
	mono_t until = mono_after_ms(mono_now(), ms), settled = mono_after_ms(t->opened, SETTLE_MS);
	bool news = false;
	for (;;) {
		mono_t now = mono_now();
		int64_t left = mono_diff_ns(until, now), settle = mono_diff_ns(settled, now);
		if (left <= 0)
			return WAITED_LONG;
		if (news && settle <= 0)
			return WAITED_NEWS;
		if (news && settle < left)
			left = settle;
		struct pollfd p[3] = {{.fd = client_fd(t->client), .events = POLLIN}, {.fd = t->f->stop, .events = POLLIN}, {.fd = t->wake, .events = POLLIN}};
		int n = poll(p, 3, (int)(left / 1000000) + 1);
		if (n > 0 && p[1].revents)
			return WAITED_END;
		if (n > 0 && p[0].revents)
			return WAITED_ANSWER;
		if (n > 0 && p[2].revents) {
			clear_wake(t);
			news = thread_has_news(t);
		}
	}
}

static void take_partitions(struct fetch_thread *t)
{
	const struct fetch_response *r = &t->response.fetch;
	for (int32_t i = 0; i < r->responses.n; i++) {
		const struct fetch_response_topic *topic = &r->responses.v[i];
		for (int32_t k = 0; k < topic->partitions.n; k++) {
			struct followed_key key;
			struct followed *x;
			memset(&key, 0, sizeof key);
			key.topic_id = topic->topic_id;
			key.partition = topic->partitions.v[k].partition_index;
			HASH_FIND(by_key, t->table, &key, sizeof key, x);
			if (!x || x->gone || !x->in_session || t->f->stopping)
				continue;
			follow_fetch_answer(x, &topic->partitions.v[k]);
			if (differs(x))
				due(t, x);
		}
	}
}

static int take_fetch(struct fetch_thread *t, struct err *e)
{
	const struct fetch_response *r = &t->response.fetch;
	if (r->error_code == KAFKA_FETCH_SESSION_ID_NOT_FOUND || r->error_code == KAFKA_INVALID_FETCH_SESSION_EPOCH || r->error_code == KAFKA_FETCH_SESSION_TOPIC_ID_ERROR) {
		bool refused = t->session_epoch == 0; /* though none was asked for */
		begin_session_anew(t);
		t->session_id = 0;
		return refused ? err_set(e, ERR_INVALID, "it answers a Fetch with %s", kafka_error_name(r->error_code)) : 0;
	}
	if (r->error_code)
		return err_set(e, ERR_OFFLINE, "it answers a Fetch with %s", kafka_error_name(r->error_code));
	t->session_id = r->session_id;
	t->session_epoch = !r->session_id ? 0 : t->session_epoch == INT32_MAX ? 1 : t->session_epoch + 1; /* 0: it has no room for another */
	t->forgotten_count = 0;
	t->told = 0;
	take_partitions(t);
	return 0;
}

static int fetch(struct fetch_thread *t, struct err *e)
{
	struct fetch_request q;
	fill_fetch(t, &q);
	if (!t->in_session) { /* all of them pause, or wait for another role */
		sleep_ms(t, until_next(t, IDLE_MS), true);
		return 0;
	}
	int rc = client_send(t->client, API_FETCH, -1, &q, e);
	if (rc < 0)
		return rc;
	switch (wait_for_answer(t, (q.max_wait_ms > 0 ? q.max_wait_ms : 0) + t->f->timeout_ms)) {
	case WAITED_ANSWER:
		rc = client_receive(t->client, API_FETCH, &t->response.fetch, e);
		return rc < 0 ? rc : take_fetch(t, e);
	case WAITED_NEWS: /* the leader answers requests in turn: on another connection nothing has to wait for this one */
		disconnect(t);
		return 0;
	case WAITED_END:
		return 0;
	case WAITED_LONG:
		break;
	}
	return err_set(e, ERR_TIMED_OUT, "no answer to a Fetch within %d ms", t->f->timeout_ms);
}

/* ---- the round ---- */

/* false: it has ended. */
static bool rest(struct fetch_thread *t)
{
	disconnect(t);
	return !(sleep_ms(t, IDLE_MS, true) && thread_may_end(t));
}

static void go_round(struct fetch_thread *t)
{
	struct err e = ERR_INIT;
	int rc = make_room(t, t->listed) ? 0 : err_set(&e, ERR_NO_MEMORY, "no memory for %zu partitions", t->listed);
	if (rc == 0 && !t->client)
		rc = connect_it(t, &e);
	if (rc == 0)
		rc = align_all(t, &e);
	if (rc == 0 && !t->f->stopping)
		rc = fetch(t, &e);
	if (rc < 0)
		broken(t, rc, &e);
}

void *thread_run(void *arg)
{
	struct fetch_thread *t = arg;
	bool on = true;
	while (on && !t->f->stopping) {
		take_news(t);
		if (t->listed)
			go_round(t);
		else
			on = rest(t);
	}
	client_close(t->client);
	t->client = NULL;
	HASH_CLEAR(by_key, t->table);
	while (t->list) {
		struct followed *x = t->list;
		DL_DELETE(t->list, x);
		followed_free(x);
	}
	return NULL;
}
