#include "cluster/wire/table.h"

#include <limits.h>
#include <stdlib.h>

/* Where encoded bytes go: into out's memory between p and end; or nowhere, only counted (out is NULL, p == end). */
struct to {
	uint8_t *p, *end;
	struct wire_out *out;
	size_t counted;
	uint8_t scratch[16]; /* where the counter's bytes go */
	struct err *err;
	const struct wire_struct *message;
	int version;
	bool flexible;
};

static int encode_struct(struct to *to, const struct wire_struct *desc, const uint8_t *in);
static int encode_field(struct to *to, const struct wire_struct *desc, const struct wire_field *f, const uint8_t *in);

void wire_out_init(struct wire_out *out, size_t limit)
{
	*out = (struct wire_out){0};
	wr_init(&out->bytes, limit);
}

void wire_out_release(struct wire_out *out)
{
	wr_release(&out->bytes);
	free(out->inserts);
	*out = (struct wire_out){0};
}

void wire_out_clear(struct wire_out *out)
{
	wr_clear(&out->bytes);
	out->n_inserts = 0;
	out->inserted = 0;
}

static void settle(struct to *to)
{
	if (to->out)
		to->out->bytes.len = (size_t)(to->p - to->out->bytes.data);
}

static bool begin(struct to *to, size_t n)
{
	struct wr *w = &to->out->bytes;
	to->p = wr_room(w, n);
	if (!to->p)
		return false;
	/* wr_room gave more than was asked for, up to the capacity. */
	to->end = w->data + w->cap;
	return true;
}

__attribute__((noinline)) static int grow(struct to *to, size_t n)
{
	settle(to);
	if (begin(to, n))
		return 0;
	struct wr *w = &to->out->bytes;
	to->p = to->end = w->data + w->len;
	if (n > w->limit - w->len)
		return err_set(to->err, ERR_TOO_LARGE, "%s of more than %zu bytes", to->message->name, w->limit);
	return err_set(to->err, ERR_NO_MEMORY, "%s: no memory for %zu bytes", to->message->name, w->len + n);
}

/* Room for n bytes (at most 16), which are then taken. NULL with to->err set. */
static inline uint8_t *take(struct to *to, size_t n)
{
	if (__builtin_expect((size_t)(to->end - to->p) < n, 0)) {
		if (!to->out) {
			to->counted += n;
			return to->scratch;
		}
		if (grow(to, n) < 0)
			return NULL;
	}
	uint8_t *at = to->p;
	to->p += n;
	return at;
}

static int put_bytes(struct to *to, const void *p, size_t n)
{
	if (!to->out) {
		to->counted += n;
		return 0;
	}
	if (n == 0)
		return 0;
	if ((size_t)(to->end - to->p) < n) {
		int rc = grow(to, n);
		if (rc < 0)
			return rc;
	}
	memcpy(to->p, p, n);
	to->p += n;
	return 0;
}

static inline int put_uvarint(struct to *to, uint32_t v)
{
	uint8_t *at = take(to, uvarint_size(v));
	if (!at)
		return to->err->code;
	uvarint_put(at, v);
	return 0;
}

/* n < 0 is null. */
static inline int put_length(struct to *to, bool old, size_t width, int32_t n)
{
	if (!old)
		return put_uvarint(to, n < 0 ? 0 : (uint32_t)n + 1);
	uint8_t *at = take(to, width);
	if (!at)
		return to->err->code;
	if (width == 2)
		be16_put(at, (uint16_t)(n < 0 ? -1 : n));
	else
		be32_put(at, (uint32_t)(n < 0 ? -1 : n));
	return 0;
}

__attribute__((noinline, cold)) static int refuse(struct to *to, int code, const struct wire_struct *desc, const struct wire_field *f, const char *what)
{
	return err_set(to->err, code, "%s.%s %s version %d", desc->name, f->name, what, to->version);
}

static int no_null(struct to *to, const struct wire_struct *desc, const struct wire_field *f)
{
	return wire_versions_have(f->nullable, to->version) ? 0 : refuse(to, ERR_INVALID, desc, f, "is null, which cannot be said in");
}

