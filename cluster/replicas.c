#include "cluster/replicas.h"

#include <inttypes.h>
#include <stdlib.h>

#include "cluster/model.h"
#include "store/diag.h"

enum { MAX_INDEX = 1 << 20 };

/* From here on nothing of it is served, and nothing is appended. locks: create_lock. */
static void seal(struct topic *t)
{
	for (int32_t i = 0; i < t->partition_count; i++)
		pthread_mutex_lock(&t->partition[i]->log_lock);
	t->deleted = true;
	for (int32_t i = 0; i < t->partition_count; i++)
		pthread_mutex_unlock(&t->partition[i]->log_lock);
}

/* locks: create_lock. */
static void set_aside(struct broker *b, struct topic *t)
{
	bool here = false;
	for (int32_t i = 0; i < t->partition_count; i++)
		here |= t->partition[i]->dir != NULL;
	if (here)
		diag_warning("topic %s was deleted while this broker was away, and there is another of its name: what is here of the old one is left as strays (%s-<n>.<digits>-stray); remove them, or rename them back "
			     "in a DATA of their own", t->name, t->name);
	seal(t);
	topics_retire(b, t, RENAME_STRAY);
}

/* It has its properties before anything of it can be seen. locks: create_lock. */
static void be_born(struct broker *b, struct topic *t)
{
	if (b->property_calls)
		b->property_calls->born(b->property_calls->arg, t);
}

/* locks: create_lock. */
static int make_here(struct broker *b, struct topic *t, int32_t index, bool is_new, struct err *e)
{
	if (index < t->partition_count && t->partition[index]->dir)
		return 0;
	if (!is_new && broker_offline_dirs(b))
		return err_set(e, ERR_OFFLINE, "%s-%" PRId32 " may be in a log directory that is out of service", t->name, index);
	return topic_make_partition(t, index, e);
}

int replicas_make(struct broker *b, const char *name, const uint8_t id[16], int32_t index, bool is_new, struct partition **out, struct err *e)
{
	struct topic *t, *old = NULL;
	char text[TOPIC_ID_CHARS + 1];
	int rc = topic_name_check(name, e);
	if (rc == 0 && (index < 0 || index >= MAX_INDEX))
		rc = err_set(e, ERR_INVALID, "%s-%" PRId32 ": no topic has so many partitions", name, index);
	if (rc < 0)
		return rc;
	pthread_mutex_lock(&b->create_lock);
	HASH_FIND_STR(b->topics, name, t);
	if (t && memcmp(t->id_bytes, id, sizeof t->id_bytes)) {
		old = t;
		set_aside(b, old);
		t = NULL;
	}
	bool fresh = !t;
	uuid_text(id, text);
	if (fresh && !(t = topic_new(b, name, text)))
		rc = err_set(e, ERR_NO_MEMORY, "no memory for a topic");
	if (fresh && t)
		be_born(b, t);
	if (rc == 0)
		rc = make_here(b, t, index, is_new, e);
	if (rc == 0) {
		if (fresh)
			topics_put(b, t);
		topic_set_stray(t, false);
		topic_ref(t);
		*out = t->partition[index];
	} else if (fresh) {
		topic_unref(t);
	}
	pthread_mutex_unlock(&b->create_lock);
	if (old)
		topics_told(b, old);
	return rc;
}

int replicas_sync(struct broker *b, struct err *e)
{
	agent_checkpoint_soon(b->agent);
	return topics_sync_dirs(b, e);
}

/* locks: create_lock. */
static bool is_anywhere(struct topic *t)
{
	bool found = false;
	for (int32_t i = 0; i < t->partition_count && !found; i++) {
		pthread_mutex_lock(&t->partition[i]->isr_lock);
		found = t->partition[i]->dir || t->partition[i]->told;
		pthread_mutex_unlock(&t->partition[i]->isr_lock);
	}
	return found;
}

/* locks: create_lock. */
static void retire(struct broker *b, struct topic *t)
{
	seal(t);
	topics_retire(b, t, RENAME_DELETED);
}

