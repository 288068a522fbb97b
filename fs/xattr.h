/*
 * xattr: what the mount tells of a file beyond stat: the attributes user.spoolfs.*, by kind of file. They cannot be set.
 *
 * thread: any.
 */
#ifndef FS_XATTR_H
#define FS_XATTR_H

#include "fs/node.h"
#include "store/buf.h"
#include "store/err.h"

/* The value, appended to text. ERR_UNSUPPORTED for any name but user.spoolfs.*, which makes tools stop asking; ERR_NOT_FOUND. data: real path of DATA. */
int xattr_get(const struct node *n, const struct broker *b, const char *data, const char *name, struct wr *text, struct err *e);

/* Of a partition's attributes: which it is, for the others; -1: none of them. */
int xattr_find(const struct node *n, const char *name);
/* Whether it may have to wait for other brokers. */
bool xattr_may_wait(const struct node *n, int which);
int xattr_get_one(const struct node *n, const struct broker *b, int which, struct wr *text, struct err *e);

/* The names, each ended by a NUL, appended. */
int xattr_list(const struct node *n, struct wr *names, struct err *e);

#endif
