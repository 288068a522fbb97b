#include "cluster/wire/utf8.h"

#include <stdint.h>
#include <string.h>

static bool continues(uint8_t c)
{
	return (c & 0xc0) == 0x80;
}

/*
 * The length of the sequence at s (n > 0): positive if it is a character, negative if it is that many malformed bytes, which are one U+FFFD.
 * Java's rules: a byte that begins nothing (C0, C1 and F5 and above too) stands alone; of a sequence that breaks off or could not begin so, what could
 * stand is one; a surrogate in three bytes is one. At the end of the string, what is left of a longer sequence is one, unless its second byte is wrong.
 */
static int sequence(const uint8_t *s, size_t n)
{
	uint8_t c = s[0];
	if (c < 0x80)
		return 1;
	if (c < 0xc2 || c > 0xf4)
		return -1;
	if (c < 0xe0)
		return n > 1 && continues(s[1]) ? 2 : -1;
	if (n < 2)
		return -1;
	if (c < 0xf0) {
		if (!continues(s[1]) || (c == 0xe0 && s[1] < 0xa0))
			return -1;
		if (n < 3 || !continues(s[2]))
			return -2;
		return c == 0xed && s[1] >= 0xa0 ? -3 : 3;
	}
	if (!continues(s[1]) || (c == 0xf0 && s[1] < 0x90) || (c == 0xf4 && s[1] >= 0x90))
		return -1;
	if (n < 3 || !continues(s[2]))
		return -2;
	return n < 4 || !continues(s[3]) ? -3 : 4;
}

bool utf8_valid(const char *text, size_t n)
{
	const uint8_t *s = (const uint8_t *)text, *end = s + n;
	while (s < end) {
		uint64_t word;
		if (end - s >= 8 && (memcpy(&word, s, 8), !(word & 0x8080808080808080))) {
			s += 8;
			continue;
		}
		int len = sequence(s, (size_t)(end - s));
		if (len < 0)
			return false;
		s += len;
	}
	return true;
}

size_t utf8_repair(const char *text, size_t n, char *out)
{
	const uint8_t *s = (const uint8_t *)text, *end = s + n;
	char *o = out;
	while (s < end) {
		int len = sequence(s, (size_t)(end - s));
		if (len < 0) {
			memcpy(o, "\xef\xbf\xbd", 3);
			o += 3;
			s -= len;
		} else {
			memcpy(o, s, (size_t)len);
			o += len;
			s += len;
		}
	}
	return (size_t)(o - out);
}
