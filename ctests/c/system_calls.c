/* system_calls ADDRESS PORT: connect by its number; other system calls come back as libc's syscall() gives them. */
#include "address.h"
#include <sys/mman.h>
#include <sys/syscall.h>

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    struct address to = address_of(argv[1], argv[2]);
    int fd = open_socket(&to, 0);
    errno = 77;
    long answer = syscall(SYS_connect, fd, &to.storage, to.length);
    printf("connect=%s errno=%d\n", answer ? error_name(errno) : "OK", errno);
    if (answer) return 1;
    print_greeting(fd);
    print_peer("peer", fd);
    /* Six arguments, an unknown number, a failing call, and the neighbours of connect. */
    void *page = (void *)syscall(SYS_mmap, NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0L);
    printf("mmap=%d\n", page != MAP_FAILED && ((char *)page)[4095] == 0);
    answer = syscall(99999);
    printf("unknown=%ld error=%s\n", answer, error_name(errno));
    answer = syscall(SYS_connect, fd, NULL, 16);
    printf("null=%ld error=%s\n", answer, error_name(errno));
    printf("sent=%ld\n", syscall(SYS_sendto, fd, "ping\n", 5, MSG_NOSIGNAL, NULL, 0));
    char line[16] = {0};
    long got = syscall(SYS_recvfrom, fd, line, sizeof line - 1, MSG_WAITALL & 0, NULL, NULL);
    printf("got=%ld echo=%s", got, line);
    printf("pid=%d\n", syscall(SYS_getpid) == getpid());
    return 0;
}
