/* What is to be written: ledgers, topics, partitions; and what is true once it is. */
#include "cluster/control/state.h"

#include <limits.h>

/* ---- ops and multis ---- */

static struct op *add_op(struct brain *b, enum op_kind kind, const char *topic, int32_t partition, int32_t version)
{
	if (!brain_grow(b, &b->op, sizeof *b->op, b->ops + 1, &b->ops_cap))
		return NULL;
	struct op *op = &b->op[b->ops++];
	*op = (struct op){.kind = kind, .topic = topic, .partition = partition, .version = version};
	return op;
}

static size_t ids_bytes(const struct ids *l)
{
	return 24 + (size_t)ids_n(l) * 12; /* "1234567890":[ ... ], */
}

/* At most what it takes of a request, rendered as JSON. */
static size_t op_bytes(const struct op *op)
{
	size_t n = OP_OVERHEAD + (op->topic ? strlen(op->topic) : 0);
	switch (op->kind) {
	case OP_CREATE_STATE:
	case OP_SET_STATE:
		return n + 160 + ids_bytes(op->state.isr);
	case OP_CREATE_TOPIC:
	case OP_SET_TOPIC:
		n += 128;
		for (int32_t i = 0; i < op->assignment.partitions; i++) {
			const struct brain_assignment *a = &op->assignment.partition[i];
			n += ids_bytes(a->replicas) + (ids_n(a->adding) ? ids_bytes(a->adding) : 0) + (ids_n(a->removing) ? ids_bytes(a->removing) : 0);
		}
		return n;
	case OP_CREATE_CONFIG:
	case OP_SET_CONFIG:
		for (int32_t i = 0; i < op->config.n; i++)
			n += 16 + 6 * (size_t)(op->config.v[i].name.n + op->config.v[i].value.n); /* each byte escaped at worst */
		return n;
	case OP_NOTE_CONFIG:
	case OP_CREATE_LEDGER:
	case OP_SET_LEDGER:
		return n + 128 + (op->topic ? strlen(op->topic) : 0);
	default:
		return n;
	}
}

/* The ops from `first` up to `end` belong into one multi: into the last one, if they fit. Ops are placed in their order. */
static void place(struct brain *b, size_t first, size_t end)
{
	size_t bytes = 0;
	for (size_t i = first; i < end; i++)
		bytes += op_bytes(&b->op[i]);
	struct brain_multi *last = b->multis ? &b->multi[b->multis - 1] : NULL;
	if (!last || last->bytes + bytes > b->o.max_multi_bytes) {
		if (!brain_grow(b, &b->multi, sizeof *b->multi, b->multis + 1, &b->multis_cap))
			return;
		last = &b->multi[b->multis++];
		*last = (struct brain_multi){.bytes = OP_OVERHEAD}; /* the check of the controller's epoch */
	}
	last->ops += end - first;
	last->bytes += bytes;
}

static struct change *add_change(struct brain *b, enum change_kind kind)
{
	if (!brain_grow(b, &b->change, sizeof *b->change, b->changes + 1, &b->changes_cap))
		return NULL;
	struct change *c = &b->change[b->changes++];
	*c = (struct change){.kind = kind, .part = -1, .topic = -1};
	return c;
}

static void changes_drop(struct brain *b)
{
	for (size_t i = 0; i < b->changes; i++) {
		struct change *c = &b->change[i];
		free(c->isr);
		free(c->replicas);
		free(c->adding);
		free(c->removing);
	}
	b->changes = b->ops = b->multis = 0;
	arena_reset(&b->batch);
}

/* ---- ledgers ---- */

