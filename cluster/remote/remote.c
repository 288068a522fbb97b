#include "cluster/remote/remote.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "cluster/remote/model.h"
#include "store/diag.h"
#include "store/pool.h"

/* Life, connections, and who is asked next. */

enum { ADDRESS_BYTES = 300 };

const struct conf_property remote_properties[] = {
	{.name = "remote.read.threads", .type = CONF_INT, .scope = CONF_BROKER, .preset = "16", .min = 1, .max = 256,
	 .help = "At most this many requests of the mount wait for other brokers at once, of partitions that are not here"},
	{.name = "remote.read.timeout.ms", .type = CONF_INT, .scope = CONF_BROKER, .preset = "30000", .min = 100, .max = INT32_MAX, .unit = "ms",
	 .help = "A read of a partition that is not here fails with EIO when no broker has given it for so long"},
	{.name = "remote.fetch.max.bytes", .type = CONF_INT, .scope = CONF_BROKER, .preset = "4194304", .min = 1024, .max = 1 << 28, .unit = "bytes",
	 .help = "The most that a sequential reader of a partition that is not here asks for at once"},
	{0},
};

/* ---- life ---- */

int remote_new(struct remote **out, struct broker *b, const struct remote_calls *calls, struct err *e)
{
	const struct conf *c = broker_conf(b);
	struct remote *r = calloc(1, sizeof *r);
	*out = NULL;
	if (!r)
		return err_set(e, ERR_NO_MEMORY, "no memory for reading from other brokers");
	r->broker = b;
	r->calls = *calls;
	r->read_ms = conf_int(c, "remote.read.timeout.ms");
	r->fetch_bytes = (uint32_t)conf_int(c, "remote.fetch.max.bytes");
	r->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int rc = r->stop < 0 ? err_sys(e, errno, "no eventfd for reading from other brokers") : 0;
	if (rc == 0 && !(r->pool = pool_new("remote", (unsigned)conf_int(c, "remote.read.threads"))))
		rc = err_set(e, ERR_NO_MEMORY, "no memory for reading from other brokers");
	if (rc < 0) {
		if (r->stop >= 0)
			close(r->stop);
		free(r);
		return rc;
	}
	pthread_mutex_init(&r->lock, NULL);
	*out = r;
	return 0;
}

void remote_stop(struct remote *r)
{
	if (!r)
		return;
	r->stopping = true;
	if (write(r->stop, &(uint64_t){1}, sizeof(uint64_t)) < 0)
		diag_error("remote: an eventfd cannot be written: %s", strerror(errno));
}

bool remote_is_stopping(const struct remote *r)
{
	return r && r->stopping;
}

