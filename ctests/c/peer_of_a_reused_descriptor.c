/* peer_of_a_reused_descriptor ADDRESS PORT OTHER_PORT: a descriptor closed in ways that no hook sees
 * and opened again leads to another peer. Prints "first=", "closed=" and "dup2=" (both on loopback). */
#include "address.h"
#include <sys/syscall.h>

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    struct address to = address_of(argv[1], argv[2]), other = address_of("127.0.0.1", argv[3]);
    int fd = connected(&to);
    print_peer("first", fd);
    syscall(SYS_close, fd);
    if (connected(&other) != fd) return 1;
    print_peer("closed", fd);
    int mesh = connected(&to), plain = connected(&other);
    if (dup2(plain, mesh) != mesh) return 1;
    print_peer("dup2", mesh);
    return 0;
}
