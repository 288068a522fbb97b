/* spoolfs topic create, alter, delete. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fs/cmd_topic.h"
#include "store/clock.h"
#include "store/dirs.h"

enum { RESOURCE_TOPIC = 2, OP_SET = 0, OP_DELETE = 1 };

/* "NAME" of NAME=VALUE. */
static struct wire_string setting_name(const char *setting)
{
	return (struct wire_string){setting, (int32_t)strcspn(setting, "=")};
}

static struct wire_string setting_value(const char *setting)
{
	return wire_string(strchr(setting, '=') + 1);
}

/* In a cluster a broker may learn of a change only a moment after the controller has made it: what the command has done is to be seen by the next. */
static void wait_for_partitions(struct remote *r, const char *topic, int32_t count)
{
	mono_t deadline = mono_after_ms(mono_now(), r->timeout_ms);
	for (;;) {
		struct err ignored = ERR_INIT;
		int32_t have = 0;
		int rc = remote_partition_count(r, topic, &have, &ignored);
		if ((rc == 0 && have >= count) || (rc < 0 && rc != ERR_NOT_FOUND) || mono_now().ns >= deadline.ns)
			return;
		nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
	}
}

/* ---- create ---- */

static int16_t create_error(const void *response)
{
	const struct create_topics_response *a = response;
	return a->topics.n == 1 ? a->topics.v[0].error_code : KAFKA_UNKNOWN_SERVER_ERROR;
}

static int ask_to_create(struct remote *r, const struct topic_args *a, struct create_topics_response *s, struct err *e)
{
	struct create_topics_request q;
	struct create_topics_request_topic t;
	wire_init(&wire_create_topics_request, &q);
	wire_init(&wire_create_topics_request_topic, &t);
	t.name = wire_string(a->base.names[0]);
	t.num_partitions = a->partitions ? a->partitions : -1;
	t.replication_factor = a->replication_factor ? a->replication_factor : -1;
	t.configs.v = remote_get(r, (size_t)(a->setting_count + 1) * sizeof *t.configs.v, e);
	if (!t.configs.v)
		return ERR_NO_MEMORY;
	for (int i = 0; i < a->setting_count; i++)
		t.configs.v[t.configs.n++] = (struct create_topics_request_config){.name = setting_name(a->settings[i]), .value = setting_value(a->settings[i])};
	q.topics.v = &t;
	q.topics.n = 1;
	q.timeout_ms = a->base.timeout_ms;
	return topic_controller_call(r, API_CREATE_TOPICS, &q, s, create_error, e);
}

static json_t *created_json(const struct topic_args *a, const struct create_topics_response *s, const struct err *e)
{
	const struct create_topics_response_topic none = {.num_partitions = -1, .replication_factor = -1}, *t = e->code ? &none : &s->topics.v[0];
	char id[TOPIC_ID_CHARS + 1];
	uuid_text(t->topic_id.b, id);
	return json_pack("{s:s, s:b, s:s?, s:s?, s:o, s:o}", "topic", a->base.names[0], "created", !e->code, "error", e->code ? e->text : NULL,
			 "id", wire_uuid_is_zero(&t->topic_id) ? NULL : id, "partitions", t->num_partitions < 0 ? json_null() : json_integer(t->num_partitions),
			 "replication_factor", t->replication_factor < 0 ? json_null() : json_integer(t->replication_factor));
}

static json_t *listed(json_t *o)
{
	json_t *list = json_array();
	json_array_append_new(list, o);
	return list;
}

int topic_create_run(struct remote *r, const void *args)
{
	const struct topic_args *a = args;
	struct create_topics_response s;
	struct err e = ERR_INIT;
	char words[1000];
	int rc = ask_to_create(r, a, &s, &e);
	int16_t error = rc < 0 ? KAFKA_NONE : create_error(&s);
	if (rc == 0 && error)
		rc = err_set(&e, ERR_INVALID, "%s", topic_error_words(error, s.topics.n == 1 ? s.topics.v[0].error_message : WIRE_NULL_STRING, words));
	json_t *o = a->base.json ? created_json(a, &s, &e) : NULL;
	if (rc == 0)
		wait_for_partitions(r, a->base.names[0], a->partitions ? a->partitions : 1);
	else
		topic_say("topic %s is not created: %s", a->base.names[0], e.text);
	if (a->base.json && !remote_print_json("spoolfs topic", listed(o)))
		rc = ERR_IO;
	return rc < 0 ? EXIT_FAILURE : 0;
}

/* ---- alter ---- */

static int16_t alter_error(const void *response)
{
	const struct incremental_alter_configs_response *a = response;
	return a->responses.n == 1 ? a->responses.v[0].error_code : KAFKA_UNKNOWN_SERVER_ERROR;
}

