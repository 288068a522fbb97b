#include "fs/lines.h"

#include <stdlib.h>
#include <string.h>

enum { KEEP_BYTES = 64 << 10 }; /* memory that an empty line keeps for the next */

static bool is_in_use(const struct line *l)
{
	return l->text.len || l->refused || l->lost;
}

struct line *lines_find(struct line *list, uint64_t owner)
{
	while (list && !(list->owner == owner && is_in_use(list)))
		list = list->next;
	return list;
}

struct line *lines_need(struct line **list, uint64_t owner)
{
	struct line *l = lines_find(*list, owner);
	for (struct line *any = *list; !l && any; any = any->next)
		if (!is_in_use(any))
			l = any;
	if (!l) {
		l = malloc(sizeof *l);
		if (!l)
			return NULL;
		*l = (struct line){.next = *list};
		wr_init(&l->text, 0);
		*list = l;
	}
	l->owner = owner;
	return l;
}

void lines_free(struct line *list)
{
	while (list) {
		struct line *next = list->next;
		wr_release(&list->text);
		free(list);
		list = next;
	}
}

void line_clear(struct line *l)
{
	l->refused = false;
	l->failed = 0;
	if (l->text.cap > KEEP_BYTES)
		wr_release(&l->text);
	wr_clear(&l->text);
}

static size_t head_bytes(size_t n)
{
	return n < sizeof((struct line *)0)->refused_head ? n : sizeof((struct line *)0)->refused_head;
}

void line_refuse(struct line *l, const char *text, size_t n)
{
	l->lost |= l->text.len > 0;
	line_clear(l);
	l->refused = true;
	l->goes_on = text[n - 1] != '\n';
	l->refused_bytes = n;
	memcpy(l->refused_head, text, head_bytes(n));
}

bool line_is_refused_again(const struct line *l, const char *text, size_t n)
{
	return l->refused && n <= l->refused_bytes && !memcmp(l->refused_head, text, head_bytes(n));
}
