/* spoolfs group describe: members, what they were assigned, how far they are. */
#include "fs/cmd_group.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/table.h"
#include "store/buf.h"

/* ---- what a group is ---- */

static int16_t describe_error(const void *response)
{
	const struct describe_groups_response *a = response;
	return a->groups.n == 1 ? a->groups.v[0].error_code : KAFKA_UNKNOWN_SERVER_ERROR;
}

/* One pass over ConsumerProtocolAssignment (a version; topics with their partitions), counting, or filling `to`. What does not read as one assigns nothing. */
static size_t read_assignment(struct remote *r, struct wire_bytes b, struct remote_place *to, struct err *e)
{
	struct rd d;
	size_t n = 0;
	rd_init(&d, b.p, b.n > 0 ? (size_t)b.n : 0);
	rd_i16(&d);
	int32_t topics = rd_i32(&d);
	for (int32_t t = 0; t < topics && !d.failed; t++) {
		int16_t length = rd_i16(&d);
		const uint8_t *name = length < 0 ? NULL : rd_bytes(&d, (size_t)length);
		int32_t partitions = rd_i32(&d);
		const char *topic = to && name ? remote_text(r, (struct wire_string){(const char *)name, length}, e) : NULL;
		for (int32_t i = 0; i < partitions; i++) {
			int32_t partition = rd_i32(&d);
			if (d.failed || !name || (to && !topic))
				return 0;
			if (to)
				to[n] = (struct remote_place){.topic = topic, .partition = partition};
			n++;
		}
	}
	return d.failed ? 0 : n;
}

static int take_member(struct remote *r, const struct describe_groups_response_member *m, bool consumer, struct group_about_member *to, struct err *e)
{
	to->id = remote_text(r, m->member_id, e);
	to->instance = m->group_instance_id.n < 0 ? "" : remote_text(r, m->group_instance_id, e);
	to->client = remote_text(r, m->client_id, e);
	to->host = remote_text(r, m->client_host, e);
	size_t n = consumer ? read_assignment(r, m->member_assignment, NULL, e) : 0;
	to->assigned = remote_get(r, (n + 1) * sizeof *to->assigned, e);
	if (!to->id || !to->instance || !to->client || !to->host || !to->assigned)
		return ERR_NO_MEMORY;
	to->count = n ? read_assignment(r, m->member_assignment, to->assigned, e) : 0;
	qsort(to->assigned, to->count, sizeof *to->assigned, remote_place_order);
	return 0;
}

/* A group of Kafka's newer protocol (KIP-848) is no group to DescribeGroups; the list knows it. */
static int look_in_list(struct remote *r, struct group_about *about, struct err *e)
{
	struct list_groups_request q;
	struct list_groups_response a;
	wire_init(&wire_list_groups_request, &q);
	int rc = remote_call(r, about->coordinator, API_LIST_GROUPS, &q, &a, e);
	for (int32_t i = 0; rc == 0 && i < a.groups.n; i++) {
		if (!wire_string_is(a.groups.v[i].group_id, about->id))
			continue;
		about->found = true;
		about->state = remote_text(r, a.groups.v[i].group_state, e);
		about->type = remote_text(r, a.groups.v[i].group_type, e);
		about->protocol_type = remote_text(r, a.groups.v[i].protocol_type, e);
		return about->state && about->type && about->protocol_type ? 0 : ERR_NO_MEMORY;
	}
	return rc;
}

int group_about(struct remote *r, const char *id, struct group_about *about, struct err *e)
{
	struct describe_groups_request q;
	struct describe_groups_response a;
	struct wire_string name = wire_string(id);
	char words[200];
	*about = (struct group_about){.id = id, .state = "Dead", .type = "classic", .protocol_type = "", .protocol = ""};
	wire_init(&wire_describe_groups_request, &q);
	q.groups.v = &name;
	q.groups.n = 1;
	int rc = remote_group_call(r, id, API_DESCRIBE_GROUPS, &q, &a, describe_error, e);
	if (rc < 0)
		return rc;
	int16_t error = describe_error(&a);
	if (error && error != KAFKA_GROUP_ID_NOT_FOUND)
		return err_set(e, ERR_INVALID, "%s", group_error_words(error, words));
	if (!error && !wire_string_is(a.groups.v[0].group_state, "Dead")) {
		const struct describe_groups_response_group *g = &a.groups.v[0];
		about->found = true;
		about->state = remote_text(r, g->group_state, e);
		about->protocol_type = remote_text(r, g->protocol_type, e);
		about->protocol = remote_text(r, g->protocol_data, e);
		about->member = remote_get(r, (size_t)(g->members.n + 1) * sizeof *about->member, e);
		if (!about->state || !about->protocol_type || !about->protocol || !about->member)
			return ERR_NO_MEMORY;
		for (int32_t i = 0; i < g->members.n; i++)
			if (take_member(r, &g->members.v[i], !strcmp(about->protocol_type, "consumer"), &about->member[about->members++], e) < 0)
				return ERR_NO_MEMORY;
	}
	rc = remote_coordinator(r, id, &about->coordinator, e);
	for (size_t i = 0; rc == 0 && i < r->broker_count; i++)
		if (r->broker[i].id == about->coordinator) {
			about->coordinator_host = r->broker[i].host;
			about->coordinator_port = r->broker[i].port;
		}
	return rc < 0 || about->found ? rc : look_in_list(r, about, e);
}

