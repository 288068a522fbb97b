#include "cluster/zk/layout_json.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_BYTES = 64 << 20 }; /* no server gives more, whatever its jute.maxbuffer */

/* ---- reading ---- */

void reading_failed(struct reading *r, const char *member, const char *expected)
{
	if (r->rc == 0)
		r->rc = err_set(r->e, ERR_CORRUPT, "ZooKeeper: %s: \"%s\" should be %s", r->path, member, expected);
}

void reading_begin_any(struct reading *r, const char *path, const void *data, size_t bytes, struct err *e)
{
	json_error_t why;
	*r = (struct reading){.path = path, .e = e};
	if (bytes > MAX_BYTES) {
		r->rc = err_set(e, ERR_CORRUPT, "ZooKeeper: %s: %zu bytes are more than can be there", path, bytes);
		return;
	}
	r->root = json_loadb(data ? data : "", bytes, JSON_REJECT_DUPLICATES, &why);
	if (!r->root)
		r->rc = err_set(e, ERR_CORRUPT, "ZooKeeper: %s: that is no JSON: %s, at byte %d", path, why.text, why.position);
	else if (!json_is_object(r->root))
		r->rc = err_set(e, ERR_CORRUPT, "ZooKeeper: %s: a JSON object is expected", path);
}

void reading_begin(struct reading *r, const char *path, const void *data, size_t bytes, int64_t least_version, int64_t newest_version, int64_t *version, struct err *e)
{
	reading_begin_any(r, path, data, bytes, e);
	*version = read_number(r, r->root, "version", INT32_MIN, INT32_MAX);
	if (r->rc == 0 && (*version < least_version || *version > newest_version))
		r->rc = err_set(e, ERR_VERSION, "ZooKeeper: %s: its version is %" PRId64 ", and %" PRId64 " is the newest that is known here: was it written by a newer program?", path, *version, newest_version);
}

static json_t *member_of(struct reading *r, json_t *o, const char *member)
{
	return r->rc == 0 ? json_object_get(o, member) : NULL;
}

static int64_t check_number(struct reading *r, json_t *v, const char *member, int64_t min, int64_t max)
{
	char expected[80];
	int64_t n = json_integer_value(v);
	if (json_is_integer(v) && n >= min && n <= max)
		return n;
	snprintf(expected, sizeof expected, "a number from %" PRId64 " to %" PRId64, min, max);
	reading_failed(r, member, expected);
	return min;
}

int64_t read_number(struct reading *r, json_t *o, const char *member, int64_t min, int64_t max)
{
	return check_number(r, member_of(r, o, member), member, min, max);
}

int64_t read_number_or(struct reading *r, json_t *o, const char *member, int64_t min, int64_t max, int64_t otherwise)
{
	json_t *v = member_of(r, o, member);
	return v ? check_number(r, v, member, min, max) : otherwise;
}

bool read_bool(struct reading *r, json_t *o, const char *member)
{
	json_t *v = member_of(r, o, member);
	if (!json_is_boolean(v))
		reading_failed(r, member, "true or false");
	return json_is_true(v);
}

bool text_to_number(const char *text, int64_t min, int64_t max, int64_t *number)
{
	int64_t v = 0;
	bool minus = *text == '-';
	const char *c = text + minus;
	if (!*c)
		return false;
	for (; *c; c++)
		if (*c < '0' || *c > '9' || __builtin_mul_overflow(v, 10, &v) || __builtin_sub_overflow(v, *c - '0', &v)) /* down, as there is one more below 0 */
			return false;
	if (!minus && __builtin_sub_overflow(0, v, &v))
		return false;
	*number = v;
	return v >= min && v <= max;
}

int64_t read_quoted(struct reading *r, json_t *o, const char *member, int64_t min, int64_t max)
{
	const char *text = json_string_value(member_of(r, o, member));
	int64_t v = min;
	if (!text || !text_to_number(text, min, max, &v))
		reading_failed(r, member, "a number, in quotes");
	return v;
}

const char *read_text(struct reading *r, json_t *o, const char *member)
{
	json_t *v = member_of(r, o, member);
	if (!json_is_string(v))
		reading_failed(r, member, "text");
	return json_is_string(v) ? json_string_value(v) : "";
}

const char *read_text_or_null(struct reading *r, json_t *o, const char *member)
{
	json_t *v = member_of(r, o, member);
	return !v || json_is_null(v) ? NULL : read_text(r, o, member);
}

json_t *read_object(struct reading *r, json_t *o, const char *member)
{
	json_t *v = member_of(r, o, member);
	if (json_is_object(v))
		return v;
	reading_failed(r, member, "an object");
	return NULL;
}

json_t *read_array(struct reading *r, json_t *o, const char *member)
{
	json_t *v = member_of(r, o, member);
	if (json_is_array(v))
		return v;
	reading_failed(r, member, "an array");
	return NULL;
}

static int by_value(const void *a, const void *b)
{
	int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
	return x < y ? -1 : x > y;
}

static bool has_twice(const int32_t *v, size_t n)
{
	int32_t *sorted = malloc((n + 1) * sizeof *sorted);
	bool twice = !sorted;
	if (sorted) {
		memcpy(sorted, v, n * sizeof *v);
		qsort(sorted, n, sizeof *sorted, by_value);
		for (size_t i = 1; i < n; i++)
			twice |= sorted[i] == sorted[i - 1];
	}
	free(sorted);
	return twice;
}

void read_brokers(struct reading *r, json_t *array, const char *member, int32_t **v, size_t *n)
{
	size_t count = json_array_size(array);
	*v = NULL;
	*n = 0;
	if (r->rc == 0 && !json_is_array(array))
		reading_failed(r, member, "an array of broker ids");
	if (r->rc < 0)
		return;
	*v = calloc(count + 1, sizeof **v);
	if (!*v) {
		r->rc = err_set(r->e, ERR_NO_MEMORY, "no memory for %s", r->path);
		return;
	}
	*n = count;
	for (size_t i = 0; i < count; i++)
		(*v)[i] = (int32_t)check_number(r, json_array_get(array, i), member, 0, INT32_MAX);
	if (r->rc == 0 && has_twice(*v, count))
		reading_failed(r, member, "broker ids, each of them once");
}

/* ---- building ---- */

void put(json_t *o, bool *failed, const char *member, json_t *value)
{
	if (json_object_set_new(o, member, value) < 0)
		*failed = true;
}

json_t *quoted(int64_t number)
{
	char text[24];
	snprintf(text, sizeof text, "%" PRId64, number);
	return json_string(text);
}

json_t *brokers(const int32_t *v, size_t n)
{
	json_t *a = json_array();
	for (size_t i = 0; a && i < n; i++)
		if (json_array_append_new(a, json_integer(v[i])) < 0) {
			json_decref(a);
			return NULL;
		}
	return a;
}

void put_kept(json_t *o, bool *failed, const json_t *kept, const char *const *known)
{
	const char *member;
	json_t *value;
	json_object_foreach((json_t *)kept, member, value) {
		const char *const *k = known;
		while (*k && strcmp(*k, member))
			k++;
		if (!*k && json_object_set(o, member, value) < 0)
			*failed = true;
	}
}

static int append(const char *text, size_t n, void *out)
{
	wr_bytes(out, text, n);
	return ((struct wr *)out)->failed ? -1 : 0;
}

int put_out(json_t *o, bool failed, struct wr *out)
{
	int rc = !o || failed || json_dump_callback(o, append, out, JSON_COMPACT) < 0 ? ERR_INVALID : 0;
	json_decref(o);
	return rc;
}
