#include "cluster/partition.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "cluster/adopt.h"
#include "cluster/model.h"
#include "cluster/partition_fetch.h"
#include "cluster/producer_ids.h"
#include "cluster/remote/remote.h"
#include "store/counters.h"
#include "store/diag.h"

/* Opening, closing and what is visible. Roles are in partition_role.c, appending and flushing in partition_append.c, log start and retention in partition_start.c. */

struct partition *partition_new(struct topic *t, int32_t index, struct log_dir *dir)
{
	struct partition *p = calloc(1, sizeof *p);
	if (!p)
		return NULL;
	p->topic = t;
	p->index = index;
	p->dir = dir;
	partition_append_init(p);
	partition_role_init(p);
	delayed_list_init(&p->delayed);
	p->known.active_base = -1;
	p->clean_offset = p->clean.looked_offset = -1;
	p->known.leader_epoch = -1;
	p->known.pair_offset = p->known.pair_position = -1;
	pthread_mutex_init(&p->open_lock, NULL);
	pthread_mutex_init(&p->log_lock, NULL);
	pthread_mutex_init(&p->queue_lock, NULL);
	if (dir)
		atomic_fetch_add(&dir->partition_count, 1);
	return p;
}

/* locks: open_lock, or nobody else has it. */
static void drop_consent(struct partition *p)
{
	if (p->consent)
		consent_release(p->consent);
	free(p->consent);
	p->consent = NULL;
	p->consent_noted = false;
}

void partition_free(struct partition *p)
{
	if (!p)
		return;
	log_free(p->log);
	partition_role_release(p);
	drop_consent(p);
	if (p->dir)
		atomic_fetch_sub(&p->dir->partition_count, 1);
	pthread_mutex_destroy(&p->open_lock);
	pthread_mutex_destroy(&p->log_lock);
	pthread_mutex_destroy(&p->queue_lock);
	delayed_list_release(&p->delayed);
	remote_view_free(p->elsewhere);
	free(p->why_offline);
	free(p);
}

void partition_ref(struct partition *p)
{
	topic_ref(p->topic);
}

void partition_unref(struct partition *p)
{
	if (p)
		topic_unref(p->topic);
}

const char *partition_topic_name(const struct partition *p)
{
	return p->topic->name;
}

int partition_dir(const struct partition *p)
{
	return p->dir ? (int)(p->dir - p->topic->broker->dir) : -1;
}

bool partition_is_there(const struct partition *p)
{
	return !partition_is_gone(p);
}

int32_t partition_index(const struct partition *p)
{
	return p->index;
}

struct topic *partition_topic(const struct partition *p)
{
	return p->topic;
}

char *partition_path(const struct partition *p)
{
	char *path;
	return asprintf(&path, "%s/%s-%" PRId32, p->dir->path, p->topic->name, p->index) < 0 ? NULL : path;
}

/* ---- what is visible ---- */

/* locks: log_lock, or open_lock while the log is not open. */
static void publish(struct partition *p, const struct visible *v, const struct partition_ends *ends)
{
	atomic_fetch_add(&p->visible_seq, 1);
	p->high_offset = ends->high_watermark;
	p->stable_offset = ends->last_stable;
	p->log_end_offset = ends->log_end;
	p->start_offset = v->start_offset;
	p->start_position = v->start_position;
	p->end_offset = v->end_offset;
	p->end_position = v->end_position;
	p->mtime_ms = v->mtime_ms;
	p->bytes = v->bytes;
	p->sequential = v->sequential;
	atomic_fetch_add(&p->visible_seq, 1);
	p->visible_known = true;
}

/* Whether what was read, by loads that acquire, since visible_seq was `seq` is not of one moment. */
static bool has_changed(struct partition *p, uint32_t seq)
{
	return (seq & 1) || seq != atomic_load_explicit(&p->visible_seq, memory_order_relaxed);
}

