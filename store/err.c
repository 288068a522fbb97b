#include "store/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* The sentence is made aside and copied: an argument may be the old e->text. */
static void set_text(struct err *e, int code, const char *fmt, va_list ap, const char *tail)
{
	char text[sizeof e->text];
	int n = vsnprintf(text, sizeof text, fmt, ap);
	if (n < 0)
		n = snprintf(text, sizeof text, "%s", fmt);
	size_t len = (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;
	size_t more = strlen(tail);
	if (more > sizeof text - 1 - len)
		more = sizeof text - 1 - len;
	memcpy(e->text, text, len);
	memcpy(e->text + len, tail, more);
	e->text[len + more] = '\0';
	e->code = code;
}

int err_set(struct err *e, int code, const char *fmt, ...)
{
	if (e) {
		va_list ap;
		va_start(ap, fmt);
		set_text(e, code, fmt, ap, "");
		va_end(ap);
	}
	return code;
}

int err_sys(struct err *e, int errnum, const char *fmt, ...)
{
	/* The caller is on its error path: even an errno of 0 must not turn that into a success. */
	int code = errnum ? err_from_errno(errnum) : ERR_IO;
	if (e) {
		char tail[100];
		const char *words = strerrordesc_np(errnum < 0 ? -errnum : errnum);
		if (words)
			snprintf(tail, sizeof tail, ": %s", words);
		else
			snprintf(tail, sizeof tail, ": errno %d", errnum < 0 ? -errnum : errnum);
		va_list ap;
		va_start(ap, fmt);
		set_text(e, code, fmt, ap, tail);
		va_end(ap);
	}
	return code;
}

int err_context(struct err *e, const char *fmt, ...)
{
	if (!e)
		return 0;
	char tail[sizeof e->text + 2];
	snprintf(tail, sizeof tail, ": %s", e->text);
	va_list ap;
	va_start(ap, fmt);
	set_text(e, e->code, fmt, ap, tail);
	va_end(ap);
	return e->code;
}

int err_from_errno(int errnum)
{
	switch (errnum < 0 ? -errnum : errnum) {
	case 0:
		return ERR_NONE;
	case ENOSPC:
	case EDQUOT:
		return ERR_NO_SPACE;
	case ENOMEM:
		return ERR_NO_MEMORY;
	case EINVAL:
	case EISDIR:
	case ENOTDIR:
	case ELOOP:
		return ERR_INVALID;
	case EFBIG:
	case EMSGSIZE:
	case E2BIG:
		return ERR_TOO_LARGE;
	case ENOENT:
		return ERR_NOT_FOUND;
	case EEXIST:
		return ERR_EXISTS;
	case EAGAIN:
	case EBUSY:
	case ETXTBSY:
		return ERR_BUSY;
	case EACCES:
	case EPERM:
		return ERR_DENIED;
	case EROFS:
		return ERR_READ_ONLY;
	case ENOTEMPTY:
		return ERR_NOT_EMPTY;
	case ENAMETOOLONG:
		return ERR_NAME;
	case ENOSYS:
	case EOPNOTSUPP:
		return ERR_UNSUPPORTED;
	case ETIMEDOUT:
		return ERR_TIMED_OUT;
	case EINTR:
		return ERR_INTERRUPTED;
	case EMFILE:
	case ENFILE:
		return ERR_LIMIT;
	default:
		return ERR_IO;
	}
}

const char *err_name(int code)
{
	static const char *const names[] = {
		[-ERR_NONE] = "none",
		[-ERR_IO] = "i/o error",
		[-ERR_NO_SPACE] = "no space",
		[-ERR_NO_MEMORY] = "no memory",
		[-ERR_CORRUPT] = "corrupt",
		[-ERR_INVALID] = "invalid",
		[-ERR_TOO_LARGE] = "too large",
		[-ERR_NOT_FOUND] = "not found",
		[-ERR_EXISTS] = "exists",
		[-ERR_OUT_OF_RANGE] = "out of range",
		[-ERR_OFFLINE] = "offline",
		[-ERR_BUSY] = "busy",
		[-ERR_DENIED] = "denied",
		[-ERR_READ_ONLY] = "read-only",
		[-ERR_VERSION] = "newer version",
		[-ERR_NOT_EMPTY] = "not empty",
		[-ERR_NAME] = "bad name",
		[-ERR_UNSUPPORTED] = "unsupported",
		[-ERR_TIMED_OUT] = "timed out",
		[-ERR_INTERRUPTED] = "interrupted",
		[-ERR_STOPPING] = "stopping",
		[-ERR_NOT_LEADER] = "not leader",
		[-ERR_NOT_ENOUGH_REPLICAS] = "not enough replicas",
		[-ERR_DELETED] = "deleted",
		[-ERR_LIMIT] = "limit reached",
		[-ERR_SEQUENCE] = "out of sequence",
		[-ERR_PRODUCER_FENCED] = "fenced",
		[-ERR_TXN_STATE] = "transaction state",
		[-ERR_FENCED_EPOCH] = "fenced epoch",
		[-ERR_UNKNOWN_EPOCH] = "unknown epoch",
		[-ERR_NOT_ENOUGH_AFTER] = "not enough replicas after the append",
		[-ERR_NOT_YET] = "not known yet",
	};
	if (code > 0 || code <= -(int)(sizeof names / sizeof *names) || !names[-code])
		return "unknown";
	return names[-code];
}
