#include "tests/unit/net_fixture.h"

#include <sys/resource.h>

/* How the reactor begins and ends, and what it bounds: connections, memory, descriptors, time. */

/* ---- stops ---- */

static void *stop_gracefully(void *arg)
{
	*(unsigned *)arg = net_stop(sv.net, 5000);
	return NULL;
}

static void test_graceful_stop(void **state)
{
	(void)state;
	start();
	int fd[4];
	unsigned left = 99;
	pthread_t t;
	for (int i = 0; i < 4; i++)
		fd[i] = client();
	put_text(fd[0], "p");          /* answered because of the stop */
	put_text(fd[0], "e");
	put_text(fd[1], "P");          /* answered during it */
	ask_memory(fd[2], 20000000);   /* more than a socket takes: read during it */
	put_text(fd[3], "e");
	expect_text(fd[3], "e");
	WAIT_FOR(sv.requests == 5);
	pthread_create(&t, NULL, stop_gracefully, &left);
	expect_text(fd[0], "p");
	expect_text(fd[0], "e");
	expect_end(fd[0]);
	expect_end(fd[3]);
	uint32_t n;
	uint8_t *large = get(fd[2], &n);
	assert_non_null(large);
	assert_int_equal(n, 20000000);
	free(large);
	expect_end(fd[2]);
	assert_int_equal(sv.told[NET_STOPPING], 2);
	release_parked();
	expect_text(fd[1], "P");
	expect_end(fd[1]);
	pthread_join(t, NULL);
	assert_int_equal(left, 0);
	stop();
}

static void test_stop_deadline(void **state)
{
	(void)state;
	start();
	int parked = client(), deaf = client_socket(4096);
	client_connect(deaf);
	ask_memory(deaf, 20000000); /* never read */
	put_text(parked, "P");
	WAIT_FOR(sv.requests == 2);
	struct net_address a;
	net_listener_address(sv.net, 0, &a);
	int64_t from = now_ms();
	assert_int_equal(net_stop(sv.net, 200), 1);
	assert_true(now_ms() - from >= 190);
	assert_int_equal(sv.told[NET_STOPPING], 1);
	assert_int_equal(sv.told[NET_GONE], 1);
	assert_int_equal(sv.released, 1);
	assert_int_equal(sv.sent, 0);
	expect_end(parked);
	close(deaf);
	int fd = client_socket(0);
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(a.port)};
	assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof sa), -1);
	assert_int_equal(errno, ECONNREFUSED);
	close(fd);
	stop(); /* answers what is parked, then frees */
}

static void test_stop_under_load(void **state)
{
	(void)state;
	for (int round = 0; round < 20; round++) {
		set_up(NULL);
		start();
		int fd[8];
		for (int i = 0; i < 8; i++) {
			fd[i] = client();
			for (int k = 0; k < 50; k++)
				put_text(fd[i], k % 3 ? "w" : "e");
		}
		assert_true(net_stop(sv.net, round % 4 ? round : 0) <= 400);
		stop();
		for (int i = 0; i < 8; i++)
			close(fd[i]);
	}
	/* And one that never ran. */
	struct net_options o = {.settings = &sv.s, .arg = &sv, .request = on_request};
	struct net *n;
	assert_int_equal(net_open(&n, &o, &err), 0);
	assert_int_equal(net_stop(n, 100), 0);
	net_free(n);
	net_free(NULL);
}

/* ---- limits ---- */

static void test_per_ip(void **state)
{
	(void)state;
	sv.s.max_connections_per_ip = 3;
	start();
	int fd[3];
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 3; i++) {
			fd[i] = client();
			put_text(fd[i], "e");
			expect_text(fd[i], "e");
		}
		for (int i = 0; i < 5; i++)
			expect_end(client());
		for (int i = 0; i < 3; i++)
			close(fd[i]);
		WAIT_FOR(stats().connections == 0); /* those over the limit never were */
	}
	stop();
}

