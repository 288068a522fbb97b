#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cluster/zk/layout.h"
#include "cluster/zk/settings.h"

static char dir[] = "/tmp/zk_settings.XXXXXX", file[PATH_MAX];
static struct conf_schema *schema;
static struct conf *conf;
static struct zk_settings s;
static struct err e;

static int set_up(void **state)
{
	const struct conf_property *tables[] = {zk_properties};
	(void)state;
	schema = conf_schema_new(tables, 1);
	return mkdtemp(dir) ? snprintf(file, sizeof file, "%s/credentials", dir) <= 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	unlink(file);
	conf_schema_free(schema);
	return rmdir(dir);
}

static int each(void **state)
{
	(void)state;
	conf = conf_new(schema, NULL, CONF_BROKER);
	e = (struct err)ERR_INIT;
	return conf ? 0 : -1;
}

static int after(void **state)
{
	(void)state;
	conf_free(conf);
	return 0;
}

static void set(const char *name, const char *value)
{
	assert_int_equal(conf_set(conf, name, value, &e), 0);
}

static void write_file(const char *text, size_t n, mode_t mode)
{
	unlink(file);
	int fd = open(file, O_WRONLY | O_CREAT, 0600);
	assert_true(write(fd, text, n) == (ssize_t)n);
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

static void test_kafkas_names_and_defaults(void **state)
{
	(void)state;
	set("zookeeper.connect", "a:1,b:2/spool");
	assert_int_equal(zk_settings_read(&s, conf, &e), 0);
	assert_string_equal(s.options.connect, "a:1,b:2/spool");
	assert_int_equal(s.options.session_timeout_ms, 18000);
	assert_int_equal(s.connection_timeout_ms, 18000);
	assert_int_equal(s.options.max_in_flight, 10);
	assert_false(s.options.set_acl);
	assert_null(s.options.credentials);
	assert_true(s.options.acl == layout_acl);
	assert_string_equal(conf_str(conf, "broker.rack"), "");
	set("zookeeper.session.timeout.ms", "6000");
	assert_int_equal(zk_settings_read(&s, conf, &e), 0);
	assert_int_equal(s.connection_timeout_ms, 6000);
	set("zookeeper.connection.timeout.ms", "700");
	assert_int_equal(zk_settings_read(&s, conf, &e), 0);
	assert_int_equal(s.connection_timeout_ms, 700);
}

static void test_values_that_cannot_be(void **state)
{
	static const char *const bad[][2] = {{"zookeeper.connect", "a:b"}, {"zookeeper.connect", "a,,b"}, {"zookeeper.connect", "a:1/x//y"}, {"zookeeper.max.in.flight.requests", "0"},
					     {"zookeeper.session.timeout.ms", "0"}, {"zookeeper.connection.timeout.ms", "2147483648"}, {"zookeeper.set.acl", "yes"}};
	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(conf_set(conf, bad[i][0], bad[i][1], &e), ERR_INVALID);
	set("zookeeper.connect", "host,[::1]:2182,1.2.3.4/");
}

static void test_credentials_are_one_line_that_only_the_owner_reads(void **state)
{
	(void)state;
	set("zookeeper.connect", "a:1");
	set("zookeeper.set.acl", "true");
	assert_int_equal(zk_settings_read(&s, conf, &e), ERR_INVALID);
	assert_non_null(strstr(e.text, "zookeeper.credentials.file"));
	set("zookeeper.credentials.file", file);
	assert_int_equal(zk_settings_read(&s, conf, &e), ERR_NOT_FOUND);
	write_file("user:pass:word\n", 15, 0600);
	assert_int_equal(zk_settings_read(&s, conf, &e), 0);
	assert_string_equal(s.options.credentials, "user:pass:word");
	write_file("user:p", 6, 0640);
	assert_int_equal(zk_settings_read(&s, conf, &e), ERR_DENIED);
	assert_non_null(strstr(e.text, "chmod 600"));
	static const char *const bad[] = {"", "\n", "user\n", ":hush\n", "a:b\nc:d\n"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		write_file(bad[i], strlen(bad[i]), 0600);
		assert_int_equal(zk_settings_read(&s, conf, &e), ERR_INVALID);
		assert_null(strstr(e.text, "hush"));
	}
	write_file("user:p\0q", 8, 0600);
	assert_int_equal(zk_settings_read(&s, conf, &e), ERR_INVALID);
	char large[2000];
	memset(large, ':', sizeof large);
	write_file(large, sizeof large, 0600);
	assert_true(zk_settings_read(&s, conf, &e) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_kafkas_names_and_defaults, each, after),
		cmocka_unit_test_setup_teardown(test_values_that_cannot_be, each, after),
		cmocka_unit_test_setup_teardown(test_credentials_are_one_line_that_only_the_owner_reads, each, after),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