void partition_take_ends(struct partition *p, struct partition_ends *ends)
{
	uint32_t seq;
	do {
		seq = atomic_load_explicit(&p->visible_seq, memory_order_acquire);
		ends->log_start = atomic_load_explicit(&p->start_offset, memory_order_acquire);
		ends->log_start_position = atomic_load_explicit(&p->start_position, memory_order_acquire);
		ends->high_watermark = atomic_load_explicit(&p->high_offset, memory_order_acquire);
		ends->last_stable = atomic_load_explicit(&p->stable_offset, memory_order_acquire);
		ends->log_end = atomic_load_explicit(&p->log_end_offset, memory_order_acquire);
	} while (has_changed(p, seq));
}

void partition_take_visible(struct partition *p, struct visible *v)
{
	uint32_t seq;
	do {
		seq = atomic_load_explicit(&p->visible_seq, memory_order_acquire);
		v->start_offset = atomic_load_explicit(&p->start_offset, memory_order_acquire);
		v->start_position = atomic_load_explicit(&p->start_position, memory_order_acquire);
		v->end_offset = atomic_load_explicit(&p->end_offset, memory_order_acquire);
		v->end_position = atomic_load_explicit(&p->end_position, memory_order_acquire);
		v->mtime_ms = atomic_load_explicit(&p->mtime_ms, memory_order_acquire);
		v->bytes = atomic_load_explicit(&p->bytes, memory_order_acquire);
		v->sequential = atomic_load_explicit(&p->sequential, memory_order_acquire);
	} while (has_changed(p, seq));
}

/* In a cluster what has no role yet goes by the checkpoint. What was visible was below it; what it says of the rest of the log cannot be. */
static int64_t known_high(const struct partition *p, int64_t visible, int64_t log_end)
{
	int64_t high = p->high_watermark > visible ? (int64_t)p->high_watermark : visible;
	return high < log_end ? high : log_end;
}

void partition_publish_known(struct partition *p, const struct partition_row *row)
{
	bool sequential = row->visible_position < 0;
	struct visible v = {row->start_offset, row->start_position, row->visible_offset, sequential ? row->start_position : row->visible_position, row->mtime_ms, row->bytes, sequential};
	p->high_watermark = p->topic->broker->roles ? known_high(p, row->visible_offset, row->leo) : row->visible_offset;
	publish(p, &v, &(struct partition_ends){.last_stable = row->visible_offset, .high_watermark = p->high_watermark, .log_end = row->leo});
}

/* After an append, a change of the log start, or opening. appended_ms: 0 where nothing was appended. locks: log_lock. */
void partition_publish_log(struct partition *p, int64_t appended_ms)
{
	struct log *l = p->log;
	struct visible v = {l->start_offset, l->start_position, l->view_offset, l->view_position, appended_ms ? appended_ms : (int64_t)p->mtime_ms, l->bytes, l->sequential};
	struct partition_ends ends = {.high_watermark = p->high_watermark, .last_stable = log_last_stable(l), .log_end = l->leo};
	if (ends.last_stable > ends.high_watermark)
		ends.last_stable = ends.high_watermark;
	publish(p, &v, &ends);
	p->grown = p->grown_before + l->written_bytes;
}

void partition_publish_start(struct partition *p, int64_t offset, int64_t position)
{
	struct visible v;
	struct partition_ends ends;
	partition_take_visible(p, &v);
	partition_take_ends(p, &ends);
	if (offset <= v.start_offset)
		return;
	v.start_offset = offset;
	v.start_position = position;
	if (v.sequential)
		v.end_position = position;
	publish(p, &v, &ends);
}

int partition_offsets(struct partition *p, struct visible *v, struct err *e)
{
	if (partition_is_gone(p))
		return err_set(e, ERR_DELETED, "topic %s was deleted", p->topic->name);
	if (!p->visible_known) {
		int rc = partition_acquire(p, e);
		if (rc < 0)
			return rc;
		partition_release(p);
	}
	partition_take_visible(p, v);
	return 0;
}