static void test_max_connections(void **state)
{
	(void)state;
	sv.s.max_connections = 4;
	start();
	int fd[12];
	for (int i = 0; i < 12; i++) {
		fd[i] = client(); /* the system takes them; they wait */
		put_text(fd[i], "e");
	}
	for (int i = 0; i < 12; i++) {
		expect_text(fd[i], "e");
		assert_true(stats().connections <= 4);
		if (i + 4 < 12) {
			pause_ms(i == 0 ? 30 : 1);
			assert_int_equal(sv.requests <= (unsigned)i + 4, 1);
		}
		close(fd[i]);
	}
	stop();
}

static void test_idle(void **state)
{
	(void)state;
	sv.s.max_idle_ms = 150;
	start();
	int idle = client(), parked = client(), busy = client(), half = client();
	put_text(idle, "e");
	expect_text(idle, "e");
	put_text(parked, "p");
	put_raw(half, "\0\0\1\0some", 8); /* a frame that never ends is idle too */
	for (int64_t until = now_ms() + 500; now_ms() < until; pause_ms(20)) {
		put_text(busy, "w");
		expect_text(busy, "w");
	}
	assert_int_equal(stats().connections, 2);
	expect_end(idle);
	expect_end(half);
	release_parked();
	expect_text(parked, "p");
	put_text(parked, "e");
	expect_text(parked, "e");
	int64_t from = now_ms();
	expect_end(parked);
	assert_true(now_ms() - from >= 100);
	expect_end(busy);
	stop();
}

/* A peer that takes a long answer slowly is not idle; one that takes none of it for so long is. */
static void test_idle_sending(void **state)
{
	(void)state;
	make_file(4 << 20);
	sv.s.max_idle_ms = 300;
	sv.s.send_buffer_bytes = 8192;
	start();
	int slow = client_socket(8192), deaf = client_socket(8192);
	client_connect(slow);
	client_connect(deaf);
	ask_file(deaf, 0, 4 << 20);
	ask_file(slow, 0, 400000);
	expect_file(slow, 0, 400000, 20000); /* about a second */
	WAIT_FOR(stats().connections == 0);
	assert_int_equal(sv.sent, 1);
	assert_int_equal(sv.released, 2);
	close(slow);
	close(deaf);
	stop();
}

/* Bytes of requests in all are bounded: over the bound nothing is read, from anyone, until answers make room. */
static void test_queued_bytes(void **state)
{
	(void)state;
	enum { CLIENTS = 20, BYTES = 1 << 20 };
	sv.s.queued_max_bytes = 5 * BYTES;
	sv.s.request_max_bytes = 2 * BYTES;
	sv.s.starved_ms = 60000;
	start();
	int fd[CLIENTS];
	char *data = malloc(BYTES);
	memset(data, 'P', BYTES);
	for (int i = 0; i < CLIENTS; i++) {
		fd[i] = client();
		int on = 4 << 20;
		setsockopt(fd[i], SOL_SOCKET, SO_SNDBUF, &on, sizeof on);
	}
	uint8_t prefix[4];
	be32_put(prefix, BYTES);
	for (int i = 0; i < CLIENTS; i++) { /* their own buffers hold what is not read */
		put_raw(fd[i], prefix, 4);
		put_raw(fd[i], data, BYTES);
	}
	WAIT_FOR(stats().queued_bytes >= 5u * BYTES);
	pause_ms(100);
	assert_true(stats().queued_bytes <= 10u * BYTES);
	assert_true(sv.requests < CLIENTS);
	struct pollfd ready[CLIENTS];
	for (int i = 0; i < CLIENTS; i++)
		ready[i] = (struct pollfd){.fd = fd[i], .events = POLLIN};
	int64_t until = now_ms() + CLIENT_MS;
	for (int left = CLIENTS; left && now_ms() < until; poll(ready, CLIENTS, 2)) {
		release_parked();
		for (int i = 0; i < CLIENTS; i++) {
			uint32_t n;
			if (!(ready[i].revents & POLLIN))
				continue;
			uint8_t *answer = get(fd[i], &n);
			assert_non_null(answer);
			assert_int_equal(n, BYTES);
			free(answer);
			close(fd[i]);
			ready[i].fd = -1;
			ready[i].revents = 0;
			left--;
		}
	}
	assert_int_equal(sv.requests, CLIENTS);
	free(data);
	stop();
}

