#include "store/producers.h"

#include <inttypes.h>
#include <stdlib.h>
#include <uthash.h>

#include "store/buf.h"
#include "store/io.h"

enum { WINDOW = 5, SNAPSHOT_VERSION = 1, SNAPSHOT_HEAD_BYTES = 10, SNAPSHOT_ENTRY_BYTES = 46, CRC_FROM = 6, FILE_LIMIT = 1 << 30 };

struct batch_seen { int32_t last_sequence, offset_delta; int64_t last_offset, timestamp_ms; };

struct producer {
	int64_t id;
	int16_t epoch;
	int32_t coordinator_epoch;    /* of its last marker; -1 */
	int64_t last_timestamp_ms;
	int64_t txn_first_offset;     /* of the open transaction; -1 */
	uint32_t seen_count;
	struct batch_seen seen[WINDOW]; /* oldest first */
	UT_hash_handle hh;
};

struct producers {
	struct producer *table;
	int64_t map_end_offset;
	int64_t first_unstable;       /* kept up to date: asked for at every append */
	size_t open_count;
};

struct producers *producers_new(void)
{
	struct producers *p = calloc(1, sizeof *p);
	if (p)
		p->first_unstable = -1;
	return p;
}

void producers_clear(struct producers *p)
{
	struct producer *x, *next;
	HASH_ITER(hh, p->table, x, next) {
		HASH_DEL(p->table, x);
		free(x);
	}
	p->first_unstable = -1;
	p->open_count = 0;
	p->map_end_offset = 0;
}

void producers_free(struct producers *p)
{
	if (!p)
		return;
	producers_clear(p);
	free(p);
}

bool producers_is_empty(const struct producers *p)
{
	return !p->table;
}

int64_t producers_map_end(const struct producers *p)
{
	return p->map_end_offset;
}

void producers_set_map_end(struct producers *p, int64_t offset)
{
	p->map_end_offset = offset;
}

static struct producer *find(const struct producers *p, int64_t id)
{
	struct producer *x;
	HASH_FIND(hh, p->table, &id, sizeof id, x);
	return x;
}

static struct producer *find_or_add(struct producers *p, int64_t id)
{
	struct producer *x = find(p, id);
	if (x)
		return x;
	x = calloc(1, sizeof *x);
	if (!x)
		return NULL;
	x->id = id;
	x->epoch = -1;
	x->coordinator_epoch = -1;
	x->txn_first_offset = -1;
	HASH_ADD(hh, p->table, id, sizeof x->id, x);
	return x;
}

/* ---- open transactions ---- */

static void look_for_first(struct producers *p)
{
	struct producer *x, *next;
	p->first_unstable = -1;
	p->open_count = 0;
	HASH_ITER(hh, p->table, x, next) {
		if (x->txn_first_offset < 0)
			continue;
		p->open_count++;
		if (p->first_unstable < 0 || x->txn_first_offset < p->first_unstable)
			p->first_unstable = x->txn_first_offset;
	}
}

int64_t producers_first_unstable(const struct producers *p)
{
	return p->first_unstable;
}

static int by_first_offset(const void *a, const void *b)
{
	const struct open_txn *x = a, *y = b;
	return x->first_offset < y->first_offset ? -1 : x->first_offset > y->first_offset;
}

void producers_open_txns(const struct producers *p, void (*fn)(void *arg, const struct open_txn *t), void *arg)
{
	struct producer *x, *next;
	size_t n = 0;
	struct open_txn *list = p->open_count ? malloc(p->open_count * sizeof *list) : NULL;
	if (!list)
		return;
	HASH_ITER(hh, p->table, x, next)
		if (x->txn_first_offset >= 0 && n < p->open_count)
			list[n++] = (struct open_txn){x->id, x->txn_first_offset, x->epoch, x->coordinator_epoch};
	qsort(list, n, sizeof *list, by_first_offset);
	for (size_t i = 0; i < n; i++)
		fn(arg, &list[i]);
	free(list);
}

int64_t producers_greatest_id(const struct producers *p)
{
	struct producer *x, *next;
	int64_t greatest = -1;
	HASH_ITER(hh, p->table, x, next)
		if (x->id > greatest)
			greatest = x->id;
	return greatest;
}

/* ---- the log's batches ---- */

static void remember(struct producer *x, const struct batch *b)
{
	if (x->seen_count == WINDOW) {
		memmove(x->seen, x->seen + 1, (WINDOW - 1) * sizeof *x->seen);
		x->seen_count--;
	}
	/* sequences wrap at INT32_MAX */
	int64_t last = (int64_t)b->base_sequence + b->last_offset_delta;
	x->seen[x->seen_count++] = (struct batch_seen){
		.last_sequence = (int32_t)(last > INT32_MAX ? last - INT32_MAX - 1 : last),
		.offset_delta = b->last_offset_delta, .last_offset = batch_last_offset(b), .timestamp_ms = b->max_timestamp_ms};
}

/* A marker: ends the producer's open transaction. */
static int end_transaction(struct producers *p, struct producer *x, const struct batch *b, const void *bytes, struct aborted_txn *aborted, struct err *e)
{
	int32_t coordinator_epoch = -1;
	int type = batch_control_type(b, bytes, &coordinator_epoch, e);
	if (type == ERR_NOT_FOUND)
		return 0; /* emptied by compaction */
	if (type < 0 || type > 1)
		return type < 0 ? type : 0;
	if (x->epoch != b->producer_epoch) {
		x->epoch = b->producer_epoch;
		x->seen_count = 0;
	}
	x->coordinator_epoch = coordinator_epoch;
	x->last_timestamp_ms = b->max_timestamp_ms;
	int64_t first = x->txn_first_offset;
	x->txn_first_offset = -1;
	if (first < 0)
		return 0;
	look_for_first(p);
	if (type == 1)
		return 0;
	*aborted = (struct aborted_txn){x->id, first, batch_last_offset(b), p->first_unstable >= 0 ? p->first_unstable : batch_last_offset(b) + 1};
	return 1;
}

