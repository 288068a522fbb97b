#include "cluster/wire/client.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "cluster/wire/errors.h"
#include "store/clock.h"

enum { READ_STEP = 1 << 20, BEGIN_BYTES = 16 << 10 }; /* memory follows the bytes that come, not the length that is claimed; so much is read with that length */

/* A request without its response. */
struct waiting {
	const struct api *api;
	int16_t version;
	int32_t correlation_id;
};

/* What the broker has of an API: nothing if max < min. */
struct range {
	int16_t min, max;
};

struct client {
	int fd;
	int cancel_fd;   /* -1: none */
	int timeout_ms;
	char *peer;      /* as the caller named it */
	char *client_id;
	int broken;      /* the code of what broke the connection, 0 while it works */
	int32_t next_correlation_id;
	struct waiting *waiting; /* a ring */
	size_t n_waiting, first_waiting, cap_waiting;
	struct wire_out out;
	struct wr in;
	struct arena arena;
	struct range *ranges; /* by key, n_ranges of them */
	int n_ranges;
};

/* Addresses */

/* Divides "host:port"; a bare IPv6 address has several colons and no port. host: of the address's size. */
static int divide(const char *address, char *host, char *port, size_t port_size, struct err *e)
{
	const char *colon = strrchr(address, ':'), *end = address + strlen(address);
	const char *from = address, *to = end, *number = NULL;
	if (*address == '[') {
		from++;
		to = strchr(address, ']');
		if (!to || (to[1] && to[1] != ':'))
			return err_set(e, ERR_INVALID, "%s: not an address; in brackets an IPv6 address is meant, as in [::1]:9092", address);
		number = to[1] ? to + 2 : NULL;
	} else if (colon && strchr(address, ':') == colon) {
		to = colon;
		number = colon + 1;
	}
	long value = CLIENT_PORT;
	if (number) {
		char *rest;
		value = *number >= '0' && *number <= '9' ? strtol(number, &rest, 10) : 0;
		if (value < 1 || value > 65535 || *rest)
			return err_set(e, ERR_INVALID, "%s: %s is not a port", address, *number ? number : "nothing");
	}
	if (from == to)
		return err_set(e, ERR_INVALID, "\"%s\": there is no host in it", address);
	memcpy(host, from, (size_t)(to - from));
	host[to - from] = '\0';
	snprintf(port, port_size, "%ld", value);
	return 0;
}

static int resolve(const char *address, struct addrinfo **found, struct err *e)
{
	char port[16], *host = malloc(strlen(address) + 1);
	if (!host)
		return err_set(e, ERR_NO_MEMORY, "%s: no memory", address);
	int rc = divide(address, host, port, sizeof port, e);
	if (rc == 0) {
		struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
		int why = getaddrinfo(host, port, &hints, found);
		if (why == EAI_SYSTEM)
			rc = err_sys(e, errno, "%s", address);
		else if (why)
			rc = err_set(e, why == EAI_MEMORY ? ERR_NO_MEMORY : ERR_NOT_FOUND, "%s: %s", address, gai_strerror(why));
	}
	free(host);
	return rc;
}

/* The socket, non-blocking; every wait is a poll with what is left of the time */

static int wait_for(int fd, int cancel_fd, short events, mono_t deadline, const char *peer, const char *what, struct err *e)
{
	for (;;) {
		int64_t left_ns = mono_diff_ns(deadline, mono_now());
		if (left_ns <= 0)
			return err_set(e, ERR_TIMED_OUT, "%s: timed out while %s", peer, what);
		int64_t ms = left_ns / 1000000 + 1;
		struct pollfd p[2] = {{.fd = fd, .events = events}, {.fd = cancel_fd, .events = POLLIN}};
		int n = poll(p, 2, ms > INT_MAX ? INT_MAX : (int)ms);
		if (n > 0 && p[1].revents)
			return err_set(e, ERR_INTERRUPTED, "%s: given up while %s", peer, what);
		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return err_sys(e, errno, "%s: poll", peer);
	}
}

