/* Kafka's paths in ZooKeeper. */
#include "cluster/zk/layout.h"

#include <stdio.h>
#include <string.h>

const char *const layout_persistent_paths[] = {
	LAYOUT_CONSUMERS, LAYOUT_BROKER_IDS, LAYOUT_TOPICS, LAYOUT_CONFIG_CHANGES, LAYOUT_DELETE_TOPICS, "/brokers/seqid", LAYOUT_ISR_CHANGES, LAYOUT_PRODUCER_IDS, LAYOUT_LOG_DIR_EVENTS,
	"/config/topics", "/config/clients", "/config/users", "/config/brokers", "/config/ips", NULL,
};

static bool begins(const char *path, const char *with)
{
	return !strncmp(path, with, strlen(with));
}

/* Kafka's rule, which goes by the beginning of the text and not by names. */
enum zk_acl layout_acl(const char *path)
{
	if (!strcmp(path, LAYOUT_CONSUMERS))
		return ZK_ACL_OPEN;
	return begins(path, "/config/users") || begins(path, "/config/brokers") || begins(path, "/delegation_token") ? ZK_ACL_PRIVATE : ZK_ACL_READABLE;
}

const char *layout_broker_path(struct layout_path *p, int32_t id)
{
	snprintf(p->text, sizeof p->text, LAYOUT_BROKER_IDS "/%d", id);
	return p->text;
}

const char *layout_topic_path(struct layout_path *p, const char *topic)
{
	snprintf(p->text, sizeof p->text, LAYOUT_TOPICS "/%s", topic);
	return p->text;
}

const char *layout_partitions_path(struct layout_path *p, const char *topic)
{
	snprintf(p->text, sizeof p->text, LAYOUT_TOPICS "/%s/partitions", topic);
	return p->text;
}

const char *layout_partition_path(struct layout_path *p, const char *topic, int32_t partition)
{
	snprintf(p->text, sizeof p->text, LAYOUT_TOPICS "/%s/partitions/%d", topic, partition);
	return p->text;
}

const char *layout_state_path(struct layout_path *p, const char *topic, int32_t partition)
{
	snprintf(p->text, sizeof p->text, LAYOUT_TOPICS "/%s/partitions/%d/state", topic, partition);
	return p->text;
}

const char *layout_delete_topic_path(struct layout_path *p, const char *topic)
{
	snprintf(p->text, sizeof p->text, LAYOUT_DELETE_TOPICS "/%s", topic);
	return p->text;
}

const char *layout_name(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

bool layout_number(const char *name, const char *prefix, int32_t *number)
{
	size_t n = strlen(prefix);
	const char *digits = name + n;
	int64_t v = 0;
	if (strncmp(name, prefix, n) || !*digits || strlen(digits) > 10)
		return false;
	for (const char *c = digits; *c; c++) {
		if (*c < '0' || *c > '9')
			return false;
		v = v * 10 + *c - '0';
	}
	*number = (int32_t)v;
	return v <= INT32_MAX;
}
