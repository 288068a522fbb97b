#include "cluster/wire/table.h"

const uint8_t wire_scalar_size[WIRE_ARRAY + 1] = {
	[WIRE_BOOL] = 1, [WIRE_INT8] = 1, [WIRE_INT16] = 2, [WIRE_UINT16] = 2, [WIRE_INT32] = 4, [WIRE_UINT32] = 4, [WIRE_INT64] = 8, [WIRE_FLOAT64] = 8, [WIRE_UUID] = 16,
};
const uint8_t wire_value_size[WIRE_ARRAY + 1] = {
	[WIRE_BOOL] = sizeof(bool), [WIRE_INT8] = 1, [WIRE_INT16] = 2, [WIRE_UINT16] = 2, [WIRE_INT32] = 4, [WIRE_UINT32] = 4, [WIRE_INT64] = 8, [WIRE_FLOAT64] = 8,
	[WIRE_UUID] = 16, [WIRE_STRING] = sizeof(struct wire_string),
};

void wire_set_default(const struct wire_field *f, void *value)
{
	switch ((enum wire_type)f->type) {
	case WIRE_BOOL:
		*(bool *)value = f->def != 0;
		break;
	case WIRE_INT8:
		*(int8_t *)value = (int8_t)f->def;
		break;
	case WIRE_INT16:
	case WIRE_UINT16:
		*(int16_t *)value = (int16_t)f->def;
		break;
	case WIRE_INT32:
	case WIRE_UINT32:
		*(int32_t *)value = (int32_t)f->def;
		break;
	case WIRE_INT64:
		*(int64_t *)value = f->def;
		break;
	case WIRE_FLOAT64:
		*(double *)value = (double)f->def;
		break;
	case WIRE_UUID:
		*(struct wire_uuid *)value = (struct wire_uuid){{0}};
		break;
	case WIRE_STRING:
		*(struct wire_string *)value = (struct wire_string){NULL, (int32_t)f->def};
		break;
	case WIRE_BYTES:
		*(struct wire_bytes *)value = (struct wire_bytes){NULL, (int32_t)f->def};
		break;
	case WIRE_RECORDS:
		*(struct wire_records *)value = (struct wire_records){NULL, (int32_t)f->def, NULL};
		break;
	case WIRE_ARRAY:
		*(struct wire_array *)value = (struct wire_array){NULL, (int32_t)f->def};
		break;
	case WIRE_STRUCT_IN:
		wire_init(f->of, value);
		break;
	case WIRE_STRUCT_NULLABLE:
		*(void **)value = NULL;
		break;
	}
}

static bool struct_is_default(const struct wire_struct *desc, const uint8_t *value)
{
	for (int i = 0; i < desc->n_fields; i++) {
		if (!wire_is_default(&desc->fields[i], value + desc->fields[i].offset))
			return false;
	}
	return true;
}

bool wire_is_default(const struct wire_field *f, const void *value)
{
	int32_t n = 0;
	switch ((enum wire_type)f->type) {
	case WIRE_BOOL:
		return *(const bool *)value == (f->def != 0);
	case WIRE_INT8:
		return *(const int8_t *)value == (int8_t)f->def;
	case WIRE_INT16:
	case WIRE_UINT16:
		return *(const int16_t *)value == (int16_t)f->def;
	case WIRE_INT32:
	case WIRE_UINT32:
		return *(const int32_t *)value == (int32_t)f->def;
	case WIRE_INT64:
		return *(const int64_t *)value == f->def;
	case WIRE_FLOAT64:
		return *(const double *)value == (double)f->def;
	case WIRE_UUID:
		return wire_uuid_is_zero(value);
	case WIRE_STRUCT_IN:
		return struct_is_default(f->of, value);
	case WIRE_STRUCT_NULLABLE:
		return !*(void *const *)value;
	case WIRE_STRING:
		n = ((const struct wire_string *)value)->n;
		break;
	case WIRE_BYTES:
		n = ((const struct wire_bytes *)value)->n;
		break;
	case WIRE_RECORDS:
		n = ((const struct wire_records *)value)->n;
		break;
	case WIRE_ARRAY:
		n = ((const struct wire_array *)value)->n;
		break;
	}
	return f->def < 0 ? n < 0 : n == 0;
}

void wire_init(const struct wire_struct *desc, void *message)
{
	memset(message, 0, desc->size);
	for (int i = 0; i < desc->n_fields; i++) {
		const struct wire_field *f = &desc->fields[i];
		if (f->def || f->type == WIRE_STRUCT_IN)
			wire_set_default(f, (uint8_t *)message + f->offset);
	}
}
