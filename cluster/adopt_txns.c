/*
 * Decisions on transactions (KIP-98, KIP-890): `__transaction_state-<n>/<base>.log`, compacted: the newest record of a key counts. Schemas TransactionLogKey.json and
 * TransactionLogValue.json:
 *
 *    key      version i16 (0) | transactional id
 *    value    version i16 (0, 1) | producer id i64 | producer epoch i16 | timeout i32 | status i8 | partitions | last update i64 | start i64 | from 1 on: tagged fields
 *             null: the transactional id has expired
 *
 * From version 1 on strings and arrays are compact (count + 1 as uvarint, 0 for null), and each struct ends in tagged fields (KIP-482): their number, then tag, size and
 * bytes of each, with uvarints for numbers.
 */
#include <dirent.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>

#include "cluster/adopt.h"
#include "cluster/adopt_log.h"
#include "store/diag.h"
#include "store/dirs.h"
#include "store/io.h"

enum { PREPARE_COMMIT = 2, COMPLETE_COMMIT = 4 };
enum { VALUE_VERSION_MAX = 1, FLEXIBLE_VERSION = 1, EPOCH_BUMP_VERSION = 2, TAG_PREVIOUS_PRODUCER_ID = 0, TAG_CLIENT_VERSION = 2 };

struct txn_value {
	int64_t producer_id, previous_producer_id;
	int16_t epoch, client_version;
	int8_t status;
};

struct search {
	int64_t producer_id; /* asked for */
	int16_t epoch;
	struct wr key;       /* of the newest record that names the producer */
	bool found, commit;  /* there is one; what it says */
	int32_t leader_epoch;
	bool any;            /* there are partitions of __transaction_state at all */
	uint32_t newer;      /* records of a version that is not known */
	const char *dir;
	int rc;
	struct err *err;
};

/* v: NULL to skip them. */
static void read_tags(struct rd *r, struct txn_value *v)
{
	for (uint32_t left = rd_uvarint(r); left && !r->failed; left--) {
		uint32_t tag = rd_uvarint(r), size = rd_uvarint(r);
		const uint8_t *p = rd_bytes(r, size);
		if (p && v && tag == TAG_PREVIOUS_PRODUCER_ID && size == 8)
			v->previous_producer_id = (int64_t)be64_get(p);
		else if (p && v && tag == TAG_CLIENT_VERSION && size == 2)
			v->client_version = (int16_t)be16_get(p);
	}
}

static void skip_partitions(struct rd *r)
{
	for (uint32_t left = rd_uvarint(r); left > 1 && !r->failed; left--) {
		size_t name = rd_uvarint(r);
		rd_skip(r, name ? name - 1 : 0);
		size_t ids = rd_uvarint(r);
		rd_skip(r, ids ? 4 * (ids - 1) : 0);
		read_tags(r, NULL);
	}
}

/* 1; 0: of a version that is not known; ERR_CORRUPT. */
static int decode_value(const struct record *record, struct txn_value *v, struct err *e)
{
	struct rd r;
	*v = (struct txn_value){.previous_producer_id = -1};
	rd_init(&r, record->value, (size_t)record->value_len);
	int16_t version = rd_i16(&r);
	if (!r.failed && (version < 0 || version > VALUE_VERSION_MAX))
		return 0;
	v->producer_id = rd_i64(&r);
	v->epoch = rd_i16(&r);
	rd_skip(&r, 4);
	v->status = rd_i8(&r);
	if (version >= FLEXIBLE_VERSION) {
		skip_partitions(&r);
		rd_skip(&r, 16);
		read_tags(&r, v);
	}
	return r.failed ? err_set(e, ERR_CORRUPT, "the state of a transaction is cut short") : 1;
}

/* Whether the commit is that of the transaction whose records carry the producer and epoch asked for. From transaction version 2 on (KIP-890) the decision raises the
 * epoch by one; at the last epoch there is, the completed transaction is already filed under the producer id that comes next, with epoch 0. Before that the epoch stays. */
static bool commits(const struct search *x, const struct txn_value *v)
{
	bool bumps = v->client_version >= EPOCH_BUMP_VERSION;
	if (v->status != PREPARE_COMMIT && v->status != COMPLETE_COMMIT)
		return false;
	if (v->producer_id == x->producer_id)
		return v->epoch == x->epoch + bumps;
	return bumps && v->status == COMPLETE_COMMIT && v->epoch == 0 && x->epoch == INT16_MAX - 1;
}

static int txn_record(void *arg, const struct batch *b, const struct record *r, struct err *e)
{
	struct search *x = arg;
	struct txn_value v;
	if (!r->key || r->key_len < 2 || be16_get(r->key) != 0)
		return 0; /* as Kafka: other kinds of keys are not for us */
	if (x->found && x->key.len == (size_t)r->key_len && !memcmp(x->key.data, r->key, x->key.len))
		x->found = false;
	if (!r->value)
		return 0;
	int rc = decode_value(r, &v, e);
	if (rc < 0)
		return rc;
	x->newer += rc == 0;
	if (rc == 0 || (v.producer_id != x->producer_id && v.previous_producer_id != x->producer_id))
		return 0;
	wr_clear(&x->key);
	wr_bytes(&x->key, r->key, (size_t)r->key_len);
	if (x->key.failed)
		return err_set(e, ERR_NO_MEMORY, "no memory for a transactional id");
	x->found = true;
	x->commit = commits(x, &v);
	x->leader_epoch = b->leader_epoch;
	return 0;
}

