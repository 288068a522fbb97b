/*
 * layout_json: reading members of JSON that nobody has checked, for layout_*.c.
 *
 * A `struct reading` has a sticky error: all is read, then rc is looked at once. Its sentence names the path and the member.
 *
 * thread: one at a time.
 */
#ifndef CLUSTER_ZK_LAYOUT_JSON_H
#define CLUSTER_ZK_LAYOUT_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "store/buf.h"
#include "store/err.h"

struct reading {
	const char *path;
	struct err *e;
	int rc;
	json_t *root; /* owned: an object, never NULL while rc is 0 */
};

/* Parses an object whose "version" is between the two. */
void reading_begin(struct reading *r, const char *path, const void *data, size_t bytes, int64_t least_version, int64_t newest_version, int64_t *version, struct err *e);
/* The same of one whose version is not a number, or that has none. */
void reading_begin_any(struct reading *r, const char *path, const void *data, size_t bytes, struct err *e);
void reading_failed(struct reading *r, const char *member, const char *expected);

int64_t read_number(struct reading *r, json_t *o, const char *member, int64_t min, int64_t max);
int64_t read_number_or(struct reading *r, json_t *o, const char *member, int64_t min, int64_t max, int64_t otherwise);
bool read_bool(struct reading *r, json_t *o, const char *member);
/* A number that is written as text. */
int64_t read_quoted(struct reading *r, json_t *o, const char *member, int64_t min, int64_t max);
const char *read_text(struct reading *r, json_t *o, const char *member);    /* never NULL */
const char *read_text_or_null(struct reading *r, json_t *o, const char *member);
json_t *read_object(struct reading *r, json_t *o, const char *member);      /* NULL once failed */
json_t *read_array(struct reading *r, json_t *o, const char *member);
/* Broker ids, each once; the caller frees *v. */
void read_brokers(struct reading *r, json_t *array, const char *member, int32_t **v, size_t *n);
bool text_to_number(const char *text, int64_t min, int64_t max, int64_t *number); /* plain decimal, a minus before it */

/* Building: `o` NULL, and values NULL, make the result fail. All take the value over. */
void put(json_t *o, bool *failed, const char *member, json_t *value);
json_t *quoted(int64_t number);
json_t *brokers(const int32_t *v, size_t n);
/* Members of kept (NULL: none) that are not in known, which a NULL ends, behind those of o. */
void put_kept(json_t *o, bool *failed, const json_t *kept, const char *const *known);
/* Writes o, and lets it go. 0 or ERR_INVALID. */
int put_out(json_t *o, bool failed, struct wr *out);

#endif
