#include "cluster/adopt.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/batch.h"
#include "store/diag.h"
#include "store/io.h"
#include "store/producers.h"
#include "store/scan.h"

static char dir[64];
static struct err e;

/* ---- the directory ---- */

static void run(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void run(const char *fmt, ...)
{
	char command[1000];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(command, sizeof command, fmt, ap);
	va_end(ap);
	if (system(command))
		fail_msg("%s failed", command);
}

static int make_dir(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/spoolfs-test-adopt-XXXXXX");
	e = (struct err)ERR_INIT;
	diag_set_level(DIAG_ERROR);
	return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
	(void)state;
	io_set_hook(NULL, NULL);
	run("chmod -R u+w %s && rm -rf %s", dir, dir);
	return 0;
}

/* ---- writing logs: a file at a time ---- */

static char file[200];
static int64_t next_offset;
static int32_t leader_epoch;

/* From here on batches go to this file of a partition, the next one at `offset`. */
static void write_to(const char *partition, const char *name, int64_t offset)
{
	char path[150];
	snprintf(path, sizeof path, "%s/%s", dir, partition);
	mkdir(path, 0755);
	snprintf(file, sizeof file, "%s/%s", path, name);
	next_offset = offset;
	leader_epoch = 0;
	int fd = open(file, O_WRONLY | O_CREAT, 0644);
	assert_true(fd >= 0);
	close(fd);
}

static void write_segment(const char *partition, int64_t base)
{
	char name[40];
	snprintf(name, sizeof name, "%020" PRId64 ".log", base);
	write_to(partition, name, base);
}

#define METADATA "__cluster_metadata-0"

static void put_bytes(const void *p, size_t n)
{
	FILE *f = fopen(file, "ab");
	assert_non_null(f);
	assert_int_equal(fwrite(p, 1, n, f), n);
	assert_int_equal(fclose(f), 0);
}

static void put_records(const struct record_in *r, uint32_t count, int16_t attributes, enum codec codec)
{
	struct batch_style style = {.codec = codec, .max_batch_bytes = 1 << 24, .producer_id = -1, .producer_epoch = -1, .base_sequence = -1};
	struct record_set s;
	record_set_init(&s);
	assert_int_equal(record_set_add_records(&s, &style, attributes, r, count, &e), 0);
	be64_put(s.bytes.data, (uint64_t)next_offset);
	be32_put(s.bytes.data + BATCH_EPOCH_AT, (uint32_t)leader_epoch);
	put_bytes(s.bytes.data, s.bytes.len);
	next_offset += count;
	record_set_release(&s);
}

static void put_record(const void *key, int32_t key_len, const struct wr *value)
{
	assert_false(value && value->failed);
	put_records(&(struct record_in){.key = key, .key_len = key ? key_len : -1, .value = value ? value->data : NULL, .value_len = value ? (int32_t)value->len : -1},
		    1, 0, CODEC_NONE);
}

static void put_control(int16_t type)
{
	uint8_t key[4] = {0, 0, 0, (uint8_t)type}, value[] = {0, 0, 0};
	put_records(&(struct record_in){.key = key, .key_len = 4, .value = value, .value_len = 3}, 1, BATCH_CONTROL, CODEC_NONE);
}

/* ---- metadata records ---- */

enum { HEADER_OF_SNAPSHOT = 3, FOOTER_OF_SNAPSHOT = 4, LEADER_CHANGE = 2 };
enum { TOPIC = 2, CONFIG = 4, REMOVE_TOPIC = 9, NO_OP = 20, BEGIN = 23, END = 24, ABORT = 25 };

static void compact(struct wr *w, const char *s)
{
	wr_uvarint(w, s ? strlen(s) + 1 : 0);
	if (s)
		wr_bytes(w, s, strlen(s));
}

static struct wr frame(uint32_t type, uint32_t version)
{
	struct wr w;
	wr_init(&w, 0);
	wr_uvarint(&w, 1);
	wr_uvarint(&w, type);
	wr_uvarint(&w, version);
	return w;
}

static void wr_id(struct wr *w, char id)
{
	memset(wr_room(w, 16), id, 16);
	w->len += 16;
}

static struct wr topic_value(const char *name, char id)
{
	struct wr w = frame(TOPIC, 0);
	compact(&w, name);
	wr_id(&w, id);
	wr_uvarint(&w, 0);
	return w;
}

static struct wr config_value(int8_t type, const char *resource, const char *name, const char *value)
{
	struct wr w = frame(CONFIG, 0);
	wr_i8(&w, type);
	compact(&w, resource);
	compact(&w, name);
	compact(&w, value);
	wr_uvarint(&w, 0);
	return w;
}

static struct wr remove_value(char id)
{
	struct wr w = frame(REMOVE_TOPIC, 0);
	wr_id(&w, id);
	wr_uvarint(&w, 0);
	return w;
}

static void put_value(struct wr w)
{
	put_record(NULL, -1, &w);
	wr_release(&w);
}

static void put_topic(const char *name, char id) { put_value(topic_value(name, id)); }
static void put_config(const char *topic, const char *name, const char *value) { put_value(config_value(2, topic, name, value)); }
static void put_remove(char id) { put_value(remove_value(id)); }
static void put_mark(uint32_t type)
{
	struct wr w = frame(type, 0);
	wr_uvarint(&w, 0);
	put_value(w);
}

/* ---- what is adopted ---- */

struct told { char line[200][120]; size_t count; };

static void tell(void *arg, const char *topic, const char *name, const char *value)
{
	struct told *t = arg;
	assert_true(t->count < 200);
	snprintf(t->line[t->count++], sizeof t->line[0], "%s %s=%s\n", topic, name, value);
}

static int by_text(const void *a, const void *b)
{
	return strcmp(a, b);
}

/* All configurations, or those of one topic, one a line, sorted. */
static const char *configs_of(const char *log_dir, const char *topic)
{
	static char text[200 * 120];
	static struct told t;
	t.count = 0;
	int rc = adopt_topic_configs(log_dir, tell, &t, &e);
	if (rc)
		fail_msg("%d: %s", rc, e.text);
	qsort(t.line, t.count, sizeof t.line[0], by_text);
	text[0] = 0;
	for (size_t i = 0; i < t.count; i++)
		if (!topic || (!strncmp(t.line[i], topic, strlen(topic)) && t.line[i][strlen(topic)] == ' '))
			strcat(text, t.line[i]);
	return text;
}

static void assert_configs(const char *expect)
{
	assert_string_equal(configs_of(dir, NULL), expect);
}

static void assert_corrupt(const char *part)
{
	struct told t = {.count = 0};
	assert_int_equal(adopt_topic_configs(dir, tell, &t, &e), ERR_CORRUPT);
	assert_int_equal(e.code, ERR_CORRUPT);
	if (!strstr(e.text, part))
		fail_msg("\"%s\" is not in \"%s\"", part, e.text);
	assert_int_equal(t.count, 0);
	assert_int_equal(adopt_topic_configs(dir, tell, &t, NULL), ERR_CORRUPT);
}

/* ---- topic configurations ---- */

static void nothing_there(void **state)
{
	(void)state;
	assert_configs("");
	run("mkdir %s/" METADATA, dir);
	assert_configs("");
	write_segment(METADATA, 0);
	assert_configs("");
}

static void set_changed_deleted(void **state)
{
	(void)state;
	write_segment(METADATA, 0);
	put_control(LEADER_CHANGE);
	put_topic("t", 'a');
	put_config("t", "retention.ms", "1000");
	put_config("t", "cleanup.policy", "compact");
	put_topic("u", 'b');
	put_config("u", "retention.ms", "5");
	put_config("t", "retention.ms", "2000");
	put_config("t", "cleanup.policy", NULL);
	put_config("t", "never.set", NULL);
	put_config("unknown", "never.set", NULL);
	put_config("u", "empty", "");
	put_value(config_value(4, "1", "log.retention.ms", "7"));
	put_value(config_value(4, "", "min.insync.replicas", "1"));
	put_mark(NO_OP);
	assert_configs("t retention.ms=2000\n"
		       "u empty=\n"
		       "u retention.ms=5\n");
	put_config("t", "retention.ms", NULL);
	put_config("u", "retention.ms", NULL);
	put_config("u", "empty", NULL);
	assert_configs("");
	put_config("t", "retention.ms", "3");
	assert_configs("t retention.ms=3\n");
}

static void removed_and_made_again(void **state)
{
	(void)state;
	write_segment(METADATA, 0);
	put_topic("t", 'a');
	put_config("t", "retention.ms", "1000");
	put_topic("other", 'o');
	put_config("other", "retention.ms", "2");
	put_remove('a');
	put_remove('x');
	put_remove('a');
	assert_configs("other retention.ms=2\n");
	put_topic("t", 'c');
	assert_configs("other retention.ms=2\n");
	put_config("t", "segment.bytes", "100");
	put_remove('a');
	assert_configs("other retention.ms=2\n"
		       "t segment.bytes=100\n");
}

static void several_segments_and_codecs(void **state)
{
	(void)state;
	struct wr v[3] = {topic_value("t", 'a'), config_value(2, "t", "a", "1"), config_value(2, "t", "a", "2")};
	struct record_in r[3];
	for (int i = 0; i < 3; i++)
		r[i] = (struct record_in){.key_len = -1, .value = v[i].data, .value_len = (int32_t)v[i].len};
	write_segment(METADATA, 0);
	put_records(r, 2, 0, CODEC_ZSTD);
	assert_configs("t a=1\n");
	write_segment(METADATA, next_offset);
	put_records(r + 2, 1, 0, CODEC_GZIP);
	assert_configs("t a=2\n");
	write_segment(METADATA, next_offset);
	assert_configs("t a=2\n");
	put_config("t", "b", "3");
	write_to(METADATA, "00000000000000000099.log.deleted", 99);
	put_config("t", "b", "deleted");
	write_to(METADATA, "99999999999999999999.log", 99);
	put_config("t", "b", "no such offset");
	assert_configs("t a=2\n"
		       "t b=3\n");
	run("rm %s/" METADATA "/00000000000000000002.log", dir);
	assert_corrupt("the records from offset 2 to 2 are missing");
	for (int i = 0; i < 3; i++)
		wr_release(&v[i]);
}

static void snapshot_then_log(void **state)
{
	(void)state;
	write_to(METADATA, "00000000000000000000-0000000000.checkpoint", 0);
	put_control(HEADER_OF_SNAPSHOT);
	put_control(FOOTER_OF_SNAPSHOT);
	write_to(METADATA, "00000000000000000009-0000000001.checkpoint", 0);
	put_config("t", "a", "an older snapshot");
	write_to(METADATA, "00000000000000000010-0000000001.checkpoint", 0);
	put_config("t", "a", "an older epoch");
	write_to(METADATA, "00000000000000000099-0000000001.checkpoint.part", 0);
	put_config("t", "a", "not finished");
	write_to(METADATA, "00000000000000000010-0000000002.checkpoint", 0);
	put_control(HEADER_OF_SNAPSHOT);
	put_topic("t", 'a');
	put_config("t", "a", "snapshot");
	put_config("t", "b", "snapshot");
	put_topic("gone", 'g');
	put_config("gone", "a", "snapshot");
	assert_corrupt("ends before its footer");
	put_control(FOOTER_OF_SNAPSHOT);
	assert_configs("gone a=snapshot\nt a=snapshot\nt b=snapshot\n");

	write_segment(METADATA, 7);
	put_config("t", "b", "below 1");
	struct wr v[4] = {config_value(2, "t", "b", "below 2"), config_value(2, "t", "c", "below 3"), config_value(2, "t", "a", "log"), remove_value('g')};
	struct record_in r[4];
	for (int i = 0; i < 4; i++)
		r[i] = (struct record_in){.key_len = -1, .value = v[i].data, .value_len = (int32_t)v[i].len};
	put_records(r, 4, 0, CODEC_LZ4); /* offsets 8 to 11 */
	for (int i = 0; i < 4; i++)
		wr_release(&v[i]);
	assert_configs("t a=log\nt b=snapshot\n");
	run("rm %s/" METADATA "/*.log", dir);
	write_segment(METADATA, 11);
	put_config("t", "a", "behind a gap");
	assert_corrupt("the records from offset 10 to 10 are missing");
	write_segment(METADATA, 3); /* all of it is in the snapshot, and not looked at */
	put_bytes("garbage", 7);
	write_segment(METADATA, 10);
	put_topic("t", 'a');
	assert_configs("gone a=snapshot\nt a=behind a gap\nt b=snapshot\n");
}

static void no_snapshot_for_a_cut_head(void **state)
{
	(void)state;
	write_segment(METADATA, 5);
	put_config("t", "a", "1");
	assert_corrupt("the records from offset 0 to 4 are missing");
}

static void metadata_transactions(void **state)
{
	(void)state;
	write_segment(METADATA, 0);
	put_topic("t", 'a');
	put_config("t", "a", "1");
	put_mark(BEGIN);
	put_config("t", "a", "2");
	put_mark(NO_OP);
	put_config("t", "b", "2");
	assert_configs("t a=1\n");
	put_mark(END);
	assert_configs("t a=2\nt b=2\n");
	put_mark(BEGIN);
	put_remove('a');
	put_config("t", "c", "3");
	put_mark(ABORT);
	assert_configs("t a=2\nt b=2\n");
	put_config("t", "b", "4");
	put_mark(BEGIN);
	put_mark(END);
	assert_configs("t a=2\nt b=4\n");
	put_mark(END);
	assert_corrupt("ends that did not begin");
}

static void metadata_transaction_in_another(void **state)
{
	(void)state;
	write_segment(METADATA, 0);
	put_mark(BEGIN);
	put_mark(BEGIN);
	assert_corrupt("begins within another one");
}

static void what_is_not_known_is_left_out(void **state)
{
	(void)state;
	char said[200], text[1000] = "";
	snprintf(said, sizeof said, "%s/said", dir);
	diag_set_level(DIAG_NOTICE);
	diag_to_background(NULL, said);
	write_segment(METADATA, 0);
	put_config("t", "a", "1");
	struct wr w = frame(CONFIG, 1); /* a later version, with fields of who knows what */
	wr_uvarint(&w, 200);
	put_value(w);
	put_value(frame(TOPIC, 7));
	put_value(frame(3000, 12));
	w = frame(CONFIG, 0);
	w.data[0] = 2; /* a later frame */
	put_value(w);
	w = config_value(2, "t", "b", "2");
	wr_uvarint(&w, 77); /* more than this version has: fields that were tagged on */
	put_value(w);
	put_record(NULL, -1, NULL);
	put_record("key", 3, NULL);
	assert_configs("t a=1\nt b=2\n");
	FILE *f = fopen(said, "r");
	assert_non_null(f);
	assert_true(fread(text, 1, sizeof text - 1, f) > 0);
	fclose(f);
	assert_non_null(strstr(text, "3 records are of a version that is not known"));
}

static void malformed_records(void **state)
{
	(void)state;
	struct wr whole[] = {topic_value("topic", 'a'), config_value(2, "topic", "name", "value"), remove_value('a')};
	for (int i = 0; i < 3; i++) {
		for (size_t n = 0; n + 1 < whole[i].len; n++) { /* its tags are not looked at */
			run("rm -rf %s/" METADATA, dir);
			write_segment(METADATA, 0);
			put_config("t", "a", "1");
			struct wr cut = {.data = whole[i].data, .len = n};
			put_record(NULL, -1, &cut);
			assert_corrupt(n < 3 ? "is cut short" : "is malformed");
		}
		wr_release(&whole[i]);
	}
	run("rm -rf %s/" METADATA, dir);
	write_segment(METADATA, 0);
	struct wr w = frame(CONFIG, 0);
	wr_i8(&w, 2);
	wr_uvarint(&w, UINT32_MAX);
	wr_bytes(&w, "long", 4);
	put_value(w);
	assert_corrupt("is malformed");
	run("rm %s", file);
	write_segment(METADATA, 0);
	put_config(NULL, "a", "1");
	assert_corrupt("offset 0: the metadata record of type 4 is malformed");
	run("rm %s", file);
	static char text[32769];
	memset(text, 'x', 32768);
	write_segment(METADATA, 0);
	put_config("t", "a", text + 1);
	assert_true(strlen(configs_of(dir, NULL)) > 100);
	put_config("t", "a", text); /* longer than a string of Kafka can be */
	assert_corrupt("is malformed");
	run("rm %s", file);
	write_segment(METADATA, 0);
	w = config_value(2, "t", "a", "1");
	w.data[w.len - 2] = 0;
	put_value(w);
	assert_corrupt("is malformed");
}

static size_t size_of(const char *path)
{
	struct stat st;
	assert_int_equal(stat(path, &st), 0);
	return (size_t)st.st_size;
}

/* A crash cuts the newest segment anywhere: what is whole before that counts. */
static void torn_tails(void **state)
{
	(void)state;
	size_t first, second;
	write_segment(METADATA, 0);
	put_config("t", "a", "1");
	first = size_of(file);
	put_config("t", "a", "2");
	second = size_of(file);
	for (size_t n = second; n-- > 0;) {
		assert_int_equal(truncate(file, (off_t)n), 0);
		assert_configs(n < first ? "" : "t a=1\n");
	}
	next_offset = 0;
	put_config("t", "a", "1");
	size_t whole = size_of(file);
	assert_int_equal(truncate(file, (off_t)whole + 5000), 0); /* zeros */
	assert_configs("t a=1\n");
	put_config("t", "a", "behind it");
	assert_corrupt("00000000000000000000.log: ");
	assert_int_equal(truncate(file, (off_t)whole), 0);
	run("head -c 5000 /dev/urandom >> %s", file);
	assert_configs("t a=1\n");
}

static void damage_in_an_older_segment(void **state)
{
	(void)state;
	write_segment(METADATA, 0);
	put_config("t", "a", "1");
	put_bytes("garbage", 7);
	assert_configs("t a=1\n");
	write_segment(METADATA, 1);
	assert_corrupt("7 bytes at position");
	put_config("t", "a", "2");
	assert_corrupt("7 bytes at position");
}

static void flip(const char *path, size_t at, uint8_t mask)
{
	uint8_t c;
	int fd = open(path, O_RDWR);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &c, 1, (off_t)at), 1);
	c ^= mask;
	assert_int_equal(pwrite(fd, &c, 1, (off_t)at), 1);
	close(fd);
}

