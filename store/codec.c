#include "store/codec.h"

#include <limits.h>
#include <lz4frame.h>
#include <pthread.h>
#include <snappy-c.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

/* What a library keeps between calls; made when first needed. */
struct contexts {
	z_stream deflate, inflate;
	int deflate_level;
	bool deflate_ready, inflate_ready;
	LZ4F_cctx *lz4_compress;
	LZ4F_dctx *lz4_decompress;
	ZSTD_CCtx *zstd_compress;
	ZSTD_DCtx *zstd_decompress;
};

enum {
	GZIP_WINDOW_BITS = 15 + 16, /* a gzip header and trailer, nothing else */
	GZIP_MAX_RATIO = 1032,      /* of deflate: 258 bytes from 2 bits */
	SNAPPY_BLOCK_BYTES = 32 << 10,
	SNAPPY_MAX_RATIO = 22,      /* of the format: 64 bytes from a copy of 3 */
	SNAPPY_HEADER_BYTES = 16,
	SNAPPY_MAGIC_BYTES = 8,
	LZ4_BLOCK_BYTES = 64 << 10,
	LZ4_FRAME_BYTES = 7 + 4,    /* header and end mark */
	ZSTD_MAX_RATIO = (128 << 10) / 4, /* of the format: a run of 128 KiB from a block header of 3 bytes and the byte */
	MIN_ROOM_BYTES = 4096,
};

/* The header of xerial's SnappyOutputStream: magic, version, least compatible version. */
static const uint8_t xerial[SNAPPY_HEADER_BYTES] = {0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1};

static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static bool key_made;

static void contexts_free(void *arg)
{
	struct contexts *c = arg;
	if (c->deflate_ready)
		deflateEnd(&c->deflate);
	if (c->inflate_ready)
		inflateEnd(&c->inflate);
	LZ4F_freeCompressionContext(c->lz4_compress);
	LZ4F_freeDecompressionContext(c->lz4_decompress);
	ZSTD_freeCCtx(c->zstd_compress);
	ZSTD_freeDCtx(c->zstd_decompress);
	free(c);
}

static void key_make(void)
{
	key_made = pthread_key_create(&key, contexts_free) == 0;
}

static struct contexts *contexts(void)
{
	pthread_once(&key_once, key_make);
	if (!key_made)
		return NULL;
	struct contexts *c = pthread_getspecific(key);
	if (c)
		return c;
	c = calloc(1, sizeof *c);
	if (c && pthread_setspecific(key, c)) {
		free(c);
		c = NULL;
	}
	return c;
}

static int no_memory(enum codec c, struct err *e)
{
	return err_set(e, ERR_NO_MEMORY, "no memory for %s", codec_name(c));
}

static int too_large(enum codec c, const struct wr *out, struct err *e)
{
	return err_set(e, ERR_TOO_LARGE, "%s data would pass the limit of %zu bytes", codec_name(c), out->limit);
}

static int corrupt(enum codec c, const char *why, struct err *e)
{
	return err_set(e, ERR_CORRUPT, "damaged %s data: %s", codec_name(c), why);
}

/* ---- compressing: each writes to `to`, which has all the room the worst case takes, and returns the end; NULL: no memory ---- */

static uint8_t *plain_copy(struct contexts *c, int level, const uint8_t *in, size_t n, uint8_t *to, size_t room)
{
	(void)c, (void)level, (void)room;
	if (n)
		memcpy(to, in, n);
	return to + n;
}

