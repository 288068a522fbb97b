#include "tests/unit/net_fixture.h"

/* The reactor over real sockets: what every peer may do to it. */

/* ---- the plain way ---- */

static void test_echo(void **state)
{
	(void)state;
	start();
	int fd = client();
	put_text(fd, "e hello");
	expect_text(fd, "e hello");
	put_text(fd, "w from elsewhere");
	expect_text(fd, "w from elsewhere");
	ask_memory(fd, 0);
	expect_text(fd, "");
	put_text(fd, "d");
	put_text(fd, "e");
	expect_text(fd, "e");
	put_text(fd, "w earlier");
	put_text(fd, "c");
	put_text(fd, "e never answered");
	expect_text(fd, "w earlier");
	expect_end(fd);
	WAIT_FOR(stats().requests >= 6 && stats().responses == 5);
	stop();
}

static void test_pieces(void **state)
{
	(void)state;
	start();
	int fd = client();
	static const char text[] = "\0\0\0\7e bytes\0\0\0\6e many\0\0\0\1e";
	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i + 1 < sizeof text; i += (size_t)round + 1) {
			put_raw(fd, text + i, i + (size_t)round + 1 < sizeof text ? (size_t)round + 1 : sizeof text - 1 - i);
			pause_ms(1);
		}
		expect_text(fd, "e bytes");
		expect_text(fd, "e many");
		expect_text(fd, "e");
	}
	close(fd);
	stop();
}

struct pipeline { int fd, count; char letter; unsigned seed; };

static void *send_pipeline(void *arg)
{
	struct pipeline *p = arg;
	char text[3000];
	for (int i = 0; i < p->count; i++) {
		int n = sprintf(text, "%c %d %.*s", p->letter, i, (i * 37) % 2000, "");
		memset(text + n, 'x', (size_t)(i * 37) % 2000);
		text[n + (i * 37) % 2000] = '\0';
		put_text(p->fd, text);
	}
	return NULL;
}

static void expect_pipeline(const struct pipeline *p)
{
	for (int i = 0; i < p->count; i++) {
		uint32_t n;
		char head[40];
		uint8_t *answer = get(p->fd, &n);
		assert_non_null(answer);
		int k = sprintf(head, "%c %d ", p->letter, i);
		assert_int_equal(n, k + (i * 37) % 2000);
		assert_memory_equal(answer, head, (size_t)k);
		free(answer);
	}
}

/* Requests are sent as fast as the socket takes them; answers come in their order, however they were given. */
static void test_pipelining(void **state)
{
	(void)state;
	start();
	enum { CLIENTS = 6, COUNT = 2000 };
	struct pipeline p[CLIENTS];
	pthread_t t[CLIENTS];
	for (int i = 0; i < CLIENTS; i++) {
		p[i] = (struct pipeline){.fd = client(), .count = COUNT, .letter = "ewwewb"[i]};
		pthread_create(&t[i], NULL, send_pipeline, &p[i]);
	}
	for (int i = 0; i < CLIENTS; i++)
		expect_pipeline(&p[i]);
	for (int i = 0; i < CLIENTS; i++) {
		pthread_join(t[i], NULL);
		close(p[i].fd);
	}
	WAIT_FOR(stats().responses == CLIENTS * COUNT);
	WAIT_FOR(sv.done == CLIENTS * COUNT);
	stop();
}

/* While the barrier is up nothing is handed out; what else there is stays in order behind it. */
static void test_barrier(void **state)
{
	(void)state;
	start();
	int fd = client();
	char burst[] = "\0\0\0\1p\0\0\0\1b\0\0\0\1e";
	put_raw(fd, burst, sizeof burst - 1);
	WAIT_FOR(sv.requests == 3); /* the worker answers b, behind p; only then comes e */
	release_parked();
	expect_text(fd, "p");
	expect_text(fd, "b");
	expect_text(fd, "e");
	close(fd);
	stop();
}

/* One request on a quiet connection is one read and one write. */
static _Atomic unsigned calls[SOCK_CALLS];

