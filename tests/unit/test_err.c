#include "store/err.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_set_fills_and_returns_code(void **state)
{
	(void)state;
	struct err e = ERR_INIT;
	assert_int_equal(err_set(&e, ERR_CORRUPT, "batch %d of %s", 7, "orders-0"), ERR_CORRUPT);
	assert_int_equal(e.code, ERR_CORRUPT);
	assert_string_equal(e.text, "batch 7 of orders-0");
}

static void test_null_wants_no_sentence(void **state)
{
	(void)state;
	assert_int_equal(err_set(NULL, ERR_BUSY, "x"), ERR_BUSY);
	assert_int_equal(err_sys(NULL, ENOENT, "x"), ERR_NOT_FOUND);
	assert_int_equal(err_context(NULL, "x"), 0);
}

static void test_sys_ends_with_the_systems_words(void **state)
{
	(void)state;
	struct err e = ERR_INIT;
	assert_int_equal(err_sys(&e, ENOSPC, "cannot write %s", "a.log"), ERR_NO_SPACE);
	assert_string_equal(e.text, "cannot write a.log: No space left on device");
	assert_int_equal(err_sys(&e, -EACCES, "cannot open b"), ERR_DENIED);
	assert_string_equal(e.text, "cannot open b: Permission denied");
	assert_int_equal(err_sys(&e, 99999, "odd"), ERR_IO);
	assert_string_equal(e.text, "odd: errno 99999");
}

static void test_sys_never_turns_a_failure_into_success(void **state)
{
	(void)state;
	struct err e = ERR_INIT;
	assert_int_equal(err_sys(&e, 0, "short read of x"), ERR_IO);
	assert_int_equal(e.code, ERR_IO);
}

static void test_context_goes_in_front(void **state)
{
	(void)state;
	struct err e = ERR_INIT;
	err_set(&e, ERR_OFFLINE, "bad batch");
	assert_int_equal(err_context(&e, "topic %s, partition %d", "orders", 3), ERR_OFFLINE);
	assert_string_equal(e.text, "topic orders, partition 3: bad batch");
}

static void test_own_text_may_be_an_argument(void **state)
{
	(void)state;
	struct err e = ERR_INIT;
	err_set(&e, ERR_IO, "inner");
	err_set(&e, ERR_OFFLINE, "outer (%s)", e.text);
	assert_string_equal(e.text, "outer (inner)");
	err_context(&e, "again %s", e.text);
	assert_string_equal(e.text, "again outer (inner): outer (inner)");
}

static void test_long_texts_are_cut(void **state)
{
	(void)state;
	struct {
		struct err e;
		char guard[8];
	} s = {.guard = "guarded"};
	char big[3000];
	memset(big, 'x', sizeof big - 1);
	big[sizeof big - 1] = '\0';
	err_set(&s.e, ERR_IO, "%s", big);
	assert_int_equal(strlen(s.e.text), sizeof s.e.text - 1);
	err_sys(&s.e, EIO, "%s", big);
	assert_int_equal(strlen(s.e.text), sizeof s.e.text - 1);
	err_context(&s.e, "where");
	assert_int_equal(strlen(s.e.text), sizeof s.e.text - 1);
	assert_memory_equal(s.e.text, "where: xxx", 10);
	err_context(&s.e, "%s", big);
	assert_int_equal(strlen(s.e.text), sizeof s.e.text - 1);
	assert_string_equal(s.guard, "guarded");
}

static void test_errno_mapping(void **state)
{
	(void)state;
	static const struct {
		int errnum, code;
	} cases[] = {
		{0, ERR_NONE}, {EIO, ERR_IO}, {ENOSPC, ERR_NO_SPACE}, {EDQUOT, ERR_NO_SPACE}, {ENOMEM, ERR_NO_MEMORY},
		{EINVAL, ERR_INVALID}, {EFBIG, ERR_TOO_LARGE}, {ENOENT, ERR_NOT_FOUND}, {EEXIST, ERR_EXISTS}, {EAGAIN, ERR_BUSY},
		{EACCES, ERR_DENIED}, {EPERM, ERR_DENIED}, {EROFS, ERR_READ_ONLY}, {ENOTEMPTY, ERR_NOT_EMPTY},
		{ENAMETOOLONG, ERR_NAME}, {EOPNOTSUPP, ERR_UNSUPPORTED}, {ETIMEDOUT, ERR_TIMED_OUT}, {EINTR, ERR_INTERRUPTED},
		{EMFILE, ERR_LIMIT}, {ENFILE, ERR_LIMIT}, {EBADF, ERR_IO}, {12345, ERR_IO},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		assert_int_equal(err_from_errno(cases[i].errnum), cases[i].code);
		assert_int_equal(err_from_errno(-cases[i].errnum), cases[i].code);
	}
}

static void test_every_code_has_a_name_of_its_own(void **state)
{
	(void)state;
	for (int a = ERR_NOT_YET; a <= ERR_NONE; a++) {
		assert_string_not_equal(err_name(a), "unknown");
		for (int b = ERR_NOT_YET; b < a; b++)
			assert_string_not_equal(err_name(a), err_name(b));
	}
	assert_string_equal(err_name(ERR_NOT_YET - 1), "unknown");
	assert_string_equal(err_name(1), "unknown");
	assert_string_equal(err_name(INT32_MIN), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_set_fills_and_returns_code),
		cmocka_unit_test(test_null_wants_no_sentence),
		cmocka_unit_test(test_sys_ends_with_the_systems_words),
		cmocka_unit_test(test_sys_never_turns_a_failure_into_success),
		cmocka_unit_test(test_context_goes_in_front),
		cmocka_unit_test(test_own_text_may_be_an_argument),
		cmocka_unit_test(test_long_texts_are_cut),
		cmocka_unit_test(test_errno_mapping),
		cmocka_unit_test(test_every_code_has_a_name_of_its_own),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
