#include "cluster/group/group_records.h"

#include <inttypes.h>
#include <stdlib.h>

#include "cluster/wire/api.h"
#include "cluster/wire/messages.h"

enum { KEY_OFFSET = 1, KEY_GROUP = 2, KEY_NEWER_LAST = 8, KEY_NEWER_REGEX = 16 };
enum { OFFSET_VERSION = 4, OFFSET_EXPIRES_VERSION = 1, GROUP_VERSION = 3 };

static struct wire_string to_string(struct gstr s)
{
	return s.p ? (struct wire_string){s.p, s.n} : WIRE_NULL_STRING;
}

/* Null is written as empty. */
static struct wire_string to_text(const struct blob *b)
{
	return b ? (struct wire_string){(const char *)b->data, b->n} : (struct wire_string){"", 0};
}

static struct wire_bytes to_bytes(const struct blob *b)
{
	return b ? (struct wire_bytes){b->data, b->n} : (struct wire_bytes){(const uint8_t *)"", 0};
}

static struct gstr from_string(struct wire_string s)
{
	return s.n < 0 ? (struct gstr){NULL, 0} : (struct gstr){s.s ? s.s : "", s.n};
}

static struct gstr from_bytes(struct wire_bytes b)
{
	return b.n < 0 ? (struct gstr){NULL, 0} : (struct gstr){b.p ? b.p : (const uint8_t *)"", b.n};
}

/* ---- writing ---- */

void records_init(struct records *r)
{
	*r = (struct records){0};
	wire_out_init(&r->out, INT32_MAX);
}

void records_release(struct records *r)
{
	wire_out_release(&r->out);
	free(r->at);
}

static void encode(struct records *r, const struct wire_struct *desc, int version, const void *message)
{
	if (r->rc == 0)
		r->rc = wire_encode_versioned(desc, version, message, &r->out, &r->err);
}

/* A record begins, with its key; key NULL: as its bytes are. */
static void begin(struct records *r, const struct wire_struct *desc, int version, const void *message, const struct blob *key)
{
	if (r->count == r->cap) {
		size_t cap = r->cap ? 2 * r->cap : 8;
		struct record_at *at = realloc(r->at, cap * sizeof *at);
		if (!at) {
			r->rc = err_set(&r->err, ERR_NO_MEMORY, "no memory for %zu records", cap);
			return;
		}
		r->at = at;
		r->cap = cap;
	}
	struct record_at *at = &r->at[r->count++];
	at->key = r->out.bytes.len;
	if (message)
		encode(r, desc, version, message);
	else
		wr_bytes(&r->out.bytes, key->data, (size_t)key->n);
	if (r->out.bytes.failed && r->rc == 0)
		r->rc = err_set(&r->err, ERR_NO_MEMORY, "no memory for a record");
	at->value = at->end = r->out.bytes.len;
	at->tombstone = true;
}

/* Its value. */
static void value(struct records *r, const struct wire_struct *desc, int version, const void *message)
{
	if (r->rc < 0)
		return;
	encode(r, desc, version, message);
	r->at[r->count - 1].end = r->out.bytes.len;
	r->at[r->count - 1].tombstone = false;
}

void records_offset_gone(struct records *r, struct gstr group, struct gstr topic, int32_t partition)
{
	struct offset_commit_key k = {.group = to_string(group), .topic = to_string(topic), .partition = partition};
	begin(r, &wire_offset_commit_key, KEY_OFFSET, &k, NULL);
}

void records_offset(struct records *r, struct gstr group, struct gstr topic, const struct offset_entry *o)
{
	struct offset_commit_value v = {.offset = o->offset, .leader_epoch = o->leader_epoch, .metadata = to_text(o->metadata), .commit_timestamp = o->commit_ms, .expire_timestamp = o->expire_ms};
	memcpy(v.topic_id.b, o->topic_id, sizeof v.topic_id.b);
	records_offset_gone(r, group, topic, o->partition);
	value(r, &wire_offset_commit_value, o->expire_ms >= 0 ? OFFSET_EXPIRES_VERSION : OFFSET_VERSION, &v);
}

void records_group_gone(struct records *r, struct gstr group)
{
	struct group_metadata_key k = {.group = to_string(group)};
	begin(r, &wire_group_metadata_key, KEY_GROUP, &k, NULL);
}

