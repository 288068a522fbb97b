#include "cluster/api/admin.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/checkpoint.h"

struct wire_string call_say(struct call *c, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	char *text = n < 0 ? NULL : call_get(c, (size_t)n + 1);
	if (!text)
		return WIRE_NULL_STRING;
	va_start(ap, fmt);
	vsnprintf(text, (size_t)n + 1, fmt, ap);
	va_end(ap);
	return wire_string(text);
}

/* ---- what stands twice ---- */

static int by_key(const void *a, const void *b)
{
	const struct admin_key *x = *(const struct admin_key *const *)a, *y = *(const struct admin_key *const *)b;
	int32_t n = x->name.n < y->name.n ? x->name.n : y->name.n;
	int order = (x->number > y->number) - (x->number < y->number);
	if (order == 0 && n > 0)
		order = memcmp(x->name.s, y->name.s, (size_t)n);
	if (order == 0)
		order = (x->name.n > y->name.n) - (x->name.n < y->name.n);
	return order ? order : (x > y) - (x < y);
}

static bool same_key(const struct admin_key *x, const struct admin_key *y)
{
	return x->number == y->number && wire_string_eq(x->name, y->name);
}

uint8_t *admin_twice(struct call *c, const struct admin_key *key, int32_t n)
{
	uint8_t *twice = call_get(c, (size_t)n + 1);
	const struct admin_key **order = call_get(c, ((size_t)n + 1) * sizeof *order);
	if (!twice || !order)
		return NULL;
	for (int32_t i = 0; i < n; i++)
		order[i] = &key[i];
	qsort(order, (size_t)n, sizeof *order, by_key);
	for (int32_t i = 1; i < n; i++) {
		if (!same_key(order[i - 1], order[i]))
			continue;
		twice[order[i] - key] = 2;
		if (!twice[order[i - 1] - key])
			twice[order[i - 1] - key] = 1;
	}
	return twice;
}

/* ---- names ---- */

bool admin_check_name(struct call *c, struct wire_string name, struct wire_string *why)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
	if (name.n <= 0) {
		*why = wire_string("Topic name is invalid: the empty string is not allowed");
		return false;
	}
	if (wire_string_is(name, ".") || wire_string_is(name, "..")) {
		*why = call_say(c, "Topic name is invalid: '%.*s' is not allowed", name.n, name.s);
		return false;
	}
	if (name.n > TOPIC_NAME_MAX) {
		*why = call_say(c, "Topic name is invalid: the length of '%.*s' is longer than the max allowed length %d", name.n, name.s, TOPIC_NAME_MAX);
		return false;
	}
	for (int32_t i = 0; i < name.n; i++) {
		if (name.s[i] && strchr(allowed, name.s[i]))
			continue;
		*why = call_say(c, "Topic name is invalid: '%.*s' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'", name.n, name.s);
		return false;
	}
	return true;
}

/* ---- values ---- */

int8_t admin_config_type(const struct conf_property *row)
{
	switch (row->type) {
	case CONF_BOOL:
		return CONFIG_BOOLEAN;
	case CONF_INT:
		return row->max > INT32_MAX ? CONFIG_LONG : CONFIG_INT;
	case CONF_DOUBLE:
		return CONFIG_DOUBLE;
	case CONF_LIST:
		return CONFIG_LIST;
	case CONF_STRING:
	case CONF_ENUM:
		return CONFIG_STRING;
	}
	return CONFIG_UNKNOWN;
}

struct value { const char *s; int n; }; /* without the spaces around it */

static struct value trimmed(const char *s, size_t n)
{
	while (n && isspace((unsigned char)*s)) {
		s++;
		n--;
	}
	while (n && isspace((unsigned char)s[n - 1]))
		n--;
	return (struct value){s, (int)n};
}

static bool is_choice(const char *choices, struct value v)
{
	for (const char *at = choices; *at; at += strcspn(at, ",") + (at[strcspn(at, ",")] != 0))
		if (strcspn(at, ",") == (size_t)v.n && !memcmp(at, v.s, (size_t)v.n))
			return true;
	return false;
}

/* "a,b" as "a, b" */
static const char *spaced(struct call *c, const char *choices)
{
	size_t n = strlen(choices);
	char *text = call_get(c, 2 * n + 1), *to = text;
	for (size_t i = 0; text && i < n; i++) {
		*to++ = choices[i];
		if (choices[i] == ',')
			*to++ = ' ';
	}
	return text ? text : choices;
}

