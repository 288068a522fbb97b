/*
 * Groups, as clients see them: FindCoordinator, JoinGroup, SyncGroup, Heartbeat, LeaveGroup; DescribeGroups, ListGroups, DeleteGroups. What happens is the
 * coordinator's to decide (cluster/group); here is what depends on versions, and who is asked.
 *
 * What may be answered later has the connection wait (barrier): Kafka takes no further request of a connection while one is not answered, and clients count on that
 * order. A connection that closes while JoinGroup or SyncGroup is parked changes nothing for the group: its member stays until its session is over.
 */
#include <arpa/inet.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/api/call_group.h"
#include "cluster/join.h"

/* Everything may be done to a group where there are no ACLs: READ, DELETE, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS, a bit each. */
enum { GROUP_OPERATIONS = 3400 };

static const char no_memory[] = "no memory for a group";

struct wire_string wire_copy(struct call *c, struct gstr s)
{
	struct wire_bytes b = wire_copy_bytes(c, s);
	return (struct wire_string){(const char *)b.p, b.n};
}

struct wire_bytes wire_copy_bytes(struct call *c, struct gstr s)
{
	uint8_t *p = s.p ? call_get(c, (size_t)s.n + 1) : NULL;
	if (!p)
		return (struct wire_bytes){NULL, s.p ? 0 : -1};
	memcpy(p, s.p, (size_t)s.n);
	return (struct wire_bytes){p, s.n};
}

static struct wire_bytes bytes_of(struct gstr s)
{
	return (struct wire_bytes){s.p, s.n};
}

static struct gstr gstr_of_bytes(struct wire_bytes b)
{
	return (struct gstr){b.n > 0 ? (const void *)b.p : "", b.n > 0 ? b.n : 0};
}

/* ---- FindCoordinator ---- */

enum { KEY_GROUP, KEY_TRANSACTION, KEY_SHARE };

/* A share partition's key is group:topic-id:partition. */
static bool is_share_key(struct wire_string key)
{
	enum { UUID_CHARS = 22 };
	const char *end = key.s + key.n, *last = key.n > 0 ? memrchr(key.s, ':', (size_t)key.n) : NULL;
	const char *middle = last ? memrchr(key.s, ':', (size_t)(last - key.s)) : NULL;
	bool good = middle && middle > key.s && last - middle - 1 == UUID_CHARS && last + 1 < end;
	for (const char *p = last + 1; good && p < end; p++)
		good = *p >= '0' && *p <= '9';
	return good;
}

struct place { int32_t id, port; struct wire_string host; };
struct finding { struct call *call; struct join_broker *brokers; size_t count; struct place here; }; /* brokers: of a cluster; here: where this client reaches this broker */

static int32_t leader_of(struct broker *b, int32_t index)
{
	struct topic *t = topics_find(b, OFFSETS_TOPIC);
	struct partition *p = t ? topic_partition(t, index) : NULL;
	struct partition_metadata m;
	int32_t leader = p && partition_metadata(p, &m) ? m.leader : -1;
	partition_unref(p);
	topic_unref(t);
	return leader;
}

/* Where a group's coordinator is: the leader of its partition, as the controller says. */
static int16_t find_group(struct finding *f, struct wire_string key, struct place *at)
{
	struct coordinator *co = call_coordinator(f->call);
	struct err e = ERR_INIT;
	if (coordinator_need_topic(co, &e) < 0)
		return KAFKA_COORDINATOR_NOT_AVAILABLE;
	*at = f->here;
	if (!call_join(f->call))
		return KAFKA_NONE;
	int32_t leader = leader_of(call_broker(f->call), coordinator_partition_of(co, gstr_of(key)));
	if (leader == f->here.id)
		return KAFKA_NONE;
	for (size_t i = 0; i < f->count; i++) {
		if (f->brokers[i].id != leader)
			continue;
		char *host = call_text(f->call, wire_string(f->brokers[i].host));
		*at = (struct place){.id = leader, .port = f->brokers[i].port, .host = wire_string(host ? host : "")};
		return host ? KAFKA_NONE : KAFKA_COORDINATOR_NOT_AVAILABLE;
	}
	return KAFKA_COORDINATOR_NOT_AVAILABLE;
}

/*
 * Kafka's code for one key. Of transactions we are the coordinator, and InitProducerId refuses them: clients take that for the end, or tell their users why they ask again.
 * If there were just no coordinator they would ask in silence, some for ever. Share groups have none: clients ask until they give up, as where it is not there yet.
 */
