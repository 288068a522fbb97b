#include "store/conf.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "store/buf.h"
#include "store/io.h"

enum { MAX_FILE_BYTES = 1 << 20, MAX_NAME = 127 };

struct conf_schema {
	const struct conf_property **rows; /* in name order */
	size_t n;
};

struct setting {
	const struct conf_property *row;
	char *value; /* owned; checked, and in its plainest form */
};

struct conf {
	const struct conf_schema *schema;
	const struct conf *parent;
	unsigned scope;
	struct setting *set; /* in name order; few of the rows are ever set */
	size_t n, cap;
};

/* What the table or the calling code got wrong: no input can cause it. */
static void bug(const char *name, const char *what)
{
	fprintf(stderr, "spoolfs: bug: property %s: %s\n", name, what);
	abort();
}

/* --- values --- */

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\f';
}

/* The next item of a comma separated list, trimmed; *at moves past it, to NULL after the last. */
static const char *next_item(const char **at, size_t *len)
{
	const char *from = *at;
	size_t n = strcspn(from, ",");
	*at = from[n] ? from + n + 1 : NULL;
	while (n && is_space(*from)) {
		from++;
		n--;
	}
	while (n && is_space(from[n - 1]))
		n--;
	*len = n;
	return from;
}

static bool list_has(const char *list, const char *item, size_t item_len)
{
	while (list && *list) {
		size_t n;
		const char *have = next_item(&list, &n);
		if (n == item_len && !memcmp(have, item, n))
			return true;
	}
	return false;
}

/* Plain decimal with an optional sign. */
static bool parse_int(const char *value, int64_t *number)
{
	const char *digits = value + (*value == '-' || *value == '+');
	if (!*digits || digits[strspn(digits, "0123456789")])
		return false;
	errno = 0;
	*number = strtoll(value, NULL, 10);
	return !errno;
}

static bool has_range(const struct conf_property *p)
{
	return p->min || p->max;
}

static int check_int(const struct conf_property *p, char *value, struct err *e)
{
	int64_t v;
	if (!parse_int(value, &v))
		return err_set(e, ERR_INVALID, "%s=%s: a plain number%s%s is expected", p->name, value, p->unit ? " of " : "",
				p->unit ? p->unit : "");
	if (has_range(p) && (v < p->min || v > p->max)) {
		if (p->max == INT64_MAX)
			return err_set(e, ERR_INVALID, "%s=%s: the least allowed is %lld", p->name, value, (long long)p->min);
		if (p->min == INT64_MIN)
			return err_set(e, ERR_INVALID, "%s=%s: the most allowed is %lld", p->name, value, (long long)p->max);
		return err_set(e, ERR_INVALID, "%s=%s: allowed is %lld to %lld", p->name, value, (long long)p->min, (long long)p->max);
	}
	sprintf(value, "%lld", (long long)v); /* drops a plus and leading zeros: never longer than what was read */
	return 0;
}

static bool parse_double(const char *value, double *number)
{
	char *end;
	if (!*value || value[strspn(value, "0123456789.eE+-")]) /* no hexadecimal, no infinity */
		return false;
	errno = 0;
	*number = strtod(value, &end);
	return !*end && isfinite(*number);
}

static int check_double(const struct conf_property *p, const char *value, struct err *e)
{
	double v;
	if (!parse_double(value, &v))
		return err_set(e, ERR_INVALID, "%s=%s: a number such as 0.5 is expected", p->name, value);
	if (has_range(p) && (v < (double)p->min || v > (double)p->max))
		return err_set(e, ERR_INVALID, "%s=%s: allowed is %lld to %lld", p->name, value, (long long)p->min, (long long)p->max);
	return 0;
}

static int check_bool(const struct conf_property *p, char *value, struct err *e)
{
	if (!strcasecmp(value, "true"))
		memcpy(value, "true", 4);
	else if (!strcasecmp(value, "false"))
		memcpy(value, "false", 5);
	else
		return err_set(e, ERR_INVALID, "%s=%s: allowed is true or false", p->name, value);
	return 0;
}

static int check_choice(const struct conf_property *p, const char *item, size_t len, struct err *e)
{
	if (!p->choices || list_has(p->choices, item, len))
		return 0;
	return err_set(e, ERR_INVALID, "%s=%.*s: allowed is %s of %s", p->name, (int)len, item,
			p->type == CONF_LIST ? "any" : "one", p->choices);
}

