/*
 * The follower's side of a partition: its log becomes the leader's. The thread that fetches from the leader calls these, one at a time for a partition; a role that changes meanwhile is
 * noticed under log_lock, and what came of another epoch is refused.
 */
#include <inttypes.h>

#include "cluster/model.h"
#include "cluster/partition_fetch.h"
#include "cluster/producer_ids.h"
#include "store/diag.h"

/* locks: log_lock. */
static int may_follow(struct partition *p, int32_t epoch, struct err *e)
{
	if (partition_is_gone(p))
		return err_set(e, ERR_DELETED, "topic %s was deleted", p->topic->name);
	if (p->dir->offline)
		return err_set(e, ERR_OFFLINE, "log directory %s is out of service after an I/O error", p->dir->path);
	int rc = partition_check_epoch(p, epoch, e);
	if (rc == 0 && (p->role != ROLE_FOLLOWER || epoch < 0))
		rc = err_set(e, ERR_NOT_LEADER, "%s-%" PRId32 ": this broker does not follow in epoch %" PRId32, p->topic->name, p->index, epoch);
	return rc;
}

int partition_follower_end(struct partition *p, int32_t epoch, int64_t *log_end, int32_t *last_epoch, struct err *e)
{
	pthread_mutex_lock(&p->log_lock);
	int rc = may_follow(p, epoch, e);
	*log_end = p->log->leo;
	*last_epoch = epochs_last(&p->log->epochs);
	pthread_mutex_unlock(&p->log_lock);
	return rc;
}

/* The high watermark is as far as both the leader's and the log go; it never goes back by what a leader says, who may have been elected a moment ago. locks: log_lock. */
static void follow_high(struct partition *p, int64_t leader_high)
{
	int64_t end = p->log->leo, high = leader_high < end ? leader_high : end;
	if (high > p->high_watermark)
		p->high_watermark = high;
}

/* Bytes up to the first batch of a later epoch than this: what a broker sends that does not lead any more, and has cut its log since the Fetch was looked up, is not what was asked for (KAFKA-18723). */
static size_t until_epoch(const uint8_t *bytes, size_t n, int32_t epoch)
{
	size_t at = 0;
	while (n - at >= BATCH_HEADER_BYTES) {
		size_t size = BATCH_LENGTH_AT + 4 + (size_t)be32_get(bytes + at + BATCH_LENGTH_AT);
		if ((int32_t)be32_get(bytes + at + BATCH_EPOCH_AT) > epoch)
			return at;
		if (size > n - at)
			break;
		at += size;
	}
	return n;
}

struct followed { bool roll, unreadable; struct err view_err; };

/* locks: log_lock. */
static int append(struct partition *p, const void *bytes, size_t n, int64_t leader_high, struct followed *f, struct err *e)
{
	struct limits limits = topic_limits(p->topic);
	struct log *l = p->log;
	struct segment *before = l->shape->segment_count ? l->shape->segment[l->shape->segment_count - 1] : NULL;
	int64_t active_base = before ? before->base_offset : -1, end = l->leo, appended_end;
	log_set_limits(l, &limits.log);
	int rc = n ? log_append_exact(l, bytes, n, &appended_end, e) : 0;
	if (rc < 0)
		return rc;
	if (l->leo > end) {
		if (!p->dirty_since_ms)
			p->dirty_since_ms = wall_now_ms();
		producer_ids_seen(p->topic->broker, producers_greatest_id(l->producers));
	}
	follow_high(p, leader_high);
	partition_advance(p, l->leo > end ? wall_now_ms() : 0, &f->view_err);
	if (leader_high <= l->leo) /* now that it can be seen: whoever waits for it looks at once */
		p->settled = true;
	f->roll = (active_base >= 0 && l->shape->segment[l->shape->segment_count - 1]->base_offset != active_base) || l->leo - l->flushed_offset >= limits.flush_messages;
	return 0;
}

int partition_follower_append(struct partition *p, const void *bytes, size_t n, int64_t leader_high, int64_t leader_log_start, int32_t epoch, int64_t *log_end, struct err *e)
{
	struct followed f = {.view_err = ERR_INIT};
	struct err unasked = ERR_INIT;
	e = e ? e : &unasked;
	n = until_epoch(bytes, n, epoch);
	pthread_mutex_lock(&p->log_lock);
	int rc = may_follow(p, epoch, e);
	if (rc == 0)
		rc = append(p, bytes, n, leader_high, &f, e);
	*log_end = p->log->leo;
	pthread_mutex_unlock(&p->log_lock);
	if (rc < 0)
		return partition_failed(p, rc, e);
	if (f.view_err.code) {
		diag_error("%s-%" PRId32 ": %s", p->topic->name, p->index, f.view_err.text);
		if (f.view_err.code == ERR_IO)
			partition_failed(p, ERR_IO, &f.view_err);
	}
	partition_wake(p);
	if (f.roll)
		partition_flush_soon(p);
	if (leader_log_start <= p->start_offset)
		return 0;
	/* what is not visible here yet cannot go: its positions are not known */
	return partition_move_start(p, leader_log_start < p->end_offset ? leader_log_start : (int64_t)p->end_offset, e);
}

/* What was known of offsets that are gone. locks: log_lock. */
static void forget_past(struct partition *p, int64_t end)
{
	if (p->high_watermark > end)
		p->high_watermark = end;
	if (p->clean_offset > end)
		p->clean_offset = end;
}

