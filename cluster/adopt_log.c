#include "cluster/adopt_log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/diag.h"
#include "store/io.h"
#include "store/scan.h"

enum { READ_BYTES = 64 << 10, SNAPSHOT_FOOTER = 4 /* a control record type */ };

/* ---- the files of a log ---- */

static bool get_digits(const char *p, int n, int64_t *v)
{
	*v = 0;
	for (; n > 0; n--, p++)
		if (*p < '0' || *p > '9' || __builtin_mul_overflow(*v, 10, v) || __builtin_add_overflow(*v, *p - '0', v))
			return false;
	return true;
}

static int found_file(void *arg, const char *name, unsigned char type)
{
	struct adopt_files *f = arg;
	int64_t offset, epoch;
	size_t n = strlen(name);
	(void)type;
	if (n == 20 + 4 && !strcmp(name + 20, ".log") && get_digits(name, 20, &offset)) {
		if (f->count == f->cap) {
			size_t cap = f->cap ? 2 * f->cap : 16;
			int64_t *bigger = realloc(f->base, cap * sizeof *bigger);
			if (!bigger)
				return -ENOMEM;
			f->base = bigger;
			f->cap = cap;
		}
		f->base[f->count++] = offset;
	} else if (n == 31 + 11 && !strcmp(name + 31, ".checkpoint") && name[20] == '-' && get_digits(name, 20, &offset) && get_digits(name + 21, 10, &epoch)) {
		if (offset > f->snapshot_offset || (offset == f->snapshot_offset && epoch > f->snapshot_epoch)) {
			f->snapshot_offset = offset;
			f->snapshot_epoch = epoch;
		}
	} else if (n > 5 && !strcmp(name + n - 5, ".swap")) {
		f->swap = true;
	}
	return 0;
}

static int by_base(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return x < y ? -1 : x > y;
}

int adopt_files_list(struct adopt_files *f, const char *dir, struct err *e)
{
	*f = (struct adopt_files){.snapshot_offset = -1, .snapshot_epoch = -1};
	int sys = io_list(dir, found_file, f);
	if (sys == -ENOENT)
		return 0;
	if (sys < 0)
		return err_sys(e, sys, "cannot list %s", dir);
	if (f->count)
		qsort(f->base, f->count, sizeof *f->base, by_base);
	return 1;
}

void adopt_files_release(struct adopt_files *f)
{
	free(f->base);
	f->base = NULL;
}

/* ---- record by record ---- */

void adopt_walk_init(struct adopt_walk *w, const char *dir, bool gaps, adopt_record_fn record, void *arg)
{
	*w = (struct adopt_walk){.dir = dir, .gaps = gaps, .record = record, .arg = arg, .seen_offset = -1};
	wr_init(&w->scratch, 0);
}

void adopt_walk_release(struct adopt_walk *w)
{
	wr_release(&w->scratch);
}

static bool is_damage(int rc)
{
	return rc == ERR_CORRUPT || rc == ERR_UNSUPPORTED || rc == ERR_TOO_LARGE;
}

static int walk_batch(struct adopt_walk *w, const struct batch *b, const uint8_t *bytes, struct err *e)
{
	const uint8_t *area;
	size_t n;
	struct record_iter it;
	struct record r;
	int64_t seen = w->seen_offset;
	w->footer = batch_is_control(b) && batch_control_type(b, bytes, NULL, NULL) == SNAPSHOT_FOOTER;
	if (batch_last_offset(b) <= seen)
		return 0;
	if (!w->gaps && b->base_offset - 1 > seen)
		return err_set(e, ERR_CORRUPT, "the records from offset %" PRId64 " to %" PRId64 " are missing", seen + 1, b->base_offset - 1);
	w->seen_offset = batch_last_offset(b);
	if (batch_is_control(b))
		return 0;
	int rc = batch_records(b, bytes, &w->scratch, &area, &n, e);
	if (rc < 0)
		return rc;
	record_iter_init(&it, b, area, n);
	while ((rc = record_next(&it, &r, e)) > 0) {
		if (r.offset > seen && (rc = w->record(w->arg, b, &r, e)) < 0) {
			err_context(e, "offset %" PRId64, r.offset);
			break;
		}
	}
	return rc;
}

/* 1: a whole batch; 0: the end. Where that is a torn one, *e says so all the same. */
static int next_batch(struct scan *s, bool newest, struct batch *b, const uint8_t **bytes, struct err *e)
{
	uint32_t at = s->at, found;
	int rc = scan_next(s, b, bytes, &at, e);
	if (rc > 0 && !batch_crc_matches(b, *bytes))
		rc = err_set(e, ERR_CORRUPT, "position %u: the batch does not match its crc", at);
	if (newest && is_damage(rc)) {
		int more = scan_find_valid(s->fd, at + 1, s->end, 0, &found, e);
		if (more <= 0)
			return more;
	}
	return rc;
}

int adopt_walk_file(struct adopt_walk *w, const char *name, bool newest, struct err *e)
{
	static struct diag_limit torn;
	char path[PATH_MAX];
	struct stat st;
	struct scan s;
	struct batch b;
	const uint8_t *bytes;
	struct err why = ERR_INIT;
	snprintf(path, sizeof path, "%s/%s", w->dir, name);
	int fd = io_open(path, O_RDONLY, 0), rc;
	if (fd < 0)
		return err_sys(e, fd, "cannot open %s", path);
	int sys = io_fstat(fd, &st);
	scan_init(&s, fd, 0, sys < 0 ? 0 : (uint32_t)st.st_size, READ_BYTES);
	if (sys < 0)
		rc = err_sys(&why, sys, "cannot stat");
	else if (st.st_size > UINT32_MAX)
		rc = err_set(&why, ERR_CORRUPT, "it has %jd bytes, more than a segment can have", (intmax_t)st.st_size);
	else
		while ((rc = next_batch(&s, newest, &b, &bytes, &why)) > 0 && (rc = walk_batch(w, &b, bytes, &why)) == 0)
			;
	scan_release(&s);
	io_close(fd);
	if (rc == 0 && why.code)
		diag_limited(&torn, 1000, DIAG_NOTICE, "%s: %s; it is read up to there", path, why.text);
	return rc < 0 ? err_set(e, is_damage(rc) ? ERR_CORRUPT : rc, "%s: %s", path, why.text) : 0;
}

int adopt_walk_segments(struct adopt_walk *w, const struct adopt_files *f, struct err *e)
{
	char name[32];
	int rc = 0;
	for (size_t i = 0; i < f->count && rc == 0; i++) {
		if (i + 1 < f->count && f->base[i + 1] - 1 <= w->seen_offset)
			continue;
		snprintf(name, sizeof name, "%020" PRId64 ".log", f->base[i]);
		rc = adopt_walk_file(w, name, i + 1 == f->count, e);
	}
	return rc;
}