/* Checks each item, and takes the spaces out. */
static int check_list(const struct conf_property *p, char *value, struct err *e)
{
	const char *at = value;
	char *to = value;
	while (at) {
		size_t n;
		const char *item = next_item(&at, &n);
		if (!n)
			return err_set(e, ERR_INVALID, "%s: an item of the list is empty", p->name);
		int r = check_choice(p, item, n, e);
		if (r)
			return r;
		if (to != value)
			*to++ = ',';
		memmove(to, item, n);
		to += n;
	}
	*to = '\0';
	return 0;
}

/* Checks a trimmed value, that is not empty, by the row's type and range; makes it the plainest form of itself. */
static int check_value(const struct conf_property *p, char *value, struct err *e)
{
	for (const char *c = value; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			return err_set(e, ERR_INVALID, "%s: the value has a control character in it", p->name);
	switch (p->type) {
	case CONF_INT:
		return check_int(p, value, e);
	case CONF_BOOL:
		return check_bool(p, value, e);
	case CONF_ENUM:
		return check_choice(p, value, strlen(value), e);
	case CONF_LIST:
		return check_list(p, value, e);
	case CONF_DOUBLE:
		return check_double(p, value, e);
	case CONF_STRING:
		break;
	}
	return 0;
}

/* --- schema --- */

static int by_name(const void *a, const void *b)
{
	return strcmp((*(const struct conf_property *const *)a)->name, (*(const struct conf_property *const *)b)->name);
}

const struct conf_property *conf_find(const struct conf_schema *s, const char *name)
{
	struct conf_property wanted = {.name = name};
	const struct conf_property *key = &wanted;
	const struct conf_property **at = bsearch(&key, s->rows, s->n, sizeof *s->rows, by_name);
	return at ? *at : NULL;
}

const struct conf_property *const *conf_rows(const struct conf_schema *s, size_t *n)
{
	*n = s->n;
	return s->rows;
}

/* The row that b names; a bug if there is none of a's type. */
static const struct conf_property *named_row(const struct conf_schema *s, const struct conf_property *a, const char *b)
{
	const struct conf_property *row = conf_find(s, b);
	if (!row || row->type != a->type)
		bug(a->name, "its broker_name or finer names no row of its type");
	return row;
}

static void check_row(const struct conf_schema *s, const struct conf_property *p)
{
	if (strlen(p->name) > MAX_NAME)
		bug(p->name, "its name is too long");
	if (!(p->scope & (CONF_BROKER | CONF_TOPIC)))
		bug(p->name, "it can be set nowhere");
	if (p->type == CONF_ENUM && !p->choices)
		bug(p->name, "it has no choices");
	if (p->broker_name && !(named_row(s, p, p->broker_name)->scope & CONF_BROKER))
		bug(p->name, "its broker_name names a row that no broker sets");
	size_t steps = 0;
	for (const struct conf_property *q = p; q->finer; q = named_row(s, q, q->finer))
		if (q->type != CONF_INT || q->scale < 1 || q->scale > INT32_MAX || ++steps > s->n)
			bug(p->name, "finer and scale are for numbers, and end at the finest unit");
	if (p->preset) {
		struct err e = ERR_INIT;
		char *value = strdup(p->preset);
		if (value && (!*value || check_value(p, value, &e)))
			bug(p->name, *value ? e.text : "an empty default is none");
		free(value);
	}
}

struct conf_schema *conf_schema_new(const struct conf_property *const *tables, size_t count)
{
	struct conf_schema *s = calloc(1, sizeof *s);
	if (!s)
		return NULL;
	for (size_t t = 0; t < count; t++)
		for (const struct conf_property *p = tables[t]; p->name; p++)
			s->n++;
	s->rows = calloc(s->n + 1, sizeof *s->rows);
	if (!s->rows) {
		free(s);
		return NULL;
	}
	size_t n = 0;
	for (size_t t = 0; t < count; t++)
		for (const struct conf_property *p = tables[t]; p->name; p++)
			s->rows[n++] = p;
	qsort(s->rows, s->n, sizeof *s->rows, by_name);
	for (size_t i = 1; i < s->n; i++)
		if (!strcmp(s->rows[i - 1]->name, s->rows[i]->name))
			bug(s->rows[i]->name, "it stands twice");
	for (size_t i = 0; i < s->n; i++)
		check_row(s, s->rows[i]);
	return s;
}

void conf_schema_free(struct conf_schema *s)
{
	if (s)
		free(s->rows);
	free(s);
}

/* --- lookup --- */

static size_t find_setting(const struct conf *c, const struct conf_property *row, bool *found)
{
	size_t from = 0, to = c->n;
	while (from < to) {
		size_t mid = (from + to) / 2;
		int order = strcmp(c->set[mid].row->name, row->name);
		if (!order) {
			*found = true;
			return mid;
		}
		if (order < 0)
			from = mid + 1;
		else
			to = mid;
	}
	*found = false;
	return from;
}

/* A value as it was written, and how many of the wanted unit are one of its own. */
struct found {
	const char *text; /* NULL: not set */
	int64_t scale;
};

/* The value that c itself has for the row (its preset for c NULL), in the row's unit or a coarser one: the finest wins. */
static struct found find_in(const struct conf_schema *s, const struct conf *c, const struct conf_property *row)
{
	bool found = false;
	size_t at = c ? find_setting(c, row, &found) : 0;
	if (found)
		return (struct found){c->set[at].value, 1};
	if (!c && row->preset)
		return (struct found){row->preset, 1};
	struct found best = {NULL, INT64_MAX}; /* .scale is meaningless while .text is NULL */
	for (size_t i = 0; i < s->n; i++) {
		const struct conf_property *coarse = s->rows[i];
		if (!coarse->finer || strcmp(coarse->finer, row->name))
			continue;
		struct found f = find_in(s, c, coarse);
		if (f.text && f.scale * coarse->scale < best.scale)
			best = (struct found){f.text, f.scale * coarse->scale};
	}
	return best;
}

/* The value that one conf sets: a broker's is that of the broker-wide row, where there is one. */
static struct found find_set(const struct conf *c, const struct conf_property *row)
{
	struct found f = {NULL, 1};
	if (!row->broker_name || c->scope & CONF_TOPIC)
		f = find_in(c->schema, c, row);
	if (!f.text && row->broker_name && c->scope & CONF_BROKER)
		f = find_in(c->schema, c, conf_find(c->schema, row->broker_name));
	return f;
}

/* The value in force; .text is NULL where there is not even a default. */
static struct found find_value(const struct conf *c, const struct conf_property *row)
{
	for (const struct conf *level = c; level; level = level->parent) {
		struct found f = find_set(level, row);
		if (f.text)
			return f;
	}
	struct found f = {NULL, 1};
	if (row->broker_name)
		f = find_in(c->schema, NULL, conf_find(c->schema, row->broker_name));
	return f.text ? f : find_in(c->schema, NULL, row);
}

static const struct conf_property *must_find(const struct conf *c, const char *name)
{
	const struct conf_property *row = conf_find(c->schema, name);
	if (!row)
		bug(name, "there is none of this name");
	return row;
}

static int64_t in_unit(struct found f)
{
	int64_t v = 0;
	if (!f.text)
		return 0;
	parse_int(f.text, &v);
	if (v < 0) /* -1 means "without limit", in any unit */
		return v;
	return __builtin_mul_overflow(v, f.scale, &v) ? INT64_MAX : v;
}

int64_t conf_int(const struct conf *c, const char *name)
{
	const struct conf_property *row = must_find(c, name);
	if (row->type != CONF_INT)
		bug(name, "read as a number, which it is not");
	return in_unit(find_value(c, row));
}

double conf_double(const struct conf *c, const char *name)
{
	const struct conf_property *row = must_find(c, name);
	double v = 0;
	if (row->type != CONF_DOUBLE)
		bug(name, "read as a number with a fraction, which it is not");
	const char *text = find_value(c, row).text;
	return text && parse_double(text, &v) ? v : 0;
}

bool conf_bool(const struct conf *c, const char *name)
{
	const struct conf_property *row = must_find(c, name);
	if (row->type != CONF_BOOL)
		bug(name, "read as true or false, which it is not");
	const char *text = find_value(c, row).text;
	return text && !strcasecmp(text, "true");
}

const char *conf_str(const struct conf *c, const char *name)
{
	const struct conf_property *row = must_find(c, name);
	if (row->type == CONF_INT || row->type == CONF_BOOL || row->type == CONF_DOUBLE)
		bug(name, "read as text, which it is not");
	const char *text = find_value(c, row).text;
	return text ? text : "";
}

bool conf_list_has(const struct conf *c, const char *name, const char *item)
{
	const struct conf_property *row = must_find(c, name);
	if (row->type != CONF_LIST)
		bug(name, "read as a list, which it is not");
	return list_has(find_value(c, row).text, item, strlen(item));
}

bool conf_is_set(const struct conf *c, const char *name, bool up)
{
	const struct conf_property *row = must_find(c, name);
	do {
		if (find_set(c, row).text)
			return true;
		c = c->parent;
	} while (up && c);
	return false;
}

/* --- setting --- */

struct conf *conf_new(const struct conf_schema *s, const struct conf *parent, enum conf_scope scope)
{
	struct conf *c = calloc(1, sizeof *c);
	if (c)
		*c = (struct conf){.schema = s, .parent = parent, .scope = scope};
	return c;
}

void conf_free(struct conf *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < c->n; i++)
		free(c->set[i].value);
	free(c->set);
	free(c);
}

