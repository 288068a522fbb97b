/*
 * buf: explicit big-endian access, and two cursors with a sticky error (decode everything, check once).
 *
 * `struct rd` reads from borrowed bytes: after the first read past the end it stays failed and gives zeros.
 * `struct wr` appends to memory it owns, growing: after the first failure (no memory, or over its limit) it stays failed
 * and appends nothing. Varints are Kafka's: zigzag base-128, at most 5 bytes (32 bit) or 10 (64 bit).
 *
 * thread: a cursor belongs to one thread at a time.
 */
#ifndef STORE_BUF_H
#define STORE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint16_t be16_get(const void *p) { uint16_t v; memcpy(&v, p, 2); return __builtin_bswap16(v); }
static inline uint32_t be32_get(const void *p) { uint32_t v; memcpy(&v, p, 4); return __builtin_bswap32(v); }
static inline uint64_t be64_get(const void *p) { uint64_t v; memcpy(&v, p, 8); return __builtin_bswap64(v); }
static inline void be16_put(void *p, uint16_t v) { v = __builtin_bswap16(v); memcpy(p, &v, 2); }
static inline void be32_put(void *p, uint32_t v) { v = __builtin_bswap32(v); memcpy(p, &v, 4); }
static inline void be64_put(void *p, uint64_t v) { v = __builtin_bswap64(v); memcpy(p, &v, 8); }

/* Zigzag varints. put: returns the bytes written (at most 5 or 10). */
static inline size_t uvarint_put(uint8_t *p, uint64_t v)
{
	size_t n = 0;
	while (v >= 0x80) {
		p[n++] = (uint8_t)(v | 0x80);
		v >>= 7;
	}
	p[n++] = (uint8_t)v;
	return n;
}
static inline uint64_t zigzag(int64_t v) { return ((uint64_t)v << 1) ^ (uint64_t)(v >> 63); }
static inline int64_t unzigzag(uint64_t v) { return (int64_t)(v >> 1) ^ -(int64_t)(v & 1); }
static inline size_t varint_put(uint8_t *p, int64_t v) { return uvarint_put(p, zigzag(v)); }
static inline size_t uvarint_size(uint64_t v) { return v < 0x80 ? 1 : (size_t)(70 - __builtin_clzll(v)) / 7; }
static inline size_t varint_size(int64_t v) { return uvarint_size(zigzag(v)); }

/* Reads one zigzag varint at *p, before end; moves *p. false: truncated, or longer than `max_bytes` (5 or 10). */
static inline bool varint_get(const uint8_t **p, const uint8_t *end, int max_bytes, int64_t *v)
{
	const uint8_t *c = *p;
	if (__builtin_expect(c < end && *c < 0x80, 1)) {
		*v = unzigzag(*c);
		*p = c + 1;
		return true;
	}
	uint64_t u = 0;
	for (int i = 0; i < max_bytes && c < end; i++, c++) {
		u |= (uint64_t)(*c & 0x7f) << (7 * i);
		if (*c < 0x80) {
			*v = unzigzag(u);
			*p = c + 1;
			return true;
		}
	}
	return false;
}

struct rd {
	const uint8_t *p, *end;
	bool failed;
};

static inline void rd_init(struct rd *r, const void *data, size_t n)
{
	r->p = data;
	r->end = r->p + n;
	r->failed = false;
}
static inline size_t rd_left(const struct rd *r) { return (size_t)(r->end - r->p); }
int8_t rd_i8(struct rd *r);
int16_t rd_i16(struct rd *r);
int32_t rd_i32(struct rd *r);
int64_t rd_i64(struct rd *r);
uint32_t rd_u32(struct rd *r);
int32_t rd_varint(struct rd *r);   /* zigzag, 32 bit */
int64_t rd_varlong(struct rd *r);  /* zigzag, 64 bit */
uint32_t rd_uvarint(struct rd *r); /* unsigned, 32 bit */
const uint8_t *rd_bytes(struct rd *r, size_t n); /* borrowed from the input; NULL once failed */
void rd_skip(struct rd *r, size_t n);

struct wr {
	uint8_t *data; /* owned */
	size_t len, cap;
	size_t limit;  /* bytes it may grow to; 0: SIZE_MAX / 2 */
	bool failed;
};

void wr_init(struct wr *w, size_t limit);
void wr_release(struct wr *w);
static inline void wr_clear(struct wr *w) { w->len = 0; w->failed = false; }
/* Room for n more bytes, or NULL (and failed). The caller writes there, then adds to w->len what it used. */
uint8_t *wr_room(struct wr *w, size_t n);
void wr_bytes(struct wr *w, const void *p, size_t n);
void wr_i8(struct wr *w, int8_t v);
void wr_i16(struct wr *w, int16_t v);
void wr_i32(struct wr *w, int32_t v);
void wr_i64(struct wr *w, int64_t v);
void wr_varint(struct wr *w, int64_t v);
void wr_uvarint(struct wr *w, uint64_t v);
/* Text without its NUL, though one stands behind it until the next write. */
void wr_printf(struct wr *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* CRC32C (Castagnoli), as Kafka's record batches use it; `crc` chains pieces, 0 at the start. */
uint32_t crc32c(uint32_t crc, const void *p, size_t n);

#endif
