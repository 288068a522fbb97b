#include "cluster/zk/member.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cluster/zk/queue.h"
#include "store/buf.h"
#include "store/diag.h"
#include "store/dirs.h"
#include "store/io.h"

enum { RETRY_MS = 1000, CLUSTER_ID_MAX = 63 };

/* What a registration goes through. An answer that belongs to another state is of an earlier session, and ignored. */
enum step { STEP_NONE, STEP_PATHS, STEP_CLUSTER_ID, STEP_OTHERS, STEP_NODE, STEP_WAITING, STEP_REGISTERED, STEP_FAILED };

struct member {
	struct zk *zk;
	struct queue *queue;
	struct member_options o;        /* its strings are copies, owned */
	struct layout_endpoint *endpoint;
	char boot[64];
	char path[64];                  /* of our node */
	struct zk_listener listener;

	/* The queue's thread: */
	enum step step;
	int64_t session;
	size_t path_at;
	char **others;                  /* ids that are registered, as names */
	size_t others_count, other_at;
	struct queue_timer timer;       /* the end of the waiting; another attempt */
	bool ever_registered;

	_Atomic int64_t epoch;          /* -1: not registered */
	_Atomic bool clean;
	pthread_mutex_t lock;           /* below: for member_wait */
	pthread_cond_t settled;
	bool registered_once;
	struct err failure;
	char cluster_id[CLUSTER_ID_MAX + 1];
};

static void next_path(struct member *m);
static void read_cluster_id(struct member *m);
static void look_at_others(struct member *m);
static void create_node(struct member *m);

/* ---- how it ends ---- */

static void fail(struct member *m, const struct err *e)
{
	m->step = STEP_FAILED;
	queue_timer_cancel(m->queue, &m->timer);
	pthread_mutex_lock(&m->lock);
	m->failure = *e;
	pthread_cond_broadcast(&m->settled);
	pthread_mutex_unlock(&m->lock);
	if (m->o.failed)
		m->o.failed(m->o.arg, e);
}

static void registered(struct member *m, const struct zk_stat *stat)
{
	m->step = STEP_REGISTERED;
	queue_timer_cancel(m->queue, &m->timer);
	m->ever_registered = true;
	atomic_store(&m->epoch, stat->czxid);
	diag_notice("broker %d is registered, epoch %lld, %s, in cluster %s at %s", m->o.broker_id, (long long)stat->czxid, atomic_load(&m->clean) ? "clean" : "not clean", m->cluster_id,
		    zk_connect_text(m->zk));
	if (m->o.registered)
		m->o.registered(m->o.arg, stat->czxid);
	pthread_mutex_lock(&m->lock);
	m->registered_once = true;
	pthread_cond_broadcast(&m->settled);
	pthread_mutex_unlock(&m->lock);
}

/* An answer that no step expects. The session's end is told by the listener; what a server could not do now is tried again, all of it, as it is cheap and may be repeated. */
static void stumbled(struct member *m, const struct zk_result *r, const char *what)
{
	struct err e = ERR_INIT;
	if (r->code == ZK_EXPIRED || r->code == ZK_CLOSED)
		return;
	zk_error(r, what, &e);
	if (r->code == ZK_NO_AUTH || r->code == ZK_INVALID || r->code == ZK_TOO_LARGE) {
		fail(m, &e);
		return;
	}
	diag_warning("%s; it is tried again", e.text);
	m->step = STEP_PATHS;
	queue_timer_arm(m->queue, &m->timer, mono_after_ms(mono_now(), RETRY_MS));
}

/* ---- 1. paths ---- */

static void path_made(void *arg, const struct zk_result *r)
{
	struct member *m = arg;
	if (m->step != STEP_PATHS)
		return;
	if (r->code != ZK_OK) {
		stumbled(m, r, "make");
		return;
	}
	m->path_at++;
	next_path(m);
}

static void next_path(struct member *m)
{
	const char *path = layout_persistent_paths[m->path_at];
	if (path)
		zk_make_path(m->zk, path, path_made, m);
	else
		read_cluster_id(m);
}

