/*
 * net_fixture: a server over the reactor, told by each request what to do with it, and clients on plain sockets.
 *
 * A request is a letter, then what the letter takes; its answer is the whole request, unless said otherwise:
 *   e  answered inside the callback               w  by a worker thread, in no particular order
 *   m  u32 n: answered with n bytes of memory     f  u64 offset, u64 length: "head", that range of the file, "tail"
 *   d  no answer                                  c  the connection is closed
 *   p  parked, until release_parked or a cancel   P  the same, deaf to cancels
 *   b  as w, with the barrier up                  n  answered with the number of bytes, as 4 bytes
 */
#ifndef NET_FIXTURE_H
#define NET_FIXTURE_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "cluster/net/net.h"
#include "cluster/net/sock.h"
#include "store/buf.h"
#include "store/diag.h"
#include "store/pool.h"

enum { WORKERS = 3, JOBS = 4096, CLIENT_MS = 20000 };

/* What the answer of a request is made of; lives in its room. */
struct room {
	struct net_response response;
	struct net_chunk chunk[3];
	_Atomic bool answered; /* who answers a parked one */
	bool deaf;
	struct net_request *next;
};

struct server {
	struct net *net;
	struct net_settings s;
	int file;
	struct pool *pool; /* of the test's */
	/* workers */
	pthread_mutex_t lock;
	pthread_cond_t work;
	pthread_t worker[WORKERS];
	struct net_request *job[JOBS];
	int jobs;
	bool ending;
	struct net_request *parked; /* lock */
	_Atomic int n_parked;
	_Atomic unsigned requests, done, released, sent, opened, closed;
	_Atomic unsigned most_held; /* handed out and not done; exact with one network thread */
	_Atomic unsigned told[3];
};

static struct server sv;
static struct err err;

static void pause_ms(int ms)
{
	nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L}, NULL);
}

static int64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

#define WAIT_FOR(condition) do { \
	int64_t until_ = now_ms() + CLIENT_MS; \
	while (!(condition) && now_ms() < until_) \
		pause_ms(1); \
	assert_true(condition); \
} while (0)

/* ---- the server's side ---- */

static void free_memory(struct net_response *p, bool sent)
{
	sv.released++;
	sv.sent += sent;
	free((void *)(uintptr_t)p->chunk[0].data);
}

static void let_go(struct net_response *p, bool sent)
{
	(void)p;
	sv.released++;
	sv.sent += sent;
}

static void answer_memory(struct net_request *r, size_t n)
{
	struct room *m = net_room(r);
	m->chunk[0] = (struct net_chunk){.data = malloc(n + 1), .bytes = n};
	memset((void *)(uintptr_t)m->chunk[0].data, 'm', n);
	m->response = (struct net_response){.chunk = m->chunk, .count = 1, .release = free_memory};
	net_respond(r, &m->response);
}

static void answer_file(struct net_request *r)
{
	struct room *m = net_room(r);
	m->chunk[0] = (struct net_chunk){.data = "head", .bytes = 4};
	m->chunk[1] = (struct net_chunk){.fd = sv.file, .offset = be64_get(r->data + 1), .bytes = be64_get(r->data + 9)};
	m->chunk[2] = (struct net_chunk){.data = "tail", .bytes = 4};
	m->response = (struct net_response){.chunk = m->chunk, .count = 3, .release = let_go};
	net_respond(r, &m->response);
}

static void give_job(struct net_request *r)
{
	pthread_mutex_lock(&sv.lock);
	assert_true(sv.jobs < JOBS);
	sv.job[sv.jobs++] = r;
	pthread_cond_signal(&sv.work);
	pthread_mutex_unlock(&sv.lock);
}

static void *work(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg;
	pthread_mutex_lock(&sv.lock);
	for (;;) {
		while (!sv.jobs && !sv.ending)
			pthread_cond_wait(&sv.work, &sv.lock);
		if (!sv.jobs)
			break;
		int i = rand_r(&seed) % sv.jobs;
		struct net_request *r = sv.job[i];
		sv.job[i] = sv.job[--sv.jobs];
		pthread_mutex_unlock(&sv.lock);
		if (rand_r(&seed) % 8 == 0)
			sched_yield();
		net_respond_copy(r, r->data, r->size);
		pthread_mutex_lock(&sv.lock);
	}
	pthread_mutex_unlock(&sv.lock);
	return NULL;
}

