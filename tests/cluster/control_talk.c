/*
 * control_talk: a controller, and a broker that has no log but remembers what it is told. Does what it is told itself, one JSON object a line, and prints what becomes of it, one a line.
 *
 *   control_talk CONNECT ID SESSION_TIMEOUT_MS [unclean]         takes part in the election, and is registered as broker ID
 *
 *   {"do": "create", "id": 1, "topic": "t", "partitions": 3, "factor": 2}      also grow (partitions), delete
 *   {"do": "alter", "id": 2, "topic": "t", "partition": 0, "isr": [1, 2]}      as the leader that this broker is
 *   {"do": "shutdown", "id": 3}, {"do": "elect", "id": 4}, {"do": "reassign", "id": 5, "topic": "t", "partition": 0, "replicas": [2, 3]}
 *   {"do": "told", "id": 6, "topic": "t", "partition": 0}                      what it was told last of that partition
 *
 * It asks whom it takes for the controller only if that is itself: answers are {"id": 1, "error": "NONE", ...}. Events: {"event": "listening", "port": ...}, {"event": "controller", "is": 1},
 * {"event": "told", ...} for each LeaderAndIsr, {"event": "stop", ...} for each partition that is to be stopped, {"event": "brokers", "alive": [...]}.
 */
#include <arpa/inet.h>
#include <inttypes.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cluster/control/controller.h"
#include "cluster/wire/errors.h"
#include "cluster/zk/layout.h"
#include "store/diag.h"
#include "store/dirs.h"

struct told { char topic[64]; int32_t partition, leader, leader_epoch, partition_epoch; json_t *isr; struct wire_uuid id; };

static struct queue *queue;
static struct zk *zk;
static struct controller *controller;
static int32_t me, port;
static bool unclean;
static int64_t epoch = -1;              /* of this broker, once registered; under `lock` */
static int32_t controller_epoch;        /* the newest that it has heard of */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct told told[20000];
static size_t tolds;
static bool quiet; /* of what it is told */

static void print(json_t *line)
{
	static pthread_mutex_t out = PTHREAD_MUTEX_INITIALIZER;
	char *text = json_dumps(line, JSON_COMPACT);
	pthread_mutex_lock(&out);
	puts(text ? text : "{}");
	fflush(stdout);
	pthread_mutex_unlock(&out);
	free(text);
	json_decref(line);
}

static void die(const char *what, const struct err *e)
{
	print(json_pack("{s:s, s:s}", "failed", what, "error", e->text));
	_exit(1);
}

/* ---- the broker ---- */

static struct told *told_of(const char *topic, int32_t partition)
{
	for (size_t i = 0; i < tolds; i++) {
		if (told[i].partition == partition && strcmp(told[i].topic, topic) == 0)
			return &told[i];
	}
	told[tolds] = (struct told){.partition = partition, .leader = -1, .leader_epoch = -1, .partition_epoch = -1, .isr = json_array()};
	snprintf(told[tolds].topic, sizeof told->topic, "%s", topic);
	return &told[tolds++];
}

static void hear_state(const struct leader_and_isr_request_topic *t, const struct leader_and_isr_request_partition *p)
{
	char topic[64];
	snprintf(topic, sizeof topic, "%.*s", t->topic_name.n, t->topic_name.s);
	struct told *to = told_of(topic, p->partition_index);
	if (memcmp(&to->id, &t->topic_id, sizeof to->id) == 0 && p->leader_epoch < to->leader_epoch)
		return;
	to->id = t->topic_id;
	to->leader = p->leader;
	to->leader_epoch = p->leader_epoch;
	to->partition_epoch = p->partition_epoch;
	json_array_clear(to->isr);
	for (int32_t i = 0; i < p->isr.n; i++)
		json_array_append_new(to->isr, json_integer(p->isr.v[i]));
	if (!quiet)
		print(json_pack("{s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:O}", "event", "told", "topic", topic, "partition", p->partition_index, "leader", p->leader, "leader_epoch", p->leader_epoch,
			"partition_epoch", p->partition_epoch, "controller_epoch", p->controller_epoch, "isr", to->isr));
}