int partition_visible_here(struct partition *p, struct visible *v, struct err *e)
{
	int rc = partition_offsets(p, v, e);
	if (rc < 0)
		return rc;
	if (v->sequential && !p->topic->compact) { /* it is to have positions again */
		if ((rc = partition_acquire(p, e)) < 0)
			return rc;
		partition_release(p);
		partition_take_visible(p, v);
	}
	if (p->topic->compact && !v->sequential) { /* its log is not open, and follows when it is */
		v->sequential = true;
		v->end_position = v->start_position;
	}
	return 0;
}

/* ---- waking ---- */

struct delayed_list *partition_delayed(struct partition *p)
{
	return &p->delayed;
}

/* What a channel's end has grown by is known in bytes where it is the log's end; where it moved to somewhere below that, everybody looks again. */
static void wake_channel(struct partition *p, enum delayed_channel channel, bool at_end, int64_t offset, _Atomic int64_t *woken, int64_t grown)
{
	int64_t before = atomic_exchange(woken, offset);
	if (at_end)
		delayed_grow(&p->delayed, channel, grown);
	else if (before != offset)
		delayed_wake(&p->delayed, channel);
}

void partition_wake(struct partition *p)
{
	struct partition_ends x;
	int64_t grown = p->grown; /* first: it is never more than what the ends have come to since */
	partition_take_ends(p, &x);
	delayed_raise(&p->delayed); /* replicas first: others may wait for what they do */
	delayed_grow(&p->delayed, DELAYED_END, grown);
	wake_channel(p, DELAYED_HIGH, x.high_watermark == x.log_end, x.high_watermark, &p->woken_high, grown);
	wake_channel(p, DELAYED_STABLE, x.last_stable == x.log_end, x.last_stable, &p->woken_stable, grown);
}

/* ---- opening and closing ---- */

/* locks: open_lock. */
static int offline_error(struct partition *p, struct err *e)
{
	if (partition_is_gone(p))
		return err_set(e, ERR_DELETED, "topic %s was deleted", p->topic->name);
	if (p->why_offline)
		return err_set(e, ERR_OFFLINE, "%s", p->why_offline);
	if (!p->dir && p->topic->broker->roles) /* it has its replicas elsewhere, or it was deleted here a moment ago */
		return err_set(e, ERR_NOT_LEADER, "%s-%" PRId32 ": this broker has no replica of it", p->topic->name, p->index);
	if (!p->dir)
		return err_set(e, ERR_OFFLINE, "partition %s-%" PRId32 " is in none of the log directories", p->topic->name, p->index);
	if (p->dir->offline)
		return err_set(e, ERR_OFFLINE, "log directory %s is out of service after an I/O error", p->dir->path);
	return 0;
}

static void row_of_known(struct partition *p, struct partition_row *r)
{
	struct visible v;
	partition_take_visible(p, &v);
	*r = (struct partition_row){
		.partition = p->index, .leader_epoch = p->known.leader_epoch, .active_base = p->known.active_base, .active_bytes = p->known.active_bytes,
		.start_offset = v.start_offset, .start_position = v.start_position, .leo = p->known.leo, .last_stable_offset = p->known.last_stable,
		.recovery_point = p->known.recovery_point, .visible_offset = v.end_offset, .visible_position = v.sequential ? -1 : v.end_position, .mtime_ms = v.mtime_ms,
		.bytes = v.bytes, .dir_mtime_ns = p->known.dir_mtime_ns,
	};
	snprintf(r->topic, sizeof r->topic, "%s", p->topic->name);
	snprintf(r->topic_id, sizeof r->topic_id, "%s", p->topic->id);
}

/* The time of the newest append where no checkpoint knows it: the newest record's, which the mount stamps itself. */
static int64_t newest_time(struct log *l)
{
	struct log_shape *s = log_shape_take(l);
	int64_t newest = 0;
	for (size_t i = s->segment_count; i-- > 0 && newest <= 0;)
		if (segment_max_timestamp(s->segment[i], &newest, NULL) < 0)
			break;
	log_shape_drop(l, s);
	return newest > 0 ? newest : 0;
}

static void count_open_txn(void *arg, const struct open_txn *t)
{
	(void)t;
	++*(size_t *)arg;
}

