/* What is asked of ZooKeeper: sending it, sending it again, and finding out what became of it. zk.h has the rules. */
#include "cluster/zk/session.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { REQUEST_BYTES = 128 }; /* at most what a single request takes besides path and data */

/* ---- codes ---- */

static const struct { const char *text; int err; } codes[] = {
	[ZK_OK] = {"done", 0},
	[ZK_NO_NODE] = {"there is no such node", ERR_NOT_FOUND},
	[ZK_EXISTS] = {"the node exists", ERR_EXISTS},
	[ZK_BAD_VERSION] = {"somebody else has written it", ERR_BUSY},
	[ZK_NOT_EMPTY] = {"the node has children", ERR_NOT_EMPTY},
	[ZK_NO_AUTH] = {"its ACL does not allow it; see zookeeper.credentials.file", ERR_DENIED},
	[ZK_ROLLED_BACK] = {"another write of the same transaction was refused", ERR_BUSY},
	[ZK_TOO_LARGE] = {"the request would be larger than a server takes (jute.maxbuffer, 1 MiB)", ERR_TOO_LARGE},
	[ZK_INVALID] = {"ZooKeeper does not take such a request", ERR_INVALID},
	[ZK_EXPIRED] = {"the session has expired", ERR_INTERRUPTED},
	[ZK_CLOSED] = {"the session is closed", ERR_STOPPING},
	[ZK_UNKNOWN] = {"the connection was lost, and whether it was done cannot be told", ERR_IO},
	[ZK_FAILED] = {"the server could not do it", ERR_IO},
	[ZK_NO_MEMORY] = {"no memory", ERR_NO_MEMORY},
};

const char *zk_code_text(enum zk_code c)
{
	return (size_t)c < sizeof codes / sizeof *codes ? codes[c].text : "?";
}

int zk_error(const struct zk_result *r, const char *what, struct err *e)
{
	const struct zk_result *at = r->parts && r->refused < r->parts ? &r->part[r->refused] : r;
	return err_set(e, codes[r->code].err, "ZooKeeper: cannot %s %s: %s", what, at->path, zk_code_text(at->code));
}

static enum zk_code code_of(int rc)
{
	switch (rc) {
	case ZOK: return ZK_OK;
	case ZNONODE: return ZK_NO_NODE;
	case ZNODEEXISTS: return ZK_EXISTS;
	case ZBADVERSION: return ZK_BAD_VERSION;
	case ZNOTEMPTY: return ZK_NOT_EMPTY;
	case ZNOAUTH: return ZK_NO_AUTH;
	case ZBADARGUMENTS: case ZINVALIDACL: case ZNOCHILDRENFOREPHEMERALS: return ZK_INVALID;
	case ZSESSIONEXPIRED: case ZAUTHFAILED: case ZINVALIDSTATE: case ZCLOSING: return ZK_EXPIRED;
	case ZMARSHALLINGERROR: return ZK_NO_MEMORY;
	default: return ZK_FAILED;
	}
}

/* Not answered, or not done because of where the connection went. */
static bool is_lost(int rc)
{
	return rc == ZCONNECTIONLOSS || rc == ZOPERATIONTIMEOUT || rc == ZSESSIONMOVED || rc == ZTHROTTLEDOP || rc == ZRUNTIMEINCONSISTENCY;
}

/* ---- requests ---- */

static void request_free(struct request *r)
{
	zk_multi_free(r->multi);
	free(r->path);
	free(r->data);
	free(r->name);
	free(r->answer);
	for (size_t i = 0; r->children && i < r->children_count; i++)
		free(r->children[i]);
	free(r->children);
	free(r);
}

static const char *shown(const char *path, size_t hidden)
{
	return !path ? "" : path[hidden] ? path + hidden : "/";
}

/* What a multi's caller is told of each part. */
static void say_parts(struct request *r, struct zk_result *res)
{
	struct zk_multi *m = r->multi;
	if (!m || !m->said || m->failed)
		return;
	res->part = m->said;
	res->parts = m->parts;
	res->refused = r->refused;
	res->path = r->refused < m->parts ? m->part[r->refused].path : m->parts ? m->part[0].path : "";
	for (size_t i = 0; i < m->parts; i++) {
		struct zk_result *s = &m->said[i];
		s->path = r->code == ZK_OK && m->names && m->names[i] && m->names[i][0] ? shown(m->names[i], r->hidden) : m->part[i].path;
		if (r->code != ZK_OK && s->code == ZK_OK)
			s->code = ZK_ROLLED_BACK;
	}
}

