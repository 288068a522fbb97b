/* Where replicas of new partitions go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cluster/control/placement.h"

enum { MOST = 64 };

static const char *const rack_names[] = {"a", "b", "c", "d", "e"};

static int rack_of(const struct placement_broker *b, int n, int32_t id)
{
	for (int i = 0; i < n; i++) {
		if (b[i].id == id)
			return b[i].rack ? b[i].rack[0] - 'a' : id;
	}
	fail();
	return -1;
}

static void try(int brokers, int racks, int partitions, int factor, uint64_t seed)
{
	struct placement_broker b[MOST] = {{0}};
	int32_t leaders[MOST] = {0}, all[MOST] = {0}, *out = malloc((size_t)(partitions * factor) * sizeof *out);
	for (int i = 0; i < brokers; i++)
		b[i] = (struct placement_broker){i, racks ? rack_names[i % racks] : NULL};
	assert_int_equal(placement_make(b, brokers, 0, partitions, factor, -1, &seed, out, NULL), 0);
	for (int p = 0; p < partitions; p++) {
		int used[MOST] = {0}, distinct = 0;
		for (int r = 0; r < factor; r++) {
			int32_t id = out[p * factor + r];
			all[id]++;
			for (int k = 0; k < r; k++)
				assert_int_not_equal(out[p * factor + k], id);
			if (racks)
				distinct += used[rack_of(b, brokers, id)]++ == 0;
		}
		leaders[out[p * factor]]++;
		if (racks)
			assert_int_equal(distinct, factor < racks ? factor : racks); /* no two in one rack while another has none */
	}
	for (int i = 0; i < brokers; i++) {
		assert_in_range(leaders[i], partitions / brokers, (partitions + brokers - 1) / brokers);
		if (partitions % brokers == 0 && (!racks || brokers % racks == 0))
			assert_in_range(all[i], partitions * factor / brokers - partitions / brokers, partitions * factor / brokers + partitions / brokers);
		if (partitions % (brokers * (brokers - 1 ? brokers - 1 : 1)) == 0 && !racks)
			assert_int_equal(all[i], partitions * factor / brokers);
	}
	free(out);
}

static void test_replicas_are_spread_over_brokers_and_racks(void **state)
{
	(void)state;
	for (int brokers = 1; brokers <= 12; brokers++) {
		for (int racks = 0; racks <= 5 && racks <= brokers; racks++) {
			for (int factor = 1; factor <= brokers && factor <= 5; factor++) {
				for (int partitions = 1; partitions <= 60; partitions += 7)
					try(brokers, racks, partitions, factor, (uint64_t)(brokers * 100 + racks * 10 + factor));
				try(brokers, racks, brokers * 10, factor, 5);
				try(brokers, racks, brokers * (brokers - 1 ? brokers - 1 : 1), factor, 9);
			}
		}
	}
}

static void test_followers_of_one_leader_are_spread(void **state)
{
	(void)state;
	struct placement_broker b[5];
	int32_t out[40], with[5][5] = {{0}};
	uint64_t seed = 3;
	for (int i = 0; i < 5; i++)
		b[i] = (struct placement_broker){i, NULL};
	assert_int_equal(placement_make(b, 5, 0, 20, 2, -1, &seed, out, NULL), 0);
	for (int p = 0; p < 20; p++)
		with[out[2 * p]][out[2 * p + 1]]++;
	for (int i = 0; i < 5; i++) {
		for (int k = 0; k < 5; k++)
			assert_int_equal(with[i][k], i != k);
	}
}

static void test_new_partitions_go_on_where_the_old_ones_ended(void **state)
{
	(void)state;
	struct placement_broker b[4];
	int32_t out[8];
	uint64_t seed = 3;
	for (int i = 0; i < 4; i++)
		b[i] = (struct placement_broker){10 + i, NULL};
	/* Partition 0 is led by 12: partition 5 by the one after it. */
	assert_int_equal(placement_make(b, 4, 5, 4, 2, 12, &seed, out, NULL), 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(out[2 * i], 10 + (2 + 5 + i) % 4);
}

static void test_more_replicas_than_brokers_are_refused(void **state)
{
	(void)state;
	struct placement_broker b[2] = {{1, NULL}, {2, "a"}};
	int32_t out[6];
	uint64_t seed = 1;
	struct err e = ERR_INIT;
	assert_int_equal(placement_make(b, 2, 0, 2, 3, -1, &seed, out, &e), ERR_OUT_OF_RANGE);
	assert_int_equal(placement_make(b, 2, 0, 2, 0, -1, &seed, out, &e), ERR_OUT_OF_RANGE);
	assert_int_equal(placement_make(b, 2, 0, 2, 2, -1, &seed, out, &e), 0); /* a broker without a rack: racks are not looked at */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_replicas_are_spread_over_brokers_and_racks),
		cmocka_unit_test(test_followers_of_one_leader_are_spread),
		cmocka_unit_test(test_new_partitions_go_on_where_the_old_ones_ended),
		cmocka_unit_test(test_more_replicas_than_brokers_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
