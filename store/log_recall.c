/*
 * A .snapshot keeps the last batch of each producer, as Kafka's format has it. A client may have five on their way whose answers were lost when the broker stopped; were
 * only the last of them known, the others would be refused as out of sequence. So when one comes that may be among them the end of the log is searched, once for
 * each producer after a start.
 */
#include "store/log.h"
#include "store/scan.h"

enum { WANTED = 5, RECALL_BYTES = 16 << 20, READ_BYTES = 64 << 10 };

/* A batch boundary at or before `position`. */
static uint32_t boundary_before(const struct segment *s, uint32_t position)
{
	uint32_t lo = 0, hi = (uint32_t)entries_count(&s->index.e), at = 0;
	int64_t offset;
	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2, found;
		offset_index_entry(&s->index, mid, &offset, &found);
		if (found <= position) {
			at = found;
			lo = mid + 1;
		} else {
			hi = mid;
		}
	}
	return at;
}

struct recall { int64_t producer_id; int16_t epoch; int64_t before_offset; struct producer_batch batch[WANTED]; uint32_t count; };

static void note(struct recall *r, const struct batch *b)
{
	if (b->producer_id != r->producer_id || b->producer_epoch != r->epoch || b->base_sequence < 0 || batch_is_control(b) || b->base_offset >= r->before_offset)
		return;
	if (r->count == WANTED) {
		memmove(r->batch, r->batch + 1, (WANTED - 1) * sizeof *r->batch);
		r->count--;
	}
	r->batch[r->count++] = (struct producer_batch){b->base_sequence, batch_last_sequence(b), b->base_offset, batch_last_offset(b), b->max_timestamp_ms};
}

/* The batches of one segment, from at most *budget bytes before the offset. */
static int recall_segment(struct recall *r, struct segment *s, uint32_t *budget, struct err *e)
{
	struct batch b;
	struct scan scan;
	uint32_t end = 0, position;
	int rc = segment_pin(s, e);
	if (rc < 0)
		return rc;
	rc = segment_find_offset(s, r->before_offset, &b, &end, e);
	if (rc >= 0) {
		end = rc == 1 ? end : s->size_bytes;
		uint32_t from = end > *budget ? boundary_before(s, end - *budget) : 0;
		*budget -= end - from < *budget ? end - from : *budget;
		scan_init(&scan, s->fd, from, end, READ_BYTES);
		while ((rc = scan_next_header(&scan, &b, &position, e)) == 1)
			note(r, &b);
		scan_release(&scan);
	}
	segment_unpin(s);
	return rc;
}

int log_recall_producer(struct log *l, int64_t producer_id, struct err *e)
{
	struct producer_batch oldest;
	struct recall r = {.producer_id = producer_id};
	struct err why = ERR_INIT;
	uint32_t budget = RECALL_BYTES, found = 0;
	int rc = 0;
	if (!producers_oldest(l->producers, producer_id, &r.epoch, &oldest))
		return 0;
	r.before_offset = oldest.first_offset;
	for (size_t i = l->shape->segment_count; i > 0 && budget && found < WANTED && rc == 0; i--) {
		struct segment *s = l->shape->segment[i - 1];
		if (s->base_offset >= r.before_offset)
			continue;
		r.count = 0;
		rc = recall_segment(&r, s, &budget, &why);
		producers_recall(l->producers, producer_id, r.batch, r.count);
		found += r.count;
	}
	producers_recall(l->producers, producer_id, NULL, 0);
	return rc == 0 || rc == ERR_CORRUPT ? 0 : err_set(e, rc, "%s", why.text); /* damage: what is behind it was found */
}