static inline int encode_string(struct to *to, const struct wire_struct *desc, const struct wire_field *f, const struct wire_string *s)
{
	if (s->n < 0 && no_null(to, desc, f) < 0)
		return ERR_INVALID;
	if (s->n > INT16_MAX)
		return refuse(to, ERR_TOO_LARGE, desc, f, "has more than 32767 bytes:");
	int rc = put_length(to, !to->flexible || f->old_string, 2, s->n);
	return rc < 0 || s->n <= 0 ? rc : put_bytes(to, s->s, (size_t)s->n);
}

static int put_insert(struct to *to, size_t n, void *range)
{
	struct wire_out *out = to->out;
	if (!out) {
		to->counted += n;
		return 0;
	}
	if (out->n_inserts == out->cap_inserts) {
		size_t cap = out->cap_inserts ? out->cap_inserts * 2 : 8;
		struct wire_insert *more = reallocarray(out->inserts, cap, sizeof *more);
		if (!more)
			return err_set(to->err, ERR_NO_MEMORY, "%s: no memory for %zu ranges", to->message->name, cap);
		out->inserts = more;
		out->cap_inserts = cap;
	}
	settle(to);
	out->inserts[out->n_inserts++] = (struct wire_insert){.at = out->bytes.len, .bytes = n, .range = range};
	out->inserted += n;
	return 0;
}

static inline int put_scalar(struct to *to, enum wire_type type, const uint8_t *in)
{
	uint8_t *at = take(to, wire_scalar_size[type]);
	if (!at)
		return to->err->code;
	switch (type) {
	case WIRE_BOOL:
	case WIRE_INT8:
		*at = *in;
		break;
	case WIRE_INT16:
	case WIRE_UINT16:
		be16_put(at, *(const uint16_t *)in);
		break;
	case WIRE_INT32:
	case WIRE_UINT32:
		be32_put(at, *(const uint32_t *)in);
		break;
	case WIRE_UUID:
		memcpy(at, in, 16);
		break;
	default: /* INT64, FLOAT64 */
		be64_put(at, *(const uint64_t *)in);
	}
	return 0;
}

static int encode_array(struct to *to, const struct wire_struct *desc, const struct wire_field *f, const struct wire_array *a)
{
	if (a->n < 0 && no_null(to, desc, f) < 0)
		return ERR_INVALID;
	int rc = put_length(to, !to->flexible, 4, a->n);
	size_t size = f->of ? f->of->size : wire_value_size[f->element];
	const uint8_t *v = a->v;
	for (int32_t i = 0; i < a->n && rc == 0; i++, v += size) {
		if (f->of)
			rc = encode_struct(to, f->of, v);
		else if (f->element == WIRE_STRING)
			rc = encode_string(to, desc, &(struct wire_field){.name = f->name}, (const struct wire_string *)v);
		else
			rc = put_scalar(to, f->element, v);
	}
	return rc;
}

static inline int encode_field(struct to *to, const struct wire_struct *desc, const struct wire_field *f, const uint8_t *in)
{
	int rc;
	switch ((enum wire_type)f->type) {
	case WIRE_STRING:
		return encode_string(to, desc, f, (const struct wire_string *)in);
	case WIRE_BYTES: {
		const struct wire_bytes *b = (const struct wire_bytes *)in;
		if (b->n < 0 && no_null(to, desc, f) < 0)
			return ERR_INVALID;
		rc = put_length(to, !to->flexible, 4, b->n);
		return rc < 0 || b->n <= 0 ? rc : put_bytes(to, b->p, (size_t)b->n);
	}
	case WIRE_RECORDS: {
		const struct wire_records *r = (const struct wire_records *)in;
		if (r->n < 0 && no_null(to, desc, f) < 0)
			return ERR_INVALID;
		rc = put_length(to, !to->flexible, 4, r->n);
		if (rc < 0 || r->n <= 0)
			return rc;
		return r->range ? put_insert(to, (size_t)r->n, r->range) : put_bytes(to, r->p, (size_t)r->n);
	}
	case WIRE_ARRAY:
		return encode_array(to, desc, f, (const struct wire_array *)in);
	case WIRE_STRUCT_IN:
		return encode_struct(to, f->of, in);
	case WIRE_STRUCT_NULLABLE: {
		const void *s = *(void *const *)in;
		if (!s && no_null(to, desc, f) < 0)
			return ERR_INVALID;
		uint8_t *at = take(to, 1);
		if (!at)
			return to->err->code;
		*at = s ? 1 : 0xff;
		return s ? encode_struct(to, f->of, s) : 0;
	}
	default:
		return put_scalar(to, f->type, in);
	}
}