static int16_t find_key(struct finding *f, struct wire_string key, struct place *at)
{
	const struct find_coordinator_request *r = f->call->request;
	switch (r->key_type) {
	case KEY_GROUP:
		return find_group(f, key, at);
	case KEY_TRANSACTION:
		*at = f->here;
		return KAFKA_NONE;
	case KEY_SHARE:
		return f->call->version < 6 || !is_share_key(key) ? KAFKA_INVALID_REQUEST : KAFKA_COORDINATOR_NOT_AVAILABLE;
	default:
		return KAFKA_INVALID_REQUEST;
	}
}

static struct wire_string error_sentence(int16_t error)
{
	switch (error) {
	case KAFKA_NONE:
		return wire_string("NONE");
	case KAFKA_INVALID_REQUEST:
		return wire_string("There are no coordinators of this kind at this version, or the key is not one of theirs.");
	default:
		return wire_string("There is no coordinator at the moment.");
	}
}

static void find_one(struct finding *f, struct find_coordinator_response *a)
{
	const struct find_coordinator_request *r = f->call->request;
	struct place at = {.id = -1, .port = -1, .host = wire_string("")};
	a->error_code = find_key(f, r->key, &at);
	a->error_message = error_sentence(a->error_code);
	if (a->error_code != KAFKA_NONE)
		at = (struct place){.id = -1, .port = -1, .host = wire_string("")};
	a->node_id = at.id;
	a->host = at.host;
	a->port = at.port;
}

/* false: no memory. */
static bool find_many(struct finding *f, struct find_coordinator_response *a)
{
	const struct find_coordinator_request *r = f->call->request;
	a->coordinators.v = call_array(f->call, &wire_find_coordinator_response_coordinator, r->coordinator_keys.n);
	if (!a->coordinators.v)
		return false;
	a->coordinators.n = r->coordinator_keys.n;
	for (int32_t i = 0; i < r->coordinator_keys.n; i++) {
		struct find_coordinator_response_coordinator *k = &a->coordinators.v[i];
		struct place at;
		k->key = r->coordinator_keys.v[i];
		k->error_code = find_key(f, k->key, &at);
		k->node_id = k->port = -1;
		if (k->error_code == KAFKA_NONE) {
			k->node_id = at.id;
			k->host = at.host;
			k->port = at.port;
		} else {
			k->error_message = error_sentence(k->error_code);
		}
	}
	return true;
}

static void find(struct call *c)
{
	struct find_coordinator_response a;
	struct join *j = call_join(c);
	struct finding f = {.call = c, .here.id = broker_id(call_broker(c))};
	wire_init(&wire_find_coordinator_response, &a);
	f.brokers = j ? join_brokers(j, &f.count) : NULL;
	bool good = (f.brokers || !j) && call_place(c, &f.here.host, &f.here.port);
	if (good && c->version < 4)
		find_one(&f, &a);
	else if (good)
		good = find_many(&f, &a);
	if (good)
		call_answer(c, &a);
	else
		call_close(c, no_memory);
	free(f.brokers);
}

void handle_find_coordinator(struct call *c)
{
	const struct find_coordinator_request *r = c->request;
	struct topic *t = r->key_type == KEY_GROUP && !call_join(c) ? topics_find(call_broker(c), OFFSETS_TOPIC) : NULL;
	topic_unref(t);
	if (t || r->key_type != KEY_GROUP || call_join(c))
		find(c);
	else
		call_to_pool(c, find, true); /* it is made */
}

/* ---- JoinGroup ---- */

/* As Java prints an address that has no name. */
static struct gstr client_host(struct call *c)
{
	char *text = call_get(c, INET6_ADDRSTRLEN + 1);
	const struct sockaddr *a = net_conn_peer(c->r->conn);
	if (!text)
		return GSTR("");
	text[0] = '/';
	if (a->sa_family == AF_INET) {
		inet_ntop(AF_INET, &((const struct sockaddr_in *)a)->sin_addr, text + 1, INET6_ADDRSTRLEN);
	} else if (a->sa_family == AF_INET6) {
		const uint8_t *b = ((const struct sockaddr_in6 *)a)->sin6_addr.s6_addr;
		for (int i = 0, n = 1; i < 16; i += 2)
			n += snprintf(text + n, (size_t)(INET6_ADDRSTRLEN + 1 - n), "%s%x", i ? ":" : "", b[i] << 8 | b[i + 1]);
	}
	return (struct gstr){text, (int32_t)strlen(text)};
}