/* Before a log is cut no checkpoint may say that more of it was durable than what stays: recovery would miss it. locks: none held. */
static int lower_recovery_point(struct partition *p, int64_t offset, int32_t epoch, struct err *e)
{
	pthread_mutex_lock(&p->log_lock);
	int rc = may_follow(p, epoch, e);
	if (rc == 0)
		rc = log_hold_flushed(p->log, offset, e);
	bool noted = rc == 0 && p->noted_recovery > p->log->flushed_offset;
	pthread_mutex_unlock(&p->log_lock);
	if (!noted)
		return rc;
	rc = broker_checkpoint(p->topic->broker, p->dir, false, e);
	if (rc == 0)
		return 0;
	pthread_mutex_lock(&p->log_lock);
	p->noted_recovery = INT64_MAX; /* what is on disk is not known */
	log_hold_flushed(p->log, INT64_MAX, NULL);
	pthread_mutex_unlock(&p->log_lock);
	return rc;
}

int partition_follower_truncate(struct partition *p, int64_t offset, int32_t epoch, struct err *e)
{
	struct err unasked = ERR_INIT;
	e = e ? e : &unasked;
	int rc = lower_recovery_point(p, offset, epoch, e);
	if (rc < 0)
		return partition_failed(p, rc, e);
	pthread_mutex_lock(&p->log_lock);
	rc = may_follow(p, epoch, e);
	int64_t end = p->log->leo, high = p->high_watermark;
	if (rc == 0)
		rc = log_truncate(p->log, offset, e);
	if (rc < 0)
		log_hold_flushed(p->log, INT64_MAX, NULL);
	bool is_cut = p->log->leo < end;
	if (is_cut) {
		int64_t visible = p->end_offset;
		forget_past(p, p->log->leo);
		partition_publish_log(p, 0);
		p->cuts += p->end_offset < visible;
	}
	if (rc == 0 && p->high_watermark < high)
		diag_warning("%s-%" PRId32 ": cut at offset %" PRId64 ", below what was committed (%" PRId64 "): its leader was elected without having that", p->topic->name, p->index,
			     (int64_t)p->log->leo, high);
	bool pending = p->log->deleted_pending;
	pthread_mutex_unlock(&p->log_lock);
	if (is_cut)
		delayed_wake(&p->delayed, DELAYED_CHANNELS);
	if (pending)
		agent_delete_later(p->topic->broker->agent, topic_limits(p->topic).file_delete_delay_ms);
	return rc < 0 ? partition_failed(p, rc, e) : 0;
}

/* Where to cut by what the leader has answered. *aligned: they do not part any more then. locks: log_lock. */
static int64_t parting(struct partition *p, int32_t their_epoch, int64_t their_end, bool *aligned)
{
	int32_t last = epochs_last(&p->log->epochs), ours;
	int64_t end = p->log->leo, our_end;
	*aligned = true;
	if (last < 0 || their_end < 0) /* it cannot be told by epochs: what is committed is the same on both */
		return p->high_watermark < end ? (int64_t)p->high_watermark : end;
	log_epoch_end(p->log, last, their_epoch, &ours, &our_end);
	if (their_epoch >= 0 && ours == their_epoch)
		return our_end < their_end ? our_end : their_end;
	if (their_epoch < 0 || ours < 0)
		return their_end < end ? their_end : end;
	*aligned = false; /* the epoch is not known here: one that is, and was before it, is asked for next */
	return our_end < end ? our_end : end;
}

int partition_follower_align(struct partition *p, int32_t their_epoch, int64_t their_end, int32_t epoch, bool *aligned, struct err *e)
{
	pthread_mutex_lock(&p->log_lock);
	int rc = may_follow(p, epoch, e);
	int64_t offset = parting(p, their_epoch, their_end, aligned);
	pthread_mutex_unlock(&p->log_lock);
	return rc < 0 ? rc : partition_follower_truncate(p, offset, epoch, e); /* at the end too: an epoch that began there, and has no batch, goes */
}

int partition_follower_restart(struct partition *p, int64_t offset, int64_t position, int32_t epoch, struct err *e)
{
	struct err unasked = ERR_INIT;
	e = e ? e : &unasked;
	int64_t start = p->start_offset;
	/* first what it has is gone, then it begins further back: no log may be found that has less than its start says */
	int rc = offset < start ? partition_follower_truncate(p, start, epoch, e) : 0;
	if (rc == 0)
		rc = lower_recovery_point(p, offset < start ? offset : start, epoch, e);
	if (rc == 0)
		rc = broker_record_restart(p->topic->broker, p, offset, position, e);
	if (rc < 0)
		return partition_failed(p, rc, e);
	pthread_mutex_lock(&p->log_lock);
	rc = may_follow(p, epoch, e);
	if (rc == 0)
		rc = log_restart(p->log, offset, position, e);
	if (rc < 0)
		log_hold_flushed(p->log, INT64_MAX, NULL);
	if (rc == 0) {
		p->clean_offset = -1;
		p->high_watermark = offset;
		p->cuts += offset < p->end_offset;
		partition_publish_log(p, 0);
	}
	bool pending = p->log->deleted_pending;
	pthread_mutex_unlock(&p->log_lock);
	delayed_wake(&p->delayed, DELAYED_CHANNELS);
	if (pending)
		agent_delete_later(p->topic->broker->agent, topic_limits(p->topic).file_delete_delay_ms);
	return rc < 0 ? partition_failed(p, rc, e) : 0;
}
