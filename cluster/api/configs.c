/* DescribeConfigs: properties of topics and of the broker, with where each value comes from. Changing them: alter_configs.c. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "cluster/api/admin.h"
#include "cluster/api/resources.h"
#include "cluster/broker_conf.h"
#include "cluster/join.h"
#include "store/conf.h"

/* ---- where a value comes from ---- */

enum { UNITS = 4, LEVELS = 4, SYNONYMS_MAX = 1 + UNITS * LEVELS };

struct synonym { const char *name, *value; int8_t source; };
struct synonyms { struct synonym v[SYNONYMS_MAX]; int n; };

static void add(struct synonyms *s, const char *name, const char *value, int8_t source)
{
	if (value)
		s->v[s->n++] = (struct synonym){name, value, source};
}

/* The row in the finest unit, and those in coarser ones that it is said in too. */
static int units_of(const struct conf_schema *schema, const struct conf_property *row, const struct conf_property *unit[UNITS])
{
	size_t n;
	const struct conf_property *const *rows = conf_rows(schema, &n);
	int found = 0;
	while (row->finer)
		row = conf_find(schema, row->finer);
	for (unit[found++] = row; found < UNITS; found++) {
		const struct conf_property *coarser = NULL;
		for (size_t i = 0; i < n; i++)
			if (rows[i]->finer && !strcmp(rows[i]->finer, unit[found - 1]->name))
				coarser = rows[i];
		if (!coarser)
			break;
		unit[found] = coarser;
	}
	return found;
}

/* As Kafka has them: by level, in each from the finest unit on; what stands before the first of the name that was asked for is left out. */
static void broker_synonyms(const struct conf_levels *l, const struct conf_property *row, struct synonyms *s)
{
	const struct conf_property *unit[UNITS];
	const struct conf *level[] = {l->own, l->fallback, l->fixed};
	int units = units_of(conf_schema_of(l->fixed), row, unit), first = s->n, from;
	for (int k = 0; k < 3; k++)
		for (int i = 0; i < units; i++)
			add(s, unit[i]->name, conf_own(level[k], unit[i]), (int8_t)(SOURCE_BROKER + k));
	for (int i = 0; i < units; i++)
		add(s, unit[i]->name, unit[i]->preset, SOURCE_DEFAULT);
	for (from = first; from < s->n && strcmp(s->v[from].name, row->name) != 0;)
		from++;
	memmove(s->v + first, s->v + from, (size_t)(s->n - from) * sizeof *s->v);
	s->n -= from - first;
}

/* The broker's row that a topic's takes its value from. */
static const struct conf_property *broker_row(const struct conf_schema *schema, const struct conf_property *row)
{
	if (row->broker_name)
		return conf_find(schema, row->broker_name);
	return row->scope & CONF_BROKER ? row : NULL;
}

static void topic_synonyms(const struct conf_levels *l, const struct conf_property *row, struct synonyms *s)
{
	const struct conf_property *broker = broker_row(conf_schema_of(l->fixed), row);
	add(s, row->name, conf_own(l->topic, row), SOURCE_TOPIC);
	if (broker)
		broker_synonyms(l, broker, s);
}

static int8_t source_of(const struct synonyms *s)
{
	return s->n ? s->v[0].source : SOURCE_DEFAULT;
}

/* Kafka's "": a list without items; null: nothing. */
static struct wire_string value_text(struct call *c, const struct conf_property *row, const char *value)
{
	if (!value)
		return row->type == CONF_LIST ? (struct wire_string){"", 0} : WIRE_NULL_STRING;
	return call_say(c, "%s", value);
}

/* ---- the answer to CreateTopics ---- */

/* The level at which a topic finds it, though it be said in a coarser unit there. */
static int8_t effective_source(const struct conf_levels *l, const struct conf_property *row)
{
	const struct conf *level[] = {l->topic, l->own, l->fallback, l->fixed};
	for (int i = 0; i < 4; i++)
		if (conf_is_set(level[i], row->name, false))
			return (int8_t)(SOURCE_TOPIC + i);
	return SOURCE_DEFAULT;
}

