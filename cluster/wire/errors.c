#include "cluster/wire/errors.h"

#include "store/err.h"

struct row {
	const char *name;
	bool retriable;
};

/* By code + 1: UNKNOWN_SERVER_ERROR, the first, is -1. */
static const struct row *row_of(int code)
{
#define X(name_, code_, retriable_) [code_ + 1] = {#name_, retriable_},
	static const struct row rows[] = {KAFKA_ERRORS(X)};
#undef X
	return &rows[code >= -1 && code <= KAFKA_ERROR_LAST ? code + 1 : 0];
}

const char *kafka_error_name(int code)
{
	return row_of(code)->name;
}

bool kafka_error_retriable(int code)
{
	return row_of(code)->retriable;
}

enum kafka_error kafka_error_of(int err_code)
{
	switch ((enum err_code)err_code) {
	case ERR_NONE:
		return KAFKA_NONE;
	/* The disk, or what stands in front of it: another attempt may meet another replica, or space. Kafka says so for every IOException. */
	case ERR_IO:
	case ERR_NO_SPACE:
	case ERR_OFFLINE:
	case ERR_BUSY:
	case ERR_DENIED:
	case ERR_READ_ONLY:
	case ERR_VERSION:
	case ERR_LIMIT:
		return KAFKA_KAFKA_STORAGE_ERROR;
	case ERR_CORRUPT:
		return KAFKA_CORRUPT_MESSAGE;
	case ERR_INVALID:
	case ERR_NOT_EMPTY:
		return KAFKA_INVALID_REQUEST;
	case ERR_TOO_LARGE:
		return KAFKA_MESSAGE_TOO_LARGE;
	case ERR_NOT_FOUND:
	case ERR_DELETED:
		return KAFKA_UNKNOWN_TOPIC_OR_PARTITION;
	case ERR_EXISTS:
		return KAFKA_TOPIC_ALREADY_EXISTS;
	case ERR_OUT_OF_RANGE:
		return KAFKA_OFFSET_OUT_OF_RANGE;
	case ERR_NAME:
		return KAFKA_INVALID_TOPIC_EXCEPTION;
	case ERR_UNSUPPORTED:
		return KAFKA_UNSUPPORTED_VERSION;
	case ERR_TIMED_OUT:
	case ERR_INTERRUPTED:
		return KAFKA_REQUEST_TIMED_OUT;
	/* The client asks for metadata anew and finds out who leads then. */
	case ERR_STOPPING:
	case ERR_NOT_LEADER:
		return KAFKA_NOT_LEADER_OR_FOLLOWER;
	case ERR_NOT_ENOUGH_REPLICAS:
		return KAFKA_NOT_ENOUGH_REPLICAS;
	case ERR_SEQUENCE:
		return KAFKA_OUT_OF_ORDER_SEQUENCE_NUMBER;
	case ERR_PRODUCER_FENCED:
		return KAFKA_INVALID_PRODUCER_EPOCH;
	case ERR_TXN_STATE:
		return KAFKA_INVALID_TXN_STATE;
	case ERR_FENCED_EPOCH:
		return KAFKA_FENCED_LEADER_EPOCH;
	case ERR_UNKNOWN_EPOCH:
		return KAFKA_UNKNOWN_LEADER_EPOCH;
	case ERR_NOT_ENOUGH_AFTER:
		return KAFKA_NOT_ENOUGH_REPLICAS_AFTER_APPEND;
	case ERR_NOT_YET:
		return KAFKA_OFFSET_NOT_AVAILABLE;
	case ERR_NO_MEMORY:
		break;
	}
	return KAFKA_UNKNOWN_SERVER_ERROR;
}