/* Frames that are never completed cannot keep all memory for themselves. */
static void test_hogs(void **state)
{
	(void)state;
	enum { HOGS = 8, BYTES = 1 << 20 };
	sv.s.queued_max_bytes = 2 * BYTES;
	sv.s.request_max_bytes = 2 * BYTES;
	sv.s.starved_ms = 100;
	start();
	int hog[HOGS];
	char *data = calloc(1, BYTES);
	for (int i = 0; i < HOGS; i++) {
		uint8_t prefix[4];
		int on = 4 << 20;
		hog[i] = client();
		setsockopt(hog[i], SOL_SOCKET, SO_SNDBUF, &on, sizeof on);
		be32_put(prefix, 2 * BYTES);
		put_raw(hog[i], prefix, 4);
		put_raw(hog[i], data, BYTES);
	}
	int fd = client();
	for (int i = 0; i < 5; i++) {
		put_text(fd, "e");
		expect_text(fd, "e");
	}
	close(fd);
	for (int i = 0; i < HOGS; i++)
		close(hog[i]);
	free(data);
	stop();
}

/* ---- descriptors ---- */

static int highest_fd(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	close(fd);
	return fd;
}

static void test_no_descriptors(void **state)
{
	(void)state;
	struct rlimit old, few;
	start();
	diag_set_level(-1);
	int good = client(), fd[10];
	put_text(good, "e");
	expect_text(good, "e");
	for (int i = 0; i < 10; i++)
		fd[i] = client_socket(0);
	getrlimit(RLIMIT_NOFILE, &old);
	few = old;
	few.rlim_cur = (rlim_t)highest_fd();
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	for (int i = 0; i < 10; i++) {
		uint32_t n;
		client_connect(fd[i]);
		assert_null(get(fd[i], &n)); /* at once, and not after some time in a queue */
		put_text(good, "e");
		expect_text(good, "e");
	}
	for (int i = 0; i < 10; i++)
		close(fd[i]);
	setrlimit(RLIMIT_NOFILE, &old);
	int again = client();
	put_text(again, "e");
	expect_text(again, "e");
	close(again);
	close(good);
	stop();
}

static _Atomic int accept_error;
static _Atomic unsigned accepts;

static ssize_t fail_accept(void *arg, enum sock_call call, int fd, size_t bytes)
{
	(void)arg;
	(void)fd;
	(void)bytes;
	accepts += call == SOCK_ACCEPT;
	return call == SOCK_ACCEPT ? -accept_error : 0;
}

/* Where not even the reserve helps there is a pause, not a busy loop. */
static void test_accept_fails(void **state)
{
	(void)state;
	sock_set_hook(fail_accept, NULL);
	start();
	diag_set_level(-1);
	static const int errors[] = {ENFILE, ENOMEM, EMFILE, EPERM};
	for (int i = 0; i < 4; i++) {
		accept_error = errors[i];
		accepts = 0;
		int fd = client();
		put_text(fd, "e");
		pause_ms(300);
		assert_true(accepts >= 1 && accepts < 20);
		accept_error = 0;
		expect_text(fd, "e");
		close(fd);
	}
	stop();
	sock_set_hook(NULL, NULL);
}

/* ---- memory ---- */

static size_t resident(void)
{
	long pages[2] = {0};
	FILE *f = fopen("/proc/self/statm", "r");
	assert_int_equal(fscanf(f, "%ld %ld", &pages[0], &pages[1]), 2);
	fclose(f);
	return (size_t)pages[1] * 4096;
}

