#include "fs/writer.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/broker.h"
#include "cluster/deliver/deliver.h"
#include "cluster/topics.h"
#include "fs/lines.h"
#include "fs/ops.h"
#include "store/clock.h"
#include "store/conf.h"
#include "store/diag.h"
#include "store/pool.h"

enum {
	GATHER_BYTES = 64 << 10,  /* no more gathers, however long linger.ms is */
	JOIN_BYTES = 64 << 10,    /* an unfinished line and what completes it become one batch up to this, else two: copying costs more than a batch */
	KEEP_BYTES = 64 << 10,    /* of text that a spare operation keeps */
	TRIM_MS = 1000,
};

enum op_kind { OP_WRITE, OP_FLUSH, OP_FSYNC, OP_GATHERED, OP_END };
enum stage { STAGE_BUILD, STAGE_APPEND, STAGE_SYNC, STAGE_FINISH };

/* How a stage that may end on another thread is handed over: who sets the second of these drives on. */
enum { STAGE_DONE = 1, STAGE_LEFT = 2 };

struct write_op {
	struct delivery delivery;
	struct flush flush;
	struct pool_job sync_job; /* what waits for another leader */
	struct parked parked;     /* its request; where there is one */
	struct record_set set;
	struct write_op *next;    /* in the writer's queue, or in the lot's list of spare ones */
	struct writer *w;
	enum op_kind kind;
	enum stage stage;
	_Atomic unsigned handed;
	_Atomic bool appending;   /* the delivery was begun: it may be taken back */
	_Atomic bool interrupted; /* whoever waits for it would rather not */
	bool has_request, is_parked;
	bool uses;                /* the partition is acquired for its flush */
	bool counted;             /* among the lot's unanswered; under its lock */
	bool was_refused;         /* of a FLUSH or FSYNC: a line was too large, part of which had been taken, or which ends here */
	uint64_t owner;
	size_t count;             /* of a WRITE: the bytes it takes */
	struct line *line;        /* its text is in the set */
	struct line *rest_line;   /* where `rest` goes */
	bool takes_gathered;      /* what has gathered is in the set */
	struct wr text;           /* of a WRITE that waits in the queue: its bytes */
	struct wr rest;           /* of a WRITE: the unfinished line behind its last newline */
	struct err err;           /* code 0: done */
};

struct writer {
	struct writers *ws;       /* borrowed */
	struct partition *p;      /* borrowed, acquired */
	struct topic *topic;      /* borrowed: p's */
	bool sync;
	pthread_mutex_t lock;
	struct write_op *current; /* under way. Who drives it has what follows to itself */
	struct write_op *first, **last; /* waiting for their turn; under the lock, as current */

	struct line *lines;
	struct wr gathered;       /* complete lines, under linger.ms */
	int late;                 /* the code of a failed append of gathered lines that nobody was told of */
	struct batch_style style;
	enum acks acks;
	int64_t linger_ms;
	uint32_t conf_generation; /* of these three */

	struct timer timer;       /* linger.ms */
	struct pool_job job;      /* what the timer gives to the pool */
	bool job_given, ending;   /* under the lock */
	_Atomic int refs;         /* the handle, its operations, a job that was given */
	void (*gone)(void *arg);
	void *gone_arg;
};

static void trim(struct timer *t, void *arg);
static void linger_over(struct timer *t, void *arg);
static void append_gathered(struct pool_job *job);
static void append_done(struct delivery *d);
static void flush_done(struct flush *f);
static void sync_elsewhere(struct pool_job *job);
static void on_interrupted(struct parked *p);
static void on_expired(struct parked *p);
static void recycle(struct parked *p);

/* ---- what all writers share ---- */

