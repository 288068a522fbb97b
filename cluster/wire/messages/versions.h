/* versions: which APIs and versions a broker has; the headers of requests and responses.
 * One of the tables of messages: messages.h includes it, twice. */

/* Header version 0 of a request is ControlledShutdown's own; 1 has the client id, 2 is flexible. The client id's length keeps its 2 bytes: a broker must be able
 * to read the header of an ApiVersions request of any version. */
#define FIELDS_request_header(F, S) \
	F(S, int16,  api_key,        ALWAYS) \
	F(S, int16,  api_version,    ALWAYS) \
	F(S, int32,  correlation_id, ALWAYS) \
	F(S, string, client_id,      SINCE(1), .nullable = SINCE(1), IGNORABLE, .old_string = true)
WIRE_MESSAGE(request_header, 0, 2, 2)

#define FIELDS_response_header(F, S) \
	F(S, int32, correlation_id, ALWAYS)
WIRE_MESSAGE(response_header, 0, 1, 1)

#define FIELDS_api_versions_request(F, S) \
	F(S, string, client_software_name,    SINCE(3), IGNORABLE) \
	F(S, string, client_software_version, SINCE(3), IGNORABLE)
WIRE_MESSAGE(api_versions_request, 0, 4, 3)

#define FIELDS_api_versions_response_api(F, S) \
	F(S, int16, api_key,     ALWAYS) \
	F(S, int16, min_version, ALWAYS) \
	F(S, int16, max_version, ALWAYS)
#define FIELDS_api_versions_response_supported_feature(F, S) \
	F(S, string, name,        SINCE(3)) \
	F(S, int16,  min_version, SINCE(3)) \
	F(S, int16,  max_version, SINCE(3))
#define FIELDS_api_versions_response_finalized_feature(F, S) \
	F(S, string, name,              SINCE(3)) \
	F(S, int16,  max_version_level, SINCE(3)) \
	F(S, int16,  min_version_level, SINCE(3))
#define FIELDS_api_versions_response(F, S) \
	F(S, int16,                                          error_code,               ALWAYS) \
	F(S, array(api_versions_response_api),               api_keys,                 ALWAYS) \
	F(S, int32,                                          throttle_time_ms,         SINCE(1), IGNORABLE) \
	F(S, array(api_versions_response_supported_feature), supported_features,       SINCE(3), .tagged = SINCE(3), .tag = 0, IGNORABLE) \
	F(S, int64,                                          finalized_features_epoch, SINCE(3), .tagged = SINCE(3), .tag = 1, .def = -1, IGNORABLE) \
	F(S, array(api_versions_response_finalized_feature), finalized_features,       SINCE(3), .tagged = SINCE(3), .tag = 2, IGNORABLE) \
	F(S, bool,                                           zk_migration_ready,       SINCE(3), .tagged = SINCE(3), .tag = 3, IGNORABLE)
WIRE_STRUCT(api_versions_response_api)
WIRE_STRUCT(api_versions_response_supported_feature)
WIRE_STRUCT(api_versions_response_finalized_feature)
WIRE_MESSAGE(api_versions_response, 0, 4, 3)