bool admin_created_configs(struct call *c, const struct conf_change *set, size_t count, struct create_topics_response_topic *a)
{
	struct conf_levels l;
	struct err e = ERR_INIT;
	size_t n;
	if (conf_levels_take(call_broker(c), NULL, &l, &e) < 0)
		return false;
	l.topic = conf_new(conf_schema_of(l.fixed), l.own, CONF_TOPIC);
	const struct conf_property *const *row = conf_rows(conf_schema_of(l.fixed), &n);
	a->configs.v = call_array(c, &wire_create_topics_response_config, (int32_t)n);
	bool good = l.topic && a->configs.v && conf_apply(l.topic, set, count, &e) == 0;
	a->configs.n = 0;
	for (size_t i = 0; good && i < n; i++) {
		char number[24];
		if (row[i]->hidden || !(row[i]->scope & CONF_TOPIC))
			continue;
		a->configs.v[a->configs.n++] = (struct create_topics_response_config){
			.name = wire_string(row[i]->name), .value = value_text(c, row[i], conf_value(l.topic, row[i], number)), .config_source = effective_source(&l, row[i]),
		};
	}
	conf_levels_release(&l);
	return good;
}

/* ---- DescribeConfigs ---- */

static bool fill(struct call *c, const struct conf_property *row, struct wire_string value, const struct synonyms *s, bool read_only, struct describe_configs_response_config *a)
{
	const struct describe_configs_request *r = c->request;
	a->name = wire_string(row->name);
	a->value = value;
	a->read_only = read_only;
	a->config_source = source_of(s);
	a->config_type = admin_config_type(row);
	a->documentation = r->include_documentation ? call_say(c, "%s.", row->help) : WIRE_NULL_STRING;
	if (!r->include_synonyms || !s->n)
		return true;
	a->synonyms.v = call_array(c, &wire_describe_configs_response_synonym, s->n);
	if (!a->synonyms.v)
		return false;
	for (int i = 0; i < s->n; i++) {
		char *text = call_text(c, wire_string(s->v[i].value));
		if (!text)
			return false;
		a->synonyms.v[i] = (struct describe_configs_response_synonym){.name = wire_string(s->v[i].name), .value = wire_string(text), .source = s->v[i].source};
	}
	a->synonyms.n = s->n;
	return true;
}

static bool is_asked_for(const struct describe_configs_request_resource *r, const char *name)
{
	for (int32_t i = 0; i < r->configuration_keys.n; i++)
		if (wire_string_is(r->configuration_keys.v[i], name))
			return true;
	return r->configuration_keys.n <= 0;
}

/* Which of the rows, and with room for them. */
static const struct conf_property *const *rows_for(struct call *c, struct describe_configs_response_resource *a, size_t *n)
{
	const struct conf_property *const *row = conf_rows(conf_schema_of(call_conf(c)), n);
	a->configs.v = call_array(c, &wire_describe_configs_response_config, (int32_t)*n);
	a->configs.n = 0;
	return a->configs.v ? row : NULL;
}

static bool describe_topic(struct call *c, struct topic *t, const struct describe_configs_request_resource *r, struct describe_configs_response_resource *a)
{
	struct conf_levels l;
	struct err e = ERR_INIT;
	size_t n;
	const struct conf_property *const *row = rows_for(c, a, &n);
	if (!row || conf_levels_take(call_broker(c), t, &l, &e) < 0)
		return false;
	bool good = true, keeps_all = topic_keeps_all(t);
	for (size_t i = 0; good && i < n; i++) {
		char number[24];
		struct synonyms s = {.n = 0};
		if (row[i]->hidden || !(row[i]->scope & CONF_TOPIC) || !is_asked_for(r, row[i]->name))
			continue;
		const char *value = conf_value(l.topic, row[i], number);
		if (keeps_all && !strncmp(row[i]->name, "retention.", 10))
			value = "-1"; /* what is in force, whatever is set for other topics */
		topic_synonyms(&l, row[i], &s);
		good = fill(c, row[i], value_text(c, row[i], value), &s, false, &a->configs.v[a->configs.n++]);
	}
	conf_levels_release(&l);
	return good;
}

/* All log directories, as log.dirs would name them. */
static struct wire_string dirs_text(struct call *c)
{
	struct broker_dir d;
	struct wire_string list = WIRE_NULL_STRING;
	for (int i = 0; broker_dir(call_broker(c), i, &d); i++)
		list = i ? call_say(c, "%.*s,%s", list.n, list.s, d.path) : call_say(c, "%s", d.path);
	return list;
}

/* A broker's row as it is, not in the units of others. What the command line or the log directory say of it is taken as set there. */
static struct wire_string broker_value(struct call *c, const struct conf_property *row, struct synonyms *s)
{
	struct wire_string value = s->n ? value_text(c, row, s->v[0].value) : value_text(c, row, NULL);
	if (!strcmp(row->name, "broker.id"))
		value = call_say(c, "%" PRId32, broker_id(call_broker(c)));
	else if (!strcmp(row->name, "log.dirs"))
		value = dirs_text(c);
	else
		return value;
	if (s->n && s->v[0].source == SOURCE_STATIC)
		return value;
	memmove(s->v + 1, s->v, (size_t)s->n * sizeof *s->v);
	s->v[0] = (struct synonym){row->name, value.s, SOURCE_STATIC};
	s->n++;
	return value;
}

