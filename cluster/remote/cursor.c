/*
 * A cursor reads a partition through Fetch. A sequential one has a connection of its own, and the next Fetch under way while it decodes what the last one brought; so its batches lie in that connection's memory, and are borrowed
 * until the next answer is received.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "cluster/remote/model.h"
#include "store/batch.h"

enum {
	FIRST_BYTES = 64 << 10, /* the first Fetch at a place, and twice as much each time */
	ONE_MS = 500,           /* how long a broker may hold back what it says it has */
};

struct remote_cursor {
	struct remote *r;
	struct partition *p;       /* borrowed */
	uint32_t cuts;             /* partition.cuts when it was placed */
	bool placed;
	bool in_order;             /* of a compacted partition: positions count for nothing */
	int64_t position;          /* of the next byte to be given */
	int64_t offset;            /* of what comes behind the batches at hand */
	int64_t skip_below;        /* records before that are not given */
	size_t skip_bytes;         /* nor so much of the first that is */

	struct client *client;     /* NULL: none. Whatever it was asked for is its alone */
	int32_t broker;
	bool sent;                 /* a Fetch of sent_offset, which is not received yet */
	int64_t sent_offset;
	uint32_t max_bytes;        /* of the next */

	const uint8_t *at, *end;   /* batches, in the client's memory */
	const struct fetch_response_aborted_transaction *aborted; /* likewise, by first offset */
	int32_t aborted_count;
	int64_t *aborting;         /* producers whose transaction, open at this batch, was aborted; owned */
	size_t aborting_count, aborting_room;

	const uint8_t *p_record, *records_end; /* of the batch that is decoded: in `at`'s memory, or in area */
	int64_t batch_offset;      /* its first */
	size_t given;              /* bytes of the first record's view that were given */
	struct wr area;
};

struct remote_cursor *remote_cursor_new(struct remote *r, struct partition *p)
{
	struct remote_cursor *c = calloc(1, sizeof *c);
	if (!c)
		return NULL;
	c->r = r;
	c->p = p;
	c->max_bytes = FIRST_BYTES;
	wr_init(&c->area, 0);
	return c;
}

static void forget_bytes(struct remote_cursor *c)
{
	c->at = c->end = c->p_record = c->records_end = NULL;
	c->aborted_count = 0;
	c->aborting_count = 0;
	c->given = 0;
}

/* Nothing that it holds is borrowed any more, and the connection is somebody else's. */
static void let_go(struct remote_cursor *c, bool good)
{
	forget_bytes(c);
	if (c->client)
		remote_give(c->r, c->broker, c->client, good && !c->sent);
	c->client = NULL;
	c->sent = false;
}

void remote_cursor_rest(struct remote_cursor *c)
{
	bool between = c->p_record == c->records_end && c->at == c->end && !c->given; /* it may go on from there */
	let_go(c, true);
	wr_release(&c->area);
	c->max_bytes = FIRST_BYTES;
	c->placed = c->placed && (between || c->in_order);
}

void remote_cursor_free(struct remote_cursor *c)
{
	if (!c)
		return;
	let_go(c, true);
	wr_release(&c->area);
	free(c->aborting);
	free(c);
}

/* ---- what a broker is asked ---- */

static int send_fetch(struct remote_cursor *c, int32_t epoch, struct err *e)
{
	struct fetch_request_partition part;
	struct fetch_request_topic topic;
	struct fetch_request q;
	wire_init(&wire_fetch_request_partition, &part);
	part.partition = partition_index(c->p);
	part.current_leader_epoch = epoch;
	part.fetch_offset = c->offset;
	part.partition_max_bytes = (int32_t)c->max_bytes;
	wire_init(&wire_fetch_request_topic, &topic);
	topic.topic_id = remote_topic_id(c->p);
	topic.partitions.v = &part;
	topic.partitions.n = 1;
	wire_init(&wire_fetch_request, &q);
	q.max_wait_ms = ONE_MS;
	q.min_bytes = 0;
	q.max_bytes = (int32_t)c->max_bytes;
	q.isolation_level = 1;
	q.session_epoch = -1;
	q.topics.v = &topic;
	q.topics.n = 1;
	int rc = client_send(c->client, API_FETCH, -1, &q, e);
	if (rc < 0)
		return rc;
	c->sent = true;
	c->sent_offset = c->offset;
	c->max_bytes = c->max_bytes < c->r->fetch_bytes / 2 ? c->max_bytes * 2 : c->r->fetch_bytes;
	return 0;
}