/* Takes the field with the least tag out of a set of them, which has a bit for each field of the struct. */
static const struct wire_field *least_tag(const struct wire_struct *desc, uint32_t *set)
{
	int least = __builtin_ctz(*set);
	for (int i = least + 1; i < desc->n_fields; i++)
		if ((*set >> i & 1) && desc->fields[i].tag < desc->fields[least].tag)
			least = i;
	*set &= ~(1u << least);
	return &desc->fields[least];
}

/* Tagged fields that have their default are left out. They go in order of their tags, and each has its length in front, so it is counted first. */
static int encode_tagged(struct to *to, const struct wire_struct *desc, const uint8_t *in, uint32_t set)
{
	int rc = put_uvarint(to, (uint32_t)__builtin_popcount(set));
	while (set && rc == 0) {
		const struct wire_field *f = least_tag(desc, &set);
		struct to count = {.err = to->err, .message = to->message, .version = to->version, .flexible = to->flexible};
		rc = encode_field(&count, desc, f, in + f->offset);
		if (rc == 0)
			rc = put_uvarint(to, f->tag);
		if (rc == 0)
			rc = put_uvarint(to, (uint32_t)count.counted);
		if (rc == 0)
			rc = encode_field(to, desc, f, in + f->offset);
	}
	return rc;
}

static int encode_struct(struct to *to, const struct wire_struct *desc, const uint8_t *in)
{
	uint32_t set = 0; /* of tagged fields */
	for (const struct wire_field *f = desc->fields, *end = f + desc->n_fields; f < end; f++) {
		if (!wire_versions_have(f->in, to->version)) {
			if (!f->ignorable && !wire_is_default(f, in + f->offset))
				return refuse(to, ERR_UNSUPPORTED, desc, f, "is set, but there is no such field in");
		} else if (wire_versions_have(f->tagged, to->version)) {
			if (!wire_is_default(f, in + f->offset))
				set |= 1u << (f - desc->fields);
		} else {
			int rc = encode_field(to, desc, f, in + f->offset);
			if (rc < 0)
				return rc;
		}
	}
	return to->flexible ? encode_tagged(to, desc, in, set) : 0;
}

static int encode(struct to *to, const void *message)
{
	if (!wire_versions_have(to->message->versions, to->version))
		return err_set(to->err, ERR_UNSUPPORTED, "%s has no version %d", to->message->name, to->version);
	to->flexible = to->version >= to->message->flexible;
	return encode_struct(to, to->message, message);
}

int wire_encode(const struct wire_struct *desc, int version, const void *message, struct wire_out *out, struct err *e)
{
	struct err own = ERR_INIT;
	struct to to = {.out = out, .err = e ? e : &own, .message = desc, .version = version};
	size_t len = out->bytes.len, n_inserts = out->n_inserts, inserted = out->inserted;
	to.p = out->bytes.data ? out->bytes.data + len : NULL;
	to.end = out->bytes.data ? out->bytes.data + out->bytes.cap : NULL;
	int rc = encode(&to, message);
	if (rc == 0) {
		settle(&to);
		return 0;
	}
	out->bytes.len = len;
	out->bytes.failed = false;
	out->n_inserts = n_inserts;
	out->inserted = inserted;
	return rc;
}

ssize_t wire_size(const struct wire_struct *desc, int version, const void *message, struct err *e)
{
	struct err own = ERR_INIT;
	struct to to = {.err = e ? e : &own, .message = desc, .version = version};
	int rc = encode(&to, message);
	return rc < 0 ? rc : (ssize_t)to.counted;
}
