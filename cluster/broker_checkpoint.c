/*
 * Checkpoints: the files at the top of a log directory (store/checkpoint.h) are written here; broker.c reads them.
 */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "cluster/model.h"
#include "cluster/producer_ids.h"
#include "store/diag.h"
#include "store/io.h"

enum { RESERVE_BYTES = 1 << 20 };

struct rows { struct log_dir *d; bool replicas; struct checkpoint_rows recovery, starts, high_watermarks, state; };

static void init_rows(struct rows *r)
{
	checkpoint_rows_init(&r->recovery);
	checkpoint_rows_init(&r->starts);
	checkpoint_rows_init(&r->high_watermarks);
	checkpoint_rows_init(&r->state);
}

static void release_rows(struct rows *r)
{
	checkpoint_rows_release(&r->recovery);
	checkpoint_rows_release(&r->starts);
	checkpoint_rows_release(&r->high_watermarks);
	checkpoint_rows_release(&r->state);
}

/* A partition that cannot be described keeps its recovery point: what was durable stays known as durable. */
static bool gather(void *arg, struct topic *t)
{
	struct rows *r = arg;
	for (int32_t i = 0; i < topic_partition_count(t); i++) {
		struct partition *p = topic_partition(t, i);
		struct partition_row row;
		if (p && p->dir == r->d) {
			bool good = partition_row(p, &row);
			offset_checkpoint_add(&r->recovery, t->name, i, row.recovery_point);
			if (row.start_offset > 0)
				offset_checkpoint_add(&r->starts, t->name, i, row.start_offset);
			if (good) {
				offset_checkpoint_add(&r->high_watermarks, t->name, i, p->high_watermark);
				partition_state_add(&r->state, &row);
			} else if (r->replicas) { /* as it was known: a replica cannot find it in its log */
				offset_checkpoint_add(&r->high_watermarks, t->name, i, p->high_watermark);
			}
		}
		partition_unref(p);
	}
	return true;
}

static bool spend_consents(void *arg, struct topic *t)
{
	for (int32_t i = 0; i < topic_partition_count(t); i++) {
		struct partition *p = topic_partition(t, i);
		struct err why = ERR_INIT;
		if (p && p->dir == arg && partition_spend_consent(p, &why) < 0)
			diag_error("%s", why.text);
		partition_unref(p);
	}
	return true;
}

int broker_checkpoint(struct broker *b, struct log_dir *d, bool clean, struct err *e)
{
	static const char *const names[] = {RECOVERY_POINT_FILE, LOG_START_FILE, HIGH_WATERMARK_FILE};
	struct rows r = {.d = d, .replicas = b->roles != NULL};
	char path[PATH_MAX];
	if (d->read_only)
		return 0;
	init_rows(&r);
	pthread_mutex_lock(&d->rows_lock);
	topics_list(b, gather, &r);
	int rc = producer_ids_settle(b->producer_ids, e); /* all that the rows know of were seen by now */
	struct checkpoint_rows *rows[] = {&r.recovery, &r.starts, &r.high_watermarks};
	pthread_mutex_lock(&d->checkpoint_lock);
	d->high_written = 0;
	for (int i = 0; i < 3 && rc == 0; i++) {
		snprintf(path, sizeof path, "%s/%s", d->path, names[i]);
		rc = offset_checkpoint_write(path, rows[i], e);
	}
	if (rc == 0) {
		snprintf(path, sizeof path, "%s/" PARTITION_STATE_FILE, d->path);
		rc = partition_state_write(path, &r.state, e);
	}
	if (rc == 0 && clean)
		rc = clean_stop_write(d->path, e);
	pthread_mutex_unlock(&d->checkpoint_lock);
	pthread_mutex_unlock(&d->rows_lock);
	release_rows(&r);
	if (rc == 0)
		topics_list(b, spend_consents, d);
	return rc;
}

static bool gather_high(void *arg, struct topic *t)
{
	struct rows *r = arg;
	for (int32_t i = 0; i < topic_partition_count(t); i++) {
		struct partition *p = topic_partition(t, i);
		if (p && p->dir == r->d)
			offset_checkpoint_add(&r->high_watermarks, t->name, i, p->high_watermark);
		partition_unref(p);
	}
	return true;
}

