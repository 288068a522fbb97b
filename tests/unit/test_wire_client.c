#include "cluster/wire/client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "cluster/wire/errors.h"

/* ---- a broker of a few lines, on a thread ---- */

struct broker {
	int listening, fd;
	char address[64];
	pthread_t thread;
	void (*serve)(struct broker *b);
	/* The request being served */
	struct arena arena;
	uint8_t frame[4096];
	size_t n, body;
	const struct api *api;
	struct request_header header;
	int served;
};

static bool receive_exactly(int fd, void *p, size_t n)
{
	return recv(fd, p, n, MSG_WAITALL) == (ssize_t)n;
}

static bool next_request(struct broker *b)
{
	uint8_t length[4];
	struct err e = ERR_INIT;
	if (!receive_exactly(b->fd, length, 4))
		return false;
	b->n = be32_get(length);
	assert_true(b->n <= sizeof b->frame && receive_exactly(b->fd, b->frame, b->n));
	arena_reset(&b->arena);
	ssize_t used = api_decode_request_header(b->frame, b->n, &b->arena, &b->header, &b->api, &e);
	assert_true(used > 0);
	b->body = (size_t)used;
	b->served++;
	return true;
}

static void decode_body(struct broker *b, void *request)
{
	struct err e = ERR_INIT;
	assert_int_equal(wire_decode(b->api->request, b->header.api_version, b->frame + b->body, b->n - b->body, &b->arena, request, &e), b->n - b->body);
}

static void send_bytes(struct broker *b, const void *p, size_t n)
{
	(void)!send(b->fd, p, n, MSG_NOSIGNAL); /* the client may have given up */
}

static void answer(struct broker *b, int version, int32_t correlation_id, const void *response)
{
	struct wire_out out;
	struct err e = ERR_INIT;
	wire_out_init(&out, 0);
	assert_int_equal(api_encode_response(b->api, version, correlation_id, response, &out, &e), 0);
	send_bytes(b, out.bytes.data, out.bytes.len);
	wire_out_release(&out);
}

static void answer_versions(struct broker *b, int max_metadata)
{
	struct api_versions_request request;
	struct api_versions_response r;
	struct api_versions_response_api apis[] = {
		{API_PRODUCE, 0, 13}, {API_METADATA, 0, (int16_t)max_metadata}, {API_VERSIONS, 0, 4}, {API_FETCH, 0, 3}, {API_HEARTBEAT, 9, 11}, {999, 1, 2},
	};
	decode_body(b, &request);
	assert_true(wire_string_is(request.client_software_name, "spoolfs"));
	assert_true(request.client_software_version.n > 0);
	wire_init(&wire_api_versions_response, &r);
	r.api_keys.v = apis;
	r.api_keys.n = sizeof apis / sizeof *apis;
	answer(b, b->header.api_version, b->header.correlation_id, &r);
}

/* Metadata with the number of topics asked for as the controller, and the client's name as the cluster's. */
static void answer_metadata(struct broker *b)
{
	struct metadata_request request;
	struct metadata_response r;
	decode_body(b, &request);
	wire_init(&wire_metadata_response, &r);
	r.controller_id = request.topics.n;
	r.cluster_id = b->header.client_id;
	answer(b, b->header.api_version, b->header.correlation_id, &r);
}

static void serve_kafka(struct broker *b)
{
	while (next_request(b)) {
		if (b->api->key == API_VERSIONS)
			answer_versions(b, 5);
		else if (b->api->key == API_METADATA)
			answer_metadata(b);
		else
			assert_int_equal(b->api->key, API_PRODUCE);
	}
}

static void *run_broker(void *arg)
{
	struct broker *b = arg;
	while ((b->fd = accept(b->listening, NULL, NULL)) >= 0) {
		b->serve(b);
		close(b->fd);
	}
	return NULL;
}

static struct broker *start(int family, void (*serve)(struct broker *b))
{
	struct broker *b = calloc(1, sizeof *b);
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
	struct sockaddr_in four = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr *a = family == AF_INET6 ? (struct sockaddr *)&six : (struct sockaddr *)&four;
	socklen_t n = family == AF_INET6 ? sizeof six : sizeof four;
	b->serve = serve;
	arena_init(&b->arena, 0);
	b->listening = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(b->listening, a, n), 0);
	assert_int_equal(listen(b->listening, 5), 0);
	assert_int_equal(getsockname(b->listening, a, &n), 0);
	snprintf(b->address, sizeof b->address, family == AF_INET6 ? "[::1]:%d" : "127.0.0.1:%d", ntohs(family == AF_INET6 ? six.sin6_port : four.sin_port));
	assert_int_equal(pthread_create(&b->thread, NULL, run_broker, b), 0);
	return b;
}