static void write_ledger(struct brain *b, struct broker *r)
{
	struct brain_ledger want = r->ledger;
	bool lost = bits_any(b, &r->lost);
	if (r->fence_wanted)
		want.fenced_epoch = r->epoch;
	if (broker_alive(r) && lost && r->unclean)
		want.unclean = true;
	if (broker_alive(r) && !lost && r->ledger.settled_epoch != r->epoch) {
		want.settled_epoch = r->epoch;
		want.unclean = false;
	}
	if (want.settled_epoch == r->ledger.settled_epoch && want.fenced_epoch == r->ledger.fenced_epoch && want.unclean == r->ledger.unclean)
		return;
	struct op *op = add_op(b, r->ledger_version < 0 ? OP_CREATE_LEDGER : OP_SET_LEDGER, NULL, -1, r->ledger_version);
	struct change *c = op ? add_change(b, CHANGE_LEDGER) : NULL;
	if (!c)
		return;
	op->ledger.broker = c->broker = r->id;
	op->ledger.ledger = c->ledger = want;
	place(b, b->ops - 1, b->ops);
}

static void ledger_written(struct brain *b, const struct change *c)
{
	struct broker *r = broker_find(b, c->broker);
	bool fenced = c->ledger.fenced_epoch != r->ledger.fenced_epoch && c->ledger.fenced_epoch == r->epoch;
	r->ledger = c->ledger;
	r->ledger_version++;
	if (fenced && broker_alive(r)) {
		r->fence_wanted = false;
		r->fenced = true;
		brain_broker_died(b, r);
	}
	if (!r->ledger.unclean && broker_alive(r) && r->ledger.settled_epoch == r->epoch)
		r->unclean = false;
}

/* ---- topics ---- */

/* The assignment of a whole topic, as it will be: what p has, or what a change of this batch (from `first` on) says. */
static struct brain_assignment *assignment_of(struct brain *b, const struct topic *t, size_t first)
{
	struct brain_assignment *all = brain_need(b, arena_get(&b->batch, ((size_t)t->parts + 1) * sizeof *all, NULL));
	if (!all)
		return NULL;
	for (int32_t i = 0; i < t->parts; i++) {
		const struct part *p = &b->part[t->part[i]];
		all[i] = (struct brain_assignment){p->replicas, p->adding, p->removing};
	}
	for (size_t i = first; i < b->changes; i++) {
		const struct change *c = &b->change[i];
		if (c->replicas)
			all[b->part[c->part].number] = (struct brain_assignment){c->replicas, c->adding, c->removing};
	}
	return all;
}

/* With the change that it makes; NULL: failed. */
static struct change *write_topic(struct brain *b, int32_t row, enum op_kind kind, enum change_kind change, size_t first_change)
{
	struct topic *t = &b->topic[row];
	struct brain_assignment *all = assignment_of(b, t, first_change);
	struct op *op = all ? add_op(b, kind, t->name, -1, t->version) : NULL;
	struct change *c = op ? add_change(b, change) : NULL;
	if (!c)
		return NULL;
	op->assignment.id = t->id;
	op->assignment.partition = all;
	op->assignment.partitions = c->parts = t->parts;
	c->topic = row;
	return c;
}

static void write_new_topic(struct brain *b, int32_t row)
{
	struct topic *t = &b->topic[row];
	size_t first = b->ops;
	if (t->configs || t->has_config) {
		struct op *op = add_op(b, t->has_config ? OP_SET_CONFIG : OP_CREATE_CONFIG, t->name, -1, -1);
		if (!op)
			return;
		op->config.v = t->config;
		op->config.n = t->configs;
		if (!add_op(b, OP_NOTE_CONFIG, t->name, -1, -1))
			return;
	}
	if (write_topic(b, row, OP_CREATE_TOPIC, CHANGE_CREATED, b->changes))
		place(b, first, b->ops);
}

static void write_grown_topic(struct brain *b, int32_t row)
{
	if (write_topic(b, row, OP_SET_TOPIC, CHANGE_TOPIC, b->changes))
		place(b, b->ops - 1, b->ops);
}

static void write_mark(struct brain *b, int32_t row)
{
	struct change *c = add_op(b, OP_CREATE_MARK, b->topic[row].name, -1, -1) ? add_change(b, CHANGE_MARKED) : NULL;
	if (!c)
		return;
	c->topic = row;
	place(b, b->ops - 1, b->ops);
}