void writers_init(struct writers *ws, struct broker *b, struct deliver *dl, const struct conf *conf)
{
	*ws = (struct writers){.pool = broker_pool(b), .timers = broker_timers(b), .deliver = dl, .timer.fire = trim, .timer.arg = ws};
	parking_init(&ws->parking, ws->timers, conf_int(conf, "delivery.timeout.ms"));
	pthread_mutex_init(&ws->lock, NULL);
	pthread_cond_init(&ws->none, NULL);
}

static void free_ops(struct write_op *op)
{
	while (op) {
		struct write_op *next = op->next;
		record_set_release(&op->set);
		wr_release(&op->text);
		wr_release(&op->rest);
		free(op);
		op = next;
	}
}

void writers_settle(struct writers *ws)
{
	ws->stopping = true;
	pthread_mutex_lock(&ws->lock);
	while (ws->unanswered)
		pthread_cond_wait(&ws->none, &ws->lock);
	pthread_mutex_unlock(&ws->lock);
}

/* locks: the lot's. */
static void count_answered(struct writers *ws, struct write_op *op)
{
	if (op->counted && !--ws->unanswered)
		pthread_cond_broadcast(&ws->none);
	op->counted = false;
}

void writers_release(struct writers *ws)
{
	pthread_mutex_lock(&ws->lock);
	while (ws->live)
		pthread_cond_wait(&ws->none, &ws->lock);
	pthread_mutex_unlock(&ws->lock);
	timer_cancel(ws->timers, &ws->timer);
	parking_release(&ws->parking);
	free_ops(ws->spare);
	pthread_cond_destroy(&ws->none);
	pthread_mutex_destroy(&ws->lock);
}

static void arm_trim(struct writers *ws)
{
	if (!atomic_exchange_explicit(&ws->armed, true, memory_order_acq_rel))
		timer_arm(ws->timers, &ws->timer, mono_after_ms(mono_now(), TRIM_MS));
}

/* Frees the spare operations that nobody needed since it fired last. */
static void trim(struct timer *t, void *arg)
{
	struct writers *ws = arg;
	struct write_op *unneeded = NULL;
	(void)t;
	atomic_store_explicit(&ws->armed, false, memory_order_release);
	pthread_mutex_lock(&ws->lock);
	for (; ws->least_spares; ws->least_spares--, ws->spares--) {
		struct write_op *op = ws->spare;
		ws->spare = op->next;
		op->next = unneeded;
		unneeded = op;
	}
	ws->least_spares = ws->spares;
	bool again = ws->spares;
	pthread_mutex_unlock(&ws->lock);
	free_ops(unneeded);
	if (again)
		arm_trim(ws);
}

static struct write_op *new_op(void)
{
	struct write_op *op = malloc(sizeof *op);
	if (!op)
		return NULL;
	*op = (struct write_op){.delivery = {.set = &op->set, .done = append_done}, .flush.done = flush_done, .sync_job.run = sync_elsewhere,
				.parked = {.interrupted = on_interrupted, .expired = on_expired, .gone = recycle}};
	record_set_init(&op->set);
	wr_init(&op->text, 0);
	wr_init(&op->rest, 0);
	return op;
}

/* req NULL: nobody waits for it. NULL: no memory. */
static struct write_op *take_op(struct writer *w, enum op_kind kind, fuse_req_t req, uint64_t owner)
{
	struct writers *ws = w->ws;
	pthread_mutex_lock(&ws->lock);
	struct write_op *op = ws->spare;
	if (op) {
		ws->spare = op->next;
		ws->spares--;
		if (ws->least_spares > ws->spares)
			ws->least_spares = ws->spares;
	} else
		op = new_op();
	if (op) {
		op->counted = req;
		ws->unanswered += op->counted;
	}
	pthread_mutex_unlock(&ws->lock);
	if (!op)
		return NULL;
	op->w = w;
	op->kind = kind;
	op->stage = STAGE_BUILD;
	atomic_store_explicit(&op->appending, false, memory_order_relaxed);
	op->has_request = req;
	op->is_parked = op->was_refused = op->interrupted = false;
	op->owner = owner;
	op->count = 0;
	op->line = op->rest_line = NULL;
	op->takes_gathered = false;
	op->err.code = 0;
	parked_init(&op->parked, req);
	atomic_fetch_add_explicit(&w->refs, 1, memory_order_relaxed);
	return op;
}