static void joined(void *arg, const struct group_join_answer *j)
{
	struct call *c = arg;
	struct join_group_response a;
	wire_init(&wire_join_group_response, &a);
	a.error_code = j->error;
	a.generation_id = j->generation_id;
	a.protocol_type = wire_of(j->protocol_type);
	a.protocol_name = wire_of(j->protocol_name);
	if (c->version >= 7 ? a.protocol_name.n == 0 : a.protocol_name.n < 0)
		a.protocol_name = c->version >= 7 ? WIRE_NULL_STRING : wire_string("");
	a.leader = wire_text_of(j->leader);
	a.member_id = wire_text_of(j->member_id);
	a.skip_assignment = j->skip_assignment;
	a.members.v = call_array(c, &wire_join_group_response_member, (int32_t)j->member_count);
	if (!a.members.v) {
		call_close(c, no_memory);
		return;
	}
	a.members.n = (int32_t)j->member_count;
	for (size_t i = 0; i < j->member_count; i++) {
		a.members.v[i].member_id = wire_text_of(j->members[i].member_id);
		a.members.v[i].group_instance_id = wire_of(j->members[i].instance_id);
		a.members.v[i].metadata = bytes_of(j->members[i].metadata);
	}
	call_answer(c, &a);
}

void handle_join_group(struct call *c)
{
	const struct join_group_request *r = c->request;
	struct group_join_request *j = call_get(c, sizeof *j);
	struct group_protocol *p = call_get(c, ((size_t)r->protocols.n + 1) * sizeof *p);
	if (!j || !p) {
		call_close(c, no_memory);
		return;
	}
	for (int32_t i = 0; i < r->protocols.n; i++) {
		p[i].name = gstr_of(r->protocols.v[i].name);
		p[i].metadata = gstr_of_bytes(r->protocols.v[i].metadata);
	}
	*j = (struct group_join_request){
		.group_id = gstr_of(r->group_id), .member_id = gstr_of(r->member_id), .instance_id = gstr_of(r->group_instance_id),
		.protocol_type = gstr_of(r->protocol_type), .reason = gstr_of(r->reason), .client_id = gstr_of(c->client_id), .client_host = client_host(c),
		.protocols = p, .protocol_count = (size_t)r->protocols.n, .session_timeout_ms = r->session_timeout_ms,
		.rebalance_timeout_ms = c->version ? r->rebalance_timeout_ms : r->session_timeout_ms,
		.member_id_required = c->version >= 4, .skip_assignment = c->version >= 9,
	};
	c->r->barrier = true;
	group_join(call_coordinator(c), j, joined, c);
}

/* ---- SyncGroup ---- */

static void synced(void *arg, const struct group_sync_answer *s)
{
	struct sync_group_response a;
	wire_init(&wire_sync_group_response, &a);
	a.error_code = s->error;
	a.protocol_type = wire_of(s->protocol_type);
	a.protocol_name = wire_of(s->protocol_name);
	a.assignment = bytes_of(s->assignment);
	call_answer(arg, &a);
}

void handle_sync_group(struct call *c)
{
	const struct sync_group_request *r = c->request;
	if (c->version >= 5 && (r->protocol_type.n < 0 || r->protocol_name.n < 0)) { /* may be null, and yet must not */
		synced(c, &(struct group_sync_answer){.error = KAFKA_INCONSISTENT_GROUP_PROTOCOL, .assignment = GSTR("")});
		return;
	}
	struct group_sync_request *s = call_get(c, sizeof *s);
	struct group_assignment *p = call_get(c, ((size_t)r->assignments.n + 1) * sizeof *p);
	if (!s || !p) {
		call_close(c, no_memory);
		return;
	}
	for (int32_t i = 0; i < r->assignments.n; i++) {
		p[i].member_id = gstr_of(r->assignments.v[i].member_id);
		p[i].assignment = gstr_of_bytes(r->assignments.v[i].assignment);
	}
	*s = (struct group_sync_request){
		.group_id = gstr_of(r->group_id), .member_id = gstr_of(r->member_id), .instance_id = gstr_of(r->group_instance_id), .generation_id = r->generation_id,
		.protocol_type = gstr_of(r->protocol_type), .protocol_name = gstr_of(r->protocol_name), .assignments = p, .assignment_count = (size_t)r->assignments.n,
	};
	c->r->barrier = true;
	group_sync(call_coordinator(c), s, synced, c);
}

