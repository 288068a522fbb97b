#include "cluster/control/placement.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static uint64_t next_random(uint64_t *seed)
{
	uint64_t z = *seed += 0x9e3779b97f4a7c15u;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

/* The brokers in the order in which leaders are given out, and the rack of each as a number. */
struct ring {
	int32_t *id, *rack;
	int32_t n, racks;
};

static int by_rack_and_id(const void *x, const void *y)
{
	const struct placement_broker *a = x, *b = y;
	int c = strcmp(a->rack, b->rack);
	return c ? c : (a->id > b->id) - (a->id < b->id);
}

/* One broker of each rack in turn, so that neighbours in the ring are in different racks for as long as that can be. */
static int interleave(struct ring *r, const struct placement_broker *broker, struct err *e)
{
	struct placement_broker *sorted = malloc((size_t)r->n * sizeof *sorted);
	int32_t *begin = malloc(((size_t)r->n + 1) * sizeof *begin);
	if (!sorted || !begin) {
		free(sorted);
		free(begin);
		return err_set(e, ERR_NO_MEMORY, "no memory to place replicas");
	}
	memcpy(sorted, broker, (size_t)r->n * sizeof *sorted);
	qsort(sorted, (size_t)r->n, sizeof *sorted, by_rack_and_id);
	for (int32_t i = 0; i < r->n; i++) {
		if (!i || strcmp(sorted[i].rack, sorted[i - 1].rack) != 0)
			begin[r->racks++] = i;
	}
	begin[r->racks] = r->n;
	int32_t made = 0;
	for (int32_t round = 0; made < r->n; round++) {
		for (int32_t rack = 0; rack < r->racks; rack++) {
			if (begin[rack] + round < begin[rack + 1]) {
				r->id[made] = sorted[begin[rack] + round].id;
				r->rack[made++] = rack;
			}
		}
	}
	free(sorted);
	free(begin);
	return 0;
}

static int make_ring(struct ring *r, const struct placement_broker *broker, int32_t n, struct err *e)
{
	bool racks = true;
	r->n = n;
	r->id = malloc((size_t)n * sizeof *r->id);
	r->rack = malloc((size_t)n * sizeof *r->rack);
	if (!r->id || !r->rack)
		return err_set(e, ERR_NO_MEMORY, "no memory to place replicas");
	for (int32_t i = 0; i < n; i++)
		racks = racks && broker[i].rack;
	if (racks)
		return interleave(r, broker, e);
	/* Each broker its own rack: then the rules for racks are those without. */
	r->racks = n;
	for (int32_t i = 0; i < n; i++) {
		r->id[i] = broker[i].id;
		r->rack[i] = i;
	}
	return 0;
}

/* One partition: round the ring from behind the leader, and further off in each round of leaders; a broker is passed over while its rack has a replica and another rack has none. */
static void place_one(const struct ring *r, int32_t leader, int64_t shift, int32_t replication_factor, int32_t *of_rack, bool *taken, int32_t *out)
{
	int32_t racks_used = 1, n = 0;
	memset(of_rack, 0, (size_t)r->racks * sizeof *of_rack);
	memset(taken, 0, (size_t)r->n);
	out[n++] = r->id[leader];
	taken[leader] = true;
	of_rack[r->rack[leader]]++;
	for (int32_t step = 0; n < replication_factor; step = (step + 1) % (r->n - 1)) {
		int32_t at = (int32_t)((leader + 1 + (shift * r->racks + step) % (r->n - 1)) % r->n);
		if (taken[at] || (of_rack[r->rack[at]] && racks_used < r->racks))
			continue;
		taken[at] = true;
		racks_used += of_rack[r->rack[at]]++ == 0;
		out[n++] = r->id[at];
	}
}

int placement_make(const struct placement_broker *broker, int32_t brokers, int32_t first, int32_t partitions, int32_t replication_factor, int32_t leader, uint64_t *seed, int32_t *out,
	struct err *e)
{
	if (replication_factor < 1 || replication_factor > brokers)
		return err_set(e, ERR_OUT_OF_RANGE, "replication factor %d with %d live brokers: each replica needs a broker of its own", replication_factor, brokers);
	struct ring r = {0};
	int rc = make_ring(&r, broker, brokers, e);
	int32_t *of_rack = malloc((size_t)brokers * sizeof *of_rack);
	bool *taken = malloc((size_t)brokers);
	if (rc == 0 && (!of_rack || !taken))
		rc = err_set(e, ERR_NO_MEMORY, "no memory to place replicas");
	if (rc == 0) {
		int32_t start = leader < 0 ? (int32_t)(next_random(seed) % (uint64_t)brokers) : 0;
		for (int32_t i = 0; leader >= 0 && i < brokers; i++)
			start = r.id[i] == leader ? i : start;
		int64_t shift = (leader < 0 ? (int32_t)(next_random(seed) % (uint64_t)brokers) : start) + first / brokers;
		for (int32_t i = 0; i < partitions; i++) {
			int32_t number = first + i;
			if (i && number % brokers == 0)
				shift++;
			place_one(&r, (int32_t)(((int64_t)start + number) % brokers), shift, replication_factor, of_rack, taken, out + (size_t)i * (size_t)replication_factor);
		}
	}
	free(r.id);
	free(r.rack);
	free(of_rack);
	free(taken);
	return rc;
}
