#include "store/producers.h"

#include <inttypes.h>
#include <stdlib.h>
#define HASH_NONFATAL_OOM 1
#include <uthash.h>
#include <utlist.h>

#include "store/buf.h"
#include "store/io.h"

enum { WINDOW = 5, SNAPSHOT_VERSION = 1, SNAPSHOT_HEAD_BYTES = 10, SNAPSHOT_ENTRY_BYTES = 46, CRC_FROM = 6, FILE_LIMIT = 1 << 30 };

struct batch_seen { int32_t last_sequence, offset_delta; int64_t last_offset, timestamp_ms; };

struct producer {
	int64_t id;
	int16_t epoch;
	int32_t coordinator_epoch;    /* of its last marker; -1 */
	int64_t last_timestamp_ms;
	int64_t noted_ms;             /* its expiration counts from here */
	int64_t txn_first_offset;     /* of the open transaction; -1 */
	uint32_t seen_count;
	bool more_in_log;             /* a snapshot had the last batch alone: those before it can be looked for */
	struct batch_seen seen[WINDOW]; /* oldest first */
	struct producer *prev, *next;   /* in the list of open transactions, while it has one */
	UT_hash_handle hh;
};

struct producers {
	struct producer *table;       /* in the order of their first batch, or of the snapshot */
	struct producer *open;        /* those with an open transaction, by its first offset */
	int64_t map_end_offset;
	int64_t now_ms;
};

struct producers *producers_new(void)
{
	return calloc(1, sizeof(struct producers));
}

