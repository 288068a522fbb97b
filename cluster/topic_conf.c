/*
 * Topic properties: what is set is kept in topic.properties (topic_file.h); values in force are copied into struct limits for the hot path.
 *
 * A topic whose properties are damaged or missing loses no message by that, and is opened to nobody: nothing is deleted from it, and its directory is for the daemon's
 * user alone, until properties are written anew. From then on `spoolfs.lost` stands among them: what deletes messages must have been set for this topic itself.
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cluster/model.h"
#include "cluster/topic_file.h"
#include "store/diag.h"
#include "store/io.h"

static bool check_gzip_level(const char *value, struct err *e)
{
	if (strtol(value, NULL, 10) != 0)
		return true;
	err_set(e, ERR_INVALID, "0 would not compress; use compression.type=uncompressed");
	return false;
}

/* "*", or PARTITION:BROKER items. */
static bool check_throttled(const char *value, struct err *e)
{
	bool good = strcmp(value, "*") != 0;
	for (const char *at = value; good && *at;) {
		size_t partition = strspn(at, "0123456789"), broker = at[partition] == ':' ? strspn(at + partition + 1, "0123456789") : 0;
		const char *end = at + partition + 1 + broker;
		good = partition && broker && (!*end || (*end == ',' && end[1]));
		at = good && *end ? end + 1 : end;
	}
	if (!good && strcmp(value, "*") != 0)
		err_set(e, ERR_INVALID, "expected is * or PARTITION:BROKER,...");
	return good || !strcmp(value, "*");
}

static bool check_above_zero(const char *value, struct err *e)
{
	if (strtod(value, NULL) > 0)
		return true;
	err_set(e, ERR_INVALID, "it has to be above 0");
	return false;
}