static ssize_t count_calls(void *arg, enum sock_call call, int fd, size_t bytes)
{
	(void)arg;
	(void)fd;
	(void)bytes;
	calls[call]++;
	return 0;
}

static void test_calls(void **state)
{
	(void)state;
	sock_set_hook(count_calls, NULL);
	start();
	int fd = client();
	put_text(fd, "e");
	expect_text(fd, "e");
	calls[SOCK_RECEIVE] = calls[SOCK_SEND] = 0;
	for (int i = 0; i < 100; i++) {
		put_text(fd, "e some request");
		expect_text(fd, "e some request");
	}
	assert_int_equal(calls[SOCK_RECEIVE], 100);
	assert_int_equal(calls[SOCK_SEND], 100);
	/* Many in one packet are answered with one write. */
	char burst[50 * 5];
	for (int i = 0; i < 50; i++)
		memcpy(burst + 5 * i, "\0\0\0\1e", 5);
	put_raw(fd, burst, sizeof burst);
	for (int i = 0; i < 50; i++)
		expect_text(fd, "e");
	assert_true(calls[SOCK_SEND] <= 110);
	/* An answer from elsewhere wakes nobody. */
	uint64_t wakes = stats().wakes;
	for (int i = 0; i < 100; i++) {
		put_text(fd, "w");
		expect_text(fd, "w");
	}
	assert_int_equal(stats().wakes, wakes);
	close(fd);
	stop();
	sock_set_hook(NULL, NULL);
}

/* ---- lengths ---- */

static void test_bad_lengths(void **state)
{
	(void)state;
	sv.s.request_max_bytes = 1000;
	start();
	int good = client();
	static const uint32_t lengths[] = {0, 0xffffffff, 0x80000000, 1001, 0x7fffffff, 0x47455420};
	for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
		uint8_t prefix[4];
		int fd = client();
		put_text(fd, "e before");
		expect_text(fd, "e before");
		be32_put(prefix, lengths[i]);
		put_raw(fd, prefix, 4);
		expect_end(fd);
		put_text(good, "e undisturbed");
		expect_text(good, "e undisturbed");
	}
	char most[1001];
	memset(most, 'e', 1000);
	most[1000] = '\0';
	put_text(good, most);
	expect_text(good, most);
	close(good);
	stop();
}

static void test_announced(void **state)
{
	(void)state;
	enum { CLIENTS = 50 };
	start();
	int fd[CLIENTS];
	for (int i = 0; i < CLIENTS; i++) {
		uint8_t prefix[4];
		fd[i] = client();
		be32_put(prefix, 100 << 20);
		put_raw(fd[i], prefix, 4);
	}
	WAIT_FOR(stats().bytes_in == 4 * CLIENTS);
	assert_true(stats().queued_bytes <= CLIENTS * 8192);
	/* It grows with what comes. */
	char *data = calloc(1, 300000);
	put_raw(fd[0], data, 300000);
	WAIT_FOR(stats().bytes_in == 4 * CLIENTS + 300000);
	assert_true(stats().queued_bytes <= CLIENTS * 8192 + 5 * 300000);
	free(data);
	for (int i = 0; i < CLIENTS; i++)
		close(fd[i]);
	WAIT_FOR(stats().queued_bytes == 0);
	stop();
}

static void test_large_requests(void **state)
{
	(void)state;
	start();
	static const size_t sizes[] = {1, 255, 256, 257, 4095, 4096, 4097, 65531, 65532, 65533, 65536, 65537, 262144, 1 << 20, (1 << 20) + 1, 5000000, 20000000};
	int fd = client();
	for (int round = 0; round < 2; round++)
		for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
			uint8_t *data = malloc(sizes[i]);
			for (size_t k = 0; k < sizes[i]; k++)
				data[k] = (uint8_t)(k * 7 + k / 256);
			data[0] = 'n';
			put(fd, data, sizes[i]);
			uint32_t n;
			uint8_t *answer = get(fd, &n);
			assert_non_null(answer);
			assert_int_equal(be32_get(answer), sizes[i]);
			free(answer);
			if (sizes[i] < 300000) {
				data[0] = 'e';
				put(fd, data, sizes[i]);
				answer = get(fd, &n);
				assert_int_equal(n, sizes[i]);
				assert_memory_equal(answer, data, sizes[i]);
				free(answer);
			}
			free(data);
		}
	close(fd);
	stop();
}