static int offline(struct err *e, int errnum, const char *peer)
{
	int rc = err_sys(e, errnum, "%s", peer);
	if (rc != ERR_IO)
		return rc;
	if (e)
		e->code = ERR_OFFLINE;
	return ERR_OFFLINE;
}

/* Returns the descriptor. *refused: the host is there, and nobody listens. */
static int connect_one(const struct addrinfo *a, int cancel_fd, mono_t deadline, const char *peer, bool *refused, struct err *e)
{
	int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_sys(e, errno, "%s: socket", peer);
	int rc = 0, why = connect(fd, a->ai_addr, a->ai_addrlen) < 0 ? errno : 0;
	if (why == EINPROGRESS || why == EINTR) {
		socklen_t n = sizeof why;
		why = 0;
		rc = wait_for(fd, cancel_fd, POLLOUT, deadline, peer, "connecting", e);
		if (rc == 0 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &why, &n) < 0)
			why = errno;
	}
	if (rc == 0 && why)
		rc = offline(e, why, peer);
	*refused = why == ECONNREFUSED;
	if (rc < 0) {
		close(fd);
		return rc;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
	return fd;
}

static int connect_any(struct client *c, mono_t deadline, struct err *e)
{
	struct addrinfo *all = NULL;
	int rc = resolve(c->peer, &all, e);
	if (rc < 0)
		return rc;
	for (const struct addrinfo *a = all; a; a = a->ai_next) {
		bool refused;
		rc = connect_one(a, c->cancel_fd, deadline, c->peer, &refused, e);
		if (rc >= 0 || rc == ERR_TIMED_OUT || rc == ERR_INTERRUPTED)
			break;
	}
	freeaddrinfo(all);
	if (rc < 0)
		return rc;
	c->fd = rc;
	return 0;
}

bool client_refuses(const char *address, int timeout_ms)
{
	struct addrinfo *all = NULL;
	mono_t deadline = mono_after_ms(mono_now(), timeout_ms);
	bool refused = resolve(address, &all, NULL) == 0;
	for (const struct addrinfo *a = all; a && refused; a = a->ai_next) {
		int fd = connect_one(a, -1, deadline, address, &refused, NULL);
		if (fd >= 0)
			close(fd);
	}
	if (all)
		freeaddrinfo(all);
	return refused;
}

static int send_all(struct client *c, const uint8_t *p, size_t n, mono_t deadline, struct err *e)
{
	while (n) {
		ssize_t sent = send(c->fd, p, n, MSG_NOSIGNAL);
		if (sent >= 0) {
			p += sent;
			n -= (size_t)sent;
		} else if (errno == EAGAIN) {
			int rc = wait_for(c->fd, c->cancel_fd, POLLOUT, deadline, c->peer, "sending a request", e);
			if (rc < 0)
				return rc;
		} else if (errno != EINTR) {
			return offline(e, errno, c->peer);
		}
	}
	return 0;
}

static int receive_all(struct client *c, uint8_t *p, size_t n, mono_t deadline, struct err *e)
{
	while (n) {
		ssize_t got = recv(c->fd, p, n, 0);
		if (got > 0) {
			p += got;
			n -= (size_t)got;
		} else if (got == 0) {
			return err_set(e, ERR_OFFLINE, "%s: the broker closed the connection", c->peer);
		} else if (errno == EAGAIN) {
			int rc = wait_for(c->fd, c->cancel_fd, POLLIN, deadline, c->peer, "waiting for a response", e);
			if (rc < 0)
				return rc;
		} else if (errno != EINTR) {
			return offline(e, errno, c->peer);
		}
	}
	return 0;
}

/* Frames */

static mono_t deadline_of(const struct client *c)
{
	return mono_after_ms(mono_now(), c->timeout_ms);
}

static int check_works(const struct client *c, struct err *e)
{
	return c->broken ? err_set(e, c->broken, "%s: the connection broke before (%s)", c->peer, err_name(c->broken)) : 0;
}