static void write_deleted_op(struct brain *b, const struct topic *t, enum op_kind kind, int32_t partition, int32_t version)
{
	if (add_op(b, kind, t->name, partition, version))
		place(b, b->ops - 1, b->ops);
}

/* Leaves first; the mark last: it is what says that the rest is to go. */
static void write_deletion(struct brain *b, int32_t row)
{
	const struct topic *t = &b->topic[row];
	for (int32_t i = 0; i < t->parts; i++) {
		const struct part *p = &b->part[t->part[i]];
		if (p->exists)
			write_deleted_op(b, t, OP_DELETE_STATE, i, p->version);
		if (p->has_node)
			write_deleted_op(b, t, OP_DELETE_PARTITION, i, -1);
	}
	if (t->has_partitions_node)
		write_deleted_op(b, t, OP_DELETE_PARTITIONS, -1, -1);
	if (t->has_config)
		write_deleted_op(b, t, OP_DELETE_CONFIG, -1, -1);
	write_deleted_op(b, t, OP_DELETE_TOPIC, -1, t->version);
	write_deleted_op(b, t, OP_DELETE_MARK, -1, -1);
	struct change *c = add_change(b, CHANGE_DELETED);
	if (c)
		c->topic = row;
}

static void write_topics(struct brain *b)
{
	for (int32_t t = 0; t < b->topics; t++) {
		if (!bits_has(&b->topic_work, t) || !b->topic[t].name)
			continue;
		struct topic *topic = &b->topic[t];
		if (topic->phase == TOPIC_NEW)
			write_new_topic(b, t);
		else if (topic->phase == TOPIC_LIVE && (topic->grows_from < topic->parts || topic->id_is_new))
			write_grown_topic(b, t);
		else if (topic->phase == TOPIC_DELETING && !topic->marked)
			write_mark(b, t);
		else if (topic->phase == TOPIC_DELETING && !topic->stops)
			write_deletion(b, t);
	}
}

/* ---- partitions ---- */

static bool set_assignment(struct brain *b, struct change *c, const struct ids_room *replicas, const struct ids_room *adding, const struct ids_room *removing)
{
	c->replicas = brain_need(b, ids_make(replicas->v, replicas->n));
	c->adding = brain_need(b, ids_make(adding->v, adding->n));
	c->removing = brain_need(b, ids_make(removing->v, removing->n));
	return brain_ok(b);
}

static struct change *add_state(struct brain *b, struct part *p, int32_t leader, int32_t leader_epoch, const int32_t *isr, int32_t isrs, bool recovering)
{
	const struct topic *t = part_topic(b, p);
	struct ids *list = brain_need(b, ids_make(isr, isrs));
	struct change *c = list ? add_change(b, CHANGE_STATE) : NULL;
	if (!c) {
		free(list);
		return NULL;
	}
	c->part = part_row(b, p);
	c->topic = p->topic;
	c->leader = leader;
	c->leader_epoch = leader_epoch;
	c->isr = list;
	c->recovering = recovering;
	struct op *op = add_op(b, p->exists ? OP_SET_STATE : OP_CREATE_STATE, t->name, p->number, p->version);
	if (!op)
		return NULL;
	op->state = (struct brain_state){leader, leader_epoch, b->o.controller_epoch, list, recovering};
	return c;
}

static void write_first_state(struct brain *b, struct part *p)
{
	struct verdict v;
	struct topic *t = part_topic(b, p);
	if (p->number >= t->grows_from || !ids_n(p->replicas))
		return;
	decide_first(b, p, &v);
	if (v.waits)
		bits_set(&b->doubted, part_row(b, p));
	for (int k = 0; !v.waits && !v.write && k < ITEM_KINDS; k++)
		item_done(b, p, (enum item_kind)k, KAFKA_LEADER_NOT_AVAILABLE, "none of its replicas is alive");
	if (!v.write)
		return;
	size_t first = b->ops;
	if (!t->has_partitions_node && !add_op(b, OP_CREATE_PARTITIONS, t->name, -1, -1))
		return;
	t->has_partitions_node = true;
	if (!p->has_node && !add_op(b, OP_CREATE_PARTITION, t->name, p->number, -1))
		return;
	struct change *c = add_state(b, p, v.leader, 0, v.isr.v, v.isr.n, false);
	if (c) {
		c->settles = true;
		place(b, first, b->ops);
	}
}

