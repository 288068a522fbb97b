/* AlterConfigs, which replaces all that is set, and IncrementalAlterConfigs (KIP-339), which changes some of it. Both run in the pool. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "cluster/api/admin.h"
#include "cluster/api/resources.h"
#include "cluster/broker_conf.h"
#include "cluster/join.h"
#include "store/diag.h"

enum operation { OP_SET = 0, OP_DELETE = 1, OP_APPEND = 2, OP_SUBTRACT = 3 };

struct setting { struct wire_string name, value; int8_t operation; };

/* One resource of either request. */
struct alter {
	int8_t type;
	struct wire_string name;
	struct setting *v;
	int32_t n;
	bool replace, check_only;
	int16_t error;
	struct wire_string why;
};

static bool refuse(struct alter *a, int16_t error, struct wire_string why)
{
	a->error = error;
	a->why = why;
	return false;
}

bool resource_broker(struct call *c, struct wire_string name, int32_t *id)
{
	char *text = call_text(c, name), *end = text;
	errno = 0;
	long v = text && *text && (*text == '-' || *text == '+' || (*text >= '0' && *text <= '9')) ? strtol(text, &end, 10) : 0;
	*id = (int32_t)v;
	return text && end != text && end == text + name.n && !errno && v == *id;
}

/* ---- what is wrong whatever it is for ---- */

static bool check_settings(struct call *c, struct alter *a)
{
	struct wire_string nulls = WIRE_NULL_STRING;
	struct admin_key *key = call_get(c, ((size_t)a->n + 1) * sizeof *key);
	for (int32_t i = 0; key && i < a->n; i++) {
		struct wire_string name = a->v[i].name;
		key[i].name = name;
		if (a->v[i].value.n < 0 && a->v[i].operation != OP_DELETE)
			nulls = nulls.n < 0 ? name : call_say(c, "%.*s, %.*s", nulls.n, nulls.s, name.n, name.s);
	}
	if (nulls.n >= 0)
		return refuse(a, KAFKA_INVALID_REQUEST, call_say(c, "Null value not supported for : %.*s", nulls.n, nulls.s));
	uint8_t *twice = key ? admin_twice(c, key, a->n) : NULL;
	for (int32_t i = 0; twice && i < a->n; i++)
		if (twice[i])
			return refuse(a, KAFKA_INVALID_REQUEST, wire_string("Error due to duplicate config keys"));
	return twice || refuse(a, KAFKA_UNKNOWN_SERVER_ERROR, WIRE_NULL_STRING);
}

/* ---- lists ---- */

static bool next_item(const char **at, struct wire_string *item)
{
	if (!*at || !**at)
		return false;
	size_t n = strcspn(*at, ",");
	*item = (struct wire_string){*at, (int32_t)n};
	*at += n + ((*at)[n] != 0);
	while (item->n && item->s[0] == ' ') {
		item->s++;
		item->n--;
	}
	while (item->n && item->s[item->n - 1] == ' ')
		item->n--;
	return true;
}

static bool has_item(const char *list, struct wire_string item)
{
	struct wire_string have;
	while (next_item(&list, &have))
		if (wire_string_eq(have, item))
			return true;
	return false;
}

static void put_item(char *list, struct wire_string item)
{
	sprintf(list + strlen(list), "%s%.*s", *list ? "," : "", item.n, item.s);
}

/* The items of a that are not in b, and for APPEND those of b. NULL: no memory. */
static const char *changed_list(struct call *c, const char *before, const char *change, int8_t operation)
{
	struct wire_string item;
	char *list = call_get(c, strlen(before) + strlen(change) + 2);
	if (!list)
		return NULL;
	for (const char *at = before; next_item(&at, &item);)
		if (operation == OP_APPEND || !has_item(change, item))
			put_item(list, item);
	for (const char *at = change; operation == OP_APPEND && next_item(&at, &item);)
		if (!has_item(list, item))
			put_item(list, item);
	return list;
}