/* ---- peers that do not read, or slowly ---- */

static void test_never_reading(void **state)
{
	(void)state;
	sv.s.threads = 1;
	start();
	int fd = client_socket(4096), good = client();
	client_connect(fd);
	int n = 0;
	fcntl(fd, F_SETFL, O_NONBLOCK);
	for (int64_t until = now_ms() + 500; now_ms() < until;) {
		uint8_t q[9] = {0, 0, 0, 5, 'm', 0, 1, 0, 0}; /* 64 KiB each */
		ssize_t k = send(fd, q, sizeof q, MSG_NOSIGNAL);
		if (k == sizeof q)
			n++;
		else
			pause_ms(5);
		if (k > 0 && k < (ssize_t)sizeof q)
			break;
	}
	assert_true(n > 1000);
	/* Handed out are only as many as its socket and the bound for unsent answers take. */
	unsigned before = sv.requests;
	pause_ms(50);
	assert_int_equal(sv.requests, before);
	assert_true(before - sv.released <= 18);
	assert_true(stats().queued_bytes < 1 << 20);
	put_text(good, "e I am served");
	expect_text(good, "e I am served");
	close(fd);
	close(good);
	stop();
	assert_int_equal(sv.released, sv.requests - 1);
}

static void test_file_ranges(void **state)
{
	(void)state;
	enum { BYTES = 6 << 20 };
	static const uint64_t ranges[][2] = {{0, 0}, {0, 1}, {5, 100}, {1, 32767}, {0, 32768}, {3, 32769}, {7, 100000}, {0, BYTES}, {BYTES - 1, 1}, {12345, BYTES - 20000}};
	enum { N = sizeof ranges / sizeof *ranges };
	sv.s.send_buffer_bytes = 1; /* the least there is */
	make_file(BYTES);
	start();
	int fd = client_socket(8192), quick = client();
	client_connect(fd);
	for (int i = 0; i < N; i++) {
		ask_file(quick, ranges[i][0], ranges[i][1]);
		expect_file(quick, ranges[i][0], ranges[i][1], 0);
	}
	/* Asked for all at once, among others, read slowly. */
	for (int i = 0; i < N; i++) {
		ask_file(fd, ranges[i][0], ranges[i][1]);
		put_text(fd, i % 2 ? "w between" : "e between");
	}
	for (int i = 0; i < N; i++) {
		expect_file(fd, ranges[i][0], ranges[i][1], 20);
		expect_text(fd, i % 2 ? "w between" : "e between");
	}
	WAIT_FOR(sv.released == 2 * N);
	assert_int_equal(sv.sent, 2 * N);
	close(fd);
	close(quick);
	stop();
}

/* Every call may do less than it was asked for. */
static ssize_t shorten(void *arg, enum sock_call call, int fd, size_t bytes)
{
	static _Atomic unsigned seed;
	(void)arg;
	(void)fd;
	unsigned n = seed++ * 2654435761u >> 8;
	return call == SOCK_ACCEPT || bytes < 2 ? 0 : n % 3 == 0 ? 1 : (ssize_t)(1 + n % (bytes < 5000 ? bytes : 5000));
}

static void test_short_calls(void **state)
{
	(void)state;
	make_file(300000);
	sock_set_hook(shorten, NULL);
	start();
	int fd = client();
	for (int i = 0; i < 20; i++) {
		ask_file(fd, (uint64_t)i, 100000 + (uint64_t)i);
		ask_file(fd, (uint64_t)i, 1000);
		put_text(fd, "w between");
		expect_file(fd, (uint64_t)i, 100000 + (uint64_t)i, 0);
		expect_file(fd, (uint64_t)i, 1000, 0);
		expect_text(fd, "w between");
	}
	struct pipeline p = {.fd = fd, .count = 100, .letter = 'e'};
	send_pipeline(&p);
	expect_pipeline(&p);
	close(fd);
	stop();
	sock_set_hook(NULL, NULL);
}