/* What only the crc tells: a value that was not written so. */
static void wrong_crc(void **state)
{
	(void)state;
	write_segment(METADATA, 0);
	put_config("t", "a", "1");
	put_config("t", "a", "2");
	flip(file, size_of(file) - 3, 1); /* behind the value: tags, header count */
	assert_configs("t a=1\n");
	put_config("t", "a", "3");
	assert_corrupt("does not match its crc");
}

/* Every bit of a log, alone: the result is what a part of the log says, or an error; ASan watches. */
static void flipped_bits(void **state)
{
	(void)state;
	write_segment(METADATA, 0);
	put_topic("t", 'a');
	put_config("t", "a", "1");
	put_config("t", "a", "2");
	size_t n = size_of(file);
	for (size_t i = 0; i < 8 * n; i++) {
		struct told t = {.count = 0};
		flip(file, i / 8, (uint8_t)(1 << i % 8));
		int rc = adopt_topic_configs(dir, tell, &t, &e);
		assert_true(rc == 0 || rc == ERR_CORRUPT);
		flip(file, i / 8, (uint8_t)(1 << i % 8));
	}
	assert_configs("t a=2\n");
}

/* What a valid crc covers may be anything too. */
static void random_records(void **state)
{
	(void)state;
	uint8_t buf[64];
	srand(1);
	for (int i = 0; i < 3000; i++) {
		struct told t = {.count = 0};
		write_segment(METADATA, 0);
		struct wr base = i % 3 == 0 ? topic_value("topic", 'a') : i % 3 == 1 ? config_value(2, "topic", "name", "value") : remove_value('a');
		memcpy(buf, base.data, base.len);
		for (int j = rand() % 4; j >= 0; j--)
			buf[(size_t)rand() % base.len] = (uint8_t)rand();
		struct wr w = {.data = buf, .len = (size_t)rand() % (base.len + 1)};
		put_record(NULL, -1, &w);
		wr_release(&base);
		int rc = adopt_topic_configs(dir, tell, &t, &e);
		assert_true(rc == 0 || rc == ERR_CORRUPT);
		assert_int_equal(unlink(file), 0);
	}
}

