/* What Kafka's own classes wrote and read (tests/data/wire) against our tables. */
#include "wire_fixture.h"

#include <ctype.h>
#include <jansson.h>

#include "cluster/wire/table.h"
#include "cluster/wire/errors.h"
#include "cluster/wire/utf8.h"

#define DATA "tests/data/wire/"

static const char *here; /* the line being looked at, for messages */
static char *line;
static size_t line_size;

static bool next_line(FILE *f)
{
	ssize_t n = getline(&line, &line_size, f);
	if (n <= 0)
		return false;
	if (line[n - 1] == '\n')
		line[n - 1] = '\0';
	return true;
}

static FILE *data(const char *name)
{
	FILE *f = fopen(name, "r");
	if (!f)
		fail_msg("no %s: run from the top of the source", name);
	return f;
}

static size_t unhex(const char *hex, uint8_t *out)
{
	size_t n = strlen(hex) / 2;
	for (size_t i = 0; i < n; i++) {
		unsigned v;
		assert_int_equal(sscanf(hex + 2 * i, "%2x", &v), 1);
		out[i] = (uint8_t)v;
	}
	return n;
}

/* Names of structs and fields as Kafka spells them: produce_request is ProduceRequest, node_id is nodeId. */
static void camel(const char *name, bool first_capital, char *out)
{
	bool capital = first_capital;
	for (; *name; name++) {
		if (*name == '_')
			capital = true;
		else
			*out++ = (char)(capital ? toupper((unsigned char)*name) : *name), capital = false;
	}
	*out = '\0';
}

static const struct wire_struct *wanted;
static char wanted_name[100];

static void take_if_wanted(const struct wire_struct *desc)
{
	char name[100];
	camel(desc->name, true, name);
	if (strcmp(name, wanted_name) == 0)
		wanted = desc;
}

/* The values */

static void assert_hex(json_t *j, const void *p, int32_t n)
{
	if (n < 0) {
		assert_true(json_is_null(j));
		return;
	}
	assert_true(json_is_string(j));
	uint8_t *bytes = malloc(json_string_length(j) / 2 + 1);
	size_t m = unhex(json_string_value(j), bytes);
	if (m != (size_t)n || (m && memcmp(bytes, p, m) != 0))
		fail_msg("other bytes: %s", here);
	free(bytes);
}

static void assert_text(json_t *j, struct wire_string s)
{
	if (s.n < 0)
		assert_true(json_is_null(j));
	else if (!json_is_string(j) || json_string_length(j) != (size_t)s.n || (s.n && memcmp(json_string_value(j), s.s, (size_t)s.n) != 0))
		fail_msg("other text: %s", here);
}

static void assert_number(json_t *j, const struct wire_field *f, int64_t v)
{
	if (!json_is_integer(j) || json_integer_value(j) != v)
		fail_msg("%s is %lld: %s", f->name, (long long)v, here);
}

static void assert_values(json_t *j, const struct wire_struct *desc, const uint8_t *in);

static void assert_scalar(json_t *j, const struct wire_field *f, enum wire_type type, const uint8_t *in)
{
	switch (type) {
	case WIRE_BOOL:
		assert_true(json_is_boolean(j));
		assert_int_equal(json_is_true(j), *(const bool *)in);
		break;
	case WIRE_INT8:
		assert_number(j, f, *(const int8_t *)in);
		break;
	case WIRE_INT16:
		assert_number(j, f, *(const int16_t *)in);
		break;
	case WIRE_INT32:
		assert_number(j, f, *(const int32_t *)in);
		break;
	case WIRE_INT64:
		assert_number(j, f, *(const int64_t *)in);
		break;
	case WIRE_UUID:
		assert_hex(j, in, 16);
		break;
	case WIRE_STRING:
		assert_text(j, *(const struct wire_string *)in);
		break;
	default:
		fail_msg("%s has a type that nothing was recorded of", f->name);
	}
}

static void assert_elements(json_t *j, const struct wire_field *f, const struct wire_array *a)
{
	if (a->n < 0) {
		assert_true(json_is_null(j));
		return;
	}
	assert_true(json_is_array(j));
	assert_int_equal(json_array_size(j), a->n);
	for (int32_t i = 0; i < a->n; i++) {
		json_t *element = json_array_get(j, (size_t)i);
		if (f->of)
			assert_values(element, f->of, (const uint8_t *)a->v + (size_t)i * f->of->size);
		else
			assert_scalar(element, f, f->element, (const uint8_t *)a->v + (size_t)i * (f->element == WIRE_STRING ? sizeof(struct wire_string) : sizeof(int32_t)));
	}
}