static uint8_t *gzip_compress(struct contexts *c, int level, const uint8_t *in, size_t n, uint8_t *to, size_t room)
{
	z_stream *z = &c->deflate;
	level = level <= 0 ? Z_DEFAULT_COMPRESSION : level > 9 ? 9 : level;
	if (!c->deflate_ready) {
		if (deflateInit2(z, level, Z_DEFLATED, GZIP_WINDOW_BITS, 8, Z_DEFAULT_STRATEGY) != Z_OK)
			return NULL;
		c->deflate_ready = true;
	} else {
		deflateReset(z);
		if (level != c->deflate_level)
			deflateParams(z, level, Z_DEFAULT_STRATEGY);
	}
	c->deflate_level = level;
	z->next_in = (uint8_t *)(uintptr_t)in;
	z->avail_in = (uInt)n;
	z->next_out = to;
	z->avail_out = room < UINT_MAX ? (uInt)room : UINT_MAX;
	return deflate(z, Z_FINISH) == Z_STREAM_END ? z->next_out : NULL;
}

/* One raw snappy block that is a single literal: what the format allows where compressing would make the block larger. */
static size_t snappy_literal(const uint8_t *in, size_t n, uint8_t *to)
{
	uint8_t *o = to + uvarint_put(to, n);
	if (n <= 60) {
		*o++ = (uint8_t)((n - 1) << 2);
	} else if (n <= 256) {
		*o++ = 60 << 2;
		*o++ = (uint8_t)(n - 1);
	} else { /* a block is at most 32 KiB */
		*o++ = 61 << 2;
		*o++ = (uint8_t)(n - 1);
		*o++ = (uint8_t)((n - 1) >> 8);
	}
	memcpy(o, in, n);
	return (size_t)(o - to) + n;
}

static uint8_t *xerial_compress(struct contexts *c, int level, const uint8_t *in, size_t n, uint8_t *to, size_t room)
{
	(void)c, (void)level, (void)room;
	memcpy(to, xerial, sizeof xerial);
	to += sizeof xerial;
	while (n) {
		size_t block = n < SNAPPY_BLOCK_BYTES ? n : SNAPPY_BLOCK_BYTES;
		size_t made = snappy_max_compressed_length(block);
		if (snappy_compress((const char *)in, block, (char *)to + 4, &made) != SNAPPY_OK || made > block + 6)
			made = snappy_literal(in, block, to + 4);
		be32_put(to, (uint32_t)made);
		to += 4 + made;
		in += block;
		n -= block;
	}
	return to;
}

static uint8_t *lz4_compress(struct contexts *c, int level, const uint8_t *in, size_t n, uint8_t *to, size_t room)
{
	LZ4F_preferences_t prefs = {
		.frameInfo = {.blockSizeID = LZ4F_max64KB, .blockMode = LZ4F_blockIndependent},
		.compressionLevel = level,
		.autoFlush = 1, /* straight from `in`: nothing is held back in the context */
	};
	if (!c->lz4_compress && LZ4F_isError(LZ4F_createCompressionContext(&c->lz4_compress, LZ4F_VERSION))) {
		c->lz4_compress = NULL;
		return NULL;
	}
	uint8_t *end = to + room;
	size_t r = LZ4F_compressBegin(c->lz4_compress, to, room, &prefs);
	if (LZ4F_isError(r))
		return NULL;
	to += r;
	if (n) {
		r = LZ4F_compressUpdate(c->lz4_compress, to, (size_t)(end - to), in, n, NULL);
		if (LZ4F_isError(r))
			return NULL;
		to += r;
	}
	r = LZ4F_compressEnd(c->lz4_compress, to, (size_t)(end - to), NULL);
	return LZ4F_isError(r) ? NULL : to + r;
}

static uint8_t *zstd_compress(struct contexts *c, int level, const uint8_t *in, size_t n, uint8_t *to, size_t room)
{
	if (!c->zstd_compress && !(c->zstd_compress = ZSTD_createCCtx()))
		return NULL;
	size_t r = ZSTD_compressCCtx(c->zstd_compress, to, room, in, n, level);
	return ZSTD_isError(r) ? NULL : to + r;
}

/* ---- decompressing: each appends to out and returns 0 or an error, whatever it has appended by then ---- */

static int plain_append(struct contexts *c, const uint8_t *in, size_t n, struct wr *out, struct err *e)
{
	(void)c;
	if (n > out->limit - out->len)
		return too_large(CODEC_NONE, out, e);
	wr_bytes(out, in, n);
	return out->failed ? no_memory(CODEC_NONE, e) : 0;
}

