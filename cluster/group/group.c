/*
 * What a group consists of: members, protocols, offsets. No decisions: those are in group_join.c, group_sync.c and group_offsets.c.
 */
#include "cluster/group/group.h"

#include <assert.h>
#include <stdlib.h>

#include "store/buf.h"

/* ---- blobs and strings ---- */

struct blob *blob_new(struct gstr s)
{
	int32_t n = s.p ? s.n : 0;
	struct blob *b = malloc(sizeof *b + (size_t)n);
	if (!b)
		return NULL;
	b->refs = 1;
	b->n = n;
	if (n)
		memcpy(b->data, s.p, (size_t)n);
	return b;
}

struct blob *blob_ref(struct blob *b)
{
	if (b)
		atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
	return b;
}

void blob_unref(struct blob *b)
{
	if (b && atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) == 1)
		free(b);
}

/* The next character at *p; bytes that are no UTF-8 are U+FFFD each, as good as what Java makes of them. */
static uint32_t next_char(const uint8_t **p, const uint8_t *end)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	const uint8_t *c = (*p)++;
	int n = *c < 0x80 ? 1 : *c >= 0xc2 && *c < 0xe0 ? 2 : (*c & 0xf0) == 0xe0 ? 3 : *c >= 0xf0 && *c < 0xf5 ? 4 : 0;
	uint32_t v = n == 1 ? *c : *c & (0x7fu >> n);
	if (!n || n > end - c)
		return 0xfffd;
	for (int i = 1; i < n; i++) {
		if ((c[i] & 0xc0) != 0x80)
			return 0xfffd;
		v = v << 6 | (c[i] & 0x3f);
	}
	if (v < least[n] || v > 0x10ffff || (v >= 0xd800 && v < 0xe000))
		return 0xfffd;
	*p = c + n;
	return v;
}

int32_t java_hash(struct gstr s)
{
	const uint8_t *p = s.p, *end = p + (s.p ? s.n : 0);
	uint32_t h = 0;
	while (p < end) {
		uint32_t v = next_char(&p, end);
		if (v >= 0x10000) {
			h = 31 * h + (0xd7c0 + (v >> 10));
			v = 0xdc00 | (v & 0x3ff);
		}
		h = 31 * h + v;
	}
	return (int32_t)h;
}

int32_t java_length(struct gstr s)
{
	const uint8_t *p = s.p, *end = p + (s.p ? s.n : 0);
	int32_t n = 0;
	while (p < end)
		n += next_char(&p, end) >= 0x10000 ? 2 : 1;
	return n;
}

/* ---- state ---- */

/* Which states may follow (the table in group.h). */
static const uint8_t follows[] = {
	[GROUP_EMPTY] = 1 << GROUP_PREPARING | 1 << GROUP_DEAD,
	[GROUP_PREPARING] = 1 << GROUP_COMPLETING | 1 << GROUP_EMPTY | 1 << GROUP_DEAD,
	[GROUP_COMPLETING] = 1 << GROUP_PREPARING | 1 << GROUP_STABLE | 1 << GROUP_DEAD,
	[GROUP_STABLE] = 1 << GROUP_PREPARING | 1 << GROUP_DEAD,
	[GROUP_DEAD] = 1 << GROUP_DEAD,
};

const char *group_state_name(enum group_state s)
{
	static const char *const name[] = {
		[GROUP_EMPTY] = "Empty", [GROUP_PREPARING] = "PreparingRebalance", [GROUP_COMPLETING] = "CompletingRebalance", [GROUP_STABLE] = "Stable", [GROUP_DEAD] = "Dead",
	};
	return name[s];
}

bool group_can_rebalance(const struct group *g)
{
	return follows[g->state] & 1 << GROUP_PREPARING;
}

void group_set_state(struct group *g, enum group_state s)
{
	assert(follows[g->state] & 1 << s);
	assert(s != GROUP_EMPTY || !g->member_count);
	assert(s != GROUP_COMPLETING || (g->leader && g->protocol));
	assert(s != GROUP_STABLE || g->protocol);
	g->previous = g->state;
	g->state = s;
	g->state_ms = wall_now_ms();
}

