/* What a new controller reads: everything, in phases, as what comes later hangs on what came before. */
#include "cluster/control/term.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/control/ids.h"
#include "cluster/control/ledger.h"
#include "store/diag.h"
#include "store/dirs.h"

enum { BROKERS, TOPICS, CONFIGS, DONE };

static void next_phase(struct term *t);

/* ---- one request of the phase ---- */

static void ask(struct term *t, void (*how)(struct zk *, const char *, bool, zk_done_fn, void *), const char *path, bool watch, zk_done_fn done)
{
	t->pending++;
	how(t->c->o.zk, path, watch, done, term_hold(t));
}

/* The term, if it is still that; and if the answer is one. A node that is missing is none: something was deleted a moment ago, and a watch will say so. */
static struct term *answered(void *arg, const struct zk_result *r)
{
	struct term *t = arg;
	struct err e = ERR_INIT;
	if (!term_drop(t))
		return NULL;
	t->pending--;
	if (r->code == ZK_OK || r->code == ZK_NO_NODE)
		return t;
	zk_error(r, "read", &e);
	term_failed(t, "reading", &e);
	return NULL;
}

static void go_on(struct term *t)
{
	if (!t->over && !t->pending)
		next_phase(t);
}

void load_numbers(const struct zk_result *r, int32_t **v, size_t *n)
{
	*n = 0;
	*v = malloc((r->children_count + 1) * sizeof **v);
	for (size_t i = 0; *v && i < r->children_count; i++) {
		if (layout_number(r->children[i], "", &(*v)[*n]))
			++*n;
	}
}

/* ---- brokers ---- */

static int16_t protocol_id(const char *name)
{
	static const char *const names[] = {"PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		if (strcmp(names[i], name) == 0)
			return (int16_t)i;
	}
	return 0;
}

/* false: it cannot be read, which is said; the broker does not take part. */
bool load_broker(struct term *t, const struct zk_result *r, bool starting)
{
	struct layout_broker l;
	struct err e = ERR_INIT;
	int32_t id;
	if (!layout_number(layout_name(r->path), "", &id))
		return false;
	if (layout_broker_decode(&l, r->path, r->data, r->bytes, &e) < 0) {
		diag_error("controller: %s", e.text);
		return false;
	}
	struct brain_endpoint *endpoint = calloc(l.endpoints + 1, sizeof *endpoint);
	struct brain_broker b = {.id = id, .epoch = r->stat.czxid, .clean = l.clean, .rack = l.rack, .endpoint = endpoint, .endpoints = l.endpoints};
	bool good = endpoint && l.endpoints && l.ours;
	for (size_t i = 0; good && i < l.endpoints; i++)
		endpoint[i] = (struct brain_endpoint){l.endpoint[i].listener, l.endpoint[i].host, l.endpoint[i].port, protocol_id(l.endpoint[i].protocol)};
	if (good) {
		starting ? brain_load_broker(t->b, &b) : brain_broker_up(t->b, &b, mono_now().ns / 1000000);
		term_broker(t, id, b.epoch, endpoint[0].host, endpoint[0].port);
	} else {
		diag_error("controller: %s: a broker that is no spoolfs, or has no address, takes no part", r->path);
	}
	free(endpoint);
	layout_broker_release(&l);
	return good;
}

static void on_broker(void *arg, const struct zk_result *r)
{
	struct term *t = answered(arg, r);
	if (!t)
		return;
	if (r->code == ZK_OK)
		load_broker(t, r, true);
	go_on(t);
}

static void on_brokers(void *arg, const struct zk_result *r)
{
	struct term *t = answered(arg, r);
	struct layout_path path;
	if (!t)
		return;
	load_numbers(r, &t->brokers, &t->n_brokers);
	for (size_t i = 0; i < t->n_brokers; i++)
		ask(t, zk_get, layout_broker_path(&path, t->brokers[i]), true, on_broker);
	go_on(t);
}

static void on_ledger(void *arg, const struct zk_result *r)
{
	struct term *t = answered(arg, r);
	struct brain_ledger l;
	struct err e = ERR_INIT;
	int32_t id;
	if (!t)
		return;
	if (r->code == ZK_OK && layout_number(layout_name(r->path), "", &id)) {
		/* One that cannot be read says the worst of its broker, and is written anew. */
		if (ledger_decode(&l, r->path, r->data, r->bytes, &e) < 0) {
			diag_error("controller: %s; the broker counts as one that has stopped uncleanly", e.text);
			l = (struct brain_ledger){.settled_epoch = -1, .fenced_epoch = -1, .unclean = true};
		}
		brain_load_ledger(t->b, id, &l, r->stat.version);
	}
	go_on(t);
}