static int push_waiting(struct client *c, const struct api *api, int version, int32_t correlation_id, struct err *e)
{
	if (c->n_waiting == c->cap_waiting) {
		size_t cap = c->cap_waiting ? c->cap_waiting * 2 : 8;
		struct waiting *more = malloc(cap * sizeof *more);
		if (!more)
			return err_set(e, ERR_NO_MEMORY, "%s: no memory for %zu requests", c->peer, cap);
		for (size_t i = 0; i < c->n_waiting; i++)
			more[i] = c->waiting[(c->first_waiting + i) % c->cap_waiting];
		free(c->waiting);
		c->waiting = more;
		c->first_waiting = 0;
		c->cap_waiting = cap;
	}
	c->waiting[(c->first_waiting + c->n_waiting++) % c->cap_waiting] = (struct waiting){api, (int16_t)version, correlation_id};
	return 0;
}

static int send_version(struct client *c, const struct api *api, int version, const void *request, struct err *e)
{
	int32_t correlation_id = c->next_correlation_id;
	wire_out_clear(&c->out);
	int rc = api_encode_request(api, version, correlation_id, wire_string(c->client_id), request, &c->out, e);
	if (rc < 0)
		return rc;
	assert(c->out.n_inserts == 0); /* a client has its records in memory */
	bool answered = api->key != API_PRODUCE || ((const struct produce_request *)request)->acks != 0;
	if (answered && (rc = push_waiting(c, api, version, correlation_id, e)) < 0)
		return rc;
	c->next_correlation_id = correlation_id == INT32_MAX ? 0 : correlation_id + 1;
	rc = send_all(c, c->out.bytes.data, c->out.bytes.len, deadline_of(c), e);
	if (rc < 0)
		c->broken = rc;
	return rc;
}

/* A frame's length, and what has come with it, into c->in. Only where no other response is waited for: nothing of it is another frame's then. */
static int receive_begin(struct client *c, uint8_t length[4], mono_t deadline, struct err *e)
{
	struct iovec part[2] = {{length, 4}, {wr_room(&c->in, BEGIN_BYTES), BEGIN_BYTES}};
	struct msghdr m = {.msg_iov = part, .msg_iovlen = c->n_waiting == 0 && part[1].iov_base ? 2 : 1};
	ssize_t got;
	while ((got = recvmsg(c->fd, &m, 0)) < 0 && (errno == EINTR || errno == EAGAIN)) {
		int rc = errno == EAGAIN ? wait_for(c->fd, c->cancel_fd, POLLIN, deadline, c->peer, "waiting for a response", e) : 0;
		if (rc < 0)
			return rc;
	}
	if (got <= 0)
		return got < 0 ? offline(e, errno, c->peer) : err_set(e, ERR_OFFLINE, "%s: the broker closed the connection", c->peer);
	c->in.len = got > 4 ? (size_t)got - 4 : 0;
	return got < 4 ? receive_all(c, length + got, 4 - (size_t)got, deadline, e) : 0;
}

/* The next frame, into c->in, without its length. */
static int receive_frame(struct client *c, struct err *e)
{
	mono_t deadline = deadline_of(c);
	uint8_t length[4];
	wr_clear(&c->in);
	int rc = receive_begin(c, length, deadline, e);
	if (rc < 0)
		return rc;
	uint32_t n = be32_get(length);
	if (n > CLIENT_MAX_RESPONSE)
		return err_set(e, ERR_CORRUPT, "%s: a response of %u bytes; is it a Kafka broker, and without TLS?", c->peer, n);
	if (c->in.len > n)
		return err_set(e, ERR_CORRUPT, "%s: a response is followed by %zu bytes that nobody has asked for", c->peer, c->in.len - n);
	while (c->in.len < n) {
		size_t step = n - c->in.len < READ_STEP ? n - c->in.len : READ_STEP;
		uint8_t *to = wr_room(&c->in, step);
		if (!to)
			return err_set(e, ERR_NO_MEMORY, "%s: no memory for a response of %u bytes", c->peer, n);
		rc = receive_all(c, to, step, deadline, e);
		if (rc < 0)
			return rc;
		c->in.len += step;
	}
	return 0;
}