const struct conf_property cluster_properties[] = {
	{.name = "acks", .type = CONF_ENUM, .scope = CONF_BROKER | CONF_TOPIC, .preset = "1", .choices = "1,all",
	 .help = "when a write to the mount returns: 1: the message is in the leader's log; all: every in-sync replica has it or, with one replica, it is on disk"},
	{.name = "broker.id", .type = CONF_INT, .scope = CONF_BROKER, .preset = "0", .min = 0, .max = INT32_MAX, .help = "number of this broker in a cluster"},
	{.name = "cleanup.policy", .type = CONF_LIST, .scope = CONF_TOPIC, .preset = "delete", .choices = "compact,delete", .broker_name = "log.cleanup.policy",
	 .help = "what happens to old records: delete: segments go, by age and size; compact: of each key the newest record is left; or both. A compacted topic's files are read in order and have no size"},
	{.name = "log.cleanup.policy", .type = CONF_LIST, .scope = CONF_BROKER, .preset = "delete", .choices = "compact,delete", .help = "cleanup.policy of topics that do not set it"},
	{.name = "compression.gzip.level", .type = CONF_INT, .scope = CONF_TOPIC | CONF_BROKER, .preset = "-1", .min = -1, .max = 9, .check = check_gzip_level,
	 .help = "level of gzip, 1 to 9; -1: the library's default"},
	{.name = "compression.lz4.level", .type = CONF_INT, .scope = CONF_TOPIC | CONF_BROKER, .preset = "9", .min = 1, .max = 17, .help = "level of lz4; 9 is, as in Kafka, its fast compressor, the others its high compression"},
	{.name = "compression.type", .type = CONF_ENUM, .scope = CONF_TOPIC | CONF_BROKER, .preset = "producer", .choices = "producer,uncompressed,gzip,snappy,lz4,zstd",
	 .help = "codec of new batches; producer: as whoever writes sends them, which for the mount is uncompressed"},
	{.name = "compression.zstd.level", .type = CONF_INT, .scope = CONF_TOPIC | CONF_BROKER, .preset = "3", .min = -131072, .max = 22, .help = "level of zstd"},
	{.name = "delete.retention.ms", .type = CONF_INT, .scope = CONF_TOPIC, .preset = "86400000", .min = 0, .max = INT64_MAX, .unit = "ms",
	 .broker_name = "log.cleaner.delete.retention.ms", .help = "how long compaction keeps a null value, so that a reader who is on the way still learns that the key was deleted"},
	{.name = "log.cleaner.delete.retention.ms", .type = CONF_INT, .scope = CONF_BROKER, .preset = "86400000", .min = 0, .max = INT64_MAX, .unit = "ms",
	 .help = "delete.retention.ms of topics that do not set it"},
	{.name = "file.delete.delay.ms", .type = CONF_INT, .scope = CONF_TOPIC, .preset = "60000", .min = 0, .max = INT64_MAX, .unit = "ms",
	 .broker_name = "log.segment.delete.delay.ms", .help = "how long a deleted segment or topic stays on disk as .deleted"},
	{.name = "log.segment.delete.delay.ms", .type = CONF_INT, .scope = CONF_BROKER, .preset = "60000", .min = 0, .max = INT64_MAX, .unit = "ms",
	 .help = "file.delete.delay.ms of topics that do not set it"},
	{.name = "flush.messages", .type = CONF_INT, .scope = CONF_TOPIC, .preset = "9223372036854775807", .min = 1, .max = INT64_MAX,
	 .broker_name = "log.flush.interval.messages", .help = "a log is flushed to disk, in the background, after so many messages"},
	{.name = "log.flush.interval.messages", .type = CONF_INT, .scope = CONF_BROKER, .preset = "9223372036854775807", .min = 1, .max = INT64_MAX,
	 .help = "flush.messages of topics that do not set it"},
	{.name = "flush.ms", .type = CONF_INT, .scope = CONF_TOPIC, .preset = "9223372036854775807", .min = 0, .max = INT64_MAX, .unit = "ms", .broker_name = "log.flush.interval.ms",
	 .help = "a message is flushed to disk, in the background, at this age"},
	{.name = "log.flush.interval.ms", .type = CONF_INT, .scope = CONF_BROKER, .min = 0, .max = INT64_MAX, .unit = "ms",
	 .help = "flush.ms of topics that do not set it"},
	{.name = "log.cleaner.backoff.ms", .type = CONF_INT, .scope = CONF_BROKER, .preset = "15000", .min = 0, .max = INT64_MAX, .unit = "ms",
	 .help = "how long the cleaner sleeps when there is nothing to compact"},
	{.name = "log.cleaner.dedupe.buffer.size", .type = CONF_INT, .scope = CONF_BROKER, .preset = "134217728", .min = (1 << 20) + 1, .max = INT64_MAX, .unit = "bytes",
	 .help = "most memory for the keys of the logs that are compacted, 24 bytes each, shared by log.cleaner.threads; taken while there is something to compact, and no more than that needs"},
	{.name = "log.cleaner.enable", .type = CONF_BOOL, .scope = CONF_BROKER, .preset = "true", .help = "whether topics with cleanup.policy=compact are compacted"},
	{.name = "log.cleaner.io.buffer.load.factor", .type = CONF_DOUBLE, .scope = CONF_BROKER, .preset = "0.9", .min = 0, .max = 1, .check = check_above_zero,
	 .help = "how full of keys the cleaner's memory may get before it goes on with those"},
	{.name = "log.cleaner.io.buffer.size", .type = CONF_INT, .scope = CONF_BROKER, .preset = "524288", .min = 0, .max = INT32_MAX, .unit = "bytes",
	 .help = "memory to read and write logs that are compacted, shared by log.cleaner.threads; a batch that is larger takes its size"},
	{.name = "log.cleaner.io.max.bytes.per.second", .type = CONF_DOUBLE, .scope = CONF_BROKER, .preset = "1.7976931348623157E308", .check = check_above_zero, .unit = "bytes",
	 .help = "the cleaner reads and writes no more than that in a second, on average"},
	{.name = "log.cleaner.threads", .type = CONF_INT, .scope = CONF_BROKER, .preset = "1", .min = 0, .max = 1000, .help = "logs that are compacted at the same time"},
	{.name = "log.dirs", .type = CONF_STRING, .scope = CONF_BROKER, .help = "log directories, separated by commas; the first is DATA, which -d gives; new partitions go where there are fewest"},
	{.name = "log.flush.acks.all", .type = CONF_ENUM, .scope = CONF_BROKER, .preset = "auto", .choices = "auto,always,never",
	 .help = "whether acks=all waits for the disk: auto: where the in-sync replicas are this broker alone; always: on the leader, besides the other replicas"},
	{.name = "log.flush.offset.checkpoint.interval.ms", .type = CONF_INT, .scope = CONF_BROKER, .preset = "60000", .min = 100, .max = INT32_MAX, .unit = "ms",
	 .help = "how often what is safely on disk is noted, so that a start after a crash reads less"},
	{.name = "log.retention.bytes", .type = CONF_INT, .scope = CONF_BROKER, .preset = "-1", .min = -1, .max = INT64_MAX, .unit = "bytes", .help = "retention.bytes of topics that do not set it"},
	{.name = "log.retention.check.interval.ms", .type = CONF_INT, .scope = CONF_BROKER, .preset = "300000", .min = 1, .max = INT32_MAX, .unit = "ms", .help = "how often retention is looked after"},
	{.name = "log.retention.hours", .type = CONF_INT, .scope = CONF_BROKER, .preset = "168", .min = -1, .max = INT32_MAX, .unit = "h", .finer = "log.retention.minutes", .scale = 60,
	 .help = "log.retention.minutes in hours, where that is not set"},
	{.name = "log.retention.minutes", .type = CONF_INT, .scope = CONF_BROKER, .min = -1, .max = INT32_MAX, .unit = "min", .finer = "log.retention.ms", .scale = 60000,
	 .help = "log.retention.ms in minutes, where that is not set"},
	{.name = "log.retention.ms", .type = CONF_INT, .scope = CONF_BROKER, .min = -1, .max = INT64_MAX, .unit = "ms", .help = "retention.ms of topics that do not set it"},
	{.name = "max.compaction.lag.ms", .type = CONF_INT, .scope = CONF_TOPIC, .preset = "9223372036854775807", .min = 1, .max = INT64_MAX, .unit = "ms",
	 .broker_name = "log.cleaner.max.compaction.lag.ms", .help = "a message is compacted at this age at the latest, however little there is to gain"},
	{.name = "log.cleaner.max.compaction.lag.ms", .type = CONF_INT, .scope = CONF_BROKER, .preset = "9223372036854775807", .min = 1, .max = INT64_MAX, .unit = "ms",
	 .help = "max.compaction.lag.ms of topics that do not set it"},
	{.name = "min.cleanable.dirty.ratio", .type = CONF_DOUBLE, .scope = CONF_TOPIC, .preset = "0.5", .min = 0, .max = 1, .broker_name = "log.cleaner.min.cleanable.ratio",
	 .help = "a log is compacted when more than this part of it was not compacted before"},
	{.name = "log.cleaner.min.cleanable.ratio", .type = CONF_DOUBLE, .scope = CONF_BROKER, .preset = "0.5", .min = 0, .max = 1,
	 .help = "min.cleanable.dirty.ratio of topics that do not set it"},
	{.name = "min.compaction.lag.ms", .type = CONF_INT, .scope = CONF_TOPIC, .preset = "0", .min = 0, .max = INT64_MAX, .unit = "ms",
	 .broker_name = "log.cleaner.min.compaction.lag.ms", .help = "a message is not compacted before this age"},
	{.name = "log.cleaner.min.compaction.lag.ms", .type = CONF_INT, .scope = CONF_BROKER, .preset = "0", .min = 0, .max = INT64_MAX, .unit = "ms",
	 .help = "min.compaction.lag.ms of topics that do not set it"},
	{.name = "max.message.bytes", .type = CONF_INT, .scope = CONF_TOPIC, .preset = "1048588", .min = 128, .max = 1 << 30, .unit = "bytes", .broker_name = "message.max.bytes",
	 .help = "largest record batch, and so nearly the largest line"},
	{.name = "message.max.bytes", .type = CONF_INT, .scope = CONF_BROKER, .preset = "1048588", .min = 128, .max = 1 << 30, .unit = "bytes", .help = "max.message.bytes of topics that do not set it"},
	{.name = "message.timestamp.after.max.ms", .type = CONF_INT, .scope = CONF_TOPIC, .preset = "3600000", .min = 0, .max = INT64_MAX, .unit = "ms",
	 .broker_name = "log.message.timestamp.after.max.ms", .help = "a message whose timestamp is further ahead of the clock here is refused (CreateTime)"},
	{.name = "log.message.timestamp.after.max.ms", .type = CONF_INT, .scope = CONF_BROKER, .preset = "3600000", .min = 0, .max = INT64_MAX, .unit = "ms",
	 .help = "message.timestamp.after.max.ms of topics that do not set it"},
	{.name = "message.timestamp.before.max.ms", .type = CONF_INT, .scope = CONF_TOPIC, .preset = "9223372036854775807", .min = 0, .max = INT64_MAX, .unit = "ms",
	 .broker_name = "log.message.timestamp.before.max.ms", .help = "a message whose timestamp is further behind the clock here is refused (CreateTime)"},
	{.name = "log.message.timestamp.before.max.ms", .type = CONF_INT, .scope = CONF_BROKER, .preset = "9223372036854775807", .min = 0, .max = INT64_MAX, .unit = "ms",
	 .help = "message.timestamp.before.max.ms of topics that do not set it"},
	{.name = "message.timestamp.type", .type = CONF_ENUM, .scope = CONF_TOPIC, .preset = "CreateTime", .choices = "CreateTime,LogAppendTime",
	 .broker_name = "log.message.timestamp.type", .help = "whose time a record has: its maker's, or the append's"},
	{.name = "log.message.timestamp.type", .type = CONF_ENUM, .scope = CONF_BROKER, .preset = "CreateTime", .choices = "CreateTime,LogAppendTime",
	 .help = "message.timestamp.type of topics that do not set it"},
	{.name = "follower.replication.throttled.rate", .type = CONF_INT, .scope = CONF_BROKER, .preset = "9223372036854775807", .min = 0, .max = INT64_MAX, .unit = "bytes/s",
	 .help = "how fast this broker copies the replicas of follower.replication.throttled.replicas that are not in sync, all together"},
	{.name = "leader.replication.throttled.rate", .type = CONF_INT, .scope = CONF_BROKER, .preset = "9223372036854775807", .min = 0, .max = INT64_MAX, .unit = "bytes/s",
	 .help = "how fast others copy from this broker what leader.replication.throttled.replicas has, where they are not in sync, all together"},
	{.name = "follower.replication.throttled.replicas", .type = CONF_LIST, .scope = CONF_TOPIC, .check = check_throttled,
	 .help = "replicas whose copying from their leader is slowed down: PARTITION:BROKER,... or *; without effect where a partition has one replica"},
	{.name = "leader.replication.throttled.replicas", .type = CONF_LIST, .scope = CONF_TOPIC, .check = check_throttled,
	 .help = "replicas that are slowed down as leaders that others copy from: PARTITION:BROKER,... or *; without effect where a partition has one replica"},
	{.name = "min.insync.replicas", .type = CONF_INT, .scope = CONF_BROKER | CONF_TOPIC, .preset = "1", .min = 1, .max = INT32_MAX,
	 .help = "with acks=all a message is taken only where so many replicas are in sync; never more than the partition has"},
	{.name = "num.partitions", .type = CONF_INT, .scope = CONF_BROKER, .preset = "1", .min = 1, .max = 100000, .help = "partitions of a new topic"},
	{.name = "num.replica.fetchers", .type = CONF_INT, .scope = CONF_BROKER, .preset = "1", .min = 1, .max = 1024,
	 .help = "in a cluster, threads, each with a connection, that fetch from one leader"},
	{.name = "num.recovery.threads.per.data.dir", .type = CONF_INT, .scope = CONF_BROKER, .preset = "2", .min = 1, .max = 64,
	 .help = "threads that open and recover logs at a start, and that flush"},
	{.name = "log.open.segments.max", .type = CONF_INT, .scope = CONF_BROKER, .preset = "2048", .min = 16, .max = 1 << 20,
	 .help = "segments whose files are kept open (four descriptors each); fewer where the limit of descriptors asks for it"},
	{.name = "producer.id.expiration.check.interval.ms", .type = CONF_INT, .scope = CONF_BROKER, .preset = "600000", .min = 1, .max = INT32_MAX, .unit = "ms",
	 .help = "how often producers that have expired are looked for"},
	{.name = "producer.id.expiration.ms", .type = CONF_INT, .scope = CONF_BROKER, .preset = "86400000", .min = 1, .max = INT32_MAX, .unit = "ms",
	 .help = "a partition forgets a producer, and so which of its batches it has, this long after the last one's timestamp"},
	{.name = "replica.fetch.backoff.ms", .type = CONF_INT, .scope = CONF_BROKER, .preset = "1000", .min = 0, .max = INT32_MAX, .unit = "ms",
	 .help = "how long a follower waits before it asks again, where its leader cannot be reached or has refused"},
	{.name = "replica.fetch.max.bytes", .type = CONF_INT, .scope = CONF_BROKER, .preset = "1048576", .min = 0, .max = INT32_MAX, .unit = "bytes",
	 .help = "the most of one partition that a follower asks for at once; a first batch that is larger comes whole"},
	{.name = "replica.fetch.min.bytes", .type = CONF_INT, .scope = CONF_BROKER, .preset = "1", .min = INT32_MIN, .max = INT32_MAX, .unit = "bytes",
	 .help = "a follower's Fetch is answered once there is so much, or replica.fetch.wait.max.ms are over"},
	{.name = "replica.fetch.response.max.bytes", .type = CONF_INT, .scope = CONF_BROKER, .preset = "10485760", .min = 0, .max = INT32_MAX, .unit = "bytes",
	 .help = "the most that a follower asks for at once, of all partitions together"},
	{.name = "replica.fetch.wait.max.ms", .type = CONF_INT, .scope = CONF_BROKER, .preset = "500", .min = INT32_MIN, .max = INT32_MAX, .unit = "ms",
	 .help = "how long a leader may hold back its answer to a follower that has all there is"},
	{.name = "replica.high.watermark.checkpoint.interval.ms", .type = CONF_INT, .scope = CONF_BROKER, .preset = "5000", .min = 1, .max = INT64_MAX, .unit = "ms",
	 .help = "in a cluster, how often it is noted on disk how far each partition is committed"},
	{.name = "replica.lag.time.max.ms", .type = CONF_INT, .scope = CONF_BROKER, .preset = "30000", .min = 1, .max = INT64_MAX, .unit = "ms",
	 .help = "a replica that has not had all that its leader has for so long is not in sync any more"},
	{.name = "replica.socket.timeout.ms", .type = CONF_INT, .scope = CONF_BROKER, .preset = "30000", .min = INT32_MIN, .max = INT32_MAX, .unit = "ms",
	 .help = "how long a follower waits for its leader's answer, beside what it lets it wait"},
	{.name = "retention.bytes", .type = CONF_INT, .scope = CONF_TOPIC, .preset = "-1", .min = -1, .max = INT64_MAX, .unit = "bytes", .broker_name = "log.retention.bytes",
	 .help = "segments are deleted while the partition would keep at least so many bytes; -1: no bound"},
	{.name = "retention.ms", .type = CONF_INT, .scope = CONF_TOPIC, .min = -1, .max = INT64_MAX, .unit = "ms", .broker_name = "log.retention.ms",
	 .help = "segments are deleted when their newest message is older; -1: no bound"},
	{.name = "spoolfs.adopted", .type = CONF_BOOL, .scope = CONF_TOPIC, .preset = "false", .hidden = true, .help = "made by Kafka: nothing is deleted until retention is configured"},
	{.name = "spoolfs.compacted", .type = CONF_BOOL, .scope = CONF_TOPIC, .preset = "false", .hidden = true, .help = "it was compacted once: offsets may be missing"},
	{.name = "spoolfs.created.ms", .type = CONF_INT, .scope = CONF_TOPIC, .preset = "0", .hidden = true, .min = 0, .max = INT64_MAX, .help = "when the topic was made"},
	{.name = "spoolfs.dir.mode", .type = CONF_STRING, .scope = CONF_TOPIC, .hidden = true, .help = "permissions of the topic's directory, octal"},
	{.name = "spoolfs.file.mode", .type = CONF_STRING, .scope = CONF_TOPIC, .hidden = true, .help = "permissions of the topic's partitions, octal"},
	{.name = "spoolfs.gid", .type = CONF_INT, .scope = CONF_TOPIC, .hidden = true, .min = 0, .max = UINT32_MAX, .help = "group of the topic"},
	{.name = "spoolfs.lost", .type = CONF_BOOL, .scope = CONF_TOPIC, .hidden = true, .preset = "false",
	 .help = "the topic's properties were lost once: only retention that was set for it since deletes"},
	{.name = "spoolfs.uid", .type = CONF_INT, .scope = CONF_TOPIC, .hidden = true, .min = 0, .max = UINT32_MAX, .help = "owner of the topic"},
	{.name = "unclean.leader.election.enable", .type = CONF_BOOL, .scope = CONF_BROKER | CONF_TOPIC, .preset = "false",
	 .help = "whether a replica that is not in sync may lead where no other is left; without effect where a partition has one replica"},
	{NULL},
};

