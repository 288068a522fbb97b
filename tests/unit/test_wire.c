#include "wire_fixture.h"

/* Encodes what there is into memory of exactly its size, so that the address sanitizer sees a byte too far. */
static uint8_t *encoded(const struct wire_struct *desc, int version, const void *message, size_t *n)
{
	struct wire_out out;
	struct err e = ERR_INIT;
	wire_out_init(&out, 0);
	if (wire_encode(desc, version, message, &out, &e) < 0)
		fail_msg("%s version %d: %s", desc->name, version, e.text);
	assert_int_equal(wire_size(desc, version, message, &e), out.bytes.len);
	assert_int_equal(out.n_inserts, 0);
	*n = out.bytes.len;
	uint8_t *bytes = malloc(*n ? *n : 1);
	if (*n)
		memcpy(bytes, out.bytes.data, *n);
	wire_out_release(&out);
	return bytes;
}

static void check_table(const struct wire_struct *desc, int16_t flexible)
{
	for (int i = 0; i < desc->n_fields; i++) {
		const struct wire_field *f = &desc->fields[i];
		assert_true(f->offset < desc->size);
		assert_true(i == 0 || f->offset > f[-1].offset);
		if (f->tagged.end) {
			assert_true(desc->n_fields <= 32); /* the encoder's set of them has 32 bits */
			for (const struct wire_field *other = desc->fields; other < f; other++)
				assert_true(!other->tagged.end || other->tag != f->tag);
			assert_true(f->tagged.first >= flexible && f->tagged.end == f->in.end);
		}
		assert_int_equal(f->of != NULL, f->type == WIRE_STRUCT_IN || f->type == WIRE_STRUCT_NULLABLE || (f->type == WIRE_ARRAY && f->element == WIRE_BOOL));
		if (f->of)
			check_table(f->of, flexible);
	}
}

static void check_message_table(const struct wire_struct *desc)
{
	assert_true(desc->versions.first < desc->versions.end);
	check_table(desc, desc->flexible);
}

static void test_the_tables_hold_together(void **state)
{
	(void)state;
	each_message(check_message_table);
}

static void round_trips(const struct wire_struct *desc)
{
	struct arena made, decoded;
	struct err e = ERR_INIT;
	arena_init(&made, 0);
	arena_init(&decoded, 0);
	uint8_t *in = malloc(desc->size), *out = malloc(desc->size);
	for (int version = desc->versions.first; version < desc->versions.end; version++) {
		for (int i = 0; i < 60; i++) {
			size_t n, again_n;
			fill_struct(desc, version, &made, in);
			uint8_t *bytes = encoded(desc, version, in, &n);
			memset(out, 0xa5, desc->size);
			ssize_t used = wire_decode(desc, version, bytes, n, &decoded, out, &e);
			if (used != (ssize_t)n)
				fail_msg("%s version %d: %zd of %zu bytes: %s", desc->name, version, used, n, e.text);
			assert_same_struct(desc, in, out);
			uint8_t *again = encoded(desc, version, out, &again_n);
			assert_int_equal(n, again_n);
			assert_memory_equal(bytes, again, n);
			free(bytes);
			free(again);
			arena_reset(&made);
			arena_reset(&decoded);
		}
	}
	free(in);
	free(out);
	arena_release(&made);
	arena_release(&decoded);
}

static void test_every_message_of_every_version_is_the_same_after_encoding_and_decoding(void **state)
{
	(void)state;
	each_message(round_trips);
}

/* ---- what nobody should send ---- */

/* Bytes of exactly n, so that a read behind them is seen. No message becomes much larger than its bytes when it is decoded. */
static ssize_t decode_exactly(const struct wire_struct *desc, int version, const uint8_t *bytes, size_t n, struct err *e)
{
	struct arena arena;
	uint8_t *exact = malloc(n ? n : 1), *out = malloc(desc->size);
	if (n)
		memcpy(exact, bytes, n);
	arena_init(&arena, 0);
	ssize_t used = wire_decode(desc, version, exact, n, &arena, out, e);
	assert_true(arena.taken <= 48 * n + 256);
	assert_true(used < 0 || used <= (ssize_t)n);
	arena_release(&arena);
	free(exact);
	free(out);
	return used;
}