static void stop(struct broker *b)
{
	shutdown(b->listening, SHUT_RDWR);
	pthread_join(b->thread, NULL);
	close(b->listening);
	arena_release(&b->arena);
	free(b);
}

enum { LONG_MS = 20000, SHORT_MS = 150 };

static struct client *opened(const struct broker *b)
{
	struct client *c;
	struct err e = ERR_INIT;
	if (client_open(&c, b->address, "me", LONG_MS, &e) < 0)
		fail_msg("%s", e.text);
	return c;
}

static void assert_not_opened(const struct broker *b, int code, const char *text)
{
	struct client *c;
	struct err e = ERR_INIT;
	assert_int_equal(client_open(&c, b->address, "me", code == ERR_TIMED_OUT ? SHORT_MS : LONG_MS, &e), code);
	assert_null(c);
	assert_int_equal(e.code, code);
	if (!strstr(e.text, text) || !strstr(e.text, b->address))
		fail_msg("%s", e.text);
}

/* ---- what it is for ---- */

static int32_t ask_metadata(struct client *c, int topics)
{
	struct metadata_request_topic asked[10];
	struct metadata_request request;
	struct metadata_response r;
	struct err e = ERR_INIT;
	wire_init(&wire_metadata_request, &request);
	for (int i = 0; i < topics; i++) {
		wire_init(&wire_metadata_request_topic, &asked[i]);
		asked[i].name = wire_string("topic");
	}
	request.topics.v = asked;
	request.topics.n = topics;
	if (client_call(c, API_METADATA, &request, &r, &e) < 0)
		fail_msg("%s", e.text);
	assert_true(wire_string_is(r.cluster_id, "me"));
	return r.controller_id;
}

static void test_requests_are_answered(void **state)
{
	(void)state;
	for (int six = 0; six < 2; six++) {
		struct broker *b = start(six ? AF_INET6 : AF_INET, serve_kafka);
		struct client *c = opened(b);
		for (int topics = 0; topics < 10; topics++)
			assert_int_equal(ask_metadata(c, topics), topics);
		client_close(c);
		stop(b);
	}
}

static void test_the_highest_version_that_both_know_is_spoken(void **state)
{
	(void)state;
	struct broker *b = start(AF_INET, serve_kafka);
	struct client *c = opened(b);
	struct err e = ERR_INIT;
	struct metadata_request request;
	int min, max;
	assert_int_equal(client_version(c, API_METADATA, &e), 5);
	assert_int_equal(client_version(c, API_PRODUCE, &e), 13);
	assert_int_equal(client_version(c, API_VERSIONS, &e), 4);
	assert_int_equal(client_version(c, API_FETCH, &e), ERR_UNSUPPORTED);
	assert_non_null(strstr(e.text, "Fetch has versions 0 to 3 there, 4 to 18 here"));
	assert_int_equal(client_version(c, API_HEARTBEAT, &e), ERR_UNSUPPORTED);
	assert_int_equal(client_version(c, API_DESCRIBE_CLUSTER, &e), ERR_UNSUPPORTED);
	assert_non_null(strstr(e.text, "DescribeCluster (API key 60) is not known there"));
	assert_int_equal(client_version(c, 999, &e), ERR_UNSUPPORTED);
	assert_int_equal(client_version(c, -1, &e), ERR_UNSUPPORTED);
	assert_true(client_broker_versions(c, 999, &min, &max));
	assert_int_equal(min * 10 + max, 12);
	assert_false(client_broker_versions(c, 998, &min, &max));
	assert_false(client_broker_versions(c, 1000, &min, &max));

	/* A request that cannot be said in that version is not sent, and nothing is broken by it. */
	wire_init(&wire_metadata_request, &request);
	request.include_topic_authorized_operations = true;
	assert_int_equal(client_send(c, API_METADATA, -1, &request, &e), ERR_UNSUPPORTED);
	assert_int_equal(client_send(c, API_FETCH, -1, &request, &e), ERR_UNSUPPORTED);
	assert_int_equal(ask_metadata(c, 3), 3);
	client_close(c);
	stop(b);
}

