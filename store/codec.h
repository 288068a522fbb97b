/*
 * codec: Kafka's five compression types over the well-kept libraries (zlib, snappy, lz4, zstd).
 *
 * The bytes are those that Kafka's clients and brokers write: gzip with its own header; snappy in xerial's framing (raw
 * snappy blocks are read too, as some clients sent them); lz4 as an LZ4 frame of independent 64 KiB blocks without
 * content checksum; zstd frames. Frames that stand back to back are read as one.
 *
 * Contexts are kept for each thread that uses them and freed when it ends. thread: any.
 */
#ifndef STORE_CODEC_H
#define STORE_CODEC_H

#include <stddef.h>

#include "store/buf.h"
#include "store/err.h"

enum codec { CODEC_NONE, CODEC_GZIP, CODEC_SNAPPY, CODEC_LZ4, CODEC_ZSTD, CODEC_COUNT }; /* the numbers of batch attributes */

const char *codec_name(enum codec c); /* "none", "gzip", ...; NULL past the last */
int codec_by_name(const char *name);  /* -1: unknown */

/* The most bytes that n bytes (n as codec_compress accepts it) can become. Rises with n, and so does its distance from n. */
size_t codec_bound(enum codec c, size_t n);

/* Appends the compressed form of n bytes to out. level: the library's (out of range: the nearest); 0: its default. ERR_NO_MEMORY, ERR_TOO_LARGE
 * (n over INT_MAX, or out's limit leaves no room for the worst case, which is up to 8 KiB above codec_bound). On failure out's length is as it was. */
int codec_compress(enum codec c, int level, const void *in, size_t n, struct wr *out, struct err *e);

/* Appends the decompressed form to out, whose limit bounds what a hostile input may make of memory. A length
 * that the input claims is believed only as far as the format can compress. ERR_CORRUPT with a sentence, ERR_TOO_LARGE, ERR_NO_MEMORY.
 * On failure out's length is as it was. */
int codec_decompress(enum codec c, const void *in, size_t n, struct wr *out, struct err *e);

#endif
