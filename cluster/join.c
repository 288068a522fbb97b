#include "cluster/join.h"

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cluster/control/ledger.h"
#include "cluster/join_config.h"
#include "cluster/join_ids.h"
#include "cluster/join_link.h"
#include "cluster/join_topics.h"
#include "cluster/wire/errors.h"
#include "cluster/zk/layout.h"
#include "cluster/zk/member.h"
#include "cluster/zk/settings.h"
#include "store/diag.h"
#include "store/dirs.h"
#include "store/pool.h"

/* A registration waits for that of the process before it to expire, which takes twice its session's timeout at most, and for some round trips. */
enum { AGAIN_MS = 200, REGISTRATION_MS = 30000, WAITERS = 8 };

const struct conf_property join_properties[] = {
	{.name = "config.change.retention.ms", .type = CONF_INT, .scope = CONF_BROKER, .preset = "900000", .min = 0, .max = INT64_MAX, .unit = "ms",
	 .help = "in a cluster, how long a notice of changed properties stays in ZooKeeper at least"},
	{.name = "controlled.shutdown.enable", .type = CONF_BOOL, .scope = CONF_BROKER, .preset = "true", .help = "whether a broker that stops first has others lead what it leads"},
	{.name = "controlled.shutdown.max.retries", .type = CONF_INT, .scope = CONF_BROKER, .preset = "3", .min = 0, .max = INT32_MAX,
	 .help = "how often the controller is asked for that, where others cannot lead yet or it does not answer"},
	{.name = "default.replication.factor", .type = CONF_INT, .scope = CONF_BROKER, .preset = "1", .min = 1, .max = INT16_MAX,
	 .help = "in a cluster, on how many brokers the partitions of a new topic are kept, where nothing else was asked for"},
	{.name = "request.timeout.ms", .type = CONF_INT, .scope = CONF_BROKER, .preset = "30000", .min = 1, .max = INT32_MAX, .unit = "ms",
	 .help = "in a cluster, how long what is done to topics through the mount waits for the controller"},
	{.name = "controlled.shutdown.retry.backoff.ms", .type = CONF_INT, .scope = CONF_BROKER, .preset = "5000", .min = 0, .max = INT32_MAX, .unit = "ms", .help = "how long to wait before it is asked again"},
	{0},
};

struct place { int32_t id, port; char host[NET_MAX_HOST + 1], rack[NET_MAX_HOST + 1]; }; /* rack "": none */

struct join {
	const struct conf *conf;
	struct role_calls roles;
	struct property_calls property_calls;
	struct pool *pool;
	struct join_topics *topics;
	struct zk_settings zk_settings;
	struct broker *broker;
	int32_t id;

	/* From join_start on; they go in join_free. */
	struct queue *queue;
	struct zk *zk;
	struct controller *_Atomic controller;
	struct member *_Atomic member;
	struct link *_Atomic link;
	struct configs *_Atomic configs;

	/* The queue's thread: */
	struct zk_listener listener;
	struct layout_path ledger;
	struct queue_timer again;        /* to look for the controller, and at our ledger, once more */
	bool looking, look_again;
	struct queue_event look;
	_Atomic bool look_posted;
	bool registered;                 /* at least once */

	_Atomic int64_t fenced_epoch;    /* the registration that a controller has given up; -1: none */
	_Atomic int64_t newest_epoch;    /* of our registrations; -1: there was none */
	struct join_followers followers;
	pthread_mutex_t telling;         /* one request of a controller at a time; above all of the broker's */
	int32_t controller_epoch;        /* telling: the greatest that a request came with; -1: none */
	pthread_mutex_t lock;            /* below; a leaf */
	struct place *place;             /* where brokers are; changed by who has `telling`, too */
	size_t places;
};

bool join_is_wanted(const struct conf *c)
{
	return *conf_str(c, "zookeeper.connect");
}

/* ---- what partitions want ---- */

static bool has_lease(void *arg)
{
	struct join *j = arg;
	struct member *m = atomic_load(&j->member);
	return m && member_lease_ms(m) > 0 && member_epoch(m) != atomic_load(&j->fenced_epoch);
}

