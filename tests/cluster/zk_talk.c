/*
 * zk_talk: a client of cluster/zk that does what it is told, one JSON object a line, and prints what becomes of it, one a line.
 *
 *   {"do": "open", "connect": "...", "timeout": 2000, ...}    opens and starts a session; further members as struct zk_options
 *   {"do": "wait", "ms": 5000}                                until connected
 *   {"do": "create", "id": 1, "path": "/a", "data": "x", "flags": "es"}      ephemeral, sequential; also get, exists, children (with "watch"), set, delete (with "version"), make_path, sync
 *   {"do": "multi", "id": 2, "parts": [{"do": "check", ...}, ...]}
 *   {"do": "lease"}, {"do": "timeout"}, {"do": "stall"}, {"do": "go_on"}          the queue's thread stands still meanwhile
 *   {"do": "end_session", "connect": "...", "session": "hex", "password": "hex"}   closes another client's session
 *   {"do": "open", ..., "member": {"id": 1, "host": "h", "port": 9092, "rack": "r", "cluster_id": "...", "data": "directory", "clean": true}}     a broker; it is heard of by
 *                                                             {"event": "registered", "epoch": n}, "lost" and {"event": "failed", "says": "..."}
 *   {"do": "member_wait"}, {"do": "epoch"}, {"do": "member_lease"}, {"do": "cleared"}
 *   {"do": "close"}
 *
 * Answers have the request's id; what listeners hear is {"event": "connected", ...}. The end of input closes what is open.
 */
#include <inttypes.h>
#include <jansson.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zookeeper/zookeeper.h>

#include "cluster/zk/layout.h"
#include "cluster/zk/member.h"
#include "cluster/zk/queue.h"
#include "cluster/zk/zk.h"
#include "store/diag.h"
#include "store/dirs.h"

static struct queue *queue;
static struct zk *zk;
static struct member *member;
static pthread_mutex_t out_lock = PTHREAD_MUTEX_INITIALIZER;

static void print(json_t *line)
{
	char *text = json_dumps(line, JSON_COMPACT);
	pthread_mutex_lock(&out_lock);
	puts(text ? text : "{\"failed\": \"that is no text\"}");
	fflush(stdout);
	pthread_mutex_unlock(&out_lock);
	free(text);
	json_decref(line);
}

static void failed(const struct err *e)
{
	print(json_pack("{s:s, s:s}", "failed", e->text, "error", err_name(e->code)));
}

