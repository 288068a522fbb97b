#include "cluster/control/state.h"

/* ---- failing ---- */

void brain_fail(struct brain *b, int code, const char *text)
{
	if (!b->err.code)
		err_set(&b->err, code, "%s", text);
	b->err.code = code;
}

bool brain_ok(struct brain *b)
{
	return !b->err.code;
}

void *brain_need(struct brain *b, void *p)
{
	if (!p)
		brain_fail(b, ERR_NO_MEMORY, "the controller has no memory left");
	return p;
}

bool brain_grow(struct brain *b, void *array, size_t element, size_t want, size_t *cap)
{
	if (want <= *cap)
		return true;
	size_t n = *cap * 2 > want ? *cap * 2 : want < 16 ? 16 : want;
	void *old, *grown;
	memcpy(&old, array, sizeof old);
	grown = realloc(old, n * element);
	if (!brain_need(b, grown))
		return false;
	memcpy(array, &grown, sizeof grown);
	*cap = n;
	return true;
}

int brain_failed(const struct brain *b, struct err *e)
{
	return b->err.code ? err_set(e, b->err.code, "%s", b->err.text) : 0;
}

/* ---- sets ---- */

static size_t words_for(int32_t rows)
{
	return ((size_t)rows + 63) / 64;
}

static bool bits_resize(struct brain *b, struct bits *s, int32_t from, int32_t to)
{
	uint64_t *w = realloc(s->w, words_for(to) * sizeof *w);
	if (!brain_need(b, w))
		return false;
	memset(w + words_for(from), 0, (words_for(to) - words_for(from)) * sizeof *w);
	s->w = w;
	return true;
}

enum { BROKER_SETS = 9 };

static void broker_sets(struct broker *r, struct bits **all)
{
	struct bits *sets[BROKER_SETS] = {&r->lost, &r->offline, &r->fresh, &r->states, &r->states_sent, &r->metadata, &r->metadata_sent, &r->ends, &r->ends_sent};
	memcpy(all, sets, sizeof sets);
}

int32_t bits_list(const struct brain *b, const struct bits *s, int32_t *out)
{
	int32_t n = 0;
	for (size_t i = 0; i < words_for(b->parts); i++) {
		for (uint64_t w = s->w[i]; w; w &= w - 1)
			out[n++] = (int32_t)(i * 64) + __builtin_ctzll(w);
	}
	return n;
}

bool bits_any(const struct brain *b, const struct bits *s)
{
	for (size_t i = 0; i < words_for(b->parts); i++) {
		if (s->w[i])
			return true;
	}
	return false;
}

void bits_none(const struct brain *b, struct bits *s)
{
	if (b->parts_cap)
		memset(s->w, 0, words_for(b->parts_cap) * sizeof *s->w);
}

/* ---- brokers ---- */

