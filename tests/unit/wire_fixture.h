/*
 * wire_fixture: messages of random content, made and compared by nothing but their tables. Included by the test programs of the wire; everything is static.
 */
#ifndef TESTS_UNIT_WIRE_FIXTURE_H
#define TESTS_UNIT_WIRE_FIXTURE_H

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cluster/wire/api.h"

static const struct wire_struct *const other_messages[] = {
	&wire_request_header, &wire_response_header, &wire_offset_commit_key, &wire_offset_commit_value, &wire_group_metadata_key, &wire_group_metadata_value,
};

/* From 0 on to API_OWN_END: each key that may be an API's. */
static inline int next_api(int key)
{
	return key + 1 == API_KEYS ? API_OWN : key + 1;
}

/* Calls with every message there is of APIs below that key, and those of none. */
static inline void each_message_below(int end, void (*call)(const struct wire_struct *desc))
{
	for (int key = 0; key < end; key = next_api(key)) {
		if (!api_find(key))
			continue;
		call(api_find(key)->request);
		call(api_find(key)->response);
	}
	for (size_t i = 0; i < sizeof other_messages / sizeof *other_messages; i++)
		call(other_messages[i]);
}

static inline void each_message(void (*call)(const struct wire_struct *desc)) { each_message_below(API_OWN_END, call); }
static inline void each_kafka_message(void (*call)(const struct wire_struct *desc)) { each_message_below(API_OWN, call); }

static uint64_t wire_seed = 88172645463325252u;

static uint64_t wire_random(void)
{
	wire_seed ^= wire_seed << 13;
	wire_seed ^= wire_seed >> 7;
	wire_seed ^= wire_seed << 17;
	return wire_seed;
}

/* As many small numbers as large ones. */
static int64_t random_number(void)
{
	uint64_t v = wire_random();
	return (int64_t)(v >> wire_random() % 64) * (wire_random() % 4 ? 1 : -1);
}

static void *take_bytes(struct arena *a, size_t n)
{
	void *p = arena_get(a, n, NULL);
	assert_non_null(p);
	return p;
}

static struct wire_string random_string(struct arena *a, bool longer)
{
	static const char *const letters[] = {"a", "Z", "-", "_", "0", ".", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "", " ", "~"};
	size_t n = longer ? wire_random() % 400 : wire_random() % 12, len = 0;
	char *s = take_bytes(a, n * 4);
	while (n--) {
		const char *c = letters[wire_random() % (sizeof letters / sizeof *letters)];
		memcpy(s + len, c, strlen(c));
		len += strlen(c);
	}
	return (struct wire_string){s, (int32_t)len};
}

static void fill_struct(const struct wire_struct *desc, int version, struct arena *a, uint8_t *out);

static void fill_scalar(enum wire_type type, uint8_t *out)
{
	int64_t v = random_number();
	struct wire_uuid u;
	switch (type) {
	case WIRE_BOOL:
		*(bool *)out = v & 1;
		break;
	case WIRE_INT8:
		*(int8_t *)out = (int8_t)v;
		break;
	case WIRE_INT16:
	case WIRE_UINT16:
		*(int16_t *)out = (int16_t)v;
		break;
	case WIRE_INT32:
	case WIRE_UINT32:
		*(int32_t *)out = (int32_t)v;
		break;
	case WIRE_FLOAT64:
		*(double *)out = (double)v / 3;
		break;
	case WIRE_UUID:
		for (int i = 0; i < 16; i++)
			u.b[i] = (uint8_t)wire_random();
		memcpy(out, &u, sizeof u);
		break;
	default:
		*(int64_t *)out = v;
	}
}