static void test_requests_may_be_sent_ahead(void **state)
{
	(void)state;
	enum { AHEAD = 50 };
	struct broker *b = start(AF_INET, serve_kafka);
	struct client *c = opened(b);
	struct err e = ERR_INIT;
	struct metadata_request request;
	struct metadata_response r;
	struct heartbeat_response h;
	wire_init(&wire_metadata_request, &request);
	for (int round = 0; round < 3; round++) {
		assert_int_equal(client_receive(c, API_METADATA, &r, &e), ERR_INVALID);
		for (int i = 0; i < AHEAD; i++)
			assert_int_equal(client_send(c, API_METADATA, i % 6, &request, &e), 0);
		assert_int_equal(client_receive(c, API_HEARTBEAT, &h, &e), ERR_INVALID);
		for (int i = 0; i < AHEAD; i++) {
			assert_int_equal(client_receive(c, API_METADATA, &r, &e), 0);
			assert_int_equal(r.cluster_id.n, i % 6 >= 2 ? 2 : -1);
		}
	}
	client_close(c);
	stop(b);
}

static void test_nothing_is_waited_for_where_a_producer_wants_no_answer(void **state)
{
	(void)state;
	struct broker *b = start(AF_INET, serve_kafka);
	struct client *c = opened(b);
	struct err e = ERR_INIT;
	struct produce_request request;
	struct produce_response r;
	wire_init(&wire_produce_request, &request);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(client_send(c, API_PRODUCE, -1, &request, &e), 0);
		assert_int_equal(client_receive(c, API_PRODUCE, &r, &e), ERR_INVALID);
		assert_int_equal(ask_metadata(c, 4), 4);
	}
	client_close(c);
	stop(b);
}

/* ---- brokers of another age ---- */

static int refused; /* by the broker's thread, which is joined before it is read */

static void refuse_versions(struct broker *b, int known)
{
	struct api_versions_response_api own = {API_VERSIONS, 0, (int16_t)known};
	struct api_versions_response r;
	wire_init(&wire_api_versions_response, &r);
	r.error_code = KAFKA_UNSUPPORTED_VERSION;
	r.api_keys.v = &own;
	r.api_keys.n = known > 0;
	answer(b, 0, b->header.correlation_id, &r);
	refused++;
}

static void serve_knowing(struct broker *b, int known)
{
	while (next_request(b)) {
		if (b->api->key == API_METADATA)
			answer_metadata(b);
		else if (b->header.api_version > known)
			refuse_versions(b, known);
		else
			answer_versions(b, 2);
	}
}

static void answer_versions_of(struct broker *b)
{
	struct api_versions_response_api apis[] = {{API_METADATA, 0, 2}};
	struct api_versions_response r;
	wire_init(&wire_api_versions_response, &r);
	r.api_keys.v = apis;
	r.api_keys.n = 1;
	answer(b, b->header.api_version, b->header.correlation_id, &r);
}

static void serve_version_3(struct broker *b)
{
	serve_knowing(b, 3);
}

static void serve_version_0(struct broker *b)
{
	while (next_request(b)) {
		if (b->api->key == API_METADATA)
			answer_metadata(b);
		else if (b->header.api_version > 0)
			refuse_versions(b, 0);
		else
			answer_versions_of(b);
	}
}

static void serve_no_version(struct broker *b)
{
	while (next_request(b))
		refuse_versions(b, 100);
}

static void test_a_broker_that_knows_older_versions_is_asked_again(void **state)
{
	(void)state;
	void (*const ages[])(struct broker *b) = {serve_version_3, serve_version_0};
	for (int i = 0; i < 2; i++) {
		refused = 0;
		struct broker *b = start(AF_INET, ages[i]);
		struct client *c = opened(b);
		struct err e = ERR_INIT;
		assert_int_equal(client_version(c, API_METADATA, &e), 2);
		assert_int_equal(ask_metadata(c, 1), 1);
		client_close(c);
		stop(b);
		assert_int_equal(refused, 1);
	}
	struct broker *b = start(AF_INET, serve_no_version);
	assert_not_opened(b, ERR_UNSUPPORTED, "UNSUPPORTED_VERSION");
	stop(b);
}

/* ---- what goes wrong ---- */

static void serve_nothing(struct broker *b)
{
	uint8_t byte;
	while (recv(b->fd, &byte, 1, 0) > 0)
		;
}

static void serve_hanging_up(struct broker *b)
{
	next_request(b);
}

static void serve_half(struct broker *b)
{
	next_request(b);
	send_bytes(b, "\0\0\0\x20\0\0", 6);
}

static void serve_http(struct broker *b)
{
	next_request(b);
	send_bytes(b, "HTTP/1.1 400 Bad Request\r\n\r\n", 28);
	serve_nothing(b);
}

static void serve_short(struct broker *b)
{
	next_request(b);
	send_bytes(b, "\0\0\0\2\0\0", 6);
	serve_nothing(b);
}

