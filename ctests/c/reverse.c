/* reverse FUNCTION ADDRESS [PORT] [FLAG...]: getnameinfo ("nameinfo") and gethostbyaddr ("byaddr",
 * "byaddr_r"); "both" with a NAME for the port: whether gethostbyname and the others share a result. Flags: numerichost numericserv namereqd nofqdn. Prints "code=N name=H service=S". */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    int port = argc > 3 ? atoi(argv[3]) : 0, flags = 0;
    for (int i = 4; i < argc; i++) {
        if (!strcmp(argv[i], "numerichost")) flags |= NI_NUMERICHOST;
        else if (!strcmp(argv[i], "numericserv")) flags |= NI_NUMERICSERV;
        else if (!strcmp(argv[i], "namereqd")) flags |= NI_NAMEREQD;
        else if (!strcmp(argv[i], "nofqdn")) flags |= NI_NOFQDN;
        else return 2;
    }
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    int is_v4 = inet_pton(AF_INET, argv[2], &v4.sin_addr) == 1;
    if (!is_v4 && inet_pton(AF_INET6, argv[2], &v6.sin6_addr) != 1) return 2;
    if (!strcmp(argv[1], "nameinfo")) {
        char host[NI_MAXHOST] = "", service[NI_MAXSERV] = "";
        int code = getnameinfo(is_v4 ? (void *)&v4 : (void *)&v6, is_v4 ? sizeof v4 : sizeof v6,
                               host, sizeof host, service, sizeof service, flags);
        printf("code=%d name=%s service=%s\n", code, host, service);
        return code != 0;
    }
    const void *raw = is_v4 ? (void *)&v4.sin_addr : (void *)&v6.sin6_addr;
    socklen_t length = is_v4 ? 4 : 16;
    int family = is_v4 ? AF_INET : AF_INET6, error = 0;
    if (!strcmp(argv[1], "both")) {
        struct hostent *by_name = gethostbyname(argv[3]), *by_name2 = gethostbyname2(argv[3], family);
        struct hostent *by_address = gethostbyaddr(raw, length, family);
        if (!by_name || !by_name2 || !by_address) return 1;
        printf("one=%d\n", by_name == by_address || by_name == by_name2 || by_name2 == by_address);
        return 0;
    }
    struct hostent storage, *entry = NULL;
    char buffer[8192];
    if (!strcmp(argv[1], "byaddr")) entry = gethostbyaddr(raw, length, family), error = h_errno;
    else gethostbyaddr_r(raw, length, family, &storage, buffer, sizeof buffer, &entry, &error);
    printf("code=%d name=%s service=\n", entry ? 0 : error, entry ? entry->h_name : "");
    return entry == NULL;
}