static bool describe_broker(struct call *c, bool all_brokers, const struct describe_configs_request_resource *r, struct describe_configs_response_resource *a)
{
	struct conf_levels l;
	struct err e = ERR_INIT;
	size_t n;
	const struct conf_schema *schema = conf_schema_of(call_conf(c));
	const struct conf_property *const *row = rows_for(c, a, &n);
	if (!row || conf_levels_take(call_broker(c), NULL, &l, &e) < 0)
		return false;
	bool good = true;
	for (size_t i = 0; good && i < n; i++) {
		struct synonyms s = {.n = 0};
		const char *set = conf_own(l.fallback, row[i]);
		if (row[i]->hidden || !(row[i]->scope & CONF_BROKER) || !is_asked_for(r, row[i]->name) || (all_brokers && !set))
			continue;
		if (all_brokers)
			add(&s, row[i]->name, set, SOURCE_ALL_BROKERS);
		else
			broker_synonyms(&l, row[i], &s);
		struct wire_string value = all_brokers ? value_text(c, row[i], set) : broker_value(c, row[i], &s);
		good = fill(c, row[i], value, &s, !broker_conf_is_dynamic(schema, row[i]), &a->configs.v[a->configs.n++]);
	}
	conf_levels_release(&l);
	return good;
}

/* false: no memory. */
static bool describe(struct call *c, const struct describe_configs_request_resource *r, struct describe_configs_response_resource *a)
{
	struct wire_string why = {"", 0};
	int32_t id;
	bool good = true;
	a->resource_type = r->resource_type;
	a->resource_name = r->resource_name;
	if (r->resource_type == RESOURCE_TOPIC) {
		struct topic *t = NULL;
		if (!admin_check_name(c, r->resource_name, &why))
			a->error_code = KAFKA_INVALID_TOPIC_EXCEPTION;
		else if ((t = call_topic(c, r->resource_name, NULL, &a->error_code)))
			good = describe_topic(c, t, r, a);
		topic_unref(t);
	} else if (r->resource_type == RESOURCE_BROKER || r->resource_type == RESOURCE_BROKER_LOGGER) {
		bool logger = r->resource_type == RESOURCE_BROKER_LOGGER, all_brokers = !logger && r->resource_name.n == 0;
		if (!all_brokers && !resource_broker(c, r->resource_name, &id))
			why = call_say(c, "Broker id must be an integer, but it is: %.*s", r->resource_name.n, r->resource_name.s);
		else if (!all_brokers && id != broker_id(call_broker(c)))
			why = call_say(c, "Unexpected broker id, expected %" PRId32 "%s but received %" PRId32, broker_id(call_broker(c)), logger ? "" : " or empty string,", id);
		else if (!logger)
			good = describe_broker(c, all_brokers, r, a);
		a->error_code = why.n ? KAFKA_INVALID_REQUEST : KAFKA_NONE;
	} else {
		a->error_code = KAFKA_INVALID_REQUEST;
		why = call_say(c, "There are no properties of resources of type %d here.", r->resource_type);
	}
	a->error_message = why;
	return good;
}

/* In a cluster: what was changed at other brokers, and has not been heard of. */
static bool refresh(struct call *c, const struct describe_configs_request *r)
{
	struct topic **t = call_get(c, ((size_t)r->resources.n + 1) * sizeof *t);
	size_t n = 0;
	bool brokers = false;
	for (int32_t i = 0; t && i < r->resources.n; i++) {
		int16_t error;
		brokers |= r->resources.v[i].resource_type == RESOURCE_BROKER;
		if (r->resources.v[i].resource_type == RESOURCE_TOPIC && (t[n] = call_topic(c, r->resources.v[i].resource_name, NULL, &error)))
			n++;
	}
	if (t)
		join_refresh(call_join(c), t, n, brokers);
	for (size_t i = 0; i < n; i++)
		topic_unref(t[i]);
	return t;
}

void handle_describe_configs(struct call *c)
{
	const struct describe_configs_request *r = c->request;
	struct describe_configs_response a;
	wire_init(&wire_describe_configs_response, &a);
	bool good = (a.results.v = call_array(c, &wire_describe_configs_response_resource, r->resources.n));
	if (good && call_join(c))
		good = refresh(c, r);
	for (int32_t i = 0; good && i < r->resources.n; i++)
		good = describe(c, &r->resources.v[i], &a.results.v[i]);
	a.results.n = r->resources.n;
	if (good)
		call_answer(c, &a);
	else
		call_close(c, "no memory");
}