static ssize_t fail_call(void *arg, enum io_call call, const char *name, int fd, size_t bytes)
{
	(void)name, (void)fd, (void)bytes;
	return call == *(const enum io_call *)arg ? -EIO : 0;
}

static void failing_disk(void **state)
{
	(void)state;
	static const enum io_call calls[] = {IO_LIST, IO_OPEN, IO_READ, IO_STAT};
	const char *dirs[] = {dir, NULL};
	int32_t epoch;
	write_segment("__transaction_state-0", 0);
	put_bytes("x", 1);
	write_segment(METADATA, 0);
	put_config("t", "a", "1");
	for (size_t i = 0; i < 4; i++) {
		struct told t = {.count = 0};
		io_set_hook(fail_call, (void *)&calls[i]);
		assert_int_equal(adopt_topic_configs(dir, tell, &t, &e), ERR_IO);
		assert_int_equal(t.count, 0);
		if (calls[i] != IO_READ) /* one byte is no batch without being read */
			assert_int_equal(adopt_txn_decision(dirs, 1, 0, &epoch, &e), ERR_IO);
		io_set_hook(NULL, NULL);
	}
}

/* ---- transactions ---- */

enum { EMPTY, ONGOING, PREPARE_COMMIT, PREPARE_ABORT, COMPLETE_COMMIT, COMPLETE_ABORT, DEAD };