static void breaks_off_everywhere(const struct wire_struct *desc)
{
	struct arena made;
	arena_init(&made, 0);
	uint8_t *in = malloc(desc->size);
	for (int version = desc->versions.first; version < desc->versions.end; version++) {
		for (int i = 0; i < 3; i++) {
			size_t n;
			fill_struct(desc, version, &made, in);
			uint8_t *bytes = encoded(desc, version, in, &n);
			for (size_t cut = 0; cut < n; cut++) {
				struct err e = ERR_INIT;
				if (decode_exactly(desc, version, bytes, cut, &e) != ERR_CORRUPT)
					fail_msg("%s version %d, %zu of %zu bytes: %s", desc->name, version, cut, n, e.text);
				assert_int_equal(e.code, ERR_CORRUPT);
				assert_non_null(strstr(e.text, " at byte "));
			}
			free(bytes);
			arena_reset(&made);
		}
	}
	free(in);
	arena_release(&made);
}

static void test_a_message_that_breaks_off_is_corrupt_wherever_it_does(void **state)
{
	(void)state;
	each_message(breaks_off_everywhere);
}

/* Counts, lengths and all else become as large or as negative as they can; what was meant is not known here, only that nothing bad happens. */
static void claims_absurd_things(const struct wire_struct *desc)
{
	static const uint8_t absurd[][5] = {
		{0x7f, 0xff, 0xff, 0xff, 0xff}, {0xff, 0xff, 0xff, 0xff, 0x0f}, {0xff, 0xff, 0xff, 0xff, 0xff}, {0x80, 0, 0, 0, 0}, {0, 0, 0, 0, 0}, {0xfe, 0xff, 0x03, 1, 0x7f},
	};
	struct arena made;
	arena_init(&made, 0);
	uint8_t *in = malloc(desc->size);
	for (int version = desc->versions.first; version < desc->versions.end; version++) {
		for (int i = 0; i < 2; i++) {
			size_t n;
			fill_struct(desc, version, &made, in);
			uint8_t *bytes = encoded(desc, version, in, &n), *changed = malloc(n ? n : 1);
			for (size_t at = 0; at < n; at++) {
				for (size_t k = 0; k < sizeof absurd / sizeof *absurd; k++) {
					struct err e = ERR_INIT;
					memcpy(changed, bytes, n);
					memcpy(changed + at, absurd[k], n - at < 5 ? n - at : 5);
					ssize_t used = decode_exactly(desc, version, changed, n, &e);
					assert_true(used >= 0 || used == ERR_CORRUPT);
				}
			}
			free(bytes);
			free(changed);
			arena_reset(&made);
		}
	}
	free(in);
	arena_release(&made);
}

static void test_absurd_lengths_take_no_memory(void **state)
{
	(void)state;
	each_message(claims_absurd_things);
}

static void test_noise_is_read_without_harm(void **state)
{
	(void)state;
	for (int i = 0; i < 200000; i++) {
		const struct api *api = api_find((int)(wire_random() % API_KEYS));
		if (!api)
			continue;
		const struct wire_struct *desc = wire_random() % 2 ? api->request : api->response;
		int version = desc->versions.first + (int)(wire_random() % (uint64_t)(desc->versions.end - desc->versions.first));
		uint8_t bytes[100];
		size_t n = wire_random() % sizeof bytes;
		for (size_t k = 0; k < n; k++)
			bytes[k] = (uint8_t)(wire_random() % 3 ? wire_random() % 6 : wire_random());
		struct err e = ERR_INIT;
		ssize_t used = decode_exactly(desc, version, bytes, n, &e);
		assert_true(used >= 0 || used == ERR_CORRUPT);
	}
}

static struct arena kept; /* what the last message of decode_text points into */

static ssize_t decode_text(const struct wire_struct *desc, int version, const char *bytes, size_t n, void *out, struct err *e)
{
	ssize_t used = decode_exactly(desc, version, (const uint8_t *)bytes, n, e);
	if (used < 0)
		return used;
	arena_release(&kept);
	arena_init(&kept, 1000);
	return wire_decode(desc, version, bytes, n, &kept, out, e);
}
#define DECODE(name, version, bytes, out, e) decode_text(&wire_##name, version, bytes, sizeof(bytes) - 1, out, e)

