#include "cluster/broker_conf.h"

#include "tests/unit/broker_fixture.h"

#define CHANGES(...) ((struct conf_change[]){__VA_ARGS__}), sizeof((struct conf_change[]){__VA_ARGS__}) / sizeof(struct conf_change)

static void configure(bool fallback, const char *name, const char *value)
{
	if (broker_configure(b, fallback, CHANGES({name, value}), false, false, &err) < 0)
		fail_msg("%s", err.text);
}

static int64_t of_topic(const char *topic, const char *name)
{
	struct topic *t = topics_find(b, topic);
	assert_non_null(t);
	int64_t v = topic_conf_int(t, name);
	topic_unref(t);
	return v;
}

static void test_what_can_be_changed_is_what_topics_take(void **state)
{
	static const struct { const char *name; bool dynamic; } rows[] = {
		{"log.retention.ms", true}, {"log.retention.hours", false}, {"log.retention.minutes", false}, {"message.max.bytes", true}, {"compression.type", true},
		{"log.cleanup.policy", true}, {"producer.id.expiration.ms", true}, {"num.partitions", false}, {"broker.id", false}, {"log.dirs", false}, {"retention.ms", false},
		{"min.insync.replicas", true}, {"log.cleaner.threads", false},
	};
	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		if (broker_conf_is_dynamic(schema, conf_find(schema, rows[i].name)) != rows[i].dynamic)
			fail_msg("%s", rows[i].name);
}

static void test_levels(void **state)
{
	(void)state;
	set_conf("log.retention.hours=5");
	open_broker();
	topic_unref(create("t", 1));
	topic_unref(create("own", 1));
	struct topic *t = topics_find(b, "own");
	assert_int_equal(topic_change(t, CHANGES({"retention.ms", "77"}), false, false, &err), 0);
	topic_unref(t);
	assert_int_equal(of_topic("t", "retention.ms"), 5 * 3600000);
	configure(true, "log.retention.ms", "2000");
	assert_int_equal(of_topic("t", "retention.ms"), 2000);
	configure(false, "log.retention.ms", "1000");
	assert_int_equal(of_topic("t", "retention.ms"), 1000);
	assert_int_equal(of_topic("own", "retention.ms"), 77);
	configure(true, "log.retention.ms", "3000");
	assert_int_equal(of_topic("t", "retention.ms"), 1000);
	configure(false, "log.retention.ms", NULL);
	assert_int_equal(of_topic("t", "retention.ms"), 3000);
	topic_unref(create("later", 1));
	assert_int_equal(of_topic("later", "retention.ms"), 3000);
	configure(true, "log.retention.ms", "");
	assert_int_equal(of_topic("t", "retention.ms"), 5 * 3600000);
	configure(false, "producer.id.expiration.ms", "5");
	assert_int_equal(broker_conf_int(b, "producer.id.expiration.ms"), 5);
}

static void test_in_force_for_the_hot_path_at_once(void **state)
{
	struct batch_style style;
	(void)state;
	open_broker();
	struct topic *t = create("t", 1);
	uint32_t before = topic_conf_generation(t);
	configure(true, "message.max.bytes", "5000");
	topic_batch_style(t, &style);
	assert_int_equal(style.max_batch_bytes, 5000);
	assert_int_not_equal(topic_conf_generation(t), before);
	topic_unref(t);
}

static void test_all_or_nothing(void **state)
{
	(void)state;
	open_broker();
	topic_unref(create("t", 1));
	assert_int_equal(broker_configure(b, false, CHANGES({"log.retention.ms", "1000"}, {"message.max.bytes", "x"}), false, false, &err), ERR_INVALID);
	assert_int_equal(broker_configure(b, false, CHANGES({"log.retention.ms", "1000"}, {"num.partitions", "3"}), false, false, &err), ERR_INVALID);
	assert_non_null(strstr(err.text, "num.partitions"));
	assert_int_equal(broker_configure(b, false, CHANGES({"log.retention.ms", "1000"}, {"no.such", "3"}), false, false, &err), ERR_INVALID);
	assert_int_equal(broker_configure(b, false, CHANGES({"log.retention.ms", "1000"}), false, true, &err), 0);
	assert_int_equal(of_topic("t", "retention.ms"), 168 * INT64_C(3600000));
	configure(false, "log.retention.ms", "1000");
	assert_int_equal(broker_configure(b, false, CHANGES({"message.max.bytes", "5000"}), true, false, &err), 0);
	assert_int_equal(of_topic("t", "retention.ms"), 168 * INT64_C(3600000));
	assert_int_equal(of_topic("t", "max.message.bytes"), 5000);
}

