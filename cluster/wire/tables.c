/* The tables of every message: the descriptions of messages/ a second time, as constants. */
#include "cluster/wire/messages.h"

#define ALWAYS {0, INT16_MAX}
#define SINCE(n) {n, INT16_MAX}
#define UNTIL(n) {0, (n) + 1}
#define BETWEEN(a, b) {a, (b) + 1}
#define NEVER INT16_MAX
#define NULL_DEFAULT (-1)
#define IGNORABLE .ignorable = true

#define WIRE_T_bool .type = WIRE_BOOL
#define WIRE_T_int8 .type = WIRE_INT8
#define WIRE_T_int16 .type = WIRE_INT16
#define WIRE_T_uint16 .type = WIRE_UINT16
#define WIRE_T_int32 .type = WIRE_INT32
#define WIRE_T_uint32 .type = WIRE_UINT32
#define WIRE_T_int64 .type = WIRE_INT64
#define WIRE_T_float64 .type = WIRE_FLOAT64
#define WIRE_T_uuid .type = WIRE_UUID
#define WIRE_T_string .type = WIRE_STRING
#define WIRE_T_bytes .type = WIRE_BYTES
#define WIRE_T_records .type = WIRE_RECORDS
#define WIRE_E_int32 WIRE_INT32
#define WIRE_E_string WIRE_STRING
#define WIRE_T_list(element_) .type = WIRE_ARRAY, .element = WIRE_E_##element_
#define WIRE_T_array(name) .type = WIRE_ARRAY, .of = &wire_##name
#define WIRE_T_nested(name) .type = WIRE_STRUCT_IN, .of = &wire_##name
#define WIRE_T_optional(name) .type = WIRE_STRUCT_NULLABLE, .of = &wire_##name

#define WIRE_FIELD(S, type_, name_, in_, ...) {.name = #name_, WIRE_T_##type_, .offset = offsetof(struct S, name_), .in = in_, ##__VA_ARGS__},

#define TABLE(name_, ...) \
	static const struct wire_field fields_##name_[] = {FIELDS_##name_(WIRE_FIELD, name_)}; \
	const struct wire_struct wire_##name_ = {.name = #name_, .fields = fields_##name_, .n_fields = sizeof fields_##name_ / sizeof *fields_##name_, \
		.size = sizeof(struct name_), ##__VA_ARGS__};
#define WIRE_STRUCT(name_) TABLE(name_)
#define WIRE_MESSAGE(name_, first_, last_, flexible_) TABLE(name_, .versions = {first_, (last_) + 1}, .flexible = flexible_)

#include "cluster/wire/messages/list.h"