/* ---- 2. the cluster ---- */

static void cluster_id_made(void *arg, const struct zk_result *r)
{
	struct member *m = arg;
	if (m->step != STEP_CLUSTER_ID)
		return;
	if (r->code == ZK_OK || r->code == ZK_EXISTS)
		read_cluster_id(m); /* whoever was first */
	else
		stumbled(m, r, "make");
}

static void cluster_path_made(void *arg, const struct zk_result *r)
{
	struct member *m = arg;
	struct wr text;
	if (m->step != STEP_CLUSTER_ID)
		return;
	if (r->code != ZK_OK) {
		stumbled(m, r, "make");
		return;
	}
	wr_init(&text, 0);
	int rc = layout_cluster_id_encode(*m->o.cluster_id ? m->o.cluster_id : m->o.new_cluster_id, &text);
	struct err e = ERR_INIT;
	if (rc < 0) {
		err_set(&e, rc, "no memory for the cluster id");
		fail(m, &e);
	} else
		zk_create(m->zk, LAYOUT_CLUSTER_ID, text.data, text.len, 0, cluster_id_made, m);
	wr_release(&text);
}

static void cluster_id_read(void *arg, const struct zk_result *r)
{
	struct member *m = arg;
	struct err e = ERR_INIT;
	char id[64];
	if (m->step != STEP_CLUSTER_ID)
		return;
	if (r->code == ZK_NO_NODE) {
		zk_make_path(m->zk, "/cluster", cluster_path_made, m);
		return;
	}
	if (r->code != ZK_OK) {
		stumbled(m, r, "read");
		return;
	}
	const char *ours = m->ever_registered ? m->cluster_id : m->o.cluster_id;
	if (layout_cluster_id_decode(id, LAYOUT_CLUSTER_ID, r->data, r->bytes, &e) < 0) {
		fail(m, &e);
	} else if (*ours && strcmp(ours, id)) {
		err_set(&e, ERR_INVALID, "these log directories belong to the cluster %s, and what is at %s is the cluster %s: is zookeeper.connect right?", ours, zk_connect_text(m->zk), id);
		fail(m, &e);
	} else {
		if (!m->ever_registered) /* else it is the same, and others read it */
			snprintf(m->cluster_id, sizeof m->cluster_id, "%s", id);
		look_at_others(m);
	}
}

static void read_cluster_id(struct member *m)
{
	m->step = STEP_CLUSTER_ID;
	zk_get(m->zk, LAYOUT_CLUSTER_ID, false, cluster_id_read, m);
}

/* ---- 3. the others are spoolfs, too ---- */

static void forget_others(struct member *m)
{
	for (size_t i = 0; i < m->others_count; i++)
		free(m->others[i]);
	free(m->others);
	m->others = NULL;
	m->others_count = m->other_at = 0;
}

static void next_other(struct member *m);

static void other_read(void *arg, const struct zk_result *r)
{
	struct member *m = arg;
	struct layout_broker b = {0};
	struct err e = ERR_INIT;
	if (m->step != STEP_OTHERS)
		return;
	if (r->code != ZK_OK && r->code != ZK_NO_NODE) {
		stumbled(m, r, "read");
		return;
	}
	if (r->code == ZK_OK && layout_broker_decode(&b, r->path, r->data, r->bytes, &e) < 0) {
		fail(m, &e);
		return;
	}
	bool foreign = r->code == ZK_OK && !b.ours;
	layout_broker_release(&b);
	if (foreign) {
		err_set(&e, ERR_INVALID, "%s at %s is no spoolfs: an Apache Kafka lives there; choose another path in zookeeper.connect", r->path, zk_connect_text(m->zk));
		fail(m, &e);
		return;
	}
	m->other_at++;
	next_other(m);
}

static void next_other(struct member *m)
{
	char path[64];
	if (m->other_at == m->others_count) {
		create_node(m);
		return;
	}
	snprintf(path, sizeof path, LAYOUT_BROKER_IDS "/%s", m->others[m->other_at]);
	zk_get(m->zk, path, false, other_read, m);
}

