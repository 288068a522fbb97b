/*
 * kperf: a client of Kafka brokers by librdkafka, that measures.
 *
 *   kperf produce  BOOTSTRAP TOPIC COUNT SIZE|@FILE [PROPERTY=VALUE ...]      COUNT messages of SIZE bytes, or the lines of FILE again and again
 *   kperf consume  BOOTSTRAP TOPIC COUNT PARTITIONS [PROPERTY=VALUE ...]      by assignment, from the beginning
 *   kperf group    BOOTSTRAP TOPIC COUNT GROUP [PROPERTY=VALUE ...]           as the only member of a group
 *   kperf pingpong BOOTSTRAP TOPIC COUNT SIZE [PROPERTY=VALUE ...]            one message in flight, through partition 0
 *
 * produce, consume and group print messages a second: from the first call to the last acknowledgement, from the first message to the last. pingpong prints in
 * microseconds how long it took from handing over a message until the consumer held it: p50, p99, p99.9.
 */
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { WARM_UP = 1000, BATCH = 4096, DEADLINE_US = 120000000 };

static int64_t delivered, failed;

static int64_t now_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

static void die(const char *what, const char *why)
{
	fprintf(stderr, "kperf: %s: %s\n", what, why);
	exit(1);
}

static void on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *m, void *arg)
{
	(void)rk;
	(void)arg;
	if (m->err && !failed++)
		fprintf(stderr, "kperf: delivery: %s\n", rd_kafka_err2str(m->err));
	delivered++;
}

static void set(rd_kafka_conf_t *c, const char *name, const char *value)
{
	char err[256];
	if (rd_kafka_conf_set(c, name, value, err, sizeof err) != RD_KAFKA_CONF_OK)
		die(name, err);
}

/* more: PROPERTY=VALUE, after what is set here. */
static rd_kafka_t *client(rd_kafka_type_t type, const char *bootstrap, const char *group, const char *const *preset, char **more)
{
	rd_kafka_conf_t *c = rd_kafka_conf_new();
	char err[256];
	set(c, "bootstrap.servers", bootstrap);
	if (group)
		set(c, "group.id", group);
	for (; *preset; preset += 2)
		set(c, preset[0], preset[1]);
	for (; *more; more++) {
		char *value = strchr(*more, '=');
		if (!value)
			die(*more, "has no =");
		*value = 0;
		set(c, *more, value + 1);
		*value = '=';
	}
	if (type == RD_KAFKA_PRODUCER)
		rd_kafka_conf_set_dr_msg_cb(c, on_delivery);
	rd_kafka_t *rk = rd_kafka_new(type, c, err, sizeof err);
	if (!rk)
		die("client", err);
	return rk;
}

static void print_rate(int64_t count, int64_t us)
{
	printf("%.0f\n", (double)count * 1e6 / (double)(us ? us : 1));
}

/* ---- produce ---- */

struct line { const char *text; size_t bytes; };

/* The lines of a file, or one of so many bytes. */
static struct line *read_lines(const char *what, size_t *count)
{
	struct line *v;
	if (*what != '@') {
		size_t n = strtoul(what, NULL, 10);
		char *text = malloc(n + 1);
		v = malloc(sizeof *v);
		for (size_t i = 0; i < n; i++)
			text[i] = (char)('a' + i % 26);
		*v = (struct line){text, n};
		*count = 1;
		return v;
	}
	FILE *f = fopen(what + 1, "r");
	if (!f)
		die(what + 1, "cannot be opened");
	fseek(f, 0, SEEK_END);
	size_t size = (size_t)ftell(f), n = 0;
	rewind(f);
	char *text = malloc(size + 1);
	if (fread(text, 1, size, f) != size)
		die(what + 1, "cannot be read");
	fclose(f);
	for (size_t i = 0; i < size; i++)
		n += text[i] == '\n';
	v = malloc((n + 1) * sizeof *v);
	*count = 0;
	for (char *p = text, *end; (size_t)(p - text) < size && (end = memchr(p, '\n', size - (size_t)(p - text))); p = end + 1)
		v[(*count)++] = (struct line){p, (size_t)(end - p)};
	if (!*count)
		die(what + 1, "has no lines");
	return v;
}