struct state { int16_t version, epoch, client_version; int64_t producer_id, previous, next; int8_t status; bool partitions; };

static void wr_tag(struct wr *w, uint32_t tag, uint32_t size, int64_t v)
{
	wr_uvarint(w, tag);
	wr_uvarint(w, size);
	if (size == 2)
		wr_i16(w, (int16_t)v);
	else
		wr_i64(w, v);
}

static struct wr state_value(struct state s)
{
	struct wr w;
	wr_init(&w, 0);
	wr_i16(&w, s.version);
	wr_i64(&w, s.producer_id);
	wr_i16(&w, s.epoch);
	wr_i32(&w, 60000);
	wr_i8(&w, s.status);
	if (s.version == 0) {
		wr_i32(&w, s.partitions ? 1 : -1);
		if (s.partitions) {
			wr_i16(&w, 1);
			wr_bytes(&w, "t", 1);
			wr_i32(&w, 1);
			wr_i32(&w, 0);
		}
	} else {
		wr_uvarint(&w, s.partitions ? 2 : 0);
		if (s.partitions) {
			compact(&w, "t");
			wr_uvarint(&w, 3);
			wr_i32(&w, 0);
			wr_i32(&w, 1);
			wr_uvarint(&w, 1);
			wr_tag(&w, 0, 8, 99); /* a tag of the partitions, not of the transaction */
		}
	}
	wr_i64(&w, 1700000000000);
	wr_i64(&w, 1700000000000);
	if (s.version == 0)
		return w;
	wr_uvarint(&w, (s.previous != 0) + (s.next != 0) + (s.client_version != 0) + 1);
	if (s.previous)
		wr_tag(&w, 0, 8, s.previous);
	if (s.next)
		wr_tag(&w, 1, 8, s.next);
	if (s.client_version)
		wr_tag(&w, 2, 2, s.client_version);
	wr_tag(&w, 1000, 8, 42); /* of a later Kafka */
	return w;
}

