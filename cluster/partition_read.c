/*
 * Reading a partition, here or elsewhere: for those who look at it as a file. What of it is in this broker's log directories is read there; what is not, or is not as far yet as was shown already, is read from another broker
 * (cluster/remote), by the same calls. Which it is may change: a replica that is made here is read once it has caught up.
 */
#include "cluster/partition.h"

#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

#include "cluster/model.h"
#include "cluster/partition_fetch.h"
#include "cluster/remote/remote.h"
#include "store/counters.h"
#include "store/sequence.h"

/* How long the first look after a start waits for a leader, and how often it looks whether there is one. */
enum { SETTLE_MS = 10000, SETTLE_STEP_MS = 2 };

/* ---- here or elsewhere ---- */

static bool is_elsewhere(struct partition *p)
{
	if (!p->topic->broker->remote)
		return false;
	const struct remote_view *x = p->elsewhere;
	return !p->dir || (x && !p->topic->compact && p->role != ROLE_LEADER && remote_shown(x) > p->end_position);
}

/* Whether how far it is committed was known here since the start. */
static bool is_settled(struct partition *p)
{
	struct partition_ends ends;
	if (p->settled || !p->topic->broker->roles || !p->dir)
		return true;
	partition_take_ends(p, &ends);
	if (p->role == ROLE_LEADER && !partition_is_behind(p, &ends, ISOLATION_COMMITTED))
		p->settled = true; /* of followers partition_follower_append says so */
	return p->settled;
}

bool partition_may_wait(struct partition *p)
{
	return is_elsewhere(p) || !is_settled(p);
}

void partition_expect(struct partition *p, int64_t end_offset)
{
	if (is_elsewhere(p))
		remote_expect(p, end_offset);
}

uint32_t partition_cuts(const struct partition *p)
{
	return p->cuts;
}

static void pause_ms(int ms)
{
	nanosleep(&(struct timespec){.tv_nsec = ms * 1000000L}, NULL);
}

/* Once after a start: by then somebody leads, and has said how far it is committed, or there is nobody. false: who waits has given up. */
static bool settle(struct partition *p)
{
	int64_t now = mono_now().ns, by = 0;
	if (atomic_compare_exchange_strong(&p->settle_by_ns, &by, now + SETTLE_MS * INT64_C(1000000)))
		by = p->settle_by_ns;
	while (!is_settled(p) && mono_now().ns < by && !partition_is_gone(p) && !p->topic->stray && !p->dir->offline && !remote_is_stopping(p->topic->broker->remote)) {
		if (remote_given_up())
			return false;
		pause_ms(SETTLE_STEP_MS);
	}
	p->settled = true;
	return true;
}

static int deleted(const struct partition *p, struct err *e)
{
	return err_set(e, ERR_DELETED, "topic %s was deleted", p->topic->name);
}

int partition_look(struct partition *p, struct visible *v, struct err *e)
{
	if (p->topic->stray)
		return deleted(p, e);
	if (is_elsewhere(p))
		return remote_look(p->topic->broker->remote, p, v, e);
	if (!is_settled(p) && !settle(p))
		return err_set(e, ERR_INTERRUPTED, "who waited for it has given up");
	return p->topic->stray ? deleted(p, e) : partition_visible(p, v, e);
}

int partition_visible(struct partition *p, struct visible *v, struct err *e)
{
	if (is_elsewhere(p)) {
		if (partition_is_gone(p))
			return deleted(p, e);
		return remote_known(p->elsewhere, v) ? 0 : err_set(e, ERR_NOT_YET, "%s-%" PRId32 ": nobody was asked yet what it has", p->topic->name, p->index);
	}
	return partition_visible_here(p, v, e);
}

int partition_acquire_reader(struct partition *p, struct err *e)
{
	if (p->topic->stray)
		return deleted(p, e);
	if (!is_elsewhere(p))
		return partition_acquire(p, e);
	if (partition_is_gone(p))
		return deleted(p, e);
	p->users++; /* of what is not open: if it is by the time that is given back, it was kept from being closed */
	return 0;
}

int partition_find(struct partition *p, int64_t position, int64_t *offset, int64_t *record_position, struct err *e)
{
	if (is_elsewhere(p))
		return remote_locate(p->topic->broker->remote, p, position, offset, record_position, e);
	int rc = partition_acquire(p, e);
	if (rc < 0)
		return rc;
	rc = partition_locate(p, position, offset, record_position, e);
	partition_release(p);
	return rc;
}

/* ---- cursors ---- */

struct partition_cursor {
	struct partition *p;
	struct log_cursor *here;       /* p is acquired while there is one */
	struct remote_cursor *elsewhere;
};

struct partition_cursor *partition_cursor_new(struct partition *p)
{
	struct partition_cursor *c = calloc(1, sizeof *c);
	if (c)
		c->p = p;
	return c;
}

void partition_cursor_rest(struct partition_cursor *c)
{
	if (c->here)
		log_cursor_rest(c->here);
	if (c->elsewhere)
		remote_cursor_rest(c->elsewhere);
}

