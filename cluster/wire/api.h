/*
 * api: the requests that there are, with their versions, and what stands around a message: headers and the length of a frame.
 *
 * The table holds what a broker of Apache Kafka 4.1 offers to clients. Versions that Kafka holds back as unstable (InitProducerId 6, OffsetCommit and OffsetFetch 10)
 * are in the messages' own tables but not offered. Produce is answered from version 3 but advertised from 0: older librdkafka, told of a range that
 * begins at 3, takes the broker for one that knows no compression.
 *
 * Beside it the requests between brokers, as Kafka 3.9 has them, of which only the highest version is spoken. ApiVersions never shows them, to anybody: there is one kind of listener, and who
 * needs them knows that the other side is a spoolfs of the same cluster. A broker takes them from brokers alone, by controller and broker epoch. Whether an API for clients is shown is the
 * server's to say: it shows what it has a handler for (cluster/api/versions.c). So a row here may come before its handler.
 *
 * thread: any.
 */
#ifndef CLUSTER_WIRE_API_H
#define CLUSTER_WIRE_API_H

#include "cluster/wire/messages.h"

enum api_key {
	API_PRODUCE = 0, API_FETCH = 1, API_LIST_OFFSETS = 2, API_METADATA = 3, API_LEADER_AND_ISR = 4, API_STOP_REPLICA = 5, API_UPDATE_METADATA = 6,
	API_CONTROLLED_SHUTDOWN = 7, API_OFFSET_COMMIT = 8, API_OFFSET_FETCH = 9, API_FIND_COORDINATOR = 10,
	API_JOIN_GROUP = 11, API_HEARTBEAT = 12, API_LEAVE_GROUP = 13, API_SYNC_GROUP = 14, API_DESCRIBE_GROUPS = 15, API_LIST_GROUPS = 16, API_VERSIONS = 18,
	API_CREATE_TOPICS = 19, API_DELETE_TOPICS = 20, API_DELETE_RECORDS = 21, API_INIT_PRODUCER_ID = 22, API_OFFSET_FOR_LEADER_EPOCH = 23,
	API_DESCRIBE_CONFIGS = 32, API_ALTER_CONFIGS = 33, API_DESCRIBE_LOG_DIRS = 35, API_CREATE_PARTITIONS = 37, API_DELETE_GROUPS = 42,
	API_ELECT_LEADERS = 43, API_INCREMENTAL_ALTER_CONFIGS = 44, API_ALTER_PARTITION_REASSIGNMENTS = 45, API_LIST_PARTITION_REASSIGNMENTS = 46, API_OFFSET_DELETE = 47,
	API_ALTER_PARTITION = 56, API_DESCRIBE_CLUSTER = 60, API_DESCRIBE_PRODUCERS = 61, API_DESCRIBE_TOPIC_PARTITIONS = 75,
	API_KEYS,
	API_OWN = 10000, /* from here on: ours, which Kafka does not have */
	API_VIEW_LOOKUP = API_OWN,
	API_REPLICA_SUMS,
	API_OWN_END
};

struct api {
	int16_t key;
	const char *name;        /* Kafka's: "ListOffsets" */
	int16_t min, max;        /* the versions that are answered */
	int16_t advertised_min;
	bool between_brokers;    /* never advertised */
	const struct wire_struct *request, *response; /* request->flexible is the first flexible version of both */
};

extern const struct api api_table[API_KEYS]; /* by key; name is NULL where there is none; without our own */

const struct api *api_find(int key); /* NULL: there is no such */

static inline bool api_has(const struct api *api, int version) { return version >= api->min && version <= api->max; }

/* Which header a request or response of this version has. A response of ApiVersions always has version 0: whoever asks does not know yet what we speak. */
static inline int api_request_header(const struct api *api, int version) { return version >= api->request->flexible ? 2 : 1; }
static inline int api_response_header(const struct api *api, int version) { return api->key == API_VERSIONS ? 0 : version >= api->response->flexible; }

/*
 * A request's frame is n bytes (without the 4 bytes of its length). Reads the header; returns the bytes it took, the request's own follow. The version is not judged:
 * the caller compares it with *api (Kafka closes the connection, but to ApiVersions of any version there is an answer). ERR_UNSUPPORTED: an API that is
 * not in the table; ERR_CORRUPT. A client id that is null is "". arena: only for a client id that is not UTF-8.
 */
ssize_t api_decode_request_header(const void *frame, size_t n, struct arena *arena, struct request_header *h, const struct api **api, struct err *e);

/* The same of a response to a request of this version. */
ssize_t api_decode_response_header(const struct api *api, int version, const void *frame, size_t n, struct response_header *h, struct err *e);

/* Appends a whole frame: length, header, message. out's inserts count in the length. Errors of wire_encode; on failure out is as it was. */
int api_encode_request(const struct api *api, int version, int32_t correlation_id, struct wire_string client_id, const void *request, struct wire_out *out, struct err *e);
int api_encode_response(const struct api *api, int version, int32_t correlation_id, const void *response, struct wire_out *out, struct err *e);

/* A message behind 2 bytes with its version, as in the records of __consumer_offsets. */
ssize_t wire_decode_versioned(const struct wire_struct *desc, const void *bytes, size_t n, struct arena *arena, void *message, int *version, struct err *e);
int wire_encode_versioned(const struct wire_struct *desc, int version, const void *message, struct wire_out *out, struct err *e);

#endif
