/* dials_v6_only ADDRESS PORT: connects an IPv6 socket that its program shut to IPv4. Prints "connect=ERRNO|OK". */
#include "address.h"

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    struct address to = address_of(argv[1], argv[2]);
    int fd = open_socket(&to, 0), only = 1;
    if (setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only)) return 1;
    int error = connect(fd, (void *)&to.storage, to.length) ? errno : 0;
    printf("connect=%s\n", error ? error_name(error) : "OK");
    return error != 0;
}