void records_newer_gone(struct records *r, struct group *g)
{
	static const int16_t order[] = {8, 7, 6, 16, 5, 4, 3}; /* assignments before members before the group itself: else Kafka refuses to load it */
	for (size_t i = 0; g->foreign && i < sizeof order / sizeof *order; i++)
		for (struct foreign_key *f = g->foreign; f; f = f->hh.next)
			if ((int16_t)be16_get(f->key->data) == order[i])
				begin(r, NULL, 0, NULL, f->key);
}

void records_group_empty(struct records *r, struct group *g)
{
	struct group_metadata_value v = {.protocol = WIRE_NULL_STRING, .leader = WIRE_NULL_STRING, .current_state_timestamp = g->state_ms};
	records_group_gone(r, blob_str(g->id));
	value(r, &wire_group_metadata_value, GROUP_VERSION, &v);
}

static struct group_metadata_value_member to_member(struct group *g, struct member *m, bool next)
{
	return (struct group_metadata_value_member){
		.member_id = to_text(m->id), .group_instance_id = to_string(blob_str(m->instance_id)), .client_id = to_text(m->client_id), .client_host = to_text(m->client_host),
		.rebalance_timeout = m->rebalance_timeout_ms, .session_timeout = m->session_timeout_ms,
		.subscription = to_bytes(member_metadata(m, g->protocol)), .assignment = to_bytes(next ? m->next_assignment : m->assignment),
	};
}

void records_group(struct records *r, struct group *g, bool next)
{
	/* from now on it is a group of this protocol, and nothing else; in this order, as Kafka takes no group for two */
	records_newer_gone(r, g);
	struct group_metadata_value v = {
		.protocol_type = to_text(g->protocol_type), .generation = g->generation, .protocol = to_string(blob_str(g->protocol)),
		.leader = to_string(blob_str(g->leader ? g->leader->id : NULL)), .current_state_timestamp = g->state_ms,
	};
	records_group_gone(r, blob_str(g->id));
	v.members.v = calloc(g->member_count + 1, sizeof *v.members.v);
	if (!v.members.v && r->rc == 0)
		r->rc = err_set(&r->err, ERR_NO_MEMORY, "no memory for a group of %" PRIu32 " members", g->member_count);
	for (struct member *m = v.members.v ? g->members : NULL; m; m = m->hh.next)
		v.members.v[v.members.n++] = to_member(g, m, next);
	value(r, &wire_group_metadata_value, GROUP_VERSION, &v);
	free(v.members.v);
}

static struct record_in record_in(const struct records *r, size_t i, int64_t now_ms)
{
	const struct record_at *at = &r->at[i];
	return (struct record_in){
		.key = r->out.bytes.data + at->key, .key_len = (int32_t)(at->value - at->key), .timestamp_ms = now_ms,
		.value = at->tombstone ? NULL : r->out.bytes.data + at->value, .value_len = at->tombstone ? -1 : (int32_t)(at->end - at->value),
	};
}

int records_build(struct records *r, const struct batch_style *style, int64_t now_ms, struct record_set *set, struct err *e)
{
	enum { OVERHEAD = 32 }; /* of a record, at most */
	if (r->rc < 0)
		return err_set(e, r->rc, "%s", r->err.text);
	struct record_in *in = calloc(r->count ? r->count : 1, sizeof *in);
	int rc = in ? 0 : err_set(e, ERR_NO_MEMORY, "no memory for %zu records", r->count);
	for (size_t i = 0, n; i < r->count && rc == 0; i += n) {
		size_t bytes = BATCH_HEADER_BYTES;
		for (n = 0; i + n < r->count; n++) {
			size_t size = r->at[i + n].end - r->at[i + n].key + OVERHEAD;
			if (n && bytes + size > style->max_batch_bytes)
				break;
			bytes += size;
			in[n] = record_in(r, i + n, now_ms);
		}
		rc = record_set_add_records(set, style, 0, in, (uint32_t)n, e);
	}
	free(in);
	return rc;
}

/* ---- reading ---- */