bool group_is_consumer(const struct group *g)
{
	return g->protocol_type && blob_is(g->protocol_type, GSTR("consumer"));
}

int group_set_protocol_type(struct group *g, struct gstr type)
{
	struct blob *b = blob_new(type);
	if (!b)
		return ERR_NO_MEMORY;
	blob_unref(g->protocol_type);
	g->protocol_type = b;
	return 0;
}

/* ---- protocols ---- */

void protocols_free(struct protocol *p, size_t count)
{
	for (size_t i = 0; p && i < count; i++) {
		blob_unref(p[i].name);
		blob_unref(p[i].metadata);
	}
	free(p);
}

struct protocol *protocols_new(const struct group_protocol *from, size_t count)
{
	struct protocol *p = calloc(count ? count : 1, sizeof *p);
	for (size_t i = 0; p && i < count; i++) {
		p[i].name = blob_new(from[i].name);
		p[i].metadata = blob_new(from[i].metadata);
		if (!p[i].name || !p[i].metadata) {
			protocols_free(p, count);
			p = NULL;
		}
	}
	return p;
}

struct protocol *protocols_share(const struct protocol *from, size_t count)
{
	struct protocol *p = calloc(count ? count : 1, sizeof *p);
	for (size_t i = 0; p && i < count; i++)
		p[i] = (struct protocol){blob_ref(from[i].name), blob_ref(from[i].metadata)};
	return p;
}

bool member_has_protocols(const struct member *m, const struct group_protocol *p, size_t count)
{
	if (m->protocol_count != count)
		return false;
	for (size_t i = 0; i < count; i++)
		if (!blob_is(m->protocols[i].name, p[i].name) || !blob_is(m->protocols[i].metadata, p[i].metadata.p ? p[i].metadata : GSTR("")))
			return false;
	return true;
}

struct blob *member_metadata(const struct member *m, const struct blob *protocol)
{
	for (size_t i = 0; protocol && i < m->protocol_count; i++)
		if (blob_is(m->protocols[i].name, blob_str(protocol)))
			return m->protocols[i].metadata;
	return NULL;
}

static struct supported *supported_find(struct group *g, struct gstr name)
{
	struct supported *s;
	HASH_FIND(hh, g->supported, name.p, (size_t)name.n, s);
	return s;
}

/* A client that names a protocol twice counts once. */
static bool is_repeated(const struct protocol *p, size_t i)
{
	for (size_t k = 0; k < i; k++)
		if (blob_is(p[k].name, blob_str(p[i].name)))
			return true;
	return false;
}

static void uncount_protocols(struct group *g, const struct protocol *p, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct supported *s = is_repeated(p, i) ? NULL : supported_find(g, blob_str(p[i].name));
		if (s && --s->count == 0) {
			HASH_DELETE(hh, g->supported, s);
			blob_unref(s->name);
			free(s);
		}
	}
}

static int count_protocols(struct group *g, const struct protocol *p, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (is_repeated(p, i))
			continue;
		struct supported *s = supported_find(g, blob_str(p[i].name));
		if (!s && (s = calloc(1, sizeof *s))) {
			s->name = blob_ref(p[i].name);
			HASH_ADD_KEYPTR(hh, g->supported, s->name->data, (size_t)s->name->n, s);
			if (!s->hh.tbl) {
				blob_unref(s->name);
				free(s);
				s = NULL;
			}
		}
		if (!s) {
			uncount_protocols(g, p, i);
			return ERR_NO_MEMORY;
		}
		s->count++;
	}
	return 0;
}

int group_set_protocols(struct group *g, struct member *m, struct protocol *p, size_t count)
{
	if (count_protocols(g, p, count) < 0) {
		protocols_free(p, count);
		return ERR_NO_MEMORY;
	}
	uncount_protocols(g, m->protocols, m->protocol_count);
	protocols_free(m->protocols, m->protocol_count);
	m->protocols = p;
	m->protocol_count = count;
	return 0;
}