static void put_txn_value(const char *id, const struct wr *value)
{
	uint8_t key[100];
	size_t n = strlen(id);
	be16_put(key, 0);
	be16_put(key + 2, (uint16_t)n);
	memcpy(key + 4, id, n);
	put_record(key, (int32_t)(4 + n), value);
}

#define put_state(id, ...) put_state_((id), (struct state){__VA_ARGS__})
static void put_state_(const char *id, struct state s)
{
	struct wr w = state_value(s);
	put_txn_value(id, &w);
	wr_release(&w);
}

static int32_t coordinator_epoch;

static int decision(int64_t producer_id, int16_t epoch)
{
	const char *dirs[] = {dir, NULL};
	coordinator_epoch = -7;
	int rc = adopt_txn_decision(dirs, producer_id, epoch, &coordinator_epoch, &e);
	if (rc < 0)
		fail_msg("%d: %s", rc, e.text);
	return rc;
}

static void no_transaction_state(void **state)
{
	(void)state;
	assert_int_equal(decision(1, 0), 0);
	assert_int_equal(coordinator_epoch, 0);
	run("mkdir %s/__transaction_state-0 && touch %s/__transaction_state-1", dir, dir);
	assert_int_equal(decision(1, 0), 0);
	write_segment("__transaction_state-2", 0);
	assert_int_equal(decision(1, 0), 0);
	assert_int_equal(coordinator_epoch, 0);
}