static bool leads_well(const struct brain *b, const struct part *p)
{
	return p->leader != NO_LEADER && replica_standing(b, p, p->leader) >= LEAVING && replica_standing(b, p, p->leader) != UNCLEAN;
}

/* Nothing is written: what an election that was asked for has come to. */
static void answer_election(struct brain *b, struct part *p)
{
	struct item *i = p->item[ITEM_ELECT];
	if (!i)
		return;
	if (i->unclean ? leads_well(b, p) : p->leader == ids_first(p->replicas))
		item_done(b, p, ITEM_ELECT, KAFKA_ELECTION_NOT_NEEDED, "the leader is the one that was wanted");
	else if (i->unclean)
		item_done(b, p, ITEM_ELECT, KAFKA_ELIGIBLE_LEADERS_NOT_AVAILABLE, "none of its replicas is alive");
	else
		item_done(b, p, ITEM_ELECT, KAFKA_PREFERRED_LEADER_NOT_AVAILABLE, "the preferred leader is not alive or not in sync");
}

static void write_alter(struct brain *b, struct part *p)
{
	struct item *i = p->item[ITEM_ALTER];
	int16_t error;
	if (!i)
		return;
	if (!alter_is_fine(b, p, i, &error)) {
		alter_answer(b, p, error);
		return;
	}
	struct change *c = add_state(b, p, p->leader, p->leader_epoch, i->wanted->v, i->wanted->n, i->recovering);
	if (c) {
		c->keeps_epoch = true;
		c->serves[ITEM_ALTER] = true;
	}
}

/* The new assignment of a partition, if it gets one: what was asked for, or the end of a reassignment. false: refused. */
static bool new_assignment(struct brain *b, struct part *p, struct ids_room all[3], bool *moves)
{
	int16_t error;
	const char *message;
	*moves = false;
	if (!p->item[ITEM_REASSIGN])
		return true;
	if (!reassign_to(b, p, p->item[ITEM_REASSIGN], &all[0], &all[1], &all[2], &error, &message)) {
		item_done(b, p, ITEM_REASSIGN, error, message);
		return false;
	}
	*moves = !ids_same_room(p->replicas, &all[0]) || !ids_same_room(p->adding, &all[1]) || !ids_same_room(p->removing, &all[2]);
	return true;
}

/* At most one op, which is not placed. true: with it the assignment changes. */
static bool write_state(struct brain *b, struct part *p)
{
	struct ids_room all[3] = {{0}};
	struct brain_assignment a = {p->replicas, p->adding, p->removing};
	struct ids *temporary[3] = {NULL};
	struct verdict v;
	bool moves, assigns = false;
	if (!new_assignment(b, p, all, &moves))
		moves = false;
	if (moves) {
		for (int i = 0; i < 3; i++)
			temporary[i] = brain_need(b, ids_make(all[i].v, all[i].n));
		a = (struct brain_assignment){temporary[0], temporary[1], temporary[2]};
	}
	if (brain_ok(b))
		decide(b, p, &a, moves, &v);
	if (!brain_ok(b))
		goto done;
	if (v.waits)
		bits_set(&b->doubted, part_row(b, p));
	if (v.look_again_ms < b->next_wait_ms)
		b->next_wait_ms = v.look_again_ms;
	for (int32_t i = 0; v.asks && i < ids_n(p->isr); i++) {
		if (replica_standing(b, p, p->isr->v[i]) == UNCLEAN && p->end && !p->end[i].known)
			bits_set(&broker_find(b, p->isr->v[i])->ends, part_row(b, p));
	}
	if (moves && v.waits && !v.write)
		goto done; /* with its wish */
	if (!v.write && !moves) {
		if (p->item[ITEM_REASSIGN])
			item_done(b, p, ITEM_REASSIGN, KAFKA_NONE, NULL); /* it is as was asked for */
		if (!v.waits)
			answer_election(b, p);
		if (!v.waits || v.settles)
			write_alter(b, p);
		goto done;
	}
	struct change *c = add_state(b, p, v.leader, p->leader_epoch + 1, v.isr.v, v.isr.n, v.recovering);
	if (!c)
		goto done;
	c->settles = v.settles && v.leader != NO_LEADER;
	c->serves[ITEM_ELECT] = true;
	if (v.completes) {
		target_of(&a, &all[0]);
		all[1].n = all[2].n = 0;
	}
	if (moves || v.completes) {
		c->serves[ITEM_REASSIGN] = moves;
		assigns = set_assignment(b, c, &all[0], &all[1], &all[2]);
	}
done:
	for (int i = 0; i < 3; i++)
		free(temporary[i]);
	return assigns;
}