/* Receives the oldest response; its message is c->in from *at on. */
static int receive_oldest(struct client *c, struct waiting *w, size_t *at, struct err *e)
{
	struct response_header h;
	*w = c->waiting[c->first_waiting];
	c->first_waiting = (c->first_waiting + 1) % c->cap_waiting;
	c->n_waiting--;
	int rc = receive_frame(c, e);
	if (rc < 0)
		return rc;
	ssize_t used = api_decode_response_header(w->api, w->version, c->in.data, c->in.len, &h, e);
	if (used < 0)
		return (int)used;
	if (h.correlation_id != w->correlation_id)
		return err_set(e, ERR_CORRUPT, "%s: a response to request %d where that to request %d was due", c->peer, h.correlation_id, w->correlation_id);
	*at = (size_t)used;
	return 0;
}

static int decode_message(struct client *c, const struct wire_struct *desc, int version, size_t at, void *message, struct err *e)
{
	arena_reset(&c->arena);
	ssize_t used = wire_decode(desc, version, c->in.data + at, c->in.len - at, &c->arena, message, e);
	if (used >= 0)
		return 0;
	err_context(e, "%s", c->peer);
	return (int)used;
}

/* Versions */

static int take_ranges(struct client *c, const struct api_versions_response *r, struct err *e)
{
	for (int i = 0; i < r->api_keys.n; i++) {
		if (r->api_keys.v[i].api_key >= c->n_ranges)
			c->n_ranges = r->api_keys.v[i].api_key + 1;
	}
	c->ranges = malloc(((size_t)c->n_ranges + 1) * sizeof *c->ranges);
	if (!c->ranges)
		return err_set(e, ERR_NO_MEMORY, "%s: no memory", c->peer);
	for (int i = 0; i < c->n_ranges; i++)
		c->ranges[i] = (struct range){0, -1};
	for (int i = 0; i < r->api_keys.n; i++) {
		if (r->api_keys.v[i].api_key >= 0)
			c->ranges[r->api_keys.v[i].api_key] = (struct range){r->api_keys.v[i].min_version, r->api_keys.v[i].max_version};
	}
	return 0;
}

/* Whoever does not know the version answers with version 0, which ends with the versions that it does know, or (before Kafka 2.4) with nothing. Returns that version. */
static int version_instead(const struct api_versions_response *r)
{
	for (int i = 0; i < r->api_keys.n; i++) {
		if (r->api_keys.v[i].api_key == API_VERSIONS)
			return r->api_keys.v[i].max_version;
	}
	return 0;
}

/* One attempt. *version is another one than before if that should be tried. */
static int ask_versions(struct client *c, int *version, struct err *e)
{
	const struct api *api = api_find(API_VERSIONS);
	struct api_versions_request request;
	struct api_versions_response r;
	struct waiting w;
	size_t at;
	wire_init(api->request, &request);
	/* Brokers refuse names and versions that are empty or have other than letters, digits, dots and dashes. */
	request.client_software_name = wire_string("spoolfs");
	request.client_software_version = wire_string(SOFTWARE_VERSION);
	int rc = send_version(c, api, *version, &request, e);
	if (rc == 0)
		rc = receive_oldest(c, &w, &at, e);
	if (rc < 0)
		return rc;
	bool refused = c->in.len - at >= 2 && (int16_t)be16_get(c->in.data + at) == KAFKA_UNSUPPORTED_VERSION;
	rc = decode_message(c, api->response, refused ? 0 : *version, at, &r, e);
	if (rc < 0)
		return rc;
	if (refused && *version > 0) {
		int instead = version_instead(&r);
		*version = instead >= 0 && instead < *version ? instead : 0;
		return 0;
	}
	if (r.error_code)
		return err_set(e, ERR_UNSUPPORTED, "%s: ApiVersions was answered with %s", c->peer, kafka_error_name(r.error_code));
	return take_ranges(c, &r, e);
}