bool group_supports(struct group *g, struct gstr type, const struct group_protocol *p, size_t count)
{
	if (g->state == GROUP_EMPTY)
		return type.n > 0 && count > 0;
	if (!g->protocol_type || !blob_is(g->protocol_type, type))
		return false;
	for (size_t i = 0; i < count; i++) {
		struct supported *s = supported_find(g, p[i].name);
		if ((s ? s->count : 0) == g->member_count)
			return true;
	}
	return false;
}

/* Each member votes for the first it has of those that all have; the most votes win. */
struct blob *group_select_protocol(struct group *g)
{
	struct supported *best = NULL;
	for (struct supported *s = g->supported; s; s = s->hh.next)
		s->votes = 0;
	for (struct member *m = g->members; m; m = m->hh.next) {
		struct supported *s = NULL;
		for (size_t i = 0; i < m->protocol_count && !s; i++)
			if ((s = supported_find(g, blob_str(m->protocols[i].name))) && s->count != g->member_count)
				s = NULL;
		if (s)
			s->votes++;
	}
	for (struct supported *s = g->supported; s; s = s->hh.next)
		if (s->votes && (!best || s->votes > best->votes))
			best = s;
	return best ? best->name : NULL;
}

/* ---- what a consumer group is subscribed to ---- */

static void forget_subscriptions(struct group *g)
{
	struct topic_name *t, *next;
	HASH_ITER(hh, g->subscribed, t, next) {
		HASH_DELETE(hh, g->subscribed, t);
		blob_unref(t->name);
		free(t);
	}
	g->subscribed_known = false;
}

static bool add_subscription(struct group *g, struct gstr name)
{
	struct topic_name *t;
	HASH_FIND(hh, g->subscribed, name.p, (size_t)name.n, t);
	if (t)
		return true;
	if (!(t = calloc(1, sizeof *t)) || !(t->name = blob_new(name))) {
		free(t);
		return false;
	}
	HASH_ADD_KEYPTR(hh, g->subscribed, t->name->data, (size_t)t->name->n, t);
	if (t->hh.tbl)
		return true;
	blob_unref(t->name);
	free(t);
	return false;
}

/* The metadata of a consumer begins, in every version, as in version 0: version i16, the topics (i32, strings), user data (bytes, may be null). */
static bool add_subscriptions(struct group *g, const struct blob *metadata)
{
	struct rd r;
	rd_init(&r, metadata->data, (size_t)metadata->n);
	int16_t version = rd_i16(&r);
	int32_t topics = rd_i32(&r);
	if (version < 0 || topics < 0)
		return false;
	while (topics-- > 0 && !r.failed) {
		int16_t n = rd_i16(&r);
		const uint8_t *p = n < 0 ? NULL : rd_bytes(&r, (size_t)n);
		if (!p || !add_subscription(g, (struct gstr){p, n}))
			return false;
	}
	int32_t user = rd_i32(&r);
	if (user > 0)
		rd_skip(&r, (size_t)user);
	return !r.failed && user >= -1;
}

void group_learn_subscriptions(struct group *g)
{
	forget_subscriptions(g);
	if (!group_is_consumer(g) || (g->member_count && !g->protocol))
		return;
	for (struct member *m = g->members; m; m = m->hh.next) {
		struct blob *metadata = member_metadata(m, g->protocol);
		if (!metadata || !add_subscriptions(g, metadata)) {
			forget_subscriptions(g);
			return;
		}
	}
	g->subscribed_known = true;
}

bool group_is_subscribed(struct group *g, struct gstr topic)
{
	struct topic_name *t;
	if (!g->subscribed_known)
		return group_is_consumer(g);
	HASH_FIND(hh, g->subscribed, topic.p, (size_t)topic.n, t);
	return t != NULL;
}

/* ---- members ---- */