static void test_kept_over_a_restart(void **state)
{
	(void)state;
	open_broker();
	topic_unref(create("t", 1));
	configure(true, "log.retention.ms", "2000");
	configure(false, "message.max.bytes", "5000");
	close_broker();
	open_broker();
	assert_int_equal(of_topic("t", "retention.ms"), 2000);
	assert_int_equal(of_topic("t", "max.message.bytes"), 5000);
	struct conf_levels l;
	assert_int_equal(conf_levels_take(b, NULL, &l, &err), 0);
	assert_null(l.topic);
	assert_string_equal(conf_own(l.fallback, conf_find(schema, "log.retention.ms")), "2000");
	assert_null(conf_own(l.own, conf_find(schema, "log.retention.ms")));
	assert_string_equal(conf_own(l.own, conf_find(schema, "message.max.bytes")), "5000");
	conf_levels_release(&l);
}

static void test_a_file_that_cannot_be_written_changes_nothing(void **state)
{
	char path[200];
	(void)state;
	open_broker();
	topic_unref(create("t", 1));
	snprintf(path, sizeof path, "%s/dynamic-broker.properties", data);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_true(broker_configure(b, false, CHANGES({"log.retention.ms", "1000"}), false, false, &err) < 0);
	assert_int_equal(of_topic("t", "retention.ms"), 168 * INT64_C(3600000));
	assert_int_equal(rmdir(path), 0);
	configure(false, "log.retention.ms", "1000");
}

static void test_a_damaged_file_is_no_silent_loss(void **state)
{
	char path[200];
	(void)state;
	open_broker();
	close_broker();
	snprintf(path, sizeof path, "%s/dynamic-broker.properties", data);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fputs("log.retention.ms=abc\n", f);
	fclose(f);
	assert_int_equal(try_open(), ERR_INVALID);
	assert_non_null(strstr(err.text, "dynamic-broker.properties, line 1"));
}

static void test_a_deleted_topic_keeps_what_it_had(void **state)
{
	(void)state;
	open_broker();
	struct topic *t = create("t", 1);
	assert_int_equal(topic_change(t, CHANGES({"segment.ms", "5000"}), false, false, &err), 0);
	configure(true, "log.retention.ms", "2000");
	assert_int_equal(topics_delete(b, t, false, &err), 0);
	for (int i = 0; i < 50; i++)
		configure(true, "log.retention.ms", "3000");
	assert_int_equal(topic_conf_int(t, "retention.ms"), 2000);
	assert_int_equal(topic_conf_int(t, "segment.ms"), 5000);
	assert_int_equal(topic_change(t, CHANGES({"segment.ms", "6000"}), false, false, &err), ERR_DELETED);
	topic_unref(t);
}

/* ---- topics with properties ---- */

static void test_a_topic_is_made_with_its_properties_or_not_at_all(void **state)
{
	(void)state;
	open_broker();
	struct conf_change set[] = {{"retention.ms", "1000"}, {"segment.ms", "x"}};
	struct topic_plan plan = {.name = "t", .partitions = 2, .set = set, .set_count = 2};
	struct topic *t = (void *)1;
	assert_int_equal(topics_make(b, &plan, &t, &err), ERR_INVALID);
	assert_null(t);
	assert_null(topics_find(b, "t"));
	set[1].value = "60000";
	plan.check_only = true;
	assert_int_equal(topics_make(b, &plan, &t, &err), 0);
	assert_null(t);
	assert_null(topics_find(b, "t"));
	plan.check_only = false;
	assert_int_equal(topics_make(b, &plan, &t, &err), 0);
	assert_int_equal(topic_partition_count(t), 2);
	topic_unref(t);
	assert_int_equal(topics_make(b, &plan, NULL, &err), ERR_EXISTS);
	close_broker();
	open_broker();
	assert_int_equal(of_topic("t", "retention.ms"), 1000);
	assert_int_equal(of_topic("t", "segment.ms"), 60000);
}

static void test_replacing_keeps_what_is_not_the_clients(void **state)
{
	(void)state;
	open_broker();
	struct topic *t = create("t", 1);
	struct topic_owner o = topic_owner(t);
	o.uid = 12;
	o.dir_mode = 0711;
	assert_int_equal(topic_set_owner(t, &o, &err), 0);
	assert_int_equal(topic_change(t, CHANGES({"retention.ms", "1000"}, {"segment.ms", "5000"}), false, false, &err), 0);
	assert_int_equal(topic_change(t, CHANGES({"retention.ms", "2000"}), true, true, &err), 0);
	assert_int_equal(topic_conf_int(t, "segment.ms"), 5000);
	assert_int_equal(topic_change(t, CHANGES({"retention.ms", "2000"}), true, false, &err), 0);
	assert_int_equal(topic_change(t, CHANGES({"spoolfs.uid", "0"}), false, false, &err), ERR_INVALID);
	assert_int_equal(topic_change(t, CHANGES({"min.compaction.lag.ms", "2"}, {"max.compaction.lag.ms", "1"}), false, false, &err), ERR_INVALID);
	topic_unref(t);
	close_broker();
	open_broker();
	t = topics_find(b, "t");
	assert_int_equal(topic_owner(t).uid, 12);
	assert_int_equal(topic_owner(t).dir_mode, 0711);
	assert_int_equal(topic_conf_int(t, "retention.ms"), 2000);
	assert_int_equal(topic_conf_int(t, "segment.ms"), 604800000);
	topic_unref(t);
}

