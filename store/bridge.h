/*
 * bridge: how the view goes on behind a damaged batch. For recovery and for reading.
 *
 * How many bytes of the view a damaged batch has nobody can tell. But a place behind it of which the position is known (an anchor: a .view entry, or where the log
 * goes on behind this segment) tells it for each valid batch that leads there, backwards. So damage costs no more than the damaged batches, and what stands
 * between two of them with no anchor in between.
 *
 * thread: any; nothing is written.
 */
#ifndef STORE_BRIDGE_H
#define STORE_BRIDGE_H

#include "store/log.h"

struct bridge_log { /* the .log with the damage */
	int fd;
	uint32_t size_bytes;
	const struct log_shape *shape; /* whose aborted transactions have no place in the view; NULL: every transaction counts */
	struct wr *scratch;
};

enum { BRIDGE_ANYWHERE = UINT32_MAX };

struct bridge { /* a batch begins at `at`, with that offset, and the view goes on there at that position */
	uint32_t at; /* as an anchor also: the segment's size, where the next one begins; BRIDGE_ANYWHERE: where the batch with that offset is, or would be */
	int64_t offset, position;
};

/* The first entry of the .view that stands at a valid batch behind the damage at `from`. after: an offset that was before the damage. */
bool bridge_entry(const struct bridge_log *g, const struct view *v, uint32_t from, int64_t after, struct bridge *anchor);
/* Goes back from the anchor to the first valid batch behind `from` that leads to it. false: there is none before the anchor; *b is as it was. */
bool bridge_back(const struct bridge_log *g, uint32_t from, int64_t after, struct bridge *b);

#endif