static void unref_writer(struct writer *w)
{
	struct writers *ws = w->ws;
	if (atomic_fetch_sub_explicit(&w->refs, 1, memory_order_acq_rel) != 1)
		return;
	timer_cancel(ws->timers, &w->timer);
	lines_free(w->lines);
	wr_release(&w->gathered);
	w->gone(w->gone_arg);
	pthread_mutex_destroy(&w->lock);
	free(w);
	pthread_mutex_lock(&ws->lock);
	if (!--ws->live)
		pthread_cond_broadcast(&ws->none);
	pthread_mutex_unlock(&ws->lock);
}

/* Nobody looks at it any more. */
static void recycle(struct parked *p)
{
	struct write_op *op = (struct write_op *)((char *)p - offsetof(struct write_op, parked));
	struct writer *w = op->w;
	struct writers *ws = w->ws;
	record_set_clear(&op->set);
	wr_clear(&op->text);
	wr_clear(&op->rest);
	if (op->text.cap > KEEP_BYTES)
		wr_release(&op->text);
	if (op->rest.cap > KEEP_BYTES)
		wr_release(&op->rest);
	pthread_mutex_lock(&ws->lock);
	count_answered(ws, op);
	op->next = ws->spare;
	ws->spare = op;
	ws->spares++;
	pthread_mutex_unlock(&ws->lock);
	if (!atomic_load_explicit(&ws->armed, memory_order_relaxed))
		arm_trim(ws);
	unref_writer(w);
}

/* ---- BUILD ---- */

static void refresh_style(struct writer *w)
{
	uint32_t generation = topic_conf_generation(w->topic);
	if (generation == w->conf_generation && w->style.max_batch_bytes)
		return;
	w->conf_generation = generation;
	topic_batch_style(w->topic, &w->style);
	w->acks = topic_acks(w->topic);
	w->linger_ms = topic_conf_int(w->topic, "linger.ms");
}

static int add_lines(struct write_op *op, const void *text, size_t n, size_t *taken)
{
	return record_set_add_lines(&op->set, &op->w->style, text, n, wall_now_ms(), taken, &op->err);
}

/* What has gathered goes first: it was written before. */
static int add_gathered(struct write_op *op)
{
	struct writer *w = op->w;
	size_t taken;
	if (!w->gathered.len)
		return 0;
	op->takes_gathered = true;
	int rc = add_lines(op, w->gathered.data, w->gathered.len, &taken);
	if (rc == ERR_TOO_LARGE) /* max.message.bytes was lowered meanwhile: they would stand in the way for ever */
		wr_clear(&w->gathered);
	return rc;
}

/* An unfinished line, ended here. */
static int add_ended(struct write_op *op, struct line *line)
{
	size_t taken, had = line->text.len;
	int rc = ERR_NO_MEMORY;
	wr_i8(&line->text, '\n');
	if (!line->text.failed)
		rc = add_lines(op, line->text.data, line->text.len, &taken);
	else
		err_set(&op->err, rc, "no memory for a line");
	line->text.len = had;
	line->text.failed = false;
	return rc;
}

static int too_large(struct write_op *op, struct line *line, const char *text, size_t n)
{
	if (line)
		line_refuse(line, text, n);
	if (op->err.code != ERR_TOO_LARGE)
		err_set(&op->err, ERR_TOO_LARGE, "a line is larger than max.message.bytes=%u allows", (unsigned)op->w->style.max_batch_bytes);
	return ERR_TOO_LARGE;
}