static void test_idle_memory(void **state)
{
	(void)state;
	enum { CLIENTS = 2000 };
	sv.s.backlog = 4096;
	start();
	int *fd = calloc(CLIENTS, sizeof *fd), warm = client();
	put_text(warm, "e");
	expect_text(warm, "e");
	for (int parked = 0; parked < 2; parked++) {
		size_t rss = resident();
		for (int i = 0; i < CLIENTS; i++) {
			fd[i] = client();
			put_text(fd[i], parked ? "P and what a fetch may have" : "e");
			if (!parked)
				expect_text(fd[i], "e");
		}
		WAIT_FOR(stats().connections == CLIENTS + 1 && stats().requests_held == (parked ? CLIENTS : 0u));
		rss = resident() - rss;
		print_message("          %s: %zu bytes resident a connection\n", parked ? "more with a parked request" : "idle", rss / CLIENTS);
		if (parked)
			assert_true(stats().queued_bytes <= CLIENTS * 1536);
		else
			assert_true(stats().queued_bytes == 0);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
		assert_true(rss / CLIENTS < 3000);
#endif
		release_parked();
		for (int i = 0; i < CLIENTS; i++) {
			if (parked)
				expect_text(fd[i], "P and what a fetch may have");
			close(fd[i]);
		}
		WAIT_FOR(stats().connections == 1 && sv.done == sv.requests);
	}
	/* What was kept for reuse goes, too. */
	WAIT_FOR(stats().pooled_bytes == 0);
	free(fd);
	close(warm);
	stop();
}

/* Once warm, requests take no memory from the system's allocator but what the callee takes. */
static void test_steady_memory(void **state)
{
	(void)state;
	sv.s.threads = 1;
	start();
	int fd = client();
	char *data = malloc(300001);
	memset(data, 'n', 300000);
	size_t kept = 0;
	for (int i = 0; i < 50; i++) {
		uint32_t n;
		put(fd, data, i % 2 ? 300000 : 100);
		free(get(fd, &n));
		WAIT_FOR(stats().queued_bytes == 0);
		if (i == 4)
			kept = stats().pooled_bytes;
	}
	assert_true(stats().pooled_bytes <= kept && kept < 1 << 20);
	free(data);
	close(fd);
	stop();
}

/* However many small requests come in one packet: what was answered is let go of before more are taken, and before other connections have their turn. */
static void test_small_requests(void **state)
{
	(void)state;
	enum { CLIENTS = 8, EACH = 20000 };
	static char frames[EACH][5];
	int fd[CLIENTS];
	sv.s.threads = 1;
	start();
	for (int i = 0; i < EACH; i++)
		memcpy(frames[i], "\0\0\0\1e", sizeof frames[i]);
	for (int i = 0; i < CLIENTS; i++) {
		fd[i] = client();
		put_raw(fd[i], frames, sizeof frames);
	}
	for (int i = 0; i < CLIENTS * EACH; i++)
		expect_text(fd[i / EACH], "e");
	assert_true(sv.most_held <= 2 * sv.s.max_in_flight);
	for (int i = 0; i < CLIENTS; i++)
		close(fd[i]);
	stop();
}

/* ---- addresses and settings ---- */

static struct net_address list[NET_MAX_LISTENERS];

static void expect_listeners(const char *text, bool advertised, const char *want)
{
	char got[2000] = "", one[NET_MAX_HOST + 10];
	unsigned n;
	int r = net_parse_listeners(text, advertised, list, &n, &err);
	if (r) {
		assert_int_equal(r, ERR_INVALID);
		if (!strstr(err.text, want) || *want == '=')
			fail_msg("%s: \"%s\", wanted: \"%s\"", text, err.text, want);
		return;
	}
	for (unsigned i = 0; i < n; i++)
		snprintf(got + strlen(got), sizeof got - strlen(got), "=%s", net_address_text(&list[i], one));
	assert_string_equal(got, want);
}