/* ---- how far it has read ---- */

static int16_t fetch_error_new(const void *response)
{
	const struct offset_fetch_response *a = response;
	return a->groups.n == 1 ? a->groups.v[0].error_code : KAFKA_UNKNOWN_SERVER_ERROR;
}

static int16_t fetch_error_old(const void *response)
{
	return ((const struct offset_fetch_response *)response)->error_code;
}

static int add_offset(struct remote *r, struct group_offsets *o, const char *topic, int32_t partition, int64_t offset, struct wire_string metadata, struct err *e)
{
	o->place[o->count] = (struct remote_place){.topic = topic, .partition = partition, .offset = offset};
	o->metadata[o->count] = remote_text(r, metadata, e);
	return o->metadata[o->count++] ? 0 : ERR_NO_MEMORY;
}

static int room_for(struct remote *r, struct group_offsets *o, size_t n, struct err *e)
{
	o->place = remote_get(r, (n + 1) * sizeof *o->place, e);
	o->metadata = remote_get(r, (n + 1) * sizeof *o->metadata, e);
	return o->place && o->metadata ? 0 : ERR_NO_MEMORY;
}

static int take_new(struct remote *r, const struct offset_fetch_response_group *g, struct group_offsets *o, struct err *e)
{
	size_t n = 0;
	for (int32_t t = 0; t < g->topics.n; t++)
		n += (size_t)g->topics.v[t].partitions.n;
	int rc = room_for(r, o, n, e);
	for (int32_t t = 0; t < g->topics.n && rc == 0; t++) {
		const char *topic = remote_text(r, g->topics.v[t].name, e);
		rc = topic ? 0 : ERR_NO_MEMORY;
		for (int32_t i = 0; i < g->topics.v[t].partitions.n && rc == 0; i++) {
			const struct offset_fetch_response_topic_partition *p = &g->topics.v[t].partitions.v[i];
			if (p->committed_offset >= 0)
				rc = add_offset(r, o, topic, p->partition_index, p->committed_offset, p->metadata, e);
		}
	}
	return rc;
}

static int take_old(struct remote *r, const struct offset_fetch_response *a, struct group_offsets *o, struct err *e)
{
	size_t n = 0;
	for (int32_t t = 0; t < a->topics.n; t++)
		n += (size_t)a->topics.v[t].partitions.n;
	int rc = room_for(r, o, n, e);
	for (int32_t t = 0; t < a->topics.n && rc == 0; t++) {
		const char *topic = remote_text(r, a->topics.v[t].name, e);
		rc = topic ? 0 : ERR_NO_MEMORY;
		for (int32_t i = 0; i < a->topics.v[t].partitions.n && rc == 0; i++) {
			const struct offset_fetch_response_partition *p = &a->topics.v[t].partitions.v[i];
			if (p->committed_offset >= 0)
				rc = add_offset(r, o, topic, p->partition_index, p->committed_offset, p->metadata, e);
		}
	}
	return rc;
}

/* Puts metadata in the order of its offsets: both are sorted by going through an array of pairs. */
struct pair { struct remote_place place; const char *metadata; };

static int sort_offsets(struct remote *r, struct group_offsets *o, struct err *e)
{
	struct pair *v = remote_get(r, (o->count + 1) * sizeof *v, e);
	if (!v)
		return ERR_NO_MEMORY;
	for (size_t i = 0; i < o->count; i++)
		v[i] = (struct pair){o->place[i], o->metadata[i]};
	qsort(v, o->count, sizeof *v, remote_place_order);
	for (size_t i = 0; i < o->count; i++) {
		o->place[i] = v[i].place;
		o->metadata[i] = v[i].metadata;
	}
	return 0;
}