static bool on_lease(void *arg)
{
	struct join *j = arg;
	struct link *l = atomic_load(&j->link);
	bool holds = has_lease(j);
	if (!holds && l)
		link_lease_missed(l);
	return holds;
}

static void on_alter(void *arg, struct partition *p, const struct isr_change *c)
{
	struct join *j = arg;
	struct link *l = atomic_load(&j->link);
	if (l)
		link_alter(l, p, c);
}

static bool is_alive(void *arg, int32_t broker_id)
{
	char address[NET_MAX_HOST + 20];
	return join_address(arg, broker_id, address, sizeof address);
}

/* thread: the pool's */
static int on_producer_ids(void *arg, int64_t least, int64_t *first, int64_t *last, struct err *e)
{
	struct join *j = arg;
	if (!atomic_load(&j->member)) /* and with it the session */
		return err_set(e, ERR_OFFLINE, "this broker is not of its cluster yet, and has no producer ids to give");
	return join_ids_reserve(j->zk, j->id, least, first, last, e);
}

static int64_t epoch_now(void *arg)
{
	struct join *j = arg;
	struct member *m = atomic_load(&j->member);
	return m ? member_epoch(m) : -1;
}

/* ---- properties ---- */

static int not_yet(struct err *e)
{
	return err_set(e, ERR_OFFLINE, "this broker is not registered yet");
}

static int on_change(void *arg, struct topic *t, const struct conf_change *v, size_t n, bool replace, bool check_only, struct err *e)
{
	struct join *j = arg;
	struct configs *c = atomic_load(&j->configs);
	return c ? configs_change_topic(c, t, v, n, replace, check_only, e) : not_yet(e);
}

static int on_configure(void *arg, bool fallback, const struct conf_change *v, size_t n, bool replace, bool check_only, struct err *e)
{
	struct join *j = arg;
	struct configs *c = atomic_load(&j->configs);
	return c ? configs_change_broker(c, fallback, v, n, replace, check_only, e) : not_yet(e);
}

static void on_born(void *arg, struct topic *t)
{
	struct join *j = arg;
	struct configs *c = atomic_load(&j->configs);
	if (c)
		configs_born(c, t);
	else
		topic_await_properties(t);
}

void join_expect(struct join *j, const struct configs_topic *v, size_t n)
{
	struct configs *c = atomic_load(&j->configs);
	if (c)
		configs_expect(c, v, n);
}

void join_arrived(struct join *j, const struct configs_topic *v, size_t n)
{
	struct configs *c = atomic_load(&j->configs);
	if (c)
		configs_arrived(c, v, n);
}

void join_refresh(struct join *j, struct topic *const *t, size_t n, bool brokers)
{
	struct configs *c = atomic_load(&j->configs);
	if (c)
		configs_refresh(c, t, n, brokers);
}

/* ---- where the controller is ---- */

static void look_for_controller(struct join *j);

static void tell_link(struct join *j, const char *address)
{
	struct link *l = atomic_load(&j->link);
	if (l)
		link_controller(l, address);
}

static void address_text(char *text, size_t n, const char *host, int32_t port)
{
	snprintf(text, n, strchr(host, ':') ? "[%s]:%d" : "%s:%d", host, port);
}

static void looked(struct join *j)
{
	j->looking = false;
	if (j->look_again)
		look_for_controller(j);
}

static void on_controller_read(void *arg, const struct zk_result *r)
{
	struct join *j = arg;
	struct layout_broker b;
	struct err e = ERR_INIT;
	char address[NET_MAX_HOST + 20];
	if (r->code == ZK_OK && layout_broker_decode(&b, r->path, r->data, r->bytes, &e) == 0) {
		const struct layout_endpoint *at = b.endpoints ? &b.endpoint[0] : NULL;
		if (at && strlen(at->host) <= NET_MAX_HOST) {
			address_text(address, sizeof address, at->host, at->port);
			tell_link(j, address);
		}
		layout_broker_release(&b);
	} else if (r->code == ZK_OK) {
		diag_error("%s", e.text);
		tell_link(j, NULL);
	} else {
		tell_link(j, NULL);
		if (r->code != ZK_EXPIRED && r->code != ZK_CLOSED)
			queue_timer_arm(j->queue, &j->again, mono_after_ms(mono_now(), AGAIN_MS));
	}
	looked(j);
}

