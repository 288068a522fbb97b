#include "cluster/api/server.h"

#include <malloc.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cluster/api/call.h"
#include "cluster/api/fetch_sessions.h"
#include "cluster/control/settings.h"
#include "cluster/group/coordinator.h"
#include "cluster/join.h"
#include "cluster/net/settings.h"
#include "cluster/remote/remote.h"
#include "cluster/zk/settings.h"
#include "store/diag.h"
#include "store/fetch.h"
#include "store/ingest.h"
#include "store/log.h"

enum {
	SPARE_MEMORIES = 64,      /* that a network thread keeps for its next calls */
	KEEP_OUT_BYTES = 64 << 10, /* of an encoder's memory that is kept with them, */
	KEEP_RANGES = 256,         /* and of the list of what it sends */
	FREED_MIN_BYTES = 1 << 20, /* that are worth looking through malloc's heaps for */
	FREED_WAIT_S = 10,         /* how long a load may keep that from being done */
	ARENA_BASE_BYTES = 1 << 20,
	ARENA_PER_BYTE = 16,      /* what a frame's byte may become when it is decoded: the densest is an array of small structs */
	ANSWER_MAX_BYTES = 1 << 29, /* of an answer, but for ranges of files, and as much while it is made: a small request may ask for the same thing many times */
};

static const struct conf_property server_properties[] = {
	{.name = "auto.create.topics.enable", .type = CONF_BOOL, .scope = CONF_BROKER, .preset = "true", .help = "whether a client that asks for a topic that is not there gets one made"},
	{.name = "delete.topic.enable", .type = CONF_BOOL, .scope = CONF_BROKER, .preset = "true", .help = "whether a client may delete topics; with rmdir in the mount that is always possible"},
	{.name = "fetch.max.bytes", .type = CONF_INT, .scope = CONF_BROKER, .preset = "57671680", .min = 1024, .max = INT32_MAX, .unit = "bytes", .help = "the most one Fetch is answered with"},
	{.name = "replica.selector.class", .type = CONF_ENUM, .scope = CONF_BROKER, .preset = "org.apache.kafka.common.replica.LeaderSelector", .choices = "org.apache.kafka.common.replica.LeaderSelector,org.apache.kafka.common.replica.RackAwareReplicaSelector",
	 .help = "in a cluster, where consumers read: from the leader, or (RackAwareReplicaSelector) from a replica in sync whose broker.rack is their client.rack"},
	{.name = "max.incremental.fetch.session.cache.slots", .type = CONF_INT, .scope = CONF_BROKER, .preset = "1000", .min = 0, .max = INT32_MAX,
	 .help = "incremental fetch sessions that are kept"},
	{0},
};

struct conf_schema *server_schema(const struct conf_property *own)
{
	const struct conf_property *const tables[] = {store_properties, cluster_properties, net_properties, server_properties, group_properties, zk_properties, control_properties, join_properties, remote_properties, own};
	return conf_schema_new(tables, sizeof tables / sizeof *tables - (own ? 0 : 1));
}

/* A network thread's: only it takes from there and gives back. */
struct thread_memory {
	struct call_memory *spare;
	unsigned count, least;          /* of them; the least there were since the last tick */
	size_t freed, freed_before;     /* bytes freed since malloc's heaps were last trimmed; of those, before the last tick */
	unsigned ticks;                 /* since the first of them */
	struct ingest ingest;           /* for Produce on that thread */
	bool ingested;                  /* it was used since the last tick */
};

struct server {
	struct broker *broker;
	struct join *join;
	const struct conf *conf;
	struct net *net;
	struct net_settings settings;
	struct coordinator *coordinator;
	struct sessions *sessions;
	struct thread_memory *thread;
	unsigned threads;
	_Atomic bool stopping;
	struct arena_budget budget; /* of requests as they are decoded, and of what is answered: each bounded by its frame, all of them by queued.max.request.bytes once more */
};