int group_offsets(struct remote *r, const char *id, struct group_offsets *o, struct err *e)
{
	struct offset_fetch_request q;
	struct offset_fetch_response a;
	struct offset_fetch_request_group g;
	char words[200];
	int version = client_version(r->first, API_OFFSET_FETCH, e);
	if (version < 0)
		return version;
	*o = (struct group_offsets){0};
	wire_init(&wire_offset_fetch_request, &q);
	wire_init(&wire_offset_fetch_request_group, &g);
	g.group_id = wire_string(id);
	g.topics.n = -1; /* all */
	q.require_stable = version >= 7;
	if (version < 8) {
		q.group_id = g.group_id;
		q.topics.n = -1;
	} else {
		q.groups.v = &g;
		q.groups.n = 1;
	}
	int16_t (*error_of)(const void *) = version < 8 ? fetch_error_old : fetch_error_new;
	int rc = remote_group_call(r, id, API_OFFSET_FETCH, &q, &a, error_of, e);
	if (rc < 0)
		return rc;
	if (error_of(&a))
		return err_set(e, ERR_INVALID, "%s", group_error_words(error_of(&a), words));
	rc = version < 8 ? take_old(r, &a, o, e) : take_new(r, &a.groups.v[0], o, e);
	return rc < 0 ? rc : sort_offsets(r, o, e);
}

/* ---- both together ---- */

struct row { struct remote_place place; const struct group_about_member *member; int64_t offset; const char *metadata; };

struct rows { struct row *v; struct remote_place *place; size_t n; };

static int row_order(const void *a, const void *b)
{
	return remote_place_order(a, b); /* it begins with its place */
}

/* Every partition that has an offset, or a member. */
static int make_rows(struct remote *r, const struct group_about *a, const struct group_offsets *o, struct rows *rows, struct err *e)
{
	size_t n = o->count;
	for (size_t m = 0; m < a->members; m++)
		n += a->member[m].count;
	rows->v = remote_get(r, (n + 1) * sizeof *rows->v, e);
	rows->place = remote_get(r, (n + 1) * sizeof *rows->place, e);
	if (!rows->v || !rows->place)
		return ERR_NO_MEMORY;
	n = 0;
	for (size_t i = 0; i < o->count; i++)
		rows->v[n++] = (struct row){.place = o->place[i], .offset = o->place[i].offset, .metadata = o->metadata[i]};
	for (size_t m = 0; m < a->members; m++)
		for (size_t i = 0; i < a->member[m].count; i++)
			rows->v[n++] = (struct row){.place = a->member[m].assigned[i], .member = &a->member[m], .offset = -1, .metadata = ""};
	qsort(rows->v, n, sizeof *rows->v, row_order);
	for (size_t i = 0; i < n; i++) {
		struct row *last = rows->n ? &rows->v[rows->n - 1] : NULL;
		if (!last || remote_place_order(last, &rows->v[i])) {
			rows->v[rows->n++] = rows->v[i];
			continue;
		}
		if (rows->v[i].member)
			last->member = rows->v[i].member;
		if (rows->v[i].offset >= 0) {
			last->offset = rows->v[i].offset;
			last->metadata = rows->v[i].metadata;
		}
	}
	for (size_t i = 0; i < rows->n; i++)
		rows->place[i] = rows->v[i].place;
	int rc = remote_find_leaders(r, rows->place, rows->n, e);
	return rc < 0 ? rc : remote_list_offsets(r, rows->place, rows->n, REMOTE_LATEST, e);
}

/* ---- printing ---- */

static int64_t lag_of(const struct rows *rows, size_t i)
{
	int64_t lag = rows->place[i].offset - rows->v[i].offset;
	return lag > 0 ? lag : 0;
}

static bool has_end(const struct rows *rows, size_t i)
{
	return !rows->place[i].error && rows->place[i].offset >= 0;
}

static json_t *json_member(const struct group_about_member *m)
{
	json_t *partitions = json_array();
	for (size_t i = 0; i < m->count; i++)
		json_array_append_new(partitions, json_pack("{s:s, s:i}", "topic", m->assigned[i].topic, "partition", (int)m->assigned[i].partition));
	return json_pack("{s:s, s:s?, s:s, s:s, s:o}", "member", m->id, "instance", *m->instance ? m->instance : NULL, "client", m->client, "host", m->host,
			 "partitions", partitions);
}

