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
int xattr_get(const struct node *n, const char *data, const char *name, struct wr *text, struct err *e);

/* The names, each ended by a NUL, appended. */
int xattr_list(const struct node *n, struct wr *names, struct err *e);

#endif