/* locks: conf_lock, or nobody else has the topic yet. */
static const struct conf *conf_of(struct topic *t)
{
	return t->conf ? t->conf : t->defaults->topic;
}

/* ---- limits ---- */

static void style_of(const struct conf *c, struct batch_style *s)
{
	const char *type = conf_str(c, "compression.type");
	int codec = strcmp(type, "uncompressed") == 0 || strcmp(type, "producer") == 0 ? CODEC_NONE : codec_by_name(type);
	char level[64];
	*s = (struct batch_style){
		.codec = codec < 0 ? CODEC_NONE : (enum codec)codec,
		.log_append_time = strcmp(conf_str(c, "message.timestamp.type"), "LogAppendTime") == 0,
		.max_batch_bytes = (uint32_t)conf_int(c, "max.message.bytes"),
		.producer_id = -1, .producer_epoch = -1, .base_sequence = -1,
	};
	if (s->codec == CODEC_GZIP || s->codec == CODEC_LZ4 || s->codec == CODEC_ZSTD) {
		snprintf(level, sizeof level, "compression.%s.level", codec_name(s->codec));
		s->level = (int)conf_int(c, level);
		if ((s->codec == CODEC_LZ4 && s->level == 9) || (s->codec == CODEC_GZIP && s->level == -1))
			s->level = 0; /* the codec's word for "as usual" */
	}
}

