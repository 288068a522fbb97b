/*
 * ledger: what the controllers know of a broker beyond its registration, as a node that outlives both: /spoolfs/brokers/<id>, which no Kafka has.
 *
 *   {"version":1,"settled_epoch":123,"fenced_epoch":-1,"unclean":false}
 *
 * thread: any.
 */
#ifndef CLUSTER_CONTROL_LEDGER_H
#define CLUSTER_CONTROL_LEDGER_H

#include "cluster/control/brain.h"
#include "cluster/zk/layout.h"
#include "store/buf.h"

#define LEDGERS "/spoolfs/brokers"

const char *ledger_path(struct layout_path *p, int32_t broker); /* returns p->text */
/* ERR_CORRUPT, ERR_VERSION with a sentence that names the path. */
int ledger_decode(struct brain_ledger *l, const char *path, const void *data, size_t bytes, struct err *e);
int ledger_encode(const struct brain_ledger *l, struct wr *out); /* ERR_NO_MEMORY */

#endif
