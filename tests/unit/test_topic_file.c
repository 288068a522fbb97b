/*
 * topic_file: all of a topic's properties, or none of them and why.
 */
#include "tests/unit/broker_fixture.h"

#include "cluster/topic_file.h"

static char path[160];
static struct conf *set;

static int setup_file(void **state)
{
	setup(state);
	snprintf(path, sizeof path, "%s/" TOPIC_FILE, root);
	set = conf_new(schema, conf, CONF_TOPIC);
	return 0;
}

static int teardown_file(void **state)
{
	conf_free(set);
	return teardown(state);
}

static int load(const char *text, size_t n)
{
	if (text)
		spit(path, text, n);
	conf_free(set);
	set = conf_new(schema, conf, CONF_TOPIC);
	err = (struct err)ERR_INIT;
	return topic_file_load(path, set, &err);
}

static int load_text(const char *text)
{
	return load(text, strlen(text));
}

static void test_what_was_saved_is_loaded(void **state)
{
	(void)state;
	assert_int_equal(conf_set(set, "retention.ms", "-1", &err), 0);
	assert_int_equal(conf_set(set, "spoolfs.dir.mode", "0700", &err), 0);
	assert_int_equal(topic_file_save(path, set, &err), 0);
	assert_int_equal(load(NULL, 0), 0);
	assert_int_equal(conf_int(set, "retention.ms"), -1);
	assert_string_equal(conf_str(set, "spoolfs.dir.mode"), "0700");
}

static void test_nothing_set_is_a_file_too(void **state)
{
	(void)state;
	assert_int_equal(topic_file_save(path, set, &err), 0);
	assert_int_equal(load(NULL, 0), 0);
	assert_true(conf_is_empty(set));
}

static void test_a_file_without_checksum_is_taken_as_it_is(void **state)
{
	(void)state;
	assert_int_equal(load_text("retention.ms=5\n"), 0);
	assert_int_equal(conf_int(set, "retention.ms"), 5);
	assert_int_equal(load_text("# edited by hand\nretention.ms = 6"), 0);
	assert_int_equal(conf_int(set, "retention.ms"), 6);
}

/* Of each file that was saved: every byte gone behind it, every bit of it turned. */
static void test_no_damage_is_believed(void **state)
{
	(void)state;
	size_t n;
	assert_int_equal(conf_set(set, "retention.ms", "-1", &err), 0);
	assert_int_equal(topic_file_save(path, set, &err), 0);
	char *good = slurp(path, &n);
	for (size_t cut = 0; cut < n; cut++)
		if (load(good, cut) != ERR_CORRUPT)
			fail_msg("%zu of %zu bytes are believed", cut, n);
	for (size_t bit = 0; bit < 8 * n; bit++) {
		good[bit / 8] ^= (char)(1 << bit % 8);
		if (load(good, n) != ERR_CORRUPT)
			fail_msg("bit %zu is believed", bit);
		good[bit / 8] ^= (char)(1 << bit % 8);
	}
	free(good);
}

static void test_each_kind_says_what_is_wrong(void **state)
{
	(void)state;
	static const struct { const char *text; size_t n; const char *says; } wrong[] = {
		{"", 0, "is empty"},
		{"\0\1\2", 3, "not a text file"},
		{"retentyon.ms=-1\n", 16, "retention.ms"},
		{"retention.ms=never\n", 19, "retention.ms=never"},
		{"retention.ms=-1\n# crc32c 00000000\n", 34, "checksum"},
		{"nothing\n", 8, "name=value"},
	};
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		assert_int_equal(load(wrong[i].text, wrong[i].n), ERR_CORRUPT);
		if (!strstr(err.text, wrong[i].says) || !strstr(err.text, path))
			fail_msg("%zu: %s", i, err.text);
	}
	assert_int_equal(unlink(path), 0);
	assert_int_equal(load(NULL, 0), ERR_NOT_FOUND);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(load(NULL, 0), ERR_CORRUPT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_what_was_saved_is_loaded, setup_file, teardown_file),
		cmocka_unit_test_setup_teardown(test_nothing_set_is_a_file_too, setup_file, teardown_file),
		cmocka_unit_test_setup_teardown(test_a_file_without_checksum_is_taken_as_it_is, setup_file, teardown_file),
		cmocka_unit_test_setup_teardown(test_no_damage_is_believed, setup_file, teardown_file),
		cmocka_unit_test_setup_teardown(test_each_kind_says_what_is_wrong, setup_file, teardown_file),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