const struct conf_schema *conf_schema_of(const struct conf *c)
{
	return c->schema;
}

void conf_set_parent(struct conf *c, const struct conf *parent)
{
	c->parent = parent;
}

struct conf *conf_copy(const struct conf *c)
{
	return conf_copy_onto(c, c->parent);
}

struct conf *conf_copy_onto(const struct conf *c, const struct conf *parent)
{
	struct conf *copy = conf_new(c->schema, parent, c->scope);
	if (!copy)
		return NULL;
	copy->set = calloc(c->n ? c->n : 1, sizeof *copy->set);
	if (!copy->set)
		goto fail;
	copy->cap = c->n ? c->n : 1;
	for (; copy->n < c->n; copy->n++) {
		copy->set[copy->n] = (struct setting){c->set[copy->n].row, strdup(c->set[copy->n].value)};
		if (!copy->set[copy->n].value)
			goto fail;
	}
	return copy;
fail:
	conf_free(copy);
	return NULL;
}

/* How many insertions, deletions and replacements part the two; at most MAX_NAME characters each. */
static size_t edit_distance(const char *a, const char *b)
{
	size_t row[MAX_NAME + 1], n = strlen(b);
	for (size_t j = 0; j <= n; j++)
		row[j] = j;
	for (size_t i = 1; a[i - 1]; i++) {
		size_t diagonal = row[0];
		row[0] = i;
		for (size_t j = 1; j <= n; j++) {
			size_t best = diagonal + (a[i - 1] != b[j - 1]);
			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			diagonal = row[j];
			row[j] = best;
		}
	}
	return row[n];
}