/* ---- from settings to changes ---- */

/* The change that one setting is. Returns 1 with it, 0 where there is nothing to do, -1 where it is refused. base: what is in force. */
static int change_of(struct call *c, struct alter *a, const struct setting *s, const struct conf_property *row, const struct conf *base, struct conf_change *out)
{
	char *name = call_text(c, s->name), *value = call_text(c, s->value), number[24];
	struct wire_string why = WIRE_NULL_STRING;
	bool broker = a->type == RESOURCE_BROKER;
	if (!name || !value || s->operation < OP_SET || s->operation > OP_SUBTRACT) {
		refuse(a, KAFKA_UNKNOWN_SERVER_ERROR, WIRE_NULL_STRING);
		return -1;
	}
	if (!admin_is_text(s->value)) {
		refuse(a, broker ? KAFKA_INVALID_REQUEST : KAFKA_INVALID_CONFIG, call_say(c, "Invalid value for configuration %s: There is a NUL in it", name));
		return -1;
	}
	*out = (struct conf_change){name, NULL};
	if (s->operation == OP_DELETE)
		return row != NULL;
	if (s->operation != OP_SET && (!row || row->type != CONF_LIST)) {
		if (broker && row)
			refuse(a, KAFKA_INVALID_CONFIG, call_say(c, "Config value %s is not allowed for config key: %s", s->operation == OP_APPEND ? "append" : "subtract", name));
		else
			refuse(a, KAFKA_INVALID_CONFIG, call_say(c, "Can't %s to key %s because its type is not LIST.", s->operation == OP_APPEND ? "APPEND" : "SUBTRACT", name));
		return -1;
	}
	out->value = value;
	if (s->operation != OP_SET) {
		const char *before = conf_value(base, row, number);
		out->value = changed_list(c, before ? before : "", value, s->operation);
	}
	if (broker && !row) {
		refuse(a, KAFKA_INVALID_REQUEST, call_say(c, "Cannot update these configs dynamically: Set(%s)", name));
		return -1;
	}
	if (!out->value || !admin_check_value(c, row, name, out->value, &why)) {
		refuse(a, broker ? KAFKA_INVALID_REQUEST : KAFKA_INVALID_CONFIG, why);
		return -1;
	}
	return 1;
}

/* The property of a resource of this type; NULL: none that a client can set. */
static const struct conf_property *find_row(struct call *c, int8_t type, struct wire_string name)
{
	const struct conf_schema *schema = conf_schema_of(call_conf(c));
	char *text = call_text(c, name);
	const struct conf_property *row = text && strlen(text) == (size_t)(name.n > 0 ? name.n : 0) ? conf_find(schema, text) : NULL;
	if (!row || row->hidden)
		return NULL;
	bool has = type == RESOURCE_TOPIC ? (row->scope & CONF_TOPIC) != 0 : broker_conf_is_dynamic(schema, row);
	return has ? row : NULL;
}

/* NULL: refused. */
static struct conf_change *changes_of(struct call *c, struct alter *a, const struct conf *base, size_t *n)
{
	struct conf_change *v = call_get(c, ((size_t)a->n + 1) * sizeof *v);
	*n = 0;
	if (!v)
		refuse(a, KAFKA_UNKNOWN_SERVER_ERROR, WIRE_NULL_STRING);
	for (int32_t i = 0; v && i < a->n; i++) {
		int is = change_of(c, a, &a->v[i], find_row(c, a->type, a->v[i].name), base, &v[*n]);
		if (is < 0)
			return NULL;
		*n += (size_t)is;
	}
	return v;
}

static void note(struct alter *a, struct call *c, int rc, const struct err *e, int16_t invalid)
{
	if (rc < 0)
		refuse(a, rc == ERR_INVALID ? invalid : (int16_t)kafka_error_of(rc), call_say(c, "%s", e->text));
}

/* ---- topics ---- */

