/*
 * Fetch.
 *
 *  1. The session says which partitions are wanted (fetch_sessions.h).
 *  2. They are read in turn, as far as the answer has room: what is found are ranges of segments, which stay in place until they are sent.
 *  3. With min_bytes, or an error, or a log that has parted, the answer goes out at once; else the call is parked on its partitions until enough has come or the time is over,
 *     and read again.
 *  4. A replica's session has only what is due. Its Fetch is parked on the session, and answered as well where nothing but a high watermark or a log start has moved past what the replica was
 *     told: what can be seen there is then as far as here. At most one such answer is given each 5 ms, so that replication has better things to do than that.
 *
 * On the network thread, and where a parked one is completed on that of the appender. What has to open files first goes to the pool.
 */
#include <string.h>

#include "cluster/api/call.h"
#include "cluster/api/fetch_sessions.h"
#include "cluster/api/leaders.h"
#include "cluster/delayed.h"
#include "cluster/partition_fetch.h"
#include "cluster/partition_role.h"
#include "cluster/throttle.h"
#include "store/clock.h"

enum { TELL_ENDS_MS = 5, SLOW_NS = 20000000 };

struct found { /* for each partition that is wanted */
	struct partition *partition; /* referenced; NULL: there is none */
	struct partition_fetch fetch;
	int16_t error;
	bool noted;                  /* what a follower tells of it is noted */
	bool in_sync;                /* with that: it is in the ISR */
	bool throttled;              /* what it is given is counted */
	int32_t preferred;           /* the consumer had better read from that broker; -1: from here */
};

struct fetch {
	struct delayed delayed;
	struct delayed_key *key;
	struct call *call;
	struct session_fetch session;
	struct found *found;
	int32_t found_count, found_room;
	struct fetch_response *answer; /* as it is being made */
	int64_t min_bytes, max_bytes, bytes, now_ms;
	mono_t deadline;
	bool noted;                  /* what a follower tells by it is noted: once, not each time that it is looked at again */
	bool failed;                 /* some partition has an error, or a log that has parted, or is to be read elsewhere: nothing is waited for */
	bool ends;                   /* a replica is to be told of an end */
	bool slowed;                 /* or is not given all it might be: not before the throttle lets it */
	int32_t *near;               /* the brokers in the consumer's rack, where it may be sent to another */
	int near_count;
};

static void *get_memory(void *arg, size_t n)
{
	return call_get(arg, n);
}

/* NULL as well where it is for another broker to answer. */
static struct partition *find_partition(void *arg, struct wire_string topic, const struct wire_uuid *id, int32_t index, int16_t *error)
{
	struct partition *p = call_partition(arg, topic, id, index, error);
	if (p && call_is_elsewhere(arg, p)) {
		partition_unref(p);
		*error = KAFKA_NOT_LEADER_OR_FOLLOWER;
		return NULL;
	}
	return p;
}

static void drop_data(struct fetch *f)
{
	for (int32_t i = 0; i < f->found_count; i++)
		if (f->found[i].partition)
			partition_fetch_release(f->found[i].partition, &f->found[i].fetch);
}

static void sent(struct call *c)
{
	struct fetch *f = c->op;
	drop_data(f);
	for (int32_t i = 0; i < f->found_count; i++)
		partition_unref(f->found[i].partition);
}

/* ---- reading ---- */

static bool is_follower(const struct fetch_request *r)
{
	return fetch_follower(r) >= 0;
}

/* Whether a replica's session is to hear of an end, though there is nothing else. */
static bool is_further(const struct wanted *w, const struct partition_fetch *p)
{
	return p->ends.high_watermark > w->told_high_watermark || p->ends.log_start > w->told_log_start;
}

