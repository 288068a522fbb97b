#include "store/buf.h"

#include <isa-l/crc.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

const uint8_t *rd_bytes(struct rd *r, size_t n)
{
	if (r->failed || n > rd_left(r)) {
		r->failed = true;
		return NULL;
	}
	const uint8_t *p = r->p;
	r->p += n;
	return p;
}

void rd_skip(struct rd *r, size_t n)
{
	rd_bytes(r, n);
}

int8_t rd_i8(struct rd *r)
{
	const uint8_t *p = rd_bytes(r, 1);
	return p ? (int8_t)*p : 0;
}

int16_t rd_i16(struct rd *r)
{
	const uint8_t *p = rd_bytes(r, 2);
	return p ? (int16_t)be16_get(p) : 0;
}

int32_t rd_i32(struct rd *r)
{
	return (int32_t)rd_u32(r);
}

int64_t rd_i64(struct rd *r)
{
	const uint8_t *p = rd_bytes(r, 8);
	return p ? (int64_t)be64_get(p) : 0;
}

uint32_t rd_u32(struct rd *r)
{
	const uint8_t *p = rd_bytes(r, 4);
	return p ? be32_get(p) : 0;
}

static int64_t read_varint(struct rd *r, int max_bytes)
{
	int64_t v = 0;
	if (r->failed || !varint_get(&r->p, r->end, max_bytes, &v)) {
		r->failed = true;
		return 0;
	}
	return v;
}

int32_t rd_varint(struct rd *r)
{
	int64_t v = read_varint(r, 5);
	if (v < INT32_MIN || v > INT32_MAX) { /* five bytes hold 35 bits */
		r->failed = true;
		return 0;
	}
	return (int32_t)v;
}

int64_t rd_varlong(struct rd *r)
{
	return read_varint(r, 10);
}

uint32_t rd_uvarint(struct rd *r)
{
	uint64_t v = zigzag(read_varint(r, 5));
	if (v > UINT32_MAX) {
		r->failed = true;
		return 0;
	}
	return (uint32_t)v;
}

void wr_init(struct wr *w, size_t limit)
{
	*w = (struct wr){.limit = limit ? limit : SIZE_MAX / 2};
}

void wr_release(struct wr *w)
{
	free(w->data);
	w->data = NULL;
	w->len = w->cap = 0;
}

uint8_t *wr_room(struct wr *w, size_t n)
{
	if (w->failed || n > w->limit - w->len) {
		w->failed = true;
		return NULL;
	}
	size_t need = w->len + n;
	if (need > w->cap || !w->data) {
		size_t cap = w->cap < 64 ? 64 : w->cap > w->limit / 2 ? w->limit : w->cap * 2;
		if (cap < need)
			cap = need;
		if (cap > w->limit)
			cap = w->limit;
		/* A byte more than it counts, for the NUL that wr_printf puts behind its text. */
		uint8_t *data = realloc(w->data, cap + 1);
		if (!data) {
			w->failed = true;
			return NULL;
		}
		w->data = data;
		w->cap = cap;
	}
	return w->data + w->len;
}

void wr_bytes(struct wr *w, const void *p, size_t n)
{
	uint8_t *to = wr_room(w, n);
	if (to && n) {
		memcpy(to, p, n);
		w->len += n;
	}
}

void wr_i8(struct wr *w, int8_t v)
{
	wr_bytes(w, &v, 1);
}

void wr_i16(struct wr *w, int16_t v)
{
	uint8_t *to = wr_room(w, 2);
	if (to) {
		be16_put(to, (uint16_t)v);
		w->len += 2;
	}
}

void wr_i32(struct wr *w, int32_t v)
{
	uint8_t *to = wr_room(w, 4);
	if (to) {
		be32_put(to, (uint32_t)v);
		w->len += 4;
	}
}

void wr_i64(struct wr *w, int64_t v)
{
	uint8_t *to = wr_room(w, 8);
	if (to) {
		be64_put(to, (uint64_t)v);
		w->len += 8;
	}
}

void wr_uvarint(struct wr *w, uint64_t v)
{
	uint8_t *to = wr_room(w, uvarint_size(v));
	if (to)
		w->len += uvarint_put(to, v);
}

void wr_varint(struct wr *w, int64_t v)
{
	wr_uvarint(w, zigzag(v));
}

void wr_printf(struct wr *w, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0) {
		w->failed = true;
		return;
	}
	uint8_t *to = wr_room(w, (size_t)n);
	if (!to)
		return;
	va_start(ap, fmt);
	vsnprintf((char *)to, (size_t)n + 1, fmt, ap);
	va_end(ap);
	w->len += (size_t)n;
}

uint32_t crc32c(uint32_t crc, const void *p, size_t n)
{
	/* ISA-L neither inverts at the start nor at the end, and counts in int. */
	unsigned char *at = (unsigned char *)(uintptr_t)p;
	crc = ~crc;
	while (n > INT_MAX) {
		crc = crc32_iscsi(at, INT_MAX, crc);
		at += INT_MAX;
		n -= INT_MAX;
	}
	return ~crc32_iscsi(at, (int)n, crc);
}
