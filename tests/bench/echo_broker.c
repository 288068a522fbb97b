/*
 * echo_broker: the least that a Kafka client can talk to: what comes in a Produce goes out in the Fetch that waits, and is kept nowhere.
 *
 *   echo_broker PORT TOPIC       serves on 127.0.0.1, until it is killed
 *
 * One thread, epoll, one topic of one partition, in the oldest versions that clients of today speak; one message is under way at a time. `kperf pingpong`
 * with it takes what the client and the system take: the rest is what a broker adds.
 */
#include <arpa/inet.h>
#include <endian.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PRODUCE = 0, FETCH = 1, LIST_OFFSETS = 2, METADATA = 3, API_VERSIONS = 18, FRAME_MAX = 1 << 20, CONNS = 64 };

struct conn { int fd; size_t have; uint8_t in[FRAME_MAX]; };

static const int16_t version_max[][2] = {{PRODUCE, 3}, {FETCH, 4}, {LIST_OFFSETS, 1}, {METADATA, 4}, {API_VERSIONS, 0}};
static struct conn *conns[CONNS];
static uint8_t out[FRAME_MAX + 4096], last[FRAME_MAX]; /* an answer; the batch that came last */
static size_t out_bytes, last_bytes;
static int64_t last_offset, end_offset; /* of that batch; behind it */
static struct conn *waits;              /* whose Fetch waits */
static int32_t waits_correlation;
static const char *topic;
static int port;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

/* ---- what goes out ---- */

static void put(const void *p, size_t n)
{
	if (n)
		memcpy(out + out_bytes, p, n);
	out_bytes += n;
}
static void put8(int8_t v) { put(&v, 1); }
static void put16(int16_t v) { uint16_t x = htobe16((uint16_t)v); put(&x, 2); }
static void put32(int32_t v) { uint32_t x = htobe32((uint32_t)v); put(&x, 4); }
static void put64(int64_t v) { uint64_t x = htobe64((uint64_t)v); put(&x, 8); }
static void put_text(const char *s) { put16((int16_t)strlen(s)); put(s, strlen(s)); }

static void begin(int32_t correlation)
{
	out_bytes = 4;
	put32(correlation);
}

static void answer(struct conn *c)
{
	uint32_t n = htobe32((uint32_t)(out_bytes - 4));
	memcpy(out, &n, 4);
	if (send(c->fd, out, out_bytes, MSG_NOSIGNAL) != (ssize_t)out_bytes)
		die("send");
}

/* ---- what comes in ---- */

static int16_t get16(const uint8_t **p) { uint16_t v; memcpy(&v, *p, 2); *p += 2; return (int16_t)be16toh(v); }
static int32_t get32(const uint8_t **p) { uint32_t v; memcpy(&v, *p, 4); *p += 4; return (int32_t)be32toh(v); }
static int64_t get64(const uint8_t **p) { uint64_t v; memcpy(&v, *p, 8); *p += 8; return (int64_t)be64toh(v); }
static void skip_text(const uint8_t **p)
{
	int16_t n = get16(p);
	*p += n > 0 ? n : 0;
}

static void one_topic_partition(void)
{
	put32(1);
	put_text(topic);
	put32(1);
	put32(0);
}

static void answer_fetch(struct conn *c, int32_t correlation)
{
	begin(correlation);
	put32(0);
	one_topic_partition();
	put16(0);
	put64(end_offset);
	put64(end_offset);
	put32(-1);
	put32((int32_t)last_bytes);
	put(last, last_bytes);
	answer(c);
}

static void on_produce(struct conn *c, int32_t correlation, const uint8_t *p)
{
	skip_text(&p);
	int16_t acks = get16(&p);
	p += 4 + 4;
	skip_text(&p);
	p += 4 + 4;
	last_bytes = (size_t)get32(&p);
	memcpy(last, p, last_bytes);
	const uint8_t *delta = last + 23;
	uint64_t base = htobe64((uint64_t)end_offset);
	last_offset = end_offset;
	end_offset += get32(&delta) + 1;
	memcpy(last, &base, sizeof base); /* the checksum does not cover it */
	if (waits) {
		answer_fetch(waits, waits_correlation);
		waits = NULL;
	}
	if (!acks)
		return;
	begin(correlation);
	one_topic_partition();
	put16(0);
	put64(last_offset);
	put64(-1);
	put32(0);
	answer(c);
}