static void deliver(struct queue_event *ev)
{
	struct request *r = (struct request *)ev;
	struct zk_result res = {.code = r->code, .path = shown(r->name ? r->name : r->path, r->hidden), .data = r->answer, .bytes = r->answer_bytes,
				.children = r->children, .children_count = r->children_count, .stat = r->stat};
	say_parts(r, &res);
	r->done(r->arg, &res);
	request_free(r);
}

/* locks: z's. r is in no list. */
static void finish(struct request *r, enum zk_code code)
{
	r->code = code;
	r->z->watch_bytes -= r->watch_bytes;
	if (!r->done) {
		request_free(r);
		return;
	}
	r->event.run = deliver;
	queue_post(r->to, &r->event);
}

/* The struct itself is what `done` needs, so for that memory is waited for; libzookeeper would end the process. */
static struct request *request_new(struct zk *z, enum request_op op, zk_done_fn done, void *arg)
{
	struct request *r;
	while (!(r = calloc(1, sizeof *r)))
		nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
	r->z = z;
	r->to = z->queue;
	r->op = op;
	r->done = done;
	r->arg = arg;
	r->hidden = z->chroot_length;
	return r;
}

/* ---- the lists; locks: z's ---- */

static void unlink_from(struct request **first, struct request **last, struct request *r)
{
	*(r->prev ? &r->prev->next : first) = r->next;
	*(r->next ? &r->next->prev : last) = r->prev;
	r->prev = r->next = NULL;
}

/* By serial: what comes back goes in front of what was never sent. */
static void wait_in_order(struct zk *z, struct request *r)
{
	struct request *before = z->waiting_last;
	while (before && before->serial > r->serial)
		before = before->prev;
	r->prev = before;
	r->next = before ? before->next : z->waiting;
	*(r->next ? &r->next->prev : &z->waiting_last) = r;
	*(before ? &before->next : &z->waiting) = r;
}

static void take_off(struct zk *z, struct request *r)
{
	r->sent_ns = mono_now().ns;
	r->next = NULL;
	r->prev = z->flying_last;
	*(r->prev ? &r->prev->next : &z->flying) = r;
	z->flying_last = r;
	z->in_flight++;
}

static void land(struct zk *z, struct request *r)
{
	unlink_from(&z->flying, &z->flying_last, r);
	z->in_flight--;
}

/* ---- watches; locks: z's ---- */

static size_t watch_cost(const char *path)
{
	return strlen(path) + 4;
}

/* Of a request that would set one; counted from now on, until it is done or the watch itself is counted. */
static bool watch_fits(struct zk *z, struct request *r)
{
	size_t n = r->watch ? watch_cost(r->path) : 0;
	if (n && z->watch_bytes + n + REQUEST_BYTES > ZK_MAX_REQUEST)
		return false;
	z->watch_bytes += n;
	r->watch_bytes = n;
	return true;
}

static void watch_set(struct zk *z, const char *path, unsigned kind)
{
	struct watch *w;
	size_t n = strlen(path);
	HASH_FIND(hh, z->watches, path, n, w);
	if (!w) {
		w = calloc(1, sizeof *w + n + 1);
		if (!w)
			return; /* it is not counted */
		memcpy(w->path, path, n);
		HASH_ADD(hh, z->watches, path, n, w);
	}
	if (!(w->kinds & kind))
		z->watch_bytes += watch_cost(path);
	w->kinds |= kind;
}

void watch_fired(struct zk *z, const char *path, enum zk_change what)
{
	struct watch *w;
	unsigned gone = what == ZK_CHILDREN ? WATCH_CHILDREN : what == ZK_DELETED ? WATCH_NODE | WATCH_CHILDREN : WATCH_NODE;
	HASH_FIND(hh, z->watches, path, strlen(path), w);
	if (!w)
		return;
	z->watch_bytes -= watch_cost(path) * (size_t)__builtin_popcount(w->kinds & gone);
	w->kinds &= ~gone;
	if (w->kinds)
		return;
	HASH_DEL(z->watches, w);
	free(w);
}

void watches_forget(struct zk *z)
{
	struct watch *w, *next;
	HASH_ITER(hh, z->watches, w, next) {
		z->watch_bytes -= watch_cost(w->path) * (size_t)__builtin_popcount(w->kinds);
		HASH_DEL(z->watches, w);
		free(w);
	}
}

