#include "cluster/wire/table.h"
#include "cluster/wire/utf8.h"

#include <limits.h>

/* What is being decoded. The bytes of a tagged field narrow `end` while it is read. */
struct in {
	const uint8_t *p, *end;
	const uint8_t *start;
	struct arena *arena;
	struct err *err;
	int version;
	bool flexible;
};

static int decode_struct(struct in *in, const struct wire_struct *desc, uint8_t *out);

__attribute__((noinline, cold)) static void complain(struct in *in, const struct wire_struct *desc, const struct wire_field *f, const char *what)
{
	err_set(in->err, ERR_CORRUPT, "%s.%s at byte %zu: %s", desc->name, f ? f->name : "tagged fields", (size_t)(in->p - in->start), what);
}

static inline int corrupt(struct in *in, const struct wire_struct *desc, const struct wire_field *f, const char *what)
{
	complain(in, desc, f, what);
	return ERR_CORRUPT;
}

static inline size_t left(const struct in *in)
{
	return (size_t)(in->end - in->p);
}

static const char cut_off[] = "the message ends within it", long_varint[] = "a varint that does not end";

static bool get_uvarint(struct in *in, uint32_t *v)
{
	if (__builtin_expect(in->p < in->end && *in->p < 0x80, 1)) {
		*v = *in->p++;
		return true;
	}
	uint64_t u = 0;
	const uint8_t *p = in->p;
	for (int shift = 0; shift < 35 && p < in->end; shift += 7, p++) {
		u |= (uint64_t)(*p & 0x7f) << shift;
		if (*p < 0x80) {
			*v = (uint32_t)u;
			in->p = p + 1;
			return u <= UINT32_MAX;
		}
	}
	return false;
}

/* The length of a string (2 bytes in old versions) or of anything else (4), null being -1. Lengths of one byte or more an item: none is greater than what is left. */
static inline int get_length(struct in *in, const struct wire_struct *desc, const struct wire_field *f, bool old, size_t width, int32_t *n)
{
	int64_t length;
	if (!old) {
		uint32_t v;
		if (!get_uvarint(in, &v))
			return corrupt(in, desc, f, left(in) < 5 ? cut_off : long_varint);
		length = (int64_t)v - 1;
	} else {
		if (left(in) < width)
			return corrupt(in, desc, f, cut_off);
		length = width == 2 ? (int16_t)be16_get(in->p) : (int32_t)be32_get(in->p);
		in->p += width;
	}
	if (length < 0) {
		if (!wire_versions_have(f->nullable, in->version))
			return corrupt(in, desc, f, "null, which this version does not have");
		*n = -1;
		return 0;
	}
	if ((uint64_t)length > left(in) || length > INT32_MAX)
		return corrupt(in, desc, f, "a length beyond the end of the message");
	*n = (int32_t)length;
	return 0;
}

static int repair(struct in *in, struct wire_string *s)
{
	char *mended = arena_get(in->arena, (size_t)s->n * UTF8_REPAIR_GROWTH, in->err);
	if (!mended)
		return in->err->code;
	s->n = (int32_t)utf8_repair(s->s, (size_t)s->n, mended);
	s->s = mended;
	return 0;
}

static inline int decode_string(struct in *in, const struct wire_struct *desc, const struct wire_field *f, struct wire_string *s)
{
	int32_t n;
	int rc = get_length(in, desc, f, !in->flexible || f->old_string, 2, &n);
	if (rc < 0)
		return rc;
	if (n < 0) {
		*s = WIRE_NULL_STRING;
		return 0;
	}
	if (n > INT16_MAX)
		return corrupt(in, desc, f, "a string of more than 32767 bytes");
	*s = (struct wire_string){(const char *)in->p, n};
	in->p += n;
	return __builtin_expect(utf8_valid(s->s, (size_t)n), 1) ? 0 : repair(in, s);
}

/* The fewest bytes that a struct or a field takes in this version: it bounds how many of them can follow. */
static size_t least_struct(const struct in *in, const struct wire_struct *desc);

static size_t least_field(const struct in *in, const struct wire_field *f, enum wire_type type)
{
	switch (type) {
	case WIRE_STRING:
		return in->flexible && !f->old_string ? 1 : 2;
	case WIRE_BYTES:
	case WIRE_RECORDS:
	case WIRE_ARRAY:
		return in->flexible ? 1 : 4;
	case WIRE_STRUCT_IN:
		return least_struct(in, f->of);
	case WIRE_STRUCT_NULLABLE:
		return 1;
	default:
		return wire_scalar_size[type];
	}
}

static size_t least_struct(const struct in *in, const struct wire_struct *desc)
{
	size_t n = in->flexible;
	for (const struct wire_field *f = desc->fields, *end = f + desc->n_fields; f < end; f++) {
		if (wire_versions_have(f->in, in->version) && !wire_versions_have(f->tagged, in->version))
			n += least_field(in, f, f->type);
	}
	return n;
}

static inline void get_scalar(const uint8_t *p, enum wire_type type, uint8_t *out)
{
	switch (type) {
	case WIRE_BOOL:
		*(bool *)out = *p != 0;
		break;
	case WIRE_INT8:
		*out = *p;
		break;
	case WIRE_INT16:
	case WIRE_UINT16:
		*(uint16_t *)out = be16_get(p);
		break;
	case WIRE_INT32:
	case WIRE_UINT32:
		*(uint32_t *)out = be32_get(p);
		break;
	case WIRE_UUID:
		memcpy(out, p, 16);
		break;
	default: /* INT64, FLOAT64 */
		*(uint64_t *)out = be64_get(p);
	}
}