static void on_fetch(struct conn *c, int32_t correlation, const uint8_t *p)
{
	p += 4 + 4 + 4 + 4 + 1;
	int32_t topics = get32(&p);
	int64_t offset = -1;
	if (topics) {
		skip_text(&p);
		p += 4 + 4;
		offset = get64(&p);
	}
	if (last_bytes && offset == last_offset) {
		answer_fetch(c, correlation);
		return;
	}
	waits = c;
	waits_correlation = correlation;
}

static void on_request(struct conn *c, const uint8_t *p)
{
	int16_t key = get16(&p), version = get16(&p);
	int32_t correlation = get32(&p);
	skip_text(&p);
	switch (key) {
	case PRODUCE:
		on_produce(c, correlation, p);
		return;
	case FETCH:
		on_fetch(c, correlation, p);
		return;
	case LIST_OFFSETS:
		begin(correlation);
		one_topic_partition();
		put16(0);
		put64(-1);
		put64(0); /* it is asked for the beginning */
		break;
	case METADATA:
		begin(correlation);
		put32(0);
		put32(1);
		put32(1);
		put_text("127.0.0.1");
		put32(port);
		put16(-1);
		put16(-1);
		put32(1);
		put32(1);
		put16(0);
		put_text(topic);
		put8(0);
		put32(1);
		put16(0);
		put32(0);
		put32(1);
		put32(1);
		put32(1);
		put32(1);
		put32(1);
		break;
	case API_VERSIONS: /* of a version that is not known, too: the client then asks again */
		begin(correlation);
		put16(version ? 35 : 0);
		put32(sizeof version_max / sizeof *version_max);
		for (size_t i = 0; i < sizeof version_max / sizeof *version_max; i++) {
			put16(version_max[i][0]);
			put16(0);
			put16(version_max[i][1]);
		}
		break;
	default:
		fprintf(stderr, "echo_broker: request %d is not known\n", key);
		return;
	}
	answer(c);
}

static void on_bytes(struct conn *c)
{
	ssize_t n = recv(c->fd, c->in + c->have, sizeof c->in - c->have, 0);
	if (n <= 0) {
		close(c->fd);
		c->fd = -1;
		c->have = 0;
		waits = waits == c ? NULL : waits;
		return;
	}
	c->have += (size_t)n;
	for (;;) {
		const uint8_t *p = c->in;
		size_t size = c->have < 4 ? FRAME_MAX : (size_t)get32(&p) + 4;
		if (c->have < size)
			break;
		on_request(c, p);
		c->have -= size;
		memmove(c->in, c->in + size, c->have);
	}
}

static void take(int set, int listener)
{
	int fd = accept(listener, NULL, NULL), on = 1, i = 0;
	while (i < CONNS && conns[i] && conns[i]->fd >= 0)
		i++;
	if (fd < 0 || i == CONNS || (!conns[i] && !(conns[i] = calloc(1, sizeof **conns))))
		die("accept");
	conns[i]->fd = fd;
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = conns[i]};
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	if (epoll_ctl(set, EPOLL_CTL_ADD, fd, &ev))
		die("epoll_ctl");
}

int main(int argc, char **argv)
{
	if (argc != 3) {
		fprintf(stderr, "usage: echo_broker PORT TOPIC\n");
		return 2;
	}
	port = atoi(argv[1]);
	topic = argv[2];
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)port)};
	int listener = socket(AF_INET, SOCK_STREAM, 0), set = epoll_create1(0), on = 1;
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	struct epoll_event ev = {.events = EPOLLIN};
	if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, CONNS) || epoll_ctl(set, EPOLL_CTL_ADD, listener, &ev))
		die("listen");
	while (epoll_wait(set, &ev, 1, -1) == 1) {
		if (ev.data.ptr)
			on_bytes(ev.data.ptr);
		else
			take(set, listener);
	}
	die("epoll_wait");
}