static bool check_number(struct call *c, const struct conf_property *row, const char *name, struct value v, struct wire_string *why)
{
	bool is_long = admin_config_type(row) == CONFIG_LONG, bounded = row->min || row->max;
	char text[32], *end = text;
	int64_t number = 0;
	errno = 0;
	if (v.n > 0 && v.n < (int)sizeof text && !isspace((unsigned char)v.s[0])) {
		memcpy(text, v.s, (size_t)v.n);
		text[v.n] = 0;
		number = strtoll(text, &end, 10);
	}
	if (end == text || *end || errno || (!is_long && (number > INT32_MAX || number < INT32_MIN))) {
		*why = call_say(c, "Invalid value %.*s for configuration %s: Not a number of type %s", v.n, v.s, name, is_long ? "LONG" : "INT");
		return false;
	}
	if (!bounded || (number >= row->min && number <= row->max))
		return true;
	*why = number < row->min ? call_say(c, "Invalid value %" PRId64 " for configuration %s: Value must be at least %" PRId64, number, name, row->min)
				 : call_say(c, "Invalid value %" PRId64 " for configuration %s: Value must be no more than %" PRId64, number, name, row->max);
	return false;
}

static bool check_fraction(struct call *c, const struct conf_property *row, const char *name, const char *text, struct wire_string *why)
{
	char *end;
	errno = 0;
	double v = strtod(text, &end);
	if (!*text || *end || errno || text[strspn(text, "0123456789.eE+-")]) {
		*why = call_say(c, "Invalid value %s for configuration %s: Not a number of type DOUBLE", text, name);
		return false;
	}
	bool bounded = row->min || row->max;
	if (!bounded || (v >= (double)row->min && v <= (double)row->max))
		return true;
	*why = v < (double)row->min ? call_say(c, "Invalid value %s for configuration %s: Value must be at least %" PRId64, text, name, row->min)
				    : call_say(c, "Invalid value %s for configuration %s: Value must be no more than %" PRId64, text, name, row->max);
	return false;
}

static bool check_choice(struct call *c, const struct conf_property *row, const char *name, struct value v, struct wire_string *why)
{
	if (!row->choices || is_choice(row->choices, v))
		return true;
	*why = call_say(c, "Invalid value %.*s for configuration %s: String must be one of: %s", v.n, v.s, name, spaced(c, row->choices));
	return false;
}

/* An empty list is one that nothing was set of: where that is not what an empty list would mean, it cannot be had. */
static bool check_list(struct call *c, const struct conf_property *row, const char *name, struct value v, struct wire_string *why)
{
	if (v.n == 0 && !row->preset && !row->broker_name)
		return true;
	if (v.n == 0) {
		*why = call_say(c, "Invalid value  for configuration %s: The list must not be empty", name);
		return false;
	}
	for (const char *at = v.s, *end = v.s + v.n; at <= end;) {
		const char *comma = memchr(at, ',', (size_t)(end - at));
		if (!check_choice(c, row, name, trimmed(at, (size_t)((comma ? comma : end) - at)), why))
			return false;
		at = comma ? comma + 1 : end + 1;
	}
	return true;
}

bool admin_check_value(struct call *c, const struct conf_property *row, const char *name, const char *value, struct wire_string *why)
{
	struct value v = trimmed(value, strlen(value));
	struct err e = ERR_INIT;
	char *text = call_text(c, (struct wire_string){v.s, v.n});
	bool good = row && text;
	if (!row) {
		*why = call_say(c, "Unknown topic config name: %s", name);
	} else if (row->type == CONF_INT) {
		good = check_number(c, row, name, v, why);
	} else if (row->type == CONF_BOOL) {
		good = text && (!strcasecmp(text, "true") || !strcasecmp(text, "false"));
		if (!good)
			*why = call_say(c, "Invalid value %s for configuration %s: Expected value to be either true or false", text, name);
	} else if (row->type == CONF_DOUBLE) {
		good = text && check_fraction(c, row, name, text, why);
	} else if (row->type == CONF_LIST) {
		good = check_list(c, row, name, v, why);
	} else if (row->type == CONF_ENUM) {
		good = check_choice(c, row, name, v, why);
	}
	if (good && row->check && v.n && !row->check(text, &e)) {
		*why = call_say(c, "Invalid value %s for configuration %s: %s", text, name, e.text);
		return false;
	}
	return good;
}
