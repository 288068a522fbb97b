/*
 * settings: the properties of a broker in a cluster that ZooKeeper holds together.
 *
 * thread: any.
 */
#ifndef CLUSTER_ZK_SETTINGS_H
#define CLUSTER_ZK_SETTINGS_H

#include "cluster/zk/zk.h"
#include "store/conf.h"
#include "store/err.h"

extern const struct conf_property zk_properties[];

struct zk_settings {
	struct zk_options options;  /* connect, timeout, credentials, ACL, in flight; strings are the conf's, or this struct's */
	int connection_timeout_ms;  /* how long the start waits for the first connection */
	char credentials[512];
};

/* Reads the credentials file, too: ERR_INVALID, ERR_DENIED, ERR_NOT_FOUND, ERR_IO. zookeeper.connect is set. The struct stays where it is while its options are used. */
int zk_settings_read(struct zk_settings *s, const struct conf *c, struct err *e);

#endif
