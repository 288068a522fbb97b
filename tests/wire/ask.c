/*
 * ask ADDRESS: sends a broker whatever it is told, in whatever version, and prints what comes back.
 *
 * A line of input is a JSON object: {"api": "CreateTopics", "version": 7, "request": {...}}; version may be left out: the highest that both know. Fields have the
 * names of cluster/wire/messages; those that are left out have Kafka's defaults; bytes are text; an id is 22 characters of base64url or, where it is all zeros, null. A line of output is the
 * response in the same form, with null for null and every field of the message's tables; or {"failed": "..."}, after which there is no connection any more.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "cluster/wire/client.h"
#include "store/checkpoint.h"
#include "store/dirs.h"

static struct arena arena;

static void fail(const char *what, const char *name)
{
	fprintf(stderr, "ask: %s: %s\n", name, what);
	exit(2);
}

/* ---- JSON to message ---- */

static void read_struct(const struct wire_struct *desc, json_t *from, uint8_t *to);

static void read_number(const struct wire_field *f, int type, int64_t v, void *at)
{
	switch (type) {
	case WIRE_BOOL: *(bool *)at = v != 0; return;
	case WIRE_INT8: *(int8_t *)at = (int8_t)v; return;
	case WIRE_INT16: *(int16_t *)at = (int16_t)v; return;
	case WIRE_UINT16: *(uint16_t *)at = (uint16_t)v; return;
	case WIRE_INT32: *(int32_t *)at = (int32_t)v; return;
	case WIRE_UINT32: *(uint32_t *)at = (uint32_t)v; return;
	case WIRE_INT64: *(int64_t *)at = v; return;
	default: fail("a value of another type is expected", f->name);
	}
}

static void read_id(const struct wire_field *f, json_t *from, struct wire_uuid *to)
{
	if (json_is_null(from))
		memset(to, 0, sizeof *to);
	else if (!json_is_string(from) || json_string_length(from) != TOPIC_ID_CHARS)
		fail("no id", f->name);
	else
		uuid_bytes(json_string_value(from), to->b);
}

static void read_value(const struct wire_field *f, int type, json_t *from, void *at)
{
	if (type == WIRE_STRING && json_is_null(from))
		*(struct wire_string *)at = WIRE_NULL_STRING;
	else if (type == WIRE_STRING && json_is_string(from))
		*(struct wire_string *)at = (struct wire_string){json_string_value(from), (int32_t)json_string_length(from)};
	else if (type == WIRE_BYTES && json_is_string(from))
		*(struct wire_bytes *)at = (struct wire_bytes){(const uint8_t *)json_string_value(from), (int32_t)json_string_length(from)};
	else if (type == WIRE_UUID)
		read_id(f, from, at);
	else if (json_is_integer(from) || json_is_boolean(from))
		read_number(f, type, json_is_boolean(from) ? json_is_true(from) : json_integer_value(from), at);
	else
		fail("a value of another type is expected", f->name);
}

static void read_array(const struct wire_field *f, json_t *from, struct wire_array *to)
{
	static const uint8_t size[] = {
		[WIRE_BOOL] = sizeof(bool), [WIRE_INT8] = 1, [WIRE_INT16] = 2, [WIRE_UINT16] = 2, [WIRE_INT32] = 4, [WIRE_UINT32] = 4, [WIRE_INT64] = 8,
		[WIRE_UUID] = 16, [WIRE_STRING] = sizeof(struct wire_string), [WIRE_ARRAY] = 0,
	};
	if (json_is_null(from)) {
		*to = (struct wire_array){NULL, -1};
		return;
	}
	if (!json_is_array(from))
		fail("an array is expected", f->name);
	size_t each = f->of ? f->of->size : size[f->element], n = json_array_size(from);
	uint8_t *v = arena_get(&arena, n * each + 1, NULL);
	if (!v)
		fail("no memory", f->name);
	*to = (struct wire_array){v, (int32_t)n};
	for (size_t i = 0; i < n; i++) {
		if (f->of)
			read_struct(f->of, json_array_get(from, i), v + i * each);
		else
			read_value(f, f->element, json_array_get(from, i), v + i * each);
	}
}

static void read_field(const struct wire_field *f, json_t *from, uint8_t *at)
{
	if (f->type == WIRE_ARRAY) {
		read_array(f, from, (struct wire_array *)at);
	} else if (f->type == WIRE_STRUCT_IN) {
		read_struct(f->of, from, at);
	} else if (f->type == WIRE_STRUCT_NULLABLE) {
		void *in = json_is_null(from) ? NULL : arena_get(&arena, f->of->size, NULL);
		if (in)
			read_struct(f->of, from, in);
		*(void **)at = in;
	} else {
		read_value(f, f->type, from, at);
	}
}

static void read_struct(const struct wire_struct *desc, json_t *from, uint8_t *to)
{
	size_t known = 0;
	wire_init(desc, to);
	for (int i = 0; i < desc->n_fields; i++) {
		json_t *v = json_object_get(from, desc->fields[i].name);
		known += v != NULL;
		if (v)
			read_field(&desc->fields[i], v, to + desc->fields[i].offset);
	}
	if (!json_is_object(from) || known != json_object_size(from))
		fail("an object is expected, with no other fields than the message's", desc->name);
}