/* One partition. false: it would have to wait. */
static bool read_one(struct fetch *f, int32_t i, int64_t room, bool wait)
{
	const struct fetch_request *r = f->call->request;
	const struct wanted *w = &f->session.wanted[i];
	struct found *x = &f->found[i];
	struct err e = ERR_INIT;
	if (!x->partition)
		return true;
	x->fetch = (struct partition_fetch){
		.offset = w->offset, .max_bytes = (uint32_t)(w->max_bytes < 0 ? 0 : w->max_bytes < room ? w->max_bytes : room), .min_one = f->bytes == 0,
		.isolation = is_follower(r) ? ISOLATION_NONE : r->isolation_level == 1 ? ISOLATION_COMMITTED : ISOLATION_UNCOMMITTED,
		.current_epoch = w->current_leader_epoch, .last_fetched_epoch = w->last_fetched_epoch, .wait = wait,
		.leader_only = f->call->version < 11, /* KIP-392 */
	};
	x->preferred = f->near_count ? partition_preferred(x->partition, w->offset, f->near, f->near_count) : -1;
	x->fetch.ends_only = x->preferred >= 0;
	x->throttled = is_follower(r) && partition_is_throttled(x->partition, THROTTLE_LEADER);
	x->fetch.slow = x->throttled && broker_throttle_wait_ns(call_broker(f->call), THROTTLE_LEADER);
	x->fetch.in_sync = x->in_sync;
	struct follower_fetch follower = {0};
	if (is_follower(r) && !f->noted) {
		follower = (struct follower_fetch){
			.id = fetch_follower(r), .broker_epoch = r->replica_id >= 0 ? -1 : r->replica_state.replica_epoch, .current_epoch = w->current_leader_epoch, .offset = w->offset,
			.log_start = w->log_start, .now_ms = f->now_ms, .pulse = f->session.due_only ? session_pulse(f->session.session) : NULL,
		};
		x->fetch.follower = &follower;
	}
	int rc = partition_fetch(x->partition, &x->fetch, &e);
	if (rc == PARTITION_WOULD_BLOCK) {
		x->fetch.follower = NULL;
		return false;
	}
	if (x->fetch.follower && rc == 0 && !x->fetch.diverged) {
		x->noted = true;
		x->in_sync = follower.in_sync;
	}
	x->fetch.follower = NULL;
	f->slowed |= rc == 0 && x->fetch.slowed;
	f->ends |= rc == 0 && f->session.due_only && is_further(w, &x->fetch);
	x->error = rc < 0 ? (int16_t)kafka_error_of(rc) : KAFKA_NONE;
	f->failed |= rc < 0 || x->fetch.diverged || x->preferred >= 0;
	f->bytes += rc < 0 ? 0 : x->fetch.data.bytes;
	return true;
}

/* All of them, in turn. false: something would have to wait; nothing is held then. */
static bool read_all(struct fetch *f, bool wait)
{
	f->bytes = 0;
	f->failed = f->ends = f->slowed = false;
	for (int32_t i = 0; i < f->session.count; i++) {
		int64_t room = f->max_bytes - f->bytes;
		f->failed |= f->found[i].error && !f->found[i].partition;
		if (!read_one(f, i, room > 0 ? room : 0, wait)) {
			drop_data(f);
			f->bytes = 0;
			return false;
		}
	}
	return true;
}

/* ---- answering ---- */

/* KIP-951: who is in the wrong place is told the right one, and where that is. */
static void tell_leader(struct fetch *f, int32_t i, struct fetch_response_partition *a)
{
	const struct wanted *w = &f->session.wanted[i];
	struct fetch_response *to = f->answer;
	struct leader_node node;
	int16_t unused;
	if (f->call->version < 16 || (a->error_code != KAFKA_NOT_LEADER_OR_FOLLOWER && a->error_code != KAFKA_FENCED_LEADER_EPOCH))
		return;
	struct partition *p = call_partition(f->call, w->topic, &w->topic_id, w->partition, &unused);
	partition_leader_now(p, &a->current_leader.leader_id, &a->current_leader.leader_epoch);
	partition_unref(p);
	for (int32_t k = 0; k < to->node_endpoints.n; k++)
		if (to->node_endpoints.v[k].node_id == a->current_leader.leader_id)
			return;
	if (!to->node_endpoints.v)
		to->node_endpoints.v = call_array(f->call, &wire_fetch_response_endpoint, f->session.count);
	if (to->node_endpoints.v && call_node(f->call, a->current_leader.leader_id, &node))
		to->node_endpoints.v[to->node_endpoints.n++] = (struct fetch_response_endpoint){.node_id = node.id, .host = node.host, .port = node.port, .rack = node.rack};
}

