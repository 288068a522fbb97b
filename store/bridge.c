#include "store/bridge.h"

#include "store/io.h"
#include "store/log_view.h"
#include "store/scan.h"

/* A valid batch at `at`: its header, and the view bytes of its records. */
static bool valid_batch(const struct bridge_log *g, uint32_t at, struct batch *b, uint64_t *view_bytes)
{
	struct scan scan;
	const uint8_t *bytes;
	uint32_t position;
	*view_bytes = 0;
	scan_init(&scan, g->fd, at, g->size_bytes, 1);
	bool good = scan_next(&scan, b, &bytes, &position, NULL) == 1 && batch_crc_matches(b, bytes);
	if (good && !batch_is_control(b) && !(g->shape && log_is_aborted(g->shape, b)))
		good = batch_scan(b, bytes, g->scratch, VIEW_STEP_BYTES, view_bytes, NULL, NULL, NULL) == 0;
	scan_release(&scan);
	return good;
}

/* The number of the first entry behind `from`; 0 where a damaged one is in the way. */
static uint32_t first_behind(const struct view *v, uint32_t from)
{
	uint32_t lo = 0, hi = entries_count(&v->e);
	while (lo < hi) {
		struct view_entry entry;
		uint32_t mid = lo + (hi - lo) / 2;
		if (view_entry_at(v, mid, &entry) < 0)
			return 0;
		if (entry.batch_position <= from)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

bool bridge_entry(const struct bridge_log *g, const struct view *v, uint32_t from, int64_t after, struct bridge *anchor)
{
	struct batch b;
	uint64_t ignored;
	for (uint32_t i = first_behind(v, from); i < entries_count(&v->e); i++) {
		struct view_entry entry;
		if (view_entry_at(v, i, &entry) < 0 || entry.batch_position <= from || entry.byte_in_batch)
			continue;
		if (valid_batch(g, entry.batch_position, &b, &ignored) && b.base_offset == entry.offset && b.base_offset > after) {
			*anchor = (struct bridge){entry.batch_position, entry.offset, entry.position};
			return true;
		}
	}
	return false;
}

/* Whether valid batches, at least one, lead from `at` to the anchor. */
static bool leads_to(const struct bridge_log *g, uint32_t at, int64_t after, const struct bridge *anchor, struct bridge *first)
{
	int64_t end = after + 1; /* the damaged one had a record at least */
	struct batch b;
	uint64_t more;
	*first = (struct bridge){at, -1, anchor->position};
	while (at < anchor->at && at < g->size_bytes) {
		if (!valid_batch(g, at, &b, &more) || b.base_offset < end)
			return false;
		if (anchor->at == BRIDGE_ANYWHERE && b.base_offset >= anchor->offset)
			break;
		if (first->offset < 0)
			first->offset = b.base_offset;
		first->position -= (int64_t)more;
		end = batch_last_offset(&b) + 1;
		at += b.size_bytes;
	}
	return (anchor->at == BRIDGE_ANYWHERE || at == anchor->at) && first->offset >= 0 && end <= anchor->offset;
}

/* By what the damaged batch says of its size, if that can be believed; else by looking for the next valid one. */
bool bridge_back(const struct bridge_log *g, uint32_t from, int64_t after, struct bridge *b)
{
	uint8_t header[BATCH_HEADER_BYTES];
	struct batch damaged;
	struct bridge first;
	uint32_t at, end = b->at < g->size_bytes ? b->at : g->size_bytes;
	if (io_pread(g->fd, header, sizeof header, from) == sizeof header && batch_decode(&damaged, header, sizeof header, g->size_bytes - from, NULL) == 0 &&
	    leads_to(g, from + damaged.size_bytes, after, b, &first)) {
		*b = first;
		return true;
	}
	for (at = from + 1; scan_find_valid(g->fd, at, end, after + 1, &at, NULL) == 1; at++)
		if (leads_to(g, at, after, b, &first)) {
			*b = first;
			return true;
		}
	return false;
}
