#include "store/pool.h"

#include <dirent.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static void sleep_ms(int ms)
{
	nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000L}, NULL);
}

/* How many threads of this process bear the name. */
static int threads_named(const char *name)
{
	int n = 0;
	DIR *dir = opendir("/proc/self/task");
	assert_non_null(dir);
	for (struct dirent *d; (d = readdir(dir));) {
		char path[300], have[40] = "";
		snprintf(path, sizeof path, "/proc/self/task/%s/comm", d->d_name);
		FILE *f = fopen(path, "r");
		if (!f)
			continue;
		if (fgets(have, sizeof have, f)) {
			have[strcspn(have, "\n")] = '\0';
			n += !strcmp(have, name);
		}
		fclose(f);
	}
	closedir(dir);
	return n;
}

/* A job that says when it ran. */
struct job {
	struct pool_job job;
	int number;
	int wait_ms;
	struct shared *shared;
};

struct shared {
	_Atomic int ran, running, most;
	int order[3000];
};

static void run_job(struct pool_job *j)
{
	struct job *job = (struct job *)j;
	struct shared *s = job->shared;
	int running = ++s->running, most = s->most;
	while (running > most && !atomic_compare_exchange_weak(&s->most, &most, running))
		;
	if (job->wait_ms)
		sleep_ms(job->wait_ms);
	s->running--;
	s->order[s->ran++] = job->number;
}

static void give(struct pool *p, struct shared *s, struct job *jobs, int n, int wait_ms)
{
	for (int i = 0; i < n; i++) {
		jobs[i] = (struct job){{.run = run_job}, i, wait_ms, s};
		pool_run(p, &jobs[i].job);
	}
}

static void test_free_of_none_and_of_an_idle_one(void **state)
{
	(void)state;
	pool_free(NULL);
	struct pool *p = pool_new("idle", 4);
	assert_non_null(p);
	pool_free(p);
}

static void test_one_thread_runs_in_order(void **state)
{
	(void)state;
	static struct job jobs[1000];
	struct shared s = {.ran = 0};
	struct pool *p = pool_new("order", 1);
	give(p, &s, jobs, 1000, 0);
	pool_free(p); /* which waits for all of them */
	assert_int_equal(s.ran, 1000);
	assert_int_equal(s.most, 1);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(s.order[i], i);
}

static void test_bound_is_reached_and_kept(void **state)
{
	(void)state;
	static struct job jobs[40];
	struct shared s = {.ran = 0};
	struct pool *p = pool_new("bound", 4);
	give(p, &s, jobs, 40, 10);
	assert_true(threads_named("bound") <= 4);
	pool_free(p);
	assert_int_equal(s.ran, 40);
	assert_int_equal(s.most, 4);
}

static void test_idle_thread_is_taken_before_a_new_one(void **state)
{
	(void)state;
	static struct job jobs[20];
	struct shared s = {.ran = 0};
	struct pool *p = pool_new("reuse", 8);
	for (int i = 0; i < 20; i++) {
		jobs[i] = (struct job){{.run = run_job}, i, 0, &s};
		pool_run(p, &jobs[i].job);
		while (s.ran <= i)
			sleep_ms(1);
		sleep_ms(5); /* until it waits again */
	}
	assert_true(threads_named("reuse") <= 3); /* 1, but for a busy machine */
	pool_free(p);
}

static void test_no_thread_to_be_had_runs_in_the_caller(void **state)
{
	(void)state;
	static struct job jobs[3];
	struct shared s = {.ran = 0};
	struct pool *p = pool_new("none", 0);
	give(p, &s, jobs, 3, 0);
	assert_int_equal(s.ran, 3);
	pool_free(p);
}

struct inside {
	struct pool_job job;
	char name[16];
	sigset_t blocked;
	_Atomic bool done;
};

static void look_inside(struct pool_job *j)
{
	struct inside *in = (struct inside *)j;
	pthread_getname_np(pthread_self(), in->name, sizeof in->name);
	pthread_sigmask(SIG_SETMASK, NULL, &in->blocked);
	in->done = true;
}

