#include "store/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

static void test_mono_goes_forward_only(void **state)
{
	(void)state;
	mono_t last = mono_now();
	assert_true(last.ns > 0);
	for (int i = 0; i < 10000; i++) {
		mono_t now = mono_now();
		assert_true(mono_diff_ns(now, last) >= 0);
		last = now;
	}
}

static void test_mono_arithmetic(void **state)
{
	(void)state;
	mono_t t = {1000};
	assert_int_equal(mono_after_ms(t, 3).ns, 3001000);
	assert_int_equal(mono_after_ms(t, -1).ns, -999000);
	assert_int_equal(mono_diff_ns(mono_after_ms(t, 5), t), 5000000);
}

static void test_mono_measures_real_time(void **state)
{
	(void)state;
	mono_t before = mono_now();
	nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
	assert_true(mono_diff_ns(mono_now(), before) >= 20000000);
}

static void test_wall_is_the_system_clock_in_ms(void **state)
{
	(void)state;
	int64_t before = (int64_t)time(NULL) * 1000;
	int64_t now = wall_now_ms();
	assert_true(now >= before - 1000 && now < before + 60000);
}

static void test_wall_can_be_shifted_and_set_back(void **state)
{
	(void)state;
	const int64_t week_ms = INT64_C(7) * 86400 * 1000;
	int64_t before = wall_now_ms();
	mono_t mono = mono_now();
	clock_shift_wall(week_ms);
	int64_t shifted = wall_now_ms();
	assert_true(shifted >= before + week_ms && shifted < before + week_ms + 60000);
	assert_true(mono_diff_ns(mono_now(), mono) < INT64_C(60000000000));
	clock_shift_wall(-week_ms);
	assert_true(wall_now_ms() < before);
	clock_shift_wall(0);
	assert_true(wall_now_ms() >= before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mono_goes_forward_only),
		cmocka_unit_test(test_mono_arithmetic),
		cmocka_unit_test(test_mono_measures_real_time),
		cmocka_unit_test(test_wall_is_the_system_clock_in_ms),
		cmocka_unit_test(test_wall_can_be_shifted_and_set_back),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