static void ingest_rule_of(const struct conf *c, const struct batch_style *s, struct ingest_rule *r)
{
	*r = (struct ingest_rule){
		.max_batch_bytes = s->max_batch_bytes, .segment_bytes = (uint32_t)conf_int(c, "segment.bytes"),
		.timestamp_before_max_ms = conf_int(c, "message.timestamp.before.max.ms"), .timestamp_after_max_ms = conf_int(c, "message.timestamp.after.max.ms"),
		.log_append_time = s->log_append_time, .needs_keys = strstr(conf_str(c, "cleanup.policy"), "compact") != NULL,
		.keep_codec = strcmp(conf_str(c, "compression.type"), "producer") == 0, .codec = s->codec, .level = s->level,
	};
}

/* What Kafka made is not deleted by defaults: somebody has to have asked for it here, for the topic or in the broker's own configuration. Where the topic's own
 * properties were lost, they may have said that nothing is to be deleted, whatever the broker's say. */
static struct retention retention_of(struct topic *t, const struct conf *c)
{
	struct retention r = {conf_int(c, "retention.ms"), conf_int(c, "retention.bytes")};
	if (t->internal || !conf_list_has(c, "cleanup.policy", "delete"))
		return (struct retention){-1, -1};
	if (t->adopted || t->lost) {
		if (!conf_is_set(c, "retention.ms", !t->lost))
			r.ms = -1;
		if (!conf_is_set(c, "retention.bytes", !t->lost))
			r.bytes = -1;
	}
	return r;
}

static struct clean_limits clean_of(const struct conf *c)
{
	return (struct clean_limits){
		.compact = conf_list_has(c, "cleanup.policy", "compact"), .dirty_ratio = conf_double(c, "min.cleanable.dirty.ratio"),
		.min_lag_ms = conf_int(c, "min.compaction.lag.ms"), .max_lag_ms = conf_int(c, "max.compaction.lag.ms"),
		.delete_retention_ms = conf_int(c, "delete.retention.ms"),
	};
}

