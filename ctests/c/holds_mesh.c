/* holds_mesh NAME PORT: looks up and connects once, says "ready", then for each line on standard input
 * connects again and prints "backend=" or "connect=ERRNO"; idle between. Ends with standard input. */
#include "address.h"
#include <netdb.h>

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_family = AF_INET}, *list = NULL;
    int code = getaddrinfo(argv[1], argv[2], &hints, &list);
    if (code) {
        printf("lookup=%s\n", gai_strerror(code));
        return 1;
    }
    char line[16];
    const char *said = "ready";
    do {
        int fd = socket(list->ai_family, SOCK_STREAM, 0);
        if (connect(fd, list->ai_addr, list->ai_addrlen)) printf("connect=%s\n", error_name(errno));
        else print_greeting(fd);
        close(fd);
        if (said) puts(said), said = NULL;
    } while (fgets(line, sizeof line, stdin));
    freeaddrinfo(list);
    return 0;
}