int producers_update(struct producers *p, const struct batch *b, const void *bytes, struct aborted_txn *aborted, struct err *e)
{
	int rc = 0;
	if (b->producer_id >= 0) {
		struct producer *x = find_or_add(p, b->producer_id);
		if (!x)
			return err_set(e, ERR_NO_MEMORY, "no memory for producer %" PRId64, b->producer_id);
		if (batch_is_control(b)) {
			rc = end_transaction(p, x, b, bytes, aborted, e);
			if (rc < 0)
				return rc;
		} else {
			if (x->epoch != b->producer_epoch) {
				x->epoch = b->producer_epoch;
				x->seen_count = 0;
			}
			remember(x, b);
			x->last_timestamp_ms = b->max_timestamp_ms;
			if (batch_is_transactional(b) && x->txn_first_offset < 0) {
				x->txn_first_offset = b->base_offset;
				p->open_count++;
				if (p->first_unstable < 0)
					p->first_unstable = b->base_offset;
			}
		}
	}
	if (batch_last_offset(b) + 1 > p->map_end_offset)
		p->map_end_offset = batch_last_offset(b) + 1;
	return rc;
}

/* ---- snapshots ---- */

static int load_entry(struct producers *p, struct rd *r, struct err *e)
{
	int64_t id = rd_i64(r);
	struct producer *x = find_or_add(p, id);
	if (!x)
		return err_set(e, ERR_NO_MEMORY, "no memory for producer %" PRId64, id);
	x->epoch = rd_i16(r);
	struct batch_seen last;
	last.last_sequence = rd_i32(r);
	last.last_offset = rd_i64(r);
	last.offset_delta = rd_i32(r);
	last.timestamp_ms = x->last_timestamp_ms = rd_i64(r);
	x->coordinator_epoch = rd_i32(r);
	x->txn_first_offset = rd_i64(r);
	x->seen_count = 0;
	if (last.last_offset >= 0)
		x->seen[x->seen_count++] = last;
	return 0;
}

int producers_load(struct producers *p, const char *path, int64_t snapshot_offset, struct err *e)
{
	char *bytes;
	size_t n;
	struct rd r;
	int sys = io_read_file(path, FILE_LIMIT, &bytes, &n);
	if (sys < 0)
		return err_sys(e, sys, "cannot read %s", path);
	int rc = 0;
	producers_clear(p);
	rd_init(&r, bytes, n);
	int16_t version = rd_i16(&r);
	uint32_t crc = rd_u32(&r);
	int32_t count = rd_i32(&r);
	if (r.failed || version != SNAPSHOT_VERSION || crc != crc32c(0, bytes + CRC_FROM, n - CRC_FROM) || count < 0 ||
	    rd_left(&r) != (size_t)count * SNAPSHOT_ENTRY_BYTES)
		rc = err_set(e, ERR_CORRUPT, "%s is damaged (version, checksum or size)", path);
	for (int32_t i = 0; i < count && rc == 0; i++)
		rc = load_entry(p, &r, e);
	free(bytes);
	if (rc < 0) {
		producers_clear(p);
		return rc;
	}
	look_for_first(p);
	p->map_end_offset = snapshot_offset;
	return 0;
}

int producers_write(const struct producers *p, const char *path, bool durable, struct err *e)
{
	struct wr w;
	struct producer *x, *next;
	wr_init(&w, 0);
	wr_i16(&w, SNAPSHOT_VERSION);
	wr_i32(&w, 0); /* the crc, below */
	wr_i32(&w, (int32_t)HASH_COUNT(p->table));
	HASH_ITER(hh, p->table, x, next) {
		static const struct batch_seen none = {.last_sequence = -1, .last_offset = -1};
		const struct batch_seen *last = x->seen_count ? &x->seen[x->seen_count - 1] : &none;
		wr_i64(&w, x->id);
		wr_i16(&w, x->epoch);
		wr_i32(&w, last->last_sequence);
		wr_i64(&w, last->last_offset);
		wr_i32(&w, last->offset_delta);
		wr_i64(&w, x->last_timestamp_ms);
		wr_i32(&w, x->coordinator_epoch);
		wr_i64(&w, x->txn_first_offset);
	}
	int rc = w.failed ? err_set(e, ERR_NO_MEMORY, "no memory for %s", path) : 0;
	if (rc == 0) {
		be32_put(w.data + 2, crc32c(0, w.data + CRC_FROM, w.len - CRC_FROM));
		int sys = io_replace_file(path, w.data, w.len, durable);
		if (sys < 0)
			rc = err_sys(e, sys, "cannot write %s", path);
	}
	wr_release(&w);
	return rc;
}

void producers_print(const struct producers *p, struct wr *text)
{
	struct producer *x, *next;
	HASH_ITER(hh, p->table, x, next) {
		const struct batch_seen *last = x->seen_count ? &x->seen[x->seen_count - 1] : NULL;
		wr_printf(text, "producer %" PRId64 " epoch %d", x->id, x->epoch);
		if (last)
			wr_printf(text, " last sequence %" PRId32 " last offset %" PRId64 " offset delta %" PRId32, last->last_sequence, last->last_offset, last->offset_delta);
		wr_printf(text, " timestamp %" PRId64 " coordinator epoch %" PRId32, x->last_timestamp_ms, x->coordinator_epoch);
		if (x->txn_first_offset >= 0)
			wr_printf(text, " open transaction from offset %" PRId64, x->txn_first_offset);
		wr_printf(text, "\n");
	}
}