static int unknown_name(const struct conf *c, const char *name, struct err *e)
{
	size_t len = strlen(name), best = len / 4 + 2;
	const char *nearest = NULL;
	for (size_t i = 0; i < c->schema->n && len <= MAX_NAME; i++) {
		const struct conf_property *row = c->schema->rows[i];
		size_t distance = row->hidden || !(row->scope & c->scope) ? best : edit_distance(name, row->name);
		if (distance < best) {
			best = distance;
			nearest = row->name;
		}
	}
	if (nearest)
		return err_set(e, ERR_INVALID, "%s: no such property; the nearest is %s", name, nearest);
	return err_set(e, ERR_INVALID, "%.200s: no such property", name);
}

/* A name that is for the other scope: says what it is called in this one. */
static int wrong_scope(const struct conf *c, const struct conf_property *row, struct err *e)
{
	const char *here = c->scope & CONF_TOPIC ? "a topic" : "the broker", *counterpart = row->broker_name;
	const struct conf_property *finest = row;
	while (finest->finer)
		finest = conf_find(c->schema, finest->finer);
	for (size_t i = 0; i < c->schema->n && !counterpart; i++) {
		const char *b = c->schema->rows[i]->broker_name;
		if (b && !strcmp(b, finest->name))
			counterpart = c->schema->rows[i]->name;
	}
	if (counterpart)
		return err_set(e, ERR_INVALID, "%s: not a property of %s; there it is %s", row->name, here, counterpart);
	return err_set(e, ERR_INVALID, "%s: not a property of %s", row->name, here);
}

