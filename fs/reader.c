#include "fs/reader.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "cluster/broker.h"
#include "cluster/partition.h"
#include "cluster/remote/remote.h"
#include "fs/ops.h"
#include "fs/tail.h"
#include "store/conf.h"
#include "store/diag.h"

enum {
	BLOCK_BYTES = 1 << 20,       /* the most that a READ can ask for */
	FIRST_AHEAD_BYTES = 128 << 10, /* the first block that is read ahead, and twice as much each time */
	STACK_BYTES = 64 << 10,      /* a READ up to this takes no block */
	RUN = 2,                     /* full READs one behind the other that make a handle sequential */
	DEPTH = 3,                   /* blocks a handle may have, the one it reads from among them */
	CURSORS = 2,                 /* kept by a handle: more READs at once make their own */
	SWEEP_MS = 1000,
	LOG_MS = 5000,
};

struct block {
	struct block *next;
	uint8_t *data;       /* owned: BLOCK_BYTES, mapped */
	int64_t position;    /* in the view */
	size_t want, len;
	unsigned pins;       /* the job that fills it, READs that are answered from it */
	bool filling;
	bool dropped;        /* in no queue any more: the last pin gives it back */
};

struct reader {
	struct readers *rs;  /* borrowed */
	struct partition *p; /* borrowed */
	uint32_t cuts;       /* partition_cuts when it was opened */
	pthread_mutex_t lock;
	pthread_cond_t filled;
	bool begun;          /* there was a READ: moved and shift are final */
	bool based;          /* an @earliest handle */
	bool moved;
	int64_t shift;       /* the view's position minus the handle's */
	int64_t furthest;    /* of a moved handle: the handle's position behind the furthest byte returned */
	struct tail tail;
	struct partition_cursor *cursor[CURSORS];
	int cursors;

	/* reading ahead; positions are the view's */
	int64_t next;        /* where the next READ of a sequential handle begins; -1 */
	unsigned run;        /* full READs one behind the other */
	size_t unit;         /* the size of the last */
	struct block *first, *last; /* a queue without gaps */
	unsigned blocks;     /* in it */
	size_t ahead_bytes;  /* of the block to come */
	bool at_end;         /* the last block came out short */
	bool job_given;
	unsigned reads;      /* under way */
	bool used;           /* since the last sweep */
	struct pool_job job;
	struct partition_cursor *ahead_cursor; /* the job's */
	struct reader *next_streaming, **link; /* under the lot's lock; link NULL: not in the list */

	bool ending;
	void (*gone)(void *arg);
	void *gone_arg;
};

/* ---- what all readers share ---- */

static void sweep(struct timer *t, void *arg);

void readers_init(struct readers *rs, struct broker *b, const struct conf *conf)
{
	*rs = (struct readers){
		.pool = broker_pool(b),
		.remote_pool = broker_remote(b) ? remote_pool(broker_remote(b)) : broker_pool(b),
		.timers = broker_timers(b),
		.ahead_max = (unsigned)(conf_int(conf, "mount.readahead.bytes") / BLOCK_BYTES),
		.timer.fire = sweep,
		.timer.arg = rs,
	};
	pthread_mutex_init(&rs->lock, NULL);
	pthread_cond_init(&rs->none, NULL);
}

static void free_block(struct block *b)
{
	munmap(b->data, BLOCK_BYTES);
	free(b);
}

static void free_blocks(struct block *b)
{
	while (b) {
		struct block *next = b->next;
		free_block(b);
		b = next;
	}
}

void readers_release(struct readers *rs)
{
	pthread_mutex_lock(&rs->lock);
	while (rs->live)
		pthread_cond_wait(&rs->none, &rs->lock);
	pthread_mutex_unlock(&rs->lock);
	timer_cancel(rs->timers, &rs->timer);
	free_blocks(rs->spare);
	pthread_cond_destroy(&rs->none);
	pthread_mutex_destroy(&rs->lock);
}