/* locks: conf_lock. */
static void refresh(struct topic *t)
{
	const struct conf *c = conf_of(t);
	t->limits = (struct limits){
		.log = {.segment_bytes = (uint32_t)conf_int(c, "segment.bytes"), .index_bytes = (uint32_t)conf_int(c, "segment.index.bytes"),
			.interval_bytes = (uint32_t)conf_int(c, "index.interval.bytes"), .segment_ms = conf_int(c, "segment.ms")},
		.retention = retention_of(t, c),
		.flush_messages = conf_int(c, "flush.messages"),
		.flush_ms = conf_int(c, "flush.ms"),
		.file_delete_delay_ms = conf_int(c, "file.delete.delay.ms"),
		.acks = strcmp(conf_str(c, "acks"), "all") == 0 ? ACKS_ALL : ACKS_LEADER,
	};
	t->limits.clean = clean_of(c);
	if (t->limits.clean.compact && t->limits.clean.max_lag_ms < t->limits.log.segment_ms) /* what is in the active segment is never compacted */
		t->limits.log.segment_ms = t->limits.clean.max_lag_ms;
	t->compact = t->limits.clean.compact;
	t->min_insync = (int32_t)conf_int(c, "min.insync.replicas");
	t->throttles = topic_throttles(c);
	t->compacted = t->compact || conf_bool(c, "spoolfs.compacted");
	style_of(c, &t->limits.style);
	ingest_rule_of(c, &t->limits.style, &t->limits.ingest);
	if (t->limits.flush_ms != INT64_MAX)
		agent_flush_changed(t->broker->agent);
	for (int32_t i = 0; i < t->partition_count; i++)
		t->partition[i]->retention_due_ms = 0;
	atomic_fetch_add(&t->generation, 1);
}

void topic_follow_defaults(struct topic *t)
{
	struct defaults *now = broker_defaults(t->broker);
	pthread_mutex_lock(&t->conf_lock);
	struct defaults *before = t->defaults;
	t->defaults = now;
	if (t->conf)
		conf_set_parent(t->conf, now->own);
	refresh(t);
	pthread_mutex_unlock(&t->conf_lock);
	defaults_unref(before);
}

struct defaults *topic_conf_copy(struct topic *t, struct conf **copy)
{
	pthread_mutex_lock(&t->conf_lock);
	struct defaults *d = t->defaults;
	atomic_fetch_add(&d->refs, 1);
	*copy = conf_copy(conf_of(t));
	pthread_mutex_unlock(&t->conf_lock);
	return d;
}

bool topic_may_delete(struct topic *t)
{
	pthread_mutex_lock(&t->conf_lock);
	bool may = conf_list_has(conf_of(t), "cleanup.policy", "delete");
	pthread_mutex_unlock(&t->conf_lock);
	return may;
}

bool topic_keeps_all(struct topic *t)
{
	struct limits l = topic_limits(t);
	return (t->adopted || t->internal) && l.retention.ms < 0 && l.retention.bytes < 0;
}

struct limits topic_limits(struct topic *t)
{
	pthread_mutex_lock(&t->conf_lock);
	struct limits l = t->limits;
	pthread_mutex_unlock(&t->conf_lock);
	return l;
}

void topic_batch_style(struct topic *t, struct batch_style *style)
{
	*style = topic_limits(t).style;
}

void topic_ingest_rule(struct topic *t, struct ingest_rule *rule)
{
	*rule = topic_limits(t).ingest;
}

enum acks topic_acks(struct topic *t)
{
	return topic_limits(t).acks;
}

uint32_t topic_conf_generation(const struct topic *t)
{
	return t->generation;
}

int64_t topic_conf_int(struct topic *t, const char *name)
{
	pthread_mutex_lock(&t->conf_lock);
	int64_t v = conf_int(conf_of(t), name);
	pthread_mutex_unlock(&t->conf_lock);
	return v;
}

bool topic_conf_bool(struct topic *t, const char *name)
{
	pthread_mutex_lock(&t->conf_lock);
	bool v = conf_bool(conf_of(t), name);
	pthread_mutex_unlock(&t->conf_lock);
	return v;
}

/* ---- the file ---- */

static int file_path(struct topic *t, char path[PATH_MAX])
{
	int32_t i = 0;
	while (t->broker->roles && i < t->partition_count && !t->partition[i]->dir)
		i++; /* partition 0 may be elsewhere: the first that is here has them */
	if (i >= t->partition_count || !t->partition[i]->dir)
		return ERR_NOT_FOUND;
	snprintf(path, PATH_MAX, "%s/%s-%" PRId32 "/" TOPIC_FILE, t->partition[i]->dir->path, t->name, i);
	return 0;
}

/* A damaged file makes place for the new one, but stays beside it. locks: conf_lock. */
static int keep_damaged(struct topic *t, const char *path, struct err *e)
{
	char kept[PATH_MAX];
	snprintf(kept, sizeof kept, "%.*s/" TOPIC_FILE_KEPT, (int)(strrchr(path, '/') - path), path);
	int sys = io_rename(path, kept);
	if (sys < 0 && sys != -ENOENT)
		return err_sys(e, sys, "cannot keep the damaged %s as %s", path, kept);
	diag_notice("topic %s has properties again%s%s", t->name, sys == 0 ? "; what is left of those before is in " : "", sys == 0 ? kept : "");
	return 0;
}

/* What the cluster keeps need not be kept where nothing of the topic is. locks: conf_lock. */
static int save(struct topic *t, const struct conf *c, struct err *e)
{
	char path[PATH_MAX];
	if (file_path(t, path) < 0)
		return t->clustered ? 0 : err_set(e, ERR_OFFLINE, "partition 0 of topic %s is in none of the log directories: its properties cannot be kept", t->name);
	int rc = t->damaged ? keep_damaged(t, path, e) : 0;
	if (rc == 0 && (rc = topic_file_save(path, c, e)) == 0)
		t->damaged = false;
	return rc;
}

static int put_owner(struct conf *c, const struct topic_owner *o, struct err *e);

