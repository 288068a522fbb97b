/* spoolfs topic list, describe. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/cmd_topic.h"
#include "fs/table.h"
#include "store/dirs.h"

enum { RESOURCE_TOPIC = 2, SOURCE_TOPIC = 1 };

struct brokers { int32_t *v; int32_t n; };

struct about_partition {
	int32_t index, leader, leader_epoch;
	struct brokers replicas, isr, offline;
	int64_t start, end; /* -1: not known */
	int16_t error;
};

struct about_setting { const char *name, *value; };

struct about {
	const char *name;
	char id[TOPIC_ID_CHARS + 1]; /* "" where the broker tells none */
	bool internal;
	int16_t error;
	struct about_partition *partition;
	int32_t partitions, all_partitions; /* those that are told of; that there are */
	struct about_setting *setting;
	int32_t settings;
};

struct listing { struct about *v; size_t n; };

/* ---- asking ---- */

static int copy_brokers(struct remote *r, struct brokers *to, const int32_t *v, int32_t n, struct err *e)
{
	to->n = n > 0 ? n : 0;
	to->v = remote_get(r, ((size_t)to->n + 1) * sizeof *to->v, e);
	if (!to->v)
		return ERR_NO_MEMORY;
	if (to->n)
		memcpy(to->v, v, (size_t)to->n * sizeof *v);
	return 0;
}

static int by_index(const void *a, const void *b)
{
	const struct about_partition *x = a, *y = b;
	return (x->index > y->index) - (x->index < y->index);
}

static int take_topic(struct remote *r, const struct metadata_response_topic *from, struct about *to, struct err *e)
{
	*to = (struct about){.name = remote_text(r, from->name, e), .internal = from->is_internal, .error = from->error_code, .partitions = from->partitions.n, .all_partitions = from->partitions.n};
	to->partition = remote_get(r, ((size_t)from->partitions.n + 1) * sizeof *to->partition, e);
	if (!to->name || !to->partition)
		return ERR_NO_MEMORY;
	if (!wire_uuid_is_zero(&from->topic_id))
		uuid_text(from->topic_id.b, to->id);
	for (int32_t i = 0; i < from->partitions.n; i++) {
		const struct metadata_response_partition *p = &from->partitions.v[i];
		struct about_partition *a = &to->partition[i];
		*a = (struct about_partition){.index = p->partition_index, .leader = p->leader_id, .leader_epoch = p->leader_epoch, .start = -1, .end = -1, .error = p->error_code};
		int rc = copy_brokers(r, &a->replicas, p->replica_nodes.v, p->replica_nodes.n, e);
		if (rc == 0)
			rc = copy_brokers(r, &a->isr, p->isr_nodes.v, p->isr_nodes.n, e);
		if (rc == 0)
			rc = copy_brokers(r, &a->offline, p->offline_replicas.v, p->offline_replicas.n, e);
		if (rc < 0)
			return rc;
	}
	if (to->partitions)
		qsort(to->partition, (size_t)to->partitions, sizeof *to->partition, by_index);
	return 0;
}

static int by_name(const void *a, const void *b)
{
	const struct about *x = a, *y = b;
	return strcmp(x->name, y->name);
}

/* names NULL: all topics. Sorted. */
static int ask_topics(struct remote *r, char **names, int count, struct listing *l, struct err *e)
{
	struct metadata_request q;
	struct metadata_response a;
	wire_init(&wire_metadata_request, &q);
	q.allow_auto_topic_creation = false;
	q.topics.n = -1;
	if (names) {
		q.topics.v = remote_get(r, (size_t)(count + 1) * sizeof *q.topics.v, e);
		if (!q.topics.v)
			return ERR_NO_MEMORY;
		q.topics.n = count;
	}
	for (int i = 0; names && i < count; i++)
		q.topics.v[i].name = wire_string(names[i]);
	int rc = remote_call(r, REMOTE_ANY, API_METADATA, &q, &a, e);
	if (rc < 0)
		return rc;
	l->v = remote_get(r, ((size_t)a.topics.n + 1) * sizeof *l->v, e);
	if (!l->v)
		return ERR_NO_MEMORY;
	for (int32_t i = 0; i < a.topics.n && rc == 0; i++)
		rc = take_topic(r, &a.topics.v[i], &l->v[l->n++], e);
	if (l->n)
		qsort(l->v, l->n, sizeof *l->v, by_name);
	return rc;
}