static json_t *json_group(const struct group_about *a, const struct rows *rows)
{
	json_t *members = json_array(), *partitions = json_array();
	for (size_t i = 0; i < a->members; i++)
		json_array_append_new(members, json_member(&a->member[i]));
	for (size_t i = 0; i < rows->n; i++) {
		const struct row *w = &rows->v[i];
		bool committed = w->offset >= 0, end = has_end(rows, i);
		json_t *o = json_pack("{s:s, s:i, s:o, s:o, s:o, s:s, s:s?}", "topic", w->place.topic, "partition", (int)w->place.partition,
				      "offset", committed ? json_integer(w->offset) : json_null(), "end", end ? json_integer(rows->place[i].offset) : json_null(),
				      "lag", committed && end ? json_integer(lag_of(rows, i)) : json_null(), "metadata", w->metadata, "member", w->member ? w->member->id : NULL);
		if (rows->place[i].error)
			json_object_set_new(o, "error", json_string(kafka_error_name(rows->place[i].error)));
		json_array_append_new(partitions, o);
	}
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:o, s:o}", "group", a->id, "state", a->state, "type", a->type, "protocol_type", a->protocol_type,
			 "protocol", a->protocol, "coordinator", (int)a->coordinator, "members", members, "partitions", partitions);
}

static void number_or_dash(struct table *t, bool there, int64_t n)
{
	if (there)
		table_number(t, n);
	else
		table_text(t, NULL);
}

static bool print_members(const struct group_about *a)
{
	struct table t;
	table_init(&t, (const char *const[]){"MEMBER", "INSTANCE", "CLIENT", "HOST", "PARTITIONS"}, 5);
	for (size_t i = 0; i < a->members; i++) {
		const struct group_about_member *m = &a->member[i];
		table_text(&t, m->id);
		table_text(&t, *m->instance ? m->instance : NULL);
		table_text(&t, *m->client ? m->client : NULL);
		table_text(&t, *m->host ? m->host : NULL);
		table_number(&t, (int64_t)m->count);
	}
	bool good = !a->members || (table_print(&t) && printf("\n") > 0);
	table_release(&t);
	return good;
}

static bool print_rows(const struct rows *rows)
{
	struct table t;
	table_init(&t, (const char *const[]){"TOPIC", "PARTITION", "OFFSET", "END", "LAG", "MEMBER"}, 6);
	for (size_t i = 0; i < rows->n; i++) {
		const struct row *w = &rows->v[i];
		table_text(&t, w->place.topic);
		table_number(&t, w->place.partition);
		number_or_dash(&t, w->offset >= 0, w->offset);
		if (rows->place[i].error)
			table_text(&t, kafka_error_name(rows->place[i].error));
		else
			number_or_dash(&t, has_end(rows, i), rows->place[i].offset);
		number_or_dash(&t, w->offset >= 0 && has_end(rows, i), lag_of(rows, i));
		table_text(&t, w->member ? w->member->id : NULL);
	}
	bool good = !rows->n || table_print(&t);
	table_release(&t);
	return good;
}

static bool print_group(const struct group_about *a, const struct rows *rows, bool first)
{
	printf("%sgroup %s: %s, %s%s%s%s%s, coordinator %d at %s:%d\n", first ? "" : "\n", a->id, a->state, a->type, *a->protocol_type ? ", " : "", a->protocol_type,
	       *a->protocol ? ", " : "", a->protocol, (int)a->coordinator, a->coordinator_host ? a->coordinator_host : "?", (int)a->coordinator_port);
	return print_members(a) && print_rows(rows);
}

/* ---- the verb ---- */

static int describe_one(struct remote *r, const char *id, struct group_about *a, struct rows *rows, struct err *e)
{
	struct group_offsets o;
	int rc = group_about(r, id, a, e);
	if (rc == 0 && !a->found)
		rc = err_set(e, ERR_NOT_FOUND, "there is no such group");
	if (rc == 0)
		rc = group_offsets(r, id, &o, e);
	return rc < 0 ? rc : make_rows(r, a, &o, rows, e);
}

int group_describe_run(struct remote *r, const void *args)
{
	const struct remote_args *asked = args;
	json_t *list = asked->json ? json_array() : NULL;
	int status = 0, printed = 0;
	for (int i = 0; i < asked->count; i++) {
		struct group_about a;
		struct rows rows = {0};
		struct err e = ERR_INIT;
		if (describe_one(r, asked->names[i], &a, &rows, &e) < 0) {
			group_say("group %s: %s", asked->names[i], e.text);
			status = EXIT_FAILURE;
			continue;
		}
		if (strcmp(a.type, "classic"))
			group_say("group %s: its members are not shown: it uses the protocol '%s', which cannot be described here", a.id, a.type);
		if (asked->json)
			json_array_append_new(list, json_group(&a, &rows));
		else if (!print_group(&a, &rows, !printed++))
			status = EXIT_FAILURE;
	}
	if (asked->json && !remote_print_json("spoolfs group", list))
		status = EXIT_FAILURE;
	return status;
}
