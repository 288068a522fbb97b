/*
 * table: what both directions of the engine ask of a field's description. Private to cluster/wire.
 */
#ifndef CLUSTER_WIRE_TABLE_H
#define CLUSTER_WIRE_TABLE_H

#include "cluster/wire/wire.h"

/* Bytes on the wire of what has a fixed size (bool to uuid), and of its C value; wire_value_size knows strings too. */
extern const uint8_t wire_scalar_size[WIRE_ARRAY + 1], wire_value_size[WIRE_ARRAY + 1];

void wire_set_default(const struct wire_field *f, void *value);
bool wire_is_default(const struct wire_field *f, const void *value);

#endif
