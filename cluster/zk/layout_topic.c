/* /brokers/topics: assignments, and the states of partitions. */
#include "cluster/zk/layout.h"
#include "cluster/zk/layout_json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/dirs.h"

/* ---- a topic ---- */

static const char *topic_id_of(struct reading *r)
{
	const char *id = read_text(r, r->root, "topic_id");
	uint8_t bytes[16];
	char again[TOPIC_ID_CHARS + 1] = "";
	if (r->rc == 0 && strlen(id) == TOPIC_ID_CHARS) {
		uuid_bytes(id, bytes);
		uuid_text(bytes, again);
	}
	if (strcmp(id, again))
		reading_failed(r, "topic_id", "22 characters of base64url");
	return id;
}

static struct layout_assignment *partition_of(struct reading *r, struct layout_topic *t, const char *name, const char *member)
{
	int64_t n;
	if (text_to_number(name, 0, (int64_t)t->partitions - 1, &n) && (name[0] != '0' || !name[1]))
		return &t->partition[n];
	reading_failed(r, member, "an object with a partition's number for each name, from 0 on, and none left out");
	return NULL;
}

static void read_partitions(struct reading *r, struct layout_topic *t)
{
	json_t *o = read_object(r, r->root, "partitions"), *v;
	const char *name;
	size_t n = json_object_size(o);
	if (r->rc < 0)
		return;
	t->partition = calloc(n + 1, sizeof *t->partition);
	if (!t->partition) {
		r->rc = err_set(r->e, ERR_NO_MEMORY, "no memory for %s", r->path);
		return;
	}
	t->partitions = n;
	json_object_foreach(o, name, v) {
		struct layout_assignment *a = partition_of(r, t, name, "partitions");
		if (!a)
			return;
		read_brokers(r, v, "partitions", &a->replica, &a->replicas);
		if (!a->replicas)
			reading_failed(r, "partitions", "at least one broker for each partition");
	}
}

static bool has(const int32_t *v, size_t n, int32_t id)
{
	for (size_t i = 0; i < n; i++)
		if (v[i] == id)
			return true;
	return false;
}

/* adding_replicas, removing_replicas: of the partitions that have some; each is among the replicas. */
static void read_changes(struct reading *r, struct layout_topic *t, const char *member, bool adding)
{
	json_t *o = r->rc == 0 ? json_object_get(r->root, member) : NULL, *v;
	const char *name;
	if (!o || json_is_null(o))
		return;
	if (!read_object(r, r->root, member))
		return;
	json_object_foreach(o, name, v) {
		struct layout_assignment *a = partition_of(r, t, name, member);
		if (!a)
			return;
		int32_t **to = adding ? &a->adding : &a->removing;
		size_t *n = adding ? &a->addings : &a->removings;
		read_brokers(r, v, member, to, n);
		for (size_t i = 0; i < *n; i++)
			if (!has(a->replica, a->replicas, (*to)[i]))
				reading_failed(r, member, "some of the partition's replicas");
	}
}

int layout_topic_decode(struct layout_topic *t, const char *path, const void *data, size_t bytes, struct err *e)
{
	struct reading r;
	int64_t version;
	*t = (struct layout_topic){0};
	reading_begin(&r, path, data, bytes, 1, 3, &version, e);
	if (version >= 3 && r.rc == 0)
		memccpy(t->topic_id, topic_id_of(&r), 0, sizeof t->topic_id - 1);
	read_partitions(&r, t);
	if (version >= 2) {
		read_changes(&r, t, "adding_replicas", true);
		read_changes(&r, t, "removing_replicas", false);
	}
	t->kept = r.root;
	if (r.rc < 0)
		layout_topic_release(t);
	return r.rc;
}

static void put_partitions(json_t *o, bool *failed, const struct layout_topic *t, const char *member, char what)
{
	json_t *map = json_object();
	for (size_t i = 0; i < t->partitions; i++) {
		const struct layout_assignment *a = &t->partition[i];
		const int32_t *v = what == '=' ? a->replica : what == '+' ? a->adding : a->removing;
		size_t n = what == '=' ? a->replicas : what == '+' ? a->addings : a->removings;
		char name[24];
		snprintf(name, sizeof name, "%zu", i);
		if (n || what == '=')
			put(map, failed, name, brokers(v, n));
	}
	put(o, failed, member, map);
}

int layout_topic_encode(const struct layout_topic *t, struct wr *out)
{
	static const char *const known[] = {"partitions", "topic_id", "adding_replicas", "removing_replicas", "version", NULL};
	json_t *o = json_object();
	bool failed = false;
	put_partitions(o, &failed, t, "partitions", '=');
	if (t->topic_id[0])
		put(o, &failed, "topic_id", json_string(t->topic_id));
	put_partitions(o, &failed, t, "adding_replicas", '+');
	put_partitions(o, &failed, t, "removing_replicas", '-');
	put(o, &failed, "version", json_integer(t->topic_id[0] ? 3 : 2));
	put_kept(o, &failed, t->kept, known);
	return put_out(o, failed, out);
}

void layout_topic_release(struct layout_topic *t)
{
	for (size_t i = 0; i < t->partitions; i++) {
		free(t->partition[i].replica);
		free(t->partition[i].adding);
		free(t->partition[i].removing);
	}
	free(t->partition);
	json_decref(t->kept);
	*t = (struct layout_topic){0};
}

/* ---- a partition's state ---- */

int layout_state_decode(struct layout_state *s, const char *path, const void *data, size_t bytes, struct err *e)
{
	struct reading r;
	int64_t version;
	*s = (struct layout_state){0};
	reading_begin(&r, path, data, bytes, 1, 1, &version, e);
	s->leader = (int32_t)read_number(&r, r.root, "leader", -1, INT32_MAX);
	s->leader_epoch = (int32_t)read_number(&r, r.root, "leader_epoch", 0, INT32_MAX);
	s->controller_epoch = (int32_t)read_number(&r, r.root, "controller_epoch", 0, INT32_MAX);
	s->recovering = read_number_or(&r, r.root, "leader_recovery_state", 0, 1, 0) == 1;
	read_brokers(&r, r.rc == 0 ? json_object_get(r.root, "isr") : NULL, "isr", &s->isr, &s->isrs);
	s->kept = r.root;
	if (r.rc < 0)
		layout_state_release(s);
	return r.rc;
}

int layout_state_encode(const struct layout_state *s, struct wr *out)
{
	static const char *const known[] = {"controller_epoch", "leader", "version", "leader_recovery_state", "leader_epoch", "isr", NULL};
	json_t *o = json_object();
	bool failed = false;
	put(o, &failed, "controller_epoch", json_integer(s->controller_epoch));
	put(o, &failed, "leader", json_integer(s->leader));
	put(o, &failed, "version", json_integer(1));
	if (s->recovering)
		put(o, &failed, "leader_recovery_state", json_integer(1));
	put(o, &failed, "leader_epoch", json_integer(s->leader_epoch));
	put(o, &failed, "isr", brokers(s->isr, s->isrs));
	put_kept(o, &failed, s->kept, known);
	return put_out(o, failed, out);
}

void layout_state_release(struct layout_state *s)
{
	free(s->isr);
	json_decref(s->kept);
	*s = (struct layout_state){0};
}