bool record_key_decode(struct gstr bytes, struct arena *arena, struct record_key *k)
{
	struct offset_commit_key offset;
	struct group_metadata_key group;
	int version;
	*k = (struct record_key){.kind = RECORD_UNKNOWN, .version = -1};
	if (!bytes.p || bytes.n < 2)
		return false;
	k->version = (int16_t)be16_get(bytes.p);
	if (k->version >= 0 && k->version <= KEY_OFFSET) {
		k->kind = RECORD_OFFSET;
		if (wire_decode_versioned(&wire_offset_commit_key, bytes.p, (size_t)bytes.n, arena, &offset, &version, NULL) < 0)
			return false;
		k->group = from_string(offset.group);
		k->topic = from_string(offset.topic);
		k->partition = offset.partition;
	} else if (k->version >= KEY_GROUP && (k->version <= KEY_NEWER_LAST || k->version == KEY_NEWER_REGEX)) {
		/* all of these begin with the group's id; of the newer ones nothing more is wanted */
		k->kind = k->version == KEY_GROUP ? RECORD_GROUP : RECORD_NEWER_GROUP;
		if (wire_decode(&wire_group_metadata_key, KEY_GROUP, (const uint8_t *)bytes.p + 2, (size_t)bytes.n - 2, arena, &group, NULL) < 0)
			return false;
		k->group = from_string(group.group);
	}
	return true;
}

/* 1; 0: the version is not known; ERR_CORRUPT, ERR_NO_MEMORY. */
static int decode(const struct wire_struct *desc, struct gstr bytes, struct arena *arena, void *message)
{
	int version;
	ssize_t n = wire_decode_versioned(desc, bytes.p, (size_t)bytes.n, arena, message, &version, NULL);
	return n >= 0 ? 1 : n == ERR_UNSUPPORTED ? 0 : n == ERR_NO_MEMORY ? ERR_NO_MEMORY : ERR_CORRUPT;
}

int record_offset_decode(struct gstr bytes, struct arena *arena, struct offset_entry *o)
{
	struct offset_commit_value v;
	int rc = decode(&wire_offset_commit_value, bytes, arena, &v);
	if (rc <= 0)
		return rc;
	o->offset = v.offset;
	o->leader_epoch = v.leader_epoch;
	o->commit_ms = v.commit_timestamp;
	o->expire_ms = v.expire_timestamp;
	memcpy(o->topic_id, v.topic_id.b, sizeof o->topic_id);
	return (o->metadata = blob_new(from_string(v.metadata))) ? 1 : ERR_NO_MEMORY;
}

static int take_member(struct group *g, const struct group_metadata_value_member *v, struct gstr leader)
{
	struct gstr id = from_string(v->member_id), instance_id = from_string(v->group_instance_id);
	struct group_protocol protocol = {blob_str(g->protocol), from_bytes(v->subscription)};
	if (group_find_member(g, id) || (instance_id.p && group_static_member(g, instance_id)))
		return ERR_CORRUPT;
	struct member *m = member_new(id, instance_id, from_string(v->client_id), from_string(v->client_host));
	if (m && (m->protocols = protocols_new(&protocol, 1)))
		m->protocol_count = 1;
	if (!m || !m->protocols || !(m->assignment = blob_new(from_bytes(v->assignment))) || group_add_member(g, m) < 0) {
		if (m)
			member_unref(m);
		return ERR_NO_MEMORY;
	}
	m->session_timeout_ms = v->session_timeout;
	m->rebalance_timeout_ms = v->rebalance_timeout < 0 ? v->session_timeout : v->rebalance_timeout;
	if (gstr_same(id, leader))
		g->leader = m;
	return 0;
}

int record_group_decode(struct gstr bytes, struct arena *arena, struct group *g)
{
	struct group_metadata_value v;
	int rc = decode(&wire_group_metadata_value, bytes, arena, &v);
	if (rc <= 0)
		return rc;
	struct gstr type = from_string(v.protocol_type), protocol = from_string(v.protocol);
	if (v.members.n > 0 && !protocol.p)
		return ERR_CORRUPT;
	g->generation = v.generation;
	g->state_ms = v.current_state_timestamp;
	if ((type.n && !(g->protocol_type = blob_new(type))) || (protocol.p && !(g->protocol = blob_new(protocol))))
		return ERR_NO_MEMORY;
	rc = 0;
	for (int32_t i = 0; i < v.members.n && rc == 0; i++)
		rc = take_member(g, &v.members.v[i], from_string(v.leader));
	g->state = g->member_count ? GROUP_STABLE : GROUP_EMPTY;
	group_learn_subscriptions(g);
	return rc < 0 ? rc : 1;
}

bool record_epoch_decode(struct gstr bytes, int32_t *epoch)
{
	struct rd r;
	rd_init(&r, bytes.p, (size_t)bytes.n);
	int16_t version = rd_i16(&r);
	*epoch = rd_i32(&r);
	return !r.failed && version == 0;
}
