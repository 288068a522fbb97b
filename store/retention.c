/*
 * Retention: how much of the head of a log is too old or too much. Whole segments, as in Kafka: by time a segment goes when its newest record is older
 * than retention.ms; by size when without it the log still has retention.bytes.
 */
#include <limits.h>

#include "store/io.h"
#include "store/log.h"

/* The time of a segment's newest record; where none of them has one, as in Kafka, when the file was written last. */
static int newest_time(struct segment *s, int64_t *newest_ms, struct err *e)
{
	char path[PATH_MAX];
	struct stat st;
	int rc = segment_max_timestamp(s, newest_ms, e);
	if (rc < 0 || *newest_ms >= 0)
		return rc;
	segment_path(s->dir, s->base_offset, ".log", path, sizeof path);
	int sys = io_stat(path, &st);
	if (sys < 0)
		return err_sys(e, sys, "cannot look at %s", path);
	*newest_ms = st.st_mtim.tv_sec * INT64_C(1000) + st.st_mtim.tv_nsec / 1000000;
	return 0;
}

/* The number of segments at the head that are too old. */
static int too_old(struct log_shape *s, int64_t ms, int64_t now_ms, size_t *n, struct err *e)
{
	for (*n = 0; ms >= 0 && *n < s->segment_count; ++*n) {
		int64_t newest;
		struct segment *g = s->segment[*n];
		if (g->size_bytes == 0)
			break;
		int rc = newest_time(g, &newest, e);
		if (rc < 0)
			return rc;
		if (newest >= now_ms || now_ms - newest <= ms)
			break;
	}
	return 0;
}

/* The number of segments at the head without which the log still has `bytes`. */
static size_t too_many(struct log_shape *s, int64_t bytes)
{
	int64_t all = 0;
	size_t n = 0;
	for (size_t i = 0; i < s->segment_count; i++)
		all += s->segment[i]->size_bytes;
	while (bytes >= 0 && n + 1 < s->segment_count && all - s->segment[n]->size_bytes >= bytes)
		all -= s->segment[n++]->size_bytes;
	return n;
}

int log_retention(struct log *l, const struct retention *r, int64_t now_ms, int64_t limit_offset, int64_t *new_start, struct err *e)
{
	size_t old = 0, many;
	*new_start = l->start_offset;
	struct log_shape *s = log_shape_take(l);
	int rc = too_old(s, r->ms, now_ms, &old, e);
	many = too_many(s, r->bytes);
	size_t n = old > many ? old : many;
	bool all = rc == 0 && n && n == s->segment_count;
	if (all && l->leo > limit_offset) { /* some of it is not visible yet: what is before the active segment goes */
		all = false;
		n--;
	}
	int64_t start = *new_start;
	if (rc == 0 && n && !all)
		start = s->segment[n]->base_offset;
	log_shape_drop(l, s);
	if (all) { /* the active segment too: it is sealed first, so that the log goes on in a new one */
		rc = log_roll(l, e);
		start = l->leo;
	}
	if (rc == 0 && start > *new_start)
		*new_start = start < limit_offset ? start : limit_offset;
	return rc;
}