/* ---- files that are not in the page cache ---- */

static _Atomic int probed, sent_by_network, cold;

static ssize_t all_cold(void *arg, enum sock_call call, int fd, size_t bytes)
{
	char name[16];
	(void)arg;
	(void)fd;
	if (call == SOCK_PROBE) {
		probed++;
		return cold ? -EAGAIN : 0;
	}
	if (call == SOCK_SENDFILE && !pthread_getname_np(pthread_self(), name, sizeof name) && !strncmp(name, "network", 7))
		sent_by_network++;
	return bytes > 50000 ? 50000 : 0;
}

/* What may have to wait for the disk is read and sent by the pool: no network thread waits, and the answers keep their order. */
static void test_cold_files(void **state)
{
	(void)state;
	make_file(3000000);
	cold = 1;
	sock_set_hook(all_cold, NULL);
	sv.pool = pool_new("worker", 2);
	start();
	int fd = client();
	for (int i = 0; i < 20; i++) {
		ask_file(fd, (uint64_t)i, 2500000 + (uint64_t)i);
		ask_file(fd, (uint64_t)i, 1000);
		put_text(fd, "w between");
	}
	for (int i = 0; i < 20; i++) {
		expect_file(fd, (uint64_t)i, 2500000 + (uint64_t)i, 0);
		expect_file(fd, (uint64_t)i, 1000, 0);
		expect_text(fd, "w between");
	}
	assert_true(probed);
	/* Who leaves while it is read takes nobody along. */
	for (int i = 0; i < 50; i++) {
		uint8_t some[1000];
		int leaves = client();
		ask_file(leaves, 0, 2500000);
		if (i % 2)
			assert_true(get_raw(leaves, some, sizeof some));
		close(leaves);
	}
	put_text(fd, "e");
	expect_text(fd, "e");
	/* What is there is sent by the connection's own thread. */
	cold = sent_by_network = 0;
	ask_file(fd, 0, 100000);
	expect_file(fd, 0, 100000, 0);
	assert_true(sent_by_network);
	close(fd);
	stop();
	pool_free(sv.pool);
	sock_set_hook(NULL, NULL);
}

/* A file that is shorter than its range closes the connection: no other bytes go in its place. */
static void test_short_file(void **state)
{
	(void)state;
	make_file(200000);
	start();
	diag_set_level(-1);
	static const uint64_t ranges[][2] = {{199990, 20}, {100, 200000}, {300000, 100}, {300000, 100000}};
	for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
		int fd = client();
		uint32_t n;
		put_text(fd, "e before");
		ask_file(fd, ranges[i][0], ranges[i][1]);
		expect_text(fd, "e before");
		assert_null(get(fd, &n));
		close(fd);
	}
	WAIT_FOR(sv.released == 4);
	assert_int_equal(sv.sent, 0);
	stop();
}

/* One that sends and one that receives as much as can be do not keep a third from being served meanwhile. */
static _Atomic int flooding;

static void *flood(void *arg)
{
	struct pipeline *p = arg;
	uint8_t *data = calloc(1, 4 << 20);
	data[0] = 'd';
	for (int i = 0; i < 20; i++)
		put(p->fd, data, 4 << 20);
	free(data);
	flooding--;
	return NULL;
}

static void *drink(void *arg)
{
	struct pipeline *p = arg;
	for (int i = 0; i < 20; i++) {
		ask_file(p->fd, 0, 4 << 20);
		expect_file(p->fd, 0, 4 << 20, 0);
	}
	flooding--;
	return NULL;
}