/* Gives each record of one partition's log to fn. */
static int walk_log(const char *dir, adopt_record_fn fn, void *arg, struct err *e)
{
	struct adopt_walk w;
	struct adopt_files f;
	adopt_walk_init(&w, dir, true, fn, arg);
	int rc = adopt_files_list(&f, dir, e);
	if (rc > 0 && f.swap)
		rc = err_set(e, ERR_CORRUPT, "%s holds .swap files of a compaction that Kafka did not finish", dir);
	else if (rc > 0)
		rc = adopt_walk_segments(&w, &f, e);
	adopt_walk_release(&w);
	adopt_files_release(&f);
	return rc;
}

static bool is_state_partition(const char *name, unsigned char type)
{
	struct dir_entry d;
	dir_entry_parse(name, &d);
	return type == DT_DIR && d.kind == DIR_PARTITION && !strcmp(d.topic, "__transaction_state");
}

/* A producer id belongs to one transactional id, and that to one partition: with the first that knows it the search ends. */
static int found_partition(void *arg, const char *name, unsigned char type)
{
	static struct diag_limit damaged;
	struct search *x = arg;
	char path[PATH_MAX];
	struct err why = ERR_INIT;
	if (!is_state_partition(name, type))
		return 0;
	snprintf(path, sizeof path, "%s/%s", x->dir, name);
	x->any = true;
	int rc = walk_log(path, txn_record, x, &why);
	if (rc == ERR_CORRUPT) {
		diag_limited(&damaged, 1000, DIAG_WARNING, "%s; decisions on transactions are not taken over from there", why.text);
		x->found = false;
	} else if (rc < 0) {
		x->rc = err_set(x->err, rc, "%s", why.text);
	}
	return x->found || x->rc < 0;
}

int adopt_txn_decision(const char *const *dirs, int64_t producer_id, int16_t producer_epoch, int32_t *coordinator_epoch, struct err *e)
{
	static struct diag_limit missing, unknown;
	struct search x = {.producer_id = producer_id, .epoch = producer_epoch, .err = e};
	int stop = 0;
	wr_init(&x.key, 0);
	for (; *dirs && stop == 0; dirs++) {
		x.dir = *dirs;
		stop = io_list(x.dir, found_partition, &x);
		if (stop < 0)
			x.rc = err_sys(e, stop, "cannot list %s", x.dir);
	}
	if (x.rc == 0 && !x.any)
		diag_limited(&missing, 1000, DIAG_NOTICE, "there is no __transaction_state, so nothing says how open transactions were decided");
	if (x.rc == 0 && !x.found && x.newer)
		diag_limited(&unknown, 1000, DIAG_WARNING, "%" PRIu32 " records of __transaction_state are of a version that is not known; decisions on transactions may be missing", x.newer);
	*coordinator_epoch = x.rc == 0 && x.found ? x.leader_epoch : 0;
	wr_release(&x.key);
	return x.rc < 0 ? x.rc : x.found && x.commit;
}

/* ---- ids ---- */

struct greatest { const char *dir; int64_t id; int rc; struct err *err; };

static int id_record(void *arg, const struct batch *b, const struct record *r, struct err *e)
{
	struct greatest *x = arg;
	struct txn_value v;
	(void)b;
	if (!r->key || r->key_len < 2 || be16_get(r->key) != 0 || !r->value)
		return 0;
	int rc = decode_value(r, &v, e);
	if (rc > 0) {
		x->id = v.producer_id > x->id ? v.producer_id : x->id;
		x->id = v.previous_producer_id > x->id ? v.previous_producer_id : x->id;
	}
	return rc < 0 ? rc : 0;
}

static int ids_of_partition(void *arg, const char *name, unsigned char type)
{
	struct greatest *x = arg;
	char path[PATH_MAX];
	struct err why = ERR_INIT;
	if (!is_state_partition(name, type))
		return 0;
	snprintf(path, sizeof path, "%s/%s", x->dir, name);
	int rc = walk_log(path, id_record, x, &why);
	if (rc == ERR_CORRUPT)
		diag_warning("%s; the producer ids behind that are not known", why.text);
	else if (rc < 0)
		x->rc = err_set(x->err, rc, "%s", why.text);
	return x->rc;
}

int adopt_txn_greatest_id(const char *dir, int64_t *id, struct err *e)
{
	struct greatest x = {.dir = dir, .id = *id, .err = e};
	int stop = io_list(dir, ids_of_partition, &x);
	if (stop < 0 && x.rc == 0)
		return err_sys(e, stop, "cannot list %s", dir);
	*id = x.id;
	return x.rc;
}
