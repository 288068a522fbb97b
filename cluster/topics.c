#include "cluster/topics.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cluster/model.h"
#include "store/diag.h"
#include "store/io.h"

/* The table and the life of topics. Their properties are in topic_conf.c. */

enum { MAX_PARTITIONS = 1 << 20 };

/* ---- references ---- */

void topic_ref(struct topic *t)
{
	atomic_fetch_add(&t->refs, 1);
}

static void topic_free(struct topic *t)
{
	for (int32_t i = 0; i < t->partition_count; i++) {
		for (struct partition *p = t->partition[i], *before; p; p = before) {
			before = p->before;
			partition_free(p);
		}
	}
	free(t->partition);
	conf_free(t->conf);
	defaults_unref(t->defaults);
	pthread_mutex_destroy(&t->conf_lock);
	free(t->name);
	free(t);
}

void topic_unref(struct topic *t)
{
	if (t && atomic_fetch_sub(&t->refs, 1) == 1)
		topic_free(t);
}

const char *topic_name(const struct topic *t)
{
	return t->name;
}

int topic_serial(const struct topic *t)
{
	return t->serial;
}

int32_t topic_partition_count(const struct topic *t)
{
	return t->partition_count;
}

bool topic_is_internal(const struct topic *t)
{
	return t->internal;
}

bool topic_is_compacted(const struct topic *t)
{
	return t->compact;
}

bool topic_is_deleted(const struct topic *t)
{
	return t->deleted || t->stray;
}

int64_t topic_created_ms(const struct topic *t)
{
	return t->created_ms;
}

void topic_id_text(const struct topic *t, char text[23])
{
	memcpy(text, t->id, TOPIC_ID_CHARS + 1);
}

const uint8_t *topic_id_bytes(const struct topic *t)
{
	return t->id_bytes;
}

struct partition *topic_partition(struct topic *t, int32_t index)
{
	struct partition *p = NULL;
	pthread_mutex_lock(&t->conf_lock);
	if (index >= 0 && index < t->partition_count)
		p = t->partition[index];
	pthread_mutex_unlock(&t->conf_lock);
	if (p)
		topic_ref(t);
	return p;
}

/* ---- the table ---- */