/* ---- Heartbeat, LeaveGroup ---- */

void handle_heartbeat(struct call *c)
{
	const struct heartbeat_request *r = c->request;
	struct heartbeat_response a;
	struct group_heartbeat_request h = {.group_id = gstr_of(r->group_id), .member_id = gstr_of(r->member_id), .instance_id = gstr_of(r->group_instance_id),
					    .generation_id = r->generation_id};
	wire_init(&wire_heartbeat_response, &a);
	a.error_code = group_heartbeat(call_coordinator(c), &h);
	call_answer(c, &a);
}

void handle_leave_group(struct call *c)
{
	const struct leave_group_request *r = c->request;
	struct leave_group_response a;
	bool single = c->version < 3;
	size_t n = single ? 1 : (size_t)r->members.n;
	struct group_leaving *m = call_get(c, (n + 1) * sizeof *m);
	wire_init(&wire_leave_group_response, &a);
	a.members.v = call_array(c, &wire_leave_group_response_member, (int32_t)n);
	if (!m || !a.members.v) {
		call_close(c, no_memory);
		return;
	}
	if (single)
		m->member_id = gstr_of(r->member_id);
	for (size_t i = 0; !single && i < n; i++)
		m[i] = (struct group_leaving){.member_id = gstr_of(r->members.v[i].member_id), .instance_id = gstr_of(r->members.v[i].group_instance_id),
					      .reason = gstr_of(r->members.v[i].reason)};
	a.error_code = group_leave(call_coordinator(c), gstr_of(r->group_id), m, n);
	if (single && a.error_code == KAFKA_NONE)
		a.error_code = m->error;
	a.members.n = single || a.error_code != KAFKA_NONE ? 0 : (int32_t)n;
	for (int32_t i = 0; i < a.members.n; i++) {
		a.members.v[i].member_id = r->members.v[i].member_id;
		a.members.v[i].group_instance_id = r->members.v[i].group_instance_id;
		a.members.v[i].error_code = m[i].error;
	}
	call_answer(c, &a);
}

/* ---- DescribeGroups ---- */

struct describing { struct call *call; struct describe_groups_response_group *a; bool good; };

static void described(void *arg, const struct group_description *d)
{
	struct describing *x = arg;
	struct call *c = x->call;
	struct describe_groups_response_group *a = x->a;
	const struct describe_groups_request *r = c->request;
	bool hidden = d->error == KAFKA_GROUP_ID_NOT_FOUND && c->version < 6;
	a->error_code = hidden ? KAFKA_NONE : d->error;
	if (d->error == KAFKA_GROUP_ID_NOT_FOUND && !hidden)
		a->error_message = wire_string("There is no such group.");
	a->group_state = wire_string(d->state);
	a->protocol_type = wire_copy(c, d->protocol_type);
	a->protocol_data = wire_copy(c, d->protocol);
	if (r->include_authorized_operations && a->error_code == KAFKA_NONE)
		a->authorized_operations = GROUP_OPERATIONS;
	a->members.v = call_array(c, &wire_describe_groups_response_member, (int32_t)d->member_count);
	x->good = a->members.v;
	for (size_t i = 0; x->good && i < d->member_count; i++) {
		const struct group_described_member *m = &d->members[i];
		struct describe_groups_response_member *to = &a->members.v[a->members.n++];
		to->member_id = wire_copy(c, m->member_id);
		to->group_instance_id = wire_copy(c, m->instance_id);
		to->client_id = wire_copy(c, m->client_id);
		to->client_host = wire_copy(c, m->client_host);
		to->member_metadata = wire_copy_bytes(c, m->metadata);
		to->member_assignment = wire_copy_bytes(c, m->assignment);
	}
}

void handle_describe_groups(struct call *c)
{
	const struct describe_groups_request *r = c->request;
	struct describe_groups_response a;
	wire_init(&wire_describe_groups_response, &a);
	a.groups.v = call_array(c, &wire_describe_groups_response_group, r->groups.n);
	struct describing x = {.call = c, .good = a.groups.v};
	for (int32_t i = 0; i < r->groups.n && x.good; i++) {
		x.a = &a.groups.v[a.groups.n++];
		x.a->group_id = r->groups.v[i];
		group_describe(call_coordinator(c), gstr_of(r->groups.v[i]), described, &x);
	}
	if (x.good)
		call_answer(c, &a);
	else
		call_close(c, no_memory);
}

/* ---- ListGroups ---- */