static void alter_topic(struct call *c, struct alter *a)
{
	struct conf_levels l;
	struct err e = ERR_INIT;
	size_t n;
	int16_t error = KAFKA_NONE;
	struct wire_string why = WIRE_NULL_STRING;
	if (a->name.n == 0) {
		refuse(a, KAFKA_INVALID_REQUEST, wire_string("Default topic resources are not allowed."));
		return;
	}
	if (!admin_check_name(c, a->name, &why)) {
		refuse(a, KAFKA_INVALID_TOPIC_EXCEPTION, why);
		return;
	}
	struct topic *t = call_topic(c, a->name, NULL, &error);
	if (!t) {
		refuse(a, error, call_say(c, "The topic '%.*s' does not exist.", a->name.n, a->name.s));
		return;
	}
	if (call_join(c))
		join_refresh(call_join(c), &t, 1, false); /* a list is added to what is in force by now */
	int rc = conf_levels_take(call_broker(c), t, &l, &e);
	if (rc == 0) {
		struct conf_change *v = changes_of(c, a, l.topic, &n);
		if (v)
			rc = topic_change(t, v, n, a->replace, a->check_only, &e);
		conf_levels_release(&l);
		if (v && rc == 0 && !a->check_only)
			diag_info("the properties of topic %s were changed by a client", topic_name(t));
	}
	note(a, c, rc, &e, KAFKA_INVALID_CONFIG);
	topic_unref(t);
}

/* ---- the broker ---- */

static void alter_broker(struct call *c, struct alter *a)
{
	struct conf_levels l;
	struct err e = ERR_INIT;
	size_t n;
	bool all_brokers = a->name.n == 0;
	int32_t id = 0, own = broker_id(call_broker(c));
	if (!all_brokers && !resource_broker(c, a->name, &id)) {
		refuse(a, KAFKA_INVALID_REQUEST, call_say(c, "Node id must be an integer, but it is: %.*s", a->name.n, a->name.s));
		return;
	}
	if (!all_brokers && id != own) {
		refuse(a, KAFKA_INVALID_REQUEST, call_say(c, "Unexpected broker id, expected %" PRId32 ", but received %" PRId32, own, id));
		return;
	}
	if (call_join(c))
		join_refresh(call_join(c), NULL, 0, true);
	int rc = conf_levels_take(call_broker(c), NULL, &l, &e);
	if (rc == 0) {
		struct conf_change *v = changes_of(c, a, all_brokers ? l.fallback : l.own, &n);
		if (v)
			rc = broker_configure(call_broker(c), all_brokers, v, n, a->replace, a->check_only, &e);
		conf_levels_release(&l);
		if (v && rc == 0 && !a->check_only)
			diag_info("the properties of %s were changed by a client", all_brokers ? "all brokers" : "the broker");
	}
	note(a, c, rc, &e, KAFKA_INVALID_REQUEST);
}

/* There are no loggers with levels of their own. */
static void alter_logger(struct call *c, struct alter *a)
{
	int32_t id = 0, own = broker_id(call_broker(c));
	if (!resource_broker(c, a->name, &id))
		refuse(a, KAFKA_INVALID_REQUEST, call_say(c, "Node id must be an integer, but it is: %.*s", a->name.n, a->name.s));
	else if (id != own)
		refuse(a, KAFKA_INVALID_REQUEST, call_say(c, "Unexpected node id. Expected %" PRId32 ", but received %" PRId32, own, id));
	else if (a->n > 0)
		refuse(a, KAFKA_INVALID_CONFIG, call_say(c, "Logger %.*s does not exist!", a->v[0].name.n, a->v[0].name.s));
}

static void alter(struct call *c, struct alter *a)
{
	if (!check_settings(c, a))
		return;
	if (a->type == RESOURCE_TOPIC)
		alter_topic(c, a);
	else if (a->type == RESOURCE_BROKER)
		alter_broker(c, a);
	else if (a->type == RESOURCE_BROKER_LOGGER && !a->replace)
		alter_logger(c, a);
	else
		refuse(a, KAFKA_INVALID_REQUEST, call_say(c, "Unknown resource type %d", a->type));
}