/* Fields of our own, which Kafka's bytes do not have. */
static size_t count_own(const struct wire_struct *desc, const uint8_t *in)
{
	size_t n = 0;
	for (int i = 0; i < desc->n_fields; i++) {
		if (desc->fields[i].tag < WIRE_OWN_TAGS)
			continue;
		assert_true(wire_is_default(&desc->fields[i], in + desc->fields[i].offset));
		n++;
	}
	return n;
}

/* Every field that Kafka has, we have, and the other way round; with the same value. */
static void assert_values(json_t *j, const struct wire_struct *desc, const uint8_t *in)
{
	assert_true(json_is_object(j));
	if (json_object_size(j) + count_own(desc, in) != desc->n_fields)
		fail_msg("%s has other fields: %s", desc->name, here);
	for (int i = 0; i < desc->n_fields; i++) {
		const struct wire_field *f = &desc->fields[i];
		const uint8_t *at = in + f->offset;
		char name[100];
		if (f->tag >= WIRE_OWN_TAGS)
			continue;
		camel(f->name, false, name);
		if (strcmp(desc->name, "request_header") == 0 && strncmp(f->name, "api_", 4) == 0)
			snprintf(name, sizeof name, strcmp(f->name, "api_key") == 0 ? "requestApiKey" : "requestApiVersion");
		json_t *value = json_object_get(j, name);
		if (!value)
			fail_msg("Kafka has no %s.%s: %s", desc->name, f->name, here);
		if (f->type == WIRE_BYTES)
			assert_hex(value, ((const struct wire_bytes *)at)->p, ((const struct wire_bytes *)at)->n);
		else if (f->type == WIRE_RECORDS)
			assert_hex(value, ((const struct wire_records *)at)->p, ((const struct wire_records *)at)->n);
		else if (f->type == WIRE_ARRAY)
			assert_elements(value, f, (const struct wire_array *)at);
		else if (f->type == WIRE_STRUCT_IN)
			assert_values(value, f->of, at);
		else if (f->type == WIRE_STRUCT_NULLABLE && !*(void *const *)at)
			assert_true(json_is_null(value));
		else if (f->type == WIRE_STRUCT_NULLABLE)
			assert_values(value, f->of, *(const uint8_t *const *)at);
		else
			assert_scalar(value, f, f->type, at);
	}
}

static void check_message(const struct wire_struct *desc, int version, const char *hex, json_t *values, struct arena *arena)
{
	struct err e = ERR_INIT;
	struct wire_out out;
	bool prefixed = strstr(desc->name, "_key") || strstr(desc->name, "_value");
	uint8_t *bytes = malloc(strlen(hex) / 2 + 1), *message = malloc(desc->size);
	size_t n = unhex(hex, bytes);
	bytes = realloc(bytes, n ? n : 1);
	int found = version;
	ssize_t used = prefixed ? wire_decode_versioned(desc, bytes, n, arena, message, &found, &e) : wire_decode(desc, version, bytes, n, arena, message, &e);
	if (used != (ssize_t)n)
		fail_msg("%s, %zd of %zu bytes: %s", e.text, used, n, here);
	assert_int_equal(found, version);
	assert_values(values, desc, message);

	wire_out_init(&out, 0);
	int rc = prefixed ? wire_encode_versioned(desc, version, message, &out, &e) : wire_encode(desc, version, message, &out, &e);
	if (rc < 0)
		fail_msg("%s: %s", e.text, here);
	if (out.bytes.len != n || (n && memcmp(out.bytes.data, bytes, n) != 0))
		fail_msg("encoded to other bytes: %s", here);
	wire_out_release(&out);
	free(bytes);
	free(message);
	arena_reset(arena);
}

static int recorded; /* lines of the message that was asked for */

