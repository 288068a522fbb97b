/*
 * Topic configurations in KRaft's metadata (KIP-631): `__cluster_metadata-0/<base>.log`, and beside the segments snapshots, `<end offset>-<epoch>.checkpoint`: the state
 * of all records below that offset, complete where a footer ends it (KIP-630).
 *
 * Records have no key. A value (schemas TopicRecord.json, ConfigRecord.json, RemoveTopicRecord.json):
 *
 *    frame version uvarint (1) | record type uvarint | version uvarint | fields | tagged fields
 *    2 TopicRecord 0          name string | topic id, 16 bytes
 *    4 ConfigRecord 0         resource type i8 (2: topic) | resource name string | name string | value string, null: no longer set
 *    9 RemoveTopicRecord 0    topic id, 16 bytes; takes the topic's configuration with it
 *    23, 24, 25               begin, end, abort of a metadata transaction (KIP-868): what stands between counts at its end, or never
 *
 * A string is compact: its length + 1 as uvarint, 0 for null, then its bytes. All other records say nothing about topic configurations.
 */
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <uthash.h>

#include "cluster/adopt.h"
#include "cluster/adopt_log.h"
#include "store/diag.h"

enum { TOPIC_RECORD = 2, CONFIG_RECORD = 4, REMOVE_TOPIC_RECORD = 9, BEGIN_TRANSACTION = 23, END_TRANSACTION = 24, ABORT_TRANSACTION = 25 };
enum { FRAME_VERSION = 1, RESOURCE_TOPIC = 2, TOPIC_ID_BYTES = 16, STRING_MAX = INT16_MAX };

/* What a metadata log may make of memory, far above what a cluster at Kafka's own limits needs. */
enum { STATE_BYTES = 512 << 20, TRANSACTION_BYTES = 64 << 20 };

struct entry { /* of one of three tables: name by topic id; settings by topic; value by setting */
	UT_hash_handle hh;
	struct entry *settings;
	size_t bytes;
	const char *value; /* behind the key; both end in NUL */
	char key[];
};

struct metadata {
	struct entry *ids, *topics;
	size_t bytes;        /* of all entries */
	bool in_transaction;
	struct wr postponed; /* its records: size i32 and value of each */
	uint32_t newer;      /* records left out because their version is not known */
};

struct text { const char *p; size_t n; }; /* p NULL: null */

static struct entry *find(struct entry *table, const void *key, size_t n)
{
	struct entry *x;
	HASH_FIND(hh, table, key, n, x);
	return x;
}

static struct entry *add(struct metadata *m, struct entry **table, const void *key, size_t n, struct text value, struct err *e)
{
	size_t bytes = sizeof(struct entry) + n + 1 + value.n + 1;
	struct entry *x = m->bytes + bytes <= STATE_BYTES ? calloc(1, bytes) : NULL;
	if (!x) {
		err_set(e, ERR_NO_MEMORY, "no memory for more topics and configurations than %zu bytes", m->bytes);
		return NULL;
	}
	memcpy(x->key, key, n);
	memcpy(x->key + n + 1, value.p, value.n);
	x->value = x->key + n + 1;
	x->bytes = bytes;
	m->bytes += bytes;
	HASH_ADD_KEYPTR(hh, *table, x->key, n, x);
	return x;
}

static void drop(struct metadata *m, struct entry **table, struct entry *x)
{
	struct entry *s, *next;
	HASH_ITER(hh, x->settings, s, next)
		drop(m, &x->settings, s);
	HASH_DEL(*table, x);
	m->bytes -= x->bytes;
	free(x);
}

/* A NUL inside would end it early for whoever gets it: no topic, and no configuration of one, has that. */
static struct text get_text(struct rd *r)
{
	size_t n = rd_uvarint(r);
	if (n == 0)
		return (struct text){0};
	const uint8_t *p = rd_bytes(r, n - 1);
	if (p && (n - 1 > STRING_MAX || memchr(p, 0, n - 1)))
		r->failed = true;
	return r->failed ? (struct text){0} : (struct text){(const char *)p, n - 1};
}

static int malformed(int type, struct err *e)
{
	return err_set(e, ERR_CORRUPT, "the metadata record of type %d is malformed", type);
}

static int apply_topic(struct metadata *m, struct rd *r, struct err *e)
{
	struct text name = get_text(r);
	const uint8_t *id = rd_bytes(r, TOPIC_ID_BYTES);
	if (r->failed || !name.p)
		return malformed(TOPIC_RECORD, e);
	struct entry *x = find(m->ids, id, TOPIC_ID_BYTES);
	if (x)
		drop(m, &m->ids, x);
	return add(m, &m->ids, id, TOPIC_ID_BYTES, name, e) ? 0 : ERR_NO_MEMORY;
}

static int apply_remove(struct metadata *m, struct rd *r, struct err *e)
{
	const uint8_t *id = rd_bytes(r, TOPIC_ID_BYTES);
	if (r->failed)
		return malformed(REMOVE_TOPIC_RECORD, e);
	struct entry *x = find(m->ids, id, TOPIC_ID_BYTES), *t = x ? find(m->topics, x->value, strlen(x->value)) : NULL;
	if (t)
		drop(m, &m->topics, t);
	if (x)
		drop(m, &m->ids, x);
	return 0;
}