static void others_listed(void *arg, const struct zk_result *r)
{
	struct member *m = arg;
	int32_t id;
	if (m->step != STEP_OTHERS)
		return;
	if (r->code != ZK_OK) {
		stumbled(m, r, "list");
		return;
	}
	forget_others(m);
	m->others = calloc(r->children_count + 1, sizeof *m->others);
	for (size_t i = 0; m->others && i < r->children_count; i++) {
		if (!layout_number(r->children[i], "", &id))
			continue;
		m->others[m->others_count] = strdup(r->children[i]);
		if (!m->others[m->others_count++])
			break;
	}
	if (!m->others || (m->others_count && !m->others[m->others_count - 1])) {
		struct zk_result none = {.code = ZK_NO_MEMORY, .path = LAYOUT_BROKER_IDS};
		stumbled(m, &none, "list");
		return;
	}
	next_other(m);
}

static void look_at_others(struct member *m)
{
	m->step = STEP_OTHERS;
	zk_children(m->zk, LAYOUT_BROKER_IDS, false, others_listed, m);
}

/* ---- 4. our node ---- */

static void duplicate(struct member *m, const struct layout_broker *b)
{
	struct err e = ERR_INIT;
	const struct layout_endpoint *p = b->endpoints ? b->endpoint : NULL;
	err_set(&e, ERR_BUSY, "broker.id=%d is taken by another broker, at %s:%d: each has its own id. If that one is gone for good its registration ends with its session, after zookeeper.session.timeout.ms",
		m->o.broker_id, p ? p->host : "?", p ? p->port : 0);
	fail(m, &e);
}

/* What stands in the way is ours, of a session that we could not close. It goes when that has expired; later than this it is no leftover. */
static void wait_for_leftover(struct member *m, int timeout_ms)
{
	if (m->step == STEP_WAITING)
		return;
	m->step = STEP_WAITING;
	diag_notice("broker %d: the registration of the process before this one is still there, and goes when its session expires", m->o.broker_id);
	queue_timer_arm(m->queue, &m->timer, mono_after_ms(mono_now(), 2 * (int64_t)timeout_ms + 5 * RETRY_MS));
}

static void holder_read(void *arg, const struct zk_result *r)
{
	struct member *m = arg;
	struct layout_broker b;
	struct err e = ERR_INIT;
	if (m->step != STEP_NODE && m->step != STEP_WAITING)
		return;
	if (r->code == ZK_NO_NODE) {
		create_node(m);
		return;
	}
	if (r->code != ZK_OK) {
		stumbled(m, r, "read");
		return;
	}
	if (r->stat.ephemeral_owner == m->session) {
		registered(m, &r->stat);
		return;
	}
	if (layout_broker_decode(&b, m->path, r->data, r->bytes, &e) < 0) {
		fail(m, &e);
		return;
	}
	if (b.ours && !strcmp(b.data_id, m->o.data_id))
		wait_for_leftover(m, b.session_timeout_ms);
	else
		duplicate(m, &b);
	layout_broker_release(&b);
}

static void node_created(void *arg, const struct zk_result *r)
{
	struct member *m = arg;
	if (m->step != STEP_NODE)
		return;
	if (r->code == ZK_OK)
		registered(m, &r->stat);
	else if (r->code == ZK_EXISTS)
		zk_get(m->zk, m->path, true, holder_read, m);
	else
		stumbled(m, r, "register at");
}

