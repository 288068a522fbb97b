#include "cluster/partition_fetch.h"

#include <inttypes.h>

#include "cluster/model.h"
#include "store/cursor.h"
#include "store/io.h"
#include "store/counters.h"

static COUNTER(fetches_total, "spoolfs_fetches_total", "lookups for Fetch");
static COUNTER(fetch_bytes_total, "spoolfs_fetch_bytes_total", "bytes of log that fetches were given");

/* 0: acquired; PARTITION_WOULD_BLOCK. An error that is known without opening anything is told at once. */
static int acquire(struct partition *p, bool wait, struct err *e)
{
	if (partition_try_acquire(p))
		return 0;
	if (partition_is_gone(p))
		return err_set(e, ERR_DELETED, "topic %s was deleted", p->topic->name);
	if (p->dir && p->dir->offline)
		return err_set(e, ERR_OFFLINE, "log directory %s is out of service after an I/O error", p->dir->path);
	return wait ? partition_acquire(p, e) : PARTITION_WOULD_BLOCK;
}

int partition_check_epoch(struct partition *p, int32_t current_epoch, struct err *e)
{
	int32_t ours = p->leader_epoch;
	if (current_epoch < 0 || current_epoch == ours)
		return 0;
	if (current_epoch < ours)
		return err_set(e, ERR_FENCED_EPOCH, "%s-%" PRId32 ": leader epoch %" PRId32 " is over, it is %" PRId32 " now", p->topic->name, p->index, current_epoch, ours);
	return err_set(e, ERR_UNKNOWN_EPOCH, "%s-%" PRId32 ": leader epoch %" PRId32 " is not known here, it is %" PRId32, p->topic->name, p->index, current_epoch, ours);
}

static int not_leader(const struct partition *p, struct err *e)
{
	return err_set(e, ERR_NOT_LEADER, "%s-%" PRId32 ": this broker %s", p->topic->name, p->index, p->role == ROLE_NONE ? "is none of its replicas" : "does not lead it");
}

static int acquire_in_epoch(struct partition *p, int32_t current_epoch, bool leader_only, bool wait, struct err *e)
{
	int rc = acquire(p, wait, e);
	if (rc)
		return rc;
	rc = partition_check_epoch(p, current_epoch, e);
	if (rc == 0 && (leader_only ? p->role != ROLE_LEADER : p->role == ROLE_NONE))
		rc = not_leader(p, e);
	if (rc < 0)
		partition_release(p);
	return rc;
}

static int64_t end_by(const struct partition_ends *x, enum isolation isolation)
{
	return isolation == ISOLATION_COMMITTED ? x->last_stable : isolation == ISOLATION_UNCOMMITTED ? x->high_watermark : x->log_end;
}

/* ---- fetching ---- */

/* KIP-595: whether what the client has before its offset is what this log has. */
static int check_diverging(struct partition *p, struct partition_fetch *f, struct err *e)
{
	int32_t epoch;
	int64_t end;
	f->diverged = false;
	if (f->last_fetched_epoch < 0)
		return 0;
	log_epoch_end(p->log, p->leader_epoch, f->last_fetched_epoch, &epoch, &end);
	if (epoch < 0 || end < 0)
		return err_set(e, ERR_OUT_OF_RANGE, "%s-%" PRId32 ": where epoch %" PRId32 " ended is not known here", p->topic->name, p->index, f->last_fetched_epoch);
	if (f->offset < f->ends.log_start)
		return 0; /* out of range, whatever the epoch */
	f->diverged = epoch < f->last_fetched_epoch || end < f->offset;
	f->diverging_epoch = epoch;
	f->diverging_end = end;
	return 0;
}