/* A WRITE without a newline: it waits for more. */
static int keep_piece(struct write_op *op, struct line *line, const char *text, size_t n)
{
	size_t had = line ? line->text.len : 0;
	if (had + n > op->w->style.max_batch_bytes)
		return too_large(op, line, text, n);
	line = line ? line : lines_need(&op->w->lines, op->owner);
	if (line)
		wr_bytes(&line->text, text, n);
	if (!line || line->text.failed) {
		if (line) {
			line->text.len = had;
			line->text.failed = false;
		}
		return err_set(&op->err, ERR_NO_MEMORY, "no memory for an unfinished line");
	}
	line->failed = 0;
	op->count = n;
	return 0;
}

/* The unfinished line and what completes it: the bytes of text that are in the set now, or an error. */
static ssize_t add_completed(struct write_op *op, struct line *line, const char *text, size_t whole)
{
	size_t had = line->text.len, taken = 0;
	size_t piece = whole <= JOIN_BYTES ? whole : (size_t)((const char *)memchr(text, '\n', whole) + 1 - text);
	int rc;
	wr_bytes(&line->text, text, piece);
	if (line->text.failed)
		rc = err_set(&op->err, ERR_NO_MEMORY, "no memory for a line");
	else
		rc = add_lines(op, line->text.data, line->text.len, &taken);
	line->text.len = had; /* it is dropped when the append is done */
	line->text.failed = false;
	if (!taken)
		return rc;
	op->line = line;
	return (ssize_t)(taken - had);
}

/* Notes the unfinished line at the end of a WRITE; where that cannot be kept the WRITE is a short one. */
static void take_rest(struct write_op *op, const char *text, size_t n)
{
	if (!n || n > op->w->style.max_batch_bytes)
		return;
	op->rest_line = op->line ? op->line : lines_need(&op->w->lines, op->owner);
	if (op->rest_line)
		wr_bytes(&op->rest, text, n);
	if (!op->rest_line || op->rest.failed) {
		op->rest_line = NULL;
		wr_clear(&op->rest);
	} else
		op->count += n;
}

/* Puts the complete lines aside. false: they are not for gathering. */
static bool gather(struct write_op *op, struct line *line, const char *text, size_t whole, size_t n)
{
	struct writer *w = op->w;
	size_t had = w->gathered.len, begun = line ? line->text.len : 0;
	if (!w->linger_ms || w->sync || w->late || begun + whole > w->style.max_batch_bytes / 4 || had + begun + whole > GATHER_BYTES)
		return false;
	if (begun)
		wr_bytes(&w->gathered, line->text.data, begun);
	wr_bytes(&w->gathered, text, whole);
	if (w->gathered.failed) {
		w->gathered.len = had;
		w->gathered.failed = false;
		return false;
	}
	op->line = line;
	op->count = whole;
	take_rest(op, text + whole, n - whole);
	if (!had)
		timer_arm(w->ws->timers, &w->timer, mono_after_ms(mono_now(), w->linger_ms));
	return true;
}

static int build_write(struct write_op *op, const char *text, size_t n)
{
	struct writer *w = op->w;
	struct line *line = w->lines ? lines_find(w->lines, op->owner) : NULL;
	if (line && line_is_refused_again(line, text, n))
		return too_large(op, NULL, text, n);
	if (line && line->refused && line->goes_on)
		return too_large(op, line, text, n);
	if (line && !line->text.len) {
		line_clear(line);
		line = NULL;
	}
	const char *newline = memrchr(text, '\n', n);
	size_t whole = newline ? (size_t)(newline + 1 - text) : 0;
	if (!whole)
		return keep_piece(op, line, text, n);
	if (gather(op, line, text, whole, n))
		return 0;
	int rc = add_gathered(op);
	if (rc < 0)
		return rc;
	if (line) {
		ssize_t used = add_completed(op, line, text, whole);
		if (used == ERR_TOO_LARGE)
			return too_large(op, line, text, n);
		if (used < 0)
			return (int)used;
		op->count = (size_t)used;
	}
	if (op->count < whole) {
		size_t taken = 0;
		rc = add_lines(op, text + op->count, whole - op->count, &taken);
		op->count += taken;
	}
	if (rc < 0 && !op->count)
		return rc;
	op->err.code = 0; /* a short write says it */
	if (rc == 0)
		take_rest(op, text + whole, n - whole);
	return 0;
}