/* KAFKA_NONE: it comes from the newest controller, and is meant for this life of the broker. */
static int16_t fenced(int32_t of_controller, int64_t of_broker)
{
	if (of_controller < controller_epoch)
		return KAFKA_STALE_CONTROLLER_EPOCH;
	controller_epoch = of_controller;
	return epoch >= 0 && of_broker != epoch ? KAFKA_STALE_BROKER_EPOCH : KAFKA_NONE;
}

static void hear_states(const struct leader_and_isr_request *q, struct leader_and_isr_response *a, struct arena *arena)
{
	a->error_code = fenced(q->controller_epoch, q->broker_epoch);
	if (a->error_code)
		return;
	a->topics.v = arena_get(arena, (size_t)q->topic_states.n * sizeof *a->topics.v, NULL);
	for (int32_t t = 0; t < q->topic_states.n; t++) {
		const struct leader_and_isr_request_topic *from = &q->topic_states.v[t];
		struct leader_and_isr_response_topic *to = &a->topics.v[a->topics.n++];
		*to = (struct leader_and_isr_response_topic){.topic_id = from->topic_id};
		to->partition_errors.v = arena_get(arena, (size_t)from->partition_states.n * sizeof *to->partition_errors.v, NULL);
		for (int32_t i = 0; i < from->partition_states.n; i++) {
			hear_state(from, &from->partition_states.v[i]);
			to->partition_errors.v[to->partition_errors.n++] = (struct leader_and_isr_response_partition){.partition_index = from->partition_states.v[i].partition_index};
		}
	}
	print(json_pack("{s:s, s:i, s:i, s:I}", "event", "states", "type", q->type, "controller", q->controller_id, "topics", (json_int_t)q->topic_states.n));
}

static void hear_stop(const struct stop_replica_request *q, struct stop_replica_response *a)
{
	a->error_code = fenced(q->controller_epoch, q->broker_epoch);
	for (int32_t t = 0; !a->error_code && t < q->topic_states.n; t++) {
		for (int32_t i = 0; i < q->topic_states.v[t].partition_states.n; i++) {
			const struct stop_replica_request_partition_state *p = &q->topic_states.v[t].partition_states.v[i];
			print(json_pack("{s:s, s:s%, s:i, s:b}", "event", "stop", "topic", q->topic_states.v[t].topic_name.s, (size_t)q->topic_states.v[t].topic_name.n, "partition", p->partition_index, "deletes",
				p->delete_partition));
		}
	}
}

static void hear_metadata(const struct update_metadata_request *q, struct update_metadata_response *a)
{
	a->error_code = fenced(q->controller_epoch, q->broker_epoch);
	json_t *alive = json_array();
	for (int32_t i = 0; i < q->live_brokers.n; i++)
		json_array_append_new(alive, json_integer(q->live_brokers.v[i].id));
	print(json_pack("{s:s, s:o, s:i}", "event", "brokers", "alive", alive, "error", a->error_code));
}

static void hear_versions(struct api_versions_response *a, struct arena *arena)
{
	a->api_keys.v = arena_get(arena, 2 * sizeof *a->api_keys.v, NULL);
	a->api_keys.v[a->api_keys.n++] = (struct api_versions_response_api){API_VERSIONS, 0, 4};
	a->api_keys.v[a->api_keys.n++] = (struct api_versions_response_api){API_LIST_OFFSETS, 1, 10};
}

static bool read_all(int fd, uint8_t *p, size_t n)
{
	while (n) {
		ssize_t got = recv(fd, p, n, 0);
		if (got <= 0)
			return false;
		p += got;
		n -= (size_t)got;
	}
	return true;
}

static bool serve_one(int fd, struct arena *arena, struct wire_out *out)
{
	uint8_t length[4];
	struct request_header h;
	const struct api *api;
	max_align_t request[64], response[64];
	if (!read_all(fd, length, 4))
		return false;
	size_t n = be32_get(length);
	uint8_t *frame = arena_get(arena, n, NULL);
	if (!read_all(fd, frame, n))
		return false;
	ssize_t used = api_decode_request_header(frame, n, arena, &h, &api, NULL);
	if (used < 0 || wire_decode(api->request, h.api_version, frame + used, n - (size_t)used, arena, request, NULL) < 0)
		return false;
	wire_init(api->response, response);
	pthread_mutex_lock(&lock);
	if (api->key == API_LEADER_AND_ISR)
		hear_states((void *)request, (void *)response, arena);
	else if (api->key == API_STOP_REPLICA)
		hear_stop((void *)request, (void *)response);
	else if (api->key == API_UPDATE_METADATA)
		hear_metadata((void *)request, (void *)response);
	else if (api->key == API_VERSIONS)
		hear_versions((void *)response, arena);
	pthread_mutex_unlock(&lock);
	wire_out_clear(out);
	return api_encode_response(api, h.api_version, h.correlation_id, response, out, NULL) == 0 && send(fd, out->bytes.data, out->bytes.len, MSG_NOSIGNAL) == (ssize_t)out->bytes.len;
}