/* One look at a time; its registration has its address. */
static void look_for_controller(struct join *j)
{
	struct layout_path path;
	j->look_again = j->looking;
	if (j->looking)
		return;
	int32_t id = controller_id(j->controller);
	if (id < 0) {
		tell_link(j, NULL);
		return;
	}
	j->looking = true;
	zk_get(j->zk, layout_broker_path(&path, id), false, on_controller_read, j);
}

static void on_controller(void *arg, int32_t id)
{
	(void)id;
	look_for_controller(arg);
}

static void on_look(struct queue_event *ev)
{
	struct join *j = (struct join *)((char *)ev - offsetof(struct join, look));
	atomic_store(&j->look_posted, false);
	look_for_controller(j);
}

/* thread: the link's */
static void ask_look(void *arg)
{
	struct join *j = arg;
	if (!atomic_exchange(&j->look_posted, true))
		queue_post(j->queue, &j->look);
}

/* ---- whether a controller has given us up ---- */

static void look_at_ledger(struct join *j);

static void on_ledger_read(void *arg, const struct zk_result *r)
{
	struct join *j = arg;
	struct brain_ledger l;
	struct err e = ERR_INIT;
	int64_t epoch = epoch_now(j);
	if (r->code != ZK_OK) {
		if (r->code != ZK_EXPIRED && r->code != ZK_CLOSED && r->code != ZK_NO_NODE)
			queue_timer_arm(j->queue, &j->again, mono_after_ms(mono_now(), AGAIN_MS));
		return;
	}
	if (ledger_decode(&l, r->path, r->data, r->bytes, &e) < 0) {
		diag_error("%s", e.text);
	} else if (epoch >= 0 && l.fenced_epoch == epoch && atomic_exchange(&j->fenced_epoch, epoch) != epoch) {
		diag_warning("the controller could not reach broker %d, and has given it up: it registers anew", j->id);
		zk_renew(j->zk);
	}
}

/* A watch on what is not there yet is set by exists alone. */
static void on_ledger_there(void *arg, const struct zk_result *r)
{
	struct join *j = arg;
	if (r->code == ZK_OK)
		zk_get(j->zk, j->ledger.text, false, on_ledger_read, j);
	else
		on_ledger_read(j, r);
}

static void look_at_ledger(struct join *j)
{
	zk_exists(j->zk, j->ledger.text, true, on_ledger_there, j);
}

static void on_changed(void *arg, enum zk_change what, const char *path)
{
	struct join *j = arg;
	(void)what;
	if (!strcmp(path, j->ledger.text))
		look_at_ledger(j);
	else if (!strcmp(path, LAYOUT_CONFIG_CHANGES))
		configs_changed(j->configs);
}

static void on_again(struct queue_timer *t, void *arg)
{
	struct join *j = arg;
	(void)t;
	look_for_controller(j);
	if (epoch_now(j) >= 0)
		look_at_ledger(j);
}

/* ---- our registration ---- */

static void on_registered(void *arg, int64_t epoch)
{
	struct join *j = arg;
	struct link *l = atomic_load(&j->link);
	j->registered = true;
	atomic_store(&j->newest_epoch, epoch);
	look_at_ledger(j);
	configs_registered(j->configs);
	controller_start(j->controller);
	if (l)
		link_registered(l);
}

static void on_failed(void *arg, const struct err *e)
{
	struct join *j = arg;
	if (j->registered) /* else join_start says it */
		diag_error("broker %d cannot be registered anew, and takes no part in its cluster until it is started again: %s", j->id, e->text);
}

/* ---- what a controller tells ---- */

int16_t join_begin(struct join *j, int32_t controller_epoch, int64_t broker_epoch)
{
	int16_t error = KAFKA_NONE;
	pthread_mutex_lock(&j->telling);
	/* A greater one is of a registration of ours that the controller has heard of before us. */
	if (broker_epoch >= 0 && broker_epoch < atomic_load(&j->newest_epoch))
		error = KAFKA_STALE_BROKER_EPOCH;
	else if (controller_epoch < j->controller_epoch)
		error = KAFKA_STALE_CONTROLLER_EPOCH;
	else
		j->controller_epoch = controller_epoch;
	if (error)
		pthread_mutex_unlock(&j->telling);
	return error;
}

