/*
 * stream: a read handle of a compacted topic's file.
 *
 * Such a file is the records that are left, each once, in order. It has no positions: lseek and pread are ESPIPE (the kernel is told that it cannot seek), a READ elsewhere than where
 * the last one ended (of a mapping) too. At the end a READ gives nothing, and more later.
 *
 * The file's size is 0, as that of /proc's. But tail -f takes a size that is less than what it has read for a file that was cut, and reads on only while the size is more. So each of these
 * handles has a node of its own, whose size is what it has read, and more where there is more. Before its first READ it is 0.
 *
 * thread: any. locks: its mutex, held over the reading.
 */
#ifndef FS_STREAM_H
#define FS_STREAM_H

#include <fuse3/fuse_lowlevel.h>
#include <stdint.h>

struct partition;
struct stream;

/* p: borrowed and acquired until stream_free. NULL: no memory. */
struct stream *stream_new(struct partition *p);
/* `gone` is called, maybe later and by another thread, when p is not used any more. No READ is under way. */
void stream_free(struct stream *s, void (*gone)(void *arg), void *arg);

/* Answers a READ. Blocks on the disk. */
void stream_read(struct stream *s, fuse_req_t req, int64_t at, size_t size);

/* For stat. end_offset: the partition's visible end. */
int64_t stream_size(const struct stream *s, int64_t end_offset);

#endif
