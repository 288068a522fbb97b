#include "cluster/control/term.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/control/ledger.h"
#include "store/diag.h"

enum { AGAIN_MS = 200 };

static void seek(struct controller *c);

/* ---- who it is ---- */

static void note_controller(struct controller *c, int32_t id)
{
	if (c->id == id)
		return;
	c->id = id;
	if (c->o.changed)
		c->o.changed(c->o.arg, id);
}

int32_t controller_id(const struct controller *c)
{
	return c->id;
}

/* ---- connections to brokers ---- */

static void told_end(struct controller *c, size_t i)
{
	if (c->told[i].sender)
		sender_end(c->told[i].sender);
	c->told[i] = c->told[--c->tolds];
}

static struct told *told_find(struct controller *c, int32_t id)
{
	for (size_t i = 0; i < c->tolds; i++) {
		if (c->told[i].id == id)
			return &c->told[i];
	}
	return NULL;
}

static void on_answered(void *arg, struct sender *s, const void *response)
{
	struct controller *c = arg;
	struct term *t = c->term;
	if (!t || !t->leads)
		return;
	if (response)
		brain_answered(t->b, sender_broker(s), sender_epoch(s), response);
	else
		brain_unanswered(t->b, sender_broker(s), sender_epoch(s));
	term_pump(t);
}

static void on_refused(void *arg, struct sender *s)
{
	struct controller *c = arg;
	struct told *at = told_find(c, sender_broker(s));
	if (!at || at->sender != s)
		return;
	diag_notice("controller: broker %" PRId32 " is registered, but its host refuses connections: it counts as dead", at->id);
	at->refused = true;
	if (c->term)
		term_pump(c->term);
}

static void on_gone(void *arg)
{
	struct controller *c = arg;
	pthread_mutex_lock(&c->lock);
	c->senders--;
	pthread_cond_signal(&c->changed);
	pthread_mutex_unlock(&c->lock);
}

void term_broker(struct term *t, int32_t id, int64_t epoch, const char *host, int32_t port)
{
	struct controller *c = t->c;
	struct err e = ERR_INIT;
	struct told *at = told_find(c, id);
	if (at && at->sender && at->epoch == epoch && sender_goes_to(at->sender, host, port))
		return;
	if (at)
		told_end(c, (size_t)(at - c->told));
	if (c->tolds == c->tolds_cap) {
		size_t cap = c->tolds_cap ? 2 * c->tolds_cap : 8;
		struct told *more = realloc(c->told, cap * sizeof *more);
		if (!more) {
			err_set(&e, ERR_NO_MEMORY, "no memory for a connection to broker %" PRId32, id);
			term_failed(t, "starting", &e);
			return;
		}
		c->told = more;
		c->tolds_cap = cap;
	}
	struct sender_options o = {.queue = c->o.queue, .broker = id, .epoch = epoch, .host = host, .port = port, .timeout_ms = c->o.settings.request_timeout_ms, .answered = on_answered,
		.refused = on_refused, .gone = on_gone, .arg = c};
	struct told fresh = {.id = id, .epoch = epoch};
	if (sender_new(&fresh.sender, &o, &e) < 0) {
		term_failed(t, "starting", &e);
		return;
	}
	pthread_mutex_lock(&c->lock);
	c->senders++;
	pthread_mutex_unlock(&c->lock);
	c->told[c->tolds++] = fresh;
}

void term_broker_gone(struct term *t, int32_t id)
{
	struct told *at = told_find(t->c, id);
	if (at)
		told_end(t->c, (size_t)(at - t->c->told));
}

/* ---- a term ---- */

struct term *term_hold(struct term *t)
{
	t->held++;
	return t;
}

bool term_drop(struct term *t)
{
	bool goes_on = !t->over;
	if (--t->held == 0) {
		free(t->brokers);
		free(t);
	}
	return goes_on;
}

static void on_brain_answer(void *arg, void *ticket, const void *response)
{
	struct controller_call *call = ticket;
	(void)arg;
	call->answer(call, response);
}

static void begin_term(struct controller *c)
{
	struct term *t = calloc(1, sizeof *t);
	struct brain_options o = c->o.settings.brain;
	o.self = c->o.broker_id;
	o.controller_epoch = c->epoch;
	o.seed = (uint64_t)mono_now().ns ^ (uint64_t)c->epoch << 32;
	o.answer = on_brain_answer;
	o.arg = c;
	struct brain *b = brain_new(&o);
	if (!t || !b) {
		free(t);
		brain_free(b);
		queue_timer_arm(c->o.queue, &c->again, mono_after_ms(mono_now(), AGAIN_MS));
		return;
	}
	t->c = c;
	t->b = b;
	c->term = term_hold(t);
	term_load(t);
}

