#include "cluster/control/state.h"

/* ---- life ---- */

struct brain *brain_new(const struct brain_options *o)
{
	struct brain *b = calloc(1, sizeof *b);
	if (!b)
		return NULL;
	b->o = *o;
	b->free_topics = -1;
	b->next_wait_ms = INT64_MAX;
	arena_init(&b->batch, 0);
	return b;
}

void brain_free(struct brain *b)
{
	if (!b)
		return;
	for (int32_t row = 0; row < b->parts; row++) {
		for (int k = 0; k < ITEM_KINDS; k++)
			item_drop(&b->part[row], (enum item_kind)k);
	}
	calls_give_up(b);
	for (int32_t t = 0; t < b->topics; t++) {
		if (b->topic[t].name)
			topic_free(b, t);
	}
	for (int32_t i = 0; i < b->brokers; i++)
		broker_release(&b->broker[i]);
	for (size_t i = 0; i < b->changes; i++) {
		free(b->change[i].isr);
		free(b->change[i].replicas);
		free(b->change[i].adding);
		free(b->change[i].removing);
	}
	for (size_t i = 0; i < b->configs_left; i++)
		free(b->config_left[i]);
	free(b->config_left);
	free(b->broker);
	free(b->topic);
	free(b->part);
	free(b->free_part);
	free(b->by_name);
	free(b->by_id);
	free(b->dirty.w);
	free(b->doubted.w);
	free(b->topic_work.w);
	free(b->op);
	free(b->multi);
	free(b->change);
	arena_release(&b->batch);
	free(b);
}

/* ---- loading ---- */

static bool is_list(const struct ids *l)
{
	struct ids_room once = {0};
	if (ids_n(l) > BRAIN_MAX_REPLICAS)
		return false;
	for (int32_t i = 0; i < ids_n(l); i++) {
		if (l->v[i] < 0)
			return false;
		ids_add(&once, l->v[i]);
	}
	return once.n == ids_n(l);
}

static bool is_within(const struct ids *l, const struct ids *whole)
{
	for (int32_t i = 0; i < ids_n(l); i++) {
		if (!ids_has(whole, l->v[i]))
			return false;
	}
	return is_list(l);
}

static int check_assignment(const char *name, const struct brain_assignment *a, int32_t n, struct err *e)
{
	for (int32_t i = 0; i < n; i++) {
		if (!ids_n(a[i].replicas) || !is_list(a[i].replicas) || !is_within(a[i].adding, a[i].replicas) || !is_within(a[i].removing, a[i].replicas))
			return err_set(e, ERR_CORRUPT, "topic %s, partition %d: its replicas in ZooKeeper are none, or contradict each other", name, i);
	}
	return 0;
}

static struct ids *copy(struct brain *b, const struct ids *l)
{
	return brain_need(b, ids_make(l ? l->v : NULL, ids_n(l)));
}

static void assign(struct brain *b, int32_t t, const struct brain_assignment *a, int32_t from)
{
	for (int32_t i = from; i < b->topic[t].parts && brain_ok(b); i++) {
		struct part *p = &b->part[b->topic[t].part[i]];
		p->replicas = copy(b, a[i].replicas);
		p->adding = copy(b, a[i].adding);
		p->removing = copy(b, a[i].removing);
		for (int32_t k = 0; k < ids_n(p->replicas); k++)
			broker_row(b, p->replicas->v[k]);
	}
}

/* An id that is not all zeros and that nobody has. */
static void make_id(struct brain *b, uint8_t id[16])
{
	do {
		for (int i = 0; i < 16; i++) {
			b->o.seed = b->o.seed * 6364136223846793005u + 1442695040888963407u;
			id[i] = (uint8_t)(b->o.seed >> 56);
		}
		id[6] = (uint8_t)((id[6] & 0x0f) | 0x40);
		id[8] = (uint8_t)((id[8] & 0x3f) | 0x80);
	} while (topic_by_id(b, id) >= 0);
}