static void describe(struct fetch *f, int32_t i, struct fetch_response_partition *a)
{
	const struct fetch_request *r = f->call->request;
	struct found *x = &f->found[i];
	const struct partition_fetch *p = &x->fetch;
	bool known = x->partition && (!x->error || x->error == KAFKA_OFFSET_OUT_OF_RANGE);
	a->partition_index = f->session.wanted[i].partition;
	a->error_code = x->error;
	a->high_watermark = known ? p->ends.high_watermark : -1;
	a->last_stable_offset = known ? p->ends.last_stable : -1;
	a->log_start_offset = known ? p->ends.log_start : -1;
	if (known && x->error && is_follower(r)) {
		a->begin_offset = p->begin_offset;
		a->begin_position = p->begin_position;
	}
	a->aborted_transactions.n = r->isolation_level == 1 && !x->error ? 0 : -1;
	if (x->error) {
		tell_leader(f, i, a);
		return;
	}
	a->preferred_read_replica = x->preferred;
	if (p->diverged) {
		a->diverging_epoch.epoch = p->diverging_epoch;
		a->diverging_epoch.end_offset = p->diverging_end;
		return;
	}
	a->records.n = (int32_t)p->data.bytes;
	a->records.range = p->data.bytes ? (void *)&p->data : NULL;
	if (x->throttled)
		broker_throttle_took(call_broker(f->call), THROTTLE_LEADER, a->records.n);
	if (a->aborted_transactions.n < 0 || !p->data.abort_count)
		return;
	a->aborted_transactions.v = call_array(f->call, &wire_fetch_response_aborted_transaction, (int32_t)p->data.abort_count);
	for (uint32_t k = 0; a->aborted_transactions.v && k < p->data.abort_count; k++)
		a->aborted_transactions.v[a->aborted_transactions.n++] =
			(struct fetch_response_aborted_transaction){.producer_id = p->data.abort[k].producer_id, .first_offset = p->data.abort[k].first_offset};
}

static bool same_topic(const struct wanted *w, const struct fetch_response_topic *t)
{
	return wire_uuid_is_zero(&w->topic_id) ? wire_string_eq(w->topic, t->topic) : !memcmp(&w->topic_id, &t->topic_id, sizeof w->topic_id);
}

static void answer(struct fetch *f)
{
	struct call *c = f->call;
	struct session_fetch *s = &f->session;
	struct fetch_response a;
	wire_init(&wire_fetch_response, &a);
	f->answer = &a;
	a.session_id = s->id;
	a.responses.v = call_array(c, &wire_fetch_response_topic, s->count);
	struct fetch_response_partition *p = call_array(c, &wire_fetch_response_partition, s->count);
	if (!a.responses.v || !p) {
		session_end(call_sessions(c), s->session);
		call_close(c, "no memory for a Fetch");
		return;
	}
	for (int32_t i = 0; i < s->count; i++) {
		struct wanted *w = &s->wanted[i];
		describe(f, i, p);
		w->stays_due = p->error_code || p->records.n || f->found[i].fetch.diverged || f->found[i].fetch.slowed || !f->found[i].noted || !f->found[i].in_sync;
		if (!session_has_news(s, w, p)) {
			wire_init(&wire_fetch_response_partition, p);
			continue;
		}
		struct fetch_response_topic *t = a.responses.n ? &a.responses.v[a.responses.n - 1] : NULL;
		if (!t || !same_topic(w, t)) {
			t = &a.responses.v[a.responses.n++];
			t->topic = w->topic;
			t->topic_id = w->topic_id;
			t->partitions.v = p;
		}
		t->partitions.n++;
		p++;
	}
	struct session *session = s->session; /* the names in the answer are its own: it is ended when they are encoded */
	struct sessions *sessions = call_sessions(c);
	session_note(sessions, s);
	call_answer(c, &a);
	session_end(sessions, session);
}