static struct block *new_block(void)
{
	struct block *b = malloc(sizeof *b);
	void *data = b ? mmap(NULL, BLOCK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) : MAP_FAILED;
	if (data == MAP_FAILED) {
		free(b);
		return NULL;
	}
	*b = (struct block){.data = data};
	return b;
}

/* ahead: it counts among those that are bounded. NULL: no memory, or the bound is met. */
static struct block *take_block(struct readers *rs, bool ahead)
{
	pthread_mutex_lock(&rs->lock);
	bool allowed = !ahead || rs->ahead < rs->ahead_max;
	struct block *b = allowed ? rs->spare : NULL;
	if (b) {
		rs->spare = b->next;
		rs->spares--;
		if (rs->least_spares > rs->spares)
			rs->least_spares = rs->spares;
	}
	rs->ahead += ahead && allowed;
	pthread_mutex_unlock(&rs->lock);
	if (b || !allowed)
		return b;
	b = new_block();
	if (!b && ahead) {
		pthread_mutex_lock(&rs->lock);
		rs->ahead--;
		pthread_mutex_unlock(&rs->lock);
	}
	return b;
}

/* There is something to sweep. */
static void arm_sweep(struct readers *rs)
{
	if (!atomic_exchange_explicit(&rs->armed, true, memory_order_acq_rel))
		timer_arm(rs->timers, &rs->timer, mono_after_ms(mono_now(), SWEEP_MS));
}

static void give_block(struct readers *rs, struct block *b, bool ahead)
{
	pthread_mutex_lock(&rs->lock);
	b->next = rs->spare;
	rs->spare = b;
	rs->spares++;
	rs->ahead -= ahead;
	pthread_mutex_unlock(&rs->lock);
	arm_sweep(rs);
}

/* ---- one reader's blocks ---- */

static void unpin(struct reader *r, struct block *b)
{
	if (!--b->pins && b->dropped)
		give_block(r->rs, b, true);
}

/* locks: the reader's. */
static void drop_first(struct reader *r)
{
	struct block *b = r->first;
	r->first = b->next;
	if (!r->first)
		r->last = NULL;
	r->blocks--;
	b->dropped = true;
	b->pins++;
	unpin(r, b);
}

static void set_streaming(struct reader *r, bool on)
{
	pthread_mutex_lock(&r->rs->lock);
	if (on && !r->link) {
		r->link = &r->rs->streaming;
		r->next_streaming = r->rs->streaming;
		if (r->next_streaming)
			r->next_streaming->link = &r->next_streaming;
		*r->link = r;
	} else if (!on && r->link) {
		*r->link = r->next_streaming;
		if (r->next_streaming)
			r->next_streaming->link = r->link;
		r->link = NULL;
	}
	pthread_mutex_unlock(&r->rs->lock);
	if (on)
		arm_sweep(r->rs);
}

/* locks: the reader's. */
static void drop_all(struct reader *r)
{
	while (r->first)
		drop_first(r);
	r->at_end = false;
	r->ahead_bytes = FIRST_AHEAD_BYTES;
}

/* Takes the locks of readers that have not read since the last sweep, n at most. */
static int lock_idle(struct readers *rs, struct reader *idle[], int n)
{
	int count = 0;
	pthread_mutex_lock(&rs->lock);
	for (struct reader *r = rs->streaming; r && count < n; r = r->next_streaming) {
		if (pthread_mutex_trylock(&r->lock))
			continue; /* in use, so not idle */
		if (!r->used)
			idle[count++] = r;
		bool was_used = r->used;
		r->used = false;
		if (was_used)
			pthread_mutex_unlock(&r->lock);
	}
	pthread_mutex_unlock(&rs->lock);
	return count;
}