static int by_topic(const void *x, const void *y, void *arg)
{
	const struct brain *b = arg;
	const struct part *p = &b->part[*(const int32_t *)x], *q = &b->part[*(const int32_t *)y];
	return p->topic != q->topic ? (p->topic > q->topic) - (p->topic < q->topic) : (p->number > q->number) - (p->number < q->number);
}

static size_t topic_bytes(const struct brain *b, const struct topic *t)
{
	size_t n = OP_OVERHEAD + strlen(t->name) + 128;
	for (int32_t i = 0; i < t->parts; i++) {
		const struct part *p = &b->part[t->part[i]];
		n += ids_bytes(p->replicas) + ids_bytes(p->adding) + ids_bytes(p->removing);
	}
	return n;
}

static bool may_be_assigned(const struct part *p)
{
	return p->item[ITEM_REASSIGN] || part_moves(p);
}

/* Partitions whose assignment changes stand with their topic's node in one multi, as many as it takes; the rest is for the next batch. The others go where there is room. */
static void write_topic_parts(struct brain *b, const int32_t *row, int32_t n)
{
	int32_t topic = b->part[row[0]].topic;
	struct topic *t = &b->topic[topic];
	bool busy = t->grows_from < t->parts || t->id_is_new, assigns = false; /* its node is written once in a batch */
	for (int32_t i = 0; i < n && brain_ok(b); i++) {
		struct part *p = &b->part[row[i]];
		size_t first = b->ops;
		if (!p->exists) {
			write_first_state(b, p);
		} else if (!may_be_assigned(p)) {
			write_state(b, p);
			if (b->ops > first)
				place(b, first, b->ops);
		}
	}
	size_t first = b->ops, first_change = b->changes, bytes = 0;
	for (int32_t i = 0; i < n && brain_ok(b); i++) {
		struct part *p = &b->part[row[i]];
		if (!p->exists || !may_be_assigned(p))
			continue;
		if (!bytes)
			bytes = topic_bytes(b, t);
		size_t more = OP_OVERHEAD + strlen(t->name) + 256 + 4 * ids_bytes(p->replicas) + (p->item[ITEM_REASSIGN] ? 4 * ids_bytes(p->item[ITEM_REASSIGN]->wanted) : 0);
		if (busy || (b->ops > first && bytes + more > b->o.max_multi_bytes)) {
			part_dirty(b, row[i]);
			continue;
		}
		bytes += more;
		assigns = write_state(b, p) || assigns;
	}
	if (assigns && write_topic(b, topic, OP_SET_TOPIC, CHANGE_TOPIC, first_change))
		place(b, first, b->ops);
	for (size_t i = first; !assigns && i < b->ops; i++)
		place(b, i, i + 1);
}