struct member *member_new(struct gstr id, struct gstr instance_id, struct gstr client_id, struct gstr client_host)
{
	struct member *m = calloc(1, sizeof *m);
	if (!m)
		return NULL;
	m->refs = 1;
	m->id = blob_new(id);
	m->client_id = blob_new(client_id);
	m->client_host = blob_new(client_host);
	if (instance_id.p)
		m->instance_id = blob_new(instance_id);
	if (!m->id || !m->client_id || !m->client_host || (instance_id.p && !m->instance_id)) {
		member_unref(m);
		return NULL;
	}
	return m;
}

void member_ref(struct member *m)
{
	m->refs++;
}

void member_unref(struct member *m)
{
	if (--m->refs)
		return;
	blob_unref(m->id);
	blob_unref(m->instance_id);
	blob_unref(m->client_id);
	blob_unref(m->client_host);
	blob_unref(m->assignment);
	blob_unref(m->next_assignment);
	protocols_free(m->protocols, m->protocol_count);
	free(m);
}

bool member_is_heard(const struct member *m)
{
	return !m->is_new && (m->join || m->sync);
}

struct member *group_find_member(struct group *g, struct gstr id)
{
	struct member *m;
	HASH_FIND(hh, g->members, id.p, (size_t)id.n, m);
	return m;
}

struct member *group_static_member(struct group *g, struct gstr instance_id)
{
	struct member *m;
	HASH_FIND(by_instance, g->statics, instance_id.p, (size_t)instance_id.n, m);
	return m;
}

static bool table_add(struct group *g, struct member *m)
{
	HASH_ADD_KEYPTR(hh, g->members, m->id->data, (size_t)m->id->n, m);
	if (!m->hh.tbl)
		return false;
	if (!m->instance_id)
		return true;
	HASH_ADD_KEYPTR(by_instance, g->statics, m->instance_id->data, (size_t)m->instance_id->n, m);
	if (m->by_instance.tbl)
		return true;
	HASH_DELETE(hh, g->members, m);
	return false;
}

static void table_remove(struct group *g, struct member *m)
{
	HASH_DELETE(hh, g->members, m);
	if (m->instance_id)
		HASH_DELETE(by_instance, g->statics, m);
	m->in_group = false;
}

int group_add_member(struct group *g, struct member *m)
{
	if (count_protocols(g, m->protocols, m->protocol_count) < 0)
		return ERR_NO_MEMORY;
	if (!table_add(g, m)) {
		uncount_protocols(g, m->protocols, m->protocol_count);
		return ERR_NO_MEMORY;
	}
	m->in_group = true;
	mirror_changed(g, true);
	g->member_count++;
	g->joining += m->join != NULL;
	if (!g->leader)
		g->leader = m;
	return 0;
}

void group_remove_member(struct group *g, struct member *m)
{
	assert(!m->join && !m->sync);
	uncount_protocols(g, m->protocols, m->protocol_count);
	table_remove(g, m);
	mirror_changed(g, true);
	g->member_count--;
	g->pending_syncs -= m->pending_sync;
	m->pending_sync = false;
	if (g->leader == m)
		g->leader = g->members;
	member_unref(m);
}

int group_swap_member(struct group *g, struct member *old, struct member *new)
{
	assert(!old->join && !old->sync && !new->protocols);
	table_remove(g, old);
	if (!table_add(g, new)) {
		bool back = table_add(g, old); /* the room it had is there */
		assert(back);
		(void)back;
		old->in_group = true;
		return ERR_NO_MEMORY;
	}
	new->in_group = true;
	mirror_changed(g, true);
	new->protocols = old->protocols;
	new->protocol_count = old->protocol_count;
	blob_unref(new->assignment);
	new->assignment = blob_ref(old->assignment);
	new->session_timeout_ms = old->session_timeout_ms;
	new->rebalance_timeout_ms = old->rebalance_timeout_ms;
	old->protocols = NULL;
	old->protocol_count = 0;
	g->pending_syncs -= old->pending_sync;
	old->pending_sync = false;
	if (g->leader == old)
		g->leader = new;
	member_unref(old);
	return 0;
}