static void note_watch(struct zk *z, struct request *r, enum zk_code code)
{
	if (r->watch && (code == ZK_OK || (code == ZK_NO_NODE && r->op == OP_EXISTS)))
		watch_set(z, r->path, r->op == OP_CHILDREN ? WATCH_CHILDREN : WATCH_NODE);
}

/* ---- sending ---- */

static int send_request(struct zk *z, struct request *r);

/* locks: z's. r is in no list. */
static void submit(struct zk *z, struct request *r)
{
	take_off(z, r);
	int rc = send_request(z, r);
	if (rc == ZOK)
		return;
	land(z, r);
	finish(r, code_of(rc));
}

void requests_pump(struct zk *z)
{
	while (z->ready && z->waiting && z->in_flight < z->max_in_flight) {
		struct request *r = z->waiting;
		unlink_from(&z->waiting, &z->waiting_last, r);
		submit(z, r);
	}
}

void requests_fail(struct zk *z, enum zk_code code)
{
	while (z->waiting) {
		struct request *r = z->waiting;
		unlink_from(&z->waiting, &z->waiting_last, r);
		finish(r, code);
	}
}

void requests_forgotten(struct zk *z, enum zk_code code)
{
	while (z->flying) {
		struct request *r = z->flying;
		land(z, r);
		finish(r, code);
	}
}

/* locks: z's. Sent next, or when the connection is back. */
static void send_again(struct zk *z, struct request *r)
{
	if (r->early)
		submit(z, r);
	else
		wait_in_order(z, r);
}

/* ---- what a lost write has left ---- */

/* Whether a part tells by what is there that it was done: reading it would. */
static bool is_evidence(enum request_op op, int32_t version, unsigned flags)
{
	return (op == OP_CREATE && !(flags & ZK_SEQUENTIAL)) || (op == OP_SET && version >= 0) || op == OP_DELETE;
}

static size_t next_evidence(const struct zk_multi *m, size_t from)
{
	while (from < m->parts && !is_evidence(m->part[from].op, m->part[from].version, m->part[from].flags))
		from++;
	return from;
}

struct found { bool there, readable; const char *data; size_t bytes; const struct Stat *stat; };

static bool same_bytes(const struct found *f, const char *data, size_t bytes)
{
	return f->bytes == bytes && (!bytes || !memcmp(f->data, data, bytes));
}

/* 1: it is as the write would have left it; -1: it is not; 0: that says nothing. */
static int weigh(const struct request *r, const struct found *f, enum request_op op, const char *data, size_t bytes, int32_t version, unsigned flags)
{
	if (op == OP_DELETE)
		return f->there ? -1 : 0;
	if (!f->there || !same_bytes(f, data, bytes))
		return -1;
	if (op == OP_SET)
		return f->stat->version == version + 1 ? 1 : -1;
	return f->stat->ephemeralOwner == (flags & ZK_EPHEMERAL ? r->z->session : 0) ? 1 : -1;
}

/* All that tells was read. */
static void judge_multi(struct request *r)
{
	struct zk_multi *m = r->multi;
	if (r->others && r->ours) {
		finish(r, ZK_UNKNOWN);
	} else if (r->others) {
		finish(r, r->code);
	} else {
		r->refused = m->parts;
		for (size_t i = 0; i < m->parts; i++)
			m->said[i].code = ZK_OK;
		finish(r, ZK_OK);
	}
}

static void weigh_part(struct zk *z, struct request *r, const struct found *f)
{
	struct zk_multi *m = r->multi;
	struct part *p = &m->part[r->at];
	int w = f->readable ? weigh(r, f, p->op, p->data, p->bytes, p->version, p->flags) : 0;
	r->ours += w > 0 || !f->readable; /* what cannot be read may be either */
	r->others += w < 0 || !f->readable;
	if (f->there && f->stat)
		m->said[r->at].stat = stat_of(f->stat);
	r->at = next_evidence(m, r->at + 1);
	if (r->at < m->parts)
		send_again(z, r);
	else
		judge_multi(r);
}

static void weigh_single(struct zk *z, struct request *r, const struct found *f)
{
	if (!f->there && f->readable && r->op == OP_CREATE) { /* deleted since it was refused because it is there */
		r->reading = false;
		send_again(z, r);
		return;
	}
	if (!f->readable)
		finish(r, ZK_UNKNOWN);
	else if (weigh(r, f, r->op, r->data, r->bytes, r->version, r->flags) < 1)
		finish(r, r->code);
	else {
		r->stat = stat_of(f->stat);
		finish(r, ZK_OK);
	}
}

