/*
 * What becomes of one partition, by what its leader answers. All on its thread; the partition refuses what came of a role that is over.
 */
#include <inttypes.h>
#include <stdio.h>

#include "cluster/partition_role.h"
#include "cluster/replica/model.h"
#include "cluster/throttle.h"
#include "cluster/wire/errors.h"
#include "store/diag.h"

static void go_to(struct followed *x, enum follow_state state)
{
	x->state = state;
	if (state == FOLLOW_ANEW)
		x->offset = x->last_epoch = -1;
}

void follow_pause(struct followed *x)
{
	x->not_before = mono_after_ms(mono_now(), x->thread->f->backoff_ms > 0 ? x->thread->f->backoff_ms : 1);
}

/* Once for each reason: it may be so for hours. */
static void tell(struct followed *x, enum diag_level level, int code, const char *text)
{
	if (x->told != code && !x->gone)
		diag(level, "%s-%" PRId32 ": following broker %" PRId32 " in epoch %" PRId32 ": %s", partition_topic_name(x->p), partition_index(x->p), x->leader, x->epoch, text);
	x->told = code;
}

/* ---- what fails here ---- */

static void failed(struct followed *x, int code, const struct err *e)
{
	switch (code) {
	case ERR_NOT_LEADER: /* it has another role, which the fetcher is told as well, or none */
	case ERR_FENCED_EPOCH:
	case ERR_DELETED:
		tell(x, DIAG_DEBUG, code, e->text);
		go_to(x, FOLLOW_GIVEN_UP);
		return;
	case ERR_OFFLINE: /* until it is put into service again, and given a role then */
	case ERR_IO:
		tell(x, DIAG_WARNING, code, e->text);
		go_to(x, FOLLOW_GIVEN_UP);
		return;
	case ERR_BUSY:
	case ERR_UNKNOWN_EPOCH:
		tell(x, DIAG_DEBUG, code, e->text);
		break;
	default:
		tell(x, DIAG_WARNING, code, e->text);
	}
	follow_pause(x);
}

/* ---- what the leader refuses ---- */

static void refused(struct followed *x, int16_t code)
{
	char text[100];
	snprintf(text, sizeof text, "it answers %s", kafka_error_name(code));
	switch (code) {
	case KAFKA_FENCED_LEADER_EPOCH: /* there is a later one, of which this broker will be told */
		tell(x, DIAG_INFO, code, text);
		go_to(x, FOLLOW_GIVEN_UP);
		return;
	case KAFKA_UNKNOWN_LEADER_EPOCH: /* it has not been told yet what it is, or that this broker was started anew */
	case KAFKA_NOT_LEADER_OR_FOLLOWER:
	case KAFKA_UNKNOWN_TOPIC_OR_PARTITION:
	case KAFKA_UNKNOWN_TOPIC_ID:
	case KAFKA_INCONSISTENT_TOPIC_ID:
		tell(x, DIAG_INFO, code, text);
		break;
	default:
		tell(x, DIAG_WARNING, code, text);
	}
	follow_pause(x);
}

/* ---- where the logs part ---- */

/* Where its log starts and ends by now. p is acquired. */
static int look(struct followed *x, struct err *e)
{
	struct visible v;
	int rc = partition_visible(x->p, &v, e);
	x->log_start = rc == 0 ? v.start_offset : -1;
	return rc < 0 ? rc : partition_follower_end(x->p, x->epoch, &x->offset, &x->last_epoch, e);
}

static int align(struct followed *x, int32_t their_epoch, int64_t their_end, struct err *e)
{
	bool aligned = false;
	int rc = partition_follower_align(x->p, their_epoch, their_end, x->epoch, &aligned, e);
	if (rc == 0)
		rc = look(x, e);
	if (rc == 0)
		go_to(x, aligned || x->last_epoch < 0 ? FOLLOW_FETCH : FOLLOW_ALIGN);
	if (rc == ERR_OUT_OF_RANGE) { /* they have nothing in common */
		go_to(x, FOLLOW_ANEW);
		rc = 0;
	}
	return rc;
}

static void aligned_by(struct followed *x, int32_t their_epoch, int64_t their_end)
{
	struct err e = ERR_INIT;
	int rc = partition_acquire(x->p, &e);
	if (rc == 0) {
		rc = align(x, their_epoch, their_end, &e);
		partition_release(x->p);
	}
	if (rc < 0)
		failed(x, rc, &e);
}

