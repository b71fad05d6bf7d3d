/* lookup NODE|- [SERVICE|-] [option...]: getaddrinfo with any hints, one line a result.
 * Options: flags canonname addrconfig numerichost numericserv passive v4mapped all; inet inet6;
 * stream dgram raw; tcp udp; nohints.
 * Prints "code=NAME errno=N" and, per entry, "family=4 type=1 protocol=6 addr=A port=P canon=C". */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static const char *code_name(int code) {
    switch (code) {
    case 0: return "OK";
    case EAI_BADFLAGS: return "EAI_BADFLAGS";
    case EAI_NONAME: return "EAI_NONAME";
    case EAI_AGAIN: return "EAI_AGAIN";
    case EAI_FAIL: return "EAI_FAIL";
    case EAI_FAMILY: return "EAI_FAMILY";
    case EAI_SOCKTYPE: return "EAI_SOCKTYPE";
    case EAI_SERVICE: return "EAI_SERVICE";
    case EAI_MEMORY: return "EAI_MEMORY";
    case EAI_SYSTEM: return "EAI_SYSTEM";
    case EAI_OVERFLOW: return "EAI_OVERFLOW";
    case -5: return "EAI_NODATA"; /* of glibc, behind _GNU_SOURCE */
    default: return "OTHER";
    }
}

static void apply(const char *option, struct addrinfo *hints, int *no_hints) {
    static const struct { const char *name; int flag; } flags[] = {
        {"canonname", AI_CANONNAME}, {"addrconfig", AI_ADDRCONFIG},
        {"numerichost", AI_NUMERICHOST}, {"numericserv", AI_NUMERICSERV},
        {"passive", AI_PASSIVE}, {"v4mapped", AI_V4MAPPED}, {"all", AI_ALL},
    };
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        if (!strcmp(option, flags[i].name)) {
            hints->ai_flags |= flags[i].flag;
            return;
        }
    if (!strcmp(option, "inet")) hints->ai_family = AF_INET;
    else if (!strcmp(option, "inet6")) hints->ai_family = AF_INET6;
    else if (!strcmp(option, "stream")) hints->ai_socktype = SOCK_STREAM;
    else if (!strcmp(option, "dgram")) hints->ai_socktype = SOCK_DGRAM;
    else if (!strcmp(option, "raw")) hints->ai_socktype = SOCK_RAW;
    else if (!strcmp(option, "tcp")) hints->ai_protocol = IPPROTO_TCP;
    else if (!strcmp(option, "udp")) hints->ai_protocol = IPPROTO_UDP;
    else if (!strcmp(option, "nohints")) *no_hints = 1;
    else {
        fprintf(stderr, "unknown option %s\n", option);
        exit(2);
    }
}

int main(int argc, char **argv) {
    struct addrinfo hints = {0}, *list = NULL;
    int no_hints = 0;
    if (argc < 2) return 2;
    const char *node = strcmp(argv[1], "-") ? argv[1] : NULL;
    const char *service = argc > 2 && strcmp(argv[2], "-") ? argv[2] : NULL;
    for (int i = 3; i < argc; i++) apply(argv[i], &hints, &no_hints);
    errno = 77;
    int code = getaddrinfo(node, service, no_hints ? NULL : &hints, &list);
    int error = errno;
    printf("code=%s errno=%d\n", code_name(code), error);
    if (code) return 1;
    for (struct addrinfo *one = list; one; one = one->ai_next) {
        char text[INET6_ADDRSTRLEN] = "";
        int family = one->ai_family == AF_INET6 ? 6 : 4, port;
        if (family == 6) {
            struct sockaddr_in6 *address = (void *)one->ai_addr;
            inet_ntop(AF_INET6, &address->sin6_addr, text, sizeof text);
            port = ntohs(address->sin6_port);
        } else {
            struct sockaddr_in *address = (void *)one->ai_addr;
            inet_ntop(AF_INET, &address->sin_addr, text, sizeof text);
            port = ntohs(address->sin_port);
        }
        printf("family=%d type=%d protocol=%d addr=%s port=%d canon=%s\n", family,
               one->ai_socktype, one->ai_protocol, text, port,
               one->ai_canonname ? one->ai_canonname : "-");
    }
    freeaddrinfo(list);
    return 0;
}
