/*
 * table: columns of text that stand below each other, for what commands print.
 *
 * thread: one.
 */
#ifndef FS_TABLE_H
#define FS_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct table {
	char **cell; /* row by row, the headings first */
	size_t count, cap, columns;
	bool failed; /* no memory */
};

/* headings: one for each column; borrowed. */
void table_init(struct table *t, const char *const *headings, size_t columns);
void table_release(struct table *t);
/* Cell by cell, row by row. Control characters are printed as \xNN. NULL is "-". */
void table_text(struct table *t, const char *text);
void table_number(struct table *t, int64_t n);
/* To stdout. false: no memory, and nothing is printed. */
bool table_print(const struct table *t);

#endif