static void on_ended(struct queue_event *ev)
{
	term_drop((struct term *)((char *)ev - offsetof(struct term, ended)));
}

static void end_term(struct controller *c, bool keeps_connections)
{
	struct term *t = c->term;
	if (!t)
		return;
	c->term = NULL;
	t->over = true;
	queue_timer_cancel(c->o.queue, &c->deadline);
	brain_free(t->b);
	t->b = NULL;
	while (!keeps_connections && c->tolds)
		told_end(c, 0);
	t->ended.run = on_ended;
	queue_post(c->o.queue, &t->ended);
}

/* Of the same controller, in the same epoch: brokers take again what they have been told already. Connections stay, so that nothing old can come after what is new. */
void term_failed(struct term *t, const char *what, const struct err *e)
{
	struct controller *c = t->c;
	if (t->over)
		return;
	diag_warning("controller: %s failed: %s; all is read again", what, e->text);
	end_term(c, true);
	queue_timer_arm(c->o.queue, &c->again, mono_after_ms(mono_now(), AGAIN_MS));
}

void term_fenced(struct term *t)
{
	struct controller *c = t->c;
	if (t->over)
		return;
	diag_notice("controller: this broker is the controller no longer");
	end_term(c, false);
	note_controller(c, -1);
	seek(c);
}

static void tell_brokers(struct term *t)
{
	struct controller *c = t->c;
	struct arena arena;
	struct err e = ERR_INIT;
	arena_init(&arena, 0);
	for (size_t i = 0; i < c->tolds && !t->over; i++) {
		struct brain_request q;
		struct told *at = &c->told[i];
		arena_reset(&arena);
		if (!sender_is_idle(at->sender) || !brain_request(t->b, at->id, &arena, &q))
			continue;
		if (q.broker_epoch != at->epoch || sender_send(at->sender, q.api_key, q.message, &e) < 0)
			brain_unanswered(t->b, at->id, q.broker_epoch);
	}
	arena_release(&arena);
}

void term_pump(struct term *t)
{
	struct controller *c = t->c;
	struct err e = ERR_INIT;
	if (t->over || !t->leads)
		return;
	for (size_t i = 0; i < c->tolds; i++) {
		if (c->told[i].refused)
			brain_broker_refuses(t->b, c->told[i].id, c->told[i].epoch);
	}
	term_write(t);
	if (t->over)
		return;
	tell_brokers(t);
	int rc = brain_failed(t->b, &e);
	if (rc == ERR_NOT_LEADER) {
		term_fenced(t);
		return;
	}
	if (rc < 0) {
		term_failed(t, "deciding", &e);
		return;
	}
	int64_t deadline = brain_deadline(t->b);
	if (deadline < INT64_MAX)
		queue_timer_arm(c->o.queue, &c->deadline, (mono_t){deadline * 1000000});
}

static void on_deadline(struct queue_timer *timer, void *arg)
{
	struct controller *c = arg;
	(void)timer;
	if (!c->term || !c->term->leads)
		return;
	brain_tick(c->term->b, mono_now().ns / 1000000);
	term_pump(c->term);
}

/* ---- election ---- */

static void sought(struct controller *c)
{
	c->seeking = false;
	if (c->seek_again)
		seek(c);
}

static void later(struct controller *c)
{
	c->seeking = c->seek_again = false;
	if (c->running)
		queue_timer_arm(c->o.queue, &c->again, mono_after_ms(mono_now(), AGAIN_MS));
}

/* Whether an answer ends the search for now: the session is over (the next will begin anew), or it failed (in a while). */
static bool lost(struct controller *c, const struct zk_result *r)
{
	struct err e = ERR_INIT;
	if (r->code == ZK_EXPIRED || r->code == ZK_CLOSED || !c->running) {
		c->seeking = c->seek_again = false;
		return true;
	}
	if (r->code == ZK_OK || r->code == ZK_NO_NODE || r->code == ZK_EXISTS || r->code == ZK_BAD_VERSION)
		return false;
	zk_error(r, "take part in the election of a controller:", &e);
	diag_warning("controller: %s", e.text);
	later(c);
	return true;
}

static void on_elected(void *arg, const struct zk_result *r)
{
	struct controller *c = arg;
	if (lost(c, r))
		return;
	c->seek_again = true; /* to see who it is, and to watch */
	if (r->code == ZK_OK) {
		c->epoch++;
		c->epoch_version++;
		diag_notice("controller: this broker is the controller, epoch %" PRId32, c->epoch);
		note_controller(c, c->o.broker_id);
		begin_term(c);
	}
	sought(c);
}