/* A write that was sent twice is refused with `code`. false: that stands. */
static bool begin_reading(struct zk *z, struct request *r, enum zk_code code)
{
	if (!r->lost)
		return false;
	if (r->op == OP_MULTI) {
		r->at = next_evidence(r->multi, 0);
		if (r->at == r->multi->parts)
			return false;
	} else if (!is_evidence(r->op, r->version, r->flags) || code != (r->op == OP_CREATE ? ZK_EXISTS : ZK_BAD_VERSION))
		return false;
	r->reading = true;
	r->code = code;
	r->ours = r->others = 0;
	send_again(z, r);
	return true;
}

/* ---- answers; on the completion thread ---- */

/* What a majority of the servers has to agree to, as it does to a refusal: only that says something about the session. A read is answered by one server, which may have lost all others. */
static bool is_write(const struct request *r)
{
	return !r->reading && (r->op == OP_CREATE || r->op == OP_SET || r->op == OP_DELETE || r->op == OP_MULTI);
}

/* Whether r was answered at all: else it waits for the connection, or is over. locks: z's. */
static bool is_answered(struct zk *z, struct request *r, int rc)
{
	land(z, r);
	if (is_lost(rc)) {
		r->lost = true;
		if (r->early)
			finish(r, ZK_FAILED);
		else {
			wait_in_order(z, r);
			if (z->ready)
				session_retry_soon(z);
		}
		return false;
	}
	if (code_of(rc) == ZK_EXPIRED)
		finish(r, z->closing ? ZK_CLOSED : ZK_EXPIRED);
	else {
		if (is_write(r))
			session_answered(z, r->sent_ns);
		return true;
	}
	return false;
}

/* The next name of the path. */
static void go_down(struct zk *z, struct request *r)
{
	size_t n = strlen(r->path);
	if (r->length == n) {
		finish(r, ZK_OK);
		return;
	}
	r->length += 1 + strcspn(r->path + r->length + 1, "/");
	send_again(z, r);
}

static void go_up(struct zk *z, struct request *r)
{
	const char *slash = memrchr(r->path, '/', r->length);
	if (slash == r->path) {
		finish(r, ZK_NO_NODE);
		return;
	}
	r->length = (size_t)(slash - r->path);
	send_again(z, r);
}

static void make_path_step(struct zk *z, struct request *r, enum zk_code code)
{
	if (!r->length && code == ZK_NO_NODE) {
		r->length = strlen(r->path);
		send_again(z, r);
	} else if (r->length && (code == ZK_OK || code == ZK_EXISTS))
		go_down(z, r);
	else if (r->length && code == ZK_NO_NODE)
		go_up(z, r);
	else
		finish(r, code);
}

/* What r has is in it. */
static void complete(struct request *r, int rc)
{
	struct zk *z = r->z;
	pthread_mutex_lock(&z->lock);
	if (is_answered(z, r, rc)) {
		enum zk_code code = code_of(rc);
		note_watch(z, r, code);
		if (r->op == OP_MAKE_PATH)
			make_path_step(z, r, code);
		else if (r->op == OP_DELETE && r->lost && code == ZK_NO_NODE)
			finish(r, ZK_OK);
		else if (code == ZK_OK || !begin_reading(z, r, code))
			finish(r, code);
	}
	requests_pump(z);
	pthread_mutex_unlock(&z->lock);
}

static struct request *of(const void *data)
{
	return (struct request *)data;
}

static void void_done(int rc, const void *data)
{
	complete(of(data), rc);
}

static void stat_done(int rc, const struct Stat *stat, const void *data)
{
	struct request *r = of(data);
	if (rc == ZOK && stat)
		r->stat = stat_of(stat);
	complete(r, rc);
}

static void name_done(int rc, const char *name, const void *data)
{
	(void)name;
	complete(of(data), rc);
}

static void create_done(int rc, const char *name, const struct Stat *stat, const void *data)
{
	struct request *r = of(data);
	if (rc == ZOK && name && stat && strlen(name) >= r->hidden) {
		r->stat = stat_of(stat);
		r->name = strdup(name);
	}
	complete(r, rc);
}

static void data_done(int rc, const char *value, int bytes, const struct Stat *stat, const void *data)
{
	struct request *r = of(data);
	if (rc == ZOK && stat)
		r->stat = stat_of(stat);
	if (rc == ZOK && value && bytes >= 0) {
		r->answer = malloc((size_t)bytes + 1);
		if (r->answer) {
			memcpy(r->answer, value, (size_t)bytes);
			r->answer[bytes] = '\0';
			r->answer_bytes = (size_t)bytes;
		} else
			rc = ZMARSHALLINGERROR;
	}
	complete(r, rc);
}

