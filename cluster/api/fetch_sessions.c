#include "cluster/api/fetch_sessions.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <uthash.h>
#include <utlist.h>

#include "cluster/partition.h"
#include "cluster/partition_role.h"
#include "cluster/wire/errors.h"

enum { INITIAL_EPOCH = 0, FINAL_EPOCH = -1, KEEP_MS = 120000 };

struct entry_key { struct wire_uuid id; int32_t partition; uint32_t name_hash; };

struct entry {
	UT_hash_handle hh;
	struct entry *prev, *next;  /* in turns */
	struct entry_key key;
	char *topic;                /* owned; "" where topics have ids */
	int32_t current_leader_epoch, last_fetched_epoch, max_bytes;
	int64_t offset, log_start, told_high_watermark, told_log_start;
	bool dead;                  /* forgotten while a Fetch that lists it was under way */
	/* of a replica's: */
	struct session *session;
	struct partition *partition; /* referenced; NULL: there is none */
	int16_t error;
	struct delayed_watch watch; /* on it, where there is one */
	bool due;
	struct entry *due_prev, *due_next;
	bool raised;                /* session.raised_lock, as */
	struct entry *next_raised;
};

struct session {
	UT_hash_handle hh;
	struct session *prev, *next; /* by last use */
	int32_t id, epoch;           /* epoch: of the next request */
	bool by_id;
	bool gone;                   /* out of the table; freed by the last reference */
	unsigned refs;
	int64_t used_ms;
	struct entry *table, *turns, *dead;
	/* of a replica's: */
	bool replica;
	_Atomic uint32_t holds;      /* of its memory: one for refs, one while its bell is to be rung, one while its timer is armed */
	struct entry *due;           /* in turns */
	struct isr_pulse *pulse;
	_Atomic int64_t told_ends_ns;
	struct delayed_list changed;
	struct delayed_bell bell;
	struct timer timer;
	struct timer_heap *timers;   /* NULL: it was never armed */
	_Atomic bool timed;          /* it is armed */
	pthread_mutex_t raised_lock;
	struct entry *raised;        /* raised_lock, as */
	bool rings;                  /* the bell is with somebody who will ring it */
};

struct sessions {
	pthread_mutex_t lock;
	struct session *table, *by_use; /* by_use: the one used last at the end */
	size_t count, slots;
	struct entry *spent;         /* to be freed when the lock is let go of: with the last reference a partition may go, too */
};

struct sessions *sessions_new(size_t slots)
{
	struct sessions *s = calloc(1, sizeof *s);
	if (!s)
		return NULL;
	pthread_mutex_init(&s->lock, NULL);
	s->slots = slots;
	return s;
}

static void free_entry(struct entry *n)
{
	partition_unref(n->partition);
	free(n->topic);
	free(n);
}

static void unlock(struct sessions *s)
{
	struct entry *spent = s->spent, *n, *next;
	s->spent = NULL;
	pthread_mutex_unlock(&s->lock);
	DL_FOREACH_SAFE(spent, n, next)
		free_entry(n);
}

/* locks: the sessions'. */
static void spend(struct sessions *s, struct entry **list)
{
	DL_CONCAT(s->spent, *list);
	*list = NULL;
}

static void hold_no_longer(struct session *x)
{
	if (atomic_fetch_sub(&x->holds, 1) > 1)
		return;
	isr_pulse_unref(x->pulse);
	if (x->replica) {
		delayed_list_release(&x->changed);
		pthread_mutex_destroy(&x->raised_lock);
	}
	free(x);
}

/* A replica is told of the partition by this session no more. locks: the sessions'. */
static void watch_no_longer(struct session *x, struct entry *n)
{
	if (!x->replica)
		return;
	if (n->partition) {
		delayed_unwatch(&n->watch);
		partition_follower_rests(n->partition, x->pulse);
	}
	if (n->due)
		DL_DELETE2(x->due, n, due_prev, due_next);
	n->due = false;
}

/* locks: the sessions'. */
static void raised_no_longer(struct session *x, struct entry *n)
{
	if (!x->replica)
		return;
	pthread_mutex_lock(&x->raised_lock);
	if (n->raised)
		LL_DELETE2(x->raised, n, next_raised);
	n->raised = false;
	pthread_mutex_unlock(&x->raised_lock);
}

/* A Fetch that is under way may list it still. locks: the sessions'. */
static void remove_entry(struct sessions *s, struct session *x, struct entry *n)
{
	watch_no_longer(x, n);
	raised_no_longer(x, n);
	HASH_DEL(x->table, n);
	DL_DELETE(x->turns, n);
	n->dead = true;
	DL_APPEND(x->dead, n);
	if (x->refs == 1)
		spend(s, &x->dead);
}