/* Gives back what the cursors that are not in use hold. locks: the reader's. */
static void rest(struct reader *r)
{
	for (int i = 0; i < r->cursors; i++)
		partition_cursor_rest(r->cursor[i]);
	if (r->ahead_cursor && !r->job_given)
		partition_cursor_rest(r->ahead_cursor);
}

/* Idle readers lose their blocks and what their cursors hold, and of the spare ones go those that nobody needed since the last sweep. */
static void sweep(struct timer *t, void *arg)
{
	(void)t;
	struct readers *rs = arg;
	struct block *unneeded = NULL;
	struct reader *idle[1024];
	int n = lock_idle(rs, idle, sizeof idle / sizeof *idle);
	for (int i = 0; i < n; i++) {
		drop_all(idle[i]);
		rest(idle[i]);
		set_streaming(idle[i], false);
		pthread_mutex_unlock(&idle[i]->lock);
	}
	atomic_store_explicit(&rs->armed, false, memory_order_release);
	pthread_mutex_lock(&rs->lock);
	for (; rs->least_spares; rs->least_spares--, rs->spares--) {
		struct block *b = rs->spare;
		rs->spare = b->next;
		b->next = unneeded;
		unneeded = b;
	}
	rs->least_spares = rs->spares;
	bool again = rs->spares || rs->streaming;
	pthread_mutex_unlock(&rs->lock);
	free_blocks(unneeded);
	if (again)
		arm_sweep(rs);
}

/* ---- reading ---- */

/* Fills buf from `position` as far as there is anything; an error counts only where nothing could be read. */
static ssize_t read_view(struct reader *r, struct partition_cursor *c, int64_t position, uint8_t *buf, size_t n, struct err *e)
{
	size_t got = 0;
	while (got < n) {
		ssize_t k = partition_read(r->p, c, position + (int64_t)got, buf + got, n - got, e);
		if (k < 0)
			return got ? (ssize_t)got : k;
		if (k == 0)
			break;
		got += (size_t)k;
	}
	return (ssize_t)got;
}

static size_t next_ahead_bytes(struct reader *r)
{
	size_t n = r->ahead_bytes > r->unit ? r->ahead_bytes - r->ahead_bytes % r->unit : r->unit;
	if (r->ahead_bytes < BLOCK_BYTES)
		r->ahead_bytes *= 2;
	return n;
}

/* A block at the end of the queue, to be filled. NULL: enough of them, or no memory for more. locks: the reader's. */
static struct block *append_block(struct reader *r)
{
	bool wanted = !r->ending && r->run >= RUN && !r->at_end && r->blocks < DEPTH && r->unit <= BLOCK_BYTES;
	struct block *b = wanted ? take_block(r->rs, true) : NULL;
	if (!b)
		return NULL;
	b->next = NULL;
	b->position = r->last ? r->last->position + (int64_t)r->last->want : r->next;
	b->want = next_ahead_bytes(r);
	b->len = 0;
	b->pins = 1;
	b->filling = true;
	b->dropped = false;
	if (r->last)
		r->last->next = b;
	else
		r->first = b;
	r->last = b;
	r->blocks++;
	return b;
}

static void finish(struct reader *r);

/* Whether the reader was released and this was the last that used it: then the caller finishes it, without the lock. locks: the reader's. */
static bool is_last(const struct reader *r)
{
	return r->ending && !r->job_given && !r->reads;
}

/* Nobody waits for what is read ahead: whoever comes to it does, and can be interrupted. */
static bool is_ahead(void *arg)
{
	(void)arg;
	return true;
}