static void children_done(int rc, const struct String_vector *names, const struct Stat *stat, const void *data)
{
	struct request *r = of(data);
	if (rc == ZOK && stat)
		r->stat = stat_of(stat);
	if (rc == ZOK && names && names->count > 0) {
		r->children = calloc((size_t)names->count, sizeof *r->children);
		for (int i = 0; r->children && i < names->count; i++, r->children_count++)
			if (!(r->children[i] = strdup(names->data[i])))
				break;
		if (r->children_count != (size_t)names->count)
			rc = ZMARSHALLINGERROR;
	}
	complete(r, rc);
}

static void multi_done(int rc, const void *data)
{
	struct request *r = of(data);
	struct zk_multi *m = r->multi;
	r->refused = m->parts;
	for (size_t i = 0; i < m->parts && !is_lost(rc); i++) {
		struct zk_result *s = &m->said[i];
		s->code = m->results[i].err == ZRUNTIMEINCONSISTENCY ? ZK_ROLLED_BACK : code_of(m->results[i].err);
		if (s->code != ZK_OK && s->code != ZK_ROLLED_BACK && r->refused == m->parts)
			r->refused = i;
		if (rc == ZOK && m->part[i].op == OP_SET)
			s->stat = stat_of(&m->stats[i]);
	}
	complete(r, rc);
}

static void read_done(int rc, const char *value, int bytes, const struct Stat *stat, const void *data)
{
	struct request *r = of(data);
	struct zk *z = r->z;
	struct found f = {.there = rc == ZOK, .readable = rc == ZOK || rc == ZNONODE, .data = value, .bytes = value && bytes > 0 ? (size_t)bytes : 0, .stat = stat};
	pthread_mutex_lock(&z->lock);
	if (is_answered(z, r, rc)) {
		if (r->op == OP_MULTI)
			weigh_part(z, r, &f);
		else
			weigh_single(z, r, &f);
	}
	requests_pump(z);
	pthread_mutex_unlock(&z->lock);
}

/* ---- to libzookeeper ---- */

static int send_make_path(struct zk *z, struct request *r)
{
	if (!r->length)
		return zoo_aexists(z->handle, r->path, 0, stat_done, r);
	char end = r->path[r->length];
	r->path[r->length] = '\0';
	/* Of the chroot and what is above it nobody asks for another ACL than of the rest. */
	int rc = zoo_acreate(z->handle, r->path, NULL, -1, acl_of(z, r->length > r->hidden ? r->path + r->hidden : "/"), ZOO_PERSISTENT, name_done, r);
	r->path[r->length] = end;
	return rc;
}

static int send_multi(struct zk *z, struct request *r)
{
	struct zk_multi *m = r->multi;
	memset(m->results, 0, m->parts * sizeof *m->results);
	return zoo_amulti(z->handle, (int)m->parts, m->ops, m->results, multi_done, r);
}

static int send_request(struct zk *z, struct request *r)
{
	int bytes = r->data ? (int)r->bytes : -1;
	if (!z->handle)
		return ZSESSIONEXPIRED;
	if (r->reading)
		return zoo_aget(z->handle, r->op == OP_MULTI ? r->multi->part[r->at].full : r->path, 0, read_done, r);
	switch (r->op) {
	case OP_GET: return zoo_aget(z->handle, r->path, r->watch, data_done, r);
	case OP_EXISTS: return zoo_aexists(z->handle, r->path, r->watch, stat_done, r);
	case OP_CHILDREN: return zoo_aget_children2(z->handle, r->path, r->watch, children_done, r);
	case OP_SYNC: return zoo_async(z->handle, r->path, name_done, r);
	case OP_CREATE: return zoo_acreate2(z->handle, r->path, r->data, bytes, acl_of(z, r->path + r->hidden), mode_of(r->flags), create_done, r);
	case OP_SET: return zoo_aset(z->handle, r->path, r->data, bytes, r->version, stat_done, r);
	case OP_DELETE: return zoo_adelete(z->handle, r->path, r->version, void_done, r);
	case OP_MAKE_PATH: return send_make_path(z, r);
	case OP_MULTI: return send_multi(z, r);
	}
	return ZBADARGUMENTS;
}

/* ---- what callers ask ---- */

