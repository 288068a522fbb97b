#include "store/clean_swap.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/diag.h"
#include "store/dirs.h"
#include "store/io.h"
#include "store/scan.h"

/* The .log last: see the header. */
static const char *const parts[] = {".index", ".timeindex", ".txnindex", ".log"};
enum { PARTS = sizeof parts / sizeof *parts };

static int rename_part(const char *dir, int64_t base, int part, const char *from_suffix, const char *to_suffix, struct err *e)
{
	char name[SEGMENT_SUFFIX_BYTES], from[PATH_MAX], to[PATH_MAX];
	snprintf(name, sizeof name, "%s%s", parts[part], from_suffix);
	segment_path(dir, base, name, from, sizeof from);
	snprintf(name, sizeof name, "%s%s", parts[part], to_suffix);
	segment_path(dir, base, name, to, sizeof to);
	int sys = io_rename(from, to);
	return sys < 0 && !(sys == -ENOENT && part == 2) ? err_sys(e, sys, "cannot rename %s", from) : 0; /* there is not always a .txnindex */
}

static int remove_parts(const char *dir, int64_t base, const char *suffix, struct err *e)
{
	int rc = 0;
	for (int i = PARTS; i-- > 0;) { /* the .log first: without it the rest does not count */
		char name[SEGMENT_SUFFIX_BYTES], path[PATH_MAX];
		snprintf(name, sizeof name, "%s%s", parts[i], suffix);
		segment_path(dir, base, name, path, sizeof path);
		int sys = io_unlink(path);
		if (sys < 0 && sys != -ENOENT && rc == 0)
			rc = err_set(e, ERR_IO, "cannot remove %s (errno %d)", path, -sys);
	}
	return rc;
}

int clean_remove(const char *dir, int64_t base_offset, struct err *e)
{
	return remove_parts(dir, base_offset, ".cleaned", e);
}

static int sync_dir(const struct clean_swap *s, struct err *e)
{
	int sys = io_fsync_dir(s->log->dir);
	return sys < 0 ? err_sys(e, sys, "cannot sync %s", s->log->dir) : 0;
}

/* ---- replacing ---- */

/* Step 2. guard entered. */
static int commit(struct clean_swap *s, struct err *e)
{
	int64_t base = s->old[0]->base_offset;
	struct err why = ERR_INIT;
	int rc = 0;
	for (int i = 0; i < PARTS && rc == 0; i++)
		rc = rename_part(s->log->dir, base, i, ".cleaned", ".swap", e);
	if (rc < 0 && remove_parts(s->log->dir, base, ".swap", &why) < 0) /* what is left of it would count one day */
		rc = err_set(e, ERR_IO, "%s", why.text);
	return rc;
}

static int pin_old(struct clean_swap *s, struct err *e)
{
	for (size_t i = 0; i < s->old_count; i++) {
		int rc = segment_pin(s->old[i], e);
		if (rc < 0) {
			while (i-- > 0)
				segment_unpin(s->old[i]);
			return rc;
		}
	}
	return 0;
}

static void unpin_old(struct clean_swap *s)
{
	for (size_t i = 0; i < s->old_count; i++)
		segment_unpin(s->old[i]);
}

/* Step 3, or the whole of it where nothing is left. Readers go on: what they may come to is pinned. */
static int move_old(struct clean_swap *s, bool sync_each, struct err *e)
{
	int rc = 0;
	for (size_t i = 0; i < s->old_count && rc == 0; i++) {
		if ((rc = s->guard->enter(s->guard->arg, e)) < 0)
			break;
		s->log->deleted_pending = true;
		rc = segment_mark_deleted(s->old[i], e);
		s->guard->leave(s->guard->arg);
		if (rc == 0 && (sync_each || i + 1 == s->old_count))
			rc = sync_dir(s, e);
	}
	return rc;
}

/* Producer snapshots at offsets where no segment begins any more go, as in Kafka. */
static void remove_snapshots(struct clean_swap *s)
{
	char path[PATH_MAX];
	for (size_t i = s->size_bytes ? 1 : 0; i < s->old_count; i++) {
		if (s->old[i]->base_offset == s->log->snapshot_offset)
			continue;
		segment_path(s->log->dir, s->old[i]->base_offset, ".snapshot", path, sizeof path);
		io_unlink(path);
	}
}

/* Step 4, and the log has it. guard entered. */
static int enter_new(struct clean_swap *s, struct err *e)
{
	struct log *l = s->log;
	struct segment *fresh = NULL;
	int rc = 0;
	if (s->size_bytes) {
		fresh = segment_new(l->dir, s->old[0]->base_offset, s->size_bytes, true, l->limits.index_bytes, l->cache);
		if (!fresh)
			return err_set(e, ERR_NO_MEMORY, "no memory for a segment");
		fresh->interval_bytes = l->limits.interval_bytes;
		fresh->max_timestamp_offset = s->max_timestamp_offset;
		fresh->max_timestamp_ms = s->max_timestamp_ms;
		for (int i = 0; i < PARTS && rc == 0; i++)
			rc = rename_part(l->dir, fresh->base_offset, i, ".swap", "", e);
	}
	if (rc == 0)
		rc = log_replace_segments(l, s->old, s->old_count, fresh, s->aborted, s->aborted_count, e);
	if (rc < 0) {
		segment_unref(fresh);
		return rc;
	}
	l->changed = true;
	remove_snapshots(s);
	return 0;
}