void join_end(struct join *j)
{
	pthread_mutex_unlock(&j->telling);
}

void join_settled(struct join *j, int64_t broker_epoch)
{
	struct member *m = atomic_load(&j->member);
	struct err e = ERR_INIT;
	if (broker_set_intact(j->broker, &e) < 0)
		diag_error("this broker cannot count as intact: %s", e.text);
	else if (m)
		member_cleared(m, broker_epoch);
}

static int place_of(const struct place *v, size_t n, int32_t id)
{
	size_t i = 0;
	while (i < n && v[i].id != id)
		i++;
	return i < n ? (int)i : -1;
}

int join_places(struct join *j, const struct join_place *v, size_t n, bool all, struct err *e)
{
	size_t had = all ? 0 : j->places, count = had;
	struct place *list = calloc(had + n + 1, sizeof *list);
	if (!list)
		return err_set(e, ERR_NO_MEMORY, "no memory for the addresses of %zu brokers", n);
	if (had)
		memcpy(list, j->place, had * sizeof *list);
	for (size_t i = 0; i < n; i++) {
		int at = place_of(list, count, v[i].id);
		struct place *to = &list[at < 0 ? (int)count++ : at];
		to->id = v[i].id;
		to->port = v[i].port;
		snprintf(to->host, sizeof to->host, "%.*s", (int)v[i].host_bytes, v[i].host);
		if (all)
			snprintf(to->rack, sizeof to->rack, "%.*s", (int)v[i].rack_bytes, v[i].rack ? v[i].rack : "");
	}
	pthread_mutex_lock(&j->lock);
	struct place *old = j->place;
	j->place = list;
	j->places = count;
	pthread_mutex_unlock(&j->lock);
	free(old);
	return 0;
}

bool join_address(struct join *j, int32_t broker_id, char *text, size_t n)
{
	pthread_mutex_lock(&j->lock);
	int at = place_of(j->place, j->places, broker_id);
	if (at >= 0)
		address_text(text, n, j->place[at].host, j->place[at].port);
	pthread_mutex_unlock(&j->lock);
	return at >= 0;
}

struct join_broker *join_brokers(struct join *j, size_t *n)
{
	pthread_mutex_lock(&j->lock);
	struct join_broker *list = malloc((j->places + 1) * (sizeof *list + sizeof(struct place)));
	struct place *copy = list ? (struct place *)(list + j->places + 1) : NULL;
	*n = list ? j->places : 0;
	for (size_t i = 0; i < *n; i++) {
		copy[i] = j->place[i];
		list[i] = (struct join_broker){copy[i].id, copy[i].port, copy[i].host, *copy[i].rack ? copy[i].rack : NULL};
	}
	pthread_mutex_unlock(&j->lock);
	return list;
}

int32_t join_controller(const struct join *j)
{
	const struct controller *c = atomic_load(&j->controller);
	return c ? controller_id(c) : -1;
}

struct zk *join_zk(const struct join *j)
{
	return j->zk;
}

struct queue *join_queue(const struct join *j)
{
	return j->queue;
}

int64_t join_epoch(struct join *j)
{
	return epoch_now(j);
}

void join_set_followers(struct join *j, const struct join_followers *f)
{
	j->followers = *f;
}

int join_follow(struct join *j, struct partition *p, int32_t leader, int32_t leader_epoch, struct err *e)
{
	const struct join_followers *f = &j->followers;
	if (leader >= 0 && leader != j->id)
		return f->follow ? f->follow(f->arg, p, leader, leader_epoch, e) : 0;
	if (f->unfollow)
		f->unfollow(f->arg, p);
	return 0;
}

static void on_too_early(struct queue_event *ev)
{
	controller_refuse((struct controller_call *)((char *)ev - offsetof(struct controller_call, event)));
}

