/*
 * follow_fixture: the batches of a leader's log, in memory, and logs that are made of the first of them: what a follower is to hold against. Included by the tests of following and
 * cutting; everything is static.
 */
#ifndef TESTS_UNIT_FOLLOW_FIXTURE_H
#define TESTS_UNIT_FOLLOW_FIXTURE_H

#include "tests/unit/log_fixture.h"

#include "store/batch.h"

struct source { /* a leader's log */
	uint8_t *bytes;
	size_t n, count;
	struct source_batch { size_t at, size; int64_t base, end; } *batch;
	int64_t end;
};

static UNUSED void source_release(struct source *x)
{
	free(x->bytes);
	free(x->batch);
	*x = (struct source){0};
}

/* Notes the batches in x->bytes. */
static UNUSED void source_index(struct source *x)
{
	struct batch b;
	struct err e;
	x->count = 0;
	free(x->batch);
	x->batch = calloc(x->n / BATCH_HEADER_BYTES + 1, sizeof *x->batch);
	for (size_t at = 0; at < x->n; at += b.size_bytes) {
		assert_int_equal(batch_decode(&b, x->bytes + at, x->n - at, (uint32_t)(x->n - at), &e), 0);
		x->batch[x->count++] = (struct source_batch){at, b.size_bytes, b.base_offset, batch_last_offset(&b) + 1};
	}
	x->end = x->count ? x->batch[x->count - 1].end : 0;
}

/* All that the log has. */
static UNUSED void source_of(struct source *x, struct log *l)
{
	*x = (struct source){0};
	for (size_t i = 0; i < l->shape->segment_count; i++) {
		struct segment *s = l->shape->segment[i];
		struct err e;
		assert_int_equal(segment_pin(s, &e), 0);
		x->bytes = realloc(x->bytes, x->n + s->size_bytes + 1);
		assert_non_null(x->bytes);
		assert_int_equal(io_pread(s->fd, x->bytes + x->n, s->size_bytes, 0), s->size_bytes);
		x->n += s->size_bytes;
		segment_unpin(s);
	}
	source_index(x);
}

/* The number of batches that end at or below the offset. */
static UNUSED size_t source_below(const struct source *x, int64_t offset)
{
	size_t i = 0;
	while (i < x->count && x->batch[i].end <= offset)
		i++;
	return i;
}

/* Appends batches [from, to) of it. */
static UNUSED void follow(struct fx *f, const struct source *x, size_t from, size_t to)
{
	int64_t end;
	size_t n = to > from ? x->batch[to - 1].at + x->batch[to - 1].size - x->batch[from].at : 0;
	if (!n)
		return;
	if (log_append_exact(f->log, x->bytes + x->batch[from].at, n, &end, &f->err) < 0)
		fail_msg("log_append_exact: %s", f->err.text);
	assert_int_equal(end, x->batch[to - 1].end);
	assert_int_equal(f->log->leo, end);
}

static UNUSED void project_all(struct fx *f)
{
	if (log_project(f->log, log_last_stable(f->log), &f->err) < 0)
		fail_msg("log_project: %s", f->err.text);
}

/* What a caller of log_truncate does before: the recovery point that a start is told is not above it. */
static UNUSED void hold(struct fx *f, int64_t offset)
{
	assert_int_equal(log_hold_flushed(f->log, offset, &f->err), 0);
	if (f->recovery_point > f->log->flushed_offset)
		f->recovery_point = f->log->flushed_offset;
}

static UNUSED void cut_log(struct fx *f, int64_t offset)
{
	hold(f, offset);
	if (log_truncate(f->log, offset, &f->err) < 0)
		fail_msg("log_truncate at %" PRId64 ": %s", offset, f->err.text);
}

/* ---- comparing directories ---- */

struct comparing { const char *other; char what[PATH_MAX * 2]; bool subset; };

static bool counts(const char *name)
{
	size_t n = strlen(name);
	return !(n > 8 && !strcmp(name + n - 8, ".deleted")) && strcmp(name + (n > 4 ? n - 4 : 0), ".tmp") != 0;
}

struct directory { const char *dir; char (*name)[64]; size_t n; };

static int directory_one(void *arg, const char *name, unsigned char type)
{
	struct directory *d = arg;
	(void)type;
	if (counts(name)) {
		d->name = realloc(d->name, (d->n + 1) * sizeof *d->name);
		snprintf(d->name[d->n++], 64, "%s", name);
	}
	return 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(a, b);
}

static struct directory directory_of(const char *dir)
{
	struct directory d = {.dir = dir};
	assert_int_equal(io_list(dir, directory_one, &d), 0);
	if (d.n)
		qsort(d.name, d.n, sizeof *d.name, by_name);
	return d;
}

/* A snapshot at the very end may be there in one alone: it was made when a segment was begun there, or the log was stopped. */
static bool is_snapshot(const char *name)
{
	return strlen(name) > 9 && !strcmp(name + strlen(name) - 9, ".snapshot");
}

/* The last entry of a .timeindex may have been added when the segment was sealed, or closed: by one of the two alone. */
static bool same_times(const char *a, size_t n, const char *b, size_t m)
{
	size_t least = n < m ? n : m, most = n < m ? m : n;
	return most - least <= 12 && !memcmp(a, b, least);
}

/* But for the times that producers are noted at, and so the checksum. */
static bool same_producers(char *x, size_t n, char *y, size_t m)
{
	enum { HEAD = 10, ENTRY = 46, CRC_AT = 2, TIME_AT = 26 };
	if (n != m || n < HEAD)
		return false;
	memset(x + CRC_AT, 0, 4);
	memset(y + CRC_AT, 0, 4);
	for (size_t at = HEAD; at + ENTRY <= n; at += ENTRY) {
		memset(x + at + TIME_AT, 0, 8);
		memset(y + at + TIME_AT, 0, 8);
	}
	return !memcmp(x, y, n);
}

static UNUSED void check_same_files(const char *dir, const char *other, bool views)
{
	struct directory a = directory_of(dir), b = directory_of(other);
	size_t i = 0, k = 0;
	while (i < a.n || k < b.n) {
		int order = i == a.n ? 1 : k == b.n ? -1 : strcmp(a.name[i], b.name[k]);
		const char *name = order <= 0 ? a.name[i] : b.name[k];
		if (order != 0) {
			if (!is_snapshot(name) && strcmp(name, "leader-epoch-checkpoint") != 0 && (views || !strstr(name, ".view")))
				fail_msg("%s is only in %s", name, order < 0 ? dir : other);
			i += order < 0;
			k += order > 0;
			continue;
		}
		char path[PATH_MAX];
		size_t n, m;
		snprintf(path, sizeof path, "%s/%s", dir, name);
		char *x = slurp(path, &n);
		snprintf(path, sizeof path, "%s/%s", other, name);
		char *y = slurp(path, &m);
		bool same = strstr(name, ".timeindex") ? same_times(x, n, y, m) : is_snapshot(name) ? same_producers(x, n, y, m) : n == m && !memcmp(x, y, n);
		if (!same && (views || !strstr(name, ".view")))
			fail_msg("%s differs: %zu bytes in %s, %zu in %s", name, n, dir, m, other);
		free(x);
		free(y);
		i++;
		k++;
	}
	free(a.name);
	free(b.name);
}

#endif