static void *serve(void *arg)
{
	int fd = (int)(intptr_t)arg;
	struct arena arena;
	struct wire_out out;
	arena_init(&arena, 0);
	wire_out_init(&out, 0);
	while (serve_one(fd, &arena, &out))
		arena_reset(&arena);
	close(fd);
	arena_release(&arena);
	wire_out_release(&out);
	return NULL;
}

static void *listen_for(void *arg)
{
	int fd = (int)(intptr_t)arg, one;
	pthread_t thread;
	while ((one = accept(fd, NULL, NULL)) >= 0) {
		if (pthread_create(&thread, NULL, serve, (void *)(intptr_t)one) == 0)
			pthread_detach(thread);
	}
	return NULL;
}

static void start_listening(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof a;
	pthread_t thread;
	if (bind(fd, (struct sockaddr *)&a, n) < 0 || listen(fd, 16) < 0 || getsockname(fd, (struct sockaddr *)&a, &n) < 0 || pthread_create(&thread, NULL, listen_for, (void *)(intptr_t)fd) != 0)
		_exit(2);
	pthread_detach(thread);
	port = ntohs(a.sin_port);
	print(json_pack("{s:s, s:i}", "event", "listening", "port", port));
}

/* ---- its registration ---- */

static void registered(void *arg, const struct zk_result *r)
{
	(void)arg;
	if (r->code != ZK_OK) {
		print(json_pack("{s:s, s:s}", "event", "not registered", "why", zk_code_text(r->code)));
		return;
	}
	pthread_mutex_lock(&lock);
	epoch = r->stat.czxid;
	pthread_mutex_unlock(&lock);
	print(json_pack("{s:s, s:I}", "event", "registered", "epoch", (json_int_t)r->stat.czxid));
	controller_start(controller);
}

static size_t paths_left; /* the queue's thread's */

static void path_made(void *arg, const struct zk_result *r)
{
	struct layout_endpoint endpoint = {"PLAINTEXT", "PLAINTEXT", "127.0.0.1", port};
	struct layout_broker b = {.endpoint = &endpoint, .endpoints = 1, .host = "127.0.0.1", .port = port, .jmx_port = -1, .ours = true, .clean = !unclean, .boot_id = "b", .data_id = "d"};
	struct layout_path path;
	struct wr out;
	(void)arg;
	if (r->code != ZK_OK || --paths_left)
		return;
	wr_init(&out, 0);
	layout_broker_encode(&b, &out);
	zk_create(zk, layout_broker_path(&path, me), out.data, out.len, ZK_EPHEMERAL, registered, NULL);
	wr_release(&out);
}

static void connected(void *arg, int64_t session)
{
	(void)arg;
	(void)session;
	for (paths_left = 0; layout_persistent_paths[paths_left]; paths_left++)
		zk_make_path(zk, layout_persistent_paths[paths_left], path_made, NULL);
}

static void expired(void *arg)
{
	(void)arg;
	print(json_pack("{s:s}", "event", "expired"));
}

/* ---- asking the controller ---- */

struct ask {
	struct controller_call call;
	json_t *line, *extra;
	struct arena arena;
	max_align_t request[64];
};

static const char *text(const struct ask *a, const char *key)
{
	const char *s = json_string_value(json_object_get(a->line, key));
	return s ? s : "";
}

static int32_t number(const struct ask *a, const char *key)
{
	return (int32_t)json_integer_value(json_object_get(a->line, key));
}