/* Without those that are internal. */
static void leave_out_internal(struct listing *l)
{
	size_t kept = 0;
	for (size_t i = 0; i < l->n; i++)
		if (!l->v[i].internal)
			l->v[kept++] = l->v[i];
	l->n = kept;
}

static bool is_under_replicated(const struct about_partition *p)
{
	return p->isr.n < p->replicas.n;
}

static bool is_unavailable(const struct about_partition *p)
{
	return p->leader < 0;
}

static int64_t count_of(const struct about *t, bool (*is)(const struct about_partition *p))
{
	int64_t n = 0;
	for (int32_t i = 0; i < t->partitions; i++)
		n += is(&t->partition[i]);
	return n;
}

/* Topics that have none of what --under-replicated and --unavailable ask for go; partitions, too: what else they have. */
static void leave_out_well(const struct topic_args *a, bool partitions, struct listing *l)
{
	size_t kept = 0;
	if (!a->under_replicated && !a->unavailable)
		return;
	for (size_t t = 0; t < l->n; t++) {
		struct about *topic = &l->v[t];
		int32_t found = 0;
		for (int32_t i = 0; i < topic->partitions; i++) {
			const struct about_partition *p = &topic->partition[i];
			if (!(a->under_replicated && is_under_replicated(p)) && !(a->unavailable && is_unavailable(p)))
				continue;
			if (partitions)
				topic->partition[found] = *p;
			found++;
		}
		if (partitions)
			topic->partitions = found;
		if (found)
			l->v[kept++] = *topic;
	}
	l->n = kept;
}

static int ask_offsets(struct remote *r, struct listing *l, struct err *e)
{
	size_t n = 0, at = 0;
	for (size_t t = 0; t < l->n; t++)
		n += (size_t)l->v[t].partitions;
	struct remote_place *place = remote_get(r, (n + 1) * sizeof *place, e);
	int rc = place ? 0 : ERR_NO_MEMORY;
	for (int latest = 0; latest < 2 && rc == 0; latest++) {
		at = 0;
		for (size_t t = 0; t < l->n; t++)
			for (int32_t i = 0; i < l->v[t].partitions; i++) {
				const struct about_partition *p = &l->v[t].partition[i];
				place[at++] = (struct remote_place){.topic = l->v[t].name, .partition = p->index, .leader = p->leader, .error = p->leader < 0 ? KAFKA_LEADER_NOT_AVAILABLE : KAFKA_NONE};
			}
		rc = remote_list_offsets(r, place, n, latest ? REMOTE_LATEST : REMOTE_EARLIEST, e);
		at = 0;
		for (size_t t = 0; t < l->n && rc == 0; t++)
			for (int32_t i = 0; i < l->v[t].partitions; i++, at++)
				*(latest ? &l->v[t].partition[i].end : &l->v[t].partition[i].start) = place[at].offset;
	}
	return rc;
}

static int take_settings(struct remote *r, const struct describe_configs_response_resource *from, struct about *to, struct err *e)
{
	to->setting = remote_get(r, ((size_t)from->configs.n + 1) * sizeof *to->setting, e);
	if (!to->setting)
		return ERR_NO_MEMORY;
	for (int32_t i = 0; i < from->configs.n; i++) {
		const struct describe_configs_response_config *c = &from->configs.v[i];
		if (c->config_source != SOURCE_TOPIC)
			continue;
		struct about_setting *s = &to->setting[to->settings++];
		s->name = remote_text(r, c->name, e);
		s->value = c->value.n < 0 ? NULL : remote_text(r, c->value, e);
		if (!s->name || (c->value.n >= 0 && !s->value))
			return ERR_NO_MEMORY;
	}
	return 0;
}

static int by_setting(const void *a, const void *b)
{
	const struct about_setting *x = a, *y = b;
	return strcmp(x->name, y->name);
}