/* The end of the whole batches among n bytes, and the offset behind the last. */
static const uint8_t *whole_batches(const uint8_t *p, size_t n, int64_t *next)
{
	const uint8_t *end = p + n;
	struct batch b;
	while (end - p >= BATCH_HEADER_BYTES && batch_decode(&b, p, (size_t)(end - p), INT32_MAX, NULL) == 0 && b.size_bytes <= (size_t)(end - p)) {
		*next = batch_last_offset(&b) + 1;
		p += b.size_bytes;
	}
	return p;
}

/* 1: there are bytes; 0: there are none just now; an error of ours, after which somebody else may know better; ERR_OUT_OF_RANGE: the log starts behind it. */
static int take_fetch(struct remote_cursor *c, struct err *e)
{
	struct fetch_response r;
	struct visible v;
	client_set_timeout(c->client, FETCH_MS);
	forget_bytes(c);
	int rc = client_receive(c->client, API_FETCH, &r, e);
	c->sent = false;
	if (rc < 0)
		return rc;
	if (r.error_code || r.responses.n != 1 || r.responses.v[0].partitions.n != 1)
		return err_set(e, ERR_OFFLINE, "broker %" PRId32 " answers a Fetch with %s", c->broker, r.error_code ? kafka_error_name(r.error_code) : "what was not asked for");
	const struct fetch_response_partition *a = &r.responses.v[0].partitions.v[0];
	if (a->error_code == KAFKA_OFFSET_OUT_OF_RANGE && c->offset < a->log_start_offset)
		return err_set(e, ERR_OUT_OF_RANGE, "%s-%" PRId32 ": offset %" PRId64 " was deleted, the log starts at %" PRId64, partition_topic_name(c->p), partition_index(c->p), c->offset, a->log_start_offset);
	if (a->error_code)
		return err_set(e, ERR_OFFLINE, "broker %" PRId32 " answers a Fetch with %s", c->broker, kafka_error_name(a->error_code));
	if (a->records.n <= 0)
		return 0;
	int64_t next = c->offset;
	c->at = a->records.p;
	c->end = whole_batches(a->records.p, (size_t)a->records.n, &next);
	if (c->end == c->at)
		return err_set(e, ERR_CORRUPT, "broker %" PRId32 " answers a Fetch with what is no batch", c->broker);
	c->aborted = a->aborted_transactions.v;
	c->aborted_count = a->aborted_transactions.n > 0 ? a->aborted_transactions.n : 0;
	c->offset = next;
	if (next < a->last_stable_offset && !(remote_known(c->p->elsewhere, &v) && v.sequential && !c->in_order) && send_fetch(c, -1, &(struct err){0}) < 0)
		c->sent = false; /* it is noticed when more is wanted */
	return 1;
}

/* Asks one broker. */
static int fetch_from(struct remote_cursor *c, struct turn *t, struct err *e)
{
	bool again = c->client && !c->sent; /* it has been idle: a broken one is not the broker's fault */
	for (;;) {
		int rc = 0;
		if (c->client && c->broker != t->id)
			let_go(c, true);
		if (!c->client) {
			c->broker = t->id;
			rc = remote_take(c->r, t->id, true, &c->client, e);
			if (rc < 0)
				c->client = NULL;
		}
		if (rc == 0 && !c->sent)
			rc = send_fetch(c, t->epoch, e);
		if (rc == 0)
			rc = take_fetch(c, e);
		if (rc == ERR_TIMED_OUT)
			remote_missed(c->r, t->id, rc, e);
		if (rc < 0)
			let_go(c, rc == ERR_OUT_OF_RANGE);
		if (rc != ERR_OFFLINE || !again)
			return rc;
		again = false;
	}
}

/* Bytes from wherever they can be had. 0: nobody has any, and nothing more is visible. must: something is known to be there. */
static int fetch(struct remote_cursor *c, bool must, struct err *e)
{
	struct turn t;
	if (c->sent && c->sent_offset == c->offset) { /* it is on its way */
		struct err why = ERR_INIT;
		int rc = take_fetch(c, &why);
		if (rc == 1)
			return 1;
		let_go(c, rc == 0);
	}
	remote_turn(&t, c->r, c->p, c->r->read_ms);
	for (;;) {
		int rc = remote_next(&t, !must, e);
		if (rc < 0)
			return rc == ERR_OFFLINE && !must ? 0 : rc;
		rc = fetch_from(c, &t, &t.why);
		if (rc == 1 || (rc == 0 && !must && t.epoch >= 0))
			return rc;
		if (rc == ERR_OUT_OF_RANGE)
			return err_set(e, rc, "%s", t.why.text);
		if (rc == 0)
			err_set(&t.why, ERR_NOT_YET, "broker %" PRId32 " does not have offset %" PRId64 " yet", t.id, c->offset);
	}
}