static void test_unknown_tagged_fields_are_skipped(void **state)
{
	(void)state;
	struct err e = ERR_INIT;
	struct heartbeat_response h;
	assert_int_equal(DECODE(heartbeat_response, 4, "\0\0\0\5\0\7" "\0", &h, &e), 7);
	assert_int_equal(DECODE(heartbeat_response, 4, "\0\0\0\5\0\7" "\2\3\4abcd\x85\1\0", &h, &e), 16);
	assert_int_equal(h.throttle_time_ms, 5);
	assert_int_equal(h.error_code, 7);
	/* One that says to be longer than the message, more of them than there are, a count of 4 billion. */
	assert_int_equal(DECODE(heartbeat_response, 4, "\0\0\0\5\0\7" "\1\3\5abcd", &h, &e), ERR_CORRUPT);
	assert_int_equal(DECODE(heartbeat_response, 4, "\0\0\0\5\0\7" "\2\3\4abcd", &h, &e), ERR_CORRUPT);
	assert_int_equal(DECODE(heartbeat_response, 4, "\0\0\0\5\0\7" "\xff\xff\xff\xff\x0f\3\4abcd", &h, &e), ERR_CORRUPT);
	assert_int_equal(DECODE(heartbeat_response, 4, "\0\0\0\5\0\7" "\1\3\xff\xff\xff\xff\x0f", &h, &e), ERR_CORRUPT);
	/* A varint of six bytes, and one over 32 bits. */
	assert_int_equal(DECODE(heartbeat_response, 4, "\0\0\0\5\0\7" "\1\x83\x80\x80\x80\x80\0\0......", &h, &e), ERR_CORRUPT);
	assert_int_equal(DECODE(heartbeat_response, 4, "\0\0\0\5\0\7" "\1\x83\x80\x80\x80\x10\0......", &h, &e), ERR_CORRUPT);
}

static void test_a_known_tagged_field_has_the_length_of_its_tag(void **state)
{
	(void)state;
	struct err e = ERR_INIT;
	struct offset_commit_value v;
	/* offset, epoch, "" and a timestamp; then the topic's id under tag 0, between unknown ones, which also may come first */
#define OFFSET "\0\0\0\0\0\0\0\1\0\0\0\2\1\0\0\0\0\0\0\0\3"
	assert_int_equal(DECODE(offset_commit_value, 4, OFFSET "\3\7\1x\0\x10" "0123456789abcdef" "\1\0", &v, &e), 45);
	assert_memory_equal(v.topic_id.b, "0123456789abcdef", 16);
	assert_int_equal(v.expire_timestamp, -1);
	assert_int_equal(DECODE(offset_commit_value, 4, OFFSET "\1\0\x0f" "0123456789abcdef", &v, &e), ERR_CORRUPT);
	assert_int_equal(DECODE(offset_commit_value, 4, OFFSET "\1\0\x11" "0123456789abcdefg", &v, &e), ERR_CORRUPT);
	assert_string_equal(e.text, "offset_commit_value.topic_id at byte 40: its tag gives it another length than its content");
	assert_int_equal(DECODE(offset_commit_value, 4, OFFSET "\1\0\x11" "0123456789abcdef", &v, &e), ERR_CORRUPT);
#undef OFFSET
}

static void test_null_is_refused_where_the_version_has_no_null(void **state)
{
	(void)state;
	struct err e = ERR_INIT;
	struct metadata_request m;
	assert_int_equal(DECODE(metadata_request, 0, "\xff\xff\xff\xff", &m, &e), ERR_CORRUPT);
	assert_int_equal(DECODE(metadata_request, 1, "\xff\xff\xff\xff", &m, &e), 4);
	assert_int_equal(m.topics.n, -1);
	assert_true(m.allow_auto_topic_creation);
	assert_int_equal(DECODE(metadata_request, 1, "\xff\xff\xff\xfe", &m, &e), 4); /* Kafka takes any negative count for null */
	assert_int_equal(m.topics.n, -1);
	assert_int_equal(DECODE(metadata_request, 9, "\2\0\0" "\0\0\0\0", &m, &e), ERR_CORRUPT); /* the name, until version 10 */
	assert_string_equal(e.text, "metadata_request_topic.name at byte 2: null, which this version does not have");
	struct find_coordinator_request f;
	assert_int_equal(DECODE(find_coordinator_request, 0, "\xff\xff", &f, &e), ERR_CORRUPT);
	struct describe_topic_partitions_request d;
	assert_int_equal(DECODE(describe_topic_partitions_request, 0, "\1\0\0\0\1\xff\0", &d, &e), 7);
	assert_null(d.cursor);
	assert_int_equal(DECODE(describe_topic_partitions_request, 0, "\1\0\0\0\1\1\2x\0\0\0\3\0\0", &d, &e), 14);
	assert_int_equal(d.cursor->partition_index, 3);
	assert_true(wire_string_is(d.cursor->topic_name, "x"));
}

static void test_what_stands_behind_a_message_is_not_looked_at(void **state)
{
	(void)state;
	struct err e = ERR_INIT;
	struct heartbeat_response h;
	assert_int_equal(DECODE(heartbeat_response, 0, "\0\7\1\2\3", &h, &e), 2);
	assert_int_equal(h.error_code, 7);
}