void partition_cursor_free(struct partition_cursor *c)
{
	if (c->here) {
		log_cursor_free(c->here);
		partition_release(c->p);
	}
	remote_cursor_free(c->elsewhere);
	free(c);
}

static COUNTER(reads_total, "spoolfs_view_reads_total", "reads of partition files");
static COUNTER(read_bytes_total, "spoolfs_view_read_bytes_total", "bytes given to readers of partition files");

static ssize_t count_read(ssize_t got)
{
	counter_add(&reads_total, 1);
	if (got > 0)
		counter_add(&read_bytes_total, (uint64_t)got);
	return got;
}

static ssize_t read_elsewhere(struct partition *p, struct partition_cursor *c, int64_t position, void *buf, size_t n, struct err *e)
{
	if (!c->elsewhere && !(c->elsewhere = remote_cursor_new(p->topic->broker->remote, p)))
		return err_set(e, ERR_NO_MEMORY, "no memory for a reader");
	return count_read(remote_cursor_read(c->elsewhere, position, buf, n, e));
}

static int open_here(struct partition *p, struct partition_cursor *c, struct err *e)
{
	int rc = partition_acquire(p, e);
	if (rc < 0)
		return rc;
	c->here = log_cursor_new(p->log);
	if (c->here)
		return 0;
	partition_release(p);
	return err_set(e, ERR_NO_MEMORY, "no memory for a reader");
}

static int check_here(struct partition *p, struct err *e)
{
	if (partition_is_gone(p)) /* its files may be those of a new topic of the same name */
		return err_set(e, ERR_DELETED, "topic %s was deleted", p->topic->name);
	if (p->dir && p->dir->offline)
		return err_set(e, ERR_OFFLINE, "log directory %s is out of service after an I/O error", p->dir->path);
	return 0;
}

ssize_t partition_read(struct partition *p, struct partition_cursor *c, int64_t position, void *buf, size_t n, struct err *e)
{
	struct visible v;
	int rc = check_here(p, e);
	if (rc < 0)
		return rc;
	if (is_elsewhere(p))
		return read_elsewhere(p, c, position, buf, n, e);
	if (!c->here && (rc = open_here(p, c, e)) < 0)
		return rc;
	partition_take_visible(p, &v);
	log_cursor_visible(c->here, v.end_offset, v.end_position);
	ssize_t got = log_cursor_read(c->here, position, v.end_position, buf, n, e);
	if (p->log->sequential) /* meanwhile, maybe */
		return err_set(e, ERR_OUT_OF_RANGE, "topic %s is compacted now: its files have no positions", p->topic->name);
	if (partition_is_gone(p))
		return check_here(p, e);
	return count_read(got);
}

int partition_locate(struct partition *p, int64_t position, int64_t *offset, int64_t *record_position, struct err *e)
{
	struct visible v;
	partition_take_visible(p, &v);
	if (v.sequential)
		return err_set(e, ERR_OUT_OF_RANGE, "topic %s is compacted: its files have no positions", p->topic->name);
	if (position < v.start_position || position > v.end_position)
		return err_set(e, ERR_OUT_OF_RANGE, "position %" PRId64 " is not within %" PRId64 " and %" PRId64, position, v.start_position, v.end_position);
	if (position == v.end_position) {
		*offset = v.end_offset;
		*record_position = v.end_position;
		return 0;
	}
	return log_locate(p->log, position, offset, record_position, e);
}

/* ---- compacted partitions ---- */

struct partition_sequence { /* one of both, for its whole life: a place in the order of offsets is the same in both, but a record that was begun is given to its end */
	struct log_sequence *here;
	struct remote_cursor *elsewhere;
};

struct partition_sequence *partition_sequence_new(struct partition *p)
{
	struct partition_sequence *q = calloc(1, sizeof *q);
	if (!q)
		return NULL;
	if (is_elsewhere(p))
		q->elsewhere = remote_cursor_new(p->topic->broker->remote, p);
	else
		q->here = log_sequence_new(p->log, p->start_offset);
	if (q->here || q->elsewhere)
		return q;
	free(q);
	return NULL;
}

void partition_sequence_free(struct partition_sequence *q)
{
	log_sequence_free(q->here);
	remote_cursor_free(q->elsewhere);
	free(q);
}

ssize_t partition_sequence_read(struct partition *p, struct partition_sequence *q, void *buf, size_t n, struct err *e)
{
	int rc = check_here(p, e);
	if (rc < 0)
		return rc;
	ssize_t got = q->elsewhere ? remote_cursor_read_on(q->elsewhere, buf, n, e) : log_sequence_read(q->here, p->end_offset, buf, n, e);
	if (partition_is_gone(p))
		return check_here(p, e);
	return count_read(got);
}

int64_t partition_sequence_offset(const struct partition_sequence *q)
{
	return q->elsewhere ? remote_cursor_offset(q->elsewhere) : log_sequence_offset(q->here);
}
