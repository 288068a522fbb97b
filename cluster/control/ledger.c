#include "cluster/control/ledger.h"

#include <inttypes.h>
#include <stdio.h>

#include "cluster/zk/layout_json.h"

const char *ledger_path(struct layout_path *p, int32_t broker)
{
	snprintf(p->text, sizeof p->text, LEDGERS "/%" PRId32, broker);
	return p->text;
}

int ledger_decode(struct brain_ledger *l, const char *path, const void *data, size_t bytes, struct err *e)
{
	struct reading r;
	int64_t version;
	reading_begin(&r, path, data, bytes, 1, 1, &version, e);
	*l = (struct brain_ledger){.settled_epoch = -1, .fenced_epoch = -1};
	if (r.rc == 0) {
		l->settled_epoch = read_number(&r, r.root, "settled_epoch", -1, INT64_MAX);
		l->fenced_epoch = read_number(&r, r.root, "fenced_epoch", -1, INT64_MAX);
		l->unclean = read_bool(&r, r.root, "unclean");
	}
	json_decref(r.root);
	return r.rc;
}

int ledger_encode(const struct brain_ledger *l, struct wr *out)
{
	wr_printf(out, "{\"version\":1,\"settled_epoch\":%" PRId64 ",\"fenced_epoch\":%" PRId64 ",\"unclean\":%s}", l->settled_epoch, l->fenced_epoch, l->unclean ? "true" : "false");
	return out->failed ? ERR_NO_MEMORY : 0;
}
