/*
 * What comes over the network first: a frame's header, then any message of any version.
 *
 * The first bytes of an input choose: 0 a request's frame, whole; 1 a request, 2 a response of the API key and version in the next two bytes;
 * 3 a record of __consumer_offsets.
 * What decodes must encode, and decode to the same again; and never may decoding take memory that the input does not pay for.
 */
#include <stdlib.h>

#include "cluster/wire/api.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
	if (!holds)
		abort();
}

static void encode(const struct wire_struct *desc, int version, const void *message, struct wire_out *out)
{
	struct err e = ERR_INIT;
	wire_out_init(out, 0);
	/* A string that was mended may have become too long to be sent. */
	if (wire_encode(desc, version, message, out, &e) < 0)
		must(e.code == ERR_TOO_LARGE);
	else
		must(wire_size(desc, version, message, &e) == (ssize_t)out->bytes.len);
}

static void try_message(const struct wire_struct *desc, int version, const uint8_t *data, size_t size)
{
	struct arena arena;
	struct wire_out once, twice;
	struct err e = ERR_INIT;
	void *message = malloc(desc->size);
	arena_init(&arena, 0);
	ssize_t used = wire_decode(desc, version, data, size, &arena, message, &e);
	must(arena.taken <= 48 * size + 256);
	if (used < 0) {
		must(used == e.code && (used == ERR_CORRUPT || used == ERR_UNSUPPORTED));
	} else {
		must((size_t)used <= size);
		encode(desc, version, message, &once);
		if (once.bytes.len) {
			arena_reset(&arena);
			must(wire_decode(desc, version, once.bytes.data, once.bytes.len, &arena, message, &e) == (ssize_t)once.bytes.len);
			encode(desc, version, message, &twice);
			must(once.bytes.len == twice.bytes.len && memcmp(once.bytes.data, twice.bytes.data, once.bytes.len) == 0);
			wire_out_release(&twice);
		}
		wire_out_release(&once);
	}
	arena_release(&arena);
	free(message);
}

static void try_frame(const uint8_t *data, size_t size)
{
	struct arena arena;
	struct request_header h;
	const struct api *api;
	arena_init(&arena, 0);
	ssize_t used = api_decode_request_header(data, size, &arena, &h, &api, NULL);
	must(used <= (ssize_t)size);
	if (used >= 0)
		try_message(api->request, h.api_version, data + used, size - (size_t)used);
	arena_release(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct wire_struct *const records[] = {&wire_offset_commit_key, &wire_offset_commit_value, &wire_group_metadata_key, &wire_group_metadata_value};
	if (size < 3)
		return 0;
	const struct api *api = api_find(data[1]);
	switch (data[0] & 3) {
	case 0:
		try_frame(data + 1, size - 1);
		break;
	case 3:
		try_message(records[data[1] & 3], data[2], data + 3, size - 3);
		break;
	default:
		if (api)
			try_message((data[0] & 3) == 1 ? api->request : api->response, data[2], data + 3, size - 3);
	}
	return 0;
}