int brain_load_topic(struct brain *b, const char *name, const uint8_t id[16], int32_t version, const struct brain_assignment *partition, int32_t partitions, struct err *e)
{
	uint8_t own[16];
	bool without = memcmp(id, (const uint8_t[16]){0}, 16) == 0;
	if (!brain_ok(b))
		return brain_failed(b, e);
	int rc = check_assignment(name, partition, partitions, e);
	if (rc < 0)
		return rc;
	if (topic_by_name(b, name, strlen(name)) >= 0 || (!without && topic_by_id(b, id) >= 0))
		return err_set(e, ERR_CORRUPT, "topic %s: another one has its name or its id", name);
	if (without)
		make_id(b, own);
	int32_t t = topic_add(b, name, without ? own : id, partitions);
	if (t < 0)
		return brain_failed(b, e);
	b->topic[t].version = version;
	b->topic[t].id_is_new = without;
	if (without)
		topic_wants_work(b, t);
	assign(b, t, partition, 0);
	return brain_failed(b, e);
}

static struct part *loaded(struct brain *b, const char *topic, int32_t partition)
{
	return brain_ok(b) ? part_find(b, topic_by_name(b, topic, strlen(topic)), partition) : NULL;
}

void brain_load_partitions_node(struct brain *b, const char *topic)
{
	int32_t t = topic_by_name(b, topic, strlen(topic));
	if (t >= 0)
		b->topic[t].has_partitions_node = true;
}

void brain_load_partition_node(struct brain *b, const char *topic, int32_t partition)
{
	struct part *p = loaded(b, topic, partition);
	if (p)
		p->has_node = true;
}

int brain_load_state(struct brain *b, const char *topic, int32_t partition, const struct brain_state *s, int32_t version, struct err *e)
{
	struct part *p = loaded(b, topic, partition);
	if (!p)
		return err_set(e, ERR_CORRUPT, "topic %s, partition %d: it has a state in ZooKeeper, but no replicas", topic, partition);
	if (!ids_n(s->isr) || !is_list(s->isr) || s->leader < NO_LEADER || s->leader_epoch < 0)
		return err_set(e, ERR_CORRUPT, "topic %s, partition %d: its state in ZooKeeper has no in-sync replicas, or contradicts itself", topic, partition);
	struct ids *isr = copy(b, s->isr);
	if (!isr)
		return brain_failed(b, e);
	free(p->isr);
	p->isr = isr;
	p->leader = s->leader;
	p->leader_epoch = s->leader_epoch;
	p->controller_epoch = s->controller_epoch;
	p->recovering = s->recovering;
	p->version = version;
	p->exists = p->has_node = b->topic[p->topic].has_partitions_node = true;
	return 0;
}

void brain_load_config_node(struct brain *b, const char *topic)
{
	int32_t t = topic_by_name(b, topic, strlen(topic));
	if (t >= 0) {
		b->topic[t].has_config = true;
		return;
	}
	for (size_t i = 0; i < b->configs_left; i++)
		if (!strcmp(b->config_left[i], topic))
			return;
	char *name = brain_need(b, strdup(topic));
	if (!name || !brain_grow(b, &b->config_left, sizeof *b->config_left, b->configs_left + 1, &b->configs_left_cap))
		free(name);
	else
		b->config_left[b->configs_left++] = name;
}

bool config_take_left(struct brain *b, const char *topic)
{
	for (size_t i = 0; i < b->configs_left; i++) {
		if (strcmp(b->config_left[i], topic) != 0)
			continue;
		free(b->config_left[i]);
		b->config_left[i] = b->config_left[--b->configs_left];
		return true;
	}
	return false;
}

bool brain_load_deletion(struct brain *b, const char *topic)
{
	int32_t t = topic_by_name(b, topic, strlen(topic));
	if (t < 0)
		return false;
	b->topic[t].phase = TOPIC_DELETING;
	b->topic[t].marked = true;
	topic_wants_work(b, t);
	return true;
}

void brain_start(struct brain *b, int64_t now_ms)
{
	if (!brain_ok(b))
		return;
	b->now_ms = now_ms;
	b->next_balance_ms = now_ms + b->o.balance_interval_ms;
	b->started = true;
	brokers_start(b);
	for (int32_t row = 0; row < b->parts; row++)
		part_dirty(b, row);
	for (int32_t t = 0; t < b->topics; t++) {
		if (b->topic[t].phase == TOPIC_DELETING)
			topic_marked(b, t);
	}
}