static void count_wanted_versions(const struct wire_struct *desc)
{
	char name[100], word[100];
	uint64_t seen = 0;
	camel(desc->name, true, name);
	FILE *f = data(DATA "messages.txt");
	while (next_line(f)) {
		int version;
		if (sscanf(line, "%99s %d", word, &version) == 2 && strcmp(word, name) == 0)
			seen |= 1ull << version;
	}
	fclose(f);
	for (int v = desc->versions.first; v < desc->versions.end; v++) {
		bool no_longer = desc == &wire_request_header && v == 0; /* gone from Kafka with ControlledShutdown version 0 */
		if (!(seen >> v & 1) && !no_longer)
			fail_msg("nothing was recorded of %s version %d", name, v);
		seen &= ~(1ull << v);
	}
	if (seen)
		fail_msg("Kafka has versions of %s that we have not", name);
	recorded++;
}

static void test_what_kafka_encodes_has_the_values_kafka_decodes_and_is_encoded_to_the_same_bytes(void **state)
{
	(void)state;
	struct arena arena;
	arena_init(&arena, 0);
	FILE *f = data(DATA "messages.txt");
	int lines = 0;
	for (; next_line(f); lines++) {
		char *save, *copy = strdup(line);
		here = copy;
		snprintf(wanted_name, sizeof wanted_name, "%s", strtok_r(line, " ", &save));
		int version = atoi(strtok_r(NULL, " ", &save));
		/* The hex of a message without bytes is empty: then two spaces follow each other. */
		char *hex = save, *json = strchr(save, ' ');
		*json++ = '\0';
		wanted = NULL;
		each_kafka_message(take_if_wanted);
		if (!wanted)
			fail_msg("we have no %s", wanted_name);
		json_error_t why;
		json_t *values = json_loads(json, 0, &why);
		if (!values)
			fail_msg("%s: %s", why.text, here);
		check_message(wanted, version, hex, values, &arena);
		json_decref(values);
		free(copy);
	}
	fclose(f);
	assert_true(lines > 1000);
	arena_release(&arena);
}

static void test_every_version_that_one_of_us_has_the_other_has_too(void **state)
{
	(void)state;
	each_kafka_message(count_wanted_versions);
	assert_true(recorded > 60);
}

/* Where a field is: the fields that lead to it from its message, the last one being itself. */
struct path {
	const struct wire_field *fields[8];
	int n;
};

/* The versions in which Kafka refuses to encode that field set to something ("set") or to null. */
static uint64_t refused_by_kafka(const struct wire_struct *desc, const struct path *path, const char *what)
{
	char key[400], name[100];
	uint64_t versions = 0;
	camel(desc->name, true, key);
	for (int i = 0; i < path->n; i++) {
		camel(path->fields[i]->name, false, name);
		snprintf(key + strlen(key), sizeof key - strlen(key), "%s%s", i ? "." : " ", name);
	}
	snprintf(key + strlen(key), sizeof key - strlen(key), " %s ", what);
	FILE *f = data(DATA "refused.txt");
	while (next_line(f)) {
		if (strncmp(line, key, strlen(key)) != 0)
			continue;
		char *save;
		for (char *word = strtok_r(line + strlen(key), " ", &save); word; word = strtok_r(NULL, " ", &save))
			versions |= 1ull << atoi(word);
	}
	fclose(f);
	return versions;
}

static void set_field(const struct wire_field *f, struct arena *a, bool null, uint8_t *out)
{
	uint8_t *one = take_bytes(a, f->of ? f->of->size : 16);
	memset(one, 7, f->of ? f->of->size : 16);
	switch ((enum wire_type)f->type) {
	case WIRE_STRING:
		*(struct wire_string *)out = null ? WIRE_NULL_STRING : wire_string("x");
		break;
	case WIRE_BYTES:
		*(struct wire_bytes *)out = (struct wire_bytes){one, null ? -1 : 1};
		break;
	case WIRE_RECORDS:
		*(struct wire_records *)out = (struct wire_records){one, null ? -1 : 1, NULL};
		break;
	case WIRE_ARRAY:
		if (f->of)
			wire_init(f->of, one);
		else if (f->element == WIRE_STRING)
			*(struct wire_string *)one = wire_string("x");
		*(struct wire_array *)out = (struct wire_array){one, null ? -1 : 1};
		break;
	case WIRE_STRUCT_NULLABLE:
		wire_init(f->of, one);
		*(void **)out = null ? NULL : one;
		break;
	case WIRE_STRUCT_IN:
		break;
	case WIRE_BOOL:
		*(bool *)out = !f->def;
		break;
	default:
		memset(out, 7, f->type == WIRE_INT8 ? 1 : f->type == WIRE_INT16 ? 2 : f->type == WIRE_INT32 ? 4 : f->type == WIRE_INT64 ? 8 : 16);
	}
}