static int put_setting(struct conf *c, const struct conf_property *row, char *value)
{
	bool found;
	size_t at = find_setting(c, row, &found);
	if (found) {
		free(c->set[at].value);
		c->set[at].value = value;
		return 0;
	}
	if (c->n == c->cap) {
		size_t cap = c->cap ? 2 * c->cap : 8;
		struct setting *set = realloc(c->set, cap * sizeof *set);
		if (!set)
			return ERR_NO_MEMORY;
		c->set = set;
		c->cap = cap;
	}
	memmove(c->set + at + 1, c->set + at, (c->n - at) * sizeof *c->set);
	c->set[at] = (struct setting){row, value};
	c->n++;
	return 0;
}

static void unset(struct conf *c, const struct conf_property *row)
{
	bool found;
	size_t at = find_setting(c, row, &found);
	if (!found)
		return;
	free(c->set[at].value);
	c->n--;
	memmove(c->set + at, c->set + at + 1, (c->n - at) * sizeof *c->set);
}

/* Cuts white space off both ends, in place. */
static char *trim(char *text)
{
	size_t n = strlen(text);
	while (n && is_space(text[n - 1]))
		n--;
	text[n] = '\0';
	while (is_space(*text))
		text++;
	return text;
}

int conf_set(struct conf *c, const char *name, const char *value, struct err *e)
{
	const struct conf_property *row = conf_find(c->schema, name);
	if (!row)
		return unknown_name(c, name, e);
	if (!(row->scope & c->scope))
		return wrong_scope(c, row, e);
	char *copy = strdup(value ? value : "");
	if (!copy)
		return err_set(e, ERR_NO_MEMORY, "%s: no memory for its value", name);
	char *text = trim(copy);
	memmove(copy, text, strlen(text) + 1);
	int r = 0;
	if (!*copy) {
		unset(c, row);
		goto done;
	}
	r = check_value(row, copy, e);
	struct err why = ERR_INIT;
	if (!r && row->check && !row->check(copy, &why))
		r = err_set(e, ERR_INVALID, "%s=%s: %s", name, copy, *why.text ? why.text : "not accepted");
	if (r)
		goto done;
	r = put_setting(c, row, copy);
	if (r)
		err_set(e, r, "%s: no memory for its value", name);
	else
		copy = NULL;
done:
	free(copy);
	return r;
}

int conf_apply(struct conf *c, const struct conf_change *v, size_t n, struct err *e)
{
	int rc = 0;
	for (size_t i = 0; i < n && rc == 0; i++)
		rc = conf_set(c, v[i].name, v[i].value, e);
	return rc;
}

void conf_clear(struct conf *c, bool hidden_too)
{
	size_t kept = 0;
	for (size_t i = 0; i < c->n; i++) {
		if (c->set[i].row->hidden && !hidden_too)
			c->set[kept++] = c->set[i];
		else
			free(c->set[i].value);
	}
	c->n = kept;
}

/* --- files --- */

/* Takes the escapes of a Java properties file out, in place. */
static bool unescape(char *text)
{
	char *to = text;
	for (; *text; text++) {
		if (*text != '\\') {
			*to++ = *text;
			continue;
		}
		text++;
		if (!*text)
			break;
		if (*text == 'u')
			return false;
		*to++ = *text == 't' ? '\t' : *text == 'n' ? '\n' : *text == 'r' ? '\r' : *text == 'f' ? '\f' : *text;
	}
	*to = '\0';
	return true;
}

/* The text as a properties file needs it: only a backslash means something in the middle of a value. */
static void put_escaped(struct wr *text, const char *value)
{
	for (; *value; value++) {
		if (*value == '\\')
			wr_i8(text, '\\');
		wr_i8(text, *value);
	}
}