/* The place of that id, or of the first above it. */
static int32_t broker_place(const struct brain *b, int32_t id)
{
	int32_t low = 0, high = b->brokers;
	while (low < high) {
		int32_t mid = (low + high) / 2;
		if (b->broker[mid].id < id)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

struct broker *broker_find(const struct brain *b, int32_t id)
{
	int32_t at = broker_place(b, id);
	return at < b->brokers && b->broker[at].id == id ? &b->broker[at] : NULL;
}

struct broker *broker_row(struct brain *b, int32_t id)
{
	struct broker *found = broker_find(b, id);
	if (found)
		return found;
	size_t cap = (size_t)b->brokers_cap;
	if (!brain_grow(b, &b->broker, sizeof *b->broker, (size_t)b->brokers + 1, &cap))
		return NULL;
	b->brokers_cap = (int32_t)cap;
	struct broker r = {.id = id, .epoch = -1, .ledger = {.settled_epoch = -1, .fenced_epoch = -1}, .ledger_version = -1};
	struct bits *set[BROKER_SETS];
	broker_sets(&r, set);
	for (int i = 0; i < BROKER_SETS; i++) {
		if (!bits_resize(b, set[i], 0, b->parts_cap)) {
			broker_release(&r);
			return NULL;
		}
	}
	int32_t at = broker_place(b, id);
	memmove(&b->broker[at + 1], &b->broker[at], (size_t)(b->brokers - at) * sizeof *b->broker);
	b->broker[at] = r;
	b->brokers++;
	return &b->broker[at];
}

void broker_release(struct broker *r)
{
	struct bits *set[BROKER_SETS];
	broker_sets(r, set);
	for (int i = 0; i < BROKER_SETS; i++)
		free(set[i]->w);
	for (size_t i = 0; i < r->endpoints; i++) {
		free((char *)r->endpoint[i].listener);
		free((char *)r->endpoint[i].host);
	}
	free(r->endpoint);
	free(r->rack);
	free(r->stop);
}

/* ---- topics ---- */

static uint32_t hash(const void *p, size_t n)
{
	uint32_t h = 2166136261u;
	for (const uint8_t *c = p; n--; c++)
		h = (h ^ *c) * 16777619u;
	return h ^ h >> 15;
}

int32_t topic_by_name(const struct brain *b, const char *name, size_t n)
{
	if (!b->slots)
		return -1;
	int32_t t = b->by_name[hash(name, n) & (uint32_t)(b->slots - 1)];
	while (t >= 0 && (strlen(b->topic[t].name) != n || memcmp(b->topic[t].name, name, n) != 0))
		t = b->topic[t].next_name;
	return t;
}

int32_t topic_by_id(const struct brain *b, const uint8_t id[16])
{
	if (!b->slots)
		return -1;
	int32_t t = b->by_id[hash(id, 16) & (uint32_t)(b->slots - 1)];
	while (t >= 0 && memcmp(b->topic[t].id, id, 16) != 0)
		t = b->topic[t].next_id;
	return t;
}

static void put_name(struct brain *b, int32_t t)
{
	int32_t *slot = &b->by_name[hash(b->topic[t].name, strlen(b->topic[t].name)) & (uint32_t)(b->slots - 1)];
	b->topic[t].next_name = *slot;
	*slot = t;
}

static void put_id(struct brain *b, int32_t t)
{
	int32_t *slot = &b->by_id[hash(b->topic[t].id, 16) & (uint32_t)(b->slots - 1)];
	b->topic[t].next_id = *slot;
	*slot = t;
}

void topic_forget_name(struct brain *b, int32_t t)
{
	int32_t *at = &b->by_name[hash(b->topic[t].name, strlen(b->topic[t].name)) & (uint32_t)(b->slots - 1)];
	while (*at != t)
		at = &b->topic[*at].next_name;
	*at = b->topic[t].next_name;
}

static void forget_id(struct brain *b, int32_t t)
{
	int32_t *at = &b->by_id[hash(b->topic[t].id, 16) & (uint32_t)(b->slots - 1)];
	while (*at != t)
		at = &b->topic[*at].next_id;
	*at = b->topic[t].next_id;
}

static bool grow_slots(struct brain *b)
{
	if (b->topics < b->slots)
		return true;
	int32_t slots = b->slots ? b->slots * 2 : 64;
	int32_t *names = malloc((size_t)slots * sizeof *names), *ids = malloc((size_t)slots * sizeof *ids);
	if (!names || !ids) {
		free(names);
		free(ids);
		return brain_need(b, NULL);
	}
	free(b->by_name);
	free(b->by_id);
	b->by_name = names;
	b->by_id = ids;
	b->slots = slots;
	memset(names, 0xff, (size_t)slots * sizeof *names);
	memset(ids, 0xff, (size_t)slots * sizeof *ids);
	for (int32_t t = 0; t < b->topics; t++) {
		if (!b->topic[t].name)
			continue;
		if (b->topic[t].phase != TOPIC_GONE)
			put_name(b, t);
		put_id(b, t);
	}
	return true;
}

static int32_t topic_row(struct brain *b)
{
	if (b->free_topics >= 0) {
		int32_t t = b->free_topics;
		b->free_topics = b->topic[t].next_name;
		return t;
	}
	size_t cap = (size_t)b->topics_cap;
	if (!brain_grow(b, &b->topic, sizeof *b->topic, (size_t)b->topics + 1, &cap))
		return -1;
	if (cap > (size_t)b->topic_work_cap) {
		if (!bits_resize(b, &b->topic_work, b->topic_work_cap, (int32_t)cap))
			return -1;
		b->topic_work_cap = (int32_t)cap;
	}
	b->topics_cap = (int32_t)cap;
	return b->topics++;
}

int32_t topic_add(struct brain *b, const char *name, const uint8_t id[16], int32_t parts)
{
	char *copy = brain_need(b, strdup(name));
	int32_t t = copy && grow_slots(b) ? topic_row(b) : -1;
	if (t < 0) {
		free(copy);
		return -1;
	}
	b->topic[t] = (struct topic){.name = copy, .phase = TOPIC_LIVE, .unclean = -1};
	memcpy(b->topic[t].id, id, 16);
	put_name(b, t);
	put_id(b, t);
	return topic_add_parts(b, t, parts) ? t : -1;
}

static bool grow_parts(struct brain *b, int32_t want)
{
	if (want <= b->parts_cap)
		return true;
	int32_t cap = b->parts_cap * 2 > want ? b->parts_cap * 2 : want < 256 ? 256 : want;
	struct part *part = realloc(b->part, (size_t)cap * sizeof *part);
	if (!brain_need(b, part))
		return false;
	b->part = part;
	int32_t *free_part = realloc(b->free_part, (size_t)cap * sizeof *free_part);
	if (!brain_need(b, free_part))
		return false;
	b->free_part = free_part;
	if (!bits_resize(b, &b->dirty, b->parts_cap, cap) || !bits_resize(b, &b->doubted, b->parts_cap, cap))
		return false;
	for (int32_t i = 0; i < b->brokers; i++) {
		struct bits *set[BROKER_SETS];
		broker_sets(&b->broker[i], set);
		for (int k = 0; k < BROKER_SETS; k++) {
			if (!bits_resize(b, set[k], b->parts_cap, cap))
				return false;
		}
	}
	b->parts_cap = cap;
	return true;
}

bool topic_add_parts(struct brain *b, int32_t t, int32_t n)
{
	struct topic *topic = &b->topic[t];
	int32_t total = topic->parts + n, fresh = n > b->free_parts ? n - b->free_parts : 0;
	int32_t *rows = realloc(topic->part, ((size_t)total + 1) * sizeof *rows);
	if (!brain_need(b, rows))
		return false;
	topic->part = rows;
	if (!grow_parts(b, b->parts + fresh))
		return false;
	for (; topic->parts < total; topic->parts++) {
		int32_t p = b->free_parts ? b->free_part[--b->free_parts] : b->parts++;
		b->part[p] = (struct part){.topic = t, .number = topic->parts, .leader = NO_LEADER, .version = -1, .waits_since_ms = -1};
		topic->part[topic->parts] = p;
	}
	topic->grows_from = total;
	return true;
}

static void part_release(struct brain *b, int32_t row)
{
	struct part *p = &b->part[row];
	for (int k = 0; k < ITEM_KINDS; k++)
		item_done(b, p, (enum item_kind)k, KAFKA_UNKNOWN_TOPIC_OR_PARTITION, "the topic has been deleted");
	free(p->replicas);
	free(p->adding);
	free(p->removing);
	free(p->isr);
	free(p->end);
	*p = (struct part){.topic = -1};
	bits_clear(&b->dirty, row);
	bits_clear(&b->doubted, row);
	for (int32_t i = 0; i < b->brokers; i++) {
		struct bits *set[BROKER_SETS];
		broker_sets(&b->broker[i], set);
		for (int k = 0; k < BROKER_SETS; k++)
			bits_clear(set[k], row);
	}
}

void topic_free(struct brain *b, int32_t t)
{
	struct topic *topic = &b->topic[t];
	for (int32_t i = 0; i < topic->parts; i++) {
		part_release(b, topic->part[i]);
		b->free_part[b->free_parts++] = topic->part[i];
	}
	if (topic->phase == TOPIC_GONE)
		b->gone--;
	else
		topic_forget_name(b, t);
	forget_id(b, t);
	for (int32_t i = 0; i < topic->configs; i++) {
		free((char *)topic->config[i].name.s);
		free((char *)topic->config[i].value.s);
	}
	free(topic->config);
	free(topic->part);
	free(topic->name);
	bits_clear(&b->topic_work, t);
	*topic = (struct topic){.next_name = b->free_topics};
	b->free_topics = t;
}

void topic_wants_work(struct brain *b, int32_t t)
{
	bits_set(&b->topic_work, t);
}

struct part *part_find(const struct brain *b, int32_t t, int32_t number)
{
	return t >= 0 && number >= 0 && number < b->topic[t].parts ? &b->part[b->topic[t].part[number]] : NULL;
}

void part_dirty(struct brain *b, int32_t p)
{
	bits_set(&b->dirty, p);
}

void part_tell(struct brain *b, int32_t row)
{
	const struct part *p = &b->part[row];
	for (int32_t i = 0; i < b->brokers; i++) {
		if (b->broker[i].registered)
			bits_set(&b->broker[i].metadata, row);
	}
	for (int32_t i = 0; i < ids_n(p->replicas); i++) {
		struct broker *r = broker_find(b, p->replicas->v[i]);
		if (r && r->registered)
			bits_set(&r->states, row);
	}
}
