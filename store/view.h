/*
 * view: a segment's sparse map from byte position in the mounted file to record, in a file of our own.
 *
 * The mounted file is, for every visible data record in offset order, its value and a newline. `<base>.view` lets a read at any
 * position start within about log.index.interval.bytes of log:
 *
 *   header, 32 bytes:  magic "SPVW" | version u16 (1) | entry bytes u16 (24) | base offset i64 | first position i64 | crc u32 of the 24
 *                      bytes before it | zero u32
 *   entry, 24 bytes:   position i64 (absolute) | relative offset u32 | batch position u32 (in the .log) | byte in batch u32 | crc u32
 *
 * An entry says: the view of the record with that offset begins at that position, if it has one. Byte in batch is 0 where the record is
 * its batch's first, else the distance from the batch's start to the record (uncompressed batches only). The crc
 * of an entry is CRC32C over the base offset i64, the entry's number u32 and its first 20 bytes: an entry that was moved, or left over, does not pass.
 * Offsets rise strictly; positions and batch positions never fall (the last of equal positions is the one found). Positions may be negative. A lookup is sound
 * although only the two entries around the answer are checked: both are valid and adjacent, and the position lies between them.
 *
 * All but the first position is derived from the log: any damage means "rebuild", never wrong bytes. Big-endian.
 *
 * thread: as store/entries.h.
 */
#ifndef STORE_VIEW_H
#define STORE_VIEW_H

#include "store/entries.h"

enum { VIEW_VERSION = 1, VIEW_HEADER_BYTES = 32, VIEW_ENTRY_BYTES = 24 };

struct view { struct entries e; int64_t base_offset, first_position; };

struct view_entry { int64_t position, offset; uint32_t batch_position, byte_in_batch; };

/* ERR_NOT_FOUND, ERR_CORRUPT (rebuild), ERR_VERSION (a newer spoolfs). After a failure, of view_create too, v is closed. */
int view_open(struct view *v, const char *path, int64_t base_offset, bool writable, size_t reserve_bytes, struct err *e);
/* An empty one, replacing what may be there. */
int view_create(struct view *v, const char *path, int64_t base_offset, int64_t first_position, size_t reserve_bytes, struct err *e);
void view_close(struct view *v);

int view_append(struct view *v, const struct view_entry *entry, struct err *e);
/* All or none; readers see none before all. */
int view_append_many(struct view *v, const struct view_entry *entry, uint32_t n, struct err *e);

/* The last entry at or before the position / the offset, and its number. 1: found; 0: none; ERR_CORRUPT: the entry, or the next, fails its crc. */
int view_find_position(const struct view *v, int64_t position, struct view_entry *found, uint32_t *number);
int view_find_offset(const struct view *v, int64_t offset, struct view_entry *found);
int view_last(const struct view *v, struct view_entry *found);
int view_entry_at(const struct view *v, uint32_t i, struct view_entry *found);

/* Cuts the entries of batches at or past that batch position, and damaged ones among or right before them. */
int view_truncate(struct view *v, uint32_t batch_position, struct err *e);
/* As entries_hide. */
int view_hide(struct view *v, uint32_t batch_position, struct err *e);

#endif