int conf_line_change(char *line, struct conf_change *out, struct err *e)
{
	char *name = trim(line);
	if (!*name || *name == '#' || *name == '!')
		return 0;
	char *separator = name + strcspn(name, "=:");
	if (!*separator || separator == name)
		return err_set(e, ERR_INVALID, "%.200s: expected is name=value", name);
	*separator = '\0';
	char *value = separator + 1;
	name = trim(name);
	if (!unescape(value))
		return err_set(e, ERR_INVALID, "%s: \\u is not understood: write the character itself, as UTF-8", name);
	*out = (struct conf_change){name, value};
	return 1;
}

/* One logical line, which it changes. */
static int set_line(struct conf *c, char *line, struct err *e)
{
	struct conf_change change;
	int rc = conf_line_change(line, &change, e);
	return rc > 0 ? conf_set(c, change.name, change.value, e) : rc;
}

int conf_set_line(struct conf *c, const char *line, struct err *e)
{
	char *copy = strdup(line);
	if (!copy)
		return err_set(e, ERR_NO_MEMORY, "no memory for a property");
	int r = set_line(c, copy, e);
	free(copy);
	return r;
}

/* Whether a line goes on in the next: an odd number of backslashes at its end. */
static bool is_continued(const char *line, size_t len)
{
	size_t n = 0;
	while (n < len && line[len - 1 - n] == '\\')
		n++;
	return n % 2;
}

/* Cuts the next logical line off *at, NUL-terminated and joined in place; counts the physical ones. NULL at the end. */
static char *next_line(char **at, int *lines)
{
	char *line = *at, *to = line, *from = line;
	if (!*from)
		return NULL;
	const char *first = line + strspn(line, " \t\f");
	bool comment = *first == '#' || *first == '!';
	for (;;) {
		size_t len = strcspn(from, "\n");
		bool last = !from[len];
		size_t text = len && from[len - 1] == '\r' ? len - 1 : len;
		bool goes_on = !last && !comment && is_continued(from, text);
		memmove(to, from, text - goes_on);
		to += text - goes_on;
		from += len + !last;
		++*lines;
		if (!goes_on)
			break;
		from += strspn(from, " \t\f");
	}
	*at = from;
	*to = '\0';
	return line;
}

int conf_load_text(struct conf *c, char *text, const char *path, struct err *e)
{
	char *at = text, *line;
	int r = 0, lines = 0, first = 1;
	while (!r && (line = next_line(&at, &lines))) {
		r = set_line(c, line, e);
		if (r)
			err_context(e, "%s, line %d", path, first);
		first = lines + 1;
	}
	return r;
}

int conf_load(struct conf *c, const char *path, struct err *e)
{
	char *text;
	size_t n;
	int r = io_read_file(path, MAX_FILE_BYTES, &text, &n);
	if (r < 0)
		return err_sys(e, r, "cannot read %s", path);
	r = memchr(text, '\0', n) ? err_set(e, ERR_INVALID, "%s: not a text file", path) : conf_load_text(c, text, path, e);
	free(text);
	return r;
}

bool conf_same(const struct conf *a, const struct conf *b)
{
	size_t n;
	const struct conf_property *const *row = conf_rows(conf_schema_of(a), &n);
	for (size_t i = 0; i < n; i++) {
		const char *x = conf_own(a, row[i]), *y = conf_own(b, row[i]);
		if (!x != !y || (x && strcmp(x, y)))
			return false;
	}
	return true;
}

bool conf_is_empty(const struct conf *c)
{
	return c->n == 0;
}

void conf_print_set(const struct conf *c, struct wr *text, bool hidden_too)
{
	for (size_t i = 0; i < c->n; i++) {
		if (c->set[i].row->hidden && !hidden_too)
			continue;
		wr_printf(text, "%s=", c->set[i].row->name);
		put_escaped(text, c->set[i].value);
		wr_printf(text, "\n");
	}
}

const char *conf_own(const struct conf *c, const struct conf_property *p)
{
	bool found;
	size_t at = find_setting(c, p, &found);
	return found ? c->set[at].value : NULL;
}

const char *conf_value(const struct conf *c, const struct conf_property *p, char number[24])
{
	struct found f = find_value(c, p);
	if (!f.text || p->type != CONF_INT)
		return f.text;
	sprintf(number, "%lld", (long long)in_unit(f));
	return number;
}

void conf_value_text(const struct conf *c, const struct conf_property *p, struct wr *text)
{
	char number[24];
	const char *value = conf_value(c, p, number);
	if (value)
		put_escaped(text, value);
}
