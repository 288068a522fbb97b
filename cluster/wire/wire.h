/*
 * wire: Kafka's messages between C structs and bytes, by tables.
 *
 * A message is described once, in messages/<family>.h: from that come `struct produce_request` and the table `wire_produce_request`. The functions
 * here know no message; they walk a table.
 *
 * In the C structs
 *   - zeros are an empty message: "", no bytes, an empty array, 0, false. Where Kafka's default is another (-1, null), wire_init sets it.
 *   - n < 0 is null, in strings, bytes, records and arrays alike. A nullable struct is a pointer, NULL for null.
 *   - decoded strings, bytes and records are borrowed from the bytes given to wire_decode; arrays and nullable structs from its arena (a string that was not
 *     UTF-8 too, see utf8.h). Strings have no NUL at their end.
 *   - a field that the version does not have gets its default when decoding. Encoding fails with ERR_UNSUPPORTED if such a field has another value,
 *     unless it is one that may be dropped silently (`IGNORABLE`): as Kafka's own classes do.
 *
 * From outside comes nothing that is trusted: an array's count is held against the bytes that are left before memory is taken, a string's length, a tagged
 * field's. Tagged fields are read in any order; of those with an unknown tag only the length matters. Null where the version has no null, a negative
 * length of anything else, a known tagged field that is longer or shorter than its content: ERR_CORRUPT. What stands behind a message is not looked
 * at: Kafka's broker ignores it too.
 *
 * thread: any; tables are constant, all else belongs to the caller.
 */
#ifndef CLUSTER_WIRE_WIRE_H
#define CLUSTER_WIRE_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

#include "cluster/wire/arena.h"
#include "store/buf.h"
#include "store/err.h"

/* Values */

struct wire_string {
	const char *s;
	int32_t n; /* < 0: null */
};
struct wire_bytes {
	const uint8_t *p;
	int32_t n;
};
struct wire_records {
	const uint8_t *p;
	int32_t n;
	void *range; /* encoding only: not NULL if the n bytes are elsewhere (a file): the output then has a gap there, and this pointer */
};
struct wire_uuid {
	uint8_t b[16];
};
/* How every array looks to the engine. */
struct wire_array {
	void *v;
	int32_t n;
};

static inline struct wire_string wire_string(const char *s) { return (struct wire_string){s, s ? (int32_t)strlen(s) : -1}; }
static inline bool wire_string_is(struct wire_string a, const char *b) { return a.n >= 0 && strlen(b) == (size_t)a.n && memcmp(a.s, b, (size_t)a.n) == 0; }
static inline bool wire_string_eq(struct wire_string a, struct wire_string b) { return a.n == b.n && (a.n <= 0 || memcmp(a.s, b.s, (size_t)a.n) == 0); }
static inline bool wire_uuid_is_zero(const struct wire_uuid *u) { return memcmp(u->b, (const uint8_t[16]){0}, 16) == 0; }
#define WIRE_NULL_STRING ((struct wire_string){NULL, -1})

/* Tables */

enum wire_type {
	WIRE_BOOL, WIRE_INT8, WIRE_INT16, WIRE_UINT16, WIRE_INT32, WIRE_UINT32, WIRE_INT64, WIRE_FLOAT64, WIRE_UUID,
	WIRE_STRING, WIRE_BYTES, WIRE_RECORDS,
	WIRE_STRUCT_IN,       /* a struct in its place */
	WIRE_STRUCT_NULLABLE, /* a pointer to one */
	WIRE_ARRAY,           /* of structs, if `of` is set; else of `element` */
};

enum { WIRE_OWN_TAGS = 10000 };

/* Versions from `first` up to but not `end`: zeros are no version at all. */
struct wire_versions {
	int16_t first, end;
};
static inline bool wire_versions_have(struct wire_versions r, int version) { return version >= r.first && version < r.end; }

struct wire_struct;

struct wire_field {
	const char *name;
	const struct wire_struct *of; /* of a struct, or of an array's elements */
	int64_t def;                  /* numbers and bools: the default. Anything else: -1 if the default is null */
	struct wire_versions in, nullable, tagged;
	uint16_t offset;
	uint16_t tag;                 /* from WIRE_OWN_TAGS on: ours, which Kafka does not have */
	uint8_t type, element;        /* enum wire_type */
	bool ignorable;
	bool old_string;              /* has a length of 2 bytes in flexible versions too */
};

struct wire_struct {
	const char *name;
	const struct wire_field *fields;
	uint16_t n_fields;
	uint16_t size; /* of the C struct */
	/* Of messages (structs within one follow it): */
	struct wire_versions versions;
	int16_t flexible; /* the first flexible version */
};

/* Sets every field to Kafka's default. */
void wire_init(const struct wire_struct *desc, void *message);

/* Decodes one message at the start of n bytes. Returns the bytes it took, or ERR_CORRUPT, ERR_TOO_LARGE (the arena's limit), ERR_NO_MEMORY, or ERR_UNSUPPORTED
 * (the table has no such version). message: desc->size bytes, content undefined on failure. */
ssize_t wire_decode(const struct wire_struct *desc, int version, const void *bytes, size_t n, struct arena *arena, void *message, struct err *e);

/* Records of another place, within encoded bytes. */
struct wire_insert {
	size_t at;    /* in out->bytes: they belong before this byte. Several may have the same `at`: they follow each other in order */
	size_t bytes;
	void *range;  /* as given in struct wire_records; borrowed */
};

struct wire_out {
	struct wr bytes;
	struct wire_insert *inserts; /* in order of `at` */
	size_t n_inserts, cap_inserts;
	size_t inserted;             /* bytes of all inserts together */
};

void wire_out_init(struct wire_out *out, size_t limit); /* limit: of out->bytes; 0 for none */
void wire_out_release(struct wire_out *out);
void wire_out_clear(struct wire_out *out); /* empty, the memory kept */

/* Appends the message to out. ERR_UNSUPPORTED: no such version, or a field set that it does not have; ERR_INVALID: null where the version has no null;
 * ERR_TOO_LARGE: a string over 32767 bytes, or out's limit; ERR_NO_MEMORY. On failure out is as it was. */
int wire_encode(const struct wire_struct *desc, int version, const void *message, struct wire_out *out, struct err *e);

/* The bytes wire_encode would make, those of inserts included; or its error. */
ssize_t wire_size(const struct wire_struct *desc, int version, const void *message, struct err *e);

#endif
