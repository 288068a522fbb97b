/*
 * layout_echo: a line is a node, "path TAB data"; it prints what that node is when it has been decoded and encoded again, in the same form, or "!" TAB the error.
 * Of "acl TAB path" it prints the ACL, of "name TAB text" the text as the name of a client in a path; with --paths, the persistent paths.
 */
#include <stdio.h>
#include <stdlib.h>

#include "tests/cluster/layout_any.h"

static void echo_name(const char *name)
{
	struct layout_path p;
	struct err e = ERR_INIT;
	enum layout_entity type;
	char back[ZK_PATH_MAX], client[ZK_PATH_MAX];
	if (layout_config_path(&p, LAYOUT_CLIENT, name, NULL, &e) < 0)
		printf("!\t%s\n", e.text);
	else if (!layout_config_entity(p.text + strlen(LAYOUT_CONFIG "/"), &type, back, client) || type != LAYOUT_CLIENT || strcmp(back, name))
		printf("!\tthe way back is another\n");
	else
		printf("name\t%s\n", p.text + strlen("/config/clients/"));
}

static void echo(char *line)
{
	static const char *const acls[] = {[ZK_ACL_OPEN] = "open", [ZK_ACL_READABLE] = "readable", [ZK_ACL_PRIVATE] = "private"};
	char *data = strchr(line, '\t');
	struct err e = ERR_INIT;
	struct wr out;
	if (!data)
		exit(2);
	*data++ = '\0';
	wr_init(&out, 0);
	if (!strcmp(line, "acl"))
		printf("acl\t%s\n", acls[layout_acl(data)]);
	else if (!strcmp(line, "name"))
		echo_name(data);
	else if (any(line, data, strlen(data), &out, &e) < 0)
		printf("!\t%s: %s\n", err_name(e.code), e.text);
	else
		printf("%s\t%.*s\n", line, (int)out.len, (char *)out.data);
	wr_release(&out);
}

int main(int argc, char **argv)
{
	char *line = NULL;
	size_t room = 0;
	ssize_t n;
	if (argc > 1 && !strcmp(argv[1], "--paths"))
		for (const char *const *p = layout_persistent_paths; *p; p++)
			puts(*p);
	else
		while ((n = getline(&line, &room, stdin)) > 0) {
			line[n - 1] = '\0';
			echo(line);
		}
	free(line);
	return 0;
}