static void test_a_version_that_there_is_not_is_unsupported(void **state)
{
	(void)state;
	struct err e = ERR_INIT;
	struct wire_out out;
	struct produce_request p;
	wire_init(&wire_produce_request, &p);
	wire_out_init(&out, 0);
	for (int version = -1; version < 20; version++) {
		if (version >= 3 && version <= 13)
			continue;
		assert_int_equal(DECODE(produce_request, version, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", &p, &e), ERR_UNSUPPORTED);
		assert_int_equal(wire_encode(&wire_produce_request, version, &p, &out, &e), ERR_UNSUPPORTED);
		assert_int_equal(wire_size(&wire_produce_request, version, &p, NULL), ERR_UNSUPPORTED);
	}
	wire_out_release(&out);
}

static void test_a_string_that_is_not_utf8_is_mended_in_the_arena(void **state)
{
	(void)state;
	struct arena arena;
	struct err e = ERR_INIT;
	struct find_coordinator_request f;
	arena_init(&arena, 100);
	assert_int_equal(wire_decode(&wire_find_coordinator_request, 0, "\0\5a\xff\xc3\xa9z", 7, &arena, &f, &e), 7);
	assert_true(wire_string_is(f.key, "a\xef\xbf\xbd\xc3\xa9z"));
	assert_true(arena.taken > 0);
	arena_reset(&arena);
	const char *valid = "\0\5ab\xc3\xa9z";
	assert_int_equal(wire_decode(&wire_find_coordinator_request, 0, valid, 7, &arena, &f, &e), 7);
	assert_ptr_equal(f.key.s, valid + 2); /* borrowed */
	assert_int_equal(arena.taken, 0);
	arena_release(&arena);
}

static void test_decoding_takes_no_more_than_the_arena_may_give(void **state)
{
	(void)state;
	struct arena arena;
	struct err e = ERR_INIT;
	struct describe_groups_request d;
	uint8_t bytes[4 + 2 * 100] = {0, 0, 0, 100};
	for (size_t limit = 16; limit < 1600; limit += 16) {
		arena_init(&arena, limit);
		assert_int_equal(wire_decode(&wire_describe_groups_request, 0, bytes, sizeof bytes, &arena, &d, &e), ERR_TOO_LARGE);
		assert_int_equal(wire_decode(&wire_describe_groups_request, 0, bytes, sizeof bytes, &arena, &d, NULL), ERR_TOO_LARGE);
		arena_release(&arena);
	}
	arena_init(&arena, 1600);
	assert_int_equal(wire_decode(&wire_describe_groups_request, 0, bytes, sizeof bytes, &arena, &d, &e), sizeof bytes);
	arena_release(&arena);
}

/* ---- encoding ---- */

static void test_encoding_says_what_is_wrong_and_leaves_the_output_as_it_was(void **state)
{
	(void)state;
	struct wire_out out;
	struct err e = ERR_INIT;
	wire_out_init(&out, 100);
	wr_bytes(&out.bytes, "before", 6);

	struct find_coordinator_request f;
	wire_init(&wire_find_coordinator_request, &f);
	f.key = wire_string("g");
	f.key_type = 1;
	assert_int_equal(wire_encode(&wire_find_coordinator_request, 0, &f, &out, &e), ERR_UNSUPPORTED);
	assert_string_equal(e.text, "find_coordinator_request.key_type is set, but there is no such field in version 0");
	f.key = WIRE_NULL_STRING;
	assert_int_equal(wire_encode(&wire_find_coordinator_request, 1, &f, &out, &e), ERR_INVALID);
	assert_string_equal(e.text, "find_coordinator_request.key is null, which cannot be said in version 1");

	static char text[40000];
	memset(text, 'x', sizeof text - 1);
	f.key = wire_string(text);
	assert_int_equal(wire_encode(&wire_find_coordinator_request, 1, &f, &out, &e), ERR_TOO_LARGE);
	assert_int_equal(wire_encode(&wire_find_coordinator_request, 1, &f, &out, NULL), ERR_TOO_LARGE);
	f.key.n = 92;
	assert_int_equal(wire_encode(&wire_find_coordinator_request, 1, &f, &out, &e), ERR_TOO_LARGE);
	assert_string_equal(e.text, "find_coordinator_request of more than 100 bytes");
	assert_int_equal(api_encode_request(api_find(API_FIND_COORDINATOR), 1, 1, f.key, &f, &out, &e), ERR_TOO_LARGE);
	assert_int_equal(out.bytes.len, 6);
	f.key.n = 91;
	assert_int_equal(wire_encode(&wire_find_coordinator_request, 1, &f, &out, &e), 0);
	assert_int_equal(out.bytes.len, 100);
	assert_memory_equal(out.bytes.data, "before", 6);
	wire_out_release(&out);
}

static void test_records_that_are_elsewhere_leave_a_gap(void **state)
{
	(void)state;
	struct err e = ERR_INIT;
	struct wire_out whole, gaps;
	int file_a, file_b;
	uint8_t a[300], b[5];
	memset(a, 'a', sizeof a);
	memset(b, 'b', sizeof b);
	struct fetch_response_partition partitions[4];
	struct fetch_response_topic topic;
	struct fetch_response response;
	const struct api *api = api_find(API_FETCH);
	wire_out_init(&whole, 0);
	wire_out_init(&gaps, 0);
	for (int version = api->min; version <= api->max; version++) {
		for (int i = 0; i < 4; i++)
			wire_init(&wire_fetch_response_partition, &partitions[i]);
		wire_init(&wire_fetch_response_topic, &topic);
		wire_init(&wire_fetch_response, &response);
		topic.partitions.v = partitions;
		topic.partitions.n = 4;
		response.responses.v = &topic;
		response.responses.n = 1;
		partitions[0].records = (struct wire_records){a, sizeof a, NULL};
		partitions[1].records.n = -1;
		partitions[3].records = (struct wire_records){b, sizeof b, NULL};
		assert_int_equal(api_encode_response(api, version, 77, &response, &whole, &e), 0);
		partitions[0].records = (struct wire_records){NULL, sizeof a, &file_a};
		partitions[3].records = (struct wire_records){NULL, sizeof b, &file_b};
		assert_int_equal(api_encode_response(api, version, 77, &response, &gaps, &e), 0);
		assert_int_equal(wire_size(&wire_fetch_response, version, &response, &e), whole.bytes.len - (version < 12 ? 8 : 9));

		assert_int_equal(gaps.n_inserts, 2);
		assert_int_equal(gaps.inserted, sizeof a + sizeof b);
		assert_int_equal(gaps.bytes.len + gaps.inserted, whole.bytes.len);
		assert_int_equal(be32_get(gaps.bytes.data), whole.bytes.len - 4);
		assert_ptr_equal(gaps.inserts[0].range, &file_a);
		assert_ptr_equal(gaps.inserts[1].range, &file_b);
		size_t first = gaps.inserts[0].at, second = gaps.inserts[1].at;
		assert_memory_equal(whole.bytes.data, gaps.bytes.data, first);
		assert_memory_equal(whole.bytes.data + first, a, sizeof a);
		assert_memory_equal(whole.bytes.data + first + sizeof a, gaps.bytes.data + first, second - first);
		assert_memory_equal(whole.bytes.data + second + sizeof a, b, sizeof b);
		assert_memory_equal(whole.bytes.data + second + sizeof a + sizeof b, gaps.bytes.data + second, gaps.bytes.len - second);
		wire_out_clear(&whole);
		wire_out_clear(&gaps);
	}
	/* What fails after records takes their places back too. */
	response.session_id = 5;
	assert_int_equal(api_encode_response(api, 6, 77, &response, &gaps, &e), ERR_UNSUPPORTED);
	assert_int_equal(gaps.n_inserts + gaps.inserted + gaps.bytes.len, 0);
	response.session_id = 0;
	partitions[3].preferred_read_replica = 5;
	assert_int_equal(api_encode_response(api, 7, 77, &response, &gaps, &e), ERR_UNSUPPORTED);
	assert_int_equal(gaps.n_inserts + gaps.inserted + gaps.bytes.len, 0);
	wire_out_release(&whole);
	wire_out_release(&gaps);
}

static void test_many_ranges_keep_their_order(void **state)
{
	(void)state;
	enum { MANY = 1000 };
	static struct fetch_response_partition partitions[MANY];
	struct err e = ERR_INIT;
	struct wire_out out;
	struct fetch_response_topic topic = {.partitions = {partitions, MANY}};
	struct fetch_response response = {.responses = {&topic, 1}};
	for (int i = 0; i < MANY; i++) {
		wire_init(&wire_fetch_response_partition, &partitions[i]);
		partitions[i].records = (struct wire_records){.n = i + 1, .range = &partitions[i]};
	}
	wire_out_init(&out, 0);
	assert_int_equal(wire_encode(&wire_fetch_response, 12, &response, &out, &e), 0);
	assert_int_equal(out.n_inserts, MANY);
	for (int i = 0; i < MANY; i++) {
		assert_int_equal(out.inserts[i].bytes, i + 1);
		assert_ptr_equal(out.inserts[i].range, &partitions[i]);
		assert_true(i == 0 || out.inserts[i].at > out.inserts[i - 1].at);
	}
	wire_out_release(&out);
}

/* Types and shapes that no message of today has, but Kafka's protocol and other messages do. */

struct rare_inner {
	uint32_t count;
};
struct rare {
	uint16_t port;
	double ratio;
	struct rare_inner *inner; /* tagged and nullable */
	struct { struct wire_uuid *v; int32_t n; } ids;
	uint32_t old;             /* in version 0 alone */
};
static const struct wire_field rare_inner_fields[] = {
	{.name = "count", .type = WIRE_UINT32, .offset = offsetof(struct rare_inner, count), .in = {0, INT16_MAX}, .def = 9},
};
static const struct wire_struct rare_inner = {.name = "rare_inner", .fields = rare_inner_fields, .n_fields = 1, .size = sizeof(struct rare_inner)};
static const struct wire_field rare_fields[] = {
	{.name = "port", .type = WIRE_UINT16, .offset = offsetof(struct rare, port), .in = {0, INT16_MAX}, .def = 65535},
	{.name = "ratio", .type = WIRE_FLOAT64, .offset = offsetof(struct rare, ratio), .in = {1, INT16_MAX}, .def = 2},
	{.name = "inner", .type = WIRE_STRUCT_NULLABLE, .of = &rare_inner, .offset = offsetof(struct rare, inner), .in = {1, INT16_MAX}, .nullable = {1, INT16_MAX}, .tagged = {1, INT16_MAX}, .tag = 6},
	{.name = "ids", .type = WIRE_ARRAY, .element = WIRE_UUID, .offset = offsetof(struct rare, ids), .in = {1, INT16_MAX}},
	{.name = "old", .type = WIRE_UINT32, .offset = offsetof(struct rare, old), .in = {0, 1}, .def = 3},
};
static const struct wire_struct rare = {.name = "rare", .fields = rare_fields, .n_fields = 5, .size = sizeof(struct rare), .versions = {0, 2}, .flexible = 1};

static void test_types_that_are_rare(void **state)
{
	(void)state;
	struct arena arena;
	struct err e = ERR_INIT;
	struct rare in, out;
	struct rare_inner inner = {0xfffffffe};
	struct wire_uuid ids[2];
	size_t n;
	arena_init(&arena, 0);
	memset(ids, 'i', sizeof ids);
	wire_init(&rare, &in);
	assert_true(in.port == 65535 && in.ratio == 2 && !in.inner && in.old == 3);

	uint8_t *bytes = encoded(&rare, 0, &in, &n);
	assert_int_equal(n, 6);
	assert_memory_equal(bytes, "\xff\xff\0\0\0\3", 6);
	free(bytes);
	struct wire_out refused;
	wire_out_init(&refused, 0);
	in.ratio = 2.5;
	assert_int_equal(wire_encode(&rare, 0, &in, &refused, &e), ERR_UNSUPPORTED);
	assert_non_null(strstr(e.text, "rare.ratio"));
	wire_out_release(&refused);

	in.port = 0xfedc;
	in.inner = &inner;
	in.ids.v = ids;
	in.ids.n = 2;
	bytes = encoded(&rare, 1, &in, &n);
	assert_int_equal(n, 2 + 8 + 1 + 32 + 1 + 2 + 6);
	assert_memory_equal(bytes, "\xfe\xdc\x40\x04\0\0\0\0\0\0\3iiii", 15);
	assert_memory_equal(bytes + 43, "\1\6\6\1\xff\xff\xff\xfe\0", 9);
	assert_int_equal(wire_decode(&rare, 1, bytes, n, &arena, &out, &e), n);
	assert_true(out.port == 0xfedc && out.ratio == 2.5 && out.inner->count == 0xfffffffe && out.ids.n == 2 && out.old == 3);
	assert_memory_equal(out.ids.v, ids, sizeof ids);
	for (size_t cut = 0; cut < n; cut++)
		assert_int_equal(decode_exactly(&rare, 1, bytes, cut, &e), ERR_CORRUPT);
	free(bytes);
	arena_release(&arena);
}

/* ---- frames ---- */

static void test_headers(void **state)
{
	(void)state;
	struct arena arena;
	struct err e = ERR_INIT;
	struct request_header h;
	const struct api *api;
	arena_init(&arena, 0);
	assert_int_equal(api_decode_request_header("\0\3\0\4\0\0\0\7\0\2meBODY", 16, &arena, &h, &api, &e), 12);
	assert_int_equal(api->key, API_METADATA);
	assert_int_equal(h.api_version, 4);
	assert_int_equal(h.correlation_id, 7);
	assert_true(wire_string_is(h.client_id, "me"));
	/* Flexible: tagged fields behind the client id, whose length has 2 bytes nevertheless. No client id is an empty one. */
	assert_int_equal(api_decode_request_header("\0\3\0\x0c\0\0\0\7\0\2me\1\5\2xyBODY", 21, &arena, &h, &api, &e), 17);
	assert_true(wire_string_is(h.client_id, "me"));
	assert_int_equal(api_decode_request_header("\0\3\0\x0c\0\0\0\7\xff\xff\0BODY", 15, &arena, &h, &api, &e), 11);
	assert_true(wire_string_is(h.client_id, ""));
	/* A version that nobody has yet still has a header that can be read: ApiVersions must be answered. */
	assert_int_equal(api_decode_request_header("\0\x12\0\x7f\0\0\0\7\0\2me\0BODY", 17, &arena, &h, &api, &e), 13);
	assert_int_equal(api->key, API_VERSIONS);
	assert_int_equal(h.api_version, 127);
	assert_false(api_has(api, h.api_version));
	assert_int_equal(api_decode_request_header("\x03\xe7\0\0\0\0\0\7\0\0", 10, &arena, &h, &api, &e), ERR_UNSUPPORTED);
	assert_string_equal(e.text, "a request with the unknown API key 999, version 0");
	for (size_t n = 0; n < 12; n++)
		assert_int_equal(api_decode_request_header("\0\3\0\4\0\0\0\7\0\2me", n, &arena, &h, &api, &e), ERR_CORRUPT);

	struct response_header r;
	assert_int_equal(api_decode_response_header(api_find(API_METADATA), 9, "\0\0\0\7\0BODY", 9, &r, &e), 5);
	assert_int_equal(r.correlation_id, 7);
	assert_int_equal(api_decode_response_header(api_find(API_METADATA), 8, "\0\0\0\7BODY", 8, &r, &e), 4);
	assert_int_equal(api_decode_response_header(api_find(API_VERSIONS), 4, "\0\0\0\7BODY", 8, &r, &e), 4);
	assert_int_equal(api_decode_response_header(api_find(API_VERSIONS), 4, "\0\0\0", 3, &r, &e), ERR_CORRUPT);
	arena_release(&arena);
}

static void test_frames_of_every_api_are_read_back(void **state)
{
	(void)state;
	struct arena arena;
	struct wire_out out;
	struct err e = ERR_INIT;
	uint8_t in[400], got[400];
	arena_init(&arena, 0);
	wire_out_init(&out, 0);
	for (int key = 0; key < API_OWN_END; key = key + 1 == API_KEYS ? API_OWN : key + 1) {
		const struct api *api = api_find(key), *found;
		for (int version = api ? api->min : 1; version <= (api ? api->max : 0); version++) {
			struct request_header h;
			struct response_header r;
			assert_true(api->request->size <= sizeof in && api->response->size <= sizeof in);
			assert_int_equal(api->request->flexible, api->response->flexible);
			fill_struct(api->request, version, &arena, in);
			assert_int_equal(api_encode_request(api, version, 12345, wire_string("client"), in, &out, &e), 0);
			assert_int_equal(be32_get(out.bytes.data), out.bytes.len - 4);
			ssize_t used = api_decode_request_header(out.bytes.data + 4, out.bytes.len - 4, &arena, &h, &found, &e);
			assert_true(used > 0 && found == api && h.api_version == version && h.correlation_id == 12345 && wire_string_is(h.client_id, "client"));
			assert_int_equal(wire_decode(api->request, version, out.bytes.data + 4 + used, out.bytes.len - 4 - (size_t)used, &arena, got, &e), out.bytes.len - 4 - (size_t)used);
			assert_same_struct(api->request, in, got);
			wire_out_clear(&out);

			fill_struct(api->response, version, &arena, in);
			assert_int_equal(api_encode_response(api, version, 54321, in, &out, &e), 0);
			used = api_decode_response_header(api, version, out.bytes.data + 4, out.bytes.len - 4, &r, &e);
			assert_true(used > 0 && r.correlation_id == 54321);
			assert_int_equal(wire_decode(api->response, version, out.bytes.data + 4 + used, out.bytes.len - 4 - (size_t)used, &arena, got, &e), out.bytes.len - 4 - (size_t)used);
			assert_same_struct(api->response, in, got);
			wire_out_clear(&out);
			arena_reset(&arena);
		}
	}
	wire_out_release(&out);
	arena_release(&arena);
}

/* ---- the arena ---- */

static void test_an_arena_gives_aligned_pieces_up_to_its_limit_and_begins_anew(void **state)
{
	(void)state;
	struct arena a;
	struct err e = ERR_INIT;
	arena_init(&a, 1 << 20);
	for (int round = 0; round < 5; round++) {
		uint8_t *pieces[300];
		size_t sizes[300];
		for (int i = 0; i < 300; i++) {
			sizes[i] = (size_t)(i % 7 == 0 ? wire_random() % 20000 : wire_random() % 100) % 3000;
			pieces[i] = arena_get(&a, sizes[i], &e);
			assert_non_null(pieces[i]);
			assert_int_equal((uintptr_t)pieces[i] % 16, 0);
			memset(pieces[i], i, sizes[i]);
		}
		for (int i = 0; i < 300; i++) {
			for (size_t k = 0; k < sizes[i]; k++)
				assert_int_equal(pieces[i][k], (uint8_t)i);
		}
		arena_reset(&a);
	}
	assert_null(arena_get(&a, (1 << 20) + 1, &e));
	assert_int_equal(e.code, ERR_TOO_LARGE);
	assert_null(arena_get(&a, SIZE_MAX, &e));
	assert_non_null(arena_get(&a, 1 << 20, &e));
	assert_null(arena_get(&a, 1, &e));
	arena_reset(&a);
	assert_non_null(arena_get(&a, 1, &e));
	arena_release(&a);
	assert_non_null(arena_get(&a, 1, &e));
	arena_release(&a);
}

static void test_arenas_share_a_budget_of_large_blocks(void **state)
{
	(void)state;
	struct arena_budget budget = {.left = 1 << 20};
	struct arena a, b;
	struct err e = ERR_INIT;
	arena_init(&a, 0);
	arena_init(&b, 0);
	a.budget = b.budget = &budget;
	assert_non_null(arena_get(&a, 600 << 10, &e));
	assert_null(arena_get(&b, 600 << 10, &e));
	assert_int_equal(e.code, ERR_NO_MEMORY);
	assert_non_null(arena_get(&b, 1000, &e)); /* what is small is there all the same */
	assert_non_null(arena_get(&b, 300 << 10, &e));
	arena_reset(&a);
	assert_non_null(arena_get(&b, 600 << 10, &e));
	assert_null(arena_get(&a, 600 << 10, &e));
	arena_release(&b);
	assert_int_equal(budget.left, 1 << 20);
	assert_ptr_equal(b.budget, &budget);
	for (int i = 0; i < 20; i++) {
		for (int k = 0; k < 10; k++)
			assert_non_null(arena_get(&a, 50 << 10, &e));
		arena_reset(&a);
	}
	arena_release(&a);
	assert_int_equal(budget.left, 1 << 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_tables_hold_together),
		cmocka_unit_test(test_every_message_of_every_version_is_the_same_after_encoding_and_decoding),
		cmocka_unit_test(test_a_message_that_breaks_off_is_corrupt_wherever_it_does),
		cmocka_unit_test(test_absurd_lengths_take_no_memory),
		cmocka_unit_test(test_noise_is_read_without_harm),
		cmocka_unit_test(test_unknown_tagged_fields_are_skipped),
		cmocka_unit_test(test_a_known_tagged_field_has_the_length_of_its_tag),
		cmocka_unit_test(test_null_is_refused_where_the_version_has_no_null),
		cmocka_unit_test(test_what_stands_behind_a_message_is_not_looked_at),
		cmocka_unit_test(test_a_version_that_there_is_not_is_unsupported),
		cmocka_unit_test(test_a_string_that_is_not_utf8_is_mended_in_the_arena),
		cmocka_unit_test(test_decoding_takes_no_more_than_the_arena_may_give),
		cmocka_unit_test(test_encoding_says_what_is_wrong_and_leaves_the_output_as_it_was),
		cmocka_unit_test(test_records_that_are_elsewhere_leave_a_gap),
		cmocka_unit_test(test_many_ranges_keep_their_order),
		cmocka_unit_test(test_types_that_are_rare),
		cmocka_unit_test(test_headers),
		cmocka_unit_test(test_frames_of_every_api_are_read_back),
		cmocka_unit_test(test_an_arena_gives_aligned_pieces_up_to_its_limit_and_begins_anew),
		cmocka_unit_test(test_arenas_share_a_budget_of_large_blocks),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	arena_release(&kept);
	return failed;
}
