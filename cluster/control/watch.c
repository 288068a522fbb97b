/* What a leading controller hears of: each watch fires once, so whatever it tells of is listed again, with a watch. One listing of a kind at a time; what fires meanwhile belongs to the next. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/control/term.h"
#include "store/diag.h"

enum look { LOOK_BROKERS, LOOK_TOPICS, LOOK_DELETIONS, LOOK_DISKS, LOOK_CONFIGS };

static const char *const look_paths[] = {
	[LOOK_BROKERS] = LAYOUT_BROKER_IDS, [LOOK_TOPICS] = LAYOUT_TOPICS, [LOOK_DELETIONS] = LAYOUT_DELETE_TOPICS, [LOOK_DISKS] = LAYOUT_LOG_DIR_EVENTS, [LOOK_CONFIGS] = LAYOUT_CONFIG_CHANGES,
};

static struct term *answered(void *arg, const struct zk_result *r)
{
	struct term *t = arg;
	struct err e = ERR_INIT;
	if (!term_drop(t))
		return NULL;
	if (r->code == ZK_OK || r->code == ZK_NO_NODE)
		return t;
	zk_error(r, "read", &e);
	term_failed(t, "reading", &e);
	return NULL;
}

/* ---- brokers ---- */

static void on_broker(void *arg, const struct zk_result *r)
{
	struct term *t = answered(arg, r);
	if (!t)
		return;
	if (r->code == ZK_OK)
		load_broker(t, r, false);
	term_pump(t);
}

static void look_at_broker(struct term *t, int32_t id)
{
	struct layout_path path;
	zk_get(t->c->o.zk, layout_broker_path(&path, id), true, on_broker, term_hold(t));
}

static bool listed(const int32_t *v, size_t n, int32_t id)
{
	for (size_t i = 0; i < n; i++) {
		if (v[i] == id)
			return true;
	}
	return false;
}

/* Who is missing has died. Who is there may be there again: its registration tells. */
static void take_brokers(struct term *t, const struct zk_result *r)
{
	int32_t *now;
	size_t n;
	load_numbers(r, &now, &n);
	for (size_t i = 0; now && i < t->n_brokers; i++) {
		if (listed(now, n, t->brokers[i]))
			continue;
		brain_broker_down(t->b, t->brokers[i], mono_now().ns / 1000000);
		term_broker_gone(t, t->brokers[i]);
	}
	for (size_t i = 0; now && i < n; i++)
		look_at_broker(t, now[i]);
	free(t->brokers);
	t->brokers = now;
	t->n_brokers = n;
}

/* ---- topics ---- */

static void on_topic(void *arg, const struct zk_result *r)
{
	struct term *t = answered(arg, r);
	if (!t)
		return;
	if (r->code == ZK_OK)
		load_topic(t, r, false);
	term_pump(t);
}

/* Somebody else may have made one. */
static void take_topics(struct term *t, const struct zk_result *r)
{
	struct layout_path path;
	for (size_t i = 0; i < r->children_count; i++) {
		if (brain_partitions(t->b, r->children[i]) < 0)
			zk_get(t->c->o.zk, layout_topic_path(&path, r->children[i]), false, on_topic, term_hold(t));
	}
}

static void take_deletions(struct term *t, const struct zk_result *r)
{
	for (size_t i = 0; i < r->children_count; i++) {
		if (!brain_deletion_appeared(t->b, r->children[i]))
			term_delete_mark(t, r->children[i]);
	}
}

/* ---- notifications ---- */

static void on_disk(void *arg, const struct zk_result *r)
{
	struct term *t = answered(arg, r);
	struct err e = ERR_INIT;
	int32_t id;
	if (!t)
		return;
	if (r->code == ZK_OK) {
		if (layout_log_dir_event_decode(&id, r->path, r->data, r->bytes, &e) < 0)
			diag_error("controller: %s", e.text);
		else
			brain_broker_lost_dir(t->b, id);
		term_delete(t, r->path);
	}
	term_pump(t);
}

static void take_disks(struct term *t, const struct zk_result *r)
{
	for (size_t i = 0; i < r->children_count; i++) {
		struct layout_path path;
		snprintf(path.text, sizeof path.text, LAYOUT_LOG_DIR_EVENTS "/%s", r->children[i]);
		zk_get(t->c->o.zk, path.text, false, on_disk, term_hold(t));
	}
}

static void on_config(void *arg, const struct zk_result *r)
{
	struct term *t = answered(arg, r);
	if (!t)
		return;
	load_config(t, r);
	term_pump(t);
}

static void on_change(void *arg, const struct zk_result *r)
{
	struct term *t = answered(arg, r);
	struct layout_path entity, path;
	struct err e = ERR_INIT;
	if (!t || r->code != ZK_OK)
		return;
	if (layout_config_change_decode(&entity, r->path, r->data, r->bytes, &e) < 0) {
		diag_error("controller: %s", e.text);
		return;
	}
	if ((size_t)snprintf(path.text, sizeof path.text, LAYOUT_CONFIG "/%s", entity.text) < sizeof path.text)
		zk_get(t->c->o.zk, path.text, false, on_config, term_hold(t));
}

static void take_changes(struct term *t, const struct zk_result *r)
{
	int32_t newest = t->newest_change, number;
	for (size_t i = 0; i < r->children_count; i++) {
		struct layout_path path;
		if (!layout_number(r->children[i], "config_change_", &number) || number <= t->newest_change)
			continue;
		newest = number > newest ? number : newest;
		snprintf(path.text, sizeof path.text, LAYOUT_CONFIG_CHANGES "/%s", r->children[i]);
		zk_get(t->c->o.zk, path.text, false, on_change, term_hold(t));
	}
	t->newest_change = newest;
}

/* ---- listings ---- */

static void on_look(void *arg, const struct zk_result *r)
{
	struct term *t = answered(arg, r);
	if (!t)
		return;
	for (int i = 0; i < (int)(sizeof look_paths / sizeof *look_paths); i++) {
		if (strcmp(r->path, look_paths[i]) != 0)
			continue;
		static void (*const take[])(struct term *, const struct zk_result *) = {take_brokers, take_topics, take_deletions, take_disks, take_changes};
		t->looks[i] = false;
		take[i](t, r);
	}
	term_pump(t);
}

/* A watch that is set before the answer comes fires behind it: so while a listing is under way another one is not needed. */
static void look(struct term *t, enum look what)
{
	if (t->looks[what])
		return;
	t->looks[what] = true;
	zk_children(t->c->o.zk, look_paths[what], true, on_look, term_hold(t));
}

void term_watch(struct term *t)
{
	t->newest_change = -1;
	/* All of it, once more: what came while all was read was not listened to. */
	for (int i = 0; i < (int)(sizeof look_paths / sizeof *look_paths); i++)
		look(t, (enum look)i);
}

void term_changed(struct term *t, enum zk_change what, const char *path)
{
	int32_t id;
	for (int i = 0; i < (int)(sizeof look_paths / sizeof *look_paths); i++) {
		if (strcmp(path, look_paths[i]) == 0)
			look(t, (enum look)i);
	}
	size_t ids = strlen(LAYOUT_BROKER_IDS "/");
	if (what == ZK_CHANGED && strncmp(path, LAYOUT_BROKER_IDS "/", ids) == 0 && layout_number(path + ids, "", &id))
		look_at_broker(t, id);
}