static int build_flush(struct write_op *op)
{
	struct line *line = lines_find(op->w->lines, op->owner);
	int rc = add_gathered(op);
	if (rc < 0 || !line)
		return rc;
	op->was_refused = line->refused || line->lost;
	line->lost = false;
	if (!line->text.len) {
		line_clear(line);
		return 0;
	}
	if (line->failed) { /* its end was not taken: the beginning alone was never meant */
		rc = err_set(&op->err, line->failed, "the rest of a line could not be written, so its beginning is dropped");
		line_clear(line);
		return rc;
	}
	op->line = line;
	rc = add_ended(op, line);
	if (rc == ERR_TOO_LARGE)
		line_clear(line);
	return rc;
}

static int build_fsync(struct write_op *op)
{
	for (struct line *l = op->w->lines; l; l = l->next)
		op->was_refused |= l->lost;
	return add_gathered(op);
}

static const char lost[] = "the last lines of a closed file are lost: cannot append to";

/* One that cannot be appended must not cost the others. Of a file that is still open at the stop, unfinished lines are dropped: whoever writes them goes on to an error, and
 * half of a line is no message. */
static int build_end(struct write_op *op)
{
	struct writer *w = op->w;
	if (add_gathered(op) < 0)
		ops_explain(lost, w->p, &op->err);
	for (struct line *l = w->lines; l; l = l->next) {
		if (l->text.len && w->ws->stopping)
			diag_notice("%s/%d: a file is still open, and the line of which %zu bytes were written is dropped", partition_topic_name(w->p), (int)partition_index(w->p),
				    l->text.len);
		else if (l->text.len && !l->failed && add_ended(op, l) < 0)
			ops_explain(lost, w->p, &op->err);
	}
	op->err.code = 0;
	return 0;
}

static int build(struct write_op *op, const char *text, size_t n)
{
	struct writer *w = op->w;
	refresh_style(w);
	if (w->late && !w->gathered.len) {
		err_set(&op->err, w->late, "an earlier append of gathered lines failed");
		w->late = 0;
		return op->err.code;
	}
	switch (op->kind) {
	case OP_WRITE:
		return build_write(op, text, n);
	case OP_FLUSH:
		return build_flush(op);
	case OP_FSYNC:
		return build_fsync(op);
	case OP_END:
		return build_end(op);
	default:
		return add_gathered(op);
	}
}

/* ---- FINISH ---- */

/* The writer's state follows. locks: the writer's. */
static void apply(struct write_op *op)
{
	struct writer *w = op->w;
	if (op->takes_gathered && (!op->err.code || !deliver_is_certain(op->err.code)))
		wr_clear(&w->gathered);
	if (op->takes_gathered)
		w->late = op->kind == OP_GATHERED ? op->err.code : 0;
	if (op->err.code) {
		struct line *l = op->kind == OP_WRITE ? lines_find(w->lines, op->owner) : NULL;
		if (l && l->text.len)
			l->failed = op->err.code;
		return;
	}
	if (op->line)
		line_clear(op->line);
	if (op->rest_line) {
		struct wr text = op->rest_line->text;
		op->rest_line->text = op->rest;
		op->rest_line->owner = op->owner;
		op->rest = text;
	}
}

