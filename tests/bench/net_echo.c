/*
 * net_echo: what the reactor costs over the least possible server: one request in flight, small, on one connection.
 *
 *   make build/plain/bench/net_echo && build/plain/bench/net_echo [COUNT=50000] [BYTES=100]
 *
 * The same client asks, in turns: `plain`, a thread that does epoll_wait, recv and send and nothing else; `net`, the reactor, answered in the
 * callback; `handed`, the reactor, answered by another thread (what an fsync's end does); `range`, a range of a file of 64 KiB by sendfile. A line each: round
 * trips a second, and microseconds of them; then requests a second with 32 in flight.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "cluster/net/net.h"
#include "store/buf.h"

enum { ROUNDS = 5, AHEAD = 32, RANGE_BYTES = 64 << 10 };

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* ---- the least possible server ---- */

static void *serve_plain(void *arg)
{
	int listener = *(int *)arg, on = 1, set = epoll_create1(0);
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
	struct epoll_event ev = {.events = EPOLLIN};
	static uint8_t buf[64 << 10];
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	if (epoll_ctl(set, EPOLL_CTL_ADD, fd, &ev))
		die("epoll_ctl");
	while (epoll_wait(set, &ev, 1, -1) == 1) {
		ssize_t n = recv(fd, buf, sizeof buf, 0);
		if (n <= 0 || send(fd, buf, (size_t)n, MSG_NOSIGNAL) != n)
			break;
	}
	close(fd);
	close(set);
	return NULL;
}

/* ---- the reactor ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t work = PTHREAD_COND_INITIALIZER;
static struct net_request *job[AHEAD * 2];
static int jobs;
static int file;

static void *answer_jobs(void *arg)
{
	pthread_mutex_lock(&lock);
	for (;;) {
		while (!jobs)
			pthread_cond_wait(&work, &lock);
		struct net_request *r = job[0];
		memmove(job, job + 1, (size_t)--jobs * sizeof *job);
		pthread_mutex_unlock(&lock);
		net_respond_copy(r, r->data, r->size);
		pthread_mutex_lock(&lock);
	}
	return arg;
}

struct room { struct net_response response; struct net_chunk chunk[2]; };

static void let_go(struct net_response *p, bool sent)
{
	(void)p;
	(void)sent;
}

static void on_request(void *arg, struct net_request *r)
{
	struct room *m = net_room(r);
	(void)arg;
	switch (r->data[0]) {
	case 'h':
		pthread_mutex_lock(&lock);
		job[jobs++] = r;
		pthread_cond_signal(&work);
		pthread_mutex_unlock(&lock);
		break;
	case 'r':
		m->chunk[0] = (struct net_chunk){.data = "head", .bytes = 4};
		m->chunk[1] = (struct net_chunk){.fd = file, .bytes = RANGE_BYTES - 4};
		m->response = (struct net_response){.chunk = m->chunk, .count = 2, .release = let_go};
		net_respond(r, &m->response);
		break;
	default:
		net_respond_copy(r, r->data, r->size);
	}
}

/* ---- the client ---- */

static int dial(uint16_t port)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	if (connect(fd, (struct sockaddr *)&sa, sizeof sa))
		die("connect");
	return fd;
}

static void receive(int fd, size_t n)
{
	static uint8_t buf[256 << 10];
	while (n) {
		ssize_t k = recv(fd, buf, n < sizeof buf ? n : sizeof buf, 0);
		if (k <= 0)
			die("recv");
		n -= (size_t)k;
	}
}

static int ascending(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return (x > y) - (x < y);
}

static void measure(const char *name, int fd, char letter, int count, size_t bytes, size_t answer)
{
	uint8_t *frame = calloc(1, bytes + 4);
	int64_t *ns = calloc((size_t)count, sizeof *ns), total = 0;
	be32_put(frame, (uint32_t)bytes);
	frame[4] = (uint8_t)letter;
	for (int i = -1000; i < count; i++) {
		int64_t from = now_ns();
		if (send(fd, frame, bytes + 4, 0) != (ssize_t)bytes + 4)
			die("send");
		receive(fd, answer + 4);
		if (i >= 0)
			total += ns[i] = now_ns() - from;
	}
	qsort(ns, (size_t)count, sizeof *ns, ascending);
	int64_t from = now_ns();
	for (int i = 0; i < AHEAD; i++)
		if (send(fd, frame, bytes + 4, 0) != (ssize_t)bytes + 4)
			die("send");
	for (int i = 0; i < count; i++) {
		receive(fd, answer + 4);
		if (i + AHEAD < count && send(fd, frame, bytes + 4, 0) != (ssize_t)bytes + 4)
			die("send");
	}
	printf("%-7s %8.0f/s  p50 %6.1f  p99 %6.1f  p99.9 %7.1f us   %d ahead: %8.0f/s\n", name, count * 1e9 / (double)total, (double)ns[count / 2] / 1e3,
	       (double)ns[(int)(count * .99)] / 1e3, (double)ns[(int)(count * .999)] / 1e3, AHEAD, count * 1e9 / (double)(now_ns() - from));
	free(ns);
	free(frame);
}

int main(int argc, char **argv)
{
	int count = argc > 1 ? atoi(argv[1]) : 50000;
	size_t bytes = argc > 2 ? strtoul(argv[2], NULL, 10) : 100;
	struct err e = ERR_INIT;
	const struct conf_property *tables[] = {net_properties};
	struct conf *c = conf_new(conf_schema_new(tables, 1), NULL, CONF_BROKER);
	struct net_settings s;
	struct net *n;
	struct net_address a;
	pthread_t t;
	char path[] = "/tmp/net_echo.XXXXXX";
	file = mkstemp(path);
	unlink(path);
	if (ftruncate(file, RANGE_BYTES))
		die("ftruncate");
	struct net_options o = {.settings = &s, .room_bytes = sizeof(struct room), .request = on_request};
	if (conf_set(c, "listeners", "127.0.0.1:0", &e) || conf_set(c, "num.network.threads", "1", &e) || net_settings_read(&s, c, &e) || net_open(&n, &o, &e) || net_run(n, &e)) {
		fprintf(stderr, "net_echo: %s\n", e.text);
		return 1;
	}
	net_listener_address(n, 0, &a);
	pthread_create(&t, NULL, answer_jobs, NULL);
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof any;
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(listener, (struct sockaddr *)&any, sizeof any) || listen(listener, 1) || getsockname(listener, (struct sockaddr *)&any, &len))
		die("listen");
	pthread_create(&t, NULL, serve_plain, &listener);
	int plain = dial(ntohs(any.sin_port)), net = dial(a.port);
	for (int i = 0; i < ROUNDS; i++) {
		measure("plain", plain, 'e', count, bytes, bytes);
		measure("net", net, 'e', count, bytes, bytes);
		measure("handed", net, 'h', count, bytes, bytes);
		measure("range", net, 'r', count / 4, bytes, RANGE_BYTES);
	}
	return 0;
}