/* Connections are taken before there is a controller. */
void join_ask(struct join *j, struct controller_call *call)
{
	struct controller *c = atomic_load(&j->controller);
	if (c) {
		controller_ask(c, call);
		return;
	}
	call->event.run = on_too_early;
	queue_post(j->queue, &call->event);
}

/* ---- life ---- */

int join_open(struct join **out, const struct conf *c, struct err *e)
{
	struct join *j = calloc(1, sizeof *j);
	*out = NULL;
	if (!j)
		return err_set(e, ERR_NO_MEMORY, "no memory for taking part in a cluster");
	int rc = zk_settings_read(&j->zk_settings, c, e);
	if (rc == 0)
		rc = queue_new(&j->queue, "cluster", e);
	if (rc == 0 && !(j->pool = pool_new("zk-wait", WAITERS)))
		rc = err_set(e, ERR_NO_MEMORY, "no memory for taking part in a cluster");
	if (rc == 0)
		rc = join_topics_new(&j->topics, j, c, e);
	if (rc < 0) {
		pool_free(j->pool);
		queue_free(j->queue);
		free(j);
		return rc;
	}
	j->conf = c;
	j->roles = (struct role_calls){.alter = on_alter, .lease = on_lease, .alive = is_alive, .producer_ids = on_producer_ids, .arg = j};
	j->property_calls = (struct property_calls){.change = on_change, .configure = on_configure, .born = on_born, .arg = j};
	j->listener = (struct zk_listener){.changed = on_changed, .arg = j};
	j->again = (struct queue_timer){.fire = on_again, .arg = j};
	j->look.run = on_look;
	atomic_store(&j->fenced_epoch, -1);
	atomic_store(&j->newest_epoch, -1);
	j->controller_epoch = -1;
	pthread_mutex_init(&j->lock, NULL);
	pthread_mutex_init(&j->telling, NULL);
	*out = j;
	return 0;
}

const struct role_calls *join_roles(struct join *j)
{
	return &j->roles;
}

const struct topic_calls *join_topic_calls(struct join *j)
{
	return join_topics_calls(j->topics);
}

struct pool *join_pool(struct join *j)
{
	return j->pool;
}

const struct property_calls *join_property_calls(struct join *j)
{
	return &j->property_calls;
}

static int open_session(struct join *j, struct err *e)
{
	char file[PATH_MAX];
	struct zk_options o = j->zk_settings.options;
	snprintf(file, sizeof file, "%s/" SESSION_FILE, broker_data(j->broker));
	o.session_file = file;
	o.queue = j->queue;
	return zk_open(&j->zk, &o, e);
}

static int open_controller(struct join *j, struct err *e)
{
	struct controller_options o = {.zk = j->zk, .queue = j->queue, .broker_id = j->id, .changed = on_controller, .arg = j};
	struct controller *c;
	control_settings_read(&o.settings, j->conf);
	int rc = controller_open(&c, &o, e);
	if (rc == 0)
		atomic_store(&j->controller, c);
	return rc;
}

static int open_link(struct join *j, struct err *e)
{
	struct link *l;
	struct link_options o = {.broker = j->broker, .timeout_ms = (int)conf_int(j->conf, "controller.socket.timeout.ms"), .epoch = epoch_now, .lease = has_lease, .look = ask_look, .arg = j};
	int rc = link_new(&l, &o, e);
	if (rc == 0)
		atomic_store(&j->link, l);
	return rc;
}

static int open_configs(struct join *j, struct err *e)
{
	struct configs *c;
	struct configs_options o = {.broker = j->broker, .zk = j->zk, .timeout_ms = (int)conf_int(j->conf, "request.timeout.ms"), .retention_ms = conf_int(j->conf, "config.change.retention.ms")};
	int rc = configs_new(&c, &o, e);
	if (rc == 0)
		atomic_store(&j->configs, c);
	return rc;
}