/* locks: open_lock. */
static int open_log(struct partition *p, struct err *e)
{
	struct partition_row row;
	int64_t high = p->high_watermark;
	char name[TOPIC_NAME_MAX + 16], *path = partition_path(p);
	if (!path)
		return err_set(e, ERR_NO_MEMORY, "no memory to open a partition");
	snprintf(name, sizeof name, "%s-%" PRId32, p->topic->name, p->index);
	row_of_known(p, &row);
	struct log_open o = {
		.dir = path, .name = name, .cache = p->topic->broker->cache, .pool = p->topic->broker->pool, .limits = topic_limits(p->topic).log,
		.row = p->known.trusted ? &row : NULL, .recovery_point = p->known.recovery_point, .start_offset = p->known.log_start,
		.pair_offset = p->known.pair_offset, .pair_position = p->known.pair_position, .gaps = p->topic->adopted || p->topic->lost, .foreign = p->known.foreign, .clean = p->known.clean,
		.compacted = p->topic->compacted, .sequential = p->topic->compact,
		.keep = p->topic->broker->read_only, .read_only = p->dir->read_only, .visible_limit = p->topic->broker->roles ? &high : NULL,
	};
	struct log *l;
	struct err why = ERR_INIT;
	struct consent accepted;
	drop_consent(p);
	o.accepted = &accepted;
	int rc = consent_load(&accepted, path, &why);
	if (rc == 0)
		rc = log_open(&l, &o, &why);
	if (rc == 0 && accepted.there && accepted.judged && (p->consent = malloc(sizeof accepted)))
		*p->consent = accepted; /* without memory it is not spent, and holds on */
	else
		consent_release(&accepted);
	free(path);
	if (rc == ERR_OFFLINE || rc == ERR_CORRUPT || rc == ERR_UNSUPPORTED) {
		p->why_offline = strdup(why.text);
		diag_error("partition %s is offline: %s", name, why.text);
		return err_set(e, ERR_OFFLINE, "%s", why.text);
	}
	if (rc < 0)
		return err_set(e, rc, "%s", why.text);
	/* it begins where it did not before: its first segments are gone, and that is accepted */
	if (p->known.pair_offset >= 0 && l->start_offset > p->known.pair_offset)
		rc = broker_record_start(p->topic->broker, p, l->start_offset, l->start_position, &why);
	/* where the pair is lost, Kafka's own checkpoint still has the offset */
	int64_t position;
	if (rc == 0 && p->known.log_start > l->start_offset && p->known.log_start <= l->view_offset && (rc = log_position_of(l, p->known.log_start, &position, &why)) == 0)
		rc = log_set_start(l, p->known.log_start, position, &why);
	if (rc < 0) {
		log_free(l);
		return err_set(e, rc, "%s", why.text);
	}
	/* what a snapshot or the log had of producers that are to be forgotten; their ids are not to be given again all the same */
	producer_ids_seen(p->topic->broker, producers_greatest_id(l->producers));
	producers_expire(l->producers, wall_now_ms(), broker_conf_int(p->topic->broker, "producer.id.expiration.ms"));
	size_t open_txns = 0;
	producers_open_txns(l->producers, count_open_txn, &open_txns);
	int32_t epoch = epochs_last(&l->epochs);
	pthread_mutex_lock(&p->log_lock);
	p->needs_markers = open_txns > 0;
	p->log = l;
	p->grown_before = p->grown;
	if (!p->topic->broker->roles) /* after an unclean stop the tail may have been cut: what comes now must not share an epoch with it */
		partition_lead_alone(p, epoch < 0 ? 0 : l->recovered ? epoch + 1 : epoch);
	else if (!p->visible_known)
		p->high_watermark = known_high(p, l->view_offset, l->leo);
	else if (p->high_watermark > l->leo)
		p->high_watermark = (int64_t)l->leo;
	partition_advance(p, p->visible_known && p->mtime_ms ? (int64_t)p->mtime_ms : newest_time(l), &why);
	p->known.foreign = false;
	pthread_mutex_unlock(&p->log_lock);
	if (why.code)
		diag_error("%s: %s", name, why.text);
	if (l->deleted_pending)
		agent_delete_later(p->topic->broker->agent, topic_limits(p->topic).file_delete_delay_ms);
	return 0;
}