struct row {
	void (*handle)(struct call *c);
	bool blocks; /* on the disk, or for long: runs in the pool, and the connection's next request waits */
	bool cluster; /* there is no such API but in a cluster */
	bool waits;   /* in a cluster for ZooKeeper: then that runs in the threads of join_pool */
};

static const struct row rows[API_KEYS] = {
	[API_VERSIONS] = {handle_api_versions},
	[API_METADATA] = {handle_metadata},
	[API_DESCRIBE_CLUSTER] = {handle_describe_cluster},
	[API_DESCRIBE_TOPIC_PARTITIONS] = {handle_describe_topic_partitions},
	[API_PRODUCE] = {handle_produce},
	[API_INIT_PRODUCER_ID] = {handle_init_producer_id},
	[API_DESCRIBE_PRODUCERS] = {handle_describe_producers, true},
	[API_FETCH] = {handle_fetch},
	[API_LIST_OFFSETS] = {handle_list_offsets, true},
	[API_OFFSET_FOR_LEADER_EPOCH] = {handle_offset_for_leader_epoch, true},
	[API_CREATE_TOPICS] = {handle_create_topics, true},
	[API_DELETE_TOPICS] = {handle_delete_topics, true},
	[API_CREATE_PARTITIONS] = {handle_create_partitions, true},
	[API_DELETE_RECORDS] = {handle_delete_records},
	[API_DESCRIBE_CONFIGS] = {handle_describe_configs, true, .waits = true},
	[API_ALTER_CONFIGS] = {handle_alter_configs, true, .waits = true},
	[API_INCREMENTAL_ALTER_CONFIGS] = {handle_incremental_alter_configs, true, .waits = true},
	[API_DESCRIBE_LOG_DIRS] = {handle_describe_log_dirs, true},
	[API_FIND_COORDINATOR] = {handle_find_coordinator},
	[API_JOIN_GROUP] = {handle_join_group},
	[API_SYNC_GROUP] = {handle_sync_group},
	[API_HEARTBEAT] = {handle_heartbeat},
	[API_LEAVE_GROUP] = {handle_leave_group},
	[API_DESCRIBE_GROUPS] = {handle_describe_groups},
	[API_LIST_GROUPS] = {handle_list_groups},
	[API_DELETE_GROUPS] = {handle_delete_groups},
	[API_OFFSET_COMMIT] = {handle_offset_commit},
	[API_OFFSET_FETCH] = {handle_offset_fetch},
	[API_OFFSET_DELETE] = {handle_offset_delete},
	[API_LEADER_AND_ISR] = {handle_leader_and_isr, true, .cluster = true},
	[API_STOP_REPLICA] = {handle_stop_replica, true, .cluster = true},
	[API_UPDATE_METADATA] = {handle_update_metadata, true, .cluster = true},
	[API_CONTROLLED_SHUTDOWN] = {handle_controlled_shutdown, .cluster = true},
	[API_ALTER_PARTITION] = {handle_alter_partition, .cluster = true},
	[API_ELECT_LEADERS] = {handle_elect_leaders, .cluster = true},
	[API_ALTER_PARTITION_REASSIGNMENTS] = {handle_alter_partition_reassignments, .cluster = true},
	[API_LIST_PARTITION_REASSIGNMENTS] = {handle_list_partition_reassignments, .cluster = true},
};

static const struct row own_rows[API_OWN_END - API_OWN] = {
	{handle_view_lookup},
	{handle_replica_sums, true},
};

/* NULL: of no API. */
static const struct row *row_of(int api_key)
{
	if (api_key >= API_OWN && api_key < API_OWN_END)
		return &own_rows[api_key - API_OWN];
	return api_key >= 0 && api_key < API_KEYS ? &rows[api_key] : NULL;
}

/* ---- memory ---- */

