/*
 * DescribeGroups and ListGroups.
 */
#include "cluster/group/group.h"

#include <ctype.h>
#include <stdlib.h>

/* ---- DescribeGroups ---- */

struct description { struct group_description d; struct group_described_member *members; struct blob **held; size_t held_count; };

static struct gstr keep(struct description *x, struct blob *b)
{
	if (!b)
		return (struct gstr){NULL, 0};
	x->held[x->held_count++] = blob_ref(b);
	return blob_str(b);
}

static struct gstr keep_text(struct description *x, struct blob *b)
{
	return b ? keep(x, b) : GSTR("");
}

static int16_t describe(struct description *x, struct group *g)
{
	bool stable = g->state == GROUP_STABLE;
	x->members = calloc(g->member_count + 1, sizeof *x->members);
	x->held = calloc(6 * (size_t)g->member_count + 2, sizeof *x->held);
	if (!x->members || !x->held)
		return KAFKA_COORDINATOR_NOT_AVAILABLE;
	x->d.state = group_state_name(g->state);
	x->d.protocol_type = keep_text(x, g->protocol_type);
	x->d.protocol = stable ? keep_text(x, g->protocol) : GSTR("");
	x->d.members = x->members;
	for (struct member *m = g->members; m; m = m->hh.next)
		x->members[x->d.member_count++] = (struct group_described_member){
			.member_id = keep(x, m->id), .instance_id = keep(x, m->instance_id), .client_id = keep(x, m->client_id), .client_host = keep(x, m->client_host),
			.metadata = stable ? keep_text(x, member_metadata(m, g->protocol)) : GSTR(""), .assignment = keep_text(x, m->assignment),
		};
	return KAFKA_NONE;
}

void group_describe(struct coordinator *c, struct gstr group_id, group_describe_done done, void *arg)
{
	struct turn t;
	struct description x = {.d = {.state = "", .protocol_type = GSTR(""), .protocol = GSTR("")}};
	turn_init(&t, c);
	int16_t error = !group_id.p ? KAFKA_INVALID_GROUP_ID : turn_begin(&t, group_id, TURN_READ);
	if (!error && !t.g) {
		error = KAFKA_GROUP_ID_NOT_FOUND;
		x.d.state = group_state_name(GROUP_DEAD);
	}
	if (!error)
		error = describe(&x, t.g);
	turn_end(&t);
	x.d.error = error;
	done(arg, &x.d);
	for (size_t i = 0; i < x.held_count; i++)
		blob_unref(x.held[i]);
	free(x.held);
	free(x.members);
}

/* ---- ListGroups ---- */

static bool same_word(struct gstr a, const char *word)
{
	const char *p = a.p, *end = p + a.n;
	while (p < end && isspace((unsigned char)*p))
		p++;
	while (end > p && isspace((unsigned char)end[-1]))
		end--;
	for (; p < end && *word && tolower((unsigned char)*p) == tolower((unsigned char)*word); p++, word++)
		;
	return p == end && !*word;
}

static bool among(const struct gstr *list, size_t count, const char *word)
{
	bool found = !count;
	for (size_t i = 0; i < count && !found; i++)
		found = same_word(list[i], word);
	return found;
}

struct listed { struct blob *id, *type; enum group_state state; };
struct listed_groups { const struct group_list_filter *filter; struct listed *list; size_t count, cap; bool failed; };

static void list_one(struct turn *t, void *arg)
{
	struct listed_groups *x = arg;
	struct group *g = t->g;
	if (!among(x->filter->states, x->filter->state_count, group_state_name(g->state)))
		return;
	if (x->count == x->cap) {
		size_t cap = x->cap ? 2 * x->cap : 32;
		struct listed *bigger = realloc(x->list, cap * sizeof *bigger);
		if (!bigger) {
			x->failed = true;
			return;
		}
		x->list = bigger;
		x->cap = cap;
	}
	x->list[x->count++] = (struct listed){blob_ref(g->id), blob_ref(g->protocol_type), g->state};
}

int16_t group_list(struct coordinator *c, const struct group_list_filter *f, void (*fn)(void *arg, const struct group_listed *g), void *arg)
{
	struct listed_groups x = {.filter = f};
	int16_t error = c->stopping || !c->started ? KAFKA_COORDINATOR_NOT_AVAILABLE : KAFKA_NONE;
	for (int32_t i = 0; i < coordinator_shards(c) && !error; i++) {
		struct shard *s = coordinator_shard(c, i);
		pthread_mutex_lock(&s->lock);
		enum shard_role role = s->role;
		pthread_mutex_unlock(&s->lock);
		if (role == SHARD_LOADING)
			error = KAFKA_COORDINATOR_LOAD_IN_PROGRESS;
		else if (role == SHARD_ACTIVE && among(f->types, f->type_count, "classic"))
			shard_each(s, list_one, &x);
		if (x.failed)
			error = KAFKA_COORDINATOR_NOT_AVAILABLE;
	}
	for (size_t i = 0; i < x.count; i++) {
		struct group_listed g = {.group_id = blob_str(x.list[i].id), .protocol_type = x.list[i].type ? blob_str(x.list[i].type) : GSTR(""),
					 .state = group_state_name(x.list[i].state), .type = "classic"};
		if (!error)
			fn(arg, &g);
		blob_unref(x.list[i].id);
		blob_unref(x.list[i].type);
	}
	free(x.list);
	return error;
}