static int alter_settings(struct remote *r, const struct topic_args *a, struct err *e)
{
	struct incremental_alter_configs_request q;
	struct incremental_alter_configs_request_resource t;
	struct incremental_alter_configs_response s;
	char words[1000];
	wire_init(&wire_incremental_alter_configs_request, &q);
	wire_init(&wire_incremental_alter_configs_request_resource, &t);
	t.resource_type = RESOURCE_TOPIC;
	t.resource_name = wire_string(a->base.names[0]);
	t.configs.v = remote_get(r, (size_t)(a->setting_count + 1) * sizeof *t.configs.v, e);
	if (!t.configs.v)
		return ERR_NO_MEMORY;
	for (int i = 0; i < a->setting_count; i++) {
		struct wire_string value = setting_value(a->settings[i]);
		t.configs.v[t.configs.n++] = (struct incremental_alter_configs_request_config){
			.name = setting_name(a->settings[i]), .value = value.n ? value : WIRE_NULL_STRING, .config_operation = value.n ? OP_SET : OP_DELETE,
		};
	}
	q.resources.v = &t;
	q.resources.n = 1;
	int rc = topic_controller_call(r, API_INCREMENTAL_ALTER_CONFIGS, &q, &s, alter_error, e);
	if (rc == 0 && alter_error(&s))
		rc = err_set(e, ERR_INVALID, "%s", topic_error_words(alter_error(&s), s.responses.n == 1 ? s.responses.v[0].error_message : WIRE_NULL_STRING, words));
	return rc;
}

static int16_t grow_error(const void *response)
{
	const struct create_partitions_response *a = response;
	return a->results.n == 1 ? a->results.v[0].error_code : KAFKA_UNKNOWN_SERVER_ERROR;
}

static int alter_partitions(struct remote *r, const struct topic_args *a, struct err *e)
{
	struct create_partitions_request q;
	struct create_partitions_request_topic t;
	struct create_partitions_response s;
	char words[1000];
	wire_init(&wire_create_partitions_request, &q);
	wire_init(&wire_create_partitions_request_topic, &t);
	t.name = wire_string(a->base.names[0]);
	t.count = a->partitions;
	t.assignments.n = -1; /* the cluster chooses where they go */
	q.topics.v = &t;
	q.topics.n = 1;
	q.timeout_ms = a->base.timeout_ms;
	int rc = topic_controller_call(r, API_CREATE_PARTITIONS, &q, &s, grow_error, e);
	if (rc == 0 && grow_error(&s))
		rc = err_set(e, ERR_INVALID, "%s", topic_error_words(grow_error(&s), s.results.n == 1 ? s.results.v[0].error_message : WIRE_NULL_STRING, words));
	if (rc == 0)
		wait_for_partitions(r, a->base.names[0], a->partitions);
	return rc;
}

int topic_alter_run(struct remote *r, const void *args)
{
	const struct topic_args *a = args;
	struct err e = ERR_INIT;
	bool settings = false;
	int rc = a->setting_count ? alter_settings(r, a, &e) : 0;
	settings = a->setting_count && rc == 0;
	if (rc == 0 && a->partitions)
		rc = alter_partitions(r, a, &e);
	if (rc < 0)
		topic_say("topic %s is not altered%s: %s", a->base.names[0], settings ? ", but for its properties" : "", e.text);
	if (a->base.json && !remote_print_json("spoolfs topic", listed(json_pack("{s:s, s:b, s:s?}", "topic", a->base.names[0], "altered", rc == 0, "error", rc < 0 ? e.text : NULL))))
		rc = ERR_IO;
	return rc < 0 ? EXIT_FAILURE : 0;
}

/* ---- delete ---- */

static int16_t delete_error(const void *response)
{
	const struct delete_topics_response *a = response;
	return a->responses.n == 1 ? a->responses.v[0].error_code : KAFKA_UNKNOWN_SERVER_ERROR;
}

static int delete_topic(struct remote *r, const struct topic_args *a, const char *name, struct err *e)
{
	struct delete_topics_request q;
	struct delete_topics_response s;
	struct delete_topics_request_topic t;
	struct wire_string text = wire_string(name);
	char words[1000];
	int version = client_version(r->first, API_DELETE_TOPICS, e);
	if (version < 0)
		return version;
	wire_init(&wire_delete_topics_request, &q);
	wire_init(&wire_delete_topics_request_topic, &t);
	t.name = text;
	q.topics.v = &t;
	q.topics.n = version >= 6;
	q.topic_names.v = &text;
	q.topic_names.n = 1;
	q.timeout_ms = a->base.timeout_ms;
	int rc = topic_controller_call(r, API_DELETE_TOPICS, &q, &s, delete_error, e);
	if (rc < 0 || !delete_error(&s))
		return rc;
	bool unknown = delete_error(&s) == KAFKA_UNKNOWN_TOPIC_OR_PARTITION; /* the broker's sentence is about partitions */
	return err_set(e, ERR_INVALID, "%s", topic_error_words(delete_error(&s), s.responses.n == 1 && !unknown ? s.responses.v[0].error_message : WIRE_NULL_STRING, words));
}

int topic_delete_run(struct remote *r, const void *args)
{
	const struct topic_args *a = args;
	json_t *list = a->base.json ? json_array() : NULL;
	int status = 0;
	for (int i = 0; i < a->base.count; i++) {
		struct err e = ERR_INIT;
		int rc = delete_topic(r, a, a->base.names[i], &e);
		if (rc < 0) {
			topic_say("topic %s is not deleted: %s", a->base.names[i], e.text);
			status = EXIT_FAILURE;
		}
		if (a->base.json)
			json_array_append_new(list, json_pack("{s:s, s:b, s:s?}", "topic", a->base.names[i], "deleted", rc == 0, "error", rc < 0 ? e.text : NULL));
	}
	if (a->base.json && !remote_print_json("spoolfs topic", list))
		status = EXIT_FAILURE;
	return status;
}