static struct call_memory *take_memory(struct server *s, struct thread_memory *t)
{
	struct call_memory *m = t->spare;
	if (m) {
		t->spare = m->next;
		t->count--;
		if (t->count < t->least)
			t->least = t->count;
		return m;
	}
	m = calloc(1, sizeof *m);
	if (m) {
		arena_init(&m->arena, 0);
		m->arena.budget = &s->budget;
		wire_out_init(&m->out, ANSWER_MAX_BYTES);
	}
	return m;
}

static void free_memory(struct call_memory *m)
{
	arena_release(&m->arena);
	wire_out_release(&m->out);
	free(m->chunk);
	free(m);
}

static size_t memory_bytes(const struct call_memory *m)
{
	return sizeof *m + m->arena.taken + m->out.bytes.cap + m->out.cap_inserts * sizeof *m->out.inserts + m->chunk_cap * sizeof *m->chunk;
}

static void give_memory(struct thread_memory *t, struct call_memory *m)
{
	size_t bytes = memory_bytes(m);
	if (t->count >= SPARE_MEMORIES) {
		free_memory(m);
		t->freed += bytes;
		return;
	}
	arena_reset(&m->arena);
	if (m->out.bytes.cap > KEEP_OUT_BYTES || m->out.cap_inserts > KEEP_RANGES) {
		wire_out_release(&m->out);
		wire_out_init(&m->out, ANSWER_MAX_BYTES);
	}
	wire_out_clear(&m->out);
	if (m->chunk_cap > KEEP_RANGES) {
		free(m->chunk);
		m->chunk = NULL;
		m->chunk_cap = 0;
	}
	if (bytes > KEEP_OUT_BYTES)
		t->freed += bytes;
	m->next = t->spare;
	t->spare = m;
	t->count++;
}

/* Large answers leave pages free all over malloc's heaps, which glibc keeps. Looking for them may take some milliseconds: it is the pool's, and one at a time. */
static struct { struct pool_job job; _Atomic bool under_way; } trim;

static void run_trim(struct pool_job *job)
{
	(void)job;
	malloc_trim(0);
	atomic_store(&trim.under_way, false);
}

/* When what was freed is no longer taken again at once; under a load that does not end, after a while. */
static void trim_heaps(struct server *s, struct thread_memory *t)
{
	bool quiet = t->freed == t->freed_before;
	t->freed_before = t->freed;
	if (t->freed < FREED_MIN_BYTES || (!quiet && ++t->ticks < FREED_WAIT_S) || atomic_exchange(&trim.under_way, true))
		return;
	t->freed = t->freed_before = 0;
	t->ticks = 0;
	trim.job.run = run_trim;
	pool_run(broker_pool(s->broker), &trim.job);
}

/* Gives back what was not needed since the last tick. thread: that network thread */
static bool on_tick(void *arg, unsigned thread)
{
	struct server *s = arg;
	struct thread_memory *t = &s->thread[thread];
	for (unsigned n = t->least; n; n--) {
		struct call_memory *m = t->spare;
		t->spare = m->next;
		t->count--;
		free_memory(m);
	}
	t->least = t->count;
	if (!t->ingested)
		ingest_release(&t->ingest);
	bool kept = t->ingested;
	t->ingested = false;
	trim_heaps(s, t);
	return t->count || kept || t->freed >= FREED_MIN_BYTES;
}

struct ingest *call_ingest(struct call *c)
{
	struct thread_memory *t = &c->server->thread[c->thread];
	t->ingested = true;
	return &t->ingest;
}

void *call_get(struct call *c, size_t n)
{
	void *p = arena_get(&c->m->arena, n, NULL);
	return p ? memset(p, 0, n) : NULL;
}

void *call_array(struct call *c, const struct wire_struct *desc, int32_t n)
{
	uint8_t *v = arena_get(&c->m->arena, (size_t)n * desc->size, NULL);
	for (int32_t i = 0; v && i < n; i++)
		wire_init(desc, v + (size_t)i * desc->size);
	return v;
}