static int ask_settings(struct remote *r, struct listing *l, struct err *e)
{
	struct describe_configs_request q;
	struct describe_configs_response a;
	wire_init(&wire_describe_configs_request, &q);
	q.resources.v = remote_get(r, (l->n + 1) * sizeof *q.resources.v, e);
	if (!q.resources.v)
		return ERR_NO_MEMORY;
	for (size_t i = 0; i < l->n; i++) {
		struct describe_configs_request_resource *t = &q.resources.v[i];
		wire_init(&wire_describe_configs_request_resource, t);
		t->resource_type = RESOURCE_TOPIC;
		t->resource_name = wire_string(l->v[i].name);
		t->configuration_keys.n = -1;
	}
	q.resources.n = (int32_t)l->n;
	int rc = l->n ? remote_call(r, REMOTE_ANY, API_DESCRIBE_CONFIGS, &q, &a, e) : 0;
	for (int32_t i = 0; rc == 0 && l->n && i < a.results.n; i++) {
		struct about wanted = {.name = remote_text(r, a.results.v[i].resource_name, e)};
		struct about *t = wanted.name ? bsearch(&wanted, l->v, l->n, sizeof *l->v, by_name) : NULL;
		if (!t || a.results.v[i].error_code)
			continue;
		rc = take_settings(r, &a.results.v[i], t, e);
		if (t->settings)
			qsort(t->setting, (size_t)t->settings, sizeof *t->setting, by_setting);
	}
	return rc;
}

/* ---- list ---- */

static size_t replicas_of(const struct about *t)
{
	return t->partitions ? (size_t)t->partition[0].replicas.n : 0;
}

int topic_list_run(struct remote *r, const void *args)
{
	const struct topic_args *a = args;
	struct listing l = {0};
	struct err e = ERR_INIT;
	if (ask_topics(r, NULL, 0, &l, &e) < 0) {
		topic_say("%s", e.text);
		return EXIT_FAILURE;
	}
	if (!a->all)
		leave_out_internal(&l);
	leave_out_well(a, false, &l);
	if (a->base.json) {
		json_t *list = json_array();
		for (size_t i = 0; i < l.n; i++)
			json_array_append_new(list, json_pack("{s:s, s:s?, s:i, s:I, s:b, s:I, s:I}", "topic", l.v[i].name, "id", *l.v[i].id ? l.v[i].id : NULL, "partitions", (int)l.v[i].partitions,
							      "replication_factor", (json_int_t)replicas_of(&l.v[i]), "internal", l.v[i].internal,
							      "under_replicated", (json_int_t)count_of(&l.v[i], is_under_replicated), "unavailable", (json_int_t)count_of(&l.v[i], is_unavailable)));
		return remote_print_json("spoolfs topic", list) ? 0 : EXIT_FAILURE;
	}
	struct table t;
	table_init(&t, (const char *const[]){"TOPIC", "PARTITIONS", "REPLICAS", "UNDER-REPLICATED", "UNAVAILABLE"}, 5);
	for (size_t i = 0; i < l.n; i++) {
		table_text(&t, l.v[i].name);
		table_number(&t, l.v[i].partitions);
		table_number(&t, (int64_t)replicas_of(&l.v[i]));
		table_number(&t, count_of(&l.v[i], is_under_replicated));
		table_number(&t, count_of(&l.v[i], is_unavailable));
	}
	bool good = table_print(&t);
	table_release(&t);
	return good ? 0 : EXIT_FAILURE;
}

/* ---- describe ---- */

static json_t *brokers_json(const struct brokers *b)
{
	json_t *list = json_array();
	for (int32_t i = 0; i < b->n; i++)
		json_array_append_new(list, json_integer(b->v[i]));
	return list;
}

static json_t *number_or_null(int64_t n)
{
	return n < 0 ? json_null() : json_integer(n);
}

static json_t *topic_json(const struct about *t)
{
	json_t *partitions = json_array(), *settings = json_object();
	for (int32_t i = 0; i < t->partitions; i++) {
		const struct about_partition *p = &t->partition[i];
		json_array_append_new(partitions, json_pack("{s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:s?}", "partition", (int)p->index, "leader", number_or_null(p->leader),
							    "leader_epoch", number_or_null(p->leader_epoch), "replicas", brokers_json(&p->replicas), "isr", brokers_json(&p->isr),
							    "offline", brokers_json(&p->offline), "start", number_or_null(p->start), "end", number_or_null(p->end),
							    "error", p->error ? kafka_error_name(p->error) : NULL));
	}
	for (int32_t i = 0; i < t->settings; i++)
		json_object_set_new(settings, t->setting[i].name, t->setting[i].value ? json_string(t->setting[i].value) : json_null());
	return json_pack("{s:s, s:s?, s:b, s:o, s:o}", "topic", t->name, "id", *t->id ? t->id : NULL, "internal", t->internal, "configs", settings, "partitions", partitions);
}