/* locks: open_lock. To make a log sequential is done at once; to give it positions reads all of it, and whoever comes waits. */
static int change_mode(struct partition *p, struct err *e)
{
	pthread_mutex_lock(&p->log_lock);
	while (p->log->keep_head) { /* the cleaner is just putting segments in the place of others */
		pthread_mutex_unlock(&p->log_lock);
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
		pthread_mutex_lock(&p->log_lock);
	}
	int rc = log_set_sequential(p->log, p->topic->compact, e);
	partition_publish_log(p, 0);
	pthread_mutex_unlock(&p->log_lock);
	return rc;
}

void partition_follow_policy(struct partition *p)
{
	struct err why = ERR_INIT;
	pthread_mutex_lock(&p->open_lock);
	if (p->log && !partition_is_gone(p) && !p->dir->offline && p->log->sequential != p->topic->compact && change_mode(p, &why) < 0)
		diag_error("%s-%" PRId32 ": %s", p->topic->name, p->index, why.text);
	pthread_mutex_unlock(&p->open_lock);
}

bool partition_is_clean(struct partition *p)
{
	pthread_mutex_lock(&p->open_lock);
	bool clean = !p->dir || p->why_offline || (!p->log && p->known.trusted && p->clean_offset >= p->known.active_base);
	pthread_mutex_unlock(&p->open_lock);
	return clean;
}

bool partition_try_acquire(struct partition *p)
{
	uint32_t users = p->users;
	while ((users & LOG_OPEN) && !partition_is_gone(p) && !p->dir->offline) {
		if (!atomic_compare_exchange_weak(&p->users, &users, users + 1))
			continue;
		if (p->log->sequential == p->topic->compact)
			return true;
		p->users--;
		break;
	}
	return false;
}

int partition_acquire(struct partition *p, struct err *e)
{
	if (partition_try_acquire(p))
		return 0;
	pthread_mutex_lock(&p->open_lock);
	int rc = offline_error(p, e);
	if (rc == 0 && !p->log)
		rc = open_log(p, e);
	if (rc == 0 && p->log->sequential != p->topic->compact)
		rc = change_mode(p, e);
	if (rc == 0) {
		p->users++;
		p->users |= LOG_OPEN;
	}
	pthread_mutex_unlock(&p->open_lock);
	return rc;
}

void partition_release(struct partition *p)
{
	p->idle_since_ms = wall_now_ms();
	p->users--;
}

/* locks: open_lock. Whether nobody uses the log; nobody can begin to then before open_lock is let go. */
static bool end_uses(struct partition *p)
{
	uint32_t none = LOG_OPEN;
	return atomic_compare_exchange_strong(&p->users, &none, 0) || none == 0;
}

/* What log_open can rely on next time. locks: open_lock. */
static void remember(struct partition *p, struct log *l)
{
	struct partition_row r;
	log_describe(l, &r);
	p->known = (struct known){
		.trusted = true, .leader_epoch = r.leader_epoch, .active_base = r.active_base, .active_bytes = r.active_bytes, .leo = r.leo,
		.last_stable = r.last_stable_offset, .recovery_point = r.recovery_point, .log_start = r.start_offset, .pair_offset = r.start_offset,
		.pair_position = r.start_position, .dir_mtime_ns = r.dir_mtime_ns,
	};
}

/* locks: open_lock. A deleted topic's log, or one on a failed disk, is let go without a write. */
static int close_log(struct partition *p, struct err *e)
{
	struct log *l = p->log;
	int rc = 0;
	bool write = !partition_is_gone(p) && !p->dir->offline;
	pthread_mutex_lock(&p->log_lock);
	if (write)
		rc = log_settle(l, e);
	if (rc == 0) {
		p->log = NULL;
		if (write)
			remember(p, l);
	}
	pthread_mutex_unlock(&p->log_lock);
	if (rc == 0)
		log_free(l);
	return rc;
}