/* locks: the sessions'. */
static void unref(struct sessions *s, struct session *x)
{
	if (--x->refs == 1 && !x->gone)
		spend(s, &x->dead);
	if (x->refs)
		return;
	HASH_CLEAR(hh, x->table);
	spend(s, &x->turns);
	spend(s, &x->dead);
	hold_no_longer(x);
}

/* locks: the sessions'. */
static void remove_session(struct sessions *s, struct session *x)
{
	struct entry *n;
	HASH_DEL(s->table, x);
	DL_DELETE(s->by_use, x);
	s->count--;
	x->gone = true;
	DL_FOREACH(x->turns, n)
		watch_no_longer(x, n);
	x->raised = NULL; /* which nobody adds to any more */
	unref(s, x);
}

void sessions_free(struct sessions *s)
{
	if (!s)
		return;
	for (struct session *x = s->by_use; x; x = x->next) { /* nobody fetches any more */
		if (x->timers)
			timer_cancel(x->timers, &x->timer);
		if (atomic_exchange(&x->timed, false))
			hold_no_longer(x);
	}
	pthread_mutex_lock(&s->lock);
	while (s->by_use)
		remove_session(s, s->by_use);
	unlock(s);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/* ---- entries ---- */

static uint32_t hash_name(struct wire_string s)
{
	uint32_t h = 2166136261u;
	for (int32_t i = 0; i < s.n; i++)
		h = (h ^ (uint8_t)s.s[i]) * 16777619u;
	return h;
}

static struct entry_key key_of(bool by_id, struct wire_string topic, const struct wire_uuid *id, int32_t partition)
{
	struct entry_key k;
	memset(&k, 0, sizeof k);
	k.partition = partition;
	if (by_id)
		k.id = *id;
	else
		k.name_hash = hash_name(topic);
	return k;
}

/* Names whose hashes are equal are told apart along the chain of equal keys, which is as good as always of one. */
static struct entry *find_entry(struct session *x, struct wire_string topic, const struct wire_uuid *id, int32_t partition)
{
	struct entry_key k = key_of(x->by_id, topic, id, partition);
	struct entry *n;
	HASH_FIND(hh, x->table, &k, sizeof k, n);
	if (!n || x->by_id || wire_string_is(topic, n->topic))
		return n;
	DL_FOREACH(x->turns, n)
		if (n->key.partition == partition && wire_string_is(topic, n->topic))
			return n;
	return NULL;
}

/* Something was published of the partition. locks: its list's. */
static struct delayed_bell *raise_entry(struct delayed_watch *w)
{
	struct entry *n = (struct entry *)((char *)w - offsetof(struct entry, watch));
	struct session *x = n->session;
	bool ring = false;
	pthread_mutex_lock(&x->raised_lock);
	if (!n->raised) {
		n->raised = true;
		LL_PREPEND2(x->raised, n, next_raised);
		ring = !x->rings;
		x->rings = true;
	}
	pthread_mutex_unlock(&x->raised_lock);
	if (ring)
		atomic_fetch_add(&x->holds, 1);
	return ring ? &x->bell : NULL;
}

static void ring_session(struct delayed_bell *b)
{
	struct session *x = (struct session *)((char *)b - offsetof(struct session, bell));
	pthread_mutex_lock(&x->raised_lock);
	x->rings = false;
	pthread_mutex_unlock(&x->raised_lock);
	delayed_wake(&x->changed, DELAYED_CHANNELS);
	hold_no_longer(x);
}

static void timer_came(struct timer *t, void *arg)
{
	struct session *x = arg;
	(void)t;
	if (!atomic_exchange(&x->timed, false))
		return;
	delayed_wake(&x->changed, DELAYED_CHANNELS);
	hold_no_longer(x);
}

/* It is not taken back when nobody waits for it any more: that would cost more than its coming for nothing. */
int session_look_at(struct session *x, struct timer_heap *timers, mono_t due)
{
	if (atomic_exchange(&x->timed, true))
		return 0;
	atomic_fetch_add(&x->holds, 1);
	x->timers = timers;
	int rc = timer_arm(timers, &x->timer, due);
	if (rc < 0 && atomic_exchange(&x->timed, false))
		hold_no_longer(x);
	return rc;
}

static void make_due(struct session *x, struct entry *n)
{
	if (n->due)
		return;
	n->due = true;
	DL_APPEND2(x->due, n, due_prev, due_next);
}

/* What was raised is due. locks: the sessions'. */
static void take_raised(struct session *x)
{
	pthread_mutex_lock(&x->raised_lock);
	for (struct entry *n = x->raised, *next; n; n = next) {
		next = n->next_raised;
		n->raised = false;
		make_due(x, n);
	}
	x->raised = NULL;
	pthread_mutex_unlock(&x->raised_lock);
}

static bool put_entry(struct sessions *s, struct session *x, const struct session_user *u, const struct fetch_request_topic *t, const struct fetch_request_partition *p)
{
	struct entry *n = find_entry(x, t->topic, &t->topic_id, p->partition);
	struct partition *here = NULL;
	int16_t error = KAFKA_NONE;
	if (x->replica)
		here = u->find(u->arg, t->topic, &t->topic_id, p->partition, &error);
	if (n && x->replica && n->partition != here) { /* another replica of it was made since */
		remove_entry(s, x, n);
		n = NULL;
	} else if (n) {
		partition_unref(here); /* not its last reference: n has one */
	}
	if (!n) {
		n = calloc(1, sizeof *n);
		if (!n || !(n->topic = strndup(x->by_id || t->topic.n <= 0 ? "" : t->topic.s, x->by_id || t->topic.n <= 0 ? 0 : (size_t)t->topic.n))) {
			free(n);
			partition_unref(here);
			return false;
		}
		n->session = x;
		n->partition = here;
		n->watch.raise = raise_entry;
		n->key = key_of(x->by_id, t->topic, &t->topic_id, p->partition);
		n->told_high_watermark = n->told_log_start = -1;
		HASH_ADD(hh, x->table, key, sizeof n->key, n);
		DL_APPEND(x->turns, n);
		if (here)
			delayed_watch(partition_delayed(here), &n->watch);
	}
	if (x->replica)
		make_due(x, n);
	n->error = error;
	n->current_leader_epoch = p->current_leader_epoch;
	n->last_fetched_epoch = p->last_fetched_epoch;
	n->max_bytes = p->partition_max_bytes;
	n->offset = p->fetch_offset;
	n->log_start = p->log_start_offset;
	return true;
}

/* ---- beginning ---- */

static bool put_all(struct sessions *s, struct session *x, const struct session_user *u, const struct fetch_request *r)
{
	for (int32_t t = 0; t < r->topics.n; t++)
		for (int32_t k = 0; k < r->topics.v[t].partitions.n; k++)
			if (!put_entry(s, x, u, &r->topics.v[t], &r->topics.v[t].partitions.v[k]))
				return false;
	return true;
}

static void forget(struct sessions *s, struct session *x, const struct fetch_request *r)
{
	for (int32_t t = 0; t < r->forgotten_topics_data.n; t++) {
		const struct fetch_request_forgotten_topic *topic = &r->forgotten_topics_data.v[t];
		for (int32_t k = 0; k < topic->partitions.n; k++) {
			struct entry *n = find_entry(x, topic->topic, &topic->topic_id, topic->partitions.v[k]);
			if (n)
				remove_entry(s, x, n);
		}
	}
}

static struct wanted wanted_of(struct entry *n)
{
	return (struct wanted){
		.topic = wire_string(n->topic), .topic_id = n->key.id, .partition = n->key.partition, .current_leader_epoch = n->current_leader_epoch, .last_fetched_epoch = n->last_fetched_epoch,
		.max_bytes = n->max_bytes, .offset = n->offset, .log_start = n->log_start, .told_high_watermark = n->told_high_watermark, .told_log_start = n->told_log_start, .here = n->partition, .error = n->error, .entry = n,
	};
}

static bool list_entries(struct session_fetch *f)
{
	struct session *x = f->session;
	struct entry *n;
	f->due_only = x->replica;
	f->count = 0;
	if (x->replica) {
		take_raised(x);
		DL_COUNT2(x->due, n, f->count, due_next);
	} else {
		f->count = (int32_t)HASH_COUNT(x->table);
	}
	f->room = f->count;
	f->wanted = f->user.get(f->user.arg, ((size_t)f->count + 1) * sizeof *f->wanted);
	if (!f->wanted)
		return false;
	struct wanted *w = f->wanted;
	if (x->replica)
		DL_FOREACH2(x->due, n, due_next)
			*w++ = wanted_of(n);
	else
		DL_FOREACH(x->turns, n)
			*w++ = wanted_of(n);
	return true;
}

/* Those of the request itself. */
static bool list_request(struct session_fetch *f)
{
	const struct fetch_request *r = f->request;
	f->count = 0;
	for (int32_t t = 0; t < r->topics.n; t++)
		f->count += r->topics.v[t].partitions.n;
	struct wanted *w = f->wanted = f->user.get(f->user.arg, (size_t)f->count * sizeof *f->wanted);
	for (int32_t t = 0; w && t < r->topics.n; t++)
		for (int32_t k = 0; k < r->topics.v[t].partitions.n; k++) {
			const struct fetch_request_partition *p = &r->topics.v[t].partitions.v[k];
			*w++ = (struct wanted){
				.topic = r->topics.v[t].topic, .topic_id = r->topics.v[t].topic_id, .partition = p->partition, .current_leader_epoch = p->current_leader_epoch,
				.last_fetched_epoch = p->last_fetched_epoch, .max_bytes = p->partition_max_bytes, .offset = p->fetch_offset, .log_start = p->log_start_offset, .told_high_watermark = -1, .told_log_start = -1,
			};
		}
	return f->wanted;
}

/* The one that has to make room for another. locks: the sessions'. */
static struct session *least_of_use(struct sessions *s, bool replica, int64_t now_ms)
{
	struct session *x = s->by_use;
	if (!x || now_ms - x->used_ms > KEEP_MS || !replica)
		return x && now_ms - x->used_ms > KEEP_MS ? x : NULL;
	while (x && x->replica)
		x = x->next;
	return x;
}

static struct session *session_new(bool by_id, bool replica, int64_t now_ms)
{
	struct session *x = calloc(1, sizeof *x);
	struct isr_pulse *pulse = replica ? isr_pulse_new() : NULL;
	if (!x || (replica && !pulse)) {
		free(x);
		isr_pulse_unref(pulse);
		return NULL;
	}
	x->by_id = by_id;
	x->refs = x->holds = 1;
	x->epoch = 1;
	x->used_ms = now_ms;
	x->replica = replica;
	x->pulse = pulse;
	if (replica) {
		pulse->at_ms = now_ms;
		x->bell.ring = ring_session;
		x->timer = (struct timer){.fire = timer_came, .arg = x};
		delayed_list_init(&x->changed);
		pthread_mutex_init(&x->raised_lock, NULL);
	}
	return x;
}

/* locks: the sessions'. NULL: there is none to be had. */
static struct session *make_session(struct sessions *s, const struct session_fetch *f, int64_t now_ms)
{
	bool replica = f->version >= 13 && fetch_follower(f->request) >= 0;
	struct session *x, *other, *old = s->count >= s->slots ? least_of_use(s, replica, now_ms) : NULL;
	if (old)
		remove_session(s, old);
	if (s->count >= s->slots || !(x = session_new(f->version >= 13, replica, now_ms)))
		return NULL;
	do {
		if (getrandom(&x->id, sizeof x->id, 0) != sizeof x->id)
			abort(); /* the kernel has had its entropy since long before */
		x->id &= INT32_MAX;
		HASH_FIND_INT(s->table, &x->id, other);
	} while (x->id == 0 || other);
	HASH_ADD_INT(s->table, id, x);
	DL_APPEND(s->by_use, x);
	s->count++;
	if (put_all(s, x, &f->user, f->request))
		return x;
	remove_session(s, x);
	return NULL;
}

/* locks: the sessions'. */
static int16_t go_on(struct sessions *s, struct session_fetch *f, int64_t now_ms)
{
	const struct fetch_request *r = f->request;
	struct session *x;
	HASH_FIND_INT(s->table, &r->session_id, x);
	if (!x || x->replica != (f->version >= 13 && fetch_follower(r) >= 0))
		return KAFKA_FETCH_SESSION_ID_NOT_FOUND;
	if (x->epoch != r->session_epoch)
		return KAFKA_INVALID_FETCH_SESSION_EPOCH;
	if (x->by_id != (f->version >= 13))
		return KAFKA_FETCH_SESSION_TOPIC_ID_ERROR;
	forget(s, x, r);
	if (!put_all(s, x, &f->user, r))
		return KAFKA_UNKNOWN_SERVER_ERROR;
	x->epoch = x->epoch == INT32_MAX ? 1 : x->epoch + 1;
	x->used_ms = now_ms;
	if (x->replica)
		x->pulse->at_ms = now_ms;
	DL_DELETE(s->by_use, x);
	DL_APPEND(s->by_use, x);
	f->incremental = true;
	f->session = x;
	return KAFKA_NONE;
}

int16_t session_begin(struct sessions *s, struct session_fetch *f, const struct fetch_request *r, int16_t version, int64_t now_ms, const struct session_user *u)
{
	int16_t error = KAFKA_NONE;
	*f = (struct session_fetch){.request = r, .version = version, .user = *u};
	bool full = r->session_epoch == INITIAL_EPOCH || r->session_epoch == FINAL_EPOCH;
	if (full && !list_request(f))
		return KAFKA_UNKNOWN_SERVER_ERROR;
	if (full && r->session_epoch == FINAL_EPOCH && r->session_id == 0)
		return KAFKA_NONE;
	pthread_mutex_lock(&s->lock);
	struct session *old = NULL;
	if (full && r->session_id)
		HASH_FIND_INT(s->table, &r->session_id, old);
	if (old)
		remove_session(s, old);
	if (!full)
		error = go_on(s, f, now_ms);
	else if (r->session_epoch == INITIAL_EPOCH && f->count)
		f->session = make_session(s, f, now_ms);
	if (f->session) {
		f->id = f->session->id;
		f->session->refs++;
		if (!list_entries(f)) {
			unref(s, f->session);
			error = KAFKA_UNKNOWN_SERVER_ERROR;
		}
	}
	unlock(s);
	return error;
}

/* ---- replicas' ---- */

/* locks: the sessions'. */
static bool make_room(struct session_fetch *f, int32_t n)
{
	if (n <= f->room)
		return true;
	int32_t room = 2 * n;
	struct wanted *more = f->user.get(f->user.arg, (size_t)room * sizeof *more);
	if (!more)
		return false;
	memcpy(more, f->wanted, (size_t)f->count * sizeof *more);
	f->wanted = more;
	f->room = room;
	return true;
}

int session_more(struct sessions *s, struct session_fetch *f)
{
	struct session *x = f->session;
	int rc = 0;
	pthread_mutex_lock(&s->lock);
	pthread_mutex_lock(&x->raised_lock);
	for (struct entry *n = x->raised, *next; n && rc == 0; n = next) {
		next = n->next_raised;
		if (!n->due && !make_room(f, f->count + 1)) {
			rc = -1;
			break;
		}
		if (!n->due)
			f->wanted[f->count++] = wanted_of(n);
		n->raised = false;
		x->raised = next;
		make_due(x, n);
	}
	pthread_mutex_unlock(&x->raised_lock);
	unlock(s);
	return rc;
}

struct delayed_list *session_changed(struct session *x)
{
	return &x->changed;
}

struct isr_pulse *session_pulse(struct session *x)
{
	return x->pulse;
}

_Atomic int64_t *session_told_ends_ns(struct session *x)
{
	return &x->told_ends_ns;
}

/* ---- ending ---- */

bool session_has_news(struct session_fetch *f, struct wanted *w, const struct fetch_response_partition *a)
{
	bool news = a->error_code != KAFKA_NONE || a->records.n > 0 || a->diverging_epoch.epoch >= 0 || a->preferred_read_replica != -1 ||
		    a->high_watermark != w->told_high_watermark || a->log_start_offset != w->told_log_start;
	w->told_high_watermark = a->error_code == KAFKA_NONE ? a->high_watermark : -1; /* after an error it is told whatever comes next */
	w->told_log_start = a->log_start_offset;
	w->had_turn = a->records.n > 0;
	return news || !f->incremental;
}

void session_note(struct sessions *s, struct session_fetch *f)
{
	struct session *x = f->session;
	if (!x)
		return;
	pthread_mutex_lock(&s->lock);
	for (int32_t i = 0; i < f->count && !x->gone; i++) {
		const struct wanted *w = &f->wanted[i];
		struct entry *n = w->entry;
		if (n->dead)
			continue;
		n->told_high_watermark = w->told_high_watermark;
		n->told_log_start = w->told_log_start;
		if (n->due && (!w->stays_due || w->had_turn)) {
			DL_DELETE2(x->due, n, due_prev, due_next);
			n->due = w->stays_due;
			if (n->due)
				DL_APPEND2(x->due, n, due_prev, due_next);
		}
		if (w->had_turn && !x->replica) {
			DL_DELETE(x->turns, n);
			DL_APPEND(x->turns, n);
		}
	}
	unlock(s);
}

void session_end(struct sessions *s, struct session *x)
{
	if (!x)
		return;
	pthread_mutex_lock(&s->lock);
	unref(s, x);
	unlock(s);
}