static void read_ahead(struct pool_job *job)
{
	struct reader *r = (struct reader *)((char *)job - offsetof(struct reader, job));
	struct block *b;
	pthread_mutex_lock(&r->lock);
	while ((b = append_block(r))) {
		pthread_mutex_unlock(&r->lock);
		struct err e = ERR_INIT;
		ssize_t got = -1;
		remote_set_given_up(is_ahead, NULL);
		if (r->ahead_cursor || (r->ahead_cursor = partition_cursor_new(r->p)))
			got = read_view(r, r->ahead_cursor, b->position, b->data, b->want, &e);
		remote_set_given_up(NULL, NULL);
		pthread_mutex_lock(&r->lock);
		b->len = got > 0 ? (size_t)got : 0; /* an error is met again, and answered, by the READ that comes to it */
		b->filling = false;
		if (b->len < b->want && !b->dropped)
			r->at_end = true;
		pthread_cond_broadcast(&r->filled);
		unpin(r, b);
	}
	r->job_given = false;
	bool last = is_last(r);
	if (!r->ending)
		set_streaming(r, true);
	pthread_mutex_unlock(&r->lock);
	if (last)
		finish(r);
}

/* Whether the job is to be given to the pool, which is done without the lock. locks: the reader's. */
static bool wants_job(struct reader *r)
{
	if (r->job_given || r->run < RUN || r->at_end || r->blocks >= DEPTH || !r->rs->ahead_max)
		return false;
	r->job_given = true;
	return true;
}

/* The block that holds all of [position, position + n), full, pinned; those before it are dropped. NULL: none, and no block is left. locks: the reader's. */
static struct block *find_block(struct reader *r, int64_t position, size_t n)
{
	struct block *b;
	while ((b = r->first) && b->position + (int64_t)b->want <= position)
		drop_first(r);
	if (b && b->position <= position && position + (int64_t)n <= b->position + (int64_t)b->want) {
		b->pins++;
		while (b->filling)
			pthread_cond_wait(&r->filled, &r->lock);
		if (position + (int64_t)n <= b->position + (int64_t)b->len)
			return b;
		unpin(r, b);
	}
	drop_all(r);
	return NULL;
}

/* From now on the handle's position `at` is the log start. */
static void move(struct reader *r, int64_t at, int64_t start)
{
	r->moved = true;
	r->shift = start - at;
	r->furthest = at;
}

int64_t reader_moved_by(struct reader *r)
{
	pthread_mutex_lock(&r->lock);
	int64_t by = r->moved ? r->shift : 0;
	pthread_mutex_unlock(&r->lock);
	return by;
}

/* The first READ decides what the handle's positions mean, or tail's next one. *newline: the answer is that. locks: the reader's. */
static int begin(struct reader *r, fuse_req_t req, int64_t at, size_t *size, bool *newline, struct err *e)
{
	struct visible v;
	bool first = !r->begun;
	if (!first && r->tail.state == TAIL_NO)
		return 0;
	int rc = partition_visible(r->p, &v, e);
	if (rc < 0)
		return rc;
	r->begun = true;
	if (v.start_position == 0)
		return 0;
	if (first && at == 0) {
		move(r, 0, v.start_position);
		return 0;
	}
	switch (tail_read(&r->tail, first, at, size, v.start_position, v.end_position, fuse_req_ctx(req)->pid)) {
	case TAIL_NEWLINE:
		*newline = true;
		break;
	case TAIL_SHORT:
	case TAIL_FORWARDS:
		move(r, at, v.start_position);
		break;
	case TAIL_AS_USUAL:
		break;
	}
	return 0;
}

/* Says once in a while why a reader got ESTALE, and what to do. */
static void say_stale(struct reader *r, int64_t at)
{
	static struct diag_limit limit;
	struct visible v;
	const char *topic = partition_topic_name(r->p);
	int n = (int)partition_index(r->p);
	if (partition_visible(r->p, &v, NULL) < 0)
		return;
	if (v.sequential)
		diag_limited(&limit, LOG_MS, DIAG_NOTICE, "%s/%d: the topic is compacted now, so the file has no positions any more; open it again to read what is left in order", topic, n);
	else if (r->moved && at > r->furthest)
		diag_limited(&limit, LOG_MS, DIAG_NOTICE, "%s/%d: a reader that began at 0, where messages were deleted, skipped ahead to position %lld of what is left; "
			     "read %d@earliest, where positions count from the first message", topic, n, (long long)at, n);
	else
		diag_limited(&limit, LOG_MS, DIAG_NOTICE, "%s/%d: a reader wanted position %lld, but the messages before position %lld are deleted; "
			     "read on from there, or read %d@earliest", topic, n, (long long)(at + r->shift), (long long)v.start_position, n);
}

