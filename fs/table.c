#include "fs/table.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void table_init(struct table *t, const char *const *headings, size_t columns)
{
	*t = (struct table){.columns = columns};
	for (size_t i = 0; i < columns; i++)
		table_text(t, headings[i]);
}

void table_release(struct table *t)
{
	for (size_t i = 0; i < t->count; i++)
		free(t->cell[i]);
	free(t->cell);
}

static char *printable(const char *text)
{
	char *copy = malloc(4 * strlen(text) + 1), *to = copy;
	for (; copy && *text; text++)
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			to += sprintf(to, "\\x%02x", (unsigned char)*text);
		else
			*to++ = *text;
	if (copy)
		*to = 0;
	return copy;
}

void table_text(struct table *t, const char *text)
{
	if (t->count == t->cap) {
		size_t cap = t->cap ? 2 * t->cap : 64;
		char **cell = realloc(t->cell, cap * sizeof *cell);
		if (!cell) {
			t->failed = true;
			return;
		}
		t->cell = cell;
		t->cap = cap;
	}
	char *copy = printable(text ? text : "-");
	if (copy)
		t->cell[t->count++] = copy;
	else
		t->failed = true;
}

void table_number(struct table *t, int64_t n)
{
	char text[24];
	snprintf(text, sizeof text, "%" PRId64, n);
	table_text(t, text);
}

static int width_of(const struct table *t, size_t column)
{
	size_t width = 0;
	for (size_t i = column; i < t->count; i += t->columns)
		if (strlen(t->cell[i]) > width)
			width = strlen(t->cell[i]);
	return (int)width;
}

bool table_print(const struct table *t)
{
	int *width = t->failed ? NULL : calloc(t->columns, sizeof *width);
	if (!width)
		return false;
	for (size_t c = 0; c + 1 < t->columns; c++)
		width[c] = width_of(t, c);
	for (size_t i = 0; i < t->count; i++) {
		bool last = i % t->columns == t->columns - 1;
		printf("%-*s%s", last ? 0 : width[i % t->columns], t->cell[i], last ? "\n" : "  ");
	}
	free(width);
	return true;
}
