#include "store/conf.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/buf.h"

static bool is_even(const char *value, struct err *e)
{
	if (strlen(value) % 2 == 0)
		return true;
	if (*value != '?')
		err_set(e, ERR_INVALID, "must be of even length");
	return false;
}

enum { B = CONF_BROKER, T = CONF_TOPIC };

static const struct conf_property log_table[] = {
	{"log.retention.ms", CONF_INT, B, NULL, -1, INT64_MAX, "ms", .help = "h"},
	{"log.retention.minutes", CONF_INT, B, NULL, .finer = "log.retention.ms", .scale = 60000, .help = "h"},
	{"log.retention.hours", CONF_INT, B, "168", .finer = "log.retention.ms", .scale = 3600000, .help = "h"},
	{"retention.ms", CONF_INT, T, NULL, -1, INT64_MAX, "ms", .broker_name = "log.retention.ms", .help = "h"},
	{"segment.bytes", CONF_INT, T, NULL, 14, INT32_MAX, "bytes", .broker_name = "log.segment.bytes", .help = "h"},
	{"log.segment.bytes", CONF_INT, B, "1073741824", 14, INT32_MAX, "bytes", .help = "h"},
	{"cleanup.policy", CONF_LIST, T, NULL, .choices = "compact,delete", .broker_name = "log.cleanup.policy", .help = "h"},
	{"log.cleanup.policy", CONF_LIST, B, "delete", .choices = "compact,delete", .help = "h"},
	/* a chain of units: days over hours over minutes */
	{"roll.minutes", CONF_INT, B, NULL, .help = "h"},
	{"roll.hours", CONF_INT, B, NULL, .finer = "roll.minutes", .scale = 60, .help = "h"},
	{"roll.days", CONF_INT, B, NULL, .finer = "roll.hours", .scale = 24, .help = "h"},
	{NULL},
};

static const struct conf_property other_table[] = {
	{"compression.type", CONF_ENUM, B | T, "producer", .choices = "producer,none,gzip,lz4", .help = "h"},
	{"preallocate", CONF_BOOL, B | T, "false", .help = "h"},
	{"unset.bool", CONF_BOOL, B, NULL, .help = "h"},
	{"unset.int", CONF_INT, B, NULL, .help = "h"},
	{"unset.double", CONF_DOUBLE, B, NULL, .help = "h"},
	{"ratio", CONF_DOUBLE, B | T, "0.5", 0, 1, .help = "h"},
	{"rate", CONF_DOUBLE, B, "1.7976931348623157E308", .help = "h"},
	{"unset.string", CONF_STRING, B, NULL, .help = "h"},
	{"name", CONF_STRING, B | T, "anonymous", .help = "h"},
	{"even", CONF_STRING, B, NULL, .help = "h", .check = is_even},
	{"most", CONF_INT, B, NULL, INT64_MIN, 10, .help = "h"},
	{"owner", CONF_INT, T, NULL, .help = "h", .hidden = true},
	{NULL},
};

static struct conf_schema *schema;
static struct conf *broker, *topic;
static struct err e;
static char dir[64], path[100];

static int make_schema(void **state)
{
	(void)state;
	const struct conf_property *const tables[] = {log_table, other_table};
	schema = conf_schema_new(tables, 2);
	strcpy(dir, "/tmp/spoolfs-test-conf-XXXXXX");
	if (!schema || !mkdtemp(dir))
		return -1;
	snprintf(path, sizeof path, "%s/server.properties", dir);
	return 0;
}

static int free_schema(void **state)
{
	(void)state;
	conf_schema_free(schema);
	unlink(path);
	return rmdir(dir);
}

static int make_confs(void **state)
{
	(void)state;
	broker = conf_new(schema, NULL, CONF_BROKER);
	topic = conf_new(schema, broker, CONF_TOPIC);
	e = (struct err)ERR_INIT;
	return broker && topic ? 0 : -1;
}

static int free_confs(void **state)
{
	(void)state;
	conf_free(topic);
	conf_free(broker);
	return 0;
}

static void set(struct conf *c, const char *name, const char *value)
{
	if (conf_set(c, name, value, &e))
		fail_msg("%s", e.text);
}