/* locks: z's. Why it cannot be sent at all. */
static enum zk_code reject(struct zk *z, struct request *r)
{
	if (z->closing)
		return ZK_CLOSED;
	if (!r->early && (!z->session || z->session != z->heard_session))
		return ZK_EXPIRED;
	if (r->op == OP_MULTI)
		return ZK_OK;
	if (strlen(r->path) + r->bytes + REQUEST_BYTES > ZK_MAX_REQUEST || !watch_fits(z, r))
		return ZK_TOO_LARGE;
	return ZK_OK;
}

static void ask(struct zk *z, struct request *r, enum zk_code code)
{
	pthread_mutex_lock(&z->lock);
	if (code == ZK_OK)
		code = reject(z, r);
	r->serial = z->serial++;
	if (code != ZK_OK)
		finish(r, code);
	else {
		send_again(z, r);
		requests_pump(z);
	}
	pthread_mutex_unlock(&z->lock);
}

/* Path and data of a request of one node. */
static enum zk_code fill(struct zk *z, struct request *r, const char *path, const void *data, size_t bytes)
{
	size_t n = strlen(path);
	bool root = !path[0] || !path[1];
	r->path = malloc(z->chroot_length + n + 1);
	if (!r->path)
		return ZK_NO_MEMORY;
	memcpy(r->path, z->chroot, z->chroot_length);
	memcpy(r->path + z->chroot_length, root && z->chroot_length ? "" : path, root && z->chroot_length ? 1 : n + 1);
	if (!path_is_valid(path) || z->chroot_length + n >= ZK_PATH_MAX)
		return ZK_INVALID;
	if (bytes > ZK_MAX_REQUEST)
		return ZK_TOO_LARGE;
	if (!data)
		return ZK_OK;
	r->data = malloc(bytes + 1);
	if (!r->data)
		return ZK_NO_MEMORY;
	memcpy(r->data, data, bytes);
	r->bytes = bytes;
	return ZK_OK;
}

static void ask_read(struct zk *z, enum request_op op, const char *path, bool watch, zk_done_fn done, void *arg)
{
	struct request *r = request_new(z, op, done, arg);
	r->watch = watch;
	ask(z, r, fill(z, r, path, NULL, 0));
}

void zk_get(struct zk *z, const char *path, bool watch, zk_done_fn done, void *arg)
{
	ask_read(z, OP_GET, path, watch, done, arg);
}

void zk_exists(struct zk *z, const char *path, bool watch, zk_done_fn done, void *arg)
{
	ask_read(z, OP_EXISTS, path, watch, done, arg);
}

void zk_children(struct zk *z, const char *path, bool watch, zk_done_fn done, void *arg)
{
	ask_read(z, OP_CHILDREN, path, watch, done, arg);
}

void zk_sync(struct zk *z, zk_done_fn done, void *arg)
{
	ask_read(z, OP_SYNC, "/", false, done, arg);
}

void zk_create(struct zk *z, const char *path, const void *data, size_t bytes, unsigned flags, zk_done_fn done, void *arg)
{
	struct request *r = request_new(z, OP_CREATE, done, arg);
	r->flags = flags;
	ask(z, r, fill(z, r, path, data, bytes));
}

void zk_set(struct zk *z, const char *path, const void *data, size_t bytes, int32_t version, zk_done_fn done, void *arg)
{
	struct request *r = request_new(z, OP_SET, done, arg);
	r->version = version;
	ask(z, r, fill(z, r, path, data, bytes));
}

void zk_delete(struct zk *z, const char *path, int32_t version, zk_done_fn done, void *arg)
{
	struct request *r = request_new(z, OP_DELETE, done, arg);
	r->version = version;
	ask(z, r, fill(z, r, path, NULL, 0));
}

void zk_make_path(struct zk *z, const char *path, zk_done_fn done, void *arg)
{
	struct request *r = request_new(z, OP_MAKE_PATH, done, arg);
	ask(z, r, fill(z, r, path, NULL, 0));
}

void request_make_chroot(struct zk *z, zk_done_fn done)
{
	struct request *r = request_new(z, OP_MAKE_PATH, done, z);
	r->early = true;
	r->to = z->keeper;
	ask(z, r, fill(z, r, "/", NULL, 0));
}

void zk_multi_send(struct zk *z, struct zk_multi *m, zk_done_fn done, void *arg)
{
	struct request *r = request_new(z, OP_MULTI, done, arg);
	r->multi = m;
	ask(z, r, multi_prepare(z, m));
}