static void on_cancel(struct net_request *r, enum net_why why)
{
	struct room *m = net_room(r);
	sv.told[why]++;
	if (m->deaf || atomic_exchange(&m->answered, true))
		return;
	pthread_mutex_lock(&sv.lock);
	struct net_request **at = &sv.parked;
	while (*at != r)
		at = &((struct room *)net_room(*at))->next;
	*at = m->next;
	pthread_mutex_unlock(&sv.lock);
	sv.n_parked--;
	net_respond_copy(r, r->data, r->size);
}

static void park(struct net_request *r)
{
	struct room *m = net_room(r);
	r->cancel = on_cancel;
	m->deaf = r->data[0] == 'P';
	pthread_mutex_lock(&sv.lock);
	m->next = sv.parked;
	sv.parked = r;
	pthread_mutex_unlock(&sv.lock);
	sv.n_parked++;
}

/* Answers all that is parked, from this thread. */
static void release_parked(void)
{
	pthread_mutex_lock(&sv.lock);
	struct net_request *list = NULL, **at = &sv.parked;
	while (*at) {
		struct room *m = net_room(*at);
		struct net_request *r = *at;
		if (atomic_exchange(&m->answered, true)) {
			at = &m->next;
			continue;
		}
		*at = m->next;
		m->next = list;
		list = r;
	}
	pthread_mutex_unlock(&sv.lock);
	while (list) {
		struct net_request *r = list;
		list = ((struct room *)net_room(r))->next;
		sv.n_parked--;
		net_respond_copy(r, r->data, r->size);
	}
}

static void on_request(void *arg, struct net_request *r)
{
	uint8_t count[4];
	assert_ptr_equal(arg, &sv);
	assert_ptr_equal(net_conn_user(r->conn), r->conn);
	r->user = &sv;
	sv.requests++;
	if (sv.requests - sv.done > sv.most_held)
		sv.most_held = sv.requests - sv.done;
	switch (r->data[0]) {
	case 'e':
		net_respond_copy(r, r->data, r->size);
		break;
	case 'b':
		r->barrier = true;
		/* fall through */
	case 'w':
		give_job(r);
		break;
	case 'm':
		answer_memory(r, be32_get(r->data + 1));
		break;
	case 'f':
		answer_file(r);
		break;
	case 'd':
		net_drop(r);
		break;
	case 'c':
		net_close(r);
		break;
	case 'p':
	case 'P':
		park(r);
		break;
	case 'n':
		be32_put(count, r->size);
		net_respond_copy(r, count, 4);
		break;
	default:
		net_close(r);
	}
}

static void on_done(void *arg, struct net_request *r)
{
	(void)arg;
	assert_ptr_equal(r->user, &sv);
	sv.done++;
}

static void on_open(void *arg, struct net_conn *c)
{
	(void)arg;
	net_conn_set_user(c, c);
	sv.opened++;
}

static void on_closed(void *arg, struct net_conn *c)
{
	(void)arg;
	assert_ptr_equal(net_conn_user(c), c);
	sv.closed++;
}

/* What the defaults are, on a port of the system's choice, with two threads. */
static void default_settings(void)
{
	const struct conf_property *tables[] = {net_properties};
	struct conf_schema *schema = conf_schema_new(tables, 1);
	struct conf *c = conf_new(schema, NULL, CONF_BROKER);
	assert_int_equal(conf_set(c, "listeners", "127.0.0.1:0", &err), 0);
	assert_int_equal(conf_set(c, "num.network.threads", "2", &err), 0);
	assert_int_equal(net_settings_read(&sv.s, c, &err), 0);
	conf_free(c);
	conf_schema_free(schema);
}

static int set_up(void **state)
{
	(void)state;
	if (sv.net) /* of a test that failed: its threads would disturb the next one */
		exit(1);
	memset(&sv, 0, sizeof sv);
	sv.file = -1;
	pthread_mutex_init(&sv.lock, NULL);
	pthread_cond_init(&sv.work, NULL);
	default_settings();
	diag_set_level(DIAG_ERROR);
	return 0;
}

static void start(void)
{
	struct net_options o = {.settings = &sv.s, .room_bytes = sizeof(struct room), .arg = &sv, .request = on_request, .done = on_done, .pool = sv.pool, .opened = on_open, .closed = on_closed};
	if (net_open(&sv.net, &o, &err))
		fail_msg("%s", err.text);
	assert_int_equal(net_run(sv.net, &err), 0);
	for (int i = 0; i < WORKERS; i++)
		assert_int_equal(pthread_create(&sv.worker[i], NULL, work, (void *)(uintptr_t)(i + 1)), 0);
}

