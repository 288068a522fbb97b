/* ApiVersions (KIP-35, KIP-511): what clients may ask, which is what there is a handler for, without the requests between brokers. */
#include "cluster/api/call.h"

static void answer(struct call *c, int16_t error)
{
	struct api_versions_response a;
	wire_init(&wire_api_versions_response, &a);
	a.error_code = error;
	int32_t n = 0;
	a.api_keys.v = call_array(c, &wire_api_versions_response_api, API_KEYS);
	if (!a.api_keys.v) {
		call_close(c, "no memory");
		return;
	}
	for (int key = 0; key < API_KEYS; key++) {
		const struct api *api = api_find(key);
		if (api && !api->between_brokers && call_handles(c, key) && (!error || key == API_VERSIONS))
			a.api_keys.v[n++] = (struct api_versions_response_api){.api_key = api->key, .min_version = api->advertised_min, .max_version = api->max};
	}
	a.api_keys.n = n;
	call_answer(c, &a);
}

/* Whoever asks in a version that is not known here gets an answer of version 0, which it can read, with the versions of this one API. */
void refuse_api_versions(struct call *c)
{
	c->version = 0;
	answer(c, KAFKA_UNSUPPORTED_VERSION);
}

/* Kafka checks what clients call themselves, as it becomes part of names of metrics: letters, digits, '-', '.', none at the ends but letters and digits. */
static bool is_software_name(struct wire_string s)
{
	for (int32_t i = 0; i < s.n; i++) {
		char ch = s.s[i];
		bool plain = (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9');
		if (!plain && ((ch != '-' && ch != '.') || i == 0 || i == s.n - 1))
			return false;
	}
	return s.n > 0;
}

void handle_api_versions(struct call *c)
{
	const struct api_versions_request *r = c->request;
	bool good = c->version < 3 || (is_software_name(r->client_software_name) && is_software_name(r->client_software_version));
	answer(c, good ? KAFKA_NONE : KAFKA_INVALID_REQUEST);
}
