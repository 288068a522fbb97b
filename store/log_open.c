/*
 * Opening a log: what its directory holds, what of that is read, and whether a checkpoint's row spares the rest. Without a row it is recovered (recover.c).
 */
#include <dirent.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/clean_swap.h"
#include "store/clock.h"
#include "store/consent.h"
#include "store/diag.h"
#include "store/dirs.h"
#include "store/io.h"
#include "store/log_view.h"
#include "store/txnindex.h"

struct found { /* what a partition's directory holds */
	struct found_segment { int64_t base; bool txnindex; } *list;
	size_t count, cap;
	int64_t *snapshot;
	size_t snapshots, snapshot_cap;
	int64_t txns_damaged; /* the base of the first .txnindex that is; INT64_MAX */
	int64_t *empty;       /* bases of segments without a byte that are not the last: see load_segment */
	size_t empties, empty_cap;
	bool swap, deleted, failed; /* swap: what a cleaner has left */
};

/* Room for one more in a list. */
static bool grow(void **list, size_t count, size_t *cap, size_t size)
{
	if (count < *cap)
		return true;
	size_t more = *cap ? 2 * *cap : 8;
	void *bigger = realloc(*list, more * size);
	if (!bigger)
		return false;
	*list = bigger;
	*cap = more;
	return true;
}

static int found_name(void *arg, const char *name, unsigned char type)
{
	struct found *f = arg;
	if (type != DT_REG)
		return 0;
	f->deleted |= name_ends(name, ".deleted");
	f->swap |= name_ends(name, ".swap") || name_ends(name, ".cleaned");
	if (strspn(name, "0123456789") != 20)
		return 0;
	int64_t base = strtoll(name, NULL, 10);
	const char *suffix = name + 20;
	bool is_log = !strcmp(suffix, ".log"), is_txn = !strcmp(suffix, ".txnindex");
	if (!strcmp(suffix, ".snapshot")) {
		if (grow((void **)&f->snapshot, f->snapshots, &f->snapshot_cap, sizeof *f->snapshot))
			f->snapshot[f->snapshots++] = base;
		else
			f->failed = true;
	} else if (is_log || is_txn) {
		if (grow((void **)&f->list, f->count, &f->cap, sizeof *f->list))
			f->list[f->count++] = (struct found_segment){base, is_txn};
		else
			f->failed = true;
	}
	return 0;
}

static int look_into(const char *dir, struct found *f, struct err *e)
{
	int sys = io_list(dir, found_name, f);
	if (sys == 0 && f->swap && !f->failed) { /* a cleaner was stopped in the middle: ours, or Kafka's */
		int rc = clean_finish(dir, e);
		if (rc < 0)
			return rc;
		f->count = f->snapshots = 0;
		sys = io_list(dir, found_name, f);
	}
	if (sys < 0)
		return err_sys(e, sys, "cannot list %s", dir);
	return f->failed ? err_set(e, ERR_NO_MEMORY, "no memory to list %s", dir) : 0;
}

static int by_base(const void *a, const void *b)
{
	const struct found_segment *x = a, *y = b;
	return x->base < y->base ? -1 : x->base > y->base ? 1 : x->txnindex - y->txnindex;
}

static int by_last_offset(const void *a, const void *b)
{
	const struct aborted_txn *x = a, *y = b;
	return x->last_offset < y->last_offset ? -1 : x->last_offset > y->last_offset;
}

/* One that is damaged is made again from the log. */
static int load_aborted(struct log *l, struct log_shape *s, struct found *f, int64_t base, struct err *e)
{
	char path[PATH_MAX];
	struct aborted_txn *list;
	struct err why = ERR_INIT;
	size_t n;
	segment_path(l->dir, base, ".txnindex", path, sizeof path);
	int rc = txnindex_load(path, base, &list, &n, &why);
	if (rc == ERR_CORRUPT) {
		diag_warning("%s; it is made again from the log", why.text);
		if (base < f->txns_damaged)
			f->txns_damaged = base;
		return 0;
	}
	if (rc < 0)
		return err_set(e, rc, "%s", why.text);
	if (n == 0)
		return 0;
	struct aborted_txn *all = realloc(s->aborted, (s->aborted_count + n) * sizeof *all);
	if (all) {
		memcpy(all + s->aborted_count, list, n * sizeof *all);
		s->aborted = all;
		s->aborted_count += n;
	}
	free(list);
	return all ? 0 : err_set(e, ERR_NO_MEMORY, "no memory for %s", path);
}

/* No segment is sealed while it is empty: one without a byte that is not the last was made by a roll that failed, and could not be removed then. It goes when the
 * log is known to be good. */