static int open_member(struct join *j, const struct net_address *at, struct err *e)
{
	char file[PATH_MAX], data_id[TOPIC_ID_CHARS + 1], new_cluster[TOPIC_ID_CHARS + 1];
	struct layout_endpoint endpoint = {"PLAINTEXT", "PLAINTEXT", at->host, at->port};
	struct member *m;
	snprintf(file, sizeof file, "%s/" DATA_ID_FILE, broker_data(j->broker));
	int rc = member_data_id(file, data_id, e);
	if (rc < 0)
		return rc;
	uuid_text_new(new_cluster);
	struct member_options o = {
		.zk = j->zk, .queue = j->queue, .broker_id = j->id, .endpoint = &endpoint, .endpoints = 1, .rack = conf_str(j->conf, "broker.rack"), .cluster_id = broker_cluster_id(j->broker),
		.new_cluster_id = new_cluster, .data_id = data_id, .clean = broker_is_intact(j->broker), .registered = on_registered, .failed = on_failed, .arg = j,
	};
	rc = member_open(&m, &o, e);
	if (rc == 0)
		atomic_store(&j->member, m);
	return rc;
}

int join_start(struct join *j, struct broker *b, const struct net_address *at, struct err *e)
{
	j->broker = b;
	j->id = broker_id(b);
	struct join_place here = {.id = j->id, .host = at->host, .host_bytes = strlen(at->host), .port = at->port, .rack = conf_str(j->conf, "broker.rack"), .rack_bytes = strlen(conf_str(j->conf, "broker.rack"))};
	if (join_places(j, &here, 1, true, e) < 0)
		return ERR_NO_MEMORY;
	ledger_path(&j->ledger, j->id);
	int rc = open_session(j, e);
	if (rc == 0)
		rc = open_controller(j, e);
	if (rc == 0)
		rc = open_link(j, e);
	if (rc == 0)
		rc = open_configs(j, e);
	if (rc == 0)
		rc = join_topics_start(j->topics, b, e);
	if (rc == 0)
		rc = open_member(j, at, e);
	if (rc < 0)
		return rc;
	zk_listen(j->zk, &j->listener);
	member_start(j->member);
	rc = member_wait(j->member, j->zk_settings.connection_timeout_ms, 2 * j->zk_settings.options.session_timeout_ms + REGISTRATION_MS, e);
	return rc < 0 ? rc : broker_enter_cluster(b, member_cluster_id(j->member), e);
}

static void pause_ms(int64_t ms)
{
	struct timespec t = {ms / 1000, ms % 1000 * 1000000};
	nanosleep(&t, NULL);
}

static void shut_down_controlled(struct join *j)
{
	struct err e = ERR_INIT;
	int64_t retries = conf_int(j->conf, "controlled.shutdown.max.retries");
	if (!conf_bool(j->conf, "controlled.shutdown.enable") || epoch_now(j) < 0)
		return;
	for (int64_t i = 0;; i++) {
		int left = link_shutdown(j->link, &e);
		if (left == 0)
			return;
		if (i == retries && left < 0)
			diag_warning("broker %d stops without having others lead what it leads: %s", j->id, e.text);
		else if (i == retries)
			diag_notice("broker %d stops, and no other is in sync with %d of its partitions: nobody leads them until it is back", j->id, left);
		if (i == retries)
			return;
		pause_ms(conf_int(j->conf, "controlled.shutdown.retry.backoff.ms"));
	}
}

void join_leave(struct join *j)
{
	if (!j)
		return;
	struct link *l = atomic_load(&j->link);
	join_topics_stop(j->topics);
	if (l) {
		shut_down_controlled(j);
		controller_stop(j->controller);
	}
	zk_close(j->zk);
	configs_stop(j->configs);
	link_stop(l);
}

static void stop_timer(void *arg)
{
	struct join *j = arg;
	queue_timer_cancel(j->queue, &j->again);
}

void join_free(struct join *j)
{
	if (!j)
		return;
	pool_free(j->pool);
	queue_call(j->queue, stop_timer, j);
	controller_free(j->controller);
	queue_free(j->queue);
	zk_free(j->zk);
	member_free(j->member);
	link_free(j->link);
	configs_free(j->configs);
	join_topics_free(j->topics);
	pthread_mutex_destroy(&j->lock);
	pthread_mutex_destroy(&j->telling);
	free(j->place);
	explicit_bzero(j->zk_settings.credentials, sizeof j->zk_settings.credentials);
	free(j);
}