static void refuse(struct conf *c, const char *name, const char *value, const char *sentence)
{
	assert_int_equal(conf_set(c, name, value, &e), ERR_INVALID);
	assert_int_equal(e.code, ERR_INVALID);
	assert_string_equal(e.text, sentence);
	assert_int_equal(conf_set(c, name, value, NULL), ERR_INVALID);
}

static void assert_printed(const struct conf *c, bool hidden_too, const char *expect)
{
	struct wr w;
	wr_init(&w, 0);
	conf_print_set(c, &w, hidden_too);
	wr_i8(&w, 0);
	assert_string_equal((char *)w.data, expect);
	wr_release(&w);
}

static void assert_text(const struct conf *c, const char *name, const char *expect)
{
	struct wr w;
	wr_init(&w, 0);
	conf_value_text(c, conf_find(schema, name), &w);
	wr_i8(&w, 0);
	assert_string_equal((char *)w.data, expect);
	wr_release(&w);
}

/* --- schema --- */

static void test_rows_in_name_order(void **state)
{
	(void)state;
	size_t n;
	const struct conf_property *const *rows = conf_rows(schema, &n);
	assert_int_equal(n, sizeof log_table / sizeof *log_table + sizeof other_table / sizeof *other_table - 2);
	for (size_t i = 0; i < n; i++) {
		assert_ptr_equal(conf_find(schema, rows[i]->name), rows[i]);
		if (i)
			assert_true(strcmp(rows[i - 1]->name, rows[i]->name) < 0);
	}
	assert_null(conf_find(schema, "none"));
	assert_null(conf_find(schema, ""));
}

/* Whether fn aborts, in a process of its own. */
static bool aborts(void (*fn)(const void *), const void *arg)
{
	fflush(stdout);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
		signal(SIGABRT, SIG_DFL);
		if (!freopen("/dev/null", "w", stderr))
			_exit(2);
		fn(arg);
		_exit(0);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status))
		assert_int_equal(WEXITSTATUS(status), 0);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void build(const void *table)
{
	const struct conf_property *tables[] = {table};
	conf_schema_free(conf_schema_new(tables, 1));
}

static void test_bad_tables_are_bugs(void **state)
{
	(void)state;
	static const struct conf_property bad[][4] = {
		{{"a", CONF_INT, B}, {"a", CONF_STRING, B}},
		{{"a", CONF_INT, B, "11", 0, 10}},
		{{"a", CONF_INT, B, "x"}},
		{{"a", CONF_INT, B, ""}},
		{{"a", CONF_BOOL, B, "yes"}},
		{{"a", CONF_ENUM, B, "c", .choices = "a,b"}},
		{{"a", CONF_ENUM, B}},
		{{"a", CONF_LIST, B, "a,c", .choices = "a,b"}},
		{{"a", CONF_INT, 0}},
		{{"a", CONF_INT, T, .broker_name = "b"}},
		{{"a", CONF_INT, T, .broker_name = "b"}, {"b", CONF_STRING, B}},
		{{"a", CONF_INT, T, .broker_name = "b"}, {"b", CONF_INT, T}},
		{{"a", CONF_INT, B, .finer = "b", .scale = 60}},
		{{"a", CONF_INT, B, .finer = "b"}, {"b", CONF_INT, B}},
		{{"a", CONF_STRING, B, .finer = "b", .scale = 60}, {"b", CONF_STRING, B}},
		{{"a", CONF_INT, B, .finer = "a", .scale = 60}},
		{{"a", CONF_INT, B, .finer = "b", .scale = 60}, {"b", CONF_INT, B, .finer = "a", .scale = 60}},
	};
	static const struct conf_property good[4] = {{"a", CONF_INT, B, "10", 0, 10, .finer = "b", .scale = 60}, {"b", CONF_INT, B}};
	assert_false(aborts(build, good));
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		if (!aborts(build, bad[i]))
			fail_msg("bad table %zu was taken", i);
}

static void misread(const void *arg)
{
	switch (*(const int *)arg) {
	case 0:
		conf_int(broker, "none");
		break;
	case 1:
		conf_int(broker, "preallocate");
		break;
	case 2:
		conf_bool(broker, "name");
		break;
	case 3:
		conf_str(broker, "log.segment.bytes");
		break;
	case 4:
		conf_str(broker, "preallocate");
		break;
	case 5:
		conf_list_has(broker, "name", "x");
		break;
	case 6:
		conf_is_set(broker, "none", true);
		break;
	}
}

