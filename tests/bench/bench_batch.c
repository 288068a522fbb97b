/*
 * bench_batch: what making and reading record batches costs, without disk or mount.
 *
 *   add_lines, 1 line       one call with one line, into a set that is cleared (its memory is warm)
 *   add_lines, 1 MiB        one call with 1 MiB of lines, CRC included; lines all alike, or of random length about the same mean
 *   project                 the view of such a batch, into 128 KiB at a time
 *   ingest                  ingest_batch of such a batch, and of 16 KiB batches of 100 B lines: as they come, compressed, with log append time
 *   compress, decompress    of its record area, MB/s of the uncompressed side, and the ratio
 *
 * The best of several rounds is given: what disturbs a measurement only ever makes it slower.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "store/batch.h"
#include "store/ingest.h"

enum { TEXT_BYTES = 1 << 20, ROUNDS = 15 };

static double now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void must(int r, const struct err *e)
{
	if (r) {
		fprintf(stderr, "bench_batch: %s\n", e->text);
		exit(1);
	}
}

static unsigned random_next(void)
{
	static uint64_t x = 88172645463325252u;
	x ^= x << 13, x ^= x >> 7, x ^= x << 17;
	return (unsigned)(x >> 32);
}

/* Text that compresses about as logs do: words of a small vocabulary and numbers. Every line is line_bytes long with its newline,
 * or, for spread > 0, by up to that many bytes more or less. Returns the lines; *n: bytes. */
static size_t make_text(char *text, size_t *n, size_t line_bytes, size_t spread)
{
	static const char *const words[] = {"order", "book", "shipped", "customer", "status=ok", "warehouse", "retry", "payment", "queued", "region=eu"};
	size_t at = 0, lines = 0;
	for (;; lines++) {
		size_t len = line_bytes - spread + (spread ? random_next() % (2 * spread + 1) : 0), used = 0;
		if (at + len > TEXT_BYTES)
			break;
		while (used < len) {
			char word[32];
			int w = snprintf(word, sizeof word, "%s %u ", words[random_next() % 10], random_next() % 100000);
			for (int i = 0; i < w && used < len; i++)
				text[at + used++] = word[i];
		}
		text[at + len - 1] = '\n';
		at += len;
	}
	*n = at;
	return lines;
}

static void bench_one_line(const char *text, size_t line_bytes)
{
	struct record_set s;
	struct batch_style style = {.max_batch_bytes = 1 << 20, .producer_id = -1};
	struct err e = ERR_INIT;
	double best = 1e18;
	size_t taken;
	const int calls = 100000;
	record_set_init(&s);
	for (int round = 0; round < ROUNDS; round++) {
		double t = now_ns();
		for (int i = 0; i < calls; i++) {
			record_set_clear(&s);
			must(record_set_add_lines(&s, &style, text, line_bytes, 1700000000000, &taken, &e), &e);
		}
		t = (now_ns() - t) / calls;
		best = t < best ? t : best;
	}
	printf("add_lines, 1 line of %zu bytes      %8.1f ns\n", line_bytes, best);
	record_set_release(&s);
}

static struct ingest_rule plain_rule(void)
{
	return (struct ingest_rule){.max_batch_bytes = 2 * TEXT_BYTES, .segment_bytes = 1 << 30, .timestamp_before_max_ms = INT64_MAX, .timestamp_after_max_ms = 3600000, .keep_codec = true};
}

/* What a broker does with a producer's batch of about 16 KiB of 100 B lines, before it is appended. */
static void bench_ingest(const char *what, enum codec codec, const struct ingest_rule *rule, const char *text)
{
	enum { LINES = 160, CALLS = 200 };
	struct ingest g;
	struct record_set made, s;
	struct ingest_refusal why;
	struct err e = ERR_INIT;
	struct batch_style style = {.max_batch_bytes = 1 << 20, .producer_id = -1, .codec = codec};
	double best = 1e18;
	size_t taken;
	ingest_init(&g);
	record_set_init(&made);
	record_set_init(&s);
	must(record_set_add_lines(&made, &style, text, LINES * 100, 1700000000000, &taken, &e), &e);
	uint8_t *copies = malloc(CALLS * made.bytes.len);
	for (int round = 0; round < ROUNDS; round++) {
		for (int i = 0; i < CALLS; i++)
			memcpy(copies + (size_t)i * made.bytes.len, made.bytes.data, made.bytes.len);
		double t = now_ns();
		for (int i = 0; i < CALLS; i++)
			if (ingest_batch(&g, &s, copies + (size_t)i * made.bytes.len, made.bytes.len, rule, 1700000000000, &why) != INGEST_OK)
				must(1, &why.why);
		t = (now_ns() - t) / CALLS;
		best = t < best ? t : best;
	}
	printf("ingest,    16 KiB, %-24s %8.1f ns a record, %6.2f us a batch\n", what, best / LINES, best / 1000);
	free(copies);
	record_set_release(&made);
	record_set_release(&s);
	ingest_release(&g);
}