static void newest_state_counts(void **state)
{
	(void)state;
	for (int16_t version = 0; version <= 1; version++) {
		char partition[40];
		snprintf(partition, sizeof partition, "__transaction_state-%d", version);
		int64_t p = 100 * (version + 1);
		write_segment(partition, 0);
		put_state("a", version, .producer_id = p, .epoch = 3, .status = EMPTY);
		assert_int_equal(decision(p, 3), 0);
		put_state("other", version, .producer_id = p + 1, .epoch = 3, .status = PREPARE_COMMIT, .partitions = true);
		put_state("a", version, .producer_id = p, .epoch = 3, .status = ONGOING, .partitions = true);
		assert_int_equal(decision(p, 3), 0);
		leader_epoch = 5;
		put_state("a", version, .producer_id = p, .epoch = 3, .status = PREPARE_COMMIT, .partitions = true);
		assert_int_equal(decision(p, 3), 1);
		assert_int_equal(coordinator_epoch, 5);
		put_state("other", version, .producer_id = p + 1, .epoch = 3, .status = COMPLETE_ABORT);
		put_control(LEADER_CHANGE);
		put_state("a", version, .producer_id = p, .epoch = 3, .status = COMPLETE_COMMIT);
		assert_int_equal(decision(p, 3), 1);
		assert_int_equal(decision(p, 2), 0);
		assert_int_equal(decision(p, 4), 0);
		assert_int_equal(decision(p + 1, 3), 0);
		assert_int_equal(decision(p + 2, 3), 0);
		put_state("a", version, .producer_id = p, .epoch = 3, .status = ONGOING, .partitions = true);
		assert_int_equal(decision(p, 3), 0);
		put_state("a", version, .producer_id = p, .epoch = 3, .status = PREPARE_ABORT, .partitions = true);
		assert_int_equal(decision(p, 3), 0);
		assert_int_equal(coordinator_epoch, 5);
		put_state("a", version, .producer_id = p, .epoch = 3, .status = COMPLETE_ABORT);
		assert_int_equal(decision(p, 3), 0);
	}
}

/* Transaction version 2: the records carry epoch n, the decision n + 1, and so does the next transaction. */
static void epoch_of_the_decision(void **state)
{
	(void)state;
	write_segment("__transaction_state-7", 0);
	put_state("a", 1, .producer_id = 9, .epoch = 4, .status = ONGOING, .client_version = 2, .partitions = true);
	assert_int_equal(decision(9, 4), 0);
	put_state("a", 1, .producer_id = 9, .epoch = 5, .status = PREPARE_COMMIT, .client_version = 2, .partitions = true);
	assert_int_equal(decision(9, 4), 1);
	assert_int_equal(decision(9, 5), 0);
	assert_int_equal(decision(9, 3), 0);
	put_state("a", 1, .producer_id = 9, .epoch = 5, .status = COMPLETE_COMMIT, .client_version = 2);
	assert_int_equal(decision(9, 4), 1);
	assert_int_equal(decision(9, 5), 0);
	put_state("a", 1, .producer_id = 9, .epoch = 5, .status = ONGOING, .client_version = 2, .partitions = true);
	assert_int_equal(decision(9, 5), 0);
	put_state("a", 1, .producer_id = 9, .epoch = 6, .status = PREPARE_ABORT, .client_version = 2, .partitions = true);
	assert_int_equal(decision(9, 5), 0);
}

static void next_producer_id(void **state)
{
	(void)state;
	write_segment("__transaction_state-7", 0);
	put_state("a", 1, .producer_id = 9, .epoch = 32767, .status = PREPARE_COMMIT, .client_version = 2, .next = 10, .partitions = true);
	assert_int_equal(decision(9, 32766), 1);
	assert_int_equal(decision(10, 0), 0);
	put_state("a", 1, .producer_id = 10, .epoch = 0, .status = COMPLETE_COMMIT, .client_version = 2, .previous = 9);
	assert_int_equal(decision(9, 32766), 1);
	assert_int_equal(decision(9, 32765), 0);
	assert_int_equal(decision(10, 0), 0);
	put_state("a", 1, .producer_id = 10, .epoch = 1, .status = COMPLETE_COMMIT, .client_version = 2, .previous = 9);
	assert_int_equal(decision(9, 32766), 0);
	put_state("a", 1, .producer_id = 10, .epoch = 0, .status = ONGOING, .client_version = 2, .previous = 9, .partitions = true);
	assert_int_equal(decision(9, 32766), 0);
	put_state("a", 1, .producer_id = 10, .epoch = 1, .status = PREPARE_COMMIT, .client_version = 2, .previous = 10, .partitions = true);
	assert_int_equal(decision(10, 0), 1);
	put_state("b", 1, .producer_id = 12, .epoch = 0, .status = COMPLETE_ABORT, .client_version = 2, .previous = 11);
	assert_int_equal(decision(11, 32766), 0);
	/* before transaction version 2 an id that follows another says nothing about it */
	put_state("c", 1, .producer_id = 14, .epoch = 0, .status = COMPLETE_COMMIT, .previous = 13);
	assert_int_equal(decision(13, 32766), 0);
	/* the id has moved on to a producer that is not ours */
	put_state("d", 0, .producer_id = 20, .epoch = 0, .status = COMPLETE_COMMIT);
	assert_int_equal(decision(20, 0), 1);
	put_state("d", 0, .producer_id = 21, .epoch = 0, .status = EMPTY);
	assert_int_equal(decision(20, 0), 0);
	assert_int_equal(coordinator_epoch, 0);
}