static void fill_field(const struct wire_field *f, int version, struct arena *a, uint8_t *out)
{
	bool null = wire_versions_have(f->nullable, version) && wire_random() % 4 == 0, longer = wire_random() % 40 == 0;
	int32_t n = null ? -1 : (int32_t)(wire_random() % (longer ? 200 : 4));
	switch ((enum wire_type)f->type) {
	case WIRE_STRING:
		*(struct wire_string *)out = null ? WIRE_NULL_STRING : random_string(a, longer);
		break;
	case WIRE_BYTES:
	case WIRE_RECORDS: {
		uint8_t *p = null ? NULL : take_bytes(a, (size_t)n);
		for (int32_t i = 0; i < n; i++)
			p[i] = (uint8_t)wire_random();
		if (f->type == WIRE_RECORDS)
			*(struct wire_records *)out = (struct wire_records){p, n, NULL};
		else
			*(struct wire_bytes *)out = (struct wire_bytes){p, n};
		break;
	}
	case WIRE_ARRAY: {
		if (f->of && n > 3)
			n = 3;
		size_t size = f->of ? f->of->size : f->element == WIRE_STRING ? sizeof(struct wire_string) : sizeof(int32_t);
		uint8_t *v = n > 0 ? take_bytes(a, (size_t)n * size) : NULL;
		*(struct wire_array *)out = (struct wire_array){v, n};
		for (int32_t i = 0; i < n; i++, v += size) {
			if (f->of)
				fill_struct(f->of, version, a, v);
			else if (f->element == WIRE_STRING)
				*(struct wire_string *)v = random_string(a, false);
			else
				fill_scalar(f->element, v);
		}
		break;
	}
	case WIRE_STRUCT_IN:
		fill_struct(f->of, version, a, out);
		break;
	case WIRE_STRUCT_NULLABLE:
		*(void **)out = NULL;
		if (!null) {
			*(void **)out = take_bytes(a, f->of->size);
			fill_struct(f->of, version, a, *(void **)out);
		}
		break;
	default:
		fill_scalar(f->type, out);
	}
}

/* What the version has is random, all else has its default; of the tagged fields about half. */
static void fill_struct(const struct wire_struct *desc, int version, struct arena *a, uint8_t *out)
{
	wire_init(desc, out);
	for (int i = 0; i < desc->n_fields; i++) {
		const struct wire_field *f = &desc->fields[i];
		if (wire_versions_have(f->in, version) && (!wire_versions_have(f->tagged, version) || wire_random() % 2))
			fill_field(f, version, a, out + f->offset);
	}
}

static void assert_same_struct(const struct wire_struct *desc, const uint8_t *a, const uint8_t *b);

static void assert_same_bytes(const struct wire_field *f, int32_t n, const void *a, int32_t m, const void *b)
{
	if (n != m || (n > 0 && memcmp(a, b, (size_t)n) != 0))
		fail_msg("%s is another one", f->name);
}

static void assert_same_field(const struct wire_field *f, const uint8_t *a, const uint8_t *b)
{
	static const uint8_t sizes[] = {[WIRE_BOOL] = sizeof(bool), [WIRE_INT8] = 1, [WIRE_INT16] = 2, [WIRE_UINT16] = 2, [WIRE_INT32] = 4, [WIRE_UINT32] = 4, [WIRE_INT64] = 8,
		[WIRE_FLOAT64] = 8, [WIRE_UUID] = 16};
	switch ((enum wire_type)f->type) {
	case WIRE_STRING: {
		const struct wire_string *x = (const struct wire_string *)a, *y = (const struct wire_string *)b;
		assert_same_bytes(f, x->n, x->s, y->n, y->s);
		break;
	}
	case WIRE_BYTES: {
		const struct wire_bytes *x = (const struct wire_bytes *)a, *y = (const struct wire_bytes *)b;
		assert_same_bytes(f, x->n, x->p, y->n, y->p);
		break;
	}
	case WIRE_RECORDS: {
		const struct wire_records *x = (const struct wire_records *)a, *y = (const struct wire_records *)b;
		assert_same_bytes(f, x->n, x->p, y->n, y->p);
		break;
	}
	case WIRE_ARRAY: {
		const struct wire_array *x = (const struct wire_array *)a, *y = (const struct wire_array *)b;
		assert_int_equal(x->n, y->n);
		for (int32_t i = 0; i < x->n; i++) {
			if (f->of)
				assert_same_struct(f->of, (const uint8_t *)x->v + (size_t)i * f->of->size, (const uint8_t *)y->v + (size_t)i * f->of->size);
			else if (f->element == WIRE_STRING)
				assert_true(wire_string_eq(((const struct wire_string *)x->v)[i], ((const struct wire_string *)y->v)[i]));
			else
				assert_int_equal(((const int32_t *)x->v)[i], ((const int32_t *)y->v)[i]);
		}
		break;
	}
	case WIRE_STRUCT_IN:
		assert_same_struct(f->of, a, b);
		break;
	case WIRE_STRUCT_NULLABLE: {
		const uint8_t *x = *(uint8_t *const *)a, *y = *(uint8_t *const *)b;
		assert_int_equal(!x, !y);
		if (x)
			assert_same_struct(f->of, x, y);
		break;
	}
	default:
		if (memcmp(a, b, sizes[f->type]) != 0)
			fail_msg("%s is another one", f->name);
	}
}

static void assert_same_struct(const struct wire_struct *desc, const uint8_t *a, const uint8_t *b)
{
	for (int i = 0; i < desc->n_fields; i++)
		assert_same_field(&desc->fields[i], a + desc->fields[i].offset, b + desc->fields[i].offset);
}

#endif