static void bench_ingests(const char *text)
{
	struct ingest_rule plain = plain_rule(), stamped = plain_rule(), zstd = plain_rule();
	stamped.log_append_time = true;
	zstd.keep_codec = false;
	zstd.codec = CODEC_ZSTD;
	bench_ingest("none", CODEC_NONE, &plain, text);
	bench_ingest("none, log append time", CODEC_NONE, &stamped, text);
	bench_ingest("lz4", CODEC_LZ4, &plain, text);
	bench_ingest("lz4, log append time", CODEC_LZ4, &stamped, text);
	bench_ingest("snappy", CODEC_SNAPPY, &plain, text);
	bench_ingest("zstd", CODEC_ZSTD, &plain, text);
	bench_ingest("gzip", CODEC_GZIP, &plain, text);
	bench_ingest("lz4 to zstd", CODEC_LZ4, &zstd, text);
}

static void bench_lines(const char *what, const char *text, size_t n, size_t lines)
{
	struct record_set s;
	struct batch_style style = {.max_batch_bytes = 2 * TEXT_BYTES, .producer_id = -1};
	struct err e = ERR_INIT;
	double add = 1e18, project = 1e18, check = 1e18;
	size_t taken;
	static uint8_t out[128 << 10];
	struct ingest g;
	struct record_set taken_in;
	struct ingest_refusal why;
	struct ingest_rule rule = plain_rule();
	ingest_init(&g);
	record_set_init(&taken_in);
	record_set_init(&s);
	for (int round = 0; round < ROUNDS; round++) {
		double t = now_ns();
		record_set_clear(&s);
		must(record_set_add_lines(&s, &style, text, n, 1700000000000, &taken, &e), &e);
		t = now_ns() - t;
		add = t < add ? t : add;

		const uint8_t *p = s.bytes.data + BATCH_HEADER_BYTES, *end = s.bytes.data + s.bytes.len;
		size_t got = 0;
		t = now_ns();
		while (p < end) {
			ssize_t r = batch_project(&p, end, out, sizeof out);
			must(r > 0 ? 0 : 1, &e);
			got += (size_t)r;
		}
		t = now_ns() - t;
		project = t < project ? t : project;
		if (got != n)
			abort();

		t = now_ns();
		if (ingest_batch(&g, &taken_in, s.bytes.data, s.bytes.len, &rule, 1700000000000, &why) != INGEST_OK)
			must(1, &why.why);
		t = now_ns() - t;
		check = t < check ? t : check;
	}
	record_set_release(&taken_in);
	ingest_release(&g);
	printf("add_lines, 1 MiB of %-16s %8.1f ns a line %8.0f MB/s\n", what, add / (double)lines, (double)n / add * 1e3);
	printf("project,   1 MiB of %-16s %8.1f ns a line %8.0f MB/s\n", what, project / (double)lines, (double)n / project * 1e3);
	printf("ingest,    1 MiB of %-16s %8.1f ns a line %8.0f MB/s\n", what, check / (double)lines, (double)n / check * 1e3);
	record_set_release(&s);
}

static void bench_codec(enum codec c, const char *text, size_t n)
{
	struct wr packed, plain;
	struct err e = ERR_INIT;
	double compress = 1e18, decompress = 1e18;
	wr_init(&packed, 0);
	wr_init(&plain, 0);
	for (int round = 0; round < ROUNDS; round++) {
		wr_clear(&packed);
		wr_clear(&plain);
		double t = now_ns();
		must(codec_compress(c, 0, text, n, &packed, &e), &e);
		t = now_ns() - t;
		compress = t < compress ? t : compress;
		t = now_ns();
		must(codec_decompress(c, packed.data, packed.len, &plain, &e), &e);
		t = now_ns() - t;
		decompress = t < decompress ? t : decompress;
	}
	printf("%-7s compress %6.0f MB/s, decompress %6.0f MB/s, ratio %.2f\n", codec_name(c), (double)n / compress * 1e3,
	       (double)n / decompress * 1e3, (double)n / (double)packed.len);
	wr_release(&packed);
	wr_release(&plain);
}

int main(void)
{
	static char text[TEXT_BYTES];
	static const struct { const char *what; size_t line_bytes, spread; } kinds[] = {
		{"100 B lines", 100, 0}, {"50-150 B lines", 100, 50}, {"10-30 B lines", 20, 10}, {"1000 B lines", 1000, 0},
	};
	size_t n;
	make_text(text, &n, 100, 0);
	bench_one_line(text, 100);
	bench_ingests(text);
	for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
		size_t lines = make_text(text, &n, kinds[i].line_bytes, kinds[i].spread);
		bench_lines(kinds[i].what, text, n, lines);
	}
	make_text(text, &n, 100, 50);
	for (int c = CODEC_NONE; c < CODEC_COUNT; c++)
		bench_codec((enum codec)c, text, n);
	return 0;
}