static void serve_noise(struct broker *b)
{
	next_request(b);
	send_bytes(b, "\0\0\0\x0b\0\0\0\0\0\0\xff\xff\xff\x7f\0", 15);
	serve_nothing(b);
}

static void serve_another(struct broker *b)
{
	next_request(b);
	struct api_versions_response r;
	wire_init(&wire_api_versions_response, &r);
	answer(b, b->header.api_version, b->header.correlation_id + 1, &r);
	serve_nothing(b);
}

static void test_what_is_no_broker_is_told_as_what_it_is(void **state)
{
	(void)state;
	static const struct {
		void (*serve)(struct broker *b);
		int code;
		const char *text;
	} cases[] = {
		{serve_nothing, ERR_TIMED_OUT, "timed out while waiting for a response"},
		{serve_hanging_up, ERR_OFFLINE, "the broker closed the connection"},
		{serve_half, ERR_OFFLINE, "the broker closed the connection"},
		{serve_http, ERR_CORRUPT, "is it a Kafka broker"},
		{serve_short, ERR_CORRUPT, "response_header.correlation_id at byte 0"},
		{serve_noise, ERR_CORRUPT, "api_versions_response.api_keys at byte"},
		{serve_another, ERR_CORRUPT, "a response to request 1 where that to request 0 was due"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct broker *b = start(AF_INET, cases[i].serve);
		struct client *c;
		struct err e = ERR_INIT;
		int rc = client_open(&c, b->address, "me", cases[i].code == ERR_TIMED_OUT ? SHORT_MS : LONG_MS, &e);
		if (rc != cases[i].code || e.code != rc || c || !strstr(e.text, cases[i].text))
			fail_msg("%zu: %s", i, e.text);
		stop(b);
	}
}

static void serve_silence_after_versions(struct broker *b)
{
	next_request(b);
	answer_versions(b, 5);
	serve_nothing(b);
}

static void test_a_connection_that_failed_once_says_so_ever_after(void **state)
{
	(void)state;
	struct broker *b = start(AF_INET, serve_silence_after_versions);
	struct client *c = opened(b);
	struct err e = ERR_INIT;
	struct metadata_request request;
	struct metadata_response r;
	wire_init(&wire_metadata_request, &request);
	client_set_timeout(c, SHORT_MS);
	assert_int_equal(client_call(c, API_METADATA, &request, &r, &e), ERR_TIMED_OUT);
	assert_int_equal(client_call(c, API_METADATA, &request, &r, &e), ERR_TIMED_OUT);
	assert_non_null(strstr(e.text, "the connection broke before (timed out)"));
	assert_int_equal(client_receive(c, API_METADATA, &r, &e), ERR_TIMED_OUT);
	client_close(c);
	stop(b);
}

static void serve_in_drops(struct broker *b)
{
	while (next_request(b)) {
		struct wire_out out;
		struct err e = ERR_INIT;
		struct metadata_response m;
		struct api_versions_response_api apis[] = {{API_METADATA, 0, 13}};
		struct api_versions_response v;
		wire_init(&wire_metadata_response, &m);
		wire_init(&wire_api_versions_response, &v);
		m.controller_id = 7;
		m.cluster_id = wire_string("me");
		v.api_keys.v = apis;
		v.api_keys.n = 1;
		wire_out_init(&out, 0);
		assert_int_equal(api_encode_response(b->api, b->header.api_version, b->header.correlation_id, b->api->key == API_METADATA ? (void *)&m : (void *)&v, &out, &e), 0);
		for (size_t i = 0; i < out.bytes.len; i++) {
			send_bytes(b, out.bytes.data + i, 1);
			usleep(500);
		}
		wire_out_release(&out);
	}
}

/* Whatever it waits for: an answer, or the versions when it is opened. */
static void test_a_call_is_given_up_once_its_descriptor_says_so(void **state)
{
	(void)state;
	struct broker *b = start(AF_INET, serve_silence_after_versions);
	struct client *c;
	struct err e = ERR_INIT;
	struct metadata_request request;
	struct metadata_response r;
	int cancel = eventfd(0, EFD_CLOEXEC);
	assert_true(cancel >= 0);
	assert_int_equal(client_open_cancellable(&c, b->address, "me", LONG_MS, cancel, &e), 0);
	wire_init(&wire_metadata_request, &request);
	assert_int_equal(client_send(c, API_METADATA, -1, &request, &e), 0);
	assert_int_equal(write(cancel, &(uint64_t){1}, sizeof(uint64_t)), sizeof(uint64_t));
	assert_int_equal(client_receive(c, API_METADATA, &r, &e), ERR_INTERRUPTED);
	assert_non_null(strstr(e.text, "given up while waiting for a response"));
	assert_int_equal(client_call(c, API_METADATA, &request, &r, &e), ERR_INTERRUPTED);
	client_close(c);
	stop(b);
	b = start(AF_INET, serve_nothing);
	assert_int_equal(client_open_cancellable(&c, b->address, "me", LONG_MS, cancel, &e), ERR_INTERRUPTED);
	assert_null(c);
	close(cancel);
	stop(b);
}

static void test_a_response_may_come_in_drops(void **state)
{
	(void)state;
	struct broker *b = start(AF_INET, serve_in_drops);
	struct client *c = opened(b);
	assert_int_equal(ask_metadata(c, 1), 7);
	client_close(c);
	stop(b);
}

static void test_addresses(void **state)
{
	(void)state;
	static const struct {
		const char *address;
		int code;
	} cases[] = {
		{"", ERR_INVALID}, {":9092", ERR_INVALID}, {"[]:9092", ERR_INVALID}, {"[::1", ERR_INVALID}, {"[::1]9092", ERR_INVALID}, {"localhost:", ERR_INVALID},
		{"localhost:0", ERR_INVALID},
		{"localhost:65536", ERR_INVALID}, {"localhost:90x", ERR_INVALID}, {"localhost:-1", ERR_INVALID}, {"localhost: 1", ERR_INVALID}, {"[::1]:", ERR_INVALID},
		{"127.0.0.1:1", ERR_OFFLINE}, {"[::1]:1", ERR_OFFLINE}, {"no such host", ERR_NOT_FOUND},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct client *c;
		struct err e = ERR_INIT;
		int rc = client_open(&c, cases[i].address, "me", 5000, &e);
		if (rc != cases[i].code || e.code != rc || c || !strstr(e.text, cases[i].address))
			fail_msg("%s: %d: %s", cases[i].address, rc, e.text);
	}
}

static void test_connecting_ends_with_the_timeout(void **state)
{
	(void)state;
	/* A listener whose queue is full does not answer to a connection. */
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof a;
	int listening = socket(AF_INET, SOCK_STREAM, 0), waiting[64];
	char address[64];
	struct client *c;
	struct err e = ERR_INIT;
	assert_int_equal(bind(listening, (struct sockaddr *)&a, n), 0);
	assert_int_equal(listen(listening, 0), 0);
	assert_int_equal(getsockname(listening, (struct sockaddr *)&a, &n), 0);
	for (int i = 0; i < 64; i++) {
		waiting[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		(void)!connect(waiting[i], (struct sockaddr *)&a, n);
	}
	snprintf(address, sizeof address, "127.0.0.1:%d", ntohs(a.sin_port));
	assert_int_equal(client_open(&c, address, "me", SHORT_MS, &e), ERR_TIMED_OUT);
	assert_non_null(strstr(e.text, "timed out while connecting"));
	for (int i = 0; i < 64; i++)
		close(waiting[i]);
	close(listening);
}

static void test_who_listens_nowhere_refuses(void **state)
{
	(void)state;
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof a;
	char address[64];
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_true(bind(fd, (struct sockaddr *)&a, n) == 0 && getsockname(fd, (struct sockaddr *)&a, &n) == 0);
	snprintf(address, sizeof address, "127.0.0.1:%d", ntohs(a.sin_port));
	assert_true(client_refuses(address, 5000)); /* bound, but nobody listens */
	assert_int_equal(listen(fd, 4), 0);
	assert_false(client_refuses(address, 5000));
	assert_false(client_refuses("no.such.host.invalid:1", 1000));
	assert_false(client_refuses("nonsense:port", 1000));
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_requests_are_answered),
		cmocka_unit_test(test_the_highest_version_that_both_know_is_spoken),
		cmocka_unit_test(test_requests_may_be_sent_ahead),
		cmocka_unit_test(test_nothing_is_waited_for_where_a_producer_wants_no_answer),
		cmocka_unit_test(test_a_broker_that_knows_older_versions_is_asked_again),
		cmocka_unit_test(test_what_is_no_broker_is_told_as_what_it_is),
		cmocka_unit_test(test_a_connection_that_failed_once_says_so_ever_after),
		cmocka_unit_test(test_a_call_is_given_up_once_its_descriptor_says_so),
		cmocka_unit_test(test_a_response_may_come_in_drops),
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_connecting_ends_with_the_timeout),
		cmocka_unit_test(test_who_listens_nowhere_refuses),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
