#include "cluster/control/sender.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cluster/wire/client.h"
#include "store/clock.h"
#include "store/diag.h"

enum { CONNECT_MS = 2000, REFUSED_MS = 500, FIRST_PAUSE_MS = 20, LONGEST_PAUSE_MS = 500 };

struct sender {
	struct sender_options o;
	char *address;
	pthread_t thread;
	int wake;                   /* an eventfd: there is a job, or the end */
	atomic_bool ending;
	/* The queue's thread: */
	bool busy;
	/* What is to be sent; its thread's from sender_send until it is reported. */
	struct arena arena;
	int api_key;
	void *message;
	atomic_bool has_job;
	/* What became of it; the queue's thread's until `taken`. */
	struct queue_event report, refusal, end;
	const void *response;
	pthread_mutex_t lock;       /* of what is below; a leaf */
	pthread_cond_t changed;
	bool taken;
	int fd;                     /* the connection, while it is open; -1 */
	/* Its thread's: */
	struct client *client;
	bool told_refusal;
	int pause_ms;
	max_align_t room[64];       /* of a response */
};

/* ---- on the queue's thread ---- */

static struct sender *of_event(struct queue_event *ev, size_t offset)
{
	return (struct sender *)((char *)ev - offset);
}

static void on_report(struct queue_event *ev)
{
	struct sender *s = of_event(ev, offsetof(struct sender, report));
	const void *response = s->response;
	s->busy = false;
	if (!s->ending)
		s->o.answered(s->o.arg, s, response);
	pthread_mutex_lock(&s->lock);
	s->taken = true;
	pthread_cond_signal(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

static void on_refusal(struct queue_event *ev)
{
	struct sender *s = of_event(ev, offsetof(struct sender, refusal));
	if (!s->ending)
		s->o.refused(s->o.arg, s);
}

static void on_end(struct queue_event *ev)
{
	struct sender *s = of_event(ev, offsetof(struct sender, end));
	pthread_join(s->thread, NULL);
	s->o.gone(s->o.arg);
	arena_release(&s->arena);
	pthread_mutex_destroy(&s->lock);
	pthread_cond_destroy(&s->changed);
	close(s->wake);
	free(s->address);
	free(s);
}

/* ---- on its own ---- */

static void set_fd(struct sender *s, int fd)
{
	pthread_mutex_lock(&s->lock);
	s->fd = fd;
	pthread_mutex_unlock(&s->lock);
}

static void disconnect(struct sender *s)
{
	set_fd(s, -1);
	client_close(s->client);
	s->client = NULL;
}

static bool connect_it(struct sender *s)
{
	struct err e = ERR_INIT;
	char name[40];
	snprintf(name, sizeof name, "controller-to-%" PRId32, s->o.broker);
	if (client_open(&s->client, s->address, name, CONNECT_MS, &e) < 0) {
		diag_debug("controller: broker %" PRId32 ": %s", s->o.broker, e.text);
		if (!s->told_refusal && !s->ending && client_refuses(s->address, REFUSED_MS)) {
			s->told_refusal = true;
			queue_post(s->o.queue, &s->refusal);
		}
		return false;
	}
	client_set_timeout(s->client, s->o.timeout_ms);
	set_fd(s, client_fd(s->client));
	s->pause_ms = FIRST_PAUSE_MS;
	return true;
}

static void report(struct sender *s, const void *response)
{
	s->has_job = false;
	s->response = response;
	pthread_mutex_lock(&s->lock);
	s->taken = false;
	pthread_mutex_unlock(&s->lock);
	queue_post(s->o.queue, &s->report);
	pthread_mutex_lock(&s->lock);
	while (!s->taken)
		pthread_cond_wait(&s->changed, &s->lock);
	pthread_mutex_unlock(&s->lock);
}

static void do_job(struct sender *s)
{
	struct err e = ERR_INIT;
	int rc = client_call(s->client, s->api_key, s->message, s->room, &e);
	if (rc < 0 && !s->ending)
		diag_info("controller: broker %" PRId32 ": %s: %s", s->o.broker, api_find(s->api_key)->name, e.text);
	if (rc < 0)
		disconnect(s);
	report(s, rc < 0 ? NULL : s->room);
}

/* Until somebody wakes it, or the connection breaks. */
static void wait_for_something(struct sender *s, int timeout_ms)
{
	struct pollfd p[2] = {{.fd = s->wake, .events = POLLIN}, {.fd = s->client ? client_fd(s->client) : -1, .events = POLLIN}};
	uint64_t count;
	int n = poll(p, 2, timeout_ms);
	if (n > 0 && p[0].revents && read(s->wake, &count, sizeof count) < 0 && errno != EAGAIN)
		diag_error("controller: an eventfd cannot be read: %s", strerror(errno));
	if (n > 0 && p[1].revents)
		disconnect(s);
}

/* Before another attempt: a job that comes meanwhile is no reason to hurry. */
static void pause_a_while(struct sender *s)
{
	mono_t until = mono_after_ms(mono_now(), s->pause_ms);
	for (int64_t left; !s->ending && (left = mono_diff_ns(until, mono_now())) > 0;)
		wait_for_something(s, (int)(left / 1000000) + 1);
	s->pause_ms = s->pause_ms * 2 < LONGEST_PAUSE_MS ? s->pause_ms * 2 : LONGEST_PAUSE_MS;
}

static void *run(void *arg)
{
	struct sender *s = arg;
	s->pause_ms = FIRST_PAUSE_MS;
	while (!s->ending) {
		if (!s->client && !connect_it(s)) {
			if (s->has_job && !s->ending)
				report(s, NULL); /* it will be made anew, of what is true then */
			pause_a_while(s);
		} else if (s->has_job) {
			do_job(s);
		} else {
			wait_for_something(s, -1);
		}
	}
	disconnect(s);
	queue_post(s->o.queue, &s->end);
	return NULL;
}

/* ---- life ---- */

static void wake(struct sender *s)
{
	if (write(s->wake, &(uint64_t){1}, sizeof(uint64_t)) < 0)
		diag_error("controller: an eventfd cannot be written: %s", strerror(errno));
}

static char *address_of(const char *host, int32_t port)
{
	char *text;
	return asprintf(&text, strchr(host, ':') ? "[%s]:%" PRId32 : "%s:%" PRId32, host, port) < 0 ? NULL : text; /* brackets for IPv6 */
}

int sender_new(struct sender **out, const struct sender_options *o, struct err *e)
{
	struct sender *s = calloc(1, sizeof *s);
	char *address = address_of(o->host, o->port);
	*out = NULL;
	if (!s || !address) {
		free(address);
		free(s);
		return err_set(e, ERR_NO_MEMORY, "no memory for a connection to broker %" PRId32, o->broker);
	}
	s->o = *o;
	s->o.host = NULL;
	s->address = address;
	s->fd = -1;
	s->report.run = on_report;
	s->refusal.run = on_refusal;
	s->end.run = on_end;
	arena_init(&s->arena, 0);
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->changed, NULL);
	s->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int rc = s->wake < 0 ? errno : pthread_create(&s->thread, NULL, run, s);
	if (rc) {
		if (s->wake >= 0)
			close(s->wake);
		free(s->address);
		free(s);
		return err_sys(e, rc == EAGAIN ? EMFILE : rc, "cannot start a thread for broker %" PRId32, o->broker);
	}
	*out = s;
	return 0;
}

void sender_end(struct sender *s)
{
	s->ending = true;
	pthread_mutex_lock(&s->lock);
	if (s->fd >= 0)
		shutdown(s->fd, SHUT_RDWR);
	pthread_mutex_unlock(&s->lock);
	wake(s);
}

int32_t sender_broker(const struct sender *s)
{
	return s->o.broker;
}

int64_t sender_epoch(const struct sender *s)
{
	return s->o.epoch;
}

bool sender_goes_to(const struct sender *s, const char *host, int32_t port)
{
	char *address = address_of(host, port);
	bool same = address && strcmp(address, s->address) == 0;
	free(address);
	return same;
}

bool sender_is_idle(const struct sender *s)
{
	return !s->busy;
}

/* A message is copied by its own table. */
static int copy_message(struct sender *s, const struct api *api, const void *message, struct err *e)
{
	struct wire_out out;
	wire_out_init(&out, 0);
	arena_reset(&s->arena);
	int rc = wire_encode(api->request, api->max, message, &out, e);
	uint8_t *bytes = rc == 0 ? arena_get(&s->arena, out.bytes.len, e) : NULL;
	s->message = bytes ? arena_get(&s->arena, api->request->size, e) : NULL;
	if (s->message) {
		memcpy(bytes, out.bytes.data, out.bytes.len);
		ssize_t used = wire_decode(api->request, api->max, bytes, out.bytes.len, &s->arena, s->message, e);
		rc = used < 0 ? (int)used : 0;
	} else if (rc == 0) {
		rc = ERR_NO_MEMORY;
	}
	wire_out_release(&out);
	return rc;
}

int sender_send(struct sender *s, int api_key, const void *message, struct err *e)
{
	int rc = copy_message(s, api_find(api_key), message, e);
	if (rc < 0)
		return rc;
	s->api_key = api_key;
	s->busy = true;
	s->has_job = true;
	wake(s);
	return 0;
}