static void test_workers_have_names_and_take_no_signals(void **state)
{
	(void)state;
	struct inside in = {.job.run = look_inside};
	sigset_t before, after;
	pthread_sigmask(SIG_SETMASK, NULL, &before);
	struct pool *p = pool_new("a name longer than fifteen", 1);
	pool_run(p, &in.job);
	pool_free(p);
	pthread_sigmask(SIG_SETMASK, NULL, &after);
	assert_true(in.done);
	assert_string_equal(in.name, "a name longer t");
	static const int taken[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGCHLD, SIGALRM, SIGUSR1};
	for (size_t i = 0; i < sizeof taken / sizeof *taken; i++) {
		assert_true(sigismember(&in.blocked, taken[i]));
		assert_int_equal(sigismember(&after, taken[i]), sigismember(&before, taken[i]));
	}
	assert_false(sigismember(&in.blocked, SIGSEGV));
	assert_false(sigismember(&in.blocked, SIGBUS));
}

/* A job that gives itself again, then frees itself. */
struct again {
	struct pool_job job;
	struct pool *pool;
	int left;
	_Atomic int *ran;
};

static void run_again(struct pool_job *j)
{
	struct again *a = (struct again *)j;
	++*a->ran;
	if (a->left--)
		pool_run(a->pool, &a->job);
	else
		free(a);
}

static void test_job_may_be_given_again_and_freed_by_itself(void **state)
{
	(void)state;
	_Atomic int ran = 0;
	struct pool *p = pool_new("again", 3);
	for (int i = 0; i < 10; i++) {
		struct again *a = malloc(sizeof *a);
		*a = (struct again){{.run = run_again}, p, 100, &ran};
		pool_run(p, &a->job);
	}
	pool_free(p);
	assert_int_equal(ran, 10 * 101);
}

static void test_idle_threads_end(void **state)
{
	(void)state;
	static struct job jobs[3], more[3];
	struct shared s = {.ran = 0};
	struct pool *p = pool_new("ending", 3);
	give(p, &s, jobs, 3, 50);
	int waited_ms = 0;
	while (s.ran < 3)
		sleep_ms(1);
	assert_int_equal(threads_named("ending"), 3);
	for (; threads_named("ending") && waited_ms < 30000; waited_ms += 50)
		sleep_ms(50);
	assert_true(waited_ms > 2000 && waited_ms < 30000);
	give(p, &s, more, 3, 0); /* and new ones come when there is work */
	pool_free(p);
	assert_int_equal(s.ran, 6);
}

struct giver {
	struct pool *pool;
	_Atomic int ran;
};

static void *give_many(void *arg)
{
	struct giver *g = arg;
	for (int i = 0; i < 300; i++) {
		struct again *a = malloc(sizeof *a);
		*a = (struct again){{.run = run_again}, g->pool, i % 3, &g->ran};
		pool_run(g->pool, &a->job);
	}
	return NULL;
}

static void test_many_givers(void **state)
{
	(void)state;
	struct giver g = {.pool = pool_new("givers", 5)};
	pthread_t threads[8];
	for (int i = 0; i < 8; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, give_many, &g), 0);
	for (int i = 0; i < 8; i++)
		pthread_join(threads[i], NULL);
	pool_free(g.pool);
	assert_int_equal(g.ran, 8 * 600);
}

/* --- pool_for_each --- */

enum { MANY = 5000 };

static void count_one(void *arg, size_t i)
{
	((int *)arg)[i]++; /* plain: each index is one thread's, and the caller sees it afterwards */
}

static void test_each_index_once(void **state)
{
	(void)state;
	static int counts[MANY];
	static const size_t sizes[] = {0, 1, 2, 3, 7, 64, 65, MANY};
	static const unsigned bounds[] = {0, 1, 3, 100};
	for (size_t b = 0; b < 4; b++) {
		struct pool *p = pool_new("each", bounds[b]);
		for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
			memset(counts, 0, sizeof counts);
			pool_for_each(p, sizes[s], count_one, counts);
			for (size_t i = 0; i < MANY; i++)
				assert_int_equal(counts[i], i < sizes[s]);
		}
		pool_free(p);
	}
}