static void test_reading_what_is_not_there_is_a_bug(void **state)
{
	(void)state;
	for (int i = 0; i < 7; i++)
		assert_true(aborts(misread, &i));
	assert_false(aborts(misread, &(int){7}));
}

/* --- values --- */

static void test_defaults(void **state)
{
	(void)state;
	assert_string_equal(conf_str(broker, "name"), "anonymous");
	assert_string_equal(conf_str(broker, "compression.type"), "producer");
	assert_int_equal(conf_int(broker, "log.segment.bytes"), 1 << 30);
	assert_false(conf_bool(broker, "preallocate"));
	assert_int_equal(conf_int(broker, "unset.int"), 0);
	assert_false(conf_bool(broker, "unset.bool"));
	assert_string_equal(conf_str(broker, "unset.string"), "");
	assert_printed(broker, true, "");
}

static void test_int(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		int64_t v;
	} good[] = {
		{"0", 0}, {"-5", -5}, {"+5", 5}, {"  12\t", 12}, {"007", 7}, {"-0", 0}, {"9223372036854775807", INT64_MAX},
		{"-9223372036854775808", INT64_MIN},
	};
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		set(broker, "unset.int", good[i].text);
		assert_int_equal(conf_int(broker, "unset.int"), good[i].v);
		char expect[40];
		snprintf(expect, sizeof expect, "unset.int=%lld\n", (long long)good[i].v);
		assert_printed(broker, false, expect);
	}
	set(broker, "unset.int", "42");
	static const char *const bad[] = {"x", "-", "+", "1.5", "1e3", "0x10", "1 0", "--1", "+-1", "9223372036854775808", "1_000"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(conf_set(broker, "unset.int", bad[i], &e), ERR_INVALID);
	assert_int_equal(conf_int(broker, "unset.int"), 42); /* a refused value changes nothing */
}

static void test_int_sentences(void **state)
{
	(void)state;
	refuse(broker, "log.segment.bytes", "10k", "log.segment.bytes=10k: a plain number of bytes is expected");
	refuse(broker, "unset.int", "ten", "unset.int=ten: a plain number is expected");
	refuse(broker, "log.segment.bytes", "13", "log.segment.bytes=13: allowed is 14 to 2147483647");
	refuse(broker, "log.retention.ms", "-2", "log.retention.ms=-2: the least allowed is -1");
	refuse(broker, "most", "11", "most=11: the most allowed is 10");
	set(broker, "most", "-99999");
	set(broker, "log.segment.bytes", "14");
	set(broker, "log.segment.bytes", "2147483647");
}

static void test_bool(void **state)
{
	(void)state;
	set(broker, "preallocate", "TRUE");
	assert_true(conf_bool(broker, "preallocate"));
	assert_printed(broker, false, "preallocate=true\n");
	set(broker, "preallocate", " False ");
	assert_false(conf_bool(broker, "preallocate"));
	assert_printed(broker, false, "preallocate=false\n");
	refuse(broker, "preallocate", "1", "preallocate=1: allowed is true or false");
	refuse(broker, "preallocate", "truee", "preallocate=truee: allowed is true or false");
}

static void test_double(void **state)
{
	(void)state;
	assert_true(conf_double(broker, "ratio") == 0.5);
	assert_true(conf_double(broker, "rate") > 1e308);
	assert_true(conf_double(broker, "unset.double") == 0);
	static const char *const good[] = {"0", "1", "0.25", "1e-3", "+.5", "1."};
	static const double value[] = {0, 1, 0.25, 1e-3, 0.5, 1};
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		assert_int_equal(conf_set(topic, "ratio", good[i], NULL), 0);
		assert_true(conf_double(topic, "ratio") == value[i]);
	}
	assert_int_equal(conf_set(broker, "rate", "-3", NULL), 0);
	assert_true(conf_double(broker, "rate") == -3);
	static const char *const bad[] = {"1.01", "-0.1", "half", "0x1p-1", "nan", "inf", "1e999", "0.5s", "1,5", "--1", "."};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct err why = ERR_INIT;
		assert_int_equal(conf_set(topic, "ratio", bad[i], &why), ERR_INVALID);
		assert_non_null(strstr(why.text, "ratio"));
	}
	assert_true(conf_double(topic, "ratio") == 1);
}