static int finish(struct clean_swap *s, struct err *e)
{
	struct err why = ERR_INIT;
	int rc = move_old(s, !s->size_bytes, &why);
	if (rc == 0 && (rc = s->guard->enter(s->guard->arg, &why)) == 0) {
		rc = enter_new(s, &why);
		s->guard->leave(s->guard->arg);
	}
	if (rc == 0)
		rc = sync_dir(s, &why);
	/* nobody may go on with a log that is half one, half the other */
	return rc < 0 ? err_set(e, rc == ERR_DELETED || rc == ERR_OFFLINE ? rc : ERR_IO, "%s", why.text) : 0;
}

int clean_swap_run(struct clean_swap *s, struct err *e)
{
	s->committed = false;
	int rc = s->guard->enter(s->guard->arg, e);
	if (rc < 0)
		return rc;
	if (!log_has_segments(s->log, s->old, s->old_count))
		rc = err_set(e, ERR_INTERRUPTED, "%s: segments went while they were cleaned", s->log->name);
	if (rc == 0 && (rc = pin_old(s, e)) == 0) {
		if (s->size_bytes)
			rc = commit(s, e);
		s->committed = rc == 0;
		s->log->keep_head = s->committed;
		if (rc < 0)
			unpin_old(s);
	}
	s->guard->leave(s->guard->arg);
	if (rc < 0)
		return rc;
	if (s->size_bytes && (rc = sync_dir(s, e)) < 0)
		rc = err_set(e, ERR_IO, "a cleaned segment of %s may or may not count", s->log->name);
	if (rc == 0)
		rc = finish(s, e);
	unpin_old(s);
	s->log->keep_head = false;
	return rc;
}

/* ---- after a crash ---- */

struct leftover { int64_t base; char name[SEGMENT_SUFFIX_BYTES]; };

struct leftovers {
	const char *dir;
	struct leftover *list;
	size_t count, cap;
	int64_t least_cleaned;  /* base of the first .cleaned; INT64_MAX */
	int64_t from, to;       /* what the .swap segments replace */
	bool failed;
};

/* Files of segments: what begins with an offset of 20 digits. */
static int note(void *arg, const char *name, unsigned char type)
{
	struct leftovers *x = arg;
	if (type != DT_REG || strspn(name, "0123456789") != 20 || strlen(name) >= SEGMENT_SUFFIX_BYTES)
		return 0;
	if (x->count == x->cap) {
		size_t cap = x->cap ? 2 * x->cap : 64;
		struct leftover *more = realloc(x->list, cap * sizeof *more);
		if (!more) {
			x->failed = true;
			return -ENOMEM;
		}
		x->list = more;
		x->cap = cap;
	}
	struct leftover *f = &x->list[x->count++];
	f->base = strtoll(name, NULL, 10);
	snprintf(f->name, sizeof f->name, "%s", name);
	if (name_ends(name, ".cleaned") && f->base < x->least_cleaned)
		x->least_cleaned = f->base;
	return 0;
}

static int remove_one(const struct leftovers *x, struct leftover *f, struct err *e)
{
	char path[PATH_MAX];
	snprintf(path, sizeof path, "%s/%s", x->dir, f->name);
	int sys = io_unlink(path);
	f->name[0] = '\0';
	return sys < 0 && sys != -ENOENT ? err_sys(e, sys, "cannot remove %s", path) : 0;
}

/* The offset behind the last batch of a .log.swap. */
static int end_of_swap(const struct leftovers *x, const struct leftover *f, int64_t *end, struct err *e)
{
	char path[PATH_MAX];
	struct stat st;
	struct scan scan;
	struct batch b;
	uint32_t position;
	struct err why = ERR_INIT;
	snprintf(path, sizeof path, "%s/%s", x->dir, f->name);
	*end = f->base;
	int fd = io_open(path, O_RDONLY, 0);
	if (fd < 0)
		return err_sys(e, fd, "cannot open %s", path);
	int rc = io_fstat(fd, &st);
	if (rc < 0)
		rc = err_sys(&why, rc, "cannot look at it");
	else if (st.st_size > INT32_MAX)
		rc = err_set(&why, ERR_CORRUPT, "it has %lld bytes", (long long)st.st_size);
	scan_init(&scan, fd, 0, rc == 0 ? (uint32_t)st.st_size : 0, 4096);
	while (rc == 0 && (rc = scan_next_header(&scan, &b, &position, &why)) == 1) {
		*end = batch_last_offset(&b) + 1;
		rc = 0;
	}
	scan_release(&scan);
	io_close(fd);
	if (rc == ERR_CORRUPT || rc == ERR_UNSUPPORTED)
		return err_set(e, ERR_OFFLINE, "%s, which was to replace segments when a cleaner was stopped, is damaged: %s. Nothing was changed", path, why.text);
	return rc < 0 ? err_set(e, rc, "%s: %s", path, why.text) : 0;
}