/* All of a request, each resource once. */
static bool alter_all(struct call *c, struct alter *a, int32_t n)
{
	struct admin_key *key = call_get(c, ((size_t)n + 1) * sizeof *key);
	for (int32_t i = 0; key && i < n; i++)
		key[i] = (struct admin_key){.name = a[i].name, .number = a[i].type};
	uint8_t *twice = key ? admin_twice(c, key, n) : NULL;
	for (int32_t i = 0; twice && i < n; i++) {
		if (twice[i])
			refuse(&a[i], KAFKA_INVALID_REQUEST, wire_string("Each resource must appear at most once."));
		else
			alter(c, &a[i]);
	}
	return twice;
}

/* ---- the two requests ---- */

void handle_incremental_alter_configs(struct call *c)
{
	const struct incremental_alter_configs_request *r = c->request;
	struct incremental_alter_configs_response answer;
	int32_t n = r->resources.n;
	wire_init(&wire_incremental_alter_configs_response, &answer);
	struct alter *a = call_get(c, ((size_t)n + 1) * sizeof *a);
	answer.responses.v = call_array(c, &wire_incremental_alter_configs_response_resource, n);
	bool good = a && answer.responses.v;
	for (int32_t i = 0; good && i < n; i++) {
		const struct incremental_alter_configs_request_resource *from = &r->resources.v[i];
		a[i] = (struct alter){.type = from->resource_type, .name = from->resource_name, .n = from->configs.n, .check_only = r->validate_only, .why = WIRE_NULL_STRING};
		good = (a[i].v = call_get(c, ((size_t)a[i].n + 1) * sizeof *a[i].v));
		for (int32_t k = 0; good && k < a[i].n; k++)
			a[i].v[k] = (struct setting){from->configs.v[k].name, from->configs.v[k].value, from->configs.v[k].config_operation};
	}
	if (!good || !alter_all(c, a, n)) {
		call_close(c, "no memory");
		return;
	}
	answer.responses.n = n;
	for (int32_t i = 0; i < n; i++)
		answer.responses.v[i] = (struct incremental_alter_configs_response_resource){.error_code = a[i].error, .error_message = a[i].why, .resource_type = a[i].type,
											     .resource_name = a[i].name};
	call_answer(c, &answer);
}

void handle_alter_configs(struct call *c)
{
	const struct alter_configs_request *r = c->request;
	struct alter_configs_response answer;
	int32_t n = r->resources.n;
	wire_init(&wire_alter_configs_response, &answer);
	struct alter *a = call_get(c, ((size_t)n + 1) * sizeof *a);
	answer.responses.v = call_array(c, &wire_alter_configs_response_resource, n);
	bool good = a && answer.responses.v;
	for (int32_t i = 0; good && i < n; i++) {
		const struct alter_configs_request_resource *from = &r->resources.v[i];
		a[i] = (struct alter){.type = from->resource_type, .name = from->resource_name, .n = from->configs.n, .replace = true, .check_only = r->validate_only, .why = WIRE_NULL_STRING};
		good = (a[i].v = call_get(c, ((size_t)a[i].n + 1) * sizeof *a[i].v));
		for (int32_t k = 0; good && k < a[i].n; k++)
			a[i].v[k] = (struct setting){from->configs.v[k].name, from->configs.v[k].value, OP_SET};
	}
	if (!good || !alter_all(c, a, n)) {
		call_close(c, "no memory");
		return;
	}
	answer.responses.n = n;
	for (int32_t i = 0; i < n; i++)
		answer.responses.v[i] = (struct alter_configs_response_resource){.error_code = a[i].error, .error_message = a[i].why, .resource_type = a[i].type, .resource_name = a[i].name};
	call_answer(c, &answer);
}
