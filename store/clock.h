/*
 * clock: two kinds of time that cannot be mixed up.
 *
 * `mono_ns` counts nanoseconds of CLOCK_BOOTTIME (it goes on during suspend) and drives every timer and deadline;
 * `wall_ms` is milliseconds since 1970 and is only ever data: record timestamps, retention, mtime.
 * Tests may shift the wall clock (clock_shift_wall).
 *
 * thread: any.
 */
#ifndef STORE_CLOCK_H
#define STORE_CLOCK_H

#include <stdint.h>

typedef struct { int64_t ns; } mono_t;

mono_t mono_now(void);
static inline mono_t mono_after_ms(mono_t t, int64_t ms) { return (mono_t){t.ns + ms * 1000000}; }
static inline int64_t mono_diff_ns(mono_t later, mono_t earlier) { return later.ns - earlier.ns; }

int64_t wall_now_ms(void);

/* Tests: what is added to the wall clock from now on. */
void clock_shift_wall(int64_t by_ms);

#endif