static void test_enum(void **state)
{
	(void)state;
	set(broker, "compression.type", "lz4");
	assert_string_equal(conf_str(broker, "compression.type"), "lz4");
	refuse(broker, "compression.type", "lz", "compression.type=lz: allowed is one of producer,none,gzip,lz4");
	refuse(broker, "compression.type", "none,gzip", "compression.type=none,gzip: allowed is one of producer,none,gzip,lz4");
}

static void test_list(void **state)
{
	(void)state;
	assert_true(conf_list_has(topic, "cleanup.policy", "delete"));
	assert_false(conf_list_has(topic, "cleanup.policy", "compact"));
	set(topic, "cleanup.policy", " compact ,delete ");
	assert_string_equal(conf_str(topic, "cleanup.policy"), "compact,delete");
	assert_true(conf_list_has(topic, "cleanup.policy", "compact"));
	assert_true(conf_list_has(topic, "cleanup.policy", "delete"));
	assert_false(conf_list_has(topic, "cleanup.policy", "del"));
	assert_false(conf_list_has(topic, "cleanup.policy", "compact,delete"));
	assert_false(conf_list_has(topic, "cleanup.policy", ""));
	refuse(topic, "cleanup.policy", "compact,burn", "cleanup.policy=burn: allowed is any of compact,delete");
	refuse(topic, "cleanup.policy", "compact,,delete", "cleanup.policy: an item of the list is empty");
	refuse(topic, "cleanup.policy", ",", "cleanup.policy: an item of the list is empty");
	assert_string_equal(conf_str(topic, "cleanup.policy"), "compact,delete");
}

static void test_own_check(void **state)
{
	(void)state;
	set(broker, "even", "abcd");
	refuse(broker, "even", "abc", "even=abc: must be of even length");
	refuse(broker, "even", "?", "even=?: not accepted");
	assert_string_equal(conf_str(broker, "even"), "abcd");
}

static void test_control_characters(void **state)
{
	(void)state;
	refuse(broker, "name", "a\nlog.segment.bytes=20", "name: the value has a control character in it");
	refuse(broker, "name", "a\x7f", "name: the value has a control character in it");
	set(broker, "name", "caf\xc3\xa9");
}

static void test_empty_takes_back(void **state)
{
	(void)state;
	set(broker, "name", "b");
	set(topic, "name", "t");
	assert_string_equal(conf_str(topic, "name"), "t");
	set(topic, "name", "");
	assert_string_equal(conf_str(topic, "name"), "b");
	set(topic, "name", "t");
	set(topic, "name", NULL);
	set(topic, "name", NULL);
	assert_string_equal(conf_str(topic, "name"), "b");
	set(broker, "name", "  ");
	assert_string_equal(conf_str(topic, "name"), "anonymous");
	assert_false(conf_is_set(topic, "name", true));
}

static void test_unknown_names(void **state)
{
	(void)state;
	refuse(broker, "log.retension.ms", "1", "log.retension.ms: no such property; the nearest is log.retention.ms");
	refuse(broker, "log.segment.byte", "1", "log.segment.byte: no such property; the nearest is log.segment.bytes");
	refuse(broker, "nmae", "1", "nmae: no such property; the nearest is name");
	refuse(broker, "something.else.altogether", "1", "something.else.altogether: no such property");
	refuse(topic, "ownr", "1", "ownr: no such property"); /* hidden ones are not offered */
	refuse(broker, "retentionms", "1", "retentionms: no such property"); /* nor what cannot be set here */
	char longest[1000];
	memset(longest, 'x', sizeof longest);
	longest[sizeof longest - 1] = '\0';
	assert_int_equal(conf_set(broker, longest, "1", &e), ERR_INVALID);
	assert_true(strlen(e.text) < 300);
}

static void test_names_of_the_other_scope(void **state)
{
	(void)state;
	refuse(broker, "retention.ms", "1", "retention.ms: not a property of the broker; there it is log.retention.ms");
	refuse(topic, "log.retention.ms", "1", "log.retention.ms: not a property of a topic; there it is retention.ms");
	refuse(topic, "log.retention.hours", "1", "log.retention.hours: not a property of a topic; there it is retention.ms");
	refuse(topic, "unset.int", "1", "unset.int: not a property of a topic");
	refuse(broker, "owner", "1", "owner: not a property of the broker");
}

/* --- topic over broker over defaults, in several units --- */