static const char *text(json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

static int64_t number(json_t *o, const char *key, int64_t otherwise)
{
	json_t *v = json_object_get(o, key);
	return json_is_integer(v) ? json_integer_value(v) : otherwise;
}

/* ---- what listeners hear ---- */

static void event(const char *name, int64_t session, const char *path)
{
	char id[24];
	snprintf(id, sizeof id, "%016" PRIx64, (uint64_t)session);
	print(json_pack("{s:s, s:s*, s:s*}", "event", name, "session", session ? id : NULL, "path", path));
}

static void connected(void *arg, int64_t session)
{
	(void)arg;
	event("connected", session, NULL);
}

static void suspended(void *arg)
{
	(void)arg;
	event("suspended", 0, NULL);
}

static void expired(void *arg)
{
	(void)arg;
	event("expired", 0, NULL);
}

static void changed(void *arg, enum zk_change what, const char *path)
{
	static const char *const names[] = {"created", "deleted", "changed", "children"};
	(void)arg;
	event(names[what], 0, path);
}

static struct zk_listener listener = {.connected = connected, .suspended = suspended, .expired = expired, .changed = changed};

/* ---- requests ---- */

static json_t *described(const struct zk_result *r)
{
	static const char *const codes[] = {"ok", "no node", "exists", "bad version", "not empty", "no auth", "rolled back", "too large", "invalid", "expired", "closed", "unknown", "failed", "no memory"};
	json_t *o = json_pack("{s:s, s:s}", "code", codes[r->code], "path", r->path);
	if (r->data)
		json_object_set_new(o, "data", json_stringn(r->data, r->bytes));
	if (r->stat.czxid || r->stat.version)
		json_object_set_new(o, "stat", json_pack("{s:i, s:I, s:I, s:i, s:b, s:I}", "version", r->stat.version, "czxid", (json_int_t)r->stat.czxid, "mzxid", (json_int_t)r->stat.mzxid,
							 "children", r->stat.children, "ephemeral", r->stat.ephemeral_owner != 0, "owner", (json_int_t)r->stat.ephemeral_owner));
	if (r->children_count) {
		json_t *a = json_array();
		for (size_t i = 0; i < r->children_count; i++)
			json_array_append_new(a, json_string(r->children[i]));
		json_object_set_new(o, "children", a);
	}
	return o;
}

static void done(void *arg, const struct zk_result *r)
{
	json_t *o = described(r);
	struct err e = ERR_INIT;
	json_object_set_new(o, "id", json_integer((json_int_t)(intptr_t)arg));
	if (r->code != ZK_OK) {
		zk_error(r, "do", &e);
		json_object_set_new(o, "says", json_string(e.text));
	}
	if (r->parts) {
		json_t *a = json_array();
		for (size_t i = 0; i < r->parts; i++)
			json_array_append_new(a, described(&r->part[i]));
		json_object_set_new(o, "parts", a);
		json_object_set_new(o, "refused", json_integer((json_int_t)r->refused));
	}
	print(o);
}

static unsigned flags_of(json_t *o)
{
	const char *f = text(o, "flags");
	return (f && strchr(f, 'e') ? ZK_EPHEMERAL : 0) | (f && strchr(f, 's') ? ZK_SEQUENTIAL : 0);
}

/* "bytes": so many x; else "data"; else none. */
static char *data_of(json_t *o, size_t *n)
{
	const char *t = text(o, "data");
	char *d = NULL;
	*n = t ? strlen(t) : (size_t)number(o, "bytes", 0);
	if (t || *n) {
		d = malloc(*n + 1);
		memset(d, 'x', *n);
		if (t)
			memcpy(d, t, *n);
	}
	return d;
}

static void add_part(struct zk_multi *m, json_t *o)
{
	const char *what = text(o, "do"), *path = text(o, "path");
	size_t n;
	char *d = data_of(o, &n);
	int32_t version = (int32_t)number(o, "version", ZK_ANY_VERSION);
	if (!strcmp(what, "check"))
		zk_multi_check(m, path, version);
	else if (!strcmp(what, "create"))
		zk_multi_create(m, path, d, n, flags_of(o));
	else if (!strcmp(what, "set"))
		zk_multi_set(m, path, d, n, version);
	else
		zk_multi_delete(m, path, version);
	free(d);
}

static void multi(json_t *o, void *arg)
{
	struct zk_multi *m = zk_multi_new();
	size_t i;
	json_t *part;
	json_array_foreach(json_object_get(o, "parts"), i, part)
		add_part(m, part);
	zk_multi_send(zk, m, done, arg);
}

static bool request(const char *what, json_t *o)
{
	void *arg = (void *)(intptr_t)number(o, "id", 0);
	const char *path = text(o, "path");
	bool watch = json_is_true(json_object_get(o, "watch")), known = true;
	int32_t version = (int32_t)number(o, "version", ZK_ANY_VERSION);
	size_t n;
	char *d = data_of(o, &n);
	if (!strcmp(what, "get"))
		zk_get(zk, path, watch, done, arg);
	else if (!strcmp(what, "exists"))
		zk_exists(zk, path, watch, done, arg);
	else if (!strcmp(what, "children"))
		zk_children(zk, path, watch, done, arg);
	else if (!strcmp(what, "create"))
		zk_create(zk, path, d, n, flags_of(o), done, arg);
	else if (!strcmp(what, "set"))
		zk_set(zk, path, d, n, version, done, arg);
	else if (!strcmp(what, "delete"))
		zk_delete(zk, path, version, done, arg);
	else if (!strcmp(what, "make_path"))
		zk_make_path(zk, path, done, arg);
	else if (!strcmp(what, "sync"))
		zk_sync(zk, done, arg);
	else if (!strcmp(what, "multi"))
		multi(o, arg);
	else
		known = false;
	free(d);
	return known;
}

/* ---- another client's session ---- */

static void hex(const char *from, void *to, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		unsigned v = 0;
		sscanf(from + 2 * i, "%2x", &v);
		((char *)to)[i] = (char)v;
	}
}

static void nothing(zhandle_t *h, int type, int state, const char *path, void *arg)
{
	(void)h, (void)type, (void)state, (void)path, (void)arg;
}

static void end_session(json_t *o)
{
	clientid_t id = {.client_id = (int64_t)strtoull(text(o, "session"), NULL, 16)};
	hex(text(o, "password"), id.passwd, sizeof id.passwd);
	zhandle_t *h = zookeeper_init(text(o, "connect"), nothing, 10000, &id, NULL, ZOO_NO_LOG_CLIENTENV);
	for (int i = 0; h && i < 1000 && zoo_state(h) != ZOO_CONNECTED_STATE && !is_unrecoverable(h); i++)
		usleep(10000);
	print(json_pack("{s:b}", "ended", h && zoo_state(h) == ZOO_CONNECTED_STATE));
	if (h)
		zookeeper_close(h);
}

/* ---- a member ---- */

static void registered(void *arg, int64_t epoch)
{
	(void)arg;
	print(json_pack("{s:s, s:I}", "event", "registered", "epoch", (json_int_t)epoch));
}

static void lost(void *arg)
{
	(void)arg;
	event("lost", 0, NULL);
}

static void refused(void *arg, const struct err *e)
{
	(void)arg;
	print(json_pack("{s:s, s:s, s:s}", "event", "failed", "says", e->text, "error", err_name(e->code)));
}