char *call_text(struct call *c, struct wire_string s)
{
	size_t n = s.n > 0 ? (size_t)s.n : 0;
	char *text = arena_get(&c->m->arena, n + 1, NULL);
	if (!text)
		return NULL;
	memcpy(text, n ? s.s : "", n);
	text[n] = 0;
	return text;
}

/* ---- answers ---- */

static void answer_released(struct net_response *p, bool sent)
{
	struct call *c = (struct call *)((char *)p - offsetof(struct call, response));
	(void)sent;
	if (c->sent)
		c->sent(c);
}

static bool chunk_room(struct call_memory *m, unsigned n)
{
	if (n <= m->chunk_cap)
		return true;
	struct net_chunk *bigger = realloc(m->chunk, n * sizeof *bigger);
	if (!bigger)
		return false;
	m->chunk = bigger;
	m->chunk_cap = n;
	return true;
}

/* The encoded bytes, with the ranges of files where they belong. The first 4 bytes are the frame's length, which the reactor writes itself. */
static bool make_chunks(struct call_memory *m, unsigned *count)
{
	const struct wire_out *out = &m->out;
	size_t from = 4;
	unsigned n = 0;
	for (size_t i = 0; i < out->n_inserts; i++) {
		const struct log_fetch *f = out->inserts[i].range;
		if (!chunk_room(m, n + 2 + f->range_count))
			return false;
		if (out->inserts[i].at > from)
			m->chunk[n++] = (struct net_chunk){.data = out->bytes.data + from, .bytes = out->inserts[i].at - from};
		from = out->inserts[i].at;
		for (uint32_t k = 0; k < f->range_count; k++)
			m->chunk[n++] = (struct net_chunk){.fd = f->range[k].segment->fd, .offset = f->range[k].position, .bytes = f->range[k].bytes};
	}
	if (!chunk_room(m, n + 1))
		return false;
	if (out->bytes.len > from)
		m->chunk[n++] = (struct net_chunk){.data = out->bytes.data + from, .bytes = out->bytes.len - from};
	*count = n;
	return true;
}

void call_answer(struct call *c, const void *response)
{
	struct err e = ERR_INIT;
	unsigned count = 0;
	int rc = api_encode_response(c->api, c->version, c->correlation_id, response, &c->m->out, &e);
	if (rc == 0 && !make_chunks(c->m, &count))
		rc = err_set(&e, ERR_NO_MEMORY, "no memory for an answer");
	if (rc < 0) {
		call_close(c, e.text);
		return;
	}
	c->response = (struct net_response){.chunk = c->m->chunk, .count = count, .release = answer_released};
	net_respond(c->r, &c->response);
}

void call_drop(struct call *c)
{
	if (c->sent)
		c->sent(c);
	net_drop(c->r);
}

void call_close(struct call *c, const char *why)
{
	static struct diag_limit limit;
	char peer[NET_PEER_TEXT];
	if (c->sent)
		c->sent(c);
	if (why)
		diag_limited(&limit, 60000, DIAG_WARNING, "%s: the connection is closed: %s: %s", net_conn_peer_text(c->r->conn, peer), c->api ? c->api->name : "request", why);
	net_close(c->r);
}

/* ---- requests ---- */

bool call_handles(const struct call *c, int api_key)
{
	const struct row *row = row_of(api_key);
	return row && row->handle && (c->server->join || !row->cluster);
}

static void run_work(struct pool_job *job)
{
	struct call *c = (struct call *)((char *)job - offsetof(struct call, job));
	c->work(c);
}

static void to_pool(struct call *c, struct pool *pool, void (*work)(struct call *c), bool in_order)
{
	if (in_order)
		c->r->barrier = true;
	c->work = work;
	c->job.run = run_work;
	pool_run(pool, &c->job);
}

void call_to_pool(struct call *c, void (*work)(struct call *c), bool in_order)
{
	to_pool(c, broker_pool(c->server->broker), work, in_order);
}

