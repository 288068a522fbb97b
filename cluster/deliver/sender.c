/*
 * A sender: a thread with one connection to one broker. It takes from the lanes that are ready for it, one batch of each into a Produce, and keeps up to WINDOW requests under way; a broker
 * answers them in turn, so what one lane has sent comes to its log in order.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "cluster/deliver/model.h"
#include "cluster/wire/errors.h"
#include "store/diag.h"

enum {
	CONNECT_MS = 2000,
	PRODUCE_MS = 2000,       /* a leader waits so long for its replicas, then it is asked again: one partition must not hold up the others for longer */
	OVERDUE_MS = PRODUCE_MS + 1000,
	LOOK_MS = 100,           /* while answers are due: whether others lead by now */
	IDLE_MS = 10000,
	REQUEST_BYTES = 1 << 20, /* no further batch is put into a request then */
	ADDRESS_BYTES = 300,
};

static void ring(int fd)
{
	if (write(fd, &(uint64_t){1}, sizeof(uint64_t)) < 0 && errno != EAGAIN)
		diag_error("deliver: an eventfd cannot be written: %s", strerror(errno));
}

/* ---- what it is given ---- */

/* locks: dl->lock. */
static void put_ready(struct sender *s, struct lane *l)
{
	l->sender = s;
	l->ready_next = NULL;
	*s->ready_last = l;
	s->ready_last = &l->ready_next;
}

/* What is new. */
static void take_news(struct sender *s)
{
	pthread_mutex_lock(&s->dl->lock);
	*s->work_last = s->ready;
	if (s->ready)
		s->work_last = s->ready_last;
	s->ready = NULL;
	s->ready_last = &s->ready;
	pthread_mutex_unlock(&s->dl->lock);
}

/* A lane is taken from, and may come again: from here on whoever has more for it says so. */
static struct lane *take_work(struct sender *s)
{
	struct lane *l = s->work;
	if (!l)
		return NULL;
	pthread_mutex_lock(&s->dl->lock);
	s->work = l->ready_next;
	if (!s->work)
		s->work_last = &s->work;
	l->sender = NULL;
	l->users++; /* it may be swept else */
	s->dl->users++;
	pthread_mutex_unlock(&s->dl->lock);
	return l;
}

/* ---- the connection ---- */

static struct flight *flight_at(struct sender *s, int i)
{
	return &s->flight[(s->first_flight + i) % WINDOW];
}

/* What is under way has an unknown end: lanes find out, where they send it next. */
static void disconnect(struct sender *s, const char *why)
{
	client_close(s->client);
	s->client = NULL;
	while (s->flights) {
		struct flight *f = flight_at(s, 0);
		s->first_flight = (s->first_flight + 1) % WINDOW;
		s->flights--;
		for (size_t i = 0; i < f->count; i++)
			lane_result(f->parcel[i], ERR_TIMED_OUT, -1, why);
		f->count = 0;
	}
}

static void broken(struct sender *s, const struct err *e)
{
	if (!s->dl->stopping && s->told != e->code)
		diag_notice("what is written here for broker %" PRId32 " waits: %s", s->broker, e->text);
	s->told = e->code;
	disconnect(s, e->text);
}

/* false: there is no connection; s->refused says why. */
static bool connect_it(struct sender *s)
{
	struct deliver *dl = s->dl;
	char address[ADDRESS_BYTES], name[60];
	if (s->client)
		return true;
	if (mono_diff_ns(s->not_before, mono_now()) > 0)
		return false;
	s->refused = (struct err)ERR_INIT;
	snprintf(name, sizeof name, "broker-%" PRId32 "-mount", broker_id(dl->broker));
	int rc = dl->calls.address(dl->calls.arg, s->broker, address, sizeof address)
			 ? client_open_cancellable(&s->client, address, name, CONNECT_MS, dl->stop, &s->refused)
			 : err_set(&s->refused, ERR_NOT_FOUND, "the address of broker %" PRId32 " is not known", s->broker);
	if (rc == 0) {
		client_set_timeout(s->client, OVERDUE_MS);
		if (s->told)
			diag_notice("broker %" PRId32 " is there again: what waited for it goes on", s->broker);
		s->told = 0;
		return true;
	}
	broken(s, &s->refused);
	s->not_before = mono_after_ms(mono_now(), LONGEST_PAUSE_MS / 2);
	return false;
}

