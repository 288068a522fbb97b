#include "store/clock.h"

#include <stdatomic.h>
#include <time.h>

static _Atomic int64_t wall_shift_ms;

mono_t mono_now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_BOOTTIME, &t);
	return (mono_t){t.tv_sec * INT64_C(1000000000) + t.tv_nsec};
}

int64_t wall_now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	return t.tv_sec * INT64_C(1000) + t.tv_nsec / 1000000 + atomic_load_explicit(&wall_shift_ms, memory_order_relaxed);
}

void clock_shift_wall(int64_t by_ms)
{
	atomic_store_explicit(&wall_shift_ms, by_ms, memory_order_relaxed);
}