static void slow_one(void *arg, size_t i)
{
	(void)i;
	struct shared *s = arg;
	struct job job = {.wait_ms = 20, .shared = s};
	run_job(&job.job);
}

static void test_each_uses_threads_and_the_caller(void **state)
{
	(void)state;
	struct shared s = {.ran = 0};
	struct pool *p = pool_new("each", 3);
	pool_for_each(p, 40, slow_one, &s);
	assert_int_equal(s.ran, 40);
	assert_int_equal(s.running, 0);
	assert_int_equal(s.most, 4);
	pool_free(p);
}

struct nested {
	struct pool_job job;
	struct pool *pool;
	int counts[100];
	int depth;
};

static void nest(void *arg, size_t i)
{
	struct nested *n = arg;
	struct nested inner = {.pool = n->pool, .depth = n->depth - 1};
	if (n->depth) {
		pool_for_each(n->pool, 5, nest, &inner);
		for (int k = 0; k < 5; k++)
			assert_int_equal(inner.counts[k], 1);
	}
	n->counts[i]++;
}

static void run_nested(struct pool_job *j)
{
	struct nested *n = (struct nested *)j;
	pool_for_each(n->pool, 100, nest, n);
}

/* Every thread of the pool is itself a caller of pool_for_each, some levels deep: it must not wait for helpers that
 * no thread is left to run. */
static void test_each_inside_jobs_is_no_deadlock(void **state)
{
	(void)state;
	static struct nested jobs[12];
	struct pool *p = pool_new("nested", 3);
	for (int i = 0; i < 12; i++) {
		jobs[i] = (struct nested){{.run = run_nested}, p, .depth = 2};
		pool_run(p, &jobs[i].job);
	}
	pool_free(p);
	for (int i = 0; i < 12; i++)
		for (int k = 0; k < 100; k++)
			assert_int_equal(jobs[i].counts[k], 1);
}

static void *each_by_thread(void *arg)
{
	static _Thread_local int counts[MANY];
	for (int round = 0; round < 20; round++) {
		memset(counts, 0, sizeof counts);
		pool_for_each(arg, 200, count_one, counts);
		for (int i = 0; i < 200; i++)
			if (counts[i] != 1)
				return arg;
	}
	return NULL;
}

static void test_each_by_many_threads(void **state)
{
	(void)state;
	struct pool *p = pool_new("callers", 4);
	static struct job jobs[500];
	struct shared s = {.ran = 0};
	pthread_t threads[6];
	for (int i = 0; i < 6; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, each_by_thread, p), 0);
	give(p, &s, jobs, 500, 0); /* other jobs between the helpers, that must not be lost when those are recalled */
	for (int i = 0; i < 6; i++) {
		void *bad;
		pthread_join(threads[i], &bad);
		assert_null(bad);
	}
	pool_free(p);
	assert_int_equal(s.ran, 500);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_free_of_none_and_of_an_idle_one),
		cmocka_unit_test(test_one_thread_runs_in_order),
		cmocka_unit_test(test_bound_is_reached_and_kept),
		cmocka_unit_test(test_idle_thread_is_taken_before_a_new_one),
		cmocka_unit_test(test_no_thread_to_be_had_runs_in_the_caller),
		cmocka_unit_test(test_workers_have_names_and_take_no_signals),
		cmocka_unit_test(test_job_may_be_given_again_and_freed_by_itself),
		cmocka_unit_test(test_idle_threads_end),
		cmocka_unit_test(test_many_givers),
		cmocka_unit_test(test_each_index_once),
		cmocka_unit_test(test_each_uses_threads_and_the_caller),
		cmocka_unit_test(test_each_inside_jobs_is_no_deadlock),
		cmocka_unit_test(test_each_by_many_threads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