static void refuse_all(struct sender *s)
{
	struct lane *l;
	while ((l = take_work(s))) {
		lane_unreachable(l, &s->refused);
		lane_put(l);
	}
}

/* ---- sending ---- */

static bool have_room(struct sender *s, struct flight *f, size_t n)
{
	if (n > f->room) {
		size_t room = f->room ? 2 * f->room : 16;
		struct parcel **more = realloc(f->parcel, room * sizeof *more);
		if (!more)
			return false;
		f->parcel = more;
		f->room = room;
	}
	if (n > s->room) {
		size_t room = s->room ? 2 * s->room : 16;
		struct produce_request_topic *topics = realloc(s->topics, room * sizeof *topics);
		if (topics)
			s->topics = topics;
		struct produce_request_partition *partitions = topics ? realloc(s->partitions, room * sizeof *partitions) : NULL;
		if (!partitions)
			return false;
		s->partitions = partitions;
		s->room = room;
	}
	return true;
}

static void put_into(struct sender *s, struct flight *f, struct parcel *x)
{
	struct produce_request_topic *t = &s->topics[f->count];
	struct produce_request_partition *p = &s->partitions[f->count];
	wire_init(&wire_produce_request_topic, t);
	wire_init(&wire_produce_request_partition, p);
	t->name = wire_string(topic_name(x->lane->topic));
	memcpy(&t->topic_id, x->lane->key.topic_id, sizeof t->topic_id);
	p->index = x->lane->key.partition;
	p->records.p = record_set_bytes(&x->view);
	p->records.n = (int32_t)x->view.lent_bytes;
	f->parcel[f->count++] = x;
}

/* One batch of each lane that is ready; those that have more come again. */
static void fill(struct sender *s, struct flight *f, int *acks)
{
	struct lane *l, *later = NULL, **last = &later;
	size_t bytes = 0;
	while (bytes < REQUEST_BYTES && have_room(s, f, f->count + 1) && (l = take_work(s))) {
		bool more;
		struct parcel *x = lane_take(l, s->broker, acks, &more);
		if (x) {
			put_into(s, f, x);
			bytes += x->view.lent_bytes;
		}
		pthread_mutex_lock(&s->dl->lock);
		if (more && !l->sender) { /* else somebody has said so meanwhile */
			l->sender = s;
			l->ready_next = NULL;
			*last = l;
			last = &l->ready_next;
		}
		pthread_mutex_unlock(&s->dl->lock);
		lane_put(l);
	}
	if (!later)
		return;
	pthread_mutex_lock(&s->dl->lock);
	*s->work_last = later;
	s->work_last = last;
	pthread_mutex_unlock(&s->dl->lock);
}

/* One request. false: nothing is to be sent, or it could not be. */
static bool send_one(struct sender *s)
{
	struct flight *f = flight_at(s, s->flights);
	struct produce_request q;
	struct err e = ERR_INIT;
	int acks = 0;
	f->count = 0;
	fill(s, f, &acks);
	if (!f->count)
		return false;
	s->flights++;
	f->sent = mono_now();
	for (size_t i = 0; i < f->count; i++) {
		s->topics[i].partition_data.v = &s->partitions[i];
		s->topics[i].partition_data.n = 1;
	}
	wire_init(&wire_produce_request, &q);
	q.acks = (int16_t)acks;
	q.timeout_ms = PRODUCE_MS;
	q.topic_data.v = s->topics;
	q.topic_data.n = (int32_t)f->count;
	if (client_send(s->client, API_PRODUCE, -1, &q, &e) == 0)
		return true;
	broken(s, &e);
	return false;
}

/* ---- answers ---- */