static void produce(const char *bootstrap, const char *topic, int64_t count, const char *what, char **more)
{
	static const char *const preset[] = {"linger.ms", "5", "queue.buffering.max.messages", "500000", NULL};
	rd_kafka_t *rk = client(RD_KAFKA_PRODUCER, bootstrap, NULL, preset, more);
	rd_kafka_topic_t *t = rd_kafka_topic_new(rk, topic, NULL);
	size_t lines;
	struct line *line = read_lines(what, &lines);
	int64_t start = now_us();
	for (int64_t i = 0; i < count;) {
		const struct line *x = &line[(size_t)i % lines];
		if (rd_kafka_produce(t, RD_KAFKA_PARTITION_UA, 0, (void *)(size_t)x->text, x->bytes, NULL, 0, NULL) == 0) {
			i++;
			continue;
		}
		if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL)
			die("produce", rd_kafka_err2str(rd_kafka_last_error()));
		rd_kafka_poll(rk, 10);
	}
	while (delivered < count && now_us() - start < DEADLINE_US)
		rd_kafka_poll(rk, 100);
	int64_t us = now_us() - start;
	if (failed || delivered < count)
		die("produce", "not all were delivered");
	print_rate(count, us);
	rd_kafka_topic_destroy(t);
	rd_kafka_destroy(rk);
}

/* ---- consume ---- */

static const char *const consumer_preset[] = {"queued.min.messages", "1000000", "enable.auto.commit", "false", "auto.offset.reset", "earliest", NULL};

static void count_batch(rd_kafka_queue_t *q, int64_t count)
{
	static rd_kafka_message_t *m[BATCH];
	int64_t got = 0, first = 0, begun = now_us();
	while (got < count) {
		ssize_t n = rd_kafka_consume_batch_queue(q, 1000, m, BATCH);
		if (now_us() - begun > DEADLINE_US)
			die("consume", "not all messages came");
		for (ssize_t i = 0; i < n; i++) {
			if (m[i]->err && m[i]->err != RD_KAFKA_RESP_ERR__PARTITION_EOF)
				die("consume", rd_kafka_message_errstr(m[i]));
			got += !m[i]->err;
			rd_kafka_message_destroy(m[i]);
		}
		if (got && !first)
			first = now_us();
	}
	print_rate(count, now_us() - first);
}

static void consume(const char *bootstrap, const char *topic, int64_t count, int partitions, char **more)
{
	rd_kafka_t *rk = client(RD_KAFKA_CONSUMER, bootstrap, NULL, consumer_preset, more);
	rd_kafka_topic_t *t = rd_kafka_topic_new(rk, topic, NULL);
	rd_kafka_queue_t *q = rd_kafka_queue_new(rk);
	for (int p = 0; p < partitions; p++)
		if (rd_kafka_consume_start_queue(t, p, RD_KAFKA_OFFSET_BEGINNING, q))
			die("consume", rd_kafka_err2str(rd_kafka_last_error()));
	count_batch(q, count);
	for (int p = 0; p < partitions; p++)
		rd_kafka_consume_stop(t, p);
	rd_kafka_queue_destroy(q);
	rd_kafka_topic_destroy(t);
	rd_kafka_destroy(rk);
}

static void consume_group(const char *bootstrap, const char *topic, int64_t count, const char *group, char **more)
{
	rd_kafka_t *rk = client(RD_KAFKA_CONSUMER, bootstrap, group, consumer_preset, more);
	rd_kafka_topic_partition_list_t *l = rd_kafka_topic_partition_list_new(1);
	rd_kafka_poll_set_consumer(rk);
	rd_kafka_topic_partition_list_add(l, topic, RD_KAFKA_PARTITION_UA);
	rd_kafka_resp_err_t e = rd_kafka_subscribe(rk, l);
	if (e)
		die("subscribe", rd_kafka_err2str(e));
	rd_kafka_queue_t *q = rd_kafka_queue_get_consumer(rk);
	count_batch(q, count);
	rd_kafka_queue_destroy(q);
	rd_kafka_topic_partition_list_destroy(l);
	rd_kafka_consumer_close(rk);
	rd_kafka_destroy(rk);
}