static void test_fairness(void **state)
{
	(void)state;
	sv.s.threads = 1;
	make_file(4 << 20);
	start();
	pthread_t a, b;
	struct pipeline pa = {.fd = client()}, pb = {.fd = client()};
	int fd = client(), served = 0;
	flooding = 2;
	pthread_create(&a, NULL, flood, &pa);
	pthread_create(&b, NULL, drink, &pb);
	for (; flooding; served++) {
		put_text(fd, "e");
		expect_text(fd, "e");
	}
	pthread_join(a, NULL);
	pthread_join(b, NULL);
	assert_true(served > 10);
	close(fd);
	close(pa.fd);
	close(pb.fd);
	stop();
}

/* ---- ends ---- */

static void test_half_close(void **state)
{
	(void)state;
	start();
	for (int round = 0; round < 20; round++) {
		struct pipeline p = {.fd = client(), .count = 300, .letter = "we"[round % 2]};
		send_pipeline(&p);
		put_raw(p.fd, "\0\0\1", 3); /* half a length */
		shutdown(p.fd, SHUT_WR);
		expect_pipeline(&p);
		expect_end(p.fd);
	}
	/* What is parked hears of it, and may answer. */
	int fd = client();
	put_text(fd, "p");
	put_text(fd, "P");
	WAIT_FOR(sv.n_parked == 2);
	shutdown(fd, SHUT_WR);
	expect_text(fd, "p");
	WAIT_FOR(sv.told[NET_PEER_DONE] == 2);
	release_parked();
	expect_text(fd, "P");
	expect_end(fd);
	WAIT_FOR(sv.closed == sv.opened);
	assert_int_equal(sv.told[NET_GONE], 0);
	stop();
}

static void reset(int fd)
{
	struct linger l = {.l_onoff = 1};
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
	close(fd);
}

static void test_reset(void **state)
{
	(void)state;
	make_file(1 << 20);
	start();
	for (int i = 0; i < 50; i++) {
		int fd = client();
		unsigned before = sv.requests;
		put_text(fd, "w");
		ask_file(fd, 0, 1 << 20);
		put_text(fd, "P");
		ask_memory(fd, 100000);
		if (i % 2)
			WAIT_FOR(sv.requests == before + 4);
		reset(fd);
		WAIT_FOR(stats().accepted == (unsigned)i + 1 && stats().connections == 0);
	}
	assert_true(sv.told[NET_GONE] >= 25);
	/* Their holders still have them; the answers go nowhere. */
	assert_true(sv.done < sv.requests);
	release_parked();
	WAIT_FOR(sv.done == sv.requests && sv.closed == sv.opened);
	stop();
}

/* Answers from other threads race with the end of the connection. */
static void test_reset_races(void **state)
{
	(void)state;
	start();
	for (int i = 0; i < 300; i++) {
		int fd = client();
		for (int k = 0; k < 20; k++)
			put_text(fd, k % 4 ? "w" : "p");
		if (i % 3)
			pause_ms(i % 3 - 1);
		if (i % 2)
			reset(fd);
		else
			close(fd);
		if (i % 5 == 0)
			release_parked();
	}
	WAIT_FOR(stats().accepted == 300 && stats().connections == 0);
	release_parked();
	WAIT_FOR(sv.done == sv.requests && sv.closed == sv.opened);
	stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_echo, set_up),
		cmocka_unit_test_setup(test_pieces, set_up),
		cmocka_unit_test_setup(test_pipelining, set_up),
		cmocka_unit_test_setup(test_barrier, set_up),
		cmocka_unit_test_setup(test_calls, set_up),
		cmocka_unit_test_setup(test_bad_lengths, set_up),
		cmocka_unit_test_setup(test_announced, set_up),
		cmocka_unit_test_setup(test_large_requests, set_up),
		cmocka_unit_test_setup(test_never_reading, set_up),
		cmocka_unit_test_setup(test_file_ranges, set_up),
		cmocka_unit_test_setup(test_short_calls, set_up),
		cmocka_unit_test_setup(test_cold_files, set_up),
		cmocka_unit_test_setup(test_short_file, set_up),
		cmocka_unit_test_setup(test_fairness, set_up),
		cmocka_unit_test_setup(test_half_close, set_up),
		cmocka_unit_test_setup(test_reset, set_up),
		cmocka_unit_test_setup(test_reset_races, set_up),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