/* A log starts anywhere, but a replica's first batch is a whole one: it begins there, and its log start follows. 0; PARTITION_WOULD_BLOCK. */
static int find_begin(struct partition *p, struct partition_fetch *f, struct err *e)
{
	struct log_fetch first = {.offset = f->ends.log_start, .bound = f->ends.log_end, .max_bytes = 1, .min_one = true, .wait = f->wait};
	uint8_t header[BATCH_HEADER_BYTES];
	f->begin_offset = f->ends.log_start;
	f->begin_position = f->ends.log_start_position;
	int rc = f->ends.log_start < f->ends.log_end ? log_fetch(p->log, &first, e) : 0;
	if (rc)
		return rc < 0 ? rc : PARTITION_WOULD_BLOCK;
	const struct log_range *at = &first.range[0];
	if (first.range_count && io_pread(at->segment->fd, header, sizeof header, at->position) == (ssize_t)sizeof header && (int64_t)be64_get(header) < f->begin_offset) {
		f->begin_offset = (int64_t)be64_get(header);
		rc = log_position_of(p->log, f->begin_offset, &f->begin_position, e);
	}
	log_fetch_release(&first);
	return rc;
}

/* rc: why it is refused. */
static int out_of_range(struct partition *p, struct partition_fetch *f, int rc, struct err *e)
{
	int found = rc == ERR_OUT_OF_RANGE && f->isolation == ISOLATION_NONE ? find_begin(p, f, e) : 0;
	return found ? found : rc;
}

static int fetch(struct partition *p, struct partition_fetch *f, struct err *e)
{
	int32_t epoch = p->leader_epoch;
	partition_take_ends(p, &f->ends);
	if (f->ends_only)
		return 0;
	int rc = check_diverging(p, f, e);
	if (rc < 0)
		return out_of_range(p, f, rc, e);
	if (f->diverged)
		return rc;
	int64_t offset = f->offset;
	if (f->isolation == ISOLATION_NONE && offset < f->ends.log_start) { /* it may have begun anew, with the batch that holds the log start */
		if ((rc = find_begin(p, f, e)) != 0)
			return rc;
		if (offset == f->begin_offset)
			offset = f->ends.log_start;
	}
	if (offset < f->ends.log_start || offset > f->ends.log_end) {
		rc = err_set(e, ERR_OUT_OF_RANGE, "%s-%" PRId32 ": offset %" PRId64 " is not within %" PRId64 " and %" PRId64, p->topic->name, p->index, f->offset,
			     f->ends.log_start, f->ends.log_end);
		return out_of_range(p, f, rc, e);
	}
	if (f->follower) {
		if ((rc = partition_follower_fetched(p, f->follower, e)) < 0)
			return rc;
		partition_take_ends(p, &f->ends); /* that may have moved the high watermark, which it is told */
	}
	f->slowed = f->slow && !(f->follower ? f->follower->in_sync : f->in_sync) && f->offset < f->ends.log_end;
	if (f->slowed)
		return 0;
	f->data.offset = offset;
	f->data.bound = end_by(&f->ends, f->isolation);
	f->data.max_bytes = f->max_bytes;
	f->data.min_one = f->min_one;
	f->data.aborted = f->isolation == ISOLATION_COMMITTED;
	f->data.wait = f->wait;
	rc = log_fetch(p->log, &f->data, e);
	if (rc == 0 && f->isolation == ISOLATION_NONE && (p->leader_epoch != epoch || p->role != ROLE_LEADER)) { /* meanwhile: what was found may be cut, and be something else by now */
		log_fetch_release(&f->data);
		f->data.bytes = 0;
		rc = not_leader(p, e);
	}
	if (rc == 0 && partition_is_gone(p)) { /* meanwhile: its files may have been those of a new topic of the same name */
		log_fetch_release(&f->data);
		rc = err_set(e, ERR_DELETED, "topic %s was deleted", p->topic->name);
	}
	if (rc == ERR_OUT_OF_RANGE) {
		partition_take_ends(p, &f->ends);
		rc = out_of_range(p, f, rc, e);
	}
	return rc;
}