static void answer(struct write_op *op)
{
	if (op->is_parked && !parked_take(&op->w->ws->parking, &op->parked))
		return;
	fuse_req_t req = op->parked.req;
	if (op->err.code)
		fuse_reply_err(req, ops_explain("cannot append to", op->w->p, &op->err));
	else if (op->kind == OP_WRITE)
		fuse_reply_write(req, op->count);
	else
		fuse_reply_err(req, op->was_refused ? EMSGSIZE : 0);
}

/* Returns the operation whose turn is next. */
static struct write_op *finish(struct write_op *op)
{
	struct writer *w = op->w;
	pthread_mutex_lock(&w->lock);
	apply(op);
	struct write_op *next = w->current = w->first;
	if (next && !(w->first = next->next))
		w->last = &w->first;
	pthread_mutex_unlock(&w->lock);
	if (op->has_request)
		answer(op);
	else if (op->err.code)
		ops_explain(op->kind == OP_END ? lost : "gathered lines wait: cannot append to", w->p, &op->err);
	parked_unref(&op->parked);
	return next;
}

/* ---- driving ---- */

static void append_set(struct write_op *op)
{
	op->delivery.acks = op->w->acks;
	op->delivery.code = 0;
	atomic_store_explicit(&op->appending, true, memory_order_release);
	deliver_append(op->w->ws->deliver, op->w->p, &op->delivery);
	if (atomic_load(&op->interrupted)) /* before there was anything to be taken back */
		deliver_cancel(op->w->ws->deliver, op->w->p, &op->delivery);
}

static void flush_partition(struct write_op *op)
{
	struct partition *p = op->w->p;
	op->flush.code = 0;
	op->uses = !deliver_is_elsewhere(op->w->ws->deliver, p) && partition_try_acquire(p);
	if (op->uses)
		partition_flush(p, &op->flush);
	else
		pool_run(op->w->ws->pool, &op->sync_job);
}

/* Begins a stage. true: it is over already. false: whoever ends it drives on, and op may be gone. */
static bool hand_over(struct write_op *op, enum stage stage, void (*begin)(struct write_op *op))
{
	op->stage = stage;
	atomic_store_explicit(&op->handed, 0, memory_order_relaxed);
	begin(op);
	if (atomic_load_explicit(&op->handed, memory_order_acquire) & STAGE_DONE)
		return true;
	if (op->has_request && !op->is_parked) {
		op->is_parked = true;
		parked_park(&op->w->ws->parking, &op->parked);
	}
	return atomic_fetch_or_explicit(&op->handed, STAGE_LEFT, memory_order_acq_rel) & STAGE_DONE;
}

/* Takes an operation, and those that follow it in the queue, as far as this thread can. text: of a WRITE. */
static void drive(struct write_op *op, const char *text, size_t n)
{
	while (op) {
		switch (op->stage) {
		case STAGE_BUILD:
			op->stage = STAGE_APPEND;
			if (build(op, text, n) < 0)
				op->stage = STAGE_FINISH;
			else if (op->set.batch_count && !hand_over(op, STAGE_APPEND, append_set))
				return;
			break;
		case STAGE_APPEND: /* it is over */
			if (op->set.batch_count && op->delivery.code)
				op->err = op->delivery.err;
			op->err.code = op->set.batch_count ? op->delivery.code : 0;
			op->stage = STAGE_FINISH;
			if (!op->err.code && (op->kind == OP_FSYNC || (op->w->sync && op->set.batch_count)) && !hand_over(op, STAGE_SYNC, flush_partition))
				return;
			break;
		case STAGE_SYNC: /* it is over */
			if (op->flush.code)
				op->err = op->flush.err;
			op->err.code = op->flush.code;
			op->stage = STAGE_FINISH;
			break;
		case STAGE_FINISH:
			op = finish(op);
			if (op) {
				text = (const char *)op->text.data;
				n = op->text.len;
			}
			break;
		}
	}
}

static void stage_done(struct write_op *op)
{
	if (atomic_fetch_or_explicit(&op->handed, STAGE_DONE, memory_order_acq_rel) & STAGE_LEFT)
		drive(op, NULL, 0);
}

