/* hostent FUNCTION NAME [SMALL]: gethostbyname and its forms: byname, byname2-4, byname2-6,
 * byname_r, byname2_r-4, byname2_r-6. SMALL is the size of the buffer of the _r forms.
 * Prints "result=N h_errno=N" and "name=N family=F addrs=A,B aliases=C,D". */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static void print_list(const char *title, char **list, int family) {
    printf(" %s=", title);
    for (int i = 0; list && list[i]; i++) {
        char text[INET6_ADDRSTRLEN];
        const char *shown = list[i];
        if (family) shown = inet_ntop(family, list[i], text, sizeof text);
        printf("%s%s", i ? "," : "", shown);
    }
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    const char *function = argv[1], *name = argv[2];
    size_t size = argc > 3 ? strtoul(argv[3], NULL, 10) : 8192;
    char *buffer = malloc(size ? size : 1);
    struct hostent storage, *entry = NULL;
    int error = 0, result = 0;
    int family = strchr(function, '6') ? AF_INET6 : AF_INET;
    if (!strcmp(function, "byname")) entry = gethostbyname(name), error = h_errno;
    else if (!strncmp(function, "byname2-", 8)) entry = gethostbyname2(name, family), error = h_errno;
    else if (!strcmp(function, "byname_r"))
        result = gethostbyname_r(name, &storage, buffer, size, &entry, &error);
    else if (!strncmp(function, "byname2_r-", 10))
        result = gethostbyname2_r(name, family, &storage, buffer, size, &entry, &error);
    else return 2;
    printf("result=%s h_errno=%d\n", result == ERANGE ? "ERANGE" : result ? "error" : "0",
           entry ? 0 : error);
    if (!entry) return 1;
    printf("name=%s family=%d", entry->h_name, entry->h_addrtype == AF_INET6 ? 6 : 4);
    print_list("addrs", entry->h_addr_list, entry->h_addrtype);
    print_list("aliases", entry->h_aliases, 0);
    printf("\n");
    free(buffer);
    return 0;
}