struct pending_member *group_pending_member(struct group *g, struct gstr id)
{
	struct pending_member *p;
	HASH_FIND(hh, g->pending, id.p, (size_t)id.n, p);
	return p;
}

struct pending_member *group_add_pending(struct group *g, struct gstr id)
{
	struct pending_member *p = calloc(1, sizeof *p);
	if (!p || !(p->id = blob_new(id))) {
		free(p);
		return NULL;
	}
	HASH_ADD_KEYPTR(hh, g->pending, p->id->data, (size_t)p->id->n, p);
	if (!p->hh.tbl) {
		blob_unref(p->id);
		free(p);
		return NULL;
	}
	g->pending_count++;
	return p;
}

void group_remove_pending(struct group *g, struct pending_member *p)
{
	HASH_DELETE(hh, g->pending, p);
	g->pending_count--;
	blob_unref(p->id);
	free(p);
}

bool group_all_joined(const struct group *g)
{
	return g->member_count == g->joining && !g->pending_count;
}

int32_t group_rebalance_timeout_ms(const struct group *g)
{
	int32_t most = 0;
	for (struct member *m = g->members; m; m = m->hh.next)
		if (m->rebalance_timeout_ms > most)
			most = m->rebalance_timeout_ms;
	return most;
}

void group_clear_pending_syncs(struct group *g)
{
	for (struct member *m = g->pending_syncs ? g->members : NULL; m; m = m->hh.next)
		m->pending_sync = false;
	g->pending_syncs = 0;
}

/* ---- offsets ---- */

struct offset_topic *group_topic(struct group *g, struct gstr name, bool make)
{
	struct offset_topic *t;
	HASH_FIND(hh, g->topics, name.p, (size_t)name.n, t);
	if (t || !make)
		return t;
	if (!(t = calloc(1, sizeof *t)) || !(t->name = blob_new(name))) {
		free(t);
		return NULL;
	}
	HASH_ADD_KEYPTR(hh, g->topics, t->name->data, (size_t)t->name->n, t);
	if (!t->hh.tbl) {
		blob_unref(t->name);
		free(t);
		return NULL;
	}
	return t;
}

struct offset_entry *topic_offset(struct offset_topic *t, int32_t partition)
{
	struct offset_entry *o = NULL;
	if (t)
		HASH_FIND(hh, t->entries, &partition, sizeof partition, o);
	return o;
}

static void topic_drop_empty(struct group *g, struct offset_topic *t)
{
	if (t->entries)
		return;
	HASH_DELETE(hh, g->topics, t);
	blob_unref(t->name);
	free(t);
}

static struct offset_entry *make_entry(struct group *g, struct offset_topic *t, int32_t partition)
{
	struct offset_entry *o = calloc(1, sizeof *o);
	if (o) {
		o->partition = partition;
		HASH_ADD(hh, t->entries, partition, sizeof o->partition, o);
		if (!o->hh.tbl) {
			free(o);
			o = NULL;
		}
	}
	if (!o)
		topic_drop_empty(g, t);
	return o;
}

static void free_entry(struct offset_topic *t, struct offset_entry *o)
{
	HASH_DELETE(hh, t->entries, o);
	blob_unref(o->metadata);
	free(o);
}

int group_put_offset(struct group *g, struct gstr topic, const struct offset_entry *from)
{
	struct offset_topic *t = group_topic(g, topic, true);
	struct offset_entry *o = topic_offset(t, from->partition);
	if (o && o->log_offset > from->log_offset) {
		blob_unref(from->metadata);
		return 0;
	}
	if (!o) {
		if (!t || !(o = make_entry(g, t, from->partition))) {
			blob_unref(from->metadata);
			return ERR_NO_MEMORY;
		}
		g->offset_count++;
	} else if (o->removed) {
		g->removed_count--;
		g->offset_count++;
	}
	blob_unref(o->metadata);
	o->leader_epoch = from->leader_epoch;
	o->offset = from->offset;
	o->commit_ms = from->commit_ms;
	o->expire_ms = from->expire_ms;
	o->log_offset = from->log_offset;
	o->metadata = from->metadata;
	memcpy(o->topic_id, from->topic_id, sizeof o->topic_id);
	o->removed = false;
	return 0;
}