static void answered(struct controller_call *call, const void *response)
{
	struct ask *a = (struct ask *)call;
	int error = 0;
	json_t *answer = json_object();
	switch (call->kind) {
	case CONTROLLER_ALTER_PARTITION: {
		const struct alter_partition_response *r = response;
		error = r->error_code ? r->error_code : r->topics.v[0].partitions.v[0].error_code;
		break;
	}
	case CONTROLLER_SHUTDOWN: {
		const struct controlled_shutdown_response *r = response;
		error = r->error_code;
		json_object_set_new(answer, "remaining", json_integer(r->remaining_partitions.n));
		break;
	}
	case CONTROLLER_ELECT:
		error = ((const struct elect_leaders_response *)response)->error_code;
		break;
	case CONTROLLER_REASSIGN: {
		const struct alter_partition_reassignments_response *r = response;
		error = r->error_code ? r->error_code : r->responses.v[0].partitions.v[0].error_code;
		break;
	}
	default:
		error = ((const struct brain_answer *)response)->error;
	}
	json_object_set(answer, "id", json_object_get(a->line, "id"));
	json_object_set_new(answer, "error", json_string(kafka_error_name(error)));
	print(answer);
	json_decref(a->line);
	arena_release(&a->arena);
	free(a);
}

static int32_t *numbers(struct ask *a, const char *key, int32_t *n)
{
	json_t *list = json_object_get(a->line, key);
	*n = (int32_t)json_array_size(list);
	int32_t *v = arena_get(&a->arena, (size_t)*n * sizeof *v, NULL);
	for (int32_t i = 0; i < *n; i++)
		v[i] = (int32_t)json_integer_value(json_array_get(list, (size_t)i));
	return v;
}

static void ask_alter(struct ask *a)
{
	struct alter_partition_request *q = (void *)a->request;
	struct alter_partition_request_topic *t = arena_get(&a->arena, sizeof *t, NULL);
	struct alter_partition_request_partition *p = arena_get(&a->arena, sizeof *p, NULL);
	int32_t n, *isr = numbers(a, "isr", &n);
	pthread_mutex_lock(&lock);
	struct told *known = told_of(text(a, "topic"), number(a, "partition"));
	wire_init(&wire_alter_partition_request, q);
	*t = (struct alter_partition_request_topic){.topic_id = known->id, .partitions = {p, 1}};
	*p = (struct alter_partition_request_partition){.partition_index = known->partition, .leader_epoch = known->leader_epoch, .partition_epoch = known->partition_epoch};
	q->broker_id = me;
	q->broker_epoch = epoch;
	pthread_mutex_unlock(&lock);
	q->topics.v = t;
	q->topics.n = 1;
	p->new_isr_with_epochs.v = arena_get(&a->arena, (size_t)n * sizeof *p->new_isr_with_epochs.v, NULL);
	for (int32_t i = 0; i < n; i++)
		p->new_isr_with_epochs.v[p->new_isr_with_epochs.n++] = (struct alter_partition_request_broker){isr[i], -1};
	a->call.kind = CONTROLLER_ALTER_PARTITION;
}

static void ask_create(struct ask *a)
{
	struct brain_new_topic *n = (void *)a->request;
	struct op_config *config = arena_get(&a->arena, sizeof *config, NULL);
	char id[TOPIC_ID_CHARS + 1];
	*config = (struct op_config){wire_string("retention.ms"), wire_string("1000")};
	*n = (struct brain_new_topic){.name = text(a, "topic"), .partitions = number(a, "partitions"), .replication_factor = (int16_t)number(a, "factor"), .unclean = -1, .config = config, .configs = 1};
	uuid_text_new(id);
	uuid_bytes(id, n->id);
	a->call.kind = CONTROLLER_CREATE_TOPIC;
}

static void ask_reassign(struct ask *a)
{
	struct alter_partition_reassignments_request *q = (void *)a->request;
	struct alter_partition_reassignments_request_topic *t = arena_get(&a->arena, sizeof *t, NULL);
	struct alter_partition_reassignments_request_partition *p = arena_get(&a->arena, sizeof *p, NULL);
	wire_init(&wire_alter_partition_reassignments_request, q);
	*p = (struct alter_partition_reassignments_request_partition){.partition_index = number(a, "partition")};
	p->replicas.v = numbers(a, "replicas", &p->replicas.n);
	*t = (struct alter_partition_reassignments_request_topic){.name = wire_string(text(a, "topic")), .partitions = {p, 1}};
	q->topics.v = t;
	q->topics.n = 1;
	a->call.kind = CONTROLLER_REASSIGN;
}