static void append_done(struct delivery *d)
{
	stage_done((struct write_op *)((char *)d - offsetof(struct write_op, delivery)));
}

static void flush_done(struct flush *f)
{
	struct write_op *op = (struct write_op *)((char *)f - offsetof(struct write_op, flush));
	if (op->uses)
		partition_release(op->w->p);
	op->uses = false;
	stage_done(op);
}

/* What this broker has of it is flushed where it leads; what was written through another leader is with all that are in sync. */
static void sync_elsewhere(struct pool_job *job)
{
	struct write_op *op = (struct write_op *)((char *)job - offsetof(struct write_op, sync_job));
	struct partition *p = op->w->p;
	struct deliver *dl = op->w->ws->deliver;
	op->flush.code = deliver_settle(dl, p, &op->flush.err);
	if (op->flush.code == 0 && !deliver_is_elsewhere(dl, p)) {
		op->flush.code = partition_acquire(p, &op->flush.err);
		op->uses = op->flush.code == 0;
	}
	if (op->uses)
		partition_flush(p, &op->flush);
	else
		flush_done(&op->flush);
}

/* Makes op the one under way. false: another is. */
static bool try_begin(struct writer *w, struct write_op *op)
{
	pthread_mutex_lock(&w->lock);
	bool begun = !w->current;
	if (begun)
		w->current = op;
	pthread_mutex_unlock(&w->lock);
	return begun;
}

/* Begins op, or queues it behind the one under way. */
static void begin_or_queue(struct write_op *op, const char *text, size_t n)
{
	struct writer *w = op->w;
	if (try_begin(w, op)) {
		drive(op, text, n);
		return;
	}
	if (n)
		wr_bytes(&op->text, text, n);
	if (op->text.failed) {
		fuse_reply_err(op->parked.req, ENOMEM);
		parked_unref(&op->parked);
		return;
	}
	if (op->has_request) { /* before it is in the queue: from there another thread may finish it at any time */
		op->is_parked = true;
		parked_park(&w->ws->parking, &op->parked);
	}
	pthread_mutex_lock(&w->lock);
	bool begun = !w->current;
	if (begun)
		w->current = op;
	else {
		op->next = NULL;
		*w->last = op;
		w->last = &op->next;
	}
	pthread_mutex_unlock(&w->lock);
	if (begun)
		drive(op, (char *)op->text.data, op->text.len);
}

/* Takes an operation out of the queue of those that have not begun. */
static bool withdraw(struct write_op *op)
{
	struct writer *w = op->w;
	pthread_mutex_lock(&w->lock);
	struct write_op **at = &w->first;
	while (*at && *at != op)
		at = &(*at)->next;
	bool found = *at;
	if (found) {
		*at = op->next;
		if (w->last == &op->next)
			w->last = at;
	}
	pthread_mutex_unlock(&w->lock);
	return found;
}

static void on_interrupted(struct parked *p)
{
	struct write_op *op = (struct write_op *)((char *)p - offsetof(struct write_op, parked));
	atomic_store(&op->interrupted, true);
	if (withdraw(op)) {
		if (parked_take(&op->w->ws->parking, p))
			fuse_reply_err(p->req, EINTR);
		parked_unref(p);
	} else if (atomic_load_explicit(&op->appending, memory_order_acquire))
		deliver_cancel(op->w->ws->deliver, op->w->p, &op->delivery);
}