static void stop(void)
{
	release_parked();
	pthread_mutex_lock(&sv.lock);
	sv.ending = true;
	pthread_cond_broadcast(&sv.work);
	pthread_mutex_unlock(&sv.lock);
	for (int i = 0; i < WORKERS; i++)
		pthread_join(sv.worker[i], NULL);
	net_free(sv.net);
	sv.net = NULL;
	assert_int_equal(sv.done, sv.requests);
	assert_int_equal(sv.closed, sv.opened);
	if (sv.file >= 0)
		close(sv.file);
	sv.file = -1;
}

static struct net_stats stats(void)
{
	struct net_stats s;
	net_stats(sv.net, -1, &s);
	return s;
}

/* ---- the clients' side ---- */

static int client_socket(int receive_bytes)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
	assert_true(fd >= 0);
	if (receive_bytes)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof receive_bytes);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	struct timeval t = {.tv_sec = CLIENT_MS / 1000};
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t);
	return fd;
}

static void client_connect(int fd)
{
	struct net_address a;
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	net_listener_address(sv.net, 0, &a);
	sa.sin_port = htons(a.port);
	assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof sa), 0);
}

static int client(void)
{
	int fd = client_socket(0);
	client_connect(fd);
	return fd;
}

static void put_raw(int fd, const void *data, size_t n)
{
	const char *p = data;
	while (n) {
		ssize_t k = send(fd, p, n, MSG_NOSIGNAL);
		assert_true(k > 0);
		p += k;
		n -= (size_t)k;
	}
}

/* false: the end, or a reset, came first. */
static bool get_raw(int fd, void *data, size_t n)
{
	char *p = data;
	while (n) {
		ssize_t k = recv(fd, p, n, 0);
		if (k < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			fail_msg("nothing came for %d ms", CLIENT_MS);
		if (k <= 0)
			return false;
		p += k;
		n -= (size_t)k;
	}
	return true;
}

static void put(int fd, const void *data, size_t n)
{
	uint8_t *frame = malloc(n + 4);
	be32_put(frame, (uint32_t)n);
	memcpy(frame + 4, data, n);
	put_raw(fd, frame, n + 4);
	free(frame);
}

static void put_text(int fd, const char *text)
{
	put(fd, text, strlen(text));
}

/* The next answer, in memory the caller frees; NULL: the connection ended. */
static uint8_t *get(int fd, uint32_t *n)
{
	uint8_t prefix[4];
	if (!get_raw(fd, prefix, 4))
		return NULL;
	*n = be32_get(prefix);
	uint8_t *data = malloc(*n + 1u);
	if (!get_raw(fd, data, *n)) {
		free(data);
		return NULL;
	}
	data[*n] = '\0';
	return data;
}

static void expect_text(int fd, const char *text)
{
	uint32_t n;
	uint8_t *answer = get(fd, &n);
	assert_non_null(answer);
	assert_string_equal((char *)answer, text);
	free(answer);
}

static void expect_end(int fd)
{
	uint32_t n;
	uint8_t *answer = get(fd, &n);
	assert_null(answer);
	close(fd);
}

static void ask_memory(int fd, uint32_t n)
{
	uint8_t q[5] = {'m'};
	be32_put(q + 1, n);
	put(fd, q, sizeof q);
}

static void ask_file(int fd, uint64_t offset, uint64_t bytes)
{
	uint8_t q[17] = {'f'};
	be64_put(q + 1, offset);
	be64_put(q + 9, bytes);
	put(fd, q, sizeof q);
}

static uint8_t file_byte(uint64_t at)
{
	return (uint8_t)(at * 2654435761u >> 13);
}

static void make_file(size_t bytes)
{
	char path[] = "/tmp/test_net.XXXXXX";
	sv.file = mkstemp(path);
	unlink(path);
	uint8_t *data = malloc(bytes);
	for (size_t i = 0; i < bytes; i++)
		data[i] = file_byte(i);
	assert_int_equal(write(sv.file, data, bytes), bytes);
	free(data);
}

static void expect_file(int fd, uint64_t from, uint64_t bytes, int slow_us)
{
	uint8_t head[8], piece[8000];
	assert_true(get_raw(fd, head, 8));
	assert_int_equal(be32_get(head), bytes + 8);
	assert_memory_equal(head + 4, "head", 4);
	for (uint64_t done = 0; done < bytes;) {
		size_t n = bytes - done < sizeof piece ? (size_t)(bytes - done) : sizeof piece;
		assert_true(get_raw(fd, piece, n));
		for (size_t i = 0; i < n; i++)
			if (piece[i] != file_byte(from + done + i))
				fail_msg("byte %llu of the range is wrong", (unsigned long long)(done + i));
		done += n;
		if (slow_us)
			usleep((useconds_t)slow_us);
	}
	assert_true(get_raw(fd, head, 4));
	assert_memory_equal(head, "tail", 4);
}

#endif
