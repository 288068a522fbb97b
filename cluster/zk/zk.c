/* The session: how it begins, goes on and ends. */
#include "cluster/zk/session.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "store/buf.h"
#include "store/diag.h"
#include "store/io.h"

enum { DEFAULT_PORT = 2181, OPEN_AGAIN_MS = 1000, REFUSED_AGAIN_MS = 5000, RETRY_MS = 100, BEATS = 12, SESSION_FILE_MAX = 4096 };

/* ---- what it is told ---- */

/* host:port, with the port that ZooKeeper's own clients take where there is none. */
static int parse_server(const char *text, size_t n, struct wr *hosts, struct err *e)
{
	const char *colon = memrchr(text, ':', n), *bracket = memrchr(text, ']', n);
	bool has_port = colon && (!bracket || colon > bracket);
	size_t host = has_port ? (size_t)(colon - text) : n;
	long port = DEFAULT_PORT;
	if (has_port) {
		port = 0;
		for (const char *c = colon + 1; c < text + n; c++)
			port = *c >= '0' && *c <= '9' && port <= 65535 ? port * 10 + *c - '0' : 65536;
	}
	if (!host || host > 255 || memchr(text, ' ', n) || port < 1 || port > 65535)
		return err_set(e, ERR_INVALID, "\"%.*s\": host:port is expected", n > 200 ? 200 : (int)n, text);
	wr_printf(hosts, "%s%.*s:%ld", hosts->len ? "," : "", (int)host, text, port);
	return 0;
}

static int parse_connect(const char *text, struct wr *hosts, struct wr *chroot, struct err *e)
{
	size_t n = strcspn(text, "/");
	const char *root = text + n;
	int rc = 0;
	for (size_t at = 0, len; rc == 0 && at <= n; at += len + 1) {
		len = strcspn(text + at, ",/");
		rc = parse_server(text + at, len, hosts, e);
	}
	size_t end = strlen(root);
	while (end && root[end - 1] == '/')
		end--;
	wr_printf(chroot, "%.*s", (int)end, root);
	if (rc == 0 && (hosts->failed || chroot->failed))
		rc = err_set(e, ERR_NO_MEMORY, "no memory for zookeeper.connect");
	if (rc == 0 && end && (end > ZK_PATH_MAX / 2 || !path_is_valid((char *)chroot->data)))
		rc = err_set(e, ERR_INVALID, "\"%.200s\": that is no path in ZooKeeper", root);
	return rc;
}

bool zk_check_connect(const char *text, struct err *e)
{
	struct wr hosts, chroot;
	wr_init(&hosts, 0);
	wr_init(&chroot, 0);
	int rc = parse_connect(text, &hosts, &chroot, e);
	wr_release(&hosts);
	wr_release(&chroot);
	return rc == 0;
}

/* ---- libzookeeper's messages ---- */

/* "date:pid(thread):ZOO_WARN@function@line: text". What matters of them is said by us; these have the details. */
static void log_message_of_library(const char *message)
{
	const char *level = strstr(message, ":ZOO_"), *text = level ? strstr(level, ": ") : NULL;
	bool loud = level && (!strncmp(level + 5, "ERROR", 5) || !strncmp(level + 5, "WARN", 4));
	diag(loud ? DIAG_INFO : DIAG_DEBUG, "libzookeeper: %s", text ? text + 2 : message);
}

/* ---- events for the queue ---- */

enum news { NEWS_CONNECTED, NEWS_SUSPENDED, NEWS_EXPIRED, NEWS_CHANGED };

struct session_event {
	struct queue_event event;
	struct zk *z;
	enum news news;
	int64_t session;
	enum zk_change change;
	char path[];
};

static void hear(struct zk *z, const struct session_event *ev)
{
	pthread_mutex_lock(&z->lock);
	if (ev->news == NEWS_CONNECTED)
		z->heard_session = ev->session;
	else if (ev->news == NEWS_EXPIRED)
		z->heard_session = 0;
	pthread_mutex_unlock(&z->lock);
}