static void answer_error(struct call *c, int16_t error)
{
	struct fetch_response a;
	wire_init(&wire_fetch_response, &a);
	a.error_code = error;
	call_answer(c, &a);
}

/* ---- waiting ---- */

/* It is over: what is there now is the answer, and what has to be opened for it is opened. */
static void finish_in_pool(struct call *c)
{
	read_all(c->op, true);
	answer(c->op);
}

static bool grow_found(struct fetch *f, int32_t n)
{
	if (n <= f->found_room)
		return true;
	int32_t room = n + n / 2 + 4;
	struct found *more = call_get(f->call, (size_t)room * sizeof *more);
	if (!more)
		return false;
	if (f->found_count)
		memcpy(more, f->found, (size_t)f->found_count * sizeof *more);
	f->found = more;
	f->found_room = room;
	return true;
}

/* A replica's session knows its partitions. */
static void find_listed(struct fetch *f)
{
	for (; f->found_count < f->session.count; f->found_count++) {
		const struct wanted *w = &f->session.wanted[f->found_count];
		f->found[f->found_count] = (struct found){.partition = w->here, .error = w->error};
		if (w->here)
			partition_ref(w->here);
	}
}

/* What has become due since. */
static bool take_more(struct fetch *f)
{
	if (session_more(call_sessions(f->call), &f->session) < 0 || !grow_found(f, f->session.count)) {
		f->session.count = f->found_count;
		return false;
	}
	find_listed(f);
	return true;
}

/* A replica is to be told of an end, and may be now; else it will be looked at again when it may. */
static bool may_tell_ends(struct fetch *f)
{
	if (!f->ends)
		return false;
	_Atomic int64_t *told_ns = session_told_ends_ns(f->session.session);
	mono_t now = mono_now(), due = mono_after_ms((mono_t){*told_ns}, TELL_ENDS_MS);
	if (mono_diff_ns(due, now) <= 0 || session_look_at(f->session.session, broker_timers(call_broker(f->call)), due) < 0) {
		*told_ns = now.ns;
		return true;
	}
	return false;
}

/* What was found is kept for the answer where it is enough. */
static int64_t missing(struct delayed *d)
{
	struct fetch *f = (struct fetch *)d;
	if (f->session.due_only && !take_more(f)) {
		f->failed = true; /* there is no memory for them: it goes on with the next */
		return 0;
	}
	if (!read_all(f, false))
		return 0;
	if (f->failed || f->bytes >= f->min_bytes || may_tell_ends(f))
		return 0;
	if (f->slowed && f->session.due_only) {
		int64_t wait_ns = broker_throttle_wait_ns(call_broker(f->call), THROTTLE_LEADER);
		session_look_at(f->session.session, broker_timers(call_broker(f->call)), (mono_t){mono_now().ns + (wait_ns < SLOW_NS ? wait_ns : SLOW_NS)});
	}
	int64_t more = f->min_bytes - f->bytes;
	drop_data(f);
	return more;
}

static void complete(struct delayed *d, enum delayed_verdict how)
{
	struct fetch *f = (struct fetch *)d;
	bool ready = how == DELAYED_SATISFIED ? f->failed || f->bytes >= f->min_bytes || f->ends : read_all(f, false);
	if (ready)
		answer(f);
	else
		call_to_pool(f->call, finish_in_pool, false);
}

static void cancelled(struct net_request *r, enum net_why why)
{
	struct call *c = net_room(r);
	struct fetch *f = c->op;
	if (why == NET_PEER_DONE || !f)
		return;
	if (delayed_cancel(&f->delayed))
		complete(&f->delayed, DELAYED_CANCELLED);
}

