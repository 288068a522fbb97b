/* What is for the controller: by other brokers, and by whoever moves leaders and replicas. Whoever asks one that is not the controller is told so. */
#include "cluster/api/call.h"
#include "cluster/join.h"

struct asked {
	struct controller_call call;
	struct call *c;
};

static void answered(struct controller_call *call, const void *response)
{
	struct asked *a = (struct asked *)call;
	call_answer(a->c, response);
}

static void ask(struct call *c, enum controller_kind kind)
{
	struct asked *a = call_get(c, sizeof *a);
	if (!a) {
		call_close(c, "no memory");
		return;
	}
	a->c = c;
	a->call = (struct controller_call){.kind = kind, .request = c->request, .answer = answered};
	join_ask(call_join(c), &a->call);
}

void handle_controlled_shutdown(struct call *c)
{
	ask(c, CONTROLLER_SHUTDOWN);
}

void handle_alter_partition(struct call *c)
{
	ask(c, CONTROLLER_ALTER_PARTITION);
}

void handle_elect_leaders(struct call *c)
{
	ask(c, CONTROLLER_ELECT);
}

void handle_alter_partition_reassignments(struct call *c)
{
	ask(c, CONTROLLER_REASSIGN);
}

void handle_list_partition_reassignments(struct call *c)
{
	ask(c, CONTROLLER_LIST_REASSIGNMENTS);
}