/* Room at the end of out for a streaming library: what is there, or more, so that out about doubles; first `hint` bytes. At
 * the limit it is one byte of `spare`: what lands there is too much. NULL: no memory. */
static uint8_t *stream_room(struct wr *out, size_t hint, uint8_t *spare, size_t *room)
{
	size_t free_bytes = out->cap > out->len ? out->cap - out->len : 0;
	size_t most = out->limit - out->len;
	if (!most) {
		*room = 1;
		return spare;
	}
	size_t want = free_bytes >= MIN_ROOM_BYTES ? free_bytes : out->len > hint ? out->len : hint;
	want = want < MIN_ROOM_BYTES ? MIN_ROOM_BYTES : want > INT_MAX ? INT_MAX : want;
	*room = want < most ? want : most;
	return wr_room(out, *room);
}

static int gzip_decompress(struct contexts *c, const uint8_t *in, size_t n, struct wr *out, struct err *e)
{
	z_stream *z = &c->inflate;
	uint8_t spare;
	if (!c->inflate_ready) {
		if (inflateInit2(z, GZIP_WINDOW_BITS) != Z_OK)
			return no_memory(CODEC_GZIP, e);
		c->inflate_ready = true;
	}
	if (n < 18)
		return corrupt(CODEC_GZIP, "shorter than a header and a trailer", e);
	/* The trailer's length is believed as far as the format could make it true. */
	const uint8_t *t = in + n - 4;
	size_t hint = (size_t)t[0] | (size_t)t[1] << 8 | (size_t)t[2] << 16 | (size_t)t[3] << 24;
	if (hint / GZIP_MAX_RATIO > n)
		hint = n * 4;
	inflateReset(z);
	z->next_in = (uint8_t *)(uintptr_t)in;
	z->avail_in = (uInt)n;
	for (;;) {
		size_t room;
		uint8_t *to = stream_room(out, hint, &spare, &room);
		if (!to)
			return no_memory(CODEC_GZIP, e);
		z->next_out = to;
		z->avail_out = (uInt)room;
		int r = inflate(z, Z_NO_FLUSH);
		if (to == &spare && !z->avail_out)
			return too_large(CODEC_GZIP, out, e);
		out->len += to == &spare ? 0 : room - z->avail_out;
		if (r == Z_STREAM_END) {
			if (!z->avail_in)
				return 0;
			inflateReset(z); /* another member follows */
		} else if (r == Z_MEM_ERROR) {
			return no_memory(CODEC_GZIP, e);
		} else if ((r != Z_OK && r != Z_BUF_ERROR) || z->avail_out) { /* with room left it wants input that is not there */
			return corrupt(CODEC_GZIP, r == Z_DATA_ERROR && z->msg ? z->msg : "truncated", e);
		}
	}
}

/* Appends what one raw snappy block holds. */
static int snappy_block(const uint8_t *in, size_t n, struct wr *out, struct err *e)
{
	size_t size;
	if (snappy_uncompressed_length((const char *)in, n, &size) != SNAPPY_OK || size / SNAPPY_MAX_RATIO > n)
		return corrupt(CODEC_SNAPPY, "an impossible length", e);
	if (size > out->limit - out->len)
		return too_large(CODEC_SNAPPY, out, e);
	uint8_t *to = wr_room(out, size);
	if (!to)
		return no_memory(CODEC_SNAPPY, e);
	if (snappy_uncompress((const char *)in, n, (char *)to, &size) != SNAPPY_OK)
		return corrupt(CODEC_SNAPPY, "a block that does not decode", e);
	out->len += size;
	return 0;
}