static int decode_array(struct in *in, const struct wire_struct *desc, const struct wire_field *f, struct wire_array *out)
{
	int32_t n;
	int rc = get_length(in, desc, f, !in->flexible, 4, &n);
	if (rc < 0)
		return rc;
	*out = (struct wire_array){NULL, n};
	if (n <= 0)
		return 0;
	size_t least = f->of ? least_struct(in, f->of) : least_field(in, f, f->element);
	if ((uint64_t)n * least > left(in))
		return corrupt(in, desc, f, "more elements than the rest of the message can hold");
	size_t size = f->of ? f->of->size : wire_value_size[f->element];
	uint8_t *v = arena_get(in->arena, (size_t)n * size, in->err);
	if (!v)
		return in->err->code;
	out->v = v;
	for (int32_t i = 0; i < n && rc == 0; i++, v += size) {
		if (f->of) {
			rc = decode_struct(in, f->of, v);
		} else if (f->element == WIRE_STRING) {
			struct wire_field element = {.name = f->name};
			rc = decode_string(in, desc, &element, (struct wire_string *)v);
		} else {
			get_scalar(in->p, f->element, v);
			in->p += least;
		}
	}
	return rc;
}

static int decode_nullable_struct(struct in *in, const struct wire_struct *desc, const struct wire_field *f, void **out)
{
	*out = NULL;
	if (left(in) < 1)
		return corrupt(in, desc, f, cut_off);
	if ((int8_t)*in->p++ < 0)
		return wire_versions_have(f->nullable, in->version) ? 0 : corrupt(in, desc, f, "null, which this version does not have");
	*out = arena_get(in->arena, f->of->size, in->err);
	if (!*out)
		return in->err->code;
	return decode_struct(in, f->of, *out);
}

static inline int decode_field(struct in *in, const struct wire_struct *desc, const struct wire_field *f, uint8_t *out)
{
	int rc;
	switch ((enum wire_type)f->type) {
	case WIRE_STRING:
		return decode_string(in, desc, f, (struct wire_string *)out);
	case WIRE_BYTES:
	case WIRE_RECORDS: {
		int32_t n;
		rc = get_length(in, desc, f, !in->flexible, 4, &n);
		if (rc < 0)
			return rc;
		if (f->type == WIRE_RECORDS)
			*(struct wire_records *)out = (struct wire_records){n < 0 ? NULL : in->p, n, NULL};
		else
			*(struct wire_bytes *)out = (struct wire_bytes){n < 0 ? NULL : in->p, n};
		in->p += n < 0 ? 0 : n;
		return 0;
	}
	case WIRE_ARRAY:
		return decode_array(in, desc, f, (struct wire_array *)out);
	case WIRE_STRUCT_IN:
		return decode_struct(in, f->of, out);
	case WIRE_STRUCT_NULLABLE:
		return decode_nullable_struct(in, desc, f, (void **)out);
	default:
		if (left(in) < wire_scalar_size[f->type])
			return corrupt(in, desc, f, cut_off);
		get_scalar(in->p, f->type, out);
		in->p += wire_scalar_size[f->type];
		return 0;
	}
}

static const struct wire_field *tagged_field(const struct in *in, const struct wire_struct *desc, uint32_t tag)
{
	for (const struct wire_field *f = desc->fields, *end = f + desc->n_fields; f < end; f++) {
		if (f->tag == tag && wire_versions_have(f->tagged, in->version))
			return f;
	}
	return NULL;
}

static int decode_tagged(struct in *in, const struct wire_struct *desc, uint8_t *out)
{
	uint32_t count, tag, size;
	if (!get_uvarint(in, &count))
		return corrupt(in, desc, NULL, cut_off);
	while (count--) {
		if (!get_uvarint(in, &tag) || !get_uvarint(in, &size))
			return corrupt(in, desc, NULL, cut_off);
		if (size > left(in))
			return corrupt(in, desc, NULL, "a length beyond the end of the message");
		const struct wire_field *f = tagged_field(in, desc, tag);
		const uint8_t *end = in->end, *next = in->p + size;
		if (f) {
			in->end = next;
			int rc = decode_field(in, desc, f, out + f->offset);
			if (rc < 0)
				return rc;
			if (in->p != next)
				return corrupt(in, desc, f, "its tag gives it another length than its content");
			in->end = end;
		}
		in->p = next;
	}
	return 0;
}

static int decode_struct(struct in *in, const struct wire_struct *desc, uint8_t *out)
{
	for (const struct wire_field *f = desc->fields, *end = f + desc->n_fields; f < end; f++) {
		if (!wire_versions_have(f->in, in->version) || wire_versions_have(f->tagged, in->version)) {
			wire_set_default(f, out + f->offset);
			continue;
		}
		int rc = decode_field(in, desc, f, out + f->offset);
		if (rc < 0)
			return rc;
	}
	return in->flexible ? decode_tagged(in, desc, out) : 0;
}

ssize_t wire_decode(const struct wire_struct *desc, int version, const void *bytes, size_t n, struct arena *arena, void *message, struct err *e)
{
	struct err own = ERR_INIT; /* the code has to get here from the arena in any case */
	if (!wire_versions_have(desc->versions, version))
		return err_set(e, ERR_UNSUPPORTED, "%s has no version %d", desc->name, version);
	struct in in = {.p = bytes, .start = bytes, .end = (const uint8_t *)bytes + n, .arena = arena, .err = e ? e : &own, .version = version,
		.flexible = version >= desc->flexible};
	int rc = decode_struct(&in, desc, message);
	return rc < 0 ? rc : in.p - in.start;
}