/* Whether somebody else's topic is what is known of it, with more partitions at most. */
static bool is_what_is(const struct brain *b, const struct topic *t, const uint8_t id[16], const struct brain_assignment *a, int32_t n)
{
	if (memcmp(t->id, id, 16) != 0 || n < t->grows_from)
		return false;
	for (int32_t i = 0; i < t->grows_from; i++) {
		const struct part *p = &b->part[t->part[i]];
		if (!ids_same(p->replicas, a[i].replicas) || !ids_same(p->adding, a[i].adding) || !ids_same(p->removing, a[i].removing))
			return false;
	}
	return true;
}

int brain_topic_appeared(struct brain *b, const char *name, const uint8_t id[16], int32_t version, const struct brain_assignment *partition, int32_t partitions, struct err *e)
{
	int32_t t = topic_by_name(b, name, strlen(name)), before = 0;
	if (t < 0) {
		int rc = brain_load_topic(b, name, id, version, partition, partitions, e);
		t = topic_by_name(b, name, strlen(name));
		if (rc < 0)
			return rc;
	} else {
		struct topic *topic = &b->topic[t];
		if (topic->phase != TOPIC_LIVE || version <= topic->version || b->writing)
			return 0; /* our own, or older than what is known */
		int rc = check_assignment(name, partition, partitions, e);
		if (rc < 0)
			return rc;
		if (topic->grows_from < topic->parts || !is_what_is(b, topic, id, partition, partitions)) {
			brain_fail(b, ERR_BUSY, "somebody else has changed a topic's replicas in ZooKeeper: all is read again");
			return brain_failed(b, e);
		}
		before = topic->parts;
		topic->version = version;
		if (!topic_add_parts(b, t, partitions - before))
			return brain_failed(b, e);
		assign(b, t, partition, before);
	}
	for (int32_t i = before; i < b->topic[t].parts; i++)
		part_dirty(b, b->topic[t].part[i]);
	return brain_failed(b, e);
}

/* ---- what changes without anybody's doing ---- */

static void look_at_leaderless(struct brain *b, int32_t topic)
{
	for (int32_t row = 0; row < b->parts; row++) {
		const struct part *p = &b->part[row];
		if (part_is_live(b, p) && (topic < 0 || p->topic == topic) && !broker_alive(broker_find(b, p->leader)))
			part_dirty(b, row);
	}
}

void brain_topic_unclean(struct brain *b, const char *topic, int allowed)
{
	int32_t t = topic_by_name(b, topic, strlen(topic));
	if (!brain_ok(b) || t < 0)
		return;
	b->topic[t].unclean = (int8_t)allowed;
	if (b->started && topic_is_unclean(b, &b->topic[t]))
		look_at_leaderless(b, t);
}

void brain_unclean_default(struct brain *b, bool allowed)
{
	b->o.unclean_elections = allowed;
	if (brain_ok(b) && b->started && allowed)
		look_at_leaderless(b, -1);
}

void brain_tick(struct brain *b, int64_t now_ms)
{
	if (!brain_ok(b) || !b->started)
		return;
	b->now_ms = now_ms;
	elect_look(b, now_ms);
	if (now_ms < b->next_wait_ms)
		return;
	b->next_wait_ms = INT64_MAX;
	for (int32_t row = 0; row < b->parts; row++) {
		if (b->part[row].waits_since_ms >= 0 || b->part[row].end)
			part_dirty(b, row);
	}
}

int64_t brain_deadline(const struct brain *b)
{
	int64_t balance = b->o.auto_balance ? b->next_balance_ms : INT64_MAX;
	return balance < b->next_wait_ms ? balance : b->next_wait_ms;
}

/* ---- looking ---- */

bool brain_view(const struct brain *b, const char *topic, int32_t partition, struct brain_view *v)
{
	const struct part *p = part_find(b, topic_by_name(b, topic, strlen(topic)), partition);
	if (!p)
		return false;
	*v = (struct brain_view){p->leader, p->leader_epoch, p->version, p->replicas, p->adding, p->removing, p->isr, p->exists, p->recovering};
	return true;
}

int32_t brain_partitions(const struct brain *b, const char *topic)
{
	int32_t t = topic_by_name(b, topic, strlen(topic));
	return t >= 0 ? b->topic[t].parts : -1;
}

bool brain_alive(const struct brain *b, int32_t broker)
{
	return broker_alive(broker_find(b, broker));
}