static void tell(struct queue_event *event)
{
	struct session_event *ev = (struct session_event *)event;
	struct zk *z = ev->z;
	pthread_mutex_lock(&z->lock);
	bool closing = z->closing;
	pthread_mutex_unlock(&z->lock);
	if (!closing)
		hear(z, ev);
	for (struct zk_listener *l = closing ? NULL : z->listeners; l; l = l->next) {
		if (ev->news == NEWS_CONNECTED && l->connected)
			l->connected(l->arg, ev->session);
		else if (ev->news == NEWS_SUSPENDED && l->suspended)
			l->suspended(l->arg);
		else if (ev->news == NEWS_EXPIRED && l->expired)
			l->expired(l->arg);
		else if (ev->news == NEWS_CHANGED && l->changed)
			l->changed(l->arg, ev->change, ev->path);
	}
	if (!closing && ev->news == NEWS_CONNECTED) {
		pthread_mutex_lock(&z->lock);
		z->heard = true;
		pthread_cond_broadcast(&z->heard_first);
		pthread_mutex_unlock(&z->lock);
	}
	free(ev);
}

/* Memory for what must be told is waited for. */
static struct session_event *event_new(struct zk *z, enum news news, const char *path)
{
	struct session_event *ev;
	size_t n = strlen(path) + 1;
	while (!(ev = calloc(1, sizeof *ev + n)))
		nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
	memcpy(ev->path, path, n);
	ev->event.run = tell;
	ev->z = z;
	ev->news = news;
	ev->session = z->session;
	return ev;
}

/* locks: z's, so that the order is that of what happened. */
static void say(struct zk *z, enum news news)
{
	queue_post(z->queue, &event_new(z, news, "")->event);
}

static void say_changed(struct zk *z, enum zk_change change, const char *full)
{
	size_t n = z->chroot_length;
	if (strncmp(full, z->chroot, n) || (full[n] && full[n] != '/'))
		return;
	struct session_event *ev = event_new(z, NEWS_CHANGED, full[n] ? full + n : "/");
	ev->change = change;
	queue_post(z->queue, &ev->event);
}

/* ---- what libzookeeper says; on its completion thread ---- */

struct keeper_event {
	struct queue_event event;
	struct zk *z;
	bool ended;          /* the session, or what was to be one: else it is connected */
	bool refused;        /* the credentials were */
	uint64_t connection;
};

static void keep(struct queue_event *ev);

/* locks: z's */
static void tell_keeper(struct zk *z, bool ended, bool refused)
{
	struct keeper_event *ev;
	while (!(ev = calloc(1, sizeof *ev)))
		nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
	*ev = (struct keeper_event){.event.run = keep, .z = z, .ended = ended, .refused = refused, .connection = z->connection};
	queue_post(z->keeper, &ev->event);
}

/* locks: z's */
static void disconnected(struct zk *z)
{
	z->connection++;
	if (z->ready) {
		say(z, NEWS_SUSPENDED);
		diag_notice("ZooKeeper: the connection is lost; session %#" PRIx64, (uint64_t)z->session);
	}
	z->ready = false;
}

static void session_changed(struct zk *z, int state)
{
	if (state == ZOO_CONNECTED_STATE) {
		z->connection++;
		tell_keeper(z, false, false);
	} else if (state == ZOO_CONNECTING_STATE)
		disconnected(z);
	else if (state == ZOO_EXPIRED_SESSION_STATE || state == ZOO_AUTH_FAILED_STATE) {
		disconnected(z);
		atomic_store(&z->lease_until_ns, INT64_MIN);
		tell_keeper(z, true, state == ZOO_AUTH_FAILED_STATE);
	}
}

static void node_changed(struct zk *z, int type, const char *path)
{
	enum zk_change what = type == ZOO_CREATED_EVENT ? ZK_CREATED : type == ZOO_DELETED_EVENT ? ZK_DELETED : type == ZOO_CHANGED_EVENT ? ZK_CHANGED : ZK_CHILDREN;
	if (type == ZOO_NOTWATCHING_EVENT)
		return;
	watch_fired(z, path, what);
	say_changed(z, what, path);
}

static void watcher(zhandle_t *handle, int type, int state, const char *path, void *context)
{
	struct zk *z = context;
	(void)handle;
	pthread_mutex_lock(&z->lock);
	if (z->closing || z->phase == PHASE_OLD) {
		if (type == ZOO_SESSION_EVENT && !z->closing && state != ZOO_CONNECTING_STATE)
			session_changed(z, state);
	} else if (type == ZOO_SESSION_EVENT)
		session_changed(z, state);
	else
		node_changed(z, type, path ? path : "");
	pthread_mutex_unlock(&z->lock);
}

/* ---- the lease ---- */