static uint64_t refused_by_us(const struct wire_struct *desc, const struct path *path, bool null, struct arena *a)
{
	uint64_t versions = 0;
	for (int v = desc->versions.first; v < desc->versions.end; v++) {
		struct wire_out out;
		struct err e = ERR_INIT;
		uint8_t *message = take_bytes(a, desc->size), *at = message;
		wire_init(desc, message);
		for (int i = 0; i < path->n; i++) {
			const struct wire_field *f = path->fields[i];
			bool last = i == path->n - 1;
			set_field(f, a, null && last, at + f->offset);
			at = f->type == WIRE_STRUCT_IN || last ? at + f->offset : *(void **)(at + f->offset);
		}
		wire_out_init(&out, 0);
		int rc = wire_encode(desc, v, message, &out, &e);
		if (rc < 0) {
			versions |= 1ull << v;
			assert_true(rc == (null ? e.code : ERR_UNSUPPORTED));
			bool named = false;
			for (int i = 0; i < path->n; i++)
				named |= strstr(e.text, path->fields[i]->name) != NULL;
			assert_true(named);
			assert_int_equal(out.bytes.len, 0);
		}
		wire_out_release(&out);
		arena_reset(a);
	}
	return versions;
}

static int paths;

static void try_fields(const struct wire_struct *desc, const struct wire_struct *in, struct path *path, struct arena *a)
{
	for (int i = 0; i < in->n_fields; i++) {
		const struct wire_field *f = &in->fields[i];
		if (f->tag >= WIRE_OWN_TAGS)
			continue;
		path->fields[path->n++] = f;
		bool can_be_null = f->type == WIRE_STRING || f->type == WIRE_BYTES || f->type == WIRE_RECORDS || f->type == WIRE_ARRAY || f->type == WIRE_STRUCT_NULLABLE;
		for (int null = 0; null <= can_be_null; null++, paths++) {
			uint64_t kafka = refused_by_kafka(desc, path, null ? "null" : "set"), ours = refused_by_us(desc, path, null, a);
			if (ours != kafka)
				fail_msg("%s ... %s %s: we refuse versions %llx, Kafka %llx", desc->name, f->name, null ? "null" : "set", (unsigned long long)ours, (unsigned long long)kafka);
		}
		if (f->of)
			try_fields(desc, f->of, path, a);
		path->n--;
	}
}

static void try_message(const struct wire_struct *desc)
{
	struct path path = {.n = 0};
	struct arena a;
	if (strstr(desc->name, "_header") || strstr(desc->name, "_key"))
		return; /* all of their fields are in every version */
	arena_init(&a, 0);
	try_fields(desc, desc, &path, &a);
	arena_release(&a);
}

static void test_what_a_version_cannot_say_is_refused_or_dropped_as_kafka_does(void **state)
{
	(void)state;
	each_kafka_message(try_message);
	assert_true(paths > 600);
}

static void test_apis_are_advertised_as_kafka_does_and_have_its_headers(void **state)
{
	(void)state;
	FILE *f = data(DATA "apis.txt");
	int known = 0, lines = 0;
	for (; next_line(f); lines++) {
		int key, min, max, n;
		char name[100];
		assert_int_equal(sscanf(line, "%d %99s %d %d%n", &key, name, &min, &max, &n), 4);
		const struct api *api = api_find(key);
		assert_non_null(api);
		assert_string_equal(api->name, name);
		assert_int_equal(api->max, max);
		if (api->between_brokers)
			assert_int_equal(api->min, max); /* the highest is the only one that is spoken */
		else
			assert_int_equal(api->advertised_min, min);
		int expected = api->min, version, request, response, more;
		for (const char *p = line + n; sscanf(p, " %d:%d:%d%n", &version, &request, &response, &more) == 3; p += more) {
			if (api->between_brokers && version < max)
				continue;
			assert_int_equal(version, expected);
			assert_int_equal(api_request_header(api, version), request);
			assert_int_equal(api_response_header(api, version), response);
			expected++;
		}
		assert_int_equal(expected, api->max + 1);
	}
	fclose(f);
	for (int key = -3; key < API_KEYS + 10; key++)
		known += api_find(key) != NULL;
	assert_int_equal(known, lines);
}