/* Header and request. false: the connection was closed, or the call answered. */
static bool decode(struct call *c)
{
	struct err e = ERR_INIT;
	struct request_header h;
	struct arena *arena = &c->m->arena;
	arena->limit = ARENA_BASE_BYTES + (size_t)ARENA_PER_BYTE * c->r->size;
	ssize_t used = api_decode_request_header(c->r->data, c->r->size, arena, &h, &c->api, &e);
	if (used < 0) {
		call_close(c, e.text);
		return false;
	}
	c->version = h.api_version;
	c->correlation_id = h.correlation_id;
	c->client_id = h.client_id;
	if (!api_has(c->api, c->version)) { /* Kafka closes the connection; only who asks for versions is told them */
		if (c->api->key == API_VERSIONS)
			refuse_api_versions(c);
		else
			call_close(c, "that version is not known here");
		return false;
	}
	void *request = arena_get(arena, c->api->request->size, &e);
	if (!request || wire_decode(c->api->request, c->version, c->r->data + used, c->r->size - (size_t)used, arena, request, &e) < 0) {
		call_close(c, e.text);
		return false;
	}
	arena->limit = arena->taken + ANSWER_MAX_BYTES; /* for what follows, which is ours */
	c->request = request;
	return true;
}

static void on_request(void *arg, struct net_request *r)
{
	struct server *s = arg;
	struct call *c = net_room(r);
	c->server = s;
	c->r = r;
	c->thread = (uint16_t)net_conn_thread(r->conn);
	c->m = take_memory(s, &s->thread[c->thread]);
	if (!c->m) {
		net_close(r);
		return;
	}
	if (!decode(c))
		return;
	const struct row *row = row_of(c->api->key);
	if (!call_handles(c, c->api->key))
		call_close(c, "there is no such API here");
	else if (row->blocks)
		to_pool(c, row->waits && c->server->join ? join_pool(c->server->join) : broker_pool(c->server->broker), row->handle, true);
	else
		row->handle(c);
}

static void on_done(void *arg, struct net_request *r)
{
	struct server *s = arg;
	struct call *c = net_room(r);
	if (c->m)
		give_memory(&s->thread[c->thread], c->m);
}

/* ---- what handlers need ---- */

struct broker *call_broker(const struct call *c)
{
	return c->server->broker;
}

struct join *call_join(const struct call *c)
{
	return c->server->join;
}

struct coordinator *call_coordinator(const struct call *c)
{
	return c->server->coordinator;
}

struct sessions *call_sessions(const struct call *c)
{
	return c->server->sessions;
}

const struct conf *call_conf(const struct call *c)
{
	return c->server->conf;
}

bool call_stopping(const struct call *c)
{
	return c->server->stopping;
}

bool call_place(struct call *c, struct wire_string *host, int32_t *port)
{
	struct net_address a;
	net_conn_advertised(c->r->conn, &a);
	char *text = call_text(c, wire_string(a.host));
	if (!text)
		return false;
	*host = wire_string(text);
	*port = a.port;
	return true;
}

struct wire_uuid topic_wire_id(const struct topic *t)
{
	struct wire_uuid u;
	memcpy(u.b, topic_id_bytes(t), sizeof u.b);
	return u;
}

struct topic *call_topic(struct call *c, struct wire_string name, const struct wire_uuid *id, int16_t *error)
{
	bool by_id = id && !wire_uuid_is_zero(id);
	struct topic *t = by_id ? topics_find_id(call_broker(c), id->b) : name.n > 0 ? topics_find_n(call_broker(c), name.s, (size_t)name.n) : NULL;
	if (!t)
		*error = by_id ? KAFKA_UNKNOWN_TOPIC_ID : KAFKA_UNKNOWN_TOPIC_OR_PARTITION;
	return t;
}

