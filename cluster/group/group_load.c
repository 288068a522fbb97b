/*
 * Loading: the groups of a partition of __consumer_offsets, from its records in order.
 *
 * The newest record of a key counts, and a tombstone ends it. Offsets that were committed in a transaction (KIP-98) count from its commit marker on, those of an aborted
 * one never; they wait in a list by producer until then. A transaction that is still open at the end belongs to nobody any more: it is taken as the partition will
 * end it before the next append to it. Groups of Kafka's newer protocol (KIP-848) have no members here: they are empty groups of the type "consumer", in the generation
 * of their epoch, and their records get tombstones when the group becomes one of ours, or goes.
 *
 * Memory: one window of the log, and what is loaded.
 */
#include "cluster/group/group.h"

#include <inttypes.h>
#include <stdlib.h>

#include "cluster/group/group_records.h"
#include "cluster/partition_fetch.h"
#include "store/diag.h"

enum { KEY_NEWER_GROUP = 3 };

struct txn_commit { struct txn_commit *next; struct blob *group, *topic; struct offset_entry entry; bool removal; };
struct txn { UT_hash_handle hh; int64_t producer_id; int16_t epoch; struct txn_commit *first, **tail; };

struct loading {
	struct shard *shard;
	struct journal *journal;
	struct group *table;
	struct txn *txns;
	struct arena arena;        /* of one record */
	uint32_t unknown, damaged; /* records that were left out */
};

static struct group *find(struct loading *l, struct gstr id)
{
	struct group *g;
	HASH_FIND(hh, l->table, id.p, (size_t)id.n, g);
	return g;
}

static struct group *make(struct loading *l, struct gstr id)
{
	struct group *g = group_new(l->shard, id);
	if (!g)
		return NULL;
	journal_ref(l->journal);
	g->journal = l->journal;
	if (shard_table_add(&l->table, g))
		return g;
	group_unref(g);
	return NULL;
}

static struct group *need(struct loading *l, struct gstr id)
{
	struct group *g = find(l, id);
	return g ? g : make(l, id);
}

static void drop(struct loading *l, struct group *g)
{
	HASH_DELETE(hh, l->table, g);
	g->in_table = false;
	group_unref(g);
}

/* ---- offsets ---- */

static int put_offset(struct loading *l, struct gstr group, struct gstr topic, struct offset_entry *o)
{
	struct group *g = need(l, group);
	if (g)
		return group_put_offset(g, topic, o);
	blob_unref(o->metadata);
	return ERR_NO_MEMORY;
}

static void remove_offset(struct loading *l, const struct record_key *k, int64_t offset)
{
	struct group *g = find(l, k->group);
	if (g)
		group_remove_offset(g, k->topic, k->partition, offset, false);
	for (struct txn *x = l->txns; x; x = x->hh.next) /* as in Kafka, what a transaction has committed before is gone, too */
		for (struct txn_commit *c = x->first; c; c = c->next)
			if (c->entry.partition == k->partition && blob_is(c->group, k->group) && blob_is(c->topic, k->topic))
				c->removal = true;
}

static void free_txn(struct loading *l, struct txn *x)
{
	HASH_DELETE(hh, l->txns, x);
	while (x->first) {
		struct txn_commit *c = x->first;
		x->first = c->next;
		blob_unref(c->group);
		blob_unref(c->topic);
		blob_unref(c->entry.metadata);
		free(c);
	}
	free(x);
}

static struct txn *need_txn(struct loading *l, const struct batch *b)
{
	struct txn *x;
	HASH_FIND(hh, l->txns, &b->producer_id, sizeof b->producer_id, x);
	if (!x && (x = calloc(1, sizeof *x))) {
		x->producer_id = b->producer_id;
		x->tail = &x->first;
		HASH_ADD(hh, l->txns, producer_id, sizeof x->producer_id, x);
		if (!x->hh.tbl) {
			free(x);
			x = NULL;
		}
	}
	if (x)
		x->epoch = b->producer_epoch;
	return x;
}

