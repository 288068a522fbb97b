#include "cluster/api/fetch_sessions.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <uthash.h>
#include <utlist.h>

#include "cluster/wire/errors.h"

enum { INITIAL_EPOCH = 0, FINAL_EPOCH = -1, KEEP_MS = 120000 };

struct entry_key { struct wire_uuid id; int32_t partition; uint32_t name_hash; };

struct entry {
	UT_hash_handle hh;
	struct entry *prev, *next;  /* in turns */
	struct entry_key key;
	char *topic;                /* owned; "" where topics have ids */
	int32_t current_leader_epoch, last_fetched_epoch, max_bytes;
	int64_t offset, told_high_watermark, told_log_start;
	bool dead;                  /* forgotten while a Fetch that lists it was under way */
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
};

struct sessions {
	pthread_mutex_t lock;
	struct session *table, *by_use; /* by_use: the one used last at the end */
	size_t count, slots;
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

static void free_list(struct entry **list)
{
	for (struct entry *n = *list, *next; n; n = next) {
		next = n->next;
		free(n->topic);
		free(n);
	}
	*list = NULL;
}

/* A Fetch that is under way may list it still. */
static void remove_entry(struct session *x, struct entry *n)
{
	HASH_DEL(x->table, n);
	DL_DELETE(x->turns, n);
	n->dead = true;
	DL_APPEND(x->dead, n);
	if (x->refs == 1)
		free_list(&x->dead);
}

/* locks: the sessions'. */
static void unref(struct session *x)
{
	if (--x->refs == 1 && !x->gone)
		free_list(&x->dead);
	if (x->refs)
		return;
	HASH_CLEAR(hh, x->table);
	free_list(&x->turns);
	free_list(&x->dead);
	free(x);
}

/* locks: the sessions'. */
static void remove_session(struct sessions *s, struct session *x)
{
	HASH_DEL(s->table, x);
	DL_DELETE(s->by_use, x);
	s->count--;
	x->gone = true;
	unref(x);
}

void sessions_free(struct sessions *s)
{
	if (!s)
		return;
	while (s->by_use)
		remove_session(s, s->by_use);
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

static bool put_entry(struct session *x, const struct fetch_request_topic *t, const struct fetch_request_partition *p)
{
	struct entry *n = find_entry(x, t->topic, &t->topic_id, p->partition);
	if (!n) {
		n = calloc(1, sizeof *n);
		if (!n || !(n->topic = strndup(x->by_id || t->topic.n <= 0 ? "" : t->topic.s, x->by_id || t->topic.n <= 0 ? 0 : (size_t)t->topic.n))) {
			free(n);
			return false;
		}
		n->key = key_of(x->by_id, t->topic, &t->topic_id, p->partition);
		n->told_high_watermark = n->told_log_start = -1;
		HASH_ADD(hh, x->table, key, sizeof n->key, n);
		DL_APPEND(x->turns, n);
	}
	n->current_leader_epoch = p->current_leader_epoch;
	n->last_fetched_epoch = p->last_fetched_epoch;
	n->max_bytes = p->partition_max_bytes;
	n->offset = p->fetch_offset;
	return true;
}

/* ---- beginning ---- */

static bool put_all(struct session *x, const struct fetch_request *r)
{
	for (int32_t t = 0; t < r->topics.n; t++)
		for (int32_t k = 0; k < r->topics.v[t].partitions.n; k++)
			if (!put_entry(x, &r->topics.v[t], &r->topics.v[t].partitions.v[k]))
				return false;
	return true;
}

static void forget(struct session *x, const struct fetch_request *r)
{
	for (int32_t t = 0; t < r->forgotten_topics_data.n; t++) {
		const struct fetch_request_forgotten_topic *topic = &r->forgotten_topics_data.v[t];
		for (int32_t k = 0; k < topic->partitions.n; k++) {
			struct entry *n = find_entry(x, topic->topic, &topic->topic_id, topic->partitions.v[k]);
			if (n)
				remove_entry(x, n);
		}
	}
}

static bool list_entries(struct session_fetch *f, void *(*get)(void *arg, size_t n), void *arg)
{
	struct entry *n;
	f->count = (int32_t)HASH_COUNT(f->session->table);
	f->wanted = get(arg, (size_t)f->count * sizeof *f->wanted);
	if (!f->wanted)
		return false;
	struct wanted *w = f->wanted;
	DL_FOREACH(f->session->turns, n)
		*w++ = (struct wanted){wire_string(n->topic), n->key.id, n->key.partition, n->current_leader_epoch, n->last_fetched_epoch, n->max_bytes, n->offset,
				       n->told_high_watermark, n->told_log_start, false, n};
	return true;
}

/* Those of the request itself. */
static bool list_request(struct session_fetch *f, void *(*get)(void *arg, size_t n), void *arg)
{
	const struct fetch_request *r = f->request;
	f->count = 0;
	for (int32_t t = 0; t < r->topics.n; t++)
		f->count += r->topics.v[t].partitions.n;
	struct wanted *w = f->wanted = get(arg, (size_t)f->count * sizeof *f->wanted);
	for (int32_t t = 0; w && t < r->topics.n; t++)
		for (int32_t k = 0; k < r->topics.v[t].partitions.n; k++) {
			const struct fetch_request_partition *p = &r->topics.v[t].partitions.v[k];
			*w++ = (struct wanted){r->topics.v[t].topic, r->topics.v[t].topic_id, p->partition, p->current_leader_epoch, p->last_fetched_epoch,
					       p->partition_max_bytes, p->fetch_offset, -1, -1, false, NULL};
		}
	return f->wanted;
}

/* locks: the sessions'. NULL: there is none to be had. */
static struct session *make_session(struct sessions *s, const struct fetch_request *r, int16_t version, int64_t now_ms)
{
	struct session *x, *other;
	if (s->count >= s->slots && s->by_use && now_ms - s->by_use->used_ms > KEEP_MS)
		remove_session(s, s->by_use);
	if (s->count >= s->slots || !(x = calloc(1, sizeof *x)))
		return NULL;
	x->by_id = version >= 13;
	x->refs = 1;
	x->epoch = 1;
	x->used_ms = now_ms;
	do {
		if (getrandom(&x->id, sizeof x->id, 0) != sizeof x->id)
			abort(); /* the kernel has had its entropy since long before */
		x->id &= INT32_MAX;
		HASH_FIND_INT(s->table, &x->id, other);
	} while (x->id == 0 || other);
	if (!put_all(x, r)) {
		unref(x);
		return NULL;
	}
	HASH_ADD_INT(s->table, id, x);
	DL_APPEND(s->by_use, x);
	s->count++;
	return x;
}

/* locks: the sessions'. */
static int16_t go_on(struct sessions *s, struct session_fetch *f, int64_t now_ms)
{
	const struct fetch_request *r = f->request;
	struct session *x;
	HASH_FIND_INT(s->table, &r->session_id, x);
	if (!x)
		return KAFKA_FETCH_SESSION_ID_NOT_FOUND;
	if (x->epoch != r->session_epoch)
		return KAFKA_INVALID_FETCH_SESSION_EPOCH;
	if (x->by_id != (f->version >= 13))
		return KAFKA_FETCH_SESSION_TOPIC_ID_ERROR;
	forget(x, r);
	if (!put_all(x, r))
		return KAFKA_UNKNOWN_SERVER_ERROR;
	x->epoch = x->epoch == INT32_MAX ? 1 : x->epoch + 1;
	x->used_ms = now_ms;
	DL_DELETE(s->by_use, x);
	DL_APPEND(s->by_use, x);
	f->incremental = true;
	f->session = x;
	return KAFKA_NONE;
}

int16_t session_begin(struct sessions *s, struct session_fetch *f, const struct fetch_request *r, int16_t version, int64_t now_ms, void *(*get)(void *arg, size_t n), void *arg)
{
	int16_t error = KAFKA_NONE;
	*f = (struct session_fetch){.request = r, .version = version};
	bool full = r->session_epoch == INITIAL_EPOCH || r->session_epoch == FINAL_EPOCH;
	if (full && !list_request(f, get, arg))
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
		f->session = make_session(s, r, version, now_ms);
	if (f->session) {
		f->id = f->session->id;
		f->session->refs++;
		if (!list_entries(f, get, arg)) {
			unref(f->session);
			error = KAFKA_UNKNOWN_SERVER_ERROR;
		}
	}
	pthread_mutex_unlock(&s->lock);
	return error;
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
		if (w->had_turn) {
			DL_DELETE(x->turns, n);
			DL_APPEND(x->turns, n);
		}
	}
	pthread_mutex_unlock(&s->lock);
}

void session_end(struct sessions *s, struct session *x)
{
	if (!x)
		return;
	pthread_mutex_lock(&s->lock);
	unref(x);
	pthread_mutex_unlock(&s->lock);
}