/* A copy of the topic's own properties, to be changed and put in its place. What was lost begins with what held since. locks: conf_lock. */
static struct conf *own_copy(struct topic *t)
{
	struct conf *c = conf_copy(conf_of(t));
	if (c && t->damaged && !t->conf && (conf_set(c, "spoolfs.lost", "true", NULL) < 0 || put_owner(c, &t->owner, NULL) < 0)) {
		conf_free(c);
		c = NULL;
	}
	return c;
}

/* locks: conf_lock. */
static void put_conf(struct topic *t, struct conf *c)
{
	conf_free(t->conf);
	t->conf = c;
	refresh(t);
}

static void read_owner(struct topic *t, const struct conf *c)
{
	struct topic_owner *o = &t->owner;
	if (conf_is_set(c, "spoolfs.uid", false))
		o->uid = (uid_t)conf_int(c, "spoolfs.uid");
	if (conf_is_set(c, "spoolfs.gid", false))
		o->gid = (gid_t)conf_int(c, "spoolfs.gid");
	if (conf_is_set(c, "spoolfs.dir.mode", false))
		o->dir_mode = (mode_t)strtoul(conf_str(c, "spoolfs.dir.mode"), NULL, 8) & 07777;
	if (conf_is_set(c, "spoolfs.file.mode", false))
		o->file_mode = (mode_t)strtoul(conf_str(c, "spoolfs.file.mode"), NULL, 8) & 07777;
}

static int any_name(void *arg, const char *name, unsigned char type)
{
	(void)arg;
	(void)name;
	(void)type;
	return 1;
}

/* locks: conf_lock. */
static int load_file(struct topic *t, struct err *e)
{
	char path[PATH_MAX], *dir;
	struct conf *c = NULL;
	int rc;
	*path = '\0';
	if (file_path(t, path) < 0)
		rc = err_set(e, ERR_NOT_FOUND, "partition 0, which keeps the properties, is in none of the log directories");
	else if (!(c = own_copy(t)))
		rc = err_set(e, ERR_NO_MEMORY, "no memory for %s", path);
	else
		rc = topic_file_load(path, c, e);
	if (rc == 0) {
		read_owner(t, c);
		t->adopted = conf_bool(c, "spoolfs.adopted");
		t->lost = conf_bool(c, "spoolfs.lost");
	} else if (rc == ERR_NOT_FOUND && c && (dir = strndup(path, (size_t)(strrchr(path, '/') - path)))) {
		if (io_list(dir, any_name, NULL) == 0) /* nothing at all: making the topic got no further */
			rc = topic_file_save(path, c, e);
		free(dir);
	}
	if (rc == 0 && !conf_is_empty(c))
		put_conf(t, c);
	else
		conf_free(c);
	return rc;
}

void topic_load_properties(struct topic *t)
{
	struct err why = ERR_INIT;
	pthread_mutex_lock(&t->conf_lock);
	int rc = load_file(t, &why);
	if (rc < 0 && !(rc == ERR_NOT_FOUND && t->adopted)) {
		t->lost = t->damaged = true;
		t->owner.dir_mode = 0700;
		refresh(t);
		if (!t->internal || rc != ERR_NOT_FOUND)
			diag_error("topic %s: %s. Until that is set right nothing is deleted from the topic, and only the daemon's user may enter it: put the file back and mount again, "
				   "or set the properties anew in %s/.config, retention.ms or retention.bytes above all", t->name, why.text, t->name);
	}
	pthread_mutex_unlock(&t->conf_lock);
}

int topic_write_properties(struct topic *t, const char *partition_dir, struct err *e)
{
	char path[PATH_MAX];
	snprintf(path, sizeof path, "%s/" TOPIC_FILE, partition_dir);
	pthread_mutex_lock(&t->conf_lock);
	int rc = topic_file_save(path, conf_of(t), e);
	pthread_mutex_unlock(&t->conf_lock);
	return rc;
}

int topic_adopt_property(struct topic *t, const char *name, const char *value, struct err *e)
{
	pthread_mutex_lock(&t->conf_lock);
	struct conf *c = own_copy(t);
	int rc = c ? conf_set(c, name, value, e) : err_set(e, ERR_NO_MEMORY, "no memory for a property");
	if (rc == 0) {
		t->adopted = conf_bool(c, "spoolfs.adopted");
		put_conf(t, c);
	} else {
		conf_free(c);
	}
	pthread_mutex_unlock(&t->conf_lock);
	return rc;
}

int topic_save_properties(struct topic *t, struct err *e)
{
	pthread_mutex_lock(&t->conf_lock);
	int rc = t->conf ? save(t, t->conf, e) : 0;
	pthread_mutex_unlock(&t->conf_lock);
	return rc;
}

/* ---- changing ---- */

int topic_check_together(const struct conf *c, struct err *e)
{
	if (conf_int(c, "min.compaction.lag.ms") <= conf_int(c, "max.compaction.lag.ms"))
		return 0;
	return err_set(e, ERR_INVALID, "min.compaction.lag.ms=%" PRId64 " is more than max.compaction.lag.ms=%" PRId64, conf_int(c, "min.compaction.lag.ms"),
		       conf_int(c, "max.compaction.lag.ms"));
}

/* Ends a change that topic_change or topic_configure has begun: rc, what came of it, and c, which becomes the topic's own or is freed. locks: conf_lock, which is released. */
static int end_change(struct topic *t, struct conf *c, int rc, bool check_only, struct err *e)
{
	if (rc == 0)
		rc = topic_check_together(c, e);
	if (rc == 0 && !check_only)
		rc = save(t, c, e);
	if (rc == 0 && !check_only)
		put_conf(t, c);
	else
		conf_free(c);
	pthread_mutex_unlock(&t->conf_lock);
	for (int32_t i = 0; i < t->partition_count && rc == 0 && !check_only; i++)
		partition_follow_policy(t->partition[i]);
	return rc;
}

static int own_name(const char *name, const char *what, struct err *e)
{
	return strncmp(name, "spoolfs.", 8) ? 0 : err_set(e, ERR_INVALID, "%.200s: properties that begin with spoolfs. are set by chmod and chown", what);
}

static int check_own(const struct conf_change *v, size_t n, struct err *e)
{
	int rc = 0;
	for (size_t i = 0; i < n && rc == 0; i++)
		rc = own_name(v[i].name, v[i].name, e);
	return rc;
}