static const char *brokers_text(const struct brokers *b, char *text, size_t size)
{
	size_t n = 0;
	text[0] = '\0';
	for (int32_t i = 0; i < b->n && n < size; i++)
		n += (size_t)snprintf(text + n, size - n, "%s%" PRId32, i ? "," : "", b->v[i]);
	return *text ? text : NULL;
}

static void number_cell(struct table *t, int64_t n)
{
	if (n < 0)
		table_text(t, NULL);
	else
		table_number(t, n);
}

static bool print_topic(const struct about *t)
{
	struct table table;
	char list[1000];
	printf("TOPIC %s  %" PRId32 " partition%s", t->name, t->all_partitions, t->all_partitions == 1 ? "" : "s");
	if (*t->id)
		printf("  id %s", t->id);
	printf("%s\n", t->internal ? "  internal" : "");
	for (int32_t i = 0; i < t->settings; i++)
		printf("%s=%s\n", t->setting[i].name, t->setting[i].value ? t->setting[i].value : "");
	table_init(&table, (const char *const[]){"PARTITION", "LEADER", "REPLICAS", "ISR", "OFFLINE", "START", "END"}, 7);
	for (int32_t i = 0; i < t->partitions; i++) {
		const struct about_partition *p = &t->partition[i];
		table_number(&table, p->index);
		number_cell(&table, p->leader);
		table_text(&table, brokers_text(&p->replicas, list, sizeof list));
		table_text(&table, brokers_text(&p->isr, list, sizeof list));
		table_text(&table, brokers_text(&p->offline, list, sizeof list));
		number_cell(&table, p->start);
		number_cell(&table, p->end);
	}
	bool good = table_print(&table);
	table_release(&table);
	return good;
}

/* Says which of the topics are not there, and leaves them out. */
static bool report_missing(struct listing *l)
{
	size_t kept = 0;
	char words[1000];
	for (size_t i = 0; i < l->n; i++) {
		if (l->v[i].error && !kafka_error_retriable(l->v[i].error))
			topic_say("topic %s: %s", l->v[i].name, topic_error_words(l->v[i].error, WIRE_NULL_STRING, words));
		else if (l->v[i].error == KAFKA_UNKNOWN_TOPIC_OR_PARTITION)
			topic_say("there is no topic %s", l->v[i].name);
		else
			l->v[kept++] = l->v[i];
	}
	bool missing = kept < l->n;
	l->n = kept;
	return missing;
}

int topic_describe_run(struct remote *r, const void *args)
{
	const struct topic_args *a = args;
	struct listing l = {0};
	struct err e = ERR_INIT;
	int rc = ask_topics(r, a->base.count ? a->base.names : NULL, a->base.count, &l, &e);
	if (rc == 0 && !a->base.count && !a->all)
		leave_out_internal(&l);
	int status = rc == 0 && report_missing(&l) ? EXIT_FAILURE : 0;
	if (rc == 0)
		leave_out_well(a, true, &l);
	if (rc == 0)
		rc = ask_settings(r, &l, &e);
	if (rc == 0)
		rc = ask_offsets(r, &l, &e);
	if (rc < 0) {
		topic_say("%s", e.text);
		return EXIT_FAILURE;
	}
	if (a->base.json) {
		json_t *list = json_array();
		for (size_t i = 0; i < l.n; i++)
			json_array_append_new(list, topic_json(&l.v[i]));
		return remote_print_json("spoolfs topic", list) ? status : EXIT_FAILURE;
	}
	for (size_t i = 0; i < l.n; i++) {
		if (i)
			printf("\n");
		if (!print_topic(&l.v[i])) {
			topic_say("no memory");
			return EXIT_FAILURE;
		}
	}
	return status;
}
