/* full_descriptor_table NAME ADDRESS PORT: with no descriptor left but the socket's, connect works and
 * a lookup answers with a proper code. Prints "lookup=N connect=OK|ERRNO backend=". */
#include "address.h"
#include <fcntl.h>
#include <netdb.h>
#include <sys/resource.h>

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    struct address to = address_of(argv[2], argv[3]);
    struct rlimit limit = {64, 64};
    setrlimit(RLIMIT_NOFILE, &limit);
    int fd = open_socket(&to, 0);
    while (open("/dev/null", O_RDONLY) >= 0) continue;
    struct addrinfo *list = NULL;
    int code = getaddrinfo(argv[1], "80", NULL, &list);
    int error = connect(fd, (void *)&to.storage, to.length) ? errno : 0;
    printf("lookup=%d connect=%s\n", code, error ? error_name(error) : "OK");
    if (!error) print_greeting(fd);
    return error != 0;
}