/* Names that went are on disk as such; a replica that is made here later is not to begin where the one before it did. locks: create_lock. */
static int forget_starts(struct broker *b, struct err *e)
{
	int rc = topics_sync_dirs(b, e);
	for (int i = 0; i < b->dir_count && rc == 0; i++) {
		if (b->dir[i].offline)
			continue;
		pthread_mutex_lock(&b->dir[i].checkpoint_lock);
		rc = broker_write_starts(b, &b->dir[i], e);
		pthread_mutex_unlock(&b->dir[i].checkpoint_lock);
	}
	return rc;
}

int replicas_delete(struct broker *b, const char *name, const int32_t *index, size_t n, struct err *e)
{
	struct topic *t;
	int rc = 0;
	pthread_mutex_lock(&b->create_lock);
	HASH_FIND_STR(b->topics, name, t);
	int64_t delay_ms = t ? topic_limits(t).file_delete_delay_ms : 0;
	for (size_t i = 0; t && i < n && rc == 0; i++)
		if (index[i] >= 0 && index[i] < t->partition_count && t->partition[index[i]]->dir)
			rc = topic_remove_partition(t, index[i], RENAME_DELETED, e);
	if (t && rc == 0)
		rc = forget_starts(b, e);
	bool gone = t && rc == 0 && !is_anywhere(t);
	if (gone)
		retire(b, t);
	pthread_mutex_unlock(&b->create_lock);
	if (t)
		agent_delete_later(b->agent, delay_ms);
	if (gone)
		topics_told(b, t);
	replicas_wake(b);
	return rc;
}

int replicas_set_aside(struct broker *b, const char *name, const uint8_t id[16], int32_t index, struct err *e)
{
	struct topic *t;
	int rc = 0;
	pthread_mutex_lock(&b->create_lock);
	HASH_FIND_STR(b->topics, name, t);
	if (t && !memcmp(t->id_bytes, id, sizeof t->id_bytes) && index >= 0 && index < t->partition_count && t->partition[index]->dir && t->partition[index]->role == ROLE_NONE) {
		diag_warning("%s-%" PRId32 " is no replica of the cluster any more: what is here of it is left as a stray (%s-%" PRId32 ".<digits>-stray); remove it", name, index, name, index);
		rc = topic_remove_partition(t, index, RENAME_STRAY, e);
		if (rc == 0)
			rc = forget_starts(b, e);
	}
	pthread_mutex_unlock(&b->create_lock);
	return rc;
}

/* ---- what there is in the cluster ---- */

/* locks: create_lock. */
static int tell_one(struct topic *t, const struct replicas_told *v, struct err *e)
{
	struct partition_metadata *m = v->deleted ? NULL : malloc(sizeof *m);
	if (v->index < 0 || v->index >= MAX_INDEX || (!v->deleted && !m)) {
		free(m);
		return m ? err_set(e, ERR_INVALID, "%s-%" PRId32 ": no topic has so many partitions", t->name, v->index) : err_set(e, ERR_NO_MEMORY, "no memory for what is told of a topic");
	}
	int rc = v->deleted ? 0 : topic_list_partition(t, v->index, e);
	if (rc < 0 || v->index >= t->partition_count) {
		free(m);
		return rc;
	}
	struct partition *p = t->partition[v->index];
	if (m)
		*m = *v->metadata;
	pthread_mutex_lock(&p->isr_lock);
	struct partition_metadata *old = p->told;
	p->told = m;
	pthread_mutex_unlock(&p->isr_lock);
	free(old);
	return 0;
}

int replicas_tell(struct broker *b, const char *name, const uint8_t id[16], const struct replicas_told *v, size_t n, struct err *e)
{
	struct topic *t, *old = NULL;
	char text[TOPIC_ID_CHARS + 1];
	bool there = false;
	int rc = topic_name_check(name, e);
	for (size_t i = 0; i < n; i++)
		there |= !v[i].deleted;
	if (rc < 0)
		return rc;
	pthread_mutex_lock(&b->create_lock);
	HASH_FIND_STR(b->topics, name, t);
	if (t && memcmp(t->id_bytes, id, sizeof t->id_bytes)) {
		old = there ? t : NULL;
		t = NULL;
	}
	if (old)
		set_aside(b, old);
	bool fresh = !t && there;
	uuid_text(id, text);
	if (fresh && !(t = topic_new(b, name, text)))
		rc = err_set(e, ERR_NO_MEMORY, "no memory for a topic");
	if (fresh && t)
		be_born(b, t);
	for (size_t i = 0; t && i < n && rc == 0; i++)
		rc = tell_one(t, &v[i], e);
	if (t && there)
		topic_set_stray(t, false);
	bool gone = t && !is_anywhere(t);
	if (fresh && t && !gone)
		topics_put(b, t);
	else if (fresh)
		topic_unref(t);
	else if (gone)
		retire(b, t);
	pthread_mutex_unlock(&b->create_lock);
	if (old)
		topics_told(b, old);
	if (gone && !fresh)
		topics_told(b, t);
	replicas_wake(b);
	return rc;
}