struct partition *call_partition(struct call *c, struct wire_string name, const struct wire_uuid *id, int32_t index, int16_t *error)
{
	struct topic *t = call_topic(c, name, id, error);
	struct partition *p = t ? topic_partition(t, index) : NULL;
	topic_unref(t);
	if (t && !p)
		*error = KAFKA_UNKNOWN_TOPIC_OR_PARTITION;
	return p;
}

/* ---- life ---- */

bool server_is_wanted(const struct conf *c)
{
	return *conf_str(c, "listeners");
}

int server_open(struct server **out, struct broker *b, struct join *j, struct err *e)
{
	struct server *s = calloc(1, sizeof *s);
	*out = NULL;
	if (!s)
		return err_set(e, ERR_NO_MEMORY, "no memory for a server");
	s->broker = b;
	s->join = j;
	s->conf = broker_conf(b);
	int rc = net_settings_read(&s->settings, s->conf, e);
	if (rc == 0) {
		s->budget.left = s->settings.queued_max_bytes;
		s->sessions = sessions_new((size_t)conf_int(s->conf, "max.incremental.fetch.session.cache.slots"));
		s->thread = calloc(s->settings.threads, sizeof *s->thread);
		s->threads = s->settings.threads;
		if (!s->sessions || !s->thread)
			rc = err_set(e, ERR_NO_MEMORY, "no memory for a server");
		for (unsigned i = 0; s->thread && i < s->threads; i++)
			ingest_init(&s->thread[i].ingest);
	}
	struct coordinator_options co = {.broker = b};
	if (rc == 0)
		rc = coordinator_new(&s->coordinator, &co, e);
	struct net_options no = {.settings = &s->settings, .room_bytes = sizeof(struct call), .pool = broker_pool(b), .arg = s, .request = on_request, .done = on_done, .tick = on_tick};
	if (rc == 0)
		rc = net_open(&s->net, &no, e);
	if (rc < 0) {
		server_close(s, 0);
		return rc;
	}
	*out = s;
	return 0;
}

static void topic_is_gone(void *arg, const char *name)
{
	struct server *s = arg;
	if (!strcmp(name, OFFSETS_TOPIC))
		coordinator_forget_all(s->coordinator);
	else
		coordinator_topic_deleted(s->coordinator, (struct gstr){name, (int32_t)strlen(name)});
}

int server_run(struct server *s, struct err *e)
{
	coordinator_start(s->coordinator);
	topics_on_deleted(s->broker, topic_is_gone, s);
	return net_run(s->net, e);
}

int server_joined(struct server *s, struct err *e)
{
	return coordinator_mirror(s->coordinator, join_zk(s->join), join_queue(s->join), e);
}

bool server_address(const struct server *s, unsigned i, struct net_address *out)
{
	if (i >= s->settings.listeners)
		return false;
	net_listener_address(s->net, i, out);
	return true;
}

void server_advertised(const struct server *s, struct net_address *out)
{
	if (s->settings.advertiseds) {
		*out = s->settings.advertised[0];
		return;
	}
	net_listener_address(s->net, 0, out);
	if (!*out->host || !strcmp(out->host, "0.0.0.0") || !strcmp(out->host, "::"))
		gethostname(out->host, NET_MAX_HOST);
}

void server_close(struct server *s, int wait_ms)
{
	if (!s)
		return;
	s->stopping = true;
	if (s->coordinator) {
		topics_on_deleted(s->broker, NULL, NULL);
		coordinator_stop(s->coordinator); /* first: it answers what is parked with it */
	}
	if (s->net)
		net_stop(s->net, wait_ms);
	net_free(s->net);
	coordinator_free(s->coordinator);
	for (unsigned i = 0; i < s->threads && s->thread; i++) {
		ingest_release(&s->thread[i].ingest);
		for (struct call_memory *m = s->thread[i].spare, *next; m; m = next) {
			next = m->next;
			free_memory(m);
		}
	}
	free(s->thread);
	sessions_free(s->sessions);
	free(s);
}