static int add_txn_commit(struct loading *l, const struct batch *b, const struct record_key *k, struct offset_entry *o)
{
	struct txn *x = need_txn(l, b);
	struct txn_commit *c = x ? calloc(1, sizeof *c) : NULL;
	if (!c || !(c->group = blob_new(k->group)) || !(c->topic = blob_new(k->topic))) {
		if (c)
			blob_unref(c->group);
		free(c);
		blob_unref(o->metadata);
		return ERR_NO_MEMORY;
	}
	c->entry = *o;
	*x->tail = c;
	x->tail = &c->next;
	return 0;
}

static int end_txn(struct loading *l, struct txn *x, bool commit)
{
	int rc = 0;
	for (struct txn_commit *c = x->first; c && commit && rc == 0; c = c->next) {
		if (c->removal)
			continue;
		rc = put_offset(l, blob_str(c->group), blob_str(c->topic), &c->entry);
		c->entry.metadata = NULL;
	}
	free_txn(l, x);
	return rc;
}

static int load_offset(struct loading *l, const struct batch *b, const struct record_key *k, const struct record *r)
{
	struct offset_entry o = {.partition = k->partition, .log_offset = r->offset};
	if (!r->value) {
		remove_offset(l, k, r->offset);
		return 0;
	}
	int rc = record_offset_decode((struct gstr){r->value, r->value_len}, &l->arena, &o);
	if (rc == ERR_CORRUPT)
		l->damaged++;
	l->unknown += rc == 0;
	if (rc <= 0)
		return rc == ERR_CORRUPT ? 0 : rc;
	return batch_is_transactional(b) ? add_txn_commit(l, b, k, &o) : put_offset(l, k->group, k->topic, &o);
}

/* ---- groups ---- */

/* g takes over what older has beside members. */
static void inherit(struct group *g, struct group *older)
{
	g->topics = older->topics;
	g->offset_count = older->offset_count;
	older->topics = NULL;
	older->offset_count = 0;
	g->foreign = older->foreign;
	older->foreign = NULL;
}

static int load_group(struct loading *l, const struct record_key *k, const struct record *r)
{
	struct group *older = find(l, k->group), *g = r->value ? group_new(l->shard, k->group) : NULL;
	int rc = 0;
	if (r->value) {
		rc = g ? record_group_decode((struct gstr){r->value, r->value_len}, &l->arena, g) : ERR_NO_MEMORY;
		if (rc == ERR_CORRUPT)
			l->damaged++;
		l->unknown += rc == 0;
		if (rc <= 0) {
			group_unref(g);
			return rc == ERR_CORRUPT ? 0 : rc;
		}
	} else if (older && (older->offset_count || older->foreign)) { /* what is left of it are offsets */
		if (!(g = group_new(l->shard, k->group)))
			return ERR_NO_MEMORY;
	}
	if (older) {
		if (g)
			inherit(g, older);
		drop(l, older);
	}
	if (!g)
		return 0;
	journal_ref(l->journal);
	g->journal = l->journal;
	g->in_log = r->value != NULL;
	if (shard_table_add(&l->table, g))
		return 0;
	group_unref(g);
	return ERR_NO_MEMORY;
}

/* Its records are remembered as long as they are not ended by tombstones. */
static int note_foreign(struct group *g, const struct record *r)
{
	struct foreign_key *f;
	HASH_FIND(hh, g->foreign, r->key, (size_t)r->key_len, f);
	if (f && !r->value) {
		HASH_DELETE(hh, g->foreign, f);
		blob_unref(f->key);
		free(f);
	} else if (!f && r->value) {
		if (!(f = calloc(1, sizeof *f)) || !(f->key = blob_new((struct gstr){r->key, r->key_len}))) {
			free(f);
			return ERR_NO_MEMORY;
		}
		HASH_ADD_KEYPTR(hh, g->foreign, f->key->data, (size_t)f->key->n, f);
		if (!f->hh.tbl) {
			blob_unref(f->key);
			free(f);
			return ERR_NO_MEMORY;
		}
	}
	return 0;
}