static void ask_others(struct ask *a, const char *what)
{
	if (!strcmp(what, "grow")) {
		*(struct controller_partitions *)(void *)a->request = (struct controller_partitions){.topic = text(a, "topic"), .from = -1, .count = number(a, "partitions")};
		a->call.kind = CONTROLLER_CREATE_PARTITIONS;
	} else if (!strcmp(what, "delete")) {
		*(struct controller_deletion *)(void *)a->request = (struct controller_deletion){.topic = text(a, "topic")};
		a->call.kind = CONTROLLER_DELETE_TOPIC;
	} else if (!strcmp(what, "shutdown")) {
		struct controlled_shutdown_request *q = (void *)a->request;
		wire_init(&wire_controlled_shutdown_request, q);
		q->broker_id = json_object_get(a->line, "broker") ? number(a, "broker") : me;
		a->call.kind = CONTROLLER_SHUTDOWN;
	} else {
		struct elect_leaders_request *q = (void *)a->request;
		wire_init(&wire_elect_leaders_request, q);
		q->topic_partitions.n = -1;
		a->call.kind = CONTROLLER_ELECT;
	}
}

static void tell(json_t *line)
{
	pthread_mutex_lock(&lock);
	struct told *t = told_of(json_string_value(json_object_get(line, "topic")), (int32_t)json_integer_value(json_object_get(line, "partition")));
	print(json_pack("{s:O, s:i, s:i, s:i, s:O}", "id", json_object_get(line, "id"), "leader", t->leader, "leader_epoch", t->leader_epoch, "partition_epoch", t->partition_epoch, "isr", t->isr));
	pthread_mutex_unlock(&lock);
	json_decref(line);
}

static void act(json_t *line)
{
	const char *what = json_string_value(json_object_get(line, "do"));
	if (!strcmp(what, "told")) {
		tell(line);
		return;
	}
	if (!strcmp(what, "quiet")) {
		pthread_mutex_lock(&lock);
		quiet = true;
		pthread_mutex_unlock(&lock);
		json_decref(line);
		return;
	}
	struct ask *a = calloc(1, sizeof *a);
	a->line = line;
	a->call.answer = answered;
	a->call.request = a->request;
	arena_init(&a->arena, 0);
	if (!strcmp(what, "create"))
		ask_create(a);
	else if (!strcmp(what, "alter"))
		ask_alter(a);
	else if (!strcmp(what, "reassign"))
		ask_reassign(a);
	else
		ask_others(a, what);
	controller_ask(controller, &a->call);
}

static void changed(void *arg, int32_t id)
{
	(void)arg;
	print(json_pack("{s:s, s:i}", "event", "controller", "is", id));
}

int main(int argc, char **argv)
{
	struct err e = ERR_INIT;
	struct zk_listener listener = {.connected = connected, .expired = expired};
	char *line = NULL;
	size_t size = 0;
	if (argc < 4)
		return 2;
	me = atoi(argv[2]);
	unclean = argc > 4;
	diag_set_level(DIAG_DEBUG);
	if (queue_new(&queue, "control", &e) < 0)
		die("queue", &e);
	struct zk_options zo = {.connect = argv[1], .session_timeout_ms = atoi(argv[3]), .max_in_flight = 100, .queue = queue};
	if (zk_open(&zk, &zo, &e) < 0)
		die("zk", &e);
	zk_listen(zk, &listener);
	struct controller_options co = {.zk = zk, .queue = queue, .broker_id = me, .changed = changed,
		.settings = {.brain = {.max_multi_bytes = 512 << 10, .unclean_wait_ms = 60000, .balance_interval_ms = 1000000}, .request_timeout_ms = 5000}};
	if (controller_open(&controller, &co, &e) < 0)
		die("controller", &e);
	start_listening();
	zk_start(zk);
	if (zk_wait(zk, 60000, &e) < 0)
		die("connecting", &e);
	while (getline(&line, &size, stdin) > 0) {
		json_t *o = json_loads(line, 0, NULL);
		if (o)
			act(o);
	}
	controller_stop(controller);
	zk_close(zk);
	controller_free(controller);
	queue_free(queue);
	free(line);
	pthread_mutex_lock(&lock); /* for good: whoever still has something to tell is not heard */
	for (size_t i = 0; i < tolds; i++)
		json_decref(told[i].isr);
	fflush(stdout);
	exit(0);
}