/* What does not count goes; what does tells which old segments it replaces. */
static int weigh(struct leftovers *x, struct err *e)
{
	int rc = 0;
	for (size_t i = 0; i < x->count && rc == 0; i++) {
		struct leftover *f = &x->list[i];
		int64_t end;
		if (!name_ends(f->name, ".log.swap") || f->base >= x->least_cleaned || (rc = end_of_swap(x, f, &end, e)) < 0)
			continue;
		x->from = f->base < x->from ? f->base : x->from;
		x->to = end > x->to ? end : x->to;
	}
	for (size_t i = 0; i < x->count && rc == 0; i++) /* a .log.swap goes before what tells that it does not count */
		if (name_ends(x->list[i].name, ".swap") && x->list[i].base >= x->least_cleaned)
			rc = remove_one(x, &x->list[i], e);
	int sys = rc == 0 && x->least_cleaned < INT64_MAX ? io_fsync_dir(x->dir) : 0;
	if (sys < 0)
		rc = err_sys(e, sys, "cannot sync %s", x->dir);
	for (size_t i = 0; i < x->count && rc == 0; i++)
		if (name_ends(x->list[i].name, ".cleaned"))
			rc = remove_one(x, &x->list[i], e);
	return rc;
}

static int remove_replaced(struct leftovers *x, struct err *e)
{
	static const char *const replaced[] = {".log", ".index", ".timeindex", ".txnindex", ".view", ".snapshot"};
	int rc = 0;
	for (size_t i = 0; i < x->count && rc == 0; i++) {
		struct leftover *f = &x->list[i];
		bool snapshot = name_ends(f->name, ".snapshot"), ours = false;
		for (size_t k = 0; k < sizeof replaced / sizeof *replaced && f->name[0]; k++)
			ours |= !strcmp(f->name + 20, replaced[k]);
		if (ours && f->base >= x->from + snapshot && f->base < x->to)
			rc = remove_one(x, f, e);
	}
	int sys = rc == 0 ? io_fsync_dir(x->dir) : 0;
	return sys < 0 ? err_sys(e, sys, "cannot sync %s", x->dir) : rc;
}

/* An index without its .log: the .log has its name already, and this is to follow; or it never counted, and the old one is there. */
static bool is_orphan(const struct leftovers *x, const struct leftover *f, const char *final)
{
	struct stat st;
	for (size_t i = 0; i < x->count; i++)
		if (x->list[i].base == f->base && name_ends(x->list[i].name, ".log.swap"))
			return false;
	return io_stat(final, &st) == 0;
}

static int take_names(struct leftovers *x, struct err *e)
{
	int rc = 0;
	for (int logs = 0; logs < 2; logs++) /* as when it is done in peace: the .log last */
		for (size_t i = 0; i < x->count && rc == 0; i++) {
			struct leftover *f = &x->list[i];
			char from[PATH_MAX], to[PATH_MAX];
			if (!name_ends(f->name, ".swap") || name_ends(f->name, ".log.swap") != logs)
				continue;
			snprintf(from, sizeof from, "%s/%s", x->dir, f->name);
			snprintf(to, sizeof to, "%s/%.*s", x->dir, (int)strlen(f->name) - 5, f->name);
			int sys = !logs && is_orphan(x, f, to) ? io_unlink(from) : io_rename(from, to);
			if (sys < 0)
				rc = err_sys(e, sys, "cannot rename %s", from);
		}
	int sys = rc == 0 ? io_fsync_dir(x->dir) : 0;
	return sys < 0 ? err_sys(e, sys, "cannot sync %s", x->dir) : rc;
}

int clean_finish(const char *dir, struct err *e)
{
	struct leftovers x = {.dir = dir, .least_cleaned = INT64_MAX, .from = INT64_MAX, .to = INT64_MIN};
	int sys = io_list(dir, note, &x);
	int rc = x.failed ? err_set(e, ERR_NO_MEMORY, "no memory to list %s", dir) : sys < 0 ? err_sys(e, sys, "cannot list %s", dir) : 0;
	if (rc == 0)
		rc = weigh(&x, e);
	if (rc == 0 && x.from < INT64_MAX) {
		diag_notice("%s: the cleaning of offsets %" PRId64 " to %" PRId64 " was interrupted; it is completed", dir, x.from, x.to - 1);
		rc = remove_replaced(&x, e);
	}
	if (rc == 0)
		rc = take_names(&x, e);
	free(x.list);
	return rc;
}