bool partition_close_idle(struct partition *p, int64_t idle_before_ms, struct err *e)
{
	pthread_mutex_lock(&p->open_lock);
	if (p->log && p->idle_since_ms <= idle_before_ms && !p->log->deleted_pending && end_uses(p))
		close_log(p, e);
	bool closed = !p->log;
	pthread_mutex_unlock(&p->open_lock);
	return closed;
}

int partition_close(struct partition *p, struct err *e)
{
	pthread_mutex_lock(&p->open_lock);
	p->users &= ~LOG_OPEN;
	int rc = p->log ? close_log(p, e) : 0;
	pthread_mutex_unlock(&p->open_lock);
	return rc;
}

bool partition_has_open_log(struct partition *p)
{
	pthread_mutex_lock(&p->open_lock);
	bool open = p->log != NULL;
	pthread_mutex_unlock(&p->open_lock);
	return open;
}

bool partition_row(struct partition *p, struct partition_row *r)
{
	bool good = false;
	pthread_mutex_lock(&p->open_lock);
	r->recovery_point = p->known.recovery_point;
	r->start_offset = p->known.log_start;
	if (p->dir && !p->why_offline && !partition_is_gone(p) && !p->dir->offline) {
		if (p->log) {
			pthread_mutex_lock(&p->log_lock);
			row_of_known(p, r);
			log_describe(p->log, r);
			p->noted_recovery = r->recovery_point;
			pthread_mutex_unlock(&p->log_lock);
			good = true;
		} else if (p->known.trusted) {
			row_of_known(p, r);
			good = true;
		}
	}
	p->consent_noted = good && p->consent;
	pthread_mutex_unlock(&p->open_lock);
	return good;
}

int partition_spend_consent(struct partition *p, struct err *e)
{
	int rc = 0;
	pthread_mutex_lock(&p->open_lock);
	if (p->consent_noted && !partition_is_gone(p)) {
		char *path = partition_path(p);
		rc = path ? consent_spend(p->consent, path, e) : err_set(e, ERR_NO_MEMORY, "no memory for a path");
		free(path);
		if (rc == 0)
			drop_consent(p);
	}
	pthread_mutex_unlock(&p->open_lock);
	return rc;
}

void partition_take_offline(struct partition *p, const char *why)
{
	pthread_mutex_lock(&p->open_lock);
	if (!p->why_offline)
		p->why_offline = strdup(why);
	p->users &= ~LOG_OPEN;
	pthread_mutex_unlock(&p->open_lock);
}

int partition_failed(struct partition *p, int rc, struct err *e)
{
	if (partition_is_gone(p)) /* before its directories were renamed */
		return err_set(e, ERR_DELETED, "topic %s was deleted", p->topic->name);
	if (rc == ERR_IO)
		broker_dir_failed(p->topic->broker, p->dir, e->text);
	return rc;
}

/* ---- producers ---- */

struct producer_rows { struct producer_state *row; size_t count; };

static void add_producer(void *arg, const struct producer_state *s)
{
	struct producer_rows *r = arg;
	r->row[r->count++] = *s;
}

int partition_producers(struct partition *p, void (*fn)(void *arg, const struct producer_state *s), void *arg, struct err *e)
{
	struct producer_rows r = {NULL, 0};
	pthread_mutex_lock(&p->log_lock);
	size_t n = producers_count(p->log->producers);
	if (n && (r.row = malloc(n * sizeof *r.row)))
		producers_list(p->log->producers, add_producer, &r);
	pthread_mutex_unlock(&p->log_lock);
	if (n && !r.row)
		return err_set(e, ERR_NO_MEMORY, "no memory for %zu producers", n);
	for (size_t i = 0; i < r.count; i++)
		fn(arg, &r.row[i]);
	free(r.row);
	return 0;
}

void partition_expire_producers(struct partition *p, int64_t now_ms, int64_t expiration_ms)
{
	pthread_mutex_lock(&p->log_lock);
	if (p->log)
		producers_expire(p->log->producers, now_ms, expiration_ms);
	pthread_mutex_unlock(&p->log_lock);
}
