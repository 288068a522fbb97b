/* The brain's batches as multis: every one checks that /controller_epoch is still ours. They go out at once, in their order; ZooKeeper does them in it. */
#include <stdlib.h>
#include <string.h>

#include "cluster/control/ids.h"
#include "cluster/control/ledger.h"
#include "cluster/control/term.h"
#include "store/dirs.h"

/* ---- an op ---- */

static int encode_state(const struct op *op, struct wr *out)
{
	struct layout_state l = {.leader = op->state.leader, .leader_epoch = op->state.leader_epoch, .controller_epoch = op->state.controller_epoch,
		.isr = (int32_t *)(uintptr_t)op->state.isr->v, .isrs = (size_t)op->state.isr->n, .recovering = op->state.recovering};
	return layout_state_encode(&l, out);
}

static void put_ids(const struct ids *from, int32_t **v, size_t *n)
{
	*v = from ? (int32_t *)(uintptr_t)from->v : NULL;
	*n = (size_t)ids_n(from);
}

static int encode_topic(const struct op *op, struct wr *out)
{
	struct layout_topic l = {.partitions = (size_t)op->assignment.partitions};
	uuid_text(op->assignment.id, l.topic_id);
	l.partition = calloc(l.partitions + 1, sizeof *l.partition);
	if (!l.partition)
		return ERR_NO_MEMORY;
	for (size_t i = 0; i < l.partitions; i++) {
		const struct brain_assignment *a = &op->assignment.partition[i];
		put_ids(a->replicas, &l.partition[i].replica, &l.partition[i].replicas);
		put_ids(a->adding, &l.partition[i].adding, &l.partition[i].addings);
		put_ids(a->removing, &l.partition[i].removing, &l.partition[i].removings);
	}
	int rc = layout_topic_encode(&l, out);
	free(l.partition);
	return rc;
}

static int encode_config(const struct op *op, struct wr *out)
{
	struct layout_config l = {.properties = (size_t)op->config.n};
	int rc = ERR_NO_MEMORY;
	l.property = calloc(l.properties + 1, sizeof *l.property);
	for (size_t i = 0; l.property && i < l.properties; i++)
		l.property[i] = (struct layout_property){op->config.v[i].name.s, op->config.v[i].value.s};
	if (l.property)
		rc = layout_config_encode(&l, out);
	free(l.property);
	return rc;
}

static int encode(const struct op *op, const char *config_path, struct wr *out)
{
	switch (op->kind) {
	case OP_CREATE_STATE:
	case OP_SET_STATE:
		return encode_state(op, out);
	case OP_CREATE_TOPIC:
	case OP_SET_TOPIC:
		return encode_topic(op, out);
	case OP_CREATE_CONFIG:
	case OP_SET_CONFIG:
		return encode_config(op, out);
	case OP_NOTE_CONFIG:
		return layout_config_change_encode(config_path, out);
	case OP_CREATE_LEDGER:
	case OP_SET_LEDGER:
		return ledger_encode(&op->ledger.ledger, out);
	default:
		return 0;
	}
}

static const char *path_of(const struct op *op, struct layout_path *p)
{
	switch (op->kind) {
	case OP_CREATE_STATE:
	case OP_SET_STATE:
	case OP_DELETE_STATE:
		return layout_state_path(p, op->topic, op->partition);
	case OP_CREATE_PARTITION:
	case OP_DELETE_PARTITION:
		return layout_partition_path(p, op->topic, op->partition);
	case OP_CREATE_PARTITIONS:
	case OP_DELETE_PARTITIONS:
		return layout_partitions_path(p, op->topic);
	case OP_CREATE_TOPIC:
	case OP_SET_TOPIC:
	case OP_DELETE_TOPIC:
		return layout_topic_path(p, op->topic);
	case OP_CREATE_MARK:
	case OP_DELETE_MARK:
		return layout_delete_topic_path(p, op->topic);
	case OP_NOTE_CONFIG:
		return LAYOUT_CONFIG_CHANGE;
	case OP_CREATE_LEDGER:
	case OP_SET_LEDGER:
		return ledger_path(p, op->ledger.broker);
	default: /* of a config */
		return layout_config_path(p, LAYOUT_TOPIC, op->topic, NULL, NULL) == 0 ? p->text : "";
	}
}