void group_remove_offset(struct group *g, struct gstr topic, int32_t partition, int64_t log_offset, bool keep_mark)
{
	struct offset_topic *t = group_topic(g, topic, keep_mark);
	struct offset_entry *o = topic_offset(t, partition);
	if (o && o->log_offset > log_offset)
		return;
	if (o && !o->removed)
		g->offset_count--;
	if (o && o->mirrored)
		mirror_offset_gone(g, t->name, partition);
	if (o)
		o->mirrored = 0;
	if (keep_mark && t) {
		if (o ? !o->removed : (o = make_entry(g, t, partition)) != NULL)
			g->removed_count++;
		if (o) {
			o->removed = true;
			o->log_offset = log_offset;
		}
	} else if (o) {
		g->removed_count -= o->removed;
		free_entry(t, o);
		topic_drop_empty(g, t);
	}
}

void group_drop_marks(struct group *g)
{
	struct offset_topic *t, *next_topic;
	struct offset_entry *o, *next;
	if (!g->removed_count)
		return;
	HASH_ITER(hh, g->topics, t, next_topic) {
		HASH_ITER(hh, t->entries, o, next)
			if (o->removed)
				free_entry(t, o);
		topic_drop_empty(g, t);
	}
	g->removed_count = 0;
}

/* ---- life ---- */

struct group *group_new(struct shard *s, struct gstr id)
{
	struct group *g = calloc(1, sizeof *g);
	if (!g || !(g->id = blob_new(id))) {
		free(g);
		return NULL;
	}
	g->refs = 1;
	g->coordinator = s->coordinator;
	g->shard = s;
	g->previous = GROUP_DEAD;
	g->state_ms = wall_now_ms();
	g->timer.fire = group_timer_fired;
	g->timer.arg = g;
	pthread_mutex_init(&g->lock, NULL);
	return g;
}

void group_ref(struct group *g)
{
	atomic_fetch_add_explicit(&g->refs, 1, memory_order_relaxed);
}

void group_forget_foreign(struct group *g)
{
	struct foreign_key *f, *next;
	HASH_ITER(hh, g->foreign, f, next) {
		HASH_DELETE(hh, g->foreign, f);
		blob_unref(f->key);
		free(f);
	}
}

static void free_contents(struct group *g)
{
	struct offset_topic *t, *next_topic;
	struct offset_entry *o, *next;
	HASH_ITER(hh, g->topics, t, next_topic) {
		HASH_ITER(hh, t->entries, o, next)
			free_entry(t, o);
		topic_drop_empty(g, t);
	}
	group_forget_foreign(g);
	forget_subscriptions(g);
	while (g->pending)
		group_remove_pending(g, g->pending);
	while (g->members)
		group_remove_member(g, g->members);
}

void group_unref(struct group *g)
{
	if (!g || atomic_fetch_sub_explicit(&g->refs, 1, memory_order_acq_rel) > 1)
		return;
	timer_cancel(g->coordinator->timers, &g->timer); /* waits for one that fires: it finds no references, and leaves */
	g->live = false;
	free_contents(g);
	assert(!g->writes && !g->fetches && !g->supported);
	mirrored_free(g->mirrored);
	blob_unref(g->id);
	blob_unref(g->protocol_type);
	blob_unref(g->protocol);
	journal_unref(g->journal);
	pthread_mutex_destroy(&g->lock);
	free(g);
}

bool group_is_idle(const struct group *g)
{
	return !g->member_count && !g->pending_count && !g->offset_count && !g->writes;
}