static void on_epoch_created(void *arg, const struct zk_result *r)
{
	struct controller *c = arg;
	if (lost(c, r))
		return;
	c->seek_again = true;
	sought(c);
}

static void on_epoch(void *arg, const struct zk_result *r)
{
	struct controller *c = arg;
	struct err e = ERR_INIT;
	struct layout_controller me = {.broker_id = c->o.broker_id, .kraft_epoch = -1, .timestamp_ms = wall_now_ms()};
	struct zk_multi *m;
	struct wr node, epoch;
	if (lost(c, r))
		return;
	wr_init(&node, 0);
	wr_init(&epoch, 0);
	if (r->code == ZK_NO_NODE) {
		layout_epoch_encode(0, &epoch);
		zk_create(c->o.zk, LAYOUT_CONTROLLER_EPOCH, epoch.data, epoch.len, 0, on_epoch_created, c);
	} else if (layout_epoch_decode(&c->epoch, r->path, r->data, r->bytes, &e) < 0 || c->epoch == INT32_MAX) {
		diag_error("controller: %s", e.code ? e.text : LAYOUT_CONTROLLER_EPOCH " has reached its end");
		later(c);
	} else {
		c->epoch_version = r->stat.version;
		layout_controller_encode(&me, &node);
		layout_epoch_encode(c->epoch + 1, &epoch);
		m = zk_multi_new();
		zk_multi_create(m, LAYOUT_CONTROLLER, node.data, node.len, ZK_EPHEMERAL);
		zk_multi_set(m, LAYOUT_CONTROLLER_EPOCH, epoch.data, epoch.len, c->epoch_version);
		zk_multi_send(c->o.zk, m, on_elected, c);
	}
	wr_release(&node);
	wr_release(&epoch);
}

static void on_deleted(void *arg, const struct zk_result *r)
{
	struct controller *c = arg;
	if (lost(c, r))
		return;
	c->seek_again = true;
	sought(c);
}

static void on_controller(void *arg, const struct zk_result *r)
{
	struct controller *c = arg;
	struct layout_controller l;
	struct err e = ERR_INIT;
	if (lost(c, r))
		return;
	bool ours = r->code == ZK_OK && r->stat.ephemeral_owner == zk_session(c->o.zk);
	if (!ours && c->term) { /* somebody has taken the node away */
		diag_notice("controller: this broker is the controller no longer");
		end_term(c, false);
		note_controller(c, -1);
	}
	if (r->code == ZK_NO_NODE) {
		note_controller(c, -1);
		zk_get(c->o.zk, LAYOUT_CONTROLLER_EPOCH, false, on_epoch, c);
		return;
	}
	if (ours && !c->term && c->id != c->o.broker_id) {
		/* Won, but the answer was lost, or given up since: it is won again, in a new epoch. */
		zk_delete(c->o.zk, LAYOUT_CONTROLLER, ZK_ANY_VERSION, on_deleted, c);
		return;
	}
	if (!ours && layout_controller_decode(&l, r->path, r->data, r->bytes, &e) < 0) {
		diag_error("controller: %s", e.text);
		note_controller(c, -1);
	} else if (!ours) {
		note_controller(c, l.broker_id);
	}
	sought(c);
}

/* Looks who the controller is, and tries to become it where there is none. One search at a time. */
static void seek(struct controller *c)
{
	if (!c->running || !zk_session(c->o.zk))
		return;
	c->seek_again = c->seeking;
	if (c->seeking)
		return;
	c->seeking = true;
	zk_get(c->o.zk, LAYOUT_CONTROLLER, true, on_controller, c);
}

static void on_again(struct queue_timer *timer, void *arg)
{
	struct controller *c = arg;
	(void)timer;
	if (!c->running || !zk_session(c->o.zk))
		return;
	if (!c->term && c->id == c->o.broker_id)
		begin_term(c); /* still the controller, as far as is known: its writes will tell */
	else
		seek(c);
}

/* ---- what ZooKeeper says ---- */

static void on_connected(void *arg, int64_t session)
{
	(void)session;
	seek(arg);
}

static void on_expired(void *arg)
{
	struct controller *c = arg;
	end_term(c, false);
	queue_timer_cancel(c->o.queue, &c->again);
	note_controller(c, -1);
}

static void on_changed(void *arg, enum zk_change what, const char *path)
{
	struct controller *c = arg;
	if (strcmp(path, LAYOUT_CONTROLLER) == 0)
		seek(c);
	else if (c->term && c->term->leads)
		term_changed(c->term, what, path);
}

