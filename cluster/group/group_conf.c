/* The properties of the group coordinator, named, bounded and preset as Kafka's. */
#include "cluster/group/coordinator.h"

const struct conf_property group_properties[] = {
	{.name = "group.initial.rebalance.delay.ms", .type = CONF_INT, .scope = CONF_BROKER, .preset = "3000", .min = 0, .max = INT32_MAX, .unit = "ms",
	 .help = "how long the first members of an empty group wait for others, again as long as others come meanwhile, at most the rebalance timeout"},
	{.name = "group.max.session.timeout.ms", .type = CONF_INT, .scope = CONF_BROKER, .preset = "1800000", .min = 0, .max = INT32_MAX, .unit = "ms",
	 .help = "longest session timeout that a member may ask for"},
	{.name = "group.max.size", .type = CONF_INT, .scope = CONF_BROKER, .preset = "2147483647", .min = 1, .max = INT32_MAX, .help = "members that a group can have"},
	{.name = "group.min.session.timeout.ms", .type = CONF_INT, .scope = CONF_BROKER, .preset = "6000", .min = 0, .max = INT32_MAX, .unit = "ms",
	 .help = "shortest session timeout that a member may ask for"},
	{.name = "offset.metadata.max.bytes", .type = CONF_INT, .scope = CONF_BROKER, .preset = "4096", .min = 0, .max = INT32_MAX, .unit = "bytes",
	 .help = "longest text that may be committed with an offset"},
	{.name = "offsets.retention.check.interval.ms", .type = CONF_INT, .scope = CONF_BROKER, .preset = "600000", .min = 1, .max = INT64_MAX, .unit = "ms",
	 .help = "how often it is looked for offsets that are too old"},
	{.name = "offsets.retention.minutes", .type = CONF_INT, .scope = CONF_BROKER, .preset = "10080", .min = 1, .max = INT32_MAX, .unit = "min",
	 .help = "how long offsets are kept once the group has no members, or is subscribed to the topic no more"},
	{.name = "offsets.topic.compression.codec", .type = CONF_INT, .scope = CONF_BROKER, .preset = "0", .min = 0, .max = 4,
	 .help = "codec of what is written to __consumer_offsets: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd"},
	{.name = "offsets.topic.num.partitions", .type = CONF_INT, .scope = CONF_BROKER, .preset = "50", .min = 1, .max = INT32_MAX,
	 .help = "partitions of __consumer_offsets when it is made"},
	{.name = "offsets.topic.replication.factor", .type = CONF_INT, .scope = CONF_BROKER, .preset = "3", .min = 1, .max = INT16_MAX,
	 .help = "in a cluster, on how many brokers the partitions of __consumer_offsets are kept, when it is made: with fewer brokers alive it is not"},
	{.name = "offsets.topic.segment.bytes", .type = CONF_INT, .scope = CONF_BROKER, .preset = "104857600", .min = 1 << 14, .max = INT32_MAX, .unit = "bytes",
	 .help = "segment.bytes of __consumer_offsets when it is made"},
	{NULL},
};
