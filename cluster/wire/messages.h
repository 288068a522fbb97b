/*
 * messages: the C structs of every message, and their tables (`wire_<name>`), from the descriptions in messages/.
 *
 * A description is a list of fields in the order of the wire: F(S, type, name, versions, more...).
 *   type      bool int8 int16 uint16 int32 uint32 int64 float64 uuid string bytes records;
 *             list(int32), list(string): an array of those, in C { int32_t *v; int32_t n; }
 *             array(x): an array of structs x; nested(x): one in its place; optional(x): a pointer to one, or NULL
 *   versions  ALWAYS, SINCE(n), UNTIL(n), BETWEEN(a, b), the last ones included
 *   more      .nullable = versions · .tagged = versions, .tag = n · .def = the default, where it is not zero (NULL_DEFAULT: null) ·
 *             IGNORABLE: encoding a version without it drops it silently
 * A struct comes before those that contain it. Names are those of Kafka's schemas, in our spelling. Facts as of Apache Kafka 4.1.
 */
#ifndef CLUSTER_WIRE_MESSAGES_H
#define CLUSTER_WIRE_MESSAGES_H

#include "cluster/wire/wire.h"

#define WIRE_C_bool bool
#define WIRE_C_int8 int8_t
#define WIRE_C_int16 int16_t
#define WIRE_C_uint16 uint16_t
#define WIRE_C_int32 int32_t
#define WIRE_C_uint32 uint32_t
#define WIRE_C_int64 int64_t
#define WIRE_C_float64 double
#define WIRE_C_uuid struct wire_uuid
#define WIRE_C_string struct wire_string
#define WIRE_C_bytes struct wire_bytes
#define WIRE_C_records struct wire_records
#define WIRE_C_list(type) struct { WIRE_C_##type *v; int32_t n; }
#define WIRE_C_array(name) struct { struct name *v; int32_t n; }
#define WIRE_C_nested(name) struct name
#define WIRE_C_optional(name) struct name *

#define WIRE_MEMBER(S, type, name, ...) WIRE_C_##type name;
#define WIRE_STRUCT(name) struct name { FIELDS_##name(WIRE_MEMBER, name) }; extern const struct wire_struct wire_##name;
#define WIRE_MESSAGE(name, first, last, flexible) WIRE_STRUCT(name)

#include "cluster/wire/messages/list.h"

#undef WIRE_MESSAGE
#undef WIRE_STRUCT
#undef WIRE_MEMBER

#endif