/* ---- requests ---- */

static int api_of(enum controller_kind kind)
{
	static const int keys[] = {
		[CONTROLLER_ALTER_PARTITION] = API_ALTER_PARTITION, [CONTROLLER_SHUTDOWN] = API_CONTROLLED_SHUTDOWN, [CONTROLLER_ELECT] = API_ELECT_LEADERS,
		[CONTROLLER_REASSIGN] = API_ALTER_PARTITION_REASSIGNMENTS, [CONTROLLER_LIST_REASSIGNMENTS] = API_LIST_PARTITION_REASSIGNMENTS,
		[CONTROLLER_CREATE_TOPIC] = BRAIN_TOPIC, [CONTROLLER_CREATE_PARTITIONS] = BRAIN_TOPIC, [CONTROLLER_DELETE_TOPIC] = BRAIN_TOPIC,
	};
	return keys[kind];
}

static void put_to(struct brain *b, struct controller_call *call)
{
	const struct controller_partitions *more = call->request;
	const struct controller_deletion *deletion = call->request;
	switch (call->kind) {
	case CONTROLLER_ALTER_PARTITION:
		brain_alter_partition(b, call->request, call);
		break;
	case CONTROLLER_SHUTDOWN:
		brain_controlled_shutdown(b, call->request, call);
		break;
	case CONTROLLER_ELECT:
		brain_elect_leaders(b, call->request, call);
		break;
	case CONTROLLER_REASSIGN:
		brain_reassign(b, call->request, call);
		break;
	case CONTROLLER_LIST_REASSIGNMENTS:
		brain_list_reassignments(b, call->request, call);
		break;
	case CONTROLLER_CREATE_TOPIC:
		brain_create_topic(b, call->request, call);
		break;
	case CONTROLLER_CREATE_PARTITIONS:
		brain_create_partitions(b, more->topic, more->from, more->count, more->assignment, more->assignments, more->validate_only, call);
		break;
	case CONTROLLER_DELETE_TOPIC:
		brain_delete_topic(b, deletion->topic, deletion->id, deletion->only_if_empty, call);
		break;
	}
}

void controller_refuse(struct controller_call *call)
{
	max_align_t room[64];
	brain_not_controller(api_of(call->kind), room);
	call->answer(call, room);
}

static void on_call(struct queue_event *ev)
{
	struct controller_call *call = (struct controller_call *)((char *)ev - offsetof(struct controller_call, event));
	struct controller *c = call->controller;
	if (!c->term || !c->term->leads) {
		controller_refuse(call);
		return;
	}
	put_to(c->term->b, call);
	term_pump(c->term);
}

void controller_ask(struct controller *c, struct controller_call *call)
{
	call->controller = c;
	call->event.run = on_call;
	queue_post(c->o.queue, &call->event);
}

/* ---- life ---- */

int controller_open(struct controller **out, const struct controller_options *o, struct err *e)
{
	struct controller *c = calloc(1, sizeof *c);
	*out = NULL;
	if (!c)
		return err_set(e, ERR_NO_MEMORY, "no memory for the controller");
	c->o = *o;
	c->id = -1;
	c->again.fire = on_again;
	c->deadline.fire = on_deadline;
	c->again.arg = c->deadline.arg = c;
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->changed, NULL);
	c->listener = (struct zk_listener){.connected = on_connected, .expired = on_expired, .changed = on_changed, .arg = c};
	zk_listen(o->zk, &c->listener);
	*out = c;
	return 0;
}

static void start(void *arg)
{
	struct controller *c = arg;
	c->running = true;
	seek(c);
}

void controller_start(struct controller *c)
{
	queue_call(c->o.queue, start, c);
}

static void stop(void *arg)
{
	struct controller *c = arg;
	c->running = false;
	queue_timer_cancel(c->o.queue, &c->again);
	end_term(c, false);
	while (c->tolds)
		told_end(c, 0);
}

void controller_stop(struct controller *c)
{
	if (!c)
		return;
	queue_call(c->o.queue, stop, c);
	pthread_mutex_lock(&c->lock);
	while (c->senders)
		pthread_cond_wait(&c->changed, &c->lock);
	pthread_mutex_unlock(&c->lock);
}

static void nothing(void *arg)
{
	(void)arg;
}

void controller_free(struct controller *c)
{
	if (!c)
		return;
	queue_call(c->o.queue, nothing, NULL); /* what was posted before has run: also what lets go of the last term */
	pthread_mutex_destroy(&c->lock);
	pthread_cond_destroy(&c->changed);
	free(c->told);
	free(c);
}