/* A log without an epoch has nothing that could be asked for. */
void follow_begin(struct followed *x)
{
	struct err e = ERR_INIT;
	int rc = partition_acquire(x->p, &e);
	x->not_before = (mono_t){0};
	x->state = FOLLOW_BEGIN;
	if (rc == 0) {
		rc = look(x, &e);
		if (rc == 0 && x->last_epoch >= 0)
			go_to(x, FOLLOW_ALIGN);
		else if (rc == 0)
			rc = align(x, -1, -1, &e);
		partition_release(x->p);
	}
	if (rc < 0)
		failed(x, rc, &e);
}

void follow_epoch_answer(struct followed *x, const struct offset_for_leader_epoch_response_partition *a)
{
	if (a->error_code)
		refused(x, a->error_code);
	else
		aligned_by(x, a->leader_epoch, a->end_offset);
}

/* ---- Fetch ---- */

static void begin_anew(struct followed *x, int64_t start, int64_t position)
{
	struct err e = ERR_INIT;
	int rc = partition_acquire(x->p, &e);
	if (rc == 0) {
		rc = partition_follower_restart(x->p, start, position, x->epoch, &e);
		if (rc == 0)
			rc = look(x, &e);
		partition_release(x->p);
	}
	if (rc < 0) {
		failed(x, rc, &e);
		return;
	}
	diag_notice("%s-%" PRId32 ": begun anew at offset %" PRId64 ", where the log of its leader, broker %" PRId32 ", starts", partition_topic_name(x->p), partition_index(x->p), start, x->leader);
	x->refused_offset = -1;
	go_to(x, FOLLOW_FETCH);
}

static void out_of_range(struct followed *x, const struct fetch_response_partition *a)
{
	if (a->log_start_offset < 0 || a->begin_position < 0) {
		tell(x, DIAG_WARNING, a->error_code, "it does not say where its log starts: all brokers of a cluster have to be spoolfs");
		follow_pause(x);
	} else if (x->offset < a->log_start_offset) {
		begin_anew(x, a->begin_offset, a->begin_position);
	} else if (x->offset != x->refused_offset) { /* past its end, or of an epoch that it does not know */
		x->refused_offset = x->offset;
		follow_begin(x);
	} else {
		go_to(x, FOLLOW_ANEW); /* and epochs do not tell where they part */
	}
}

static void take(struct followed *x, const struct fetch_response_partition *a)
{
	struct err e = ERR_INIT;
	size_t n = a->records.n > 0 ? (size_t)a->records.n : 0;
	int64_t before = x->offset, unused;
	int rc = partition_acquire(x->p, &e);
	if (rc == 0) {
		struct err other = ERR_INIT;
		rc = partition_follower_append(x->p, a->records.p, n, a->high_watermark, a->log_start_offset, x->epoch, &unused, &e);
		if (look(x, &other) < 0 && rc == 0) {
			rc = other.code;
			e = other;
		}
		partition_release(x->p);
	}
	if (rc < 0) {
		if (rc == ERR_OUT_OF_RANGE) /* what it sent does not go on from here: they have parted, as it seems */
			x->state = FOLLOW_BEGIN;
		failed(x, rc, &e);
	} else if (n && x->offset == before) {
		follow_pause(x); /* no whole batch, or those of a later epoch: it may not lead any more */
	} else {
		x->told = 0;
		x->refused_offset = -1;
		x->in_step = x->offset >= a->high_watermark;
		if (n && partition_is_throttled(x->p, THROTTLE_FOLLOWER))
			broker_throttle_took(x->thread->f->broker, THROTTLE_FOLLOWER, (int64_t)n);
	}
}

void follow_fetch_answer(struct followed *x, const struct fetch_response_partition *a)
{
	if (a->error_code == KAFKA_OFFSET_OUT_OF_RANGE)
		out_of_range(x, a);
	else if (a->error_code)
		refused(x, a->error_code);
	else if (a->diverging_epoch.epoch >= 0)
		aligned_by(x, a->diverging_epoch.epoch, a->diverging_epoch.end_offset);
	else
		take(x, a);
}
