#include "cluster/topic_file.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/buf.h"
#include "store/io.h"

static const char opening[] = "# Kept by spoolfs and closed by its checksum. To edit it by hand, take out this line and the last.\n";

enum { MAX_FILE_BYTES = 1 << 20, CLOSING = sizeof "# crc32c 00000000\n" - 1 };

static const char *what_is_wrong(const char *text, size_t n)
{
	char closing[CLOSING + 1];
	if (strlen(text) != n)
		return "it is not a text file";
	if (n == 0)
		return "it is empty";
	if (strncmp(text, opening, n < sizeof opening - 1 ? n : sizeof opening - 1) != 0 && !strstr(text, "# crc32c "))
		return NULL;
	if (n < CLOSING)
		return "it is cut short";
	snprintf(closing, sizeof closing, "# crc32c %08" PRIx32 "\n", crc32c(0, text, n - CLOSING));
	if (strcmp(text + n - CLOSING, closing) != 0)
		return "it does not match its checksum (whoever edits it by hand takes out its first line and its last)";
	return NULL;
}

int topic_file_load(const char *path, struct conf *c, struct err *e)
{
	char *text;
	size_t n;
	struct err why = ERR_INIT;
	int sys = io_read_file(path, MAX_FILE_BYTES, &text, &n);
	if (sys == -ENOENT)
		return err_set(e, ERR_NOT_FOUND, "%s is missing", path);
	if (sys < 0)
		return err_set(e, sys == -ENOMEM ? ERR_NO_MEMORY : ERR_CORRUPT, "%s cannot be read: %s", path, strerror(-sys));
	const char *wrong = what_is_wrong(text, n);
	int rc = wrong ? err_set(e, ERR_CORRUPT, "%s: %s", path, wrong) : 0;
	if (rc == 0 && (rc = conf_load_text(c, text, path, &why)) < 0)
		rc = err_set(e, rc == ERR_NO_MEMORY ? rc : ERR_CORRUPT, "%s", why.text);
	free(text);
	return rc;
}

int topic_file_save(const char *path, const struct conf *c, struct err *e)
{
	struct wr text;
	wr_init(&text, 0);
	wr_printf(&text, "%s", opening);
	conf_print_set(c, &text, true);
	wr_printf(&text, "# crc32c %08" PRIx32 "\n", crc32c(0, text.data, text.len));
	int sys = text.failed ? -ENOMEM : io_replace_file(path, text.data, text.len, true);
	wr_release(&text);
	return sys < 0 ? err_sys(e, sys, "cannot write %s", path) : 0;
}