/* ---- message to JSON ---- */

static json_t *print_struct(const struct wire_struct *desc, const uint8_t *from);

static json_t *print_id(const struct wire_uuid *id)
{
	char text[TOPIC_ID_CHARS + 1];
	if (wire_uuid_is_zero(id))
		return json_null();
	uuid_text(id->b, text);
	return json_string(text);
}

static json_t *print_value(int type, const void *at)
{
	const struct wire_string *s = at;
	const struct wire_bytes *b = at;
	switch (type) {
	case WIRE_BOOL: return json_boolean(*(const bool *)at);
	case WIRE_INT8: return json_integer(*(const int8_t *)at);
	case WIRE_INT16: return json_integer(*(const int16_t *)at);
	case WIRE_UINT16: return json_integer(*(const uint16_t *)at);
	case WIRE_INT32: return json_integer(*(const int32_t *)at);
	case WIRE_UINT32: return json_integer(*(const uint32_t *)at);
	case WIRE_INT64: return json_integer(*(const int64_t *)at);
	case WIRE_FLOAT64: return json_real(*(const double *)at);
	case WIRE_UUID: return print_id(at);
	case WIRE_STRING: return s->n < 0 ? json_null() : json_stringn_nocheck(s->s, (size_t)s->n);
	default: return b->n < 0 ? json_null() : json_stringn_nocheck((const char *)b->p, (size_t)b->n);
	}
}

static size_t element_size(const struct wire_field *f)
{
	return f->of ? f->of->size : f->element == WIRE_STRING ? sizeof(struct wire_string) : f->element == WIRE_UUID ? 16 : f->element == WIRE_INT64 ? 8 : f->element == WIRE_INT32 ? 4 : 2;
}

static json_t *print_field(const struct wire_field *f, const uint8_t *at)
{
	const struct wire_array *a = (const struct wire_array *)at;
	if (f->type == WIRE_STRUCT_IN)
		return print_struct(f->of, at);
	if (f->type == WIRE_STRUCT_NULLABLE)
		return *(void *const *)at ? print_struct(f->of, *(uint8_t *const *)at) : json_null();
	if (f->type != WIRE_ARRAY)
		return print_value(f->type, at);
	if (a->n < 0)
		return json_null();
	json_t *list = json_array();
	for (int32_t i = 0; i < a->n; i++) {
		const uint8_t *each = (const uint8_t *)a->v + (size_t)i * element_size(f);
		json_array_append_new(list, f->of ? print_struct(f->of, each) : print_value(f->element, each));
	}
	return list;
}

static json_t *print_struct(const struct wire_struct *desc, const uint8_t *from)
{
	json_t *o = json_object();
	for (int i = 0; i < desc->n_fields; i++)
		json_object_set_new(o, desc->fields[i].name, print_field(&desc->fields[i], from + desc->fields[i].offset));
	return o;
}

/* ---- asking ---- */

static const struct api *find_api(const char *name)
{
	for (int key = 0; name && key < API_OWN_END; key = key + 1 == API_KEYS ? API_OWN : key + 1) {
		const struct api *api = api_find(key);
		if (api && !strcmp(api->name, name))
			return api;
	}
	fail("there is no such API", name ? name : "no name");
	return NULL;
}

static json_t *ask(struct client *c, json_t *line)
{
	static max_align_t request[64], response[64];
	struct err e = ERR_INIT;
	const struct api *api = find_api(json_string_value(json_object_get(line, "api")));
	json_t *version = json_object_get(line, "version");
	if (api->request->size > sizeof request || api->response->size > sizeof response)
		fail("a larger message than there is room for", api->name);
	read_struct(api->request, json_object_get(line, "request"), (uint8_t *)request);
	int rc = client_send(c, api->key, version ? (int)json_integer_value(version) : -1, request, &e);
	if (rc == 0)
		rc = client_receive(c, api->key, response, &e);
	arena_reset(&arena);
	return rc < 0 ? json_pack("{s:s}", "failed", e.text) : print_struct(api->response, (const uint8_t *)response);
}

int main(int argc, char **argv)
{
	char *text = NULL;
	size_t size = 0;
	struct client *c;
	struct err e = ERR_INIT;
	arena_init(&arena, 0);
	if (argc != 2 || client_open(&c, argv[1], "ask", CLIENT_TIMEOUT_MS, &e) < 0)
		fail(argc == 2 ? e.text : "an address is expected", "connecting");
	while (getline(&text, &size, stdin) > 0) {
		json_error_t error;
		json_t *line = json_loads(text, JSON_ALLOW_NUL, &error);
		if (!line)
			fail(error.text, "input");
		json_t *answer = ask(c, line);
		json_dumpf(answer, stdout, JSON_COMPACT);
		printf("\n");
		fflush(stdout);
		json_decref(answer);
		json_decref(line);
	}
	free(text);
	client_close(c);
	arena_release(&arena);
	return 0;
}
