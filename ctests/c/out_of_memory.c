/* out_of_memory ADDRESS PORT: no memory can be had (RLIMIT_AS at what is in use): connects and lookups pass or succeed,
 * and nothing ends the program. */
#include "address.h"
#include <netdb.h>
#include <sys/mman.h>
#include <sys/resource.h>

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    struct address to = address_of(argv[1], argv[2]);
    setvbuf(stdout, NULL, _IONBF, 0);
    struct rlimit none = {4096, 4096};
    if (setrlimit(RLIMIT_AS, &none)) return 1;
    while (malloc(64)) {}
    if (mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED) return 3;
    for (int i = 0; i < 3; i++) {
        int fd = open_socket(&to, 0);
        int error = connect(fd, (void *)&to.storage, to.length) ? errno : 0;
        printf("connect=%s\n", error ? strerrorname_np(error) : "OK");
        struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_family = AF_INET}, *list = NULL;
        printf("lookup=%d\n", getaddrinfo("greeter", "80", &hints, &list));
        close(fd);
    }
    printf("alive=1\n");
    return 0;
}