static int load_segment(struct log *l, struct log_shape *s, struct found *f, int64_t base, bool sealed, bool read_only, struct err *e)
{
	char path[PATH_MAX];
	struct stat st;
	segment_path(l->dir, base, ".log", path, sizeof path);
	int sys = io_stat(path, &st);
	if (sys < 0)
		return err_sys(e, sys, "cannot look at %s", path);
	if (st.st_size > INT32_MAX)
		return err_set(e, ERR_CORRUPT, "%s has %lld bytes: no segment is larger than 2 GiB", path, (long long)st.st_size);
	if (st.st_size == 0 && sealed) {
		if (!grow((void **)&f->empty, f->empties, &f->empty_cap, sizeof *f->empty))
			return err_set(e, ERR_NO_MEMORY, "no memory for a segment");
		f->empty[f->empties++] = base;
		return 0;
	}
	struct segment *g = segment_new(l->dir, base, (uint32_t)st.st_size, sealed || read_only, l->limits.index_bytes, l->cache);
	if (!g)
		return err_set(e, ERR_NO_MEMORY, "no memory for a segment");
	g->interval_bytes = l->limits.interval_bytes;
	s->segment[s->segment_count++] = g;
	l->bytes += st.st_size;
	return 0;
}

/* Makes the shape of what was found: sizes by stat, all but the last sealed. A .txnindex without a .log is a leftover of a deletion. */
static int load_segments(struct log *l, struct found *f, bool read_only, struct err *e)
{
	struct log_shape *s = calloc(1, sizeof *s);
	int rc = 0;
	if (!s || !(s->segment = calloc(f->count + 1, sizeof *s->segment)))
		rc = err_set(e, ERR_NO_MEMORY, "no memory for %zu segments", f->count);
	if (s)
		s->refs = 1;
	size_t logs = 0;
	for (size_t i = 0; i < f->count; i++)
		logs += !f->list[i].txnindex;
	for (size_t i = 0, k = 0; i < f->count && rc == 0; i++) {
		int64_t base = f->list[i].base;
		if (!f->list[i].txnindex)
			rc = load_segment(l, s, f, base, ++k < logs, read_only, e);
		else if (s->segment_count && s->segment[s->segment_count - 1]->base_offset == base)
			rc = load_aborted(l, s, f, base, e);
	}
	if (rc == 0 && s->aborted_count)
		qsort(s->aborted, s->aborted_count, sizeof *s->aborted, by_last_offset);
	if (rc == 0)
		l->shape = s;
	else
		log_shape_drop(l, s);
	return rc;
}

static int load_producers(struct log *l, struct found *f, int64_t limit, struct err *e)
{
	return log_load_snapshot(l, l->producers, f->snapshot, f->snapshots, limit, &l->snapshot_offset, e);
}

/* Whether the directory still is what the row says. */
static bool row_fits(struct log *l, const struct partition_row *r)
{
	struct segment *s = log_active(l);
	if (!s)
		return r->active_base < 0;
	return s->base_offset == r->active_base && s->size_bytes == r->active_bytes;
}

static int load_epochs(struct log *l, struct err *e)
{
	char path[PATH_MAX];
	struct err why = ERR_INIT;
	snprintf(path, sizeof path, "%s/leader-epoch-checkpoint", l->dir);
	int rc = epochs_load(&l->epochs, path, &why);
	if (rc == ERR_NOT_FOUND || rc == ERR_CORRUPT) {
		if (rc == ERR_CORRUPT)
			diag_warning("%s; it is made again from the log", why.text);
		return rc;
	}
	return rc < 0 ? err_set(e, rc, "%s", why.text) : 0;
}

/* With a row: nothing of the log need be read. */
static void adopt_row(struct log *l, const struct partition_row *r)
{
	l->leo = r->leo;
	l->flushed_offset = r->recovery_point;
	l->start_offset = r->start_offset;
	l->start_position = r->start_position;
	l->view_offset = r->visible_offset;
	l->view_position = l->sequential ? r->start_position : r->visible_position;
	l->since_index_bytes = 0;
	l->since_view_bytes = INT32_MAX; /* the next batch gets an entry */
}

/* Readers do not rebuild the active segment's view, so it is in order from the start; on a full disk they do without until the next append. */
static int open_active_view(struct log *l, struct err *e)
{
	struct segment *s = log_active(l);
	if (!s || l->view_offset < s->base_offset)
		return 0;
	int rc = segment_pin(s, e);
	if (rc < 0)
		return rc;
	if (!s->view_ok)
		rc = log_rebuild_active_view(l, s, e);
	segment_unpin(s);
	return rc == ERR_NO_SPACE || rc == ERR_READ_ONLY || rc == ERR_DENIED ? 0 : rc;
}

/* The .view files are those of the last time, unless the log was sequential then, or is now. */
static int open_views(struct log *l, const struct partition_row *r, struct err *e)
{
	struct err why = ERR_INIT;
	if (!l->sequential && r->visible_position >= 0)
		return open_active_view(l, e);
	int rc = log_remove_views(l, &why);
	if (l->sequential) { /* in time for the cleaner, who tries again */
		if (rc < 0)
			diag_notice("%s: %s", l->name, why.text);
		return 0;
	}
	return rc < 0 ? err_set(e, rc, "%s", why.text) : log_rebuild_views(l, e);
}