static int apply_config(struct metadata *m, struct rd *r, struct err *e)
{
	int8_t type = rd_i8(r);
	struct text topic = get_text(r), name = get_text(r), value = get_text(r);
	if (r->failed || !topic.p || !name.p)
		return malformed(CONFIG_RECORD, e);
	if (type != RESOURCE_TOPIC)
		return 0;
	struct entry *t = find(m->topics, topic.p, topic.n), *s = t ? find(t->settings, name.p, name.n) : NULL;
	if (s)
		drop(m, &t->settings, s);
	if (!value.p)
		return 0;
	if (!t && !(t = add(m, &m->topics, topic.p, topic.n, (struct text){"", 0}, e)))
		return ERR_NO_MEMORY;
	return add(m, &t->settings, name.p, name.n, value, e) ? 0 : ERR_NO_MEMORY;
}

static int apply(struct metadata *m, const uint8_t *value, size_t n, struct err *e);

static int postpone(struct metadata *m, const uint8_t *value, size_t n, struct err *e)
{
	wr_i32(&m->postponed, (int32_t)n);
	wr_bytes(&m->postponed, value, n);
	return m->postponed.failed ? err_set(e, ERR_NO_MEMORY, "no memory for a metadata transaction of over %zu bytes", m->postponed.len) : 0;
}

/* A begin inside a transaction, or an end outside, cannot be: Kafka stops there too. */
static int turn_transaction(struct metadata *m, int type, struct err *e)
{
	if (m->in_transaction == (type == BEGIN_TRANSACTION))
		return err_set(e, ERR_CORRUPT, "a metadata transaction %s", m->in_transaction ? "begins within another one" : "ends that did not begin");
	m->in_transaction = type == BEGIN_TRANSACTION;
	int rc = 0;
	for (size_t at = 0, n; type == END_TRANSACTION && rc == 0 && at < m->postponed.len; at += 4 + n) {
		n = be32_get(m->postponed.data + at);
		rc = apply(m, m->postponed.data + at + 4, n, e);
	}
	wr_clear(&m->postponed);
	return rc;
}

static int apply(struct metadata *m, const uint8_t *value, size_t n, struct err *e)
{
	struct rd r;
	rd_init(&r, value, n);
	uint32_t frame = rd_uvarint(&r), type = rd_uvarint(&r), version = rd_uvarint(&r);
	if (r.failed)
		return err_set(e, ERR_CORRUPT, "a metadata record of %zu bytes is cut short", n);
	if (frame == FRAME_VERSION && type >= BEGIN_TRANSACTION && type <= ABORT_TRANSACTION)
		return turn_transaction(m, (int)type, e);
	bool ours = type == TOPIC_RECORD || type == CONFIG_RECORD || type == REMOVE_TOPIC_RECORD;
	if (frame != FRAME_VERSION || (ours && version != 0)) {
		m->newer++;
		return 0;
	}
	if (!ours)
		return 0;
	if (m->in_transaction)
		return postpone(m, value, n, e);
	return type == TOPIC_RECORD ? apply_topic(m, &r, e) : type == CONFIG_RECORD ? apply_config(m, &r, e) : apply_remove(m, &r, e);
}

static int metadata_record(void *arg, const struct batch *b, const struct record *r, struct err *e)
{
	(void)b;
	return r->value ? apply(arg, r->value, (size_t)r->value_len, e) : 0;
}

static int read_metadata(const char *dir, const struct adopt_files *f, struct metadata *m, struct err *e)
{
	struct adopt_walk w;
	char name[64];
	int rc = 0;
	adopt_walk_init(&w, dir, false, metadata_record, m);
	if (f->snapshot_offset >= 0) {
		snprintf(name, sizeof name, "%020" PRId64 "-%010" PRId64 ".checkpoint", f->snapshot_offset, f->snapshot_epoch);
		w.gaps = true; /* its offsets are its own */
		rc = adopt_walk_file(&w, name, false, e);
		if (rc == 0 && !w.footer)
			rc = err_set(e, ERR_CORRUPT, "%s/%s ends before its footer", dir, name);
		w.gaps = false;
		w.seen_offset = f->snapshot_offset - 1;
	}
	if (rc == 0)
		rc = adopt_walk_segments(&w, f, e);
	adopt_walk_release(&w);
	return rc;
}

static void tell_configs(struct metadata *m, void (*fn)(void *arg, const char *topic, const char *name, const char *value), void *arg)
{
	struct entry *t, *next, *s, *next_setting;
	HASH_ITER(hh, m->topics, t, next)
		HASH_ITER(hh, t->settings, s, next_setting)
			fn(arg, t->key, s->key, s->value);
}

int adopt_topic_configs(const char *dir, void (*fn)(void *arg, const char *topic, const char *name, const char *value), void *arg, struct err *e)
{
	char path[PATH_MAX];
	struct adopt_files f;
	struct metadata m = {0};
	struct entry *x, *next;
	wr_init(&m.postponed, TRANSACTION_BYTES);
	snprintf(path, sizeof path, "%s/__cluster_metadata-0", dir);
	int rc = adopt_files_list(&f, path, e);
	if (rc == 0)
		diag_notice("%s: there is no __cluster_metadata-0, so topic configurations are not taken over", dir);
	if (rc > 0)
		rc = read_metadata(path, &f, &m, e);
	if (rc == 0 && m.newer)
		diag_warning("%s: %" PRIu32 " records are of a version that is not known; configurations of topics may be missing", path, m.newer);
	if (rc == 0)
		tell_configs(&m, fn, arg);
	HASH_ITER(hh, m.topics, x, next)
		drop(&m, &m.topics, x);
	HASH_ITER(hh, m.ids, x, next)
		drop(&m, &m.ids, x);
	wr_release(&m.postponed);
	adopt_files_release(&f);
	return rc;
}