int partition_fetch(struct partition *p, struct partition_fetch *f, struct err *e)
{
	f->data = (struct log_fetch){0};
	f->held = f->diverged = f->slowed = false;
	f->begin_offset = f->begin_position = -1;
	int rc = acquire_in_epoch(p, f->current_epoch, f->leader_only || f->isolation == ISOLATION_NONE, f->wait, e);
	if (rc)
		return rc;
	rc = fetch(p, f, e);
	f->held = rc == 0 && f->data.range_count;
	if (!f->held)
		partition_release(p);
	counter_add(&fetches_total, 1);
	counter_add(&fetch_bytes_total, f->data.bytes);
	return rc;
}

void partition_fetch_release(struct partition *p, struct partition_fetch *f)
{
	log_fetch_release(&f->data);
	if (f->held)
		partition_release(p);
	f->held = false;
}

/* ---- epochs, offsets, records ---- */

int partition_epoch_end(struct partition *p, int32_t current_epoch, int32_t epoch, bool wait, int32_t *found_epoch, int64_t *end_offset, struct err *e)
{
	int rc = acquire_in_epoch(p, current_epoch, true, wait, e);
	if (rc)
		return rc;
	int32_t ours = p->leader_epoch;
	log_epoch_end(p->log, ours, epoch, found_epoch, end_offset);
	if (p->leader_epoch != ours || p->role != ROLE_LEADER) /* meanwhile: its log may have been cut since */
		rc = not_leader(p, e);
	partition_release(p);
	return rc;
}

bool partition_is_behind(struct partition *p, const struct partition_ends *ends, enum isolation isolation)
{
	if (!p->shared || isolation == ISOLATION_NONE)
		return false;
	pthread_mutex_lock(&p->isr_lock);
	bool behind = p->role == ROLE_LEADER && ends->high_watermark < p->isr.epoch_start;
	pthread_mutex_unlock(&p->isr_lock);
	return behind;
}

static int not_yet(const struct partition *p, struct err *e)
{
	return err_set(e, ERR_NOT_YET, "%s-%" PRId32 ": its new leader does not know yet how far it is committed", p->topic->name, p->index);
}

/* p is acquired. */
static int list_offset(struct partition *p, int64_t timestamp_ms, const struct partition_ends *ends, enum isolation isolation, struct log_offset *found, struct err *e)
{
	int64_t end = end_by(ends, isolation);
	int rc = 0;
	switch (timestamp_ms) {
	case OFFSET_LATEST:
		if (partition_is_behind(p, ends, isolation))
			return not_yet(p, e);
		*found = (struct log_offset){end, -1, p->leader_epoch};
		return 0;
	case OFFSET_EARLIEST:
	case OFFSET_EARLIEST_LOCAL:
		log_offset_of_start(p->log, p->leader_epoch, found);
		return 0;
	case OFFSET_LATEST_TIERED:
		*found = (struct log_offset){-1, -1, -1};
		return 0;
	case OFFSET_MAX_TIMESTAMP:
		rc = log_offset_of_max_time(p->log, found, e);
		break;
	default:
		rc = log_offset_of_time(p->log, timestamp_ms, found, e);
	}
	if (rc == 0 && found->offset >= end) {
		if (partition_is_behind(p, ends, isolation))
			return not_yet(p, e);
		*found = (struct log_offset){-1, -1, -1};
	}
	return rc;
}

/* Where the log ends by whatever isolation, if that is one offset and known without opening it: a client that begins with thousands of idle partitions asks it of all. */
static bool knows_end(struct partition *p, struct partition_ends *ends)
{
	if (!p->visible_known || p->role != ROLE_LEADER || !p->dir || p->dir->offline || p->why_offline || partition_is_gone(p))
		return false;
	partition_take_ends(p, ends);
	return ends->last_stable == ends->log_end && ends->high_watermark == ends->log_end;
}

