/* The controllers' node for each broker. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cluster/control/ledger.h"

static int decode(struct brain_ledger *l, const char *text)
{
	struct err e = ERR_INIT;
	int rc = ledger_decode(l, "/spoolfs/brokers/1", text, strlen(text), &e);
	if (rc < 0)
		assert_non_null(strstr(e.text, "/spoolfs/brokers/1"));
	return rc;
}

static void test_it_is_read_as_it_was_written(void **state)
{
	(void)state;
	const struct brain_ledger some[] = {{-1, -1, false}, {INT64_MAX, 4, true}, {0, INT64_MAX, false}};
	for (size_t i = 0; i < sizeof some / sizeof *some; i++) {
		struct brain_ledger l;
		struct wr out;
		wr_init(&out, 0);
		assert_int_equal(ledger_encode(&some[i], &out), 0);
		struct err e = ERR_INIT;
		assert_int_equal(ledger_decode(&l, "/spoolfs/brokers/1", out.data, out.len, &e), 0);
		assert_true(l.settled_epoch == some[i].settled_epoch && l.fenced_epoch == some[i].fenced_epoch && l.unclean == some[i].unclean);
		wr_release(&out);
	}
}

static void test_what_is_none_is_refused(void **state)
{
	(void)state;
	struct brain_ledger l;
	assert_true(decode(&l, "") < 0);
	assert_true(decode(&l, "[]") < 0);
	assert_true(decode(&l, "{\"version\":2,\"settled_epoch\":1,\"fenced_epoch\":1,\"unclean\":false}") < 0);
	assert_true(decode(&l, "{\"version\":1,\"settled_epoch\":\"1\",\"fenced_epoch\":1,\"unclean\":false}") < 0);
	assert_true(decode(&l, "{\"version\":1,\"settled_epoch\":1,\"fenced_epoch\":-2,\"unclean\":false}") < 0);
	assert_true(decode(&l, "{\"version\":1,\"settled_epoch\":1,\"fenced_epoch\":1}") < 0);
	assert_int_equal(decode(&l, "{\"version\":1,\"settled_epoch\":1,\"fenced_epoch\":-1,\"unclean\":true,\"more\":1}"), 0);
	struct layout_path p;
	assert_string_equal(ledger_path(&p, 1001), "/spoolfs/brokers/1001");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_it_is_read_as_it_was_written),
		cmocka_unit_test(test_what_is_none_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
