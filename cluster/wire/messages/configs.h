/* configs: properties of topics and brokers.
 * One of the tables of messages: messages.h includes it, twice. */

#define FIELDS_describe_configs_request_resource(F, S) \
	F(S, int8,         resource_type,      ALWAYS) \
	F(S, string,       resource_name,      ALWAYS) \
	F(S, list(string), configuration_keys, ALWAYS, .nullable = ALWAYS)
#define FIELDS_describe_configs_request(F, S) \
	F(S, array(describe_configs_request_resource), resources,             ALWAYS) \
	F(S, bool,                                     include_synonyms,      ALWAYS) \
	F(S, bool,                                     include_documentation, SINCE(3))
WIRE_STRUCT(describe_configs_request_resource)
WIRE_MESSAGE(describe_configs_request, 1, 4, 4)

#define FIELDS_describe_configs_response_synonym(F, S) \
	F(S, string, name,   ALWAYS) \
	F(S, string, value,  ALWAYS, .nullable = ALWAYS) \
	F(S, int8,   source, ALWAYS)
#define FIELDS_describe_configs_response_config(F, S) \
	F(S, string,                                   name,          ALWAYS) \
	F(S, string,                                   value,         ALWAYS, .nullable = ALWAYS) \
	F(S, bool,                                     read_only,     ALWAYS) \
	F(S, int8,                                     config_source, ALWAYS, .def = -1, IGNORABLE) \
	F(S, bool,                                     is_sensitive,  ALWAYS) \
	F(S, array(describe_configs_response_synonym), synonyms,      ALWAYS, IGNORABLE) \
	F(S, int8,                                     config_type,   SINCE(3), IGNORABLE) \
	F(S, string,                                   documentation, SINCE(3), .nullable = ALWAYS, IGNORABLE)
#define FIELDS_describe_configs_response_resource(F, S) \
	F(S, int16,                                   error_code,    ALWAYS) \
	F(S, string,                                  error_message, ALWAYS, .nullable = ALWAYS) \
	F(S, int8,                                    resource_type, ALWAYS) \
	F(S, string,                                  resource_name, ALWAYS) \
	F(S, array(describe_configs_response_config), configs,       ALWAYS)
#define FIELDS_describe_configs_response(F, S) \
	F(S, int32,                                     throttle_time_ms, ALWAYS) \
	F(S, array(describe_configs_response_resource), results,          ALWAYS)
WIRE_STRUCT(describe_configs_response_synonym)
WIRE_STRUCT(describe_configs_response_config)
WIRE_STRUCT(describe_configs_response_resource)
WIRE_MESSAGE(describe_configs_response, 1, 4, 4)

#define FIELDS_alter_configs_request_config(F, S) \
	F(S, string, name,  ALWAYS) \
	F(S, string, value, ALWAYS, .nullable = ALWAYS)
#define FIELDS_alter_configs_request_resource(F, S) \
	F(S, int8,                                resource_type, ALWAYS) \
	F(S, string,                              resource_name, ALWAYS) \
	F(S, array(alter_configs_request_config), configs,       ALWAYS)
#define FIELDS_alter_configs_request(F, S) \
	F(S, array(alter_configs_request_resource), resources,     ALWAYS) \
	F(S, bool,                                  validate_only, ALWAYS)
WIRE_STRUCT(alter_configs_request_config)
WIRE_STRUCT(alter_configs_request_resource)
WIRE_MESSAGE(alter_configs_request, 0, 2, 2)

#define FIELDS_alter_configs_response_resource(F, S) \
	F(S, int16,  error_code,    ALWAYS) \
	F(S, string, error_message, ALWAYS, .nullable = ALWAYS) \
	F(S, int8,   resource_type, ALWAYS) \
	F(S, string, resource_name, ALWAYS)
#define FIELDS_alter_configs_response(F, S) \
	F(S, int32,                                  throttle_time_ms, ALWAYS) \
	F(S, array(alter_configs_response_resource), responses,        ALWAYS)
WIRE_STRUCT(alter_configs_response_resource)
WIRE_MESSAGE(alter_configs_response, 0, 2, 2)

#define FIELDS_incremental_alter_configs_request_config(F, S) \
	F(S, string, name,             ALWAYS) \
	F(S, int8,   config_operation, ALWAYS) \
	F(S, string, value,            ALWAYS, .nullable = ALWAYS)
#define FIELDS_incremental_alter_configs_request_resource(F, S) \
	F(S, int8,                                            resource_type, ALWAYS) \
	F(S, string,                                          resource_name, ALWAYS) \
	F(S, array(incremental_alter_configs_request_config), configs,       ALWAYS)
#define FIELDS_incremental_alter_configs_request(F, S) \
	F(S, array(incremental_alter_configs_request_resource), resources,     ALWAYS) \
	F(S, bool,                                              validate_only, ALWAYS)
WIRE_STRUCT(incremental_alter_configs_request_config)
WIRE_STRUCT(incremental_alter_configs_request_resource)
WIRE_MESSAGE(incremental_alter_configs_request, 0, 1, 1)

#define FIELDS_incremental_alter_configs_response_resource(F, S) \
	F(S, int16,  error_code,    ALWAYS) \
	F(S, string, error_message, ALWAYS, .nullable = ALWAYS) \
	F(S, int8,   resource_type, ALWAYS) \
	F(S, string, resource_name, ALWAYS)
#define FIELDS_incremental_alter_configs_response(F, S) \
	F(S, int32,                                              throttle_time_ms, ALWAYS) \
	F(S, array(incremental_alter_configs_response_resource), responses,        ALWAYS)
WIRE_STRUCT(incremental_alter_configs_response_resource)
WIRE_MESSAGE(incremental_alter_configs_response, 0, 1, 1)