struct forget { struct broker *broker; bool (*keep)(void *arg, const uint8_t id[16]); void *arg; };

static bool forget_topic(void *arg, struct topic *t)
{
	const struct forget *x = arg;
	struct err e = ERR_INIT;
	int32_t count = topic_partition_count(t);
	if (x->keep(x->arg, t->id_bytes))
		return true;
	struct replicas_told *v = calloc((size_t)count + 1, sizeof *v);
	for (int32_t k = 0; v && k < count; k++)
		v[k] = (struct replicas_told){.index = k, .deleted = true};
	if (v && replicas_tell(x->broker, t->name, t->id_bytes, v, (size_t)count, &e) < 0)
		diag_error("%s", e.text);
	topic_set_stray(t, true); /* what is here of it, if anything */
	replicas_wake(x->broker);
	free(v);
	return true;
}

void replicas_forget(struct broker *b, bool (*keep)(void *arg, const uint8_t id[16]), void *arg)
{
	topics_list(b, forget_topic, &(struct forget){b, keep, arg});
}

bool replicas_are_told(struct topic *t)
{
	bool told = false;
	for (int32_t i = 0; i < topic_partition_count(t) && !told; i++) {
		struct partition *p = topic_partition(t, i);
		pthread_mutex_lock(&p->isr_lock);
		told = p->told;
		pthread_mutex_unlock(&p->isr_lock);
		partition_unref(p);
	}
	return told;
}

bool replicas_have_heard(struct broker *b, const uint8_t id[16], int32_t partitions)
{
	struct topic *t = topics_find_id(b, id);
	bool heard = t && topic_partition_count(t) >= partitions;
	for (int32_t i = 0; heard && i < partitions; i++) {
		struct partition *p = topic_partition(t, i);
		pthread_mutex_lock(&p->isr_lock);
		heard = p->told;
		pthread_mutex_unlock(&p->isr_lock);
		partition_unref(p);
	}
	topic_unref(t);
	return heard;
}

void replicas_listen(struct broker *b, struct replicas_listener *l)
{
	pthread_mutex_lock(&b->listen_lock);
	l->next = b->listeners;
	l->back = &b->listeners;
	if (l->next)
		l->next->back = &l->next;
	b->listeners = l;
	pthread_mutex_unlock(&b->listen_lock);
}

void replicas_unlisten(struct broker *b, struct replicas_listener *l)
{
	pthread_mutex_lock(&b->listen_lock);
	if (l->back) {
		*l->back = l->next;
		if (l->next)
			l->next->back = l->back;
		l->back = NULL;
	}
	pthread_mutex_unlock(&b->listen_lock);
}

void replicas_wake(struct broker *b)
{
	pthread_mutex_lock(&b->listen_lock);
	for (struct replicas_listener *l = b->listeners; l; l = l->next)
		l->heard(l);
	pthread_mutex_unlock(&b->listen_lock);
}

struct each { void (*fn)(void *arg, struct partition *p); void *arg; };

static bool each_of_topic(void *arg, struct topic *t)
{
	struct each *x = arg;
	for (int32_t i = 0; i < topic_partition_count(t); i++) {
		struct partition *p = topic_partition(t, i);
		if (p && p->dir)
			x->fn(x->arg, p);
		partition_unref(p);
	}
	return true;
}

void replicas_each(struct broker *b, void (*fn)(void *arg, struct partition *p), void *arg)
{
	topics_list(b, each_of_topic, &(struct each){fn, arg});
}