static void test_strings_that_are_not_utf8_become_what_java_makes_of_them(void **state)
{
	(void)state;
	FILE *f = data(DATA "utf8.txt");
	int wrong = 0;
	while (next_line(f)) {
		uint8_t in[64], expected[200];
		char out[200];
		char *save, *a = strtok_r(line, " ", &save), *b = strtok_r(NULL, " ", &save);
		size_t n = unhex(a, in), m = unhex(b, expected);
		assert_true(n * UTF8_REPAIR_GROWTH <= sizeof out);
		/* In memory of its exact size, for the address sanitizer. */
		char *exact = memcpy(malloc(n), in, n);
		bool same = n == m && memcmp(in, expected, n) == 0;
		assert_int_equal(utf8_valid(exact, n), same);
		size_t got = utf8_repair(exact, n, out);
		free(exact);
		if (got != m || memcmp(out, expected, m) != 0)
			fail_msg("%s became another string than %s", a, b);
		wrong += !same;
	}
	fclose(f);
	assert_true(wrong > 1000);
}

static void test_error_codes_are_kafkas(void **state)
{
	(void)state;
	FILE *f = data(DATA "errors.txt");
	int code, last = -1;
	char name[100], retriable[10];
	while (next_line(f)) {
		assert_int_equal(sscanf(line, "%d %99s %9s", &code, name, retriable), 3);
		assert_string_equal(kafka_error_name(code), name);
		assert_int_equal(kafka_error_retriable(code), strcmp(retriable, "true") == 0);
		last = code;
	}
	fclose(f);
	assert_int_equal(last, KAFKA_ERROR_LAST);
	assert_string_equal(kafka_error_name(last + 1), "UNKNOWN_SERVER_ERROR");
	assert_string_equal(kafka_error_name(-2), "UNKNOWN_SERVER_ERROR");
	assert_false(kafka_error_retriable(last + 1));
}

static void test_each_of_our_codes_has_one_of_kafkas(void **state)
{
	(void)state;
	assert_int_equal(kafka_error_of(ERR_NONE), KAFKA_NONE);
	for (int code = -1; strcmp(err_name(code), "unknown") != 0; code--) {
		/* Whoever appends or reads on a disk that fails tries again, maybe at another replica. */
		if (code == ERR_IO || code == ERR_NO_SPACE || code == ERR_OFFLINE || code == ERR_LIMIT)
			assert_int_equal(kafka_error_of(code), KAFKA_KAFKA_STORAGE_ERROR);
		if (code == ERR_NO_MEMORY)
			assert_int_equal(kafka_error_of(code), KAFKA_UNKNOWN_SERVER_ERROR);
		else
			assert_true(kafka_error_of(code) > KAFKA_NONE);
	}
	assert_int_equal(kafka_error_of(ERR_OUT_OF_RANGE), KAFKA_OFFSET_OUT_OF_RANGE);
	assert_int_equal(kafka_error_of(ERR_DELETED), KAFKA_UNKNOWN_TOPIC_OR_PARTITION);
	assert_int_equal(kafka_error_of(ERR_STOPPING), KAFKA_NOT_LEADER_OR_FOLLOWER);
	assert_int_equal(kafka_error_of(-1000), KAFKA_UNKNOWN_SERVER_ERROR);
	assert_int_equal(kafka_error_of(5), KAFKA_UNKNOWN_SERVER_ERROR);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_kafka_encodes_has_the_values_kafka_decodes_and_is_encoded_to_the_same_bytes),
		cmocka_unit_test(test_every_version_that_one_of_us_has_the_other_has_too),
		cmocka_unit_test(test_what_a_version_cannot_say_is_refused_or_dropped_as_kafka_does),
		cmocka_unit_test(test_apis_are_advertised_as_kafka_does_and_have_its_headers),
		cmocka_unit_test(test_strings_that_are_not_utf8_become_what_java_makes_of_them),
		cmocka_unit_test(test_error_codes_are_kafkas),
		cmocka_unit_test(test_each_of_our_codes_has_one_of_kafkas),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	free(line);
	return failed;
}
