/*
 * What the batches of a log say of its producers: the newest snapshot, and from there on batch by batch. For recovery, and for a log whose end is cut.
 */
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>

#include "store/diag.h"
#include "store/log_view.h"
#include "store/scan.h"

enum { READ_BYTES = 64 << 10 };

int log_load_snapshot(struct log *l, struct producers *p, int64_t *snapshot, size_t n, int64_t limit, int64_t *found, struct err *e)
{
	*found = -1;
	for (;;) {
		int64_t best = -1;
		size_t at = 0;
		for (size_t i = 0; i < n; i++)
			if (snapshot[i] > best && snapshot[i] <= limit)
				best = snapshot[at = i];
		if (best < 0)
			break;
		char path[PATH_MAX];
		struct err why = ERR_INIT;
		segment_path(l->dir, best, ".snapshot", path, sizeof path);
		int rc = producers_load(p, path, best, &why);
		if (rc == 0) {
			*found = best;
			return 0;
		}
		if (rc != ERR_CORRUPT && rc != ERR_NOT_FOUND)
			return err_set(e, rc, "%s", why.text);
		diag_warning("%s; an older one, or the log itself, is read instead", why.text);
		snapshot[at] = -1;
	}
	producers_clear(p);
	producers_set_map_end(p, l->shape->segment_count ? l->shape->segment[0]->base_offset : 0);
	return 0;
}

/* The next batch, all of it where it is a marker. */
static int next(struct scan *scan, struct batch *b, const uint8_t **bytes, struct err *e)
{
	uint32_t position;
	int rc = scan_next_header(scan, b, &position, e);
	if (rc == 1 && batch_is_control(b)) {
		scan->at = position;
		rc = scan_next(scan, b, bytes, &position, e);
	}
	return rc;
}

int log_replay_segment(const struct log_replay *r, struct segment *s, struct err *e)
{
	struct scan scan;
	struct batch b;
	const uint8_t *bytes = NULL;
	struct aborted_txn aborted;
	uint32_t at = 0;
	int rc = segment_pin(s, e);
	if (rc < 0)
		return rc;
	if (!r->skip && r->from > s->base_offset && (rc = segment_find_offset(s, r->from, &b, &at, e)) <= 0) {
		segment_unpin(s);
		return rc;
	}
	rc = 0;
	scan_init(&scan, s->fd, at, s->size_bytes, READ_BYTES);
	while ((r->skip && r->skip(r->arg, &scan)) || (rc = next(&scan, &b, &bytes, e)) == 1) {
		if (rc == 0 || batch_last_offset(&b) < r->from)
			continue;
		if (b.base_offset >= r->to)
			break;
		rc = producers_update(r->producers, &b, bytes, &aborted, e);
		if (rc < 0 || (rc == 1 && r->aborted && (rc = r->aborted(r->arg, &aborted, e)) < 0))
			break;
		rc = 0;
	}
	scan_release(&scan);
	segment_unpin(s);
	return rc < 0 ? rc : 0;
}

/* ---- transactions that a cleaner has taken ---- */

struct stale { struct log *log; int64_t *producer_id; size_t count, cap; int rc; struct err err; };

/* Whether the batch that began the transaction is in the log. */
static int find_first_batch(struct log *l, const struct open_txn *t, bool *there, struct err *e)
{
	struct segment *s = log_segment_of(l->shape, t->first_offset);
	struct batch b;
	uint32_t position;
	*there = false;
	int rc = s ? segment_pin(s, e) : 0;
	if (s && rc == 0) {
		rc = segment_find_offset(s, t->first_offset, &b, &position, e);
		*there = rc == 1 && b.base_offset <= t->first_offset && b.producer_id == t->producer_id && batch_is_transactional(&b);
		segment_unpin(s);
	}
	segment_unref(s);
	return rc < 0 ? rc : 0;
}

static void look_at_txn(void *arg, const struct open_txn *t)
{
	struct stale *x = arg;
	struct log *l = x->log;
	bool there = true;
	if (x->rc == 0 && t->first_offset >= l->start_offset)
		x->rc = find_first_batch(l, t, &there, &x->err);
	if (x->rc < 0 || there)
		return;
	if (x->count == x->cap) {
		size_t cap = x->cap ? 2 * x->cap : 8;
		int64_t *more = realloc(x->producer_id, cap * sizeof *more);
		if (!more) {
			x->rc = err_set(&x->err, ERR_NO_MEMORY, "no memory for open transactions");
			return;
		}
		x->producer_id = more;
		x->cap = cap;
	}
	x->producer_id[x->count++] = t->producer_id;
}

int log_end_cleaned_txns(struct log *l, struct producers *p, struct err *e)
{
	struct stale x = {.log = l};
	if (l->gaps)
		producers_open_txns(p, look_at_txn, &x);
	for (size_t i = 0; i < x.count && x.rc == 0; i++)
		producers_end_txn(p, x.producer_id[i]);
	free(x.producer_id);
	return x.rc < 0 ? err_set(e, x.rc, "%s", x.err.text) : 0;
}