void producers_clear(struct producers *p)
{
	struct producer *x, *next;
	HASH_ITER(hh, p->table, x, next) {
		HASH_DEL(p->table, x);
		free(x);
	}
	p->open = NULL;
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

void producers_set_now(struct producers *p, int64_t now_ms)
{
	p->now_ms = now_ms;
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

/* Takes x; without memory it is freed, and false returned. */
static bool add(struct producers *p, struct producer *x)
{
	HASH_ADD(hh, p->table, id, sizeof x->id, x);
	bool added = x->hh.tbl;
	if (!added)
		free(x);
	return added;
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
	x->last_timestamp_ms = x->noted_ms = -1;
	x->txn_first_offset = -1;
	return add(p, x) ? x : NULL;
}

bool producers_reserve(struct producers *p, int64_t producer_id)
{
	return find_or_add(p, producer_id) != NULL;
}

void producers_unreserve(struct producers *p, int64_t producer_id)
{
	struct producer *x = find(p, producer_id);
	if (!x || x->epoch >= 0 || x->seen_count || x->txn_first_offset >= 0)
		return;
	HASH_DEL(p->table, x);
	free(x);
}

struct producers *producers_copy(const struct producers *p)
{
	struct producers *copy = producers_new();
	struct producer *x, *next;
	if (!copy)
		return NULL;
	HASH_ITER(hh, p->table, x, next) {
		struct producer *y = malloc(sizeof *y);
		if (y)
			*y = *x;
		if (!y || !add(copy, y)) {
			producers_free(copy);
			return NULL;
		}
	}
	DL_FOREACH(p->open, x) {
		struct producer *y = find(copy, x->id);
		DL_APPEND(copy->open, y);
	}
	copy->map_end_offset = p->map_end_offset;
	copy->now_ms = p->now_ms;
	return copy;
}

/* ---- open transactions ---- */

static void begin_transaction(struct producers *p, struct producer *x, int64_t first_offset)
{
	struct producer *before = p->open ? p->open->prev : NULL; /* the head's prev is the last */
	x->txn_first_offset = first_offset;
	while (before && before->txn_first_offset > first_offset)
		before = before == p->open ? NULL : before->prev;
	DL_APPEND_ELEM(p->open, before, x);
}

static void close_transaction(struct producers *p, struct producer *x)
{
	DL_DELETE(p->open, x);
	x->txn_first_offset = -1;
}

int64_t producers_first_unstable(const struct producers *p)
{
	return p->open ? p->open->txn_first_offset : -1;
}

void producers_open_txns(const struct producers *p, void (*fn)(void *arg, const struct open_txn *t), void *arg)
{
	struct producer *x;
	DL_FOREACH(p->open, x)
		fn(arg, &(struct open_txn){x->id, x->txn_first_offset, x->epoch, x->coordinator_epoch});
}

bool producers_last(const struct producers *p, int64_t id, struct producer_last *last)
{
	const struct producer *x = find(p, id);
	if (!x)
		return false;
	*last = (struct producer_last){x->seen_count ? x->seen[x->seen_count - 1].last_offset : -1, x->epoch};
	return true;
}

void producers_end_txn(struct producers *p, int64_t id)
{
	struct producer *x = find(p, id);
	if (x && x->txn_first_offset >= 0)
		close_transaction(p, x);
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

static void set_epoch(struct producer *x, int16_t epoch)
{
	if (x->epoch != epoch) {
		x->seen_count = 0;
		x->more_in_log = false;
	}
	x->epoch = epoch;
}

static void note_time(const struct producers *p, struct producer *x, int64_t timestamp_ms)
{
	x->last_timestamp_ms = timestamp_ms;
	x->noted_ms = timestamp_ms > p->now_ms ? timestamp_ms : p->now_ms;
}

static void add_data(struct producers *p, struct producer *x, const struct batch *b)
{
	set_epoch(x, b->producer_epoch);
	if (x->seen_count == WINDOW) {
		memmove(x->seen, x->seen + 1, (WINDOW - 1) * sizeof *x->seen);
		x->seen_count--;
	}
	x->seen[x->seen_count++] = (struct batch_seen){batch_last_sequence(b), b->last_offset_delta, batch_last_offset(b), b->max_timestamp_ms};
	x->more_in_log &= x->seen_count < WINDOW;
	note_time(p, x, b->max_timestamp_ms);
	if (batch_is_transactional(b) && x->txn_first_offset < 0)
		begin_transaction(p, x, b->base_offset);
}

/* A marker ends the open transaction, if there is one. It may carry a newer epoch than the data (KIP-890), and so may be all that is known of it. */
static int end_transaction(struct producers *p, struct producer *x, const struct batch *b, bool aborts, int32_t coordinator_epoch, struct aborted_txn *aborted)
{
	int64_t first = x->txn_first_offset, last = batch_last_offset(b);
	set_epoch(x, b->producer_epoch);
	x->coordinator_epoch = coordinator_epoch;
	note_time(p, x, b->max_timestamp_ms);
	if (first < 0)
		return 0;
	close_transaction(p, x);
	if (aborts)
		*aborted = (struct aborted_txn){x->id, first, last, p->open ? p->open->txn_first_offset : last + 1};
	return aborts;
}

int producers_update(struct producers *p, const struct batch *b, const void *bytes, struct aborted_txn *aborted, struct err *e)
{
	struct err why = ERR_INIT;
	int32_t coordinator_epoch = -1;
	int type = -1, rc = 0;
	if (b->producer_id >= 0 && batch_is_control(b)) {
		type = batch_control_type(b, bytes, &coordinator_epoch, &why);
		if (type < 0 && type != ERR_NOT_FOUND)
			return err_set(e, type, "%s", why.text);
	}
	if (b->producer_id >= 0 && type <= 1) {
		struct producer *x = find_or_add(p, b->producer_id);
		if (!x)
			return err_set(e, ERR_NO_MEMORY, "no memory for producer %" PRId64, b->producer_id);
		if (!batch_is_control(b))
			add_data(p, x, b);
		else if (type >= 0)
			rc = end_transaction(p, x, b, type == 0, coordinator_epoch, aborted);
		else if (x->txn_first_offset >= 0) /* emptied by compaction: none of the transaction's batches is left, but a snapshot of an earlier offset has it open */
			close_transaction(p, x);
	}
	if (batch_last_offset(b) + 1 > p->map_end_offset)
		p->map_end_offset = batch_last_offset(b) + 1;
	return rc;
}

/* ---- what a producer sends ---- */

static int32_t first_sequence(const struct batch_seen *s)
{
	int64_t first = (int64_t)s->last_sequence - s->offset_delta;
	return (int32_t)(first < 0 ? first + INT32_MAX + 1 : first);
}

static struct producer_batch batch_of(const struct batch_seen *s)
{
	return (struct producer_batch){first_sequence(s), s->last_sequence, s->last_offset - s->offset_delta, s->last_offset, s->timestamp_ms};
}

static bool find_duplicate(const struct producer *x, const struct batch *b, struct producer_batch *known)
{
	for (uint32_t i = 0; x->epoch == b->producer_epoch && i < x->seen_count; i++) {
		if (x->seen[i].last_sequence != batch_last_sequence(b) || first_sequence(&x->seen[i]) != b->base_sequence)
			continue;
		*known = batch_of(&x->seen[i]);
		return true;
	}
	return false;
}

static bool follows(int32_t last, int32_t next)
{
	return next == (int64_t)last + 1 || (next == 0 && last == INT32_MAX);
}

static int check_sequence(const struct producer *x, const struct batch *b, struct err *e)
{
	if (b->producer_epoch != x->epoch) {
		if (b->base_sequence == 0 || x->epoch < 0)
			return PRODUCER_NEXT;
		return err_set(e, ERR_SEQUENCE, "producer %" PRId64 ": epoch %d after %d begins with sequence %" PRId32 ", not 0", x->id, b->producer_epoch, x->epoch, b->base_sequence);
	}
	int32_t last = x->seen_count ? x->seen[x->seen_count - 1].last_sequence : -1;
	if (x->epoch < 0 || follows(last, b->base_sequence))
		return PRODUCER_NEXT;
	if (x->more_in_log)
		return PRODUCER_UNSURE;
	return err_set(e, ERR_SEQUENCE, "producer %" PRId64 ", epoch %d: sequence %" PRId32 " comes after %" PRId32, x->id, x->epoch, b->base_sequence, last);
}

int producers_check(const struct producers *p, const struct batch *b, bool in_transaction, struct producer_batch *known, struct err *e)
{
	const struct producer *x = find(p, b->producer_id);
	bool transactional = batch_is_transactional(b), open = x && x->txn_first_offset >= 0;
	if (x && find_duplicate(x, b, known))
		return PRODUCER_DUPLICATE;
	int16_t epoch = x ? x->epoch : -1;
	if (b->producer_epoch < epoch)
		return err_set(e, ERR_PRODUCER_FENCED, "producer %" PRId64 ": epoch %d is over, it is at %d", b->producer_id, b->producer_epoch, epoch);
	if (transactional && !in_transaction && !(open && x->epoch == b->producer_epoch))
		return err_set(e, ERR_TXN_STATE, "producer %" PRId64 ": its batch is of no open transaction", b->producer_id);
	int rc = x ? check_sequence(x, b, e) : PRODUCER_NEXT;
	if (rc == PRODUCER_NEXT && open && !transactional)
		return err_set(e, ERR_TXN_STATE, "producer %" PRId64 " has an open transaction, and its batch is not of it", x->id);
	return rc;
}

bool producers_oldest(const struct producers *p, int64_t producer_id, int16_t *epoch, struct producer_batch *oldest)
{
	const struct producer *x = find(p, producer_id);
	if (!x || !x->seen_count)
		return false;
	*epoch = x->epoch;
	*oldest = batch_of(&x->seen[0]);
	return true;
}

void producers_recall(struct producers *p, int64_t producer_id, const struct producer_batch *b, uint32_t n)
{
	struct producer *x = find(p, producer_id);
	if (!x)
		return;
	x->more_in_log = false;
	while (n && x->seen_count && b[n - 1].last_offset >= x->seen[0].last_offset)
		n--;
	for (; n && x->seen_count < WINDOW; n--) {
		memmove(x->seen + 1, x->seen, x->seen_count * sizeof *x->seen);
		x->seen[0] = (struct batch_seen){b[n - 1].last_sequence, (int32_t)(b[n - 1].last_offset - b[n - 1].first_offset), b[n - 1].last_offset, b[n - 1].timestamp_ms};
		x->seen_count++;
	}
}

size_t producers_expire(struct producers *p, int64_t now_ms, int64_t expiration_ms)
{
	struct producer *x, *next;
	size_t n = 0;
	HASH_ITER(hh, p->table, x, next) {
		int64_t age;
		if (x->txn_first_offset >= 0 || (!__builtin_sub_overflow(now_ms, x->noted_ms, &age) && age < expiration_ms))
			continue;
		HASH_DEL(p->table, x);
		free(x);
		n++;
	}
	return n;
}

size_t producers_count(const struct producers *p)
{
	return HASH_COUNT(p->table);
}

void producers_list(const struct producers *p, void (*fn)(void *arg, const struct producer_state *s), void *arg)
{
	struct producer *x, *next;
	HASH_ITER(hh, p->table, x, next)
		fn(arg, &(struct producer_state){x->id, x->last_timestamp_ms, x->txn_first_offset, x->seen_count ? x->seen[x->seen_count - 1].last_sequence : -1, x->coordinator_epoch, x->epoch});
}

/* ---- snapshots ---- */

static int load_entry(struct producers *p, struct rd *r, struct err *e)
{
	struct batch_seen last;
	int64_t id = rd_i64(r);
	struct producer *x = find_or_add(p, id);
	if (!x)
		return err_set(e, ERR_NO_MEMORY, "no memory for producer %" PRId64, id);
	if (x->txn_first_offset >= 0) /* a second entry of that id: the last one counts */
		close_transaction(p, x);
	x->epoch = rd_i16(r);
	last.last_sequence = rd_i32(r);
	last.last_offset = rd_i64(r);
	last.offset_delta = rd_i32(r);
	last.timestamp_ms = x->last_timestamp_ms = x->noted_ms = rd_i64(r);
	x->coordinator_epoch = rd_i32(r);
	int64_t first_offset = rd_i64(r);
	x->seen[0] = last;
	x->seen_count = x->more_in_log = last.last_offset >= 0;
	if (first_offset >= 0) {
		x->txn_first_offset = first_offset;
		DL_APPEND(p->open, x); /* sorted when all are there */
	}
	return 0;
}

static int by_first_offset(const struct producer *x, const struct producer *y)
{
	return x->txn_first_offset < y->txn_first_offset ? -1 : x->txn_first_offset > y->txn_first_offset;
}

int producers_load(struct producers *p, const char *path, int64_t snapshot_offset, struct err *e)
{
	char *bytes;
	size_t n;
	struct rd r;
	producers_clear(p);
	int sys = io_read_file(path, FILE_LIMIT, &bytes, &n), rc = 0;
	if (sys < 0)
		return err_sys(e, sys, "cannot read %s", path);
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
	DL_SORT(p->open, by_first_offset);
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
		static const struct batch_seen none = {.last_sequence = -1, .last_offset = -1, .timestamp_ms = -1};
		const struct batch_seen *last = x->seen_count ? &x->seen[x->seen_count - 1] : &none;
		wr_i64(&w, x->id);
		wr_i16(&w, x->epoch);
		wr_i32(&w, last->last_sequence);
		wr_i64(&w, last->last_offset);
		wr_i32(&w, last->offset_delta);
		wr_i64(&w, x->noted_ms);
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
		wr_printf(text, "producer %" PRId64 " epoch %d", x->id, x->epoch);
		for (uint32_t i = x->seen_count; i-- > 0;) {
			const struct batch_seen *b = &x->seen[i];
			bool last = i + 1 == x->seen_count;
			wr_printf(text, last ? " last sequence %" PRId32 " last offset %" PRId64 " offset delta %" PRId32 : ", before it %" PRId32 " %" PRId64 " %" PRId32,
				  b->last_sequence, b->last_offset, b->offset_delta);
		}
		wr_printf(text, "%s timestamp %" PRId64 " coordinator epoch %" PRId32, x->seen_count > 1 ? "," : "", x->last_timestamp_ms, x->coordinator_epoch);
		if (x->txn_first_offset >= 0)
			wr_printf(text, " open transaction from offset %" PRId64, x->txn_first_offset);
		wr_printf(text, "\n");
	}
}