/* Its outcome was answered as unknown; the append is taken back if it can be. */
static void on_expired(struct parked *p)
{
	static struct diag_limit limit;
	struct write_op *op = (struct write_op *)((char *)p - offsetof(struct write_op, parked));
	struct writers *ws = op->w->ws;
	pthread_mutex_lock(&ws->lock);
	count_answered(ws, op);
	pthread_mutex_unlock(&ws->lock);
	diag_limited(&limit, 5000, DIAG_WARNING, "%s/%d: a write was answered with EIO: it was not done within delivery.timeout.ms, its outcome is unknown",
		     partition_topic_name(op->w->p), (int)partition_index(op->w->p));
	if (withdraw(op))
		parked_unref(p);
	else if (atomic_load_explicit(&op->appending, memory_order_acquire))
		deliver_cancel(op->w->ws->deliver, op->w->p, &op->delivery);
}

/* ---- the writer ---- */

struct writer *writer_new(struct writers *ws, struct partition *p, bool sync)
{
	struct writer *w = malloc(sizeof *w);
	if (!w)
		return NULL;
	*w = (struct writer){.ws = ws, .p = p, .topic = partition_topic(p), .sync = sync, .last = &w->first, .refs = 1,
			     .timer = {.fire = linger_over, .arg = w}, .job.run = append_gathered};
	wr_init(&w->gathered, 0);
	pthread_mutex_init(&w->lock, NULL);
	pthread_mutex_lock(&ws->lock);
	ws->live++;
	pthread_mutex_unlock(&ws->lock);
	return w;
}

static void run(struct writer *w, enum op_kind kind, fuse_req_t req, uint64_t owner, const char *text, size_t n)
{
	struct write_op *op = take_op(w, kind, req, owner);
	if (op)
		begin_or_queue(op, text, n);
	else
		fuse_reply_err(req, ENOMEM);
}

void writer_write(struct writer *w, fuse_req_t req, uint64_t owner, const char *text, size_t n)
{
	run(w, OP_WRITE, req, owner, text, n);
}

void writer_flush(struct writer *w, fuse_req_t req, uint64_t owner)
{
	pthread_mutex_lock(&w->lock);
	bool clean = !w->current && !w->late && !w->gathered.len && !lines_find(w->lines, owner);
	pthread_mutex_unlock(&w->lock);
	if (clean)
		fuse_reply_err(req, 0);
	else
		run(w, OP_FLUSH, req, owner, NULL, 0);
}

void writer_fsync(struct writer *w, fuse_req_t req)
{
	run(w, OP_FSYNC, req, 0, NULL, 0);
}

/* thread: the timers'. */
static void linger_over(struct timer *t, void *arg)
{
	struct writer *w = arg;
	(void)t;
	pthread_mutex_lock(&w->lock);
	bool give = !w->job_given && !w->ending;
	w->job_given |= give;
	if (give)
		atomic_fetch_add_explicit(&w->refs, 1, memory_order_relaxed);
	pthread_mutex_unlock(&w->lock);
	if (give)
		pool_run(w->ws->pool, &w->job);
}

static void append_gathered(struct pool_job *job)
{
	struct writer *w = (struct writer *)((char *)job - offsetof(struct writer, job));
	pthread_mutex_lock(&w->lock);
	w->job_given = false;
	bool wanted = !w->ending;
	pthread_mutex_unlock(&w->lock);
	/* An operation under way when the timer fired may have taken them along: then this one is empty. */
	struct write_op *op = wanted ? take_op(w, OP_GATHERED, NULL, 0) : NULL;
	if (op)
		begin_or_queue(op, NULL, 0);
	unref_writer(w);
}

void writer_end(struct writer *w, void (*gone)(void *arg), void *arg)
{
	pthread_mutex_lock(&w->lock);
	w->ending = true;
	w->gone = gone;
	w->gone_arg = arg;
	bool clean = !w->current && !w->gathered.len && !w->lines;
	pthread_mutex_unlock(&w->lock);
	struct write_op *op = clean ? NULL : take_op(w, OP_END, NULL, 0);
	if (op)
		begin_or_queue(op, NULL, 0);
	else if (!clean)
		ops_explain(lost, w->p, &(struct err){.code = ERR_NO_MEMORY, .text = "no memory"});
	unref_writer(w);
}