static int add(struct zk_multi *m, const struct op *op)
{
	struct layout_path path, config;
	struct wr out;
	wr_init(&out, 0);
	bool named = op->kind == OP_NOTE_CONFIG && layout_config_path(&config, LAYOUT_TOPIC, op->topic, NULL, NULL) == 0;
	int rc = encode(op, named ? config.text : "", &out);
	const char *at = path_of(op, &path);
	switch (op->kind) {
	case OP_SET_STATE:
	case OP_SET_TOPIC:
	case OP_SET_CONFIG:
	case OP_SET_LEDGER:
		zk_multi_set(m, at, out.data, out.len, op->version < 0 ? ZK_ANY_VERSION : op->version);
		break;
	case OP_DELETE_STATE:
	case OP_DELETE_PARTITION:
	case OP_DELETE_PARTITIONS:
	case OP_DELETE_TOPIC:
	case OP_DELETE_CONFIG:
	case OP_DELETE_MARK:
		zk_multi_delete(m, at, op->version < 0 ? ZK_ANY_VERSION : op->version);
		break;
	default:
		zk_multi_create(m, at, out.data, out.len, op->kind == OP_NOTE_CONFIG ? ZK_SEQUENTIAL : 0);
	}
	wr_release(&out);
	return rc;
}

/* ---- a batch ---- */

static void on_multi(void *arg, const struct zk_result *r)
{
	struct term *t = arg;
	struct err e = ERR_INIT;
	if (!term_drop(t))
		return;
	t->multis--;
	if (r->code != ZK_OK) {
		t->refused = true;
		t->fenced = t->fenced || (r->code == ZK_BAD_VERSION && r->refused == 0);
		zk_error(r, "write", &e);
	}
	if (t->fenced)
		term_fenced(t);
	else if (r->code != ZK_OK)
		term_failed(t, "writing", &e);
	if (t->over || t->multis)
		return;
	brain_written(t->b, mono_now().ns / 1000000);
	term_pump(t);
}

bool term_write(struct term *t)
{
	struct brain_batch batch;
	struct err e = ERR_INIT;
	if (t->multis || !brain_writes(t->b, mono_now().ns / 1000000, &batch))
		return false;
	t->multis = batch.multis; /* all of them before the first is answered */
	for (size_t i = 0; i < batch.multis && !t->over; i++) {
		struct zk_multi *m = zk_multi_new();
		int rc = 0;
		zk_multi_check(m, LAYOUT_CONTROLLER_EPOCH, t->c->epoch_version);
		for (size_t k = 0; k < batch.multi[i].ops && rc == 0; k++)
			rc = add(m, &batch.multi[i].op[k]);
		if (rc == 0) {
			zk_multi_send(t->c->o.zk, m, on_multi, term_hold(t));
			continue;
		}
		zk_multi_free(m);
		err_set(&e, rc, "no node can be made of what is to be written");
		term_failed(t, "writing", &e);
	}
	return !t->over;
}

/* ---- what is of no use any more ---- */

static void on_deleted(void *arg, const struct zk_result *r)
{
	struct term *t = arg;
	if (term_drop(t) && r->code == ZK_BAD_VERSION && r->refused == 0)
		term_fenced(t);
}

void term_delete(struct term *t, const char *path)
{
	struct zk_multi *m = zk_multi_new();
	zk_multi_check(m, LAYOUT_CONTROLLER_EPOCH, t->c->epoch_version);
	zk_multi_delete(m, path, ZK_ANY_VERSION);
	zk_multi_send(t->c->o.zk, m, on_deleted, term_hold(t));
}

void term_delete_mark(struct term *t, const char *topic)
{
	struct layout_path path;
	term_delete(t, layout_delete_topic_path(&path, topic));
}