struct listing { struct call *call; struct list_groups_response a; int32_t cap; bool failed; };

static void add_listed(void *arg, const struct group_listed *g)
{
	struct listing *x = arg;
	if (x->a.groups.n == x->cap && !x->failed) {
		int32_t cap = x->cap ? 2 * x->cap : 64;
		struct list_groups_response_group *v = call_array(x->call, &wire_list_groups_response_group, cap);
		if (v && x->cap)
			memcpy(v, x->a.groups.v, (size_t)x->cap * sizeof *v);
		x->a.groups.v = v;
		x->cap = cap;
		x->failed = !v;
	}
	if (x->failed)
		return;
	struct list_groups_response_group *to = &x->a.groups.v[x->a.groups.n++];
	to->group_id = wire_copy(x->call, g->group_id);
	to->protocol_type = wire_copy(x->call, g->protocol_type);
	to->group_state = wire_string(g->state);
	to->group_type = wire_string(g->type);
}

static struct gstr *filter_of(struct call *c, const struct wire_string *v, int32_t n)
{
	struct gstr *list = call_get(c, ((size_t)n + 1) * sizeof *list);
	for (int32_t i = 0; list && i < n; i++)
		list[i] = gstr_of(v[i]);
	return list;
}

void handle_list_groups(struct call *c)
{
	const struct list_groups_request *r = c->request;
	struct listing x = {.call = c};
	struct group_list_filter f = {.states = filter_of(c, r->states_filter.v, r->states_filter.n), .types = filter_of(c, r->types_filter.v, r->types_filter.n),
				      .state_count = (size_t)r->states_filter.n, .type_count = (size_t)r->types_filter.n};
	wire_init(&wire_list_groups_response, &x.a);
	if (f.states && f.types)
		x.a.error_code = group_list(call_coordinator(c), &f, add_listed, &x);
	if (!f.states || !f.types || x.failed)
		call_close(c, no_memory);
	else
		call_answer(c, &x.a);
}

/* ---- DeleteGroups ---- */

struct deleting_one { struct deleting *all; struct delete_groups_response_group *answer; };
struct deleting { struct call *call; struct delete_groups_response a; _Atomic int32_t left; struct deleting_one *one; };

static void one_less(struct deleting *d)
{
	if (atomic_fetch_sub(&d->left, 1) == 1)
		call_answer(d->call, &d->a);
}

static void group_deleted(void *arg, int16_t error)
{
	struct deleting_one *one = arg;
	one->answer->error_code = error;
	one_less(one->all);
}

static int by_name(const void *a, const void *b)
{
	const struct delete_groups_response_group *x = a, *y = b;
	int32_t n = x->group_id.n < y->group_id.n ? x->group_id.n : y->group_id.n;
	int order = n > 0 ? memcmp(x->group_id.s, y->group_id.s, (size_t)n) : 0;
	return order ? order : (x->group_id.n > y->group_id.n) - (x->group_id.n < y->group_id.n);
}

/* Each name once. */
static bool lay_out_deletion(struct deleting *d)
{
	const struct delete_groups_request *r = d->call->request;
	struct delete_groups_response *a = &d->a;
	int32_t n = r->groups_names.n;
	wire_init(&wire_delete_groups_response, a);
	a->results.v = call_array(d->call, &wire_delete_groups_response_group, n);
	d->one = call_get(d->call, ((size_t)n + 1) * sizeof *d->one);
	if (!a->results.v || !d->one)
		return false;
	for (int32_t i = 0; i < n; i++)
		a->results.v[i].group_id = r->groups_names.v[i];
	qsort(a->results.v, (size_t)n, sizeof *a->results.v, by_name);
	for (int32_t i = 0; i < n; i++)
		if (!a->results.n || by_name(&a->results.v[a->results.n - 1], &a->results.v[i]))
			a->results.v[a->results.n++] = a->results.v[i];
	return true;
}

void handle_delete_groups(struct call *c)
{
	struct deleting *d = call_get(c, sizeof *d);
	if (!d || !(d->call = c, lay_out_deletion(d))) {
		call_close(c, no_memory);
		return;
	}
	int32_t n = d->a.results.n;
	d->left = n + 1;
	c->r->barrier = true;
	for (int32_t i = 0; i < n; i++) {
		d->one[i] = (struct deleting_one){d, &d->a.results.v[i]};
		group_delete(call_coordinator(c), gstr_of(d->a.results.v[i].group_id), group_deleted, &d->one[i]);
	}
	one_less(d);
}
