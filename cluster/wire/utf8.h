/*
 * utf8: strings from the wire, made valid as Kafka makes them.
 *
 * Kafka's broker refuses no string for its bytes: what is not UTF-8 becomes U+FFFD when the bytes are made into a Java string, and from then on
 * the string is that (a topic's name is refused afterwards, for its characters; a group's is not). We do the same, to the byte, so that
 * two names which are one to Kafka are one to us, and everything behind the wire may rely on valid UTF-8.
 *
 * thread: any.
 */
#ifndef CLUSTER_WIRE_UTF8_H
#define CLUSTER_WIRE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

bool utf8_valid(const char *s, size_t n);

enum { UTF8_REPAIR_GROWTH = 3 }; /* a repaired string has at most so many times the bytes of its source */

/* Writes s with each malformed sequence as one U+FFFD, the sequences divided as Java's decoder divides them. out has room for UTF8_REPAIR_GROWTH * n bytes.
 * Returns the bytes written. */
size_t utf8_repair(const char *s, size_t n, char *out);

#endif