static int snappy_decompress(struct contexts *c, const uint8_t *in, size_t n, struct wr *out, struct err *e)
{
	(void)c;
	if (n < SNAPPY_HEADER_BYTES || memcmp(in, xerial, SNAPPY_MAGIC_BYTES) != 0)
		return snappy_block(in, n, out, e);
	for (size_t at = 0; at < n;) {
		/* Streams written one after the other: a header again, where a block's length would be too large to be one. */
		if (n - at >= SNAPPY_HEADER_BYTES && !memcmp(in + at, xerial, SNAPPY_MAGIC_BYTES)) {
			at += SNAPPY_HEADER_BYTES;
			continue;
		}
		if (n - at < 4 || be32_get(in + at) > n - at - 4)
			return corrupt(CODEC_SNAPPY, "a block is cut off", e);
		size_t block = be32_get(in + at);
		int r = snappy_block(in + at + 4, block, out, e);
		if (r)
			return r;
		at += 4 + block;
	}
	return 0;
}

static int lz4_decompress(struct contexts *c, const uint8_t *in, size_t n, struct wr *out, struct err *e)
{
	uint8_t spare;
	if (!c->lz4_decompress && LZ4F_isError(LZ4F_createDecompressionContext(&c->lz4_decompress, LZ4F_VERSION))) {
		c->lz4_decompress = NULL;
		return no_memory(CODEC_LZ4, e);
	}
	LZ4F_resetDecompressionContext(c->lz4_decompress);
	for (const uint8_t *end = in + n;;) {
		size_t room;
		uint8_t *to = stream_room(out, n * 4 > LZ4_BLOCK_BYTES ? n * 4 : LZ4_BLOCK_BYTES, &spare, &room);
		if (!to)
			return no_memory(CODEC_LZ4, e);
		size_t used = (size_t)(end - in), made = room;
		size_t r = LZ4F_decompress(c->lz4_decompress, to, &made, in, &used, NULL);
		if (LZ4F_isError(r))
			return corrupt(CODEC_LZ4, LZ4F_getErrorName(r), e);
		if (to == &spare && made)
			return too_large(CODEC_LZ4, out, e);
		out->len += to == &spare ? 0 : made;
		in += used;
		if (in == end && !r && n)
			return 0; /* else r == 0: a frame ended and another follows */
		if (in == end && made < room)
			return corrupt(CODEC_LZ4, "truncated", e);
	}
}

/* In one piece, as that needs no window besides the output: the window that a frame asks for may be 128 MiB. */
static int zstd_decompress(struct contexts *c, const uint8_t *in, size_t n, struct wr *out, struct err *e)
{
	if (!c->zstd_decompress && !(c->zstd_decompress = ZSTD_createDCtx()))
		return no_memory(CODEC_ZSTD, e);
	if (!n)
		return corrupt(CODEC_ZSTD, "empty", e);
	size_t possible = n * ZSTD_MAX_RATIO, most = out->limit - out->len;
	unsigned long long size = ZSTD_getFrameContentSize(in, n);
	if (size == ZSTD_CONTENTSIZE_ERROR || (size != ZSTD_CONTENTSIZE_UNKNOWN && size > possible))
		return corrupt(CODEC_ZSTD, "not a frame, or an impossible length", e);
	/* The size is of the first frame, and may be missing: more room is tried while it is too small. */
	size_t room = size != ZSTD_CONTENTSIZE_UNKNOWN ? (size_t)size : n * 4;
	for (;; room *= 4) {
		room = room < MIN_ROOM_BYTES ? MIN_ROOM_BYTES : room;
		room = room < out->cap - out->len ? out->cap - out->len : room;
		room = room < most ? room : most;
		uint8_t *to = wr_room(out, room);
		if (!to)
			return no_memory(CODEC_ZSTD, e);
		size_t r = ZSTD_decompressDCtx(c->zstd_decompress, to, room, in, n);
		if (!ZSTD_isError(r)) {
			out->len += r;
			return 0;
		}
		if (ZSTD_getErrorCode(r) != ZSTD_error_dstSize_tooSmall)
			return corrupt(CODEC_ZSTD, ZSTD_getErrorName(r), e);
		if (room == most)
			return too_large(CODEC_ZSTD, out, e);
		if (room > possible)
			return corrupt(CODEC_ZSTD, "an impossible length", e);
	}
}