static void write_parts(struct brain *b)
{
	int32_t *row = brain_need(b, malloc(((size_t)b->parts + 1) * sizeof *row));
	if (!row)
		return;
	int32_t n = bits_list(b, &b->dirty, row), kept = 0;
	bits_none(b, &b->dirty);
	for (int32_t i = 0; i < n; i++) {
		if (part_is_live(b, &b->part[row[i]]) && part_topic(b, &b->part[row[i]])->phase == TOPIC_LIVE)
			row[kept++] = row[i];
	}
	qsort_r(row, (size_t)kept, sizeof *row, by_topic, b);
	for (int32_t i = 0, end; i < kept && brain_ok(b); i = end) {
		for (end = i + 1; end < kept && b->part[row[end]].topic == b->part[row[i]].topic; end++)
			;
		write_topic_parts(b, row + i, end - i);
	}
	free(row);
}

/* ---- a batch ---- */

bool brain_writes(struct brain *b, int64_t now_ms, struct brain_batch *batch)
{
	*batch = (struct brain_batch){0};
	if (!brain_ok(b) || !b->started || b->writing)
		return false;
	b->now_ms = now_ms;
	if (bits_any(b, &b->dirty))
		write_parts(b);
	write_topics(b);
	for (int32_t i = 0; i < b->brokers && brain_ok(b); i++)
		write_ledger(b, &b->broker[i]);
	size_t at = 0;
	for (size_t i = 0; i < b->multis; i++) {
		b->multi[i].op = &b->op[at];
		at += b->multi[i].ops;
	}
	if (!brain_ok(b) || !b->multis) {
		changes_drop(b);
		if (brain_ok(b)) {
			shutdowns_look(b);
			topics_look(b);
		}
		return false;
	}
	b->writing = true;
	*batch = (struct brain_batch){b->multi, b->multis};
	return true;
}

/* ---- what has been written ---- */

static void take_list(struct ids **to, struct ids **from)
{
	free(*to);
	*to = *from;
	*from = NULL;
}

/* Who was a replica and is none any more deletes it; who was none begins with nothing. */
static void assigned(struct brain *b, struct part *p, struct change *c)
{
	int32_t row = part_row(b, p);
	for (int32_t i = 0; i < ids_n(p->replicas); i++) {
		struct broker *r = broker_find(b, p->replicas->v[i]);
		if (!r || ids_has(c->replicas, r->id))
			continue;
		bits_clear(&r->states, row);
		bits_clear(&r->fresh, row);
		bits_clear(&r->offline, row);
		bits_clear(&r->lost, row);
		if (r->registered)
			stop_add(b, r, p, true);
	}
	for (int32_t i = 0; i < ids_n(c->replicas); i++) {
		struct broker *r = broker_row(b, c->replicas->v[i]);
		if (r && !ids_has(p->replicas, r->id))
			bits_set(&r->fresh, row);
	}
	take_list(&p->replicas, &c->replicas);
	take_list(&p->adding, &c->adding);
	take_list(&p->removing, &c->removing);
}

static void stop_leaving_followers(struct brain *b, struct part *p, const struct ids *isr_before, int32_t leader_before)
{
	for (int32_t i = 0; i < ids_n(isr_before); i++) {
		struct broker *r = broker_find(b, isr_before->v[i]);
		if (!r || !r->leaving || r->id == leader_before || r->id == p->leader || ids_has(p->isr, r->id) || !ids_has(p->replicas, r->id))
			continue;
		bits_clear(&r->states, part_row(b, p));
		stop_add(b, r, p, false);
	}
}

static void answer_items(struct brain *b, struct part *p, const struct change *c)
{
	struct item *elect = p->item[ITEM_ELECT];
	if (c->serves[ITEM_ALTER])
		alter_answer(b, p, KAFKA_NONE);
	if (c->serves[ITEM_REASSIGN])
		item_done(b, p, ITEM_REASSIGN, KAFKA_NONE, NULL);
	if (c->serves[ITEM_ELECT] && elect && (elect->unclean ? p->leader != NO_LEADER : p->leader == ids_first(p->replicas)))
		item_done(b, p, ITEM_ELECT, KAFKA_NONE, NULL);
}