static void tombstones_and_unknown_versions(void **state)
{
	(void)state;
	write_segment("__transaction_state-0", 0);
	put_state("a", 0, .producer_id = 1, .status = COMPLETE_COMMIT);
	put_state("b", 0, .producer_id = 2, .status = COMPLETE_COMMIT);
	put_record("\0\1\0\1b", 5, NULL); /* a key of another version */
	put_record("\0", 1, NULL);
	put_record(NULL, -1, NULL);
	put_txn_value("a", NULL);
	assert_int_equal(decision(1, 0), 0);
	assert_int_equal(decision(2, 0), 1);
	put_state("c", 2, .producer_id = 3, .status = PREPARE_COMMIT);
	put_state("c", -1, .producer_id = 3, .status = PREPARE_COMMIT);
	assert_int_equal(decision(3, 0), 0);
	assert_int_equal(decision(2, 0), 1);
	put_state("b", 2, .producer_id = 2, .status = ONGOING);
	assert_int_equal(decision(2, 0), 0);
}

static void compacted_segments(void **state)
{
	(void)state;
	write_segment("__transaction_state-0", 3);
	put_state("a", 0, .producer_id = 1, .status = PREPARE_COMMIT, .partitions = true);
	next_offset = 50;
	put_state("b", 0, .producer_id = 2, .status = PREPARE_ABORT, .partitions = true);
	write_to("__transaction_state-0", "00000000000000000000.log.deleted", 51);
	put_state("a", 0, .producer_id = 1, .status = ONGOING, .partitions = true);
	write_segment("__transaction_state-0", 90);
	put_state("b", 0, .producer_id = 2, .status = PREPARE_COMMIT, .partitions = true);
	assert_int_equal(decision(1, 0), 1);
	assert_int_equal(decision(2, 0), 1);
	write_to("__transaction_state-0", "00000000000000000003.log.swap", 3);
	assert_int_equal(decision(1, 0), 0);
}

static void several_directories(void **state)
{
	(void)state;
	char one[100], two[100];
	const char *dirs[] = {one, two, NULL}, *none[] = {NULL};
	snprintf(one, sizeof one, "%s/one", dir);
	snprintf(two, sizeof two, "%s/two", dir);
	run("mkdir %s %s", one, two);
	write_segment("one/__transaction_state-0", 0);
	put_state("a", 0, .producer_id = 1, .status = PREPARE_COMMIT);
	write_segment("two/__transaction_state-1", 0);
	put_state("b", 0, .producer_id = 2, .status = PREPARE_COMMIT);
	write_segment("two/__transaction_state-2.0123456789abcdef0123456789abcdef-delete", 0);
	put_state("c", 0, .producer_id = 3, .status = PREPARE_COMMIT);
	write_segment("two/other-2", 0);
	put_state("d", 0, .producer_id = 4, .status = PREPARE_COMMIT);
	static const int expect[] = {0, 1, 1, 0, 0};
	for (int64_t p = 0; p < 5; p++)
		assert_int_equal(adopt_txn_decision(dirs, p, 0, &coordinator_epoch, &e), expect[p]);
	assert_int_equal(adopt_txn_decision(none, 1, 0, &coordinator_epoch, &e), 0);
	run("rmdir %s/two/other-2 2>/dev/null; rm -r %s", dir, two);
	assert_int_equal(adopt_txn_decision(dirs, 2, 0, &coordinator_epoch, &e), ERR_NOT_FOUND);
	assert_non_null(strstr(e.text, two));
	assert_int_equal(adopt_txn_decision(dirs, 2, 0, &coordinator_epoch, NULL), ERR_NOT_FOUND);
}

/* Damage hides the partition's decisions, not those of the others. */
static void damaged_states(void **state)
{
	(void)state;
	write_segment("__transaction_state-1", 0);
	put_state("b", 0, .producer_id = 2, .status = PREPARE_COMMIT);
	write_segment("__transaction_state-0", 0);
	put_state("a", 0, .producer_id = 1, .status = PREPARE_COMMIT);
	put_bytes("torn", 4);
	assert_int_equal(decision(1, 0), 1);
	put_state("c", 0, .producer_id = 3, .status = PREPARE_COMMIT);
	assert_int_equal(decision(1, 0), 0);
	assert_int_equal(decision(3, 0), 0);
	assert_int_equal(coordinator_epoch, 0);
	assert_int_equal(decision(2, 0), 1);
}

static void malformed_states(void **state)
{
	(void)state;
	struct wr whole = state_value((struct state){1, .producer_id = 1, .epoch = 1, .status = PREPARE_COMMIT, .client_version = 2, .previous = 5, .partitions = true});
	for (size_t n = 0; n <= whole.len; n++) {
		write_segment("__transaction_state-0", 0);
		struct wr cut = {.data = whole.data, .len = n};
		put_txn_value("a", &cut);
		assert_int_equal(decision(1, 0), n == whole.len);
		assert_int_equal(unlink(file), 0);
	}
	srand(2);
	for (int i = 0; i < 3000; i++) {
		uint8_t buf[200];
		write_segment("__transaction_state-0", 0);
		memcpy(buf, whole.data, whole.len);
		for (int j = rand() % 4; j >= 0; j--)
			buf[(size_t)rand() % whole.len] = (uint8_t)rand();
		struct wr w = {.data = buf, .len = (size_t)rand() % (whole.len + 1)};
		put_txn_value("a", &w);
		decision(1, 0);
		assert_int_equal(unlink(file), 0);
	}
	wr_release(&whole);
}