static void park(struct fetch *f)
{
	const struct fetch_request *r = f->call->request;
	enum delayed_channel channel = is_follower(r) ? DELAYED_END : r->isolation_level == 1 ? DELAYED_STABLE : DELAYED_HIGH;
	uint32_t n = 0;
	if (f->session.due_only)
		f->key[n++] = (struct delayed_key){.list = session_changed(f->session.session), .channel = DELAYED_END};
	for (int32_t i = 0; !f->session.due_only && i < f->session.count; i++)
		if (f->found[i].partition)
			f->key[n++] = (struct delayed_key){.list = partition_delayed(f->found[i].partition), .channel = channel};
	f->delayed.key = f->key;
	f->delayed.key_count = n;
	f->delayed.missing = missing;
	f->delayed.complete = complete;
	delayed_park(&f->delayed, broker_timers(call_broker(f->call)), f->deadline);
}

/* ---- the beginning ---- */

static void begin_in_pool(struct call *c);

static void begin(struct fetch *f, bool wait)
{
	const struct fetch_request *r = f->call->request;
	if (!read_all(f, wait)) {
		call_to_pool(f->call, begin_in_pool, false);
		return;
	}
	if (f->failed || f->bytes >= f->min_bytes || r->max_wait_ms <= 0 || (!f->session.count && !f->session.due_only)) {
		answer(f);
		return;
	}
	drop_data(f);
	f->noted = true;
	park(f);
}

/* With logs opened first. Whoever cancels it meanwhile has it completed as soon as it is parked. */
static void begin_in_pool(struct call *c)
{
	begin(c->op, true);
}

static bool lay_out(struct call *c, struct fetch *f)
{
	int32_t n = f->session.count;
	f->key = call_get(c, (f->session.due_only ? 1 : (size_t)n) * sizeof *f->key);
	if (!f->key || !grow_found(f, n))
		return false;
	if (f->session.due_only) {
		find_listed(f);
		return true;
	}
	f->found_count = n;
	for (int32_t i = 0; i < n; i++) {
		const struct wanted *w = &f->session.wanted[i];
		f->found[i].partition = find_partition(c, w->topic, c->version >= 13 ? &w->topic_id : NULL, w->partition, &f->found[i].error);
	}
	return true;
}

static bool selects_by_rack(const struct call *c)
{
	const char *name = conf_str(call_conf(c), "replica.selector.class");
	return strstr(name, "RackAwareReplicaSelector");
}

void handle_fetch(struct call *c)
{
	const struct fetch_request *r = c->request;
	struct fetch *f = call_get(c, sizeof *f);
	if (!f) {
		call_close(c, "no memory for a Fetch");
		return;
	}
	f->call = c;
	int64_t limit = conf_int(call_conf(c), "fetch.max.bytes");
	f->max_bytes = r->max_bytes < limit ? r->max_bytes : limit;
	f->min_bytes = r->min_bytes < f->max_bytes ? r->min_bytes : f->max_bytes;
	f->now_ms = mono_now().ns / 1000000;
	if (!is_follower(r) && c->version >= 11 && r->rack_id.n > 0 && selects_by_rack(c))
		f->near = call_rack(c, r->rack_id, &f->near_count);
	int16_t error = session_begin(call_sessions(c), &f->session, r, c->version, f->now_ms, &(struct session_user){.get = get_memory, .find = find_partition, .arg = c});
	if (error) {
		answer_error(c, error);
		return;
	}
	if (!lay_out(c, f)) {
		session_end(call_sessions(c), f->session.session);
		call_close(c, "no memory for a Fetch");
		return;
	}
	delayed_init(&f->delayed);
	f->deadline = mono_after_ms(mono_now(), r->max_wait_ms);
	c->op = f;
	c->sent = sent;
	c->r->cancel = cancelled;
	begin(f, false);
}