static void test_topic_over_broker(void **state)
{
	(void)state;
	assert_int_equal(conf_int(topic, "segment.bytes"), 1 << 30);
	set(broker, "log.segment.bytes", "1000");
	assert_int_equal(conf_int(topic, "segment.bytes"), 1000);
	assert_int_equal(conf_int(broker, "segment.bytes"), 1000); /* by the topic's name in the broker's */
	set(topic, "segment.bytes", "500");
	assert_int_equal(conf_int(topic, "segment.bytes"), 500);
	assert_int_equal(conf_int(broker, "segment.bytes"), 1000);
	assert_int_equal(conf_int(topic, "log.segment.bytes"), 1000);
	set(broker, "log.cleanup.policy", "compact");
	assert_true(conf_list_has(topic, "cleanup.policy", "compact"));
	assert_string_equal(conf_str(topic, "cleanup.policy"), "compact");
}

static void test_topic_without_a_parent(void **state)
{
	(void)state;
	struct conf *alone = conf_new(schema, NULL, CONF_TOPIC);
	assert_int_equal(conf_int(alone, "retention.ms"), INT64_C(168) * 3600000);
	assert_int_equal(conf_int(alone, "segment.bytes"), 1 << 30);
	assert_string_equal(conf_str(alone, "cleanup.policy"), "delete");
	conf_free(alone);
}

static void test_the_nearest_that_is_set_wins_in_any_combination(void **state)
{
	(void)state;
	for (int bits = 0; bits < 16; bits++) {
		set(topic, "retention.ms", bits & 8 ? "77" : "");
		set(broker, "log.retention.ms", bits & 4 ? "55" : "");
		set(broker, "log.retention.minutes", bits & 2 ? "3" : "");
		set(broker, "log.retention.hours", bits & 1 ? "2" : "");
		int64_t of_broker = bits & 4 ? 55 : bits & 2 ? 180000 : bits & 1 ? 7200000 : INT64_C(168) * 3600000;
		assert_int_equal(conf_int(broker, "log.retention.ms"), of_broker);
		assert_int_equal(conf_int(broker, "retention.ms"), of_broker);
		assert_int_equal(conf_int(topic, "retention.ms"), bits & 8 ? 77 : of_broker);
		assert_int_equal(conf_int(broker, "log.retention.hours"), bits & 1 ? 2 : 168); /* as it stands */
		assert_int_equal(conf_int(broker, "log.retention.minutes"), bits & 2 ? 3 : 0);
		assert_int_equal(conf_is_set(topic, "retention.ms", false), (bits & 8) != 0);
		assert_int_equal(conf_is_set(topic, "retention.ms", true), bits != 0);
		assert_int_equal(conf_is_set(broker, "retention.ms", false), (bits & 7) != 0);
	}
}

static void test_chain_of_units(void **state)
{
	(void)state;
	assert_int_equal(conf_int(broker, "roll.minutes"), 0);
	set(broker, "roll.days", "2");
	assert_int_equal(conf_int(broker, "roll.minutes"), 2 * 24 * 60);
	assert_int_equal(conf_int(broker, "roll.hours"), 48);
	set(broker, "roll.hours", "3");
	assert_int_equal(conf_int(broker, "roll.minutes"), 180);
	set(broker, "roll.minutes", "4");
	assert_int_equal(conf_int(broker, "roll.minutes"), 4);
}

static void test_scaling_at_the_ends(void **state)
{
	(void)state;
	set(broker, "log.retention.hours", "-1"); /* no limit, not an hour less than none */
	assert_int_equal(conf_int(topic, "retention.ms"), -1);
	set(broker, "log.retention.hours", "9223372036854775807");
	assert_int_equal(conf_int(topic, "retention.ms"), INT64_MAX);
	set(broker, "log.retention.hours", "0");
	assert_int_equal(conf_int(topic, "retention.ms"), 0);
}

static void test_three_levels(void **state)
{
	(void)state;
	struct conf *file = conf_new(schema, NULL, CONF_BROKER), *line = conf_new(schema, file, CONF_BROKER);
	struct conf *t = conf_new(schema, line, CONF_TOPIC);
	set(file, "log.retention.ms", "1");
	set(line, "log.retention.hours", "1"); /* nearer, though coarser */
	assert_int_equal(conf_int(t, "retention.ms"), 3600000);
	assert_true(conf_is_set(t, "retention.ms", true));
	set(line, "log.retention.hours", NULL);
	assert_int_equal(conf_int(t, "retention.ms"), 1);
	conf_free(t);
	conf_free(line);
	conf_free(file);
}