static int remove_empties(struct log *l, struct found *f, struct err *e)
{
	int rc = 0;
	for (size_t i = 0; i < f->empties && rc == 0; i++) {
		struct segment *s = segment_new(l->dir, f->empty[i], 0, true, 0, l->cache);
		rc = s ? segment_mark_deleted(s, e) : err_set(e, ERR_NO_MEMORY, "no memory for a segment");
		segment_unref(s);
		l->deleted_pending = true;
	}
	return rc;
}

static struct log *new_log(const struct log_open *o)
{
	struct log *l = calloc(1, sizeof *l);
	if (!l)
		return NULL;
	pthread_mutex_init(&l->list_lock, NULL);
	pthread_mutex_init(&l->view_lock, NULL);
	epochs_init(&l->epochs);
	wr_init(&l->scratch, 0);
	l->cache = o->cache;
	l->pool = o->pool;
	l->limits = o->limits;
	l->sequential = o->sequential;
	l->gaps = o->gaps || o->foreign || o->compacted || o->sequential;
	l->flush_limit = INT64_MAX;
	l->dir = strdup(o->dir);
	l->name = strdup(o->name);
	l->producers = producers_new();
	if (l->dir && l->name && l->producers) {
		producers_set_now(l->producers, wall_now_ms());
		return l;
	}
	log_free(l);
	return NULL;
}

/* Whether the row can be relied on: the log is as it says, and all there must be beside the log is there. */
static int try_row(struct log *l, struct found *f, const struct partition_row *r, bool epochs_known, bool *trusted, struct err *e)
{
	*trusted = r && row_fits(l, r) && f->txns_damaged == INT64_MAX && (epochs_known || r->leader_epoch < 0);
	if (!*trusted)
		return 0;
	int rc = load_producers(l, f, r->leo, e);
	*trusted = rc == 0 && (producers_map_end(l->producers) == r->leo || !l->shape->segment_count);
	return rc;
}

/* A row is from when the log was whole. */
static void compare_bytes(const struct log *l, const struct partition_row *r)
{
	if (l->bytes < r->bytes)
		diag_error("%s: its segments have %" PRId64 " bytes, and had %" PRId64 " at the last stop: a .log is missing or cut short. What is left can be read; "
			   "a replica or a backup of %s makes it whole", l->name, (int64_t)l->bytes, r->bytes, l->dir);
}

static int open_found(struct log *l, struct found *f, const struct log_open *o, struct err *e)
{
	bool trusted = false;
	int rc = load_segments(l, f, o->read_only, e);
	if (rc < 0)
		return rc;
	rc = load_epochs(l, e);
	if (rc < 0 && rc != ERR_CORRUPT && rc != ERR_NOT_FOUND)
		return rc;
	if (!o->accepted->all && (rc = try_row(l, f, o->row, rc == 0, &trusted, e)) < 0)
		return rc;
	if (trusted) {
		adopt_row(l, o->row);
		compare_bytes(l, o->row);
		rc = log_drop_head(l, !o->foreign && !o->keep, e);
		return rc == 0 ? open_views(l, o->row, e) : rc;
	}
	/* a snapshot past what is durable may know of batches that were lost */
	int64_t limit = o->recovery_point < f->txns_damaged ? o->recovery_point : f->txns_damaged;
	rc = load_producers(l, f, limit > 0 ? limit : 0, e);
	return rc == 0 ? log_recover(l, o, e) : rc;
}

/* The first who follow the log ask for its end. */
static void note_end(struct log *l)
{
	struct segment *s = log_active(l);
	if (s)
		places_note_append(&l->places, l->leo, s->serial, s->size_bytes);
}

int log_open(struct log **out, const struct log_open *o, struct err *e)
{
	struct found f = {.txns_damaged = INT64_MAX};
	struct log *l = new_log(o);
	int rc = l ? look_into(o->dir, &f, e) : err_set(e, ERR_NO_MEMORY, "no memory for a log");
	if (rc == 0) {
		l->deleted_pending = f.deleted;
		if (f.count)
			qsort(f.list, f.count, sizeof *f.list, by_base);
		rc = open_found(l, &f, o, e);
	}
	if (rc == 0 && !o->foreign && !o->keep)
		rc = remove_empties(l, &f, e);
	if (rc == 0) {
		epochs_truncate_end(&l->epochs, l->leo); /* whose first batch was not written; Kafka forgets them at a start, too */
		note_end(l);
	}
	free(f.list);
	free(f.empty);
	free(f.snapshot);
	if (rc < 0)
		log_free(l);
	else
		*out = l;
	return rc;
}