/* A reassignment can end: all of its target are in sync. */
static bool has_caught_up(const struct part *p)
{
	struct ids_room target;
	target_of(&(struct brain_assignment){p->replicas, p->adding, p->removing}, &target);
	for (int32_t i = 0; i < target.n; i++) {
		if (!ids_has(p->isr, target.v[i]))
			return false;
	}
	return true;
}

static void state_written(struct brain *b, struct change *c)
{
	struct part *p = &b->part[c->part];
	int32_t row = c->part, leader_before = p->leader;
	bool first = !p->exists;
	struct ids *isr_before = p->isr;
	p->isr = c->isr;
	c->isr = NULL;
	p->leader = c->leader;
	p->leader_epoch = c->leader_epoch;
	p->controller_epoch = b->o.controller_epoch;
	p->recovering = c->recovering;
	p->version++;
	p->exists = p->has_node = true;
	free(p->end);
	p->end = NULL;
	if (c->replicas)
		assigned(b, p, c);
	for (int32_t i = 0; i < b->brokers; i++) {
		struct broker *r = &b->broker[i];
		if (r->born_in_batch && ids_has(p->isr, r->id))
			bits_set(&r->lost, row);
		else if (r->born_in_batch || c->settles) /* born meanwhile, it may have been in the ISR as it was, and is not any more */
			bits_clear(&r->lost, row);
	}
	if (c->settles)
		p->waits_since_ms = -1;
	for (int32_t i = 0; first && i < ids_n(p->replicas); i++) {
		struct broker *r = broker_row(b, p->replicas->v[i]);
		if (r)
			bits_set(&r->fresh, row);
	}
	if (c->keeps_epoch) {
		for (int32_t i = 0; i < b->brokers; i++) {
			if (b->broker[i].registered)
				bits_set(&b->broker[i].metadata, row);
		}
	} else {
		part_tell(b, row);
		stop_leaving_followers(b, p, isr_before, leader_before);
	}
	free(isr_before);
	answer_items(b, p, c);
	if (part_moves(p) && has_caught_up(p))
		brokers_ask(b);
	part_dirty(b, row);
}

static void topic_created(struct brain *b, int32_t row)
{
	struct topic *t = &b->topic[row];
	t->phase = TOPIC_LIVE;
	t->has_config = t->has_config || t->configs;
	t->version = 0;
	for (int32_t i = 0; i < t->parts; i++)
		part_dirty(b, t->part[i]);
}

static void topic_written(struct brain *b, const struct change *c)
{
	struct topic *t = &b->topic[c->topic];
	t->version++;
	t->id_is_new = false;
	for (; t->grows_from < c->parts; t->grows_from++)
		part_dirty(b, t->part[t->grows_from]);
}

static void topic_deleted(struct brain *b, int32_t row)
{
	struct topic *t = &b->topic[row];
	topic_forget_name(b, row);
	t->phase = TOPIC_GONE;
	b->gone++;
	bits_clear(&b->topic_work, row);
	calls_refuse(b, &t->delete, KAFKA_NONE, NULL);
}

void brain_written(struct brain *b, int64_t now_ms)
{
	b->now_ms = now_ms;
	b->writing = false;
	for (size_t i = 0; i < b->changes && brain_ok(b); i++) {
		struct change *c = &b->change[i];
		switch (c->kind) {
		case CHANGE_STATE:
			state_written(b, c);
			break;
		case CHANGE_TOPIC:
			topic_written(b, c);
			break;
		case CHANGE_CREATED:
			topic_created(b, c->topic);
			break;
		case CHANGE_MARKED:
			topic_marked(b, c->topic);
			break;
		case CHANGE_DELETED:
			topic_deleted(b, c->topic);
			break;
		case CHANGE_LEDGER:
			ledger_written(b, c);
			break;
		}
	}
	changes_drop(b);
	for (int32_t i = 0; i < b->brokers && brain_ok(b); i++) {
		b->broker[i].born_in_batch = false;
		broker_look(b, &b->broker[i]);
	}
	topics_look(b);
}