static int code_of(int16_t error)
{
	switch (error) {
	case KAFKA_NONE:
		return 0;
	case KAFKA_UNKNOWN_TOPIC_OR_PARTITION:
	case KAFKA_UNKNOWN_TOPIC_ID:
	case KAFKA_INCONSISTENT_TOPIC_ID:
	case KAFKA_LEADER_NOT_AVAILABLE:
		return ERR_NOT_FOUND;
	case KAFKA_NOT_LEADER_OR_FOLLOWER:
	case KAFKA_FENCED_LEADER_EPOCH:
	case KAFKA_UNKNOWN_LEADER_EPOCH:
		return ERR_NOT_LEADER;
	case KAFKA_KAFKA_STORAGE_ERROR:
		return ERR_OFFLINE;
	case KAFKA_NOT_ENOUGH_REPLICAS:
		return ERR_NOT_ENOUGH_REPLICAS;
	case KAFKA_NOT_ENOUGH_REPLICAS_AFTER_APPEND:
		return ERR_NOT_ENOUGH_AFTER;
	case KAFKA_MESSAGE_TOO_LARGE:
	case KAFKA_RECORD_LIST_TOO_LARGE:
		return ERR_TOO_LARGE;
	case KAFKA_OUT_OF_ORDER_SEQUENCE_NUMBER:
	case KAFKA_UNKNOWN_PRODUCER_ID:
		return ERR_SEQUENCE;
	case KAFKA_INVALID_PRODUCER_EPOCH:
	case KAFKA_PRODUCER_FENCED:
		return ERR_PRODUCER_FENCED;
	default:
		return kafka_error_retriable(error) || error == KAFKA_UNKNOWN_SERVER_ERROR ? ERR_TIMED_OUT : ERR_INVALID;
	}
}

static bool fits(const struct flight *f, const struct produce_response *r)
{
	bool good = (size_t)r->responses.n == f->count;
	for (size_t i = 0; good && i < f->count; i++)
		good = r->responses.v[i].partition_responses.n == 1 && r->responses.v[i].partition_responses.v[0].index == f->parcel[i]->lane->key.partition;
	return good;
}

static void take_answer(struct sender *s)
{
	struct flight *f = flight_at(s, 0);
	struct produce_response r;
	struct err e = ERR_INIT;
	int rc = client_receive(s->client, API_PRODUCE, &r, &e);
	if (rc == 0 && !fits(f, &r))
		err_set(&e, rc = ERR_CORRUPT, "broker %" PRId32 " has answered something else than was asked", s->broker);
	if (rc < 0) {
		broken(s, &e);
		return;
	}
	s->first_flight = (s->first_flight + 1) % WINDOW;
	s->flights--;
	for (size_t i = 0; i < f->count; i++) {
		const struct produce_response_partition *a = &r.responses.v[i].partition_responses.v[0];
		struct parcel *x = f->parcel[i];
		int code = code_of(a->error_code);
		int64_t end = code == 0 && a->base_offset >= 0 ? a->base_offset + x->records : -1;
		lane_result(x, code, end, kafka_error_name(a->error_code));
	}
	f->count = 0;
}

/* An answer that is not there: it is late, or somebody else has taken over. */
static void look_around(struct sender *s)
{
	struct err e = ERR_INIT;
	struct flight *oldest = flight_at(s, 0);
	if (mono_diff_ns(mono_now(), oldest->sent) > OVERDUE_MS * INT64_C(1000000))
		err_set(&e, ERR_TIMED_OUT, "broker %" PRId32 " does not answer", s->broker);
	for (int i = 0; i < s->flights && !e.code; i++)
		for (size_t k = 0; k < flight_at(s, i)->count && !e.code; k++)
			if (lane_has_moved(flight_at(s, i)->parcel[k]->lane, s->broker))
				err_set(&e, ERR_NOT_LEADER, "broker %" PRId32 " does not lead any more what was sent to it", s->broker);
	if (e.code)
		broken(s, &e);
}

/* ---- the thread ---- */