/* locks: none. */
static int change_here(struct topic *t, const struct conf_change *v, size_t n, bool replace, bool check_only, struct err *e)
{
	pthread_mutex_lock(&t->conf_lock);
	struct conf *c = own_copy(t);
	int rc = c ? 0 : err_set(e, ERR_NO_MEMORY, "no memory for properties");
	if (rc == 0 && replace)
		conf_clear(c, false);
	if (rc == 0)
		rc = conf_apply(c, v, n, e);
	return end_change(t, c, rc, check_only, e);
}

int topic_change(struct topic *t, const struct conf_change *v, size_t n, bool replace, bool check_only, struct err *e)
{
	const struct property_calls *calls = t->broker->property_calls;
	int rc = t->deleted ? err_set(e, ERR_DELETED, "topic %s was deleted", t->name) : check_own(v, n, e);
	if (rc < 0)
		return rc;
	return calls ? calls->change(calls->arg, t, v, n, replace, check_only, e) : change_here(t, v, n, replace, check_only, e);
}

/* The changes that lines ask for, in their memory; -1: refused. */
static int lines_changes(char *text, struct conf_change *v, struct err *e)
{
	char *save_at;
	int n = 0;
	for (char *line = strtok_r(text, "\n", &save_at); line; line = strtok_r(NULL, "\n", &save_at)) {
		int is = conf_line_change(line, &v[n], e);
		if (is < 0)
			return -1;
		n += is;
	}
	return n;
}

int topic_configure(struct topic *t, const char *text, size_t n, struct err *e)
{
	size_t lines = 1;
	for (size_t i = 0; i < n; i++)
		lines += text[i] == '\n';
	char *copy = malloc(n + 1); /* not strndup: text has no NUL behind it, which a strict sanitizer wants to see */
	struct conf_change *v = calloc(lines, sizeof *v);
	int rc = copy && v ? 0 : err_set(e, ERR_NO_MEMORY, "no memory for properties");
	if (rc == 0) {
		memcpy(copy, text, n);
		copy[n] = '\0';
		if (strlen(copy) != n)
			rc = err_set(e, ERR_INVALID, "a property has no NUL in it");
	}
	int count = rc == 0 ? lines_changes(copy, v, e) : 0;
	if (count < 0)
		rc = ERR_INVALID;
	if (rc == 0)
		rc = topic_change(t, v, (size_t)count, false, false, e);
	free(v);
	free(copy);
	return rc;
}

int topic_note_compacted(struct topic *t, struct err *e)
{
	int rc = 0;
	pthread_mutex_lock(&t->conf_lock);
	if (!conf_bool(conf_of(t), "spoolfs.compacted")) {
		struct conf *c = t->deleted ? NULL : own_copy(t);
		rc = t->deleted ? err_set(e, ERR_DELETED, "topic %s was deleted", t->name) : c ? conf_set(c, "spoolfs.compacted", "true", e)
			: err_set(e, ERR_NO_MEMORY, "no memory for a property");
		if (rc == 0)
			rc = save(t, c, e);
		if (rc == 0)
			put_conf(t, c);
		else
			conf_free(c);
	}
	pthread_mutex_unlock(&t->conf_lock);
	return rc;
}

int topic_check_properties(struct broker *b, const struct conf_change *v, size_t n, struct err *e)
{
	struct defaults *d = broker_defaults(b);
	struct conf *c = conf_copy(d->topic);
	int rc = c ? check_own(v, n, e) : err_set(e, ERR_NO_MEMORY, "no memory for properties");
	if (rc == 0)
		rc = conf_apply(c, v, n, e);
	if (rc == 0)
		rc = topic_check_together(c, e);
	conf_free(c);
	defaults_unref(d);
	return rc;
}

/* ---- in a cluster ---- */