static void test_copy_is_apart(void **state)
{
	(void)state;
	conf_free(NULL);
	struct conf *empty = conf_copy(topic);
	set(topic, "name", "t");
	set(topic, "retention.ms", "5");
	struct conf *copy = conf_copy(topic);
	set(topic, "name", "changed");
	set(topic, "retention.ms", NULL);
	set(empty, "preallocate", "true");
	assert_printed(copy, false, "name=t\nretention.ms=5\n");
	assert_printed(topic, false, "name=changed\n");
	assert_printed(empty, false, "preallocate=true\n");
	set(broker, "log.segment.bytes", "99");
	assert_int_equal(conf_int(copy, "segment.bytes"), 99); /* of the same parent */
	assert_int_equal(conf_set(copy, "log.segment.bytes", "99", &e), ERR_INVALID);
	conf_free(copy);
	conf_free(empty);
}

/* --- text --- */

static void test_what_a_level_has_itself(void **state)
{
	char number[24];
	(void)state;
	assert_int_equal(conf_set(broker, "log.retention.hours", "2", &e), 0);
	assert_int_equal(conf_set(topic, "owner", "7", &e), 0);
	assert_string_equal(conf_own(broker, conf_find(schema, "log.retention.hours")), "2");
	assert_null(conf_own(broker, conf_find(schema, "log.retention.ms")));
	assert_null(conf_own(topic, conf_find(schema, "retention.ms")));
	assert_string_equal(conf_value(topic, conf_find(schema, "retention.ms"), number), "7200000");
	assert_string_equal(conf_value(topic, conf_find(schema, "cleanup.policy"), number), "delete");
	assert_null(conf_value(broker, conf_find(schema, "unset.string"), number));
	struct conf *other = conf_new(schema, NULL, CONF_BROKER), *copy = conf_copy_onto(topic, other);
	assert_string_equal(conf_value(copy, conf_find(schema, "retention.ms"), number), "604800000");
	conf_set_parent(copy, broker);
	assert_string_equal(conf_value(copy, conf_find(schema, "retention.ms"), number), "7200000");
	conf_free(copy);
	conf_free(other);
}

static void test_several_at_once_and_all_gone(void **state)
{
	(void)state;
	assert_int_equal(conf_apply(topic, (struct conf_change[]){{"segment.bytes", "100"}, {"owner", "7"}, {"retention.ms", "5"}}, 3, &e), 0);
	assert_int_equal(conf_apply(topic, (struct conf_change[]){{"segment.bytes", "200"}, {"nonsense", "7"}, {"retention.ms", "6"}}, 3, &e), ERR_INVALID);
	assert_int_equal(conf_int(topic, "segment.bytes"), 200);
	assert_int_equal(conf_int(topic, "retention.ms"), 5);
	assert_int_equal(conf_apply(topic, (struct conf_change[]){{"retention.ms", NULL}}, 1, &e), 0);
	assert_false(conf_is_set(topic, "retention.ms", false));
	conf_clear(topic, false);
	assert_false(conf_is_set(topic, "segment.bytes", false));
	assert_true(conf_is_set(topic, "owner", false));
	conf_clear(topic, true);
	assert_false(conf_is_set(topic, "owner", false));
}

static void test_print(void **state)
{
	(void)state;
	set(topic, "retention.ms", "5");
	set(topic, "owner", "1000");
	set(topic, "cleanup.policy", "compact");
	assert_printed(topic, false, "cleanup.policy=compact\nretention.ms=5\n");
	assert_printed(topic, true, "cleanup.policy=compact\nowner=1000\nretention.ms=5\n");
	assert_text(topic, "retention.ms", "5");
	assert_text(broker, "retention.ms", "604800000");
	assert_text(broker, "log.retention.hours", "168");
	assert_text(broker, "unset.int", "");
	assert_text(broker, "unset.bool", "");
	assert_text(topic, "segment.bytes", "1073741824");
	assert_text(topic, "cleanup.policy", "compact");
	set(broker, "name", "a\\b");
	assert_text(broker, "name", "a\\\\b");
}

