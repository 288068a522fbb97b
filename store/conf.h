/*
 * conf: the engine of property tables.
 *
 * Each folder has one table of its own properties (store_properties, cluster_properties, fs_properties): name, type,
 * range, default, where it may be set, help. `server_schema` joins them into one schema. The same table parses, checks, prints
 * (`spoolfs config`) and documents (the manual). Names are Kafka's wherever Kafka has one.
 *
 * A `struct conf` is a set of values over a schema; one may have a parent, from which it takes what it does not
 * set itself: topic over broker over defaults. A topic property has a broker-wide counterpart in Kafka
 * (retention.ms / log.retention.ms): the row names it in `broker_name`, and lookups of the topic name in a
 * broker-level conf go there. Where Kafka has several units for one thing (log.retention.hours/minutes/ms) the table
 * has a row for each, and `finer` names the row that wins if it is set.
 *
 * thread: a conf is filled by one thread, then read by any; a change makes a new conf (conf_copy) and swaps it in.
 */
#ifndef STORE_CONF_H
#define STORE_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/err.h"

enum conf_type { CONF_BOOL, CONF_INT, CONF_STRING, CONF_ENUM, CONF_LIST, CONF_DOUBLE };
enum conf_scope { CONF_BROKER = 1, CONF_TOPIC = 2 };

struct conf_property {
	const char *name;
	enum conf_type type;
	unsigned scope;           /* where it may be set: CONF_BROKER, CONF_TOPIC (a topic's .config), or both */
	const char *preset;       /* the default, as text; NULL: none, which reads as "" or 0 */
	int64_t min, max;         /* of CONF_INT and CONF_DOUBLE; both 0: any */
	const char *unit;         /* "ms", "bytes", NULL */
	const char *choices;      /* of CONF_ENUM and CONF_LIST: "none,gzip,lz4"; NULL: any */
	const char *broker_name;  /* of a topic property: its broker-wide counterpart, NULL: the same name or none */
	const char *finer;        /* of a coarser unit's row: the row in the finer unit that wins where both are set */
	int64_t scale;            /* of a row with `finer`: units of the finer row in one of this (3600000 for hours over ms) */
	const char *help;         /* one sentence, no final stop */
	/* NULL, or what type and range cannot say: why it is refused in *e (without name and value, which conf_set adds) */
	bool (*check)(const char *value, struct err *e);
	bool hidden;              /* kept, but not listed: spoolfs' own bookkeeping in a topic's file */
};

struct conf_schema;

/* tables: each ended by a row with a NULL name; borrowed for the schema's life. Returns NULL for no memory. A name that
 * stands twice, a default outside its range and a dangling broker_name or finer are bugs: it aborts. */
struct conf_schema *conf_schema_new(const struct conf_property *const *tables, size_t count);
void conf_schema_free(struct conf_schema *s);
const struct conf_property *conf_find(const struct conf_schema *s, const char *name); /* NULL: unknown */
/* All rows in name order; *n is their number. Borrowed. */
const struct conf_property *const *conf_rows(const struct conf_schema *s, size_t *n);

struct conf;

/* parent: borrowed, must outlive; NULL: defaults only. scope: what may be set in it. */
struct conf *conf_new(const struct conf_schema *s, const struct conf *parent, enum conf_scope scope);
const struct conf_schema *conf_schema_of(const struct conf *c); /* borrowed */
struct conf *conf_copy(const struct conf *c);
struct conf *conf_copy_onto(const struct conf *c, const struct conf *parent); /* a copy with another parent */
void conf_set_parent(struct conf *c, const struct conf *parent);
void conf_free(struct conf *c);

/* Checks and sets one value; value NULL or "": back to what the parent says. ERR_INVALID with a sentence that names the property, what was given,
 * what is allowed, and, for an unknown name, the nearest known one. ERR_NO_MEMORY. */
int conf_set(struct conf *c, const char *name, const char *value, struct err *e);

/* One "name=value" (spaces around = allowed), as a line of a properties file. Empty lines and those that begin with # or ! are
 * skipped. */
int conf_set_line(struct conf *c, const char *line, struct err *e);

/* Several values: all, or those before the one that is refused. */
struct conf_change { const char *name, *value; /* borrowed; value NULL or "": taken back */ };
int conf_apply(struct conf *c, const struct conf_change *v, size_t n, struct err *e);
/* The change that such a line asks for, of whatever property: 1 with it, in the line's memory, which is changed; 0: the line is skipped; ERR_INVALID. */
int conf_line_change(char *line, struct conf_change *out, struct err *e);
/* Nothing of it is set any more; hidden_too: nor what is hidden. */
void conf_clear(struct conf *c, bool hidden_too);

/* A Java properties file: key=value or key: value, comments, trailing \ joins lines, escapes but for \u. The sentence says file
 * and line. What stood before the line that failed stays set. */
int conf_load(struct conf *c, const char *path, struct err *e);
/* The same of a text in memory, which is changed; path is for the sentence. */
int conf_load_text(struct conf *c, char *text, const char *path, struct err *e);
bool conf_is_empty(const struct conf *c); /* it sets nothing itself */
bool conf_same(const struct conf *a, const struct conf *b); /* of one schema: both set the same, themselves */

/* The value in force: its own, else the parent's (by broker_name there), else the default. In each, the row itself comes before the
 * coarser ones that name it in `finer`; a negative number is not scaled (-1 is "no limit" in any unit). The name must be in the
 * schema with that type: anything else is a bug and aborts. Strings are borrowed until the conf changes. */
int64_t conf_int(const struct conf *c, const char *name);
double conf_double(const struct conf *c, const char *name);
bool conf_bool(const struct conf *c, const char *name);
const char *conf_str(const struct conf *c, const char *name); /* never NULL */
bool conf_list_has(const struct conf *c, const char *name, const char *item);

/* Whether this conf itself sets it; with `up`, it or any parent. */
bool conf_is_set(const struct conf *c, const char *name, bool up);

/* What this conf itself has for just this row, in the row's own unit; NULL: nothing. Borrowed until the conf changes. */
const char *conf_own(const struct conf *c, const struct conf_property *p);
/* The value in force as it is, not as a file has it; NULL: there is none. number: room for one. */
const char *conf_value(const struct conf *c, const struct conf_property *p, char number[24]);

/* The values set in this conf itself, "name=value\n" in name order, appended to text. */
struct wr;
void conf_print_set(const struct conf *c, struct wr *text, bool hidden_too);
/* The value in force as text, formatted as it would be written in a file. */
void conf_value_text(const struct conf *c, const struct conf_property *p, struct wr *text);

#endif
