#include "cluster/api/leaders.h"

#include <stdlib.h>

#include "cluster/join.h"
#include "cluster/partition.h"

bool call_is_elsewhere(const struct call *c, const struct partition *p)
{
	return call_join(c) && partition_dir(p) < 0;
}

void partition_leader_now(struct partition *p, int32_t *leader, int32_t *epoch)
{
	struct partition_standing s = {.leader = -1, .leader_epoch = -1};
	struct partition_metadata m;
	if (p)
		partition_standing(p, &s);
	*leader = s.leader;
	*epoch = s.leader_epoch;
	if (p && s.leader < 0 && partition_metadata(p, &m) && m.leader_epoch >= s.leader_epoch) {
		*leader = m.leader < 0 ? -1 : m.leader;
		*epoch = m.leader_epoch;
	}
}

static struct wire_string copy(struct call *c, const char *s)
{
	char *text = call_text(c, wire_string(s));
	return text ? wire_string(text) : WIRE_NULL_STRING;
}

bool call_node(struct call *c, int32_t id, struct leader_node *n)
{
	size_t count = 0;
	struct join *j = call_join(c);
	struct join_broker *all = j ? join_brokers(j, &count) : NULL;
	*n = (struct leader_node){.id = -1};
	for (size_t i = 0; i < count; i++)
		if (all[i].id == id)
			*n = (struct leader_node){id, all[i].port, copy(c, all[i].host), all[i].rack ? copy(c, all[i].rack) : WIRE_NULL_STRING};
	free(all);
	return n->id >= 0 && n->host.n >= 0;
}

int32_t *call_rack(struct call *c, struct wire_string rack, int *count)
{
	size_t n = 0;
	struct join *j = call_join(c);
	struct join_broker *all = j && rack.n > 0 ? join_brokers(j, &n) : NULL;
	int32_t *ids = n ? call_get(c, n * sizeof *ids) : NULL;
	*count = 0;
	for (size_t i = 0; ids && i < n; i++)
		if (all[i].rack && wire_string_is(rack, all[i].rack))
			ids[(*count)++] = all[i].id;
	free(all);
	return ids;
}