/* locks: z's */
void session_answered(struct zk *z, int64_t sent_ns)
{
	int64_t until = sent_ns + (int64_t)atomic_load(&z->timeout_ms) * 1000000 * 2 / 3;
	if (z->session && z->session == z->heard_session && until > atomic_load(&z->lease_until_ns))
		atomic_store(&z->lease_until_ns, until);
}

int64_t zk_lease_ms(const struct zk *z)
{
	int64_t until = atomic_load_explicit(&z->lease_until_ns, memory_order_acquire);
	return until == INT64_MIN ? 0 : (until - mono_now().ns) / 1000000;
}

static void beat_done(int rc, const void *data)
{
	struct zk *z = (struct zk *)data;
	pthread_mutex_lock(&z->lock);
	z->beat_flies = false;
	if (rc == ZOK || rc == ZNOAUTH)
		session_answered(z, z->beat_sent_ns);
	pthread_mutex_unlock(&z->lock);
}

/* On the keeper. A write that changes nothing. One at a time: while one is not answered another would not be, either. */
static void beat(struct queue_timer *t, void *arg)
{
	struct zk *z = arg;
	mono_t now = mono_now();
	int timeout_ms = atomic_load(&z->timeout_ms);
	pthread_mutex_lock(&z->lock);
	if (z->ready && !z->beat_flies) {
		z->beat_sent_ns = now.ns;
		zoo_check_op_init(&z->beat_op, "/", -1);
		z->beat_flies = zoo_amulti(z->handle, 1, &z->beat_op, &z->beat_result, beat_done, z) == ZOK;
	}
	pthread_mutex_unlock(&z->lock);
	queue_timer_arm(z->keeper, t, mono_after_ms(now, timeout_ms / BEATS > 0 ? timeout_ms / BEATS : 1));
}

/* ---- the session's file ---- */

static bool hex_bytes(const char *text, char *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		unsigned v;
		if (strspn(text + 2 * i, "0123456789abcdef") < 2 || sscanf(text + 2 * i, "%2x", &v) != 1)
			return false;
		bytes[i] = (char)v;
	}
	return text[2 * n] == '\n' || !text[2 * n];
}

/* What the process before us left; none: id 0. */
static void load_session(struct zk *z)
{
	char *text = NULL;
	size_t n;
	clientid_t old = {0};
	int sys = z->session_file ? io_read_file(z->session_file, SESSION_FILE_MAX, &text, &n) : -ENOENT;
	const char *id = sys < 0 ? NULL : strstr(text, "session="), *password = sys < 0 ? NULL : strstr(text, "password=");
	if (id && password && hex_bytes(password + strlen("password="), old.passwd, sizeof old.passwd))
		old.client_id = (int64_t)strtoull(id + strlen("session="), NULL, 16);
	if (!old.client_id && sys != -ENOENT)
		diag_warning("%s cannot be used: a session that was left open there ends only when its timeout has passed", z->session_file);
	z->old = old;
	free(text);
}

static void save_session(struct zk *z, const clientid_t *id)
{
	struct wr text;
	if (!z->session_file)
		return;
	wr_init(&text, 0);
	wr_printf(&text, "# this broker's session with ZooKeeper, so that the next start can end it\nsession=%016" PRIx64 "\npassword=", (uint64_t)id->client_id);
	for (size_t i = 0; i < sizeof id->passwd; i++)
		wr_printf(&text, "%02x", (unsigned char)id->passwd[i]);
	wr_printf(&text, "\n");
	int sys = text.failed ? -ENOMEM : io_replace_secret(z->session_file, text.data, text.len);
	wr_release(&text);
	if (sys < 0)
		diag_warning("cannot write %s (%s): after a crash this broker comes back only when its session has expired", z->session_file, strerror(-sys));
}

/* ---- the keeper's work ---- */

static void open_handle(struct zk *z)
{
	bool old = z->phase == PHASE_OLD;
	zhandle_t *h = zookeeper_init2(z->hosts, watcher, z->asked_timeout_ms, old ? &z->old : NULL, z, ZOO_NO_LOG_CLIENTENV, log_message_of_library);
	int why = errno;
	static struct diag_limit limit;
	if (!h) {
		diag_limited(&limit, 30000, DIAG_WARNING, "ZooKeeper: cannot connect to %s: %s", z->hosts, why == EINVAL || why == ENOENT ? "no host of these names is known" : strerror(why));
		queue_timer_arm(z->keeper, &z->again, mono_after_ms(mono_now(), OPEN_AGAIN_MS));
		return;
	}
	pthread_mutex_lock(&z->lock);
	z->handle = h;
	z->authenticated = false;
	pthread_mutex_unlock(&z->lock);
}