/* What is set of it is about this broker's own files. */
static bool is_local(const char *name)
{
	static const char *const names[] = {"spoolfs.adopted", "spoolfs.compacted", "spoolfs.created.ms", "spoolfs.lost"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (!strcmp(name, names[i]))
			return true;
	return false;
}

/* v as properties of t; what this broker alone knows stays. NULL: no memory. locks: conf_lock. */
static struct conf *conf_from_cluster(struct topic *t, const struct conf_change *v, size_t n)
{
	static const char *const stays[] = {"spoolfs.adopted", "spoolfs.compacted", "spoolfs.created.ms"};
	struct conf *c = conf_new(conf_schema_of(t->broker->conf), t->defaults->own, CONF_TOPIC);
	for (size_t i = 0; c && i < sizeof stays / sizeof *stays; i++) {
		const char *value = conf_own(conf_of(t), conf_find(conf_schema_of(t->broker->conf), stays[i]));
		if (value && conf_set(c, stays[i], value, NULL) < 0) {
			conf_free(c);
			return NULL;
		}
	}
	for (size_t i = 0; c && i < n; i++) {
		struct err why = ERR_INIT;
		if (!is_local(v[i].name) && conf_set(c, v[i].name, v[i].value, &why) < 0)
			diag_warning("topic %s: a property that the cluster keeps is without effect here: %s", t->name, why.text);
	}
	return c;
}

int topic_take_properties(struct topic *t, const struct conf_change *v, size_t n, struct err *e)
{
	int rc = 0;
	pthread_mutex_lock(&t->conf_lock);
	struct conf *c = t->deleted ? NULL : conf_from_cluster(t, v, n);
	if (!c) {
		bool deleted = t->deleted;
		pthread_mutex_unlock(&t->conf_lock);
		return deleted ? 0 : err_set(e, ERR_NO_MEMORY, "topic %s: no memory for its properties", t->name);
	}
	t->clustered = true;
	if (t->damaged || !conf_same(c, conf_of(t)))
		rc = save(t, c, e);
	topic_default_owner(&t->owner);
	read_owner(t, c);
	t->lost = false;
	put_conf(t, c);
	pthread_mutex_unlock(&t->conf_lock);
	for (int32_t i = 0; i < t->partition_count; i++)
		partition_follow_policy(t->partition[i]);
	return rc;
}

void topic_await_properties(struct topic *t)
{
	pthread_mutex_lock(&t->conf_lock);
	t->lost = t->clustered = true;
	t->owner.dir_mode = 0700;
	refresh(t);
	pthread_mutex_unlock(&t->conf_lock);
}

bool topic_has_cluster_properties(const struct topic *t)
{
	return t->clustered;
}

int topic_print_config(struct topic *t, struct wr *text)
{
	size_t n;
	pthread_mutex_lock(&t->conf_lock);
	const struct conf *c = conf_of(t);
	const struct conf_property *const *row = conf_rows(conf_schema_of(t->broker->conf), &n);
	if (t->conf)
		conf_print_set(t->conf, text, false);
	if (t->damaged)
		wr_printf(text, "# topic.properties, which keeps the properties of this topic, is damaged or missing (spoolfs verify says what is wrong): "
				"nothing is deleted, and only the daemon's user may enter. Put the file back and mount again, or set the properties anew here\n");
	else if (t->lost && !conf_is_set(c, "retention.ms", false) && !conf_is_set(c, "retention.bytes", false))
		wr_printf(text, "# the properties of this topic were lost: nothing of it is deleted until retention.ms or retention.bytes is set here\n");
	else if (t->adopted && t->limits.retention.ms < 0 && t->limits.retention.bytes < 0)
		wr_printf(text, "# Kafka made this topic: nothing of it is deleted until retention.ms or retention.bytes is set here\n");
	wr_printf(text, "# in force, not set here (append name=value to set, name= to take back):\n");
	for (size_t i = 0; i < n; i++) {
		if (row[i]->hidden || !(row[i]->scope & CONF_TOPIC) || conf_is_set(c, row[i]->name, false))
			continue;
		wr_printf(text, "#%s=", row[i]->name);
		conf_value_text(c, row[i], text);
		wr_printf(text, "\n");
	}
	pthread_mutex_unlock(&t->conf_lock);
	return text->failed ? ERR_NO_MEMORY : 0;
}

/* ---- owner ---- */

void topic_default_owner(struct topic_owner *o)
{
	*o = (struct topic_owner){geteuid(), getegid(), 0755, 0644};
}

struct topic_owner topic_owner(struct topic *t)
{
	pthread_mutex_lock(&t->conf_lock);
	struct topic_owner o = t->owner;
	pthread_mutex_unlock(&t->conf_lock);
	return o;
}

static int put_owner(struct conf *c, const struct topic_owner *o, struct err *e)
{
	struct topic_owner usual;
	struct topic_owner_text text;
	struct conf_change v[TOPIC_OWNER_CHANGES];
	topic_default_owner(&usual);
	topic_owner_changes(o, &text, v);
	const bool is_usual[TOPIC_OWNER_CHANGES] = {o->uid == usual.uid, o->gid == usual.gid, o->dir_mode == usual.dir_mode, o->file_mode == usual.file_mode};
	for (int i = 0; i < TOPIC_OWNER_CHANGES; i++)
		if (is_usual[i])
			v[i].value = NULL;
	return conf_apply(c, v, TOPIC_OWNER_CHANGES, e);
}

int topic_init_owner(struct topic *t, const struct topic_owner *owner, struct err *e)
{
	if (!owner || !memcmp(owner, &t->owner, sizeof *owner))
		return 0;
	struct conf *c = own_copy(t);
	int rc = c ? put_owner(c, owner, e) : err_set(e, ERR_NO_MEMORY, "no memory for properties");
	if (rc < 0) {
		conf_free(c);
		return rc;
	}
	pthread_mutex_lock(&t->conf_lock);
	t->owner = *owner;
	put_conf(t, c);
	pthread_mutex_unlock(&t->conf_lock);
	return 0;
}

void topic_owner_changes(const struct topic_owner *o, struct topic_owner_text *text, struct conf_change v[TOPIC_OWNER_CHANGES])
{
	snprintf(text->uid, sizeof text->uid, "%" PRIu32, (uint32_t)o->uid);
	snprintf(text->gid, sizeof text->gid, "%" PRIu32, (uint32_t)o->gid);
	snprintf(text->dir, sizeof text->dir, "%04o", (unsigned)o->dir_mode);
	snprintf(text->file, sizeof text->file, "%04o", (unsigned)o->file_mode);
	v[0] = (struct conf_change){"spoolfs.uid", text->uid};
	v[1] = (struct conf_change){"spoolfs.gid", text->gid};
	v[2] = (struct conf_change){"spoolfs.dir.mode", text->dir};
	v[3] = (struct conf_change){"spoolfs.file.mode", text->file};
}

/* In a cluster: what is to be otherwise, and that as it is said, as the daemon's user may be another one on each host. */
static int set_owner_elsewhere(struct topic *t, const struct topic_owner *now, const struct topic_owner *o, struct err *e)
{
	const struct property_calls *calls = t->broker->property_calls;
	struct topic_owner_text text;
	struct conf_change v[TOPIC_OWNER_CHANGES];
	size_t n = 0;
	topic_owner_changes(o, &text, v);
	const bool changes[TOPIC_OWNER_CHANGES] = {o->uid != now->uid, o->gid != now->gid, o->dir_mode != now->dir_mode, o->file_mode != now->file_mode};
	for (int i = 0; i < TOPIC_OWNER_CHANGES; i++)
		if (changes[i])
			v[n++] = v[i];
	return calls->change(calls->arg, t, v, n, false, false, e);
}

int topic_set_owner(struct topic *t, const struct topic_owner *o, struct err *e)
{
	pthread_mutex_lock(&t->conf_lock);
	struct topic_owner now = t->owner;
	bool same = !memcmp(o, &now, sizeof *o);
	if (same || t->broker->property_calls) {
		pthread_mutex_unlock(&t->conf_lock);
		return same ? 0 : set_owner_elsewhere(t, &now, o, e);
	}
	struct conf *c = own_copy(t);
	int rc = c ? put_owner(c, o, e) : err_set(e, ERR_NO_MEMORY, "no memory for properties");
	if (rc == 0)
		rc = save(t, c, e);
	if (rc == 0) {
		t->owner = *o;
		put_conf(t, c);
	} else {
		conf_free(c);
	}
	pthread_mutex_unlock(&t->conf_lock);
	return rc;
}