static void create_node(struct member *m)
{
	/* For programs that look for one address: the first that is not encrypted, as in Kafka. */
	const struct layout_endpoint *plain = NULL;
	for (size_t i = 0; i < m->o.endpoints && !plain; i++)
		plain = !strcmp(m->endpoint[i].protocol, "PLAINTEXT") ? &m->endpoint[i] : NULL;
	struct layout_broker b = {.endpoint = m->endpoint, .endpoints = m->o.endpoints, .host = plain ? plain->host : NULL, .port = plain ? plain->port : -1, .rack = *m->o.rack ? m->o.rack : NULL,
				  .jmx_port = -1, .timestamp_ms = wall_now_ms(), .ours = true, .clean = atomic_load(&m->clean), .boot_id = m->boot, .data_id = m->o.data_id,
				  .session_timeout_ms = zk_session_timeout_ms(m->zk)};
	struct wr text;
	struct err e = ERR_INIT;
	wr_init(&text, 0);
	m->step = STEP_NODE;
	if (layout_broker_encode(&b, &text) < 0) {
		err_set(&e, ERR_INVALID, "broker %d cannot be registered: broker.rack or a host is not UTF-8", m->o.broker_id);
		fail(m, &e);
	} else
		zk_create(m->zk, m->path, text.data, text.len, ZK_EPHEMERAL, node_created, m);
	wr_release(&text);
}

/* ---- what the session says ---- */

static void begin(struct member *m)
{
	m->step = STEP_PATHS;
	m->path_at = 0;
	next_path(m);
}

static void on_connected(void *arg, int64_t session)
{
	struct member *m = arg;
	if (m->step == STEP_FAILED || m->session == session)
		return;
	m->session = session;
	begin(m);
}

static void on_expired(void *arg)
{
	struct member *m = arg;
	m->session = 0;
	if (m->step == STEP_FAILED)
		return;
	m->step = STEP_NONE;
	queue_timer_cancel(m->queue, &m->timer);
	if (atomic_exchange(&m->epoch, -1) >= 0 && m->o.lost)
		m->o.lost(m->o.arg);
}

static void on_changed(void *arg, enum zk_change what, const char *path)
{
	struct member *m = arg;
	if (m->step == STEP_WAITING && !strcmp(path, m->path))
		zk_get(m->zk, m->path, what != ZK_DELETED, holder_read, m);
}

static void on_timer(struct queue_timer *t, void *arg)
{
	struct member *m = arg;
	struct err e = ERR_INIT;
	(void)t;
	if (m->step == STEP_WAITING) {
		err_set(&e, ERR_BUSY, "broker.id=%d is taken by a broker with a copy of these log directories: each has its own", m->o.broker_id);
		fail(m, &e);
	} else if (m->step == STEP_PATHS && m->session)
		begin(m);
}

/* ---- opening ---- */

static char *copy(const char *text)
{
	return strdup(text ? text : "");
}

static void free_copies(struct member *m)
{
	for (size_t i = 0; m->endpoint && i < m->o.endpoints; i++) {
		free((char *)m->endpoint[i].listener);
		free((char *)m->endpoint[i].protocol);
		free((char *)m->endpoint[i].host);
	}
	free(m->endpoint);
	free((char *)m->o.rack);
	free((char *)m->o.cluster_id);
	free((char *)m->o.new_cluster_id);
	free((char *)m->o.data_id);
}

static bool take_copies(struct member *m, const struct member_options *o)
{
	m->o = *o;
	m->o.rack = copy(o->rack);
	m->o.cluster_id = copy(o->cluster_id);
	m->o.new_cluster_id = copy(o->new_cluster_id);
	m->o.data_id = copy(o->data_id);
	m->endpoint = calloc(o->endpoints + 1, sizeof *m->endpoint);
	bool all = m->o.rack && m->o.cluster_id && m->o.new_cluster_id && m->o.data_id && m->endpoint;
	for (size_t i = 0; all && i < o->endpoints; i++) {
		const struct layout_endpoint *p = &o->endpoint[i];
		m->endpoint[i] = (struct layout_endpoint){copy(p->listener), copy(p->protocol), copy(p->host), p->port};
		all = m->endpoint[i].listener && m->endpoint[i].protocol && m->endpoint[i].host;
	}
	return all;
}