int partition_list_offset(struct partition *p, int64_t timestamp_ms, enum isolation isolation, int32_t current_epoch, bool wait, struct log_offset *found, struct err *e)
{
	struct partition_ends ends;
	if (timestamp_ms < OFFSET_LATEST_TIERED)
		return err_set(e, ERR_UNSUPPORTED, "%" PRId64 " stands for no offset", timestamp_ms);
	bool searches = timestamp_ms >= 0 || timestamp_ms == OFFSET_MAX_TIMESTAMP;
	int rc;
	if (timestamp_ms == OFFSET_LATEST && knows_end(p, &ends)) {
		*found = (struct log_offset){ends.log_end, -1, p->leader_epoch};
		return partition_check_epoch(p, current_epoch, e);
	}
	if ((rc = acquire_in_epoch(p, current_epoch, true, wait, e)))
		return rc;
	partition_take_ends(p, &ends);
	rc = searches && !wait ? PARTITION_WOULD_BLOCK : list_offset(p, timestamp_ms, &ends, isolation, found, e);
	if (rc == 0 && partition_is_gone(p))
		rc = err_set(e, ERR_DELETED, "topic %s was deleted", p->topic->name);
	partition_release(p);
	return rc;
}

int partition_replica_end(struct partition *p, struct log_offset *found, struct err *e)
{
	int rc = acquire(p, true, e);
	if (rc)
		return rc;
	pthread_mutex_lock(&p->log_lock);
	*found = (struct log_offset){p->log->leo, -1, epochs_last(&p->log->epochs)};
	pthread_mutex_unlock(&p->log_lock);
	if (partition_is_gone(p))
		rc = err_set(e, ERR_DELETED, "topic %s was deleted", p->topic->name);
	partition_release(p);
	return rc;
}

/* p is acquired. */
static int find_place(struct partition *p, struct partition_place *x, struct err *e)
{
	const struct visible *v = &x->visible;
	if (x->position >= 0)
		return partition_locate(p, x->position, &x->offset, &x->position, e);
	if (x->offset < 0)
		return 0;
	if (x->offset < v->start_offset || x->offset > v->end_offset)
		return err_set(e, ERR_OUT_OF_RANGE, "%s-%" PRId32 ": offset %" PRId64 " is not within %" PRId64 " and %" PRId64, p->topic->name, p->index, x->offset, v->start_offset, v->end_offset);
	x->position = v->end_position;
	return x->offset < v->end_offset ? log_position_of(p->log, x->offset, &x->position, e) : 0;
}

int partition_place(struct partition *p, int32_t current_epoch, bool wait, struct partition_place *x, struct err *e)
{
	struct partition_ends ends;
	if (!wait && (x->offset >= 0 || x->position >= 0))
		return PARTITION_WOULD_BLOCK;
	int rc = acquire_in_epoch(p, current_epoch, false, wait, e);
	if (rc)
		return rc;
	x->leads = p->role == ROLE_LEADER;
	x->leader_epoch = p->leader_epoch;
	partition_take_visible(p, &x->visible);
	partition_take_ends(p, &ends);
	x->log_end = ends.log_end;
	x->settled = x->leads && !partition_is_behind(p, &ends, ISOLATION_COMMITTED);
	rc = find_place(p, x, e);
	if (rc == 0 && partition_is_gone(p))
		rc = err_set(e, ERR_DELETED, "topic %s was deleted", p->topic->name);
	partition_release(p);
	return rc;
}

int partition_scan_records(struct partition *p, int64_t from, int64_t to, log_record_fn fn, void *arg, int64_t *end, struct err *e)
{
	struct partition_ends ends;
	int rc = acquire(p, true, e);
	if (rc < 0)
		return rc;
	/* What is compacted meanwhile is gone because there is something newer, maybe behind the high watermark as it was: so that is read too, until there is no more. */
	for (partition_take_ends(p, &ends); rc == 0; partition_take_ends(p, &ends)) {
		int64_t upto = to < 0 || to > ends.high_watermark ? ends.high_watermark : to;
		if (from >= upto)
			break;
		rc = log_scan_records(p->log, from, upto, fn, arg, e);
		from = upto;
	}
	if (rc == 0 && partition_is_gone(p))
		rc = err_set(e, ERR_DELETED, "topic %s was deleted", p->topic->name);
	if (end)
		*end = from;
	partition_release(p);
	return rc;
}