static void test_growing(void **state)
{
	(void)state;
	open_broker();
	struct topic *t = create("t", 2);
	assert_int_equal(topic_grow(t, 2, 5, &err), 0);
	assert_int_equal(topic_partition_count(t), 5);
	assert_int_equal(topic_grow(t, 2, 6, &err), ERR_BUSY);
	assert_int_equal(topic_grow(t, 5, 5, &err), ERR_INVALID);
	assert_int_equal(topic_grow(t, 5, 4, &err), ERR_INVALID);
	assert_int_equal(topic_grow(t, 5, INT32_MAX, &err), ERR_INVALID);
	assert_int_equal(topics_delete(b, t, false, &err), 0);
	assert_int_equal(topic_grow(t, 5, 6, &err), ERR_DELETED);
	topic_unref(t);
}

/* ---- at the same time ---- */

static _Atomic bool over;

static void *change_defaults(void *arg)
{
	struct err e = ERR_INIT;
	for (int i = 1; i <= 200; i++) {
		char text[20];
		snprintf(text, sizeof text, "%d", 1000 * i);
		assert_int_equal(broker_configure(b, arg != NULL, CHANGES({"log.retention.ms", text}), false, false, &e), 0);
	}
	return NULL;
}

static void *change_topics(void *arg)
{
	struct err e = ERR_INIT;
	while (!over) {
		struct topic *t;
		if (topics_create(b, arg, 2, NULL, &t, &e) < 0)
			break;
		topic_change(t, CHANGES({"segment.ms", "5000"}), false, false, &e);
		topics_delete(b, t, false, &e);
		topic_conf_int(t, "retention.ms");
		topic_unref(t);
	}
	return NULL;
}

static void *look(void *arg)
{
	struct err e = ERR_INIT;
	struct topic *t = topics_find(b, arg);
	while (!over) {
		struct conf_levels l;
		assert_int_equal(topic_conf_int(t, "retention.ms") % 1000, 0);
		assert_int_equal(conf_levels_take(b, t, &l, &e), 0);
		assert_int_equal(conf_int(l.topic, "retention.ms") % 1000, 0);
		conf_levels_release(&l);
	}
	topic_unref(t);
	return NULL;
}

static void test_changes_at_the_same_time(void **state)
{
	static char fallback[] = "", names[2][2] = {"a", "b"}, stays[] = "stays";
	pthread_t changing[2], others[4];
	(void)state;
	set_conf("log.segment.delete.delay.ms=0");
	over = false;
	open_broker();
	topic_unref(create(stays, 3));
	pthread_create(&changing[0], NULL, change_defaults, NULL);
	pthread_create(&changing[1], NULL, change_defaults, fallback);
	pthread_create(&others[0], NULL, change_topics, names[0]);
	pthread_create(&others[1], NULL, change_topics, names[1]);
	pthread_create(&others[2], NULL, look, stays);
	pthread_create(&others[3], NULL, look, stays);
	for (int i = 0; i < 2; i++)
		pthread_join(changing[i], NULL);
	over = true;
	for (int i = 0; i < 4; i++)
		pthread_join(others[i], NULL);
	assert_int_equal(of_topic(stays, "retention.ms"), 200000);
	close_broker(); /* before the hook is taken off: what was deleted is being removed */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_what_can_be_changed_is_what_topics_take, setup, teardown),
		cmocka_unit_test_setup_teardown(test_levels, setup, teardown),
		cmocka_unit_test_setup_teardown(test_in_force_for_the_hot_path_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_all_or_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_kept_over_a_restart, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_file_that_cannot_be_written_changes_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_damaged_file_is_no_silent_loss, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_deleted_topic_keeps_what_it_had, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_topic_is_made_with_its_properties_or_not_at_all, setup, teardown),
		cmocka_unit_test_setup_teardown(test_replacing_keeps_what_is_not_the_clients, setup, teardown),
		cmocka_unit_test_setup_teardown(test_growing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_changes_at_the_same_time, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