static void test_set_line(void **state)
{
	(void)state;
	static const char *const skipped[] = {"", "  \t", "\n", "# name=x", "  ! name=x", "#"};
	for (size_t i = 0; i < sizeof skipped / sizeof *skipped; i++)
		assert_int_equal(conf_set_line(broker, skipped[i], &e), 0);
	assert_printed(broker, true, "");
	assert_int_equal(conf_set_line(broker, "  name = a b = c: #d  \r\n", &e), 0);
	assert_string_equal(conf_str(broker, "name"), "a b = c: #d");
	assert_int_equal(conf_set_line(broker, "name:x=y", &e), 0);
	assert_string_equal(conf_str(broker, "name"), "x=y");
	assert_int_equal(conf_set_line(broker, "name=", &e), 0);
	assert_string_equal(conf_str(broker, "name"), "anonymous");
	assert_int_equal(conf_set_line(broker, "name", &e), ERR_INVALID);
	assert_string_equal(e.text, "name: expected is name=value");
	assert_int_equal(conf_set_line(broker, "=x", &e), ERR_INVALID);
	assert_int_equal(conf_set_line(broker, "name=\\u0041", &e), ERR_INVALID);
	assert_int_equal(conf_set_line(broker, "nane=x", &e), ERR_INVALID);
	assert_string_equal(e.text, "nane: no such property; the nearest is name");
}

static void write_file(const char *text, size_t n)
{
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fwrite(text, 1, n, f);
	fclose(f);
}

static int load(const char *text)
{
	write_file(text, strlen(text));
	return conf_load(broker, path, &e);
}

static void test_load(void **state)
{
	(void)state;
	assert_int_equal(load(""), 0);
	assert_int_equal(load("# a comment that ends in a backslash \\\n"
			"! another\n"
			"\r\n"
			"  name=first\n"
			"log.retention.hours : 24\r\n"
			"log.cleanup.policy=compact, \\\n"
			"   # not a comment here,\\\n"
			"   delete\n"), ERR_INVALID);
	assert_non_null(strstr(e.text, "server.properties, line 6: log.cleanup.policy=# not a comment here: allowed is"));
	assert_int_equal(load("log.cleanup.policy=compact,\\\r\n"
			"\t  dele\\\n"
			"te\n"
			"name=first\n"
			"even=C\\:\\\\dirs!\n"
			"name=the last wins"), 0);
	assert_string_equal(conf_str(broker, "log.cleanup.policy"), "compact,delete");
	assert_string_equal(conf_str(broker, "name"), "the last wins");
	assert_string_equal(conf_str(broker, "even"), "C:\\dirs!");
	assert_int_equal(conf_int(broker, "log.retention.hours"), 24);
}

static void test_load_ends_in_a_backslash(void **state)
{
	(void)state;
	assert_int_equal(load("name=x\\"), 0);
	assert_string_equal(conf_str(broker, "name"), "x");
	assert_int_equal(load("name=y\\\\\npreallocate=true\n"), 0); /* a pair is one, and joins nothing */
	assert_string_equal(conf_str(broker, "name"), "y\\");
	assert_true(conf_bool(broker, "preallocate"));
	assert_int_equal(load("name=z\\\n"), 0);
	assert_string_equal(conf_str(broker, "name"), "z");
}

static void test_load_says_where(void **state)
{
	(void)state;
	char expect[200];
	assert_int_equal(load("name=x\n\nname=a\\\nb\nunset.int=q\nname=not read\n"), ERR_INVALID);
	snprintf(expect, sizeof expect, "%s, line 5: unset.int=q: a plain number is expected", path);
	assert_string_equal(e.text, expect);
	assert_string_equal(conf_str(broker, "name"), "ab");
}

static void test_load_what_is_no_such_file(void **state)
{
	(void)state;
	assert_int_equal(conf_load(broker, "/nonexistent/file", &e), ERR_NOT_FOUND);
	assert_string_equal(e.text, "cannot read /nonexistent/file: No such file or directory");
	write_file("name=x\0y\n", 9);
	assert_int_equal(conf_load(broker, path, &e), ERR_INVALID);
	assert_non_null(strstr(e.text, "not a text file"));
	char *big = malloc(2 << 20);
	memset(big, '\n', 2 << 20);
	write_file(big, 2 << 20);
	free(big);
	assert_int_equal(conf_load(broker, path, &e), ERR_TOO_LARGE);
}