int member_open(struct member **out, const struct member_options *o, struct err *e)
{
	struct member *m = calloc(1, sizeof *m);
	*out = NULL;
	if (!m || !take_copies(m, o)) {
		if (m)
			free_copies(m);
		free(m);
		return err_set(e, ERR_NO_MEMORY, "no memory for the registration of this broker");
	}
	pthread_condattr_t monotonic;
	pthread_mutex_init(&m->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&m->settled, &monotonic);
	pthread_condattr_destroy(&monotonic);
	m->zk = o->zk;
	m->queue = o->queue;
	m->timer = (struct queue_timer){.fire = on_timer, .arg = m};
	m->listener = (struct zk_listener){.connected = on_connected, .expired = on_expired, .changed = on_changed, .arg = m};
	atomic_store(&m->epoch, -1);
	atomic_store(&m->clean, o->clean);
	boot_id(m->boot);
	snprintf(m->path, sizeof m->path, LAYOUT_BROKER_IDS "/%d", o->broker_id);
	*out = m;
	return 0;
}

void member_start(struct member *m)
{
	zk_listen(m->zk, &m->listener);
	zk_start(m->zk);
}

static struct timespec after_ms(int ms)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	int64_t ns = t.tv_nsec + (int64_t)ms * 1000000;
	t.tv_sec += ns / 1000000000;
	t.tv_nsec = ns % 1000000000;
	return t;
}

int member_wait(struct member *m, int connection_ms, int registration_ms, struct err *e)
{
	int rc = zk_wait(m->zk, connection_ms, e), r = 0;
	struct timespec until = after_ms(registration_ms);
	if (rc < 0)
		return rc;
	pthread_mutex_lock(&m->lock);
	while (!m->registered_once && !m->failure.code && r != ETIMEDOUT)
		r = pthread_cond_timedwait(&m->settled, &m->lock, &until);
	if (m->failure.code)
		rc = err_set(e, m->failure.code, "%s", m->failure.text);
	else if (!m->registered_once)
		rc = err_set(e, ERR_TIMED_OUT, "broker %d could not be registered at %s within %d ms", m->o.broker_id, zk_connect_text(m->zk), registration_ms);
	pthread_mutex_unlock(&m->lock);
	return rc;
}

void member_free(struct member *m)
{
	if (!m)
		return;
	forget_others(m);
	free_copies(m);
	pthread_cond_destroy(&m->settled);
	pthread_mutex_destroy(&m->lock);
	free(m);
}

/* ---- looking ---- */

int64_t member_epoch(const struct member *m)
{
	return atomic_load(&m->epoch);
}

int64_t member_lease_ms(const struct member *m)
{
	/* The lease is of the session that the queue has heard of: while the epoch stays the same, of the one that gave it. */
	int64_t epoch = atomic_load(&m->epoch), ms = zk_lease_ms(m->zk);
	return epoch >= 0 && epoch == atomic_load(&m->epoch) ? ms : 0;
}

const char *member_cluster_id(const struct member *m)
{
	return m->cluster_id;
}

void member_cleared(struct member *m, int64_t epoch)
{
	if (atomic_load(&m->epoch) == epoch)
		atomic_store(&m->clean, true);
}

int member_data_id(const char *path, char id[TOPIC_ID_CHARS + 1], struct err *e)
{
	char *text;
	uint8_t bytes[16];
	char again[TOPIC_ID_CHARS + 1], line[TOPIC_ID_CHARS + 2];
	size_t n;
	int sys = io_read_file(path, 4096, &text, &n);
	if (sys == -ENOENT) {
		uuid_text_new(id);
		int length = snprintf(line, sizeof line, "%s\n", id);
		sys = io_replace_file(path, line, (size_t)length, true);
		return sys < 0 ? err_sys(e, sys, "cannot write %s", path) : 0;
	}
	if (sys < 0)
		return err_sys(e, sys, "cannot read %s", path);
	text[strcspn(text, "\n")] = '\0';
	bool good = strlen(text) == TOPIC_ID_CHARS;
	if (good) {
		uuid_bytes(text, bytes);
		uuid_text(bytes, again);
		good = !strcmp(again, text);
		memcpy(id, again, sizeof again);
	}
	free(text);
	return good ? 0 : err_set(e, ERR_CORRUPT, "%s: it should have 22 characters of base64url; without the file these log directories get a new id", path);
}