static void on_ledgers(void *arg, const struct zk_result *r)
{
	struct term *t = answered(arg, r);
	struct layout_path path;
	int32_t *id = NULL;
	size_t n = 0;
	if (!t)
		return;
	load_numbers(r, &id, &n);
	for (size_t i = 0; i < n; i++)
		ask(t, zk_get, ledger_path(&path, id[i]), false, on_ledger);
	free(id);
	go_on(t);
}

/* ---- topics ---- */

/* /brokers/topics/T/partitions/N/...: false where it is another path. number NULL: /brokers/topics/T/... */
static bool divide(const char *path, char *topic, int32_t *number)
{
	const char *from = path + strlen(LAYOUT_TOPICS) + 1, *end;
	if (strncmp(path, LAYOUT_TOPICS "/", strlen(LAYOUT_TOPICS) + 1) != 0)
		return false;
	end = strchrnul(from, '/');
	snprintf(topic, ZK_PATH_MAX, "%.*s", (int)(end - from), from);
	if (!number)
		return true;
	char digits[16];
	static const char directory[] = "/partitions/";
	if (strncmp(end, directory, sizeof directory - 1) != 0)
		return false;
	end += sizeof directory - 1;
	snprintf(digits, sizeof digits, "%.*s", (int)strcspn(end, "/"), end);
	return layout_number(digits, "", number);
}

static void on_state(void *arg, const struct zk_result *r)
{
	struct term *t = answered(arg, r);
	char topic[ZK_PATH_MAX];
	struct layout_state l;
	struct err e = ERR_INIT;
	int32_t number;
	if (!t)
		return;
	if (divide(r->path, topic, &number) && number < brain_partitions(t->b, topic)) { /* others are nobody's */
		brain_load_partition_node(t->b, topic, number);
		int rc = r->code == ZK_OK ? layout_state_decode(&l, r->path, r->data, r->bytes, &e) : 0;
		if (rc == 0 && r->code == ZK_OK) {
			struct ids *isr = ids_make(l.isr, (int32_t)l.isrs);
			struct brain_state s = {l.leader, l.leader_epoch, l.controller_epoch, isr, l.recovering};
			rc = isr ? brain_load_state(t->b, topic, number, &s, r->stat.version, &e) : err_set(&e, ERR_NO_MEMORY, "no memory");
			free(isr);
			layout_state_release(&l);
		}
		if (rc < 0) {
			/* A leader must not be chosen without it. */
			term_failed(t, "reading", &e);
			return;
		}
	}
	go_on(t);
}

static void on_partitions(void *arg, const struct zk_result *r)
{
	struct term *t = answered(arg, r);
	char topic[ZK_PATH_MAX];
	struct layout_path path;
	int32_t *number = NULL;
	size_t n = 0;
	if (!t)
		return;
	if (r->code == ZK_OK && divide(r->path, topic, NULL)) {
		brain_load_partitions_node(t->b, topic);
		load_numbers(r, &number, &n);
		for (size_t i = 0; i < n; i++)
			ask(t, zk_get, layout_state_path(&path, topic, number[i]), false, on_state);
		free(number);
	}
	go_on(t);
}

/* false: it cannot be read, which is said. */
bool load_topic(struct term *t, const struct zk_result *r, bool starting)
{
	struct layout_topic l;
	struct err e = ERR_INIT;
	uint8_t id[16] = {0};
	int rc = layout_topic_decode(&l, r->path, r->data, r->bytes, &e);
	if (rc == 0 && l.topic_id[0])
		uuid_bytes(l.topic_id, id);
	struct brain_assignment *a = rc == 0 ? calloc(l.partitions + 1, sizeof *a) : NULL;
	struct ids **lists = rc == 0 ? calloc(3 * l.partitions + 1, sizeof *lists) : NULL;
	if (rc == 0 && (!a || !lists))
		rc = err_set(&e, ERR_NO_MEMORY, "%s: no memory", r->path);
	for (size_t i = 0; rc == 0 && i < l.partitions; i++) {
		const struct layout_assignment *p = &l.partition[i];
		lists[3 * i] = ids_make(p->replica, (int32_t)p->replicas);
		lists[3 * i + 1] = ids_make(p->adding, (int32_t)p->addings);
		lists[3 * i + 2] = ids_make(p->removing, (int32_t)p->removings);
		a[i] = (struct brain_assignment){lists[3 * i], lists[3 * i + 1], lists[3 * i + 2]};
		if (!lists[3 * i] || !lists[3 * i + 1] || !lists[3 * i + 2])
			rc = err_set(&e, ERR_NO_MEMORY, "%s: no memory", r->path);
	}
	if (rc == 0)
		rc = (starting ? brain_load_topic : brain_topic_appeared)(t->b, layout_name(r->path), id, r->stat.version, a, (int32_t)l.partitions, &e);
	for (size_t i = 0; lists && i < 3 * l.partitions; i++)
		free(lists[i]);
	free(lists);
	free(a);
	layout_topic_release(&l);
	if (rc < 0 && starting) /* brokers would be told that it is none of theirs: nothing is decided before somebody has looked */
		term_failed(t, "reading", &e);
	else if (rc < 0)
		diag_error("controller: %s", e.text);
	return rc == 0;
}