/* Ends what the handle is about: a session that is connected is closed. What was in flight is done when it returns: what libzookeeper finds unanswered when its threads have ended it forgets. */
static bool close_handle(struct zk *z)
{
	pthread_mutex_lock(&z->lock);
	zhandle_t *h = z->handle;
	z->handle = NULL;
	z->ready = false;
	pthread_mutex_unlock(&z->lock);
	bool connected = h && zoo_state(h) == ZOO_CONNECTED_STATE;
	if (h)
		zookeeper_close(h);
	pthread_mutex_lock(&z->lock);
	requests_forgotten(z, z->closing ? ZK_CLOSED : ZK_EXPIRED);
	z->beat_flies = false;
	pthread_mutex_unlock(&z->lock);
	return connected;
}

/* libzookeeper's own text for that stands in a buffer that its threads share. */
static void name_server(zhandle_t *h, char text[NI_MAXHOST + NI_MAXSERV + 4])
{
	struct sockaddr_storage a;
	socklen_t n = sizeof a;
	char host[NI_MAXHOST], port[NI_MAXSERV];
	if (zookeeper_get_connected_host(h, (struct sockaddr *)&a, &n) && !getnameinfo((struct sockaddr *)&a, n, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV))
		sprintf(text, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
	else
		strcpy(text, "a server");
}

/* Everything is in place on this connection: now it is ready. */
static void announce(struct zk *z, uint64_t connection)
{
	pthread_mutex_lock(&z->lock);
	bool still = !z->closing && z->handle && connection == z->connection && zoo_state(z->handle) == ZOO_CONNECTED_STATE;
	if (still) {
		int64_t id = zoo_client_id(z->handle)->client_id;
		bool again = z->session == id;
		char server[NI_MAXHOST + NI_MAXSERV + 4];
		name_server(z->handle, server);
		z->session = id;
		z->phase = PHASE_SESSION;
		z->ready = true;
		atomic_store(&z->timeout_ms, zoo_recv_timeout(z->handle));
		say(z, NEWS_CONNECTED);
		diag_notice("ZooKeeper: %s %s, session %#" PRIx64 ", timeout %d ms", again ? "connected again to" : "connected to", server, (uint64_t)id,
			    zoo_recv_timeout(z->handle));
		requests_pump(z);
	}
	pthread_mutex_unlock(&z->lock);
	if (still)
		beat(&z->beat, z);
}

static void again_soon(struct zk *z, int ms)
{
	queue_timer_arm(z->keeper, &z->again, mono_after_ms(mono_now(), ms));
}

static void chroot_done(void *arg, const struct zk_result *r)
{
	struct zk *z = arg;
	static struct diag_limit limit;
	struct err e = ERR_INIT;
	pthread_mutex_lock(&z->lock);
	uint64_t connection = z->connection;
	pthread_mutex_unlock(&z->lock);
	if (r->code == ZK_OK) {
		z->chroot_made = true;
		announce(z, connection);
	} else if (r->code != ZK_FAILED && r->code != ZK_EXPIRED && r->code != ZK_CLOSED) {
		zk_error(r, "make the chroot, below it", &e);
		diag_limited(&limit, 30000, DIAG_WARNING, "%s (%s)", e.text, z->chroot);
		again_soon(z, REFUSED_AGAIN_MS);
	}
}

/* On a new connection: who we are, and where. */
static void greet(struct zk *z, uint64_t connection)
{
	pthread_mutex_lock(&z->lock);
	bool stale = z->closing || !z->handle || connection != z->connection || z->ready || zoo_state(z->handle) != ZOO_CONNECTED_STATE;
	bool fresh = !stale && z->session != zoo_client_id(z->handle)->client_id;
	clientid_t id = {0};
	if (!stale)
		id = *zoo_client_id(z->handle);
	/* What is sent after it is done with these rights; libzookeeper itself repeats it on each later connection. */
	if (!stale && z->credentials && !z->authenticated)
		z->authenticated = zoo_add_auth(z->handle, "digest", z->credentials, (int)strlen(z->credentials), NULL, NULL) == ZOK;
	stale = stale || (z->credentials && !z->authenticated);
	pthread_mutex_unlock(&z->lock);
	if (stale)
		return;
	if (fresh)
		save_session(z, &id);
	if (z->chroot_length && !z->chroot_made)
		request_make_chroot(z, chroot_done);
	else
		announce(z, connection);
}

static void session_over(struct zk *z, bool refused)
{
	close_handle(z);
	pthread_mutex_lock(&z->lock);
	bool announced = z->phase == PHASE_SESSION && z->session;
	requests_fail(z, ZK_EXPIRED);
	watches_forget(z);
	atomic_store(&z->lease_until_ns, INT64_MIN);
	if (announced) {
		diag_notice("ZooKeeper: session %#" PRIx64 " has expired", (uint64_t)z->session);
		say(z, NEWS_EXPIRED);
	}
	z->session = 0;
	z->phase = PHASE_OPENING;
	pthread_mutex_unlock(&z->lock);
	if (refused) {
		diag_warning("ZooKeeper: the credentials are refused; see zookeeper.credentials.file");
		again_soon(z, REFUSED_AGAIN_MS);
	} else
		open_handle(z);
}

/* The session of the process before us is ours for a moment, or is over: either way it is gone. */
static void old_session_over(struct zk *z, bool was_there)
{
	close_handle(z);
	if (was_there)
		diag_notice("ZooKeeper: session %#" PRIx64 " of the process before this one is closed", (uint64_t)z->old.client_id);
	pthread_mutex_lock(&z->lock);
	z->phase = PHASE_OPENING;
	pthread_mutex_unlock(&z->lock);
	open_handle(z);
}

static void keep(struct queue_event *event)
{
	struct keeper_event ev = *(struct keeper_event *)event;
	struct zk *z = ev.z;
	free(event);
	pthread_mutex_lock(&z->lock);
	bool closing = z->closing, stale = ev.connection != z->connection;
	enum phase phase = z->phase;
	pthread_mutex_unlock(&z->lock);
	if (closing || (stale && !ev.ended))
		return;
	if (phase == PHASE_OLD)
		old_session_over(z, !ev.ended);
	else if (ev.ended)
		session_over(z, ev.refused);
	else
		greet(z, ev.connection);
}

/* What could not be done before is tried again: opening, the chroot, requests that a busy server threw back. */
static void try_again(struct queue_timer *t, void *arg)
{
	struct zk *z = arg;
	(void)t;
	pthread_mutex_lock(&z->lock);
	bool open = !z->closing && !z->handle, ready = z->ready;
	uint64_t connection = z->connection;
	if (ready)
		requests_pump(z);
	pthread_mutex_unlock(&z->lock);
	if (open)
		open_handle(z);
	else if (!ready)
		greet(z, connection);
}

/* locks: z's */
void session_retry_soon(struct zk *z)
{
	queue_timer_arm(z->keeper, &z->again, mono_after_ms(mono_now(), RETRY_MS));
}

/* ---- opening and closing ---- */

static char *copy(const char *text)
{
	return text && *text ? strdup(text) : NULL;
}

static int take_options(struct zk *z, const struct zk_options *o, struct err *e)
{
	struct wr hosts, chroot;
	wr_init(&hosts, 0);
	wr_init(&chroot, 0);
	int rc = parse_connect(o->connect, &hosts, &chroot, e);
	if (rc == 0 && o->set_acl && !(o->credentials && *o->credentials))
		rc = err_set(e, ERR_INVALID, "zookeeper.set.acl=true needs zookeeper.credentials.file: without credentials nobody could change what was made");
	if (rc == 0) {
		z->connect = copy(o->connect);
		z->hosts = copy((char *)hosts.data);
		z->chroot = strdup(chroot.len ? (char *)chroot.data : "");
		z->credentials = copy(o->credentials);
		z->session_file = copy(o->session_file);
		z->asked_timeout_ms = o->session_timeout_ms;
		z->max_in_flight = o->max_in_flight;
		z->set_acl = o->set_acl;
		z->acl = o->acl;
		z->queue = o->queue;
		bool all = z->connect && z->hosts && z->chroot && !z->credentials == !(o->credentials && *o->credentials) && !z->session_file == !(o->session_file && *o->session_file);
		if (!all)
			rc = err_set(e, ERR_NO_MEMORY, "no memory for a session with ZooKeeper");
	}
	wr_release(&hosts);
	wr_release(&chroot);
	return rc;
}

int zk_open(struct zk **out, const struct zk_options *o, struct err *e)
{
	struct zk *z = calloc(1, sizeof *z);
	*out = NULL;
	if (!z)
		return err_set(e, ERR_NO_MEMORY, "no memory for a session with ZooKeeper");
	pthread_condattr_t monotonic;
	pthread_mutex_init(&z->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&z->heard_first, &monotonic);
	pthread_condattr_destroy(&monotonic);
	z->listeners_end = &z->listeners;
	z->beat = (struct queue_timer){.fire = beat, .arg = z};
	z->again = (struct queue_timer){.fire = try_again, .arg = z};
	atomic_store(&z->lease_until_ns, INT64_MIN);
	int rc = take_options(z, o, e);
	if (rc == 0)
		rc = queue_new(&z->keeper, "zk", e);
	if (rc < 0) {
		zk_free(z);
		return rc;
	}
	z->chroot_length = strlen(z->chroot);
	zoo_set_debug_level(ZOO_LOG_LEVEL_INFO);
	*out = z;
	return 0;
}

void zk_listen(struct zk *z, struct zk_listener *l)
{
	l->next = NULL;
	*z->listeners_end = l;
	z->listeners_end = &l->next;
}

static void begin(struct queue_timer *t, void *arg)
{
	struct zk *z = arg;
	t->fire = try_again;
	load_session(z);
	pthread_mutex_lock(&z->lock);
	z->phase = z->old.client_id ? PHASE_OLD : PHASE_OPENING;
	pthread_mutex_unlock(&z->lock);
	open_handle(z);
}

void zk_start(struct zk *z)
{
	z->again.fire = begin;
	queue_timer_arm(z->keeper, &z->again, mono_now());
}

int zk_wait(struct zk *z, int timeout_ms, struct err *e)
{
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	int64_t ns = until.tv_nsec + (int64_t)timeout_ms * 1000000;
	until.tv_sec += ns / 1000000000;
	until.tv_nsec = ns % 1000000000;
	int r = 0;
	pthread_mutex_lock(&z->lock);
	while (!z->heard && r != ETIMEDOUT)
		r = pthread_cond_timedwait(&z->heard_first, &z->lock, &until);
	bool heard = z->heard;
	pthread_mutex_unlock(&z->lock);
	return heard ? 0 : err_set(e, ERR_TIMED_OUT, "no ZooKeeper of %s has answered within %d ms: see zookeeper.connect and zookeeper.connection.timeout.ms", z->connect, timeout_ms);
}

static void shut(void *arg)
{
	struct zk *z = arg;
	bool ours = z->phase == PHASE_SESSION;
	queue_timer_cancel(z->keeper, &z->beat);
	queue_timer_cancel(z->keeper, &z->again);
	if (close_handle(z) && ours && z->session_file)
		io_unlink(z->session_file);
	pthread_mutex_lock(&z->lock);
	requests_fail(z, ZK_CLOSED);
	watches_forget(z);
	atomic_store(&z->lease_until_ns, INT64_MIN);
	pthread_mutex_unlock(&z->lock);
}

void zk_close(struct zk *z)
{
	if (!z || !z->keeper)
		return;
	pthread_mutex_lock(&z->lock);
	z->closing = true;
	pthread_mutex_unlock(&z->lock);
	queue_call(z->keeper, shut, z);
	queue_free(z->keeper);
	z->keeper = NULL;
}

void zk_renew(struct zk *z)
{
	pthread_mutex_lock(&z->lock);
	if (!z->closing && z->phase == PHASE_SESSION && z->session) {
		atomic_store(&z->lease_until_ns, INT64_MIN);
		tell_keeper(z, true, false);
	}
	pthread_mutex_unlock(&z->lock);
}

void zk_free(struct zk *z)
{
	if (!z)
		return;
	zk_close(z);
	pthread_cond_destroy(&z->heard_first);
	pthread_mutex_destroy(&z->lock);
	free(z->connect);
	free(z->hosts);
	free(z->chroot);
	free(z->credentials);
	free(z->session_file);
	free(z);
}

/* ---- looking ---- */

int64_t zk_session(const struct zk *z)
{
	pthread_mutex_t *lock = (pthread_mutex_t *)&z->lock;
	pthread_mutex_lock(lock);
	int64_t id = z->heard_session;
	pthread_mutex_unlock(lock);
	return id;
}

int zk_session_timeout_ms(const struct zk *z)
{
	return atomic_load(&z->timeout_ms);
}

const char *zk_connect_text(const struct zk *z)
{
	return z->connect;
}
