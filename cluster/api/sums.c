/* ReplicaSums: checksums of what this broker's replica of a partition holds, a bounded part for each request (../partition_sums.h). In the pool: it reads the disk. */
#include <stdlib.h>

#include "cluster/api/admin.h"
#include "cluster/api/call.h"
#include "cluster/partition_sums.h"

static bool put_ranges(struct call *c, const struct partition_sums *s, struct replica_sums_response *a)
{
	a->ranges.v = call_array(c, &wire_replica_sums_response_range, s->ranges);
	for (int i = 0; a->ranges.v && i < s->ranges; i++) {
		const struct sums_range *r = &s->range[i];
		a->ranges.v[a->ranges.n++] = (struct replica_sums_response_range){r->first_offset, r->next_offset, r->bytes, r->batches, r->crc, r->position};
	}
	return a->ranges.v;
}

void handle_replica_sums(struct call *c)
{
	const struct replica_sums_request *q = c->request;
	struct replica_sums_response a;
	struct partition_sums s = {.from = q->from_offset, .to = q->to_offset, .max_bytes = q->max_bytes > 0 ? (uint32_t)q->max_bytes : 0, .each = q->each};
	struct err e = ERR_INIT;
	bool good = true;
	wire_init(&wire_replica_sums_response, &a);
	a.error_message = WIRE_NULL_STRING;
	struct partition *p = call_partition(c, WIRE_NULL_STRING, &q->topic_id, q->partition, &a.error_code);
	if (p) {
		int rc = partition_sums(p, &s, &e);
		a.error_code = (int16_t)kafka_error_of(rc);
		a.error_message = rc < 0 ? call_say(c, "%s", e.text) : WIRE_NULL_STRING;
		a.leader_epoch = s.leader_epoch;
		a.leads = s.leads;
		a.compacted = s.compacted;
		a.log_start = s.ends.log_start;
		a.log_start_position = s.ends.log_start_position;
		a.high_watermark = s.ends.high_watermark;
		good = put_ranges(c, &s, &a);
		free(s.range);
	}
	partition_unref(p);
	if (good)
		call_answer(c, &a);
	else
		call_close(c, "no memory");
}