/* ---- a place ---- */

/* By position. 1; 0: it is the end. */
static int place(struct remote_cursor *c, int64_t position, struct err *e)
{
	struct view_lookup_response_partition a;
	struct turn t;
	let_go(c, true);
	c->placed = false;
	c->cuts = partition_cuts(c->p);
	remote_turn(&t, c->r, c->p, c->r->read_ms);
	for (;;) {
		int rc = remote_next(&t, false, e);
		if (rc < 0)
			return rc;
		rc = remote_ask(&t, -1, position, &a, &t.why);
		if (rc < 0)
			continue;
		if (a.error_code && a.error_code != KAFKA_OFFSET_OUT_OF_RANGE) {
			err_set(&t.why, ERR_OFFLINE, "broker %" PRId32 " answers %s", t.id, kafka_error_name(a.error_code));
			continue;
		}
		remote_note(c->p, &a, t.shown);
		if (a.sequential)
			return err_set(e, ERR_OUT_OF_RANGE, "topic %s is compacted: its files have no positions", partition_topic_name(c->p));
		if (position < a.start_position)
			return err_set(e, ERR_OUT_OF_RANGE, "%s-%" PRId32 ": position %" PRId64 " is before the log start, position %" PRId64, partition_topic_name(c->p), partition_index(c->p), position, a.start_position);
		if (!a.error_code)
			break;
		err_set(&t.why, ERR_NOT_YET, "broker %" PRId32 " does not have position %" PRId64 " yet", t.id, position); /* it is known to be there */
	}
	c->offset = c->skip_below = a.offset;
	c->skip_bytes = (size_t)(position - a.position);
	c->position = position;
	c->max_bytes = FIRST_BYTES;
	c->placed = true;
	return 0;
}

/* At the log's start, by offset. */
static int place_at_start(struct remote_cursor *c, struct err *e)
{
	struct visible v;
	int rc = remote_look(c->r, c->p, &v, e);
	if (rc < 0)
		return rc;
	c->cuts = partition_cuts(c->p);
	c->offset = c->skip_below = v.start_offset;
	c->in_order = c->placed = true;
	return 0;
}

/* ---- batches ---- */

static bool abort_producer(struct remote_cursor *c, int64_t id)
{
	if (c->aborting_count == c->aborting_room) {
		size_t n = c->aborting_room ? 2 * c->aborting_room : 8;
		int64_t *more = realloc(c->aborting, n * sizeof *more);
		if (!more)
			return false;
		c->aborting = more;
		c->aborting_room = n;
	}
	c->aborting[c->aborting_count++] = id;
	return true;
}

/* Whether the batch counts for nothing, by the transactions that are aborted up to it: as Kafka's consumer finds out. < 0: no memory. */
static int is_aborted(struct remote_cursor *c, const struct batch *b, struct err *e)
{
	while (c->aborted_count && c->aborted->first_offset <= batch_last_offset(b)) {
		if (!abort_producer(c, c->aborted->producer_id))
			return err_set(e, ERR_NO_MEMORY, "no memory for aborted transactions");
		c->aborted++;
		c->aborted_count--;
	}
	for (size_t i = 0; i < c->aborting_count; i++) {
		if (c->aborting[i] != b->producer_id)
			continue;
		if (!batch_is_control(b))
			return batch_is_transactional(b);
		c->aborting[i] = c->aborting[--c->aborting_count]; /* its marker */
		return 1;
	}
	return batch_is_control(b);
}

/* Moves on to the first record that is wanted. */
static int skip_records(struct remote_cursor *c, const struct batch *b, const uint8_t *area, size_t n, struct err *e)
{
	struct record_iter it;
	struct record r;
	int rc;
	record_iter_init(&it, b, area, n);
	while ((rc = record_next(&it, &r, e)) == 1 && r.offset < c->skip_below)
		;
	if (rc < 0)
		return rc;
	c->p_record = rc ? area + r.at : area + n;
	return 0;
}