static void reply_error(struct reader *r, fuse_req_t req, int64_t at, const struct err *e)
{
	if (e->code == ERR_OUT_OF_RANGE) {
		say_stale(r, at);
		fuse_reply_err(req, ESTALE);
	} else
		fuse_reply_err(req, ops_explain("cannot read", r->p, e));
}

/* Notes that [at, at + got) was served. locks: the reader's. */
static void note_served(struct reader *r, int64_t at, size_t size, size_t got)
{
	r->next = at + r->shift + (int64_t)got;
	r->run = got == size ? r->run + 1 : 0;
	r->unit = size;
	r->used = true;
	if (r->run >= RUN && !r->link) /* with blocks ahead or not, its cursor's window has grown */
		set_streaming(r, true);
	if (r->furthest < at + (int64_t)got)
		r->furthest = at + (int64_t)got;
}

static struct partition_cursor *take_cursor(struct reader *r)
{
	struct partition_cursor *c = NULL;
	pthread_mutex_lock(&r->lock);
	if (r->cursors)
		c = r->cursor[--r->cursors];
	pthread_mutex_unlock(&r->lock);
	return c ? c : partition_cursor_new(r->p);
}

/* A handle that begins at 0, and of which nothing was read yet, may begin anew where the log start has moved to meanwhile. */
static bool begins_anew(struct reader *r, int64_t at)
{
	struct visible v;
	bool anew = false;
	pthread_mutex_lock(&r->lock);
	if (!r->based && at == 0 && r->furthest == 0 && partition_visible(r->p, &v, NULL) == 0 && !v.sequential && v.start_position > r->shift) {
		move(r, 0, v.start_position);
		anew = true;
	}
	pthread_mutex_unlock(&r->lock);
	return anew;
}

/* Reads into buf and answers. */
static void read_into(struct reader *r, fuse_req_t req, int64_t at, uint8_t *buf, size_t size)
{
	struct err e = ERR_INIT;
	struct visible v;
	struct partition_cursor *c = take_cursor(r), *surplus = c;
	ssize_t got;
	do
		got = c ? read_view(r, c, at + r->shift, buf, size, &e) : err_set(&e, ERR_NO_MEMORY, "no memory for a reader");
	while (got == ERR_OUT_OF_RANGE && begins_anew(r, at));
	if (got == ERR_OUT_OF_RANGE && partition_visible(r->p, &v, NULL) == 0 && !v.sequential && at + r->shift >= v.end_position)
		got = 0;
	pthread_mutex_lock(&r->lock);
	note_served(r, at, size, got > 0 ? (size_t)got : 0);
	bool job = wants_job(r);
	if (c && r->cursors < CURSORS) {
		r->cursor[r->cursors++] = c;
		surplus = NULL;
	}
	pthread_mutex_unlock(&r->lock);
	if (job)
		pool_run(partition_may_wait(r->p) ? r->rs->remote_pool : r->rs->pool, &r->job);
	if (got < 0)
		reply_error(r, req, at, &e);
	else
		fuse_reply_buf(req, (char *)buf, (size_t)got);
	if (surplus)
		partition_cursor_free(surplus);
}

static __attribute__((noinline)) void read_small(struct reader *r, fuse_req_t req, int64_t at, size_t size)
{
	uint8_t buf[STACK_BYTES];
	read_into(r, req, at, buf, size);
}

static void read_large(struct reader *r, fuse_req_t req, int64_t at, size_t size)
{
	struct block *b = take_block(r->rs, false);
	if (!b) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	read_into(r, req, at, b->data, size);
	give_block(r->rs, b, false);
}