/* ---- one in flight ---- */

static int ascending(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return (x > y) - (x < y);
}

static void pingpong(const char *bootstrap, const char *topic, int64_t count, size_t size, char **more)
{
	static const char *const quick_p[] = {"linger.ms", "0", "socket.nagle.disable", "true", NULL};
	static const char *const quick_c[] = {"fetch.wait.max.ms", "500", "fetch.min.bytes", "1", "fetch.error.backoff.ms", "5", "socket.nagle.disable", "true", NULL};
	static char *const none[] = {NULL};
	rd_kafka_t *p = client(RD_KAFKA_PRODUCER, bootstrap, NULL, quick_p, more);
	rd_kafka_t *c = client(RD_KAFKA_CONSUMER, bootstrap, NULL, quick_c, (char **)none);
	rd_kafka_topic_t *to = rd_kafka_topic_new(p, topic, NULL), *from = rd_kafka_topic_new(c, topic, NULL);
	int64_t *us = calloc((size_t)count, sizeof *us);
	char *payload = calloc(1, size);
	if (!us || !payload)
		die("pingpong", "no memory");
	if (rd_kafka_consume_start(from, 0, RD_KAFKA_OFFSET_BEGINNING)) /* of a topic where nothing is yet */
		die("consume", rd_kafka_err2str(rd_kafka_last_error()));
	for (int64_t i = -WARM_UP; i < count; i++) {
		int64_t begun = now_us();
		if (rd_kafka_produce(to, 0, 0, payload, size, NULL, 0, NULL))
			die("produce", rd_kafka_err2str(rd_kafka_last_error()));
		rd_kafka_message_t *m;
		while (!(m = rd_kafka_consume(from, 0, 1000)) || m->err) {
			if (m && m->err != RD_KAFKA_RESP_ERR__PARTITION_EOF)
				die("consume", rd_kafka_message_errstr(m));
			if (m)
				rd_kafka_message_destroy(m);
			if (now_us() - begun > DEADLINE_US)
				die("consume", "a message did not come");
		}
		if (i >= 0)
			us[i] = now_us() - begun;
		rd_kafka_message_destroy(m);
		rd_kafka_poll(p, 0);
	}
	qsort(us, (size_t)count, sizeof *us, ascending);
	printf("%lld %lld %lld\n", (long long)us[count / 2], (long long)us[count * 99 / 100], (long long)us[count * 999 / 1000]);
	rd_kafka_consume_stop(from, 0);
	rd_kafka_flush(p, 10000);
	if (failed)
		die("pingpong", "not all were delivered");
	rd_kafka_topic_destroy(from);
	rd_kafka_topic_destroy(to);
	rd_kafka_destroy(c);
	rd_kafka_destroy(p);
}

int main(int argc, char **argv)
{
	if (argc < 6)
		die("usage", "kperf produce|consume|group|pingpong BOOTSTRAP TOPIC COUNT WHAT [PROPERTY=VALUE ...]; the head of kperf.c says more");
	int64_t count = atoll(argv[4]);
	if (!strcmp(argv[1], "produce"))
		produce(argv[2], argv[3], count, argv[5], argv + 6);
	else if (!strcmp(argv[1], "consume"))
		consume(argv[2], argv[3], count, atoi(argv[5]), argv + 6);
	else if (!strcmp(argv[1], "group"))
		consume_group(argv[2], argv[3], count, argv[5], argv + 6);
	else if (!strcmp(argv[1], "pingpong"))
		pingpong(argv[2], argv[3], count, strtoul(argv[5], NULL, 10), argv + 6);
	else
		die(argv[1], "is not known");
	return 0;
}