/* Steps into the next batch at hand. */
static int enter(struct remote_cursor *c, struct err *e)
{
	struct batch b;
	const uint8_t *bytes = c->at, *area;
	size_t n;
	int rc = batch_decode(&b, bytes, (size_t)(c->end - bytes), INT32_MAX, e);
	if (rc == 0 && !batch_crc_matches(&b, bytes))
		rc = err_set(e, ERR_CORRUPT, "the batch at offset %" PRId64 " does not match its crc", b.base_offset);
	if (rc == 0)
		rc = is_aborted(c, &b, e);
	if (rc < 0)
		return rc;
	c->at += b.size_bytes;
	c->batch_offset = b.base_offset;
	c->p_record = c->records_end = NULL;
	if (rc || batch_last_offset(&b) < c->skip_below)
		return 0;
	rc = batch_records(&b, bytes, &c->area, &area, &n, e);
	if (rc < 0)
		return rc;
	c->p_record = area;
	c->records_end = area + n;
	rc = b.base_offset < c->skip_below ? skip_records(c, &b, area, n, e) : 0;
	if (rc == 0 && c->p_record < c->records_end) {
		c->given = c->skip_bytes;
		c->skip_bytes = 0;
		c->skip_below = 0;
	}
	return rc;
}

/* Of the batch that is decoded. 0: its records have no more. */
static ssize_t give(struct remote_cursor *c, uint8_t *out, size_t room, struct err *e)
{
	const uint8_t *before = c->p_record;
	ssize_t n = c->given ? 0 : batch_project(&c->p_record, c->records_end, out, room);
	if (n == 0 && c->p_record == before && before < c->records_end)
		n = batch_project_piece(&c->p_record, c->records_end, &c->given, out, room);
	return n < 0 ? err_set(e, ERR_CORRUPT, "a record in the batch at offset %" PRId64 " does not decode", c->batch_offset) : n;
}

/* What is at hand. */
static ssize_t give_all(struct remote_cursor *c, uint8_t *out, size_t n, struct err *e)
{
	size_t done = 0;
	ssize_t got = 0;
	while (done < n && got >= 0) {
		if (c->p_record < c->records_end)
			got = give(c, out + done, n - done, e);
		else if (c->at < c->end)
			got = enter(c, e);
		else
			break;
		if (got > 0)
			done += (size_t)got;
	}
	c->position += (int64_t)done;
	if (got == ERR_CORRUPT)
		err_context(e, "%s-%" PRId32 ", from broker %" PRId32, partition_topic_name(c->p), partition_index(c->p), c->broker);
	return done ? (ssize_t)done : got < 0 ? got : 0;
}

static bool has_bytes(const struct remote_cursor *c)
{
	return c->p_record < c->records_end || c->at < c->end;
}

/* Reads on, what there is; 0 only at the end. */
static ssize_t read_on(struct remote_cursor *c, uint8_t *buf, size_t n, struct err *e)
{
	for (;;) {
		struct visible v = {0};
		ssize_t got = give_all(c, buf, n, e);
		if (got < 0) {
			let_go(c, true);
			c->placed = false;
		}
		if (got)
			return got;
		remote_known(c->p->elsewhere, &v);
		bool must = c->in_order ? c->offset < v.end_offset : c->position < v.end_position;
		int rc = fetch(c, must, e);
		if (rc == 0)
			let_go(c, true); /* who waits at the end holds no connection */
		if (rc < 0)
			c->placed = false;
		if (rc != 1)
			return rc;
	}
}

static int check_cuts(const struct remote_cursor *c, struct err *e)
{
	return c->cuts == partition_cuts(c->p) ? 0 : err_set(e, ERR_CORRUPT, "%s-%" PRId32 ": what was read here is not in the log of its leader any more", partition_topic_name(c->p), partition_index(c->p));
}

ssize_t remote_cursor_read(struct remote_cursor *c, int64_t position, void *buf, size_t n, struct err *e)
{
	struct visible v;
	if (n == 0)
		return 0;
	if (!remote_view_of(c->p))
		return err_set(e, ERR_NO_MEMORY, "no memory for what other brokers have");
	int rc = c->placed ? check_cuts(c, e) : 0;
	if (rc == 0 && remote_known(c->p->elsewhere, &v) && position >= v.end_position && (rc = remote_look(c->r, c->p, &v, e)) == 0 && position >= v.end_position)
		return 0;
	if (rc == 0 && (!c->placed || c->in_order || position != c->position))
		rc = place(c, position, e);
	if (rc < 0)
		return rc;
	ssize_t got = read_on(c, buf, n, e);
	if (got > 0 && !has_bytes(c) && !c->given)
		remote_saw(c->p, c->offset, c->position);
	return got;
}

ssize_t remote_cursor_read_on(struct remote_cursor *c, void *buf, size_t n, struct err *e)
{
	if (!remote_view_of(c->p))
		return err_set(e, ERR_NO_MEMORY, "no memory for what other brokers have");
	int rc = c->placed ? check_cuts(c, e) : place_at_start(c, e);
	return rc < 0 ? rc : read_on(c, buf, n, e);
}

int64_t remote_cursor_offset(const struct remote_cursor *c)
{
	return has_bytes(c) ? c->batch_offset : c->offset;
}