/* ---- what Kafka itself wrote (tests/data) ---- */

static void unpack(const char *name)
{
	const char *data = getenv("SPOOLFS_TEST_DATA");
	run("tar -xJf %s/%s.tar.xz -C %s log", data ? data : "tests/data", name, dir);
}

static void recorded_configs(const char *name)
{
	char log_dir[100];
	snprintf(log_dir, sizeof log_dir, "%s/log", dir);
	unpack(name);
	assert_string_equal(configs_of(log_dir, "configured"), "configured compression.type=zstd\n"
							       "configured max.message.bytes=300000\n"
							       "configured message.timestamp.type=LogAppendTime\n"
							       "configured retention.bytes=1000000000\n"
							       "configured retention.ms=31536000000000\n");
	assert_non_null(strstr(configs_of(log_dir, "compacted"), "compacted cleanup.policy=compact\n"));
	assert_string_equal(configs_of(log_dir, "gone"), "");
	assert_string_equal(configs_of(log_dir, "txn"), "");
}

struct open_ones { struct open_txn t[16]; size_t count; };

static void gather(void *arg, const struct open_txn *t)
{
	struct open_ones *o = arg;
	assert_true(o->count < 16);
	o->t[o->count++] = *t;
}

/* The transactions that a partition's only segment leaves open. */
static struct open_ones open_in(const char *partition)
{
	char path[200];
	struct open_ones o = {.count = 0};
	struct scan s;
	struct batch b;
	const uint8_t *bytes;
	uint32_t position;
	struct aborted_txn aborted;
	snprintf(path, sizeof path, "%s/log/%s/00000000000000000000.log", dir, partition);
	int fd = open(path, O_RDONLY);
	assert_true(fd >= 0);
	struct producers *p = producers_new();
	scan_init(&s, fd, 0, (uint32_t)size_of(path), 0);
	while (scan_next(&s, &b, &bytes, &position, &e) > 0)
		assert_true(producers_update(p, &b, bytes, &aborted, &e) >= 0);
	producers_open_txns(p, gather, &o);
	producers_free(p);
	scan_release(&s);
	close(fd);
	return o;
}

static void recorded_decisions(void)
{
	char log_dir[100];
	const char *dirs[] = {log_dir, NULL};
	static const struct { const char *partition; size_t open; int commits; } rows[] = {{"txn-decided-0", 2, 1}, {"txn-decided-1", 1, 1}, {"txn-open-0", 1, 0}};
	snprintf(log_dir, sizeof log_dir, "%s/log", dir);
	for (size_t i = 0; i < 3; i++) {
		struct open_ones o = open_in(rows[i].partition);
		int commits = 0;
		assert_int_equal(o.count, rows[i].open);
		for (size_t j = 0; j < o.count; j++) {
			int rc = adopt_txn_decision(dirs, o.t[j].producer_id, o.t[j].producer_epoch, &coordinator_epoch, &e);
			assert_in_range(rc, 0, 1);
			assert_int_equal(coordinator_epoch, 0);
			commits += rc;
		}
		assert_int_equal(commits, rows[i].commits);
	}
}

static void recorded_by_3_9(void **state)
{
	(void)state;
	recorded_configs("kafka-3.9");
	recorded_decisions();
}

static void recorded_by_4_1(void **state)
{
	(void)state;
	recorded_configs("kafka-4.1");
	recorded_decisions();
}

static void recorded_after_a_kill(void **state)
{
	(void)state;
	char log_dir[100];
	const char *dirs[] = {log_dir, NULL};
	snprintf(log_dir, sizeof log_dir, "%s/log", dir);
	unpack("kafka-4.1-killed");
	configs_of(log_dir, NULL);
	assert_int_equal(adopt_txn_decision(dirs, 0, 0, &coordinator_epoch, &e), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_dir, remove_dir)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(nothing_there),
		TEST(set_changed_deleted),
		TEST(removed_and_made_again),
		TEST(several_segments_and_codecs),
		TEST(snapshot_then_log),
		TEST(no_snapshot_for_a_cut_head),
		TEST(metadata_transactions),
		TEST(metadata_transaction_in_another),
		TEST(what_is_not_known_is_left_out),
		TEST(malformed_records),
		TEST(torn_tails),
		TEST(damage_in_an_older_segment),
		TEST(wrong_crc),
		TEST(flipped_bits),
		TEST(random_records),
		TEST(failing_disk),
		TEST(no_transaction_state),
		TEST(newest_state_counts),
		TEST(epoch_of_the_decision),
		TEST(next_producer_id),
		TEST(tombstones_and_unknown_versions),
		TEST(compacted_segments),
		TEST(several_directories),
		TEST(damaged_states),
		TEST(malformed_states),
		TEST(recorded_by_3_9),
		TEST(recorded_by_4_1),
		TEST(recorded_after_a_kill),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