/* What is printed is read back as the same, whatever characters a value is made of. */
static void test_printed_values_are_read_back(void **state)
{
	(void)state;
	static const char alphabet[] = "ab \\\\\\=:#!\",.u\xc3";
	unsigned seed = 7;
	for (int round = 0; round < 3000; round++) {
		char value[20];
		size_t n = 1 + rand_r(&seed) % (sizeof value - 1);
		for (size_t i = 0; i < n; i++)
			value[i] = alphabet[(unsigned)rand_r(&seed) % (sizeof alphabet - 1)];
		value[n] = '\0';
		set(broker, "name", value);
		set(broker, "unset.string", "follows");
		struct wr w;
		wr_init(&w, 0);
		conf_print_set(broker, &w, true);
		write_file((char *)w.data, w.len);
		struct conf *back = conf_new(schema, NULL, CONF_BROKER);
		if (conf_load(back, path, &e))
			fail_msg("%s", e.text);
		assert_string_equal(conf_str(back, "name"), conf_str(broker, "name"));
		assert_string_equal(conf_str(back, "unset.string"), "follows");
		conf_free(back);
		wr_release(&w);
	}
}

/* Any number of settings, in any order, against an array. */
static void test_like_a_plain_array(void **state)
{
	(void)state;
	static const char *const names[] = {"log.segment.bytes", "unset.int", "most", "roll.minutes", "roll.hours", "roll.days",
		"log.retention.ms", "log.retention.hours"};
	enum { N = sizeof names / sizeof *names };
	int64_t model[N] = {0}; /* 0: not set */
	unsigned seed = 3;
	for (int round = 0; round < 20000; round++) {
		int i = rand_r(&seed) % N, v = rand_r(&seed) % 3 ? 0 : 1 + rand_r(&seed) % 9;
		char text[20];
		if (!strcmp(names[i], "log.segment.bytes") && v)
			v += 20;
		snprintf(text, sizeof text, "%d", v);
		set(broker, names[i], v ? text : NULL);
		model[i] = v;
		for (int k = 0; k < N; k++) {
			if (model[k])
				assert_int_equal(conf_int(broker, names[k]), model[k]);
			bool coarser = !strncmp(names[k], "roll.", 5) || !strcmp(names[k], "log.retention.ms");
			if (!coarser)
				assert_int_equal(conf_is_set(broker, names[k], false), model[k] != 0);
		}
	}
}

int main(void)
{
#define WITH_CONFS(test) cmocka_unit_test_setup_teardown(test, make_confs, free_confs)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows_in_name_order),
		cmocka_unit_test(test_bad_tables_are_bugs),
		WITH_CONFS(test_reading_what_is_not_there_is_a_bug),
		WITH_CONFS(test_defaults),
		WITH_CONFS(test_int),
		WITH_CONFS(test_int_sentences),
		WITH_CONFS(test_bool),
		WITH_CONFS(test_double),
		WITH_CONFS(test_enum),
		WITH_CONFS(test_list),
		WITH_CONFS(test_own_check),
		WITH_CONFS(test_control_characters),
		WITH_CONFS(test_empty_takes_back),
		WITH_CONFS(test_unknown_names),
		WITH_CONFS(test_names_of_the_other_scope),
		WITH_CONFS(test_topic_over_broker),
		WITH_CONFS(test_topic_without_a_parent),
		WITH_CONFS(test_the_nearest_that_is_set_wins_in_any_combination),
		WITH_CONFS(test_chain_of_units),
		WITH_CONFS(test_scaling_at_the_ends),
		WITH_CONFS(test_three_levels),
		WITH_CONFS(test_copy_is_apart),
		WITH_CONFS(test_what_a_level_has_itself),
		WITH_CONFS(test_several_at_once_and_all_gone),
		WITH_CONFS(test_print),
		WITH_CONFS(test_set_line),
		WITH_CONFS(test_load),
		WITH_CONFS(test_load_ends_in_a_backslash),
		WITH_CONFS(test_load_says_where),
		WITH_CONFS(test_load_what_is_no_such_file),
		WITH_CONFS(test_printed_values_are_read_back),
		WITH_CONFS(test_like_a_plain_array),
	};
	return cmocka_run_group_tests(tests, make_schema, free_schema);
}