static int negotiate(struct client *c, struct err *e)
{
	int version = api_find(API_VERSIONS)->max, rc = 0;
	while (rc == 0 && !c->ranges)
		rc = ask_versions(c, &version, e);
	return rc;
}

/* Outside */

int client_open(struct client **out, const char *address, const char *client_id, int timeout_ms, struct err *e)
{
	return client_open_cancellable(out, address, client_id, timeout_ms, -1, e);
}

int client_open_cancellable(struct client **out, const char *address, const char *client_id, int timeout_ms, int cancel_fd, struct err *e)
{
	struct client *c = calloc(1, sizeof *c);
	*out = NULL;
	if (!c)
		return err_set(e, ERR_NO_MEMORY, "%s: no memory", address);
	c->fd = -1;
	c->cancel_fd = cancel_fd;
	c->timeout_ms = timeout_ms;
	wire_out_init(&c->out, 0);
	wr_init(&c->in, 0);
	arena_init(&c->arena, 0);
	c->peer = strdup(address);
	c->client_id = strdup(client_id);
	int rc = c->peer && c->client_id ? connect_any(c, deadline_of(c), e) : err_set(e, ERR_NO_MEMORY, "%s: no memory", address);
	if (rc == 0)
		rc = negotiate(c, e);
	if (rc < 0)
		client_close(c);
	else
		*out = c;
	return rc;
}

void client_close(struct client *c)
{
	if (!c)
		return;
	if (c->fd >= 0)
		close(c->fd);
	wire_out_release(&c->out);
	wr_release(&c->in);
	arena_release(&c->arena);
	free(c->waiting);
	free(c->ranges);
	free(c->peer);
	free(c->client_id);
	free(c);
}

int client_fd(const struct client *c)
{
	return c->fd;
}

void client_set_timeout(struct client *c, int timeout_ms)
{
	c->timeout_ms = timeout_ms;
}

bool client_broker_versions(const struct client *c, int api_key, int *min, int *max)
{
	if (api_key < 0 || api_key >= c->n_ranges || c->ranges[api_key].max < c->ranges[api_key].min)
		return false;
	*min = c->ranges[api_key].min;
	*max = c->ranges[api_key].max;
	return true;
}

int client_version(const struct client *c, int api_key, struct err *e)
{
	const struct api *api = api_find(api_key);
	int min, max;
	if (api && api->between_brokers)
		return api->max;
	if (!api || !client_broker_versions(c, api_key, &min, &max))
		return err_set(e, ERR_UNSUPPORTED, "%s: %s (API key %d) is not known %s", c->peer, api ? api->name : "a request", api_key, api ? "there" : "here");
	int version = max < api->max ? max : api->max;
	if (version < min || version < api->min)
		return err_set(e, ERR_UNSUPPORTED, "%s: %s has versions %d to %d there, %d to %d here", c->peer, api->name, min, max, api->min, api->max);
	return version;
}

int client_send(struct client *c, int api_key, int version, const void *request, struct err *e)
{
	int rc = check_works(c, e);
	if (rc == 0 && (version < 0 || !api_find(api_key)))
		rc = version = client_version(c, api_key, e);
	return rc < 0 ? rc : send_version(c, api_find(api_key), version, request, e);
}

int client_receive(struct client *c, int api_key, void *response, struct err *e)
{
	struct waiting w;
	size_t at;
	int rc = check_works(c, e);
	if (rc < 0)
		return rc;
	if (c->n_waiting == 0 || c->waiting[c->first_waiting].api->key != api_key)
		return err_set(e, ERR_INVALID, "%s: no response of API key %d is due", c->peer, api_key);
	rc = receive_oldest(c, &w, &at, e);
	if (rc == 0)
		rc = decode_message(c, w.api->response, w.version, at, response, e);
	if (rc < 0)
		c->broken = rc;
	return rc;
}

int client_call(struct client *c, int api_key, const void *request, void *response, struct err *e)
{
	int rc = client_send(c, api_key, -1, request, e);
	return rc < 0 ? rc : client_receive(c, api_key, response, e);
}