/* A READ is over. Who was answered may have closed the handle by now: it is released by whoever is the last to use it. */
static void end_read(struct reader *r, struct block *b)
{
	pthread_mutex_lock(&r->lock);
	if (b)
		unpin(r, b);
	r->reads--;
	bool last = is_last(r);
	pthread_mutex_unlock(&r->lock);
	if (last)
		finish(r);
}

void reader_read(struct reader *r, fuse_req_t req, int64_t at, size_t size)
{
	struct err e = ERR_INIT;
	struct block *b = NULL;
	bool job = false;
	size = size < BLOCK_BYTES ? size : BLOCK_BYTES;
	pthread_mutex_lock(&r->lock);
	r->reads++;
	bool newline = false;
	int rc = partition_cuts(r->p) == r->cuts ? begin(r, req, at, &size, &newline, &e) : err_set(&e, ERR_CORRUPT, "what was read here was taken back: another broker was elected without having it");
	if (rc == 0 && !newline && r->moved && at > r->furthest)
		rc = err_set(&e, ERR_OUT_OF_RANGE, "beyond what a moved reader has returned");
	if (rc == 0 && !newline) {
		if (at + r->shift != r->next) {
			drop_all(r);
			r->run = 0;
		} else if (r->first) {
			b = find_block(r, at + r->shift, size);
		}
		if (b) {
			note_served(r, at, size, size);
			job = wants_job(r);
		} else {
			r->next = at + r->shift + (int64_t)size; /* so that a job that begins now begins behind what this READ reads itself */
		}
	}
	pthread_mutex_unlock(&r->lock);
	if (job)
		pool_run(partition_may_wait(r->p) ? r->rs->remote_pool : r->rs->pool, &r->job);
	if (rc < 0)
		reply_error(r, req, at, &e);
	else if (newline)
		fuse_reply_buf(req, "\n", 1);
	else if (b)
		fuse_reply_buf(req, (char *)b->data + (at + r->shift - b->position), size);
	else if (size <= STACK_BYTES)
		read_small(r, req, at, size);
	else
		read_large(r, req, at, size);
	end_read(r, b);
}

/* ---- the life of a reader ---- */

struct reader *reader_new(struct readers *rs, struct partition *p, int64_t base)
{
	struct reader *r = malloc(sizeof *r);
	if (!r)
		return NULL;
	*r = (struct reader){.rs = rs, .p = p, .cuts = partition_cuts(p), .begun = base >= 0, .based = base >= 0, .shift = base > 0 ? base : 0, .next = -1, .ahead_bytes = FIRST_AHEAD_BYTES, .job.run = read_ahead};
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->filled, NULL);
	pthread_mutex_lock(&rs->lock);
	rs->live++;
	pthread_mutex_unlock(&rs->lock);
	return r;
}

static void finish(struct reader *r)
{
	struct readers *rs = r->rs;
	for (int i = 0; i < r->cursors; i++)
		partition_cursor_free(r->cursor[i]);
	if (r->ahead_cursor)
		partition_cursor_free(r->ahead_cursor);
	r->gone(r->gone_arg);
	pthread_cond_destroy(&r->filled);
	pthread_mutex_destroy(&r->lock);
	free(r);
	pthread_mutex_lock(&rs->lock);
	if (!--rs->live)
		pthread_cond_broadcast(&rs->none);
	pthread_mutex_unlock(&rs->lock);
}

void reader_free(struct reader *r, void (*gone)(void *arg), void *arg)
{
	pthread_mutex_lock(&r->lock);
	drop_all(r);
	r->ending = true;
	set_streaming(r, false);
	r->gone = gone;
	r->gone_arg = arg;
	bool last = is_last(r);
	pthread_mutex_unlock(&r->lock);
	if (last)
		finish(r);
}