/* Until something is to be done. true: nothing was, for as long as that may be. */
static bool wait_for_something(struct sender *s)
{
	struct pollfd p[3] = {{.fd = s->dl->stop, .events = POLLIN}, {.fd = s->wake, .events = POLLIN}, {.fd = s->client ? client_fd(s->client) : -1, .events = POLLIN}};
	uint64_t count;
	int n = poll(p, 3, s->flights ? LOOK_MS : IDLE_MS);
	if (n > 0 && p[1].revents && read(s->wake, &count, sizeof count) < 0 && errno != EAGAIN)
		diag_error("deliver: an eventfd cannot be read: %s", strerror(errno));
	if (n > 0 && p[2].revents) {
		if (s->flights)
			take_answer(s);
		else
			disconnect(s, "it has closed the connection");
	}
	if (s->flights && mono_diff_ns(mono_now(), flight_at(s, 0)->sent) > LOOK_MS * INT64_C(1000000))
		look_around(s);
	return n == 0 && !s->flights;
}

/* It has nothing left: it is among the ended then. */
static bool may_end(struct sender *s)
{
	struct deliver *dl = s->dl;
	pthread_mutex_lock(&dl->lock);
	bool may = !s->ready && !dl->stopping;
	if (may) {
		struct sender **at = &dl->senders;
		while (*at != s)
			at = &(*at)->next;
		*at = s->next;
		s->next = dl->ended;
		dl->ended = s;
	}
	pthread_mutex_unlock(&dl->lock);
	return may;
}

static void *run(void *arg)
{
	struct sender *s = arg;
	pthread_setname_np(pthread_self(), "deliver");
	while (!s->dl->stopping) {
		take_news(s);
		if (s->work && !connect_it(s))
			refuse_all(s);
		while (s->client && s->work && s->flights < WINDOW && send_one(s))
			;
		if (s->work && s->flights < WINDOW) { /* the connection broke, or there is no memory */
			if (s->client)
				refuse_all(s);
			continue;
		}
		if (wait_for_something(s) && may_end(s))
			break;
	}
	disconnect(s, "this broker stops");
	return NULL;
}

/* ---- from outside ---- */

static void sender_free(struct sender *s)
{
	for (int i = 0; i < WINDOW; i++)
		free(s->flight[i].parcel);
	free(s->topics);
	free(s->partitions);
	if (s->wake >= 0)
		close(s->wake);
	free(s);
}

static void join(struct sender *s)
{
	while (s) {
		struct sender *next = s->next;
		pthread_join(s->id, NULL);
		sender_free(s);
		s = next;
	}
}

/* locks: dl->lock. NULL: there is no memory, or no thread to be had. */
static struct sender *sender_for(struct deliver *dl, int32_t broker)
{
	struct sender *s = dl->senders;
	while (s && s->broker != broker)
		s = s->next;
	if (s)
		return s;
	s = calloc(1, sizeof *s);
	if (!s)
		return NULL;
	s->dl = dl;
	s->broker = broker;
	s->ready_last = &s->ready;
	s->work_last = &s->work;
	s->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->wake < 0 || pthread_create(&s->id, NULL, run, s) != 0) {
		sender_free(s);
		return NULL;
	}
	s->next = dl->senders;
	dl->senders = s;
	return s;
}

void sender_ready(struct deliver *dl, int32_t broker, struct lane *l)
{
	pthread_mutex_lock(&dl->lock);
	struct sender *s = dl->stopping ? NULL : sender_for(dl, broker), *ended = dl->ended;
	dl->ended = NULL;
	bool put = s && l->sender != s;
	if (put && !l->sender) {
		put_ready(s, l);
		ring(s->wake);
	}
	pthread_mutex_unlock(&dl->lock);
	join(ended);
	if (!s)
		lane_unreachable(l, NULL);
}

void senders_end(struct deliver *dl)
{
	pthread_mutex_lock(&dl->lock);
	dl->stopping = true;
	ring(dl->stop);
	struct sender *running = dl->senders, *ended = dl->ended;
	dl->senders = dl->ended = NULL;
	pthread_mutex_unlock(&dl->lock);
	join(running);
	join(ended);
}