static void test_listener_syntax(void **state)
{
	(void)state;
	expect_listeners("localhost:9092", false, "=localhost:9092");
	expect_listeners("PLAINTEXT://localhost:9092", false, "=localhost:9092");
	expect_listeners(" plaintext://:9092 , [::1]:9093,PLAINTEXT://0.0.0.0:0,[fe80::1%eth0]:1", false, "=:9092=[::1]:9093=0.0.0.0:0=[fe80::1%eth0]:1");
	expect_listeners("", false, "");
	expect_listeners("a:1,b:1", true, "=a:1=b:1");
	expect_listeners("a:1,a:1", true, "=a:1=a:1");
	expect_listeners("SSL://h:9092", false, "SSL is not supported");
	expect_listeners("sasl_ssl://h:9092", false, "SASL_SSL is not supported");
	expect_listeners("SASL_PLAINTEXT://h:9092", false, "SASL_PLAINTEXT is not supported");
	expect_listeners("INTERNAL://h:9092", false, "no listener protocol named \"INTERNAL\"");
	expect_listeners("://h:9092", false, "no listener protocol named \"\"");
	expect_listeners("h", false, "host:port is expected");
	expect_listeners("h:", false, "a port is a number");
	expect_listeners("h:65536", false, "a port is a number");
	expect_listeners("h:99999999999999999999", false, "a port is a number");
	expect_listeners("h:-1", false, "a port is a number");
	expect_listeners("::1:9092", false, "stands in brackets");
	expect_listeners("h h:1", false, "no host:port");
	expect_listeners("[]:1", false, "nothing in the brackets");
	expect_listeners("h:1,", false, "empty");
	expect_listeners(",h:1", false, "empty");
	expect_listeners("h:1,H:1", false, "stands twice");
	expect_listeners(":9092", true, "all interfaces");
	expect_listeners("0.0.0.0:9092", true, "all interfaces");
	expect_listeners("[::]:9092", true, "all interfaces");
	expect_listeners("h:0", true, "need a port");
	char many[400] = "";
	for (int i = 0; i <= NET_MAX_LISTENERS; i++)
		sprintf(many + strlen(many), "%sh:%d", i ? "," : "", i + 1);
	expect_listeners(many, false, "more than");
	memset(many, 'h', 300);
	strcpy(many + 300, ":1");
	expect_listeners(many, false, "more than 255");
}

static void test_settings(void **state)
{
	(void)state;
	const struct conf_property *tables[] = {net_properties};
	struct conf_schema *schema = conf_schema_new(tables, 1);
	struct conf *c = conf_new(schema, NULL, CONF_BROKER);
	struct net_settings s;
	assert_int_equal(net_settings_read(&s, c, &err), 0);
	assert_int_equal(s.listeners, 0);
	assert_int_equal(s.threads, 3);
	assert_int_equal(s.request_max_bytes, 104857600);
	assert_int_equal(s.max_idle_ms, 600000);
	assert_true(s.queued_max_bytes >= s.request_max_bytes);
	assert_int_equal(conf_set(c, "listeners", "SSL://h:1", &err), ERR_INVALID);
	assert_int_equal(conf_set(c, "socket.send.buffer.bytes", "0", &err), ERR_INVALID);
	assert_int_equal(conf_set(c, "listeners", "a:1,b:2,c:3", &err), 0);
	assert_int_equal(conf_set(c, "advertised.listeners", "x:1,y:2", &err), 0);
	assert_int_equal(net_settings_read(&s, c, &err), ERR_INVALID);
	assert_int_equal(conf_set(c, "advertised.listeners", "x:1", &err), 0);
	assert_int_equal(net_settings_read(&s, c, &err), 0);
	assert_int_equal(conf_set(c, "queued.max.request.bytes", "1000", &err), 0);
	assert_int_equal(net_settings_read(&s, c, &err), ERR_INVALID);
	assert_non_null(strstr(err.text, "socket.request.max.bytes"));
	conf_free(c);
	conf_schema_free(schema);
}

static struct net_address told_address;
static char told_peer[NET_PEER_TEXT];
static unsigned told_listener;

static void tell_address(void *arg, struct net_request *r)
{
	(void)arg;
	net_conn_advertised(r->conn, &told_address);
	net_conn_peer_text(r->conn, told_peer);
	told_listener = net_conn_listener(r->conn);
	net_respond_copy(r, "x", 1);
}

static int connect_to(const char *ip, uint16_t port)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	bool six = strchr(ip, ':');
	inet_pton(six ? AF_INET6 : AF_INET, ip, six ? (void *)&v6.sin6_addr : (void *)&v4.sin_addr);
	int fd = socket(six ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, six ? (void *)&v6 : (void *)&v4, six ? sizeof v6 : sizeof v4)) {
		close(fd);
		return -1;
	}
	return fd;
}