static int load_newer_group(struct loading *l, const struct record_key *k, const struct record *r)
{
	struct group *g = r->value ? need(l, k->group) : find(l, k->group);
	int32_t epoch;
	if (!g)
		return r->value ? ERR_NO_MEMORY : 0;
	int rc = note_foreign(g, r);
	if (rc < 0 || k->version != KEY_NEWER_GROUP || g->in_log)
		return rc;
	if (!r->value) {
		blob_unref(g->protocol_type);
		g->protocol_type = NULL;
		g->generation = 0;
	} else if (record_epoch_decode((struct gstr){r->value, r->value_len}, &epoch)) {
		g->generation = epoch;
		g->state_ms = r->timestamp_ms;
		rc = group_set_protocol_type(g, GSTR("consumer"));
		group_learn_subscriptions(g);
	} else {
		l->damaged++;
	}
	return rc;
}

/* ---- records ---- */

static int load_record(struct loading *l, const struct batch *b, const struct record *r)
{
	struct record_key k;
	arena_reset(&l->arena);
	if (!record_key_decode((struct gstr){r->key, r->key_len}, &l->arena, &k)) {
		l->damaged++;
		return 0;
	}
	switch (k.kind) {
	case RECORD_OFFSET:
		return load_offset(l, b, &k, r);
	case RECORD_GROUP:
		return load_group(l, &k, r);
	case RECORD_NEWER_GROUP:
		return load_newer_group(l, &k, r);
	case RECORD_UNKNOWN:
		l->unknown++;
	}
	return 0;
}

/* A transaction's end: its key is a version and a type, 0 abort, 1 commit. */
static int load_marker(struct loading *l, const struct batch *b, const struct record *r)
{
	struct txn *x;
	HASH_FIND(hh, l->txns, &b->producer_id, sizeof b->producer_id, x);
	int type = x && r->key_len >= 4 ? be16_get(r->key + 2) : -1;
	return type == 0 || type == 1 ? end_txn(l, x, type == 1) : 0;
}

static int load_one(void *arg, const struct batch *b, const struct record *r)
{
	return batch_is_control(b) ? load_marker(arg, b, r) : load_record(arg, b, r);
}

/* What nobody will end here any more is taken as its end will be written. */
static int end_orphans(struct loading *l, struct partition *p, struct err *e)
{
	while (l->txns) {
		struct txn *x = l->txns;
		int commit = partition_txn_decision(p, x->producer_id, x->epoch, NULL, e);
		int rc = commit < 0 ? commit : end_txn(l, x, commit);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* Of groups that a tombstone ended nothing is left; nor of those whose offsets were all removed, where no record says that there is one. */
static void drop_empty(struct loading *l)
{
	struct group *g, *next;
	HASH_ITER(hh, l->table, g, next)
		if (!g->in_log && !g->offset_count && !g->foreign)
			drop(l, g);
}

int shard_read(struct shard *s, struct partition *p, struct journal *j, struct group **table, struct err *e)
{
	struct loading l = {.shard = s, .journal = j};
	struct visible v;
	int rc = partition_visible(p, &v, e);
	if (rc < 0 || v.bytes == 0)
		return rc;
	arena_init(&l.arena, 0);
	if ((rc = partition_acquire(p, e)) == 0) {
		rc = partition_scan_records(p, v.start_offset, -1, load_one, &l, NULL, e);
		if (rc == ERR_NO_MEMORY)
			err_set(e, rc, "no memory for the groups in it");
		if (rc == 0)
			rc = end_orphans(&l, p, e);
		partition_release(p);
	}
	while (l.txns)
		free_txn(&l, l.txns);
	arena_release(&l.arena);
	drop_empty(&l);
	if (rc == 0 && (l.damaged || l.unknown))
		diag_warning("__consumer_offsets-%" PRId32 ": %" PRIu32 " records are damaged, %" PRIu32 " of a kind that is not known; they were left out", s->index, l.damaged, l.unknown);
	*table = l.table;
	return rc;
}
