/* The controller, what it is asked by nodes, and what is of the whole cluster. */
#include "cluster/zk/layout.h"
#include "cluster/zk/layout_json.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/dirs.h"

/* ---- the controller ---- */

int layout_controller_decode(struct layout_controller *c, const char *path, const void *data, size_t bytes, struct err *e)
{
	struct reading r;
	int64_t version;
	reading_begin(&r, path, data, bytes, 1, 2, &version, e);
	c->broker_id = (int32_t)read_number(&r, r.root, "brokerid", 0, INT32_MAX);
	c->timestamp_ms = read_quoted(&r, r.root, "timestamp", INT64_MIN, INT64_MAX);
	c->kraft_epoch = (int32_t)read_number_or(&r, r.root, "kraftControllerEpoch", -1, INT32_MAX, -1);
	json_decref(r.root);
	return r.rc;
}

int layout_controller_encode(const struct layout_controller *c, struct wr *out)
{
	json_t *o = json_object();
	bool failed = false;
	put(o, &failed, "version", json_integer(2));
	put(o, &failed, "brokerid", json_integer(c->broker_id));
	put(o, &failed, "timestamp", quoted(c->timestamp_ms));
	put(o, &failed, "kraftControllerEpoch", json_integer(c->kraft_epoch));
	return put_out(o, failed, out);
}

/* ---- plain numbers ---- */

static int plain_number(int64_t *v, int64_t min, int64_t max, const char *path, const void *data, size_t bytes, struct err *e)
{
	char text[24] = "";
	if (bytes < sizeof text && bytes)
		memcpy(text, data, bytes);
	if (strlen(text) == bytes && text_to_number(text, min, max, v))
		return 0;
	return err_set(e, ERR_CORRUPT, "ZooKeeper: %s: a number from %" PRId64 " to %" PRId64 " is expected", path, min, max);
}

static int put_number(int64_t v, struct wr *out)
{
	wr_printf(out, "%" PRId64, v);
	return out->failed ? ERR_INVALID : 0;
}

int layout_epoch_decode(int32_t *epoch, const char *path, const void *data, size_t bytes, struct err *e)
{
	int64_t v = 0;
	int rc = plain_number(&v, 0, INT32_MAX, path, data, bytes, e);
	*epoch = (int32_t)v;
	return rc;
}

int layout_epoch_encode(int32_t epoch, struct wr *out)
{
	return put_number(epoch, out);
}

int layout_offset_decode(int64_t *offset, const char *path, const void *data, size_t bytes, struct err *e)
{
	*offset = 0;
	return plain_number(offset, 0, INT64_MAX, path, data, bytes, e);
}

int layout_offset_encode(int64_t offset, struct wr *out)
{
	return put_number(offset, out);
}

/* ---- lists of partitions ---- */

static void read_item(struct reading *r, json_t *o, bool with_replicas, struct layout_named *p)
{
	if (!json_is_object(o)) {
		reading_failed(r, "partitions", "an array of objects");
		return;
	}
	p->topic = read_text(r, o, "topic");
	if (r->rc == 0 && topic_name_check(p->topic, NULL) < 0)
		reading_failed(r, "topic", "the name of a topic");
	p->partition = (int32_t)read_number(r, o, "partition", 0, INT32_MAX);
	if (with_replicas)
		read_brokers(r, r->rc == 0 ? json_object_get(o, "replicas") : NULL, "replicas", &p->replica, &p->replicas);
}

static int list_decode(struct layout_list *l, bool with_replicas, const char *path, const void *data, size_t bytes, struct err *e)
{
	struct reading r;
	int64_t version;
	*l = (struct layout_list){0};
	reading_begin(&r, path, data, bytes, 1, 1, &version, e);
	json_t *a = read_array(&r, r.root, "partitions"), *o;
	size_t i, n = json_array_size(a);
	l->item = r.rc == 0 ? calloc(n + 1, sizeof *l->item) : NULL;
	if (r.rc == 0 && !l->item)
		r.rc = err_set(e, ERR_NO_MEMORY, "no memory for %s", path);
	if (r.rc == 0) {
		l->items = n;
		json_array_foreach(a, i, o)
			read_item(&r, o, with_replicas, &l->item[i]);
	}
	l->kept = r.root;
	if (r.rc < 0)
		layout_list_release(l);
	return r.rc;
}

