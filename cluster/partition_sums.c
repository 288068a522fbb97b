#include "cluster/partition_sums.h"

#include <inttypes.h>
#include <stdlib.h>

#include "cluster/model.h"
#include "store/buf.h"
#include "store/io.h"

enum { PIECE_BYTES = 1 << 20, LENGTH_AT = 8, HEAD_BYTES = 12, LAST_DELTA_AT = 23, LEAST_BYTES = 61, RANGES_AT_FIRST = 16 }; /* of batches of format 2 */

static struct sums_range *add_range(struct partition_sums *s, int *cap)
{
	if (s->ranges == *cap) {
		int more = *cap ? 2 * *cap : RANGES_AT_FIRST;
		struct sums_range *v = realloc(s->range, (size_t)more * sizeof *v);
		if (!v)
			return NULL;
		s->range = v;
		*cap = more;
	}
	struct sums_range *r = &s->range[s->ranges++];
	*r = (struct sums_range){.position = -1};
	return r;
}

static bool is_full(const struct partition_sums *s, int64_t bytes)
{
	return bytes >= (int64_t)s->max_bytes || s->ranges == SUMS_MAX_RANGES;
}

/* Whole batches of one range of a file. *at: the offset behind the last that was taken; *end: no more are wanted. */
static int take_batches(struct partition *p, struct partition_sums *s, const uint8_t *bytes, size_t n, int64_t *at, int64_t *total, int *cap, bool *end, struct err *e)
{
	for (size_t done = 0; done < n && !*end;) {
		const uint8_t *b = bytes + done;
		int64_t size = n - done < LEAST_BYTES ? 0 : HEAD_BYTES + (int64_t)(int32_t)be32_get(b + LENGTH_AT);
		if (size < LEAST_BYTES || size > (int64_t)(n - done))
			return err_set(e, ERR_CORRUPT, "%s-%" PRId32 ": what is behind offset %" PRId64 " is no batch", p->topic->name, p->index, *at);
		int64_t base = (int64_t)be64_get(b), next = base + (int32_t)be32_get(b + LAST_DELTA_AT) + 1;
		if (next <= *at || next <= base)
			return err_set(e, ERR_CORRUPT, "%s-%" PRId32 ": a batch of offsets %" PRId64 " to %" PRId64 " stands behind offset %" PRId64, p->topic->name, p->index, base, next - 1, *at);
		*end = next > s->to || (s->ranges && is_full(s, *total));
		if (*end)
			break;
		struct sums_range *r = s->each || !s->ranges ? add_range(s, cap) : &s->range[s->ranges - 1];
		if (!r)
			return err_set(e, ERR_NO_MEMORY, "no memory for checksums");
		if (!r->batches++)
			r->first_offset = base;
		r->next_offset = *at = next;
		r->bytes += size;
		r->crc = crc32c(r->crc, b, (size_t)size);
		*total += size;
		done += (size_t)size;
	}
	return 0;
}

/* One piece, from *at on. */
static int read_piece(struct partition *p, struct partition_sums *s, int64_t *at, int64_t *total, int *cap, bool *end, struct err *e)
{
	struct partition_fetch f = {.offset = *at, .max_bytes = PIECE_BYTES, .min_one = true, .isolation = ISOLATION_UNCOMMITTED, .current_epoch = -1, .last_fetched_epoch = -1, .wait = true};
	int rc = partition_fetch(p, &f, e);
	s->ends = f.ends;
	if (rc < 0)
		return rc;
	*end = !f.data.bytes;
	for (uint32_t i = 0; rc == 0 && !*end && i < f.data.range_count; i++) {
		const struct log_range *r = &f.data.range[i];
		uint8_t *bytes = malloc(r->bytes);
		ssize_t got = bytes ? io_pread(r->segment->fd, bytes, r->bytes, r->position) : 0;
		if (!bytes)
			rc = err_set(e, ERR_NO_MEMORY, "no memory for checksums");
		else if (got < 0)
			rc = err_sys(e, (int)got, "%s-%" PRId32 ": cannot read the log", p->topic->name, p->index);
		else
			rc = take_batches(p, s, bytes, (size_t)got, at, total, cap, end, e);
		free(bytes);
	}
	partition_fetch_release(p, &f);
	return rc;
}

/* Of the last range; those in between are where others end, too. */
static void find_position(struct partition *p, struct sums_range *r)
{
	struct partition_place place = {.offset = r->next_offset, .position = -1};
	if (partition_place(p, -1, true, &place, NULL) == 0 && !place.visible.sequential && place.offset == r->next_offset)
		r->position = place.position;
}

int partition_sums(struct partition *p, struct partition_sums *s, struct err *e)
{
	int64_t at = s->from, total = 0;
	int cap = 0, rc = 0;
	bool end = false;
	s->range = NULL;
	s->ranges = 0;
	s->ends = (struct partition_ends){-1, -1, -1, -1, -1};
	s->max_bytes = s->max_bytes < SUMS_MAX_BYTES ? s->max_bytes : SUMS_MAX_BYTES;
	s->compacted = p->topic->compacted;
	while (rc == 0 && !end)
		rc = read_piece(p, s, &at, &total, &cap, &end, e);
	s->leads = p->role == ROLE_LEADER;
	s->leader_epoch = p->leader_epoch;
	if (rc == 0 && s->ranges)
		find_position(p, &s->range[s->ranges - 1]);
	if (rc == 0)
		return 0;
	free(s->range);
	s->range = NULL;
	s->ranges = 0;
	return rc;
}