int broker_write_high_watermarks(struct broker *b, struct log_dir *d, struct err *e)
{
	struct rows r = {.d = d};
	char path[PATH_MAX];
	if (d->read_only)
		return 0;
	checkpoint_rows_init(&r.high_watermarks);
	pthread_mutex_lock(&d->checkpoint_lock);
	topics_list(b, gather_high, &r);
	snprintf(path, sizeof path, "%s/" HIGH_WATERMARK_FILE, d->path);
	uint32_t crc = crc32c(0, r.high_watermarks.text.data, r.high_watermarks.text.len);
	int rc = crc == d->high_written ? 0 : offset_checkpoint_write(path, &r.high_watermarks, e);
	if (rc == 0)
		d->high_written = crc;
	pthread_mutex_unlock(&d->checkpoint_lock);
	checkpoint_rows_release(&r.high_watermarks);
	return rc;
}

static bool gather_clean(void *arg, struct topic *t)
{
	struct rows *r = arg;
	for (int32_t i = 0; i < topic_partition_count(t); i++) {
		struct partition *p = topic_partition(t, i);
		if (p && p->dir == r->d && p->clean_offset >= 0)
			offset_checkpoint_add(&r->starts, t->name, i, p->clean_offset);
		partition_unref(p);
	}
	return true;
}

int broker_write_clean_offsets(struct broker *b, struct log_dir *d, struct err *e)
{
	struct rows r = {.d = d};
	char path[PATH_MAX];
	checkpoint_rows_init(&r.starts);
	pthread_mutex_lock(&d->checkpoint_lock);
	topics_list(b, gather_clean, &r);
	snprintf(path, sizeof path, "%s/" CLEANER_FILE, d->path);
	int rc = offset_checkpoint_write(path, &r.starts, e);
	pthread_mutex_unlock(&d->checkpoint_lock);
	checkpoint_rows_release(&r.starts);
	return rc;
}

static bool gather_start(void *arg, struct topic *t)
{
	struct rows *r = arg;
	for (int32_t i = 0; i < topic_partition_count(t); i++) {
		struct partition *p = topic_partition(t, i);
		if (p && p->dir == r->d && (p->recorded_offset > 0 || p->recorded_position > 0)) {
			struct start_row row = {.partition = i, .offset = p->recorded_offset, .position = p->recorded_position};
			snprintf(row.topic, sizeof row.topic, "%s", t->name);
			snprintf(row.topic_id, sizeof row.topic_id, "%s", t->id);
			view_start_add(&r->starts, &row);
		}
		partition_unref(p);
	}
	return true;
}

/* A little space that is held back, so that a full disk can still be told that messages are to go: without the pair of the new start on disk none may. It is
 * let go for that write, and taken back when there is space again. locks: checkpoint_lock. */
static void take_reserve(struct log_dir *d)
{
	char path[PATH_MAX];
	snprintf(path, sizeof path, "%s/" RESERVE_FILE, d->path);
	int fd = io_open(path, O_RDWR | O_CREAT, 0644);
	if (fd >= 0 && posix_fallocate(fd, 0, RESERVE_BYTES) != 0)
		io_unlink(path); /* no space now: the next write tries again */
	io_close(fd);
}

static bool give_reserve(struct log_dir *d)
{
	char path[PATH_MAX];
	snprintf(path, sizeof path, "%s/" RESERVE_FILE, d->path);
	return io_unlink(path) == 0;
}

int broker_write_starts(struct broker *b, struct log_dir *d, struct err *e)
{
	struct rows r = {.d = d};
	char path[PATH_MAX];
	checkpoint_rows_init(&r.starts);
	topics_list(b, gather_start, &r);
	snprintf(path, sizeof path, "%s/" VIEW_START_FILE, d->path);
	int rc = view_start_write(path, &r.starts, e);
	if (rc == ERR_NO_SPACE && give_reserve(d))
		rc = view_start_write(path, &r.starts, e);
	else if (rc == 0)
		take_reserve(d);
	checkpoint_rows_release(&r.starts);
	return rc;
}

static int record(struct broker *b, struct partition *p, int64_t offset, int64_t position, bool restart, struct err *e)
{
	int rc = 0;
	pthread_mutex_lock(&p->dir->checkpoint_lock);
	if (restart || offset > p->recorded_offset) {
		int64_t old_offset = p->recorded_offset, old_position = p->recorded_position;
		p->recorded_offset = offset;
		p->recorded_position = position;
		rc = broker_write_starts(b, p->dir, e);
		if (rc < 0) {
			p->recorded_offset = old_offset;
			p->recorded_position = old_position;
		}
	}
	pthread_mutex_unlock(&p->dir->checkpoint_lock);
	return rc;
}

int broker_record_start(struct broker *b, struct partition *p, int64_t offset, int64_t position, struct err *e)
{
	return record(b, p, offset, position, false, e);
}

int broker_record_restart(struct broker *b, struct partition *p, int64_t offset, int64_t position, struct err *e)
{
	return record(b, p, offset, position, true, e);
}