static int list_encode(const struct layout_list *l, bool with_replicas, struct wr *out)
{
	static const char *const known[] = {"version", "partitions", NULL};
	json_t *o = json_object(), *a = json_array();
	bool failed = false;
	for (size_t i = 0; i < l->items; i++) {
		const struct layout_named *p = &l->item[i];
		json_t *item = json_object();
		put(item, &failed, "topic", json_string(p->topic));
		put(item, &failed, "partition", json_integer(p->partition));
		if (with_replicas)
			put(item, &failed, "replicas", brokers(p->replica, p->replicas));
		failed |= json_array_append_new(a, item) < 0;
	}
	put(o, &failed, "version", json_integer(1));
	put(o, &failed, "partitions", a);
	put_kept(o, &failed, l->kept, known);
	return put_out(o, failed, out);
}

void layout_list_release(struct layout_list *l)
{
	for (size_t i = 0; i < l->items; i++)
		free(l->item[i].replica);
	free(l->item);
	json_decref(l->kept);
	*l = (struct layout_list){0};
}

int layout_reassign_decode(struct layout_list *l, const char *path, const void *data, size_t bytes, struct err *e)
{
	return list_decode(l, true, path, data, bytes, e);
}

int layout_reassign_encode(const struct layout_list *l, struct wr *out)
{
	return list_encode(l, true, out);
}

int layout_preferred_decode(struct layout_list *l, const char *path, const void *data, size_t bytes, struct err *e)
{
	return list_decode(l, false, path, data, bytes, e);
}

int layout_preferred_encode(const struct layout_list *l, struct wr *out)
{
	return list_encode(l, false, out);
}

int layout_isr_change_decode(struct layout_list *l, const char *path, const void *data, size_t bytes, struct err *e)
{
	return list_decode(l, false, path, data, bytes, e);
}

int layout_isr_change_encode(const struct layout_list *l, struct wr *out)
{
	return list_encode(l, false, out);
}

/* ---- log directories ---- */

enum { LOG_DIR_FAILED = 1 };

int layout_log_dir_event_decode(int32_t *broker, const char *path, const void *data, size_t bytes, struct err *e)
{
	struct reading r;
	int64_t version;
	reading_begin(&r, path, data, bytes, 1, 1, &version, e);
	*broker = (int32_t)read_number(&r, r.root, "broker", 0, INT32_MAX);
	read_number(&r, r.root, "event", LOG_DIR_FAILED, LOG_DIR_FAILED);
	json_decref(r.root);
	return r.rc;
}

int layout_log_dir_event_encode(int32_t broker, struct wr *out)
{
	json_t *o = json_object();
	bool failed = false;
	put(o, &failed, "version", json_integer(1));
	put(o, &failed, "broker", json_integer(broker));
	put(o, &failed, "event", json_integer(LOG_DIR_FAILED));
	return put_out(o, failed, out);
}

/* ---- the cluster ---- */

int layout_cluster_id_decode(char id[64], const char *path, const void *data, size_t bytes, struct err *e)
{
	struct reading r;
	reading_begin_any(&r, path, data, bytes, e);
	const char *text = read_text(&r, r.root, "id");
	if (!*text || strlen(text) > 63 || text[strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")])
		reading_failed(&r, "id", "a name of letters, digits, - and _, of at most 63 characters");
	snprintf(id, 64, "%.63s", r.rc == 0 ? text : "");
	json_decref(r.root);
	return r.rc;
}

int layout_cluster_id_encode(const char *id, struct wr *out)
{
	json_t *o = json_object();
	bool failed = false;
	put(o, &failed, "version", json_string("1")); /* text, here */
	put(o, &failed, "id", json_string(id));
	return put_out(o, failed, out);
}

int layout_producer_ids_decode(struct layout_producer_ids *b, const char *path, const void *data, size_t bytes, struct err *e)
{
	struct reading r;
	int64_t version;
	reading_begin(&r, path, data, bytes, 1, 1, &version, e);
	b->broker_id = (int32_t)read_number(&r, r.root, "broker", -1, INT32_MAX);
	b->first = read_quoted(&r, r.root, "block_start", 0, INT64_MAX);
	b->last = read_quoted(&r, r.root, "block_end", 0, INT64_MAX);
	if (r.rc == 0 && b->last < b->first)
		reading_failed(&r, "block_end", "at least block_start");
	json_decref(r.root);
	return r.rc;
}

int layout_producer_ids_encode(const struct layout_producer_ids *b, struct wr *out)
{
	json_t *o = json_object();
	bool failed = false;
	put(o, &failed, "version", json_integer(1));
	put(o, &failed, "broker", json_integer(b->broker_id));
	put(o, &failed, "block_start", quoted(b->first));
	put(o, &failed, "block_end", quoted(b->last));
	return put_out(o, failed, out);
}
