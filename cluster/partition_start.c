/*
 * Where a log starts: deleting messages, and retention.
 *
 * Protocol: 1. the position of the new start is found; 2. the pair (offset, position) is made durable in view-start-checkpoint; 3. the log drops whole segments below it,
 * which become .deleted; 4. the agent removes those after file.delete.delay.ms. A crash between 2 and 3 leaves segments below the start, which the next
 * advance drops.
 */
#include <inttypes.h>

#include "cluster/model.h"
#include "store/diag.h"

/* The lock is let go while the pair goes to disk, so that appends go on; two that advance at once are put in order by broker_record_start and log_set_start, which
 * both only go forward. p is acquired. */
int partition_move_start(struct partition *p, int64_t offset, struct err *e)
{
	struct err unasked = ERR_INIT;
	int64_t position;
	struct log *l = p->log;
	e = e ? e : &unasked;
	if (offset <= l->start_offset)
		return 0;
	if (offset > p->end_offset)
		return err_set(e, ERR_OUT_OF_RANGE, "offset %" PRId64 " is past the visible end, %" PRId64, offset, (int64_t)p->end_offset);
	int rc = log_position_of(l, offset, &position, e);
	if (rc == 0) /* no log starts behind what it holds: after a power cut it would end below its start */
		rc = log_flush(l, offset, e);
	if (rc == 0)
		rc = broker_record_start(p->topic->broker, p, offset, position, e);
	if (rc < 0)
		return partition_failed(p, rc, e);
	pthread_mutex_lock(&p->log_lock);
	if (partition_is_gone(p)) /* its directory's name may be a new topic's by now */
		rc = err_set(e, ERR_DELETED, "topic %s was deleted", p->topic->name);
	else if (offset > l->leo) /* cut since, below what was committed */
		rc = err_set(e, ERR_OUT_OF_RANGE, "%s: the log was cut below offset %" PRId64, l->name, offset);
	else {
		/* readers are told before anything goes */
		partition_publish_start(p, offset, position);
		/* with nothing left the active segment goes too, so that its space is free; where that cannot be, it goes when the next one is begun */
		struct err why = ERR_INIT;
		if (offset == l->leo && log_roll(l, &why) < 0)
			diag_notice("%s: the newest segment stays for now: %s", l->name, why.text);
		rc = log_set_start(l, offset, position, e);
	}
	partition_publish_log(p, 0);
	bool pending = l->deleted_pending;
	pthread_mutex_unlock(&p->log_lock);
	delayed_raise(&p->delayed); /* replicas follow */
	if (pending)
		agent_delete_later(p->topic->broker->agent, topic_limits(p->topic).file_delete_delay_ms);
	return rc;
}

int partition_delete_before(struct partition *p, int64_t offset, struct err *e)
{
	if (p->role != ROLE_LEADER)
		return err_set(e, ERR_NOT_LEADER, "%s-%" PRId32 ": this broker does not lead it", p->topic->name, p->index);
	return partition_move_start(p, offset, e);
}

int partition_apply_retention(struct partition *p, int64_t now_ms, struct err *e)
{
	struct limits limits = topic_limits(p->topic);
	struct retention *r = &limits.retention;
	if ((r->ms < 0 && r->bytes < 0) || p->start_offset == p->end_offset)
		return 0;
	if (now_ms < p->retention_due_ms && (r->bytes < 0 || p->bytes <= r->bytes))
		return 0;
	int rc = partition_acquire(p, e);
	if (rc < 0)
		return rc == ERR_DELETED || rc == ERR_OFFLINE ? 0 : rc;
	int64_t start, oldest = now_ms;
	pthread_mutex_lock(&p->log_lock);
	struct log *l = p->log;
	start = l->start_offset;
	if (!partition_is_gone(p))
		rc = log_retention(l, r, now_ms, p->end_offset, &start, e);
	pthread_mutex_unlock(&p->log_lock);
	if (rc == 0 && start > l->start_offset) {
		diag_info("%s: retention moves the log start to offset %" PRId64, l->name, start);
		rc = partition_move_start(p, start, e);
	}
	pthread_mutex_lock(&p->log_lock);
	/* the next segment can be too old only when its newest record is */
	if (rc == 0 && l->shape->segment_count && l->shape->segment[0]->size_bytes)
		rc = segment_max_timestamp(l->shape->segment[0], &oldest, e);
	p->retention_due_ms = r->ms >= 0 && oldest <= INT64_MAX - r->ms ? oldest + r->ms : INT64_MAX;
	pthread_mutex_unlock(&p->log_lock);
	partition_release(p);
	return rc;
}

int partition_remove_deleted(struct partition *p, struct err *e)
{
	int rc = 0;
	pthread_mutex_lock(&p->open_lock);
	if (p->log) {
		pthread_mutex_lock(&p->log_lock);
		rc = partition_is_gone(p) ? 0 : log_remove_deleted(p->log, e);
		pthread_mutex_unlock(&p->log_lock);
	}
	pthread_mutex_unlock(&p->open_lock);
	return rc;
}