static void on_topic(void *arg, const struct zk_result *r)
{
	struct term *t = answered(arg, r);
	struct layout_path path;
	if (!t)
		return;
	if (r->code == ZK_OK && load_topic(t, r, true))
		ask(t, zk_children, layout_partitions_path(&path, layout_name(r->path)), false, on_partitions);
	go_on(t);
}

static void on_topics(void *arg, const struct zk_result *r)
{
	struct term *t = answered(arg, r);
	struct layout_path path;
	if (!t)
		return;
	for (size_t i = 0; i < r->children_count; i++)
		ask(t, zk_get, layout_topic_path(&path, r->children[i]), false, on_topic);
	go_on(t);
}

/* ---- configurations, deletions ---- */

/* Of a topic, or of all brokers: what of it matters here. */
void load_config(struct term *t, const struct zk_result *r)
{
	struct layout_config l = {0};
	struct err e = ERR_INIT;
	enum layout_entity type;
	char name[ZK_PATH_MAX], client[ZK_PATH_MAX];
	int unclean = -1;
	if (!layout_config_entity(r->path + strlen(LAYOUT_CONFIG "/"), &type, name, client))
		return;
	if (r->code == ZK_OK && layout_config_decode(&l, r->path, r->data, r->bytes, &e) < 0) {
		diag_error("controller: %s", e.text);
		return;
	}
	for (size_t i = 0; i < l.properties; i++) {
		if (strcmp(l.property[i].name, "unclean.leader.election.enable") == 0)
			unclean = strcasecmp(l.property[i].value, "true") == 0;
	}
	layout_config_release(&l);
	if (type == LAYOUT_TOPIC) {
		if (r->code == ZK_OK)
			brain_load_config_node(t->b, name);
		brain_topic_unclean(t->b, name, unclean);
	}
	else if (type == LAYOUT_BROKER && strcmp(name, LAYOUT_DEFAULT) == 0)
		brain_unclean_default(t->b, unclean < 0 ? t->c->o.settings.brain.unclean_elections : unclean);
}

static void on_config(void *arg, const struct zk_result *r)
{
	struct term *t = answered(arg, r);
	if (!t)
		return;
	load_config(t, r);
	go_on(t);
}

static void ask_config(struct term *t, enum layout_entity type, const char *name)
{
	struct layout_path path;
	if (layout_config_path(&path, type, name, NULL, NULL) == 0)
		ask(t, zk_get, path.text, false, on_config);
}

static void on_configs(void *arg, const struct zk_result *r)
{
	struct term *t = answered(arg, r);
	if (!t)
		return;
	for (size_t i = 0; i < r->children_count; i++)
		ask_config(t, LAYOUT_TOPIC, r->children[i]);
	go_on(t);
}

static void on_deletions(void *arg, const struct zk_result *r)
{
	struct term *t = answered(arg, r);
	if (!t)
		return;
	for (size_t i = 0; i < r->children_count; i++) {
		if (!brain_load_deletion(t->b, r->children[i]))
			term_delete_mark(t, r->children[i]);
	}
	go_on(t);
}

/* ---- phases ---- */

static void next_phase(struct term *t)
{
	switch (t->phase++) {
	case BROKERS:
		ask(t, zk_children, LAYOUT_BROKER_IDS, true, on_brokers);
		ask(t, zk_children, LEDGERS, false, on_ledgers);
		break;
	case TOPICS:
		ask(t, zk_children, LAYOUT_TOPICS, true, on_topics);
		break;
	case CONFIGS:
		ask(t, zk_children, LAYOUT_CONFIG "/topics", false, on_configs);
		ask_config(t, LAYOUT_BROKER, LAYOUT_DEFAULT);
		ask(t, zk_children, LAYOUT_DELETE_TOPICS, true, on_deletions);
		break;
	default:
		t->leads = true;
		brain_start(t->b, mono_now().ns / 1000000);
		term_watch(t);
		term_pump(t);
	}
}

static void on_path(void *arg, const struct zk_result *r)
{
	struct term *t = answered(arg, r);
	if (t)
		go_on(t);
}

void term_load(struct term *t)
{
	t->phase = BROKERS;
	t->pending = 2;
	zk_make_path(t->c->o.zk, LEDGERS, on_path, term_hold(t));
	zk_sync(t->c->o.zk, on_path, term_hold(t));
}