bool topic_name_is_internal(const char *name)
{
	static const char *const names[] = {"__consumer_offsets", "__transaction_state", "__share_group_state", "__cluster_metadata"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (!strcmp(name, names[i]))
			return true;
	return false;
}

struct topic *topic_new(struct broker *b, const char *name, const char *id)
{
	struct topic *t = calloc(1, sizeof *t);
	if (!t || !(t->name = strdup(name))) {
		free(t);
		return NULL;
	}
	t->broker = b;
	t->refs = 1;
	t->serial = atomic_fetch_add(&b->next_serial, 1) + 1;
	t->internal = topic_name_is_internal(name);
	t->created_ms = wall_now_ms();
	snprintf(t->id, sizeof t->id, "%s", id);
	pthread_mutex_init(&t->conf_lock, NULL);
	topic_default_owner(&t->owner);
	topic_follow_defaults(t);
	return t;
}

struct topic *topics_find(struct broker *b, const char *name)
{
	return topics_find_n(b, name, strlen(name));
}

struct topic *topics_find_n(struct broker *b, const char *name, size_t n)
{
	struct topic *t;
	pthread_rwlock_rdlock(&b->topics_lock);
	HASH_FIND(hh, b->topics, name, n, t);
	if (t && t->stray)
		t = NULL;
	if (t)
		topic_ref(t);
	pthread_rwlock_unlock(&b->topics_lock);
	return t;
}

struct topic *topics_find_alike(struct broker *b, const char *name)
{
	struct topic *t, *next, *found = NULL;
	if (!strpbrk(name, "._"))
		return NULL;
	pthread_rwlock_rdlock(&b->topics_lock);
	HASH_ITER(hh, b->topics, t, next)
		if (!found && !t->stray && topic_names_collide(t->name, name))
			found = t;
	if (found)
		topic_ref(found);
	pthread_rwlock_unlock(&b->topics_lock);
	return found;
}

struct topic *topics_find_id(struct broker *b, const uint8_t id[16])
{
	struct topic *t;
	pthread_rwlock_rdlock(&b->topics_lock);
	HASH_FIND(by_id, b->topics_by_id, id, 16, t);
	if (t && t->stray)
		t = NULL;
	if (t)
		topic_ref(t);
	pthread_rwlock_unlock(&b->topics_lock);
	return t;
}

/* locks: topics_lock, to write. */
static void index_id(struct broker *b, struct topic *t)
{
	uuid_bytes(t->id, t->id_bytes);
	HASH_ADD(by_id, b->topics_by_id, id_bytes, sizeof t->id_bytes, t);
}

void topic_id_changed(struct topic *t)
{
	struct broker *b = t->broker;
	pthread_rwlock_wrlock(&b->topics_lock);
	HASH_DELETE(by_id, b->topics_by_id, t);
	index_id(b, t);
	pthread_rwlock_unlock(&b->topics_lock);
}

void topics_put(struct broker *b, struct topic *t)
{
	pthread_rwlock_wrlock(&b->topics_lock);
	HASH_ADD_KEYPTR(hh, b->topics, t->name, strlen(t->name), t);
	index_id(b, t);
	atomic_fetch_add(&b->generation, 1);
	pthread_rwlock_unlock(&b->topics_lock);
}

static void table_remove(struct broker *b, struct topic *t)
{
	pthread_rwlock_wrlock(&b->topics_lock);
	HASH_DEL(b->topics, t);
	HASH_DELETE(by_id, b->topics_by_id, t);
	atomic_fetch_add(&b->generation, 1);
	pthread_rwlock_unlock(&b->topics_lock);
}

static int by_name(const void *a, const void *b)
{
	return strcmp((*(struct topic *const *)a)->name, (*(struct topic *const *)b)->name);
}

static struct topic **take(struct broker *b, bool strays, size_t *count)
{
	size_t n = 0;
	pthread_rwlock_rdlock(&b->topics_lock);
	struct topic **list = malloc((HASH_COUNT(b->topics) + 1) * sizeof *list);
	for (struct topic *t = list ? b->topics : NULL; t; t = t->hh.next) {
		if (t->stray && !strays)
			continue;
		topic_ref(t);
		list[n++] = t;
	}
	pthread_rwlock_unlock(&b->topics_lock);
	if (list)
		qsort(list, n, sizeof *list, by_name);
	*count = n;
	return list;
}

struct topic **topics_take(struct broker *b, size_t *count)
{
	return take(b, false, count);
}

void topics_drop(struct topic **list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		topic_unref(list[i]);
	free(list);
}

void topics_list(struct broker *b, bool (*fn)(void *arg, struct topic *t), void *arg)
{
	size_t n;
	struct topic **list = take(b, true, &n);
	for (size_t i = 0; i < n && fn(arg, list[i]); i++)
		;
	topics_drop(list, n);
}

size_t topics_count(struct broker *b)
{
	pthread_rwlock_rdlock(&b->topics_lock);
	size_t n = 0;
	for (const struct topic *t = b->topics; t; t = t->hh.next)
		n += !t->stray;
	pthread_rwlock_unlock(&b->topics_lock);
	return n;
}

size_t topics_generation(struct broker *b)
{
	return b->generation;
}

void topics_free_all(struct broker *b)
{
	struct topic *t, *next;
	HASH_ITER(hh, b->topics, t, next) {
		HASH_DEL(b->topics, t);
		HASH_DELETE(by_id, b->topics_by_id, t);
		topic_unref(t);
	}
}

/* ---- partitions ---- */

/* locks: none of t's held. */
static int add_slot(struct topic *t, int32_t index, struct log_dir *dir, struct partition **out, struct err *e)
{
	struct partition *p = partition_new(t, index, dir);
	int rc = p ? 0 : ERR_NO_MEMORY;
	pthread_mutex_lock(&t->conf_lock);
	if (rc == 0 && index >= t->partition_cap) {
		int32_t cap = t->partition_cap ? 2 * t->partition_cap : 1;
		while (cap <= index)
			cap *= 2;
		struct partition **more = realloc(t->partition, (size_t)cap * sizeof(struct partition *));
		if (more) {
			t->partition = more;
			t->partition_cap = cap;
		} else {
			rc = ERR_NO_MEMORY;
		}
	}
	if (rc == 0) {
		t->partition[index] = p;
		if (index >= t->partition_count)
			t->partition_count = index + 1;
	}
	pthread_mutex_unlock(&t->conf_lock);
	if (rc < 0) {
		partition_free(p);
		return err_set(e, rc, "no memory for a partition");
	}
	*out = p;
	return 0;
}

int topic_load_partition(struct topic *t, int32_t index, struct log_dir *dir, struct partition **out, struct err *e)
{
	if (index >= MAX_PARTITIONS)
		return err_set(e, ERR_INVALID, "%s-%" PRId32 ": no topic has so many partitions", t->name, index);
	/* those that were not seen (yet) are in none of the directories */
	while (t->partition_count < index) {
		int rc = add_slot(t, t->partition_count, NULL, out, e);
		if (rc < 0)
			return rc;
	}
	if (index < t->partition_count) {
		struct partition *there = t->partition[index];
		if (there->dir)
			return err_set(e, ERR_EXISTS, "%s-%" PRId32 " is in %s and in %s: that in %s is left out; remove one of them", t->name, index, there->dir->path, dir->path, dir->path);
		there->dir = dir;
		atomic_fetch_add(&dir->partition_count, 1);
		*out = there;
		return 0;
	}
	return add_slot(t, index, dir, out, e);
}

/* The directory with the fewest partitions, as Kafka does. */
static struct log_dir *choose_dir(struct broker *b)
{
	struct log_dir *best = NULL;
	for (int i = 0; i < b->dir_count; i++)
		if (!b->dir[i].offline && (!best || b->dir[i].partition_count < best->partition_count))
			best = &b->dir[i];
	return best;
}

/* Whether the topic's properties are to be kept with this partition: those before it are not here. */
static bool keeps_properties(const struct topic *t, int32_t index)
{
	int32_t i = 0;
	while (i < index && i < t->partition_count && !t->partition[i]->dir)
		i++;
	return i == index || i == t->partition_count;
}

int topic_list_partition(struct topic *t, int32_t index, struct err *e)
{
	struct partition *p;
	int rc = 0;
	while (rc == 0 && t->partition_count <= index)
		rc = add_slot(t, t->partition_count, NULL, &p, e);
	return rc;
}

/* Those before it that were not made are in none of the directories; one that stands in the list already gets one. locks: create_lock. */
static int put_partition(struct topic *t, int32_t index, struct log_dir *dir, struct err *e)
{
	struct partition *p = NULL;
	int rc = 0;
	if (index > 0)
		rc = topic_list_partition(t, index - 1, e);
	bool listed = index < t->partition_count;
	if (rc == 0 && listed)
		p = t->partition[index];
	else if (rc == 0)
		rc = add_slot(t, index, dir, &p, e);
	if (rc < 0)
		return rc;
	p->known.trusted = true;
	partition_publish_known(p, &(struct partition_row){.mtime_ms = wall_now_ms()});
	if (listed) {
		atomic_fetch_add(&dir->partition_count, 1);
		p->dir = dir; /* from here on it is used */
	}
	return 0;
}

int topic_make_partition(struct topic *t, int32_t index, struct err *e)
{
	char path[PATH_MAX];
	struct log_dir *dir = choose_dir(t->broker);
	if (!dir)
		return err_set(e, ERR_OFFLINE, "all log directories are out of service");
	snprintf(path, sizeof path, "%s/%s-%" PRId32, dir->path, t->name, index);
	int sys = io_mkdir(path, 0755);
	if (sys < 0)
		return err_sys(e, sys, "cannot make %s", path);
	/* the properties first: where there is anything, they must be there */
	int rc = keeps_properties(t, index) ? topic_write_properties(t, path, e) : 0;
	if (rc == 0)
		rc = partition_metadata_write(path, t->id, e);
	if (rc == 0)
		rc = put_partition(t, index, dir, e);
	if (rc < 0)
		io_remove_dir(path);
	return rc;
}

/* Names of partitions that were made or went are on disk when it returns: what is flushed in a directory that a power cut takes is lost all the same. */
int topics_sync_dirs(struct broker *b, struct err *e)
{
	int rc = 0;
	for (int i = 0; i < b->dir_count && rc == 0; i++) {
		int sys = b->dir[i].offline ? 0 : io_fsync_dir(b->dir[i].path);
		if (sys < 0)
			rc = err_sys(e, sys, "cannot sync %s", b->dir[i].path);
	}
	return rc;
}

/* locks: create_lock. */
static int add_up_to(struct topic *t, int32_t count, struct err *e)
{
	int rc = 0;
	while (t->partition_count < count && rc == 0)
		rc = topic_make_partition(t, t->partition_count, e);
	int synced = topics_sync_dirs(t->broker, rc == 0 ? e : NULL);
	return rc == 0 ? synced : rc;
}

/* In a cluster: partitions `from` up to `count`. This broker may not have heard of the newest ones, or of the last deletion. */
static int grow_elsewhere(struct topic *t, int32_t from, int32_t count, struct err *e)
{
	const struct topic_calls *calls = t->broker->topic_calls;
	if (t->deleted)
		return err_set(e, ERR_DELETED, "topic %s was deleted", t->name);
	if (count <= from || from < 0 || count > MAX_PARTITIONS)
		return err_set(e, ERR_INVALID, "topic %s has %" PRId32 " partitions and can have %d, but not %" PRId32, t->name, (int32_t)t->partition_count, MAX_PARTITIONS, count);
	return calls->grow(calls->arg, t, from, count, e);
}

static int add_elsewhere(struct topic *t, int32_t index, struct err *e)
{
	int rc = index < t->partition_count && !t->deleted ? ERR_EXISTS : grow_elsewhere(t, index, index < MAX_PARTITIONS ? index + 1 : index, e);
	if (rc == ERR_EXISTS)
		return err_set(e, rc, "topic %s has a partition %" PRId32 " already", t->name, index);
	return rc == ERR_BUSY ? err_set(e, ERR_INVALID, "the next partition of topic %s is not %" PRId32, t->name, index) : rc;
}

int topic_add_partition(struct topic *t, int32_t index, struct err *e)
{
	struct broker *b = t->broker;
	int rc;
	if (b->topic_calls)
		return add_elsewhere(t, index, e);
	pthread_mutex_lock(&b->create_lock);
	if (t->deleted)
		rc = err_set(e, ERR_DELETED, "topic %s was deleted", t->name);
	else if (index < t->partition_count)
		rc = err_set(e, ERR_EXISTS, "topic %s has a partition %" PRId32 " already", t->name, index);
	else if (index > t->partition_count || index >= MAX_PARTITIONS)
		rc = err_set(e, ERR_INVALID, "the next partition of topic %s is %" PRId32 ", not %" PRId32, t->name, (int32_t)t->partition_count, index);
	else
		rc = add_up_to(t, index + 1, e);
	pthread_mutex_unlock(&b->create_lock);
	if (rc == 0)
		agent_checkpoint_soon(b->agent);
	return rc;
}

int topic_grow(struct topic *t, int32_t from, int32_t count, struct err *e)
{
	struct broker *b = t->broker;
	int rc;
	if (b->topic_calls) {
		rc = grow_elsewhere(t, from, count, e);
		return rc == ERR_EXISTS ? err_set(e, ERR_BUSY, "topic %s was given partitions by somebody else", t->name) : rc;
	}
	pthread_mutex_lock(&b->create_lock);
	if (t->deleted)
		rc = err_set(e, ERR_DELETED, "topic %s was deleted", t->name);
	else if (t->partition_count != from)
		rc = err_set(e, ERR_BUSY, "topic %s was given partitions by somebody else", t->name);
	else if (count <= from || count > MAX_PARTITIONS)
		rc = err_set(e, ERR_INVALID, "topic %s has %" PRId32 " partitions and can have %d, but not %" PRId32, t->name, from, MAX_PARTITIONS, count);
	else
		rc = add_up_to(t, count, e);
	pthread_mutex_unlock(&b->create_lock);
	agent_checkpoint_soon(b->agent);
	return rc;
}

/* ---- creating ---- */

/* locks: create_lock. */
static int check_new_name(struct broker *b, const char *name, struct err *e)
{
	int rc = topic_name_check(name, e);
	struct topic *t;
	if (rc < 0)
		return rc;
	HASH_FIND_STR(b->topics, name, t);
	if (t)
		return err_set(e, ERR_EXISTS, "there is a topic %s already", name);
	t = topics_find_alike(b, name);
	if (t)
		rc = err_set(e, ERR_NAME, "\"%s\" differs from topic %s only by '.' and '_': Kafka's metrics could not tell them apart", name, t->name);
	topic_unref(t);
	return rc;
}

static void remove_partitions(struct topic *t)
{
	for (int32_t i = 0; i < t->partition_count; i++) {
		char *path = partition_path(t->partition[i]);
		if (path)
			io_remove_dir(path);
		free(path);
	}
}

/* locks: create_lock. */
static int check_plan(struct broker *b, const struct topic_plan *plan, int32_t partitions, struct err *e)
{
	int rc = check_new_name(b, plan->name, e);
	if (rc == 0 && (partitions < 1 || partitions > MAX_PARTITIONS))
		rc = err_set(e, ERR_INVALID, "a topic has 1 to %d partitions, not %" PRId32, MAX_PARTITIONS, partitions);
	return rc == 0 && plan->set_count ? topic_check_properties(b, plan->set, plan->set_count, e) : rc;
}

/* With directories and properties, but not in the table yet. locks: create_lock. */
static int make_topic(struct broker *b, const struct topic_plan *plan, int32_t partitions, struct topic **out, struct err *e)
{
	char id[TOPIC_ID_CHARS + 1];
	int rc = 0;
	uuid_text_new(id);
	struct topic *t = topic_new(b, plan->name, id);
	if (!t)
		return err_set(e, ERR_NO_MEMORY, "no memory for a topic");
	rc = topic_init_owner(t, plan->owner, e);
	for (int32_t i = 0; i < partitions && rc == 0; i++)
		rc = topic_make_partition(t, i, e);
	if (rc == 0 && plan->set_count)
		rc = topic_change(t, plan->set, plan->set_count, false, false, e);
	if (rc == 0)
		rc = topics_sync_dirs(b, e);
	if (rc < 0) {
		remove_partitions(t);
		topic_unref(t);
		return rc;
	}
	*out = t;
	return 0;
}

int topics_check_properties(struct broker *b, const struct conf_change *v, size_t n, struct err *e)
{
	return n ? topic_check_properties(b, v, n, e) : 0;
}

bool topics_are_elsewhere(const struct broker *b)
{
	return b->topic_calls;
}

void topics_make_soon(struct broker *b, const struct topic_plan *plan)
{
	b->topic_calls->create_soon(b->topic_calls->arg, plan);
}

/* In a cluster. It may be gone again before it is looked for. */
static int make_elsewhere(struct broker *b, const struct topic_plan *plan, struct topic **out, struct err *e)
{
	int rc = topic_name_check(plan->name, e);
	if (rc == 0)
		rc = b->topic_calls->create(b->topic_calls->arg, plan, e);
	if (rc == 0 && out && !plan->check_only && !(*out = topics_find(b, plan->name)))
		rc = err_set(e, ERR_DELETED, "topic %s was made, and deleted again", plan->name);
	return rc;
}

int topics_make(struct broker *b, const struct topic_plan *plan, struct topic **out, struct err *e)
{
	struct topic *t = NULL;
	if (out)
		*out = NULL;
	if (b->topic_calls)
		return make_elsewhere(b, plan, out, e);
	int32_t partitions = plan->partitions ? plan->partitions : (int32_t)conf_int(b->conf, "num.partitions");
	pthread_mutex_lock(&b->create_lock);
	int rc = check_plan(b, plan, partitions, e);
	if (rc == 0 && !plan->check_only)
		rc = make_topic(b, plan, partitions, &t, e);
	if (out)
		*out = t;
	if (t) {
		if (out)
			topic_ref(t);
		topics_put(b, t);
	}
	pthread_mutex_unlock(&b->create_lock);
	if (t)
		agent_checkpoint_soon(b->agent);
	return rc;
}

int topics_create(struct broker *b, const char *name, int32_t partitions, const struct topic_owner *owner, struct topic **out, struct err *e)
{
	struct topic_plan plan = {.name = name, .partitions = partitions, .owner = owner};
	return topics_make(b, &plan, out, e);
}

struct topic *topics_load(struct broker *b, const char *name, const char *id)
{
	struct topic *t;
	HASH_FIND_STR(b->topics, name, t);
	if (t)
		return t;
	t = topic_new(b, name, id);
	if (t)
		topics_put(b, t);
	return t;
}

/* ---- deleting ---- */

static int check_empty(struct topic *t, struct err *e)
{
	for (int32_t i = 0; i < t->partition_count; i++) {
		struct visible v;
		int rc = partition_offsets(t->partition[i], &v, e);
		if (rc < 0)
			return rc;
		if (v.start_offset < v.end_offset)
			return err_set(e, ERR_NOT_EMPTY, "partition %" PRId32 " of topic %s holds messages: delete them first (rm %s/%" PRId32 ")", i, t->name, t->name, i);
	}
	return 0;
}

/* Gives the directory the name that a deleted partition has, or a stray one; Kafka cuts the topic's name so that the whole fits NAME_MAX. */
static int rename_away(struct partition *p, enum rename_to how, struct err *e)
{
	char to[PATH_MAX], suffix[64], uuid[TOPIC_ID_CHARS + 1];
	char *from = p->dir ? partition_path(p) : NULL;
	if (!p->dir)
		return 0;
	if (!from)
		return err_set(e, ERR_NO_MEMORY, "no memory to delete a partition");
	uint8_t random[16];
	uuid_text_new(uuid);
	memcpy(random, uuid, sizeof random); /* any 32 digits that are unique will do */
	int n = snprintf(suffix, sizeof suffix, "-%" PRId32 ".", p->index);
	for (size_t i = 0; i < sizeof random; i++)
		n += snprintf(suffix + n, sizeof suffix - (size_t)n, "%02x", random[i]);
	snprintf(suffix + n, sizeof suffix - (size_t)n, how == RENAME_STRAY ? "-stray" : "-delete");
	snprintf(to, sizeof to, "%s/%.*s%s", p->dir->path, NAME_MAX - (int)strlen(suffix), p->topic->name, suffix);
	int sys = io_rename(from, to);
	int rc = sys < 0 ? err_sys(e, sys, "cannot rename %s", from) : 0;
	free(from);
	return rc;
}

/* A topic of the same name is not to find how far this one was compacted. */
static void forget_cleaned(struct broker *b, struct topic *t)
{
	for (int d = 0; d < b->dir_count; d++) {
		bool cleaned = false;
		struct err why = ERR_INIT;
		for (int32_t i = 0; i < t->partition_count; i++)
			cleaned |= t->partition[i]->dir == &b->dir[d] && t->partition[i]->clean_offset >= 0;
		if (cleaned && !b->dir[d].offline && broker_write_clean_offsets(b, &b->dir[d], &why) < 0)
			diag_warning("%s", why.text);
	}
}

void topics_retire(struct broker *b, struct topic *t, enum rename_to to)
{
	table_remove(b, t);
	for (int32_t i = 0; i < t->partition_count; i++) {
		struct err why = ERR_INIT;
		if (rename_away(t->partition[i], to, &why) < 0)
			diag_error("%s; the directory stays and would come back: remove it", why.text);
		partition_fail_waiting(t->partition[i], ERR_DELETED, "the topic was deleted");
	}
	struct err why = ERR_INIT;
	if (topics_sync_dirs(b, &why) < 0)
		diag_error("%s; the topic may come back with a power cut", why.text);
	forget_cleaned(b, t);
}

void topics_told(struct broker *b, struct topic *t)
{
	agent_checkpoint_soon(b->agent);
	pthread_rwlock_rdlock(&b->told_lock);
	if (b->tell_deleted)
		b->tell_deleted(b->told, t->name);
	pthread_rwlock_unlock(&b->told_lock);
	topic_unref(t); /* the table's */
}

void topic_set_stray(struct topic *t, bool stray)
{
	if (t->stray == stray)
		return;
	t->stray = stray;
	atomic_fetch_add(&t->broker->generation, 1);
}

int topic_remove_partition(struct topic *t, int32_t index, enum rename_to to, struct err *e)
{
	struct partition *p = t->partition[index], *fresh = partition_new(t, index, NULL);
	if (!fresh)
		return err_set(e, ERR_NO_MEMORY, "no memory to delete a partition");
	bool kept_properties = keeps_properties(t, index);
	partition_stop(p);
	pthread_mutex_lock(&p->log_lock);
	p->gone = true;
	pthread_mutex_unlock(&p->log_lock);
	int rc = rename_away(p, to, e);
	fresh->before = p;
	pthread_mutex_lock(&p->isr_lock);
	fresh->told = p->told;
	p->told = NULL;
	pthread_mutex_unlock(&p->isr_lock);
	pthread_mutex_lock(&t->conf_lock);
	t->partition[index] = fresh;
	pthread_mutex_unlock(&t->conf_lock);
	partition_fail_waiting(p, ERR_DELETED, "this broker has no replica of the partition any more");
	partition_close_idle(p, INT64_MAX, NULL); /* else whoever uses it, at the latest with the topic */
	return rc == 0 && kept_properties ? topic_save_properties(t, e) : rc;
}

int topics_delete(struct broker *b, struct topic *t, bool only_if_empty, struct err *e)
{
	int64_t delay_ms = topic_limits(t).file_delete_delay_ms;
	if (b->topic_calls)
		return t->deleted ? err_set(e, ERR_DELETED, "topic %s was deleted", t->name) : b->topic_calls->destroy(b->topic_calls->arg, t, only_if_empty, e);
	pthread_mutex_lock(&b->create_lock);
	int rc = t->deleted ? err_set(e, ERR_DELETED, "topic %s was deleted", t->name) : 0;
	/* looked at twice: first so that what is visible is known, then with no append coming between the look and the deletion */
	if (rc == 0 && only_if_empty)
		rc = check_empty(t, e);
	for (int32_t i = 0; i < t->partition_count; i++)
		pthread_mutex_lock(&t->partition[i]->log_lock);
	if (rc == 0 && only_if_empty)
		rc = check_empty(t, e);
	if (rc == 0)
		t->deleted = true;
	for (int32_t i = 0; i < t->partition_count; i++)
		pthread_mutex_unlock(&t->partition[i]->log_lock);
	if (rc == 0)
		topics_retire(b, t, RENAME_DELETED);
	pthread_mutex_unlock(&b->create_lock);
	if (rc == 0) {
		agent_delete_later(b->agent, delay_ms);
		topics_told(b, t);
	}
	return rc;
}

void topics_on_deleted(struct broker *b, void (*fn)(void *arg, const char *name), void *arg)
{
	pthread_rwlock_wrlock(&b->told_lock);
	b->tell_deleted = fn;
	b->told = arg;
	pthread_rwlock_unlock(&b->told_lock);
}