/* ---- the codecs ---- */

static const struct {
	const char *name;
	uint8_t *(*compress)(struct contexts *c, int level, const uint8_t *in, size_t n, uint8_t *to, size_t room);
	int (*decompress)(struct contexts *c, const uint8_t *in, size_t n, struct wr *out, struct err *e);
} codecs[CODEC_COUNT] = {
	[CODEC_NONE] = {"none", plain_copy, plain_append},
	[CODEC_GZIP] = {"gzip", gzip_compress, gzip_decompress},
	[CODEC_SNAPPY] = {"snappy", xerial_compress, snappy_decompress},
	[CODEC_LZ4] = {"lz4", lz4_compress, lz4_decompress},
	[CODEC_ZSTD] = {"zstd", zstd_compress, zstd_decompress},
};

const char *codec_name(enum codec c)
{
	return (unsigned)c < CODEC_COUNT ? codecs[c].name : NULL;
}

int codec_by_name(const char *name)
{
	for (int c = 0; c < CODEC_COUNT; c++)
		if (!strcmp(codecs[c].name, name))
			return c;
	return -1;
}

static size_t blocks(size_t n, size_t block)
{
	return (n + block - 1) / block;
}

size_t codec_bound(enum codec c, size_t n)
{
	switch (c) {
	case CODEC_GZIP: return compressBound(n) + 12; /* which is for zlib's wrapper: gzip's has 12 bytes more */
	case CODEC_SNAPPY: return SNAPPY_HEADER_BYTES + n + blocks(n, SNAPPY_BLOCK_BYTES) * (4 + 6);
	case CODEC_LZ4: return LZ4_FRAME_BYTES + n + blocks(n, LZ4_BLOCK_BYTES) * 4;
	case CODEC_ZSTD: return n + (n >> 8) + 64; /* ZSTD_compressBound, whose last term shrinks from 64 to 0 as n grows */
	default: return n;
	}
}

/* What the libraries want to see free beyond what they can come to use. */
static size_t working_room(enum codec c)
{
	switch (c) {
	case CODEC_SNAPPY: return snappy_max_compressed_length(SNAPPY_BLOCK_BYTES) - SNAPPY_BLOCK_BYTES;
	case CODEC_LZ4: return LZ4F_HEADER_SIZE_MAX + 16;
	default: return 0;
	}
}

int codec_compress(enum codec c, int level, const void *in, size_t n, struct wr *out, struct err *e)
{
	if ((unsigned)c >= CODEC_COUNT)
		return err_set(e, ERR_INVALID, "no codec has the number %d", (int)c);
	if (n > INT_MAX)
		return too_large(c, out, e);
	size_t room = codec_bound(c, n) + working_room(c);
	if (room > out->limit - out->len)
		return too_large(c, out, e);
	struct contexts *ctx = contexts();
	uint8_t *to = wr_room(out, room), *end = NULL;
	if (ctx && to)
		end = codecs[c].compress(ctx, level, in, n, to, room);
	if (!end)
		return no_memory(c, e);
	out->len += (size_t)(end - to);
	return 0;
}

int codec_decompress(enum codec c, const void *in, size_t n, struct wr *out, struct err *e)
{
	if ((unsigned)c >= CODEC_COUNT)
		return err_set(e, ERR_INVALID, "no codec has the number %d", (int)c);
	if (n > INT_MAX)
		return err_set(e, ERR_TOO_LARGE, "%zu bytes of %s data are more than a batch can have", n, codec_name(c));
	struct contexts *ctx = contexts();
	if (!ctx)
		return no_memory(c, e);
	size_t start = out->len;
	int r = codecs[c].decompress(ctx, in, n, out, e);
	if (r)
		out->len = start;
	return r;
}