/* false: that is said. */
static bool open_member(json_t *o)
{
	struct err e = ERR_INIT;
	char data_id[TOPIC_ID_CHARS + 1], cluster_id[TOPIC_ID_CHARS + 1], path[4096];
	struct layout_endpoint endpoint = {"PLAINTEXT", "PLAINTEXT", text(o, "host") ? text(o, "host") : "localhost", (int32_t)number(o, "port", 9092)};
	snprintf(path, sizeof path, "%s/data-id", text(o, "data"));
	uuid_text_new(cluster_id);
	struct member_options m = {.zk = zk, .queue = queue, .broker_id = (int32_t)number(o, "id", 1), .endpoint = &endpoint, .endpoints = 1, .rack = text(o, "rack"),
				   .cluster_id = text(o, "cluster_id"), .new_cluster_id = cluster_id, .data_id = data_id, .clean = !json_is_false(json_object_get(o, "clean")),
				   .registered = registered, .lost = lost, .failed = refused};
	if (member_data_id(path, data_id, &e) == 0 && member_open(&member, &m, &e) == 0)
		return true;
	failed(&e);
	return false;
}

static bool of_member(const char *what)
{
	struct err e = ERR_INIT;
	if (!strcmp(what, "member_wait")) {
		if (member_wait(member, 10000, 30000, &e) < 0)
			failed(&e);
		else
			print(json_pack("{s:s}", "cluster", member_cluster_id(member)));
	} else if (!strcmp(what, "epoch"))
		print(json_pack("{s:I}", "epoch_now", (json_int_t)member_epoch(member)));
	else if (!strcmp(what, "member_lease"))
		print(json_pack("{s:I}", "lease", (json_int_t)member_lease_ms(member)));
	else if (!strcmp(what, "cleared"))
		member_cleared(member, member_epoch(member));
	else
		return false;
	return true;
}

/* ---- the session ---- */

static void open_session(json_t *o)
{
	struct err e = ERR_INIT;
	struct zk_options options = {.connect = text(o, "connect"), .session_timeout_ms = (int)number(o, "timeout", 4000), .credentials = text(o, "credentials"),
				     .set_acl = json_is_true(json_object_get(o, "set_acl")), .acl = layout_acl, .max_in_flight = (int)number(o, "in_flight", 10),
				     .session_file = text(o, "session_file"), .queue = queue};
	if (zk_open(&zk, &options, &e) < 0) {
		failed(&e);
		return;
	}
	zk_listen(zk, &listener);
	if (!json_object_get(o, "member"))
		zk_start(zk);
	else if (open_member(json_object_get(o, "member")))
		member_start(member);
}

static void wait_connected(json_t *o)
{
	struct err e = ERR_INIT;
	if (zk_wait(zk, (int)number(o, "ms", 10000), &e) < 0)
		failed(&e);
	else
		print(json_pack("{s:b}", "ready", true));
}

static sem_t go_on;

static void stall(struct queue_event *ev)
{
	free(ev);
	sem_wait(&go_on);
}

static void stall_queue(void)
{
	struct queue_event *ev = calloc(1, sizeof *ev);
	ev->run = stall;
	queue_post(queue, ev);
}

static void obey(json_t *o)
{
	const char *what = text(o, "do");
	if (!strcmp(what, "open"))
		open_session(o);
	else if (!strcmp(what, "wait"))
		wait_connected(o);
	else if (!strcmp(what, "end_session"))
		end_session(o);
	else if (!strcmp(what, "lease"))
		print(json_pack("{s:I}", "lease", (json_int_t)zk_lease_ms(zk)));
	else if (!strcmp(what, "timeout"))
		print(json_pack("{s:i}", "timeout", zk_session_timeout_ms(zk)));
	else if (!strcmp(what, "stall"))
		stall_queue();
	else if (!strcmp(what, "go_on"))
		sem_post(&go_on);
	else if (!strcmp(what, "close")) {
		zk_close(zk);
		print(json_pack("{s:b}", "closed", true));
	} else if (!of_member(what) && !request(what, o)) {
		fprintf(stderr, "zk_talk: \"%s\" is nothing it can do\n", what);
		exit(2);
	}
}

int main(void)
{
	struct err e = ERR_INIT;
	char *line = NULL;
	size_t room = 0;
	diag_set_level(DIAG_DEBUG);
	sem_init(&go_on, 0, 0);
	if (queue_new(&queue, "events", &e) < 0)
		return 1;
	while (getline(&line, &room, stdin) > 0) {
		json_t *o = json_loads(line, 0, NULL);
		if (!o || !text(o, "do"))
			return 2;
		obey(o);
		json_decref(o);
	}
	free(line);
	if (zk)
		zk_close(zk);
	queue_free(queue);
	member_free(member);
	zk_free(zk);
	return 0;
}