static void test_addresses(void **state)
{
	(void)state;
	struct net *n;
	struct net_address a, b;
	struct net_options o = {.settings = &sv.s, .request = tell_address};
	sv.s.listeners = 2;
	memset(sv.s.listener, 0, sizeof sv.s.listener); /* all interfaces, any port */
	strcpy(sv.s.listener[1].host, "localhost");
	assert_int_equal(net_open(&n, &o, &err), 0);
	assert_int_equal(net_run(n, &err), 0);
	net_listener_address(n, 0, &a);
	net_listener_address(n, 1, &b);
	assert_true(a.port && b.port && a.port != b.port);
	int fd = connect_to("127.0.0.1", a.port);
	put_text(fd, "?");
	expect_text(fd, "x");
	assert_string_equal(told_address.host, "127.0.0.1"); /* where we came in */
	assert_int_equal(told_address.port, a.port);
	assert_int_equal(told_listener, 0);
	assert_int_equal(strncmp(told_peer, "127.0.0.1:", 10), 0);
	close(fd);
	fd = connect_to("::1", a.port);
	if (fd >= 0) {
		put_text(fd, "?");
		expect_text(fd, "x");
		assert_string_equal(told_address.host, "::1");
		assert_int_equal(strncmp(told_peer, "[::1]:", 6), 0);
		close(fd);
		fd = connect_to("::1", b.port); /* localhost is both */
		if (fd >= 0) {
			put_text(fd, "?");
			expect_text(fd, "x");
			close(fd);
		}
	}
	fd = connect_to("127.0.0.1", b.port);
	put_text(fd, "?");
	expect_text(fd, "x");
	assert_string_equal(told_address.host, "localhost");
	assert_int_equal(told_listener, 1);
	close(fd);
	/* Taken, unknown, not ours. */
	struct net *other;
	sv.s.listeners = 1;
	strcpy(sv.s.listener[0].host, "127.0.0.1");
	sv.s.listener[0].port = b.port;
	assert_int_equal(net_open(&other, &o, &err), ERR_BUSY);
	strcpy(sv.s.listener[0].host, "no.such.host.invalid");
	assert_int_equal(net_open(&other, &o, &err), ERR_INVALID);
	strcpy(sv.s.listener[0].host, "192.0.2.1");
	assert_int_equal(net_open(&other, &o, &err), ERR_INVALID);
	assert_non_null(strstr(err.text, "192.0.2.1"));
	net_free(n);
	/* Told, whatever the listener. */
	memset(sv.s.listener, 0, sizeof sv.s.listener);
	sv.s.advertiseds = 1;
	strcpy(sv.s.advertised[0].host, "public");
	sv.s.advertised[0].port = 9;
	assert_int_equal(net_open(&n, &o, &err), 0);
	assert_int_equal(net_run(n, &err), 0);
	net_listener_address(n, 0, &a);
	fd = connect_to("127.0.0.1", a.port);
	put_text(fd, "?");
	expect_text(fd, "x");
	assert_string_equal(told_address.host, "public");
	assert_int_equal(told_address.port, 9);
	close(fd);
	net_free(n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_idle_memory, set_up), /* first: what others leave in the heap would hide what it takes */
		cmocka_unit_test_setup(test_graceful_stop, set_up),
		cmocka_unit_test_setup(test_stop_deadline, set_up),
		cmocka_unit_test_setup(test_stop_under_load, set_up),
		cmocka_unit_test_setup(test_per_ip, set_up),
		cmocka_unit_test_setup(test_max_connections, set_up),
		cmocka_unit_test_setup(test_idle, set_up),
		cmocka_unit_test_setup(test_idle_sending, set_up),
		cmocka_unit_test_setup(test_queued_bytes, set_up),
		cmocka_unit_test_setup(test_hogs, set_up),
		cmocka_unit_test_setup(test_no_descriptors, set_up),
		cmocka_unit_test_setup(test_accept_fails, set_up),
		cmocka_unit_test_setup(test_steady_memory, set_up),
		cmocka_unit_test_setup(test_small_requests, set_up),
		cmocka_unit_test_setup(test_listener_syntax, set_up),
		cmocka_unit_test_setup(test_settings, set_up),
		cmocka_unit_test_setup(test_addresses, set_up),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