void remote_free(struct remote *r)
{
	if (!r)
		return;
	if (!r->stopping)
		remote_stop(r);
	pool_free(r->pool);
	for (struct peer *x = r->peers, *next; x; x = next) {
		next = x->next;
		for (int i = 0; i < x->idle_count; i++)
			client_close(x->idle[i].client);
		free(x);
	}
	close(r->stop);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

struct pool *remote_pool(struct remote *r)
{
	return r->pool;
}

static _Thread_local bool (*given_up)(void *arg);
static _Thread_local void *given_up_arg;

void remote_set_given_up(bool (*fn)(void *arg), void *arg)
{
	given_up = fn;
	given_up_arg = arg;
}

bool remote_given_up(void)
{
	return given_up && given_up(given_up_arg);
}

int remote_pause(struct remote *r, int ms, struct err *e)
{
	if (remote_given_up())
		return err_set(e, ERR_INTERRUPTED, "who waited for it has given up");
	struct pollfd p = {.fd = r->stop, .events = POLLIN};
	if (poll(&p, 1, ms) > 0 || r->stopping)
		return err_set(e, ERR_STOPPING, "the mount is being stopped");
	return 0;
}

/* ---- connections ---- */

/* locks: r->lock. NULL: no memory. */
static struct peer *peer_of(struct remote *r, int32_t id)
{
	struct peer *x = r->peers;
	while (x && x->id != id)
		x = x->next;
	if (x || !(x = calloc(1, sizeof *x)))
		return x;
	x->id = id;
	x->next = r->peers;
	r->peers = x;
	return x;
}

/* Whether the broker has not closed it. */
static bool is_alive(const struct client *c)
{
	struct pollfd p = {.fd = client_fd(c), .events = POLLIN};
	return poll(&p, 1, 0) == 0;
}

void remote_missed(struct remote *r, int32_t id, int rc, const struct err *e)
{
	pthread_mutex_lock(&r->lock);
	struct peer *x = peer_of(r, id);
	bool tell = x && rc < 0 && x->told != rc && rc != ERR_INTERRUPTED;
	if (x) {
		x->told = rc;
		x->not_before = rc < 0 ? mono_after_ms(mono_now(), rc == ERR_TIMED_OUT ? LOOK_MS : BACKOFF_MS) : (mono_t){0};
	}
	pthread_mutex_unlock(&r->lock);
	if (tell)
		diag_notice("reading from broker %" PRId32 ": %s", id, e->text);
}

static int open_client(struct remote *r, int32_t id, struct client **c, struct err *e)
{
	char address[ADDRESS_BYTES], name[60];
	struct err why = ERR_INIT;
	snprintf(name, sizeof name, "broker-%" PRId32 "-reader", broker_id(r->broker));
	int rc = r->calls.address(r->calls.arg, id, address, sizeof address) ? client_open_cancellable(c, address, name, LOOK_MS, r->stop, &why)
									      : err_set(&why, ERR_OFFLINE, "where broker %" PRId32 " is, is not known", id);
	remote_missed(r, id, rc, &why);
	return rc < 0 ? err_set(e, rc, "%s", why.text) : 0;
}

int remote_take(struct remote *r, int32_t id, bool hurry, struct client **c, struct err *e)
{
	struct client *found = NULL;
	mono_t now = mono_now();
	pthread_mutex_lock(&r->lock);
	struct peer *x = peer_of(r, id);
	bool rests = x && hurry && mono_diff_ns(x->not_before, now) > 0;
	if (x && x->idle_count)
		found = x->idle[--x->idle_count].client;
	pthread_mutex_unlock(&r->lock);
	while (found && !is_alive(found)) {
		client_close(found);
		pthread_mutex_lock(&r->lock);
		found = x->idle_count ? x->idle[--x->idle_count].client : NULL;
		pthread_mutex_unlock(&r->lock);
	}
	*c = found;
	if (found)
		return 0;
	if (!x)
		return err_set(e, ERR_NO_MEMORY, "no memory for a connection");
	if (rests)
		return err_set(e, ERR_OFFLINE, "broker %" PRId32 " could not be reached a moment ago", id);
	return open_client(r, id, c, e);
}

void remote_give(struct remote *r, int32_t id, struct client *c, bool good)
{
	struct client *old[IDLE_CLIENTS + 1];
	int n = 0;
	mono_t now = mono_now(), least = mono_after_ms(now, -IDLE_MS);
	pthread_mutex_lock(&r->lock);
	struct peer *x = peer_of(r, id);
	int keep = 0;
	for (int i = 0; x && i < x->idle_count; i++) {
		if (x->idle[i].since.ns < least.ns)
			old[n++] = x->idle[i].client;
		else
			x->idle[keep++] = x->idle[i];
	}
	if (x)
		x->idle_count = keep;
	if (x && good && keep < IDLE_CLIENTS && !r->stopping)
		x->idle[x->idle_count++] = (struct idle_client){c, now};
	else
		old[n++] = c;
	pthread_mutex_unlock(&r->lock);
	for (int i = 0; i < n; i++)
		client_close(old[i]);
}

/* ---- who is asked ---- */

void remote_turn(struct turn *t, struct remote *r, struct partition *p, int64_t patience_ms)
{
	*t = (struct turn){.r = r, .p = p, .until = mono_after_ms(mono_now(), patience_ms), .next = -1};
}

static bool has(const int32_t *v, int n, int32_t id)
{
	for (int i = 0; i < n; i++)
		if (v[i] == id)
			return true;
	return false;
}

/* The i-th to be asked: the leader, those in sync, the others. false: there are no more. */
static bool candidate(const struct turn *t, int i, int32_t *id)
{
	const struct partition_metadata *m = &t->m;
	int32_t here = broker_id(t->r->broker);
	if (m->leader >= 0 && i-- == 0) {
		*id = m->leader;
		return true;
	}
	for (int in_sync = 1; in_sync >= 0; in_sync--)
		for (int k = 0; k < m->replica_count; k++) {
			if (m->replicas[k] == m->leader || m->replicas[k] == here || has(m->isr, m->isr_count, m->replicas[k]) != in_sync || has(m->offline, m->offline_count, m->replicas[k]))
				continue;
			if (i-- == 0) {
				*id = m->replicas[k];
				return true;
			}
		}
	return false;
}

static int begin(struct turn *t, struct err *e)
{
	if (partition_is_gone(t->p))
		return err_set(e, ERR_DELETED, "topic %s was deleted", partition_topic_name(t->p));
	t->next = 0;
	if (!partition_metadata(t->p, &t->m)) {
		t->m = (struct partition_metadata){.leader = -1, .leader_epoch = -1};
		err_set(&t->why, ERR_OFFLINE, "%s-%" PRId32 " is not here, and no controller has told where it is", partition_topic_name(t->p), partition_index(t->p));
	} else if (!t->m.replica_count && !t->why.code) {
		err_set(&t->why, ERR_OFFLINE, "%s-%" PRId32 " is nowhere", partition_topic_name(t->p), partition_index(t->p));
	}
	return 0;
}

int remote_next(struct turn *t, bool once, struct err *e)
{
	int rc = t->r->stopping ? err_set(e, ERR_STOPPING, "the mount is being stopped") : t->next < 0 ? begin(t, e) : 0;
	while (rc == 0 && !candidate(t, t->next, &t->id)) {
		if (once)
			return err_set(e, ERR_OFFLINE, "%s", t->why.code ? t->why.text : "no replica is there");
		if (mono_diff_ns(t->until, mono_now()) <= 0)
			return err_set(e, ERR_TIMED_OUT, "%s-%" PRId32 ": no broker has answered in time: %s", partition_topic_name(t->p), partition_index(t->p), t->why.code ? t->why.text : "no replica is there");
		rc = remote_pause(t->r, AGAIN_MS, e);
		if (rc == 0)
			rc = begin(t, e);
	}
	t->next++;
	t->epoch = t->id == t->m.leader ? t->m.leader_epoch : -1;
	return rc;
}
