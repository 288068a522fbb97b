/* Requests that wait for what they have asked for to be written. */
#include "cluster/control/state.h"

#include <stddef.h>

static const struct wire_struct *response_of(const struct call *c)
{
	return api_find(c->api_key)->response;
}

/* Whoever asked looks for the next controller. */
void brain_not_controller(int api_key, void *response)
{
	static const char why[] = "this broker is not the controller";
	if (api_key < 0) {
		*(struct brain_answer *)response = (struct brain_answer){KAFKA_NOT_CONTROLLER, why};
		return;
	}
	wire_init(api_find(api_key)->response, response);
	switch (api_key) {
	case API_ALTER_PARTITION:
		((struct alter_partition_response *)response)->error_code = KAFKA_NOT_CONTROLLER;
		break;
	case API_CONTROLLED_SHUTDOWN:
		((struct controlled_shutdown_response *)response)->error_code = KAFKA_NOT_CONTROLLER;
		break;
	case API_ELECT_LEADERS:
		((struct elect_leaders_response *)response)->error_code = KAFKA_NOT_CONTROLLER;
		break;
	case API_ALTER_PARTITION_REASSIGNMENTS:
		((struct alter_partition_reassignments_response *)response)->error_code = KAFKA_NOT_CONTROLLER;
		((struct alter_partition_reassignments_response *)response)->error_message = wire_string(why);
		break;
	default:
		((struct list_partition_reassignments_response *)response)->error_code = KAFKA_NOT_CONTROLLER;
		((struct list_partition_reassignments_response *)response)->error_message = wire_string(why);
	}
}

static struct call *try_new(struct brain *b, void *ticket, int api_key)
{
	struct call *c = brain_need(b, calloc(1, sizeof *c));
	if (!c)
		return NULL;
	c->ticket = ticket;
	c->api_key = api_key;
	c->left = 1;
	arena_init(&c->arena, 0);
	size_t size = api_key < 0 ? sizeof(struct brain_answer) : response_of(c)->size;
	c->response = brain_need(b, arena_get(&c->arena, size, NULL));
	if (!c->response) {
		arena_release(&c->arena);
		free(c);
		return NULL;
	}
	memset(c->response, 0, size);
	if (api_key >= 0)
		wire_init(response_of(c), c->response);
	return c;
}

struct call *call_new(struct brain *b, void *ticket, int api_key)
{
	struct call *c = brain_ok(b) ? try_new(b, ticket, api_key) : NULL;
	if (!c) {
		max_align_t room[32];
		brain_not_controller(api_key, room);
		b->o.answer(b->o.arg, ticket, room);
		return NULL;
	}
	c->next = b->calls;
	c->back = &b->calls;
	if (c->next)
		c->next->back = &c->next;
	b->calls = c;
	return c;
}

void call_done(struct brain *b, struct call *c)
{
	if (--c->left > 0)
		return;
	*c->back = c->next;
	if (c->next)
		c->next->back = c->back;
	if (c->all)
		elect_leave_out(c->response);
	b->o.answer(b->o.arg, c->ticket, c->response);
	arena_release(&c->arena);
	free(c);
}

void calls_refuse(struct brain *b, struct call **all, int16_t error, const char *message)
{
	while (*all) {
		struct call *c = *all;
		*all = c->with;
		*(struct brain_answer *)c->response = (struct brain_answer){error, message};
		call_done(b, c);
	}
}

void call_answer_topic(struct brain *b, void *ticket, int16_t error, const char *message)
{
	struct brain_answer a = {error, message};
	b->o.answer(b->o.arg, ticket, &a);
}

struct item *item_new(struct brain *b, struct call *c, void *result)
{
	struct item *i = brain_need(b, calloc(1, sizeof *i));
	if (!i)
		return NULL;
	i->call = c;
	i->result = result;
	if (c)
		c->left++;
	return i;
}

static struct wire_string text(const char *message)
{
	return message ? wire_string(message) : WIRE_NULL_STRING;
}

void item_done(struct brain *b, struct part *p, enum item_kind kind, int16_t error, const char *message)
{
	struct item *i = p->item[kind];
	if (!i)
		return;
	p->item[kind] = NULL;
	if (i->call) {
		if (kind == ITEM_ALTER) {
			((struct alter_partition_response_partition *)i->result)->error_code = error;
		} else if (kind == ITEM_REASSIGN) {
			struct alter_partition_reassignments_response_partition *r = i->result;
			r->error_code = error;
			r->error_message = text(message);
		} else {
			struct elect_leaders_response_partition *r = i->result;
			r->error_code = error;
			r->error_message = text(message);
		}
		call_done(b, i->call);
	}
	free(i->wanted);
	free(i);
}

void item_put(struct brain *b, struct part *p, enum item_kind kind, struct item *i)
{
	item_done(b, p, kind, KAFKA_REQUEST_TIMED_OUT, "a later request has taken its place");
	p->item[kind] = i;
	part_dirty(b, part_row(b, p));
}

void item_drop(struct part *p, enum item_kind kind)
{
	if (!p->item[kind])
		return;
	free(p->item[kind]->wanted);
	free(p->item[kind]);
	p->item[kind] = NULL;
}

void calls_give_up(struct brain *b)
{
	for (struct call *c; (c = b->calls);) {
		brain_not_controller(c->api_key, c->response);
		c->left = 1;
		c->all = false;
		call_done(b, c);
	}
}
